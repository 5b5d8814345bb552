/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "meta/large_kit_test.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct cap_key key = { 1, { 7 } };

void house_open(struct house *h)
{
	const struct db_opts db = { .tree_bytes_max = 256 << 20, .log_segment_bytes = 1 << 20 };
	struct shard_opts o = { .slab_bytes = 8 * MIB, .epoch = 1 };
	struct large_policy p = { .cap_key = &key };
	struct principal admin = { .admin = true };
	struct err_note note;

	if (alone_open(&h->alone, h->sys, h->dir, &db, &o, &note) < 0)
		fail_msg("%s", note.text);
	h->sh = h->alone.sh;
	large_policy(h->sh, &p);
	assert_int_equal(session_open(h->sh, &admin, 1, 2, &h->s), 0);
	assert_int_equal(session_open(h->sh, &admin, 3, 4, &h->other), 0);
	h->c = (struct shard_call){ .who = admin, .session = h->s, .version = WIRE_VERSION };
}

void house_close(struct house *h)
{
	struct err_note note;

	shard_audit(h->sh);
	session_close(h->sh, h->s);
	session_close(h->sh, h->other);
	if (alone_close(&h->alone, &note) < 0)
		fail_msg("%s", note.text);
}

void house_join(
	struct house *h, uint32_t i, uint64_t incarnation, const char *rack, unsigned tiers)
{
	struct wire_list_builder l = wire_list_begin(h->room, ROOM, WIRE_VERSION);
	struct msg_store_register m = { .uuid_hi = 9,
		.uuid_lo = i + 1,
		.incarnation = incarnation,
		.addr = BYTES("tcp:127.0.0.1:1"),
		.host = BYTES("here"),
		.rack = bytes_of(rack, strlen(rack)) };
	uint32_t server = 0;

	for (uint8_t t = 0; t < TIER_COUNT; t++)
		if ((tiers & TIER_BIT(t)) != 0)
			assert_true(sub_device_info_add(&l,
				&(struct sub_device_info){ .device = t,
					.tier = t,
					.capacity_bytes = 64 * MIB,
					.egroup_bytes = 16 * MIB }));
	m.devices = wire_list_end(&l);
	assert_int_equal(large_register(h->sh, &h->c, &m, &server), 0);
	assert_true(h->servers[i] == 0 || server == h->servers[i]); /* the same uuid */
	h->servers[i] = server;
	large_server_up(h->sh, server, true);
}

/* ---- requests ---- */
int house_bucket(struct house *h, const struct msg_bucket_create *m)
{
	struct sub_bucket_info info;
	struct msg_bucket_ok ok;
	int rc = shard_bucket_create(h->sh, &h->c, m, &ok);

	if (rc < 0)
		return rc;
	assert_true(sub_bucket_info_next(&ok.bucket, &info));
	assert_int_equal(info.copies, m->copies);
	h->bucket = info.bucket;
	return 0;
}

int house_grant(struct house *h, const struct msg_grant *m, struct msg_grant_ok *ret)
{
	int rc;

	while ((rc = shard_grant(h->sh, &h->c, m, ret)) == E_BUSY) /* ids */
		fiber_sleep(sys_after(h->sys, 5 * SYS_MS));
	return rc;
}

int house_commit(struct house *h, const char *name, const struct sub_extent_ref *e, int n,
	uint64_t staged, uint16_t flags, struct msg_put_ok *ret)
{
	struct wire_list_builder l = wire_list_begin(h->room, ROOM, WIRE_VERSION);
	struct msg_commit m = { .bucket = h->bucket,
		.flags = flags,
		.staged = staged,
		.name = bytes_of(name, strlen(name)) };

	for (int i = 0; i < n; i++)
		assert_true(sub_extent_ref_add(&l, &e[i]));
	m.extents = wire_list_end(&l);
	return shard_commit(h->sh, &h->c, &m, ret);
}

int house_get(struct house *h, const char *name, uint64_t from, struct msg_get_ok *ret)
{
	struct msg_get m = {
		.bucket = h->bucket, .from = from, .name = bytes_of(name, strlen(name))
	};
	struct bytes data;

	return shard_get(h->sh, &h->c, &m, ret, &data);
}

int house_del(struct house *h, const char *name)
{
	struct msg_delete m = { .bucket = h->bucket, .name = bytes_of(name, strlen(name)) };

	return shard_delete(h->sh, &h->c, &m);
}

uint64_t house_drops(struct house *h, uint32_t server)
{
	struct large_drop d[64];
	uint64_t count = 0;
	uint32_t n;

	while ((n = large_drops_take(h->sh, server, d, 64)) > 0) {
		for (uint32_t i = 0; i < n; i++)
			count += d[i].count;
		large_dropped(h->sh, server, d, n);
		room_audit(large_room(h->sh));
	}
	return count;
}

struct room_sum house_sum(const struct house *h)
{
	room_audit(large_room(h->sh));
	return room_sum(large_room(h->sh), 0, TIER_COUNT, 0);
}

/* ---- running ---- */
struct running { struct house *h; int (*body)(struct house *h); };

static int body_run(void *arg)
{
	struct running *r = arg;

	return r->body(r->h);
}

void house_run(int (*body)(struct house *h))
{
	struct running r = { calloc(1, sizeof *r.h), body };
	struct house *h = r.h;
	struct err_note note;
	char clean[128];

	assert_non_null(h);
	snprintf(h->dir, sizeof h->dir, "/tmp/wadi-large-test-XXXXXX");
	assert_non_null(mkdtemp(h->dir));
	assert_int_equal(sys_uv_new(&h->sys, &note), 0);
	assert_int_equal(sys_uv_run(h->sys, "test", body_run, &r), 0);
	sys_uv_free(h->sys);
	snprintf(clean, sizeof clean, "rm -r '%s'", h->dir);
	assert_int_equal(system(clean), 0);
	free(h);
}
