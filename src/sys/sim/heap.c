/* SPDX-License-Identifier: Apache-2.0 */
/* A binary heap of slots that know their event.
 * (I1) slots[i].event->at == i + 1 for every slot.
 * (I2) no slot comes before its parent. */
#include "sys/sim/heap.h"
#include "base/check.h"
#include <stdlib.h>

enum { ROOM_FIRST = 64 };

static bool before(const struct heap_slot *a, const struct heap_slot *b)
{
	return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->seq < b->seq;
}

static void place(struct heap *h, uint32_t i, struct heap_slot s)
{
	h->slots[i] = s;
	s.event->at = i + 1;
}

static void sift(struct heap *h, uint32_t i, struct heap_slot s)
{
	while (i > 0 && before(&s, &h->slots[(i - 1) / 2])) {
		place(h, i, h->slots[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	for (uint32_t kid = 2 * i + 1; kid < h->n; kid = 2 * i + 1) {
		if (kid + 1 < h->n && before(&h->slots[kid + 1], &h->slots[kid]))
			kid++;
		if (before(&s, &h->slots[kid]))
			break;
		place(h, i, h->slots[kid]);
		i = kid;
	}
	place(h, i, s);
}

void heap_init(struct heap *h)
{
	*h = (struct heap){ 0 };
}

void heap_free(struct heap *h)
{
	check(h->n == 0);
	free(h->slots);
	heap_init(h);
}

void heap_put(struct heap *h, struct event *e, uint64_t due_ns)
{
	struct heap_slot s = { due_ns, h->seq++, e };
	uint32_t i = e->at;

	check(e->fire != NULL);
	if (i == 0) {
		if (h->n == h->room) {
			h->room = h->room == 0 ? ROOM_FIRST : 2 * h->room;
			h->slots = realloc(h->slots, h->room * sizeof *h->slots);
			check(h->slots != NULL);
		}
		i = ++h->n;
	} else {
		check(h->slots[i - 1].event == e); /* (I1) */
	}
	sift(h, i - 1, s);
}

void heap_drop(struct heap *h, struct event *e)
{
	uint32_t i = e->at;

	if (i == 0)
		return;
	check(i <= h->n);
	check(h->slots[i - 1].event == e); /* (I1) */
	e->at = 0;
	h->n--;
	if (i - 1 < h->n)
		sift(h, i - 1, h->slots[h->n]);
}

struct event *heap_pop(struct heap *h)
{
	struct event *e;

	if (h->n == 0)
		return NULL;
	e = h->slots[0].event;
	heap_drop(h, e);
	return e;
}
