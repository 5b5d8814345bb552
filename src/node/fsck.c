/* SPDX-License-Identifier: Apache-2.0 */
/* A look at a node's files: its shard, its devices, and one against the other. */
#include "node/fsck.h"
#include "base/check.h"
#include "client/where.h"
#include "meta/fsck.h"
#include "meta/map.h"
#include "store/look.h"
#include "sys/uv/sys_uv.h"
#include "wire/words.h"
#include <stdio.h>
#include <stdlib.h>

#define ULL(v) ((unsigned long long)(v))

enum { KEPT_MAX = 1000, TEXT_MAX = 700 };
/* What the files say of an extent. */
enum state { GOOD = 1, BAD = 2 };
struct seen {
	enum state state;
	uint64_t egroup, len;
	uint32_t root;
};

struct work {
	struct cli_fsck *v;
	struct sys *sys;
	struct err_note *note;
	struct cli_fsck_sum sum;
	struct fsck *meta;
	struct map extents; /* by id: struct seen */
	char name[FSCK_NAME_MAX], where[FSCK_NAME_MAX], lost[FSCK_NAME_MAX + TEXT_MAX];
	char meta_dir[WHERE_MAX], store_dir[WHERE_MAX], kept[WHERE_MAX], fresh[WHERE_MAX];
	bool no_memory;
};

/* ---- the shard ---- */
static void meta_found(void *arg, const struct fsck_finding *f)
{
	struct work *w = arg;

	cli_fsck_damage(w->v, f->what, f->where, f->lost, f->todo);
}

static void read_more(void *arg, uint64_t bytes)
{
	struct work *w = arg;

	cli_fsck_more(w->v, bytes);
}

PARKS static int look_at_meta(struct work *w)
{
	struct fsck_opts o = {
		.dir = w->meta_dir, .found = meta_found, .progress = read_more, .arg = w
	};
	struct fsck_sum sum;
	int rc;

	cli_fsck_part(w->v, "metadata", UINT64_MAX);
	rc = fsck_new(w->sys, &o, &w->meta, w->note);
	if (rc == E_NOTFOUND)
		return 0;
	if (rc < 0)
		return rc;
	fsck_sum(w->meta, &sum);
	w->sum.has_meta = true;
	w->sum.segments = sum.segments;
	w->sum.records = sum.records;
	w->sum.rows = sum.rows;
	w->sum.copies = sum.n_copies;
	w->sum.buckets = sum.buckets;
	w->sum.files = sum.files;
	w->sum.used_bytes = sum.used_bytes;
	w->sum.index = sum.index;
	w->sum.last_index = sum.last_index;
	return 0;
}

/* ---- the devices ---- */
static void extent_damage(struct work *w, uint64_t extent, uint64_t egroup, uint64_t len)
{
	bool whose = w->meta != NULL && fsck_whose(w->meta, extent, w->name);

	if (whose)
		snprintf(w->lost, sizeof w->lost,
			"%llu bytes of %s: reading them answers CORRUPT or "
			"LOST, never other bytes",
			ULL(len), w->name);
	else if (w->meta != NULL)
		snprintf(w->lost, sizeof w->lost,
			"nothing: no object has extent %llu of egroup %llu", ULL(extent),
			ULL(egroup));
	else
		snprintf(w->lost, sizeof w->lost,
			"%llu bytes, extent %llu of egroup %llu: its shard "
			"knows whose",
			ULL(len), ULL(extent), ULL(egroup));
	cli_fsck_damage(w->v, "extent", w->where, w->lost,
		whose || w->meta == NULL
			? "make the object again, or delete it; the others are not touched"
			: "nothing: the server forgets it");
}

static void extent_seen(void *arg, const char *path, const struct look_extent *x)
{
	struct seen *s = calloc(1, sizeof *s);
	struct work *w = arg;

	w->sum.extents++;
	w->sum.extent_bytes += x->len;
	if (s == NULL || map_get(&w->extents, x->extent) != NULL) {
		w->no_memory = w->no_memory || s == NULL;
		free(s);
		return;
	}
	*s = (struct seen){ x->good ? GOOD : BAD, x->egroup, x->len, x->root };
	if (map_put(&w->extents, x->extent, s) < 0) {
		w->no_memory = true;
		free(s);
		return;
	}
	if (x->good)
		return;
	snprintf(w->where, sizeof w->where, "%.500s, byte %llu: the bytes have another checksum",
		path, ULL(x->bad_byte));
	extent_damage(w, x->extent, x->egroup, x->len);
}

/* With a shard beside it, what is missing is told by name; a hole by itself is where a write was
 * cut off. */
static void hole_seen(void *arg, const struct look_hole *h)
{
	struct work *w = arg;

	if (w->meta != NULL)
		return;
	snprintf(w->where, sizeof w->where, "%.500s, byte %llu: %llu bytes are no record", h->path,
		ULL(h->at), ULL(h->bytes));
	cli_fsck_damage(w->v, "extent", w->where,
		"not known here: a write that was cut off, or extents with a rotten header",
		"run fsck where the metadata is, or wadi status: reads of what is missing answer "
		"LOST");
}

static void extent_due(void *arg, const struct fsck_extent *x)
{
	struct work *w = arg;
	const struct seen *s = map_get(&w->extents, x->extent);

	if (x->tier == TIER_DRAM || (s != NULL && s->state == BAD))
		return;
	if (s != NULL && s->egroup == x->egroup && s->len == x->len && s->root == x->root)
		return;
	snprintf(w->where, sizeof w->where, "%.400s/%s/eg-%016llx: extent %llu %s", w->store_dir,
		x->tier == TIER_DISK ? "disk" : "flash", ULL(x->egroup), ULL(x->extent),
		s == NULL ? "is not there" : "is another than the shard says");
	extent_damage(w, x->extent, x->egroup, x->len);
}

PARKS static int look_at_device(struct work *w, const char *name)
{
	struct look_opts o = {
		.extent = extent_seen, .hole = hole_seen, .progress = read_more, .arg = w
	};
	char dir[WHERE_MAX];
	uint64_t bytes;
	int rc = where_join(w->store_dir, name, dir, w->note);

	if (rc < 0)
		return rc;
	o.dir = dir;
	if ((rc = store_look_bytes(w->sys, dir, &bytes, w->note)) < 0)
		return rc == E_NOTFOUND ? 0 : rc;
	cli_fsck_part(w->v, name, bytes);
	rc = store_look(w->sys, &o, w->note);
	if (rc == 0 && w->no_memory)
		rc = err_set(w->note, E_NOMEM, "the extents of %s", dir);
	return rc;
}

PARKS static int look_at_store(struct work *w)
{
	uint64_t uuid[2];
	int rc = store_look_uuid(w->sys, w->store_dir, uuid, w->note);

	if (rc == E_NOTFOUND)
		return 0;
	if (rc == E_CORRUPT) {
		cli_fsck_damage(w->v, "storage", w->note->text,
			"the server would not be known again, and its extents with it",
			"bring the file back from a backup");
		return 0;
	}
	if (rc < 0 || (rc = look_at_device(w, "flash")) < 0 || (rc = look_at_device(w, "disk")) < 0)
		return rc;
	w->sum.has_store = true;
	if (w->meta != NULL)
		fsck_each_extent(w->meta, uuid, extent_due, w);
	return 0;
}

/* ---- salvage ---- */
static void name_lost(void *arg, const char *name, bool deleted)
{
	struct work *w = arg;

	cli_fsck_lost(w->v, name, deleted);
}

struct kept {
	bool taken[KEPT_MAX], fresh;
};

static void each_name(void *arg, const char *name)
{
	static const char prefix[] = "meta.damaged.";
	struct kept *k = arg;
	char *end;
	unsigned long n;

	k->fresh = k->fresh || strcmp(name, "meta.new") == 0;
	if (strncmp(name, prefix, sizeof prefix - 1) != 0)
		return;
	n = strtoul(name + sizeof prefix - 1, &end, 10);
	if (*end == '\0' && n < KEPT_MAX)
		k->taken[n] = true;
}

PARKS static int find_places(struct work *w)
{
	struct kept k = { .fresh = false };
	char name[32];
	unsigned n = 1;
	int rc = sys_list_dir(w->sys, w->v->data, each_name, &k, w->note);

	if (rc < 0)
		return rc;
	if (k.fresh)
		return err_set(w->note, E_EXISTS,
			"%s/meta.new is there: a salvage was cut off; remove "
			"it first",
			w->v->data);
	while (n < KEPT_MAX && k.taken[n])
		n++;
	if (n == KEPT_MAX)
		return err_set(w->note, E_TOOBIG, "%s: %d salvages are kept", w->v->data, KEPT_MAX);
	snprintf(name, sizeof name, "meta.damaged.%u", n);
	if ((rc = where_join(w->v->data, name, w->kept, w->note)) < 0)
		return rc;
	return where_join(w->v->data, "meta.new", w->fresh, w->note);
}

PARKS static int salvage(struct work *w)
{
	struct fsck_sum sum;
	int rc;

	if (w->meta == NULL)
		return 0;
	fsck_sum(w->meta, &sum);
	if (!sum.salvage)
		return 0;
	if ((rc = find_places(w)) < 0)
		return rc;
	cli_fsck_part(w->v, "salvage", UINT64_MAX);
	if ((rc = fsck_salvage(w->meta, w->fresh, name_lost, w, &w->sum.more_lost, w->note)) < 0 ||
		(rc = sys_rename(w->sys, w->meta_dir, w->kept, w->note)) < 0 ||
		(rc = sys_rename(w->sys, w->fresh, w->meta_dir, w->note)) < 0 ||
		(rc = sys_sync_dir(w->sys, w->v->data, w->note)) < 0)
		return rc;
	w->sum.kept = w->kept;
	return 0;
}

/* ---- all of it ---- */
PARKS static int look(struct work *w)
{
	int rc;

	if ((rc = where_join(w->v->data, "meta", w->meta_dir, w->note)) < 0 ||
		(rc = where_join(w->v->data, "store", w->store_dir, w->note)) < 0 ||
		(rc = look_at_meta(w)) < 0 || (rc = look_at_store(w)) < 0)
		return rc;
	if (!w->sum.has_meta && !w->sum.has_store)
		return err_set(w->note, E_NOTFOUND,
			"%s: there is neither a shard nor a storage server in "
			"it",
			w->v->data);
	return w->v->salvage ? salvage(w) : 0;
}

PARKS static int fsck_fiber(void *arg)
{
	struct work *w = arg;
	int rc = look(w);

	fsck_free(w->meta);
	if (rc == 0)
		cli_fsck_end(w->v, &w->sum);
	return rc;
}

int node_fsck(struct cli_fsck *v, struct err_note *note)
{
	struct work *w = calloc(1, sizeof *w);
	int rc;

	if (w == NULL)
		return err_set(note, E_NOMEM, "no memory for fsck");
	w->v = v;
	w->note = note;
	if ((rc = sys_uv_new(&w->sys, note)) == 0) {
		rc = sys_uv_run(w->sys, "fsck", fsck_fiber, w);
		sys_uv_free(w->sys);
	}
	map_each (it, &w->extents)
		free(it->value);
	map_fini(&w->extents);
	free(w);
	return rc;
}
