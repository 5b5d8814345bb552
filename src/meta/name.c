/* SPDX-License-Identifier: Apache-2.0 */
/* Names: which ones are allowed, and what stands at one. */
#include "meta/inside.h"

/* Length of the UTF-8 sequence at p, 0 when there is none: overlong forms, surrogates and what lies
 * beyond U+10FFFF are none (RFC 3629). */
static size_t sequence(const uint8_t *p, size_t left)
{
	static const struct {
		uint8_t first, last, low, high, len;
	} rows[] = {
		{ 0xc2, 0xdf, 0x80, 0xbf, 2 },
		{ 0xe0, 0xe0, 0xa0, 0xbf, 3 },
		{ 0xe1, 0xec, 0x80, 0xbf, 3 },
		{ 0xed, 0xed, 0x80, 0x9f, 3 },
		{ 0xee, 0xef, 0x80, 0xbf, 3 },
		{ 0xf0, 0xf0, 0x90, 0xbf, 4 },
		{ 0xf1, 0xf3, 0x80, 0xbf, 4 },
		{ 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};

	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		if (p[0] < rows[i].first || p[0] > rows[i].last)
			continue;
		if (left < rows[i].len || p[1] < rows[i].low || p[1] > rows[i].high)
			return 0;
		for (unsigned k = 2; k < rows[i].len; k++)
			if ((p[k] & 0xc0) != 0x80)
				return 0;
		return rows[i].len;
	}
	return 0;
}

/* Eight bytes that are all plain: no high bit, no zero byte. */
static bool plain(uint64_t w)
{
	const uint64_t ones = UINT64_C(0x0101010101010101), high = ones << 7;

	return ((w | (w - ones)) & high) == 0;
}

bool name_is_text(struct bytes name)
{
	const uint8_t *p = name.p, *end = p + name.len;

	while (p < end) {
		size_t n = 1;

		if (end - p >= 8 && plain(le64(p)))
			n = 8;
		else if (*p == 0)
			return false;
		else if (*p >= 0x80)
			n = sequence(p, (size_t)(end - p));
		if (n == 0)
			return false;
		p += n;
	}
	return true;
}

int name_check(const struct bucket *b, struct bytes name, struct err_note *note)
{
	size_t max = b->kind == BUCKET_TREE ? LIMIT_COMPONENT_BYTES_MAX : LIMIT_NAME_BYTES_MAX;

	if (name.len == 0)
		return err_set(note, E_INVALID, "the name is empty");
	if (name.len > max)
		return err_set(note, E_TOOBIG, "a name of %zu bytes: at most %zu", name.len, max);
	if (!name_is_text(name))
		return err_set(note, E_INVALID, "the name is not UTF-8 without NUL");
	if (b->kind != BUCKET_TREE)
		return 0;
	if (memchr(name.p, '/', name.len) != NULL)
		return err_set(note, E_INVALID, "a '/' inside a component of a tree bucket");
	if (bytes_equal(name, BYTES(".")) || bytes_equal(name, BYTES("..")))
		return err_set(note, E_INVALID, "'.' and '..' name nothing in a tree bucket");
	return 0;
}

struct bytes name_keep(struct shard *sh, struct bytes name)
{
	check(name.len <= sizeof sh->name_room);
	if (name.len > 0)
		memcpy(sh->name_room, name.p, name.len);
	return bytes_of(sh->name_room, name.len);
}

int dir_check(struct shard *sh, const struct bucket *b, uint64_t parent, struct err_note *note)
{
	struct row_inode row;
	int rc;

	if (parent == 0)
		return 0;
	if (b->kind != BUCKET_TREE)
		return err_set(note, E_INVALID, "a parent in a flat bucket");
	rc = inode_find(sh, b->id, parent, &row);
	if (rc == E_NOTFOUND || (rc == 0 && row.kind != ENTRY_DIR))
		return err_set(note, E_NOTFOUND, "no such directory");
	return rc < 0 ? err_set(note, rc, "the row of directory %llu", (unsigned long long)parent)
		      : 0;
}

struct bytes name_key(uint64_t parent, struct bytes name, uint8_t to[LIST_KEY_MAX])
{
	struct row_name row = { .parent = parent };
	struct bytes key = row_name_key(&row, to);

	check(key.len + name.len <= LIST_KEY_MAX);
	if (name.len > 0)
		memcpy(to + key.len, name.p, name.len);
	return bytes_of(to, key.len + name.len);
}

struct bytes spot_key(struct shard *sh, const struct spot *at)
{
	struct row_name row = { .parent = at->parent, .name = at->name };

	return row_name_key(&row, sh->key_room);
}

/* A name without its inode breaks (S1): the tree is damaged. */
int spot_look(struct shard *sh, struct spot *at, struct err_note *note)
{
	struct bytes value;
	int rc;

	at->found = at->expired = false;
	at->row.file = bytes_of(NULL, 0);
	rc = db_get(sh->db, spot_key(sh, at), &value);
	if (rc == E_NOTFOUND)
		return 0;
	if (rc == 0)
		rc = row_name_get(value, &at->row);
	if (rc < 0)
		return err_set(note, rc, "the row of a name cannot be read");
	rc = inode_of_name(sh, at->b, &at->row, &at->inode);
	if (rc < 0)
		return err_set(note, E_CORRUPT, "inode %llu of a name cannot be read",
			(unsigned long long)at->row.inode);
	at->expired = inode_expired(sh, &at->inode);
	at->found = !at->expired;
	return 0;
}

int spot_find(struct shard *sh, struct shard_call *c, uint64_t bucket, uint64_t parent,
	struct bytes name, struct spot *ret_at)
{
	struct bucket *b;
	int rc;

	if ((rc = bucket_use(sh, c, bucket, &b)) < 0)
		return rc;
	if ((rc = name_check(b, name, &c->note)) < 0)
		return rc;
	if ((rc = dir_check(sh, b, parent, &c->note)) < 0)
		return rc;
	ret_at->b = b;
	ret_at->parent = parent != 0 ? parent : b->id;
	ret_at->name = name;
	return spot_look(sh, ret_at, &c->note);
}

static void name_write(
	struct shard *sh, const struct spot *at, const struct row_inode *inode, bool inside)
{
	struct row_name row = { .kind = inode->kind, .inode = inode->inode };
	uint8_t file[ROW_inode_VALUE_MAX];

	check(inode->inode != 0);
	if (inside)
		row.file = row_inode_put(inode, file);
	if (at->found || at->expired)
		db_put(sh->db, spot_key(sh, at), row_name_put(&row, sh->value_room));
	else
		db_put_new(sh->db, spot_key(sh, at), row_name_put(&row, sh->value_room));
}

void spot_add(struct shard *sh, const struct spot *at, const struct row_inode *row)
{
	bool inside = at->b->kind == BUCKET_FLAT && row->place != PLACE_EXTENTS;

	check(row->bucket == at->b->id);
	if (!inside)
		inode_add(sh, row);
	name_write(sh, at, row, inside);
}

void spot_change(struct shard *sh, const struct spot *at, const struct row_inode *row)
{
	check(at->found);
	check(at->inode.inode == row->inode);
	if (spot_inside(at))
		name_write(sh, at, row, true);
	else
		inode_write(sh, row);
}

void spot_move(struct shard *sh, const struct spot *from, const struct spot *to,
	const struct row_inode *row)
{
	check(from->found);
	check(from->inode.inode == row->inode);
	check(from->b == to->b);
	spread_moved(sh, row);
	name_write(sh, to, row, spot_inside(from));
}

void spot_clear(struct shard *sh, const struct spot *at)
{
	db_delete(sh->db, spot_key(sh, at));
}

int spot_condition(
	const struct spot *at, uint16_t flags, uint64_t if_version, struct err_note *note)
{
	if ((flags & PUT_IF_ABSENT) && (flags & PUT_IF_VERSION))
		return err_set(note, E_INVALID, "both if-absent and if-version");
	if ((flags & PUT_IF_ABSENT) && at->found)
		return err_set(note, E_EXISTS, "the name is taken");
	if (!(flags & PUT_IF_VERSION))
		return 0;
	if (!at->found)
		return err_set(note, E_CONFLICT, "there is no such name, so it has no version");
	if (inode_version(&at->inode) != if_version)
		return err_set(note, E_CONFLICT, "the version is %llu",
			(unsigned long long)inode_version(&at->inode));
	return 0;
}

int dir_empty(struct shard *sh, uint64_t inode, struct err_note *note)
{
	uint32_t dead_left = LIST_STEPS_MAX;
	struct bytes key, value;
	struct row_range r;
	struct db_iter it;
	bool any, tired;

	row_range_one(&r, ROW_name_TABLE, inode);
	db_iter_begin(&it, sh->db, r.from, r.to);
	db_iter_bound(&it, &dead_left);
	any = db_iter_next(&it, &key, &value);
	tired = db_iter_tired(&it, &key);
	db_iter_end(&it);
	if (any)
		return err_set(note, E_NOTEMPTY, "the directory is not empty");
	return tired ? err_set(note, E_BUSY, "the directory is still being emptied") : 0;
}
