/* SPDX-License-Identifier: Apache-2.0 */
/* tree_lmdb.h: what the two halves of the tree in LMDB share: tree_lmdb.c opens and reads,
 * tree_lmdb_merge.c writes.
 *
 * Each table, by the first byte of its keys, is a database of its own ("t6e"), so that keys which
 * ascend within a table are appended: full pages, no search.  A row's value is followed by a crc32c
 * of its key and value.
 *
 * LMDB keys end at 511 bytes.  A key longer than PIECE_FIRST goes on in a *node*: under its first
 * PIECE_FIRST bytes and a zero byte (a length no other row has, right behind the key that equals
 * those bytes and before every other) stands the node's number, and in the database "long", under
 * the number, big-endian, the rest of the key; the same again beyond PIECE_NEXT.  So order is kept,
 * and a key costs the logarithm of how many there are, whatever they share.
 *
 * (T1) A node that is named has a row; the last row of a node takes the row that names it along. */
#ifndef META_TREE_LMDB_H
#define META_TREE_LMDB_H
#include "base/bytes.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/list.h"
#include "meta/tree.h"
#include <lmdb.h>

enum {
	TREE_FORMAT = 2,
	TABLES = 256,
	PIECE_FIRST = 500,
	PIECE_NEXT = 490,
	NODE_BYTES = 8,
	STORED_KEY_MAX = 511,
	LEVELS_MAX = 5,
	SUM_BYTES = 4, /* behind each value */
	MARK_BYTES = 80,
	TREE_PATH_MAX = 512,
};
_Static_assert(PIECE_FIRST + 1 <= STORED_KEY_MAX, "LMDB's bound");
_Static_assert(NODE_BYTES + PIECE_NEXT + 1 <= STORED_KEY_MAX, "LMDB's bound");
_Static_assert(PIECE_FIRST + (LEVELS_MAX - 1) * PIECE_NEXT >= MEMTABLE_KEY_BYTES_MAX,
	"every key has its levels");

struct tree_totals {
	uint64_t rows, content, next_node;
};
struct tree {
	struct sys *sys;
	MDB_env *env;
	MDB_dbi meta, longs;
	MDB_dbi tables[TABLES];
	bool has_table[TABLES];
	MDB_txn *read;
	uint64_t generation; /* of the read transaction: cursors are renewed with it */
	struct list cursors;
	size_t page_bytes;
	uint64_t bytes_max, dirty_bytes; /* dirty: at most what LMDB keeps of past merges */
	char dir[TREE_PATH_MAX], path[TREE_PATH_MAX];
	struct tree_mark mark;
	struct tree_totals totals;
};

/* Where a row stands. */
struct place {
	MDB_dbi dbi;
	uint8_t key[STORED_KEY_MAX];
	size_t len;
};

static inline MDB_val val_of(struct bytes b)
{
	return (MDB_val){ b.len, (void *)(uintptr_t)b.p };
}
static inline struct bytes bytes_in(MDB_val v)
{
	return bytes_of(v.mv_data, v.mv_size);
}
static inline size_t piece_at(unsigned level)
{
	return level == 0 ? PIECE_FIRST : PIECE_NEXT;
}
static inline size_t prefix_at(unsigned level)
{
	return level == 0 ? 0 : NODE_BYTES;
}

static inline uint32_t row_sum(struct bytes stored_key, struct bytes value)
{
	return crc32c(crc32c(0, stored_key.p, stored_key.len), value.p, value.len);
}

/* What stands under a stored key, without its checksum.  False: it is not what was written. */
static inline bool row_open(struct bytes stored_key, struct bytes stored, struct bytes *ret_value)
{
	struct bytes value = bytes_of(stored.p, stored.len - SUM_BYTES);

	if (stored.len < SUM_BYTES || le32(stored.p + value.len) != row_sum(stored_key, value))
		return false;
	*ret_value = value;
	return true;
}

/* Whether a value that a reader was given lies in its page: the length is a field of the page, and
 * LMDB believes it.  Else it is behind the header of a run of pages, which says how many they are.
 * (Not for a writer, whose pages are elsewhere.) */
static inline bool value_inside(const struct tree *t, struct bytes stored)
{
	enum { HEADER = 16, FLAGS_BACK = 6, PAGES_BACK = 4, OVERFLOW_FLAG = 4 };
	size_t off = (uintptr_t)stored.p & (t->page_bytes - 1);

	if (off != HEADER)
		return stored.len <= t->page_bytes - off;
	return le16(stored.p - FLAGS_BACK) == OVERFLOW_FLAG &&
	       stored.len <= (uint64_t)le32(stored.p - PAGES_BACK) * t->page_bytes - HEADER;
}

int tree_error(int mdb_rc); /* its code of err.def */
int tree_fail(struct err_note *note, int mdb_rc, const char *what, const char *path); /* 0 for 0 */
/* A row that names a node. */
struct naming {
	struct place at;
	uint64_t node;
};
/* Follows a key through its nodes: `at` is where its row stands, whether there is one or not.
 * MDB_NOTFOUND when a node is missing; name_node, which may be NULL, then makes it.  ret_names,
 * which may be NULL: the naming rows on the way, at most LEVELS_MAX - 1. */
typedef int name_node_fn(void *arg, const struct place *at, uint64_t *ret_node);
int tree_locate(const struct tree *t, MDB_txn *txn, struct bytes key, struct place *at,
	name_node_fn *name_node, void *arg, struct naming *ret_names, unsigned *ret_n_names);
void mark_encode(const struct tree_mark *m, const struct tree_totals *sums, uint8_t to[MARK_BYTES]);
void table_name(unsigned table, char to[8]);
int tree_renew(struct tree *t); /* reads what was committed last */
#endif
