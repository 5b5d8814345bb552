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
	if ((rc = sys_lock(g->l->mark)) < 0)
		return err_set(g->note, rc, "%s: another process has this log", path);
	for (int i = 0; i < MARK_SLOTS; i++) {
		int64_t n = sys_pread(
			g->l->mark, room, sizeof room, (uint64_t)i * MARK_SLOT_BYTES, g->note);

		if (n < 0)
			return (int)n;
		if (n == MARK_BYTES && mark_get(room, &m) && m.seq > g->mark.seq)
			g->mark = m;
	}
	g->l->mark_seq = g->mark.seq;
	return 0;
}

static PARKS int load(struct opening *g, const struct segment *s, struct image *ret_im)
{
	struct sys_file *f;
	uint64_t len;
	int64_t n;
	int rc;

	*ret_im = (struct image){ .s = s };
	segment_path(g->l, s->first_lsn, ret_im->path);
	if ((rc = sys_open(g->l->sys, ret_im->path, SYS_READ, &f, g->note)) < 0)
		return rc;
	if ((rc = sys_file_bytes(f, &len, g->note)) == 0 && len > 0) {
		ret_im->p = malloc(len);
		n = ret_im->p == NULL ? err_set(g->note, E_NOMEM, "%llu bytes for %s",
						(unsigned long long)len, ret_im->path)
				      : sys_pread(f, ret_im->p, len, 0, g->note);
		rc = n < 0 ? (int)n : 0;
		ret_im->len = n < 0 ? 0 : (size_t)n;
	}
	sys_close(f);
	if (rc < 0)
		free(ret_im->p);
	return rc;
}

/* The record at an offset, when it is whole and follows `place`. */
static bool follows(const struct log *l, const struct image *im, size_t at,
	const struct log_place *place, struct record *ret_r)
{
	if (im->len < at + LOG_HEADER_BYTES || record_get(im->p + at, ret_r) < 0)
		return false;
	if (ret_r->uuid_hi != l->uuid_hi || ret_r->uuid_lo != l->uuid_lo ||
		ret_r->lsn != place->lsn + 1)
		return false;
	if (im->len < at + LOG_HEADER_BYTES + ret_r->length || ret_r->previous != place->node_chain)
		return false;
	return record_verify(ret_r, place->shard_chain, im->p + at + LOG_HEADER_BYTES);
}

/* The highest durable lsn that whole headers behind an offset speak of. */
static uint64_t durable_behind(const struct log *l, const struct image *im, size_t at)
{
	uint64_t most = 0;
	struct record r;

	for (; at + LOG_HEADER_BYTES <= im->len; at += 8)
		if (record_get(im->p + at, &r) == 0 && r.uuid_hi == l->uuid_hi &&
			r.uuid_lo == l->uuid_lo && r.durable > most)
			most = r.durable;
	return most;
}

static int rot(struct opening *g, const struct image *im, size_t at, uint64_t lsn, const char *why)
{
	return err_set(g->note, E_CORRUPT, "%s: record %llu at byte %zu is damaged (%s)", im->path,
		(unsigned long long)lsn, at, why);
}

/* What is wrong at `at`, where the record behind l->place should be: 0 when it is the torn tail. */
static int classify(struct opening *g, const struct image *im, size_t at, bool last)
{
	uint64_t lsn = g->l->place.lsn + 1;

	if (!last)
		return rot(g, im, at, lsn, "a later segment continues from it");
	if (lsn <= g->mark.lsn)
		return rot(g, im, at, lsn, "it was synced");
	if (lsn <= durable_behind(g->l, im, at))
		return rot(g, im, at, lsn, "a later record tells that it was synced");
	return 0;
}

static int replay(struct opening *g, const struct image *im, const struct record *r, size_t at)
{
	struct log *l = g->l;
	int rc = 0;

	if (r->kind == LOG_EFFECTS && r->index != l->place.index + 1)
		return rot(g, im, at, r->lsn, "its index does not follow");
	if (r->kind == LOG_EFFECTS && r->index > g->o->after)
		rc = g->o->replay(
			g->o->arg, r->index, bytes_of(im->p + at + LOG_HEADER_BYTES, r->length));
	if (rc < 0)
		return rot(g, im, at, r->lsn, "its effects cannot be read");
	l->place = (struct log_place){ r->lsn, r->index, r->node_chain, r->shard_chain };
	return 0;
}

/* Reads a segment up to lsn `until` (UINT64_MAX for the last one). */
static int scan(struct opening *g, const struct image *im, uint64_t until, size_t *ret_end)
{
	struct log *l = g->l;
	struct record r;
	size_t at = 0;
	int rc = 0;

	while (rc == 0 && l->place.lsn < until) {
		if (!follows(l, im, at, &l->place, &r)) {
			rc = classify(g, im, at, until == UINT64_MAX);
			break;
		}
		if ((rc = replay(g, im, &r, at)) == 0)
			at += record_bytes(r.length);
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

/* Reads the BEGIN of each segment; drops a last one that never came to be. */
static PARKS int survey(struct opening *g)
{
	struct log *l = g->l;

	for (uint32_t i = 0; i < l->n_segments; i++) {
		struct segment *s = &l->segments[i];
		struct record r = { 0 };
		struct image im;
		int rc = load(g, s, &im);
		bool good;

		if (rc < 0)
			return rc;
		good = begin_of(&im, &r);
		free(im.p);
		if (!good && i + 1 == l->n_segments && s->first_lsn > g->mark.lsn &&
			(i > 0 || g->o->after == 0)) {
			l->n_segments--;
			break;
		}
		if (!good)
			return rot(g, &im, 0, s->first_lsn, "the beginning of a segment");
		if (i == 0) {
			l->uuid_hi = r.uuid_hi;
			l->uuid_lo = r.uuid_lo;
		}
		if (r.uuid_hi != l->uuid_hi || r.uuid_lo != l->uuid_lo)
			return err_set(g->note, E_CORRUPT, "%s belongs to another log", im.path);
		s->begin_index = r.index;
	}
	return 0;
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
		struct record begin;
		struct image im;
		size_t end;

		if ((rc = load(g, &l->segments[i], &im)) < 0)
			return rc;
		if (!begin_of(&im, &begin))
			rc = rot(g, &im, 0, l->segments[i].first_lsn, "the beginning of a segment");
		if (rc == 0 && i == first)
			l->place = (struct log_place){ begin.lsn - 1, begin.index, begin.previous,
				begin.shard_chain };
		if (rc == 0)
			rc = scan(
				g, &im, last ? UINT64_MAX : l->segments[i + 1].first_lsn - 1, &end);
		if (rc == 0)
			l->segments[i].bytes = end;
		free(im.p);
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

	if (g->mark.seq == 0)
		return 0;
	if (g->mark.uuid_hi != l->uuid_hi || g->mark.uuid_lo != l->uuid_lo)
		return err_set(g->note, E_CORRUPT, "%s/mark belongs to another log", l->dir);
	if (g->mark.lsn > l->place.lsn)
		return err_set(g->note, E_CORRUPT,
			"the log in %s ends at record %llu, %llu was synced", l->dir,
			(unsigned long long)l->place.lsn, (unsigned long long)g->mark.lsn);
	return 0;
}

/* What was read may be in the page cache only, after the process was killed: make it durable first.
 */
static PARKS int sync_last(struct opening *g)
{
	char path[LOG_PATH_MAX * 2];
	struct sys_file *f;
	int rc;

	segment_path(g->l, g->l->segments[g->l->n_segments - 1].first_lsn, path);
	if ((rc = sys_open(g->l->sys, path, SYS_READ | SYS_WRITE, &f, g->note)) < 0)
		return rc;
	rc = sys_sync(f, g->note);
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
	if (l->n_segments == 0 && (g->mark.seq > 0 || g->o->after > 0))
		return err_set(g->note, E_CORRUPT, "the log in %s has lost its segments", l->dir);
	if (l->n_segments > 0 && ((rc = survey(g)) < 0 || (rc = read_all(g)) < 0 ||
					 (rc = check_mark(g)) < 0 || (rc = sync_last(g)) < 0))
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
