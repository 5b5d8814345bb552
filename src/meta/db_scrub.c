/* SPDX-License-Identifier: Apache-2.0 */
/* Reads everything again that is at rest, before somebody needs it: each record of the log from the
 * medium itself, each row of the tree and of its older copy against its sum.
 *
 * (R1) A bad record of the log is no loss while this process runs: memtables and tree hold what it
 * did.  The log is begun anew: another segment, a merge of all before it, another older copy, and
 * what was before is forgotten.  Until then a restart would refuse the log.
 * (R2) A bad older copy is replaced by another one.
 * (R3) A bad row of the tree ends the db, as it does for a reader: the next start makes another
 * tree. */
#include "base/check.h"
#include "meta/db_own.h"

enum { STEP_BYTES = 256 << 10, STEP_ROWS = 500 };
#define SCRUB_BYTES_PER_SEC (UINT64_C(16) << 20) /* unless somebody waits for it */

static PARKS int pace(struct pass *p, uint64_t bytes)
{
	struct db *db = p->db;
	uint64_t ns;

	db->scrub.bytes += bytes;
	p->step_bytes += bytes;
	if (p->step_bytes < STEP_BYTES)
		return 0;
	ns = db->scrub_hurry ? 1 : p->step_bytes * SYS_SEC / SCRUB_BYTES_PER_SEC;
	p->step_bytes = 0;
	return fiber_sleep(sys_after(db->sys, ns));
}

static void found(struct db *db, const struct err_note *note)
{
	db->scrub.found++;
	db->scrub.last = *note;
	sys_log(db->sys, note->text);
}

/* ---- the log ---- */
void db_log_rotten(struct db *db, uint64_t index)
{
	if (index <= db->heal_index)
		return;
	sys_reached(db->sys, "db: a record at rest was rotten");
	db->heal_index = index;
	log_turn(db->log);
	waitq_wake_one(&db->scrubs);
}

bool db_heals(const struct db *db)
{
	return log_reaches(db->log) < db->heal_index;
}

/* Another segment begins with the next record: one without effects where nothing else comes. */
PARKS static int heal(struct db *db)
{
	int rc = 0;

	fiber_note(0, "db: makes the log anew");
	while (db_heals(db) && !db->failed && rc == 0) {
		if (!db->follows && log_turns(db->log) && db_room(db) == 0)
			db_touch(db);
		waitq_wake_one(&db->merge);
		rc = fiber_sleep(sys_after(db->sys, DB_RETRY_NS));
	}
	return rc;
}

PARKS static int read_log(struct pass *p, uint64_t from, struct err_note *note)
{
	struct db *db = p->db;
	uint64_t end = db->synced;
	struct log_reader *r;
	struct bytes payload;
	int rc = log_reader_open_medium(db->log, from, &r, note);

	if (rc < 0) {
		if (rc == E_CORRUPT)
			db_log_rotten(db, from + 1);
		return rc;
	}
	do {
		rc = log_reader_place(r).index < end ? log_read(r, &payload, note) : 0;
		if (rc == 1) {
			db->scrub.records++;
			rc = pace(p, payload.len + LOG_HEADER_BYTES);
			rc = rc < 0 ? rc : 1;
		}
	} while (rc == 1);
	if (rc == E_CORRUPT)
		db_log_rotten(db, log_reader_place(r).index + 1);
	log_reader_close(r);
	return rc;
}

/* What was forgotten or taken back meanwhile is nobody's any more. */
PARKS static int scrub_log(struct pass *p)
{
	struct err_note note;
	int rc = read_log(p, log_reaches(p->db->log), &note);

	if (rc == E_CORRUPT) {
		found(p->db, &note);
		return heal(p->db);
	}
	return rc == E_GONE ? 0 : rc;
}

/* ---- merged rows ---- */
/* A bounded number of rows: 1 when there are more. */
static int some_rows(struct pass *p, struct tree *t, uint64_t *ret_bytes)
{
	struct tree_cursor *c = tree_cursor_new(t);
	struct bytes key, value;
	int rc = 1;

	if (c == NULL)
		return E_NOMEM;
	*ret_bytes = 0;
	tree_cursor_seek(c, bytes_of(p->key, p->key_len));
	for (int n = 0; n < STEP_ROWS && rc == 1; n++) {
		rc = tree_cursor_next(c, &key, &value);
		if (rc != 1)
			break;
		check(key.len < sizeof p->key);
		memcpy(p->key, key.p, key.len);
		p->key_len = key.len;
		p->db->scrub.rows++;
		*ret_bytes += key.len + value.len;
	}
	tree_cursor_free(c);
	p->key[p->key_len++] = 0; /* behind that row */
	return rc;
}

PARKS static int read_rows(struct pass *p, struct tree *t)
{
	uint64_t bytes = 0;
	int rc;

	p->key_len = 0;
	do {
		rc = some_rows(p, t, &bytes);
		if (rc == 1) {
			rc = pace(p, bytes);
			rc = rc < 0 ? rc : 1;
		}
	} while (rc == 1 && !p->db->failed);
	return rc < 0 ? rc : 0;
}

PARKS static int scrub_tree(struct pass *p)
{
	struct err_note note;
	int rc = read_rows(p, p->db->tree);

	if (rc == E_CORRUPT) {
		err_set(&note, rc, "%s/tree: a row is not what was merged", p->db->dir);
		found(p->db, &note);
		db_rot(p->db);
	}
	return rc;
}

/* It may be replaced meanwhile: then the next pass looks. */
PARKS static int scrub_old(struct pass *p)
{
	struct db *db = p->db;
	uint64_t index = db->old_index;
	char name[DB_NAME_MAX];
	struct err_note note;
	struct tree *old;
	int rc;

	if (index == 0)
		return 0;
	db_old_name(index, name);
	rc = tree_check(db->sys, db->dir, name, DB_TREE_CHECK_BYTES, &note);
	if (rc == 0 && index == db->old_index)
		rc = tree_open(db->sys, db->dir, name, db->o.tree_bytes_max, &old, &note);
	else if (rc == 0)
		return 0;
	if (rc == 0) {
		rc = read_rows(p, old);
		tree_close(old);
		if (rc == E_CORRUPT)
			err_set(&note, rc, "%s/%s: a row is not what was merged", db->dir, name);
	}
	if (rc != E_CORRUPT || index != db->old_index)
		return rc == E_CANCELED ? rc : 0;
	found(db, &note);
	db->old_rotten = true;
	waitq_wake_one(&db->merge);
	return 0;
}

/* ---- the fiber ---- */
void db_scrub_now(struct db *db)
{
	db->scrub_hurry = true;
	waitq_wake_one(&db->scrubs);
}

PARKS static int pass(struct pass *p)
{
	struct db *db = p->db;
	int rc;

	fiber_note(0, "db: reads again what is at rest");
	db->scrub.running = true;
	rc = scrub_log(p);
	if (rc >= 0 && !db->failed)
		rc = scrub_tree(p);
	if (rc >= 0 && !db->failed)
		rc = scrub_old(p);
	db->scrub.running = false;
	db->scrub_hurry = false;
	db->scrub.passes++;
	return rc;
}

PARKS int db_scrubber(void *arg)
{
	struct db *db = arg;
	struct pass *p = &db->pass;
	int rc = 0;

	p->db = db;
	while (rc == 0 && !db->failed) {
		uint64_t until_ns = sys_after(db->sys, db->o.scrub_every_ns);

		fiber_note(0, "db: waits for the time to read what is at rest");
		while (rc == 0 && !db->scrub_hurry && !db_heals(db))
			rc = waitq_wait(&db->scrubs, until_ns);
		if (rc == 0 && db_heals(db))
			rc = heal(db);
		else if (rc == 0 || rc == E_TIMEOUT)
			rc = pass(p);
		if (rc < 0 && rc != E_CANCELED && rc != E_CORRUPT) {
			sys_log(db->sys, "reading what is at rest failed; it is tried again later");
			rc = 0;
		}
	}
	return 0;
}
