/* SPDX-License-Identifier: Apache-2.0 */
/* memtable.h: fresh rows in memory, on their way from the log to the tree.
 *
 * A map of byte strings that also knows what it has deleted: a tombstone for a key, a range for
 * many. Points are found by hash; an order is made only when somebody walks, and only of the table
 * (first byte of the key) that is walked: a put pays nothing for it.
 *
 * One thread at a time, except that a *frozen* memtable may be read by memtable_sort() and
 * memtable_row() on another thread while its loop reads it too.  Running out of memory stops the
 * process: the caller bounds memtable_bytes(). */
#ifndef META_MEMTABLE_H
#define META_MEMTABLE_H
#include "base/bytes.h"

enum {
	MEMTABLE_KEY_BYTES_MAX = 2048,
	MEMTABLE_VALUE_BYTES_MAX = 256 << 10,
	MEMTABLE_CHUNK_BYTES = 2 << 20, /* huge pages: rows are met in random order */
	MEMTABLE_RANGES_MAX = 4096, /* beyond it the owner should freeze: range deletes grow slow */
};

/* Chunks that memtables of one owner hand to each other instead of to the system. */
struct memtable_pool {
	void *free;
	uint32_t n_free, n_low; /* n_low: the least n_free since the last trim */
};
void memtable_pool_init(struct memtable_pool *p);
void memtable_pool_trim(
	struct memtable_pool *p); /* gives back what was not needed since last time */
void memtable_pool_fini(struct memtable_pool *p); /* no memtable of it may be left */

struct memtable;
struct memtable *memtable_new(struct memtable_pool *held_pool, uint64_t seed);
void memtable_free(struct memtable *m); /* NULL is fine */
uint64_t memtable_bytes(const struct memtable *m);
uint64_t memtable_rows(const struct memtable *m); /* rows and tombstones */
bool memtable_empty(const struct memtable *m);    /* neither rows nor ranges */

/* hash is memtable_hash(seed of the owner, key). */
uint64_t memtable_hash(uint64_t seed, struct bytes key);
enum memtable_found { MEMTABLE_ABSENT, MEMTABLE_LIVE, MEMTABLE_DELETED };
/* LIVE sets *ret_value, borrowed until the next write.  ABSENT: ask what lies below. */
enum memtable_found memtable_get(
	const struct memtable *m, uint64_t hash, struct bytes key, struct bytes *ret_value);
/* key and value are copied; they may lie in this memtable.  fresh: nothing lies below under this
 * key, so deleting it again leaves nothing behind. */
void memtable_put(
	struct memtable *m, uint64_t hash, struct bytes key, struct bytes value, bool fresh);
void memtable_delete(struct memtable *m, uint64_t hash, struct bytes key);
/* from <= key < to; an empty to is the end of all keys. */
void memtable_delete_range(struct memtable *m, struct bytes from, struct bytes to);
/* A range hides what lies below under key, and all up to *ret_to (empty: to the end of all keys).
 */
bool memtable_hides(const struct memtable *m, struct bytes key, struct bytes *ret_to);

/* From now on only reads. */
void memtable_freeze(struct memtable *m);

struct memtable_row {
	struct bytes key, value;
	bool deleted; /* a tombstone, or hidden by a later range delete */
};
/* Ascending walk from the first key >= from; not across a write. */
struct memtable_walk {
	struct memtable *m;
	uint64_t writes;
	unsigned table;
	uint32_t block, at;
};
void memtable_walk_begin(struct memtable_walk *w, struct memtable *m, struct bytes from);
bool memtable_walk_next(struct memtable_walk *w, struct memtable_row *ret_row);

/* All rows of a frozen memtable in the order of their keys; for memtable_row().  The caller gives
 * the list back. */
struct memtable_sorted {
	uint32_t *refs;
	size_t n, bytes;
};
struct memtable_sorted memtable_sort(const struct memtable *m);
void memtable_sorted_free(struct memtable_sorted *s);
void memtable_row(const struct memtable *m, uint32_t ref, struct memtable_row *ret_row);
/* Disjoint, ascending; they come before the rows. */
size_t memtable_ranges(const struct memtable *m);
void memtable_range(
	const struct memtable *m, size_t range_i, struct bytes *ret_from, struct bytes *ret_to);

/* Walks everything and holds it against itself; for tests and audits. */
void memtable_audit(struct memtable *m);
#endif
