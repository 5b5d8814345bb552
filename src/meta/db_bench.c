/* SPDX-License-Identifier: Apache-2.0 */
/* db_bench DIR [OBJECTS]: what a shard's rows cost.  An object is two rows as a small put makes
 * them: a name (random, about 40 bytes of key and value) and an inode (ascending, about 100). */
#include "base/prng.h"
#include "meta/db.h"
#include "sys/uv/sys_uv.h"
#include <stdio.h>
#include <stdlib.h>

enum { OBJECTS_DEFAULT = 1000000, TURN = 64, GETS = 1000000, INODE_BYTES = 85, WAIT_MS = 10 };

struct bench {
	struct sys *sys;
	struct db *db;
	const char *dir;
	uint64_t objects, written;
};

static struct bytes name_key(uint64_t i, uint8_t to[32])
{
	uint64_t state = i, mixed = prng_mix(&state);

	memcpy(to, "n\x02\x01\x07key:", 8);
	for (int k = 0; k < 16; k++, mixed >>= 4)
		to[8 + k] = (uint8_t) "0123456789abcdef"[mixed & 15];
	return bytes_of(to, 24);
}

static struct bytes inode_key(uint64_t i, uint8_t to[32])
{
	memcpy(to, "i\x02\x01\x07\x07", 5);
	put_be64(to + 5, (UINT64_C(1) << 48) + i);
	return bytes_of(to, 13);
}

static void put_object(struct db *db, uint64_t i, bool fresh)
{
	void (*put)(struct db *, struct bytes, struct bytes) = fresh ? db_put_new : db_put;
	uint8_t name[32], inode[32], value[INODE_BYTES] = { 1 };

	put_le64(value + 1, i);
	put(db, name_key(i, name), bytes_of(value, 12));
	put(db, inode_key(i, inode), bytes_of(value, sizeof value));
}

static void row(const char *what, double value, const char *unit)
{
	printf("%-44s %10.1f %s\n", what, value, unit);
	fflush(stdout);
}

static void each(const char *what, uint64_t ns, uint64_t n)
{
	row(what, (double)ns / (double)n, "ns");
}

/* Until everything is in the tree and memory has settled. */
static void settle(struct bench *b)
{
	struct db_status st;

	do {
		fiber_sleep(sys_after(b->sys, WAIT_MS * SYS_MS));
		db_status(b->db, &st);
	} while (st.merged < st.seen);
	fiber_sleep(sys_after(b->sys, 6 * SYS_SEC));
}

/* Batches of turns are timed; the median is not moved by whoever else uses the processor. */
enum { BATCH = 16 * TURN, BATCHES_MAX = 1 << 16 };
struct timing {
	struct bench *b;
	uint64_t at_ns;
	uint32_t n;
	uint32_t ns[BATCHES_MAX];
};
static struct timing timing;

static void timing_begin(struct bench *b)
{
	timing.b = b;
	timing.n = 0;
	timing.at_ns = sys_now_ns(b->sys);
}

/* After the i-th of many: ends the turn, and the batch. */
static void timing_step(uint64_t i)
{
	uint64_t now_ns;

	if (i % TURN == TURN - 1) {
		fiber_yield();
		fiber_late();
	}
	if (i % BATCH != BATCH - 1)
		return;
	now_ns = sys_now_ns(timing.b->sys);
	if (timing.n < BATCHES_MAX)
		timing.ns[timing.n++] = (uint32_t)(now_ns - timing.at_ns);
	timing.at_ns = now_ns;
}

static int by_number(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void timing_end(const char *what)
{
	qsort(timing.ns, timing.n, sizeof timing.ns[0], by_number);
	row(what, (double)timing.ns[timing.n / 2] / BATCH, "ns (median)");
}

static uint64_t put_all(struct bench *b, uint64_t n, bool fresh, const char *what)
{
	uint64_t pressed_ns = 0;

	timing_begin(b);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t at_ns;

		put_object(b->db, i, fresh);
		timing_step(i);
		if (i % BATCH != BATCH - 1 || !db_pressed(b->db))
			continue;
		at_ns = sys_now_ns(b->sys);
		while (db_pressed(b->db))
			fiber_sleep(sys_after(b->sys, SYS_MS));
		pressed_ns += sys_now_ns(b->sys) - at_ns;
		timing.at_ns = sys_now_ns(b->sys);
	}
	timing_end(what);
	return pressed_ns;
}

static void get_all(struct bench *b, uint64_t n, const char *what)
{
	struct prng p = prng_fork(1, 1);
	struct bytes value;
	uint8_t key[32];

	timing_begin(b);
	for (uint64_t i = 0; i < GETS; i++) {
		if (db_get(b->db, name_key(prng_below(&p, n), key), &value) != 0)
			abort();
		timing_step(i);
	}
	timing_end(what);
}

static void misses(struct bench *b, uint64_t n)
{
	struct bytes value;
	uint8_t key[32];

	timing_begin(b);
	for (uint64_t i = 0; i < GETS; i++) {
		if (db_get(b->db, name_key(n + i, key), &value) == 0)
			abort();
		timing_step(i);
	}
	timing_end("get of a name that is not there");
}

static void churn(struct bench *b)
{
	uint64_t id = UINT64_C(1) << 40;
	uint8_t key[32];

	timing_begin(b);
	for (uint64_t i = 0; i < GETS; i++) {
		put_object(b->db, id + i, true);
		db_delete(b->db, name_key(id + i, key));
		db_delete(b->db, inode_key(id + i, key));
		timing_step(i);
	}
	timing_end("object put and deleted (4 row changes)");
}

static void walks(struct bench *b, uint64_t n)
{
	enum { WALKS = 20000, ROWS = 10 };
	struct bytes k, v;
	uint8_t key[32];

	timing_begin(b);
	for (uint64_t i = 0; i < WALKS; i++) {
		struct db_iter it;

		put_object(b->db, n + i, true);
		db_iter_begin(&it, b->db, name_key(i, key), BYTES("o"));
		for (int j = 0; j < ROWS && db_iter_next(&it, &k, &v); j++)
			;
		db_iter_end(&it);
		timing_step(i);
	}
	timing_end("object put, then a walk over 10 names");
}

static int bench_main(void *arg)
{
	struct bench *b = arg;
	struct db_opts o = { .dir = b->dir };
	uint64_t before = sys_memory_self(b->sys), cpu_ns, pressed_ns, small = 100000;
	struct db_status st;
	struct err_note note = { "" };
	struct group g;
	int rc;

	group_init(&g, sys_loop(b->sys));
	if ((rc = db_open(b->sys, &g, &o, &b->db, &note)) < 0) {
		fprintf(stderr, "%s\n", note.text);
		return rc;
	}
	put_all(b, small, true, "put of an object, memtable small");
	get_all(b, small, "get in the memtable");
	db_status(b->db, &st);
	row("memtable bytes of an object", (double)st.memtable_bytes / (double)small, "bytes");
	settle(b);
	cpu_ns = sys_cpu_ns(b->sys);
	pressed_ns = put_all(b, b->objects, false, "put of an object");
	row("waited for merges", (double)pressed_ns / 1e6, "ms");
	row("memory while putting", (double)(sys_memory_self(b->sys) - before) / (1 << 20), "MiB");
	settle(b);
	each("cpu of an object, merges and log included", sys_cpu_ns(b->sys) - cpu_ns, b->objects);
	row("private memory after merging", (double)(sys_memory_self(b->sys) - before) / (1 << 20),
		"MiB");
	db_status(b->db, &st);
	row("tree bytes of an object", (double)st.tree_bytes / (double)b->objects, "bytes");
	get_all(b, b->objects, "get in the tree");
	misses(b, b->objects);
	walks(b, b->objects);
	churn(b);
	settle(b);
	return db_close(b->db, &note);
}

int main(int argc, char **argv)
{
	struct bench b = { .objects = OBJECTS_DEFAULT };
	struct err_note note;

	if (argc < 2) {
		fprintf(stderr, "usage: db_bench DIR [OBJECTS]\n");
		return 2;
	}
	b.dir = argv[1];
	if (argc > 2)
		b.objects = strtoull(argv[2], NULL, 10);
	if (sys_uv_new(&b.sys, &note) < 0)
		return 1;
	return sys_uv_run(b.sys, "bench", bench_main, &b) < 0;
}
