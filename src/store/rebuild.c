/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the files of a device back into the index: record by record, and block by block over what
 * is neither a record nor zeros.  Nothing is believed without its hash; nothing is changed, but for
 * files that hold nothing at all. */
#include "store/own.h"
#include <stdio.h>
#include <stdlib.h>

#define ULL(v) ((unsigned long long)(v))

enum { WINDOW_BYTES = 256 << 10, HEADER_BYTES_MAX = 2 * SYS_BLOCK };

struct names { uint64_t *ids; size_t n, cap; bool full; };

struct walk {
	struct device *d;
	struct egroup *g;
	struct sys_file *f;
	uint8_t *window;
	uint64_t id, from, len; /* the window shows len bytes at from */
	uint64_t end;           /* of the file, in whole blocks */
	uint64_t unknown;       /* bytes that are neither records nor zeros */
	uint64_t last_room;     /* of the record just passed; 0: looking for one */
	uint32_t n_broken;
	bool in_unknown;
};

/* ---- names ---- */
static bool hex_get(const char *text, uint64_t *ret)
{
	uint64_t v = 0;

	for (int i = 0; i < 16; i++) {
		char c = text[i];

		if (c >= '0' && c <= '9')
			v = v << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			v = v << 4 | (uint64_t)(c - 'a' + 10);
		else
			return false;
	}
	*ret = v;
	return text[16] == 0;
}

static void name_add(void *arg, const char *name)
{
	struct names *l = arg;
	uint64_t id, *more;

	if (strncmp(name, "eg-", 3) != 0 || !hex_get(name + 3, &id) || id == 0)
		return;
	if (l->n == l->cap) {
		more = realloc(l->ids, (l->cap * 2 + 64) * sizeof *more);
		if (more == NULL) {
			l->full = true;
			return;
		}
		l->ids = more;
		l->cap = l->cap * 2 + 64;
	}
	l->ids[l->n++] = id;
}

/* ---- blocks ---- */
/* Shows at least `want` bytes at `at`; E_IO when the device fails there. */
static PARKS int show(struct walk *w, uint64_t at, size_t want)
{
	int64_t n;

	if (at >= w->from && at + want <= w->from + w->len)
		return 0;
	/* Behind a long record stands another one: its header is all that is needed of it. */
	w->from = at;
	w->len = w->last_room > WINDOW_BYTES / 2 ? HEADER_BYTES_MAX : WINDOW_BYTES;
	memset(w->window, 0, w->len); /* behind the end is nothing */
	n = sys_pread(w->f, w->window, w->len, at, NULL);
	if (n == E_IO) { /* one bad block must not hide its neighbours */
		w->len = want;
		n = sys_pread(w->f, w->window, want, at, NULL);
	}
	if (n < 0)
		w->len = 0;
	return n < 0 ? (int)n : 0;
}

static void unknown_block(struct walk *w)
{
	if (!w->in_unknown)
		w->n_broken++;
	w->in_unknown = true;
	w->unknown += SYS_BLOCK;
}

static int group_of(struct walk *w, uint64_t job)
{
	struct store *st = w->d->store;

	if (w->g != NULL)
		return w->g->job == job ? 0 : E_CORRUPT;
	if (egroup_get(st, w->id) != NULL) /* two devices claim it */
		return E_CORRUPT;
	return egroup_make(st, w->id, job, w->d, &w->g);
}

/* The bytes that the record at `at` takes; 0 when there is none to believe. */
static PARKS int record_at(struct walk *w, uint64_t at, uint64_t *ret_room)
{
	uint32_t header = record_header_bytes(w->window + (at - w->from), w->id, at);
	struct record r;
	int rc;

	*ret_room = 0;
	if (header == 0)
		return 0;
	if ((rc = show(w, at, header)) < 0)
		return rc == E_IO ? 0 : rc;
	if (volume_record_get(w->window + (at - w->from), header, w->id, at, &r, NULL) < 0)
		return 0;
	if (at + room_of(w->d->tier, r.len) > w->end) /* its bytes never came */
		return 0;
	if ((rc = group_of(w, r.job)) == 0)
		rc = extent_found(w->g, r.extent, at + header, r.len, r.root, r.synced);
	if (rc == 0)
		*ret_room = room_of(w->d->tier, r.len);
	return rc == E_NOMEM ? rc : 0;
}

static PARKS int walk_file(struct walk *w)
{
	uint64_t at = 0, room;
	int rc;

	while (at < w->end) {
		rc = show(w, at, SYS_BLOCK);
		if (rc < 0 && rc != E_IO)
			return rc;
		if (rc == 0 && bytes_zero(w->window + (at - w->from), SYS_BLOCK)) {
			w->in_unknown = false;
			w->last_room = 0;
			at += SYS_BLOCK;
			continue;
		}
		room = 0;
		if (rc == 0 && (rc = record_at(w, at, &room)) < 0)
			return rc;
		if (room == 0)
			unknown_block(w);
		else
			w->in_unknown = false;
		w->last_room = room;
		at += room != 0 ? room : SYS_BLOCK;
	}
	return 0;
}

/* ---- files ---- */
static void report(const struct walk *w)
{
	char line[256];

	if (w->n_broken == 0)
		return;
	snprintf(line, sizeof line,
		"store: egroup %llu on %s: %u torn or rotten records, %llu bytes skipped",
		ULL(w->id), w->d->dir, w->n_broken, ULL(w->unknown));
	sys_log(w->d->store->sys, line);
}

static int take_in(struct walk *w)
{
	int rc;

	w->d->n_broken += w->n_broken;
	report(w);
	if (w->g == NULL && egroup_get(w->d->store, w->id) != NULL)
		return 0;
	if (w->g == NULL && (rc = egroup_make(w->d->store, w->id, 0, w->d, &w->g)) < 0)
		return rc;
	w->g->jobless = w->g->n_extents == 0;
	w->g->file.exists = true;
	w->g->file.end = w->end;
	volume_dead(w->g, w->unknown);
	return 0;
}

static PARKS int rebuild_file(struct walk *w, struct err_note *note)
{
	struct sys *s = w->d->store->sys;
	char path[PATH_BYTES];
	int rc;

	volume_path(w->d, w->id, path);
	if ((rc = sys_open(s, path, SYS_READ | SYS_DIRECT, &w->f, note)) < 0)
		return rc;
	rc = sys_file_bytes(w->f, &w->end, note);
	if (rc == 0) {
		w->end = (w->end + SYS_BLOCK - 1) / SYS_BLOCK * SYS_BLOCK;
		rc = walk_file(w);
		if (rc < 0)
			err_set(note, rc, "reading %s back", path);
	}
	sys_close(w->f);
	if (rc < 0)
		return rc;
	if (w->g == NULL && w->unknown == 0)
		return sys_unlink(s, path, note);
	return take_in(w);
}

int volume_rebuild(struct device *d, struct err_note *note)
{
	struct store *st = d->store;
	struct names names = { 0 };
	struct walk w;
	uint8_t *window;
	int rc = buffer_take(st, WINDOW_BYTES, &window, note);

	if (rc < 0)
		return rc;
	rc = sys_list_dir(st->sys, d->dir, name_add, &names, note);
	if (rc == 0 && names.full)
		rc = err_set(note, E_NOMEM, "the names in %s", d->dir);
	for (size_t i = 0; rc == 0 && i < names.n; i++) {
		w = (struct walk){ .d = d, .id = names.ids[i], .window = window };
		rc = rebuild_file(&w, note);
	}
	buffer_give(st, window, WINDOW_BYTES);
	free(names.ids);
	return rc;
}
