/* SPDX-License-Identifier: Apache-2.0 */
/* Over a network that loses, stalls and splits, between machines that crash: every call ends,
 * answers belong to their requests, and nothing is left behind. */
#include "base/check.h"
#include "base/hash.h"
#include "rpc/rpc.h"
#include "sys/sim/sim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { CALLERS = 12, PUTS = 40, SEEDS = 150, BIG = 300000 };

/* ---- the server: a log that is written at the end of a turn and synced a little later ---- */
struct server {
	struct sys *s;
	struct rpc_server *rpc;
	uint64_t index, written, synced;
	struct waitq dirty;
};

static void on_put(void *arg, struct rpc_request *r)
{
	struct server *v = arg;
	struct msg_put m;
	struct msg_put_ok ok;

	check(msg_put_get(r->body.p, r->body.len, r->version, &m) == 0);
	ok.inode = crc32c(0, r->data.p, r->data.len);
	ok.version = ++v->index;
	waitq_wake_one(&v->dirty);
	rpc_reply(r, OP_put_ok, &ok, bytes_of(NULL, 0),
		(struct rpc_gate){ v->index, (m.flags & PUT_DURABLE) != 0 });
}

static void freed(void *arg) { free(arg); }

static void on_read(void *arg, struct rpc_request *r)
{
	struct msg_extent_read m;
	uint8_t *bytes;

	check(msg_extent_read_get(r->body.p, r->body.len, r->version, &m) == 0);
	bytes = malloc(m.len);
	memset(bytes, (int)m.extent, m.len);
	rpc_reply_pinned(r, OP_read_ok, &(struct msg_read_ok){ 0 }, bytes_of(bytes, m.len), freed,
		bytes, RPC_NOW);
}

static void on_write(void *arg, struct rpc_request *r)
{
	struct server *v = arg;
	struct msg_extent_ok ok = { 0 };
	uint8_t *bytes = malloc(r->data_len);
	int rc = rpc_recv_data(r, bytes, r->data_len, sys_after(v->s, 10 * SYS_SEC));

	ok.root = crc32c(0, bytes, r->data_len);
	free(bytes);
	if (rc < 0)
		rpc_reply_error(r, rc, NULL, RPC_NOW);
	else
		rpc_reply(r, OP_extent_ok, &ok, bytes_of(NULL, 0), RPC_NOW);
}

static int log_run(void *arg)
{
	struct server *v = arg;

	for (;;) {
		while (v->synced == v->index)
			if (waitq_wait(&v->dirty, FOREVER) < 0)
				return 0;
		if (fiber_late() < 0)
			return 0;
		v->written = v->index;
		rpc_release(v->rpc, v->written, v->synced);
		if (fiber_sleep(sys_after(v->s, 3 * SYS_MS)) < 0)
			return 0;
		v->synced = v->written;
		rpc_release(v->rpc, v->written, v->synced);
	}
}

static int serve(struct sys *s, void *arg)
{
	static const struct rpc_op ops[] = {
		{ OP_put, RPC_INLINE, on_put },
		{ OP_extent_read, RPC_INLINE, on_read },
		{ OP_extent_write, RPC_STREAM, on_write },
	};
	struct server v = { .s = s };
	struct rpc_service svc = { .ops = ops, .n_ops = 3, .arg = &v };
	const char *bound;
	struct group g;

	waitq_init(&v.dirty);
	group_init(&g, sys_loop(s));
	check(rpc_server_new(s, &svc, &v.rpc) == 0);
	if (rpc_server_listen(v.rpc, "tcp:*:7", &bound, NULL) == 0
			&& fiber_start(&g, "log", log_run, &v) == 0)
		(void)fiber_sleep(FOREVER);
	group_cancel(&g);
	(void)group_wait(&g);
	rpc_server_free(v.rpc);
	return 0;
}

/* ---- the client: callers that share a connection, which one of them renews ---- */
struct client {
	struct sys *s;
	struct rpc_conn *c;
	struct fiber_lock renew;
	struct group conns;
	unsigned users, puts, reads, writes, breaks, timeouts;
};

static struct rpc_conn *connection(struct client *k)
{
	struct rpc_connect o = { .addr = "tcp:b:7", .group = &k->conns };
	struct msg_hello_ok ok;

	if (fiber_lock(&k->renew, sys_after(k->s, 100 * SYS_SEC)) < 0)
		return NULL;
	while (k->c == NULL || !rpc_conn_open(k->c)) {
		struct rpc_conn *old = k->c;

		k->c = NULL;
		rpc_close(old); /* waits for those who are inside a call */
		if (rpc_connect(k->s, &o, sys_after(k->s, SYS_SEC), &k->c, &ok, NULL) == 0)
			break;
		k->c = NULL;
		if (fiber_sleep(sys_after(k->s, 20 * SYS_MS)) < 0)
			break;
	}
	fiber_unlock(&k->renew);
	return k->c;
}

struct caller { struct client *k; unsigned i; };

static int put(struct client *k, struct prng *p, struct rpc_call *call)
{
	uint8_t data[700];
	uint64_t len = prng_below(p, sizeof data);
	struct msg_put m = { .flags = prng_odds(p, 1, 3) ? PUT_DURABLE : 0 };
	struct msg_put_ok ok;
	int rc;

	memset(data, (int)prng_next(p), len);
	call->op = OP_put;
	call->msg = &m;
	call->data = bytes_of(data, len);
	rc = rpc_ask(k->c, call, OP_put_ok, &ok, sys_after(k->s, 2 * SYS_SEC), NULL);
	if (rc == 0)
		check(ok.inode == crc32c(0, data, len));
	k->puts += rc == 0;
	return rc;
}

static int read_big(struct client *k, struct prng *p, struct rpc_call *call)
{
	uint8_t *into = malloc(BIG), value = (uint8_t)prng_next(p);
	struct msg_extent_read m = { .extent = value, .len = (uint32_t)prng_below(p, BIG) + 1 };
	struct msg_read_ok ok;
	int rc;

	*call = (struct rpc_call){ .op = OP_extent_read, .plain = true, .msg = &m };
	if (prng_odds(p, 1, 2)) {
		call->into = into;
		call->into_cap = BIG;
	}
	rc = rpc_ask(k->c, call, OP_read_ok, &ok, sys_after(k->s, prng_below(p, 500) * SYS_MS),
		NULL);
	if (rc == 0) {
		check(call->reply_data.len == m.len);
		for (uint32_t i = 0; i < m.len; i += 97)
			check(call->reply_data.p[i] == value);
	} else {
		memset(into, 0, BIG); /* ours again, whatever still arrives */
	}
	k->reads += rc == 0;
	free(into);
	return rc;
}

static int write_big(struct client *k, struct prng *p, struct rpc_call *call)
{
	size_t len = prng_below(p, BIG) + 1;
	uint8_t *data = malloc(len);
	struct msg_extent_write m = { 0 };
	struct msg_extent_ok ok;
	uint32_t root;
	int rc;

	memset(data, (int)prng_next(p), len);
	root = crc32c(0, data, len);
	*call = (struct rpc_call){ .op = OP_extent_write, .plain = true, .msg = &m,
		.data = bytes_of(data, len) };
	rc = rpc_ask(k->c, call, OP_extent_ok, &ok, sys_after(k->s, prng_below(p, 900) * SYS_MS),
		NULL);
	if (rc == 0)
		check(ok.root == root);
	k->writes += rc == 0;
	free(data);
	return rc;
}

static int caller_run(void *arg)
{
	struct caller *me = arg;
	struct client *k = me->k;
	struct prng p = prng_fork(me->i, 77);

	for (unsigned left = PUTS; left > 0;) {
		struct rpc_call call = { .op = 0 };
		uint64_t what = prng_below(&p, 10);
		int rc;

		if (connection(k) == NULL)
			return 0;
		rc = what == 0 ? read_big(k, &p, &call) : what == 1 ? write_big(k, &p, &call)
			: put(k, &p, &call);
		rpc_call_fini(&call);
		check(rc == 0 || rc == E_CLOSED || rc == E_TIMEOUT || rc == E_CANCELED);
		k->breaks += rc == E_CLOSED;
		k->timeouts += rc == E_TIMEOUT;
		left -= rc == 0;
		if (rc == E_CANCELED)
			return 0;
	}
	return 0;
}

static int client_main(struct sys *s, void *arg)
{
	struct client *k = arg;
	struct caller callers[CALLERS];
	struct group g;

	k->s = s;
	k->c = NULL;
	fiber_lock_init(&k->renew);
	group_init(&g, sys_loop(s));
	group_init(&k->conns, sys_loop(s));
	k->conns.keep_going = true;
	for (unsigned i = 0; i < CALLERS; i++) {
		callers[i] = (struct caller){ k, i };
		check(fiber_start(&g, "caller", caller_run, &callers[i]) == 0);
	}
	(void)group_wait(&g);
	rpc_close(k->c);
	(void)group_wait(&k->conns);
	return 0;
}

/* ---- worlds ---- */
static const struct sim_faults bad_net = {
	.net_lose_ppm = 3000, .net_delay_min_ns = 10 * SYS_US, .net_delay_max_ns = 300 * SYS_US,
	.net_stall_ppm = 5000, .net_split_ppm = 50000, .clock_late_ppm = 100, .shuffle = true,
};

static uint64_t run(uint64_t seed, struct client *total, int pattern)
{
	struct sim *w = sim_new(seed, &bad_net);
	struct sim_node *a, *b;
	struct client k = { 0 };
	uint64_t unseed;

	sim_fill_stacks(w, pattern);
	a = sim_node_add(w, "a", 1 << 20);
	b = sim_node_add(w, "b", 1 << 20);
	sim_node_start(b, serve, NULL);
	sim_node_start(a, client_main, &k);
	for (unsigned i = 1; sim_node_up(a) && i < 40; i++) {
		uint64_t what = prng_below(sim_workload(w), 6);

		sim_run(w, i * 300 * SYS_MS);
		if (what == 0)
			sim_node_crash(b);
		else if (what == 1)
			sim_node_kill(b);
		else if (what == 2)
			sim_node_pause(b, 100 * SYS_MS);
		if (!sim_node_up(b))
			sim_node_start(b, serve, NULL);
	}
	if (seed % 4 == 0 && sim_node_up(a))
		sim_node_crash(a);
	sim_run(w, 1000 * SYS_SEC);
	check(!sim_node_up(a)); /* every call has ended */
	if (seed % 4 != 0)
		check(k.puts + k.reads + k.writes == CALLERS * PUTS);
	total->puts += k.puts;
	total->reads += k.reads;
	total->writes += k.writes;
	total->breaks += k.breaks;
	total->timeouts += k.timeouts;
	unseed = sim_unseed(w);
	sim_free(w);
	return unseed;
}

static void test_loss(void **state)
{
	struct client total = { 0 };

	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		run(seed, &total, -1);
	print_message("%u puts, %u reads, %u writes, %u calls cut off, %u timed out\n", total.puts,
		total.reads, total.writes, total.breaks, total.timeouts);
	assert_true(total.breaks > 100);
	assert_true(total.timeouts > 100);
	assert_true(total.reads > 500);
	assert_true(total.writes > 500);
}

/* Nobody reads what nobody wrote. */
static void test_same_under_two_patterns(void **state)
{
	struct client total = { 0 };

	for (uint64_t seed = 1; seed <= 5; seed++)
		assert_true(run(seed, &total, 0x11) == run(seed, &total, 0xee));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_loss),
		cmocka_unit_test(test_same_under_two_patterns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
