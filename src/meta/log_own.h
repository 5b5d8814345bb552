/* SPDX-License-Identifier: Apache-2.0 */
/* log_own.h: the inside of a log, for log.c (writing) and log_open.c (reading). */
#ifndef META_LOG_OWN_H
#define META_LOG_OWN_H
#include "base/list.h"
#include "meta/log.h"
#include "meta/record.h"

enum {
	LOG_PATH_MAX = 512,
	LOG_SEGMENTS_MAX = 4096,
	LOG_UNSYNCED_MAX = 8,
	LOG_SHARD = 0,
	LOG_ZEROS_BYTES = 1 << 20,
	LOG_RAW_PARTS = 16, /* so much of a raw segment is used before one is made ready */
};
#define LOG_MARK_SYNC_NS SYS_SEC /* the mark is synced itself this often */

/* A segment: records (first_lsn is its BEGIN's) that follow index begin_index. */
struct segment {
	uint64_t first_lsn, begin_index, bytes;
	uint64_t begin_chain; /* opening: through the record at begin_index, as last read */
};

struct log {
	struct sys *sys;
	char dir[LOG_PATH_MAX];
	uint64_t segment_bytes, uuid_hi, uuid_lo;
	struct log_place place; /* of the last record appended */
	struct segment segments[LOG_SEGMENTS_MAX]; /* oldest first; the last is written to */
	uint32_t n_segments;
	struct sys_file *file; /* of the last segment */
	uint64_t at;           /* its end */
	uint64_t guard;        /* nothing before it is written any more: it was synced */
	uint64_t epoch;        /* of this start */
	struct sys_file *next; /* prepared: "next.log" */
	struct sys_file *unsynced[LOG_UNSYNCED_MAX]; /* left behind full, not synced yet */
	uint32_t n_unsynced;
	struct sys_file *mark;
	uint64_t mark_seq, mark_synced_ns, durable_lsn, durable_chain;
	uint64_t marked_lsn; /* the mark names it: below it a bad record is never taken for torn */
	bool mark_half; /* which two copies are being written */
	bool dead, appending, syncing, tight, turn;
	bool torn;      /* as it was opened: log_torn() */
	bool raw; /* the last segment was not written before: syncs write more, it is left early */
	bool rolling; /* "next.log" may be getting its name: nobody makes another meanwhile */
};

static inline uint64_t block_up(uint64_t at)
{
	return (at + SYS_BLOCK - 1) & ~(uint64_t)(SYS_BLOCK - 1);
}
void segment_path(const struct log *l, uint64_t first_lsn, char ret_path[LOG_PATH_MAX * 2]);
/* The whole file in memory that the caller frees (NULL when it is empty). */
PARKS int segment_read(struct sys *s, const char *path, uint8_t **ret_p, size_t *ret_len,
	struct err_note *note);
/* The highest durable lsn that whole headers of this log speak of, from an offset on. */
uint64_t segment_durable(
	const uint8_t *p, size_t len, size_t at, uint64_t uuid_hi, uint64_t uuid_lo);
/* What segment i holds behind this index was taken back by a later one. */
uint64_t segment_kept(const struct log *l, uint32_t i);
/* Makes the last segment one that follows l->place, with its BEGIN written. */
PARKS int segment_begin(struct log *l, struct err_note *note);
enum { BEGIN_BYTES = 8 }; /* its payload */
PARKS int mark_create(struct log *l, struct err_note *note);

enum { MARK_SLOTS = 4, MARK_BYTES = 64, MARK_SLOT_BYTES = 4096 };
struct mark {
	uint64_t uuid_hi, uuid_lo, seq, lsn, chain;
};
void mark_put(const struct mark *m, uint8_t to[MARK_BYTES]);
bool mark_get(const uint8_t from[MARK_BYTES], struct mark *ret_m);
#endif
