/* SPDX-License-Identifier: Apache-2.0 */
/* Protected data is on as many servers as it was promised to be: granted, committed, found and
 * dropped there, whatever restarts in between. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/cap.h"
#include "meta/large_kit_test.h"
#include <stdlib.h>
#include <string.h>

/* Of the last grant: its part, and the servers that it is on. */
static struct sub_grant_part part;
static uint32_t on[ROOM_COPIES_MAX], n_on;

static void join(struct house *h, uint32_t i)
{
	static const char *const racks[SERVERS] = { "a", "a", "b" };

	house_join(h, i, 1, racks[i], TIER_BIT(TIER_FLASH));
}

static void begin(struct house *h, uint32_t n)
{
	house_open(h);
	for (uint32_t i = 0; i < n; i++)
		join(h, i);
}

static void restart(struct house *h)
{
	house_close(h);
	house_open(h);
	for (uint32_t i = 0; i < SERVERS; i++)
		if (h->servers[i] != 0)
			join(h, i);
}

static int make_bucket(struct house *h, const char *name, struct msg_bucket_create m)
{
	m.name = bytes_of(name, strlen(name));
	return house_bucket(h, &m);
}

static int grant(struct house *h, uint64_t bytes, uint16_t flags)
{
	struct msg_grant m = { .bucket = h->bucket, .bytes = bytes, .flags = flags };
	struct sub_grant_copy copy;
	struct msg_grant_ok ok;
	int rc = house_grant(h, &m, &ok);

	if (rc < 0)
		return rc;
	assert_true(sub_grant_part_next(&ok.parts, &part));
	part.cap = bytes_of(NULL, 0);
	n_on = 0;
	on[n_on++] = part.server;
	while (sub_grant_copy_next(&ok.copies, &copy)) {
		assert_int_equal(copy.extent_first, part.extent_first);
		assert_int_equal(copy.cap.len, CAP_BYTES);
		on[n_on++] = copy.server;
	}
	assert_int_equal(ok.servers.n, n_on);
	return 0;
}

static int commit(struct house *h, const char *name, unsigned i, unsigned copies, uint16_t flags)
{
	struct sub_extent_ref e = { .egroup = part.egroup,
		.extent = part.extent_first + i,
		.len = MIB,
		.root = 77,
		.copies = (uint8_t)copies };
	struct msg_put_ok ok;

	return house_commit(h, name, &e, 1, 0, flags, &ok);
}

/* The servers that a file is on, as bits; the first one of its only place in *ret_first. */
static unsigned found_on(struct house *h, const char *name, uint32_t *ret_first)
{
	struct sub_extent_place place;
	struct sub_egroup_member member;
	struct msg_get_ok ok;
	unsigned bits;

	assert_int_equal(house_get(h, name, 0, &ok), 0);
	assert_true(sub_extent_place_next(&ok.places, &place));
	assert_int_equal(place.lost, 0);
	bits = 1u << place.server;
	while (sub_egroup_member_next(&ok.members, &member)) {
		assert_int_equal(member.egroup, place.egroup);
		bits |= 1u << member.server;
	}
	assert_int_equal(ok.servers.n, __builtin_popcount(bits));
	*ret_first = place.server;
	return bits;
}

static void ends_empty(struct house *h)
{
	session_close(h->sh, h->s);
	assert_int_equal(session_open(h->sh, &(struct principal){ .admin = true }, 1, 2, &h->s), 0);
	for (int round = 0; round < 2; round++)
		for (uint32_t i = 0; i < SERVERS; i++)
			if (h->servers[i] != 0)
				house_drops(h, h->servers[i]);
	assert_true(large_settled(h->sh, large_ticket(h->sh)));
}

static int life_of_a_copied_file(struct house *h)
{
	uint32_t first;
	unsigned bits;

	begin(h, 3);
	assert_int_equal(make_bucket(h, "b", (struct msg_bucket_create){ .copies = 2 }), 0);
	assert_int_equal(grant(h, 2 * MIB, 0), 0);
	assert_int_equal(n_on, 2);
	bits = 1u << on[0] | 1u << on[1];
	assert_true(bits & 1u << h->servers[2]); /* the only one of another rack */
	assert_int_equal(commit(h, "f", 0, 1, 0), E_INVALID); /* one server has not got it */
	assert_int_equal(commit(h, "f", 0, 2, 0), 0);
	assert_int_equal(commit(h, "g", 0, 2, 0), E_DENIED);
	assert_int_equal(found_on(h, "f", &first), bits);
	assert_int_equal(house_sum(h).used, 2 * MIB);
	restart(h);
	assert_int_equal(commit(h, "g", 1, 1, 0), E_INVALID); /* still */
	assert_int_equal(found_on(h, "f", &first), bits);
	assert_int_equal(house_sum(h).used, 2 * MIB);
	large_server_up(h->sh, first, false); /* readers are sent to the other one */
	assert_true(found_on(h, "f", &first) == bits && large_server(h->sh, first)->up);
	assert_int_equal(house_del(h, "f"), 0);
	assert_true(house_sum(h).orphaned >= 2 * MIB);
	house_drops(h, on[0]);
	assert_false(large_settled(h->sh, large_ticket(h->sh))); /* one can read it still */
	restart(h);
	assert_false(large_settled(h->sh, large_ticket(h->sh)));
	house_drops(h, on[1]);
	assert_true(large_settled(h->sh, large_ticket(h->sh)));
	assert_int_equal(house_sum(h).used + house_sum(h).orphaned, 0);
	ends_empty(h);
	house_close(h);
	return 0;
}

/* A group that became empty goes from one server after the other. */
static int whole_groups_go_everywhere(struct house *h)
{
	struct msg_grant_return m;

	begin(h, 3);
	assert_int_equal(make_bucket(h, "b", (struct msg_bucket_create){ .copies = 3 }), 0);
	assert_int_equal(grant(h, MIB, 0), 0);
	assert_int_equal(n_on, 3);
	assert_int_equal(commit(h, "f", 0, 3, 0), 0);
	m = (struct msg_grant_return){ part.egroup, part.extent_first };
	assert_int_equal(shard_grant_return(h->sh, &h->c, &m), 0);
	for (uint32_t i = 0; i < SERVERS; i++)
		house_drops(h, h->servers[i]);
	assert_int_equal(house_del(h, "f"), 0);
	for (uint32_t i = 0; i < SERVERS; i++)
		house_drops(h, h->servers[i]);
	house_drops(h, h->servers[1]); /* the group itself: on the second first */
	restart(h);
	house_drops(h, h->servers[0]);
	restart(h);
	house_drops(h, h->servers[2]);
	assert_int_equal(house_sum(h).free, house_sum(h).capacity);
	restart(h);
	assert_int_equal(house_sum(h).free, house_sum(h).capacity);
	house_close(h);
	return 0;
}

static int what_cannot_be_promised_is_refused(struct house *h)
{

	begin(h, 1);
	assert_int_equal(make_bucket(h, "x", (struct msg_bucket_create){ .copies = 5 }), E_INVALID);
	assert_int_equal(make_bucket(h, "x",
				 (struct msg_bucket_create){
					 .copies = 2, .protection = PROTECT_NONE }),
		E_INVALID);
	assert_int_equal(make_bucket(h, "x",
				 (struct msg_bucket_create){
					 .copies = 2, .tiers = TIER_BIT(TIER_DRAM) }),
		E_INVALID);
	assert_int_equal(make_bucket(h, "two", (struct msg_bucket_create){ .copies = 2 }), 0);
	assert_int_equal(grant(h, MIB, 0), E_UNAVAILABLE);
	assert_non_null(strstr(h->c.note.text, "copies=2"));
	join(h, 1);
	assert_int_equal(grant(h, MIB, 0), 0);
	assert_int_equal(n_on, 2);
	h->c.version = 1; /* it would not know of the second one */
	assert_int_equal(grant(h, MIB, 0), E_UNSUPPORTED);
	h->c.version = WIRE_VERSION;
	assert_int_equal(make_bucket(h, "one", (struct msg_bucket_create){ .copies = 1 }), 0);
	assert_int_equal(grant(h, MIB, 0), 0);
	assert_int_equal(n_on, 1);
	assert_int_equal(make_bucket(h, "two", (struct msg_bucket_create){
					 .copies = 2, .exists_ok = 1 }), 0);
	assert_int_equal(commit(h, "f", 0, 1, 0), E_INVALID); /* granted for one copy */
	assert_int_equal(make_bucket(h, "two", (struct msg_bucket_create){
					 .copies = 3, .exists_ok = 1 }), E_CONFLICT);
	house_close(h);
	return 0;
}

/* What is said to persist, and no more: one server is enough while there is one. */
static int by_default_two_from_two_servers_on(struct house *h)
{
	uint32_t first;

	begin(h, 1);
	assert_int_equal(make_bucket(h, "p", (struct msg_bucket_create){ .copies = 0 }), 0);
	assert_int_equal(grant(h, MIB, 0), 0);
	assert_int_equal(n_on, 1);
	assert_int_equal(commit(h, "f", 0, 1, 0), 0);
	join(h, 1);
	assert_int_equal(grant(h, MIB, 0), 0);
	assert_int_equal(n_on, 2);
	assert_int_equal(commit(h, "g", 0, 2, 0), 0);
	join(h, 2);
	assert_int_equal(grant(h, MIB, 0), 0);
	assert_int_equal(n_on, 2);
	assert_int_equal(__builtin_popcount(found_on(h, "f", &first)), 1);
	assert_int_equal(__builtin_popcount(found_on(h, "g", &first)), 2);
	assert_int_equal(make_bucket(h, "j", (struct msg_bucket_create){ .job = 5 }), 0);
	assert_int_equal(grant(h, MIB, 0), 0); /* not protected */
	assert_int_equal(n_on, 1);
	assert_int_equal(grant(h, MIB, PUT_PERSIST), 0); /* but this, in the same bucket */
	assert_int_equal(n_on, 2);
	house_close(h);
	return 0;
}

static int a_server_that_failed_is_passed_over(struct house *h)
{
	struct wire_list_builder l;
	struct msg_grant m;
	struct msg_grant_ok ok;
	struct sub_grant_part p;
	struct sub_grant_copy copy;

	begin(h, 3);
	assert_int_equal(make_bucket(h, "b", (struct msg_bucket_create){ .copies = 2 }), 0);
	for (int i = 0; i < 3; i++) {
		l = wire_list_begin(h->room, ROOM, WIRE_VERSION);
		assert_true(sub_server_id_add(
			&l, &(struct sub_server_id){ .server = h->servers[i] }));
		m = (struct msg_grant){
			.bucket = h->bucket, .bytes = MIB, .avoid = wire_list_end(&l)
		};
		while (shard_grant(h->sh, &h->c, &m, &ok) == E_BUSY)
			fiber_sleep(sys_after(h->sys, 5 * SYS_MS));
		assert_true(sub_grant_part_next(&ok.parts, &p));
		assert_true(sub_grant_copy_next(&ok.copies, &copy));
		assert_true(p.server != h->servers[i] && copy.server != h->servers[i]);
	}
	large_server_up(h->sh, h->servers[0], false); /* now all that are left are needed */
	assert_int_equal(shard_grant(h->sh, &h->c, &m, &ok), 0);
	house_close(h);
	return 0;
}

#define TEST(name)                                                                                 \
	static void test_##name(void **state)                                                      \
	{                                                                                          \
		(void)state;                                                                       \
		house_run(name);                                                                   \
	}
TEST(life_of_a_copied_file)
TEST(whole_groups_go_everywhere)
TEST(what_cannot_be_promised_is_refused)
TEST(by_default_two_from_two_servers_on)
TEST(a_server_that_failed_is_passed_over)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life_of_a_copied_file),
		cmocka_unit_test(test_whole_groups_go_everywhere),
		cmocka_unit_test(test_what_cannot_be_promised_is_refused),
		cmocka_unit_test(test_by_default_two_from_two_servers_on),
		cmocka_unit_test(test_a_server_that_failed_is_passed_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
