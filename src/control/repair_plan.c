/* SPDX-License-Identifier: Apache-2.0 */
/* What is to be done: a step for each egroup (core/repair.h), and what keeps those that leave. */
#include "control/repair_own.h"

enum {
	PLAN_STEP = 512,     /* egroups looked at in one turn */
	MOVE_BYTES = 256 << 20,
};

bool repair_reaches(const struct control *ctl, uint32_t server)
{
	const struct large_server *s = large_server(ctl->sh, server);

	return s != NULL && s->up && ctl->servers[server] != NULL &&
	       ctl->servers[server]->conn != NULL;
}

bool repair_whole(const struct control *ctl, const struct room_member_info *m)
{
	return m->walk != 0 && m->walk <= ctl->repair.ended;
}

/* Whether some writer was told of this member and of no other that has its bytes. */
static bool is_needed(const struct control *ctl, uint64_t egroup,
	const struct room_egroup_info *info, uint8_t member)
{
	if (room_egroup_grant(large_room(ctl->sh), egroup, 0) == 0)
		return false;
	for (uint8_t i = 0; i < info->n_members; i++) {
		const struct room_member_info *m = &info->members[i];

		if (i != member && m->state == ROOM_MEMBER_IN && !m->late &&
			!large_server(ctl->sh, m->server)->gone)
			return false;
	}
	return true;
}

struct repair_egroup repair_view(
	const struct round *r, uint64_t egroup, const struct room_egroup_info *info)
{
	struct repair_egroup e = { .copies = info->copies,
		.soft = info->soft,
		.servers = r->servers[info->tier],
		.n_members = info->n_members };

	for (uint8_t i = 0; i < info->n_members; i++) {
		const struct room_member_info *m = &info->members[i];
		const struct large_server *s = large_server(r->ctl->sh, m->server);

		e.members[i] = (struct repair_member){ .state = m->state,
			.gone = s == NULL || s->gone ||
				(m->state == ROOM_MEMBER_FILLING && s->fenced),
			.leaving = s != NULL && s->drain,
			.needed = s != NULL && s->drain && is_needed(r->ctl, egroup, info, i),
			.whole = repair_whole(r->ctl, m) };
	}
	return e;
}

static bool has_source(const struct control *ctl, const struct room_egroup_info *info)
{
	for (uint8_t i = 0; i < info->n_members; i++)
		if (info->members[i].state == ROOM_MEMBER_IN &&
			repair_reaches(ctl, info->members[i].server))
			return true;
	return false;
}

static bool add_member(struct round *r, uint64_t egroup)
{
	struct control *ctl = r->ctl;
	uint32_t avoid[ROOM_AVOID_MAX], n = 0, server;
	uint8_t device;

	for (uint32_t i = 0; (i = large_next_server(ctl->sh, i)) != 0;)
		if (n < ROOM_AVOID_MAX && large_leaving(ctl->sh, i, egroup))
			avoid[n++] = i;
	r->refused = room_member_place(large_room(ctl->sh), egroup, avoid, n, &server, &device) < 0;
	if (r->refused)
		(void)recall_room(ctl); /* the next round may find some */
	return !r->refused && large_member_add(ctl->sh, &r->c, egroup, server, device) == 0;
}

/* So much at once that what has moved can be seen to have moved, now and then. */
static bool may_move(struct round *r, const struct room_egroup_info *info)
{
	if (r->moving_bytes >= MOVE_BYTES)
		return false;
	r->moving_bytes += info->used_bytes;
	return true;
}

/* One step; false when it rests. */
static bool step(struct round *r, uint64_t egroup, const struct room_egroup_info *info,
	const struct repair_egroup *e)
{
	struct repair_todo t = repair_step(e);

	switch (t.what) {
	case REPAIR_REST:
		break;
	case REPAIR_ADD:
		if (!repair_lacks(e) && !may_move(r, info))
			break;
		return add_member(r, egroup);
	case REPAIR_FILLED:
		sys_reached(r->ctl->sys, "copy of an egroup restored");
		large_member_filled(r->ctl->sh, &r->c, egroup, info->members[t.member].server);
		return true;
	case REPAIR_LEAVE:
		large_member_leave(r->ctl->sh, &r->c, egroup, info->members[t.member].server);
		return true;
	}
	return false;
}

/* What has the fewest sound copies comes first, what only moves last. */
uint32_t repair_rank(const struct repair_egroup *e)
{
	uint32_t sound = repair_sound(e);

	return !repair_lacks(e) ? MOVES_RANK : sound > 0 ? sound : 1;
}

static void note_state(struct round *r, const struct room_egroup_info *info,
	const struct repair_egroup *e, uint64_t *lacking_bytes, uint64_t *lacking)
{
	uint32_t rank = repair_rank(e);

	if (repair_lacks(e)) {
		*lacking_bytes += info->used_bytes;
		++*lacking;
	}
	for (uint8_t i = 0; i < info->n_members; i++)
		if (info->members[i].state == ROOM_MEMBER_FILLING && has_source(r->ctl, info) &&
			!repair_whole(r->ctl, &info->members[i]) &&
			repair_reaches(r->ctl, info->members[i].server) &&
			(r->urgent == 0 || rank < r->urgent))
			r->urgent = rank;
}

/* There is something to be done about it, or might be. */
static bool is_cared_for(const struct round *r, const struct room_egroup_info *info)
{
	bool leaving = false;

	for (uint8_t i = 0; i < info->n_members; i++)
		leaving |= large_server(r->ctl->sh, info->members[i].server)->drain;
	return !info->doomed && !info->lost && (info->copies > 1 || info->n_members > 1 || leaving);
}

/* What keeps an egroup on servers that are to be emptied. */
static void note_stuck(struct round *r, const struct room_egroup_info *info,
	const struct repair_egroup *e)
{
	enum drain_stuck why = DRAIN_MOVES;
	uint32_t kept = 0, able;

	for (uint8_t i = 0; i < e->n_members; i++) {
		kept += !e->members[i].leaving && !e->members[i].gone;
		if (e->members[i].leaving && e->members[i].needed)
			why = DRAIN_GRANTS;
	}
	able = r->servers[TIER_FLASH] + r->servers[TIER_DISK];
	if (kept < e->copies && !has_source(r->ctl, info))
		why = DRAIN_AWAY;
	else if (r->refused)
		why = able <= kept ? DRAIN_SERVERS : DRAIN_ROOM;
	for (uint8_t i = 0; i < e->n_members; i++) {
		struct server *s = r->ctl->servers[info->members[i].server];

		if (e->members[i].leaving && s != NULL && s->stuck_next < why)
			s->stuck_next = why;
	}
}

static void stuck_publish(struct control *ctl)
{
	for (uint32_t i = 1; i <= LIMIT_SERVERS_MAX; i++)
		if (ctl->servers[i] != NULL) {
			ctl->servers[i]->stuck = ctl->servers[i]->stuck_next;
			ctl->servers[i]->stuck_next = DRAIN_MOVES;
		}
}

/* In the memory of a server that is to be emptied, and can be had. */
bool repair_moving(const struct control *ctl, const struct room_egroup_info *info)
{
	return info->tier == TIER_DRAM && !info->lost && !info->doomed &&
	       large_server(ctl->sh, info->server)->drain && repair_reaches(ctl, info->server);
}

static void plan_memory(struct round *r)
{
	const struct room *room = large_room(r->ctl->sh);

	for (uint32_t i = 1; i <= LIMIT_SERVERS_MAX; i++) {
		struct server *s = r->ctl->servers[i];
		struct room_egroup_info info;
		uint64_t egroup;
		uint32_t at = 0;

		if (s == NULL || !large_server(r->ctl->sh, i)->drain)
			continue;
		while ((egroup = room_next_egroup(room, i, &at)) != 0) {
			enum drain_stuck why = DRAIN_MOVES;

			if (!room_egroup(room, egroup, &info) || info.tier != TIER_DRAM ||
				info.lost || info.doomed)
				continue;
			if (!repair_moving(r->ctl, &info))
				why = DRAIN_AWAY;
			else if (info.used_bytes > 0)
				r->urgent = r->urgent == 0 ? MOVES_RANK : r->urgent;
			else if (info.granted_bytes > 0)
				why = DRAIN_GRANTS;
			s->stuck_next = s->stuck_next < why ? why : s->stuck_next;
		}
	}
}

PARKS int repair_plan(struct round *r)
{
	const struct room *room = large_room(r->ctl->sh);
	uint64_t lacking_bytes = 0, lacking = 0, egroup;
	uint32_t at = 0, n = 0;
	int rc = 0;

	r->urgent = 0;
	r->moving_bytes = 0;
	for (uint8_t t = 0; t < TIER_COUNT; t++)
		r->servers[t] = room_servers(room, t);
	while (rc == 0 && (egroup = room_next_egroup(room, 0, &at)) != 0) {
		struct room_egroup_info info;
		struct repair_egroup e = { .copies = 0 };

		for (int i = 0; i < ROOM_MEMBERS_MAX; i++) {
			if (!room_egroup(room, egroup, &info) || !is_cared_for(r, &info)) {
				e.copies = 0;
				break;
			}
			e = repair_view(r, egroup, &info);
			r->refused = false;
			if (!step(r, egroup, &info, &e))
				break;
		}
		if (e.copies > 0)
			note_state(r, &info, &e, &lacking_bytes, &lacking);
		if (e.copies > 0 && repair_moves(&e))
			note_stuck(r, &info, &e);
		if (++n % PLAN_STEP == 0)
			rc = fiber_yield();
	}
	plan_memory(r);
	stuck_publish(r->ctl);
	r->ctl->repair.lacking_bytes = lacking_bytes;
	r->ctl->repair.lacking_egroups = lacking;
	if (rc == 0 && r->c.sync)
		rc = shard_settle(r->ctl->sh, &r->c,
			sys_after(r->ctl->sys, SETTLE_MS * SYS_MS));
	r->c.sync = false;
	return rc;
}

