/* SPDX-License-Identifier: Apache-2.0 */
/* memtable_own.h: what memtable.c, order.c and range.c share.
 *
 * (M1) The hash table names each key once: by its row, never by a dead one.
 * (M2) A row's bytes up to its units are its own until the memtable is freed; a dead row's are
 * taken again only when no order names it. (M3) An order names every row of its table that lies
 * before the mark, dead ones perhaps too. (M4) A row is hidden when a range covers its key whose
 * seq is above the row's. */
#ifndef META_MEMTABLE_OWN_H
#define META_MEMTABLE_OWN_H
#include "base/check.h"
#include "meta/memtable.h"

enum {
	UNIT = 8,
	CHUNK_UNITS = MEMTABLE_CHUNK_BYTES / UNIT,
	CHUNK_SHIFT = 18,
	CHUNKS_MAX = 1 << (32 - CHUNK_SHIFT),
	FREE_UNITS_MAX = 64, /* longer dead rows are not taken again */
	TABLES = 256,
	BLOCK_ROWS = 256,
};
_Static_assert(1 << CHUNK_SHIFT == CHUNK_UNITS, "a ref is a chunk and a unit in it");

enum row_flags {
	ROW_TOMB = 1,    /* a tombstone */
	ROW_FRESH = 2,   /* nothing below */
	ROW_DEAD = 4,    /* not in the hash table */
	ROW_ORDERED = 8, /* an order names it */
};
struct row {
	uint32_t seq; /* ranges seen when it was written; of a dead row: the next one of its length
		       */
	uint16_t units;
	uint16_t key_len : 12;
	uint16_t flags : 4;
	uint32_t value_len;
	uint8_t bytes[]; /* key, value */
};
_Static_assert(sizeof(struct row) == 12, "twelve bytes of a row are not its key or value");
_Static_assert(MEMTABLE_KEY_BYTES_MAX < 1 << 12, "key_len has 12 bits");
_Static_assert(sizeof(struct row) + MEMTABLE_KEY_BYTES_MAX + MEMTABLE_VALUE_BYTES_MAX <
		       MEMTABLE_CHUNK_BYTES / 2,
	"a row fits a chunk, and its units 16 bits");

struct slot {
	uint32_t hash, ref;
}; /* ref 0: empty */

struct block {
	uint32_t n, refs[BLOCK_ROWS];
};
struct order {
	uint32_t *fresh; /* not yet in a block */
	uint32_t n_fresh, cap_fresh;
	struct block **blocks; /* none is empty */
	uint32_t n_blocks, cap_blocks;
	uint32_t n_rows; /* in blocks */
	uint32_t n_dead; /* of all that it names, at least; too many: it is made anew */
};
struct range {
	const uint8_t *from, *to;  /* in chunks */
	uint16_t from_len, to_len; /* to_len 0: no end */
	uint32_t seq;
};
struct memtable {
	struct slot *slots;
	uint32_t shift; /* 32 - log2(slots) */
	uint32_t n_rows, n_rows_max;
	uint8_t **chunks;
	uint32_t *chunk_used; /* units; the last chunk's is chunk_at */
	uint32_t n_chunks, cap_chunks;
	uint32_t chunk_at;
	uint32_t seq;
	uint32_t free[FREE_UNITS_MAX + 1]; /* by units: dead rows to take again */
	uint32_t mark_chunk, mark_at;      /* rows before it are in orders */
	struct order *orders[TABLES];
	struct range *ranges;
	uint32_t n_ranges, cap_ranges;
	uint64_t writes;
	struct memtable_pool *pool;
	uint64_t seed;
	bool frozen;
};

static inline struct row *row_at(const struct memtable *m, uint32_t ref)
{
	return (struct row *)(void *)(m->chunks[ref >> CHUNK_SHIFT] +
				      (size_t)(ref & (CHUNK_UNITS - 1)) * UNIT);
}

static inline struct bytes row_key(const struct row *r)
{
	return bytes_of(r->bytes, r->key_len);
}

static inline struct bytes row_value(const struct row *r)
{
	return bytes_of(r->bytes + r->key_len, r->value_len);
}

void *xgrow(void *p, size_t n, uint32_t *cap, size_t each); /* room for n; dies without memory */

/* order.c */
void order_sort(const struct memtable *m, uint32_t *refs, size_t n); /* of one table */
/* Calls each row after (chunk, at), dead ones too. */
struct row_scan {
	uint32_t chunk, at;
};
uint32_t row_scan_next(const struct memtable *m, struct row_scan *s); /* 0 at the end */
void order_free(struct order *o);

/* range.c */
uint32_t range_seq(const struct memtable *m, struct bytes key); /* 0: not covered */
void range_add(struct memtable *m, struct bytes from, struct bytes to, uint32_t seq);
static inline bool row_hidden(const struct memtable *m, const struct row *r)
{
	return m->n_ranges > 0 && range_seq(m, row_key(r)) > r->seq;
}
#endif
