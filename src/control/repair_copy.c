/* SPDX-License-Identifier: Apache-2.0 */
/* Extents on their way: a few at once, and not faster than the limit. */
#include "control/repair_own.h"
#include "wire/frame.h"

enum { COPY_MS = 120000 };

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

/* Server `to` brings the extent to itself; the caller has said from whom, and where it goes. */
static PARKS int bring(struct copying *k, uint32_t to, struct msg_extent_copy *ask)
{
	struct control *ctl = k->ctl;
	struct rpc_call call = { .op = OP_extent_copy, .plain = true, .msg = ask };
	uint8_t code[LARGE_CAP_BYTES];
	struct err_note note;
	struct msg_ok ok;
	int rc;

	ask->epoch = shard_epoch(ctl->sh);
	ask->extent = k->x.extent;
	ask->len = k->x.len;
	ask->root = k->x.root;
	ask->cap.len = large_read_cap(ctl->sh, ask->cap_job, &ask->cap_until_ms, code);
	ask->cap.p = code;
	rc = rpc_ask(ctl->servers[to]->conn, &call, OP_ok, &ok,
		sys_after(ctl->sys, COPY_MS * SYS_MS), &note);
	rpc_call_fini(&call);
	return rc;
}

static void count(struct copying *k)
{
	k->ctl->repair.copied_bytes += k->x.len;
	k->ctl->repair.copied_extents++;
}

/* Everything is looked up again here: what was seen before a park may have changed. */
static PARKS int copy(struct copying *k)
{
	struct control *ctl = k->ctl;
	struct msg_extent_copy ask = { .egroup = k->x.egroup, .verify = k->how == REPAIR_CHECKED };
	const struct room_member_info *m;
	struct room_egroup_info info;
	struct large_extent now;
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
	ask.source = sources(ctl, &info, k->server,
		rpc_conn_version(ctl->servers[k->server]->conn), k->room);
	rc = bring(k, k->server, &ask);
	if (rc == 0)
		count(k);
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
static PARKS int move_bytes(struct copying *k, uint64_t domain, const struct large_place *to)
{
	struct control *ctl = k->ctl;
	struct msg_extent_copy ask = { .egroup = to->egroup,
		.tier = to->tier,
		.device = to->device,
		.cap_job = domain,
		.from = k->x.egroup };
	struct room_egroup_info info;

	/* What is dropped on that connection from now on is dropped behind this. */
	if (!room_egroup(large_room(ctl->sh), to->egroup, &info) || info.lost || info.doomed)
		return E_GONE;
	if (!repair_reaches(ctl, to->server))
		return E_UNREACH;
	ask.source = source_of(ctl, k->server,
		rpc_conn_version(ctl->servers[to->server]->conn), k->room);
	return bring(k, to->server, &ask);
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
		!room_egroup(large_room(ctl->sh), now.egroup, &info) || !repair_moving(ctl, &info))
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
	rc = move_bytes(k, info.domain, &to);
	if (shard_failed(ctl->sh) != 0)
		return shard_failed(ctl->sh);
	if (rc < 0) {
		large_move_failed(ctl->sh, k->x.extent, &to);
		return rc;
	}
	rc = large_moved(ctl->sh, &c, k->x.extent, k->x.egroup, &to);
	if (rc == 0) {
		sys_reached(ctl->sys, "extent moved out of the memory of a server");
		count(k);
	}
	return rc == E_NOTFOUND ? 0 : rc; /* deleted meanwhile */
}

static PARKS int copy_fiber(void *arg)
{
	struct copying *k = arg;

	k->rc = k->how == REPAIR_OUT ? move(k) : copy(k);
	if (k->rc < 0 && k->how != REPAIR_OUT)
		room_walk_spoil(large_room_walks(k->ctl->sh), k->x.egroup, k->server);
	return 0;
}

/* Lets all flights land, and rests for as long as their bytes are worth. */
PARKS int repair_land(struct round *r, bool *ret_all)
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

PARKS int repair_fly(struct round *r, const struct large_extent *x, uint32_t server,
	enum repair_how how, bool *ret_all)
{
	struct copying *k = &r->flights[r->n++];

	k->ctl = r->ctl;
	k->x = *x;
	k->server = server;
	k->how = how;
	r->bytes += x->len;
	return r->n == FLYING ? repair_land(r, ret_all) : 0;
}
