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
#include "control/own.h"
#include "core/repair.h"
#include "wire/frame.h"

enum {
	LOOK_MS = 1000,      /* between two plans, when nothing calls */
	REST_MS_MAX = 30000, /* when something fails again and again */
	FLYING = 8,          /* copies under way at once */
	STEP = 64,           /* rows looked at in one turn */
	PLAN_STEP = 512,     /* egroups */
	COPY_MS = 120000,
	SETTLE_MS = 30000,
	MOVE_BYTES = 256 << 20,
	MOVES_RANK = ROOM_MEMBERS_MAX + 1, /* of what has its copies; others': how many they have */
	SOURCES_MAX = 4,
	SOURCE_BYTES = SOURCES_MAX * 1100,
};

struct copying {
	struct control *ctl;
	struct large_extent x;
	uint32_t server;
	bool verify;
	bool moves; /* out of the memory of server */
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

/* ---- looking ---- */
bool repair_reaches(const struct control *ctl, uint32_t server)
{
	const struct large_server *s = large_server(ctl->sh, server);

	return s != NULL && s->up && ctl->servers[server] != NULL &&
	       ctl->servers[server]->conn != NULL;
}

static bool is_whole(const struct control *ctl, const struct room_member_info *m)
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

static struct repair_egroup view_of(
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
			.whole = is_whole(r->ctl, m) };
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

/* ---- planning ---- */
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
static uint32_t rank_of(const struct repair_egroup *e)
{
	uint32_t sound = repair_sound(e);

	return !repair_lacks(e) ? MOVES_RANK : sound > 0 ? sound : 1;
}

static void note_state(struct round *r, const struct room_egroup_info *info,
	const struct repair_egroup *e, uint64_t *lacking_bytes, uint64_t *lacking)
{
	uint32_t rank = rank_of(e);

	if (repair_lacks(e)) {
		*lacking_bytes += info->used_bytes;
		++*lacking;
	}
	for (uint8_t i = 0; i < info->n_members; i++)
		if (info->members[i].state == ROOM_MEMBER_FILLING && has_source(r->ctl, info) &&
			!is_whole(r->ctl, &info->members[i]) &&
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
static bool is_moving(const struct control *ctl, const struct room_egroup_info *info)
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
			if (!is_moving(r->ctl, &info))
				why = DRAIN_AWAY;
			else if (info.used_bytes > 0)
				r->urgent = r->urgent == 0 ? MOVES_RANK : r->urgent;
			else if (info.granted_bytes > 0)
				why = DRAIN_GRANTS;
			s->stuck_next = s->stuck_next < why ? why : s->stuck_next;
		}
	}
}

static PARKS int plan(struct round *r)
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
			e = view_of(r, egroup, &info);
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

/* ---- copying ---- */
static void source_add(struct wire_list_builder *l, const struct large_server *s)
{
	sub_server_addr_add(l,
		&(struct sub_server_addr){ .server = s->server,
			.incarnation = s->incarnation,
			.addr = bytes_of(s->addr, strlen(s->addr)),
			.local = bytes_of(s->local, strlen(s->local)),
			.host = bytes_of(s->host, strlen(s->host)) });
}

static struct wire_list sources(const struct control *ctl, const struct room_egroup_info *info,
	uint32_t target, uint16_t version, uint8_t *room)
{
	struct wire_list_builder l = wire_list_begin(room, SOURCE_BYTES, version);

	for (uint8_t i = 0; i < info->n_members && l.n < SOURCES_MAX; i++) {
		const struct large_server *s = large_server(ctl->sh, info->members[i].server);

		if (info->members[i].state != ROOM_MEMBER_IN || s->server == target || !s->up)
			continue;
		source_add(&l, s);
	}
	return wire_list_end(&l);
}

static const struct room_member_info *member_on(
	const struct room_egroup_info *info, uint32_t server)
{
	for (uint8_t i = 0; i < info->n_members; i++)
		if (info->members[i].server == server)
			return &info->members[i];
	return NULL;
}

/* Everything is looked up again here: what was seen before a park may have changed. */
static PARKS int copy(struct copying *k)
{
	struct control *ctl = k->ctl;
	struct server *s = ctl->servers[k->server];
	struct room_egroup_info info;
	const struct room_member_info *m;
	struct large_extent now;
	uint8_t code[LARGE_CAP_BYTES];
	struct msg_extent_copy ask = { .epoch = shard_epoch(ctl->sh),
		.egroup = k->x.egroup,
		.extent = k->x.extent,
		.len = k->x.len,
		.root = k->x.root,
		.verify = k->verify };
	struct rpc_call call = { .op = OP_extent_copy, .plain = true, .msg = &ask };
	struct err_note note;
	struct msg_ok ok;
	int rc;

	if (!large_extent(ctl->sh, k->x.extent, &now) ||
		!room_egroup(large_room(ctl->sh), k->x.egroup, &info) || info.doomed ||
		(m = member_on(&info, k->server)) == NULL)
		return 0; /* nobody wants it there any more */
	if (!repair_reaches(ctl, k->server))
		return E_UNREACH;
	ask.tier = m->tier;
	ask.device = m->device;
	ask.cap_job = info.domain;
	ask.cap.len = large_read_cap(ctl->sh, info.domain, &ask.cap_until_ms, code);
	ask.cap.p = code;
	ask.source = sources(ctl, &info, k->server, rpc_conn_version(s->conn), k->room);
	rc = rpc_ask(s->conn, &call, OP_ok, &ok, sys_after(ctl->sys, COPY_MS * SYS_MS), &note);
	rpc_call_fini(&call);
	if (rc == 0) {
		ctl->repair.copied_bytes += k->x.len;
		ctl->repair.copied_extents++;
	}
	return rc;
}

static struct wire_list source_of(
	const struct control *ctl, uint32_t server, uint16_t version, uint8_t *room)
{
	struct wire_list_builder l = wire_list_begin(room, SOURCE_BYTES, version);

	source_add(&l, large_server(ctl->sh, server));
	return wire_list_end(&l);
}

/* Its bytes are brought to where it is to be. */
static PARKS int bring(struct copying *k, uint64_t domain, const struct large_place *to)
{
	struct control *ctl = k->ctl;
	uint8_t code[LARGE_CAP_BYTES];
	struct msg_extent_copy ask = { .epoch = shard_epoch(ctl->sh),
		.egroup = to->egroup,
		.extent = k->x.extent,
		.len = k->x.len,
		.root = k->x.root,
		.tier = to->tier,
		.device = to->device,
		.cap_job = domain,
		.from = k->x.egroup };
	struct rpc_call call = { .op = OP_extent_copy, .plain = true, .msg = &ask };
	struct rpc_conn *conn = ctl->servers[to->server]->conn;
	struct room_egroup_info info;
	struct msg_ok ok;
	int rc;

	/* What is dropped on that connection from now on is dropped behind this. */
	if (!room_egroup(large_room(ctl->sh), to->egroup, &info) || info.lost || info.doomed)
		return E_GONE;
	if (!repair_reaches(ctl, to->server))
		return E_UNREACH;
	ask.cap.len = large_read_cap(ctl->sh, domain, &ask.cap_until_ms, code);
	ask.cap.p = code;
	ask.source = source_of(ctl, k->server, rpc_conn_version(conn), k->room);
	rc = rpc_ask(conn, &call, OP_ok, &ok, sys_after(ctl->sys, COPY_MS * SYS_MS), NULL);
	rpc_call_fini(&call);
	return rc;
}

/* An extent in memory, one by one: elsewhere first, then the row says so, then it is dropped. */
static PARKS int move(struct copying *k)
{
	struct control *ctl = k->ctl;
	struct shard_call c = { .sync = false };
	struct room_egroup_info info;
	struct large_place to;
	struct large_extent now;
	int rc;

	if (!large_extent(ctl->sh, k->x.extent, &now) || now.egroup != k->x.egroup ||
		!room_egroup(large_room(ctl->sh), now.egroup, &info) || !is_moving(ctl, &info))
		return 0;
	rc = shard_failed(ctl->sh);
	if (rc == 0)
		rc = large_move_place(ctl->sh, &c, now.egroup, now.len, &to);
	if (rc == E_FULL) {
		ctl->servers[k->server]->stuck_next = DRAIN_ROOM;
		(void)recall_room(ctl);
	}
	if (rc == 0 && c.sync)
		rc = shard_settle(ctl->sh, &c, sys_after(ctl->sys, SETTLE_MS * SYS_MS));
	if (rc < 0)
		return rc;
	rc = bring(k, info.domain, &to);
	if (shard_failed(ctl->sh) != 0)
		return shard_failed(ctl->sh);
	if (rc < 0) {
		large_move_failed(ctl->sh, k->x.extent, &to);
		return rc;
	}
	rc = large_moved(ctl->sh, &c, k->x.extent, k->x.egroup, &to);
	if (rc == 0) {
		sys_reached(ctl->sys, "extent moved out of the memory of a server");
		ctl->repair.copied_bytes += k->x.len;
		ctl->repair.copied_extents++;
	}
	return rc == E_NOTFOUND ? 0 : rc; /* deleted meanwhile */
}

static PARKS int copy_fiber(void *arg)
{
	struct copying *k = arg;

	k->rc = k->moves ? move(k) : copy(k);
	if (k->rc < 0 && !k->moves)
		room_walk_spoil(large_room_walks(k->ctl->sh), k->x.egroup, k->server);
	return 0;
}

/* Lets all flights land, and rests for as long as their bytes are worth. */
static PARKS int land(struct round *r, bool *ret_all)
{
	struct control *ctl = r->ctl;
	uint64_t rest_ns = r->bytes * SYS_SEC / LIMIT_REPAIR_BYTES_PER_S;
	uint64_t until_ns = sys_after(ctl->sys, rest_ns);
	struct group g;
	int rc = 0;

	if (r->n == 0)
		return 0;
	group_init(&g, sys_loop(ctl->sys));
	for (uint32_t i = 0; i < r->n; i++) {
		r->flights[i].rc = E_BUSY;
		if (fiber_start(&g, "copy", copy_fiber, &r->flights[i]) < 0)
			room_walk_spoil(large_room_walks(ctl->sh), r->flights[i].x.egroup,
				r->flights[i].server);
	}
	rc = group_wait(&g);
	for (uint32_t i = 0; i < r->n; i++)
		*ret_all = *ret_all && r->flights[i].rc == 0;
	r->n = 0;
	r->bytes = 0;
	return rc < 0 ? rc : fiber_sleep(until_ns);
}

static PARKS int fly(struct round *r, const struct large_extent *x, uint32_t server, bool verify,
	bool *ret_all)
{
	struct copying *k = &r->flights[r->n++];

	k->moves = false;
	k->ctl = r->ctl;
	k->x = *x;
	k->server = server;
	k->verify = verify;
	r->bytes += x->len;
	return r->n == FLYING ? land(r, ret_all) : 0;
}

/* ---- bad extents ---- */
/* One server looks at what it has, and makes it good if another one has it: as it said. */
static PARKS int look_again(struct round *r, const struct large_extent *x, uint32_t server,
	int *ret_rc)
{
	bool all = true;
	int rc;

	check(r->n == 0);
	rc = fly(r, x, server, true, &all);
	if (rc == 0)
		rc = land(r, &all);
	*ret_rc = r->flights[0].rc;
	return rc;
}

/* Nobody has what was written, each member says: it has looked itself.  Whoever cannot be asked may
 * have it, and so may one that is being filled. */
static PARKS int mourn(struct round *r, const struct large_extent *x)
{
	struct control *ctl = r->ctl;
	struct room_egroup_info info;
	struct large_extent now;
	int rc = 0, said;

	if (!room_egroup(large_room(ctl->sh), x->egroup, &info) || info.doomed)
		return 0;
	for (uint8_t i = 0; i < info.n_members; i++) {
		if (info.members[i].state != ROOM_MEMBER_IN ||
			!repair_reaches(ctl, info.members[i].server))
			return 0;
		rc = look_again(r, x, info.members[i].server, &said);
		if (rc < 0 || said != E_CORRUPT)
			return rc;
	}
	if (!large_extent(ctl->sh, x->extent, &now) || now.egroup != x->egroup)
		return 0;
	sys_reached(ctl->sys, "an extent was lost: rotten on all of its servers");
	large_extent_lost(ctl->sh, x->extent);
	return 0;
}

static PARKS int mend(struct round *r)
{
	struct repairing *p = &r->ctl->repair;
	int rc = 0, said;

	while (rc == 0 && p->n_bad > 0) {
		struct bad b = p->bad[--p->n_bad];
		struct large_extent x;

		if (!large_extent(r->ctl->sh, b.extent, &x) || x.egroup != b.egroup || x.lost)
			continue;
		rc = look_again(r, &x, b.server, &said);
		if (rc == 0 && said == E_CORRUPT)
			rc = mourn(r, &x);
	}
	return rc;
}

void on_extent_bad(void *arg, struct rpc_request *req)
{
	struct control *ctl = arg;
	struct repairing *p = &ctl->repair;
	struct msg_extent_bad m;
	struct sub_bad_extent b;
	struct shard_call c;
	uint32_t of = 0, most;
	int rc;

	call_begin(ctl, req, &c);
	rc = decoded(&c, msg_extent_bad_get(req->body.p, req->body.len, req->version, &m));
	for (uint32_t i = 1; i <= LIMIT_SERVERS_MAX; i++)
		if (ctl->servers[i] != NULL && ctl->servers[i]->conn == req->conn)
			of = i;
	/* Whoever is not known to be right must not keep out those who are. */
	most = of != 0 || c.who.admin ? BAD_MAX : BAD_MAX / 4;
	while (rc == 0 && p->n_bad < most && sub_bad_extent_next(&m.extents, &b)) {
		uint32_t server = b.server != 0 ? b.server : of;

		if (large_server(ctl->sh, server) != NULL)
			p->bad[p->n_bad++] = (struct bad){ b.egroup, b.extent, server };
	}
	if (rc < 0) {
		rpc_reply_error(req, rc, &c.note, RPC_NOW);
		return;
	}
	waitq_wake_all(&p->wake);
	rpc_reply_ok(req, RPC_NOW);
}

/* ---- walking ---- */
static bool to_be_checked(const struct control *ctl, uint32_t server)
{
	const struct server *s = ctl->servers[server];

	return repair_reaches(ctl, server) &&
	       s->checked != large_server(ctl->sh, server)->incarnation;
}

static PARKS int visit_memory(
	struct round *r, const struct large_extent *x, uint32_t server, bool *ret_all)
{
	struct copying *k = &r->flights[r->n++];

	k->ctl = r->ctl;
	k->x = *x;
	k->server = server;
	k->verify = false;
	k->moves = true;
	r->bytes += x->len;
	return r->n == FLYING ? land(r, ret_all) : 0;
}

static PARKS int visit(struct round *r, const struct large_extent *x, bool *ret_all)
{
	struct room_egroup_info info;
	struct repair_egroup e;
	int rc = 0;

	if (!room_egroup(large_room(r->ctl->sh), x->egroup, &info) || info.doomed || x->lost)
		return 0;
	if (info.tier == TIER_DRAM)
		return r->urgent == MOVES_RANK && is_moving(r->ctl, &info)
			? visit_memory(r, x, info.server, ret_all) : 0;
	if (info.n_members < 2)
		return 0;
	e = view_of(r, x->egroup, &info);
	for (uint8_t i = 0; rc == 0 && i < info.n_members; i++) {
		const struct room_member_info *m = &info.members[i];

		if (m->state == ROOM_MEMBER_IN) {
			if (r->checking && to_be_checked(r->ctl, m->server))
				rc = fly(r, x, m->server, false, ret_all);
		} else if (!is_whole(r->ctl, m)) {
			if (rank_of(&e) > r->urgent)
				room_walk_spoil(
					large_room_walks(r->ctl->sh), x->egroup, m->server);
			else
				rc = fly(r, x, m->server, false, ret_all);
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
	return rc < 0 ? rc : land(r, ret_all);
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
	int rc = plan(r);

	*ret_all = true;
	if (rc == 0)
		rc = mend(r);
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
	return plan(r);
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
