/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever is merged, the tree reads like a sorted array, long keys and ranges among them; its copy
 * too; and a row that is not what was merged is never given out. */
#include "base/check.h"
#include "base/prng.h"
#include "meta/db_kit.h"
#include "meta/tree.h"
#include "sys/uv/sys_uv.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { SEEDS = 6, MERGES = 40, CHANGES = 120, BYTES_MAX = 64 << 20, SEED = 5 };

struct world {
	struct sys *sys;
	struct kit k; /* its keys and its generator */
	struct memtable_pool pool;
	struct tree *tree;
	uint64_t index;
	char dir[64];
};

static void die(const struct err_note *note)
{
	check_failed(note->text, __FILE__, __LINE__, __func__); /* (a fiber: no longjmp) */
}

static void open_tree(struct world *w, const char *name, struct tree **ret_t)
{
	struct err_note note;

	if (tree_open(w->sys, w->dir, name, BYTES_MAX, ret_t, &note) < 0)
		die(&note);
}

static struct bytes value_of(uint32_t seed, uint8_t room[4])
{
	put_le32(room, seed);
	return bytes_of(room, 1 + seed % 4);
}

/* Some changes in a memtable, and the same in the model. */
static void change(struct world *w, struct memtable *m)
{
	struct prng *p = &w->k.p;
	unsigned i = (unsigned)prng_below(p, KIT_KEYS), j = i + (unsigned)prng_below(p, 60);
	struct bytes key = w->k.keys[i];
	uint64_t hash = memtable_hash(SEED, key), what = prng_below(p, 100);
	uint8_t room[4];

	if (what < 50) {
		w->k.state[i] = (uint32_t)prng_next(p) | 1;
		memtable_put(m, hash, key, value_of(w->k.state[i], room), false);
	} else if (what < 97) {
		w->k.state[i] = 0;
		memtable_delete(m, hash, key);
	} else {
		memtable_delete_range(m, key, j < KIT_KEYS ? w->k.keys[j] : bytes_of(NULL, 0));
		for (; i < j && i < KIT_KEYS; i++)
			w->k.state[i] = 0;
	}
}

static void merge(struct world *w)
{
	struct memtable *m = memtable_new(&w->pool, SEED);
	struct tree_mark mark = { .uuid_hi = 1, .index = ++w->index };
	struct err_note note;

	for (int i = 0; i < CHANGES; i++)
		change(w, m);
	memtable_freeze(m);
	if (tree_merge(w->tree, m, &mark, &note) < 0)
		die(&note);
	memtable_free(m);
}

static void verify_from(struct world *w, struct tree *t, struct tree_cursor *c, unsigned i)
{
	struct bytes key, value;
	uint8_t room[4];

	tree_cursor_seek(c, w->k.keys[i]);
	for (; i < KIT_KEYS; i++) {
		if (w->k.state[i] == 0)
			continue;
		check(tree_cursor_next(c, &key, &value) == 1);
		check(bytes_equal(key, w->k.keys[i]));
		check(bytes_equal(value, value_of(w->k.state[i], room)));
	}
	check(tree_cursor_next(c, &key, &value) == 0);
}

static void verify(struct world *w, struct tree *t, struct tree_cursor *c)
{
	struct tree_status st;
	struct err_note note;
	struct bytes value;
	uint64_t content = 0, rows = 0;
	uint8_t room[4];

	for (unsigned i = 0; i < KIT_KEYS; i++) {
		int rc = tree_get(t, w->k.keys[i], &value);

		check(rc == (w->k.state[i] != 0 ? 0 : E_NOTFOUND));
		if (rc < 0)
			continue;
		check(bytes_equal(value, value_of(w->k.state[i], room)));
		rows++;
		content += tree_row_hash(w->k.keys[i], value);
	}
	for (int i = 0; i < 20; i++)
		verify_from(w, t, c, (unsigned)prng_below(&w->k.p, KIT_KEYS));
	tree_status(t, &st);
	check(st.rows == rows);
	check(st.content == content);
	if (tree_verify(t, &note) < 0)
		die(&note);
}

static int random_life(void *arg)
{
	struct world *w = arg;
	struct tree_cursor *c;
	struct err_note note;
	struct tree *copy;

	open_tree(w, "tree", &w->tree);
	c = tree_cursor_new(w->tree);
	for (int i = 0; i < MERGES; i++) {
		merge(w);
		verify(w, w->tree, c);
		if (i % 10 == 9) {
			tree_cursor_free(c);
			tree_close(w->tree);
			open_tree(w, "tree", &w->tree);
			check(tree_mark(w->tree).index == w->index);
			c = tree_cursor_new(w->tree);
		}
	}
	if (tree_copy(w->tree, "copy", &note) < 0)
		die(&note);
	open_tree(w, "copy", &copy);
	tree_cursor_free(c);
	c = tree_cursor_new(copy);
	verify(w, copy, c);
	tree_cursor_free(c);
	tree_close(copy);
	/* when everything is deleted, nothing is left, naming rows of long keys neither */
	memset(w->k.state, 0, sizeof w->k.state);
	{
		struct memtable *m = memtable_new(&w->pool, SEED);
		struct tree_mark mark = { .uuid_hi = 1, .index = ++w->index };
		struct tree_status st;

		for (unsigned i = 0; i < KIT_KEYS; i++)
			memtable_delete(m, memtable_hash(SEED, w->k.keys[i]), w->k.keys[i]);
		memtable_freeze(m);
		check(tree_merge(w->tree, m, &mark, &note) == 0);
		memtable_free(m);
		tree_status(w->tree, &st);
		check(st.rows == 0);
		check(st.content == 0);
		check(st.resident_bytes == 0);
	}
	tree_close(w->tree);
	return 0;
}

/* ---- what the disk may do ---- */
static uint8_t *file_read(struct world *w, const char *name, uint64_t *ret_len)
{
	char path[128];
	struct sys_file *f;
	uint8_t *p;

	snprintf(path, sizeof path, "%s/%s", w->dir, name);
	check(sys_open(w->sys, path, SYS_READ, &f, NULL) == 0);
	check(sys_file_bytes(f, ret_len, NULL) == 0);
	p = malloc(*ret_len);
	check(p != NULL);
	check(sys_pread(f, p, *ret_len, 0, NULL) == (int64_t)*ret_len);
	sys_close(f);
	return p;
}

static void file_write(struct world *w, const char *name, const uint8_t *p, uint64_t len)
{
	char path[128];
	struct sys_file *f;

	snprintf(path, sizeof path, "%s/%s", w->dir, name);
	check(sys_open(w->sys, path, SYS_WRITE | SYS_CREATE | SYS_TRUNC, &f, NULL) == 0);
	check(sys_pwrite(f, p, len, 0, NULL) == 0);
	sys_close(f);
}

/* Where the bytes of a value stand in the file: flips there must be seen when it is read. */
static int flips(void *arg)
{
	struct world *w = arg;
	uint64_t len, n_found = 0, n_keys = 0;
	struct bytes value;
	uint8_t *p, room[4];

	open_tree(w, "tree", &w->tree);
	for (int i = 0; i < 5; i++)
		merge(w);
	tree_close(w->tree);
	p = file_read(w, "tree", &len);
	for (unsigned i = 0; i < KIT_KEYS; i++) {
		struct bytes want = value_of(w->k.state[i], room);
		uint8_t *at = NULL;
		int rc;

		if (w->k.state[i] == 0 || want.len < 4)
			continue;
		n_keys++;
		for (uint64_t k = 0; k + 8 < len && at == NULL; k++)
			if (memcmp(p + k, want.p, 4) == 0)
				at = p + k;
		check(at != NULL);
		at[prng_below(&w->k.p, 4)] ^= (uint8_t)(1u << prng_below(&w->k.p, 8));
		file_write(w, "flipped", p, len);
		memcpy(at, want.p, 4);
		open_tree(w, "flipped", &w->tree);
		rc = tree_get(w->tree, w->k.keys[i], &value);
		check(rc == E_CORRUPT || (rc == 0 && bytes_equal(value, want)));
		n_found += rc == E_CORRUPT; /* else it was an older page that was hit */
		tree_close(w->tree);
	}
	check(n_keys > 10);
	check(n_found > n_keys / 3);
	free(p);
	return 0;
}

static int truncations(void *arg)
{
	struct world *w = arg;
	struct err_note note;
	struct tree *t;
	uint64_t len;
	uint8_t *p;

	open_tree(w, "tree", &w->tree);
	for (int i = 0; i < 5; i++)
		merge(w);
	tree_close(w->tree);
	p = file_read(w, "tree", &len);
	for (uint64_t cut = 1; cut < len; cut += 1 + len / 40) {
		file_write(w, "cut", p, cut);
		check(tree_open(w->sys, w->dir, "cut", BYTES_MAX, &t, &note) == E_CORRUPT);
	}
	free(p);
	return 0;
}

static void run(fiber_fn *fn, uint64_t seed)
{
	struct world *w = calloc(1, sizeof *w);
	struct err_note note;
	char clean[128];

	assert_non_null(w);
	snprintf(w->dir, sizeof w->dir, "/tmp/wadi-tree-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	kit_init(&w->k, seed);
	memtable_pool_init(&w->pool);
	assert_int_equal(sys_uv_new(&w->sys, &note), 0);
	assert_int_equal(sys_uv_run(w->sys, "test", fn, w), 0);
	sys_uv_free(w->sys);
	memtable_pool_fini(&w->pool);
	kit_fini(&w->k);
	snprintf(clean, sizeof clean, "rm -r '%s'", w->dir);
	assert_int_equal(system(clean), 0);
	free(w);
}

static void reads_like_a_sorted_array(void **state)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		run(random_life, seed);
}

static void never_gives_out_a_flipped_row(void **state)
{
	run(flips, 1);
}
static void refuses_a_file_cut_short(void **state)
{
	run(truncations, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_like_a_sorted_array),
		cmocka_unit_test(never_gives_out_a_flipped_row),
		cmocka_unit_test(refuses_a_file_cut_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
