/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to metadata nodes, one thing or two at once.  All is drawn from a stream of the
 * round, so that a misfortune that is left out shifts nothing behind it. */
#include "base/check.h"
#include "sim/cluster.h"

enum { LASTS_MS = 3000, STEPS_MAX = 60 };

struct trouble {
	struct cluster *cl;
	struct prng p;
	struct meta_node *mn; /* whom it strikes */
	uint64_t ns;          /* for so long */
};

static void kill_one(struct trouble *t)
{
	sim_node_kill(t->mn->node);
}

static void power_of_one(struct trouble *t)
{
	metas_power_cut(t->cl, t->mn);
}

static void power_of_all(struct trouble *t)
{
	for (uint32_t i = 0; i < t->cl->metas.n; i++) {
		metas_power_cut(t->cl, &t->cl->metas.nodes[i]);
		if (prng_odds(&t->p, 1, 2))
			for (uint64_t n = prng_below(&t->p, STEPS_MAX); n > 0; n--)
				(void)sim_step(t->cl->sc->w);
	}
}

static void pause_one(struct trouble *t)
{
	sim_node_pause(t->mn->node, t->ns);
}

/* From some or all others, one way or both; and from the store or not. */
static void isolate(struct trouble *t)
{
	uint64_t ways = 1 + prng_below(&t->p, 3), whom = prng_next(&t->p);
	bool all = prng_odds(&t->p, 1, 2), store = prng_odds(&t->p, 1, 2);

	for (uint32_t i = 0; i < cluster_nodes(t->cl); i++) {
		struct sim_node *other = cluster_node(t->cl, i);

		if (other == t->mn->node || (!all && !(whom >> i & 1)))
			continue;
		sim_net_cut(t->mn->node, other, (ways & 1) != 0);
		sim_net_cut(other, t->mn->node, (ways & 2) != 0);
	}
	if (store && t->cl->metas.cs != NULL)
		coord_sim_cut(t->cl->metas.cs, t->mn->name, true);
}

/* One metadata node on one side, all others and the store on the other; everybody else sees one
 * side, or both. */
static void divide(struct trouble *t)
{
	bool apart = prng_odds(&t->p, 1, 2);
	struct sim_node *reader = t->cl->machines[t->cl->n_machines - 1].node;

	for (uint32_t i = 0; i < cluster_nodes(t->cl); i++) {
		struct sim_node *n = cluster_node(t->cl, i);
		uint64_t side = prng_below(&t->p, 3);

		if (apart) /* only those who read see the one, and nobody else */
			side = n != reader;
		for (uint32_t k = 0; k < t->cl->metas.n; k++) {
			struct meta_node *mn = &t->cl->metas.nodes[k];
			bool here = mn == t->mn;

			if (i < t->cl->metas.n ? here == (n == t->mn->node) :
						 side == 2 || here == (side == 0))
				continue;
			if (n == mn->node)
				continue;
			sim_net_cut(n, mn->node, true);
			sim_net_cut(mn->node, n, true);
		}
	}
	if (t->cl->metas.cs != NULL)
		coord_sim_cut(t->cl->metas.cs, t->mn->name, true);
}

static void cut_pair(struct trouble *t)
{
	uint64_t i = prng_below(&t->p, cluster_nodes(t->cl));
	struct sim_node *other = cluster_node(t->cl, (uint32_t)i);
	bool back = prng_odds(&t->p, 1, 2);

	if (other == t->mn->node)
		return;
	if (back)
		sim_net_cut(other, t->mn->node, true);
	else
		sim_net_cut(t->mn->node, other, true);
}

static void stop_store(struct trouble *t)
{
	if (t->cl->metas.cs != NULL)
		coord_sim_stop(t->cl->metas.cs, sim_now_ns(t->cl->sc->w) + t->ns);
}

static void cut_store(struct trouble *t)
{
	if (t->cl->metas.cs != NULL)
		coord_sim_cut(t->cl->metas.cs, t->mn->name, true);
}

static void hand_over(struct trouble *t)
{
	struct meta_node *leader = metas_leader(t->cl);

	if (leader != NULL)
		leader->hand_over = true;
}

static void stop_cleanly(struct trouble *t)
{
	t->mn->stop = true;
}

static void jump(struct trouble *t)
{
	sim_clock_jump(t->mn->node, (int64_t)(t->ns / SYS_MS) - LASTS_MS / 2);
}

static void wipe(struct trouble *t)
{
	(void)metas_wipe(t->cl, t->mn);
}

static void rot(struct trouble *t)
{
	if (metas_rot(t->cl, t->mn) && prng_odds(&t->p, 1, 2))
		sim_node_kill(t->mn->node);
}

static void fill(struct trouble *t)
{
	sim_disk_full(t->mn->node, true);
}

static void grow(struct trouble *t)
{
	t->cl->metas.target = t->cl->metas.n;
}

static const struct {
	const char *name;
	uint32_t weight;
	void (*strike)(struct trouble *t);
} kinds[] = {
	{ "kill", 4, kill_one },
	{ "power", 3, power_of_one },
	{ "power of all", 1, power_of_all },
	{ "pause", 3, pause_one },
	{ "isolate", 4, isolate },
	{ "divide", 3, divide },
	{ "cut", 2, cut_pair },
	{ "store stopped", 2, stop_store },
	{ "store cut off", 2, cut_store },
	{ "hand-over", 3, hand_over },
	{ "stop", 2, stop_cleanly },
	{ "jump", 1, jump },
	{ "wipe", 2, wipe },
	{ "rot", 3, rot },
	{ "full", 1, fill },
	{ "grow", 1, grow },
};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

/* Half of the time it is the one that leads. */
static struct meta_node *anyone(struct trouble *t)
{
	struct meta_node *leader = metas_leader(t->cl);
	bool it = prng_odds(&t->p, 1, 2);
	uint64_t i = prng_below(&t->p, t->cl->metas.n);

	return it && leader != NULL ? leader : &t->cl->metas.nodes[i];
}

static void strike(struct trouble *t)
{
	uint64_t sum = 0, at;
	uint32_t i = 0;

	for (uint32_t k = 0; k < N_KINDS; k++)
		sum += kinds[k].weight;
	at = prng_below(&t->p, sum);
	for (; at >= kinds[i].weight; i++)
		at -= kinds[i].weight;
	t->mn = anyone(t);
	scenario_say(t->cl->sc, "trouble: %s, %s", kinds[i].name, t->mn->name);
	kinds[i].strike(t);
}

void metas_drift(struct cluster *cl, struct prng *p)
{
	for (uint32_t i = 0; i < cl->metas.n; i++) {
		int32_t ppm = (int32_t)replica_limits_default.drift_ppm;

		if (prng_odds(p, 1, 3))
			ppm = (int32_t)prng_below(p, 2 * (uint64_t)ppm + 1) - ppm;
		else if (prng_odds(p, 1, 2))
			ppm = -ppm;
		sim_clock_drift(cl->metas.nodes[i].node, ppm);
	}
}

void metas_misfortune(struct cluster *cl)
{
	struct trouble t = { .cl = cl, .p = prng_fork(prng_next(cl->sc->p), 1) };
	bool two = prng_odds(&t.p, 1, 3);

	t.ns = prng_below(&t.p, LASTS_MS * SYS_MS);
	if (prng_odds(&t.p, 1, 2))
		t.ns /= 8;
	strike(&t);
	if (two) {
		uint64_t ns = prng_below(&t.p, 200 * SYS_MS);
		bool same_step = prng_odds(&t.p, 1, 2);

		scenario_run(cl->sc, same_step ? 0 : ns);
		strike(&t);
	}
	scenario_run(cl->sc, t.ns);
	metas_heal(cl);
}

void metas_heal(struct cluster *cl)
{
	for (uint32_t i = 0; i < cl->metas.n; i++) {
		struct meta_node *mn = &cl->metas.nodes[i];

		for (uint32_t k = 0; k < cluster_nodes(cl); k++)
			if (cluster_node(cl, k) != mn->node) {
				sim_net_cut(mn->node, cluster_node(cl, k), false);
				sim_net_cut(cluster_node(cl, k), mn->node, false);
			}
		if (cl->metas.cs != NULL)
			coord_sim_cut(cl->metas.cs, mn->name, false);
		sim_disk_full(mn->node, false);
	}
}
