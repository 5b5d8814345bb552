/* SPDX-License-Identifier: Apache-2.0 */
/* What kernels and wires do.  See net.h for the rules. */
#include "base/check.h"
#include "base/hash.h"
#include "sys/sim/net.h"
#include <stdio.h>
#include <stdlib.h>

#define OPEN_RETRY_NS SYS_SEC
#define RESEND_NS_MAX (SYS_SEC / 2)
#define LOCAL_NS_MAX  (10 * SYS_US)
#define KEEPALIVE_NS  (60 * SYS_SEC) /* 30 s idle, then 3 probes of 10 s, as sys/uv sets it */

static uint64_t delay_draw(struct conn *c)
{
	struct sim *w = c->w;
	uint64_t min_ns = w->faults.net_delay_min_ns, ns;

	if (c->local)
		return SYS_US + prng_below(stream(w, STREAM_NET), LOCAL_NS_MAX);
	check(min_ns <= w->faults.net_delay_max_ns);
	ns = min_ns + prng_below(stream(w, STREAM_NET), w->faults.net_delay_max_ns - min_ns + 1);
	if (sim_odds(w, STREAM_NET, w->faults.net_stall_ppm)) {
		ns += prng_below(stream(w, STREAM_NET), SYS_SEC);
		sim_fault(w, c->node[0], "net: stall with %s", c->node[1]->name);
	}
	return ns;
}

static bool is_cut(const struct conn *c, unsigned to)
{
	const struct sim_node *from = c->node[1 - to];

	return !c->local && (c->w->cut[from->index] >> c->node[to]->index & 1);
}

/* ---- wires ---- */
static void wire_fire(struct event *e)
{
	struct wire *m = container_of(e, struct wire, event);

	if (is_cut(m->conn, m->to))
		m->held = true; /* (N1) */
	else
		m->arrive(m->conn, m->to);
}

static void wire_init(
	struct wire *m, struct conn *c, unsigned to, void (*arrive)(struct conn *, unsigned))
{
	*m = (struct wire){
		.event.fire = wire_fire, .arrive = arrive, .conn = c, .to = (uint8_t)to
	};
}

static bool wire_busy(const struct wire *m)
{
	return m->held || event_queued(&m->event);
}

static void wire_send(struct wire *m, uint64_t due_ns)
{
	if (is_cut(m->conn, m->to))
		m->held = true;
	else
		heap_put(&m->conn->w->heap, &m->event, due_ns);
}

static void wire_stop(struct wire *m)
{
	heap_drop(&m->conn->w->heap, &m->event);
	m->held = false;
}

static void wire_healed(struct wire *m)
{
	struct sim *w = m->conn->w;
	uint64_t ns;

	if (!m->held || is_cut(m->conn, m->to))
		return;
	m->held = false;
	ns = prng_below(stream(w, STREAM_NET), RESEND_NS_MAX);
	heap_put(&w->heap, &m->event, w->now_ns + ns);
}

static void wire_now(struct wire *m) /* after a drawn delay, unless it is under way */
{
	uint64_t ns;

	if (wire_busy(m))
		return;
	ns = delay_draw(m->conn);
	wire_send(m, m->conn->w->now_ns + ns);
}

/* ---- connections ---- */
static void data_arrive(struct conn *c, unsigned to);
static void ack_arrive(struct conn *c, unsigned to);
static void reset_arrive(struct conn *c, unsigned to);
static void open_arrive(struct conn *c, unsigned to);

struct conn *conn_new(struct sys *s, struct sim_node *to, const char *addr)
{
	struct conn *c = calloc(1, sizeof *c);
	struct sim *w = s->w;

	check(c != NULL);
	c->w = w;
	c->local = s->node == to;
	c->is_unix = addr[0] == 'u';
	c->caller_port = CALLER_PORT_FIRST + s->node->next_caller++ % CALLER_PORTS;
	c->node[0] = s->node;
	c->node[1] = to;
	snprintf(c->addr, sizeof c->addr, "%s", addr);
	for (unsigned i = 0; i < 2; i++) {
		struct pipe *p = &c->pipe[i];

		p->window = WINDOW_FIRST << prng_below(stream(w, STREAM_NET), WINDOW_SHIFTS);
		list_init(&p->shms);
		wire_init(&p->data, c, i, data_arrive);
		wire_init(&p->ack, c, i, ack_arrive);
		wire_init(&p->reset, c, i, reset_arrive);
		wire_init(&p->probe, c, i, reset_arrive);
	}
	wire_init(&c->open, c, 1, open_arrive);
	list_push(&w->conns, &c->link);
	return c;
}

static void shms_drop(struct list *l)
{
	for (struct list *it; (it = list_pop(l)) != NULL;) {
		struct shm_ref *ref = container_of(it, struct shm_ref, link);

		shm_mem_put(ref->mem);
		free(ref);
	}
}

static void conn_free(struct conn *c)
{
	check(c->end[0] == NULL);
	check(c->end[1] == NULL);
	check(c->opener == NULL);
	for (unsigned i = 0; i < 2; i++) {
		struct pipe *p = &c->pipe[i];

		wire_stop(&p->data);
		wire_stop(&p->ack);
		wire_stop(&p->reset);
		wire_stop(&p->probe);
		shms_drop(&p->shms);
		free(p->ring);
	}
	wire_stop(&c->open);
	list_remove(&c->link);
	free(c);
}

void net_free(struct sim *w)
{
	check(list_empty(&w->conns)); /* (N3): every process has ended */
}

void net_healed(struct sim *w)
{
	list_each (it, &w->conns) {
		struct conn *c = container_of(it, struct conn, link);

		for (unsigned i = 0; i < 2; i++) {
			wire_healed(&c->pipe[i].data);
			wire_healed(&c->pipe[i].ack);
			wire_healed(&c->pipe[i].reset);
		}
		wire_healed(&c->open);
	}
}

/* ---- streams, as the kernel sees them ---- */
struct sys_stream *stream_new(struct sys *s, struct conn *c, unsigned side)
{
	struct sys_stream *n = calloc(1, sizeof *n);

	check(n != NULL);
	check(c->end[side] == NULL);
	n->sys = s;
	n->conn = c;
	n->side = side;
	list_init(&n->backlog);
	if (side == 1 && !c->is_unix)
		snprintf(n->peer, sizeof n->peer, "%.4s%s:%u", c->addr, c->node[0]->name,
			c->caller_port);
	else
		snprintf(n->peer, sizeof n->peer, "%s", c->addr);
	if (net_is_tls(c->addr)) { /* what its certificate would say */
		const char *other = c->node[1 - side]->name;

		snprintf(n->cert.id, sizeof n->cert.id, "node:%s", other);
		put_le64(n->cert.hash, hash64(0, other, strlen(other)));
	}
	list_push(&s->streams, &n->link);
	c->end[side] = n;
	return n;
}

void stream_wake(struct sys_stream *s)
{
	if (s->reader != NULL)
		call_end(s->reader, 0);
	if (s->writer != NULL)
		call_end(s->writer, 0);
}

static void stream_reset(struct sys_stream *s)
{
	struct pipe *p = &s->conn->pipe[s->side];

	if (s->reset)
		return;
	s->reset = true;
	wire_stop(&p->data);
	p->n_segments = 0;
	if (prng_next(stream(s->sys->w, STREAM_NET)) & 1)
		p->taken = p->arrived; /* some kernels throw away what was not read yet */
	stream_wake(s);
}

static void reset_send(struct conn *c, unsigned to)
{
	if (c->end[to] != NULL && !c->end[to]->reset)
		wire_now(&c->pipe[to].reset);
}

static void reset_arrive(struct conn *c, unsigned to)
{
	if (c->end[to] != NULL)
		stream_reset(c->end[to]);
}

void stream_detach(struct sys_stream *s, bool lost)
{
	struct conn *c = s->conn;
	unsigned i = s->side;
	struct pipe *in, *out;

	if (c == NULL)
		return;
	in = &c->pipe[i];
	out = &c->pipe[1 - i];
	s->conn = NULL;
	c->end[i] = NULL;
	c->lost[i] = lost;
	if (c->end[1 - i] == NULL) {
		conn_free(c); /* (N3) */
		return;
	}
	if (lost) { /* what waited to be sent again dies with the kernel that kept it */
		out->data.held = out->ack.held = out->reset.held = false;
		heap_put(&c->w->heap, &out->probe.event, c->w->now_ns + KEEPALIVE_NS);
	} else if (c->state != CONN_OPEN || s->reset || in->arrived > in->taken) {
		reset_send(c, 1 - i);
	} else if (!out->fin) {
		conn_send_bytes(c, 1 - i, true);
	}
}

void net_end(struct sys *s, enum node_end how)
{
	list_each (it, &s->streams)
		stream_detach(container_of(it, struct sys_stream, link), how == END_POWER);
}

void net_boot(struct sim_node *n)
{
	list_each (it, &n->w->conns) {
		struct conn *c = container_of(it, struct conn, link);

		for (unsigned i = 0; i < 2; i++) {
			if (c->node[i] != n || !c->lost[i] || !c->pipe[i].data.held || is_cut(c, i))
				continue;
			c->pipe[i].data.held = false;
			reset_send(c, 1 - i);
		}
	}
}

/* ---- bytes ---- */
static void segment_put(struct pipe *p, struct segment g)
{
	struct segment *last = &p->segments[(p->first + p->n_segments - 1) % SEGMENTS_MAX];

	if (p->n_segments > 0 && g.due_ns < last->due_ns)
		g.due_ns = last->due_ns; /* a pipe keeps its order */
	if (p->n_segments == SEGMENTS_MAX) {
		g.lost = g.lost || last->lost;
		*last = g;
		return;
	}
	p->segments[(p->first + p->n_segments++) % SEGMENTS_MAX] = g;
	if (p->n_segments == 1)
		wire_send(&p->data, g.due_ns);
}

static void segment_send(struct conn *c, struct pipe *p, uint64_t end, bool fin)
{
	struct segment g = { .end = end, .fin = fin };
	uint64_t delay_ns = delay_draw(c);

	g.due_ns = c->w->now_ns + delay_ns;
	if (!c->local)
		g.lost = sim_odds(c->w, STREAM_NET, c->w->faults.net_lose_ppm);
	c->w->counts.messages++;
	segment_put(p, g);
}

void conn_send_bytes(struct conn *c, unsigned to, bool fin)
{
	struct pipe *p = &c->pipe[to];
	uint64_t from = p->arrived, cut;

	check(!p->fin);
	p->fin = fin;
	if (p->n_segments > 0)
		from = p->segments[(p->first + p->n_segments - 1) % SEGMENTS_MAX].end;
	if (p->sent - from > 1 && sim_odds(c->w, STREAM_NET, c->w->faults.net_split_ppm)) {
		cut = 1 + prng_below(stream(c->w, STREAM_NET), p->sent - from - 1);
		segment_send(c, p, from + cut, false);
	}
	segment_send(c, p, p->sent, fin);
}

static void data_arrive(struct conn *c, unsigned to)
{
	struct pipe *p = &c->pipe[to];
	struct segment g = p->segments[p->first];

	check(p->n_segments > 0);
	if (c->end[to] == NULL) { /* (N2) */
		if (c->lost[to] && c->node[to]->off) {
			p->data.held = true;
			return;
		}
		p->n_segments = 0;
		reset_send(c, 1 - to);
		return;
	}
	p->first = (p->first + 1) % SEGMENTS_MAX;
	p->n_segments--;
	if (g.lost) {
		sim_fault(c->w, c->node[to], "net: connection with %s lost", c->node[1 - to]->name);
		reset_send(c, 1 - to);
		stream_reset(c->end[to]);
		return;
	}
	check(g.end >= p->arrived);
	p->arrived = g.end;
	p->fin_arrived = g.fin;
	if (p->n_segments > 0)
		wire_send(&p->data, p->segments[p->first].due_ns);
	if (c->end[to]->reader != NULL)
		call_end(c->end[to]->reader, 0);
}

/* Tells the sender that there is room again, once that is a good part of the window. */
void conn_send_ack(struct conn *c, unsigned to)
{
	struct pipe *p = &c->pipe[1 - to];

	if (c->end[to] == NULL || p->taken - p->ack_sent < p->window / 4 ||
		wire_busy(&c->pipe[to].ack))
		return;
	p->ack_sent = p->taken;
	wire_now(&c->pipe[to].ack);
}

static void ack_arrive(struct conn *c, unsigned to)
{
	struct pipe *p = &c->pipe[1 - to];

	p->acked = p->ack_sent;
	check(p->acked <= p->taken);
	if (c->end[to] != NULL && c->end[to]->writer != NULL)
		call_end(c->end[to]->writer, 0);
	conn_send_ack(c, to);
}

/* ---- opening ---- */
struct sys_listener *listener_find(const struct sys *s, const char *addr)
{
	list_each (it, &s->listeners) {
		struct sys_listener *l = container_of(it, struct sys_listener, link);

		if (strcmp(l->addr, addr) == 0)
			return l;
	}
	return NULL;
}

void conn_send_open(struct conn *c)
{
	wire_now(&c->open);
}

static void answer(struct conn *c, enum conn_state state)
{
	c->state = state;
	c->open.to = 0;
	wire_now(&c->open);
}

static void asked(struct conn *c)
{
	struct sys *s = c->node[1]->sys;
	struct sys_listener *l = s != NULL ? listener_find(s, c->addr) : NULL;
	struct accept_wait *wait;
	struct sys_stream *n;

	if (c->node[1]->off ||
		(l != NULL && l->n_backlog == BACKLOG_MAX)) { /* silence: asked again later */
		heap_put(&c->w->heap, &c->open.event, c->w->now_ns + OPEN_RETRY_NS);
		return;
	}
	if (l == NULL) {
		answer(c, CONN_REFUSED);
		return;
	}
	n = stream_new(s, c, 1);
	answer(c, CONN_OPEN);
	if (list_empty(&l->waiters)) {
		list_push(&l->backlog, &n->backlog);
		l->n_backlog++;
		return;
	}
	wait = container_of(list_pop(&l->waiters), struct accept_wait, link);
	wait->got = n;
	call_end(&wait->call, 0);
}

static void open_arrive(struct conn *c, unsigned to)
{
	struct call *opener = c->opener;

	if (to == 1) {
		asked(c);
		return;
	}
	c->opener = NULL;
	if (opener != NULL)
		call_end(opener, c->state == CONN_OPEN ? 0 : E_UNREACH);
}
