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
	bool io_faults, full_disks;
	int opened; /* result of the last db_open() */
	int room;   /* what db_room() said last */
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
			if (!db_pressed(db) || (f->full_disks && n < 5)) /* some do not ask */
				kit_step(&f->k, db);
		f->n_ops += n;
		f->room = db_room(db);
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
	f->room = E_FULL;
	f->opened = rc = db_open(s, &g, &o, &db, &note);
	if (rc == 0) {
		rc = serve(s, f, db);
		group_cancel(&g);
		(void)group_wait(&g);
		db_drop(db);
		return rc;
	}
	if (rc < 0 && rc != E_CANCELED && (rc != E_IO || !f->io_faults) &&
		(rc != E_FULL || !f->full_disks))
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

enum { IO_FAULTS = 1, FULL_DISKS = 2 };

static void live(struct sim *w, struct sim_node *n, struct life *f, struct prng *p, bool last)
{
	uint64_t ns = prng_below(p, prng_odds(p, 1, 4) ? 5 * SYS_MS : 600 * SYS_MS);

	if (last) {
		sim_faults_set(w, &sim_no_faults);
		sim_disk_full(n, false);
		ns = 5 * SYS_SEC;
	}
	sim_node_start(n, life_main, f);
	for (int i = 0; i < 4; i++) {
		sim_run(w, sim_now_ns(w) + ns / 4);
		if (f->full_disks)
			sim_disk_full(n, !last && prng_odds(p, 1, 2));
	}
}

/* It has ended by itself: a disk that was full only when it was opened. */
static void ended_early(struct life *f, uint64_t seed, int result)
{
	bool io = f->opened == E_IO || f->k.failed == E_IO;

	if (!io && f->opened != E_FULL)
		printf("seed %llu: ended with %s, open %s, failed %s: %s\n",
			(unsigned long long)seed, err_name(result), err_name(f->opened),
			err_name(f->k.failed), f->k.note.text);
	assert_true(io || f->opened == E_FULL);
	ended(f, io);
}

static void lives(uint64_t seed, const struct sim_faults *faults, unsigned more)
{
	struct sim *w = sim_new(seed, faults);
	struct sim_node *n = sim_node_add(w, "a", DISK_BYTES);
	struct life *f = calloc(1, sizeof *f);
	struct prng p = prng_fork(seed, 1);

	assert_non_null(f);
	kit_init(&f->k, seed);
	f->io_faults = more & IO_FAULTS;
	f->full_disks = more & FULL_DISKS;
	for (int i = 0; i < LIVES; i++) {
		bool power_cut = prng_odds(&p, 1, 2);

		live(w, n, f, &p, i == LIVES - 1);
		if (!sim_node_up(n)) {
			ended_early(f, seed, sim_node_result(n));
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
	if (f->full_disks)
		assert_int_equal(f->room == E_BUSY ? 0 : f->room, 0);
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
		lives(seed, &faults, 0);
}

static void test_io_errors(void **state)
{
	struct sim_faults faults = { .disk_torn_ppm = 500000,
		.disk_io_ppm = 1500,
		.disk_op_max_ns = SYS_MS,
		.buggify_ppm = 100000,
		.shuffle = true };

	for (uint64_t seed = 0; seed < SEEDS; seed++)
		lives(seed, &faults, IO_FAULTS);
}

static void test_full_at_any_time(void **state)
{
	struct sim_faults faults = { .disk_torn_ppm = 500000,
		.disk_op_max_ns = SYS_MS,
		.buggify_ppm = 100000,
		.shuffle = true };

	for (uint64_t seed = 0; seed < SEEDS; seed++)
		lives(seed, &faults, FULL_DISKS);
}

/* ---- a disk that is too small ---- */
struct full {
	uint64_t rows, deleted;
	bool was_full;
	int rc;
};

static struct bytes numbered(uint64_t n, uint8_t to[9])
{
	to[0] = 'n';
	put_be64(to + 1, n);
	return bytes_of(to, 9);
}

/* Puts until there is no room for more, deletes all of it again, and finds room. */
static int full_main(struct sys *s, void *arg)
{
	struct db_opts o = { .dir = "/db",
		.memtable_bytes_max = 64 << 10,
		.merge_every_ns = 20 * SYS_MS,
		.tree_bytes_max = 64 << 20,
		.log_segment_bytes = 128 << 10,
		.log_keep_bytes = 512 << 10 };
	struct full *f = arg;
	uint8_t key[9], value[200] = { 7 };
	struct err_note note = { "" };
	struct group g;
	struct db *db;

	group_init(&g, sys_loop(s));
	check(db_open(s, &g, &o, &db, &note) == 0);
	while ((f->rc = db_room(db)) == 0 || f->rc == E_BUSY) {
		for (int i = 0; i < 20 && f->rc == 0; i++)
			db_put(db, numbered(f->rows++, key), bytes_of(value, sizeof value));
		check(fiber_sleep(sys_after(s, SYS_MS)) == 0);
	}
	f->was_full = f->rc == E_FULL;
	while (f->deleted < f->rows && db_room(db) != E_IO) {
		for (int i = 0; i < 20 && f->deleted < f->rows && !db_pressed(db); i++)
			db_delete(db, numbered(f->deleted++, key));
		check(fiber_sleep(sys_after(s, 2 * SYS_MS)) == 0);
	}
	check(fiber_sleep(sys_after(s, 20 * SYS_SEC)) == 0);
	f->rc = db_room(db);
	check(db_close(db, &note) == 0);
	return 0;
}

static void test_full_disk(void **state)
{
	struct sim *w = sim_new(1, &sim_no_faults);
	struct sim_node *n = sim_node_add(w, "a", 3 << 20);
	struct full f = { 0 };

	sim_node_start(n, full_main, &f);
	sim_run(w, 600 * SYS_SEC);
	assert_false(sim_node_up(n));
	assert_true(f.was_full);
	assert_true(f.rows > 1000);
	assert_int_equal(f.deleted, f.rows);
	assert_int_equal(f.rc, 0);
	sim_free(w);
}

/* ---- what the lives above must have seen ---- */
static const char *const rare[] = {
	"db: a record waits for room on the disk",
	"db: the older copy given up on a full disk",
	"db: the reserve spent on a full disk",
};

static void count_rare(void *arg, const char *what, uint64_t count)
{
	bool *seen = arg;

	for (unsigned i = 0; i < sizeof rare / sizeof rare[0]; i++)
		if (strcmp(what, rare[i]) == 0)
			seen[i] = count > 0;
}

static void test_rare_paths(void **state)
{
	bool seen[sizeof rare / sizeof rare[0]] = { false };

	sim_coverage(count_rare, seen);
	for (unsigned i = 0; i < sizeof rare / sizeof rare[0]; i++)
		if (!seen[i])
			fail_msg("never reached: %s", rare[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_full_at_any_time),
		cmocka_unit_test(test_crashes),
		cmocka_unit_test(test_io_errors),
		cmocka_unit_test(test_rare_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
