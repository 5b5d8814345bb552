/* SPDX-License-Identifier: Apache-2.0 */
/* Finding and replaying what a log holds; telling a torn tail from rot. */
#include "base/check.h"
#include "meta/log_own.h"
#include <stdio.h>
#include <stdlib.h>

struct opening {
	struct log *l;
	const struct log_opts *o;
	struct mark mark; /* the best copy; seq 0: none */
	uint64_t kept;    /* of the segment being read: behind this index it was taken back */
	uint64_t fork;    /* the next index at which a later segment begins */
	struct err_note *note;
	bool overflow;
};

/* One segment's file in memory. */
struct image {
	const struct segment *s;
	uint8_t *p;
	size_t len;
	char path[LOG_PATH_MAX * 2];
};

static void note_name(void *arg, const char *name)
{
	struct opening *g = arg;
	struct log *l = g->l;
	char *end;
	uint64_t lsn = strtoull(name, &end, 16);

	if (end != name + 16 || strcmp(end, ".log") != 0)
		return;
	if (l->n_segments + 1 >= LOG_SEGMENTS_MAX) {
		g->overflow = true;
		return;
	}
	l->segments[l->n_segments++] = (struct segment){ .first_lsn = lsn }; /* names come sorted */
}

static PARKS int read_mark(struct opening *g)
{
	uint8_t room[MARK_BYTES];
	char path[LOG_PATH_MAX * 2];
	struct mark m;
	int rc;

	snprintf(path, sizeof path, "%s/mark", g->l->dir);
	rc = sys_open(g->l->sys, path, SYS_READ | SYS_WRITE | SYS_CREATE, &g->l->mark, g->note);
	if (rc < 0)
		return rc;
	if ((rc = sys_lock(g->l->mark, g->note)) < 0)
		return rc;
	for (int i = 0; i < MARK_SLOTS; i++) {
		int64_t n = sys_pread(
			g->l->mark, room, sizeof room, (uint64_t)i * MARK_SLOT_BYTES, g->note);

		if (n < 0)
			return (int)n;
		if (n == MARK_BYTES && mark_get(room, &m) && m.seq > g->mark.seq) {
			g->mark = m;
			g->l->mark_half = i / 2 == 0; /* the other two are next */
		}
	}
	if (g->mark.seq == 0)
		return 0;
	g->l->mark_seq = g->mark.seq;
	g->l->uuid_hi = g->mark.uuid_hi;
	g->l->uuid_lo = g->mark.uuid_lo;
	return sys_sync(g->l->mark, g->note); /* a killed process may not have come to it (G5) */
}

/* The mark comes before the first segment, and is never without a valid copy again. */
static PARKS int check_beginnings(struct opening *g)
{
	struct log *l = g->l;
	const struct log_opts *o = g->o;

	if (l->n_segments > 0 && g->mark.seq == 0)
		return err_set(g->note, E_CORRUPT, "%s/mark: no copy of it is valid", l->dir);
	if (l->n_segments == 0 && (g->mark.lsn > 0 || (o->after > 0 && o->begin == NULL)))
		return err_set(g->note, E_CORRUPT, "the log in %s has lost its segments", l->dir);
	if ((o->must_uuid_hi != 0 || o->must_uuid_lo != 0) &&
		(o->must_uuid_hi != l->uuid_hi || o->must_uuid_lo != l->uuid_lo))
		return err_set(g->note, E_CORRUPT,
			"the rows and the log in %s are not of the same shard", l->dir);
	if (l->n_segments > 0)
		return 0;
	/* a start that was killed may have left a mark whose name is not durable */
	return g->mark.seq == 0 ? mark_create(l, g->note) : sys_sync_dir(l->sys, l->dir, g->note);
}

int segment_read(struct sys *s, const char *path, uint8_t **ret_p, size_t *ret_len,
	struct err_note *note)
{
	uint8_t *p = NULL;
	struct sys_file *f;
	uint64_t len;
	int64_t n = 0;
	int rc;

	if ((rc = sys_open(s, path, SYS_READ, &f, note)) < 0)
		return rc;
	if ((rc = sys_file_bytes(f, &len, note)) == 0 && len > 0) {
		p = malloc(len);
		n = p == NULL ? err_set(note, E_NOMEM, "%llu bytes for %s", (unsigned long long)len,
					path)
			      : sys_pread(f, p, len, 0, note);
		rc = n < 0 ? (int)n : 0;
	}
	sys_close(f);
	if (rc < 0) {
		free(p);
		return rc;
	}
	*ret_p = p;
	*ret_len = (size_t)n;
	return 0;
}

static PARKS int load(struct opening *g, const struct segment *s, struct image *ret_im)
{
	*ret_im = (struct image){ .s = s };
	segment_path(g->l, s->first_lsn, ret_im->path);
	return segment_read(g->l->sys, ret_im->path, &ret_im->p, &ret_im->len, g->note);
}

/* The record at an offset, when it is whole and follows `place`. */
static bool follows(const struct log *l, const struct image *im, size_t at,
	const struct log_place *place, struct record *ret_r)
{
	uint64_t chain = place->shard_chain;

	if (im->len < at + LOG_HEADER_BYTES || record_get(im->p + at, ret_r) < 0)
		return false;
	if (ret_r->uuid_hi != l->uuid_hi || ret_r->uuid_lo != l->uuid_lo ||
		ret_r->lsn != place->lsn + 1)
		return false;
	if (im->len < at + LOG_HEADER_BYTES + ret_r->length || ret_r->previous != place->node_chain)
		return false;
	if (ret_r->kind == LOG_BEGIN && ret_r->index < place->index) /* it takes back */
		chain = im->s->begin_chain;
	return record_verify(ret_r, chain, im->p + at + LOG_HEADER_BYTES);
}

uint64_t segment_durable(
	const uint8_t *p, size_t len, size_t at, uint64_t uuid_hi, uint64_t uuid_lo)
{
	uint64_t most = 0;
	struct record r;

	for (; at + LOG_HEADER_BYTES <= len; at += 8)
		if (record_get(p + at, &r) == 0 && r.uuid_hi == uuid_hi && r.uuid_lo == uuid_lo &&
			r.durable > most)
			most = r.durable;
	return most;
}

static uint64_t durable_behind(const struct log *l, const struct image *im, size_t at)
{
	return segment_durable(im->p, im->len, at, l->uuid_hi, l->uuid_lo);
}

static int rot(struct opening *g, const struct image *im, size_t at, uint64_t lsn, const char *why)
{
	return err_set(g->note, E_CORRUPT, "%s: record %llu at byte %zu is damaged (%s)", im->path,
		(unsigned long long)lsn, at, why);
}

static bool is_blank(const struct image *im, size_t at)
{
	return at >= im->len || bytes_zero(im->p + at, im->len - at);
}

/* The highest durable lsn that the segments from i on speak of. */
static PARKS int durable_later(struct opening *g, uint32_t i, uint64_t *ret_lsn)
{
	uint64_t most = 0, lsn;
	struct image im;
	int rc;

	for (; i < g->l->n_segments; i++) {
		if ((rc = load(g, &g->l->segments[i], &im)) < 0)
			return rc;
		lsn = durable_behind(g->l, &im, 0);
		most = lsn > most ? lsn : most;
		g->l->torn |= !is_blank(&im, 0);
		free(im.p);
	}
	*ret_lsn = most;
	return 0;
}

/* What is wrong at `at` in segment i, where the record `lsn` should be: 0 when it is the torn tail.
 * A later segment proves nothing by itself: the device may have kept it and lost what came before.
 */
static PARKS int classify(
	struct opening *g, const struct image *im, size_t at, uint32_t i, uint64_t lsn)
{
	uint64_t later;
	int rc;

	if (lsn <= g->mark.lsn)
		return rot(g, im, at, lsn, "it was synced");
	if (lsn <= durable_behind(g->l, im, at))
		return rot(g, im, at, lsn, "a later record tells that it was synced");
	g->l->torn |= !is_blank(im, at);
	if ((rc = durable_later(g, i + 1, &later)) < 0)
		return rc;
	return lsn <= later ? rot(g, im, at, lsn, "a later segment tells that it was synced") : 0;
}

/* Forgets the segments from n on, which lie behind a torn tail; durably, before their numbers are
 * given again. */
static PARKS int drop_from(struct opening *g, uint32_t n)
{
	struct log *l = g->l;
	char path[LOG_PATH_MAX * 2];
	int rc;

	if (n == l->n_segments)
		return 0;
	while (l->n_segments > n) {
		segment_path(l, l->segments[l->n_segments - 1].first_lsn, path);
		if ((rc = sys_unlink(l->sys, path, g->note)) < 0 && rc != E_NOTFOUND)
			return rc;
		l->n_segments--;
	}
	sys_reached(l->sys, "log: segments behind a torn tail dropped");
	return sys_sync_dir(l->sys, l->dir, g->note);
}

/* Where later segments go on from: the chain there is the last one seen at that index. */
static void find_forks(struct opening *g, uint32_t i)
{
	struct log *l = g->l;
	uint64_t here = l->place.index;

	if (g->fork != here && l->place.lsn != l->segments[i].first_lsn)
		return;
	g->fork = UINT64_MAX;
	for (uint32_t k = i + 1; k < l->n_segments; k++) {
		struct segment *s = &l->segments[k];

		if (s->begin_index == here)
			s->begin_chain = l->place.shard_chain;
		else if (s->begin_index > here && s->begin_index < g->fork)
			g->fork = s->begin_index;
	}
}

static uint64_t epoch_at(const struct log *l, const struct record *r, const uint8_t *payload)
{
	if (r->kind == LOG_EFFECTS)
		return r->epoch;
	return r->length == BEGIN_BYTES ? le64(payload) : l->place.epoch;
}

static int replay(struct opening *g, const struct image *im, const struct record *r, size_t at)
{
	const uint8_t *payload = im->p + at + LOG_HEADER_BYTES;
	struct log *l = g->l;
	struct log_place to = { r->lsn, r->index, epoch_at(l, r, payload), r->node_chain,
		r->shard_chain };
	int rc = 0;

	if (r->kind == LOG_EFFECTS && r->index != l->place.index + 1)
		return rot(g, im, at, r->lsn, "its index does not follow");
	if (r->lsn == g->mark.lsn && r->node_chain != g->mark.chain)
		return rot(g, im, at, r->lsn, "it is not the one that was synced");
	if (r->kind == LOG_EFFECTS && r->index > g->o->after && r->index <= g->kept)
		rc = g->o->replay(g->o->arg, l, &to, bytes_of(payload, r->length),
			r->lsn <= g->mark.lsn);
	if (rc == E_CORRUPT)
		return rot(g, im, at, r->lsn, "its effects cannot be read");
	if (rc < 0)
		return err_set(g->note, rc, "%s: replaying record %llu: %s", im->path,
			(unsigned long long)r->lsn, err_text(rc));
	if (r->epoch > l->epoch)
		l->epoch = r->epoch;
	l->place = to;
	return 0;
}

/* Reads segment i up to lsn `until` (UINT64_MAX for the last one), or to the torn tail. */
static PARKS int scan(
	struct opening *g, const struct image *im, uint32_t i, uint64_t until, size_t *ret_end)
{
	struct log *l = g->l;
	struct record r;
	size_t at = 0;
	int rc = 0;

	g->kept = segment_kept(l, i);
	while (rc == 0 && l->place.lsn < until) {
		if (!follows(l, im, at, &l->place, &r) &&
			follows(l, im, block_up(at), &l->place, &r))
			at = block_up(at); /* what is before it was synced */
		else if (!follows(l, im, at, &l->place, &r)) {
			rc = classify(g, im, at, i, l->place.lsn + 1);
			break;
		}
		if ((rc = replay(g, im, &r, at)) == 0)
			at += record_bytes(r.length);
		find_forks(g, i);
	}
	*ret_end = at;
	return rc;
}

/* The BEGIN of a segment, taken as the place to start from. */
static bool begin_of(const struct image *im, struct record *ret_r)
{
	if (im->len < LOG_HEADER_BYTES || record_get(im->p, ret_r) < 0 || ret_r->kind != LOG_BEGIN)
		return false;
	return ret_r->lsn == im->s->first_lsn && ret_r->lsn > 0;
}

/* Reads the BEGIN of segment i; false when it never came to be whole. */
static PARKS int survey_one(struct opening *g, uint32_t i, bool *ret_good)
{
	struct log *l = g->l;
	struct segment *s = &l->segments[i];
	struct record r = { 0 };
	struct image im;
	int rc = load(g, s, &im);

	if (rc < 0)
		return rc;
	*ret_good = begin_of(&im, &r);
	if (!*ret_good && i == 0 && g->o->after > 0)
		rc = rot(g, &im, 0, s->first_lsn, "the rows say that it was synced");
	else if (!*ret_good)
		rc = classify(g, &im, 0, i, s->first_lsn);
	else if (r.uuid_hi != l->uuid_hi || r.uuid_lo != l->uuid_lo)
		rc = err_set(g->note, E_CORRUPT, "%s belongs to another log", im.path);
	free(im.p);
	s->begin_index = r.index;
	return rc;
}

/* Reads the BEGIN of each segment; drops those that never came to be, and what is behind them. */
static PARKS int survey(struct opening *g)
{
	struct log *l = g->l;
	bool good = true;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < l->n_segments; i++) {
		rc = survey_one(g, i, &good);
		if (rc == 0 && !good)
			rc = drop_from(g, i);
	}
	return rc;
}

static PARKS int read_all(struct opening *g)
{
	struct log *l = g->l;
	uint32_t first = l->n_segments;
	int rc = 0;

	while (first > 0 &&
		(first == l->n_segments || l->segments[first].begin_index > g->o->after))
		first--;
	if (l->segments[first].begin_index > g->o->after)
		return err_set(g->note, E_CORRUPT,
			"the log in %s begins behind index %llu, the rows stand at %llu", l->dir,
			(unsigned long long)l->segments[first].begin_index,
			(unsigned long long)g->o->after);
	for (uint32_t i = first; rc == 0 && i < l->n_segments; i++) {
		bool last = i + 1 == l->n_segments;
		uint64_t until = last ? UINT64_MAX : l->segments[i + 1].first_lsn - 1;
		struct record begin;
		struct image im;
		size_t end;

		if ((rc = load(g, &l->segments[i], &im)) < 0)
			return rc;
		if (!begin_of(&im, &begin))
			rc = rot(g, &im, 0, l->segments[i].first_lsn, "the beginning of a segment");
		if (rc == 0 && i == first)
			l->place = (struct log_place){ begin.lsn - 1, begin.index, 0,
				begin.previous, begin.shard_chain };
		if (rc == 0)
			rc = scan(g, &im, i, until, &end);
		if (rc == 0)
			l->segments[i].bytes = end;
		free(im.p);
		if (rc == 0 && l->place.lsn < until)
			rc = drop_from(g, i + 1);
	}
	if (rc == 0 && l->place.index < g->o->after)
		return err_set(g->note, E_CORRUPT,
			"the log in %s ends at index %llu, the rows stand at %llu", l->dir,
			(unsigned long long)l->place.index, (unsigned long long)g->o->after);
	return rc;
}

static PARKS int check_mark(struct opening *g)
{
	const struct log *l = g->l;

	if (g->mark.lsn > l->place.lsn)
		return err_set(g->note, E_CORRUPT,
			"the log in %s ends at record %llu, %llu was synced", l->dir,
			(unsigned long long)l->place.lsn, (unsigned long long)g->mark.lsn);
	return 0;
}

/* What a segment holds may be in the page cache only, after the process was killed; and after a
 * sync that failed the kernel may take pages for clean that never reached the device.  Writing the
 * same bytes again makes them dirty, so that this sync tells the truth. */
static PARKS int write_again(struct opening *g, const struct segment *s)
{
	struct sys_file *f;
	struct image im;
	uint64_t bytes;
	int rc = load(g, s, &im);

	if (rc < 0)
		return rc;
	bytes = s->bytes < im.len ? s->bytes : im.len; /* its padding may have been cut off */
	if ((rc = sys_open(g->l->sys, im.path, SYS_READ | SYS_WRITE, &f, g->note)) == 0) {
		rc = sys_pwrite(f, im.p, bytes, 0, g->note);
		if (rc == 0)
			rc = sys_sync(f, g->note);
		sys_close(f);
	}
	free(im.p);
	return rc;
}

/* Makes durable what lies behind the watermark, the names of the segments included. */
static PARKS int settle(struct opening *g)
{
	struct log *l = g->l;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < l->n_segments; i++)
		if (i + 1 == l->n_segments || l->segments[i + 1].first_lsn - 1 > g->mark.lsn)
			rc = write_again(g, &l->segments[i]);
	return rc < 0 ? rc : sys_sync_dir(l->sys, l->dir, g->note);
}

/* A file that an earlier start made ready. */
static PARKS int take_next(struct opening *g)
{
	struct log *l = g->l;
	char path[LOG_PATH_MAX * 2];
	struct sys_file *f;
	uint64_t bytes;
	int rc;

	snprintf(path, sizeof path, "%s/next.log", l->dir);
	rc = sys_open(l->sys, path, SYS_READ | SYS_WRITE, &f, g->note);
	if (rc < 0)
		return rc == E_NOTFOUND ? 0 : rc;
	rc = sys_file_bytes(f, &bytes, g->note);
	if (rc == 0 && bytes == l->segment_bytes)
		l->next = f;
	else
		sys_close(f);
	return rc;
}

static PARKS int open_all(struct opening *g)
{
	struct log *l = g->l;
	uint64_t index;
	int rc;

	if ((rc = read_mark(g)) < 0 ||
		(rc = sys_list_dir(l->sys, l->dir, note_name, g, g->note)) < 0)
		return rc;
	if (g->overflow)
		return err_set(g->note, E_TOOBIG, "%s has more than %d segments", l->dir,
			LOG_SEGMENTS_MAX);
	if ((rc = check_beginnings(g)) < 0 || (rc = survey(g)) < 0)
		return rc;
	if (l->n_segments > 0 &&
		((rc = read_all(g)) < 0 || (rc = check_mark(g)) < 0 || (rc = settle(g)) < 0))
		return rc;
	if (l->n_segments == 0 && g->o->begin != NULL)
		l->place = (struct log_place){ .index = g->o->begin->index,
			.epoch = g->o->begin->epoch,
			.shard_chain = g->o->begin->shard_chain };
	l->durable_lsn = l->place.lsn;
	l->durable_chain = l->place.node_chain;
	l->epoch++;
	if ((rc = take_next(g)) < 0)
		return rc;
	if ((rc = segment_begin(l, g->note)) < 0)
		return rc;
	return log_sync(l, &index, g->note);
}

int log_open(struct sys *s, const struct log_opts *o, struct log **ret_l, struct err_note *note)
{
	struct opening g = { .o = o, .note = note };
	int rc;

	check(o->segment_bytes >= SYS_BLOCK);
	g.l = calloc(1, sizeof *g.l);
	if (g.l == NULL)
		return err_set(note, E_NOMEM, "no memory for a log");
	g.l->sys = s;
	g.l->segment_bytes = o->segment_bytes;
	g.l->uuid_hi = o->uuid_hi;
	g.l->uuid_lo = o->uuid_lo;
	snprintf(g.l->dir, sizeof g.l->dir, "%s", o->dir);
	rc = open_all(&g);
	if (rc < 0) {
		log_close(g.l);
		return rc;
	}
	*ret_l = g.l;
	return 0;
}
