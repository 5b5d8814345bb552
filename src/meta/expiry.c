/* SPDX-License-Identifier: Apache-2.0 */
/* Time to live.  A file past its time is absent to every request at once; the sweep frees it.  This
 * is the only thing that the wall clock frees, because the time was asked for in it. */
#include "meta/inside.h"

void expiry_write(struct shard *sh, const struct spot *at, uint64_t inode, uint64_t time_ms)
{
	struct row_expiry row = { .time_ms = time_ms,
		.inode = inode,
		.bucket = at->b->id,
		.parent = at->parent,
		.name = at->name };
	uint8_t key[ROW_expiry_KEY_MAX];

	if (time_ms < sh->expired_to_ms)
		sh->expired_to_ms = time_ms;
	db_put(sh->db, row_expiry_key(&row, key), row_expiry_put(&row, sh->value_room));
}

void expiry_clear(struct shard *sh, uint64_t inode, uint64_t time_ms)
{
	struct row_expiry row = { .time_ms = time_ms, .inode = inode };
	uint8_t key[ROW_expiry_KEY_MAX];

	db_delete(sh->db, row_expiry_key(&row, key));
}

/* The oldest row that is due.  Starts where the last one was: what lies before are deleted rows
 * only. */
static bool next_due(struct shard *sh, uint64_t now_ms, struct row_expiry *ret_row)
{
	struct row_expiry first = { .time_ms = sh->expired_to_ms }, end = { .time_ms = now_ms + 1 };
	uint8_t from[ROW_expiry_KEY_MAX], to[ROW_expiry_KEY_MAX];
	struct bytes key, value;
	struct db_iter it;
	bool any = false;

	db_iter_begin(&it, sh->db, row_expiry_key(&first, from), row_expiry_key(&end, to));
	while (!any && db_iter_next(&it, &key, &value))
		any = row_expiry_key_get(key, ret_row) == 0 && row_expiry_get(value, ret_row) == 0;
	db_iter_end(&it);
	return any;
}

/* No row is older than this; as far ahead as one look tells.  Walks make an order, which costs the
 * puts of a shard that has no such rows more than the sweep is worth. */
static uint64_t no_older(struct shard *sh, uint64_t now_ms)
{
	struct row_expiry first = { .time_ms = now_ms + 1 };
	uint8_t from[ROW_expiry_KEY_MAX];
	uint32_t dead_left = EXPIRY_LOOK;
	uint64_t time_ms = UINT64_MAX;
	struct bytes key, value;
	struct row_range r;
	struct db_iter it;

	row_range_table(&r, ROW_expiry_TABLE);
	db_iter_begin(&it, sh->db, row_expiry_key(&first, from), r.to);
	db_iter_bound(&it, &dead_left);
	if (db_iter_next(&it, &key, &value))
		time_ms = row_expiry_key_get(key, &first) == 0 ? first.time_ms : now_ms + 1;
	else if (db_iter_tired(&it, &key))
		time_ms = now_ms + 1;
	db_iter_end(&it);
	check(time_ms > now_ms);
	return time_ms;
}

static void expire(struct shard *sh, const struct row_expiry *row)
{
	struct bucket *b = map_get(&sh->buckets, row->bucket);
	struct spot at = { .b = b, .parent = row->parent, .name = name_keep(sh, row->name) };
	struct err_note note;

	/* In a dropped bucket the inode is left to the reclaim, and only its row goes. */
	if (b == NULL || b->state != BUCKET_LIVE || spot_look(sh, &at, &note) < 0 ||
		!(at.found || at.expired) || at.inode.inode != row->inode) {
		expiry_clear(sh, row->inode, row->time_ms);
		return;
	}
	check(at.inode.expires_ms == row->time_ms); /* (S4) */
	spot_clear(sh, &at);
	inode_free(sh, &at); /* its row of this table with it */
}

bool expiry_sweep(struct shard *sh)
{
	uint64_t now_ms = sys_wall_ms(sh->sys);
	struct row_expiry row;

	if (now_ms < sh->expired_to_ms)
		return false;
	for (unsigned i = 0; i < EXPIRY_STEP; i++) {
		if (!next_due(sh, now_ms, &row)) {
			sh->expired_to_ms = no_older(sh, now_ms);
			return false;
		}
		sh->expired_to_ms = row.time_ms;
		expire(sh, &row);
	}
	return true;
}
