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
	AHEAD_PART = 8, /* of what is free: whoever keeps it leaves as much for many others */
};

struct choosing {
	struct room *r;
	const struct room_ask *ask;
	struct room_part *parts;
	uint64_t need; /* bytes of file still without room */
	uint32_t n;
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
	const struct device *d = device_of(r, e);

	if (tier_appends(d->tier))
		return smaller(e->bytes > e->appended ? e->bytes - e->appended : 0, device_free(d));
	return e->bytes - e->used_room - e->granted - e->orphaned;
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
	if (len == 0 || (len < c->need && len < least && !fresh))
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
		.fresh = fresh };
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

static void take_from_own(struct choosing *c, uint8_t tier)
{
	uint32_t *head = map64_get(&c->r->domain_at, c->ask->domain);

	for (uint32_t i = head != NULL ? *head : NONE; wanted(c) && i != NONE;
		i = c->r->egroups[i].next) {
		struct egroup *e = &c->r->egroups[i];
		struct device *d = device_of(c->r, e);

		if (!e->closed && d->tier == tier && device_up(c->r, d))
			take_more(c, e);
	}
}

/* True when a new egroup fits on a: in memory it is taken whole. */
static bool has_room(const struct device *d)
{
	return device_free(d) >= (tier_appends(d->tier) ? 2 * ROOM_HEADER_BYTES : d->egroup_bytes);
}

static uint32_t best_device(const struct choosing *c, uint8_t tier)
{
	uint32_t best = NONE;

	for (uint32_t i = 0; i < c->r->n_devices; i++) {
		const struct device *d = &c->r->devices[i],
				    *b = best != NONE ? &c->r->devices[best] : NULL;

		if (d->tier != tier || d->egroup_bytes == 0 || !has_room(d) || !device_up(c->r, d))
			continue;
		if (b == NULL || (d->server == c->ask->near) > (b->server == c->ask->near) ||
			((d->server == c->ask->near) == (b->server == c->ask->near) &&
				device_free(d) > device_free(b)))
			best = i;
	}
	return best;
}

static void take_fresh(struct choosing *c, uint8_t tier)
{
	while (wanted(c)) {
		uint32_t i = best_device(c, tier);
		struct egroup *e;

		if (i == NONE)
			return;
		e = room_egroup_new(c->r, c->ask->ids + (uint64_t)c->n * ROOM_IDS_PER_PART,
			c->ask->domain, i, c->r->devices[i].egroup_bytes,
			room_server(c->r, c->r->devices[i].server)->incarnation);
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
		struct device *d = device_of(c->r, e);

		e->granted -= p->credit_bytes;
		if (tier_appends(d->tier)) {
			e->appended -= p->credit_bytes;
			d->taken -= p->credit_bytes;
		}
		room_grant_free(c->r, &c->r->grants[*map64_get(&c->r->grant_at, p->extent_first)]);
		if (p->fresh)
			room_egroup_free(c->r, e);
	}
}

/* Bytes that a tier could still take from the asker, roughly. */
static uint64_t free_in(const struct choosing *c, uint8_t tier)
{
	uint32_t *head = map64_get(&c->r->domain_at, c->ask->domain);
	uint64_t sum = 0;

	for (uint32_t i = 0; i < c->r->n_devices; i++) {
		const struct device *d = &c->r->devices[i];

		if (d->tier == tier && d->egroup_bytes > 0 && device_up(c->r, d))
			sum += device_free(d);
	}
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

/* Of the first tier that has any. */
static uint64_t part_of_free(const struct choosing *c)
{
	uint64_t left = 0;

	for (uint32_t t = 0; t < c->ask->n_tiers && left == 0; t++)
		left = free_in(c, c->ask->tiers[t]);
	return left / AHEAD_PART / LIMIT_BLOCK_BYTES * LIMIT_BLOCK_BYTES;
}

int room_grant(
	struct room *r, const struct room_ask *ask, struct room_part ret_parts[ROOM_PARTS_MAX])
{
	struct choosing c = { .r = r,
		.ask = ask,
		.parts = ret_parts,
		.need = ask->bytes > 0 ? ask->bytes : UNKNOWN_BYTES };

	check(ask->n_tiers <= TIER_COUNT);
	check(ask->ids != 0);
	if (ask->ahead)
		c.need = smaller(c.need, part_of_free(&c));
	else if (ask->bytes > free_for(&c))
		return E_FULL;
	for (uint32_t t = 0; wanted(&c) && t < ask->n_tiers; t++) {
		take_from_own(&c, ask->tiers[t]);
		take_fresh(&c, ask->tiers[t]);
	}
	if (c.n == 0 || (ask->bytes > 0 && c.need > 0 && c.n < ROOM_PARTS_MAX)) {
		give_back(&c);
		return E_FULL;
	}
	for (uint32_t i = 0; i < c.n; i++)
		room_look_held(r, room_find(r, c.parts[i].egroup));
	return (int)c.n;
}
