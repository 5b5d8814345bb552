/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"
#include <isa-l/crc.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

uint32_t crc32c(uint32_t seed, const void *p, size_t len)
{
	/* isa-l declares the buffer writable but only reads it, takes an int length, and leaves
	 * both inversions to the caller. */
	unsigned char *at = (unsigned char *)(uintptr_t)p;
	uint32_t crc = ~seed;

	for (; len > INT32_MAX; len -= INT32_MAX, at += INT32_MAX)
		crc = crc32_iscsi(at, INT32_MAX, crc);
	return ~crc32_iscsi(at, (int)len, crc);
}

uint64_t hash64(uint64_t seed, const void *p, size_t len)
{
	return XXH3_64bits_withSeed(p, len, seed);
}
