/* SPDX-License-Identifier: Apache-2.0 */
/* The in-sync set: who is removed, who is admitted, and when a swap counts.
 *
 *   (M1) Until a swap is settled, both sets count (R4).
 *   (M2) One swap at a time.  One that is not answered is settled by a no-op that consumes the
 * revision it expected.
 *   (M3) Whoever is admitted holds every committed record when the swap is sent, and the set waits
 * for it from before that (R6).
 *   (M4) Whoever stays alone has synced every committed record before the swap is sent: from then
 * on what the others hold does not count, so a power cut of this one must take nothing (R7). */
#include "core/replica.h"
#include "core/replica_own.h"
#include <stddef.h>

bool replica_in_union(const struct replica *r, uint64_t id)
{
	return replica_set_has(&r->config.in_sync, id) ||
	       (r->swapping && replica_set_has(&r->proposed.in_sync, id));
}

bool replica_waits_for(const struct replica *r, uint64_t id)
{
	for (uint32_t i = 0; i < r->n_peers; i++)
		if (r->peers[i].id == id && r->peers[i].joining)
			return true;
	return replica_in_union(r, id);
}

/* It was to write (or sync) what the log ended with when the sample was taken. */
static bool is_slow(struct replica *r, struct replica_peer *p)
{
	if (p->written >= p->sample_index) {
		p->sample_index = r->last.index;
		p->sample_ns = r->now_ns;
	}
	if (p->synced >= p->synced_sample) {
		p->synced_sample = r->want_synced;
		p->synced_sample_ns = r->now_ns;
	}
	return r->now_ns - p->sample_ns > r->limits.slow_ns ||
	       r->now_ns - p->synced_sample_ns > r->limits.slow_ns;
}

static bool is_silent(const struct replica *r, const struct replica_peer *p)
{
	return r->now_ns - p->seen_ns > replica_patience_ns(r, r->limits.silent_ns);
}

static bool is_unfit(const struct replica_peer *p)
{
	return p->needs_copy || p->copying ||
	       p->flags & (REPLICA_IS_ROTTEN | REPLICA_LEAVING | REPLICA_DIVERGED);
}

static bool to_remove(struct replica *r, uint64_t id)
{
	struct replica_peer *p = replica_peer(r, id);

	if (id == r->self.id)
		return false;
	if (p == NULL || is_unfit(p) || is_silent(r, p))
		return true;
	return is_slow(r, p);
}

static void back_off(struct replica *r, struct replica_peer *p)
{
	p->joining = false;
	p->backoff_ns = p->backoff_ns == 0 ? r->limits.backoff_ns : p->backoff_ns * 2;
	p->backoff_ns = least(p->backoff_ns, r->limits.backoff_max_ns);
	p->backoff_until_ns = r->now_ns + p->backoff_ns;
}

static void propose(struct replica *r, const struct replica_config *to)
{
	check(!r->swapping); /* (M2) */
	check(replica_set_has(&to->in_sync, r->self.id));
	check(to->epoch == r->config.epoch);
	r->swapping = true;
	r->proposed = *to;
	replica_swap(r, to);
}

bool replica_may_be_alone(struct replica *r, uint64_t index)
{
	if (r->synced >= index)
		return true;
	replica_do(r, REPLICA_DO_SYNC)->index = index;
	return false;
}

static bool remove_some(struct replica *r)
{
	struct replica_config to = r->config;

	to.in_sync.n = 0;
	for (uint32_t i = 0; i < r->config.in_sync.n; i++) {
		uint64_t id = r->config.in_sync.ids[i];

		if (!to_remove(r, id))
			to.in_sync.ids[to.in_sync.n++] = id;
	}
	/* the set was made smaller: the last ones go */
	for (uint32_t i = to.in_sync.n; i > 0 && to.in_sync.n > to.target_size; i--) {
		if (to.in_sync.ids[i - 1] == r->self.id)
			continue;
		to.in_sync.ids[i - 1] = to.in_sync.ids[--to.in_sync.n];
	}
	if (to.in_sync.n == r->config.in_sync.n)
		return false;
	/* (M4), also what former primaries have committed */
	if (to.in_sync.n > 1 || replica_may_be_alone(r, most(r->commit, r->inherited)))
		propose(r, &to);
	return true;
}

static bool retarget(struct replica *r)
{
	struct replica_config to = r->config;

	if (r->target_size == 0 || r->target_size == to.target_size)
		return false;
	to.target_size = r->target_size;
	propose(r, &to);
	return true;
}

static bool may_join(const struct replica *r, const struct replica_peer *p)
{
	bool few = r->config.in_sync.n < replica_min_in_sync(r->config.target_size);

	return p->found && !is_unfit(p) && !is_silent(r, p) && p->flags & REPLICA_SOUND &&
	       (few || r->now_ns >= p->backoff_until_ns) &&
	       p->written + r->limits.near_records >= r->commit;
}

/* From this moment the set waits for it, for a while. */
static void watch_joining(struct replica *r, struct replica_peer *p)
{
	if (!p->joining && may_join(r, p)) {
		p->joining = true;
		p->join_ns = r->now_ns;
	} else if (p->joining &&
		   (is_unfit(p) || is_silent(r, p) || r->now_ns - p->join_ns > r->limits.slow_ns)) {
		back_off(r, p);
	}
}

static void admit_one(struct replica *r)
{
	struct replica_config to = r->config;

	if (to.in_sync.n >= least(to.target_size, REPLICA_SET_MAX)) {
		for (uint32_t i = 0; i < r->n_peers; i++)
			r->peers[i].joining = false; /* nobody waits for one who cannot enter */
		return;
	}
	for (uint32_t i = 0; i < r->n_peers; i++) {
		struct replica_peer *p = &r->peers[i];

		if (replica_set_has(&to.in_sync, p->id))
			continue;
		watch_joining(r, p);
		/* What former primaries told as synced is not known, but it was inherited. */
		if (!p->joining || p->written < r->commit ||
			p->synced < most(r->synced_commit, r->inherited))
			continue;
		to.in_sync.ids[to.in_sync.n++] = p->id; /* (M3) */
		propose(r, &to);
		return;
	}
}

static void copy_to_learners(struct replica *r)
{
	for (uint32_t i = 0; i < r->n_peers; i++) {
		struct replica_peer *p = &r->peers[i];

		if (!p->needs_copy || p->copying || p->incarnation == 0 ||
			replica_waits_for(r, p->id) || is_silent(r, p))
			continue;
		p->copying = true;
		replica_do(r, REPLICA_DO_COPY)->index = p->id;
	}
}

void replica_set_tick(struct replica *r)
{
	if (r->inherited == 0 || !replica_leads(r))
		return;
	if (r->state.now == REPLICA_PRIMARY)
		copy_to_learners(r);
	if (r->swapping || r->op != 0 || r->handing != 0)
		return;
	if (remove_some(r) || r->state.now != REPLICA_PRIMARY || retarget(r))
		return;
	admit_one(r);
	replica_advance(r);
}

/* ---- R4: settling ---- */
static void settle(struct replica *r, const struct replica_config *c)
{
	struct replica_config old = r->config;

	r->config = *c;
	r->swapping = false;
	for (uint32_t i = 0; i < r->n_peers; i++) {
		struct replica_peer *p = &r->peers[i];
		bool was = replica_set_has(&old.in_sync, p->id);
		bool is = replica_set_has(&c->in_sync, p->id);

		if (is)
			p->joining = false;
		if (was && !is)
			back_off(r, p);
		if (is && !was) { /* R8: its lease counts from now on; so does its silence */
			p->sample_index = p->written;
			p->synced_sample = p->synced;
			p->sample_ns = p->synced_sample_ns = r->now_ns;
		}
	}
	replica_advance(r);
}

void replica_set_coord(
	struct replica *r, enum replica_outcome outcome, const struct replica_config *c)
{
	struct replica_config now = r->config;

	if (!r->swapping)
		return;
	switch (outcome) {
	case REPLICA_SWAPPED:
		check(c->revision > r->config.revision);
		settle(r, c);
		break;
	case REPLICA_THERE:
	case REPLICA_CONFLICT:
		if (c->epoch != r->config.epoch || !replica_same(c->primary, r->self))
			replica_fenced(r);
		else if (c->revision > r->config.revision)
			settle(r, c);
		else
			replica_swap(r, &now);
		break;
	case REPLICA_UNANSWERED:
		replica_swap(r, &now); /* (M2) */
		break;
	}
}

/* A planned stop: when everybody has everything, stop, and only then tell the heir (R8: no lease is
 * used after that message left).  Without a successor this one takes over itself, with a new epoch.
 */
void replica_handing(struct replica *r)
{
	const struct replica_peer *p = replica_peer(r, r->handing);
	uint64_t heir = r->handing;

	check(r->handing != 0);
	if (r->state.now != REPLICA_PRIMARY || r->swapping || r->op != 0)
		return;
	if (p == NULL || !replica_set_has(&r->config.in_sync, heir) || is_unfit(p) ||
		r->now_ns - r->handing_ns > r->limits.slow_ns) {
		r->handing = 0;
		return;
	}
	if (r->commit != r->last.index || p->written != r->last.index ||
		!(p->flags & REPLICA_SOUND))
		return;
	replica_send(r, REPLICA_HANDOVER, heir);
	replica_fenced(r);
}
