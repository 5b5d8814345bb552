/* SPDX-License-Identifier: Apache-2.0 */
/* api.c: handles and operations: the only file here that drives a loop of the real door. */
#include "client/api.h"
#include "base/check.h"
#include "client/where.h"
#include "sys/uv/sys_uv.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIMEOUT_MS_DEFAULT = 30000, CONNECT_MS_DEFAULT = 5000, FIBERS_OF_A_HANDLE = 256 };
/* An operation that is past its deadline ends by itself; this long after, something is broken. */
#define OVERDUE_NS (60 * SYS_SEC)

_Static_assert((int)WHERE_KEY_CHARS <= (int)CLIENT_TOKEN_BYTES_MAX, "a key is a token");
_Static_assert(sizeof(struct wadi_note) == sizeof(struct err_note), "a note is a note");
#define ERR(name, value, exit, text) \
	_Static_assert((int)WADI_E_##name == -(value), "wadi.h has the codes of err.def");
#include "base/err.def"
#undef ERR

const char *wadi_version(void) { return WADI_VERSION; }
const char *wadi_strerror(int rc) { return err_text(rc); }
const char *wadi_error_name(int rc) { return err_name(rc); }
const char *wadi_error(const struct wadi *w) { return w->note.text; }

int fail(struct wadi *w, int rc, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w->note.text, sizeof w->note.text, fmt, ap);
	va_end(ap);
	return rc;
}

int opts_take(struct wadi *w, void *ret_opts, size_t ours, const void *given)
{
	size_t theirs;

	memset(ret_opts, 0, ours);
	if (given == NULL)
		return 0;
	memcpy(&theirs, given, sizeof theirs);
	if (theirs < sizeof theirs || theirs > 4096)
		return fail(w, E_INVALID, "options that do not begin with their size");
	for (size_t i = ours; i < theirs; i++)
		if (((const uint8_t *)given)[i] != 0)
			return fail(w, E_UNSUPPORTED, "an option that this library does not know");
	memcpy(ret_opts, given, theirs < ours ? theirs : ours);
	return 0;
}

uint64_t op_until(struct wadi *w, uint32_t timeout_ms, uint32_t more_ms)
{
	uint64_t ms = (uint64_t)(timeout_ms != 0 ? timeout_ms : w->timeout_ms) + more_ms;

	return sys_after(w->sys, ms * SYS_MS);
}

/* ---- operations ---- */
PARKS static int op_fiber(void *arg)
{
	struct wadi_op *op = arg;
	struct wadi *w = op->w;

	op->fiber = fiber_self();
	if (op->canceled)
		op->rc = err_set(&op->note, E_CANCELED, "before it began");
	else
		op->rc = op->run(op, &op->note);
	op->fiber = NULL;
	op->ended = true;
	if (op->rc < 0 && op->note.text[0] == '\0')
		err_set(&op->note, op->rc, "%s", err_text(op->rc));
	if (op->owned) {
		list_push(&w->ended, &op->ended_link);
		w->n_ended++;
	}
	return 0;
}

static int op_launch(struct wadi_op *op)
{
	int rc = fiber_start(&op->w->group, "op", op_fiber, op);

	if (rc < 0)
		return fail(op->w, rc, "too many operations under way");
	return 0;
}

static void op_finish(struct wadi_op *op)
{
	uint64_t overdue = op->until_ns == FOREVER ? FOREVER : op->until_ns + OVERDUE_NS;

	sys_uv_until(op->w->sys, &op->ended, overdue);
	check(op->ended);
	op->w->turned = true;
	if (op->rc < 0)
		op->w->note = op->note;
}

int op_sync(struct wadi_op *op)
{
	int rc;

	op->note.text[0] = '\0';
	rc = op_launch(op);
	if (rc < 0)
		return rc;
	op_finish(op);
	return op->rc;
}

static const char *string_pack(char **at, const char *text)
{
	size_t len;
	char *here = *at;

	if (text == NULL)
		return NULL;
	len = strlen(text) + 1;
	memcpy(here, text, len);
	*at += len;
	return here;
}

static size_t string_room(const char *text) { return text != NULL ? strlen(text) + 1 : 0; }

int op_start(const struct wadi_op *op, struct wadi_op **ret_op)
{
	size_t room = string_room(op->bucket) + string_room(op->key);
	struct wadi_op *own;
	char *at;
	int rc;

	check(op->bucket_2 == NULL);
	own = malloc(sizeof *own + room);
	if (own == NULL)
		return fail(op->w, E_NOMEM, "an operation");
	*own = *op;
	at = (char *)(own + 1);
	own->bucket = string_pack(&at, op->bucket);
	own->key = string_pack(&at, op->key);
	own->owned = true;
	list_init(&own->ended_link);
	rc = op_launch(own);
	if (rc < 0) {
		free(own);
		return rc;
	}
	op->w->turned = true;
	list_push(&op->w->ops, &own->link);
	*ret_op = own;
	return 0;
}

int wadi_op_done(const struct wadi_op *op) { return op->ended; }
int wadi_op_result(const struct wadi_op *op) { return op->ended ? op->rc : E_BUSY; }
const char *wadi_op_error(const struct wadi_op *op) { return op->ended ? op->note.text : ""; }
uint64_t wadi_op_bytes(const struct wadi_op *op) { return op->bytes; }
void wadi_op_set_user(struct wadi_op *op, void *user) { op->user = user; }
void *wadi_op_user(const struct wadi_op *op) { return op->user; }

void wadi_op_info(const struct wadi_op *op, struct wadi_info *ret_info)
{
	if (op->ended && op->rc == 0)
		*ret_info = op->info;
}

struct wadi_view *wadi_op_take_view(struct wadi_op *op)
{
	struct wadi_view *v = op->view;

	if (!op->ended)
		return NULL;
	op->view = NULL;
	return v;
}

int wadi_op_wait(struct wadi_op *op)
{
	op_finish(op);
	return op->rc;
}

void wadi_op_cancel(struct wadi_op *op)
{
	if (op->ended || op->canceled)
		return;
	op->canceled = true;
	if (op->fiber != NULL)
		fiber_cancel(op->fiber);
}

void wadi_op_free(struct wadi_op *op)
{
	if (op == NULL)
		return;
	check(op->owned);
	wadi_op_cancel(op);
	op_finish(op);
	list_remove(&op->link);
	list_remove(&op->ended_link);
	wadi_view_close(op->view);
	free(op);
}

/* ---- the loop ---- */
int wadi_poll_fd(struct wadi *w, short *ret_events)
{
	if (ret_events != NULL)
		*ret_events = 1; /* POLLIN everywhere that we run */
	return sys_uv_poll_fd(w->sys);
}

int wadi_poll_timeout_ms(struct wadi *w)
{
	return w->turned ? 0 : sys_uv_poll_timeout_ms(w->sys);
}

int wadi_advance(struct wadi *w)
{
	int n;

	w->turned = false;
	sys_uv_advance(w->sys);
	n = w->n_ended;
	w->n_ended = 0;
	return n;
}

struct wadi_op *wadi_next_done(struct wadi *w)
{
	struct list *l = list_pop(&w->ended);

	return l != NULL ? container_of(l, struct wadi_op, ended_link) : NULL;
}

/* ---- connecting ---- */
struct connecting { const char *url; struct wadi_connect_opts o; };

/* Over TCP somebody without a job's token shows the cluster's key. */
PARKS static int key_find(struct wadi *w, const char *key_file,
	char ret_key[WHERE_KEY_CHARS + 1], struct err_note *note)
{
	char folder[WHERE_MAX], path[WHERE_MAX];
	int rc;

	if (key_file == NULL)
		key_file = sys_getenv(w->sys, "WADI_KEY");
	if (key_file == NULL) {
		rc = where_folder(w->sys, folder, note);
		if (rc == 0)
			rc = where_join(folder, WHERE_KEY, path, note);
		if (rc < 0)
			return rc;
		key_file = path;
	}
	return where_key_read(w->sys, key_file, ret_key, note);
}

/* ret_token has room for any. */
PARKS static int token_find(struct wadi *w, const struct wadi_connect_opts *o, const char *addr,
	char ret_token[CLIENT_TOKEN_BYTES_MAX + 1], struct err_note *note)
{
	const char *text = o->token != NULL ? o->token : sys_getenv(w->sys, "WADI_JOB_TOKEN");

	ret_token[0] = '\0';
	if (text != NULL && text[0] != '\0') {
		if (!client_token_ok(text))
			return err_set(note, E_INVALID, "this is not a job's token");
		memcpy(ret_token, text, strlen(text) + 1);
		return 0;
	}
	if (strncmp(addr, "unix:", 5) == 0)
		return 0;
	/* Without a key the server may still let us in, or says best what it wants. */
	if (key_find(w, o->key_file, ret_token, note) < 0 && o->key_file != NULL)
		return E_DENIED;
	return 0;
}

PARKS static int connect_run(struct wadi_op *op, struct err_note *note)
{
	const struct connecting *cn = op->arg;
	struct client_opts co = { .name = cn->o.name,
		.wait = (cn->o.flags & WADI_CONNECT_WAIT) != 0 };
	char addr[WHERE_LIST_MAX], token[CLIENT_TOKEN_BYTES_MAX + 1];
	char key[WHERE_KEY_CHARS + 1] = "";
	int rc = where_connect(op->w->sys, cn->url, addr, note);

	/* Storage servers may want TLS where the metadata does not: read only if one does. */
	if (rc == 0)
		rc = where_tls(op->w->sys, cn->o.cert_dir, strstr(addr, "tls:") == NULL, note);
	if (rc == E_INVALID && strstr(addr, "tls:") == NULL && cn->o.cert_dir == NULL)
		rc = 0; /* there is no home: then not */
	if (rc == 0)
		rc = token_find(op->w, &cn->o, addr, token, note);
	if (rc < 0)
		return rc;
	/* The local server may send us to another host, which knows nobody by a socket. */
	if (strncmp(addr, "unix:", 5) == 0 && token[0] == '\0')
		(void)key_find(op->w, cn->o.key_file, key, NULL);
	co.key = bytes_of(key, strlen(key));
	co.addr = addr;
	co.token = bytes_of(token, strlen(token));
	return client_new(op->w->sys, &co, op->until_ns, &op->w->c, note);
}

static int connect_with(struct wadi *w, const char *url, const struct wadi_connect_opts *opts)
{
	struct connecting cn = { .url = url };
	struct wadi_op op = { .w = w, .run = connect_run, .arg = &cn };
	int rc = opts_take(w, &cn.o, sizeof cn.o, opts);

	if (rc < 0)
		return rc;
	w->timeout_ms = cn.o.timeout_ms != 0 ? cn.o.timeout_ms : TIMEOUT_MS_DEFAULT;
	op.until_ns = op_until(w, cn.o.connect_ms != 0 ? cn.o.connect_ms : CONNECT_MS_DEFAULT, 0);
	return op_sync(&op);
}

int wadi_connect(const char *url, const struct wadi_connect_opts *opts, struct wadi **ret_w,
	struct wadi_note *why)
{
	struct wadi *w = calloc(1, sizeof *w);
	int rc = E_NOMEM;

	if (w == NULL)
		goto out;
	list_init(&w->ops);
	list_init(&w->ended);
	rc = sys_uv_new(&w->sys, &w->note);
	if (rc < 0)
		goto out;
	group_init(&w->group, sys_loop(w->sys));
	w->group.keep_going = true;
	rc = connect_with(w, url, opts);
	if (rc == 0)
		*ret_w = w;
out:
	if (rc == 0)
		return 0;
	if (why != NULL)
		err_set((struct err_note *)why, rc, "%s", w != NULL ? w->note.text : err_text(rc));
	wadi_close(w);
	return rc;
}

PARKS static int close_run(struct wadi_op *op, struct err_note *note)
{
	client_free(op->w->c);
	return 0;
}

void wadi_close(struct wadi *w)
{
	struct wadi_op op = { .w = w, .run = close_run };
	struct list *l;

	if (w == NULL)
		return;
	while ((l = w->ops.next) != NULL && l != &w->ops)
		wadi_op_free(container_of(l, struct wadi_op, link));
	if (w->c != NULL) {
		op.until_ns = op_until(w, 0, 2 * CLIENT_CLOSE_MS);
		op_sync(&op);
	}
	if (w->sys != NULL)
		sys_uv_free(w->sys);
	free(w);
}

uint64_t wadi_job_id(const struct wadi *w) { return client_job(w->c); }

void wadi_round_trips(const struct wadi *w, uint64_t *ret_meta, uint64_t *ret_store)
{
	uint64_t meta, store;

	client_round_trips(w->c, &meta, &store);
	if (ret_meta != NULL)
		*ret_meta = meta;
	if (ret_store != NULL)
		*ret_store = store;
}
