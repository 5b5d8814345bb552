/* SPDX-License-Identifier: Apache-2.0 */
/* The members of egroups on flash and disk: where a copy may be, and what it takes there. */
#include "base/check.h"
#include "core/room_own.h"

struct member *room_member_of(const struct room *r, struct egroup *e, uint32_t server)
{
	for (uint32_t i = 0; i < e->n_members; i++)
		if (r->devices[e->members[i].device].server == server)
			return &e->members[i];
	return NULL;
}

struct member *room_member_new(struct room *r, struct egroup *e, uint32_t device, uint8_t state)
{
	struct member *m = &e->members[e->n_members];

	check(e->n_members < ROOM_MEMBERS_MAX);
	check(tier_appends(r->devices[device].tier));
	check(room_member_of(r, e, r->devices[device].server) == NULL);
	*m = (struct member){ .device = device, .state = state };
	e->n_members++;
	r->devices[device].taken += member_room(e, m);
	return m;
}

static const struct server *server_of(const struct room *r, uint32_t device)
{
	return &r->servers[*map64_get(&r->server_at, r->devices[device].server)];
}

/* How little a device has to do with those that are chosen: 2 other racks, 1 other hosts, 0
 * neither. What is not labelled stands in one rack; a label counts for more than a host. */
static int apart(const struct room *r, uint32_t device, const uint32_t *chosen, uint32_t n)
{
	const struct server *s = server_of(r, device);
	int least = 2;

	for (uint32_t i = 0; i < n; i++) {
		const struct server *o = server_of(r, chosen[i]);
		int d = s->rack != o->rack ? 2 : s->host != o->host ? 1 : 0;

		least = d < least ? d : least;
	}
	return least;
}

bool room_better_device(const struct room *r, uint32_t a, uint32_t b, const uint32_t *chosen,
	uint32_t n_chosen, uint32_t near)
{
	const struct device *x = &r->devices[a], *y;
	int d;

	if (b == NONE)
		return true;
	y = &r->devices[b];
	d = apart(r, a, chosen, n_chosen) - apart(r, b, chosen, n_chosen);
	if (d != 0)
		return d > 0;
	if ((x->server == near) != (y->server == near))
		return x->server == near;
	return device_free(x) > device_free(y);
}

static bool is_among(const uint32_t *servers, uint32_t n, uint32_t server)
{
	for (uint32_t i = 0; i < n; i++)
		if (servers[i] == server)
			return true;
	return false;
}

static bool may_take(const struct room *r, struct egroup *e, uint32_t device)
{
	const struct device *d = &r->devices[device];

	return server_of(r, device)->up && d->egroup_bytes >= e->used_room + e->granted &&
	       device_free(d) >= e->used_room + e->granted &&
	       room_member_of(r, e, d->server) == NULL;
}

int room_member_place(const struct room *r, uint64_t egroup, const uint32_t *avoid, uint32_t n,
	uint32_t *ret_server, uint8_t *ret_device)
{
	struct egroup *e = room_find(r, egroup);
	uint32_t chosen[ROOM_MEMBERS_MAX], best = NONE;

	check(e != NULL);
	if (e->n_members == ROOM_MEMBERS_MAX)
		return E_FULL;
	for (uint32_t i = 0; i < e->n_members; i++)
		chosen[i] = e->members[i].device;
	for (int other = 0; other < 2 && best == NONE; other++)
		for (uint32_t i = 0; i < r->n_devices; i++) {
			const struct device *d = &r->devices[i];

			if (tier_appends(d->tier) &&
				(d->tier != device_of(r, e)->tier) == (other == 1) &&
				may_take(r, e, i) && !is_among(avoid, n, d->server) &&
				room_better_device(r, i, best, chosen, e->n_members, 0))
				best = i;
		}
	if (best == NONE)
		return E_FULL;
	*ret_server = r->devices[best].server;
	*ret_device = r->devices[best].number;
	return 0;
}

int room_member_add(struct room *r, uint64_t egroup, uint32_t server, uint8_t device)
{
	struct egroup *e = room_find(r, egroup);
	uint32_t *at = map64_get(&r->device_at, (uint64_t)server << 8 | device);

	check(e != NULL);
	check(at != NULL);
	check(!e->doomed);
	if (e->n_members == ROOM_MEMBERS_MAX ||
		device_free(&r->devices[*at]) < e->used_room + e->granted)
		return E_FULL;
	room_member_new(r, e, *at, ROOM_MEMBER_FILLING)->late = true;
	e->closed = true;
	room_look_held(r, e);
	return 0;
}

void room_member_filled(struct room *r, uint64_t egroup, uint32_t server)
{
	struct egroup *e = room_find(r, egroup);
	struct member *m = e != NULL ? room_member_of(r, e, server) : NULL;

	check(m != NULL);
	check(m->state == ROOM_MEMBER_FILLING);
	m->state = ROOM_MEMBER_IN;
}

static void member_remove(struct egroup *e, struct member *m)
{
	uint32_t at = (uint32_t)(m - e->members);

	check(at < e->n_members);
	e->n_members--;
	for (; at < e->n_members; at++)
		e->members[at] = e->members[at + 1];
}

uint64_t room_member_leave(struct room *r, uint64_t egroup, uint32_t server)
{
	struct egroup *e = room_find(r, egroup);
	struct member *m = e != NULL ? room_member_of(r, e, server) : NULL;
	uint64_t room;

	check(m != NULL);
	check(e->n_members > 1);
	check(!e->doomed);
	room = member_room(e, m);
	r->devices[m->device].left += room;
	e->closed = true;
	member_remove(e, m);
	room_look_held(r, e);
	room_look_empty(r, e);
	return room;
}

void room_left(struct room *r, uint32_t server, uint8_t device, uint64_t room_bytes)
{
	uint32_t *at = map64_get(&r->device_at, (uint64_t)server << 8 | device);
	struct device *d;

	check(at != NULL);
	d = &r->devices[*at];
	check(d->left >= room_bytes);
	check(d->taken >= room_bytes);
	d->left -= room_bytes;
	d->taken -= room_bytes;
}

bool room_member_gone(struct room *r, uint64_t egroup, uint32_t server)
{
	struct egroup *e = room_find(r, egroup);
	struct member *m = e != NULL ? room_member_of(r, e, server) : NULL;

	if (e == NULL)
		return true;
	if (m == NULL)
		return false;
	if (e->n_members == 1) {
		room_egroup_free(r, e);
		return true;
	}
	r->devices[m->device].taken -= member_room(e, m);
	member_remove(e, m);
	room_look_held(r, e);
	room_look_empty(r, e);
	return false;
}

void room_walk_begin(struct room *r, uint32_t walk, uint32_t ended)
{
	check(walk > ended);
	for (uint32_t i = 0; i < r->egroups_top; i++) {
		struct egroup *e = &r->egroups[i];

		for (uint32_t k = 0; e->live && k < e->n_members; k++) {
			struct member *m = &e->members[k];

			if (m->state == ROOM_MEMBER_FILLING && (m->walk == 0 || m->walk > ended))
				m->walk = walk;
		}
	}
}

bool room_refill(struct room *r, uint64_t egroup)
{
	struct egroup *e = room_find(r, egroup);
	bool any = false;

	for (uint32_t i = 0; e != NULL && i < e->n_members; i++) {
		struct member *m = &e->members[i];

		if (!m->late)
			continue;
		any |= m->state == ROOM_MEMBER_IN;
		m->state = ROOM_MEMBER_FILLING;
		m->walk = 0;
	}
	return any;
}

void room_walk_spoil(struct room *r, uint64_t egroup, uint32_t server)
{
	struct egroup *e = room_find(r, egroup);
	struct member *m = e != NULL ? room_member_of(r, e, server) : NULL;

	if (m != NULL)
		m->walk = 0;
}
