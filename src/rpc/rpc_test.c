/* SPDX-License-Identifier: Apache-2.0 */
/* Each request is answered once, to the one who asked, in whatever order; no more memory is held
 * and no more numbers are open than was promised; a call ends by its reply, its deadline or the end
 * of its connection, and then nobody touches its memory. */
#include "rpc/service_test.h"
#include "base/limit.h"
#include "base/prng.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static struct service v;
static uint8_t bytes[8192]; /* of a put */

static int ask(struct rpc_conn *c, struct rpc_call *call, uint16_t op, void *reply,
	struct err_note *note)
{
	return rpc_ask(c, call, op, reply, soon(v.s), note);
}

/* ---- the simplest things ---- */
static int simple(struct sys *s, void *arg)
{
	struct msg_put put = { .bucket = 1, .name = BYTES("x") };
	struct rpc_call call = { .op = OP_put, .msg = &put, .data = bytes_of(bytes, 1024) };
	struct msg_put_ok ok;
	struct rpc_conn *c;
	struct err_note note;

	service_open(&v, s);
	for (int local = 0; local < 2; local++) {
		c = service_connect(&v, local ? v.local : v.tcp);
		check(rpc_conn_open(c));
		check(rpc_server_connections(v.server) == 1);
		for (unsigned i = 1; i <= 10; i++) {
			call.cookie = 0;
			call.started = call.ended = false;
			check(rpc_ask(c, &call, OP_put_ok, &ok, soon(s), &note) == 0);
			check(ok.version == 1024);
			check(ok.inode == crc32c(0, bytes, 1024));
			check(call.cookie == i);
			check(rpc_round_trips(c) == i + 1); /* with hello: one each */
		}
		rpc_close(c);
		until(s, rpc_server_connections(v.server) == 0);
	}
	check(v.n_closed == 2);
	check(rpc_server_counts(v.server).requests == 20);
	check(rpc_server_counts(v.server).replies == 20);
	service_close(&v);
	return 0;
}

/* ---- thousands at once, answered in any order ---- */
enum { MANY = 3000 };

static struct rpc_call *many_calls;
static unsigned order[MANY], n_ended;

static void ended(void *arg) { order[(struct rpc_call *)arg - many_calls] = n_ended++; }

static int many(struct sys *s, void *arg)
{
	struct msg_get *gets = calloc(MANY, sizeof *gets);
	struct prng p = prng_fork(3, 3);
	struct rpc_conn *c;
	unsigned overtaken = 0;

	many_calls = calloc(MANY, sizeof *many_calls);
	n_ended = 0;
	service_open(&v, s);
	c = service_connect(&v, v.tcp);
	for (unsigned i = 0; i < MANY; i++) {
		gets[i] = (struct msg_get){ .inode = i, .wait_ms = (uint32_t)prng_below(&p, 4),
			.from = prng_below(&p, 3000) };
		many_calls[i] = (struct rpc_call){ .op = OP_get, .plain = true, .msg = &gets[i],
			.done = ended, .done_arg = &many_calls[i] };
		check(rpc_start(c, &many_calls[i]) == 0);
		check(many_calls[i].cookie & FRAME_COOKIE_PLAIN);
	}
	until(s, n_ended == MANY);
	for (unsigned i = 0; i < MANY; i++) {
		struct msg_get_ok ok;

		check(rpc_wait(c, &many_calls[i], soon(s)) == 0);
		overtaken += i > 0 && order[i] < order[i - 1];
		check(msg_get_ok_get(many_calls[i].reply.p, many_calls[i].reply.len, WIRE_VERSION,
			      &ok) == 0);
		check(ok.inode == i);
		check(ok.size == gets[i].from);
		check(many_calls[i].reply_data.len == gets[i].from);
		check(memcmp(many_calls[i].reply_data.p, pattern(), gets[i].from) == 0);
		rpc_call_fini(&many_calls[i]);
	}
	check(overtaken > 0);
	check(rpc_round_trips(c) == MANY + 1);
	rpc_close(c);
	service_close(&v);
	free(many_calls);
	free(gets);
	return 0;
}

/* ---- the window of numbers ---- */
static int window(struct sys *s, void *arg)
{
	enum { N = 200 };
	static struct rpc_call calls[N];
	struct msg_put puts[3] = { { .if_version = 10 }, { .if_version = 20 }, { .bucket = 1 } };
	struct rpc_conn *c;
	struct rpc_call plain = { .op = OP_get, .plain = true, .msg = &(struct msg_get){ 0 } };

	service_open(&v, s);
	c = service_connect(&v, v.tcp);
	for (unsigned i = 0; i < N; i++) {
		/* the first waits for index 20, the others of the first window for 10 */
		calls[i] = (struct rpc_call){ .op = OP_put,
			.msg = &puts[i == 0 ? 1 : i < LIMIT_INFLIGHT_MAX ? 0 : 2] };
		check(rpc_start(c, &calls[i]) == 0);
	}
	check(ask(c, &plain, OP_get_ok, &(struct msg_get_ok){ 0 }, NULL) == 0); /* not held up */
	rpc_call_fini(&plain);
	check(rpc_server_counts(v.server).requests == LIMIT_INFLIGHT_MAX + 1);
	rpc_release(v.server, 10, 0);
	check(rpc_wait(c, &calls[1], sys_after(s, 20 * SYS_MS)) == E_TIMEOUT);
	rpc_release(v.server, 20, 0);
	for (unsigned i = 0; i < N; i++) {
		int rc = rpc_wait(c, &calls[i], soon(s));

		check(rc == (i == 1 ? E_TIMEOUT : 0));
		check(calls[i].cookie == i + 1);
		rpc_call_fini(&calls[i]);
	}
	rpc_close(c);
	service_close(&v);
	return 0;
}

/* While number 1 is open, 65 must wait however many others have ended. */
static int window_is_of_numbers(struct sys *s, void *arg)
{
	enum { N = LIMIT_INFLIGHT_MAX + 10 };
	static struct rpc_call calls[N];
	struct msg_put put = { .bucket = 1 };
	struct rpc_conn *c;

	service_open(&v, s);
	c = service_connect(&v, v.tcp);
	calls[0] = (struct rpc_call){ .op = OP_list, .msg = &(struct msg_list){ 0 } };
	for (unsigned i = 1; i < N; i++)
		calls[i] = (struct rpc_call){ .op = OP_put, .msg = &put };
	for (unsigned i = 0; i < N; i++)
		check(rpc_start(c, &calls[i]) == 0);
	for (unsigned i = 1; i < LIMIT_INFLIGHT_MAX; i++)
		check(rpc_wait(c, &calls[i], soon(s)) == 0);
	check(fiber_sleep(sys_after(s, 5 * SYS_MS)) == 0);
	check(rpc_server_counts(v.server).requests == LIMIT_INFLIGHT_MAX);
	check(!calls[LIMIT_INFLIGHT_MAX].ended);
	service_answer_kept(&v);
	for (unsigned i = 0; i < N; i++) {
		check(rpc_wait(c, &calls[i], soon(s)) == 0);
		rpc_call_fini(&calls[i]);
	}
	rpc_close(c);
	service_close(&v);
	return 0;
}

/* A retry carries its old number, also past the window's queue; new numbers follow behind it. */
static int retries(struct sys *s, void *arg)
{
	struct rpc_connect o;
	struct rpc_conn *c;
	struct msg_hello_ok hello_ok;
	struct msg_put put = { .bucket = 1 };
	struct rpc_call old = { .op = OP_put, .msg = &put, .cookie = 907 };
	struct rpc_call fresh = { .op = OP_put, .msg = &put };
	struct rpc_call lower = { .op = OP_put, .msg = &put, .cookie = 905 };
	struct msg_put_ok ok;

	service_open(&v, s);
	o = (struct rpc_connect){ .addr = v.tcp, .group = &v.g, .hello = { .client_lo = 900 } };
	check(rpc_connect(s, &o, soon(s), &c, &hello_ok, NULL) == 0);
	check(hello_ok.last_number == 900);
	check(rpc_start(c, &old) == 0);
	check(rpc_start(c, &fresh) == 0);
	check(rpc_start(c, &lower) == 0);
	check(rpc_wait(c, &old, soon(s)) == 0);
	check(rpc_wait(c, &fresh, soon(s)) == 0);
	check(rpc_wait(c, &lower, soon(s)) == 0);
	check(old.cookie == 907);
	check(fresh.cookie == 908);
	check(lower.cookie == 905);
	rpc_number_set(c, 2000);
	fresh = (struct rpc_call){ .op = OP_put, .msg = &put };
	check(rpc_ask(c, &fresh, OP_put_ok, &ok, soon(s), NULL) == 0);
	check(fresh.cookie == 2000);
	rpc_close(c);
	service_close(&v);
	return 0;
}

/* A plain call that waits is in nobody's way, and nobody in its. */
static int plain_waits(struct sys *s, void *arg)
{
	struct rpc_call slow = { .op = OP_list, .plain = true, .msg = &(struct msg_list){ 0 } };
	struct rpc_conn *c;

	service_open(&v, s);
	c = service_connect(&v, v.tcp);
	check(rpc_start(c, &slow) == 0);
	for (unsigned i = 0; i < 300; i++) {
		struct msg_get get = { .inode = i };
		struct rpc_call call = { .op = OP_get, .plain = true, .msg = &get };
		struct msg_get_ok ok;

		check(ask(c, &call, OP_get_ok, &ok, NULL) == 0);
		check(ok.inode == i);
		check(call.cookie != slow.cookie);
		rpc_call_fini(&call);
	}
	check(!slow.ended);
	service_answer_kept(&v);
	check(rpc_wait(c, &slow, soon(s)) == 0);
	rpc_close(c);
	service_close(&v);
	return 0;
}

/* ---- gates ---- */
struct gated { struct rpc_call call; struct msg_put put; };

static void start_gated(struct rpc_conn *c, struct gated *g, uint64_t index, enum rpc_gated by)
{
	g->put = (struct msg_put){ .if_version = index, .ttl_ms = by };
	g->call = (struct rpc_call){ .op = OP_put, .msg = &g->put };
	check(rpc_start(c, &g->call) == 0);
}

static void expect_ended(struct sys *s, struct gated *g, unsigned n, const char *which)
{
	unsigned want = 0, have;

	for (unsigned i = 0; i < n; i++)
		want += which[i] == '1';
	until(s, (have = 0, ({ for (unsigned i = 0; i < n; i++) have += g[i].call.ended; }),
		have >= want));
	check(fiber_sleep(sys_after(s, 2 * SYS_MS)) == 0); /* none too many */
	for (unsigned i = 0; i < n; i++)
		check(g[i].call.ended == (which[i] == '1'));
}

static int gates(struct sys *s, void *arg)
{
	static struct gated g[8];
	struct rpc_conn *c;

	service_open(&v, s);
	c = service_connect(&v, v.tcp);
	start_gated(c, &g[0], 10, RPC_WRITTEN);
	start_gated(c, &g[1], 10, RPC_SYNCED);
	start_gated(c, &g[2], 11, RPC_WRITTEN);
	start_gated(c, &g[3], 12, RPC_SYNCED);
	start_gated(c, &g[4], 0, RPC_WRITTEN);
	start_gated(c, &g[5], 13, RPC_WRITTEN);
	start_gated(c, &g[6], 11, RPC_WRITTEN); /* behind 13: waits along */
	start_gated(c, &g[7], 14, RPC_SYNCED);
	expect_ended(s, g, 8, "00001000");
	rpc_release(v.server, 9, 9);
	expect_ended(s, g, 8, "00001000");
	rpc_release(v.server, 11, 9);
	expect_ended(s, g, 8, "10101000");
	rpc_release(v.server, 10, 12); /* an older written index changes nothing */
	expect_ended(s, g, 8, "11111000");
	start_gated(c, &g[4], 11, RPC_WRITTEN);
	expect_ended(s, g, 8, "11111000");
	rpc_release(v.server, 13, 12);
	expect_ended(s, g, 8, "11111110");
	start_gated(c, &g[0], 13, RPC_WRITTEN); /* released already */
	expect_ended(s, g, 8, "11111110");
	rpc_release(v.server, 20, 14);
	expect_ended(s, g, 8, "11111111");
	start_gated(c, &g[0], 20, RPC_SYNCED); /* written is not synced */
	expect_ended(s, g, 8, "01111111");
	rpc_release(v.server, 20, 20);
	expect_ended(s, g, 8, "11111111");
	start_gated(c, &g[0], 1, RPC_SETTLED); /* numbers of their own */
	start_gated(c, &g[1], 2, RPC_SETTLED);
	rpc_release(v.server, 30, 30);
	expect_ended(s, g, 8, "00111111");
	rpc_release_settled(v.server, 1);
	expect_ended(s, g, 8, "10111111");
	rpc_release_settled(v.server, 2);
	expect_ended(s, g, 8, "11111111");
	rpc_close(c);
	service_close(&v);
	return 0;
}

/* Held output is dropped with its connection, and released for the others only. */
static int gates_of_the_lost(struct sys *s, void *arg)
{
	static struct gated a[3], b[3];
	struct rpc_conn *c_a, *c_b;

	service_open(&v, s);
	c_a = service_connect(&v, v.tcp);
	c_b = service_connect(&v, v.local);
	for (unsigned i = 0; i < 3; i++) {
		start_gated(c_a, &a[i], 5 + i, i == 1 ? RPC_SYNCED : RPC_WRITTEN);
		start_gated(c_b, &b[i], 5 + i, i == 1 ? RPC_SYNCED : RPC_WRITTEN);
	}
	until(s, rpc_server_counts(v.server).requests == 6);
	rpc_close(c_a);
	until(s, rpc_server_connections(v.server) == 1);
	for (unsigned i = 0; i < 3; i++)
		check(a[i].call.rc == E_CLOSED);
	rpc_release(v.server, 6, 6);
	expect_ended(s, b, 3, "110");
	check(b[0].call.rc == 0);
	rpc_close(c_b); /* with one still held */
	check(b[2].call.rc == E_CLOSED);
	until(s, rpc_server_connections(v.server) == 0);
	rpc_release(v.server, 7, 7);
	service_close(&v);
	return 0;
}

/* Pinned data moves along with the frames it belongs to, through every kind of release. */
static int gated_pins(struct sys *s, void *arg)
{
	enum { N = 12 };
	static struct msg_extent_read reads[N];
	static struct rpc_call calls[N];
	struct rpc_conn *c;

	service_open(&v, s);
	c = service_connect(&v, v.tcp);
	for (unsigned i = 0; i < N; i++) {
		reads[i] = (struct msg_extent_read){ .offset = i * 1000, .len = 5000 + i * 9999,
			.cap_until_ms = i < 4 ? 0 : i };
		calls[i] = (struct rpc_call){ .op = OP_extent_read, .plain = true,
			.msg = &reads[i] };
		check(rpc_start(c, &calls[i]) == 0);
	}
	until(s, rpc_server_counts(v.server).replies == N);
	for (unsigned i = 0; i < N; i++) {
		if (i == 6 || i == 7) /* two prefixes into one turn, then the rest */
			rpc_release(v.server, i, 0);
		if (i == 7)
			rpc_release(v.server, 9, 0);
		if (i == 10)
			rpc_release(v.server, N, 0);
		if (i >= 4 && i < 6)
			rpc_release(v.server, i, 0);
		check(rpc_wait(c, &calls[i], soon(s)) == 0);
		check(calls[i].reply_data.len == reads[i].len);
		check(memcmp(calls[i].reply_data.p, pattern() + i * 1000, reads[i].len) == 0);
		rpc_call_fini(&calls[i]);
	}
	check(v.n_pins == 0);
	rpc_close(c);
	service_close(&v);
	return 0;
}

/* ---- bulk ---- */
static int streams(struct sys *s, void *arg)
{
	static const uint32_t sizes[] = { 0, 1, 100, LIMIT_INLINE_BYTES_MAX,
		LIMIT_INLINE_BYTES_MAX + 1, 65536, 70000, 1 << 20, LIMIT_FRAME_DATA_BYTES_MAX };
	struct msg_extent_write w = { 0 };
	struct rpc_conn *c;
	struct err_note note;
	struct msg_extent_ok ok;

	service_open(&v, s);
	c = service_connect(&v, arg != NULL ? v.local : v.tcp);
	for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		for (w.tier = 0; w.tier < 3; w.tier++) {
			struct rpc_call call = { .op = OP_extent_write, .plain = true, .msg = &w,
				.data = bytes_of(pattern(), sizes[i]) };
			int rc = rpc_ask(c, &call, OP_extent_ok, &ok, soon(s), &note);

			check(rc == (w.tier == 2 ? E_FULL : 0));
			if (rc == 0)
				check(ok.root == crc32c(0, pattern(), sizes[i] / (w.tier + 1u)));
			else
				check(strcmp(note.text, "no room in this tier") == 0);
			rpc_call_fini(&call);
		}
	}
	check(rpc_server_counts(v.server).broken == 0);
	rpc_close(c);
	service_close(&v);
	return 0;
}

static int stream_local(struct sys *s, void *arg) { return streams(s, ""); }

static int reads(struct sys *s, void *arg)
{
	uint8_t *into = malloc(LIMIT_FRAME_DATA_BYTES_MAX);
	static const uint32_t sizes[] = { 0, 10, LIMIT_INLINE_BYTES_MAX, 5000, 1 << 20,
		LIMIT_FRAME_DATA_BYTES_MAX };
	struct rpc_conn *c;
	struct msg_read_ok ok;

	service_open(&v, s);
	c = service_connect(&v, v.tcp);
	for (unsigned i = 0; i < 2 * sizeof sizes / sizeof sizes[0]; i++) {
		struct msg_extent_read r = { .offset = i, .len = sizes[i / 2] };
		struct rpc_call call = { .op = OP_extent_read, .plain = true, .msg = &r };

		if (i % 2 == 0) {
			call.into = into;
			call.into_cap = r.len;
		}
		check(rpc_ask(c, &call, OP_read_ok, &ok, soon(s), NULL) == 0);
		check(ok.offset == i);
		check(call.reply_data.len == r.len);
		check(r.len == 0 || (i % 2 == 1) == (call.reply_data.p != into));
		check(memcmp(call.reply_data.p, pattern() + i, r.len) == 0);
		rpc_call_fini(&call);
		if (r.len > 0) { /* no room for the last byte: refused here, and all goes on */
			call = (struct rpc_call){ .op = OP_extent_read, .plain = true, .msg = &r,
				.into = into, .into_cap = r.len - 1 };
			check(rpc_ask(c, &call, OP_read_ok, &ok, soon(s), NULL) == E_TOOBIG);
		}
	}
	until(s, v.n_pins == 0);
	rpc_close(c);
	service_close(&v);
	free(into);
	return 0;
}

/* ---- a call that is given up ---- */
static int deadlines(struct sys *s, void *arg)
{
	struct msg_get slow = { .wait_ms = 20, .from = 100 }, fast = { .from = 10 };
	struct rpc_call call = { .op = OP_get, .plain = true, .msg = &slow }, next;
	struct rpc_conn *c;
	struct msg_get_ok ok;
	struct err_note note;

	service_open(&v, s);
	c = service_connect(&v, v.tcp);
	check(rpc_ask(c, &call, OP_get_ok, &ok, sys_after(s, 5 * SYS_MS), &note) == E_TIMEOUT);
	check(strstr(note.text, "get") != NULL);
	memset(&call, 0xee, sizeof call); /* its late answer finds nobody */
	check(fiber_sleep(sys_after(s, 40 * SYS_MS)) == 0);
	next = (struct rpc_call){ .op = OP_get, .plain = true, .msg = &fast };
	check(rpc_ask(c, &next, OP_get_ok, &ok, soon(s), &note) == 0);
	check(next.reply_data.len == 10);
	rpc_call_fini(&next);
	check(rpc_server_counts(v.server).broken == 0);
	rpc_close(c);
	service_close(&v);
	return 0;
}

struct waiting { struct rpc_conn *c; struct rpc_call call; struct sys *s; };

static int waits(void *arg)
{
	struct waiting *w = arg;

	return rpc_wait(w->c, &w->call, soon(w->s));
}

static int cancels(struct sys *s, void *arg)
{
	struct waiting w = { .s = s,
		.call = { .op = OP_list, .plain = true, .msg = &(struct msg_list){ 0 } } };
	struct group g;

	service_open(&v, s);
	w.c = service_connect(&v, v.tcp);
	group_init(&g, sys_loop(s));
	check(rpc_start(w.c, &w.call) == 0);
	check(fiber_start(&g, "waits", waits, &w) == 0);
	until(s, v.n_kept == 1);
	group_cancel(&g);
	check(group_wait(&g) == E_CANCELED);
	check(w.call.rc == E_CANCELED);
	service_answer_kept(&v);
	check(fiber_sleep(sys_after(s, 5 * SYS_MS)) == 0);
	check(rpc_conn_open(w.c));
	rpc_close(w.c);
	service_close(&v);
	return 0;
}

/* A call ends by done() alone; more calls may be started there. */
struct chain { struct rpc_conn *c; struct rpc_call call; unsigned left; struct msg_put put; };

static void chain_next(void *arg)
{
	struct chain *ch = arg;
	int rc = ch->call.rc;

	check(ch->call.ended);
	rpc_call_fini(&ch->call);
	if (rc < 0 || --ch->left == 0)
		return;
	ch->call = (struct rpc_call){ .op = OP_put, .msg = &ch->put, .done = chain_next,
		.done_arg = ch };
	check(rpc_start(ch->c, &ch->call) == 0);
}

static int chains(struct sys *s, void *arg)
{
	enum { N = 100 };
	static struct chain chains_[N];
	struct rpc_conn *c;

	service_open(&v, s);
	c = service_connect(&v, v.tcp);
	for (unsigned i = 0; i < N; i++) { /* more than the window admits */
		chains_[i] = (struct chain){ .c = c, .left = 51 };
		chains_[i].call.ended = true;
		chain_next(&chains_[i]);
	}
	for (unsigned i = 0; i < N; i++)
		until(s, chains_[i].left == 0);
	check(rpc_server_counts(v.server).requests == N * 50);
	rpc_close(c);
	service_close(&v);
	return 0;
}

/* ---- ends ---- */
static int close_with_open_calls(struct sys *s, void *arg)
{
	enum { N = LIMIT_INFLIGHT_MAX + 20 };
	static struct waiting w[N];
	struct rpc_conn *c;
	struct group g;

	service_open(&v, s);
	c = service_connect(&v, v.tcp);
	group_init(&g, sys_loop(s));
	g.keep_going = true;
	for (unsigned i = 0; i < N; i++) { /* some plain, some queued behind the window */
		w[i] = (struct waiting){ .c = c, .s = s };
		w[i].call = (struct rpc_call){ .op = OP_get, .plain = i % 9 == 0,
			.msg = &(struct msg_get){ .wait_ms = 1000 } };
		check(rpc_start(c, &w[i].call) == 0);
		check(fiber_start(&g, "waits", waits, &w[i]) == 0);
	}
	until(s, rpc_server_counts(v.server).requests > LIMIT_INFLIGHT_MAX);
	if (arg == NULL)
		rpc_close(c);
	else
		rpc_server_free(v.server);
	check(group_wait(&g) == 0);
	for (unsigned i = 0; i < N; i++) {
		check(w[i].call.rc == E_CLOSED);
		check(w[i].call.note.text[0] != '\0');
	}
	if (arg != NULL) {
		struct rpc_call late = { .op = OP_put, .msg = &(struct msg_put){ 0 } };

		until(s, !rpc_conn_open(c));
		check(rpc_start(c, &late) == E_CLOSED);
		check(late.note.text[0] != '\0');
		check(rpc_wait(c, &late, soon(s)) == E_CLOSED);
		rpc_close(c);
		v.server = NULL;
	}
	service_close(&v);
	return 0;
}

static int free_with_open_calls(struct sys *s, void *arg) { return close_with_open_calls(s, ""); }

/* A group that is cancelled takes its connections along; they are still to be closed. */
static int group_is_canceled(struct sys *s, void *arg)
{
	struct rpc_conn *c;
	struct rpc_call call = { .op = OP_list, .msg = &(struct msg_list){ 0 } };

	service_open(&v, s);
	c = service_connect(&v, v.tcp);
	check(rpc_start(c, &call) == 0);
	until(s, v.n_kept == 1);
	group_cancel(&v.g);
	check(rpc_wait(c, &call, soon(s)) == E_CLOSED);
	rpc_close(c);
	until(s, v.n_closed == 1); /* lost() dropped what was kept */
	service_close(&v);
	return 0;
}

/* Requests that were kept are answered after their connection has gone. */
static int answers_to_nobody(struct sys *s, void *arg)
{
	struct rpc_request kept;
	struct rpc_conn *c;
	struct rpc_call call = { .op = OP_list, .msg = &(struct msg_list){ 0 } };

	service_open(&v, s);
	c = service_connect(&v, v.tcp);
	check(rpc_start(c, &call) == 0);
	until(s, v.n_kept == 1);
	kept = v.kept[0];
	v.n_kept = 0; /* ours now: lost() does not see it */
	rpc_close(c);
	until(s, v.n_lost == 1);
	check(fiber_sleep(sys_after(s, 5 * SYS_MS)) == 0);
	check(v.n_closed == 0);
	check(rpc_server_connections(v.server) == 1);
	check(!rpc_conn_open(kept.conn));
	check(rpc_conn_name(kept.conn)[0] != '\0');
	rpc_reply_ok(&kept, (struct rpc_gate){ 99, RPC_SYNCED });
	check(v.n_closed == 1);
	service_close(&v);
	return 0;
}

/* ---- hello, limits ---- */
static int hellos(struct sys *s, void *arg)
{
	struct rpc_connect o;
	struct rpc_conn *c = NULL;
	struct msg_hello_ok ok;
	struct err_note note;

	service_open(&v, s);
	o = (struct rpc_connect){ .addr = v.tcp, .group = &v.g, .hello.token = BYTES("wrong") };
	check(rpc_connect(s, &o, soon(s), &c, &ok, &note) == E_DENIED);
	check(strstr(note.text, "this token is not ours") != NULL);
	check(c == NULL);
	o.hello.token = BYTES("slow");
	check(rpc_connect(s, &o, sys_after(s, 2 * SYS_MS), &c, &ok, &note) == E_TIMEOUT);
	check(rpc_connect(s, &o, soon(s), &c, &ok, &note) == 0);
	rpc_close(c);
	o.addr = "unix:/nonexistent/socket";
	check(rpc_connect(s, &o, soon(s), &c, &ok, &note) < 0);
	check(note.text[0] != '\0');
	until(s, rpc_server_connections(v.server) == 0);
	check(rpc_server_counts(v.server).denied == 1);
	check(v.n_hellos == 3);
	service_close(&v);
	return 0;
}

static int connection_limit(struct sys *s, void *arg)
{
	struct rpc_conn *a, *b, *none;
	struct rpc_connect o;
	struct msg_hello_ok ok;
	struct err_note note;

	service_open(&v, s);
	rpc_server_limit(v.server, &(struct rpc_limits){ .connections = 2 });
	a = service_connect(&v, v.tcp);
	b = service_connect(&v, v.local);
	o = (struct rpc_connect){ .addr = v.tcp, .group = &v.g };
	check(rpc_connect(s, &o, soon(s), &none, &ok, &note) == E_BUSY);
	check(strstr(note.text, "this server has 2 connections: no more") != NULL);
	check(rpc_server_counts(v.server).refused == 1);
	rpc_close(a);
	until(s, rpc_server_connections(v.server) == 1);
	a = service_connect(&v, v.tcp);
	rpc_close(a);
	rpc_close(b);
	service_close(&v);
	return 0;
}

static int impossible(struct sys *s, void *arg)
{
	struct msg_ok ok;
	struct rpc_call unknown = { .op = OP_bucket_drop, .msg = &(struct msg_bucket_drop){ 0 } };
	struct rpc_call large = { .op = OP_stat, .msg = &(struct msg_stat){ 0 } };
	struct rpc_call heavy = { .op = OP_put, .msg = &(struct msg_put){ 0 } };
	struct rpc_call other = { .op = OP_put, .msg = &(struct msg_put){ 0 } };
	struct rpc_call long_name = { .op = OP_put,
		.msg = &(struct msg_put){ .name = bytes_of(pattern(), 1025) } };
	struct rpc_conn *c;
	struct err_note note;

	service_open(&v, s);
	c = service_connect(&v, v.tcp);
	check(rpc_ask(c, &unknown, OP_ok, &ok, soon(s), &note) == E_UNSUPPORTED);
	check(strstr(note.text, "bucket_drop") != NULL);
	check(rpc_ask(c, &large, OP_ok, &ok, soon(s), &note) == E_TOOBIG);
	large = (struct rpc_call){ .op = OP_stat, .msg = &(struct msg_stat){ .parent = 1 } };
	check(rpc_ask(c, &large, OP_ok, &ok, soon(s), &note) == E_TOOBIG);
	heavy.data = bytes_of(pattern(), RPC_BUFFERED_BYTES_MAX + 1);
	check(rpc_ask(c, &heavy, OP_ok, &ok, soon(s), &note) == E_TOOBIG);
	check(strstr(note.text, "1048576") != NULL);
	check(rpc_ask(c, &other, OP_ok, &ok, soon(s), &note) == E_CORRUPT);
	check(strstr(note.text, "put_ok") != NULL);
	check(rpc_ask(c, &long_name, OP_put_ok, &ok, soon(s), &note) == E_TOOBIG);
	heavy = (struct rpc_call){ .op = OP_put, .msg = &(struct msg_put){ 0 },
		.data = bytes_of(pattern(), RPC_BUFFERED_BYTES_MAX) };
	check(rpc_ask(c, &heavy, OP_put_ok, &(struct msg_put_ok){ 0 }, soon(s), &note) == 0);
	check(rpc_server_counts(v.server).unsupported == 1);
	check(rpc_server_counts(v.server).broken == 0);
	rpc_close(c);
	service_close(&v);
	return 0;
}

/* ---- the other way, and beside the bytes ---- */
static int reverse(struct sys *s, void *arg)
{
	enum { N = 20 };
	static struct rpc_call calls[N];
	struct rpc_conn *c;

	service_open(&v, s);
	c = service_connect(&v, v.tcp);
	for (unsigned i = 0; i < N; i++) {
		calls[i] = (struct rpc_call){ .op = OP_job_renew,
			.msg = &(struct msg_job_renew){ 1 } };
		check(rpc_start(c, &calls[i]) == 0);
	}
	for (unsigned i = 0; i < N; i++)
		check(rpc_wait(c, &calls[i], soon(s)) == 0);
	check(v.n_pinged == N);
	calls[0] = (struct rpc_call){ .op = OP_job_renew, .msg = &(struct msg_job_renew){ 1 } };
	check(rpc_start(c, &calls[0]) == 0);
	rpc_close(c); /* somewhere between the two */
	check(calls[0].rc == E_CLOSED);
	service_close(&v);
	return 0;
}

/* The reader is inside a handler that waits for something else. */
static int close_in_handler(struct sys *s, void *arg)
{
	struct rpc_call call = { .op = OP_job_renew, .msg = &(struct msg_job_renew){ 2 } };
	struct rpc_conn *c;
	uint64_t before;

	service_open(&v, s);
	c = service_connect(&v, v.tcp);
	check(rpc_start(c, &call) == 0);
	until(s, v.n_pinged == 1);
	before = sys_now_ns(s);
	rpc_close(c);
	check(sys_now_ns(s) - before < 5 * SYS_SEC);
	check(call.rc == E_CLOSED);
	service_close(&v);
	return 0;
}

static int descriptors(struct sys *s, void *arg)
{
	enum { N = 5 };
	static struct rpc_call calls[N];
	static struct msg_extent_alloc allocs[N];
	struct rpc_conn *c;

	service_open(&v, s);
	c = service_connect(&v, v.local);
	for (unsigned i = 0; i < N; i++) {
		allocs[i].extent = 100 + i;
		calls[i] = (struct rpc_call){ .op = OP_extent_alloc, .plain = true,
			.msg = &allocs[i] };
		check(rpc_start(c, &calls[i]) == 0);
	}
	for (unsigned i = 0; i < N; i++)
		check(rpc_wait(c, &calls[i], soon(s)) == 0);
	for (unsigned i = 0, seen = 0; i < N; i++) { /* in the order of the replies: any */
		struct sys_shm *shm = sys_recv_shm(rpc_conn_stream(c));
		uint64_t extent;
		void *p;

		check(shm != NULL);
		check(sys_shm_map(shm, &p, NULL) == 0);
		memcpy(&extent, p, sizeof extent);
		check(extent >= 100 && extent < 100 + N);
		check((seen & (1u << (extent - 100))) == 0);
		seen |= 1u << (extent - 100);
		sys_shm_close(shm);
		rpc_call_fini(&calls[i]);
	}
	rpc_close(c);
	service_close(&v);
	return 0;
}

#define TEST(fn) static void test_##fn(void **state) { door_run(fn, NULL); }
TEST(simple)
TEST(many)
TEST(window)
TEST(window_is_of_numbers)
TEST(retries)
TEST(plain_waits)
TEST(gates)
TEST(gates_of_the_lost)
TEST(gated_pins)
TEST(streams)
TEST(stream_local)
TEST(reads)
TEST(deadlines)
TEST(cancels)
TEST(chains)
TEST(close_with_open_calls)
TEST(free_with_open_calls)
TEST(group_is_canceled)
TEST(answers_to_nobody)
TEST(hellos)
TEST(connection_limit)
TEST(impossible)
TEST(reverse)
TEST(close_in_handler)
TEST(descriptors)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_simple),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_window_is_of_numbers),
		cmocka_unit_test(test_retries),
		cmocka_unit_test(test_plain_waits),
		cmocka_unit_test(test_gates),
		cmocka_unit_test(test_gates_of_the_lost),
		cmocka_unit_test(test_gated_pins),
		cmocka_unit_test(test_streams),
		cmocka_unit_test(test_stream_local),
		cmocka_unit_test(test_reads),
		cmocka_unit_test(test_deadlines),
		cmocka_unit_test(test_cancels),
		cmocka_unit_test(test_chains),
		cmocka_unit_test(test_close_with_open_calls),
		cmocka_unit_test(test_free_with_open_calls),
		cmocka_unit_test(test_group_is_canceled),
		cmocka_unit_test(test_answers_to_nobody),
		cmocka_unit_test(test_hellos),
		cmocka_unit_test(test_connection_limit),
		cmocka_unit_test(test_impossible),
		cmocka_unit_test(test_reverse),
		cmocka_unit_test(test_close_in_handler),
		cmocka_unit_test(test_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
