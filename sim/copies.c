/* SPDX-License-Identifier: Apache-2.0 */
/* copies: objects of which two storage servers each have a copy, while storage servers lose their
 * disks for good, one at a time, or one of them rots, or they are emptied and removed and others
 * come in their places (leave.h); beside all that happens to large objects.
 *
 * (L1) ledger.h's rules, with nothing excused: every committed byte stays readable; (L2) the copies
 * are restored in bounded time; (L3) once everything is deleted nothing is left, for the shard and
 * for each server that is still there. */
#include "sim/leave.h"
#include "sim/load.h"

enum {
	ROUNDS = 10,
	STEPS_MAX = 80,
	MACHINES = 2,
	WORKERS = 2,
	VALUE_BYTES_MAX = 120 << 10,
	RESTORED_SEC = 240, /* a server is gone after a minute */
	NOTICED_SEC = 10,   /* after that the controller knows that a server is silent */
	EMPTY_SEC = 700,
};

struct copies {
	struct load load; /* first: workers know it by that */
	bool wipes, leaves; /* else the disk of the first server rots */
	struct sim_faults faults;
	uint32_t n_wiped;
	uint64_t wiped_ns;
};

static uint32_t any_len(struct worker *w)
{
	uint64_t at = prng_below(&w->p, VALUE_BYTES_MAX);

	return prng_below(&w->p, 4) == 0 ? LEDGER_VALUE_MIN + (uint32_t)at % 500
					 : 4097 + (uint32_t)at % (VALUE_BYTES_MAX - 4097);
}

PARKS static int work(struct worker *w, struct client *c)
{
	int rc = load_buckets(w, c);

	while (cluster_going(w) && rc != E_CANCELED) {
		rc = prng_below(&w->p, 16) < 8 ? load_change(w, c) : load_read(w, c);
		if (rc != E_CANCELED)
			rc = load_pause(w, 60 * SYS_MS);
	}
	return rc;
}

PARKS static int judge(struct worker *w, struct client *c)
{
	int rc = load_buckets(w, c);

	if (rc == 0)
		rc = judge_look(w, c);
	if (rc == 0)
		rc = judge_delete(w, c);
	cluster_judged(w->cl, rc);
	return rc;
}

/* Who lost power said nothing, and is taken to be well until its silence is noticed. */
static void wait_until_sound(struct cluster *cl, const struct copies *m)
{
	struct scenario *sc = cl->sc;
	uint64_t noticed_ns = m->n_wiped > 0 ? m->wiped_ns + NOTICED_SEC * SYS_SEC : 0;
	uint64_t until_ns = sim_now_ns(sc->w) + RESTORED_SEC * SYS_SEC;

	scenario_checked("copies are restored in bounded time");
	do {
		cl->now.sound = false;
		cluster_start(cl);
		scenario_run(sc, SYS_SEC);
		if (sim_now_ns(sc->w) < noticed_ns)
			cl->now.sound = false;
	} while (!cl->now.sound && sim_now_ns(sc->w) < until_ns);
	if (!cl->now.sound)
		violation(sc, "copies are restored in bounded time", "after %d s they are not",
			RESTORED_SEC);
}

/* Only what has all of its copies: with the last one it would be gone. */
static void wipe(struct cluster *cl, struct copies *m)
{
	struct store_node *sn = &cl->stores[prng_below(cl->sc->p, cl->n_stores)];

	sim_faults_set(cl->sc->w, &sim_no_faults);
	wait_until_sound(cl, m);
	if (!cl->now.sound)
		return;
	sim_node_crash(sn->node);
	sim_node_wipe(sn->node);
	m->n_wiped++;
	m->wiped_ns = sim_now_ns(cl->sc->w);
	scenario_say(cl->sc, "s%u lost its disks", sn->number);
}

/* While one is emptied, everything else happens, too. */
static void leave(struct cluster *cl, struct copies *m)
{
	uint64_t what = prng_below(cl->sc->p, 8);
	bool hand_over = prng_odds(cl->sc->p, 1, 4);
	struct meta_node *leader = metas_leader(cl);

	if (what < 4)
		leave_step(cl, &m->faults);
	if (cl->sc->violations > 0)
		return;
	if (what < 6) {
		if (hand_over && leader != NULL && cl->metas.n > 1)
			leader->hand_over = true;
		cluster_misfortune(cl);
	} else if (!leave_under_way(cl)) {
		sim_faults_set(cl->sc->w, &sim_no_faults);
		wait_until_sound(cl, m);
		if (cl->now.sound)
			leave_by_force(cl, &m->faults);
	}
}

static void misfortune(struct cluster *cl, void *mine)
{
	struct scenario *sc = cl->sc;
	struct copies *m = mine;

	if (m->leaves)
		leave(cl, m);
	else if (!prng_odds(sc->p, 1, 3))
		cluster_misfortune(cl);
	else if (m->wipes)
		wipe(cl, m);
	else
		(void)sim_disk_rot_any(cl->stores[0].node,
			prng_odds(sc->p, 1, 2) ? "flash" : "disk");
}


void scenario_copies(struct scenario *sc)
{
	struct copies *m = scenario_alloc(sc, sizeof *m);
	struct sim_faults f = scenario_swarm(sc);
	uint64_t what = prng_below(sc->p, 6), loose = prng_below(sc->p, 3);
	bool several = what < 3 && prng_odds(sc->p, 1, 3);
	struct cluster *cl = cluster_new_of(sc, VALUE_BYTES_MAX, several ? METAS_MAX : 1);

	m->load = (struct load){ .cl = cl, .any_len = any_len, .value_bytes_max = VALUE_BYTES_MAX };
	m->leaves = what < 3;
	m->wipes = what == 3 || what == 4;
	f.disk_rot_ppm = 0;
	m->faults = f;
	sim_faults_set(sc->w, &f);
	cluster_stores(cl, 3 + (uint32_t)prng_below(sc->p, 2));
	cl->copies = 2;
	cl->loose_apart = m->leaves && loose > 0; /* one copy, in files or in memory */
	cl->loose_copies = loose == 1;
	if (m->leaves)
		leave_init(cl);
	for (int i = 0; i < MACHINES; i++)
		cluster_machine(cl, WORKERS, work, m);
	ledger_history(cl->ledger);
	cluster_start(cl);
	scenario_run(sc, SYS_SEC);
	cluster_course(cl,
		&(struct course){ .rounds = ROUNDS,
			.steps_max = STEPS_MAX,
			.work_ns_max = 800 * SYS_MS,
			.misfortune = misfortune,
			.judge = judge,
			.mine = m,
			.judge_sec = 240,
			.empty_sec = EMPTY_SEC });
	ledger_judge(cl->ledger);
}
