/* SPDX-License-Identifier: Apache-2.0 */
/* Small files that nobody asked to protect lie in the slab of one process.  When the rows are on
 * other replicas too, or are to be, their bytes go into rows, so that the end of that process does
 * not touch them; they are not synced for it.  What is in the slab already is moved by a walk over
 * the names of flat buckets, which hold inodes, and then over the inodes, in steps of a turn each.
 * A name that moves behind the walk makes it begin anew.
 *
 * Not to be moved: what a dropped bucket is about to give back, and bytes that cannot be read. */
#include "meta/inside.h"

enum { SPREAD_STEP = 64, SPREAD_LOOK = 1024 };

static void from_start(struct spread *w)
{
	w->key[0] = ROW_name_TABLE;
	w->len = 1;
	w->again = false;
}

void spread_look(struct shard *sh)
{
	bool before = sh->in_rows;
	struct slab_status st;

	sh->in_rows = sh->opts.spread != NULL && sh->opts.spread(sh->opts.arg);
	slab_status(sh->slab, &st);
	if (!sh->in_rows || st.files == 0)
		sh->spread.len = 0;
	else if (!before)
		from_start(&sh->spread);
}

void spread_moved(struct shard *sh, const struct row_inode *row)
{
	if (row->place == PLACE_SLAB)
		sh->spread.again = true;
}

/* A row with the inode of a file whose bytes are in this slab; at is where its name is, when that
 * row is the name's. */
static bool in_slab(struct shard *sh, struct bytes key, struct bytes value, struct spot *ret_at)
{
	struct row_inode *row = &ret_at->inode;
	struct row_name name = { .file = bytes_of(NULL, 0) };

	*ret_at = (struct spot){ .found = true };
	if (key.p[0] == ROW_name_TABLE) {
		if (row_name_key_get(key, &name) < 0 || row_name_get(value, &name) < 0 ||
			name.file.len == 0 || row_inode_get(name.file, row) < 0)
			return false;
		row->bucket = name.parent;
		row->inode = name.inode;
	} else if (row_inode_key_get(key, row) < 0 || row_inode_get(value, row) < 0) {
		return false;
	}
	ret_at->b = map_get(&sh->buckets, row->bucket);
	ret_at->parent = name.parent;
	ret_at->row = name;
	return ret_at->b != NULL && ret_at->b->state != BUCKET_DROPPING &&
	       row->place == PLACE_SLAB && row->life == sh->life;
}

/* The next one behind the walk; false after *held_look_left rows, or at the end of a table. */
static bool next(struct shard *sh, uint32_t *held_look_left, struct spot *ret_at, bool *ret_end)
{
	struct spread *w = &sh->spread;
	struct bytes key, value;
	struct row_range r;
	struct db_iter it;
	bool found = false;

	row_range_table(&r, w->key[0]);
	db_iter_begin(&it, sh->db, bytes_of(w->key, w->len), r.to);
	*ret_end = true;
	while (db_iter_next(&it, &key, &value)) {
		if (found || (*held_look_left)-- == 0) {
			*ret_end = false;
			*held_look_left += !found;
			break;
		}
		check(key.len < sizeof w->key);
		memcpy(w->key, key.p, key.len);
		w->key[key.len] = 0; /* the next key in order */
		w->len = (uint16_t)(key.len + 1);
		found = in_slab(sh, key, value, ret_at);
		if (found && key.p[0] == ROW_name_TABLE)
			ret_at->name = name_keep(sh, ret_at->row.name);
	}
	db_iter_end(&it);
	return found;
}

static void move(struct shard *sh, const struct spot *at)
{
	const struct row_inode *old = &at->inode;
	struct row_inode row = *old;
	struct bytes data;
	int rc;

	if (small_read(sh, old, &data, NULL) < 0)
		return;
	rc = small_place(sh, &row, data, true);
	check(rc == 0);
	check(row.place != PLACE_SLAB);
	check(row.crc == old->crc);
	bucket_count(sh, at->b, 0, 0);
	bucket_count_inode(sh, at->b, old, -1);
	bucket_count_inode(sh, at->b, &row, 1);
	if (spot_inside(at))
		spot_change(sh, at, &row);
	else
		inode_write(sh, &row);
	small_write(sh, &row, data);
	slab_drop(sh->slab, old->slot, old->size);
}

bool spread_step(struct shard *sh)
{
	struct spread *w = &sh->spread;
	uint32_t look_left = SPREAD_LOOK;
	struct spot at;
	bool end;

	if (w->len == 0 || db_room(sh->db) != 0)
		return false;
	for (int i = 0; i < SPREAD_STEP && look_left > 0; i++) {
		if (next(sh, &look_left, &at, &end))
			move(sh, &at);
		if (!end)
			continue;
		if (w->key[0] == ROW_name_TABLE) {
			w->key[0] = ROW_inode_TABLE;
			w->len = 1;
		} else if (w->again) {
			from_start(w);
		} else {
			w->len = 0;
			return false;
		}
	}
	return true;
}
