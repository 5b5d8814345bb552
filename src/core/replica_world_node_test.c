/* SPDX-License-Identifier: Apache-2.0 */
/* A driver of struct replica: its log, its disk, its clock, and what it sends. */
#include "base/check.h"
#include "core/replica_world_test.h"
#include <stdlib.h>
#include <string.h>

static void carry_out(struct world *w, uint32_t i, const struct replica_todo *t);

static bool log_at(void *arg, uint64_t index, struct replica_place *ret_place)
{
	const struct node *n = arg;

	if (index < n->base || index > n->last)
		return false;
	*ret_place = n->log[index];
	return true;
}

uint64_t node_now(const struct world *w, uint32_t i)
{
	const struct node *n = &w->nodes[i];

	return n->offset_ns +
	       (uint64_t)((int64_t)w->now_ns + (int64_t)w->now_ns * n->drift_ppm / 1000000);
}

/* Sending to one that is behind waits. */
static bool rests(const struct replica *r)
{
	for (uint32_t i = 0; i < r->n_peers; i++)
		if (r->peers[i].rest_until_ns > r->now_ns)
			return true;
	return false;
}

void node_step(struct world *w, uint32_t i, struct replica_event *ev)
{
	struct node *n = &w->nodes[i];

	check(n->up);
	ev->now_ns = node_now(w, i);
	carry_out(w, i, replica_step(&n->r, ev));
	w->reached[REACHED_REST] += rests(&n->r);
}

/* ---- the disk ---- */
static struct replica_place place_after(const struct node *n, uint32_t ops)
{
	return ops == 0 ? (struct replica_place){ 0 } : n->ops[ops - 1].place;
}

static void add_op(struct world *w, struct node *n, int kind, struct replica_place place)
{
	if (n->n_ops == OPS_MAX || place.index + 1 >= RECORDS_MAX)
		world_broken(w, "the log of the test is full");
	n->ops[n->n_ops++] = (struct op){ kind, place, n->r.cuts };
	if (kind == OP_RESET)
		n->base = place.index;
	n->log[place.index] = place;
	n->last = place.index;
}

static uint64_t disk_ns(struct world *w, const struct node *n, uint64_t typical_us)
{
	uint64_t slow = n->slow_until_ns > w->now_ns ? 100 : 1;
	uint64_t us = prng_below(&w->disk, 2 * typical_us);

	return (us + 1) * 1000 * slow;
}

static void kick(struct world *w, uint32_t i)
{
	struct node *n = &w->nodes[i];
	struct event *e;
	uint64_t delay;

	if (!n->writing && n->written_ops < n->n_ops) {
		delay = disk_ns(w, n, w->writes_us);
		e = world_at(w, delay, EV_WROTE, i);
		e->n = n->n_ops;
		n->writing = true;
	}
	if (!n->syncing && n->synced_ops < n->written_ops) {
		delay = prng_below(&w->disk, 25);
		world_at(w, delay * MS, EV_SYNC, i);
		n->syncing = true;
	}
}

static void disk_event(struct world *w, const struct event *e)
{
	struct node *n = &w->nodes[e->node];
	struct replica_event ev = { .kind = REPLICA_EV_WRITTEN };
	uint64_t delay;

	if (e->kind == EV_SYNC) { /* it covers what is written now */
		delay = disk_ns(w, n, 1500);
		world_at(w, delay, EV_SYNCED, e->node)->n = n->written_ops;
		return;
	}
	if (e->kind == EV_WROTE) {
		n->writing = false;
		n->written_ops = (uint32_t)(e->n > n->written_ops ? e->n : n->written_ops);
	} else {
		ev.kind = REPLICA_EV_SYNCED;
		n->syncing = false;
		n->synced_ops = (uint32_t)(e->n > n->synced_ops ? e->n : n->synced_ops);
	}
	ev.log.place = place_after(n, (uint32_t)e->n);
	ev.log.cuts = e->n == 0 ? 0 : n->ops[e->n - 1].cuts;
	kick(w, e->node);
	node_step(w, e->node, &ev);
}

static void replay(struct node *n, uint32_t ops)
{
	n->base = n->last = 0;
	n->log[0] = (struct replica_place){ 0 };
	for (uint32_t k = 0; k < ops; k++) {
		if (n->ops[k].kind == OP_RESET)
			n->base = n->ops[k].place.index;
		n->log[n->ops[k].place.index] = n->ops[k].place;
		n->last = n->ops[k].place.index;
	}
	n->n_ops = ops;
	n->written_ops = n->written_ops < ops ? n->written_ops : ops;
}

/* A process that dies leaves what is written, and some of what was under way; a host that does,
 * what is synced, and some of the rest. */
void node_crash(struct world *w, uint32_t i, bool power)
{
	struct node *n = &w->nodes[i];
	uint32_t low = power ? n->synced_ops : n->written_ops;
	uint32_t high = n->n_ops, keep;
	uint64_t how = prng_below(&w->disk, 3);
	uint64_t some = prng_below(&w->disk, high - low + 1);

	keep = how == 0 ? low : how == 1 ? high : low + (uint32_t)some;
	for (uint32_t k = keep; power && k < n->written_ops; k++) {
		uint64_t from = n->ops[k].place.index + (n->ops[k].kind != OP_APPEND);

		n->lost_from = from < n->lost_from ? from : n->lost_from;
	}
	world_say(w, "%u %s: keeps %u of %u (written %u, synced %u)", i,
		power ? "power cut" : "kill", keep, n->n_ops, n->written_ops, n->synced_ops);
	replay(n, keep);
	n->written_ops = keep;
	if (power) {
		n->synced_ops = keep;
		n->boot = ++w->next_boot;
	}
	if (n->tree > n->last)
		n->tree = n->last;
	n->up = n->writing = n->syncing = false;
	n->life++;
}

/* What is behind a bad record cannot be trusted either. */
static void rot(struct world *w, struct node *n)
{
	uint64_t first = n->tree > n->base ? n->tree : n->base;

	n->last = first + prng_below(&w->fault, n->last - first + 1);
	n->rotten = true;
	w->reached[REACHED_ROT]++;
	n->n_ops = 0;
	for (uint64_t k = n->base; k <= n->last; k++)
		n->ops[n->n_ops++] = (struct op){ k == n->base ? OP_RESET : OP_APPEND, n->log[k],
			0 };
	n->written_ops = n->synced_ops = n->n_ops;
}

static bool others_hold_all(struct world *w, uint32_t i)
{
	for (uint32_t k = 0; k < w->coord.in_sync.n; k++) {
		uint32_t m = world_node_of(w, w->coord.in_sync.ids[k]);

		if (m != i && m < NODES_MAX && !w->nodes[m].rotten &&
			judge_agrees(w, m) == w->acked)
			return true;
	}
	return false;
}

void node_wipe(struct world *w, uint32_t i)
{
	struct node *n = &w->nodes[i];

	if (!others_hold_all(w, i))
		return;
	node_crash(w, i, true);
	world_say(w, "%u wiped", i);
	n->id = ++w->next_id;
	n->mark = (struct replica_mark){ 0 };
	n->synced_ops = n->written_ops = 0;
	replay(n, 0);
	n->tree = 0;
	n->rotten = false;
	n->lost_from = UINT64_MAX;
}

void node_rot(struct world *w, uint32_t i)
{
	struct replica_event ev = { .kind = REPLICA_EV_ROT };

	if (!others_hold_all(w, i))
		return;
	ev.incarnation = ++w->nodes[i].incarnation;
	node_step(w, i, &ev);
	w->nodes[i].rotten = w->nodes[i].r.rotten; /* alone it goes on */
}

void node_begin(struct world *w, uint32_t i)
{
	struct node *n = &w->nodes[i];
	uint64_t drift;

	n->up = n->rotten = n->writing = n->syncing = n->op_open = false;
	n->life = 0;
	n->id = ++w->next_id;
	n->incarnation = 0;
	n->boot = ++w->next_boot;
	n->mark = (struct replica_mark){ 0 };
	n->written_ops = n->synced_ops = 0;
	n->tree = n->paused_until_ns = n->slow_until_ns = n->server_epoch = n->read_ns = 0;
	n->lost_from = UINT64_MAX;
	replay(n, 0);
	drift = prng_below(&w->clock, 2 * replica_limits_default.drift_ppm + 1);
	n->drift_ppm = (int64_t)drift - replica_limits_default.drift_ppm;
	n->offset_ns = prng_below(&w->clock, 1000) * SEC;
}

void node_peers(struct world *w)
{
	for (uint32_t i = 0; i < w->n_nodes; i++) {
		uint64_t ids[NODES_MAX];
		uint32_t n = 0;

		for (uint32_t k = 0; k < w->n_nodes; k++)
			if (k != i)
				ids[n++] = w->nodes[k].id;
		if (w->nodes[i].up)
			replica_peers(&w->nodes[i].r, ids, n);
	}
}

void node_start(struct world *w, uint32_t i)
{
	struct node *n = &w->nodes[i];
	struct replica_event ev = { .kind = REPLICA_EV_START };
	bool rots = prng_odds(&w->fault, w->healed ? 0 : w->odds[15], 100);

	if (rots && n->id == w->nodes[i].id && w->coord.in_sync.n > 1 && others_hold_all(w, i))
		rot(w, n);
	for (uint32_t k = 0; k < n->n_ops; k++)
		n->ops[k].cuts = 0; /* of a former life */
	replica_init(&n->r, NULL, &(struct replica_log){ log_at, n });
	n->up = true;
	n->op_open = false;
	n->read_ns = n->server_epoch = 0;
	n->paused_until_ns = 0;
	ev.start = (struct replica_start){ .self = { n->id, ++n->incarnation },
		.boot = n->boot,
		.mark = n->mark,
		.last = n->log[n->last],
		.synced = place_after(n, n->synced_ops).index,
		.commit = n->tree,
		.rotten = n->rotten };
	if (ev.start.synced > n->last)
		ev.start.synced = n->tree; /* a cut behind it is not synced yet */
	world_say(w, "%u starts as %llu.%llu, last %llu, tree %llu%s", i, (unsigned long long)n->id,
		(unsigned long long)n->incarnation, (unsigned long long)n->last,
		(unsigned long long)n->tree, n->rotten ? ", rotten" : "");
	node_peers(w);
	node_step(w, i, &ev);
	world_at(w, prng_below(&w->clock, 8 * MS), EV_TICK, i);
	kick(w, i);
}

/* ---- what a replica decides ---- */
static struct packet *packet_new(struct world *w, const struct replica_msg *m, uint32_t n)
{
	uint32_t large = n > 2;
	struct packet *p = w->free_packets[large];

	if (p != NULL) {
		w->free_packets[large] = p->next;
	} else {
		uint32_t cap = large ? REPLICA_BATCH_MAX : 2;

		p = malloc(sizeof *p + cap * sizeof p->places[0]);
		check(p != NULL);
		p->cap = cap;
	}
	p->msg = *m;
	p->next = NULL;
	return p;
}

static void transmit(struct world *w, uint32_t i, const struct replica_msg *m)
{
	uint32_t to = world_node_of(w, m->to.id), copies;
	struct node *n = &w->nodes[i];
	uint32_t count = m->kind == REPLICA_APPEND ? m->n : 0;
	bool lost = prng_odds(&w->net, w->healed ? 0 : w->loss_permille, 1000);
	bool twice = prng_odds(&w->net, w->healed ? 0 : w->double_permille, 1000);

	w->reached[REACHED_HANDOVER] += m->kind == REPLICA_HANDOVER;
	w->reached[REACHED_QUERY] += m->kind == REPLICA_QUERY;
	if (w->verbose)
		world_say(w,
			"%u > %u kind %d epoch %llu prev %llu n %u commit %llu whole %llu "
			"matched %llu written %llu last %llu flags %x",
			i, to, m->kind, (unsigned long long)m->epoch,
			(unsigned long long)m->prev.index, m->n, (unsigned long long)m->commit,
			(unsigned long long)m->whole, (unsigned long long)m->matched,
			(unsigned long long)m->written, (unsigned long long)m->last.index,
			m->flags);
	if (to == NODES_MAX || lost || w->cut[i][to])
		return;
	copies = twice ? 2 : 1;
	for (uint32_t c = 0; c < copies; c++) {
		struct packet *p = packet_new(w, m, count);
		uint64_t us = prng_below(&w->net, w->delay_us);
		bool late = prng_odds(&w->net, w->healed ? 0 : w->double_permille, 4000);
		struct event *e = world_at(
			w, (50 + us) * 1000 + (late ? 300 * MS : 0), EV_DELIVER, to);

		for (uint32_t k = 0; k < count; k++) {
			check(log_at(n, m->prev.index + 1 + k, &p->places[k]));
		}
		p->msg.places = p->places;
		e->packet = p;
		e->peer = i;
	}
}

static void append_own(struct world *w, uint32_t i, bool want_sync)
{
	struct node *n = &w->nodes[i];
	struct replica_event ev = { .kind = REPLICA_EV_APPENDED };
	struct replica_place p = n->log[n->last];
	uint64_t mix = p.chain ^ (p.index << 40) ^ (n->r.mark.epoch << 20) ^ ++w->next_value;

	p.index++;
	p.epoch = n->r.mark.epoch;
	p.chain = prng_mix(&mix);
	add_op(w, n, OP_APPEND, p);
	kick(w, i);
	ev.log.place = p;
	ev.log.want_synced = want_sync ? p.index : 0;
	node_step(w, i, &ev);
}

static void send_copy(struct world *w, uint32_t i, uint64_t to_id)
{
	struct node *n = &w->nodes[i];
	uint32_t to = world_node_of(w, to_id);
	uint64_t ms = 5 + prng_below(&w->net, 200);
	bool gives_up = prng_odds(&w->net, w->healed ? 0 : 1, 4);
	struct event *e = world_at(w, ms * MS, EV_COPIED, i);

	e->peer = to;
	e->peer_life = to < NODES_MAX ? w->nodes[to].life : 0;
	e->place = n->log[n->tree];
	e->epoch = n->r.mark.epoch;
	e->n = to_id;
	if (gives_up) { /* its sender does not know how it ends */
		e->early = true;
		e = world_at(w, ms * MS / 2, EV_COPY_SENT, i);
		e->n = to_id;
	}
}

static void copied(struct world *w, const struct event *e)
{
	struct node *p = e->peer < NODES_MAX ? &w->nodes[e->peer] : NULL;
	struct replica_event got = { .kind = REPLICA_EV_COPIED };
	struct replica_event sent = { .kind = REPLICA_EV_COPY_SENT };

	if (p != NULL && p->up && p->life == e->peer_life && !w->cut[e->node][e->peer] &&
		replica_may_copy(&p->r, e->epoch)) {
		got.log.place = e->place;
		got.log.epoch = e->epoch;
		node_step(w, e->peer, &got);
	}
	sent.peer = e->n;
	if (!e->early)
		node_step(w, e->node, &sent);
}

static void install(struct world *w, uint32_t i, struct replica_place place)
{
	struct node *n = &w->nodes[i];

	judge_install(w, i, place);
	add_op(w, n, OP_RESET, place);
	n->written_ops = n->synced_ops = n->n_ops;
	n->tree = place.index;
	n->rotten = false;
	n->lost_from = UINT64_MAX;
}

static void take_records(struct world *w, uint32_t i, uint64_t index, const struct replica_msg *m)
{
	check(m != NULL);
	for (uint32_t k = 0; k < m->n; k++)
		if (m->places[k].index >= index)
			add_op(w, &w->nodes[i], OP_APPEND, m->places[k]);
}

static void carry_out(struct world *w, uint32_t i, const struct replica_todo *t)
{
	struct node *n = &w->nodes[i];
	bool begin = false;

	for (uint32_t k = 0; k < t->n; k++) {
		const struct replica_do *d = &t->items[k];

		switch (d->kind) {
		case REPLICA_DO_MARK: {
			uint64_t delay = disk_ns(w, n, 1000);

			world_at(w, delay, EV_MARKED, i)->mark = d->mark;
			break;
		}
		case REPLICA_DO_READ:
		case REPLICA_DO_SWAP:
			coord_ask(w, i, d);
			break;
		case REPLICA_DO_SEND:
			transmit(w, i, &d->msg);
			break;
		case REPLICA_DO_BEGIN:
			judge_begin(w, i);
			if (prng_odds(&w->fault, w->healed ? 0 : w->odds[17], 100))
				world_sudden(w, (i + (uint32_t)n->incarnation) % w->n_nodes, 10);
			begin = true;
			break;
		case REPLICA_DO_WRITE:
			take_records(w, i, d->index, n->handling);
			break;
		case REPLICA_DO_CUT:
			judge_cut(w, i, d->index);
			add_op(w, n, OP_CUT, n->log[d->index]);
			break;
		case REPLICA_DO_COMMIT:
			judge_commit(w, i, d);
			break;
		case REPLICA_DO_COPY:
			send_copy(w, i, d->index);
			break;
		case REPLICA_DO_INSTALL:
			install(w, i, d->place);
			break;
		case REPLICA_DO_REPORT:
			if (d->report == REPLICA_SAYS_TWO_RECORDS)
				world_broken(w, "R10: two records of one epoch and index");
			world_say(w, "%u reports %d: %llu..%llu", i, d->report,
				(unsigned long long)d->from, (unsigned long long)d->to);
			break;
		case REPLICA_DO_SYNC:
		case REPLICA_DO_SERVE:
		case REPLICA_DO_STOP:
		case REPLICA_DO_DROP:
			break;
		}
	}
	kick(w, i);
	if (begin)
		append_own(w, i, false);
}

/* ---- load ---- */
static void ask_server(struct world *w, uint32_t i)
{
	struct node *n = &w->nodes[i];
	uint64_t us = prng_below(&w->load, 20000);
	bool granting = replica_may_grant(&n->r, n->server_epoch);

	if (n->r.state.now == REPLICA_PRIMARY)
		world_at(w, us * 1000, granting ? EV_GRANT : EV_FENCE, i)->epoch = n->r.mark.epoch;
}

/* The storage server: it obeys no older epoch than it has acknowledged. */
static void server_event(struct world *w, const struct event *e)
{
	struct node *n = &w->nodes[e->node];

	if (e->kind == EV_FENCED) {
		if (n->up && n->life == e->life)
			n->server_epoch = e->epoch;
		return;
	}
	if (!replica_fence(&w->server_fence, e->epoch))
		return;
	if (e->kind == EV_GRANT) {
		judge_grant(w, e->epoch);
		return;
	}
	w->server_acked = e->epoch;
	world_at(w, 200000, EV_FENCED, e->node)->epoch = e->epoch;
}

static void reads(struct world *w, uint32_t i)
{
	struct node *n = &w->nodes[i];

	if (replica_may_read(&n->r, node_now(w, i))) {
		w->reached[REACHED_LEASED]++;
		judge_read(w, i, w->acked);
	}
	if (n->r.state.now != REPLICA_PRIMARY) {
		n->read_ns = 0;
	} else if (n->read_ns != 0 && replica_heard_ns(&n->r) >= n->read_ns &&
		   n->r.commit >= n->r.inherited) {
		w->reached[REACHED_ROUND]++;
		judge_read(w, i, n->read_least);
		n->read_ns = 0;
	} else if (n->read_ns == 0) {
		n->read_ns = node_now(w, i);
		n->read_least = w->acked;
	}
}

void node_load(struct world *w, uint32_t i)
{
	struct node *n = &w->nodes[i];
	uint64_t dice = prng_below(&w->load, 16);
	uint64_t floor;

	if (!n->up || n->paused_until_ns > w->now_ns)
		return;
	reads(w, i);
	if (replica_may_append(&n->r) && n->last < n->r.commit + 200)
		append_own(w, i, dice & 1);
	if (dice == 2)
		ask_server(w, i);
	if (dice == 3) { /* merge; sometimes the log is cut behind it */
		floor = n->r.synced < n->r.commit ? n->r.synced : n->r.commit;
		if (n->up && !n->rotten && floor > n->tree &&
			floor <= place_after(n, n->synced_ops).index)
			n->tree = floor;
	}
	if (dice == 4 && n->tree > n->base)
		n->base += prng_below(&w->load, n->tree - n->base + 1);
}

void node_event(struct world *w, const struct event *e)
{
	struct node *n = &w->nodes[e->node];
	struct replica_event ev = { .kind = REPLICA_EV_TICK };

	if (e->kind == EV_FENCE || e->kind == EV_FENCED || e->kind == EV_GRANT) {
		server_event(w, e);
		return;
	}
	if (!n->up || (e->life != n->life && e->kind != EV_DELIVER))
		return;
	switch (e->kind) {
	case EV_TICK:
		world_at(w, 5 * MS + prng_below(&w->clock, 5 * MS), EV_TICK, e->node);
		node_step(w, e->node, &ev);
		break;
	case EV_DELIVER:
		ev.kind = REPLICA_EV_MSG;
		ev.msg = e->packet->msg;
		n->handling = &e->packet->msg;
		node_step(w, e->node, &ev);
		n->handling = NULL;
		break;
	case EV_MARKED:
		n->mark = ev.mark = e->mark;
		ev.kind = REPLICA_EV_MARKED;
		node_step(w, e->node, &ev);
		break;
	case EV_COPIED:
		copied(w, e);
		break;
	case EV_COPY_SENT:
		ev.kind = REPLICA_EV_COPY_SENT;
		ev.peer = e->n;
		node_step(w, e->node, &ev);
		break;
	default:
		disk_event(w, e);
		break;
	}
}
