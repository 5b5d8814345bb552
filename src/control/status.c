/* SPDX-License-Identifier: Apache-2.0 */
/* status: every byte once.  capacity = used + pinned + granted + orphaned + reserved + free. */
#include "control/own.h"

static void add_tier(struct wire_list_builder *l, uint8_t tier, struct room_sum s, uint64_t pinned)
{
	struct sub_tier_status t = { .tier = tier,
		.capacity_bytes = s.capacity,
		.used_bytes = s.used,
		.granted_bytes = s.granted,
		.orphaned_bytes = s.orphaned,
		.reserved_bytes = s.reserved };
	bool fits;

	/* what the account has back but a reader still maps */
	t.pinned_bytes = pinned < s.free ? pinned : s.free;
	t.free_bytes = s.free - t.pinned_bytes;
	/* a server that came back smaller than it was, and a job's share, which has no capacity */
	if (s.capacity < s.used + s.granted + s.orphaned + s.reserved + s.free)
		t.capacity_bytes = s.used + s.granted + s.orphaned + s.reserved + s.free;
	fits = sub_tier_status_add(l, &t);
	check(fits);
}

static uint64_t pinned(const struct control *ctl, uint32_t server, uint8_t tier)
{
	uint64_t sum = 0;

	for (uint32_t i = 1; i <= LIMIT_SERVERS_MAX; i++) {
		const struct server *s = ctl->servers[i];

		if (s == NULL || (server != 0 && i != server))
			continue;
		for (uint32_t d = 0; d < s->n_devices; d++)
			sum += s->devices[d].tier == tier ? s->devices[d].pinned_bytes : 0;
	}
	return sum;
}

static struct wire_list tiers(const struct control *ctl, const struct shard_call *c,
	uint32_t server, uint64_t job, uint8_t *room, size_t len)
{
	struct wire_list_builder l = wire_list_begin(room, len, c->version);

	for (uint8_t t = 0; t < TIER_COUNT; t++) {
		struct room_sum s = room_sum(large_room(ctl->sh), server, t, job);

		if (s.capacity > 0 || s.used + s.granted + s.orphaned + s.reserved > 0)
			add_tier(&l, t, s, job == 0 ? pinned(ctl, server, t) : 0);
	}
	return wire_list_end(&l);
}

static struct wire_list servers(const struct control *ctl, const struct shard_call *c,
	uint8_t *room, size_t len)
{
	struct wire_list_builder l = wire_list_begin(room, len, c->version);
	uint64_t now_ns = loop_now_ns(sys_loop(ctl->sys));

	for (uint32_t i = 1; i <= LIMIT_SERVERS_MAX; i++) {
		const struct server *s = ctl->servers[i];
		const struct large_server *pub;
		uint8_t own[TIER_COUNT * 64];
		uint64_t heard_ms;

		if (s == NULL || large_server(ctl->sh, i)->removed)
			continue;
		pub = large_server(ctl->sh, i);
		heard_ms = (now_ns - s->heard_ns) / SYS_MS;
		if (!sub_server_status_add(&l, &(struct sub_server_status){ .server = i,
				.state = (uint8_t)s->state.now,
				.incarnation = pub->incarnation,
				.heard_ms = heard_ms < UINT32_MAX ? (uint32_t)heard_ms : UINT32_MAX,
				.cpu_permille = s->cpu_permille,
				.addr = bytes_of(pub->addr, strlen(pub->addr)),
				.tiers = tiers(ctl, c, i, 0, own, sizeof own),
				.scrub_bytes = s->scrub.bytes,
				.scrub_ended_ms = s->scrub.ended_ms,
				.rotten = s->scrub.rotten }))
			break;
	}
	return wire_list_end(&l);
}

static void of_system(struct control *ctl, const struct shard_call *c, uint8_t *room,
	struct msg_status_ok *ret)
{
	struct shard_status st;

	shard_status(ctl->sh, &st);
	*ret = (struct msg_status_ok){ .jobs = ctl->n_active,
		.buckets = st.buckets,
		.files = st.files,
		.sessions = st.sessions,
		.slab_used_bytes = st.slab.used_bytes,
		.slab_bytes = st.slab.limit_bytes,
		.memtable_bytes = st.db.memtable_bytes + st.db.frozen_bytes,
		.tree_bytes = st.db.tree_bytes,
		.log_bytes = st.db.log_bytes,
		.log_index = st.db.seen,
		.synced_index = st.db.synced,
		.merged_index = st.db.merged,
		.resident_bytes = sys_memory_self(ctl->sys),
		.uptime_ms = (sys_now_ns(ctl->sys) - ctl->born_ns) / SYS_MS,
		.cpu_ms = sys_cpu_ns(ctl->sys) / SYS_MS,
		.lacking_bytes = ctl->repair.lacking_bytes,
		.copied_bytes = ctl->repair.copied_bytes,
		.unrepaired = large_lost(ctl->sh) };
	ret->tiers = tiers(ctl, c, 0, 0, room, 1024);
	ret->servers = servers(ctl, c, room + 1024, REPLY_BYTES - 1024);
}

static void of_job(struct control *ctl, const struct shard_call *c, const struct job *j,
	uint8_t *room, struct msg_status_ok *ret)
{
	const struct shard_use *u = shard_use(ctl->sh, j->id);
	struct shard_status st;

	shard_status(ctl->sh, &st);
	*ret = (struct msg_status_ok){ .jobs = 1,
		.slab_bytes = st.slab.limit_bytes,
		.uptime_ms = (sys_now_ns(ctl->sys) - ctl->born_ns) / SYS_MS };
	if (u != NULL) {
		ret->buckets = u->buckets;
		ret->files = u->files;
		ret->slab_used_bytes = u->slab_bytes;
	}
	ret->tiers = tiers(ctl, c, 0, j->id, room, 1024);
}

void on_status(void *arg, struct rpc_request *r)
{
	struct control *ctl = arg;
	struct msg_status_ok ok;
	struct msg_status m;
	struct shard_call c;
	uint8_t *room = NULL;
	struct job *j;
	int rc;

	call_begin(ctl, r, &c);
	rc = decoded(&c, msg_status_get(r->body.p, r->body.len, r->version, &m));
	if (rc == 0 && (room = malloc(REPLY_BYTES)) == NULL)
		rc = err_set(&c.note, E_NOMEM, "no memory for a status");
	if (rc == 0 && c.who.admin && m.job == 0) {
		of_system(ctl, &c, room, &ok);
	} else if (rc == 0 && (rc = job_of(ctl, &c, m.job, &j)) == 0) {
		of_job(ctl, &c, j, room, &ok);
	}
	answer(ctl, r, &c, rc, OP_status_ok, &ok);
	free(room);
}

void on_scrub(void *arg, struct rpc_request *r)
{
	struct control *ctl = arg;
	struct msg_scrub_ok ok;
	struct db_scrub sc;
	struct msg_scrub m;
	struct shard_call c;
	int rc;

	call_begin(ctl, r, &c);
	rc = decoded(&c, msg_scrub_get(r->body.p, r->body.len, r->version, &m));
	if (rc == 0 && !c.who.admin)
		rc = err_set(&c.note, E_DENIED, "only an administrator has all of it read again");
	if (rc == 0 && m.now)
		db_scrub_now(shard_db(ctl->sh));
	if (rc == 0 && m.now)
		servers_scrub(ctl);
	sc = db_scrubbed(shard_db(ctl->sh));
	ok = (struct msg_scrub_ok){ .running = sc.running, .passes = sc.passes,
		.records = sc.records, .rows = sc.rows, .bytes = sc.bytes, .found = sc.found,
		.last = bytes_of(sc.last.text, strlen(sc.last.text)) };
	servers_scrubbed(ctl, &ok);
	answer(ctl, r, &c, rc, OP_scrub_ok, &ok);
}
