/* SPDX-License-Identifier: Apache-2.0 */
/* tree.h: the merged rows on disk: an ordered map that is always a crash-safe checkpoint at one log
 * position.  tree_lmdb.c keeps it in LMDB; tree_sim.c, its twin for the simulator, in a file behind
 * the door.  Which one is chosen at link time.
 *
 * One loop reads; one merge at a time writes, on a worker, and readers see it when it is done. */
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

int tree_get(struct tree *t, struct bytes key,
	struct bytes *ret_value); /* borrowed until the next call or park */

/* A walk in key order from a key on; not across a park or a merge. */
struct tree_walk;
struct tree_walk *tree_walk_begin(struct tree *t, struct bytes from);
bool tree_walk_next(struct tree_walk *w, struct bytes *ret_key, struct bytes *ret_value);
void tree_walk_end(struct tree_walk *w);

/* Applies a frozen memtable: its ranges, then its rows, and the mark, in one synced step.  After a
 * failure the tree is as before. */
PARKS int tree_merge(
	struct tree *t, struct memtable *m, const struct tree_mark *mark, struct err_note *note);
/* A compact copy under another name in the same directory, replacing what was there, synced. */
PARKS int tree_copy(struct tree *t, const char *name, struct err_note *note);
/* Replaces dir/name by dir/from; neither may be open. */
PARKS int tree_rename(
	struct sys *s, const char *dir, const char *from, const char *name, struct err_note *note);
PARKS int tree_remove(struct sys *s, const char *dir, const char *name,
	struct err_note *note); /* 0 when missing */

uint64_t tree_bytes(const struct tree *t);          /* on disk */
uint64_t tree_resident_bytes(const struct tree *t); /* of its pages, in memory */
uint64_t tree_rows(const struct tree *t);
#endif
