/* SPDX-License-Identifier: Apache-2.0 */
/* The side that hears a primary: it takes records, cuts what contradicts them, and says how far it
 * has come.
 *
 *   (F1) An ack speaks only of records that are in the primary's log too: `matched`.
 *   (F2) Nothing is cut that is committed (R5).
 *   (F3) Nothing is done under an epoch before the mark of it is durable. */
#include "core/replica.h"
#include "core/replica_own.h"

void replica_ack(struct replica *r, uint64_t sent_ns, uint32_t flags, struct replica_place at)
{
	struct replica_msg *m = replica_send(r, REPLICA_ACK, r->leader.id);

	m->to = r->leader;
	m->sent_ns = sent_ns;
	m->last = at;
	m->commit = r->commit;
	m->flags = flags | (r->leaving ? REPLICA_LEAVING : 0) |
		   (r->rotten ? REPLICA_IS_ROTTEN : 0) | (replica_sound(r) ? REPLICA_SOUND : 0);
	m->matched = r->matched; /* (F1) */
	m->written = least(r->written, r->matched);
	m->synced = least(r->synced, r->matched);
}

/* Unasked, or in answer to a heartbeat. */
void replica_ack_place(struct replica *r, uint64_t sent_ns)
{
	if (r->leader.id == 0 || r->leader_epoch != r->mark.epoch)
		return;
	replica_ack(r, sent_ns, r->found || r->rotten ? 0 : REPLICA_MISMATCH, r->last);
}

static void refuse(struct replica *r, const struct replica_msg *m)
{
	struct replica_msg *no = replica_send(r, REPLICA_REFUSE, m->from.id);

	no->to = m->from;
	no->epoch = replica_epoch(r);
}

/* R3.  Whether the message is of the primary that this replica follows. */
static bool obeys(struct replica *r, const struct replica_msg *m)
{
	if (m->epoch < replica_epoch(r)) {
		refuse(r, m);
		return false;
	}
	if (m->epoch > r->mark.epoch) {
		/* The revision that was expected is gone, so whatever we asked for is settled. */
		if (replica_leads(r))
			replica_fenced(r);
		if (r->state.now == REPLICA_CANDIDATE) {
			if (m->epoch <= r->config.epoch)
				return false; /* settles nothing */
			r->won = r->swapping = r->forced = false;
			sm_move(&r->state, r->rotten ? REPLICA_ROTTEN : REPLICA_MEMBER);
			replica_read(r);
		}
		r->heir = false;
		r->leader = m->from;
		r->leader_epoch = m->epoch;
		r->heard_ns = r->now_ns;
		replica_mark(r, m->epoch, r->marking.sound_boot);
		return false; /* (F3); the ack behind the mark brings it again */
	}
	/* R8: a candidate acknowledges nothing of the old epoch, nor does one who led it */
	if (!replica_follows(r) && r->state.now != REPLICA_ROTTEN)
		return false;
	if (r->leader_epoch != m->epoch) {
		r->leader = m->from;
		r->leader_epoch = m->epoch;
	}
	return replica_same(r->leader, m->from);
}

/* R1: backups apply only what every member has. */
static void learn(struct replica *r, const struct replica_msg *m)
{
	uint64_t matched = r->rotten ? 0 : r->matched;
	uint64_t commit = most(r->commit, least(m->commit, matched));
	uint64_t synced = most(r->synced_commit, least(m->synced_commit, least(commit, matched)));

	r->commit_told = most(r->commit_told, m->commit);
	if (commit != r->commit || synced != r->synced_commit) {
		r->commit = commit;
		r->synced_commit = synced;
		replica_tell_commit(r);
	}
	if (m->revision > r->config.revision)
		replica_read(r);
	if (least(m->want_synced, r->matched) > r->asked_synced) {
		r->asked_synced = least(m->want_synced, r->matched);
		replica_do(r, REPLICA_DO_SYNC)->index = r->asked_synced;
	}
	/* R9: it lost written records with another boot, and has them again.  The message is to
	 * this incarnation, so its primary counts nothing on what the one before it wrote. */
	if (!r->rotten && r->marking.sound_boot != r->boot && r->found &&
		m->to.incarnation == r->self.incarnation &&
		least(r->matched, r->written) >= m->whole)
		replica_mark(r, r->marking.epoch, r->boot);
}

/* Where to go on from: half-way down to the commit index, which the primary has. */
static void mismatch(struct replica *r, const struct replica_msg *m)
{
	struct replica_place at = r->last;
	uint32_t flags = REPLICA_MISMATCH;

	if (m->prev.index <= r->last.index) {
		uint64_t low = least(r->commit, r->last.index);

		if (m->prev.index > low) {
			check(replica_at(r, low + (m->prev.index - 1 - low) / 2, &at));
		} else if (replica_at(r, m->prev.index, &at)) {
			flags |= REPLICA_DIVERGED;
			replica_report(r, REPLICA_SAYS_DIVERGED, m->prev.index, low);
		} else {
			check(replica_at(r, low, &at)); /* the log reaches back to there */
		}
	}
	replica_ack(r, 0, flags, at);
}

/* The number of records of the message that are here already.  *ret_bad: the log contradicts it
 * where it must not. */
static uint32_t held(struct replica *r, const struct replica_msg *m, bool *ret_bad)
{
	struct replica_place own;
	uint32_t n = 0;

	while (n < m->n && m->prev.index + 1 + n <= r->last.index) {
		const struct replica_place *p = &m->places[n];

		check(p->index == m->prev.index + 1 + n);
		if (p->index > r->commit && !replica_at(r, p->index, &own))
			break;
		if (p->index > r->commit && (own.chain != p->chain || own.epoch != p->epoch)) {
			if (own.epoch == p->epoch) { /* R3: never a duplicate, never cut */
				replica_report(r, REPLICA_SAYS_TWO_RECORDS, p->index, p->index);
				*ret_bad = true;
			}
			break;
		}
		if (p->index <= r->commit && replica_at(r, p->index, &own) &&
			own.chain != p->chain) { /* (F2) */
			replica_report(r, REPLICA_SAYS_DIVERGED, p->index, r->commit);
			*ret_bad = true;
			break;
		}
		n++;
	}
	return n;
}

static void cut(struct replica *r, uint64_t index)
{
	struct replica_place at;

	check(index >= r->commit); /* (F2) */
	check(index < r->last.index);
	check(replica_at(r, index, &at));
	replica_do(r, REPLICA_DO_CUT)->index = index;
	r->cuts++;
	r->last = at;
	r->written = least(r->written, index);
	r->synced = least(r->synced, index);
	r->matched = least(r->matched, index);
}

static void append(struct replica *r, const struct replica_msg *m)
{
	bool bad = false;
	uint32_t n;

	check(m->n <= REPLICA_BATCH_MAX);
	if (!replica_holds(r, m->prev)) {
		mismatch(r, m);
		return;
	}
	n = held(r, m, &bad);
	if (bad) {
		replica_ack(r, 0, REPLICA_MISMATCH | REPLICA_DIVERGED, r->last);
		return;
	}
	if (n < m->n) {
		if (m->prev.index + n < r->last.index)
			cut(r, m->prev.index + n);
		replica_do(r, REPLICA_DO_WRITE)->index = m->prev.index + n + 1;
		r->last = m->places[m->n - 1];
	}
	r->found = true;
	r->matched = most(r->matched, m->prev.index + m->n);
	learn(r, m);
	if (n == m->n) /* else the ack follows when it is written */
		replica_ack_place(r, 0);
}

void replica_follow(struct replica *r, const struct replica_msg *m)
{
	if (!obeys(r, m))
		return;
	replica_lapse(r, r->now_ns - r->heard_ns);
	r->heard_ns = r->now_ns;
	r->asking = false;
	if (m->kind == REPLICA_HEARTBEAT) {
		learn(r, m);
		replica_ack_place(r, m->sent_ns);
	} else if (r->rotten) {
		replica_ack_place(r, 0); /* R9: says so, takes nothing */
	} else if (m->kind == REPLICA_APPEND) {
		append(r, m);
	} else if (r->state.now == REPLICA_MEMBER && replica_sound(r)) {
		r->heir = true; /* the primary has stopped before it sent this */
		replica_read(r);
	}
}

/* R6.  A late copy must not take away what came since. */
void replica_copied(struct replica *r, struct replica_place place, uint64_t epoch)
{
	if (!replica_may_copy(r, epoch))
		return;
	/* Rotten, it may still be in the set: it must not pass for sound with less (R9). */
	if (r->rotten && r->mark.sound_boot == r->boot)
		return;
	if (!r->rotten && r->found && place.index <= r->matched)
		return;
	if (!r->rotten && replica_holds(r, place)) { /* so that is where to go on from */
		if (r->leader.id != 0 && r->leader_epoch == r->mark.epoch)
			replica_ack(r, 0, REPLICA_MISMATCH, place);
		return;
	}
	replica_do(r, REPLICA_DO_INSTALL)->place = place;
	r->cuts++;
	r->last = place;
	r->written = r->synced = r->matched = place.index;
	r->commit = place.index;
	r->synced_commit = least(r->synced_commit, place.index);
	r->commit_told = most(r->commit_told, place.index);
	r->found = true;
	if (r->rotten) {
		r->rotten = false;
		sm_move(&r->state, REPLICA_LEARNER);
		r->heard_ns = r->now_ns;
	}
	replica_ack_place(r, 0);
}
