/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing.
 *
 *   dir/tree      the merged rows          dir/log/   the log
 *   dir/tree.old  an older copy of them, which the log still reaches back to
 *
 * A tree that does not open is put aside as tree.bad and the older copy takes its place; without
 * one the whole log is replayed, if it has not been cut.  Doubts about the log are another matter:
 * a log that ends before the rows has lost what was synced, and going back to older rows would
 * bring back what was deleted.  Nothing is moved then. */
#include "base/check.h"
#include "meta/db_own.h"
#include <stdio.h>
#include <stdlib.h>

static void set_defaults(struct db *db, const struct db_opts *o)
{
	db->o = *o;
	if (db->o.memtable_bytes_max == 0)
		db->o.memtable_bytes_max = DB_MEMTABLE_BYTES;
	if (db->o.merge_log_bytes == 0)
		db->o.merge_log_bytes = DB_MERGE_LOG_BYTES;
	if (db->o.merge_every_ns == 0)
		db->o.merge_every_ns = DB_MERGE_EVERY_NS;
	if (db->o.tree_bytes_max == 0)
		db->o.tree_bytes_max = DB_TREE_BYTES;
	if (db->o.log_segment_bytes == 0)
		db->o.log_segment_bytes = DB_SEGMENT_BYTES;
}

static void db_free(struct db *db)
{
	db_iters_free(db);
	tree_close(db->tree);
	log_close(db->log);
	memtable_free(db->active);
	memtable_free(db->frozen);
	memtable_pool_fini(&db->pool);
	free(db->pending.room);
	free(db->spare.room);
	free(db);
}

static int replay(
	void *arg, const struct log *l, uint64_t index, struct bytes payload, bool durable)
{
	struct reader r = reader_of(payload.p, payload.len);
	struct db *db = arg;
	struct effect e;

	while (effect_get(&r, &e))
		db_apply(db, &e);
	if (!r.ok || reader_left(&r) != 0)
		return E_CORRUPT;
	db->sealed = index;
	return 0;
}

static PARKS int open_log(struct db *db, struct err_note *note)
{
	struct log_opts o = { .dir = db->log_dir,
		.segment_bytes = db->o.log_segment_bytes,
		.after = tree_mark(db->tree).index,
		.must_uuid_hi = tree_mark(db->tree).uuid_hi,
		.must_uuid_lo = tree_mark(db->tree).uuid_lo,
		.replay = replay,
		.arg = db };
	struct tree_mark mark = tree_mark(db->tree);
	int rc;

	db->active = memtable_new(&db->pool, db->seed);
	sys_secret(db->sys, &o.uuid_hi, sizeof o.uuid_hi);
	sys_secret(db->sys, &o.uuid_lo, sizeof o.uuid_lo);
	db->sealed = mark.index;
	if ((rc = log_open(db->sys, &o, &db->log, note)) < 0)
		return rc;
	db->merged = mark.index;
	db->sealed = db->written = db->synced = log_index(db->log);
	return 0;
}

static void each_name(void *arg, const char *name)
{
	bool *there = arg;

	*there = *there || strcmp(name, "tree") == 0;
}

/* The tree is in doubt, or gone: puts it aside and the older copy in its place. */
static PARKS int use_older(struct db *db, bool there, struct err_note *note)
{
	int rc = 0;

	if (there) {
		rc = tree_remove(db->sys, db->dir, "tree.bad", note);
		if (rc == 0)
			rc = tree_rename(db->sys, db->dir, "tree", "tree.bad", note);
	}
	if (rc == 0)
		rc = tree_remove(db->sys, db->dir, "tree", note); /* its lock file */
	if (rc == 0)
		rc = tree_rename(db->sys, db->dir, "tree.old", "tree", note);
	if (rc == 0)
		sys_reached(db->sys, "db: the tree made from its older copy");
	return rc == E_NOTFOUND ? 0 : rc;
}

static PARKS int open_tree(struct db *db, struct err_note *note)
{
	uint64_t bytes_max = db->o.tree_bytes_max;
	bool there = false;
	int rc = sys_list_dir(db->sys, db->dir, each_name, &there, note);

	if (rc < 0)
		return rc;
	if (there) {
		rc = tree_open(db->sys, db->dir, "tree", bytes_max, &db->tree, note);
		if (rc != E_CORRUPT)
			return rc;
		sys_log(db->sys, note->text);
	}
	if ((rc = use_older(db, there, note)) < 0)
		return rc;
	return tree_open(db->sys, db->dir, "tree", bytes_max, &db->tree, note);
}

/* ---- ids ---- */
static int find_ids(struct db *db, struct err_note *note)
{
	uint8_t key = DB_ID_KEY;
	struct bytes value;
	int rc = db_get(db, bytes_of(&key, 1), &value);

	if (rc < 0 && rc != E_NOTFOUND)
		return err_set(note, rc, "the mark of ids cannot be read");
	if (rc == 0 && value.len != 8)
		return err_set(note, E_CORRUPT, "the mark of ids cannot be read");
	db->id_next = rc == 0 ? le64(value.p) : DB_ALLOCATOR + 1;
	db->id_mark = db->id_asked = db->id_next;
	return 0;
}

static PARKS int first_ids(struct db *db, struct err_note *note)
{
	int rc = 0;

	db_ask_ids(db);
	while (rc == 0 && db->id_mark == db->id_next && !db->failed)
		rc = waitq_wait(&db->idle, sys_after(db->sys, 30 * SYS_SEC));
	if (db->failed)
		return err_set(note, db->why_rc, "%s", db->why.text);
	return rc < 0 ? err_set(note, rc, "%s: the log cannot be written", db->dir) : 0;
}

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

int db_open(struct sys *s, struct group *g, const struct db_opts *o, struct db **ret_db,
	struct err_note *note)
{
	struct db *db = calloc(1, sizeof *db);
	int rc;

	if (db == NULL)
		return err_set(note, E_NOMEM, "no memory for a shard's rows");
	db->sys = s;
	db->fibers = g;
	set_defaults(db, o);
	sys_secret(s, &db->seed, sizeof db->seed);
	memtable_pool_init(&db->pool);
	waitq_init(&db->dirty);
	waitq_init(&db->sync);
	waitq_init(&db->merge);
	waitq_init(&db->idle);
	if ((rc = make_dirs(db, o->dir, note)) < 0 || (rc = open_tree(db, note)) < 0 ||
		(rc = open_log(db, note)) < 0 || (rc = find_ids(db, note)) < 0) {
		db_free(db);
		return rc;
	}
	if ((rc = db_start(db, g)) == 0 && (rc = first_ids(db, note)) == 0) {
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
	uint64_t until_ns = sys_after(db->sys, 60 * SYS_SEC);
	int rc = 0;

	while (rc == 0 && !db->failed && (db->pending.any || db->synced < db->sealed)) {
		db_want_sync(db);
		rc = waitq_wait(&db->idle, until_ns);
	}
	return db->failed ? db->why_rc : rc;
}

/* Everything is in the log already; merging makes the next start quick. */
static PARKS int merge_rest(struct db *db, struct err_note *note)
{
	int rc = 0;

	for (int i = 0; rc == 0 && i < 2; i++) {
		if (db->frozen != NULL)
			rc = db_merge_now(db, note);
		if (rc == 0 && i == 0 && !memtable_empty(db->active)) {
			db->frozen = db->active;
			db->frozen_index = db->sealed;
			memtable_freeze(db->frozen);
			db->active = memtable_new(&db->pool, db->seed);
		}
	}
	return rc;
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
