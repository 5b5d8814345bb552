/* SPDX-License-Identifier: Apache-2.0 */
/* Range deletes of a memtable: disjoint ranges in ascending order.  A new one is later than all, so
 * it cuts what it meets. */
#include "meta/memtable_own.h"

static struct bytes from_of(const struct range *r)
{
	return bytes_of(r->from, r->from_len);
}
static struct bytes to_of(const struct range *r)
{
	return bytes_of(r->to, r->to_len);
}

/* An empty end is behind all keys. */
static bool ends_after(struct bytes to, struct bytes key)
{
	return to.len == 0 || bytes_compare(to, key) > 0;
}

/* The first range that ends after key. */
static uint32_t seek(const struct memtable *m, struct bytes key)
{
	uint32_t low = 0, high = m->n_ranges;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (ends_after(to_of(&m->ranges[mid]), key))
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

uint32_t range_seq(const struct memtable *m, struct bytes key)
{
	uint32_t i = seek(m, key);

	if (i == m->n_ranges || bytes_compare(from_of(&m->ranges[i]), key) > 0)
		return 0;
	return m->ranges[i].seq;
}

static struct range range_of(struct bytes from, struct bytes to, uint32_t seq)
{
	return (struct range){ from.p, to.p, (uint16_t)from.len, (uint16_t)to.len, seq };
}

/* from and to lie in m's chunks, from < to. */
void range_add(struct memtable *m, struct bytes from, struct bytes to, uint32_t seq)
{
	uint32_t first = seek(m, from), end = first, n_new = 0;
	struct range new[3];

	while (end < m->n_ranges &&
		(to.len == 0 || bytes_compare(from_of(&m->ranges[end]), to) < 0))
		end++;
	if (first < end && bytes_compare(from_of(&m->ranges[first]), from) < 0)
		new[n_new++] = range_of(from_of(&m->ranges[first]), from, m->ranges[first].seq);
	new[n_new++] = range_of(from, to, seq);
	if (first < end && to.len > 0 && ends_after(to_of(&m->ranges[end - 1]), to))
		new[n_new++] = range_of(to, to_of(&m->ranges[end - 1]), m->ranges[end - 1].seq);
	m->ranges = xgrow(m->ranges, m->n_ranges + n_new, &m->cap_ranges, sizeof *m->ranges);
	memmove(m->ranges + first + n_new, m->ranges + end,
		(m->n_ranges - end) * sizeof *m->ranges);
	memcpy(m->ranges + first, new, n_new * sizeof *new);
	m->n_ranges = m->n_ranges - (end - first) + n_new;
}

bool memtable_hides(const struct memtable *m, struct bytes key, struct bytes *ret_to)
{
	uint32_t i = m->n_ranges == 0 ? 0 : seek(m, key);

	if (i == m->n_ranges || bytes_compare(from_of(&m->ranges[i]), key) > 0)
		return false;
	*ret_to = to_of(&m->ranges[i]);
	return true;
}

size_t memtable_ranges(const struct memtable *m)
{
	return m->n_ranges;
}

void memtable_range(
	const struct memtable *m, size_t range_i, struct bytes *ret_from, struct bytes *ret_to)
{
	check(range_i < m->n_ranges);
	*ret_from = from_of(&m->ranges[range_i]);
	*ret_to = to_of(&m->ranges[range_i]);
}
