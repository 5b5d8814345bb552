/* SPDX-License-Identifier: Apache-2.0 */
/* Sizing.
 *
 * (H1) A figure that was said or learned is never replaced by one that is derived.
 * (H2) With HINTS_WADI a derived figure is at most the share of what is free: it starts no server
 *      and makes nobody wait.
 * (H3) No figure is above the quota, or above what the cluster may ever have. */
#include "core/hints.h"
#include "base/check.h"

/* What one worker on a function service moves at most: 0.6 Gb/s; and the bytes that a reference
 * server has for each byte per second of its network: 1960 GB at 8 Gb/s (Pocket, section 4.1). */
enum {
	LAMBDA_BPS = 600000000 / 8,
	SERVER_BPS = 1000000000,
	SERVER_BYTES_PER_BPS = 1960,
	SERVERS_DEFAULT = 50,
	SHARE_BITS = 20, /* a server is reckoned in parts of 2^20 */
};

const struct hints_type hints_types_2018[TIER_COUNT] = {
	[TIER_DRAM] = { UINT64_C(61000000000), UINT64_C(1000000000), 532 },
	[TIER_FLASH] = { UINT64_C(1900000000000), UINT64_C(1000000000), 624 },
	[TIER_DISK] = { UINT64_C(2000000000000), UINT64_C(40000000), 468 },
};

struct need {
	uint64_t bytes, bps;
};

/* a * b / c, at most max. */
static uint64_t scaled(uint64_t a, uint64_t b, uint64_t c, uint64_t max)
{
	unsigned __int128 v;

	check(c > 0);
	v = (unsigned __int128)a * b / c;
	return v < max ? (uint64_t)v : max;
}

/* The paper's table: a capacity or a bandwidth that was given stands before the number of workers,
 * and one alone fixes the other. */
static struct hints_figure pocket_bandwidth(const struct hints *h)
{
	if (h->bandwidth_bps > 0)
		return (struct hints_figure){ .value = h->bandwidth_bps, .from = FROM_HINT };
	if (h->capacity_bytes > 0)
		return (struct hints_figure){ .value = h->capacity_bytes / SERVER_BYTES_PER_BPS,
			.from = FROM_OTHER };
	if (h->lambdas > 0)
		return (struct hints_figure){ .value = (uint64_t)h->lambdas * LAMBDA_BPS,
			.from = FROM_WORKERS };
	return (struct hints_figure){ .value = (uint64_t)SERVERS_DEFAULT * SERVER_BPS,
		.from = FROM_DEFAULT };
}

static void size_pocket(const struct hints *h, struct hints_need *n)
{
	n->bandwidth = pocket_bandwidth(h);
	n->capacity = (struct hints_figure){ .value = h->capacity_bytes, .from = FROM_HINT };
	if (h->capacity_bytes > 0)
		return;
	n->capacity.value = scaled(n->bandwidth.value, SERVER_BYTES_PER_BPS, 1, HINTS_BYTES_MAX);
	n->capacity.from = n->bandwidth.from == FROM_HINT ? FROM_OTHER : n->bandwidth.from;
}

/* ---- tiers ---- */
static bool allowed(const struct hints *h, int tier)
{
	return h->tiers == 0 || (h->tiers & TIER_BIT(tier)) != 0;
}

struct ordering {
	const struct hints *h;
	const struct hints_have *have;
	struct need need;
	bool grows;
	enum hints_policy policy;
};

static bool there(const struct ordering *o, int tier)
{
	return allowed(o->h, tier) && (o->have->now[tier].devices > 0 ||
					      (o->grows && o->have->type[tier].price > 0));
}

/* The cheapest tier that has it free; TIER_COUNT: none. */
static int cheapest_free(const struct ordering *o)
{
	for (int t = TIER_COUNT - 1; t > TIER_DRAM; t--)
		if (there(o, t) && o->have->now[t].devices > 0 &&
			o->have->now[t].free_bytes >= o->need.bytes &&
			o->have->now[t].bandwidth_bps >= o->need.bps)
			return t;
	return TIER_COUNT;
}

static bool ever_has(const struct ordering *o, int tier)
{
	const struct hints_ever *e = &o->have->ever[tier];

	return (e->capacity_bytes == 0 && e->bandwidth_bps == 0) ||
	       (e->capacity_bytes >= o->need.bytes && e->bandwidth_bps >= o->need.bps);
}

/* What a server's part that meets the need costs in an hour. */
static unsigned __int128 cost(const struct hints_type *type, const struct need *need)
{
	unsigned __int128 by_bytes, by_bps, part;

	check(type->capacity_bytes > 0);
	check(type->bandwidth_bps > 0);
	by_bytes = ((unsigned __int128)need->bytes << SHARE_BITS) / type->capacity_bytes;
	by_bps = ((unsigned __int128)need->bps << SHARE_BITS) / type->bandwidth_bps;
	part = by_bytes > by_bps ? by_bytes : by_bps;
	return (part > 0 ? part : 1) * type->price;
}

static int cheapest_price(const struct ordering *o)
{
	unsigned __int128 best_cost = 0;
	int best = TIER_COUNT;

	for (int t = TIER_COUNT - 1; o->grows && t > TIER_DRAM; t--) {
		unsigned __int128 c;

		if (!there(o, t) || o->have->type[t].price == 0 || !ever_has(o, t))
			continue;
		c = cost(&o->have->type[t], &o->need);
		if (best == TIER_COUNT || c < best_cost) {
			best = t;
			best_cost = c;
		}
	}
	return best;
}

static int fastest(const struct ordering *o)
{
	int best = TIER_COUNT;

	for (int t = TIER_COUNT - 1; t > TIER_DRAM; t--)
		if (there(o, t) && (best == TIER_COUNT || o->have->now[t].bandwidth_bps >
								  o->have->now[best].bandwidth_bps))
			best = t;
	return best;
}

/* Where data goes first that does not wait for small accesses; TIER_COUNT when only memory is left.
 * The paper's cluster is made to fit: there the price alone decides. */
static int cheapest(const struct ordering *o, enum hints_order_why *ret_why)
{
	int free_tier = cheapest_free(o), price_tier = cheapest_price(o);
	bool by_free = free_tier < TIER_COUNT;

	if (o->policy == HINTS_POCKET2018 && price_tier < TIER_COUNT)
		by_free = false;
	*ret_why = by_free ? ORDER_CHEAP_FREE : ORDER_CHEAP_PRICE;
	if (by_free)
		return free_tier;
	if (price_tier < TIER_COUNT)
		return price_tier;
	*ret_why = ORDER_FASTEST;
	return fastest(o);
}

/* The paper's medium is one of two kinds: memory that overflows into flash, or none of it. */
static bool left_out(const struct ordering *o, int tier)
{
	bool cheap = o->h->latency == LATENCY_INSENSITIVE;

	return o->policy == HINTS_POCKET2018 && tier == (cheap ? TIER_DRAM : TIER_DISK) &&
	       o->h->tiers != TIER_BIT(tier);
}

static uint8_t order(
	const struct ordering *o, enum hints_order_why *ret_why, uint8_t ret_tiers[TIER_COUNT])
{
	int first = TIER_DRAM;
	uint8_t n = 0;

	*ret_why = ORDER_MEMORY;
	if (o->h->latency == LATENCY_INSENSITIVE)
		first = cheapest(o, ret_why);
	for (int t = first; t < TIER_COUNT; t++)
		if (there(o, t) && !left_out(o, t))
			ret_tiers[n++] = (uint8_t)t;
	for (int t = first - 1; t >= TIER_DRAM; t--)
		if (there(o, t) && !left_out(o, t))
			ret_tiers[n++] = (uint8_t)t;
	check(n <= TIER_COUNT);
	return n;
}

/* What the order of tiers is found with while not all is known. */
static struct need rough_need(const struct hints *h)
{
	struct need n = { h->capacity_bytes, h->bandwidth_bps };

	if (n.bps == 0 && h->lambdas > 0)
		n.bps = (uint64_t)h->lambdas * LAMBDA_BPS;
	if (n.bps == 0)
		n.bps = n.bytes / SERVER_BYTES_PER_BPS;
	return n;
}

uint8_t hints_order(const struct hints *h, const struct hints_tier have[TIER_COUNT],
	uint8_t ret_tiers[TIER_COUNT])
{
	struct hints_have all = { .now = { { .devices = 0 } } };
	struct ordering o = { .h = h, .have = &all, .need = rough_need(h) };
	enum hints_order_why why;

	for (int t = 0; t < TIER_COUNT; t++)
		all.now[t] = have[t];
	return order(&o, &why, ret_tiers);
}

/* ---- the other policy ---- */
static uint64_t with_headroom(uint64_t measured, uint64_t max)
{
	if (measured >= max)
		return max;
	measured += (measured + HINTS_HEADROOM_PART - 1) / HINTS_HEADROOM_PART;
	return measured < max ? measured : max;
}

/* What earlier runs moved, for as many workers as come now. */
static uint64_t learned_bps(const struct hints *h, const struct hints_profile *p)
{
	uint64_t bps = p->peak_bps;

	if (h->lambdas > 0 && p->workers > 0)
		bps = scaled(bps, h->lambdas, p->workers, HINTS_BPS_MAX);
	return with_headroom(bps, HINTS_BPS_MAX);
}

/* What was said or learned; values of 0: nothing. */
static void known(const struct hints *h, const struct hints_profile *p, struct hints_need *n)
{
	uint32_t workers = h->lambdas > 0 ? h->lambdas : p->workers;

	n->capacity = (struct hints_figure){ .value = h->capacity_bytes, .from = FROM_HINT };
	if (h->capacity_bytes == 0 && p->runs > 0)
		n->capacity = (struct hints_figure){
			.value = with_headroom(p->peak_bytes, HINTS_BYTES_MAX),
			.from = FROM_LEARNED };
	n->bandwidth = (struct hints_figure){ .value = h->bandwidth_bps, .from = FROM_HINT };
	if (h->bandwidth_bps == 0 && p->runs > 0)
		n->bandwidth = (struct hints_figure){ .value = learned_bps(h, p),
			.from = FROM_LEARNED };
	if (n->bandwidth.value == 0)
		n->bandwidth = (struct hints_figure){ .value = (uint64_t)workers * LAMBDA_BPS,
			.from = FROM_WORKERS };
}

/* From the other figure as the tier has both, but not more than the share (H2). */
static struct hints_figure derived(uint64_t other, uint64_t mine_free, uint64_t other_free)
{
	struct hints_figure f = { .value = mine_free / HINTS_SHARE_PART, .from = FROM_SHARE };
	uint64_t part;

	if (other == 0 || other_free == 0)
		return f;
	part = scaled(other, mine_free, other_free, HINTS_BYTES_MAX);
	f.from = FROM_OTHER;
	if (part > f.value)
		f.bound = BOUND_SHARE;
	else
		f.value = part;
	return f;
}

static void size_wadi(const struct hints_have *have, struct hints_need *n)
{
	uint64_t bytes = n->capacity.value, bps = n->bandwidth.value;
	const struct hints_tier *basis = NULL;

	for (uint8_t i = 0; basis == NULL && i < n->n_tiers; i++)
		if (have->now[n->tiers[i]].free_bytes > 0)
			basis = &have->now[n->tiers[i]];
	if (bytes == 0)
		n->capacity = derived(bps, basis != NULL ? basis->free_bytes : 0,
			basis != NULL ? basis->bandwidth_bps : 0);
	if (bps == 0)
		n->bandwidth = derived(bytes, basis != NULL ? basis->bandwidth_bps : 0,
			basis != NULL ? basis->free_bytes : 0);
}

static void bind_to(struct hints_figure *f, uint64_t max, enum hints_bound why)
{
	if (f->value <= max)
		return;
	f->value = max;
	f->bound = (uint8_t)why;
}

static void bind_ever(
	const struct hints *h, const struct hints_ever ever[TIER_COUNT], struct hints_need *n)
{
	uint64_t bytes = 0, bps = 0;

	for (int t = 0; t < TIER_COUNT; t++) {
		if (!allowed(h, t))
			continue;
		bytes += ever[t].capacity_bytes < HINTS_BYTES_MAX ? ever[t].capacity_bytes
								  : HINTS_BYTES_MAX;
		bps += ever[t].bandwidth_bps < HINTS_BPS_MAX ? ever[t].bandwidth_bps
							     : HINTS_BPS_MAX;
	}
	if (bytes > 0)
		bind_to(&n->capacity, bytes, BOUND_EVER);
	if (bps > 0)
		bind_to(&n->bandwidth, bps, BOUND_EVER);
}

void hints_size(enum hints_policy policy, const struct hints *h,
	const struct hints_profile *profile, const struct hints_have *have,
	struct hints_need *ret_need, struct hints_reason *ret_reason)
{
	static const struct hints_profile nothing;
	struct hints merged = *h;
	struct hints_need n = { .grows = true };
	struct ordering o = { .h = h, .have = have, .policy = policy };
	enum hints_order_why why;
	bool said = h->lambdas > 0 || h->capacity_bytes > 0 || h->bandwidth_bps > 0;

	profile = profile != NULL && policy == HINTS_WADI ? profile : &nothing;
	if (policy == HINTS_POCKET2018) {
		size_pocket(h, &n);
		o.need = (struct need){ n.capacity.value, n.bandwidth.value };
	} else {
		known(h, profile, &n);
		n.grows = n.capacity.value > 0 || n.bandwidth.value > 0;
		merged.capacity_bytes = n.capacity.value;
		merged.bandwidth_bps = n.bandwidth.value;
		o.need = rough_need(&merged);
	}
	n.waits = said || policy == HINTS_POCKET2018;
	o.grows = n.grows;
	n.n_tiers = order(&o, &why, n.tiers);
	n.n_firm = n.n_tiers;
	/* memory that overflows is one medium of the paper's, a cheap one by itself another */
	if (n.n_tiers > 0 && h->latency == (policy == HINTS_POCKET2018 ? LATENCY_INSENSITIVE
									: LATENCY_SENSITIVE))
		n.n_firm = 1;
	if (policy == HINTS_WADI)
		size_wadi(have, &n);
	bind_ever(h, have->ever, &n);
	if (h->quota_bytes > 0)
		bind_to(&n.capacity, h->quota_bytes, BOUND_QUOTA);
	*ret_reason = (struct hints_reason){ .given = *h,
		.profile = *profile,
		.need = n,
		.policy = policy,
		.order = why };
	*ret_need = n;
}
