/* SPDX-License-Identifier: Apache-2.0 */
/* The primary's side: where each follower stands, what to send it, and what is committed.
 *
 *   (L1) What is known of a follower is of one incarnation of it, in this epoch.
 *   (L2) The commit index covers only what every member of the union of R4 has written. */
#include "core/replica.h"
#include "core/replica_own.h"
#include <stddef.h>

static void forget(struct replica *r, struct replica_peer *p, uint64_t incarnation)
{
	p->incarnation = incarnation;
	p->found = p->needs_copy = p->joining = false;
	p->flags = 0;
	p->matched = p->written = p->synced = 0;
	p->next = r->last.index + 1;
	p->heard_ns = 0;
	replica_pace_begin(r, p);
	p->sample_index = p->synced_sample = 0;
	p->seen_ns = p->sent_ns = p->sample_ns = p->synced_sample_ns = r->now_ns;
}

/* R5: with a record of its own epoch, so that whoever holds it has cut what diverges. */
void replica_lead_begin(struct replica *r)
{
	check(r->won);
	check(r->mark.epoch == r->config.epoch);
	r->won = false;
	r->inherited = 0;
	r->handing = 0;
	r->want_synced = 0;
	r->leader = (struct replica_name){ 0 };
	sm_move(&r->state, REPLICA_BRINGING);
	for (uint32_t i = 0; i < r->n_peers; i++)
		forget(r, &r->peers[i], 0);
	replica_do(r, REPLICA_DO_BEGIN)->index = r->mark.epoch;
}

static void tell(struct replica *r, struct replica_msg *m)
{
	bool serving = r->state.now == REPLICA_PRIMARY;

	m->commit = r->commit;
	m->synced_commit = r->synced_commit;
	m->want_synced = r->want_synced;
	/* Before it serves it does not know how far its predecessor had committed. */
	m->whole = serving ? r->commit : r->last.index;
}

static void beat(struct replica *r)
{
	r->beat_ns = r->now_ns;
	for (uint32_t i = 0; i < r->n_peers; i++) {
		struct replica_msg *m = replica_send(r, REPLICA_HEARTBEAT, r->peers[i].id);

		m->sent_ns = r->now_ns;
		tell(r, m);
	}
}

static void send_from(struct replica *r, struct replica_peer *p, uint64_t prev, uint32_t n)
{
	struct replica_place at;
	struct replica_msg *m;

	if (!replica_at(r, prev, &at)) {
		p->needs_copy = true;
		p->found = false;
		return;
	}
	m = replica_send(r, REPLICA_APPEND, p->id);
	m->prev = at;
	m->n = n;
	tell(r, m);
	p->sent_ns = r->now_ns;
}

/* The next batch, if there is one and the window is open. */
static void ship(struct replica *r, struct replica_peer *p)
{
	uint64_t n = r->last.index + 1 - p->next;

	check(p->next <= r->last.index + 1);
	if (!p->found || p->copying || n == 0 || p->flags & REPLICA_IS_ROTTEN ||
		p->next > p->matched + r->limits.window_records)
		return;
	n = replica_pace(r, p, (uint32_t)least(n, REPLICA_BATCH_MAX));
	if (n == 0)
		return;
	send_from(r, p, p->next - 1, (uint32_t)n);
	if (p->found)
		p->next += n;
}

void replica_lead_appended(struct replica *r)
{
	check(replica_leads(r));
	if (r->state.now == REPLICA_BRINGING) {
		check(r->inherited == 0);
		r->inherited = r->last.index;
		beat(r); /* finds out where everybody is */
	}
	for (uint32_t i = 0; i < r->n_peers; i++)
		ship(r, &r->peers[i]);
	replica_advance(r);
}

/* The follower offers a place to go on from; when it is not ours, it is asked for a lower one. */
static void locate(struct replica *r, struct replica_peer *p, const struct replica_msg *m)
{
	struct replica_place own;

	if (p->found && m->last.index < p->matched)
		return; /* late */
	if (m->flags & REPLICA_DIVERGED) {
		p->needs_copy = true;
	} else if (m->last.index > r->last.index && m->last.index <= m->commit) {
		p->needs_copy = true; /* committed there, but not here: after R9 or R13 */
	} else if (m->last.index > r->last.index) {
		send_from(r, p, r->last.index, 0);
	} else if (!replica_at(r, m->last.index, &own)) {
		p->needs_copy = true;
	} else if (own.chain != m->last.chain || own.epoch != m->last.epoch) {
		if (m->last.index <= m->commit)
			p->needs_copy = true;
		else
			send_from(r, p, m->last.index, 0);
	} else {
		p->found = true;
		p->needs_copy = false;
		p->matched = most(p->matched, m->last.index);
		p->next = p->matched + 1;
		p->piece_sent_ns = 0;
		if (p->next > r->last.index)
			send_from(r, p, r->last.index, 0); /* it is to know, too */
		ship(r, p);
	}
}

void replica_lead_ack(struct replica *r, const struct replica_msg *m)
{
	struct replica_peer *p = replica_peer(r, m->from.id);

	if (!replica_leads(r) || p == NULL || m->epoch != r->mark.epoch)
		return;
	if (m->from.incarnation < p->incarnation)
		return;
	if (m->from.incarnation > p->incarnation)
		forget(r, p, m->from.incarnation); /* (L1), R10 */
	replica_lapse(r, r->now_ns - p->seen_ns);
	p->seen_ns = r->now_ns;
	p->heard_ns = most(p->heard_ns, least(m->sent_ns, r->now_ns));
	p->flags = m->flags;
	if (m->flags & REPLICA_IS_ROTTEN) {
		p->needs_copy = true;
		return;
	}
	if (m->flags & REPLICA_MISMATCH) {
		locate(r, p, m);
		return;
	}
	if (m->matched > r->last.index) /* nonsense from outside */
		return;
	p->found = true;
	p->needs_copy = false;
	p->matched = most(p->matched, m->matched);
	p->written = most(p->written, least(m->written, p->matched));
	p->synced = most(p->synced, least(m->synced, p->written));
	p->next = most(p->next, p->matched + 1);
	replica_pace_written(r, p);
	replica_advance(r);
	ship(r, p);
	if (r->handing != 0)
		replica_handing(r);
}

/* The least that the members of the union have written, and synced. */
static void floors(const struct replica *r, uint64_t *ret_written, uint64_t *ret_synced)
{
	uint32_t n_members = 0;

	*ret_written = r->written;
	*ret_synced = r->synced;
	for (uint32_t i = 0; i < r->n_peers; i++) {
		const struct replica_peer *p = &r->peers[i];

		n_members += replica_set_has(&r->config.in_sync, p->id);
		if (!replica_waits_for(r, p->id))
			continue;
		*ret_written = least(*ret_written, p->written);
		*ret_synced = least(*ret_synced, p->synced);
	}
	if (n_members + 1 < r->config.in_sync.n) /* one whom we do not know */
		*ret_written = *ret_synced = 0;
}

void replica_advance(struct replica *r)
{
	uint64_t w, s, commit;
	uint32_t n = r->config.in_sync.n, need = replica_min_in_sync(r->config.target_size);

	if (r->inherited == 0)
		return;
	floors(r, &w, &s);
	if (r->state.now == REPLICA_BRINGING && w < r->inherited)
		return;    /* R5 */
	if (r->swapping) { /* either may be there */
		n = (uint32_t)least(n, r->proposed.in_sync.n);
		need = (uint32_t)most(need, replica_min_in_sync(r->proposed.target_size));
	}
	if (n < need) /* R7: nothing new */
		w = least(w, r->inherited);
	commit = most(r->commit, w);
	s = most(r->synced_commit, least(s, commit));
	if (commit != r->commit || s != r->synced_commit) {
		r->commit = commit;
		r->synced_commit = s;
		replica_tell_commit(r);
	}
	if (r->state.now == REPLICA_BRINGING) {
		sm_move(&r->state, REPLICA_PRIMARY);
		replica_do(r, REPLICA_DO_SERVE);
		beat(r);
	}
}

static void resend(struct replica *r, struct replica_peer *p)
{
	if (!p->found || p->next <= p->matched + 1 ||
		r->now_ns - p->sent_ns < most(r->limits.resend_ns, p->patience_ns))
		return;
	p->next = p->matched + 1;
	replica_pace_lost(r, p);
	ship(r, p);
}

void replica_lead_tick(struct replica *r)
{
	if (r->inherited == 0)
		return;
	if (r->now_ns - r->beat_ns >= r->limits.heartbeat_ns)
		beat(r);
	for (uint32_t i = 0; i < r->n_peers; i++) {
		resend(r, &r->peers[i]);
		if (replica_paces(r, &r->peers[i]))
			ship(r, &r->peers[i]);
	}
	if (r->handing != 0)
		replica_handing(r);
}
