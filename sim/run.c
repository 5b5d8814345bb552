/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/run.h"
#include "base/check.h"
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

enum { RING_LINES = 40, LINE_BYTES = 200, REPORTS_MAX = 5, RULES_MAX = 100 };
enum { SIGNAL_STACK_BYTES = 64 * 1024 };

const struct scenario_row scenario_rows[] = {
#define SCENARIO(name, weight, text) { #name, weight, text, scenario_##name },
#include "sim/scenarios.def"
#undef SCENARIO
	{ NULL, 0, NULL, NULL },
};

/* The run under way: also read by signal handlers. */
static struct {
	struct scenario sc;
	struct run_opts opts;
	char ring[RING_LINES][LINE_BYTES];
	unsigned n_lines;
	unsigned n_reports; /* of the whole process */
	uint32_t n_misfortunes;
	volatile uint64_t n_runs;
	void (*closing)(void);
} the;

struct mem {
	struct mem *next;
	max_align_t bytes[];
};

/* ---- trace ---- */
static void trace_line(void *arg, uint64_t now_ns, const char *node, const char *text)
{
	char *line = the.ring[the.n_lines++ % RING_LINES];

	snprintf(line, LINE_BYTES, "%6llu.%06llu %-8s %s", (unsigned long long)(now_ns / SYS_SEC),
		(unsigned long long)(now_ns % SYS_SEC / SYS_US), node, text);
	if (the.opts.trace)
		printf("%s\n", line);
}

void run_report(const char *rule, const char *seen)
{
	const struct scenario *sc = &the.sc;
	unsigned first = the.n_lines > RING_LINES ? the.n_lines - RING_LINES : 0;

	if (the.opts.told != NULL) {
		the.opts.told(rule, seen);
		return;
	}
	if (the.n_reports++ >= REPORTS_MAX)
		return;
	printf("violation: seed %llu, scenario %s\n  rule: %s\n  seen: %s\n  last of the trace:\n",
		(unsigned long long)sc->seed, sc->name, rule, seen);
	for (unsigned i = first; i < the.n_lines; i++)
		printf("    %s\n", the.ring[i % RING_LINES]);
	printf("  again: wadi-sim --scenario %s --seed %llu --trace\n", sc->name,
		(unsigned long long)sc->seed);
	fflush(stdout);
}

/* ---- what scenarios call ---- */
void violation(struct scenario *sc, const char *rule, const char *fmt, ...)
{
	char seen[LINE_BYTES];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(seen, sizeof seen, fmt, ap);
	va_end(ap);
	if (sc->violations++ == 0 && !the.opts.quiet)
		run_report(rule, seen);
}

void scenario_say(struct scenario *sc, const char *fmt, ...)
{
	char text[LINE_BYTES];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	trace_line(NULL, sim_now_ns(sc->w), "*", text);
}

/* Known by its text; the pointer is only a short cut. */
static struct rule {
	const char *text;
	uint64_t count;
} rules[RULES_MAX];

void scenario_checked(const char *text)
{
	struct rule *r = rules;

	while (r->text != NULL && r->text != text && strcmp(r->text, text) != 0)
		r++;
	check(r < rules + RULES_MAX - 1);
	r->text = text;
	r->count++;
}

void run_rules(void (*each)(void *arg, const char *rule, uint64_t count), void *arg)
{
	for (const struct rule *r = rules; r->text != NULL; r++)
		each(arg, r->text, r->count);
}

void *scenario_alloc(struct scenario *sc, size_t bytes)
{
	struct mem *m = calloc(1, sizeof *m + bytes);

	check(m != NULL);
	m->next = sc->mem;
	sc->mem = m;
	return m->bytes;
}

static void off_in_half(struct scenario *sc, uint32_t *ppm)
{
	if (prng_next(sc->p) & 1)
		*ppm = 0;
}

struct sim_faults scenario_swarm(struct scenario *sc)
{
	struct sim_faults f = sim_all_faults;

	off_in_half(sc, &f.net_lose_ppm);
	off_in_half(sc, &f.net_stall_ppm);
	off_in_half(sc, &f.net_split_ppm);
	off_in_half(sc, &f.disk_io_ppm);
	off_in_half(sc, &f.disk_torn_ppm);
	off_in_half(sc, &f.disk_rot_ppm);
	off_in_half(sc, &f.disk_slow_ppm);
	off_in_half(sc, &f.clock_late_ppm);
	off_in_half(sc, &f.clock_jump_ppm);
	off_in_half(sc, &f.buggify_ppm);
	f.shuffle = prng_next(sc->p) & 1;
	return f;
}

void scenario_run(struct scenario *sc, uint64_t ns)
{
	sim_run(sc->w, sim_now_ns(sc->w) + ns);
}

void scenario_steps(struct scenario *sc, uint32_t max)
{
	uint64_t n = prng_below(sc->p, (uint64_t)max + 1);

	while (n-- > 0 && sim_step(sc->w))
		;
}

uint32_t scenario_rounds(struct scenario *sc, uint32_t n)
{
	sc->rounds_asked = n;
	return sc->rounds_max > 0 && sc->rounds_max < n ? sc->rounds_max : n;
}

/* ---- a run ---- */
static bool spare(void *arg, uint32_t i, uint64_t now_ns, const char *node, const char *what)
{
	const struct less *less = the.opts.less;

	the.n_misfortunes = i + 1;
	if (less != NULL && i < LESS_MISFORTUNES_MAX && (less->misfortunes[i / 64] >> i % 64 & 1))
		return true;
	if (the.opts.tell)
		printf("%12.6f s  %-8s %s\n", (double)now_ns / 1e9, node, what);
	return false;
}

static void leave_out(struct scenario *sc, const struct less *less)
{
	struct sim_faults most;
	uint32_t *const kinds[] = {
#define FAULT(name) &most.name##_ppm,
#include "sim/faults.def"
#undef FAULT
	};

	memset(&most, 0xff, sizeof most);
	most.shuffle = true;
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (less->faults >> i & 1)
			*kinds[i] = 0;
	sim_faults_most(sc->w, &most);
	sc->idle_workers = less->workers;
	sc->rounds_max = less->rounds;
}

void run_once(const struct scenario_row *row, uint64_t seed, const struct run_opts *o,
	struct run_result *ret_r)
{
	struct scenario *sc = &the.sc;

	the.opts = *o;
	the.n_lines = 0;
	the.n_runs++;
	*sc = (struct scenario){ .seed = seed, .name = row->name };
	sc->w = sim_new(seed, &sim_no_faults);
	sc->p = sim_workload(sc->w);
	sim_fill_stacks(sc->w, o->stack_pattern);
	sim_trace(sc->w, trace_line, NULL);
	the.n_misfortunes = 0;
	sim_spare(sc->w, spare, NULL);
	if (o->less != NULL)
		leave_out(sc, o->less);
	row->fn(sc);
	ret_r->unseed = sim_unseed(sc->w);
	ret_r->now_ns = sim_now_ns(sc->w);
	ret_r->counts = sim_counts(sc->w);
	sim_free(sc->w);
	if (sc->at_end != NULL)
		sc->at_end(sc);
	ret_r->violations = sc->violations;
	ret_r->n_misfortunes = the.n_misfortunes;
	ret_r->operations = sc->operations;
	ret_r->failovers = sc->failovers;
	ret_r->workers = sc->workers;
	ret_r->n_rounds = sc->rounds_asked;
	for (struct mem *m = sc->mem, *next; m != NULL; m = next) {
		next = m->next;
		free(m);
	}
	sc->mem = NULL;
}

/* ---- dying ---- */
static void last_words(const char *rule, const char *seen)
{
	the.n_reports = 0; /* this one is always printed */
	run_report(rule, seen);
	if (the.closing != NULL)
		the.closing();
	fflush(stdout);
}

static void on_failed_check(void *arg)
{
	last_words(RULE_CHECK, "see the message above");
}

/* The clock ticks once in a while: a run that is still the same at the next tick hangs. */
static void on_tick(int number)
{
	static uint64_t last;

	if (last != the.n_runs) {
		last = the.n_runs;
		return;
	}
	last_words("a run ends", "the program spins in this run");
	signal(SIGABRT, SIG_DFL);
	abort();
}

static void on_signal(int number)
{
	last_words("no run ends in a signal", strsignal(number));
	signal(number, SIG_DFL);
	raise(number);
}

void run_watch(unsigned seconds, void (*closing)(void))
{
	static const int fatal[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL };
	static uint8_t stack[SIGNAL_STACK_BYTES]; /* a fiber may have run out of its own */
	const stack_t alt = { .ss_sp = stack, .ss_size = sizeof stack };
	const struct itimerval every = { { seconds, 0 }, { seconds, 0 } };
	struct sigaction act = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };

	the.closing = closing;
	check_on_failure(on_failed_check, NULL);
	check(sigaltstack(&alt, NULL) == 0);
	for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++)
		check(sigaction(fatal[i], &act, NULL) == 0);
	act = (struct sigaction){ .sa_handler = on_tick, .sa_flags = SA_ONSTACK | SA_RESTART };
	check(sigaction(SIGALRM, &act, NULL) == 0);
	check(setitimer(ITIMER_REAL, &every, NULL) == 0);
}
