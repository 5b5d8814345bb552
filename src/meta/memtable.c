/* SPDX-License-Identifier: Apache-2.0 */
/* Rows and the hash table that finds them.  Rows are laid one behind the other into chunks.  The
 * table is open, probed linearly, and indexed by the highest bits of the hash, so that doubling it
 * moves slots in ascending order: no cache line is visited twice. */
#include "base/hash.h"
#include "base/pages.h"
#include "meta/memtable_own.h"
#include <stdlib.h>

enum { SLOTS_MIN_SHIFT = 32 - 9, LOAD_EIGHTHS = 6 };

void memtable_pool_init(struct memtable_pool *p)
{
	*p = (struct memtable_pool){ 0 };
}

static void *pool_take(struct memtable_pool *p)
{
	void *chunk = p->free;

	if (chunk == NULL) {
		chunk = pages_new(MEMTABLE_CHUNK_BYTES);
		check(chunk != NULL);
		return chunk;
	}
	memcpy(&p->free, chunk, sizeof p->free);
	p->n_free--;
	if (p->n_free < p->n_low)
		p->n_low = p->n_free;
	return chunk;
}

static void pool_give(struct memtable_pool *p, void *chunk)
{
	memcpy(chunk, &p->free, sizeof p->free);
	p->free = chunk;
	p->n_free++;
}

void memtable_pool_trim(struct memtable_pool *p)
{
	check(p->n_low <= p->n_free);
	for (uint32_t n = p->n_low; n > 0; n--)
		pages_free(pool_take(p), MEMTABLE_CHUNK_BYTES);
	p->n_low = p->n_free;
}

void memtable_pool_fini(struct memtable_pool *p)
{
	p->n_low = p->n_free;
	memtable_pool_trim(p);
	check(p->free == NULL);
}

void *xgrow(void *p, size_t n, uint32_t *cap, size_t each)
{
	uint32_t to = *cap;

	if (n <= to)
		return p;
	while (to < n) {
		check(to < 1u << 31);
		to = to == 0 ? 8 : to * 2;
	}
	p = realloc(p, to * each);
	check(p != NULL);
	*cap = to;
	return p;
}

static size_t slots_bytes(const struct memtable *m)
{
	return sizeof(struct slot) << (32 - m->shift);
}

static void slots_new(struct memtable *m, uint32_t shift)
{
	m->shift = shift;
	m->slots = pages_new(slots_bytes(m));
	check(m->slots != NULL);
	m->n_rows_max = (uint32_t)(((uint64_t)LOAD_EIGHTHS << (32 - shift)) / 8);
}

struct memtable *memtable_new(struct memtable_pool *pool, uint64_t seed)
{
	struct memtable *m = calloc(1, sizeof *m);

	check(m != NULL);
	m->pool = pool;
	m->seed = seed;
	m->seq = 1;
	m->chunk_at = CHUNK_UNITS; /* full: the first row takes a chunk */
	slots_new(m, SLOTS_MIN_SHIFT);
	return m;
}

void memtable_free(struct memtable *m)
{
	if (m == NULL)
		return;
	for (uint32_t i = 0; i < m->n_chunks; i++)
		pool_give(m->pool, m->chunks[i]);
	for (unsigned i = 0; i < TABLES; i++)
		order_free(m->orders[i]);
	pages_free(m->slots, slots_bytes(m));
	free(m->chunks);
	free(m->chunk_used);
	free(m->ranges);
	free(m);
}

uint64_t memtable_bytes(const struct memtable *m)
{
	uint64_t last = m->n_chunks == 0 ? 0 : (uint64_t)m->chunk_at * UNIT;
	uint64_t full = m->n_chunks == 0 ? 0 : m->n_chunks - 1;

	return full * MEMTABLE_CHUNK_BYTES + last + slots_bytes(m);
}

uint64_t memtable_rows(const struct memtable *m)
{
	return m->n_rows;
}
bool memtable_empty(const struct memtable *m)
{
	return m->n_rows == 0 && m->n_ranges == 0;
}
void memtable_freeze(struct memtable *m)
{
	m->frozen = true;
}

uint64_t memtable_hash(uint64_t seed, struct bytes key)
{
	return hash64(seed, key.p, key.len);
}

/* The slot that names key, or the empty one where it would go. */
static struct slot *find(const struct memtable *m, uint32_t hash, struct bytes key)
{
	uint32_t mask = UINT32_MAX >> m->shift, i = hash >> m->shift;

	for (;; i = (i + 1) & mask) {
		struct slot *s = &m->slots[i];

		if (s->ref == 0)
			return s;
		if (s->hash == hash) {
			const struct row *r = row_at(m, s->ref);

			if (r->key_len == key.len && memcmp(r->bytes, key.p, key.len) == 0)
				return s;
		}
	}
}

static void slots_double(struct memtable *m)
{
	struct slot *old = m->slots;
	size_t bytes = slots_bytes(m), n = bytes / sizeof *old;
	uint32_t mask;

	check(m->shift > 1);
	slots_new(m, m->shift - 1);
	mask = UINT32_MAX >> m->shift;
	for (size_t i = 0; i < n; i++) {
		uint32_t at;

		if (old[i].ref == 0)
			continue;
		for (at = old[i].hash >> m->shift; m->slots[at].ref != 0;)
			at = (at + 1) & mask;
		m->slots[at] = old[i];
	}
	pages_free(old, bytes);
}

/* Closes the gap: moves back each slot that was pushed past the one that is emptied. */
static void slot_remove(struct memtable *m, struct slot *s)
{
	uint32_t mask = UINT32_MAX >> m->shift, gap = (uint32_t)(s - m->slots);

	for (uint32_t i = (gap + 1) & mask; m->slots[i].ref != 0; i = (i + 1) & mask) {
		uint32_t home = m->slots[i].hash >> m->shift;

		if (((i - home) & mask) >= ((i - gap) & mask)) {
			m->slots[gap] = m->slots[i];
			gap = i;
		}
	}
	m->slots[gap] = (struct slot){ 0 };
}

static void chunk_add(struct memtable *m)
{
	uint32_t cap = m->cap_chunks;

	check(m->n_chunks < CHUNKS_MAX);
	m->chunks = xgrow(m->chunks, m->n_chunks + 1, &cap, sizeof *m->chunks);
	m->chunk_used = xgrow(
		m->chunk_used, m->n_chunks + 1, &m->cap_chunks, sizeof *m->chunk_used);
	if (m->n_chunks > 0)
		m->chunk_used[m->n_chunks - 1] = m->chunk_at;
	m->chunks[m->n_chunks++] = pool_take(m->pool);
	m->chunk_at = 1; /* ref 0 stays free */
}

static uint32_t row_alloc(struct memtable *m, size_t key_len, size_t value_len)
{
	uint32_t units = (uint32_t)((sizeof(struct row) + key_len + value_len + UNIT - 1) / UNIT);
	uint32_t ref;
	struct row *r;

	if (units <= FREE_UNITS_MAX && m->free[units] != 0) {
		ref = m->free[units];
		r = row_at(m, ref);
		check(r->flags == ROW_DEAD);
		check(r->units == units);
		m->free[units] = r->seq;
		return ref;
	}
	if (units > CHUNK_UNITS - m->chunk_at)
		chunk_add(m);
	ref = (m->n_chunks - 1) << CHUNK_SHIFT | m->chunk_at;
	m->chunk_at += units;
	row_at(m, ref)->units = (uint16_t)units;
	return ref;
}

static void row_kill(struct memtable *m, uint32_t ref)
{
	struct row *r = row_at(m, ref);

	check((r->flags & ROW_DEAD) == 0);
	if ((r->flags & ROW_ORDERED) == 0 && r->units <= FREE_UNITS_MAX) {
		r->flags = ROW_DEAD;
		r->seq = m->free[r->units];
		m->free[r->units] = ref;
	} else {
		if (r->flags & ROW_ORDERED)
			m->orders[r->bytes[0]]->n_dead++;
		r->flags |= ROW_DEAD;
	}
}

static uint32_t row_new(struct memtable *m, struct bytes key, struct bytes value, unsigned flags)
{
	uint32_t ref = row_alloc(m, key.len, value.len);
	struct row *r = row_at(m, ref);

	r->seq = m->seq;
	r->key_len = (uint16_t)key.len & 0xfff;
	r->flags = flags & 0xf;
	r->value_len = (uint32_t)value.len;
	memcpy(r->bytes, key.p, key.len);
	if (value.len > 0)
		memcpy(r->bytes + key.len, value.p, value.len);
	return ref;
}

static void insert(struct memtable *m, struct slot *s, uint32_t hash, struct bytes key,
	struct bytes value, unsigned flags)
{
	if (m->n_rows >= m->n_rows_max) {
		slots_double(m);
		s = find(m, hash, key);
	}
	check(s->ref == 0);
	*s = (struct slot){ hash, row_new(m, key, value, flags) };
	m->n_rows++;
}

/* The row's new content, in place where it fits. */
static void update(
	struct memtable *m, struct slot *s, struct bytes key, struct bytes value, unsigned flags)
{
	struct row *r = row_at(m, s->ref);
	uint32_t old = s->ref;

	if (sizeof *r + key.len + value.len > (size_t)r->units * UNIT) {
		s->ref = row_new(m, key, value, flags);
		row_kill(m, old);
		return;
	}
	if (value.len > 0)
		memmove(r->bytes + key.len, value.p, value.len);
	r->value_len = (uint32_t)value.len;
	r->seq = m->seq;
	r->flags = (flags | (r->flags & ROW_ORDERED)) & 0xf;
}

static void check_write(struct memtable *m, struct bytes key)
{
	check(!m->frozen);
	check(key.len > 0);
	check(key.len <= MEMTABLE_KEY_BYTES_MAX);
	m->writes++;
}

void memtable_put(
	struct memtable *m, uint64_t hash, struct bytes key, struct bytes value, bool fresh)
{
	uint32_t high = (uint32_t)(hash >> 32);
	struct slot *s = find(m, high, key);

	check_write(m, key);
	check(value.len <= MEMTABLE_VALUE_BYTES_MAX);
	if (s->ref == 0)
		insert(m, s, high, key, value, fresh ? ROW_FRESH : 0);
	else
		update(m, s, key, value, row_at(m, s->ref)->flags & ROW_FRESH);
}

void memtable_delete(struct memtable *m, uint64_t hash, struct bytes key)
{
	struct bytes none = bytes_of(NULL, 0);
	uint32_t high = (uint32_t)(hash >> 32);
	struct slot *s = find(m, high, key);

	check_write(m, key);
	if (s->ref == 0) {
		if (m->n_ranges == 0 || range_seq(m, key) == 0)
			insert(m, s, high, key, none, ROW_TOMB);
	} else if (row_at(m, s->ref)->flags & ROW_FRESH) {
		row_kill(m, s->ref);
		slot_remove(m, s);
		m->n_rows--;
	} else {
		update(m, s, key, none, ROW_TOMB);
	}
}

void memtable_delete_range(struct memtable *m, struct bytes from, struct bytes to)
{
	check_write(m, from);
	check(to.len <= MEMTABLE_KEY_BYTES_MAX);
	if (to.len > 0 && bytes_compare(from, to) >= 0)
		return;
	check(m->seq < UINT32_MAX);
	m->seq++;
	if (to.len > 0)
		to = row_key(row_at(m, row_new(m, to, bytes_of(NULL, 0), ROW_DEAD | ROW_ORDERED)));
	from = row_key(row_at(m, row_new(m, from, bytes_of(NULL, 0), ROW_DEAD | ROW_ORDERED)));
	range_add(m, from, to, m->seq);
}

enum memtable_found memtable_get(
	const struct memtable *m, uint64_t hash, struct bytes key, struct bytes *ret_value)
{
	const struct slot *s = find(m, (uint32_t)(hash >> 32), key);
	const struct row *r;

	if (s->ref == 0)
		return m->n_ranges > 0 && range_seq(m, key) != 0 ? MEMTABLE_DELETED
								 : MEMTABLE_ABSENT;
	r = row_at(m, s->ref);
	if (r->flags & ROW_TOMB || row_hidden(m, r))
		return MEMTABLE_DELETED;
	*ret_value = row_value(r);
	return MEMTABLE_LIVE;
}

void memtable_row(const struct memtable *m, uint32_t ref, struct memtable_row *ret_row)
{
	const struct row *r = row_at(m, ref);

	check((r->flags & ROW_DEAD) == 0);
	ret_row->key = row_key(r);
	ret_row->value = row_value(r);
	ret_row->deleted = (r->flags & ROW_TOMB) != 0 || row_hidden(m, r);
}

uint32_t row_scan_next(const struct memtable *m, struct row_scan *s)
{
	while (s->chunk < m->n_chunks) {
		uint32_t end = s->chunk == m->n_chunks - 1 ? m->chunk_at : m->chunk_used[s->chunk];
		uint32_t ref = s->chunk << CHUNK_SHIFT | s->at;

		if (s->at < end) {
			s->at += row_at(m, ref)->units;
			check(s->at <= end);
			return ref;
		}
		if (s->chunk == m->n_chunks - 1)
			return 0; /* the next row may still come into this chunk */
		s->chunk++;
		s->at = 1;
	}
	return 0;
}

void memtable_audit(struct memtable *m)
{
	struct row_scan scan = { 0, 1 };
	uint32_t ref, live = 0, named = 0;

	while ((ref = row_scan_next(m, &scan)) != 0) {
		const struct row *r = row_at(m, ref);

		if (r->flags & ROW_DEAD)
			continue;
		live++;
		check(find(m, (uint32_t)(memtable_hash(m->seed, row_key(r)) >> 32), row_key(r))
				->ref == ref); /* (M1) */
	}
	for (size_t i = 0; i < slots_bytes(m) / sizeof *m->slots; i++)
		named += m->slots[i].ref != 0;
	check(live == m->n_rows);
	check(named == m->n_rows);
	for (size_t i = 1; i < m->n_ranges; i++)
		check(bytes_compare(bytes_of(m->ranges[i - 1].to, m->ranges[i - 1].to_len),
			      bytes_of(m->ranges[i].from, m->ranges[i].from_len)) <= 0);
}
