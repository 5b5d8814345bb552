/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"
#include "base/check.h"
#include <stdint.h>
#include <string.h>

enum { ALIGN = 16 };

void arena_init(struct arena *a, void *mem, size_t size)
{
	check(mem != NULL);
	check((uintptr_t)mem % ALIGN == 0);
	*a = (struct arena){ .base = mem, .size = size & ~(size_t)(ALIGN - 1) };
}

void *arena_alloc(struct arena *a, size_t size)
{
	size_t left = a->size - a->used;
	void *p;

	check(a->used <= a->size);
	if (a->full || size > left) {
		a->full = true;
		return NULL;
	}
	/* left is a multiple of ALIGN, so rounding size up cannot pass it */
	p = a->base + a->used;
	a->used += (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	check(a->used <= a->size);
	return memset(p, 0, size);
}

void *arena_copy(struct arena *a, const void *from, size_t len)
{
	void *p = arena_alloc(a, len);

	return p == NULL || len == 0 ? p : memcpy(p, from, len);
}

size_t arena_mark(const struct arena *a) { return a->used; }

void arena_reset(struct arena *a, size_t mark)
{
	check(mark <= a->used);
	check(mark % ALIGN == 0);
	a->used = mark;
	a->full = false;
}
