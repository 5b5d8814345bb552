/* SPDX-License-Identifier: Apache-2.0 */
/* One job after another: where it goes, what it asks for, and how it is steered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/hints.h"
#include "core/pack_kit_test.h"
#include <string.h>

/* ---- one after the other ---- */
static void the_fullest_that_has_room_for_all_is_taken(void **state)
{
	struct pack *p = pack_new(&whole);
	struct job a = job_of(50, 50), b = job_of(20, 20), c = job_of(40, 10), d = job_of(60, 60),
		   e = job_of(40, 40);

	(void)state;
	for (uint32_t id = 1; id <= 4; id++)
		add(p, id, TIER_DRAM, 100, 100);
	place(p, &a);
	expect(&a, 1, 50, 50);
	place(p, &b);
	expect(&b, 1, 20, 20);
	place(p, &d); /* nowhere whole: what is left of 1, and no more than one other */
	assert_int_equal(d.n, 2);
	expect(&d, 1, 30, 30);
	expect(&d, 2, 30, 30);
	place(p, &c);
	expect(&c, 2, 40, 10);
	assert_int_equal(weights(d.shares, d.n), PACK_ONE);
	assert_int_equal(d.shares[0].weight, PACK_ONE / 2);
	pack_give(p, a.shares, a.n);
	e.ask.job = 1;
	place(p, &e); /* 2 is fuller than 1, and has no room for all */
	expect(&e, 1, 40, 40);
	pack_free(p);
}

static void the_scarcer_of_both_decides_how_much_goes_where(void **state)
{
	struct pack *p = pack_new(&whole);
	struct job j = job_of(90, 60);

	(void)state;
	add(p, 1, TIER_DRAM, 30, 100); /* a third of the room */
	add(p, 2, TIER_DRAM, 100, 30); /* half of the throughput */
	add(p, 3, TIER_DRAM, 16, 11);  /* a sixth is left for it */
	place(p, &j);
	expect(&j, 1, 30, 20);
	expect(&j, 2, 45, 30);
	expect(&j, 3, 15, 10);
	assert_true(j.plan.lack.bytes == 0 && j.plan.lack.bps == 0);
	pack_free(p);
}

static void tiers_of_one_server_share_its_network(void **state)
{
	struct pack *p = pack_new(&whole);
	struct pack_server s = { .server = 9, .state = PACK_UP, .net_bps = 10,
		.tiers = { { 100, 10 }, { 1000, 10 } } };
	struct job a = job_of(50, 8), b = job_of(100, 4);

	(void)state;
	assert_int_equal(pack_server(p, &s), 0);
	place(p, &a);
	expect(&a, 9, 50, 8);
	b.ask.tiers[0] = TIER_FLASH;
	b.ask.n_tiers = b.ask.n_firm = 1;
	place(p, &b);
	expect(&b, 9, 50, 2);
	assert_true(b.plan.lack.bps == 2 && b.plan.lack.bytes == 50);
	pack_free(p);
}

static void start(struct pack *p, const struct job *j, uint32_t *id, uint8_t state)
{
	for (uint32_t t = 0; t < j->ask.n_types; t++)
		for (uint32_t i = 0; i < j->plan.more[t]; i++) {
			struct pack_server s = { .server = (*id)++, .state = state,
				.net_bps = j->ask.types[t].net_bps };

			memcpy(s.tiers, j->ask.types[t].tiers, sizeof s.tiers);
			assert_int_equal(pack_server(p, &s), 0);
		}
}

static void what_does_not_fit_is_asked_for_by_type(void **state)
{
	struct pack *p = pack_new(&whole);
	struct job j = job_of(150, 250), other = job_of(20, 40);
	uint32_t id = 2;

	(void)state;
	add(p, 1, TIER_DRAM, 100, 100);
	j.ask.types = other.ask.types = types;
	j.ask.n_types = other.ask.n_types = 2;
	place(p, &j); /* does not grow */
	assert_int_equal(j.plan.more[0] + j.plan.more[1], 0);
	j.ask.grows = other.ask.grows = true;
	place(p, &j); /* 2 of memory for 20, or 3 of flash for 24 */
	assert_int_equal(j.plan.more[0], 2);
	assert_int_equal(j.plan.more[1], 0);
	assert_true(j.plan.lack.bps == 150);
	assert_int_equal(weights(j.shares, j.n), PACK_ONE);
	start(p, &j, &id, PACK_COMING);
	place(p, &j);
	assert_true(j.plan.lack.bps == 0);
	assert_int_equal(j.plan.coming, 2);
	assert_int_equal(j.plan.more[0], 0);
	assert_int_equal(share_on(&j, 2)->weight + share_on(&j, 3)->weight, 0);
	place(p, &other); /* shares what is coming, and starts nothing */
	assert_int_equal(other.plan.coming, 1);
	assert_int_equal(other.plan.more[0] + other.plan.more[1], 0);
	for (uint32_t s = 2; s < id; s++)
		add(p, s, TIER_DRAM, 100, 100);
	place(p, &j);
	assert_int_equal(j.plan.coming, 0);
	assert_true(share_on(&j, 3)->weight > 0);
	assert_int_equal(weights(j.shares, j.n), PACK_ONE);
	pack_free(p);
}

static void more_than_can_be_started_goes_to_the_other_tiers(void **state)
{
	struct pack *p = pack_new(&whole);
	struct job j = job_of(700, 70);

	(void)state;
	add(p, 1, TIER_DRAM, 100, 100);
	add(p, 2, TIER_FLASH, 1000, 50);
	j.ask.types = types;
	j.ask.n_types = 2;
	j.ask.grows = true;
	j.ask.n_firm = 1; /* memory, before anything else */
	place(p, &j);
	assert_int_equal(j.plan.more[0], 5);
	assert_int_equal(j.plan.more[1], 0); /* has none */
	expect(&j, 1, 100, 10);
	expect(&j, 2, 100, 10);
	assert_true(j.plan.lack.bytes == 500);
	pack_give(p, j.shares, j.n);
	j.n = 0;
	j.ask.n_firm = 3; /* whatever is there first */
	place(p, &j);
	expect(&j, 2, 500, 50);
	assert_int_equal(j.plan.more[0], 0); /* one of flash is the cheaper */
	assert_int_equal(j.plan.more[1], 1);
	pack_free(p);
}

static void who_was_promised_nothing_is_spread(void **state)
{
	struct pack *p = pack_new(&whole);
	struct job j = job_of(0, 0), full = job_of(3000, 3000), late = job_of(50, 50);

	(void)state;
	place(p, &j);
	assert_int_equal(j.n, 0); /* there is no server */
	for (uint32_t id = 1; id <= 30; id++)
		add(p, id, TIER_DRAM, 100, 100);
	pack_server(p, &(struct pack_server){ .server = 31, .state = PACK_DRAIN,
			       .tiers = { { 100, 100 } } });
	j.ask.job = 25;
	place(p, &j);
	assert_int_equal(j.n, PACK_SPREAD_MAX);
	assert_null(share_on(&j, 31));
	assert_int_equal(weights(j.shares, j.n), PACK_ONE);
	place(p, &full);
	assert_int_equal(full.n, 30);
	place(p, &late);
	assert_true(late.plan.lack.bytes == 50);
	assert_int_equal(weights(late.shares, late.n), PACK_ONE);
	pack_give(p, late.shares, late.n);
	pack_give(p, full.shares, full.n);
	pack_give(p, j.shares, j.n);
	place(p, &late); /* as if it had never been full */
	assert_int_equal(late.n, 1);
	pack_free(p);
}

static void what_lacks_is_spread_when_it_is_the_most(void **state)
{
	struct pack *p = pack_new(&whole);
	struct job full = job_of(280, 280), j = job_of(100, 100), most = job_of(15, 15);

	(void)state;
	for (uint32_t id = 1; id <= 3; id++)
		add(p, id, TIER_DRAM, 100, 100);
	place(p, &full);
	place(p, &j); /* a fifth has room */
	assert_int_equal(j.n, 3);
	assert_int_equal(j.shares[0].weight, PACK_ONE / 5);
	assert_int_equal(weights(j.shares, j.n), PACK_ONE);
	pack_give(p, j.shares, j.n);
	pack_give(p, full.shares, full.n);
	full.ask.need.bytes = full.ask.need.bps = 290;
	full.n = 0;
	place(p, &full);
	place(p, &most); /* two thirds have */
	assert_int_equal(most.n, 1);
	assert_int_equal(most.shares[0].weight, PACK_ONE);
	pack_free(p);
}

static void use(struct pack *p, uint32_t server, uint64_t both)
{
	struct pack_share s = { .server = server, .bytes = both, .bps = both };

	assert_int_equal(pack_take(p, &s, 1), 0);
}

static void the_order_of_choice(void **state)
{
	struct pack *p = pack_new(&whole);
	struct job j = job_of(100, 100), k = job_of(190, 190), l = job_of(60, 60);

	(void)state;
	for (uint32_t id = 1; id <= 3; id++)
		add(p, id, TIER_DRAM, 100, 100);
	add(p, 4, TIER_DRAM, 10000, 10000);
	use(p, 1, 20);
	use(p, 2, 70);
	use(p, 3, 60);
	use(p, 4, 9950); /* as good as full */
	place(p, &j);
	expect(&j, 2, 30, 30);
	expect(&j, 3, 40, 40);
	expect(&j, 1, 30, 30);
	assert_null(share_on(&j, 4));
	add(p, 5, TIER_DRAM, 110, 110);
	add(p, 6, TIER_DRAM, 150, 150);
	add(p, 7, TIER_DRAM, 100, 100);
	place(p, &k); /* what is left of 1, the largest of the others */
	assert_int_equal(k.n, 2);
	expect(&k, 1, 50, 50);
	expect(&k, 6, 140, 140);
	add(p, 8, TIER_DRAM, 90, 90);
	add(p, 9, TIER_DRAM, 70, 70);
	use(p, 6, 10);
	place(p, &l); /* the smallest that has room for all */
	assert_int_equal(l.n, 1);
	expect(&l, 9, 60, 60);
	pack_give(p, l.shares, l.n);
	l.n = 0;
	l.ask.need.bytes = l.ask.need.bps = 175;
	place(p, &l); /* the largest, and for the rest the smallest that does */
	assert_int_equal(l.n, 2);
	expect(&l, 5, 110, 110);
	expect(&l, 9, 65, 65);
	pack_free(p);
}

static void fast_devices_behind_a_slow_network(void **state)
{
	struct pack *p = pack_new(&whole);
	struct job j = job_of(60, 150);

	(void)state;
	for (uint32_t id = 1; id <= 2; id++)
		pack_server(p, &(struct pack_server){ .server = id, .state = PACK_UP,
				       .net_bps = 100, .tiers = { { 100, 10000 } } });
	place(p, &j);
	expect(&j, 1, 40, 100);
	expect(&j, 2, 20, 50);
	pack_free(p);
}

static void never_more_shares_than_there_is_room_for(void **state)
{
	struct pack *p = pack_new(&whole);
	struct job j = job_of(150, 150), still = job_of(10, 10);

	(void)state;
	add(p, 1, TIER_DRAM, 100, 100);
	add(p, 2, TIER_DRAM, 100, 100);
	j.ask.types = types;
	j.ask.n_types = 2;
	j.ask.grows = true;
	pack_place(p, &j.ask, j.shares, &j.n, 1, &j.plan);
	assert_int_equal(j.n, 1);
	assert_true(j.plan.lack.bytes == 50);
	assert_int_equal(j.plan.more[0] + j.plan.more[1], 0);
	assert_int_equal(j.shares[0].weight, PACK_ONE);
	pack_server_gone(p, 2);
	pack_server(p, &(struct pack_server){ .server = 3, .state = PACK_COMING,
			       .tiers = { { 100, 100 } } });
	place(p, &still); /* who does not wait is not put where nothing is yet */
	assert_null(share_on(&still, 3));
	assert_true(still.plan.lack.bytes == 10);
	pack_free(p);
}

static void what_persists_goes_to_servers_that_stay(void **state)
{
	struct pack *p = pack_new(&whole);
	struct pack_server s = { .server = 7, .state = PACK_UP, .stays = true,
		.tiers = { [TIER_FLASH] = { 1000, 100 } } };
	struct job j = job_of(10, 10), big = job_of(2000, 10);

	(void)state;
	add(p, 1, TIER_FLASH, 1000, 100);
	assert_int_equal(pack_server(p, &s), 0);
	place(p, &j); /* it runs in any case */
	expect(&j, 7, 10, 10);
	big.ask.stays = true;
	place(p, &big);
	assert_int_equal(big.n, 1);
	assert_true(big.plan.lack.bytes == 1010);
	pack_free(p);
}

static void what_was_measured_counts_as_taken(void **state)
{
	struct pack *p = pack_new(NULL); /* 60 to 80 % */
	struct job j = job_of(500, 10), k = job_of(10, 10);

	(void)state;
	add(p, 1, TIER_DRAM, 1000, 1000);
	add(p, 2, TIER_DRAM, 1000, 1000);
	pack_load(p, 1, &(struct pack_load){ .used = { { 700, 0 } } });
	place(p, &j);
	expect(&j, 1, 100, 2);
	expect(&j, 2, 400, 8);
	/* the fuller one, and there is room, but its processor is busy */
	pack_load(p, 1, &(struct pack_load){ .used = { { 700, 0 } }, .cpu_permille = 801 });
	pack_give(p, j.shares, j.n);
	place(p, &k);
	expect(&k, 2, 10, 10);
	pack_load(p, 99, &(struct pack_load){ .cpu_permille = 1 }); /* nobody knows it */
	pack_free(p);
}

static void foreign_figures_are_refused(void **state)
{
	static const struct pack_limits two = { 2, 600, 800 };
	struct pack *p = pack_new(&two);
	struct pack_share rows[] = { { .server = 1, .bytes = 5, .bps = 5 },
		{ .server = 2, .tier = TIER_COUNT, .bytes = 5 } };
	struct pack_server s = { .server = 3, .state = PACK_UP };
	struct pack_room room;

	(void)state;
	assert_int_equal(pack_take(p, rows, 2), E_CORRUPT);
	assert_true(pack_promised(p, 1, 0, &room));
	assert_true(room.bytes == 0 && room.bps == 0);
	rows[1] = (struct pack_share){ .server = 2, .bytes = PACK_BYTES_MAX + 1 };
	assert_int_equal(pack_take(p, rows, 2), E_CORRUPT);
	rows[1] = (struct pack_share){ .server = 0, .bytes = 1 };
	assert_int_equal(pack_take(p, rows, 2), E_CORRUPT);
	rows[1] = (struct pack_share){ .server = 2, .bytes = 1 };
	assert_int_equal(pack_take(p, rows, 2), 0);
	assert_int_equal(pack_server(p, &s), E_FULL);
	s.server = 2;
	s.tiers[TIER_DISK].bytes = PACK_BYTES_MAX + 1;
	assert_int_equal(pack_server(p, &s), E_TOOBIG);
	s.tiers[TIER_DISK].bytes = 0;
	s.net_bps = UINT64_MAX;
	assert_int_equal(pack_server(p, &s), E_TOOBIG);
	pack_server_gone(p, 1); /* stays until nothing is promised there */
	assert_int_equal(pack_server(p, &(struct pack_server){ .server = 3 }), E_FULL);
	pack_give(p, rows, 2);
	assert_int_equal(pack_server(p, &(struct pack_server){ .server = 3 }), 0);
	pack_audit(p);
	pack_free(p);
}

/* ---- the paper's hints, to servers ---- */
static const struct pack_type rented[] = {
	{ .tiers = { { 61 * GB, GB } }, .net_bps = GB, .price = 532, .left = MANY },
	{ .tiers = { { 60 * GB, GB }, { 1900 * GB, GB } }, .net_bps = GB, .price = 624,
		.left = MANY },
	{ .tiers = { [TIER_DISK] = { 2000 * GB, GB / 25 } }, .net_bps = GB, .price = 468,
		.left = MANY },
};

/* What has to be rented by the hour for it, on a cluster of its own. */
static uint64_t rent(enum hints_policy policy, struct hints h)
{
	static const struct pack_limits limits = { 200, 600, 1000 };
	struct hints_have have = { .type = { { 61 * GB, GB, 532 }, { 1900 * GB, GB, 624 },
					   { 2000 * GB, GB / 25, 468 } } };
	static struct pack_share shares[600];
	struct pack *p = pack_new(&limits);
	struct hints_reason why;
	struct hints_need need;
	struct job j = { .shares = shares };
	uint64_t price = 0;
	uint32_t id = 1;

	hints_size(policy, &h, NULL, &have, &need, &why);
	j.ask = (struct pack_ask){ .need = { need.capacity.value, need.bandwidth.value },
		.n_tiers = need.n_tiers, .n_firm = need.n_firm, .grows = need.grows,
		.types = rented, .n_types = 3 };
	memcpy(j.ask.tiers, need.tiers, sizeof need.tiers);
	for (int round = 0; round < 3; round++) {
		pack_place(p, &j.ask, shares, &j.n, 600, &j.plan);
		for (uint32_t t = 0; t < 3; t++)
			price += j.plan.more[t] * rented[t].price;
		start(p, &j, &id, PACK_UP);
	}
	assert_true(j.plan.lack.bytes == 0 && j.plan.lack.bps == 0);
	assert_true(price == 0 || weights(shares, j.n) == PACK_ONE);
	pack_free(p);
	return price;
}

static void hints_of_figure_8_rent_less_and_less(void **state)
{
	struct hints h = { .latency = LATENCY_ANY };
	uint64_t none = rent(HINTS_POCKET2018, h), workers, cheap, all;

	(void)state;
	assert_true(none == 50 * 624);
	h.lambdas = 250;
	workers = rent(HINTS_POCKET2018, h); /* 18.75 servers: .375; the figure has .351 */
	assert_true(workers == 19 * 624);
	h.latency = LATENCY_INSENSITIVE;
	cheap = rent(HINTS_POCKET2018, h); /* the same servers without their memory */
	assert_true(cheap == 20 * 624);
	h.capacity_bytes = 12 * GB;
	h.bandwidth_bps = 3 * GB;
	all = rent(HINTS_POCKET2018, h);
	assert_true(all == 3 * 624);
	h.latency = LATENCY_ANY;
	assert_true(rent(HINTS_POCKET2018, h) == 3 * 532); /* memory has the throughput too */
	h = (struct hints){ .capacity_bytes = 12 * GB };
	assert_true(rent(HINTS_POCKET2018, h) == 532);
	h = (struct hints){ .bandwidth_bps = 3 * GB };
	assert_true(rent(HINTS_POCKET2018, h) == 3 * 624);
	assert_true(rent(HINTS_WADI, h) == 3 * 532); /* no capacity was asked for */
	h = (struct hints){ .lambdas = 250 };
	assert_true(rent(HINTS_WADI, h) == 19 * 532);
	assert_true(rent(HINTS_WADI, (struct hints){ 0 }) == 0);
}

/* ---- steering ---- */
/* Each server's load is what the job puts on it, and what others do. */
static void measure(struct pack *p, const struct job *j, uint32_t n, const uint16_t *others)
{
	for (uint32_t id = 1; id <= n; id++) {
		const struct pack_share *s = share_on(j, id);
		uint64_t mine = s != NULL ? (uint64_t)s->weight * 1200 / PACK_ONE : 0;
		struct pack_load l = { .cpu_permille = 0 };

		l.used[TIER_DRAM].bps = (mine + others[id]) * 1000;
		pack_load(p, id, &l);
	}
}

static void new_data_goes_to_servers_that_have_little_to_do(void **state)
{
	static const uint16_t others[] = { 0, 300, 0, 0 };
	struct pack *p = pack_new(NULL);
	struct job j = job_of(600000, 600000);
	uint32_t before, steps = 0;

	(void)state;
	add(p, 1, TIER_DRAM, 1000000, 1000000);
	add(p, 2, TIER_DRAM, 1000000, 1000000);
	place(p, &j);
	assert_int_equal(j.n, 1);
	measure(p, &j, 2, others); /* far above what it said */
	before = share_on(&j, 1)->weight;
	assert_true(pack_steer(p, &j.ask, j.shares, &j.n, SHARES, &j.plan));
	assert_true(share_on(&j, 1)->weight < before);
	assert_false(pack_steer(p, &j.ask, j.shares, &j.n, SHARES, &j.plan)); /* not measured yet */
	add(p, 3, TIER_DRAM, 1000000, 1000000); /* came later, and is used by the same job */
	for (measure(p, &j, 3, others); pack_steer(p, &j.ask, j.shares, &j.n, SHARES, &j.plan);
		measure(p, &j, 3, others))
		assert_true(++steps < 20); /* it comes to rest */
	assert_non_null(share_on(&j, 3));
	assert_true(weights(j.shares, j.n) == PACK_ONE);
	assert_true((uint64_t)share_on(&j, 1)->weight * 1200 / PACK_ONE + 300 <= 800);
	pack_give(p, j.shares, j.n);
	pack_audit(p);
	pack_free(p);
}

static void only_from_above_the_band_to_below_it(void **state)
{
	static const uint16_t between[] = { 0, 0, 700 }, low[] = { 0, 0, 500, 100 };
	struct pack *p = pack_new(NULL);
	struct job j = job_of(600000, 600000);

	(void)state;
	add(p, 1, TIER_DRAM, 1000000, 1000000);
	add(p, 2, TIER_DRAM, 1000000, 1000000);
	place(p, &j);
	measure(p, &j, 2, between);
	assert_false(pack_steer(p, &j.ask, j.shares, &j.n, SHARES, &j.plan));
	add(p, 3, TIER_DRAM, 1000000, 1000000);
	measure(p, &j, 3, low);
	assert_true(pack_steer(p, &j.ask, j.shares, &j.n, SHARES, &j.plan));
	assert_null(share_on(&j, 2));
	expect(&j, 3, 150000, 150000);
	pack_free(p);
}

static void who_leaves_gets_nothing_more(void **state)
{
	struct pack *p = pack_new(&whole);
	struct job j = job_of(150, 150), tight = job_of(100, 100);
	struct pack_sum now;
	struct pack_room room;

	(void)state;
	for (uint32_t id = 1; id <= 3; id++)
		add(p, id, TIER_DRAM, 100, 100);
	place(p, &j);
	assert_int_equal(j.n, 2);
	pack_server(p, &(struct pack_server){ .server = 1, .state = PACK_DRAIN,
			       .tiers = { { 100, 100 } } });
	place(p, &j);
	assert_int_equal(share_on(&j, 1)->weight, 0);
	assert_int_equal(weights(j.shares, j.n), PACK_ONE);
	assert_true(pack_steer(p, &j.ask, j.shares, &j.n, SHARES, &j.plan));
	assert_null(share_on(&j, 1));
	assert_true(j.plan.lack.bytes == 0);
	assert_int_equal(weights(j.shares, j.n), PACK_ONE);
	assert_true(pack_promised(p, 1, TIER_DRAM, &room));
	assert_true(room.bytes == 0 && room.bps == 0);
	assert_false(pack_steer(p, &j.ask, j.shares, &j.n, SHARES, &j.plan));
	place(p, &tight);
	assert_null(share_on(&tight, 1));
	assert_true(tight.plan.lack.bytes == 50);
	pack_server_gone(p, 1);
	pack_sum(p, &now);
	assert_int_equal(now.servers, 2);
	pack_server_gone(p, 2); /* with what is promised there */
	pack_steer(p, &j.ask, j.shares, &j.n, SHARES, &j.plan);
	pack_steer(p, &tight.ask, tight.shares, &tight.n, SHARES, &tight.plan);
	pack_sum(p, &now);
	assert_int_equal(now.servers, 1);
	pack_audit(p);
	pack_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_fullest_that_has_room_for_all_is_taken),
		cmocka_unit_test(the_scarcer_of_both_decides_how_much_goes_where),
		cmocka_unit_test(tiers_of_one_server_share_its_network),
		cmocka_unit_test(what_does_not_fit_is_asked_for_by_type),
		cmocka_unit_test(more_than_can_be_started_goes_to_the_other_tiers),
		cmocka_unit_test(who_was_promised_nothing_is_spread),
		cmocka_unit_test(what_lacks_is_spread_when_it_is_the_most),
		cmocka_unit_test(the_order_of_choice),
		cmocka_unit_test(fast_devices_behind_a_slow_network),
		cmocka_unit_test(never_more_shares_than_there_is_room_for),
		cmocka_unit_test(what_persists_goes_to_servers_that_stay),
		cmocka_unit_test(what_was_measured_counts_as_taken),
		cmocka_unit_test(foreign_figures_are_refused),
		cmocka_unit_test(hints_of_figure_8_rent_less_and_less),
		cmocka_unit_test(new_data_goes_to_servers_that_have_little_to_do),
		cmocka_unit_test(only_from_above_the_band_to_below_it),
		cmocka_unit_test(who_leaves_gets_nothing_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
