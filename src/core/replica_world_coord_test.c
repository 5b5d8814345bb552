/* SPDX-License-Identifier: Apache-2.0 */
/* A linearizable store of one value.  Requests and answers may be lost; what its asker has given up
 * may happen later. */
#include "core/replica_world_test.h"
#include <stdlib.h>

enum { COORD_DEADLINE_MS = 60, COORD_LATE_MS = 1500 };

static uint64_t trip_ns(struct world *w)
{
	return 100000 + prng_below(&w->store, 600000);
}

void coord_ask(struct world *w, uint32_t i, const struct replica_do *d)
{
	struct coord_op *o = calloc(1, sizeof *o);
	struct event *e;
	uint64_t delay = trip_ns(w);
	bool late = prng_odds(&w->store, w->healed ? 0 : w->coord_late_permille, 1000);
	bool lost = prng_odds(&w->store, w->healed ? 0 : w->coord_loss_permille, 1000);
	uint64_t more = prng_below(&w->store, COORD_LATE_MS * MS);

	world_say(w, "%u asks coord: op %llu, %s %llu, epoch %llu set %u: %llu %llu %llu%s%s", i,
		(unsigned long long)d->op, d->kind == REPLICA_DO_SWAP ? "swap at" : "read",
		(unsigned long long)d->expected, (unsigned long long)d->config.epoch,
		d->config.in_sync.n, (unsigned long long)d->config.in_sync.ids[0],
		(unsigned long long)d->config.in_sync.ids[1],
		(unsigned long long)d->config.in_sync.ids[2], late ? " late" : "",
		lost ? " lost" : "");
	if (prng_odds(&w->fault, w->healed || d->kind != REPLICA_DO_SWAP ? 0 : w->odds[16], 100))
		world_sudden(w, i, 3);
	w->nodes[i].op = d->op;
	w->nodes[i].op_open = true;
	o->swap = d->kind == REPLICA_DO_SWAP;
	o->op = d->op;
	o->expected = d->expected;
	o->late = late && more > COORD_DEADLINE_MS * MS;
	o->config = d->config;
	e = world_at(w, COORD_DEADLINE_MS * MS, EV_COORD_DEADLINE, i);
	e->n = d->op;
	if (lost || (w->coord_down_until_ns > w->now_ns && !late)) {
		free(o);
		return;
	}
	e = world_at(w, late ? delay + more : delay, EV_COORD_ARRIVES, i);
	e->coord = o;
}

static void apply(struct world *w, struct coord_op *o)
{
	o->outcome = REPLICA_THERE;
	if (o->swap && w->coord.revision == o->expected) {
		struct replica_config from = w->coord;

		w->coord = o->config;
		w->coord.revision = from.revision + 1;
		w->swapped_at_ns = w->now_ns;
		o->outcome = REPLICA_SWAPPED;
		w->reached[REACHED_LATE_SWAP] += o->late;
		world_say(w, "coord: revision %llu epoch %llu primary %llu set %u: %llu %llu %llu",
			(unsigned long long)w->coord.revision, (unsigned long long)w->coord.epoch,
			(unsigned long long)w->coord.primary.id, w->coord.in_sync.n,
			(unsigned long long)w->coord.in_sync.ids[0],
			(unsigned long long)w->coord.in_sync.ids[1],
			(unsigned long long)w->coord.in_sync.ids[2]);
		judge_swap(w, &from, &w->coord);
	} else if (o->swap) {
		o->outcome = REPLICA_CONFLICT;
	}
	o->config = w->coord;
}

void coord_event(struct world *w, const struct event *e)
{
	struct node *n = &w->nodes[e->node];
	struct replica_event ev = { .kind = REPLICA_EV_COORD };
	struct event *next;
	uint64_t delay;
	bool lost;

	if (e->kind == EV_COORD_ARRIVES) {
		apply(w, e->coord);
		delay = trip_ns(w);
		lost = prng_odds(&w->store, w->healed ? 0 : w->coord_loss_permille, 1000);
		if (lost) {
			free(e->coord);
			return;
		}
		next = world_at(w, delay, EV_COORD_ANSWERS, e->node);
		next->life = e->life;
		next->coord = e->coord;
		return;
	}
	ev.coord.op = e->n;
	ev.coord.outcome = REPLICA_UNANSWERED;
	if (e->kind == EV_COORD_ANSWERS) {
		ev.coord.op = e->coord->op;
		ev.coord.outcome = e->coord->outcome;
		ev.coord.config = e->coord->config;
		free(e->coord);
	}
	if (!n->up || e->life != n->life || !n->op_open || n->op != ev.coord.op)
		return;
	n->op_open = false;
	w->reached[REACHED_NO_ANSWER] += n->r.swapping && ev.coord.outcome == REPLICA_UNANSWERED &&
					 n->r.state.now == REPLICA_PRIMARY;
	node_step(w, e->node, &ev);
}
