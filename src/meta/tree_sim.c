/* SPDX-License-Identifier: Apache-2.0 */
/* The tree's twin for the simulator: rows in memory, in key order, and a file of batches behind the
 * door.  A batch is one merge:
 *
 *    0 magic u32 · crc u32 (of all that follows) · payload length u64 · mark 5 x u64     56 effects
 *
 * A merge appends a batch and syncs; a batch that is not whole ends the file.  Opening writes what
 * it found into a fresh file: after a process was killed, or a sync failed, the old one may be
 * whole in the page cache alone, and the log is cut by what the tree claims to hold. */
#include "base/check.h"
#include "base/hash.h"
#include "meta/record.h"
#include "meta/tree.h"
#include <stdio.h>
#include <stdlib.h>

enum { HEADER_BYTES = 56, PATH_MAX_BYTES = 512, MAGIC = 0x54656572, SLACK_BYTES = 1 << 20 };

struct row {
	uint32_t key_len, value_len;
	uint8_t bytes[];
};
struct rows {
	struct row **at; /* ascending */
	size_t n, room;
};
struct tree {
	struct sys *sys;
	struct sys_file *file;
	char dir[PATH_MAX_BYTES], path[PATH_MAX_BYTES * 2];
	struct tree_mark mark;
	struct rows rows;
	uint64_t end, whole, bytes_max; /* whole: what end was when the file was fresh */
};
struct tree_cursor {
	struct tree *t;
	size_t i;
};

/* ---- rows in memory ---- */
static struct bytes row_key(const struct row *r)
{
	return bytes_of(r->bytes, r->key_len);
}

static struct bytes row_value(const struct row *r)
{
	return bytes_of(r->bytes + r->key_len, r->value_len);
}

static void rows_free(struct rows *rows)
{
	for (size_t i = 0; i < rows->n; i++)
		free(rows->at[i]);
	free(rows->at);
	*rows = (struct rows){ 0 };
}

/* The first row that is not below key. */
static size_t rows_seek(const struct rows *rows, struct bytes key)
{
	size_t low = 0, high = rows->n;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (bytes_compare(row_key(rows->at[mid]), key) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void rows_cut(struct rows *rows, size_t from, size_t to)
{
	check(from <= to);
	check(to <= rows->n);
	for (size_t i = from; i < to; i++)
		free(rows->at[i]);
	if (to > from)
		memmove(rows->at + from, rows->at + to, (rows->n - to) * sizeof *rows->at);
	rows->n -= to - from;
}

static void rows_put(struct rows *rows, struct bytes key, struct bytes value)
{
	size_t i = rows_seek(rows, key);
	struct row *r = malloc(sizeof *r + key.len + value.len);

	check(r != NULL);
	r->key_len = (uint32_t)key.len;
	r->value_len = (uint32_t)value.len;
	memcpy(r->bytes, key.p, key.len);
	if (value.len > 0)
		memcpy(r->bytes + key.len, value.p, value.len);
	if (i < rows->n && bytes_equal(row_key(rows->at[i]), key)) {
		free(rows->at[i]);
		rows->at[i] = r;
		return;
	}
	if (rows->n == rows->room) {
		rows->room = 2 * rows->room + 64;
		rows->at = realloc(rows->at, rows->room * sizeof *rows->at);
		check(rows->at != NULL);
	}
	memmove(rows->at + i + 1, rows->at + i, (rows->n - i) * sizeof *rows->at);
	rows->at[i] = r;
	rows->n++;
}

static bool rows_apply(struct rows *rows, struct bytes payload)
{
	struct reader r = reader_of(payload.p, payload.len);
	struct effect e;

	while (effect_get(&r, &e)) {
		size_t i = rows_seek(rows, e.key);

		if (e.kind == EFFECT_PUT)
			rows_put(rows, e.key, e.value);
		else if (e.kind == EFFECT_RANGE)
			rows_cut(rows, i, rows_seek(rows, e.value));
		else if (i < rows->n && bytes_equal(row_key(rows->at[i]), e.key))
			rows_cut(rows, i, i + 1);
	}
	return r.ok && reader_left(&r) == 0;
}

/* ---- batches ---- */
struct batch {
	uint8_t *p;
	size_t len, room;
};

static void batch_add(struct batch *b, enum effect_kind kind, struct bytes key, struct bytes value)
{
	size_t need = b->len + effect_bytes(key, value);

	if (need > b->room) {
		b->room = 2 * need + PATH_MAX_BYTES;
		b->p = realloc(b->p, b->room);
		check(b->p != NULL);
	}
	b->len = (size_t)(effect_put(b->p + b->len, kind, key, value) - b->p);
	check(b->len <= b->room);
}

static struct batch batch_new(void)
{
	struct batch b = { malloc(HEADER_BYTES), HEADER_BYTES, HEADER_BYTES };

	check(b.p != NULL);
	return b;
}

static void batch_seal(struct batch *b, const struct tree_mark *mark)
{
	struct writer w = writer_of(b->p, HEADER_BYTES);

	write_u32(&w, MAGIC);
	write_u32(&w, 0);
	write_u64(&w, b->len - HEADER_BYTES);
	write_u64(&w, mark->uuid_hi);
	write_u64(&w, mark->uuid_lo);
	write_u64(&w, mark->index);
	write_u64(&w, mark->lsn);
	write_u64(&w, mark->shard_chain);
	check(w.ok && w.p == w.end);
	put_le32(b->p + 4, crc32c(0, b->p + 8, b->len - 8));
}

/* The batch at the front of r, when it is whole. */
static bool batch_get(struct reader *r, struct tree_mark *ret_mark, struct bytes *ret_payload)
{
	const uint8_t *from = r->p;
	uint32_t magic = read_u32(r), crc = read_u32(r);
	uint64_t len = read_u64(r);

	ret_mark->uuid_hi = read_u64(r);
	ret_mark->uuid_lo = read_u64(r);
	ret_mark->index = read_u64(r);
	ret_mark->lsn = read_u64(r);
	ret_mark->shard_chain = read_u64(r);
	if (!r->ok || magic != MAGIC || len > reader_left(r))
		return false;
	*ret_payload = bytes_of(reader_take(r, len), len);
	return crc32c(0, from + 8, HEADER_BYTES - 8 + len) == crc;
}

/* ---- files ---- */
static int path_make(char *to, const char *dir, const char *name, struct err_note *note)
{
	if (snprintf(to, PATH_MAX_BYTES * 2, "%s/%s", dir, name) >= PATH_MAX_BYTES)
		return err_set(note, E_INVALID, "%.100s...: the path is too long", dir);
	return 0;
}

/* All rows and the mark as one batch in a file of their own, synced. */
static PARKS int write_whole(struct tree *t, const char *path, struct err_note *note)
{
	struct batch b = batch_new();
	struct sys_file *f;
	int rc;

	for (size_t i = 0; i < t->rows.n; i++)
		batch_add(&b, EFFECT_PUT, row_key(t->rows.at[i]), row_value(t->rows.at[i]));
	batch_seal(&b, &t->mark);
	rc = sys_open(t->sys, path, SYS_WRITE | SYS_CREATE | SYS_TRUNC, &f, note);
	if (rc == 0) {
		rc = sys_pwrite(f, b.p, b.len, 0, note);
		if (rc == 0)
			rc = sys_sync(f, note);
		sys_close(f);
		if (rc == E_FULL) /* what there was of it */
			(void)sys_unlink(t->sys, path, NULL);
	}
	free(b.p);
	return rc;
}

static PARKS int read_batches(struct tree *t, struct sys_file *f, struct err_note *note)
{
	struct tree_mark mark;
	struct bytes payload;
	struct reader r;
	uint64_t len;
	uint8_t *p;
	int64_t n;
	int rc = sys_file_bytes(f, &len, note);

	if (rc < 0)
		return rc;
	p = malloc(len + 1);
	check(p != NULL);
	n = sys_pread(f, p, len, 0, note);
	r = reader_of(p, n < 0 ? 0 : (size_t)n);
	rc = n < 0 ? (int)n : 0;
	for (bool first = true; rc == 0 && reader_left(&r) > 0; first = false) {
		if (!batch_get(&r, &mark, &payload)) {
			if (first)
				rc = err_set(
					note, E_CORRUPT, "%s: not a tree of this format", t->path);
			break;
		}
		if (!rows_apply(&t->rows, payload))
			rc = err_set(note, E_CORRUPT, "%s: rows that cannot be read", t->path);
		t->mark = mark;
	}
	free(p);
	return rc;
}

/* Everything into a fresh file under the same name, which is then the one that is open. */
static PARKS int rewrite(struct tree *t, const char *name, struct err_note *note)
{
	struct sys_file *f;
	int rc = tree_copy(t, name, note);

	if (rc == 0)
		rc = sys_open(t->sys, t->path, SYS_READ | SYS_WRITE, &f, note);
	if (rc < 0)
		return rc;
	sys_close(t->file);
	t->file = f;
	if ((rc = sys_file_bytes(f, &t->end, note)) < 0)
		return rc;
	t->whole = t->end;
	return 0;
}

int tree_open(struct sys *s, const char *dir, const char *name, uint64_t bytes_max,
	struct tree **ret_t, struct err_note *note)
{
	struct tree *t = calloc(1, sizeof *t);
	struct sys_file *f;
	int rc;

	check(t != NULL);
	t->sys = s;
	t->bytes_max = bytes_max;
	snprintf(t->dir, sizeof t->dir, "%s", dir);
	if ((rc = path_make(t->path, dir, name, note)) == 0)
		rc = sys_open(s, t->path, SYS_READ, &f, note);
	if (rc == 0) {
		rc = read_batches(t, f, note);
		sys_close(f);
	} else if (rc == E_NOTFOUND) {
		rc = 0;
	}
	if (rc == 0)
		rc = rewrite(t, name, note);
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
	sys_close(t->file);
	rows_free(&t->rows);
	free(t);
}

int tree_copy(struct tree *t, const char *name, struct err_note *note)
{
	char path[PATH_MAX_BYTES * 2], fresh[PATH_MAX_BYTES];
	int rc;

	snprintf(fresh, sizeof fresh, "%.400s.new", name);
	if ((rc = path_make(path, t->dir, fresh, note)) < 0 ||
		(rc = write_whole(t, path, note)) < 0)
		return rc;
	return tree_rename(t->sys, t->dir, fresh, name, note);
}

int tree_rename(
	struct sys *s, const char *dir, const char *from, const char *name, struct err_note *note)
{
	char a[PATH_MAX_BYTES * 2], b[PATH_MAX_BYTES * 2];
	int rc;

	if ((rc = path_make(a, dir, from, note)) < 0 || (rc = path_make(b, dir, name, note)) < 0 ||
		(rc = sys_rename(s, a, b, note)) < 0)
		return rc;
	return sys_sync_dir(s, dir, note);
}

int tree_remove(struct sys *s, const char *dir, const char *name, struct err_note *note)
{
	char path[PATH_MAX_BYTES * 2];
	int rc = path_make(path, dir, name, note);

	if (rc == 0)
		rc = sys_unlink(s, path, note);
	return rc == E_NOTFOUND ? 0 : rc;
}

/* ---- merging ---- */
struct batching {
	const struct memtable *m;
	struct batch b;
};

/* On a worker, as the real one does. */
static void batch_make(void *arg)
{
	struct batching *g = arg;
	struct memtable_sorted rows = memtable_sort(g->m);
	struct memtable_row row;
	struct bytes from, to;

	for (size_t i = 0; i < memtable_ranges(g->m); i++) {
		memtable_range(g->m, i, &from, &to);
		batch_add(&g->b, EFFECT_RANGE, from, to);
	}
	for (size_t i = 0; i < rows.n; i++) {
		memtable_row(g->m, rows.refs[i], &row);
		batch_add(&g->b, row.deleted ? EFFECT_DELETE : EFFECT_PUT, row.key,
			row.deleted ? bytes_of(NULL, 0) : row.value);
	}
	memtable_sorted_free(&rows);
}

int tree_merge(struct tree *t, const struct memtable *m, const struct tree_mark *mark,
	struct err_note *note)
{
	struct batching g = { .m = m };
	struct batch b;
	int rc;

	if (t->end > 4 * t->whole + SLACK_BYTES &&
		(rc = rewrite(t, t->path + strlen(t->dir) + 1, note)) < 0)
		return rc;
	g.b = batch_new();
	if ((rc = sys_work(t->sys, batch_make, &g)) < 0) {
		free(g.b.p);
		return err_set(note, rc, "merge into %s", t->path);
	}
	b = g.b;
	batch_seal(&b, mark);
	if (t->end + b.len > t->bytes_max)
		rc = err_set(note, E_FULL, "%s: more than %llu bytes", t->path,
			(unsigned long long)t->bytes_max);
	if (rc == 0)
		rc = sys_pwrite(t->file, b.p, b.len, t->end, note);
	if (rc == 0)
		rc = sys_sync(t->file, note);
	if (rc == 0) {
		check(rows_apply(&t->rows, bytes_of(b.p + HEADER_BYTES, b.len - HEADER_BYTES)));
		t->end += b.len;
		t->mark = *mark;
	}
	free(b.p);
	return rc;
}

/* ---- reading ---- */
struct tree_mark tree_mark(const struct tree *t)
{
	return t->mark;
}

int tree_get(struct tree *t, struct bytes key, struct bytes *ret_value)
{
	size_t i = rows_seek(&t->rows, key);

	if (i == t->rows.n || !bytes_equal(row_key(t->rows.at[i]), key))
		return E_NOTFOUND;
	*ret_value = row_value(t->rows.at[i]);
	return 0;
}

struct tree_cursor *tree_cursor_new(struct tree *t)
{
	struct tree_cursor *c = malloc(sizeof *c);

	check(c != NULL);
	*c = (struct tree_cursor){ t, 0 };
	return c;
}

void tree_cursor_free(struct tree_cursor *c)
{
	free(c);
}

void tree_cursor_seek(struct tree_cursor *c, struct bytes from)
{
	c->i = rows_seek(&c->t->rows, from);
}

int tree_cursor_next(struct tree_cursor *c, struct bytes *ret_key, struct bytes *ret_value)
{
	const struct rows *rows = &c->t->rows;

	if (c->i >= rows->n)
		return 0;
	*ret_key = row_key(rows->at[c->i]);
	*ret_value = row_value(rows->at[c->i++]);
	return 1;
}

static uint64_t content(const struct tree *t)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < t->rows.n; i++)
		sum += tree_row_hash(row_key(t->rows.at[i]), row_value(t->rows.at[i]));
	return sum;
}

void tree_status(const struct tree *t, struct tree_status *ret_st)
{
	*ret_st = (struct tree_status){ t->end, t->end, t->rows.n, content(t) };
}

int tree_verify(struct tree *t, struct err_note *note)
{
	return 0;
} /* read whole when opened */

int tree_check(struct sys *s, const char *dir, const char *name, uint64_t bytes_max,
	struct err_note *note)
{
	return 0;
} /* its batches have sums */

int tree_rest(struct tree *t, struct err_note *note)
{
	return 0;
}
