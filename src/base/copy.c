/* SPDX-License-Identifier: Apache-2.0 */
/* The wide way folds four lines of 64 bytes at a time: carry-less multiplication by x^n mod P moves
 * a 64-bit half n bits ahead in the message, where it is added to the bytes that stand there; what
 * is left after the last line is 64 bytes with the same remainder, which the crc32 instruction
 * finishes.  A line is loaded once, folded and stored, so the copy costs no second pass. */
#include "base/copy.h"
#include "base/check.h"
#include "base/hash.h"
#include <string.h>

typedef uint32_t copy_way(uint32_t seed, void *to, const void *from, size_t len, bool past_cache);

static uint32_t portable(uint32_t seed, void *to, const void *from, size_t len, bool past_cache)
{
	uint32_t crc = crc32c(seed, from, len);

	/* The checksum has brought the bytes into the nearest cache. */
	if (to != NULL && len > 0)
		memcpy(to, from, len);
	return crc;
}

static copy_way *way = portable;
static const char *way_name = "portable";

#if defined(__x86_64__)
#include <immintrin.h>

/* AHEAD: the hardware stops fetching at page ends, and blocks end there; measured, +40 %. */
enum { LINE = 64, STRIDE = 4 * LINE, AHEAD = 2048 };
#define WIDE __attribute__((target("avx512f,avx512vl,vpclmulqdq,pclmul,sse4.2")))

/* Multipliers that move the low and the high half of each 128-bit lane ahead by one line, and by
 * one stride of four. */
static uint64_t by_line[2], by_stride[2];

/* x^n mod P, bit-reflected, in the upper half of 64 bits: the form that the instruction wants. */
static uint64_t power(unsigned n)
{
	uint32_t v = UINT32_C(1) << 31;

	while (n-- > 0)
		v = (v >> 1) ^ (v & 1 ? UINT32_C(0x82f63b78) : 0);
	return (uint64_t)v << 32;
}

static inline WIDE __m512i fold(__m512i sum, __m512i by, __m512i next)
{
	__m512i lo = _mm512_clmulepi64_epi128(sum, by, 0x00);
	__m512i hi = _mm512_clmulepi64_epi128(sum, by, 0x11);

	return _mm512_ternarylogic_epi64(lo, hi, next, 0x96);
}

static inline WIDE void line_put(uint8_t *to, __m512i line, bool past_cache)
{
	if (past_cache)
		_mm512_stream_si512((__m512i *)to, line);
	else
		_mm512_storeu_si512(to, line);
}

static inline WIDE __m512i lanes(const uint64_t by[2])
{
	return _mm512_broadcast_i32x4(_mm_set_epi64x((int64_t)by[1], (int64_t)by[0]));
}

static WIDE uint32_t finish(const __m512i sum[4], __m512i by)
{
	uint64_t left[LINE / 8], crc = 0;

	_mm512_storeu_si512(left, fold(fold(fold(sum[0], by, sum[1]), by, sum[2]), by, sum[3]));
	for (int i = 0; i < LINE / 8; i++)
		crc = _mm_crc32_u64(crc, left[i]);
	return (uint32_t)crc;
}

static inline WIDE uint32_t strides(uint32_t seed, uint8_t *to, const uint8_t *from, size_t n,
	bool copy, bool past_cache)
{
	__m512i line = lanes(by_line), stride = lanes(by_stride);
	__m512i sum[4], next;

	for (int i = 0; i < 4; i++) {
		sum[i] = _mm512_loadu_si512(from + i * LINE);
		if (copy)
			line_put(to + i * LINE, sum[i], past_cache);
	}
	sum[0] = _mm512_xor_si512(sum[0], _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)~seed)));
	while (--n > 0) {
		from += STRIDE;
		to += copy ? STRIDE : 0;
		for (int i = 0; i < 4; i++) {
			_mm_prefetch((const char *)from + i * LINE + AHEAD, _MM_HINT_T0);
			next = _mm512_loadu_si512(from + i * LINE);
			if (copy)
				line_put(to + i * LINE, next, past_cache);
			sum[i] = fold(sum[i], stride, next);
		}
	}
	return ~finish(sum, line);
}

static WIDE uint32_t wide(uint32_t seed, void *to, const void *from, size_t len, bool past_cache)
{
	size_t n = len / STRIDE, rest = len % STRIDE;

	if (n == 0)
		return portable(seed, to, from, len, false);
	if (to == NULL)
		seed = strides(seed, NULL, from, n, false, false);
	else if (past_cache && (uintptr_t)to % LINE == 0)
		seed = strides(seed, to, from, n, true, true);
	else
		seed = strides(seed, to, from, n, true, false);
	if (rest == 0)
		return seed;
	return portable(seed, to == NULL ? NULL : (uint8_t *)to + (len - rest),
		(const uint8_t *)from + (len - rest), rest, false);
}

/* Before main, so that the choice needs no lock. */
__attribute__((constructor)) static void choose(void)
{
	__builtin_cpu_init();
	if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512vl") ||
		!__builtin_cpu_supports("vpclmulqdq") || !__builtin_cpu_supports("sse4.2"))
		return;
	/* A product of two reflected numbers stands one bit too high, hence the - 1. */
	by_line[0] = power(8 * LINE + 64 - 1);
	by_line[1] = power(8 * LINE - 1);
	by_stride[0] = power(8 * STRIDE + 64 - 1);
	by_stride[1] = power(8 * STRIDE - 1);
	way = wide;
	way_name = "avx512";
}

/* Streaming stores are weakly ordered: whoever is told next must see the bytes. */
static void settle(bool past_cache)
{
	if (past_cache)
		_mm_sfence();
}
#else
static void settle(bool past_cache) {}
#endif

uint32_t crc32c_copy(uint32_t seed, void *to, const void *from, size_t len)
{
	check(to != NULL || len == 0);
	return way(seed, to, from, len, false);
}

void crc32c_blocks(uint32_t *sums, size_t block_len, void *to, const void *from, size_t len,
	bool past_cache)
{
	const uint8_t *at = from;
	uint8_t *out = to;
	size_t part;

	check(block_len > 0);
	for (; len > 0; len -= part, at += part, sums++) {
		part = len < block_len ? len : block_len;
		*sums = way(*sums, out, at, part, past_cache);
		out = out != NULL ? out + part : NULL;
	}
	settle(past_cache && to != NULL);
}

const char *crc32c_way(void) { return way_name; }
