/* SPDX-License-Identifier: Apache-2.0 */
/* How fast the checksums of an extent are, beside memcpy over the same warm memory.
 * usage: sums-bench [BYTES [ROUNDS]] */
#include "base/copy.h"
#include "base/sums.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static uint8_t *pages(size_t len)
{
	uint8_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(i * 2654435761u >> 7);
	return p;
}

enum { KINDS = 3, ROUNDS_MAX = 1000, SLICES = 8 };
static const char *const kinds[KINDS] = { "memcpy", "crc", "crc_copy" };
static double took[KINDS][ROUNDS_MAX];

static void round_of(int round, uint8_t *to, const uint8_t *from, size_t len, uint32_t *sums)
{
	double from_s;

	for (int k = 0; k < KINDS; k++) {
		from_s = now_s();
		if (k == 0)
			memcpy(to, from, len);
		else if (k == 1)
			sums_compute(1, 0, from, len, sums);
		else
			sums_copy(1, 0, to, from, len, sums);
		took[k][round] = now_s() - from_s;
	}
}

int main(int argc, char **argv)
{
	size_t len = argc > 1 ? strtoul(argv[1], NULL, 0) : 16u << 20, at;
	int rounds = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 101;
	uint8_t *from = pages(len * SLICES), *to = pages(len * SLICES);
	double median;
	uint32_t *sums = calloc(sums_count(len), sizeof *sums);

	if (sums == NULL || rounds < 1 || rounds > ROUNDS_MAX)
		return 2;
	for (int i = 0; i < rounds; i++) { /* a new slice each round: out of the caches */
		at = (size_t)(i % SLICES) * len;
		round_of(i, to + at, from + at, len, sums);
	}
	printf("way %s, %zu bytes, %d rounds\n", crc32c_way(), len, rounds);
	for (int k = 0; k < KINDS; k++) {
		qsort(took[k], (size_t)rounds, sizeof took[k][0], ascending);
		median = took[k][rounds / 2];
		printf("%-9s median %6.2f GB/s  best %6.2f GB/s  rate/memcpy %.3f\n", kinds[k],
			(double)len / median / 1e9, (double)len / took[k][0] / 1e9,
			took[0][rounds / 2] / median);
	}
	free(sums);
	return 0;
}
