/* SPDX-License-Identifier: Apache-2.0 */
/* Where a job goes (Pocket, section 4.1: shared servers first, fullest first, new ones for the rest
 * only).
 *
 * A job may be split in any parts, each with the same proportion of throughput to capacity, so the
 * part that a server takes is bounded by the scarcer of the two.  The server in use that is fullest
 * and has room for the whole is taken; if there is none, all in use are filled, fullest first; what
 * then remains goes to as few others as can be: the largest first, and the smallest that does for
 * the last part.  That opens no more servers than any other choice would for this job. */
#include "base/check.h"
#include "core/pack_own.h"
#include <stdlib.h>

enum { KEY_BITS = 20 };

/* ---- parts ---- */
static uint64_t share_of(uint64_t a, uint64_t b, uint64_t c)
{
	return (uint64_t)((unsigned __int128)a * b / c);
}

static bool covers(const struct pack_room *gap, const struct pack_room *rest)
{
	return gap->bytes >= rest->bytes && gap->bps >= rest->bps;
}

/* Rounded down, it is at most the gap; and the sum over equal servers of which the rest needs n is
 * the whole rest after n of them, since n - 1 of them have an integer of room. */
struct pack_room pack_part(const struct pack_room *rest, const struct pack_room *gap)
{
	unsigned __int128 by_bytes, by_bps;
	struct pack_room part = *gap;

	if (covers(gap, rest))
		return *rest;
	by_bytes = (unsigned __int128)gap->bytes * rest->bps;
	by_bps = (unsigned __int128)gap->bps * rest->bytes;
	if (rest->bps == 0 || (rest->bytes > 0 && by_bytes <= by_bps))
		part.bps = share_of(rest->bps, gap->bytes, rest->bytes);
	else
		part.bytes = share_of(rest->bytes, gap->bps, rest->bps);
	check(part.bytes <= gap->bytes && part.bytes <= rest->bytes);
	check(part.bps <= gap->bps && part.bps <= rest->bps);
	return part;
}

static bool enough(uint64_t gap, uint64_t band, uint64_t rest)
{
	return rest == 0 || (gap > 0 && gap >= band / PACK_SLIVER_PART);
}

bool pack_worth(const struct slot *s, uint8_t tier, const struct pack_room *gap,
	const struct pack_room *rest)
{
	const struct pack_room *band = &s->bins[tier].band;
	uint64_t bps = s->net_bps > 0 ? least(band->bps, s->net_band) : band->bps;

	return covers(gap, rest) ||
	       (enough(gap->bytes, band->bytes, rest->bytes) && enough(gap->bps, bps, rest->bps));
}

static uint64_t key(const struct pack_room *gap, const struct pack_room *rest)
{
	unsigned __int128 v = UINT64_MAX, by_bps;

	if (rest->bytes > 0)
		v = ((unsigned __int128)gap->bytes << KEY_BITS) / rest->bytes;
	if (rest->bps > 0) {
		by_bps = ((unsigned __int128)gap->bps << KEY_BITS) / rest->bps;
		v = by_bps < v ? by_bps : v;
	}
	return v < UINT64_MAX ? (uint64_t)v : UINT64_MAX;
}

/* ---- candidates ---- */
/* In use before others; of those in use the fullest, of the others the largest first. */
static int before(const void *pa, const void *pb)
{
	const struct candidate *a = pa, *b = pb;

	if (a->in_use != b->in_use)
		return a->in_use ? -1 : 1;
	if (a->in_use && a->full_permille != b->full_permille)
		return a->full_permille > b->full_permille ? -1 : 1;
	if (!a->in_use && a->key != b->key)
		return a->key > b->key ? -1 : 1;
	return a->server < b->server ? -1 : a->server > b->server;
}

/* Better than the best so far, of those that cover the whole. */
static bool suits_better(const struct candidate *a, const struct candidate *best)
{
	if (best == NULL)
		return true;
	if (!a->in_use && !best->in_use && a->key != best->key)
		return a->key < best->key;
	return before(a, best) < 0;
}

struct filling {
	struct packing *k;
	struct pack_room rest;
	uint8_t tier;
	uint32_t n;      /* candidates */
	uint32_t n_used; /* of them in use */
};

/* Returns the one that covers the whole best, if it opens no server that is not needed. */
static const struct candidate *collect(struct filling *f, uint8_t state)
{
	struct pack *p = f->k->p;
	const struct candidate *whole = NULL;

	f->n = f->n_used = 0;
	for (uint32_t i = 0; i < p->top; i++) {
		const struct slot *s = &p->slots[i];
		struct candidate *c = &p->candidates[f->n];
		struct pack_room gap;

		if (s->server == 0 || s->state != state || (f->k->ask->stays && !s->stays) ||
			s->bins[f->tier].has.bytes == 0)
			continue;
		gap = pack_gap(p, s, f->tier);
		if (!pack_worth(s, f->tier, &gap, &f->rest))
			continue;
		*c = (struct candidate){ .slot = i,
			.server = s->server,
			.full_permille = s->bins[f->tier].full_permille,
			.in_use = s->in_use,
			.key = s->in_use ? 0 : key(&gap, &f->rest) };
		f->n++;
		f->n_used += c->in_use;
		if (covers(&gap, &f->rest) && suits_better(c, whole))
			whole = c;
	}
	return whole != NULL && (whole->in_use || f->n_used == 0) ? whole : NULL;
}

static bool fill_one(struct filling *f, uint32_t slot)
{
	struct pack_room gap = pack_gap(f->k->p, &f->k->p->slots[slot], f->tier);
	struct pack_room part = pack_part(&f->rest, &gap);

	if (room_none(&part) || !pack_add(f->k, slot, f->tier, &part))
		return false;
	f->rest.bytes -= part.bytes;
	f->rest.bps -= part.bps;
	return true;
}

/* Of candidates from i on, largest first, the smallest that covers the rest; else the largest. */
static uint32_t choose_unused(const struct filling *f, uint32_t i)
{
	const struct pack *p = f->k->p;
	uint32_t best = i;

	for (uint32_t j = i; j < f->n; j++) {
		struct pack_room gap = pack_gap(p, &p->slots[p->candidates[j].slot], f->tier);

		if (!covers(&gap, &f->rest))
			break;
		if (p->candidates[j].key < p->candidates[best].key)
			best = j;
	}
	return best;
}

static void fill(struct filling *f, uint8_t tier, uint8_t state)
{
	struct pack *p = f->k->p;
	const struct candidate *whole;
	uint32_t i = 0;

	f->tier = tier;
	if (room_none(&f->rest))
		return;
	if ((whole = collect(f, state)) != NULL) {
		fill_one(f, whole->slot);
		return;
	}
	qsort(p->candidates, f->n, sizeof *p->candidates, before);
	for (; i < f->n_used && !room_none(&f->rest); i++)
		fill_one(f, p->candidates[i].slot);
	for (; i < f->n && !room_none(&f->rest); i++)
		fill_one(f, p->candidates[choose_unused(f, i)].slot);
}

/* ---- servers to be started ---- */
static uint64_t times(uint64_t need, uint64_t room)
{
	if (need == 0)
		return 0;
	return room > 0 ? need / room + (need % room > 0) : UINT64_MAX;
}

/* All that a server of the type would have for the job: it may use several of its tiers. */
static struct pack_room room_of_type(
	const struct pack *p, const struct pack_type *t, const struct pack_ask *ask)
{
	struct pack_room r = { 0, 0 };

	for (uint8_t i = 0; i < ask->n_firm; i++) {
		const struct pack_room *has = &t->tiers[ask->tiers[i]];

		if (has->bytes == 0)
			continue;
		r.bytes += pack_band(p, least(has->bytes, PACK_BYTES_MAX));
		r.bps += pack_band(p, least(has->bps, PACK_BPS_MAX));
	}
	if (t->net_bps > 0)
		r.bps = least(r.bps, pack_band(p, t->net_bps));
	return r;
}

struct offer {
	uint32_t type, n;
	bool whole;              /* it is all that is needed */
	unsigned __int128 price; /* when whole */
	struct pack_room part;   /* of the rest that they take */
};

/* The cheapest that takes all of it; if none does, the one that takes most. */
static bool offers_more(const struct offer *a, const struct offer *b)
{
	if (a->whole != b->whole)
		return a->whole;
	if (a->whole && a->price != b->price)
		return a->price < b->price;
	if (a->whole)
		return a->n < b->n;
	return a->part.bytes > b->part.bytes ||
	       (a->part.bytes == b->part.bytes && a->part.bps > b->part.bps);
}

static bool best_offer(
	const struct filling *f, const struct pack_plan *plan, struct offer *ret_offer)
{
	const struct pack_ask *ask = f->k->ask;
	bool found = false;

	for (uint32_t i = 0; i < ask->n_types; i++) {
		const struct pack_type *t = &ask->types[i];
		struct pack_room one = room_of_type(f->k->p, t, ask), all;
		uint64_t left = t->left - plan->more[i];
		uint64_t n = most(times(f->rest.bytes, one.bytes), times(f->rest.bps, one.bps));
		struct offer o = { .type = i, .whole = n <= left };

		if (one.bytes == 0)
			continue;
		o.n = (uint32_t)least(n, left);
		o.price = (unsigned __int128)o.n * t->price;
		all.bytes = (uint64_t)least(one.bytes, UINT64_MAX / (o.n + 1u)) * o.n;
		all.bps = (uint64_t)least(one.bps, UINT64_MAX / (o.n + 1u)) * o.n;
		o.part = pack_part(&f->rest, &all);
		if (!room_none(&o.part) && (!found || offers_more(&o, ret_offer))) {
			*ret_offer = o;
			found = true;
		}
	}
	return found;
}

/* Takes out of the rest what servers to be started would have; returns how much that is. */
static struct pack_room plan_more(struct filling *f, struct pack_plan *plan)
{
	const struct pack_ask *ask = f->k->ask;
	struct pack_room planned = { 0, 0 };

	check(ask->n_types <= PACK_TYPES_MAX);
	for (uint32_t n = 0; n < ask->n_types && !room_none(&f->rest); n++) {
		struct offer o = { .n = 0 };

		if (!best_offer(f, plan, &o))
			break;
		plan->more[o.type] += o.n;
		f->rest.bytes -= o.part.bytes;
		f->rest.bps -= o.part.bps;
		planned.bytes += o.part.bytes;
		planned.bps += o.part.bps;
	}
	return planned;
}

/* ---- the whole ---- */
static struct pack_room lacking(const struct packing *k)
{
	struct pack_room rest = k->ask->need;

	for (uint32_t i = 0; i < k->n; i++) {
		rest.bytes -= least(rest.bytes, k->shares[i].bytes);
		rest.bps -= least(rest.bps, k->shares[i].bps);
	}
	return rest;
}

void pack_fill(struct packing *k, struct pack_plan *ret_plan)
{
	const struct pack_ask *ask = k->ask;
	struct filling f = { .k = k, .rest = lacking(k) };
	struct pack_plan plan = { .coming = 0 };

	for (uint8_t t = 0; t < ask->n_firm; t++)
		fill(&f, ask->tiers[t], PACK_UP);
	for (uint8_t t = 0; ask->grows && t < ask->n_firm; t++)
		fill(&f, ask->tiers[t], PACK_COMING);
	if (ask->grows && k->n < k->cap)
		plan.lack = plan_more(&f, &plan);
	for (uint8_t t = ask->n_firm; t < ask->n_tiers; t++)
		fill(&f, ask->tiers[t], PACK_UP);
	plan.lack.bytes += f.rest.bytes;
	plan.lack.bps += f.rest.bps;
	for (uint32_t i = 0; i < k->n; i++)
		plan.coming += pack_slot(k->p, k->shares[i].server)->state == PACK_COMING;
	pack_weigh(k, &plan.lack);
	*ret_plan = plan;
}

void pack_place(struct pack *p, const struct pack_ask *ask, struct pack_share *shares, uint32_t *n,
	uint32_t cap, struct pack_plan *ret_plan)
{
	struct packing k = { p, ask, shares, *n, cap };

	check(ask->n_tiers <= TIER_COUNT);
	check(ask->n_firm <= ask->n_tiers);
	check(ask->need.bytes <= PACK_BYTES_MAX);
	check(ask->need.bps <= PACK_BPS_MAX);
	pack_begin(&k);
	pack_fill(&k, ret_plan);
	pack_end(&k);
	*n = k.n;
}
