/* SPDX-License-Identifier: Apache-2.0 */
#include "control/kit_test.h"
#include <stdio.h>

struct kit kit;
static struct sim_node *node;
static const char *const address = "unix:/socket";

static void must(int rc)
{
	if (fiber_canceled())
		return; /* the node was stopped from outside */
	if (rc < 0)
		fprintf(stderr, "%s: %s\n", err_name(rc), kit.note.text);
	check(rc == 0);
}

static void open_all(void)
{
	/* A start reads whole segments: small ones, for there are many starts. */
	static const struct db_opts db = { .log_segment_bytes = 1 << 18 };
	static const struct control_opts co = { .key_file = "/key",
		.server_silent_ms = KIT_SILENT_MS,
		.fence_ms = KIT_FENCE_MS,
		.server_gone_ms = KIT_GONE_MS,
		.here = &kit.ctl,
		.key_rotate_ms = KIT_ROTATE_MS };
	struct serve_opts o = { .replica = { .dir = "/meta", .db = &db },
		.slab_bytes = 16 * MIB,
		.guest = &control_guest,
		.guest_arg = &co };
	const char *bound;

	must(serve_open(kit.sys, &o, &kit.v, &kit.note));
	must(serve_ready(kit.v, sys_after(kit.sys, 10 * SYS_SEC)));
	must(serve_listen(kit.v, address, &bound, &kit.note));
	must(kit_connect(NULL, 0, NULL, &kit.admin));
}

static void close_all(void)
{
	rpc_call_fini(&kit.call);
	memset(&kit.call, 0, sizeof kit.call);
	rpc_close(kit.admin);
	kit.admin = NULL;
	must(serve_close(kit.v, &kit.note));
}

int kit_main(struct sys *s, void *body)
{
	kit = (struct kit){ .sys = s };
	group_init(&kit.g, sys_loop(s));
	must(sys_mkdir(s, "/meta", &kit.note));
	open_all();
	((void (*)(void))(uintptr_t)body)();
	shard_audit(serve_shard(kit.v));
	close_all();
	(void)group_wait(&kit.g);
	return 0;
}

void kit_run(void (*body)(void))
{
	struct sim *w = sim_new(1, &sim_no_faults);
	struct sim_node *n = sim_node_add(w, "a", UINT64_C(1) << 32);

	node = n;
	sim_node_start(n, kit_main, (void *)(uintptr_t)body);
	sim_run(w, UINT64_MAX);
	check(!sim_node_up(n));
	check(sim_node_result(n) == 0);
	sim_free(w);
}

void kit_restart(void)
{
	shard_audit(serve_shard(kit.v));
	close_all();
	open_all();
}

void kit_clock_jump(int64_t ms) { sim_clock_jump(node, ms); }

void kit_sleep(uint64_t ms)
{
	check(fiber_sleep(sys_after(kit.sys, ms * SYS_MS)) == 0);
}

struct bytes kit_text(const char *s) { return bytes_of(s, strlen(s)); }

/* ---- the wire ---- */
int kit_connect(const char *token, size_t len, const struct rpc_service *svc,
	struct rpc_conn **ret_c)
{
	struct rpc_connect o = { .addr = address,
		.svc = svc,
		.group = &kit.g,
		.hello = { .role = ROLE_CLIENT,
			.client_hi = 1,
			.client_lo = ++kit.clients,
			.token = bytes_of(token, len),
			.name = BYTES("test") } };
	struct msg_hello_ok ok;

	return rpc_connect(kit.sys, &o, sys_after(kit.sys, 5 * SYS_SEC), ret_c, &ok, &kit.note);
}

static int ask(struct rpc_conn *c, bool plain, uint16_t op, const void *msg, struct bytes data,
	uint16_t reply, void *ret)
{
	static struct msg_ok ok;

	rpc_call_fini(&kit.call);
	kit.call = (struct rpc_call){ .op = op, .plain = plain, .msg = msg, .data = data };
	return rpc_ask(c, &kit.call, reply, ret != NULL ? ret : &ok,
		sys_after(kit.sys, 1000 * SYS_SEC), &kit.note);
}

int kit_change(struct rpc_conn *c, uint16_t op, const void *msg, uint16_t reply, void *ret)
{
	return ask(c, false, op, msg, bytes_of(NULL, 0), reply, ret);
}

int kit_look(struct rpc_conn *c, uint16_t op, const void *msg, uint16_t reply, void *ret)
{
	return ask(c, true, op, msg, bytes_of(NULL, 0), reply, ret);
}

/* ---- jobs ---- */
struct kit_job kit_register(const char *name, uint64_t lease_ms, uint64_t quota_bytes)
{
	struct msg_job_register m = { .name = kit_text(name),
		.lease_ms = lease_ms,
		.quota_bytes = quota_bytes };
	struct kit_job j = { .id = 0 };
	struct msg_job_ok ok;

	must(kit_change(kit.admin, OP_job_register, &m, OP_job_ok, &ok));
	check(ok.token.len <= sizeof j.token);
	memcpy(j.token, ok.token.p, ok.token.len);
	j.token_len = ok.token.len;
	j.id = ok.job;
	check(j.id != 0);
	return j;
}

void kit_enter(struct kit_job *j)
{
	must(kit_connect(j->token, j->token_len, NULL, &j->conn));
}

int kit_end(struct rpc_conn *c, uint64_t job, struct msg_job_end_ok *ret)
{
	return kit_change(c, OP_job_end, &(struct msg_job_end){ job }, OP_job_end_ok, ret);
}

uint64_t kit_bucket(struct rpc_conn *c, const struct msg_bucket_create *m)
{
	struct sub_bucket_info info;
	struct msg_bucket_ok ok;
	int rc = kit_change(c, OP_bucket_create, m, OP_bucket_ok, &ok);

	if (rc < 0)
		return (uint64_t)rc;
	check(sub_bucket_info_next(&ok.bucket, &info));
	return info.bucket;
}

int kit_put(struct rpc_conn *c, uint64_t bucket, const char *name, const char *data, unsigned flags)
{
	struct msg_put m = { .bucket = bucket, .flags = (uint16_t)flags, .name = kit_text(name) };
	struct msg_put_ok ok;

	return ask(c, false, OP_put, &m, kit_text(data), OP_put_ok, &ok);
}

int kit_get(struct rpc_conn *c, uint64_t bucket, const char *name)
{
	struct msg_get m = { .bucket = bucket, .name = kit_text(name) };
	struct msg_get_ok ok;

	return kit_look(c, OP_get, &m, OP_get_ok, &ok);
}

bool kit_info(uint64_t job, struct sub_job_info *ret)
{
	struct msg_job_list m = { .after = job - 1, .max = 1, .ended = 1 };
	struct msg_job_list_ok ok;

	must(kit_look(kit.admin, OP_job_list, &m, OP_job_list_ok, &ok));
	return sub_job_info_next(&ok.jobs, ret) && ret->job == job;
}

unsigned kit_state(uint64_t job)
{
	struct sub_job_info info;

	return kit_info(job, &info) ? info.state : 0;
}

struct sub_bill_line kit_bill(uint64_t job, uint8_t tier)
{
	struct msg_job_bill m = { job };
	struct msg_job_bill_ok ok;
	struct sub_bill_line line;

	must(kit_look(kit.admin, OP_job_bill, &m, OP_job_bill_ok, &ok));
	while (sub_bill_line_next(&ok.lines, &line))
		if (line.tier == tier)
			return line;
	check(false);
	return line;
}

/* ---- status ---- */
static void check_sums(struct wire_list l)
{
	struct sub_tier_status t;

	while (sub_tier_status_next(&l, &t))
		check(t.capacity_bytes == t.used_bytes + t.pinned_bytes + t.granted_bytes
			+ t.orphaned_bytes + t.reserved_bytes + t.free_bytes);
}

struct msg_status_ok kit_status(uint64_t job)
{
	struct msg_status m = { job };
	struct msg_status_ok ok;
	struct sub_server_status s;
	struct wire_list l;

	must(kit_look(kit.admin, OP_status, &m, OP_status_ok, &ok));
	check_sums(ok.tiers);
	for (l = ok.servers; sub_server_status_next(&l, &s);)
		check_sums(s.tiers);
	return ok;
}

struct sub_tier_status kit_tier(struct wire_list tiers, uint8_t tier)
{
	struct sub_tier_status t;

	while (sub_tier_status_next(&tiers, &t))
		if (t.tier == tier)
			return t;
	return (struct sub_tier_status){ .tier = tier };
}
