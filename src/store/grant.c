/* SPDX-License-Identifier: Apache-2.0 */
/* Grants and fences: ids are used once, credit is spent once, and what was dropped before it came
 * does not come (I2).
 *
 *   first use ----> open: one bit for each id ----> all ids used ----> a fence on the first id
 *
 * A fence lasts as long as a capability can.  There are at most FENCES_MAX; then the oldest goes,
 * and a request delayed for that long may leave bytes that no file names: the shard's sweep finds
 * them.  A restart forgets them all, and takes no capability from before. */
#include "store/own.h"
#include <stdlib.h>

#define ULL(v) ((unsigned long long)(v))

/* ---- fences ---- */
static void fence_end(struct store *st, struct fence *f)
{
	table_remove(&st->fences, &f->node);
	list_remove(&f->link);
	free(f);
}

static void fences_expire(struct store *st, uint64_t now_ns)
{
	struct fence *f;

	while (!list_empty(&st->fences_old_first)) {
		f = container_of(st->fences_old_first.next, struct fence, link);
		if (f->until_ns > now_ns && st->fences.n < FENCES_MAX)
			return;
		fence_end(st, f);
	}
}

void fence_put(struct store *st, uint64_t egroup, uint64_t extent)
{
	uint64_t now_ns = loop_now_ns(sys_loop(st->sys));
	struct table_node *n;
	struct fence *f;

	fences_expire(st, now_ns);
	n = table_get(&st->fences, egroup, extent);
	if (n != NULL)
		return;
	f = calloc(1, sizeof *f);
	if (f == NULL) /* the shard's own account is right without it */
		return;
	/* No capability that opens the way lives longer. */
	f->until_ns = now_ns + CAP_LIFE_MS * SYS_MS;
	table_put(&st->fences, &f->node, egroup, extent);
	list_push(&st->fences_old_first, &f->link);
}

/* ---- grants ---- */
struct grant *grant_of(struct egroup *g, uint64_t id)
{
	list_each(it, &g->grants) {
		struct grant *t = container_of(it, struct grant, link);

		if (id >= t->first && id - t->first < t->count)
			return t;
	}
	return NULL;
}

static uint64_t grant_bit(const struct grant *t, uint64_t id)
{
	check(id - t->first < 64);
	return UINT64_C(1) << (id - t->first);
}

static void grant_forget(struct egroup *g, struct grant *t)
{
	check(t->n_writing == 0);
	list_remove(&t->link);
	g->n_grants--;
	free(t);
}

static void grant_settle(struct egroup *g, struct grant *t)
{
	uint64_t all = t->count == 64 ? ~UINT64_C(0) : (UINT64_C(1) << t->count) - 1;

	if (t->n_writing > 0 || t->used != all || g->dropped)
		return;
	fence_put(g->device->store, g->id, t->first);
	grant_forget(g, t);
}

/* Room for one more: the oldest that nobody writes under is forgotten. */
static void grant_evict(struct egroup *g)
{
	for (struct list *it = g->grants.prev; it != &g->grants; it = it->prev) {
		struct grant *t = container_of(it, struct grant, link);

		if (t->n_writing == 0) {
			grant_forget(g, t);
			return;
		}
	}
}

int grant_take(struct egroup *g, const struct extent_ask *a, struct grant **ret_t,
	struct err_note *note)
{
	struct grant *t = grant_of(g, a->extent);

	if (t != NULL) {
		if (t->first != a->first || t->count != a->count)
			return err_set(note, E_INVALID, "extent %llu is of another grant",
				ULL(a->extent));
		if (t->credit_bytes < a->credit_bytes) /* a renewed capability may bring more */
			t->credit_bytes = a->credit_bytes;
		*ret_t = t;
		return 0;
	}
	if (g->n_grants >= GRANTS_MAX)
		grant_evict(g);
	t = calloc(1, sizeof *t);
	if (t == NULL)
		return err_set(note, E_NOMEM, "a grant of egroup %llu", ULL(g->id));
	t->first = a->first;
	t->count = a->count;
	t->credit_bytes = a->credit_bytes;
	list_add_before(g->grants.next, &t->link);
	g->n_grants++;
	*ret_t = t;
	return 0;
}

/* The extent is not being written any more. */
void grant_left(struct extent *e)
{
	struct grant *t = e->grant;

	if (t == NULL)
		return;
	check(t->n_writing > 0);
	t->n_writing--;
	e->grant = NULL;
	grant_settle(e->egroup, t);
}

bool grant_used(const struct grant *t, uint64_t id) { return (t->used & grant_bit(t, id)) != 0; }

void grant_begin(struct extent *e, struct grant *t)
{
	check(e->grant == NULL);
	check(!grant_used(t, e->id));
	t->used |= grant_bit(t, e->id);
	t->spent_bytes += e->room;
	check(t->spent_bytes <= t->credit_bytes);
	t->n_writing++;
	e->grant = t;
}

void grant_return(struct extent *e)
{
	struct grant *t = e->grant;

	check(t != NULL);
	check(t->spent_bytes >= e->room);
	t->used &= ~grant_bit(t, e->id);
	t->spent_bytes -= e->room;
}

void grant_use(struct egroup *g, struct grant *t, uint64_t id)
{
	t->used |= grant_bit(t, id);
	grant_settle(g, t);
}

void grants_end(struct egroup *g)
{
	list_each_safe(it, &g->grants)
		grant_forget(g, container_of(it, struct grant, link));
}

bool fence_has(const struct store *st, uint64_t egroup, uint64_t extent)
{
	return table_get(&st->fences, egroup, extent) != NULL;
}

void fences_end(struct store *st)
{
	while (!list_empty(&st->fences_old_first))
		fence_end(st, container_of(st->fences_old_first.next, struct fence, link));
}
