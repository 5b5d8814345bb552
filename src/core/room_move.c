/* SPDX-License-Identifier: Apache-2.0 */
/* Extents that move out of memory, one by one: into groups of their domain that nobody else writes
 * into. */
#include "base/check.h"
#include "core/room_own.h"

static bool is_up(const struct room *r, const struct device *d)
{
	return r->servers[*map64_get(&r->server_at, d->server)].up;
}

static bool takes(const struct room *r, const struct egroup *e, uint64_t len)
{
	const struct device *d = device_of(r, e);
	uint64_t room = room_of(d->tier, len);

	if (!e->live || e->lost || e->doomed || e->told)
		return false;
	if (!tier_appends(d->tier))
		return e->bytes - member_room(e, &e->members[0]) >= room;
	return device_free(d) >= room && e->bytes >= room && e->bytes - room >= e->appended;
}

/* A device for another group. */
static uint32_t choose(const struct room *r, uint8_t tier, uint64_t len)
{
	uint64_t max = tier_appends(tier) ? r->limits.extent_file_bytes
					  : r->limits.extent_dram_bytes;
	uint32_t best = NONE;

	for (uint32_t i = 0; len <= max && i < r->n_devices; i++) {
		const struct device *d = &r->devices[i];
		uint64_t room = tier_appends(tier) ? room_of(tier, len) : d->egroup_bytes;

		if (d->tier == tier && is_up(r, d) && d->egroup_bytes >= room_of(tier, len) &&
			device_free(d) >= room && room_better_device(r, i, best, NULL, 0, 0))
			best = i;
	}
	return best;
}

uint64_t room_move_place(struct room *r, uint64_t egroup, uint64_t len, const uint8_t *tiers,
	uint8_t n_tiers, uint64_t id, bool *ret_fresh)
{
	const struct egroup *from = room_find(r, egroup);
	struct egroup *e;
	uint32_t *head, d;

	check(from != NULL);
	check(id != 0);
	head = map64_get(&r->domain_at, from->domain);
	for (uint8_t t = 0; t < n_tiers; t++) {
		for (uint32_t i = head != NULL ? *head : NONE; i != NONE; i = r->egroups[i].next) {
			e = &r->egroups[i];
			if (!e->moves || device_of(r, e)->tier != tiers[t] ||
				!is_up(r, device_of(r, e)) || !takes(r, e, len))
				continue;
			*ret_fresh = false;
			return e->id;
		}
		if ((d = choose(r, tiers[t], len)) == NONE)
			continue;
		e = room_egroup_new(r, id, from->domain, d, r->devices[d].egroup_bytes,
			room_server(r, r->devices[d].server)->incarnation);
		if (e == NULL)
			return 0;
		e->moves = e->closed = true;
		*ret_fresh = true;
		return id;
	}
	return 0;
}

int room_move(struct room *r, uint64_t from, uint64_t to, uint64_t len)
{
	struct egroup *e = room_find(r, to);
	uint64_t room;

	if (e == NULL || !takes(r, e, len))
		return E_FULL;
	room = room_of(device_of(r, e)->tier, len);
	e->used += len;
	e->used_room += room;
	if (tier_appends(device_of(r, e)->tier)) {
		e->appended += room;
		take_room(r, e, room);
	}
	room_look_held(r, e);
	room_unlink(r, from, len);
	return 0;
}

void room_move_over(struct room *r, uint64_t to)
{
	struct egroup *e = room_find(r, to);

	if (e != NULL)
		room_look_empty(r, e);
}
