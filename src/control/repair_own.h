/* SPDX-License-Identifier: Apache-2.0 */
/* repair_own.h: the parts of repair.c: plan, copies, bad extents. */
#ifndef CONTROL_REPAIR_OWN_H
#define CONTROL_REPAIR_OWN_H
#include "control/own.h"
#include "core/repair.h"

enum {
	FLYING = 8,          /* copies under way at once */
	STEP = 64,           /* rows looked at in one turn */
	SETTLE_MS = 30000,
	MOVES_RANK = ROOM_MEMBERS_MAX + 1, /* of what has its copies; others': how many they have */
	SOURCES_MAX = 4,
	SOURCE_BYTES = SOURCES_MAX * 1100,
};

enum repair_how {
	REPAIR_BROUGHT, /* to the server, unless it seems to be there */
	REPAIR_CHECKED, /* the server reads what it has first */
	REPAIR_OUT,     /* of the memory of the server */
};

/* One extent on its way. */
struct copying {
	struct control *ctl;
	struct large_extent x;
	uint32_t server;
	enum repair_how how;
	int rc;
	uint8_t room[SOURCE_BYTES];
};

/* One round. */
struct round {
	struct control *ctl;
	struct shard_call c;       /* whether something has to be synced first */
	uint32_t servers[TIER_COUNT]; /* up, with such a device */
	uint32_t urgent;           /* lowest rank of what can be helped; 0: nothing */
	bool refused;              /* there was no room for another copy of the last egroup */
	uint64_t moving_bytes;     /* that are to be moved with this plan */
	bool checking;             /* some server is to be asked for all that it should have */
	struct copying flights[FLYING];
	uint32_t n;
	uint64_t bytes;            /* of the flights */
	struct large_extent some[STEP];
};

/* ---- repair_plan.c ---- */
PARKS int repair_plan(struct round *r);
struct repair_egroup repair_view(
	const struct round *r, uint64_t egroup, const struct room_egroup_info *info);
uint32_t repair_rank(const struct repair_egroup *e); /* the lowest is the most urgent */
bool repair_whole(const struct control *ctl, const struct room_member_info *m);
/* In the memory of a server that is to be emptied, and can be had. */
bool repair_moving(const struct control *ctl, const struct room_egroup_info *info);

/* ---- repair_copy.c ---- */
/* Some fly at once: what has failed is known when they have landed. */
PARKS int repair_fly(struct round *r, const struct large_extent *x, uint32_t server,
	enum repair_how how, bool *ret_all);
/* All that fly; *ret_all is made false when one failed.  Rests as long as their bytes are worth. */
PARKS int repair_land(struct round *r, bool *ret_all);

/* ---- repair_bad.c ---- */
PARKS int repair_mend(struct round *r); /* what was said to be bad, one by one */
#endif
