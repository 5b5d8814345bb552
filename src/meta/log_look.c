/* SPDX-License-Identifier: Apache-2.0 */
/* A look at a whole log.  A gap is what was synced, by the mark or by a later record, and is no
 * record; behind it the look goes on with the next whole record of a higher lsn, whose own chain
 * value and payload sum are right: what it continues from is taken from itself. */
#include "meta/log_look.h"
#include "base/check.h"
#include "meta/log_own.h"
#include <stdio.h>
#include <stdlib.h>

struct names {
	uint64_t lsns[LOG_SEGMENTS_MAX];
	uint32_t n;
	bool overflow;
};
struct piece { /* a segment's file in memory */
	uint8_t *p;
	size_t len;
	char path[LOG_PATH_MAX * 2];
};
struct look {
	struct sys *sys;
	const struct log_look_opts *o;
	struct err_note *note;
	struct log_look *out;
	struct names names;
	struct log_place place; /* of the last record */
	bool known;             /* place holds: the next record must follow it */
	bool any;
};

static void each_name(void *arg, const char *name)
{
	struct names *l = arg;
	char *end;
	uint64_t lsn = strtoull(name, &end, 16);

	if (end != name + 16 || strcmp(end, ".log") != 0)
		return;
	if (l->n == LOG_SEGMENTS_MAX)
		l->overflow = true;
	else
		l->lsns[l->n++] = lsn; /* names come sorted */
}

static void damage(struct look *g, enum log_damage_kind kind, const char *path, uint64_t at)
{
	struct log_damage d = { .kind = kind, .at = at };

	snprintf(d.path, sizeof d.path, "%s", path);
	g->o->damage(g->o->arg, &d);
}

/* ---- the mark ---- */
static PARKS int look_at_mark(struct look *g)
{
	uint8_t room[MARK_BYTES];
	char path[LOG_PATH_MAX * 2];
	struct mark m, best = { .seq = 0 };
	bool valid[MARK_SLOTS] = { false };
	struct sys_file *f = NULL;
	int rc;

	snprintf(path, sizeof path, "%s/mark", g->o->dir);
	rc = sys_open(g->sys, path, SYS_READ, &f, g->note);
	if (rc == E_NOTFOUND && g->names.n == 0)
		return E_NOTFOUND;
	for (int i = 0; i < MARK_SLOTS && rc == 0; i++) {
		int64_t n = sys_pread(f, room, sizeof room, (uint64_t)i * MARK_SLOT_BYTES, g->note);

		rc = n < 0 ? (int)n : 0;
		valid[i] = n == MARK_BYTES && mark_get(room, &m);
		if (valid[i] && m.seq > best.seq)
			best = m;
	}
	sys_close(f);
	if (rc < 0 && rc != E_NOTFOUND)
		return rc;
	for (int i = 0; i < MARK_SLOTS && best.seq > 0; i++)
		if (!valid[i])
			damage(g, LOG_MARK_COPY, path, (uint64_t)i * MARK_SLOT_BYTES);
	if (best.seq == 0 && g->names.n > 0)
		damage(g, LOG_MARK, path, 0);
	g->out->mark_lsn = best.lsn;
	g->out->uuid_hi = best.uuid_hi;
	g->out->uuid_lo = best.uuid_lo;
	return 0;
}

/* ---- segments ---- */
static PARKS int load(struct look *g, uint32_t i, struct piece *ret)
{
	int rc;

	*ret = (struct piece){ .p = NULL };
	snprintf(ret->path, sizeof ret->path, "%s/%016llx.log", g->o->dir,
		(unsigned long long)g->names.lsns[i]);
	rc = segment_read(g->sys, ret->path, &ret->p, &ret->len, g->note);
	if (rc == 0 && g->o->progress != NULL)
		g->o->progress(g->o->arg, ret->len);
	return rc;
}

static bool ours(const struct look *g, const struct record *r)
{
	return r->uuid_hi == g->out->uuid_hi && r->uuid_lo == g->out->uuid_lo;
}

/* A record that is whole by itself. */
static bool whole(const struct look *g, const struct piece *im, size_t at, struct record *ret_r)
{
	struct record r, again;

	if (im->len < at + LOG_HEADER_BYTES || record_get(im->p + at, &r) < 0 || !ours(g, &r) ||
		im->len < at + LOG_HEADER_BYTES + r.length)
		return false;
	again = r;
	record_seal(&again, 0, im->p + at + LOG_HEADER_BYTES);
	if (again.payload_crc != r.payload_crc || again.node_chain != r.node_chain)
		return false;
	*ret_r = r;
	return true;
}

/* And that follows the place where the log stands.  A BEGIN that takes records back goes on from an
 * earlier place, whose chain it names. */
static bool follows(const struct look *g, const struct piece *im, size_t at, struct record *ret_r)
{
	struct record r;
	uint64_t chain;

	if (!whole(g, im, at, &r) || r.lsn != g->place.lsn + 1)
		return false;
	chain = r.kind == LOG_BEGIN && r.index < g->place.index ? r.shard_chain
								: g->place.shard_chain;
	if (g->known && (r.previous != g->place.node_chain ||
				!record_verify(&r, chain, im->p + at + LOG_HEADER_BYTES)))
		return false;
	*ret_r = r;
	return true;
}

static uint64_t durable_behind(const struct look *g, const struct piece *im, size_t at)
{
	return segment_durable(im->p, im->len, at, g->out->uuid_hi, g->out->uuid_lo);
}

/* The highest lsn that is known to have been synced, by what stands at `at` or behind it. */
static PARKS int synced_to(
	struct look *g, const struct piece *im, size_t at, uint32_t i, uint64_t *ret_lsn)
{
	uint64_t most = g->out->mark_lsn, lsn = durable_behind(g, im, at);
	struct piece later;
	int rc;

	most = lsn > most ? lsn : most;
	for (i++; i < g->names.n; i++) {
		if ((rc = load(g, i, &later)) < 0)
			return rc;
		lsn = durable_behind(g, &later, 0);
		most = lsn > most ? lsn : most;
		free(later.p);
	}
	*ret_lsn = most;
	return 0;
}

static PARKS int take(struct look *g, const struct piece *im, size_t at, const struct record *r)
{
	bool joined = g->known;
	int rc;

	g->place = (struct log_place){ .lsn = r->lsn,
		.index = r->index,
		.node_chain = r->node_chain,
		.shard_chain = r->shard_chain };
	g->known = g->any = true;
	g->out->records++;
	g->out->last_lsn = r->lsn;
	g->out->last_index = r->index;
	rc = g->o->record(g->o->arg, r, bytes_of(im->p + at + LOG_HEADER_BYTES, r->length), joined);
	return rc;
}

/* From `at` on: the next record that can be read; lsn 0: there is none in this segment. */
static size_t search(const struct look *g, const struct piece *im, size_t at, uint64_t until,
	struct record *ret_r)
{
	*ret_r = (struct record){ .lsn = 0 };
	for (; at + LOG_HEADER_BYTES <= im->len; at += 8)
		if (whole(g, im, at, ret_r) && ret_r->lsn > g->place.lsn && ret_r->lsn <= until)
			return at;
	*ret_r = (struct record){ .lsn = 0 };
	return im->len;
}

/* What stands at `at` is no record and was synced: tells, and goes on behind it. */
static PARKS int gap(
	struct look *g, const struct piece *im, size_t *at, uint64_t until, uint64_t synced)
{
	struct log_damage d = { .kind = LOG_RECORDS, .at = *at, .lsn = g->place.lsn + 1 };
	struct record r;
	size_t next = search(g, im, *at, until, &r);

	snprintf(d.path, sizeof d.path, "%s", im->path);
	d.bytes = r.lsn != 0 ? next - *at : 0;
	d.index = g->place.index + 1;
	d.lsn_to = r.lsn != 0 ? r.lsn - 1 : until < synced ? until : synced;
	d.index_to = r.lsn != 0 ? r.index - (r.kind == LOG_EFFECTS) : 0;
	g->o->damage(g->o->arg, &d);
	g->known = false;
	g->place.lsn = d.lsn_to;
	if (d.index_to != 0)
		g->place.index = d.index_to;
	*at = next;
	return 0;
}

/* Reads segment i to its end, which is before the lsn of the next one. */
static PARKS int look_at_segment(struct look *g, const struct piece *im, uint32_t i, bool *ret_torn)
{
	uint64_t until = i + 1 < g->names.n ? g->names.lsns[i + 1] - 1 : UINT64_MAX, synced;
	struct record r;
	size_t at = 0;
	int rc = 0;

	if (!g->any) { /* the history before the first segment is not needed any more */
		g->place = (struct log_place){ .lsn = g->names.lsns[0] - 1 };
		g->known = false;
	}
	while (rc == 0 && g->place.lsn < until) {
		if (follows(g, im, at, &r) ||
			(follows(g, im, block_up(at), &r) && (at = block_up(at)) > 0)) {
			rc = take(g, im, at, &r);
			at += record_bytes(r.length);
			continue;
		}
		if ((rc = synced_to(g, im, at, i, &synced)) < 0)
			break;
		*ret_torn = g->place.lsn + 1 > synced;
		if (*ret_torn)
			break;
		rc = gap(g, im, &at, until, synced);
		if (at >= im->len)
			break;
	}
	return rc;
}

/* The mark is lost: the first header that can be read says whose log it is. */
static void adopt(struct look *g, const struct piece *im)
{
	struct record r;

	if (g->out->uuid_hi != 0 || g->out->uuid_lo != 0)
		return;
	for (size_t at = 0; at + LOG_HEADER_BYTES <= im->len; at += 8)
		if (record_get(im->p + at, &r) == 0) {
			g->out->uuid_hi = r.uuid_hi;
			g->out->uuid_lo = r.uuid_lo;
			return;
		}
}

static PARKS int look_at_all(struct look *g)
{
	bool torn = false;
	int rc = 0;

	for (uint32_t i = 0; i < g->names.n && rc == 0 && !torn; i++) {
		struct piece im;

		if ((rc = load(g, i, &im)) < 0)
			return rc;
		adopt(g, &im);
		g->out->bytes += im.len;
		g->out->segments++;
		rc = look_at_segment(g, &im, i, &torn);
		free(im.p);
	}
	g->out->torn = torn;
	return rc;
}

int log_look(struct sys *s, const struct log_look_opts *o, struct log_look *ret_look,
	struct err_note *note)
{
	struct look *g = calloc(1, sizeof *g);
	int rc;

	if (g == NULL)
		return err_set(note, E_NOMEM, "no memory for a look at a log");
	*ret_look = (struct log_look){ 0 };
	*g = (struct look){ .sys = s, .o = o, .note = note, .out = ret_look };
	rc = sys_list_dir(s, o->dir, each_name, &g->names, note);
	if (rc == 0 && g->names.overflow)
		rc = err_set(
			note, E_TOOBIG, "%s has more than %d segments", o->dir, LOG_SEGMENTS_MAX);
	if (rc == 0)
		rc = look_at_mark(g);
	if (rc == 0 && g->names.n == 0 && ret_look->mark_lsn > 0)
		damage(g, LOG_LOST, o->dir, 0);
	if (rc == 0)
		rc = look_at_all(g);
	if (rc == 0 && g->names.n > 0 && g->place.lsn < ret_look->mark_lsn) {
		struct log_damage d = { .kind = LOG_END,
			.lsn = g->place.lsn + 1,
			.lsn_to = ret_look->mark_lsn,
			.index = g->place.index + 1 };

		snprintf(d.path, sizeof d.path, "%s", o->dir);
		o->damage(o->arg, &d);
	}
	free(g);
	return rc;
}
