/* SPDX-License-Identifier: Apache-2.0 */
/* log_look.h: reads a log from end to end, whatever is damaged in it, and changes nothing: for
 * tools.  Nobody else may have it open. */
#ifndef META_LOG_LOOK_H
#define META_LOG_LOOK_H
#include "meta/log.h"
#include "meta/record.h"

enum { LOOK_PATH_MAX = 1024 };
enum log_damage_kind {
	LOG_RECORDS,   /* lost: records first.lsn to last.lsn, which were synced */
	LOG_MARK,      /* no copy of the mark is valid: the log does not open */
	LOG_MARK_COPY, /* one is not: the others hold */
	LOG_END,       /* the log ends before what its mark names */
	LOG_BEGINS,    /* it begins behind index_to, and the rows end before index */
	LOG_LOST,      /* there is a mark, and not one segment */
};
struct log_damage {
	enum log_damage_kind kind;
	char path[LOOK_PATH_MAX];
	uint64_t at, bytes; /* in the file; bytes 0: to its end */
	uint64_t lsn, lsn_to;
	/* Indexes that are missing; index_to 0: how many is not known. */
	uint64_t index, index_to;
};
struct log_look_opts {
	const char *dir;
	/* Each whole record in order, with where it stands.  joined: it follows the one before it
	 * by its chains.  Borrowed until it returns; a negative code ends the look. */
	PARKS int (*record)(void *arg, const struct record *r, struct bytes payload, bool joined);
	void (*damage)(void *arg, const struct log_damage *d);
	void (*progress)(void *arg, uint64_t bytes); /* so many more were read; may be NULL */
	void *arg;
};
struct log_look {
	uint64_t uuid_hi, uuid_lo;
	uint64_t mark_lsn; /* synced up to it, as the mark says */
	uint64_t records, bytes;
	uint64_t last_lsn, last_index;
	uint32_t segments;
	bool torn; /* the end was being written: nobody was told of it */
};
/* E_NOTFOUND: there is no log. */
PARKS int log_look(struct sys *s, const struct log_look_opts *o, struct log_look *ret_look,
	struct err_note *note);
#endif
