/* SPDX-License-Identifier: Apache-2.0 */
/* One replica, and three, through restarts, kills and power cuts: whoever leads has every row that
 * was acknowledged; when all is well again it goes on, and all replicas come to the same rows. */
#include "base/check.h"
#include "meta/log_own.h"
#include "meta/replicate_kit_test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { ALONE_SEEDS = 20, ALONE_LIVES = 8, THREE_SEEDS = 5 };

static uint64_t first_seed = 1, n_seeds = THREE_SEEDS;

static struct sim_faults small_delays(void)
{
	struct sim_faults f = sim_no_faults;

	f.disk_op_max_ns = SYS_MS / 2;
	f.disk_torn_ppm = 300000;
	f.net_delay_min_ns = 50 * SYS_US;
	f.net_delay_max_ns = SYS_MS;
	f.shuffle = true;
	return f;
}

/* ---- alone ---- */
static void alone(uint64_t seed)
{
	struct sim_faults f = small_delays();
	struct house *h = house_new(seed, &f, 1);
	struct house_node *n = &h->nodes[0];

	for (int i = 0; i < ALONE_LIVES; i++) {
		uint64_t ms = prng_below(&h->p, 800), how = prng_below(&h->p, 3);

		house_start(h, 0);
		house_run(h, ms * SYS_MS);
		if (how == 0)
			house_kill(h, 0);
		if (how == 1)
			house_power(h, 0);
		if (how == 2)
			house_close(h, 0);
		house_run(h, 3 * SYS_SEC);
		assert_false(sim_node_up(n->node));
		assert_false(n->failed);
		assert_int_equal(how == 2 ? n->close_rc : 0, 0);
	}
	house_start(h, 0);
	house_settle(h);
	house_close(h, 0);
	house_run(h, 3 * SYS_SEC);
	assert_false(sim_node_up(n->node));
	assert_int_equal(n->close_rc, 0);
	assert_true(h->n_leads > ALONE_LIVES / 2);
	house_free(h);
}

static void one_replica_keeps_what_it_acknowledged(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= ALONE_SEEDS; seed++)
		alone(seed);
}

/* ---- three ---- */
static void repair(struct house *h)
{
	for (uint32_t i = 0; i < h->n_nodes; i++) {
		for (uint32_t k = 0; k < h->n_nodes; k++)
			if (k != i)
				sim_net_cut(h->nodes[i].node, h->nodes[k].node, false);
		coord_sim_cut(h->cs, h->nodes[i].name, false);
		if (!sim_node_up(h->nodes[i].node))
			house_start(h, i);
	}
}

static void cut_off(struct house *h, uint32_t i, bool coord_too)
{
	for (uint32_t k = 0; k < h->n_nodes; k++) {
		if (k == i)
			continue;
		sim_net_cut(h->nodes[i].node, h->nodes[k].node, true);
		sim_net_cut(h->nodes[k].node, h->nodes[i].node, true);
	}
	coord_sim_cut(h->cs, h->nodes[i].name, coord_too);
}

static void hurt(struct house *h)
{
	uint32_t i = (uint32_t)prng_below(&h->p, h->n_nodes);
	uint64_t how = prng_below(&h->p, 8), ms = prng_below(&h->p, 400);
	struct house_node *n = &h->nodes[i];

	if (!sim_node_up(n->node)) {
		house_start(h, i);
		return;
	}
	switch (how) {
	case 0:
	case 1:
		house_kill(h, i);
		break;
	case 2:
		house_power(h, i);
		break;
	case 3:
		house_close(h, i);
		break;
	case 4:
		cut_off(h, i, false);
		break;
	case 5:
		cut_off(h, i, true);
		break;
	case 6:
		sim_node_pause(n->node, ms * SYS_MS);
		break;
	default:
		if (n->r != NULL)
			(void)replicate_handover(n->r, 0);
		break;
	}
}

static uint64_t three(uint64_t seed, uint32_t rounds)
{
	struct sim_faults f = small_delays();
	struct house *h = house_new(seed, &f, 3);
	uint64_t n_leads;

	for (uint32_t i = 0; i < h->n_nodes; i++)
		house_start(h, i);
	house_run(h, 2 * SYS_SEC);
	assert_true(house_leader(h) >= 0);
	for (uint32_t round = 0; round < rounds; round++) {
		uint64_t n = 1 + prng_below(&h->p, 6);

		for (uint64_t k = 0; k < n; k++) {
			uint64_t ms = prng_below(&h->p, 400);

			hurt(h);
			house_run(h, ms * SYS_MS);
		}
		repair(h);
		house_run(h, SYS_SEC); /* those that were asked to go are gone */
		repair(h);
		house_settle(h);
	}
	for (uint32_t i = 0; i < h->n_nodes; i++)
		house_close(h, i);
	house_run(h, 5 * SYS_SEC);
	for (uint32_t i = 0; i < h->n_nodes; i++) {
		assert_false(sim_node_up(h->nodes[i].node));
		assert_false(h->nodes[i].failed);
		assert_int_equal(h->nodes[i].close_rc, 0);
	}
	n_leads = h->n_leads;
	house_free(h);
	return n_leads;
}

static void three_replicas_keep_it_together(void **state)
{
	uint64_t n_leads = 0;

	(void)state;
	for (uint64_t seed = first_seed; seed < first_seed + n_seeds; seed++)
		n_leads += three(seed, 3);
	print_message("%llu leads\n", (unsigned long long)n_leads);
	assert_true(n_leads > n_seeds * 2);
}

/* Nobody waits for more than the silence of the one that is gone: from the kill, or the order to
 * stop, to the next acknowledgement. */
static void another_one_leads_soon(void **state)
{
	struct sim_faults f = small_delays();

	(void)state;
	for (uint64_t seed = 1; seed <= 10; seed++) {
		struct house *h = house_new(seed, &f, 3);
		uint64_t began_ns, most_ms = seed & 1 ? 250 : 60, n_leads;
		int leader;

		for (uint32_t i = 0; i < h->n_nodes; i++)
			house_start(h, i);
		house_run(h, 2 * SYS_SEC);
		leader = house_leader(h);
		assert_true(leader >= 0);
		assert_int_equal(h->nodes[leader].r->core.config.in_sync.n, 3);
		n_leads = h->n_leads;
		began_ns = sim_now_ns(h->w);
		if (seed & 1)
			house_kill(h, (uint32_t)leader);
		else
			house_close(h, (uint32_t)leader);
		while (h->n_leads == n_leads || h->last_ack_ns <= began_ns) {
			house_run(h, SYS_MS);
			assert_true(sim_now_ns(h->w) - began_ns < most_ms * SYS_MS);
		}
		print_message("%llu ms\n",
			(unsigned long long)(sim_now_ns(h->w) - began_ns) / SYS_MS);
		house_free(h);
	}
}

/* ---- one is not well ---- */
static struct house *begin_three(uint64_t seed)
{
	struct sim_faults f = small_delays();
	struct house *h = house_new(seed, &f, 3);

	for (uint32_t i = 0; i < h->n_nodes; i++)
		house_start(h, i);
	house_run(h, 2 * SYS_SEC);
	assert_true(house_leader(h) >= 0);
	return h;
}

static void a_full_disk_stops_nobody_else(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 2; seed++) {
		struct house *h = begin_three(seed);
		int leader = house_leader(h), full = leader;
		uint64_t n_acked;

		if (seed & 1) /* one that follows */
			full = (leader + 1) % 3;
		h->greedy = true;
		h->value_bytes = 400;
		sim_disk_full(h->nodes[full].node, true);
		house_run(h, 4 * SYS_SEC);
		n_acked = h->n_acked;
		house_run(h, 2 * SYS_SEC);
		assert_true(h->n_acked > n_acked);
		assert_true(house_leader(h) != full);
		assert_false(h->nodes[full].failed);
		sim_disk_full(h->nodes[full].node, false);
		house_settle(h);
		house_free(h);
	}
}

/* Its log is damaged where it was synced, while it was down. */
static void a_rotten_log_comes_back_as_a_copy(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 2; seed++) {
		struct house *h = begin_three(seed);
		int i = (house_leader(h) + 1) % 3;
		char dir[REPLICATE_PATH_MAX], path[REPLICATE_PATH_MAX + 8];

		mark_rows_dir("/meta", h->nodes[i].r->mark.generation, dir);
		snprintf(path, sizeof path, "%s/log", dir);
		house_kill(h, (uint32_t)i);
		house_run(h, SYS_SEC);
		for (int k = 0; k < 200; k++)
			assert_true(sim_disk_rot_any(h->nodes[i].node, path));
		house_start(h, (uint32_t)i);
		house_settle(h);
		house_free(h);
	}
}

/* What was written on all and synced on others only would be gone with the power of the one that is
 * left in the set: so it syncs before it is left alone (R7). */
static bool loses_what_others_have(uint64_t seed)
{
	struct house *h = begin_three(seed);
	uint32_t i = (uint32_t)house_leader(h), k = (i + 1) % 3;
	uint64_t had;
	bool lost;

	h->merges = false; /* a tree of long ago */
	h->careless = true;
	house_run(h, 50 * SYS_MS);
	h->quiet = true;
	house_run(h, 25 * SYS_MS); /* they know what is committed */
	cut_off(h, k, true);
	cut_off(h, (i + 2) % 3, true);
	for (uint32_t ms = 0; h->nodes[i].r->core.config.in_sync.n > 1; ms++) {
		assert_true(ms < 400);
		house_run(h, SYS_MS);
	}
	had = h->nodes[k].r->core.commit;
	house_power(h, i);
	house_start(h, i);
	while (h->nodes[i].r == NULL)
		house_run(h, SYS_MS);
	lost = h->nodes[i].r->core.last.index < had;
	h->quiet = h->careless = false;
	house_run(h, 200 * SYS_MS); /* it leads, and puts what nobody else takes */
	repair(h);
	house_settle(h);
	house_free(h);
	return lost;
}

static void who_is_left_alone_loses_nothing(void **state)
{
	uint32_t n = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 6; seed++)
		n += loses_what_others_have(seed);
	assert_int_equal(n, 0);
}

/* Its last record, which all have written and nobody has synced, rots while its process is away: it
 * looks like one that was being written.  Others are asked, and have it (R9). */
static void a_rotten_end_is_not_taken_for_a_torn_one(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 6; seed++) {
		struct house *h = begin_three(seed);
		uint32_t i = (uint32_t)house_leader(h);
		char path[LOG_PATH_MAX * 2];
		const struct log *l;
		uint64_t at;

		h->careless = true;
		house_run(h, 50 * SYS_MS);
		h->quiet = true;
		house_run(h, 5 * SYS_MS);
		l = db_log(h->nodes[i].r->db);
		at = l->at;
		segment_path(l, l->segments[l->n_segments - 1].first_lsn, path);
		house_kill(h, i);
		assert_true(sim_disk_rot(h->nodes[i].node, path, at - 12, 3));
		house_start(h, i);
		house_run(h, 200 * SYS_MS);
		h->quiet = h->careless = false;
		house_settle(h);
		house_free(h);
	}
}

/* ---- rare paths ---- */
static const char *const rare[] = {
	"replicate: records for another replica read from the log",
	"replicate: a copy of the tree is sent",
	"replicate: a copy of the tree is put for the rows",
	"replicate: a rotten log, which others hold",
	"replicate: the end of the log is torn or rotten",
	"replicate: hands over for want of room",
	"replicate: the log waits for room",
};
static uint64_t n_rare[sizeof rare / sizeof rare[0]];

static void count(void *arg, const char *what, uint64_t n)
{
	(void)arg;
	for (size_t i = 0; i < sizeof rare / sizeof rare[0]; i++)
		if (strcmp(what, rare[i]) == 0)
			n_rare[i] += n;
}

static void rare_paths_were_taken(void **state)
{
	(void)state;
	sim_coverage(count, NULL);
	for (size_t i = 0; i < sizeof rare / sizeof rare[0]; i++) {
		print_message("%s: %llu\n", rare[i], (unsigned long long)n_rare[i]);
		assert_true(n_rare[i] > 0);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_replica_keeps_what_it_acknowledged),
		cmocka_unit_test(three_replicas_keep_it_together),
		cmocka_unit_test(another_one_leads_soon),
		cmocka_unit_test(a_full_disk_stops_nobody_else),
		cmocka_unit_test(a_rotten_log_comes_back_as_a_copy),
		cmocka_unit_test(who_is_left_alone_loses_nothing),
		cmocka_unit_test(a_rotten_end_is_not_taken_for_a_torn_one),
		cmocka_unit_test(rare_paths_were_taken),
	};

	house_verbose = argc > 3;
	if (argc > 2) { /* first seed, how many */
		first_seed = strtoull(argv[1], NULL, 10);
		n_seeds = strtoull(argv[2], NULL, 10);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
