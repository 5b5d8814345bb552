/* SPDX-License-Identifier: Apache-2.0 */
/* tail.h: the last records of a log, in memory, for those who need them soon: other replicas, and
 * what is applied. */
#ifndef META_TAIL_H
#define META_TAIL_H
#include "base/bytes.h"

/* Whoever keeps one longer than until the next park holds a reference. */
struct tail_record {
	uint64_t index;
	uint32_t refs;
	size_t len;
	uint8_t payload[];
};
void tail_ref(struct tail_record *r);
void tail_unref(struct tail_record *r); /* NULL is fine */

struct tail {
	struct tail_record **ring; /* cap is a power of two; index i at i & (cap - 1) */
	uint64_t first;            /* the oldest */
	uint32_t n, cap;
	size_t bytes, bytes_max; /* bytes_max 0: nothing is kept */
};
void tail_fini(struct tail *t);
void tail_limit(struct tail *t, size_t bytes_max);
/* Indexes come in order; another one than the next begins anew.  Without memory it keeps nothing.
 */
void tail_add(struct tail *t, uint64_t index, struct bytes payload);
void tail_take_back(struct tail *t, uint64_t index);                    /* what is behind it */
struct tail_record *tail_get(const struct tail *t, uint64_t index); /* borrowed; NULL: not here */
#endif
