/* SPDX-License-Identifier: Apache-2.0 */
/* The accounts of servers, the shares of the job at hand, and their weights. */
#include "core/pack.h"
#include "base/check.h"
#include "base/limit.h"
#include "core/pack_own.h"
#include <stdlib.h>

const struct pack_limits pack_limits_default = {
	.servers_max = LIMIT_SERVERS_MAX, .low_permille = 600, .high_permille = 800
};

struct pack *pack_new(const struct pack_limits *l)
{
	struct pack *p = calloc(1, sizeof *p);

	check(p != NULL);
	p->limits = l != NULL ? *l : pack_limits_default;
	check(p->limits.high_permille <= 1000);
	check(p->limits.low_permille < p->limits.high_permille);
	p->slots = calloc(p->limits.servers_max, sizeof *p->slots);
	p->candidates = calloc(p->limits.servers_max, sizeof *p->candidates);
	check(p->slots != NULL);
	check(p->candidates != NULL);
	map64_init(&p->slot_at);
	return p;
}

void pack_free(struct pack *p)
{
	if (p == NULL)
		return;
	map64_fini(&p->slot_at);
	free(p->candidates);
	free(p->slots);
	free(p);
}

/* ---- servers ---- */
uint64_t pack_band(const struct pack *p, uint64_t has)
{
	return (uint64_t)((unsigned __int128)has * p->limits.high_permille / 1000);
}

/* A part of nothing that is wanted all the same is more than all. */
static uint16_t permille(uint64_t part, uint64_t of)
{
	unsigned __int128 v;

	if (of == 0)
		return part > 0 ? UINT16_MAX : 0;
	v = (unsigned __int128)part * 1000 / of;
	return v < UINT16_MAX ? (uint16_t)v : UINT16_MAX;
}

struct slot *pack_slot(const struct pack *p, uint32_t server)
{
	const uint32_t *at = map64_get(&p->slot_at, server);

	return at != NULL ? &p->slots[*at] : NULL;
}

static uint16_t most16(uint16_t a, uint16_t b)
{
	return a > b ? a : b;
}

void pack_slot_look(struct slot *s)
{
	uint16_t all = s->cpu_permille, net_full = 0;

	if (s->net_bps > 0) {
		all = most16(all, permille(s->net_used, s->net_bps));
		net_full = permille(most(s->net_taken, s->net_used), s->net_bps);
	}
	s->in_use = s->stays;
	for (int t = 0; t < TIER_COUNT; t++) {
		struct bin *b = &s->bins[t];

		b->full_permille = most16(net_full,
			most16(permille(most(b->taken.bytes, b->used.bytes), b->has.bytes),
				permille(most(b->taken.bps, b->used.bps), b->has.bps)));
		b->load_permille = most16(all, most16(permille(b->used.bytes, b->has.bytes),
						       permille(b->used.bps, b->has.bps)));
		s->in_use = s->in_use || !room_none(&b->taken) || b->used.bytes > 0;
	}
}

static struct slot *new_slot(struct pack *p, uint32_t server)
{
	uint32_t i = p->n_servers == p->top ? p->top : 0; /* else there is one that was left */

	check(server != 0);
	if (p->n_servers == p->limits.servers_max)
		return NULL;
	while (i < p->top && p->slots[i].server != 0)
		i++;
	if (i == p->top)
		p->top++;
	p->n_servers++;
	p->slots[i] = (struct slot){ .server = server, .state = PACK_OUT, .settled = true };
	for (int t = 0; t < TIER_COUNT; t++)
		p->slots[i].bins[t].share = NO_SHARE;
	map64_put(&p->slot_at, server, i);
	return &p->slots[i];
}

int pack_server(struct pack *p, const struct pack_server *said)
{
	struct slot *s = pack_slot(p, said->server);

	check(said->state <= PACK_OUT);
	for (int t = 0; t < TIER_COUNT; t++)
		if (said->tiers[t].bytes > PACK_BYTES_MAX || said->tiers[t].bps > PACK_BPS_MAX)
			return E_TOOBIG;
	if (said->net_bps > PACK_BPS_MAX)
		return E_TOOBIG;
	if (s == NULL && (s = new_slot(p, said->server)) == NULL)
		return E_FULL;
	for (int t = 0; t < TIER_COUNT; t++) {
		s->bins[t].has = said->tiers[t];
		s->bins[t].band.bytes = pack_band(p, said->tiers[t].bytes);
		s->bins[t].band.bps = pack_band(p, said->tiers[t].bps);
	}
	s->net_bps = said->net_bps;
	s->net_band = pack_band(p, said->net_bps);
	s->state = said->state;
	s->stays = said->stays;
	s->gone = false;
	pack_slot_look(s);
	return 0;
}

static void forget_if_gone(struct pack *p, struct slot *s)
{
	if (!s->gone)
		return;
	for (int t = 0; t < TIER_COUNT; t++)
		if (!room_none(&s->bins[t].taken))
			return;
	check(s->net_taken == 0);
	map64_delete(&p->slot_at, s->server);
	s->server = 0;
	p->n_servers--;
}

void pack_server_gone(struct pack *p, uint32_t server)
{
	struct slot *s = pack_slot(p, server);

	if (s == NULL)
		return;
	s->state = PACK_OUT;
	s->stays = false;
	s->gone = true;
	forget_if_gone(p, s);
}

void pack_load(struct pack *p, uint32_t server, const struct pack_load *l)
{
	struct slot *s = pack_slot(p, server);

	if (s == NULL)
		return;
	for (int t = 0; t < TIER_COUNT; t++)
		s->bins[t].used = l->used[t];
	s->net_used = l->net_bps;
	s->cpu_permille = l->cpu_permille;
	s->settled = true;
	pack_slot_look(s);
}

static uint64_t left_of(uint64_t band, uint64_t taken, uint64_t used)
{
	uint64_t gone = most(taken, used);

	return band > gone ? band - gone : 0;
}

struct pack_room pack_gap(const struct pack *p, const struct slot *s, uint8_t tier)
{
	const struct bin *b = &s->bins[tier];
	struct pack_room gap = { 0, 0 };

	if (s->cpu_permille > p->limits.high_permille)
		return gap;
	gap.bytes = left_of(b->band.bytes, b->taken.bytes, b->used.bytes);
	gap.bps = left_of(b->band.bps, b->taken.bps, b->used.bps);
	if (s->net_bps > 0)
		gap.bps = least(gap.bps, left_of(s->net_band, s->net_taken, s->net_used));
	return gap;
}

/* ---- promises ---- */
static void account(struct slot *s, uint8_t tier, const struct pack_room *part, bool take)
{
	struct bin *b = &s->bins[tier];

	check(tier < TIER_COUNT);
	if (take) {
		b->taken.bytes += part->bytes;
		b->taken.bps += part->bps;
		s->net_taken += part->bps;
	} else {
		check(b->taken.bytes >= part->bytes);
		check(b->taken.bps >= part->bps);
		check(s->net_taken >= part->bps);
		b->taken.bytes -= part->bytes;
		b->taken.bps -= part->bps;
		s->net_taken -= part->bps;
	}
	pack_slot_look(s);
}

bool pack_add(struct packing *k, uint32_t slot, uint8_t tier, const struct pack_room *part)
{
	struct slot *s = &k->p->slots[slot];
	struct bin *b = &s->bins[tier];

	if (b->share == NO_SHARE) {
		if (k->n == k->cap)
			return false;
		b->share = k->n;
		k->shares[k->n++] = (struct pack_share){ .server = s->server, .tier = tier };
	}
	check(k->shares[b->share].server == s->server);
	k->shares[b->share].bytes += part->bytes;
	k->shares[b->share].bps += part->bps;
	account(s, tier, part, true);
	return true;
}

void pack_remove(
	struct pack *p, struct slot *s, struct pack_share *share, const struct pack_room *part)
{
	check(share->bytes >= part->bytes);
	check(share->bps >= part->bps);
	share->bytes -= part->bytes;
	share->bps -= part->bps;
	account(s, share->tier, part, false);
	forget_if_gone(p, s);
}

void pack_give(struct pack *p, const struct pack_share *shares, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct pack_share share = shares[i];
		struct pack_room all = { share.bytes, share.bps };
		struct slot *s = pack_slot(p, share.server);

		if (room_none(&all))
			continue; /* the server may be forgotten */
		check(s != NULL);
		pack_remove(p, s, &share, &all);
	}
}

int pack_take(struct pack *p, const struct pack_share *shares, uint32_t n)
{
	uint32_t i;
	int rc = 0;

	for (i = 0; i < n && rc == 0; i++) {
		struct pack_room all = { shares[i].bytes, shares[i].bps };
		struct slot *s;

		if (room_none(&all))
			continue;
		if (shares[i].server == 0 || shares[i].tier >= TIER_COUNT ||
			all.bytes > PACK_BYTES_MAX || all.bps > PACK_BPS_MAX) {
			rc = E_CORRUPT;
			break;
		}
		s = pack_slot(p, shares[i].server);
		if (s == NULL && (s = new_slot(p, shares[i].server)) == NULL)
			rc = E_FULL;
		else if (s->bins[shares[i].tier].taken.bytes > UINT64_MAX - all.bytes ||
			 s->net_taken > UINT64_MAX - all.bps)
			rc = E_CORRUPT;
		else
			account(s, shares[i].tier, &all, true);
		if (rc < 0)
			break;
	}
	if (rc < 0)
		pack_give(p, shares, i);
	return rc;
}

/* ---- the job at hand ---- */
void pack_begin(struct packing *k)
{
	uint32_t n = 0;

	check(k->n <= k->cap);
	for (uint32_t i = 0; i < k->n; i++) {
		struct slot *s = pack_slot(k->p, k->shares[i].server);

		if (k->shares[i].bytes == 0 && k->shares[i].bps == 0)
			continue; /* it had a weight only */
		check(s != NULL);
		k->shares[n] = k->shares[i];
		s->bins[k->shares[n].tier].share = n;
		n++;
	}
	k->n = n;
}

void pack_end(struct packing *k)
{
	for (uint32_t i = 0; i < k->n; i++)
		pack_slot(k->p, k->shares[i].server)->bins[k->shares[i].tier].share = NO_SHARE;
}

/* ---- weights ---- */
/* The least full server that is up, in the first tier that one has, and that is in no share yet;
 * the job's number says where the search begins, so that many jobs do not all meet. */
static uint32_t least_full(const struct packing *k, uint8_t tier)
{
	const struct pack *p = k->p;
	uint32_t best = NO_SHARE;

	for (uint32_t n = 0; n < p->top; n++) {
		uint32_t i = (uint32_t)((k->ask->job + n) % p->top);
		const struct slot *s = &p->slots[i];

		if (s->server == 0 || s->state != PACK_UP || (k->ask->stays && !s->stays) ||
			s->bins[tier].has.bytes == 0 || s->bins[tier].share != NO_SHARE)
			continue;
		if (best == NO_SHARE || s->bins[tier].full_permille <
						p->slots[best].bins[tier].full_permille)
			best = i;
	}
	return best;
}

static void spread(struct packing *k)
{
	static const struct pack_room nothing;
	uint32_t n = 0, at = 0;

	for (uint8_t t = 0; t < k->ask->n_tiers && n == 0; t++) {
		while (n < PACK_SPREAD_MAX && (at = least_full(k, k->ask->tiers[t])) != NO_SHARE &&
			pack_add(k, at, k->ask->tiers[t], &nothing))
			n++;
	}
}

static bool is_up(const struct packing *k, const struct pack_share *share)
{
	return pack_slot(k->p, share->server)->state == PACK_UP;
}

static uint64_t amount(const struct packing *k, const struct pack_share *share)
{
	return k->ask->need.bytes > 0 ? share->bytes : share->bps;
}

/* By what is promised on servers that are up.  Where more is lacking than promised, some others
 * take what lacks, in equal parts. */
void pack_weigh(struct packing *k, const struct pack_room *lacks)
{
	uint64_t lack = k->ask->need.bytes > 0 ? lacks->bytes : lacks->bps, each = 0;
	unsigned __int128 sum = 0, at = 0;
	uint32_t promised = k->n, n_spread = 0, before = 0;

	for (uint32_t i = 0; i < promised; i++)
		sum += is_up(k, &k->shares[i]) ? amount(k, &k->shares[i]) : 0;
	if (sum == 0 || lack > sum) {
		spread(k);
		n_spread = k->n - promised;
	}
	if (n_spread > 0)
		each = most(lack / n_spread, 1);
	sum += (unsigned __int128)each * n_spread;
	for (uint32_t i = 0; i < k->n; i++) {
		uint32_t upto;

		if (i >= promised)
			at += each;
		else if (is_up(k, &k->shares[i]))
			at += amount(k, &k->shares[i]);
		upto = sum > 0 ? (uint32_t)(at * PACK_ONE / sum) : 0;
		k->shares[i].weight = upto - before;
		before = upto;
	}
	check(at == sum);
	check(before == (sum > 0 ? PACK_ONE : 0));
}

/* ---- looking ---- */
void pack_sum(const struct pack *p, struct pack_sum *ret_sum)
{
	*ret_sum = (struct pack_sum){ .servers = p->n_servers };
	for (uint32_t i = 0; i < p->top; i++) {
		const struct slot *s = &p->slots[i];

		if (s->server == 0)
			continue;
		ret_sum->up += s->state == PACK_UP;
		ret_sum->in_use += s->in_use;
		for (int t = 0; t < TIER_COUNT; t++) {
			ret_sum->promised[t].bytes += s->bins[t].taken.bytes;
			ret_sum->promised[t].bps += s->bins[t].taken.bps;
			ret_sum->band[t].bytes += s->state == PACK_UP ? s->bins[t].band.bytes : 0;
			ret_sum->band[t].bps += s->state == PACK_UP ? s->bins[t].band.bps : 0;
		}
	}
}

bool pack_promised(const struct pack *p, uint32_t server, uint8_t tier, struct pack_room *ret_room)
{
	const struct slot *s = pack_slot(p, server);

	check(tier < TIER_COUNT);
	if (s == NULL)
		return false;
	*ret_room = s->bins[tier].taken;
	return true;
}

void pack_audit(const struct pack *p)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < p->top; i++) {
		const struct slot *s = &p->slots[i];
		uint64_t bps = 0;

		if (s->server == 0)
			continue;
		n++;
		check(pack_slot(p, s->server) == s);
		check(!s->gone || s->state == PACK_OUT);
		for (int t = 0; t < TIER_COUNT; t++) {
			check(s->bins[t].share == NO_SHARE);
			check(s->bins[t].band.bytes <= s->bins[t].has.bytes);
			bps += s->bins[t].taken.bps;
		}
		check(bps == s->net_taken);
	}
	check(n == p->n_servers);
	check(p->top <= p->limits.servers_max);
}
