/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a log that is being written: for replicas that are behind, and for what is behind in
 * applying.  A reader holds no segment back: what it comes to late is gone. */
#include "base/check.h"
#include "meta/log_own.h"
#include <stdio.h>
#include <stdlib.h>

enum { READ_BYTES = 256 << 10 };

struct log_reader {
	struct log *l;
	struct sys_file *f;
	uint64_t first_lsn; /* of the segment that f is */
	uint64_t at;        /* in it, of the next record */
	struct log_place place;
	uint64_t last_at;   /* of the record before that, and the place before it */
	struct log_place last_place;
	uint64_t end;       /* of what is written of it */
	uint8_t *p;         /* what was read of the file, from `from` */
	uint64_t from;
	size_t len, cap;
	bool medium;        /* not what the page cache has */
};

static int gone(const struct log_reader *r, struct err_note *note)
{
	return err_set(note, E_GONE, "the log in %s does not hold record %llu any more", r->l->dir,
		(unsigned long long)r->place.index + 1);
}

/* Its number among the segments; false: it was forgotten. */
static bool segment_of(const struct log_reader *r, uint32_t *ret_i)
{
	for (uint32_t i = 0; i < r->l->n_segments; i++)
		if (r->l->segments[i].first_lsn == r->first_lsn) {
			*ret_i = i;
			return true;
		}
	return false;
}

static uint64_t written_bytes(const struct log *l, uint32_t i)
{
	return i + 1 == l->n_segments ? l->at : l->segments[i].bytes;
}

/* Makes len bytes at `at` of the file be in the buffer, when they are written: never what is behind
 * the end, which changes. */
static PARKS int want(struct log_reader *r, uint64_t at, size_t len, struct err_note *note)
{
	uint64_t from = r->medium ? at & ~(uint64_t)(SYS_BLOCK - 1) : at;
	uint64_t to = at + len < from + READ_BYTES ? from + READ_BYTES : at + len;
	size_t cap = (size_t)block_up(to - from);
	int64_t n;

	if ((at >= r->from && at + len <= r->from + r->len) || at + len > r->end)
		return 0;
	if (cap > r->cap) {
		free(r->p);
		r->cap = r->len = 0;
		if ((r->p = aligned_alloc(SYS_BLOCK, cap)) == NULL)
			return err_set(note, E_NOMEM, "no memory for %zu bytes of log", cap);
		r->cap = cap;
	}
	if (cap > r->end - from)
		cap = (size_t)(r->medium ? block_up(r->end - from) : r->end - from);
	n = sys_pread(r->f, r->p, cap, from, note);
	r->from = from;
	r->len = n < 0 ? 0 : (size_t)n;
	if (n > 0 && r->len > r->end - from)
		r->len = (size_t)(r->end - from);
	return n < 0 ? (int)n : 0;
}

static const uint8_t *seen(const struct log_reader *r, uint64_t at, size_t len)
{
	bool whole = at >= r->from && at + len <= r->from + r->len;

	return whole ? r->p + (at - r->from) : NULL;
}

/* The record at `at`: 1; 0 when there is none, or not the one that follows. */
static PARKS int record_at(struct log_reader *r, uint64_t at, struct record *ret_rec,
	struct err_note *note)
{
	uint64_t chain = r->place.shard_chain;
	const uint8_t *p;
	int rc = want(r, at, LOG_HEADER_BYTES, note);

	if (rc < 0)
		return rc;
	p = seen(r, at, LOG_HEADER_BYTES);
	if (p == NULL || record_get(p, ret_rec) < 0)
		return 0;
	if (ret_rec->uuid_hi != r->l->uuid_hi || ret_rec->uuid_lo != r->l->uuid_lo ||
		ret_rec->lsn != r->place.lsn + 1 || ret_rec->previous != r->place.node_chain)
		return 0;
	if ((rc = want(r, at, LOG_HEADER_BYTES + ret_rec->length, note)) < 0)
		return rc;
	p = seen(r, at, LOG_HEADER_BYTES + ret_rec->length);
	if (ret_rec->kind == LOG_BEGIN) /* the opening compared it */
		chain = ret_rec->shard_chain;
	return p != NULL && record_verify(ret_rec, chain, p + LOG_HEADER_BYTES);
}

static PARKS int go_to(struct log_reader *r, uint32_t i, struct err_note *note)
{
	char path[LOG_PATH_MAX * 2];
	int rc;

	sys_close(r->f);
	r->f = NULL;
	r->first_lsn = r->l->segments[i].first_lsn;
	r->at = 0;
	r->len = 0;
	r->end = written_bytes(r->l, i);
	segment_path(r->l, r->first_lsn, path);
	rc = sys_open(r->l->sys, path, SYS_READ | (r->medium ? SYS_DIRECT : 0), &r->f, note);
	return rc == E_NOTFOUND ? gone(r, note) : rc;
}

/* The next record of the segment or the beginning of the next one, taken back or not: 1 or 0. */
static PARKS int step(struct log_reader *r, struct record *ret_rec, struct err_note *note)
{
	uint64_t at = r->at, last_lsn;
	uint32_t i;
	int rc;

	if (!segment_of(r, &i))
		return gone(r, note);
	r->end = written_bytes(r->l, i);
	if (r->at >= r->end) {
		if (i + 1 == r->l->n_segments)
			return 0;
		if ((rc = go_to(r, i + 1, note)) < 0)
			return rc;
		at = 0;
	}
	last_lsn = r->l->place.lsn;
	rc = record_at(r, at, ret_rec, note);
	if (rc == 0 && block_up(at) != at) { /* what is before it was synced */
		at = block_up(at);
		rc = record_at(r, at, ret_rec, note);
	}
	if (rc < 0)
		return rc;
	if (!segment_of(r, &i)) /* meanwhile: these are other bytes */
		return gone(r, note);
	if (rc == 0)
		return err_set(note, E_CORRUPT, "%s: record %llu at byte %llu is damaged",
			r->l->dir, (unsigned long long)r->place.lsn + 1, (unsigned long long)at);
	check(ret_rec->lsn <= last_lsn);
	r->last_at = at;
	r->last_place = r->place;
	r->at = at + record_bytes(ret_rec->length);
	r->place = (struct log_place){ ret_rec->lsn, ret_rec->index,
		ret_rec->kind == LOG_EFFECTS ? ret_rec->epoch : r->place.epoch,
		ret_rec->node_chain, ret_rec->shard_chain };
	if (ret_rec->kind == LOG_BEGIN && ret_rec->length == BEGIN_BYTES)
		r->place.epoch = le64(seen(r, at + LOG_HEADER_BYTES, BEGIN_BYTES));
	return 1;
}

/* What the reader stands at was taken back since. */
static bool lost(const struct log_reader *r)
{
	uint32_t i;

	return !segment_of(r, &i) || r->place.index > segment_kept(r->l, i);
}

int log_read(struct log_reader *r, struct bytes *ret_payload, struct err_note *note)
{
	uint64_t from = r->place.index;
	struct record rec;
	uint32_t i;
	int rc;

	if (lost(r))
		return gone(r, note);
	while ((rc = step(r, &rec, note)) == 1) {
		if (!segment_of(r, &i) || segment_kept(r->l, i) < from)
			return gone(r, note);
		if (rec.kind == LOG_EFFECTS && rec.index <= segment_kept(r->l, i)) {
			*ret_payload = bytes_of(
				seen(r, r->at - record_bytes(rec.length) + LOG_HEADER_BYTES,
					rec.length), rec.length);
			return 1;
		}
	}
	return rc;
}

void log_unread(struct log_reader *r)
{
	check(r->at > r->last_at);
	r->at = r->last_at;
	r->place = r->last_place;
}

static PARKS int seek(struct log_reader *r, uint64_t index, struct err_note *note)
{
	struct log *l = r->l;
	struct record rec = { 0 };
	uint32_t i = l->n_segments - 1;
	struct bytes payload;
	int rc;

	while (i > 0 && l->segments[i].begin_index > index)
		i--;
	r->place.index = index;
	if (l->segments[i].begin_index > index)
		return gone(r, note);
	if ((rc = go_to(r, i, note)) < 0 || (rc = want(r, 0, LOG_HEADER_BYTES, note)) < 0)
		return rc;
	if (seen(r, 0, LOG_HEADER_BYTES) == NULL || record_get(r->p, &rec) < 0)
		return lost(r) ? gone(r, note) : err_set(note, E_CORRUPT,
			"%s: the beginning of a segment is damaged", l->dir);
	r->place = (struct log_place){ rec.lsn - 1, rec.index, 0, rec.previous, rec.shard_chain };
	rc = step(r, &rec, note);
	while (rc == 1 && r->place.index < index)
		rc = log_read(r, &payload, note);
	return rc == 0 ? gone(r, note) : rc < 0 ? rc : 0;
}

static PARKS int reader_open(struct log *l, uint64_t index, bool medium,
	struct log_reader **ret_r, struct err_note *note)
{
	struct log_reader *r = calloc(1, sizeof *r);
	int rc;

	check(index <= l->place.index);
	if (r == NULL)
		return err_set(note, E_NOMEM, "no memory for a reader of the log");
	r->l = l;
	r->medium = medium;
	rc = seek(r, index, note);
	if (rc < 0)
		log_reader_close(r);
	else
		*ret_r = r;
	return rc;
}

int log_reader_open(struct log *l, uint64_t index, struct log_reader **ret_r, struct err_note *note)
{
	return reader_open(l, index, false, ret_r, note);
}

int log_reader_open_medium(
	struct log *l, uint64_t index, struct log_reader **ret_r, struct err_note *note)
{
	return reader_open(l, index, true, ret_r, note);
}

void log_reader_close(struct log_reader *r)
{
	if (r == NULL)
		return;
	sys_close(r->f);
	free(r->p);
	free(r);
}

struct log_place log_reader_place(const struct log_reader *r) { return r->place; }
