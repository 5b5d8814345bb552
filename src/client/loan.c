/* SPDX-License-Identifier: Apache-2.0 */
#include "client/loan.h"
#include "base/check.h"
#include <stdlib.h>
#include <string.h>

struct loan {
	struct rpc_call call;
	struct peer *peer;
	uint64_t generation;
	union { struct msg_extent_alloc alloc; struct msg_extent_pin pin; } ask;
	union { struct msg_alloc_ok alloc; struct msg_pin_ok pin; } ok;
	uint8_t cap[64];
	struct arena_map *map;
	struct waitq q;
	struct err_note note;
	int rc;
	bool ended, alone;           /* alone: nobody waits (L2) */
};

static void loan_free(struct loan *l)
{
	rpc_call_fini(&l->call);
	free(l);
}

static bool inside(uint64_t at, uint64_t len, uint64_t size)
{
	return at <= size && len <= size - at;
}

/* (L1) The descriptor is taken before anything else can go wrong. */
static int memory_take(struct loan *l, uint64_t arena, uint64_t arena_bytes, bool with_fd,
	bool writable, uint64_t offset, uint64_t len)
{
	struct sys_shm *given = NULL;
	int rc;

	if (with_fd) {
		given = peer_descriptor(l->peer);
		if (given == NULL)
			return err_set(&l->note, E_CORRUPT, "%s sent no descriptor",
				peer_name(l->peer));
	}
	rc = peer_map(l->peer, arena, arena_bytes, given, writable, &l->map, &l->note);
	if (rc < 0)
		return rc;
	map_ref(l->map);
	if (!inside(offset, len, l->map->bytes))
		return err_set(&l->note, E_CORRUPT, "%s points outside of its memory",
			peer_name(l->peer));
	return 0;
}

static int answer_take(struct loan *l)
{
	const struct rpc_call *c = &l->call;
	int rc;

	if (c->rc < 0) {
		l->note = c->note;
		return c->rc;
	}
	if (c->reply_op == OP_alloc_ok && c->op == OP_extent_alloc) {
		rc = msg_alloc_ok_get(c->reply.p, c->reply.len, c->reply_version, &l->ok.alloc);
		if (rc == 0)
			rc = memory_take(l, l->ok.alloc.arena, l->ok.alloc.arena_bytes,
				l->ok.alloc.with_fd, true, l->ok.alloc.offset, l->ask.alloc.len);
		return rc;
	}
	if (c->reply_op == OP_pin_ok && c->op == OP_extent_pin) {
		rc = msg_pin_ok_get(c->reply.p, c->reply.len, c->reply_version, &l->ok.pin);
		if (rc == 0)
			rc = memory_take(l, l->ok.pin.arena, l->ok.pin.arena_bytes,
				l->ok.pin.with_fd, false, l->ok.pin.offset, l->ok.pin.len);
		return rc;
	}
	return err_set(&l->note, E_CORRUPT, "%s answered with %s", peer_name(l->peer),
		wire_op_name(c->reply_op));
}

/* What was lent to nobody is given back.  Room that was allocated comes back with its grant. */
static void refuse(struct loan *l, bool granted)
{
	struct msg_extent_unpin m = { .egroup = l->ask.pin.egroup, .extent = l->ask.pin.extent };

	if (granted && l->call.op == OP_extent_pin && peer_generation(l->peer) == l->generation)
		peer_tell(l->peer, OP_extent_unpin, &m, sizeof m);
	if (l->map != NULL)
		map_unref(l->map);
	l->map = NULL;
}

static void loan_done(void *arg)
{
	struct loan *l = arg;
	bool granted = l->call.rc == 0;

	l->rc = answer_take(l);
	l->ended = true;
	if (l->rc < 0 || l->alone)
		refuse(l, granted);
	if (l->alone)
		loan_free(l);
	else
		waitq_wake_all(&l->q);
}

/* Frees the loan when it fails. */
PARKS static int loan_run(struct loan *l, uint64_t until_ns, struct err_note *note)
{
	int rc = peer_connect(l->peer, until_ns, note);

	if (rc < 0) {
		loan_free(l);
		return rc;
	}
	l->generation = peer_generation(l->peer);
	l->call.plain = true;
	l->call.done = loan_done;
	l->call.done_arg = l;
	rc = peer_start(l->peer, &l->call);
	if (rc < 0) {
		err_set(note, rc, "%s", l->call.note.text);
		loan_free(l);
		return rc;
	}
	while (!l->ended) {
		rc = waitq_wait(&l->q, until_ns);
		if (rc < 0 && !l->ended) {
			l->alone = true;
			return err_set(note, rc, "waiting for memory of %s", peer_name(l->peer));
		}
	}
	rc = l->rc;
	if (rc < 0) {
		if (note != NULL)
			*note = l->note;
		loan_free(l);
	}
	return rc;
}

static struct loan *loan_new(struct peer *p, uint16_t op, struct bytes cap, struct err_note *note)
{
	struct loan *l = calloc(1, sizeof *l);

	if (l == NULL || cap.len > sizeof l->cap) {
		free(l);
		err_set(note, E_NOMEM, "a request for memory");
		return NULL;
	}
	if (cap.len > 0)
		memcpy(l->cap, cap.p, cap.len);
	l->peer = p;
	l->call.op = op;
	l->call.msg = &l->ask;
	waitq_init(&l->q);
	return l;
}

PARKS int loan_alloc(struct peer *p, const struct msg_extent_alloc *m, uint64_t until_ns,
	struct msg_alloc_ok *ret_ok, struct arena_map **ret_map, struct err_note *note)
{
	struct loan *l = loan_new(p, OP_extent_alloc, m->cap, note);
	int rc;

	if (l == NULL)
		return E_NOMEM;
	l->ask.alloc = *m;
	l->ask.alloc.cap.p = l->cap;
	rc = loan_run(l, until_ns, note);
	if (rc < 0)
		return rc;
	*ret_ok = l->ok.alloc;
	*ret_map = l->map;
	loan_free(l);
	return 0;
}

PARKS int loan_pin(struct peer *p, const struct msg_extent_pin *m, uint64_t until_ns,
	struct msg_pin_ok *ret_ok, struct arena_map **ret_map, uint64_t *ret_generation,
	struct err_note *note)
{
	struct loan *l = loan_new(p, OP_extent_pin, m->cap, note);
	int rc;

	if (l == NULL)
		return E_NOMEM;
	l->ask.pin = *m;
	l->ask.pin.cap.p = l->cap;
	rc = loan_run(l, until_ns, note);
	if (rc < 0)
		return rc;
	*ret_ok = l->ok.pin;
	*ret_map = l->map;
	*ret_generation = l->generation;
	loan_free(l);
	return 0;
}
