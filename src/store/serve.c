/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of clients: remote writes and reads.  local.c has those over shared memory. */
#include "store/own.h"
#include <stdlib.h>

#define ULL(v) ((unsigned long long)(v))

/* ---- connections ---- */
int serve_hello(void *store, struct rpc_conn *c, const struct msg_hello *h,
	struct msg_hello_ok *ret_ok, char ret_hint[SYS_ADDR_MAX], struct err_note *note)
{
	struct store *st = store;
	struct client *cl = calloc(1, sizeof *cl);

	(void)h; /* capabilities say who may do what */
	if (cl == NULL || table_init(&cl->pins, st->incarnation) < 0
		|| table_init(&cl->arenas, st->incarnation) < 0) {
		if (cl != NULL)
			table_fini(&cl->pins);
		free(cl);
		return err_set(note, E_NOMEM, "a connection");
	}
	cl->store = st;
	cl->conn = c;
	cl->local = sys_stream_local(rpc_conn_stream(c));
	list_init(&cl->allocs);
	list_push(&st->clients, &cl->link);
	st->n_clients++;
	rpc_conn_set(c, cl);
	ret_ok->incarnation = st->incarnation;
	return 0;
}

void serve_lost(void *store, struct rpc_conn *c)
{
	struct client *cl = rpc_conn_get(c);
	struct store *st = store;

	cl->lost = true;
	local_lost(cl);
	list_remove(&cl->link);
	check(st->n_clients > 0);
	st->n_clients--;
}

void serve_closed(void *store, struct rpc_conn *c)
{
	struct client *cl = rpc_conn_get(c);

	(void)store;
	check(cl->lost);
	table_fini(&cl->pins);
	table_fini(&cl->arenas);
	free(cl);
}

int serve_may(struct store *st, struct cap *c, struct bytes code, struct err_note *note)
{
	struct cap_view v = { st->keys, st->n_keys, link_shard_ms(st), st->epoch,
		revoked_epoch(st, c->job) };

	st->asked_ns = loop_now_ns(sys_loop(st->sys));
	if (!link_serves(st))
		return err_set(note, E_UNAVAILABLE, "this storage server has no controller");
	if (c->ops == CAP_WRITE && !link_sees(st))
		return err_set(note, E_UNAVAILABLE,
			"this storage server does not know what is revoked");
	if (c->until_ms < st->revoked_all_ms)
		return err_set(note, E_STALE, "capability of a time of many revocations");
	return cap_check(&v, c, code, note);
}

static void on_ping(void *store, struct rpc_request *r)
{
	(void)store;
	rpc_reply_ok(r, RPC_NOW);
}

/* ---- writing ---- */
struct arriving { struct rpc_request *r; const struct msg_extent_write *m; };

/* Summed while it is still in the cache. */
static PARKS int receive(
	void *arriving, struct extent *e, uint8_t *to, uint32_t *sums, struct err_note *note)
{
	const struct arriving *w = arriving;
	struct sys *s = e->egroup->device->store->sys;
	uint64_t done = 0, part;
	int rc;

	for (; done < e->len; done += part) {
		part = e->len - done < RECV_BYTES ? e->len - done : RECV_BYTES;
		rc = rpc_recv_data(w->r, to + done, part, sys_after(s, RECV_WAIT_S * SYS_SEC));
		if (rc < 0)
			return err_set(note, rc, "receiving extent %llu", ULL(e->id));
		if (extent_is(e, EXTENT_DROPPED))
			return err_set(note, E_GONE, "extent %llu was dropped", ULL(e->id));
		sums_compute(e->id, done / LIMIT_BLOCK_BYTES, to + done, part,
			sums + done / LIMIT_BLOCK_BYTES);
	}
	e->root = sums_root(sums, sums_count(e->len));
	if (e->root != w->m->root)
		return err_set(note, E_CORRUPT, "extent %llu arrived with root %08x, not %08x",
			ULL(e->id), e->root, w->m->root);
	return 0;
}

/* A retry of what is there already. */
static PARKS int write_again(struct extent *e, const struct rpc_request *r,
	const struct msg_extent_write *m, struct err_note *note)
{
	struct egroup *g = e->egroup;
	int rc;

	if (e->len != r->data_len || e->root != m->root)
		return E_EXISTS; /* with the note of extent_begin() */
	if (!m->sync || device_is_dram(g->device))
		return 0;
	extent_ref(e);
	rc = volume_use(g, note);
	if (rc == 0) {
		g->file.written++; /* it may have been written by a process before this one */
		rc = volume_sync(g, note);
		volume_unuse(g);
	}
	extent_unref(e);
	return rc;
}

static int write_may(struct store *st, const struct rpc_request *r,
	const struct msg_extent_write *m, struct extent_ask *ret_a, struct err_note *note)
{
	struct cap c = { m->egroup, m->cap_job, CAP_WRITE, m->epoch, m->cap_until_ms,
		m->extent_first, m->extent_count, m->credit_bytes, st->incarnation,
		.job_epoch = 0 };
	int rc = serve_may(st, &c, m->cap, note);

	if (rc < 0)
		return rc;
	if (m->device >= st->n_devices || st->devices[m->device].tier != m->tier)
		return err_set(note, E_INVALID, "there is no device %u of tier %u", m->device,
			m->tier);
	*ret_a = (struct extent_ask){ m->egroup, m->extent, r->data_len, m->cap_job,
		m->extent_first, m->credit_bytes, m->extent_count, m->device };
	return 0;
}

static PARKS int write_new(struct extent *e, struct rpc_request *r,
	const struct msg_extent_write *m, struct msg_extent_ok *ret_ok, struct err_note *note)
{
	struct arriving w = { r, m };
	int rc = device_is_dram(e->egroup->device)
			 ? receive(&w, e, e->arena->at + e->offset, e->sums, note)
			 : volume_write(e, receive, &w, m->sync != 0, note);

	if (rc == 0 && extent_is(e, EXTENT_DROPPED))
		rc = err_set(note, E_GONE, "extent %llu was dropped", ULL(e->id));
	if (rc < 0) {
		extent_abort(e);
		return rc;
	}
	extent_seal(e);
	*ret_ok = (struct msg_extent_ok){ e->offset, e->root };
	extent_unref(e);
	return 0;
}

static void on_write(void *store, struct rpc_request *r)
{
	struct store *st = store;
	struct err_note note = { "" };
	struct msg_extent_write m;
	struct msg_extent_ok ok;
	struct extent_ask a;
	struct extent *e = NULL;
	int rc = msg_extent_write_get(r->body.p, r->body.len, r->version, &m);

	if (rc < 0)
		err_set(&note, rc, "extent_write cannot be decoded");
	else if ((rc = write_may(st, r, &m, &a, &note)) == 0)
		rc = extent_begin(st, &a, &e, &note);
	if (rc == 0) {
		rc = write_new(e, r, &m, &ok, &note);
	} else if (rc == E_EXISTS) {
		ok = (struct msg_extent_ok){ e->offset, e->root };
		rc = write_again(e, r, &m, &note);
	}
	if (rc < 0)
		rpc_reply_error(r, rc, &note, RPC_NOW);
	else
		rpc_reply(r, OP_extent_ok, &ok, bytes_of(NULL, 0), RPC_NOW);
}

/* ---- reading ---- */
struct range { uint64_t first, n, bytes; }; /* blocks, and the contents in them */

static int range_of(const struct extent *e, uint64_t offset, uint32_t len, struct range *ret,
	struct err_note *note)
{
	uint64_t last;

	if (len == 0 || offset >= e->len || len > e->len - offset)
		return err_set(note, E_INVALID, "%u bytes from %llu of an extent of %llu", len,
			ULL(offset), ULL(e->len));
	last = (offset + len - 1) / LIMIT_BLOCK_BYTES;
	ret->first = offset / LIMIT_BLOCK_BYTES;
	ret->n = last - ret->first + 1;
	ret->bytes = e->len - ret->first * LIMIT_BLOCK_BYTES;
	if (ret->bytes > ret->n * LIMIT_BLOCK_BYTES)
		ret->bytes = ret->n * LIMIT_BLOCK_BYTES;
	return 0;
}

static void let_go(void *extent) { extent_unref(extent); }

static void send(struct rpc_request *r, struct extent *e, const struct range *g,
	const uint32_t *sums, const uint8_t *data, bool copy)
{
	struct msg_read_ok ok = { .offset = g->first * LIMIT_BLOCK_BYTES, .extent_bytes = e->len };
	uint8_t *le = malloc(g->n * 4);
	struct err_note note = { "" };

	if (le == NULL) {
		err_set(&note, E_NOMEM, "the sums of a reply");
		rpc_reply_error(r, E_NOMEM, &note, RPC_NOW);
		return;
	}
	sums_put(le, sums, g->n);
	ok.sums = bytes_of(le, g->n * 4);
	e->egroup->device->read_bytes += g->bytes;
	if (copy) {
		rpc_reply(r, OP_read_ok, &ok, bytes_of(data, g->bytes), RPC_NOW);
	} else {
		extent_ref(e);
		rpc_reply_pinned(r, OP_read_ok, &ok, bytes_of(data, g->bytes), let_go, e, RPC_NOW);
	}
	free(le);
}

/* The answer is copied, so that a slow reader holds up nobody who waits for a buffer. */
static PARKS int read_file(struct rpc_request *r, struct extent *e, const struct range *g,
	struct err_note *note)
{
	struct device *d = e->egroup->device;
	uint64_t header = room_header(d->tier, e->len);
	size_t len = (size_t)(header + g->n * LIMIT_BLOCK_BYTES);
	uint32_t *sums = malloc(sums_count(e->len) * sizeof *sums);
	uint8_t *buf;
	int rc;

	if (sums == NULL)
		return err_set(note, E_NOMEM, "the sums of extent %llu", ULL(e->id));
	if ((rc = buffer_take(d->store, len, &buf, note)) == 0) {
		rc = volume_read(e, g->first, g->n, buf, sums, note);
		if (extent_is(e, EXTENT_DROPPED)) /* what was read may be half punched */
			rc = err_set(note, E_GONE, "extent %llu was dropped", ULL(e->id));
		if (rc == 0)
			send(r, e, g, sums + g->first, buf + header, true);
		d->n_corrupt += rc == E_CORRUPT;
		if (rc == E_CORRUPT && extent_is(e, EXTENT_SEALED))
			extent_rotten(e, rc);
		buffer_give(d->store, buf, len);
	}
	free(sums);
	return rc;
}

static void on_read(void *store, struct rpc_request *r)
{
	struct store *st = store;
	struct err_note note = { "" };
	struct msg_extent_read m;
	struct extent *e;
	struct range g;
	int rc = msg_extent_read_get(r->body.p, r->body.len, r->version, &m);

	if (rc < 0) {
		err_set(&note, rc, "extent_read cannot be decoded");
	} else {
		struct cap c = { .job = m.cap_job, .ops = CAP_READ, .until_ms = m.cap_until_ms };

		rc = serve_may(st, &c, m.cap, &note);
	}
	if (rc == 0 && (rc = extent_find(st, m.egroup, m.extent, m.cap_job, &e, &note)) == 0)
		rc = range_of(e, m.offset, m.len, &g, &note);
	if (rc == 0) {
		extent_ref(e);
		if (device_is_dram(e->egroup->device))
			send(r, e, &g, e->sums + g.first,
				e->arena->at + e->offset + g.first * LIMIT_BLOCK_BYTES, false);
		else
			rc = read_file(r, e, &g, &note);
		extent_unref(e);
	}
	if (rc < 0)
		rpc_reply_error(r, rc, &note, RPC_NOW);
}

const struct rpc_op serve_ops[] = {
	{ OP_ping, RPC_INLINE, on_ping },
	{ OP_extent_write, RPC_STREAM, on_write },
	{ OP_extent_read, RPC_FIBER, on_read },
	{ OP_extent_alloc, RPC_STREAM, handle_alloc },
	{ OP_extent_seal, RPC_INLINE, handle_seal },
	{ OP_extent_pin, RPC_STREAM, handle_pin },
	{ OP_extent_unpin, RPC_INLINE, handle_unpin },
};
const size_t serve_n_ops = sizeof serve_ops / sizeof serve_ops[0];
