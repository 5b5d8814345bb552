/* SPDX-License-Identifier: Apache-2.0 */
/* Requests over shared memory, on Unix sockets: allocate and seal, pin and unpin.  What a client
 * holds here ends with its connection (I6). */
#include "store/own.h"
#include <stdlib.h>

#define ULL(v) ((unsigned long long)(v))

/* An extent that a client maps. */
struct pin { struct table_node node; struct extent *extent; uint32_t count; };
/* An arena whose descriptors a client has: each kind is sent once. */
struct known { struct table_node node; bool readable, writable; };

static int local_only(const struct client *cl, struct err_note *note)
{
	return cl->local ? 0 : err_set(note, E_UNSUPPORTED, "shared memory needs a Unix socket");
}

/* Notes that the client gets a descriptor of the arena; *ret_send when it does not have that kind
 * yet.  Whoever reads gets one that cannot write, even beside one that can. */
static int introduce(struct client *cl, const struct arena *a, bool writable, bool *ret_send,
	struct err_note *note)
{
	struct table_node *n = table_get(&cl->arenas, a->id, 0);
	struct known *k = n != NULL ? container_of(n, struct known, node) : NULL;

	*ret_send = k == NULL || !(writable ? k->writable : k->readable);
	if (k == NULL) {
		k = calloc(1, sizeof *k);
		if (k == NULL)
			return err_set(note, E_NOMEM, "a descriptor of an arena");
		table_put(&cl->arenas, &k->node, a->id, 0);
	}
	k->writable = k->writable || writable;
	k->readable = k->readable || !writable;
	return 0;
}

/* The extent keeps its arena alive while the answer is on its way, whatever the client does. */
static PARKS void send_memory(struct rpc_request *r, uint16_t op, const void *msg,
	struct extent *e, struct sys_shm *memory)
{
	extent_ref(e);
	rpc_reply_shm(r, op, msg, &memory, 1);
	extent_unref(e);
}

/* ---- allocate ---- */
static int alloc(struct store *st, struct client *cl, const struct msg_extent_alloc *m,
	struct extent **ret_e, struct err_note *note)
{
	struct cap c = { m->egroup, m->cap_job, CAP_WRITE, m->epoch, m->cap_until_ms,
		m->extent_first, m->extent_count, m->credit_bytes, st->incarnation,
		.job_epoch = 0 };
	struct extent_ask a = { m->egroup, m->extent, m->len, m->cap_job, m->extent_first,
		m->credit_bytes, m->extent_count, m->device };
	struct extent *e;
	int rc;

	if ((rc = local_only(cl, note)) < 0)
		return rc;
	if (m->device >= st->n_devices || !device_is_dram(&st->devices[m->device]))
		return err_set(note, E_INVALID, "device %u is not memory", m->device);
	if ((rc = serve_may(st, &c, m->cap, note)) < 0 || (rc = extent_begin(st, &a, &e, note)) < 0)
		return rc;
	e->writer = cl;
	list_push(&cl->allocs, &e->in_client);
	*ret_e = e;
	return 0;
}

static void alloc_end(struct extent *e)
{
	list_remove(&e->in_client);
	e->writer = NULL;
}

void handle_alloc(void *store, struct rpc_request *r)
{
	struct client *cl = rpc_conn_get(r->conn);
	struct err_note note = { "" };
	struct msg_extent_alloc m;
	struct msg_alloc_ok ok;
	struct extent *e = NULL;
	bool send = false;
	int rc = msg_extent_alloc_get(r->body.p, r->body.len, r->version, &m);

	if (rc < 0)
		err_set(&note, rc, "extent_alloc cannot be decoded");
	else
		rc = alloc(store, cl, &m, &e, &note);
	if (rc == 0 && (rc = introduce(cl, e->arena, true, &send, &note)) < 0) {
		alloc_end(e);
		extent_abort(e);
	}
	if (rc < 0) {
		rpc_reply_error(r, rc, &note, RPC_NOW);
		return;
	}
	ok = (struct msg_alloc_ok){ .arena = e->arena->id, .offset = e->offset, .with_fd = send,
		.arena_bytes = sys_shm_bytes(e->arena->memory) };
	if (send)
		send_memory(r, OP_alloc_ok, &ok, e, e->arena->memory);
	else
		rpc_reply(r, OP_alloc_ok, &ok, bytes_of(NULL, 0), RPC_NOW);
}

/* ---- seal ---- */
static struct extent *allocated(const struct client *cl, uint64_t egroup, uint64_t id)
{
	struct table_node *n = table_get(&cl->store->extents, egroup, id);
	struct extent *e = n != NULL ? container_of(n, struct extent, node) : NULL;

	if (e != NULL)
		return e->writer == cl ? e : NULL;
	list_each(it, &cl->allocs) { /* dropped ones are in no table */
		e = container_of(it, struct extent, in_client);
		if (e->egroup->id == egroup && e->id == id)
			return e;
	}
	return NULL;
}

static int seal(struct client *cl, const struct msg_extent_seal *m, struct bytes sums,
	struct msg_extent_ok *ret_ok, struct err_note *note)
{
	struct extent *e = allocated(cl, m->egroup, m->extent);
	size_t n;

	if (e == NULL)
		return err_set(note, E_GONE, "extent %llu was not allocated here",
			ULL(m->extent));
	alloc_end(e);
	n = sums_count(e->len);
	if (extent_is(e, EXTENT_DROPPED)) {
		extent_abort(e);
		return err_set(note, E_GONE, "extent %llu was dropped", ULL(m->extent));
	}
	if (sums.len != n * 4) {
		extent_abort(e);
		return err_set(note, E_INVALID, "extent %llu has %zu blocks, not %zu sums",
			ULL(m->extent), n, sums.len / 4);
	}
	sums_get(e->sums, sums.p, n);
	e->root = sums_root(e->sums, n);
	if (e->root != m->root) {
		extent_abort(e);
		return err_set(note, E_CORRUPT, "root of extent %llu", ULL(m->extent));
	}
	*ret_ok = (struct msg_extent_ok){ e->offset, e->root };
	extent_seal(e);
	extent_unref(e);
	return 0;
}

void handle_seal(void *store, struct rpc_request *r)
{
	struct err_note note = { "" };
	struct msg_extent_seal m;
	struct msg_extent_ok ok;
	int rc = msg_extent_seal_get(r->body.p, r->body.len, r->version, &m);

	(void)store;
	if (rc < 0)
		err_set(&note, rc, "extent_seal cannot be decoded");
	else
		rc = seal(rpc_conn_get(r->conn), &m, r->data, &ok, &note);
	if (rc < 0)
		rpc_reply_error(r, rc, &note, RPC_NOW);
	else
		rpc_reply(r, OP_extent_ok, &ok, bytes_of(NULL, 0), RPC_NOW);
}

/* ---- pin ---- */
static int pin_new(struct client *cl, struct extent *e, struct pin **ret_p, struct err_note *note)
{
	struct table_node *n = table_get(&cl->pins, e->egroup->id, e->id);
	struct pin *p = n != NULL ? container_of(n, struct pin, node) : NULL;

	*ret_p = p;
	if (p != NULL) {
		p->count++;
		return 0;
	}
	if (cl->pins.n >= LIMIT_PINS_MAX)
		return err_set(note, E_BUSY, "%d extents are pinned by this connection",
			LIMIT_PINS_MAX);
	p = calloc(1, sizeof *p);
	if (p == NULL)
		return err_set(note, E_NOMEM, "a pin");
	p->extent = e;
	p->count = 1;
	extent_ref(e);
	table_put(&cl->pins, &p->node, e->egroup->id, e->id);
	cl->store->n_pins++;
	*ret_p = p;
	return 0;
}

static void pin_end(struct client *cl, struct pin *p)
{
	table_remove(&cl->pins, &p->node);
	check(cl->store->n_pins > 0);
	cl->store->n_pins--;
	extent_unref(p->extent);
	free(p);
}

static void pin_less(struct client *cl, struct pin *p)
{
	if (--p->count == 0)
		pin_end(cl, p);
}

static int pin(struct store *st, struct client *cl, const struct msg_extent_pin *m,
	struct extent **ret_e, bool *ret_send, struct err_note *note)
{
	struct cap c = { .job = m->cap_job, .ops = CAP_READ, .until_ms = m->cap_until_ms };
	struct extent *e;
	struct pin *p;
	int rc;

	if ((rc = local_only(cl, note)) < 0 || (rc = serve_may(st, &c, m->cap, note)) < 0)
		return rc;
	if ((rc = extent_find(st, m->egroup, m->extent, m->cap_job, &e, note)) < 0)
		return rc;
	if (!device_is_dram(e->egroup->device))
		return err_set(note, E_UNSUPPORTED, "extent %llu is not in memory",
			ULL(m->extent));
	if (e->bad) /* who maps it does not compare */
		return err_set(note, E_CORRUPT, "extent %llu is not what was written",
			ULL(m->extent));
	if ((rc = pin_new(cl, e, &p, note)) < 0)
		return rc;
	if ((rc = introduce(cl, e->arena, false, ret_send, note)) < 0)
		pin_less(cl, p);
	*ret_e = e;
	return rc;
}

void handle_pin(void *store, struct rpc_request *r)
{
	struct err_note note = { "" };
	struct msg_extent_pin m;
	struct msg_pin_ok ok;
	struct extent *e = NULL;
	bool send = false;
	int rc = msg_extent_pin_get(r->body.p, r->body.len, r->version, &m);

	if (rc < 0)
		err_set(&note, rc, "extent_pin cannot be decoded");
	else
		rc = pin(store, rpc_conn_get(r->conn), &m, &e, &send, &note);
	if (rc < 0) {
		rpc_reply_error(r, rc, &note, RPC_NOW);
		return;
	}
	e->egroup->device->read_bytes += e->len;
	ok = (struct msg_pin_ok){ .arena = e->arena->id, .offset = e->offset, .len = e->len,
		.arena_bytes = sys_shm_bytes(e->arena->memory), .root = e->root, .with_fd = send };
	if (send)
		send_memory(r, OP_pin_ok, &ok, e, e->arena->reader);
	else
		rpc_reply(r, OP_pin_ok, &ok, bytes_of(NULL, 0), RPC_NOW);
}

void handle_unpin(void *store, struct rpc_request *r)
{
	struct client *cl = rpc_conn_get(r->conn);
	struct err_note note = { "" };
	struct msg_extent_unpin m;
	struct table_node *n;

	(void)store;
	if (msg_extent_unpin_get(r->body.p, r->body.len, r->version, &m) < 0) {
		err_set(&note, E_CORRUPT, "extent_unpin cannot be decoded");
		rpc_reply_error(r, E_CORRUPT, &note, RPC_NOW);
		return;
	}
	if ((n = table_get(&cl->pins, m.egroup, m.extent)) == NULL) {
		err_set(&note, E_NOTFOUND, "extent %llu is not pinned", ULL(m.extent));
		rpc_reply_error(r, E_NOTFOUND, &note, RPC_NOW);
		return;
	}
	pin_less(cl, container_of(n, struct pin, node));
	rpc_reply_ok(r, RPC_NOW);
}

/* ---- the end ---- */
void local_lost(struct client *cl)
{
	struct table_node *n;
	struct list *it;

	while ((it = cl->allocs.next) != &cl->allocs) {
		struct extent *e = container_of(it, struct extent, in_client);

		alloc_end(e);
		extent_abort(e);
	}
	while ((n = table_any(&cl->pins)) != NULL)
		pin_end(cl, container_of(n, struct pin, node));
	while ((n = table_any(&cl->arenas)) != NULL) {
		table_remove(&cl->arenas, n);
		free(container_of(n, struct known, node));
	}
}

struct farewell { struct rpc_call call; struct msg_arena_gone msg; };

static void farewell_done(void *arg)
{
	struct farewell *f = arg;

	rpc_call_fini(&f->call);
	free(f);
}

/* Nobody waits for the answer: a client that does not understand keeps its mapping. */
static void farewell(struct client *cl, uint64_t arena)
{
	struct farewell *f = calloc(1, sizeof *f);

	if (f == NULL)
		return;
	f->msg.arena = arena;
	f->call = (struct rpc_call){ .op = OP_arena_gone, .plain = true, .msg = &f->msg,
		.done = farewell_done, .done_arg = f };
	if (rpc_start(cl->conn, &f->call) < 0)
		farewell_done(f);
}

void local_arena_gone(struct arena *a)
{
	struct table_node *n;

	list_each(it, &a->device->store->clients) {
		struct client *cl = container_of(it, struct client, link);

		if ((n = table_get(&cl->arenas, a->id, 0)) == NULL)
			continue;
		table_remove(&cl->arenas, n);
		free(container_of(n, struct known, node));
		farewell(cl, a->id);
	}
}
