/* SPDX-License-Identifier: Apache-2.0 */
/* Appending, syncing, cutting.
 *
 * (G1) lsn and index grow by one a record; a BEGIN has an lsn but no index of its own.
 * (G2) durable_lsn is at most what every file up to it was synced with.
 * (G3) after an error nothing is written any more: what the device holds is unknown (never
 * retried). */
#include "base/check.h"
#include "base/hash.h"
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
		.epoch = LOG_EPOCH,
		.index = l->place.index + (kind == LOG_EFFECTS),
		.durable = l->durable_lsn,
		.previous = l->place.node_chain,
		.length = length,
		.kind = (uint16_t)kind,
		.shard = LOG_SHARD };
}

static PARKS int write_record(struct log *l, struct record *r, uint8_t *room, struct err_note *note)
{
	size_t len = record_bytes(r->length);
	uint64_t at = l->at;
	int rc;

	record_seal(r, l->place.shard_chain, room + LOG_HEADER_BYTES);
	record_put(r, room);
	memset(room + LOG_HEADER_BYTES + r->length, 0, len - LOG_HEADER_BYTES - r->length);
	l->at += len;
	rc = sys_pwrite_now(l->file, room, len, at, note);
	if (rc < 0)
		return die(l, rc);
	l->place = (struct log_place){ r->lsn, r->index, r->node_chain, r->shard_chain };
	return 0;
}

/* ---- segments ---- */
static PARKS int open_segment(
	struct log *l, const char *path, struct sys_file **ret_f, struct err_note *note)
{
	char ahead[LOG_PATH_MAX * 2];
	struct sys_file *f = l->next;
	int rc;

	if (f != NULL) {
		l->next = NULL;
		snprintf(ahead, sizeof ahead, "%s/next.log", l->dir);
		rc = sys_rename(l->sys, ahead, path, note);
	} else {
		rc = sys_open(
			l->sys, path, SYS_READ | SYS_WRITE | SYS_CREATE | SYS_TRUNC, &f, note);
		if (rc < 0)
			return rc;
		rc = sys_allocate(f, 0, l->segment_bytes, note);
	}
	if (rc == 0)
		rc = sys_sync_dir(l->sys, l->dir, note);
	if (rc < 0) {
		sys_close(f);
		return rc;
	}
	*ret_f = f;
	return 0;
}

int segment_begin(struct log *l, struct err_note *note)
{
	uint8_t room[LOG_HEADER_BYTES + 8];
	char path[LOG_PATH_MAX * 2];
	struct record r = record_next(l, LOG_BEGIN, 0);
	struct sys_file *f;
	int rc;

	if (l->n_segments == LOG_SEGMENTS_MAX ||
		l->n_unsynced == sizeof l->unsynced / sizeof l->unsynced[0])
		return die(l, err_set(note, E_TOOBIG, "the log has %u segments", l->n_segments));
	segment_path(l, r.lsn, path);
	l->rolling = true;
	rc = open_segment(l, path, &f, note);
	l->rolling = false;
	if (rc < 0)
		return die(l, rc);
	if (l->file != NULL) {
		l->segments[l->n_segments - 1].bytes = l->at;
		l->unsynced[l->n_unsynced++] = l->file;
	}
	l->file = f;
	l->at = 0;
	l->segments[l->n_segments++] = (struct segment){ .first_lsn = r.lsn,
		.begin_index = l->place.index };
	return write_record(l, &r, room, note);
}

bool log_wants_prepare(const struct log *l)
{
	return l->next == NULL && !l->dead && !l->rolling && l->at > l->segment_bytes / 2;
}

int log_prepare(struct log *l, struct err_note *note)
{
	char path[LOG_PATH_MAX * 2];
	struct sys_file *f;
	int rc;

	check(l->next == NULL);
	snprintf(path, sizeof path, "%s/next.log", l->dir);
	rc = sys_open(l->sys, path, SYS_READ | SYS_WRITE | SYS_CREATE | SYS_TRUNC, &f, note);
	if (rc < 0) {
		l->tight = rc == E_FULL;
		return rc;
	}
	rc = sys_allocate(f, 0, l->segment_bytes, note);
	l->tight = rc == E_FULL;
	if (rc < 0 || l->next != NULL)
		sys_close(f);
	else
		l->next = f;
	return rc;
}

int log_append(struct log *l, uint8_t *room, size_t payload_len, struct err_note *note)
{
	struct record r;
	int rc = 0;

	check(!l->appending);
	check(payload_len <= LOG_PAYLOAD_BYTES_MAX);
	if (l->dead)
		return err_set(note, E_IO, "the log has failed before");
	l->appending = true;
	/* a record larger than a segment gets one of its own, grown beyond its allocation */
	if (l->at > record_bytes(0) && l->at + record_bytes(payload_len) > l->segment_bytes)
		rc = segment_begin(l, note);
	if (rc == 0) {
		r = record_next(l, LOG_EFFECTS, (uint32_t)payload_len);
		rc = write_record(l, &r, room, note);
	}
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

int mark_write(struct log *l, uint64_t lsn, uint64_t chain, struct err_note *note)
{
	struct mark m = { l->uuid_hi, l->uuid_lo, ++l->mark_seq, lsn, chain };
	uint8_t room[MARK_BYTES];

	mark_put(&m, room);
	return sys_pwrite_now(
		l->mark, room, sizeof room, m.seq % MARK_SLOTS * MARK_SLOT_BYTES, note);
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
	*ret_index = until.index;
	return 0;
}

int log_cut(struct log *l, uint64_t index, struct err_note *note)
{
	char path[LOG_PATH_MAX * 2];
	int rc;

	while (l->n_segments > 1 + l->n_unsynced && l->segments[1].begin_index <= index) {
		segment_path(l, l->segments[0].first_lsn, path);
		if ((rc = sys_unlink(l->sys, path, note)) < 0 && rc != E_NOTFOUND)
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
