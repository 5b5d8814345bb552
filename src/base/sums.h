/* SPDX-License-Identifier: Apache-2.0 */
/* sums.h: the checksums of an extent.
 *
 * An extent is cut into blocks of LIMIT_BLOCK_BYTES, the last one as long as what is left.  The sum
 * of block n is crc32c over (extent id, n) as two little-endian u64 and then the block's bytes, so
 * bytes that belong to another place are as wrong as flipped ones.  The *root* is crc32c over the
 * sums in order, little-endian u32 each; it stands in the extent's row and travels on the wire.
 *
 * Sums are numbers of this machine in memory; sums_put() and sums_get() change to and from the
 * wire. */
#ifndef BASE_SUMS_H
#define BASE_SUMS_H
#include "base/limit.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* From this length on a copy goes around the caches. */
enum { SUMS_PAST_CACHE_BYTES = 1 << 20 };

static inline size_t sums_count(uint64_t len) /* blocks of an extent of len bytes */
{
	return (size_t)(len / LIMIT_BLOCK_BYTES + (len % LIMIT_BLOCK_BYTES != 0));
}

/* Sums of len bytes that begin at block first; room for sums_count(len). */
void sums_compute(uint64_t extent, uint64_t first, const void *data, size_t len,
	uint32_t *ret_sums);
/* The same while copying: one pass over the memory. */
void sums_copy(uint64_t extent, uint64_t first, void *to, const void *from, size_t len,
	uint32_t *ret_sums);
uint32_t sums_root(const uint32_t *sums, size_t n);
/* True when the bytes are those that sums[0..] were made of.  *ret_bad (may be NULL) is the first
 * block that is not, counted from the extent's start. */
bool sums_verify(uint64_t extent, uint64_t first, const void *data, size_t len,
	const uint32_t *sums, uint64_t *ret_bad);

void sums_put(void *to, const uint32_t *sums, size_t n);   /* 4 * n bytes */
void sums_get(uint32_t *ret_sums, const void *from, size_t n);
#endif
