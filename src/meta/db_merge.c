/* SPDX-License-Identifier: Apache-2.0 */
/* The merger: asks the flusher to freeze the active memtable, merges what is frozen once the log is
 * durable up to its end (so the tree is never ahead of what the log can tell), makes the log's next
 * segment ahead of need, and lets go what nobody needs any more.
 *
 * On a full disk it gives up what it can do without: the older copy of the tree, and with it the
 * log that only the copy needs, for the log and for merges; then a file kept in reserve, for merges
 * alone.  So there is room for the deletes that make more, and for their merge.  When there is room
 * again, the reserve is made again, and only then others may write. */
#include "base/check.h"
#include "meta/db_own.h"
#include <stdio.h>
#include <stdlib.h>

enum { OLD_DIGITS = 16, OLDER_MAX = 16 };
static const char old_prefix[] = "old.";

void db_freeze(struct db *db)
{
	check(db->frozen == NULL);
	check(!db->pending.any);
	db->freeze = false;
	db->frozen = db->active;
	db->frozen_index = db->sealed;
	db->fresh_log_bytes = 0;
	memtable_freeze(db->frozen);
	db->active = memtable_new(&db->pool, db->seed);
	if (db->want_sync < db->frozen_index)
		db->want_sync = db->frozen_index;
	waitq_wake_one(&db->sync);
	waitq_wake_one(&db->merge);
}

/* ---- the older copy ---- */
void db_old_name(uint64_t index, char to[DB_NAME_MAX])
{
	snprintf(to, DB_NAME_MAX, "%s%016llx", old_prefix, (unsigned long long)index);
}

struct older {
	char names[OLDER_MAX][DB_NAME_MAX];
	unsigned n;
};

static void each_name(void *arg, const char *name)
{
	struct older *list = arg;

	if (strncmp(name, old_prefix, sizeof old_prefix - 1) == 0 && list->n < OLDER_MAX &&
		strlen(name) < DB_NAME_MAX)
		snprintf(list->names[list->n++], DB_NAME_MAX, "%s", name);
}

/* 0: it is something else, such as a copy that was never finished. */
static uint64_t old_index(const char *name)
{
	const char *digits = name + sizeof old_prefix - 1;
	uint64_t index;
	char *end;

	if (strlen(digits) != OLD_DIGITS)
		return 0;
	index = strtoull(digits, &end, 16);
	return *end == '\0' ? index : 0;
}

PARKS int db_old_find(struct db *db, struct err_note *note)
{
	struct older list = { .n = 0 };
	int rc = sys_list_dir(db->sys, db->dir, each_name, &list, note);

	db->old_index = 0;
	for (unsigned i = 0; i < list.n; i++)
		if (old_index(list.names[i]) > db->old_index)
			db->old_index = old_index(list.names[i]);
	for (unsigned i = 0; i < list.n && rc == 0; i++)
		if (old_index(list.names[i]) != db->old_index || db->old_index == 0)
			rc = tree_remove(db->sys, db->dir, list.names[i], note);
	return rc;
}

/* The one before goes when this one is durable. */
static PARKS int copy_old(struct db *db, struct err_note *note)
{
	uint64_t before = db->old_index;
	char name[DB_NAME_MAX];
	int rc;

	db_old_name(db->merged, name);
	if ((rc = tree_copy(db->tree, name, note)) < 0)
		return rc;
	db->old_index = db->merged;
	db->old_rotten = false;
	if (before == 0 || before == db->merged)
		return 0;
	db_old_name(before, name);
	return tree_remove(db->sys, db->dir, name, note);
}

int db_old_drop(struct db *db, struct err_note *note)
{
	char name[DB_NAME_MAX];

	sys_reached(db->sys, "db: the older copy given up on a full disk");
	db_old_name(db->old_index, name);
	db->old_index = 0;
	db->old_rotten = false;
	return tree_remove(db->sys, db->dir, name, note);
}

static bool old_is_due(const struct db *db, uint64_t keep)
{
	if (db->old_rotten)
		return true;
	if (db->merged <= db->old_index)
		return false;
	return log_bytes(db->log) > keep || (db_heals(db) && db->merged >= db->heal_index);
}

/* Makes another older copy when much of the log is kept for the last one, and cuts the log: with no
 * copy, and room for none, up to where the tree stands. */
static PARKS int let_go(struct db *db, struct err_note *note)
{
	uint64_t keep = db->o.log_keep_bytes;
	bool alone = db->full && db->old_index == 0;
	struct tree_status st;
	uint64_t index;
	int rc = 0;

	tree_status(db->tree, &st);
	if (keep < st.bytes)
		keep = st.bytes;
	if (!db->full && old_is_due(db, keep))
		rc = copy_old(db, note);
	if (rc == E_FULL) {
		alone = true;
		rc = db->old_index != 0 ? db_old_drop(db, note) : 0;
	}
	index = alone ? db->merged : db->old_index;
	if (!alone && db->pinned && db->pin_index < index)
		index = db->pin_index;
	return rc < 0 ? rc : log_cut(db->log, index, note);
}

/* ---- a full disk ---- */
static void reserve_path(const struct db *db, char to[DB_DIR_MAX + DB_NAME_MAX])
{
	snprintf(to, DB_DIR_MAX + DB_NAME_MAX, "%s/reserve", db->dir);
}

int db_reserve_drop(struct db *db, struct err_note *note)
{
	char path[DB_DIR_MAX + DB_NAME_MAX];
	int rc;

	reserve_path(db, path);
	db->reserved = false;
	rc = sys_unlink(db->sys, path, note);
	return rc == E_NOTFOUND ? 0 : rc;
}

static PARKS int reserve(struct db *db, struct err_note *note)
{
	char path[DB_DIR_MAX + DB_NAME_MAX];
	struct sys_file *f = NULL;
	int rc;

	if (log_wants_prepare(db->log) && (!db->reserved || log_tight(db->log)))
		return 0; /* that comes first */
	if (db->reserved) {
		db->full = db->stuck; /* else the two fibers would wake each other for ever */
		return 0;
	}
	reserve_path(db, path);
	rc = sys_open(db->sys, path, SYS_WRITE | SYS_CREATE, &f, note);
	if (rc == 0)
		rc = sys_allocate(f, 0, DB_RESERVE_TIMES * db->o.memtable_bytes_max, note);
	sys_close(f);
	db->reserved = rc == 0;
	db->full = rc == E_FULL;
	return rc == E_FULL ? db_reserve_drop(db, note) : rc; /* what there was of it */
}

/* The older copy, and the log that only it needs. */
static PARKS int give_up_old(struct db *db, bool *ret_made, struct err_note *note)
{
	uint64_t before = log_bytes(db->log);
	bool had_old = db->old_index != 0;
	int rc = had_old ? db_old_drop(db, note) : 0;

	db->full = true;
	if (rc == 0)
		rc = log_cut(db->log, db->merged, note);
	*ret_made = had_old || log_bytes(db->log) < before;
	return rc;
}

/* The reserve is for merges, which make room in the log. */
static PARKS int make_room(struct db *db, bool *ret_made, struct err_note *note)
{
	int rc = give_up_old(db, ret_made, note);

	if (rc < 0 || *ret_made || !db->reserved)
		return rc;
	sys_reached(db->sys, "db: the reserve spent on a full disk");
	*ret_made = true;
	return db_reserve_drop(db, note);
}

/* ---- merging ---- */
int db_merge_now(struct db *db, struct err_note *note)
{
	struct tree_mark mark = { db->uuid_hi, db->uuid_lo, db->frozen_index, 0, 0 };
	int rc;

	check(db->frozen != NULL);
	check(db->frozen_index >= db->merged);
	rc = tree_merge(db->tree, db->frozen, &mark, note);
	if (rc < 0)
		return rc;
	memtable_free(db->frozen);
	memtable_pool_trim(&db->pool);
	db->frozen = NULL;
	db->merged = mark.index;
	db->merges++;
	return 0;
}

static bool ready(const struct db *db)
{
	return db->frozen != NULL && db_may_merge(db, db->frozen_index);
}

/* One merge and what it allows.  A full disk is waited out; whatever else fails has failed for good
 * (what the device holds is unknown then). */
static PARKS int merge(struct db *db, struct err_note *note)
{
	bool made = true;
	int rc = 0;

	while (rc == 0 && made && ready(db)) {
		db->merging = true;
		rc = db_merge_now(db, note);
		db->merging = false;
		waitq_wake_all(&db->moved);
		if (rc == E_FULL)
			rc = make_room(db, &made, note);
	}
	if (rc == 0 && !ready(db))
		rc = let_go(db, note);
	if (rc == 0 && !ready(db))
		rc = reserve(db, note);
	return rc;
}

static PARKS int prepare(struct db *db, struct err_note *note)
{
	bool made;
	int rc = log_prepare(db->log, note);

	return rc == E_FULL ? give_up_old(db, &made, note) : rc;
}

/* The tree goes out of the way; the next start makes another from its older copy and the log. */
static PARKS int rot(struct db *db, struct err_note *note)
{
	struct err_note ignored;
	int rc = tree_remove(db->sys, db->dir, "tree.bad", note);

	if (rc == 0)
		rc = tree_rename(db->sys, db->dir, "tree", "tree.bad", note);
	if (rc == E_CANCELED)
		return rc;
	(void)tree_remove(db->sys, db->dir, "tree", &ignored); /* its lock file */
	sys_reached(db->sys, "db: a row of the tree was rotten");
	return err_set(note, E_CORRUPT,
		"%s/tree: a row is not what was written; moved to tree.bad, and the next start "
		"makes another from the older copy and the log",
		db->dir);
}

/* Memory that only merges need. */
static PARKS int rest(struct db *db, struct err_note *note)
{
	memtable_pool_trim(&db->pool);
	return tree_rest(db->tree, note);
}

/* For another replica. */
static PARKS int copy_asked(struct db *db, struct err_note *note)
{
	int rc = tree_copy(db->tree, DB_SENT, note);

	db->copy_rc = rc;
	if (rc == E_FULL) /* what there was of it */
		rc = tree_remove(db->sys, db->dir, DB_SENT, note);
	db->copy_wanted = false;
	db->pinned = db->copy_rc == 0;
	db->pin_index = db->merged;
	waitq_wake_all(&db->moved);
	return rc;
}

/* ---- the merger ---- */
struct pace {
	uint64_t merge_ns; /* FOREVER: nothing to merge */
	uint64_t rest_ns;  /* FOREVER: nothing to give back */
	uint64_t retry_ns; /* the disk is full: not before */
	bool merge_waits;  /* for that, too: the last one found no room */
};

static void ask_to_freeze(struct db *db, struct pace *p, uint64_t now_ns)
{
	/* records, though their rows may all have died young */
	bool any = db_seen(db) > db->merged && db->frozen == NULL;

	if (!any)
		p->merge_ns = FOREVER;
	else if (p->merge_ns == FOREVER)
		p->merge_ns = now_ns + db->o.merge_every_ns;
	if (!any || db->freeze ||
		(!db_memtable_full(db) && !db_log_short(db) && !db_heals(db) &&
			now_ns < p->merge_ns))
		return;
	db->freeze = true;
	waitq_wake_one(&db->dirty);
}

static PARKS int doze(struct db *db, const struct pace *p, uint64_t now_ns)
{
	uint64_t until_ns = now_ns + db->o.merge_every_ns;
	int rc;

	if (!db->freeze && p->merge_ns < until_ns)
		until_ns = p->merge_ns;
	if (p->rest_ns < until_ns)
		until_ns = p->rest_ns;
	if (p->retry_ns > now_ns && p->retry_ns < until_ns)
		until_ns = p->retry_ns;
	fiber_note(0, "db: waits for enough to merge");
	rc = waitq_wait(&db->merge, until_ns);
	return rc == E_TIMEOUT ? 0 : rc;
}

/* On a full disk the merge comes first: it makes room. */
static PARKS int work(struct db *db, struct pace *p, struct err_note *note)
{
	bool first = !db->full;
	int rc = 0;

	if (first && log_wants_prepare(db->log))
		rc = prepare(db, note);
	if (rc == 0 && (ready(db) || db->full || db->old_rotten)) {
		p->rest_ns = sys_after(db->sys, DB_REST_NS);
		rc = merge(db, note);
	}
	if (rc == 0 && !first && !ready(db) && log_wants_prepare(db->log))
		rc = prepare(db, note);
	return rc;
}

static PARKS int next_step(struct db *db, struct pace *p, struct err_note *note)
{
	uint64_t now_ns = sys_now_ns(db->sys);
	bool may_try = now_ns >= p->retry_ns;
	int rc;

	if (db->copy_wanted)
		return copy_asked(db, note);
	ask_to_freeze(db, p, now_ns);
	if (db->rotten)
		return rot(db, note);
	if ((may_try && (log_wants_prepare(db->log) || ready(db) || db->full || db->old_rotten)) ||
		(ready(db) && !p->merge_waits)) {
		rc = work(db, p, note);
		p->merge_waits = ready(db);
		p->retry_ns = db->full ? sys_after(db->sys, DB_RETRY_NS) : 0;
		waitq_wake_all(&db->moved); /* there may be room */
		return rc;
	}
	if (now_ns < p->rest_ns)
		return doze(db, p, now_ns);
	p->rest_ns = FOREVER;
	return rest(db, note);
}

PARKS int db_merger(void *arg)
{
	struct pace p = { FOREVER, FOREVER, 0, false };
	struct err_note note = { "" };
	struct db *db = arg;
	int rc = reserve(db, &note);

	while (rc == 0 && !db->failed)
		rc = next_step(db, &p, &note);
	if (rc < 0)
		db_fail(db, rc, &note);
	return rc;
}
