/* SPDX-License-Identifier: Apache-2.0 */
/* A capability opens what it was minted for, while it lasts, and nothing else. */
#include "core/cap.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static const struct cap_key keys[2] = { { 4, "01234567890123456789012345678901" },
	{ 3, "10987654321098765432109876543210" } };
static const struct cap_key *const key = &keys[0];
static const struct cap grant = { 7, 3, CAP_WRITE, 5, 1000, 100, 16, 1 << 20, 11, 6 };
static const struct cap_view view = { .keys = keys, .n_keys = 2, .now_ms = 900, .epoch = 5 };

static int try(const struct cap_view *v, const struct cap *c, const uint8_t *code)
{
	struct err_note note = { "" };
	int rc = cap_check(v, c, bytes_of(code, CAP_BYTES), &note);

	assert_int_equal(rc < 0, note.text[0] != 0);
	return rc;
}

static void opens_what_it_was_minted_for(void **state)
{
	uint8_t code[CAP_BYTES];

	cap_mint(key, &grant, code);
	assert_int_equal(try(&view, &grant, code), 0);
	assert_int_equal(cap_check(&view, &grant, bytes_of(code, 31), NULL), E_DENIED);
	assert_int_equal(cap_check(&view, &grant, bytes_of(code, 32), NULL), E_STALE);
	assert_int_equal(cap_check(&view, &grant, bytes_of(code, 43), NULL), E_DENIED);
	assert_int_equal(cap_check(&view, &grant, bytes_of(NULL, 0), NULL), E_DENIED);
}

static void no_field_can_be_changed(void **state)
{
	uint8_t code[CAP_BYTES];
	struct cap c[8];

	cap_mint(key, &grant, code);
	for (int i = 0; i < 8; i++)
		c[i] = grant;
	c[0].egroup++;
	c[1].job++;
	c[2].epoch++;
	c[3].until_ms++;
	c[4].extent_first--;
	c[5].extent_count++;
	c[6].credit_bytes++;
	c[7].incarnation++;
	for (int i = 0; i < 8; i++)
		assert_int_equal(try(&view, &c[i], code), E_DENIED);
	c[0] = grant;
	c[0].ops = CAP_READ;
	assert_int_equal(try(&view, &c[0], code), E_DENIED);
	for (int i = 0; i < CAP_BYTES; i++) {
		bool of_key = i >= 32 && i < 36;
		int rc;

		code[i] ^= 1;
		rc = try(&view, &grant, code);
		assert_true(rc == E_DENIED || (of_key && rc == E_STALE));
		code[i] ^= 1;
	}
}

static void another_key_opens_nothing(void **state)
{
	struct cap_key other = { 4, { 1 } };
	uint8_t code[CAP_BYTES];

	cap_mint(&other, &grant, code);
	assert_int_equal(try(&view, &grant, code), E_DENIED);
	other.id = 5; /* to come, or gone */
	cap_mint(&other, &grant, code);
	assert_int_equal(try(&view, &grant, code), E_STALE);
}

static void two_keys_are_good_at_once(void **state)
{
	struct cap_view one = view;
	uint8_t code[CAP_BYTES];

	cap_mint(&keys[1], &grant, code);
	assert_int_equal(try(&view, &grant, code), 0);
	one.n_keys = 1;
	assert_int_equal(try(&one, &grant, code), E_STALE);
}

static void ends_with_the_epoch_of_its_job(void **state)
{
	struct cap reading = { .job = 3, .ops = CAP_READ, .until_ms = 1000, .job_epoch = 6 };
	struct cap_view revoked = view;
	uint8_t code[CAP_BYTES];

	cap_mint(key, &reading, code);
	reading.job_epoch = 99; /* what the code says counts */
	for (revoked.job_epoch = 0; revoked.job_epoch < 9; revoked.job_epoch++)
		assert_int_equal(try(&revoked, &reading, code),
			revoked.job_epoch <= 6 ? 0 : E_STALE);
}

static void ends_with_its_time_and_its_epoch(void **state)
{
	struct cap_view late = view, newer = view, older = view;
	struct cap reading = { .job = 3, .ops = CAP_READ, .until_ms = 1000 };
	uint8_t code[CAP_BYTES];

	cap_mint(key, &grant, code);
	late.now_ms = 1000;
	assert_int_equal(try(&late, &grant, code), 0);
	late.now_ms = 1001;
	assert_int_equal(try(&late, &grant, code), E_STALE);
	newer.epoch = 6;
	assert_int_equal(try(&newer, &grant, code), E_STALE);
	older.epoch = 4;
	assert_int_equal(try(&older, &grant, code), 0);
	cap_mint(key, &reading, code);
	assert_int_equal(try(&newer, &reading, code), 0);
}

/* The code is on the wire between versions: HMAC-SHA256 over the text that cap.c describes,
 * computed once by another implementation.  Version 1 had no numbers of keys. */
static void code_stays_what_it_was(void **state)
{
	static const uint8_t old[32] = {
		0x2e, 0xfe, 0x22, 0x4a, 0x51, 0xd8, 0xd1, 0x22, 0x79, 0xa8, 0x35,
		0x7b, 0x12, 0x54, 0x90, 0x54, 0x9d, 0xb6, 0xc7, 0xab, 0x69, 0x27,
		0xc9, 0xb5, 0x4b, 0x60, 0xf8, 0xa1, 0x45, 0x3a, 0xaa, 0xb8
	 };
	static const uint8_t first[8] = { 0xdc, 0xf5, 0x8f, 0x4f, 0xed, 0xbc, 0xf3, 0xdc };
	const struct cap_key zero = { 0, "01234567890123456789012345678901" };
	struct cap_view v1 = { .keys = &zero, .n_keys = 1, .now_ms = 900, .epoch = 5 };
	uint8_t code[CAP_BYTES];

	cap_mint(key, &grant, code);
	assert_memory_equal(code, first, sizeof first);
	assert_int_equal(cap_check(&v1, &grant, bytes_of(old, 32), NULL), 0);
	v1.job_epoch = 1;
	assert_int_equal(cap_check(&v1, &grant, bytes_of(old, 32), NULL), E_STALE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opens_what_it_was_minted_for),
		cmocka_unit_test(no_field_can_be_changed),
		cmocka_unit_test(another_key_opens_nothing),
		cmocka_unit_test(two_keys_are_good_at_once),
		cmocka_unit_test(ends_with_the_epoch_of_its_job),
		cmocka_unit_test(ends_with_its_time_and_its_epoch),
		cmocka_unit_test(code_stays_what_it_was),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
