/* SPDX-License-Identifier: Apache-2.0 */
/* A server that stalls, lies or vanishes costs its client the calls and nothing else: each ends by
 * its deadline at the latest, and then its memory is the caller's again. */
#include "rpc/door_test.h"
#include "base/check.h"
#include "base/limit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { MIB = 1 << 20, ROOM = 1024 };

/* What the server does once it has answered hello; each script is one test. */
struct script {
	void (*server)(void);
	void (*client)(void);
	bool no_hello;
};

static struct sys *s;
static const struct script *script;
static struct sys_stream *peer;   /* the server's end */
static struct rpc_conn *c;        /* the client's end */
static struct group g;            /* of the client */
static bool go_on;                /* set by the client, awaited by the server */
static uint8_t *big;              /* 2 MiB */

static uint64_t soon(void) { return sys_after(s, 120 * SYS_SEC); }

static void await(bool *what)
{
	uint64_t limit_ns = soon();

	while (!*what) {
		check(sys_now_ns(s) < limit_ns);
		check(fiber_sleep(sys_after(s, SYS_MS / 4)) == 0);
	}
	*what = false;
}

/* ---- the server's hands ---- */
static int give(const void *p, size_t len)
{
	struct iovec iov = { (void *)(uintptr_t)p, len };

	return sys_send(peer, &iov, 1, soon());
}

/* The next request's header; its fields and data are thrown away. */
static struct frame take(void)
{
	static uint8_t buf[MIB];
	struct frame f;
	size_t have = 0, want = FRAME_HEADER_BYTES;

	while (have < want) {
		int64_t n = sys_recv(peer, buf + have, want - have, soon());

		check(n > 0);
		have += (size_t)n;
		if (have == FRAME_HEADER_BYTES) {
			check(frame_get(buf, &f) == 0);
			want += f.body_len + f.data_len;
			check(want <= sizeof buf);
		}
	}
	check(frame_verify(&f, buf, buf + FRAME_HEADER_BYTES,
		buf + FRAME_HEADER_BYTES + f.body_len));
	return f;
}

/* A reply, or its beginning: give_data bytes of the data it announces. */
static void answer(uint64_t cookie, uint16_t op, const void *m, size_t data_len, size_t give_data)
{
	uint8_t buf[ROOM];
	struct writer w = writer_of(buf + FRAME_HEADER_BYTES, ROOM - FRAME_HEADER_BYTES);
	struct frame f = { .op = op, .version = 1, .cookie = cookie, .flags = FRAME_REPLY,
		.data_len = (uint32_t)data_len };

	check(wire_op(op)->put(&w, m, 1));
	f.body_len = (uint32_t)(w.p - buf) - FRAME_HEADER_BYTES;
	frame_put(&f, buf + FRAME_HEADER_BYTES, big, buf);
	check(give(buf, FRAME_HEADER_BYTES + f.body_len) == 0);
	if (give_data > 0)
		check(give(big, give_data) == 0);
}

static void answer_read(uint64_t cookie, size_t data_len, size_t give_data)
{
	answer(cookie, OP_read_ok, &(struct msg_read_ok){ .offset = 5 }, data_len, give_data);
}

static int serve(void *arg)
{
	struct sys_listener *l = arg;
	struct frame f;

	check(sys_accept(l, soon(), &peer) == 0);
	if (!script->no_hello) {
		f = take();
		check(f.op == OP_hello);
		answer(f.cookie, OP_hello_ok, &(struct msg_hello_ok){ .version = 1 }, 0, 0);
	}
	script->server();
	sys_stream_close(peer);
	return 0;
}

/* ---- the client ---- */
static int connect_to(const char *addr, struct err_note *note)
{
	struct rpc_connect o = { .addr = addr, .group = &g };
	struct msg_hello_ok ok;

	return rpc_connect(s, &o, soon(), &c, &ok, note);
}

static int play(struct sys *sys, void *arg)
{
	struct sys_listener *l;
	struct group servers;

	s = sys;
	script = arg;
	go_on = false;
	c = NULL;
	big = malloc(2 * MIB);
	memset(big, 'b', 2 * MIB);
	group_init(&servers, sys_loop(s));
	group_init(&g, sys_loop(s));
	check(sys_listen(s, door_tcp, &l, NULL) == 0);
	check(fiber_start(&servers, "server", serve, l) == 0);
	if (!script->no_hello)
		check(connect_to(sys_listener_addr(l), NULL) == 0);
	else
		check(connect_to(sys_listener_addr(l), NULL) < 0);
	script->client();
	check(group_wait(&servers) == 0);
	check(group_wait(&g) == 0);
	sys_listener_close(l);
	free(big);
	return 0;
}

static struct rpc_call reading(void *into, size_t cap)
{
	static const struct msg_extent_read m = { .len = MIB };

	return (struct rpc_call){ .op = OP_extent_read, .plain = true, .msg = &m, .into = into,
		.into_cap = cap };
}

static int read_ok(struct rpc_call *call, uint64_t until_ns)
{
	struct msg_read_ok ok;
	int rc = rpc_ask(c, call, OP_read_ok, &ok, until_ns, NULL);

	check(rc < 0 || ok.offset == 5);
	return rc;
}

/* ---- a deadline inside a reply's data ---- */
static void half_server(void)
{
	struct frame f = take();

	answer_read(f.cookie, MIB, MIB / 2);
	await(&go_on); /* the client has given up and marked its memory */
	check(give(big, MIB / 2) == 0);
	f = take();
	answer_read(f.cookie, MIB, MIB);
	await(&go_on);
}

static void half_client(void)
{
	uint8_t *into = malloc(MIB);
	struct rpc_call call = reading(into, MIB);
	uint64_t before = sys_now_ns(s);

	check(read_ok(&call, sys_after(s, 50 * SYS_MS)) == E_TIMEOUT);
	check(sys_now_ns(s) - before >= 50 * SYS_MS);
	memset(into, 'x', MIB);
	go_on = true;
	call = reading(into + MIB / 2, MIB); /* too little room is told by its length alone */
	call = reading(into, MIB);
	check(rpc_start(c, &call) == 0);
	check(fiber_sleep(sys_after(s, 5 * SYS_MS)) == 0);
	check(rpc_wait(c, &call, soon()) == 0); /* the connection has survived */
	check(call.reply_data.len == MIB);
	check(memcmp(into, big, MIB) == 0);
	rpc_call_fini(&call);
	go_on = true;
	rpc_close(c);
	free(into);
}

/* The second half must not land in memory that was given back: nothing else is asked for. */
static void half_only_server(void)
{
	answer_read(take().cookie, MIB, MIB / 2);
	await(&go_on);
	check(give(big, MIB / 2) == 0);
	await(&go_on);
}

static void half_only_client(void)
{
	uint8_t *into = malloc(MIB);
	struct rpc_call call = reading(into, MIB);

	check(read_ok(&call, sys_after(s, 50 * SYS_MS)) == E_TIMEOUT);
	memset(into, 'x', MIB);
	go_on = true;
	check(fiber_sleep(sys_after(s, 100 * SYS_MS)) == 0);
	for (size_t i = 0; i < MIB; i++)
		check(into[i] == 'x');
	free(into);
	check(rpc_conn_open(c));
	go_on = true;
	rpc_close(c);
}

/* ---- cancelled inside a reply's data ---- */
static int reads(void *arg) { return read_ok(arg, soon()); }

static void cancel_client(void)
{
	uint8_t *into = calloc(1, MIB);
	struct rpc_call call = reading(into, MIB);
	struct group mine;

	group_init(&mine, sys_loop(s));
	check(fiber_start(&mine, "reads", reads, &call) == 0);
	while (into[1000] != 'b')
		check(fiber_sleep(sys_after(s, SYS_MS)) == 0);
	group_cancel(&mine);
	check(group_wait(&mine) == E_CANCELED);
	free(into);
	go_on = true;
	check(fiber_sleep(sys_after(s, 20 * SYS_MS)) == 0);
	check(rpc_conn_open(c));
	go_on = true;
	rpc_close(c);
}

/* ---- a peer that takes nothing, and a call given up inside its data ---- */
static void deaf_server(void) { await(&go_on); }

static void deaf_client(void)
{
	size_t len = LIMIT_FRAME_DATA_BYTES_MAX;
	uint8_t *data = malloc(len), *small = malloc(20000);
	struct rpc_call stuck = { .op = OP_extent_write, .plain = true,
		.msg = &(struct msg_extent_write){ 0 }, .data = bytes_of(data, len) };
	struct rpc_call behind = { .op = OP_extent_write, .plain = true,
		.msg = &(struct msg_extent_write){ 0 }, .data = bytes_of(small, 20000) };

	memset(data, 1, len);
	memset(small, 2, 20000);
	check(rpc_start(c, &stuck) == 0);
	check(fiber_sleep(sys_after(s, 20 * SYS_MS)) == 0);
	check(rpc_start(c, &behind) == 0);
	/* not on its way yet: given up at no cost, its data copied */
	check(rpc_wait(c, &behind, sys_after(s, 10 * SYS_MS)) == E_TIMEOUT);
	free(small);
	check(rpc_conn_open(c));
	/* stuck on its way: costs the connection, in bounded time */
	check(rpc_wait(c, &stuck, sys_after(s, 10 * SYS_MS)) == E_TIMEOUT);
	free(data);
	while (rpc_conn_open(c))
		check(fiber_sleep(sys_after(s, SYS_MS)) == 0);
	go_on = true;
	rpc_close(c);
}

/* The same, but the peer goes on: what was given up still arrives whole. */
static void take_write(size_t len, uint8_t value)
{
	static uint8_t buf[MIB];
	struct frame f = { .body_len = 0 };
	size_t have = 0, skip;

	while (have < FRAME_HEADER_BYTES) {
		int64_t n = sys_recv(peer, buf + have, FRAME_HEADER_BYTES - have, soon());

		check(n > 0);
		have += (size_t)n;
	}
	check(frame_get(buf, &f) == 0);
	check(f.data_len == len);
	skip = f.body_len;
	for (size_t left = skip + len; left > 0;) {
		int64_t n = sys_recv(peer, buf, left < MIB ? left : MIB, soon());
		size_t at = skip;

		check(n > 0);
		skip -= skip < (size_t)n ? skip : (size_t)n;
		for (; at < (size_t)n; at++)
			check(buf[at] == value);
		left -= (size_t)n;
	}
	answer(f.cookie, OP_extent_ok, &(struct msg_extent_ok){ 0 }, 0, 0);
}

static void late_server(void)
{
	await(&go_on);
	take_write(LIMIT_FRAME_DATA_BYTES_MAX, 1);
	take_write(20000, 2);
	await(&go_on);
}

static void late_client(void)
{
	size_t len = LIMIT_FRAME_DATA_BYTES_MAX;
	uint8_t *data = malloc(len), *small = malloc(20000);
	struct rpc_call first = { .op = OP_extent_write, .plain = true,
		.msg = &(struct msg_extent_write){ 0 }, .data = bytes_of(data, len) };
	struct rpc_call behind = { .op = OP_extent_write, .plain = true,
		.msg = &(struct msg_extent_write){ 0 }, .data = bytes_of(small, 20000) };

	memset(data, 1, len);
	memset(small, 2, 20000);
	check(rpc_start(c, &first) == 0);
	check(fiber_sleep(sys_after(s, 20 * SYS_MS)) == 0);
	check(rpc_start(c, &behind) == 0);
	check(rpc_wait(c, &behind, sys_after(s, 10 * SYS_MS)) == E_TIMEOUT);
	memset(small, 3, 20000);
	free(small);
	go_on = true;
	check(rpc_wait(c, &first, soon()) == 0);
	check(rpc_conn_open(c));
	go_on = true;
	rpc_close(c);
	free(data);
}

/* A refusal overtakes the data: the call's memory is its owner's only when the data is out. */
static void refusing_server(void)
{
	uint8_t buf[ROOM];
	struct msg_error full = { .code = -E_FULL, .note = BYTES("full") };
	struct frame f = { .body_len = 0 };
	size_t have = 0, want = FRAME_HEADER_BYTES;

	while (have < want) {
		int64_t n = sys_recv(peer, buf + have, want - have, soon());

		check(n > 0);
		have += (size_t)n;
		if (have == FRAME_HEADER_BYTES) {
			check(frame_get(buf, &f) == 0);
			want += f.body_len;
			check(want <= sizeof buf);
		}
	}
	answer(f.cookie, OP_error, &full, 0, 0);
	check(fiber_sleep(sys_after(s, 20 * SYS_MS)) == 0);
	for (size_t left = f.data_len; left > 0;) {
		int64_t n = sys_recv(peer, big, left < MIB ? left : MIB, soon());

		check(n > 0);
		for (int64_t i = 0; i < n; i++)
			check(big[i] == 4);
		left -= (size_t)n;
	}
	await(&go_on);
}

static void refused_client(void)
{
	size_t len = LIMIT_FRAME_DATA_BYTES_MAX;
	uint8_t *data = malloc(len);
	struct rpc_call call = { .op = OP_extent_write, .plain = true,
		.msg = &(struct msg_extent_write){ 0 }, .data = bytes_of(data, len) };

	memset(data, 4, len);
	check(rpc_start(c, &call) == 0);
	check(rpc_wait(c, &call, soon()) == E_FULL);
	memset(data, 5, len);
	free(data);
	check(rpc_conn_open(c));
	go_on = true;
	rpc_close(c);
}

/* The same from a server that takes nothing more: the answer counts, at the deadline. */
static void refusing_deaf_server(void)
{
	uint8_t buf[FRAME_HEADER_BYTES];
	struct msg_error full = { .code = -E_FULL, .note = BYTES("full") };
	struct frame f = { .body_len = 0 };

	check(sys_recv(peer, buf, sizeof buf, soon()) == sizeof buf);
	check(frame_get(buf, &f) == 0);
	answer(f.cookie, OP_error, &full, 0, 0);
	await(&go_on);
}

static void refused_late_client(void)
{
	size_t len = LIMIT_FRAME_DATA_BYTES_MAX;
	uint8_t *data = calloc(1, len);
	struct rpc_call call = { .op = OP_extent_write, .plain = true,
		.msg = &(struct msg_extent_write){ 0 }, .data = bytes_of(data, len) };

	check(rpc_start(c, &call) == 0);
	check(rpc_wait(c, &call, sys_after(s, SYS_SEC)) == E_FULL);
	free(data);
	go_on = true;
	rpc_close(c);
}

/* ---- a connection that ends inside a reply ---- */
static void cut_server(void) { answer_read(take().cookie, MIB, MIB / 2); }

static void cut_client(void)
{
	uint8_t *into = malloc(MIB);
	struct rpc_call call = reading(into, MIB), other = reading(NULL, 0);

	check(rpc_start(c, &other) == 0);
	check(read_ok(&call, soon()) == E_CLOSED);
	check(strstr(call.note.text, "inside a reply") != NULL
		|| call.note.text[0] != '\0');
	check(rpc_wait(c, &other, soon()) == E_CLOSED);
	free(into);
	rpc_close(c);
}

/* ---- lies ---- */
static void lying_server(void)
{
	struct msg_error odd = { .code = 0, .note = BYTES("nothing") };
	struct frame f = take();

	answer(f.cookie, OP_error, &odd, 0, 0);
	f = take();
	odd = (struct msg_error){ .code = -E_FULL };
	answer(f.cookie, OP_error, &odd, 0, 0);
	f = take();
	odd.note = BYTES("\x1b[2Jnothing\0");
	answer(f.cookie, OP_error, &odd, 0, 0);
	f = take();
	odd.note = BYTES("nothing");
	odd.code = 9999; /* of a newer table */
	answer(f.cookie, OP_error, &odd, 0, 0);
	f = take();
	answer(f.cookie, OP_put_ok, &(struct msg_put_ok){ 0 }, 0, 0);
	f = take();
	answer(f.cookie + 1, OP_ok, &(struct msg_ok){ }, 100, 100);
	for (unsigned i = 6; i < 20; i++) /* of whatever slot of whatever ring */
		answer(f.cookie + (1u << i), OP_ok, &(struct msg_ok){ }, 0, 0);
	answer(0, OP_hello_ok, &(struct msg_hello_ok){ .version = 1 }, 0, 0);
	answer_read(f.cookie, 0, 0);
	f = take();
	odd.code = -E_BUSY;
	answer(0, OP_error, &odd, 0, 0); /* about the connection */
	await(&go_on);
}

static void lying_client(void)
{
	struct rpc_call call = reading(NULL, 0);
	struct err_note note;
	struct msg_read_ok ok;

	check(rpc_ask(c, &call, OP_read_ok, &ok, soon(), &note) == E_CORRUPT);
	call = reading(NULL, 0);
	check(rpc_ask(c, &call, OP_read_ok, &ok, soon(), &note) == E_FULL);
	check(strcmp(note.text, err_text(E_FULL)) == 0);
	call = reading(NULL, 0);
	check(rpc_ask(c, &call, OP_read_ok, &ok, soon(), &note) == E_FULL);
	check(strcmp(note.text, "?[2Jnothing?") == 0);
	call = reading(NULL, 0);
	check(rpc_ask(c, &call, OP_read_ok, &ok, soon(), &note) == E_UNSUPPORTED);
	check(strcmp(note.text, "nothing") == 0);
	call = reading(NULL, 0);
	check(rpc_ask(c, &call, OP_read_ok, &ok, soon(), &note) == E_CORRUPT);
	rpc_call_fini(&call);
	call = reading(NULL, 0);
	check(rpc_ask(c, &call, OP_read_ok, &ok, soon(), &note) == 0);
	rpc_call_fini(&call);
	call = reading(NULL, 0);
	check(rpc_ask(c, &call, OP_read_ok, &ok, soon(), &note) == E_CLOSED);
	check(strstr(note.text, "nothing") != NULL);
	go_on = true;
	rpc_close(c);
}

/* Requests that the client does not serve, and bytes that are no frame. */
static void rude_server(void)
{
	uint8_t buf[ROOM];
	struct frame f = { .op = OP_ping, .version = 1, .cookie = 3 };
	uint8_t end;

	frame_put(&f, NULL, NULL, buf);
	check(give(buf, FRAME_HEADER_BYTES) == 0);
	f = take();
	check(f.op == OP_error && f.cookie == 3 && f.flags == FRAME_REPLY);
	check(give("this is no frame, however long one looks at it", 40) == 0);
	f = take();
	check(f.op == OP_error && f.cookie == 0);
	check(sys_recv(peer, &end, 1, soon()) == 0);
}

static void rude_client(void)
{
	struct rpc_call call = reading(NULL, 0);

	check(rpc_start(c, &call) == 0);
	go_on = true;
	check(rpc_wait(c, &call, soon()) == E_CLOSED);
	check(strstr(call.note.text, "no frame") != NULL);
	rpc_close(c);
}

static void rude_with_open_call(void)
{
	take();
	rude_server();
}

/* ---- hellos that go wrong ---- */
static void no_client(void) { check(c == NULL); }

static void until_end(void)
{
	uint8_t byte;

	while (sys_recv(peer, &byte, 1, soon()) > 0)
		;
}

static void future_hello(void)
{
	struct msg_hello_ok ok = { .version = WIRE_VERSION + 1 };

	answer(take().cookie, OP_hello_ok, &ok, 0, 0);
	until_end();
}

/* Asks where it should answer. */
static void asking_hello(void)
{
	uint8_t buf[ROOM] = { 0 };
	struct writer w = writer_of(buf + FRAME_HEADER_BYTES, 512);
	struct frame f = { .op = OP_hello, .version = 1 };

	take();
	check(msg_hello_put(&w, &(struct msg_hello){ .version = 1 }, 1));
	f.body_len = (uint32_t)(w.p - buf) - FRAME_HEADER_BYTES;
	frame_put(&f, buf + FRAME_HEADER_BYTES, NULL, buf);
	check(give(buf, FRAME_HEADER_BYTES + f.body_len) == 0);
	until_end();
}

static void other_hello(void)
{
	answer(take().cookie, OP_ok, &(struct msg_ok){ }, 0, 0);
	until_end();
}

static void cut_hello(void) { take(); }

static void shouting_hello(void)
{
	check(give(big, ROOM) == 0);
	until_end();
}

#define TEST(name, server_, client_, no_hello_) \
static void test_##name(void **state) \
{ \
	struct script sc = { server_, client_, no_hello_ }; \
\
	door_run(play, &sc); \
}
TEST(half, half_server, half_client, false)
TEST(half_only, half_only_server, half_only_client, false)
TEST(cancel, half_only_server, cancel_client, false)
TEST(deaf, deaf_server, deaf_client, false)
TEST(late, late_server, late_client, false)
TEST(refused, refusing_server, refused_client, false)
TEST(refused_late, refusing_deaf_server, refused_late_client, false)
TEST(cut, cut_server, cut_client, false)
TEST(lies, lying_server, lying_client, false)
TEST(rude, rude_with_open_call, rude_client, false)
TEST(future_hello, future_hello, no_client, true)
TEST(asking_hello, asking_hello, no_client, true)
TEST(other_hello, other_hello, no_client, true)
TEST(cut_hello, cut_hello, no_client, true)
TEST(shouting_hello, shouting_hello, no_client, true)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_half),
		cmocka_unit_test(test_half_only),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_deaf),
		cmocka_unit_test(test_late),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_refused_late),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_lies),
		cmocka_unit_test(test_rude),
		cmocka_unit_test(test_future_hello),
		cmocka_unit_test(test_asking_hello),
		cmocka_unit_test(test_other_hello),
		cmocka_unit_test(test_cut_hello),
		cmocka_unit_test(test_shouting_hello),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
