/* SPDX-License-Identifier: Apache-2.0 */
#include "core/hints.h"
#include "base/check.h"

/* What one worker on a function service moves at most: 0.6 Gb/s; and the bytes that a reference
 * server has for each byte per second of its network: 1960 GB at 8 Gb/s (Pocket, section 4.1). */
enum { LAMBDA_BPS = 600000000 / 8, SERVER_BYTES_PER_BPS = 1960 };

struct hints_need hints_need(const struct hints *h)
{
	struct hints_need n = { h->capacity_bytes, h->bandwidth_bps };

	/* given figures stand; a missing one follows from the other by the reference server's ratio
	 */
	if (n.bandwidth_bps == 0 && h->lambdas > 0)
		n.bandwidth_bps = (uint64_t)h->lambdas * LAMBDA_BPS;
	if (n.bandwidth_bps == 0)
		n.bandwidth_bps = n.capacity_bytes / SERVER_BYTES_PER_BPS;
	if (n.capacity_bytes == 0 && h->bandwidth_bps > 0)
		n.capacity_bytes = h->bandwidth_bps > UINT64_MAX / SERVER_BYTES_PER_BPS
					   ? UINT64_MAX
					   : h->bandwidth_bps * SERVER_BYTES_PER_BPS;
	return n;
}

static bool allowed(const struct hints *h, const struct hints_tier *have, int tier)
{
	return have[tier].devices > 0 && (h->tiers == 0 || (h->tiers & TIER_BIT(tier)) != 0);
}

/* Where insensitive data goes first; TIER_COUNT when only memory is left. */
static int cheapest(const struct hints *h, const struct hints_tier *have)
{
	struct hints_need need = hints_need(h);
	int fastest = TIER_COUNT;

	for (int t = TIER_COUNT - 1; t > TIER_DRAM; t--) {
		if (!allowed(h, have, t))
			continue;
		if (have[t].free_bytes >= h->capacity_bytes &&
			have[t].bandwidth_bps >= need.bandwidth_bps)
			return t;
		if (fastest == TIER_COUNT || have[t].bandwidth_bps > have[fastest].bandwidth_bps)
			fastest = t;
	}
	return fastest;
}

uint8_t hints_order(const struct hints *h, const struct hints_tier have[TIER_COUNT],
	uint8_t ret_tiers[TIER_COUNT])
{
	int first = h->latency == LATENCY_INSENSITIVE ? cheapest(h, have) : TIER_DRAM;
	uint8_t n = 0;

	for (int t = first; t < TIER_COUNT; t++)
		if (allowed(h, have, t))
			ret_tiers[n++] = (uint8_t)t;
	for (int t = first - 1; t >= TIER_DRAM; t--)
		if (allowed(h, have, t))
			ret_tiers[n++] = (uint8_t)t;
	check(n <= TIER_COUNT);
	return n;
}
