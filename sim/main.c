/* SPDX-License-Identifier: Apache-2.0 */
/* wadi-sim: runs scenarios over seeds.  See README.md. */
#include "base/check.h"
#include "sim/run.h"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { SEEDS_DEFAULT = 100, HANG_SECONDS = 120, TWICE_OF = 8, MINIMISE_RUNS = 1000 };
enum { EXIT_USAGE = 2, PATTERN_ONE = 0x5a, PATTERN_TWO = 0xa5 };

static struct {
	uint64_t first, n_seeds;
	double seconds;
	const char *scenario;
	int stop_first, trace, verbose, coverage, twice, minimise, summary; /* 0 or 1 */
	struct less less;
} opts = { .first = 1 };

static struct totals total;
static struct {
	bool under_way;
	double began, shown;
} at;

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
	"  --minimise       find out what of a seed that fails is needed for it\n"
	"  --less LIST      leave out: misfortunes by number (3, 5-9), faults (net_lose),\n"
	"                   worker=N, all but rounds=N\n"
	"  --summary        close with what was seen\n"
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
		{ "first", 0, &opts.stop_first, 1 },
		{ "twice", 0, &opts.twice, 1 },
		{ "trace", 0, &opts.trace, 1 },
		{ "minimise", 0, &opts.minimise, 1 },
		{ "less", 1, NULL, 'e' },
		{ "summary", 0, &opts.summary, 1 },
		{ "verbose", 0, NULL, 'v' },
		{ "list-coverage", 0, &opts.coverage, 1 },
		{ "list", 0, NULL, 'L' },
		{ "help", 0, NULL, 'h' },
		{ 0 },
	};
	bool seed = false;

	for (int c; (c = getopt_long(argc, argv, "vh", table, NULL)) != -1;) {
		switch (c) {
		case 0: /* a flag */
			break;
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
		case 'e':
			if (!less_parse(optarg, &opts.less))
				misuse("what to leave out: ", optarg);
			break;
		case 'v':
			opts.verbose = true;
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
	uint64_t sum = 0, left;

	for (const struct scenario_row *r = scenario_rows; r->name != NULL; r++) {
		if (opts.scenario != NULL && strcmp(opts.scenario, r->name) == 0)
			return r;
		sum += r->weight;
	}
	if (opts.scenario != NULL)
		misuse("no such scenario: ", opts.scenario);
	left = seed % sum;
	for (const struct scenario_row *r = scenario_rows;; left -= r->weight, r++)
		if (left < r->weight)
			return r;
}

/* ---- what people see ---- */
static void closing(void)
{
	total.seeds += at.under_way; /* the program dies in the middle of one */
	total.violations += at.under_way;
	if (opts.verbose || isatty(1))
		printf("%.1f simulated hours, %llu steps, %llu faults, %llu crashes in %.1f s\n",
			(double)total.virtual_ns / 3.6e12, (unsigned long long)total.counts.steps,
			(unsigned long long)total.counts.faults,
			(unsigned long long)total.counts.crashes, now() - at.began);
	printf("%llu seeds, %llu violations\n", (unsigned long long)total.seeds,
		(unsigned long long)total.violations);
}

static void progress(void)
{
	if (!isatty(2) || opts.trace || opts.verbose || now() - at.shown < 0.2)
		return;
	at.shown = now();
	fprintf(stderr, "\r%llu seeds, %llu violations, %.1f simulated hours, %.0f s\033[K",
		(unsigned long long)total.seeds, (unsigned long long)total.violations,
		(double)total.virtual_ns / 3.6e12, now() - at.began);
}

static void print_summary(void)
{
	struct rusage used;

	check(getrusage(RUSAGE_SELF, &used) == 0);
	total.cpu_s = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
		(double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
	summary_print(&total);
}

/* ---- runs ---- */
static void add(const struct run_result *r)
{
	total.virtual_ns += r->now_ns;
	total.operations += r->operations;
	total.failovers += r->failovers;
	total.counts.steps += r->counts.steps;
	total.counts.faults += r->counts.faults;
	total.counts.crashes += r->counts.crashes;
	total.counts.messages += r->counts.messages;
	total.counts.disk_ops += r->counts.disk_ops;
}

static void run_seed(uint64_t seed)
{
	const struct scenario_row *row = row_of(seed);
	bool twice = opts.twice || seed % TWICE_OF == 0;
	struct run_opts o = { .trace = opts.trace, .less = &opts.less,
		.stack_pattern = twice ? PATTERN_ONE : -1 };
	struct run_result r, again;
	char seen[100];

	at.under_way = true;
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
	at.under_way = false;
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
	at.began = now();
	if (opts.minimise)
		return minimise(row_of(opts.first), opts.first, MINIMISE_RUNS);
	run_watch(HANG_SECONDS, closing);
	for (uint64_t seed = opts.first; opts.n_seeds == 0 || seed - opts.first < opts.n_seeds;
		seed++) {
		if (opts.seconds > 0 && total.seeds > 0 && now() - at.began >= opts.seconds)
			break;
		run_seed(seed);
		progress();
		if (opts.stop_first && total.violations > 0)
			break;
	}
	if (isatty(2))
		fputs("\r\033[K", stderr);
	if (opts.coverage)
		summary_coverage();
	if (opts.summary)
		print_summary();
	closing();
	return total.violations > 0 ? 1 : 0;
}
