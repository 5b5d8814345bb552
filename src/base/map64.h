/* SPDX-License-Identifier: Apache-2.0 */
/* map64.h: numbers to numbers, by hash.  For tables in memory whose order nobody sees: a walk is in
 * slot order, which is the same for the same history. */
#ifndef BASE_MAP64_H
#define BASE_MAP64_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map64_slot {
	uint64_t key;
	uint32_t value;
	bool used;
};
struct map64 {
	struct map64_slot *slots;
	size_t n, cap;
};

void map64_init(struct map64 *m); /* empty, owns nothing */
void map64_fini(struct map64 *m);
/* The value's place, or NULL; valid until the next put or delete. */
uint32_t *map64_get(const struct map64 *m, uint64_t key);
void map64_put(
	struct map64 *m, uint64_t key, uint32_t value); /* new or replaced; dies without memory */
bool map64_delete(struct map64 *m, uint64_t key);       /* false: was not there */
#endif
