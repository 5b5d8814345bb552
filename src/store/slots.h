/* SPDX-License-Identifier: Apache-2.0 */
/* slots.h: room in an arena: runs of SLOT_BYTES taken and given back in any order.  Only offsets:
 * the arena's own memory belongs to clients and is never trusted with the books. */
#ifndef STORE_SLOTS_H
#define STORE_SLOTS_H
#include "base/list.h"
#include <stdint.h>

enum { SLOT_BYTES = 4096, SLOT_BINS = 128 };

/* A run, taken or free.  Neighbours in the arena are neighbours in by_offset. */
struct slot {
	struct list by_offset, by_size; /* by_size: only when free */
	uint64_t offset, len;
	bool free;
};

struct slots {
	struct list all;
	struct list bins[SLOT_BINS];
	uint64_t full[SLOT_BINS / 64]; /* one bit for each bin that is not empty */
	uint64_t len, free_bytes;
};

int slots_init(struct slots *s, uint64_t len); /* multiple of SLOT_BYTES; E_NOMEM */
void slots_fini(struct slots *s);              /* frees all slots, taken ones too */
/* A run of len, a multiple of SLOT_BYTES: the slot lives until it is given back.  NULL when no free
 * run is that long (or there is no memory for the books). */
struct slot *slots_take(struct slots *s, uint64_t len);
void slots_give(struct slots *s, struct slot *t); /* free room that touches becomes one run */
void slots_audit(const struct slots *s);
#endif
