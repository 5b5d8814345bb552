/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/service_test.h"
#include "base/limit.h"
#include <stdlib.h>

const uint8_t *pattern(void)
{
	static uint8_t *p;

	if (p != NULL)
		return p;
	p = malloc(PATTERN_BYTES);
	for (size_t i = 0; i < PATTERN_BYTES; i++)
		p[i] = (uint8_t)(i * 7 + (i >> 8) * 13 + (i >> 16) * 31);
	return p;
}

uint64_t soon(struct sys *s) { return sys_after(s, 120 * SYS_SEC); }

#define DECODE(kind) \
	struct service *v = arg; \
	struct msg_##kind m; \
	int rc = msg_##kind##_get(r->body.p, r->body.len, r->version, &m); \
\
	if (rc < 0) { \
		rpc_reply_error(r, rc, NULL, RPC_NOW); \
		return; \
	} \
	(void)v

static void on_put(void *arg, struct rpc_request *r)
{
	struct msg_put_ok ok = { 0 };
	struct rpc_gate g;

	DECODE(put);
	ok.inode = crc32c(0, r->data.p, r->data.len);
	ok.version = r->data.len;
	g = (struct rpc_gate){ m.if_version, (enum rpc_gated)(m.ttl_ms % RPC_GATES) };
	rpc_reply(r, OP_put_ok, &ok, bytes_of(NULL, 0), g);
}

static void on_get(void *arg, struct rpc_request *r)
{
	struct msg_get_ok ok = { 0 };

	DECODE(get);
	ok.size = m.from;
	ok.inode = m.inode;
	if (m.wait_ms > 0)
		fiber_sleep(sys_after(v->s, m.wait_ms * SYS_MS));
	if (m.from > LIMIT_FRAME_DATA_BYTES_MAX)
		m.from = LIMIT_FRAME_DATA_BYTES_MAX;
	rpc_reply(r, OP_get_ok, &ok, bytes_of(pattern(), m.from), RPC_NOW);
}

static void on_list(void *arg, struct rpc_request *r)
{
	DECODE(list);
	if (v->n_kept == KEPT_MAX) {
		rpc_reply_error(r, E_BUSY, NULL, RPC_NOW);
		return;
	}
	v->kept[v->n_kept++] = *r;
}

void service_answer_kept(struct service *v)
{
	while (v->n_kept > 0)
		rpc_reply_ok(&v->kept[--v->n_kept], RPC_NOW);
}

/* As many of the longest names as a page may have: more than a mebibyte. */
static struct wire_list longest_list(uint8_t *room, size_t len, uint16_t version)
{
	struct wire_list_builder b = wire_list_begin(room, len, version);
	struct sub_entry e = { .name = bytes_of(pattern(), LIMIT_NAME_BYTES_MAX) };

	for (unsigned i = 0; i < LIMIT_LIST_MAX; i++)
		check(sub_entry_add(&b, &e));
	return wire_list_end(&b);
}

static void on_stat(void *arg, struct rpc_request *r)
{
	enum { LIST_ROOM = 2 << 20 };
	uint8_t *room = NULL;
	struct msg_list_ok too_long = { .next = bytes_of(pattern(), 1026) };

	DECODE(stat);
	if (m.parent == 1) {
		room = malloc(LIST_ROOM);
		too_long.entries = longest_list(room, LIST_ROOM, r->version);
		too_long.next.len = 0;
	}
	rpc_reply(r, OP_list_ok, &too_long, bytes_of(NULL, 0), RPC_NOW);
	free(room);
}

static void on_write(void *arg, struct rpc_request *r)
{
	enum { PIECE = 1 << 20 };
	struct msg_extent_ok ok = { 0 };
	uint8_t *piece;
	size_t left = r->data_len;

	DECODE(extent_write);
	check(r->data.len == 0);
	if (m.tier == 2) {
		rpc_reply_error(r, E_FULL, &(struct err_note){ "no room in this tier" }, RPC_NOW);
		return;
	}
	left /= m.tier == 1 ? 2 : 1;
	piece = malloc(PIECE);
	while (left > 0 && rc == 0) {
		size_t len = left < PIECE ? left : PIECE;

		rc = rpc_recv_data(r, piece, len, soon(v->s));
		ok.root = crc32c(ok.root, piece, len);
		left -= len;
	}
	if (m.tier == 0 && rc == 0)
		check(rpc_recv_data(r, piece, 1, soon(v->s)) == E_INVALID);
	free(piece);
	if (rc < 0)
		rpc_reply_error(r, rc, NULL, RPC_NOW);
	else
		rpc_reply(r, OP_extent_ok, &ok, bytes_of(NULL, 0), RPC_NOW);
}

static void unpin(void *arg) { ((struct service *)arg)->n_pins--; }

static void on_read(void *arg, struct rpc_request *r)
{
	struct msg_read_ok ok = { 0 };

	DECODE(extent_read);
	if (m.offset > PATTERN_BYTES || m.len > PATTERN_BYTES - m.offset) {
		rpc_reply_error(r, E_INVALID, NULL, RPC_NOW);
		return;
	}
	ok.offset = m.offset;
	if (++v->n_pins > v->n_pins_most)
		v->n_pins_most = v->n_pins;
	rpc_reply_pinned(r, OP_read_ok, &ok, bytes_of(pattern() + m.offset, m.len), unpin, v,
		(struct rpc_gate){ m.cap_until_ms, false });
}

static void on_alloc(void *arg, struct rpc_request *r)
{
	struct msg_alloc_ok ok = { .arena_bytes = 4096, .with_fd = 1 };
	struct sys_shm *shm;
	void *p;

	DECODE(extent_alloc);
	if (!sys_stream_local(rpc_conn_stream(r->conn))) {
		rpc_reply_error(r, E_UNSUPPORTED, NULL, RPC_NOW);
		return;
	}
	check(sys_shm_new(v->s, "test", 4096, &shm, NULL) == 0);
	check(sys_shm_map(shm, &p, NULL) == 0);
	memcpy(p, &m.extent, sizeof m.extent);
	ok.arena = m.extent;
	rc = rpc_reply_shm(r, OP_alloc_ok, &ok, &shm, 1);
	check(rc == 0 || rc == E_CLOSED);
	sys_shm_close(shm);
}

static void on_renew(void *arg, struct rpc_request *r)
{
	struct rpc_call call = { .op = OP_ping, .plain = true, .msg = &(struct msg_ping){ } };
	const struct msg_status status = { 0 };
	struct err_note note;
	struct msg_ok ok;

	DECODE(job_renew);
	if (m.job == 2) {
		call.op = OP_status;
		call.msg = &status;
	}
	rc = rpc_ask(r->conn, &call, OP_ok, &ok, soon(v->s), &note);
	if (rc < 0)
		rpc_reply_error(r, rc, &note, RPC_NOW);
	else
		rpc_reply_ok(r, RPC_NOW);
	rpc_call_fini(&call);
}

static void on_ping(void *arg, struct rpc_request *r)
{
	DECODE(ping);
	v->n_pinged++;
	rpc_reply_ok(r, RPC_NOW);
}

static void on_status(void *arg, struct rpc_request *r)
{
	DECODE(status);
	v->n_pinged++;
	fiber_sleep(soon(v->s));
	rpc_reply_ok(r, RPC_NOW);
}

static int on_hello(void *arg, struct rpc_conn *c, const struct msg_hello *h,
	struct msg_hello_ok *ret_ok, char ret_hint[SYS_ADDR_MAX], struct err_note *note)
{
	struct service *v = arg;

	v->n_hellos++;
	check(!rpc_conn_open(c));
	if (bytes_equal(h->token, BYTES("wrong")))
		return err_set(note, E_DENIED, "this token is not ours");
	if (bytes_equal(h->token, BYTES("other"))) {
		snprintf(ret_hint, SYS_ADDR_MAX, "tcp:other:1");
		return err_set(note, E_NOTPRIMARY, "the other one leads");
	}
	if (bytes_equal(h->token, BYTES("slow")))
		fiber_sleep(sys_after(v->s, 5 * SYS_MS));
	ret_ok->incarnation = 77;
	ret_ok->last_number = h->client_lo;
	rpc_conn_set(c, v);
	return 0;
}

static void on_lost(void *arg, struct rpc_conn *c)
{
	struct service *v = arg;
	unsigned n = 0;

	check(rpc_conn_get(c) == v);
	v->n_lost++;
	for (unsigned i = 0; i < v->n_kept; i++) {
		if (v->kept[i].conn == c)
			rpc_drop(&v->kept[i]);
		else
			v->kept[n++] = v->kept[i];
	}
	v->n_kept = n;
}

static void on_closed(void *arg, struct rpc_conn *c)
{
	struct service *v = arg;

	check(rpc_conn_stream(c) == NULL);
	v->n_closed++;
}

static const struct rpc_op ops[] = {
	{ OP_put, RPC_INLINE, on_put },
	{ OP_get, RPC_FIBER, on_get },
	{ OP_list, RPC_INLINE, on_list },
	{ OP_stat, RPC_INLINE, on_stat },
	{ OP_extent_write, RPC_STREAM, on_write },
	{ OP_extent_read, RPC_INLINE, on_read },
	{ OP_extent_alloc, RPC_FIBER, on_alloc },
	{ OP_job_renew, RPC_FIBER, on_renew },
};
static const struct rpc_op reverse_ops[] = {
	{ OP_ping, RPC_INLINE, on_ping },
	{ OP_status, RPC_STREAM, on_status },
};

void service_open(struct service *v, struct sys *s)
{
	struct err_note note = { "" };

	*v = (struct service){ .s = s };
	v->svc = (struct rpc_service){ .ops = ops, .n_ops = sizeof ops / sizeof ops[0], .arg = v,
		.hello = on_hello, .lost = on_lost, .closed = on_closed };
	v->reverse = (struct rpc_service){ .ops = reverse_ops, .n_ops = 2, .arg = v };
	group_init(&v->g, sys_loop(s));
	v->g.keep_going = true;
	check(rpc_server_new(s, &v->svc, &v->server) == 0);
	rpc_server_limit(v->server, &(struct rpc_limits){ .linger_ns = 20 * SYS_MS });
	if (rpc_server_listen(v->server, door_tcp, &v->tcp, &note) < 0)
		check_failed(note.text, __FILE__, __LINE__, __func__);
	check(rpc_server_listen(v->server, door_unix(), &v->local, &note) == 0);
}

void service_close(struct service *v)
{
	rpc_server_free(v->server);
	check(v->n_lost == v->n_closed);
	check(v->n_kept == 0);
	check(v->n_pins == 0);
	check(group_wait(&v->g) == 0);
}

struct rpc_conn *service_connect(struct service *v, const char *addr)
{
	struct rpc_connect o = { .addr = addr, .svc = &v->reverse, .group = &v->g,
		.hello = { .role = ROLE_CLIENT, .name = BYTES("test") } };
	struct msg_hello_ok ok;
	struct err_note note = { "" };
	struct rpc_conn *c;

	if (rpc_connect(v->s, &o, soon(v->s), &c, &ok, &note) < 0)
		check_failed(note.text, __FILE__, __LINE__, __func__);
	check(ok.incarnation == 77);
	check(rpc_conn_version(c) == WIRE_VERSION);
	return c;
}
