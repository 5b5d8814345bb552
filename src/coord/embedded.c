/* SPDX-License-Identifier: Apache-2.0 */
/* coord in a file.  Beside it stand a file that is locked, because the other one is replaced by
 * every change, and for a moment the next version: written, synced, renamed, and the directory
 * synced.
 *
 * (E1) What a read shows is durable: the roll changes when the directory has been synced, and an
 *      open first writes what it found into a fresh file, for the old one may be whole in the page
 *      cache alone.
 * (E2) Up to the rename a failure has changed nothing.  From there on nobody knows what a restart
 *      will find: the change is E_UNKNOWN, and nothing is answered until the file is opened again.
 * (E3) A change that has begun is not cut off by cancellation. */
#include "coord/embedded.h"
#include "base/check.h"
#include "coord/roll.h"
#include <stdio.h>
#include <stdlib.h>

enum { DIR_MAX = 480, FILE_PATH_MAX = 512 };

struct embedded {
	struct coord c; /* first */
	struct sys_file *lock;
	struct fiber_lock changing;
	struct roll *now, *next; /* next: only while changing */
	uint8_t *bytes;
	bool broken; /* (E2) */
	char dir[DIR_MAX], path[FILE_PATH_MAX], path_new[FILE_PATH_MAX], path_lock[FILE_PATH_MAX];
};

/* ---- the file ---- */
PARKS static int write_new(struct embedded *e, const struct roll *b, struct err_note *note)
{
	size_t len = roll_encode(b, e->bytes);
	struct sys_file *f;
	int rc = sys_unlink(e->c.sys, e->path_new, note);

	if (rc < 0 && rc != E_NOTFOUND)
		return rc;
	rc = sys_open(e->c.sys, e->path_new, SYS_WRITE | SYS_CREATE | SYS_EXCL, &f, note);
	if (rc < 0)
		return rc;
	rc = sys_pwrite(f, e->bytes, len, 0, note);
	if (rc == 0)
		rc = sys_sync(f, note);
	sys_close(f);
	return rc;
}

/* Makes b the file.  E_UNKNOWN: maybe (E2). */
PARKS static int replace(struct embedded *e, const struct roll *b, struct err_note *note)
{
	int rc = write_new(e, b, note);

	if (rc < 0)
		return rc;
	rc = sys_rename(e->c.sys, e->path_new, e->path, note);
	if (rc == 0)
		rc = sys_sync_dir(e->c.sys, e->dir, note);
	if (rc == 0)
		return 0;
	e->broken = true;
	return E_UNKNOWN;
}

/* E_NOTFOUND: there is no file. */
PARKS static int load(struct embedded *e, struct err_note *note)
{
	struct sys_file *f;
	int64_t n;
	int rc = sys_open(e->c.sys, e->path, SYS_READ, &f, note);

	if (rc < 0)
		return rc;
	n = sys_pread(f, e->bytes, ROLL_BYTES_MAX, 0, note);
	sys_close(f);
	if (n < 0)
		return (int)n;
	if (!roll_decode(bytes_of(e->bytes, (size_t)n), e->now))
		return err_set(note, E_CORRUPT,
			"%s: its bytes are not those that were written: who leads the shards is "
			"not known",
			e->path);
	return 0;
}

/* ---- operations ---- */
static int refuse(struct embedded *e, struct err_note *note)
{
	if (e->now->moved_to[0] != '\0')
		return err_set(note, E_GONE, "%s has moved to %.200s", e->path, e->now->moved_to);
	if (e->broken)
		return err_set(note, E_UNAVAILABLE,
			"%s could not be replaced: start again to see what is in it", e->path);
	return 0;
}

static int embedded_get(
	struct coord *c, uint64_t until_ns, struct coord_item *it, struct err_note *note)
{
	struct embedded *e = container_of(c, struct embedded, c);
	const struct coord_item *at = roll_find(e->now, it->key);
	int rc = refuse(e, note);

	if (rc == 0 && at != NULL)
		*it = *at;
	return rc;
}

static int embedded_list(struct coord *c, const char *prefix, uint64_t until_ns,
	coord_each_fn *each, void *arg, struct err_note *note)
{
	struct embedded *e = container_of(c, struct embedded, c);
	int rc = refuse(e, note);

	for (uint32_t i = 0; rc == 0 && i < e->now->n_items; i++)
		if (strncmp(e->now->items[i].key, prefix, strlen(prefix)) == 0)
			rc = each(arg, &e->now->items[i]);
	return rc;
}

/* Makes e->next the file and what is read; the lock is held. */
PARKS static int commit(struct embedded *e, struct err_note *note)
{
	struct roll *was = e->now;
	int rc;

	check(fiber_lock_held(&e->changing));
	fiber_shield(FOREVER); /* (E3) */
	rc = replace(e, e->next, note);
	fiber_unshield();
	if (rc < 0)
		return rc;
	e->now = e->next;
	e->next = was;
	coord_changed(&e->c);
	return 0;
}

PARKS static int embedded_swap(struct coord *c, uint64_t expected, uint64_t until_ns,
	struct coord_item *it, struct err_note *note)
{
	struct embedded *e = container_of(c, struct embedded, c);
	int rc = fiber_lock(&e->changing, until_ns);

	if (rc < 0)
		return err_set(note, rc, "%s: %s", e->path, err_text(rc));
	rc = refuse(e, note);
	if (rc == 0) {
		memcpy(e->next, e->now, sizeof *e->next);
		rc = roll_swap(e->next, expected, it);
		if (rc == E_FULL || rc == E_CONFLICT)
			err_set(note, rc, "%s in %s: %s", it->key, e->path, err_text(rc));
		if (rc == 0)
			rc = commit(e, note);
	}
	fiber_unlock(&e->changing);
	return rc;
}

int coord_embedded_move(struct coord *c, const char *url, struct err_note *note)
{
	struct embedded *e = container_of(c, struct embedded, c);
	size_t n = strlen(url);
	int rc = fiber_lock(&e->changing, FOREVER);

	check(n > 0);
	check(n < COORD_URL_MAX);
	if (rc < 0)
		return rc;
	rc = refuse(e, note);
	if (rc == 0) {
		memcpy(e->next, e->now, sizeof *e->next);
		memcpy(e->next->moved_to, url, n + 1);
		rc = commit(e, note);
	}
	fiber_unlock(&e->changing);
	return rc;
}

/* ---- from start to end ---- */
static void embedded_free(struct embedded *e)
{
	if (e->lock != NULL)
		sys_close(e->lock);
	free(e->now);
	free(e->next);
	free(e->bytes);
	free(e);
}

static void embedded_close(struct coord *c)
{
	struct embedded *e = container_of(c, struct embedded, c);

	check(e->changing.holder == NULL);
	embedded_free(e);
}

static const struct coord_ops ops = {
	.get = embedded_get,
	.swap = embedded_swap,
	.list = embedded_list,
	.wait = coord_wait_queue,
	.close = embedded_close,
};

static int embedded_new(
	struct sys *s, const char *dir, struct embedded **ret_e, struct err_note *note)
{
	struct embedded *e;

	if (strlen(dir) >= DIR_MAX)
		return err_set(note, E_INVALID, "%.100s...: the path is too long", dir);
	e = calloc(1, sizeof *e);
	if (e != NULL) {
		e->now = calloc(1, sizeof *e->now);
		e->next = calloc(1, sizeof *e->next);
		e->bytes = malloc(ROLL_BYTES_MAX);
	}
	if (e == NULL || e->now == NULL || e->next == NULL || e->bytes == NULL) {
		if (e != NULL)
			embedded_free(e);
		return err_set(note, E_NOMEM, "%s: %s", dir, err_text(E_NOMEM));
	}
	coord_init(&e->c, s, &ops);
	fiber_lock_init(&e->changing);
	snprintf(e->dir, sizeof e->dir, "%s", dir);
	snprintf(e->path, sizeof e->path, "%s/coord", dir);
	snprintf(e->path_new, sizeof e->path_new, "%s/coord.new", dir);
	snprintf(e->path_lock, sizeof e->path_lock, "%s/coord.lock", dir);
	*ret_e = e;
	return 0;
}

PARKS static int start(struct embedded *e, bool create, char *ret_moved_to, struct err_note *note)
{
	int rc = sys_open(e->c.sys, e->path_lock, SYS_WRITE | SYS_CREATE, &e->lock, note);

	if (rc < 0)
		return rc;
	rc = sys_lock(e->lock, note);
	if (rc < 0)
		return rc;
	rc = load(e, note);
	if (rc < 0 && (rc != E_NOTFOUND || !create))
		return rc;
	rc = replace(e, e->now, note); /* (E1) */
	if (rc < 0)
		return rc == E_UNKNOWN ? E_IO : rc;
	rc = refuse(e, note);
	if (rc == E_GONE)
		memcpy(ret_moved_to, e->now->moved_to, COORD_URL_MAX);
	return rc;
}

int coord_embedded_open(struct sys *s, const char *dir, bool create, struct coord **ret_c,
	char *ret_moved_to, struct err_note *note)
{
	struct embedded *e = NULL;
	int rc = embedded_new(s, dir, &e, note);

	if (rc < 0)
		return rc;
	rc = start(e, create, ret_moved_to, note);
	if (rc < 0)
		embedded_free(e);
	else
		*ret_c = &e->c;
	return rc;
}
