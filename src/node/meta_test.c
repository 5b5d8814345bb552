/* SPDX-License-Identifier: Apache-2.0 */
/* A shard as a role, over rpc: who is let in, what a retry gets, what an acknowledgement is worth
 * after a crash, and that one client's end is nobody else's. */
#include "base/check.h"
#include "base/limit.h"
#include "meta/serve.h"
#include "node/meta.h"
#include "rpc/rpc.h"
#include "sys/sim/sim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { PORT = 7000 };
static const char *const unix_addr = "unix:/meta.sock";
static const char *const tcp_addr = "tcp:m:7000";

static struct sim *world;
static struct sim_node *m, *c;
static int ready, served;

/* ---- the server ---- */

static int job_of_token(
	void *arg, struct bytes token, struct principal *ret_p, struct err_note *note)
{
	if (token.len != 5 || memcmp(token.p, "job-", 4) != 0)
		return err_set(note, E_DENIED, "the token is nobody's");
	*ret_p = (struct principal){ .admin = token.p[4] == '0', .job = token.p[4] - '0' };
	return 0;
}

static void on_ready(void *arg, const char *const *bound, unsigned n_bound)
{
	check(n_bound == 2);
	ready++;
}

static int server_main(struct sys *s, void *arg)
{
	static const struct auth auth = { job_of_token, NULL };
	const char *listen[] = { unix_addr, tcp_addr };
	struct meta_opts o = { .dir = "/meta",
		.listen = listen,
		.n_listen = 2,
		.slab_bytes = 1 << 20,
		.auth = &auth,
		.ready = on_ready };
	struct err_note note = { "" };
	int rc = meta_serve(s, &o, &note);

	check(rc == 0 || note.text[0] != 0);
	served = rc;
	return rc;
}

/* ---- clients ---- */

struct peer {
	struct sys *s;
	struct group g;
	struct rpc_conn *conn;
	struct msg_hello_ok ok;
};

static int enter(
	struct peer *p, struct sys *s, const char *addr, const char *token, uint64_t client)
{
	struct rpc_connect o = { .addr = addr,
		.group = &p->g,
		.hello = { .role = ROLE_CLIENT,
			.client_hi = client,
			.client_lo = client,
			.token = bytes_of(token, strlen(token)) } };
	struct err_note note;
	int rc;

	p->s = s;
	group_init(&p->g, sys_loop(s));
	rc = rpc_connect(s, &o, sys_after(s, 10 * SYS_SEC), &p->conn, &p->ok, &note);
	if (rc < 0)
		check(group_wait(&p->g) <= 0);
	return rc;
}

static void leave(struct peer *p)
{
	rpc_close(p->conn);
	check(group_wait(&p->g) <= 0);
}

static int ask(struct peer *p, struct rpc_call *call, uint16_t reply_op, void *reply)
{
	struct err_note note = { "" };
	int rc = rpc_ask(p->conn, call, reply_op, reply, sys_after(p->s, 100 * SYS_SEC), &note);

	check(rc == 0 || note.text[0] != 0);
	return rc;
}

static int bucket_at(struct peer *p, const char *name, uint64_t *ret_id)
{
	struct msg_bucket_create q = {
		.name = bytes_of(name, strlen(name)), .exists_ok = 1, .protection = PROTECT_NONE
	};
	struct rpc_call call = { .op = OP_bucket_create, .msg = &q };
	struct sub_bucket_info info;
	struct msg_bucket_ok ok;
	int rc = ask(p, &call, OP_bucket_ok, &ok);

	if (rc == 0) {
		check(sub_bucket_info_next(&ok.bucket, &info));
		*ret_id = info.bucket;
	}
	rpc_call_fini(&call);
	return rc;
}

static int put_as(struct peer *p, uint64_t b, const char *name, const char *data, unsigned flags,
	uint64_t *cookie)
{
	struct msg_put q = {
		.bucket = b, .flags = (uint16_t)flags, .name = bytes_of(name, strlen(name))
	};
	struct rpc_call call = {
		.op = OP_put, .msg = &q, .data = bytes_of(data, strlen(data)), .cookie = *cookie
	};
	struct msg_put_ok ok;
	int rc = ask(p, &call, OP_put_ok, &ok);

	*cookie = call.cookie;
	rpc_call_fini(&call);
	return rc;
}

static int put(struct peer *p, uint64_t b, const char *name, const char *data, unsigned flags)
{
	uint64_t cookie = 0;

	return put_as(p, b, name, data, flags, &cookie);
}

static int del(struct peer *p, uint64_t b, const char *name)
{
	struct msg_delete q = { .bucket = b, .name = bytes_of(name, strlen(name)) };
	struct rpc_call call = { .op = OP_delete, .msg = &q };
	struct msg_ok ok;
	int rc = ask(p, &call, OP_ok, &ok);

	rpc_call_fini(&call);
	return rc;
}

static int get_within(struct peer *p, uint64_t b, const char *name, const char *data,
	unsigned flags, uint32_t wait_ms)
{
	struct msg_get q = { .bucket = b,
		.flags = (uint16_t)flags,
		.wait_ms = wait_ms,
		.name = bytes_of(name, strlen(name)) };
	struct rpc_call call = { .op = OP_get, .plain = true, .msg = &q };
	struct msg_get_ok ok;
	int rc = ask(p, &call, OP_get_ok, &ok);

	if (rc == 0)
		check(bytes_equal(call.reply_data, bytes_of(data, strlen(data))));
	rpc_call_fini(&call);
	return rc;
}

static int get(struct peer *p, uint64_t b, const char *name, const char *data)
{
	return get_within(p, b, name, data, 0, 0);
}

/* ---- worlds ---- */

/* Starts the server on m, then fn on c (or beside the server, with local). */
static void play(sim_main_fn *fn)
{
	static const struct sim_faults slow_net = { .net_delay_min_ns = 10 * SYS_US,
		.net_delay_max_ns = 300 * SYS_US,
		.net_split_ppm = 50000,
		.shuffle = true };

	world = sim_new(3, &slow_net);
	m = sim_node_add(world, "m", UINT64_C(1) << 32);
	c = sim_node_add(world, "c", 1 << 20);
	ready = 0;
	sim_node_start(m, server_main, NULL);
	sim_node_start(c, fn, NULL);
	sim_run(world, 36000 * SYS_SEC);
	check(!sim_node_up(c));
	check(sim_node_result(c) == 0);
	sim_free(world);
}

static void until_ready(struct sys *s, int n)
{
	while (ready < n)
		check(fiber_sleep(sys_after(s, SYS_MS)) == 0);
}

/* ---- tests ---- */

static int who_is_let_in(struct sys *s, void *arg)
{
	struct peer p;
	uint64_t own, other;

	until_ready(s, 1);
	check(enter(&p, s, tcp_addr, "", 1) == E_DENIED);
	check(enter(&p, s, tcp_addr, "wrong", 1) == E_DENIED);
	check(enter(&p, s, tcp_addr, "job-3", 1) == 0);
	check(p.ok.job == 3);
	check(p.ok.incarnation == 1);
	check(p.ok.last_number == 0);
	check(bucket_at(&p, "b", &own) == 0);
	check(put(&p, own, "x", "three's", 0) == 0);
	leave(&p);
	check(enter(&p, s, tcp_addr, "job-4", 1) == E_DENIED); /* three's client id */
	check(enter(&p, s, tcp_addr, "job-4", 2) == 0);
	check(get(&p, own, "x", "") == E_DENIED);
	check(bucket_at(&p, "b", &other) == 0);
	check(other != own);
	leave(&p);
	check(enter(&p, s, tcp_addr, "job-0", 0) == 0); /* an administrator without a session */
	check(get(&p, own, "x", "three's") == 0);
	check(get_within(&p, own, "x", "", GET_CONSUME, 0) == E_INVALID);
	leave(&p);
	return 0;
}

static int a_retry_over_a_new_connection(struct sys *s, void *arg)
{
	uint64_t b, number = 0;
	struct peer p;

	until_ready(s, 1);
	check(enter(&p, s, tcp_addr, "job-0", 9) == 0);
	check(bucket_at(&p, "b", &b) == 0);
	check(put_as(&p, b, "x", "1", PUT_IF_ABSENT, &number) == 0);
	leave(&p);
	check(enter(&p, s, tcp_addr, "job-0", 9) == 0);
	check(p.ok.last_number == number);
	check(put_as(&p, b, "x", "1", PUT_IF_ABSENT, &number) == 0);
	check(put(&p, b, "x", "1", PUT_IF_ABSENT) == E_EXISTS);
	leave(&p);
	return 0;
}

struct waiting {
	struct peer *p;
	uint64_t b;
	uint32_t wait_ms;
	int rc;
	bool ended;
};

static int wait_for_x(void *arg)
{
	struct waiting *w = arg;

	w->rc = get_within(w->p, w->b, "x", "now", GET_WAIT, w->wait_ms);
	w->ended = true;
	return 0;
}

static int a_get_that_waits(struct sys *s, void *arg)
{
	struct peer p, q, r;
	struct waiting w[3];
	struct group g;
	uint64_t b;

	until_ready(s, 1);
	group_init(&g, sys_loop(s));
	check(enter(&p, s, tcp_addr, "job-0", 1) == 0);
	check(enter(&q, s, tcp_addr, "job-0", 2) == 0);
	check(enter(&r, s, tcp_addr, "job-0", 3) == 0);
	check(bucket_at(&p, "b", &b) == 0);
	w[0] = (struct waiting){ &p, b, 60000, 0, false };
	w[1] = (struct waiting){ &q, b, 1000, 0, false };
	w[2] = (struct waiting){ &r, b, 60000, 0, false };
	for (int i = 0; i < 3; i++)
		check(fiber_start(&g, "wait", wait_for_x, &w[i]) == 0);
	check(fiber_sleep(sys_after(s, 3 * SYS_SEC)) == 0);
	check(!w[0].ended);
	check(w[1].ended && w[1].rc == E_TIMEOUT);
	leave(&r); /* one that waits goes away: nothing happens to the others */
	check(w[2].ended && w[2].rc == E_CLOSED);
	check(get(&p, b, "x", "") == E_NOTFOUND);
	check(put(&q, b, "x", "now", 0) == 0);
	check(group_wait(&g) == 0);
	check(w[0].rc == 0);
	leave(&p);
	leave(&q);
	return 0;
}

/* What was acknowledged durable is there after a power cut, what was acknowledged at all after a
 * kill; unprotected bytes are LOST, not wrong. */
static int acknowledged_is_kept(struct sys *s, void *arg)
{
	uint64_t b, number = 0;
	struct peer p;

	until_ready(s, 1);
	check(enter(&p, s, tcp_addr, "job-0", 9) == 0);
	check(bucket_at(&p, "b", &b) == 0);
	check(put(&p, b, "memory", "gone", 0) == 0);
	check(put_as(&p, b, "durable", "kept", PUT_DURABLE, &number) == 0);
	sim_node_crash(m);
	sim_node_start(m, server_main, NULL);
	until_ready(s, 2);
	leave(&p);
	check(enter(&p, s, tcp_addr, "job-0", 9) == 0);
	check(p.ok.incarnation == 2);
	check(p.ok.last_number == number);
	check(get(&p, b, "durable", "kept") == 0);
	check(get(&p, b, "memory", "") == E_LOST);
	check(put_as(&p, b, "durable", "kept", PUT_DURABLE, &number) == 0); /* the old answer */
	check(put(&p, b, "written", "gone", 0) == 0);
	sim_node_kill(m);
	sim_node_start(m, server_main, NULL);
	until_ready(s, 3);
	leave(&p);
	check(enter(&p, s, tcp_addr, "job-0", 9) == 0);
	check(p.ok.incarnation == 3);
	check(p.ok.last_number > number);
	check(get(&p, b, "written", "") == E_LOST);
	leave(&p);
	return 0;
}

/* A full disk under the log: who writes is told, deletes go on, and so does the server when there
 * is room again. */
static int a_full_disk_is_an_error(struct sys *s, void *arg)
{
	static char text[4000];
	char name[16];
	struct peer p;
	uint64_t b;
	int rc = 0, n = 0;

	until_ready(s, 1);
	memset(text, 'x', sizeof text - 1);
	served = 1;
	check(enter(&p, s, tcp_addr, "job-0", 9) == 0);
	check(bucket_at(&p, "b", &b) == 0);
	sim_disk_full(m, true);
	for (; rc == 0 && n < 40000; n++) {
		snprintf(name, sizeof name, "x%d", n);
		rc = put(&p, b, name, text, PUT_DURABLE);
	}
	check(rc == E_FULL);
	check(n > 1000); /* what was made ready before is used */
	for (int i = 0; i < n - 1; i++) {
		snprintf(name, sizeof name, "x%d", i);
		if (i % 100 == 0)
			check(get(&p, b, name, text) == 0);
		if (i % 2 == 0)
			check(del(&p, b, name) == 0);
	}
	check(put(&p, b, "no", text, 0) == E_FULL);
	sim_disk_full(m, false);
	check(fiber_sleep(sys_after(s, 5 * SYS_SEC)) == 0);
	check(put(&p, b, "yes", text, PUT_DURABLE) == 0);
	leave(&p);
	check(served == 1);
	sim_node_crash(m);
	sim_node_start(m, server_main, NULL);
	until_ready(s, 2);
	check(enter(&p, s, tcp_addr, "job-0", 9) == 0);
	check(get(&p, b, "yes", text) == 0);
	check(get(&p, b, "x1", text) == 0);
	check(get(&p, b, "x0", "") == E_NOTFOUND);
	leave(&p);
	return 0;
}

static void run(void **state)
{
	play((sim_main_fn *)(uintptr_t)*state);
}

#define TEST(body)                                                                                 \
	{                                                                                          \
#body, run, NULL, NULL, (void *)(uintptr_t)body                                    \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(who_is_let_in),
		TEST(a_retry_over_a_new_connection),
		TEST(a_get_that_waits),
		TEST(acknowledged_is_kept),
		TEST(a_full_disk_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
