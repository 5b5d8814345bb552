/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/sample.h"
#include "base/check.h"

enum { LIST_ROOM_BYTES = 8192, LIST_PARTS_MAX = 6, BYTES_USUAL = 40 };

static void fill(struct prng *p, struct arena *a, const struct wire_field *fields, uint32_t n,
	uint16_t version, void *m);

static uint64_t sample_number(struct prng *p)
{
	uint64_t v = prng_next(p);

	switch (prng_below(p, 4)) {
	case 0: return 0;
	case 1: return UINT64_MAX;
	case 2: return v & 0xff;
	default: return v;
	}
}

static struct bytes sample_bytes(struct prng *p, struct arena *a, uint32_t max)
{
	uint64_t usual = max < BYTES_USUAL ? max : BYTES_USUAL;
	size_t len = prng_odds(p, 1, 8) ? max : prng_below(p, usual + 1);
	uint8_t *to = arena_alloc(a, len);

	check(to != NULL);
	for (size_t i = 0; i < len; i++)
		to[i] = (uint8_t)prng_next(p);
	return bytes_of(to, len);
}

static struct wire_list sample_list(struct prng *p, struct arena *a, const struct wire_sub *sub,
	uint32_t max, uint16_t version)
{
	uint32_t want = (uint32_t)prng_below(p, (max < LIST_PARTS_MAX ? max : LIST_PARTS_MAX) + 1);
	struct wire_list_builder b = wire_list_begin(arena_alloc(a, LIST_ROOM_BYTES),
		LIST_ROOM_BYTES, version);
	void *s = arena_alloc(a, sub->struct_bytes);
	uint32_t n;
	const struct wire_field *fields = sub->fields(&n);

	check(arena_ok(a));
	for (uint32_t i = 0; i < want; i++) {
		fill(p, a, fields, n, version, s);
		if (!sub->add(&b, s))
			break;
	}
	return wire_list_end(&b);
}

static void fill(struct prng *p, struct arena *a, const struct wire_field *fields, uint32_t n,
	uint16_t version, void *m)
{
	for (const struct wire_field *f = fields; f < fields + n; f++) {
		char *at = (char *)m + f->offset;
		uint8_t number[8];

		switch (f->kind) {
		case WIRE_NUMBER:
			put_le64(number, sample_number(p));
			memcpy(at, number, f->max); /* on either kind of machine: a number */
			break;
		case WIRE_BYTES:
		case WIRE_SECRET:
			*(struct bytes *)(void *)at = sample_bytes(p, a, f->max);
			break;
		case WIRE_LIST:
			*(struct wire_list *)(void *)at = sample_list(p, a, f->sub, f->max,
				version);
			break;
		}
	}
}

void *sample_message(struct prng *p, struct arena *a, const struct wire_op *op, uint16_t version)
{
	void *m = arena_alloc(a, op->struct_bytes);
	uint32_t n;
	const struct wire_field *fields = op->fields(&n);

	check(m != NULL);
	fill(p, a, fields, n, version, m);
	return m;
}
