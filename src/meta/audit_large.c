/* SPDX-License-Identifier: Apache-2.0 */
/* The part of the audit that is about storage servers: every file's regions, their extents and the
 * room, held against one another (L3). */
#include "meta/large_own.h"

struct tally {
	struct shard *sh;
	struct map sizes; /* inode with extents -> its bytes + 1, as a pointer */
	struct map dues;  /* inode -> where its next region begins + 1 */
	struct map used;  /* egroup -> bytes of its extents + 1 */
	uint64_t regions, extents, lost;
};

static void visit_inode(void *arg, struct bytes key, struct bytes value)
{
	struct tally *t = arg;
	struct row_inode row;

	if (!holds(t->sh, row_inode_key_get(key, &row) == 0))
		return;
	if (!holds(t->sh, row_inode_get(value, &row) == 0))
		return;
	if (row.kind == ENTRY_FILE && row.place == PLACE_EXTENTS)
		sum_add(&t->sizes, row.inode, row.size);
}

static void visit_stage(void *arg, struct bytes key, struct bytes value)
{
	struct tally *t = arg;
	struct row_stage row;

	if (!holds(t->sh, row_stage_key_get(key, &row) == 0))
		return;
	if (!holds(t->sh, row_stage_get(value, &row) == 0))
		return;
	if (!holds(t->sh, map_get(&t->sizes, row.inode) == NULL)) /* it has no name yet */
		return;
	sum_add(&t->sizes, row.inode, row.size);
}

static void visit_region(void *arg, struct bytes key, struct bytes value)
{
	struct tally *t = arg;
	uint8_t extent_key[ROW_extent_KEY_MAX];
	const struct bucket *b;
	struct room_egroup_info info;
	struct row_extent e;
	struct row_region r;
	struct bytes found;

	if (!holds(t->sh, row_region_key_get(key, &r) == 0))
		return;
	if (!holds(t->sh, row_region_get(value, &r) == 0))
		return;
	if (!holds(t->sh, map_get(&t->sizes, r.inode) != NULL))
		return;
	if (!holds(t->sh, r.offset == sum_of(&t->dues, r.inode))) /* without a hole */
		return;
	e.extent = r.extent;
	if (!holds(t->sh, db_get(t->sh->db, row_extent_key(&e, extent_key), &found) == 0))
		return;
	if (!holds(t->sh, row_extent_get(found, &e) == 0))
		return;
	if (!holds(t->sh, e.references == 1))
		return;
	sum_add(&t->dues, r.inode, e.len);
	b = map_get(&t->sh->buckets, r.bucket);
	if (!holds(t->sh, b != NULL))
		return;
	if (!room_egroup(t->sh->large->room, e.egroup, &info))
		if (!holds(t->sh, b->state != BUCKET_LIVE)) /* its job has ended: dropped whole */
			return;
	sum_add(&t->used, e.egroup, e.len);
	t->regions++;
}

static void visit_extent(void *arg, struct bytes key, struct bytes value)
{
	struct tally *t = arg;
	struct row_extent row;

	t->extents++;
	t->lost += row_extent_get(value, &row) == 0 && row.lost;
}

static void visit_egroup(void *arg, struct bytes key, struct bytes value)
{
	struct tally *t = arg;
	struct room_egroup_info info;
	struct row_egroup row;

	if (!holds(t->sh, row_egroup_key_get(key, &row) == 0))
		return;
	if (!holds(t->sh, row_egroup_get(value, &row) == 0))
		return;
	if (!holds(t->sh, room_egroup(t->sh->large->room, row.egroup, &info)))
		return;
	if (!holds(t->sh, info.domain == row.domain))
		return;
	if (!holds(t->sh, info.doomed || info.used_bytes == sum_of(&t->used, row.egroup)))
		return;
}

static void visit_grant(void *arg, struct bytes key, struct bytes value)
{
	struct tally *t = arg;
	struct room_grant_info info;
	struct row_grant row;

	if (!holds(t->sh, row_grant_key_get(key, &row) == 0))
		return;
	if (!holds(t->sh, row_grant_get(value, &row) == 0))
		return;
	if (!holds(t->sh, room_grant_look(t->sh->large->room, row.extent_first, &info)))
		return;
	if (!holds(t->sh, info.egroup == row.egroup))
		return;
	if (!holds(t->sh, info.session == row.session))
		return;
	if (!holds(t->sh, info.credit_bytes == row.credit))
		return;
	if (!holds(t->sh, info.uncommitted == row.uncommitted))
		return;
}

void large_audit(struct shard *sh)
{
	struct tally t = { .sh = sh };

	room_audit(sh->large->room);
	audit_each(sh, ROW_inode_TABLE, visit_inode, &t);
	audit_each(sh, ROW_stage_TABLE, visit_stage, &t);
	audit_each(sh, ROW_region_TABLE, visit_region, &t);
	audit_each(sh, ROW_extent_TABLE, visit_extent, &t);
	audit_each(sh, ROW_egroup_TABLE, visit_egroup, &t);
	audit_each(sh, ROW_grant_TABLE, visit_grant, &t);
	(void)holds(sh, t.extents == t.regions);
	(void)holds(sh, t.lost == sh->large->n_lost);
	map_each (it, &t.sizes)
		(void)holds(sh, sum_of(&t.sizes, it->key) == sum_of(&t.dues, it->key));
	map_fini(&t.sizes);
	map_fini(&t.dues);
	map_fini(&t.used);
}
