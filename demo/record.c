/* SPDX-License-Identifier: Apache-2.0 */
#include "demo/record.h"
#include "base/bytes.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/prng.h"
#include <stdlib.h>

/* Layout: key 10 · 00 11 · number in 32 hexadecimal digits · 88 99 aa bb · filler 48 · cc dd ee ff
 */
enum { AT_BREAK = 10, AT_NUMBER = 12, AT_MARK = 44, AT_FILLER = 48, AT_END = 96 };

static void generate_one(uint8_t *r, uint64_t number, uint64_t seed)
{
	static const char hex[] = "0123456789ABCDEF";
	struct prng p = prng_fork(seed, number);

	put_le64(r, prng_next(&p));
	put_le16(r + 8, (uint16_t)prng_next(&p));
	memcpy(r + AT_BREAK, "\x00\x11", 2);
	memset(r + AT_NUMBER, '0', 16);
	for (int i = 0; i < 16; i++)
		r[AT_NUMBER + 16 + i] = (uint8_t)hex[(number >> (60 - 4 * i)) & 15];
	memcpy(r + AT_MARK, "\x88\x99\xaa\xbb", 4);
	for (int i = 0; i < 12; i++)
		memset(r + AT_FILLER + 4 * i, hex[prng_next(&p) & 15], 4);
	memcpy(r + AT_END, "\xcc\xdd\xee\xff", 4);
}

void record_generate(void *ret_records, uint64_t first, size_t n, uint64_t seed)
{
	uint8_t *r = ret_records;

	for (size_t i = 0; i < n; i++)
		generate_one(r + i * RECORD_BYTES, first + i, seed);
}

/* Sorting moves 16-byte handles instead of 100-byte records: a key's first 8 bytes decide nearly
 * always, and the records are then gathered once. */
struct handle {
	uint64_t prefix;
	const uint8_t *record;
};

static int compare_handles(const void *a, const void *b)
{
	const struct handle *x = a, *y = b;

	if (x->prefix != y->prefix)
		return x->prefix < y->prefix ? -1 : 1;
	return memcmp(x->record + 8, y->record + 8, RECORD_KEY_BYTES - 8);
}

void record_sort(void *records, void *scratch, size_t n)
{
	struct handle *h;
	uint8_t *from = scratch, *to = records;

	if (n < 2)
		return;
	h = malloc(n * sizeof *h);
	check(h != NULL);
	memcpy(from, records, n * RECORD_BYTES);
	for (size_t i = 0; i < n; i++)
		h[i] = (struct handle){ be64(from + i * RECORD_BYTES), from + i * RECORD_BYTES };
	qsort(h, n, sizeof *h, compare_handles);
	for (size_t i = 0; i < n; i++)
		memcpy(to + i * RECORD_BYTES, h[i].record, RECORD_BYTES);
	free(h);
}

static int compare_keys(const void *a, const void *b)
{
	return memcmp(a, b, RECORD_KEY_BYTES);
}

void record_ranges_choose(struct record_ranges *ret_r, uint32_t n_parts, uint8_t *keys, size_t n)
{
	check(n_parts >= 1);
	check(n_parts <= RECORD_PARTS_MAX);
	if (n > 0)
		qsort(keys, n, RECORD_KEY_BYTES, compare_keys);
	*ret_r = (struct record_ranges){ .n_parts = n > 0 ? n_parts : 1 };
	for (uint32_t p = 1; p < ret_r->n_parts; p++)
		memcpy(ret_r->split[p - 1], keys + n * p / n_parts * RECORD_KEY_BYTES,
			RECORD_KEY_BYTES);
}

uint32_t record_part(const struct record_ranges *r, const uint8_t *key)
{
	uint32_t low = 0, high = r->n_parts - 1; /* the number of splits that are <= key */

	while (low < high) {
		uint32_t mid = (low + high) / 2;

		if (memcmp(r->split[mid], key, RECORD_KEY_BYTES) <= 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

void record_check_init(struct record_check *c)
{
	*c = (struct record_check){ .sorted = true };
}

void record_check_add(struct record_check *c, const void *records, size_t n)
{
	const uint8_t *r = records;

	for (size_t i = 0; i < n; i++, r += RECORD_BYTES) {
		if (c->any && c->sorted && memcmp(c->last, r, RECORD_KEY_BYTES) > 0) {
			c->sorted = false;
			c->unsorted_at = c->total.n;
		}
		memcpy(c->last, r, RECORD_KEY_BYTES);
		c->any = true;
		c->total.n++;
		c->total.sum += crc32c(0, r, RECORD_BYTES);
	}
}
