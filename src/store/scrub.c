/* SPDX-License-Identifier: Apache-2.0 */
/* Reads again what is at rest, before somebody needs it: one extent after the other, by device,
 * egroup and id, each against the sums and the root that its header, or our memory, has of it.
 *
 *   wait for its turn ----> hold, read, compare ----> sound
 *        ^                                              bad: noted, and told to the controller
 *        '----------------- the next one <--------------'   until it is no more, or whole again
 *
 * (Z1) Only what is sealed and in the index is judged, and only by what is so after the read as
 * well: while it is held its room is not given to anybody (I3), but a drop that comes meanwhile
 * empties it under us.  (Z2) Nothing is held while we wait for a turn: between two extents only
 * numbers are kept, which are given once.  (Z3) Whoever is told reads again before anything is done
 * (copy.c), so that a late word about what was dropped, replaced or repaired does no harm.
 *
 * Where it was is noted in the file `scrub` each minute, unsynced: a note that is lost, torn or
 * rotten costs a part of a pass. */
#include "base/hash.h"
#include "store/own.h"
#include <stdio.h>
#include <stdlib.h>

#define ULL(v) ((unsigned long long)(v))

enum { NOTE_BYTES = 56 };
static const char magic[8] = { 'W', 'A', 'D', 'I', 'S', 'C', 'R', '1' };

/* ---- where it was ---- */
static bool note_path(const struct store *st, char path[PATH_BYTES])
{
	return (size_t)snprintf(path, PATH_BYTES, "%s/scrub", st->opts->dir) < PATH_BYTES;
}

static PARKS void note_write(struct store *st)
{
	struct scrub *z = &st->scrub;
	uint8_t note[NOTE_BYTES];
	struct writer w = writer_of(note, sizeof note);
	char path[PATH_BYTES];
	struct sys_file *f;

	z->saved_ns = sys_now_ns(st->sys);
	write_raw(&w, magic, sizeof magic);
	write_u64(&w, z->device);
	write_u64(&w, z->egroup);
	write_u64(&w, z->extent);
	write_u64(&w, z->passes);
	write_u64(&w, z->ended_ms);
	write_u64(&w, hash64(0, note, NOTE_BYTES - 8));
	check(w.ok);
	if (!note_path(st, path) ||
		sys_open(st->sys, path, SYS_WRITE | SYS_CREATE, &f, NULL) < 0)
		return;
	(void)sys_pwrite(f, note, sizeof note, 0, NULL);
	sys_close(f);
}

PARKS void scrub_open(struct store *st)
{
	uint8_t note[NOTE_BYTES] = { 0 };
	struct reader r = reader_of(note + sizeof magic, sizeof note - sizeof magic);
	struct scrub *z = &st->scrub;
	char path[PATH_BYTES];
	struct sys_file *f;
	uint64_t device;
	int64_t n;

	if (!note_path(st, path) || sys_open(st->sys, path, SYS_READ, &f, NULL) < 0)
		return;
	n = sys_pread(f, note, sizeof note, 0, NULL);
	sys_close(f);
	if (n != NOTE_BYTES || memcmp(note, magic, sizeof magic) != 0 ||
		le64(note + NOTE_BYTES - 8) != hash64(0, note, NOTE_BYTES - 8))
		return;
	device = read_u64(&r);
	z->egroup = read_u64(&r);
	z->extent = read_u64(&r);
	z->passes = read_u64(&r);
	z->ended_ms = read_u64(&r);
	z->device = device < st->n_devices ? (uint8_t)device : 0;
}

/* ---- bad ones ---- */
void extent_rotten(struct extent *e, int rc)
{
	struct device *d = e->egroup->device;
	struct store *st = d->store;
	char line[160];

	check(extent_is(e, EXTENT_SEALED));
	if (e->bad)
		return;
	e->bad = true;
	e->told_ns = 0;
	st->scrub.found++;
	st->scrub.n_bad++;
	list_add_before(st->scrub.bad.next, &e->in_bad);
	sys_reached(st->sys, "an extent at rest was rotten");
	snprintf(line, sizeof line, "store: extent %llu of egroup %llu, device %u: %s", ULL(e->id),
		ULL(e->egroup->id), d->id,
		rc == E_CORRUPT ? "not what was written" : "cannot be read");
	sys_log(st->sys, line);
	waitq_wake_all(&st->left); /* the next heartbeat is due, with what is to be told */
}

void extent_sound(struct extent *e)
{
	if (!e->bad)
		return;
	e->bad = false;
	list_remove(&e->in_bad);
	check(e->egroup->device->store->scrub.n_bad > 0);
	e->egroup->device->store->scrub.n_bad--;
}

uint32_t scrub_bad(struct store *st, uint8_t *room, size_t len, uint16_t version,
	struct wire_list *ret_list)
{
	struct wire_list_builder l = wire_list_begin(room, len, version);
	uint64_t now_ns = sys_now_ns(st->sys);

	for (uint32_t i = 0; i < st->scrub.n_bad && l.n < SCRUB_TOLD_MAX; i++) {
		struct extent *e = container_of(st->scrub.bad.next, struct extent, in_bad);

		if (e->told_ns != 0 && now_ns - e->told_ns < SCRUB_TELL_MS * SYS_MS)
			break; /* and so were all behind it */
		if (!sub_bad_extent_add(&l, &(struct sub_bad_extent){ .egroup = e->egroup->id,
						    .extent = e->id }))
			break;
		e->told_ns = now_ns;
		list_remove(&e->in_bad);
		list_push(&st->scrub.bad, &e->in_bad);
	}
	*ret_list = wire_list_end(&l);
	return ret_list->n;
}

/* ---- one extent ---- */
static bool hurries(const struct store *st)
{
	return st->scrub.asked != st->scrub.ended;
}

/* What is held is held for a moment only, so this is not the pace of the day. */
static PARKS int rest(struct store *st, uint64_t bytes, bool hurry)
{
	if (hurry || hurries(st))
		return fiber_yield();
	return fiber_sleep(sys_after(st->sys, bytes * SYS_SEC / LIMIT_SCRUB_BYTES_PER_S));
}

static int look_memory(const struct extent *e, uint64_t at, uint64_t len, struct err_note *note)
{
	uint64_t first = at / LIMIT_BLOCK_BYTES, bad;

	if (!sums_verify(e->id, first, e->arena->at + e->offset + at, len, e->sums + first, &bad))
		return err_set(note, E_CORRUPT, "block %llu of extent %llu, egroup %llu", ULL(bad),
			ULL(e->id), ULL(e->egroup->id));
	return 0;
}

static PARKS int look_file(struct extent *e, uint64_t at, uint64_t len, uint32_t *sums,
	struct err_note *note)
{
	struct store *st = e->egroup->device->store;
	uint64_t n = sums_count(len);
	size_t room = (size_t)(room_header(e->egroup->device->tier, e->len) +
			       n * LIMIT_BLOCK_BYTES);
	uint8_t *buf;
	int rc = buffer_take(st, room, &buf, note);

	if (rc < 0)
		return rc;
	rc = volume_read(e, at / LIMIT_BLOCK_BYTES, n, buf, sums, note);
	buffer_give(st, buf, room);
	return rc;
}

PARKS int extent_look(struct extent *e, bool hurry, struct err_note *note)
{
	struct store *st = e->egroup->device->store;
	bool dram = device_is_dram(e->egroup->device);
	uint32_t *sums = dram ? e->sums : malloc(sums_count(e->len) * sizeof *sums);
	uint64_t at = 0, len;
	int rc = 0;

	check(e->refs > 0);
	if (sums == NULL)
		return err_set(note, E_NOMEM, "the sums of extent %llu", ULL(e->id));
	for (; rc == 0 && at < e->len && !extent_is(e, EXTENT_DROPPED); at += len) {
		len = e->len - at < SCRUB_PIECE_BYTES ? e->len - at : SCRUB_PIECE_BYTES;
		rc = dram ? look_memory(e, at, len, note) : look_file(e, at, len, sums, note);
		if (rc == 0)
			rc = rest(st, len, hurry);
	}
	if (rc == 0 && at >= e->len && sums_root(sums, sums_count(e->len)) != e->root)
		rc = err_set(note, E_CORRUPT, "sums of extent %llu, egroup %llu", ULL(e->id),
			ULL(e->egroup->id));
	if (!dram)
		free(sums);
	return rc;
}

/* ---- its turn ---- */
static uint64_t used_bytes(const struct store *st)
{
	uint64_t used = 0;

	for (unsigned i = 0; i < st->n_devices; i++)
		used += st->devices[i].used;
	return used;
}

static uint64_t span_ms(const struct store *st)
{
	return st->opts->scrub_ms != 0 ? st->opts->scrub_ms : LIMIT_SCRUB_MS;
}

static uint64_t turn_ns(const struct store *st, uint64_t bytes)
{
	uint64_t used = used_bytes(st);

	return used > 0 ? bytes * span_ms(st) / used * SYS_MS : 0;
}

/* A pass at leisure gives way to one that was asked for. */
static bool given_up(const struct store *st)
{
	return hurries(st) && !st->scrub.at_once;
}

/* Until it is time for so many bytes more; then a moment more while others are served. */
static PARKS int wait_turn(struct store *st, uint64_t bytes)
{
	uint64_t from_ns = sys_now_ns(st->sys), now_ns = from_ns, due_ns, until_ns;
	int rc = 0;

	while (rc == 0 && !hurries(st) && (due_ns = from_ns + turn_ns(st, bytes)) > now_ns) {
		until_ns = sys_after(st->sys, SCRUB_LOOK_MS * SYS_MS);
		rc = waitq_wait(&st->scrub.wake, due_ns < until_ns ? due_ns : until_ns);
		rc = rc == E_TIMEOUT ? 0 : rc;
		now_ns = sys_now_ns(st->sys);
	}
	for (int i = 0; rc == 0 && !hurries(st) && i < SCRUB_YIELD_MS / ASKED_MS; i++) {
		if (st->asked_ns == 0 || sys_now_ns(st->sys) >= st->asked_ns + ASKED_MS * SYS_MS)
			break;
		rc = fiber_sleep(sys_after(st->sys, ASKED_MS * SYS_MS));
	}
	return rc;
}

static struct extent *sealed(const struct store *st, uint64_t egroup, uint64_t id)
{
	struct table_node *n = table_get(&st->extents, egroup, id);
	struct extent *e = n != NULL ? container_of(n, struct extent, node) : NULL;

	return e != NULL && extent_is(e, EXTENT_SEALED) ? e : NULL;
}

/* E_CANCELED, or 0 whatever it found. */
static PARKS int visit(struct store *st, uint64_t egroup, uint64_t id)
{
	struct extent *e = sealed(st, egroup, id);
	struct err_note note;
	int rc;

	if (e == NULL)
		return 0;
	if ((rc = wait_turn(st, e->len)) < 0 || given_up(st))
		return rc;
	if ((e = sealed(st, egroup, id)) == NULL) /* (Z2) */
		return 0;
	extent_ref(e);
	rc = extent_look(e, false, &note);
	if (extent_is(e, EXTENT_SEALED)) { /* (Z1) */
		e->egroup->device->n_corrupt += rc == E_CORRUPT;
		if (rc == E_CORRUPT && !e->bad)
			sys_reached(st->sys, "a scrub found rot");
		if (rc == E_CORRUPT || rc == E_IO)
			extent_rotten(e, rc);
		else if (rc == 0)
			extent_sound(e);
		if (rc == 0 || rc == E_CORRUPT) {
			st->scrub.n_extents++;
			st->scrub.bytes += e->len;
		}
	}
	extent_unref(e);
	return rc == E_CANCELED ? rc : 0;
}

/* ---- all of them ---- */
static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Ids behind `after`, in order; NULL without memory. */
static uint64_t *ids_of(const struct egroup *g, uint64_t after, size_t *ret_n)
{
	uint64_t *ids = malloc((g->n_extents + 1) * sizeof *ids);
	size_t n = 0;

	if (ids == NULL)
		return NULL;
	list_each (it, &g->extents) {
		const struct extent *e = container_of(it, struct extent, in_egroup);

		if (e->id > after && extent_is(e, EXTENT_SEALED))
			ids[n++] = e->id;
	}
	qsort(ids, n, sizeof *ids, by_number);
	*ret_n = n;
	return ids;
}

static PARKS int visit_egroup(struct store *st, const struct egroup *g)
{
	struct scrub *z = &st->scrub;
	uint64_t egroup = g->id, *ids;
	size_t n = 0;
	int rc = 0;

	ids = ids_of(g, z->egroup == egroup ? z->extent : 0, &n);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		rc = visit(st, egroup, ids[i]); /* g may be gone from here on */
		if (rc < 0 || given_up(st))
			break;
		z->egroup = egroup;
		z->extent = ids[i];
		if (sys_now_ns(st->sys) - z->saved_ns >= SCRUB_SAVE_MS * SYS_MS)
			note_write(st);
	}
	free(ids);
	return rc;
}

/* The next one at or behind a number; NULL at the end. */
static const struct egroup *egroup_from(const struct device *d, uint64_t from)
{
	const struct egroup *best = NULL;

	list_each (it, &d->egroups) {
		const struct egroup *g = container_of(it, struct egroup, link);

		if (!g->dropped && g->id >= from && (best == NULL || g->id < best->id))
			best = g;
	}
	return best;
}

static PARKS int pass(struct store *st)
{
	struct scrub *z = &st->scrub;
	uint64_t number = z->asked, next = z->egroup;
	const struct egroup *g;
	int rc = 0;

	z->at_once = number != z->ended;
	if (z->at_once) { /* from the beginning, for whoever wants all of it */
		z->device = 0;
		next = z->egroup = z->extent = 0;
	}
	for (; z->device < st->n_devices; z->device++) {
		while ((g = egroup_from(&st->devices[z->device], next)) != NULL) {
			next = g->id + 1;
			rc = visit_egroup(st, g);
			if (rc == 0)
				rc = fiber_yield();
			if (rc < 0 || given_up(st))
				return rc;
		}
		next = z->egroup = z->extent = 0;
	}
	z->device = 0;
	z->passes++;
	z->ended_ms = sys_wall_ms(st->sys);
	if (z->at_once)
		waitq_wake_all(&st->left); /* somebody waits for the heartbeat that says so */
	z->ended = number;
	note_write(st);
	return 0;
}

void scrub_now(struct store *st, uint64_t number)
{
	if (number == 0 || number == st->scrub.asked)
		return;
	st->scrub.asked = number;
	waitq_wake_all(&st->scrub.wake);
}

PARKS int scrub_run(void *store)
{
	struct store *st = store;
	struct scrub *z = &st->scrub;
	uint64_t rest_ms = span_ms(st) < SCRUB_LOOK_MS ? span_ms(st) : SCRUB_LOOK_MS;
	int rc = 0;

	fiber_note(0, "reads again what is at rest");
	z->saved_ns = sys_now_ns(st->sys);
	while (rc != E_CANCELED) {
		rc = pass(st);
		if (rc == 0 && !hurries(st)) /* more of it may have come */
			rc = waitq_wait(&z->wake, sys_after(st->sys, rest_ms * SYS_MS));
	}
	return 0;
}
