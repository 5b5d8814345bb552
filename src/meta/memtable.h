/* SPDX-License-Identifier: Apache-2.0 */
/* memtable.h: fresh rows in memory: points by hash, walks in key order, deletes as tombstones.
 *
 * Order costs nothing on insertion: rows are noted in the order they come, and a walk sorts what
 * came since the last one into a new run, merging runs of like size, so each row is moved O(log n)
 * times.
 *
 * A range delete marks the rows it covers and is remembered for what lies below this memtable; a
 * row put later is newer than every range here.  So nothing needs a sequence number.
 *
 * All memory is in chunks large enough that freeing them gives them back to the system. */
#ifndef META_MEMTABLE_H
#define META_MEMTABLE_H
#include "base/bytes.h"
#include <stdbool.h>

struct memtable;

struct memtable *memtable_new(uint64_t bytes_max, uint64_t seed); /* NULL without memory */
void memtable_free(struct memtable *m);                           /* NULL is fine */

void memtable_put(struct memtable *m, struct bytes key, struct bytes value);
void memtable_delete(struct memtable *m, struct bytes key); /* leaves a tombstone */
void memtable_delete_range(struct memtable *m, struct bytes from, struct bytes to);

enum memtable_found { MEMTABLE_ABSENT, MEMTABLE_VALUE, MEMTABLE_DELETED };
/* The value is borrowed until the next change.  DELETED: look no further below. */
enum memtable_found memtable_get(
	const struct memtable *m, struct bytes key, struct bytes *ret_value);

uint64_t memtable_bytes(const struct memtable *m); /* taken from the system for rows */
uint64_t memtable_rows(const struct memtable *m);  /* with tombstones */
bool memtable_full(const struct memtable *m);      /* reached bytes_max */
bool memtable_empty(const struct memtable *m);     /* no row, no range */

/* Freezing: no change is allowed any more; the loop goes on reading while a worker walks. */
void memtable_freeze(struct memtable *m);      /* on the loop */
void memtable_sort_frozen(struct memtable *m); /* on any thread, once, before the frozen walk */

/* A walk in key order over from <= key < to, tombstones included.  Not across a change. */
enum { MEMTABLE_RUNS_MAX = 48 };
struct memtable_row;
struct memtable_walk {
	struct memtable_row **at[MEMTABLE_RUNS_MAX], **end[MEMTABLE_RUNS_MAX];
	unsigned n_runs;
	struct bytes to;
};
struct memtable_item {
	struct bytes key, value;
	bool deleted;
};
void memtable_walk_begin(
	struct memtable_walk *w, struct memtable *m, struct bytes from, struct bytes to);
void memtable_walk_frozen(struct memtable_walk *w, struct memtable *m); /* all rows; any thread */
bool memtable_walk_next(struct memtable_walk *w, struct memtable_item *ret_item);

/* The ranges, ascending, neither touching nor overlapping. */
struct memtable_range {
	struct bytes from, to;
};
size_t memtable_ranges(const struct memtable *m, const struct memtable_range **ret_ranges);
/* The range that covers key, or NULL. */
const struct memtable_range *memtable_covered(const struct memtable *m, struct bytes key);
#endif
