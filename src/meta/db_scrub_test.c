/* SPDX-License-Identifier: Apache-2.0 */
/* What rots on the medium while a db runs is found when it is read again, and made good before the
 * next start needs it.  (The tree itself: db_test.c, for that of the simulator lies in memory.) */
#include "base/check.h"
#include "meta/db_kit.h"
#include "sys/sim/sim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { DISK_BYTES = 64 << 20, SEEDS = 12, FILES_MAX = 64, NAME_BYTES = 64, SEGMENT = 16 << 10 };

struct names {
	char at[FILES_MAX][NAME_BYTES];
	unsigned n;
	const char *begins;
};
struct world {
	struct sys *s;
	struct kit k;
	struct group g;
	struct db *db;
	uint64_t seed, found;
};

static struct db_opts opts(struct world *w)
{
	struct db_opts o = kit_opts(&w->k, "/db");

	o.memtable_bytes_max = 64 << 10;
	o.merge_every_ns = 400 * SYS_MS;
	o.log_segment_bytes = SEGMENT;
	o.log_keep_bytes = 48 << 10;
	return o;
}

static void open_db(struct world *w)
{
	struct db_opts o = opts(w);
	struct err_note note = { "" };
	int rc;

	group_init(&w->g, sys_loop(w->s));
	w->k.found = false;
	w->k.written = w->k.synced = w->k.id_max = 0;
	rc = db_open(w->s, &w->g, &o, &w->db, &note);
	if (rc < 0)
		fprintf(stderr, "seed %llu: %s\n", (unsigned long long)w->seed, note.text);
	check(rc == 0);
}

static void drop_db(struct world *w)
{
	w->found += db_scrubbed(w->db).found;
	group_cancel(&w->g);
	(void)group_wait(&w->g);
	db_drop(w->db);
}

static void churn(struct world *w, int turns)
{
	for (int i = 0; i < turns; i++) {
		kit_step(&w->k, w->db);
		if (i % 4 == 0)
			check(fiber_sleep(sys_after(w->s, SYS_MS)) == 0);
	}
	db_want_sync(w->db);
	check(fiber_sleep(sys_after(w->s, 500 * SYS_MS)) == 0); /* and merged */
}

static void take_name(void *arg, const char *name)
{
	struct names *list = arg;

	if (strncmp(name, list->begins, strlen(list->begins)) == 0 && list->n < FILES_MAX &&
		strcmp(name, "next.log") != 0)
		snprintf(list->at[list->n++], NAME_BYTES, "%s", name);
}

/* One bit of a file, where something stands.  False: there is no such file, or nothing in it. */
static bool flip(struct world *w, const char *dir, const char *begins, bool first)
{
	struct names *list = calloc(1, sizeof *list);
	char path[2 * NAME_BYTES];
	struct sys_file *f;
	uint64_t len, at = 0;
	uint8_t b = 0;
	unsigned i;

	check(list != NULL);
	list->begins = begins;
	check(sys_list_dir(w->s, dir, take_name, list, NULL) == 0);
	i = list->n == 0 || first ? 0 : (unsigned)prng_below(&w->k.p, list->n);
	snprintf(path, sizeof path, "%s/%s", dir, list->at[i]);
	if (list->n == 0 || sys_open(w->s, path, SYS_READ | SYS_WRITE, &f, NULL) < 0) {
		free(list);
		return false;
	}
	check(sys_file_bytes(f, &len, NULL) == 0);
	for (int tries = 0; tries < 100 && b == 0; tries++) {
		at = prng_below(&w->k.p, len);
		check(sys_pread(f, &b, 1, at, NULL) == 1);
	}
	b ^= (uint8_t)(1u << prng_below(&w->k.p, 8));
	check(sys_pwrite(f, &b, 1, at, NULL) == 0);
	check(sys_sync(f, NULL) == 0);
	sys_close(f);
	free(list);
	return true;
}

static void scrub(struct world *w)
{
	uint64_t passes = db_scrubbed(w->db).passes;

	db_scrub_now(w->db);
	while (db_scrubbed(w->db).passes == passes && w->k.failed == 0)
		check(fiber_sleep(sys_after(w->s, 10 * SYS_MS)) == 0);
}

/* ---- nothing is wrong ---- */
static int quiet_main(struct sys *s, void *arg)
{
	struct world *w = arg;
	struct db_scrub sc;

	w->s = s;
	open_db(w);
	kit_found(&w->k, w->db, 0);
	churn(w, 900);
	scrub(w);
	sc = db_scrubbed(w->db);
	check(sc.found == 0);
	check(sc.records > 0 && sc.rows > 0 && sc.bytes > 0);
	drop_db(w);
	return 0;
}

/* ---- the log ---- */
static int log_main(struct sys *s, void *arg)
{
	struct world *w = arg;
	uint64_t index;

	w->s = s;
	open_db(w);
	kit_found(&w->k, w->db, 0);
	churn(w, 900);
	check(flip(w, "/db/log", "0", true));
	scrub(w);
	check(w->k.failed == 0);
	check(db_scrubbed(w->db).found <= 1); /* it may have been one that does not count */
	kit_verify(&w->k, w->db);
	if (w->seed % 2 == 0)
		churn(w, 20);
	index = db_synced(w->db);
	drop_db(w);
	open_db(w);
	kit_found(&w->k, w->db, index);
	kit_verify(&w->k, w->db);
	drop_db(w);
	return 0;
}

/* ---- the older copy ---- */
static int old_main(struct sys *s, void *arg)
{
	struct world *w = arg;

	w->s = s;
	open_db(w);
	kit_found(&w->k, w->db, 0);
	churn(w, 900);
	check(flip(w, "/db", "old.", false));
	scrub(w);
	check(fiber_sleep(sys_after(w->s, 2 * SYS_SEC)) == 0);
	check(w->k.failed == 0);
	check(db_scrubbed(w->db).found == 1);
	scrub(w);
	check(db_scrubbed(w->db).found == 1);
	drop_db(w);
	check(flip(w, "/db", "tree", true)); /* now it is needed */
	open_db(w);
	kit_found(&w->k, w->db, 1);
	kit_verify(&w->k, w->db);
	drop_db(w);
	return 0;
}

static uint64_t run(sim_main_fn *fn)
{
	uint64_t found = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct sim *sim = sim_new(seed, &sim_no_faults);
		struct sim_node *n = sim_node_add(sim, "a", DISK_BYTES);
		struct world *w = calloc(1, sizeof *w);

		check(w != NULL);
		kit_init(&w->k, seed);
		w->seed = seed;
		sim_node_start(n, fn, w);
		sim_run(sim, UINT64_C(1000000) * SYS_SEC);
		assert_false(sim_node_up(n));
		assert_int_equal(sim_node_result(n), 0);
		found += w->found;
		kit_fini(&w->k);
		sim_free(sim);
		free(w);
	}
	return found;
}

static void what_is_whole_is_left_alone(void **state)
{
	assert_int_equal(run(quiet_main), 0);
}
static void a_rotten_log_is_made_anew(void **state)
{
	assert_in_range(run(log_main), SEEDS / 2, SEEDS);
}
static void a_rotten_copy_is_replaced(void **state)
{
	assert_int_equal(run(old_main), SEEDS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_whole_is_left_alone),
		cmocka_unit_test(a_rotten_log_is_made_anew),
		cmocka_unit_test(a_rotten_copy_is_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
