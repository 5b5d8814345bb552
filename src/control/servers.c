/* SPDX-License-Identifier: Apache-2.0 */
/* Storage servers: registered, heard, silent, gone; and fenced, when they surely serve nobody.
 *
 * A server counts the time without an answer from when it sent the heartbeat that was answered
 * last; we count from when we heard it, which is later, and an eighth more for clocks that differ.
 */
#include "control/own.h"

static const struct sm_state server_states[] = {
	[SERVER_UP] = { "up", TO(SERVER_SILENT) | TO(SERVER_UP) },
	[SERVER_SILENT] = { "silent", TO(SERVER_UP) | TO(SERVER_GONE) | TO(SERVER_SILENT) },
	[SERVER_GONE] = { "gone", TO(SERVER_UP) | TO(SERVER_SILENT) },
};
enum { REGISTER_MS = 10000, KEYS_BYTES = 256 };

/* Known from now on, with a fiber that sends it what it has to drop. */
static struct server *server_add(struct control *ctl, uint32_t id)
{
	struct server *s = ctl->servers[id];

	if (s != NULL)
		return s;
	s = calloc(1, sizeof *s);
	if (s == NULL)
		return NULL;
	s->ctl = ctl;
	s->id = id;
	s->heard_ns = loop_now_ns(sys_loop(ctl->sys));
	sm_init(&s->state, server_states, SERVER_SILENT);
	if (fiber_start(&ctl->fibers, "drops", drops_run, s) < 0) {
		free(s);
		return NULL;
	}
	ctl->servers[id] = s;
	return s;
}

int servers_load(struct control *ctl, struct err_note *note)
{
	for (uint32_t id = 0; (id = large_next_server(ctl->sh, id)) != 0;)
		if (!large_server(ctl->sh, id)->removed && server_add(ctl, id) == NULL)
			return err_set(note, E_NOMEM, "no room for storage server %u", id);
	return 0;
}

void servers_fini(struct control *ctl)
{
	for (uint32_t i = 1; i <= LIMIT_SERVERS_MAX; i++)
		free(ctl->servers[i]);
}

void tiers_have(const struct control *ctl, struct hints_tier ret_have[TIER_COUNT])
{
	for (uint8_t t = 0; t < TIER_COUNT; t++) {
		ret_have[t] = (struct hints_tier){ .devices = 0 };
		ret_have[t].devices =
			room_devices(large_room(ctl->sh), t, &ret_have[t].free_bytes);
	}
}

static void silent(struct server *s)
{
	if (s->state.now == SERVER_UP)
		large_server_up(s->ctl->sh, s->id, false);
	sm_move(&s->state, SERVER_SILENT);
}

void server_give_up(struct server *s)
{
	if (s->conn != NULL && rpc_conn_stream(s->conn) != NULL)
		sys_stream_shut(rpc_conn_stream(s->conn));
	s->conn = NULL;
	silent(s);
	s->fenced = true;
}

/* ---- time ---- */
static void look_at(struct server *s, uint64_t now_ns)
{
	struct control *ctl = s->ctl;
	uint64_t silent_ns = now_ns - s->heard_ns;

	if (s->state.now == SERVER_UP && silent_ns > ctl->silent_ns)
		silent(s);
	if (s->state.now != SERVER_UP && !s->fenced
		&& silent_ns > ctl->fence_ns + ctl->fence_ns / 8) {
		s->fenced = true;
		large_server_fenced(ctl->sh, s->id);
	}
	if (s->state.now == SERVER_SILENT && s->fenced && silent_ns > ctl->gone_ns) {
		sm_move(&s->state, SERVER_GONE);
		large_server_gone(ctl->sh, s->id);
	}
}

void servers_look(struct control *ctl, bool stalled)
{
	uint64_t now_ns = loop_now_ns(sys_loop(ctl->sys));

	for (uint32_t i = 1; i <= LIMIT_SERVERS_MAX; i++) {
		struct server *s = ctl->servers[i];

		if (s == NULL)
			continue;
		if (stalled)
			s->heard_ns = now_ns;
		look_at(s, now_ns);
	}
}

void servers_lost(struct control *ctl, struct rpc_conn *c)
{
	for (uint32_t i = 1; i <= LIMIT_SERVERS_MAX; i++)
		if (ctl->servers[i] != NULL && ctl->servers[i]->conn == c)
			ctl->servers[i]->conn = NULL;
}

/* ---- what is at rest ---- */
/* Numbers go up, whoever leads. */
void servers_scrub(struct control *ctl)
{
	uint64_t number = shard_time_held_ms(ctl->sh);

	ctl->scrub = number > ctl->scrub ? number : ctl->scrub + 1;
}

void servers_scrubbed(const struct control *ctl, struct msg_scrub_ok *ret)
{
	for (uint32_t i = 1; i <= LIMIT_SERVERS_MAX; i++) {
		const struct server *s = ctl->servers[i];

		if (s == NULL || !repair_reaches(ctl, i) || rpc_conn_version(s->conn) < 2)
			continue;
		ret->servers_busy += ctl->scrub != 0 && s->scrub.ended != ctl->scrub;
		ret->extents += s->scrub.extents;
		ret->extent_bytes += s->scrub.bytes;
		ret->extents_found += s->scrub.found;
		ret->rotten += s->scrub.rotten;
	}
}

/* ---- requests ---- */
static void note_devices(struct server *s, struct wire_list l)
{
	struct sub_device_info d;

	s->n_devices = 0;
	while (s->n_devices < LIMIT_DEVICES_MAX && sub_device_info_next(&l, &d)) {
		(void)large_device(s->ctl->sh, s->id, &d); /* refused ones stay as they were */
		s->devices[s->n_devices++] =
			(struct device_note){ d.device, d.tier, d.pinned_bytes };
	}
}

static void hear(struct server *s)
{
	s->heard_ns = loop_now_ns(sys_loop(s->ctl->sys));
	if (s->state.now == SERVER_UP)
		return;
	sm_move(&s->state, SERVER_UP);
	large_server_up(s->ctl->sh, s->id, true);
}

/* A process that has died may still be heard: what it sent was held up on the way.  Its connection
 * is older than the one on which the next process of that server registered. */
static bool is_late(const struct control *ctl, const struct conn *conn,
	const struct msg_store_register *m)
{
	for (uint32_t id = 0; (id = large_next_server(ctl->sh, id)) != 0;) {
		const struct large_server *pub = large_server(ctl->sh, id);
		const struct server *s = ctl->servers[id];

		if (pub->uuid_hi == m->uuid_hi && pub->uuid_lo == m->uuid_lo)
			return s != NULL && s->conn_number > conn->number &&
				pub->incarnation != m->incarnation;
	}
	return false;
}

static PARKS int take_in(struct control *ctl, struct shard_call *c, struct rpc_request *r,
	const struct msg_store_register *m, struct server **ret_s)
{
	struct server *s;
	uint32_t id = 0;
	int rc;

	if (!c->who.admin)
		return err_set(&c->note, E_DENIED, "only with the cluster's key");
	if (m->addr.len == 0 && m->local.len == 0)
		return err_set(&c->note, E_INVALID, "a storage server without an address");
	if (is_late(ctl, conn_of(ctl, r->conn), m)) {
		sys_reached(ctl->sys, "registration of a storage process that has died");
		return err_set(&c->note, E_STALE, "another process registered as this server");
	}
	if (m->epoch > shard_epoch(ctl->sh))
		return err_set(&c->note, E_STALE, "it has obeyed epoch %llu, the shard is at %llu: "
			"is it of another cluster?", (unsigned long long)m->epoch,
			(unsigned long long)shard_epoch(ctl->sh));
	if ((rc = large_register(ctl->sh, c, m, &id)) < 0)
		return rc;
	if ((s = server_add(ctl, id)) == NULL)
		return err_set(&c->note, E_NOMEM, "no room for a storage server");
	if (s->conn != NULL && s->conn != r->conn && rpc_conn_stream(s->conn) != NULL)
		sys_stream_shut(rpc_conn_stream(s->conn));
	s->conn = NULL;
	s->conn_number = conn_of(ctl, r->conn)->number;
	s->fenced = false;
	silent(s);
	s->heard_ns = loop_now_ns(sys_loop(ctl->sys));
	c->sync = true;
	rc = shard_settle(ctl->sh, c, sys_after(ctl->sys, REGISTER_MS * SYS_MS));
	if (rc < 0)
		return err_set(&c->note, rc, "the registration is not on the medium yet");
	if (large_server(ctl->sh, id)->incarnation != m->incarnation || s->conn != NULL)
		return err_set(&c->note, E_STALE, "another process registered as this server");
	*ret_s = s;
	return 0;
}

/* It is up from its first heartbeat on, which says that it has the answer to this. */
PARKS void on_store_register(void *arg, struct rpc_request *r)
{
	struct control *ctl = arg;
	uint8_t room[KEYS_BYTES], first[CAP_KEY_BYTES];
	struct msg_store_register m;
	struct msg_store_ok ok;
	struct server *s = NULL;
	struct shard_call c;
	int rc;

	call_begin(ctl, r, &c);
	rc = decoded(&c, msg_store_register_get(r->body.p, r->body.len, r->version, &m));
	if (rc == 0)
		rc = take_in(ctl, &c, r, &m, &s);
	if (rc == 0) {
		token_cap_key(ctl->key, 0, first);
		ok = (struct msg_store_ok){ s->id, shard_epoch(ctl->sh),
			bytes_of(first, sizeof first),
			keys_told(ctl, room, sizeof room, c.version) };
		note_devices(s, m.devices);
		if (rpc_conn_open(r->conn))
			s->conn = r->conn;
	}
	answer(ctl, r, &c, rc, OP_store_ok, &ok);
	explicit_bzero(room, sizeof room);
	explicit_bzero(first, sizeof first);
}

void on_heartbeat(void *arg, struct rpc_request *r)
{
	struct control *ctl = arg;
	struct msg_heartbeat_ok ok = { .epoch = shard_epoch(ctl->sh),
		.shard_time_ms = shard_time_held_ms(ctl->sh) };
	struct msg_heartbeat m;
	struct shard_call c;
	struct server *s = NULL;
	int rc;

	call_begin(ctl, r, &c);
	rc = decoded(&c, msg_heartbeat_get(r->body.p, r->body.len, r->version, &m));
	if (rc == 0 && m.server <= LIMIT_SERVERS_MAX)
		s = ctl->servers[m.server];
	if (rc == 0 && s != NULL && large_server(ctl->sh, s->id)->removed)
		rc = err_set(&c.note, E_GONE, "storage server %u was removed", s->id);
	if (rc == 0 && (s == NULL || s->conn != r->conn || s->fenced
		|| large_server(ctl->sh, s->id)->incarnation != m.incarnation))
		rc = err_set(&c.note, E_STALE, "register first");
	/* Room is granted on it from now on, so it must refuse who led before (R12). */
	if (rc == 0 && r->version >= 2 && m.epoch != shard_epoch(ctl->sh))
		rc = err_set(&c.note, E_STALE, "epoch %llu is not the shard's, %llu",
			(unsigned long long)m.epoch, (unsigned long long)shard_epoch(ctl->sh));
	if (rc < 0) {
		rpc_reply_error(r, rc, &c.note, RPC_NOW);
		return;
	}
	s->cpu_permille = m.cpu_permille;
	s->scrub = (struct server_scrub){ m.scrub, m.scrub_extents, m.scrub_bytes, m.scrub_found,
		m.scrub_ended_ms, m.rotten };
	ok.scrub = ctl->scrub;
	note_devices(s, m.devices);
	hear(s);
	ok.keys = keys_told(ctl, ctl->told, KEYS_BYTES, c.version);
	revoked_told(ctl, m.revoked_to, ctl->told + KEYS_BYTES, sizeof ctl->told - KEYS_BYTES,
		c.version, &ok);
	/* Only from who surely leads: else a server would not fence itself while the next one that
	 * leads counts on it. */
	rpc_reply(r, OP_heartbeat_ok, &ok, bytes_of(NULL, 0), serve_gate(ctl->v, 0, false));
}
