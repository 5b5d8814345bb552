/* SPDX-License-Identifier: Apache-2.0 */
/* Steering new data: what is stored stays where it is, what comes goes elsewhere (Pocket, section
 * 4.2; there only later jobs were steered).
 *
 * Only from above the band to below it, a part at a time, and not again before both were measured:
 * a step that was too large cannot swing back at once. */
#include "base/check.h"
#include "base/hash.h"
#include "core/pack_own.h"

static bool leaves(const struct slot *s)
{
	return s->state == PACK_DRAIN || s->state == PACK_OUT;
}

/* Takes a share out of the list when nothing is promised there any more. */
static void drop_empty(struct packing *k)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < k->n; i++) {
		struct pack_share *share = &k->shares[i];
		struct slot *s = pack_slot(k->p, share->server);
		bool empty = share->bytes == 0 && share->bps == 0;

		if (s != NULL)
			s->bins[share->tier].share = empty ? NO_SHARE : n;
		if (!empty)
			k->shares[n++] = *share;
	}
	k->n = n;
}

static void give_up_leaving(struct packing *k)
{

	for (uint32_t i = 0; i < k->n; i++) {
		struct pack_share *share = &k->shares[i];
		struct pack_room all = { share->bytes, share->bps };
		struct slot *s = pack_slot(k->p, share->server);

		if (!leaves(s))
			continue;
		s->bins[share->tier].share = NO_SHARE; /* it may be forgotten now */
		pack_remove(k->p, s, share, &all);
	}
}

static struct pack_share *hottest(const struct packing *k)
{
	struct pack_share *hot = NULL;
	uint16_t load = k->p->limits.high_permille;

	for (uint32_t i = 0; i < k->n; i++) {
		struct pack_share *share = &k->shares[i];
		const struct slot *s = pack_slot(k->p, share->server);

		if (s->state != PACK_UP || !s->settled ||
			s->bins[share->tier].load_permille <= load)
			continue;
		load = s->bins[share->tier].load_permille;
		hot = share;
	}
	return hot;
}

/* Less loaded, then less full, then of the lower id. */
static bool colder(const struct slot *a, const struct slot *b, uint8_t tier)
{
	const struct bin *x = &a->bins[tier], *y = &b->bins[tier];

	if (x->load_permille != y->load_permille)
		return x->load_permille < y->load_permille;
	if (x->full_permille != y->full_permille)
		return x->full_permille < y->full_permille;
	return a->server < b->server;
}

static uint32_t coldest(const struct packing *k, uint8_t tier, const struct pack_room *part)
{
	const struct pack *p = k->p;
	uint32_t best = NO_SHARE;

	for (uint32_t i = 0; i < p->top; i++) {
		const struct slot *s = &p->slots[i];
		struct pack_room gap;

		if (s->server == 0 || s->state != PACK_UP || !s->settled ||
			(k->ask->stays && !s->stays) || s->bins[tier].has.bytes == 0 ||
			s->bins[tier].load_permille >= p->limits.low_permille)
			continue;
		gap = pack_gap(p, s, tier);
		if (pack_worth(s, tier, &gap, part) &&
			(best == NO_SHARE || colder(s, &p->slots[best], tier)))
			best = i;
	}
	return best;
}

static void cool(struct packing *k)
{
	struct pack_share *hot = hottest(k);
	struct pack_room part, gap;
	struct slot *from, *to;
	uint32_t at;

	if (hot == NULL)
		return;
	part = (struct pack_room){ (hot->bytes + PACK_MOVE_PART - 1) / PACK_MOVE_PART,
		(hot->bps + PACK_MOVE_PART - 1) / PACK_MOVE_PART };
	if ((at = coldest(k, hot->tier, &part)) == NO_SHARE)
		return;
	from = pack_slot(k->p, hot->server);
	to = &k->p->slots[at];
	check(from != to);
	gap = pack_gap(k->p, to, hot->tier);
	part = pack_part(&part, &gap);
	if (room_none(&part) || !pack_add(k, at, hot->tier, &part))
		return;
	pack_remove(k->p, from, hot, &part);
	from->settled = to->settled = false;
}

/* Of all that a caller keeps of the shares. */
static uint64_t digest(const struct pack_share *shares, uint32_t n)
{
	uint64_t h = n;

	for (uint32_t i = 0; i < n; i++) {
		const uint64_t words[] = { shares[i].server, shares[i].tier, shares[i].weight,
			shares[i].bytes, shares[i].bps };

		h = hash64(h, words, sizeof words);
	}
	return h;
}

bool pack_steer(struct pack *p, const struct pack_ask *ask, struct pack_share *shares, uint32_t *n,
	uint32_t cap, struct pack_plan *ret_plan)
{
	struct packing k = { p, ask, shares, *n, cap };
	uint64_t before = digest(shares, *n);

	pack_begin(&k);
	give_up_leaving(&k);
	drop_empty(&k);
	cool(&k);
	drop_empty(&k);
	pack_fill(&k, ret_plan);
	pack_end(&k);
	*n = k.n;
	return digest(shares, *n) != before;
}
