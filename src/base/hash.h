/* SPDX-License-Identifier: Apache-2.0 */
/* hash.h: the checksums and hashes of the system, over isa-l and xxhash. */
#ifndef BASE_HASH_H
#define BASE_HASH_H
#include <stddef.h>
#include <stdint.h>

/* CRC32C (Castagnoli) of len bytes, continuing from seed (0 to begin).  crc32c(0, "123456789", 9)
 * is 0xe3069283; crc32c(crc32c(0, a), b) is the checksum of a followed by b. */
uint32_t crc32c(uint32_t seed, const void *p, size_t len);

/* XXH3, 64 bits.  For tables in memory; seeded so that a peer cannot choose collisions. */
uint64_t hash64(uint64_t seed, const void *p, size_t len);
#endif
