/* SPDX-License-Identifier: Apache-2.0 */
/* The fibers that write the log.
 *
 *   flusher   waits for effects, then for the end of the turn; seals them into a record, writes it
 *   syncer    makes what is written durable when somebody wants it, and once in a while
 *   applier   of a follower: applies what is committed (db_replica.c)
 *
 * Sealing and freezing happen in the flusher, between two records and between requests, so a
 * memtable ends with a record and a request's effects are in one.  What does not fit a full disk
 * waits, and is tried again: nobody was told of it. */
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
	waitq_wake_all(&db->moved);
	waitq_wake_all(&db->merge);
	waitq_wake_all(&db->apply);
}

void db_let_go(struct db *db)
{
	if (!db->o.replica) {
		db->committed = db->written;
		db->all_synced = db->synced;
	}
	db_ids_synced(db);
	if (db->o.moved != NULL && !db->failed && !db->follows)
		db->o.moved(db->o.arg, db->committed, db->all_synced);
	waitq_wake_all(&db->moved);
}

/* The log moved on; of several replicas the driver says what is committed by that. */
static void let_go(struct db *db)
{
	if (!db->o.replica) {
		db_let_go(db);
		return;
	}
	if (db->o.grew != NULL && !db->failed)
		db->o.grew(db->o.arg, db->written, db->synced);
	waitq_wake_all(&db->moved);
}

/* ---- flusher ---- */
static void seal(struct db *db)
{
	struct pending p = db->writing;
	size_t len = db->pending.len;

	check(!p.any);
	if (db->o.sealing != NULL) {
		nopark_begin();
		db->o.sealing(db->o.arg);
		nopark_end();
	}
	db->fresh_log_bytes += db->pending.len;
	db->writing = db->pending;
	db->pending = p;
	db->hurried = false;
	db->sealed++;
	if (db->want_sync >= db->sealed) {
		db->asked_index = db->sealed;
		db->asked_len = len;
	}
}

static void written(struct db *db)
{
	struct pending *p = &db->writing;

	p->any = false;
	db_written_one(db);
	if (p->cap > DB_PENDING_BYTES_KEEP) {
		free(p->room);
		*p = (struct pending){ 0 };
	}
}

void db_written_one(struct db *db)
{
	db->written++;
	db->records++;
	if (db->o.replica)
		db_grew(db);
	check(db->written == log_index(db->log));
	if (db->want_sync > db->synced)
		waitq_wake_one(&db->sync);
	if (db_memtable_full(db) || db_log_short(db) || log_wants_prepare(db->log))
		waitq_wake_one(&db->merge);
	let_go(db);
}

/* For syncs to catch up, or for room. */
static PARKS int wait(struct db *db, uint64_t until_ns)
{
	int rc = waitq_wait(&db->moved, until_ns);

	return rc == E_TIMEOUT ? 0 : rc;
}

static PARKS int write_one(struct db *db)
{
	struct err_note note;
	int rc = 0;

	while (rc == 0 && log_crowded(db->log) && !db->failed) {
		fiber_note(0, "db: waits for syncs of the log");
		db_want_sync(db);
		waitq_wake_one(&db->sync);
		rc = wait(db, FOREVER);
	}
	if (rc < 0)
		return rc;
	rc = log_append(db->log, db->writing.room, db->writing.len - LOG_HEADER_BYTES, &note);
	db->stuck = rc == E_FULL;
	if (rc == 0) {
		written(db);
	} else if (rc == E_FULL) {
		sys_reached(db->sys, "db: a record waits for room on the disk");
		db->full = true;
		waitq_wake_one(&db->merge);
		fiber_note(0, "db: waits for room on the disk");
		rc = wait(db, sys_after(db->sys, DB_RETRY_NS));
		if (db->follows) { /* nobody was told of it, and it is not tried again */
			db->writing.any = db->stuck = false;
			waitq_wake_all(&db->moved);
		}
	} else {
		db_fail(db, rc, &note);
	}
	return rc;
}

/* What is pending is to be synced, which cannot begin before the sync that is under way has ended,
 * and nobody waits for less: until then more joins it, for one record instead of several.  While
 * others still sync, it waits until it is as long as what they sync. */
bool db_gathers(const struct db *db)
{
	if (!db->pending.any || db->want_sync <= db->sealed || db->hurried ||
		db->pending.len > DB_GATHER_BYTES_MAX)
		return false;
	return db->syncing ||
	       (db->all_synced < db->asked_index && db->pending.len < db->asked_len);
}

/* The next sync begins before the answers that the last one let go are sent. */
void db_gathered(struct db *db)
{
	if (db_gathers(db))
		return;
	db->gathered = true;
	waitq_wake_one(&db->dirty);
}

static bool has_work(const struct db *db)
{
	if (db->pending.any && (db->held || db_gathers(db)))
		return db->writing.any;
	return db->pending.any || db->writing.any || db->freeze;
}

static PARKS int flusher(void *arg)
{
	struct db *db = arg;
	int rc = 0;

	while (rc == 0) {
		fiber_note(0, "db: waits for changes");
		while (rc == 0 && !has_work(db))
			rc = waitq_wait(&db->dirty, FOREVER);
		if (rc == 0 && !db->gathered)
			rc = fiber_late();
		db->gathered = false;
		if (rc < 0)
			break;
		if (db->pending.any && !db->writing.any && !db->held && !db_gathers(db))
			seal(db);
		if (db->freeze && db->frozen == NULL && !db->pending.any)
			db_freeze(db);
		if (db->writing.any)
			rc = write_one(db);
	}
	return rc;
}

/* ---- syncer ---- */
static PARKS int sync_once(struct db *db)
{
	struct err_note note;
	uint64_t index = 0;
	bool gathered;
	int rc;

	db->syncing = true;
	rc = log_sync(db->log, &index, &note);
	gathered = db_gathers(db);
	db->syncing = false;
	if (rc < 0) { /* what the device holds is unknown now, on a full disk too */
		db_fail(db, rc, &note);
		return rc;
	}
	check(index >= db->synced);
	db->synced = index;
	db->syncs++;
	if (!db->o.replica)
		db->all_synced = index;
	if (gathered)
		db_gathered(db);
	let_go(db);
	if (db->frozen != NULL)
		waitq_wake_one(&db->merge);
	return 0;
}

static PARKS int syncer(void *arg)
{
	struct db *db = arg;
	uint64_t due_ns = sys_after(db->sys, DB_SYNC_EVERY_NS);
	int rc = 0;

	while (rc == 0) {
		bool wanted = db->want_sync > db->synced && db->written > db->synced;

		if (db->holds_sync || (!wanted && sys_now_ns(db->sys) < due_ns)) {
			fiber_note(0, "db: waits for somebody who wants a sync");
			rc = waitq_wait(&db->sync, db->holds_sync ? FOREVER : due_ns);
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

int db_start(struct db *db, struct group *g)
{
	int rc;

	if ((rc = fiber_start(g, "db flusher", flusher, db)) < 0 ||
		(rc = fiber_start(g, "db syncer", syncer, db)) < 0)
		return rc;
	if (db->o.replica && (rc = fiber_start(g, "db applier", db_applier, db)) < 0)
		return rc;
	if ((rc = fiber_start(g, "db merger", db_merger, db)) < 0)
		return rc;
	return fiber_start(g, "db scrubber", db_scrubber, db);
}
