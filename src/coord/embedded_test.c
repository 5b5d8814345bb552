/* SPDX-License-Identifier: Apache-2.0 */
/* The file of coord/embedded: whatever step it was cut off at, what was acknowledged is there, what
 * was not is there or not, and a file that has moved stays moved. */
#include "coord/embedded.h"
#include "base/check.h"
#include "coord/contract_test.h"
#include "sys/sim/sim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { DISK_BYTES = 16 << 20, SWAPS = 4, SEEDS = 6, STEPS_MAX = 4000, NTH_MAX = 400 };
static const struct sim_faults torn = { .disk_torn_ppm = 400000, .disk_op_max_ns = 3000000 };
static const char dir[] = "/d", url[] = "etcd://10.0.0.1:2379/wadi";

static struct err_note note;

/* One life of a process, and what it was told. */
struct life {
	uint64_t acked, asked; /* epochs: what must be there; what may be */
	uint64_t found;        /* at the start */
	bool move, move_asked, moved;
	int opened, failed;
	bool reads_only;
};

static int begin(struct sys *s, struct life *f, struct coord **ret_c)
{
	char moved_to[COORD_URL_MAX] = "";
	int rc = sys_mkdir(s, dir, &note);

	if (rc == 0)
		rc = sys_sync_dir(s, "/", &note);
	if (rc == 0)
		rc = coord_embedded_open(s, dir, true, ret_c, moved_to, &note);
	f->opened = rc;
	if (rc == E_GONE) {
		assert_string_equal(moved_to, url);
		assert_true(f->move_asked);
		f->moved = true;
	}
	return rc;
}

static int live_on(struct life *f, struct coord *c)
{
	struct coord_state st = { 0 }, to;
	int rc = coord_read(c, 0, FOREVER, &st, &note);

	if (rc < 0 && rc != E_NOTFOUND)
		return rc;
	f->found = st.epoch;
	/* what a read has shown stays */
	f->acked = f->found;
	for (int i = 0; i < SWAPS && !f->reads_only; i++) {
		to = contract_state(st.epoch + 1, 3);
		f->asked = to.epoch;
		rc = coord_swap(c, 0, st.revision, &to, FOREVER, &st, &note);
		if (rc < 0)
			return rc;
		f->acked = st.epoch;
	}
	if (f->move) {
		f->move_asked = true;
		rc = coord_embedded_move(c, url, &note);
		f->moved |= rc == 0;
		if (rc < 0)
			return rc;
		assert_int_equal(coord_read(c, 0, FOREVER, &st, &note), E_GONE);
	}
	return 0;
}

static int life_main(struct sys *s, void *arg)
{
	struct life *f = arg;
	struct coord *c = NULL;
	int rc = begin(s, f, &c);

	if (rc < 0)
		return rc;
	f->failed = live_on(f, c);
	coord_close(c);
	return f->failed;
}

static void down(struct sim *w, struct sim_node *n, bool power_cut)
{
	if (!sim_node_up(n))
		return;
	if (power_cut)
		sim_node_crash(n);
	else
		sim_node_kill(n);
	while (sim_node_up(n) && sim_step(w))
		;
}

static void wake_up(struct sim *w, struct sim_node *n, struct life *f)
{
	f->reads_only = true;
	sim_node_start(n, life_main, f);
	sim_run(w, sim_now_ns(w) + 10 * SYS_SEC);
	assert_false(sim_node_up(n));
}

/* Looks at what a life has left. */
static void look_back(struct sim *w, struct sim_node *n, struct life *f)
{
	uint64_t acked = f->acked, asked = f->asked;
	bool moved = f->moved, move_asked = f->move_asked;

	f->move = false;
	wake_up(w, n, f);
	if (f->opened == E_GONE) {
		assert_true(move_asked);
		return;
	}
	assert_int_equal(f->opened, 0);
	assert_false(moved);
	assert_true(f->found == acked || f->found == asked);
	assert_true(f->found >= acked);
}

/* True when the life was over before it was cut off. */
static bool cut_off_at(uint64_t seed, uint32_t step, bool move)
{
	struct sim *w = sim_new(seed, &torn);
	struct sim_node *n = sim_node_add(w, "a", DISK_BYTES);
	struct life f = { .move = move };
	bool over, killed_first = seed % 3 == 1;

	sim_node_start(n, life_main, &f);
	for (uint32_t i = 0; i < step && sim_node_up(n); i++)
		if (!sim_step(w))
			break;
	over = !sim_node_up(n);
	if (over)
		assert_int_equal(f.failed, 0);
	/* a kill leaves the page cache; the power cut comes after the next start has read it */
	down(w, n, !killed_first);
	look_back(w, n, &f);
	down(w, n, true);
	sim_node_crash(n);
	while (sim_step(w))
		;
	look_back(w, n, &f);
	sim_free(w);
	return over;
}

static void cuts(bool move)
{
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		uint32_t step = 0;

		while (step < STEPS_MAX && !cut_off_at(seed, step, move))
			step++;
		assert_in_range(step, 20, STEPS_MAX - 1);
	}
}

static void a_cut_at_any_step_loses_nothing(void **state)
{
	cuts(false);
}

static void a_move_is_for_ever(void **state)
{
	cuts(true);
}

/* The nth operation on the disk fails; what was answered is true, now and after a power cut. */
static bool nth_fails(uint64_t nth, int with)
{
	struct sim *w = sim_new(nth, &torn);
	struct sim_node *n = sim_node_add(w, "a", DISK_BYTES);
	struct life f = { .move = true };
	bool to_come;

	sim_fail_nth(n, nth, with);
	sim_node_start(n, life_main, &f);
	sim_run(w, 20 * SYS_SEC);
	to_come = sim_fails_nth(n);
	sim_fail_nth(n, 0, 0);
	assert_false(sim_node_up(n));
	if (!to_come)
		assert_true(f.opened < 0 || f.failed < 0);
	if (f.opened == 0 && f.failed < 0 && f.failed != E_UNKNOWN) {
		f.asked = f.acked; /* it is not done and never will be */
		f.move_asked = false;
	}
	sim_node_crash(n);
	while (sim_step(w))
		;
	look_back(w, n, &f);
	sim_free(w);
	return !to_come;
}

static void any_failing_operation_is_told(void **state)
{
	uint64_t nth = 1;

	while (nth < NTH_MAX && nth_fails(nth, E_IO) && nth_fails(nth, E_FULL))
		nth++;
	assert_in_range(nth, 30, NTH_MAX - 1);
}

/* ---- one at a time ---- */
static int two_open(struct sys *s, void *arg)
{
	struct coord *a, *b;
	char moved_to[COORD_URL_MAX];

	assert_int_equal(sys_mkdir(s, dir, &note), 0);
	assert_int_equal(coord_embedded_open(s, dir, false, &a, moved_to, &note), E_NOTFOUND);
	assert_int_equal(coord_embedded_open(s, dir, true, &a, moved_to, &note), 0);
	assert_int_equal(coord_embedded_open(s, dir, true, &b, moved_to, &note), E_INUSE);
	coord_close(a);
	assert_int_equal(coord_embedded_open(s, dir, false, &b, moved_to, &note), 0);
	coord_close(b);
	return 0;
}

static int contract_main(struct sys *s, void *arg)
{
	struct coord *c;
	char moved_to[COORD_URL_MAX];

	assert_int_equal(sys_mkdir(s, dir, &note), 0);
	assert_int_equal(coord_embedded_open(s, dir, true, &c, moved_to, &note), 0);
	contract_holds(c, c, s);
	coord_close(c);
	return 0;
}

static void run(sim_main_fn *main_fn)
{
	struct sim *w = sim_new(1, &sim_no_faults);
	struct sim_node *n = sim_node_add(w, "a", DISK_BYTES);

	sim_node_start(n, main_fn, NULL);
	sim_run(w, 100 * SYS_SEC);
	assert_false(sim_node_up(n));
	assert_int_equal(sim_node_result(n), 0);
	sim_free(w);
}

static void one_process_has_it(void **state)
{
	run(two_open);
}

static void the_contract_holds(void **state)
{
	run(contract_main);
}

static void rot_is_seen(void **state)
{
	for (uint64_t seed = 0; seed < 100; seed++) {
		struct sim *w = sim_new(seed, &sim_no_faults);
		struct sim_node *n = sim_node_add(w, "a", DISK_BYTES);
		struct life f = { .opened = 0 };

		sim_node_start(n, life_main, &f);
		sim_run(w, 10 * SYS_SEC);
		assert_int_equal(f.acked, SWAPS);
		assert_true(sim_disk_rot_any(n, "/d/coord"));
		wake_up(w, n, &f);
		assert_int_equal(f.opened, E_CORRUPT);
		sim_free(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_contract_holds),
		cmocka_unit_test(one_process_has_it),
		cmocka_unit_test(a_cut_at_any_step_loses_nothing),
		cmocka_unit_test(a_move_is_for_ever),
		cmocka_unit_test(any_failing_operation_is_told),
		cmocka_unit_test(rot_is_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
