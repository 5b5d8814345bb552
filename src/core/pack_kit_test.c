/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/pack_kit_test.h"
#include "base/hash.h"

const struct pack_limits whole = { 64, 600, 1000 };

const struct pack_type types[2] = {
	{ .tiers = { { 100, 100 } }, .price = 10, .left = 5 },
	{ .tiers = { { 0, 0 }, { 1000, 50 } }, .price = 8, .left = 5 },
};

void add(struct pack *p, uint32_t id, uint8_t tier, uint64_t bytes, uint64_t bps)
{
	struct pack_server s = { .server = id, .state = PACK_UP };

	s.tiers[tier] = (struct pack_room){ bytes, bps };
	assert_int_equal(pack_server(p, &s), 0);
}

struct job job_of(uint64_t bytes, uint64_t bps)
{
	static struct pack_share pool[128][SHARES];
	static uint32_t at;

	return (struct job){ .shares = pool[at++ % 128], .ask = { .need = { bytes, bps },
				     .tiers = { TIER_DRAM, TIER_FLASH, TIER_DISK },
				     .n_tiers = 3,
				     .n_firm = 3 } };
}

const struct pack_share *share_on(const struct job *j, uint32_t server)
{
	for (uint32_t i = 0; i < j->n; i++)
		if (j->shares[i].server == server)
			return &j->shares[i];
	return NULL;
}

uint64_t weights(const struct pack_share *shares, uint32_t n)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += shares[i].weight;
	return sum;
}

void place(struct pack *p, struct job *j)
{
	struct pack_room got = { 0, 0 };

	pack_place(p, &j->ask, j->shares, &j->n, SHARES, &j->plan);
	j->live = true;
	for (uint32_t i = 0; i < j->n; i++) {
		got.bytes += j->shares[i].bytes;
		got.bps += j->shares[i].bps;
	}
	assert_true(got.bytes + j->plan.lack.bytes == j->ask.need.bytes);
	assert_true(got.bps + j->plan.lack.bps == j->ask.need.bps);
	pack_audit(p);
}

uint64_t digest(const struct job *j, uint64_t seed)
{
	for (uint32_t i = 0; i < j->n; i++) {
		const struct pack_share *s = &j->shares[i];
		const uint64_t fields[] = { s->server, s->tier, s->weight, s->bytes, s->bps };

		seed = hash64(seed, fields, sizeof fields);
	}
	return seed;
}

void expect(const struct job *j, uint32_t server, uint64_t bytes, uint64_t bps)
{
	const struct pack_share *s = share_on(j, server);

	assert_non_null(s);
	assert_true(s->bytes == bytes);
	assert_true(s->bps == bps);
}
