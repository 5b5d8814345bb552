/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that break the rules cost their sender an error and the connection, and nobody else
 * anything; whoever stalls is let go after its deadline. */
#include "rpc/service_test.h"
#include "base/limit.h"
#include "base/prng.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { ROOM = 1024, DATA_BYTES = 100 };

static struct service v;

/* ---- a peer that writes its bytes by hand ---- */
struct raw { struct sys_stream *c; struct frame f; uint8_t body[ROOM]; };
static struct raw raw;

static void raw_open(void)
{
	check(sys_connect(v.s, v.tcp, soon(v.s), &raw.c, NULL) == 0);
}

static int raw_send(const void *p, size_t len)
{
	struct iovec iov = { (void *)(uintptr_t)p, len };

	return len > 0 ? sys_send(raw.c, &iov, 1, soon(v.s)) : 0;
}

static int raw_bytes(void *p, size_t len)
{
	for (int64_t n; len > 0; p = (uint8_t *)p + n, len -= (size_t)n) {
		n = sys_recv(raw.c, p, len, soon(v.s));
		if (n <= 0)
			return n == 0 ? E_CLOSED : (int)n;
	}
	return 0;
}

/* The next frame, verified; at most ROOM bytes behind the header. */
static int raw_recv(void)
{
	uint8_t header[FRAME_HEADER_BYTES];
	int rc = raw_bytes(header, sizeof header);

	if (rc < 0)
		return rc;
	check(frame_get(header, &raw.f) == 0);
	check(raw.f.body_len + raw.f.data_len <= ROOM);
	rc = raw_bytes(raw.body, raw.f.body_len + raw.f.data_len);
	if (rc == 0)
		check(frame_verify(&raw.f, header, raw.body, raw.body + raw.f.body_len));
	return rc;
}

/* An error with that cookie; its code. */
static int raw_error(uint64_t cookie)
{
	struct msg_error m;

	check(raw_recv() == 0);
	check(raw.f.op == OP_error);
	check(raw.f.flags == FRAME_REPLY);
	check(raw.f.cookie == cookie);
	check(msg_error_get(raw.body, raw.f.body_len, raw.f.version, &m) == 0);
	check(m.note.len > 0);
	return -(int)m.code;
}

/* The connection ends by the error that says why. */
static void raw_ends(void)
{
	check(raw_error(0) == E_CORRUPT);
	check(raw_recv() == E_CLOSED);
	sys_stream_close(raw.c);
}

static size_t put_frame(uint8_t *to, struct frame f, const void *m, struct bytes data)
{
	struct writer w = writer_of(to + FRAME_HEADER_BYTES, ROOM - FRAME_HEADER_BYTES);

	f.version = f.version != 0 ? f.version : 1;
	check(wire_op(f.op)->put(&w, m, 1));
	f.body_len = (uint32_t)(w.p - to) - FRAME_HEADER_BYTES;
	f.data_len = (uint32_t)data.len;
	write_raw(&w, data.p, data.len);
	check(w.ok);
	frame_put(&f, to + FRAME_HEADER_BYTES, w.p - data.len, to);
	return (size_t)(w.p - to);
}

static size_t hello_frame(uint8_t *to)
{
	struct msg_hello m = { .version = 1, .name = BYTES("raw") };

	return put_frame(to, (struct frame){ .op = OP_hello }, &m, bytes_of(NULL, 0));
}

static size_t small_put(uint8_t *to, uint64_t cookie)
{
	struct msg_put m = { .bucket = 1, .name = BYTES("name") };

	return put_frame(to, (struct frame){ .op = OP_put, .cookie = cookie }, &m,
		bytes_of(pattern(), DATA_BYTES));
}

static void raw_hello(void)
{
	uint8_t buf[ROOM];

	raw_open();
	check(raw_send(buf, hello_frame(buf)) == 0);
	check(raw_recv() == 0);
	check(raw.f.op == OP_hello_ok);
}

/* A well-behaved put on the raw connection. */
static void raw_works(uint64_t cookie)
{
	uint8_t buf[ROOM];

	check(raw_send(buf, small_put(buf, cookie)) == 0);
	check(raw_recv() == 0);
	check(raw.f.op == OP_put_ok);
	check(raw.f.cookie == cookie);
}

/* The same on a connection of its own, which was there all the time. */
static void other_works(struct rpc_conn *c)
{
	struct rpc_call call = { .op = OP_put, .msg = &(struct msg_put){ .bucket = 1 } };
	struct msg_put_ok ok;

	check(rpc_ask(c, &call, OP_put_ok, &ok, soon(v.s), NULL) == 0);
}

/* ---- tests ---- */
static int truncations(struct sys *s, void *arg)
{
	uint8_t buf[ROOM];
	size_t len = hello_frame(buf), whole;
	struct rpc_conn *c;

	service_open(&v, s);
	c = service_connect(&v, v.local);
	len += small_put(buf + len, 1);
	whole = len + small_put(buf + len, 2);
	for (size_t cut = 0; cut <= whole; cut++) {
		raw_open();
		check(raw_send(buf, cut) == 0);
		sys_stream_close(raw.c);
	}
	until(s, rpc_server_connections(v.server) == 1);
	check(rpc_server_counts(v.server).broken == 0); /* they left; nobody broke a rule */
	raw_open();
	for (size_t i = 0; i < whole; i++) /* a byte at a time is slow, and fine */
		check(raw_send(buf + i, 1) == 0);
	check(raw_recv() == 0 && raw.f.op == OP_hello_ok);
	check(raw_recv() == 0 && raw.f.op == OP_put_ok && raw.f.cookie == 1);
	check(raw_recv() == 0 && raw.f.op == OP_put_ok && raw.f.cookie == 2);
	sys_stream_close(raw.c);
	other_works(c);
	rpc_close(c);
	service_close(&v);
	return 0;
}

static int broken_frames(struct sys *s, void *arg)
{
	static const struct { size_t at; uint32_t value; } faults[] = {
		{ 0, 0x12345678 },                      /* magic */
		{ 4, LIMIT_FRAME_BODY_BYTES_MAX + 1 },
		{ 4, UINT32_MAX },
		{ 8, LIMIT_FRAME_DATA_BYTES_MAX + 1 },
		{ 8, UINT32_MAX },
		{ 12, 0 | 1u << 16 },                   /* opcode: the checksum tells */
		{ 12, OP_put },                         /* version 0 */
		{ 24, 0x80000000 },                     /* an unknown flag */
		{ 28, 0xdeadbeef },                     /* checksum */
		{ 32, 0xffffffff },                     /* a field: the checksum tells */
		{ 80, 0xffffffff },                     /* data likewise */
	};
	enum { N = sizeof faults / sizeof faults[0] };
	struct rpc_conn *c;
	uint8_t buf[ROOM];

	service_open(&v, s);
	c = service_connect(&v, v.local);
	for (unsigned i = 0; i < N; i++) {
		size_t len = small_put(buf, 1);

		raw_hello();
		raw_works(7);
		put_le32(buf + faults[i].at, faults[i].value);
		check(raw_send(buf, len) == 0);
		raw_ends();
		other_works(c);
	}
	until(s, rpc_server_connections(v.server) == 1);
	check(rpc_server_counts(v.server).broken == N);
	check(rpc_server_counts(v.server).requests == 2 * N);
	rpc_close(c);
	service_close(&v);
	return 0;
}

static int broken_rules(struct sys *s, void *arg)
{
	uint8_t buf[ROOM];
	struct msg_hello hello = { .version = 0 };
	size_t len;

	service_open(&v, s);
	raw_open(); /* a request before hello */
	check(raw_send(buf, small_put(buf, 1)) == 0);
	raw_ends();
	raw_open(); /* a hello that speaks no version */
	len = put_frame(buf, (struct frame){ .op = OP_hello }, &hello, bytes_of(NULL, 0));
	check(raw_send(buf, len) == 0);
	raw_ends();
	raw_open(); /* a hello whose fields are cut off, in a frame that is whole */
	len = FRAME_HEADER_BYTES + 5;
	frame_put(&(struct frame){ .op = OP_hello, .version = 1, .body_len = 5 },
		buf + FRAME_HEADER_BYTES, NULL, buf);
	check(raw_send(buf, len) == 0);
	raw_ends();
	raw_hello(); /* a request with the connection's cookie */
	check(raw_send(buf, small_put(buf, 0)) == 0);
	raw_ends();
	raw_hello(); /* a version above the agreed one */
	len = put_frame(buf, (struct frame){ .op = OP_ping, .cookie = 1, .version = 2 },
		&(struct msg_ping){ }, bytes_of(NULL, 0));
	check(raw_send(buf, len) == 0);
	raw_ends();
	check(rpc_server_counts(v.server).broken == 5);
	service_close(&v);
	return 0;
}

/* A newer peer announces a higher version and more fields; both speak ours. */
static int newer_peer(struct sys *s, void *arg)
{
	uint8_t buf[ROOM] = { 0 };
	struct msg_hello hello = { .version = 9 };
	struct writer w = writer_of(buf + FRAME_HEADER_BYTES, 512);
	struct frame f = { .op = OP_hello, .version = 9 };
	struct msg_hello_ok ok;

	service_open(&v, s);
	check(msg_hello_put(&w, &hello, 1));
	write_u64(&w, 12345); /* a field of version 9 */
	f.body_len = (uint32_t)(w.p - buf) - FRAME_HEADER_BYTES;
	frame_put(&f, buf + FRAME_HEADER_BYTES, NULL, buf);
	raw_open();
	check(raw_send(buf, FRAME_HEADER_BYTES + f.body_len) == 0);
	check(raw_recv() == 0 && raw.f.op == OP_hello_ok);
	check(msg_hello_ok_get(raw.body, raw.f.body_len, raw.f.version, &ok) == 0);
	check(ok.version == WIRE_VERSION);
	check(raw.f.version == WIRE_VERSION);
	raw_works(3);
	sys_stream_close(raw.c);
	service_close(&v);
	return 0;
}

/* Who does not lead says who does, to those who can read it. */
static int hint(struct sys *s, void *arg)
{
	service_open(&v, s);
	for (uint16_t version = 1; version <= WIRE_VERSION; version++) {
		struct msg_hello hello = { .version = version, .token = BYTES("other") };
		uint8_t buf[ROOM];
		struct msg_error m;

		raw_open();
		check(raw_send(buf, put_frame(buf, (struct frame){ .op = OP_hello }, &hello,
			bytes_of(NULL, 0))) == 0);
		check(raw_error(0) == E_NOTPRIMARY);
		check(raw.f.version == version);
		check(msg_error_get(raw.body, raw.f.body_len, raw.f.version, &m) == 0);
		check(bytes_equal(m.hint, version > 1 ? BYTES("tcp:other:1") : BYTES("")));
		sys_stream_close(raw.c);
	}
	service_close(&v);
	return 0;
}

/* What is only unknown is answered, skipped, and survived. */
static int unknown(struct sys *s, void *arg)
{
	static uint8_t big[100000];
	uint8_t buf[ROOM];
	struct frame f = { .op = 60000, .version = 1, .cookie = 5, .data_len = sizeof big };
	size_t len;

	service_open(&v, s);
	raw_hello();
	frame_put(&f, NULL, big, buf);
	check(raw_send(buf, FRAME_HEADER_BYTES) == 0);
	check(raw_send(big, sizeof big) == 0);
	check(raw_error(5) == E_UNSUPPORTED);
	raw_works(6);
	len = put_frame(buf, (struct frame){ .op = OP_ping, .cookie = 8 }, &(struct msg_ping){ },
		bytes_of(NULL, 0));
	check(raw_send(buf, len) == 0); /* known, but not served here */
	check(raw_error(8) == E_UNSUPPORTED);
	check(raw_send(buf, hello_frame(buf)) == 0); /* as request with cookie 0: no */
	raw_ends();
	check(rpc_server_counts(v.server).unsupported == 2);

	raw_hello();
	for (uint64_t cookie = 0; cookie < 10; cookie++) { /* replies that nobody waits for */
		f = (struct frame){ .op = OP_put_ok, .cookie = cookie << 60, .flags = FRAME_REPLY };
		len = put_frame(buf, f, &(struct msg_put_ok){ 1, 2 }, bytes_of(pattern(), 50));
		check(raw_send(buf, len) == 0);
	}
	raw_works(6);
	check(rpc_server_counts(v.server).unasked == 10);
	f = (struct frame){ .op = OP_put, .version = 1, .cookie = 9, .body_len = 3 };
	frame_put(&f, pattern(), NULL, buf); /* fields that are damaged in a whole frame */
	memcpy(buf + FRAME_HEADER_BYTES, pattern(), 3);
	check(raw_send(buf, FRAME_HEADER_BYTES + 3) == 0);
	check(raw_error(9) == E_CORRUPT);
	raw_works(10);
	sys_stream_close(raw.c);
	service_close(&v);
	return 0;
}

static int garbage(struct sys *s, void *arg)
{
	struct prng p = prng_fork(5, 5);
	struct rpc_conn *c;
	uint8_t buf[ROOM];

	service_open(&v, s);
	c = service_connect(&v, v.tcp);
	for (unsigned i = 0; i < 100; i++) {
		size_t hello = hello_frame(buf), len = hello + small_put(buf + hello, 1);

		len += small_put(buf + len, 2);
		for (unsigned n = 1 + (unsigned)prng_below(&p, 3); n > 0; n--) {
			size_t at = prng_below(&p, len);

			buf[at] = (uint8_t)prng_next(&p);
		}
		raw_open();
		check(raw_send(buf, len) == 0);
		/* it may wait for more bytes of a frame that it was promised, so: no wait here */
		sys_stream_close(raw.c);
		other_works(c);
	}
	until(s, rpc_server_connections(v.server) == 1);
	check(rpc_server_counts(v.server).broken > 20);
	rpc_close(c);
	service_close(&v);
	return 0;
}

/* ---- stalling ---- */
static int stalls(struct sys *s, void *arg)
{
	struct rpc_limits short_ = { .hello_ns = 150 * SYS_MS, .frame_ns = 150 * SYS_MS };
	uint8_t buf[ROOM];
	uint64_t before;
	struct rpc_conn *idle;

	service_open(&v, s);
	rpc_server_limit(v.server, &short_);
	idle = service_connect(&v, v.tcp);
	before = sys_now_ns(s);
	raw_open(); /* says nothing */
	raw_ends();
	check(sys_now_ns(s) - before >= 150 * SYS_MS);
	raw_open(); /* half a hello */
	check(raw_send(buf, hello_frame(buf) / 2) == 0);
	raw_ends();
	raw_hello(); /* half a request */
	check(raw_send(buf, small_put(buf, 3) / 2) == 0);
	raw_ends();
	raw_hello(); /* half of the data of a stream: the handler's own deadline, or the skip's */
	check(raw_send(buf, put_frame(buf, (struct frame){ .op = OP_extent_write, .cookie = 1 },
		&(struct msg_extent_write){ .tier = 2 }, bytes_of(NULL, 0))) == 0);
	check(raw_error(1) == E_FULL);
	frame_get(buf, &raw.f);
	raw.f.data_len = 1 << 20;
	raw.f.cookie = 2;
	frame_put(&raw.f, buf + FRAME_HEADER_BYTES, NULL, buf);
	check(raw_send(buf, FRAME_HEADER_BYTES + raw.f.body_len) == 0);
	check(raw_error(2) == E_FULL);
	check(raw_recv() == E_CLOSED);
	sys_stream_close(raw.c);
	check(fiber_sleep(sys_after(s, 200 * SYS_MS)) == 0);
	check(rpc_conn_open(idle)); /* idle is fine */
	other_works(idle);
	rpc_close(idle);
	service_close(&v);
	return 0;
}

static size_t read_frame(uint8_t *to, uint64_t cookie, uint32_t len)
{
	struct msg_extent_read m = { .len = len };

	return put_frame(to, (struct frame){ .op = OP_extent_read, .cookie = cookie }, &m,
		bytes_of(NULL, 0));
}

struct flood { unsigned n; };

static int flood(void *arg)
{
	uint8_t buf[ROOM];

	for (unsigned i = 0; i < ((struct flood *)arg)->n; i++)
		if (raw_send(buf, read_frame(buf, i + 1, 1 << 16)) < 0)
			return 0;
	return 0;
}

/* Whoever does not take its answers is not read any more, holds what the limit allows, and is let
 * go in the end. */
static int slow_reader(struct sys *s, void *arg)
{
	struct rpc_limits l = { .out_bytes = 1 << 20, .send_ns = 300 * SYS_MS };
	struct flood fl = { 3000 };
	struct rpc_conn *c;
	uint64_t seen;
	struct group g;

	service_open(&v, s);
	c = service_connect(&v, v.local);
	rpc_server_limit(v.server, &l);
	raw_hello();
	group_init(&g, sys_loop(s));
	check(fiber_start(&g, "flood", flood, &fl) == 0);
	until(s, v.n_pins >= 16);
	for (int i = 0; i < 20; i++) {
		check(fiber_sleep(sys_after(s, SYS_MS)) == 0);
		other_works(c);
	}
	seen = rpc_server_counts(v.server).requests;
	check(seen < 600);
	check(v.n_pins_most <= 17); /* a mebibyte, and the one that went beyond */
	until(s, rpc_server_connections(v.server) == 1); /* by the deadline */
	check(v.n_pins == 0);
	other_works(c);
	check(group_wait(&g) == 0);
	sys_stream_close(raw.c);
	rpc_close(c);
	service_close(&v);
	return 0;
}

/* What is pinned is let go as it goes out, not when all of it has. */
static int pins_go_early(struct sys *s, void *arg)
{
	enum { N = 256, LEN = 1 << 16 };
	static uint8_t bin[4 << 20];
	struct flood fl = { N };
	struct group g;

	service_open(&v, s);
	raw_hello();
	group_init(&g, sys_loop(s));
	check(fiber_start(&g, "flood", flood, &fl) == 0);
	until(s, rpc_server_counts(v.server).requests == N);
	check(group_wait(&g) == 0);
	check(raw_bytes(bin, sizeof bin) == 0);
	until(s, v.n_pins <= N - sizeof bin / LEN / 2);
	check(v.n_pins > 0 || rpc_server_counts(v.server).out_bytes > N * LEN);
	sys_stream_close(raw.c);
	service_close(&v);
	return 0;
}

/* The same, but it takes them in the end: all are there. */
static int late_reader(struct sys *s, void *arg)
{
	enum { N = 200, LEN = 1 << 16 };
	static uint8_t into[N][LEN];
	static struct rpc_call calls[N];
	struct msg_extent_read m = { .len = LEN };
	struct rpc_conn *c;

	service_open(&v, s);
	rpc_server_limit(v.server, &(struct rpc_limits){ .out_bytes = 1 << 18 });
	c = service_connect(&v, v.tcp);
	for (unsigned i = 0; i < N; i++) {
		calls[i] = (struct rpc_call){ .op = OP_extent_read, .plain = true, .msg = &m,
			.into = into[i], .into_cap = LEN };
		check(rpc_start(c, &calls[i]) == 0);
	}
	for (unsigned i = 0; i < N; i++) {
		check(rpc_wait(c, &calls[i], soon(s)) == 0);
		check(memcmp(into[i], pattern(), LEN) == 0);
		rpc_call_fini(&calls[i]);
	}
	check(v.n_pins_most <= 5);
	rpc_close(c);
	service_close(&v);
	return 0;
}

#define TEST(fn) static void test_##fn(void **state) { door_run(fn, NULL); }
TEST(truncations)
TEST(broken_frames)
TEST(broken_rules)
TEST(newer_peer)
TEST(hint)
TEST(unknown)
TEST(garbage)
TEST(stalls)
TEST(slow_reader)
TEST(pins_go_early)
TEST(late_reader)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_truncations),
		cmocka_unit_test(test_broken_frames),
		cmocka_unit_test(test_broken_rules),
		cmocka_unit_test(test_newer_peer),
		cmocka_unit_test(test_hint),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_stalls),
		cmocka_unit_test(test_slow_reader),
		cmocka_unit_test(test_pins_go_early),
		cmocka_unit_test(test_late_reader),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
