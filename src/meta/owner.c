/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs as the owners of buckets: what they have and moved, and how it all goes when they end.
 *
 *   live -> (its job ends) -> dropping                          nothing in it persists
 *                         '-> keeping -> live, lifetime=persist  files in it persist: the others go
 *
 * A bucket that is being kept cannot be reached.  Its names are walked in steps from an empty
 * cursor; a shard that stops in between walks again after its start. */
#include "meta/large_own.h"
#include <stdlib.h>

enum { KEEP_STEP = 256, KEEP_SEEK_STEP = 4096 };

struct db *shard_db(struct shard *sh) { return sh->db; }

int shard_recall(struct shard *sh, struct shard_call *c, uint16_t op, uint64_t *ret_first)
{
	const struct answer *a;
	int rc = answer_recall(sh, c, op, &a);

	if (rc > 0)
		*ret_first = a->first;
	return rc;
}

void shard_keep(struct shard *sh, const struct shard_call *c, uint16_t op, uint64_t first)
{
	answer_keep(sh, c, op, first, 0);
}

/* ---- what a job has ---- */

void job_hold(struct shard *sh, struct job_use *u, uint8_t tier, int64_t change)
{
	meter_change(&u->pub.meters[tier], loop_now_ns(sys_loop(sh->sys)), change);
}

static void room_changed(void *arg, uint64_t domain, uint8_t tier, int64_t change)
{
	struct shard *sh = arg;
	struct job_use *u = map_get(&sh->jobs, domain);

	if (u != NULL)
		job_hold(sh, u, tier, change);
}

/* Begins to meter what it has already. */
static void meters_begin(struct shard *sh, struct job_use *u, uint64_t job)
{
	uint64_t now_ns = loop_now_ns(sys_loop(sh->sys));

	for (uint8_t t = 0; t < TIER_COUNT; t++)
		meter_hold(&u->pub.meters[t], now_ns,
			room_domain_held(sh->large->room, job, t)
			+ (t == TIER_DRAM ? u->pub.slab_bytes : 0));
}

void job_watch_room(struct shard *sh)
{
	map_each (it, &sh->jobs)
		meters_begin(sh, it->value, it->key);
	room_watch(sh->large->room, room_changed, sh);
}

struct job_use *job_use(struct shard *sh, uint64_t job)
{
	struct job_use *u = map_get(&sh->jobs, job);

	if (u != NULL)
		return u;
	u = calloc(1, sizeof *u);
	if (u == NULL || map_put(&sh->jobs, job, u) < 0) {
		free(u);
		return NULL;
	}
	if (sh->large != NULL) /* else job_watch_room() does */
		meters_begin(sh, u, job);
	return u;
}

void job_use_fini(struct shard *sh)
{
	map_each (it, &sh->jobs)
		free(it->value);
	map_fini(&sh->jobs);
}

const struct shard_use *shard_use(const struct shard *sh, uint64_t job)
{
	const struct job_use *u = map_get(&sh->jobs, job);

	return u != NULL ? &u->pub : NULL;
}

int shard_job_begin(struct shard *sh, uint64_t job, uint64_t quota_bytes, bool active)
{
	struct job_use *u = job_use(sh, job);

	if (u == NULL)
		return E_NOMEM;
	u->quota_bytes = quota_bytes;
	u->active = active;
	u->begun = true;
	return 0;
}

void shard_job_forget(struct shard *sh, uint64_t job)
{
	struct job_use *u = map_get(&sh->jobs, job);

	if (u == NULL)
		return;
	u->active = u->begun = false;
	job_use_look(sh, job);
}

void job_use_look(struct shard *sh, uint64_t job)
{
	const struct job_use *u = map_get(&sh->jobs, job);

	if (u != NULL && !u->begun && !u->active && u->pub.buckets == 0)
		free(map_remove(&sh->jobs, job));
}

int job_active(const struct shard *sh, uint64_t job, struct err_note *note)
{
	const struct job_use *u = map_get(&sh->jobs, job);

	if (job == 0 || !sh->jobs_known || (u != NULL && u->active))
		return 0;
	return err_set(note, E_GONE, "job %llu has ended, or never was", (unsigned long long)job);
}

int job_fits(const struct bucket *b, uint64_t freed, uint64_t len, struct err_note *note)
{
	const struct job_use *u = b->use;

	if (u == NULL || u->quota_bytes == 0 || len <= freed)
		return 0;
	check(u->pub.used_bytes >= freed);
	if (u->pub.used_bytes - freed + len <= u->quota_bytes)
		return 0;
	return err_set(note, E_FULL, "the job's quota is %llu bytes",
		(unsigned long long)u->quota_bytes);
}

void shard_jobs_known(struct shard *sh) { sh->jobs_known = true; }

/* ---- the end of a job ---- */

static void end_bucket(struct shard *sh, struct bucket *b, struct shard_freed *f)
{
	check(b->files >= b->kept_files);
	check(b->used_bytes >= b->kept_bytes);
	if (b->lifetime == LIFETIME_PERSIST) {
		f->kept_files += b->files;
		f->kept_bytes += b->used_bytes;
		return;
	}
	f->files += b->files - b->kept_files;
	f->bytes += b->used_bytes - b->kept_bytes;
	f->kept_files += b->kept_files;
	f->kept_bytes += b->kept_bytes;
	if (b->kept_files == 0) {
		bucket_drop(sh, b);
		return;
	}
	bucket_state(sh, b, BUCKET_KEEPING);
	list_push(&sh->keeping, &b->drop_link);
}

int shard_job_drop(struct shard *sh, struct shard_call *c, uint64_t job, struct shard_freed *ret)
{
	struct shard_freed f = { .files = 0 };
	struct job_use *u;
	int rc = shard_may_free(sh, c);

	check(job != 0);
	if (rc < 0)
		return rc;
	if ((u = map_get(&sh->jobs, job)) != NULL)
		u->active = false;
	map_each (it, &sh->buckets) { /* any order: they do not meet */
		struct bucket *b = it->value;

		if (b->job == job && b->state == BUCKET_LIVE)
			end_bucket(sh, b, &f);
	}
	shard_want_sync(sh, c);
	wait_wake_all(sh);
	waitq_wake_all(&sh->tidy);
	*ret = f;
	return 0;
}

static uint32_t count(const struct list *l, uint64_t job)
{
	uint32_t n = 0;

	for (const struct list *it = l->next; it != l; it = it->next)
		n += container_of(it, const struct bucket, drop_link)->job == job;
	return n;
}

uint32_t shard_job_dropping(const struct shard *sh, uint64_t job)
{
	return count(&sh->dropping, job) + count(&sh->keeping, job);
}

/* ---- keeping ---- */

/* The next name behind the cursor whose file does not persist; false at the end of the directory,
 * or after KEEP_STEP names. */
static bool next_doomed(struct shard *sh, struct bucket *b, struct spot *ret_at, bool *ret_end)
{
	struct keep *k = &sh->keep;
	uint8_t from[LIST_KEY_MAX];
	struct row_name row;
	struct bytes key, value;
	struct row_range r;
	struct db_iter it;
	unsigned n = 0;
	bool found = false;

	row_range_one(&r, ROW_name_TABLE, k->dir);
	db_iter_begin(&it, sh->db, name_key(k->dir, bytes_of(k->name, k->len), from), r.to);
	*ret_end = true;
	while (db_iter_next(&it, &key, &value)) {
		struct row_inode inode;

		if (n++ == KEEP_STEP || found) {
			*ret_end = false;
			break;
		}
		if (row_name_key_get(key, &row) < 0 || row_name_get(value, &row) < 0)
			continue;
		check(row.name.len < sizeof k->name);
		memcpy(k->name, row.name.p, row.name.len);
		k->name[row.name.len] = 0; /* the next key in order */
		k->len = (uint16_t)(row.name.len + 1);
		if (row.kind != ENTRY_FILE || inode_of_name(sh, b, &row, &inode) < 0
			|| (inode.flags & PUT_PERSIST) != 0)
			continue;
		*ret_at = (struct spot){ .b = b, .parent = k->dir,
			.name = name_keep(sh, row.name), .found = true, .row = row,
			.inode = inode };
		found = true;
	}
	db_iter_end(&it);
	return found;
}

/* The next directory of the bucket, 0 behind the last; *ret_end says whether it was looked for to
 * the end. */
static uint64_t next_dir(struct shard *sh, struct bucket *b, bool *ret_end)
{
	struct keep *k = &sh->keep;
	struct row_inode row = { .bucket = b->id, .inode = k->dirs_to + 1 };
	uint8_t from[ROW_inode_KEY_MAX];
	struct bytes key, value;
	struct row_range r;
	struct db_iter it;
	uint64_t dir = 0;
	unsigned n = 0;

	row_range_one(&r, ROW_inode_TABLE, b->id);
	db_iter_begin(&it, sh->db, row_inode_key(&row, from), r.to);
	*ret_end = true;
	while (dir == 0 && db_iter_next(&it, &key, &value)) {
		if (n++ == KEEP_SEEK_STEP) {
			*ret_end = false;
			break;
		}
		if (row_inode_key_get(key, &row) < 0 || row_inode_get(value, &row) < 0)
			continue;
		k->dirs_to = row.inode;
		if (row.kind == ENTRY_DIR)
			dir = row.inode;
	}
	db_iter_end(&it);
	return dir;
}

static void kept(struct shard *sh, struct bucket *b)
{
	list_remove(&b->drop_link);
	sh->keep.dir = sh->keep.dirs_to = sh->keep.len = 0;
	b->lifetime = LIFETIME_PERSIST;
	b->ttl_ms = 0;
	bucket_state(sh, b, BUCKET_LIVE);
}

bool bucket_keep(struct shard *sh)
{
	struct keep *k = &sh->keep;
	struct bucket *b;
	struct spot at;
	bool end;

	if (list_empty(&sh->keeping))
		return false;
	b = container_of(sh->keeping.next, struct bucket, drop_link);
	check(b->state == BUCKET_KEEPING);
	if (k->dir == 0)
		k->dir = b->id;
	for (int i = 0; i < KEEP_STEP; i++) {
		if (next_doomed(sh, b, &at, &end)) {
			spot_clear(sh, &at);
			inode_free(sh, &at);
		}
		if (!end)
			continue;
		k->len = 0;
		k->dir = b->kind == BUCKET_TREE ? next_dir(sh, b, &end) : 0;
		if (k->dir == 0 && end) {
			kept(sh, b);
			break;
		}
		if (k->dir == 0)
			break;
	}
	return true;
}
