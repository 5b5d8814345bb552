/* SPDX-License-Identifier: Apache-2.0 */
/* A device of files: one for each egroup, appended to, punched, read around the page cache.
 *
 * Invariants: (V1) a record's place is spent before its write begins, so two writes never overlap
 * and a failed one leaves a hole; (V2) a file is used between volume_use() and volume_unuse() only,
 * and closed only when nobody does; (V3) after a failed sync nothing more is written to a file, for
 * what the kernel still holds of it is not known. */
#include "store/own.h"
#include <stdio.h>
#include <stdlib.h>

#define ULL(v) ((unsigned long long)(v))

void volume_path(const struct device *d, uint64_t egroup, char ret_path[PATH_BYTES])
{
	int n = snprintf(ret_path, PATH_BYTES, "%s/eg-%016llx", d->dir, ULL(egroup));

	check(n > 0);
	check(n < PATH_BYTES);
}

/* ---- open files ---- */
static void close_file(struct egroup *g)
{
	struct volfile *vf = &g->file;

	check(vf->users == 0);
	list_remove(&vf->lru);
	sys_close(vf->f);
	vf->f = NULL;
	g->device->volume.n_open--;
}

static void close_oldest(struct volume *v)
{
	struct volfile *vf;

	if (v->n_open < FILES_OPEN_MAX || list_empty(&v->unused))
		return;
	vf = container_of(v->unused.next, struct volfile, lru);
	close_file(container_of(vf, struct egroup, file));
}

/* The group may be dropped while its file is being made: then nothing of it may stay. */
static PARKS int gone_meanwhile(
	struct egroup *g, struct sys_file *f, const char *path, struct err_note *note)
{
	sys_close(f);
	g->device->volume.n_open--;
	sys_unlink(g->device->store->sys, path, NULL);
	return err_set(note, E_GONE, "egroup %llu was dropped", ULL(g->id));
}

static PARKS int open_file(struct egroup *g, struct err_note *note)
{
	struct volume *v = &g->device->volume;
	struct volfile *vf = &g->file;
	struct sys_file *f;
	char path[PATH_BYTES];
	int rc;

	volume_path(g->device, g->id, path);
	close_oldest(v);
	v->n_open++; /* before the park, so that the limit holds */
	vf->opening = true;
	rc = sys_open(g->device->store->sys, path, SYS_READ | SYS_WRITE | SYS_CREATE | SYS_DIRECT,
		&f, note);
	vf->opening = false;
	waitq_wake_all(&vf->changed);
	if (rc < 0) {
		v->n_open--;
		return rc;
	}
	if (g->dropped)
		return gone_meanwhile(g, f, path, note);
	vf->f = f;
	vf->exists = true;
	return 0;
}

int volume_use(struct egroup *g, struct err_note *note)
{
	struct volfile *vf = &g->file;
	struct sys *s = g->device->store->sys;
	int rc = 0;

	vf->users++; /* the group stays while we wait */
	while (rc == 0 && vf->f == NULL) {
		if (vf->opening)
			rc = waitq_wait(&vf->changed, sys_after(s, BUFFER_WAIT_S * SYS_SEC));
		else
			rc = open_file(g, note);
	}
	if (rc < 0) {
		vf->users--;
		egroup_forget(g);
		return rc;
	}
	list_remove(&vf->lru);
	return 0;
}

void volume_unuse(struct egroup *g)
{
	struct volfile *vf = &g->file;

	check(vf->users > 0);
	if (--vf->users > 0 || vf->f == NULL)
		return;
	list_push(&g->device->volume.unused, &vf->lru);
	if (g->dropped) {
		close_file(g);
		egroup_forget(g);
	}
}

/* ---- writing ---- */
static PARKS int sync_name(struct egroup *g, struct err_note *note)
{
	struct device *d = g->device;
	int rc;

	if (g->file.named)
		return 0;
	rc = sys_sync_dir(d->store->sys, d->dir, note);
	g->file.named = g->file.named || rc == 0;
	return rc;
}

int volume_sync(struct egroup *g, struct err_note *note)
{
	struct volfile *vf = &g->file;
	struct sys *s = g->device->store->sys;
	uint64_t mine = vf->written, covers;
	int rc = 0;

	check(vf->users > 0);
	while (rc == 0 && vf->synced < mine && !vf->broken) {
		if (vf->syncing) {
			rc = waitq_wait(&vf->changed, sys_after(s, BUFFER_WAIT_S * SYS_SEC));
			continue;
		}
		vf->syncing = true;
		covers = vf->written; /* what is written from now on waits for the next one */
		rc = sys_sync(vf->f, note);
		vf->syncing = false;
		if (rc == 0)
			vf->synced = covers;
		else if (rc != E_CANCELED)
			vf->broken = true; /* (V3) */
		waitq_wake_all(&vf->changed);
	}
	if (rc == 0 && vf->broken)
		rc = err_set(note, E_IO, "a sync of egroup %llu failed", ULL(g->id));
	return rc == 0 ? sync_name(g, note) : rc;
}

/* A failed sync says nothing about what comes behind it, and a drop must end some time. */
int volume_sync_drops(struct egroup *g, struct err_note *note)
{
	int rc;

	if (!g->file.broken)
		return volume_sync(g, note);
	check(g->file.users > 0);
	rc = sys_sync(g->file.f, note);
	return rc == 0 ? sync_name(g, note) : rc;
}

int volume_append(
	struct extent *e, uint8_t *buf, const uint32_t *sums, bool sync, struct err_note *note)
{
	struct egroup *g = e->egroup;
	struct volfile *vf = &g->file;
	struct record r = { .egroup = g->id,
		.extent = e->id,
		.job = g->job,
		.len = e->len,
		.root = e->root,
		.n_sums = (uint32_t)sums_count(e->len),
		.synced = sync };
	int rc;

	check(!e->placed);
	if ((rc = volume_use(g, note)) < 0)
		return rc;
	if (vf->broken || extent_is(e, EXTENT_DROPPED)) {
		rc = vf->broken ? E_IO : E_GONE;
		volume_unuse(g);
		return err_set(note, rc, "egroup %llu %s", ULL(g->id),
			rc == E_IO ? "had a failed sync" : "or its extent was dropped");
	}
	r.header_bytes = (uint32_t)room_header(g->device->tier, e->len);
	r.offset = vf->end;
	e->offset = vf->end + r.header_bytes;
	e->placed = true; /* (V1) */
	e->synced = sync;
	vf->end += e->room;
	vf->promised -= e->room;
	volume_record_put(&r, sums, buf);
	rc = sys_pwrite(vf->f, buf, e->room, r.offset, note);
	vf->written++;
	if (rc == 0 && sync)
		rc = volume_sync(g, note);
	volume_unuse(g);
	return rc;
}

int volume_write(struct extent *e, extent_source_fn *source, void *arg, bool sync,
	struct err_note *note)
{
	struct store *st = e->egroup->device->store;
	uint64_t header = room_header(e->egroup->device->tier, e->len);
	uint32_t *sums = malloc(sums_count(e->len) * sizeof *sums);
	uint8_t *buf;
	int rc;

	if (sums == NULL)
		return err_set(note, E_NOMEM, "the sums of extent %llu", ULL(e->id));
	if ((rc = buffer_take(st, e->room, &buf, note)) == 0) {
		rc = source(arg, e, buf + header, sums, note);
		memset(buf + header + e->len, 0, e->room - header - e->len);
		if (rc == 0)
			rc = volume_append(e, buf, sums, sync, note);
		buffer_give(st, buf, e->room);
	}
	free(sums);
	return rc;
}

/* ---- reading ---- */
static PARKS int read_all(const struct extent *e, uint8_t *buf, uint64_t len, uint64_t at,
	uint64_t least, struct err_note *note)
{
	int64_t n = sys_pread(e->egroup->file.f, buf, len, at, note);

	if (n < 0)
		return (int)n;
	if ((uint64_t)n < least)
		return err_set(note, E_CORRUPT, "extent %llu: egroup %llu ends at %llu", ULL(e->id),
			ULL(e->egroup->id), ULL(at + (uint64_t)n));
	return 0;
}

static int check_header(
	const struct extent *e, const uint8_t *buf, uint32_t *ret_sums, struct err_note *note)
{
	const struct egroup *g = e->egroup;
	size_t len = (size_t)room_header(g->device->tier, e->len);
	struct record r;

	if (volume_record_get(buf, len, g->id, e->offset - len, &r, ret_sums) < 0)
		return err_set(note, E_CORRUPT, "header of extent %llu of egroup %llu", ULL(e->id),
			ULL(g->id));
	if (r.extent != e->id || r.len != e->len || r.root != e->root || r.job != g->job)
		return err_set(note, E_CORRUPT, "extent %llu stands where %llu should",
			ULL(r.extent), ULL(e->id));
	return 0;
}

/* Header and blocks; one piece when the blocks are the first. */
static PARKS int read_pieces(
	const struct extent *e, uint64_t first, uint64_t n, uint8_t *buf, struct err_note *note)
{
	uint64_t header = room_header(e->egroup->device->tier, e->len);
	uint64_t from = first * LIMIT_BLOCK_BYTES, len = n * LIMIT_BLOCK_BYTES;
	uint64_t need = e->len - from < len ? e->len - from : len;
	int rc;

	if (first == 0)
		return read_all(e, buf, header + len, e->offset - header, header + need, note);
	rc = read_all(e, buf, header, e->offset - header, header, note);
	return rc < 0 ? rc : read_all(e, buf + header, len, e->offset + from, need, note);
}

int volume_read(struct extent *e, uint64_t first, uint64_t n, uint8_t *buf, uint32_t *sums,
	struct err_note *note)
{
	struct egroup *g = e->egroup;
	uint64_t header = room_header(g->device->tier, e->len), bad = 0;
	uint64_t left = e->len - first * LIMIT_BLOCK_BYTES, len = n * LIMIT_BLOCK_BYTES;
	int rc;

	check(e->refs > 0);
	check(n > 0);
	check(first + n <= sums_count(e->len));
	if ((rc = volume_use(g, note)) < 0)
		return rc;
	rc = read_pieces(e, first, n, buf, note);
	volume_unuse(g);
	if (rc == 0)
		rc = check_header(e, buf, sums, note);
	if (rc < 0)
		return rc;
	if (!sums_verify(e->id, first, buf + header, left < len ? left : len, sums + first, &bad))
		return err_set(note, E_CORRUPT, "block %llu of extent %llu, egroup %llu", ULL(bad),
			ULL(e->id), ULL(g->id));
	return 0;
}

/* ---- dropping ---- */
/* Where nothing can be punched the header is overwritten, and the room is dead until the egroup
 * goes. */
static PARKS int blot_out(struct extent *e, uint64_t header, struct err_note *note)
{
	static const uint8_t zeros[2 * SYS_BLOCK] __attribute__((aligned(SYS_BLOCK)));
	struct egroup *g = e->egroup;

	check(header <= sizeof zeros);
	volume_dead(g, e->room);
	return sys_pwrite(g->file.f, zeros, header, e->offset - header, note);
}

void volume_dead(struct egroup *g, uint64_t bytes)
{
	g->file.dead += bytes;
	g->device->volume.dead_bytes += bytes;
}

int volume_erase(struct extent *e, bool header_only, struct err_note *note)
{
	struct egroup *g = e->egroup;
	uint64_t header = room_header(g->device->tier, e->len);
	int rc;

	check(extent_is(e, EXTENT_DROPPED));
	check(e->placed);
	if ((rc = volume_use(g, note)) < 0)
		return rc;
	rc = sys_punch(g->file.f, e->offset - header, header_only ? header : e->room, note);
	if (rc == E_UNSUPPORTED && !header_only)
		rc = blot_out(e, header, note);
	g->file.written++;
	volume_unuse(g);
	return rc;
}

int volume_unlink(struct egroup *g, struct err_note *note)
{
	struct device *d = g->device;
	struct volfile *vf = &g->file;
	char path[PATH_BYTES];
	int rc = 0;

	check(g->dropped);
	d->volume.n_leaving += !vf->leaving;
	vf->leaving = true;
	vf->users++; /* the group stays; an open file is not closed under us */
	list_remove(&vf->lru);
	volume_path(d, g->id, path);
	if (vf->exists) {
		rc = sys_unlink(d->store->sys, path, note);
		if (rc == E_NOTFOUND)
			rc = 0;
		if (rc == 0)
			rc = sys_sync_dir(d->store->sys, d->dir, note);
	}
	if (rc == 0) {
		d->volume.n_leaving -= vf->leaving;
		vf->leaving = vf->exists = false;
	}
	if (--vf->users == 0 && vf->f != NULL)
		close_file(g);
	return rc;
}

bool volume_sweeps(const struct egroup *g)
{
	list_each (it, &g->extents) {
		const struct extent *e = container_of(it, struct extent, in_egroup);

		if (extent_is(e, EXTENT_DROPPED) && e->placed && !e->erased && e->refs == 0)
			return true;
	}
	return false;
}

int volume_sweep(void *device)
{
	struct device *d = device;
	struct volume *v = &d->volume;
	struct extent *e;
	int rc = 0;

	while (rc != E_CANCELED) {
		if (list_empty(&v->dead)) {
			rc = waitq_wait(&v->sweep, FOREVER);
			continue;
		}
		e = container_of(v->dead.next, struct extent, dead);
		list_remove(&e->dead);
		extent_ref(e); /* egroup_drop() must leave it to us */
		rc = volume_erase(e, false, NULL);
		if (rc < 0)
			volume_dead(e->egroup, e->room);
		e->erased = true;
		extent_unref(e);
	}
	return 0;
}

/* ---- opening ---- */
int volume_open(struct device *d, struct err_note *note)
{
	struct volume *v = &d->volume;
	struct sys *s = d->store->sys;
	char path[PATH_BYTES];
	int rc;

	list_init(&v->unused);
	list_init(&v->dead);
	waitq_init(&v->sweep);
	check((size_t)snprintf(path, sizeof path, "%s/lock", d->dir) < sizeof path);
	if ((rc = folder_make(s, d->dir, note)) < 0)
		return rc;
	if ((rc = sys_open(s, path, SYS_WRITE | SYS_CREATE, &v->lock, note)) < 0)
		return rc;
	if ((rc = sys_lock(v->lock, note)) < 0)
		return rc;
	return volume_rebuild(d, note);
}

void volume_close(struct device *d)
{
	struct volume *v = &d->volume;

	list_each (it, &d->egroups) {
		struct egroup *g = container_of(it, struct egroup, link);

		check(g->file.users == 0);
		if (g->file.f != NULL)
			close_file(g);
	}
	check(v->n_open == 0);
	if (v->lock != NULL)
		sys_close(v->lock);
	v->lock = NULL;
}
