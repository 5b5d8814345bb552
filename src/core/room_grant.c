/* SPDX-License-Identifier: Apache-2.0 */
/* Choosing where a grant is.
 *
 * Tier by tier in the order asked for; within a tier first egroups that the domain has already,
 * then new ones on the device with the most free room (equal weights fill devices evenly), the
 * asker's own host before others. */
#include "base/check.h"
#include "base/limit.h"
#include "core/room_own.h"

enum {
	UNKNOWN_BYTES = 16 << 20, /* granted to a stream that does not know its length */
	AHEAD_PART = 8, /* of what is free and what he keeps: so much is left for many others */
};

struct choosing {
	struct room *r;
	const struct room_ask *ask;
	struct room_part *parts;
	uint64_t need; /* bytes of file still without room */
	uint32_t n;
	uint8_t copies;
	bool avoiding; /* others than ask->avoid will do */
	bool slivers;  /* what is left of nearly full egroups will do, too */
};

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t extent_max(const struct room *r, const struct device *d)
{
	uint64_t max = d->tier == TIER_DRAM ? r->limits.extent_dram_bytes
					    : r->limits.extent_file_bytes;

	return smaller(max, d->egroup_bytes);
}

/* The size that extents are reckoned with: whole blocks. */
static uint64_t likely(const struct choosing *c, const struct device *d)
{
	uint64_t max = extent_max(c->r, d), len = smaller(c->ask->extent_bytes, max);

	return len > 0 ? smaller(room_of(TIER_DRAM, len), max) : max;
}

/* Room of a device that len bytes take when they are written as extents of that size. */
static uint64_t room_for(const struct choosing *c, const struct device *d, uint64_t len)
{
	uint64_t size = likely(c, d), rest = len % size;

	return len / size * room_of(d->tier, size) + (rest > 0 ? room_of(d->tier, rest) : 0);
}

/* What may still be granted in an egroup. */
static uint64_t space(const struct room *r, const struct egroup *e)
{
	uint64_t left = e->bytes > e->appended ? e->bytes - e->appended : 0;

	if (!tier_appends(device_of(r, e)->tier))
		return e->bytes - member_room(e, &e->members[0]);
	for (uint32_t i = 0; i < e->n_members; i++)
		left = smaller(left, device_free(&r->devices[e->members[i].device]));
	return left;
}

static bool device_up(const struct room *r, const struct device *d)
{
	return r->servers[*map64_get(&r->server_at, d->server)].up;
}


/* Bytes of file that fit into `room` of a device, at most want and at most what the ids of one
 * grant are likely to be used for: credit beyond that would only be given back. */
static uint64_t fits(const struct choosing *c, const struct device *d, uint64_t room, uint64_t want)
{
	uint64_t size = likely(c, d), whole = room / room_of(d->tier, size),
		 rest = room % room_of(d->tier, size);
	uint64_t len = whole * size + room_fits(d->tier, rest);

	return smaller(smaller(len, want), size * ROOM_EXTENTS_PER_GRANT);
}

static bool take(struct choosing *c, struct egroup *e, bool fresh)
{
	struct device *d = device_of(c->r, e);
	uint64_t least = smaller(extent_max(c->r, d), likely(c, d) * ROOM_EXTENTS_PER_GRANT);
	uint64_t len = fits(c, d, space(c->r, e), c->need), credit = room_for(c, d, len);
	uint64_t first = c->ask->ids + (uint64_t)c->n * ROOM_IDS_PER_PART + 1;

	check(c->n < ROOM_PARTS_MAX);
	/* a sliver of a full egroup would only split files into crumbs */
	if (len == 0 || (len < c->need && len < least && !fresh && !c->slivers))
		return false;
	if (room_grant_new(c->r, e, c->ask->session, first, credit) == NULL)
		return false;
	c->parts[c->n++] = (struct room_part){ .egroup = e->id,
		.credit_bytes = credit,
		.extent_first = first,
		.extent_bytes_max = extent_max(c->r, d),
		.egroup_bytes = e->bytes,
		.incarnation = e->incarnation,
		.extent_count = ROOM_EXTENTS_PER_GRANT,
		.server = d->server,
		.tier = d->tier,
		.device = d->number,
		.n_others = (uint8_t)(e->n_members - 1),
		.fresh = fresh };
	for (uint32_t i = 1; i < e->n_members; i++) {
		const struct device *o = &c->r->devices[e->members[i].device];

		c->parts[c->n - 1].others[i - 1] =
			(struct room_part_other){ o->server, o->number };
	}
	c->need -= len;
	return true;
}

static bool wanted(const struct choosing *c)
{
	return c->need > 0 && c->n < ROOM_PARTS_MAX;
}

/* As many grants of it as are wanted. */
static void take_more(struct choosing *c, struct egroup *e)
{
	while (wanted(c) && take(c, e, false))
		continue;
}

/* True when a new egroup fits on a: in memory it is taken whole. */
static bool has_room(const struct device *d)
{
	return device_free(d) >= (tier_appends(d->tier) ? 2 * ROOM_HEADER_BYTES : d->egroup_bytes);
}

static bool is_chosen(const struct room *r, const uint32_t *chosen, uint32_t n, uint32_t server)
{
	for (uint32_t i = 0; i < n; i++)
		if (r->devices[chosen[i]].server == server)
			return true;
	return false;
}

static bool is_avoided(const struct choosing *c, uint32_t server)
{
	for (uint32_t i = 0; c->avoiding && i < c->ask->n_avoid; i++)
		if (c->ask->avoid[i] == server)
			return true;
	return false;
}

/* As many devices on different servers as there are to be copies, or as there are. */
static uint32_t choose_some(
	const struct choosing *c, uint8_t tier, uint32_t ret_chosen[ROOM_COPIES_MAX])
{
	uint32_t n = 0, best = 0;

	while (n < c->copies && best != NONE) {
		best = NONE;
		for (uint32_t i = 0; i < c->r->n_devices; i++) {
			const struct device *d = &c->r->devices[i];

			if (d->tier == tier && d->egroup_bytes > 0 && has_room(d) &&
				device_up(c->r, d) && !is_avoided(c, d->server) &&
				!is_chosen(c->r, ret_chosen, n, d->server) &&
				room_better_device(c->r, i, best, ret_chosen, n, c->ask->near))
				best = i;
		}
		if (best != NONE)
			ret_chosen[n++] = best;
	}
	return n == c->copies || c->ask->soft ? n : 0;
}

static uint32_t choose_devices(
	struct choosing *c, uint8_t tier, uint32_t ret_chosen[ROOM_COPIES_MAX])
{
	uint32_t n;

	c->avoiding = true;
	if ((n = choose_some(c, tier, ret_chosen)) > 0 || c->ask->n_avoid == 0)
		return n;
	c->avoiding = false;
	return choose_some(c, tier, ret_chosen);
}

static bool members_do(const struct choosing *c, const struct egroup *e)
{
	for (uint32_t i = 0; i < e->n_members; i++) {
		const struct device *d = &c->r->devices[e->members[i].device];

		if (!device_up(c->r, d) || is_avoided(c, d->server))
			return false;
	}
	return true;
}

/* Made for as many copies, and has as many as can be had now. */
static bool suits(const struct choosing *c, const struct egroup *e, uint32_t able)
{
	return e->copies == c->copies && (e->copies == 1 || e->soft == c->ask->soft) &&
	       e->n_members >= able && members_do(c, e);
}

static void take_from_own(struct choosing *c, uint8_t tier)
{
	uint32_t *head = map64_get(&c->r->domain_at, c->ask->domain);
	uint32_t chosen[ROOM_COPIES_MAX], able = choose_devices(c, tier, chosen);

	for (uint32_t i = head != NULL ? *head : NONE; wanted(c) && i != NONE;
		i = c->r->egroups[i].next) {
		struct egroup *e = &c->r->egroups[i];
		struct device *d = device_of(c->r, e);

		if (!e->closed && d->tier == tier && suits(c, e, able))
			take_more(c, e);
	}
}

/* With a member on each of the devices, and no more in any than the smallest of them takes. */
static struct egroup *make_egroup(struct choosing *c, const uint32_t *chosen, uint32_t n)
{
	const struct device *first = &c->r->devices[chosen[0]];
	uint64_t bytes = first->egroup_bytes;
	struct egroup *e;

	for (uint32_t i = 1; i < n; i++)
		bytes = smaller(bytes, c->r->devices[chosen[i]].egroup_bytes);
	e = room_egroup_new(c->r, c->ask->ids + (uint64_t)c->n * ROOM_IDS_PER_PART, c->ask->domain,
		chosen[0], bytes, room_server(c->r, first->server)->incarnation);
	if (e == NULL)
		return NULL;
	for (uint32_t i = 1; i < n; i++)
		room_member_new(c->r, e, chosen[i], ROOM_MEMBER_IN);
	e->copies = c->copies;
	e->soft = c->ask->soft;
	return e;
}

static void take_fresh(struct choosing *c, uint8_t tier)
{
	while (wanted(c)) {
		uint32_t chosen[ROOM_COPIES_MAX], n = choose_devices(c, tier, chosen);
		struct egroup *e = n > 0 ? make_egroup(c, chosen, n) : NULL;

		if (e == NULL)
			return;
		if (!take(c, e, true)) {
			room_egroup_free(c->r, e);
			return;
		}
		take_more(c, e);
	}
}

static void give_back(struct choosing *c)
{
	while (c->n > 0) {
		const struct room_part *p = &c->parts[--c->n];
		struct egroup *e = room_find(c->r, p->egroup);

		e->granted -= p->credit_bytes;
		if (tier_appends(p->tier)) {
			e->appended -= p->credit_bytes;
			give_room(c->r, e, p->credit_bytes);
		}
		room_grant_free(c->r, &c->r->grants[*map64_get(&c->r->grant_at, p->extent_first)]);
		if (p->fresh)
			room_egroup_free(c->r, e);
	}
}

/* Bytes that a tier could still take from the asker, roughly, and at most. */
static uint64_t free_in(const struct choosing *c, uint8_t tier)
{
	uint32_t *head = map64_get(&c->r->domain_at, c->ask->domain);
	uint64_t sum = 0;

	for (uint32_t i = 0; i < c->r->n_devices; i++) {
		const struct device *d = &c->r->devices[i];

		if (d->tier == tier && d->egroup_bytes > 0 && device_up(c->r, d))
			sum += device_free(d);
	}
	if (!c->ask->soft)
		sum /= c->copies;
	for (uint32_t i = head != NULL ? *head : NONE; i != NONE; i = c->r->egroups[i].next) {
		const struct egroup *e = &c->r->egroups[i];

		if (!e->closed && device_of(c->r, e)->tier == tier && !tier_appends(tier))
			sum += space(c->r, e);
	}
	return sum;
}

/* All tiers of the ask: for refusing at once what cannot fit. */
static uint64_t free_for(const struct choosing *c)
{
	uint64_t sum = 0;

	for (uint32_t t = 0; t < c->ask->n_tiers; t++)
		sum += free_in(c, c->ask->tiers[t]);
	return sum;
}

/* Granted to the session and not used. */
static uint64_t kept(const struct choosing *c)
{
	const uint32_t *head = map64_get(&c->r->session_at, c->ask->session);
	uint64_t sum = 0;

	for (uint32_t i = head != NULL ? *head : NONE; i != NONE; i = c->r->grants[i].after)
		sum += c->r->grants[i].credit;
	return sum;
}

/* Of the first tier that has any. */
static uint64_t part_of_free(const struct choosing *c)
{
	uint64_t left = 0, mine = kept(c);

	for (uint32_t t = 0; t < c->ask->n_tiers && left == 0; t++)
		left = free_in(c, c->ask->tiers[t]);
	if (c->ask->soft)
		left /= c->copies;
	left = (left + mine) / AHEAD_PART;
	return left > mine ? (left - mine) / LIMIT_BLOCK_BYTES * LIMIT_BLOCK_BYTES : 0;
}

/* Whether some tier has servers for all copies. */
static bool enough_servers(const struct choosing *c)
{
	if (c->copies == 1 || c->ask->soft)
		return true;
	for (uint32_t t = 0; t < c->ask->n_tiers; t++)
		if (room_servers(c->r, c->ask->tiers[t]) >= c->copies)
			return true;
	return false;
}

int room_grant(
	struct room *r, const struct room_ask *ask, struct room_part ret_parts[ROOM_PARTS_MAX])
{
	struct choosing c = { .r = r,
		.ask = ask,
		.parts = ret_parts,
		.copies = ask->copies > 0 ? ask->copies : 1,
		.need = ask->bytes > 0 ? ask->bytes : UNKNOWN_BYTES };

	check(ask->n_tiers <= TIER_COUNT);
	check(ask->ids != 0);
	check(c.copies <= ROOM_COPIES_MAX);
	for (uint32_t t = 0; t < ask->n_tiers; t++)
		check(c.copies == 1 || tier_appends(ask->tiers[t]));
	if (!enough_servers(&c))
		return E_UNAVAILABLE;
	if (ask->ahead && (c.need = smaller(c.need, part_of_free(&c))) == 0)
		return E_FULL;
	if (!ask->ahead && ask->bytes > free_for(&c))
		return E_FULL;
	for (uint32_t t = 0; wanted(&c) && t < ask->n_tiers; t++) {
		take_from_own(&c, ask->tiers[t]);
		take_fresh(&c, ask->tiers[t]);
	}
	c.slivers = !ask->ahead; /* better than none */
	for (uint32_t t = 0; c.slivers && wanted(&c) && t < ask->n_tiers; t++)
		take_from_own(&c, ask->tiers[t]);
	if (c.n == 0 || (ask->bytes > 0 && c.need > 0 && c.n < ROOM_PARTS_MAX)) {
		give_back(&c);
		return E_FULL;
	}
	for (uint32_t i = 0; i < c.n; i++)
		room_look_held(r, room_find(r, c.parts[i].egroup));
	return (int)c.n;
}
