/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever comes and goes: nothing is promised above the band, all is given back, weights are
 * whole, and no server is opened that is not needed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/hash.h"
#include "base/prng.h"
#include "core/pack_kit_test.h"
#include <stdlib.h>
#include <string.h>

/* ---- against the best there is ---- */
enum { TINY = 8 };

static unsigned __int128 part_of(const struct pack_room *gap, const struct pack_room *need)
{
	unsigned __int128 a = ((unsigned __int128)gap->bytes << 50) / need->bytes,
			  b = ((unsigned __int128)gap->bps << 50) / need->bps;

	return a < b ? a : b;
}

/* The fewest unused servers that take what the used ones (the first so many) do not. */
static int fewest(const struct pack_room *gaps, int used, const struct pack_room *need)
{
	int best = TINY + 1;

	for (uint32_t set = 0; set < 1u << (TINY - used); set++) {
		unsigned __int128 sum = 0;

		for (int i = 0; i < TINY; i++)
			if (i < used || (set >> (i - used) & 1) != 0)
				sum += part_of(&gaps[i], need);
		if (sum >= (unsigned __int128)1 << 50 && __builtin_popcount(set) < best)
			best = __builtin_popcount(set);
	}
	return best;
}

static void no_choice_opens_fewer_servers(void **state)
{
	struct prng r = prng_fork(7, 1);
	int compared = 0, split = 0;

	(void)state;
	for (int round = 0; round < 3000; round++) {
		struct pack *p = pack_new(&whole);
		struct pack_room gaps[TINY];
		int used = (int)prng_below(&r, 4), best, opened = 0;
		struct job j = job_of(1000 + prng_below(&r, 400000), 0);

		j.ask.need.bps = 1000 + prng_below(&r, 400000);
		for (int i = 0; i < TINY; i++) {
			struct pack_share one = { .server = (uint32_t)i + 1 };

			gaps[i].bytes = 10000 + prng_below(&r, 90000);
			gaps[i].bps = 10000 + prng_below(&r, 90000);
			add(p, one.server, 0, gaps[i].bytes, gaps[i].bps);
			if (i >= used)
				continue;
			one.bytes = prng_below(&r, gaps[i].bytes * 9 / 10);
			one.bps = 1 + prng_below(&r, gaps[i].bps * 9 / 10);
			assert_int_equal(pack_take(p, &one, 1), 0);
			gaps[i].bytes -= one.bytes;
			gaps[i].bps -= one.bps;
		}
		best = fewest(gaps, used, &j.ask.need);
		place(p, &j);
		for (uint32_t i = 0; i < j.n; i++)
			opened += j.shares[i].server > (uint32_t)used && j.shares[i].bytes > 0;
		if (best <= TINY) {
			assert_int_equal(opened, best);
			assert_true(j.plan.lack.bytes == 0 && j.plan.lack.bps == 0);
			compared++;
			split += best > 1;
		}
		pack_free(p);
	}
	assert_true(compared > 1500);
	assert_true(split > 500);
}

/* Jobs one after another, against all of them known before: each server then can have an equal part
 * of each job, so the sums decide. */
static void waste_of_not_knowing_the_future_is_bounded(void **state)
{
	struct prng r = prng_fork(7, 2);
	uint64_t used = 0, best = 0;

	(void)state;
	for (int round = 0; round < 300; round++) {
		struct pack *p = pack_new(&whole);
		struct pack_room sum = { 0, 0 };
		struct pack_sum now;
		uint64_t least;

		for (uint32_t id = 1; id <= 40; id++)
			add(p, id, 0, 100000, 100000);
		for (int i = 0; i < 40; i++) {
			struct job j = job_of(1 + prng_below(&r, 50000), 1 + prng_below(&r, 50000));

			place(p, &j);
			assert_true(j.plan.lack.bytes == 0);
			sum.bytes += j.ask.need.bytes;
			sum.bps += j.ask.need.bps;
		}
		pack_sum(p, &now);
		least = ((sum.bytes > sum.bps ? sum.bytes : sum.bps) + 99999) / 100000;
		assert_true(now.in_use <= 2 * least);
		used += now.in_use;
		best += least;
		pack_free(p);
	}
	assert_true(used * 100 <= best * 125);
}

/* ---- random traces ---- */
enum { JOBS = 40, SERVERS = 30 };

static const struct pack_limits small = { SERVERS + 10, 600, 800 };

struct trace {
	struct prng r;
	struct pack *p;
	struct job jobs[JOBS];
	struct pack_share shares[JOBS][SHARES];
	struct pack_server servers[SERVERS + 1];
	uint64_t digest;
	bool quiet; /* no loads and no changes: the band holds at every moment */
};

static void change_server(struct trace *t)
{
	uint32_t id = 1 + (uint32_t)prng_below(&t->r, SERVERS);
	struct pack_server *s = &t->servers[id];
	uint64_t what = prng_below(&t->r, 12);

	if (s->server != 0 && t->quiet)
		what = 2 + prng_below(&t->r, 8);
	if (s->server == 0 || what == 0) {
		*s = (struct pack_server){ .server = id, .stays = prng_odds(&t->r, 1, 8) };
		s->net_bps = prng_odds(&t->r, 1, 2) ? 0 : 1000 + prng_below(&t->r, 100000);
		for (int tier = 0; tier < TIER_COUNT; tier++)
			if (prng_odds(&t->r, 1, 2)) {
				s->tiers[tier].bytes = 1000 + prng_below(&t->r, 1000000);
				s->tiers[tier].bps = prng_below(&t->r, 100000);
			}
	}
	if (what == 1) {
		pack_server_gone(t->p, id);
		s->server = 0;
		return;
	}
	s->state = (uint8_t)(what < 7 ? PACK_UP : what - 6 > PACK_OUT ? PACK_UP : what - 6);
	assert_int_equal(pack_server(t->p, s), 0);
}

static void tell_load(struct trace *t)
{
	uint32_t id = 1 + (uint32_t)prng_below(&t->r, SERVERS);
	struct pack_load l = { .net_bps = prng_below(&t->r, 100000) };

	l.cpu_permille = (uint16_t)prng_below(&t->r, 1001);
	for (int tier = 0; tier < TIER_COUNT; tier++) {
		l.used[tier].bytes = prng_below(&t->r, 500000);
		l.used[tier].bps = prng_below(&t->r, 50000);
	}
	pack_load(t->p, id, &l);
}

static void one_job(struct trace *t)
{
	uint64_t at = prng_below(&t->r, JOBS);
	struct job *j = &t->jobs[at];
	bool changed;
	uint64_t was;

	if (!j->live) {
		*j = job_of(prng_below(&t->r, 600000), prng_below(&t->r, 60000));
		j->shares = t->shares[at];
		j->ask.job = prng_next(&t->r);
		j->ask.n_firm = 1 + (uint8_t)prng_below(&t->r, 3);
		j->ask.grows = prng_odds(&t->r, 1, 2);
		j->ask.types = types;
		j->ask.n_types = 2;
		place(t->p, j);
	} else if (prng_odds(&t->r, 1, 3)) {
		pack_give(t->p, j->shares, j->n);
		j->live = false;
		j->n = 0;
	} else if (prng_odds(&t->r, 1, 2)) {
		place(t->p, j);
	} else {
		was = digest(j, j->n);
		changed = pack_steer(t->p, &j->ask, j->shares, &j->n, SHARES, &j->plan);
		assert_true(changed == (was != digest(j, j->n)));
	}
}

/* A restart: only servers and rows are left. */
static void begin_anew(struct trace *t)
{
	struct pack *p = pack_new(&small);
	struct pack_sum a, b;

	for (int i = 0; i < JOBS; i++)
		if (t->jobs[i].live)
			assert_int_equal(pack_take(p, t->jobs[i].shares, t->jobs[i].n), 0);
	for (uint32_t id = 1; id <= SERVERS; id++)
		if (t->servers[id].server != 0)
			assert_int_equal(pack_server(p, &t->servers[id]), 0);
	pack_sum(t->p, &a);
	pack_sum(p, &b);
	assert_memory_equal(a.promised, b.promised, sizeof a.promised);
	assert_memory_equal(a.band, b.band, sizeof a.band);
	pack_free(t->p);
	t->p = p;
}

static void look_job(struct trace *t, struct job *j)
{
	uint64_t sum = weights(j->shares, j->n);

	assert_true(sum == 0 || sum == PACK_ONE);
	for (uint32_t i = 0; i < j->n; i++)
		for (uint32_t k = 0; k < i; k++)
			assert_true(j->shares[i].server != j->shares[k].server ||
				    j->shares[i].tier != j->shares[k].tier);
	t->digest = digest(j, t->digest);
}

static void look(struct trace *t)
{
	struct pack_room promised[SERVERS + 1][TIER_COUNT] = { 0 }, room;

	pack_audit(t->p);
	for (int i = 0; i < JOBS; i++) {
		struct job *j = &t->jobs[i];

		look_job(t, j);
		for (uint32_t k = 0; k < j->n; k++) {
			const struct pack_share *s = &j->shares[k];

			promised[s->server][s->tier].bytes += s->bytes;
			promised[s->server][s->tier].bps += s->bps;
		}
	}
	for (uint32_t id = 1; id <= SERVERS; id++) {
		const struct pack_server *s = &t->servers[id];
		uint64_t net = 0;

		for (uint8_t tier = 0; tier < TIER_COUNT; tier++) {
			if (!pack_promised(t->p, id, tier, &room))
				room = (struct pack_room){ 0, 0 };
			assert_memory_equal(&room, &promised[id][tier], sizeof room);
			net += room.bps;
			assert_true(!t->quiet || room.bytes <= s->tiers[tier].bytes * 8 / 10);
			assert_true(!t->quiet || room.bps <= s->tiers[tier].bps * 8 / 10);
		}
		assert_true(!t->quiet || s->net_bps == 0 || net <= s->net_bps * 8 / 10);
	}
}

static uint64_t run(uint64_t seed, bool quiet)
{
	static struct trace t;
	struct pack_sum end;

	memset(&t, 0, sizeof t);
	t.r = prng_fork(seed, 3);
	t.quiet = quiet;
	t.p = pack_new(&small);
	for (int i = 0; i < JOBS; i++)
		t.jobs[i].shares = t.shares[i];
	for (int i = 0; i < 400; i++) {
		uint64_t what = prng_below(&t.r, 10);

		if (what < 2)
			change_server(&t);
		else if (what < 4 && !quiet)
			tell_load(&t);
		else if (what == 4 && prng_odds(&t.r, 1, 10))
			begin_anew(&t);
		else
			one_job(&t);
		look(&t);
	}
	for (int i = 0; i < JOBS; i++)
		pack_give(t.p, t.jobs[i].shares, t.jobs[i].n);
	pack_sum(t.p, &end);
	for (int tier = 0; tier < TIER_COUNT; tier++)
		assert_true(end.promised[tier].bytes == 0 && end.promised[tier].bps == 0);
	pack_audit(t.p);
	pack_free(t.p);
	return t.digest;
}

static void whatever_comes_and_goes(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 60; seed++) {
		uint64_t once = run(seed, seed % 2 == 0);

		if (seed % 10 == 0)
			assert_true(run(seed, seed % 2 == 0) == once);
	}
}

/* ---- ten thousand ---- */
static void ten_thousand_servers(void **state)
{
	static const struct pack_limits limits = { MANY, 600, 800 };
	struct pack_share *shares = calloc(MANY, sizeof *shares);
	struct pack *p = pack_new(&limits);
	struct prng r = prng_fork(7, 4);
	static struct job small_jobs[50];
	struct job big = job_of(0, 0);
	struct pack_sum now;
	uint32_t n = 0;

	(void)state;
	for (uint32_t id = 1; id <= MANY; id++)
		add(p, id, TIER_DRAM, 50 * GB + prng_below(&r, 20 * GB), GB);
	for (int i = 0; i < 50; i++) {
		small_jobs[i] = job_of(prng_below(&r, 100 * GB), prng_below(&r, 4 * GB));
		place(p, &small_jobs[i]);
	}
	pack_sum(p, &now);
	assert_true(now.in_use < 50 * 4);
	big.ask.need.bps = now.band[TIER_DRAM].bps - now.promised[TIER_DRAM].bps - 5 * GB;
	big.ask.need.bytes = big.ask.need.bps * 10;
	pack_place(p, &big.ask, shares, &n, MANY, &big.plan);
	assert_true(n > MANY - 250);
	assert_true(big.plan.lack.bps < big.ask.need.bps / 1000);
	assert_true(weights(shares, n) == PACK_ONE);
	for (uint32_t i = 0; i < n; i++) /* even the least of them is not lost */
		assert_true(shares[i].weight > 0 || shares[i].bps < GB / 1000);
	pack_audit(p);
	pack_give(p, shares, n);
	for (int i = 0; i < 50; i++)
		pack_give(p, small_jobs[i].shares, small_jobs[i].n);
	pack_sum(p, &now);
	assert_true(now.in_use == 0 && now.promised[TIER_DRAM].bytes == 0);
	pack_free(p);
	free(shares);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_choice_opens_fewer_servers),
		cmocka_unit_test(waste_of_not_knowing_the_future_is_bounded),
		cmocka_unit_test(whatever_comes_and_goes),
		cmocka_unit_test(ten_thousand_servers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
