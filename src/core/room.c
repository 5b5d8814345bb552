/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of struct room, and what changes one egroup. */
#include "core/room.h"
#include "base/check.h"
#include "base/limit.h"
#include "core/room_own.h"
#include <stdlib.h>

const struct room_limits room_limits_default = {
	.egroups_max = 1 << 16,
	.grants_max = 1 << 16,
	.devices_max = LIMIT_SERVERS_MAX * 4,
	.extent_dram_bytes = LIMIT_EXTENT_DRAM_BYTES_MAX,
	.extent_file_bytes = LIMIT_EXTENT_FILE_BYTES_MAX,
};

/* ---- tables ---- */
static void *table(size_t n, size_t size)
{
	void *p = calloc(n, size);

	check(p != NULL);
	return p;
}

struct room *room_new(const struct room_limits *l)
{
	struct room *r = table(1, sizeof *r);

	r->limits = l != NULL ? *l : room_limits_default;
	r->empties = NONE;
	r->servers = table(r->limits.devices_max, sizeof *r->servers);
	r->devices = table(r->limits.devices_max, sizeof *r->devices);
	r->egroups = table(r->limits.egroups_max, sizeof *r->egroups);
	r->grants = table(r->limits.grants_max, sizeof *r->grants);
	for (uint32_t i = 0; i < r->limits.egroups_max; i++)
		r->egroups[i].next = i + 1 < r->limits.egroups_max ? i + 1 : NONE;
	for (uint32_t i = 0; i < r->limits.grants_max; i++)
		r->grants[i].next = i + 1 < r->limits.grants_max ? i + 1 : NONE;
	return r;
}

void room_free(struct room *r)
{
	if (r == NULL)
		return;
	map64_fini(&r->server_at);
	map64_fini(&r->device_at);
	map64_fini(&r->egroup_at);
	map64_fini(&r->grant_at);
	map64_fini(&r->domain_at);
	map64_fini(&r->session_at);
	free(r->servers);
	free(r->devices);
	free(r->egroups);
	free(r->grants);
	free(r);
}

struct server *room_server(struct room *r, uint32_t server)
{
	uint32_t *at = map64_get(&r->server_at, server);

	if (at != NULL)
		return &r->servers[*at];
	check(r->n_servers < r->limits.devices_max); /* a server is made with its first device */
	map64_put(&r->server_at, server, r->n_servers);
	return &r->servers[r->n_servers++];
}

uint32_t room_device_index(struct room *r, uint32_t server, uint8_t device, uint8_t tier)
{
	uint64_t key = (uint64_t)server << 8 | device;
	uint32_t *at = map64_get(&r->device_at, key);

	if (at != NULL)
		return r->devices[*at].tier == tier ? *at : NONE;
	if (r->n_devices == r->limits.devices_max)
		return NONE;
	room_server(r, server);
	r->devices[r->n_devices] = (struct device){
		.server = server, .number = device, .tier = tier
	};
	map64_put(&r->device_at, key, r->n_devices);
	return r->n_devices++;
}

struct egroup *room_find(const struct room *r, uint64_t egroup)
{
	uint32_t *at = map64_get(&r->egroup_at, egroup);

	return at != NULL ? &r->egroups[*at] : NULL;
}

struct egroup *room_egroup_new(struct room *r, uint64_t id, uint64_t domain, uint32_t device,
	uint64_t bytes, uint64_t incarnation)
{
	uint32_t i = r->egroups_free, *head = map64_get(&r->domain_at, domain);

	check(room_find(r, id) == NULL);
	if (i == NONE)
		return NULL;
	r->egroups_free = r->egroups[i].next;
	r->egroups_top = i >= r->egroups_top ? i + 1 : r->egroups_top;
	r->egroups[i] = (struct egroup){ .id = id,
		.domain = domain,
		.bytes = bytes,
		.members = { { .device = device, .state = ROOM_MEMBER_IN } },
		.n_members = 1,
		.copies = 1,
		.incarnation = incarnation,
		.grants = NONE,
		.next = head != NULL ? *head : NONE,
		.live = true,
		.listed = r->egroups[i].listed,
		.next_empty = r->egroups[i].next_empty };
	map64_put(&r->domain_at, domain, i);
	map64_put(&r->egroup_at, id, i);
	if (!tier_appends(r->devices[device].tier))
		r->devices[device].taken += bytes;
	return &r->egroups[i];
}

static void leave_domain(struct room *r, struct egroup *e)
{
	uint32_t *at = map64_get(&r->domain_at, e->domain), self = (uint32_t)(e - r->egroups);

	check(at != NULL);
	if (*at == self && e->next == NONE) {
		map64_delete(&r->domain_at, e->domain);
		return;
	}
	while (*at != self)
		at = &r->egroups[*at].next;
	*at = e->next;
}

/* What a member takes of its device. */
static uint64_t member_takes(const struct room *r, const struct egroup *e, const struct member *m)
{
	if (e->lost)
		return 0;
	return tier_appends(r->devices[m->device].tier) ? member_room(e, m) : e->bytes;
}

void room_egroup_free(struct room *r, struct egroup *e)
{
	check(e->live);
	for (uint32_t i = 0; i < e->n_members; i++) {
		struct device *d = &r->devices[e->members[i].device];
		uint64_t room = member_takes(r, e, &e->members[i]);

		check(d->taken >= room);
		d->taken -= room;
	}
	e->used = e->granted = 0;
	room_look_held(r, e);
	while (e->grants != NONE)
		room_grant_free(r, &r->grants[e->grants]);
	leave_domain(r, e);
	map64_delete(&r->egroup_at, e->id);
	/* it may still stand in the list of empties, which then passes over it */
	*e = (struct egroup){
		.next = r->egroups_free, .listed = e->listed, .next_empty = e->next_empty
	};
	r->egroups_free = (uint32_t)(e - r->egroups);
}

/* ---- grants ---- */
static void join_session(struct room *r, uint32_t i)
{
	struct grant *g = &r->grants[i];
	uint32_t *head = map64_get(&r->session_at, g->session);

	g->before = NONE;
	g->after = head != NULL ? *head : NONE;
	if (g->after != NONE)
		r->grants[g->after].before = i;
	map64_put(&r->session_at, g->session, i);
}

static void leave_session(struct room *r, const struct grant *g)
{
	if (g->after != NONE)
		r->grants[g->after].before = g->before;
	if (g->before != NONE)
		r->grants[g->before].after = g->after;
	else if (g->after != NONE)
		map64_put(&r->session_at, g->session, g->after);
	else
		map64_delete(&r->session_at, g->session);
}

struct grant *room_grant_new(
	struct room *r, struct egroup *e, uint64_t session, uint64_t extent_first, uint64_t credit)
{
	uint32_t i = r->grants_free;

	if (i == NONE)
		return NULL;
	check(map64_get(&r->grant_at, extent_first) == NULL); /* (I4) */
	r->grants_free = r->grants[i].next;
	r->grants[i] = (struct grant){ .extent_first = extent_first,
		.session = session,
		.credit = credit,
		.uncommitted = UINT64_MAX,
		.copies = e->n_members,
		.egroup = (uint32_t)(e - r->egroups),
		.next = e->grants,
		.live = true };
	map64_put(&r->grant_at, extent_first, i);
	join_session(r, i);
	e->grants = i;
	e->granted += credit;
	if (tier_appends(device_of(r, e)->tier)) {
		e->appended += credit;
		take_room(r, e, credit);
	}
	return &r->grants[i];
}

void room_grant_free(struct room *r, struct grant *g)
{
	uint32_t *at = &r->egroups[g->egroup].grants, self = (uint32_t)(g - r->grants);

	check(g->live);
	while (*at != self)
		at = &r->grants[*at].next;
	*at = g->next;
	map64_delete(&r->grant_at, g->extent_first);
	leave_session(r, g);
	*g = (struct grant){ .next = r->grants_free };
	r->grants_free = self;
}

/* ---- what domains hold ---- */
void room_watch(struct room *r,
	void (*fn)(void *arg, uint64_t domain, uint8_t tier, int64_t change), void *arg)
{
	r->watch = fn;
	r->watch_arg = arg;
}

void room_look_held(struct room *r, struct egroup *e)
{
	uint64_t held[TIER_COUNT] = { 0 };

	for (uint8_t i = 0; i < e->n_members && !e->lost; i++)
		held[r->devices[e->members[i].device].tier] += e->used + e->granted;
	for (uint8_t t = 0; t < TIER_COUNT; t++) {
		int64_t change = (int64_t)(held[t] - e->held[t]);

		e->held[t] = held[t];
		if (change != 0 && r->watch != NULL)
			r->watch(r->watch_arg, e->domain, t, change);
	}
}

/* ---- empty egroups ---- */
static bool is_empty(const struct egroup *e)
{
	return e->live && !e->told && e->grants == NONE &&
	       e->used_room + e->granted + most_orphaned(e) == 0;
}

void room_look_empty(struct room *r, struct egroup *e)
{
	if (!is_empty(e) || e->listed)
		return;
	e->listed = true;
	e->next_empty = r->empties;
	r->empties = (uint32_t)(e - r->egroups);
}

uint64_t room_empty_egroup(struct room *r)
{
	while (r->empties != NONE) {
		struct egroup *e = &r->egroups[r->empties];

		r->empties = e->next_empty;
		e->listed = false;
		if (!is_empty(e))
			continue;
		e->closed = e->told = true;
		return e->id;
	}
	return 0;
}

/* ---- devices ---- */
int room_device(struct room *r, uint32_t server, uint8_t device, uint8_t tier,
	uint64_t capacity_bytes, uint64_t egroup_bytes)
{
	uint64_t key = (uint64_t)server << 8 | device;
	uint32_t i;

	if (tier >= TIER_COUNT || server == 0)
		return E_INVALID;
	if (map64_get(&r->device_at, key) == NULL && r->n_devices == r->limits.devices_max)
		return E_TOOBIG;
	if ((i = room_device_index(r, server, device, tier)) == NONE)
		return E_INVALID;
	r->devices[i].capacity = capacity_bytes;
	r->devices[i].egroup_bytes = egroup_bytes;
	return 0;
}

void room_server_place(struct room *r, uint32_t server, uint64_t host, uint64_t rack)
{
	if (map64_get(&r->server_at, server) == NULL)
		return;
	room_server(r, server)->host = host;
	room_server(r, server)->rack = rack;
}

void room_server_up(struct room *r, uint32_t server, bool up)
{
	if (map64_get(&r->server_at, server) != NULL)
		room_server(r, server)->up = up;
}

/* What is left of a lost egroup is the account of files that still name it. */
static void lose(struct room *r, struct egroup *e, void (*each)(void *arg, uint64_t extent_first),
	void *arg)
{
	while (e->grants != NONE) {
		struct grant *g = &r->grants[e->grants];

		if (each != NULL)
			each(arg, g->extent_first);
		room_grant_free(r, g);
	}
	device_of(r, e)->taken -=
		tier_appends(device_of(r, e)->tier) ? member_room(e, &e->members[0]) : e->bytes;
	e->granted = e->members[0].orphaned = 0;
	e->lost = e->closed = true;
	room_look_held(r, e);
	room_look_empty(r, e);
}

void room_server_reborn(struct room *r, uint32_t server, uint64_t incarnation,
	void (*each)(void *arg, uint64_t extent_first), void *arg)
{
	room_server(r, server)->incarnation = incarnation;
	for (uint32_t i = 0; i < r->egroups_top; i++) {
		struct egroup *e = &r->egroups[i];
		struct device *d = device_of(r, e);

		if (e->live && d->server == server && d->tier == TIER_DRAM && !e->lost &&
			e->incarnation != incarnation)
			lose(r, e, each, arg);
	}
}

void room_server_gone(struct room *r, uint32_t server,
	void (*each)(void *arg, uint64_t extent_first), void *arg)
{
	for (uint32_t i = 0; i < r->egroups_top; i++) {
		struct egroup *e = &r->egroups[i];
		struct member *m = e->live && !e->lost ? room_member_of(r, e, server) : NULL;

		if (m != NULL && e->n_members > 1)
			(void)room_member_gone(r, e->id, server);
		else if (m != NULL)
			lose(r, e, each, arg);
	}
	for (uint32_t i = 0; i < r->n_devices; i++)
		if (r->devices[i].server == server) {
			r->devices[i].taken -= r->devices[i].left;
			check(r->devices[i].taken == 0);
			r->devices[i].capacity = r->devices[i].left = 0;
		}
	room_server_up(r, server, false);
}

/* ---- an extent's life ---- */
uint64_t room_of(uint8_t tier, uint64_t len)
{
	uint64_t blocks = (len + LIMIT_BLOCK_BYTES - 1) / LIMIT_BLOCK_BYTES * LIMIT_BLOCK_BYTES;

	return blocks + room_header(tier, len);
}

uint64_t room_header(uint8_t tier, uint64_t len)
{
	uint64_t blocks = (len + LIMIT_BLOCK_BYTES - 1) / LIMIT_BLOCK_BYTES;
	uint64_t bytes = ROOM_HEADER_FIELDS_BYTES + blocks * sizeof(uint32_t);

	if (!tier_appends(tier))
		return 0;
	return (bytes + ROOM_HEADER_BYTES - 1) / ROOM_HEADER_BYTES * ROOM_HEADER_BYTES;
}

uint64_t room_fits(uint8_t tier, uint64_t room)
{
	uint64_t len = room / LIMIT_BLOCK_BYTES * LIMIT_BLOCK_BYTES;

	if (len <= room_header(tier, 0))
		return tier_appends(tier) ? 0 : len;
	len -= room_header(tier, len);
	while (room_of(tier, len + LIMIT_BLOCK_BYTES) <= room)
		len += LIMIT_BLOCK_BYTES;
	return len;
}

static struct grant *covering(
	const struct room *r, const struct egroup *e, uint64_t session, uint64_t extent)
{
	for (uint32_t i = e->grants; i != NONE; i = r->grants[i].next) {
		struct grant *g = &r->grants[i];

		if (extent >= g->extent_first && extent - g->extent_first < ROOM_EXTENTS_PER_GRANT)
			return g->session == session ? g : NULL;
	}
	return NULL;
}

int room_commit(struct room *r, uint64_t session, uint64_t egroup, uint64_t extent, uint64_t len,
	uint32_t copies)
{
	struct egroup *e = room_find(r, egroup);
	struct grant *g = e != NULL ? covering(r, e, session, extent) : NULL;
	uint64_t room, bit;

	if (g == NULL)
		return E_DENIED;
	bit = UINT64_C(1) << (extent - g->extent_first);
	if (!(g->uncommitted & bit))
		return E_DENIED;
	if (copies < g->copies)
		return E_INVALID;
	if (len > g->credit || (room = room_of(device_of(r, e)->tier, len)) > g->credit)
		return E_TOOBIG;
	check(e->granted >= room);
	for (uint32_t i = 0; i < e->n_members; i++)
		e->members[i].walk = 0;
	g->uncommitted &= ~bit;
	g->credit -= room;
	e->granted -= room;
	e->used += len;
	e->used_room += room;
	room_look_held(r, e);
	return 0;
}

void room_uncommit(struct room *r, uint64_t session, uint64_t egroup, uint64_t extent, uint64_t len)
{
	struct egroup *e = room_find(r, egroup);
	struct grant *g = covering(r, e, session, extent);
	uint64_t room = room_of(device_of(r, e)->tier, len), bit = UINT64_C(1)
								   << (extent - g->extent_first);

	check(!(g->uncommitted & bit));
	check(e->used_room >= room);
	g->uncommitted |= bit;
	g->credit += room;
	e->granted += room;
	e->used -= len;
	e->used_room -= room;
	room_look_held(r, e);
}

bool room_grant_end(struct room *r, uint64_t extent_first, struct room_rest *ret_rest)
{
	uint32_t *at = map64_get(&r->grant_at, extent_first);
	struct grant *g;
	struct egroup *e;

	if (at == NULL)
		return false;
	g = &r->grants[*at];
	e = &r->egroups[g->egroup];
	*ret_rest = (struct room_rest){ e->id, g->extent_first, g->credit, g->uncommitted };
	check(e->granted >= g->credit);
	e->granted -= g->credit;
	for (uint32_t i = 0; i < e->n_members; i++)
		e->members[i].orphaned += g->credit;
	room_grant_free(r, g);
	room_look_held(r, e);
	room_look_empty(r, e);
	return true;
}

void room_unlink(struct room *r, uint64_t egroup, uint64_t len)
{
	struct egroup *e = room_find(r, egroup);
	uint64_t room;

	check(e != NULL);
	room = room_of(device_of(r, e)->tier, len);
	check(e->used >= len);
	check(e->used_room >= room);
	e->used -= len;
	e->used_room -= room;
	for (uint32_t i = 0; i < e->n_members && !e->lost; i++)
		e->members[i].orphaned += room;
	room_look_held(r, e);
	room_look_empty(r, e);
}

void room_dropped(struct room *r, uint64_t egroup, uint32_t server, uint64_t room_bytes)
{
	struct egroup *e = room_find(r, egroup);
	struct member *m = e != NULL && !e->lost ? room_member_of(r, e, server) : NULL;

	if (m == NULL) /* the whole of it was given back meanwhile */
		return;
	check(m->orphaned >= room_bytes);
	m->orphaned -= room_bytes;
	if (tier_appends(r->devices[m->device].tier)) {
		check(r->devices[m->device].taken >= room_bytes);
		r->devices[m->device].taken -= room_bytes;
	}
	room_look_empty(r, e);
}

void room_egroup_gone(struct room *r, uint64_t egroup)
{
	struct egroup *e = room_find(r, egroup);

	if (e != NULL)
		room_egroup_free(r, e);
}

void room_egroup_doom(struct room *r, uint64_t egroup)
{
	struct egroup *e = room_find(r, egroup);

	check(e != NULL);
	e->closed = e->told = e->doomed = true;
}

uint64_t room_egroup_grant(const struct room *r, uint64_t egroup, uint32_t n)
{
	const struct egroup *e = room_find(r, egroup);
	uint32_t i = e != NULL ? e->grants : NONE;

	for (; i != NONE && n > 0; n--)
		i = r->grants[i].next;
	return i != NONE ? r->grants[i].extent_first : 0;
}

void room_domain_each(
	struct room *r, uint64_t domain, void (*each)(void *arg, uint64_t egroup), void *arg)
{
	uint32_t *head = map64_get(&r->domain_at, domain);

	for (uint32_t i = head != NULL ? *head : NONE, next; i != NONE; i = next) {
		next = r->egroups[i].next;
		each(arg, r->egroups[i].id);
	}
}
