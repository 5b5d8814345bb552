/* SPDX-License-Identifier: Apache-2.0 */
/* Whose a piece of a shard is, and a new shard from what can be read. */
#include "base/check.h"
#include "base/hash.h"
#include "meta/fsck_own.h"
#include "meta/memtable.h"
#include <stdio.h>
#include <stdlib.h>

#define ULL(v) ((unsigned long long)(v))
/* Ids that may have been given behind a gap: each second at most a block of DB_IDS_BLOCK, so this
 * is an hour of the hardest load; ids have 48 bits. */
#define SALVAGE_IDS (UINT64_C(1) << 32)
enum { DEPTH_MAX = 64, COPY_ROWS = 512 };

/* ---- names ---- */
struct search {
	uint64_t inode, parent;
	bool found;
	char name[LIMIT_NAME_BYTES_MAX + 1];
};

static void visit_name(void *arg, struct bytes key, struct bytes value)
{
	struct search *s = arg;
	struct row_name row;

	if (s->found || row_name_key_get(key, &row) < 0 || row_name_get(value, &row) < 0 ||
		row.inode != s->inode || row.name.len > LIMIT_NAME_BYTES_MAX)
		return;
	s->found = true;
	s->parent = row.parent;
	memcpy(s->name, row.name.p, row.name.len);
	s->name[row.name.len] = '\0';
}

/* f->path: "BUCKET/DIR/DIR/" of what stands below parent. */
static void path_of(struct fsck *f, uint64_t parent)
{
	const struct bucket *b = NULL;

	f->path[0] = '\0';
	for (int depth = 0; depth < DEPTH_MAX && f->sh != NULL; depth++) {
		struct search s = { .inode = parent };

		if ((b = map_get(&f->sh->buckets, parent)) != NULL)
			break;
		audit_each(f->sh, ROW_name_TABLE, visit_name, &s);
		if (!s.found)
			break;
		memcpy(f->behind, f->path, sizeof f->behind);
		snprintf(f->path, sizeof f->path, "%.1024s/%.500s", s.name, f->behind);
		parent = s.parent;
	}
	memcpy(f->behind, f->path, sizeof f->behind);
	if (b != NULL)
		snprintf(f->path, sizeof f->path, "%.*s/%.1200s", b->name_len, b->name, f->behind);
	else
		snprintf(f->path, sizeof f->path, "(number %llu)/%.1200s", ULL(parent), f->behind);
}

static void name_below(struct fsck *f, uint64_t parent, struct bytes name, char ret[FSCK_NAME_MAX])
{
	path_of(f, parent);
	snprintf(ret, FSCK_NAME_MAX, "%.550s%.*s", f->path,
		(int)(name.len < 1024 ? name.len : 1024), (const char *)name.p);
}

/* ---- extents ---- */
struct regions {
	uint64_t extent, inode;
	bool found;
};

static void visit_region(void *arg, struct bytes key, struct bytes value)
{
	struct regions *g = arg;
	struct row_region row;

	if (g->found || row_region_key_get(key, &row) < 0 || row_region_get(value, &row) < 0 ||
		row.extent != g->extent)
		return;
	g->found = true;
	g->inode = row.inode;
}

bool fsck_whose(struct fsck *f, uint64_t extent, char ret_name[FSCK_NAME_MAX])
{
	struct regions g = { .extent = extent };
	struct search s = { .found = false };

	if (f->sh == NULL)
		return false;
	audit_each(f->sh, ROW_region_TABLE, visit_region, &g);
	s.inode = g.inode;
	if (g.found)
		audit_each(f->sh, ROW_name_TABLE, visit_name, &s);
	if (!s.found)
		return false;
	name_below(f, s.parent, bytes_of(s.name, strlen(s.name)), ret_name);
	return true;
}

struct extents {
	struct fsck *f;
	const uint64_t *uuid;
	void (*each)(void *arg, const struct fsck_extent *x);
	void *arg;
};

static void visit_extent(void *arg, struct bytes key, struct bytes value)
{
	struct extents *x = arg;
	struct room_egroup_info info;
	struct row_extent e;

	if (row_extent_key_get(key, &e) < 0 || row_extent_get(value, &e) < 0)
		return;
	if (!room_egroup(large_room(x->f->sh), e.egroup, &info))
		return; /* dropped whole */
	for (uint8_t i = 0; i < info.n_members; i++) {
		const struct room_member_info *m = &info.members[i];
		const struct large_server *server = large_server(x->f->sh, m->server);

		if (m->state == ROOM_MEMBER_IN && server != NULL &&
			server->uuid_hi == x->uuid[0] && server->uuid_lo == x->uuid[1])
			x->each(x->arg, &(struct fsck_extent){ e.egroup, e.extent, e.len, e.root,
						info.tier, m->device });
	}
}

void fsck_each_extent(struct fsck *f, const uint64_t uuid[2],
	void (*each)(void *arg, const struct fsck_extent *x), void *arg)
{
	struct extents x = { f, uuid, each, arg };

	if (f->sh != NULL)
		audit_each(f->sh, ROW_extent_TABLE, visit_extent, &x);
}

/* ---- what stands behind the gap ---- */
struct behind {
	struct fsck *f;
	void (*lost)(void *arg, const char *name, bool deleted);
	void *arg;
	uint64_t ids_mark, n, *seen; /* hashes of names that were told */
};

static void tell_name(struct behind *b, const struct row_name *row, bool deleted)
{
	uint64_t hash = hash64(row->parent + deleted, row->name.p, row->name.len);
	char name[FSCK_NAME_MAX];

	for (uint64_t i = 0; i < b->n && i < FSCK_LOST_NAMES_MAX; i++)
		if (b->seen[i] == hash)
			return;
	if (b->n++ >= FSCK_LOST_NAMES_MAX)
		return;
	b->seen[b->n - 1] = hash;
	name_below(b->f, row->parent, row->name, name);
	b->lost(b->arg, name, deleted);
}

static PARKS int each_behind(void *arg, const struct record *r, struct bytes payload)
{
	struct reader rd = reader_of(payload.p, payload.len);
	struct behind *b = arg;
	struct row_name row;
	struct effect e;

	while (effect_get(&rd, &e)) {
		uint64_t mark = db_ids_of(&e);

		if (mark > b->ids_mark)
			b->ids_mark = mark;
		if (e.kind != EFFECT_RANGE && e.key.len > 0 && e.key.p[0] == ROW_name_TABLE &&
			row_name_key_get(e.key, &row) == 0)
			tell_name(b, &row, e.kind == EFFECT_DELETE);
	}
	return 0;
}

/* ---- a new shard ---- */
static void on_failed(void *arg, int rc, const struct err_note *note)
{
	*(int *)arg = rc;
}

/* Every row but the mark of ids, in pieces, for as long as the new rows keep up. */
static PARKS int copy_rows(struct sys *s, struct db *from, struct db *to, const int *failed)
{
	uint8_t last[MEMTABLE_KEY_BYTES_MAX + 1];
	struct bytes key = bytes_of(NULL, 0), value, after = bytes_of(NULL, 0);
	int rc = 0;

	for (bool more = true; more && rc == 0 && *failed == 0;) {
		struct db_iter it;
		unsigned n = 0;

		more = false;
		db_iter_begin(&it, from, after, bytes_of(NULL, 0));
		while (!more && db_iter_next(&it, &key, &value)) {
			if (!db_is_ids(key))
				db_put(to, key, value);
			more = ++n == COPY_ROWS;
		}
		if (more) { /* the least key behind it */
			check(key.len < sizeof last);
			memcpy(last, key.p, key.len);
			last[key.len] = 0;
			after = bytes_of(last, key.len + 1);
		}
		db_iter_end(&it);
		do
			rc = fiber_sleep(sys_after(s, SYS_MS));
		while (rc == 0 && db_pressed(to) && *failed == 0);
	}
	return rc < 0 ? rc : *failed;
}

static PARKS int make_new(struct fsck *f, const char *to, uint64_t ids, struct err_note *note)
{
	int failed = 0, rc, closed;
	struct db_opts o = { .dir = to, .failed = on_failed, .arg = &failed };
	struct group g;
	struct db *db;

	group_init(&g, sys_loop(f->sys));
	if ((rc = db_open(f->sys, &g, &o, &db, note)) < 0)
		return rc;
	rc = copy_rows(f->sys, f->db, db, &failed);
	if (rc == 0)
		db_ids_above(db, ids + SALVAGE_IDS);
	closed = db_close(db, note);
	return rc < 0 ? err_set(note, rc, "the rows could not be copied to %s", to) : closed;
}

static void no_damage(void *arg, const struct log_damage *d) {}

int fsck_salvage(struct fsck *f, const char *to,
	void (*lost)(void *arg, const char *name, bool deleted), void *arg, uint64_t *ret_more,
	struct err_note *note)
{
	struct db_look_opts look = { .dir = f->rows_dir, .damage = no_damage };
	struct behind b = { .f = f, .lost = lost, .arg = arg };
	int rc;

	if (f->looked.base < 0 && f->looked.index == 0)
		return err_set(note, E_CORRUPT, "%s: there is nothing to begin with", f->o.dir);
	b.seen = calloc(FSCK_LOST_NAMES_MAX, sizeof *b.seen);
	check(b.seen != NULL);
	rc = db_look_behind(f->sys, f->rows_dir, &f->looked, each_behind, &b, note);
	*ret_more = b.n > FSCK_LOST_NAMES_MAX ? b.n - FSCK_LOST_NAMES_MAX : 0;
	free(b.seen);
	if (rc < 0)
		return rc;
	/* The audit has begun a life in the rows that it looked at: these are without. */
	shard_look_end(f->sh);
	f->sh = NULL;
	db_drop(f->db);
	f->db = NULL;
	if ((rc = db_look(f->sys, &look, &f->db, &f->looked, note)) < 0)
		return rc;
	if (db_ids_mark(f->db) > b.ids_mark)
		b.ids_mark = db_ids_mark(f->db);
	rc = make_new(f, to, b.ids_mark, note);
	return rc < 0 ? rc : replicate_mark_moves(f->sys, f->o.dir, to, note);
}
