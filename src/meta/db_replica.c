/* SPDX-License-Identifier: Apache-2.0 */
/* A db as one of several replicas.
 *
 * (D4) The memtables of a follower hold what is committed and nothing else, so its log can be taken
 * back without touching them; `sealed` is the last record in them.
 * (D5) A leader applies before it is committed; when it ends to lead, the memtables are made anew
 * from the tree and the log, up to the commit index.
 * (D6) Nothing is merged before it is committed, and synced by all: a tree is never taken back. */
#include "base/check.h"
#include "meta/db_own.h"
#include <stdlib.h>

bool db_may_merge(const struct db *db, uint64_t index)
{
	return db->synced >= index && db->all_synced >= index;
}

bool db_place(const struct db *db, uint64_t index, uint64_t *ret_epoch, uint64_t *ret_chain)
{
	struct place_at at;

	if (!places_get(&db->places, index, &at))
		return false;
	*ret_epoch = at.epoch;
	*ret_chain = at.chain;
	return true;
}

struct log *db_log(struct db *db) { return db->log; }

uint64_t db_log_synced(const struct db *db) { return db->synced; }

void db_sync_to(struct db *db, uint64_t index)
{
	if (index > db->written)
		index = db->written;
	if (index <= db->want_sync)
		return;
	db->want_sync = index;
	waitq_wake_one(&db->sync);
}

void db_grew(struct db *db)
{
	uint64_t keep = db->old_index < db->merged ? db->old_index : db->merged;
	struct log_place p = log_place(db->log);

	places_add(&db->places, p.index, (struct place_at){ p.epoch, p.shard_chain });
	if (db->pinned && db->pin_index < keep)
		keep = db->pin_index;
	places_forget(&db->places, keep);
	tail_add(&db->tail, p.index, bytes_of(db->writing.room + LOG_HEADER_BYTES,
		db->writing.len - LOG_HEADER_BYTES));
}

uint64_t db_merged(const struct db *db) { return db->merged; }

uint64_t db_wanted(const struct db *db) { return db->want_sync; }

void db_keep_tail(struct db *db, size_t bytes_max) { tail_limit(&db->tail, bytes_max); }

struct tail_record *db_recent(const struct db *db, uint64_t index)
{
	return tail_get(&db->tail, index);
}

/* ---- following ---- */
static PARKS int wait_moved(struct db *db)
{
	int rc = waitq_wait(&db->moved, sys_after(db->sys, DB_RETRY_NS));

	return db->failed ? db->why_rc : rc == E_TIMEOUT ? 0 : rc;
}

static PARKS int wait_for_syncs(struct db *db)
{
	int rc = 0;

	while (rc == 0 && log_crowded(db->log)) {
		db->want_sync = db->written;
		waitq_wake_one(&db->sync);
		rc = wait_moved(db);
	}
	return rc;
}

static void room_for(struct pending *p, size_t len)
{
	if (p->cap < len + 8) {
		free(p->room);
		p->cap = len + 8;
		p->room = malloc(p->cap);
		check(p->room != NULL);
	}
	p->len = len;
}

/* chain NULL: a new one of that epoch. */
static PARKS int append(struct db *db, uint64_t epoch, const uint64_t *chain, struct bytes payload,
	struct err_note *note)
{
	int rc;

	check(db->follows);
	check(!db->writing.any);
	if (payload.len > LOG_PAYLOAD_BYTES_MAX)
		return err_set(note, E_CORRUPT, "a record of %zu bytes", payload.len);
	rc = db->failed ? db->why_rc : wait_for_syncs(db);
	if (rc < 0)
		return err_set(note, rc, "waiting for the syncs of the log");
	room_for(&db->writing, LOG_HEADER_BYTES + payload.len);
	if (payload.len > 0)
		memcpy(db->writing.room + LOG_HEADER_BYTES, payload.p, payload.len);
	if (chain == NULL)
		log_epoch(db->log, epoch);
	rc = chain == NULL ? log_append(db->log, db->writing.room, payload.len, note) :
		log_copy(db->log, epoch, *chain, db->writing.room, payload.len, note);
	if (rc == E_FULL) {
		db->full = true;
		waitq_wake_one(&db->merge);
	} else if (rc < 0 && rc != E_CORRUPT) {
		db_fail(db, rc, note);
	}
	if (rc == 0)
		db_written_one(db);
	return rc;
}

int db_copy(struct db *db, uint64_t epoch, uint64_t chain, struct bytes payload,
	struct err_note *note)
{
	return append(db, epoch, &chain, payload, note);
}

int db_begin(struct db *db, uint64_t epoch, struct err_note *note)
{
	return append(db, epoch, NULL, bytes_of(NULL, 0), note);
}

int db_take_back(struct db *db, uint64_t index, struct err_note *note)
{
	int rc = 0;

	check(db->follows);
	check(index >= db->committed);
	check(index <= db->written);
	if (index == db->written)
		return 0; /* nothing is taken back, and so nothing was synced for it */
	db->holds_sync = true;
	while (rc == 0 && db->syncing)
		rc = wait_moved(db);
	if (rc == 0)
		rc = log_take_back(db->log, index, note);
	else
		err_set(note, rc, "waiting for the syncs of the log");
	db->holds_sync = false;
	if (rc < 0) {
		if (rc != E_FULL && rc != E_GONE)
			db_fail(db, rc, note);
		return rc;
	}
	places_take_back(&db->places, index);
	tail_take_back(&db->tail, index);
	db->written = db->synced = index;
	if (db->want_sync > index)
		db->want_sync = index;
	waitq_wake_one(&db->sync);
	return 0;
}

/* ---- copies ---- */
int db_copy_tree(struct db *db, struct tree **ret_copy, uint64_t *ret_index, struct err_note *note)
{
	int rc = db->full ? E_FULL : 0;

	check(!db->copy_wanted);
	check(!db->pinned);
	if (rc < 0)
		return err_set(note, rc, "%s: no room for a copy", db->dir);
	db->copy_wanted = true;
	waitq_wake_one(&db->merge);
	while (rc == 0 && db->copy_wanted && !db->failed)
		rc = wait_moved(db);
	if (rc == 0)
		rc = db->failed ? db->why_rc : db->copy_rc;
	if (rc == 0)
		rc = tree_open(db->sys, db->dir, DB_SENT, db->o.tree_bytes_max, ret_copy, note);
	if (rc < 0) {
		db->copy_wanted = db->pinned = false;
		return err_set(note, rc, "%s: a copy of the tree", db->dir);
	}
	*ret_index = db->pin_index;
	return 0;
}

void db_copy_done(struct db *db, struct tree *copy)
{
	struct err_note note;

	tree_close(copy);
	(void)tree_remove(db->sys, db->dir, DB_SENT, &note); /* else the next one replaces it */
	db->pinned = false;
}

/* ---- applying ---- */
static int apply_record(struct db *db, struct bytes payload)
{
	int rc = db_apply(db, payload);

	if (rc < 0)
		return rc;
	db->sealed++;
	db->fresh_log_bytes += payload.len;
	return 0;
}

/* Merges cannot keep up: they are waited for. */
static PARKS int wait_for_merges(struct db *db)
{
	int rc = 0;

	while (rc == 0 && memtable_bytes(db->active) > 2 * db->o.memtable_bytes_max) {
		waitq_wake_one(&db->merge);
		rc = wait_moved(db);
	}
	return rc;
}

static PARKS int apply_from_log(struct db *db, struct err_note *note)
{
	struct bytes payload;
	int rc = 0;

	if (db->applying == NULL)
		rc = log_reader_open(db->log, db->sealed, &db->applying, note);
	if (rc == 0)
		rc = log_read(db->applying, &payload, note);
	if (rc == 1) {
		check(log_reader_place(db->applying).index == db->sealed + 1);
		rc = apply_record(db, payload);
		return rc < 0 ? err_set(note, rc, "the effects of record %llu",
			(unsigned long long)db->sealed + 1) : 0;
	}
	check(rc != 0); /* what is committed has been written */
	log_reader_close(db->applying);
	db->applying = NULL;
	return rc == E_GONE ? 0 : rc; /* its segment was forgotten: from the next one */
}

static PARKS int apply_next(struct db *db, struct err_note *note)
{
	struct tail_record *t;
	int rc = wait_for_merges(db);

	if (rc < 0)
		return err_set(note, rc, "waiting for merges");
	t = tail_get(&db->tail, db->sealed + 1);
	if (t == NULL)
		return apply_from_log(db, note);
	log_reader_close(db->applying); /* it would stand too far back */
	db->applying = NULL;
	rc = apply_record(db, bytes_of(t->payload, t->len));
	return rc < 0 ? err_set(note, rc, "the effects of record %llu",
		(unsigned long long)db->sealed + 1) : 0;
}

static bool may_apply(const struct db *db)
{
	return db->follows && !db->failed && db->sealed < db->committed;
}

/* Beside everything that changes the log: only what is committed is read, and nobody takes that
 * back. */
PARKS int db_applier(void *arg)
{
	struct err_note note = { "" };
	struct db *db = arg;
	int rc = 0;

	while (rc == 0) {
		fiber_note(0, "db: waits for commits");
		if (!may_apply(db)) {
			rc = waitq_wait(&db->apply, FOREVER);
			continue;
		}
		db->in_apply = true;
		rc = apply_next(db, &note);
		db->in_apply = false;
		if (rc < 0)
			db_fail(db, rc, &note);
		if (rc == 0 && db_memtable_full(db))
			waitq_wake_one(&db->merge);
		if (db->sealed == db->committed)
			waitq_wake_all(&db->moved);
	}
	return rc;
}

void db_commit(struct db *db, uint64_t index, uint64_t synced)
{
	bool gathered = db_gathers(db);

	check(db->o.replica);
	check(index <= db->written);
	check(synced <= index);
	if (index > db->committed)
		db->committed = index;
	if (synced > db->all_synced)
		db->all_synced = synced;
	if (may_apply(db))
		waitq_wake_one(&db->apply);
	if (gathered)
		db_gathered(db);
	db_let_go(db);
	if (db->frozen != NULL)
		waitq_wake_one(&db->merge);
}

/* ---- leading ---- */
static PARKS int applied(struct db *db, struct err_note *note)
{
	int rc = 0;

	while (rc == 0 && !db->failed && (db->sealed < db->committed || db->in_apply))
		rc = wait_moved(db);
	if (db->failed)
		return err_set(note, db->why_rc, "%s", db->why.text);
	return rc < 0 ? err_set(note, rc, "applying the log") : 0;
}

int db_lead(struct db *db, uint64_t epoch, struct err_note *note)
{
	int rc;

	check(db->follows);
	check(db->committed == db->written);
	if ((rc = applied(db, note)) < 0)
		return rc;
	check(db->sealed == db->written);
	log_reader_close(db->applying);
	db->applying = NULL;
	log_epoch(db->log, epoch);
	/* A table with what comes now cannot be merged before that is committed, and a copy of the
	 * tree may be wanted first: by one that has to be brought up for it to be committed. */
	if (db->frozen == NULL && db->sealed > db->merged)
		db_freeze(db);
	db->follows = db->held = false;
	rc = db_ids_find(db, note);
	return rc < 0 ? rc : db_ids_first(db, note);
}

void db_hold(struct db *db, bool hold)
{
	if (db->held == hold || db->follows)
		return;
	db->held = hold;
	waitq_wake_one(&db->dirty);
	waitq_wake_all(&db->moved);
}

int db_follow(struct db *db, struct err_note *note)
{
	int rc = 0;

	check(!db->follows);
	check(db->walks == 0);
	db->follows = true;
	db->pending.any = db->hurried = false; /* nobody was told */
	db->asked_index = 0;
	waitq_wake_all(&db->moved);
	while (rc == 0 && (db->writing.any || db->merging))
		rc = wait_moved(db);
	if (rc < 0)
		return err_set(note, rc, "waiting for the log and the merge");
	memtable_free(db->active);
	memtable_free(db->frozen);
	db->frozen = NULL;
	db->freeze = db->held = false;
	db->active = memtable_new(&db->pool, db->seed);
	db->sealed = db->merged;
	db->fresh_log_bytes = 0;
	if (db->want_sync > db->written)
		db->want_sync = db->written;
	waitq_wake_one(&db->apply);
	return 0;
}
