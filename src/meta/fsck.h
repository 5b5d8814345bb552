/* SPDX-License-Identifier: Apache-2.0 */
/* fsck.h: looks at the files of a shard that nobody serves: log, mark, merged rows, older copies,
 * and the tables against one another; and makes a new shard from what can be read.  Nothing is
 * changed in place, nothing is printed. */
#ifndef META_FSCK_H
#define META_FSCK_H
#include "sys/sys.h"

enum { FSCK_WHERE_MAX = 640, FSCK_LOST_MAX = 256, FSCK_NAME_MAX = 1600 };
/* One damage, in sentences for whoever runs the cluster. */
struct fsck_finding {
	const char *what;           /* "log", "mark", "tree", "older copy", "tables" */
	char where[FSCK_WHERE_MAX]; /* file and byte */
	char lost[FSCK_LOST_MAX];
	const char *todo;
};
struct fsck_opts {
	const char *dir;
	void (*found)(void *arg, const struct fsck_finding *f);
	void (*progress)(void *arg, uint64_t bytes); /* so many more were read */
	void *arg;
};
struct fsck_sum {
	uint64_t segments, records, log_bytes, rows;
	uint64_t index,
		last_index; /* the rows are those of index; records up to last_index exist */
	uint64_t buckets, files, used_bytes;
	unsigned n_copies, n_found;
	bool salvage;    /* something is damaged that a salvage makes good, or leaves out */
	bool rows_known; /* there is something to begin with */
};
struct fsck;
/* Reads it all, and tells of each damage.  The shard is locked until fsck_free().  E_INUSE; the
 * note names who has it.  E_NOTFOUND: there is no shard in dir. */
PARKS int fsck_new(
	struct sys *s, const struct fsck_opts *o, struct fsck **ret_f, struct err_note *note);
void fsck_free(struct fsck *f); /* NULL is fine */
void fsck_sum(const struct fsck *f, struct fsck_sum *ret_sum);

/* An extent that a storage server ought to hold. */
struct fsck_extent {
	uint64_t egroup, extent, len;
	uint32_t root;
	uint8_t tier, device;
};
void fsck_each_extent(struct fsck *f, const uint64_t uuid[2],
	void (*each)(void *arg, const struct fsck_extent *x), void *arg);
/* Whose bytes an extent holds: "BUCKET/KEY".  False: nobody's. */
bool fsck_whose(struct fsck *f, uint64_t extent, char ret_name[FSCK_NAME_MAX]);

/* Makes a shard in `to`, which is not there yet, of the rows that sum.index speaks of.  Ids that
 * may have been given behind it are not given again.  lost: each name that a record changed which
 * can be read but stands behind the gap; at most FSCK_LOST_NAMES_MAX, *ret_more is how many more
 * there are.  Afterwards f knows no shard any more. */
enum { FSCK_LOST_NAMES_MAX = 200 };
PARKS int fsck_salvage(struct fsck *f, const char *to,
	void (*lost)(void *arg, const char *name, bool deleted), void *arg, uint64_t *ret_more,
	struct err_note *note);
#endif
