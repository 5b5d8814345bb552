/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold in every run.  The truth is one list of records: by the chain, one equal place
 * means that everything before it is equal too. */
#include "core/replica_world_test.h"

static bool has(const struct world *w, uint32_t i, uint64_t index)
{
	const struct node *n = &w->nodes[i];

	return index <= n->last &&
	       (index < n->base || n->log[index].chain == w->truth[index].chain);
}

uint64_t judge_agrees(const struct world *w, uint32_t i)
{
	uint64_t low = 0, high = w->acked;

	while (low < high) {
		uint64_t mid = (low + high + 1) / 2;

		if (has(w, i, mid))
			low = mid;
		else
			high = mid - 1;
	}
	return low;
}

static uint64_t index_of(const struct node *n, uint32_t ops)
{
	return ops == 0 ? 0 : n->ops[ops - 1].place.index;
}

/* R1: every member of the set that coord holds now has written (or synced) it, but for those of
 * which a power cut, or rot, took it since. */
static void on_all(struct world *w, uint64_t index, bool synced)
{
	for (uint32_t k = 0; k < w->coord.in_sync.n; k++) {
		uint32_t i = world_node_of(w, w->coord.in_sync.ids[k]);
		struct node *n = i < NODES_MAX ? &w->nodes[i] : NULL;

		if (n == NULL || n->rotten || (!synced && n->lost_from <= index))
			continue;
		if (!has(w, i, index) ||
			index_of(n, synced ? n->synced_ops : n->written_ops) < index) {
			world_say(w, "%u has not %llu: synced %u written %u ops %u, last %llu", i,
				(unsigned long long)index, n->synced_ops, n->written_ops, n->n_ops,
				(unsigned long long)n->last);
			world_broken(w, synced ? "R1: committed as synced, and a member has not"
					       : "R1: committed, and a member has not written it");
		}
	}
}

static void leads_commit(struct world *w, uint32_t i, const struct replica_do *d)
{
	struct node *n = &w->nodes[i];

	if (w->acked > 0 && d->commit > w->acked && !has(w, i, w->acked))
		world_broken(w, "commits another history");
	if (d->commit <= w->acked && !has(w, i, d->commit))
		world_broken(w, "an index has two committed records");
	if (d->commit > w->acked) {
		if (n->log[d->commit].epoch == n->r.mark.epoch && d->commit > n->r.inherited &&
			w->coord.epoch == n->r.mark.epoch &&
			w->coord.in_sync.n < replica_min_in_sync(w->coord.target_size))
			world_broken(w, "R7: commits with too few members");
		for (uint64_t k = w->acked + 1; k <= d->commit; k++)
			w->truth[k] = n->log[k];
		w->n_acked += d->commit - w->acked;
		w->acked = d->commit;
		on_all(w, d->commit, false);
	}
	if (d->synced_commit > w->synced) {
		w->synced = d->synced_commit;
		on_all(w, d->synced_commit, true);
	}
}

void judge_commit(struct world *w, uint32_t i, const struct replica_do *d)
{
	struct node *n = &w->nodes[i];
	/* fenced: later in the same step */
	bool leads = n->r.state.now == REPLICA_PRIMARY || n->r.state.now == REPLICA_FENCED;

	if (n->r.mark.epoch < w->forgiven_epoch)
		return; /* of a history that was given up */
	if (leads) {
		leads_commit(w, i, d);
		return;
	}
	if (d->commit > w->acked)
		world_broken(w, "a follower's commit index is ahead");
	if (!has(w, i, d->commit))
		world_broken(w, "a follower applies another record");
}

/* R7: what the others hold does not count from now on.  A target of one is another matter. */
static void judge_alone(struct world *w, const struct replica_config *from,
	const struct replica_config *to)
{
	uint32_t i = world_node_of(w, to->in_sync.ids[0]);

	if (from->in_sync.n < 2 || to->in_sync.n > 1 || w->forced || i == NODES_MAX ||
		replica_min_in_sync(to->target_size) == 1 || w->nodes[i].rotten)
		return;
	if (has(w, i, w->acked) && index_of(&w->nodes[i], w->nodes[i].synced_ops) < w->acked)
		world_broken(w, "R7: alone, and a power cut takes what is acknowledged");
}

void judge_swap(struct world *w, const struct replica_config *from, const struct replica_config *to)
{
	if (to->in_sync.n == 0)
		world_broken(w, "an empty set");
	if (to->epoch < from->epoch)
		world_broken(w, "an epoch goes back");
	judge_alone(w, from, to);
	if (to->epoch > from->epoch) {
		w->before = *from;
		w->reached[to->primary.id == from->primary.id ? REACHED_OVER_ITSELF
							      : REACHED_TAKE_OVER]++;
		return;
	}
	w->reached[REACHED_ADMITTED] += to->in_sync.n > from->in_sync.n;
	w->reached[REACHED_REMOVED] += to->in_sync.n < from->in_sync.n;
	for (uint32_t k = 0; k < to->in_sync.n; k++) {
		uint32_t i = world_node_of(w, to->in_sync.ids[k]);
		struct node *n = i < NODES_MAX ? &w->nodes[i] : NULL;

		if (n == NULL || n->rotten || replica_set_has(&from->in_sync, n->id))
			continue;
		if (!has(w, i, w->acked) && n->lost_from > w->acked)
			world_broken(w, "R6: admitted without a committed record");
		if (!has(w, i, w->synced) || index_of(n, n->synced_ops) < w->synced)
			world_broken(w, "R6: admitted without a synced record");
	}
}

/* The loss that is allowed: written records that no member of the set has any more (R9), or what
 * an operator accepted (R13). */
void judge_begin(struct world *w, uint32_t i)
{
	struct node *n = &w->nodes[i];
	uint64_t epoch = n->r.mark.epoch, agrees = judge_agrees(w, i);
	struct replica_name *of = &w->primary_of[epoch % EPOCHS_MAX];

	w->n_reigns++;
	if (of->id != 0)
		world_broken(w, "an epoch has two primaries");
	*of = n->r.self;
	if (epoch < w->coord.epoch)
		return; /* late: it will not get far */
	if (!w->forced && !replica_set_has(&w->before.in_sync, n->id))
		world_broken(w, "R2: not a member");
	if (n->rotten && !w->forced)
		world_broken(w, "R9: a rotten log leads");
	if (agrees == w->acked)
		return;
	for (uint32_t k = 0; k < w->before.in_sync.n && !w->forced; k++) {
		uint32_t m = world_node_of(w, w->before.in_sync.ids[k]);

		if (m < NODES_MAX && !w->nodes[m].rotten && judge_agrees(w, m) > agrees)
			world_broken(w, "a primary lacks an acknowledged record");
		if (m == NODES_MAX)
			world_broken(w, "R13: goes on alone with a loss");
	}
	if (agrees < w->synced && !w->forced)
		world_broken(w, "a synced record is lost");
	w->reached[REACHED_FORGIVEN] += !w->forced;
	world_say(w, "forgives %llu..%llu", (unsigned long long)agrees + 1,
		(unsigned long long)w->acked);
	w->acked = agrees;
	w->synced = w->synced < agrees ? w->synced : agrees;
	w->forgiven_epoch = epoch;
}

void judge_cut(struct world *w, uint32_t i, uint64_t index)
{
	w->reached[REACHED_CUT]++;
	if (!replica_set_has(&w->coord.in_sync, w->nodes[i].id))
		return; /* it may follow one who does not know yet that it was deposed */
	if (index < w->acked && index + 1 >= w->nodes[i].base && has(w, i, index + 1))
		world_broken(w, "R5: an acknowledged record is cut");
}

void judge_install(struct world *w, uint32_t i, struct replica_place place)
{
	const struct node *n = &w->nodes[i];

	w->reached[REACHED_COPY]++;
	if (place.index > w->acked || w->truth[place.index].chain != place.chain)
		world_broken(w, "a copy of something else");
	if (replica_set_has(&w->coord.in_sync, n->id) && !n->rotten &&
		judge_agrees(w, i) > place.index)
		world_broken(w, "a copy takes acknowledged records away");
}

void judge_read(struct world *w, uint32_t i, uint64_t at_least)
{
	w->n_reads++;
	if (w->nodes[i].r.mark.epoch < w->forgiven_epoch)
		return;
	if (w->nodes[i].r.commit < at_least)
		world_broken(w, "R8: a stale read");
}

void judge_grant(struct world *w, uint64_t epoch)
{
	w->reached[REACHED_GRANT]++;
	if (epoch != w->server_acked)
		world_broken(w, "R12: granted under another epoch");
}
