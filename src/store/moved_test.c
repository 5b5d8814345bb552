/* SPDX-License-Identifier: Apache-2.0 */
/* When another one leads the shard, a storage server finds it, keeps what it holds, and obeys the
 * one before no more; not after a restart either. */
#include "store/world_test.h"
#include "store/door_test.h"
#include "sys/sim/sim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#define TEST(name) static void name(void **state) { door_run(name##_run, NULL); }

static uint8_t data[20000], back[20000];

static void open_both(struct world *w, struct sys *s)
{
	world_begin(w, s);
	world_control_open(w, &w->other, w->control_2);
	w->other.follows = true;
	w->other.epoch = 4;
	world_store_open(w);
	pattern(1, data, sizeof data);
}

/* What of the one before is still good at its successor, and what is not. */
static PARKS void expect_moved(struct world *w, struct rpc_conn *c, const struct ticket *t)
{
	struct ticket u;

	check(w->other.incarnation == w->ctl.incarnation);
	check(w->other.heard_epoch == w->other.epoch); /* acknowledged */
	check(get(w, c, t->egroup, t->first, 5, 0, sizeof back, back) == 0);
	check(memcmp(data, back, sizeof data) == 0);
	check(put(w, c, t, t->first + 1, data, sizeof data, false) == E_STALE);
	u = *t;
	u.epoch = w->other.epoch;
	check(put(w, c, &u, t->first + 1, data, sizeof data, false) == 0);
}

static int dies_run(struct sys *s, void *arg)
{
	static struct world w;
	struct rpc_conn *c;
	uint64_t died_ns;
	struct ticket t;

	open_both(&w, s);
	c = world_client(&w, false);
	t = ticket(&w, 1, 5, DRAM);
	check(put(&w, c, &t, t.first, data, sizeof data, false) == 0);
	rpc_server_free(w.ctl.server);
	w.ctl.server = NULL;
	check(fiber_sleep(sys_after(s, 150 * SYS_MS)) == 0); /* nobody leads */
	died_ns = sys_now_ns(s);
	w.other.follows = false;
	until(s, w.other.n_beats > 0);
	check(sys_now_ns(s) - died_ns < 150 * SYS_MS);
	expect_moved(&w, c, &t);
	rpc_close(c);
	world_close(&w);
	return 0;
}
TEST(dies)

/* It answers pings, and no heartbeats: it leads no more, and does not know. */
static int cut_off_run(struct sys *s, void *arg)
{
	static struct world w;
	struct rpc_conn *c;
	uint64_t began_ns;
	struct ticket t;

	open_both(&w, s);
	c = world_client(&w, false);
	t = ticket(&w, 1, 5, DRAM);
	check(put(&w, c, &t, t.first, data, sizeof data, false) == 0);
	w.ctl.silent = true;
	check(fiber_sleep(sys_after(s, 3 * SYS_SEC)) == 0);
	check(w.ctl.conn != NULL); /* not left, for nobody else leads */
	began_ns = sys_now_ns(s);
	w.other.follows = false;
	until(s, w.other.n_beats > 0);
	check(sys_now_ns(s) - began_ns < 1500 * SYS_MS);
	expect_moved(&w, c, &t);
	/* It wakes up, and would take it back. */
	w.ctl.silent = false;
	w.other.follows = true;
	sys_stream_shut(rpc_conn_stream(w.other.conn));
	check(fiber_sleep(sys_after(s, 2 * SYS_SEC)) == 0);
	check(w.ctl.n_registered > 1);
	check(w.ctl.heard_epoch == 3); /* of before: no heartbeat since */
	w.other.follows = false;
	began_ns = sys_now_ns(s);
	w.other.n_beats = 0;
	until(s, w.other.n_beats > 0);
	check(sys_now_ns(s) - began_ns < 5 * SYS_SEC);
	check(get(&w, c, t.egroup, t.first, 5, 0, sizeof back, back) == 0);
	check(put(&w, c, &t, t.first + 2, data, sizeof data, false) == E_STALE);
	rpc_close(c);
	world_close(&w);
	return 0;
}
TEST(cut_off)

/* ---- keys and revocations ---- */
static PARKS void wait_beats(struct world *w, uint32_t n)
{
	uint32_t before = w->ctl.n_beats;

	until(w->s, w->ctl.n_beats >= before + n);
}

static int keys_run(struct sys *s, void *arg)
{
	static struct world w;
	struct cap_key first;
	struct rpc_conn *c;
	struct ticket t;

	open_both(&w, s);
	c = world_client(&w, false);
	t = ticket(&w, 1, 5, DRAM);
	first = w.ctl.key;
	check(put(&w, c, &t, t.first, data, sizeof data, false) == 0);
	/* A new one, not told yet, and told. */
	w.ctl.before = first;
	w.ctl.key = (struct cap_key){ 4, { 'n' } };
	check(put(&w, c, &t, t.first + 1, data, sizeof data, false) == E_STALE);
	wait_beats(&w, 2);
	check(put(&w, c, &t, t.first + 1, data, sizeof data, false) == 0);
	check(get(&w, c, t.egroup, t.first, 5, 0, sizeof back, back) == 0);
	/* What was given with the one before is good as long as it is told. */
	w.ctl.before = w.ctl.key;
	w.ctl.key = first;
	check(put(&w, c, &t, t.first + 2, data, sizeof data, false) == 0);
	w.ctl.key = w.ctl.before;
	w.ctl.before.id = 0;
	wait_beats(&w, 2);
	w.ctl.key = first;
	check(put(&w, c, &t, t.first + 3, data, sizeof data, false) == E_STALE);
	rpc_close(c);
	world_close(&w);
	return 0;
}
TEST(keys)

static int revoked_run(struct sys *s, void *arg)
{
	static struct world w;
	struct rpc_conn *c;
	struct ticket t, u;

	open_both(&w, s);
	c = world_client(&w, false);
	t = ticket(&w, 1, 5, DRAM);
	u = ticket(&w, 2, 6, DRAM);
	t.job_epoch = u.job_epoch = w.job_epoch = 1;
	check(put(&w, c, &t, t.first, data, sizeof data, false) == 0);
	check(put(&w, c, &u, u.first, data, sizeof data, false) == 0);
	w.ctl.revoked[w.ctl.n_revoked++] = (struct sub_job_epoch){ .job = 5, .epoch = 2 };
	wait_beats(&w, 2);
	check(put(&w, c, &t, t.first + 1, data, sizeof data, false) == E_STALE);
	check(get(&w, c, t.egroup, t.first, 5, 0, sizeof back, back) == E_STALE);
	check(put(&w, c, &u, u.first + 1, data, sizeof data, false) == 0);
	t.job_epoch = w.job_epoch = 2;
	check(put(&w, c, &t, t.first + 1, data, sizeof data, false) == 0);
	check(get(&w, c, t.egroup, t.first, 5, 0, sizeof back, back) == 0);
	/* It is remembered as long as a capability lives, over registrations too. */
	sys_stream_shut(rpc_conn_stream(w.ctl.conn));
	w.ctl.n_revoked = 0;
	wait_beats(&w, 3);
	w.job_epoch = 1;
	check(get(&w, c, t.egroup, t.first, 5, 0, sizeof back, back) == E_STALE);
	check(fiber_sleep(sys_after(s, (CAP_LIFE_MS + 2000) * SYS_MS)) == 0);
	check(w.st->revoked.n == 0);
	/* Who does not know all that is revoked takes no writes; reads go on. */
	w.ctl.blind = true;
	check(fiber_sleep(sys_after(s, (LIMIT_STORE_VIEW_MS - 5000) * SYS_MS)) == 0);
	check(put(&w, c, &t, t.first + 2, data, sizeof data, false) == 0);
	check(fiber_sleep(sys_after(s, 7000 * SYS_MS)) == 0);
	check(put(&w, c, &t, t.first + 3, data, sizeof data, false) == E_UNAVAILABLE);
	check(get(&w, c, t.egroup, t.first, 5, 0, sizeof back, back) == 0);
	w.ctl.blind = false;
	wait_beats(&w, 2);
	check(put(&w, c, &t, t.first + 3, data, sizeof data, false) == 0);
	rpc_close(c);
	world_close(&w);
	return 0;
}
TEST(revoked)

/* The epoch is on the medium before it is acknowledged: a restart remembers it. */
static int restarted_run(struct sys *s, void *arg)
{
	static struct world w;
	struct err_note note;
	uint32_t n_beats;

	open_both(&w, s);
	check(w.ctl.heard_epoch == 3);
	for (uint64_t epoch = 7; epoch < 12; epoch++) {
		w.ctl.epoch = epoch;
		until(s, w.ctl.heard_epoch == epoch);
		store_free(w.st);
		w.st = NULL;
		check(world_store_try(&w, &note) == 0);
		check(w.st->epoch == epoch);
	}
	store_free(w.st);
	w.st = NULL;
	w.ctl.epoch = 8;
	n_beats = w.ctl.n_beats;
	check(store_new(s, &w.o, &w.st, &note) == 0);
	check(fiber_sleep(sys_after(s, 3 * SYS_SEC)) == 0);
	check(w.ctl.n_beats == n_beats);
	w.ctl.epoch = 12;
	until(s, w.ctl.n_beats > n_beats);
	world_close(&w);
	return 0;
}
TEST(restarted)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dies), cmocka_unit_test(cut_off),
		cmocka_unit_test(restarted), cmocka_unit_test(keys),
		cmocka_unit_test(revoked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
