/* SPDX-License-Identifier: Apache-2.0 */
/* A token is let in when its key made it, and nothing else is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/check.h"
#include "base/prng.h"
#include "control/token.h"
#include "sys/sim/sim.h"

static const uint8_t key[TOKEN_KEY_BYTES] = "thirty-two bytes of this secret";

static int reads(const char *text, size_t len)
{
	/* exactly as long as it says: a byte too far is seen by the sanitizers */
	uint8_t *copy = test_malloc(len + (len == 0));
	struct token t;
	int rc;

	memcpy(copy, text, len);
	rc = token_read(key, bytes_of(copy, len), &t);
	test_free(copy);
	return rc;
}

static void is_read_as_made(void **state)
{
	static const uint64_t jobs[] = { 1, 15, 16, 0x123456789abcdef0u, UINT64_MAX };
	static const uint64_t epochs[] = { 1, 255, TOKEN_EPOCH_MAX };
	char text[TOKEN_CHARS_MAX];
	struct token t;

	for (size_t j = 0; j < 5; j++)
		for (size_t e = 0; e < 3; e++) {
			size_t n = token_job(key, jobs[j], epochs[e], text);

			assert_true(n <= TOKEN_CHARS_MAX);
			assert_int_equal(token_read(key, bytes_of(text, n), &t), 0);
			assert_false(t.admin);
			assert_true(t.job == jobs[j]);
			assert_true(t.epoch == epochs[e]);
		}
	assert_int_equal(token_read(key, bytes_of(text, token_admin(key, text)), &t), 0);
	assert_true(t.admin);
	assert_int_equal(t.job, 0);
}

static void is_not_forged(void **state)
{
	uint8_t other[TOKEN_KEY_BYTES] = { 7 };
	char text[TOKEN_CHARS_MAX], same[TOKEN_CHARS_MAX];
	struct token t;
	size_t n = token_job(key, 42, 1, text);

	assert_int_equal(token_read(other, bytes_of(text, n), &t), E_DENIED);
	for (size_t i = 0; i < n; i++)
		for (int c = 0; c < 256; c++) {
			memcpy(same, text, n);
			same[i] = (char)c;
			assert_int_equal(reads(same, n), same[i] == text[i] ? 0 : E_DENIED);
		}
	for (size_t len = 0; len < n; len++)
		assert_int_equal(reads(text, len), E_DENIED);
	n = token_admin(key, text);
	assert_int_equal(token_read(other, bytes_of(text, n), &t), E_DENIED);
	for (size_t i = 0; i < n; i++)
		for (int bit = 0; bit < 8; bit++) {
			memcpy(same, text, n);
			same[i] ^= (char)(1 << bit);
			assert_int_equal(reads(same, n), E_DENIED);
		}
	for (size_t len = 0; len < n; len++)
		assert_int_equal(reads(text, len), E_DENIED);
}

static void survives_nonsense(void **state)
{
	static const char *const texts[] = { "j", "j.", "j..", "j1.", "j1.1", "j1.1.", "j0.1.",
		"j1.0.", "j01.1.00000000000000000000000000000000",
		"j11111111111111111.1.00000000000000000000000000000000",
		"j1.10000000000000.00000000000000000000000000000000",
		"j1.1.0000000000000000000000000000000",
		"j1.1.000000000000000000000000000000000", "jj1.1.", "-1.1.", " j1.1." };
	struct prng p = prng_fork(1, 1);
	char text[TOKEN_CHARS_MAX + 8];

	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		assert_int_equal(reads(texts[i], strlen(texts[i])), E_DENIED);
	for (int round = 0; round < 20000; round++) {
		static const char likely[] = "j0123456789abcdef..";
		size_t n = prng_below(&p, sizeof text + 1);

		for (size_t i = 0; i < n; i++)
			text[i] = prng_odds(&p, 9, 10) ? likely[prng_below(&p, sizeof likely - 1)]
						       : (char)prng_below(&p, 256);
		assert_int_equal(reads(text, n), E_DENIED);
	}
}

static void cap_key_is_another(void **state)
{
	uint8_t cap[TOKEN_KEY_BYTES];
	char text[TOKEN_CHARS_MAX];
	struct token t;

	token_cap_key(key, 0, cap);
	assert_memory_not_equal(cap, key, sizeof cap);
	assert_int_equal(token_read(key, bytes_of(text, token_admin(cap, text)), &t), E_DENIED);
	assert_int_equal(token_read(key, bytes_of(text, token_job(cap, 1, 1, text)), &t), E_DENIED);
}

static void etcd_seeds_are_others(void **state)
{
	uint8_t authority[TOKEN_KEY_BYTES], member[TOKEN_KEY_BYTES], again[TOKEN_KEY_BYTES];
	char text[TOKEN_CHARS_MAX + 1] = "";

	token_etcd_seed(key, TOKEN_ETCD_AUTHORITY, authority);
	token_etcd_seed(key, TOKEN_ETCD_MEMBER, member);
	assert_memory_not_equal(authority, key, sizeof authority);
	assert_memory_not_equal(authority, member, sizeof authority);
	token_cap_key(key, TOKEN_ETCD_AUTHORITY, again);
	assert_memory_not_equal(authority, again, sizeof authority);
	/* the key as nodes keep it gives the same ones */
	token_admin(key, text);
	assert_int_equal(token_key_read(text, again), 0);
	assert_memory_equal(again, key, sizeof again);
	text[5] = 'G';
	assert_int_equal(token_key_read(text, again), E_INVALID);
	assert_int_equal(token_key_read("", again), E_INVALID);
	assert_memory_equal(again, key, sizeof again);
}

/* ---- the file ---- */
static int file_main(struct sys *s, void *arg)
{
	uint8_t first[TOKEN_KEY_BYTES] = { 0 }, again[TOKEN_KEY_BYTES] = { 0 };
	struct err_note note;
	struct sys_file *f;

	check(token_key_load(s, "/key", first, &note) == 0);
	check(token_key_load(s, "/key", again, &note) == 0);
	check(memcmp(first, again, sizeof first) == 0);
	check(token_key_load(s, "/other", again, &note) == 0);
	check(memcmp(first, again, sizeof first) != 0);
	check(sys_open(s, "/key", SYS_WRITE, &f, &note) == 0);
	check(sys_pwrite(f, "G", 1, 63, &note) == 0);
	sys_close(f);
	check(token_key_load(s, "/key", again, &note) == E_INVALID);
	check(sys_open(s, "/short", SYS_WRITE | SYS_CREATE, &f, &note) == 0);
	sys_close(f);
	check(token_key_load(s, "/short", again, &note) == E_INVALID);
	check(token_key_load(s, "/none/key", again, &note) < 0);
	return 0;
}

static void file_keeps_it(void **state)
{
	struct sim *w = sim_new(1, &sim_no_faults);
	struct sim_node *n = sim_node_add(w, "a", 1 << 20);

	sim_node_start(n, file_main, NULL);
	sim_run(w, UINT64_MAX);
	assert_false(sim_node_up(n));
	assert_int_equal(sim_node_result(n), 0);
	sim_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_read_as_made),
		cmocka_unit_test(is_not_forged),
		cmocka_unit_test(survives_nonsense),
		cmocka_unit_test(cap_key_is_another),
		cmocka_unit_test(etcd_seeds_are_others),
		cmocka_unit_test(file_keeps_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
