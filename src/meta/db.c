/* SPDX-License-Identifier: Apache-2.0 */
/* Rows: what readers see and what writers change.
 *
 * (D1) a key is looked for in active, frozen, tree, in this order; the first that knows it decides;
 * (D2) active and frozen together hold exactly what the log holds behind the tree's mark;
 * (D3) an id is given only below a mark that is durable. */
#include "meta/db.h"
#include "base/check.h"
#include "meta/db_own.h"
#include <stdlib.h>

enum { PENDING_FIRST = 1 << 16 };

/* ---- writing ---- */
static uint8_t *pend(struct db *db, size_t len)
{
	struct pending *p = &db->pending;
	size_t need = (p->any ? p->len : LOG_HEADER_BYTES) + len + 8;

	check(db->walks == 0);
	check(!db->follows);
	if (db->failed && p->any) { /* it will never be written */
		p->len = LOG_HEADER_BYTES;
		need = p->len + len + 8;
	}
	if (need > p->cap) {
		while (p->cap < need)
			p->cap = p->cap == 0 ? PENDING_FIRST : p->cap * 2;
		p->room = realloc(p->room, p->cap);
		check(p->room != NULL);
	}
	if (!p->any) {
		p->any = true;
		p->len = LOG_HEADER_BYTES;
		waitq_wake_one(&db->dirty);
	}
	if (p->len < db->asked_len && p->len + len >= db->asked_len)
		waitq_wake_one(&db->dirty); /* it was kept back for being shorter */
	p->len += len;
	check(p->len - LOG_HEADER_BYTES <= LOG_PAYLOAD_BYTES_MAX);
	return p->room + p->len - len;
}

static void effect(struct db *db, enum effect_kind kind, struct bytes key, struct bytes value)
{
	size_t len = effect_bytes(key, value) - (kind == EFFECT_DELETE ? 4 : 0);
	uint8_t *at = pend(db, len), *end = effect_put(at, kind, key, value);

	check(end == at + len);
}

static void put(struct db *db, struct bytes key, struct bytes value, bool fresh)
{
	effect(db, EFFECT_PUT, key, value);
	memtable_put(db->active, memtable_hash(db->seed, key), key, value, fresh);
}

void db_put(struct db *db, struct bytes key, struct bytes value)
{
	put(db, key, value, false);
}

void db_put_new(struct db *db, struct bytes key, struct bytes value)
{
#ifdef WADI_AUDIT
	struct bytes there;

	check(db_get(db, key, &there) == E_NOTFOUND);
#endif
	put(db, key, value, true);
}

void db_delete(struct db *db, struct bytes key)
{
	effect(db, EFFECT_DELETE, key, bytes_of(NULL, 0));
	memtable_delete(db->active, memtable_hash(db->seed, key), key);
}

void db_delete_range(struct db *db, struct bytes from, struct bytes to)
{
	if (bytes_compare(from, to) >= 0)
		return;
	effect(db, EFFECT_RANGE, from, to);
	memtable_delete_range(db->active, from, to);
}

void db_touch(struct db *db)
{
	(void)pend(db, 0);
}

static void apply(struct db *db, const struct effect *e)
{
	uint64_t hash = memtable_hash(db->seed, e->key);

	if (e->kind == EFFECT_PUT)
		memtable_put(db->active, hash, e->key, e->value, false);
	else if (e->kind == EFFECT_DELETE)
		memtable_delete(db->active, hash, e->key);
	else
		memtable_delete_range(db->active, e->key, e->value);
}

int db_apply(struct db *db, struct bytes payload)
{
	struct reader r = reader_of(payload.p, payload.len);
	struct effect e;

	while (effect_get(&r, &e))
		apply(db, &e);
	return r.ok && reader_left(&r) == 0 ? 0 : E_CORRUPT;
}

/* ---- reading ---- */
/* A row of the tree is not what was merged: nothing may be written on the strength of it.  The next
 * start makes the tree anew. */
void db_rot(struct db *db)
{
	db->rotten = true;
	waitq_wake_all(&db->merge);
}

int db_get(struct db *db, struct bytes key, struct bytes *ret_value)
{
	uint64_t hash = memtable_hash(db->seed, key);
	enum memtable_found f = memtable_get(db->active, hash, key, ret_value);
	int rc;

	if (f == MEMTABLE_ABSENT && db->frozen != NULL)
		f = memtable_get(db->frozen, hash, key, ret_value);
	if (f != MEMTABLE_ABSENT)
		return f == MEMTABLE_LIVE ? 0 : E_NOTFOUND;
	rc = db->tree != NULL ? tree_get(db->tree, key, ret_value) : E_NOTFOUND;
	if (rc < 0 && rc != E_NOTFOUND)
		db_rot(db);
	return rc;
}

/* ---- walks ---- */
/* A row of each source that still has one; `due`: it was given, so its source steps before the next
 * look (a key of the tree is only good until then). */
struct source {
	bool has, due;
	struct memtable_row row;
};
struct iter {
	struct iter *next;
	struct tree_cursor *cursor;
	struct memtable_walk active_walk, frozen_walk;
	struct source active, frozen, tree;
	bool tree_skips; /* the row it is at is hidden, and all up to tree_skip (empty: the end) */
	struct bytes tree_skip;
	struct bytes to;
	uint32_t *dead_left; /* deleted rows that it may still pass over; NULL: any number */
	struct bytes tired;  /* the last of those; p is NULL as long as it may go on */
	uint8_t to_room[MEMTABLE_KEY_BYTES_MAX];
};

static bool inside(const struct iter *it, struct bytes key)
{
	return it->to.len == 0 || bytes_compare(key, it->to) < 0;
}

static void step_active(struct iter *it)
{
	struct source *s = &it->active;

	s->has = memtable_walk_next(&it->active_walk, &s->row) && inside(it, s->row.key);
	s->due = false;
}

/* What a newer memtable deleted as a range counts as deleted here. */
static void step_frozen(struct db *db, struct iter *it)
{
	struct source *s = &it->frozen;
	struct bytes to;

	s->has = memtable_walk_next(&it->frozen_walk, &s->row) && inside(it, s->row.key);
	if (s->has && memtable_hides(db->active, s->row.key, &to))
		s->row.deleted = true;
	s->due = false;
}

static void step_tree(struct db *db, struct iter *it)
{
	struct source *s = &it->tree;
	struct bytes to;
	int rc = 0;

	if (it->tree_skips && it->tree_skip.len > 0)
		tree_cursor_seek(it->cursor, it->tree_skip);
	if (!it->tree_skips || it->tree_skip.len > 0)
		rc = tree_cursor_next(it->cursor, &s->row.key, &s->row.value);
	it->tree_skips = s->due = false;
	s->has = rc == 1 && inside(it, s->row.key);
	s->row.deleted = false;
	if (rc < 0)
		db_rot(db);
	if (!s->has ||
		(!memtable_hides(db->active, s->row.key, &to) &&
			(db->frozen == NULL || !memtable_hides(db->frozen, s->row.key, &to))))
		return;
	s->row.deleted = true;
	it->tree_skips = true;
	it->tree_skip = to;
}

void db_iter_begin(struct db_iter *out, struct db *db, struct bytes from, struct bytes to)
{
	struct iter *it = db->iters;

	if (it != NULL) {
		db->iters = it->next;
	} else {
		it = calloc(1, sizeof *it);
		check(it != NULL);
		it->cursor = db->tree != NULL ? tree_cursor_new(db->tree) : NULL;
	}
	check(to.len <= sizeof it->to_room);
	if (to.len > 0)
		memcpy(it->to_room, to.p, to.len);
	it->to = bytes_of(it->to_room, to.len);
	it->active = it->tree = it->frozen = (struct source){ .due = true };
	memtable_walk_begin(&it->active_walk, db->active, from);
	if (db->frozen != NULL)
		memtable_walk_begin(&it->frozen_walk, db->frozen, from);
	else
		it->frozen.due = false;
	if (it->cursor != NULL)
		tree_cursor_seek(it->cursor, from);
	else
		it->tree.due = false;
	it->tree_skips = false;
	it->dead_left = NULL;
	it->tired = bytes_of(NULL, 0);
	db->walks++;
	*out = (struct db_iter){ db, it };
}

/* The row of the smallest key, of the newest source that has it; all that have it step on. */
static const struct memtable_row *next_row(struct db *db, struct iter *it)
{
	struct source *order[3] = { &it->active, &it->frozen, &it->tree }, *least = NULL;

	if (it->active.due)
		step_active(it);
	if (it->frozen.due)
		step_frozen(db, it);
	if (it->tree.due)
		step_tree(db, it);
	for (int i = 0; i < 3; i++) {
		int d;

		if (!order[i]->has)
			continue;
		d = least == NULL ? -1 : bytes_compare(order[i]->row.key, least->row.key);
		if (d < 0)
			it->active.due = it->frozen.due = it->tree.due = false;
		if (d < 0)
			least = order[i];
		order[i]->due = d <= 0;
	}
	return least == NULL ? NULL : &least->row;
}

bool db_iter_next(struct db_iter *out, struct bytes *ret_key, struct bytes *ret_value)
{
	const struct memtable_row *r;
	struct iter *it = out->impl;

	while (it->tired.p == NULL && (r = next_row(out->db, it)) != NULL) {
		if (!r->deleted) {
			*ret_key = r->key;
			*ret_value = r->value;
			return true;
		}
		if (it->dead_left != NULL && (*it->dead_left == 0 || --*it->dead_left == 0))
			it->tired = r->key;
	}
	return false;
}

void db_iter_bound(struct db_iter *out, uint32_t *held_dead_left)
{
	struct iter *it = out->impl;

	it->dead_left = held_dead_left;
}

bool db_iter_tired(const struct db_iter *out, struct bytes *ret_key)
{
	const struct iter *it = out->impl;

	if (it->tired.p == NULL)
		return false;
	*ret_key = it->tired;
	return true;
}

void db_iter_end(struct db_iter *out)
{
	struct iter *it = out->impl;

	check(out->db->walks > 0);
	out->db->walks--;
	it->next = out->db->iters;
	out->db->iters = it;
	out->impl = NULL;
}

void db_iters_free(struct db *db)
{
	while (db->iters != NULL) {
		struct iter *it = db->iters;

		db->iters = it->next;
		if (it->cursor != NULL)
			tree_cursor_free(it->cursor);
		free(it);
	}
}

bool db_memtable_full(const struct db *db)
{
	return memtable_bytes(db->active) >= db->o.memtable_bytes_max ||
	       db->fresh_log_bytes >= db->o.merge_log_bytes ||
	       memtable_ranges(db->active) > MEMTABLE_RANGES_MAX;
}

/* ---- indexes ---- */
uint64_t db_seen(const struct db *db)
{
	return db->sealed + db->pending.any;
}
uint64_t db_written(const struct db *db)
{
	return db->committed;
}
uint64_t db_synced(const struct db *db)
{
	return db->all_synced;
}

void db_want_sync(struct db *db)
{
	uint64_t index = db_seen(db);

	if (index <= db->want_sync)
		return;
	db->want_sync = index;
	if (db->written >= index)
		waitq_wake_one(&db->sync);
}

void db_want_written(struct db *db)
{
	if (db->hurried || !db->pending.any)
		return;
	db->hurried = true;
	waitq_wake_one(&db->dirty);
}

/* What is applied must find room in the log: a memtable is merged only when all of it is written.
 */
bool db_log_short(const struct db *db)
{
	uint64_t need = db->o.log_segment_bytes / 4;

	need += db->pending.any ? db->pending.len : 0;
	need += db->writing.any ? db->writing.len : 0;
	return db->full && log_left(db->log) < need;
}

bool db_pressed(const struct db *db)
{
	return db->stuck || db_log_short(db) ||
	       memtable_bytes(db->active) > 2 * db->o.memtable_bytes_max ||
	       (db->pending.any && db->pending.len > DB_PENDING_BYTES_MAX);
}

int db_room(const struct db *db)
{
	if (db->failed)
		return db->why_rc;
	if (db->full || log_tight(db->log))
		return E_FULL;
	return db_pressed(db) ? E_BUSY : 0;
}

struct db_scrub db_scrubbed(const struct db *db)
{
	return db->scrub;
}

void db_status(const struct db *db, struct db_status *ret_st)
{
	struct tree_status t;

	tree_status(db->tree, &t);
	*ret_st = (struct db_status){ .memtable_bytes = memtable_bytes(db->active),
		.memtable_rows = memtable_rows(db->active),
		.frozen_bytes = db->frozen != NULL ? memtable_bytes(db->frozen) : 0,
		.tree_bytes = t.bytes,
		.tree_resident_bytes = t.resident_bytes,
		.tree_rows = t.rows,
		.log_bytes = log_bytes(db->log),
		.seen = db_seen(db),
		.written = db->committed,
		.synced = db->all_synced,
		.merged = db->merged,
		.records = db->records,
		.syncs = db->syncs,
		.merges = db->merges };
}
