/* SPDX-License-Identifier: Apache-2.0 */
/* db_own.h: the inside of a db, for db.c (reading and writing), db_run.c (its fibers) and
 * db_open.c. */
#ifndef META_DB_OWN_H
#define META_DB_OWN_H
#include "meta/db.h"
#include "meta/log.h"
#include "meta/memtable.h"
#include "meta/record.h"
#include "meta/tree.h"

enum {
	DB_MEMTABLE_BYTES = 64 << 20,
	DB_MERGE_LOG_BYTES = 128 << 20, /* a second or two of a start */
	DB_SEGMENT_BYTES = 64 << 20,
	DB_IDS_BLOCK = 1 << 20, /* seconds of puts: the next block is durable long before */
	DB_ID_KEY = 1,          /* a table of its own, before those of rows.def */
	DB_DIR_MAX = 400,
	DB_OLD_COPY_BYTES = 256 << 20, /* of log since the older copy before another is made */
};
/* Rows that are written over again, or read soon, should be merged late; a start reads all the log
 * behind the last merge. */
#define DB_MERGE_EVERY_NS (300 * SYS_SEC)
#define DB_SYNC_EVERY_NS  SYS_SEC /* bounds what a power cut takes of what nobody wanted synced */
#define DB_TREE_BYTES     (UINT64_C(64) << 30)
#define DB_ALLOCATOR      UINT64_C(0) /* top 16 bits of ids: who gave them */
#define DB_RETRY_NS       SYS_SEC

struct iter;

/* Effects on their way into a record: header room, then the payload. */
struct pending {
	uint8_t *room;
	size_t len, cap;
	bool any;
};

struct db {
	struct sys *sys;
	struct group *fibers;
	struct db_opts o;
	char dir[DB_DIR_MAX], log_dir[DB_DIR_MAX + 8];
	struct log *log;
	struct tree *tree;
	struct memtable_pool pool;
	struct memtable *active, *frozen; /* frozen: being merged, or NULL */
	struct iter *iters;               /* to be used again */
	uint64_t frozen_index;            /* the last record in it */
	struct log_place frozen_place;
	struct pending pending, spare;    /* spare: being written, or empty */
	uint64_t sealed, written, synced; /* indexes: given to a record, written, durable */
	uint64_t want_sync, want_freeze_ns;
	uint64_t merged, old_index, old_log_bytes;
	uint64_t id_next, id_mark, id_asked; /* ids below id_mark are durable as given */
	uint64_t id_asked_index;
	uint64_t fresh_log_bytes; /* since the last freeze */
	uint64_t records, syncs, merges, seed;
	uint32_t walks; /* under way: changes are a bug meanwhile */
	struct waitq dirty, sync, merge, idle;
	int why_rc; /* of the first failure */
	struct err_note why;
	bool failed, freeze;
	bool rotten; /* a read found a row of the tree that nobody merged */
};

/* ---- db.c ---- */
void db_apply(struct db *db, const struct effect *e); /* to the active memtable */
bool db_memtable_full(const struct db *db);
void db_iters_free(struct db *db);
void db_ask_ids(struct db *db); /* writes a higher mark, wants it synced */
void db_ids_synced(struct db *db);

/* ---- db_run.c ---- */
int db_start(struct db *db, struct group *g);
PARKS int db_merge_now(
	struct db *db, struct err_note *note); /* frozen into the tree; no fibers needed */
void db_fail(struct db *db, int rc, const struct err_note *note);
#endif
