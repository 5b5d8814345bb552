/* SPDX-License-Identifier: Apache-2.0 */
/* repair.h: what is to be done about the copies of an egroup, one step at a time: copies that are
 * missing, and copies on a server that is being emptied, which go elsewhere.
 *
 *   add a member ----> it is filled, by whoever asks ----> whole: it is in ----> another may leave
 *
 * Pure.  The caller carries out the step, and asks again: with what it finds then, which may be
 * something else.  Whatever is lost in between (a server, the caller's process) is found by asking.
 *
 * (R1) A member leaves only while as many copies as were asked for are in and not gone without it.
 * (R2) There are never more being made than are missing. (R3) A member is in only when it has every
 * extent; a commit of one that it was not told of makes it filling again (room_refill()). (R4) A
 * sound member goes only for the sake of its server when as many as can be had are in on others,
 * and nobody may name any more what was written to it alone. */
#ifndef CORE_REPAIR_H
#define CORE_REPAIR_H
#include "core/room.h"

struct repair_member {
	uint8_t state; /* enum room_member_state */
	bool gone;     /* its server was silent for so long that nobody waits for it */
	bool leaving;  /* its server is being emptied */
	bool needed;   /* there are grants whose writers have what they wrote only there */
	bool whole;    /* being filled: a walk through all extents found each of them there */
};
struct repair_egroup {
	uint8_t copies;  /* asked for */
	bool soft;       /* fewer do while there are fewer servers */
	uint32_t servers; /* that are up, are to stay and could have one, or have one */
	uint8_t n_members;
	struct repair_member members[ROOM_MEMBERS_MAX];
};
enum repair_what { REPAIR_REST, REPAIR_ADD, REPAIR_FILLED, REPAIR_LEAVE };
struct repair_todo {
	enum repair_what what;
	uint8_t member; /* FILLED, LEAVE: which */
};
struct repair_todo repair_step(const struct repair_egroup *e);
uint32_t repair_sound(const struct repair_egroup *e); /* copies that are in and not gone */
/* It has fewer than it should: because of what was asked for, or because of what it had. */
bool repair_lacks(const struct repair_egroup *e);
bool repair_moves(const struct repair_egroup *e); /* some copy is to be elsewhere */
#endif
