/* SPDX-License-Identifier: Apache-2.0 */
/* Segregated fits: free runs are binned by size, four bins to each power of two.
 *
 * Invariants: (I1) the slots in order of offset cover the arena without gap or overlap; (I2) no two
 * neighbours are both free; (I3) a free slot is in the bin of its size, a taken one in none; (I4) a
 * bin's bit is set exactly when it is not empty. */
#include "store/slots.h"
#include "base/check.h"
#include "base/err.h"
#include <stdlib.h>

static unsigned bin_of(uint64_t len)
{
	uint64_t n = len / SLOT_BYTES;
	unsigned top;

	check(n > 0);
	if (n < 4)
		return (unsigned)n;
	top = 63 - (unsigned)__builtin_clzll(n);
	/* n = 4 .. 7 is bins 4 .. 7, then four bins for each doubling. */
	return (top - 1) * 4 + (unsigned)((n >> (top - 2)) & 3);
}

static void bin_add(struct slots *s, struct slot *t)
{
	unsigned bin = bin_of(t->len);

	check(bin < SLOT_BINS);
	list_push(&s->bins[bin], &t->by_size);
	s->full[bin / 64] |= UINT64_C(1) << (bin % 64);
	s->free_bytes += t->len;
	t->free = true;
}

static void bin_remove(struct slots *s, struct slot *t)
{
	unsigned bin = bin_of(t->len);

	check(t->free);
	list_remove(&t->by_size);
	if (list_empty(&s->bins[bin]))
		s->full[bin / 64] &= ~(UINT64_C(1) << (bin % 64));
	s->free_bytes -= t->len;
	t->free = false;
}

static struct slot *slot_new(uint64_t offset, uint64_t len)
{
	struct slot *t = calloc(1, sizeof *t);

	if (t == NULL)
		return NULL;
	t->offset = offset;
	t->len = len;
	list_init(&t->by_size);
	return t;
}

int slots_init(struct slots *s, uint64_t len)
{
	struct slot *whole = slot_new(0, len);

	check(len > 0);
	check(len % SLOT_BYTES == 0);
	if (whole == NULL)
		return E_NOMEM;
	*s = (struct slots){ .len = len };
	list_init(&s->all);
	for (unsigned i = 0; i < SLOT_BINS; i++)
		list_init(&s->bins[i]);
	list_push(&s->all, &whole->by_offset);
	bin_add(s, whole);
	return 0;
}

void slots_fini(struct slots *s)
{
	list_each_safe(it, &s->all)
		free(container_of(it, struct slot, by_offset));
	list_init(&s->all);
}

/* The first bin from `bin` on that is not empty; SLOT_BINS when there is none. */
static unsigned bin_next(const struct slots *s, unsigned bin)
{
	uint64_t bits;

	for (unsigned word = bin / 64; word < SLOT_BINS / 64; word++) {
		bits = s->full[word];
		if (word == bin / 64)
			bits &= ~UINT64_C(0) << (bin % 64);
		if (bits != 0)
			return word * 64 + (unsigned)__builtin_ctzll(bits);
	}
	return SLOT_BINS;
}

static struct slot *find(const struct slots *s, uint64_t len)
{
	unsigned bin = bin_of(len), next;

	/* Only the own bin holds both runs that fit and runs that do not. */
	list_each(it, &s->bins[bin]) {
		struct slot *t = container_of(it, struct slot, by_size);

		if (t->len >= len)
			return t;
	}
	next = bin + 1 < SLOT_BINS ? bin_next(s, bin + 1) : SLOT_BINS;
	return next < SLOT_BINS ? container_of(s->bins[next].next, struct slot, by_size) : NULL;
}

struct slot *slots_take(struct slots *s, uint64_t len)
{
	struct slot *t, *rest = NULL;

	check(len > 0);
	check(len % SLOT_BYTES == 0);
	if (len > s->free_bytes || (t = find(s, len)) == NULL)
		return NULL;
	if (t->len > len && (rest = slot_new(t->offset + len, t->len - len)) == NULL)
		return NULL;
	bin_remove(s, t);
	if (rest != NULL) {
		t->len = len;
		list_add_before(t->by_offset.next, &rest->by_offset);
		bin_add(s, rest);
	}
	return t;
}

/* Joins b, which follows a in the arena, to a; neither is in a bin. */
static void join(struct slot *a, struct slot *b)
{
	check(a->offset + a->len == b->offset);
	a->len += b->len;
	list_remove(&b->by_offset);
	free(b);
}

void slots_give(struct slots *s, struct slot *t)
{
	struct slot *other;

	check(!t->free);
	if (t->by_offset.next != &s->all) {
		other = container_of(t->by_offset.next, struct slot, by_offset);
		if (other->free) {
			bin_remove(s, other);
			join(t, other);
		}
	}
	if (t->by_offset.prev != &s->all) {
		other = container_of(t->by_offset.prev, struct slot, by_offset);
		if (other->free) {
			bin_remove(s, other);
			join(other, t);
			t = other;
		}
	}
	bin_add(s, t);
}

void slots_audit(const struct slots *s)
{
	uint64_t at = 0, free_bytes = 0, in_bins = 0;
	bool before_free = false;

	list_each(it, &s->all) {
		const struct slot *t = container_of(it, struct slot, by_offset);

		check(t->offset == at); /* (I1) */
		check(t->len > 0);
		check(!(before_free && t->free)); /* (I2) */
		check(t->free == !list_empty(&t->by_size)); /* (I3) */
		before_free = t->free;
		free_bytes += t->free ? t->len : 0;
		at += t->len;
	}
	check(at == s->len);
	check(free_bytes == s->free_bytes);
	for (unsigned bin = 0; bin < SLOT_BINS; bin++) {
		check(list_empty(&s->bins[bin]) != (s->full[bin / 64] >> (bin % 64) & 1)); /* I4 */
		list_each(it, &s->bins[bin]) {
			const struct slot *t = container_of(it, struct slot, by_size);

			check(bin_of(t->len) == bin); /* (I3) */
			in_bins += t->len;
		}
	}
	check(in_bins == free_bytes);
}
