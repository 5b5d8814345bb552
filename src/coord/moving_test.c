/* SPDX-License-Identifier: Apache-2.0 */
/* A store that goes over from its file to another one: those who race for epochs meanwhile lose and
 * double nothing, revisions go on growing, a move that fails leaves the file in charge, and behind
 * one that was done the file says for ever where to. */
#include "coord/moving.h"
#include "base/check.h"
#include "coord/contract_test.h"
#include "coord/coord_sim.h"
#include "coord/embedded.h"
#include "sys/sim/sim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { DISK_BYTES = 16 << 20, RACERS = 3, SEEDS = 10, BEFORE = 40 };
static const char dir[] = "/", url[] = "etcd://10.0.0.1:2379/wadi";

static const struct sim_faults slow_disk = { .disk_op_max_ns = 3000000 };

static struct err_note note;

struct house {
	struct coord_sim *cs;
	const struct coord_sim_faults *faults;
	struct ledger ledger;
	uint32_t n_tries;
};

static struct coord *open_file(struct sys *s, int expected)
{
	char moved_to[COORD_URL_MAX] = "";
	struct coord *file = NULL, *c = NULL;

	assert_int_equal(coord_embedded_open(s, dir, true, &file, moved_to, &note), expected);
	if (expected < 0) {
		assert_string_equal(moved_to, url);
		return NULL;
	}
	assert_int_equal(coord_moving_new(s, file, &c, &note), 0);
	assert_ptr_equal(coord_moving_at(c), file);
	return c;
}

/* What a replica would say: the same again, under the revision that it knows. */
static void revisions_go_on(struct sys *s, struct coord *c, const struct coord_state *known)
{
	struct coord_state st, again;

	assert_int_equal(coord_read(c, 7, sys_after(s, 10 * SYS_SEC), &st, &note), 0);
	assert_in_range(st.revision, known->revision + 1, UINT64_MAX);
	assert_int_equal(st.epoch, known->epoch);
	assert_int_equal(coord_swap(c, 7, known->revision, known, sys_after(s, 10 * SYS_SEC),
				 &again, &note),
		E_CONFLICT);
	assert_int_equal(again.revision, st.revision);
	assert_int_equal(again.epoch, known->epoch);
}

static void move(struct sys *s, struct house *h, struct coord *c)
{
	struct coord *to = NULL, *was = coord_moving_at(c);
	int rc = E_TIMEOUT;

	coord_sim_faults_set(h->cs, h->faults);
	assert_int_equal(coord_sim_open(h->cs, s, "a", &to, &note), 0);
	while (rc < 0) {
		rc = coord_moving_to(c, to, url, sys_after(s, 800 * SYS_MS), &note);
		assert_int_not_equal(rc, E_UNKNOWN); /* the disk does not fail */
		assert_ptr_equal(coord_moving_at(c), rc < 0 ? was : to);
		h->n_tries++;
		assert_in_range(h->n_tries, 1, 2000);
		assert_int_equal(fiber_sleep(sys_after(s, 5 * SYS_MS)), 0);
	}
	coord_sim_faults_set(h->cs, &coord_sim_quiet);
}

static int race_main(struct sys *s, void *arg)
{
	struct house *h = arg;
	struct coord *c = open_file(s, 0);
	struct coord_state known = { 0 }, to;
	struct coord_node node = contract_node(4), *nodes;
	struct racer racers[RACERS], last;
	uint64_t hint = 0, soon = sys_after(s, 600 * SYS_SEC);
	struct group g;
	uint32_t n;

	for (uint64_t i = 1; i <= BEFORE; i++) {
		to = contract_state(i, 2);
		assert_int_equal(coord_swap(c, 7, known.revision, &to, soon, &known, &note), 0);
	}
	assert_int_equal(coord_node_put(c, 0, &node, soon, &node, &note), 0);
	group_init(&g, sys_loop(s));
	for (uint32_t i = 0; i < RACERS; i++) {
		racers[i] = (struct racer){ &h->ledger, c, s, 0, 0, i + 1, 300 * SYS_MS };
		assert_int_equal(fiber_start(&g, "racer", contract_race, &racers[i]), 0);
	}
	assert_int_equal(fiber_sleep(sys_after(s, 50 * SYS_MS)), 0);
	move(s, h, c);
	n = h->ledger.n_done;
	while (h->ledger.n_done < n + 10)
		assert_int_equal(fiber_sleep(sys_after(s, 5 * SYS_MS)), 0);
	group_cancel(&g);
	(void)group_wait(&g);
	last = racers[0];
	contract_settle(&last);
	revisions_go_on(s, c, &known);
	assert_int_equal(coord_nodes(c, soon, &nodes, &n, &note), 0);
	assert_int_equal(n, 1);
	assert_string_equal(nodes[0].address, node.address);
	free(nodes);
	/* hints come from the new store */
	assert_int_equal(coord_wait(c, &hint, soon), 0);
	to = contract_state(BEFORE + 1, 1);
	assert_int_equal(coord_read(c, 7, soon, &known, &note), 0);
	assert_int_equal(coord_swap(c, 7, known.revision, &to, soon, &known, &note), 0);
	assert_int_equal(coord_wait(c, &hint, soon), 0);
	coord_close(c);
	(void)open_file(s, E_GONE);
	return 0;
}

static void run(uint64_t seed, const struct coord_sim_faults *f, sim_main_fn *main_fn)
{
	struct sim *w = sim_new(seed, &slow_disk);
	struct sim_node *n = sim_node_add(w, "a", DISK_BYTES);
	struct house *h = calloc(1, sizeof *h);

	assert_non_null(h);
	h->cs = coord_sim_new(w, seed, &coord_sim_quiet);
	h->faults = f;
	sim_node_start(n, main_fn, h);
	sim_run(w, 2000 * SYS_SEC);
	assert_false(sim_node_up(n));
	assert_int_equal(sim_node_result(n), 0);
	sim_free(w);
	coord_sim_free(h->cs);
	free(h);
}

static void racers_do_not_notice(void **state)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		run(seed, &coord_sim_quiet, race_main);
		run(seed, &coord_sim_rough, race_main);
	}
}

static int contract_main(struct sys *s, void *arg)
{
	struct coord *c = open_file(s, 0);

	contract_holds(c, c, s);
	coord_close(c);
	return 0;
}

/* A copy that was left by a try that a crash ended counts for nothing. */
static int again_main(struct sys *s, void *arg)
{
	struct house *h = arg;
	struct coord *c = open_file(s, 0), *there;
	struct coord_state st = { 0 }, to = contract_state(3, 1);
	uint64_t soon = sys_after(s, 600 * SYS_SEC);

	assert_int_equal(coord_sim_open(h->cs, s, "a", &there, &note), 0);
	assert_int_equal(coord_swap(there, 7, 0, &to, soon, &st, &note), 0);
	coord_close(there);
	to = contract_state(4, 2);
	assert_int_equal(coord_swap(c, 7, 0, &to, soon, &st, &note), 0);
	move(s, h, c);
	revisions_go_on(s, c, &st);
	coord_close(c);
	return 0;
}

static void the_contract_holds_before(void **state)
{
	run(1, &coord_sim_quiet, contract_main);
}
static void an_old_copy_is_written_over(void **state)
{
	run(1, &coord_sim_quiet, again_main);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_contract_holds_before),
		cmocka_unit_test(racers_do_not_notice),
		cmocka_unit_test(an_old_copy_is_written_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
