/* SPDX-License-Identifier: Apache-2.0 */
/* list.h: intrusive doubly linked list with a sentinel.  A node is in at most one list; a removed
 * node links to itself, so removing twice is harmless. */
#ifndef BASE_LIST_H
#define BASE_LIST_H
#include <stdbool.h>
#include <stddef.h>

struct list { struct list *next, *prev; };

#define container_of(p, type, field) ((type *)(void *)((char *)(p) - offsetof(type, field)))

static inline void list_init(struct list *l) { l->next = l->prev = l; }
static inline bool list_empty(const struct list *l) { return l->next == l; }

static inline void list_add_before(struct list *at, struct list *n)
{
	n->next = at;
	n->prev = at->prev;
	at->prev->next = n;
	at->prev = n;
}

/* at the tail */
static inline void list_push(struct list *l, struct list *n) { list_add_before(l, n); }

static inline void list_remove(struct list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	n->next = n->prev = n;
}

static inline struct list *list_pop(struct list *l) /* from head, NULL when empty */
{
	struct list *n = l->next;

	if (n == l)
		return NULL;
	list_remove(n);
	return n;
}

#define list_each(it, l) for (struct list *it = (l)->next; it != (l); it = it->next)
#define list_each_safe(it, l) \
	for (struct list *it = (l)->next, *it##_next = it->next; it != (l); \
		it = it##_next, it##_next = it->next)
#endif
