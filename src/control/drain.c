/* SPDX-License-Identifier: Apache-2.0 */
/* Storage servers that are to leave: emptied while they live, or given up when they are gone.
 *
 *   drain (row) ----> nothing new is put there
 *                     repair.c moves what is there, one extent after the other
 *                     clients are asked to return room that they do not write into
 *               ----> nothing is there any more: it may go
 *   removed (row) --> it is refused for ever; what only it had is lost
 *
 * An egroup stays where its writers were told it is until their grants have ended: what they write
 * can be named only there.  A client that answers keeps what it is writing into for as long as it
 * takes; of one that does not, the grants are ended after RECALL_MS, and at once those of which the
 * client says that it knows of none: they, or their return, were lost on the way. */
#include "control/own.h"
#include "core/repair.h"
#include <stdio.h>

enum {
	LOOK_MS = 500,
	RECALL_MS = 60000,  /* longer than a client that writes is silent */
	GRANTS_STEP = 64,   /* ended in one turn */
};

/* The grants of one session, or (0) of clients that do not answer. */
static void end_grants(struct control *ctl, uint32_t server, uint64_t session)
{
	struct room *room = large_room_walks(ctl->sh);
	struct shard_call c = { .sync = false };
	uint32_t at = 0, n = 0;
	uint64_t egroup, grant;

	while (n < GRANTS_STEP && (egroup = room_next_egroup(room, server, &at)) != 0)
		for (uint32_t i = 0; (grant = room_egroup_grant(room, egroup, i)) != 0; i++) {
			struct room_grant_info info;

			if (!room_grant_look(room, grant, &info) ||
				(session == 0 ? recall_heard(ctl, info.session)
					      : session != info.session))
				continue;
			sys_reached(ctl->sys, "grant ended, for its server is emptied");
			large_grant_end(ctl->sh, &c, grant);
			n++;
			break; /* the list is another one now */
		}
}

/* Nothing new is granted there, so what its client does not know of it never will. */
void drain_unknown(struct control *ctl, uint32_t server, uint64_t session)
{
	if (shard_failed(ctl->sh) == 0 && large_server(ctl->sh, server)->drain)
		end_grants(ctl, server, session);
}

static bool has_grants(const struct control *ctl, uint32_t server)
{
	uint32_t at = 0;
	uint64_t egroup;

	while ((egroup = room_next_egroup(large_room(ctl->sh), server, &at)) != 0)
		if (room_egroup_grant(large_room(ctl->sh), egroup, 0) != 0)
			return true;
	return false;
}

static PARKS int look(struct control *ctl)
{
	uint64_t now_ns = loop_now_ns(sys_loop(ctl->sys));
	int rc = 0;

	for (uint32_t i = 1; rc == 0 && i <= LIMIT_SERVERS_MAX; i++) {
		struct server *s = ctl->servers[i];

		if (s == NULL || !large_server(ctl->sh, i)->drain) {
			if (s != NULL)
				s->drain_ns = 0;
			continue;
		}
		if (s->drain_ns == 0)
			s->drain_ns = now_ns;
		if (!has_grants(ctl, i))
			continue;
		rc = recall_clients(ctl, i);
		if (rc == 0 && shard_failed(ctl->sh) == 0 &&
			sys_now_ns(ctl->sys) - s->drain_ns > RECALL_MS * SYS_MS)
			end_grants(ctl, i, 0);
	}
	return rc;
}

PARKS int drain_run(void *arg)
{
	struct control *ctl = arg;
	int rc = 0;

	fiber_note(0, "asks for room on servers that leave");
	while (rc != E_CANCELED && !fiber_canceled()) {
		if (shard_failed(ctl->sh) == 0)
			rc = look(ctl);
		if (rc != E_CANCELED)
			rc = fiber_sleep(sys_after(ctl->sys, LOOK_MS * SYS_MS));
	}
	return 0;
}

/* ---- for operators ---- */
static bool is_of(const struct control *ctl, uint32_t server, uint64_t node)
{
	const struct large_server *s = large_server(ctl->sh, server);

	return s != NULL && s->node == node && node != 0 && !s->removed;
}

/* Bytes of files and grants there, and those of them that are nowhere else. */
static uint64_t held(const struct control *ctl, uint32_t server, uint64_t *ret_only)
{
	const struct room *room = large_room(ctl->sh);
	uint64_t bytes = 0, egroup;
	uint32_t at = 0;

	*ret_only = 0;
	while ((egroup = room_next_egroup(room, server, &at)) != 0) {
		struct room_egroup_info info;
		bool elsewhere = false;

		if (!room_egroup(room, egroup, &info) || info.lost || info.doomed)
			continue;
		for (uint8_t i = 0; i < info.n_members; i++) {
			const struct room_member_info *m = &info.members[i];

			elsewhere |= m->server != server && m->state == ROOM_MEMBER_IN &&
				     !large_server(ctl->sh, m->server)->gone;
		}
		/* an egroup without a byte is there, too */
		bytes += info.used_bytes + info.granted_bytes + 1;
		*ret_only += elsewhere ? 0 : info.used_bytes;
	}
	return bytes;
}

static const char *const reasons[] = {
	[DRAIN_MOVES] = "",
	[DRAIN_GRANTS] = "clients still write into room that they were given there",
	[DRAIN_AWAY] = "it is away, and has what nobody else has",
	[DRAIN_SERVERS] = "fewer storage servers would be left than copies were asked for",
	[DRAIN_ROOM] = "no other storage server has room for it",
};

void control_node_look(const struct control *ctl, uint64_t node, struct control_node *ret)
{
	*ret = (struct control_node){ .storage = STORAGE_NONE, .waits = "" };
	for (uint32_t i = 1; i <= LIMIT_SERVERS_MAX; i++) {
		uint64_t only;

		if (ctl->servers[i] == NULL || !is_of(ctl, i, node))
			continue;
		if (ret->storage != STORAGE_UP)
			ret->storage = large_server(ctl->sh, i)->up ? STORAGE_UP : STORAGE_AWAY;
		ret->held_bytes += held(ctl, i, &only);
		ret->only_bytes += only;
		ret->fenced = ret->storage == STORAGE_AWAY && large_server(ctl->sh, i)->fenced;
		if (large_server(ctl->sh, i)->drain) {
			ret->waits = reasons[ctl->servers[i]->stuck];
			ret->stuck = ctl->servers[i]->stuck >= DRAIN_AWAY;
		}
	}
}

int control_node_drain(struct control *ctl, uint64_t node, bool drain)
{
	struct shard_call c = { .sync = false };
	int rc = shard_failed(ctl->sh);

	for (uint32_t i = 1; rc == 0 && i <= LIMIT_SERVERS_MAX; i++)
		if (is_of(ctl, i, node) && large_server(ctl->sh, i)->drain != drain) {
			rc = large_server_drain(ctl->sh, &c, i, drain);
			waitq_wake_all(&ctl->repair.wake);
		}
	return rc;
}

int control_node_remove(struct control *ctl, uint64_t node)
{
	struct shard_call c = { .sync = false };
	int rc = shard_failed(ctl->sh);

	for (uint32_t i = 1; rc == 0 && i <= LIMIT_SERVERS_MAX; i++) {
		struct server *s = ctl->servers[i];
		uint64_t only;

		if (s == NULL || !is_of(ctl, i, node))
			continue;
		if (held(ctl, i, &only) == 0)
			sys_reached(ctl->sys, "storage server removed that was empty");
		else if (only == 0)
			sys_reached(ctl->sys, "storage server removed whose copies are elsewhere");
		else
			sys_reached(ctl->sys, "storage server removed with what only it had");
		server_give_up(s);
		rc = large_server_remove(ctl->sh, &c, i);
		waitq_wake_all(&ctl->repair.wake);
	}
	return rc;
}

int control_node_may_go(
	const struct control *ctl, uint64_t node, bool force, struct err_note *note)
{
	unsigned long long n = node;
	struct control_node c;

	control_node_look(ctl, node, &c);
	if (c.held_bytes == 0)
		return 0;
	if (c.storage == STORAGE_UP)
		return err_set(note, E_BUSY, "node %llu lives and has data: "
			"wadi node drain %llu first, or stop it when it is lost", n, n);
	if (c.only_bytes > 0 && !force)
		return err_set(note, E_BUSY, "%llu bytes are only on node %llu: start it and "
			"wadi node drain %llu, or give them up: wadi node rm --force %llu",
			(unsigned long long)c.only_bytes, n, n, n);
	if (!c.fenced)
		return err_set(note, E_UNAVAILABLE, "node %llu was heard of a moment ago: in ten "
			"seconds it surely serves nobody any more", n);
	return 0;
}
