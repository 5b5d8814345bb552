/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pages.h"
#include "base/check.h"
#include <stdint.h>
#include <sys/mman.h>

enum { PAGE_BYTES = 4096 };

static void *map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static void unmap(void *p, size_t bytes)
{
	if (bytes > 0)
		check(munmap(p, bytes) == 0);
}

void *pages_new(size_t bytes)
{
	size_t round = (bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1), lead;
	uint8_t *p;

	check(bytes > 0);
	check(bytes < SIZE_MAX / 2);
	if (round < PAGES_HUGE_BYTES)
		return map(round);
	p = map(round + PAGES_HUGE_BYTES);
	if (p == NULL)
		return NULL;
	lead = -(uintptr_t)p & (PAGES_HUGE_BYTES - 1);
	unmap(p, lead);
	unmap(p + lead + round, PAGES_HUGE_BYTES - lead);
	(void)madvise(p + lead, round, MADV_HUGEPAGE); /* a wish: slower without, never wrong */
	return p + lead;
}

void pages_free(void *p, size_t bytes)
{
	if (p != NULL)
		unmap(p, (bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1));
}
