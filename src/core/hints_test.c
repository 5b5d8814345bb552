/* SPDX-License-Identifier: Apache-2.0 */
/* Each kind of hint leads where the table says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/hints.h"
#include <string.h>

#define GB UINT64_C(1000000000)

static const struct hints_tier all[TIER_COUNT] = {
	[TIER_DRAM] = { 4 * GB, 8 * GB, 1 },
	[TIER_FLASH] = { 100 * GB, GB, 1 },
	[TIER_DISK] = { 1000 * GB, GB / 25, 1 },
};

static const char *order(const struct hints *h, const struct hints_tier have[TIER_COUNT])
{
	static char text[TIER_COUNT + 1];
	uint8_t tiers[TIER_COUNT], n = hints_order(h, have, tiers);

	memset(text, 0, sizeof text);
	for (uint8_t i = 0; i < n; i++)
		text[i] = "mfd"[tiers[i]];
	return text;
}

static void memory_first_unless_told_otherwise(void **state)
{
	(void)state;
	assert_string_equal(order(&(struct hints){ 0 }, all), "mfd");
	assert_string_equal(order(&(struct hints){ .latency = LATENCY_SENSITIVE }, all), "mfd");
	assert_string_equal(order(&(struct hints){ .tiers = TIER_BIT(TIER_FLASH) }, all), "f");
}

static void insensitive_takes_the_cheapest_that_suffices(void **state)
{
	struct hints h = { .latency = LATENCY_INSENSITIVE };

	(void)state;
	assert_string_equal(order(&h, all), "dfm");
	h.bandwidth_bps = GB / 2; /* more than disks give */
	assert_string_equal(order(&h, all), "fdm");
	h.bandwidth_bps = 0;
	h.lambdas = 10; /* 0.75 GB/s */
	assert_string_equal(order(&h, all), "fdm");
	h.lambdas = 1000; /* more than anything but memory gives */
	assert_string_equal(order(&h, all), "fdm");
	h.lambdas = 0;
	h.capacity_bytes = 2000 * GB; /* no tier has it alone: the fastest */
	assert_string_equal(order(&h, all), "fdm");
	h.tiers = TIER_BIT(TIER_DRAM);
	assert_string_equal(order(&h, all), "m");
}

static void a_tier_without_devices_is_left_out(void **state)
{
	struct hints_tier have[TIER_COUNT];

	(void)state;
	memcpy(have, all, sizeof have);
	have[TIER_FLASH].devices = 0;
	assert_string_equal(order(&(struct hints){ 0 }, have), "md");
	have[TIER_DISK].devices = 0;
	assert_string_equal(order(&(struct hints){ .latency = LATENCY_INSENSITIVE }, have), "m");
	have[TIER_DRAM].devices = 0;
	assert_string_equal(order(&(struct hints){ 0 }, have), "");
}

static void missing_figures_follow_from_given_ones(void **state)
{
	struct hints_need n = hints_need(&(struct hints){ .bandwidth_bps = GB });

	(void)state;
	assert_true(n.capacity_bytes == 1960 * GB);
	n = hints_need(&(struct hints){ .capacity_bytes = 1960 * GB });
	assert_true(n.bandwidth_bps == GB);
	n = hints_need(
		&(struct hints){ .capacity_bytes = 5 * GB, .bandwidth_bps = 7, .lambdas = 9 });
	assert_true(n.capacity_bytes == 5 * GB && n.bandwidth_bps == 7);
	n = hints_need(&(struct hints){ .bandwidth_bps = UINT64_MAX });
	assert_true(n.capacity_bytes == UINT64_MAX);
	n = hints_need(&(struct hints){ 0 });
	assert_true(n.capacity_bytes == 0 && n.bandwidth_bps == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_first_unless_told_otherwise),
		cmocka_unit_test(insensitive_takes_the_cheapest_that_suffices),
		cmocka_unit_test(a_tier_without_devices_is_left_out),
		cmocka_unit_test(missing_figures_follow_from_given_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
