/* SPDX-License-Identifier: Apache-2.0 */
/* heap.h: what happens next in a simulated world: events ordered by time, and among equals by the
 * order in which they were put.  An event is embedded in what it belongs to, so putting one
 * allocates nothing, and moving or dropping one needs no search. */
#ifndef SYS_SIM_HEAP_H
#define SYS_SIM_HEAP_H
#include <stdbool.h>
#include <stdint.h>

struct event {
	void (*fire)(struct event *e); /* called once the event was taken out */
	uint32_t at;                   /* place in the heap, counted from 1; 0: not in it */
};

struct heap_slot {
	uint64_t due_ns, seq;
	struct event *event;
};
struct heap {
	struct heap_slot *slots;
	uint32_t n, room;
	uint64_t seq;
};

void heap_init(struct heap *h);
void heap_free(struct heap *h);                                  /* no event may be left */
void heap_put(struct heap *h, struct event *e, uint64_t due_ns); /* moves one that is already in */
void heap_drop(struct heap *h, struct event *e);                 /* not in it: fine */
struct event *heap_pop(struct heap *h);                          /* NULL when empty */
static inline bool event_queued(const struct event *e)
{
	return e->at != 0;
}
static inline uint64_t heap_due_ns(const struct heap *h)
{
	return h->n == 0 ? UINT64_MAX : h->slots[0].due_ns;
}
#endif
