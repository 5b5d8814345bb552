/* SPDX-License-Identifier: Apache-2.0 */
/* Each kind of hint leads where the tables in core/README.md say, alone and with others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/hints.h"
#include "base/limit.h"
#include "base/prng.h"
#include <string.h>

#define GB UINT64_C(1000000000)

static const struct hints_tier all[TIER_COUNT] = {
	[TIER_DRAM] = { 4 * GB, 8 * GB, 1 },
	[TIER_FLASH] = { 100 * GB, GB, 1 },
	[TIER_DISK] = { 1000 * GB, GB / 25, 1 },
};

static const char *order(const struct hints *h, const struct hints_tier have[TIER_COUNT])
{
	static char text[TIER_COUNT + 1];
	uint8_t tiers[TIER_COUNT], n = hints_order(h, have, tiers);

	memset(text, 0, sizeof text);
	for (uint8_t i = 0; i < n; i++)
		text[i] = "mfd"[tiers[i]];
	return text;
}

static void memory_first_unless_told_otherwise(void **state)
{
	(void)state;
	assert_string_equal(order(&(struct hints){ 0 }, all), "mfd");
	assert_string_equal(order(&(struct hints){ .latency = LATENCY_SENSITIVE }, all), "mfd");
	assert_string_equal(order(&(struct hints){ .tiers = TIER_BIT(TIER_FLASH) }, all), "f");
}

static void insensitive_takes_the_cheapest_that_suffices(void **state)
{
	struct hints h = { .latency = LATENCY_INSENSITIVE };

	(void)state;
	assert_string_equal(order(&h, all), "dfm");
	h.bandwidth_bps = GB / 2; /* more than disks give */
	assert_string_equal(order(&h, all), "fdm");
	h.bandwidth_bps = 0;
	h.lambdas = 10; /* 0.75 GB/s */
	assert_string_equal(order(&h, all), "fdm");
	h.lambdas = 1000; /* more than anything but memory gives */
	assert_string_equal(order(&h, all), "fdm");
	h.lambdas = 0;
	h.capacity_bytes = 2000 * GB; /* no tier has it alone: the fastest */
	assert_string_equal(order(&h, all), "fdm");
	h.tiers = TIER_BIT(TIER_DRAM);
	assert_string_equal(order(&h, all), "m");
}

static void a_tier_without_devices_is_left_out(void **state)
{
	struct hints_tier have[TIER_COUNT];

	(void)state;
	memcpy(have, all, sizeof have);
	have[TIER_FLASH].devices = 0;
	assert_string_equal(order(&(struct hints){ 0 }, have), "md");
	have[TIER_DISK].devices = 0;
	assert_string_equal(order(&(struct hints){ .latency = LATENCY_INSENSITIVE }, have), "m");
	have[TIER_DRAM].devices = 0;
	assert_string_equal(order(&(struct hints){ 0 }, have), "");
}

/* ---- the paper's table ---- */
static const struct hints_have made_to_fit = {
	.type = { { 61 * GB, GB, 532 }, { 1900 * GB, GB, 624 }, { 2000 * GB, GB / 25, 468 } },
};

static struct hints_need sized(enum hints_policy policy, struct hints h,
	const struct hints_profile *p, const struct hints_have *have)
{
	struct hints_reason why;
	struct hints_need n;

	assert_int_equal(hints_check(&h, have->ever, NULL), 0);
	hints_size(policy, &h, p, have, &n, &why);
	return n;
}

static void expect(struct hints_need n, uint64_t bytes, uint64_t bps, const char *tiers)
{
	assert_true(n.capacity.value == bytes);
	assert_true(n.bandwidth.value == bps);
	assert_int_equal(n.n_tiers, strlen(tiers));
	for (uint8_t i = 0; i < n.n_tiers; i++)
		assert_int_equal("mfd"[n.tiers[i]], tiers[i]);
}

static struct hints_need pocket(struct hints h)
{
	struct hints_need n = sized(HINTS_POCKET2018, h, NULL, &made_to_fit);

	assert_true(n.grows && n.waits);
	assert_int_equal(n.n_firm, h.latency == LATENCY_INSENSITIVE ? 1 : 2);
	return n;
}

static void each_hint_of_the_paper_alone(void **state)
{
	(void)state;
	expect(pocket((struct hints){ 0 }), 50 * 1960 * GB, 50 * GB, "mf");
	expect(pocket((struct hints){ .latency = LATENCY_SENSITIVE }), 50 * 1960 * GB, 50 * GB,
		"mf");
	expect(pocket((struct hints){ .latency = LATENCY_INSENSITIVE }), 50 * 1960 * GB, 50 * GB,
		"fd");
	/* 100 workers at 0.6 Gb/s are 7.5 servers of 8 Gb/s */
	expect(pocket((struct hints){ .lambdas = 100 }), 75 * 196 * GB, 75 * GB / 10, "mf");
	expect(pocket((struct hints){ .capacity_bytes = 1960 * GB }), 1960 * GB, GB, "mf");
	expect(pocket((struct hints){ .bandwidth_bps = 2 * GB }), 2 * 1960 * GB, 2 * GB, "mf");
}

static void hints_of_the_paper_together(void **state)
{
	struct hints h = { .latency = LATENCY_INSENSITIVE, .lambdas = 100 };

	(void)state;
	expect(pocket(h), 75 * 196 * GB, 75 * GB / 10, "fd");
	h.capacity_bytes = 12 * GB; /* stands before what the workers amount to */
	expect(pocket(h), 12 * GB, 12 * GB / 1960, "fd");
	h.bandwidth_bps = 3 * GB;
	expect(pocket(h), 12 * GB, 3 * GB, "fd");
	h.capacity_bytes = 0;
	expect(pocket(h), 3 * 1960 * GB, 3 * GB, "fd");
	h = (struct hints){ .latency = LATENCY_INSENSITIVE, .capacity_bytes = 100 * GB,
		.bandwidth_bps = GB / 1000 }; /* hardly any throughput: the disk is the cheaper */
	expect(pocket(h), 100 * GB, GB / 1000, "df");
}

/* What a job costs in an hour when servers are shared in parts, in 1/1000 of a dollar. */
static uint64_t price(struct hints h)
{
	struct hints_need n = pocket(h);
	const struct hints_type *t = &made_to_fit.type[n.tiers[0]];
	unsigned __int128 by_bytes = (unsigned __int128)n.capacity.value * t->price * 1000 /
				     t->capacity_bytes;
	unsigned __int128 by_bps = (unsigned __int128)n.bandwidth.value * t->price * 1000 /
				   t->bandwidth_bps;

	return (uint64_t)((by_bytes > by_bps ? by_bytes : by_bps) / 1000);
}

/* Figure 8: none; the number of workers; not latency-sensitive; capacity and throughput. */
static void every_hint_makes_a_job_cheaper(void **state)
{
	struct hints jobs[] = {
		{ .lambdas = 250, .capacity_bytes = 12 * GB, .bandwidth_bps = 3 * GB }, /* sort */
		{ .lambdas = 350, .capacity_bytes = 18 * GB, .bandwidth_bps = 5 * GB / 2 },
		{ .lambdas = 550, .capacity_bytes = 4 * GB, .bandwidth_bps = GB },
	};

	(void)state;
	for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
		struct hints h = { .lambdas = 0 };
		uint64_t none = price(h), workers, cheap, all_hints;

		h.lambdas = jobs[i].lambdas;
		workers = price(h);
		h.latency = LATENCY_INSENSITIVE;
		cheap = price(h);
		h.capacity_bytes = jobs[i].capacity_bytes;
		h.bandwidth_bps = jobs[i].bandwidth_bps;
		all_hints = price(h);
		assert_true(workers < none);
		assert_true(cheap < workers);
		assert_true(all_hints < cheap);
		assert_true(all_hints * 20 < none);
	}
}

/* ---- our own ---- */
static const struct hints_have busy = {
	.now = { { 4 * GB, 8 * GB, 1 }, { 100 * GB, GB, 1 }, { 1000 * GB, GB / 25, 1 } },
	.type = { { 61 * GB, GB, 532 }, { 1900 * GB, GB, 624 }, { 2000 * GB, GB / 25, 468 } },
	.ever = { { 400 * GB, 80 * GB }, { 9000 * GB, 9 * GB }, { 9000 * GB, GB } },
};

static struct hints_need wadi(struct hints h) { return sized(HINTS_WADI, h, NULL, &busy); }

static void nothing_said_takes_a_share_and_never_waits(void **state)
{
	static const struct hints_have nothing;
	struct hints_need n = wadi((struct hints){ 0 });

	(void)state;
	expect(n, GB / 2, GB, "mfd");
	assert_false(n.grows || n.waits);
	n = wadi((struct hints){ .latency = LATENCY_SENSITIVE });
	expect(n, GB / 2, GB, "mfd");
	assert_int_equal(n.n_firm, 1);
	n = wadi((struct hints){ .latency = LATENCY_INSENSITIVE });
	expect(n, 125 * GB, GB / 200, "dfm");
	assert_false(n.grows || n.waits);
	n = sized(HINTS_WADI, (struct hints){ 0 }, NULL, &nothing);
	expect(n, 0, 0, "");
	assert_false(n.grows || n.waits);
}

static void what_was_said_stands_and_the_rest_is_bounded(void **state)
{
	struct hints_need n = wadi((struct hints){ .capacity_bytes = GB / 10 });

	(void)state;
	expect(n, GB / 10, GB / 5, "mfd"); /* a fortieth of both */
	assert_true(n.grows && n.waits);
	assert_int_equal(n.n_firm, 3);
	n = wadi((struct hints){ .capacity_bytes = 300 * GB });
	expect(n, 300 * GB, GB, "mfd");
	assert_int_equal(n.bandwidth.bound, BOUND_SHARE);
	n = wadi((struct hints){ .bandwidth_bps = 20 * GB });
	expect(n, GB / 2, 20 * GB, "mfd");
	n = wadi((struct hints){ .lambdas = 40 });
	expect(n, GB / 2, 3 * GB, "mfd");
	assert_int_equal(n.bandwidth.from, FROM_WORKERS);
	n = wadi((struct hints){ .lambdas = 9, .capacity_bytes = GB, .bandwidth_bps = 7 });
	expect(n, GB, 7, "mfd");
	n = wadi((struct hints){ .lambdas = 40, .quota_bytes = GB / 4 });
	expect(n, GB / 4, 3 * GB, "mfd");
	assert_int_equal(n.capacity.bound, BOUND_QUOTA);
	n = wadi((struct hints){ .lambdas = LIMIT_LAMBDAS_MAX });
	assert_true(n.bandwidth.value == 90 * GB);
	assert_int_equal(n.bandwidth.bound, BOUND_EVER);
	n = wadi((struct hints){ .lambdas = 1000, .tiers = TIER_BIT(TIER_DISK) });
	expect(n, 125 * GB, GB, "d");
}

static void what_is_not_there_can_be_started(void **state)
{
	struct hints_have have = busy;
	struct hints h = { .latency = LATENCY_INSENSITIVE, .capacity_bytes = 20 * GB,
		.bandwidth_bps = 2 * GB };

	(void)state;
	expect(sized(HINTS_WADI, h, NULL, &have), 20 * GB, 2 * GB, "fdm"); /* by price */
	memset(have.now, 0, sizeof have.now);
	expect(sized(HINTS_WADI, h, NULL, &have), 20 * GB, 2 * GB, "fdm");
	expect(sized(HINTS_WADI, (struct hints){ 0 }, NULL, &have), 0, 0, "");
	memset(have.type, 0, sizeof have.type);
	expect(sized(HINTS_WADI, h, NULL, &have), 20 * GB, 2 * GB, "");
}

/* ---- learned ---- */
static void earlier_runs_say_what_was_not_said(void **state)
{
	struct hints_profile p = { 0 };
	struct hints_reason why;
	struct hints_need n;

	(void)state;
	hints_learn(&p, &(struct hints_run){ 8 * GB, 4 * GB, 60000, 100 });
	n = sized(HINTS_WADI, (struct hints){ 0 }, &p, &busy);
	expect(n, 10 * GB, 5 * GB, "mfd");
	assert_true(n.grows);
	assert_false(n.waits); /* nobody asked for it */
	n = sized(HINTS_WADI, (struct hints){ .capacity_bytes = GB }, &p, &busy);
	expect(n, GB, 5 * GB, "mfd");
	assert_true(n.waits);
	n = sized(HINTS_WADI, (struct hints){ .bandwidth_bps = GB }, &p, &busy);
	expect(n, 10 * GB, GB, "mfd");
	n = sized(HINTS_WADI, (struct hints){ .lambdas = 50 }, &p, &busy); /* half of them */
	expect(n, 10 * GB, 5 * GB / 2, "mfd");
	n = sized(HINTS_WADI, (struct hints){ .quota_bytes = 9 * GB }, &p, &busy);
	expect(n, 9 * GB, 5 * GB, "mfd");
	hints_size(HINTS_POCKET2018, &(struct hints){ 0 }, &p, &made_to_fit, &n, &why);
	expect(n, 50 * 1960 * GB, 50 * GB, "mf");
	assert_int_equal(why.profile.runs, 0);
}

static void a_profile_rises_at_once_and_falls_slowly(void **state)
{
	struct hints_profile p = { 0 };

	(void)state;
	hints_learn(&p, &(struct hints_run){ 800, 80, 8, 8 });
	hints_learn(&p, &(struct hints_run){ 400, 160, 8, 0 });
	assert_true(p.peak_bytes == 700 && p.peak_bps == 160 && p.workers == 6 && p.runs == 2);
	for (int i = 0; i < 100; i++)
		hints_learn(&p, &(struct hints_run){ 400, 160, 8, 0 });
	assert_true(p.peak_bytes >= 400 && p.peak_bytes < 404);
	p.peak_bytes = p.peak_bps = UINT64_MAX;
	p.runs = UINT32_MAX;
	hints_learn(&p, &(struct hints_run){ 0 });
	assert_int_equal(p.runs, UINT32_MAX);
	p.peak_bytes = p.peak_bps = UINT64_MAX;
	expect(sized(HINTS_WADI, (struct hints){ .lambdas = 1000 }, &p, &busy), 18400 * GB,
		90 * GB, "mfd");
	p.peak_bytes = UINT64_MAX / 5 * 4 + 3; /* with a quarter more it would be a small number */
	expect(sized(HINTS_WADI, (struct hints){ .lambdas = 1000 }, &p, &busy), 18400 * GB,
		90 * GB, "mfd");
}

/* ---- refused ---- */
static void refused(struct hints h, int rc, const char *words)
{
	struct err_note note = { "" };

	assert_int_equal(hints_check(&h, busy.ever, &note), rc);
	if (strstr(note.text, words) == NULL)
		fail_msg("%s", note.text);
}

static void absurd_hints_are_refused_with_the_limit(void **state)
{
	(void)state;
	refused((struct hints){ .said = SAID_WORKERS }, E_INVALID, "workers 0: at least 1");
	refused((struct hints){ .said = SAID_CAPACITY }, E_INVALID, "capacity in bytes 0");
	refused((struct hints){ .said = SAID_BANDWIDTH }, E_INVALID, "bandwidth in bytes per");
	refused((struct hints){ .lambdas = (uint32_t)-3 }, E_TOOBIG, "workers -3: not below 0");
	refused((struct hints){ .lambdas = LIMIT_LAMBDAS_MAX + 1 }, E_TOOBIG,
		"at most 1000000 (LAMBDAS_MAX)");
	refused((struct hints){ .capacity_bytes = (uint64_t)-5 }, E_TOOBIG,
		"bytes -5: not below 0");
	refused((struct hints){ .capacity_bytes = HINTS_BYTES_MAX + 1 }, E_TOOBIG,
		"at most 1152921504606846976 (HINTS_BYTES_MAX)");
	refused((struct hints){ .bandwidth_bps = HINTS_BPS_MAX + 1 }, E_TOOBIG, "HINTS_BPS_MAX");
	refused((struct hints){ .quota_bytes = HINTS_BYTES_MAX + 1 }, E_TOOBIG, "quota in bytes");
	refused((struct hints){ .capacity_bytes = 18400 * GB + 1 }, E_TOOBIG,
		"18400000000001: at most 18400000000000 (what the cluster may ever have");
	refused((struct hints){ .capacity_bytes = 401 * GB, .tiers = TIER_BIT(TIER_DRAM) },
		E_TOOBIG, "at most 400000000000");
	refused((struct hints){ .bandwidth_bps = 91 * GB }, E_TOOBIG, "may ever have");
	refused((struct hints){ .latency = 3 }, E_INVALID, "latency hint 3");
	refused((struct hints){ .tiers = 8 }, E_INVALID, "tiers 0x8");
	refused((struct hints){ .latency = LATENCY_SENSITIVE, .tiers = TIER_BIT(TIER_DISK) },
		E_INVALID, "only disk is allowed");
	refused((struct hints){ .capacity_bytes = 2, .quota_bytes = 1 }, E_INVALID,
		"bytes 2, but the job's quota is 1");
	assert_int_equal(hints_check(&(struct hints){ .capacity_bytes = HINTS_BYTES_MAX },
				 made_to_fit.ever, NULL), 0); /* not known what may be */
}

/* ---- words ---- */
static void says(struct hints h, const struct hints_profile *p, const char *words)
{
	char text[HINTS_TEXT_BYTES];
	struct hints_reason why;
	struct hints_need n;
	size_t len;

	hints_size(HINTS_WADI, &h, p, &busy, &n, &why);
	len = hints_say(&why, text, sizeof text);
	assert_int_equal(len, strlen(text));
	assert_true(len + 1 < sizeof text); /* nothing was cut */
	assert_string_equal(text, words);
	for (size_t cap = 0; cap < len; cap++) {
		char *less = test_malloc(cap); /* so that one byte more is found out */

		assert_int_equal(hints_say(&why, less, cap), cap > 0 ? cap - 1 : 0);
		test_free(less);
	}
}

static void it_is_told_in_words(void **state)
{
	struct hints_profile p = { 0 };

	(void)state;
	says((struct hints){ 0 }, NULL,
		"capacity 500.0 MB: nothing was said: an eighth of what is free\n"
		"throughput 1.0 GB/s: nothing was said: an eighth of what is free\n"
		"tiers dram flash disk: nothing said against memory\n"
		"takes what there is\n");
	says((struct hints){ .latency = LATENCY_INSENSITIVE, .lambdas = 2 }, NULL,
		"capacity 12.5 GB: as a server has beside the throughput; at most an eighth of "
		"what is free\n"
		"throughput 150.0 MB/s: 2 workers, 0.6 Gb/s each\n"
		"tiers flash disk dram: latency does not matter: the cheapest that has it free\n"
		"waits for servers that are started for it\n");
	hints_learn(&p, &(struct hints_run){ 8 * GB, 4 * GB, 60000, 100 });
	says((struct hints){ .latency = LATENCY_SENSITIVE }, &p,
		"capacity 10.0 GB: learned from 1 earlier run, with a quarter to spare\n"
		"throughput 5.0 GB/s: learned from 1 earlier run, with a quarter to spare\n"
		"tiers dram flash disk: latency matters\n"
		"earlier runs: 60 s, 100 workers, 8.0 GB at most, 4.0 GB/s\n"
		"servers may be started for it; it does not wait for them\n");
}

/* ---- whatever is said ---- */
static uint64_t some(struct prng *p, uint64_t max)
{
	uint64_t shift = prng_below(p, 51), v = prng_below(p, max >> shift);

	return prng_odds(p, 1, 3) ? 0 : v;
}

static void no_figure_is_beyond_its_bounds(void **state)
{
	struct prng r = prng_fork(4, 1);

	(void)state;
	for (int i = 0; i < 20000; i++) {
		struct hints h = { .latency = (uint8_t)prng_below(&r, 3) };
		struct hints_profile p = { .runs = (uint32_t)prng_below(&r, 3) };
		struct hints_have have = busy;
		char text[HINTS_TEXT_BYTES];
		struct hints_reason why;
		struct hints_need n;

		h.tiers = (uint8_t)prng_below(&r, 8);
		h.lambdas = (uint32_t)some(&r, LIMIT_LAMBDAS_MAX);
		h.capacity_bytes = some(&r, HINTS_BYTES_MAX);
		h.bandwidth_bps = some(&r, HINTS_BPS_MAX);
		h.quota_bytes = some(&r, HINTS_BYTES_MAX);
		p.peak_bytes = some(&r, UINT64_MAX);
		p.peak_bps = some(&r, UINT64_MAX);
		p.workers = (uint32_t)some(&r, UINT32_MAX);
		for (int t = 0; t < TIER_COUNT; t++)
			have.now[t].free_bytes = some(&r, HINTS_BYTES_MAX);
		if (hints_check(&h, have.ever, NULL) < 0)
			continue;
		hints_size(prng_odds(&r, 1, 2) ? HINTS_WADI : HINTS_POCKET2018, &h, &p, &have, &n,
			&why);
		assert_true(n.capacity.value <= 18400 * GB);
		assert_true(n.bandwidth.value <= 90 * GB);
		assert_true(h.quota_bytes == 0 || n.capacity.value <= h.quota_bytes);
		assert_true(h.capacity_bytes == 0 || n.capacity.value == h.capacity_bytes);
		assert_true(h.bandwidth_bps == 0 || n.bandwidth.value == h.bandwidth_bps);
		assert_true(n.n_firm <= n.n_tiers);
		assert_true(n.grows || !n.waits);
		assert_true(hints_say(&why, text, sizeof text) + 1 < sizeof text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_first_unless_told_otherwise),
		cmocka_unit_test(insensitive_takes_the_cheapest_that_suffices),
		cmocka_unit_test(a_tier_without_devices_is_left_out),
		cmocka_unit_test(each_hint_of_the_paper_alone),
		cmocka_unit_test(hints_of_the_paper_together),
		cmocka_unit_test(every_hint_makes_a_job_cheaper),
		cmocka_unit_test(nothing_said_takes_a_share_and_never_waits),
		cmocka_unit_test(what_was_said_stands_and_the_rest_is_bounded),
		cmocka_unit_test(what_is_not_there_can_be_started),
		cmocka_unit_test(earlier_runs_say_what_was_not_said),
		cmocka_unit_test(a_profile_rises_at_once_and_falls_slowly),
		cmocka_unit_test(absurd_hints_are_refused_with_the_limit),
		cmocka_unit_test(it_is_told_in_words),
		cmocka_unit_test(no_figure_is_beyond_its_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
