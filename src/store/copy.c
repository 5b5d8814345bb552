/* SPDX-License-Identifier: Apache-2.0 */
/* Extents that the controller wants here, fetched from another server of their egroup.
 *
 *   here already ----> (verify: read again) ----> sound: done
 *         |                                          bad: fetch, write elsewhere, read back,
 *         | no                                            then the bad one is dropped
 *         '--> fetch, write, sync, read back: done
 *
 * Nothing is believed that does not come to the root in the request, which is the shard's.  The new
 * extent is being written from the moment of the request, before anything parks, so that a drop
 * that was sent behind the request finds it. */
#include "store/own.h"
#include <stdlib.h>

#define ULL(v) ((unsigned long long)(v))

enum { FETCH_S = 20, CONNECT_S = 5, COPY_WAIT_S = 60, PIECE_BYTES = 1 << 20 };

/* ---- other servers ---- */
static PARKS void hang_up(struct store *st)
{
	struct copier *k = &st->copier;

	if (k->conn != NULL)
		rpc_close(k->conn);
	k->conn = NULL;
}

PARKS void copier_end(struct store *st)
{
	hang_up(st);
}

static PARKS int dial_addr(struct store *st, struct bytes addr, struct err_note *note)
{
	struct copier *k = &st->copier;
	struct rpc_connect o = { .addr = k->addr, .svc = &k->none, .group = &st->group,
		.hello = { .role = ROLE_STORE, .token = st->opts->token } };
	struct msg_hello_ok ok;

	if (addr.len == 0 || addr.len >= sizeof k->addr)
		return err_set(note, E_UNREACH, "a storage server without address");
	if (k->conn != NULL && rpc_conn_open(k->conn) && strlen(k->addr) == addr.len &&
		memcmp(k->addr, addr.p, addr.len) == 0)
		return 0;
	hang_up(st);
	memcpy(k->addr, addr.p, addr.len);
	k->addr[addr.len] = '\0';
	return rpc_connect(st->sys, &o, sys_after(st->sys, CONNECT_S * SYS_SEC), &k->conn, &ok,
		note);
}

/* Over the Unix socket when it is on this host. */
static PARKS int dial(struct store *st, const struct sub_server_addr *a, struct err_note *note)
{
	const char *boot = sys_boot_id(st->sys);
	bool here = a->host.len == strlen(boot) && memcmp(a->host.p, boot, a->host.len) == 0;
	int rc = E_UNREACH;

	if (here && a->local.len > 0)
		rc = dial_addr(st, a->local, note);
	return rc < 0 ? dial_addr(st, a->addr, note) : 0;
}

/* Pieces of whole blocks, each with its sums. */
static PARKS int fetch_piece(struct store *st, const struct msg_extent_copy *m, uint64_t at,
	uint8_t *to, uint64_t len, uint32_t *sums, struct err_note *note)
{
	struct msg_extent_read ask = { .egroup = m->from != 0 ? m->from : m->egroup,
		.extent = m->extent, .offset = at,
		.len = (uint32_t)len, .cap_job = m->cap_job, .cap_until_ms = m->cap_until_ms,
		.cap = m->cap };
	struct rpc_call call = { .op = OP_extent_read, .plain = true, .msg = &ask, .into = to,
		.into_cap = len };
	uint64_t n = sums_count(len), bad;
	struct msg_read_ok ok;
	int rc = rpc_ask(st->copier.conn, &call, OP_read_ok, &ok,
		sys_after(st->sys, FETCH_S * SYS_SEC), note);

	if (rc == 0 && (ok.offset != at || ok.extent_bytes != m->len ||
			       call.reply_data.len != len || ok.sums.len != n * 4))
		rc = err_set(note, E_CORRUPT, "extent %llu: an answer of another range",
			ULL(m->extent));
	if (rc == 0) {
		sums_get(sums, ok.sums.p, n);
		if (!sums_verify(m->extent, at / LIMIT_BLOCK_BYTES, to, len, sums, &bad))
			rc = err_set(note, E_CORRUPT, "extent %llu: a checksum does not match",
				ULL(m->extent));
	}
	rpc_call_fini(&call);
	return rc;
}

static PARKS int fetch_from(struct store *st, const struct msg_extent_copy *m,
	const struct sub_server_addr *from, uint8_t *to, uint32_t *sums, struct err_note *note)
{
	int rc = dial(st, from, note);

	for (uint64_t at = 0, n; rc == 0 && at < m->len; at += n) {
		n = m->len - at < PIECE_BYTES ? m->len - at : PIECE_BYTES;
		rc = fetch_piece(st, m, at, to + at, n, sums + at / LIMIT_BLOCK_BYTES, note);
	}
	if (rc == 0 && sums_root(sums, sums_count(m->len)) != m->root)
		rc = err_set(note, E_CORRUPT, "extent %llu of server %u is another one",
			ULL(m->extent), from->server);
	return rc;
}

/* From the first that has the right bytes. */
static PARKS int fetch(
	void *asked, struct extent *e, uint8_t *to, uint32_t *sums, struct err_note *note)
{
	const struct msg_extent_copy *m = asked;
	struct wire_list l = m->source;
	struct sub_server_addr from;
	int rc = err_set(note, E_UNREACH, "no server to copy extent %llu from", ULL(m->extent));

	e->root = m->root;
	while (rc < 0 && rc != E_CANCELED && sub_server_addr_next(&l, &from))
		rc = fetch_from(e->egroup->device->store, m, &from, to, sums, note);
	return rc;
}

/* ---- this one ---- */
/* Written, and read back from the medium. */
static PARKS int bring(struct extent *e, struct msg_extent_copy *m, struct err_note *note)
{
	bool memory = device_is_dram(e->egroup->device);
	int rc = memory ? fetch(m, e, e->arena->at + e->offset, e->sums, note)
			: volume_write(e, fetch, m, true, note);

	if (rc == 0 && !memory)
		rc = extent_look(e, true, note);
	if (rc == 0 && extent_is(e, EXTENT_DROPPED))
		rc = err_set(note, E_GONE, "extent %llu was dropped", ULL(e->id));
	return rc;
}

/* Ends what extent_begin_copy() began; again: the one that it succeeds, or NULL. */
static PARKS int make(struct store *st, struct extent *e, struct extent *again,
	struct msg_extent_copy *m, struct err_note *note)
{
	int rc = fiber_lock(&st->copier.lock, sys_after(st->sys, COPY_WAIT_S * SYS_SEC));

	if (rc == 0) {
		rc = bring(e, m, note);
		if (rc < 0)
			hang_up(st); /* an answer may still be on its way */
		fiber_unlock(&st->copier.lock);
	} else {
		err_set(note, rc, "other extents are being copied");
	}
	if (rc < 0) {
		extent_abort(e);
		return rc;
	}
	extent_seal(e);
	st->copier.copied_bytes += e->len;
	if (again != NULL && extent_succeed(e, again))
		st->copier.replaced++;
	extent_unref(e);
	return 0;
}

static PARKS int replace(struct store *st, struct extent *bad, struct msg_extent_copy *m,
	const struct extent_ask *a, struct err_note *note)
{
	struct extent *fresh;
	int rc = extent_begin_copy(st, a, bad, &fresh, note);

	return rc < 0 ? rc : make(st, fresh, bad, m, note);
}

/* What is here is what was written?  E_CORRUPT: it is not, and stays. */
static PARKS int inspect(struct store *st, struct extent *e, struct msg_extent_copy *m,
	const struct extent_ask *a, struct err_note *note)
{
	struct err_note why;
	int rc, again;

	if (e->len != m->len || e->root != m->root)
		return err_set(note, E_CORRUPT, "extent %llu is another one here", ULL(e->id));
	if (!m->verify)
		return 0;
	extent_ref(e);
	rc = extent_look(e, true, note);
	if (rc == 0)
		extent_sound(e);
	if ((rc == E_CORRUPT || rc == E_IO) && extent_is(e, EXTENT_SEALED)) {
		e->egroup->device->n_corrupt += rc == E_CORRUPT;
		extent_rotten(e, rc);
		again = m->source.n == 0 ? E_UNREACH : replace(st, e, m, a, &why);
		if (again == 0)
			sys_reached(st->sys, "bad extent replaced by a copy");
		rc = again == 0 || again == E_CANCELED ? again : rc;
	}
	if (rc < 0 && extent_is(e, EXTENT_DROPPED))
		rc = err_set(note, E_GONE, "extent %llu was dropped", ULL(e->id));
	extent_unref(e);
	return rc;
}

/* In memory nothing bad is made good: what is there may be looked at. */
static PARKS int copy(struct store *st, struct msg_extent_copy *m, struct err_note *note)
{
	struct extent_ask a = { m->egroup, m->extent, m->len, m->cap_job, m->extent, 0, 1,
		m->device };
	struct extent *e = NULL;
	int rc;

	if (m->device >= st->n_devices || st->devices[m->device].tier != m->tier)
		return err_set(note, E_INVALID, "there is no device %u of tier %u", m->device,
			m->tier);
	if (device_is_dram(&st->devices[m->device]) && m->verify) {
		rc = extent_find(st, m->egroup, m->extent, m->cap_job, &e, note);
		m->source.n = 0;
		return rc < 0 ? rc : inspect(st, e, m, &a, note);
	}
	rc = extent_begin_copy(st, &a, NULL, &e, note);
	if (rc == E_EXISTS)
		return inspect(st, e, m, &a, note);
	return rc < 0 ? rc : make(st, e, NULL, m, note);
}

void handle_copy(void *store, struct rpc_request *r)
{
	struct err_note note = { "" };
	struct msg_extent_copy m;
	int rc = msg_extent_copy_get(r->body.p, r->body.len, r->version, &m);

	if (rc < 0)
		err_set(&note, rc, "extent_copy cannot be decoded");
	else
		rc = epoch_keep(store, m.epoch, &note);
	if (rc == 0)
		rc = copy(store, &m, &note);
	if (rc < 0)
		rpc_reply_error(r, rc, &note, RPC_NOW);
	else
		rpc_reply_ok(r, RPC_NOW);
}
