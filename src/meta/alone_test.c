/* SPDX-License-Identifier: Apache-2.0 */
#include "meta/alone_test.h"

static void sealing(void *arg)
{
	struct alone *a = arg;

	if (a->sh != NULL)
		shard_sealing(a->sh);
}

static void moved(void *arg, uint64_t written, uint64_t synced)
{
	struct alone *a = arg;

	if (a->sh != NULL)
		shard_moved(a->sh, written, synced);
}

static void failed(void *arg, int rc, const struct err_note *note)
{
	struct alone *a = arg;

	if (a->sh != NULL)
		shard_stop(a->sh, rc);
}

int alone_open(struct alone *a, struct sys *s, const char *dir, const struct db_opts *db,
	const struct shard_opts *o, struct err_note *note)
{
	struct db_opts dbo = *db;
	int rc;

	*a = (struct alone){ .sh = NULL };
	group_init(&a->fibers, sys_loop(s));
	dbo.dir = dir;
	dbo.sealing = sealing;
	dbo.moved = moved;
	dbo.failed = failed;
	dbo.arg = a;
	if ((rc = db_open(s, &a->fibers, &dbo, &a->db, note)) < 0)
		return rc;
	if ((rc = shard_open(s, a->db, o, &a->sh, note)) < 0) {
		(void)db_close(a->db, NULL);
		(void)group_wait(&a->fibers);
	}
	return rc;
}

int alone_again(struct alone *a, struct sys *s, const struct shard_opts *o, struct err_note *note)
{
	shard_close(a->sh);
	a->sh = NULL;
	return shard_open(s, a->db, o, &a->sh, note);
}

int alone_close(struct alone *a, struct err_note *note)
{
	int rc;

	shard_close(a->sh); /* told of records to its end */
	a->sh = NULL;
	rc = db_close(a->db, note);
	(void)group_wait(&a->fibers);
	return rc;
}
