/* SPDX-License-Identifier: Apache-2.0 */
/* A look at a device of files.  As rebuild.c walks them, but alone: no server, no index; every byte
 * is read around the page cache and held against its sum. */
#include "store/look.h"
#include "store/own.h"
#include <stdio.h>
#include <stdlib.h>

enum { HEADER_BYTES_MAX = 2 * SYS_BLOCK, IDS_STEP = 64, WINDOW_BYTES = 256 << 10 };

struct look {
	struct sys *sys;
	const struct look_opts *o;
	struct err_note *note;
	struct sys_file *f;
	char path[PATH_BYTES];
	uint64_t egroup, end;
	uint64_t hole_at; /* UINT64_MAX: not in one */
	uint8_t *buf;     /* a header, or the longest extent */
	uint8_t *window;  /* shows window_len bytes at window_at */
	uint64_t window_at, window_len;
	uint32_t *sums;
	uint64_t *ids;
	size_t n_ids, cap_ids;
	bool full;
};

static void each_name(void *arg, const char *name)
{
	struct look *g = arg;
	char *end;
	uint64_t id;

	if (strncmp(name, "eg-", 3) != 0 || strlen(name) != 19)
		return;
	id = strtoull(name + 3, &end, 16);
	if (*end != '\0' || id == 0)
		return;
	if (g->n_ids == g->cap_ids) {
		uint64_t *more = realloc(g->ids, (g->cap_ids * 2 + IDS_STEP) * sizeof *more);

		if (more == NULL) {
			g->full = true;
			return;
		}
		g->ids = more;
		g->cap_ids = g->cap_ids * 2 + IDS_STEP;
	}
	g->ids[g->n_ids++] = id;
}

static PARKS int names(struct look *g, const char *dir)
{
	int rc = sys_list_dir(g->sys, dir, each_name, g, g->note);

	return rc == 0 && g->full ? err_set(g->note, E_NOMEM, "the names in %s", dir) : rc;
}

/* ---- one file ---- */
static void hole_ends(struct look *g, uint64_t at)
{
	struct look_hole h = { g->path, g->hole_at, at - g->hole_at };

	if (g->hole_at != UINT64_MAX)
		g->o->hole(g->o->arg, &h);
	g->hole_at = UINT64_MAX;
}

static PARKS int read_at(struct look *g, uint8_t *to, uint64_t at, size_t len)
{
	int64_t n;

	memset(to, 0, len); /* behind the end is nothing */
	n = sys_pread(g->f, to, len, at, g->note);
	return n < 0 ? (int)n : 0;
}

/* Shows the block at `at`; one bad block must not hide its neighbours. */
static PARKS int show(struct look *g, uint64_t at)
{
	int rc;

	if (at >= g->window_at && at + SYS_BLOCK <= g->window_at + g->window_len)
		return 0;
	g->window_at = at;
	g->window_len = WINDOW_BYTES;
	rc = read_at(g, g->window, at, WINDOW_BYTES);
	if (rc == E_IO) {
		g->window_len = SYS_BLOCK;
		rc = read_at(g, g->window, at, SYS_BLOCK);
	}
	if (rc < 0)
		g->window_len = 0;
	return rc;
}

/* The record at `at`, all of it; *ret_room is 0 when there is none to believe. */
static PARKS int record_at(struct look *g, uint64_t at, uint64_t *ret_room)
{
	uint32_t header = record_header_bytes(g->window + (at - g->window_at), g->egroup, at);
	struct look_extent x = { .egroup = g->egroup };
	uint64_t bad = 0, bytes;
	struct record r;
	int rc;

	*ret_room = 0;
	if (header == 0)
		return 0;
	if ((rc = read_at(g, g->buf, at, header)) < 0)
		return rc == E_IO ? 0 : rc;
	if (volume_record_get(g->buf, header, g->egroup, at, &r, g->sums) < 0)
		return 0;
	bytes = (r.len + SYS_BLOCK - 1) / SYS_BLOCK * SYS_BLOCK;
	if (at + header + bytes > g->end) /* its bytes never came */
		return 0;
	x.extent = r.extent;
	x.job = r.job;
	x.len = r.len;
	x.root = r.root;
	rc = read_at(g, g->buf, at + header, bytes);
	if (rc < 0 && rc != E_IO)
		return rc;
	x.good = rc == 0 && sums_root(g->sums, r.n_sums) == r.root &&
		 sums_verify(r.extent, 0, g->buf, r.len, g->sums, &bad);
	x.bad_byte = at + header + bad * LIMIT_BLOCK_BYTES;
	g->o->extent(g->o->arg, g->path, &x);
	*ret_room = header + bytes;
	return 0;
}

static PARKS int look_at_file(struct look *g)
{
	uint64_t at = 0, room;
	int rc = 0;

	g->hole_at = UINT64_MAX;
	g->window_len = 0;
	for (; at < g->end; at += room != 0 ? room : SYS_BLOCK) {
		const uint8_t *p;

		room = 0;
		rc = show(g, at);
		if (rc < 0 && rc != E_IO)
			return rc;
		p = g->window + (at - g->window_at);
		if (rc == 0 && bytes_zero(p, SYS_BLOCK)) {
			hole_ends(g, at);
			continue;
		}
		if (rc == 0 && (rc = record_at(g, at, &room)) < 0)
			return rc;
		if (room != 0)
			hole_ends(g, at);
		else if (g->hole_at == UINT64_MAX)
			g->hole_at = at;
		g->o->progress(g->o->arg, room != 0 ? room : SYS_BLOCK);
	}
	hole_ends(g, g->end);
	return 0;
}

static PARKS int look_at(struct look *g, uint64_t egroup)
{
	int rc;

	g->egroup = egroup;
	snprintf(g->path, sizeof g->path, "%.470s/eg-%016llx", g->o->dir,
		(unsigned long long)egroup);
	if ((rc = sys_open(g->sys, g->path, SYS_READ | SYS_DIRECT, &g->f, g->note)) < 0)
		return rc;
	rc = sys_file_bytes(g->f, &g->end, g->note);
	if (rc == 0) {
		g->end = (g->end + SYS_BLOCK - 1) / SYS_BLOCK * SYS_BLOCK;
		rc = look_at_file(g);
	}
	sys_close(g->f);
	return rc;
}

/* ---- all of them ---- */
static PARKS int take_lock(struct look *g, struct sys_file **ret_lock)
{
	char path[PATH_BYTES];
	int rc;

	snprintf(path, sizeof path, "%.470s/lock", g->o->dir);
	if ((rc = sys_open(g->sys, path, SYS_WRITE, ret_lock, g->note)) < 0)
		return rc;
	return sys_lock(*ret_lock, g->note);
}

int store_look(struct sys *s, const struct look_opts *o, struct err_note *note)
{
	struct look *g = calloc(1, sizeof *g);
	struct sys_file *lock = NULL;
	int rc;

	check(g != NULL);
	g->sys = s;
	g->o = o;
	g->note = note;
	g->buf = aligned_alloc(SYS_BLOCK, HEADER_BYTES_MAX + LIMIT_EXTENT_FILE_BYTES_MAX);
	g->window = aligned_alloc(SYS_BLOCK, WINDOW_BYTES);
	g->sums = calloc(sums_count(LIMIT_EXTENT_FILE_BYTES_MAX), sizeof *g->sums);
	rc = g->buf == NULL || g->sums == NULL || g->window == NULL
		     ? err_set(note, E_NOMEM, "a look at %s", o->dir)
		     : take_lock(g, &lock);
	if (rc == 0)
		rc = names(g, o->dir);
	for (size_t i = 0; rc == 0 && i < g->n_ids; i++)
		rc = look_at(g, g->ids[i]);
	sys_close(lock);
	free(g->buf);
	free(g->window);
	free(g->sums);
	free(g->ids);
	free(g);
	return rc;
}

int store_look_bytes(struct sys *s, const char *dir, uint64_t *ret_bytes, struct err_note *note)
{
	struct look *g = calloc(1, sizeof *g);
	uint64_t sum = 0, bytes;
	int rc;

	check(g != NULL);
	g->sys = s;
	g->note = note;
	rc = names(g, dir);
	for (size_t i = 0; rc == 0 && i < g->n_ids; i++) {
		snprintf(g->path, sizeof g->path, "%.470s/eg-%016llx", dir,
			(unsigned long long)g->ids[i]);
		if ((rc = sys_open(s, g->path, SYS_READ, &g->f, note)) < 0)
			break;
		rc = sys_file_bytes(g->f, &bytes, note);
		sum += rc == 0 ? bytes : 0;
		sys_close(g->f);
	}
	free(g->ids);
	free(g);
	if (rc == 0)
		*ret_bytes = sum;
	return rc;
}

int store_look_uuid(struct sys *s, const char *dir, uint64_t ret_uuid[2], struct err_note *note)
{
	char text[UUID_CHARS + 1] = "", path[PATH_BYTES];
	struct sys_file *f;
	int64_t n;
	int rc;

	snprintf(path, sizeof path, "%.470s/uuid", dir);
	if ((rc = sys_open(s, path, SYS_READ, &f, note)) < 0)
		return rc;
	n = sys_pread(f, text, UUID_CHARS, 0, note);
	sys_close(f);
	if (n < 0)
		return (int)n;
	return uuid_get(text, ret_uuid) ? 0 : err_set(note, E_CORRUPT, "%s is no uuid", path);
}
