/* SPDX-License-Identifier: Apache-2.0 */
/* After a crash the files say what was promised: what was synced is there, what was dropped so is
 * not, everything else is whole, absent or found out; and a flipped bit is an error, never other
 * bytes. */
#include "fiber/lane.h"
#include "store/door_test.h"
#include "store/world_test.h"
#include "sys/sim/sim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { ENTRIES = 4000, ROUNDS = 3, LEN_MAX = 30000, LEN_MOST = 5000, WRITERS = 3 };
/* One thread: with the thread sanitizer's eyes there is little more to see. */
/* Where there is time for a few: those that have something to look at. */
enum { SEED_FIRST = LANE_TSAN ? 7 : 1, SEED_LAST = 10 };
enum promise { NOTHING, WHOLE, ABSENT }; /* of an entry, once its request was answered */

struct entry { uint64_t egroup, id; size_t len; bool sync, asked; enum promise promise; };
struct ledger {
	struct entry e[ENTRIES];
	unsigned n, n_kept, n_lost, n_corrupt, n_gone;
	uint64_t next_egroup;
	bool power; /* the last end took what was not synced */
	struct prng p;
};
static struct ledger led;
static struct world world;

/* ---- writing until the lights go out ---- */
struct scribe { struct world *w; uint64_t egroup; unsigned used; uint8_t device; };

static struct ticket writer_ticket(struct scribe *x)
{
	if (x->egroup == 0 || x->used == 64) {
		x->egroup = ++led.next_egroup;
		x->used = 0;
		x->device = prng_below(&led.p, 2) ? FLASH : DISK;
	}
	return ticket(x->w, x->egroup, 5, x->device);
}

static PARKS int put_one(struct scribe *x, struct rpc_conn *c)
{
	struct ticket t = writer_ticket(x);
	struct entry *e = &led.e[led.n++];
	uint8_t *data;
	int rc;

	check(led.n < ENTRIES);
	*e = (struct entry){ .egroup = t.egroup, .id = t.first + x->used++ };
	e->len = 1 + prng_below(&led.p, prng_odds(&led.p, 1, 8) ? LEN_MAX : LEN_MOST);
	e->sync = prng_below(&led.p, 2);
	data = malloc(e->len);
	pattern(e->id, data, e->len);
	rc = put(x->w, c, &t, e->id, data, e->len, e->sync);
	free(data);
	if (rc == 0)
		e->promise = WHOLE;
	return rc == E_FULL ? 0 : rc;
}

static PARKS int drop_one(struct scribe *x)
{
	struct entry *e = &led.e[prng_below(&led.p, led.n)];
	int rc;

	if (e->promise != WHOLE || e->egroup == 0) /* never without a park: it may be the last */
		return fiber_sleep(sys_after(x->w->s, 10 * SYS_US));
	e->promise = NOTHING;
	rc = drop(x->w, e->egroup, e->id, 1);
	if (rc == 0)
		e->promise = ABSENT;
	return rc;
}

static PARKS int drop_group(struct scribe *x)
{
	uint64_t g = x->egroup;
	int rc;

	if (g == 0)
		return 0;
	x->egroup = 0;
	for (unsigned i = 0; i < led.n; i++)
		if (led.e[i].egroup == g)
			led.e[i].promise = NOTHING;
	rc = drop_egroup(x->w, g);
	for (unsigned i = 0; i < led.n && rc == 0; i++)
		if (led.e[i].egroup == g)
			led.e[i].promise = ABSENT;
	return rc;
}

static int write_on(void *arg)
{
	struct scribe x = { .w = arg };
	struct rpc_conn *c = world_client(arg, false);
	uint64_t what;
	int rc = 0;

	while (rc == 0) {
		what = prng_below(&led.p, 100);
		if (led.n == 0 || (what < 60 && led.n < ENTRIES - WRITERS))
			rc = put_one(&x, c);
		else if (what < 95)
			rc = drop_one(&x);
		else
			rc = drop_group(&x);
	}
	rpc_close(c);
	return 0;
}

static int writing(struct sys *s, void *arg)
{
	struct group g;

	world_open(&world, s);
	group_init(&g, sys_loop(s));
	for (int i = 0; i < WRITERS; i++)
		check(fiber_start(&g, "writer", write_on, &world) == 0);
	group_wait(&g);
	world_close(&world);
	return 0;
}

/* ---- what is left ---- */
static PARKS int read_entry(struct world *w, struct rpc_conn *c, const struct entry *e)
{
	uint8_t *want = malloc(e->len), *is = malloc(e->len);
	int rc = get(w, c, e->egroup, e->id, 5, 0, (uint32_t)e->len, is);

	pattern(e->id, want, e->len);
	check(rc < 0 || memcmp(want, is, e->len) == 0); /* never other bytes */
	check(rc == 0 || rc == E_GONE || rc == E_CORRUPT);
	free(want);
	free(is);
	return rc;
}

static int looking(struct sys *s, void *arg)
{
	struct rpc_conn *c;

	world_open(&world, s);
	c = world_client(&world, false);
	for (unsigned i = 0; i < led.n; i++) {
		struct entry *e = &led.e[i];
		bool bound = !led.power || e->sync;
		int rc = read_entry(&world, c, e);

		check(!(e->promise == WHOLE && bound) || rc == 0);
		check(!(e->promise == ABSENT && bound) || rc == E_GONE);
		led.n_kept += rc == 0;
		led.n_gone += rc == E_GONE;
		led.n_corrupt += rc == E_CORRUPT;
		e->promise = NOTHING; /* a resurrected one may go again */
	}
	rpc_close(c);
	world_close(&world);
	return 0;
}

static const struct sim_faults disk_faults = {
	.net_delay_min_ns = 10 * SYS_US,
	.net_delay_max_ns = 100 * SYS_US,
	.disk_torn_ppm = 500000,
	.disk_op_max_ns = 200 * SYS_US,
	.shuffle = true,
};

static void one_seed(uint64_t seed)
{
	struct sim *w = sim_new(seed, &disk_faults);
	struct sim_node *n = sim_node_add(w, "a", 256 << 20);

	led.n = 0;
	led.next_egroup = 0;
	led.p = prng_fork(seed, 77);
	for (int round = 0; round < ROUNDS; round++) {
		sim_node_start(n, writing, NULL);
		sim_run(w, sim_now_ns(w) + 20 * SYS_MS + prng_below(&led.p, 60 * SYS_MS));
		led.power = prng_below(&led.p, 2);
		if (led.power)
			sim_node_crash(n);
		else
			sim_node_kill(n);
		sim_node_start(n, looking, NULL);
		sim_run(w, sim_now_ns(w) + 3600 * SYS_SEC);
		check(!sim_node_up(n));
		check(sim_node_result(n) == 0);
	}
	sim_free(w);
}

static void promises_hold_after_a_crash(void **state)
{
	for (uint64_t seed = SEED_FIRST; seed <= SEED_LAST; seed++)
		one_seed(seed);
	/* The test must have had something to look at. */
	assert_true(led.n_kept > 500);
	assert_true(led.n_gone > 500);
	assert_true(led.n_corrupt > 0);
}

/* ---- rot ---- */
enum { ROT_EXTENTS = 5, ROT_LEN = 50000 };

static int rot_write(struct sys *s, void *arg)
{
	struct rpc_conn *c;
	struct ticket t;
	uint8_t *data = malloc(ROT_LEN);

	world_open(&world, s);
	c = world_client(&world, false);
	t = ticket(&world, 9, 5, FLASH);
	for (unsigned i = 0; i < ROT_EXTENTS; i++) {
		pattern(t.first + i, data, ROT_LEN);
		check(put(&world, c, &t, t.first + i, data, ROT_LEN, true) == 0);
	}
	free(data);
	rpc_close(c);
	world_close(&world);
	return 0;
}

/* The first extent's header has rotted, the third one's block 2; the others are whole. */
static int rot_read(struct sys *s, void *arg)
{
	static uint8_t back[ROT_LEN];
	struct store_device_status st;
	struct rpc_conn *c;

	world_open(&world, s);
	c = world_client(&world, false);
	world_status(&world, FLASH, &st);
	check(st.n_extents == ROT_EXTENTS - 1);
	check(st.n_broken == 1);
	check(get(&world, c, 9, 9000, 5, 0, ROT_LEN, back) == E_GONE);
	check(get(&world, c, 9, 9002, 5, 0, ROT_LEN, back) == E_CORRUPT);
	check(get(&world, c, 9, 9002, 5, 8192, 1, back) == E_CORRUPT);
	check(get(&world, c, 9, 9002, 5, 0, 8192, back) == 0);
	check(get(&world, c, 9, 9002, 5, 12288, ROT_LEN - 12288, back) == 0);
	for (uint64_t i = 1; i < ROT_EXTENTS; i += i == 1 ? 2 : 1)
		check(get(&world, c, 9, 9000 + i, 5, 0, ROT_LEN, back) == 0);
	world_status(&world, FLASH, &st);
	check(st.n_corrupt == 2);
	check(drop_egroup(&world, 9) == 0);
	world_status(&world, FLASH, &st);
	check(st.free_bytes == st.capacity_bytes);
	rpc_close(c);
	world_close(&world);
	return 0;
}

/* Nothing is left of a dropped egroup. */
static int nothing_left(struct sys *s, void *arg)
{
	struct store_device_status st;

	world_open(&world, s);
	world_status(&world, FLASH, &st);
	check(st.n_egroups == 0);
	check(st.n_broken == 0);
	world_close(&world);
	return 0;
}

static void run(struct sim *w, struct sim_node *n, sim_main_fn *fn)
{
	sim_node_start(n, fn, NULL);
	sim_run(w, sim_now_ns(w) + 3600 * SYS_SEC);
	check(!sim_node_up(n));
	check(sim_node_result(n) == 0);
}

static void rot_is_found(void **state)
{
	struct sim *w = sim_new(5, &sim_no_faults);
	struct sim_node *n = sim_node_add(w, "a", 256 << 20);
	const char *path = "/flash/eg-0000000000000009";
	uint64_t room = room_of(TIER_FLASH, ROT_LEN);

	run(w, n, rot_write);
	assert_true(sim_disk_rot(n, path, 130, 3));
	assert_true(sim_disk_rot(n, path, 2 * room + 4096 + 8192 + 17, 0));
	run(w, n, rot_read);
	run(w, n, nothing_left);
	sim_free(w);
}

/* ---- headers ---- */
static void header_is_good_only_as_it_was_written(void **state)
{
	static uint8_t h[2 * SYS_BLOCK];
	static uint32_t sums[1024], back[1024];
	struct record r = { .egroup = 3, .extent = 4, .job = 5, .offset = 8192, .len = 4 * MIB,
		.root = 6, .n_sums = 1024, .header_bytes = 8192, .synced = true }, got;

	for (uint32_t i = 0; i < 1024; i++)
		sums[i] = i * 77;
	volume_record_put(&r, sums, h);
	assert_int_equal(record_header_bytes(h, 3, 8192), 8192);
	assert_int_equal(volume_record_get(h, 8192, 3, 8192, &got, back), 0);
	assert_memory_equal(sums, back, sizeof sums);
	assert_int_equal(got.extent, 4);
	assert_int_equal(got.job, 5);
	assert_int_equal(got.len, 4 * MIB);
	assert_true(got.synced);
	assert_int_equal(volume_record_get(h, 8192, 4, 8192, &got, back), E_CORRUPT);
	assert_int_equal(volume_record_get(h, 8192, 3, 4096, &got, back), E_CORRUPT);
	assert_int_equal(volume_record_get(h, 4096, 3, 8192, &got, back), E_CORRUPT);
	for (size_t i = 0; i < 4224; i++) {
		h[i] ^= (uint8_t)(1 << (i % 8));
		assert_int_equal(volume_record_get(h, 8192, 3, 8192, &got, back), E_CORRUPT);
		h[i] ^= (uint8_t)(1 << (i % 8));
	}
	assert_int_equal(volume_record_get(h, 8192, 3, 8192, &got, back), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(header_is_good_only_as_it_was_written),
		cmocka_unit_test(rot_is_found),
		cmocka_unit_test(promises_hold_after_a_crash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
