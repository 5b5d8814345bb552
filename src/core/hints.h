/* SPDX-License-Identifier: Apache-2.0 */
/* hints.h: from what a job says about itself to the order in which its data fills the tiers
 * (Pocket, section 4.1; see the table of hints in control/README.md). */
#ifndef CORE_HINTS_H
#define CORE_HINTS_H
#include "wire/words.h"
#include <stdbool.h>
#include <stdint.h>

struct hints {
	uint8_t latency;         /* enum wire_latency */
	uint8_t tiers;           /* allowed, TIER_BIT each; 0: all */
	uint32_t lambdas;        /* most at once; 0: not given */
	uint64_t capacity_bytes; /* 0: not given */
	uint64_t bandwidth_bps;  /* 0: not given */
};

/* What a tier has, all its devices together. */
struct hints_tier {
	uint64_t free_bytes, bandwidth_bps;
	uint32_t devices;
};

/* What the hints amount to: bytes, and bytes per second.  0: nothing is known. */
struct hints_need {
	uint64_t capacity_bytes, bandwidth_bps;
};
struct hints_need hints_need(const struct hints *h);

/* The tiers in the order to fill them, those without a device left out: how many.
 *
 * Latency-sensitive, or nothing said: memory, then flash, then disk.  Insensitive: the cheapest
 * tier that has the capacity and the bandwidth needed, then cheaper ones, then dearer ones; memory
 * last. When no tier meets the need alone, the one with the most bandwidth that is not memory. */
uint8_t hints_order(const struct hints *h, const struct hints_tier have[TIER_COUNT],
	uint8_t ret_tiers[TIER_COUNT]);
#endif
