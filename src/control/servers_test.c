/* SPDX-License-Identifier: Apache-2.0 */
/* A storage server that speaks the real wire and forgets what it is told to: registered, silent,
 * fenced, back; and drops that reach it once more when a connection or a process is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "control/kit_test.h"
#include "wire/frame.h"

enum { EGROUP = 16 * MIB, DRAM = 64 * MIB, BEAT_MS = 300, KEPT = 16 };

static struct storage {
	struct rpc_conn *c;
	uint32_t server;
	uint64_t incarnation, epoch, time_ms;
	uint64_t revoked_to;
	struct sub_job_epoch revoked; /* the last */
	uint32_t n_revoked, n_keys, keys[2];
	bool beats, beating;   /* wanted; a fiber does */
	bool holds;            /* keeps requests unanswered */
	int refuses;           /* this code, when it is not 0 */
	struct rpc_request kept[KEPT];
	uint32_t n_kept, n_extents, n_egroups;
	int looked;            /* what it says of an extent that it is to look at again */
	uint32_t n_looked;
	uint64_t scrub, scrubbed; /* as asked, as ended */
	uint32_t rotten;
	struct sub_extent_id last;
} st;

/* ---- what it is asked ---- */
static void drop_answer(struct rpc_request *r)
{
	if (st.holds) {
		check(st.n_kept < KEPT);
		st.kept[st.n_kept++] = *r;
	} else if (st.refuses < 0) {
		rpc_reply_error(r, st.refuses, NULL, RPC_NOW);
	} else {
		rpc_reply_ok(r, RPC_NOW);
	}
}

static void on_extent_drop(void *arg, struct rpc_request *r)
{
	struct msg_extent_drop m;

	check(msg_extent_drop_get(r->body.p, r->body.len, r->version, &m) == 0);
	check(m.epoch == shard_epoch(serve_shard(kit.v)));
	st.n_extents += m.extents.n;
	while (sub_extent_id_next(&m.extents, &st.last))
		;
	drop_answer(r);
}

static void on_egroup_drop(void *arg, struct rpc_request *r)
{
	struct msg_egroup_drop m;

	check(msg_egroup_drop_get(r->body.p, r->body.len, r->version, &m) == 0);
	st.n_egroups += m.egroups.n;
	drop_answer(r);
}

static void on_extent_copy(void *arg, struct rpc_request *r)
{
	struct msg_extent_copy m;

	check(msg_extent_copy_get(r->body.p, r->body.len, r->version, &m) == 0);
	check(m.verify == 1);
	check(m.source.n == 0);
	check(m.root == 99);
	st.n_looked++;
	if (st.looked < 0)
		rpc_reply_error(r, st.looked, NULL, RPC_NOW);
	else
		rpc_reply_ok(r, RPC_NOW);
}

static void on_lost(void *arg, struct rpc_conn *c)
{
	while (st.n_kept > 0)
		rpc_drop(&st.kept[--st.n_kept]);
}

static const struct rpc_op storage_ops[] = {
	{ OP_extent_drop, RPC_INLINE, on_extent_drop },
	{ OP_egroup_drop, RPC_INLINE, on_egroup_drop },
	{ OP_extent_copy, RPC_INLINE, on_extent_copy },
};
static const struct rpc_service storage_service = {
	.ops = storage_ops, .n_ops = 3, .lost = on_lost };

static void answer_kept(void)
{
	st.holds = false;
	while (st.n_kept > 0)
		rpc_reply_ok(&st.kept[--st.n_kept], RPC_NOW);
}

/* ---- what it says ---- */
static struct wire_list devices(uint8_t *room, size_t len, uint64_t pinned)
{
	struct wire_list_builder l = wire_list_begin(room, len, WIRE_VERSION);
	bool fits = sub_device_info_add(&l, &(struct sub_device_info){ .device = 0,
		.tier = TIER_DRAM, .capacity_bytes = DRAM, .egroup_bytes = EGROUP,
		.pinned_bytes = pinned });

	check(fits);
	return wire_list_end(&l);
}

static int say_register(struct rpc_conn *c, uint64_t uuid, uint64_t incarnation)
{
	uint8_t room[512];
	struct msg_store_register m = { .uuid_hi = uuid, .uuid_lo = uuid,
		.incarnation = incarnation, .addr = BYTES("tcp:a:9"),
		.devices = devices(room, sizeof room, 0), .epoch = st.epoch };
	struct msg_store_ok ok;
	int rc = kit_look(c, OP_store_register, &m, OP_store_ok, &ok);

	if (rc < 0)
		return rc;
	check(ok.cap_key.len == TOKEN_KEY_BYTES);
	check(ok.epoch == shard_epoch(serve_shard(kit.v)));
	check(st.server == 0 || st.server == ok.server); /* an uuid keeps its number */
	st.server = ok.server;
	st.epoch = ok.epoch;
	return 0;
}

static void keys_heard(struct wire_list l)
{
	struct sub_cap_key_info k;

	for (st.n_keys = 0; sub_cap_key_info_next(&l, &k); st.n_keys++) {
		check(st.n_keys < 2);
		check(k.key.len == CAP_KEY_BYTES);
		st.keys[st.n_keys] = k.id;
	}
	check(st.n_keys > 0);
}

static int say_heartbeat(struct rpc_conn *c, uint64_t incarnation, uint64_t pinned)
{
	uint8_t room[512];
	struct msg_heartbeat m = { .server = st.server, .incarnation = incarnation,
		.cpu_permille = 123, .devices = devices(room, sizeof room, pinned),
		.epoch = st.epoch, .revoked_to = st.revoked_to, .scrub = st.scrubbed,
		.scrub_extents = 7, .scrub_bytes = 7000, .rotten = st.rotten };
	struct rpc_call call = { .op = OP_heartbeat, .plain = true, .msg = &m };
	struct msg_heartbeat_ok ok;
	int rc = rpc_ask(c, &call, OP_heartbeat_ok, &ok, sys_after(kit.sys, SYS_SEC), NULL);

	if (rc == 0) {
		check(ok.shard_time_ms >= st.time_ms); /* whoever leads, whatever clocks say */
		st.time_ms = ok.shard_time_ms;
		keys_heard(ok.keys);
		while (sub_job_epoch_next(&ok.revoked, &st.revoked))
			st.n_revoked++;
		check(ok.revoked_to == ok.revoked_last);
		st.revoked_to = ok.revoked_to;
		st.scrub = ok.scrub;
	}
	rpc_call_fini(&call);
	return rc;
}

static int beat(void *arg)
{
	int rc = 0;

	while (st.beats && (rc = say_heartbeat(st.c, st.incarnation, 0)) == 0)
		kit_sleep(BEAT_MS);
	st.beating = false;
	return 0;
}

static struct sub_server_status storage_status(void)
{
	struct msg_status_ok ok = kit_status(0);
	struct sub_server_status s;
	bool found = sub_server_status_next(&ok.servers, &s);

	check(found);
	check(s.server == st.server);
	return s;
}

static void storage_up(uint64_t incarnation)
{
	check(kit_connect(NULL, 0, &storage_service, &st.c) == 0);
	st.incarnation = incarnation;
	check(say_register(st.c, 7, incarnation) == 0);
	check(storage_status().state == SERVER_SILENT);
	check(say_heartbeat(st.c, incarnation, 0) == 0);
	st.beats = st.beating = true;
	check(fiber_start(&kit.g, "beat", beat, NULL) == 0);
}

static void storage_quiet(void)
{
	st.beats = false;
	while (st.beating)
		kit_sleep(BEAT_MS / 3);
}

static void storage_away(void)
{
	storage_quiet();
	rpc_close(st.c);
	st.c = NULL;
}

/* ---- a file on it ---- */
struct file {
	struct kit_job j;
	uint64_t bucket, egroup, extent, inode;
};

static void write_file(struct file *f, const char *name, uint64_t len)
{
	uint8_t room[256];
	struct wire_list_builder l;
	struct msg_grant g = { .bucket = f->bucket, .bytes = len };
	struct msg_commit m = { .bucket = f->bucket, .name = kit_text(name) };
	struct sub_grant_part part;
	struct msg_put_ok put;
	struct msg_grant_ok ok;
	bool fits;

	check(kit_change(f->j.conn, OP_grant, &g, OP_grant_ok, &ok) == 0);
	check(sub_grant_part_next(&ok.parts, &part));
	f->egroup = part.egroup;
	f->extent = part.extent_first;
	l = wire_list_begin(room, sizeof room, WIRE_VERSION);
	fits = sub_extent_ref_add(&l, &(struct sub_extent_ref){ part.egroup, part.extent_first,
		0, len, 99, 1 });
	check(fits);
	m.extents = wire_list_end(&l);
	check(kit_change(f->j.conn, OP_commit, &m, OP_put_ok, &put) == 0);
	f->inode = put.inode;
}

static struct file new_file(void)
{
	struct msg_bucket_create bucket = { .name = BYTES("b") };
	struct file f = { .j = kit_register("large", 0, 0) };

	kit_enter(&f.j);
	f.bucket = kit_bucket(f.j.conn, &bucket);
	check((int64_t)f.bucket > 0);
	write_file(&f, "x", MIB);
	return f;
}

/* A delete that is under way, on a connection of its own. */
struct deleting {
	struct rpc_conn *c;
	struct rpc_call call;
	struct msg_delete m;
};

static void delete_begin(struct deleting *d, const struct file *f, const char *name)
{
	*d = (struct deleting){ .m = { .bucket = f->bucket, .name = kit_text(name) } };
	d->call = (struct rpc_call){ .op = OP_delete, .msg = &d->m };
	check(kit_connect(f->j.token, f->j.token_len, NULL, &d->c) == 0);
	check(rpc_start(d->c, &d->call) == 0);
}

static int delete_end(struct deleting *d, uint64_t ms)
{
	int rc = rpc_wait(d->c, &d->call, sys_after(kit.sys, ms * SYS_MS));

	rpc_call_fini(&d->call);
	rpc_close(d->c);
	return rc;
}

static struct sub_tier_status dram(void) { return kit_tier(kit_status(0).tiers, TIER_DRAM); }

static uint8_t why_lost(const struct file *f, const char *name)
{
	struct msg_get m = { .bucket = f->bucket, .name = kit_text(name) };
	struct sub_extent_place place;
	struct msg_get_ok ok;

	check(kit_look(f->j.conn, OP_get, &m, OP_get_ok, &ok) == 0);
	check(sub_extent_place_next(&ok.places, &place));
	return place.lost;
}

static bool is_lost(const struct file *f, const char *name) { return why_lost(f, name) != 0; }

/* ---- tests ---- */
static void drops(void)
{
	struct msg_job_end_ok ok;
	struct sub_tier_status t;
	struct deleting d;
	struct file f;

	st = (struct storage){ .server = 0 };
	storage_up(1);
	check(dram().capacity_bytes == DRAM && dram().free_bytes == DRAM);
	f = new_file();
	t = dram();
	check(t.used_bytes == MIB && t.used_bytes + t.granted_bytes + t.reserved_bytes == EGROUP);
	t = kit_tier(kit_status(f.j.id).tiers, TIER_DRAM);
	check(t.used_bytes == MIB && t.free_bytes == 0);
	check(say_heartbeat(st.c, 1, 12345) == 0);
	check(dram().pinned_bytes == 12345);
	check(kit_bill(f.j.id, TIER_DRAM).written_bytes == MIB);
	st.holds = true;
	delete_begin(&d, &f, "x");
	kit_sleep(500);
	check(st.n_extents == 1 && st.last.egroup == f.egroup && st.last.extent == f.extent);
	check(!d.call.ended); /* not before the server has dropped it */
	check(dram().used_bytes == 0 && dram().orphaned_bytes >= MIB);
	answer_kept();
	check(delete_end(&d, 100) == 0);
	check(dram().orphaned_bytes == 0);
	write_file(&f, "y", MIB);
	rpc_close(f.j.conn);
	check(kit_end(kit.admin, f.j.id, &ok) == 0);
	check(ok.files == 1 && ok.bytes == MIB);
	check(st.n_egroups == 1);
	check(dram().free_bytes == DRAM);
	storage_away();
}

static uint64_t held(uint64_t job)
{
	struct sub_tier_status t = kit_tier(kit_status(job).tiers, TIER_DRAM);

	return t.used_bytes + t.granted_bytes;
}

/* The bill is what the status says, integrated, but for what changed while we were asking. */
static void billed(void)
{
	struct sub_bill_line line;
	struct msg_job_end_ok ok;
	struct deleting d;
	uint64_t due = 0, slack = 0, asked_ns;
	struct file f;

	st = (struct storage){ .server = 0 };
	storage_up(1);
	f = (struct file){ .j = kit_register("large", 0, 0) };
	kit_enter(&f.j);
	f.bucket = kit_bucket(f.j.conn, &(struct msg_bucket_create){ .name = BYTES("b") });
	asked_ns = sys_now_ns(kit.sys);
	for (uint64_t i = 0; i < 20; i++) {
		write_file(&f, "x", MIB + i * 4096);
		slack += held(f.j.id) * (sys_now_ns(kit.sys) - asked_ns);
		due += held(f.j.id) * (37 + i);
		kit_sleep(37 + i);
		asked_ns = sys_now_ns(kit.sys);
		delete_begin(&d, &f, "x");
		check(delete_end(&d, 1000) == 0);
		slack += MIB * 2 * (sys_now_ns(kit.sys) - asked_ns);
		due += held(f.j.id) * 11;
		kit_sleep(11);
		asked_ns = sys_now_ns(kit.sys);
	}
	rpc_close(f.j.conn);
	line = kit_bill(f.j.id, TIER_DRAM);
	check(line.byte_seconds_hi == 0 && line.byte_seconds_lo >= due);
	check(line.byte_seconds_lo <= due + slack / SYS_MS);
	check(slack / SYS_MS < due / 10); /* so it says something */
	check(kit_end(kit.admin, f.j.id, &ok) == 0);
	storage_away();
}

/* Nothing is answered before the server has dropped it or is fenced; later it hears of it still. */
static void silence(void)
{
	struct deleting d;
	struct file f;

	st = (struct storage){ .server = 0 };
	storage_up(1);
	f = new_file();
	write_file(&f, "y", MIB);
	check(storage_status().state == SERVER_UP && storage_status().cpu_permille == 123);
	storage_quiet();
	st.holds = true;
	delete_begin(&d, &f, "x");
	kit_sleep(KIT_SILENT_MS + 2 * TICK_MS);
	check(storage_status().state == SERVER_SILENT && !is_lost(&f, "y"));
	check(!d.call.ended);
	check(kit_look(f.j.conn, OP_grant, &(struct msg_grant){ .bucket = f.bucket, .bytes = 1 },
		OP_grant_ok, &(struct msg_grant_ok){ .parts = { .n = 0 } }) == E_BUSY);
	check(delete_end(&d, KIT_FENCE_MS) == 0);
	check(say_heartbeat(st.c, 1, 0) == E_STALE); /* it has to register */
	check(dram().orphaned_bytes >= MIB);         /* answered, but not free (I2) */
	kit_sleep(KIT_GONE_MS);
	check(storage_status().state == SERVER_GONE && is_lost(&f, "y"));
	answer_kept(); /* it wakes up */
	check(say_register(st.c, 7, 1) == 0);
	check(say_heartbeat(st.c, 1, 0) == 0);
	kit_sleep(200);
	check(storage_status().state == SERVER_UP);
	check(st.n_extents == 1 && dram().orphaned_bytes == 0 && !is_lost(&f, "y"));
	rpc_close(f.j.conn);
	storage_away();
}

static void broken(void)
{
	struct deleting d;
	struct file f;

	st = (struct storage){ .server = 0 };
	storage_up(1);
	f = new_file();
	st.holds = true;
	delete_begin(&d, &f, "x");
	kit_sleep(100);
	check(st.n_extents == 1);
	storage_away(); /* the answer never comes */
	st.holds = false;
	storage_up(1);
	check(delete_end(&d, 1000) == 0);
	check(st.n_extents == 2 && st.last.extent == f.extent);
	st.refuses = E_BUSY;
	write_file(&f, "y", MIB);
	delete_begin(&d, &f, "y");
	kit_sleep(500);
	check(!d.call.ended && st.n_extents > 3);
	st.refuses = 0;
	check(delete_end(&d, 1000) == 0);
	rpc_close(f.j.conn);
	storage_away();
}

/* What it had to drop when the controller stopped is dropped after its start. */
static void restarted(void)
{
	struct msg_job_end_ok ok;
	struct deleting d;
	struct file f;

	st = (struct storage){ .server = 0 };
	storage_up(1);
	f = new_file();
	write_file(&f, "y", MIB);
	st.holds = true;
	delete_begin(&d, &f, "x");
	kit_sleep(100);
	storage_away();
	check(delete_end(&d, 50) == E_TIMEOUT);
	rpc_close(f.j.conn);
	kit_clock_jump(-3600000); /* as if another host led now */
	kit_restart();
	st.holds = false;
	st.n_extents = 0;
	check(storage_status().state == SERVER_SILENT);
	storage_up(1);
	kit_sleep(100);
	check(st.n_extents > 0 && dram().orphaned_bytes == 0 && dram().used_bytes == MIB);
	storage_away();
	storage_up(2); /* memory of another life */
	check(dram().used_bytes == 0 && dram().free_bytes == DRAM);
	check(kit_end(kit.admin, f.j.id, &ok) == 0);
	check(ok.files == 1);
	storage_away();
}

/* The end of a job is answered when its room is back. */
static void end_waits(void)
{
	struct rpc_call call = { .op = OP_job_end };
	struct msg_job_end m;
	struct rpc_conn *c;
	struct file f;

	st = (struct storage){ .server = 0 };
	storage_up(1);
	f = new_file();
	check(kit_connect(NULL, 0, NULL, &c) == 0);
	st.holds = true;
	m.job = f.j.id;
	call.msg = &m;
	check(rpc_start(c, &call) == 0);
	kit_sleep(700);
	check(!call.ended && st.n_egroups == 1 && kit_state(f.j.id) == JOB_ENDING);
	check(!rpc_conn_open(f.j.conn)); /* it was cut at once */
	check(kit_connect(f.j.token, f.j.token_len, NULL, &(struct rpc_conn *){ NULL }) == E_GONE);
	answer_kept();
	check(rpc_wait(c, &call, sys_after(kit.sys, SYS_SEC)) == 0);
	check(dram().free_bytes == DRAM && kit_state(f.j.id) == JOB_ENDED);
	rpc_call_fini(&call);
	rpc_close(c);
	rpc_close(f.j.conn);
	storage_away();
}

/* A server that never comes back does not hold up the end of a job for ever. */
static void end_without_it(void)
{
	struct msg_job_end_ok ok;
	struct file f;

	st = (struct storage){ .server = 0 };
	storage_up(1);
	f = new_file();
	storage_away();
	rpc_close(f.j.conn);
	check(kit_end(kit.admin, f.j.id, &ok) == 0);
	check(kit_state(f.j.id) == JOB_ENDED);
	check(dram().free_bytes < DRAM);
	storage_up(1);
	kit_sleep(100);
	check(st.n_egroups == 1 && dram().free_bytes == DRAM);
	storage_away();
}

/* A quota bounds what is granted, with what is there. */
static void quota(void)
{
	struct msg_bucket_create bucket = { .name = BYTES("b") };
	struct msg_grant g = { .bytes = 2 * MIB };
	struct file f = { .j = kit_register("bounded", 0, 20 * MIB) };
	struct msg_grant_ok ok;

	st = (struct storage){ .server = 0 };
	storage_up(1);
	kit_enter(&f.j);
	f.bucket = g.bucket = kit_bucket(f.j.conn, &bucket);
	write_file(&f, "x", MIB);
	check(kit_change(f.j.conn, OP_grant, &g, OP_grant_ok, &ok) == 0);
	g.bytes = 18 * MIB; /* what was granted may be returned: for a second there is hope */
	check(kit_change(f.j.conn, OP_grant, &g, OP_grant_ok, &ok) == E_BUSY);
	check(fiber_sleep(sys_after(kit.sys, SYS_SEC)) == 0);
	check(kit_change(f.j.conn, OP_grant, &g, OP_grant_ok, &ok) == E_FULL);
	check(strstr(kit.note.text, "quota") != NULL);
	g.flags = PUT_AHEAD; /* what is for later takes nothing from anybody */
	check(fiber_sleep(sys_after(kit.sys, 2 * SYS_SEC)) == 0);
	check(kit_change(f.j.conn, OP_grant, &g, OP_grant_ok, &ok) == E_FULL);
	g.flags = 0;
	g.bytes = 20 * MIB; /* no return would help */
	check(kit_change(f.j.conn, OP_grant, &g, OP_grant_ok, &ok) == E_FULL);
	rpc_close(f.j.conn);
	storage_away();
}

static void strangers(void)
{
	struct kit_job j = kit_register("j", 0, 0);

	st = (struct storage){ .server = 0 };
	kit_enter(&j);
	check(say_register(j.conn, 8, 1) == E_DENIED);
	check(say_register(kit.admin, 0, 1) == E_INVALID);
	check(say_register(kit.admin, 8, 0) == E_INVALID);
	check(say_heartbeat(kit.admin, 1, 0) == E_STALE);
	storage_up(1);
	check(say_heartbeat(kit.admin, 1, 0) == E_STALE); /* another connection */
	check(say_heartbeat(st.c, 2, 0) == E_STALE);
	st.server = 5000;
	check(say_heartbeat(st.c, 1, 0) == E_STALE);
	st.server = 1;
	/* (R12) It has not acknowledged this epoch, or obeys one that we know nothing of. */
	st.epoch--;
	check(say_heartbeat(st.c, 1, 0) == E_STALE);
	st.epoch += 2;
	check(say_heartbeat(st.c, 1, 0) == E_STALE);
	check(say_register(st.c, 7, 1) == E_STALE);
	st.epoch--;
	check(say_register(st.c, 7, 1) == 0);
	check(say_heartbeat(st.c, 1, 0) == 0);
	rpc_close(j.conn);
	storage_away();
}

/* The key that a capability to read shows. */
static uint32_t key_shown(struct file *f)
{
	struct msg_get m = { .bucket = f->bucket, .name = BYTES("x") };
	struct msg_get_ok ok;
	struct reader r;

	check(kit_look(f->j.conn, OP_get, &m, OP_get_ok, &ok) == 0);
	check(ok.cap.len == CAP_BYTES);
	r = reader_of(ok.cap.p + CAP_V1_BYTES, 4);
	return read_u32(&r);
}

static void rotated(void)
{
	struct file f;
	uint32_t first;

	st = (struct storage){ .server = 0 };
	storage_up(1);
	f = new_file();
	first = key_shown(&f);
	kit_sleep(2 * BEAT_MS);
	check(st.keys[st.n_keys - 1] == first);
	check(kit_look(f.j.conn, OP_key_rotate, &(struct msg_key_rotate){ }, OP_ok, NULL)
		== E_DENIED);
	check(kit_look(kit.admin, OP_key_rotate, &(struct msg_key_rotate){ }, OP_ok, NULL) == 0);
	check(kit_look(kit.admin, OP_key_rotate, &(struct msg_key_rotate){ }, OP_ok, NULL)
		== E_BUSY);
	kit_sleep(2 * BEAT_MS);
	check(key_shown(&f) == first); /* not before servers know the next */
	check(st.n_keys == 2);
	check(st.keys[0] == first);
	check(st.keys[1] == first + 1);
	kit_sleep(5000);
	check(key_shown(&f) == first + 1);
	check(st.n_keys == 2); /* what was given with the other one lives on */
	storage_quiet();
	rpc_close(f.j.conn);
	rpc_close(st.c);
	kit_restart();
	storage_up(1);
	kit_enter(&f.j);
	check(key_shown(&f) == first + 1);
	kit_sleep(CAP_LIFE_MS + 60000 + 6000);
	check(st.n_keys == 1);
	check(st.keys[0] == first + 1);
	/* And after a while by itself. */
	kit_sleep(KIT_ROTATE_MS);
	check(key_shown(&f) == first + 2);
	rpc_close(f.j.conn);
	storage_away();
}

static void revoked(void)
{
	struct msg_job_end_ok ended;
	struct msg_job_revoke m;
	struct msg_job_ok ok;
	struct rpc_conn *c;
	struct file f;

	st = (struct storage){ .server = 0 };
	storage_up(1);
	f = new_file();
	m.job = f.j.id;
	check(kit_change(f.j.conn, OP_job_revoke, &m, OP_job_ok, &ok) == E_DENIED);
	kit_sleep(2 * BEAT_MS);
	check(st.n_revoked == 0);
	check(kit_change(kit.admin, OP_job_revoke, &m, OP_job_ok, &ok) == 0);
	check(ok.job == f.j.id);
	kit_sleep(2 * BEAT_MS);
	check(st.n_revoked == 1);
	check(st.revoked.job == f.j.id);
	check(st.revoked.epoch == 2);
	check(!rpc_conn_open(f.j.conn));
	rpc_close(f.j.conn);
	check(kit_connect(f.j.token, f.j.token_len, NULL, &c) == E_DENIED);
	check(kit_change(kit.admin, OP_job_revoke, &m, OP_job_ok, &ok) == 0);
	f.j.token_len = ok.token.len;
	memcpy(f.j.token, ok.token.p, ok.token.len);
	kit_enter(&f.j);
	rpc_close(f.j.conn);
	/* The next one that leads tells it again. */
	storage_quiet();
	rpc_close(st.c);
	kit_restart();
	st.n_revoked = 0;
	st.revoked_to = 0;
	storage_up(1);
	kit_sleep(2 * BEAT_MS);
	check(st.n_revoked == 1);
	check(st.revoked.epoch == 3);
	check(kit_end(kit.admin, f.j.id, &ended) == 0);
	kit_sleep(2 * BEAT_MS);
	check(st.n_revoked == 2);
	check(st.revoked.epoch == 4);
	m.job = 12345;
	check(kit_change(kit.admin, OP_job_revoke, &m, OP_job_ok, &ok) == E_NOTFOUND);
	m.job = f.j.id;
	check(kit_change(kit.admin, OP_job_revoke, &m, OP_job_ok, &ok) == E_GONE);
	storage_away();
}

/* ---- what rots ---- */
static void say_bad(struct rpc_conn *c, const struct file *f, uint64_t egroup)
{
	uint8_t room[256];
	struct wire_list_builder l = wire_list_begin(room, sizeof room, WIRE_VERSION);
	bool fits = sub_bad_extent_add(&l, &(struct sub_bad_extent){ egroup, f->extent,
		c == st.c ? 0 : st.server });
	struct msg_extent_bad m = { .extents = wire_list_end(&l) };
	uint32_t before = st.n_looked;

	check(fits);
	check(kit_look(c, OP_extent_bad, &m, OP_ok, NULL) == 0);
	kit_sleep(2000);
	check(st.n_looked - before <= 4);
}

/* Lost is what its server says itself, when it has looked again; and only that. */
static void rotted(void)
{
	struct deleting d;
	struct file f;

	st = (struct storage){ .looked = E_CORRUPT };
	storage_up(1);
	f = new_file();
	say_bad(st.c, &f, f.egroup + 1); /* it was another one */
	check(st.n_looked == 0);
	st.looked = 0; /* a mistake, or already repaired */
	say_bad(f.j.conn, &f, f.egroup);
	check(st.n_looked == 1);
	st.looked = E_IO; /* may pass */
	say_bad(st.c, &f, f.egroup);
	check(st.n_looked == 2);
	check(!is_lost(&f, "x"));
	check(kit_status(0).unrepaired == 0);
	st.looked = E_CORRUPT;
	say_bad(st.c, &f, f.egroup);
	check(why_lost(&f, "x") == PLACE_ROTTEN);
	check(kit_status(0).unrepaired == 1);
	st.n_looked = 0;
	say_bad(st.c, &f, f.egroup); /* as it does each minute */
	check(st.n_looked == 0);
	shard_audit(serve_shard(kit.v));
	rpc_close(f.j.conn);
	storage_away();
	kit_restart();
	kit_enter(&f.j);
	storage_up(1);
	check(why_lost(&f, "x") == PLACE_ROTTEN);
	check(kit_status(0).unrepaired == 1);
	delete_begin(&d, &f, "x");
	check(delete_end(&d, 1000) == 0);
	check(kit_status(0).unrepaired == 0);
	say_bad(st.c, &f, f.egroup); /* a late word */
	check(st.n_looked == 0);
	rpc_close(f.j.conn);
	storage_away();
}

static struct msg_scrub_ok scrubbed(bool now)
{
	struct msg_scrub_ok ok;

	check(kit_look(kit.admin, OP_scrub, &(struct msg_scrub){ now }, OP_scrub_ok, &ok) == 0);
	return ok;
}

static void scrubs(void)
{
	uint64_t first;

	st = (struct storage){ .rotten = 3 };
	storage_up(1);
	kit_sleep(2 * BEAT_MS);
	check(scrubbed(false).servers_busy == 0);
	check(st.scrub == 0);
	check(scrubbed(true).servers_busy == 1);
	kit_sleep(2 * BEAT_MS);
	check((first = st.scrub) != 0);
	check(scrubbed(false).servers_busy == 1);
	check(scrubbed(true).servers_busy == 1);
	kit_sleep(2 * BEAT_MS);
	st.scrubbed = first; /* it was asked once more */
	check(st.scrub > first);
	kit_sleep(2 * BEAT_MS);
	check(scrubbed(false).servers_busy == 1);
	st.scrubbed = st.scrub;
	kit_sleep(2 * BEAT_MS);
	check(scrubbed(false).servers_busy == 0);
	check(scrubbed(false).extents == 7);
	check(scrubbed(false).extent_bytes == 7000);
	check(scrubbed(false).rotten == 3);
	check(storage_status().rotten == 3);
	check(scrubbed(true).servers_busy == 1);
	storage_away(); /* nobody waits for it */
	kit_sleep(2 * KIT_SILENT_MS);
	check(scrubbed(false).servers_busy == 0);
}

static void loses_what_is_rotten(void **state) { kit_run(rotted); }
static void reads_again_when_asked(void **state) { kit_run(scrubs); }
static void keys_change(void **state) { kit_run(rotated); }
static void hears_what_is_revoked(void **state) { kit_run(revoked); }
static void drops_before_it_answers(void **state) { kit_run(drops); }
static void is_billed(void **state) { kit_run(billed); }
static void is_silent_then_fenced(void **state) { kit_run(silence); }
static void hears_again_after_a_break(void **state) { kit_run(broken); }
static void hears_again_after_a_start(void **state) { kit_run(restarted); }
static void is_waited_for(void **state) { kit_run(end_waits); }
static void does_not_hold_up_the_end(void **state) { kit_run(end_without_it); }
static void is_within_its_quota(void **state) { kit_run(quota); }
static void is_no_stranger(void **state) { kit_run(strangers); }

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(drops_before_it_answers),
		cmocka_unit_test(is_billed),
		cmocka_unit_test(loses_what_is_rotten),
		cmocka_unit_test(reads_again_when_asked),
		cmocka_unit_test(keys_change),
		cmocka_unit_test(hears_what_is_revoked),
		cmocka_unit_test(is_silent_then_fenced),
		cmocka_unit_test(hears_again_after_a_break),
		cmocka_unit_test(hears_again_after_a_start),
		cmocka_unit_test(is_waited_for),
		cmocka_unit_test(does_not_hold_up_the_end),
		cmocka_unit_test(is_within_its_quota),
		cmocka_unit_test(is_no_stranger),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
