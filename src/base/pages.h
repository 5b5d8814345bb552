/* SPDX-License-Identifier: Apache-2.0 */
/* pages.h: memory taken from the system and given back to it at once, for what is large and dies as
 * a whole.  (Large blocks from malloc() may stay with the process after free().) */
#ifndef BASE_PAGES_H
#define BASE_PAGES_H
#include <stddef.h>

enum { PAGES_HUGE_BYTES = 2 << 20 };

/* Zeroed, page-aligned, not resident until it is touched; from PAGES_HUGE_BYTES on aligned to that
 * and, where the system offers it, in huge pages.  NULL when there is none. */
void *pages_new(size_t bytes);
void pages_free(void *p, size_t bytes); /* bytes as asked for; NULL is fine */
#endif
