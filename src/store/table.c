/* SPDX-License-Identifier: Apache-2.0 */
#include "store/table.h"
#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include <stdlib.h>

enum { CAP_FIRST = 64 };

static size_t bucket(const struct table *t, uint64_t a, uint64_t b)
{
	const uint64_t pair[2] = { a, b };

	return (size_t)hash64(t->seed, pair, sizeof pair) & (t->cap - 1);
}

int table_init(struct table *t, uint64_t seed)
{
	*t = (struct table){ .cap = CAP_FIRST, .seed = seed };
	t->buckets = calloc(t->cap, sizeof *t->buckets);
	return t->buckets != NULL ? 0 : E_NOMEM;
}

void table_fini(struct table *t)
{
	free(t->buckets);
	*t = (struct table){ 0 };
}

struct table_node *table_get(const struct table *t, uint64_t a, uint64_t b)
{
	struct table_node *at = t->buckets[bucket(t, a, b)];

	while (at != NULL && (at->a != a || at->b != b))
		at = at->next;
	return at;
}

static void grow(struct table *t)
{
	struct table_node **old = t->buckets, *at;
	size_t cap = t->cap, to;

	t->buckets = calloc(cap * 2, sizeof *t->buckets);
	if (t->buckets == NULL) {
		t->buckets = old;
		return;
	}
	t->cap = cap * 2;
	for (size_t i = 0; i < cap; i++) {
		while ((at = old[i]) != NULL) {
			old[i] = at->next;
			to = bucket(t, at->a, at->b);
			at->next = t->buckets[to];
			t->buckets[to] = at;
		}
	}
	free(old);
}

void table_put(struct table *t, struct table_node *node, uint64_t a, uint64_t b)
{
	size_t to;

	check(table_get(t, a, b) == NULL);
	if (t->n >= t->cap)
		grow(t);
	to = bucket(t, a, b);
	*node = (struct table_node){ t->buckets[to], a, b };
	t->buckets[to] = node;
	t->n++;
}

void table_remove(struct table *t, struct table_node *node)
{
	struct table_node **at = &t->buckets[bucket(t, node->a, node->b)];

	while (*at != node) {
		check(*at != NULL);
		at = &(*at)->next;
	}
	*at = node->next;
	node->next = NULL;
	check(t->n > 0);
	t->n--;
}

static struct table_node *from(const struct table *t, size_t i)
{
	for (; i < t->cap; i++)
		if (t->buckets[i] != NULL)
			return t->buckets[i];
	return NULL;
}

struct table_node *table_next(const struct table *t, const struct table_node *node)
{
	if (node == NULL)
		return from(t, 0);
	return node->next != NULL ? node->next : from(t, bucket(t, node->a, node->b) + 1);
}

struct table_node *table_any(const struct table *t)
{
	return t->n > 0 ? from(t, 0) : NULL;
}
