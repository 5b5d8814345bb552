/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever a power cut or a kill leaves: the rows are those of one moment, not older than the last
 * one known to be synced (written, after a kill), and no id is given twice. */
#include "base/check.h"
#include "meta/db_kit.h"
#include "sys/sim/sim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SEEDS = 40, LIVES = 12, DISK_BYTES = 64 << 20 };

struct life {
	struct kit k;
	uint64_t index_min, index_synced; /* what must be there; what survives a power cut */
	bool io_faults;
	int opened; /* result of the last db_open() */
	uint64_t n_opened, n_ops;
};

static int serve(struct sys *s, struct life *f, struct db *db)
{
	int rc = 0;

	kit_found(&f->k, db, f->index_min);
	f->index_min = f->index_synced = db_seen(db); /* opening has synced what it found */
	f->n_opened++;
	while (rc == 0 && f->k.failed == 0) {
		uint64_t n = prng_below(&f->k.p, 20), pause = prng_below(&f->k.p, 30);

		for (uint64_t i = 0; i < n && f->k.n_ops < KIT_OPS_MAX; i++)
			if (!db_pressed(db))
				kit_step(&f->k, db);
		f->n_ops += n;
		rc = pause < 20 ? fiber_yield() : fiber_sleep(sys_after(s, (pause - 19) * SYS_MS));
	}
	return rc;
}

static int life_main(struct sys *s, void *arg)
{
	struct life *f = arg;
	struct db_opts o = kit_opts(&f->k, "/db");
	struct err_note note = { "" };
	struct group g;
	struct db *db;
	int rc;

	group_init(&g, sys_loop(s));
	f->k.failed = 0;
	f->k.found = false;
	f->k.written = f->k.synced = 0;
	f->opened = rc = db_open(s, &g, &o, &db, &note);
	if (rc == 0) {
		rc = serve(s, f, db);
		group_cancel(&g);
		(void)group_wait(&g);
		db_drop(db);
		return rc;
	}
	if (rc < 0 && rc != E_CANCELED && (rc != E_IO || !f->io_faults))
		check_failed(note.text, __FILE__, __LINE__, __func__); /* (a fiber: no longjmp) */
	return rc;
}

/* What must be there next time.  A power cut before the next db_open() has ended takes what a kill
 * had left unsynced. */
static void ended(struct life *f, bool power_cut)
{
	if (f->k.synced > f->index_synced)
		f->index_synced = f->k.synced;
	if (f->k.written > f->index_min)
		f->index_min = f->k.written;
	if (power_cut)
		f->index_min = f->index_synced;
}

static void lives(uint64_t seed, const struct sim_faults *faults, bool io_faults)
{
	struct sim *w = sim_new(seed, faults);
	struct sim_node *n = sim_node_add(w, "a", DISK_BYTES);
	struct life *f = calloc(1, sizeof *f);
	struct prng p = prng_fork(seed, 1);

	assert_non_null(f);
	kit_init(&f->k, seed);
	f->io_faults = io_faults;
	for (int i = 0; i < LIVES; i++) {
		bool power_cut = prng_odds(&p, 1, 2);
		uint64_t ns = prng_below(&p, prng_odds(&p, 1, 4) ? 5 * SYS_MS : 600 * SYS_MS);

		if (i == LIVES - 1)
			sim_faults_set(w, &sim_no_faults);
		sim_node_start(n, life_main, f);
		sim_run(w, sim_now_ns(w) + ns);
		if (!sim_node_up(n)) {
			if (f->opened != E_IO && f->k.failed != E_IO)
				printf("seed %llu life %d: ended with %s, open %s, failed %s: %s\n",
					(unsigned long long)seed, i, err_name(sim_node_result(n)),
					err_name(f->opened), err_name(f->k.failed), f->k.note.text);
			assert_true(f->opened == E_IO || f->k.failed == E_IO);
			ended(f, true);
			continue;
		}
		ended(f, power_cut);
		if (power_cut)
			sim_node_crash(n);
		else
			sim_node_kill(n);
		while (sim_node_up(n) && sim_step(w))
			;
	}
	assert_true(f->n_opened > 0);
	sim_free(w);
	kit_fini(&f->k);
	free(f);
}

static void test_crashes(void **state)
{
	struct sim_faults faults = { .disk_torn_ppm = 500000,
		.disk_op_max_ns = SYS_MS,
		.buggify_ppm = 100000,
		.shuffle = true };

	for (uint64_t seed = 0; seed < SEEDS; seed++)
		lives(seed, &faults, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crashes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
