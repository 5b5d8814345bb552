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

void db_put(struct db *db, struct bytes key, struct bytes value)
{
	effect(db, EFFECT_PUT, key, value);
	memtable_put(db->active, key, value);
}

void db_delete(struct db *db, struct bytes key)
{
	effect(db, EFFECT_DELETE, key, bytes_of(NULL, 0));
	memtable_delete(db->active, key);
}

void db_delete_range(struct db *db, struct bytes from, struct bytes to)
{
	if (bytes_compare(from, to) >= 0)
		return;
	effect(db, EFFECT_RANGE, from, to);
	memtable_delete_range(db->active, from, to);
}

void db_apply(struct db *db, const struct effect *e)
{
	if (e->kind == EFFECT_PUT)
		memtable_put(db->active, e->key, e->value);
	else if (e->kind == EFFECT_DELETE)
		memtable_delete(db->active, e->key);
	else
		memtable_delete_range(db->active, e->key, e->value);
}

/* ---- reading ---- */
int db_get(struct db *db, struct bytes key, struct bytes *ret_value)
{
	enum memtable_found f = memtable_get(db->active, key, ret_value);

	if (f == MEMTABLE_ABSENT && db->frozen != NULL)
		f = memtable_get(db->frozen, key, ret_value);
	if (f == MEMTABLE_VALUE)
		return 0;
	if (f == MEMTABLE_DELETED)
		return E_NOTFOUND;
	return tree_get(db->tree, key, ret_value);
}

/* A walk merges three sources; the newest that has a key decides about it. */
struct source {
	struct bytes key, value;
	bool any, deleted, given;
};
struct walk {
	struct memtable_walk active, frozen;
	struct tree_walk *tree;
	struct source s[3];
	struct bytes to;
	uint32_t *dead_left; /* deleted rows that it may still pass over; NULL: any number */
	struct bytes tired;  /* the last of those; p is NULL as long as it may go on */
	uint8_t to_room[EFFECT_KEY_MAX];
};

static void advance(struct db *db, struct walk *w, int i)
{
	struct source *s = &w->s[i];
	struct memtable_item item;

	if (i < 2) {
		s->any = (i == 0 || db->frozen != NULL) &&
			 memtable_walk_next(i == 0 ? &w->active : &w->frozen, &item);
		if (s->any)
			*s = (struct source){ item.key, item.value, true, item.deleted, false };
		return;
	}
	s->given = false;
	s->any = tree_walk_next(w->tree, &s->key, &s->value) && bytes_compare(s->key, w->to) < 0;
}

/* Older sources do not see what a newer memtable deleted as a range. */
static bool covered(const struct db *db, int i, struct bytes key)
{
	if (i > 0 && memtable_covered(db->active, key) != NULL)
		return true;
	return i > 1 && db->frozen != NULL && memtable_covered(db->frozen, key) != NULL;
}

void db_iter_begin(struct db_iter *it, struct db *db, struct bytes from, struct bytes to)
{
	struct walk *w = malloc(sizeof *w);

	check(w != NULL);
	check(to.len <= sizeof w->to_room);
	memset(w->s, 0, sizeof w->s);
	w->to = bytes_of(memcpy(w->to_room, to.p, to.len), to.len);
	memtable_walk_begin(&w->active, db->active, from, w->to);
	if (db->frozen != NULL)
		memtable_walk_begin(&w->frozen, db->frozen, from, w->to);
	w->tree = tree_walk_begin(db->tree, from);
	w->dead_left = NULL;
	w->tired = bytes_of(NULL, 0);
	it->db = db;
	it->impl = w;
	db->walks++;
	for (int i = 0; i < 3; i++)
		advance(db, w, i);
}

/* The source with the lowest key, the newest of those with the same; others step over that key. */
static int choose(struct db *db, struct walk *w)
{
	int best = -1;

	for (int i = 0; i < 3; i++) {
		int d = !w->s[i].any ? 1
			: best < 0   ? -1
				     : bytes_compare(w->s[i].key, w->s[best].key);

		if (d == 0)
			advance(db, w, i);
		else if (d < 0)
			best = i;
	}
	return best;
}

bool db_iter_next(struct db_iter *it, struct bytes *ret_key, struct bytes *ret_value)
{
	struct walk *w = it->impl;
	int i;

	for (i = 0; i < 3; i++) /* what was given out was borrowed until now */
		if (w->s[i].given)
			advance(it->db, w, i);
	while (w->tired.p == NULL && (i = choose(it->db, w)) >= 0) {
		struct source s = w->s[i];

		if (!s.deleted && !covered(it->db, i, s.key)) {
			*ret_key = s.key;
			*ret_value = s.value;
			w->s[i].given = true;
			return true;
		}
		if (w->dead_left != NULL && (*w->dead_left == 0 || --*w->dead_left == 0))
			w->tired = s.key;
		else
			advance(it->db, w, i);
	}
	return false;
}

void db_iter_bound(struct db_iter *it, uint32_t *held_dead_left)
{
	struct walk *w = it->impl;

	w->dead_left = held_dead_left;
}

bool db_iter_tired(const struct db_iter *it, struct bytes *ret_key)
{
	const struct walk *w = it->impl;

	if (w->tired.p == NULL)
		return false;
	*ret_key = w->tired;
	return true;
}

void db_iter_end(struct db_iter *it)
{
	struct walk *w = it->impl;

	check(it->db->walks > 0);
	it->db->walks--;
	tree_walk_end(w->tree);
	free(w);
	it->impl = NULL;
}

/* ---- indexes ---- */
uint64_t db_seen(const struct db *db)
{
	return db->sealed + db->pending.any;
}
uint64_t db_written(const struct db *db)
{
	return db->written;
}
uint64_t db_synced(const struct db *db)
{
	return db->synced;
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

bool db_pressed(const struct db *db)
{
	return memtable_bytes(db->active) > 2 * db->o.memtable_bytes_max || log_tight(db->log);
}

/* ---- ids ---- */
void db_ask_ids(struct db *db)
{
	uint8_t key = DB_ID_KEY, value[8];

	db->id_asked += DB_IDS_BLOCK;
	put_le64(value, db->id_asked);
	db_put(db, bytes_of(&key, 1), bytes_of(value, sizeof value));
	db->id_asked_index = db_seen(db);
	db_want_sync(db);
}

void db_ids_synced(struct db *db)
{
	if (db->synced >= db->id_asked_index)
		db->id_mark = db->id_asked;
}

uint64_t db_next_ids(struct db *db, uint32_t n)
{
	uint64_t first = db->id_next;

	check(n > 0 && n <= DB_IDS_BLOCK / 4);
	if (db->id_asked == db->id_mark && db->id_mark - db->id_next < DB_IDS_BLOCK / 2 + n)
		db_ask_ids(db);
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

void db_status(const struct db *db, struct db_status *ret_st)
{
	*ret_st = (struct db_status){ .memtable_bytes = memtable_bytes(db->active),
		.memtable_rows = memtable_rows(db->active),
		.frozen_bytes = db->frozen != NULL ? memtable_bytes(db->frozen) : 0,
		.tree_bytes = tree_bytes(db->tree),
		.tree_resident_bytes = tree_resident_bytes(db->tree),
		.tree_rows = tree_rows(db->tree),
		.log_bytes = log_bytes(db->log),
		.seen = db_seen(db),
		.written = db->written,
		.synced = db->synced,
		.merged = db->merged,
		.records = db->records,
		.syncs = db->syncs,
		.merges = db->merges };
}
