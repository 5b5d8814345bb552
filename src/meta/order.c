/* SPDX-License-Identifier: Apache-2.0 */
/* Order, made when somebody walks.  Each table has a list of blocks of sorted row references; what
 * was put since the last walk is sorted and, when little, inserted one by one, when much, merged
 * with all of it.  Keys are sorted by the eight bytes behind what all of them share, as a number;
 * only equals look at the rest. */
#include "base/pages.h"
#include "meta/memtable_own.h"
#include <stdlib.h>

enum { INSERTION_MAX = 24, BLOCK_FILL = BLOCK_ROWS * 3 / 4, MERGE_SHARE = 8 };

struct item {
	uint64_t prefix;
	uint32_t ref;
};

static struct bytes key_at(const struct memtable *m, uint32_t ref)
{
	return row_key(row_at(m, ref));
}

static int compare(const struct memtable *m, uint32_t a, uint32_t b)
{
	return bytes_compare(key_at(m, a), key_at(m, b));
}

static bool less(const struct memtable *m, const struct item *a, const struct item *b)
{
	return a->prefix != b->prefix ? a->prefix < b->prefix : compare(m, a->ref, b->ref) < 0;
}

/* Sorts at[0..n) whose first `sorted` are in order. */
static void insertion_sort(const struct memtable *m, struct item *at, size_t n, size_t sorted)
{
	for (size_t i = sorted; i < n; i++) {
		struct item x = at[i];
		size_t j = i;

		for (; j > 0 && less(m, &x, &at[j - 1]); j--)
			at[j] = at[j - 1];
		at[j] = x;
	}
}

static size_t shared(struct bytes a, struct bytes b, size_t max)
{
	size_t n = 0;

	if (max > a.len)
		max = a.len;
	if (max > b.len)
		max = b.len;
	while (n < max && a.p[n] == b.p[n])
		n++;
	return n;
}

static uint64_t prefix_of(struct bytes key, size_t skip)
{
	uint64_t v = 0;
	size_t n = key.len - skip;

	if (n >= 8)
		return be64(key.p + skip);
	memcpy(&v, key.p + skip, n);
	return be64(&v);
}

static void items_fill(const struct memtable *m, struct item *items, const uint32_t *refs, size_t n)
{
	struct bytes first = key_at(m, refs[0]);
	size_t skip = first.len;

	for (size_t i = 1; i < n; i++)
		skip = shared(first, key_at(m, refs[i]), skip);
	for (size_t i = 0; i < n; i++)
		items[i] = (struct item){ prefix_of(key_at(m, refs[i]), skip), refs[i] };
}

static void merge_runs(const struct memtable *m, const struct item *from, size_t a, size_t b,
	size_t end, struct item *to)
{
	size_t i = a, j = b;

	if (b == end || !less(m, &from[b], &from[b - 1])) {
		memcpy(to + a, from + a, (end - a) * sizeof *from); /* in order already */
		return;
	}
	for (size_t k = a; k < end; k++) {
		if (j == end || (i < b && !less(m, &from[j], &from[i])))
			to[k] = from[i++];
		else
			to[k] = from[j++];
	}
}

/* Runs that are already ascending count as sorted: keys with ascending numbers cost one look. */
static size_t runs_make(const struct memtable *m, struct item *items, size_t n, uint32_t *ends)
{
	size_t n_runs = 0;

	for (size_t at = 0; at < n;) {
		size_t end = at + 1, least;

		while (end < n && !less(m, &items[end], &items[end - 1]))
			end++;
		least = at + INSERTION_MAX < n ? at + INSERTION_MAX : n;
		if (end < least) {
			insertion_sort(m, items + at, least - at, end - at);
			end = least;
		}
		ends[n_runs++] = (uint32_t)end;
		at = end;
	}
	return n_runs;
}

static struct item *merge_sort(
	const struct memtable *m, struct item *items, struct item *spare, uint32_t *ends, size_t n)
{
	size_t n_runs = runs_make(m, items, n, ends);

	while (n_runs > 1) {
		size_t to = 0, begin = 0;
		struct item *swap = items;

		for (size_t i = 0; i < n_runs; i += 2) {
			size_t middle = ends[i], end = i + 1 < n_runs ? ends[i + 1] : middle;

			merge_runs(m, items, begin, middle, end, spare);
			ends[to++] = (uint32_t)end;
			begin = end;
		}
		check(begin == n);
		n_runs = to;
		items = spare;
		spare = swap;
	}
	return items;
}

void order_sort(const struct memtable *m, uint32_t *refs, size_t n)
{
	struct item few[INSERTION_MAX];
	size_t bytes = n * (2 * sizeof(struct item) + sizeof(uint32_t));
	struct item *room, *sorted;

	if (n < 2)
		return;
	if (n <= INSERTION_MAX) {
		items_fill(m, few, refs, n);
		insertion_sort(m, few, n, 1);
		for (size_t i = 0; i < n; i++)
			refs[i] = few[i].ref;
		return;
	}
	room = pages_new(bytes);
	check(room != NULL);
	items_fill(m, room, refs, n);
	sorted = merge_sort(m, room, room + n, (uint32_t *)(void *)(room + 2 * n), n);
	for (size_t i = 0; i < n; i++)
		refs[i] = sorted[i].ref;
	pages_free(room, bytes);
}

struct memtable_sorted memtable_sort(const struct memtable *m)
{
	struct memtable_sorted out = { NULL, m->n_rows, (size_t)m->n_rows * sizeof *out.refs };
	uint32_t at[TABLES] = { 0 }, begin = 0, ref;
	struct row_scan scan = { 0, 1 };

	check(m->frozen);
	if (out.n == 0)
		return out;
	out.refs = pages_new(out.bytes);
	check(out.refs != NULL);
	while ((ref = row_scan_next(m, &scan)) != 0)
		if ((row_at(m, ref)->flags & ROW_DEAD) == 0)
			at[row_at(m, ref)->bytes[0]]++;
	for (unsigned i = 0; i < TABLES; i++) {
		uint32_t n = at[i];

		at[i] = begin;
		begin += n;
	}
	check(begin == out.n);
	scan = (struct row_scan){ 0, 1 };
	while ((ref = row_scan_next(m, &scan)) != 0)
		if ((row_at(m, ref)->flags & ROW_DEAD) == 0)
			out.refs[at[row_at(m, ref)->bytes[0]]++] = ref;
	for (unsigned i = 0; i < TABLES; i++) {
		uint32_t from = i == 0 ? 0 : at[i - 1];

		order_sort(m, out.refs + from, at[i] - from);
	}
	return out;
}

void memtable_sorted_free(struct memtable_sorted *s)
{
	pages_free(s->refs, s->bytes);
	*s = (struct memtable_sorted){ 0 };
}

void order_free(struct order *o)
{
	if (o == NULL)
		return;
	for (uint32_t i = 0; i < o->n_blocks; i++)
		free(o->blocks[i]);
	free(o->blocks);
	free(o->fresh);
	free(o);
}

/* Hands what was put since the last walk to the orders of its tables. */
static void advance_mark(struct memtable *m)
{
	struct row_scan scan = { m->mark_chunk, m->mark_at == 0 ? 1 : m->mark_at };
	uint32_t ref;

	while ((ref = row_scan_next(m, &scan)) != 0) {
		struct row *r = row_at(m, ref);
		struct order *o = m->orders[r->bytes[0]];

		if (r->flags & ROW_DEAD)
			continue;
		if (o == NULL) {
			o = m->orders[r->bytes[0]] = calloc(1, sizeof *o);
			check(o != NULL);
		}
		o->fresh = xgrow(o->fresh, o->n_fresh + 1, &o->cap_fresh, sizeof *o->fresh);
		o->fresh[o->n_fresh++] = ref;
		if (!m->frozen) /* else another thread may read the row */
			r->flags |= ROW_ORDERED;
	}
	m->mark_chunk = scan.chunk;
	m->mark_at = scan.at;
	memset(m->free, 0, sizeof m->free); /* (M2): what is free lies before the mark now */
}

/* Index of the first block that may hold key, and of the first row in it that is not below key;
 * behind the last row of the block when all are. */
static uint32_t seek_block(const struct memtable *m, const struct order *o, struct bytes key)
{
	uint32_t low = 0, high = o->n_blocks;

	while (high - low > 1) {
		uint32_t mid = low + (high - low) / 2;

		if (bytes_compare(key_at(m, o->blocks[mid]->refs[0]), key) < 0)
			low = mid;
		else
			high = mid;
	}
	return low;
}

static uint32_t seek_row(const struct memtable *m, const struct block *b, struct bytes key)
{
	uint32_t low = 0, high = b->n;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (bytes_compare(key_at(m, b->refs[mid]), key) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static struct block *block_add(struct order *o, uint32_t at)
{
	struct block *b = malloc(sizeof *b);

	check(b != NULL);
	check(at <= o->n_blocks);
	b->n = 0;
	o->blocks = xgrow(o->blocks, o->n_blocks + 1, &o->cap_blocks, sizeof(struct block *));
	memmove(o->blocks + at + 1, o->blocks + at, (o->n_blocks - at) * sizeof(struct block *));
	o->blocks[at] = b;
	o->n_blocks++;
	return b;
}

static void insert_ref(const struct memtable *m, struct order *o, uint32_t ref)
{
	struct bytes key = key_at(m, ref);
	uint32_t block_i = seek_block(m, o, key), at;
	struct block *b = o->n_blocks == 0 ? block_add(o, 0) : o->blocks[block_i], *next;

	at = seek_row(m, b, key);
	if (b->n == BLOCK_ROWS) {
		uint32_t keep = at == b->n ? b->n : b->n / 2; /* ascending keys fill blocks */

		next = block_add(o, block_i + 1);
		next->n = b->n - keep;
		memcpy(next->refs, b->refs + keep, next->n * sizeof *b->refs);
		b->n = keep;
		if (at >= keep) {
			at -= keep;
			b = next;
		}
	}
	memmove(b->refs + at + 1, b->refs + at, (b->n - at) * sizeof *b->refs);
	b->refs[at] = ref;
	b->n++;
	o->n_rows++;
}

static void merge_push(const struct memtable *m, struct order *to, uint32_t ref)
{
	struct block *last = to->n_blocks == 0 ? NULL : to->blocks[to->n_blocks - 1];

	if (row_at(m, ref)->flags & ROW_DEAD)
		return;
	if (last == NULL || last->n == BLOCK_FILL)
		last = block_add(to, to->n_blocks);
	last->refs[last->n++] = ref;
	to->n_rows++;
}

static void merge_all(const struct memtable *m, struct order *o)
{
	struct order to = { 0 };
	uint32_t at = 0;

	for (uint32_t i = 0; i < o->n_blocks; i++) {
		for (uint32_t j = 0; j < o->blocks[i]->n; j++) {
			uint32_t ref = o->blocks[i]->refs[j];

			while (at < o->n_fresh && compare(m, o->fresh[at], ref) < 0)
				merge_push(m, &to, o->fresh[at++]);
			merge_push(m, &to, ref);
		}
		free(o->blocks[i]);
	}
	while (at < o->n_fresh)
		merge_push(m, &to, o->fresh[at++]);
	free(o->blocks);
	o->blocks = to.blocks;
	o->n_blocks = to.n_blocks;
	o->cap_blocks = to.cap_blocks;
	o->n_rows = to.n_rows;
	o->n_dead = 0;
}

static void settle(const struct memtable *m, struct order *o)
{
	bool mostly_dead = o->n_dead > BLOCK_ROWS && o->n_dead > o->n_rows / 2;

	if (o->n_fresh == 0 && !mostly_dead)
		return;
	order_sort(m, o->fresh, o->n_fresh);
	if (mostly_dead || o->n_fresh > o->n_rows / MERGE_SHARE)
		merge_all(m, o);
	else
		for (uint32_t i = 0; i < o->n_fresh; i++)
			insert_ref(m, o, o->fresh[i]);
	o->n_fresh = 0;
	if (o->cap_fresh > BLOCK_ROWS) {
		free(o->fresh);
		o->fresh = NULL;
		o->cap_fresh = 0;
	}
}

void memtable_walk_begin(struct memtable_walk *w, struct memtable *m, struct bytes from)
{
	struct order *o;

	*w = (struct memtable_walk){ .m = m, .writes = m->writes };
	w->table = from.len > 0 ? from.p[0] : 0;
	advance_mark(m);
	o = m->orders[w->table];
	if (o == NULL)
		return;
	settle(m, o);
	w->block = seek_block(m, o, from);
	if (w->block < o->n_blocks)
		w->at = seek_row(m, o->blocks[w->block], from);
}

bool memtable_walk_next(struct memtable_walk *w, struct memtable_row *ret_row)
{
	struct memtable *m = w->m;

	check(w->writes == m->writes);
	for (; w->table < TABLES; w->table++, w->block = w->at = 0) {
		struct order *o = m->orders[w->table];

		if (o == NULL)
			continue;
		settle(m, o);
		for (; w->block < o->n_blocks; w->block++, w->at = 0) {
			const struct block *b = o->blocks[w->block];

			while (w->at < b->n) {
				uint32_t ref = b->refs[w->at++];

				if (row_at(m, ref)->flags & ROW_DEAD)
					continue;
				memtable_row(m, ref, ret_row);
				return true;
			}
		}
	}
	return false;
}
