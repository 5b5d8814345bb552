/* SPDX-License-Identifier: Apache-2.0 */
/* Buckets, decoded in memory; what they hold; how a dropped one gives its room back.
 *
 *   create -> live -> (drop) -> dropping -> (last inode given back) -> gone
 *
 * Drop unlinks the bucket's name and, of a tree, the names at its top in one record: nothing in it
 * can be reached from then on.  The names of a flat bucket, which hold inodes, and then its inodes
 * are walked afterwards in steps, each of which gives back what the rows hold and ends with one
 * range delete.  A shard that stops in between goes on after its start. */
#include "core/room.h"
#include "meta/inside.h"
#include <stdlib.h>

static const char *resolve(
	const struct msg_bucket_create *m, uint64_t job, struct row_bucket *ret_row)
{
	struct row_bucket row = { .kind = m->kind,
		.lifetime = m->lifetime,
		.protection = m->protection,
		.tiers = m->tiers,
		.state = BUCKET_LIVE,
		.job = job,
		.ttl_ms = m->ttl_ms,
		.quota_bytes = m->quota_bytes,
		.copies = m->copies,
		.name = m->name };

	if (row.lifetime == LIFETIME_DEFAULT)
		row.lifetime = job != 0 ? LIFETIME_JOB : LIFETIME_PERSIST;
	if (row.protection == PROTECT_DEFAULT)
		row.protection = row.lifetime == LIFETIME_PERSIST || row.copies > 0
					 ? PROTECT_COPIES
					 : PROTECT_NONE;
	if (row.kind > BUCKET_TREE)
		return "no such kind of bucket";
	if (row.lifetime > LIFETIME_PERSIST)
		return "no such lifetime";
	if (row.protection > PROTECT_COPIES)
		return "no such protection";
	if (row.protection == PROTECT_LINEAGE)
		return "protection=lineage: nothing recomputes files yet";
	if ((row.tiers >> TIER_COUNT) != 0)
		return "no such tier";
	if (row.lifetime == LIFETIME_JOB && job == 0)
		return "lifetime=job without a job";
	if ((row.lifetime == LIFETIME_TTL) != (row.ttl_ms != 0))
		return "lifetime=ttl and a time to live come together";
	if (row.protection == PROTECT_COPIES && row.tiers == TIER_BIT(TIER_DRAM))
		return "protection=copies is synced to flash or disk: tiers=dram contradicts it";
	if (row.copies > 0 && row.protection != PROTECT_COPIES)
		return "a number of copies contradicts another protection";
	if (row.copies > ROOM_COPIES_MAX)
		return "there are at most 4 copies";
	*ret_row = row;
	return NULL;
}

static int name_ok(struct bytes name, struct err_note *note)
{
	if (name.len == 0 || name.len > LIMIT_COMPONENT_BYTES_MAX)
		return err_set(note, name.len == 0 ? E_INVALID : E_TOOBIG,
			"a bucket's name has 1 to %d bytes", LIMIT_COMPONENT_BYTES_MAX);
	if (!name_is_text(name) || memchr(name.p, '/', name.len) != NULL)
		return err_set(note, E_INVALID, "a bucket's name is UTF-8 without NUL and '/'");
	return 0;
}

/* The job whose buckets are meant: a job means its own with 0. */
static int job_of(
	const struct shard_call *c, uint64_t job, uint64_t *ret_job, struct err_note *note)
{
	if (!c->who.admin && job == 0)
		job = c->who.job;
	if (!c->who.admin && job != c->who.job)
		return err_set(note, E_DENIED, "the bucket belongs to another job");
	*ret_job = job;
	return 0;
}

int bucket_use(const struct shard *sh, struct shard_call *c, uint64_t id, struct bucket **ret_b)
{
	struct bucket *b = map_get(&sh->buckets, id);

	if (b == NULL || b->state != BUCKET_LIVE)
		return err_set(&c->note, E_GONE, "the bucket is no more");
	if (!c->who.admin && b->job != c->who.job)
		return err_set(&c->note, E_DENIED, "the bucket belongs to another job");
	*ret_b = b;
	return 0;
}

void bucket_count(struct shard *sh, struct bucket *b, int64_t files, int64_t bytes)
{
	b->files += (uint64_t)files;
	b->used_bytes += (uint64_t)bytes;
	sh->files += (uint64_t)files;
	sh->used_bytes += (uint64_t)bytes;
	check((int64_t)b->files >= 0);
	check((int64_t)b->used_bytes >= 0);
	check(sh->files >= b->files);
	check(sh->used_bytes >= b->used_bytes);
	if (b->use != NULL) {
		b->use->pub.files += (uint64_t)files;
		b->use->pub.used_bytes += (uint64_t)bytes;
	}
	if (!b->dirty)
		list_push(&sh->dirty, &b->dirty_link);
	b->dirty = true;
}

static void count_slab(struct shard *sh, struct bucket *b, int64_t bytes)
{
	b->use->pub.slab_bytes += (uint64_t)bytes;
	job_hold(sh, b->use, TIER_DRAM, bytes);
}

void bucket_count_inode(
	struct shard *sh, struct bucket *b, const struct row_inode *row, int64_t sign)
{
	check(b->dirty); /* bucket_count() goes with it */
	if ((row->flags & PUT_PERSIST) != 0) {
		b->kept_files += (uint64_t)sign;
		b->kept_bytes += (uint64_t)(sign * (int64_t)row->size);
		check((int64_t)b->kept_files >= 0);
		check((int64_t)b->kept_bytes >= 0);
	}
	if (row->place == PLACE_SLAB && row->life == sh->life && b->use != NULL)
		count_slab(sh, b, sign * (int64_t)row->size);
}

void bucket_write_usage(struct shard *sh)
{
	struct list *it;

	while ((it = list_pop(&sh->dirty)) != NULL) {
		struct bucket *b = container_of(it, struct bucket, dirty_link);
		struct row_usage row = { b->id, b->files, b->used_bytes, b->kept_files,
			b->kept_bytes };
		uint8_t key[ROW_usage_KEY_MAX], value[ROW_usage_VALUE_MAX];

		check(b->dirty);
		b->dirty = false;
		db_put(sh->db, row_usage_key(&row, key), row_usage_put(&row, value));
	}
}

static void write_row(struct shard *sh, const struct row_bucket *row)
{
	uint8_t key[ROW_bucket_KEY_MAX], value[ROW_bucket_VALUE_MAX];

	db_put(sh->db, row_bucket_key(row, key), row_bucket_put(row, value));
}

static struct row_bucket row_of(const struct bucket *b)
{
	return (struct row_bucket){ .bucket = b->id,
		.kind = b->kind,
		.lifetime = b->lifetime,
		.protection = b->protection,
		.tiers = b->tiers,
		.state = b->state,
		.job = b->job,
		.ttl_ms = b->ttl_ms,
		.quota_bytes = b->quota_bytes,
		.copies = b->copies,
		.name = bytes_of(b->name, b->name_len) };
}

static struct bucket *add(struct shard *sh, const struct row_bucket *row)
{
	struct job_use *use = row->job != 0 ? job_use(sh, row->job) : NULL;
	struct bucket *b = calloc(1, sizeof *b);

	check(row->name.len <= sizeof b->name);
	if (b == NULL || (row->job != 0 && use == NULL)
		|| map_put(&sh->buckets, row->bucket, b) < 0) {
		free(b);
		return NULL;
	}
	*b = (struct bucket){ .id = row->bucket,
		.job = row->job,
		.ttl_ms = row->ttl_ms,
		.quota_bytes = row->quota_bytes,
		.kind = row->kind,
		.lifetime = row->lifetime,
		.protection = row->protection,
		.tiers = row->tiers,
		.copies = row->copies,
		.state = row->state,
		.use = use,
		.name_len = (uint8_t)row->name.len };
	memcpy(b->name, row->name.p, row->name.len);
	list_init(&b->dirty_link);
	list_init(&b->drop_link);
	if (b->state == BUCKET_DROPPING) {
		list_push(&sh->dropping, &b->drop_link);
		sh->n_dropping++;
	} else if (b->state == BUCKET_KEEPING) {
		list_push(&sh->keeping, &b->drop_link);
	}
	if (use != NULL)
		use->pub.buckets++;
	return b;
}

static void forget(struct shard *sh, struct bucket *b)
{
	if (b->state == BUCKET_DROPPING)
		sh->n_dropping--;
	list_remove(&b->dirty_link);
	list_remove(&b->drop_link);
	check(map_remove(&sh->buckets, b->id) == b);
	if (b->use != NULL) {
		check(b->use->pub.buckets > 0);
		b->use->pub.buckets--;
		if (sh->jobs_known)
			job_use_look(sh, b->job);
	}
	free(b);
}

/* ---- requests ---- */

static bool same_policy(const struct bucket *b, const struct row_bucket *row)
{
	return b->kind == row->kind && b->lifetime == row->lifetime &&
	       b->protection == row->protection && b->tiers == row->tiers &&
	       b->copies == row->copies && b->ttl_ms == row->ttl_ms &&
	       b->quota_bytes == row->quota_bytes;
}

static bool info_add(struct wire_list_builder *l, const struct bucket *b)
{
	struct sub_bucket_info info = { .bucket = b->id,
		.job = b->job,
		.kind = b->kind,
		.lifetime = b->lifetime,
		.protection = b->protection,
		.tiers = b->tiers,
		.ttl_ms = b->ttl_ms,
		.quota_bytes = b->quota_bytes,
		.files = b->files,
		.copies = b->copies,
		.used_bytes = b->used_bytes,
		.name = bytes_of(b->name, b->name_len) };

	return sub_bucket_info_add(l, &info);
}

static void answer_one(struct shard *sh, const struct shard_call *c, const struct bucket *b,
	struct msg_bucket_ok *ret)
{
	struct wire_list_builder l = wire_list_begin(sh->page, PAGE_BYTES, c->version);
	bool fits = info_add(&l, b);

	check(fits);
	ret->bucket = wire_list_end(&l);
}

static int find_by_name(struct shard *sh, uint64_t job, struct bytes name, struct bucket **ret_b)
{
	struct row_bucket_name row = { .job = job, .name = name };
	uint8_t key[ROW_bucket_name_KEY_MAX];
	struct bytes value;
	struct bucket *b;
	int rc;

	rc = db_get(sh->db, row_bucket_name_key(&row, key), &value);
	if (rc == 0)
		rc = row_bucket_name_get(value, &row);
	if (rc < 0)
		return rc;
	b = map_get(&sh->buckets, row.bucket);
	if (b != NULL && b->state == BUCKET_KEEPING)
		return E_BUSY;
	if (b == NULL || b->state != BUCKET_LIVE)
		return E_CORRUPT;
	*ret_b = b;
	return 0;
}

static int refuse_name(struct shard_call *c, int rc)
{
	if (rc == E_BUSY)
		return err_set(&c->note, rc, "its job is ending: what does not persist is going");
	return err_set(&c->note, rc, "the row of the bucket's name cannot be read");
}

static int create_again(struct shard *sh, struct shard_call *c, const struct bucket *b,
	const struct msg_bucket_create *m, const struct row_bucket *row, struct msg_bucket_ok *ret)
{
	if (!m->exists_ok)
		return err_set(&c->note, E_EXISTS, "there is a bucket of this name");
	if (!same_policy(b, row))
		return err_set(&c->note, E_CONFLICT, "the bucket of this name has another policy");
	if (bucket_durable(b)) /* whoever made it may not have been answered yet */
		shard_want_sync(sh, c);
	answer_one(sh, c, b, ret);
	return 0;
}

static int create(
	struct shard *sh, struct shard_call *c, struct row_bucket *row, struct msg_bucket_ok *ret)
{
	struct row_bucket_name name = { .job = row->job, .name = row->name };
	uint8_t key[ROW_bucket_name_KEY_MAX], value[ROW_bucket_name_VALUE_MAX];
	struct bucket *b;

	if (sh->buckets.n >= LIMIT_BUCKETS_MAX)
		return err_set(
			&c->note, E_FULL, "there are %d buckets: no more", LIMIT_BUCKETS_MAX);
	row->bucket = db_next_id(sh->db);
	if (row->bucket == 0)
		return err_set(&c->note, E_BUSY, "the next block of ids is not there yet");
	if ((b = add(sh, row)) == NULL)
		return err_set(&c->note, E_NOMEM, "no memory for a bucket");
	write_row(sh, row);
	name.bucket = row->bucket;
	db_put(sh->db, row_bucket_name_key(&name, key), row_bucket_name_put(&name, value));
	bucket_count(sh, b, 0, 0);
	if (bucket_durable(b))
		shard_want_sync(sh, c);
	answer_keep(sh, c, OP_bucket_create, b->id, 0);
	answer_one(sh, c, b, ret);
	return 0;
}

int shard_bucket_create(struct shard *sh, struct shard_call *c, const struct msg_bucket_create *m,
	struct msg_bucket_ok *ret)
{
	const struct answer *a;
	struct row_bucket row;
	struct bucket *b;
	const char *wrong;
	uint64_t job = 0;
	int rc;

	if ((rc = shard_writable(sh, c)) < 0 || (rc = name_ok(m->name, &c->note)) < 0 ||
		(rc = job_of(c, m->job, &job, &c->note)) < 0)
		return rc;
	if ((wrong = resolve(m, job, &row)) != NULL)
		return err_set(&c->note, E_INVALID, "%s", wrong);
	if ((rc = answer_recall(sh, c, OP_bucket_create, &a)) < 0)
		return rc;
	if (rc > 0) {
		if ((rc = bucket_use(sh, c, a->first, &b)) == 0)
			answer_one(sh, c, b, ret);
		return rc;
	}
	if ((rc = job_active(sh, job, &c->note)) < 0)
		return rc;
	rc = find_by_name(sh, job, m->name, &b);
	if (rc == 0)
		return create_again(sh, c, b, m, &row, ret);
	if (rc != E_NOTFOUND)
		return refuse_name(c, rc);
	return create(sh, c, &row, ret);
}

int shard_bucket_open(struct shard *sh, struct shard_call *c, const struct msg_bucket_open *m,
	struct msg_bucket_ok *ret)
{
	struct bucket *b;
	uint64_t job = 0;
	int rc;

	if ((rc = shard_ready(sh, c)) < 0 || (rc = name_ok(m->name, &c->note)) < 0 ||
		(rc = job_of(c, m->job, &job, &c->note)) < 0)
		return rc;
	rc = find_by_name(sh, job, m->name, &b);
	if (rc == E_NOTFOUND)
		return err_set(&c->note, E_NOTFOUND, "no such bucket");
	if (rc < 0)
		return refuse_name(c, rc);
	answer_one(sh, c, b, ret);
	return 0;
}

void bucket_state(struct shard *sh, struct bucket *b, enum bucket_state state)
{
	struct row_bucket row;

	b->state = (uint8_t)state;
	row = row_of(b);
	write_row(sh, &row);
}

void bucket_drop(struct shard *sh, struct bucket *b)
{
	struct row_bucket_name name = { .job = b->job, .name = bytes_of(b->name, b->name_len) };
	uint8_t key[ROW_bucket_name_KEY_MAX];
	struct row_range r;

	check(b->state == BUCKET_LIVE);
	bucket_state(sh, b, BUCKET_DROPPING);
	db_delete(sh->db, row_bucket_name_key(&name, key));
	if (b->kind == BUCKET_TREE) {
		row_range_one(&r, ROW_name_TABLE, b->id);
		db_delete_range(sh->db, r.from, r.to);
	}
	list_push(&sh->dropping, &b->drop_link);
	sh->n_dropping++;
}

int shard_bucket_drop(struct shard *sh, struct shard_call *c, const struct msg_bucket_drop *m)
{
	const struct answer *a;
	struct bucket *b;
	int rc;

	if ((rc = shard_may_free(sh, c)) < 0 ||
		(rc = answer_recall(sh, c, OP_bucket_drop, &a)) != 0)
		return rc < 0 ? rc : 0;
	if ((rc = bucket_use(sh, c, m->bucket, &b)) < 0)
		return rc;
	bucket_drop(sh, b);
	if (bucket_durable(b))
		shard_want_sync(sh, c);
	answer_keep(sh, c, OP_bucket_drop, 0, 0);
	wait_wake_all(sh);
	waitq_wake_all(&sh->tidy);
	return 0;
}

int shard_bucket_list(struct shard *sh, struct shard_call *c, const struct msg_bucket_list *m,
	struct msg_bucket_list_ok *ret)
{
	struct wire_list_builder l = wire_list_begin(sh->page, PAGE_BYTES, c->version);
	uint32_t max = m->max == 0 || m->max > LIMIT_LIST_MAX ? LIMIT_LIST_MAX : m->max;
	struct row_bucket row = { .bucket = m->after + 1 };
	uint64_t job = m->job, last = m->after;
	uint8_t from[ROW_bucket_KEY_MAX];
	struct bytes key, value;
	struct row_range r;
	struct db_iter it;
	int rc;

	if ((rc = shard_ready(sh, c)) < 0 ||
		(job != UINT64_MAX && (rc = job_of(c, job, &job, &c->note)) < 0))
		return rc;
	*ret = (struct msg_bucket_list_ok){ .next = 0 };
	row_range_table(&r, ROW_bucket_TABLE);
	if (m->after == UINT64_MAX)
		return 0;
	db_iter_begin(&it, sh->db, row_bucket_key(&row, from), r.to);
	while (rc == 0 && db_iter_next(&it, &key, &value)) {
		const struct bucket *b;

		if ((rc = row_bucket_key_get(key, &row)) < 0)
			break;
		b = map_get(&sh->buckets, row.bucket);
		if (b == NULL || b->state != BUCKET_LIVE ||
			(!c->who.admin && b->job != c->who.job) ||
			(job != UINT64_MAX && b->job != job))
			continue;
		if (l.n == max || !info_add(&l, b)) {
			ret->next = last;
			break;
		}
		last = b->id;
	}
	db_iter_end(&it);
	if (rc < 0)
		return err_set(&c->note, rc, "the row of a bucket cannot be read");
	ret->buckets = wire_list_end(&l);
	return 0;
}

/* ---- the start, the end, and between drop and gone ---- */

static int load_usage(struct shard *sh, struct bucket *b)
{
	struct row_usage row = { .bucket = b->id };
	uint8_t key[ROW_usage_KEY_MAX];
	struct bytes value;
	int rc;

	rc = db_get(sh->db, row_usage_key(&row, key), &value);
	if (rc == 0)
		rc = row_usage_get(value, &row);
	if (rc < 0)
		return E_CORRUPT;
	b->files = row.files;
	b->used_bytes = row.used_bytes;
	b->kept_files = row.kept_files;
	b->kept_bytes = row.kept_bytes;
	if (b->use != NULL) {
		b->use->pub.files += row.files;
		b->use->pub.used_bytes += row.used_bytes;
	}
	sh->files += row.files;
	sh->used_bytes += row.used_bytes;
	return 0;
}

int bucket_load(struct shard *sh, struct err_note *note)
{
	struct bytes key, value;
	struct row_bucket row;
	struct row_range r;
	struct db_iter it;
	int rc = 0;

	row_range_table(&r, ROW_bucket_TABLE);
	db_iter_begin(&it, sh->db, r.from, r.to);
	while (rc == 0 && db_iter_next(&it, &key, &value)) {
		struct bucket *b;

		if ((rc = row_bucket_key_get(key, &row)) < 0 ||
			(rc = row_bucket_get(value, &row)) < 0)
			break;
		if (row.bucket == 0 || row.state < BUCKET_LIVE || row.state > BUCKET_KEEPING)
			rc = E_CORRUPT;
		else
			rc = (b = add(sh, &row)) == NULL ? E_NOMEM : load_usage(sh, b);
	}
	db_iter_end(&it);
	return rc < 0 ? err_set(note, rc, "the row of bucket %llu", (unsigned long long)row.bucket)
		      : 0;
}

void bucket_fini(struct shard *sh)
{
	map_each (it, &sh->buckets)
		free(it->value);
	map_fini(&sh->buckets);
	job_use_fini(sh);
}

static struct reclaim reclaim_of(const struct row_inode *row)
{
	return (struct reclaim){ row->inode, row->size, row->slot, row->life, row->expires_ms,
		row->kind, row->place, row->bucket };
}

/* The next inodes of a dropped bucket; a row that cannot be read is given up with its range. */
static unsigned collect(struct shard *sh, struct bucket *b, uint64_t *ret_last)
{
	struct row_inode row = { .bucket = b->id, .inode = b->reclaimed + 1 };
	uint8_t from[ROW_inode_KEY_MAX];
	struct bytes key, value;
	struct row_range r;
	struct db_iter it;
	unsigned n = 0;

	row_range_one(&r, ROW_inode_TABLE, b->id);
	db_iter_begin(&it, sh->db, row_inode_key(&row, from), r.to);
	while (n < RECLAIM_STEP && db_iter_next(&it, &key, &value)) {
		if (row_inode_key_get(key, &row) < 0 || row_inode_get(value, &row) < 0)
			continue;
		*ret_last = row.inode;
		sh->reclaim[n++] = reclaim_of(&row);
	}
	db_iter_end(&it);
	return n;
}

/* Gives back what the collected inodes have beside their rows. */
static void reclaim_some(struct shard *sh, struct bucket *b, unsigned n)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < n; i++) {
		const struct reclaim *one = &sh->reclaim[i];

		inode_free_rest(sh, one);
		if (one->place == PLACE_SLAB && one->life == sh->life && b->use != NULL)
			count_slab(sh, b, -(int64_t)one->size);
		if (one->kind == ENTRY_DIR) {
			struct row_range r;

			row_range_one(&r, ROW_name_TABLE, one->inode);
			db_delete_range(sh->db, r.from, r.to);
		}
		bytes += one->size;
	}
	bucket_count(sh, b, -(int64_t)n, -(int64_t)bytes);
}

/* The next names of a dropped flat bucket, and the inodes in their rows; false at the end. */
static bool reclaim_names(struct shard *sh, struct bucket *b)
{
	uint8_t from[LIST_KEY_MAX], to[LIST_KEY_MAX];
	struct bytes key, value, first, end;
	struct row_inode inode;
	struct row_name row;
	struct row_range r;
	struct db_iter it;
	unsigned n = 0, n_names = 0;

	row_range_one(&r, ROW_name_TABLE, b->id);
	first = name_key(b->id, bytes_of(sh->reclaimed.name, sh->reclaimed.len), from);
	db_iter_begin(&it, sh->db, first, r.to);
	while (n_names < RECLAIM_STEP && db_iter_next(&it, &key, &value)) {
		if (row_name_key_get(key, &row) < 0)
			continue;
		n_names++;
		memcpy(sh->reclaimed.name, row.name.p, row.name.len);
		sh->reclaimed.name[row.name.len] = 0; /* the next key in order */
		sh->reclaimed.len = (uint16_t)(row.name.len + 1);
		if (row_name_get(value, &row) == 0 && row.file.len > 0 &&
			inode_of_name(sh, b, &row, &inode) == 0)
			sh->reclaim[n++] = reclaim_of(&inode);
	}
	db_iter_end(&it);
	if (n_names == 0)
		return false;
	reclaim_some(sh, b, n);
	end = name_key(b->id, bytes_of(sh->reclaimed.name, sh->reclaimed.len), to);
	db_delete_range(sh->db, first, end);
	return true;
}

static bool reclaim_inodes(struct shard *sh, struct bucket *b)
{
	struct row_inode first = { .bucket = b->id, .inode = b->reclaimed + 1 }, end = first;
	uint8_t from[ROW_inode_KEY_MAX], to[ROW_inode_KEY_MAX];
	uint64_t last = 0;
	unsigned n = collect(sh, b, &last);

	if (n == 0)
		return false;
	reclaim_some(sh, b, n);
	end.inode = last + 1;
	db_delete_range(sh->db, row_inode_key(&first, from), row_inode_key(&end, to));
	b->reclaimed = last;
	return true;
}

bool bucket_reclaim(struct shard *sh)
{
	uint8_t key[ROW_bucket_KEY_MAX];
	struct row_bucket row;
	struct row_usage usage;
	struct row_range r;
	struct bucket *b;

	if (list_empty(&sh->dropping))
		return false;
	b = container_of(sh->dropping.next, struct bucket, drop_link);
	check(b->state == BUCKET_DROPPING);
	if ((b->kind == BUCKET_FLAT && reclaim_names(sh, b)) || reclaim_inodes(sh, b))
		return true;
	sh->reclaimed.len = 0;
	row_range_one(&r, ROW_name_TABLE, b->id); /* and what could not be read */
	db_delete_range(sh->db, r.from, r.to);
	row_range_one(&r, ROW_inode_TABLE, b->id);
	db_delete_range(sh->db, r.from, r.to);
	bucket_count(sh, b, -(int64_t)b->files, -(int64_t)b->used_bytes);
	row = row_of(b);
	usage = (struct row_usage){ .bucket = b->id };
	db_delete(sh->db, row_bucket_key(&row, key));
	db_delete(sh->db, row_usage_key(&usage, key));
	forget(sh, b);
	return !list_empty(&sh->dropping);
}
