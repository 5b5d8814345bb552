/* SPDX-License-Identifier: Apache-2.0 */
#include "base/sums.h"
#include "base/bytes.h"
#include "base/check.h"
#include "base/copy.h"
#include "base/hash.h"

/* Blocks whose checksums are compared at once, so that a range needs no memory of its size. */
enum { VERIFY_BLOCKS = 64 };

static void seed(uint64_t extent, uint64_t first, size_t n, uint32_t *ret_sums)
{
	uint8_t place[16];
	uint32_t front;

	put_le64(place, extent);
	front = crc32c(0, place, 8);
	for (size_t i = 0; i < n; i++) {
		put_le64(place + 8, first + i);
		ret_sums[i] = crc32c(front, place + 8, 8);
	}
}

void sums_compute(uint64_t extent, uint64_t first, const void *data, size_t len, uint32_t *ret_sums)
{
	seed(extent, first, sums_count(len), ret_sums);
	crc32c_blocks(ret_sums, LIMIT_BLOCK_BYTES, NULL, data, len, false);
}

void sums_copy(uint64_t extent, uint64_t first, void *to, const void *from, size_t len,
	uint32_t *ret_sums)
{
	check(to != NULL || len == 0);
	seed(extent, first, sums_count(len), ret_sums);
	crc32c_blocks(ret_sums, LIMIT_BLOCK_BYTES, to, from, len, len >= SUMS_PAST_CACHE_BYTES);
}

uint32_t sums_root(const uint32_t *sums, size_t n)
{
	uint32_t root = 0;
	uint8_t le[4];

	if (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
		return crc32c(0, sums, n * sizeof *sums);
	for (size_t i = 0; i < n; i++) {
		put_le32(le, sums[i]);
		root = crc32c(root, le, sizeof le);
	}
	return root;
}

bool sums_verify(uint64_t extent, uint64_t first, const void *data, size_t len,
	const uint32_t *sums, uint64_t *ret_bad)
{
	const uint8_t *at = data;
	uint32_t is[VERIFY_BLOCKS];
	size_t done = 0, part, n;

	for (; done < len; done += part) {
		part = len - done;
		if (part > sizeof is / sizeof is[0] * LIMIT_BLOCK_BYTES)
			part = sizeof is / sizeof is[0] * LIMIT_BLOCK_BYTES;
		n = sums_count(part);
		sums_compute(extent, first + done / LIMIT_BLOCK_BYTES, at + done, part, is);
		for (size_t i = 0; i < n; i++) {
			if (is[i] == sums[done / LIMIT_BLOCK_BYTES + i])
				continue;
			if (ret_bad != NULL)
				*ret_bad = first + done / LIMIT_BLOCK_BYTES + i;
			return false;
		}
	}
	return true;
}

void sums_put(void *to, const uint32_t *sums, size_t n)
{
	for (size_t i = 0; i < n; i++)
		put_le32((uint8_t *)to + 4 * i, sums[i]);
}

void sums_get(uint32_t *ret_sums, const void *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		ret_sums[i] = le32((const uint8_t *)from + 4 * i);
}
