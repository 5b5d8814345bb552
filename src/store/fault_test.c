/* SPDX-License-Identifier: Apache-2.0 */
/* Each operation on files and shared memory fails once, the first, the second, and so on until
 * there is none left: while a server opens, writes, grows, drops, and reads its files back.
 * Afterwards what was promised holds, another try succeeds, and every byte comes back. */
#include "store/door_test.h"
#include "store/world_test.h"
#include "sys/sim/sim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { DEEDS_MAX = 16, LEN = 20000, NTH_MAX = 2000 };
enum promise { NOTHING, WHOLE, ABSENT };

struct deed { uint64_t egroup, id; bool sync; enum promise promise; };
static struct {
	struct deed deeds[DEEDS_MAX];
	unsigned n;
	bool power;                  /* a power cut follows */
} led;
static struct world world;

/* What a failure was about. */
static char chosen[256];
static void hear(void *arg, uint64_t now_ns, const char *node, const char *text)
{
	if (strstr(text, "the chosen one") != NULL)
		snprintf(chosen, sizeof chosen, "%s", text);
}

static PARKS void write_one(struct rpc_conn *c, uint64_t egroup, uint8_t device, bool sync)
{
	static uint8_t data[LEN];
	struct ticket t = ticket(&world, egroup, 5, device);
	struct deed *d = &led.deeds[led.n];
	int rc;

	*d = (struct deed){ egroup, t.first + led.n, sync, NOTHING };
	check(++led.n < DEEDS_MAX);
	pattern(d->id, data, LEN);
	rc = put(&world, c, &t, d->id, data, LEN, sync);
	check(rc == 0 || rc == E_IO || rc == E_NOMEM || rc == E_FULL);
	d->promise = rc == 0 ? WHOLE : NOTHING;
}

/* A drop that failed is asked for again, as the controller does. */
static PARKS void drop_one(struct deed *d)
{
	int rc = drop(&world, d->egroup, d->id, 1);

	d->promise = NOTHING;
	for (int again = 0; rc < 0 && again < 5; again++) {
		check(fiber_sleep(sys_after(world.s, 100 * SYS_MS)) == 0);
		rc = drop(&world, d->egroup, d->id, 1);
	}
	if (rc < 0)
		fprintf(stderr, "%s: cannot be dropped: %s\n", chosen, err_name(rc));
	check(rc == 0);
	d->promise = ABSENT;
}

static PARKS void drop_all_of(uint64_t egroup)
{
	int rc = drop_egroup(&world, egroup);

	if (rc < 0)
		rc = drop_egroup(&world, egroup);
	check(rc == 0);
	for (unsigned i = 0; i < led.n; i++)
		if (led.deeds[i].egroup == egroup)
			led.deeds[i].promise = ABSENT;
}

static PARKS void write_memory(struct rpc_conn *c)
{
	static uint8_t data[LEN];
	struct mappings ms = { .n = 0 };
	struct ticket t = ticket(&world, 90, 5, DRAM);
	int rc = alloc(&world, c, &ms, &t, t.first, data, LEN);

	if (rc < 0) /* again: one refusal is not for ever */
		rc = alloc(&world, c, &ms, &t, t.first + 1, data, LEN);
	else
		check(seal(&world, c, &t, t.first, data, LEN) == 0);
	check(rc == 0);
	check(drop_egroup(&world, 90) == 0);
	mappings_close(&ms);
}

static int writing(struct sys *s, void *arg)
{
	struct err_note note = { "" };
	struct rpc_conn *c;

	world_begin(&world, s);
	if (world_store_try(&world, &note) < 0) {
		check(note.text[0] != '\0'); /* it says why */
		world_close(&world);
		return 0;
	}
	c = world_client(&world, true);
	write_memory(c);
	for (int i = 0; i < 3; i++)
		write_one(c, 1, FLASH, true);
	write_one(c, 2, DISK, false);
	write_one(c, 2, DISK, true);
	write_one(c, 3, FLASH, true); /* another file */
	drop_one(&led.deeds[1]);
	drop_all_of(2);
	write_one(c, 1, FLASH, true); /* behind the hole, or in a group that lost a sync */
	rpc_close(c);
	world_close(&world);
	return 0;
}

static int read_one(struct rpc_conn *c, const struct deed *d)
{
	static uint8_t want[LEN], is[LEN];
	int rc = get(&world, c, d->egroup, d->id, 5, 0, LEN, is);

	pattern(d->id, want, LEN);
	check(rc < 0 || memcmp(want, is, LEN) == 0);
	return rc;
}

/* No operation fails here. */
static int looking(struct sys *s, void *arg)
{
	struct store_device_status st;
	struct rpc_conn *c;

	world_open(&world, s);
	c = world_client(&world, false);
	for (unsigned i = 0; i < led.n; i++) {
		const struct deed *d = &led.deeds[i];
		int rc = read_one(c, d);

		if ((d->promise == WHOLE && !(led.power && !d->sync) && rc != 0)
			|| (d->promise == ABSENT && rc != E_GONE))
			fprintf(stderr, "%s: extent %llu of %llu: %s\n", chosen,
				(unsigned long long)d->id, (unsigned long long)d->egroup,
				err_name(rc));
		check(d->promise != WHOLE || (led.power && !d->sync) || rc == 0);
		check(d->promise != ABSENT || rc == E_GONE);
	}
	for (uint64_t g = 1; g <= 3; g++)
		check(drop_egroup(&world, g) == 0);
	for (unsigned d = 0; d < N_DEVICES; d++) {
		world_status(&world, d, &st);
		check(st.used_bytes == 0);
		check(st.n_egroups == 0);
		check(st.free_bytes == st.capacity_bytes - (d == DRAM ? 4096 : 0));
	}
	rpc_close(c);
	world_close(&world);
	return 0;
}

/* An operation fails while the files are read back: refused, or served without what failed. */
static int opening(struct sys *s, void *arg)
{
	struct err_note note = { "" };

	world_begin(&world, s);
	if (world_store_try(&world, &note) < 0)
		check(note.text[0] != '\0');
	world_close(&world);
	return 0;
}

static int waiting(struct sys *s, void *arg)
{
	return fiber_sleep(FOREVER) == E_CANCELED ? 0 : -1;
}

static void run(struct sim *w, struct sim_node *n, sim_main_fn *fn)
{
	sim_node_start(n, fn, NULL);
	sim_run(w, sim_now_ns(w) + 3600 * SYS_SEC);
	check(!sim_node_up(n));
	check(sim_node_result(n) == 0);
}

/* False when there are not so many operations. */
static bool fails_at(uint64_t nth, int rc, bool power, bool reading_back)
{
	struct sim *w = sim_new(nth, &sim_no_faults);
	struct sim_node *n = sim_node_add(w, "a", 256 << 20);
	bool met;

	sim_trace(w, hear, NULL);
	led.n = 0;
	led.power = power;
	if (!reading_back)
		sim_fail_nth(n, nth, rc);
	run(w, n, writing);
	if (reading_back) {
		sim_fail_nth(n, nth, rc);
		run(w, n, opening);
	}
	met = !sim_fails_nth(n);
	sim_fail_nth(n, 0, 0);
	if (power) { /* what was not synced is lost */
		sim_node_start(n, waiting, NULL);
		sim_run(w, sim_now_ns(w) + SYS_MS);
		sim_node_crash(n);
		sim_run(w, sim_now_ns(w) + SYS_SEC);
	}
	run(w, n, looking);
	sim_free(w);
	return met;
}

static void until_none_is_left(int rc, bool power, bool reading_back, uint64_t least)
{
	uint64_t nth = 1;

	while (fails_at(nth, rc, power, reading_back))
		check(++nth < NTH_MAX);
	assert_true(nth > least);
}

static void each_write_fails(void **state)
{
	until_none_is_left(E_IO, false, false, 40);
}

static void each_write_fails_then_the_power(void **state)
{
	until_none_is_left(E_IO, true, false, 40);
}

static void the_disk_is_full_at_each(void **state)
{
	until_none_is_left(E_FULL, false, false, 40);
}

static void each_reading_back_fails(void **state)
{
	until_none_is_left(E_IO, false, true, 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_write_fails),
		cmocka_unit_test(each_write_fails_then_the_power),
		cmocka_unit_test(the_disk_is_full_at_each),
		cmocka_unit_test(each_reading_back_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
