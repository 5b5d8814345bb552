/* SPDX-License-Identifier: Apache-2.0 */
/* What is at rest is read again, at its pace or at once, over restarts; what rots is told until it
 * is no more; and whatever comes and goes while it is read is never called rotten. */
#include "base/prng.h"
#include "store/door_test.h"
#include "store/world_test.h"
#include "sys/sim/sim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define TEST(name) static void name(void **state) { door_run(name##_run, NULL); }

enum { LEN = 20000, JOB = 5 };
static uint8_t data[8 * MIB], back[LEN];
static struct world w;

static PARKS void begin(struct sys *s, uint64_t scrub_ms)
{
	world_begin(&w, s);
	w.scrub_ms = scrub_ms;
	world_store_open(&w);
	pattern(1, data, sizeof data);
}

static PARKS void restart(void)
{
	store_free(w.st);
	w.st = NULL;
	world_store_open(&w);
}

static PARKS void sleep_s(uint64_t s)
{
	check(fiber_sleep(sys_after(w.s, s * SYS_SEC)) == 0);
}

static struct store_scrub scrubbed(void)
{
	struct store_status st;

	store_audit(w.st);
	store_status(w.st, &st);
	return st.scrub;
}

static struct extent *at(uint64_t egroup, uint64_t id)
{
	struct table_node *n = table_get(&w.st->extents, egroup, id);

	check(n != NULL);
	return container_of(n, struct extent, node);
}

/* A bit of its bytes flips; again, and it is what it was. */
static PARKS void flip(uint64_t egroup, uint64_t id, uint64_t byte)
{
	const struct extent *e = at(egroup, id);
	char path[PATH_BYTES];
	struct sys_file *f;
	uint8_t c;

	if (device_is_dram(e->egroup->device)) {
		e->arena->at[e->offset + byte] ^= 1;
		return;
	}
	volume_path(e->egroup->device, egroup, path);
	check(sys_open(w.s, path, SYS_READ | SYS_WRITE, &f, NULL) == 0);
	check(sys_pread(f, &c, 1, e->offset + byte, NULL) == 1);
	c ^= 1;
	check(sys_pwrite(f, &c, 1, e->offset + byte, NULL) == 0);
	sys_close(f);
}

static uint32_t n_told(uint64_t id)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < w.ctl.n_bad; i++)
		n += w.ctl.bad[i].extent == id;
	return n;
}

static PARKS void ask_for_all(void)
{
	w.ctl.scrub++;
	until(w.s, w.ctl.beat.scrub == w.ctl.scrub);
}

/* Three extents in an egroup on each device, whose number is the device's and one. */
static PARKS struct rpc_conn *furnish(void)
{
	struct rpc_conn *c = world_client(&w, true);

	for (uint8_t d = 0; d < N_DEVICES; d++) {
		struct ticket t = ticket(&w, d + 1, JOB, d);

		for (int i = 0; i < 3; i++)
			check(put(&w, c, &t, t.first + i, data + i, LEN, true) == 0);
	}
	return c;
}

static int found_run(struct sys *s, void *arg)
{
	struct rpc_conn *c;
	uint64_t id;

	begin(s, 10000);
	c = furnish();
	sleep_s(35);
	check(scrubbed().extents >= 9);
	check(scrubbed().found == 0);
	check(w.ctl.n_bad == 0);
	for (uint64_t g = 1; g <= N_DEVICES; g++)
		flip(g, g * 1000 + 1, g == 2 ? LEN - 1 : 4097);
	sleep_s(31);
	check(scrubbed().found == N_DEVICES);
	check(w.ctl.beat.rotten == N_DEVICES);
	check(w.ctl.n_bad == N_DEVICES);
	for (uint64_t g = 1; g <= N_DEVICES; g++)
		check(n_told(g * 1000 + 1) == 1);
	sleep_s(62); /* again, for it may not have been heard of as a part of a file then */
	check(w.ctl.n_bad == 2 * N_DEVICES);
	check(drop(&w, 1, 1001, 1) == 0);
	check(drop_egroup(&w, 2) == 0);
	check(scrubbed().n_bad == 1);
	flip(3, 3001, 4097); /* it was not the medium */
	sleep_s(31);
	check(scrubbed().n_bad == 0);
	id = w.ctl.n_bad;
	sleep_s(130);
	check(w.ctl.n_bad == id);
	check(get(&w, c, 3, 3001, JOB, 0, LEN, back) == 0);
	rpc_close(c);
	world_close(&w);
	return 0;
}
TEST(found)

static int at_once_run(struct sys *s, void *arg)
{
	struct mappings ms = { .n = 0 };
	const uint8_t *p;
	struct rpc_conn *c;
	uint64_t len;

	begin(s, 0);
	c = furnish();
	sleep_s(100);
	check(scrubbed().extents == 0); /* a day */
	flip(1, 1002, 0);
	flip(3, 3000, 8192);
	ask_for_all();
	check(w.ctl.beat.scrub_extents == 9);
	check(w.ctl.beat.scrub_bytes == 9 * LEN);
	check(w.ctl.beat.scrub_found == 2);
	check(w.ctl.beat.scrub_ended_ms != 0);
	until(s, n_told(1002) == 1 && n_told(3000) == 1);
	check(pin(&w, c, &ms, 1, 1002, JOB, &p, &len) == E_CORRUPT); /* who maps does not look */
	check(pin(&w, c, &ms, 1, 1001, JOB, &p, &len) == 0);
	check(get(&w, c, 3, 3000, JOB, 0, 100, back) == 0); /* the other blocks are good */
	check(get(&w, c, 3, 3000, JOB, 8192, 100, back) == E_CORRUPT);
	ask_for_all();
	check(w.ctl.beat.scrub_found == 2);
	mappings_close(&ms);
	rpc_close(c);
	world_close(&w);
	return 0;
}
TEST(at_once)

/* Whoever reads need not wait for a scrub. */
static int by_a_reader_run(struct sys *s, void *arg)
{
	uint64_t began_ns = sys_now_ns(s);
	struct rpc_conn *c;

	begin(s, 0);
	c = furnish();
	flip(2, 2001, 5000);
	check(get(&w, c, 2, 2001, JOB, 0, LEN, back) == E_CORRUPT);
	until(s, n_told(2001) == 1);
	check(sys_now_ns(s) - began_ns < 3 * SYS_SEC);
	rpc_close(c);
	world_close(&w);
	return 0;
}
TEST(by_a_reader)

/* Twenty extents in 2000 s: half of them in half of the time, the rest behind a restart. */
static int pace_run(struct sys *s, void *arg)
{
	struct ticket t;
	struct rpc_conn *c;
	uint64_t passes;

	begin(s, 2000000);
	c = world_client(&w, false);
	t = ticket(&w, 1, JOB, FLASH);
	for (int i = 0; i < 20; i++)
		check(put(&w, c, &t, t.first + i, data, LEN, true) == 0);
	passes = scrubbed().passes;
	rpc_close(c);
	sleep_s(1090);
	check(scrubbed().extents >= 9);
	check(scrubbed().extents <= 11);
	restart();
	until(s, w.ctl.conn != NULL);
	while (scrubbed().passes == passes)
		sleep_s(10);
	check(scrubbed().passes == passes + 1);
	check(scrubbed().extents >= 9);
	check(scrubbed().extents <= 12);
	world_close(&w);
	return 0;
}
TEST(pace)

/* ---- while everything moves ---- */
enum { CHURNS = 3, STEPS = 250 };
struct churn { uint64_t egroup; unsigned used; uint8_t device; struct prng p; };

static PARKS int step(struct churn *x, struct rpc_conn *c)
{
	struct ticket t;
	size_t len = 1 + prng_below(&x->p, x->device == DRAM ? MIB : 3 * MIB);
	uint64_t what = prng_below(&x->p, 8);

	if (x->used >= 60 || what == 0) {
		if (x->used > 0)
			check(drop_egroup(&w, x->egroup) == 0);
		x->egroup += CHURNS;
		x->used = 0;
		x->device = (uint8_t)prng_below(&x->p, N_DEVICES);
	}
	t = ticket(&w, x->egroup, JOB, x->device);
	if (what < 5 || x->used == 0) {
		int rc = put(&w, c, &t, t.first + x->used, data, len, false);

		x->used += rc == 0;
		return rc == E_FULL && x->used > 0 ? drop(&w, x->egroup, t.first, x->used) : 0;
	}
	return drop(&w, x->egroup, t.first + prng_below(&x->p, x->used), 1);
}

static PARKS int churn(void *arg)
{
	struct churn *x = arg;
	struct rpc_conn *c = world_client(&w, false);

	for (int i = 0; i < STEPS; i++) {
		int rc = step(x, c);

		if (rc < 0 && rc != E_BUSY) {
			fprintf(stderr, "churn: %s\n", err_name(rc));
			abort();
		}
		scrub_now(w.st, w.st->scrub.asked + 1); /* without rest */
		check(fiber_sleep(sys_after(w.s, prng_below(&x->p, 40) * SYS_MS)) == 0);
	}
	rpc_close(c);
	return 0;
}

static int moving_run(struct sys *s, void *arg)
{
	struct churn x[CHURNS];
	struct group g;

	begin(s, 1000);
	group_init(&g, sys_loop(s));
	for (uint64_t i = 0; i < CHURNS; i++) {
		x[i] = (struct churn){ .egroup = 10 + i, .p = prng_fork(7, i) };
		check(fiber_start(&g, "churn", churn, &x[i]) == 0);
	}
	check(group_wait(&g) == 0);
	check(scrubbed().extents > STEPS);
	check(scrubbed().found == 0);
	check(w.ctl.n_bad == 0);
	world_close(&w);
	return 0;
}

static void moving(void **state)
{
	for (int i = 0; i < 4; i++)
		door_run(moving_run, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(found), cmocka_unit_test(at_once), cmocka_unit_test(by_a_reader),
		cmocka_unit_test(pace), cmocka_unit_test(moving),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
