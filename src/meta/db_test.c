/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever is put, deleted and cut off, in memory, merged or replayed, reads like a sorted array.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/prng.h"
#include "meta/db.h"
#include "sys/uv/sys_uv.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KEYS = 700, KEY_MAX = 1100, VALUE_MAX = 600, STEPS = 30000, MEMTABLE = 64 << 10 };

struct model {
	uint8_t key[KEY_MAX];
	size_t key_len, value_len;
	uint8_t value[VALUE_MAX];
	bool there;
};
struct world {
	struct sys *sys;
	struct group fibers;
	struct db *db;
	struct model *m; /* KEYS, ascending */
	struct prng p;
	char dir[64];
	uint64_t written, synced;
	int opens;
	uint64_t others; /* of several replicas: how far the others have synced */
};

static int compare_models(const void *a, const void *b)
{
	const struct model *x = a, *y = b;

	return bytes_compare(bytes_of(x->key, x->key_len), bytes_of(y->key, y->key_len));
}

static struct bytes key_of(const struct model *m)
{
	return bytes_of(m->key, m->key_len);
}

/* Short keys, keys around the tree's limit, and long ones that share prefixes beyond it. */
static void make_keys(struct world *w)
{
	static const size_t lengths[] = { 2, 9, 17, 40, 499, 500, 501, 502, 511, 512, 700, 1090 };

	for (int i = 0; i < KEYS; i++) {
		struct model *m = &w->m[i];

		m->key_len = lengths[prng_below(&w->p, sizeof lengths / sizeof lengths[0])];
		memset(m->key, 'k', m->key_len);
		m->key[0] = (uint8_t)('a' + i % 4);
		for (size_t k = 0; k < 3 && k + 1 < m->key_len;
			k++) /* differ at the front or at the end */
			m->key[i % 2 == 0 ? 1 + k : m->key_len - 1 - k] = (uint8_t)prng_below(
				&w->p, 256);
	}
	qsort(w->m, KEYS, sizeof *w->m, compare_models);
	for (int i = 1; i < KEYS;
		i++) { /* an equal one becomes another, and all are sorted again */
		if (compare_models(&w->m[i - 1], &w->m[i]) != 0)
			continue;
		w->m[i].key[w->m[i].key_len++] = (uint8_t)prng_below(&w->p, 256);
		qsort(w->m, KEYS, sizeof *w->m, compare_models);
		i = 0;
	}
}

static void moved(void *arg, uint64_t written, uint64_t synced)
{
	struct world *w = arg;

	assert_true(written >= w->written);
	assert_true(synced >= w->synced);
	assert_true(synced <= written);
	w->written = written;
	w->synced = synced;
}

static void open_db(struct world *w)
{
	struct db_opts o = { .dir = w->dir,
		.memtable_bytes_max = MEMTABLE,
		.merge_every_ns = 20 * SYS_MS,
		.tree_bytes_max = 256 << 20,
		.log_segment_bytes = 256 << 10,
		.moved = moved,
		.arg = w };
	struct err_note note;

	w->written = w->synced = 0;
	group_init(&w->fibers, sys_loop(w->sys));
	if (db_open(w->sys, &w->fibers, &o, &w->db, &note) < 0)
		fail_msg("%s", note.text);
	w->opens++;
}

static void close_db(struct world *w)
{
	struct err_note note;

	if (db_close(w->db, &note) < 0)
		fail_msg("%s", note.text);
}

/* As a kill would, when everything is written. */
static void drop_db(struct world *w)
{
	while (db_written(w->db) < db_seen(w->db))
		assert_int_equal(fiber_sleep(sys_after(w->sys, SYS_MS)), 0);
	group_cancel(&w->fibers);
	(void)group_wait(&w->fibers);
	db_drop(w->db);
}

static void check_get(struct world *w, struct model *m)
{
	struct bytes v;
	int rc = db_get(w->db, key_of(m), &v);

	assert_int_equal(rc, m->there ? 0 : E_NOTFOUND);
	if (rc == 0) {
		assert_int_equal(v.len, m->value_len);
		assert_memory_equal(v.p, m->value, v.len);
	}
}

static void check_walk(struct world *w, int from, int to)
{
	struct bytes key, value;
	struct db_iter it;
	int i = from;

	db_iter_begin(&it, w->db, key_of(&w->m[from]), key_of(&w->m[to]));
	while (db_iter_next(&it, &key, &value)) {
		while (i < to && !w->m[i].there)
			i++;
		assert_true(i < to);
		assert_true(bytes_equal(key, key_of(&w->m[i])));
		assert_true(bytes_equal(value, bytes_of(w->m[i].value, w->m[i].value_len)));
		i++;
	}
	while (i < to && !w->m[i].there)
		i++;
	assert_int_equal(i, to);
	db_iter_end(&it);
}

static void put(struct world *w, struct model *m)
{
	bool absent = !m->there && prng_odds(&w->p, 3, 4);

	m->there = true;
	m->value_len = (size_t)prng_below(&w->p, VALUE_MAX);
	for (size_t i = 0; i < m->value_len; i += 8) {
		uint64_t v = prng_next(&w->p);

		memcpy(m->value + i, &v, m->value_len - i < 8 ? m->value_len - i : 8);
	}
	(absent ? db_put_new : db_put)(w->db, key_of(m), bytes_of(m->value, m->value_len));
}

static void cut(struct world *w)
{
	int from = (int)prng_below(&w->p, KEYS), to = from + (int)prng_below(&w->p, 40);

	if (to >= KEYS)
		to = KEYS - 1;
	for (int i = from; i < to; i++)
		w->m[i].there = false;
	db_delete_range(w->db, key_of(&w->m[from]), key_of(&w->m[to]));
}

static void step(struct world *w)
{
	struct model *m = &w->m[prng_below(&w->p, KEYS)];
	int a = (int)prng_below(&w->p, KEYS), b = (int)prng_below(&w->p, KEYS);

	switch (prng_below(&w->p, 16)) {
	case 0:
	case 1:
	case 2:
	case 3:
	case 4:
	case 5:
		put(w, m);
		break;
	case 6:
	case 7:
		m->there = false;
		db_delete(w->db, key_of(m));
		break;
	case 8:
		if (prng_odds(&w->p, 1, 8))
			cut(w);
		break;
	case 9:
		if (prng_odds(&w->p, 1, 10))
			check_walk(w, a < b ? a : b, a < b ? b : a);
		break;
	case 10:
		fiber_yield();
		break;
	case 11:
		if (prng_odds(&w->p, 1, 100))
			db_want_sync(w->db);
		break;
	case 12:
		if (prng_odds(&w->p, 1, 60))
			fiber_sleep(sys_after(w->sys, 2 * SYS_MS));
		break;
	case 13:
		if (prng_odds(&w->p, 1, 200)) {
			prng_odds(&w->p, 1, 2) ? close_db(w) : drop_db(w);
			open_db(w);
		}
		break;
	default:
		check_get(w, m);
		break;
	}
}

static int random_life(void *arg)
{
	struct world *w = arg;
	struct db_status st;

	open_db(w);
	for (int i = 0; i < STEPS; i++)
		step(w);
	check_walk(w, 0, KEYS - 1);
	db_status(w->db, &st);
	assert_true(w->opens > 3);
	close_db(w);
	open_db(w);
	for (int i = 0; i < KEYS; i++)
		check_get(w, &w->m[i]);
	check_walk(w, 0, KEYS - 1);
	close_db(w);
	return 0;
}

static int ids_ascend(void *arg)
{
	struct world *w = arg;
	uint64_t last = 0, id;

	open_db(w);
	for (int i = 0; i < 4000000; i++) {
		while ((id = db_next_id(w->db)) == 0)
			assert_int_equal(fiber_sleep(sys_after(w->sys, SYS_MS)), 0);
		assert_true(id > last);
		last = id;
		if (i % 1500000 == 1499999) {
			close_db(w);
			open_db(w);
		}
		if (i % 10000 == 0)
			fiber_yield();
	}
	close_db(w);
	return 0;
}

static int indexes_move(void *arg)
{
	struct world *w = arg;
	uint64_t seen;

	open_db(w);
	db_put(w->db, BYTES("x"), BYTES("1"));
	seen = db_seen(w->db);
	assert_true(seen > db_written(w->db));
	fiber_yield();
	fiber_late();
	fiber_yield();
	assert_true(db_written(w->db) >= seen);
	assert_true(db_seen(w->db) == seen); /* nothing new: nothing new to wait for */
	db_put(w->db, BYTES("x"), BYTES("2"));
	db_want_sync(w->db);
	seen = db_seen(w->db);
	for (int i = 0; i < 1000 && db_synced(w->db) < seen; i++)
		fiber_sleep(sys_after(w->sys, 5 * SYS_MS));
	assert_true(db_synced(w->db) >= seen);
	assert_true(w->synced >= seen);
	close_db(w);
	return 0;
}

/* Two turns, in which no work on a thread ends. */
static void turn(void)
{
	assert_int_equal(fiber_yield(), 0);
	assert_int_equal(fiber_late(), 0);
	assert_int_equal(fiber_yield(), 0);
}

static void put_synced(struct world *w, const char *value)
{
	db_put(w->db, BYTES("x"), bytes_of(value, 1));
	db_want_sync(w->db);
	turn();
}

static int records_are_shared(void *arg)
{
	struct db_status before, after;
	struct world *w = arg;

	open_db(w);
	while (db_synced(w->db) < db_seen(w->db))
		assert_int_equal(fiber_sleep(sys_after(w->sys, SYS_MS)), 0);
	db_status(w->db, &before);
	put_synced(w, "1");
	assert_true(db_written(w->db) == db_seen(w->db));
	put_synced(w, "2"); /* its sync cannot begin yet */
	put_synced(w, "3");
	assert_true(db_written(w->db) < db_seen(w->db));
	db_want_written(w->db);
	turn();
	assert_true(db_written(w->db) == db_seen(w->db));
	assert_true(db_synced(w->db) < db_written(w->db));
	put_synced(w, "4");
	put_synced(w, "5");
	while (db_synced(w->db) < db_seen(w->db))
		assert_int_equal(fiber_sleep(sys_after(w->sys, SYS_MS)), 0);
	db_status(w->db, &after);
	assert_int_equal(after.records - before.records, 3);
	close_db(w);
	return 0;
}

static void grew(void *arg, uint64_t written, uint64_t synced)
{
	struct world *w = arg;

	db_commit(w->db, written, synced < w->others ? synced : w->others);
}

static void open_leader(struct world *w)
{
	struct db_opts o = { .dir = w->dir, .tree_bytes_max = 256 << 20, .replica = true,
		.grew = grew, .arg = w };
	struct err_note note;

	w->others = UINT64_MAX;
	group_init(&w->fibers, sys_loop(w->sys));
	assert_int_equal(db_open(w->sys, &w->fibers, &o, &w->db, &note), 0);
	assert_int_equal(db_begin(w->db, 1, &note), 0);
	assert_int_equal(db_lead(w->db, 1, &note), 0);
	while (db_synced(w->db) < db_seen(w->db))
		assert_int_equal(fiber_sleep(sys_after(w->sys, SYS_MS)), 0);
	w->others = db_synced(w->db);
}

static int shorter_ones_wait(void *arg)
{
	struct world *w = arg;

	open_leader(w);
	db_put(w->db, BYTES("long"), BYTES("much more than what follows"));
	put_synced(w, "1");
	while (db_log_synced(w->db) < db_seen(w->db))
		assert_int_equal(fiber_sleep(sys_after(w->sys, SYS_MS)), 0);
	put_synced(w, "2");
	assert_true(db_written(w->db) < db_seen(w->db)); /* the others are at the first one */
	db_put(w->db, BYTES("long"), BYTES("more again, so that it is as long"));
	turn();
	assert_true(db_written(w->db) == db_seen(w->db));
	while (db_log_synced(w->db) < db_seen(w->db))
		assert_int_equal(fiber_sleep(sys_after(w->sys, SYS_MS)), 0);
	put_synced(w, "3");
	assert_true(db_written(w->db) < db_seen(w->db));
	w->others = UINT64_MAX;
	grew(w, db_written(w->db), db_log_synced(w->db));
	turn();
	assert_true(db_written(w->db) == db_seen(w->db));
	w->others = db_synced(w->db);
	put_synced(w, "4");
	put_synced(w, "5");
	close_db(w); /* whatever the others do */
	return 0;
}

/* ---- a log that has lost what was synced ---- */
static uint8_t *file_read(struct world *w, const char *name, uint64_t *ret_len)
{
	char path[128];
	struct sys_file *f;
	uint8_t *p;

	snprintf(path, sizeof path, "%s/log/%s", w->dir, name);
	assert_int_equal(sys_open(w->sys, path, SYS_READ, &f, NULL), 0);
	assert_int_equal(sys_file_bytes(f, ret_len, NULL), 0);
	p = malloc(*ret_len);
	assert_non_null(p);
	assert_int_equal(sys_pread(f, p, *ret_len, 0, NULL), (int64_t)*ret_len);
	sys_close(f);
	return p;
}

static void file_write(struct world *w, const char *name, const uint8_t *p, uint64_t len)
{
	char path[128];
	struct sys_file *f;

	snprintf(path, sizeof path, "%s/log/%s", w->dir, name);
	assert_int_equal(sys_open(w->sys, path, SYS_WRITE, &f, NULL), 0);
	assert_int_equal(sys_pwrite(f, p, len, 0, NULL), 0);
	sys_close(f);
}

static void until_merged(struct world *w)
{
	struct db_status st;

	do {
		assert_int_equal(fiber_sleep(sys_after(w->sys, 5 * SYS_MS)), 0);
		db_status(w->db, &st);
	} while (st.merged < st.seen);
}

/* The rows of the tree were synced to the log before they were merged.  When the log ends before
 * them it has lost records; the older copy and what is left of the log would be rows of an earlier
 * moment, in which a deleted one is there again. */
static int log_loses_a_delete(void *arg)
{
	struct world *w = arg;
	struct err_note note = { "" };
	uint64_t mark_len, len, at = 0;
	struct db_opts o = { .dir = w->dir };
	struct bytes key = BYTES("kdeleted");
	uint8_t *mark, *log;

	open_db(w);
	db_put(w->db, key, BYTES("value"));
	until_merged(w); /* the first merge makes the older copy */
	mark = file_read(w, "mark", &mark_len);
	db_delete(w->db, key);
	until_merged(w);
	drop_db(w);
	file_write(w, "mark", mark, mark_len); /* it is not always synced itself */
	log = file_read(w, "0000000000000001.log", &len);
	for (uint64_t i = 0; i + key.len < len; i++)
		if (memcmp(log + i, key.p, key.len) == 0)
			at = i;
	assert_true(at > 0);
	log[at] ^= 1;
	file_write(w, "0000000000000001.log", log, len);
	free(log);
	free(mark);
	for (int i = 0; i < 2; i++) { /* the first does not move what the second looks at */
		group_init(&w->fibers, sys_loop(w->sys));
		assert_int_equal(db_open(w->sys, &w->fibers, &o, &w->db, &note), E_CORRUPT);
		assert_non_null(strstr(note.text, "rows stand at"));
	}
	return 0;
}

/* A start reads all the log behind the last merge, however few rows it is about. */
static int one_row_over_and_over(void *arg)
{
	struct world *w = arg;
	struct db_opts o = {
		.dir = w->dir, .merge_log_bytes = 64 << 10, .merge_every_ns = 3600 * SYS_SEC
	};
	struct err_note note = { "" };
	uint8_t value[1000] = { 0 };
	struct db_status st;
	int n = 0;

	group_init(&w->fibers, sys_loop(w->sys));
	assert_int_equal(db_open(w->sys, &w->fibers, &o, &w->db, &note), 0);
	do { /* what came since the start is far from full and far from old */
		db_put(w->db, BYTES("k"), bytes_of(value, sizeof value));
		assert_int_equal(fiber_sleep(sys_after(w->sys, SYS_MS)), 0);
		db_status(w->db, &st);
	} while (st.merges == 0 && ++n < 3000);
	assert_true(n >= 50);
	assert_true(n < 3000);
	close_db(w);
	return 0;
}

static void run(fiber_fn *fn, uint64_t seed)
{
	char clean[128];
	struct err_note note;
	struct world w = { .p = prng_fork(seed, 1), .dir = "/tmp/wadi-db-test-XXXXXX" };

	w.m = calloc(KEYS, sizeof *w.m);
	make_keys(&w);
	assert_non_null(mkdtemp(w.dir));
	assert_int_equal(sys_uv_new(&w.sys, &note), 0);
	assert_int_equal(sys_uv_run(w.sys, "test", fn, &w), 0);
	sys_uv_free(w.sys);
	free(w.m);
	snprintf(clean, sizeof clean, "rm -r '%s'", w.dir);
	assert_int_equal(system(clean), 0);
}

/* ---- a row of the tree rots, and nobody asks for it ---- */
static void on_failed(void *arg, int rc, const struct err_note *note)
{
	int *why = arg;

	*why = rc;
}

static void flip_a_value(const char *dir, const char *value)
{
	size_t len = strlen(value), n = 0;
	char path[128], *p, *at;
	FILE *f;

	snprintf(path, sizeof path, "%s/tree", dir);
	f = fopen(path, "r+");
	assert_non_null(f);
	p = malloc(1 << 20);
	assert_non_null(p);
	n = fread(p, 1, 1 << 20, f);
	at = memmem(p, n, value, len);
	assert_non_null(at);
	fseek(f, at - p, SEEK_SET);
	fputc(*at ^ 1, f);
	fclose(f);
	free(p);
}

static int row_rots(void *arg)
{
	struct world *w = arg;
	struct sys *s = w->sys;
	int why = 0;
	struct db_opts o = { .dir = w->dir, .merge_every_ns = 20 * SYS_MS, .failed = on_failed,
		.arg = &why };
	struct err_note note;
	struct bytes value;

	group_init(&w->fibers, sys_loop(s));
	assert_int_equal(db_open(s, &w->fibers, &o, &w->db, &note), 0);
	for (int i = 0; i < 400; i++)
		db_put(w->db, bytes_of(&i, sizeof i), BYTES("a value that is merged"));
	db_put(w->db, BYTES("nobody's"), BYTES("a value that rots"));
	close_db(w);
	group_init(&w->fibers, sys_loop(s));
	assert_int_equal(db_open(s, &w->fibers, &o, &w->db, &note), 0);
	flip_a_value(w->dir, "a value that rots");
	db_scrub_now(w->db);
	for (int i = 0; i < 1000 && why == 0; i++)
		fiber_sleep(sys_after(s, 5 * SYS_MS));
	assert_int_equal(why, E_CORRUPT);
	assert_int_equal(db_scrubbed(w->db).found, 1);
	assert_int_equal(db_close(w->db, &note), E_CORRUPT);
	group_init(&w->fibers, sys_loop(s));
	assert_int_equal(db_open(s, &w->fibers, &o, &w->db, &note), 0);
	assert_int_equal(db_get(w->db, BYTES("nobody's"), &value), 0);
	assert_memory_equal(value.p, "a value that rots", value.len);
	close_db(w);
	return 0;
}

static void finds_a_rotten_row_before_a_reader(void **state)
{
	(void)state;
	run(row_rots, 1);
}

static void reads_like_a_sorted_array(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 3; seed++)
		run(random_life, seed);
}

static void never_gives_an_id_twice(void **state)
{
	(void)state;
	run(ids_ascend, 1);
}

static void tells_when_it_is_written_and_durable(void **state)
{
	(void)state;
	run(indexes_move, 1);
}

static void gathers_while_a_sync_is_under_way(void **state)
{
	(void)state;
	run(records_are_shared, 1);
}

static void gathers_while_others_sync(void **state)
{
	(void)state;
	run(shorter_ones_wait, 1);
}

static void merges_what_is_written_over(void **state)
{
	(void)state;
	run(one_row_over_and_over, 1);
}

static void does_not_go_back_to_older_rows(void **state)
{
	(void)state;
	run(log_loses_a_delete, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_a_rotten_row_before_a_reader),
		cmocka_unit_test(does_not_go_back_to_older_rows),
		cmocka_unit_test(merges_what_is_written_over),
		cmocka_unit_test(tells_when_it_is_written_and_durable),
		cmocka_unit_test(gathers_while_a_sync_is_under_way),
		cmocka_unit_test(gathers_while_others_sync),
		cmocka_unit_test(never_gives_an_id_twice),
		cmocka_unit_test(reads_like_a_sorted_array),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
