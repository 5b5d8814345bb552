/* SPDX-License-Identifier: Apache-2.0 */
/* Room is handed out once, comes back whole, and is refused only when no run is long enough: beside
 * a reference that keeps one flag for each 4 KiB. */
#include "store/slots.h"
#include "base/prng.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

enum { UNITS = 512, LIVE_MAX = 200 };

static bool taken[UNITS];

static unsigned longest_free(void)
{
	unsigned best = 0, run = 0;

	for (unsigned i = 0; i < UNITS; i++) {
		run = taken[i] ? 0 : run + 1;
		best = run > best ? run : best;
	}
	return best;
}

static void mark(const struct slot *t, bool to)
{
	for (uint64_t i = t->offset / SLOT_BYTES; i < (t->offset + t->len) / SLOT_BYTES; i++) {
		assert_int_equal(taken[i], !to);
		taken[i] = to;
	}
}

static void one_step(struct prng *p, struct slots *s, struct slot *live[LIVE_MAX], unsigned *n)
{
	unsigned want = 1 + (unsigned)prng_below(p, prng_below(p, 8) == 0 ? 100 : 12), i;
	struct slot *t;

	if (*n == LIVE_MAX || (*n > 0 && prng_below(p, 100) < 48)) {
		i = (unsigned)prng_below(p, *n);
		mark(live[i], false);
		slots_give(s, live[i]);
		live[i] = live[--*n];
		return;
	}
	t = slots_take(s, (uint64_t)want * SLOT_BYTES);
	assert_int_equal(t == NULL, longest_free() < want);
	if (t == NULL)
		return;
	assert_int_equal(t->len, (uint64_t)want * SLOT_BYTES);
	mark(t, true);
	live[(*n)++] = t;
}

static void agrees_with_a_reference(void **state)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct prng p = prng_fork(seed, 1);
		struct slot *live[LIVE_MAX];
		struct slots s;
		unsigned n = 0, n_taken = 0;

		memset(taken, 0, sizeof taken);
		assert_int_equal(slots_init(&s, UNITS * SLOT_BYTES), 0);
		for (int i = 0; i < 2000; i++) {
			one_step(&p, &s, live, &n);
			if (i % 16 == 0)
				slots_audit(&s);
		}
		for (unsigned i = 0; i < UNITS; i++)
			n_taken += taken[i];
		assert_int_equal(s.free_bytes, (uint64_t)(UNITS - n_taken) * SLOT_BYTES);
		while (n > 0)
			slots_give(&s, live[--n]);
		slots_audit(&s);
		live[0] = slots_take(&s, UNITS * SLOT_BYTES);
		assert_non_null(live[0]);
		assert_null(slots_take(&s, SLOT_BYTES));
		slots_fini(&s);
	}
}

static void freed_room_is_reusable_at_once(void **state)
{
	struct slot *t, *u;
	struct slots s;

	assert_int_equal(slots_init(&s, 8 * SLOT_BYTES), 0);
	t = slots_take(&s, 3 * SLOT_BYTES);
	u = slots_take(&s, 5 * SLOT_BYTES);
	assert_non_null(u);
	slots_give(&s, t);
	assert_null(slots_take(&s, 4 * SLOT_BYTES));
	t = slots_take(&s, 3 * SLOT_BYTES);
	assert_non_null(t);
	assert_int_equal(t->offset, 0);
	slots_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_a_reference),
		cmocka_unit_test(freed_room_is_reusable_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
