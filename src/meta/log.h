/* SPDX-License-Identifier: Apache-2.0 */
/* log.h: the write-ahead log of a node (reliability: records, chains, watermark, torn tail or rot).
 *
 * Segments, "%016x.log" by their first lsn, hold records; all fields little-endian, each record
 * padded with zeros to a multiple of 8:
 *
 *    0 magic u32 · header crc u32 (of 8..95) · uuid u64 u64 · lsn u64 · kind u16 · shard u16 ·
 * length u32 40 epoch u64 · index u64 · payload crc u32 · zero u32 · durable lsn u64 · node chain
 * u64 80 shard chain u64 · previous node chain u64                              96 payload
 *
 * Each segment begins with a BEGIN record, which names the lsn and the chain it continues from:
 * what a segment before it holds from that lsn on was never acknowledged as part of this history
 * and does not count.  Every start begins a segment, with a higher epoch, so a torn tail is left
 * behind, not overwritten.  A BEGIN whose index is lower than that of the record before it takes
 * back what lies between; nothing is ever cut off a file.  Its payload is the epoch of the record
 * at that index, u64.
 *
 * What was synced is never touched again: the record behind it begins in the next block of 4 KiB.
 * A segment is allocated and written before it is used, so that a sync need not write the file's
 * own data; one that is not needed any more becomes the next one.  What it held is told from
 * records by lsn and chain.  Only the one that a start begins with may be raw: it is left for one
 * that is ready when there is something to write.
 *
 * "mark" holds four copies of the durable watermark: two are written in turn right behind each sync
 * of the log, the other two were synced before.
 *
 * A bad record at or below the watermark, or below the durable lsn of a later valid record, is rot:
 * E_CORRUPT.  Any other is the torn tail. */
#ifndef META_LOG_H
#define META_LOG_H
#include "base/bytes.h"
#include "sys/sys.h"

enum { LOG_HEADER_BYTES = 96, LOG_PAYLOAD_BYTES_MAX = 256 << 20 };
enum log_kind { LOG_BEGIN = 1, LOG_EFFECTS = 2 };

/* Where a history stands: the last record, the epoch it was made in and the chains through it.
 * Equal (epoch, index, shard_chain) in two logs: the same history up to there. */
struct log_place {
	uint64_t lsn, index, epoch, node_chain, shard_chain;
};

struct log;
struct log_opts {
	const char *dir; /* exists */
	uint64_t segment_bytes;
	uint64_t uuid_hi, uuid_lo;           /* for a new log; an old one keeps its own */
	uint64_t must_uuid_hi, must_uuid_lo; /* not zero: another log is E_CORRUPT */
	/* A new log begins behind this record (index, epoch, shard_chain); NULL: with index 1. */
	const struct log_place *begin;
	/* Replays what lies behind index `after` in order, log_place() being the place before.  A
	 * negative code ends the opening with it.  durable: it was known to be synced. */
	uint64_t after;
	PARKS int (*replay)(void *arg, const struct log *l, const struct log_place *at,
		struct bytes payload, bool durable);
	void *arg;
};
/* E_CORRUPT: rot, with file, offset and lsn in the note; or the log does not reach back to `after`.
 */
PARKS int log_open(
	struct sys *s, const struct log_opts *o, struct log **ret_l, struct err_note *note);
void log_close(struct log *l); /* without a sync; NULL is fine */

uint64_t log_index(const struct log *l); /* of the last record */
uint64_t log_uuid(const struct log *l, uint64_t *ret_lo);
struct log_place log_place(const struct log *l);
/* When it was opened there was something behind its last record: one that was being written, or one
 * that was whole once and has rotted.  The log alone cannot tell. */
bool log_torn(const struct log *l);
uint64_t log_bytes(const struct log *l); /* of all segments, written part */

/* Appends one record with the next index.  room[0..LOG_HEADER_BYTES) is filled in; the payload
 * follows it, and there are 8 bytes of room behind.  One append at a time.  E_FULL: it was not
 * written, and may be tried again; after another error the log is dead. */
PARKS int log_append(struct log *l, uint8_t *room, size_t payload_len, struct err_note *note);
/* The epoch of what is appended from now on: at least the one before. */
void log_epoch(struct log *l, uint64_t epoch);
/* As log_append(), of the record that follows here in another replica's log: its epoch, and the
 * shard chain through it.  E_CORRUPT: it does not follow, and was not written. */
PARKS int log_copy(struct log *l, uint64_t epoch, uint64_t shard_chain, uint8_t *room,
	size_t payload_len, struct err_note *note);
/* Takes back the records behind index, of which nobody was told; no append and no sync meanwhile.
 * E_GONE: the log does not reach back there.  E_FULL: nothing has changed. */
PARKS int log_take_back(struct log *l, uint64_t index, struct err_note *note);
/* Everything appended before the call is durable when it returns 0; *ret_index names it.  Appends
 * go on meanwhile; one sync at a time.  After an error the log is dead. */
PARKS int log_sync(struct log *l, uint64_t *ret_index, struct err_note *note);
/* The next record begins another segment; whether that is still to come.  The log reaches back to
 * this index: what it says of earlier ones was forgotten. */
void log_turn(struct log *l);
bool log_turns(const struct log *l);
uint64_t log_reaches(const struct log *l);
bool log_crowded(const struct log *l); /* syncs cannot keep up: no append before the next one */
/* Makes the next segment's file ahead of need, so that neither an append waits for it nor a full
 * disk is found out too late: E_FULL tells that only the rest of this segment is left. */
PARKS int log_prepare(struct log *l, struct err_note *note);
bool log_wants_prepare(const struct log *l);
uint64_t log_left(const struct log *l); /* bytes that fit without another file */
bool log_tight(const struct log *l);    /* the last log_prepare() found the disk full */
/* Forgets the segments that hold nothing behind index. */
PARKS int log_cut(struct log *l, uint64_t index, struct err_note *note);

/* Reads what the log holds, in order, beside appends, syncs and cuts; closed before the log. */
struct log_reader;
/* Stands at index, which is at most log_index().  E_GONE: the log does not reach back there. */
PARKS int log_reader_open(
	struct log *l, uint64_t index, struct log_reader **ret_r, struct err_note *note);
/* Likewise, around the page cache. */
PARKS int log_reader_open_medium(
	struct log *l, uint64_t index, struct log_reader **ret_r, struct err_note *note);
void log_reader_close(struct log_reader *r); /* NULL is fine */
struct log_place log_reader_place(const struct log_reader *r); /* of the last record read */
/* 1: the next record, at the reader's place now; its payload is good until the next call, as much
 * as its place.  0: there is none yet.  E_GONE: it was forgotten, or what was read was taken back:
 * open another.  E_CORRUPT: rot. */
PARKS int log_read(struct log_reader *r, struct bytes *ret_payload, struct err_note *note);
/* The record that was read last comes again; once for each. */
void log_unread(struct log_reader *r);
#endif
