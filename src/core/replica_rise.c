/* SPDX-License-Identifier: Apache-2.0 */
/* Taking over: suspicion, a linearizable read, one compare-and-swap (R2), and when every member may
 * have lost written records, first an answer from each (R9).
 *
 *   (T1) The swap expects the revision of a read that began after the suspicion.
 *   (T2) From before the swap until it is settled nothing of the old epoch is acknowledged (R8). */
#include "core/replica.h"
#include "core/replica_own.h"
#include <stddef.h>

static void leave_candidacy(struct replica *r)
{
	check(r->state.now == REPLICA_CANDIDATE);
	r->swapping = false;
	r->won = false;
	r->forced = false;
	r->heir = false;
	sm_move(&r->state, r->rotten ? REPLICA_ROTTEN : REPLICA_MEMBER);
	r->heard_ns = r->now_ns; /* the winner gets a full G */
}

static void stand(struct replica *r, const struct replica_config *to)
{
	check(r->op == 0);
	check(!r->swapping);
	check(to->primary.id == r->self.id);
	sm_move(&r->state, REPLICA_CANDIDATE);
	r->asking = false;
	r->heir = false;
	r->won = false;
	r->swapping = true;
	r->proposed = *to;
	replica_swap(r, to);
}

/* R2: a member of the set, with the old primary left out; R10: also over itself. */
static void stand_as_member(struct replica *r)
{
	struct replica_config to = r->config;

	check(replica_set_has(&r->config.in_sync, r->self.id));
	check(!r->rotten);
	to.epoch = most(r->config.epoch, replica_epoch(r)) + 1;
	to.primary = r->self;
	to.in_sync.n = 0;
	for (uint32_t i = 0; i < r->config.in_sync.n; i++) {
		uint64_t id = r->config.in_sync.ids[i];

		if (id == r->self.id || id != r->config.primary.id)
			to.in_sync.ids[to.in_sync.n++] = id;
	}
	stand(r, &to);
}

/* R13: alone, whatever the set was; only an operator asks for it. */
static void stand_forced(struct replica *r)
{
	struct replica_config to = r->config;

	check(r->forced);
	to.epoch = most(r->config.epoch, replica_epoch(r)) + 1;
	to.primary = r->self;
	to.in_sync = (struct replica_set){ .ids = { r->self.id }, .n = 1 };
	stand(r, &to);
}

static uint64_t patience_ns(const struct replica *r)
{
	uint64_t rank = 0;

	while (rank < r->config.in_sync.n && r->config.in_sync.ids[rank] != r->self.id)
		rank++;
	return replica_patience_ns(r, r->limits.guard_ns) + rank * r->limits.stagger_ns;
}

static bool suspects(const struct replica *r)
{
	return r->heir || r->now_ns - r->heard_ns >= patience_ns(r);
}

/* ---- R9: it may lack written records ---- */
static void ask(struct replica *r)
{
	for (uint32_t i = 0; i < r->config.in_sync.n; i++) {
		uint64_t id = r->config.in_sync.ids[i];
		const struct replica_peer *p = replica_peer(r, id);

		if (p != NULL && p->answer_round != r->round) {
			struct replica_msg *m = replica_send(r, REPLICA_QUERY, id);

			m->to.incarnation = 0;
			m->round = r->round;
		}
	}
}

static bool longer(struct replica_place a, uint64_t a_id, struct replica_place b, uint64_t b_id)
{
	if (a.epoch != b.epoch)
		return a.epoch > b.epoch;
	return a.index != b.index ? a.index > b.index : a_id < b_id;
}

/* When all have answered that they are in the same state, the longest valid log leads.  A later
 * epoch is longer: what was synced on every member is in each log, and of the rest this keeps the
 * most. */
static void count_answers(struct replica *r)
{
	bool first = true;

	for (uint32_t i = 0; i < r->config.in_sync.n; i++) {
		uint64_t id = r->config.in_sync.ids[i];
		const struct replica_peer *p = replica_peer(r, id);

		if (id == r->self.id)
			continue;
		if (p == NULL || p->answer_round != r->round)
			return;
		if (p->answer_flags & REPLICA_IS_ROTTEN)
			continue;
		if (p->answer_flags & REPLICA_SOUND ||
			longer(p->answer_last, id, r->last, r->self.id))
			first = false;
	}
	r->asking = false;
	if (first)
		stand_as_member(r);
	else
		r->heard_ns = r->now_ns;
}

static void begin_asking(struct replica *r)
{
	r->asking = true;
	r->asking_ns = r->now_ns;
	r->round = r->self.incarnation << 32 | (++r->ops & 0xffffffff);
	ask(r);
	count_answers(r); /* alone, nobody is left to ask */
}

void replica_query(struct replica *r, const struct replica_msg *m)
{
	struct replica_msg *a = replica_send(r, REPLICA_ANSWER, m->from.id);

	a->to = m->from;
	a->round = m->round;
	a->last = r->last;
	a->flags = (r->rotten ? REPLICA_IS_ROTTEN : 0) | (replica_sound(r) ? REPLICA_SOUND : 0);
}

void replica_answer(struct replica *r, const struct replica_msg *m)
{
	struct replica_peer *p = replica_peer(r, m->from.id);

	if (!r->asking || r->state.now != REPLICA_MEMBER || p == NULL || m->round != r->round)
		return;
	p->answer_round = m->round;
	p->answer_flags = m->flags;
	p->answer_last = m->last;
	if (r->op == 0)
		count_answers(r);
}

/* ---- what coord says ---- */
static void place_in_set(struct replica *r)
{
	bool in = replica_set_has(&r->config.in_sync, r->self.id);

	switch (r->state.now) {
	case REPLICA_FENCED:
		sm_move(&r->state, in ? REPLICA_MEMBER : REPLICA_LEARNER);
		r->heard_ns = r->now_ns;
		break;
	case REPLICA_LEARNER:
		if (in) {
			sm_move(&r->state, REPLICA_MEMBER);
			r->heard_ns = r->now_ns; /* R8: started or admitted, it waits a full G */
		}
		break;
	case REPLICA_MEMBER:
		if (!in) {
			sm_move(&r->state, REPLICA_LEARNER);
			r->heir = false;
			r->asking = false;
		}
		break;
	default:
		break;
	}
}

static void lost_range(struct replica *r)
{
	replica_report(
		r, REPLICA_SAYS_LOST, r->last.index + 1, most(r->commit_told, r->last.index));
}

/* Of two, the other led, and does not count any more. */
static bool will_be_alone(const struct replica *r)
{
	return r->config.in_sync.n == 2 && r->config.primary.id != r->self.id &&
	       replica_set_has(&r->config.in_sync, r->config.primary.id);
}

/* After a read whose revision is not behind. */
static void decide(struct replica *r)
{
	bool over_itself = r->config.primary.id == r->self.id && r->fresh && r->leader.id == 0;

	r->fresh = false;
	if (r->forced && !replica_leads(r)) {
		stand_forced(r);
		return;
	}
	/* R10: it led before, so nobody else holds a lease that it acknowledged */
	if (r->state.now != REPLICA_MEMBER || !(suspects(r) || over_itself))
		return;
	if (r->config.epoch > r->mark.epoch && r->config.primary.id != r->self.id) {
		/* a primary of whom we have not heard yet: it gets a full G */
		replica_mark(r, r->config.epoch, r->marking.sound_boot);
		r->heard_ns = r->now_ns;
		r->heir = false;
		return;
	}
	if (replica_sound(r)) {
		if (!will_be_alone(r) || replica_may_be_alone(r, r->last.index)) /* (M4) */
			stand_as_member(r);
	} else if (!r->asking) {
		begin_asking(r);
	}
}

void replica_config_read(struct replica *r, const struct replica_config *c)
{
	check(!replica_leads(r));
	check(r->state.now != REPLICA_CANDIDATE);
	if (c->revision < r->config.revision || c->revision == 0)
		return;
	if (c->revision > r->config.revision)
		r->asking = false; /* (T1) */
	r->config = *c;
	place_in_set(r);
	decide(r);
}

/* ---- the swap ---- */
static void won(struct replica *r, uint64_t revision)
{
	if (r->forced)
		lost_range(r);
	r->config = r->proposed;
	r->config.revision = revision;
	r->swapping = false;
	r->forced = false;
	r->rotten = false;
	r->won = true;
	/* What it holds is what there is from now on (R9, R13). */
	replica_mark(r, r->config.epoch, r->boot);
}

void replica_candidate_coord(
	struct replica *r, enum replica_outcome outcome, const struct replica_config *c)
{
	bool ours = c->epoch == r->proposed.epoch && replica_same(c->primary, r->self);

	if (r->won)
		return;
	if (outcome == REPLICA_SWAPPED) {
		won(r, c->revision);
	} else if (outcome == REPLICA_UNANSWERED) {
		/* It may happen still: the same again, until the revision has moved (R4). */
		replica_swap(r, &r->proposed);
	} else if (c->revision > r->config.revision) {
		if (ours) {
			won(r, c->revision);
			return;
		}
		leave_candidacy(r);
		replica_config_read(r, c);
	} else {
		replica_swap(r, &r->proposed);
	}
}

void replica_force(struct replica *r)
{
	bool heard = r->leader.id != 0 && r->now_ns - r->heard_ns < r->limits.guard_ns;

	if (heard || replica_leads(r) || r->state.now == REPLICA_CANDIDATE ||
		r->state.now == REPLICA_FENCED) {
		replica_report(r, REPLICA_SAYS_NOT_FORCED, 0, 0);
		return;
	}
	r->forced = true;
	replica_read(r);
}

void replica_rise_tick(struct replica *r)
{
	if (r->op != 0 || r->state.now == REPLICA_CANDIDATE)
		return;
	if (r->asking) {
		if (r->now_ns - r->asking_ns < r->limits.guard_ns) {
			ask(r);
			count_answers(r);
			return;
		}
		r->asking = false;
	}
	if (r->fresh || r->read_wanted || r->forced || r->state.now == REPLICA_FENCED) {
		replica_read(r);
		return;
	}
	/* A learner looks too: a late swap may have admitted it (R4). */
	if (suspects(r) && replica_follows(r) &&
		r->now_ns - r->read_ns >= (r->state.now == REPLICA_MEMBER ? r->limits.heartbeat_ns
									  : r->limits.guard_ns))
		replica_read(r);
}
