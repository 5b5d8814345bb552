/* SPDX-License-Identifier: Apache-2.0 */
/* slab.h: memory for the bytes of small files, 1 to LIMIT_INLINE_BYTES_MAX of them each.
 *
 * Pages of SLAB_PAGE_BYTES are cut into equal slots of one size class; a slot is at most 7 bytes or
 * one sixteenth longer than what it holds.  A freed slot is used again by the next put of its
 * class, a page without slots in use by any class.  Exact: used + waste + free + held back is what
 * was taken from the system. */
#ifndef META_SLAB_H
#define META_SLAB_H
#include "base/bytes.h"
#include "base/err.h"

enum { SLAB_PAGE_BYTES = 128 << 10 };

struct slab;
int slab_new(uint64_t bytes_max, struct slab **ret_s); /* at least one page; E_NOMEM */
void slab_free(struct slab *s);                        /* NULL is fine */

/* Copies the bytes in: 0, a handle (never 0) and their crc32c; or E_FULL. */
int slab_put(struct slab *s, struct bytes b, uint64_t *ret_handle, uint32_t *ret_crc);
/* The bytes, borrowed until they are dropped; p is NULL when no slot in use of that size has this
 * handle (handles come back from rows, which are foreign). */
struct bytes slab_get(const struct slab *s, uint64_t handle, size_t len);
void slab_drop(
	struct slab *s, uint64_t handle, size_t len); /* handle and len are as put: else a bug */

struct slab_status {
	uint64_t limit_bytes;    /* = used + rounding + slots free + idle */
	uint64_t used_bytes;     /* in files */
	uint64_t rounding_bytes; /* slots in use less what they hold, and the ends of pages */
	uint64_t free_bytes;     /* free slots of pages with a class */
	uint64_t idle_bytes;     /* pages without a class: not yet or no longer taken */
	uint64_t held_bytes;     /* taken from the system: may be below limit_bytes */
	uint64_t files;
};
void slab_status(const struct slab *s, struct slab_status *ret_st);
void slab_audit(const struct slab *s); /* walks everything; a failed check when a sum is wrong */
#endif
