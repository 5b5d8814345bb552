/* SPDX-License-Identifier: Apache-2.0 */
/* api_list.c: listings, buckets, jobs, status. */
#include "base/check.h"
#include "client/api.h"
#include <stdlib.h>
#include <string.h>

/* ---- listing ---- */
/* Entries of a page; a name is its offset in names until the page is complete, for names moves. */
struct page_entry { struct wadi_entry e; size_t name_at; };

struct wadi_list {
	struct wadi *w;
	struct wadi_list_opts o;     /* its strings are ours */
	char *bucket, *prefix;
	struct page_entry *entries;
	size_t n, cap, next_i;
	char *names;
	size_t names_len, names_cap;
	bool full;                   /* memory ran out in the page */
	bool last;                   /* no page follows */
	char after[CLIENT_CURSOR_MAX]; /* cursor of the page to fetch next */
	char seen[CLIENT_CURSOR_MAX];  /* cursor behind the entry given last */
};

static bool page_room(struct wadi_list *l, size_t name_bytes)
{
	if (l->n == l->cap) {
		size_t cap = l->cap == 0 ? 64 : l->cap * 2;
		struct page_entry *more = realloc(l->entries, cap * sizeof *more);

		if (more == NULL)
			return false;
		l->entries = more;
		l->cap = cap;
	}
	while (l->names_cap - l->names_len < name_bytes) {
		size_t cap = l->names_cap == 0 ? 4096 : l->names_cap * 2;
		char *more = realloc(l->names, cap);

		if (more == NULL)
			return false;
		l->names = more;
		l->names_cap = cap;
	}
	return true;
}

static void page_add(void *arg, const struct wadi_entry *e)
{
	struct wadi_list *l = arg;
	size_t bytes = strlen(e->name) + 1;

	if (l->full || !page_room(l, bytes)) {
		l->full = true;
		return;
	}
	memcpy(l->names + l->names_len, e->name, bytes);
	l->entries[l->n++] = (struct page_entry){ *e, l->names_len };
	l->names_len += bytes;
}

PARKS static int page_run(struct wadi_op *op, struct err_note *note)
{
	struct wadi_list *l = op->arg;
	char next[CLIENT_CURSOR_MAX];
	int rc;

	l->n = l->names_len = l->next_i = 0;
	l->full = false;
	rc = client_list(op->w->c, l->bucket, &l->o, l->after, op->until_ns, page_add, l, next,
		note);
	if (rc < 0)
		return rc;
	if (l->full)
		return err_set(note, E_NOMEM, "a page of names");
	memcpy(l->after, next, strlen(next) + 1);
	l->last = next[0] == '\0';
	return 0;
}

static int page_fetch(struct wadi_list *l)
{
	struct wadi_op op = { .w = l->w, .run = page_run, .arg = l,
		.until_ns = op_until(l->w, l->o.timeout_ms, 0) };

	return op_sync(&op);
}

static char *copy_of(const char *text)
{
	size_t bytes = strlen(text != NULL ? text : "") + 1;
	char *copy = malloc(bytes);

	if (copy != NULL)
		memcpy(copy, text != NULL ? text : "", bytes);
	return copy;
}

static int list_open_with(struct wadi_list *l, const char *bucket,
	const struct wadi_list_opts *opts)
{
	int rc = opts_take(l->w, &l->o, sizeof l->o, opts);

	if (rc < 0)
		return rc;
	if (l->o.after != NULL && strlen(l->o.after) >= sizeof l->after)
		return fail(l->w, E_TOOBIG, "a cursor longer than a key");
	if (l->o.after != NULL)
		memcpy(l->after, l->o.after, strlen(l->o.after) + 1);
	memcpy(l->seen, l->after, sizeof l->seen);
	l->bucket = copy_of(bucket);
	l->prefix = copy_of(l->o.prefix);
	if (l->bucket == NULL || l->prefix == NULL)
		return fail(l->w, E_NOMEM, "a listing");
	l->o.prefix = l->prefix;
	l->o.after = NULL;
	return page_fetch(l);
}

int wadi_list_open(struct wadi *w, const char *bucket, const struct wadi_list_opts *opts,
	struct wadi_list **ret_l)
{
	struct wadi_list *l = calloc(1, sizeof *l);
	int rc;

	if (l == NULL)
		return fail(w, E_NOMEM, "a listing");
	l->w = w;
	rc = list_open_with(l, bucket, opts);
	if (rc < 0)
		wadi_list_close(l);
	else
		*ret_l = l;
	return rc;
}

/* A folded prefix is passed by a cursor above everything that it folds. */
static void cursor_set(struct wadi_list *l, const struct wadi_entry *e)
{
	size_t len = strlen(e->name);

	check(len + 2 <= sizeof l->seen);
	memcpy(l->seen, e->name, len + 1);
	if (e->kind == WADI_PREFIX) {
		l->seen[len] = (char)0xff;
		l->seen[len + 1] = '\0';
	}
}

int wadi_list_next(struct wadi_list *l, struct wadi_entry *ret_e)
{
	struct page_entry *pe;

	while (l->next_i == l->n) {
		int rc;

		if (l->last)
			return 0;
		rc = page_fetch(l);
		if (rc < 0)
			return rc;
	}
	pe = &l->entries[l->next_i++];
	pe->e.name = l->names + pe->name_at;
	cursor_set(l, &pe->e);
	*ret_e = pe->e;
	return 1;
}

const char *wadi_list_cursor(const struct wadi_list *l) { return l->seen; }

void wadi_list_close(struct wadi_list *l)
{
	if (l == NULL)
		return;
	free(l->bucket);
	free(l->prefix);
	free(l->entries);
	free(l->names);
	free(l);
}

/* ---- buckets ---- */
struct bucket_call {
	const struct wadi_bucket_opts *o;
	struct wadi_bucket_info *infos;
	uint64_t *cursor;
	size_t cap, n;
};

PARKS static int bucket_create_run(struct wadi_op *op, struct err_note *note)
{
	struct bucket_call *b = op->arg;

	return client_bucket_create(op->w->c, op->bucket, b->o, op->until_ns, b->infos, note);
}

int wadi_bucket_create(struct wadi *w, const char *bucket, const struct wadi_bucket_opts *opts,
	struct wadi_bucket_info *ret_info)
{
	struct wadi_bucket_opts o;
	struct bucket_call b = { .o = &o, .infos = ret_info };
	struct wadi_op op = { .w = w, .run = bucket_create_run, .bucket = bucket, .arg = &b };
	int rc = opts_take(w, &o, sizeof o, opts);

	if (rc < 0)
		return rc;
	op.until_ns = op_until(w, o.timeout_ms, 0);
	return op_sync(&op);
}

PARKS static int bucket_stat_run(struct wadi_op *op, struct err_note *note)
{
	struct bucket_call *b = op->arg;

	return client_bucket_stat(op->w->c, op->bucket, op->until_ns, b->infos, note);
}

int wadi_bucket_stat(struct wadi *w, const char *bucket, struct wadi_bucket_info *ret_info)
{
	struct bucket_call b = { .infos = ret_info };
	struct wadi_op op = { .w = w, .run = bucket_stat_run, .bucket = bucket, .arg = &b,
		.until_ns = op_until(w, 0, 0) };

	return op_sync(&op);
}

PARKS static int bucket_drop_run(struct wadi_op *op, struct err_note *note)
{
	return client_bucket_drop(op->w->c, op->bucket, op->until_ns, note);
}

int wadi_bucket_drop(struct wadi *w, const char *bucket)
{
	struct wadi_op op = { .w = w, .run = bucket_drop_run, .bucket = bucket,
		.until_ns = op_until(w, 0, 0) };

	return op_sync(&op);
}

PARKS static int bucket_list_run(struct wadi_op *op, struct err_note *note)
{
	struct bucket_call *b = op->arg;

	return client_bucket_list(op->w->c, b->cursor, op->until_ns, b->infos, b->cap, &b->n, note);
}

int wadi_bucket_list(struct wadi *w, uint64_t *cursor, struct wadi_bucket_info *ret_infos,
	size_t cap, size_t *ret_n)
{
	struct bucket_call b = { .cursor = cursor, .infos = ret_infos, .cap = cap };
	struct wadi_op op = { .w = w, .run = bucket_list_run, .arg = &b,
		.until_ns = op_until(w, 0, 0) };
	int rc;

	if (cap == 0)
		return fail(w, E_INVALID, "room for no bucket");
	rc = op_sync(&op);
	if (rc == 0)
		*ret_n = b.n;
	return rc;
}

/* ---- jobs ---- */
struct job_call {
	uint64_t job, *cursor;
	uint32_t flags;
	const struct wadi_job_hints *hints;
	void *ret;
	size_t cap, n;
};

static int job_sync(struct wadi *w, PARKS int (*run)(struct wadi_op *op, struct err_note *note),
	struct job_call *j, uint32_t timeout_ms)
{
	struct wadi_op op = { .w = w, .run = run, .arg = j,
		.until_ns = op_until(w, timeout_ms, 0) };

	return op_sync(&op);
}

PARKS static int job_register_run(struct wadi_op *op, struct err_note *note)
{
	struct job_call *j = op->arg;

	return client_job_register(op->w->c, op->bucket, j->hints, op->until_ns, j->ret, note);
}

int wadi_job_register(struct wadi *w, const char *name, const struct wadi_job_hints *hints,
	struct wadi_job *ret_job)
{
	struct wadi_job_hints h;
	struct job_call j = { .hints = &h, .ret = ret_job };
	struct wadi_op op = { .w = w, .run = job_register_run, .bucket = name, .arg = &j };
	int rc = opts_take(w, &h, sizeof h, hints);

	if (rc < 0)
		return rc;
	op.until_ns = op_until(w, h.timeout_ms, 0);
	return op_sync(&op);
}

PARKS static int job_end_run(struct wadi_op *op, struct err_note *note)
{
	struct job_call *j = op->arg;

	return client_job_end(op->w->c, j->job, op->until_ns, j->ret, note);
}

int wadi_job_end(struct wadi *w, uint64_t job, struct wadi_job_end *ret_end)
{
	struct job_call j = { .job = job, .ret = ret_end };

	return job_sync(w, job_end_run, &j, 0);
}

PARKS static int job_revoke_run(struct wadi_op *op, struct err_note *note)
{
	struct job_call *j = op->arg;

	return client_job_revoke(op->w->c, j->job, op->until_ns, j->ret, note);
}

int wadi_job_revoke(struct wadi *w, uint64_t job, struct wadi_job *ret_job)
{
	struct job_call j = { .job = job, .ret = ret_job };

	if (ret_job == NULL)
		return fail(w, E_INVALID, "room for the new token is needed");
	return job_sync(w, job_revoke_run, &j, 0);
}

PARKS static int key_rotate_run(struct wadi_op *op, struct err_note *note)
{
	return client_key_rotate(op->w->c, op->until_ns, note);
}

int wadi_key_rotate(struct wadi *w)
{
	struct job_call j = { .job = 0 };

	return job_sync(w, key_rotate_run, &j, 0);
}

PARKS static int job_renew_run(struct wadi_op *op, struct err_note *note)
{
	struct job_call *j = op->arg;

	return client_job_renew(op->w->c, j->job, op->until_ns, note);
}

int wadi_job_renew(struct wadi *w, uint64_t job)
{
	struct job_call j = { .job = job };

	return job_sync(w, job_renew_run, &j, 0);
}

PARKS static int job_list_run(struct wadi_op *op, struct err_note *note)
{
	struct job_call *j = op->arg;

	return client_job_list(op->w->c, j->flags, j->cursor, op->until_ns, j->ret, j->cap, &j->n,
		note);
}

int wadi_job_list(struct wadi *w, uint32_t flags, uint64_t *cursor, struct wadi_job_info *ret_infos,
	size_t cap, size_t *ret_n)
{
	struct job_call j = { .flags = flags, .cursor = cursor, .ret = ret_infos, .cap = cap };
	int rc;

	if (cap == 0)
		return fail(w, E_INVALID, "room for no job");
	rc = job_sync(w, job_list_run, &j, 0);
	if (rc == 0)
		*ret_n = j.n;
	return rc;
}

PARKS static int job_bill_run(struct wadi_op *op, struct err_note *note)
{
	struct job_call *j = op->arg;

	return client_job_bill(op->w->c, j->job, op->until_ns, j->ret, note);
}

int wadi_job_bill(struct wadi *w, uint64_t job, struct wadi_bill *ret_bill)
{
	struct job_call j = { .job = job, .ret = ret_bill };

	return job_sync(w, job_bill_run, &j, 0);
}

/* ---- status ---- */
PARKS static int status_run(struct wadi_op *op, struct err_note *note)
{
	struct job_call *j = op->arg;

	return client_status(op->w->c, j->job, op->until_ns, j->ret, note);
}

int wadi_status_get(struct wadi *w, uint64_t job, struct wadi_status **ret_st)
{
	struct job_call j = { .job = job, .ret = ret_st };

	return job_sync(w, status_run, &j, 0);
}

void wadi_status_free(struct wadi_status *st)
{
	free(st);
}

PARKS static int scrub_run(struct wadi_op *op, struct err_note *note)
{
	struct job_call *j = op->arg;

	return client_scrub(op->w->c, j->flags != 0, op->until_ns, j->ret, note);
}

int wadi_scrub(struct wadi *w, int now, struct wadi_scrub *ret_scrub)
{
	struct job_call j = { .flags = now != 0, .ret = ret_scrub };

	return job_sync(w, scrub_run, &j, 0);
}
