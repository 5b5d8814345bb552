/* SPDX-License-Identifier: Apache-2.0 */
/* Appending, syncing, cutting.
 *
 * (G1) lsn and index grow by one a record; a BEGIN has an lsn but no index of its own.
 * (G2) durable_lsn is at most what every file up to it was synced with.
 * (G3) after an error nothing is written any more: what the device holds is unknown (never
 * retried).
 * (G4) a block that holds a synced byte, or one whose sync is under way, is not written again.
 * (G5) two copies of the mark are synced and not being written, whatever happens.
 * (G6) of two records with one index the one in the later segment counts. */
#include "base/check.h"
#include "base/hash.h"
#include "base/pages.h"
#include "meta/log_own.h"
#include <stdio.h>
#include <stdlib.h>

void segment_path(const struct log *l, uint64_t first_lsn, char ret_path[LOG_PATH_MAX * 2])
{
	snprintf(ret_path, LOG_PATH_MAX * 2, "%s/%016llx.log", l->dir,
		(unsigned long long)first_lsn);
}

uint64_t log_index(const struct log *l)
{
	return l->place.index;
}
bool log_torn(const struct log *l) { return l->torn; }

struct log_place log_place(const struct log *l)
{
	return l->place;
}
bool log_tight(const struct log *l)
{
	return l->tight;
}

uint64_t log_uuid(const struct log *l, uint64_t *ret_lo)
{
	*ret_lo = l->uuid_lo;
	return l->uuid_hi;
}

uint64_t log_bytes(const struct log *l)
{
	uint64_t sum = l->at;

	for (uint32_t i = 0; i + 1 < l->n_segments; i++)
		sum += l->segments[i].bytes;
	return sum;
}

static int die(struct log *l, int rc)
{
	check(rc < 0);
	l->dead = true;
	return rc;
}

/* ---- records ---- */
static struct record record_next(const struct log *l, enum log_kind kind, uint32_t length)
{
	return (struct record){ .uuid_hi = l->uuid_hi,
		.uuid_lo = l->uuid_lo,
		.lsn = l->place.lsn + 1,
		.epoch = l->epoch,
		.index = l->place.index + (kind == LOG_EFFECTS),
		.durable = l->durable_lsn,
		.previous = l->place.node_chain,
		.length = length,
		.kind = (uint16_t)kind,
		.shard = LOG_SHARD };
}

/* A sealed one, at `at` of f: the place moves on when it is written. */
static PARKS int write_record(struct log *l, struct sys_file *f, uint64_t at, struct record *r,
	uint8_t *room, struct err_note *note)
{
	size_t len = record_bytes(r->length);
	int rc;

	record_put(r, room);
	memset(room + LOG_HEADER_BYTES + r->length, 0, len - LOG_HEADER_BYTES - r->length);
	rc = sys_pwrite_now(f, room, len, at, note);
	if (rc == 0)
		l->place = (struct log_place){ r->lsn, r->index,
			r->kind == LOG_EFFECTS ? r->epoch : l->place.epoch, r->node_chain,
			r->shard_chain };
	return rc;
}

/* ---- segments ---- */
/* The file that is ready, or a new one, under its name. */
static PARKS int open_segment(
	struct log *l, const char *path, struct sys_file **ret_f, struct err_note *note)
{
	char ahead[LOG_PATH_MAX * 2];
	int rc;

	if (l->next != NULL) {
		*ret_f = l->next;
		l->next = NULL;
		snprintf(ahead, sizeof ahead, "%s/next.log", l->dir);
		return sys_rename(l->sys, ahead, path, note);
	}
	rc = sys_open(l->sys, path, SYS_READ | SYS_WRITE | SYS_CREATE | SYS_TRUNC, ret_f, note);
	return rc < 0 ? rc : sys_allocate(*ret_f, 0, l->segment_bytes, note);
}

uint64_t segment_kept(const struct log *l, uint32_t i)
{
	uint64_t kept = UINT64_MAX;

	while (++i < l->n_segments)
		if (l->segments[i].begin_index < kept)
			kept = l->segments[i].begin_index;
	return kept;
}

int segment_begin(struct log *l, struct err_note *note)
{
	uint8_t room[LOG_HEADER_BYTES + BEGIN_BYTES];
	char path[LOG_PATH_MAX * 2];
	struct record r = record_next(l, LOG_BEGIN, BEGIN_BYTES);
	uint64_t index = l->place.index;
	struct sys_file *f = NULL;
	bool raw = l->next == NULL;
	int rc, gone;

	if (l->n_segments == LOG_SEGMENTS_MAX || l->n_unsynced == LOG_UNSYNCED_MAX)
		return die(l, err_set(note, E_TOOBIG, "the log has %u segments", l->n_segments));
	segment_path(l, r.lsn, path);
	put_le64(room + LOG_HEADER_BYTES, l->place.epoch);
	record_seal(&r, l->place.shard_chain, room + LOG_HEADER_BYTES);
	l->rolling = true;
	rc = open_segment(l, path, &f, note);
	if (rc == 0)
		rc = sys_sync_dir(l->sys, l->dir, note);
	if (rc == 0)
		rc = write_record(l, f, 0, &r, room, note);
	l->rolling = false;
	if (rc < 0) {
		sys_close(f);
		if (rc != E_FULL)
			return die(l, rc);
		l->tight = true; /* it never was; its room is needed */
		gone = sys_unlink(l->sys, path, NULL);
		return gone == 0 || gone == E_NOTFOUND ? rc : die(l, rc);
	}
	if (l->file != NULL) {
		l->segments[l->n_segments - 1].bytes = l->at;
		l->unsynced[l->n_unsynced++] = l->file;
	}
	l->file = f;
	l->at = record_bytes(BEGIN_BYTES);
	l->guard = 0;
	l->turn = false;
	l->raw = raw;
	l->segments[l->n_segments++] = (struct segment){ .first_lsn = r.lsn, .begin_index = index };
	return 0;
}

bool log_wants_prepare(const struct log *l)
{
	uint64_t from = l->segment_bytes / (l->raw ? LOG_RAW_PARTS : 2);

	return l->next == NULL && !l->dead && !l->rolling && l->at > from;
}

/* Zeros, so that a sync of what replaces them has no extents to convert. */
static PARKS int write_zeros(struct log *l, struct sys_file *f, struct err_note *note)
{
	uint8_t *zeros = pages_new(LOG_ZEROS_BYTES);
	int rc = 0;

	if (zeros == NULL)
		return err_set(note, E_NOMEM, "no memory for zeros");
	for (uint64_t at = 0; rc == 0 && at < l->segment_bytes; at += LOG_ZEROS_BYTES) {
		uint64_t n = l->segment_bytes - at;

		rc = sys_pwrite(f, zeros, n < LOG_ZEROS_BYTES ? n : LOG_ZEROS_BYTES, at, note);
	}
	pages_free(zeros, LOG_ZEROS_BYTES);
	return rc < 0 ? rc : sys_sync(f, note);
}

int log_prepare(struct log *l, struct err_note *note)
{
	char path[LOG_PATH_MAX * 2];
	bool needed = l->at > l->segment_bytes / 2;
	struct sys_file *f = NULL;
	int rc;

	check(l->next == NULL);
	snprintf(path, sizeof path, "%s/next.log", l->dir);
	rc = sys_open(l->sys, path, SYS_READ | SYS_WRITE | SYS_CREATE | SYS_TRUNC, &f, note);
	if (rc == 0)
		rc = sys_allocate(f, 0, l->segment_bytes, note);
	if (rc == 0)
		rc = write_zeros(l, f, note);
	l->tight = needed && rc == E_FULL;
	if (rc == 0) {
		check(l->next == NULL);
		l->next = f;
		return 0;
	}
	sys_close(f);
	if (rc == E_FULL) /* what there was of it is needed elsewhere */
		(void)sys_unlink(l->sys, path, NULL);
	if (rc == E_FULL && !needed) { /* the raw one is good enough */
		l->raw = false;
		return 0;
	}
	return rc;
}

/* Where the next record goes (G4). */
static uint64_t end_of(const struct log *l)
{
	return l->at < l->guard ? l->guard : l->at;
}

void log_turn(struct log *l) { l->turn = true; }

bool log_turns(const struct log *l) { return l->turn; }

uint64_t log_reaches(const struct log *l) { return l->segments[0].begin_index; }

bool log_crowded(const struct log *l)
{
	return l->n_unsynced >= LOG_UNSYNCED_MAX - 1;
}

uint64_t log_left(const struct log *l)
{
	uint64_t end = end_of(l), left = end < l->segment_bytes ? l->segment_bytes - end : 0;

	return left + (l->next != NULL ? l->segment_bytes : 0);
}

/* chain: what the record must come to; NULL: anything. */
static PARKS int append(struct log *l, uint64_t epoch, const uint64_t *chain, uint8_t *room,
	size_t payload_len, struct err_note *note)
{
	struct record r;
	uint64_t at;
	int rc = 0;

	check(!l->appending);
	check(payload_len <= LOG_PAYLOAD_BYTES_MAX);
	if (l->dead)
		return err_set(note, E_IO, "the log has failed before");
	l->appending = true;
	/* a record larger than a segment gets one of its own, grown beyond its allocation */
	if (l->at > record_bytes(BEGIN_BYTES) &&
		(l->turn || (l->raw && l->next != NULL) ||
			end_of(l) + record_bytes(payload_len) > l->segment_bytes))
		rc = segment_begin(l, note);
	if (rc == 0) {
		at = end_of(l);
		r = record_next(l, LOG_EFFECTS, (uint32_t)payload_len);
		r.epoch = epoch;
		record_seal(&r, l->place.shard_chain, room + LOG_HEADER_BYTES);
		if (chain != NULL && r.shard_chain != *chain)
			rc = err_set(note, E_CORRUPT, "record %llu does not follow here",
				(unsigned long long)r.index);
		else if ((rc = write_record(l, l->file, at, &r, room, note)) == 0)
			l->at = at + record_bytes(payload_len);
		else if (rc != E_FULL) /* a part of it may be there: it is written over, or torn */
			die(l, rc);
	}
	l->appending = false;
	return rc;
}

int log_append(struct log *l, uint8_t *room, size_t payload_len, struct err_note *note)
{
	return append(l, l->epoch, NULL, room, payload_len, note);
}

void log_epoch(struct log *l, uint64_t epoch)
{
	check(epoch >= l->place.epoch);
	l->epoch = epoch;
}

int log_copy(struct log *l, uint64_t epoch, uint64_t shard_chain, uint8_t *room, size_t payload_len,
	struct err_note *note)
{
	check(epoch >= l->place.epoch);
	return append(l, epoch, &shard_chain, room, payload_len, note);
}

int log_take_back(struct log *l, uint64_t index, struct err_note *note)
{
	struct log_place to, before = l->place;
	struct log_reader *r;
	uint64_t synced;
	int rc;

	check(index <= l->place.index);
	if (l->dead)
		return err_set(note, E_IO, "the log has failed before");
	if (index == l->place.index)
		return 0;
	if ((rc = log_reader_open(l, index, &r, note)) < 0)
		return rc;
	to = log_reader_place(r);
	log_reader_close(r);
	/* what takes back must not be there without what it follows: that would be read as torn */
	if ((rc = log_sync(l, &synced, note)) < 0)
		return rc;
	check(!l->appending);
	check(before.lsn == l->place.lsn); /* nobody appends meanwhile */
	l->appending = true;
	l->place.index = to.index;
	l->place.epoch = to.epoch;
	l->place.shard_chain = to.shard_chain;
	rc = segment_begin(l, note);
	if (rc < 0)
		l->place = before;
	l->appending = false;
	return rc;
}

/* ---- durability ---- */
void mark_put(const struct mark *m, uint8_t to[MARK_BYTES])
{
	memset(to, 0, MARK_BYTES);
	put_le64(to + 8, m->uuid_hi);
	put_le64(to + 16, m->uuid_lo);
	put_le64(to + 24, m->seq);
	put_le64(to + 32, m->lsn);
	put_le64(to + 40, m->chain);
	put_le64(to, hash64(0x6d61726b, to + 8, MARK_BYTES - 8));
}

bool mark_get(const uint8_t from[MARK_BYTES], struct mark *ret_m)
{
	if (le64(from) != hash64(0x6d61726b, from + 8, MARK_BYTES - 8))
		return false;
	*ret_m = (struct mark){ le64(from + 8), le64(from + 16), le64(from + 24), le64(from + 32),
		le64(from + 40) };
	return true;
}

static PARKS int mark_copy(
	struct log *l, unsigned slot, uint64_t lsn, uint64_t chain, struct err_note *note)
{
	struct mark m = { l->uuid_hi, l->uuid_lo, ++l->mark_seq, lsn, chain };
	uint8_t room[MARK_BYTES];

	mark_put(&m, room);
	return sys_pwrite_now(l->mark, room, sizeof room, slot * MARK_SLOT_BYTES, note);
}

/* All copies, before there is a record: from then on a mark without a valid one is rot. */
int mark_create(struct log *l, struct err_note *note)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < MARK_SLOTS; i++)
		rc = mark_copy(l, i, 0, 0, note);
	if (rc == 0)
		rc = sys_sync(l->mark, note);
	return rc < 0 ? rc : sys_sync_dir(l->sys, l->dir, note);
}

/* Two of the copies are written in turn until they are synced, then the other two (G5). */
static PARKS int mark_write(struct log *l, uint64_t lsn, uint64_t chain, struct err_note *note)
{
	uint64_t now_ns = loop_now_ns(sys_loop(l->sys));
	int rc = mark_copy(l, 2 * l->mark_half + (unsigned)(l->mark_seq & 1), lsn, chain, note);

	if (rc < 0 || now_ns < l->mark_synced_ns + LOG_MARK_SYNC_NS)
		return rc;
	l->mark_synced_ns = now_ns;
	l->mark_half = !l->mark_half;
	return sys_sync(l->mark, note);
}

int log_sync(struct log *l, uint64_t *ret_index, struct err_note *note)
{
	struct log_place until = l->place;
	uint32_t n = l->n_unsynced;
	struct sys_file *last = l->file;
	int rc = 0;

	check(!l->syncing);
	if (l->dead)
		return err_set(note, E_IO, "the log has failed before");
	l->syncing = true;
	l->guard = block_up(l->at);                 /* (G4) */
	for (uint32_t i = 0; rc == 0 && i < n; i++) /* appends may add more behind meanwhile */
		rc = sys_sync(l->unsynced[i], note);
	if (rc == 0)
		rc = sys_sync(last, note);
	l->syncing = false;
	if (rc < 0)
		return die(l, rc);
	for (uint32_t i = 0; i < n; i++)
		sys_close(l->unsynced[i]);
	l->n_unsynced -= n;
	memmove(l->unsynced, l->unsynced + n, l->n_unsynced * sizeof l->unsynced[0]);
	check(until.lsn >= l->durable_lsn); /* (G2) */
	l->durable_lsn = until.lsn;
	l->durable_chain = until.node_chain;
	if ((rc = mark_write(l, until.lsn, until.node_chain, note)) < 0)
		return die(l, rc);
	l->marked_lsn = until.lsn;
	*ret_index = until.index;
	return 0;
}

/* The file of a segment that is not needed becomes the next one where that is missing; not one that
 * was left early, which may be raw behind what was written. */
static PARKS int reuse(
	struct log *l, const char *path, uint64_t written, struct err_note *note)
{
	char ahead[LOG_PATH_MAX * 2];
	struct sys_file *f;
	uint64_t bytes;
	bool full;
	int rc;

	if (l->next != NULL || l->rolling || written <= l->segment_bytes / 2)
		return 0;
	if ((rc = sys_open(l->sys, path, SYS_READ | SYS_WRITE, &f, note)) < 0)
		return rc;
	rc = sys_file_bytes(f, &bytes, note);
	if (rc < 0 || bytes != l->segment_bytes || l->next != NULL || l->rolling) {
		sys_close(f);
		return rc;
	}
	l->rolling = true;
	snprintf(ahead, sizeof ahead, "%s/next.log", l->dir);
	rc = sys_rename(l->sys, path, ahead, note);
	full = rc == E_FULL; /* the directory has no room for another name */
	if (rc == 0)         /* before its bytes are written over, its old name must be gone */
		rc = sys_sync_dir(l->sys, l->dir, note);
	l->rolling = false;
	if (rc < 0) {
		sys_close(f);
		return full ? 0 : rc;
	}
	l->next = f;
	l->tight = false;
	return 1;
}

int log_cut(struct log *l, uint64_t index, struct err_note *note)
{
	char path[LOG_PATH_MAX * 2];
	int rc;

	while (l->n_segments > 1 + l->n_unsynced && l->segments[1].begin_index <= index) {
		segment_path(l, l->segments[0].first_lsn, path);
		rc = reuse(l, path, l->segments[0].bytes, note);
		if (rc == 0)
			rc = sys_unlink(l->sys, path, note);
		if (rc < 0 && rc != E_NOTFOUND)
			return rc;
		l->n_segments--;
		memmove(l->segments, l->segments + 1, l->n_segments * sizeof l->segments[0]);
	}
	return 0;
}

void log_close(struct log *l)
{
	if (l == NULL)
		return;
	check(!l->appending);
	check(!l->syncing);
	for (uint32_t i = 0; i < l->n_unsynced; i++)
		sys_close(l->unsynced[i]);
	if (l->file != NULL)
		sys_close(l->file);
	if (l->next != NULL)
		sys_close(l->next);
	if (l->mark != NULL)
		sys_close(l->mark);
	free(l);
}
