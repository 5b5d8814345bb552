/* SPDX-License-Identifier: Apache-2.0 */
/* sample.h: messages with random content, filled field by field from the table: for tests and for
 * the seeds of the fuzzers. */
#ifndef WIRE_SAMPLE_H
#define WIRE_SAMPLE_H
#include "base/arena.h"
#include "base/prng.h"
#include "wire/wire.h"

enum { SAMPLE_ARENA_BYTES = 1 << 20 }; /* enough for any sample */

/* A message of op in the arena, its lists built for version.  Lengths and numbers are drawn so that
 * the ends of their ranges come up often. */
void *sample_message(struct prng *p, struct arena *a, const struct wire_op *op, uint16_t version);
#endif
