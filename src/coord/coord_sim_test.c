/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated store is linearizable whatever happens on the way to it, and what it does to its
 * callers is what etcd may do: answers that never come, swaps that happen later than a read. */
#include "coord/coord_sim.h"
#include "base/check.h"
#include "coord/contract_test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { NODES = 3, RACERS = 2, SEEDS = 30, DISK_BYTES = 1 << 20, ROUNDS = 40 };

static struct err_note note;

/* ---- the contract, when nothing fails ---- */
static int contract_main(struct sys *s, void *arg)
{
	struct coord *a, *b;

	assert_int_equal(coord_sim_open(arg, s, "a", &a, &note), 0);
	assert_int_equal(coord_sim_open(arg, s, "a", &b, &note), 0);
	contract_holds(a, b, s);
	coord_close(a);
	coord_close(b);
	return 0;
}

static void run_quiet(uint64_t seed, sim_main_fn *main_fn, uint64_t seconds)
{
	struct sim *w = sim_new(seed, &sim_no_faults);
	struct sim_node *n = sim_node_add(w, "a", DISK_BYTES);
	struct coord_sim *cs = coord_sim_new(w, seed, &coord_sim_quiet);

	sim_node_start(n, main_fn, cs);
	sim_run(w, seconds * SYS_SEC);
	assert_false(sim_node_up(n));
	assert_int_equal(sim_node_result(n), 0);
	sim_free(w);
	coord_sim_free(cs);
}

static void the_contract_holds(void **state)
{
	run_quiet(1, contract_main, 100);
}

/* ---- races, when everything does ---- */
struct house {
	struct sim *w;
	struct coord_sim *cs;
	struct ledger ledger;
	uint64_t next_racer;
	struct at {
		struct house *h;
		struct sim_node *node;
		char name[4];
	} at[NODES];
};

static int racing_main(struct sys *s, void *arg)
{
	struct at *at = arg;
	struct racer racers[RACERS];
	struct coord *c;
	struct group g;
	int rc;

	assert_int_equal(coord_sim_open(at->h->cs, s, at->name, &c, &note), 0);
	group_init(&g, sys_loop(s));
	for (int i = 0; i < RACERS; i++) {
		racers[i] = (struct racer){ &at->h->ledger, c, s, 0, 0, ++at->h->next_racer,
			300 * SYS_MS };
		if (fiber_start(&g, "racer", contract_race, &racers[i]) < 0)
			break;
	}
	rc = group_wait(&g);
	coord_close(c);
	return rc;
}

static int settle_main(struct sys *s, void *arg)
{
	struct at *at = arg;
	struct racer r = { &at->h->ledger, NULL, s, 0, 0, 1, 10 * SYS_SEC };

	assert_int_equal(coord_sim_open(at->h->cs, s, at->name, &r.c, &note), 0);
	contract_settle(&r);
	coord_close(r.c);
	return 0;
}

static void trouble(struct house *h, struct prng *p)
{
	struct at *at = &h->at[prng_below(p, NODES)];
	uint64_t what = prng_below(p, 6), ns = prng_below(p, 2 * SYS_SEC);

	if (!sim_node_up(at->node)) {
		sim_node_start(at->node, racing_main, at);
	} else if (what == 0) {
		sim_node_crash(at->node);
	} else if (what == 1) {
		sim_node_pause(at->node, ns);
	} else if (what == 2) {
		coord_sim_stop(h->cs, sim_now_ns(h->w) + ns / 4);
	} else if (what == 3) {
		coord_sim_cut(h->cs, at->name, ns % 2 == 0);
	}
}

static void end_races(struct house *h)
{
	coord_sim_faults_set(h->cs, &coord_sim_quiet);
	for (int i = 0; i < NODES; i++) {
		coord_sim_cut(h->cs, h->at[i].name, false);
		if (sim_node_up(h->at[i].node))
			sim_node_kill(h->at[i].node);
	}
	sim_run(h->w, sim_now_ns(h->w) + 10 * SYS_SEC);
	for (int i = 0; i < NODES; i++) {
		assert_false(sim_node_up(h->at[i].node));
		sim_node_start(h->at[i].node, settle_main, &h->at[i]);
		sim_run(h->w, sim_now_ns(h->w) + 20 * SYS_SEC);
		assert_int_equal(sim_node_result(h->at[i].node), 0);
	}
}

static uint64_t races(uint64_t seed, struct coord_sim_counts *ret_sum, struct ledger *ret_ledger)
{
	static const struct sim_faults faults = { .clock_late_ppm = 1000, .shuffle = true };
	struct house *h = calloc(1, sizeof *h);
	struct prng p = prng_fork(seed, 7);
	struct coord_sim_counts counts;
	uint64_t sum;

	assert_non_null(h);
	h->w = sim_new(seed, &faults);
	h->cs = coord_sim_new(h->w, seed, &coord_sim_rough);
	for (int i = 0; i < NODES; i++) {
		snprintf(h->at[i].name, sizeof h->at[i].name, "n%d", i);
		h->at[i].h = h;
		h->at[i].node = sim_node_add(h->w, h->at[i].name, DISK_BYTES);
		sim_node_start(h->at[i].node, racing_main, &h->at[i]);
	}
	for (int i = 0; i < ROUNDS; i++) {
		sim_run(h->w, sim_now_ns(h->w) + 100 * SYS_MS);
		trouble(h, &p);
	}
	end_races(h);
	sum = sim_unseed(h->w) ^ coord_sim_sum(h->cs);
	counts = coord_sim_counts(h->cs);
	ret_sum->applied_unheard += counts.applied_unheard;
	ret_sum->swaps_done += counts.swaps_done;
	ret_sum->swaps_refused += counts.swaps_refused;
	ret_sum->unknown += counts.unknown;
	ret_sum->stops += counts.stops;
	ret_ledger->n_done += h->ledger.n_done;
	ret_ledger->n_unknown += h->ledger.n_unknown;
	sim_free(h->w);
	coord_sim_free(h->cs);
	free(h);
	return sum;
}

static void racers_agree(void **state)
{
	struct coord_sim_counts sum = { 0 };
	struct ledger *ledger = calloc(1, sizeof *ledger);

	assert_non_null(ledger);
	for (uint64_t seed = 0; seed < SEEDS; seed++)
		races(seed, &sum, ledger);
	/* what is tested has happened */
	assert_in_range(ledger->n_done, SEEDS * 20, SEEDS * 2000);
	assert_in_range(ledger->n_unknown, SEEDS, SEEDS * 2000);
	assert_in_range(sum.swaps_done, ledger->n_done + 1, ledger->n_done + ledger->n_unknown);
	assert_in_range(sum.applied_unheard, SEEDS / 10, SEEDS * 2000);
	assert_in_range(sum.stops, SEEDS, SEEDS * 2000);
	free(ledger);
}

static void a_seed_repeats(void **state)
{
	struct coord_sim_counts sum = { 0 };
	struct ledger *ledger = calloc(1, sizeof *ledger);
	uint64_t one, two;

	assert_non_null(ledger);
	one = races(5, &sum, ledger);
	two = races(5, &sum, ledger);
	assert_true(one == two);
	two = races(6, &sum, ledger);
	assert_true(one != two);
	free(ledger);
}

/* ---- the late swap of R4 ---- */
static int late_main(struct sys *s, void *arg)
{
	struct coord_sim_faults late = { .late_ppm = 1000000, .late_max_ns = 2 * SYS_SEC };
	struct coord_sim *cs = arg;
	struct coord_state first, st, now, to = contract_state(1, 1);
	struct coord *c;
	bool seen_late = false;

	assert_int_equal(coord_sim_open(cs, s, "a", &c, &note), 0);
	assert_int_equal(coord_swap(c, 0, 0, &to, sys_after(s, SYS_SEC), &st, &note), 0);
	for (uint64_t n = 0; n < 20; n++) {
		int rc;

		first = st;
		coord_sim_faults_set(cs, &late);
		to = contract_state(st.epoch + 1, 1);
		rc = coord_swap(c, 0, st.revision, &to, sys_after(s, 50 * SYS_MS), &now, &note);
		assert_true(rc == 0 || rc == E_UNKNOWN);
		coord_sim_faults_set(cs, &coord_sim_quiet);
		assert_int_equal(coord_read(c, 0, sys_after(s, SYS_SEC), &st, &note), 0);
		assert_int_equal(fiber_sleep(sys_after(s, 3 * SYS_SEC)), 0);
		assert_int_equal(coord_read(c, 0, sys_after(s, SYS_SEC), &now, &note), 0);
		seen_late |= rc == E_UNKNOWN && st.epoch == first.epoch &&
			     now.epoch == first.epoch + 1;
		st = now;
	}
	assert_true(seen_late);
	/* a no-op swap consumes the revision: what is still under way comes to nothing */
	coord_sim_faults_set(cs, &late);
	to = contract_state(st.epoch + 1, 1);
	(void)coord_swap(c, 0, st.revision, &to, sys_after(s, SYS_MS), &now, &note);
	coord_sim_faults_set(cs, &coord_sim_quiet);
	to = st;
	if (coord_swap(c, 0, st.revision, &to, sys_after(s, SYS_SEC), &now, &note) == 0) {
		assert_int_equal(fiber_sleep(sys_after(s, 3 * SYS_SEC)), 0);
		assert_int_equal(coord_read(c, 0, sys_after(s, SYS_SEC), &first, &note), 0);
		assert_int_equal(first.epoch, st.epoch);
		assert_int_equal(first.revision, now.revision);
	}
	coord_close(c);
	return 0;
}

static void an_unanswered_swap_may_come_after_a_read(void **state)
{
	run_quiet(3, late_main, 200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_contract_holds),
		cmocka_unit_test(racers_agree),
		cmocka_unit_test(a_seed_repeats),
		cmocka_unit_test(an_unanswered_swap_may_come_after_a_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
