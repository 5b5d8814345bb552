/* SPDX-License-Identifier: Apache-2.0 */
/* prng.h: a small seeded generator (splitmix64 into xoshiro256**), for simulation, jitter and
 * workloads.  Never for secrets: those come from sys_secret(). */
#ifndef BASE_PRNG_H
#define BASE_PRNG_H
#include <stdbool.h>
#include <stdint.h>

struct prng { uint64_t s[4]; };

static inline uint64_t prng_mix(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* One stream per purpose: streams of one seed are independent of each other. */
static inline struct prng prng_fork(uint64_t seed, uint64_t purpose)
{
	uint64_t state = seed ^ (purpose * 0xd1342543de82ef95u);
	struct prng p;

	for (int i = 0; i < 4; i++)
		p.s[i] = prng_mix(&state);
	return p;
}

static inline uint64_t prng_rotl(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

static inline uint64_t prng_next(struct prng *p)
{
	uint64_t *s = p->s, out = prng_rotl(s[1] * 5, 7) * 9, t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = prng_rotl(s[3], 45);
	return out;
}

static inline uint64_t prng_below(struct prng *p, uint64_t n) /* 0 .. n-1; n > 0 */
{
	return (uint64_t)(((unsigned __int128)prng_next(p) * n) >> 64);
}

static inline bool prng_odds(struct prng *p, uint64_t chance, uint64_t of) /* always one draw */
{
	return prng_below(p, of) < chance;
}
#endif
