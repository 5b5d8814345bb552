/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing.
 *
 *   dir/tree        the merged rows         dir/log/   the log
 *   dir/old.INDEX   an older copy of them, which the log still reaches back to
 *   dir/tree.bad    the last tree that could not be trusted
 *   dir/reserve     room for a merge on a full disk
 *
 * A tree that does not open is put aside, and a copy of the older copy takes its place; without one
 * the whole log is replayed.  Doubts about the log are another matter: nothing is moved then. */
#include "base/check.h"
#include "meta/db_own.h"
#include <stdio.h>
#include <stdlib.h>

static uint64_t part(uint64_t total, uint64_t share, uint64_t max)
{
	uint64_t bytes = total / share & ~(uint64_t)(DB_PART_BYTES_MIN - 1);

	return bytes > max ? max : bytes < DB_PART_BYTES_MIN ? DB_PART_BYTES_MIN : bytes;
}

/* A small disk has room for what is kept back, too. */
static PARKS int set_defaults(struct db *db, struct err_note *note)
{
	struct db_opts *o = &db->o;
	uint64_t left, total;
	int rc = sys_disk_room(db->sys, db->dir, &left, &total, note);

	if (rc < 0)
		return rc;
	if (o->memtable_bytes_max == 0)
		o->memtable_bytes_max = part(total, 16, DB_MEMTABLE_BYTES);
	if (o->merge_log_bytes == 0)
		o->merge_log_bytes = part(total, 8, DB_MERGE_LOG_BYTES);
	if (o->log_segment_bytes == 0)
		o->log_segment_bytes = part(total, 32, DB_SEGMENT_BYTES);
	if (o->log_keep_bytes == 0)
		o->log_keep_bytes = part(total, 8, DB_LOG_KEEP_BYTES);
	if (o->merge_every_ns == 0)
		o->merge_every_ns = DB_MERGE_EVERY_NS;
	if (o->scrub_every_ns == 0)
		o->scrub_every_ns = DB_SCRUB_EVERY_NS;
	if (o->tree_bytes_max == 0)
		o->tree_bytes_max = DB_TREE_BYTES;
	return 0;
}

static void db_free(struct db *db)
{
	db_iters_free(db);
	tree_close(db->tree);
	log_reader_close(db->applying);
	tail_fini(&db->tail);
	log_close(db->log);
	places_fini(&db->places);
	memtable_free(db->active);
	memtable_free(db->frozen);
	memtable_pool_fini(&db->pool);
	free(db->pending.room);
	free(db->writing.room);
	sys_close(db->lock);
	free(db);
}

/* ---- the tree ---- */
static PARKS int open_named(
	struct db *db, const char *name, struct tree **ret_t, struct err_note *note)
{
	return tree_open(db->sys, db->dir, name, db->o.tree_bytes_max, ret_t, note);
}

static PARKS int put_aside(struct db *db, struct err_note *note)
{
	int rc = tree_remove(db->sys, db->dir, "tree.bad", note);

	if (rc == 0)
		rc = tree_rename(db->sys, db->dir, "tree", "tree.bad", note);
	return rc < 0 ? rc : tree_remove(db->sys, db->dir, "tree", note); /* its lock file */
}

/* The older copy stays what it is. */
static PARKS int restore(struct db *db, struct err_note *note)
{
	char name[DB_NAME_MAX];
	struct tree *old;
	int rc;

	if (db->old_index == 0)
		return 0;
	sys_reached(db->sys, "db: the tree made from its older copy");
	db_old_name(db->old_index, name);
	rc = open_named(db, name, &old, note);
	if (rc < 0)
		return err_wrap(note, rc, "the older copy");
	if (tree_mark(old).index != db->old_index)
		rc = err_set(note, E_CORRUPT, "%s/%s stands at another index", db->dir, name);
	else
		rc = tree_copy(old, "tree", note);
	tree_close(old);
	return rc < 0 ? err_wrap(note, rc, "the older copy") : 0;
}

static void each_name(void *arg, const char *name)
{
	bool *there = arg;

	*there = *there || strcmp(name, "tree") == 0;
}

static PARKS int open_tree(struct db *db, struct err_note *note)
{
	bool there = false;
	int rc = sys_list_dir(db->sys, db->dir, each_name, &there, note);

	if (rc < 0 || (rc = db_old_find(db, note)) < 0)
		return rc;
	if (there) {
		rc = tree_check(db->sys, db->dir, "tree", DB_TREE_CHECK_BYTES, note);
		if (rc == 0)
			rc = open_named(db, "tree", &db->tree, note);
		if (rc == 0 && tree_mark(db->tree).index < db->old_index)
			rc = err_set(note, E_CORRUPT,
				"%s/tree: its newest rows are gone: it stands before its older "
				"copy",
				db->dir);
		if (rc != E_CORRUPT)
			return rc;
		tree_close(db->tree);
		db->tree = NULL;
		sys_log(db->sys, note->text);
		if ((rc = put_aside(db, note)) < 0)
			return rc;
	}
	rc = restore(db, note);
	return rc < 0 ? rc : open_named(db, "tree", &db->tree, note);
}

/* ---- the log ---- */
/* Merges on the way when there is much of it, but only what is durable: the tree must never be
 * ahead of the log.  On a full disk it all stays in memory. */
static PARKS int replay(void *arg, const struct log *l, const struct log_place *at,
	struct bytes payload, bool durable)
{
	struct err_note note;
	struct db *db = arg;
	int rc = db_apply(db, payload);

	if (rc < 0)
		return rc;
	db->sealed = at->index;
	if (!durable || db->full || !db_memtable_full(db))
		return 0;
	db->uuid_hi = log_uuid(l, &db->uuid_lo);
	db_freeze(db);
	rc = db_merge_now(db, &note);
	db->full = rc == E_FULL;
	return db->full ? 0 : rc;
}

/* A replica applies what the others have, too: db_commit(). */
static int note_place(void *arg, const struct log *l, const struct log_place *at,
	struct bytes payload, bool durable)
{
	struct log_place before = log_place(l);
	struct db *db = arg;

	(void)payload;
	(void)durable;
	if (db->places.n == 0)
		places_begin(&db->places, before.index,
			(struct place_at){ before.epoch, before.shard_chain });
	places_add(&db->places, at->index, (struct place_at){ at->epoch, at->shard_chain });
	return 0;
}

static void begin_following(struct db *db)
{
	struct log_place end = log_place(db->log);

	if (db->places.n == 0)
		places_begin(&db->places, end.index,
			(struct place_at){ end.epoch, end.shard_chain });
	db->follows = true;
	db->sealed = db->committed = db->all_synced = db->merged;
}

static PARKS int open_log(struct db *db, struct err_note *note)
{
	struct tree_mark mark = tree_mark(db->tree);
	struct log_opts o = { .dir = db->log_dir,
		.segment_bytes = db->o.log_segment_bytes,
		.after = mark.index,
		.must_uuid_hi = mark.uuid_hi,
		.must_uuid_lo = mark.uuid_lo,
		.replay = db->o.replica ? note_place : replay,
		.arg = db };
	int rc;

	sys_secret(db->sys, &o.uuid_hi, sizeof o.uuid_hi);
	sys_secret(db->sys, &o.uuid_lo, sizeof o.uuid_lo);
	db->active = memtable_new(&db->pool, db->seed);
	db->sealed = db->merged = mark.index;
	if ((rc = log_open(db->sys, &o, &db->log, note)) < 0)
		return rc;
	db->uuid_hi = log_uuid(db->log, &db->uuid_lo);
	db->sealed = db->written = db->synced = log_index(db->log);
	db->committed = db->all_synced = db->written;
	if (db->o.replica)
		begin_following(db);
	return 0;
}

static void undo_open(struct db *db)
{
	tree_close(db->tree);
	memtable_free(db->active);
	memtable_free(db->frozen);
	db->tree = NULL;
	db->active = db->frozen = NULL;
	places_fini(&db->places);
	db->full = false;
}

/* On a full disk nothing could be deleted before it is open: so with what was kept for that.  The
 * older copy only when nobody needs it to make the tree. */
static PARKS int open_rows(struct db *db, struct err_note *note)
{
	struct err_note ignored;
	int rc, room_rc;

	db->reserved = true; /* there or not */
	for (;;) {
		rc = open_tree(db, note);
		if (rc == 0)
			rc = open_log(db, note);
		if (rc != E_FULL)
			break;
		if (db->reserved)
			room_rc = db_reserve_drop(db, &ignored);
		else if (db->tree != NULL && db->old_index != 0)
			room_rc = db_old_drop(db, &ignored);
		else
			return rc;
		if (room_rc < 0)
			return rc;
		undo_open(db);
	}
	db->reserved = false; /* the merger looks */
	return rc;
}

/* ---- the directory ---- */
/* A directory is durable when the one that names it is synced. */
static PARKS int sync_parent(struct db *db, struct err_note *note)
{
	char parent[DB_DIR_MAX];
	size_t len = strlen(db->dir);

	while (len > 0 && db->dir[len - 1] == '/')
		len--;
	while (len > 0 && db->dir[len - 1] != '/')
		len--;
	snprintf(parent, sizeof parent, "%.*s.", (int)len, db->dir);
	return sys_sync_dir(db->sys, parent, note);
}

static PARKS int make_dirs(struct db *db, const char *dir, struct err_note *note)
{
	int rc;

	if ((size_t)snprintf(db->dir, sizeof db->dir, "%s", dir) >= sizeof db->dir)
		return err_set(note, E_INVALID, "%.100s...: the path is too long", dir);
	snprintf(db->log_dir, sizeof db->log_dir, "%s/log", db->dir);
	if ((rc = sys_mkdir(db->sys, db->dir, note)) < 0 || (rc = sync_parent(db, note)) < 0 ||
		(rc = sys_mkdir(db->sys, db->log_dir, note)) < 0)
		return rc;
	return sys_sync_dir(db->sys, db->dir, note);
}

/* Before anything is looked at: another process may be about to move it. */
static PARKS int take_lock(struct db *db, struct err_note *note)
{
	char path[DB_DIR_MAX + DB_NAME_MAX];
	int rc;

	snprintf(path, sizeof path, "%s/lock", db->dir);
	if ((rc = sys_open(db->sys, path, SYS_WRITE | SYS_CREATE, &db->lock, note)) < 0)
		return rc;
	return sys_lock(db->lock, note);
}

int db_open(struct sys *s, struct group *g, const struct db_opts *o, struct db **ret_db,
	struct err_note *note)
{
	struct db *db = calloc(1, sizeof *db);
	int rc;

	if (db == NULL)
		return err_set(note, E_NOMEM, "no memory for a shard's rows");
	db->sys = s;
	db->fibers = g;
	db->o = *o;
	sys_secret(s, &db->seed, sizeof db->seed);
	memtable_pool_init(&db->pool);
	waitq_init(&db->dirty);
	waitq_init(&db->sync);
	waitq_init(&db->merge);
	waitq_init(&db->moved);
	waitq_init(&db->apply);
	waitq_init(&db->scrubs);
	if ((rc = make_dirs(db, o->dir, note)) < 0 || (rc = take_lock(db, note)) < 0 ||
		(rc = set_defaults(db, note)) < 0 || (rc = open_rows(db, note)) < 0 ||
		(!o->replica && (rc = db_ids_find(db, note)) < 0)) {
		db_free(db);
		return rc;
	}
	rc = db_start(db, g);
	if (rc == 0 && !o->replica)
		rc = db_ids_first(db, note);
	if (rc == 0) {
		*ret_db = db;
		return 0;
	}
	group_cancel(g);
	group_wait(g);
	db_free(db);
	return rc;
}

/* ---- closing ---- */
static PARKS int settle(struct db *db)
{
	uint64_t until_ns = sys_after(db->sys, db->stuck ? SYS_SEC : 60 * SYS_SEC);
	int rc = 0;

	while (rc == 0 && !db->failed && (db->pending.any || db->synced < db->sealed)) {
		db_want_sync(db);
		db_want_written(db); /* whatever becomes of the others' syncs */
		rc = waitq_wait(&db->moved, until_ns);
	}
	return db->failed ? db->why_rc : rc;
}

/* Everything is in the log already; merging makes the next start quick. */
static PARKS int merge_rest(struct db *db, struct err_note *note)
{
	int rc = 0;

	if (db->frozen != NULL && db_may_merge(db, db->frozen_index))
		rc = db_merge_now(db, note);
	if (rc == 0 && db->frozen == NULL && db->sealed > db->merged &&
		db_may_merge(db, db->sealed)) {
		db_freeze(db);
		rc = db_merge_now(db, note);
	}
	return rc == E_FULL ? 0 : rc;
}

int db_close(struct db *db, struct err_note *note)
{
	int rc;

	if (db == NULL)
		return 0;
	check(db->walks == 0);
	rc = settle(db);
	group_cancel(db->fibers);
	group_wait(db->fibers);
	if (rc == 0)
		rc = merge_rest(db, note);
	else
		err_set(note, rc, "%s: not everything could be written: %s", db->dir,
			db->failed ? db->why.text : err_text(rc));
	db_free(db);
	return rc;
}

void db_drop(struct db *db)
{
	if (db != NULL)
		db_free(db);
}
