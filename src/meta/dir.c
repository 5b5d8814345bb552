/* SPDX-License-Identifier: Apache-2.0 */
/* Directories and moves: mkdir, rename. */
#include "meta/inside.h"

/* Walks from a directory to the top of its bucket: 0, E_CONFLICT when it meets the inode to avoid,
 * E_TOOBIG when it is DEPTH_MAX or more below.  Every directory's parent exists, so it can only
 * fail on a damaged tree. */
static int climb(struct shard *sh, const struct bucket *b, uint64_t from, uint64_t avoid,
	struct err_note *note)
{
	unsigned depth = 0;

	for (uint64_t at = from; at != b->id;) {
		struct row_inode row;

		if (at == avoid)
			return err_set(note, E_CONFLICT, "a directory cannot move into itself");
		if (++depth >= LIMIT_DEPTH_MAX)
			return err_set(note, E_TOOBIG, "more than %d directories above one another",
				LIMIT_DEPTH_MAX);
		if (inode_find(sh, b->id, at, &row) < 0 || row.kind != ENTRY_DIR || row.parent == 0)
			return err_set(note, E_CORRUPT, "directory %llu has no way up",
				(unsigned long long)at);
		at = row.parent;
	}
	return 0;
}

int shard_mkdir(
	struct shard *sh, struct shard_call *c, const struct msg_mkdir *m, struct msg_put_ok *ret)
{
	struct row_inode row = { .kind = ENTRY_DIR, .place = PLACE_NONE };
	const struct answer *a;
	struct spot at;
	int rc;

	if ((rc = shard_writable(sh, c)) < 0 || (rc = answer_recall(sh, c, OP_mkdir, &a)) < 0)
		return rc;
	if (rc > 0) {
		*ret = (struct msg_put_ok){ .inode = a->first, .version = a->second };
		return 0;
	}
	if ((rc = spot_find(sh, c, m->bucket, m->parent, m->name, &at)) < 0)
		return rc;
	if (at.b->kind != BUCKET_TREE)
		return err_set(&c->note, E_INVALID, "a flat bucket has no directories");
	if (at.found)
		return err_set(&c->note, E_EXISTS, "the name is taken");
	if ((rc = climb(sh, at.b, at.parent, 0, &c->note)) < 0)
		return rc;
	row.bucket = at.b->id;
	row.parent = at.parent;
	row.flags = bucket_durable(at.b) ? PUT_DURABLE : 0;
	row.mtime_ms = sys_wall_ms(sh->sys);
	row.inode = db_next_id(sh->db);
	if (row.inode == 0)
		return err_set(&c->note, E_BUSY, "the next block of ids is not there yet");
	if (at.expired)
		inode_free(sh, &at);
	spot_add(sh, &at, &row);
	bucket_count(sh, at.b, 1, 0);
	if (inode_durable(&row))
		shard_want_sync(sh, c);
	answer_keep(sh, c, OP_mkdir, row.inode, inode_version(&row));
	*ret = (struct msg_put_ok){ .inode = row.inode, .version = inode_version(&row) };
	return 0;
}

static int rename_allowed(struct shard *sh, struct shard_call *c, const struct msg_rename *m,
	const struct spot *from, const struct spot *to)
{
	bool dir = from->row.kind == ENTRY_DIR;
	int rc;

	if (!from->found)
		return err_set(&c->note, E_NOTFOUND, "no such name");
	if ((rc = spot_condition(to, m->flags, 0, &c->note)) < 0)
		return rc;
	if (mark_of(sh, from->row.inode) != NULL)
		return err_set(
			&c->note, E_CONFLICT, "a client is reading it in order to delete it");
	if (to->found && (to->row.kind == ENTRY_DIR) != dir)
		return err_set(
			&c->note, E_CONFLICT, "a file and a directory do not replace each other");
	if (dir && (rc = climb(sh, to->b, to->parent, from->row.inode, &c->note)) < 0)
		return rc;
	if (to->found && dir && !spot_same(from, to))
		return dir_empty(sh, to->row.inode, &c->note);
	return 0;
}

static void rename_write(struct shard *sh, const struct spot *from, const struct spot *to)
{
	uint8_t bytes[ROW_INLINE_BYTES_MAX]; /* what is borrowed ends with the first write */
	struct row_inode row = from->inode;

	check(row.bytes.len <= sizeof bytes);
	if (row.bytes.len > 0)
		row.bytes.p = memcpy(bytes, row.bytes.p, row.bytes.len);
	if (row.kind == ENTRY_DIR && from->parent != to->parent) {
		row.parent = to->parent;
		row.ctime_later_ms = sys_wall_ms(sh->sys) - row.mtime_ms;
		spot_change(sh, from, &row);
	}
	if (to->found || to->expired)
		inode_free(sh, to);
	spot_move(sh, from, to, &row);
	spot_clear(sh, from);
	if (row.expires_ms != 0)
		expiry_write(sh, to, row.inode, row.expires_ms); /* same key, new name */
}

int shard_rename(
	struct shard *sh, struct shard_call *c, const struct msg_rename *m, struct msg_put_ok *ret)
{
	const struct answer *a;
	struct spot from, to;
	int rc;

	if ((rc = shard_writable(sh, c)) < 0)
		return rc;
	if ((m->flags & ~PUT_IF_ABSENT) != 0)
		return err_set(&c->note, E_INVALID, "rename does not know flags %#x",
			m->flags & ~PUT_IF_ABSENT);
	if (m->to_bucket != m->bucket)
		return err_set(&c->note, E_CROSS, "rename stays in one bucket: copy, then delete");
	if ((rc = answer_recall(sh, c, OP_rename, &a)) < 0)
		return rc;
	if (rc > 0) {
		*ret = (struct msg_put_ok){ .inode = a->first, .version = a->second };
		return 0;
	}
	if ((rc = spot_find(sh, c, m->bucket, m->from_parent, m->from, &from)) < 0 ||
		(rc = spot_find(sh, c, m->bucket, m->to_parent, m->to, &to)) < 0 ||
		(rc = rename_allowed(sh, c, m, &from, &to)) < 0)
		return rc;
	*ret = (struct msg_put_ok){ .inode = from.row.inode,
		.version = inode_version(&from.inode) };
	if (spot_same(&from, &to))
		return 0;
	rename_write(sh, &from, &to);
	if (inode_durable(&from.inode) || (to.found && inode_durable(&to.inode)))
		shard_want_sync(sh, c);
	answer_keep(sh, c, OP_rename, ret->inode, ret->version);
	wait_wake(sh, &to);
	return 0;
}
