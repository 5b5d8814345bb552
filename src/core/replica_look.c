/* SPDX-License-Identifier: Apache-2.0 */
/* What may be asked of a replica at any time. */
#include "core/replica.h"
#include "core/replica_own.h"

bool replica_set_has(const struct replica_set *s, uint64_t id)
{
	for (uint32_t i = 0; i < s->n; i++)
		if (s->ids[i] == id)
			return true;
	return false;
}

uint32_t replica_min_in_sync(uint32_t target_size)
{
	static const uint8_t least_of[REPLICA_SET_MAX + 1] = { 1, 1, 2, 2, 3, 3 };

	check(target_size <= REPLICA_SET_MAX);
	return least_of[target_size];
}

bool replica_may_append(const struct replica *r)
{
	return r->state.now == REPLICA_PRIMARY && r->handing == 0;
}

/* Alone, nobody else can have taken over: R2 needs a member (and R13 an operator who knows). */
uint64_t replica_heard_ns(const struct replica *r)
{
	uint64_t heard = UINT64_MAX;
	uint32_t n_members = 1;

	if (r->state.now != REPLICA_PRIMARY)
		return 0;
	for (uint32_t i = 0; i < r->n_peers; i++) {
		n_members += replica_set_has(&r->config.in_sync, r->peers[i].id);
		if (replica_in_union(r, r->peers[i].id))
			heard = least(heard, r->peers[i].heard_ns);
	}
	return n_members < r->config.in_sync.n ? 0 : heard; /* one whom we do not know */
}

bool replica_may_read(const struct replica *r, uint64_t now_ns)
{
	uint64_t heard = replica_heard_ns(r);

	if (r->state.now != REPLICA_PRIMARY)
		return false;
	return heard == UINT64_MAX || (heard != 0 && now_ns < heard + r->limits.lease_ns);
}

bool replica_may_copy(const struct replica *r, uint64_t epoch)
{
	return epoch == r->mark.epoch && epoch == replica_epoch(r) &&
	       (r->state.now == REPLICA_LEARNER || r->state.now == REPLICA_ROTTEN);
}

bool replica_may_grant(const struct replica *r, uint64_t server_epoch)
{
	return r->state.now == REPLICA_PRIMARY && server_epoch == r->mark.epoch;
}

bool replica_fence(uint64_t *epoch, uint64_t request_epoch)
{
	if (request_epoch < *epoch)
		return false;
	*epoch = request_epoch;
	return true;
}

void replica_audit(const struct replica *r)
{
	check(r->written <= r->last.index);
	check(r->synced <= r->written);
	check(r->commit <= r->last.index || r->rotten);
	check(r->synced_commit <= r->commit);
	check(r->matched <= r->last.index);
	check(r->mark.epoch <= r->marking.epoch);
	check(r->config.in_sync.n <= REPLICA_SET_MAX);
	if (replica_leads(r)) {
		check(replica_same(r->config.primary, r->self));
		check(r->config.epoch == r->mark.epoch);
		check(replica_set_has(&r->config.in_sync, r->self.id));
		check(!r->rotten);
	}
	if (r->state.now == REPLICA_PRIMARY) {
		check(r->inherited != 0);
		check(r->commit >= r->inherited);
	}
	check(r->rotten == (r->state.now == REPLICA_ROTTEN) ||
		(r->forced && r->state.now == REPLICA_CANDIDATE));
}
