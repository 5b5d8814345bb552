/* SPDX-License-Identifier: Apache-2.0 */
/* places.h: of each record that a log holds, in memory: epoch and chain by index. */
#ifndef META_PLACES_H
#define META_PLACES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct place_at {
	uint64_t epoch, chain;
};
struct places {
	struct place_at *at; /* of first, first + 1, ... */
	uint64_t first;
	size_t n, cap;
};
/* Holds one place afterwards: that of index. */
void places_begin(struct places *p, uint64_t index, struct place_at at);
void places_fini(struct places *p);
void places_add(struct places *p, uint64_t index, struct place_at at); /* the next index */
void places_take_back(struct places *p, uint64_t index);               /* what is behind it */
void places_forget(struct places *p, uint64_t index); /* what is before it; the last one stays */
bool places_get(const struct places *p, uint64_t index, struct place_at *ret_at);
#endif
