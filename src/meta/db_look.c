/* SPDX-License-Identifier: Apache-2.0 */
/* A look at rows.  The log is read once to learn which runs of records are whole; the merged rows
 * that reach furthest with the run behind them are the base; then that run is applied. */
#include "meta/db_look.h"
#include "base/check.h"
#include "meta/db_own.h"
#include <stdio.h>
#include <stdlib.h>

enum { RUNS_MAX = 8192 };

/* Records that follow one another by index and lsn; a BEGIN ends a run. */
struct run {
	uint64_t from, to, lsn; /* of the first */
};
struct looking {
	struct db *db;
	const struct db_look_opts *o;
	struct db_looked *out;
	struct run runs[RUNS_MAX];
	unsigned n_runs;
	bool begun;                         /* the next record begins a run */
	struct tree *trees[LOOK_TREES_MAX]; /* open, but for the base */
	struct tree_mark marks[LOOK_TREES_MAX];
};

/* What was written behind an index was taken back by a BEGIN that names it. */
static void take_back(struct looking *g, uint64_t index)
{
	while (g->n_runs > 0 && g->runs[g->n_runs - 1].from > index)
		g->n_runs--;
	if (g->n_runs > 0 && g->runs[g->n_runs - 1].to > index)
		g->runs[g->n_runs - 1].to = index;
	g->begun = true;
}

static PARKS int note_record(void *arg, const struct record *r, struct bytes payload, bool joined)
{
	struct looking *g = arg;
	struct run *last = g->n_runs > 0 ? &g->runs[g->n_runs - 1] : NULL;

	if (r->kind != LOG_EFFECTS) {
		take_back(g, r->index);
		return 0;
	}
	if (!g->begun && last != NULL && r->index == last->to + 1 &&
		r->lsn == last->lsn + (r->index - last->from)) {
		last->to = r->index;
		return 0;
	}
	if (g->n_runs == RUNS_MAX)
		return E_TOOBIG;
	g->begun = false;
	g->runs[g->n_runs++] = (struct run){ r->index, r->index, r->lsn };
	return 0;
}

/* How far the records behind an index go without a gap. */
static uint64_t reach(const struct looking *g, uint64_t index)
{
	for (unsigned i = 0; i < g->n_runs; i++)
		if (g->runs[i].from <= index + 1 && g->runs[i].to > index)
			index = g->runs[i].to;
	return index;
}

/* A record of the history, not of a tail that was taken back. */
static bool in_history(const struct looking *g, const struct record *r)
{
	for (unsigned i = 0; i < g->n_runs; i++)
		if (g->runs[i].from <= r->index && r->index <= g->runs[i].to)
			return r->lsn == g->runs[i].lsn + (r->index - g->runs[i].from);
	return false;
}

/* ---- trees ---- */
static void each_name(void *arg, const char *name)
{
	struct looking *g = arg;
	bool old = strncmp(name, "old.", 4) == 0 && strlen(name) == 20;

	if ((!old && strcmp(name, "tree") != 0) || g->out->n_trees == LOOK_TREES_MAX)
		return;
	snprintf(g->out->trees[g->out->n_trees++].name, LOOK_NAME_MAX, "%s", name);
}

static bool same_shard(const struct looking *g, const struct tree_mark *m)
{
	return (m->uuid_hi == 0 && m->uuid_lo == 0) || !g->out->has_log ||
	       (m->uuid_hi == g->out->log.uuid_hi && m->uuid_lo == g->out->log.uuid_lo);
}

static PARKS int look_at_tree(struct looking *g, unsigned i)
{
	struct look_tree *lt = &g->out->trees[i];
	struct tree_status st;
	int rc = tree_check(g->db->sys, g->db->dir, lt->name, UINT64_MAX, &lt->why);

	if (rc == 0)
		rc = tree_open(g->db->sys, g->db->dir, lt->name, g->db->o.tree_bytes_max,
			&g->trees[i], &lt->why);
	if (rc == 0)
		rc = tree_verify(g->trees[i], &lt->why);
	if (rc == 0) {
		g->marks[i] = tree_mark(g->trees[i]);
		tree_status(g->trees[i], &st);
		lt->index = g->marks[i].index;
		lt->rows = st.rows;
		if (!same_shard(g, &g->marks[i]))
			rc = err_set(&lt->why, E_CORRUPT, "%s/%s is of another shard", g->db->dir,
				lt->name);
	}
	lt->good = rc == 0;
	return rc == E_CORRUPT || rc == E_UNSUPPORTED ? 0 : rc;
}

/* The one that reaches furthest; the tree before its older copies. */
static void choose(struct looking *g)
{
	struct db_looked *out = g->out;

	out->base = -1;
	out->index = reach(g, 0);
	for (unsigned i = 0; i < out->n_trees; i++) {
		uint64_t to = reach(g, out->trees[i].index);
		bool tree = strcmp(out->trees[i].name, "tree") == 0;

		if (!out->trees[i].good || to < out->index ||
			(to == out->index && !tree && out->base >= 0))
			continue;
		out->base = (int)i;
		out->index = to;
	}
	out->last_index = out->index;
	for (unsigned i = 0; i < g->n_runs; i++)
		if (g->runs[i].to > out->last_index)
			out->last_index = g->runs[i].to;
}

/* ---- records ---- */
struct applying {
	const struct looking *g; /* NULL: whatever there is */
	struct db *db;
	uint64_t from, to; /* behind from */
	db_look_behind_fn *each;
	void *arg;
};

static PARKS int apply(void *arg, const struct record *r, struct bytes payload, bool joined)
{
	struct applying *a = arg;

	if (r->kind != LOG_EFFECTS || r->index <= a->from || r->index > a->to ||
		(a->g != NULL && !in_history(a->g, r)))
		return 0;
	if (a->each != NULL)
		return a->each(a->arg, r, payload);
	return db_apply(a->db, payload);
}

static void no_damage(void *arg, const struct log_damage *d) {}

static PARKS int read_again(
	struct sys *s, const char *dir, struct applying *a, struct err_note *note)
{
	char log_dir[DB_DIR_MAX + 8];
	struct log_look_opts o = { .dir = log_dir, .record = apply, .damage = no_damage, .arg = a };
	struct log_look ignored;

	snprintf(log_dir, sizeof log_dir, "%.*s/log", DB_DIR_MAX, dir);
	return log_look(s, &o, &ignored, note);
}

int db_look_behind(struct sys *s, const char *dir, const struct db_looked *looked,
	db_look_behind_fn *each, void *arg, struct err_note *note)
{
	struct applying a = { .from = looked->index, .to = UINT64_MAX, .each = each, .arg = arg };

	return looked->has_log ? read_again(s, dir, &a, note) : 0;
}

/* ---- all of it ---- */
static void no_name(void *arg, const char *name) {}

/* A folder that was brought back from a backup may be without the file. */
static PARKS int take_lock(struct db *db, struct err_note *note)
{
	char path[DB_DIR_MAX + DB_NAME_MAX];
	int rc;

	snprintf(path, sizeof path, "%s/lock", db->dir);
	rc = sys_open(db->sys, path, SYS_WRITE, &db->lock, note);
	if (rc == E_NOTFOUND && sys_list_dir(db->sys, db->log_dir, no_name, NULL, NULL) == 0)
		rc = sys_open(db->sys, path, SYS_WRITE | SYS_CREATE, &db->lock, note);
	return rc < 0 ? rc : sys_lock(db->lock, note);
}

static void tell_damage(void *arg, const struct log_damage *d)
{
	const struct looking *g = arg;

	g->o->damage(g->o->arg, d);
}

static void tell_progress(void *arg, uint64_t bytes)
{
	const struct looking *g = arg;

	if (g->o->progress != NULL)
		g->o->progress(g->o->arg, bytes);
}

static PARKS int look_at_log(struct looking *g, struct err_note *note)
{
	struct log_look_opts o = { .dir = g->db->log_dir,
		.record = note_record,
		.damage = tell_damage,
		.progress = tell_progress,
		.arg = g };
	int rc = log_look(g->db->sys, &o, &g->out->log, note);

	g->out->has_log = rc == 0;
	return rc == E_NOTFOUND ? 0 : rc;
}

static PARKS int look_at_trees(struct looking *g, struct err_note *note)
{
	int rc = sys_list_dir(g->db->sys, g->db->dir, each_name, g, note);

	for (unsigned i = 0; rc == 0 && i < g->out->n_trees; i++)
		if ((rc = look_at_tree(g, i)) < 0)
			err_set(note, rc, "%s", g->out->trees[i].why.text);
	return rc;
}

/* The rows that the log goes on from are not there. */
static void tell_beginning(struct looking *g)
{
	uint64_t at = g->out->base >= 0 ? g->out->trees[g->out->base].index : 0;
	struct log_damage d = { .kind = LOG_BEGINS, .index = at + 1 };

	if (g->n_runs == 0 || g->runs[0].from <= at + 1)
		return;
	d.index_to = g->runs[0].from - 1;
	snprintf(d.path, sizeof d.path, "%s", g->db->log_dir);
	g->o->damage(g->o->arg, &d);
}

static PARKS int look(struct looking *g, struct err_note *note)
{
	struct applying a = { .g = g, .db = g->db };
	struct db *db = g->db;
	int rc;

	if ((rc = take_lock(db, note)) < 0 || (rc = look_at_log(g, note)) < 0 ||
		(rc = look_at_trees(g, note)) < 0)
		return rc;
	choose(g);
	tell_beginning(g);
	if (g->out->base >= 0) {
		db->tree = g->trees[g->out->base];
		g->trees[g->out->base] = NULL;
		a.from = g->out->trees[g->out->base].index;
	}
	a.to = g->out->index;
	db->sealed = db->written = db->synced = a.to;
	db->merged = a.from;
	return g->out->has_log && a.to > a.from ? read_again(db->sys, db->dir, &a, note) : 0;
}

int db_look(struct sys *s, const struct db_look_opts *o, struct db **ret_db,
	struct db_looked *ret_looked, struct err_note *note)
{
	struct looking *g = calloc(1, sizeof *g);
	struct db *db = calloc(1, sizeof *db);
	int rc;

	check(g != NULL && db != NULL);
	*ret_looked = (struct db_looked){ .base = -1 };
	*g = (struct looking){ .db = db, .o = o, .out = ret_looked };
	db->sys = s;
	db->o = (struct db_opts){ .tree_bytes_max = DB_TREE_BYTES };
	memtable_pool_init(&db->pool);
	waitq_init(&db->dirty);
	waitq_init(&db->sync);
	waitq_init(&db->merge);
	waitq_init(&db->moved);
	sys_secret(s, &db->seed, sizeof db->seed);
	db->active = memtable_new(&db->pool, db->seed);
	snprintf(db->log_dir, sizeof db->log_dir, "%.*s/log", DB_DIR_MAX, o->dir);
	if ((size_t)snprintf(db->dir, sizeof db->dir, "%s", o->dir) >= sizeof db->dir)
		rc = err_set(note, E_INVALID, "%.100s...: the path is too long", o->dir);
	else
		rc = look(g, note);
	for (unsigned i = 0; i < LOOK_TREES_MAX; i++)
		tree_close(g->trees[i]);
	free(g);
	if (rc < 0) {
		db_drop(db);
		return rc;
	}
	*ret_db = db;
	return 0;
}
