/* SPDX-License-Identifier: Apache-2.0 */
/* What coord reads back: the text of a shard or a node, which is printed as the same bytes, and the
 * file of coord/embedded, whose checksum is made right first so that what lies behind it is
 * reached. */
#include "base/check.h"
#include "base/hash.h"
#include "coord/roll.h"
#include "fuzz/fuzz.h"
#include <stdlib.h>
#include <string.h>

enum { SUMMED_FROM = 8 };

static void try_texts(struct bytes text)
{
	struct coord_state st;
	struct coord_node n;
	char again[COORD_TEXT_MAX];

	if (coord_state_parse(text, &st) == 0) {
		check(coord_state_print(&st, again) == text.len);
		check(memcmp(again, text.p, text.len) == 0);
	}
	if (coord_node_parse(text, &n) == 0) {
		check(coord_node_print(&n, again) == text.len);
		check(memcmp(again, text.p, text.len) == 0);
	}
}

static void try_roll(const uint8_t *p, size_t len)
{
	static struct roll b, second;
	static uint8_t again[ROLL_BYTES_MAX];
	uint8_t *copy = malloc(len);
	size_t n;

	check(copy != NULL);
	memcpy(copy, p, len);
	put_le32(copy + SUMMED_FROM - 4, crc32c(0, copy + SUMMED_FROM, len - SUMMED_FROM));
	if (roll_decode(bytes_of(copy, len), &b)) {
		n = roll_encode(&b, again);
		check(n == len);
		check(memcmp(again, copy, len) == 0);
		check(roll_decode(bytes_of(again, n), &second));
	}
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len)
{
	try_texts(bytes_of(p, len));
	if (len >= SUMMED_FROM)
		try_roll(p, len);
	return 0;
}
