/* SPDX-License-Identifier: Apache-2.0 */
/* The tree in LMDB: one environment, one database, one read transaction that is renewed after each
 * merge, so that no old page is pinned while nothing is merged.
 *
 * LMDB keys end at 511 bytes.  Keys up to SHORT_MAX are stored as they are.  Longer ones that share
 * their first SHORT_MAX bytes live together in one *group* row, whose key is that prefix and one
 * zero byte, so it stands right behind the key that equals the prefix and before every other: order
 * is kept. A group's value: for each member u16 length of the rest of its key, u32 length of its
 * value, both. */
#include "base/check.h"
#include "meta/tree.h"
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	SHORT_MAX = 500,
	GROUP_KEY = SHORT_MAX + 1,
	KEY_MAX = 2048,
	PATH_MAX_BYTES = 512,
	FORMAT = 1
};
static const char mark_key[] = ""; /* the byte 0: before every table */

struct tree {
	struct sys *sys;
	MDB_env *env;
	MDB_dbi dbi;
	MDB_txn *read;
	char dir[PATH_MAX_BYTES], path[PATH_MAX_BYTES];
	struct tree_mark mark;
	uint64_t rows;
	bool walking;
};

static int map_error(int rc)
{
	switch (rc) {
	case 0:
		return 0;
	case MDB_NOTFOUND:
		return E_NOTFOUND;
	case MDB_MAP_FULL:
	case 28 /* ENOSPC */:
		return E_FULL;
	case 12 /* ENOMEM */:
		return E_NOMEM;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_INVALID:
	case MDB_VERSION_MISMATCH:
	case MDB_PANIC:
	case MDB_INCOMPATIBLE:
		return E_CORRUPT;
	case 16 /* EBUSY */:
	case 11 /* EAGAIN */:
		return E_INUSE;
	default:
		return E_IO;
	}
}

static int fail(struct err_note *note, int rc, const char *what, const char *path)
{
	return rc == 0 ? 0
		       : err_set(note, map_error(rc), "%s %s: %s", what, path, mdb_strerror(rc));
}

static MDB_val val_of(struct bytes b)
{
	return (MDB_val){ b.len, (void *)(uintptr_t)b.p };
}
static struct bytes bytes_in(MDB_val v)
{
	return bytes_of(v.mv_data, v.mv_size);
}

/* ---- the mark ---- */
enum { MARK_BYTES = 56 };

static void mark_encode(const struct tree_mark *m, uint64_t rows, uint8_t to[MARK_BYTES])
{
	struct writer w = writer_of(to, MARK_BYTES);

	write_u64(&w, FORMAT);
	write_u64(&w, m->uuid_hi);
	write_u64(&w, m->uuid_lo);
	write_u64(&w, m->index);
	write_u64(&w, m->lsn);
	write_u64(&w, m->shard_chain);
	write_u64(&w, rows);
	check(w.ok && w.p == w.end);
}

static int mark_load(struct tree *t, struct err_note *note)
{
	MDB_val key = { 1, (void *)(uintptr_t)mark_key }, value;
	int rc = mdb_get(t->read, t->dbi, &key, &value);
	struct reader r;

	if (rc == MDB_NOTFOUND)
		return 0;
	if (rc != 0)
		return fail(note, rc, "read the mark of", t->path);
	r = reader_of(value.mv_data, value.mv_size);
	if (read_u64(&r) != FORMAT)
		r.ok = false;
	t->mark.uuid_hi = read_u64(&r);
	t->mark.uuid_lo = read_u64(&r);
	t->mark.index = read_u64(&r);
	t->mark.lsn = read_u64(&r);
	t->mark.shard_chain = read_u64(&r);
	t->rows = read_u64(&r);
	if (!r.ok || reader_left(&r) != 0)
		return err_set(note, E_CORRUPT, "%s: not a tree of this format", t->path);
	return 0;
}

/* ---- open ---- */
static int open_env(struct tree *t, uint64_t bytes_max, struct err_note *note)
{
	unsigned flags = MDB_NOSUBDIR | MDB_NOTLS | MDB_NORDAHEAD | MDB_NOMEMINIT;
	MDB_txn *txn;
	int rc;

	if ((rc = mdb_env_create(&t->env)) != 0 ||
		(rc = mdb_env_set_mapsize(t->env, bytes_max)) != 0 ||
		(rc = mdb_env_open(t->env, t->path, flags, 0600)) != 0)
		return fail(note, rc, "open", t->path);
	if ((rc = mdb_txn_begin(t->env, NULL, 0, &txn)) != 0)
		return fail(note, rc, "begin in", t->path);
	if ((rc = mdb_dbi_open(txn, NULL, 0, &t->dbi)) != 0) {
		mdb_txn_abort(txn);
		return fail(note, rc, "open the rows of", t->path);
	}
	if ((rc = mdb_txn_commit(txn)) != 0)
		return fail(note, rc, "commit in", t->path);
	check(mdb_env_get_maxkeysize(t->env) >= GROUP_KEY);
	return fail(note, mdb_txn_begin(t->env, NULL, MDB_RDONLY, &t->read), "read", t->path);
}

int tree_open(struct sys *s, const char *dir, const char *name, uint64_t bytes_max,
	struct tree **ret_t, struct err_note *note)
{
	struct tree *t = calloc(1, sizeof *t);
	int rc;

	if (t == NULL)
		return err_set(note, E_NOMEM, "no memory for a tree");
	t->sys = s;
	snprintf(t->dir, sizeof t->dir, "%s", dir);
	if ((size_t)snprintf(t->path, sizeof t->path, "%s/%s", dir, name) >= sizeof t->path)
		rc = err_set(note, E_INVALID, "%.100s...: the path is too long", dir);
	else if ((rc = open_env(t, bytes_max, note)) == 0)
		rc = mark_load(t, note);
	if (rc < 0) {
		tree_close(t);
		return rc;
	}
	*ret_t = t;
	return 0;
}

void tree_close(struct tree *t)
{
	if (t == NULL)
		return;
	if (t->read != NULL)
		mdb_txn_abort(t->read);
	if (t->env != NULL)
		mdb_env_close(t->env);
	free(t);
}

struct tree_mark tree_mark(const struct tree *t)
{
	return t->mark;
}
uint64_t tree_rows(const struct tree *t)
{
	return t->rows;
}

/* ---- groups of long keys ---- */
struct member {
	struct bytes rest, value;
};

static bool group_next(struct reader *r, struct member *ret_m)
{
	uint16_t rest;
	uint32_t value;
	const uint8_t *p, *q;

	if (reader_left(r) == 0)
		return false;
	rest = read_u16(r);
	value = read_u32(r);
	p = reader_take(r, rest);
	q = reader_take(r, value);
	if (!r->ok)
		return false;
	*ret_m = (struct member){ bytes_of(p, rest), bytes_of(q, value) };
	return true;
}

static void member_write(struct writer *w, const struct member *m)
{
	write_u16(w, (uint16_t)m->rest.len);
	write_u32(w, (uint32_t)m->value.len);
	write_raw(w, m->rest.p, m->rest.len);
	write_raw(w, m->value.p, m->value.len);
}

static struct bytes group_key(struct bytes key, uint8_t to[GROUP_KEY])
{
	check(key.len > SHORT_MAX);
	memcpy(to, key.p, SHORT_MAX);
	to[SHORT_MAX] = 0;
	return bytes_of(to, GROUP_KEY);
}

static bool is_group(struct bytes key)
{
	return key.len == GROUP_KEY;
}
static struct bytes rest_of(struct bytes key)
{
	return bytes_of(key.p + SHORT_MAX, key.len - SHORT_MAX);
}

int tree_get(struct tree *t, struct bytes key, struct bytes *ret_value)
{
	uint8_t room[GROUP_KEY];
	MDB_val k = val_of(key.len > SHORT_MAX ? group_key(key, room) : key), v;
	struct member m;
	struct reader r;
	int rc = mdb_get(t->read, t->dbi, &k, &v);

	if (rc != 0)
		return map_error(rc);
	if (key.len <= SHORT_MAX) {
		*ret_value = bytes_in(v);
		return 0;
	}
	r = reader_of(v.mv_data, v.mv_size);
	while (group_next(&r, &m)) {
		if (bytes_equal(m.rest, rest_of(key))) {
			*ret_value = m.value;
			return 0;
		}
	}
	return r.ok ? E_NOTFOUND : E_CORRUPT;
}

/* ---- walks ---- */
struct tree_walk {
	struct tree *t;
	MDB_cursor *cursor;
	MDB_val key, value;
	bool fresh;          /* key and value are not given out yet */
	struct reader group; /* members of the group that key is */
	bool in_group;
	struct bytes from;
	uint8_t from_room[KEY_MAX], key_room[KEY_MAX];
};

struct tree_walk *tree_walk_begin(struct tree *t, struct bytes from)
{
	struct tree_walk *w = malloc(sizeof *w);
	uint8_t room[GROUP_KEY];

	check(w != NULL);
	check(from.len <= KEY_MAX);
	w->t = t;
	w->in_group = false;
	w->from = bytes_of(memcpy(w->from_room, from.p, from.len), from.len);
	w->key = val_of(from.len > SHORT_MAX ? group_key(from, room) : from);
	check(mdb_cursor_open(t->read, t->dbi, &w->cursor) == 0);
	w->fresh = mdb_cursor_get(w->cursor, &w->key, &w->value, MDB_SET_RANGE) == 0;
	return w;
}

static bool next_member(struct tree_walk *w, struct bytes *ret_key, struct bytes *ret_value)
{
	struct member m;

	while (group_next(&w->group, &m)) {
		check(SHORT_MAX + m.rest.len <= KEY_MAX);
		memcpy(w->key_room, w->key.mv_data, SHORT_MAX);
		memcpy(w->key_room + SHORT_MAX, m.rest.p, m.rest.len);
		*ret_key = bytes_of(w->key_room, SHORT_MAX + m.rest.len);
		*ret_value = m.value;
		if (bytes_compare(*ret_key, w->from) >= 0)
			return true;
	}
	w->in_group = false;
	return false;
}

bool tree_walk_next(struct tree_walk *w, struct bytes *ret_key, struct bytes *ret_value)
{
	for (;;) {
		if (w->in_group && next_member(w, ret_key, ret_value))
			return true;
		if (!w->fresh && mdb_cursor_get(w->cursor, &w->key, &w->value, MDB_NEXT) != 0)
			return false;
		w->fresh = false;
		if (w->key.mv_size == 1 && *(const char *)w->key.mv_data == mark_key[0])
			continue;
		if (!is_group(bytes_in(w->key))) {
			*ret_key = bytes_in(w->key);
			*ret_value = bytes_in(w->value);
			return true;
		}
		w->group = reader_of(w->value.mv_data, w->value.mv_size);
		w->in_group = true;
	}
}

void tree_walk_end(struct tree_walk *w)
{
	mdb_cursor_close(w->cursor);
	free(w);
}

/* ---- merge ---- */
struct range {
	struct bytes from, to;
};
struct merge {
	struct tree *t;
	struct memtable *m;
	const struct tree_mark *mark;
	MDB_txn *txn;
	MDB_cursor *cursor;
	uint64_t rows;
	const char *what;
	int rc;
};

/* A group's value without the members in [from, to), and with one more when put is not NULL. */
static int group_change(struct merge *g, struct bytes key, struct bytes from, struct bytes to,
	const struct member *put)
{
	MDB_val k = val_of(key), v = { 0, NULL };
	int rc = mdb_get(g->txn, g->t->dbi, &k, &v);
	uint8_t *buf;
	struct writer w;
	struct member m;
	struct reader r;
	bool done = put == NULL;

	if (rc != 0 && rc != MDB_NOTFOUND)
		return rc;
	buf = malloc(v.mv_size + (put != NULL ? 6 + put->rest.len + put->value.len : 0) + 1);
	if (buf == NULL)
		return 12;
	w = writer_of(buf, v.mv_size + (put != NULL ? 6 + put->rest.len + put->value.len : 0));
	r = reader_of(v.mv_data, v.mv_size);
	for (bool more = true; more;) {
		more = group_next(&r, &m);
		if (!done && (!more || bytes_compare(put->rest, m.rest) <= 0)) {
			member_write(&w, put);
			done = true;
			g->rows++;
		}
		if (!more)
			break;
		if (bytes_compare(m.rest, from) >= 0 && bytes_compare(m.rest, to) < 0) {
			g->rows--;
			continue;
		}
		member_write(&w, &m);
	}
	check(w.ok);
	v = (MDB_val){ (size_t)(w.p - buf), buf };
	if (v.mv_size > 0)
		rc = mdb_put(g->txn, g->t->dbi, &k, &v, 0);
	else if (rc == 0)
		rc = mdb_del(g->txn, g->t->dbi, &k, NULL);
	free(buf);
	return rc == MDB_NOTFOUND ? 0 : rc;
}

static int merge_long(struct merge *g, const struct memtable_row *item)
{
	uint8_t room[GROUP_KEY], end[KEY_MAX];
	struct bytes rest = rest_of(item->key);
	struct member put = { rest, item->value };

	memcpy(end, rest.p, rest.len);
	end[rest.len] = 0; /* the smallest key behind rest */
	return group_change(g, group_key(item->key, room), rest, bytes_of(end, rest.len + 1),
		item->deleted ? NULL : &put);
}

static int merge_row(struct merge *g, const struct memtable_row *item)
{
	MDB_val k = val_of(item->key), v = val_of(item->value), old = { 0, NULL };
	int rc;

	if (item->key.len > SHORT_MAX)
		return merge_long(g, item);
	if (item->deleted) {
		rc = mdb_del(g->txn, g->t->dbi, &k, NULL);
		g->rows -= rc == 0;
		return rc == MDB_NOTFOUND ? 0 : rc;
	}
	rc = mdb_cursor_put(g->cursor, &k, &v, MDB_NOOVERWRITE);
	if (rc == 0)
		g->rows++;
	if (rc == MDB_KEYEXIST) {
		old = val_of(item->value);
		rc = mdb_cursor_put(g->cursor, &k, &old, 0);
	}
	return rc;
}

/* The members of a group that lie in a range. */
static int cut_group(struct merge *g, struct bytes key, const struct range *r)
{
	static const uint8_t last[8] = { 255, 255, 255, 255, 255, 255, 255, 255 };
	bool from_here = r->from.len > SHORT_MAX && memcmp(r->from.p, key.p, SHORT_MAX) == 0;
	bool to_here = r->to.len > SHORT_MAX && memcmp(r->to.p, key.p, SHORT_MAX) == 0;
	uint8_t copy[GROUP_KEY];

	memcpy(copy, key.p, key.len); /* key points into the page that is about to change */
	return group_change(g, bytes_of(copy, key.len),
		from_here ? rest_of(r->from) : bytes_of("", 0),
		to_here ? rest_of(r->to) : bytes_of(last, sizeof last), NULL);
}

static int merge_range(struct merge *g, const struct range *r)
{
	uint8_t room[KEY_MAX];
	MDB_val k = val_of(r->from.len > SHORT_MAX ? group_key(r->from, room) : r->from), v;
	int rc = mdb_cursor_get(g->cursor, &k, &v, MDB_SET_RANGE);

	while (rc == 0 && bytes_compare(bytes_in(k), r->to) < 0) {
		struct bytes here = bytes_of(memcpy(room, k.mv_data, k.mv_size), k.mv_size);

		if (is_group(here)) {
			rc = cut_group(g, here, r);
			room[here.len] = 0; /* go on behind it */
			k = val_of(bytes_of(room, here.len + 1));
		} else {
			rc = mdb_cursor_del(g->cursor, 0);
			g->rows--;
			k = val_of(here);
		}
		if (rc == 0)
			rc = mdb_cursor_get(g->cursor, &k, &v, MDB_SET_RANGE);
	}
	return rc == MDB_NOTFOUND ? 0 : rc;
}

static int merge_rows(struct merge *g)
{
	struct memtable_sorted rows = memtable_sort(g->m);
	struct memtable_row row;
	int rc = 0;

	g->what = "write rows to";
	for (size_t i = 0; rc == 0 && i < rows.n; i++) {
		memtable_row(g->m, rows.refs[i], &row);
		rc = merge_row(g, &row);
	}
	memtable_sorted_free(&rows);
	return rc;
}

static int merge_all(struct merge *g)
{
	MDB_val key = { 1, (void *)(uintptr_t)mark_key }, value;
	uint8_t mark[MARK_BYTES];
	int rc = 0;

	g->what = "delete ranges in";
	for (size_t i = 0; rc == 0 && i < memtable_ranges(g->m); i++) {
		struct range r;

		memtable_range(g->m, i, &r.from, &r.to);
		rc = merge_range(g, &r);
	}
	if (rc == 0)
		rc = merge_rows(g);
	if (rc != 0)
		return rc;
	mark_encode(g->mark, g->rows, mark);
	value = (MDB_val){ MARK_BYTES, mark };
	return mdb_put(g->txn, g->t->dbi, &key, &value, 0);
}

/* On a worker. */
static void merge_work(void *arg)
{
	struct merge *g = arg;

	g->what = "begin in";
	if ((g->rc = mdb_txn_begin(g->t->env, NULL, 0, &g->txn)) != 0)
		return;
	if ((g->rc = mdb_cursor_open(g->txn, g->t->dbi, &g->cursor)) == 0) {
		g->rc = merge_all(g);
		mdb_cursor_close(g->cursor);
	}
	if (g->rc != 0) {
		mdb_txn_abort(g->txn);
		return;
	}
	g->what = "commit to";
	g->rc = mdb_txn_commit(g->txn); /* synced */
}

int tree_merge(
	struct tree *t, struct memtable *m, const struct tree_mark *mark, struct err_note *note)
{
	struct merge g = { .t = t, .m = m, .mark = mark, .rows = t->rows };
	int rc = sys_work(t->sys, merge_work, &g);

	if (rc < 0)
		return err_set(note, rc, "merge into %s", t->path);
	if (g.rc != 0)
		return fail(note, g.rc, g.what, t->path);
	mdb_txn_reset(t->read);
	check(mdb_txn_renew(t->read) == 0);
	t->mark = *mark;
	t->rows = g.rows;
	return 0;
}

/* ---- copies ---- */
struct copy {
	struct tree *t;
	char path[PATH_MAX_BYTES + 8];
	int rc;
};

static void copy_work(void *arg)
{
	struct copy *c = arg;

	c->rc = mdb_env_copy2(c->t->env, c->path, MDB_CP_COMPACT);
}

int tree_copy(struct tree *t, const char *name, struct err_note *note)
{
	char to[PATH_MAX_BYTES];
	struct copy c = { .t = t };
	int rc;

	snprintf(to, sizeof to, "%s.new", name);
	if ((rc = tree_remove(t->sys, t->dir, to, note)) < 0)
		return rc;
	if ((size_t)snprintf(c.path, sizeof c.path, "%s/%s", t->dir, to) >= sizeof c.path)
		return err_set(note, E_INVALID, "%.100s...: the path is too long", t->dir);
	if ((rc = sys_work(t->sys, copy_work, &c)) < 0)
		return err_set(note, rc, "copy %s", t->path);
	if (c.rc != 0)
		return fail(note, c.rc, "copy", t->path);
	return tree_rename(t->sys, t->dir, to, name, note);
}

int tree_rename(
	struct sys *s, const char *dir, const char *from, const char *name, struct err_note *note)
{
	char a[PATH_MAX_BYTES * 2], b[PATH_MAX_BYTES * 2];
	int rc;

	snprintf(a, sizeof a, "%s/%s", dir, from);
	snprintf(b, sizeof b, "%s/%s", dir, name);
	if ((rc = sys_rename(s, a, b, note)) < 0)
		return rc;
	return sys_sync_dir(s, dir, note);
}

int tree_remove(struct sys *s, const char *dir, const char *name, struct err_note *note)
{
	char path[PATH_MAX_BYTES * 2];
	int rc;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	rc = sys_unlink(s, path, note);
	if (rc < 0 && rc != E_NOTFOUND)
		return rc;
	snprintf(path, sizeof path, "%s/%s-lock", dir, name);
	rc = sys_unlink(s, path, note);
	return rc == E_NOTFOUND ? 0 : rc;
}

uint64_t tree_bytes(const struct tree *t)
{
	MDB_envinfo info;
	MDB_stat st;

	mdb_env_info(t->env, &info);
	mdb_env_stat(t->env, &st);
	return (uint64_t)(info.me_last_pgno + 1) * st.ms_psize;
}

uint64_t tree_resident_bytes(const struct tree *t)
{
	MDB_stat st;

	if (mdb_stat(t->read, t->dbi, &st) != 0)
		return 0;
	return (uint64_t)(st.ms_branch_pages + st.ms_leaf_pages + st.ms_overflow_pages) *
	       st.ms_psize;
}
