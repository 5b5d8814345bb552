/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/cluster.h"
#include "base/check.h"
#include "control/control.h"
#include "meta/large.h"
#include "store/store.h"
#include <stdio.h>
#include <string.h>

enum {
	META_DISK_BYTES = 256 << 20,
	STORE_DISK_BYTES = 64 << 20,
	CLIENT_DISK_BYTES = 1 << 20,
	SLAB_BYTES = 16 << 20,
	LATE_SEC = 12,   /* a late timer after a late timer, and a pause */
	STOP_SEC = 30,
	AUDIT_SEC = 10,
	CLOSE_SEC = 60,
	LEAD_SEC = 60,
};
#define TICK_NS (50 * SYS_MS)
#define MIB (UINT64_C(1) << 20)

/* ---- the metadata server ---- */
static int anybody(void *arg, struct bytes token, struct principal *ret_p, struct err_note *note)
{
	*ret_p = (struct principal){ .admin = true };
	return 0;
}

static const struct auth everybody = { .resolve = anybody };

struct server {
	struct cluster *cl;
	struct serve *v;
	bool failed;
};

static void on_failed(void *arg, int rc, const struct err_note *note)
{
	struct server *m = arg;

	m->failed = true;
	scenario_say(m->cl->sc, "the log failed: %s: %s", err_name(rc), note->text);
}

static void look_over(struct cluster *cl, struct shard *sh)
{
	struct shard_status st;
	struct room_sum sum;

	shard_audit(sh);
	room_audit(large_room(sh));
	shard_status(sh, &st);
	cl->files = st.files;
	cl->used_bytes = st.used_bytes;
	sum = room_sum(large_room(sh), 0, TIER_COUNT, 0);
	cl->room_taken = sum.capacity - sum.free;
	if (cl->room_taken > 0 && cl->audit)
		scenario_say(cl->sc,
			"devices: used %llu, granted %llu, orphaned %llu, reserved %llu; "
			"sessions %llu",
			(unsigned long long)sum.used, (unsigned long long)sum.granted,
			(unsigned long long)sum.orphaned, (unsigned long long)sum.reserved,
			(unsigned long long)st.sessions);
	cl->audits++;
	cl->audit = false;
}

PARKS static int serve(struct sys *s, struct server *m, struct err_note *note)
{
	struct cluster *cl = m->cl;
	const char *bound;
	int rc = serve_ready(m->v, sys_after(s, LEAD_SEC * SYS_SEC));

	if (rc == 0 && serve_shard(m->v) != NULL) {
		cl->life = shard_life(serve_shard(m->v));
		look_over(cl, serve_shard(m->v));
	}
	if (rc == 0)
		rc = serve_listen(m->v, CLUSTER_ADDR, &bound, note);
	while (rc == 0 && !m->failed && !cl->meta_stop) {
		if (cl->audit && serve_shard(m->v) != NULL)
			look_over(cl, serve_shard(m->v));
		rc = fiber_sleep(sys_after(s, TICK_NS));
	}
	return rc;
}

static int meta_main(struct sys *s, void *arg)
{
	struct db_opts rows = { .memtable_bytes_max = 64 << 10,
		.merge_every_ns = 300 * SYS_MS,
		.log_segment_bytes = 256 << 10 };
	struct server m = { .cl = arg };
	struct control_opts control = { .key = m.cl->key };
	struct serve_opts o = { .replica = { .dir = "data/meta", .db = &rows },
		.slab_bytes = SLAB_BYTES,
		.auth = &everybody,
		.guest = m.cl->control ? &control_guest : NULL,
		.guest_arg = &control,
		.failed = on_failed,
		.arg = &m };
	struct scenario *sc = m.cl->sc;
	struct err_note note = { "" };
	int rc;

	ledger_boot(m.cl->ledger);
	m.cl->meta_starts++;
	rc = sys_mkdir(s, "data", &note);
	if (rc == 0)
		rc = sys_sync_dir(s, "/", &note);
	if (rc == 0)
		rc = serve_open(s, &o, &m.v, &note);
	if (rc < 0) {
		scenario_say(sc, "open: %s: %s", err_name(rc), note.text);
		if (rc == E_CORRUPT)
			violation(sc, "rows that did not rot are never called corrupt", "%s",
				note.text);
		return rc;
	}
	rc = serve(s, &m, &note);
	fiber_shield(sys_after(s, CLOSE_SEC * SYS_SEC));
	(void)serve_close(m.v, &note);
	fiber_unshield();
	return rc;
}

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
	const struct store_device *devices = ((struct store_node *)arg)->cl->little_room ?
		little : ample;
	struct store_node *sn = arg;
	struct cluster *cl = sn->cl;
	struct err_note note = { "" };
	const char *listen[1];
	char addr[SYS_ADDR_MAX];
	struct store_opts o = { .dir = "data", .devices = devices,
		.n_devices = sizeof ample / sizeof ample[0], .listen = listen, .n_listen = 1,
		.controller = CLUSTER_ADDR, .token = bytes_of(cl->token, cl->token_len) };
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
	struct client_opts o = { .addr = CLUSTER_ADDR, .wait = true,
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
	uint32_t n_workers, worker_fn *run)
{
	check(n_workers <= WORKERS_MAX);
	m->cl = cl;
	m->node = sim_node_add(cl->sc->w, name, CLIENT_DISK_BYTES);
	m->n_workers = n_workers;
	for (uint32_t i = 0; i < n_workers; i++)
		m->workers[i] = (struct worker){ .cl = cl, .machine = m, .run = run,
			.number = cl->n_machines * WORKERS_MAX + i,
			.p = prng_fork(prng_next(cl->sc->p), i) };
}

struct cluster *cluster_new(struct scenario *sc, uint32_t value_bytes_max)
{
	struct cluster *cl = scenario_alloc(sc, sizeof *cl);

	cl->sc = sc;
	cl->ledger = ledger_new(sc, value_bytes_max);
	cl->meta = sim_node_add(sc->w, "meta", META_DISK_BYTES);
	for (size_t i = 0; i < sizeof cl->key; i++)
		cl->key[i] = (uint8_t)prng_next(sc->p);
	cl->token_len = token_admin(cl->key, cl->token);
	return cl;
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

struct machine *cluster_machine(struct cluster *cl, uint32_t n_workers, worker_fn *run)
{
	struct machine *m = &cl->machines[cl->n_machines];
	char name[16];

	check(cl->n_machines < CLIENTS_MAX);
	snprintf(name, sizeof name, "c%u", cl->n_machines);
	machine_init(cl, m, name, n_workers, run);
	cl->n_machines++;
	return m;
}

void cluster_start(struct cluster *cl)
{
	if (!sim_node_up(cl->meta))
		sim_node_start(cl->meta, meta_main, cl);
	for (uint32_t i = 0; i < cl->n_stores; i++)
		if (!sim_node_up(cl->stores[i].node))
			sim_node_start(cl->stores[i].node, store_main, &cl->stores[i]);
	for (uint32_t i = 0; i < cl->n_machines; i++)
		if (!sim_node_up(cl->machines[i].node))
			sim_node_start(cl->machines[i].node, machine_main, &cl->machines[i]);
}

static uint32_t n_nodes(const struct cluster *cl)
{
	return 1 + cl->n_machines + cl->n_stores;
}

static struct sim_node *node(const struct cluster *cl, uint64_t i)
{
	if (i == 0)
		return cl->meta;
	return i <= cl->n_machines ? cl->machines[i - 1].node :
		cl->stores[i - 1 - cl->n_machines].node;
}

static void cut_all(struct cluster *cl, struct sim_node *n, unsigned ways)
{
	for (uint32_t i = 0; i < n_nodes(cl); i++)
		if (node(cl, i) != n) {
			sim_net_cut(n, node(cl, i), (ways & 1) != 0);
			sim_net_cut(node(cl, i), n, (ways & 2) != 0);
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
		cl->meta_stop = true;
		scenario_run(cl->sc, 100 * SYS_MS);
		scenario_steps(cl->sc, 100);
		cl->meta_stop = false;
	}
}

void cluster_misfortune(struct cluster *cl)
{
	struct scenario *sc = cl->sc;
	struct sim_node *n = node(cl, prng_below(sc->p, n_nodes(cl)));
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
	for (uint32_t i = 0; i < n_nodes(cl); i++)
		cut_all(cl, node(cl, i), 0);
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
	machine_init(cl, &cl->judge, "judge", 1, fn);
	cl->judge.workers[0].mine = mine;
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
	if (sc->violations == 0)
		judge(cl, c->judge, c->mine, c->judge_sec * SYS_SEC);
	if (sc->violations == 0)
		empty(cl, c->empty_sec * SYS_SEC);
}
