/* SPDX-License-Identifier: Apache-2.0 */
/* The structure of an LMDB file, page by page, before LMDB follows it: LMDB believes its pages, and
 * a flipped bit in an offset or a length leads it out of the file.  What rows and keys say is not
 * looked at here: rows have their own sums.
 *
 * A page: number u64 · pad u16 · flags u16 · lower u16 · upper u16 (of a run of pages: how many,
 * u32), then offsets u16 of its nodes.  A node: two halves of a length (or, with the flags, of a
 * page's number) u16 u16 · flags u16 · length of the key u16 · key · value.  A tree's root stands
 * in a record of 48 bytes: in the meta page for the two trees of LMDB itself, in a node for the
 * others. */
#include "meta/tree_lmdb.h"
#include <stdio.h>
#include <stdlib.h>

enum {
	HEADER_BYTES = 16,
	NODE_HEADER_BYTES = 8,
	DB_BYTES = 48,
	DB_ROOT = 40,
	META_AT = 16,
	META_DBS = 24,
	META_LAST = 120,
	META_TXN = 128,
	PAGE_BRANCH = 1,
	PAGE_LEAF = 2,
	PAGE_OVERFLOW = 4,
	PAGE_META = 8,
	NODE_BIG = 1,
	NODE_TREE = 2,
	DEPTH_MAX = 32,
	RUN_PAGES = 64,
};
#define MAGIC   0xbeefc0deu
#define NO_ROOT UINT64_MAX

struct step {
	uint64_t page;
	unsigned node, n;
};
struct checking {
	struct sys_file *f;
	struct err_note *note;
	const char *path;
	uint32_t page_bytes;
	uint64_t last, seen; /* last page; how many were looked at: a circle never ends */
	uint8_t *run;        /* shows RUN_PAGES from run_at on */
	uint64_t run_at, n_run;
	struct step steps[2 * DEPTH_MAX];
	unsigned depth;
};

static int bad(struct checking *c, uint64_t page, const char *why)
{
	return err_set(
		c->note, E_CORRUPT, "%s: page %llu: %s", c->path, (unsigned long long)page, why);
}

static PARKS int show(struct checking *c, uint64_t page, const uint8_t **ret_p)
{
	int64_t n;

	if (page > c->last)
		return bad(c, page, "there is no such page");
	if (page < c->run_at || page >= c->run_at + c->n_run) {
		n = sys_pread(c->f, c->run, (size_t)RUN_PAGES * c->page_bytes, page * c->page_bytes,
			c->note);
		if (n < 0)
			return (int)n;
		c->run_at = page;
		c->n_run = (uint64_t)n / c->page_bytes;
		if (c->n_run == 0)
			return bad(c, page, "it is behind the end of the file");
	}
	*ret_p = c->run + (page - c->run_at) * c->page_bytes;
	return 0;
}

static PARKS int check_big(struct checking *c, uint64_t page, uint64_t len)
{
	const uint8_t *p = NULL;
	uint64_t pages;
	int rc = show(c, page, &p);

	if (rc < 0)
		return rc;
	pages = le32(p + 12);
	if (le64(p) != page || le16(p + 10) != PAGE_OVERFLOW || pages == 0 ||
		page + pages - 1 > c->last || len > pages * c->page_bytes - HEADER_BYTES)
		return bad(c, page, "it is not the run of pages that a row says");
	c->seen += pages;
	return 0;
}

static PARKS int push(struct checking *c, uint64_t page)
{
	const uint8_t *p = NULL;
	unsigned lower, flags;
	int rc;

	if (c->depth == 2 * DEPTH_MAX)
		return bad(c, page, "too deep");
	if (++c->seen > c->last + 1)
		return bad(c, page, "pages are named twice");
	if ((rc = show(c, page, &p)) < 0)
		return rc;
	lower = le16(p + 12);
	flags = le16(p + 10);
	if (le64(p) != page || (flags != PAGE_BRANCH && flags != PAGE_LEAF) ||
		lower < HEADER_BYTES || lower > le16(p + 14) || le16(p + 14) > c->page_bytes ||
		lower % 2 != 0 || (flags == PAGE_BRANCH && lower < HEADER_BYTES + 4))
		return bad(c, page, "its header is not one");
	c->steps[c->depth++] = (struct step){ page, 0, (lower - HEADER_BYTES) / 2 };
	return 0;
}

/* A value in a page of rows: in it, in a run of its own, or the root of a tree. */
static PARKS int check_leaf(struct checking *c, uint64_t page, const uint8_t *node, size_t room)
{
	uint64_t len = le16(node) | (uint64_t)le16(node + 2) << 16;
	unsigned flags = le16(node + 4), key = le16(node + 6);
	const uint8_t *value = node + NODE_HEADER_BYTES + key;
	size_t need = (size_t)NODE_HEADER_BYTES + key;

	if (flags != 0 && flags != NODE_BIG && flags != NODE_TREE)
		return bad(c, page, "a node of no kind");
	if (key > STORED_KEY_MAX || need + (flags == NODE_BIG ? 8 : len) > room ||
		(flags == NODE_TREE && len != DB_BYTES))
		return bad(c, page, "a node that does not fit");
	if (flags == NODE_BIG)
		return check_big(c, le64(value), len);
	if (flags == NODE_TREE && le64(value + DB_ROOT) != NO_ROOT)
		return push(c, le64(value + DB_ROOT));
	return 0;
}

static PARKS int check_node(struct checking *c, struct step *s)
{
	const uint8_t *p = NULL, *node;
	unsigned at, flags;
	size_t room;
	int rc = show(c, s->page, &p);

	if (rc < 0)
		return rc;
	at = le16(p + HEADER_BYTES + 2 * s->node++);
	if (at < le16(p + 14) || at + NODE_HEADER_BYTES > c->page_bytes)
		return bad(c, s->page, "a node outside of it");
	node = p + at;
	room = c->page_bytes - at;
	flags = le16(p + 10);
	if (flags == PAGE_LEAF)
		return check_leaf(c, s->page, node, room);
	if (le16(node + 6) > STORED_KEY_MAX || (size_t)NODE_HEADER_BYTES + le16(node + 6) > room)
		return bad(c, s->page, "a node that does not fit");
	return push(
		c, le16(node) | (uint64_t)le16(node + 2) << 16 | (uint64_t)le16(node + 4) << 32);
}

static PARKS int check_tree(struct checking *c, uint64_t root)
{
	int rc = root == NO_ROOT ? 0 : push(c, root);

	while (rc == 0 && c->depth > 0) {
		struct step *s = &c->steps[c->depth - 1];

		if (s->node == s->n)
			c->depth--;
		else
			rc = check_node(c, s);
	}
	return rc;
}

/* The newer of the two meta pages, as LMDB takes it: its page size and its trees. */
static PARKS int check_meta(struct checking *c, uint64_t ret_roots[2])
{
	uint8_t room[2][HEADER_BYTES + META_TXN + 8];
	const uint8_t *best = NULL;

	c->page_bytes = SYS_BLOCK;
	for (unsigned i = 0; i < 2; i++) {
		int64_t n = sys_pread(
			c->f, room[i], sizeof room[i], i * (uint64_t)c->page_bytes, c->note);
		const uint8_t *m = room[i] + META_AT;

		if (n < 0)
			return (int)n;
		if (n != sizeof room[i] || le16(room[i] + 10) != PAGE_META || le32(m) != MAGIC)
			return bad(c, i, "it is no meta page");
		if (i == 0) /* the pad of the first tree's record is the size of a page */
			c->page_bytes = le32(m + META_DBS);
		if (c->page_bytes < 512 || c->page_bytes > 65536 ||
			(c->page_bytes & (c->page_bytes - 1)) != 0)
			return bad(c, i, "its pages have no size");
		if (best == NULL || le64(m + META_TXN) > le64(best + META_TXN))
			best = m;
	}
	for (unsigned i = 0; i < 2; i++)
		ret_roots[i] = le64(best + META_DBS + i * DB_BYTES + DB_ROOT);
	c->last = le64(best + META_LAST);
	return 0;
}

static PARKS int check_file(struct checking *c, uint64_t bytes_max)
{
	uint64_t roots[2] = { NO_ROOT, NO_ROOT }, bytes;
	int rc = sys_file_bytes(c->f, &bytes, c->note);

	if (rc < 0 || bytes == 0 || bytes > bytes_max || (rc = check_meta(c, roots)) < 0)
		return rc;
	if (c->last >= bytes / c->page_bytes && c->last > 1)
		return bad(c, c->last, "it is behind the end of the file");
	c->run = malloc((size_t)RUN_PAGES * c->page_bytes);
	if (c->run == NULL)
		return err_set(c->note, E_NOMEM, "no memory for pages");
	rc = check_tree(c, roots[0]);
	return rc < 0 ? rc : check_tree(c, roots[1]);
}

int tree_check(
	struct sys *s, const char *dir, const char *name, uint64_t bytes_max, struct err_note *note)
{
	struct checking *c = calloc(1, sizeof *c);
	char path[TREE_PATH_MAX];
	int rc;

	if (c == NULL)
		return err_set(note, E_NOMEM, "no memory for a look at a tree");
	snprintf(path, sizeof path, "%.400s/%.100s", dir, name);
	c->path = path;
	c->note = note;
	if ((rc = sys_open(s, path, SYS_READ, &c->f, note)) == 0) {
		rc = check_file(c, bytes_max);
		sys_close(c->f);
	}
	free(c->run);
	free(c);
	return rc;
}
