/* SPDX-License-Identifier: Apache-2.0 */
/* planted: breaks its rule in every third seed, so that a test can see what then happens. */
#include "base/check.h"
#include "sim/scenario.h"

enum { EVERY = 3, DEADLY = 1000 };

static int idle(struct sys *s, void *arg)
{
	return fiber_sleep(sys_after(s, SYS_SEC));
}

void scenario_planted(struct scenario *sc)
{
	struct sim_node *n = sim_node_add(sc->w, "idle", 1 << 20);

	sim_node_start(n, idle, NULL);
	scenario_run(sc, SYS_SEC / 2);
	check(sc->seed < DEADLY);
	scenario_say(sc, "half way");
	if (sc->seed % EVERY == 0)
		violation(sc, "no seed is a multiple of 3", "seed %llu",
			(unsigned long long)sc->seed);
}
