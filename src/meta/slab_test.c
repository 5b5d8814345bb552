/* SPDX-License-Identifier: Apache-2.0 */
/* The slab gives back what was put, wastes little, counts exactly, and a full one is full only as
 * long as it is. */
#include "base/check.h"
#include "base/hash.h"
#include "base/limit.h"
#include "base/prng.h"
#include "meta/map.h"
#include "meta/slab.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { FILES = 3000, STEPS = 60000, PAGES = 24 };
static uint8_t bytes[LIMIT_INLINE_BYTES_MAX + 16];
static uint32_t crc; /* of the last one put */
struct kept {
	uint64_t handle;
	size_t len, from;
};

static struct bytes cut(const struct kept *k)
{
	return bytes_of(bytes + k->from, k->len);
}

static bool put(struct slab *s, struct prng *p, struct kept *k, size_t max)
{
	k->len = 1 + prng_below(p, max);
	k->from = prng_below(p, 16);
	if (slab_put(s, cut(k), &k->handle, &crc) < 0)
		return false;
	assert_int_equal(crc, crc32c(0, cut(k).p, k->len));
	return true;
}

static void gives_back_what_was_put(void **state)
{
	static struct kept kept[FILES];
	struct prng p = prng_fork(3, 1);
	uint64_t used = 0, n = 0, full = 0;
	struct slab_status st;
	struct slab *s;

	memset(kept, 0, sizeof kept);
	assert_int_equal(slab_new(PAGES * SLAB_PAGE_BYTES, &s), 0);
	for (unsigned i = 0; i < STEPS; i++) {
		struct kept *k = &kept[prng_below(&p, FILES)];
		size_t max = i / 10000 % 2 == 0 ? LIMIT_INLINE_BYTES_MAX : 200;

		if (k->handle != 0) {
			assert_true(bytes_equal(slab_get(s, k->handle, k->len), cut(k)));
			slab_drop(s, k->handle, k->len);
			assert_null(slab_get(s, k->handle, k->len).p);
			used -= k->len;
			n--;
			k->handle = 0;
		} else if (put(s, &p, k, max)) {
			used += k->len;
			n++;
		} else {
			k->handle = 0;
			full++;
		}
		if (i % 1000 == 0)
			slab_audit(s);
	}
	slab_status(s, &st);
	assert_int_equal(st.used_bytes, used);
	assert_int_equal(st.files, n);
	assert_true(full > 0);
	for (unsigned i = 0; i < FILES; i++)
		if (kept[i].handle != 0)
			slab_drop(s, kept[i].handle, kept[i].len);
	slab_audit(s);
	slab_status(s, &st);
	assert_int_equal(st.used_bytes, 0);
	assert_int_equal(st.rounding_bytes + st.free_bytes + st.idle_bytes, st.limit_bytes);
	slab_free(s);
}

/* At most a sixteenth or 7 bytes for the slot, and a little for the end of its page. */
static void wastes_at_most_a_sixteenth(void **state)
{
	for (size_t len = 1; len <= LIMIT_INLINE_BYTES_MAX; len += 1 + len / 64) {
		struct slab_status st;
		uint64_t handle, n = 0;
		size_t allowed = len / 16 > 7 ? len / 16 : 7;
		struct slab *s;

		assert_int_equal(slab_new(SLAB_PAGE_BYTES, &s), 0);
		while (slab_put(s, bytes_of(bytes, len), &handle, &crc) == 0)
			n++;
		slab_status(s, &st);
		assert_int_equal(st.free_bytes, 0);
		assert_true(n * (len + allowed) + SLAB_PAGE_BYTES / 200 >= SLAB_PAGE_BYTES - len);
		if (len == 1024)
			assert_int_equal(st.rounding_bytes, 0);
		slab_free(s);
	}
}

/* Room of one size comes back for every other size, also when it is spread over empty pages. */
static void full_of_one_size_then_another(void **state)
{
	enum { MOST = PAGES * SLAB_PAGE_BYTES / 100 };
	uint64_t *handles = calloc(MOST, sizeof *handles), handle;
	struct slab *s;
	size_t n = 0;

	assert_int_equal(slab_new(PAGES * SLAB_PAGE_BYTES, &s), 0);
	while (n < MOST && slab_put(s, bytes_of(bytes, 100), &handles[n], &crc) == 0)
		n++;
	assert_true(n > MOST * 9 / 10);
	assert_int_equal(slab_put(s, bytes_of(bytes, 4096), &handle, &crc), E_FULL);
	for (size_t i = 0; i < n; i++)
		slab_drop(s, handles[i], 100);
	for (unsigned i = 0; i < PAGES * SLAB_PAGE_BYTES / 4096; i++)
		assert_int_equal(slab_put(s, bytes_of(bytes, 4096), &handle, &crc), 0);
	assert_int_equal(slab_put(s, bytes_of(bytes, 4096), &handle, &crc), E_FULL);
	slab_audit(s);
	slab_free(s);
	free(handles);
}

/* Handles come out of rows, and rows off a disk. */
static void foreign_handles_are_refused(void **state)
{
	struct prng p = prng_fork(9, 2);
	struct slab *s;
	uint64_t handle;

	assert_int_equal(slab_new(4 * SLAB_PAGE_BYTES, &s), 0);
	assert_int_equal(slab_put(s, bytes_of(bytes, 1024), &handle, &crc), 0);
	assert_null(slab_get(s, 0, 1024).p);
	assert_null(slab_get(s, UINT64_MAX, 1024).p);
	assert_null(slab_get(s, handle + 1, 1024).p);
	assert_null(slab_get(s, handle + (1 << 16), 1024).p);
	assert_null(slab_get(s, handle, 100).p);
	assert_null(slab_get(s, handle, 0).p);
	assert_null(slab_get(s, handle, 1 << 20).p);
	for (unsigned i = 0; i < 10000; i++) {
		uint64_t any = prng_next(&p) >> prng_below(&p, 64);
		size_t len = prng_below(&p, 5000);

		if (any != handle)
			assert_null(slab_get(s, any, len).p);
	}
	slab_free(s);
}

static void map_holds_what_a_table_holds(void **state)
{
	enum { KEYS = 700 };
	static int there[KEYS];
	struct prng p = prng_fork(11, 1);
	struct map m = { NULL, 0, 0 };
	uint32_t n = 0;

	for (unsigned i = 0; i < 100000; i++) {
		uint64_t k = prng_below(&p, KEYS);
		uint64_t key = k * 0x100000001u; /* close and far ones, and 0 */

		if (prng_odds(&p, 1, 2)) {
			assert_ptr_equal(map_remove(&m, key), there[k] != 0 ? &there[k] : NULL);
			n -= there[k] != 0;
			there[k] = 0;
		} else {
			assert_int_equal(map_put(&m, key, &there[k]), 0);
			n += there[k] == 0;
			there[k] = 1;
		}
		k = prng_below(&p, KEYS);
		assert_ptr_equal(map_get(&m, k * 0x100000001u), there[k] != 0 ? &there[k] : NULL);
		assert_int_equal(m.n, n);
	}
	map_fini(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_back_what_was_put),
		cmocka_unit_test(wastes_at_most_a_sixteenth),
		cmocka_unit_test(full_of_one_size_then_another),
		cmocka_unit_test(foreign_handles_are_refused),
		cmocka_unit_test(map_holds_what_a_table_holds),
	};

	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 131 >> 3);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
