/* SPDX-License-Identifier: Apache-2.0 */
/* Replies held back until the server's log has come as far as they saw, or until it is settled that
 * they may go.  Each kind of gate has a buffer of its own, so that what waits for a sync does not
 * hold up what waits for a write. */
#include "rpc/own.h"
#include <stdlib.h>

static bool is_open(const struct rpc_conn *c, struct rpc_gate g)
{
	check(g.by < RPC_GATES);
	check(g.index == 0 || c->server != NULL);
	return g.index == 0 || g.index <= c->server->released[g.by];
}

static struct held *held_of(struct rpc_conn *c, struct rpc_gate g)
{
	return &c->held[g.by];
}

struct out *rpc_gate_out(struct rpc_conn *c, struct rpc_gate g)
{
	return is_open(c, g) ? &c->ready : &held_of(c, g)->out;
}

void rpc_gate_mark(struct rpc_conn *c, struct rpc_gate g)
{
	struct held *h = held_of(c, g);
	struct mark *marks = h->marks;

	if (is_open(c, g)) {
		rpc_out_wake(c);
		return;
	}
	check(!out_empty(&h->out));
	if (h->n > 0 && marks[h->n - 1].index >= g.index) {
		marks[h->n - 1].end = h->out.len; /* a lower one waits along: order stays */
		return;
	}
	if (h->n == h->cap) {
		uint32_t cap = h->cap == 0 ? 16 : h->cap * 2;

		marks = realloc(h->marks, cap * sizeof *marks);
		if (marks == NULL) {
			rpc_conn_fail(c, E_NOMEM, "%s: no memory for %u gates", c->name, cap);
			return; /* its bytes stay behind until the connection has ended */
		}
		h->marks = marks;
		h->cap = cap;
	}
	if (h->n == 0)
		list_push(&c->server->held[h - c->held], &h->link);
	h->marks[h->n++] = (struct mark){ g.index, h->out.len };
}

/* Appends the first len bytes of from, with what is pinned there, to ready. */
static int take_prefix(struct rpc_conn *c, struct out *from, size_t len)
{
	struct out *to = &c->ready;
	uint32_t n = 0;
	int rc = rpc_out_reserve(c, to, len, from->n_pins);

	if (rc < 0)
		return rc;
	for (; n < from->n_pins && from->pins[n].at <= len; n++) {
		struct pin *pin = &to->pins[to->n_pins++];

		*pin = from->pins[n];
		pin->at += to->len;
		to->pinned += pin->len;
		from->pinned -= pin->len;
	}
	memcpy(to->p + to->len, from->p, len);
	to->len += len;
	from->len -= len;
	from->n_pins -= n;
	memmove(from->p, from->p + len, from->len);
	for (uint32_t i = 0; i < from->n_pins; i++) {
		from->pins[i] = from->pins[i + n];
		from->pins[i].at -= len;
	}
	return 0;
}

static void release(struct rpc_conn *c, struct held *h, uint64_t index)
{
	uint32_t n = h->n;
	size_t end;

	check(n > 0);
	while (n > 0 && h->marks[n - 1].index > index)
		n--;
	if (n == 0)
		return;
	end = h->marks[n - 1].end;
	if (end == h->out.len && out_empty(&c->ready)) { /* the usual case moves nothing */
		struct out empty = c->ready;

		c->ready = h->out;
		h->out = empty;
	} else if (take_prefix(c, &h->out, end) < 0) {
		return;
	}
	h->n -= n;
	for (uint32_t i = 0; i < h->n; i++) {
		h->marks[i] = h->marks[i + n];
		h->marks[i].end -= end;
	}
	if (h->n == 0)
		list_remove(&h->link);
	rpc_out_wake(c);
}

static void release_kind(struct rpc_server *s, int kind, uint64_t to)
{
	if (to <= s->released[kind])
		return;
	s->released[kind] = to;
	list_each_safe (at, &s->held[kind]) {
		struct held *h = container_of(at, struct held, link);
		struct rpc_conn *c = container_of(h - kind, struct rpc_conn, held[0]);

		check(c->magic == CONN_MAGIC);
		release(c, h, to);
	}
}

void rpc_release(struct rpc_server *s, uint64_t written, uint64_t synced)
{
	release_kind(s, RPC_WRITTEN, written);
	release_kind(s, RPC_SYNCED, synced);
}

void rpc_release_settled(struct rpc_server *s, uint64_t index)
{
	release_kind(s, RPC_SETTLED, index);
}

void rpc_gate_fini(struct rpc_conn *c)
{
	for (int kind = 0; kind < RPC_GATES; kind++) {
		struct held *h = &c->held[kind];

		list_remove(&h->link);
		rpc_out_fini(c, &h->out);
		free(h->marks);
		h->marks = NULL;
		h->n = h->cap = 0;
	}
}
