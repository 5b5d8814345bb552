/* SPDX-License-Identifier: Apache-2.0 */
/* The shard's side of repair: members of egroups come and go as rows; extents are walked. */
#include "core/cap.h"
#include "meta/large_own.h"

int large_member_add(struct shard *sh, struct shard_call *c, uint64_t egroup, uint32_t server,
	uint8_t device)
{
	int rc = room_member_add(sh->large->room, egroup, server, device);

	if (rc < 0)
		return rc;
	egroup_write(sh, egroup);
	shard_want_sync(sh, c);
	return 0;
}

void large_member_filled(struct shard *sh, struct shard_call *c, uint64_t egroup, uint32_t server)
{
	room_member_filled(sh->large->room, egroup, server);
	egroup_write(sh, egroup);
	shard_want_sync(sh, c);
}

void large_member_leave(struct shard *sh, struct shard_call *c, uint64_t egroup, uint32_t server)
{
	struct room_egroup_info info;
	struct large_drop d = { .egroup = egroup, .left = true };
	bool known = room_egroup(sh->large->room, egroup, &info);

	check(known);
	for (uint8_t i = 0; i < info.n_members; i++)
		if (info.members[i].server == server) {
			d.device = info.members[i].device;
			d.tier = info.members[i].tier;
		}
	drop_forget_egroup(sh, server, egroup);
	d.room = room_member_leave(sh->large->room, egroup, server);
	egroup_write(sh, egroup);
	drop_add(sh, server, &d);
	waitq_wake_all(&sh->large->settled);
	egroup_drop_empty(sh);
	shard_want_sync(sh, c);
}

bool large_leaving(const struct shard *sh, uint32_t server, uint64_t egroup)
{
	const struct server_slot *s = sh->large->servers[server];

	for (const struct list *it = s->drops.next; it != &s->drops; it = it->next) {
		const struct drop *e = container_of(it, const struct drop, link);

		if (e->what.egroup == egroup && e->what.left)
			return true;
	}
	return false;
}

/* ---- moving out of memory ---- */
int large_move_place(struct shard *sh, struct shard_call *c, uint64_t egroup, uint64_t len,
	struct large_place *ret_place)
{
	const struct large_policy *p = &sh->large->policy;
	uint8_t all[TIER_COUNT] = { TIER_DRAM, TIER_FLASH, TIER_DISK }, n = TIER_COUNT;
	struct room_egroup_info info;
	uint64_t id = db_next_id(sh->db), to;
	bool fresh, known = room_egroup(sh->large->room, egroup, &info);

	check(known);
	if (id == 0)
		return E_BUSY;
	if (p->tiers != NULL)
		n = p->tiers(p->arg, info.domain == DOMAIN_PERSISTENT ? 0 : info.domain, all);
	for (uint8_t i = 1; i < n; i++) /* memory first, if it is allowed */
		if (all[i] == TIER_DRAM) {
			memmove(all + 1, all, i);
			all[0] = TIER_DRAM;
		}
	to = room_move_place(sh->large->room, egroup, len, all, n, id, &fresh);
	if (to == 0)
		return E_FULL;
	if (fresh) {
		egroup_write(sh, to);
		shard_want_sync(sh, c);
	}
	known = room_egroup(sh->large->room, to, &info);
	check(known);
	*ret_place = (struct large_place){ to, info.server, info.device, info.tier };
	return 0;
}

void large_move_failed(struct shard *sh, uint64_t extent, const struct large_place *to)
{
	struct room_egroup_info info;

	if (!room_egroup(sh->large->room, to->egroup, &info) || info.lost || info.doomed)
		return;
	drop_add(sh, to->server,
		&(struct large_drop){ .egroup = to->egroup, .extent = extent, .count = 1 });
	room_move_over(sh->large->room, to->egroup);
	egroup_drop_empty(sh);
}

int large_moved(struct shard *sh, struct shard_call *c, uint64_t extent, uint64_t from,
	const struct large_place *to)
{
	uint8_t key[ROW_extent_KEY_MAX], value[ROW_extent_VALUE_MAX];
	struct row_extent row = { .extent = extent };
	struct room_egroup_info info;
	struct bytes found;
	int rc = db_get(sh->db, row_extent_key(&row, key), &found);

	if (rc == 0)
		rc = row_extent_get(found, &row);
	if (rc == 0 && (row.egroup != from || !room_egroup(sh->large->room, from, &info) ||
			       info.lost || info.doomed))
		rc = E_NOTFOUND;
	if (rc == 0)
		rc = room_move(sh->large->room, from, to->egroup, row.len);
	if (rc < 0) {
		large_move_failed(sh, extent, to);
		return rc;
	}
	row.egroup = to->egroup;
	db_put(sh->db, row_extent_key(&row, key), row_extent_put(&row, value));
	drop_everywhere(sh, &info,
		&(struct large_drop){ .egroup = from,
			.extent = extent,
			.count = 1,
			.room = room_of(info.tier, row.len) });
	egroup_drop_empty(sh);
	shard_want_sync(sh, c);
	return 0;
}

struct room *large_room_walks(struct shard *sh) { return sh->large->room; }

uint32_t large_extents(
	struct shard *sh, uint64_t after, struct large_extent *ret_extents, uint32_t max)
{
	struct row_extent row = { .extent = after + 1 }, end = { .extent = UINT64_MAX };
	uint8_t from[ROW_extent_KEY_MAX], to[ROW_extent_KEY_MAX];
	struct bytes key, value;
	struct db_iter it;
	uint32_t n = 0;

	db_iter_begin(&it, sh->db, row_extent_key(&row, from), row_extent_key(&end, to));
	while (n < max && db_iter_next(&it, &key, &value))
		if (row_extent_key_get(key, &row) == 0 && row_extent_get(value, &row) == 0)
			ret_extents[n++] = (struct large_extent){ row.extent, row.egroup, row.len,
				row.root, row.lost != 0 };
	db_iter_end(&it);
	return n;
}

bool large_extent(struct shard *sh, uint64_t extent, struct large_extent *ret_extent)
{
	struct row_extent row = { .extent = extent };
	uint8_t key[ROW_extent_KEY_MAX];
	struct bytes value;

	if (db_get(sh->db, row_extent_key(&row, key), &value) < 0 ||
		row_extent_get(value, &row) < 0)
		return false;
	*ret_extent = (struct large_extent){ extent, row.egroup, row.len, row.root,
		row.lost != 0 };
	return true;
}

void large_extent_lost(struct shard *sh, uint64_t extent)
{
	uint8_t key[ROW_extent_KEY_MAX], value[ROW_extent_VALUE_MAX];
	struct row_extent row = { .extent = extent };
	struct bytes found;

	if (db_get(sh->db, row_extent_key(&row, key), &found) < 0 ||
		row_extent_get(found, &row) < 0 || row.lost)
		return;
	row.lost = 1;
	db_put(sh->db, row_extent_key(&row, key), row_extent_put(&row, value));
	sh->large->n_lost++;
}

uint64_t large_lost(const struct shard *sh) { return sh->large->n_lost; }

uint32_t large_read_cap(const struct shard *sh, uint64_t domain, uint64_t *ret_until_ms,
	uint8_t ret_code[LARGE_CAP_BYTES])
{
	struct cap cap = { .job = domain, .ops = CAP_READ };

	_Static_assert((int)CAP_BYTES <= (int)LARGE_CAP_BYTES, "a code fits");
	cap_fill(sh, &cap, ret_code);
	*ret_until_ms = cap.until_ms;
	return CAP_BYTES;
}
