/* SPDX-License-Identifier: Apache-2.0 */
/* The fibers of a db.
 *
 *   flusher   waits for effects, then for the end of the turn; seals them into one record, writes
 * it syncer    makes what is written durable when somebody wants it, and once in a while merger
 * freezes the memtable at a record's end, merges it, cuts the log
 *
 * Sealing and freezing happen in the flusher, between two records, so a memtable always ends with a
 * record.  A frozen memtable is merged only when the log is durable up to its end, so the tree is
 * never ahead of what the log can tell. */
#include "base/check.h"
#include "meta/db_own.h"
#include <stdlib.h>

void db_fail(struct db *db, int rc, const struct err_note *note)
{
	if (db->failed || rc == E_CANCELED)
		return;
	db->failed = true;
	db->why_rc = rc;
	db->why = *note;
	if (db->o.failed != NULL)
		db->o.failed(db->o.arg, rc, note);
	waitq_wake_all(&db->idle);
}

/* ---- flusher ---- */
static void freeze(struct db *db)
{
	check(db->frozen == NULL);
	db->freeze = false;
	db->frozen = db->active;
	db->frozen_index = db->sealed;
	db->fresh_log_bytes = 0;
	memtable_freeze(db->frozen);
	db->active = memtable_new(&db->pool, db->seed);
	db->want_sync = db->frozen_index > db->want_sync ? db->frozen_index : db->want_sync;
	waitq_wake_one(&db->sync);
	waitq_wake_one(&db->merge);
}

static void let_go(struct db *db)
{
	if (db->o.moved != NULL)
		db->o.moved(db->o.arg, db->written, db->synced);
	waitq_wake_all(&db->idle);
}

static PARKS int flush(struct db *db)
{
	struct pending p;
	struct err_note note;
	int rc;

	if (db->o.sealing != NULL)
		db->o.sealing(db->o.arg);
	check(db->pending.any);
	p = db->pending;
	db->pending = db->spare;
	db->pending.any = false;
	db->spare = (struct pending){ 0 };
	db->sealed++;
	if (db->freeze && db->frozen == NULL)
		freeze(db);
	rc = log_append(db->log, p.room, p.len - LOG_HEADER_BYTES, &note);
	p.any = false;
	db->spare = p; /* its room serves again */
	if (rc < 0) {
		db_fail(db, rc, &note);
		return rc;
	}
	db->written++;
	db->records++;
	db->fresh_log_bytes += p.len;
	check(db->written == log_index(db->log));
	if (db->want_sync > db->synced)
		waitq_wake_one(&db->sync);
	if (db_memtable_full(db) || log_wants_prepare(db->log))
		waitq_wake_one(&db->merge);
	let_go(db);
	return 0;
}

static PARKS int flusher(void *arg)
{
	struct db *db = arg;
	int rc = 0;

	while (rc == 0) {
		fiber_note(0, "db: waits for changes");
		while (rc == 0 && !db->pending.any && !db->freeze)
			rc = waitq_wait(&db->dirty, FOREVER);
		if (rc == 0)
			rc = fiber_late();
		if (rc < 0)
			break;
		if (db->pending.any)
			rc = flush(db);
		else if (db->freeze && db->frozen == NULL)
			freeze(db);
	}
	return rc;
}

/* ---- syncer ---- */
static PARKS int sync_once(struct db *db)
{
	struct err_note note;
	uint64_t index = 0;
	int rc;

	rc = log_sync(db->log, &index, &note);
	if (rc < 0) {
		db_fail(db, rc, &note);
		return rc;
	}
	check(index >= db->synced);
	db->synced = index;
	db->syncs++;
	db_ids_synced(db);
	if (db->frozen != NULL)
		waitq_wake_one(&db->merge);
	let_go(db);
	return 0;
}

static PARKS int syncer(void *arg)
{
	struct db *db = arg;
	uint64_t due_ns = sys_after(db->sys, DB_SYNC_EVERY_NS);
	int rc = 0;

	while (rc == 0) {
		bool wanted = db->want_sync > db->synced && db->written > db->synced;

		if (!wanted && sys_now_ns(db->sys) < due_ns) {
			fiber_note(0, "db: waits for somebody who wants a sync");
			rc = waitq_wait(&db->sync, due_ns);
			if (rc == E_TIMEOUT)
				rc = 0;
			continue;
		}
		if (db->written > db->synced)
			rc = sync_once(db);
		due_ns = sys_after(db->sys, DB_SYNC_EVERY_NS);
	}
	return rc;
}

/* ---- merger ---- */
static PARKS int copy_old(struct db *db, struct err_note *note)
{
	int rc = tree_copy(db->tree, "tree.old", note);

	if (rc == 0) {
		db->old_index = db->merged;
		db->old_log_bytes = log_bytes(db->log);
	}
	return rc;
}

int db_merge_now(struct db *db, struct err_note *note)
{
	struct tree_mark mark = { .index = db->frozen_index };
	int rc;

	check(db->frozen != NULL);
	mark.uuid_hi = log_uuid(db->log, &mark.uuid_lo);
	rc = tree_merge(db->tree, db->frozen, &mark, note);
	if (rc < 0)
		return rc;
	memtable_free(db->frozen);
	memtable_pool_trim(&db->pool);
	db->frozen = NULL;
	db->merged = mark.index;
	db->merges++;
	if (db->old_index == 0 || log_bytes(db->log) > db->old_log_bytes + DB_OLD_COPY_BYTES)
		rc = copy_old(db, note);
	if (rc == 0)
		rc = log_cut(db->log, db->old_index, note);
	waitq_wake_all(&db->idle);
	return rc;
}

static PARKS int prepare(struct db *db)
{
	struct err_note note;
	int rc = log_prepare(db->log, &note);

	if (rc == E_FULL) /* room may come back: what is written now goes to the rest of the segment
			   */
		return 0;
	if (rc < 0)
		db_fail(db, rc, &note);
	return rc;
}

/* The tree goes out of the way; the next start makes another from its older copy and the log. */
static PARKS int rot(struct db *db)
{
	struct err_note note = { "" }, ignored;
	int rc = tree_remove(db->sys, db->dir, "tree.bad", &note);

	if (rc == 0)
		rc = tree_rename(db->sys, db->dir, "tree", "tree.bad", &note);
	if (rc == E_CANCELED)
		return rc;
	(void)tree_remove(db->sys, db->dir, "tree", &ignored); /* its lock file */
	sys_reached(db->sys, "db: a row of the tree was rotten");
	(void)err_set(&note, E_CORRUPT,
		"%s/tree: a row is not what was written; moved to tree.bad, and the next start "
		"makes another from the older copy and the log",
		db->dir);
	db_fail(db, E_CORRUPT, &note);
	return E_CORRUPT;
}

static bool worth_merging(const struct db *db)
{
	return db->frozen == NULL && !memtable_empty(db->active) &&
	       (db_memtable_full(db) || sys_now_ns(db->sys) >= db->want_freeze_ns);
}

static PARKS int merger(void *arg)
{
	struct db *db = arg;
	struct err_note note;
	uint64_t failed = 0;
	int rc = 0;

	while (rc == 0) {
		if (db->rotten) {
			rc = rot(db);
			break;
		}
		if (log_wants_prepare(db->log) && (rc = prepare(db)) < 0)
			break;
		if (worth_merging(db) && !db->freeze) {
			db->freeze = true;
			waitq_wake_one(&db->dirty);
		}
		if (db->frozen != NULL && db->synced >= db->frozen_index) {
			rc = db_merge_now(db, &note);
			db->want_freeze_ns = sys_after(db->sys, db->o.merge_every_ns);
			failed = rc < 0 ? failed + 1 : 0;
			if (rc < 0 && rc != E_CANCELED && (rc != E_FULL || failed == 2)) {
				db_fail(db, rc, &note);
				break;
			}
			if (rc == E_FULL)
				rc = fiber_sleep(sys_after(db->sys, DB_RETRY_NS));
			continue;
		}
		fiber_note(0, "db: waits for enough to merge");
		rc = waitq_wait(&db->merge, db->frozen != NULL ? sys_after(db->sys, DB_RETRY_NS)
					    : db->want_freeze_ns > sys_now_ns(db->sys)
						    ? db->want_freeze_ns
						    : sys_after(db->sys, db->o.merge_every_ns));
		if (rc == E_TIMEOUT)
			rc = 0;
	}
	return rc;
}

int db_start(struct db *db, struct group *g)
{
	int rc;

	db->want_freeze_ns = sys_after(db->sys, db->o.merge_every_ns);
	if ((rc = fiber_start(g, "db flusher", flusher, db)) < 0 ||
		(rc = fiber_start(g, "db syncer", syncer, db)) < 0)
		return rc;
	return fiber_start(g, "db merger", merger, db);
}
