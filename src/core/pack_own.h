/* SPDX-License-Identifier: Apache-2.0 */
/* pack_own.h: the tables inside a struct pack; for pack*.c only. */
#ifndef CORE_PACK_OWN_H
#define CORE_PACK_OWN_H
#include "base/map64.h"
#include "core/pack.h"

enum { NO_SHARE = UINT32_MAX };

struct bin {
	struct pack_room has, band, used, taken; /* band: the upper end; used: measured */
	uint32_t share;                          /* of the job at hand; NO_SHARE */
	uint16_t full_permille;                  /* promised or used, whichever is more */
	uint16_t load_permille;                  /* measured, cpu and network included */
};

struct slot {
	struct bin bins[TIER_COUNT];
	uint64_t net_bps, net_band, net_used, net_taken;
	uint32_t server; /* 0: the slot is free */
	uint16_t cpu_permille;
	uint8_t state;
	bool stays, gone;
	bool in_use;
	bool settled; /* its load was told since something was steered there or away */
};

struct candidate {
	uint64_t key; /* how much of what is asked it takes */
	uint32_t slot, server;
	uint16_t full_permille;
	bool in_use;
};

struct pack {
	struct pack_limits limits;
	struct slot *slots;
	struct candidate *candidates; /* scratch, servers_max */
	uint32_t top;                 /* slots that were ever used */
	uint32_t n_servers;
	struct map64 slot_at; /* server -> slot */
};

/* The job at hand. */
struct packing {
	struct pack *p;
	const struct pack_ask *ask;
	struct pack_share *shares;
	uint32_t n, cap;
};

static inline bool room_none(const struct pack_room *r)
{
	return r->bytes == 0 && r->bps == 0;
}
static inline uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}
static inline uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

uint64_t pack_band(const struct pack *p, uint64_t has);
struct slot *pack_slot(const struct pack *p, uint32_t server); /* NULL: not known */
void pack_slot_look(struct slot *s);                           /* after whatever changed it */
/* May still be promised in a tier of the server, whatever state it is in. */
struct pack_room pack_gap(const struct pack *p, const struct slot *s, uint8_t tier);
/* A part there is not so little that it would only make maps longer. */
bool pack_worth(const struct slot *s, uint8_t tier, const struct pack_room *gap,
	const struct pack_room *rest);
/* The part of the rest that the gap takes, in the proportion of the rest. */
struct pack_room pack_part(const struct pack_room *rest, const struct pack_room *gap);
/* More for the job at hand there, and less; false: no room for another share. */
bool pack_add(struct packing *k, uint32_t slot, uint8_t tier, const struct pack_room *part);
void pack_remove(
	struct pack *p, struct slot *s, struct pack_share *share, const struct pack_room *part);
void pack_begin(struct packing *k);
/* Weighs the shares; `lacks` is what nothing is promised for. */
void pack_weigh(struct packing *k, const struct pack_room *lacks);
void pack_end(struct packing *k);
void pack_fill(struct packing *k, struct pack_plan *ret_plan);
#endif
