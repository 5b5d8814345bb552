/* SPDX-License-Identifier: Apache-2.0 */
/* arena.h: request memory.  Bump allocation, freed all at once.
 *
 * Running out is sticky: arena_alloc() returns NULL and every later call does too, so a builder may
 * chain calls and test arena_ok() once at the end. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H
#include <stdbool.h>
#include <stddef.h>

struct arena { char *base; size_t used, size; bool full; };

void arena_init(struct arena *a, void *mem, size_t size); /* mem 16-aligned, stays the caller's */
void *arena_alloc(struct arena *a, size_t size);          /* zeroed, 16-aligned, or NULL */
void *arena_copy(struct arena *a, const void *from, size_t len);
size_t arena_mark(const struct arena *a);
void arena_reset(struct arena *a, size_t mark); /* frees what came after mark; clears full */
static inline bool arena_ok(const struct arena *a) { return !a->full; }

#define arena_new(a, type) ((type *)arena_alloc((a), sizeof(type)))
#endif
