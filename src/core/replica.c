/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of struct replica, and what all states share. */
#include "core/replica.h"
#include "core/replica_own.h"
#include <string.h>

static const struct sm_state states[REPLICA_STATES] = {
#define STATE(name, text, to) [REPLICA_##name] = { text, to },
#include "core/replica.def"
#undef STATE
};

#define MS 1000000ull
const struct replica_limits replica_limits_default = {
	.heartbeat_ns = 20 * MS,
	.lease_ns = 80 * MS,
	.guard_ns = 110 * MS,
	.stagger_ns = 10 * MS,
	.drift_ppm = 1000,
	.silent_ns = 150 * MS,
	.patient_ns = 400 * MS,
	.lapses_ns = 15000 * MS,
	.slow_ns = 500 * MS,
	.resend_ns = 30 * MS,
	.backoff_ns = 200 * MS,
	.backoff_max_ns = 20000 * MS,
	.window_records = 1024,
	.near_records = 64,
	.piece_ns = 4 * MS,
	.pace_ns = 2000 * MS,
};

void replica_init(
	struct replica *r, const struct replica_limits *limits, const struct replica_log *log)
{
	const struct replica_limits *l = limits != NULL ? limits : &replica_limits_default;

	memset(r, 0, sizeof *r);
	check(log->at != NULL);
	check(l->drift_ppm < 1000000);
	/* R8: the member's clock may be fast and the primary's slow */
	check(l->guard_ns / 1000 * (1000000 - l->drift_ppm) >
		l->lease_ns / 1000 * (1000000 + l->drift_ppm));
	check(l->heartbeat_ns * 2 < l->lease_ns);
	check(l->silent_ns > l->guard_ns);
	check(l->piece_ns > 0);
	r->limits = *l;
	r->log = *log;
	sm_init(&r->state, states, REPLICA_LEARNER);
}

void replica_peers(struct replica *r, const uint64_t *ids, uint32_t n)
{
	struct replica_peer old[REPLICA_PEERS_MAX];
	uint32_t n_old = r->n_peers;

	check(n <= REPLICA_PEERS_MAX);
	memcpy(old, r->peers, sizeof old);
	for (uint32_t i = 0; i < n; i++) {
		check(ids[i] != 0);
		r->peers[i] = (struct replica_peer){ .id = ids[i], .seen_ns = r->now_ns };
		replica_pace_begin(r, &r->peers[i]);
		for (uint32_t j = 0; j < n_old; j++)
			if (old[j].id == ids[i])
				r->peers[i] = old[j];
	}
	r->n_peers = n;
}

/* ---- for all files ---- */
struct replica_do *replica_do(struct replica *r, enum replica_do_kind kind)
{
	struct replica_do *d;

	check(r->todo.n < REPLICA_TODO_MAX);
	d = &r->todo.items[r->todo.n++];
	memset(d, 0, sizeof *d);
	d->kind = kind;
	return d;
}

struct replica_msg *replica_send(struct replica *r, enum replica_msg_kind kind, uint64_t to)
{
	struct replica_msg *m = &replica_do(r, REPLICA_DO_SEND)->msg;
	const struct replica_peer *p = replica_peer(r, to);

	m->kind = kind;
	m->from = r->self;
	m->to = (struct replica_name){ to, p != NULL ? p->incarnation : 0 };
	m->epoch = r->mark.epoch;
	m->revision = r->config.revision;
	return m;
}

struct replica_peer *replica_peer(struct replica *r, uint64_t id)
{
	for (uint32_t i = 0; i < r->n_peers; i++)
		if (r->peers[i].id == id)
			return &r->peers[i];
	return NULL;
}

bool replica_at(const struct replica *r, uint64_t index, struct replica_place *ret_place)
{
	if (index > r->last.index)
		return false;
	if (index == r->last.index) {
		*ret_place = r->last;
		return true;
	}
	return r->log.at(r->log.arg, index, ret_place);
}

bool replica_holds(const struct replica *r, struct replica_place place)
{
	struct replica_place own;

	return replica_at(r, place.index, &own) && own.chain == place.chain &&
	       own.epoch == place.epoch;
}

void replica_report(struct replica *r, enum replica_report what, uint64_t from, uint64_t to)
{
	struct replica_do *d = replica_do(r, REPLICA_DO_REPORT);

	d->report = what;
	d->from = from;
	d->to = to;
}

/* One mark is written at a time; what is wanted meanwhile follows it. */
void replica_mark(struct replica *r, uint64_t epoch, uint64_t sound_boot)
{
	r->marking.epoch = most(r->marking.epoch, epoch);
	r->marking.sound_boot = sound_boot;
	if (r->mark_under_way ||
		(r->marking.epoch == r->mark.epoch && r->marking.sound_boot == r->mark.sound_boot))
		return;
	r->mark_under_way = true;
	replica_do(r, REPLICA_DO_MARK)->mark = r->marking;
}

uint64_t replica_epoch(const struct replica *r)
{
	return most(r->mark.epoch, r->marking.epoch);
}

void replica_read(struct replica *r)
{
	if (r->op != 0) {
		r->read_wanted = true;
		return;
	}
	r->read_wanted = false;
	r->read_ns = r->now_ns;
	r->op = ++r->ops;
	replica_do(r, REPLICA_DO_READ)->op = r->op;
}

void replica_swap(struct replica *r, const struct replica_config *to)
{
	struct replica_do *d;

	check(r->op == 0);
	check(to->in_sync.n >= 1);
	check(to->in_sync.n <= REPLICA_SET_MAX);
	r->op = ++r->ops;
	d = replica_do(r, REPLICA_DO_SWAP);
	d->op = r->op;
	d->expected = r->config.revision;
	d->config = *to;
}

void replica_tell_commit(struct replica *r)
{
	struct replica_do *d = replica_do(r, REPLICA_DO_COMMIT);

	check(r->commit <= r->last.index);
	check(r->synced_commit <= r->commit);
	d->commit = r->commit;
	d->synced_commit = r->synced_commit;
}

/* What was applied behind the commit index may never have been: it is dropped. */
static void stop_leading(struct replica *r)
{
	if (r->state.now == REPLICA_PRIMARY)
		replica_do(r, REPLICA_DO_STOP);
	replica_do(r, REPLICA_DO_DROP);
	r->handing = 0;
	r->swapping = false; /* its revision is consumed before this replica asks again */
	r->found = false;
	r->matched = 0;
	r->leader = (struct replica_name){ 0 };
	r->heard_ns = r->now_ns;
}

void replica_fenced(struct replica *r)
{
	check(replica_leads(r));
	stop_leading(r);
	sm_move(&r->state, REPLICA_FENCED);
	/* What was asked of coord is settled by the higher epoch, or by what is read there: only
	 * revisions above the expected one end this state. */
	replica_read(r);
}

void replica_rots(struct replica *r, uint64_t incarnation)
{
	check(incarnation > r->self.incarnation);
	if (r->rotten)
		return;
	/* R9: alone, nobody else has anything better; the log in memory is good */
	if (r->state.now == REPLICA_PRIMARY && r->config.in_sync.n == 1) {
		replica_report(r, REPLICA_SAYS_ROTTEN, 0, 0);
		return;
	}
	/* What it acknowledged does not count any more, however late the answers arrive (R10). */
	r->rotten = true;
	replica_mark(r, r->marking.epoch, 0);
	if (replica_leads(r))
		stop_leading(r);
	r->asking = false;
	r->won = false;
	r->swapping = false;
	r->self.incarnation = incarnation;
	sm_move(&r->state, REPLICA_ROTTEN);
}

/* ---- events ---- */
static void start(struct replica *r, const struct replica_start *s)
{
	check(r->self.id == 0);
	check(s->self.id != 0);
	check(s->boot != 0);
	check(s->commit <= s->last.index || s->rotten);
	check(s->synced <= s->last.index);
	r->self = s->self;
	r->boot = s->boot;
	r->mark = r->marking = s->mark;
	r->last = s->last;
	r->commit = least(s->commit, s->last.index);
	r->commit_told = r->commit;
	r->written = s->last.index; /* it was read from there */
	r->synced = s->synced;
	r->heard_ns = r->tick_ns = r->now_ns; /* R8: it waits a full G */
	r->fresh = true;
	if (s->rotten) {
		r->rotten = true;
		replica_mark(r, r->marking.epoch, 0);
		sm_move(&r->state, REPLICA_ROTTEN);
	}
	replica_read(r);
}

void replica_lapse(struct replica *r, uint64_t silent_ns)
{
	if (r->now_ns - r->lapses_since_ns > r->limits.lapses_ns) {
		bool old = r->now_ns - r->lapses_since_ns > 2 * r->limits.lapses_ns;

		r->lapse_before_ns = old ? 0 : r->lapse_ns;
		r->lapse_ns = 0;
		r->lapses_since_ns = r->now_ns;
	}
	if (silent_ns <= r->limits.patient_ns)
		r->lapse_ns = most(r->lapse_ns, silent_ns);
}

uint64_t replica_patience_ns(const struct replica *r, uint64_t least_ns)
{
	uint64_t twice_ns = 2 * most(r->lapse_ns, r->lapse_before_ns);

	return most(least_ns, least(twice_ns, r->limits.patient_ns));
}

/* Nobody is silent only because we were not looking. */
static void after_a_pause(struct replica *r)
{
	if (replica_follows(r))
		r->heard_ns = r->now_ns;
	for (uint32_t i = 0; i < r->n_peers; i++) {
		struct replica_peer *p = &r->peers[i];

		p->seen_ns = p->sample_ns = p->synced_sample_ns = p->join_ns = r->now_ns;
	}
}

static void tick(struct replica *r)
{
	if (r->now_ns - r->tick_ns > 2 * r->limits.heartbeat_ns)
		after_a_pause(r);
	r->tick_ns = r->now_ns;
	if (replica_leads(r)) {
		replica_lead_tick(r);
		replica_set_tick(r);
	} else {
		replica_rise_tick(r);
	}
}

static void coord(struct replica *r, const struct replica_event *ev)
{
	const struct replica_config *c = &ev->coord.config;

	if (ev->coord.op != r->op)
		return;
	r->op = 0;
	if (replica_leads(r))
		replica_set_coord(r, ev->coord.outcome, c);
	else if (r->state.now == REPLICA_CANDIDATE)
		replica_candidate_coord(r, ev->coord.outcome, c);
	else if (ev->coord.outcome == REPLICA_THERE || ev->coord.outcome == REPLICA_CONFLICT)
		replica_config_read(r, c);
	if (r->read_wanted && r->op == 0 && !replica_leads(r))
		replica_read(r);
}

static void marked(struct replica *r, struct replica_mark m)
{
	bool first = m.epoch > r->mark.epoch;

	check(r->mark_under_way);
	check(m.epoch >= r->mark.epoch);
	r->mark_under_way = false;
	r->mark = m;
	if (first) {
		r->found = false;
		r->matched = 0;
	}
	replica_mark(r, r->marking.epoch, r->marking.sound_boot);
	if (r->won && r->mark.epoch == r->config.epoch && replica_sound(r))
		replica_lead_begin(r);
	else if (replica_follows(r))
		replica_ack_place(r, 0);
}

/* The same record may be cut and come again: a completion from before that says nothing of it. */
static void reached_disk(struct replica *r, const struct replica_event *ev)
{
	if (ev->log.cuts != r->cuts || !replica_holds(r, ev->log.place))
		return;
	r->written = most(r->written, ev->log.place.index);
	if (ev->kind == REPLICA_EV_SYNCED)
		r->synced = most(r->synced, ev->log.place.index);
	if (replica_leads(r))
		replica_advance(r);
	else if (replica_follows(r))
		replica_ack_place(r, 0);
}

static void message(struct replica *r, const struct replica_msg *m)
{
	if (m->to.id != r->self.id || m->from.id == r->self.id)
		return;
	/* What was for a former life counts on what that one held. */
	if (m->to.incarnation != 0 && m->to.incarnation != r->self.incarnation &&
		m->kind != REPLICA_HEARTBEAT)
		return;
	switch (m->kind) {
	case REPLICA_APPEND:
	case REPLICA_HEARTBEAT:
	case REPLICA_HANDOVER:
		replica_follow(r, m);
		break;
	case REPLICA_ACK:
		replica_lead_ack(r, m);
		break;
	case REPLICA_REFUSE:
		/* R3: stop at once, then see what coord says */
		if (replica_leads(r) && m->epoch > r->mark.epoch)
			replica_fenced(r);
		break;
	case REPLICA_QUERY:
		replica_query(r, m);
		break;
	case REPLICA_ANSWER:
		replica_answer(r, m);
		break;
	}
}

static void dispatch(struct replica *r, const struct replica_event *ev)
{
	switch (ev->kind) {
	case REPLICA_EV_START:
		start(r, &ev->start);
		break;
	case REPLICA_EV_TICK:
		tick(r);
		break;
	case REPLICA_EV_COORD:
		coord(r, ev);
		break;
	case REPLICA_EV_MARKED:
		marked(r, ev->mark);
		break;
	case REPLICA_EV_APPENDED:
		check(ev->log.place.index == r->last.index + 1 || replica_may_append(r));
		check(ev->log.place.index > r->last.index);
		check(ev->log.place.epoch == r->mark.epoch);
		r->last = ev->log.place;
		r->want_synced = most(r->want_synced, ev->log.want_synced);
		replica_lead_appended(r);
		break;
	case REPLICA_EV_WRITTEN:
	case REPLICA_EV_SYNCED:
		reached_disk(r, ev);
		break;
	case REPLICA_EV_MSG:
		message(r, &ev->msg);
		break;
	case REPLICA_EV_COPIED:
		replica_copied(r, ev->log.place, ev->log.epoch);
		break;
	case REPLICA_EV_COPY_SENT:
		if (replica_peer(r, ev->peer) != NULL)
			replica_peer(r, ev->peer)->copying = false;
		break;
	case REPLICA_EV_ROT:
		replica_rots(r, ev->incarnation);
		break;
	case REPLICA_EV_HANDOVER:
		if (r->state.now == REPLICA_PRIMARY && r->handing == 0 && ev->peer != r->self.id &&
			replica_set_has(&r->config.in_sync, ev->peer)) {
			r->handing = ev->peer;
			r->handing_ns = r->now_ns;
			replica_handing(r);
		}
		break;
	case REPLICA_EV_LEAVE:
		r->leaving = true;
		break;
	case REPLICA_EV_TARGET:
		check(ev->size >= 1);
		check(ev->size <= REPLICA_SET_MAX);
		r->target_size = ev->size;
		break;
	case REPLICA_EV_FORCE:
		replica_force(r);
		break;
	}
}

const struct replica_todo *replica_step(struct replica *r, const struct replica_event *ev)
{
	check(ev->now_ns >= r->now_ns);
	check((ev->kind == REPLICA_EV_START) == (r->self.id == 0));
	r->now_ns = ev->now_ns;
	r->todo.n = 0;
	dispatch(r, ev);
	replica_audit(r);
	return &r->todo;
}
