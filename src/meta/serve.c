/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers decode, call the shard and answer behind the gate of what the shard has seen by then.
 *
 * They run in the reader's fiber.  Two kinds of requests are answered later, by a fiber of their
 * own that is cancelled when the connection is lost: a get that waits for a name, and what took
 * bytes away that storage servers have yet to drop. */
#include "base/limit.h"
#include "meta/large.h"
#include "meta/serve_own.h"
#include <stdlib.h>

struct later {
	struct serve *v;
	struct list link;    /* in its connection's laters */
	struct fiber *fiber; /* NULL until it runs */
	bool lost;
	struct rpc_request r;
	struct shard_call c;
	uint64_t seen; /* the index to wait for; 0: that of the moment of the answer */
};
struct wait {
	struct later l;
	struct msg_get m;
	uint8_t name[LIMIT_NAME_BYTES_MAX];
};
struct settle {
	struct later l;
	uint64_t ticket;
	uint16_t op;
	struct msg_put_ok ok; /* nothing for OP_ok */
};

bool deny_replica(struct rpc_request *r)
{
	struct err_note note;

	err_set(&note, E_DENIED, "a replica asks nothing of the shard");
	rpc_reply_error(r, E_DENIED, &note, RPC_NOW);
	return true;
}

/* False: it was refused. */
static bool begin(const struct serve *v, struct shard_call *c, struct rpc_request *r)
{
	const struct conn *conn = rpc_conn_get(r->conn);

	if (conn->replica)
		return !deny_replica(r);
	c->who = conn->who;
	c->session = conn->session;
	c->number = (r->cookie & FRAME_COOKIE_PLAIN) != 0 ? 0 : r->cookie;
	c->version = rpc_conn_version(r->conn);
	c->sync = false;
	c->ticket = large_ticket(v->sh);
	return true;
}

static void answer_at(struct serve *v, struct rpc_request *r, const struct shard_call *c, int rc,
	uint16_t op, const void *msg, struct bytes data, uint64_t seen)
{
	struct rpc_gate g = RPC_NOW; /* says nothing about what was not written */

	if (shard_failed(v->sh) == 0 && rc != E_FULL && rc != E_BUSY)
		g = serve_gate(v, seen, c->sync);
	if (rc < 0)
		rpc_reply_error(r, rc, &c->note, g);
	else
		rpc_reply(r, op, msg, data, g);
}

static void answer_now(struct serve *v, struct rpc_request *r, const struct shard_call *c, int rc,
	uint16_t op, const void *msg, struct bytes data)
{
	answer_at(v, r, c, rc, op, msg, data, shard_seen(v->sh));
}

/* ---- answering later ---- */
static void later_init(
	struct later *l, struct serve *v, const struct rpc_request *r, const struct shard_call *c)
{
	*l = (struct later){ .v = v, .r = *r, .c = *c };
	list_init(&l->link);
}

/* Runs fn, which calls later_end() and frees what l is part of.  E_BUSY. */
static int later_start(struct later *l, const char *name, fiber_fn *fn, void *arg)
{
	struct conn *conn = rpc_conn_get(l->r.conn);
	int rc = fiber_start(&l->v->laters, name, fn, arg);

	if (rc == 0)
		list_push(&conn->laters, &l->link);
	return rc;
}

static void later_end(struct later *l, int rc, uint16_t op, const void *msg, struct bytes data)
{
	list_remove(&l->link);
	if (l->lost)
		rpc_drop(&l->r);
	else
		answer_at(l->v, &l->r, &l->c, rc, op, msg, data,
			l->seen != 0 ? l->seen : shard_seen(l->v->sh));
}

static PARKS int settle_fiber(void *arg)
{
	struct settle *s = arg;
	int rc = 0;

	s->l.fiber = fiber_self();
	fiber_note(s->l.r.cookie, "waits for storage servers to drop what was deleted");
	if (!s->l.lost)
		rc = large_settle(
			s->l.v->sh, s->ticket, sys_after(s->l.v->sys, LIMIT_SETTLE_MS * SYS_MS));
	if (rc < 0)
		rc = err_set(&s->l.c.note, E_UNAVAILABLE,
			"done, but a storage server has not confirmed that the old bytes are gone");
	later_end(&s->l, rc, s->op, &s->ok, bytes_of(NULL, 0));
	free(s);
	return 0;
}

static int settle_start(
	struct serve *v, struct rpc_request *r, struct shard_call *c, uint16_t op, const void *msg)
{
	struct settle *s = malloc(sizeof *s);

	if (s == NULL)
		return E_NOMEM;
	check(op == OP_ok || op == OP_put_ok);
	later_init(&s->l, v, r, c);
	s->ticket = large_ticket(v->sh);
	/* What the drops leave behind is in later records, which nobody wants synced. */
	s->l.seen = shard_seen(v->sh);
	s->op = op;
	if (op == OP_put_ok)
		s->ok = *(const struct msg_put_ok *)msg;
	if (later_start(&s->l, "settle", settle_fiber, s) == 0)
		return 0;
	free(s);
	return E_BUSY;
}

/* What was deleted must not be readable any more once the answer is out. */
static void answer(struct serve *v, struct rpc_request *r, struct shard_call *c, int rc,
	uint16_t op, const void *msg, struct bytes data)
{
	uint64_t ticket = large_ticket(v->sh);

	if (rc == 0 && ticket != c->ticket && (op == OP_ok || op == OP_put_ok) &&
		!large_settled(v->sh, ticket)) {
		if ((rc = settle_start(v, r, c, op, msg)) == 0)
			return;
		err_set(&c->note, rc, "no room for one more that waits");
	}
	answer_now(v, r, c, rc, op, msg, data);
}

static int decoded(struct shard_call *c, int rc)
{
	return rc < 0 ? err_set(&c->note, rc, "the request cannot be decoded") : 0;
}

/* A request that is answered with a message of its own, and one that is answered with ok. */
#define HANDLE(name, reply)                                                                        \
	static void on_##name(void *arg, struct rpc_request *r)                                    \
	{                                                                                          \
		struct serve *v = arg;                                                             \
		struct msg_##reply ok;                                                             \
		struct msg_##name m;                                                               \
		struct shard_call c;                                                               \
		int rc;                                                                            \
                                                                                                   \
		if (!begin(v, &c, r))                                                              \
			return;                                                                    \
		rc = decoded(&c, msg_##name##_get(r->body.p, r->body.len, r->version, &m));        \
		if (rc == 0)                                                                       \
			rc = shard_##name(v->sh, &c, &m, &ok);                                     \
		answer(v, r, &c, rc, OP_##reply, &ok, bytes_of(NULL, 0));                          \
	}
#define HANDLE_OK(name)                                                                            \
	static void on_##name(void *arg, struct rpc_request *r)                                    \
	{                                                                                          \
		static const struct msg_ok ok;                                                     \
		struct serve *v = arg;                                                             \
		struct msg_##name m;                                                               \
		struct shard_call c;                                                               \
		int rc;                                                                            \
                                                                                                   \
		if (!begin(v, &c, r))                                                              \
			return;                                                                    \
		rc = decoded(&c, msg_##name##_get(r->body.p, r->body.len, r->version, &m));        \
		if (rc == 0)                                                                       \
			rc = shard_##name(v->sh, &c, &m);                                          \
		answer(v, r, &c, rc, OP_ok, &ok, bytes_of(NULL, 0));                               \
	}
HANDLE(bucket_create, bucket_ok)
HANDLE(bucket_open, bucket_ok)
HANDLE_OK(bucket_drop)
HANDLE(bucket_list, bucket_list_ok)
HANDLE_OK(delete)
HANDLE_OK(done)
HANDLE(list, list_ok)
HANDLE(stat, stat_ok)
HANDLE(rename, put_ok)
HANDLE_OK(persist)
HANDLE(mkdir, put_ok)
HANDLE(grant, grant_ok)
HANDLE_OK(grant_return)
HANDLE(commit, put_ok)

static void on_put(void *arg, struct rpc_request *r)
{
	struct serve *v = arg;
	struct msg_put_ok ok;
	struct shard_call c;
	struct msg_put m;
	int rc;

	if (!begin(v, &c, r))
		return;
	rc = decoded(&c, msg_put_get(r->body.p, r->body.len, r->version, &m));
	if (rc == 0)
		rc = shard_put(v->sh, &c, &m, r->data, &ok);
	answer(v, r, &c, rc, OP_put_ok, &ok, bytes_of(NULL, 0));
}

/* ---- get, and the get that waits ---- */

static PARKS int wait_fiber(void *arg)
{
	struct wait *w = arg;
	struct msg_get_ok ok;
	struct bytes data = bytes_of(NULL, 0);
	int rc = E_CANCELED;

	w->l.fiber = fiber_self();
	fiber_note(w->l.r.cookie, "waits for a name");
	if (!w->l.lost)
		rc = shard_get_wait(w->l.v->sh, &w->l.c, &w->m, &ok, &data);
	later_end(&w->l, rc, OP_get_ok, &ok, data);
	free(w);
	return 0;
}

static int wait_start(struct serve *v, const struct rpc_request *r, const struct shard_call *c,
	const struct msg_get *m)
{
	struct wait *w = malloc(sizeof *w);
	int rc;

	if (w == NULL)
		return E_NOMEM;
	later_init(&w->l, v, r, c);
	w->m = *m;
	check(m->name.len <= sizeof w->name);
	memcpy(w->name, m->name.p, m->name.len);
	w->m.name.p = w->name;
	if ((rc = later_start(&w->l, "wait", wait_fiber, w)) < 0)
		free(w);
	return rc;
}

static void on_get(void *arg, struct rpc_request *r)
{
	struct bytes data = bytes_of(NULL, 0);
	struct serve *v = arg;
	struct msg_get_ok ok;
	struct shard_call c;
	struct msg_get m;
	int rc;

	if (!begin(v, &c, r))
		return;
	rc = decoded(&c, msg_get_get(r->body.p, r->body.len, r->version, &m));
	if (rc == 0) {
		rc = shard_get(v->sh, &c, &m, &ok, &data);
		if (shard_may_appear(v->sh, &c, &m, rc)) {
			rc = wait_start(v, r, &c, &m);
			if (rc == 0)
				return;
			err_set(&c.note, rc, "no room for one more that waits");
		}
	}
	answer(v, r, &c, rc, OP_get_ok, &ok, data);
}

static void on_ping(void *arg, struct rpc_request *r)
{
	rpc_reply_ok(r, RPC_NOW);
}

void laters_lost(struct conn *conn)
{
	list_each (it, &conn->laters) {
		struct later *l = container_of(it, struct later, link);

		l->lost = true;
		if (l->fiber != NULL)
			fiber_cancel(l->fiber);
	}
}

const struct rpc_op shard_ops[] = {
	{ OP_ping, RPC_INLINE, on_ping },
	{ OP_bucket_create, RPC_INLINE, on_bucket_create },
	{ OP_bucket_open, RPC_INLINE, on_bucket_open },
	{ OP_bucket_drop, RPC_INLINE, on_bucket_drop },
	{ OP_bucket_list, RPC_INLINE, on_bucket_list },
	{ OP_put, RPC_INLINE, on_put },
	{ OP_get, RPC_INLINE, on_get },
	{ OP_delete, RPC_INLINE, on_delete },
	{ OP_done, RPC_INLINE, on_done },
	{ OP_list, RPC_INLINE, on_list },
	{ OP_stat, RPC_INLINE, on_stat },
	{ OP_rename, RPC_INLINE, on_rename },
	{ OP_persist, RPC_INLINE, on_persist },
	{ OP_mkdir, RPC_INLINE, on_mkdir },
	{ OP_grant, RPC_INLINE, on_grant },
	{ OP_grant_return, RPC_INLINE, on_grant_return },
	{ OP_commit, RPC_INLINE, on_commit },
};
const size_t shard_n_ops = sizeof shard_ops / sizeof shard_ops[0];
