/* SPDX-License-Identifier: Apache-2.0 */
/* object.c: what is done to an object as a whole, and listing. */
#include "client/object.h"
#include "base/check.h"
#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 4 << 20, PERSIST_TRIES = 4 };

/* Sends the request again when the bucket's id was old; field is the id inside the message. */
PARKS static int ask_object(struct client *c, struct object_name *n, struct ask *a,
	uint64_t *bucket,
	void *ret_reply, uint64_t until_ns, struct err_note *note)
{
	int rc = object_resolve(c, n, false, until_ns, note);

	if (rc < 0)
		return rc;
	do {
		*bucket = n->id.id;
		rc = dialog_ask(&c->dialog, a, ret_reply, until_ns, note);
	} while (rc < 0 && object_again(c, n, &rc, until_ns, note));
	if (rc < 0)
		return err_wrap(note, rc, "%s/%s", bucket_shown(n->bucket), n->key);
	return 0;
}

PARKS int client_stat(struct client *c, const char *bucket, const char *key, uint64_t until_ns,
	struct wadi_info *ret_info, struct err_note *note)
{
	struct object_name n;
	struct msg_stat m = { 0 };
	struct ask a = { .op = OP_stat, .reply_op = OP_stat_ok, .msg = &m };
	struct msg_stat_ok ok;
	int rc = object_name_set(&n, bucket, key, note);

	if (rc < 0)
		return rc;
	m.name = object_key(&n);
	rc = ask_object(c, &n, &a, &m.bucket, &ok, until_ns, note);
	if (rc == 0 && ret_info != NULL)
		*ret_info = (struct wadi_info){
			.version = ok.version, .size = ok.size, .mtime_ms = ok.mtime_ms,
			.ctime_ms = ok.ctime_ms, .expires_ms = ok.expires_ms, .inode = ok.inode,
			.flags = ok.flags & PUT_FLAGS_KEPT, .tiers = ok.tiers,
		};
	ask_fini(&a);
	return rc;
}

PARKS int client_delete(struct client *c, const char *bucket, const char *key,
	const struct wadi_opts *o, uint64_t until_ns, struct err_note *note)
{
	struct object_name n;
	struct msg_delete m = { .flags = (uint16_t)(o->flags & PUT_IF_VERSION),
		.if_version = o->if_version };
	struct ask a = { .op = OP_delete, .reply_op = OP_ok, .msg = &m, .changes = true };
	struct msg_ok ok;
	int rc = object_name_set(&n, bucket, key, note);

	if (rc < 0)
		return rc;
	m.name = object_key(&n);
	rc = ask_object(c, &n, &a, &m.bucket, &ok, until_ns, note);
	ask_fini(&a);
	return rc;
}

PARKS int client_rename(struct client *c, const char *bucket, const char *from,
	const char *to_bucket, const char *to, const struct wadi_opts *o, uint64_t until_ns,
	struct err_note *note)
{
	struct object_name n, t;
	struct msg_rename m = { .flags = (uint16_t)(o->flags & PUT_IF_ABSENT) };
	struct ask a = { .op = OP_rename, .reply_op = OP_put_ok, .msg = &m, .changes = true };
	struct msg_put_ok ok;
	int rc = object_name_set(&n, bucket, from, note);

	if (rc == 0)
		rc = object_name_set(&t, to_bucket, to, note);
	if (rc < 0)
		return rc;
	if (strcmp(n.bucket, t.bucket) != 0)
		return err_set(note, E_CROSS, "from %s to %s: copy it and delete it",
			bucket_shown(n.bucket), bucket_shown(t.bucket));
	rc = object_resolve(c, &n, false, until_ns, note);
	if (rc < 0)
		return rc;
	do {
		m.bucket = m.to_bucket = n.id.id;
		m.from = object_key(&n);
		m.to = object_key(&t);
		rc = dialog_ask(&c->dialog, &a, &ok, until_ns, note);
	} while (rc < 0 && object_again(c, &n, &rc, until_ns, note));
	ask_fini(&a);
	return rc < 0 ? err_wrap(note, rc, "%s/%s", bucket_shown(n.bucket), n.key) : 0;
}

/* ---- persist ---- */
PARKS static int persist_ask(struct client *c, const char *bucket, const char *key,
	const struct wadi_opts *o, uint64_t until_ns, struct err_note *note)
{
	struct object_name n;
	struct msg_persist m = { .ttl_ms = o->ttl_ms };
	struct ask a = { .op = OP_persist, .reply_op = OP_ok, .msg = &m, .changes = true };
	struct msg_ok ok;
	int rc = object_name_set(&n, bucket, key, note);

	if (rc < 0)
		return rc;
	m.name = object_key(&n);
	rc = ask_object(c, &n, &a, &m.bucket, &ok, until_ns, note);
	ask_fini(&a);
	return rc;
}

PARKS static int pieces_move(struct download *d, struct upload *u, uint64_t size,
	uint64_t until_ns, struct err_note *note)
{
	uint8_t *piece = malloc(PIECE_BYTES);
	int rc = 0;

	if (piece == NULL)
		return err_set(note, E_NOMEM, "a buffer");
	for (uint64_t at = 0; at < size && rc == 0; at += PIECE_BYTES) {
		int64_t n = download_pread(d, piece, PIECE_BYTES, at, until_ns, note);

		rc = n < 0 ? (int)n
			: upload_write(u, bytes_of(piece, (size_t)n), until_ns, note);
	}
	free(piece);
	return rc;
}

/* Bytes in the room of a job cannot outlive it: they are written again where they can, as the same
 * object, if nobody has replaced it meanwhile. */
PARKS static int persist_copy(struct client *c, const char *bucket, const char *key,
	const struct wadi_opts *o, uint64_t until_ns, struct err_note *note)
{
	const struct wadi_get_opts get = { .size = sizeof get };
	struct wadi_put_opts put = { .size = sizeof put,
		.flags = WADI_PUT_PERSIST | WADI_PUT_IF_VERSION, .ttl_ms = o->ttl_ms };
	struct download *d;
	struct upload *u;
	struct wadi_info info;
	int rc = download_new(c, bucket, key, &get, until_ns, &d, &info, note);

	if (rc < 0)
		return rc;
	put.if_version = info.version;
	rc = upload_new(c, bucket, key, &put, until_ns, &u, note);
	if (rc == 0) {
		rc = pieces_move(d, u, info.size, until_ns, note);
		if (rc == 0)
			rc = upload_commit(u, until_ns, NULL, note);
		upload_free(u);
	}
	download_free(d);
	return rc;
}

PARKS int client_persist(struct client *c, const char *bucket, const char *key,
	const struct wadi_opts *o, uint64_t until_ns, struct err_note *note)
{
	int rc;

	for (unsigned tries = 0;; tries++) {
		rc = persist_ask(c, bucket, key, o, until_ns, note);
		if (rc == E_UNSUPPORTED)
			rc = persist_copy(c, bucket, key, o, until_ns, note);
		if ((rc != E_CONFLICT && rc != E_GONE) || tries == PERSIST_TRIES)
			return rc;
		sys_reached(c->sys, "object replaced while it was made to persist");
	}
}

/* ---- listing ---- */
static void entries_give(struct msg_list_ok *ok, client_each_entry *each, void *arg)
{
	char name[LIMIT_NAME_BYTES_MAX + 1];
	struct sub_entry e;

	while (sub_entry_next(&ok->entries, &e)) {
		struct wadi_entry out = { .name = name, .size = e.size, .version = e.version,
			.mtime_ms = e.mtime_ms, .kind = e.kind };

		text_take(name, sizeof name, e.name);
		each(arg, &out);
	}
}

PARKS static int list_send(struct client *c, const struct msg_list *m, uint64_t until_ns,
	client_each_entry *each, void *arg, char ret_next[CLIENT_CURSOR_MAX], struct err_note *note)
{
	struct ask a = { .op = OP_list, .reply_op = OP_list_ok, .msg = m };
	struct msg_list_ok ok;
	int rc = dialog_ask(&c->dialog, &a, &ok, until_ns, note);

	if (rc == 0) {
		entries_give(&ok, each, arg);
		text_take(ret_next, CLIENT_CURSOR_MAX, ok.next);
	}
	ask_fini(&a);
	return rc;
}

PARKS int client_list(struct client *c, const char *bucket, const struct wadi_list_opts *o,
	const char *after, uint64_t until_ns, client_each_entry *each, void *arg,
	char ret_next[CLIENT_CURSOR_MAX], struct err_note *note)
{
	struct object_name n;
	const char *prefix = o->prefix != NULL ? o->prefix : "";
	struct msg_list m = {
		.max = o->max == 0 || o->max > LIMIT_LIST_MAX ? LIMIT_LIST_MAX : o->max,
		.delimiter = (uint8_t)o->delimiter,
		.prefix = bytes_of(prefix, strlen(prefix)),
		.after = bytes_of(after, strlen(after)),
	};
	int rc = object_name_set(&n, bucket, "-", note);

	if (rc == 0 && (m.prefix.len > LIMIT_NAME_BYTES_MAX || m.after.len >= CLIENT_CURSOR_MAX))
		rc = err_set(note, E_TOOBIG, "a prefix or cursor longer than a key");
	if (rc == 0)
		rc = object_resolve(c, &n, false, until_ns, note);
	if (rc < 0)
		return rc;
	do {
		m.bucket = n.id.id;
		rc = list_send(c, &m, until_ns, each, arg, ret_next, note);
	} while (rc < 0 && object_again(c, &n, &rc, until_ns, note));
	return rc;
}
