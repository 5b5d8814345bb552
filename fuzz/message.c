/* SPDX-License-Identifier: Apache-2.0 */
/* A message of any kind and version: op u16, version u16, fields.  What decodes can be printed, is
 * encoded into the size announced, and decodes from there to the same again. */
#include "base/check.h"
#include "fuzz/fuzz.h"
#include "wire/sample.h"
#include <stdlib.h>

enum { STRUCT_MAX = 4096 };

static void again(const struct wire_op *op, const void *m)
{
	size_t size = op->size(m, WIRE_VERSION);
	uint8_t *first = malloc(size + 1), *second = malloc(size + 1);
	static _Alignas(16) uint8_t copy[STRUCT_MAX];
	struct writer w = writer_of(first, size);

	check(first != NULL && second != NULL);
	check(op->put(&w, m, WIRE_VERSION));
	check(w.p == first + size);
	check(op->get(first, size, WIRE_VERSION, copy) == 0);
	check(op->size(copy, WIRE_VERSION) == size);
	w = writer_of(second, size);
	check(op->put(&w, copy, WIRE_VERSION));
	check(memcmp(first, second, size) == 0);
	free(first);
	free(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len)
{
	static _Alignas(16) uint8_t m[STRUCT_MAX];
	static FILE *nowhere;
	const struct wire_op *op;
	uint16_t version;

	if (len < 4 || (op = wire_op(le16(p))) == NULL)
		return 0;
	version = le16(p + 2);
	check(op->struct_bytes <= STRUCT_MAX);
	if (op->get(p + 4, len - 4, version, m) < 0)
		return 0;
	if (nowhere == NULL)
		nowhere = fopen("/dev/null", "w");
	check(nowhere != NULL);
	wire_print(op, m, nowhere);
	if (version == WIRE_VERSION)
		again(op, m);
	return 0;
}

/* So that a message that was added is tried before anybody has fuzzed it. */
void fuzz_seeds(void (*run)(const uint8_t *p, size_t len))
{
	static char mem[SAMPLE_ARENA_BYTES] __attribute__((aligned(16)));
	static uint8_t seed[1 << 14];
	struct prng p = prng_fork(11, 11);
	struct arena a;

	arena_init(&a, mem, sizeof mem);
	for (unsigned i = 0; i < WIRE_OPS_MAX; i++, arena_reset(&a, 0)) {
		const struct wire_op *op = wire_op((uint16_t)i);
		struct writer w = writer_of(seed, sizeof seed);

		if (op == NULL)
			continue;
		write_u16(&w, op->op);
		write_u16(&w, WIRE_VERSION);
		if (op->put(&w, sample_message(&p, &a, op, WIRE_VERSION), WIRE_VERSION))
			run(seed, (size_t)(w.p - seed));
	}
}
