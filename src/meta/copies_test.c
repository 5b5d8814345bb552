/* SPDX-License-Identifier: Apache-2.0 */
/* Protected data is on as many servers as it was promised to be: granted, committed, found and
 * dropped there, whatever restarts in between. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/cap.h"
#include "meta/alone_test.h"
#include "meta/large.h"
#include "sys/uv/sys_uv.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MIB = 1 << 20, ROOM = 1 << 18, SERVERS = 3 };

struct world {
	struct sys *sys;
	struct alone alone;
	struct shard *sh;
	struct session *s;
	struct shard_call c;
	uint64_t bucket;
	uint32_t servers[SERVERS];
	struct sub_grant_part part; /* of the last grant, with its servers */
	uint32_t on[ROOM_COPIES_MAX], n_on;
	char dir[64];
	uint8_t room[ROOM];
};

static const struct cap_key key = { 1, { 7 } };

static void open_shard(struct world *w)
{
	const struct db_opts db = { .tree_bytes_max = 256 << 20, .log_segment_bytes = 1 << 20 };
	struct shard_opts o = { .slab_bytes = 8 * MIB, .epoch = 1 };
	struct large_policy p = { .cap_key = &key };
	struct principal admin = { .admin = true };
	struct err_note note;

	if (alone_open(&w->alone, w->sys, w->dir, &db, &o, &note) < 0)
		fail_msg("%s", note.text);
	w->sh = w->alone.sh;
	large_policy(w->sh, &p);
	assert_int_equal(session_open(w->sh, &admin, 1, 2, &w->s), 0);
	w->c = (struct shard_call){ .who = admin, .session = w->s, .version = WIRE_VERSION };
}

static void close_shard(struct world *w)
{
	struct err_note note;

	shard_audit(w->sh);
	session_close(w->sh, w->s);
	if (alone_close(&w->alone, &note) < 0)
		fail_msg("%s", note.text);
}

static void join(struct world *w, uint32_t i)
{
	struct wire_list_builder l = wire_list_begin(w->room, ROOM, WIRE_VERSION);
	static const char *const racks[SERVERS] = { "a", "a", "b" };
	struct msg_store_register m = { .uuid_hi = 9,
		.uuid_lo = i + 1,
		.incarnation = 1,
		.addr = BYTES("tcp:127.0.0.1:1"),
		.host = BYTES("here"),
		.rack = bytes_of(racks[i], 1) };
	uint32_t server = 0;

	assert_true(sub_device_info_add(&l, &(struct sub_device_info){ .device = 1,
						    .tier = TIER_FLASH,
						    .capacity_bytes = 64 * MIB,
						    .egroup_bytes = 16 * MIB }));
	m.devices = wire_list_end(&l);
	assert_int_equal(large_register(w->sh, &w->c, &m, &server), 0);
	assert_true(w->servers[i] == 0 || server == w->servers[i]);
	w->servers[i] = server;
	large_server_up(w->sh, server, true);
}

static void restart(struct world *w)
{
	close_shard(w);
	open_shard(w);
	for (uint32_t i = 0; i < SERVERS; i++)
		if (w->servers[i] != 0)
			join(w, i);
}

static void begin(struct world *w, uint32_t n)
{
	open_shard(w);
	for (uint32_t i = 0; i < n; i++)
		join(w, i);
}

static int make_bucket(struct world *w, const char *name, struct msg_bucket_create m)
{
	struct sub_bucket_info info;
	struct msg_bucket_ok ok;
	int rc;

	m.name = bytes_of(name, strlen(name));
	rc = shard_bucket_create(w->sh, &w->c, &m, &ok);
	if (rc < 0)
		return rc;
	assert_true(sub_bucket_info_next(&ok.bucket, &info));
	assert_int_equal(info.copies, m.copies);
	w->bucket = info.bucket;
	return 0;
}

static int grant(struct world *w, uint64_t bytes, uint16_t flags)
{
	struct msg_grant m = { .bucket = w->bucket, .bytes = bytes, .flags = flags };
	struct sub_grant_copy copy;
	struct msg_grant_ok ok;
	int rc;

	while ((rc = shard_grant(w->sh, &w->c, &m, &ok)) == E_BUSY) /* ids */
		fiber_sleep(sys_after(w->sys, 5 * SYS_MS));
	if (rc < 0)
		return rc;
	assert_true(sub_grant_part_next(&ok.parts, &w->part));
	w->part.cap = bytes_of(NULL, 0);
	w->n_on = 0;
	w->on[w->n_on++] = w->part.server;
	while (sub_grant_copy_next(&ok.copies, &copy)) {
		assert_int_equal(copy.extent_first, w->part.extent_first);
		assert_int_equal(copy.cap.len, CAP_BYTES);
		w->on[w->n_on++] = copy.server;
	}
	assert_int_equal(ok.servers.n, w->n_on);
	return 0;
}

static int commit(struct world *w, const char *name, unsigned i, unsigned copies, uint16_t flags)
{
	struct wire_list_builder l = wire_list_begin(w->room, ROOM, WIRE_VERSION);
	struct msg_commit m = {
		.bucket = w->bucket, .flags = flags, .name = bytes_of(name, strlen(name))
	};
	struct msg_put_ok ok;

	assert_true(sub_extent_ref_add(&l, &(struct sub_extent_ref){ .egroup = w->part.egroup,
						   .extent = w->part.extent_first + i,
						   .len = MIB,
						   .root = 77,
						   .copies = (uint8_t)copies }));
	m.extents = wire_list_end(&l);
	return shard_commit(w->sh, &w->c, &m, &ok);
}

/* The servers that a file is on, as bits; the first one of its only place in *ret_first. */
static unsigned found_on(struct world *w, const char *name, uint32_t *ret_first)
{
	struct msg_get m = { .bucket = w->bucket, .name = bytes_of(name, strlen(name)) };
	struct sub_extent_place place;
	struct sub_egroup_member member;
	struct msg_get_ok ok;
	struct bytes data;
	unsigned bits;

	assert_int_equal(shard_get(w->sh, &w->c, &m, &ok, &data), 0);
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

static void del(struct world *w, const char *name)
{
	struct msg_delete m = { .bucket = w->bucket, .name = bytes_of(name, strlen(name)) };

	assert_int_equal(shard_delete(w->sh, &w->c, &m), 0);
}

/* One server confirms all that it is to drop: how many. */
static uint32_t acknowledge(struct world *w, uint32_t server)
{
	struct large_drop d[64];
	uint32_t n, all = 0;

	for (; (n = large_drops_take(w->sh, server, d, 64)) > 0; all += n)
		large_dropped(w->sh, server, d, n);
	room_audit(large_room(w->sh));
	return all;
}

static struct room_sum sum(const struct world *w)
{
	room_audit(large_room(w->sh));
	return room_sum(large_room(w->sh), 0, TIER_COUNT, 0);
}

static void ends_empty(struct world *w)
{
	session_close(w->sh, w->s);
	assert_int_equal(session_open(w->sh, &(struct principal){ .admin = true }, 1, 2, &w->s), 0);
	for (int round = 0; round < 2; round++)
		for (uint32_t i = 0; i < SERVERS; i++)
			if (w->servers[i] != 0)
				acknowledge(w, w->servers[i]);
	assert_true(large_settled(w->sh, large_ticket(w->sh)));
}

static int life_of_a_copied_file(void *arg)
{
	struct world *w = arg;
	uint32_t first;
	unsigned on;

	begin(w, 3);
	assert_int_equal(make_bucket(w, "b", (struct msg_bucket_create){ .copies = 2 }), 0);
	assert_int_equal(grant(w, 2 * MIB, 0), 0);
	assert_int_equal(w->n_on, 2);
	on = 1u << w->on[0] | 1u << w->on[1];
	assert_true(on & 1u << w->servers[2]); /* the only one of another rack */
	assert_int_equal(commit(w, "f", 0, 1, 0), E_INVALID); /* one server has not got it */
	assert_int_equal(commit(w, "f", 0, 2, 0), 0);
	assert_int_equal(commit(w, "g", 0, 2, 0), E_DENIED);
	assert_int_equal(found_on(w, "f", &first), on);
	assert_int_equal(sum(w).used, 2 * MIB);
	restart(w);
	assert_int_equal(commit(w, "g", 1, 1, 0), E_INVALID); /* still */
	assert_int_equal(found_on(w, "f", &first), on);
	assert_int_equal(sum(w).used, 2 * MIB);
	large_server_up(w->sh, first, false); /* readers are sent to the other one */
	assert_true(found_on(w, "f", &first) == on && large_server(w->sh, first)->up);
	del(w, "f");
	assert_true(sum(w).orphaned >= 2 * MIB);
	acknowledge(w, w->on[0]);
	assert_false(large_settled(w->sh, large_ticket(w->sh))); /* one can read it still */
	restart(w);
	assert_false(large_settled(w->sh, large_ticket(w->sh)));
	acknowledge(w, w->on[1]);
	assert_true(large_settled(w->sh, large_ticket(w->sh)));
	assert_int_equal(sum(w).used + sum(w).orphaned, 0);
	ends_empty(w);
	close_shard(w);
	return 0;
}

/* A group that became empty goes from one server after the other. */
static int whole_groups_go_everywhere(void *arg)
{
	struct world *w = arg;
	struct msg_grant_return m;

	begin(w, 3);
	assert_int_equal(make_bucket(w, "b", (struct msg_bucket_create){ .copies = 3 }), 0);
	assert_int_equal(grant(w, MIB, 0), 0);
	assert_int_equal(w->n_on, 3);
	assert_int_equal(commit(w, "f", 0, 3, 0), 0);
	m = (struct msg_grant_return){ w->part.egroup, w->part.extent_first };
	assert_int_equal(shard_grant_return(w->sh, &w->c, &m), 0);
	for (uint32_t i = 0; i < SERVERS; i++)
		acknowledge(w, w->servers[i]);
	del(w, "f");
	for (uint32_t i = 0; i < SERVERS; i++)
		acknowledge(w, w->servers[i]);
	acknowledge(w, w->servers[1]); /* the group itself: on the second first */
	restart(w);
	acknowledge(w, w->servers[0]);
	restart(w);
	acknowledge(w, w->servers[2]);
	assert_int_equal(sum(w).free, sum(w).capacity);
	restart(w);
	assert_int_equal(sum(w).free, sum(w).capacity);
	close_shard(w);
	return 0;
}

static int what_cannot_be_promised_is_refused(void *arg)
{
	struct world *w = arg;

	begin(w, 1);
	assert_int_equal(make_bucket(w, "x", (struct msg_bucket_create){ .copies = 5 }), E_INVALID);
	assert_int_equal(make_bucket(w, "x",
				 (struct msg_bucket_create){
					 .copies = 2, .protection = PROTECT_NONE }),
		E_INVALID);
	assert_int_equal(make_bucket(w, "x",
				 (struct msg_bucket_create){
					 .copies = 2, .tiers = TIER_BIT(TIER_DRAM) }),
		E_INVALID);
	assert_int_equal(make_bucket(w, "two", (struct msg_bucket_create){ .copies = 2 }), 0);
	assert_int_equal(grant(w, MIB, 0), E_UNAVAILABLE);
	assert_non_null(strstr(w->c.note.text, "copies=2"));
	join(w, 1);
	assert_int_equal(grant(w, MIB, 0), 0);
	assert_int_equal(w->n_on, 2);
	w->c.version = 1; /* it would not know of the second one */
	assert_int_equal(grant(w, MIB, 0), E_UNSUPPORTED);
	w->c.version = WIRE_VERSION;
	assert_int_equal(make_bucket(w, "one", (struct msg_bucket_create){ .copies = 1 }), 0);
	assert_int_equal(grant(w, MIB, 0), 0);
	assert_int_equal(w->n_on, 1);
	assert_int_equal(make_bucket(w, "two", (struct msg_bucket_create){
					 .copies = 2, .exists_ok = 1 }), 0);
	assert_int_equal(commit(w, "f", 0, 1, 0), E_INVALID); /* granted for one copy */
	assert_int_equal(make_bucket(w, "two", (struct msg_bucket_create){
					 .copies = 3, .exists_ok = 1 }), E_CONFLICT);
	close_shard(w);
	return 0;
}

/* What is said to persist, and no more: one server is enough while there is one. */
static int by_default_two_from_two_servers_on(void *arg)
{
	struct world *w = arg;
	uint32_t first;

	begin(w, 1);
	assert_int_equal(make_bucket(w, "p", (struct msg_bucket_create){ .copies = 0 }), 0);
	assert_int_equal(grant(w, MIB, 0), 0);
	assert_int_equal(w->n_on, 1);
	assert_int_equal(commit(w, "f", 0, 1, 0), 0);
	join(w, 1);
	assert_int_equal(grant(w, MIB, 0), 0);
	assert_int_equal(w->n_on, 2);
	assert_int_equal(commit(w, "g", 0, 2, 0), 0);
	join(w, 2);
	assert_int_equal(grant(w, MIB, 0), 0);
	assert_int_equal(w->n_on, 2);
	assert_int_equal(__builtin_popcount(found_on(w, "f", &first)), 1);
	assert_int_equal(__builtin_popcount(found_on(w, "g", &first)), 2);
	assert_int_equal(make_bucket(w, "j", (struct msg_bucket_create){ .job = 5 }), 0);
	assert_int_equal(grant(w, MIB, 0), 0); /* not protected */
	assert_int_equal(w->n_on, 1);
	assert_int_equal(grant(w, MIB, PUT_PERSIST), 0); /* but this, in the same bucket */
	assert_int_equal(w->n_on, 2);
	close_shard(w);
	return 0;
}

static int a_server_that_failed_is_passed_over(void *arg)
{
	struct world *w = arg;
	struct wire_list_builder l;
	struct msg_grant m;
	struct msg_grant_ok ok;
	struct sub_grant_part p;
	struct sub_grant_copy copy;

	begin(w, 3);
	assert_int_equal(make_bucket(w, "b", (struct msg_bucket_create){ .copies = 2 }), 0);
	for (int i = 0; i < 3; i++) {
		l = wire_list_begin(w->room, ROOM, WIRE_VERSION);
		assert_true(sub_server_id_add(
			&l, &(struct sub_server_id){ .server = w->servers[i] }));
		m = (struct msg_grant){
			.bucket = w->bucket, .bytes = MIB, .avoid = wire_list_end(&l)
		};
		while (shard_grant(w->sh, &w->c, &m, &ok) == E_BUSY)
			fiber_sleep(sys_after(w->sys, 5 * SYS_MS));
		assert_true(sub_grant_part_next(&ok.parts, &p));
		assert_true(sub_grant_copy_next(&ok.copies, &copy));
		assert_true(p.server != w->servers[i] && copy.server != w->servers[i]);
	}
	large_server_up(w->sh, w->servers[0], false); /* now all that are left are needed */
	assert_int_equal(shard_grant(w->sh, &w->c, &m, &ok), 0);
	close_shard(w);
	return 0;
}

static void run(fiber_fn *fn)
{
	struct world *w = calloc(1, sizeof *w);
	struct err_note note;
	char clean[128];

	snprintf(w->dir, sizeof w->dir, "/tmp/wadi-copies-test-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	assert_int_equal(sys_uv_new(&w->sys, &note), 0);
	assert_int_equal(sys_uv_run(w->sys, "test", fn, w), 0);
	sys_uv_free(w->sys);
	snprintf(clean, sizeof clean, "rm -r '%s'", w->dir);
	assert_int_equal(system(clean), 0);
	free(w);
}

#define TEST(name)                                                                                 \
	static void test_##name(void **state)                                                      \
	{                                                                                          \
		(void)state;                                                                       \
		run(name);                                                                         \
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
