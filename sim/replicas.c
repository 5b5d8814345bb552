/* SPDX-License-Identifier: Apache-2.0 */
/* replicas: metadata on three nodes, whose primary changes, while everything that can fail does,
 * two things at once as well.
 *
 * The load is that of small (S1-S6), in some runs with large objects on storage servers (L1-L4 of
 * large); its history goes over all primaries.  metas.h adds (M1-M3).  What a power cut may take is
 * what was not synced when it struck the whole set.
 *
 * (P1) What was put stays when a metadata node dies, also what is not durable and small. */
#include "base/limit.h"
#include "sim/small.h"

enum {
	ROUNDS = 12,
	STEPS_MAX = 60,
	STORES = 2,
	LARGE_BYTES_MAX = 60 << 10,
	JUDGE_SEC = 240,
	EMPTY_SEC = 700, /* as in large: a dead client's session */
	BUSY_ROUNDS = 16,
	BUSY_MS = 4000,
};

static uint32_t any_len(struct worker *w)
{
	uint64_t kind = prng_below(&w->p, 8), at = prng_below(&w->p, LARGE_BYTES_MAX / 2);

	if (kind == 0)
		return 0;
	if (kind < 5)
		return LEDGER_VALUE_MIN +
			(uint32_t)at % (LIMIT_INLINE_BYTES_MAX - LEDGER_VALUE_MIN);
	return LIMIT_INLINE_BYTES_MAX + 1 + (uint32_t)at;
}

static void misfortune(struct cluster *cl, void *mine)
{
	bool metas = prng_odds(cl->sc->p, 3, 4);

	if (metas)
		metas_misfortune(cl);
	else
		cluster_misfortune(cl);
}

void scenario_replicas(struct scenario *sc)
{
	struct sim_faults f = scenario_swarm(sc);
	bool large = prng_odds(sc->p, 1, 3);
	bool grows = prng_odds(sc->p, 1, 4);
	bool rough = prng_odds(sc->p, 1, 2);
	bool short_log = prng_odds(sc->p, 1, 2);
	uint32_t bytes_max = large ? LARGE_BYTES_MAX : LIMIT_INLINE_BYTES_MAX;
	struct cluster *cl = cluster_new_of(sc, bytes_max, METAS_MAX);
	struct small *m = small_new(cl, large ? any_len : NULL, bytes_max);

	f.disk_rot_ppm = 0; /* of whichever copy: see metas_rot() */
	sim_faults_set(sc->w, &f);
	if (rough)
		coord_sim_faults_set(cl->metas.cs, &coord_sim_rough);
	if (large)
		cluster_stores(cl, STORES);
	if (short_log) { /* whoever was away needs a copy */
		cl->metas.rows.log_segment_bytes = 64 << 10;
		cl->metas.rows.log_keep_bytes = 64 << 10;
	}
	if (grows)
		cl->metas.first_target = 1;
	small_workers(m, 2, 3);
	small_readers(m, 1);
	cluster_start(cl);
	scenario_run(sc, SYS_SEC);
	cluster_course(cl,
		&(struct course){ .rounds = ROUNDS,
			.steps_max = STEPS_MAX,
			.work_ns_max = 800 * SYS_MS,
			.misfortune = misfortune,
			.judge = small_judge,
			.mine = m,
			.judge_sec = JUDGE_SEC,
			.empty_sec = large ? EMPTY_SEC : 30 });
	ledger_judge(cl->ledger);
}

/* Five nodes and about a thousand operations in a second: how fast the simulator is. */
void scenario_busy(struct scenario *sc)
{
	struct sim_faults f = scenario_swarm(sc);
	struct cluster *cl = cluster_new_of(sc, LIMIT_INLINE_BYTES_MAX, METAS_MAX);
	struct small *m = small_new(cl, NULL, LIMIT_INLINE_BYTES_MAX);

	f.disk_rot_ppm = 0;
	sim_faults_set(sc->w, &f);
	small_workers(m, 2, WORKERS_MAX);
	small_hurry(m, SYS_MS);
	cluster_start(cl);
	cluster_course(cl,
		&(struct course){ .rounds = BUSY_ROUNDS,
			.steps_max = STEPS_MAX,
			.work_ns_max = BUSY_MS * SYS_MS,
			.misfortune = misfortune,
			.judge = small_judge,
			.mine = m,
			.judge_sec = JUDGE_SEC,
			.empty_sec = 30 });
	ledger_judge(cl->ledger);
}
