/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/cluster.h"
#include "base/check.h"
#include "control/token.h"
#include "store/store.h"
#include <stdio.h>
#include <string.h>

enum {
	STORE_DISK_BYTES = 256 << 20,
	CLIENT_DISK_BYTES = 1 << 20,
	LATE_SEC = 12,   /* a late timer after a late timer, and a pause */
	STOP_SEC = 30,
	AUDIT_SEC = 10,
	SCRUB_MS = 4000, /* where there are copies: not a day */
};
#define TICK_NS (50 * SYS_MS)
#define MIB (UINT64_C(1) << 20)

/* ---- storage servers ---- */
static void look_into(struct store_node *sn, struct store *st)
{
	struct store_status status;

	store_audit(st);
	store_status(st, &status);
	sn->used_bytes = sn->reserved_bytes = 0;
	for (unsigned i = 0; i < status.n_devices; i++) {
		sn->used_bytes += status.devices[i].used_bytes + status.devices[i].pinned_bytes;
		sn->reserved_bytes += status.devices[i].reserved_bytes;
	}
	sn->audits++;
}

static int store_main(struct sys *s, void *arg)
{
	static const struct store_device ample[] = {
		{ .tier = TIER_DRAM, .bytes = 8 * MIB, .egroup_bytes = MIB },
		{ .tier = TIER_FLASH, .bytes = 16 * MIB, .egroup_bytes = 2 * MIB, .dir = "flash" },
		{ .tier = TIER_DISK, .bytes = 32 * MIB, .egroup_bytes = 4 * MIB, .dir = "disk" },
	};
	static const struct store_device little[] = {
		{ .tier = TIER_DRAM, .bytes = MIB, .egroup_bytes = MIB / 4 },
		{ .tier = TIER_FLASH, .bytes = MIB, .egroup_bytes = MIB / 4, .dir = "flash" },
		{ .tier = TIER_DISK, .bytes = 2 * MIB, .egroup_bytes = MIB / 2, .dir = "disk" },
	};
	/* For the copies of a server that is gone there has to be room beside what is granted. */
	static const struct store_device roomy[] = {
		{ .tier = TIER_DRAM, .bytes = MIB, .egroup_bytes = MIB / 4 },
		{ .tier = TIER_FLASH, .bytes = 160 * MIB, .egroup_bytes = 2 * MIB, .dir = "flash" },
		{ .tier = TIER_DISK, .bytes = 32 * MIB, .egroup_bytes = 4 * MIB, .dir = "disk" },
	};
	struct store_node *sn = arg;
	struct cluster *cl = sn->cl;
	const struct store_device *devices = cl->little_room ? little
					     : cl->copies > 0 ? roomy
							      : ample;
	struct err_note note = { "" };
	const char *listen[1];
	char addr[SYS_ADDR_MAX];
	struct store_opts o = { .dir = "data", .devices = devices,
		.n_devices = sizeof ample / sizeof ample[0], .listen = listen, .n_listen = 1,
		.controller = cl->metas.addr, .token = bytes_of(cl->token, cl->token_len),
		.node = sn->id,
		.scrub_ms = cl->copies > 0 ? SCRUB_MS : 0 };
	struct store *st;
	int rc;

	ledger_boot(cl->ledger);
	snprintf(addr, sizeof addr, "tcp:s%u:9300", sn->number);
	listen[0] = addr;
	rc = store_new(s, &o, &st, &note);
	if (rc < 0) {
		scenario_say(cl->sc, "store: %s: %s", err_name(rc), note.text);
		return rc;
	}
	while (rc == 0) {
		look_into(sn, st);
		rc = fiber_sleep(sys_after(s, 4 * TICK_NS));
	}
	store_free(st);
	return rc;
}

/* ---- machines with clients ---- */
static int worker_main(void *arg)
{
	struct worker *w = arg;

	check(w->number < 64);
	if (w->machine == &w->cl->judge)
		return w->run(w, w->client);
	w->cl->sc->workers |= UINT64_C(1) << w->number;
	if (w->cl->sc->idle_workers >> w->number & 1)
		return 0;
	return w->run(w, w->client);
}

PARKS static int workers_run(struct sys *s, struct machine *m, struct client *c)
{
	struct group g;
	int rc = 0;

	group_init(&g, sys_loop(s));
	for (uint32_t i = 0; i < m->n_workers && rc == 0; i++) {
		m->workers[i].sys = s;
		m->workers[i].client = c;
		rc = fiber_start(&g, "worker", worker_main, &m->workers[i]);
	}
	if (rc < 0)
		group_cancel(&g);
	rc = group_wait(&g);
	return rc;
}

static int machine_main(struct sys *s, void *arg)
{
	struct machine *m = arg;
	const char *token = m->token != NULL ? m->token : m->cl->token;
	struct client_opts o = { .addr = m->cl->metas.addr, .wait = true,
		.token = bytes_of(token, strnlen(token, TOKEN_TEXT_MAX)) };
	struct client *c = NULL;
	struct err_note note;
	int rc = E_UNREACH;

	m->starts++;
	while (rc < 0 && !m->cl->stop) {
		rc = client_new(s, &o, sys_after(s, SYS_SEC), &c, &note);
		if (rc == E_CANCELED)
			return rc;
	}
	if (c == NULL)
		return rc;
	rc = workers_run(s, m, c);
	client_free(c);
	return rc;
}

bool cluster_going(const struct worker *w)
{
	return !w->cl->stop && w->cl->sc->violations == 0;
}

uint64_t worker_until(struct worker *w)
{
	return sys_after(w->sys, 200 * SYS_MS + prng_below(&w->p, 4 * SYS_SEC));
}

void worker_in_time(struct worker *w, uint64_t until_ns, const char *what)
{
	uint64_t now_ns = sys_now_ns(w->sys);

	scenario_checked("every call ends by its deadline");
	if (now_ns > until_ns + LATE_SEC * SYS_SEC)
		violation(w->cl->sc, "every call ends by its deadline", "%s: %llu ms late", what,
			(unsigned long long)((now_ns - until_ns) / SYS_MS));
}

/* ---- the world ---- */
static void machine_init(struct cluster *cl, struct machine *m, const char *name,
	uint32_t n_workers, worker_fn *run, void *mine)
{
	check(n_workers <= WORKERS_MAX);
	m->cl = cl;
	m->node = sim_node_add(cl->sc->w, name, CLIENT_DISK_BYTES);
	m->n_workers = n_workers;
	for (uint32_t i = 0; i < n_workers; i++)
		m->workers[i] = (struct worker){ .cl = cl, .machine = m, .run = run,
			.mine = mine,
			.number = cl->n_machines * WORKERS_MAX + i,
			.p = prng_fork(prng_next(cl->sc->p), i) };
}

static void end(struct scenario *sc)
{
	metas_fini(sc->at_end_arg);
}

struct cluster *cluster_new_of(struct scenario *sc, uint32_t value_bytes_max, uint32_t n_metas)
{
	struct cluster *cl = scenario_alloc(sc, sizeof *cl);

	cl->sc = sc;
	cl->ledger = ledger_new(sc, value_bytes_max);
	metas_init(cl, n_metas);
	sc->at_end = end;
	sc->at_end_arg = cl;
	for (size_t i = 0; i < sizeof cl->key; i++)
		cl->key[i] = (uint8_t)prng_next(sc->p);
	cl->token_len = token_admin(cl->key, cl->token);
	return cl;
}

struct cluster *cluster_new(struct scenario *sc, uint32_t value_bytes_max)
{
	return cluster_new_of(sc, value_bytes_max, 1);
}

void cluster_stores(struct cluster *cl, uint32_t n)
{
	char name[16];

	check(n <= STORES_MAX);
	cl->control = cl->ledger->files = true;
	for (uint32_t i = 0; i < n; i++) {
		snprintf(name, sizeof name, "s%u", i);
		cl->stores[i] = (struct store_node){ .cl = cl, .number = i,
			.node = sim_node_add(cl->sc->w, name, STORE_DISK_BYTES) };
	}
	cl->n_stores = n;
}

struct machine *cluster_machine(
	struct cluster *cl, uint32_t n_workers, worker_fn *run, void *mine)
{
	struct machine *m = &cl->machines[cl->n_machines];
	char name[16];

	check(cl->n_machines < CLIENTS_MAX);
	snprintf(name, sizeof name, "c%u", cl->n_machines);
	machine_init(cl, m, name, n_workers, run, mine);
	cl->n_machines++;
	return m;
}

void cluster_start(struct cluster *cl)
{
	metas_start(cl);
	for (uint32_t i = 0; i < cl->n_stores; i++)
		if (!sim_node_up(cl->stores[i].node) && !cl->stores[i].away)
			sim_node_start(cl->stores[i].node, store_main, &cl->stores[i]);
	for (uint32_t i = 0; i < cl->n_machines; i++)
		if (!sim_node_up(cl->machines[i].node))
			sim_node_start(cl->machines[i].node, machine_main, &cl->machines[i]);
}

uint32_t cluster_nodes(const struct cluster *cl)
{
	return cl->metas.n + cl->n_machines + cl->n_stores;
}

struct sim_node *cluster_node(const struct cluster *cl, uint64_t i)
{
	if (i < cl->metas.n)
		return cl->metas.nodes[i].node;
	i -= cl->metas.n;
	return i < cl->n_machines ? cl->machines[i].node : cl->stores[i - cl->n_machines].node;
}

static void cut_all(struct cluster *cl, struct sim_node *n, unsigned ways)
{
	for (uint32_t i = 0; i < cluster_nodes(cl); i++)
		if (cluster_node(cl, i) != n) {
			sim_net_cut(n, cluster_node(cl, i), (ways & 1) != 0);
			sim_net_cut(cluster_node(cl, i), n, (ways & 2) != 0);
		}
}

static void meta_misfortune(struct cluster *cl, uint64_t what)
{
	if (what < 4) {
		ledger_power_cut(cl->ledger);
		sim_node_crash(cl->meta);
	} else if (what < 7) {
		sim_node_kill(cl->meta);
	} else {
		cl->metas.nodes[0].stop = true;
		scenario_run(cl->sc, 100 * SYS_MS);
		scenario_steps(cl->sc, 100);
		cl->metas.nodes[0].stop = false;
	}
}

void cluster_misfortune(struct cluster *cl)
{
	struct scenario *sc = cl->sc;
	struct sim_node *n = cluster_node(cl, prng_below(sc->p, cluster_nodes(cl)));
	uint64_t kind = prng_below(sc->p, 12), what = prng_below(sc->p, 8);
	uint64_t ns = prng_below(sc->p, 1500 * SYS_MS);

	if (kind < 5) {
		meta_misfortune(cl, what);
	} else if (kind < 7 && n != cl->meta) {
		if (what < 5)
			sim_node_crash(n);
		else
			sim_node_kill(n);
	} else if (kind == 8) {
		sim_node_pause(n, ns);
	} else if (kind < 11) {
		cut_all(cl, n, 1 + what % 3);
		scenario_run(sc, ns);
		cut_all(cl, n, 0);
	} else {
		sim_clock_jump(n, (int64_t)(ns / SYS_MS) - 500);
	}
}

static void heal(struct cluster *cl)
{
	sim_faults_set(cl->sc->w, &sim_no_faults);
	if (cl->metas.cs != NULL)
		coord_sim_faults_set(cl->metas.cs, &coord_sim_quiet);
	metas_heal(cl);
	for (uint32_t i = 0; i < cluster_nodes(cl); i++)
		cut_all(cl, cluster_node(cl, i), 0);
	cluster_start(cl);
	scenario_run(cl->sc, 4 * SYS_SEC); /* a slow disk is slow for 2 s, a pause may last */
	cluster_start(cl);
}

static bool all_down(const struct cluster *cl)
{
	for (uint32_t i = 0; i < cl->n_machines; i++)
		if (sim_node_up(cl->machines[i].node))
			return false;
	return true;
}

static void judge(struct cluster *cl, worker_fn *fn, void *mine, uint64_t within_ns)
{
	struct scenario *sc = cl->sc;
	uint64_t until_ns = sim_now_ns(sc->w) + STOP_SEC * SYS_SEC;

	cl->stop = true;
	while (!all_down(cl) && sim_now_ns(sc->w) < until_ns && sc->violations == 0)
		scenario_run(sc, 200 * SYS_MS);
	if (!all_down(cl))
		violation(sc, "clients end by themselves", "some have not");
	if (sc->violations > 0)
		return;
	cl->stop = false;
	machine_init(cl, &cl->judge, "judge", 1, fn, mine);
	sim_node_start(cl->judge.node, machine_main, &cl->judge);
	until_ns = sim_now_ns(sc->w) + within_ns;
	while (sim_node_up(cl->judge.node) && sim_now_ns(sc->w) < until_ns && sc->violations == 0)
		scenario_run(sc, 200 * SYS_MS);
	scenario_checked("when the faults have stopped, everything works again");
	if (!cl->judged)
		violation(sc, "when the faults have stopped, everything works again",
			"the last client is %s",
			sim_node_up(cl->judge.node) ? "still at work" :
						      err_name(sim_node_result(cl->judge.node)));
}

void cluster_audit(struct cluster *cl)
{
	uint64_t until_ns = sim_now_ns(cl->sc->w) + AUDIT_SEC * SYS_SEC;

	cl->audit = true;
	while (cl->audit && sim_now_ns(cl->sc->w) < until_ns)
		scenario_run(cl->sc, TICK_NS);
	if (cl->audit)
		violation(cl->sc, "when the faults have stopped, everything works again",
			"the shard did not walk its rows");
}

static uint64_t stored(const struct cluster *cl)
{
	uint64_t sum = cl->files + cl->used_bytes + cl->room_taken;

	for (uint32_t i = 0; i < cl->n_stores; i++)
		sum += cl->stores[i].used_bytes;
	return sum;
}

/* Waits until nothing is stored anywhere any more; violation() when it is not so by then. */
static void empty(struct cluster *cl, uint64_t within_ns)
{
	struct scenario *sc = cl->sc;
	uint64_t until_ns = sim_now_ns(sc->w) + within_ns;

	scenario_checked("what was deleted leaves nothing");
	do {
		cluster_audit(cl);
		if (stored(cl) == 0 || sc->violations > 0)
			return;
		scenario_run(sc, SYS_SEC);
	} while (sim_now_ns(sc->w) < until_ns);
	violation(sc, "what was deleted leaves nothing",
		"%llu files, %llu bytes; %llu bytes of devices taken; used %llu, %llu",
		(unsigned long long)cl->files, (unsigned long long)cl->used_bytes,
		(unsigned long long)cl->room_taken, (unsigned long long)cl->stores[0].used_bytes,
		(unsigned long long)cl->stores[1].used_bytes);
}

void cluster_judged(struct cluster *cl, int rc)
{
	scenario_say(cl->sc, "judged: %s, %llu acks, %llu reads, %llu losses", err_name(rc),
		(unsigned long long)cl->ledger->acks, (unsigned long long)cl->ledger->reads,
		(unsigned long long)cl->ledger->losses);
	cl->judged = rc == 0;
}

void cluster_course(struct cluster *cl, const struct course *c)
{
	struct scenario *sc = cl->sc;
	uint32_t rounds = scenario_rounds(sc, c->rounds);

	for (uint32_t i = 0; i < rounds && sc->violations == 0; i++) {
		uint64_t ns = prng_below(sc->p, c->work_ns_max);

		scenario_run(sc, ns);
		scenario_steps(sc, c->steps_max);
		c->misfortune(cl, c->mine);
		ns = prng_below(sc->p, 4) == 0 ? 0 : prng_below(sc->p, 300 * SYS_MS);
		scenario_run(sc, ns);
		cluster_start(cl);
	}
	heal(cl);
	if (sc->violations == 0 && !metas_come_back(cl))
		return;
	if (sc->violations == 0)
		judge(cl, c->judge, c->mine, c->judge_sec * SYS_SEC);
	if (sc->violations == 0)
		empty(cl, c->empty_sec * SYS_SEC);
	if (sc->violations == 0)
		metas_compare(cl);
}
