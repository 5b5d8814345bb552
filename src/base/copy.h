/* SPDX-License-Identifier: Apache-2.0 */
/* copy.h: CRC32C fused with copying, at the speed of the memory.  The best way of this processor is
 * chosen when the program starts; every way gives the same numbers. */
#ifndef BASE_COPY_H
#define BASE_COPY_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Copies len bytes (not overlapping) and returns what crc32c(seed, from, len) does. */
uint32_t crc32c_copy(uint32_t seed, void *to, const void *from, size_t len);

/* Blocks of block_len bytes, the last one shorter: sums[i] is the seed of block i and becomes its
 * checksum.  to may be NULL: nothing is copied.  past_cache: the copy is written around the
 * caches, right when it is large and not read soon. */
void crc32c_blocks(uint32_t *sums, size_t block_len, void *to, const void *from, size_t len,
	bool past_cache);

/* "avx512", "portable": which way was chosen; for status pages and benches. */
const char *crc32c_way(void);
#endif
