/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a shard: open, the fiber that tidies behind the requests, settle, close. */
#include "meta/large_own.h"
#include <stdlib.h>

enum { FORMAT = 1, TIDY_MS = 500, LOOK_SLAB_BYTES = 1 << 20 };

int shard_may_free(const struct shard *sh, struct shard_call *c)
{
	int rc = shard_ready(sh, c);

	if (rc == 0 && db_pressed(sh->db) && !answer_known(c)) /* a refusal says: not done */
		return err_set(&c->note, E_BUSY, "merges cannot keep up");
	return rc;
}

int shard_writable(const struct shard *sh, struct shard_call *c)
{
	if (sh->failed != 0 || db_room(sh->db) != E_FULL || answer_known(c))
		return shard_may_free(sh, c);
	if (sh->opts.yields != NULL && sh->opts.yields(sh->opts.arg))
		return err_set(&c->note, E_BUSY,
			"the disk under the metadata is full: another node takes over");
	return err_set(&c->note, E_FULL,
		"the disk under the metadata is full: only deletes are taken");
}

void shard_want_sync(struct shard *sh, struct shard_call *c)
{
	c->sync = true;
	db_want_sync(sh->db);
}

void shard_want_written(struct shard *sh, uint64_t seen)
{
	if (seen == db_seen(sh->db))
		db_want_written(sh->db);
}

uint64_t shard_seen(const struct shard *sh)
{
	return db_seen(sh->db);
}

int shard_failed(const struct shard *sh)
{
	return sh->failed;
}

uint64_t shard_life(const struct shard *sh)
{
	return sh->life;
}

uint64_t shard_epoch(const struct shard *sh)
{
	return sh->opts.epoch;
}

int shard_settle(struct shard *sh, const struct shard_call *c, uint64_t until_ns)
{
	uint64_t index = db_seen(sh->db);

	if (!c->sync)
		shard_want_written(sh, index);
	for (;;) {
		int rc = sh->failed;

		if (rc == 0 && (c->sync ? db_synced(sh->db) : db_written(sh->db)) >= index)
			return 0;
		if (rc == 0)
			rc = waitq_wait(&sh->moved, until_ns);
		if (rc < 0)
			return rc;
	}
}

/* ---- what whoever owns the rows says ---- */

void shard_sealing(struct shard *sh)
{
	if (sh->failed == 0)
		bucket_write_usage(sh);
}

void shard_moved(struct shard *sh, uint64_t written, uint64_t synced)
{
	check(synced <= written);
	waitq_wake_all(&sh->moved);
}

void shard_stop(struct shard *sh, int rc)
{
	check(rc < 0);
	if (sh->failed != 0)
		return;
	sh->failed = rc;
	waitq_wake_all(&sh->moved);
	wait_wake_all(sh);
}

/* ---- the start ---- */

int meta_read(struct shard *sh, struct bytes what, uint64_t *ret_value)
{
	struct row_meta row = { .what = what };
	uint8_t key[ROW_meta_KEY_MAX];
	struct bytes value;
	int rc;

	rc = db_get(sh->db, row_meta_key(&row, key), &value);
	if (rc == 0)
		rc = row_meta_get(value, &row);
	if (rc == 0)
		*ret_value = row.value;
	return rc;
}

void meta_write(struct shard *sh, struct bytes what, uint64_t value)
{
	struct row_meta row = { .what = what, .value = value };
	uint8_t key[ROW_meta_KEY_MAX], room[ROW_meta_VALUE_MAX];

	db_put(sh->db, row_meta_key(&row, key), row_meta_put(&row, room));
}

/* The number of this start.  It need not be synced before it is used: the log keeps its order, so a
 * row that names a life is never kept without the row that began it. */
static int begin_life(struct shard *sh, struct err_note *note)
{
	uint64_t format = FORMAT, life = 0;
	int rc;

	if ((rc = meta_read(sh, BYTES("format"), &format)) < 0 && rc != E_NOTFOUND)
		return err_set(note, rc, "the row of the format");
	if (format != FORMAT)
		return err_set(note, E_UNSUPPORTED,
			"the rows have format %llu, this program reads %d",
			(unsigned long long)format, FORMAT);
	if ((rc = meta_read(sh, BYTES("life"), &life)) < 0 && rc != E_NOTFOUND)
		return err_set(note, rc, "the row of the life");
	sh->life = life + 1;
	meta_write(sh, BYTES("format"), FORMAT);
	meta_write(sh, BYTES("life"), sh->life);
	return 0;
}

/* Sweeps, reclaims and forgets in bounded steps, one a turn while there is work. */
static int tidy(void *arg)
{
	struct shard *sh = arg;
	int rc;

	do {
		bool more = false;

		if (sh->failed == 0 && !db_pressed(sh->db)) {
			if (expiry_sweep(sh))
				more = true;
			if (bucket_reclaim(sh))
				more = true;
			if (bucket_keep(sh))
				more = true;
			spread_look(sh);
			if (spread_step(sh))
				more = true;
			session_tidy(sh);
			clock_keep(sh);
		}
		/* Never fiber_yield(): a fiber that stays ready keeps the turn, and with it the
		 * log, from its end. */
		rc = waitq_wait(
			&sh->tidy, loop_now_ns(sys_loop(sh->sys)) + (more ? 1 : TIDY_MS * SYS_MS));
	} while (rc != E_CANCELED);
	return 0;
}

static void init(struct shard *sh, struct sys *s, struct db *db)
{
	sh->sys = s;
	sh->db = db;
	list_init(&sh->dirty);
	list_init(&sh->dropping);
	list_init(&sh->keeping);
	list_init(&sh->idle);
	list_init(&sh->busy);
	wait_init(sh);
	waitq_init(&sh->moved);
	waitq_init(&sh->tidy);
	group_init(&sh->fibers, sys_loop(s));
	sys_secret(s, &sh->seed, sizeof sh->seed);
}

static void fini(struct shard *sh)
{
	large_fini(sh);
	session_fini(sh);
	bucket_fini(sh);
	slab_free(sh->slab);
	free(sh->page);
	free(sh);
}

static int load_rows(struct shard *sh, struct err_note *note)
{
	int rc;

	if ((rc = begin_life(sh, note)) < 0 || (rc = bucket_load(sh, note)) < 0 ||
		(rc = session_load(sh, note)) < 0 || (rc = mark_load(sh, note)) < 0)
		return rc;
	return large_open(sh, note);
}

static int load(struct shard *sh, struct err_note *note)
{
	int rc = load_rows(sh, note);

	if (rc < 0 || (rc = clock_load(sh, note)) < 0)
		return rc;
	spread_look(sh);
	rc = fiber_start(&sh->fibers, "tidy", tidy, sh);
	return rc < 0 ? err_set(note, rc, "no fiber left") : 0;
}

int shard_open(struct sys *s, struct db *db, const struct shard_opts *o, struct shard **ret_sh,
	struct err_note *note)
{
	struct shard *sh = calloc(1, sizeof *sh);
	int rc;

	check(o->epoch > 0);
	if (sh == NULL)
		return err_set(note, E_NOMEM, "no memory for a shard");
	init(sh, s, db);
	sh->opts = *o;
	sh->page = malloc(PAGE_BYTES);
	rc = slab_new(o->slab_bytes != 0 ? o->slab_bytes : SHARD_SLAB_BYTES_DEFAULT, &sh->slab);
	if (rc < 0 || sh->page == NULL)
		rc = err_set(note, E_NOMEM, "no memory for a shard");
	else
		rc = load(sh, note);
	if (rc < 0) {
		fini(sh);
		return rc;
	}
	*ret_sh = sh;
	return 0;
}

int shard_look(struct sys *s, struct db *db, void (*broken)(void *arg, const char *text), void *arg,
	struct shard **ret_sh, struct err_note *note)
{
	struct shard *sh = calloc(1, sizeof *sh);
	int rc;

	if (sh == NULL)
		return err_set(note, E_NOMEM, "no memory for a shard");
	init(sh, s, db);
	sh->broken = broken;
	sh->broken_arg = arg;
	rc = slab_new(LOOK_SLAB_BYTES, &sh->slab);
	rc = rc < 0 ? err_set(note, rc, "no memory for a shard") : load_rows(sh, note);
	if (rc < 0) {
		fini(sh);
		return rc;
	}
	*ret_sh = sh;
	return 0;
}

void shard_look_end(struct shard *sh)
{
	if (sh != NULL)
		fini(sh);
}

void shard_close(struct shard *sh)
{
	if (sh == NULL)
		return;
	check(sh->n_waiting == 0);
	group_cancel(&sh->fibers);
	(void)group_wait(&sh->fibers);
	shard_sealing(sh); /* the sums of what is pending: nobody asks for them any more */
	fini(sh);
}

void shard_status(const struct shard *sh, struct shard_status *ret_st)
{
	*ret_st = (struct shard_status){ .buckets = sh->buckets.n - sh->n_dropping,
		.files = sh->files,
		.used_bytes = sh->used_bytes,
		.dropping = sh->n_dropping,
		.sessions = sh->n_sessions,
		.marks = sh->marks.n,
		.waiting = sh->n_waiting };
	slab_status(sh->slab, &ret_st->slab);
	db_status(sh->db, &ret_st->db);
}
