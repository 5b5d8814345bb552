/* SPDX-License-Identifier: Apache-2.0 */
/* What is damaged in a shard's files, and what that means. */
#include "base/check.h"
#include "meta/fsck_own.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ULL(v) ((unsigned long long)(v))
static const char salvage[] =
	"wadi fsck --salvage keeps these files aside and makes new ones of what "
	"can be read; or bring the folder back from a backup";

static void found(struct fsck *f, struct fsck_finding *d)
{
	f->n_found++;
	f->o.found(f->o.arg, d);
}

/* ---- the log ---- */
static void keep_damage(void *arg, const struct log_damage *d)
{
	struct fsck *f = arg;

	if (f->n_damages < FSCK_DAMAGES_MAX)
		f->damages[f->n_damages++] = *d;
	if (d->kind != LOG_MARK_COPY)
		f->cut = true;
}

static void read_more(void *arg, uint64_t bytes)
{
	struct fsck *f = arg;

	if (f->o.progress != NULL)
		f->o.progress(f->o.arg, bytes);
}

static void lost_records(const struct fsck *f, const struct log_damage *d, char to[FSCK_LOST_MAX])
{
	const struct db_looked *l = &f->looked;

	if (l->base >= 0 && d->index_to != 0 && d->index_to <= l->trees[l->base].index)
		snprintf(to, FSCK_LOST_MAX, "nothing: the merged rows hold what they did");
	else if (l->last_index > l->index)
		snprintf(to, FSCK_LOST_MAX,
			"records %llu to %llu, and with them the %llu behind them: what follows a "
			"gap cannot be trusted to be whole",
			ULL(d->lsn), ULL(d->lsn_to), ULL(l->last_index - l->index));
	else
		snprintf(to, FSCK_LOST_MAX, "records %llu to %llu, the last ones", ULL(d->lsn),
			ULL(d->lsn_to));
}

static void tell_log(struct fsck *f, const struct log_damage *d)
{
	struct fsck_finding x = { .what = "log", .todo = salvage };

	switch (d->kind) {
	case LOG_RECORDS:
		snprintf(x.where, sizeof x.where,
			"%.500s, byte %llu: %llu bytes were synced and are no "
			"records",
			d->path, ULL(d->at), ULL(d->bytes));
		lost_records(f, d, x.lost);
		break;
	case LOG_END:
		snprintf(x.where, sizeof x.where,
			"%.500s: it ends before record %llu, and record %llu was synced", d->path,
			ULL(d->lsn), ULL(d->lsn_to));
		lost_records(f, d, x.lost);
		break;
	case LOG_BEGINS:
		snprintf(x.where, sizeof x.where,
			"%.500s: it begins with change %llu, and the rows end before change %llu",
			d->path, ULL(d->index_to + 1), ULL(d->index));
		snprintf(x.lost, sizeof x.lost,
			"changes %llu to %llu, and what the log has behind them", ULL(d->index),
			ULL(d->index_to));
		break;
	case LOG_LOST:
		snprintf(x.where, sizeof x.where, "%.500s: not one segment is there", d->path);
		snprintf(x.lost, sizeof x.lost, "what was not merged: all behind record %llu",
			ULL(f->looked.index));
		break;
	case LOG_MARK:
		x.what = "mark";
		snprintf(x.where, sizeof x.where, "%.500s: no copy of it is valid", d->path);
		snprintf(x.lost, sizeof x.lost,
			"what was synced last can only be told from the records themselves");
		break;
	case LOG_MARK_COPY:
		x.what = "mark";
		x.todo = "nothing: the next start writes it again";
		snprintf(x.where, sizeof x.where, "%.500s, byte %llu: one copy of it is not valid",
			d->path, ULL(d->at));
		snprintf(x.lost, sizeof x.lost, "nothing: the other copies hold");
		break;
	}
	found(f, &x);
}

/* ---- merged rows ---- */
static void tell_tree(struct fsck *f, const struct look_tree *t)
{
	const struct db_looked *l = &f->looked;
	bool tree = strcmp(t->name, "tree") == 0;
	struct fsck_finding x = { .what = tree ? "tree" : "older copy" };

	if (t->good)
		return;
	snprintf(x.where, sizeof x.where, "%.600s", t->why.text);
	if (l->index == l->last_index && (l->base >= 0 || l->index > 0)) {
		snprintf(x.lost, sizeof x.lost, "nothing: %s",
			tree ? "an older copy of it, or the log, has it all" : "the tree holds");
		x.todo = tree ? "nothing: the next start makes it again"
			      : "nothing: the next one replaces it";
	} else {
		snprintf(x.lost, sizeof x.lost, "what was merged, as far as nothing else holds it");
		x.todo = l->base >= 0 || l->index > 0 ? salvage
						      : "bring the folder back from a backup: "
							"nothing here can be begun with";
	}
	found(f, &x);
}

/* ---- the tables ---- */
static void broken(void *arg, const char *text)
{
	struct fsck_finding x = { .what = "tables",
		.lost = "not known",
		.todo = "report it, with this line: no medium does this, it is a mistake of the "
			"program" };
	struct fsck *f = arg;

	if (f->n_broken++ >= FSCK_BROKEN_MAX)
		return;
	snprintf(x.where, sizeof x.where, "rows that contradict each other: %.500s", text);
	found(f, &x);
}

static void look_at_tables(struct fsck *f)
{
	struct err_note note = { "" };
	struct fsck_finding x = { .what = "tables",
		.lost = "the shard cannot be opened",
		.todo = "report it, with this line: no medium does this, it is a mistake of the "
			"program" };
	int rc = shard_look(f->sys, f->db, broken, f, &f->sh, &note);

	if (rc == 0) {
		shard_audit(f->sh);
		return;
	}
	snprintf(x.where, sizeof x.where, "%.500s", note.text);
	found(f, &x);
}

int fsck_new(struct sys *s, const struct fsck_opts *o, struct fsck **ret_f, struct err_note *note)
{
	struct fsck *f = calloc(1, sizeof *f);
	struct db_look_opts look = { .damage = keep_damage, .progress = read_more };
	int rc;

	if (f == NULL)
		return err_set(note, E_NOMEM, "no memory for a look at a shard");
	f->sys = s;
	f->o = *o;
	look.arg = f;
	look.dir = f->rows_dir;
	rc = replicate_rows_dir(s, o->dir, f->rows_dir, note);
	if (rc == E_NOTFOUND || rc == E_CORRUPT) /* no replica yet, or its mark is damaged */
		snprintf(f->rows_dir, sizeof f->rows_dir, "%s", o->dir);
	else if (rc < 0) {
		free(f);
		return rc;
	}
	if ((rc = db_look(s, &look, &f->db, &f->looked, note)) < 0) {
		free(f);
		return rc;
	}
	for (unsigned i = 0; i < f->n_damages; i++)
		tell_log(f, &f->damages[i]);
	for (unsigned i = 0; i < f->looked.n_trees; i++)
		tell_tree(f, &f->looked.trees[i]);
	if (f->looked.base >= 0 || f->looked.index > 0)
		look_at_tables(f);
	*ret_f = f;
	return 0;
}

void fsck_free(struct fsck *f)
{
	if (f == NULL)
		return;
	shard_look_end(f->sh);
	db_drop(f->db);
	free(f);
}

void fsck_sum(const struct fsck *f, struct fsck_sum *ret)
{
	const struct db_looked *l = &f->looked;

	*ret = (struct fsck_sum){ .segments = l->log.segments,
		.records = l->log.records,
		.log_bytes = l->log.bytes,
		.index = l->index,
		.last_index = l->last_index,
		.n_found = f->n_found,
		.salvage = f->cut,
		.rows_known = l->base >= 0 || l->index > 0 };
	for (unsigned i = 0; i < l->n_trees; i++) {
		bool tree = strcmp(l->trees[i].name, "tree") == 0;

		ret->n_copies += !tree && l->trees[i].good;
		ret->salvage = ret->salvage || (tree && !l->trees[i].good);
		if ((int)i == l->base)
			ret->rows = l->trees[i].rows;
	}
	if (f->sh == NULL)
		return;
	ret->buckets = f->sh->buckets.n - f->sh->n_dropping;
	ret->files = f->sh->files;
	ret->used_bytes = f->sh->used_bytes;
}
