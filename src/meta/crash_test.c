/* SPDX-License-Identifier: Apache-2.0 */
/* However a shard ends, what it finds when it starts again is what it was after some request, no
 * earlier than the last one acknowledged; and everything adds up. */
#include "base/prng.h"
#include "meta/alone_test.h"
#include "meta/inside.h"
#include "sys/sim/sim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { NAMES = 5, HISTORY = 20000, SEEDS = 6, ROUNDS = 8 };

/* The inode at each name after a request, 0 for none. */
struct state {
	uint64_t at[NAMES];
};
static struct state history[HISTORY];
static int n_history, written, synced; /* requests; the last ones acknowledged in either way */
static struct prng prng;
static uint64_t b;
static int openings;
static bool had_bucket;

static struct bytes name_of(int i)
{
	static const char *const names[NAMES] = { "a", "b", "c", "d", "e" };

	return bytes_of(names[i], 1);
}

static void must(int rc, const struct err_note *note)
{
	if (rc < 0)
		fprintf(stderr, "%s: %s\n", err_name(rc), note->text);
	check(rc == 0);
}

/* ---- one request each: what it makes of the state is in *s ---- */

static int do_put(struct shard *sh, struct shard_call *c, struct state *s)
{
	static const uint8_t data[1500];
	int i = (int)prng_below(&prng, NAMES);
	struct msg_put m = { .bucket = b, .name = name_of(i) };
	struct msg_put_ok ok;
	size_t len = prng_below(&prng, sizeof data);
	int rc;

	if (prng_odds(&prng, 1, 3))
		m.flags = PUT_DURABLE;
	if (prng_odds(&prng, 1, 4))
		m.ttl_ms = 3600000;
	rc = shard_put(sh, c, &m, bytes_of(data, len), &ok);
	if (rc == 0)
		s->at[i] = ok.inode;
	return rc;
}

static int do_delete(struct shard *sh, struct shard_call *c, struct state *s)
{
	int i = (int)prng_below(&prng, NAMES);
	struct msg_delete m = { .bucket = b, .name = name_of(i) };
	int rc = shard_delete(sh, c, &m);

	s->at[i] = 0;
	return rc == E_NOTFOUND ? 0 : rc;
}

static int do_rename(struct shard *sh, struct shard_call *c, struct state *s)
{
	int i = (int)prng_below(&prng, NAMES), k = (int)prng_below(&prng, NAMES);
	struct msg_rename m = { .bucket = b, .to_bucket = b, .from = name_of(i), .to = name_of(k) };
	struct msg_put_ok ok;
	int rc = shard_rename(sh, c, &m, &ok);

	if (rc == 0 && i != k) {
		s->at[k] = s->at[i];
		s->at[i] = 0;
	}
	return rc == E_NOTFOUND ? 0 : rc;
}

static int do_consume(struct shard *sh, struct shard_call *c, struct state *s)
{
	int i = (int)prng_below(&prng, NAMES);
	struct msg_get get = { .bucket = b, .flags = GET_CONSUME, .name = name_of(i) };
	struct msg_done done = { .bucket = b, .inode = s->at[i] };
	struct msg_get_ok ok;
	struct bytes data;
	int rc = shard_get(sh, c, &get, &ok, &data);

	if (rc < 0)
		return 0; /* absent, lost, or marked by the client of an earlier start */
	c->number++;
	rc = shard_done(sh, c, &done);
	s->at[i] = 0;
	return rc;
}

/* ---- a process ---- */

static void compare(struct shard *sh, struct shard_call *c, int least)
{
	struct state s;
	int k;

	for (int i = 0; i < NAMES; i++) {
		struct msg_stat m = { .bucket = b, .name = name_of(i) };
		struct msg_stat_ok ok;
		int rc = shard_stat(sh, c, &m, &ok);

		check(rc == 0 || rc == E_NOTFOUND);
		s.at[i] = rc == 0 ? ok.inode : 0;
	}
	for (k = n_history - 1; k >= least; k--)
		if (memcmp(&history[k], &s, sizeof s) == 0)
			break;
	check(k >= least);
	n_history = k + 1; /* what came later never was */
	written = synced = k;
}

static void find_bucket(struct shard *sh, struct shard_call *c)
{
	struct msg_bucket_create m = {
		.name = BYTES("b"), .protection = PROTECT_NONE, .exists_ok = 1
	};
	struct sub_bucket_info info;
	struct msg_bucket_ok ok;

	check(shard_bucket_create(sh, c, &m, &ok) == 0);
	check(sub_bucket_info_next(&ok.bucket, &info));
	check(!had_bucket || info.bucket == b);
	b = info.bucket;
	c->sync = true;
	db_want_sync(sh->db);
	if (shard_settle(sh, c, FOREVER) == 0)
		had_bucket = true;
}

static void play(struct sys *s, struct shard *sh, struct shard_call *c)
{
	static int (*const requests[])(struct shard *, struct shard_call *,
		struct state *) = { do_put, do_put, do_put, do_delete, do_rename, do_consume };

	while (n_history < HISTORY - 1) {
		struct state next = history[n_history - 1];
		int rc;

		c->number++;
		rc = requests[prng_below(&prng, 6)](sh, c, &next);
		check(rc == 0 || rc == E_BUSY);
		if (rc == 0)
			history[n_history++] = next;
		if (prng_odds(&prng, 1, 4) && fiber_sleep(sys_now_ns(s) + 1) < 0)
			return;
		if (!prng_odds(&prng, 1, 4))
			continue;
		rc = n_history - 1;
		if (shard_settle(sh, c, FOREVER) < 0)
			return;
		written = rc;
		if (c->sync)
			synced = rc;
	}
}

static int process(struct sys *s, void *arg)
{
	const int *least = arg;
	static const struct db_opts db = { .merge_every_ns = 20 * SYS_MS,
		.log_segment_bytes = 1 << 16 };
	struct shard_opts o = { .slab_bytes = 4 << 20, .epoch = 1 };
	struct shard_call c = { .who = { .admin = true }, .version = WIRE_VERSION };
	struct err_note note = { "" };
	struct alone a;
	struct shard *sh;
	int rc;

	rc = alone_open(&a, s, "/meta", &db, &o, &note);
	if (rc == E_CANCELED)
		return 0;
	must(rc, &note);
	sh = a.sh;
	shard_audit(sh);
	openings++;
	check(session_open(sh, &c.who, 1, 1, &c.session) == 0);
	c.number = session_last_number(c.session) + LIMIT_INFLIGHT_MAX;
	find_bucket(sh, &c);
	if (had_bucket) {
		compare(sh, &c, *least);
		play(s, sh, &c);
	}
	if (sh->failed == 0)
		shard_audit(sh);
	session_close(sh, c.session);
	(void)alone_close(&a, &note);
	return 0;
}

static void one_seed(uint64_t seed, bool power)
{
	static const struct sim_faults f = { .disk_torn_ppm = 300000,
		.disk_slow_ppm = 500,
		.disk_op_max_ns = 300 * SYS_US,
		.clock_late_ppm = 1000,
		.shuffle = true };
	struct sim *w = sim_new(seed, &f);
	struct sim_node *n = sim_node_add(w, "m", UINT64_C(1) << 32);

	prng = prng_fork(seed, 77);
	memset(history, 0, sizeof history[0]);
	n_history = 1;
	written = synced = 0;
	had_bucket = false;
	for (int i = 0; i < ROUNDS; i++) {
		sim_node_start(n, process, power ? &synced : &written);
		sim_run(w, sim_now_ns(w) + prng_below(&prng, 1500 * SYS_MS));
		if (!sim_node_up(n))
			continue;
		if (power)
			sim_node_crash(n);
		else
			sim_node_kill(n);
		sim_run(w, sim_now_ns(w) + SYS_SEC);
	}
	sim_free(w);
}

static void a_power_cut(void **state)
{
	openings = 0;
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		one_seed(seed, true);
	assert_true(openings > SEEDS * ROUNDS / 2);
}

static void a_kill(void **state)
{
	openings = 0;
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		one_seed(seed, false);
	assert_true(openings > SEEDS * ROUNDS / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_power_cut),
		cmocka_unit_test(a_kill),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
