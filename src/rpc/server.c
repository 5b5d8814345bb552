/* SPDX-License-Identifier: Apache-2.0 */
/* The accepting side. */
#include "rpc/own.h"
#include <stdlib.h>

#define ACCEPT_PAUSE_NS (50 * SYS_MS) /* when the system has no descriptors left */
#define REFUSE_NS (20 * SYS_MS)

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
	for (int i = 0; i < HELD_KINDS; i++)
		list_init(&s->held[i]);
	waitq_init(&s->gone_q);
	s->limits = rpc_limits_default;
	*ret_s = s;
	return 0;
}

/* Tells a peer that there is no room, when it can be done without waiting for it. */
static void refuse(struct rpc_server *s, struct sys_stream *stream, const char *why)
{
	uint8_t buf[FRAME_HEADER_BYTES + sizeof(struct err_note) + 16];
	struct frame f = { .op = OP_error, .version = 1, .flags = FRAME_REPLY };
	struct msg_error m = { .code = -E_BUSY, .note = bytes_of(why, strlen(why)) };
	struct writer w = writer_of(buf + FRAME_HEADER_BYTES, sizeof buf - FRAME_HEADER_BYTES);
	struct iovec iov;

	check(msg_error_put(&w, &m, f.version));
	f.body_len = (uint32_t)(w.p - buf - FRAME_HEADER_BYTES);
	frame_put(&f, buf + FRAME_HEADER_BYTES, NULL, buf);
	iov = (struct iovec){ buf, FRAME_HEADER_BYTES + f.body_len };
	sys_send(stream, &iov, 1, loop_now_ns(sys_loop(s->sys)) + REFUSE_NS);
	sys_stream_shut(stream);
	sys_stream_close(stream);
	s->counts.refused++;
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
			refuse(s, stream, "too many connections to this server");
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
	for (int i = 0; i < HELD_KINDS; i++)
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
