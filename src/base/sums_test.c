/* SPDX-License-Identifier: Apache-2.0 */
/* Every way of computing a sum gives the same number, a copy is a copy, a sum fits one place. */
#include "base/sums.h"
#include "base/bytes.h"
#include "base/copy.h"
#include "base/hash.h"
#include "base/prng.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

enum { ROOM = 96 * 1024 };
static uint8_t from[ROOM], to[ROOM + 128];

static void fill(struct prng *p)
{
	for (size_t i = 0; i < sizeof from; i++)
		from[i] = (uint8_t)prng_next(p);
}

static void known_vector(void **state)
{
	uint8_t out[9];

	assert_int_equal(crc32c_copy(0, out, "123456789", 9), 0xe3069283);
	assert_memory_equal(out, "123456789", 9);
}

/* Lengths around the strides, unaligned on both sides. */
static void copy_equals_crc32c(void **state)
{
	struct prng p = prng_fork(1, 1);

	fill(&p);
	for (size_t len = 0; len < 1400; len++) {
		uint32_t seed = (uint32_t)prng_next(&p);
		size_t at = prng_below(&p, 64), out = prng_below(&p, 64);

		memset(to, 0xee, sizeof to);
		assert_int_equal(crc32c_copy(seed, to + out, from + at, len),
			crc32c(seed, from + at, len));
		assert_memory_equal(to + out, from + at, len);
		assert_int_equal(to[out + len], 0xee);
		assert_true(out == 0 || to[out - 1] == 0xee);
	}
}

static void blocks_equal_crc32c(void **state)
{
	struct prng p = prng_fork(2, 1);
	uint32_t sums[ROOM / 512 + 1], want;

	fill(&p);
	for (int i = 0; i < 300; i++) {
		size_t len = prng_below(&p, ROOM), block = prng_below(&p, 2) ? 4096 : 512, n;
		bool past = prng_below(&p, 2);
		uint8_t *out = prng_below(&p, 3) ? to + prng_below(&p, 3) * 32 : NULL;

		n = (len + block - 1) / block;
		for (size_t b = 0; b < n; b++)
			sums[b] = (uint32_t)b * 77;
		memset(to, 0xee, sizeof to);
		crc32c_blocks(sums, block, out, from, len, past);
		for (size_t b = 0; b < n; b++) {
			want = crc32c((uint32_t)b * 77, from + b * block,
				b + 1 < n ? block : len - b * block);
			assert_int_equal(sums[b], want);
		}
		if (out != NULL) {
			assert_memory_equal(out, from, len);
			assert_int_equal(out[len], 0xee);
		}
	}
}

static void a_sum_fits_one_place(void **state)
{
	struct prng p = prng_fork(3, 1);
	uint32_t here[3], again[3], elsewhere[3], next[3];
	uint8_t place[16];
	uint64_t bad = 0;

	fill(&p);
	sums_compute(9, 0, from, 10000, here);
	put_le64(place, 9);
	put_le64(place + 8, 2);
	assert_int_equal(here[2], crc32c(crc32c(0, place, 16), from + 8192, 10000 - 8192));
	sums_copy(9, 0, to, from, 10000, again);
	assert_memory_equal(here, again, sizeof here);
	assert_memory_equal(to, from, 10000);
	sums_compute(10, 0, from, 10000, elsewhere);
	sums_compute(9, 1, from, 10000, next);
	for (int i = 0; i < 3; i++) {
		assert_int_not_equal(here[i], elsewhere[i]);
		assert_int_not_equal(here[i], next[i]);
	}
	assert_int_equal(sums_root(here, 3), sums_root(again, 3));
	assert_int_not_equal(sums_root(here, 3), sums_root(here, 2));
	assert_true(sums_verify(9, 0, from, 10000, here, NULL));
	assert_true(sums_verify(9, 1, from + 4096, 10000 - 4096, here + 1, NULL));
	assert_false(sums_verify(9, 0, from, 9999, here, &bad));
	assert_int_equal(bad, 2);
}

static void each_flipped_bit_is_found(void **state)
{
	struct prng p = prng_fork(4, 1);
	uint32_t sums[ROOM / 4096];
	uint64_t bad = 0;

	fill(&p);
	sums_compute(1, 100, from, ROOM - 5, sums);
	for (int i = 0; i < 200; i++) {
		size_t at = prng_below(&p, ROOM - 5);

		from[at] ^= (uint8_t)(1 << (i % 8));
		assert_false(sums_verify(1, 100, from, ROOM - 5, sums, &bad));
		assert_int_equal(bad, 100 + at / 4096);
		from[at] ^= (uint8_t)(1 << (i % 8));
	}
	assert_true(sums_verify(1, 100, from, ROOM - 5, sums, &bad));
}

static void wire_form_is_little_endian(void **state)
{
	const uint32_t sums[2] = { 0x04030201, 0x08070605 };
	uint32_t back[2];
	uint8_t le[8];

	sums_put(le, sums, 2);
	assert_memory_equal(le, "\1\2\3\4\5\6\7\10", 8);
	sums_get(back, le, 2);
	assert_memory_equal(back, sums, sizeof sums);
	assert_int_equal(sums_root(sums, 2), crc32c(0, le, 8));
	assert_int_equal(sums_count(0), 0);
	assert_int_equal(sums_count(1), 1);
	assert_int_equal(sums_count(4096), 1);
	assert_int_equal(sums_count(4097), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_vector),
		cmocka_unit_test(copy_equals_crc32c),
		cmocka_unit_test(blocks_equal_crc32c),
		cmocka_unit_test(a_sum_fits_one_place),
		cmocka_unit_test(each_flipped_bit_is_found),
		cmocka_unit_test(wire_form_is_little_endian),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
