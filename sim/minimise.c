/* SPDX-License-Identifier: Apache-2.0 */
/* Minimised schedules.  Each try is a process of its own, for a run may end in a failed check: it
 * says through a pipe which rule it broke and what there was to leave out.
 *
 * Leaving something out shifts what is drawn later, so a smaller run is another run; it counts when
 * it breaks the same rule. */
#include "base/check.h"
#include "sim/run.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RULE_BYTES = 200, TRY_SECONDS = 30, WORKERS_BITS = 64, TEXT_BYTES = 2000 };

const char *const less_faults[] = {
#define FAULT(name) #name,
#include "sim/faults.def"
#undef FAULT
	NULL,
};

/* What a try says; it goes through the pipe as it is. */
struct said {
	char rule[RULE_BYTES], seen[RULE_BYTES];
	uint32_t n_misfortunes, n_rounds;
	uint64_t workers;
};
static struct {
	const struct scenario_row *row;
	uint64_t seed;
	uint32_t runs, runs_max;
	int pipe;
	struct said base;
	struct less best;
} the;

/* ---- words ---- */
/* "3" or "5-9". */
static bool less_range(const char *word, size_t len, struct less *less)
{
	unsigned long from, to;
	char *end;

	from = to = strtoul(word, &end, 10);
	if (*end == '-')
		to = strtoul(end + 1, &end, 10);
	if (end != word + len || from > to || to >= LESS_MISFORTUNES_MAX)
		return false;
	for (; from <= to; from++)
		less->misfortunes[from / 64] |= UINT64_C(1) << from % 64;
	return true;
}

/* "name=N" with N from least to most. */
static bool less_number(const char *word, size_t len, const char *name, unsigned long least,
	unsigned long most, unsigned long *ret_n)
{
	size_t before = strlen(name);
	unsigned long n;
	char *end;

	if (len <= before || strncmp(word, name, before) != 0)
		return false;
	n = strtoul(word + before, &end, 10);
	if (end != word + len || n < least || n > most)
		return false;
	*ret_n = n;
	return true;
}

static bool less_word(const char *word, size_t len, struct less *less)
{
	unsigned long n;

	if (*word >= '0' && *word <= '9')
		return less_range(word, len, less);
	if (less_number(word, len, "rounds=", 1, UINT32_MAX, &n)) {
		less->rounds = (uint32_t)n;
		return true;
	}
	if (less_number(word, len, "worker=", 0, WORKERS_BITS - 1, &n)) {
		less->workers |= UINT64_C(1) << n;
		return true;
	}
	for (unsigned i = 0; less_faults[i] != NULL; i++)
		if (strlen(less_faults[i]) == len && strncmp(word, less_faults[i], len) == 0) {
			less->faults |= 1u << i;
			return true;
		}
	return false;
}

bool less_parse(const char *text, struct less *ret_less)
{
	struct less less = { 0 };

	for (const char *word = text; *word != '\0';) {
		size_t len = strcspn(word, ",");

		if (!less_word(word, len, &less))
			return false;
		word += len + (word[len] == ',');
	}
	*ret_less = less;
	return true;
}

static bool is_spared(const struct less *less, uint32_t i)
{
	return i < LESS_MISFORTUNES_MAX && (less->misfortunes[i / 64] >> i % 64 & 1);
}

void less_print(const struct less *less, char *to, size_t bytes)
{
	FILE *f = fmemopen(to, bytes, "w");
	const char *comma = "";

	check(f != NULL);
	for (uint32_t i = 0, last; i < LESS_MISFORTUNES_MAX; i++) {
		if (!is_spared(less, i))
			continue;
		for (last = i; is_spared(less, last + 1);)
			last++;
		fprintf(f, last > i ? "%s%u-%u" : "%s%u", comma, i, last);
		i = last;
		comma = ",";
	}
	for (unsigned i = 0; less_faults[i] != NULL; i++)
		if (less->faults >> i & 1) {
			fprintf(f, "%s%s", comma, less_faults[i]);
			comma = ",";
		}
	for (unsigned i = 0; i < WORKERS_BITS; i++)
		if (less->workers >> i & 1) {
			fprintf(f, "%sworker=%u", comma, i);
			comma = ",";
		}
	if (less->rounds > 0)
		fprintf(f, "%srounds=%u", comma, less->rounds);
	fclose(f);
}

/* ---- one try ---- */
static struct said child;

/* Which check it was: from what the process has said before it dies. */
static void read_check(void)
{
	char said[2048];
	ssize_t n = pread(2, said, sizeof said - 1, 0);
	char *line;

	said[n > 0 ? n : 0] = '\0';
	line = strstr(said, "check failed");
	if (line != NULL)
		snprintf(child.seen, sizeof child.seen, "%.*s", (int)strcspn(line, "\n"), line);
}

static void on_told(const char *rule, const char *seen)
{
	if (child.rule[0] != '\0')
		return;
	snprintf(child.rule, sizeof child.rule, "%s", rule);
	snprintf(child.seen, sizeof child.seen, "%s", seen);
	if (strcmp(rule, RULE_CHECK) == 0)
		read_check();
}

/* Also when the process is about to die: by then on_told() has been called. */
static void send_child(void)
{
	(void)!write(the.pipe, &child, sizeof child);
}

static _Noreturn void try_in_child(const struct less *less, bool tell)
{
	struct run_opts o = { .less = less, .tell = tell, .told = on_told, .stack_pattern = -1 };
	FILE *said = tell ? NULL : tmpfile();
	struct run_result r;

	if (said != NULL)
		dup2(fileno(said), 2);
	run_watch(TRY_SECONDS, send_child);
	run_once(the.row, the.seed, &o, &r);
	fflush(stdout);
	child.n_misfortunes = r.n_misfortunes;
	child.n_rounds = r.n_rounds;
	child.workers = r.workers;
	send_child();
	_exit(0);
}

static struct said try(const struct less *less, bool tell)
{
	struct said said = { .rule = "" };
	int fds[2], status;
	pid_t pid;

	fflush(stdout);
	check(pipe(fds) == 0);
	pid = fork();
	check(pid >= 0);
	if (pid == 0) {
		close(fds[0]);
		the.pipe = fds[1];
		try_in_child(less, tell);
	}
	close(fds[1]);
	if (read(fds[0], &said, sizeof said) != sizeof said)
		memset(&said, 0, sizeof said);
	close(fds[0]);
	check(waitpid(pid, &status, 0) == pid);
	the.runs++;
	return said;
}

/* Keeps what is left out, when the rule is still broken. */
static bool keep(const struct less *less)
{
	struct said said;

	if (the.runs >= the.runs_max)
		return false;
	said = try(less, false);
	if (strcmp(said.rule, the.base.rule) != 0)
		return false;
	if (strcmp(said.rule, RULE_CHECK) == 0 && strcmp(said.seen, the.base.seen) != 0)
		return false;
	if (said.n_misfortunes > 0)
		the.base.n_misfortunes = said.n_misfortunes;
	memcpy(the.base.seen, said.seen, sizeof said.seen);
	the.best = *less;
	if (isatty(2))
		fprintf(stderr, "\r%u runs\033[K", the.runs);
	return true;
}

/* ---- what to leave out ---- */
static bool fewer_rounds(void)
{
	uint32_t from = the.best.rounds > 0 ? the.best.rounds : the.base.n_rounds;
	bool any = false;

	for (uint32_t step = from / 2; step > 0;) {
		struct less less = the.best;

		less.rounds = from - step;
		if (less.rounds > 0 && keep(&less)) {
			from = less.rounds;
			any = true;
			step = step < from ? step : from / 2;
		} else {
			step /= 2;
		}
	}
	return any;
}

/* Runs of misfortunes, half as many each time. */
static bool fewer_misfortunes(void)
{
	uint32_t n = the.base.n_misfortunes;
	bool any = false;

	n = n < LESS_MISFORTUNES_MAX ? n : LESS_MISFORTUNES_MAX;
	for (uint32_t step = n; step > 0; step /= 2) {
		for (uint32_t from = 0; from < n; from += step) {
			struct less less = the.best;

			for (uint32_t i = from; i < from + step && i < n; i++)
				less.misfortunes[i / 64] |= UINT64_C(1) << i % 64;
			if (memcmp(&less, &the.best, sizeof less) != 0 && keep(&less))
				any = true;
		}
	}
	return any;
}

static bool fewer_others(void)
{
	struct less less = the.best;
	bool any;

	less.faults = (1u << (sizeof less_faults / sizeof less_faults[0] - 1)) - 1;
	any = less.faults != the.best.faults && keep(&less);
	for (unsigned i = 0; less_faults[i] != NULL && the.best.faults != less.faults; i++) {
		struct less one = the.best;

		one.faults |= 1u << i;
		any = (one.faults != the.best.faults && keep(&one)) || any;
	}
	for (unsigned i = 0; i < WORKERS_BITS; i++) {
		struct less one = the.best;

		if (!(the.base.workers >> i & 1))
			continue;
		one.workers |= UINT64_C(1) << i;
		any = (one.workers != the.best.workers && keep(&one)) || any;
	}
	return any;
}

int minimise(const struct scenario_row *row, uint64_t seed, uint32_t runs_max)
{
	char text[TEXT_BYTES] = "";
	bool any = true;

	the.row = row;
	the.seed = seed;
	the.runs_max = runs_max;
	the.base = try(&the.best, false);
	if (the.base.rule[0] == '\0') {
		printf("seed %llu of %s breaks no rule\n", (unsigned long long)seed, row->name);
		return 1;
	}
	while (any && the.runs < the.runs_max) {
		any = fewer_rounds();
		any = fewer_misfortunes() || any;
		any = fewer_others() || any;
	}
	if (isatty(2))
		fputs("\r\033[K", stderr);
	less_print(&the.best, text, sizeof text);
	printf("seed %llu of %s, after %u runs, still breaks\n  rule: %s\n  seen: %s\nwhen this "
	       "happens:\n",
		(unsigned long long)seed, row->name, the.runs, the.base.rule, the.base.seen);
	(void)try(&the.best, true);
	printf("again: wadi-sim --scenario %s --seed %llu%s%s --trace\n", row->name,
		(unsigned long long)seed, text[0] != '\0' ? " --less " : "", text);
	return 0;
}
