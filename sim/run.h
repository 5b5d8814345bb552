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

/* What of a run is left out: the words of --less. */
enum { LESS_MISFORTUNES_MAX = 2048 };
struct less {
	uint64_t misfortunes[LESS_MISFORTUNES_MAX / 64]; /* one bit each, in the order of the run */
	uint32_t faults;                                 /* one bit each: less_faults[] */
	uint64_t workers;
	uint32_t rounds;                                 /* at most so many; 0: all */
};
extern const char *const less_faults[]; /* ends with NULL */
#define RULE_CHECK "no check fails"
bool less_parse(const char *text, struct less *ret_less);
void less_print(const struct less *less, char *to, size_t bytes);

struct run_opts {
	bool trace;
	bool quiet;
	bool tell;               /* print each misfortune as it happens */
	const struct less *less; /* NULL: nothing */
	void (*told)(const char *rule, const char *seen); /* instead of a report */
	int stack_pattern;
};
struct run_result {
	uint64_t unseed, now_ns;
	uint32_t violations;
	uint32_t n_misfortunes, n_rounds; /* that were asked for */
	uint64_t workers;
	uint64_t operations, failovers;
	struct sim_counts counts;
};
/* Calls each for every rule, whether or not it was ever looked at, with its count. */
void run_rules(void (*each)(void *arg, const char *rule, uint64_t count), void *arg);

/* Violations are printed (unless quiet) with the last lines of the trace and the command line that
 * replays them.  The same report is printed when the process dies in the middle. */
void run_once(const struct scenario_row *row, uint64_t seed, const struct run_opts *o,
	struct run_result *ret_r);
void run_report(
	const char *rule, const char *seen); /* of the run under way, or else the last one */
/* Reports a failed check, a signal, or a run that takes longer than that; closing() comes last. */
void run_watch(unsigned seconds, void (*closing)(void));
/* What all runs of this process came to. */
struct totals {
	uint64_t seeds, violations, virtual_ns, operations, failovers;
	struct sim_counts counts;
	double cpu_s;
};
void summary_print(const struct totals *t);
void summary_coverage(void); /* every rare path with its count */

/* Runs a seed that fails again and again, with less and less, while it breaks the same rule, and
 * prints what is left.  0; 1: it does not fail. */
int minimise(const struct scenario_row *row, uint64_t seed, uint32_t runs_max);
#endif
