/* SPDX-License-Identifier: Apache-2.0 */
/* Stacks are guarded, reused and separate, and loops of different threads share nothing. */
#include "base/err.h"
#include "fiber/fiber.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct loop *loop;
static struct group top;

static int setup_opts(const struct loop_opts *opts)
{
	loop = loop_new(opts);
	assert_non_null(loop);
	group_init(&top, loop);
	return 0;
}

static int setup(void **state)
{
	return setup_opts(NULL);
}

static int teardown(void **state)
{
	assert_int_equal(top.n_live, 0);
	loop_free(loop);
	return 0;
}

static void start(fiber_fn *fn, void *arg)
{
	assert_int_equal(fiber_start(&top, "f", fn, arg), 0);
}

static int sleeps(void *arg)
{
	if (arg != NULL)
		*(struct fiber **)arg = fiber_self();
	return fiber_park(FOREVER, NULL, NULL);
}

static void an_empty_pool_is_busy(void **state)
{
	struct loop_opts opts = { .fibers_max = 2 };
	struct fiber *first;

	setup_opts(&opts);
	start(sleeps, &first);
	start(sleeps, NULL);
	assert_int_equal(fiber_start(&top, "x", sleeps, NULL), E_BUSY);
	loop_run(loop, 1);
	fiber_wake(first, 0);
	loop_run(loop, 1);
	start(sleeps, NULL);
	assert_int_equal(fiber_start(&top, "x", sleeps, NULL), E_BUSY);
	group_cancel(&top);
	loop_run(loop, 1);
	teardown(NULL);
}

static int many(void *arg)
{
	char room[1500];

	memset(room, (int)(long)arg, sizeof room);
	assert_int_equal(fiber_yield(), 0);
	for (size_t i = 0; i < sizeof room; i++)
		assert_int_equal(room[i], (char)(long)arg);
	return 0;
}

static void stacks_are_reused_and_separate(void **state)
{
	for (int round = 0; round < 20; round++) {
		for (long i = 0; i < 200; i++)
			start(many, (void *)i);
		loop_run(loop, 1);
		assert_int_equal(top.n_live, 0);
	}
}

static unsigned char seen_fill;

/* The caller's frame may reach down to here; what lies 8 KiB below was not used yet. */
__attribute__((noinline, no_sanitize("address", "undefined"))) static int reads_stale(void *arg)
{
	volatile unsigned char *here = __builtin_frame_address(0);

	seen_fill = here[-8192];
	return 0;
}

static void fresh_stacks_carry_the_pattern(void **state)
{
	for (int fill = 0x11; fill < 0x100; fill += 0x11) {
		struct loop_opts opts = { .fill = true, .stack_fill = (uint8_t)fill };

		setup_opts(&opts);
		for (int i = 0; i < 2; i++) {
			seen_fill = 0;
			start(reads_stale, NULL);
			loop_run(loop, 1);
			assert_int_equal(seen_fill, fill);
		}
		teardown(NULL);
	}
}

/* What the kernel says of the stack that runs and of what lies right below it. */
static int looks_below(void *arg)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0), guard_end = 0;
	FILE *f = fopen("/proc/self/maps", "re");
	bool *guarded = arg, closed = false;
	char line[256];

	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		char *end;
		uintptr_t from = strtoul(line, &end, 16), to = strtoul(end + 1, &end, 16);

		if (from <= here && here < to)
			*guarded = closed && guard_end == from;
		guard_end = to;
		closed = strncmp(end, " ---", 4) == 0;
	}
	if (f != NULL)
		fclose(f);
	return 0;
}

static void a_stack_ends_at_its_guard(void **state)
{
	bool guarded[3] = { false };

	for (int i = 0; i < 3; i++)
		start(looks_below, &guarded[i]);
	loop_run(loop, 1);
	for (int i = 0; i < 3; i++)
		assert_true(guarded[i]);
}

/* ---- two loops ---- */
static int counts(void *arg)
{
	uint64_t *n = arg;

	for (int i = 0; i < 2000; i++) {
		++*n;
		assert_int_equal(fiber_sleep(loop_now_ns(loop_self()) + i % 3), 0);
	}
	return 0;
}

static void *thread_main(void *arg)
{
	struct loop *l = loop_new(NULL);
	struct group g;
	uint64_t n[4] = { 0 }, now = 0;

	group_init(&g, l);
	for (int i = 0; i < 4; i++)
		assert_int_equal(fiber_start(&g, "count", counts, &n[i]), 0);
	while (g.n_live > 0)
		loop_run(l, now++);
	for (int i = 0; i < 4; i++)
		assert_int_equal(n[i], 2000);
	loop_free(l);
	return NULL;
}

static void loops_of_two_threads_share_nothing(void **state)
{
	pthread_t t[2];

	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, thread_main, NULL), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
}

static int runs_another_loop(void *arg)
{
	struct loop *self = loop_self();

	thread_main(NULL);
	assert_ptr_equal(loop_self(), self);
	return fiber_yield();
}

static void a_fiber_may_drive_another_loop(void **state)
{
	start(runs_another_loop, NULL);
	start(many, NULL);
	loop_run(loop, 1);
	assert_int_equal(top.n_live, 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_pool_is_busy),
		T(stacks_are_reused_and_separate),
		cmocka_unit_test(fresh_stacks_carry_the_pattern),
		T(a_stack_ends_at_its_guard),
		T(loops_of_two_threads_share_nothing),
		T(a_fiber_may_drive_another_loop),
	};

	return cmocka_run_group_tests_name("lane", tests, NULL, NULL);
}
