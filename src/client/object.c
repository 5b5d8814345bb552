/* SPDX-License-Identifier: Apache-2.0 */
/* object.c: what is done to an object as a whole, and listing. */
#include "client/object.h"
#include "base/check.h"
#include <string.h>

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

PARKS int client_persist(struct client *c, const char *bucket, const char *key,
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
