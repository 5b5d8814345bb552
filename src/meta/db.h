/* SPDX-License-Identifier: Apache-2.0 */
/* db.h: the rows of one shard: log, memtable, tree.  One ordered map of byte strings; the first
 * byte of a key names its table (rows.def).
 *
 * A write changes the memtable at once and joins the *pending record*; at the end of the turn
 * (fiber_late) everything pending becomes one log record, is written, and the written index moves;
 * a record that somebody wants synced is synced on a worker, and the synced index moves.  Whoever
 * answered from a row must not let the answer out before db_seen() is written (or synced).
 *
 * Reads and writes never park.  A borrowed value is good until the next write or park. */
#ifndef META_DB_H
#define META_DB_H
#include "base/bytes.h"
#include "sys/sys.h"

struct db;
struct tail_record;
struct db_opts {
	const char *dir;
	/* 0: default; that of memtable and log is less where the disk is small */
	uint64_t memtable_bytes_max; /* freeze and merge beyond it; twice that is kept back on disk
				      */
	uint64_t merge_log_bytes;    /* and when the log behind the last merge is longer */
	uint64_t merge_every_ns;     /* and at least this often when there is something */
	uint64_t tree_bytes_max;     /* map size of the tree */
	uint64_t log_segment_bytes;
	/* Log kept behind the older copy of the tree before another copy is made, or the length of
	 * the tree where that is more. */
	uint64_t log_keep_bytes;
	uint64_t scrub_every_ns; /* what is at rest is read again */
	/* Called on the loop, never parking, just before what is pending becomes a record: may
	 * still db_put() and db_delete(), which then belong to that record (sums kept in memory
	 * meanwhile). */
	void (*sealing)(void *arg);
	/* Called on the loop, never parking, when an index moved: let replies out. */
	void (*moved)(void *arg, uint64_t written, uint64_t synced);
	/* One of several replicas: see below. */
	bool replica;
	/* Called on the loop, never parking, when the log of a replica moved on. */
	void (*grew)(void *arg, uint64_t written, uint64_t synced);
	/* The log failed (E_IO) or the tree has (E_CORRUPT; the next db_open() makes another):
	 * nothing is written any more, moved() is not called again.  A full disk is no failure:
	 * what does not fit waits, and db_room() tells; but E_FULL of a sync, or of the log's mark
	 * in its own place, is. */
	void (*failed)(void *arg, int rc, const struct err_note *note);
	void *arg;
};
/* Opens or creates; replays the log over the tree.  Its fibers (flusher, syncer, merger) run in g.
 * E_CORRUPT: rot below the watermark; note says what and where.  E_INUSE: another process has it.
 * E_FULL: not even what was kept back is room enough for another segment of the log. */
PARKS int db_open(struct sys *s, struct group *g, const struct db_opts *o, struct db **ret_db,
	struct err_note *note);
PARKS int db_close(
	struct db *db, struct err_note *note); /* merges, syncs, ends its fibers, frees */
void db_drop(struct db *
		db); /* frees without writing, after the loop is dead (simulated crash) or failed */

/* 0; E_NOTFOUND; E_CORRUPT: the tree has rotten, and the db fails with it. */
int db_get(struct db *db, struct bytes key, struct bytes *ret_value);
void db_put(struct db *db, struct bytes key, struct bytes value);
/* For a key that db_get() answers E_NOTFOUND for: deleted before the next merge, it leaves nothing
 * behind. */
void db_put_new(struct db *db, struct bytes key, struct bytes value);
void db_delete(struct db *db, struct bytes key);                         /* absent is fine */
void db_delete_range(struct db *db, struct bytes from, struct bytes to); /* from <= key < to */

/* Ascending walk over from <= key < to.  Not across a park or a write: start again from the last
 * key. */
struct db_iter {
	struct db *db;
	void *impl;
};
void db_iter_begin(struct db_iter *it, struct db *db, struct bytes from, struct bytes to);
bool db_iter_next(struct db_iter *it, struct bytes *ret_key, struct bytes *ret_value);
/* Bounds what walks may cost: counts *held_dead_left down for each deleted row passed over, and
 * ends at 0.  Whether that is why a walk ended, and at which deleted row: go on behind it. */
void db_iter_bound(struct db_iter *it, uint32_t *held_dead_left);
bool db_iter_tired(const struct db_iter *it, struct bytes *ret_key);
void db_iter_end(struct db_iter *it);

/* ---- one of several replicas (src/core/replica.h says who does what when) ----
 * Such a db is opened as a follower: it has the rows of its tree, reads nothing else, and nobody
 * puts or deletes.  It becomes a leader, and a follower again, by these calls; those that park come
 * one at a time.  moved() then tells what db_commit() said; ids can be given from db_lead() on. */
/* Appends the record that follows in the leader's log.  E_CORRUPT: it does not follow.  E_FULL: it
 * may be tried again. */
PARKS int db_copy(struct db *db, uint64_t epoch, uint64_t chain, struct bytes payload,
	struct err_note *note);
/* Gives up the records behind index, none of which is committed. */
PARKS int db_take_back(struct db *db, uint64_t index, struct err_note *note);
/* Appends an empty record of this epoch, which is at least that of the last one: the first one of a
 * leader, before it leads.  As db_copy(). */
PARKS int db_begin(struct db *db, uint64_t epoch, struct err_note *note);
/* Every replica has written the records up to index, and synced them up to synced: a follower
 * begins to apply them, a leader lets its answers go.  Lower ones than before change nothing.
 * Never parks; may be called at any time. */
void db_commit(struct db *db, uint64_t index, uint64_t synced);
/* All records here are committed: when they are applied, rows are put and deleted here, in this
 * epoch.  Ends when ids can be given, which takes a commit, or after a while without one.
 * E_NOTPRIMARY: db_hold() came meanwhile. */
PARKS int db_lead(struct db *db, uint64_t epoch, struct err_note *note);
/* Of a leader: until it is taken away, or db_follow(), no other record is begun; one that is being
 * written may still come.  Never parks. */
void db_hold(struct db *db, bool hold);
/* Another one leads.  What was not written yet is given up; the rows become those of the commit
 * index again. */
PARKS int db_follow(struct db *db, struct err_note *note);
void db_sync_to(struct db *db, uint64_t index); /* somebody waits for that */
uint64_t db_log_synced(const struct db *db);    /* the last record that is durable here */
/* Of the record at index, while the log has it; false: it has not. */
bool db_place(const struct db *db, uint64_t index, uint64_t *ret_epoch, uint64_t *ret_chain);
struct log *db_log(struct db *db); /* to read it */
uint64_t db_merged(const struct db *db); /* the last record that is in the tree */
uint64_t db_wanted(const struct db *db); /* somebody waits for the sync up to there */
/* Keeps the payloads of the last records in memory, so many bytes of them (0, as at first: none);
 * db_recent() finds them (tail.h), NULL: not here. */
void db_keep_tail(struct db *db, size_t bytes_max);
struct tail_record *db_recent(const struct db *db, uint64_t index);
/* A copy of the tree, which stays as it is and stands for the record *ret_index; the log is kept
 * from there on (unless the disk is full) until db_copy_done(), which removes it.  One at a time.
 */
struct tree;
PARKS int db_copy_tree(struct db *db, struct tree **ret_copy, uint64_t *ret_index,
	struct err_note *note);
PARKS void db_copy_done(struct db *db, struct tree *copy);

uint64_t db_seen(const struct db *db); /* index that covers everything applied so far */
uint64_t db_written(const struct db *db);
uint64_t db_synced(const struct db *db);
void db_want_sync(struct db *db); /* what is pending now is to be synced */
/* Somebody waits for what is pending now to be written: it is not kept back to share a record with
 * what comes while a sync is under way. */
void db_want_written(struct db *db);
/* To be asked by a request before it writes.  0; E_BUSY: db_pressed(); E_FULL: the disk is full,
 * and what room was kept back is for what makes room: deletes need not ask; or what made the db
 * fail. */
int db_room(const struct db *db);
/* Back-pressure: true while merges or the log cannot keep up; writers answer E_BUSY or wait. */
bool db_pressed(const struct db *db);

/* Ids from a synced high-water mark, ascending, never given twice.  0 when the block is used up and
 * the next one is not synced yet: answer E_BUSY. Blocks are fetched ahead. */
uint64_t db_next_id(struct db *db);
uint64_t db_next_ids(struct db *db, uint32_t n); /* the first of n in a row */

struct db_status {
	uint64_t memtable_bytes, memtable_rows, frozen_bytes, tree_bytes, tree_resident_bytes,
		tree_rows;
	uint64_t log_bytes, seen, written, synced, merged, records, syncs, merges;
};
void db_status(const struct db *db, struct db_status *ret_st);

/* ---- reading again what is at rest (db_scrub.c) ---- */
struct db_scrub {
	bool running;
	uint64_t passes, records, rows, bytes, found; /* since the start */
	struct err_note last; /* what was found last */
};
void db_scrub_now(struct db *db); /* at full speed; passes tells when it is done */
struct db_scrub db_scrubbed(const struct db *db);
/* Somebody who read the log found the record at index bad: it is made anew from the rows. */
void db_log_rotten(struct db *db, uint64_t index);
#endif
