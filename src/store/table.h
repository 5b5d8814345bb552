/* SPDX-License-Identifier: Apache-2.0 */
/* table.h: things by a pair of numbers.  Intrusive: the node lies in the thing, the table owns only
 * its buckets.  Seeded, so that a peer that chooses ids cannot choose collisions. */
#ifndef STORE_TABLE_H
#define STORE_TABLE_H
#include "base/list.h"
#include <stdint.h>

struct table_node {
	struct table_node *next;
	uint64_t a, b;
};

struct table {
	struct table_node **buckets;
	size_t n, cap; /* cap: a power of two */
	uint64_t seed;
};

int table_init(struct table *t, uint64_t seed); /* E_NOMEM */
void table_fini(struct table *t);               /* the things stay their owners' */
struct table_node *table_get(const struct table *t, uint64_t a, uint64_t b); /* NULL: not there */
/* (a, b) is not there yet.  Never fails: without memory to grow it becomes slower. */
void table_put(struct table *t, struct table_node *node, uint64_t a, uint64_t b);
void table_remove(struct table *t, struct table_node *node); /* is there */
/* Walk: NULL begins; the next node, NULL at the end.  The table must not change meanwhile. */
struct table_node *table_next(const struct table *t, const struct table_node *node);
/* Any node, for emptying; NULL when there is none. */
struct table_node *table_any(const struct table *t);
#endif
