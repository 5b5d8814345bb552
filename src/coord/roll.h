/* SPDX-License-Identifier: Apache-2.0 */
/* roll.h: what the file of coord/embedded holds.  Pure.
 *
 *    0 magic u32 · crc32c of all that follows u32 · version u32 · count u32 · revision u64 ·
 *      moved to: length u32 and bytes · for each item: key length u32 and bytes, revision u64,
 *      text length u32 and bytes
 *
 * (G1) No key twice, no revision above the roll's.  (G2) moved_to, when it is not empty, stays. */
#ifndef COORD_ROLL_H
#define COORD_ROLL_H
#include "coord/own.h"

enum {
	ROLL_ITEMS_MAX = 256,
	ROLL_BYTES_MAX = 28 + COORD_URL_MAX +
			 ROLL_ITEMS_MAX * (16 + COORD_KEY_MAX + COORD_TEXT_MAX),
};
struct roll {
	uint64_t revision; /* of the latest change */
	char moved_to[COORD_URL_MAX];
	uint32_t n_items;
	struct coord_item items[ROLL_ITEMS_MAX];
};
struct coord_item *roll_find(struct roll *b, const char *key); /* NULL: nothing */
/* The change of coord_ops.swap; E_FULL beyond ROLL_ITEMS_MAX keys. */
int roll_swap(struct roll *b, uint64_t expected, struct coord_item *it);
size_t roll_encode(const struct roll *b, uint8_t *ret_bytes); /* room for ROLL_BYTES_MAX */
bool roll_decode(struct bytes from, struct roll *ret_b);      /* false: ret_b holds anything */
#endif
