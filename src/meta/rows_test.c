/* SPDX-License-Identifier: Apache-2.0 */
/* A row decodes to what was encoded; keys sort as their numbers do; what no encoder wrote is
 * refused. */
#include "base/check.h"
#include "base/prng.h"
#include "meta/rows.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { ROUNDS = 300 };
static struct prng prng;
static uint8_t text[5000];

static uint64_t any_number(void)
{
	uint64_t bits = prng_below(&prng, 65);
	uint64_t v = prng_next(&prng);

	return bits == 0 ? 0 : v >> (64 - bits);
}

static struct bytes any_bytes(size_t max)
{
	size_t len = prng_odds(&prng, 1, 4) ? max : prng_below(&prng, max + 1);

	return bytes_of(text, len);
}

static int copies(struct bytes b, void **ret_copy)
{
	*ret_copy = malloc(b.len + 1); /* exact room, so that the sanitizer sees a step beyond it */
	assert_non_null(*ret_copy);
	if (b.len > 0)
		memcpy(*ret_copy, b.p, b.len);
	return 0;
}

/* For each row: fill, encode, decode, compare; then truncations of the value, and a byte more. */
#define ROW(name, table, version)                                                                  \
	static void fill_##name(struct row_##name *r)                                              \
	{                                                                                          \
		memset(r, 0, sizeof *r);
#define K(field)              r->field = any_number();
#define KB(field, max)        r->field = any_bytes(max);
#define F(type, field, since) r->field = (row_##type)any_number();
#define V(field, since)       r->field = any_number();
#define B(field, max, since)  r->field = any_bytes(max);
#define END(name)             }
#include "meta/rows.def"
#undef ROW
#undef K
#undef KB
#undef F
#undef V
#undef B
#undef END

#define ROW(name, table, version)                                                                  \
	static bool equal_##name(const struct row_##name *a, const struct row_##name *b)           \
	{                                                                                          \
		bool same = true;
#define K(field)              same &= a->field == b->field;
#define KB(field, max)        same &= bytes_equal(a->field, b->field);
#define F(type, field, since) same &= a->field == b->field;
#define V(field, since)       same &= a->field == b->field;
#define B(field, max, since)  same &= bytes_equal(a->field, b->field);
#define END(name)                                                                                  \
	return same;                                                                               \
	}
#include "meta/rows.def"
#undef ROW
#undef K
#undef KB
#undef F
#undef V
#undef B
#undef END

#define ROW(name, table, version)                                                                  \
	static void test_##name(void **state)                                                      \
	{                                                                                          \
		static uint8_t key_room[ROW_##name##_KEY_MAX],                                     \
			value_room[ROW_##name##_VALUE_MAX + 1];                                    \
		struct row_##name in, out;                                                         \
		for (unsigned i = 0; i < ROUNDS; i++) {                                            \
			struct bytes key, value;                                                   \
			void *copy;                                                                \
			fill_##name(&in);                                                          \
			key = row_##name##_key(&in, key_room);                                     \
			value = row_##name##_put(&in, value_room);                                 \
			memset(&out, 0xee, sizeof out);                                            \
			assert_int_equal(row_##name##_key_get(key, &out), 0);                      \
			assert_int_equal(row_##name##_get(value, &out), 0);                        \
			assert_true(equal_##name(&in, &out));                                      \
			copies(value, &copy);                                                      \
			for (size_t len = 0; len < value.len; len += 1 + len / 8)                  \
				assert_int_equal(                                                  \
					row_##name##_get(bytes_of(copy, len), &out), E_CORRUPT);   \
			free(copy);                                                                \
			value_room[value.len] = 0;                                                 \
			value.len++;                                                               \
			assert_int_equal(row_##name##_get(value, &out), E_CORRUPT);                \
			value_room[0] = 200; /* of a newer program: what it appended is skipped */ \
			assert_int_equal(row_##name##_get(value, &out), 0);                        \
			value_room[0] = 0;                                                         \
			assert_int_equal(row_##name##_get(value, &out), E_CORRUPT);                \
			key_room[0] ^= 0x80;                                                       \
			assert_int_equal(row_##name##_key_get(key, &out), E_CORRUPT);              \
		}                                                                                  \
	}
#define K(field)
#define KB(field, max)
#define F(type, field, since)
#define V(field, since)
#define B(field, max, since)
#define END(name)
#include "meta/rows.def"
#undef ROW
#undef K
#undef KB
#undef F
#undef V
#undef B
#undef END

static int sign(int64_t v)
{
	return (v > 0) - (v < 0);
}

static void keys_sort_as_numbers(void **state)
{
	for (unsigned i = 0; i < 20000; i++) {
		struct row_expiry a = { .time_ms = any_number(), .inode = any_number() };
		struct row_expiry b = { .time_ms = any_number(), .inode = any_number() };
		uint8_t ra[ROW_expiry_KEY_MAX], rb[ROW_expiry_KEY_MAX];
		int want, got;

		if (prng_odds(&prng, 1, 2))
			b.time_ms = a.time_ms;
		want = (a.time_ms > b.time_ms) - (a.time_ms < b.time_ms);
		if (want == 0)
			want = (a.inode > b.inode) - (a.inode < b.inode);
		got = bytes_compare(row_expiry_key(&a, ra), row_expiry_key(&b, rb));
		assert_int_equal(sign(got), want);
	}
}

/* Numbers around a power of 256 differ in length; names below one parent lie in its range, others
 * do not. */
static void ranges_hold_one_parent(void **state)
{
	static const uint64_t parents[] = { 1, 0xfe, 0xff, 0x100, 0xffff, 0x10000, UINT64_MAX };

	for (unsigned i = 0; i < sizeof parents / sizeof *parents; i++) {
		struct row_range r;

		row_range_one(&r, ROW_name_TABLE, parents[i]);
		for (unsigned k = 0; k < sizeof parents / sizeof *parents; k++) {
			struct row_name row = { .parent = parents[k], .name = BYTES("\xff\xff") };
			uint8_t room[ROW_name_KEY_MAX];
			struct bytes key = row_name_key(&row, room);
			bool inside = bytes_compare(key, r.from) >= 0 &&
				      bytes_compare(key, r.to) < 0;

			assert_int_equal(inside, i == k);
		}
	}
}

static void one_coding_for_a_number(void **state)
{
	static const uint8_t padded[] = { ROW_usage_TABLE, 2, 0, 7 };
	static const uint8_t nine[] = { ROW_usage_TABLE, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9 };
	static const uint8_t fine[] = { ROW_usage_TABLE, 1, 7 };
	static const uint8_t more[] = { ROW_usage_TABLE, 1, 7, 0 };
	struct row_usage row;

	assert_int_equal(row_usage_key_get(bytes_of(padded, sizeof padded), &row), E_CORRUPT);
	assert_int_equal(row_usage_key_get(bytes_of(nine, sizeof nine), &row), E_CORRUPT);
	assert_int_equal(row_usage_key_get(bytes_of(more, sizeof more), &row), E_CORRUPT);
	assert_int_equal(row_usage_key_get(bytes_of(fine, sizeof fine), &row), 0);
	assert_int_equal(row.bucket, 7);
}

/* What a million of them costs depends on it. */
static void a_small_file_has_small_rows(void **state)
{
	struct row_name name = {
		.parent = 4711, .name = BYTES("0123456789abcdef"), .inode = 1 << 30
	};
	struct row_inode inode = { .bucket = 4711,
		.inode = 1 << 30,
		.place = PLACE_SLAB,
		.size = 1024,
		.mtime_ms = UINT64_C(1800000000000),
		.crc = 1,
		.life = 300,
		.slot = UINT64_C(1) << 40 };
	uint8_t room[ROW_name_VALUE_MAX], file[ROW_inode_VALUE_MAX], key[ROW_name_KEY_MAX];

	assert_true(row_name_put(&name, room).len <= 19);
	assert_true(row_name_key(&name, key).len <= 16 + 8);
	name.file = row_inode_put(&inode, file);
	assert_true(name.file.len < 40);
	assert_true(row_name_put(&name, room).len <= 19 + 40);
	assert_true(row_inode_key(&inode, key).len <= 12);
}

static int setup(void **state)
{
	prng = prng_fork(7, 1);
	for (size_t i = 0; i < sizeof text; i++)
		text[i] = (uint8_t)prng_next(&prng);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define ROW(name, table, version) cmocka_unit_test(test_##name),
#define K(field)
#define KB(field, max)
#define F(type, field, since)
#define V(field, since)
#define B(field, max, since)
#define END(name)
#include "meta/rows.def"
#undef ROW
#undef K
#undef KB
#undef F
#undef V
#undef B
#undef END
		cmocka_unit_test(keys_sort_as_numbers),
		cmocka_unit_test(ranges_hold_one_parent),
		cmocka_unit_test(one_coding_for_a_number),
		cmocka_unit_test(a_small_file_has_small_rows),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
