/* SPDX-License-Identifier: Apache-2.0 */
/* book.h: what the file of coord/embedded holds.  Pure.
 *
 *    0 magic u32 · crc32c of all that follows u32 · version u32 · count u32 · revision u64 ·
 *      moved to: length u32 and bytes · for each item: key length u32 and bytes, revision u64,
 *      text length u32 and bytes
 *
 * (G1) No key twice, no revision above the book's.  (G2) moved_to, when it is not empty, stays. */
#ifndef COORD_BOOK_H
#define COORD_BOOK_H
#include "coord/own.h"

enum {
	BOOK_ITEMS_MAX = 256,
	BOOK_BYTES_MAX = 28 + COORD_URL_MAX +
			 BOOK_ITEMS_MAX * (16 + COORD_KEY_MAX + COORD_TEXT_MAX),
};
struct book {
	uint64_t revision; /* of the latest change */
	char moved_to[COORD_URL_MAX];
	uint32_t n_items;
	struct coord_item items[BOOK_ITEMS_MAX];
};
struct coord_item *book_find(struct book *b, const char *key); /* NULL: nothing */
/* The change of coord_ops.swap; E_FULL beyond BOOK_ITEMS_MAX keys. */
int book_swap(struct book *b, uint64_t expected, struct coord_item *it);
size_t book_encode(const struct book *b, uint8_t *ret_bytes); /* room for BOOK_BYTES_MAX */
bool book_decode(struct bytes from, struct book *ret_b);      /* false: ret_b holds anything */
#endif
