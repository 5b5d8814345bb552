/* SPDX-License-Identifier: Apache-2.0 */
/* What a node remembers comes back as it was, is replaced whole through any crash, and nothing else
 * is taken for it. */
#include "node/member.h"
#include "base/check.h"
#include "sys/sim/sim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { DISK_BYTES = 8 << 20, STEPS_MAX = 400 };

static struct err_note note;

static const struct member example = { .id = 2,
	.roles = NODE_RUNS_META | NODE_RUNS_STORE,
	.coord = "etcd://10.0.0.1:9235,10.0.0.2:9235/wadi",
	.etcd_name = "wadi-2",
	.etcd_client = "http://10.0.0.2:9235",
	.etcd_peer = "http://10.0.0.2:9236",
	.etcd_members = "wadi-1=http://10.0.0.1:9236,wadi-2=http://10.0.0.2:9236",
	.n_seeds = 2,
	.seeds = { "tcp:10.0.0.1:9234", "tcp:10.0.0.2:9234" } };
static struct member m, got;
static char text[MEMBER_TEXT_MAX], cut[MEMBER_TEXT_MAX], again[MEMBER_TEXT_MAX];

static void it_comes_back(void **state)
{
	static const struct member least = { .id = 1, .roles = NODE_RUNS_STORE };
	size_t n = member_print(&example, text), n_good = 0;

	assert_int_equal(member_parse(text, &got), 0);
	assert_memory_equal(&got, &example, sizeof got);
	/* every beginning of it is refused, or ends behind a line and says less */
	for (size_t i = 0; i < n; i++) {
		memcpy(cut, text, i);
		cut[i] = '\0';
		if (member_parse(cut, &got) == 0) {
			assert_true(text[i - 1] == '\n');
			member_print(&got, again);
			assert_string_equal(cut, again);
			n_good++;
		}
	}
	assert_in_range(n_good, 1, 5);
	member_print(&least, text);
	assert_int_equal(member_parse(text, &got), 0);
	assert_memory_equal(&got, &least, sizeof least);
}

static void others_are_refused(void **state)
{
	static const char *const bad[] = { "", "x", "wadi-cluster 1\nnode\n",
		"wadi-cluster 1\nnode 1\n", "wadi-cluster 1\nnode x meta\n",
		"wadi-cluster 1\nnode 1 meta more\n", "wadi-cluster 1\nnode 1 meta\nfoo bar\n",
		"wadi-cluster 1\ncoord a b\n", "wadi-cluster 1\netcd a b\n",
		"wadi-cluster 1\nnode 1 me\tta\n", "wadi-cluster 1\nseeds a b c d e f g h i\n" };

	m = example;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		assert_int_equal(member_parse(bad[i], &m), E_CORRUPT);
		assert_memory_equal(&m, &example, sizeof m);
	}
	assert_int_equal(member_parse("wadi-cluster 2\n", &m), E_UNSUPPORTED);
}

static void roles_are_words(void **state)
{
	char role[COORD_NAME_MAX];
	unsigned roles, flags;

	member_role_print(NODE_RUNS_META | NODE_RUNS_STORE, NODE_NEW, role);
	assert_string_equal(role, "meta,store,new");
	member_role_parse("store,drain,unheard", &roles, &flags);
	assert_int_equal(roles, NODE_RUNS_STORE);
	assert_int_equal(flags, NODE_DRAIN);
	member_role_print(0, 0, role);
	member_role_parse(role, &roles, &flags);
	assert_int_equal(roles | flags, 0);
	member_role_parse("metal,storeroom", &roles, &flags);
	assert_int_equal(roles | flags, 0);
}

static int save_main(struct sys *s, void *arg)
{
	m = example;
	for (m.id = 1; m.id <= 3; m.id++) {
		int rc = member_save(s, "/", &m, &note);

		if (rc < 0)
			return rc;
		*(uint64_t *)arg = m.id;
	}
	return 0;
}

static int load_main(struct sys *s, void *arg)
{
	int rc = member_load(s, "/", &m, &note);

	*(uint64_t *)arg = rc == 0 ? m.id : 0;
	return rc == E_NOTFOUND ? 0 : rc;
}

/* Whichever step the power was cut at: what was saved is there, or what was just being saved. */
static void a_power_cut_leaves_one_of_them(void **state)
{
	static const struct sim_faults torn = { .disk_torn_ppm = 400000,
		.disk_op_max_ns = 3000000 };
	bool whole = false;

	for (uint64_t steps = 1; steps < STEPS_MAX && !whole; steps++) {
		struct sim *w = sim_new(steps, &torn);
		struct sim_node *n = sim_node_add(w, "a", DISK_BYTES);
		uint64_t saved = 0, found = 0;

		sim_node_start(n, save_main, &saved);
		for (uint64_t i = 0; i < steps && sim_node_up(n); i++)
			if (!sim_step(w))
				break;
		whole = !sim_node_up(n);
		if (!whole)
			sim_node_crash(n);
		while (sim_node_up(n) && sim_step(w))
			;
		sim_node_start(n, load_main, &found);
		sim_run(w, sim_now_ns(w) + 10 * SYS_SEC);
		assert_false(sim_node_up(n));
		assert_int_equal(sim_node_result(n), 0);
		assert_in_range(found, saved, saved + 1);
		sim_free(w);
	}
	assert_true(whole);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_comes_back),
		cmocka_unit_test(others_are_refused),
		cmocka_unit_test(roles_are_words),
		cmocka_unit_test(a_power_cut_leaves_one_of_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
