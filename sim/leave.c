/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/leave.h"
#include "base/check.h"
#include "meta/large.h"
#include "sim/load.h"
#include <stdlib.h>

enum {
	LEAVE_MAX = 4,      /* removals of a run */
	EMPTIED_SEC = 240,  /* grants are ended after a minute, and then it moves */
	FENCED_SEC = 40,    /* late timers, too */
	OLD_SEC = 6,        /* that a removed process goes on */
	ELSEWHERE_MAX = 4096,
};

struct leave {
	uint64_t removed[LEAVE_MAX]; /* ids of nodes */
	uint32_t n_removed;
	struct store_node *ask; /* may it go? */
	bool force;
	int may;                /* the answer, with which ask is NULL again */
	struct err_note note;
	struct store_node *go;  /* it is removed in that same turn, which makes this NULL */
	uint64_t elsewhere[ELSEWHERE_MAX];
	uint32_t n_elsewhere;
};

void leave_init(struct cluster *cl)
{
	cl->leave = scenario_alloc(cl->sc, sizeof *cl->leave);
	for (uint32_t i = 0; i < cl->n_stores; i++)
		cl->stores[i].id = i + 1;
}

bool leave_under_way(const struct cluster *cl)
{
	for (uint32_t i = 0; i < cl->n_stores; i++)
		if (cl->stores[i].drains)
			return true;
	return false;
}

/* ---- where the controller is ---- */
static bool has_member(const struct shard *sh, const struct room_egroup_info *info, uint64_t but)
{
	for (uint8_t i = 0; i < info->n_members; i++) {
		const struct large_server *s = large_server(sh, info->members[i].server);

		if (info->members[i].state == ROOM_MEMBER_IN && s->node != but && !s->removed)
			return true;
	}
	return false;
}

static void note_elsewhere(struct leave *v, struct shard *sh, uint64_t node)
{
	v->n_elsewhere = 0;
	for (uint32_t i = 0; (i = large_next_server(sh, i)) != 0;) {
		struct room_egroup_info info;
		uint32_t at = 0;
		uint64_t egroup;

		while ((egroup = room_next_egroup(large_room(sh), i, &at)) != 0 &&
			v->n_elsewhere < ELSEWHERE_MAX)
			if (room_egroup(large_room(sh), egroup, &info) && !info.lost &&
				!info.doomed && info.used_bytes > 0 &&
				has_member(sh, &info, node))
				v->elsewhere[v->n_elsewhere++] = egroup;
	}
}

static const char lost_rule[] = "a removal loses only what was nowhere else"; /* (V3) */

static void still_elsewhere(struct cluster *cl, struct shard *sh, uint64_t node)
{
	const struct leave *v = cl->leave;

	scenario_checked(lost_rule);
	for (uint32_t i = 0; i < v->n_elsewhere; i++) {
		struct room_egroup_info info;

		if (!room_egroup(large_room(sh), v->elsewhere[i], &info) || info.lost ||
			info.doomed || !has_member(sh, &info, node)) {
			violation(cl->sc, lost_rule, "group %llu, with node %llu",
				(unsigned long long)v->elsewhere[i], (unsigned long long)node);
			return;
		}
	}
}

static void answer(struct cluster *cl, const struct control *ctl)
{
	static const char rule[] = "what is nowhere else goes only by force"; /* (V2) */
	struct leave *v = cl->leave;

	v->may = control_node_may_go(ctl, v->ask->id, v->force, &v->note);
	scenario_checked(rule);
	if (v->may == 0 && !v->force && v->ask->look.only_bytes > 0)
		violation(cl->sc, rule, "s%u", v->ask->number);
	v->ask = NULL;
}

void leave_operate(struct cluster *cl, struct control *ctl, struct shard *sh)
{
	struct leave *v = cl->leave;

	for (uint32_t i = 0; i < v->n_removed; i++)
		(void)control_node_remove(ctl, v->removed[i]);
	for (uint32_t i = 0; i < cl->n_stores; i++) {
		struct store_node *sn = &cl->stores[i];

		(void)control_node_drain(ctl, sn->id, sn->drains);
		control_node_look(ctl, sn->id, &sn->look);
		sn->looked = true;
	}
	if (v->ask != NULL)
		answer(cl, ctl);
	if (v->go == NULL)
		return;
	note_elsewhere(v, sh, v->go->id);
	v->removed[v->n_removed++] = v->go->id;
	if (control_node_remove(ctl, v->go->id) == 0)
		still_elsewhere(cl, sh, v->go->id);
	v->go = NULL;
}

/* ---- operators ---- */
static int may_go(struct cluster *cl, struct store_node *sn, bool force, uint64_t until_ns)
{
	struct leave *v = cl->leave;

	v->may = E_UNAVAILABLE;
	do {
		v->ask = sn;
		v->force = force;
		scenario_run(cl->sc, 100 * SYS_MS);
		cluster_start(cl);
	} while (v->may == E_UNAVAILABLE && sim_now_ns(cl->sc->w) < until_ns);
	v->ask = NULL;
	return v->may;
}

/* The row of its node says that it was removed; when that is followed is for who leads. */
static void remove_it(struct cluster *cl, struct store_node *sn)
{
	struct leave *v = cl->leave;
	uint64_t ns = prng_below(cl->sc->p, SYS_SEC);
	bool slow = prng_odds(cl->sc->p, 1, 2);

	scenario_run(cl->sc, slow ? ns : 0);
	v->go = sn;
	while (v->go != NULL && cl->sc->violations == 0) {
		cluster_start(cl);
		scenario_run(cl->sc, 50 * SYS_MS);
	}
	scenario_say(cl->sc, "s%u is removed", sn->number);
}

/* Another machine, under the same name. */
static void replace(struct cluster *cl, struct store_node *sn)
{
	uint64_t ns = prng_below(cl->sc->p, OLD_SEC * SYS_SEC);
	bool goes_on = prng_odds(cl->sc->p, 1, 2);

	sn->away = false;
	if (goes_on) { /* or comes back from the dead */
		cluster_start(cl);
		scenario_run(cl->sc, ns);
	}
	sim_node_kill(sn->node);
	sim_node_wipe(sn->node);
	sn->used_bytes = sn->reserved_bytes = 0;
	sn->drains = false;
	sn->id += STORES_MAX;
	cluster_start(cl);
}

static const char empty_rule[] = "a server that drains is empty in bounded time"; /* (V1) */

static void see_it_off(struct cluster *cl, struct store_node *sn)
{
	struct scenario *sc = cl->sc;
	uint64_t until_ns = sim_now_ns(sc->w) + EMPTIED_SEC * SYS_SEC;
	int rc;

	scenario_checked(empty_rule);
	do {
		sn->looked = false;
		cluster_start(cl);
		scenario_run(sc, SYS_SEC);
	} while ((!sn->looked || sn->look.held_bytes > 0) && sim_now_ns(sc->w) < until_ns &&
		sc->violations == 0);
	if (sc->violations > 0)
		return;
	if (!sn->looked || sn->look.held_bytes > 0) {
		violation(sc, empty_rule, "s%u holds %llu bytes: %s", sn->number,
			(unsigned long long)sn->look.held_bytes,
			sn->looked ? sn->look.waits : "nobody leads");
		return;
	}
	scenario_checked("what is empty may go");
	rc = may_go(cl, sn, false, until_ns + SYS_SEC);
	if (rc < 0) {
		violation(sc, "what is empty may go", "s%u: %s", sn->number, cl->leave->note.text);
		return;
	}
	remove_it(cl, sn);
	if (sc->violations == 0)
		replace(cl, sn);
}

static struct store_node *leaver(struct cluster *cl)
{
	for (uint32_t i = 0; i < cl->n_stores; i++)
		if (cl->stores[i].drains)
			return &cl->stores[i];
	return NULL;
}

void leave_step(struct cluster *cl, const struct sim_faults *faults)
{
	struct store_node *sn = leaver(cl);
	uint64_t which = prng_below(cl->sc->p, cl->n_stores), what = prng_below(cl->sc->p, 8);

	if (cl->leave->n_removed == LEAVE_MAX)
		return;
	if (sn == NULL) {
		cl->stores[which].drains = true;
		scenario_say(cl->sc, "s%u is to be emptied", cl->stores[which].number);
	} else if (what == 0) {
		sn->drains = false;
		scenario_say(cl->sc, "s%u is to stay", sn->number);
	} else if (what < 4) {
		sim_faults_set(cl->sc->w, &sim_no_faults);
		see_it_off(cl, sn);
		sim_faults_set(cl->sc->w, faults);
	}
}

void leave_by_force(struct cluster *cl, const struct sim_faults *faults)
{
	struct scenario *sc = cl->sc;
	struct store_node *sn = &cl->stores[prng_below(sc->p, cl->n_stores)];
	uint64_t until_ns = sim_now_ns(sc->w) + FENCED_SEC * SYS_SEC;
	bool drains = prng_odds(sc->p, 1, 2);

	if (cl->leave->n_removed == LEAVE_MAX)
		return;
	sim_faults_set(sc->w, &sim_no_faults);
	sim_node_kill(sn->node);
	if (sim_node_up(sn->node)) /* it was spared */
		return;
	sn->away = true;
	sn->drains = drains; /* before it was seen to be dead */
	ledger_boot(cl->ledger);
	scenario_say(sc, "s%u is dead", sn->number);
	scenario_checked("who is dead can be removed by force");
	while (may_go(cl, sn, true, until_ns) < 0 && sim_now_ns(sc->w) < until_ns)
		; /* its silence has to be noticed first */
	if (cl->leave->may < 0) {
		violation(sc, "who is dead can be removed by force", "s%u: %s", sn->number,
			cl->leave->note.text);
		return;
	}
	sn->looked = false;
	while (!sn->looked && sc->violations == 0)
		scenario_run(sc, 50 * SYS_MS);
	if (sn->look.only_bytes > 0) {
		(void)may_go(cl, sn, false, until_ns + SYS_SEC);
		ledger_given_up(cl->ledger, LOOSE);
	}
	remove_it(cl, sn);
	if (sc->violations == 0)
		replace(cl, sn);
	sim_faults_set(sc->w, faults);
}
