/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of the other side, and the replies to them. */
#include "rpc/own.h"
#include <stdio.h>
#include <stdlib.h>

static const struct rpc_op *op_of(const struct rpc_conn *c, uint16_t op)
{
	uint8_t i = op < WIRE_OPS_MAX ? c->ops->by_op[op] : 0;

	return i > 0 ? &c->ops->svc->ops[i - 1] : NULL;
}

uint32_t rpc_request_buffered(const struct rpc_conn *c, const struct frame *f)
{
	const struct rpc_op *op = op_of(c, f->op);

	if (op == NULL || op->how == RPC_STREAM || f->data_len > RPC_BUFFERED_BYTES_MAX)
		return 0;
	return f->data_len;
}

/* ---- hello ---- */
static int refuse(struct rpc_conn *c, uint64_t cookie, int rc, const struct err_note *note,
	const char *hint)
{
	snprintf(c->why.text, sizeof c->why.text, "%.100s: %.150s", c->name, note->text);
	c->counts->denied++;
	rpc_conn_error(c, cookie, rc, note, rc == E_NOTPRIMARY ? hint : "");
	sm_move(&c->state, CONN_CLOSING);
	return rc;
}

static int hello(struct rpc_conn *c, const struct frame *f, const uint8_t *body)
{
	const struct rpc_service *svc = c->ops->svc;
	struct frame reply = { .op = OP_hello_ok, .cookie = f->cookie, .flags = FRAME_REPLY };
	struct err_note note = { "" };
	char hint[SYS_ADDR_MAX] = "";
	struct msg_hello_ok ok = { 0 };
	struct msg_hello m;
	int rc = 0;

	if (c->server == NULL || f->op != OP_hello)
		return rpc_conn_broken(c, "%s before hello", wire_op_name(f->op));
	if (msg_hello_get(body, f->body_len, f->version, &m) < 0 || m.version == 0)
		return rpc_conn_broken(c, "this hello is damaged");
	c->version = m.version < WIRE_VERSION ? m.version : WIRE_VERSION;
	if (svc->hello != NULL)
		rc = svc->hello(svc->arg, c, &m, &ok, hint, &note);
	if (rc < 0)
		return refuse(c, f->cookie, rc, &note, hint);
	ok.version = reply.version = c->version;
	rc = rpc_out_frame(c, &c->ready, &reply, &ok, bytes_of(NULL, 0));
	if (rc < 0)
		return rc;
	c->let_in = true;
	sm_move(&c->state, CONN_OPEN);
	rpc_out_wake(c);
	return 0;
}

/* ---- running handlers ---- */
struct job { /* a request with a fiber of its own; its bytes follow */
	struct rpc_request r;
	const struct rpc_op *op;
	void *arg;
	uint8_t bytes[];
};

static int job_run(void *arg)
{
	struct job *j = arg;

	fiber_note(j->r.cookie, wire_op_name(j->r.op));
	j->op->handle(j->arg, &j->r);
	free(j);
	return 0;
}

static void job_start(struct rpc_conn *c, const struct rpc_op *op, struct rpc_request *r)
{
	struct job *j = malloc(sizeof *j + r->body.len + r->data.len);
	struct err_note note = { "no room for another request at once" };
	int rc;

	if (j == NULL) {
		rpc_reply_error(r, E_NOMEM, NULL, RPC_NOW);
		return;
	}
	j->r = *r;
	j->op = op;
	j->arg = c->ops->svc->arg;
	j->r.body.p = memcpy(j->bytes, r->body.p, r->body.len);
	j->r.data.p = j->bytes + r->body.len;
	if (r->data.len > 0)
		memcpy(j->bytes + r->body.len, r->data.p, r->data.len);
	rc = fiber_start(&c->kids, wire_op_name(r->op), job_run, j);
	if (rc < 0) {
		free(j);
		rpc_reply_error(r, rc, &note, RPC_NOW);
	}
}

static void unsupported(struct rpc_conn *c, struct rpc_request *r)
{
	struct err_note note;

	c->counts->unsupported++;
	err_set(&note, E_UNSUPPORTED, "message %u (%s) is not served here", r->op,
		wire_op_name(r->op));
	rpc_reply_error(r, E_UNSUPPORTED, &note, RPC_NOW);
}

static void too_much(struct rpc_request *r)
{
	struct err_note note;

	err_set(&note, E_TOOBIG, "%s takes at most %d bytes of data", wire_op_name(r->op),
		RPC_BUFFERED_BYTES_MAX);
	rpc_reply_error(r, E_TOOBIG, &note, RPC_NOW);
}

int rpc_request_handle(struct rpc_conn *c, const struct frame *f, const uint8_t *body)
{
	const struct rpc_op *op = op_of(c, f->op);
	struct rpc_request r = {
		.conn = c, .cookie = f->cookie, .op = f->op, .version = f->version,
		.body = bytes_of(body, f->body_len), .data_len = f->data_len,
	};

	if (c->state.now == CONN_HELLO)
		return hello(c, f, body);
	if (f->cookie == 0)
		return rpc_conn_broken(c, "a request without a cookie");
	c->counts->requests++;
	c->refs++;
	c->n_requests++;
	if (op == NULL) {
		unsupported(c, &r);
	} else if (c->n_requests > RPC_REQUESTS_OPEN_MAX) {
		rpc_reply_error(&r, E_BUSY, NULL, RPC_NOW);
	} else if (op->how == RPC_STREAM) {
		fiber_note(f->cookie, wire_op_name(f->op));
		op->handle(c->ops->svc->arg, &r);
		fiber_note(0, "rpc: input");
	} else if (f->data_len > RPC_BUFFERED_BYTES_MAX) {
		too_much(&r);
	} else {
		r.data = bytes_of(c->in.p + c->in.head, f->data_len);
		if (op->how == RPC_FIBER) {
			job_start(c, op, &r);
		} else {
			nopark_begin();
			op->handle(c->ops->svc->arg, &r);
			nopark_end();
		}
	}
	return 0;
}

int rpc_recv_data(struct rpc_request *r, void *buf, size_t len, uint64_t until_ns)
{
	struct rpc_conn *c = r->conn;

	check(c->reader == fiber_self());
	if (len > c->in.left)
		return E_INVALID;
	return rpc_in_take(c, buf, len, until_ns, NULL);
}

/* ---- replies ---- */
static void answered(struct rpc_conn *c)
{
	check(c->n_requests > 0);
	c->n_requests--;
	rpc_conn_unref(c);
}

static struct frame reply_frame(const struct rpc_request *r, uint16_t op)
{
	return (struct frame){ .op = op, .version = r->conn->version, .cookie = r->cookie,
		.flags = FRAME_REPLY };
}

struct msg_error rpc_error_of(int rc, const struct err_note *note)
{
	const char *text = note != NULL && note->text[0] != '\0' ? note->text : err_text(rc);

	check(rc < 0);
	return (struct msg_error){ .code = (uint32_t)-rc,
		.note = bytes_of(text, strnlen(text, sizeof note->text - 1)) };
}

/* The one way out: appends op with data, and when that is impossible an error in its place. */
static void reply(struct rpc_request *r, uint16_t op, const void *msg, struct bytes data,
	struct pin *pin, struct rpc_gate g)
{
	struct rpc_conn *c = r->conn;
	struct frame f = reply_frame(r, op);
	struct out *o;
	int rc;

	check(c->magic == CONN_MAGIC);
	if (!conn_talks(c)) {
		if (pin != NULL && pin->release != NULL)
			pin->release(pin->arg);
		answered(c);
		return;
	}
	o = rpc_gate_out(c, g);
	rc = pin == NULL ? rpc_out_frame(c, o, &f, msg, data)
		: rpc_out_frame_pinned(c, o, &f, msg, data, pin);
	if (rc < 0 && pin != NULL && pin->release != NULL)
		pin->release(pin->arg);
	if (rc == E_TOOBIG) {
		struct msg_error m = rpc_error_of(rc, NULL);

		f.op = OP_error;
		rc = rpc_out_frame(c, o, &f, &m, bytes_of(NULL, 0));
	}
	if (rc == 0) {
		rpc_gate_mark(c, g);
		c->counts->replies++;
	}
	answered(c);
}

void rpc_reply(struct rpc_request *r, uint16_t op, const void *msg, struct bytes data,
	struct rpc_gate g)
{
	reply(r, op, msg, data, NULL, g);
}

void rpc_reply_ok(struct rpc_request *r, struct rpc_gate g)
{
	reply(r, OP_ok, &(struct msg_ok){ }, bytes_of(NULL, 0), NULL, g);
}

void rpc_reply_error(struct rpc_request *r, int rc, const struct err_note *note, struct rpc_gate g)
{
	struct msg_error m = rpc_error_of(rc, note);

	reply(r, OP_error, &m, bytes_of(NULL, 0), NULL, g);
}

void rpc_reply_pinned(struct rpc_request *r, uint16_t op, const void *msg, struct bytes data,
	void (*release)(void *arg), void *arg, struct rpc_gate g)
{
	struct pin pin = { .release = release, .arg = arg };

	if (data.len > LIMIT_INLINE_BYTES_MAX) {
		reply(r, op, msg, data, &pin, g);
	} else { /* a pin costs more than such a copy */
		reply(r, op, msg, data, NULL, g);
		release(arg);
	}
}

void rpc_drop(struct rpc_request *r)
{
	check(r->conn->magic == CONN_MAGIC);
	answered(r->conn);
}

/* ---- with descriptors ---- */
struct shm_wait { struct waitq q; bool ended; };

static void shm_ended(void *arg)
{
	struct shm_wait *w = arg;

	w->ended = true;
	waitq_wake_all(&w->q);
}

int rpc_reply_shm(struct rpc_request *r, uint16_t op, const void *msg, struct sys_shm *const *shm,
	int n)
{
	struct rpc_conn *c = r->conn;
	struct shm_wait w = { .ended = false };
	struct pin pin = { .release = shm_ended, .arg = &w, .shm = shm, .n_shm = n };
	struct frame f = reply_frame(r, op);
	uint8_t *bytes = NULL;
	int rc = E_CLOSED;

	check(c->magic == CONN_MAGIC);
	check(n > 0 && n <= SYS_FDS_MAX);
	waitq_init(&w.q);
	c->refs++;
	if (conn_talks(c) && !c->writer_ended)
		rc = rpc_out_frame_shm(c, &f, msg, &pin, &bytes);
	answered(c);
	if (rc == 0) {
		c->counts->replies++;
		rpc_out_wake(c);
		fiber_shield(FOREVER); /* the writer has a deadline; a lost connection lets go */
		while (!w.ended)
			waitq_wait(&w.q, FOREVER);
		fiber_unshield();
		rc = conn_talks(c) ? 0 : E_CLOSED;
	}
	free(bytes);
	rpc_conn_unref(c);
	return rc;
}
