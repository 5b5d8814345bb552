/* SPDX-License-Identifier: Apache-2.0 */
/* api_object.c: objects, views, many at once. */
#include "base/check.h"
#include "client/api.h"
#include <stdlib.h>

/* Requests of one wadi_*_many() under way at once. */
enum { MANY_FLYING_MAX = 32 };

/* ---- put ---- */
PARKS static int put_run(struct wadi_op *op, struct err_note *note)
{
	int rc = client_put(op->w->c, op->bucket, op->key, bytes_of(op->data, op->len), &op->o.put,
		op->until_ns, &op->info, note);

	if (rc == 0)
		op->bytes = op->len;
	return rc;
}

static int put_op(struct wadi_op *op, struct wadi *w, const char *bucket, const char *key,
	const struct wadi_put_opts *opts)
{
	int rc;

	*op = (struct wadi_op){ .w = w, .run = put_run, .bucket = bucket, .key = key };
	rc = opts_take(w, &op->o.put, sizeof op->o.put, opts);
	op->until_ns = op_until(w, op->o.put.timeout_ms, 0);
	return rc;
}

int wadi_put(struct wadi *w, const char *bucket, const char *key, const void *data, size_t len,
	const struct wadi_put_opts *opts, struct wadi_info *ret_info)
{
	struct wadi_op op;
	int rc = put_op(&op, w, bucket, key, opts);

	if (rc < 0)
		return rc;
	op.data = data;
	op.len = len;
	rc = op_sync(&op);
	if (rc == 0 && ret_info != NULL)
		*ret_info = op.info;
	return rc;
}

int wadi_put_start(struct wadi *w, const char *bucket, const char *key, const void *held_data,
	size_t len, const struct wadi_put_opts *opts, struct wadi_op **ret_op)
{
	struct wadi_op op;
	int rc = put_op(&op, w, bucket, key, opts);

	if (rc < 0)
		return rc;
	op.data = held_data;
	op.len = len;
	return op_start(&op, ret_op);
}

/* ---- get ---- */
PARKS static int get_run(struct wadi_op *op, struct err_note *note)
{
	size_t len;
	int rc = client_get(op->w->c, op->bucket, op->key, op->buf, op->len, &op->o.get,
		op->until_ns, &len, &op->info, note);

	if (rc == 0)
		op->bytes = len;
	return rc;
}

static int get_op(struct wadi_op *op, struct wadi *w, const char *bucket, const char *key,
	const struct wadi_get_opts *opts)
{
	int rc;

	*op = (struct wadi_op){ .w = w, .run = get_run, .bucket = bucket, .key = key };
	rc = opts_take(w, &op->o.get, sizeof op->o.get, opts);
	op->until_ns = op_until(w, op->o.get.timeout_ms, op->o.get.wait_ms);
	return rc;
}

int wadi_get(struct wadi *w, const char *bucket, const char *key, void *buf, size_t cap,
	const struct wadi_get_opts *opts, size_t *ret_len, struct wadi_info *ret_info)
{
	struct wadi_op op;
	int rc = get_op(&op, w, bucket, key, opts);

	if (rc < 0)
		return rc;
	op.buf = buf;
	op.len = cap;
	rc = op_sync(&op);
	if (rc < 0)
		return rc;
	*ret_len = (size_t)op.bytes;
	if (ret_info != NULL)
		*ret_info = op.info;
	return 0;
}

int wadi_get_start(struct wadi *w, const char *bucket, const char *key, void *held_buf, size_t cap,
	const struct wadi_get_opts *opts, struct wadi_op **ret_op)
{
	struct wadi_op op;
	int rc = get_op(&op, w, bucket, key, opts);

	if (rc < 0)
		return rc;
	op.buf = held_buf;
	op.len = cap;
	return op_start(&op, ret_op);
}

/* ---- views ---- */
PARKS static int view_run(struct wadi_op *op, struct err_note *note)
{
	struct wadi_view *v = calloc(1, sizeof *v);
	int rc;

	if (v == NULL)
		return err_set(note, E_NOMEM, "a view");
	v->w = op->w;
	rc = client_view(op->w->c, op->bucket, op->key, &op->o.get, op->until_ns, &v->v, note);
	if (rc < 0) {
		free(v);
		return rc;
	}
	op->info = *view_info(v->v);
	op->bytes = view_len(v->v);
	op->view = v;
	return 0;
}

int wadi_get_view(struct wadi *w, const char *bucket, const char *key,
	const struct wadi_get_opts *opts, struct wadi_view **ret_view)
{
	struct wadi_op op;
	int rc = get_op(&op, w, bucket, key, opts);

	if (rc < 0)
		return rc;
	op.run = view_run;
	rc = op_sync(&op);
	if (rc == 0)
		*ret_view = op.view;
	return rc;
}

int wadi_get_view_start(struct wadi *w, const char *bucket, const char *key,
	const struct wadi_get_opts *opts, struct wadi_op **ret_op)
{
	struct wadi_op op;
	int rc = get_op(&op, w, bucket, key, opts);

	if (rc < 0)
		return rc;
	op.run = view_run;
	return op_start(&op, ret_op);
}

uint64_t wadi_view_len(const struct wadi_view *v) { return view_len(v->v); }
int wadi_view_shared(const struct wadi_view *v) { return view_shared(v->v); }

const struct wadi_part *wadi_view_parts(const struct wadi_view *v, size_t *ret_n)
{
	return view_parts(v->v, ret_n);
}

const void *wadi_view_data(const struct wadi_view *v)
{
	size_t n;
	const struct wadi_part *parts = view_parts(v->v, &n);

	return n == 1 ? parts[0].data : NULL;
}

void wadi_view_info(const struct wadi_view *v, struct wadi_info *ret_info)
{
	*ret_info = *view_info(v->v);
}

int wadi_view_check(const struct wadi_view *v)
{
	if (view_holds(v->v))
		return 0;
	return fail(v->w, E_CLOSED, "the server that shared these bytes went away");
}

/* Unpinning sends a message, which takes a fiber; it goes out before the call returns. */
PARKS static int view_close_run(struct wadi_op *op, struct err_note *note)
{
	view_free(op->arg);
	return 0;
}

void wadi_view_close(struct wadi_view *v)
{
	struct wadi_op op;

	if (v == NULL)
		return;
	op = (struct wadi_op){ .w = v->w, .run = view_close_run, .arg = v->v,
		.until_ns = op_until(v->w, 0, 0) };
	op_sync(&op);
	free(v);
}

/* ---- many ---- */
struct many {
	struct wadi_op *op;
	PARKS int (*one)(struct wadi_op *op, struct wadi_item *it, struct err_note *note);
	struct wadi_item *items;
	size_t n, next;
	size_t first_failed;
	struct err_note note;        /* of that one */
};

PARKS static int put_one(struct wadi_op *op, struct wadi_item *it, struct err_note *note)
{
	return client_put(op->w->c, it->bucket, it->key, bytes_of(it->data, it->len), &op->o.put,
		op->until_ns, &it->info, note);
}

PARKS static int get_one(struct wadi_op *op, struct wadi_item *it, struct err_note *note)
{
	return client_get(op->w->c, it->bucket, it->key, it->data, it->len, &op->o.get,
		op->until_ns, &it->len, &it->info, note);
}

/* Takes items until none is left: their requests and those of the other fibers travel together. */
PARKS static int many_fiber(void *arg)
{
	struct many *m = arg;

	while (m->next < m->n) {
		size_t i = m->next++;
		struct err_note note = { "" };

		m->items[i].result = m->one(m->op, &m->items[i], &note);
		if (m->items[i].result < 0 && i < m->first_failed) {
			m->first_failed = i;
			m->note = note;
		}
	}
	return 0;
}

PARKS static int many_run(struct wadi_op *op, struct err_note *note)
{
	struct many *m = op->arg;
	struct group g;
	int rc = 0;

	group_init(&g, sys_loop(op->w->sys));
	for (size_t i = 0; i < m->n && i < MANY_FLYING_MAX && rc == 0; i++)
		rc = fiber_start(&g, "many", many_fiber, m);
	/* One fiber is enough to get through them all. */
	if (g.n_live == 0 && m->n > 0)
		return err_set(note, rc, "a fiber for many requests");
	group_wait(&g);
	if (m->first_failed == SIZE_MAX)
		return 0;
	*note = m->note;
	return m->items[m->first_failed].result;
}

int wadi_put_many(struct wadi *w, struct wadi_item *items, size_t n,
	const struct wadi_put_opts *opts)
{
	struct many m = { .one = put_one, .items = items, .n = n, .first_failed = SIZE_MAX };
	struct wadi_op op;
	int rc = put_op(&op, w, NULL, NULL, opts);

	if (rc < 0)
		return rc;
	op.run = many_run;
	op.arg = &m;
	m.op = &op;
	return op_sync(&op);
}

int wadi_get_many(struct wadi *w, struct wadi_item *items, size_t n,
	const struct wadi_get_opts *opts)
{
	struct many m = { .one = get_one, .items = items, .n = n, .first_failed = SIZE_MAX };
	struct wadi_op op;
	int rc = get_op(&op, w, NULL, NULL, opts);

	if (rc < 0)
		return rc;
	op.run = many_run;
	op.arg = &m;
	m.op = &op;
	return op_sync(&op);
}

/* ---- the rest ---- */
static int plain_op(struct wadi_op *op, struct wadi *w, const char *bucket, const char *key,
	const struct wadi_opts *opts)
{
	int rc;

	*op = (struct wadi_op){ .w = w, .bucket = bucket, .key = key };
	rc = opts_take(w, &op->o.plain, sizeof op->o.plain, opts);
	op->until_ns = op_until(w, op->o.plain.timeout_ms, 0);
	return rc;
}

PARKS static int stat_run(struct wadi_op *op, struct err_note *note)
{
	return client_stat(op->w->c, op->bucket, op->key, op->until_ns, &op->info, note);
}

int wadi_stat(struct wadi *w, const char *bucket, const char *key, const struct wadi_opts *opts,
	struct wadi_info *ret_info)
{
	struct wadi_op op;
	int rc = plain_op(&op, w, bucket, key, opts);

	if (rc < 0)
		return rc;
	op.run = stat_run;
	rc = op_sync(&op);
	if (rc == 0 && ret_info != NULL)
		*ret_info = op.info;
	return rc;
}

int wadi_stat_start(struct wadi *w, const char *bucket, const char *key,
	const struct wadi_opts *opts, struct wadi_op **ret_op)
{
	struct wadi_op op;
	int rc = plain_op(&op, w, bucket, key, opts);

	if (rc < 0)
		return rc;
	op.run = stat_run;
	return op_start(&op, ret_op);
}

PARKS static int delete_run(struct wadi_op *op, struct err_note *note)
{
	return client_delete(op->w->c, op->bucket, op->key, &op->o.plain, op->until_ns, note);
}

int wadi_delete(struct wadi *w, const char *bucket, const char *key, const struct wadi_opts *opts)
{
	struct wadi_op op;
	int rc = plain_op(&op, w, bucket, key, opts);

	if (rc < 0)
		return rc;
	op.run = delete_run;
	return op_sync(&op);
}

int wadi_delete_start(struct wadi *w, const char *bucket, const char *key,
	const struct wadi_opts *opts, struct wadi_op **ret_op)
{
	struct wadi_op op;
	int rc = plain_op(&op, w, bucket, key, opts);

	if (rc < 0)
		return rc;
	op.run = delete_run;
	return op_start(&op, ret_op);
}

PARKS static int rename_run(struct wadi_op *op, struct err_note *note)
{
	return client_rename(op->w->c, op->bucket, op->key, op->bucket_2, op->key_2, &op->o.plain,
		op->until_ns, note);
}

int wadi_rename(struct wadi *w, const char *bucket, const char *from, const char *to_bucket,
	const char *to, const struct wadi_opts *opts)
{
	struct wadi_op op;
	int rc = plain_op(&op, w, bucket, from, opts);

	if (rc < 0)
		return rc;
	op.run = rename_run;
	op.bucket_2 = to_bucket;
	op.key_2 = to;
	return op_sync(&op);
}

PARKS static int persist_run(struct wadi_op *op, struct err_note *note)
{
	return client_persist(op->w->c, op->bucket, op->key, &op->o.plain, op->until_ns, note);
}

int wadi_persist(struct wadi *w, const char *bucket, const char *key, const struct wadi_opts *opts)
{
	struct wadi_op op;
	int rc = plain_op(&op, w, bucket, key, opts);

	if (rc < 0)
		return rc;
	op.run = persist_run;
	return op_sync(&op);
}
