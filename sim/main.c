/* SPDX-License-Identifier: Apache-2.0 */
/* wadi-sim: runs scenarios over seeds.  See README.md. */
#include "base/check.h"
#include "sim/run.h"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SEEDS_DEFAULT = 100, HANG_SECONDS = 120, TWICE_OF = 8 };
enum { EXIT_USAGE = 2, PATTERN_ONE = 0x5a, PATTERN_TWO = 0xa5 };

static struct {
	uint64_t first, n_seeds;
	double seconds;
	const char *scenario;
	bool stop_first, trace, verbose, coverage, twice;
} opts = { .first = 1 };

static struct {
	uint64_t seeds, violations, virtual_ns;
	struct sim_counts counts;
	bool under_way;
	double began, shown;
} total;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- options ---- */
static const char usage[] =
	"usage: wadi-sim [options]\n"
	"Runs simulated clusters, one for each seed, and checks the rules of their scenarios.\n"
	"  --seed N         first seed (default 1); alone: only that one\n"
	"  --seeds N        how many (default 100)\n"
	"  --seconds T      as many as fit\n"
	"  --scenario NAME  only this one; else the seed says which\n"
	"  --first          stop at the first violation\n"
	"  --twice          run each seed under two stack patterns (default: one seed in 8)\n"
	"  --trace          print what happens\n"
	"  --verbose        print the unseed of each run\n"
	"  --list-coverage  print how often each rare path was taken, and which never were\n"
	"  --list           print the scenarios\n";

static _Noreturn void misuse(const char *what, const char *arg)
{
	fprintf(stderr, "wadi-sim: %s%s\n%s", what, arg, usage);
	exit(EXIT_USAGE);
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 10);

	if (*text < '0' || *text > '9' || *end != '\0')
		misuse("not a number: ", text);
	return n;
}

static void list_scenarios(void)
{
	for (const struct scenario_row *r = scenario_rows; r->name != NULL; r++)
		printf("%-12s %s%s\n", r->name, r->text,
			r->weight == 0 ? " (only by --scenario)" : "");
}

static void parse(int argc, char **argv)
{
	static const struct option table[] = {
		{ "seed", 1, NULL, 's' },
		{ "seeds", 1, NULL, 'n' },
		{ "seconds", 1, NULL, 't' },
		{ "scenario", 1, NULL, 'c' },
		{ "first", 0, NULL, 'f' },
		{ "twice", 0, NULL, '2' },
		{ "trace", 0, NULL, 'x' },
		{ "verbose", 0, NULL, 'v' },
		{ "list-coverage", 0, NULL, 'l' },
		{ "list", 0, NULL, 'L' },
		{ "help", 0, NULL, 'h' },
		{ 0 },
	};
	bool seed = false;

	for (int c; (c = getopt_long(argc, argv, "vh", table, NULL)) != -1;) {
		switch (c) {
		case 's':
			opts.first = number(optarg), seed = true;
			break;
		case 'n':
			opts.n_seeds = number(optarg);
			break;
		case 't':
			opts.seconds = (double)number(optarg);
			break;
		case 'c':
			opts.scenario = optarg;
			break;
		case 'f':
			opts.stop_first = true;
			break;
		case '2':
			opts.twice = true;
			break;
		case 'x':
			opts.trace = true;
			break;
		case 'v':
			opts.verbose = true;
			break;
		case 'l':
			opts.coverage = true;
			break;
		case 'L':
			list_scenarios(), exit(0);
		case 'h':
			fputs(usage, stdout), exit(0);
		default:
			misuse("see the options", "");
		}
	}
	if (optind < argc)
		misuse("not an option: ", argv[optind]);
	if (opts.n_seeds == 0 && opts.seconds == 0)
		opts.n_seeds = seed ? 1 : SEEDS_DEFAULT;
}

static const struct scenario_row *row_of(uint64_t seed)
{
	uint64_t sum = 0, at;

	for (const struct scenario_row *r = scenario_rows; r->name != NULL; r++) {
		if (opts.scenario != NULL && strcmp(opts.scenario, r->name) == 0)
			return r;
		sum += r->weight;
	}
	if (opts.scenario != NULL)
		misuse("no such scenario: ", opts.scenario);
	at = seed % sum;
	for (const struct scenario_row *r = scenario_rows;; at -= r->weight, r++)
		if (at < r->weight)
			return r;
}

/* ---- what people see ---- */
static void closing(void)
{
	total.seeds += total.under_way; /* the program dies in the middle of one */
	total.violations += total.under_way;
	if (opts.verbose || isatty(1))
		printf("%.1f simulated hours, %llu steps, %llu faults, %llu crashes in %.1f s\n",
			(double)total.virtual_ns / 3.6e12, (unsigned long long)total.counts.steps,
			(unsigned long long)total.counts.faults,
			(unsigned long long)total.counts.crashes, now() - total.began);
	printf("%llu seeds, %llu violations\n", (unsigned long long)total.seeds,
		(unsigned long long)total.violations);
}

static void progress(void)
{
	if (!isatty(2) || opts.trace || opts.verbose || now() - total.shown < 0.2)
		return;
	total.shown = now();
	fprintf(stderr, "\r%llu seeds, %llu violations, %.1f simulated hours, %.0f s\033[K",
		(unsigned long long)total.seeds, (unsigned long long)total.violations,
		(double)total.virtual_ns / 3.6e12, now() - total.began);
}

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

static void print_coverage(void)
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

/* ---- runs ---- */
static void add(const struct run_result *r)
{
	total.virtual_ns += r->now_ns;
	total.counts.steps += r->counts.steps;
	total.counts.faults += r->counts.faults;
	total.counts.crashes += r->counts.crashes;
}

static void run_seed(uint64_t seed)
{
	const struct scenario_row *row = row_of(seed);
	bool twice = opts.twice || seed % TWICE_OF == 0;
	struct run_opts o = { .trace = opts.trace, .stack_pattern = twice ? PATTERN_ONE : -1 };
	struct run_result r, again;
	char seen[100];

	total.under_way = true;
	run_once(row, seed, &o, &r);
	if (twice && !opts.trace) {
		o.stack_pattern = PATTERN_TWO;
		o.quiet = true;
		run_once(row, seed, &o, &again);
		add(&again);
		snprintf(seen, sizeof seen, "unseeds %016llx and %016llx",
			(unsigned long long)r.unseed, (unsigned long long)again.unseed);
		if (r.unseed != again.unseed)
			run_report("a run does not depend on bytes that nobody wrote", seen);
		r.violations += r.unseed != again.unseed;
	}
	total.under_way = false;
	add(&r);
	total.seeds++;
	total.violations += r.violations > 0;
	if (opts.verbose)
		printf("seed %llu %s unseed %016llx at %llu ms%s\n", (unsigned long long)seed,
			row->name, (unsigned long long)r.unseed,
			(unsigned long long)(r.now_ns / SYS_MS),
			r.violations > 0 ? " VIOLATED" : "");
}

int main(int argc, char **argv)
{
	parse(argc, argv);
	(void)row_of(opts.first); /* a wrong name is said before the first run */
	total.began = now();
	run_watch(HANG_SECONDS, closing);
	for (uint64_t seed = opts.first; opts.n_seeds == 0 || seed - opts.first < opts.n_seeds;
		seed++) {
		if (opts.seconds > 0 && total.seeds > 0 && now() - total.began >= opts.seconds)
			break;
		run_seed(seed);
		progress();
		if (opts.stop_first && total.violations > 0)
			break;
	}
	if (isatty(2))
		fputs("\r\033[K", stderr);
	if (opts.coverage)
		print_coverage();
	closing();
	return total.violations > 0 ? 1 : 0;
}
