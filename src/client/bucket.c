/* SPDX-License-Identifier: Apache-2.0 */
/* bucket.c: buckets by name.  What a name stood for lately is remembered; ids are never given
 * twice, so a bucket that was dropped meanwhile is refused (E_GONE) and its name looked up anew,
 * once. */
#include "base/check.h"
#include "client/object.h"
#include <stdlib.h>
#include <string.h>

/* The job's own bucket, whose name nobody has to give. */
#define OWN_BUCKET "job"

struct bucket_ref {
	struct list link;
	struct bucket_id id;
	char name[LIMIT_COMPONENT_BYTES_MAX + 1];
};

int bucket_name_check(const char *name, struct err_note *note)
{
	size_t len = name != NULL ? strlen(name) : 0;

	if (len > LIMIT_COMPONENT_BYTES_MAX)
		return err_set(note, E_TOOBIG, "a bucket's name has at most %u bytes, not %zu",
			LIMIT_COMPONENT_BYTES_MAX, len);
	if (len > 0 && strchr(name, '/') != NULL)
		return err_set(note, E_INVALID, "a bucket's name has no slash: %.64s", name);
	return 0;
}

static int new_name_check(const char *name, struct err_note *note)
{
	if (name == NULL || name[0] == '\0')
		return err_set(note, E_INVALID, "a bucket needs a name");
	if (strchr(name, ':') != NULL)
		return err_set(note, E_INVALID, "a bucket's name has no colon: %.64s", name);
	return bucket_name_check(name, note);
}

const char *bucket_shown(const char *name)
{
	return name != NULL && name[0] != '\0' ? name : "the job's own";
}

void text_take(char *to, size_t room, struct bytes b)
{
	size_t n = b.len < room ? b.len : room - 1;

	if (n > 0)
		memcpy(to, b.p, n);
	to[n] = '\0';
}

/* ---- what is remembered ---- */
static struct bucket_ref *ref_lookup(struct client *c, const char *name)
{
	list_each(it, &c->buckets) {
		struct bucket_ref *ref = container_of(it, struct bucket_ref, link);

		if (strcmp(ref->name, name) == 0)
			return ref;
	}
	return NULL;
}

static void ref_free(struct client *c, struct bucket_ref *ref)
{
	check(c->n_buckets > 0);
	list_remove(&ref->link);
	c->n_buckets--;
	free(ref);
}

static void remember(struct client *c, const char *name, struct bucket_id id)
{
	struct bucket_ref *ref = ref_lookup(c, name);

	if (ref != NULL)
		ref_free(c, ref);
	if (c->n_buckets == BUCKETS_KEPT)
		ref_free(c, container_of(c->buckets.prev, struct bucket_ref, link));
	ref = calloc(1, sizeof *ref);
	if (ref == NULL)
		return;
	ref->id = id;
	ref->id.fresh = false;
	text_take(ref->name, sizeof ref->name, bytes_of(name, strlen(name)));
	list_add_before(c->buckets.next, &ref->link);
	c->n_buckets++;
}

void bucket_forget(struct client *c, const char *name)
{
	struct bucket_ref *ref = ref_lookup(c, name != NULL ? name : "");

	if (ref != NULL)
		ref_free(c, ref);
}

void buckets_fini(struct client *c)
{
	while (c->n_buckets > 0)
		ref_free(c, container_of(c->buckets.next, struct bucket_ref, link));
}

/* ---- requests ---- */
static void info_take(const struct sub_bucket_info *b, struct wadi_bucket_info *ret_info)
{
	*ret_info = (struct wadi_bucket_info){
		.id = b->bucket, .job = b->job, .kind = b->kind, .lifetime = b->lifetime,
		.tiers = b->tiers, .protection = b->protection, .ttl_ms = b->ttl_ms,
		.quota_bytes = b->quota_bytes, .files = b->files, .used_bytes = b->used_bytes,
		.copies = b->copies,
	};
	text_take(ret_info->name, sizeof ret_info->name, b->name);
}

static int answer_take(struct msg_bucket_ok *ok, struct wadi_bucket_info *ret_info,
	struct err_note *note)
{
	struct sub_bucket_info b;

	if (!sub_bucket_info_next(&ok->bucket, &b))
		return err_set(note, E_CORRUPT, "an answer about a bucket without one");
	info_take(&b, ret_info);
	return 0;
}

PARKS static int open_in(struct client *c, uint64_t job, const char *name, uint64_t until_ns,
	struct wadi_bucket_info *ret_info, struct err_note *note)
{
	struct msg_bucket_open m = { .job = job, .name = bytes_of(name, strlen(name)) };
	struct ask a = { .op = OP_bucket_open, .reply_op = OP_bucket_ok, .msg = &m };
	struct msg_bucket_ok ok;
	int rc = dialog_ask(&c->dialog, &a, &ok, until_ns, note);

	if (rc == 0)
		rc = answer_take(&ok, ret_info, note);
	ask_fini(&a);
	return rc;
}

/* "17:NAME" is of job 17, for whoever may see it; else it is of the job that we act for, if any.
 * The own bucket of a job has no name of its own. */
static int name_read(struct client *c, const char *name, uint64_t *ret_job, const char **ret_name,
	struct err_note *note)
{
	const char *colon = strchr(name, ':');
	uint64_t job = client_job(c);

	if (colon != NULL) {
		job = 0;
		for (; name < colon; name++)
			if (*name < '0' || *name > '9' || job > UINT64_MAX / 10 - 1)
				return err_set(note, E_INVALID, "not a job's number in front of :");
			else
				job = job * 10 + (uint64_t)(*name - '0');
		name = colon + 1;
	}
	if (name[0] == '\0' && job == 0)
		return err_set(note, E_INVALID, "no bucket is named, and there is no job");
	*ret_job = job;
	*ret_name = name[0] != '\0' ? name : OWN_BUCKET;
	return 0;
}

PARKS static int open_any(struct client *c, const char *name, uint64_t until_ns,
	struct wadi_bucket_info *ret_info, struct err_note *note)
{
	const char *bare = NULL;
	uint64_t job = 0;
	int rc = name_read(c, name, &job, &bare, note);

	if (rc == 0)
		rc = open_in(c, job, bare, until_ns, ret_info, note);
	return rc == E_NOTFOUND ? err_set(note, rc, "bucket %s", bucket_shown(name)) : rc;
}

PARKS static int create_send(struct client *c, const struct msg_bucket_create *m, uint64_t until_ns,
	struct wadi_bucket_info *ret_info, struct err_note *note)
{
	struct ask a = { .op = OP_bucket_create, .reply_op = OP_bucket_ok, .msg = m,
		.changes = true };
	struct msg_bucket_ok ok;
	int rc = dialog_ask(&c->dialog, &a, &ok, until_ns, note);

	if (rc == 0)
		rc = answer_take(&ok, ret_info, note);
	ask_fini(&a);
	return rc;
}

PARKS static int own_create(struct client *c, uint64_t until_ns, struct wadi_bucket_info *ret_info,
	struct err_note *note)
{
	struct msg_bucket_create m = { .job = client_job(c), .exists_ok = 1,
		.name = BYTES(OWN_BUCKET) };

	return create_send(c, &m, until_ns, ret_info, note);
}

PARKS int bucket_find(struct client *c, const char *name, bool make, uint64_t until_ns,
	struct bucket_id *ret_id, struct err_note *note)
{
	struct bucket_ref *ref = ref_lookup(c, name);
	struct wadi_bucket_info info;
	int rc;

	if (ref != NULL) {
		*ret_id = ref->id;
		list_remove(&ref->link);
		list_add_before(c->buckets.next, &ref->link);
		return 0;
	}
	rc = open_any(c, name, until_ns, &info, note);
	if (rc == E_NOTFOUND && make && name[0] == '\0')
		rc = own_create(c, until_ns, &info, note);
	if (rc < 0)
		return rc;
	*ret_id = (struct bucket_id){ .id = info.id, .lifetime = (uint8_t)info.lifetime,
		.protection = (uint8_t)info.protection, .fresh = true };
	remember(c, name, *ret_id);
	return 0;
}

/* ---- names of objects ---- */
int object_name_set(struct object_name *n, const char *bucket, const char *key,
	struct err_note *note)
{
	size_t len = key != NULL ? strlen(key) : 0;
	int rc = bucket_name_check(bucket, note);

	if (rc < 0)
		return rc;
	if (len == 0)
		return err_set(note, E_INVALID, "an object needs a key");
	if (len > LIMIT_NAME_BYTES_MAX)
		return err_set(note, E_TOOBIG, "a key has at most %u bytes, not %zu",
			LIMIT_NAME_BYTES_MAX, len);
	n->id = (struct bucket_id){ 0 };
	n->key_len = len;
	memcpy(n->key, key, len + 1);
	text_take(n->bucket, sizeof n->bucket,
		bytes_of(bucket, bucket != NULL ? strlen(bucket) : 0));
	return 0;
}

PARKS int object_resolve(struct client *c, struct object_name *n, bool make, uint64_t until_ns,
	struct err_note *note)
{
	return bucket_find(c, n->bucket, make, until_ns, &n->id, note);
}

PARKS bool object_again(struct client *c, struct object_name *n, int *rc, uint64_t until_ns,
	struct err_note *note)
{
	if (*rc != E_GONE || n->id.fresh)
		return false;
	sys_reached(c->sys, "bucket looked up again");
	bucket_forget(c, n->bucket);
	*rc = bucket_find(c, n->bucket, true, until_ns, &n->id, note);
	n->id.fresh = true;
	return *rc == 0;
}

/* ---- what callers ask for ---- */
PARKS int client_bucket_create(struct client *c, const char *bucket,
	const struct wadi_bucket_opts *o, uint64_t until_ns, struct wadi_bucket_info *ret_info,
	struct err_note *note)
{
	struct msg_bucket_create m = {
		.job = client_job(c), .kind = (uint8_t)o->kind,
		.lifetime = (uint8_t)o->lifetime, .tiers = (uint8_t)o->tiers, .ttl_ms = o->ttl_ms,
		.quota_bytes = o->quota_bytes, .exists_ok = o->exists_ok != 0,
		.copies = (uint8_t)o->copies,
	};
	struct wadi_bucket_info info;
	int rc = new_name_check(bucket, note);

	if (rc < 0)
		return rc;
	if (o->kind > BUCKET_TREE || o->lifetime > LIFETIME_PERSIST
	    || o->tiers >= 1u << TIER_COUNT || o->copies > UINT8_MAX)
		return err_set(note, E_INVALID, "bucket %s: kind, lifetime, tiers or copies",
			bucket);
	m.name = bytes_of(bucket, strlen(bucket));
	rc = create_send(c, &m, until_ns, &info, note);
	if (rc < 0)
		return rc;
	bucket_forget(c, bucket);
	if (ret_info != NULL)
		*ret_info = info;
	return 0;
}

PARKS int client_bucket_stat(struct client *c, const char *bucket, uint64_t until_ns,
	struct wadi_bucket_info *ret_info, struct err_note *note)
{
	struct wadi_bucket_info info;
	int rc = bucket_name_check(bucket, note);

	if (rc == 0)
		rc = open_any(c, bucket != NULL ? bucket : "", until_ns, &info, note);
	if (rc == 0 && ret_info != NULL)
		*ret_info = info;
	return rc;
}

PARKS int client_bucket_drop(struct client *c, const char *bucket, uint64_t until_ns,
	struct err_note *note)
{
	struct msg_bucket_drop m;
	struct ask a = { .op = OP_bucket_drop, .reply_op = OP_ok, .msg = &m, .changes = true };
	struct wadi_bucket_info info;
	struct msg_ok ok;
	int rc = client_bucket_stat(c, bucket, until_ns, &info, note);

	if (rc < 0)
		return rc;
	m = (struct msg_bucket_drop){ .bucket = info.id };
	rc = dialog_ask(&c->dialog, &a, &ok, until_ns, note);
	ask_fini(&a);
	bucket_forget(c, bucket);
	return rc;
}

PARKS int client_bucket_list(struct client *c, uint64_t *cursor, uint64_t until_ns,
	struct wadi_bucket_info *ret_infos, size_t cap, size_t *ret_n, struct err_note *note)
{
	struct msg_bucket_list m = { .job = UINT64_MAX, .after = *cursor,
		.max = (uint32_t)(cap < LIMIT_LIST_MAX ? cap : LIMIT_LIST_MAX) };
	struct ask a = { .op = OP_bucket_list, .reply_op = OP_bucket_list_ok, .msg = &m };
	struct msg_bucket_list_ok ok;
	struct sub_bucket_info b;
	size_t n = 0;
	int rc = dialog_ask(&c->dialog, &a, &ok, until_ns, note);

	if (rc == 0) {
		while (n < cap && sub_bucket_info_next(&ok.buckets, &b))
			info_take(&b, &ret_infos[n++]);
		*cursor = ok.next;
		*ret_n = n;
	}
	ask_fini(&a);
	return rc;
}
