/* SPDX-License-Identifier: Apache-2.0 */
/* Extents that the controller wants here are fetched from another server: whole, or nothing of them
 * is left; a bad one is replaced by a good one or stays; and a drop is obeyed at every moment. */
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

enum { LEN = 3 * MIB + 1234, JOB = 5, EGROUP = 1, ID = 1000 };
static uint8_t data[LEN], back[LEN];

static struct world w;        /* the server that is asked */
static struct world far;      /* how another one is seen, from which it fetches */
static struct rpc_conn *here, *there; /* clients */
static struct store_opts far_opts;
static struct store_device far_devices[N_DEVICES];
static struct store *source;
static char far_addr[SYS_ADDR_MAX];

static void on_ready(void *arg, const char *const *bound, unsigned n)
{
	snprintf(far_addr, sizeof far_addr, "%s", bound[0]);
}

static PARKS void source_open(void)
{
	static const char *const listen[] = { "tcp:*:0", "unix:/source" };
	struct rpc_connect o = { .addr = "unix:/source", .svc = &w.reverse, .group = &w.group,
		.hello = { .role = ROLE_CLIENT } };
	uint32_t n_beats = w.other.n_beats;
	struct msg_hello_ok ok;

	memcpy(far_devices, w.devices, sizeof far_devices);
	far_devices[FLASH].dir = "/flash2";
	far_devices[DISK].dir = "/disk2";
	far_opts = (struct store_opts){ .dir = "/data2", .devices = far_devices,
		.n_devices = N_DEVICES, .listen = listen, .n_listen = 2, .controller = w.control_2,
		.ready = on_ready };
	check(store_new(w.s, &far_opts, &source, NULL) == 0);
	until(w.s, w.other.n_beats > n_beats + 1);
	far = w;
	far.ctl = w.other;
	check(rpc_connect(w.s, &o, soon(w.s), &there, &ok, NULL) == 0);
}

static PARKS void source_close(void)
{
	rpc_close(there);
	there = NULL;
	store_free(source);
	source = NULL;
}

static PARKS void begin(struct sys *s)
{
	world_begin(&w, s);
	world_control_open(&w, &w.other, w.control_2);
	snprintf(w.controls, sizeof w.controls, "%s", w.control);
	world_store_open(&w);
	source_open();
	here = world_client(&w, false);
	pattern(1, data, sizeof data);
}

static PARKS void end(void)
{
	rpc_close(here);
	if (source != NULL)
		source_close();
	world_close(&w);
}

static PARKS void restart(void)
{
	rpc_close(here);
	store_free(w.st);
	w.st = NULL;
	world_store_open(&w);
	until(w.s, w.ctl.conn != NULL);
	here = world_client(&w, false);
}

static PARKS void put_both(uint8_t device)
{
	struct ticket t = ticket(&w, EGROUP, JOB, device), u = ticket(&far, EGROUP, JOB, device);

	if (w.st != NULL)
		check(put(&w, here, &t, ID, data, LEN, true) == 0);
	check(put(&far, there, &u, ID, data, LEN, true) == 0);
}

static PARKS void put_there(uint64_t id)
{
	struct ticket t = ticket(&far, EGROUP, JOB, FLASH);

	check(put(&far, there, &t, id, data, LEN, true) == 0);
}

static PARKS void flip_in(struct store *st, uint64_t id, uint64_t byte)
{
	struct table_node *n = table_get(&st->extents, EGROUP, id);
	const struct extent *e = container_of(n, struct extent, node);
	char path[PATH_BYTES];
	struct sys_file *f;
	uint8_t c;

	check(n != NULL);
	if (device_is_dram(e->egroup->device)) {
		e->arena->at[e->offset + byte] ^= 1;
		return;
	}
	volume_path(e->egroup->device, EGROUP, path);
	check(sys_open(w.s, path, SYS_READ | SYS_WRITE, &f, NULL) == 0);
	check(sys_pread(f, &c, 1, e->offset + byte, NULL) == 1);
	c ^= 1;
	check(sys_pwrite(f, &c, 1, e->offset + byte, NULL) == 0);
	sys_close(f);
}

/* ---- asking ---- */
struct asking {
	struct msg_extent_copy m;
	struct rpc_call call;
	uint8_t sources[512], code[CAP_BYTES];
};

static uint32_t root_of(uint64_t id)
{
	static uint32_t sums[LEN / LIMIT_BLOCK_BYTES + 1];

	sums_compute(id, 0, data, LEN, sums);
	return sums_root(sums, sums_count(LEN));
}

static void asking_init(struct asking *a, uint64_t id, bool verify, const char *const *addrs)
{
	struct wire_list_builder l =
		wire_list_begin(a->sources, sizeof a->sources, WIRE_VERSION);
	struct cap c = { .job = JOB, .ops = CAP_READ, .until_ms = w.ctl.shard_ms + CAP_LIFE_MS };

	for (uint32_t i = 0; addrs[i] != NULL; i++)
		check(sub_server_addr_add(&l, &(struct sub_server_addr){ .server = i + 8,
			.addr = bytes_of(addrs[i], strlen(addrs[i])) }));
	cap_mint(&w.ctl.key, &c, a->code);
	a->m = (struct msg_extent_copy){ .epoch = w.ctl.epoch, .egroup = EGROUP, .extent = id,
		.len = LEN, .root = root_of(id), .verify = verify, .tier = TIER_FLASH,
		.device = FLASH, .cap_job = JOB, .cap_until_ms = c.until_ms,
		.cap = bytes_of(a->code, sizeof a->code), .source = wire_list_end(&l) };
	a->call = (struct rpc_call){ .op = OP_extent_copy, .plain = true, .msg = &a->m };
}

static PARKS int asking_end(struct asking *a)
{
	int rc = rpc_wait(w.ctl.conn, &a->call, soon(w.s));

	rpc_call_fini(&a->call);
	return rc;
}

static PARKS int ask(struct asking *a)
{
	check(rpc_start(w.ctl.conn, &a->call) == 0);
	return asking_end(a);
}

static PARKS int copy_of(uint64_t id, bool verify, const char *const *addrs)
{
	struct asking a;

	asking_init(&a, id, verify, addrs);
	return ask(&a);
}

static const char *const from_source[] = { far_addr, NULL };
static const char *const from_nobody[] = { NULL };

static PARKS void expect_whole(uint64_t id)
{
	memset(back, 0, sizeof back);
	check(get(&w, here, EGROUP, id, JOB, 0, LEN, back) == 0);
	check(memcmp(back, data, LEN) == 0);
}

static PARKS void expect_nothing(void)
{
	struct store_device_status d;
	struct store_status st;

	until(w.s, (world_status(&w, FLASH, &d), d.pinned_bytes == 0));
	check(d.used_bytes == 0);
	check(d.n_extents == 0);
	check(drop_egroup(&w, EGROUP) == 0);
	world_status(&w, FLASH, &d);
	check(d.free_bytes == d.capacity_bytes);
	store_status(w.st, &st);
	check(st.scrub.n_bad == 0);
}

static int brought_run(struct sys *s, void *arg)
{
	static const char *const second[] = { "tcp:a:9", far_addr, NULL };
	struct store_device_status d;

	begin(s);
	put_there(ID);
	put_there(ID + 1);
	check(copy_of(ID, false, from_source) == 0);
	expect_whole(ID);
	world_status(&w, FLASH, &d);
	check(d.used_bytes == LEN);
	check(d.n_extents == 1);
	check(copy_of(ID, false, from_nobody) == 0); /* it is here */
	check(copy_of(ID + 1, true, second) == 0);
	restart(); /* synced */
	expect_whole(ID);
	expect_whole(ID + 1);
	check(drop(&w, EGROUP, ID, 2) == 0);
	expect_nothing();
	end();
	return 0;
}
TEST(brought)

static int refused_run(struct sys *s, void *arg)
{
	struct asking a;

	begin(s);
	put_there(ID);
	check(copy_of(ID, false, from_nobody) == E_UNREACH);
	check(copy_of(ID + 7, false, from_source) == E_GONE);
	asking_init(&a, ID, false, from_source);
	a.m.root ^= 1;
	check(ask(&a) == E_CORRUPT);
	asking_init(&a, ID, false, from_source);
	a.m.len -= LIMIT_BLOCK_BYTES;
	check(ask(&a) == E_CORRUPT);
	asking_init(&a, ID, false, from_source);
	a.m.epoch--;
	check(ask(&a) == E_STALE);
	asking_init(&a, ID, false, from_source);
	a.m.device = DISK;
	check(ask(&a) == E_INVALID);
	asking_init(&a, ID, false, from_source);
	a.m.cap_until_ms++;
	check(ask(&a) == E_DENIED); /* by the other one */
	flip_in(source, ID, 2 * MIB);
	check(copy_of(ID, false, from_source) == E_CORRUPT);
	expect_nothing();
	flip_in(source, ID, 2 * MIB);
	check(drop(&far, EGROUP, ID + 1, 1) == 0);
	check(copy_of(ID, false, from_source) == 0); /* no failure was for ever */
	expect_whole(ID);
	asking_init(&a, ID, false, from_source);
	a.m.root ^= 1;
	check(ask(&a) == E_CORRUPT); /* another one is here */
	end();
	return 0;
}
TEST(refused)

/* The bad one goes, and the account is what it was. */
static int replaced_run(struct sys *s, void *arg)
{
	struct store_device_status before, d;
	struct store_status st;

	begin(s);
	put_both(FLASH);
	world_status(&w, FLASH, &before);
	check(copy_of(ID, true, from_source) == 0); /* it is good */
	store_status(source, &st);
	check(st.devices[FLASH].read_bytes == 0);
	flip_in(w.st, ID, LEN - 1);
	check(copy_of(ID, false, from_source) == 0); /* nobody has asked */
	check(get(&w, here, EGROUP, ID, JOB, LEN - 1, 1, back) == E_CORRUPT);
	check(copy_of(ID, true, from_source) == 0);
	expect_whole(ID);
	until(s, (world_status(&w, FLASH, &d), d.pinned_bytes == 0));
	check(d.used_bytes == before.used_bytes);
	check(d.free_bytes == before.free_bytes);
	store_status(w.st, &st);
	check(st.scrub.n_bad == 0);
	restart();
	expect_whole(ID);
	end();
	return 0;
}
TEST(replaced)

/* Whatever is wrong with the others, it is bad here, and that is what is said. */
static int stays_run(struct sys *s, void *arg)
{
	static struct asking a;
	struct store_status st;

	begin(s);
	put_both(FLASH);
	flip_in(w.st, ID, MIB);
	check(copy_of(ID, true, from_nobody) == E_CORRUPT);
	flip_in(source, ID, 0);
	check(copy_of(ID, true, from_source) == E_CORRUPT);
	source_close();
	check(copy_of(ID, true, from_source) == E_CORRUPT);
	check(get(&w, here, EGROUP, ID, JOB, 0, LIMIT_BLOCK_BYTES, back) == 0);
	check(get(&w, here, EGROUP, ID, JOB, MIB, 1, back) == E_CORRUPT);
	store_status(w.st, &st);
	check(st.scrub.n_bad == 1);
	check(st.scrub.found == 1);
	source_open();
	flip_in(source, ID, 0);
	check(copy_of(ID, true, from_source) == 0);
	expect_whole(ID);
	/* In memory it is only looked at. */
	check(drop_egroup(&w, EGROUP) == 0);
	check(drop_egroup(&far, EGROUP) == 0);
	end();
	begin(s);
	asking_init(&a, ID, true, from_source);
	a.m.device = DRAM;
	a.m.tier = TIER_DRAM;
	check(ask(&a) == E_GONE);
	end();
	return 0;
}
TEST(stays)

static int memory_run(struct sys *s, void *arg)
{
	struct ticket t;
	struct asking a;

	begin(s);
	t = ticket(&w, EGROUP, JOB, DRAM);
	check(put(&w, here, &t, ID, data, MIB, false) == 0);
	for (int bad = 0; bad < 2; bad++) {
		static uint32_t sums[MIB / LIMIT_BLOCK_BYTES];

		asking_init(&a, ID, true, from_source);
		a.m.device = DRAM;
		a.m.tier = TIER_DRAM;
		a.m.len = MIB;
		sums_compute(ID, 0, data, MIB, sums);
		a.m.root = sums_root(sums, sums_count(MIB));
		check(ask(&a) == (bad ? E_CORRUPT : 0));
		flip_in(w.st, ID, MIB - 1);
	}
	end();
	return 0;
}
TEST(memory)

/* ---- at every moment ---- */
enum { MOMENTS = 25, APART_US = 150 };

/* The drop that was sent behind the request is obeyed, whatever the request was at. */
static PARKS void dropped_at(struct sys *s, uint64_t ns, bool bad, bool group)
{
	struct asking a;
	int rc;

	begin(s);
	if (bad) {
		put_both(FLASH);
		flip_in(w.st, ID, 5);
	} else {
		put_there(ID);
	}
	asking_init(&a, ID, true, from_source);
	check(rpc_start(w.ctl.conn, &a.call) == 0);
	check(fiber_sleep(sys_after(s, ns)) == 0);
	check((group ? drop_egroup(&w, EGROUP) : drop(&w, EGROUP, ID, 1)) == 0);
	check(get(&w, here, EGROUP, ID, JOB, 0, 1, back) == E_GONE);
	rc = asking_end(&a);
	if (rc != 0 && rc != E_GONE)
		fprintf(stderr, "dropped after %llu ns: %s\n", (unsigned long long)ns,
			err_name(rc));
	check(rc == 0 || rc == E_GONE); /* 0: it was done before */
	check(get(&w, here, EGROUP, ID, JOB, 0, 1, back) == E_GONE);
	expect_nothing();
	restart();
	check(get(&w, here, EGROUP, ID, JOB, 0, 1, back) == E_GONE);
	end();
}

static int dropped_run(struct sys *s, void *arg)
{
	unsigned how = *(const unsigned *)arg;

	dropped_at(s, SYS_US + how / 4 * APART_US * SYS_US, how & 1, how & 2);
	return 0;
}

static void dropped(void **state)
{
	for (unsigned how = 0; how < 4 * MOMENTS; how++)
		door_run(dropped_run, &how);
}

/* The other one ends in the middle: nothing is left, and a later try finds it all. */
static int source_dies_run(struct sys *s, void *arg)
{
	unsigned moment = *(const unsigned *)arg;
	struct asking a;
	int rc;

	begin(s);
	put_there(ID);
	asking_init(&a, ID, false, from_source);
	check(rpc_start(w.ctl.conn, &a.call) == 0);
	check(fiber_sleep(sys_after(s, moment * 500 * SYS_US)) == 0);
	source_close();
	rc = asking_end(&a);
	if (rc == 0) {
		expect_whole(ID);
	} else {
		check(rc == E_CLOSED || rc == E_UNREACH || rc == E_UNAVAILABLE);
		source_open();
		check(copy_of(ID, false, from_source) == 0);
		expect_whole(ID);
	}
	end();
	return 0;
}

static void source_dies(void **state)
{
	for (unsigned moment = 0; moment < 20; moment++)
		door_run(source_dies_run, &moment);
}

/* Asked for twice, one of the two good ones goes. */
static int twice_run(struct sys *s, void *arg)
{
	struct store_device_status before, d;
	static struct asking a[3];

	begin(s);
	put_both(FLASH);
	world_status(&w, FLASH, &before);
	flip_in(w.st, ID, 5);
	for (int i = 0; i < 3; i++) {
		asking_init(&a[i], ID, true, from_source);
		check(rpc_start(w.ctl.conn, &a[i].call) == 0);
	}
	for (int i = 0; i < 3; i++) {
		int rc = asking_end(&a[i]);

		check(rc == 0 || rc == E_GONE); /* it looked at the one that was replaced */
	}
	expect_whole(ID);
	until(s, (world_status(&w, FLASH, &d), d.pinned_bytes == 0));
	check(d.used_bytes == before.used_bytes);
	check(d.n_extents == 1);
	restart();
	expect_whole(ID);
	end();
	return 0;
}
TEST(twice)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(brought), cmocka_unit_test(refused), cmocka_unit_test(replaced),
		cmocka_unit_test(stays), cmocka_unit_test(memory), cmocka_unit_test(dropped),
		cmocka_unit_test(source_dies), cmocka_unit_test(twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
