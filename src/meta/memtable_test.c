/* SPDX-License-Identifier: Apache-2.0 */
/* A memtable over something below answers as one sorted map would, whatever was put, deleted and
 * walked before; what was born and deleted in it leaves nothing. */
#include "base/prng.h"
#include "meta/memtable.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { KEYS = 600, VALUE_MAX = 300, SEED = 77 };

struct model {
	struct bytes keys[KEYS]; /* ascending */
	bool below[KEYS], there[KEYS];
	uint8_t value[KEYS][VALUE_MAX];
	uint16_t len[KEYS];
};

static int by_bytes(const void *a, const void *b)
{
	return bytes_compare(*(const struct bytes *)a, *(const struct bytes *)b);
}

/* Keys of a few tables, many with long common beginnings, some prefixes of others. */
static void model_init(struct model *md, struct prng *p)
{
	memset(md, 0, sizeof *md);
	for (int i = 0; i < KEYS; i++) {
		uint8_t *k = malloc(1100);
		size_t len = 1 + (size_t)prng_below(p, 40);

		assert_non_null(k);
		memset(k, 'x', 1100);
		k[0] = (uint8_t)('a' + prng_below(p, 3));
		if (prng_odds(p, 1, 10))
			len += (size_t)prng_below(p, 1000);
		if (prng_odds(p, 4, 5))
			k[len - 1] = (uint8_t)prng_below(p, 256);
		if (len > 12 && prng_odds(p, 1, 2))
			k[11] = (uint8_t)prng_below(p, 256);
		k[0] = (uint8_t)('a' + k[0] % 3);
		md->keys[i] = bytes_of(k, len);
	}
	qsort(md->keys, KEYS, sizeof *md->keys, by_bytes);
	for (int i = 0; i < KEYS; i++) {
		md->below[i] = prng_odds(p, 1, 3) &&
			       (i == 0 || by_bytes(&md->keys[i - 1], &md->keys[i]) != 0);
		md->there[i] = md->below[i];
	}
}

/* Equal keys are one: the first of them. */
static int pick(const struct model *md, struct prng *p)
{
	int i = (int)prng_below(p, KEYS);

	while (i > 0 && by_bytes(&md->keys[i - 1], &md->keys[i]) == 0)
		i--;
	return i;
}

static uint64_t hash_of(struct bytes key)
{
	return memtable_hash(SEED, key);
}

static void verify_key(const struct model *md, const struct memtable *m, int i)
{
	struct bytes value = bytes_of(NULL, 0);
	enum memtable_found found = memtable_get(m, hash_of(md->keys[i]), md->keys[i], &value);

	if (found == MEMTABLE_LIVE) {
		assert_true(md->there[i]);
		assert_int_equal(value.len, md->len[i]);
		assert_memory_equal(value.p, md->value[i], value.len);
	} else {
		assert_int_equal(md->there[i], found == MEMTABLE_ABSENT && md->below[i]);
	}
}

static void verify_walk(const struct model *md, struct memtable *m, int from)
{
	struct memtable_walk w;
	struct memtable_row r;
	bool seen[KEYS] = { false };
	struct bytes to;
	int i = from;

	memtable_walk_begin(&w, m, md->keys[from]);
	while (memtable_walk_next(&w, &r)) {
		while (i < KEYS && by_bytes(&md->keys[i], &r.key) < 0)
			i++;
		assert_true(i < KEYS);
		assert_true(bytes_equal(md->keys[i], r.key));
		assert_false(seen[i]);
		seen[i] = true;
		assert_int_equal(md->there[i], !r.deleted);
		if (!r.deleted)
			assert_true(bytes_equal(r.value, bytes_of(md->value[i], md->len[i])));
	}
	for (i = from; i < KEYS; i++)
		if (!seen[i] && md->there[i])
			assert_true(md->below[i] && !memtable_hides(m, md->keys[i], &to));
}

static void step(struct model *md, struct memtable *m, struct prng *p)
{
	int i = pick(md, p), j;
	uint64_t what = prng_below(p, 100);

	if (what < 50) {
		size_t len = (size_t)prng_below(p, prng_odds(p, 1, 2) ? 20 : VALUE_MAX);

		for (size_t at = 0; at < len; at++)
			md->value[i][at] = (uint8_t)prng_next(p);
		md->len[i] = (uint16_t)len;
		memtable_put(m, hash_of(md->keys[i]), md->keys[i], bytes_of(md->value[i], len),
			!md->there[i] && !md->below[i]);
		md->there[i] = true;
	} else if (what < 90) {
		memtable_delete(m, hash_of(md->keys[i]), md->keys[i]);
		md->there[i] = false;
	} else if (what < 91) {
		j = pick(md, p);
		memtable_delete_range(m, md->keys[i], md->keys[j]);
		for (; i < j; i++)
			md->there[i] = false;
	} else if (what < 93) {
		verify_walk(md, m, i);
	} else {
		verify_key(md, m, i);
	}
}

static void verify_sorted(const struct model *md, struct memtable *m)
{
	struct memtable_sorted s;
	struct memtable_row r, before = { 0 };

	memtable_freeze(m);
	s = memtable_sort(m);
	assert_int_equal(s.n, memtable_rows(m));
	for (size_t i = 0; i < s.n; i++, before = r) {
		memtable_row(m, s.refs[i], &r);
		if (i > 0)
			assert_true(bytes_compare(before.key, r.key) < 0);
	}
	memtable_sorted_free(&s);
	verify_walk(md, m, 0);
}

static void test_random(void **state)
{
	struct memtable_pool pool;
	static struct model md;

	memtable_pool_init(&pool);
	for (uint64_t seed = 0; seed < 60; seed++) {
		struct prng p = prng_fork(seed, 1);
		struct memtable *m = memtable_new(&pool, SEED);

		model_init(&md, &p);
		for (int i = 0; i < 3000; i++)
			step(&md, m, &p);
		for (int i = 0; i < KEYS; i++)
			if (i == 0 || by_bytes(&md.keys[i - 1], &md.keys[i]) != 0)
				verify_key(&md, m, i);
		memtable_audit(m);
		verify_sorted(&md, m);
		memtable_free(m);
		for (int i = 0; i < KEYS; i++)
			free((void *)(uintptr_t)md.keys[i].p);
	}
	memtable_pool_fini(&pool);
	assert_int_equal(pool.n_free, 0);
}

static struct bytes numbered(uint8_t table, uint64_t n, uint8_t room[17])
{
	room[0] = table;
	put_be64(room + 1, n);
	return bytes_of(room, 9);
}

static void test_many(void **state)
{
	enum { MANY = 100000 };
	struct memtable_pool pool;
	struct memtable *m;
	struct memtable_walk w;
	struct memtable_row r;
	uint8_t room[17];
	struct bytes value;

	memtable_pool_init(&pool);
	m = memtable_new(&pool, SEED);
	for (uint64_t i = 0; i < MANY; i++) {
		uint64_t n = i * 0x9e3779b97f4a7c15u;
		struct bytes key = numbered('n', n, room);

		memtable_put(m, hash_of(key), key, bytes_of(&n, 8), true);
		key = numbered('i', i, room);
		memtable_put(m, hash_of(key), key, bytes_of(&n, 8), true);
	}
	memtable_audit(m);
	assert_int_equal(memtable_rows(m), 2 * MANY);
	for (uint64_t i = 0; i < MANY; i++) {
		uint64_t n = i * 0x9e3779b97f4a7c15u;
		struct bytes key = numbered('n', n, room);

		assert_int_equal(memtable_get(m, hash_of(key), key, &value), MEMTABLE_LIVE);
		assert_memory_equal(value.p, &n, 8);
	}
	memtable_walk_begin(&w, m, BYTES("i"));
	for (uint64_t i = 0; i < MANY; i++) {
		assert_true(memtable_walk_next(&w, &r));
		assert_int_equal(be64(r.key.p + 1), i);
	}
	for (uint64_t i = 0, last = 0; i < MANY; i++, last = be64(r.key.p + 1)) {
		assert_true(memtable_walk_next(&w, &r));
		assert_true(i == 0 || be64(r.key.p + 1) > last);
	}
	assert_false(memtable_walk_next(&w, &r));
	memtable_free(m);
	assert_true(pool.n_free > 2);
	memtable_pool_trim(&pool); /* none was needed twice */
	memtable_pool_trim(&pool);
	assert_int_equal(pool.n_free, 0);
	memtable_pool_fini(&pool);
}

/* An object that is born and deleted takes no room, however often. */
static void test_churn(void **state)
{
	struct memtable_pool pool;
	struct memtable *m;
	uint64_t bytes;

	memtable_pool_init(&pool);
	m = memtable_new(&pool, SEED);
	for (uint64_t i = 0; i < 50000; i++) {
		uint8_t room[17], value[100] = { 0 };
		struct bytes key = numbered('i', i, room);

		memtable_put(m, hash_of(key), key, bytes_of(value, sizeof value), true);
		memtable_put(m, hash_of(key), key, bytes_of(value, 5), false);
		if (i == 1)
			bytes = memtable_bytes(m);
		memtable_delete(m, hash_of(key), key);
	}
	assert_true(memtable_bytes(m) <= bytes);
	assert_true(memtable_empty(m));
	memtable_audit(m);
	memtable_free(m);
	memtable_pool_fini(&pool);
}

/* A value may be borrowed from the row that it overwrites, or from another. */
static void test_alias(void **state)
{
	struct memtable_pool pool;
	struct memtable *m;
	struct bytes v, a = BYTES("a"), b = BYTES("b");

	memtable_pool_init(&pool);
	m = memtable_new(&pool, SEED);
	memtable_put(m, hash_of(a), a, BYTES("0123456789"), false);
	assert_int_equal(memtable_get(m, hash_of(a), a, &v), MEMTABLE_LIVE);
	memtable_put(m, hash_of(a), a, bytes_of(v.p + 3, 5), false);
	assert_int_equal(memtable_get(m, hash_of(a), a, &v), MEMTABLE_LIVE);
	assert_true(bytes_equal(v, BYTES("34567")));
	memtable_put(m, hash_of(b), b, v, false);
	assert_int_equal(memtable_get(m, hash_of(b), b, &v), MEMTABLE_LIVE);
	assert_true(bytes_equal(v, BYTES("34567")));
	memtable_free(m);
	memtable_pool_fini(&pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_churn),
		cmocka_unit_test(test_alias),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
