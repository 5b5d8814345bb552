/* SPDX-License-Identifier: Apache-2.0 */
/* A change is done once however often its connection breaks; no more numbers are open than were
 * promised; what cannot be known is said to be unknown; every wait ends by its deadline.
 *
 * The other side is a server of numbers only: it remembers what it did for which number, across its
 * restarts, unless it is told to forget. */
#include "client/dialog.h"
#include "base/check.h"
#include "sys/sim/sim.h"
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { NUMBERS_MAX = 4096, PUTTERS = 150 };

static struct world {
	struct sim *sim;
	struct sim_node *server, *client;
	uint8_t effects[NUMBERS_MAX];    /* done for this number */
	bool answered[NUMBERS_MAX];      /* the client may have heard */
	uint64_t last;
	unsigned busy;                   /* so many requests are told to come back later */
	bool forget, mute, refuse;
	unsigned requests;
	int result[PUTTERS];
	struct rpc_request kept[NUMBERS_MAX]; /* never answered */
	unsigned n_kept;
} w;

/* ---- the server ---- */
static void keep(struct rpc_request *r)
{
	check(w.n_kept < NUMBERS_MAX);
	w.kept[w.n_kept++] = *r;
}

static void on_lost(void *arg, struct rpc_conn *c)
{
	unsigned left = 0;

	for (unsigned i = 0; i < w.n_kept; i++) {
		if (w.kept[i].conn == c)
			rpc_drop(&w.kept[i]);
		else
			w.kept[left++] = w.kept[i];
	}
	w.n_kept = left;
}

static void on_put(void *arg, struct rpc_request *r)
{
	struct msg_put_ok ok = { .inode = r->cookie };
	uint64_t n = r->cookie;

	check(n > 0 && n < NUMBERS_MAX);
	w.requests++;
	if (w.mute) {
		keep(r);
		return;
	}
	if (w.busy > 0) {
		w.busy--;
		rpc_reply_error(r, E_BUSY, NULL, RPC_NOW);
		return;
	}
	if (w.refuse) {
		rpc_reply_error(r, E_NOTFOUND, NULL, RPC_NOW);
		return;
	}
	/* (S1) seen from the other side */
	if (n > LIMIT_INFLIGHT_MAX)
		check(w.answered[n - LIMIT_INFLIGHT_MAX]);
	w.effects[n] = w.effects[n] == 0 ? 1 : w.effects[n];
	w.last = n > w.last ? n : w.last;
	w.answered[n] = true;
	rpc_reply(r, OP_put_ok, &ok, bytes_of(NULL, 0), RPC_NOW);
}

static void on_stat(void *arg, struct rpc_request *r)
{
	struct msg_stat_ok ok = { .size = 7 };

	check((r->cookie & FRAME_COOKIE_PLAIN) != 0);
	if (w.mute)
		keep(r);
	else
		rpc_reply(r, OP_stat_ok, &ok, bytes_of(NULL, 0), RPC_NOW);
}

static PARKS int on_hello(void *arg, struct rpc_conn *c, const struct msg_hello *h,
	struct msg_hello_ok *ret_ok, char ret_hint[SYS_ADDR_MAX], struct err_note *note)
{
	if (h->token.len > 0)
		return err_set(note, E_DENIED, "no tokens here");
	ret_ok->last_number = w.forget ? 0 : w.last;
	return 0;
}

static PARKS int server_main(struct sys *s, void *arg)
{
	static const struct rpc_op ops[] = { { OP_put, RPC_INLINE, on_put },
		{ OP_stat, RPC_INLINE, on_stat } };
	static const struct rpc_service service = { .ops = ops, .n_ops = 2, .hello = on_hello,
		.lost = on_lost };
	struct rpc_server *server;
	const char *bound;
	int rc = rpc_server_new(s, &service, &server);

	if (rc == 0) {
		rc = rpc_server_listen(server, "tcp:*:1000", &bound, NULL);
		while (rc == 0 || rc == E_TIMEOUT)
			rc = fiber_sleep(sys_after(s, SYS_SEC));
		rpc_server_free(server);
	}
	return 0;
}

/* ---- the client ---- */
struct putter { struct dialog *d; unsigned i; uint64_t until_ns; };

static PARKS int put_once(struct dialog *d, uint64_t until_ns, uint64_t *ret_number)
{
	struct msg_put m = { .bucket = 1, .name = BYTES("k") };
	struct ask a = { .op = OP_put, .reply_op = OP_put_ok, .msg = &m, .changes = true };
	struct msg_put_ok ok = { 0 };
	int rc = dialog_ask(d, &a, &ok, until_ns, NULL);

	ask_fini(&a);
	if (ret_number != NULL)
		*ret_number = ok.inode;
	return rc;
}

static PARKS int stat_once(struct dialog *d, uint64_t until_ns)
{
	struct msg_stat m = { .bucket = 1, .name = BYTES("k") };
	struct ask a = { .op = OP_stat, .reply_op = OP_stat_ok, .msg = &m };
	struct msg_stat_ok ok;
	int rc = dialog_ask(d, &a, &ok, until_ns, NULL);

	ask_fini(&a);
	return rc;
}

static PARKS int putter(void *arg)
{
	struct putter *p = arg;

	w.result[p->i] = put_once(p->d, p->until_ns, NULL);
	return 0;
}

static PARKS void put_many(struct dialog *d, struct sys *s, uint64_t within_ns)
{
	static struct putter putters[PUTTERS];
	struct group g;

	group_init(&g, sys_loop(s));
	for (unsigned i = 0; i < PUTTERS; i++) {
		putters[i] = (struct putter){ d, i, sys_after(s, within_ns) };
		check(fiber_start(&g, "put", putter, &putters[i]) == 0);
	}
	group_wait(&g);
}

typedef PARKS void scenario(struct sys *s, struct dialog *d);

static PARKS int client_main(struct sys *s, void *arg)
{
	struct dialog_opts o = { .addr = "tcp:server:1000", .name = "test", .wait = true };
	static struct dialog d;
	struct group g;

	group_init(&g, sys_loop(s));
	g.keep_going = true;
	check(dialog_init(&d, s, &g, &o, NULL) == 0);
	(*(scenario **)arg)(s, &d);
	dialog_fini(&d);
	group_cancel(&g);
	group_wait(&g);
	return 0;
}

/* Runs the scenario on the client's node; between() turns the world meanwhile. */
static void run(uint64_t seed, scenario *sc, void (*between)(uint64_t ms))
{
	const struct sim_faults slow = { .net_delay_min_ns = 50 * SYS_US,
		.net_delay_max_ns = 2 * SYS_MS, .net_split_ppm = 20000, .shuffle = true };
	uint64_t ms = 0;

	memset(&w, 0, sizeof w);
	w.sim = sim_new(seed, &slow);
	w.server = sim_node_add(w.sim, "server", 1 << 20);
	w.client = sim_node_add(w.sim, "client", 1 << 20);
	sim_node_start(w.server, server_main, NULL);
	sim_node_start(w.client, client_main, &sc);
	while (sim_node_up(w.client) && ms < 600000) {
		sim_run(w.sim, ++ms * SYS_MS);
		if (between != NULL)
			between(ms);
	}
	assert_false(sim_node_up(w.client));
	assert_int_equal(sim_node_result(w.client), 0);
	sim_free(w.sim);
}

/* ---- windows and numbers ---- */
static PARKS void many(struct sys *s, struct dialog *d)
{
	put_many(d, s, 30 * SYS_SEC);
	for (unsigned i = 0; i < PUTTERS; i++)
		check(w.result[i] == 0);
}

static void test_window(void **state)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		run(seed, many, NULL);
		for (unsigned n = 1; n <= PUTTERS; n++)
			assert_int_equal(w.effects[n], 1);
		assert_int_equal(w.requests, PUTTERS);
		assert_int_equal(w.last, PUTTERS);
	}
}

/* Killed every few milliseconds, and started again. */
static void kill_often(uint64_t ms)
{
	if (ms > 400)
		return;
	if (ms % 7 == 3 && sim_node_up(w.server))
		sim_node_kill(w.server);
	if (ms % 7 == 6 && !sim_node_up(w.server))
		sim_node_start(w.server, server_main, NULL);
}

static void test_broken_connections(void **state)
{
	unsigned repeated = 0;

	for (uint64_t seed = 1; seed <= 20; seed++) {
		run(seed, many, kill_often);
		for (unsigned n = 1; n <= PUTTERS; n++)
			assert_int_equal(w.effects[n], 1);
		assert_int_equal(w.last, PUTTERS);
		repeated += w.requests - PUTTERS;
	}
	assert_true(repeated > 0);
}

static PARKS void busy(struct sys *s, struct dialog *d)
{
	w.busy = 200;
	many(s, d);
}

static void test_busy_is_asked_again(void **state)
{
	run(1, busy, NULL);
	assert_int_equal(w.requests, PUTTERS + 200);
	assert_int_equal(w.last, PUTTERS);
}

/* An answer is the end of it: nothing about a change that was refused is unknown. */
static PARKS void refused(struct sys *s, struct dialog *d)
{
	w.refuse = true;
	check(put_once(d, sys_after(s, SYS_SEC), NULL) == E_NOTFOUND);
	check(w.requests == 1);
	w.refuse = false;
	w.busy = UINT_MAX;
	check(put_once(d, sys_after(s, SYS_SEC), NULL) == E_BUSY);
	w.busy = 0;
	check(put_once(d, sys_after(s, SYS_SEC), NULL) == 0);
}

static void test_refusal(void **state)
{
	run(1, refused, NULL);
}

/* ---- what cannot be known ---- */
static PARKS void forgotten(struct sys *s, struct dialog *d)
{
	unsigned unknown = 0;

	check(put_once(d, sys_after(s, SYS_SEC), NULL) == 0);
	w.mute = true;
	put_many(d, s, 10 * SYS_SEC);
	for (unsigned i = 0; i < PUTTERS; i++)
		unknown += w.result[i] == E_UNKNOWN;
	/* Those on their way when the session was lost; the others were not sent before. */
	check(unknown > 0 && unknown <= LIMIT_INFLIGHT_MAX);
	for (unsigned i = 0; i < PUTTERS; i++)
		check(w.result[i] == 0 || w.result[i] == E_UNKNOWN);
}

static void forget_once(uint64_t ms)
{
	if (ms == 300) {
		sim_node_kill(w.server);
		/* A server without memory of the session has none of the window either. */
		memset(w.answered, 1, sizeof w.answered);
		w.forget = true;
		w.mute = false;
		sim_node_start(w.server, server_main, NULL);
	}
}

static void test_forgotten_session(void **state)
{
	run(1, forgotten, forget_once);
}

static PARKS void deadlines(struct sys *s, struct dialog *d)
{
	uint64_t began, number;

	check(put_once(d, sys_after(s, SYS_SEC), &number) == 0);
	w.mute = true;
	began = sys_now_ns(s);
	check(put_once(d, sys_after(s, 2 * SYS_SEC), NULL) == E_UNKNOWN);
	check(stat_once(d, sys_after(s, 3 * SYS_SEC)) == E_TIMEOUT);
	check(sys_now_ns(s) - began < 6 * SYS_SEC);
	w.mute = false;
	check(stat_once(d, sys_after(s, SYS_SEC)) == 0);
	check(put_once(d, sys_after(s, SYS_SEC), &number) == 0);
	check(number == 3);
	sim_node_kill(w.server);
	check(stat_once(d, sys_after(s, SYS_SEC)) < 0);
	check(sys_now_ns(s) - began < 10 * SYS_SEC);
}

static void test_deadlines(void **state)
{
	run(1, deadlines, NULL);
}

/* ---- the first connection ---- */
static PARKS int first_main(struct sys *s, void *arg)
{
	struct dialog_opts o = { .addr = "tcp:server:1000", .token = BYTES("wrong") };
	uint64_t began = sys_now_ns(s);
	static struct dialog d;
	struct err_note note;
	struct group g;

	group_init(&g, sys_loop(s));
	check(dialog_init(&d, s, &g, &o, NULL) == 0);
	check(dialog_connect(&d, sys_after(s, 10 * SYS_SEC), &note) == E_DENIED);
	dialog_fini(&d);
	o = (struct dialog_opts){ .addr = "tcp:server:1001" };
	check(dialog_init(&d, s, &g, &o, NULL) == 0);
	check(dialog_connect(&d, sys_after(s, 10 * SYS_SEC), &note) == E_UNREACH);
	check(sys_now_ns(s) - began < SYS_SEC);
	o.wait = d.wait = true;
	check(dialog_connect(&d, sys_after(s, 2 * SYS_SEC), &note) < 0);
	check(sys_now_ns(s) - began > SYS_SEC);
	dialog_fini(&d);
	group_cancel(&g);
	group_wait(&g);
	return 0;
}

static void test_first_connection(void **state)
{
	memset(&w, 0, sizeof w);
	w.sim = sim_new(1, &sim_no_faults);
	w.server = sim_node_add(w.sim, "server", 1 << 20);
	w.client = sim_node_add(w.sim, "client", 1 << 20);
	sim_node_start(w.server, server_main, NULL);
	sim_run(w.sim, 10 * SYS_MS);
	sim_node_start(w.client, first_main, NULL);
	sim_run(w.sim, 60 * SYS_SEC);
	assert_false(sim_node_up(w.client));
	assert_int_equal(sim_node_result(w.client), 0);
	sim_free(w.sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_window), cmocka_unit_test(test_broken_connections),
		cmocka_unit_test(test_busy_is_asked_again), cmocka_unit_test(test_refusal),
			cmocka_unit_test(test_forgotten_session),
		cmocka_unit_test(test_deadlines), cmocka_unit_test(test_first_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
