/* SPDX-License-Identifier: Apache-2.0 */
/* The accepting side. */
#include "rpc/own.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ACCEPT_PAUSE_NS (50 * SYS_MS) /* when the system has no descriptors left */
#define REFUSE_NS (500 * SYS_MS) /* for a peer that is turned away to hear why */
enum {
	REFUSING_MAX = 64, /* at once; more are closed without a word */
	FILES_SHARE = 4,   /* of this process's open files, connections to one server may be */
};

/* Two fibers for each connection, one for each request that waits. */
_Static_assert(FIBERS_MAX_DEFAULT >=
		2 * LIMIT_CONNECTIONS_MAX + LIMIT_WAITERS_MAX + LIMIT_SERVERS_MAX + REFUSING_MAX,
	"a loop has fibers for all that may need one");

struct listener {
	struct list link;
	struct rpc_server *server;
	struct sys_listener *l;
};

const struct rpc_limits rpc_limits_default = {
	.connections = LIMIT_CONNECTIONS_MAX,
	.out_bytes = LIMIT_CONNECTION_OUT_BYTES_MAX,
	.hello_ns = HELLO_NS,
	.frame_ns = FRAME_NS,
	.send_ns = SEND_NS,
	.linger_ns = LINGER_NS,
};

int rpc_server_new(struct sys *sys, const struct rpc_service *svc, struct rpc_server **ret_s)
{
	struct rpc_server *s = calloc(1, sizeof *s);

	if (s == NULL)
		return E_NOMEM;
	check(svc != NULL);
	s->sys = sys;
	rpc_ops_init(&s->ops, svc);
	group_init(&s->group, sys_loop(sys));
	s->group.keep_going = true;
	list_init(&s->conns);
	list_init(&s->listeners);
	for (int i = 0; i < RPC_GATES; i++)
		list_init(&s->held[i]);
	waitq_init(&s->gone_q);
	s->limits = rpc_limits_default;
	/* The rest is for files and memory, which must not fail because somebody connects. */
	if (s->limits.connections > sys_files_max(sys) / FILES_SHARE)
		s->limits.connections = (uint32_t)(sys_files_max(sys) / FILES_SHARE);
	*ret_s = s;
	return 0;
}

struct refusal {
	struct rpc_server *server;
	struct sys_stream *stream;
	struct err_note why;
};

/* Closing with bytes unread would make the kernel throw away what we said: so it is given a while
 * to read and close. */
static void say_no(const struct refusal *r)
{
	uint8_t buf[FRAME_HEADER_BYTES + sizeof(struct err_note) + 16];
	struct frame f = { .op = OP_error, .version = 1, .flags = FRAME_REPLY };
	struct msg_error m = { .code = -E_BUSY,
		.note = bytes_of(r->why.text, strlen(r->why.text)) };
	struct writer w = writer_of(buf + FRAME_HEADER_BYTES, sizeof buf - FRAME_HEADER_BYTES);
	uint64_t until_ns = loop_now_ns(sys_loop(r->server->sys)) + REFUSE_NS;
	struct iovec iov;

	check(msg_error_put(&w, &m, f.version));
	f.body_len = (uint32_t)(w.p - buf - FRAME_HEADER_BYTES);
	frame_put(&f, buf + FRAME_HEADER_BYTES, NULL, buf);
	iov = (struct iovec){ buf, FRAME_HEADER_BYTES + f.body_len };
	if (sys_send(r->stream, &iov, 1, until_ns) == 0)
		while (sys_recv(r->stream, buf, sizeof buf, until_ns) > 0)
			continue;
}

static int refuse_run(void *arg)
{
	struct refusal *r = arg;

	fiber_note(0, "rpc: turns a peer away");
	say_no(r);
	sys_stream_close(r->stream);
	r->server->n_refusing--;
	free(r);
	return 0;
}

static void refuse(struct rpc_server *s, struct sys_stream *stream, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static void refuse(struct rpc_server *s, struct sys_stream *stream, const char *fmt, ...)
{
	struct refusal *r = s->n_refusing < REFUSING_MAX ? malloc(sizeof *r) : NULL;
	va_list ap;

	s->counts.refused++;
	if (r != NULL) {
		*r = (struct refusal){ .server = s, .stream = stream };
		va_start(ap, fmt);
		vsnprintf(r->why.text, sizeof r->why.text, fmt, ap);
		va_end(ap);
		if (fiber_start(&s->group, "rpc refuse", refuse_run, r) == 0) {
			s->n_refusing++;
			return;
		}
	}
	free(r);
	sys_stream_close(stream);
}

static int accept_run(void *arg)
{
	struct listener *l = arg;
	struct rpc_server *s = l->server;

	fiber_note(0, "rpc: accept");
	for (;;) {
		struct sys_stream *stream;
		struct rpc_conn *c;
		int rc = sys_accept(l->l, FOREVER, &stream);

		if (rc == E_CLOSED || rc == E_CANCELED)
			return 0;
		if (rc < 0) {
			if (fiber_sleep(loop_now_ns(sys_loop(s->sys)) + ACCEPT_PAUSE_NS) < 0)
				return 0;
			continue;
		}
		if (s->n_conns >= s->limits.connections)
			refuse(s, stream, "this server has %u connections: no more",
				s->limits.connections);
		else if (rpc_conn_new(s->sys, stream, s, &s->ops, &s->group, &c) < 0)
			refuse(s, stream, "no room for another connection");
		else
			s->counts.accepted++;
	}
}

int rpc_server_listen(struct rpc_server *s, const char *addr, const char **ret_bound,
	struct err_note *note)
{
	struct listener *l = calloc(1, sizeof *l);
	int rc;

	check(!s->closing);
	if (l == NULL)
		return err_set(note, E_NOMEM, "listen %s", addr);
	l->server = s;
	rc = sys_listen(s->sys, addr, &l->l, note);
	if (rc == 0) {
		rc = fiber_start(&s->group, "rpc accept", accept_run, l);
		if (rc < 0)
			err_set(note, rc, "listen %s: %s", addr, err_text(rc));
	}
	if (rc < 0) {
		sys_listener_close(l->l);
		free(l);
		return rc;
	}
	list_push(&s->listeners, &l->link);
	*ret_bound = sys_listener_addr(l->l);
	return 0;
}

void rpc_server_free(struct rpc_server *s)
{
	struct list *n;

	if (s == NULL)
		return;
	s->closing = true;
	group_cancel(&s->group);
	group_wait(&s->group);
	while ((n = list_pop(&s->listeners)) != NULL) {
		struct listener *l = container_of(n, struct listener, link);

		sys_listener_close(l->l);
		free(l);
	}
	fiber_shield(FOREVER); /* ends: lost() has told the service to let go of all requests */
	while (s->n_conns > 0)
		waitq_wait(&s->gone_q, FOREVER);
	fiber_unshield();
	check(list_empty(&s->conns));
	for (int i = 0; i < RPC_GATES; i++)
		check(list_empty(&s->held[i]));
	free(s);
}

uint32_t rpc_server_connections(const struct rpc_server *s) { return s->n_conns; }
struct rpc_counts rpc_server_counts(const struct rpc_server *s) { return s->counts; }

void rpc_server_limit(struct rpc_server *s, const struct rpc_limits *l)
{
	if (l->connections != 0)
		s->limits.connections = l->connections;
	if (l->out_bytes != 0)
		s->limits.out_bytes = l->out_bytes;
	if (l->hello_ns != 0)
		s->limits.hello_ns = l->hello_ns;
	if (l->frame_ns != 0)
		s->limits.frame_ns = l->frame_ns;
	if (l->send_ns != 0)
		s->limits.send_ns = l->send_ns;
	if (l->linger_ns != 0)
		s->limits.linger_ns = l->linger_ns;
}
