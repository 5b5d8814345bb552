/* SPDX-License-Identifier: Apache-2.0 */
/* Calls: requests of ours, and the replies of the other side.
 *
 * A numbered call lives in the slot of its number modulo INFLIGHT_MAX.  So number n cannot go out
 * before n - INFLIGHT_MAX has ended, which is exactly what the session promises.  Plain calls pass
 * over taken slots of a ring that is at most half full. */
#include "rpc/own.h"
#include <stdio.h>
#include <stdlib.h>

/* ---- the end of a call ---- */
/* A refusal may come while the data is still going out: then the call ends when it is out (I4). */
static void call_end(struct rpc_call *call, int rc)
{
	struct fiber *waiter = call->waiter;

	check(!call->ended);
	call->rc = rc;
	call->answered = true;
	if (call->pinned)
		return;
	if (rc < 0) {
		free(call->buf);
		call->buf = NULL;
	}
	call->ended = true;
	call->waiter = NULL;
	if (waiter != NULL)
		fiber_wake(waiter, 0);
	else if (call->done != NULL)
		call->done(call->done_arg);
}

static void unpinned(void *arg)
{
	struct rpc_call *call = arg;

	check(call->pinned);
	check(!call->ended);
	call->pinned = false;
	if (call->answered)
		call_end(call, call->rc);
}

static void lost(struct rpc_conn *c, struct rpc_call *call, int rc)
{
	err_set(&call->note, rc, "%s", c->why.text);
	call_end(call, rc);
}

/* ---- slots ---- */
static struct rpc_call **slot_of(struct rpc_conn *c, uint64_t cookie)
{
	if (cookie == 0)
		return &c->hello_call;
	if ((cookie & FRAME_COOKIE_PLAIN) == 0)
		return &c->numbered[cookie % LIMIT_INFLIGHT_MAX];
	return c->plain_cap > 0 ? &c->plain[cookie & (c->plain_cap - 1)] : NULL;
}

/* The open call of that cookie leaves its slot. */
static struct rpc_call *slot_take(struct rpc_conn *c, uint64_t cookie)
{
	struct rpc_call **slot = slot_of(c, cookie), *call;

	if (slot == NULL || *slot == NULL || (*slot)->cookie != cookie)
		return NULL;
	call = *slot;
	*slot = NULL;
	if (cookie & FRAME_COOKIE_PLAIN)
		c->n_plain--;
	return call;
}

static int plain_grow(struct rpc_conn *c)
{
	uint32_t cap = c->plain_cap == 0 ? PLAIN_FIRST : c->plain_cap * 2;
	struct rpc_call **to;

	if (cap > PLAIN_MAX)
		return E_BUSY;
	to = calloc(cap, sizeof *to);
	if (to == NULL)
		return E_NOMEM;
	for (uint32_t i = 0; i < c->plain_cap; i++)
		if (c->plain[i] != NULL)
			to[c->plain[i]->cookie & (cap - 1)] = c->plain[i];
	free(c->plain);
	c->plain = to;
	c->plain_cap = cap;
	return 0;
}

/* ---- sending ---- */
static int send_call(struct rpc_conn *c, struct rpc_call *call)
{
	struct frame f = { .op = call->op, .version = c->version, .cookie = call->cookie };
	struct pin pin = { .call = call, .release = unpinned, .arg = call };
	int rc;

	if (c->state.now == CONN_HELLO)
		f.version = WIRE_VERSION; /* hello, before versions are agreed */
	if (call->data.len >= PIN_BYTES_MIN)
		rc = rpc_out_frame_pinned(c, &c->ready, &f, call->msg, call->data, &pin);
	else
		rc = rpc_out_frame(c, &c->ready, &f, call->msg, call->data);
	if (rc < 0)
		return err_set(&call->note, rc, "%s: %s", wire_op_name(call->op), err_text(rc));
	call->pinned = call->data.len >= PIN_BYTES_MIN;
	c->round_trips++;
	rpc_out_wake(c);
	return 0;
}

static int start_plain(struct rpc_conn *c, struct rpc_call *call)
{
	int rc = 0;

	if (c->n_plain * 2 >= c->plain_cap)
		rc = plain_grow(c);
	if (rc < 0)
		return err_set(&call->note, rc, "%u calls are open", c->n_plain);
	do
		call->cookie = FRAME_COOKIE_PLAIN | ++c->plain_next;
	while (*slot_of(c, call->cookie) != NULL);
	rc = send_call(c, call);
	if (rc < 0)
		return rc;
	*slot_of(c, call->cookie) = call;
	c->n_plain++;
	return 0;
}

static bool number_free(struct rpc_conn *c, const struct rpc_call *call)
{
	return *slot_of(c, call->cookie != 0 ? call->cookie : c->number_next) == NULL;
}

static int start_numbered(struct rpc_conn *c, struct rpc_call *call)
{
	uint64_t number = call->cookie != 0 ? call->cookie : c->number_next;
	uint64_t before = call->cookie;
	int rc;

	call->cookie = number;
	rc = send_call(c, call);
	if (rc < 0) {
		call->cookie = before; /* a number that was not sent is not used up */
		return rc;
	}
	if (number >= c->number_next)
		c->number_next = number + 1;
	*slot_of(c, number) = call;
	return 0;
}

/* Queued calls whose number has come into the window. */
static void start_queued(struct rpc_conn *c)
{
	while (!list_empty(&c->queued)) {
		struct rpc_call *call = container_of(c->queued.next, struct rpc_call, link);
		int rc;

		if (!number_free(c, call))
			return;
		list_remove(&call->link);
		rc = start_numbered(c, call);
		if (rc < 0)
			call_end(call, rc);
	}
}

int rpc_start(struct rpc_conn *c, struct rpc_call *call)
{
	int rc = 0;

	check(c->magic == CONN_MAGIC);
	check(!call->started);
	check(wire_op(call->op) != NULL);
	check(call->plain || (call->cookie & FRAME_COOKIE_PLAIN) == 0);
	list_init(&call->link);
	call->started = true;
	if (c->state.now != CONN_OPEN)
		rc = err_set(&call->note, E_CLOSED, "%s", c->why.text[0] != '\0' ? c->why.text
			: "the connection is not open");
	else if (call->plain)
		rc = start_plain(c, call);
	else if (number_free(c, call) && (call->cookie != 0 || list_empty(&c->queued)))
		rc = start_numbered(c, call);
	else
		list_push(&c->queued, &call->link);
	if (rc < 0) {
		call->rc = rc;
		call->ended = true;
	}
	return rc;
}

/* ---- replies ---- */
/* The peer's words, never empty and without bytes that would act on a terminal. */
static void note_take(struct err_note *note, int rc, struct bytes words)
{
	size_t len = words.len < sizeof note->text - 1 ? words.len : sizeof note->text - 1;

	for (size_t i = 0; i < len; i++)
		note->text[i] = words.p[i] < ' ' || words.p[i] == 0x7f ? '?' : (char)words.p[i];
	note->text[len] = '\0';
	if (len == 0)
		err_set(note, rc, "%s", err_text(rc));
}

/* An address is visible text, or it is none. */
static void hint_take(char *ret_hint, struct bytes hint)
{
	if (ret_hint == NULL || hint.len == 0 || hint.len >= SYS_ADDR_MAX)
		return;
	for (size_t i = 0; i < hint.len; i++)
		if (hint.p[i] <= ' ' || hint.p[i] >= 0x7f)
			return;
	memcpy(ret_hint, hint.p, hint.len);
	ret_hint[hint.len] = '\0';
}

static int answered_error(struct rpc_call *call, const struct frame *f, const uint8_t *body)
{
	struct msg_error m;
	int rc;

	if (msg_error_get(body, f->body_len, f->version, &m) < 0 || m.code == 0)
		return err_set(&call->note, E_CORRUPT, "an error that is damaged");
	rc = m.code <= INT32_MAX ? -(int)m.code : E_UNSUPPORTED;
	if (!err_known(rc))
		rc = E_UNSUPPORTED; /* a newer peer's: its words say what it is */
	note_take(&call->note, rc, m.note);
	if (rc == E_NOTPRIMARY)
		hint_take(call->ret_hint, m.hint);
	call->reply_op = f->op; /* whoever asked can tell a refusal from a broken connection */
	return rc;
}

/* Moves a reply into the call, its data straight from the door when they are large. */
static int deliver(struct rpc_conn *c, struct rpc_call *call, const struct frame *f,
	const uint8_t *body)
{
	size_t need = f->body_len + (call->into == NULL ? f->data_len : 0);
	uint8_t *to = call->room, *data;
	int rc;

	if (f->op == OP_error)
		return answered_error(call, f, body);
	if (call->into != NULL && f->data_len > call->into_cap)
		return err_set(&call->note, E_TOOBIG, "%u bytes came, there is room for %zu",
			f->data_len, call->into_cap);
	if (need > sizeof call->room)
		to = call->buf = malloc(need);
	if (to == NULL)
		return err_set(&call->note, E_NOMEM, "a reply of %zu bytes", need);
	memcpy(to, body, f->body_len);
	data = call->into != NULL ? call->into : to + f->body_len;
	c->in.into = call;
	c->in.into_dropped = false;
	rc = rpc_in_take(c, data, f->data_len, FOREVER, call);
	c->in.into = NULL;
	waitq_wake_all(&c->in.let_go);
	if (rc < 0)
		return rc;
	call->reply_op = f->op;
	call->reply_version = f->version;
	call->reply = bytes_of(to, f->body_len);
	call->reply_data = bytes_of(data, f->data_len);
	return 0;
}

/* Cookie 0: the answer to hello, or the error that ends the connection. */
static int about_connection(struct rpc_conn *c, const struct frame *f, const uint8_t *body)
{
	struct rpc_call *call = slot_take(c, 0), dummy = { .op = OP_hello };
	struct msg_hello_ok ok;
	int rc;

	if (f->op == OP_error) {
		rc = answered_error(call != NULL ? call : &dummy, f, body);
		snprintf(c->why.text, sizeof c->why.text, "%.100s: %.150s", c->name,
			call != NULL ? call->note.text : dummy.note.text);
		if (call != NULL)
			call_end(call, rc);
		return E_CLOSED;
	}
	if (call == NULL) {
		c->counts->unasked++;
		return 0;
	}
	if (f->op != OP_hello_ok || msg_hello_ok_get(body, f->body_len, f->version, &ok) < 0
			|| ok.version == 0 || ok.version > WIRE_VERSION) {
		rc = rpc_conn_broken(c, "this answer to hello is damaged");
		err_set(&call->note, rc, "%s", c->why.text);
		call_end(call, rc);
		return rc;
	}
	c->version = ok.version;
	c->number_next = ok.last_number + 1;
	c->let_in = true;
	sm_move(&c->state, CONN_OPEN);
	rc = deliver(c, call, f, body);
	call_end(call, rc);
	return rc;
}

int rpc_reply_handle(struct rpc_conn *c, const struct frame *f, const uint8_t *body)
{
	struct rpc_call *call;
	int rc;

	if (f->cookie == 0 && c->server == NULL)
		return about_connection(c, f, body);
	call = f->cookie != 0 ? slot_take(c, f->cookie) : NULL;
	if (call == NULL) { /* given up, or never asked */
		c->counts->unasked++;
		return 0;
	}
	rc = deliver(c, call, f, body);
	if (c->in.into_dropped) {
		c->in.into_dropped = false;
		return 0; /* given up meanwhile: its waiter ends it, the rest is skipped */
	}
	if ((rc == E_CLOSED || rc == E_TIMEOUT || rc == E_CANCELED) && f->op != OP_error) {
		rpc_conn_fail(c, rc, "%s: %s inside a reply", c->name, err_text(rc));
		lost(c, call, E_CLOSED);
		return rc;
	}
	call_end(call, rc);
	start_queued(c);
	return 0;
}

void rpc_calls_end(struct rpc_conn *c, int rc)
{
	struct rpc_call *call;
	struct list *n;

	check(c->state.now == CONN_DOWN);
	check(c->in.into == NULL);
	/* Who is not let in by the door itself (a certificate) need not try again. */
	if ((call = slot_take(c, 0)) != NULL)
		lost(c, call, rc == E_DENIED ? rc : E_CLOSED);
	for (uint32_t i = 0; i < LIMIT_INFLIGHT_MAX; i++)
		if (c->numbered[i] != NULL)
			lost(c, slot_take(c, c->numbered[i]->cookie), E_CLOSED);
	for (uint32_t i = 0; i < c->plain_cap; i++)
		if (c->plain[i] != NULL)
			lost(c, slot_take(c, c->plain[i]->cookie), E_CLOSED);
	while ((n = list_pop(&c->queued)) != NULL)
		lost(c, container_of(n, struct rpc_call, link), E_CLOSED);
	check(c->n_plain == 0);
}

/* ---- waiting ---- */
static void unhook(void *hook) { ((struct rpc_call *)hook)->waiter = NULL; }

static void give_up(struct rpc_conn *c, struct rpc_call *call, int rc)
{
	if (c->in.into == call) { /* the reader is writing into its memory */
		c->in.into_dropped = true;
		fiber_shield(FOREVER);
		while (c->in.into == call)
			waitq_wait(&c->in.let_go, FOREVER);
		fiber_unshield();
	} else if (!list_empty(&call->link)) {
		list_remove(&call->link); /* never got its number */
	} else if (!call->answered) {
		check(slot_take(c, call->cookie) == call);
	}
	if (call->ended)
		return;
	if (call->pinned)
		rpc_out_let_go(c, call);
	if (call->ended)
		return;
	if (!call->answered)
		call->rc = err_set(&call->note, rc, "%s: %s", wire_op_name(call->op), err_text(rc));
	call_end(call, call->rc);
	if (conn_talks(c))
		start_queued(c);
}

int rpc_wait(struct rpc_conn *c, struct rpc_call *call, uint64_t until_ns)
{
	int rc;

	check(call->started);
	check(call->waiter == NULL);
	if (call->ended)
		return call->rc;
	check(c->magic == CONN_MAGIC);
	c->refs++;
	call->done = NULL;
	call->waiter = fiber_self();
	rc = fiber_park(until_ns, unhook, call);
	if (!call->ended)
		give_up(c, call, rc);
	rpc_conn_unref(c);
	return call->rc;
}

void rpc_call_fini(struct rpc_call *call)
{
	check(!call->started || call->ended);
	free(call->buf);
	call->buf = NULL;
}

int rpc_ask(struct rpc_conn *c, struct rpc_call *call, uint16_t reply_op, void *ret_reply,
	uint64_t until_ns, struct err_note *note)
{
	const struct wire_op *op = wire_op(reply_op);
	int rc = rpc_start(c, call);

	check(op != NULL);
	if (rc == 0)
		rc = rpc_wait(c, call, until_ns);
	if (rc < 0)
		return err_set(note, rc, "%s", call->note.text);
	if (call->reply_op != reply_op)
		rc = err_set(note, E_CORRUPT, "%s was answered by %s", wire_op_name(call->op),
			wire_op_name(call->reply_op));
	else if (op->get(call->reply.p, call->reply.len, call->reply_version, ret_reply) < 0)
		rc = err_set(note, E_CORRUPT, "the %s that answered %s is damaged",
			wire_op_name(reply_op), wire_op_name(call->op));
	if (rc < 0)
		rpc_call_fini(call);
	return rc;
}

void rpc_number_set(struct rpc_conn *c, uint64_t next)
{
	check(next > 0);
	check((next & FRAME_COOKIE_PLAIN) == 0);
	c->number_next = next;
}

/* ---- connecting ---- */
static int say_hello(struct rpc_conn *c, const struct rpc_connect *o, uint64_t until_ns,
	struct msg_hello_ok *ret_ok, struct err_note *note)
{
	struct msg_hello hello = o->hello;
	struct rpc_call call = { .op = OP_hello, .msg = &hello, .started = true,
		.ret_hint = o->ret_hint };
	struct msg_hello_ok ok;
	int rc;

	hello.version = WIRE_VERSION;

	list_init(&call.link);
	c->hello_call = &call;
	rc = send_call(c, &call);
	if (rc < 0) {
		c->hello_call = NULL;
		call.ended = true;
	} else {
		rc = rpc_wait(c, &call, until_ns);
	}
	if (rc == 0)
		rc = msg_hello_ok_get(call.reply.p, call.reply.len, call.reply_version, &ok);
	else
		err_set(note, rc, "connect %s: %s", c->name, call.note.text);
	if (rc == 0) {
		if (o->greeted != NULL)
			o->greeted(o->arg, &ok);
		*ret_ok = ok;
		ret_ok->nodes = (struct wire_list){ .version = ok.nodes.version }; /* in call */
	}
	rpc_call_fini(&call);
	return rc;
}

int rpc_connect(struct sys *s, const struct rpc_connect *o, uint64_t until_ns,
	struct rpc_conn **ret_c, struct msg_hello_ok *ret_ok, struct err_note *note)
{
	struct ops *ops = malloc(sizeof *ops);
	struct sys_stream *stream = NULL;
	struct rpc_conn *c;
	int rc = ops == NULL ? err_set(note, E_NOMEM, "connect %s", o->addr)
		: sys_connect(s, o->addr, until_ns, &stream, note);

	if (rc == 0) {
		rpc_ops_init(ops, o->svc);
		rc = rpc_conn_new(s, stream, NULL, ops, o->group, &c);
		if (rc < 0)
			err_set(note, rc, "connect %s: %s", o->addr, err_text(rc));
	}
	if (rc < 0) {
		sys_stream_close(stream);
		free(ops);
		return rc;
	}
	c->own_ops = ops;
	rc = say_hello(c, o, until_ns, ret_ok, note);
	if (rc < 0) {
		rpc_close(c);
		return rc;
	}
	*ret_c = c;
	return 0;
}

void rpc_close(struct rpc_conn *c)
{
	if (c == NULL)
		return;
	check(c->magic == CONN_MAGIC);
	check(c->server == NULL);
	rpc_conn_fail(c, E_CLOSED, "%s: closed by us", c->name);
	if (c->reader != NULL)
		fiber_cancel(c->reader); /* a handler of it may be parked elsewhere */
	fiber_shield(FOREVER); /* ends: the reader notices at once, the others are told by it */
	while (c->state.now != CONN_GONE || c->refs > 1)
		waitq_wait(&c->gone_q, FOREVER);
	fiber_unshield();
	rpc_conn_unref(c);
}
