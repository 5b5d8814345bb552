/* SPDX-License-Identifier: Apache-2.0 */
#include "store/world_test.h"
#include "base/prng.h"
#include "store/door_test.h"
#include <stdio.h>
#include <stdlib.h>

uint64_t soon(struct sys *s) { return sys_after(s, 120 * SYS_SEC); }

void pattern(uint64_t seed, void *p, size_t len)
{
	struct prng g = prng_fork(seed, 9);
	uint64_t word;

	for (size_t i = 0; i < len; i += sizeof word) {
		word = prng_next(&g);
		memcpy((uint8_t *)p + i, &word, len - i < sizeof word ? len - i : sizeof word);
	}
}

/* ---- controller ---- */
static struct wire_list keys(const struct controller *c, uint8_t *room, size_t len)
{
	struct wire_list_builder l = wire_list_begin(room, len, WIRE_VERSION);
	const struct cap_key *k[2] = { &c->before, &c->key };

	for (int i = 0; i < 2; i++)
		check(k[i]->id == 0 || sub_cap_key_info_add(&l, &(struct sub_cap_key_info){
			k[i]->id, bytes_of(k[i]->key, CAP_KEY_BYTES) }));
	return wire_list_end(&l);
}

static void on_register(void *arg, struct rpc_request *r)
{
	struct controller *c = arg;
	struct msg_store_register m;
	uint8_t room[256];
	struct msg_store_ok ok = { .server = 7, .epoch = c->epoch,
		.cap_key = bytes_of(c->key.key, CAP_KEY_BYTES),
		.keys = keys(c, room, sizeof room) };

	check(msg_store_register_get(r->body.p, r->body.len, r->version, &m) == 0);
	check(m.incarnation != 0);
	check((m.uuid_hi | m.uuid_lo) != 0);
	check(m.addr.len > 4);
	check(!c->follows);
	c->conn = r->conn;
	c->n_registered++;
	c->incarnation = m.incarnation;
	rpc_reply(r, OP_store_ok, &ok, bytes_of(NULL, 0), RPC_NOW);
}

static void on_beat(void *arg, struct rpc_request *r)
{
	struct controller *c = arg;
	struct msg_heartbeat m;
	uint8_t room[256], list[256];
	struct wire_list_builder l = wire_list_begin(list, sizeof list, WIRE_VERSION);
	struct msg_heartbeat_ok ok = { .epoch = c->epoch, .shard_time_ms = c->shard_ms,
		.keys = keys(c, room, sizeof room), .revoked_to = c->n_revoked,
		.revoked_last = c->n_revoked + c->blind, .scrub = c->scrub };
	struct sub_device_info d;

	check(msg_heartbeat_get(r->body.p, r->body.len, r->version, &m) == 0);
	check(m.server == 7);
	while (sub_device_info_next(&m.devices, &d))
		c->devices[d.device] = d;
	c->heard_epoch = m.epoch;
	c->beat = m;
	c->beat.devices = (struct wire_list){ .n = 0 };
	if (c->silent) {
		rpc_drop(r);
		return;
	}
	c->n_beats++;
	for (uint64_t i = m.revoked_to; i < c->n_revoked; i++)
		check(sub_job_epoch_add(&l, &c->revoked[i]));
	ok.revoked = wire_list_end(&l);
	rpc_reply(r, OP_heartbeat_ok, &ok, bytes_of(NULL, 0), RPC_NOW);
}

static void on_bad(void *arg, struct rpc_request *r)
{
	struct controller *c = arg;
	struct msg_extent_bad m;

	check(msg_extent_bad_get(r->body.p, r->body.len, r->version, &m) == 0);
	while (c->n_bad < 64 && sub_bad_extent_next(&m.extents, &c->bad[c->n_bad]))
		check(c->bad[c->n_bad++].server == 0); /* the one that tells */
	rpc_reply_ok(r, RPC_NOW);
}

static void on_ping(void *arg, struct rpc_request *r) { rpc_reply_ok(r, RPC_NOW); }

static const struct rpc_op control_ops[] = {
	{ OP_store_register, RPC_INLINE, on_register },
	{ OP_heartbeat, RPC_INLINE, on_beat },
	{ OP_ping, RPC_INLINE, on_ping },
	{ OP_extent_bad, RPC_INLINE, on_bad },
};

static void on_lost(void *arg, struct rpc_conn *conn)
{
	struct controller *c = arg;

	if (c->conn == conn)
		c->conn = NULL;
}

static PARKS int on_hello(void *arg, struct rpc_conn *conn, const struct msg_hello *h,
	struct msg_hello_ok *ret_ok, char ret_hint[SYS_ADDR_MAX], struct err_note *note)
{
	const struct controller *c = arg;

	return c->follows ? err_set(note, E_NOTPRIMARY, "another one leads") : 0;
}

void world_control_open(struct world *w, struct controller *c, const char *addr)
{
	const char *bound;

	memset(&c->key, 'k', sizeof c->key);
	c->key.id = 3;
	c->epoch = 3;
	c->shard_ms = 1000000;
	c->svc = (struct rpc_service){ .ops = control_ops, .n_ops = 4, .arg = c, .lost = on_lost,
		.hello = on_hello };
	check(rpc_server_new(w->s, &c->svc, &c->server) == 0);
	check(rpc_server_listen(c->server, addr, &bound, NULL) == 0);
}

/* ---- store ---- */
static void on_ready(void *arg, const char *const *bound, unsigned n)
{
	struct world *w = arg;

	check(n == 2);
	w->tcp = bound[0];
}

int world_store_try(struct world *w, struct err_note *note)
{
	struct store_status status;
	int rc;

	w->o = (struct store_opts){ .dir = w->dir, .devices = w->devices, .n_devices = N_DEVICES,
		.listen = w->listen, .n_listen = 2, .controller = w->controls, .ready = on_ready,
		.arg = w, .scrub_ms = w->scrub_ms };
	if ((rc = store_new(w->s, &w->o, &w->st, note)) < 0)
		return rc;
	do {
		check(fiber_sleep(sys_after(w->s, SYS_MS)) == 0);
		store_status(w->st, &status);
	} while (status.fenced);
	return 0;
}

void world_store_open(struct world *w)
{
	struct err_note note = { "" };

	if (world_store_try(w, &note) < 0) {
		fprintf(stderr, "store_new: %s\n", note.text);
		abort();
	}
}

static void on_gone(void *arg, struct rpc_request *r)
{
	struct world *w = arg;
	struct msg_arena_gone m;

	check(msg_arena_gone_get(r->body.p, r->body.len, r->version, &m) == 0);
	w->gone = m.arena;
	w->n_gone++;
	rpc_reply_ok(r, RPC_NOW);
}

static const struct rpc_op client_ops[] = { { OP_arena_gone, RPC_INLINE, on_gone } };

void world_begin(struct world *w, struct sys *s)
{
	const char *f = door_folder();

	memset(w, 0, sizeof *w);
	w->s = s;
	snprintf(w->dir, sizeof w->dir, "%s/data", f);
	snprintf(w->flash, sizeof w->flash, "%s/flash", f);
	snprintf(w->disk, sizeof w->disk, "%s/disk", f);
	snprintf(w->local, sizeof w->local, "unix:%s/store", f);
	snprintf(w->control, sizeof w->control, "unix:%s/control", f);
	w->listen[0] = door_tcp;
	w->listen[1] = w->local;
	w->devices[DRAM] = (struct store_device){ .tier = TIER_DRAM, .bytes = 4 * ARENA + 4096,
		.egroup_bytes = ARENA };
	w->devices[FLASH] = (struct store_device){ .tier = TIER_FLASH, .bytes = 16 * MIB,
		.dir = w->flash, .egroup_bytes = 8 * MIB };
	w->devices[DISK] = (struct store_device){ .tier = TIER_DISK, .bytes = 64 * MIB,
		.dir = w->disk };
	group_init(&w->group, sys_loop(s));
	w->group.keep_going = true;
	w->reverse = (struct rpc_service){ .ops = client_ops, .n_ops = 1, .arg = w };
	snprintf(w->control_2, sizeof w->control_2, "unix:%s/control2", f);
	snprintf(w->controls, sizeof w->controls, "%s,%s", w->control, w->control_2);
	world_control_open(w, &w->ctl, w->control);
}

void world_open(struct world *w, struct sys *s)
{
	world_begin(w, s);
	world_store_open(w);
}

void world_close(struct world *w)
{
	int rc;

	if (w->st != NULL)
		store_audit(w->st);
	store_free(w->st);
	rpc_server_free(w->ctl.server);
	rpc_server_free(w->other.server);
	rc = group_wait(&w->group);
	check(rc == 0 || rc == E_CANCELED);
}

struct rpc_conn *world_client(struct world *w, bool local)
{
	struct rpc_connect o = { .addr = local ? w->local : w->tcp, .svc = &w->reverse,
		.group = &w->group, .hello = { .role = ROLE_CLIENT } };
	struct msg_hello_ok ok;
	struct err_note note = { "" };
	struct rpc_conn *c;
	int rc = rpc_connect(w->s, &o, soon(w->s), &c, &ok, &note);

	if (rc < 0)
		fprintf(stderr, "connect %s: %s\n", o.addr, note.text);
	check(rc == 0);
	check(ok.incarnation != 0);
	return c;
}

void world_status(struct world *w, unsigned device, struct store_device_status *ret)
{
	struct store_status s;

	store_audit(w->st);
	store_status(w->st, &s);
	*ret = s.devices[device];
}

/* ---- requests ---- */
struct ticket ticket(const struct world *w, uint64_t egroup, uint64_t job, uint8_t device)
{
	return (struct ticket){ .egroup = egroup, .job = job, .first = egroup * 1000, .count = 64,
		.credit = 64 * MIB, .epoch = w->ctl.epoch, .device = device,
		.until_ms = w->ctl.shard_ms + CAP_LIFE_MS };
}

static void mint(const struct world *w, const struct ticket *t, uint8_t code[CAP_BYTES])
{
	struct cap c = { t->egroup, t->job, CAP_WRITE, t->epoch, t->until_ms, t->first, t->count,
		t->credit, w->ctl.incarnation, t->job_epoch };

	cap_mint(&w->ctl.key, &c, code);
}

static void mint_read(const struct world *w, uint64_t job, uint64_t *ret_until_ms,
	uint8_t code[CAP_BYTES])
{
	struct cap c = { .job = job, .ops = CAP_READ, .until_ms = w->ctl.shard_ms + CAP_LIFE_MS,
		.job_epoch = w->job_epoch };

	*ret_until_ms = c.until_ms;
	cap_mint(&w->ctl.key, &c, code);
}

static PARKS int ask(struct world *w, struct rpc_conn *c, struct rpc_call *call, uint16_t op,
	void *ret)
{
	struct err_note note = { "" };
	int rc = rpc_ask(c, call, op, ret, soon(w->s), &note);

	check(rc == 0 || note.text[0] != 0); /* a refusal says why */
	return rc;
}

int put(struct world *w, struct rpc_conn *c, const struct ticket *t, uint64_t id, const void *data,
	size_t len, bool sync)
{
	uint32_t *sums = malloc((sums_count(len) + 1) * 4);
	uint8_t code[CAP_BYTES];
	struct msg_extent_write m = { .egroup = t->egroup, .extent = id, .epoch = t->epoch,
		.tier = w->devices[t->device].tier, .device = t->device, .sync = sync,
		.extent_first = t->first, .extent_count = t->count, .credit_bytes = t->credit,
		.cap_job = t->job, .cap_until_ms = t->until_ms,
		.cap = bytes_of(code, sizeof code) };
	struct rpc_call call = { .op = OP_extent_write, .plain = true, .msg = &m,
		.data = bytes_of(data, len) };
	struct msg_extent_ok ok;
	int rc;

	mint(w, t, code);
	sums_compute(id, 0, data, len, sums);
	m.root = sums_root(sums, sums_count(len));
	rc = ask(w, c, &call, OP_extent_ok, &ok);
	check(rc < 0 || ok.root == m.root);
	rpc_call_fini(&call);
	free(sums);
	return rc;
}

int get(struct world *w, struct rpc_conn *c, uint64_t egroup, uint64_t id, uint64_t job,
	uint64_t offset, uint32_t len, uint8_t *ret_data)
{
	uint8_t code[CAP_BYTES];
	struct msg_extent_read m = { .egroup = egroup, .extent = id, .offset = offset, .len = len,
		.cap_job = job, .cap = bytes_of(code, sizeof code) };
	struct rpc_call call = { .op = OP_extent_read, .plain = true, .msg = &m };
	uint32_t *sums = malloc(16384);
	struct msg_read_ok ok;
	uint64_t bad;
	int rc;

	mint_read(w, job, &m.cap_until_ms, code);
	rc = ask(w, c, &call, OP_read_ok, &ok);
	if (rc == 0) {
		check(ok.offset % LIMIT_BLOCK_BYTES == 0);
		check(ok.offset <= offset);
		check(ok.offset + call.reply_data.len >= offset + len);
		check(ok.sums.len == sums_count(call.reply_data.len) * 4);
		sums_get(sums, ok.sums.p, ok.sums.len / 4);
		check(sums_verify(id, ok.offset / LIMIT_BLOCK_BYTES, call.reply_data.p,
			call.reply_data.len, sums, &bad));
		memcpy(ret_data, call.reply_data.p + (offset - ok.offset), len);
	}
	rpc_call_fini(&call);
	free(sums);
	return rc;
}

static PARKS int drops(struct world *w, uint16_t op, uint64_t egroup, uint64_t first, uint32_t n)
{
	uint8_t *room = malloc(16 * n + 64);
	struct wire_list_builder b;
	struct msg_extent_drop m = { .epoch = w->ctl.epoch };
	struct msg_egroup_drop g = { .epoch = w->ctl.epoch };
	struct rpc_call call = { .op = op, .plain = true };
	struct msg_ok ok;
	int rc;

	until(w->s, w->ctl.conn != NULL);
	b = wire_list_begin(room, 16 * n + 64, rpc_conn_version(w->ctl.conn));
	for (uint32_t i = 0; i < n; i++)
		check(sub_extent_id_add(&b, &(struct sub_extent_id){ egroup, first + i }));
	m.extents = g.egroups = wire_list_end(&b);
	call.msg = op == OP_extent_drop ? (const void *)&m : (const void *)&g;
	rc = ask(w, w->ctl.conn, &call, OP_ok, &ok);
	rpc_call_fini(&call);
	free(room);
	return rc;
}

int drop(struct world *w, uint64_t egroup, uint64_t first, uint32_t n)
{
	return drops(w, OP_extent_drop, egroup, first, n);
}

int drop_egroup(struct world *w, uint64_t egroup)
{
	return drops(w, OP_egroup_drop, egroup, 0, 1);
}

/* ---- shared memory ---- */
void mappings_close(struct mappings *ms)
{
	for (unsigned i = 0; i < ms->n; i++)
		sys_shm_close(ms->m[i].shm);
	ms->n = 0;
}

static uint8_t *mapped(struct mappings *ms, struct rpc_conn *c, uint64_t arena, uint64_t bytes,
	bool with_fd, bool writable)
{
	struct mapping *m = NULL;
	void *at;

	for (unsigned i = 0; i < ms->n; i++)
		if (ms->m[i].arena == arena && ms->m[i].writable == writable)
			m = &ms->m[i];
	check(with_fd == (m == NULL)); /* each kind once */
	if (m != NULL)
		return m->at;
	check(ms->n < 16);
	m = &ms->m[ms->n++];
	m->shm = sys_recv_shm(rpc_conn_stream(c));
	check(m->shm != NULL);
	check(sys_shm_bytes(m->shm) == bytes);
	if (sys_shm_map(m->shm, &at, NULL) < 0) /* the chosen fault of fault_test was ours */
		check(sys_shm_map(m->shm, &at, NULL) == 0);
	m->arena = arena;
	m->at = at;
	m->writable = writable;
	return m->at;
}

int alloc(struct world *w, struct rpc_conn *c, struct mappings *ms, const struct ticket *t,
	uint64_t id, const void *data, size_t len)
{
	uint8_t code[CAP_BYTES], *at;
	struct msg_extent_alloc m = { .egroup = t->egroup, .extent = id, .epoch = t->epoch,
		.len = len, .device = t->device, .extent_first = t->first, .extent_count = t->count,
		.credit_bytes = t->credit, .cap_job = t->job,
		.cap_until_ms = t->until_ms, .cap = bytes_of(code, sizeof code) };
	struct rpc_call call = { .op = OP_extent_alloc, .plain = true, .msg = &m };
	struct msg_alloc_ok ok;
	int rc;

	mint(w, t, code);
	rc = ask(w, c, &call, OP_alloc_ok, &ok);
	if (rc == 0) {
		at = mapped(ms, c, ok.arena, ok.arena_bytes, ok.with_fd, true);
		if (data != NULL)
			memcpy(at + ok.offset, data, len);
	}
	rpc_call_fini(&call);
	return rc;
}

int seal(struct world *w, struct rpc_conn *c, const struct ticket *t, uint64_t id, const void *data,
	size_t len)
{
	size_t n = sums_count(len);
	uint32_t *sums = malloc(n * 4);
	uint8_t *le = malloc(n * 4);
	struct msg_extent_seal m = { .egroup = t->egroup, .extent = id };
	struct rpc_call call = { .op = OP_extent_seal, .plain = true, .msg = &m,
		.data = bytes_of(le, n * 4) };
	struct msg_extent_ok ok;
	int rc;

	sums_compute(id, 0, data, len, sums);
	sums_put(le, sums, n);
	m.root = sums_root(sums, n);
	rc = ask(w, c, &call, OP_extent_ok, &ok);
	rpc_call_fini(&call);
	free(sums);
	free(le);
	return rc;
}

int pin(struct world *w, struct rpc_conn *c, struct mappings *ms, uint64_t egroup, uint64_t id,
	uint64_t job, const uint8_t **ret_p, uint64_t *ret_len)
{
	uint8_t code[CAP_BYTES];
	struct msg_extent_pin m = { .egroup = egroup, .extent = id, .cap_job = job,
		.cap = bytes_of(code, sizeof code) };
	struct rpc_call call = { .op = OP_extent_pin, .plain = true, .msg = &m };
	struct msg_pin_ok ok;
	int rc;

	mint_read(w, job, &m.cap_until_ms, code);
	rc = ask(w, c, &call, OP_pin_ok, &ok);
	if (rc == 0) {
		*ret_p = mapped(ms, c, ok.arena, ok.arena_bytes, ok.with_fd, false) + ok.offset;
		*ret_len = ok.len;
	}
	rpc_call_fini(&call);
	return rc;
}

int unpin(struct world *w, struct rpc_conn *c, uint64_t egroup, uint64_t id)
{
	struct msg_extent_unpin m = { egroup, id };
	struct rpc_call call = { .op = OP_extent_unpin, .plain = true, .msg = &m };
	struct msg_ok ok;
	int rc = ask(w, c, &call, OP_ok, &ok);

	rpc_call_fini(&call);
	return rc;
}
