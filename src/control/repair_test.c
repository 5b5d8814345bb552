/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever happens to servers: what was asked for is restored, what is to leave is elsewhere before
 * it leaves, and what only a removed server had is told to be lost.  The servers speak the real
 * wire and remember which extents they were given; they copy only what one of the sources has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "control/kit_test.h"
#include "wire/frame.h"

enum { SERVERS = 3, HELD_MAX = 64, EGROUP = 16 * MIB, BEAT_MS = 300, LEN = 1 << 20 };

static struct store {
	struct rpc_conn *c;
	struct rpc_service svc;
	uint64_t uuid, incarnation, epoch;
	uint32_t server, n;
	bool beats, beating, no_disk;
	uint64_t flash_bytes;
	struct sub_extent_id held[HELD_MAX];
	uint32_t n_copied, n_refused;
} stores[SERVERS];

static struct store *store_of(uint32_t server)
{
	for (int i = 0; i < SERVERS; i++)
		if (stores[i].server == server)
			return &stores[i];
	check(false);
	return NULL;
}

static bool has(const struct store *s, uint64_t egroup, uint64_t extent)
{
	for (uint32_t i = 0; i < s->n; i++)
		if (s->held[i].egroup == egroup && s->held[i].extent == extent)
			return true;
	return false;
}

static void give(struct store *s, uint64_t egroup, uint64_t extent)
{
	if (has(s, egroup, extent))
		return;
	check(s->n < HELD_MAX);
	s->held[s->n++] = (struct sub_extent_id){ egroup, extent };
}

/* extent 0: all of the egroup. */
static void take(struct store *s, uint64_t egroup, uint64_t extent)
{
	for (uint32_t i = s->n; i-- > 0;)
		if (s->held[i].egroup == egroup && (extent == 0 || s->held[i].extent == extent))
			s->held[i] = s->held[--s->n];
}

/* How many servers have it, in whatever group. */
static uint32_t holders(uint64_t extent)
{
	uint32_t n = 0;

	for (int s = 0; s < SERVERS; s++)
		for (uint32_t i = 0; i < stores[s].n; i++)
			n += stores[s].held[i].extent == extent;
	return n;
}

/* ---- what they are asked ---- */
static void on_extent_drop(void *arg, struct rpc_request *r)
{
	struct msg_extent_drop m;
	struct sub_extent_id id;

	check(msg_extent_drop_get(r->body.p, r->body.len, r->version, &m) == 0);
	while (sub_extent_id_next(&m.extents, &id))
		take(arg, id.egroup, id.extent);
	rpc_reply_ok(r, RPC_NOW);
}

static void on_egroup_drop(void *arg, struct rpc_request *r)
{
	struct msg_egroup_drop m;
	struct sub_extent_id id;

	check(msg_egroup_drop_get(r->body.p, r->body.len, r->version, &m) == 0);
	while (sub_extent_id_next(&m.egroups, &id))
		take(arg, id.egroup, 0);
	rpc_reply_ok(r, RPC_NOW);
}

static void on_extent_copy(void *arg, struct rpc_request *r)
{
	struct store *s = arg;
	struct sub_server_addr from;
	struct msg_extent_copy m;
	bool there;

	check(msg_extent_copy_get(r->body.p, r->body.len, r->version, &m) == 0);
	there = has(s, m.egroup, m.extent);
	while (!there && sub_server_addr_next(&m.source, &from))
		there = store_of(from.server)->c != NULL &&
			has(store_of(from.server), m.from != 0 ? m.from : m.egroup, m.extent);
	if (!there) {
		s->n_refused++;
		rpc_reply_error(r, E_UNREACH, NULL, RPC_NOW);
		return;
	}
	s->n_copied += !has(s, m.egroup, m.extent);
	give(s, m.egroup, m.extent);
	rpc_reply_ok(r, RPC_NOW);
}

static const struct rpc_op store_ops[] = {
	{ OP_extent_drop, RPC_INLINE, on_extent_drop },
	{ OP_egroup_drop, RPC_INLINE, on_egroup_drop },
	{ OP_extent_copy, RPC_INLINE, on_extent_copy },
};

/* ---- what they say ---- */
static struct wire_list devices(const struct store *s, uint8_t *room, size_t len)
{
	static const uint8_t tiers[] = { TIER_DRAM, TIER_FLASH, TIER_DISK };
	struct wire_list_builder l = wire_list_begin(room, len, WIRE_VERSION);

	for (uint8_t i = 0; i < 3; i++) {
		bool fits = sub_device_info_add(&l, &(struct sub_device_info){ .device = i,
			.tier = tiers[i],
			.capacity_bytes = i == 1 ? s->flash_bytes
				: i == 2 && s->no_disk ? 0 : 4 * EGROUP,
			.egroup_bytes = EGROUP });

		check(fits);
	}
	return wire_list_end(&l);
}

static int say_heartbeat(struct store *s)
{
	uint8_t room[512];
	struct msg_heartbeat m = { .server = s->server, .incarnation = s->incarnation,
		.devices = devices(s, room, sizeof room), .epoch = s->epoch };
	struct rpc_call call = { .op = OP_heartbeat, .plain = true, .msg = &m };
	struct msg_heartbeat_ok ok;
	int rc = rpc_ask(s->c, &call, OP_heartbeat_ok, &ok, sys_after(kit.sys, 5 * SYS_SEC), NULL);

	rpc_call_fini(&call); /* kit's own may be under way */
	return rc;
}

static int beat(void *arg)
{
	struct store *s = arg;

	while (s->beats) {
		check(say_heartbeat(s) == 0);
		kit_sleep(BEAT_MS);
	}
	s->beating = false;
	return 0;
}

static int store_register(struct store *s)
{
	uint8_t room[512];
	char addr[16];
	struct msg_store_register m = { .uuid_hi = s->uuid, .uuid_lo = 1,
		.incarnation = s->incarnation, .devices = devices(s, room, sizeof room),
		.epoch = s->epoch, .node = s->uuid };
	struct msg_store_ok ok;
	int rc;

	snprintf(addr, sizeof addr, "tcp:s%u:9", (unsigned)s->uuid);
	m.addr = kit_text(addr);
	rc = kit_look(s->c, OP_store_register, &m, OP_store_ok, &ok);
	if (rc == 0) {
		s->server = ok.server;
		s->epoch = ok.epoch;
	}
	return rc;
}

static void store_up(int i)
{
	struct store *s = &stores[i];

	s->uuid = (uint64_t)i + 1;
	s->incarnation++;
	s->flash_bytes = s->flash_bytes != 0 ? s->flash_bytes : 4 * EGROUP;
	s->svc = (struct rpc_service){ .ops = store_ops, .n_ops = 3, .arg = s };
	check(kit_connect(NULL, 0, &s->svc, &s->c) == 0);
	check(store_register(s) == 0);
	s->beats = s->beating = true;
	check(fiber_start(&kit.g, "beat", beat, s) == 0);
	kit_sleep(BEAT_MS);
}

static void store_away(int i)
{
	struct store *s = &stores[i];

	s->beats = false;
	while (s->beating)
		kit_sleep(BEAT_MS);
	rpc_close(s->c);
	s->c = NULL;
}

static void begin(int n)
{
	memset(stores, 0, sizeof stores);
	for (int i = 0; i < n; i++)
		store_up(i);
}

static void end(void)
{
	for (int i = 0; i < SERVERS; i++)
		if (stores[i].c != NULL)
			store_away(i);
}

/* ---- a client with files ---- */
static struct owner {
	struct rpc_conn *c;
	struct rpc_service svc;
	uint64_t bucket, extent, egroup, grant;
	struct kit_job j; /* its own, or none */
	uint32_t n_recalled;
	bool deaf; /* it does not say that it returns what it does not need */
	bool idle; /* it knows of none */
} w;

static void on_recall(void *arg, struct rpc_request *r)
{
	struct msg_grant_recall_ok ok = { .writes = !w.idle };

	w.n_recalled++;
	if (w.deaf)
		rpc_reply_error(r, E_BUSY, NULL, RPC_NOW);
	else
		rpc_reply(r, OP_grant_recall_ok, &ok, bytes_of(NULL, 0), RPC_NOW);
}

static const struct rpc_op writer_ops[] = { { OP_grant_recall, RPC_INLINE, on_recall } };

static void give_back(void)
{
	struct msg_grant_return m = { .egroup = w.egroup, .extent_first = w.grant };

	check(kit_look(w.c, OP_grant_return, &m, OP_ok, NULL) == 0);
}

static void writer_begin(uint8_t tiers, uint8_t copies)
{
	struct msg_bucket_create b = { .name = BYTES("b"), .lifetime = LIFETIME_TTL,
		.ttl_ms = 3600000, .tiers = tiers, .copies = copies,
		.protection = copies > 1 ? PROTECT_COPIES : PROTECT_DEFAULT };

	w = (struct owner){ .svc = { .ops = writer_ops, .n_ops = 1 } };
	if ((tiers & TIER_BIT(TIER_DRAM)) != 0) { /* only what is of a job */
		w.j = kit_register("j", 600000, 0);
		b.lifetime = LIFETIME_JOB;
		b.ttl_ms = 0;
	}
	check(kit_connect(w.j.token, w.j.token_len, &w.svc, &w.c) == 0);
	w.bucket = kit_bucket(w.c, &b);
	check((int64_t)w.bucket > 0);
}

static void writer_end(void)
{
	rpc_close(w.c);
}

/* Its bytes are on every server that the grant names. */
static int put(const char *name, bool keeps)
{
	uint8_t room[256];
	struct wire_list_builder l = wire_list_begin(room, sizeof room, WIRE_VERSION);
	struct msg_grant g = { .bucket = w.bucket, .bytes = LEN };
	struct msg_commit m = { .bucket = w.bucket, .name = kit_text(name) };
	struct sub_grant_copy copy;
	struct sub_grant_part part;
	struct msg_put_ok ok;
	struct msg_grant_ok granted;
	uint8_t copies = 1;
	int rc = kit_change(w.c, OP_grant, &g, OP_grant_ok, &granted);

	if (rc < 0)
		return rc;
	check(sub_grant_part_next(&granted.parts, &part));
	w.egroup = part.egroup;
	w.extent = w.grant = part.extent_first;
	give(store_of(part.server), part.egroup, part.extent_first);
	for (; sub_grant_copy_next(&granted.copies, &copy); copies++)
		give(store_of(copy.server), part.egroup, part.extent_first);
	check(sub_extent_ref_add(&l, &(struct sub_extent_ref){ part.egroup, part.extent_first, 0,
		LEN, 99, copies }));
	m.extents = wire_list_end(&l);
	rc = kit_change(w.c, OP_commit, &m, OP_put_ok, &ok);
	if (rc == 0 && !keeps)
		give_back();
	return rc;
}

/* Whether it is where the shard says; lost: it says that it is nowhere. */
static bool found(const char *name, bool *ret_lost, struct sub_extent_place *ret_at)
{
	struct msg_get m = { .bucket = w.bucket, .name = kit_text(name) };
	struct msg_get_ok ok;

	check(kit_look(w.c, OP_get, &m, OP_get_ok, &ok) == 0);
	check(sub_extent_place_next(&ok.places, ret_at));
	*ret_lost = ret_at->lost != 0;
	return !*ret_lost && has(store_of(ret_at->server), ret_at->egroup, ret_at->extent);
}

static bool is_there(const char *name)
{
	struct sub_extent_place at;
	bool lost;

	return found(name, &lost, &at);
}

static uint8_t tier_of(const char *name)
{
	struct sub_extent_place at;
	bool lost;

	check(found(name, &lost, &at));
	return at.tier;
}

static struct control_node node(int i)
{
	struct control_node n;

	check(kit.ctl != NULL);
	control_node_look(kit.ctl, stores[i].uuid, &n);
	return n;
}

static void drain(int i, bool on)
{
	check(control_node_drain(kit.ctl, stores[i].uuid, on) == 0);
}

/* The one that readers of a file are sent to first. */
static int server_of(const char *name)
{
	struct sub_extent_place at;
	bool lost;

	check(found(name, &lost, &at));
	return (int)(store_of(at.server) - stores);
}

static int other(int than) { return than == 0 ? 1 : 0; }

/* ---- tests ---- */
static void restored(void)
{
	int first;

	begin(3);
	writer_begin(TIER_BIT(TIER_FLASH), 2);
	for (int i = 0; i < 3; i++)
		check(put((const char *[]){ "x", "y", "z" }[i], false) == 0);
	check(holders(w.extent) == 2);
	first = server_of("z");
	store_away(first);
	stores[first].n = 0; /* and its disks are gone */
	kit_sleep(KIT_GONE_MS / 2);
	check(holders(w.extent) == 1); /* it may come back any moment */
	kit_sleep(3 * KIT_GONE_MS);
	check(holders(w.extent) == 2);
	check(is_there("x") && is_there("y") && is_there("z"));
	check(kit_status(0).lacking_bytes == 0);
	check(node(first).held_bytes == 0); /* nothing is expected of it any more */
	writer_end();
	end();
}

/* Until nobody may write there any more the copy stays, and what is written there is named. */
static void moved(void)
{
	int at;

	begin(2);
	writer_begin(TIER_BIT(TIER_FLASH), 0);
	check(put("x", true) == 0);
	at = server_of("x");
	drain(at, true);
	kit_sleep(20000);
	check(w.n_recalled > 3);
	check(holders(w.extent) == 2);
	check(node(at).held_bytes > 0);
	check(!node(at).stuck);
	check(strstr(node(at).waits, "clients still write") != NULL);
	give_back();
	kit_sleep(5000);
	check(holders(w.extent) == 1);
	check(node(at).held_bytes == 0);
	check(is_there("x") && server_of("x") != at);
	check(put("y", true) == 0); /* nothing new goes there */
	check(server_of("y") != at);
	drain(at, false);
	drain(other(at), true);
	kit_sleep(90000);
	check(node(other(at)).held_bytes > 0); /* for as long as it takes */
	w.deaf = true; /* who does not answer keeps nothing */
	kit_sleep(30000);
	check(node(other(at)).held_bytes == 0);
	check(is_there("x") && server_of("y") == at);
	w.deaf = false;
	check(put("z", true) == 0);
	at = server_of("z");
	drain(other(at), false);
	drain(at, true);
	kit_sleep(10000);
	check(node(at).held_bytes > 0);
	w.idle = true; /* its answer was lost: it knows of no room there */
	kit_sleep(10000);
	check(node(at).held_bytes == 0);
	check(is_there("x") && is_there("y") && is_there("z"));
	writer_end();
	end();
}

static void called_off(void)
{
	int at;

	begin(2);
	writer_begin(TIER_BIT(TIER_FLASH), 0);
	check(put("x", true) == 0);
	at = server_of("x");
	drain(at, true);
	kit_sleep(5000);
	drain(at, false);
	kit_sleep(5000);
	check(holders(w.extent) == 1); /* the copy that was made elsewhere is dropped again */
	check(server_of("x") == at);
	drain(at, true);
	kit_sleep(2000);
	writer_end();
	rpc_close(stores[at].c); /* they come back to whoever leads next */
	stores[at].beats = stores[other(at)].beats = false;
	kit_sleep(2 * BEAT_MS);
	rpc_close(stores[other(at)].c);
	kit_restart();
	store_up(0);
	store_up(1);
	w.svc.n_ops = 1;
	check(kit_connect(NULL, 0, &w.svc, &w.c) == 0);
	check(large_server(serve_shard(kit.v), stores[at].server)->drain);
	kit_sleep(90000);
	check(node(at).held_bytes == 0);
	check(is_there("x") && server_of("x") != at);
	writer_end();
	end();
}

static void memory_moved(void)
{
	int at;

	begin(2);
	writer_begin(TIER_BIT(TIER_DRAM) | TIER_BIT(TIER_FLASH), 0);
	check(put("x", false) == 0);
	check(put("y", true) == 0);
	at = server_of("x");
	check(tier_of("x") == TIER_DRAM && server_of("y") == at);
	drain(at, true);
	kit_sleep(5000);
	check(is_there("x") && server_of("x") != at); /* although somebody may write beside it */
	check(is_there("y") && server_of("y") != at);
	check(tier_of("x") == TIER_DRAM);
	check(node(at).held_bytes > 0);
	give_back();
	kit_sleep(2000);
	check(node(at).held_bytes == 0 && stores[at].n == 0);
	check(kit_tier(kit_status(0).tiers, TIER_DRAM).used_bytes == 2 * LEN);
	writer_end();
	end();
}

static void spilled(void)
{
	struct control_node n;
	int at;

	begin(2);
	writer_begin(TIER_BIT(TIER_FLASH), 0);
	check(put("x", false) == 0);
	at = server_of("x");
	stores[other(at)].flash_bytes = 4096; /* it was replaced by a small one */
	stores[other(at)].no_disk = true;
	kit_sleep(2 * BEAT_MS);
	drain(at, true);
	kit_sleep(10000);
	n = node(at);
	check(n.held_bytes > 0 && n.stuck);
	check(strstr(n.waits, "no other storage server has room") != NULL);
	check(is_there("x") && server_of("x") == at);
	stores[other(at)].no_disk = false;
	kit_sleep(60000);
	check(node(at).held_bytes == 0);
	check(is_there("x") && tier_of("x") == TIER_DISK);
	shard_audit(serve_shard(kit.v));
	kit_sleep(BEAT_MS);
	writer_end();
	end();
}

static void removed(void)
{
	struct sub_extent_place place;
	bool lost;
	int at;

	begin(3);
	writer_begin(TIER_BIT(TIER_FLASH), 0);
	check(put("x", false) == 0);
	at = server_of("x");
	check(node(at).only_bytes == LEN);
	store_away(at);
	kit_sleep(2 * KIT_FENCE_MS);
	check(node(at).fenced);
	check(!found("x", &lost, &place) || !lost); /* it may be back */
	check(control_node_remove(kit.ctl, stores[at].uuid) == 0);
	check(!found("x", &lost, &place));
	check(lost);
	check(kit_tier(kit_status(0).tiers, TIER_FLASH).capacity_bytes == 2 * 4 * EGROUP);
	check(node(at).storage == STORAGE_NONE);
	check(kit_connect(NULL, 0, &stores[at].svc, &stores[at].c) == 0);
	stores[at].incarnation++;
	check(store_register(&stores[at]) == E_GONE);
	check(strstr(kit.note.text, "was removed") != NULL);
	rpc_close(stores[at].c);
	stores[at].c = NULL;
	shard_audit(serve_shard(kit.v));
	check(put("x", false) == 0); /* whoever writes it again has it */
	check(is_there("x"));
	kit_sleep(2000);
	writer_end();
	end();
}

static void copies_are_restored(void **state) { kit_run(restored); }
static void what_leaves_is_elsewhere_first(void **state) { kit_run(moved); }
static void it_is_called_off_and_goes_on_after_a_start(void **state) { kit_run(called_off); }
static void memory_is_moved_extent_by_extent(void **state) { kit_run(memory_moved); }
static void a_full_tier_spills(void **state) { kit_run(spilled); }
static void what_a_removed_server_had_is_lost(void **state) { kit_run(removed); }

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(copies_are_restored),
		cmocka_unit_test(what_leaves_is_elsewhere_first),
		cmocka_unit_test(it_is_called_off_and_goes_on_after_a_start),
		cmocka_unit_test(memory_is_moved_extent_by_extent),
		cmocka_unit_test(a_full_tier_spills),
		cmocka_unit_test(what_a_removed_server_had_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
