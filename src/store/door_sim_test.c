/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"
#include "store/door_test.h"
#include "sys/sim/sim.h"

const char *const door_tcp = "tcp:*:0";
const bool door_waits = false;

/* Bytes come late, in pieces, and fibers run in drawn order; nothing is lost. */
static const struct sim_faults slow_net = {
	.net_delay_min_ns = 10 * SYS_US,
	.net_delay_max_ns = 200 * SYS_US,
	.net_split_ppm = 50000,
	.disk_op_max_ns = 100 * SYS_US,
	.shuffle = true,
};

void door_run(int (*fn)(struct sys *s, void *arg), void *arg)
{
	static uint64_t seed = 1;
	struct sim *w = sim_new(seed++, &slow_net);
	struct sim_node *n = sim_node_add(w, "a", 256 << 20);

	sim_node_start(n, fn, arg);
	sim_run(w, 3600 * SYS_SEC);
	check(!sim_node_up(n));
	check(sim_node_result(n) == 0);
	sim_free(w);
}

const char *door_folder(void) { return ""; }
