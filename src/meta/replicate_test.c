/* SPDX-License-Identifier: Apache-2.0 */
/* One replica, and three, through restarts, kills and power cuts: whoever leads has every row that
 * was acknowledged; when all is well again it goes on, and all replicas come to the same rows. */
#include "base/check.h"
#include "meta/replicate_kit_test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { ALONE_SEEDS = 20, ALONE_LIVES = 8, THREE_SEEDS = 6 };

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
	for (uint64_t seed = 1; seed <= THREE_SEEDS; seed++)
		n_leads += three(seed, 3);
	print_message("%llu leads\n", (unsigned long long)n_leads);
	assert_true(n_leads > THREE_SEEDS * 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_replica_keeps_what_it_acknowledged),
		cmocka_unit_test(three_replicas_keep_it_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
