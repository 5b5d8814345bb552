/* SPDX-License-Identifier: Apache-2.0 */
#include "core/repair.h"
#include "base/check.h"

static uint32_t wanted(const struct repair_egroup *e)
{
	if (!e->soft || e->servers >= e->copies)
		return e->copies;
	return e->servers > 0 ? e->servers : 1;
}

static bool is(const struct repair_member *m, uint8_t state)
{
	return m->state == state && !m->gone && !m->leaving;
}

/* In, and to stay where it is. */
static uint32_t count(const struct repair_egroup *e, uint8_t state)
{
	uint32_t n = 0;

	for (uint8_t i = 0; i < e->n_members; i++)
		n += is(&e->members[i], state);
	return n;
}

uint32_t repair_sound(const struct repair_egroup *e)
{
	uint32_t n = 0;

	for (uint8_t i = 0; i < e->n_members; i++)
		n += e->members[i].state == ROOM_MEMBER_IN && !e->members[i].gone;
	return n;
}

static bool any_gone(const struct repair_egroup *e)
{
	for (uint8_t i = 0; i < e->n_members; i++)
		if (e->members[i].state == ROOM_MEMBER_IN && e->members[i].gone)
			return true;
	return false;
}

bool repair_lacks(const struct repair_egroup *e)
{
	uint32_t sound = repair_sound(e);

	return sound < wanted(e) || (any_gone(e) && sound < e->copies);
}

bool repair_moves(const struct repair_egroup *e)
{
	for (uint8_t i = 0; i < e->n_members; i++)
		if (e->members[i].leaving)
			return true;
	return false;
}

static struct repair_todo todo(enum repair_what what, uint8_t member)
{
	return (struct repair_todo){ what, member };
}

/* A copy that is in and may go, the youngest first. */
static bool leaver(const struct repair_egroup *e, uint8_t *ret_member)
{
	uint32_t kept = count(e, ROOM_MEMBER_IN);

	for (uint8_t i = e->n_members; i-- > 0;) {
		const struct repair_member *m = &e->members[i];
		bool may = kept > e->copies; /* more than were asked for */

		if (m->state != ROOM_MEMBER_IN)
			continue;
		if (m->gone) /* (R1): it may come back, also where fewer would do */
			may = kept >= e->copies;
		else if (m->leaving) /* (R4) */
			may = kept >= wanted(e) && !m->needed;
		if (may) {
			*ret_member = i;
			return true;
		}
	}
	return false;
}

/* One that is being filled, and is not wanted where it is, or not any more. */
static bool superfluous(const struct repair_egroup *e, uint8_t *ret_member)
{
	bool many = count(e, ROOM_MEMBER_IN) + count(e, ROOM_MEMBER_FILLING) > e->copies;

	for (int pass = 0; pass < 2; pass++)
		for (uint8_t i = e->n_members; i-- > 0;) {
			const struct repair_member *m = &e->members[i];

			if (m->state == ROOM_MEMBER_FILLING &&
				(pass == 0 ? m->gone || m->leaving : many)) { /* (R2) */
				*ret_member = i;
				return true;
			}
		}
	return false;
}

struct repair_todo repair_step(const struct repair_egroup *e)
{
	uint32_t kept = count(e, ROOM_MEMBER_IN), coming = count(e, ROOM_MEMBER_FILLING);
	uint8_t which = 0;

	check(e->n_members > 0);
	check(e->n_members <= ROOM_MEMBERS_MAX);
	check(e->copies > 0);
	for (uint8_t i = 0; i < e->n_members; i++) /* (R3) */
		if (is(&e->members[i], ROOM_MEMBER_FILLING) && e->members[i].whole)
			return todo(REPAIR_FILLED, i);
	if (superfluous(e, &which) || leaver(e, &which))
		return todo(REPAIR_LEAVE, which);
	if (repair_sound(e) > 0 && kept + coming < wanted(e) && e->n_members < ROOM_MEMBERS_MAX)
		return todo(REPAIR_ADD, 0);
	return todo(REPAIR_REST, 0);
}
