/* SPDX-License-Identifier: Apache-2.0 */
/* Merging a frozen memtable into LMDB: one transaction on a worker, ranges first, then rows in the
 * order of their keys. */
#include "meta/tree_lmdb.h"
#include <stdio.h>
#include <stdlib.h>

enum { PAGE_BYTES = 4096, NO_TABLE = TABLES, ROOM_BYTES_MIN = 1 << 20, MDB_EIO = 5 };

struct merge {
	struct tree *t;
	const struct memtable *m;
	const struct tree_mark *mark;
	MDB_txn *txn;
	MDB_cursor *tables[TABLES], *longs;
	bool made[TABLES]; /* databases that this transaction has made */
	struct tree_totals sums;
	uint64_t changed;
	unsigned table; /* of the rows just now, or NO_TABLE */
	bool there;     /* it has a database */
	bool append;    /* every further key of it is behind all that were there */
	uint8_t last[STORED_KEY_MAX];
	size_t last_len;
	const char *what;
	int rc;
};

static void count(struct merge *g, struct bytes key, struct bytes value, bool more)
{
	uint64_t hash = tree_row_hash(key, value);

	g->sums.rows += more ? 1 : UINT64_MAX;
	g->sums.content += more ? hash : -hash;
	g->changed++;
}

/* Takes a row out of the sums; it must be what was written. */
static int uncount(struct merge *g, struct bytes key, MDB_val stored_key, MDB_val stored)
{
	struct bytes value;

	if (!row_open(bytes_in(stored_key), bytes_in(stored), &value))
		return MDB_CORRUPTED;
	count(g, key, value, false);
	return 0;
}

/* ---- nodes of long keys ---- */
static int name_node(void *arg, const struct place *at, uint64_t *ret_node)
{
	struct merge *g = arg;
	MDB_val k = { at->len, (void *)(uintptr_t)at->key }, v;
	uint8_t node[NODE_BYTES];

	*ret_node = g->sums.next_node++;
	put_be64(node, *ret_node);
	v = (MDB_val){ sizeof node, node };
	return mdb_put(g->txn, at->dbi, &k, &v, 0);
}

/* 0: it has a row; MDB_NOTFOUND. */
static int node_first(struct merge *g, uint64_t node)
{
	uint8_t key[NODE_BYTES];
	MDB_val k = { sizeof key, key }, v;
	int rc;

	put_be64(key, node);
	rc = mdb_cursor_get(g->longs, &k, &v, MDB_SET_RANGE);
	if (rc != 0)
		return rc;
	if (k.mv_size <= NODE_BYTES)
		return MDB_CORRUPTED;
	return be64(k.mv_data) == node ? 0 : MDB_NOTFOUND;
}

/* A row is gone: a node without rows takes the row that names it along, and so on upwards (T1). */
static int prune(struct merge *g, const struct naming *names, unsigned n)
{
	int rc = 0;

	while (n > 0 && rc == 0) {
		MDB_val k = { names[n - 1].at.len, (void *)(uintptr_t)names[n - 1].at.key };

		rc = node_first(g, names[n - 1].node);
		if (rc != MDB_NOTFOUND)
			return rc;
		rc = mdb_del(g->txn, names[--n].at.dbi, &k, NULL);
	}
	return rc;
}

/* ---- rows ---- */
static int put_at(
	struct merge *g, MDB_cursor *cursor, MDB_val k, struct bytes value, unsigned flags)
{
	MDB_val v = { value.len + SUM_BYTES, NULL };
	uint8_t *to;
	int rc = mdb_cursor_put(cursor, &k, &v, flags | MDB_RESERVE);

	if (rc != 0)
		return rc;
	to = v.mv_data;
	if (value.len > 0)
		memcpy(to, value.p, value.len);
	put_le32(to + value.len, row_sum(bytes_in(k), value));
	return 0;
}

static int put_or_delete(
	struct merge *g, MDB_cursor *cursor, MDB_val k, const struct memtable_row *row)
{
	MDB_val v;
	int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET), found = rc == 0;

	if (rc == MDB_NOTFOUND)
		rc = 0;
	if (rc == 0 && found)
		rc = uncount(g, row->key, k, v);
	if (rc == 0 && row->deleted)
		return found ? mdb_cursor_del(cursor, 0) : 0;
	if (rc != 0)
		return rc;
	count(g, row->key, row->value, true);
	return put_at(g, cursor, k, row->value, 0);
}

static int merge_long(struct merge *g, const struct memtable_row *row)
{
	struct naming names[LEVELS_MAX];
	struct place at;
	unsigned n = 0;
	int rc = tree_locate(
		g->t, g->txn, row->key, &at, row->deleted ? NULL : name_node, g, names, &n);

	if (rc != 0)
		return row->deleted && rc == MDB_NOTFOUND ? 0 : rc;
	rc = put_or_delete(g, g->longs, (MDB_val){ at.len, at.key }, row);
	return rc == 0 && row->deleted ? prune(g, names, n) : rc;
}

static int use_cursor(struct merge *g, MDB_dbi dbi, MDB_cursor **at)
{
	return *at != NULL ? 0 : mdb_cursor_open(g->txn, dbi, at);
}

/* The table's database: made when it is missing and a row is to go into it. */
static int enter_table(struct merge *g, unsigned table, bool make)
{
	struct tree *t = g->t;
	MDB_val k, v;
	char name[8];
	int rc = 0;

	g->table = table;
	g->append = false;
	g->there = t->has_table[table] || g->made[table] || make;
	if (!g->there)
		return 0;
	if (!t->has_table[table] && !g->made[table]) {
		table_name(table, name);
		rc = mdb_dbi_open(g->txn, name, MDB_CREATE, &t->tables[table]);
		g->made[table] = rc == 0;
	}
	if (rc != 0 || (rc = use_cursor(g, t->tables[table], &g->tables[table])) != 0 ||
		(rc = use_cursor(g, t->longs, &g->longs)) != 0)
		return rc;
	rc = mdb_cursor_get(g->tables[table], &k, &v, MDB_LAST);
	g->last_len = rc == 0 ? k.mv_size : 0;
	if (rc == 0)
		memcpy(g->last, k.mv_data, k.mv_size);
	return rc == MDB_NOTFOUND ? 0 : rc;
}

static int merge_row(struct merge *g, const struct memtable_row *row)
{
	unsigned table = row->key.p[0];
	MDB_val k = val_of(row->key);
	int rc;

	if ((table != g->table || (!g->there && !row->deleted)) &&
		(rc = enter_table(g, table, !row->deleted)) != 0)
		return rc;
	if (!g->there)
		return 0;
	if (row->key.len > PIECE_FIRST)
		return merge_long(g, row);
	if (!g->append)
		g->append = bytes_compare(row->key, bytes_of(g->last, g->last_len)) > 0;
	if (!g->append)
		return put_or_delete(g, g->tables[table], k, row);
	if (row->deleted)
		return 0;
	count(g, row->key, row->value, true);
	return put_at(g, g->tables[table], k, row->value, MDB_APPEND);
}

static int merge_rows(struct merge *g)
{
	struct memtable_sorted rows = memtable_sort(g->m);
	struct memtable_row row;
	int rc = 0;

	g->what = "write rows to";
	g->table = NO_TABLE;
	for (size_t i = 0; rc == 0 && i < rows.n; i++) {
		memtable_row(g->m, rows.refs[i], &row);
		rc = merge_row(g, &row);
	}
	memtable_sorted_free(&rows);
	return rc;
}

/* ---- ranges ---- */
/* One level of a range, relative to where the level begins. */
struct cut {
	struct merge *g;
	MDB_cursor *cursor;
	MDB_dbi dbi;
	unsigned level;
	uint64_t node;
	struct bytes from, to; /* an empty from: the beginning; an empty to with to_end: the end */
	bool to_end;
	uint8_t *key; /* the whole key of this level's beginning, and room behind it */
	size_t depth;
};

static int cut_level(struct cut *c);

static int cut_seek(const struct cut *c, MDB_val *ret_k, MDB_val *ret_v)
{
	size_t prefix = prefix_at(c->level), piece = piece_at(c->level);
	bool deeper = c->from.len > piece;
	uint8_t key[STORED_KEY_MAX];
	size_t len = prefix + (deeper ? piece + 1 : c->from.len);

	if (len == 0)
		return mdb_cursor_get(c->cursor, ret_k, ret_v, MDB_FIRST);
	if (c->level > 0)
		put_be64(key, c->node);
	if (c->from.len > 0)
		memcpy(key + prefix, c->from.p, deeper ? piece : c->from.len);
	if (deeper)
		key[prefix + piece] = 0;
	*ret_k = (MDB_val){ len, key };
	return mdb_cursor_get(c->cursor, ret_k, ret_v, MDB_SET_RANGE);
}

/* The node under a naming row; *ret_done when the range ends before it.  Leaves the cursor before
 * the next row. */
static int cut_node(struct cut *c, struct bytes stored, struct bytes named, bool *ret_done)
{
	size_t prefix = prefix_at(c->level), piece = piece_at(c->level);
	struct bytes front = bytes_of(stored.p + prefix, piece);
	bool from_in = c->from.len > piece && memcmp(c->from.p, front.p, piece) == 0;
	bool to_in = c->to.len > piece && memcmp(c->to.p, front.p, piece) == 0;
	uint8_t own[STORED_KEY_MAX];
	MDB_val k = { stored.len, memcpy(own, stored.p, stored.len) }, v;
	struct cut sub = { .g = c->g,
		.dbi = c->g->t->longs,
		.level = c->level + 1,
		.to_end = !to_in,
		.key = c->key,
		.depth = c->depth + piece };
	int rc;

	if (named.len != NODE_BYTES || sub.level == LEVELS_MAX)
		return MDB_CORRUPTED;
	if (!c->to_end && !to_in && bytes_compare(front, c->to) >= 0) {
		*ret_done = true;
		return 0;
	}
	memcpy(c->key + c->depth, front.p, piece);
	sub.node = be64(named.p);
	if (from_in)
		sub.from = bytes_of(c->from.p + piece, c->from.len - piece);
	if (to_in)
		sub.to = bytes_of(c->to.p + piece, c->to.len - piece);
	if ((rc = cut_level(&sub)) != 0 || (rc = node_first(c->g, sub.node)) == MDB_CORRUPTED)
		return rc;
	if (rc != 0 && rc != MDB_NOTFOUND)
		return rc;
	if (mdb_cursor_get(c->cursor, &k, &v, MDB_SET) != 0)
		return MDB_CORRUPTED;
	return rc == MDB_NOTFOUND ? mdb_cursor_del(c->cursor, 0) : 0; /* (T1) */
}

static int cut_row(struct cut *c, MDB_val k, MDB_val v, struct bytes rest, bool *ret_done)
{
	struct bytes key = rest;
	int rc;

	if (!c->to_end && bytes_compare(rest, c->to) >= 0) {
		*ret_done = true;
		return 0;
	}
	if (c->level > 0) {
		memcpy(c->key + c->depth, rest.p, rest.len);
		key = bytes_of(c->key, c->depth + rest.len);
	}
	rc = uncount(c->g, key, k, v);
	return rc != 0 ? rc : mdb_cursor_del(c->cursor, 0);
}

static int cut_level(struct cut *c)
{
	size_t prefix = prefix_at(c->level), piece = piece_at(c->level);
	bool done = false;
	MDB_val k, v;
	int rc = mdb_cursor_open(c->g->txn, c->dbi, &c->cursor);

	if (rc != 0)
		return rc;
	rc = cut_seek(c, &k, &v);
	while (rc == 0) {
		struct bytes rest = bytes_of((uint8_t *)k.mv_data + prefix, k.mv_size - prefix);

		if (k.mv_size <= prefix || rest.len > piece + 1)
			rc = MDB_CORRUPTED;
		else if (c->level > 0 && be64(k.mv_data) != c->node)
			done = true;
		else if (rest.len == piece + 1)
			rc = cut_node(c, bytes_in(k), bytes_in(v), &done);
		else
			rc = cut_row(c, k, v, rest, &done);
		if (rc != 0 || done)
			break;
		rc = mdb_cursor_get(
			c->cursor, &k, &v, MDB_NEXT); /* behind a delete: what took its place */
	}
	mdb_cursor_close(c->cursor);
	return rc == MDB_NOTFOUND ? 0 : rc;
}

static int merge_range(struct merge *g, struct bytes from, struct bytes to)
{
	uint8_t key[PIECE_FIRST + LEVELS_MAX * PIECE_NEXT + 1];
	unsigned last = to.len > 0 ? to.p[0] : TABLES - 1;
	int rc = 0;

	for (unsigned table = from.p[0]; rc == 0 && table <= last; table++) {
		struct cut c = { .g = g, .dbi = g->t->tables[table], .key = key };

		if (!g->t->has_table[table])
			continue;
		c.to_end = to.len == 0 || table < last;
		if (table == from.p[0])
			c.from = from;
		if (!c.to_end)
			c.to = to;
		if ((rc = use_cursor(g, g->t->longs, &g->longs)) == 0)
			rc = cut_level(&c);
	}
	return rc;
}

/* ---- all of it ---- */
static int merge_all(struct merge *g)
{
	MDB_val key = { 4, (void *)(uintptr_t) "mark" }, value;
	uint8_t mark[MARK_BYTES];
	struct bytes from, to;
	int rc = 0;

	g->what = "delete ranges in";
	for (size_t i = 0; rc == 0 && i < memtable_ranges(g->m); i++) {
		memtable_range(g->m, i, &from, &to);
		rc = merge_range(g, from, to);
	}
	if (rc == 0)
		rc = merge_rows(g);
	if (rc != 0)
		return rc;
	mark_encode(g->mark, &g->sums, mark);
	value = (MDB_val){ MARK_BYTES, mark };
	return mdb_put(g->txn, g->t->meta, &key, &value, 0);
}

/* On a worker. */
static void merge_work(void *arg)
{
	struct merge *g = arg;

	g->what = "begin in";
	if ((g->rc = mdb_txn_begin(g->t->env, NULL, 0, &g->txn)) != 0)
		return;
	g->rc = merge_all(g);
	for (unsigned i = 0; i < TABLES; i++)
		if (g->tables[i] != NULL)
			mdb_cursor_close(g->tables[i]);
	if (g->longs != NULL)
		mdb_cursor_close(g->longs);
	if (g->rc != 0) {
		mdb_txn_abort(g->txn);
		return;
	}
	g->what = "commit to";
	g->rc = mdb_txn_commit(g->txn); /* synced */
}

/* LMDB takes a write that the end of the disk cut short for an error of the device.  Neither has
 * changed what the tree is: the pages were free ones, and another try writes them all again. */
static PARKS bool is_full(const struct tree *t)
{
	uint64_t left, total;

	return sys_disk_room(t->sys, t->dir, &left, &total, NULL) == 0 && left < ROOM_BYTES_MIN;
}

static PARKS int merge(struct merge *g, struct err_note *note)
{
	struct tree *t = g->t;
	struct tree_status st;
	int rc = sys_work(t->sys, merge_work, g);

	if (rc < 0)
		return err_set(note, rc, "merge into %s", t->path);
	if (g->rc == MDB_EIO && is_full(t))
		return err_set(note, E_FULL, "%s %s: the disk is full", g->what, t->path);
	if (g->rc != 0)
		return tree_fail(note, g->rc, g->what, t->path);
	if ((rc = tree_renew(t)) != 0)
		return tree_fail(note, rc, "read", t->path);
	for (unsigned i = 0; i < TABLES; i++)
		t->has_table[i] = t->has_table[i] || g->made[i];
	t->mark = *g->mark;
	t->totals = g->sums;
	tree_status(t, &st);
	t->dirty_bytes += g->changed * PAGE_BYTES;
	if (t->dirty_bytes > st.bytes)
		t->dirty_bytes = st.bytes;
	return 0;
}

int tree_merge(struct tree *t, const struct memtable *m, const struct tree_mark *mark,
	struct err_note *note)
{
	struct merge *g = calloc(1, sizeof *g); /* too large for a fiber's stack */
	int rc;

	if (g == NULL)
		return err_set(note, E_NOMEM, "merge into %s", t->path);
	*g = (struct merge){ .t = t, .m = m, .mark = mark, .sums = t->totals };
	rc = merge(g, note);
	free(g);
	return rc;
}
