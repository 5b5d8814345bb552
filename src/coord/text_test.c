/* SPDX-License-Identifier: Apache-2.0 */
/* What a human reads in etcd is what was meant, and nothing else parses. */
#include "coord/own.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const char good_state[] = "wadi-shard 1\nepoch 7\nprimary 3/12\nin_sync 3/12 4/1 5/0\n"
				 "target_size 3\n";
static const char good_node[] = "wadi-node 1\nid 3\naddress tcp:10.0.0.3:7777\nhost h3\nrack -\n"
				"role meta,store\ncertificate node-3\n";

static int parse(const char *text)
{
	struct coord_state st;
	struct coord_node n;
	struct bytes b = bytes_of(text, strlen(text));

	return strncmp(text, "wadi-node", 9) == 0 ? coord_node_parse(b, &n)
						  : coord_state_parse(b, &st);
}

static void states_round_trip(void **state)
{
	struct coord_state st;
	char text[COORD_TEXT_MAX];

	assert_int_equal(coord_state_parse(BYTES(good_state), &st), 0);
	assert_int_equal(st.epoch, 7);
	assert_int_equal(st.primary.id, 3);
	assert_int_equal(st.primary.incarnation, 12);
	assert_int_equal(st.n_in_sync, 3);
	assert_int_equal(st.in_sync[2].id, 5);
	assert_int_equal(st.target_size, 3);
	assert_int_equal(coord_state_print(&st, text), sizeof good_state - 1);
	assert_string_equal(text, good_state);
}

static void the_longest_fit(void **state)
{
	struct coord_state st = { UINT64_MAX, { 0 }, { { 0 } }, COORD_IN_SYNC_MAX,
		COORD_IN_SYNC_MAX, 0 };
	struct coord_node n = { .id = UINT64_MAX }, again;
	char text[COORD_TEXT_MAX];
	struct coord_state got;
	size_t len;

	for (uint64_t i = 0; i < COORD_IN_SYNC_MAX; i++)
		st.in_sync[i] = (struct coord_replica){ UINT64_MAX - i, UINT64_MAX };
	st.primary = st.in_sync[4];
	len = coord_state_print(&st, text);
	assert_int_equal(coord_state_parse(bytes_of(text, len), &got), 0);
	assert_memory_equal(&st, &got, sizeof st);
	memset(n.address, 'a', sizeof n.address - 1);
	memset(n.host, 'h', sizeof n.host - 1);
	memset(n.rack, 'r', sizeof n.rack - 1);
	memset(n.role, 'o', sizeof n.role - 1);
	memset(n.certificate, 'c', sizeof n.certificate - 1);
	len = coord_node_print(&n, text);
	assert_int_equal(coord_node_parse(bytes_of(text, len), &again), 0);
	assert_memory_equal(&n, &again, sizeof n);
	n.host[sizeof n.host - 1] = 'h';
	assert_false(coord_node_valid(&n));
}

static void other_texts_are_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"wadi-shard 1\n",
		"wadi-shard 01\nepoch 7\nprimary 3/12\nin_sync 3/12\ntarget_size 3\n",
		"wadi-shard 1\nepoch 0\nprimary 3/12\nin_sync 3/12\ntarget_size 3\n",
		"wadi-shard 1\nepoch 07\nprimary 3/12\nin_sync 3/12\ntarget_size 3\n",
		"wadi-shard 1\nepoch 18446744073709551616\nprimary 3/12\nin_sync 3/12\n"
		"target_size 3\n",
		"wadi-shard 1\nepoch -7\nprimary 3/12\nin_sync 3/12\ntarget_size 3\n",
		"wadi-shard 1\nepoch 7\nprimary 3/11\nin_sync 3/12\ntarget_size 3\n",
		"wadi-shard 1\nepoch 7\nprimary 9/12\nin_sync 3/12\ntarget_size 3\n",
		"wadi-shard 1\nepoch 7\nprimary 3/12\nin_sync\ntarget_size 3\n",
		"wadi-shard 1\nepoch 7\nprimary 3/12\nin_sync 3/12 3/13\ntarget_size 3\n",
		"wadi-shard 1\nepoch 7\nprimary 3/12\nin_sync 3/12  4/13\ntarget_size 3\n",
		"wadi-shard 1\nepoch 7\nprimary 0/12\nin_sync 0/12\ntarget_size 3\n",
		"wadi-shard 1\nepoch 7\nprimary 1/1\nin_sync 1/1 2/1 3/1 4/1 5/1 6/1\n"
		"target_size 3\n",
		"wadi-shard 1\nepoch 7\nprimary 3/12\nin_sync 3/12\ntarget_size 0\n",
		"wadi-shard 1\nepoch 7\nprimary 3/12\nin_sync 3/12\ntarget_size 6\n",
		"wadi-shard 1\nepoch 7\nprimary 3/12\nin_sync 3/12\ntarget_size 3",
		"wadi-shard 1\nepoch 7\nprimary 3/12\nin_sync 3/12\ntarget_size 3\n\n",
		"wadi-shard 1\r\nepoch 7\nprimary 3/12\nin_sync 3/12\ntarget_size 3\n",
		"wadi-node 1\nid 0\naddress a\nhost -\nrack -\nrole r\ncertificate -\n",
		"wadi-node 1\nid 1\naddress -\nhost -\nrack -\nrole r\ncertificate -\n",
		"wadi-node 1\nid 1\naddress a\nhost \nrack -\nrole r\ncertificate -\n",
		"wadi-node 1\nid 1\naddress a\nhost a b\nrack -\nrole r\ncertificate -\n",
		"wadi-node 1\nid 1\naddress a\nhost -\nrack -\nrole -\ncertificate -\n",
		"wadi-node 1\nid 1\naddress a\nhost \x80\nrack -\nrole r\ncertificate -\n",
		"wadi-node 1\nid 1\naddress a\nhost -\nrack -\nrole r\ncertificate -\nx",
	};
	struct coord_node n;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(parse(bad[i]), E_CORRUPT);
	assert_int_equal(parse(good_node), 0);
	assert_int_equal(coord_node_parse(BYTES("wadi-node 1\nid 1\naddress a\0b\nhost -\nrack -\n"
						"role r\ncertificate -\n"),
				 &n),
		E_CORRUPT);
}

static void newer_ones_say_so(void **state)
{
	assert_int_equal(parse("wadi-shard 2\nwho knows"), E_UNSUPPORTED);
	assert_int_equal(parse("wadi-node 17\n"), E_UNSUPPORTED);
}

/* Every truncation, and every byte changed: refused, or it means what it says. */
static void damage_is_seen(void **state)
{
	char text[COORD_TEXT_MAX], again[COORD_TEXT_MAX];
	struct coord_state st;
	size_t len = sizeof good_state - 1;

	for (size_t n = 0; n < len; n++)
		assert_int_equal(coord_state_parse(bytes_of(good_state, n), &st), E_CORRUPT);
	for (size_t i = 0; i < len; i++) {
		for (int c = 0; c < 256; c++) {
			memcpy(text, good_state, sizeof good_state);
			text[i] = (char)c;
			if (coord_state_parse(bytes_of(text, len), &st) != 0)
				continue;
			assert_int_equal(coord_state_print(&st, again), len);
			assert_memory_equal(text, again, len);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(states_round_trip),
		cmocka_unit_test(the_longest_fit),
		cmocka_unit_test(other_texts_are_refused),
		cmocka_unit_test(newer_ones_say_so),
		cmocka_unit_test(damage_is_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
