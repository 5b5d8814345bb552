/* SPDX-License-Identifier: Apache-2.0 */
/* Whoever of three leads, and however it stops doing so, each change is done once, under one
 * number, and soon after somebody leads again.
 *
 * The nodes share one memory of what was done for which number, as replicas do; `lead` says which
 * of them answers.  A node that does not lead refuses, with a hint when it has one. */
#include "client/dialog.h"
#include "base/check.h"
#include "sys/sim/sim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { NODES = 3, PUTS_MAX = 20000, SEEDS = 15 };

static struct node {
	unsigned i;
	struct sim_node *sim;
	struct rpc_server *server;
	unsigned hellos, let_in;
} nodes[NODES];
static struct world {
	struct sim *sim;
	struct sim_node *client;
	int lead;                        /* -1: nobody */
	int stuck;                       /* it would lead, and gets nothing done; -1: none */
	bool hints, mute;
	uint32_t put_of[PUTS_MAX + 1];   /* number -> which put, plus one; 0: not done */
	uint64_t last, led_ns, after_ns; /* after_ns: the first put since somebody leads again */
	unsigned n_done, n_asked;
	uint64_t longest_ns;
	bool over;
	struct rpc_request kept[64];
	unsigned n_kept;
} w;
static const char *const addrs[NODES] = { "tcp:n0:1000", "tcp:n1:1000", "tcp:n2:1000" };

/* ---- the nodes ---- */
static int refuse(const struct node *n, struct err_note *note)
{
	return err_set(note, E_NOTPRIMARY, "n%u does not lead", n->i);
}

static PARKS int on_hello(void *arg, struct rpc_conn *c, const struct msg_hello *h,
	struct msg_hello_ok *ret_ok, char ret_hint[SYS_ADDR_MAX], struct err_note *note)
{
	static uint8_t room[NODES * 64];
	struct wire_list_builder b = wire_list_begin(room, sizeof room, rpc_conn_version(c));
	struct node *n = arg;

	n->hellos++;
	if (w.lead != (int)n->i && w.stuck != (int)n->i) {
		if (w.hints && w.lead >= 0)
			snprintf(ret_hint, SYS_ADDR_MAX, "%s", addrs[w.lead]);
		return refuse(n, note);
	}
	n->let_in++;
	for (unsigned i = 0; i < NODES; i++)
		check(sub_node_addr_add(&b, &(struct sub_node_addr){
			bytes_of(addrs[i], strlen(addrs[i])) }));
	ret_ok->nodes = wire_list_end(&b);
	ret_ok->last_number = w.last;
	return 0;
}

static void on_put(void *arg, struct rpc_request *r)
{
	struct node *n = arg;
	struct msg_put_ok ok = { .inode = r->cookie };
	struct err_note note;
	struct msg_put m;

	check(msg_put_get(r->body.p, r->body.len, r->version, &m) == 0);
	check(r->cookie > 0 && r->cookie <= PUTS_MAX);
	w.n_asked++;
	if (w.lead != (int)n->i && w.stuck != (int)n->i) {
		rpc_reply_error(r, refuse(n, &note), &note, RPC_NOW);
		return;
	}
	if (w.mute || w.stuck == (int)n->i) {
		check(w.n_kept < 64);
		w.kept[w.n_kept++] = *r;
		return;
	}
	/* A number is one put's for ever. */
	check(w.put_of[r->cookie] == 0 || w.put_of[r->cookie] == m.ttl_ms + 1);
	w.put_of[r->cookie] = (uint32_t)m.ttl_ms + 1;
	w.last = r->cookie > w.last ? r->cookie : w.last;
	if (w.led_ns != 0 && w.after_ns == 0)
		w.after_ns = sim_now_ns(w.sim);
	rpc_reply(r, OP_put_ok, &ok, bytes_of(NULL, 0), RPC_NOW);
}

static void on_ping(void *arg, struct rpc_request *r) { rpc_reply_ok(r, RPC_NOW); }

static void on_lost(void *arg, struct rpc_conn *c)
{
	unsigned left = 0;

	for (unsigned i = 0; i < w.n_kept; i++)
		if (w.kept[i].conn == c)
			rpc_drop(&w.kept[i]);
		else
			w.kept[left++] = w.kept[i];
	w.n_kept = left;
}

static PARKS int node_main(struct sys *s, void *arg)
{
	static const struct rpc_op ops[] = { { OP_put, RPC_INLINE, on_put },
		{ OP_ping, RPC_INLINE, on_ping } };
	struct rpc_service svc = { .ops = ops, .n_ops = 2, .arg = arg, .hello = on_hello,
		.lost = on_lost };
	struct node *n = arg;
	const char *bound;
	int rc = rpc_server_new(s, &svc, &n->server);

	check(rc == 0);
	rc = rpc_server_listen(n->server, "tcp:*:1000", &bound, NULL);
	while (rc == 0)
		rc = fiber_sleep(sys_after(s, SYS_SEC));
	rpc_server_free(n->server);
	return 0;
}

/* ---- the client: puts, one behind the other, in some fibers ---- */
static uint64_t put_within_ns;
static uint32_t put_last;

static PARKS int put_one(struct dialog *d, uint32_t which, uint64_t within_ns)
{
	struct msg_put m = { .bucket = 1, .ttl_ms = which, .name = BYTES("k") };
	struct ask a = { .op = OP_put, .reply_op = OP_put_ok, .msg = &m, .changes = true };
	uint64_t began_ns = sys_now_ns(d->sys), took_ns;
	struct msg_put_ok ok;
	int rc = dialog_ask(d, &a, &ok, sys_after(d->sys, within_ns), NULL);

	ask_fini(&a);
	took_ns = sys_now_ns(d->sys) - began_ns;
	w.longest_ns = took_ns > w.longest_ns ? took_ns : w.longest_ns;
	return rc;
}

static PARKS int putter(void *arg)
{
	struct dialog *d = arg;

	while (!w.over) {
		check(put_one(d, put_last++, put_within_ns) == 0);
		w.n_done++;
		if (fiber_sleep(sys_after(d->sys, SYS_MS)) < 0)
			return 0;
	}
	return 0;
}

static const char *given = "tcp:n0:1000";
static PARKS int (*scenario)(struct sys *s, struct dialog *d);

static PARKS int puts_until_over(struct sys *s, struct dialog *d)
{
	struct group g;

	group_init(&g, sys_loop(s));
	for (unsigned i = 0; i < 8; i++)
		check(fiber_start(&g, "put", putter, d) == 0);
	return group_wait(&g);
}

static PARKS int client_main(struct sys *s, void *arg)
{
	struct dialog_opts o = { .addr = given, .name = "test", .wait = true };
	static struct dialog d;
	struct group g;
	int rc;

	group_init(&g, sys_loop(s));
	g.keep_going = true;
	check(dialog_init(&d, s, &g, &o, NULL) == 0);
	rc = scenario(s, &d);
	dialog_fini(&d);
	group_cancel(&g);
	group_wait(&g);
	return rc;
}

static void world_begin(uint64_t seed, PARKS int (*sc)(struct sys *s, struct dialog *d))
{
	const struct sim_faults slow = { .net_delay_min_ns = 50 * SYS_US,
		.net_delay_max_ns = 2 * SYS_MS, .net_split_ppm = 20000, .shuffle = true };

	memset(&w, 0, sizeof w);
	memset(nodes, 0, sizeof nodes);
	w.sim = sim_new(seed, &slow);
	w.hints = true;
	w.stuck = -1;
	for (unsigned i = 0; i < NODES; i++) {
		nodes[i].i = i;
		nodes[i].sim = sim_node_add(w.sim, i == 0 ? "n0" : i == 1 ? "n1" : "n2", 1 << 20);
		sim_node_start(nodes[i].sim, node_main, &nodes[i]);
	}
	w.client = sim_node_add(w.sim, "client", 1 << 20);
	put_last = 0;
	put_within_ns = 30 * SYS_SEC;
	scenario = sc;
	sim_node_start(w.client, client_main, NULL);
}

static void pass_ms(uint64_t ms) { sim_run(w.sim, sim_now_ns(w.sim) + ms * SYS_MS); }

static void leads(int i)
{
	w.lead = i;
	w.led_ns = sim_now_ns(w.sim);
	w.after_ns = 0;
}

/* Nobody was turned away, no number was two puts', no put had two numbers. */
static void world_end(void)
{
	static uint32_t times[PUTS_MAX + 1];

	w.over = true;
	for (unsigned i = 0; i < 60000 && sim_node_up(w.client); i++)
		pass_ms(1);
	assert_false(sim_node_up(w.client));
	assert_int_equal(sim_node_result(w.client), 0);
	memset(times, 0, sizeof times);
	for (uint64_t n = 1; n <= w.last; n++)
		if (w.put_of[n] != 0)
			times[w.put_of[n]]++;
	for (uint32_t i = 1; i <= put_last; i++)
		assert_true(times[i] <= 1);
	sim_free(w.sim);
}

/* Somebody leads since led_ns: how long until the first put was done, in milliseconds. */
static uint64_t recovered_ms(void)
{
	for (unsigned i = 0; i < 5000 && w.after_ns == 0; i++)
		pass_ms(1);
	assert_true(w.after_ns != 0);
	return (w.after_ns - w.led_ns) / SYS_MS;
}

/* ---- how one stops to lead ---- */
static void test_killed(void **state)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		world_begin(seed, puts_until_over);
		pass_ms(100);
		assert_true(w.n_done > 100);
		sim_node_kill(nodes[0].sim);
		w.lead = -1;
		pass_ms(120);
		leads(1 + (int)(seed % 2));
		assert_true(recovered_ms() < 100);
		pass_ms(100);
		assert_true(w.longest_ns < 250 * SYS_MS);
		/* It comes back and leads again, after a planned hand-over. */
		sim_node_start(nodes[0].sim, node_main, &nodes[0]);
		pass_ms(20);
		w.longest_ns = 0;
		leads(0);
		assert_true(recovered_ms() < 30);
		pass_ms(100);
		assert_true(w.longest_ns < 40 * SYS_MS);
		world_end();
	}
}

static void test_frozen(void **state)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		world_begin(seed, puts_until_over);
		pass_ms(100);
		sim_node_pause(nodes[0].sim, 3 * SYS_SEC);
		w.lead = -1;
		pass_ms(130);
		leads(2);
		assert_true(recovered_ms() < 100);
		pass_ms(4000); /* it thaws */
		assert_true(w.longest_ns < 300 * SYS_MS);
		assert_int_equal(nodes[2].let_in, 1);
		world_end();
	}
}

/* Not a word from the host, neither of what is connected nor of what would. */
static void test_cut_off(void **state)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		world_begin(seed, puts_until_over);
		pass_ms(100);
		w.lead = -1;
		sim_net_cut(nodes[0].sim, w.client, true);
		sim_net_cut(w.client, nodes[0].sim, true);
		pass_ms(130);
		leads(1);
		assert_true(recovered_ms() < 100);
		/* The next one dies: now two of three do not answer. */
		sim_node_kill(nodes[1].sim);
		w.lead = -1;
		pass_ms(120);
		leads(2);
		assert_true(recovered_ms() < 100);
		world_end();
	}
}

/* It answers, and is cut off from its replicas: it lets everybody in and commits nothing. */
static void test_deposed(void **state)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		world_begin(seed, puts_until_over);
		pass_ms(100);
		w.stuck = 0;
		w.lead = -1;
		pass_ms(150);
		leads(1);
		assert_true(recovered_ms() < 1000);
		pass_ms(50);
		w.longest_ns = 0;
		pass_ms(2000);
		assert_true(w.longest_ns < 40 * SYS_MS);
		world_end();
	}
}

/* It refuses what is under way, and says who leads; nobody waits. */
static void test_handed_over(void **state)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		world_begin(seed, puts_until_over);
		pass_ms(100);
		for (int i = 1; i < 10; i++) {
			w.longest_ns = 0;
			leads(i % NODES);
			pass_ms(50);
			assert_true(w.longest_ns < 40 * SYS_MS);
			assert_true(w.after_ns != 0);
		}
		world_end();
	}
}

/* ---- one that is only slow is not left ---- */
static PARKS int one_put(struct sys *s, struct dialog *d)
{
	check(put_one(d, put_last++, 30 * SYS_SEC) == 0);
	w.mute = true;
	check(put_one(d, put_last++, 3 * SYS_SEC) == E_UNKNOWN);
	w.mute = false;
	check(put_one(d, put_last++, 30 * SYS_SEC) == 0);
	return 0;
}

static void test_slow(void **state)
{
	world_begin(1, one_put);
	pass_ms(5000);
	assert_int_equal(nodes[0].let_in, 1);
	assert_true(nodes[1].hellos < 10);
	world_end();
	/* And one that answers nothing, but still leads: the others know. */
	world_begin(1, puts_until_over);
	pass_ms(100);
	sim_node_pause(nodes[0].sim, SYS_SEC);
	pass_ms(2000);
	assert_int_equal(nodes[0].let_in, 1);
	assert_true(nodes[1].hellos > 0);
	assert_true(nodes[1].hellos < 20);
	world_end();
}

/* ---- nobody leads ---- */
static PARKS int nobody(struct sys *s, struct dialog *d)
{
	uint64_t began_ns = sys_now_ns(s);

	w.lead = -1; /* said by the node that is connected */
	check(put_one(d, put_last++, SYS_SEC) == E_UNKNOWN);
	/* Never sent: nothing is unknown. */
	check(put_one(d, put_last++, SYS_SEC) == E_NOTPRIMARY);
	check(sys_now_ns(s) - began_ns < 3 * SYS_SEC);
	check(nodes[1].hellos < 100);
	w.lead = 1;
	check(put_one(d, put_last++, 2 * SYS_SEC) == 0);
	return 0;
}

static PARKS int connected_before(struct sys *s, struct dialog *d)
{
	check(put_one(d, put_last++, 30 * SYS_SEC) == 0);
	return nobody(s, d);
}

static void test_nobody(void **state)
{
	world_begin(1, connected_before);
	world_end();
}

/* ---- the first connection ---- */
static PARKS int first(struct sys *s, struct dialog *d)
{
	struct err_note note;

	d->wait = false;
	return dialog_connect(d, sys_after(s, SYS_SEC), &note);
}

/* With one address given, which does not lead and has no hint; with a hint; and with two, of which
 * the first is nobody's. */
static void test_first(void **state)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		given = "tcp:n1:1000";
		world_begin(seed, first);
		world_end();
		given = "tcp:n7:1000,tcp:n1:999,tcp:n2:1000";
		world_begin(seed, first);
		world_end();
		given = "tcp:n1:999,tcp:n2:998";
		world_begin(seed, first);
		pass_ms(50);
		assert_int_equal(sim_node_result(w.client), E_UNREACH);
		sim_free(w.sim);
		given = "tcp:n1:1000";
		world_begin(seed, first);
		w.lead = -1;
		pass_ms(900);
		assert_true(sim_node_up(w.client)); /* a cluster: it waits */
		pass_ms(200);
		assert_int_equal(sim_node_result(w.client), E_NOTPRIMARY);
		sim_free(w.sim);
	}
	given = addrs[0];
}

/* ---- who may be followed ---- */
static PARKS int routes(struct sys *s, void *arg)
{
	static struct route r;
	struct err_note note;

	check(route_init(&r, s, "tls:a:1", &note) == 0);
	check(!route_hint(&r, "tcp:b:1"));
	check(!route_hint(&r, "tcp:127.0.0.1:1"));
	check(!route_hint(&r, "unix:/sock"));
	check(!route_hint(&r, "nonsense"));
	check(r.n == 1);
	check(route_hint(&r, "tls:b:1"));
	check(strcmp(route_name(&r), "tls:b:1") == 0);
	check(route_init(&r, s, "unix:/sock", &note) == 0);
	check(!route_hint(&r, "tcp:b:1"));
	check(route_hint(&r, "tcp:127.0.0.1:1"));
	check(route_hint(&r, "unix:/other"));
	check(route_hint(&r, "tls:b:1"));
	check(route_init(&r, s, "tcp:127.0.0.1:1", &note) == 0);
	check(!route_hint(&r, "tcp:10.0.0.1:1"));
	check(!route_hint(&r, "unix:/other"));
	check(route_hint(&r, "tcp:localhost:1"));
	check(route_hint(&r, "tls:b:1"));
	check(route_init(&r, s, "unix:/sock,tcp:a:1,unix:/sock", &note) == 0);
	check(r.n == 2);
	check(route_hint(&r, "tcp:b:1"));
	check(route_init(&r, s, "", &note) == E_INVALID);
	check(route_init(&r, s, "tcp:a:1,", &note) == E_INVALID);
	check(route_init(&r, s, "http:a:1", &note) == E_INVALID);
	check(route_init(&r, s, "tcp:a:1,tcp:a:2,tcp:a:3,tcp:a:4,tcp:a:5,tcp:a:6,tcp:a:7,tcp:a:8,"
		"tcp:a:9", &note) == E_INVALID);
	/* However much is hinted, what was given stays. */
	check(route_init(&r, s, "tcp:a:1", &note) == 0);
	for (unsigned i = 0; i < 100; i++) {
		char addr[SYS_ADDR_MAX];

		snprintf(addr, sizeof addr, "tcp:b:%u", i);
		check(route_hint(&r, addr));
		check(strcmp(route_name(&r), addr) == 0);
	}
	check(r.n == ROUTE_ADDRS_MAX);
	check(strcmp(r.addrs[0].text, "tcp:a:1") == 0);
	return 0;
}

static void test_protection(void **state)
{
	struct sim *sim = sim_new(1, &sim_no_faults);
	struct sim_node *n = sim_node_add(sim, "n", 1 << 20);

	sim_node_start(n, routes, NULL);
	sim_run(sim, SYS_SEC);
	assert_false(sim_node_up(n));
	assert_int_equal(sim_node_result(n), 0);
	sim_free(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed), cmocka_unit_test(test_frozen),
		cmocka_unit_test(test_cut_off), cmocka_unit_test(test_deposed),
		cmocka_unit_test(test_handed_over),
		cmocka_unit_test(test_slow), cmocka_unit_test(test_nobody),
		cmocka_unit_test(test_first), cmocka_unit_test(test_protection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
