/* SPDX-License-Identifier: Apache-2.0 */
/* Files on storage servers: committing what was written, finding it again, giving it back.
 *
 * A commit names extents that servers acknowledged; each must lie in a grant of the session, so a
 * client can neither name other clients' bytes nor the same bytes twice.  A file of more extents
 * than one message holds is staged: its regions are written first and named by the last commit. */
#include "core/cap.h"
#include "meta/large_own.h"

enum {
	COMMIT_FLAGS = PUT_IF_ABSENT | PUT_IF_VERSION | PUT_PERSIST | PUT_DELETE_ON_READ |
		       PUT_DURABLE | PUT_MORE,
	COMMIT_STORED = PUT_PERSIST | PUT_DELETE_ON_READ | PUT_DURABLE,
	FREE_STEP = 64,
};

/* ---- rows ---- */
static void extent_write(struct shard *sh, const struct row_extent *row)
{
	uint8_t key[ROW_extent_KEY_MAX], value[ROW_extent_VALUE_MAX];

	db_put(sh->db, row_extent_key(row, key), row_extent_put(row, value));
}

static void region_write(struct shard *sh, const struct row_region *row)
{
	uint8_t key[ROW_region_KEY_MAX], value[ROW_region_VALUE_MAX];

	db_put(sh->db, row_region_key(row, key), row_region_put(row, value));
}

static int extent_find(struct shard *sh, uint64_t extent, struct row_extent *ret_row)
{
	uint8_t key[ROW_extent_KEY_MAX];
	struct bytes value;
	int rc;

	ret_row->extent = extent;
	rc = db_get(sh->db, row_extent_key(ret_row, key), &value);
	if (rc == 0)
		rc = row_extent_get(value, ret_row);
	return rc == E_NOTFOUND ? E_CORRUPT : rc;
}

int extent_load(struct shard *sh, struct err_note *note)
{
	struct bytes key, value;
	struct room_egroup_info info;
	struct row_extent row;
	struct row_range r;
	struct db_iter it;
	int rc = 0;

	row_range_table(&r, ROW_extent_TABLE);
	db_iter_begin(&it, sh->db, r.from, r.to);
	while (rc == 0 && db_iter_next(&it, &key, &value)) {
		if (row_extent_key_get(key, &row) < 0 || row_extent_get(value, &row) < 0)
			rc = E_CORRUPT;
		sh->large->n_lost += rc == 0 && row.lost;
		/* Else dropped whole. */
		if (rc == 0 && room_egroup(sh->large->room, row.egroup, &info))
			rc = room_restore_extent(sh->large->room, row.egroup, row.len);
	}
	db_iter_end(&it);
	return rc < 0 ? err_set(note, rc, "extent %llu contradicts its group",
				(unsigned long long)row.extent)
		      : 0;
}

/* ---- giving back ---- */
static void extent_unlink(struct shard *sh, uint64_t extent)
{
	struct row_extent row;
	struct room_egroup_info info;
	uint8_t key[ROW_extent_KEY_MAX];

	if (extent_find(sh, extent, &row) < 0)
		return; /* the audit and fsck tell of it; the rest of the file must still go */
	if (row.references > 1) {
		row.references--;
		extent_write(sh, &row);
		return;
	}
	db_delete(sh->db, row_extent_key(&row, key));
	sh->large->n_lost -= row.lost != 0;
	if (!room_egroup(sh->large->room, row.egroup, &info) || info.doomed)
		return; /* dropped whole */
	room_unlink(sh->large->room, row.egroup, row.len);
	if (!info.lost)
		drop_everywhere(sh, &info,
			&(struct large_drop){ .egroup = row.egroup,
				.extent = row.extent,
				.count = 1,
				.room = room_of(info.tier, row.len) });
}

void extents_free(struct shard *sh, uint64_t bucket, uint64_t inode)
{
	uint64_t extents[FREE_STEP], offsets[FREE_STEP];
	unsigned n;

	do { /* a walk must not write: some are noted, then freed */
		struct row_region row = { .bucket = bucket, .inode = inode }, end = row;
		uint8_t from[ROW_region_KEY_MAX], to[ROW_region_KEY_MAX];
		struct bytes key, value;
		struct db_iter it;

		n = 0;
		end.offset = UINT64_MAX;
		db_iter_begin(&it, sh->db, row_region_key(&row, from), row_region_key(&end, to));
		while (n < FREE_STEP && db_iter_next(&it, &key, &value)) {
			if (row_region_key_get(key, &row) < 0)
				continue;
			offsets[n] = row.offset;
			extents[n++] = row_region_get(value, &row) < 0 ? 0 : row.extent;
		}
		db_iter_end(&it);
		for (unsigned i = 0; i < n; i++) {
			row = (struct row_region){
				.bucket = bucket, .inode = inode, .offset = offsets[i]
			};
			db_delete(sh->db, row_region_key(&row, from));
			if (extents[i] != 0)
				extent_unlink(sh, extents[i]);
		}
	} while (n == FREE_STEP);
	egroup_drop_empty(sh);
}

/* ---- stages ---- */
static int stage_find(struct shard *sh, uint64_t session, uint64_t inode, struct row_stage *ret_row)
{
	uint8_t key[ROW_stage_KEY_MAX];
	struct bytes value;
	int rc;

	*ret_row = (struct row_stage){ .session = session, .inode = inode };
	rc = db_get(sh->db, row_stage_key(ret_row, key), &value);
	return rc < 0 ? rc : row_stage_get(value, ret_row);
}

static void stage_write(struct shard *sh, const struct row_stage *row)
{
	uint8_t key[ROW_stage_KEY_MAX], value[ROW_stage_VALUE_MAX];

	db_put(sh->db, row_stage_key(row, key), row_stage_put(row, value));
}

static void stage_clear(struct shard *sh, const struct row_stage *row)
{
	uint8_t key[ROW_stage_KEY_MAX];

	db_delete(sh->db, row_stage_key(row, key));
}

static bool stage_first(struct shard *sh, uint64_t session, struct row_stage *ret_row)
{
	struct bytes key, value;
	struct row_range r;
	struct db_iter it;
	bool found;

	row_range_one(&r, ROW_stage_TABLE, session);
	db_iter_begin(&it, sh->db, r.from, r.to);
	found = db_iter_next(&it, &key, &value) && row_stage_key_get(key, ret_row) == 0 &&
		row_stage_get(value, ret_row) == 0;
	db_iter_end(&it);
	return found;
}

void stage_end_session(struct shard *sh, uint64_t session)
{
	struct row_stage row;

	while (session != 0 && stage_first(sh, session, &row)) {
		extents_free(sh, row.bucket, row.inode);
		stage_clear(sh, &row);
	}
}

/* ---- commit ---- */
struct commit {
	struct shard *sh;
	struct shard_call *c;
	const struct msg_commit *m;
	struct spot at;
	struct row_stage stage; /* inode 0: a new file */
	uint64_t domain, bytes;
	uint32_t n; /* extents taken from their grants so far */
	uint8_t copies;
	bool soft;
};

/* Some server that the writer was told of still has what was written in the egroup. */
static bool is_held(const struct room_egroup_info *info)
{
	for (uint8_t i = 0; i < info->n_members; i++)
		if (!info->members[i].late && info->members[i].state == ROOM_MEMBER_IN)
			return true;
	return false;
}

static int take_one(struct commit *k, const struct sub_extent_ref *e)
{
	struct room *room = k->sh->large->room;
	struct room_egroup_info info;
	int rc;

	if (e->len == 0)
		return err_set(&k->c->note, E_INVALID, "an extent without bytes");
	if (!room_egroup(room, e->egroup, &info) || info.lost || info.doomed || !is_held(&info))
		return err_set(&k->c->note, E_LOST, "extent %llu is no more: its server lost it",
			(unsigned long long)e->extent);
	if (info.domain != k->domain)
		return err_set(&k->c->note, E_INVALID, "extent %llu was granted for other data",
			(unsigned long long)e->extent);
	if (info.tier == TIER_DRAM &&
		((k->m->flags & (PUT_DURABLE | PUT_PERSIST)) != 0 || bucket_durable(k->at.b)))
		return err_set(&k->c->note, E_INVALID, "extent %llu is in memory, and has to last",
			(unsigned long long)e->extent);
	if (!k->soft && info.copies < k->copies)
		return err_set(&k->c->note, E_INVALID,
			"extent %llu was granted for %u copies, not %u",
			(unsigned long long)e->extent, info.copies, k->copies);
	rc = room_commit(room, k->c->session->id, e->egroup, e->extent, e->len,
		e->copies > 0 ? e->copies : 1);
	if (rc == E_INVALID)
		return err_set(&k->c->note, rc, "extent %llu was acknowledged by %u servers only",
			(unsigned long long)e->extent, e->copies);
	if (rc == E_TOOBIG)
		return err_set(&k->c->note, rc, "extent %llu is larger than its grant",
			(unsigned long long)e->extent);
	return rc < 0 ? err_set(&k->c->note, rc, "extent %llu was not granted to this client",
				(unsigned long long)e->extent)
		      : 0;
}

static void give_back(struct commit *k)
{
	struct wire_list l = k->m->extents;
	struct sub_extent_ref e;

	for (uint32_t i = 0; i < k->n && sub_extent_ref_next(&l, &e); i++)
		room_uncommit(k->sh->large->room, k->c->session->id, e.egroup, e.extent, e.len);
	k->n = 0;
}

/* Moves the extents from their grants to the file; all or none. */
static int take_extents(struct commit *k)
{
	struct wire_list l = k->m->extents;
	struct sub_extent_ref e;
	int rc = 0;

	while (rc == 0 && sub_extent_ref_next(&l, &e)) {
		rc = take_one(k, &e);
		k->n += rc == 0;
		k->bytes += e.len;
	}
	if (rc < 0)
		give_back(k);
	return rc;
}

static int fits(struct commit *k)
{
	const struct bucket *b = k->at.b;
	uint64_t freed = k->at.found || k->at.expired ? k->at.inode.size : 0;
	uint64_t size = k->stage.size + k->bytes;
	int rc;

	if ((k->m->flags & PUT_MORE) == 0) {
		rc = spot_condition(&k->at, k->m->flags, k->m->if_version, &k->c->note);
		if (rc < 0)
			return rc;
		if (k->at.found && k->at.row.kind != ENTRY_FILE)
			return err_set(&k->c->note, E_CONFLICT, "a directory has this name");
	}
	if (b->quota_bytes != 0 && b->used_bytes - freed + size > b->quota_bytes)
		return err_set(&k->c->note, E_FULL, "the bucket's quota is %llu bytes",
			(unsigned long long)b->quota_bytes);
	return job_fits(b, freed, size, &k->c->note);
}

/* What its next grants are cut for. */
static void note_size(struct session *s, uint64_t len)
{
	s->extent_bytes = s->extent_bytes == 0 ? len : (s->extent_bytes * 7 + len) / 8;
}

static void count_written(struct commit *k, const struct sub_extent_ref *e)
{
	struct room_egroup_info info;
	struct shard_io *io;

	if (k->at.b->use == NULL || !room_egroup(k->sh->large->room, e->egroup, &info))
		return;
	io = &k->at.b->use->pub.io[info.tier];
	io->writes++;
	io->written_bytes += e->len;
}

static void write_extents(struct commit *k, uint64_t inode)
{
	struct wire_list l = k->m->extents;
	uint64_t offset = k->stage.size, grant = 0;
	struct sub_extent_ref e;

	while (sub_extent_ref_next(&l, &e)) {
		uint64_t g = room_grant_of(k->sh->large->room, e.egroup, e.extent);

		extent_write(k->sh, &(struct row_extent){ .extent = e.extent,
					    .egroup = e.egroup,
					    .offset = e.offset,
					    .len = e.len,
					    .root = e.root,
					    .references = 1 });
		region_write(k->sh, &(struct row_region){ .bucket = k->at.b->id,
					    .inode = inode,
					    .offset = offset,
					    .extent = e.extent });
		if (room_refill(k->sh->large->room, e.egroup))
			egroup_write(k->sh, e.egroup);
		count_written(k, &e);
		note_size(k->c->session, e.len);
		offset += e.len;
		if (grant != 0 && g != grant)
			grant_write(k->sh, grant);
		grant = g;
	}
	if (grant != 0)
		grant_write(k->sh, grant);
}

static void write_file(struct commit *k, struct row_inode *row)
{
	struct shard *sh = k->sh;

	if (k->at.found || k->at.expired)
		inode_free(sh, &k->at);
	write_extents(k, row->inode);
	if (k->stage.inode != 0)
		stage_clear(sh, &k->stage);
	spot_add(sh, &k->at, row);
	if (row->expires_ms != 0)
		expiry_write(sh, &k->at, row->inode, row->expires_ms);
	bucket_count(sh, k->at.b, 1, (int64_t)row->size);
	bucket_count_inode(sh, k->at.b, row, 1);
	if ((row->flags & (PUT_DURABLE | PUT_PERSIST)) != 0)
		shard_want_sync(sh, k->c);
	wait_wake(sh, &k->at);
}

static int begin(struct commit *k)
{
	const struct msg_commit *m = k->m;
	struct shard_call *c = k->c;
	int rc = shard_writable(k->sh, c);

	if (rc < 0)
		return rc;
	if ((m->flags & ~COMMIT_FLAGS) != 0)
		return err_set(&c->note, E_INVALID, "commit does not know flags %#x",
			m->flags & ~COMMIT_FLAGS);
	if (c->session == NULL || c->session->id == 0)
		return err_set(&c->note, E_DENIED, "nothing was granted to this client");
	if (m->extents.n == 0 && m->staged == 0)
		return err_set(&c->note, E_INVALID, "a commit without extents");
	return 0;
}

static int finish(struct commit *k, struct msg_put_ok *ret)
{
	struct row_inode row = { .kind = ENTRY_FILE,
		.place = PLACE_EXTENTS,
		.bucket = k->at.b->id,
		.inode = k->stage.inode,
		.size = k->stage.size + k->bytes };
	uint64_t ttl_ms = k->m->ttl_ms != 0 ? k->m->ttl_ms : k->at.b->ttl_ms;

	if (row.inode == 0 && (row.inode = db_next_id(k->sh->db)) == 0)
		return err_set(&k->c->note, E_BUSY, "the next block of ids is not there yet");
	if ((k->m->flags & PUT_MORE) != 0) {
		write_extents(k, row.inode);
		stage_write(k->sh, &(struct row_stage){ .session = k->c->session->id,
					   .inode = row.inode,
					   .bucket = row.bucket,
					   .size = row.size });
	} else {
		row.flags = (uint16_t)((k->m->flags & COMMIT_STORED) |
				       (bucket_durable(k->at.b) ? PUT_DURABLE : 0));
		row.mtime_ms = sys_wall_ms(k->sh->sys);
		row.expires_ms = ttl_ms != 0 ? time_after(row.mtime_ms, ttl_ms) : 0;
		write_file(k, &row);
	}
	answer_keep(k->sh, k->c, OP_commit, row.inode, inode_version(&row));
	*ret = (struct msg_put_ok){ .inode = row.inode, .version = inode_version(&row) };
	return 0;
}

int shard_commit(
	struct shard *sh, struct shard_call *c, const struct msg_commit *m, struct msg_put_ok *ret)
{
	struct commit k = { .sh = sh, .c = c, .m = m };
	const struct answer *a;
	int rc;

	if ((rc = begin(&k)) < 0 || (rc = answer_recall(sh, c, OP_commit, &a)) < 0)
		return rc;
	if (rc > 0) {
		*ret = (struct msg_put_ok){ .inode = a->first, .version = a->second };
		return 0;
	}
	c->session->has_room = true;
	if ((m->flags & PUT_MORE) != 0)
		rc = bucket_use(sh, c, m->bucket, &k.at.b);
	else
		rc = spot_find(sh, c, m->bucket, m->parent, m->name, &k.at);
	if (rc < 0)
		return rc;
	if (m->staged != 0 && (stage_find(sh, c->session->id, m->staged, &k.stage) < 0 ||
				      k.stage.bucket != k.at.b->id))
		return err_set(&c->note, E_GONE, "file %llu is not being written by this client",
			(unsigned long long)m->staged);
	k.domain = domain_of(k.at.b, m->flags);
	k.copies = copies_of(k.at.b, m->flags, &k.soft);
	if ((rc = take_extents(&k)) < 0)
		return rc;
	if ((rc = fits(&k)) < 0 || (rc = finish(&k, ret)) < 0) {
		give_back(&k);
		return rc;
	}
	egroup_drop_empty(sh);
	return 0;
}

/* ---- finding ---- */
enum { EGROUPS_SEEN = 64, MEMBERS_LISTED_MAX = 4096 };
struct places {
	struct wire_list_builder places, servers, members;
	uint32_t seen[64]; /* servers listed already */
	uint32_t n_seen;
	uint64_t egroups[EGROUPS_SEEN]; /* whose members were listed last, round and round */
	uint32_t n_egroups;
};

static bool list_server(struct shard *sh, struct places *p, uint32_t server)
{
	for (uint32_t i = 0; i < p->n_seen; i++)
		if (p->seen[i] == server)
			return true;
	if (p->n_seen == sizeof p->seen / sizeof p->seen[0] || !server_add(sh, &p->servers, server))
		return false;
	p->seen[p->n_seen++] = server;
	return true;
}

/* Whether what a member has can be read there now, as far as is known. */
static bool is_up(const struct shard *sh, const struct room_member_info *m)
{
	const struct large_server *s = large_server(sh, m->server);

	return m->state == ROOM_MEMBER_IN && s != NULL && s->up;
}

/* The member that readers are sent to first: to one for this extent, to the next for another. */
static uint32_t first_server(
	const struct shard *sh, const struct room_egroup_info *info, uint64_t extent)
{
	for (uint8_t i = 0; i < info->n_members; i++) {
		const struct room_member_info *m = &info->members[(extent + i) % info->n_members];

		if (is_up(sh, m))
			return m->server;
	}
	for (uint8_t i = 0; i < info->n_members; i++)
		if (info->members[i].state == ROOM_MEMBER_IN)
			return info->members[i].server;
	return info->server;
}

/* The members that have all of it, those that are up first; false when the page is full. */
static bool list_members(struct shard *sh, struct places *p, uint64_t egroup,
	const struct room_egroup_info *info)
{
	if (info->n_members == 1)
		return true;
	for (uint32_t i = 0; i < p->n_egroups && i < EGROUPS_SEEN; i++)
		if (p->egroups[i] == egroup)
			return true;
	for (int up = 1; up >= 0; up--)
		for (uint8_t i = 0; i < info->n_members; i++) {
			const struct room_member_info *m = &info->members[i];

			if (m->state != ROOM_MEMBER_IN || is_up(sh, m) != (up == 1))
				continue;
			if (p->members.n == MEMBERS_LISTED_MAX ||
				!list_server(sh, p, m->server) ||
				!sub_egroup_member_add(&p->members,
					&(struct sub_egroup_member){ egroup, m->server }))
				return false;
		}
	p->egroups[p->n_egroups++ % EGROUPS_SEEN] = egroup;
	return true;
}

static bool is_gone(const struct shard *sh, const struct room_egroup_info *info)
{
	const struct large_server *s = large_server(sh, info->server);

	return info->tier == TIER_DRAM && s != NULL && s->gone;
}

/* One place; false when the page is full.  Its file offset must be the one that is due (L3). */
static int add_place(struct shard *sh, struct places *p, const struct row_region *r, uint64_t due,
	uint64_t *ret_domain, uint64_t *ret_len)
{
	struct room_egroup_info info = { 0 };
	struct row_extent e;
	uint32_t server;
	bool known, gone;
	int rc = extent_find(sh, r->extent, &e);

	if (rc < 0 || (due != UINT64_MAX && r->offset != due))
		return E_CORRUPT;
	known = room_egroup(sh->large->room, e.egroup, &info);
	*ret_domain = info.domain;
	*ret_len = e.len;
	server = known ? first_server(sh, &info, e.extent) : 0;
	gone = !known || info.lost || info.doomed || is_gone(sh, &info);
	if (p->places.n == LIMIT_EXTENTS_PER_MESSAGE_MAX ||
		(known && (!list_server(sh, p, server) ||
				  !list_members(sh, p, e.egroup, &info))))
		return 0;
	return sub_extent_place_add(
		&p->places, &(struct sub_extent_place){ .file_offset = r->offset,
				    .egroup = e.egroup,
				    .extent = e.extent,
				    .offset = e.offset,
				    .len = e.len,
				    .root = e.root,
				    .server = server,
				    .tier = info.tier,
				    .lost = gone     ? PLACE_GONE
					    : e.lost ? PLACE_ROTTEN
						     : 0 });
}

static int walk_places(struct shard *sh, const struct row_inode *row, struct row_region *at,
	struct places *p, uint64_t *ret_domain, uint64_t *ret_next)
{
	struct row_region end = {
		.bucket = row->bucket, .inode = row->inode, .offset = UINT64_MAX
	};
	uint8_t from[ROW_region_KEY_MAX], to[ROW_region_KEY_MAX];
	struct bytes key, value;
	uint64_t due = at->offset, len = 0;
	struct db_iter it;
	int rc = 1;

	*ret_next = 0;
	db_iter_begin(&it, sh->db, row_region_key(at, from), row_region_key(&end, to));
	while (rc > 0 && db_iter_next(&it, &key, &value)) {
		if (row_region_key_get(key, at) < 0 || row_region_get(value, at) < 0) {
			rc = E_CORRUPT;
			break;
		}
		rc = add_place(sh, p, at, due, ret_domain, &len);
		if (rc == 0)
			*ret_next = at->offset;
		due = at->offset + len;
	}
	db_iter_end(&it);
	if (rc > 0 && due != row->size)
		rc = E_CORRUPT;
	return rc < 0 ? rc : 0;
}

/* The offset of the region that holds `from`. */
static uint64_t region_before(struct shard *sh, const struct row_inode *row, uint64_t from)
{
	struct row_region at = { .bucket = row->bucket, .inode = row->inode }, end = at;
	uint8_t low[ROW_region_KEY_MAX], high[ROW_region_KEY_MAX];
	struct bytes key, value;
	struct db_iter it;
	uint64_t offset = 0;

	if (from == 0)
		return 0;
	/* regions are at most an extent long */
	at.offset = from > LIMIT_EXTENT_DRAM_BYTES_MAX ? from - LIMIT_EXTENT_DRAM_BYTES_MAX : 0;
	end.offset = from + 1;
	db_iter_begin(&it, sh->db, row_region_key(&at, low), row_region_key(&end, high));
	while (db_iter_next(&it, &key, &value))
		if (row_region_key_get(key, &at) == 0)
			offset = at.offset;
	db_iter_end(&it);
	return offset;
}

static void mint(struct shard *sh, uint64_t domain, struct msg_get_ok *ret)
{
	struct cap cap = { .job = domain, .ops = CAP_READ };

	cap_fill(sh, &cap, sh->large->code);
	ret->cap_job = domain;
	ret->cap_until_ms = cap.until_ms;
	ret->cap = bytes_of(sh->large->code, CAP_BYTES);
}

int extents_answer(struct shard *sh, struct shard_call *c, const struct row_inode *row,
	uint64_t from, struct msg_get_ok *ret)
{
	struct row_region at = { .bucket = row->bucket, .inode = row->inode };
	uint64_t domain = 0, next;
	struct places p = { .n_seen = 0 };
	int rc;

	if (from >= row->size)
		return 0;
	at.offset = region_before(sh, row, from);
	p.places = wire_list_begin(sh->page, PAGE_BYTES / 2, c->version);
	p.servers = wire_list_begin(sh->page + PAGE_BYTES / 2, PAGE_BYTES / 4, c->version);
	p.members = wire_list_begin(sh->page + PAGE_BYTES / 4 * 3, PAGE_BYTES / 4, c->version);
	if ((rc = walk_places(sh, row, &at, &p, &domain, &next)) < 0)
		return err_set(&c->note, rc, "the regions of inode %llu do not fit together",
			(unsigned long long)row->inode);
	ret->places = wire_list_end(&p.places);
	ret->servers = wire_list_end(&p.servers);
	ret->members = wire_list_end(&p.members);
	ret->next = next;
	mint(sh, domain, ret);
	return 0;
}

uint64_t extents_domain(struct shard *sh, const struct row_inode *row)
{
	struct row_region at = { .bucket = row->bucket, .inode = row->inode };
	uint8_t key[ROW_region_KEY_MAX];
	struct room_egroup_info info;
	struct row_extent e;
	struct bytes value;

	if (db_get(sh->db, row_region_key(&at, key), &value) < 0 ||
		row_region_get(value, &at) < 0 || extent_find(sh, at.extent, &e) < 0 ||
		!room_egroup(sh->large->room, e.egroup, &info))
		return 0;
	return info.domain;
}

uint8_t extents_tiers(struct shard *sh, const struct row_inode *row)
{
	struct row_region at = { .bucket = row->bucket, .inode = row->inode }, end = at;
	uint8_t from[ROW_region_KEY_MAX], to[ROW_region_KEY_MAX], tiers = 0;
	struct room_egroup_info info;
	struct bytes key, value;
	struct row_extent e;
	struct db_iter it;

	end.offset = UINT64_MAX;
	db_iter_begin(&it, sh->db, row_region_key(&at, from), row_region_key(&end, to));
	for (int i = 0; i < FREE_STEP && db_iter_next(&it, &key, &value); i++)
		if (row_region_get(value, &at) == 0 && extent_find(sh, at.extent, &e) == 0 &&
			room_egroup(sh->large->room, e.egroup, &info))
			tiers |= (uint8_t)TIER_BIT(info.tier);
	db_iter_end(&it);
	return tiers;
}
