/* SPDX-License-Identifier: Apache-2.0 */
/* Inodes and the bytes of small files. */
#include "base/hash.h"
#include "meta/large_own.h"

/* A row with this life was written by this process, so its slot must be one in use (S3). */
static int sane(const struct shard *sh, const struct row_inode *row)
{
	if (row->kind != ENTRY_FILE && row->kind != ENTRY_DIR)
		return E_CORRUPT;
	if (row->place == PLACE_SLAB) {
		if (row->life > sh->life)
			return E_CORRUPT;
		if (row->life < sh->life)
			return 0;
		return slab_get(sh->slab, row->slot, row->size).p != NULL ? 0 : E_CORRUPT;
	}
	if (row->place == PLACE_ROW)
		return row->bytes.len == row->size ? 0 : E_CORRUPT;
	if (row->place == PLACE_EXTENTS)
		return row->size > 0 ? 0 : E_CORRUPT;
	if (row->place == PLACE_PACKED)
		return row->size <= LIMIT_INLINE_BYTES_MAX ? 0 : E_CORRUPT;
	return row->place == PLACE_NONE && row->size == 0 ? 0 : E_CORRUPT;
}

int inode_find(struct shard *sh, uint64_t bucket, uint64_t inode, struct row_inode *ret_row)
{
	struct row_inode key = { .bucket = bucket, .inode = inode };
	uint8_t room[ROW_inode_KEY_MAX];
	struct bytes value;
	int rc;

	rc = db_get(sh->db, row_inode_key(&key, room), &value);
	if (rc == 0)
		rc = row_inode_get(value, ret_row);
	if (rc < 0)
		return rc;
	ret_row->bucket = bucket;
	ret_row->inode = inode;
	return sane(sh, ret_row);
}

int inode_of_name(struct shard *sh, const struct bucket *b, const struct row_name *name,
	struct row_inode *ret_row)
{
	int rc;

	if (name->file.len == 0)
		return inode_find(sh, b->id, name->inode, ret_row);
	if ((rc = row_inode_get(name->file, ret_row)) < 0)
		return rc;
	ret_row->bucket = b->id;
	ret_row->inode = name->inode;
	return sane(sh, ret_row);
}

void inode_add(struct shard *sh, const struct row_inode *row)
{
	uint8_t room[ROW_inode_KEY_MAX];

	check(row->bucket != 0);
	check(row->inode != 0);
	audit(sane(sh, row) == 0);
	db_put_new(sh->db, row_inode_key(row, room), row_inode_put(row, sh->value_room));
}

void inode_write(struct shard *sh, const struct row_inode *row)
{
	uint8_t room[ROW_inode_KEY_MAX];

	check(row->bucket != 0);
	check(row->inode != 0);
	audit(sane(sh, row) == 0);
	db_put(sh->db, row_inode_key(row, room), row_inode_put(row, sh->value_room));
}

void inode_free_rest(struct shard *sh, const struct reclaim *r)
{
	struct mark *m = mark_of(sh, r->inode);

	if (r->place == PLACE_SLAB && r->life == sh->life)
		slab_drop(sh->slab, r->slot, r->size);
	if (r->place == PLACE_PACKED) {
		struct row_packed key = { .inode = r->inode };
		uint8_t room[ROW_packed_KEY_MAX];

		db_delete(sh->db, row_packed_key(&key, room));
	}
	if (r->place == PLACE_EXTENTS)
		extents_free(sh, r->bucket, r->inode);
	if (r->expires_ms != 0)
		expiry_clear(sh, r->inode, r->expires_ms);
	if (m != NULL)
		mark_drop(sh, m);
}

void inode_free(struct shard *sh, const struct spot *at)
{
	const struct row_inode *row = &at->inode; /* its bytes are borrowed, and not looked at */
	struct reclaim r = { row->inode, row->size, row->slot, row->life, row->expires_ms,
		row->kind, row->place, row->bucket };
	uint8_t room[ROW_inode_KEY_MAX];

	check(row->bucket == at->b->id);
	if (!spot_inside(at))
		db_delete(sh->db, row_inode_key(row, room));
	inode_free_rest(sh, &r);
	bucket_count(sh, at->b, -1, -(int64_t)r.size);
	bucket_count_inode(sh, at->b, row, -1);
}

bool inode_expired(const struct shard *sh, const struct row_inode *row)
{
	return row->expires_ms != 0 && row->expires_ms <= sys_wall_ms(sh->sys);
}

int small_place(struct shard *sh, struct row_inode *row, struct bytes data, bool durable)
{
	check(data.len <= LIMIT_INLINE_BYTES_MAX);
	row->size = data.len;
	row->life = row->slot = 0;
	row->bytes = bytes_of(NULL, 0);
	if (data.len > 0 && !durable && !sh->in_rows) {
		row->place = PLACE_SLAB;
		row->life = sh->life;
		return slab_put(sh->slab, data, &row->slot, &row->crc);
	}
	row->crc = crc32c(0, data.p, data.len);
	if (data.len == 0) {
		row->place = PLACE_NONE;
	} else if (data.len <= ROW_INLINE_BYTES_MAX) {
		row->place = PLACE_ROW;
		row->bytes = data;
	} else {
		row->place = PLACE_PACKED;
	}
	return 0;
}

void small_write(struct shard *sh, const struct row_inode *row, struct bytes data)
{
	struct row_packed packed = { .inode = row->inode, .bytes = data };
	uint8_t room[ROW_packed_KEY_MAX];

	if (row->place != PLACE_PACKED)
		return;
	check(data.len == row->size);
	db_put_new(sh->db, row_packed_key(&packed, room), row_packed_put(&packed, sh->value_room));
}

static int packed_read(struct shard *sh, uint64_t inode, struct bytes *ret_data)
{
	struct row_packed packed = { .inode = inode };
	uint8_t room[ROW_packed_KEY_MAX];
	struct bytes value;
	int rc;

	rc = db_get(sh->db, row_packed_key(&packed, room), &value);
	if (rc == 0)
		rc = row_packed_get(value, &packed);
	if (rc == 0)
		*ret_data = packed.bytes;
	return rc;
}

int small_read(struct shard *sh, const struct row_inode *row, struct bytes *ret_data,
	struct err_note *note)
{
	struct bytes data = bytes_of(NULL, 0);
	int rc = 0;

	if (row->place == PLACE_SLAB && row->life != sh->life)
		return err_set(
			note, E_LOST, "the bytes were in the memory of a process that has ended");
	if (row->place == PLACE_SLAB)
		data = slab_get(sh->slab, row->slot, row->size);
	else if (row->place == PLACE_ROW)
		data = row->bytes;
	else if (row->place == PLACE_PACKED)
		rc = packed_read(sh, row->inode, &data);
	if (rc < 0 || data.len != row->size || crc32c(0, data.p, data.len) != row->crc)
		return err_set(note, E_CORRUPT,
			"the bytes of inode %llu are not those that were put",
			(unsigned long long)row->inode);
	*ret_data = data;
	return 0;
}
