/* SPDX-License-Identifier: Apache-2.0 */
/* large: objects on storage servers: grants, extents, commits, reads, deletes, while shard, storage
 * servers and clients are killed, cut off, paused and lose their power.
 *
 * (L1) ledger.h's rules; what is not durable may be lost with the process that had it, and is then
 * said to be, as is what rots; (L2) an item is got once; (L3) once everything is deleted and all
 * clients are gone, every byte of every device is free again, for the shard and for its server;
 * (L4) the accounts of shard and servers hold at every moment. */
#include "sim/load.h"

enum {
	ROUNDS = 12,
	STEPS_MAX = 80,
	MACHINES = 2,
	WORKERS = 3,
	VALUE_BYTES_MAX = 200 << 10,
	EMPTY_SEC = 700, /* a dead client's session, and its grants, last 10 minutes */
};

static uint32_t any_len(struct worker *w)
{
	static const uint32_t edges[] = { 4096, 4097, 8192, VALUE_BYTES_MAX };
	uint64_t kind = prng_below(&w->p, 10), at = prng_below(&w->p, VALUE_BYTES_MAX);

	if (kind == 0)
		return edges[at % 4];
	if (kind == 1)
		return LEDGER_VALUE_MIN + (uint32_t)at % 500;
	return kind < 7 ? 4097 + (uint32_t)at % 20000 : LEDGER_VALUE_MIN + (uint32_t)at / 2;
}

PARKS static int work(struct worker *w, struct client *c)
{
	int rc = load_buckets(w, c);

	while (cluster_going(w) && rc != E_CANCELED) {
		uint64_t what = prng_below(&w->p, 16);

		if (what < 7)
			rc = load_change(w, c);
		else if (what < 12)
			rc = load_read(w, c);
		else
			rc = load_item(w, c);
		if (rc != E_CANCELED)
			rc = load_pause(w, 40 * SYS_MS);
	}
	return rc;
}

PARKS static int judge(struct worker *w, struct client *c)
{
	int rc = load_buckets(w, c);

	if (rc == 0)
		rc = judge_look(w, c);
	if (rc == 0)
		rc = judge_take_items(w, c);
	if (rc == 0)
		rc = judge_delete(w, c);
	cluster_judged(w->cl, rc);
	return rc;
}

static void misfortune(struct cluster *cl, void *mine)
{
	struct scenario *sc = cl->sc;
	struct sim_node *n;
	bool flash;

	cluster_misfortune(cl);
	n = cl->stores[prng_below(sc->p, cl->n_stores)].node;
	flash = prng_odds(sc->p, 1, 2);
	if (cl->ledger->rot && prng_odds(sc->p, 1, 2))
		(void)sim_disk_rot_any(n, flash ? "flash" : "disk");
}

void scenario_large(struct scenario *sc)
{
	struct load *m = scenario_alloc(sc, sizeof *m);
	struct sim_faults f = scenario_swarm(sc);
	struct cluster *cl = cluster_new(sc, VALUE_BYTES_MAX);

	*m = (struct load){ .cl = cl, .any_len = any_len, .value_bytes_max = VALUE_BYTES_MAX };
	f.disk_rot_ppm = 0; /* the shard's one copy cannot survive it: see misfortune() */
	sim_faults_set(sc->w, &f);
	cluster_stores(cl, 2);
	for (int i = 0; i < MACHINES; i++)
		cluster_machine(cl, WORKERS, work, m);
	cl->ledger->rot = prng_odds(sc->p, 1, 4);
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
