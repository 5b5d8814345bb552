/* SPDX-License-Identifier: Apache-2.0 */
/* (M1) a row's address never changes; its value may move.
 * (M2) order[0..n) holds every row once; runs partition order[0..sorted) into sorted stretches.
 * (M3) no range covers a live row that was put before the range. */
#include "meta/memtable.h"
#include "base/check.h"
#include "base/hash.h"
#include <stdlib.h>

struct memtable_row {
	uint8_t *value;
	uint32_t value_len, value_cap;
	uint16_t key_len;
	uint8_t state;
	uint8_t key[];
};
enum row_state { ROW_LIVE, ROW_DELETED, ROW_COVERED /* by a range: as if it were not here */ };

enum {
	CHUNK_BYTES = 36 << 20, /* beyond what malloc would keep for itself after a free */
	CHUNK_SMALL = 1 << 16,  /* of memtables that are small by configuration */
	ROW_BYTES_MIN = 64,     /* rows are not smaller on average: sizes the table */
	SLOTS_MIN = 256,
	TAG_SHIFT = 48,
	MERGE_ROWS_MIN = 512, /* runs below this are always merged */
};

struct chunk {
	struct chunk *next;
	size_t used, size;
	uint8_t bytes[];
};
struct run {
	size_t from, to;
};

struct memtable {
	uint64_t bytes_max, bytes, seed;
	uint64_t *slots; /* row address, and bits of its hash above it */
	size_t n_slots;
	struct memtable_row **order, **spare;
	struct memtable_row **frozen; /* a copy of order for another thread; NULL: not frozen */
	size_t n, cap, sorted, spare_cap;
	struct run runs[MEMTABLE_RUNS_MAX];
	unsigned n_runs;
	struct chunk *chunks;
	size_t chunk_bytes;
	struct memtable_range *ranges;
	size_t n_ranges, cap_ranges;
};

/* ---- memory ---- */
static void *need(void *p)
{
	check(p != NULL);
	return p;
}

static void *take(struct memtable *m, size_t size)
{
	struct chunk *c = m->chunks;
	void *p;

	size = (size + 7) & ~(size_t)7;
	if (c == NULL || size > c->size - c->used) {
		size_t room = size > m->chunk_bytes ? size : m->chunk_bytes;

		c = need(malloc(sizeof *c + room));
		*c = (struct chunk){ .next = m->chunks, .size = room };
		m->chunks = c;
	}
	p = c->bytes + c->used;
	c->used += size;
	m->bytes += size;
	return p;
}

struct memtable *memtable_new(uint64_t bytes_max, uint64_t seed)
{
	struct memtable *m = calloc(1, sizeof *m);
	size_t slots = SLOTS_MIN;

	if (m == NULL)
		return NULL;
	while (slots * ROW_BYTES_MIN < bytes_max)
		slots *= 2;
	m->bytes_max = bytes_max;
	m->seed = seed;
	m->chunk_bytes = bytes_max >= CHUNK_BYTES ? CHUNK_BYTES : CHUNK_SMALL;
	m->n_slots = slots;
	m->slots = calloc(slots, sizeof *m->slots); /* pages appear as they are touched */
	if (m->slots == NULL) {
		free(m);
		return NULL;
	}
	return m;
}

void memtable_free(struct memtable *m)
{
	struct chunk *c;

	if (m == NULL)
		return;
	while ((c = m->chunks) != NULL) {
		m->chunks = c->next;
		free(c);
	}
	free(m->slots);
	free(m->order);
	free(m->spare);
	free(m->frozen);
	free(m->ranges);
	free(m);
}

uint64_t memtable_bytes(const struct memtable *m)
{
	return m->bytes;
}
uint64_t memtable_rows(const struct memtable *m)
{
	return m->n;
}
bool memtable_full(const struct memtable *m)
{
	return m->bytes >= m->bytes_max;
}
bool memtable_empty(const struct memtable *m)
{
	return m->n == 0 && m->n_ranges == 0;
}

/* ---- points ---- */
static struct memtable_row *row_at(uint64_t slot)
{
	return (struct memtable_row *)(uintptr_t)(slot & ((UINT64_C(1) << TAG_SHIFT) - 1));
}

static bool has_key(const struct memtable_row *r, struct bytes key)
{
	return r->key_len == key.len && memcmp(r->key, key.p, key.len) == 0;
}

/* The slot of key, or the free one where it would go. */
static uint64_t *find(const struct memtable *m, struct bytes key, uint64_t hash)
{
	size_t mask = m->n_slots - 1, i = (size_t)hash & mask;
	uint64_t tag = hash >> TAG_SHIFT;

	while (m->slots[i] != 0 &&
		(m->slots[i] >> TAG_SHIFT != tag || !has_key(row_at(m->slots[i]), key)))
		i = (i + 1) & mask;
	return &m->slots[i];
}

static uint64_t hash_of(const struct memtable *m, struct bytes key)
{
	return hash64(m->seed, key.p, key.len);
}

/* Beyond the size planned for: rows were smaller than expected. */
static void grow_slots(struct memtable *m)
{
	free(m->slots);
	m->n_slots *= 2;
	m->slots = need(calloc(m->n_slots, sizeof *m->slots));
	for (size_t i = 0; i < m->n; i++) {
		struct memtable_row *r = m->order[i];
		struct bytes key = bytes_of(r->key, r->key_len);
		uint64_t hash = hash_of(m, key);

		*find(m, key, hash) = (hash >> TAG_SHIFT) << TAG_SHIFT | (uint64_t)(uintptr_t)r;
	}
}

static void note_order(struct memtable *m, struct memtable_row *r)
{
	if (m->n == m->cap) {
		m->cap = m->cap == 0 ? SLOTS_MIN : m->cap * 2;
		m->order = need(realloc(m->order, m->cap * sizeof(struct memtable_row *)));
	}
	m->order[m->n++] = r;
}

static struct memtable_row *row_new(struct memtable *m, struct bytes key, size_t value_len)
{
	struct memtable_row *r;

	check(key.len <= UINT16_MAX);
	check(value_len <= UINT32_MAX);
	r = take(m, sizeof *r + key.len + value_len);
	check((uintptr_t)r >> TAG_SHIFT == 0);
	*r = (struct memtable_row){ .value = r->key + key.len,
		.value_cap = (uint32_t)value_len,
		.key_len = (uint16_t)key.len };
	memcpy(r->key, key.p, key.len);
	note_order(m, r);
	return r;
}

static struct memtable_row *row_for(struct memtable *m, struct bytes key, size_t value_len)
{
	uint64_t hash = hash_of(m, key), *slot = find(m, key, hash);
	struct memtable_row *r;

	if (*slot != 0)
		return row_at(*slot);
	if ((m->n + 1) * 8 > m->n_slots * 7) {
		grow_slots(m);
		slot = find(m, key, hash);
	}
	r = row_new(m, key, value_len);
	*slot = (hash >> TAG_SHIFT) << TAG_SHIFT | (uint64_t)(uintptr_t)r;
	return r;
}

void memtable_put(struct memtable *m, struct bytes key, struct bytes value)
{
	struct memtable_row *r;

	check(m->frozen == NULL);
	r = row_for(m, key, value.len);

	if (value.len > r->value_cap) {
		r->value = take(m, value.len);
		r->value_cap = (uint32_t)value.len;
	}
	if (value.len > 0)
		memcpy(r->value, value.p, value.len);
	r->value_len = (uint32_t)value.len;
	r->state = ROW_LIVE;
}

void memtable_delete(struct memtable *m, struct bytes key)
{
	row_for(m, key, 0)->state = ROW_DELETED;
}

enum memtable_found memtable_get(
	const struct memtable *m, struct bytes key, struct bytes *ret_value)
{
	uint64_t slot = *find(m, key, hash_of(m, key));
	const struct memtable_row *r = row_at(slot);

	if (slot != 0 && r->state == ROW_DELETED)
		return MEMTABLE_DELETED;
	if (slot == 0 || r->state == ROW_COVERED)
		return memtable_covered(m, key) != NULL ? MEMTABLE_DELETED : MEMTABLE_ABSENT;
	*ret_value = bytes_of(r->value, r->value_len);
	return MEMTABLE_VALUE;
}

/* ---- order ---- */
static int compare_rows(const struct memtable_row *a, const struct memtable_row *b)
{
	return bytes_compare(bytes_of(a->key, a->key_len), bytes_of(b->key, b->key_len));
}

/* Sorting compares eight bytes of each key side by side in memory and looks at the rows only when
 * these are equal: which eight, is what comes behind the prefix that all keys share. */
struct sorting {
	uint64_t eight;
	struct memtable_row *row;
};

static int compare_sorting(const void *a, const void *b)
{
	const struct sorting *x = a, *y = b;

	if (x->eight != y->eight)
		return x->eight < y->eight ? -1 : 1;
	return compare_rows(x->row, y->row);
}

static size_t common_prefix(struct memtable_row **rows, size_t n)
{
	size_t len = rows[0]->key_len;

	for (size_t i = 1; i < n && len > 0; i++) {
		size_t k = 0;

		while (k < len && k < rows[i]->key_len && rows[i]->key[k] == rows[0]->key[k])
			k++;
		len = k;
	}
	return len;
}

static uint64_t eight_at(const struct memtable_row *r, size_t from)
{
	uint8_t b[8] = { 0 };
	size_t n = r->key_len > from ? r->key_len - from : 0;

	memcpy(b, r->key + from, n < 8 ? n : 8);
	return be64(b);
}

static void sort_alike(struct memtable_row **rows, size_t n, struct sorting *room)
{
	size_t from = common_prefix(rows, n);
	bool sorted = true;

	for (size_t i = 0; i < n; i++) {
		room[i] = (struct sorting){ eight_at(rows[i], from), rows[i] };
		sorted = sorted && (i == 0 || compare_sorting(&room[i - 1], &room[i]) < 0);
	}
	if (sorted) /* ids ascend by themselves */
		return;
	qsort(room, n, sizeof *room, compare_sorting);
	for (size_t i = 0; i < n; i++)
		rows[i] = room[i].row;
}

/* By the first byte, the table, which keeps prefixes long; then each table. */
static void sort_rows(struct memtable_row **rows, size_t n)
{
	uint32_t first[257] = { 0 }, at[256];
	struct sorting *room = need(malloc(n * sizeof *room));
	struct memtable_row **copy = (struct memtable_row **)room;

	check(n < UINT32_MAX);
	for (size_t i = 0; i < n; i++)
		first[(rows[i]->key_len > 0 ? rows[i]->key[0] : 0) + 1]++;
	for (int t = 0; t < 256; t++) {
		first[t + 1] += first[t];
		at[t] = first[t];
	}
	memcpy(copy, rows, n * sizeof(struct memtable_row *));
	for (size_t i = 0; i < n; i++)
		rows[at[copy[i]->key_len > 0 ? copy[i]->key[0] : 0]++] = copy[i];
	for (int t = 0; t < 256; t++)
		if (first[t + 1] - first[t] > 1)
			sort_alike(rows + first[t], first[t + 1] - first[t], room);
	free(room);
}

/* Joins the last two runs. */
static void merge_last(struct memtable *m)
{
	struct run *a = &m->runs[m->n_runs - 2], *b = &m->runs[m->n_runs - 1];
	size_t n = a->to - a->from, i = 0, j = b->from, k = a->from;

	check(a->to == b->from);
	if (m->spare_cap < n) {
		m->spare_cap = n;
		m->spare = need(realloc(m->spare, n * sizeof(struct memtable_row *)));
	}
	memcpy(m->spare, m->order + a->from, n * sizeof(struct memtable_row *));
	while (i < n && j < b->to)
		m->order[k++] = compare_rows(m->spare[i], m->order[j]) <= 0 ? m->spare[i++]
									    : m->order[j++];
	while (i < n)
		m->order[k++] = m->spare[i++];
	a->to = b->to;
	m->n_runs--;
}

static size_t run_rows(const struct run *r)
{
	return r->to - r->from;
}

static bool should_merge(const struct memtable *m)
{
	const struct run *last = m->n_runs > 1 ? &m->runs[m->n_runs - 1] : NULL;

	return last != NULL &&
	       (run_rows(last) < MERGE_ROWS_MIN || run_rows(last) * 2 > run_rows(last - 1));
}

static void sort_fresh(struct memtable *m)
{
	if (m->sorted == m->n)
		return;
	sort_rows(m->order + m->sorted, m->n - m->sorted);
	check(m->n_runs < MEMTABLE_RUNS_MAX);
	m->runs[m->n_runs++] = (struct run){ m->sorted, m->n };
	m->sorted = m->n;
	while (should_merge(m))
		merge_last(m);
}

void memtable_freeze(struct memtable *m)
{
	check(m->frozen == NULL);
	m->frozen = need(malloc((m->n + 1) * sizeof(struct memtable_row *)));
	if (m->n > 0)
		memcpy(m->frozen, m->order, m->n * sizeof(struct memtable_row *));
}

void memtable_sort_frozen(struct memtable *m)
{
	check(m->frozen != NULL);
	if (m->n > 0)
		sort_rows(m->frozen, m->n);
}

void memtable_walk_frozen(struct memtable_walk *w, struct memtable *m)
{
	static const uint8_t behind_all[1] = { 255 };

	w->n_runs = 1;
	w->at[0] = m->frozen;
	w->end[0] = m->frozen + m->n;
	w->to = bytes_of(behind_all, sizeof behind_all);
}

static size_t first_from(const struct memtable *m, const struct run *r, struct bytes from)
{
	size_t low = r->from, high = r->to;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (bytes_compare(bytes_of(m->order[mid]->key, m->order[mid]->key_len), from) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

void memtable_walk_begin(
	struct memtable_walk *w, struct memtable *m, struct bytes from, struct bytes to)
{
	sort_fresh(m);
	w->n_runs = m->n_runs;
	w->to = to;
	for (unsigned i = 0; i < m->n_runs; i++) {
		w->at[i] = m->order + first_from(m, &m->runs[i], from);
		w->end[i] = m->order + m->runs[i].to;
	}
}

/* The next row of any state but covered, NULL at the end. */
static struct memtable_row *walk_row(struct memtable_walk *w)
{
	for (;;) {
		struct memtable_row *best = NULL;
		unsigned best_i = 0;

		for (unsigned i = 0; i < w->n_runs; i++) {
			if (w->at[i] == w->end[i])
				continue;
			if (best == NULL || compare_rows(*w->at[i], best) < 0) {
				best = *w->at[i];
				best_i = i;
			}
		}
		if (best == NULL || bytes_compare(bytes_of(best->key, best->key_len), w->to) >= 0)
			return NULL;
		w->at[best_i]++;
		if (best->state != ROW_COVERED)
			return best;
	}
}

bool memtable_walk_next(struct memtable_walk *w, struct memtable_item *ret_item)
{
	const struct memtable_row *r = walk_row(w);

	if (r == NULL)
		return false;
	ret_item->key = bytes_of(r->key, r->key_len);
	ret_item->deleted = r->state == ROW_DELETED;
	ret_item->value = bytes_of(r->value, ret_item->deleted ? 0 : r->value_len);
	return true;
}

/* ---- ranges ---- */
/* The first range whose end is behind key (or at it, when touching counts). */
static size_t range_at(const struct memtable *m, struct bytes key, bool touching)
{
	size_t low = 0, high = m->n_ranges;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (bytes_compare(m->ranges[mid].to, key) < (touching ? 0 : 1))
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

const struct memtable_range *memtable_covered(const struct memtable *m, struct bytes key)
{
	size_t i;

	if (m->n_ranges == 0)
		return NULL;
	i = range_at(m, key, false);
	if (i == m->n_ranges || bytes_compare(m->ranges[i].from, key) > 0)
		return NULL;
	return &m->ranges[i];
}

size_t memtable_ranges(const struct memtable *m, const struct memtable_range **ret_ranges)
{
	*ret_ranges = m->ranges;
	return m->n_ranges;
}

static struct bytes keep(struct memtable *m, struct bytes b)
{
	return bytes_of(memcpy(take(m, b.len), b.p, b.len), b.len);
}

static void remember(struct memtable *m, struct bytes from, struct bytes to)
{
	size_t i = range_at(m, from, true), j = i;

	while (j < m->n_ranges && bytes_compare(m->ranges[j].from, to) <= 0) { /* joins these */
		if (bytes_compare(m->ranges[j].from, from) < 0)
			from = m->ranges[j].from;
		if (bytes_compare(m->ranges[j].to, to) > 0)
			to = m->ranges[j].to;
		j++;
	}
	if (j == i && m->n_ranges == m->cap_ranges) {
		m->cap_ranges = m->cap_ranges == 0 ? 16 : m->cap_ranges * 2;
		m->ranges = need(realloc(m->ranges, m->cap_ranges * sizeof *m->ranges));
	}
	from = keep(m, from);
	to = keep(m, to);
	memmove(m->ranges + i + 1, m->ranges + j, (m->n_ranges - j) * sizeof *m->ranges);
	m->ranges[i] = (struct memtable_range){ from, to };
	m->n_ranges += 1 - (j - i);
}

void memtable_delete_range(struct memtable *m, struct bytes from, struct bytes to)
{
	struct memtable_walk w;
	struct memtable_row *r;

	if (bytes_compare(from, to) >= 0)
		return;
	memtable_walk_begin(&w, m, from, to);
	while ((r = walk_row(&w)) != NULL)
		r->state = ROW_COVERED;
	remember(m, from, to);
}
