/* SPDX-License-Identifier: Apache-2.0 */
/* Restores copies: one fiber, round and round.
 *
 *   plan (all egroups, core/repair.h) ----> written and synced ----> bad extents, one by one
 *     ^                                                                |
 *     '---- members found whole <---- a walk through all extents <-----'
 *
 * A walk has each extent brought where it is missing, by the server that is to have it; what is
 * there already costs a question. Those with the fewest copies left come first. A server that began
 * anew is asked for all that it should have: a disk that was wiped, or a header that rotted, is
 * found so. Nothing is remembered that is not in rows: after a start a walk finds most of the work
 * done. What a deposed controller still asks for is refused by its epoch. */
#include "control/repair_own.h"

enum {
	LOOK_MS = 1000,      /* between two plans, when nothing calls */
	REST_MS_MAX = 30000, /* when something fails again and again */
};

/* ---- walking ---- */
static bool to_be_checked(const struct control *ctl, uint32_t server)
{
	const struct server *s = ctl->servers[server];

	return repair_reaches(ctl, server) &&
	       s->checked != large_server(ctl->sh, server)->incarnation;
}

static PARKS int visit(struct round *r, const struct large_extent *x, bool *ret_all)
{
	struct room_egroup_info info;
	struct repair_egroup e;
	int rc = 0;

	if (!room_egroup(large_room(r->ctl->sh), x->egroup, &info) || info.doomed || x->lost)
		return 0;
	if (info.tier == TIER_DRAM)
		return r->urgent == MOVES_RANK && repair_moving(r->ctl, &info)
			? repair_fly(r, x, info.server, REPAIR_OUT, ret_all) : 0;
	if (info.n_members < 2)
		return 0;
	e = repair_view(r, x->egroup, &info);
	for (uint8_t i = 0; rc == 0 && i < info.n_members; i++) {
		const struct room_member_info *m = &info.members[i];

		if (m->state == ROOM_MEMBER_IN) {
			if (r->checking && to_be_checked(r->ctl, m->server))
				rc = repair_fly(r, x, m->server, REPAIR_BROUGHT, ret_all);
		} else if (!repair_whole(r->ctl, m)) {
			if (repair_rank(&e) > r->urgent)
				room_walk_spoil(
					large_room_walks(r->ctl->sh), x->egroup, m->server);
			else
				rc = repair_fly(r, x, m->server, REPAIR_BROUGHT, ret_all);
		}
	}
	return rc;
}

static PARKS int walk(struct round *r, bool *ret_all)
{
	uint64_t after = 0;
	uint32_t n;
	int rc = 0;

	*ret_all = true;
	while (rc == 0 && (n = large_extents(r->ctl->sh, after, r->some, STEP)) > 0) {
		after = r->some[n - 1].extent;
		for (uint32_t i = 0; rc == 0 && i < n; i++)
			rc = visit(r, &r->some[i], ret_all);
		if (rc == 0)
			rc = fiber_yield();
	}
	return rc < 0 ? rc : repair_land(r, ret_all);
}

/* Of all servers: whether there is one to be checked, and which incarnation that was. */
static bool begin_checks(struct control *ctl, uint64_t *incarnations)
{
	bool any = false;

	for (uint32_t i = 1; i <= LIMIT_SERVERS_MAX; i++) {
		incarnations[i] = 0;
		if (ctl->servers[i] == NULL || !to_be_checked(ctl, i))
			continue;
		incarnations[i] = large_server(ctl->sh, i)->incarnation;
		any = true;
	}
	return any;
}

/* *ret_all: nothing failed that another round could do better. */
static PARKS int repair_round(struct round *r, uint64_t *incarnations, bool *ret_all)
{
	struct control *ctl = r->ctl;
	struct repairing *p = &ctl->repair;
	int rc = repair_plan(r);

	*ret_all = true;
	if (rc == 0)
		rc = repair_mend(r);
	r->checking = begin_checks(ctl, incarnations);
	if (rc < 0 || (r->urgent == 0 && !r->checking))
		return rc;
	room_walk_begin(large_room_walks(ctl->sh), ++p->walk, p->ended);
	rc = walk(r, ret_all);
	if (rc < 0)
		return rc;
	p->ended = p->walk;
	for (uint32_t i = 1; *ret_all && i <= LIMIT_SERVERS_MAX; i++)
		if (incarnations[i] != 0)
			ctl->servers[i]->checked = incarnations[i];
	return repair_plan(r);
}

PARKS int repair_run(void *arg)
{
	struct control *ctl = arg;
	uint64_t *incarnations = calloc(LIMIT_SERVERS_MAX + 1, sizeof *incarnations);
	struct round *r = calloc(1, sizeof *r);
	uint64_t rest_ms = LOOK_MS;
	int rc = 0;

	fiber_note(0, "restores copies");
	while (incarnations != NULL && r != NULL && rc != E_CANCELED) {
		bool all = true;

		memset(r, 0, sizeof *r);
		r->ctl = ctl;
		rc = shard_failed(ctl->sh) == 0 ? repair_round(r, incarnations, &all) : 0;
		rest_ms = rc == 0 && all ? LOOK_MS : rest_ms * 2;
		rest_ms = rest_ms < REST_MS_MAX ? rest_ms : REST_MS_MAX;
		if (rc != E_CANCELED && (rc < 0 || !all || r->urgent == 0))
			rc = waitq_wait(&ctl->repair.wake, sys_after(ctl->sys, rest_ms * SYS_MS));
		if (fiber_canceled())
			rc = E_CANCELED;
	}
	free(incarnations);
	free(r);
	return 0;
}

/* ---- for those who look on ---- */
static uint32_t count_here(const struct control *ctl, const struct room_egroup_info *info)
{
	uint32_t n = 0;

	for (uint8_t i = 0; i < info->n_members; i++)
		n += info->members[i].state == ROOM_MEMBER_IN &&
		     repair_reaches(ctl, info->members[i].server) &&
		     !to_be_checked(ctl, info->members[i].server);
	return n;
}

static bool is_sound(const struct control *ctl)
{
	const struct room *room = large_room(ctl->sh);
	uint64_t egroup;
	uint32_t at = 0;

	while ((egroup = room_next_egroup(room, 0, &at)) != 0) {
		struct room_egroup_info info;

		if (room_egroup(room, egroup, &info) && !info.doomed && info.copies > 1 &&
			count_here(ctl, &info) < info.copies)
			return false;
	}
	return true;
}

void repair_tell(const struct control *ctl, struct control_copies *ret_copies)
{
	const struct repairing *p = &ctl->repair;

	*ret_copies = (struct control_copies){ .lacking_bytes = p->lacking_bytes,
		.lacking_egroups = p->lacking_egroups,
		.copied_bytes = p->copied_bytes,
		.copied_extents = p->copied_extents,
		.unrepaired = large_lost(ctl->sh),
		.sound = is_sound(ctl) };
}
