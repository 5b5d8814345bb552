/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and reading the tree in LMDB.  One read transaction, renewed after each merge: nothing
 * else is written meanwhile, so it pins no page that a merge could use. */
#include "meta/tree_lmdb.h"
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

enum { DATABASES_MAX = TABLES + 2, REST_BYTES_MIN = 16 << 20 };
static const char mark_key[] = "mark";

int tree_error(int rc)
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

int tree_fail(struct err_note *note, int rc, const char *what, const char *path)
{
	return rc == 0 ? 0
		       : err_set(note, tree_error(rc), "%s %s: %s", what, path, mdb_strerror(rc));
}

/* ---- the mark ---- */
void mark_encode(const struct tree_mark *m, const struct tree_totals *sums, uint8_t to[MARK_BYTES])
{
	struct writer w = writer_of(to, MARK_BYTES);

	write_u64(&w, TREE_FORMAT);
	write_u64(&w, m->uuid_hi);
	write_u64(&w, m->uuid_lo);
	write_u64(&w, m->index);
	write_u64(&w, m->lsn);
	write_u64(&w, m->shard_chain);
	write_u64(&w, sums->rows);
	write_u64(&w, sums->content);
	write_u64(&w, sums->next_node);
	write_u64(&w, hash64(TREE_FORMAT, to, MARK_BYTES - 8));
	check(w.ok);
	check(w.p == w.end);
}

static bool mark_decode(struct tree *t, struct bytes from)
{
	struct reader r = reader_of(from.p, from.len);

	if (from.len != MARK_BYTES || read_u64(&r) != TREE_FORMAT)
		return false;
	t->mark.uuid_hi = read_u64(&r);
	t->mark.uuid_lo = read_u64(&r);
	t->mark.index = read_u64(&r);
	t->mark.lsn = read_u64(&r);
	t->mark.shard_chain = read_u64(&r);
	t->totals.rows = read_u64(&r);
	t->totals.content = read_u64(&r);
	t->totals.next_node = read_u64(&r);
	return read_u64(&r) == hash64(TREE_FORMAT, from.p, MARK_BYTES - 8) && r.ok;
}

static int mark_load(struct tree *t, struct err_note *note)
{
	MDB_val key = { sizeof mark_key - 1, (void *)(uintptr_t)mark_key }, value;
	int rc = mdb_get(t->read, t->meta, &key, &value);

	t->mark = (struct tree_mark){ 0 };
	t->totals = (struct tree_totals){ .next_node = 1 };
	if (rc == MDB_NOTFOUND)
		return 0;
	if (rc != 0)
		return tree_fail(note, rc, "read the mark of", t->path);
	if (!mark_decode(t, bytes_in(value)))
		return err_set(note, E_CORRUPT, "%s: not a tree of this format", t->path);
	return 0;
}

/* ---- open ---- */
void table_name(unsigned table, char to[8])
{
	snprintf(to, 8, "t%02x", table & 0xff);
}

/* Opens the databases that are there; makes the two that always are in a file that is new. */
static int open_databases(struct tree *t, MDB_txn *txn)
{
	char name[8];
	MDB_dbi root;
	MDB_stat st;
	int rc = mdb_dbi_open(txn, NULL, 0, &root);

	if (rc != 0 || (rc = mdb_stat(txn, root, &st)) != 0)
		return rc;
	rc = mdb_dbi_open(txn, "meta", st.ms_entries == 0 ? MDB_CREATE : 0, &t->meta);
	if (rc == 0)
		rc = mdb_dbi_open(txn, "long", st.ms_entries == 0 ? MDB_CREATE : 0, &t->longs);
	if (rc == MDB_NOTFOUND)
		return MDB_INCOMPATIBLE; /* something else is in it */
	for (unsigned i = 0; i < TABLES && rc == 0; i++) {
		table_name(i, name);
		rc = mdb_dbi_open(txn, name, 0, &t->tables[i]);
		t->has_table[i] = rc == 0;
		rc = rc == MDB_NOTFOUND ? 0 : rc;
	}
	return rc;
}

static uint64_t env_bytes(const struct tree *t)
{
	MDB_envinfo info;
	MDB_stat st;

	check(mdb_env_info(t->env, &info) == 0);
	check(mdb_env_stat(t->env, &st) == 0);
	return (uint64_t)(info.me_last_pgno + 1) * st.ms_psize;
}

/* Pages behind the end of a file that was cut short would end the process when touched. */
static PARKS int check_length(const struct tree *t, struct err_note *note)
{
	struct sys_file *f;
	uint64_t bytes;
	int rc = sys_open(t->sys, t->path, SYS_READ, &f, note);

	if (rc < 0)
		return rc;
	rc = sys_file_bytes(f, &bytes, note);
	sys_close(f);
	if (rc == 0 && bytes < env_bytes(t) && env_bytes(t) > 2 * SYS_BLOCK)
		return err_set(note, E_CORRUPT, "%s: %llu bytes long, its pages take %llu", t->path,
			(unsigned long long)bytes, (unsigned long long)env_bytes(t));
	return rc;
}

struct opening {
	struct tree *t;
	struct err_note *note;
	int rc;
};

/* Touches only the tree: may run on a worker as long as nobody reads. */
static void env_open(void *arg)
{
	struct opening *o = arg;
	struct tree *t = o->t;
	int rc, dead;

	if ((rc = mdb_env_create(&t->env)) == 0 &&
		(rc = mdb_env_set_mapsize(t->env, t->bytes_max)) == 0 &&
		(rc = mdb_env_set_maxdbs(t->env, DATABASES_MAX)) == 0 &&
		(rc = mdb_env_open(
			 t->env, t->path, MDB_NOSUBDIR | MDB_NOTLS | MDB_NORDAHEAD, 0600)) == 0)
		rc = mdb_reader_check(t->env, &dead);
	o->rc = tree_fail(o->note, rc, "open", t->path);
}

static void env_begin(void *arg)
{
	struct opening *o = arg;
	struct tree *t = o->t;
	MDB_txn *txn;
	int rc = mdb_txn_begin(t->env, NULL, 0, &txn);

	if (rc == 0 && (rc = open_databases(t, txn)) != 0)
		mdb_txn_abort(txn);
	else if (rc == 0)
		rc = mdb_txn_commit(txn);
	if (rc == 0)
		rc = mdb_txn_begin(t->env, NULL, MDB_RDONLY, &t->read);
	t->generation++;
	o->rc = tree_fail(o->note, rc, "begin in", t->path);
}

static PARKS int open_all(struct tree *t, struct err_note *note)
{
	struct opening o = { t, note, 0 };
	MDB_stat st;
	int rc = sys_work(t->sys, env_open, &o);

	if (rc < 0)
		return err_set(note, rc, "open %s", t->path);
	if (o.rc < 0 || (o.rc = check_length(t, note)) < 0)
		return o.rc;
	if ((rc = sys_work(t->sys, env_begin, &o)) < 0)
		return err_set(note, rc, "open %s", t->path);
	if (o.rc < 0)
		return o.rc;
	check(mdb_env_get_maxkeysize(t->env) >= STORED_KEY_MAX);
	check(mdb_env_stat(t->env, &st) == 0);
	t->page_bytes = st.ms_psize;
	return mark_load(t, note);
}

int tree_open(struct sys *s, const char *dir, const char *name, uint64_t bytes_max,
	struct tree **ret_t, struct err_note *note)
{
	struct tree *t = calloc(1, sizeof *t);
	int rc;

	if (t == NULL)
		return err_set(note, E_NOMEM, "no memory for a tree");
	t->sys = s;
	t->bytes_max = bytes_max;
	list_init(&t->cursors);
	snprintf(t->dir, sizeof t->dir, "%s", dir);
	if ((size_t)snprintf(t->path, sizeof t->path, "%s/%s", dir, name) >= sizeof t->path)
		rc = err_set(note, E_INVALID, "%.100s...: the path is too long", dir);
	else
		rc = open_all(t, note);
	if (rc < 0) {
		tree_close(t);
		return rc;
	}
	*ret_t = t;
	return 0;
}

static void env_close(struct tree *t)
{
	if (t->read != NULL)
		mdb_txn_abort(t->read);
	if (t->env != NULL)
		mdb_env_close(t->env);
	t->read = NULL;
	t->env = NULL;
}

void tree_close(struct tree *t)
{
	if (t == NULL)
		return;
	check(list_empty(&t->cursors));
	env_close(t);
	free(t);
}

struct tree_mark tree_mark(const struct tree *t)
{
	return t->mark;
}

int tree_renew(struct tree *t)
{
	mdb_txn_reset(t->read);
	t->generation++;
	return mdb_txn_renew(t->read);
}

/* ---- points ---- */
int tree_locate(const struct tree *t, MDB_txn *txn, struct bytes key, struct place *at,
	name_node_fn *name_node, void *arg, struct naming *ret_names, unsigned *ret_n_names)
{
	at->dbi = t->tables[key.p[0]];
	at->len = 0;
	for (unsigned level = 0;; level++) {
		size_t piece = piece_at(level), prefix = prefix_at(level);
		MDB_val k, v;
		uint64_t node;
		int rc;

		check(level < LEVELS_MAX);
		memcpy(at->key + prefix, key.p, key.len <= piece ? key.len : piece);
		at->len = prefix + key.len;
		if (key.len <= piece)
			return 0;
		at->key[prefix + piece] = 0;
		at->len = prefix + piece + 1;
		k = (MDB_val){ at->len, at->key };
		rc = mdb_get(txn, at->dbi, &k, &v);
		if (rc == 0 && v.mv_size == NODE_BYTES)
			node = be64(v.mv_data);
		else if (rc == MDB_NOTFOUND && name_node != NULL)
			rc = name_node(arg, at, &node);
		else if (rc == 0)
			rc = MDB_CORRUPTED;
		if (rc != 0)
			return rc;
		if (ret_names != NULL) {
			ret_names[level] = (struct naming){ *at, node };
			*ret_n_names = level + 1;
		}
		put_be64(at->key, node);
		at->dbi = t->longs;
		key = bytes_of(key.p + piece, key.len - piece);
	}
}

int tree_get(struct tree *t, struct bytes key, struct bytes *ret_value)
{
	MDB_val k = val_of(key), v;
	struct place at;
	int rc = 0;

	if (t->read == NULL) /* tree_rest() has failed */
		return E_IO;
	if (!t->has_table[key.p[0]])
		return E_NOTFOUND;
	at.dbi = t->tables[key.p[0]];
	if (key.len > PIECE_FIRST) {
		rc = tree_locate(t, t->read, key, &at, NULL, NULL, NULL, NULL);
		k = (MDB_val){ at.len, at.key };
	}
	if (rc == 0)
		rc = mdb_get(t->read, at.dbi, &k, &v);
	if (rc != 0)
		return tree_error(rc);
	return value_inside(t, bytes_in(v)) && row_open(bytes_in(k), bytes_in(v), ret_value)
		       ? 0
		       : E_CORRUPT;
}

/* ---- walks ---- */
/* A cursor of LMDB that belongs to one database, and the row it stands on. */
struct level {
	MDB_cursor *cursor;
	uint64_t generation;
	bool fresh; /* stands on a row that was not looked at yet */
	MDB_val key, value;
	uint64_t node;
	size_t depth; /* bytes of the whole key before this level */
};
struct tree_cursor {
	struct list link;
	struct tree *t;
	unsigned table, n; /* n: levels in use; 0: at the end */
	int rc;
	MDB_cursor *first[TABLES];
	uint64_t first_generation[TABLES];
	struct level levels[LEVELS_MAX];
	uint8_t key[MEMTABLE_KEY_BYTES_MAX];
};

struct tree_cursor *tree_cursor_new(struct tree *t)
{
	struct tree_cursor *c = calloc(1, sizeof *c);

	check(c != NULL);
	c->t = t;
	list_push(&t->cursors, &c->link);
	return c;
}

static void cursors_close(struct tree_cursor *c)
{
	for (unsigned i = 0; i < TABLES; i++) {
		if (c->first[i] != NULL)
			mdb_cursor_close(c->first[i]);
		c->first[i] = NULL;
	}
	c->levels[0].cursor = NULL;
	for (unsigned i = 1; i < LEVELS_MAX; i++) {
		if (c->levels[i].cursor != NULL)
			mdb_cursor_close(c->levels[i].cursor);
		c->levels[i].cursor = NULL;
	}
	c->n = 0;
}

void tree_cursor_free(struct tree_cursor *c)
{
	if (c == NULL)
		return;
	cursors_close(c);
	list_remove(&c->link);
	free(c);
}

static int cursor_use(struct tree *t, MDB_dbi dbi, MDB_cursor **at, uint64_t *generation)
{
	int rc = 0;

	if (*at == NULL)
		rc = mdb_cursor_open(t->read, dbi, at);
	else if (*generation != t->generation)
		rc = mdb_cursor_renew(t->read, *at);
	*generation = t->generation;
	return rc;
}

/* Enters the table, or the next that there is, at its first row. */
static int enter_table(struct tree_cursor *c, unsigned table)
{
	struct tree *t = c->t;
	int rc;

	for (; table < TABLES; table++) {
		struct level *lv = &c->levels[0];

		if (!t->has_table[table])
			continue;
		if ((rc = cursor_use(t, t->tables[table], &c->first[table],
			     &c->first_generation[table])) != 0)
			return rc;
		lv->cursor = c->first[table];
		rc = mdb_cursor_get(lv->cursor, &lv->key, &lv->value, MDB_FIRST);
		if (rc == MDB_NOTFOUND)
			continue;
		lv->fresh = true;
		lv->depth = 0;
		c->table = table;
		c->n = 1;
		return rc;
	}
	c->n = 0;
	return 0;
}

/* Stands on the first row of this level, at or behind where rest would be; true when that is the
 * row that names the node in which rest goes on. */
static int level_seek(struct tree_cursor *c, unsigned i, struct bytes rest, bool *ret_deeper)
{
	struct level *lv = &c->levels[i];
	size_t prefix = prefix_at(i), piece = piece_at(i);
	bool deeper = rest.len > piece;
	uint8_t key[STORED_KEY_MAX];
	size_t len = prefix + (deeper ? piece + 1 : rest.len);
	int rc;

	if (i > 0)
		put_be64(key, lv->node);
	if (rest.len > 0)
		memcpy(key + prefix, rest.p, deeper ? piece : rest.len);
	if (deeper)
		key[prefix + piece] = 0;
	lv->key = (MDB_val){ len, key };
	rc = mdb_cursor_get(lv->cursor, &lv->key, &lv->value, MDB_SET_RANGE);
	lv->fresh = true;
	*ret_deeper = deeper && rc == 0 && bytes_equal(bytes_in(lv->key), bytes_of(key, len));
	return rc;
}

/* Goes down into the node that the row of the lowest level names. */
static int descend(struct tree_cursor *c)
{
	struct level *up = &c->levels[c->n - 1], *lv = &c->levels[c->n];
	size_t piece = piece_at(c->n - 1), prefix = prefix_at(c->n - 1);

	if (up->value.mv_size != NODE_BYTES || c->n == LEVELS_MAX)
		return MDB_CORRUPTED;
	memcpy(c->key + up->depth, (const uint8_t *)up->key.mv_data + prefix, piece);
	lv->node = be64(up->value.mv_data);
	lv->depth = up->depth + piece;
	c->n++;
	return cursor_use(c->t, c->t->longs, &lv->cursor, &lv->generation);
}

static int seek(struct tree_cursor *c, struct bytes from)
{
	bool deeper = true;
	int rc = enter_table(c, from.len > 0 ? from.p[0] : 0);

	if (rc != 0 || c->n == 0 || from.len == 0 || c->table != from.p[0])
		return rc;
	rc = level_seek(c, 0, from, &deeper);
	while (rc == 0 && deeper) {
		from = bytes_of(from.p + piece_at(c->n - 1), from.len - piece_at(c->n - 1));
		c->levels[c->n - 1].fresh = false;
		if ((rc = descend(c)) == 0)
			rc = level_seek(c, c->n - 1, from, &deeper);
	}
	if (rc == MDB_NOTFOUND) { /* this level ends before it: so next() finds */
		c->levels[c->n - 1].fresh = false;
		c->levels[c->n - 1].key.mv_size = 0;
		rc = 0;
	}
	return rc;
}

void tree_cursor_seek(struct tree_cursor *c, struct bytes from)
{
	check(from.len <= MEMTABLE_KEY_BYTES_MAX);
	c->rc = c->t->read != NULL ? seek(c, from) : MDB_BAD_TXN;
}

/* The row of the lowest level that is next: MDB_NOTFOUND at the end of the level. */
static int level_next(struct tree_cursor *c)
{
	unsigned i = c->n - 1;
	struct level *lv = &c->levels[i];
	int rc = 0;

	if (!lv->fresh)
		rc = mdb_cursor_get(lv->cursor, &lv->key, &lv->value, MDB_NEXT);
	lv->fresh = false;
	if (rc == 0 && lv->key.mv_size < prefix_at(i))
		return MDB_CORRUPTED;
	if (rc == 0 && i > 0 && be64(lv->key.mv_data) != lv->node)
		return MDB_NOTFOUND;
	return rc;
}

/* Steps to the next row with a value. */
static int step(struct tree_cursor *c)
{
	while (c->n > 0) {
		const struct level *lv = &c->levels[c->n - 1];
		int rc = level_next(c);

		if (rc == 0 && lv->key.mv_size != prefix_at(c->n - 1) + piece_at(c->n - 1) + 1)
			return 0;
		if (rc == 0) {
			if ((rc = descend(c)) == 0) {
				bool deeper;

				rc = level_seek(c, c->n - 1, bytes_of(NULL, 0), &deeper);
				if (rc == MDB_NOTFOUND) /* (T1) */
					rc = MDB_CORRUPTED;
			}
		} else if (rc == MDB_NOTFOUND && c->n > 1) {
			c->n--;
			rc = 0;
		} else if (rc == MDB_NOTFOUND) {
			rc = enter_table(c, c->table + 1);
		}
		if (rc != 0)
			return rc;
	}
	return 0;
}

int tree_cursor_next(struct tree_cursor *c, struct bytes *ret_key, struct bytes *ret_value)
{
	const struct level *lv;
	struct bytes stored, rest;

	if (c->rc == 0)
		c->rc = step(c);
	if (c->rc != 0)
		return tree_error(c->rc);
	if (c->n == 0)
		return 0;
	lv = &c->levels[c->n - 1];
	stored = bytes_in(lv->key);
	if (stored.len > STORED_KEY_MAX || !value_inside(c->t, bytes_in(lv->value)) ||
		!row_open(stored, bytes_in(lv->value), ret_value)) {
		c->rc = MDB_CORRUPTED;
		return E_CORRUPT;
	}
	*ret_key = stored;
	if (c->n == 1)
		return 1;
	rest = bytes_of(stored.p + NODE_BYTES, stored.len - NODE_BYTES);
	if (lv->depth + rest.len > sizeof c->key) {
		c->rc = MDB_CORRUPTED;
		return E_CORRUPT;
	}
	memcpy(c->key + lv->depth, rest.p, rest.len);
	*ret_key = bytes_of(c->key, lv->depth + rest.len);
	return 1;
}

int tree_verify(struct tree *t, struct err_note *note)
{
	struct tree_cursor *c = tree_cursor_new(t);
	struct bytes key, value;
	uint64_t rows = 0, content = 0;
	int rc;

	tree_cursor_seek(c, bytes_of(NULL, 0));
	while ((rc = tree_cursor_next(c, &key, &value)) == 1) {
		rows++;
		content += tree_row_hash(key, value);
	}
	tree_cursor_free(c);
	if (rc < 0)
		return err_set(note, rc, "%s: a row or a page is rotten", t->path);
	if (rows != t->totals.rows || content != t->totals.content)
		return err_set(note, E_CORRUPT, "%s: %llu rows, %llu were merged, or others",
			t->path, (unsigned long long)rows, (unsigned long long)t->totals.rows);
	return 0;
}

/* ---- memory ---- */
static void trim(void *arg)
{
	(void)malloc_trim(0);
}

/* LMDB keeps the pages of the largest transaction until its environment is closed, and malloc()
 * keeps what it got back. */
PARKS int tree_rest(struct tree *t, struct err_note *note)
{
	struct opening o = { t, note, 0 };

	if (t->dirty_bytes < REST_BYTES_MIN)
		return 0;
	t->dirty_bytes = 0;
	list_each (n, &t->cursors)
		cursors_close(container_of(n, struct tree_cursor, link));
	env_close(t);
	env_open(&o); /* here and now: others of the loop may read before a worker is back */
	if (o.rc == 0)
		env_begin(&o);
	return o.rc < 0 ? o.rc : sys_work(t->sys, trim, NULL);
}

void tree_status(const struct tree *t, struct tree_status *ret_st)
{
	uint64_t pages = 0;
	MDB_stat st;

	*ret_st = (struct tree_status){ .rows = t->totals.rows, .content = t->totals.content };
	if (t->read == NULL)
		return;
	for (unsigned i = 0; i < TABLES; i++)
		if (t->has_table[i] && mdb_stat(t->read, t->tables[i], &st) == 0)
			pages += st.ms_branch_pages + st.ms_leaf_pages + st.ms_overflow_pages;
	if (mdb_stat(t->read, t->longs, &st) == 0)
		pages += st.ms_branch_pages + st.ms_leaf_pages + st.ms_overflow_pages;
	ret_st->bytes = env_bytes(t);
	ret_st->resident_bytes = pages * st.ms_psize;
}

/* ---- copies ---- */
struct copy {
	struct tree *t;
	const char *path;
	int rc;
};

static void copy_work(void *arg)
{
	struct copy *c = arg;

	c->rc = mdb_env_copy2(c->t->env, c->path, MDB_CP_COMPACT);
}

/* LMDB writes the copy, and does not sync it. */
static PARKS int copy_sync(const struct tree *t, const char *path, struct err_note *note)
{
	struct sys_file *f;
	int rc = sys_open(t->sys, path, SYS_READ | SYS_WRITE, &f, note);

	if (rc < 0)
		return rc;
	rc = sys_sync(f, note);
	sys_close(f);
	return rc;
}

int tree_copy(struct tree *t, const char *name, struct err_note *note)
{
	char to[TREE_PATH_MAX], path[TREE_PATH_MAX];
	struct copy c = { .t = t, .path = path };
	int rc;

	if ((size_t)snprintf(to, sizeof to, "%s.new", name) >= sizeof to ||
		(size_t)snprintf(path, sizeof path, "%s/%s", t->dir, to) >= sizeof path)
		return err_set(note, E_INVALID, "%.100s...: the path is too long", t->dir);
	if ((rc = tree_remove(t->sys, t->dir, to, note)) < 0)
		return rc;
	if ((rc = sys_work(t->sys, copy_work, &c)) < 0)
		return err_set(note, rc, "copy %s", t->path);
	rc = tree_fail(note, c.rc, "copy", t->path);
	if (rc == 0)
		rc = copy_sync(t, path, note);
	if (rc == 0)
		return tree_rename(t->sys, t->dir, to, name, note);
	(void)tree_remove(t->sys, t->dir, to, NULL); /* its room is needed */
	return rc;
}

int tree_rename(
	struct sys *s, const char *dir, const char *from, const char *name, struct err_note *note)
{
	char a[TREE_PATH_MAX * 2], b[TREE_PATH_MAX * 2];
	int rc;

	snprintf(a, sizeof a, "%s/%s", dir, from);
	snprintf(b, sizeof b, "%s/%s", dir, name);
	if ((rc = sys_rename(s, a, b, note)) < 0)
		return rc;
	return sys_sync_dir(s, dir, note);
}

int tree_remove(struct sys *s, const char *dir, const char *name, struct err_note *note)
{
	char path[TREE_PATH_MAX * 2];
	int rc;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	rc = sys_unlink(s, path, note);
	if (rc < 0 && rc != E_NOTFOUND)
		return rc;
	snprintf(path, sizeof path, "%s/%s-lock", dir, name);
	rc = sys_unlink(s, path, note);
	return rc == E_NOTFOUND ? 0 : rc;
}
