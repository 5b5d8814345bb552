/* SPDX-License-Identifier: Apache-2.0 */
/* words.h: numbers, sizes and times as people write them, and the word they probably meant. */
#ifndef CLI_WORDS_H
#define CLI_WORDS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All return false, and leave the result alone, on anything that is not wholly understood or does
 * not fit 64 bits. */
bool words_count(const char *text, uint64_t *ret_n);
/* "4096", "64K", "64KiB", "1.5G": powers of 1024; "64KB", "1GB": powers of 1000.  Bytes. */
bool words_size(const char *text, uint64_t *ret_bytes);
bool words_rate(const char *text, uint64_t *ret_bps);  /* a size, "/s" or not */
bool words_time(const char *text, uint64_t *ret_ms);   /* "500ms", "1.5h", "7d"; bare: seconds */
bool words_tiers(const char *text, uint64_t *ret_bits); /* "dram,flash" */

/* These write at most WORDS_MAX bytes and return ret_text. */
enum { WORDS_MAX = 32 };
const char *words_put_size(uint64_t bytes, char ret_text[WORDS_MAX]); /* "1.5 GiB", "17 B" */
const char *words_put_time(uint64_t ms, char ret_text[WORDS_MAX]);    /* "1h 02m", "3.2 s" */
const char *words_put_brief(uint64_t ns, char ret_text[WORDS_MAX]);   /* "68 us", "4.1 ms" */
/* "1 job", "2 jobs"; noun is the singular, to which an s can be added. */
const char *words_put_count(uint64_t n, const char *noun, char ret_text[WORDS_MAX]);
const char *words_put_tiers(uint32_t bits, char ret_text[WORDS_MAX]); /* "dram,flash"; none: "-" */
const char *words_tier(unsigned tier);                                /* "dram" */

/* Edits (insert, delete, replace, swap of neighbours) from a to b; large when longer than 40
 * bytes. */
unsigned words_distance(const char *a, const char *b);
/* True when b is near enough to a to be what was meant. */
bool words_near(const char *a, const char *b);
#endif
