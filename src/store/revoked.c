/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs whose capabilities are void because their epoch was raised, kept as long as a capability
 * lives.  There are at most LIMIT_REVOKED_MAX; when the oldest of them has to go, all capabilities
 * that were given until now are taken for void instead: whoever may, gets a new one. */
#include "store/own.h"
#include <stdlib.h>

struct revocation {
	struct table_node node;
	struct list link;
	uint64_t epoch, until_ns;
};

static void forget(struct store *st, struct revocation *v)
{
	table_remove(&st->revoked, &v->node);
	list_remove(&v->link);
	free(v);
}

static void void_all(struct store *st)
{
	sys_reached(st->sys, "all capabilities taken for revoked");
	st->revoked_all_ms = link_shard_ms(st) + CAP_LIFE_MS;
}

void revoked_lapse(struct store *st)
{
	uint64_t now_ns = loop_now_ns(sys_loop(st->sys));

	while (!list_empty(&st->revoked_old_first)) {
		struct revocation *v = container_of(st->revoked_old_first.next, struct revocation,
			link);

		if (v->until_ns > now_ns)
			return;
		forget(st, v);
	}
}

void revoked_put(struct store *st, uint64_t job, uint64_t epoch)
{
	uint64_t now_ns = loop_now_ns(sys_loop(st->sys));
	struct table_node *n = table_get(&st->revoked, job, 0);
	struct revocation *v;

	if (n != NULL) {
		v = container_of(n, struct revocation, node);
		list_remove(&v->link);
	} else {
		if (st->revoked.n >= LIMIT_REVOKED_MAX) {
			void_all(st);
			forget(st, container_of(st->revoked_old_first.next, struct revocation,
				link));
		}
		v = calloc(1, sizeof *v);
		if (v == NULL) {
			void_all(st);
			return;
		}
		table_put(&st->revoked, &v->node, job, 0);
	}
	v->epoch = epoch > v->epoch ? epoch : v->epoch;
	v->until_ns = now_ns + CAP_LIFE_MS * SYS_MS;
	list_push(&st->revoked_old_first, &v->link);
}

uint64_t revoked_epoch(const struct store *st, uint64_t job)
{
	struct table_node *n = table_get(&st->revoked, job, 0);

	return n != NULL ? container_of(n, struct revocation, node)->epoch : 0;
}

void revoked_end(struct store *st)
{
	while (!list_empty(&st->revoked_old_first))
		forget(st, container_of(st->revoked_old_first.next, struct revocation, link));
}
