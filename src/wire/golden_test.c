/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a released version never change: frames built here from fixed values equal the
 * captures in test/golden, and the captures decode to those values.
 *
 *   golden_test DIRECTORY            compares
 *   golden_test DIRECTORY --write    writes captures that are missing; never an existing one */
#include "base/limit.h"
#include "wire/frame.h"
#include "wire/wire.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

enum { V = 1 /* the version these captures were made in */, FRAME_ROOM = 1024, LINE_BYTES = 32 };

static const char *folder;

struct capture { uint8_t p[FRAME_ROOM]; size_t len; };

static void frame_of(struct capture *c, uint16_t op, uint64_t cookie, uint32_t flags, const void *m,
	struct bytes data)
{
	const struct wire_op *o = wire_op(op);
	struct writer w = writer_of(c->p + FRAME_HEADER_BYTES, FRAME_ROOM - FRAME_HEADER_BYTES);
	struct frame f = { .op = op, .version = V, .cookie = cookie, .flags = flags };

	assert_true(o->put(&w, m, V));
	f.body_len = (uint32_t)(w.p - c->p - FRAME_HEADER_BYTES);
	f.data_len = (uint32_t)data.len;
	write_raw(&w, data.p, data.len);
	assert_true(w.ok);
	frame_put(&f, c->p + FRAME_HEADER_BYTES, data.p, c->p);
	c->len = (size_t)(w.p - c->p);
}

static void hello(struct capture *c)
{
	struct msg_hello m = { .version = 1, .role = ROLE_CLIENT, .client_hi = 0x0102030405060708,
		.client_lo = 0x1112131415161718, .token = BYTES("token"), .name = BYTES("golden") };

	frame_of(c, OP_hello, 0, 0, &m, bytes_of(NULL, 0));
}

static void put(struct capture *c)
{
	struct msg_put m = { .bucket = 7, .parent = 1, .flags = PUT_IF_VERSION | PUT_DURABLE,
		.if_version = 0xfffffffffffffffe, .ttl_ms = 1000, .name = BYTES("a/b\xc3\xa4") };

	frame_of(c, OP_put, 3, 0, &m, BYTES("some bytes"));
}

static void error(struct capture *c)
{
	struct msg_error m = { .code = -E_NOTFOUND, .note = BYTES("get x: not found") };

	frame_of(c, OP_error, 4, FRAME_REPLY, &m, bytes_of(NULL, 0));
}

static void get_ok(struct capture *c)
{
	uint8_t place_room[256], server_room[256];
	struct wire_list_builder places = wire_list_begin(place_room, sizeof place_room, V);
	struct wire_list_builder servers = wire_list_begin(server_room, sizeof server_room, V);
	struct msg_get_ok m = { .inode = 11, .version = 12, .size = 1 << 20,
		.mtime_ms = 1700000000000, .next = 13, .cap_job = 14, .cap_until_ms = 15,
		.cap = BYTES("capability") };

	assert_true(sub_extent_place_add(&places, &(struct sub_extent_place){ 0, 21, 22, 23, 24,
		25, 1, TIER_FLASH, 0 }));
	assert_true(sub_extent_place_add(&places, &(struct sub_extent_place){ 24, 31, 32, 33, 34,
		35, 1, TIER_DISK, 1 }));
	assert_true(sub_server_addr_add(&servers, &(struct sub_server_addr){ 1, 99,
		BYTES("tcp:h:1"), BYTES("unix:/s"), BYTES("boot") }));
	m.places = wire_list_end(&places);
	m.servers = wire_list_end(&servers);
	frame_of(c, OP_get_ok, UINT64_MAX, FRAME_REPLY, &m, bytes_of(NULL, 0));
}

static void status_ok(struct capture *c)
{
	uint8_t tier_room[256], server_room[512];
	struct wire_list_builder tiers = wire_list_begin(tier_room, sizeof tier_room, V);
	struct wire_list_builder servers = wire_list_begin(server_room, sizeof server_room, V);
	struct sub_server_status s = { .server = 1, .state = SERVER_UP, .incarnation = 2,
		.heard_ms = 3, .cpu_permille = 4, .addr = BYTES("tcp:h:2") };
	struct msg_status_ok m = { .jobs = 1, .buckets = 2, .files = 3, .sessions = 4,
		.slab_used_bytes = 5, .slab_bytes = 6, .memtable_bytes = 7, .tree_bytes = 8,
		.log_bytes = 9, .log_index = 10, .synced_index = 11, .merged_index = 12,
		.resident_bytes = 13, .uptime_ms = 14, .cpu_ms = 15 };

	assert_true(sub_tier_status_add(&tiers, &(struct sub_tier_status){ TIER_DRAM, 100, 10, 20,
		30, 5, 15, 20 }));
	s.tiers = m.tiers = wire_list_end(&tiers);
	assert_true(sub_server_status_add(&servers, &s));
	s.server = 2;
	s.tiers = (struct wire_list){ NULL, 0, 0, V };
	assert_true(sub_server_status_add(&servers, &s));
	m.servers = wire_list_end(&servers);
	frame_of(c, OP_status_ok, 5, FRAME_REPLY, &m, bytes_of(NULL, 0));
}

static const struct golden { const char *name; void (*build)(struct capture *c); } goldens[] = {
	{ "hello", hello },
	{ "put", put },
	{ "error", error },
	{ "get_ok", get_ok },
	{ "status_ok", status_ok },
};
enum { N_GOLDENS = sizeof goldens / sizeof goldens[0] };

static FILE *open_golden(const struct golden *g, const char *mode)
{
	char path[512];

	snprintf(path, sizeof path, "%s/%s.hex", folder, g->name);
	return fopen(path, mode);
}

static void write_golden(const struct golden *g)
{
	struct capture c;
	FILE *f = open_golden(g, "wx");

	if (f == NULL)
		return;
	g->build(&c);
	for (size_t i = 0; i < c.len; i++)
		fprintf(f, "%02x%s", c.p[i], i % LINE_BYTES == LINE_BYTES - 1 ? "\n" : "");
	fputs(c.len % LINE_BYTES == 0 ? "" : "\n", f);
	fclose(f);
}

static void read_golden(const struct golden *g, struct capture *ret_c)
{
	FILE *f = open_golden(g, "r");
	char pair[3] = "";

	if (f == NULL)
		fail_msg("no capture %s/%s.hex", folder, g->name);
	ret_c->len = 0;
	for (int at = 0, ch; (ch = fgetc(f)) != EOF;) {
		if (ch == '\n')
			continue;
		pair[at++] = (char)ch;
		if (at < 2)
			continue;
		at = 0;
		assert_true(ret_c->len < FRAME_ROOM);
		ret_c->p[ret_c->len++] = (uint8_t)strtoul(pair, NULL, 16);
	}
	fclose(f);
}

static char *text_of(const struct capture *c)
{
	struct frame f;
	uint64_t m[64];
	const struct wire_op *op;
	char *text = NULL;
	size_t len;
	FILE *out;

	assert_int_equal(frame_get(c->p, &f), 0);
	assert_int_equal(c->len, FRAME_HEADER_BYTES + f.body_len + f.data_len);
	assert_true(frame_verify(&f, c->p, c->p + FRAME_HEADER_BYTES,
		c->p + FRAME_HEADER_BYTES + f.body_len));
	op = wire_op(f.op);
	assert_non_null(op);
	assert_int_equal(op->get(c->p + FRAME_HEADER_BYTES, f.body_len, f.version, m), 0);
	out = open_memstream(&text, &len);
	wire_print(op, m, out);
	fclose(out);
	return text;
}

static void test_golden(void **state)
{
	for (int i = 0; i < N_GOLDENS; i++) {
		struct capture built, kept;
		char *a, *b;

		goldens[i].build(&built);
		read_golden(&goldens[i], &kept);
		assert_int_equal(built.len, kept.len);
		assert_memory_equal(built.p, kept.p, kept.len);
		a = text_of(&built);
		b = text_of(&kept);
		assert_string_equal(a, b);
		free(a);
		free(b);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_golden) };

	if (argc < 2)
		return 2;
	folder = argv[1];
	for (int i = 0; argc > 2 && strcmp(argv[2], "--write") == 0 && i < N_GOLDENS; i++)
		write_golden(&goldens[i]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
