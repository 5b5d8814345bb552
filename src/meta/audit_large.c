/* SPDX-License-Identifier: Apache-2.0 */
/* The part of the audit that is about storage servers: every file's regions, their extents and the
 * room, held against one another (L3). */
#include "meta/large_own.h"

struct tally {
	struct shard *sh;
	struct map sizes; /* inode with extents -> its bytes + 1, as a pointer */
	struct map dues;  /* inode -> where its next region begins + 1 */
	struct map used;  /* egroup -> bytes of its extents + 1 */
	uint64_t regions, extents;
};
typedef void visit_fn(struct tally *t, struct bytes key, struct bytes value);

static void each(struct tally *t, uint8_t table, visit_fn *visit)
{
	struct bytes key, value;
	struct row_range r;
	struct db_iter it;

	row_range_table(&r, table);
	db_iter_begin(&it, t->sh->db, r.from, r.to);
	while (db_iter_next(&it, &key, &value))
		visit(t, key, value);
	db_iter_end(&it);
}

static uint64_t value_of(const struct map *m, uint64_t key)
{
	uintptr_t now = (uintptr_t)map_get(m, key);

	return now == 0 ? 0 : now - 1;
}

static void add(struct map *m, uint64_t key, uint64_t more)
{
	check(map_put(m, key, (void *)(uintptr_t)(value_of(m, key) + more + 1)) == 0);
}

static void visit_inode(struct tally *t, struct bytes key, struct bytes value)
{
	struct row_inode row;

	check(row_inode_key_get(key, &row) == 0);
	check(row_inode_get(value, &row) == 0);
	if (row.kind == ENTRY_FILE && row.place == PLACE_EXTENTS)
		add(&t->sizes, row.inode, row.size);
}

static void visit_stage(struct tally *t, struct bytes key, struct bytes value)
{
	struct row_stage row;

	check(row_stage_key_get(key, &row) == 0);
	check(row_stage_get(value, &row) == 0);
	check(map_get(&t->sizes, row.inode) == NULL); /* it has no name yet */
	add(&t->sizes, row.inode, row.size);
}

static void visit_region(struct tally *t, struct bytes key, struct bytes value)
{
	uint8_t extent_key[ROW_extent_KEY_MAX];
	const struct bucket *b;
	struct room_egroup_info info;
	struct row_extent e;
	struct row_region r;
	struct bytes found;

	check(row_region_key_get(key, &r) == 0);
	check(row_region_get(value, &r) == 0);
	check(map_get(&t->sizes, r.inode) != NULL);
	check(r.offset == value_of(&t->dues, r.inode)); /* without a hole */
	e.extent = r.extent;
	check(db_get(t->sh->db, row_extent_key(&e, extent_key), &found) == 0);
	check(row_extent_get(found, &e) == 0);
	check(e.references == 1);
	add(&t->dues, r.inode, e.len);
	b = map_get(&t->sh->buckets, r.bucket);
	check(b != NULL);
	if (!room_egroup(t->sh->large->room, e.egroup, &info))
		check(b->state != BUCKET_LIVE); /* its job has ended: dropped whole */
	add(&t->used, e.egroup, e.len);
	t->regions++;
}

static void visit_extent(struct tally *t, struct bytes key, struct bytes value)
{
	t->extents++;
}

static void visit_egroup(struct tally *t, struct bytes key, struct bytes value)
{
	struct room_egroup_info info;
	struct row_egroup row;

	check(row_egroup_key_get(key, &row) == 0);
	check(row_egroup_get(value, &row) == 0);
	check(room_egroup(t->sh->large->room, row.egroup, &info));
	check(info.domain == row.domain);
	check(info.doomed || info.used_bytes == value_of(&t->used, row.egroup));
}

static void visit_grant(struct tally *t, struct bytes key, struct bytes value)
{
	struct room_grant_info info;
	struct row_grant row;

	check(row_grant_key_get(key, &row) == 0);
	check(row_grant_get(value, &row) == 0);
	check(room_grant_look(t->sh->large->room, row.extent_first, &info));
	check(info.egroup == row.egroup);
	check(info.session == row.session);
	check(info.credit_bytes == row.credit);
	check(info.uncommitted == row.uncommitted);
}

void large_audit(struct shard *sh)
{
	struct tally t = { .sh = sh };

	room_audit(sh->large->room);
	each(&t, ROW_inode_TABLE, visit_inode);
	each(&t, ROW_stage_TABLE, visit_stage);
	each(&t, ROW_region_TABLE, visit_region);
	each(&t, ROW_extent_TABLE, visit_extent);
	each(&t, ROW_egroup_TABLE, visit_egroup);
	each(&t, ROW_grant_TABLE, visit_grant);
	check(t.extents == t.regions);
	map_each (it, &t.sizes)
		check(value_of(&t.sizes, it->key) == value_of(&t.dues, it->key));
	map_fini(&t.sizes);
	map_fini(&t.dues);
	map_fini(&t.used);
}
