/* SPDX-License-Identifier: Apache-2.0 */
/* run.h: one run of one scenario, and the report when it goes wrong. */
#ifndef SIM_RUN_H
#define SIM_RUN_H
#include "sim/scenario.h"

struct scenario_row {
	const char *name;
	unsigned weight;
	const char *text;
	scenario_fn *fn;
};
extern const struct scenario_row scenario_rows[]; /* ends with a NULL name */

struct run_opts {
	bool trace;
	bool quiet;
	int stack_pattern;
};
struct run_result {
	uint64_t unseed, now_ns;
	uint32_t violations;
	struct sim_counts counts;
};

/* Violations are printed (unless quiet) with the last lines of the trace and the command line that
 * replays them.  The same report is printed when the process dies in the middle. */
void run_once(const struct scenario_row *row, uint64_t seed, const struct run_opts *o,
	struct run_result *ret_r);
void run_report(
	const char *rule, const char *seen); /* of the run under way, or else the last one */
/* Reports a failed check, a signal, or a run that takes longer than that; closing() comes last. */
void run_watch(unsigned seconds, void (*closing)(void));
#endif
