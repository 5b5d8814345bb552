/* SPDX-License-Identifier: Apache-2.0 */
/* What was written is read, by those who may, until it is dropped; every byte of room is accounted
 * for, and nothing of a client outlives its connection. */
#include "base/prng.h"
#include "store/world_test.h"
#include "store/door_test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define TEST(name) static void name(void **state) { door_run(name##_run, NULL); }
#define SLOW_TEST(name) static void name(void **state) \
{ \
	if (door_waits) \
		skip(); \
	door_run(name##_run, NULL); \
}

static uint8_t *bytes(uint64_t seed, size_t len)
{
	uint8_t *p = malloc(len);

	pattern(seed, p, len);
	return p;
}

/* Reads a range and compares. */
static PARKS void expect(struct world *w, struct rpc_conn *c, uint64_t egroup, uint64_t id,
	uint64_t job, const uint8_t *all, uint64_t from, uint32_t len)
{
	uint8_t *back = malloc(len);

	check(get(w, c, egroup, id, job, from, len, back) == 0);
	check(memcmp(back, all + from, len) == 0);
	free(back);
}

static int remote_run(struct sys *s, void *arg)
{
	static const size_t lens[] = { 1, 4095, 4096, 4097, 300001, 1 * MIB };
	struct store_device_status st;
	struct rpc_conn *c;
	static struct world w;

	world_open(&w, s);
	c = world_client(&w, false);
	for (unsigned d = 0; d < N_DEVICES; d++) {
		struct ticket t = ticket(&w, 1 + d, 5, (uint8_t)d);
		uint64_t sum = 0;

		for (unsigned i = 0; i < 6; i++) {
			uint8_t *data = bytes(i, lens[i]);

			check(put(&w, c, &t, t.first + i, data, lens[i], i % 2) == 0);
			expect(&w, c, t.egroup, t.first + i, 5, data, 0, (uint32_t)lens[i]);
			expect(&w, c, t.egroup, t.first + i, 5, data, lens[i] - 1, 1);
			expect(&w, c, t.egroup, t.first + i, 5, data, lens[i] / 3,
				(uint32_t)(lens[i] - lens[i] / 3 + 1) / 2);
			free(data);
			sum += lens[i];
		}
		world_status(&w, d, &st);
		check(st.used_bytes == sum);
		check(st.n_extents == 6);
		check(st.pinned_bytes == 0);
	}
	rpc_close(c);
	world_close(&w);
	return 0;
}
TEST(remote)

/* 4 MiB extents have headers of two blocks; the largest memory extent fills an arena. */
static int largest_run(struct sys *s, void *arg)
{
	uint8_t *data = bytes(1, 4 * MIB + 1);
	struct rpc_conn *c;
	static struct world w;

	world_open(&w, s);
	c = world_client(&w, false);
	for (unsigned d = 0; d < N_DEVICES; d++) {
		struct ticket t = ticket(&w, 1 + d, 5, (uint8_t)d);
		size_t len = d == DRAM ? ARENA : 4 * MIB;

		check(put(&w, c, &t, t.first, data, len, true) == 0);
		expect(&w, c, t.egroup, t.first, 5, data, 0, (uint32_t)len);
		expect(&w, c, t.egroup, t.first, 5, data, 1234567, 54321);
		check(put(&w, c, &t, t.first + 1, data, len + 1, false) == E_TOOBIG);
	}
	free(data);
	rpc_close(c);
	world_close(&w);
	return 0;
}
TEST(largest)

static int local_run(struct sys *s, void *arg)
{
	uint8_t *data = bytes(1, 500000);
	static uint8_t other[5000];
	struct mappings a = { .n = 0 }, b = { .n = 0 };
	struct store_device_status st;
	struct rpc_conn *c, *d;
	const uint8_t *p;
	static struct world w;
	struct ticket t;
	uint64_t len;

	world_open(&w, s);
	t = ticket(&w, 1, 5, DRAM);
	c = world_client(&w, true);
	d = world_client(&w, true);
	check(alloc(&w, c, &a, &t, t.first, data, 500000) == 0);
	check(pin(&w, d, &b, 1, t.first, 5, &p, &len) == E_GONE); /* not sealed yet */
	check(seal(&w, d, &t, t.first, data, 500000) == E_GONE);  /* not d's */
	check(seal(&w, c, &t, t.first, data, 500000) == 0);
	check(seal(&w, c, &t, t.first, data, 500000) == E_GONE);
	check(pin(&w, d, &b, 1, t.first, 5, &p, &len) == 0);
	check(len == 500000);
	check(memcmp(p, data, len) == 0);
	expect(&w, d, 1, t.first, 5, data, 100, 200000);
	/* A reader's descriptor cannot write; asking to write brings one that can, and a writer
	 * gets one that cannot for reading. */
	check(b.n == 1);
	check(a.n == 1);
	pattern(2, other, sizeof other);
	check(alloc(&w, d, &b, &t, t.first + 1, other, sizeof other) == 0);
	check(b.n == 2);
	check(seal(&w, d, &t, t.first + 1, other, sizeof other) == 0);
	check(pin(&w, c, &a, 1, t.first + 1, 5, &p, &len) == 0);
	check(memcmp(p, other, sizeof other) == 0);
	check(a.n == 2);
	world_status(&w, DRAM, &st);
	check(st.used_bytes == 505000);
	check(unpin(&w, c, 1, t.first + 1) == 0);
	check(unpin(&w, c, 1, t.first + 1) == E_NOTFOUND);
	check(unpin(&w, c, 1, t.first) == E_NOTFOUND); /* that is d's pin */
	check(unpin(&w, d, 1, t.first) == 0);
	mappings_close(&a);
	mappings_close(&b);
	free(data);
	rpc_close(c);
	rpc_close(d);
	world_close(&w);
	return 0;
}
TEST(local)

static int refused_run(struct sys *s, void *arg)
{
	struct mappings ms = { .n = 0 };
	static uint8_t data[10000], back[10000];
	struct rpc_conn *c, *l;
	const uint8_t *p;
	struct ticket t, u;
	static struct world w;
	uint64_t len;

	world_open(&w, s);
	c = world_client(&w, false);
	l = world_client(&w, true);
	pattern(1, data, sizeof data);
	for (uint8_t d = 0; d < N_DEVICES; d++) {
		t = ticket(&w, 1 + d, 5, d);
		w.ctl.key.key[0]++; /* somebody else's key */
		check(put(&w, c, &t, t.first, data, sizeof data, false) == E_DENIED);
		w.ctl.key.key[0]--;
		w.ctl.incarnation--; /* granted before the restart */
		check(put(&w, c, &t, t.first, data, sizeof data, false) == E_DENIED);
		w.ctl.incarnation++;
		u = t;
		u.epoch--;
		check(put(&w, c, &u, t.first, data, sizeof data, false) == E_STALE);
		u = t;
		u.until_ms = w.ctl.shard_ms - 1;
		check(put(&w, c, &u, t.first, data, sizeof data, false) == E_STALE);
		check(put(&w, c, &t, t.first + 64, data, sizeof data, false) == E_DENIED);
		check(put(&w, c, &t, t.first, data, 0, false) == E_INVALID);
		u = t;
		u.device = (uint8_t)((d + 1) % N_DEVICES);
		check(put(&w, c, &t, t.first, data, sizeof data, false) == 0);
		check(put(&w, c, &u, t.first + 1, data, sizeof data, false) == E_INVALID);
		u = t;
		u.job = 6; /* its own capability, another job's egroup */
		check(put(&w, c, &u, t.first + 1, data, sizeof data, false) == E_DENIED);
		check(get(&w, c, t.egroup, t.first, 6, 0, 10, back) == E_GONE);
		check(get(&w, c, t.egroup, t.first + 9, 5, 0, 10, back) == E_GONE);
		check(get(&w, c, t.egroup + 9, t.first, 5, 0, 10, back) == E_GONE);
		check(get(&w, c, t.egroup, t.first, 5, 9999, 2, back) == E_INVALID);
		check(get(&w, c, t.egroup, t.first, 5, UINT64_MAX, 2, back) == E_INVALID);
		check(get(&w, c, t.egroup, t.first, 5, 0, 0, back) == E_INVALID);
		check(get(&w, c, t.egroup, t.first, 5, 9999, 1, back) == 0);
		w.ctl.key.key[0]++;
		check(get(&w, c, t.egroup, t.first, 5, 0, 10, back) == E_DENIED);
		w.ctl.key.key[0]--;
	}
	t = ticket(&w, 1, 5, DRAM);
	check(alloc(&w, c, &ms, &t, t.first + 2, data, 10) == E_UNSUPPORTED);
	check(pin(&w, c, &ms, 1, t.first, 5, &p, &len) == E_UNSUPPORTED);
	check(pin(&w, l, &ms, 1, t.first, 6, &p, &len) == E_GONE);
	check(pin(&w, l, &ms, 2, 2000, 5, &p, &len) == E_UNSUPPORTED); /* on flash */
	check(alloc(&w, l, &ms, &t, t.first + 2, data, 10000) == 0);
	check(seal(&w, l, &t, t.first + 2, data, 5000) == E_INVALID); /* too few sums */
	u = ticket(&w, 2, 5, FLASH);
	check(alloc(&w, l, &ms, &u, u.first + 2, data, 10) == E_INVALID);
	mappings_close(&ms);
	rpc_close(c);
	rpc_close(l);
	world_close(&w);
	return 0;
}
TEST(refused)

/* Room ends at the grant's credit, at the egroup's size and at the device's. */
static int full_run(struct sys *s, void *arg)
{
	uint8_t *data = bytes(1, MIB);
	struct store_device_status st;
	struct rpc_conn *c;
	struct ticket t;
	static struct world w;
	uint64_t n = 0;

	world_open(&w, s);
	c = world_client(&w, false);
	for (uint8_t d = DRAM; d <= FLASH; d++) {
		t = ticket(&w, 1 + d, 5, d);
		t.credit = 3 * room_of(w.devices[d].tier, 100000);
		check(put(&w, c, &t, t.first, data, 100000, false) == 0);
		check(put(&w, c, &t, t.first + 1, data, 200000, false) == 0);
		check(put(&w, c, &t, t.first + 2, data, 100000, false) == E_FULL);
		t.credit += 200000; /* renewed with more */
		check(put(&w, c, &t, t.first + 2, data, 100000, false) == 0);
	}
	for (uint8_t d = DRAM; d <= FLASH; d++) {
		uint64_t before;

		world_status(&w, d, &st);
		before = st.used_bytes;
		for (n = 0; n < 100; n++) { /* a group for each, so that only the device is full */
			t = ticket(&w, 100 * (d + 1U) + n, 5, d);
			if (put(&w, c, &t, t.first, data, MIB, false) < 0)
				break;
		}
		check(put(&w, c, &t, t.first, data, MIB, false) == E_FULL);
		world_status(&w, d, &st);
		check(st.used_bytes == before + n * MIB);
		check(st.free_bytes < 2 * MIB);
		check(n > (d == DRAM ? 5 : 13));
		/* One goes, one comes. */
		check(drop(&w, 100 * (d + 1U), 100000 * (d + 1U), 1) == 0);
		check(put(&w, c, &t, t.first, data, MIB, false) == 0);
	}
	free(data);
	rpc_close(c);
	world_close(&w);
	return 0;
}
TEST(full)

static int egroup_ends_run(struct sys *s, void *arg)
{
	uint8_t *data = bytes(1, MIB);
	struct rpc_conn *c;
	struct ticket t;
	static struct world w;
	unsigned n;

	world_open(&w, s);
	c = world_client(&w, false);
	t = ticket(&w, 1, 5, FLASH);
	for (n = 0; put(&w, c, &t, t.first + n, data, MIB, false) == 0; n++)
		check(n < 8);
	check(n == 7); /* 8 MiB less the headers */
	check(drop(&w, 1, t.first, n) == 0);
	/* A file only grows: what was dropped is the device's again, not the egroup's. */
	check(put(&w, c, &t, t.first + n, data, MIB, false) == E_FULL);
	t = ticket(&w, 2, 5, FLASH);
	check(put(&w, c, &t, t.first, data, MIB, false) == 0);
	free(data);
	rpc_close(c);
	world_close(&w);
	return 0;
}
TEST(egroup_ends)

/* A client is gone: its pins, its allocations and its half-sent write are too. */
static int dead_client_run(struct sys *s, void *arg)
{
	uint8_t *data = bytes(1, MIB);
	struct mappings ms = { .n = 0 };
	struct store_device_status st;
	struct store_status all;
	struct rpc_conn *c, *d;
	const uint8_t *p;
	struct ticket t;
	static struct world w;
	uint64_t len;

	world_open(&w, s);
	t = ticket(&w, 1, 5, DRAM);
	c = world_client(&w, true);
	d = world_client(&w, true);
	check(put(&w, d, &t, t.first, data, 100000, false) == 0);
	check(alloc(&w, c, &ms, &t, t.first + 1, data, MIB) == 0);
	check(pin(&w, c, &ms, 1, t.first, 5, &p, &len) == 0);
	check(pin(&w, c, &ms, 1, t.first, 5, &p, &len) == 0);
	check(drop(&w, 1, t.first, 1) == 0);
	world_status(&w, DRAM, &st);
	check(st.used_bytes == 0);
	check(st.pinned_bytes == 102400);
	check(st.reserved_bytes == 4096 + MIB);
	check(memcmp(p, data, len) == 0); /* dropped, but still what it was */
	store_status(w.st, &all);
	check(all.n_clients == 2 && all.n_pins == 1);
	rpc_close(c);
	store_status(w.st, &all);
	until(s, (store_status(w.st, &all), all.n_clients == 1));
	check(all.n_pins == 0);
	world_status(&w, DRAM, &st);
	check(st.pinned_bytes == 0);
	check(st.reserved_bytes == 4096);
	check(st.n_extents == 0);
	/* Its id is free for whoever carries the grant on; the dropped one's is not. */
	check(put(&w, d, &t, t.first + 1, data, MIB, false) == 0);
	check(put(&w, d, &t, t.first, data, 100000, false) == E_GONE);
	mappings_close(&ms);
	free(data);
	rpc_close(d);
	world_close(&w);
	return 0;
}
TEST(dead_client)

/* Bytes that break off are no extent; bytes that differ from their root are none either. */
static int broken_write_run(struct sys *s, void *arg)
{
	uint8_t *data = bytes(1, MIB), code[CAP_BYTES];
	struct store_device_status st;
	struct rpc_conn *c;
	struct ticket t;
	static struct world w;

	world_open(&w, s);
	for (uint8_t d = 0; d < N_DEVICES; d++) {
		struct cap cap;
		struct msg_extent_write m;
		struct rpc_call call;
		struct msg_extent_ok ok;
		struct err_note note = { "" };

		c = world_client(&w, false);
		t = ticket(&w, 1 + d, 5, d);
		cap = (struct cap){ t.egroup, t.job, CAP_WRITE, t.epoch, t.until_ms, t.first,
			t.count, t.credit, w.ctl.incarnation, t.job_epoch };
		cap_mint(&w.ctl.key, &cap, code);
		m = (struct msg_extent_write){ .egroup = t.egroup, .extent = t.first,
			.epoch = t.epoch, .root = 12345, .tier = w.devices[d].tier, .device = d,
			.extent_first = t.first, .extent_count = t.count, .credit_bytes = t.credit,
			.cap_job = t.job, .cap_until_ms = t.until_ms,
			.cap = bytes_of(code, sizeof code) };
		call = (struct rpc_call){ .op = OP_extent_write, .plain = true, .msg = &m,
			.data = bytes_of(data, MIB) };
		check(rpc_ask(c, &call, OP_extent_ok, &ok, soon(s), &note) == E_CORRUPT);
		rpc_call_fini(&call);
		call = (struct rpc_call){ .op = OP_extent_write, .plain = true, .msg = &m,
			.data = bytes_of(data, MIB) };
		check(rpc_start(c, &call) == 0);
		sys_stream_shut(rpc_conn_stream(c)); /* somewhere in the middle */
		check(rpc_wait(c, &call, soon(s)) < 0);
		rpc_call_fini(&call);
		rpc_close(c);
		until(s, (world_status(&w, d, &st), st.n_extents == 0));
		check(st.used_bytes == 0);
		c = world_client(&w, false);
		check(put(&w, c, &t, t.first, data, MIB, false) == 0);
		expect(&w, c, t.egroup, t.first, 5, data, 0, MIB);
		rpc_close(c);
	}
	free(data);
	world_close(&w);
	return 0;
}
TEST(broken_write)

static int dropped_run(struct sys *s, void *arg)
{
	static uint8_t data[20000], back[20000];
	struct store_device_status st;
	struct rpc_conn *c;
	struct ticket t, u;
	static struct world w;

	world_open(&w, s);
	c = world_client(&w, false);
	pattern(1, data, sizeof data);
	for (uint8_t d = 0; d < N_DEVICES; d++) {
		t = ticket(&w, 1 + d, 5, d);
		for (unsigned i = 0; i < 10; i++)
			check(put(&w, c, &t, t.first + i, data, sizeof data, i == 3) == 0);
		/* A retry of what is there is answered as before; other bytes are refused. */
		check(put(&w, c, &t, t.first, data, sizeof data, true) == 0);
		check(put(&w, c, &t, t.first, data + 1, sizeof data - 1, false) == E_EXISTS);
		check(drop(&w, t.egroup, t.first + 1, 5) == 0);
		check(drop(&w, t.egroup, t.first + 1, 5) == 0); /* again is fine */
		check(get(&w, c, t.egroup, t.first + 3, 5, 0, 10, back) == E_GONE);
		check(get(&w, c, t.egroup, t.first, 5, 0, 20000, back) == 0);
		world_status(&w, d, &st);
		check(st.n_extents == 5);
		check(st.used_bytes == 5 * sizeof data);
		/* Ids are used once, and those dropped before they came do not come. */
		check(put(&w, c, &t, t.first + 1, data, sizeof data, false) == E_GONE);
		check(drop(&w, t.egroup, t.first + 10, 54) == 0);
		check(put(&w, c, &t, t.first + 20, data, sizeof data, false) == E_GONE);
		u = t; /* a grant that was never used here */
		u.first += 100;
		check(drop(&w, t.egroup, u.first, 64) == 0);
		check(put(&w, c, &u, u.first + 30, data, sizeof data, false) == E_GONE);
		check(drop_egroup(&w, t.egroup) == 0);
		check(drop_egroup(&w, 77) == 0);
		u = ticket(&w, 77, 5, d);
		check(put(&w, c, &t, t.first + 60, data, sizeof data, false) == E_GONE);
		check(put(&w, c, &u, u.first, data, sizeof data, false) == E_GONE);
		check(get(&w, c, t.egroup, t.first, 5, 0, 10, back) == E_GONE);
		world_status(&w, d, &st);
		check(st.n_extents == 0);
		check(st.n_egroups == 0);
		check(st.free_bytes == st.capacity_bytes - (d == DRAM ? 4096 : 0));
	}
	w.ctl.epoch--;
	check(drop(&w, 1, 1, 1) == E_STALE);
	w.ctl.epoch++;
	rpc_close(c);
	world_close(&w);
	return 0;
}
TEST(dropped)

/* A job sees no other job's bytes in the memory it is given, however arenas come and go. */
static int recycled_run(struct sys *s, void *arg)
{
	uint8_t *secret = malloc(ARENA);
	struct rpc_conn *c, *d;
	static struct world w;

	memset(secret, 0x5e, ARENA);
	world_open(&w, s);
	c = world_client(&w, true);
	for (uint64_t job = 1; job <= 6; job++) {
		struct mappings ms = { .n = 0 };
		struct ticket t;

		d = world_client(&w, true);
		for (unsigned i = 0; i < 4; i++) {
			t = ticket(&w, job * 10 + i, job, DRAM);
			check(alloc(&w, d, &ms, &t, t.first, NULL, ARENA) == 0);
			check(ms.n == i + 1);
			for (size_t at = 0; at < ARENA; at++)
				check(ms.m[i].at[at] == 0);
			memset(ms.m[i].at, 0x5e, ARENA);
			check(seal(&w, d, &t, t.first, secret, ARENA) == 0);
		}
		t = ticket(&w, job * 10 + 4, job, DRAM);
		check(alloc(&w, d, &ms, &t, t.first, NULL, 1) == E_FULL);
		for (unsigned i = 0; i < 4; i++)
			check(drop(&w, job * 10 + i, (job * 10 + i) * 1000, 1) == 0);
		/* The same job finds its own arena again, warm. */
		check(alloc(&w, d, &ms, &t, t.first, NULL, ARENA) == 0);
		check(ms.n == 4);
		check(drop_egroup(&w, t.egroup) == 0);
		check(seal(&w, d, &t, t.first, secret, ARENA) == E_GONE);
		mappings_close(&ms);
		rpc_close(d);
	}
	free(secret);
	rpc_close(c);
	world_close(&w);
	return 0;
}
TEST(recycled)

/* An arena that is left while it is still being faulted in is room for the next job. */
static int left_early_run(struct sys *s, void *arg)
{
	struct mappings ms = { .n = 0 };
	uint8_t byte = 0x5e;
	struct rpc_conn *c, *d;
	static struct world w;
	struct ticket t;

	world_open(&w, s);
	c = world_client(&w, true);
	for (unsigned i = 0; i < 3; i++) {
		t = ticket(&w, 900 + i, 900, DRAM);
		check(alloc(&w, c, &ms, &t, t.first, NULL, ARENA) == 0);
	}
	for (uint64_t job = 1; job <= 40; job++) {
		struct mappings one = { .n = 0 };

		d = world_client(&w, true);
		t = ticket(&w, job * 10, job, DRAM);
		check(alloc(&w, d, &one, &t, t.first, NULL, 1) == 0);
		check(one.m[0].at[0] == 0);
		one.m[0].at[0] = byte;
		check(seal(&w, d, &t, t.first, &byte, 1) == 0);
		check(drop(&w, t.egroup, t.first, 1) == 0);
		mappings_close(&one);
		rpc_close(d);
	}
	mappings_close(&ms);
	rpc_close(c);
	world_close(&w);
	return 0;
}
TEST(left_early)

/* An idle arena is destroyed, and clients that map it are told. */
static int arena_gone_run(struct sys *s, void *arg)
{
	struct mappings ms = { .n = 0 };
	struct store_device_status st;
	struct rpc_conn *c, *d;
	static uint8_t data[5000];
	struct ticket t;
	static struct world w;

	world_open(&w, s);
	t = ticket(&w, 1, 5, DRAM);
	c = world_client(&w, true);
	d = world_client(&w, true);
	until(s, (world_status(&w, DRAM, &st), st.ready_bytes == 4 * ARENA));
	pattern(1, data, sizeof data);
	check(alloc(&w, c, &ms, &t, t.first, data, sizeof data) == 0);
	check(seal(&w, c, &t, t.first, data, sizeof data) == 0);
	check(w.n_gone == 0);
	check(drop(&w, 1, t.first, 1) == 0);
	until(s, w.n_gone == 1);
	check(w.gone == ms.m[0].arena);
	for (size_t i = 0; i < sizeof data; i++) /* its memory is free, though we map it still */
		check(ms.m[0].at[i] == 0);
	until(s, (world_status(&w, DRAM, &st), st.ready_bytes == 4 * ARENA)); /* replaced */
	mappings_close(&ms);
	rpc_close(c);
	rpc_close(d);
	world_close(&w);
	return 0;
}
TEST(arena_gone)

/* Without its controller the server serves nobody; with it again, everybody. */
static int fence_run(struct sys *s, void *arg)
{
	struct store_status st;
	static uint8_t data[5000], back[5000];
	struct rpc_conn *c;
	struct ticket t;
	static struct world w;
	uint32_t beats;

	world_open(&w, s);
	c = world_client(&w, false);
	t = ticket(&w, 1, 5, DRAM);
	pattern(1, data, sizeof data);
	check(put(&w, c, &t, t.first, data, sizeof data, false) == 0);
	/* As if the last answer had come long ago; a beat has to come before it serves again. */
	w.ctl.silent = true;
	beats = w.ctl.n_beats;
	w.st->heard_ns = 1;
	if (sys_now_ns(s) < (LIMIT_STORE_FENCE_MS + 1000) * SYS_MS)
		check(fiber_sleep((LIMIT_STORE_FENCE_MS + 1000) * SYS_MS) == 0);
	store_status(w.st, &st);
	check(st.fenced);
	check(put(&w, c, &t, t.first + 1, data, sizeof data, false) == E_UNAVAILABLE);
	check(get(&w, c, 1, t.first, 5, 0, 10, back) == E_UNAVAILABLE);
	w.ctl.silent = false;
	until(s, w.ctl.n_beats > beats && (store_status(w.st, &st), !st.fenced));
	check(w.ctl.n_registered >= 1);
	expect(&w, c, 1, t.first, 5, data, 0, sizeof data);
	/* A newer epoch comes with a beat and makes older grants stale. */
	w.ctl.epoch++;
	beats = w.ctl.n_beats;
	until(s, w.ctl.n_beats > beats + 1);
	check(put(&w, c, &t, t.first + 1, data, sizeof data, false) == E_STALE);
	rpc_close(c);
	world_close(&w);
	return 0;
}
SLOW_TEST(fence)

/* What the controller hears of the devices, and what it is told that is held. */
static int told_run(struct sys *s, void *arg)
{
	struct msg_egroup_list ask = { .after = 0 };
	struct msg_egroup_list_ok ok;
	struct err_note note = { "" };
	struct sub_egroup_use use;
	struct rpc_call call = { .op = OP_egroup_list, .plain = true, .msg = &ask };
	static uint8_t data[5000];
	struct rpc_conn *c;
	static struct world w;
	uint64_t n = 0;
	uint32_t beats;

	world_open(&w, s);
	c = world_client(&w, false);
	pattern(1, data, sizeof data);
	for (uint64_t g = 40; g > 0; g--) {
		struct ticket t = ticket(&w, g, 5, (uint8_t)(g % N_DEVICES));

		check(put(&w, c, &t, t.first, data, sizeof data, false) == 0);
	}
	check(rpc_ask(w.ctl.conn, &call, OP_egroup_list_ok, &ok, soon(s), &note) == 0);
	check(ok.next == 0);
	while (sub_egroup_use_next(&ok.egroups, &use)) {
		check(use.egroup == ++n);
		check(use.used_bytes == 5000);
	}
	check(n == 40);
	rpc_call_fini(&call);
	ask.after = 30;
	call = (struct rpc_call){ .op = OP_egroup_list, .plain = true, .msg = &ask };
	check(rpc_ask(w.ctl.conn, &call, OP_egroup_list_ok, &ok, soon(s), &note) == 0);
	check(ok.egroups.n == 10);
	rpc_call_fini(&call);
	beats = w.ctl.n_beats;
	until(s, w.ctl.n_beats > beats + 1);
	check(w.ctl.devices[DRAM].used_bytes == 13 * 5000);
	check(w.ctl.devices[DRAM].egroup_bytes == ARENA);
	check(w.ctl.devices[DISK].capacity_bytes == 64 * MIB);
	check(w.ctl.devices[DISK].reserved_bytes == 13 * (4096 + 8192 - 5000));
	rpc_close(c);
	world_close(&w);
	return 0;
}
SLOW_TEST(told)

/* Fields of any value, with capabilities that are right for them: refused or done, never more. */
static uint64_t odd(struct prng *p)
{
	static const uint64_t odds[] = { 0, 1, 2, 63, 64, 1000, 2000, 4096, MIB, UINT32_MAX,
		UINT64_MAX - 4096, UINT64_MAX - 1, UINT64_MAX };

	return odds[prng_below(p, sizeof odds / sizeof odds[0])] + prng_below(p, 3);
}

static PARKS void send_odd(struct world *w, struct rpc_conn *c, uint16_t op, const void *msg,
	struct bytes data)
{
	struct rpc_call call = { .op = op, .plain = true, .msg = msg, .data = data };

	check(rpc_start(c, &call) == 0);
	rpc_wait(c, &call, soon(w->s));
	check(rpc_conn_open(c));
	rpc_call_fini(&call);
}

static PARKS void odd_write(struct world *w, struct rpc_conn *c, struct prng *p,
	const uint8_t *data)
{
	uint8_t code[CAP_BYTES];
	struct cap cap = { .egroup = odd(p), .job = odd(p), .ops = CAP_WRITE, .epoch = odd(p),
		.until_ms = odd(p), .extent_first = odd(p), .credit_bytes = odd(p),
		.incarnation = prng_odds(p, 1, 2) ? w->ctl.incarnation : 0 };
	struct msg_extent_write m;
	struct msg_extent_alloc a;

	cap.extent_count = (uint32_t)odd(p);
	if (prng_below(p, 4) > 0) {
		cap.until_ms = w->ctl.shard_ms + CAP_LIFE_MS;
		cap.epoch = w->ctl.epoch;
	}
	cap_mint(&w->ctl.key, &cap, code);
	m = (struct msg_extent_write){ .egroup = cap.egroup, .extent = odd(p), .epoch = cap.epoch,
		.root = (uint32_t)odd(p), .tier = (uint8_t)prng_below(p, 4),
		.device = (uint8_t)prng_below(p, 4), .sync = (uint8_t)odd(p),
		.extent_first = cap.extent_first, .extent_count = cap.extent_count,
		.credit_bytes = cap.credit_bytes, .cap_job = cap.job,
		.cap_until_ms = cap.until_ms, .cap = bytes_of(code, sizeof code) };
	send_odd(w, c, OP_extent_write, &m, bytes_of(data, prng_below(p, 20000)));
	a = (struct msg_extent_alloc){ .egroup = m.egroup, .extent = m.extent, .epoch = m.epoch,
		.len = odd(p), .device = m.device, .extent_first = m.extent_first,
		.extent_count = m.extent_count, .credit_bytes = m.credit_bytes,
		.cap_job = m.cap_job, .cap_until_ms = m.cap_until_ms, .cap = m.cap };
	send_odd(w, c, OP_extent_alloc, &a, bytes_of(data, prng_below(p, 2) * 100));
}

static PARKS void odd_read(struct world *w, struct rpc_conn *c, struct prng *p,
	const uint8_t *data)
{
	uint8_t code[CAP_BYTES];
	struct cap cap = { .job = odd(p), .ops = CAP_READ,
		.until_ms = w->ctl.shard_ms + prng_below(p, 2) * CAP_LIFE_MS };
	uint64_t egroup = odd(p), extent = odd(p);
	struct msg_extent_read m;
	struct msg_extent_pin i;
	struct msg_extent_unpin u = { egroup, extent };
	struct msg_extent_seal s = { egroup, extent, (uint32_t)odd(p) };

	cap_mint(&w->ctl.key, &cap, code);
	m = (struct msg_extent_read){ .egroup = egroup, .extent = extent, .offset = odd(p),
		.len = (uint32_t)odd(p), .cap_job = cap.job, .cap_until_ms = cap.until_ms,
		.cap = bytes_of(code, prng_below(p, CAP_BYTES + 1)) };
	send_odd(w, c, OP_extent_read, &m, bytes_of(NULL, 0));
	i = (struct msg_extent_pin){ .egroup = egroup, .extent = extent, .cap_job = cap.job,
		.cap_until_ms = cap.until_ms, .cap = bytes_of(code, sizeof code) };
	send_odd(w, c, OP_extent_pin, &i, bytes_of(data, prng_below(p, 2) * 100));
	send_odd(w, c, OP_extent_seal, &s, bytes_of(data, prng_below(p, 40)));
	send_odd(w, c, OP_extent_unpin, &u, bytes_of(NULL, 0));
}

static int odd_fields_run(struct sys *s, void *arg)
{
	struct prng p = prng_fork(7, 7);
	uint8_t *data = bytes(1, 20000);
	struct rpc_conn *c[2];
	static struct world w;

	world_open(&w, s);
	c[0] = world_client(&w, false);
	c[1] = world_client(&w, true);
	for (int i = 0; i < 500; i++) {
		odd_write(&w, c[i % 2], &p, data);
		odd_read(&w, c[i % 2], &p, data);
		if (i % 20 == 0)
			store_audit(w.st);
	}
	free(data);
	rpc_close(c[0]);
	rpc_close(c[1]);
	world_close(&w);
	return 0;
}
TEST(odd_fields)

/* The same directory is one server's. */
static int in_use_run(struct sys *s, void *arg)
{
	struct err_note note = { "" };
	struct store_opts o;
	struct store *st;
	static struct world w;

	world_open(&w, s);
	o = w.o;
	check(store_new(s, &o, &st, &note) == E_INUSE);
	o.n_devices = 0;
	check(store_new(s, &o, &st, &note) == E_INVALID);
	world_close(&w);
	return 0;
}
TEST(in_use)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(remote),
		cmocka_unit_test(largest),
		cmocka_unit_test(local),
		cmocka_unit_test(refused),
		cmocka_unit_test(full),
		cmocka_unit_test(egroup_ends),
		cmocka_unit_test(dead_client),
		cmocka_unit_test(broken_write),
		cmocka_unit_test(dropped),
		cmocka_unit_test(recycled),
		cmocka_unit_test(left_early),
		cmocka_unit_test(arena_gone),
		cmocka_unit_test(fence),
		cmocka_unit_test(told),
		cmocka_unit_test(odd_fields),
		cmocka_unit_test(in_use),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
