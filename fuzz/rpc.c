/* SPDX-License-Identifier: Apache-2.0 */
/* A peer of a connection, over the simulated door.  The first byte chooses the side that is played
 * (1: the server's) and the seed; then come steps:
 *
 *   0  n u8, n bytes                      sent as they are
 *   1  op u16, cookie u8, reply u8, n u16, n bytes, data u16
 *                                         sent as a whole frame with that many zeros for data; the
 *                                         highest bit of cookie makes it a plain call's
 *   2                                     a proper hello, or the answer to one
 *   3  n u8                               the server's log reaches n, n milliseconds pass
 *
 * Whatever the steps, what comes back are whole frames, calls end, other connections work, and in
 * the end nothing is left. */
#include "base/check.h"
#include "base/limit.h"
#include "fuzz/fuzz.h"
#include "rpc/service_test.h"
#include "sys/sim/sim.h"
#include "wire/sample.h"
#include <stdlib.h>

enum { SERVER = 1, RAW = 0, FRAME, HELLO, PASS, STEPS, FRAME_ROOM = 160 * 1024 };

const unsigned fuzz_changes_max = 1; /* a world for each run */

static struct service v;
static struct sys *s;
static struct sys_stream *peer;
static struct reader input;
static bool side;

/* ---- the fuzzed peer ---- */
static bool give(const void *p, size_t len)
{
	struct iovec iov = { (void *)(uintptr_t)p, len };

	return len == 0 || sys_send(peer, &iov, 1, soon(s)) == 0;
}

static bool give_frame(struct frame f, const void *body)
{
	static uint8_t room[FRAME_ROOM];

	memset(room, 0, FRAME_HEADER_BYTES + f.body_len + f.data_len);
	if (f.body_len > 0)
		memcpy(room + FRAME_HEADER_BYTES, body, f.body_len);
	frame_put(&f, room + FRAME_HEADER_BYTES, room + FRAME_HEADER_BYTES + f.body_len, room);
	return give(room, FRAME_HEADER_BYTES + f.body_len + f.data_len);
}

static bool give_any_frame(void)
{
	struct frame f = { .op = read_u16(&input), .version = 1 };
	uint8_t cookie = read_u8(&input);
	const uint8_t *body;

	f.cookie = (cookie & 0x80) != 0 ? FRAME_COOKIE_PLAIN | (cookie & 0x7f) : cookie;
	f.flags = read_u8(&input) & FRAME_REPLY;
	f.body_len = read_u16(&input);
	body = reader_take(&input, f.body_len);
	f.data_len = read_u16(&input);
	return !input.ok || give_frame(f, body);
}

static bool give_hello(void)
{
	uint8_t body[256];
	struct writer w = writer_of(body, sizeof body);
	struct frame f = { .version = 1 };

	if (side == SERVER) {
		f.op = OP_hello_ok;
		f.flags = FRAME_REPLY;
		check(msg_hello_ok_put(&w, &(struct msg_hello_ok){ .version = 1 }, 1));
	} else {
		f.op = OP_hello;
		check(msg_hello_put(&w, &(struct msg_hello){ .version = 1 }, 1));
	}
	f.body_len = (uint32_t)(w.p - body);
	return give_frame(f, body);
}

static bool step(void)
{
	uint8_t n;
	const uint8_t *p;

	switch (read_u8(&input) % STEPS) {
	case RAW:
		n = read_u8(&input);
		p = reader_take(&input, n);
		return !input.ok || give(p, n);
	case FRAME:
		return give_any_frame();
	case HELLO:
		return give_hello();
	default:
		n = read_u8(&input);
		if (side != SERVER)
			rpc_release(v.server, n, n / 2);
		return fiber_sleep(sys_after(s, n * SYS_MS)) == 0;
	}
}

static int steps(void *arg)
{
	while (input.ok && input.p < input.end && step())
		;
	fiber_sleep(sys_after(s, 5 * SYS_MS));
	sys_stream_shut(peer);
	return 0;
}

static bool take(uint8_t *p, size_t len)
{
	for (int64_t n; len > 0; p += n, len -= (size_t)n)
		if ((n = sys_recv(peer, p, len, FOREVER)) <= 0)
			return false;
	return true;
}

/* What the honest side says is well-formed to the end. */
static int listens(void *arg)
{
	uint8_t header[FRAME_HEADER_BYTES], *rest;
	struct frame f;

	while (take(header, sizeof header)) {
		check(frame_get(header, &f) == 0);
		rest = malloc(f.body_len + f.data_len + 1);
		if (!take(rest, f.body_len + f.data_len)) {
			free(rest);
			return 0;
		}
		check(frame_verify(&f, header, rest, rest + f.body_len));
		check(wire_op(f.op) != NULL);
		free(rest);
	}
	return 0;
}

static void play_peer(void)
{
	struct group g;

	group_init(&g, sys_loop(s));
	check(fiber_start(&g, "listens", listens, NULL) == 0);
	check(fiber_start(&g, "steps", steps, NULL) == 0);
	check(group_wait(&g) == 0);
	sys_stream_close(peer);
}

/* ---- against the server ---- */
static int against_server(struct sys *sys, void *arg)
{
	struct rpc_call call = { .op = OP_put, .msg = &(struct msg_put){ .bucket = 1 } };
	struct msg_put_ok ok;
	struct rpc_conn *other;

	s = sys;
	service_open(&v, s);
	other = service_connect(&v, v.local);
	check(sys_connect(s, v.tcp, soon(s), &peer, NULL) == 0);
	play_peer();
	check(rpc_ask(other, &call, OP_put_ok, &ok, soon(s), NULL) == 0);
	until(s, rpc_server_connections(v.server) == 1);
	rpc_close(other);
	service_close(&v);
	return 0;
}

/* ---- against the client ---- */
static int answers(void *arg)
{
	if (sys_accept(arg, FOREVER, &peer) == 0)
		play_peer();
	return 0;
}

static void ask_all(struct rpc_conn *c)
{
	static uint8_t into[100000];
	struct msg_get get = { .bucket = 1 };
	struct msg_extent_read read = { .len = 100 };
	struct rpc_call calls[] = {
		{ .op = OP_get, .msg = &get, .plain = true },
		{ .op = OP_extent_read, .msg = &read, .plain = true, .into = into,
			.into_cap = sizeof into },
		{ .op = OP_put, .msg = &(struct msg_put){ 0 }, .data = bytes_of(into, 20000) },
		{ .op = OP_put, .msg = &(struct msg_put){ 0 } },
	};
	enum { N = sizeof calls / sizeof calls[0] };

	for (unsigned i = 0; i < N; i++)
		rpc_start(c, &calls[i]);
	for (unsigned i = 0; i < N; i++) {
		int rc = rpc_wait(c, &calls[i], sys_after(s, (i + 1) * 20 * SYS_MS));

		check(rc == 0 || calls[i].note.text[0] != '\0');
		rpc_call_fini(&calls[i]);
	}
}

static int against_client(struct sys *sys, void *arg)
{
	struct sys_listener *l;
	struct rpc_connect o = { .addr = "tcp:a:7" };
	struct group servers, g;
	struct msg_hello_ok ok;
	struct rpc_conn *c;

	s = sys;
	group_init(&servers, sys_loop(s));
	group_init(&g, sys_loop(s));
	o.group = &g;
	check(sys_listen(s, o.addr, &l, NULL) == 0);
	check(fiber_start(&servers, "server", answers, l) == 0);
	if (rpc_connect(s, &o, sys_after(s, SYS_SEC), &c, &ok, NULL) == 0) {
		ask_all(c);
		rpc_close(c);
	}
	check(group_wait(&servers) == 0);
	check(group_wait(&g) == 0);
	sys_listener_close(l);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len)
{
	const struct sim_faults faults = { .net_delay_min_ns = SYS_US,
		.net_delay_max_ns = 9 * SYS_US, .net_split_ppm = 100000, .shuffle = true };
	struct sim_node *n;
	struct sim *w;

	if (len == 0)
		return 0;
	side = p[0] % 2;
	input = reader_of(p + 1, len - 1);
	w = sim_new(p[0], &faults);
	n = sim_node_add(w, "a", 1 << 20);
	sim_node_start(n, side == SERVER ? against_client : against_server, NULL);
	sim_run(w, 3600 * SYS_SEC);
	check(!sim_node_up(n));
	check(sim_node_result(n) == 0);
	sim_free(w);
	return 0;
}

/* Each message as request and as reply, after a hello. */
void fuzz_seeds(void (*run)(const uint8_t *p, size_t len))
{
	static char mem[SAMPLE_ARENA_BYTES] __attribute__((aligned(16)));
	static uint8_t seed[1 << 16];
	struct prng p = prng_fork(9, 9);
	struct arena a;

	arena_init(&a, mem, sizeof mem);
	for (unsigned i = 0; i < 2 * WIRE_OPS_MAX; i++, arena_reset(&a, 0)) {
		const struct wire_op *op = wire_op((uint16_t)(i / 2));
		struct writer w = writer_of(seed, sizeof seed);
		const void *m;

		if (op == NULL)
			continue;
		m = sample_message(&p, &a, op, 1);
		if (op->size(m, 1) > 300)
			continue;
		write_u8(&w, i % 2); /* side */
		write_u8(&w, HELLO);
		write_u8(&w, FRAME);
		write_u16(&w, op->op);
		write_u8(&w, 0x81);
		write_u8(&w, i % 2);
		write_u16(&w, (uint16_t)op->size(m, 1));
		check(op->put(&w, m, 1));
		write_u16(&w, 100);
		write_u8(&w, PASS);
		write_u8(&w, 200);
		run(seed, (size_t)(w.p - seed));
	}
}
