/* SPDX-License-Identifier: Apache-2.0 */
#include "meta/db_made.h"
#include "base/check.h"
#include "meta/db_own.h"
#include <stdio.h>
#include <stdlib.h>

enum { MADE_MEMTABLE_BYTES = 16 << 20, MADE_PATH_MAX = DB_DIR_MAX + 300, NAMES_MAX = 64 };

struct db_made {
	struct sys *sys;
	char dir[DB_DIR_MAX], log_dir[DB_DIR_MAX + 8];
	struct tree *tree;
	struct memtable_pool pool;
	struct memtable *m;
	uint64_t seed, uuid_hi, uuid_lo;
};

/* ---- removing ---- */
struct names {
	char at[NAMES_MAX][DB_NAME_MAX];
	unsigned n;
	bool more;
};

static void each_name(void *arg, const char *name)
{
	struct names *list = arg;

	if (strlen(name) >= DB_NAME_MAX)
		return;
	list->more = list->n == NAMES_MAX;
	if (!list->more)
		snprintf(list->at[list->n++], DB_NAME_MAX, "%s", name);
}

static int missing_is_fine(int rc)
{
	return rc == E_NOTFOUND ? 0 : rc;
}

static PARKS int remove_file(
	struct sys *s, const char *dir, const char *name, struct err_note *note)
{
	char path[MADE_PATH_MAX];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	return missing_is_fine(sys_unlink(s, path, note));
}

static PARKS int remove_log(struct sys *s, const char *dir, struct err_note *note)
{
	char log_dir[DB_DIR_MAX + 8];
	struct names *list = calloc(1, sizeof *list);
	int rc = 0;

	check(list != NULL);
	snprintf(log_dir, sizeof log_dir, "%s/log", dir);
	do {
		list->n = 0;
		list->more = false;
		rc = missing_is_fine(sys_list_dir(s, log_dir, each_name, list, note));
		for (unsigned i = 0; rc == 0 && i < list->n; i++)
			rc = remove_file(s, log_dir, list->at[i], note);
	} while (rc == 0 && list->more);
	free(list);
	return rc;
}

int db_remove(struct sys *s, const char *dir, struct err_note *note)
{
	static const char *const files[] = { "reserve", "lock" };
	struct names *list = calloc(1, sizeof *list);
	int rc;

	check(list != NULL);
	rc = missing_is_fine(sys_list_dir(s, dir, each_name, list, note));
	for (unsigned i = 0; rc == 0 && i < list->n; i++)
		if (strncmp(list->at[i], "old.", 4) == 0)
			rc = tree_remove(s, dir, list->at[i], note);
	free(list);
	if (rc < 0 || (rc = tree_remove(s, dir, "tree", note)) < 0 ||
		(rc = tree_remove(s, dir, "tree.bad", note)) < 0 ||
		(rc = tree_remove(s, dir, "sent", note)) < 0 || (rc = remove_log(s, dir, note)) < 0)
		return rc;
	for (unsigned i = 0; rc == 0 && i < sizeof files / sizeof files[0]; i++)
		rc = remove_file(s, dir, files[i], note);
	return rc;
}

/* ---- making ---- */
int db_made_new(struct sys *s, const char *dir, struct db_made **ret_m, struct err_note *note)
{
	struct db_made *m = calloc(1, sizeof *m);
	int rc;

	check(m != NULL);
	m->sys = s;
	check((size_t)snprintf(m->dir, sizeof m->dir, "%s", dir) < sizeof m->dir);
	snprintf(m->log_dir, sizeof m->log_dir, "%s/log", dir);
	memtable_pool_init(&m->pool);
	sys_secret(s, &m->seed, sizeof m->seed);
	sys_secret(s, &m->uuid_hi, sizeof m->uuid_hi);
	sys_secret(s, &m->uuid_lo, sizeof m->uuid_lo);
	m->uuid_hi |= 1;
	m->m = memtable_new(&m->pool, m->seed);
	if ((rc = sys_mkdir(s, m->dir, note)) < 0 || (rc = db_remove(s, m->dir, note)) < 0 ||
		(rc = sys_mkdir(s, m->log_dir, note)) < 0 ||
		(rc = tree_open(s, m->dir, "tree", DB_TREE_BYTES, &m->tree, note)) < 0) {
		db_made_free(m);
		return rc;
	}
	*ret_m = m;
	return 0;
}

void db_made_free(struct db_made *m)
{
	if (m == NULL)
		return;
	tree_close(m->tree);
	memtable_free(m->m);
	memtable_pool_fini(&m->pool);
	free(m);
}

uint64_t db_made_uuid(const struct db_made *m, uint64_t *ret_lo)
{
	*ret_lo = m->uuid_lo;
	return m->uuid_hi;
}

static PARKS int merge(struct db_made *m, uint64_t index, struct err_note *note)
{
	struct tree_mark mark = { m->uuid_hi, m->uuid_lo, index, 0, 0 };
	int rc;

	memtable_freeze(m->m);
	rc = tree_merge(m->tree, m->m, &mark, note);
	memtable_free(m->m);
	m->m = memtable_new(&m->pool, m->seed);
	return rc;
}

int db_made_add(struct db_made *m, struct bytes effects, struct err_note *note)
{
	struct reader r = reader_of(effects.p, effects.len);
	struct effect e;

	while (effect_get(&r, &e)) {
		if (e.kind != EFFECT_PUT || e.key.len == 0 ||
			e.key.len > MEMTABLE_KEY_BYTES_MAX ||
			e.value.len > MEMTABLE_VALUE_BYTES_MAX)
			return err_set(note, E_CORRUPT, "%s: what comes is no row", m->dir);
		memtable_put(m->m, memtable_hash(m->seed, e.key), e.key, e.value, true);
	}
	if (!r.ok || reader_left(&r) != 0)
		return err_set(note, E_CORRUPT, "%s: what comes are no rows", m->dir);
	return memtable_bytes(m->m) < MADE_MEMTABLE_BYTES ? 0 : merge(m, 0, note);
}

static PARKS int make_log(struct db_made *m, const struct log_place *at, struct err_note *note)
{
	struct log_opts o = { .dir = m->log_dir,
		.segment_bytes = DB_PART_BYTES_MIN,
		.uuid_hi = m->uuid_hi,
		.uuid_lo = m->uuid_lo,
		.after = at->index,
		.begin = at };
	struct log *l;
	int rc = log_open(m->sys, &o, &l, note);

	if (rc == 0)
		log_close(l);
	return rc;
}

int db_made_finish(struct db_made *m, const struct log_place *at, uint64_t rows, uint64_t content,
	struct err_note *note)
{
	struct tree_status st;
	int rc = merge(m, at->index, note);

	if (rc < 0)
		return rc;
	tree_status(m->tree, &st);
	if (st.rows != rows || st.content != content)
		return err_set(note, E_CORRUPT, "%s: other rows came than were sent", m->dir);
	tree_close(m->tree);
	m->tree = NULL;
	rc = make_log(m, at, note);
	return rc < 0 ? rc : sys_sync_dir(m->sys, m->dir, note);
}
