/* SPDX-License-Identifier: Apache-2.0 */
/* upload.c: an object on its way in.
 *
 * Bytes are collected up to LIMIT_INLINE_BYTES_MAX: an object that ends there is put in one round
 * trip.  A larger one is cut into extents, several under way at once, and named by a commit at the
 * end.  A piece that one server refuses is written to another, in smaller extents if need be, so
 * extents are put into the order of the file only when they are committed.
 *
 *   (W1) done[] holds the extents that servers acknowledged and no commit named for good.
 *   (W2) A commit is sent only when no piece is under way and none has failed.
 *   (W3) After a failure nothing more is written: the first code is kept and given to every call.
 *   (W4) No call returns while a piece looks into the memory of its caller. */
#include "base/check.h"
#include "client/extent.h"
#include "client/object.h"
#include <stdlib.h>
#include <string.h>

#define EXPECT_BYTES_MAX (UINT64_C(1) << 50) /* what was expected beyond is as good as this */
#define TRY_NS (20 * SYS_SEC)
enum {
	FLIGHTS_MAX = 8,             /* pieces under way at once */
	STAGES = 2,                  /* one buffer is filled while the other one flies */
	STAGE_BYTES = 4 << 20,
	TRIES_MAX = 8,               /* servers that may refuse a piece */
	/* Extents that the pieces under way may still make without going beyond one message. */
	EXTENTS_SPARE = FLIGHTS_MAX * 8,
};

struct extent_done { uint64_t at; struct sub_extent_ref ref; struct slice slice; };

/* A piece of the object on its way to a server. */
struct flight {
	struct upload *u;
	const uint8_t *data;
	size_t len;
	uint64_t at;                 /* in the object */
	struct slice slice;
	uint64_t until_ns;
	int stage;                   /* the buffer that it looks into, or -1 */
	bool busy;
};

struct upload {
	struct client *c;
	struct object_name name;
	struct wadi_put_opts o;
	struct extent_done *done;    /* (W1) those of earlier commits first */
	uint32_t n_done, done_cap;
	uint32_t n_staged;           /* of done, named by a commit with PUT_MORE */
	uint64_t staged;             /* its inode, or 0 */
	struct flight flights[FLIGHTS_MAX];
	uint32_t n_flying, stage_flying[STAGES];
	struct waitq landed;
	struct group group;
	uint8_t *stage[STAGES];
	size_t stage_len;
	int stage_i;
	uint64_t at;                 /* bytes given to pieces so far */
	bool named;                  /* the last commit was answered */
	bool refused;                /* it was: the room is not ours any more */
	int rc;                      /* (W3) */
	struct err_note note;
};

/* The kind of room, as the commit will see it. */
static uint16_t room_flags(const struct upload *u)
{
	if ((u->o.flags & WADI_PUT_PERSIST) != 0 || u->name.id.lifetime == LIFETIME_PERSIST)
		return PUT_PERSIST;
	return (u->o.flags & WADI_PUT_DURABLE) != 0 ? PUT_DURABLE : 0;
}

static bool durable(const struct upload *u)
{
	return room_flags(u) != 0 || u->name.id.protection == PROTECT_COPIES;
}

static void fail_with(struct upload *u, int rc, const struct err_note *note)
{
	check(rc < 0);
	if (u->rc < 0)
		return;
	u->rc = rc;
	u->note = *note;
}

static int failed(const struct upload *u, struct err_note *note)
{
	check(u->rc < 0);
	if (note != NULL)
		*note = u->note;
	return u->rc;
}

/* ---- pieces ---- */
static int done_add(struct upload *u, uint64_t at, const struct sub_extent_ref *ref,
	const struct slice *sl, struct err_note *note)
{
	if (u->n_done == u->done_cap) {
		uint32_t cap = u->done_cap == 0 ? 8 : u->done_cap * 2;
		struct extent_done *more = realloc(u->done, cap * sizeof *more);

		if (more == NULL)
			return err_set(note, E_NOMEM, "an object of many extents");
		u->done = more;
		u->done_cap = cap;
	}
	u->done[u->n_done++] = (struct extent_done){ at, *ref, *sl };
	return 0;
}

static bool other_room_may_help(int rc)
{
	return rc == E_FULL || rc == E_STALE || rc == E_CLOSED || rc == E_UNREACH || rc == E_IO
		|| rc == E_GONE || rc == E_DENIED || rc == E_BUSY || rc == E_CORRUPT
		|| rc == E_UNAVAILABLE || rc == E_LOST;
}

/* Not all the time there is for one server. */
static uint64_t try_until(const struct flight *f)
{
	uint64_t soon_ns = sys_after(f->u->c->sys, TRY_NS);

	return soon_ns < f->until_ns ? soon_ns : f->until_ns;
}

/* The server, not only what was asked of it. */
static bool is_out(int rc)
{
	return rc == E_CLOSED || rc == E_UNREACH || rc == E_IO || rc == E_UNAVAILABLE;
}

/* Writes what is left of the piece, one extent after the other; the first slice is in f. */
PARKS static int piece_write(struct flight *f, struct err_note *note)
{
	struct upload *u = f->u;
	struct sub_extent_ref ref;
	struct peer *failed;
	unsigned tries = 0;
	int rc;

	for (;;) {
		size_t n = f->slice.len < f->len ? (size_t)f->slice.len : f->len;

		failed = NULL;
		rc = extent_put(u->c->sys, &f->slice, f->data, n, durable(u), try_until(f), &ref,
			&failed, note);
		if (rc == E_TIMEOUT && sys_now_ns(u->c->sys) < f->until_ns)
			rc = E_UNREACH;
		if (rc == 0)
			rc = done_add(u, f->at, &ref, &f->slice, note);
		if (rc == E_STALE)
			slice_stale(&f->slice);
		else if (rc < 0)
			slice_drop(&f->slice);
		if (rc < 0) {
			if (failed != NULL && is_out(rc))
				grants_avoid(&u->c->grants, failed);
			if (!other_room_may_help(rc))
				return rc;
			if (++tries > TRIES_MAX) /* of its own room: a server began anew */
				return rc == E_DENIED ? err_wrap(note, E_BUSY, "no room held") : rc;
			sys_reached(u->c->sys, "extent written again elsewhere");
			n = 0;
		}
		f->data += n;
		f->at += n;
		f->len -= n;
		if (f->len == 0)
			return 0;
		rc = grants_take(&u->c->grants, u->name.id.id, room_flags(u), f->len, f->len,
			f->until_ns, &f->slice, note);
		if (rc < 0)
			return rc;
	}
}

PARKS static int flight_fiber(void *arg)
{
	struct flight *f = arg;
	struct upload *u = f->u;
	struct err_note note = { "" };
	int rc = piece_write(f, &note);

	if (rc < 0)
		fail_with(u, rc, &note);
	f->busy = false;
	u->n_flying--;
	if (f->stage >= 0)
		u->stage_flying[f->stage]--;
	waitq_wake_all(&u->landed);
	return 0;
}

/* Until at most so many pieces fly, and at most so many from the given buffer. */
PARKS static int landed_wait(struct upload *u, uint32_t flying, int stage, uint64_t until_ns,
	struct err_note *note)
{
	while (u->n_flying > flying || (stage >= 0 && u->stage_flying[stage] > 0)) {
		int rc = waitq_wait(&u->landed, until_ns);

		if (rc < 0)
			return err_set(note, rc, "writing %s", u->name.key);
	}
	return u->rc < 0 ? failed(u, note) : 0;
}

static struct flight *flight_free(struct upload *u)
{
	for (unsigned i = 0; i < FLIGHTS_MAX; i++)
		if (!u->flights[i].busy)
			return &u->flights[i];
	check(false);
	return NULL;
}

PARKS static int flight_start(struct upload *u, const struct flight *with, struct err_note *note)
{
	struct flight *f = flight_free(u);
	int rc;

	*f = *with;
	f->busy = true;
	rc = fiber_start(&u->group, "extent", flight_fiber, f);
	if (rc < 0) {
		f->busy = false;
		slice_drop(&f->slice);
		return err_set(note, rc, "a fiber to write with");
	}
	u->n_flying++;
	if (f->stage >= 0)
		u->stage_flying[f->stage]++;
	return 0;
}

PARKS static int commit_send(struct upload *u, uint16_t more, uint64_t until_ns,
	struct msg_put_ok *ret_ok, struct err_note *note);

/* Names the extents so far without giving them a name that readers see: the next ones need room in
 * the message. */
PARKS static int commit_some(struct upload *u, uint64_t until_ns, struct err_note *note)
{
	struct msg_put_ok ok;
	int rc = landed_wait(u, 0, -1, until_ns, note);

	if (rc == 0)
		rc = commit_send(u, PUT_MORE, until_ns, &ok, note);
	if (rc < 0)
		return rc;
	u->n_staged = u->n_done;
	u->staged = ok.inode;
	return 0;
}

/* Bytes that the object still wants when len of them are at hand. */
static uint64_t wanted(const struct upload *u, size_t len)
{
	uint64_t whole = u->o.expect_bytes < EXPECT_BYTES_MAX ? u->o.expect_bytes
							       : EXPECT_BYTES_MAX;
	uint64_t left = whole > u->at ? whole - u->at : 0;

	return left > len ? left : len;
}

/* Starts pieces until every byte is on its way. */
PARKS static int pieces_start(struct upload *u, const uint8_t *data, size_t len, int stage,
	uint64_t until_ns, struct err_note *note)
{
	struct flight f = { .u = u, .stage = stage, .until_ns = until_ns };

	while (len > 0) {
		int rc = landed_wait(u, FLIGHTS_MAX - 1, -1, until_ns, note);

		if (rc == 0 && u->n_done - u->n_staged
		    >= LIMIT_EXTENTS_PER_MESSAGE_MAX - EXTENTS_SPARE)
			rc = commit_some(u, until_ns, note);
		if (rc == 0)
			rc = grants_take(&u->c->grants, u->name.id.id, room_flags(u), len,
				wanted(u, len), until_ns, &f.slice, note);
		if (rc < 0)
			return rc;
		f.data = data;
		f.len = (size_t)f.slice.len;
		f.at = u->at;
		rc = flight_start(u, &f, note);
		if (rc < 0)
			return rc;
		u->at += f.len;
		data += f.len;
		len -= f.len;
	}
	return 0;
}

/* (W4) */
PARKS static void pieces_end(struct upload *u)
{
	fiber_shield(sys_after(u->c->sys, CLIENT_CLOSE_MS * SYS_MS));
	group_cancel(&u->group);
	group_wait(&u->group);
	fiber_unshield();
	check(u->n_flying == 0);
}

/* ---- naming ---- */
static int by_place(const void *a, const void *b)
{
	const struct extent_done *x = a, *y = b;

	return (x->at > y->at) - (x->at < y->at);
}

static int extents_list(struct upload *u, struct wire_list *ret_list, uint8_t **ret_room,
	struct err_note *note)
{
	uint32_t n = u->n_done - u->n_staged;
	size_t room = (n + 1) * sizeof(struct sub_extent_ref);
	struct wire_list_builder b;
	uint8_t *list;

	check(u->n_flying == 0); /* (W2) */
	check(u->rc == 0);
	if (n > LIMIT_EXTENTS_PER_MESSAGE_MAX)
		return err_set(note, E_TOOBIG, "%u extents in one piece of an object", n);
	list = malloc(room);
	if (list == NULL)
		return err_set(note, E_NOMEM, "a commit");
	if (n > 0)
		qsort(u->done + u->n_staged, n, sizeof *u->done, by_place);
	b = wire_list_begin(list, room, dialog_version(&u->c->dialog));
	for (uint32_t i = u->n_staged; i < u->n_done; i++)
		sub_extent_ref_add(&b, &u->done[i].ref);
	*ret_list = wire_list_end(&b);
	*ret_room = list;
	return 0;
}

PARKS static int commit_send(struct upload *u, uint16_t more, uint64_t until_ns,
	struct msg_put_ok *ret_ok, struct err_note *note)
{
	struct msg_commit m = {
		.bucket = u->name.id.id,
		.flags = (uint16_t)((u->o.flags & PUT_FLAGS_TRAVEL) | more),
		.if_version = u->o.if_version,
		.ttl_ms = u->o.ttl_ms,
		.staged = u->staged,
		.name = object_key(&u->name),
	};
	struct ask a = { .op = OP_commit, .reply_op = OP_put_ok, .msg = &m, .changes = true };
	uint8_t *room = NULL;
	int rc = extents_list(u, &m.extents, &room, note);

	if (rc < 0)
		return rc;
	rc = dialog_ask(&u->c->dialog, &a, ret_ok, until_ns, note);
	ask_fini(&a);
	free(room);
	return rc;
}

PARKS static int put_send(struct client *c, const struct object_name *name,
	const struct wadi_put_opts *o, struct bytes data, uint64_t until_ns,
	struct msg_put_ok *ret_ok, struct err_note *note)
{
	struct msg_put m = {
		.bucket = name->id.id,
		.flags = (uint16_t)(o->flags & PUT_FLAGS_TRAVEL),
		.if_version = o->if_version,
		.ttl_ms = o->ttl_ms,
		.name = object_key(name),
	};
	struct ask a = { .op = OP_put, .reply_op = OP_put_ok, .msg = &m, .data = data,
		.changes = true };
	int rc = dialog_ask(&c->dialog, &a, ret_ok, until_ns, note);

	ask_fini(&a);
	return rc;
}

static void info_fill(struct wadi_info *ret_info, const struct msg_put_ok *ok, uint64_t size,
	uint32_t flags)
{
	if (ret_info != NULL)
		*ret_info = (struct wadi_info){ .version = ok->version, .inode = ok->inode,
			.size = size, .flags = flags & PUT_FLAGS_KEPT };
}

/* ---- the whole ---- */
static void upload_init(struct upload *u, struct client *c, const struct wadi_put_opts *o)
{
	u->c = c;
	u->o = *o;
	waitq_init(&u->landed);
	group_init(&u->group, sys_loop(c->sys));
}

PARKS int upload_new(struct client *c, const char *bucket, const char *key,
	const struct wadi_put_opts *o, uint64_t until_ns, struct upload **ret_u,
	struct err_note *note)
{
	struct upload *u = calloc(1, sizeof *u);
	int rc;

	if (u == NULL)
		return err_set(note, E_NOMEM, "an upload");
	upload_init(u, c, o);
	rc = object_name_set(&u->name, bucket, key, note);
	if (rc == 0)
		rc = object_resolve(c, &u->name, true, until_ns, note);
	if (rc < 0) {
		free(u);
		return rc;
	}
	*ret_u = u;
	return 0;
}

/* What is in the buffer takes off, and the other one is waited for. */
PARKS static int stage_fly(struct upload *u, uint64_t until_ns, struct err_note *note)
{
	size_t len = u->stage_len;

	u->stage_len = 0;
	if (len > 0) {
		int rc = pieces_start(u, u->stage[u->stage_i], len, u->stage_i, until_ns, note);

		if (rc < 0)
			return rc;
		u->stage_i = (u->stage_i + 1) % STAGES;
	}
	return landed_wait(u, FLIGHTS_MAX, u->stage_i, until_ns, note);
}

PARKS static int stage_add(struct upload *u, struct bytes data, uint64_t until_ns,
	size_t *ret_taken, struct err_note *note)
{
	uint8_t **stage = &u->stage[u->stage_i];
	size_t n = STAGE_BYTES - u->stage_len;

	if (*stage == NULL)
		*stage = malloc(STAGE_BYTES);
	if (*stage == NULL)
		return err_set(note, E_NOMEM, "a buffer for an upload");
	n = data.len < n ? data.len : n;
	memcpy(*stage + u->stage_len, data.p, n);
	u->stage_len += n;
	*ret_taken = n;
	return u->stage_len == STAGE_BYTES ? stage_fly(u, until_ns, note) : 0;
}

PARKS static int write_some(struct upload *u, struct bytes data, uint64_t until_ns,
	struct err_note *note)
{
	while (data.len > 0) {
		size_t n = 0;
		int rc;

		if (u->stage_len == 0 && data.len >= STAGE_BYTES) {
			/* Large pieces go straight from the caller's memory. */
			n = data.len;
			rc = pieces_start(u, data.p, n, -1, until_ns, note);
			if (rc == 0)
				rc = landed_wait(u, 0, -1, until_ns, note);
		} else {
			rc = stage_add(u, data, until_ns, &n, note);
		}
		if (rc < 0)
			return rc;
		data.p += n;
		data.len -= n;
	}
	return 0;
}

PARKS int upload_write(struct upload *u, struct bytes data, uint64_t until_ns,
	struct err_note *note)
{
	struct err_note own = { "" };
	int rc;

	if (u->rc < 0)
		return failed(u, note);
	check(!u->named);
	rc = write_some(u, data, until_ns, &own);
	if (rc == 0)
		return 0;
	/* Bytes are missing from here on. */
	fail_with(u, rc, &own);
	pieces_end(u);
	return failed(u, note);
}

/* rest: the last bytes, in memory of the caller's. */
PARKS static int finish(struct upload *u, struct bytes rest, uint64_t until_ns,
	struct msg_put_ok *ret_ok, struct err_note *note)
{
	int rc;

	if (u->at == 0 && rest.len <= LIMIT_INLINE_BYTES_MAX)
		return put_send(u->c, &u->name, &u->o, rest, until_ns, ret_ok, note);
	rc = pieces_start(u, rest.p, rest.len, -1, until_ns, note);
	if (rc == 0)
		rc = landed_wait(u, 0, -1, until_ns, note);
	if (rc < 0)
		return rc;
	rc = commit_send(u, 0, until_ns, ret_ok, note);
	u->refused = rc == E_DENIED || rc == E_GONE || rc == E_LOST;
	return rc;
}

static void slices_end(struct upload *u)
{
	for (uint32_t i = 0; i < u->n_done; i++) {
		if (u->named)
			slice_keep(&u->done[i].slice);
		else
			slice_drop(&u->done[i].slice);
	}
	u->n_done = u->n_staged = 0;
	grants_tidy(&u->c->grants);
}

/* The shard forgot our grants, or a server its memory: what was written counts for nothing. */
static void start_over(struct upload *u)
{
	slices_end(u);
	u->at = u->staged = 0;
	u->refused = false;
	sys_reached(u->c->sys, "object written again: its room was gone");
}

PARKS static int commit_with(struct upload *u, struct bytes rest, uint64_t until_ns,
	struct wadi_info *ret_info, struct err_note *note)
{
	struct err_note own = { "" };
	bool whole = u->at == 0; /* rest is all of it: it can be written again */
	struct msg_put_ok ok;
	unsigned tries = 0;
	int rc;

	if (u->rc < 0)
		return failed(u, note);
	check(!u->named);
	for (;;) {
		rc = finish(u, rest, until_ns, &ok, &own);
		if (rc == 0 || sys_now_ns(u->c->sys) >= until_ns)
			break;
		if (u->refused && whole && tries++ < TRIES_MAX)
			start_over(u);
		else if (u->at > 0 || !object_again(u->c, &u->name, &rc, until_ns, &own))
			break;
	}
	if (rc < 0) {
		fail_with(u, rc, &own);
		pieces_end(u);
		return failed(u, note);
	}
	u->named = true;
	slices_end(u);
	info_fill(ret_info, &ok, u->at > 0 ? u->at : rest.len, u->o.flags);
	return 0;
}

PARKS int upload_commit(struct upload *u, uint64_t until_ns, struct wadi_info *ret_info,
	struct err_note *note)
{
	return commit_with(u, bytes_of(u->stage[u->stage_i], u->stage_len), until_ns, ret_info,
		note);
}

PARKS void upload_free(struct upload *u)
{
	if (u == NULL)
		return;
	pieces_end(u);
	slices_end(u);
	for (unsigned i = 0; i < STAGES; i++)
		free(u->stage[i]);
	free(u->done);
	free(u);
}

PARKS static int put_small(struct client *c, const char *bucket, const char *key,
	struct bytes data, const struct wadi_put_opts *o, uint64_t until_ns,
	struct wadi_info *ret_info, struct err_note *note)
{
	struct object_name name;
	struct msg_put_ok ok;
	int rc = object_name_set(&name, bucket, key, note);

	if (rc == 0)
		rc = object_resolve(c, &name, true, until_ns, note);
	if (rc < 0)
		return rc;
	do
		rc = put_send(c, &name, o, data, until_ns, &ok, note);
	while (rc < 0 && object_again(c, &name, &rc, until_ns, note));
	if (rc < 0)
		return rc;
	info_fill(ret_info, &ok, data.len, o->flags);
	return 0;
}

PARKS int client_put(struct client *c, const char *bucket, const char *key, struct bytes data,
	const struct wadi_put_opts *o, uint64_t until_ns, struct wadi_info *ret_info,
	struct err_note *note)
{
	struct upload *u;
	int rc;

	if (data.len <= LIMIT_INLINE_BYTES_MAX)
		return put_small(c, bucket, key, data, o, until_ns, ret_info, note);
	rc = upload_new(c, bucket, key, o, until_ns, &u, note);
	if (rc < 0)
		return rc;
	rc = commit_with(u, data, until_ns, ret_info, note);
	upload_free(u);
	return rc;
}
