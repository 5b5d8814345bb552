/* SPDX-License-Identifier: Apache-2.0 */
/* Small files: put, get, done, delete, stat, persist.  (S6): first everything that can refuse, then
 * everything that writes. */
#include "meta/large_own.h"

enum {
	PUT_FLAGS = PUT_IF_ABSENT | PUT_IF_VERSION | PUT_PERSIST | PUT_DELETE_ON_READ | PUT_DURABLE,
	PUT_STORED = PUT_PERSIST | PUT_DELETE_ON_READ | PUT_DURABLE,
	GET_FLAGS = GET_WAIT | GET_CONSUME | GET_PLACES,
};

static int put_check(
	const struct shard *sh, struct shard_call *c, const struct msg_put *m, struct bytes data)
{
	int rc = shard_writable(sh, c);

	if (rc < 0)
		return rc;
	if ((m->flags & ~PUT_FLAGS) != 0)
		return err_set(
			&c->note, E_INVALID, "put does not know flags %#x", m->flags & ~PUT_FLAGS);
	if (data.len > LIMIT_INLINE_BYTES_MAX)
		return err_set(&c->note, E_TOOBIG, "%zu bytes in a put: at most %u", data.len,
			LIMIT_INLINE_BYTES_MAX);
	return 0;
}

/* May these bytes stand here instead of what does? */
static int put_fits(
	struct shard_call *c, const struct spot *at, const struct msg_put *m, size_t len)
{
	const struct bucket *b = at->b;
	uint64_t freed = at->found || at->expired ? at->inode.size : 0;
	int rc = spot_condition(at, m->flags, m->if_version, &c->note);

	if (rc < 0)
		return rc;
	if (at->found && at->row.kind != ENTRY_FILE)
		return err_set(&c->note, E_CONFLICT, "a directory has this name");
	check(b->used_bytes >= freed);
	if (b->quota_bytes != 0 && b->used_bytes - freed + len > b->quota_bytes)
		return err_set(&c->note, E_FULL, "the bucket's quota is %llu bytes",
			(unsigned long long)b->quota_bytes);
	return job_fits(b, freed, len, &c->note);
}

static void put_write(struct shard *sh, struct shard_call *c, const struct spot *at,
	const struct row_inode *row, struct bytes data)
{
	struct shard_io *io;

	if (at->found || at->expired)
		inode_free(sh, at);
	spot_add(sh, at, row);
	small_write(sh, row, data);
	if (row->expires_ms != 0)
		expiry_write(sh, at, row->inode, row->expires_ms);
	bucket_count(sh, at->b, 1, (int64_t)row->size);
	bucket_count_inode(sh, at->b, row, 1);
	if ((io = bucket_io(at->b, row->place)) != NULL) {
		io->writes++;
		io->written_bytes += row->size;
	}
	if (inode_durable(row))
		shard_want_sync(sh, c);
	answer_keep(sh, c, OP_put, row->inode, inode_version(row));
	wait_wake(sh, at);
}

int shard_put(struct shard *sh, struct shard_call *c, const struct msg_put *m, struct bytes data,
	struct msg_put_ok *ret)
{
	struct row_inode row = { .kind = ENTRY_FILE };
	const struct answer *a;
	struct spot at;
	uint64_t ttl_ms;
	int rc;

	if ((rc = put_check(sh, c, m, data)) < 0 || (rc = answer_recall(sh, c, OP_put, &a)) < 0)
		return rc;
	if (rc > 0) {
		*ret = (struct msg_put_ok){ .inode = a->first, .version = a->second };
		return 0;
	}
	if ((rc = spot_find(sh, c, m->bucket, m->parent, m->name, &at)) < 0 ||
		(rc = put_fits(c, &at, m, data.len)) < 0)
		return rc;
	row.bucket = at.b->id;
	row.flags = (uint16_t)((m->flags & PUT_STORED) | (bucket_durable(at.b) ? PUT_DURABLE : 0));
	row.mtime_ms = sys_wall_ms(sh->sys);
	ttl_ms = m->ttl_ms != 0 ? m->ttl_ms : at.b->ttl_ms;
	row.expires_ms = ttl_ms != 0 ? time_after(row.mtime_ms, ttl_ms) : 0;
	row.inode = db_next_id(sh->db);
	if (row.inode == 0)
		return err_set(&c->note, E_BUSY, "the next block of ids is not there yet");
	if ((rc = small_place(sh, &row, data, inode_durable(&row))) < 0)
		return err_set(&c->note, rc, "the memory for small files is full");
	put_write(sh, c, &at, &row, data);
	*ret = (struct msg_put_ok){ .inode = row.inode, .version = inode_version(&row) };
	return 0;
}

/* May this caller read it?  1: yes, and it has to be marked first. */
static int get_allowed(
	const struct shard *sh, struct shard_call *c, const struct row_inode *row, uint16_t flags)
{
	const struct mark *m = mark_of(sh, row->inode);

	if (row->kind != ENTRY_FILE)
		return err_set(&c->note, E_INVALID, "a directory has this name");
	if (m != NULL && m->session != c->session)
		return err_set(
			&c->note, E_CONFLICT, "another client is reading it in order to delete it");
	if (m != NULL || !((flags & GET_CONSUME) || (row->flags & PUT_DELETE_ON_READ)))
		return 0;
	if (c->session == NULL)
		return err_set(&c->note, E_INVALID, "reading and deleting needs a client id");
	return 1;
}

static void get_fill(const struct row_inode *row, struct msg_get_ok *ret)
{
	memset(ret, 0, sizeof *ret);
	ret->inode = row->inode;
	ret->version = inode_version(row);
	ret->size = row->size;
	ret->mtime_ms = row->mtime_ms;
}

/* Where the bytes are: with the answer, or on storage servers. */
static int file_read(struct shard *sh, struct shard_call *c, const struct row_inode *row,
	const struct msg_get *m, struct msg_get_ok *ret, struct bytes *ret_data)
{
	if (row->place != PLACE_EXTENTS)
		return small_read(sh, row, ret_data, &c->note);
	*ret_data = bytes_of(NULL, 0);
	return extents_answer(sh, c, row, m->from, ret);
}

/* Whoever asks where bytes are is taken to read them. */
static void count_places(const struct bucket *b, struct wire_list l)
{
	struct sub_extent_place p;

	while (sub_extent_place_next(&l, &p)) {
		b->use->pub.io[p.tier].reads++;
		b->use->pub.io[p.tier].read_bytes += p.len;
	}
}

static int get_read(struct shard *sh, struct shard_call *c, const struct bucket *b,
	const struct row_inode *row, const struct msg_get *m, struct msg_get_ok *ret,
	struct bytes *ret_data)
{
	struct shard_io *io = bucket_io(b, row->place);
	int rc = file_read(sh, c, row, m, ret, ret_data);

	if (rc < 0 || io == NULL)
		return rc;
	if (row->place == PLACE_EXTENTS) {
		count_places(b, ret->places);
	} else {
		io->reads++;
		io->read_bytes += row->size;
	}
	return 0;
}

/* The inode, wherever it stands now; one without a row of its own only under the name given. */
static int find_by_inode(
	struct shard *sh, struct shard_call *c, const struct msg_get *m, struct row_inode *ret_row)
{
	int rc = inode_find(sh, m->bucket, m->inode, ret_row);
	struct spot at;

	if (rc != E_NOTFOUND || m->name.len == 0)
		return rc;
	if ((rc = spot_find(sh, c, m->bucket, m->parent, m->name, &at)) < 0)
		return rc;
	if (!at.found || at.inode.inode != m->inode)
		return E_NOTFOUND;
	*ret_row = at.inode;
	return 0;
}

static int get_by_inode(struct shard *sh, struct shard_call *c, const struct msg_get *m,
	struct msg_get_ok *ret, struct bytes *ret_data)
{
	struct row_inode row;
	struct bucket *b;
	int rc;

	if ((rc = bucket_use(sh, c, m->bucket, &b)) < 0)
		return rc;
	rc = find_by_inode(sh, c, m, &row);
	if (rc == E_NOTFOUND || (rc == 0 && inode_expired(sh, &row)))
		return err_set(
			&c->note, E_GONE, "inode %llu is no more", (unsigned long long)m->inode);
	if (rc < 0)
		return err_set(&c->note, rc, "the row of inode %llu", (unsigned long long)m->inode);
	if ((rc = get_allowed(sh, c, &row, m->flags)) < 0)
		return rc;
	if (rc > 0)
		return err_set(&c->note, E_CONFLICT, "get it by its name first");
	get_fill(&row, ret);
	return get_read(sh, c, b, &row, m, ret, ret_data);
}

int shard_get(struct shard *sh, struct shard_call *c, const struct msg_get *m,
	struct msg_get_ok *ret, struct bytes *ret_data)
{
	struct bytes data;
	struct spot at;
	int rc;

	if ((rc = shard_ready(sh, c)) < 0)
		return rc;
	if ((m->flags & ~GET_FLAGS) != 0)
		return err_set(
			&c->note, E_INVALID, "get does not know flags %#x", m->flags & ~GET_FLAGS);
	if (m->inode != 0)
		return get_by_inode(sh, c, m, ret, ret_data);
	if ((rc = spot_find(sh, c, m->bucket, m->parent, m->name, &at)) < 0)
		return rc;
	if (!at.found)
		return err_set(&c->note, E_NOTFOUND, "no such name");
	if ((rc = get_allowed(sh, c, &at.inode, m->flags)) < 0)
		return rc;
	get_fill(&at.inode, ret);
	ret->consuming = rc > 0 || (sh->marks.n > 0 && mark_of(sh, ret->inode) != NULL);
	if (rc == 0)
		return get_read(sh, c, at.b, &at.inode, m, ret, ret_data);
	/* The mark is a write, which ends the borrowing: read once to know that it can be read,
	 * mark, find it again. */
	if ((rc = file_read(sh, c, &at.inode, m, ret, &data)) < 0 ||
		(rc = mark_take(sh, c, &at)) < 0)
		return rc;
	rc = spot_look(sh, &at, &c->note);
	check(rc == 0);
	check(at.inode.inode == ret->inode);
	return get_read(sh, c, at.b, &at.inode, m, ret, ret_data);
}

static int done_unmarked(struct shard *sh, struct shard_call *c, uint64_t bucket, uint64_t inode)
{
	struct row_inode row;
	int rc = mark_of(sh, inode) != NULL ? 0 : inode_find(sh, bucket, inode, &row);

	if (rc == E_NOTFOUND) /* one without a row of its own may still be there */
		return err_set(&c->note, E_GONE, "inode %llu is not read by anyone, or no more",
			(unsigned long long)inode);
	if (rc < 0)
		return err_set(&c->note, rc, "the row of inode %llu", (unsigned long long)inode);
	return err_set(&c->note, E_CONFLICT,
		"this client is not reading inode %llu in order to delete it",
		(unsigned long long)inode);
}

int shard_done(struct shard *sh, struct shard_call *c, const struct msg_done *m)
{
	struct row_mark row;
	const struct answer *a;
	const struct mark *mark;
	struct bucket *b;
	struct spot at;
	int rc;

	if ((rc = shard_may_free(sh, c)) < 0 || (rc = answer_recall(sh, c, OP_done, &a)) != 0)
		return rc < 0 ? rc : 0;
	if ((rc = bucket_use(sh, c, m->bucket, &b)) < 0)
		return rc;
	mark = mark_of(sh, m->inode);
	if (mark == NULL || c->session == NULL || mark->session != c->session)
		return done_unmarked(sh, c, b->id, m->inode);
	if ((rc = mark_read(sh, m->inode, &row)) < 0)
		return err_set(
			&c->note, rc, "the mark of inode %llu", (unsigned long long)m->inode);
	if (row.bucket != b->id)
		return err_set(&c->note, E_INVALID, "the file is in another bucket");
	at = (struct spot){ .b = b, .parent = row.parent, .name = row.name };
	if (spot_look(sh, &at, &c->note) < 0 || !(at.found || at.expired) ||
		at.inode.inode != m->inode)
		return err_set(
			&c->note, E_CORRUPT, "the row of inode %llu", (unsigned long long)m->inode);
	spot_clear(sh, &at);
	inode_free(sh, &at);
	if (inode_durable(&at.inode))
		shard_want_sync(sh, c);
	answer_keep(sh, c, OP_done, 0, 0);
	return 0;
}

int shard_delete(struct shard *sh, struct shard_call *c, const struct msg_delete *m)
{
	const struct answer *a;
	struct spot at;
	int rc;

	if ((rc = shard_may_free(sh, c)) < 0)
		return rc;
	if ((m->flags & ~PUT_IF_VERSION) != 0)
		return err_set(&c->note, E_INVALID, "delete does not know flags %#x",
			m->flags & ~PUT_IF_VERSION);
	if ((rc = answer_recall(sh, c, OP_delete, &a)) != 0)
		return rc < 0 ? rc : 0;
	if ((rc = spot_find(sh, c, m->bucket, m->parent, m->name, &at)) < 0)
		return rc;
	if (!at.found)
		return err_set(&c->note, E_NOTFOUND, "no such name");
	if ((rc = spot_condition(&at, m->flags, m->if_version, &c->note)) < 0)
		return rc;
	if (at.row.kind == ENTRY_DIR && (rc = dir_empty(sh, at.row.inode, &c->note)) < 0)
		return rc;
	spot_clear(sh, &at);
	inode_free(sh, &at);
	if (inode_durable(&at.inode))
		shard_want_sync(sh, c);
	answer_keep(sh, c, OP_delete, 0, 0);
	return 0;
}

int shard_stat(
	struct shard *sh, struct shard_call *c, const struct msg_stat *m, struct msg_stat_ok *ret)
{
	struct spot at;
	int rc;

	if ((rc = shard_ready(sh, c)) < 0 ||
		(rc = spot_find(sh, c, m->bucket, m->parent, m->name, &at)) < 0)
		return rc;
	if (!at.found)
		return err_set(&c->note, E_NOTFOUND, "no such name");
	*ret = (struct msg_stat_ok){
		.inode = at.inode.inode,
		.version = inode_version(&at.inode),
		.size = at.inode.size,
		.mtime_ms = at.inode.mtime_ms,
		.ctime_ms = at.inode.mtime_ms + at.inode.ctime_later_ms,
		.tiers = at.inode.place == PLACE_EXTENTS ? extents_tiers(sh, &at.inode) : 0,
		.expires_ms = at.inode.expires_ms,
		.flags = at.inode.flags,
		.kind = at.inode.kind,
	};
	return 0;
}

/* What holds the inode comes first: its bytes are borrowed until something is written. */
static void persist_write(
	struct shard *sh, const struct spot *at, struct row_inode *row, struct bytes data)
{
	const struct row_inode *old = &at->inode;

	bucket_count(sh, at->b, 0, 0);
	bucket_count_inode(sh, at->b, old, -1);
	bucket_count_inode(sh, at->b, row, 1);
	spot_change(sh, at, row);
	if (old->place == PLACE_SLAB) {
		small_write(sh, row, data);
		slab_drop(sh->slab, old->slot, old->size);
	}
	if (old->expires_ms == row->expires_ms)
		return;
	if (old->expires_ms != 0)
		expiry_clear(sh, row->inode, old->expires_ms);
	if (row->expires_ms != 0)
		expiry_write(sh, at, row->inode, row->expires_ms);
}

int shard_persist(struct shard *sh, struct shard_call *c, const struct msg_persist *m)
{
	struct row_inode row;
	const struct answer *a;
	struct bytes data;
	struct spot at;
	uint64_t now_ms;
	int rc;

	if ((rc = shard_writable(sh, c)) < 0 || (rc = answer_recall(sh, c, OP_persist, &a)) != 0)
		return rc < 0 ? rc : 0;
	if ((rc = spot_find(sh, c, m->bucket, m->parent, m->name, &at)) < 0)
		return rc;
	if (!at.found)
		return err_set(&c->note, E_NOTFOUND, "no such name");
	if (at.row.kind != ENTRY_FILE)
		return err_set(&c->note, E_INVALID, "a directory has this name");
	if (mark_of(sh, at.row.inode) != NULL)
		return err_set(
			&c->note, E_CONFLICT, "a client is reading it in order to delete it");
	if (at.inode.place == PLACE_EXTENTS && extents_domain(sh, &at.inode) != DOMAIN_PERSISTENT)
		return err_set(&c->note, E_UNSUPPORTED,
			"its bytes are in the job's room: get it and put it again with persist");
	data = bytes_of(NULL, 0);
	if (at.inode.place != PLACE_EXTENTS &&
		(rc = small_read(sh, &at.inode, &data, &c->note)) < 0)
		return rc;
	row = at.inode;
	row.flags |= PUT_PERSIST | PUT_DURABLE;
	now_ms = sys_wall_ms(sh->sys);
	row.ctime_later_ms = now_ms - row.mtime_ms;
	row.expires_ms = m->ttl_ms != 0 ? time_after(now_ms, m->ttl_ms) : 0;
	if (row.place == PLACE_SLAB && (rc = small_place(sh, &row, data, true)) < 0)
		return rc;
	persist_write(sh, &at, &row, data);
	shard_want_sync(sh, c);
	answer_keep(sh, c, OP_persist, 0, 0);
	return 0;
}
