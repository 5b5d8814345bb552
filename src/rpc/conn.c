/* SPDX-License-Identifier: Apache-2.0 */
/* A connection's life: born with two fibers, closed in order, freed when nobody counts on it. */
#include "rpc/own.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { LINGER_BYTES_MAX = 1 << 20 };

static const struct sm_state conn_states[] = {
	[CONN_HELLO] = { "hello", TO(CONN_OPEN) | TO(CONN_CLOSING) | TO(CONN_DOWN) },
	[CONN_OPEN] = { "open", TO(CONN_CLOSING) | TO(CONN_DOWN) },
	[CONN_CLOSING] = { "closing", TO(CONN_DOWN) },
	[CONN_DOWN] = { "down", TO(CONN_GONE) },
	[CONN_GONE] = { "gone", 0 },
};

void rpc_ops_init(struct ops *o, const struct rpc_service *svc)
{
	*o = (struct ops){ .svc = svc };
	if (svc == NULL)
		return;
	check(svc->n_ops < UINT8_MAX);
	for (size_t i = 0; i < svc->n_ops; i++) {
		const struct rpc_op *op = &svc->ops[i];

		check(wire_op(op->op) != NULL);
		check(op->handle != NULL);
		check(o->by_op[op->op] == 0);
		o->by_op[op->op] = (uint8_t)(i + 1);
	}
}

/* ---- the end ---- */
static void conn_free(struct rpc_conn *c)
{
	struct rpc_server *s = c->server;

	check(c->state.now == CONN_GONE);
	check(c->n_requests == 0);
	check(c->out_bytes == 0);
	if (c->let_in && c->ops->svc != NULL && c->ops->svc->closed != NULL)
		c->ops->svc->closed(c->ops->svc->arg, c);
	if (s != NULL) {
		list_remove(&c->link);
		check(s->n_conns > 0);
		s->n_conns--;
		waitq_wake_all(&s->gone_q);
	}
	c->magic = 0;
	free(c->plain);
	free(c->own_ops);
	free(c);
}

void rpc_conn_unref(struct rpc_conn *c)
{
	check(c->magic == CONN_MAGIC);
	check(c->refs > 0);
	waitq_wake_all(&c->gone_q);
	if (--c->refs == 0)
		conn_free(c);
}

int rpc_conn_fail(struct rpc_conn *c, int rc, const char *fmt, ...)
{
	va_list ap;

	if (c->state.now >= CONN_DOWN)
		return rc;
	if (c->why.text[0] == '\0') {
		va_start(ap, fmt);
		vsnprintf(c->why.text, sizeof c->why.text, fmt, ap);
		va_end(ap);
	}
	sys_stream_shut(c->stream);
	waitq_wake_all(&c->room_q);
	return rc;
}

void rpc_conn_error(struct rpc_conn *c, uint64_t cookie, int rc, const struct err_note *note,
	const char *hint)
{
	struct msg_error m = rpc_error_of(rc, note);
	struct frame f = { .op = OP_error, .version = c->version, .cookie = cookie,
		.flags = FRAME_REPLY };

	m.hint = bytes_of(hint, strlen(hint));
	if (rpc_out_frame(c, &c->ready, &f, &m, bytes_of(NULL, 0)) == 0)
		rpc_out_wake(c);
}

int rpc_conn_broken(struct rpc_conn *c, const char *fmt, ...)
{
	struct err_note note;
	va_list ap;

	check(conn_talks(c));
	va_start(ap, fmt);
	vsnprintf(note.text, sizeof note.text, fmt, ap);
	va_end(ap);
	if (c->why.text[0] == '\0')
		snprintf(c->why.text, sizeof c->why.text, "%.100s: %.150s", c->name, note.text);
	c->counts->broken++;
	rpc_conn_error(c, 0, E_CORRUPT, &note, "");
	sm_move(&c->state, CONN_CLOSING);
	return E_CORRUPT;
}

/* Bytes that arrive after a stream was closed make the kernel of the other side throw away what it
 * has not read yet, the error among it.  So the end waits for the peer to have read it and closed,
 * a little while. */
static void linger(struct rpc_conn *c)
{
	uint64_t until_ns = loop_now_ns(c->loop) + c->limits.linger_ns;
	size_t bytes = 0;
	int64_t n = 1;

	rpc_out_wake(c);
	while (!c->writer_ended && waitq_wait(&c->sent_q, until_ns) == 0)
		;
	while (n > 0 && bytes < LINGER_BYTES_MAX) {
		n = sys_recv(c->stream, c->in.p, c->in.cap, until_ns);
		bytes += n > 0 ? (size_t)n : 0;
	}
}

static void conn_down(struct rpc_conn *c, int rc)
{
	const struct rpc_service *svc = c->ops->svc;

	rpc_conn_fail(c, rc, "%s: %s", c->name, err_text(rc));
	sm_move(&c->state, CONN_DOWN);
	rpc_out_wake(c);
	fiber_shield(FOREVER); /* ends: the stream is shut, the door takes nothing any more */
	while (!c->writer_ended)
		waitq_wait(&c->sent_q, FOREVER);
	fiber_unshield();
	rpc_calls_end(c, rc); /* only now, for the writer was reading their data (I4) */
	rpc_gate_fini(c);
	if (c->let_in && svc != NULL && svc->lost != NULL)
		svc->lost(svc->arg, c);
	group_cancel(&c->kids);
	group_wait(&c->kids);
	sys_stream_close(c->stream);
	c->stream = NULL;
	rpc_out_fini(c, &c->ready);
	rpc_out_fini(c, &c->sending);
	free(c->in.p);
	c->in.p = NULL;
	sm_move(&c->state, CONN_GONE);
}

static int conn_run(void *arg)
{
	struct rpc_conn *c = arg;
	int rc = fiber_start(&c->kids, "rpc output", rpc_writer_run, c);

	c->reader = fiber_self();
	fiber_note(0, "rpc: input");
	c->writer_ended = rc < 0;
	if (rc == 0)
		rc = rpc_reader_run(c);
	if (c->state.now == CONN_CLOSING)
		linger(c);
	conn_down(c, rc);
	c->reader = NULL;
	rpc_conn_unref(c);
	return 0;
}

/* ---- birth ---- */
static void conn_init(struct rpc_conn *c)
{
	c->magic = CONN_MAGIC;
	c->version = 1; /* until hello has agreed on one: errors are understood by everybody */
	sm_init(&c->state, conn_states, CONN_HELLO);
	list_init(&c->link);
	list_init(&c->queued);
	for (int i = 0; i < RPC_GATES; i++)
		list_init(&c->held[i].link);
	waitq_init(&c->in.let_go);
	waitq_init(&c->writer_q);
	waitq_init(&c->room_q);
	waitq_init(&c->sent_q);
	waitq_init(&c->gone_q);
	group_init(&c->kids, c->loop);
	c->kids.keep_going = true;
	c->number_next = 1;
}

int rpc_conn_new(struct sys *sys, struct sys_stream *stream, struct rpc_server *server,
	const struct ops *ops, struct group *g, struct rpc_conn **ret_c)
{
	struct rpc_conn *c = calloc(1, sizeof *c);
	int rc;

	if (c == NULL)
		return E_NOMEM;
	c->in.p = malloc(IN_BYTES);
	c->in.cap = IN_BYTES;
	if (c->in.p == NULL) {
		free(c);
		return E_NOMEM;
	}
	c->sys = sys;
	c->loop = sys_loop(sys);
	c->stream = stream;
	c->server = server;
	c->ops = ops;
	c->born_ns = loop_now_ns(c->loop);
	c->refs = server != NULL ? 1 : 2;
	snprintf(c->name, sizeof c->name, "%s", sys_stream_peer(stream));
	conn_init(c);
	c->limits = server != NULL ? server->limits : rpc_limits_default;
	c->counts = server != NULL ? &server->counts : &c->own_counts;
	rc = fiber_start(g, "rpc input", conn_run, c);
	if (rc < 0) {
		free(c->in.p);
		free(c);
		return rc;
	}
	if (server != NULL) {
		list_push(&server->conns, &c->link);
		server->n_conns++;
	}
	*ret_c = c;
	return 0;
}

/* ---- both sides ---- */
void rpc_conn_set(struct rpc_conn *c, void *mine) { c->mine = mine; }
void *rpc_conn_get(const struct rpc_conn *c) { return c->mine; }
struct sys_stream *rpc_conn_stream(const struct rpc_conn *c) { return c->stream; }
const char *rpc_conn_name(const struct rpc_conn *c) { return c->name; }
uint16_t rpc_conn_version(const struct rpc_conn *c) { return c->version; }
bool rpc_conn_open(const struct rpc_conn *c) { return c->state.now == CONN_OPEN; }
uint64_t rpc_round_trips(const struct rpc_conn *c) { return c->round_trips; }

uint64_t rpc_conn_heard(const struct rpc_conn *c)
{
	check(c->server == NULL);
	return c->own_counts.in_bytes;
}
