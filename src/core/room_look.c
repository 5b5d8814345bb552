/* SPDX-License-Identifier: Apache-2.0 */
/* Sums, the audit, and what a restart feeds back. */
#include "base/check.h"
#include "core/room_own.h"

bool room_egroup(const struct room *r, uint64_t egroup, struct room_egroup_info *ret_info)
{
	const struct egroup *e = room_find(r, egroup);

	if (e == NULL)
		return false;
	*ret_info = (struct room_egroup_info){ .domain = e->domain,
		.bytes = e->bytes,
		.incarnation = e->incarnation,
		.used_bytes = e->used,
		.granted_bytes = e->granted,
		.orphaned_bytes = most_orphaned(e),
		.server = device_of(r, e)->server,
		.tier = device_of(r, e)->tier,
		.device = device_of(r, e)->number,
		.n_members = e->n_members,
		.copies = e->copies,
		.soft = e->soft,
		.lost = e->lost,
		.doomed = e->doomed };
	for (uint32_t i = 0; i < e->n_members; i++) {
		const struct device *d = &r->devices[e->members[i].device];

		ret_info->members[i] = (struct room_member_info){ .server = d->server,
			.walk = e->members[i].walk,
			.device = d->number,
			.tier = d->tier,
			.state = e->members[i].state,
			.late = e->members[i].late };
	}
	return true;
}

bool room_grant_look(const struct room *r, uint64_t extent_first, struct room_grant_info *ret_info)
{
	uint32_t *at = map64_get(&r->grant_at, extent_first);
	const struct grant *g;

	if (at == NULL)
		return false;
	g = &r->grants[*at];
	*ret_info = (struct room_grant_info){ r->egroups[g->egroup].id, g->session, g->credit,
		g->uncommitted, g->copies };
	return true;
}

uint64_t room_grant_of(const struct room *r, uint64_t egroup, uint64_t extent)
{
	const struct egroup *e = room_find(r, egroup);

	for (uint32_t i = e != NULL ? e->grants : NONE; i != NONE; i = r->grants[i].next)
		if (extent >= r->grants[i].extent_first &&
			extent - r->grants[i].extent_first < ROOM_EXTENTS_PER_GRANT)
			return r->grants[i].extent_first;
	return 0;
}

uint64_t room_session_grant(const struct room *r, uint64_t session)
{
	const uint32_t *head = map64_get(&r->session_at, session);

	return head != NULL ? r->grants[*head].extent_first : 0;
}

static bool counts(const struct device *d, uint32_t server, uint8_t tier)
{
	return (server == 0 || d->server == server) && (tier == TIER_COUNT || d->tier == tier);
}

/* What a member takes of its device beyond its files, grants and orphans: slack, headers, rounding.
 */
static uint64_t reserved(const struct egroup *e, const struct member *m, const struct device *d)
{
	uint64_t room = tier_appends(d->tier) ? member_room(e, m) : e->bytes;

	check(room >= e->used + e->granted + m->orphaned);
	return room - e->used - e->granted - m->orphaned;
}

static void sum_member(struct room_sum *s, const struct egroup *e, const struct member *m,
	const struct device *d)
{
	s->used += e->used;
	s->granted += e->granted;
	s->orphaned += m->orphaned;
	s->reserved += reserved(e, m, d);
}

struct room_sum room_sum(const struct room *r, uint32_t server, uint8_t tier, uint64_t domain)
{
	struct room_sum s = { 0 };

	for (uint32_t i = 0; domain == 0 && i < r->n_devices; i++) {
		if (!counts(&r->devices[i], server, tier))
			continue;
		s.capacity += r->devices[i].capacity;
		s.free += device_free(&r->devices[i]);
		s.orphaned += r->devices[i].left;
	}
	for (uint32_t i = 0; i < r->egroups_top; i++) {
		const struct egroup *e = &r->egroups[i];

		if (!e->live || e->lost || (domain != 0 && e->domain != domain))
			continue;
		for (uint32_t k = 0; k < e->n_members; k++)
			if (counts(&r->devices[e->members[k].device], server, tier))
				sum_member(&s, e, &e->members[k],
					&r->devices[e->members[k].device]);
	}
	return s;
}

uint32_t room_servers(const struct room *r, uint8_t tier)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < r->n_devices; i++) {
		const uint32_t *at = map64_get(&r->server_at, r->devices[i].server);
		bool counted = r->devices[i].tier != tier || at == NULL || !r->servers[*at].up;

		for (uint32_t k = 0; k < i && !counted; k++)
			counted = r->devices[k].tier == tier &&
				  r->devices[k].server == r->devices[i].server;
		n += !counted;
	}
	return n;
}

static bool on_server(const struct room *r, const struct egroup *e, uint32_t server)
{
	for (uint32_t i = 0; i < e->n_members; i++)
		if (r->devices[e->members[i].device].server == server)
			return true;
	return server == 0 && tier_appends(device_of(r, e)->tier);
}

uint64_t room_next_egroup(const struct room *r, uint32_t server, uint32_t *at)
{
	while (*at < r->egroups_top) {
		const struct egroup *e = &r->egroups[(*at)++];

		if (e->live && on_server(r, e, server))
			return e->id;
	}
	return 0;
}

uint32_t room_devices(const struct room *r, uint8_t tier, uint64_t *ret_free)
{
	uint32_t n = 0;

	*ret_free = 0;
	for (uint32_t i = 0; i < r->n_devices; i++) {
		const uint32_t *at = map64_get(&r->server_at, r->devices[i].server);

		if (r->devices[i].tier != tier || at == NULL || !r->servers[*at].up)
			continue;
		*ret_free += device_free(&r->devices[i]);
		n++;
	}
	return n;
}

uint64_t room_domain_held(const struct room *r, uint64_t domain, uint8_t tier)
{
	const uint32_t *head = map64_get(&r->domain_at, domain);
	uint64_t held = 0;

	for (uint32_t i = head != NULL ? *head : NONE; i != NONE; i = r->egroups[i].next)
		for (uint8_t t = 0; t < TIER_COUNT; t++)
			held += tier == TIER_COUNT || t == tier ? r->egroups[i].held[t] : 0;
	return held;
}

static void audit_egroup(const struct room *r, const struct egroup *e)
{
	uint64_t granted = 0, held = 0;

	for (uint32_t i = e->grants; i != NONE; i = r->grants[i].next) {
		check(r->grants[i].live);
		check(&r->egroups[r->grants[i].egroup] == e);
		granted += r->grants[i].credit;
	}
	check(granted == e->granted);
	for (uint8_t t = 0; t < TIER_COUNT; t++)
		held += e->held[t];
	check(held == (e->lost ? 0 : (e->used + e->granted) * e->n_members));
	check(e->used <= e->used_room);
	check(e->n_members > 0);
	for (uint32_t i = 0; i < e->n_members && !e->lost; i++) {
		const struct device *d = &r->devices[e->members[i].device];

		check(tier_appends(d->tier) == tier_appends(device_of(r, e)->tier));
		for (uint32_t k = 0; k < i; k++) /* one copy on a server */
			check(r->devices[e->members[k].device].server != d->server);
		if (tier_appends(d->tier))
			check(member_room(e, &e->members[i]) <= e->appended);
		else
			check(member_room(e, &e->members[i]) <= e->bytes && e->n_members == 1);
	}
}

/* What the members of egroups take of a device. */
static uint64_t audit_taken(const struct room *r, uint32_t device)
{
	uint64_t taken = 0;

	for (uint32_t k = 0; k < r->limits.egroups_max; k++) {
		const struct egroup *e = &r->egroups[k];

		for (uint32_t i = 0; e->live && !e->lost && i < e->n_members; i++) {
			const struct member *m = &e->members[i];

			if (m->device == device)
				taken += e->used + e->granted + m->orphaned +
					 reserved(e, m, &r->devices[device]);
		}
	}
	return taken;
}

/* Every grant is in the list of its session; how many. */
static uint32_t audit_sessions(const struct room *r)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < r->limits.grants_max; i++) {
		const struct grant *g = &r->grants[i];

		if (!g->live || g->before != NONE)
			continue;
		check(room_session_grant(r, g->session) == g->extent_first);
		for (uint32_t k = i; k != NONE; k = r->grants[k].after, n++) {
			check(r->grants[k].live);
			check(r->grants[k].session == g->session);
		}
	}
	return n;
}

void room_audit(const struct room *r)
{
	uint32_t n_grants = 0, n_egroups = 0;

	for (uint32_t i = 0; i < r->limits.grants_max; i++)
		n_grants += r->grants[i].live;
	check(n_grants == audit_sessions(r));
	for (uint32_t i = 0; i < r->limits.egroups_max; i++) {
		n_egroups += r->egroups[i].live;
		check(!r->egroups[i].live || i < r->egroups_top);
		if (r->egroups[i].live)
			audit_egroup(r, &r->egroups[i]);
	}
	check(n_grants == r->grant_at.n);
	check(n_egroups == r->egroup_at.n);
	for (uint32_t i = 0; i < r->n_devices; i++) /* (I1) */
		check(audit_taken(r, i) + r->devices[i].left == r->devices[i].taken);
}

/* ---- after a restart ---- */
int room_restore_egroup(struct room *r, uint64_t egroup, uint64_t domain, uint32_t server,
	uint8_t device, uint8_t tier, uint64_t bytes, uint64_t incarnation)
{
	uint32_t i;
	struct egroup *e;

	if (tier >= TIER_COUNT || server == 0 || room_find(r, egroup) != NULL)
		return E_CORRUPT;
	if ((i = room_device_index(r, server, device, tier)) == NONE)
		return E_CORRUPT;
	e = room_egroup_new(r, egroup, domain, i, bytes, incarnation);
	if (e == NULL)
		return E_TOOBIG;
	e->closed = tier_appends(
		tier); /* how far the file has grown is not known here: grow another */
	room_look_empty(r, e);
	return 0;
}

int room_restore_copies(struct room *r, uint64_t egroup, uint8_t copies, bool soft, uint8_t state)
{
	struct egroup *e = room_find(r, egroup);

	if (e == NULL || copies > ROOM_COPIES_MAX ||
		(state & ~ROOM_MEMBER_LATE) > ROOM_MEMBER_FILLING)
		return E_CORRUPT;
	e->copies = copies > 0 ? copies : 1;
	e->soft = soft;
	e->members[0].state = state & ~ROOM_MEMBER_LATE & 0xff;
	e->members[0].late = (state & ROOM_MEMBER_LATE) != 0;
	return 0;
}

int room_restore_member(
	struct room *r, uint64_t egroup, uint32_t server, uint8_t device, uint8_t tier,
	uint8_t state)
{
	struct egroup *e = room_find(r, egroup);
	uint32_t i;

	if (e == NULL || server == 0 || e->n_members == ROOM_MEMBERS_MAX ||
		(state & ~ROOM_MEMBER_LATE) > ROOM_MEMBER_FILLING ||
		room_member_of(r, e, server) != NULL)
		return E_CORRUPT;
	if (tier >= TIER_COUNT || !tier_appends(tier) || !tier_appends(device_of(r, e)->tier) ||
		(i = room_device_index(r, server, device, tier)) == NONE)
		return E_CORRUPT;
	room_member_new(r, e, i, state & ~ROOM_MEMBER_LATE & 0xff)->late =
		(state & ROOM_MEMBER_LATE) != 0;
	return 0;
}

/* Room of an extent that every member has. */
static int restore_room(struct room *r, struct egroup *e, uint64_t room)
{
	if (!tier_appends(device_of(r, e)->tier))
		return member_room(e, &e->members[0]) + room <= e->bytes ? 0 : E_CORRUPT;
	e->appended += room;
	take_room(r, e, room);
	return 0;
}

int room_restore_grant(struct room *r, uint64_t session, uint64_t egroup, uint64_t extent_first,
	uint64_t uncommitted, uint64_t credit_bytes, uint8_t copies)
{
	struct egroup *e = room_find(r, egroup);
	struct grant *g;

	if (e == NULL || map64_get(&r->grant_at, extent_first) != NULL)
		return E_CORRUPT;
	if (!tier_appends(device_of(r, e)->tier) &&
		member_room(e, &e->members[0]) + credit_bytes > e->bytes)
		return E_CORRUPT;
	g = room_grant_new(r, e, session, extent_first, credit_bytes);
	if (g == NULL)
		return E_TOOBIG;
	g->uncommitted = uncommitted;
	g->copies = copies > 0 ? copies : 1;
	room_look_held(r, e);
	return 0;
}

int room_restore_extent(struct room *r, uint64_t egroup, uint64_t len)
{
	struct egroup *e = room_find(r, egroup);
	uint64_t room;

	if (e == NULL)
		return E_CORRUPT;
	room = room_of(device_of(r, e)->tier, len);
	if (restore_room(r, e, room) < 0)
		return E_CORRUPT;
	e->used += len;
	e->used_room += room;
	room_look_held(r, e);
	return 0;
}

int room_restore_drop(struct room *r, uint64_t egroup, uint32_t server, uint64_t room_bytes)
{
	struct egroup *e = room_find(r, egroup);
	struct member *m = e != NULL ? room_member_of(r, e, server) : NULL;

	if (m == NULL)
		return E_CORRUPT;
	if (!tier_appends(device_of(r, e)->tier)) {
		if (member_room(e, m) + room_bytes > e->bytes)
			return E_CORRUPT;
	} else {
		r->devices[m->device].taken += room_bytes;
	}
	m->orphaned += room_bytes;
	if (e->appended < member_room(e, m))
		e->appended = member_room(e, m);
	return 0;
}

int room_restore_left(
	struct room *r, uint32_t server, uint8_t device, uint8_t tier, uint64_t room_bytes)
{
	uint32_t i;

	if (tier >= TIER_COUNT || !tier_appends(tier) || server == 0 ||
		(i = room_device_index(r, server, device, tier)) == NONE)
		return E_CORRUPT;
	r->devices[i].taken += room_bytes;
	r->devices[i].left += room_bytes;
	return 0;
}
