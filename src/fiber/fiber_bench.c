/* SPDX-License-Identifier: Apache-2.0 */
/* Prints what a park costs.  Not a test: nothing here is compared with a limit. */
#include "fiber/fiber.h"
#include <stdio.h>
#include <time.h>

enum { ROUNDS = 5 * 1000 * 1000 };
static struct fiber *other[2];
static bool stop;

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Two fibers wake each other; each waits with a deadline that moves on, as requests do. */
static int ping(void *arg)
{
	long me = (long)arg;

	other[me] = fiber_self();
	for (uint64_t i = 0; i < ROUNDS; i++) {
		if (i > 0 || me == 1)
			fiber_wake(other[1 - me], 0);
		fiber_park(1000 + i, NULL, NULL);
	}
	if (!stop) {
		stop = true;
		fiber_wake(other[1 - me], 0);
	}
	return 0;
}

static int yields(void *arg)
{
	for (int i = 0; i < ROUNDS; i++)
		fiber_yield();
	return 0;
}

static int nothing(void *arg)
{
	return 0;
}

static void run(struct loop *l, struct group *g)
{
	while (g->n_live > 0 && loop_ready(l))
		loop_run(l, 1);
}

int main(void)
{
	struct loop *l = loop_new(NULL);
	struct group g;
	double t;

	group_init(&g, l);
	fiber_start(&g, "ping", ping, (void *)0);
	fiber_start(&g, "pong", ping, (void *)1);
	t = now_ns();
	run(l, &g);
	printf("wake + park with deadline: %.1f ns\n", (now_ns() - t) / (2.0 * ROUNDS));
	fiber_start(&g, "a", yields, NULL);
	fiber_start(&g, "b", yields, NULL);
	t = now_ns();
	run(l, &g);
	printf("yield: %.1f ns\n", (now_ns() - t) / (2.0 * ROUNDS));
	t = now_ns();
	for (int i = 0; i < 1000 * 1000; i++) {
		fiber_start(&g, "n", nothing, NULL);
		loop_run(l, 1);
	}
	printf("start, run, end: %.1f ns\n", (now_ns() - t) / 1e6);
	loop_free(l);
	return 0;
}
