/* SPDX-License-Identifier: Apache-2.0 */
/* What many runs came to: how much was done, what went wrong in the world, which rules were looked
 * at, and which rare paths nobody came by. */
#include "sim/run.h"
#include <stdio.h>
#include <string.h>

static const struct {
	const char *call, *what;
} known[] = {
#define POINT(call, what) { #call, what },
#include "sim/points.inc"
#undef POINT
	{ NULL, NULL },
};
struct want {
	const char *what;
	uint64_t count;
};

static void count_point(void *arg, const char *what, uint64_t count)
{
	struct want *want = arg;

	if (strcmp(what, want->what) == 0)
		want->count += count;
}

void summary_coverage(void)
{
	unsigned n = 0, never = 0;

	for (; known[n].what != NULL; n++) {
		struct want want = { known[n].what, 0 };

		sim_coverage(count_point, &want);
		printf("%10llu  %s %s\n", (unsigned long long)want.count,
			known[n].call + strlen("sys_"), want.what);
		never += want.count == 0;
	}
	printf("%u points, %u never taken\n", n, never);
}

/* ---- the summary ---- */
static void each_kind(void *arg, const char *what, uint64_t count)
{
	printf("%12llu  %s\n", (unsigned long long)count, what);
}

static void print_never(void)
{
	unsigned n = 0, never = 0;

	for (; known[n].what != NULL; n++) {
		struct want want = { known[n].what, 0 };

		sim_coverage(count_point, &want);
		if (want.count > 0)
			continue;
		if (never++ == 0)
			printf("rare paths never taken:\n");
		printf("              %s\n", known[n].what);
	}
	printf("rare paths taken: %u of %u\n", n - never, n);
}

void summary_print(const struct totals *t)
{
	double s = (double)t->virtual_ns / 1e9, cpu = t->cpu_s > 0 ? t->cpu_s : 1e-9;

	printf("faults: %llu\n", (unsigned long long)t->counts.faults);
	sim_fault_kinds(each_kind, NULL);
	printf("rules looked at:\n");
	run_rules(each_kind, NULL);
	print_never();
	printf("%.0f simulated seconds in %.1f of CPU time: %.1f to one\n", s, cpu, s / cpu);
	printf("%llu operations of clients: %.0f in a simulated second, %.0f in one of CPU time\n",
		(unsigned long long)t->operations, s > 0 ? (double)t->operations / s : 0.0,
		(double)t->operations / cpu);
	printf("%llu crashes, %llu fail-overs, %llu messages, %llu operations of disks\n",
		(unsigned long long)t->counts.crashes, (unsigned long long)t->failovers,
		(unsigned long long)t->counts.messages, (unsigned long long)t->counts.disk_ops);
}
