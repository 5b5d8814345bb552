/* SPDX-License-Identifier: Apache-2.0 */
/* Any two of three releases understand each other: what both know arrives unchanged, what one of
 * them lacks is zero, and nothing else is lost. */
#include "wire/version_test.h"
#include "wire/sample.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

enum { OP_ALL = 10, OP_PLAIN = 11, OP_YOUNG = 12, ROOM = 16384, ROUNDS = 50 };

static const struct wire_op *(*const releases[])(uint16_t op) = {
	NULL, version_1_op, version_2_op, version_3_op,
};

static void same_fields(const struct wire_field *a, uint32_t n_a, const void *m_a,
	const struct wire_field *b, uint32_t n_b, const void *m_b, uint16_t agreed);

static void same_list(const struct wire_sub *sub_a, struct wire_list a,
	const struct wire_sub *sub_b, struct wire_list b, uint16_t agreed)
{
	uint64_t s_a[16], s_b[16];
	uint32_t n_a, n_b;
	const struct wire_field *f_a = sub_a->fields(&n_a), *f_b = sub_b->fields(&n_b);

	assert_int_equal(a.n, b.n);
	while (sub_a->next(&a, s_a)) {
		assert_true(sub_b->next(&b, s_b));
		same_fields(f_a, n_a, s_a, f_b, n_b, s_b, agreed);
	}
	assert_int_equal(b.len, 0);
}

static bool is_zero(const void *p, size_t len)
{
	const uint8_t *at = p;

	while (len > 0 && *at == 0) {
		at++;
		len--;
	}
	return len == 0;
}

/* Each field of the receiver b: the sender's value when the agreed version has it, else zero. */
static void same_fields(const struct wire_field *a, uint32_t n_a, const void *m_a,
	const struct wire_field *b, uint32_t n_b, const void *m_b, uint16_t agreed)
{
	for (uint32_t i = 0; i < n_b; i++) {
		const char *at_b = (const char *)m_b + b[i].offset;
		const char *at_a = i < n_a ? (const char *)m_a + a[i].offset : NULL;

		if (b[i].kind == WIRE_NUMBER && b[i].since > agreed) {
			assert_true(is_zero(at_b, b[i].max));
		} else if (b[i].kind == WIRE_LIST && b[i].since > agreed) {
			assert_int_equal(((const struct wire_list *)(const void *)at_b)->n, 0);
		} else if (b[i].since > agreed) {
			assert_int_equal(((const struct bytes *)(const void *)at_b)->len, 0);
		} else if (b[i].kind == WIRE_NUMBER) {
			assert_memory_equal(at_a, at_b, b[i].max);
		} else if (b[i].kind == WIRE_LIST) {
			same_list(a[i].sub, *(const struct wire_list *)(const void *)at_a, b[i].sub,
				*(const struct wire_list *)(const void *)at_b, agreed);
		} else {
			assert_true(bytes_equal(*(const struct bytes *)(const void *)at_a,
				*(const struct bytes *)(const void *)at_b));
		}
	}
}

static void exchange(struct prng *p, uint16_t op, uint16_t from, uint16_t to, uint16_t written)
{
	static char mem[SAMPLE_ARENA_BYTES] __attribute__((aligned(16)));
	static uint8_t room[ROOM];
	const struct wire_op *a = releases[from](op), *b = releases[to](op);
	struct writer w = writer_of(room, sizeof room);
	uint64_t got[64] = { 0 };
	struct arena arena;
	uint32_t n_a, n_b;
	const struct wire_field *f_a = a->fields(&n_a), *f_b = b->fields(&n_b);
	void *m;
	size_t len;

	arena_init(&arena, mem, sizeof mem);
	m = sample_message(p, &arena, a, written);
	assert_true(a->put(&w, m, written));
	len = (size_t)(w.p - room);
	assert_int_equal(len, a->size(m, written));
	assert_int_equal(b->get(room, len, written, got), 0);
	same_fields(f_a, n_a, m, f_b, n_b, got, written < to ? written : to);
}

static void test_matrix(void **state)
{
	struct prng p = prng_fork(1, 0);

	for (uint16_t from = 1; from <= 3; from++)
		for (uint16_t to = 1; to <= 3; to++)
			for (int i = 0; i < ROUNDS; i++) {
				uint16_t agreed = from < to ? from : to;

				exchange(&p, OP_ALL, from, to, agreed);
				exchange(&p, OP_PLAIN, from, to, agreed);
				/* before anything was agreed on: each in its own version */
				exchange(&p, OP_PLAIN, from, to, from);
			}
}

/* Trailing bytes are what a newer sender added, and only that. */
static void test_trailing(void **state)
{
	uint8_t body[24] = { 1 };
	uint64_t got[64] = { 0 };

	for (uint16_t ours = 1; ours <= 3; ours++) {
		const struct wire_op *op = releases[ours](OP_PLAIN);
		uint16_t fixed = (uint16_t)(8 + (ours >= 2 ? 4 : 0) + (ours >= 3 ? 1 : 0));

		assert_int_equal(op->get(body, fixed, ours, got), 0);
		assert_int_equal(op->get(body, fixed + 1u, ours, got), E_CORRUPT);
		assert_int_equal(op->get(body, fixed + 1u, (uint16_t)(ours + 1), got), 0);
		assert_int_equal(op->get(body, fixed - 1u, ours, got), E_CORRUPT);
		assert_int_equal(op->get(body, fixed - 1u, (uint16_t)(ours + 1), got), E_CORRUPT);
	}
}

/* A part has no room behind it: in a version that the reader does not know it is refused. */
static void test_newer_parts(void **state)
{
	struct { uint8_t body[4 + 4 + 8 + 5]; } m = { { 0 } };
	uint64_t got[64] = { 0 };

	put_le32(m.body + 8, 1);  /* one part */
	put_le32(m.body + 12, 5); /* of x and y */
	assert_int_equal(version_1_op(OP_ALL)->get(&m, sizeof m, 2, got), E_CORRUPT);
	put_le32(m.body + 12, 1);
	assert_int_equal(version_1_op(OP_ALL)->get(&m, sizeof m - 4, 1, got), 0);
}

static void test_list_of_another_version(void **state)
{
	static char mem[SAMPLE_ARENA_BYTES] __attribute__((aligned(16)));
	static uint8_t room[ROOM];
	const struct wire_op *op = version_3_op(OP_ALL);
	struct prng p = prng_fork(2, 0);
	struct arena arena;
	uint32_t n;
	const struct wire_field *f = op->fields(&n);

	arena_init(&arena, mem, sizeof mem);
	for (int i = 0; i < ROUNDS; i++, arena_reset(&arena, 0)) {
		struct writer w = writer_of(room, sizeof room);
		char *m = sample_message(&p, &arena, op, 3);
		const struct wire_list *first = (const void *)(m + f[2].offset);
		const struct wire_list *second = (const void *)(m + f[4].offset);
		bool empty = first->n == 0 && second->n == 0;

		assert_int_equal(op->put(&w, m, 2), empty);
		assert_int_equal(w.ok, empty);
	}
}

static void test_since(void **state)
{
	assert_null(version_1_op(OP_YOUNG));
	assert_null(version_2_op(OP_YOUNG));
	assert_non_null(version_3_op(OP_YOUNG));
	assert_int_equal(version_3_op(OP_YOUNG)->since, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_matrix),
		cmocka_unit_test(test_trailing),
		cmocka_unit_test(test_newer_parts),
		cmocka_unit_test(test_list_of_another_version),
		cmocka_unit_test(test_since),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
