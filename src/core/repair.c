/* SPDX-License-Identifier: Apache-2.0 */
#include "core/repair.h"
#include "base/check.h"

static uint32_t wanted(const struct repair_egroup *e)
{
	if (!e->soft || e->servers >= e->copies)
		return e->copies;
	return e->servers > 0 ? e->servers : 1;
}

static uint32_t count(const struct repair_egroup *e, uint8_t state, bool gone)
{
	uint32_t n = 0;

	for (uint8_t i = 0; i < e->n_members; i++)
		n += e->members[i].state == state && e->members[i].gone == gone;
	return n;
}

uint32_t repair_sound(const struct repair_egroup *e)
{
	return count(e, ROOM_MEMBER_IN, false);
}

bool repair_lacks(const struct repair_egroup *e)
{
	uint32_t sound = repair_sound(e);

	return sound < wanted(e) ||
	       (count(e, ROOM_MEMBER_IN, true) > 0 && sound < e->copies);
}

static struct repair_todo one(const struct repair_egroup *e, enum repair_what what, uint8_t state,
	bool gone)
{
	for (uint8_t i = e->n_members; i-- > 0;) /* the youngest first */
		if (e->members[i].state == state && e->members[i].gone == gone)
			return (struct repair_todo){ what, i };
	check(false);
	return (struct repair_todo){ REPAIR_REST, 0 };
}

struct repair_todo repair_step(const struct repair_egroup *e)
{
	uint32_t sound = repair_sound(e), coming = count(e, ROOM_MEMBER_FILLING, false);

	check(e->n_members > 0);
	check(e->n_members <= ROOM_MEMBERS_MAX);
	check(e->copies > 0);
	for (uint8_t i = 0; i < e->n_members; i++) /* (R3) */
		if (e->members[i].state == ROOM_MEMBER_FILLING && e->members[i].whole &&
			!e->members[i].gone)
			return (struct repair_todo){ REPAIR_FILLED, i };
	if (count(e, ROOM_MEMBER_FILLING, true) > 0) /* another will take its place */
		return one(e, REPAIR_LEAVE, ROOM_MEMBER_FILLING, true);
	if (coming > 0 && sound + coming > e->copies) /* (R2): one came back meanwhile */
		return one(e, REPAIR_LEAVE, ROOM_MEMBER_FILLING, false);
	if (sound >= e->copies && count(e, ROOM_MEMBER_IN, true) > 0) /* (R1) */
		return one(e, REPAIR_LEAVE, ROOM_MEMBER_IN, true);
	if (sound > e->copies)
		return one(e, REPAIR_LEAVE, ROOM_MEMBER_IN, false);
	if (sound > 0 && sound + coming < wanted(e) && e->n_members < ROOM_MEMBERS_MAX)
		return (struct repair_todo){ REPAIR_ADD, 0 };
	return (struct repair_todo){ REPAIR_REST, 0 };
}
