/* SPDX-License-Identifier: Apache-2.0 */
/* deposed: a primary that leads no more and goes on as if it did, again and again.
 *
 * Load and history are those of small, in half of the runs with large objects on storage servers;
 * who only reads keeps to what changes just now.  Beside the troubles of replicas:
 *
 *   readers  cut off from its set and from the store of who leads, it is still reached by those who
 *            read (R8);
 *   members  another has led for a while; then those who obeyed that one are started again, while
 *            the store does not answer, and hear the old one (R3);
 *   stores   the same of storage servers and of clients with what they were given before (R12);
 *   frozen   it stands still until another leads, and wakes among those who ask it;
 *   rot      the end of its log rots, below what it had synced, and it is started again at once, or
 *            while nobody else may lead (R9);
 *   orphans  the last member of the set loses its disk: nobody leads until an operator says so, and
 *            then nothing is lost, for alone it committed nothing (R7, R13);
 *   waiting  all lose their power, and one of the set stays away: nobody leads without it (R9). */
#include "base/limit.h"
#include "meta/serve.h"
#include "sim/small.h"

enum {
	ROUNDS = 10,
	STEPS_MAX = 60,
	STORES = 2,
	LARGE_BYTES_MAX = 60 << 10,
	TRIES = 100,      /* of 5 ms, for another one to lead */
	WITHOUT_MS = 1200, /* of a leader: long enough for anybody to take over */
	READERS = 3,
	JUDGE_SEC = 240,
	EMPTY_SEC = 700,
};

struct plot {
	struct cluster *cl;
	struct prng p;
	struct meta_node *old;
};

static void go_on(struct plot *t, uint64_t ms_max)
{
	uint64_t ns = prng_below(&t->p, ms_max * SYS_MS);

	scenario_run(t->cl->sc, ns);
}

static void cut(struct sim_node *a, struct sim_node *b, bool on)
{
	sim_net_cut(a, b, on);
	sim_net_cut(b, a, on);
}

/* The other metadata nodes from n. */
static void cut_others(struct plot *t, struct sim_node *n, bool on)
{
	for (uint32_t i = 0; i < t->cl->metas.n; i++)
		if (&t->cl->metas.nodes[i] != t->old)
			cut(t->cl->metas.nodes[i].node, n, on);
}

/* From its set and the store. */
static void set_apart(struct plot *t)
{
	cut_others(t, t->old->node, true);
	coord_sim_cut(t->cl->metas.cs, t->old->name, true);
}

static bool another_leads(const struct plot *t)
{
	for (uint32_t i = 0; i < t->cl->metas.n; i++)
		if (&t->cl->metas.nodes[i] != t->old && metas_serves(&t->cl->metas.nodes[i]))
			return true;
	return false;
}

static bool wait_for_another(struct plot *t)
{
	for (int i = 0; i < TRIES && !another_leads(t); i++)
		scenario_run(t->cl->sc, 5 * SYS_MS);
	return another_leads(t);
}

/* Those who write go to the new one, those who read stay. */
static void take_sides(struct plot *t)
{
	struct cluster *cl = t->cl;

	for (uint32_t i = 0; i + 1 < cl->n_machines; i++)
		if (prng_odds(&t->p, 3, 4))
			cut(cl->machines[i].node, t->old->node, true);
	if (prng_odds(&t->p, 3, 4))
		cut_others(t, cl->machines[cl->n_machines - 1].node, true);
}

static void readers(struct plot *t)
{
	set_apart(t);
	take_sides(t);
	if (wait_for_another(t))
		go_on(t, 600);
}

/* Killed or without power; what they know is what is on their disks. */
static void start_others_again(struct plot *t)
{
	bool power = prng_odds(&t->p, 1, 4);

	for (uint32_t i = 0; i < t->cl->metas.n; i++) {
		struct meta_node *mn = &t->cl->metas.nodes[i];

		if (mn == t->old)
			continue;
		if (power)
			metas_power_cut(t->cl, mn);
		else
			sim_node_kill(mn->node);
	}
	coord_sim_stop(t->cl->metas.cs,
		sim_now_ns(t->cl->sc->w) + (200 + prng_below(&t->p, 800)) * SYS_MS);
	metas_start(t->cl);
}

static void members(struct plot *t)
{
	set_apart(t);
	take_sides(t);
	if (!wait_for_another(t))
		return;
	go_on(t, 400);
	start_others_again(t);
	cut_others(t, t->old->node, false); /* not the store */
	go_on(t, 800);
}

static void stores(struct plot *t)
{
	struct cluster *cl = t->cl;
	bool again = prng_odds(&t->p, 1, 2);

	set_apart(t);
	for (uint32_t i = 0; i < cl->n_stores; i++)
		cut(cl->stores[i].node, t->old->node, true);
	if (!wait_for_another(t))
		return;
	go_on(t, 800);
	for (uint32_t i = 0; i < cl->n_stores; i++) {
		if (again)
			sim_node_kill(cl->stores[i].node);
		cut(cl->stores[i].node, t->old->node, false);
		if (prng_odds(&t->p, 1, 2))
			cut_others(t, cl->stores[i].node, true);
	}
	cluster_start(cl);
	go_on(t, 1500);
}

static void frozen(struct plot *t)
{
	uint64_t ns = (100 + prng_below(&t->p, 600)) * SYS_MS;

	if (prng_odds(&t->p, 1, 2))
		take_sides(t);
	sim_node_pause(t->old->node, ns);
	scenario_run(t->cl->sc, ns);
	go_on(t, 200);
}

static void rot(struct plot *t)
{
	bool follower = prng_odds(&t->p, 1, 2);
	uint32_t i = (t->old->number + 1 + (uint32_t)prng_below(&t->p, 2)) % t->cl->metas.n;
	struct meta_node *mn = follower ? &t->cl->metas.nodes[i] : t->old;

	if (!metas_rot_end(t->cl, mn))
		return;
	sim_node_kill(mn->node);
	if (follower) {
		sim_node_kill(t->old->node);
		i = METAS_MAX - mn->number - t->old->number;
		coord_sim_cut(t->cl->metas.cs, t->cl->metas.nodes[i].name, true);
		sim_node_start(mn->node, metas_main, mn);
	} else {
		metas_start(t->cl);
	}
	go_on(t, 1000);
}

static const char nobody_rule[] = "without those who may hold more, nobody leads by itself";

/* All in the set, within a while; the one that leads then is the old one. */
static bool gather(struct plot *t)
{
	for (int i = 0; i < TRIES && !metas_together(t->cl); i++) {
		scenario_run(t->cl->sc, 20 * SYS_MS);
		metas_start(t->cl);
	}
	if (!metas_together(t->cl))
		return false;
	t->old = metas_leader(t->cl);
	return true;
}

/* Others cannot take over; it goes on alone. */
static bool leave_it_alone(struct plot *t)
{
	struct metas *m = &t->cl->metas;

	cut_others(t, t->old->node, true);
	for (uint32_t i = 0; i < m->n; i++)
		if (&m->nodes[i] != t->old)
			coord_sim_cut(m->cs, m->nodes[i].name, true);
	for (int i = 0; i < TRIES && t->old->set.n != 1; i++)
		scenario_run(t->cl->sc, 10 * SYS_MS);
	return t->old->set.n == 1 && metas_serves(t->old);
}

/* Who holds most of it: all that it committed with anybody. */
static struct meta_node *longest(const struct plot *t)
{
	struct meta_node *found = NULL;

	for (uint32_t i = 0; i < t->cl->metas.n; i++) {
		struct meta_node *mn = &t->cl->metas.nodes[i];

		if (mn != t->old && mn->v != NULL &&
			(found == NULL || mn->seen.last > found->seen.last))
			found = mn;
	}
	return found;
}

static void orphans(struct plot *t)
{
	struct scenario *sc = t->cl->sc;
	struct meta_node *next;

	if (!gather(t) || !leave_it_alone(t) || !metas_lose(t->cl, t->old))
		return;
	metas_heal(t->cl);
	metas_start(t->cl);
	scenario_run(sc, WITHOUT_MS * SYS_MS);
	scenario_checked(nobody_rule);
	if (another_leads(t) || metas_serves(t->old))
		violation(sc, nobody_rule, "the last of the set has lost its disk");
	next = longest(t);
	for (int i = 0; i < TRIES && next != NULL && !another_leads(t); i++) {
		if (next->v != NULL && i % 20 == 0)
			scenario_say(sc, "%s is forced: %s", next->name,
				err_name(replicate_force(serve_replicate(next->v))));
		scenario_run(sc, 20 * SYS_MS);
	}
}

static void waiting(struct plot *t)
{
	struct metas *m = &t->cl->metas;
	struct meta_node *away = &m->nodes[prng_below(&t->p, m->n)];

	if (!gather(t) || !metas_settled(t->cl))
		return;
	for (uint32_t i = 0; i < m->n; i++)
		metas_power_cut(t->cl, &m->nodes[i]);
	for (uint32_t i = 0; i < m->n; i++)
		if (&m->nodes[i] != away && !sim_node_up(m->nodes[i].node))
			sim_node_start(m->nodes[i].node, metas_main, &m->nodes[i]);
	scenario_run(t->cl->sc, WITHOUT_MS * SYS_MS);
	if (sim_node_up(away->node)) /* spared */
		return;
	scenario_checked(nobody_rule);
	if (metas_leader(t->cl) != NULL)
		violation(t->cl->sc, nobody_rule, "%s was not asked", away->name);
}

static void plot(struct cluster *cl, void *mine)
{
	static void (*const plots[])(struct plot *t) = { readers, members, frozen, rot, readers,
		members, orphans, waiting, stores, stores };
	struct plot t = { .cl = cl, .p = prng_fork(prng_next(cl->sc->p), 2) };
	uint64_t which = prng_below(&t.p, cl->n_stores > 0 ? 12 : 10);

	if (which >= sizeof plots / sizeof plots[0] - (cl->n_stores > 0 ? 0 : 2)) {
		metas_misfortune(cl);
		return;
	}
	if (prng_odds(&t.p, 1, 4))
		metas_drift(cl, &t.p);
	t.old = metas_leader(cl);
	if (t.old == NULL) {
		go_on(&t, 300);
		return;
	}
	scenario_say(cl->sc, "plot %u against %s", (unsigned)which, t.old->name);
	plots[which](&t);
	metas_heal(cl);
}

/* What changes just now. */
PARKS static int only_read(struct worker *w, struct client *c)
{
	int rc = 0;

	while (cluster_going(w) && rc != E_CANCELED) {
		rc = load_read_own(w, c);
		if (rc != E_CANCELED)
			rc = load_pause(w, 10 * SYS_MS);
	}
	return rc;
}

static uint32_t any_len(struct worker *w)
{
	uint64_t kind = prng_below(&w->p, 8), at = prng_below(&w->p, LARGE_BYTES_MAX / 2);

	if (kind < 4)
		return LEDGER_VALUE_MIN + (uint32_t)at % 3000;
	return LIMIT_INLINE_BYTES_MAX + 1 + (uint32_t)at;
}

void scenario_deposed(struct scenario *sc)
{
	struct sim_faults f = scenario_swarm(sc);
	bool large = prng_odds(sc->p, 1, 2);
	uint32_t bytes_max = large ? LARGE_BYTES_MAX : LIMIT_INLINE_BYTES_MAX;
	struct cluster *cl = cluster_new_of(sc, bytes_max, METAS_MAX);
	struct small *m = small_new(cl, large ? any_len : NULL, bytes_max);

	f.disk_rot_ppm = 0;
	sim_faults_set(sc->w, &f);
	if (large)
		cluster_stores(cl, STORES);
	small_workers(m, 2, 3);
	cluster_machine(cl, READERS, only_read, m);
	cluster_start(cl);
	scenario_run(sc, SYS_SEC);
	cluster_course(cl,
		&(struct course){ .rounds = ROUNDS,
			.steps_max = STEPS_MAX,
			.work_ns_max = 600 * SYS_MS,
			.misfortune = plot,
			.judge = small_judge,
			.mine = m,
			.judge_sec = JUDGE_SEC,
			.empty_sec = large ? EMPTY_SEC : 30 });
	ledger_judge(cl->ledger);
}
