/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever breaks meanwhile - connections, disks, waits - an extent that was acknowledged is read
 * as it was written or refused, a retry finds what it did before, at the end all room is free. */
#include "store/door_test.h"
#include "store/world_test.h"
#include "sys/sim/sim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { CLIENTS = 5, OPS = 120, MINE_MAX = 64, PINS = 6, LEN_MAX = 400000, SEEDS = 12 };

struct item { uint64_t egroup, id; size_t len; uint8_t device; bool there; };
struct held { const uint8_t *at; struct item item; uint64_t n_breaks; };

struct actor {
	struct world *w;
	struct rpc_conn *c;
	struct mappings ms;
	struct prng p;
	struct item mine[MINE_MAX];
	struct held pins[PINS];
	unsigned n, n_pins, used;
	uint64_t job, egroup, n_breaks, n_groups;
	uint8_t device;
	bool local;
};
static struct actor actors[CLIENTS];
static struct world world;
static uint64_t n_full, n_retried, n_io, n_corrupt, n_read, n_put;

static bool broke(int rc)
{
	return rc == E_CLOSED || rc == E_TIMEOUT || rc == E_UNREACH || rc == E_UNKNOWN
		|| rc == E_CANCELED;
}

/* ---- connections that break ---- */
static PARKS void reconnect(struct actor *a)
{
	struct rpc_connect o = { .addr = a->local ? a->w->local : a->w->tcp,
		.svc = &a->w->reverse, .group = &a->w->group, .hello = { .role = ROLE_CLIENT } };
	struct msg_hello_ok ok;
	int rc;

	rpc_close(a->c);
	mappings_close(&a->ms);
	a->n_pins = 0; /* they ended with the connection */
	a->n_breaks++;
	do {
		rc = rpc_connect(a->w->s, &o, soon(a->w->s), &a->c, &ok, NULL);
		if (rc < 0)
			check(fiber_sleep(sys_after(a->w->s, 5 * SYS_MS)) == 0);
	} while (rc < 0);
}

/* What to do about an outcome: true when the request is to be sent again. */
static PARKS bool again(struct actor *a, int rc)
{
	if (broke(rc))
		reconnect(a);
	else if (rc != E_BUSY && rc != E_UNAVAILABLE)
		return false;
	else
		check(fiber_sleep(sys_after(a->w->s, 20 * SYS_MS)) == 0);
	n_retried++;
	return true;
}

static PARKS void drop_surely(struct actor *a, uint64_t egroup, uint64_t id)
{
	int rc;

	for (;;) {
		rc = id != 0 ? drop(a->w, egroup, id, 1) : drop_egroup(a->w, egroup);
		if (rc == 0)
			return;
		check(broke(rc) || rc == E_IO || rc == E_BUSY);
		check(fiber_sleep(sys_after(a->w->s, 20 * SYS_MS)) == 0);
	}
}

/* ---- what an actor does ---- */
static struct ticket current(struct actor *a)
{
	uint8_t d;

	if (a->egroup == 0 || a->used == 64) {
		d = (uint8_t)prng_below(&a->p, 3);
		a->device = a->local ? DRAM : d;
		a->egroup = a->job * 1000 + ++a->n_groups;
		a->used = 0;
	}
	return ticket(a->w, a->egroup, a->job, a->device);
}

static PARKS int put_once(struct actor *a, const struct ticket *t, const struct item *it,
	const uint8_t *data)
{
	int rc;

	if (!a->local)
		return put(a->w, a->c, t, it->id, data, it->len, it->id % 2);
	rc = alloc(a->w, a->c, &a->ms, t, it->id, data, it->len);
	if (rc == E_EXISTS) /* sealed, and the answer was lost */
		return 0;
	if (rc == 0)
		rc = seal(a->w, a->c, t, it->id, data, it->len);
	return rc;
}

static PARKS void act_put(struct actor *a)
{
	struct ticket t = current(a);
	struct item *it = &a->mine[a->n];
	uint8_t *data;
	int rc;

	if (a->n == MINE_MAX)
		return;
	*it = (struct item){ .egroup = t.egroup, .id = t.first + a->used++,
		.len = 1 + prng_below(&a->p, LEN_MAX), .device = t.device };
	a->n++;
	data = malloc(it->len);
	pattern(it->id, data, it->len);
	do
		rc = put_once(a, &t, it, data);
	while (again(a, rc));
	free(data);
	n_put += rc == 0;
	n_full += rc == E_FULL;
	n_io += rc == E_IO;
	check(rc == 0 || rc == E_FULL || (rc == E_IO && it->device != DRAM));
	it->there = rc == 0;
	if (rc < 0) {
		drop_surely(a, it->egroup, it->id); /* as the end of a grant does */
		a->n--;
		a->egroup = 0;
	}
}

static PARKS void act_get(struct actor *a)
{
	struct item *it = &a->mine[prng_below(&a->p, a->n)];
	uint64_t from = prng_below(&a->p, it->len);
	uint32_t len = (uint32_t)(1 + prng_below(&a->p, it->len - from));
	uint8_t *want = malloc(it->len), *is = malloc(len);
	int rc;

	do
		rc = get(a->w, a->c, it->egroup, it->id, a->job, from, len, is);
	while (again(a, rc));
	pattern(it->id, want, it->len);
	check(rc == 0 || ((rc == E_IO || rc == E_CORRUPT) && it->device != DRAM));
	check(rc < 0 || memcmp(want + from, is, len) == 0);
	n_corrupt += rc == E_CORRUPT;
	n_read += rc == 0;
	free(want);
	free(is);
}

static PARKS void act_drop(struct actor *a)
{
	unsigned i = (unsigned)prng_below(&a->p, a->n);
	struct item it = a->mine[i];
	uint8_t byte;
	int rc;

	a->mine[i] = a->mine[--a->n];
	drop_surely(a, it.egroup, it.id);
	do
		rc = get(a->w, a->c, it.egroup, it.id, a->job, 0, 1, &byte);
	while (again(a, rc));
	check(rc == E_GONE);
}

/* A pin holds its bytes, dropped or not, for as long as the connection. */
static PARKS void act_pin(struct actor *a)
{
	struct item *it = &a->mine[prng_below(&a->p, a->n)];
	struct held *h = &a->pins[a->n_pins];
	uint64_t len;
	int rc;

	if (!a->local || a->n_pins == PINS)
		return;
	rc = pin(a->w, a->c, &a->ms, it->egroup, it->id, a->job, &h->at, &len);
	if (rc < 0) {
		check(broke(rc) || rc == E_UNAVAILABLE);
		again(a, rc);
		return;
	}
	check(len == it->len);
	h->item = *it;
	a->n_pins++;
}

static PARKS void act_unpin(struct actor *a)
{
	struct held h;
	uint8_t *want;
	int rc;

	if (a->n_pins == 0)
		return;
	h = a->pins[--a->n_pins];
	want = malloc(h.item.len);
	pattern(h.item.id, want, h.item.len);
	check(memcmp(h.at, want, h.item.len) == 0);
	free(want);
	rc = unpin(a->w, a->c, h.item.egroup, h.item.id);
	if (rc < 0 && broke(rc))
		reconnect(a);
	else
		check(rc == 0);
}

static PARKS void act_drop_group(struct actor *a)
{
	uint64_t g = a->egroup;
	unsigned kept = 0;

	if (g == 0)
		return;
	a->egroup = 0;
	for (unsigned i = 0; i < a->n; i++)
		if (a->mine[i].egroup != g)
			a->mine[kept++] = a->mine[i];
	a->n = kept;
	drop_surely(a, g, 0);
}

static int act(void *arg)
{
	struct actor *a = arg;
	uint64_t what;

	reconnect(a);
	for (int i = 0; i < OPS; i++) {
		what = prng_below(&a->p, 100);
		if (a->n == 0 || what < 35)
			act_put(a);
		else if (what < 60)
			act_get(a);
		else if (what < 72)
			act_pin(a);
		else if (what < 82)
			act_unpin(a);
		else if (what < 95)
			act_drop(a);
		else if (what < 98)
			act_drop_group(a);
		else
			reconnect(a);
		if (i % 10 == 0)
			store_audit(a->w->st);
	}
	for (uint64_t g = 1; g <= a->n_groups; g++)
		drop_surely(a, a->job * 1000 + g, 0);
	rpc_close(a->c);
	mappings_close(&a->ms);
	return 0;
}

static const struct sim_faults faults = {
	.net_delay_min_ns = 10 * SYS_US,
	.net_delay_max_ns = 2 * SYS_MS,
	.net_split_ppm = 50000,
	.disk_io_ppm = 3000,
	.disk_rot_ppm = 10000,
	.disk_op_max_ns = SYS_MS,
	.disk_slow_ppm = 1000,
	.clock_late_ppm = 1000,
	.shuffle = true,
};

static struct sim *sim;

/* Cuts connections, of clients and of the controller, at any moment. */
static int cut(void *arg)
{
	struct prng p = prng_fork(*(uint64_t *)arg, 99);
	struct store *st = world.st;
	struct rpc_conn *c = NULL;
	uint64_t n;

	while (fiber_sleep(sys_after(st->sys, SYS_MS + prng_below(&p, 60 * SYS_MS))) == 0) {
		n = prng_below(&p, st->n_clients + 1);
		c = n == st->n_clients ? world.ctl.conn : NULL;
		list_each(it, &st->clients)
			if (n-- == 0)
				c = container_of(it, struct client, link)->conn;
		if (c != NULL && rpc_conn_stream(c) != NULL)
			sys_stream_shut(rpc_conn_stream(c));
	}
	return 0;
}

static int churn(struct sys *s, void *arg)
{
	uint64_t seed = *(uint64_t *)arg;
	struct store_device_status st;
	struct store_status all;
	struct group g, cutter;

	world_open(&world, s);
	group_init(&cutter, sys_loop(s));
	check(fiber_start(&cutter, "cut", cut, arg) == 0);
	sim_faults_set(sim, &faults); /* a server may refuse to start on a broken disk */
	group_init(&g, sys_loop(s));
	for (unsigned i = 0; i < CLIENTS; i++) {
		actors[i] = (struct actor){ .w = &world, .p = prng_fork(seed, 100 + i),
			.job = 1 + i, .local = i % 2 };
		check(fiber_start(&g, "actor", act, &actors[i]) == 0);
	}
	check(group_wait(&g) == 0);
	group_cancel(&cutter);
	group_wait(&cutter);
	until(s, (store_status(world.st, &all), all.n_clients == 0));
	check(all.n_pins == 0);
	for (unsigned d = 0; d < N_DEVICES; d++) {
		world_status(&world, d, &st);
		check(st.n_extents == 0);
		check(st.n_egroups == 0);
		check(st.used_bytes == 0);
		check(st.pinned_bytes == 0);
		check(st.free_bytes == st.capacity_bytes - (d == DRAM ? 4096 : 0));
	}
	world_close(&world);
	return 0;
}

static void room_comes_back_whatever_breaks(void **state)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct sim_node *n;

		sim = sim_new(seed, &sim_no_faults);
		n = sim_node_add(sim, "a", 256 << 20);
		sim_node_start(n, churn, &seed);
		sim_run(sim, 3600 * SYS_SEC);
		check(!sim_node_up(n));
		check(sim_node_result(n) == 0);
		sim_free(sim);
	}
	/* Each of these has to have happened. */
	assert_true(n_put > 100);
	assert_true(n_read > 100);
	assert_true(n_full > 0);
	assert_true(n_retried > 0);
	assert_true(n_io > 0);
	assert_true(n_corrupt > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(room_comes_back_whatever_breaks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
