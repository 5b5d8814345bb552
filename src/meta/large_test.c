/* SPDX-License-Identifier: Apache-2.0 */
/* Extents are named once, found again, dropped before their room is free, and nothing is forgotten
 * by a restart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/prng.h"
#include "meta/alone_test.h"
#include "meta/large.h"
#include "sys/uv/sys_uv.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MIB = 1 << 20, ROOM = 1 << 18 };

struct world {
	struct sys *sys;
	struct alone alone;
	struct shard *sh;
	struct session *s, *other;
	struct shard_call c;
	uint64_t bucket, incarnation;
	uint32_t server;
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
	assert_int_equal(session_open(w->sh, &admin, 3, 4, &w->other), 0);
	w->c = (struct shard_call){ .who = admin, .session = w->s, .version = WIRE_VERSION };
}

static void close_shard(struct world *w)
{
	struct err_note note;

	session_close(w->sh, w->s);
	session_close(w->sh, w->other);
	if (alone_close(&w->alone, &note) < 0)
		fail_msg("%s", note.text);
}

static void register_server(struct world *w)
{
	struct wire_list_builder l = wire_list_begin(w->room, ROOM, WIRE_VERSION);
	struct msg_store_register m = { .uuid_hi = 9,
		.uuid_lo = 9,
		.incarnation = w->incarnation,
		.addr = BYTES("tcp:127.0.0.1:1"),
		.host = BYTES("here") };
	uint32_t server = 0;

	assert_true(sub_device_info_add(&l, &(struct sub_device_info){ .device = 0,
						    .tier = TIER_DRAM,
						    .capacity_bytes = 64 * MIB,
						    .egroup_bytes = 16 * MIB }));
	assert_true(sub_device_info_add(&l, &(struct sub_device_info){ .device = 1,
						    .tier = TIER_FLASH,
						    .capacity_bytes = 64 * MIB,
						    .egroup_bytes = 16 * MIB }));
	m.devices = wire_list_end(&l);
	assert_int_equal(large_register(w->sh, &w->c, &m, &server), 0);
	assert_true(w->server == 0 || server == w->server); /* the same uuid, the same number */
	w->server = server;
	large_server_up(w->sh, server, true);
}

static void make_bucket(struct world *w)
{
	struct msg_bucket_create m = { .lifetime = LIFETIME_JOB, .job = 5, .name = BYTES("b") };
	struct sub_bucket_info info;
	struct msg_bucket_ok ok;

	assert_int_equal(shard_bucket_create(w->sh, &w->c, &m, &ok), 0);
	assert_true(sub_bucket_info_next(&ok.bucket, &info));
	w->bucket = info.bucket;
}

static struct sub_grant_part grant(struct world *w, uint64_t bytes)
{
	struct msg_grant m = { .bucket = w->bucket, .bytes = bytes };
	struct sub_grant_part p;
	struct msg_grant_ok ok;
	int rc;

	while ((rc = shard_grant(w->sh, &w->c, &m, &ok)) == E_BUSY) /* ids */
		fiber_sleep(sys_after(w->sys, 5 * SYS_MS));
	if (rc < 0)
		fail_msg("%s", w->c.note.text);
	assert_true(sub_grant_part_next(&ok.parts, &p));
	assert_int_equal(ok.servers.n, 1);
	assert_true(p.credit_bytes >= bytes);
	p.cap = bytes_of(NULL, 0);
	return p;
}

static int commit(struct world *w, const char *name, const struct sub_extent_ref *e, int n,
	uint64_t staged, uint16_t flags, struct msg_put_ok *ret)
{
	struct wire_list_builder l = wire_list_begin(w->room, ROOM, WIRE_VERSION);
	struct msg_commit m = { .bucket = w->bucket,
		.flags = flags,
		.staged = staged,
		.name = bytes_of(name, strlen(name)) };

	for (int i = 0; i < n; i++)
		assert_true(sub_extent_ref_add(&l, &e[i]));
	m.extents = wire_list_end(&l);
	return shard_commit(w->sh, &w->c, &m, ret);
}

static int get(struct world *w, const char *name, uint64_t from, struct msg_get_ok *ret)
{
	struct msg_get m = {
		.bucket = w->bucket, .from = from, .name = bytes_of(name, strlen(name))
	};
	struct bytes data;

	return shard_get(w->sh, &w->c, &m, ret, &data);
}

static int del(struct world *w, const char *name)
{
	struct msg_delete m = { .bucket = w->bucket, .name = bytes_of(name, strlen(name)) };

	return shard_delete(w->sh, &w->c, &m);
}

/* Acknowledges all drops there are: how many extents. */
static uint64_t acknowledge(struct world *w)
{
	struct large_drop d[64];
	uint64_t count = 0;
	uint32_t n;

	while ((n = large_drops_take(w->sh, w->server, d, 64)) > 0) {
		for (uint32_t i = 0; i < n; i++)
			count += d[i].count;
		large_dropped(w->sh, w->server, d, n);
		room_audit(large_room(w->sh));
	}
	return count;
}

static struct room_sum sum(const struct world *w)
{
	room_audit(large_room(w->sh));
	return room_sum(large_room(w->sh), 0, TIER_COUNT, 0);
}

static struct sub_extent_ref ref(const struct sub_grant_part *p, unsigned i, uint64_t len)
{
	return (struct sub_extent_ref){ .egroup = p->egroup,
		.extent = p->extent_first + i,
		.offset = i * (uint64_t)MIB,
		.len = len,
		.root = 77 + i };
}

static void restart(struct world *w)
{
	close_shard(w);
	open_shard(w);
	register_server(w);
}

static int life_of_a_file(void *arg)
{
	struct world *w = arg;
	struct sub_extent_place place;
	struct sub_extent_ref e[3];
	struct sub_grant_part p;
	struct msg_put_ok ok;
	struct msg_get_ok g;

	open_shard(w);
	register_server(w);
	make_bucket(w);
	p = grant(w, 3 * MIB);
	e[0] = ref(&p, 0, MIB);
	e[1] = ref(&p, 1, MIB + 5);
	e[2] = ref(&p, 2, 100);
	assert_int_equal(commit(w, "f", e, 2, 0, 0, &ok), 0);
	assert_int_equal(commit(w, "g", e, 1, 0, 0, &ok), E_DENIED); /* named before */
	w->c.session = w->other;
	assert_int_equal(commit(w, "g", e + 2, 1, 0, 0, &ok), E_DENIED); /* another client's */
	w->c.session = w->s;
	restart(w);
	assert_int_equal(commit(w, "g", e, 1, 0, 0, &ok), E_DENIED); /* still */
	assert_int_equal(get(w, "f", 0, &g), 0);
	assert_int_equal(g.size, 2 * MIB + 5);
	assert_int_equal(g.places.n, 2);
	assert_int_equal(g.cap.len, CAP_BYTES);
	assert_true(sub_extent_place_next(&g.places, &place) &&
		    sub_extent_place_next(&g.places, &place));
	assert_int_equal(place.file_offset, MIB);
	assert_int_equal(place.root, 78);
	assert_int_equal(place.lost, 0);
	assert_int_equal(get(w, "f", MIB + 1, &g), 0); /* from within the second */
	assert_int_equal(g.places.n, 1);
	assert_int_equal(sum(w).used, 2 * MIB + 5);
	assert_int_equal(del(w, "f"), 0);
	assert_false(large_settled(w->sh, large_ticket(w->sh)));
	assert_int_equal(sum(w).used, 0);
	assert_true(sum(w).orphaned >= 2 * MIB + 5);
	restart(w); /* the drops are still to be done */
	assert_true(sum(w).orphaned >= 2 * MIB + 5);
	assert_int_equal(acknowledge(w), 2);
	assert_true(large_settled(w->sh, large_ticket(w->sh)));
	assert_int_equal(sum(w).orphaned, 0);
	shard_audit(w->sh);
	close_shard(w);
	return 0;
}

static int end_of_a_domain(void *arg)
{
	struct world *w = arg;
	struct msg_bucket_drop drop;
	struct sub_extent_ref e;
	struct sub_grant_part p;
	struct msg_put_ok ok;
	struct shard_status st;

	open_shard(w);
	register_server(w);
	make_bucket(w);
	for (int i = 0; i < 20; i++) {
		char name[16];

		p = grant(w, MIB);
		e = ref(&p, 0, MIB / 2);
		snprintf(name, sizeof name, "f%d", i);
		assert_int_equal(commit(w, name, &e, 1, 0, 0, &ok), 0);
	}
	drop.bucket = w->bucket;
	assert_int_equal(shard_bucket_drop(w->sh, &w->c, &drop), 0);
	large_domain_drop(w->sh, &w->c, 5);
	assert_false(large_settled(w->sh, w->c.ticket));
	restart(w); /* in the middle of it */
	for (int i = 0; i < 200; i++) {
		shard_status(w->sh, &st);
		if (st.dropping == 0)
			break;
		fiber_sleep(sys_after(w->sys, 10 * SYS_MS));
	}
	assert_int_equal(st.dropping, 0);
	acknowledge(w);
	assert_int_equal(sum(w).free, sum(w).capacity);
	shard_audit(w->sh);
	close_shard(w);
	return 0;
}

static int lost_with_its_server(void *arg)
{
	struct world *w = arg;
	struct sub_extent_place place;
	struct sub_extent_ref e;
	struct sub_grant_part p;
	struct msg_put_ok ok;
	struct msg_get_ok g;

	open_shard(w);
	register_server(w);
	make_bucket(w);
	p = grant(w, 2 * MIB);
	e = ref(&p, 0, MIB);
	assert_int_equal(p.tier, TIER_DRAM);
	assert_int_equal(commit(w, "f", &e, 1, 0, 0, &ok), 0);
	w->incarnation++;
	register_server(w);
	assert_int_equal(get(w, "f", 0, &g), 0);
	assert_true(sub_extent_place_next(&g.places, &place));
	assert_int_equal(place.lost, 1);
	e = ref(&p, 1, MIB);
	assert_int_equal(commit(w, "g", &e, 1, 0, 0, &ok), E_LOST); /* its grant died too */
	assert_int_equal(sum(w).free, sum(w).capacity);
	restart(w);
	assert_int_equal(del(w, "f"), 0);
	assert_true(large_settled(w->sh, large_ticket(w->sh))); /* nobody to ask */
	assert_int_equal(sum(w).free, sum(w).capacity);
	(void)grant(w, MIB); /* that nobody has used when its server dies */
	w->incarnation++;
	register_server(w);
	restart(w);
	assert_int_equal(sum(w).free, sum(w).capacity);
	shard_audit(w->sh);
	close_shard(w);
	return 0;
}

/* Drops that a server never heard of, in memory that it has lost meanwhile. */
static int lost_before_it_was_dropped(void *arg)
{
	struct world *w = arg;
	struct sub_extent_ref e[2];
	struct sub_grant_part p;
	struct large_drop taken;
	struct msg_put_ok ok;

	open_shard(w);
	register_server(w);
	make_bucket(w);
	p = grant(w, 2 * MIB);
	e[0] = ref(&p, 0, MIB);
	e[1] = ref(&p, 1, MIB);
	assert_int_equal(commit(w, "f", &e[0], 1, 0, 0, &ok), 0);
	assert_int_equal(commit(w, "g", &e[1], 1, 0, 0, &ok), 0);
	assert_int_equal(del(w, "f"), 0);
	assert_int_equal(del(w, "g"), 0);
	assert_int_equal(large_drops_take(w->sh, w->server, &taken, 1), 1);
	w->incarnation++;
	register_server(w);
	assert_int_equal(sum(w).free, sum(w).capacity);
	restart(w);
	acknowledge(w);
	assert_true(large_settled(w->sh, large_ticket(w->sh)));
	assert_int_equal(sum(w).free, sum(w).capacity);
	shard_audit(w->sh);
	close_shard(w);
	return 0;
}

static int in_several_messages(void *arg)
{
	struct world *w = arg;
	struct sub_extent_ref e[4];
	struct sub_grant_part p;
	struct msg_put_ok first, ok;
	struct msg_get_ok g;

	open_shard(w);
	register_server(w);
	make_bucket(w);
	p = grant(w, 8 * MIB);
	for (unsigned i = 0; i < 4; i++)
		e[i] = ref(&p, i, MIB);
	assert_int_equal(commit(w, "", e, 2, 0, PUT_MORE, &first), 0);
	assert_int_equal(get(w, "f", 0, &g), E_NOTFOUND);
	restart(w);
	assert_int_equal(commit(w, "f", e + 2, 2, first.inode + 1, 0, &ok), E_GONE);
	assert_int_equal(commit(w, "f", e + 2, 2, first.inode, 0, &ok), 0);
	assert_int_equal(ok.inode, first.inode);
	assert_int_equal(get(w, "f", 0, &g), 0);
	assert_int_equal(g.size, 4 * MIB);
	assert_int_equal(g.places.n, 4);
	shard_audit(w->sh);
	close_shard(w);
	return 0;
}

static void run(fiber_fn *fn)
{
	struct world *w = calloc(1, sizeof *w);
	struct err_note note;
	char clean[128];

	snprintf(w->dir, sizeof w->dir, "/tmp/wadi-large-test-XXXXXX");
	w->incarnation = 1;
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
TEST(life_of_a_file)
TEST(end_of_a_domain)
TEST(lost_with_its_server)
TEST(lost_before_it_was_dropped)
TEST(in_several_messages)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life_of_a_file),
		cmocka_unit_test(test_end_of_a_domain),
		cmocka_unit_test(test_lost_with_its_server),
		cmocka_unit_test(test_lost_before_it_was_dropped),
		cmocka_unit_test(test_in_several_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
