/* SPDX-License-Identifier: Apache-2.0 */
/* Ids: a row holds a mark above all that were given; a higher one is asked for and synced before
 * the ids below it are given (D3). */
#include "base/check.h"
#include "meta/db_look.h"
#include "meta/db_own.h"

static void ask(struct db *db)
{
	uint8_t key = DB_ID_KEY, value[8];

	db->id_asked += DB_IDS_BLOCK;
	put_le64(value, db->id_asked);
	db_put(db, bytes_of(&key, 1), bytes_of(value, sizeof value));
	db->id_asked_index = db_seen(db);
	db_want_sync(db);
}

int db_ids_find(struct db *db, struct err_note *note)
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

int db_ids_first(struct db *db, struct err_note *note)
{
	uint64_t wait_ns = db->o.replica ? DB_FIRST_COMMIT_NS : DB_FIRST_WRITE_NS;
	uint64_t until_ns = sys_after(db->sys, wait_ns);
	int rc = 0;

	ask(db);
	while (rc == 0 && db->id_mark == db->id_next && !db->failed && !db->held)
		rc = waitq_wait(&db->moved, until_ns);
	if (db->failed)
		return err_set(note, db->why_rc, "%s", db->why.text);
	if (db->held)
		return err_set(note, E_NOTPRIMARY, "%s: leads no more", db->dir);
	if (rc == E_TIMEOUT && db->o.replica)
		return 0; /* the others do not have it yet: E_BUSY until then */
	if (rc == E_TIMEOUT && db->stuck)
		return err_set(note, E_FULL, "%s: no room left for the log", db->dir);
	return rc < 0 ? err_set(note, rc, "%s: the log cannot be written", db->dir) : 0;
}

void db_ids_synced(struct db *db)
{
	if (db->all_synced >= db->id_asked_index)
		db->id_mark = db->id_asked;
}

uint64_t db_next_ids(struct db *db, uint32_t n)
{
	uint64_t first = db->id_next;

	check(n > 0 && n <= DB_IDS_BLOCK / 4);
	if (db->id_asked == db->id_mark && db->id_mark - db->id_next < DB_IDS_BLOCK / 2 + n)
		ask(db);
	if (db->id_mark - db->id_next < n)
		return 0;
	db->id_next += n;
	check(db->id_next <= db->id_mark); /* (D3) */
	return first;
}

uint64_t db_next_id(struct db *db)
{
	return db_next_ids(db, 1);
}

bool db_is_ids(struct bytes key)
{
	return key.len == 1 && key.p[0] == DB_ID_KEY;
}

uint64_t db_ids_of(const struct effect *e)
{
	return e->kind == EFFECT_PUT && db_is_ids(e->key) && e->value.len == 8 ? le64(e->value.p)
									       : 0;
}

uint64_t db_ids_mark(const struct db *db)
{
	uint8_t key = DB_ID_KEY;
	struct bytes value;

	/* a look, whose reads change nothing */
	if (db_get((struct db *)(uintptr_t)db, bytes_of(&key, 1), &value) < 0 || value.len != 8)
		return 0;
	return le64(value.p);
}

void db_ids_above(struct db *db, uint64_t above)
{
	if (db->id_asked < above)
		db->id_asked = above;
	ask(db);
	db->id_next = db->id_mark;
}
