/* SPDX-License-Identifier: Apache-2.0 */
/* Three replicas serve a shard over the simulated door: clients are let in by the one that leads
 * and are told of it by the others; who leads no more answers nothing; what was asked of it is
 * taken up by the next one, once. */
#include "meta/serve.h"
#include "base/check.h"
#include "coord/coord_sim.h"
#include "sys/sim/sim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N = 3, WAIT_SEC = 30 };
#define KEY BYTES("key!")

struct node {
	struct sim_node *sim;
	struct sys *s;
	struct serve *v;
	char name[4];
	uint64_t id;
	bool stop, failed;
	unsigned n_pings;
};
static struct sim *world;
static struct sim_node *client;
static struct coord_sim *store;
static struct node nodes[N];
static struct sys *me;
static struct group fibers;
static void (*running)(void);
static struct err_note note;

/* ---- servers ---- */
static int resolve(void *arg, struct bytes token, struct principal *ret_p, struct err_note *n)
{
	if (bytes_equal(token, BYTES("job")))
		*ret_p = (struct principal){ .job = 7 };
	else if (bytes_equal(token, KEY))
		*ret_p = (struct principal){ .admin = true };
	else
		return err_set(n, E_DENIED, "the token is nobody's");
	return 0;
}

static void on_status(void *arg, struct rpc_request *r)
{
	struct node *n = arg;

	n->n_pings++;
	rpc_reply_ok(r, RPC_NOW);
}

static void on_failed(void *arg, int rc, const struct err_note *n)
{
	struct node *node = arg;

	fprintf(stderr, "%s: %s: %s\n", node->name, err_name(rc), n->text);
	node->failed = true;
}

static PARKS int announce(struct node *n, struct coord *c)
{
	struct coord_node row = { .id = n->id, .role = "meta" }, now = { 0 };
	int rc = 0;

	snprintf(row.address, sizeof row.address, "tcp:%s:7000", n->name);
	do {
		rc = coord_node_put(c, now.revision, &row, sys_after(n->s, SYS_SEC), &now, NULL);
	} while (rc == E_CONFLICT);
	return rc;
}

static PARKS int serve_until_told(struct node *n, struct coord *c)
{
	static const struct auth auth = { .resolve = resolve };
	static const struct rpc_op ops[] = { { OP_status, RPC_INLINE, on_status } };
	static const struct db_opts rows = { .log_segment_bytes = 256 << 10 };
	struct serve_opts o = { .replica = { .dir = "/meta", .db = &rows, .coord = c, .id = n->id,
			.first_target = n->id == 1 ? N : 0, .token = KEY },
		.slab_bytes = 1 << 20, .auth = &auth, .ops = ops, .n_ops = 1, .ops_arg = n,
		.failed = on_failed, .arg = n };
	char addr[32];
	const char *bound;
	int rc;

	snprintf(addr, sizeof addr, "tcp:%s:7000", n->name);
	if ((rc = serve_open(n->s, &o, &n->v, &note)) < 0)
		return rc;
	rc = serve_listen(n->v, addr, &bound, &note);
	while (rc == 0 && !n->stop && !n->failed)
		rc = fiber_sleep(sys_after(n->s, SYS_MS));
	fiber_shield(sys_after(n->s, WAIT_SEC * SYS_SEC));
	(void)serve_close(n->v, NULL);
	n->v = NULL;
	fiber_unshield();
	return rc;
}

static int node_main(struct sys *s, void *arg)
{
	struct node *n = arg;
	struct coord *c = NULL;
	int rc;

	n->s = s;
	n->stop = n->failed = false;
	rc = coord_sim_open(store, s, n->name, &c, &note);
	if (rc == 0)
		rc = announce(n, c);
	if (rc == 0)
		rc = serve_until_told(n, c);
	if (rc < 0)
		fprintf(stderr, "%s: %s: %s\n", n->name, err_name(rc), note.text);
	fiber_shield(sys_after(s, WAIT_SEC * SYS_SEC));
	coord_close(c);
	fiber_unshield();
	return rc;
}

static void nap(uint64_t ms)
{
	check(fiber_sleep(sys_after(me, ms * SYS_MS)) == 0);
}

/* A leader among the others than `but`, and a set of so many. */
static int await_leader(int but, uint32_t n_in_sync)
{
	for (int i = 0; i < WAIT_SEC * 1000; i++) {
		for (int k = 0; k < N; k++) {
			struct replicate_status st;
			uint32_t n = 1;

			if (k == but || nodes[k].v == NULL || serve_shard(nodes[k].v) == NULL)
				continue;
			replicate_status(serve_replicate(nodes[k].v), &st);
			for (uint32_t p = 0; p < st.n_peers; p++)
				n += st.peers[p].in_sync;
			if (st.state == REPLICA_PRIMARY && n >= n_in_sync)
				return k;
		}
		nap(1);
	}
	check(false); /* nobody leads */
	return -1;
}

static void cut(int k, bool off)
{
	for (int i = 0; i < N; i++) {
		if (i == k)
			continue;
		sim_net_cut(nodes[k].sim, nodes[i].sim, off);
		sim_net_cut(nodes[i].sim, nodes[k].sim, off);
	}
	coord_sim_cut(store, nodes[k].name, off);
}

/* ---- a client ---- */
static struct rpc_call call;

static uint64_t bucket;
static uint8_t protection;
static char hint[SYS_ADDR_MAX];
static unsigned n_nodes;

static void greeted(void *arg, const struct msg_hello_ok *ok)
{
	struct wire_list l = ok->nodes;
	struct sub_node_addr a;

	for (n_nodes = 0; sub_node_addr_next(&l, &a);)
		n_nodes++;
}

static int enter(int k, unsigned role, struct bytes token, struct rpc_conn **ret_c)
{
	char addr[32];
	struct rpc_connect o = { .addr = addr, .group = &fibers,
		.hello = { .role = (uint8_t)role, .client_hi = 1, .client_lo = 2, .token = token },
		.greeted = greeted, .ret_hint = hint };
	struct msg_hello_ok ok;

	hint[0] = '\0';
	snprintf(addr, sizeof addr, "tcp:%s:7000", nodes[k].name);
	return rpc_connect(me, &o, sys_after(me, 2 * SYS_SEC), ret_c, &ok, &note);
}

static struct rpc_conn *client_of(int k)
{
	struct rpc_conn *c;
	int rc = enter(k, ROLE_CLIENT, KEY, &c);

	if (rc < 0)
		fprintf(stderr, "%s: %s\n", err_name(rc), note.text);
	check(rc == 0);
	return c;
}

static int ask(struct rpc_conn *c, uint64_t number, uint16_t op, const void *msg, struct bytes data,
	uint16_t reply, void *ret, uint64_t ms)
{
	rpc_call_fini(&call);
	call = (struct rpc_call){ .op = op, .plain = number == 0, .cookie = number, .msg = msg,
		.data = data };
	return rpc_ask(c, &call, reply, ret, sys_after(me, ms * SYS_MS), &note);
}

static void make_bucket(struct rpc_conn *c, uint64_t number)
{
	struct msg_bucket_create m = { .name = BYTES("b"), .protection = protection,
		.exists_ok = 1 };
	struct sub_bucket_info info;
	struct msg_bucket_ok ok;

	check(ask(c, number, OP_bucket_create, &m, bytes_of(NULL, 0), OP_bucket_ok, &ok, 2000) ==
		0);
	check(sub_bucket_info_next(&ok.bucket, &info));
	bucket = info.bucket;
}

static int put(struct rpc_conn *c, uint64_t number, const char *name, const char *text, uint64_t ms)
{
	struct msg_put m = { .bucket = bucket, .name = bytes_of(name, strlen(name)),
		.flags = PUT_IF_ABSENT };
	struct msg_put_ok ok;

	return ask(c, number, OP_put, &m, bytes_of(text, strlen(text)), OP_put_ok, &ok, ms);
}

static int get(struct rpc_conn *c, const char *name, uint64_t wait_ms, uint64_t ms)
{
	struct msg_get m = { .bucket = bucket, .name = bytes_of(name, strlen(name)),
		.flags = wait_ms > 0 ? GET_WAIT : 0, .wait_ms = (uint32_t)wait_ms };
	struct msg_get_ok ok;

	return ask(c, 0, OP_get, &m, bytes_of(NULL, 0), OP_get_ok, &ok, ms);
}

/* ---- what must hold ---- */
static void who_does_not_lead_says_who_does(void)
{
	int k = await_leader(-1, N);
	struct rpc_conn *c;
	char addr[32];

	snprintf(addr, sizeof addr, "tcp:%s:7000", nodes[k].name);
	for (int i = 0; i < N; i++) {
		if (i == k)
			continue;
		check(enter(i, ROLE_CLIENT, KEY, &c) == E_NOTPRIMARY);
		check(strcmp(hint, addr) == 0);
		check(enter(i, ROLE_CLIENT, BYTES("wrong"), &c) == E_NOTPRIMARY);
	}
	check(enter(k, ROLE_CLIENT, BYTES("wrong"), &c) == E_DENIED);
	c = client_of(k);
	check(n_nodes == N);
	make_bucket(c, 1);
	check(put(c, 2, "x", "1", 2000) == 0);
	rpc_close(c);
}

/* Cut off from the others: what it answers could be wrong, so it answers nothing. */
static void who_is_cut_off_answers_nothing(void)
{
	int old = await_leader(-1, N), k;
	struct rpc_conn *c = client_of(old), *d;

	make_bucket(c, 1);
	check(put(c, 2, "x", "1", 2000) == 0);
	check(get(c, "x", 0, 2000) == 0);
	cut(old, true);
	k = await_leader(old, N - 1);
	d = client_of(k);
	check(get(d, "x", 0, 2000) == 0);
	check(put(d, 3, "new", "1", 2000) == 0);
	if (nodes[old].v != NULL && serve_shard(nodes[old].v) != NULL) {
		check(get(c, "new", 0, 200) != E_NOTFOUND);
		check(put(c, 4, "lost", "1", 200) < 0);
	}
	cut(old, false);
	check(await_leader(old, N) == k);
	check(serve_shard(nodes[old].v) == NULL);
	check(!rpc_conn_open(c));
	check(get(d, "lost", 0, 2000) == E_NOTFOUND); /* never written by all */
	rpc_close(c);
	rpc_close(d);
}

/* A put whose answer was held when its server was deposed, and asked again. */
static void what_was_asked_is_done_once(void)
{
	int old = await_leader(-1, N), k;
	struct rpc_conn *c = client_of(old);

	make_bucket(c, 1);
	check(put(c, 2, "x", "1", 2000) == 0);
	cut(old, true);
	check(put(c, 3, "y", "2", 100) == E_TIMEOUT || !rpc_conn_open(c));
	k = await_leader(old, N - 1);
	cut(old, false);
	rpc_close(c);
	c = client_of(k);
	check(put(c, 2, "x", "1", 2000) == 0);  /* remembered: else EXISTS */
	check(put(c, 3, "y", "2", 2000) == 0);
	check(put(c, 3, "y", "2", 2000) == 0);
	check(put(c, 4, "y", "2", 2000) == E_EXISTS);
	check(get(c, "y", 0, 2000) == 0);
	check(bytes_equal(call.reply_data, BYTES("2")));
	rpc_close(c);
}

struct waiting {
	struct rpc_conn *c;
	struct rpc_call call;
	struct msg_get m;
	int rc;
	bool ended;
};

static int wait_run(void *arg)
{
	struct waiting *w = arg;
	struct msg_get_ok ok;
	struct err_note n;

	w->m = (struct msg_get){ .bucket = bucket, .name = BYTES("late"), .flags = GET_WAIT,
		.wait_ms = 20000 };
	w->call = (struct rpc_call){ .op = OP_get, .plain = true, .msg = &w->m };
	w->rc = rpc_ask(w->c, &w->call, OP_get_ok, &ok, sys_after(me, 20 * SYS_SEC), &n);
	rpc_call_fini(&w->call);
	w->ended = true;
	return 0;
}

static void who_waits_is_taken_up_again(void)
{
	int old = await_leader(-1, N), k;
	struct waiting w = { .c = client_of(old) };
	struct rpc_conn *c;
	struct group g;

	group_init(&g, sys_loop(me));
	make_bucket(w.c, 1);
	check(fiber_start(&g, "wait", wait_run, &w) == 0);
	nap(50);
	check(replicate_handover(serve_replicate(nodes[old].v), 0) == 0);
	k = await_leader(old, N);
	nap(50);
	check(w.ended && w.rc == E_CLOSED);
	check(group_wait(&g) == 0);
	rpc_close(w.c);
	w = (struct waiting){ .c = client_of(k) };
	check(fiber_start(&g, "wait", wait_run, &w) == 0);
	nap(50);
	check(!w.ended);
	c = client_of(k);
	check(put(c, 2, "late", "1", 2000) == 0);
	check(group_wait(&g) == 0);
	check(w.rc == 0);
	rpc_close(c);
	rpc_close(w.c);
}

/* Bytes that nobody asked to protect are where the rows are. */
static void small_files_survive_who_served_them(void)
{
	int old = await_leader(-1, N), k;
	struct rpc_conn *c = client_of(old);
	struct shard_status st;

	protection = PROTECT_NONE;
	make_bucket(c, 1);
	check(put(c, 2, "x", "1", 2000) == 0);
	shard_status(serve_shard(nodes[old].v), &st);
	check(st.slab.files == 0);
	sim_node_kill(nodes[old].sim);
	k = await_leader(old, N - 1);
	rpc_close(c);
	c = client_of(k);
	check(get(c, "x", 0, 2000) == 0);
	check(bytes_equal(call.reply_data, BYTES("1")));
	rpc_close(c);
}

static void replicas_have_a_way_of_their_own(void)
{
	int old = await_leader(-1, N), other = (old + 1) % N;
	struct rpc_conn *c, *d;
	struct msg_replica_say say = { .kind = REPLICA_ACK };
	struct msg_status m = { 0 };
	struct msg_ok ok;

	check(enter(other, ROLE_REPLICA, BYTES("wrong"), &c) == E_DENIED);
	check(enter(other, ROLE_REPLICA, BYTES("job"), &c) == E_DENIED);
	check(enter(other, ROLE_REPLICA, bytes_of(NULL, 0), &c) == E_DENIED);
	check(enter(other, ROLE_REPLICA, KEY, &c) == 0);
	check(ask(c, 0, OP_status, &m, bytes_of(NULL, 0), OP_ok, &ok, 2000) == 0);
	check(nodes[other].n_pings == 1);
	check(get(c, "x", 0, 2000) == E_DENIED);
	check(put(c, 1, "x", "1", 2000) == E_DENIED);
	check(enter(old, ROLE_CLIENT, BYTES("job"), &d) == 0);
	check(ask(d, 0, OP_status, &m, bytes_of(NULL, 0), OP_ok, &ok, 2000) == E_DENIED);
	check(ask(d, 0, OP_replica_say, &say, bytes_of(NULL, 0), OP_ok, &ok, 2000) == E_DENIED);
	rpc_close(d);
	check(enter(old, ROLE_REPLICA, KEY, &d) == 0);
	check(replicate_handover(serve_replicate(nodes[old].v), nodes[other].id) == 0);
	check(await_leader(old, N) == other);
	check(rpc_conn_open(c) && rpc_conn_open(d)); /* whoever leads */
	check(ask(d, 0, OP_status, &m, bytes_of(NULL, 0), OP_ok, &ok, 2000) == 0);
	rpc_close(c);
	rpc_close(d);
}

static void a_clean_stop_hands_over(void)
{
	int old = await_leader(-1, N), k;
	struct rpc_conn *c = client_of(old);
	uint64_t began_ns;

	make_bucket(c, 1);
	check(put(c, 2, "x", "1", 2000) == 0);
	nodes[old].stop = true;
	began_ns = sys_now_ns(me);
	k = await_leader(old, 1);
	check(sys_now_ns(me) - began_ns < 50 * SYS_MS); /* nobody waited for a silence */
	rpc_close(c);
	c = client_of(k);
	check(get(c, "x", 0, 2000) == 0);
	rpc_close(c);
}

/* ---- the world ---- */
static int client_main(struct sys *s, void *arg)
{
	me = s;
	group_init(&fibers, sys_loop(s));
	running();
	rpc_call_fini(&call);
	memset(&call, 0, sizeof call);
	(void)group_wait(&fibers);
	for (int i = 0; i < N; i++)
		nodes[i].stop = true;
	return 0;
}

static void run(void **state)
{
	running = *state;
	protection = PROTECT_COPIES;
	world = sim_new(1, &sim_no_faults);
	store = coord_sim_new(world, 1, &coord_sim_quiet);
	for (int i = 0; i < N; i++) {
		nodes[i] = (struct node){ .id = (uint64_t)i + 1 };
		snprintf(nodes[i].name, sizeof nodes[i].name, "n%d", i + 1);
		nodes[i].sim = sim_node_add(world, nodes[i].name, UINT64_C(1) << 30);
		sim_node_start(nodes[i].sim, node_main, &nodes[i]);
		sim_run(world, (uint64_t)(i + 1) * SYS_SEC); /* the first one begins the shard */
	}
	client = sim_node_add(world, "c", 1 << 20);
	sim_node_start(client, client_main, NULL);
	for (uint64_t sec = N; sec < 300 && sim_node_up(client); sec++)
		sim_run(world, sec * SYS_SEC);
	check(!sim_node_up(client));
	sim_run(world, sim_now_ns(world) + 60 * SYS_SEC);
	for (int i = 0; i < N; i++)
		check(!sim_node_up(nodes[i].sim));
	coord_sim_free(store);
	sim_free(world);
}

#define TEST(body) { #body, run, NULL, NULL, body }

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(who_does_not_lead_says_who_does),
		TEST(who_is_cut_off_answers_nothing),
		TEST(what_was_asked_is_done_once),
		TEST(who_waits_is_taken_up_again),
		TEST(small_files_survive_who_served_them),
		TEST(replicas_have_a_way_of_their_own),
		TEST(a_clean_stop_hands_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
