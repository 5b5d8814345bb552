/* SPDX-License-Identifier: Apache-2.0 */
/* tree.h: the merged rows on disk: an ordered map that is always a crash-safe checkpoint at one log
 * position.  tree_lmdb.c keeps it in LMDB; tree_sim.c, its twin for the simulator, in a file behind
 * the door.  Which one is chosen at link time.
 *
 * One loop reads; one merge at a time writes, on a worker, and readers see it when it is done.  Any
 * doubt about the file is E_CORRUPT: the owner makes another from the older copy and the log. */
#ifndef META_TREE_H
#define META_TREE_H
#include "meta/memtable.h"
#include "sys/sys.h"

struct tree;

/* What log position the rows stand for. */
struct tree_mark {
	uint64_t uuid_hi, uuid_lo, index, lsn, shard_chain;
};

/* Opens or creates dir/name.  E_CORRUPT: not a tree of this format; the caller tries an older copy.
 */
PARKS int tree_open(struct sys *s, const char *dir, const char *name, uint64_t bytes_max,
	struct tree **ret_t, struct err_note *note);
void tree_close(struct tree *t);                  /* no merge may be under way; NULL is fine */
struct tree_mark tree_mark(const struct tree *t); /* all zero in a new tree */

/* Borrowed until the next park.  E_NOTFOUND; E_CORRUPT: not the row that was merged. */
int tree_get(struct tree *t, struct bytes key, struct bytes *ret_value);

/* A walk in key order, for as long as nobody parks.  A cursor may be used for many, one after the
 * other, over merges too; it is freed before the tree. */
struct tree_cursor;
struct tree_cursor *tree_cursor_new(struct tree *t);
void tree_cursor_free(struct tree_cursor *c);
void tree_cursor_seek(
	struct tree_cursor *c, struct bytes from); /* next() gives the first >= from */
/* 1; 0 at the end; E_CORRUPT.  The key is borrowed until the next call. */
int tree_cursor_next(struct tree_cursor *c, struct bytes *ret_key, struct bytes *ret_value);

/* Applies a frozen memtable: its ranges, then its rows, and the mark, in one synced step.  After a
 * failure the tree is as before.  E_FULL: the disk, or bytes_max. */
PARKS int tree_merge(struct tree *t, const struct memtable *m, const struct tree_mark *mark,
	struct err_note *note);
/* Nothing was merged for a while: gives back memory that only merges need. */
PARKS int tree_rest(struct tree *t, struct err_note *note);
/* A compact copy under another name in the same directory, replacing what was there, synced. */
PARKS int tree_copy(struct tree *t, const char *name, struct err_note *note);
/* Replaces dir/name by dir/from; neither may be open. */
PARKS int tree_rename(
	struct sys *s, const char *dir, const char *from, const char *name, struct err_note *note);
PARKS int tree_remove(struct sys *s, const char *dir, const char *name,
	struct err_note *note); /* 0 when missing */
/* Reads every row and holds rows and content against what is recorded: E_CORRUPT.  Does not park
 * before it has read them all: for tests and tools. */
int tree_verify(struct tree *t, struct err_note *note);

/* Follows every page of dir/name, which nobody has open, without believing it: E_CORRUPT.  For
 * whatever may be damaged anywhere.  A file longer than bytes_max is not looked at. */
PARKS int tree_check(struct sys *s, const char *dir, const char *name, uint64_t bytes_max,
	struct err_note *note);

struct tree_status {
	uint64_t bytes;          /* on disk */
	uint64_t resident_bytes; /* of its pages in use */
	uint64_t rows;
	uint64_t content; /* sum of a hash of each row: equal where the rows are equal */
};
void tree_status(const struct tree *t, struct tree_status *ret_st);
/* A row's share of the content. */
uint64_t tree_row_hash(struct bytes key, struct bytes value);
#endif
