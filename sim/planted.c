/* SPDX-License-Identifier: Apache-2.0 */
/* planted: breaks its rule in every third seed, so that a test can see what then happens; from
 * TWICE on, whenever the same node is killed twice, among other misfortunes that do not matter. */
#include "base/check.h"
#include "sim/scenario.h"

enum { EVERY = 3, TWICE = 500, DEADLY = 1000, ROUNDS = 30, NODES = 3 };

static int idle(struct sys *s, void *arg)
{
	return fiber_sleep(sys_after(s, 1000 * SYS_SEC));
}

static void one_misfortune(struct scenario *sc, struct sim_node *n, uint64_t kind)
{
	if (kind == 0)
		sim_node_kill(n);
	else if (kind < 5)
		sim_node_pause(n, SYS_MS);
	else if (kind < 9)
		sim_clock_jump(n, 5);
	else
		sim_node_crash(n);
}

static void twice(struct scenario *sc)
{
	struct sim_node *n[NODES];
	uint32_t kills[NODES] = { 0 };
	static const char *const names[NODES] = { "a", "b", "c" };

	for (uint32_t i = 0; i < NODES; i++)
		n[i] = sim_node_add(sc->w, names[i], 1 << 20);
	for (uint32_t k = 0, rounds = scenario_rounds(sc, ROUNDS); k < rounds; k++) {
		uint64_t i = prng_below(sc->p, NODES), kind = prng_below(sc->p, 10);

		for (uint32_t j = 0; j < NODES; j++)
			if (!sim_node_up(n[j]))
				sim_node_start(n[j], idle, NULL);
		scenario_run(sc, SYS_SEC / 5);
		one_misfortune(sc, n[i], kind);
		kills[i] += kind == 0 && !sim_node_up(n[i]);
		if (kills[i] == 2)
			violation(sc, "nobody is killed twice", "node %llu", (unsigned long long)i);
		if (kills[i] == 2)
			return;
	}
}

void scenario_planted(struct scenario *sc)
{
	struct sim_node *n;

	if (sc->seed >= TWICE && sc->seed < DEADLY) {
		twice(sc);
		return;
	}
	n = sim_node_add(sc->w, "idle", 1 << 20);
	sim_node_start(n, idle, NULL);
	scenario_run(sc, SYS_SEC / 2);
	check(sc->seed < DEADLY);
	scenario_say(sc, "half way");
	if (sc->seed % EVERY == 0)
		violation(sc, "no seed is a multiple of 3", "seed %llu",
			(unsigned long long)sc->seed);
}
