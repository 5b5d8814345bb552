/* SPDX-License-Identifier: Apache-2.0 */
/* db_own.h: the inside of a db: db.c (reading and writing), db_ids.c, db_run.c (writing the log),
 * db_merge.c (merging), db_open.c. */
#ifndef META_DB_OWN_H
#define META_DB_OWN_H
#include "meta/db.h"
#include "meta/log.h"
#include "meta/memtable.h"
#include "meta/places.h"
#include "meta/record.h"
#include "meta/tail.h"
#include "meta/tree.h"

enum {
	/* at most; less where the disk is small */
	DB_MEMTABLE_BYTES = 64 << 20,
	DB_MERGE_LOG_BYTES = 128 << 20, /* a second or two of a start */
	DB_SEGMENT_BYTES = 32 << 20,
	DB_LOG_KEEP_BYTES = 256 << 20, /* of log behind the older copy before another is made */
	DB_PART_BYTES_MIN = 1 << 20,
	DB_TREE_CHECK_BYTES = 256 << 20, /* page by page at a start, in a fraction of a second */
	DB_RESERVE_TIMES = 2,   /* the memtable: its rows, and the pages that they change */
	DB_IDS_BLOCK = 1 << 20, /* seconds of puts: the next block is durable long before */
	DB_ID_KEY = 1,          /* a table of its own, before those of rows.def */
	DB_DIR_MAX = 400,
	DB_NAME_MAX = 32,
	/* Beyond it writers are told to wait; a record, with what one more request adds, fits into
	 * a message. */
	DB_PENDING_BYTES_MAX = 8 << 20,
	DB_GATHER_BYTES_MAX = 128 << 10, /* pending: more is not kept back for a sync to end */
	DB_PENDING_BYTES_KEEP = 1 << 20, /* larger rooms are given back */
};
/* Rows that are written over again, or read soon, should be merged late; a start reads all the log
 * behind the last merge. */
#define DB_MERGE_EVERY_NS (300 * SYS_SEC)
#define DB_SYNC_EVERY_NS  SYS_SEC /* bounds what a power cut takes of what nobody wanted synced */
#define DB_TREE_BYTES     (UINT64_C(64) << 30)
#define DB_ALLOCATOR      UINT64_C(0) /* top 16 bits of ids: who gave them */
#define DB_RETRY_NS       SYS_SEC
#define DB_REST_NS        (10 * SYS_SEC)
#define DB_SCRUB_EVERY_NS (3600 * SYS_SEC)
#define DB_FIRST_WRITE_NS (30 * SYS_SEC) /* an opening db has written its first record by then */
#define DB_FIRST_COMMIT_NS SYS_SEC /* one that begins to lead waits so long for ids */

struct iter;

/* Effects on their way into a record: header room, then the payload. */
struct pending {
	uint8_t *room;
	size_t len, cap;
	bool any;
};

/* Reading again what is at rest. */
struct pass {
	struct db *db;
	uint64_t step_bytes; /* since the last pause */
	uint8_t key[MEMTABLE_KEY_BYTES_MAX + 1]; /* where it goes on in a tree */
	size_t key_len;
};

struct db {
	struct sys *sys;
	struct group *fibers;
	struct db_opts o;
	char dir[DB_DIR_MAX], log_dir[DB_DIR_MAX + 8];
	struct sys_file *lock;
	struct log *log;
	uint64_t uuid_hi, uuid_lo; /* of the log */
	struct tree *tree; /* NULL: only of a look that found none (db_look.h) */
	struct memtable_pool pool;
	struct memtable *active, *frozen; /* frozen: being merged, or NULL */
	struct iter *iters;               /* to be used again */
	uint64_t frozen_index;            /* the last record in it */
	struct pending pending, writing;  /* writing: sealed; only its room when nothing is */
	uint64_t sealed, written, synced; /* indexes: given to a record, written, durable */
	uint64_t committed, all_synced; /* of several replicas: what moved() tells */
	struct places places;           /* likewise: of the records in the log */
	struct log_reader *applying;    /* of a follower: at sealed, or NULL */
	struct tail tail;               /* likewise: what was written last */
	uint64_t want_sync;
	uint64_t asked_index;           /* the last record that was sealed with a sync wanted */
	size_t asked_len;
	uint64_t merged, old_index; /* old_index: of the older copy of the tree; 0: there is none */
	uint64_t id_next, id_mark, id_asked; /* ids below id_mark are durable as given */
	uint64_t id_asked_index;
	uint64_t fresh_log_bytes; /* since the last freeze */
	uint64_t records, syncs, merges, seed;
	uint32_t walks; /* under way: changes are a bug meanwhile */
	struct waitq dirty, sync, merge, moved, apply, scrubs;
	struct db_scrub scrub;
	uint64_t heal_index;   /* the log is made anew up to this record, for it is rotten */
	struct pass pass;
	bool scrub_hurry;      /* somebody waits for it */
	bool old_rotten;       /* the older copy: another is made */
	int why_rc; /* of the first failure */
	struct err_note why;
	bool failed, freeze;
	bool follows;             /* another replica leads: nothing is put or deleted here */
	bool hurried;             /* somebody waits for what is pending, but not for its sync */
	bool gathered;            /* it is not added to, not even in this turn */
	bool held;                /* no record is begun: this one ceases to lead, maybe */
	bool in_apply;            /* the applier is at a record */
	bool merging, syncing;    /* under way */
	bool holds_sync;          /* none may begin */
	bool full;     /* the disk was: only what makes room is done */
	bool stuck;    /* a record waits for room */
	bool reserved; /* the file `reserve` is there */
	bool copy_wanted; /* by db_copy_tree(): of the tree, under the name db_sent */
	int copy_rc;
	bool pinned;   /* the log is kept from pin_index on, for that copy */
	uint64_t pin_index;
	bool rotten;   /* a read found a row of the tree that nobody merged */
};

/* ---- db.c ---- */
/* The effects of a record to the active memtable; E_CORRUPT. */
int db_apply(struct db *db, struct bytes payload);
bool db_memtable_full(const struct db *db);
bool db_log_short(const struct db *db); /* the disk is full, and so is the log, nearly */
void db_iters_free(struct db *db);

void db_rot(struct db *db);   /* a row of the tree is not what was merged */
void db_touch(struct db *db); /* a record is to be written, though nothing has changed */

/* ---- db_scrub.c ---- */
bool db_heals(const struct db *db); /* the log is being made anew */
PARKS int db_scrubber(void *arg);

/* ---- db_ids.c ---- */
int db_ids_find(struct db *db, struct err_note *note);
PARKS int db_ids_first(struct db *db, struct err_note *note); /* until ids can be given */
void db_ids_synced(struct db *db);

/* ---- db_run.c: flusher and syncer ---- */
int db_start(struct db *db, struct group *g);
void db_written_one(struct db *db); /* the log has another record */
void db_let_go(struct db *db);      /* indexes moved */
/* Whether what is pending is kept back; when it was until a sync ended, here or elsewhere: whether
 * that was all. */
bool db_gathers(const struct db *db);
void db_gathered(struct db *db);
void db_fail(struct db *db, int rc, const struct err_note *note);

/* ---- db_replica.c ---- */
/* Notes the place of the log's last record, and keeps its payload, which is in db->writing. */
void db_grew(struct db *db);
PARKS int db_applier(void *arg);
bool db_may_merge(const struct db *db, uint64_t index);

/* ---- db_merge.c: the merger, and what it keeps ---- */
#define DB_SENT "sent" /* the copy of the tree that is sent */
PARKS int db_merger(void *arg);
void db_freeze(struct db *db); /* the active memtable, which ends with a record; none is frozen */
PARKS int db_merge_now(
	struct db *db, struct err_note *note); /* frozen into the tree; no fibers needed */
/* The newest older copy; what is left of others goes. */
PARKS int db_old_find(struct db *db, struct err_note *note);
void db_old_name(uint64_t index, char to[DB_NAME_MAX]);
/* Where the disk is full: what can be done without. */
PARKS int db_old_drop(struct db *db, struct err_note *note);
PARKS int db_reserve_drop(struct db *db, struct err_note *note);
#endif
