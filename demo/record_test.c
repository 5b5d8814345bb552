/* SPDX-License-Identifier: Apache-2.0 */
/* Sorting keeps every record and puts the keys in order; ranges agree with the order of the keys.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/prng.h"
#include "demo/picture.h"
#include "demo/record.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 5000 };

struct world {
	uint8_t records[N * RECORD_BYTES], scratch[N * RECORD_BYTES];
};

static int setup(void **state)
{
	struct world *w = malloc(sizeof *w);

	record_generate(w->records, 0, N, 7);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static struct record_check look(const uint8_t *records, size_t n)
{
	struct record_check c;

	record_check_init(&c);
	record_check_add(&c, records, n);
	return c;
}

static void sort_keeps_and_orders(void **state)
{
	struct world *w = *state;
	struct record_check before, after;

	for (int i = 0; i < 100;
		i++) /* equal prefixes: the last two bytes of the key must decide */
		memset(w->records + i * RECORD_BYTES, 0x55, 8);
	before = look(w->records, N);
	assert_false(before.sorted);
	record_sort(w->records, w->scratch, N);
	after = look(w->records, N);
	assert_true(after.sorted);
	assert_int_equal(after.total.n, N);
	assert_true(after.total.sum == before.total.sum);
}

static void check_finds_a_changed_byte_and_its_place(void **state)
{
	struct world *w = *state;
	struct record_check good, bad;

	record_sort(w->records, w->scratch, N);
	good = look(w->records, N);
	w->records[777 * RECORD_BYTES + 60] ^= 1;
	bad = look(w->records, N);
	assert_true(bad.sorted);
	assert_true(bad.total.sum != good.total.sum);
	memset(w->records + 1234 * RECORD_BYTES, 0, RECORD_KEY_BYTES);
	bad = look(w->records, N);
	assert_false(bad.sorted);
	assert_int_equal(bad.unsorted_at, 1234);
}

static void same_seed_same_records_in_any_pieces(void **state)
{
	struct world *w = *state;

	record_generate(w->scratch, 0, 1000, 7);
	record_generate(w->scratch + 1000 * RECORD_BYTES, 1000, N - 1000, 7);
	assert_memory_equal(w->records, w->scratch, N * RECORD_BYTES);
}

static void parts_follow_the_order_of_keys(void **state)
{
	struct world *w = *state;
	struct record_ranges r;
	uint8_t keys[100][RECORD_KEY_BYTES];
	uint32_t part = 0, seen = 0;

	for (int i = 0; i < 100; i++)
		memcpy(keys[i], w->records + i * RECORD_BYTES, RECORD_KEY_BYTES);
	record_ranges_choose(&r, 8, keys[0], 100);
	record_sort(w->records, w->scratch, N);
	for (int i = 0; i < N; i++) {
		uint32_t p = record_part(&r, w->records + i * RECORD_BYTES);

		assert_true(p >= part);
		assert_true(p < 8);
		seen |= 1u << p;
		part = p;
	}
	assert_int_equal(seen, 0xff);
	for (uint32_t p = 1; p < 8; p++) /* a split belongs to the part that it opens */
		assert_int_equal(record_part(&r, r.split[p - 1]), p);
}

static void no_samples_is_one_part(void **state)
{
	struct record_ranges r;

	(void)state;
	record_ranges_choose(&r, 8, NULL, 0);
	assert_int_equal(r.n_parts, 1);
	assert_int_equal(record_part(&r, (const uint8_t *)"0123456789"), 0);
}

struct drawn {
	int lines;
	char first[400], last_bar[400];
};

static void keep(void *arg, const char *text)
{
	struct drawn *d = arg;

	if (d->lines++ == 0)
		snprintf(d->first, sizeof d->first, "%s", text);
	if (strstr(text, "0 |") != NULL)
		snprintf(d->last_bar, sizeof d->last_bar, "%s", text);
}

static void picture_shows_the_peak_and_an_empty_end(void **state)
{
	static struct picture p;
	struct drawn d = { 0 };

	(void)state;
	memset(&p, 0, sizeof p);
	for (uint64_t i = 0; i <= 3 * PICTURE_SAMPLES_MAX; i++)
		picture_add(&p, &(struct picture_sample){
					i, { i == 3 * PICTURE_SAMPLES_MAX ? 0 : 64 << 20 } });
	picture_draw(&p, keep, &d);
	assert_int_equal(
		d.lines, PICTURE_ROWS + 1); /* dram and the axis; nothing was on flash or disk */
	assert_non_null(strstr(d.first, "64.0 MiB"));
	assert_int_equal(d.last_bar[strlen(d.last_bar) - 1], ' ');
	assert_non_null(strstr(d.last_bar, "█"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(sort_keeps_and_orders, setup, teardown),
		cmocka_unit_test_setup_teardown(
			check_finds_a_changed_byte_and_its_place, setup, teardown),
		cmocka_unit_test_setup_teardown(
			same_seed_same_records_in_any_pieces, setup, teardown),
		cmocka_unit_test_setup_teardown(parts_follow_the_order_of_keys, setup, teardown),
		cmocka_unit_test(no_samples_is_one_part),
		cmocka_unit_test(picture_shows_the_peak_and_an_empty_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
