/* SPDX-License-Identifier: Apache-2.0 */
/* The integral is exact, whatever the steps, and no clock makes it shrink. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/meter.h"

static void adds_up_what_was_held(void **state)
{
	struct meter m = { 0 };

	(void)state;
	meter_hold(&m, 1000, 10);
	meter_change(&m, 1500, 20); /* 10 for 500 */
	meter_settle(&m, 1600);  /* 30 for 100 */
	meter_settle(&m, 1600);
	meter_change(&m, 1700, -30); /* 30 for 100 */
	meter_settle(&m, 9999);
	assert_true(m.byte_ns == 5000 + 3000 + 3000);
	assert_int_equal(m.peak_bytes, 30);
}

static void a_moment_costs_nothing(void **state)
{
	struct meter m = { 0 };

	(void)state;
	meter_change(&m, 1000, 100);
	meter_change(&m, 1000, 900);
	meter_change(&m, 1000, -990);
	meter_settle(&m, 2000);
	assert_true(m.byte_ns == 10 * 1000);
	assert_int_equal(m.peak_bytes, 10);
}

static void goes_beyond_64_bits(void **state)
{
	struct meter m = { 0 };

	(void)state;
	meter_hold(&m, 0, UINT64_MAX);
	meter_settle(&m, 4);
	assert_true((uint64_t)(m.byte_ns >> 64) == 3);
	assert_true((uint64_t)m.byte_ns == UINT64_MAX - 3);
}

static void clocks_that_go_back_cost_nothing(void **state)
{
	struct meter m = { 0 };

	(void)state;
	meter_hold(&m, 1000, 7);
	meter_hold(&m, 500, 8);
	meter_settle(&m, 900);
	assert_true(m.byte_ns == 0);
	meter_settle(&m, 1001);
	assert_true(m.byte_ns == 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(adds_up_what_was_held),
		cmocka_unit_test(goes_beyond_64_bits),
		cmocka_unit_test(a_moment_costs_nothing),
		cmocka_unit_test(clocks_that_go_back_cost_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
