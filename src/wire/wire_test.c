/* SPDX-License-Identifier: Apache-2.0 */
/* Every message survives the way there and back; what is not a message is E_CORRUPT and is never
 * read past its end; bytes that decode are the only encoding of what they decode to. */
#include "wire/frame.h"
#include "wire/sample.h"
#include "base/limit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

enum { ROUNDS = 20, FLIPS = 60 };

struct encoded { uint8_t *p; size_t len; }; /* of malloc, of exactly that size */

static char *text_of(const struct wire_op *op, const void *m)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	wire_print(op, m, f);
	fclose(f);
	return text;
}

static struct encoded encode(const struct wire_op *op, const void *m)
{
	struct encoded e = { NULL, op->size(m, WIRE_VERSION) };
	struct writer w;

	e.p = malloc(e.len > 0 ? e.len : 1);
	assert_non_null(e.p);
	w = writer_of(e.p, e.len);
	assert_true(op->put(&w, m, WIRE_VERSION));
	assert_true(w.ok && w.p == e.p + e.len);
	return e;
}

/* Calls each for samples of all messages. */
static void with_samples(void (*each)(struct prng *p, const struct wire_op *op, const void *m,
	struct encoded e))
{
	static char mem[SAMPLE_ARENA_BYTES] __attribute__((aligned(16)));
	struct prng p = prng_fork(7, 1);
	struct arena a;
	unsigned n = 0;

	arena_init(&a, mem, sizeof mem);
	for (unsigned i = 0; i < WIRE_OPS_MAX; i++) {
		const struct wire_op *op = wire_op((uint16_t)i);

		for (int round = 0; op != NULL && round < ROUNDS; round++) {
			const void *m = sample_message(&p, &a, op, WIRE_VERSION);
			struct encoded e = encode(op, m);

			each(&p, op, m, e);
			free(e.p);
			arena_reset(&a, 0);
			n++;
		}
	}
	assert_true(n >= 40 * ROUNDS);
}

static void round_trip(struct prng *p, const struct wire_op *op, const void *m, struct encoded e)
{
	uint64_t got[64];
	char *before = text_of(op, m), *after;
	struct encoded again;

	assert_true(op->struct_bytes <= sizeof got);
	assert_int_equal(op->get(e.p, e.len, WIRE_VERSION, got), 0);
	after = text_of(op, got);
	assert_string_equal(before, after);
	again = encode(op, got);
	assert_int_equal(again.len, e.len);
	assert_memory_equal(again.p, e.p, e.len);
	free(again.p);
	free(before);
	free(after);
}

static void test_round_trip(void **state) { with_samples(round_trip); }

/* Too short at any length is refused, leaves the struct alone, and stays inside its bytes, which
 * end at the end of a heap block. */
static void truncations(struct prng *p, const struct wire_op *op, const void *m, struct encoded e)
{
	size_t step = 1 + e.len / 400;
	uint64_t got[64], before[64];

	memset(before, 0xa5, sizeof before);
	for (size_t len = 0; len < e.len; len += step) {
		uint8_t *cut = malloc(len > 0 ? len : 1);

		memcpy(cut, e.p, len);
		memcpy(got, before, sizeof got);
		assert_int_equal(op->get(cut, len, WIRE_VERSION, got), E_CORRUPT);
		assert_memory_equal(got, before, sizeof got);
		free(cut);
	}
}

static void test_truncations(void **state) { with_samples(truncations); }

static void flips(struct prng *p, const struct wire_op *op, const void *m, struct encoded e)
{
	uint64_t got[64];

	for (int i = 0; i < FLIPS && e.len > 0; i++) {
		size_t at = prng_below(p, e.len);
		uint8_t was = e.p[at];
		int rc;

		e.p[at] = (uint8_t)prng_next(p);
		rc = op->get(e.p, e.len, WIRE_VERSION, got);
		assert_true(rc == 0 || rc == E_CORRUPT);
		if (rc == 0) {
			struct encoded again = encode(op, got);

			assert_int_equal(again.len, e.len);
			assert_memory_equal(again.p, e.p, e.len);
			free(again.p);
		}
		e.p[at] = was;
	}
}

static void test_flipped_bytes(void **state) { with_samples(flips); }

static void short_room(struct prng *p, const struct wire_op *op, const void *m, struct encoded e)
{
	for (size_t len = 0; len < e.len; len += 1 + e.len / 50) {
		struct writer w = writer_of(e.p, len);

		assert_false(op->put(&w, m, WIRE_VERSION));
		assert_false(w.ok);
		assert_ptr_equal(w.p, e.p);
	}
}

static void test_short_room(void **state) { with_samples(short_room); }

/* A version is appended to, never inserted into. */
static void in_order(const struct wire_field *f, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		assert_true(f[i].since >= 1);
		assert_true(f[i].since <= WIRE_VERSION);
		assert_true(i == 0 || f[i].since >= f[i - 1].since);
		if (f[i].kind == WIRE_LIST) {
			uint32_t n_parts;
			const struct wire_field *parts = f[i].sub->fields(&n_parts);

			in_order(parts, n_parts);
		}
	}
}

static void test_rows(void **state)
{
	for (unsigned i = 0; i <= UINT16_MAX; i++) {
		const struct wire_op *op = wire_op((uint16_t)i);
		const struct wire_field *f;
		uint32_t n;

		if (op == NULL)
			continue;
		f = op->fields(&n);
		assert_int_equal(op->op, i);
		in_order(f, n);
	}
	assert_string_equal(wire_op_name(OP_put), "put");
	assert_string_equal(wire_op_name(9999), "?");
}

static void test_bounds(void **state)
{
	uint8_t room[2048], name[1025] = { 0 };
	struct msg_put m = { .name = bytes_of(name, 1025) };
	struct writer w = writer_of(room, sizeof room);
	size_t at = msg_put_size(&(struct msg_put){ .bucket = 1 }, 1) - 4;

	assert_false(msg_put_put(&w, &m, 1));
	m.name.len = 1024;
	w = writer_of(room, sizeof room);
	assert_true(msg_put_put(&w, &m, 1));
	assert_int_equal(msg_put_get(room, at + 4 + 1024, 1, &m), 0);
	put_le32(room + at, 1025); /* all there, but longer than its row allows */
	assert_int_equal(msg_put_get(room, at + 4 + 1025, 1, &m), E_CORRUPT);
	put_le32(room + at, UINT32_MAX);
	assert_int_equal(msg_put_get(room, at + 4 + 1024, 1, &m), E_CORRUPT);
}

static void test_lists(void **state)
{
	uint8_t room[64], body[256];
	struct wire_list_builder b = wire_list_begin(room, sizeof room, WIRE_VERSION);
	struct sub_extent_id id = { 0 };
	struct msg_extent_drop m = { .epoch = 3 };
	struct writer w = writer_of(body, sizeof body);
	size_t len;

	for (id.extent = 10; sub_extent_id_add(&b, &id); id.extent++)
		;
	assert_int_equal(id.extent, 14); /* four of 16 bytes */
	m.extents = wire_list_end(&b);
	assert_int_equal(m.extents.n, 4);
	assert_true(msg_extent_drop_put(&w, &m, WIRE_VERSION));
	len = (size_t)(w.p - body);
	assert_int_equal(msg_extent_drop_get(body, len, WIRE_VERSION, &m), 0);
	for (uint64_t want = 10; sub_extent_id_next(&m.extents, &id); want++)
		assert_int_equal(id.extent, want);
	assert_false(sub_extent_id_next(&m.extents, &id));
	put_le32(body + 8, 3); /* one part fewer than the bytes hold */
	assert_int_equal(msg_extent_drop_get(body, len, WIRE_VERSION, &m), E_CORRUPT);
	put_le32(body + 8, 5);
	assert_int_equal(msg_extent_drop_get(body, len, WIRE_VERSION, &m), E_CORRUPT);
	put_le32(body + 8, UINT32_MAX);
	assert_int_equal(msg_extent_drop_get(body, len, WIRE_VERSION, &m), E_CORRUPT);
}

static void test_print(void **state)
{
	uint8_t room[64];
	struct wire_list_builder b = wire_list_begin(room, sizeof room, WIRE_VERSION);
	struct msg_extent_drop drop = { .epoch = 9 };
	struct msg_hello hello = { 1, ROLE_CLIENT, 2, 3, BYTES("secret"), BYTES("a\"b\n") };
	char *text = text_of(wire_op(OP_hello), &hello);

	assert_string_equal(text, "hello version=1 role=1 client_hi=2 client_lo=3"
		" token=<6 bytes> name=\"a\\x22b\\x0a\"");
	free(text);
	text = text_of(wire_op(OP_extent_drop), &drop);
	assert_string_equal(text, "extent_drop epoch=9 extents=[]");
	free(text);
	sub_extent_id_add(&b, &(struct sub_extent_id){ 1, 2 });
	sub_extent_id_add(&b, &(struct sub_extent_id){ 3, 4 });
	drop.extents = wire_list_end(&b);
	text = text_of(wire_op(OP_extent_drop), &drop);
	assert_string_equal(text,
		"extent_drop epoch=9 extents=[{ egroup=1 extent=2 } { egroup=3 extent=4 }]");
	free(text);
}

static void test_frame(void **state)
{
	static uint8_t data[LIMIT_INLINE_BYTES_MAX + 1];
	uint8_t header[FRAME_HEADER_BYTES], whole[FRAME_HEADER_BYTES + 24];
	uint8_t body[16] = "sixteen bytes..";
	struct frame f = { .body_len = 16, .data_len = 8, .op = 7, .version = 1, .cookie = 99,
		.flags = FRAME_REPLY }, g;

	frame_put(&f, body, data, header);
	assert_int_equal(frame_get(header, &g), 0);
	assert_int_equal(g.body_len, 16);
	assert_int_equal(g.data_len, 8);
	assert_int_equal(g.op, 7);
	assert_int_equal(g.version, 1);
	assert_int_equal(g.cookie, 99);
	assert_int_equal(g.flags, FRAME_REPLY);
	assert_int_equal(g.crc, f.crc);
	assert_true(frame_verify(&g, header, body, data));
	memcpy(whole, header, FRAME_HEADER_BYTES);
	memcpy(whole + FRAME_HEADER_BYTES, body, 16);
	memcpy(whole + FRAME_HEADER_BYTES + 16, data, 8);
	assert_true(frame_verify(&g, whole, whole + 32, whole + 48)); /* in one piece alike */
	for (size_t i = 0; i < sizeof whole; i++) {
		whole[i] ^= 0x10;
		assert_false(frame_get(whole, &g) == 0
			&& frame_verify(&g, whole, whole + 32, whole + 48));
		whole[i] ^= 0x10;
	}
	f.data_len = LIMIT_INLINE_BYTES_MAX; /* covered to the last byte */
	frame_put(&f, body, data, header);
	data[LIMIT_INLINE_BYTES_MAX - 1] ^= 1;
	assert_false(frame_verify(&f, header, body, data));
	f.data_len++;                        /* not covered: it carries checksums of its own */
	frame_put(&f, body, NULL, header);
	assert_true(frame_verify(&f, header, body, NULL));
}

static void test_frame_limits(void **state)
{
	uint8_t header[FRAME_HEADER_BYTES];
	struct frame f = { .op = 7, .version = 1 }, g;

	frame_put(&f, NULL, NULL, header);
	assert_int_equal(frame_get(header, &g), 0);
	put_le32(header + 4, LIMIT_FRAME_BODY_BYTES_MAX);
	put_le32(header + 8, LIMIT_FRAME_DATA_BYTES_MAX);
	assert_int_equal(frame_get(header, &g), 0);
	put_le32(header + 4, LIMIT_FRAME_BODY_BYTES_MAX + 1);
	assert_int_equal(frame_get(header, &g), E_CORRUPT);
	put_le32(header + 4, 0);
	put_le32(header + 8, LIMIT_FRAME_DATA_BYTES_MAX + 1);
	assert_int_equal(frame_get(header, &g), E_CORRUPT);
	put_le32(header + 8, 0);
	put_le32(header + 24, 2);
	assert_int_equal(frame_get(header, &g), E_CORRUPT);
	put_le32(header + 24, 0);
	put_le16(header + 14, 0);
	assert_int_equal(frame_get(header, &g), E_CORRUPT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_truncations),
		cmocka_unit_test(test_flipped_bytes),
		cmocka_unit_test(test_short_room),
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_print),
		cmocka_unit_test(test_frame),
		cmocka_unit_test(test_frame_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
