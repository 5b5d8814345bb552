/* SPDX-License-Identifier: Apache-2.0 */
/* record.h: the records of the public sort benchmark: 100 bytes, of which the first 10 are the key,
 * compared as bytes. */
#ifndef DEMO_RECORD_H
#define DEMO_RECORD_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RECORD_BYTES = 100, RECORD_KEY_BYTES = 10, RECORD_PARTS_MAX = 256 };

/* Writes n records numbered from first.  The same seed gives the same records whoever makes them.
 */
void record_generate(void *ret_records, uint64_t first, size_t n, uint64_t seed);

/* Sorts n records by key; scratch has room for as many.  The result is in records. */
void record_sort(void *records, void *scratch, size_t n);

/* Ranges of keys: part p holds the keys from split[p-1] up to split[p]. */
struct record_ranges {
	uint32_t n_parts;
	uint8_t split[RECORD_PARTS_MAX - 1][RECORD_KEY_BYTES];
};
/* Chooses n_parts ranges of about equal size from sample keys (n of RECORD_KEY_BYTES; sorted here).
 */
void record_ranges_choose(struct record_ranges *ret_r, uint32_t n_parts, uint8_t *keys, size_t n);
uint32_t record_part(const struct record_ranges *r, const uint8_t *key);

/* What a run of records adds up to, whatever their order: equal before and after a sort. */
struct record_sum {
	uint64_t n, sum;
};
struct record_check {
	struct record_sum total;
	bool any, sorted; /* so far; sorted starts true */
	uint8_t last[RECORD_KEY_BYTES];
	uint64_t unsorted_at; /* number of the first record that is out of order */
};
void record_check_init(struct record_check *c);
void record_check_add(struct record_check *c, const void *records, size_t n);
#endif
