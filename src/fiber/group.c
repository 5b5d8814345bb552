/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"
#include "base/err.h"
#include "fiber/own.h"

void group_init(struct group *g, struct loop *l)
{
	check(l != NULL);
	*g = (struct group){ .loop = l };
	list_init(&g->kids);
}

void group_cancel(struct group *g)
{
	g->canceled = true;
	list_each (at, &g->kids)
		fiber_cancel(container_of(at, struct fiber, kin));
}

void group_ended(struct group *g, struct fiber *f, int rc)
{
	check(g->n_live > 0);
	list_remove(&f->kin);
	g->n_live--;
	if (rc < 0 && !g->keep_going && g->rc == 0) {
		g->rc = rc;
		group_cancel(g);
	}
	if (g->n_live == 0 && g->waiter != NULL) {
		check(g->waiter->waits_for == g);
		loop_queue(g->waiter);
		g->waiter = NULL;
	}
}

int group_wait(struct group *g)
{
	struct fiber *f = loop_running();

	check(g->waiter == NULL);
	check(g->loop == f->loop);
	check(f->group != g);
	if (g->n_live == 0)
		return g->rc;
	if (f->canceled && !fiber_shielded(f))
		group_cancel(g);
	/* Not fiber_park(): cancelling this fiber cancels the children, and it still waits for
	 * them. */
	g->waiter = f;
	f->waits_for = g;
	fiber_park_as(f, FOREVER);
	f->waits_for = NULL;
	check(g->n_live == 0);
	check(list_empty(&g->kids));
	if (g->rc == 0 && f->canceled && !fiber_shielded(f))
		return E_CANCELED;
	return g->rc;
}
