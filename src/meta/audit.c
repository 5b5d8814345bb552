/* SPDX-License-Identifier: Apache-2.0 */
/* shard_audit(): walks every table and holds it against the others, (S1) to (S5) of inside.h. */
#include "meta/large_own.h"
#include <stdio.h>
#include <stdlib.h>

struct seen {
	uint64_t bucket, expires_ms;
	uint8_t kind;
	bool dropping, named;
};
struct tally {
	struct shard *sh;
	struct map inodes;                               /* inode -> struct seen */
	struct map files, bytes, kept_files, kept_bytes; /* bucket -> sum + 1, as a pointer */
	struct map slab;                                 /* job -> likewise */
	uint64_t slab_files, slab_bytes, expiries, packed;
};

bool audit_broken(struct shard *sh, const char *e, const char *file, int line, const char *func)
{
	char text[256];

	if (sh->broken == NULL)
		check_failed(e, file, line, func);
	snprintf(text, sizeof text, "%s: not so: %s", func, e);
	sh->broken(sh->broken_arg, text);
	return false;
}

void audit_each(struct shard *sh, uint8_t table, audit_visit_fn *visit, void *arg)
{
	struct bytes key, value;
	struct row_range r;
	struct db_iter it;

	row_range_table(&r, table);
	db_iter_begin(&it, sh->db, r.from, r.to);
	while (db_iter_next(&it, &key, &value))
		visit(arg, key, value);
	db_iter_end(&it);
}

void sum_add(struct map *m, uint64_t key, uint64_t more)
{
	check(map_put(m, key, (void *)(uintptr_t)(sum_of(m, key) + more + 1)) == 0);
}

uint64_t sum_of(const struct map *m, uint64_t key)
{
	uintptr_t now = (uintptr_t)map_get(m, key);

	return now == 0 ? 0 : now - 1;
}

static struct seen *count(struct tally *t, const struct row_inode *row)
{
	const struct bucket *b = map_get(&t->sh->buckets, row->bucket);
	struct seen *seen;

	if (!holds(t->sh, b != NULL) || !holds(t->sh, map_get(&t->inodes, row->inode) == NULL))
		return NULL;
	seen = calloc(1, sizeof *seen);
	check(seen != NULL);
	*seen = (struct seen){ row->bucket, row->expires_ms, row->kind, b->state == BUCKET_DROPPING,
		false };
	check(map_put(&t->inodes, row->inode, seen) == 0);
	sum_add(&t->files, row->bucket, 1);
	sum_add(&t->bytes, row->bucket, row->size);
	if ((row->flags & PUT_PERSIST) != 0) {
		sum_add(&t->kept_files, row->bucket, 1);
		sum_add(&t->kept_bytes, row->bucket, row->size);
	}
	if (row->place == PLACE_SLAB && row->life == t->sh->life) {
		sum_add(&t->slab, b->job, row->size);
		t->slab_files++;
		t->slab_bytes += row->size;
	}
	t->packed += row->place == PLACE_PACKED;
	t->expiries += row->expires_ms != 0 && !seen->dropping;
	return seen;
}

static void visit_inode(void *arg, struct bytes key, struct bytes value)
{
	struct tally *t = arg;
	struct row_inode row;

	if (!holds(t->sh, row_inode_key_get(key, &row) == 0))
		return;
	if (!holds(t->sh, row_inode_get(value, &row) == 0))
		return;
	if (!holds(t->sh, inode_find(t->sh, row.bucket, row.inode, &row) == 0))
		return;
	(void)count(t, &row);
}

/* The inode of a name that is in its row: nowhere else. */
static struct seen *count_inside(
	struct tally *t, const struct bucket *top, const struct row_name *name)
{
	struct row_inode row;

	if (!holds(t->sh, top != NULL))
		return NULL;
	if (!holds(t->sh, top->kind == BUCKET_FLAT))
		return NULL;
	if (!holds(t->sh, inode_of_name(t->sh, top, name, &row) == 0))
		return NULL;
	if (!holds(t->sh, row.place != PLACE_EXTENTS))
		return NULL;
	return count(t, &row);
}

static void visit_name(void *arg, struct bytes key, struct bytes value)
{
	struct tally *t = arg;
	const struct bucket *top;
	struct seen *dir, *seen;
	struct row_name row;

	if (!holds(t->sh, row_name_key_get(key, &row) == 0))
		return;
	if (!holds(t->sh, row_name_get(value, &row) == 0))
		return;
	top = map_get(&t->sh->buckets, row.parent);
	dir = map_get(&t->inodes, row.parent);
	if (!holds(t->sh, (top != NULL) != (dir != NULL)))
		return;
	if (!holds(t->sh, top != NULL || dir->kind == ENTRY_DIR))
		return;
	if (top == NULL && dir->dropping)
		return; /* its children may have been given back before it */
	if (!holds(t->sh, top == NULL || top->state != BUCKET_DROPPING || top->kind == BUCKET_FLAT))
		return;
	if (row.file.len > 0)
		seen = count_inside(t, top, &row);
	else
		seen = map_get(&t->inodes, row.inode);
	if (!holds(t->sh, seen != NULL)) /* (S1) */
		return;
	if (!holds(t->sh, !seen->named))
		return;
	if (!holds(t->sh, seen->kind == row.kind))
		return;
	if (!holds(t->sh, seen->bucket == (top != NULL ? top->id : dir->bucket)))
		return;
	seen->named = true;
}

static void visit_expiry(void *arg, struct bytes key, struct bytes value)
{
	struct tally *t = arg;
	const struct seen *seen;
	struct row_expiry row;

	if (!holds(t->sh, row_expiry_key_get(key, &row) == 0))
		return;
	if (!holds(t->sh, row_expiry_get(value, &row) == 0))
		return;
	seen = map_get(&t->inodes, row.inode);
	if (!holds(t->sh, seen != NULL))
		return;
	if (seen->dropping)
		return; /* the sweep and the reclaim share these */
	if (!holds(t->sh, seen->bucket == row.bucket))
		return;
	if (!holds(t->sh, seen->expires_ms == row.time_ms)) /* (S4) */
		return;
	if (!holds(t->sh, row.time_ms >= t->sh->expired_to_ms))
		return;
	t->expiries--;
}

static void visit_packed(void *arg, struct bytes key, struct bytes value)
{
	struct tally *t = arg;
	struct row_packed row;

	if (!holds(t->sh, row_packed_key_get(key, &row) == 0))
		return;
	if (!holds(t->sh, row_packed_get(value, &row) == 0))
		return;
	if (!holds(t->sh, map_get(&t->inodes, row.inode) != NULL))
		return;
	t->packed--;
}

static void visit_mark(void *arg, struct bytes key, struct bytes value)
{
	struct tally *t = arg;
	const struct seen *seen;
	const struct mark *m;
	struct row_mark row;

	if (!holds(t->sh, row_mark_key_get(key, &row) == 0))
		return;
	if (!holds(t->sh, row_mark_get(value, &row) == 0))
		return;
	seen = map_get(&t->inodes, row.inode);
	if (!holds(t->sh, seen != NULL)) /* (S5) */
		return;
	if (!holds(t->sh, seen->bucket == row.bucket))
		return;
	m = mark_of(t->sh, row.inode);
	if (!holds(t->sh, m != NULL))
		return;
	if (!holds(t->sh, m->session->id == row.session))
		return;
}

static void check_buckets(struct tally *t)
{
	uint64_t files = 0, bytes = 0;

	map_each (it, &t->sh->buckets) {
		const struct bucket *b = it->value;

		(void)holds(t->sh, b->files == sum_of(&t->files, b->id)); /* (S2) */
		(void)holds(t->sh, b->used_bytes == sum_of(&t->bytes, b->id));
		if (b->state != BUCKET_DROPPING) {
			(void)holds(t->sh, b->kept_files == sum_of(&t->kept_files, b->id));
			(void)holds(t->sh, b->kept_bytes == sum_of(&t->kept_bytes, b->id));
		}
		files += b->files;
		bytes += b->used_bytes;
	}
	(void)holds(t->sh, files == t->sh->files);
	(void)holds(t->sh, bytes == t->sh->used_bytes);
	map_each (it, &t->sh->jobs) {
		const struct job_use *u = it->value;

		(void)holds(t->sh, u->pub.slab_bytes == sum_of(&t->slab, it->key));
		for (uint8_t tier = 0; tier < TIER_COUNT; tier++)
			(void)holds(
				t->sh, u->pub.meters[tier].held_bytes ==
					       room_domain_held(t->sh->large->room, it->key, tier) +
						       (tier == TIER_DRAM ? u->pub.slab_bytes : 0));
	}
}

static void check_marks(struct tally *t)
{
	uint32_t n = 0;

	map_each (it, &t->sh->sessions) {
		const struct session *s = it->value;

		n += s->n_marks;
	}
	(void)holds(t->sh, n == t->sh->marks.n);
	map_each (it, &t->sh->marks) {
		const struct mark *m = it->value;
		struct row_mark row;

		(void)holds(t->sh, m->inode == it->key);
		(void)holds(t->sh, mark_read(t->sh, m->inode, &row) == 0);
	}
}

void shard_audit(struct shard *sh)
{
	struct tally t = { .sh = sh };
	struct slab_status st;

	audit_each(sh, ROW_inode_TABLE, visit_inode, &t);
	audit_each(sh, ROW_name_TABLE, visit_name, &t);
	audit_each(sh, ROW_expiry_TABLE, visit_expiry, &t);
	audit_each(sh, ROW_packed_TABLE, visit_packed, &t);
	audit_each(sh, ROW_mark_TABLE, visit_mark, &t);
	map_each (it, &t.inodes) {
		const struct seen *seen = it->value;

		(void)holds(sh, seen->named || seen->dropping);
	}
	(void)holds(sh, t.expiries == 0);
	(void)holds(sh, t.packed == 0);
	check_buckets(&t);
	check_marks(&t);
	slab_status(sh->slab, &st);
	(void)holds(sh, st.files == t.slab_files); /* (S3) */
	(void)holds(sh, st.used_bytes == t.slab_bytes);
	slab_audit(sh->slab);
	large_audit(sh);
	map_each (it, &t.inodes)
		free(it->value);
	map_fini(&t.inodes);
	map_fini(&t.files);
	map_fini(&t.bytes);
	map_fini(&t.kept_files);
	map_fini(&t.kept_bytes);
	map_fini(&t.slab);
}
