/* SPDX-License-Identifier: Apache-2.0 */
#include "meta/states_kit.h"
#include "base/check.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEEN_SLOTS = 1 << 22 };
enum { CUT_MASK, CUT_PREFIX, CUT_BUT_ONE, CUT_ONLY_ONE, CUT_DRAWN };

struct states *the_states;
static const struct states_test *test;
static struct states_found *seen;
static uint32_t n_seeds = 1;

void states_wrong(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "script \"%s\", next \"%s\": ", the_states->script, the_states->at);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	abort();
}

/* ---- one state ---- */
static bool keep(void *arg, uint32_t i)
{
	struct states *st = arg;

	switch (st->how) {
	case CUT_MASK:
		return i >= 64 || (st->mask >> i & 1);
	case CUT_PREFIX:
		return i < st->only;
	case CUT_BUT_ONE:
		return i != st->only;
	case CUT_ONLY_ONE:
		return i == st->only;
	default:
		return prng_next(&st->p) & 1;
	}
}

static bool keep_none(void *arg, uint32_t i)
{
	return false;
}

static void run_reader(struct states *st, sim_main_fn *main_fn)
{
	sim_node_start(st->reader, main_fn, st);
	sim_run(st->b, sim_now_ns(st->b) + 100 * SYS_SEC);
	if (sim_node_up(st->reader))
		states_wrong("the opening does not end");
}

/* Opens the state on the reader's disk, unless that was done before. */
static const struct states_found *open_state(struct states *st)
{
	uint64_t key = (sim_disk_sum(st->reader) ^ st->salt * 0x9e3779b97f4a7c15u) | 1;
	struct states_found *slot = &seen[key % SEEN_SLOTS];
	uint64_t sign;

	while (slot->key != 0 && slot->key != key)
		slot = slot + 1 < seen + SEEN_SLOTS ? slot + 1 : seen;
	if (slot->key != 0)
		return slot;
	check(st->n_seen++ < SEEN_SLOTS - SEEN_SLOTS / 8);
	run_reader(st, test->open);
	*slot = st->found;
	slot->key = key;
	/* what was found stays, and what is then written to it */
	(void)sim_disk_cut(st->reader, keep_none, NULL);
	run_reader(st, test->go);
	sign = st->found.sign;
	(void)sim_disk_cut(st->reader, keep_none, NULL);
	run_reader(st, test->open);
	if (st->found.sign != sign)
		states_wrong("opened, gone on from, it opens to something else");
	return slot;
}

static uint32_t cut(struct states *st, int how, uint64_t mask, uint32_t only, bool kept)
{
	uint32_t n;

	st->how = how;
	st->mask = mask;
	st->only = only;
	sim_disk_copy(st->reader, st->writer);
	n = sim_disk_cut(st->reader, keep, st);
	st->n_cuts++;
	test->judge(st, open_state(st), kept);
	return n;
}

/* All that a power cut may leave here; first, what the death of the process leaves. */
static void all_states(struct states *st)
{
	uint32_t n = cut(st, CUT_MASK, UINT64_MAX, 0, st->kept);
	uint32_t least = cut(st, CUT_MASK, 0, 0, false);

	st->n_points++;
	n = n < least ? least : n;
	if (n <= STATES_BITS) {
		for (uint64_t mask = 1; mask + 1 < UINT64_C(1) << n; mask++)
			cut(st, CUT_MASK, mask, 0, false);
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		cut(st, CUT_PREFIX, 0, i, false);
		cut(st, CUT_BUT_ONE, 0, i, false);
		cut(st, CUT_ONLY_ONE, 0, i, false);
	}
	for (uint32_t i = 0; i < STATES_DRAWN; i++)
		cut(st, CUT_DRAWN, 0, 0, false);
}

/* ---- scripts ---- */
static void play(struct states *st, const char *setup, const char *script, uint64_t seed)
{
	static const struct sim_faults f = { .disk_op_max_ns = 20 * SYS_US };
	size_t from = *script == '\0' ? 0 : strlen(setup);
	uint64_t ops = 0;

	st->p = prng_fork(seed, 1);
	st->a = sim_new(seed, &f);
	st->writer = sim_node_add(st->a, "a", test->disk_bytes);
	st->kept = false;
	st->salt = 0;
	check(strlen(setup) + strlen(script) < sizeof st->script);
	memcpy(st->script, setup, strlen(setup));
	memcpy(st->script + strlen(setup), script, strlen(script) + 1);
	st->at = st->script;
	test->begin(st);
	for (bool more = true; more;) {
		st->ending = false;
		sim_node_start(st->writer, test->write, st);
		while (sim_node_up(st->writer) && !st->ending && sim_step(st->a)) {
			if (ops == sim_disk_ops(st->writer))
				continue;
			ops = sim_disk_ops(st->writer);
			if (st->at >= st->script + from)
				all_states(st);
		}
		check(st->ending || sim_node_result(st->writer) == 0);
		sim_node_kill(st->writer);
		check(!sim_node_up(st->writer));
		more = *st->at != '\0';
		st->power = *st->at == 'w';
		st->at += more;
		st->kept = !st->power;
		st->how = CUT_DRAWN;
		if (st->power)
			(void)sim_disk_cut(st->writer, keep, st);
	}
	sim_free(st->a);
}

static void play_all(struct states *st, const char *setup, uint32_t len, uint32_t every)
{
	const uint32_t n_ops = (uint32_t)strlen(test->operations);
	char script[STATES_OPS_MAX + 1] = "";
	uint32_t n = 1;

	for (uint32_t i = 0; i < len; i++)
		n *= n_ops;
	for (uint32_t i = 0; i < n; i += every) {
		for (uint32_t k = 0, at = i; k < len; k++, at /= n_ops)
			script[k] = test->operations[at % n_ops];
		for (uint32_t seed = 0; seed < n_seeds; seed++)
			play(st, setup, script, 1 + i + ((uint64_t)seed << 32));
	}
}

int states_main(int argc, char **argv, const struct states_test *t)
{
	uint32_t len = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1;
	struct states *st = the_states = calloc(1, sizeof *st);

	test = t;
	if (argc > 2)
		n_seeds = (uint32_t)strtoul(argv[2], NULL, 10);
	check(len <= STATES_OPS_MAX);
	check(st != NULL);
	seen = calloc(SEEN_SLOTS, sizeof *seen);
	check(seen != NULL);
	st->b = sim_new(1, &sim_no_faults);
	st->reader = sim_node_add(st->b, "b", t->disk_bytes);
	for (size_t i = 0; t->setups[i] != NULL; i++) {
		for (uint32_t k = 0; k <= len; k++)
			play_all(st, t->setups[i], k, 1);
		for (uint32_t k = 2; argc == 1 && k <= STATES_OPS_MAX; k++)
			play_all(st, t->setups[i], k, t->sample_of[k - 2]);
	}
	sim_free(st->b);
	printf("%llu points, %llu cuts, %llu distinct states\n", (unsigned long long)st->n_points,
		(unsigned long long)st->n_cuts, (unsigned long long)st->n_seen);
	len = st->n_seen >= t->least ? 0 : 1;
	free(seen);
	free(st);
	return argc == 1 ? (int)len : 0;
}
