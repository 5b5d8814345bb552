/* SPDX-License-Identifier: Apache-2.0 */
/* A job is born, lives by its lease, ends, and leaves nothing behind but what persists. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "control/kit_test.h"
#include <stdio.h>

static const struct msg_bucket_create plain_bucket = { .name = { (const uint8_t *)"b", 1 } };

/* ---- the whole of it ---- */
static void life(void)
{
	struct kit_job j = kit_register("sort", 0, 0);
	struct rpc_conn *again = NULL;
	struct msg_job_end_ok ok, twice;
	struct sub_job_info info;
	struct msg_status_ok st;
	uint64_t b;

	kit_enter(&j);
	b = kit_bucket(j.conn, &plain_bucket);
	check((int64_t)b > 0);
	check(kit_put(j.conn, b, "x", "12345", 0) == 0);
	check(kit_put(j.conn, b, "y", "1234567", 0) == 0);
	check(kit_get(j.conn, b, "x") == 0);
	check(kit_info(j.id, &info));
	check(info.state == JOB_ACTIVE && info.files == 2 && info.used_bytes == 12);
	check(info.connections == 1 && bytes_equal(info.name, BYTES("sort")));
	st = kit_status(0);
	check(st.jobs == 1 && st.files == 2 && st.slab_used_bytes == 12);
	check(kit_status(j.id).slab_used_bytes == 12);
	kit_sleep(2000);
	check(kit_end(kit.admin, j.id, &ok) == 0);
	check(ok.files == 2 && ok.bytes == 12 && ok.kept_files == 0 && ok.kept_bytes == 0);
	check(kit_state(j.id) == JOB_ENDED);
	st = kit_status(0);
	check(st.jobs == 0 && st.buckets == 0 && st.files == 0 && st.slab_used_bytes == 0);
	check(kit_end(kit.admin, j.id, &twice) == 0);
	check(twice.files == 2 && twice.bytes == 12);
	check(kit_get(j.conn, b, "x") == E_CLOSED); /* it was cut */
	rpc_close(j.conn);
	check(kit_connect(j.token, j.token_len, NULL, &again) == E_GONE);
}

static void bill(void)
{
	struct kit_job j = kit_register("", 0, 0);
	struct sub_bill_line line, later;
	struct msg_job_end_ok ok;
	uint64_t b;

	kit_enter(&j);
	b = kit_bucket(j.conn, &plain_bucket);
	check(kit_put(j.conn, b, "x", "0123456789", 0) == 0);
	check(kit_get(j.conn, b, "x") == 0);
	check(kit_get(j.conn, b, "x") == 0);
	line = kit_bill(j.id, TIER_DRAM);
	check(line.writes == 1 && line.written_bytes == 10);
	check(line.reads == 2 && line.read_bytes == 20);
	kit_sleep(10000);
	later = kit_bill(j.id, TIER_DRAM);
	check(later.peak_bytes == 10 && later.byte_seconds_hi == 0);
	check(later.byte_seconds_lo - line.byte_seconds_lo >= 10 * 10000);
	check(later.byte_seconds_lo - line.byte_seconds_lo < 10 * 10005);
	check(kit_bill(j.id, TIER_FLASH).writes == 0);
	check(kit_put(j.conn, b, "y", "durable", PUT_DURABLE) == 0);
	check(kit_bill(j.id, TIER_FLASH).written_bytes == 7);
	rpc_close(j.conn);
	kit_restart();
	check(kit_bill(j.id, TIER_DRAM).byte_seconds_lo >= later.byte_seconds_lo);
	check(kit_end(kit.admin, j.id, &ok) == 0);
	line = kit_bill(j.id, TIER_DRAM);
	kit_sleep(20000);
	kit_restart();
	later = kit_bill(j.id, TIER_DRAM);
	check(later.byte_seconds_lo == line.byte_seconds_lo); /* closed is closed */
	check(later.writes == 1 && later.reads == 2);
}

/* What is held for less than any look would see is billed to the change, and nothing besides. */
static void bill_to_the_change(void)
{
	struct kit_job j = kit_register("", 0, 0);
	struct msg_delete gone = { .name = BYTES("x") };
	uint64_t due = 0, slack = 0, before_ns;
	struct sub_bill_line line;
	struct msg_job_end_ok ok;

	kit_enter(&j);
	gone.bucket = kit_bucket(j.conn, &plain_bucket);
	for (uint64_t ms = 1; ms <= 40; ms++) { /* 1000 bytes for ms, then nothing for 100 - ms */
		static char text[1001];

		memset(text, 'x', 1000);
		before_ns = sys_now_ns(kit.sys);
		check(kit_put(j.conn, gone.bucket, "x", text, 0) == 0);
		slack += sys_now_ns(kit.sys) - before_ns;
		kit_sleep(ms);
		before_ns = sys_now_ns(kit.sys);
		check(kit_change(j.conn, OP_delete, &gone, OP_ok, NULL) == 0);
		slack += sys_now_ns(kit.sys) - before_ns;
		kit_sleep(100 - ms);
		due += 1000 * ms;
	}
	line = kit_bill(j.id, TIER_DRAM);
	check(line.byte_seconds_lo >= due);
	check(line.byte_seconds_lo <= due + slack / 1000); /* 1000 bytes: a byte-ms is 1000 ns */
	check(line.peak_bytes == 1000);
	rpc_close(j.conn);
	check(kit_end(kit.admin, j.id, &ok) == 0);
	check(kit_bill(j.id, TIER_DRAM).byte_seconds_lo == line.byte_seconds_lo);
}

/* ---- what persists ---- */
enum { KEEP_FILES = 700 };

static uint64_t one_kept(const struct kit_job *j, uint64_t tree)
{
	struct msg_mkdir dir = { .bucket = tree, .name = BYTES("dir") };
	struct msg_put m = { .bucket = tree, .name = BYTES("in") };
	struct msg_put_ok ok;

	check(kit_change(j->conn, OP_mkdir, &dir, OP_put_ok, &ok) == 0);
	m.parent = ok.inode;
	check(kit_change(j->conn, OP_put, &m, OP_put_ok, &ok) == 0);
	m.name = BYTES("kept");
	m.flags = PUT_PERSIST;
	check(kit_change(j->conn, OP_put, &m, OP_put_ok, &ok) == 0);
	return m.parent;
}

static uint32_t count(uint64_t bucket, uint64_t parent)
{
	struct msg_list m = { .bucket = bucket, .parent = parent };
	struct msg_list_ok ok;

	check(kit_look(kit.admin, OP_list, &m, OP_list_ok, &ok) == 0);
	return ok.entries.n;
}

static void persisted(void)
{
	struct msg_bucket_create keeps = { .name = BYTES("keeps"), .lifetime = LIFETIME_PERSIST };
	struct msg_bucket_create tree = { .name = BYTES("tree"), .kind = BUCKET_TREE };
	struct msg_bucket_create gone = { .name = BYTES("gone") };
	struct kit_job j = kit_register("keeper", 0, 0);
	struct msg_bucket_open open = { .job = j.id, .name = BYTES("b") };
	uint64_t some, all, none, nested, dir;
	struct msg_job_end_ok ok;
	struct msg_bucket_ok found;
	struct sub_bucket_info info;
	char name[16];

	kit_enter(&j);
	some = kit_bucket(j.conn, &plain_bucket);
	all = kit_bucket(j.conn, &keeps);
	none = kit_bucket(j.conn, &gone);
	nested = kit_bucket(j.conn, &tree);
	for (int i = 0; i < KEEP_FILES; i++) {
		snprintf(name, sizeof name, "%d", i);
		check(kit_put(j.conn, some, name, "four", i % 100 == 7 ? PUT_PERSIST : 0) == 0);
	}
	check(kit_put(j.conn, all, "a", "bc", 0) == 0);
	check(kit_put(j.conn, none, "a", "bc", 0) == 0);
	dir = one_kept(&j, nested);
	check(kit_end(j.conn, 0, &ok) == 0); /* by itself: it hears the answer */
	rpc_close(j.conn);
	check(ok.kept_files == 7 + 1 + 1 && ok.kept_bytes == 4 * 7 + 2);
	check(ok.files == KEEP_FILES - 7 + 1 + 2 && ok.bytes == 4 * (KEEP_FILES - 7) + 2);
	for (int round = 0; round < 2; round++) {
		check(count(some, 0) == 7);
		check(count(nested, 0) == 1 && count(nested, dir) == 1);
		check(kit_get(kit.admin, some, "107") == 0);
		check(kit_get(kit.admin, some, "106") == E_NOTFOUND);
		check(kit_get(kit.admin, all, "a") == 0);
		check(kit_get(kit.admin, none, "a") == E_GONE);
		check(kit_look(kit.admin, OP_bucket_open, &open, OP_bucket_ok, &found) == 0);
		check(sub_bucket_info_next(&found.bucket, &info));
		check(info.lifetime == LIFETIME_PERSIST && info.files == 7);
		kit_restart();
	}
	gone.job = j.id;
	check(kit_bucket(kit.admin, &gone) == (uint64_t)E_GONE); /* nothing new for it */
}

/* ---- the lease ---- */
static void lease(void)
{
	struct kit_job silent = kit_register("silent", 1000, 0), held, renewed;
	struct msg_job_renew renew;
	struct sub_job_info info;

	held = kit_register("held", 1000, 0);
	renewed = kit_register("renewed", 1000, 0);
	kit_enter(&held);
	renew.job = renewed.id;
	for (int i = 0; i < 10; i++) {
		kit_sleep(500);
		check(kit_change(kit.admin, OP_job_renew, &renew, OP_ok, NULL) == 0);
	}
	check(kit_state(silent.id) == JOB_ENDED);
	check(kit_state(held.id) == JOB_ACTIVE);
	check(kit_info(renewed.id, &info) && info.state == JOB_ACTIVE);
	check(info.lease_left_ms <= 1000 && info.lease_left_ms > 900);
	rpc_close(held.conn);
	kit_sleep(700);
	kit_restart(); /* renews in full */
	kit_sleep(700);
	check(kit_state(held.id) == JOB_ACTIVE && kit_state(renewed.id) == JOB_ACTIVE);
	kit_sleep(1000);
	check(kit_state(held.id) == JOB_ENDED && kit_state(renewed.id) == JOB_ENDED);
	check(kit_change(kit.admin, OP_job_renew, &renew, OP_ok, NULL) == E_GONE);
}

/* ---- gone ---- */
static int asks_for_the_end(void *arg)
{
	const struct kit_job *j = arg;
	struct msg_job_end m = { j->id };
	struct rpc_call call = { .op = OP_job_end, .msg = &m };
	struct msg_job_end_ok ok;
	int rc = rpc_ask(j->conn, &call, OP_job_end_ok, &ok, sys_after(kit.sys, 10 * SYS_SEC),
		NULL);

	rpc_call_fini(&call);
	check(rc == 0);
	return 0;
}

/* Told so while its end is not on the medium yet, one would be contradicted by who acts for it. */
static void nobody_acts_for_who_is_gone(void)
{
	struct kit_job j = kit_register("", 0, 0), ender = j;
	struct msg_job_renew renew = { j.id };
	bool busy = false;
	uint64_t b;
	int rc;

	kit_enter(&j);
	check(kit_connect(NULL, 0, NULL, &ender.conn) == 0);
	b = kit_bucket(j.conn, &plain_bucket);
	check(kit_put(j.conn, b, "x", "0123456789", 0) == 0);
	check(fiber_start(&kit.g, "end", asks_for_the_end, &ender) == 0);
	while ((rc = kit_change(kit.admin, OP_job_renew, &renew, OP_ok, NULL)) != E_GONE) {
		check(rc == 0 || rc == E_BUSY);
		busy = busy || rc == E_BUSY;
	}
	check(kit_get(j.conn, b, "x") == E_CLOSED);
	check(busy);
	kit_sleep(1000);
	rpc_close(j.conn);
	rpc_close(ender.conn);
}

/* ---- what is refused ---- */
static void refuse(struct msg_job_register m, int rc, const char *limit)
{
	struct msg_job_ok ok;

	check(kit_change(kit.admin, OP_job_register, &m, OP_job_ok, &ok) == rc);
	check(strstr(kit.note.text, limit) != NULL);
}

static void refusals(void)
{
	static const char thirty_four[] = "thirty-four bytes of a small file.";
	struct kit_job a = kit_register("a", 0, 100), b = kit_register("b", 0, 0);
	struct msg_job_register again = { .name = BYTES("c") };
	struct msg_job_list list = { .ended = 1 };
	struct msg_status status = { b.id };
	struct msg_job_list_ok listed;
	struct msg_job_end_ok ended;
	struct msg_status_ok st;
	struct msg_job_ok ok;
	uint64_t bucket, n;

	refuse((struct msg_job_register){ .latency = 3 }, E_INVALID, "latency");
	refuse((struct msg_job_register){ .tiers = 8 }, E_INVALID, "tiers");
	refuse((struct msg_job_register){ .lambdas = UINT32_MAX }, E_TOOBIG, "1000000");
	refuse((struct msg_job_register){ .capacity_bytes = UINT64_MAX }, E_TOOBIG, "capacity");
	refuse((struct msg_job_register){ .bandwidth_bps = UINT64_MAX }, E_TOOBIG, "bandwidth");
	refuse((struct msg_job_register){ .quota_bytes = UINT64_MAX }, E_TOOBIG, "quota");
	refuse((struct msg_job_register){ .lease_ms = UINT64_MAX }, E_TOOBIG, "604800000");
	refuse((struct msg_job_register){ .lease_ms = 1 }, E_INVALID, "1000");
	refuse((struct msg_job_register){ .name = BYTES("a\nb") }, E_INVALID, "name");
	kit_enter(&a);
	check(kit_change(a.conn, OP_job_register, &again, OP_job_ok, &ok) == E_DENIED);
	check(kit_end(a.conn, b.id, &ended) == E_DENIED);
	check(kit_end(kit.admin, 999999, &ended) == E_NOTFOUND);
	check(kit_look(a.conn, OP_status, &status, OP_status_ok, &st) == E_DENIED);
	check(kit_look(a.conn, OP_job_list, &list, OP_job_list_ok, &listed) == 0);
	check(listed.jobs.n == 1);
	bucket = kit_bucket(a.conn, &plain_bucket);
	for (n = 0; n < 10; n++) /* the quota counts what is there, not what was */
		check(kit_put(a.conn, bucket, n % 2 ? "x" : "y", thirty_four, 0) == 0);
	check(kit_put(a.conn, bucket, "z", thirty_four, 0) == E_FULL);
	check(strstr(kit.note.text, "quota is 100") != NULL);
	rpc_close(a.conn);
}

/* A retry of the same number in the same session is the same job. */
static void retried(void)
{
	struct msg_job_register m = { .name = BYTES("once") };
	struct rpc_call call = { .op = OP_job_register, .msg = &m, .cookie = 1 };
	struct rpc_conn *c;
	struct msg_job_ok ok;
	uint64_t first = 0;

	check(kit_connect(NULL, 0, NULL, &c) == 0);
	for (int i = 0; i < 2; i++) {
		call = (struct rpc_call){ .op = OP_job_register, .msg = &m, .cookie = 1 };
		check(rpc_ask(c, &call, OP_job_ok, &ok, sys_after(kit.sys, SYS_SEC), &kit.note)
			== 0);
		check(first == 0 || ok.job == first);
		first = ok.job;
		rpc_call_fini(&call);
	}
	check(kit_status(0).jobs == 1);
	rpc_close(c);
}

/* ---- crashes ---- */
static uint64_t crash_job;
static bool begun, power_cut, stays;

static void end_it(void)
{
	struct kit_job j = kit_register("crash", 0, 0);
	struct msg_job_end_ok ok;
	char name[16];
	uint64_t b;

	crash_job = j.id;
	kit_enter(&j);
	b = kit_bucket(j.conn, &plain_bucket);
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof name, "%d", i);
		check(kit_put(j.conn, b, name, "four", i == 9 ? PUT_PERSIST : 0) == 0);
	}
	rpc_close(j.conn);
	begun = true;
	(void)kit_end(kit.admin, j.id, &ok);
	while (stays && fiber_sleep(FOREVER) == 0)
		continue;
}

static void has_ended(void)
{
	struct msg_job_end_ok ok;

	check(kit_end(kit.admin, crash_job, &ok) == 0);
	check(kit_state(crash_job) == JOB_ENDED);
	check(ok.bytes == 4 * ok.files && ok.kept_files == 1);
	check(power_cut ? ok.files >= 9 && ok.files <= 299 : ok.files == 299);
	check(kit_status(0).files == 1);
	check(kit_status(0).jobs == 0);
}

static int crashed_main(struct sys *s, void *body)
{
	kit = (struct kit){ .sys = s };
	return kit_main(s, body);
}

/* Stopped after so many steps of the end; what was under way is finished by the next start. */
static bool crash_at(unsigned steps)
{
	struct sim *w = sim_new(steps + 1, &sim_no_faults);
	struct sim_node *n = sim_node_add(w, "a", UINT64_C(1) << 32);
	bool more = true;

	begun = false;
	sim_node_start(n, crashed_main, (void *)(uintptr_t)end_it);
	while (!begun)
		check(sim_step(w));
	for (unsigned i = 0; more && i < steps; i++)
		more = sim_step(w) && sim_node_up(n);
	if (sim_node_up(n) && power_cut)
		sim_node_crash(n);
	else if (sim_node_up(n))
		sim_node_kill(n);
	sim_node_start(n, crashed_main, (void *)(uintptr_t)has_ended);
	sim_run(w, UINT64_MAX);
	check(!sim_node_up(n));
	check(sim_node_result(n) == 0);
	sim_free(w);
	return more;
}

/* The nth operation of the end on the disk fails: what is left is finished by the next start. */
static bool fails_at(uint64_t nth)
{
	struct sim *w = sim_new(nth, &sim_no_faults);
	struct sim_node *n = sim_node_add(w, "a", UINT64_C(1) << 32);
	bool met;

	begun = false;
	stays = true;
	sim_node_start(n, crashed_main, (void *)(uintptr_t)end_it);
	while (!begun)
		check(sim_step(w));
	sim_fail_nth(n, nth, E_IO);
	sim_run(w, sim_now_ns(w) + 10 * SYS_SEC);
	met = !sim_fails_nth(n);
	check(sim_node_up(n));
	sim_fail_nth(n, 0, 0);
	sim_node_kill(n);
	stays = false;
	sim_node_start(n, crashed_main, (void *)(uintptr_t)has_ended);
	sim_run(w, UINT64_MAX);
	check(!sim_node_up(n));
	check(sim_node_result(n) == 0);
	sim_free(w);
	return met;
}

static void is_whole(void **state) { kit_run(life); }
static void is_billed(void **state) { kit_run(bill); }
static void is_billed_to_the_change(void **state) { kit_run(bill_to_the_change); }
static void keeps_what_persists(void **state) { kit_run(persisted); }
static void lives_by_its_lease(void **state) { kit_run(lease); }
static void is_gone_for_all(void **state) { kit_run(nobody_acts_for_who_is_gone); }
static void is_refused(void **state) { kit_run(refusals); }
static void is_registered_once(void **state) { kit_run(retried); }

static void ends_after_a_crash(void **state)
{
	unsigned steps = 0;

	while (crash_at(steps)) {
		steps = steps + 1 + steps / 8;
		power_cut = !power_cut;
	}
	assert_true(steps > 20);
}

static void ends_after_each_failed_write(void **state)
{
	uint64_t nth = 1;

	power_cut = false;
	while (nth <= 30 && fails_at(nth)) /* then come those of merges and bills, on and on */
		nth++;
	assert_true(nth > 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_whole),
		cmocka_unit_test(is_billed),
		cmocka_unit_test(is_billed_to_the_change),
		cmocka_unit_test(keeps_what_persists),
		cmocka_unit_test(lives_by_its_lease),
		cmocka_unit_test(is_gone_for_all),
		cmocka_unit_test(is_refused),
		cmocka_unit_test(is_registered_once),
		cmocka_unit_test(ends_after_a_crash),
		cmocka_unit_test(ends_after_each_failed_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
