/* SPDX-License-Identifier: Apache-2.0 */
/* Cursors and arenas fail sticky and never look past their end; notes keep the outer words; hashes,
 * generators and keys give the same numbers on every machine; a false check ends the process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/arena.h"
#include "base/bytes.h"
#include "base/check.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/limit.h"
#include "base/list.h"
#include "base/map64.h"
#include "base/prng.h"
#include "base/sm.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void arena_is_sticky(void **state)
{
	_Alignas(16) char room[64];
	struct arena a;
	size_t mark;
	char *p;

	memset(room, 0xff, sizeof room);
	arena_init(&a, room, sizeof room);
	p = arena_alloc(&a, 17);
	assert_non_null(p);
	for (int i = 0; i < 17; i++)
		assert_int_equal(p[i], 0);
	mark = arena_mark(&a);
	assert_int_equal((uintptr_t)arena_alloc(&a, 1) % 16, 0);
	assert_null(arena_alloc(&a, 17));
	assert_null(arena_alloc(&a, 1)); /* it would fit */
	assert_false(arena_ok(&a));
	arena_reset(&a, mark);
	assert_true(arena_ok(&a));
	assert_memory_equal(arena_copy(&a, "abc", 3), "abc", 3);
	assert_null(arena_alloc(&a, SIZE_MAX));
}

static void reader_stays_inside(void **state)
{
	uint8_t raw[] = { 3, 0, 0, 0, 'a', 'b', 'c', 0xff, 0xff, 0xff, 0xff, 9 };
	struct reader r = reader_of(raw, sizeof raw);
	struct bytes b = read_bytes(&r, 3);

	assert_true(r.ok && bytes_equal(b, BYTES("abc")));
	b = read_bytes(&r, SIZE_MAX); /* a length of 4 GiB in front of one byte */
	assert_false(r.ok);
	assert_true(b.p == NULL && b.len == 0);
	assert_int_equal(read_u8(&r), 0); /* the byte is there, but a failed cursor gives nothing */
	r = reader_of(raw, 7);
	read_bytes(&r, 2); /* longer than its row allows */
	assert_false(r.ok);
	for (size_t n = 0; n < 8; n++) { /* every truncation of a number */
		r = reader_of(raw, n);
		assert_int_equal(read_u64(&r), 0);
		assert_false(r.ok);
	}
}

static void writer_stays_inside(void **state)
{
	uint8_t room[8];
	struct writer w = writer_of(room, 7);

	memset(room, 0xee, sizeof room);
	write_u32(&w, 0x04030201);
	assert_memory_equal(room, "\1\2\3\4", 4);
	write_u32(&w, 5);
	assert_false(w.ok);
	write_u8(&w, 1); /* it would fit */
	assert_int_equal(room[4], 0xee);
	assert_int_equal(room[7], 0xee);
}

static void keys_sort_as_numbers(void **state)
{
	static const uint64_t v[] = { 0, 1, 255, 256, 1u << 31, UINT64_C(1) << 40, UINT64_MAX };
	uint8_t a[8], b[8];

	for (size_t i = 0; i + 1 < sizeof v / sizeof v[0]; i++) {
		put_be64(a, v[i]);
		put_be64(b, v[i + 1]);
		assert_true(bytes_compare(bytes_of(a, 8), bytes_of(b, 8)) < 0);
		assert_int_equal(be64(a), v[i]);
	}
	assert_true(bytes_compare(BYTES("a"), BYTES("a\0")) < 0);
	assert_true(bytes_compare(bytes_of(NULL, 0), BYTES("")) == 0);
}

static void notes_keep_the_outer_words(void **state)
{
	struct err_note note;
	char longest[400];

	assert_int_equal(err_set(&note, E_IO, "pread at %d", 4096), E_IO);
	assert_int_equal(err_wrap(&note, E_IO, "extent %d", 7), E_IO);
	assert_string_equal(note.text, "extent 7: pread at 4096");
	memset(longest, 'x', sizeof longest - 1);
	longest[sizeof longest - 1] = '\0';
	err_set(&note, E_IO, "%s", longest);
	err_wrap(&note, E_IO, "outer");
	assert_memory_equal(note.text, "outer: xxx", 10);
	assert_int_equal(strlen(note.text), sizeof note.text - 1);
	err_wrap(&note, E_IO, "%s", longest);
	assert_true(strlen(note.text) < sizeof note.text);
	assert_int_equal(err_set(NULL, E_FULL, "nobody listens"), E_FULL);
}

static void codes_from_outside_are_looked_up(void **state)
{
	assert_string_equal(err_name(E_NOTFOUND), "NOTFOUND");
	assert_int_equal(err_exit(E_NOTFOUND), 5);
	assert_string_equal(err_name(0), "OK");
	assert_true(err_known(E_UNAVAILABLE));
	assert_false(err_known(1));
	assert_false(err_known(-1000000));
	assert_false(err_known(-2147483647 - 1));
	assert_string_equal(err_name(-1000000), "?");
}

static void hashes_are_the_published_ones(void **state)
{
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
	assert_int_equal(crc32c(7, "", 0), 7);
	assert_int_equal(hash64(0, "", 0), UINT64_C(0x2d06800538d394c2));
	assert_int_not_equal(hash64(1, "a", 1), hash64(2, "a", 1));
}

static void generator_is_the_same_everywhere(void **state)
{
	struct prng p = prng_fork(1, 1), q = prng_fork(1, 2);
	uint64_t first = prng_next(&p), folded = 0;

	assert_int_equal(first, UINT64_C(0x1d08e40a8b50f326));
	assert_int_not_equal(first, prng_next(&q));
	for (uint64_t i = 0; i < 1000; i++)
		folded ^= prng_next(&p) + i;
	assert_int_equal(folded, UINT64_C(0x66d512a1060f1467));
	for (int i = 0; i < 1000; i++)
		assert_in_range(prng_below(&p, 10), 0, 9);
}

struct item { int value; struct list link; };

static void list_keeps_order(void **state)
{
	struct item items[3] = { { .value = 0 }, { .value = 1 }, { .value = 2 } };
	struct list l;
	int sum = 0;

	list_init(&l);
	assert_null(list_pop(&l));
	for (int i = 0; i < 3; i++)
		list_push(&l, &items[i].link);
	list_remove(&items[1].link);
	assert_ptr_equal(items[1].link.next, &items[1].link);
	assert_ptr_equal(items[1].link.prev, &items[1].link);
	list_remove(&items[1].link); /* twice is harmless */
	list_each_safe(it, &l) {
		sum = sum * 10 + container_of(it, struct item, link)->value;
		list_remove(it);
	}
	assert_int_equal(sum, 2);
	assert_true(list_empty(&l));
}

/* Against an array that knows the truth, with a small set of keys so that deletes meet probes. */
static void map_agrees_with_an_array(void **state)
{
	enum { KEYS = 97, STEPS = 20000 };
	struct { bool there; uint32_t value; } truth[KEYS] = { { 0 } };
	struct prng p = prng_fork(3, 3);
	struct map64 m;

	map64_init(&m);
	assert_null(map64_get(&m, 0));
	for (int i = 0; i < STEPS; i++) {
		uint64_t key = prng_below(&p, KEYS), what = prng_below(&p, 3);
		uint32_t *at = map64_get(&m, key * 64), value = (uint32_t)i;

		assert_int_equal(at != NULL, truth[key].there);
		assert_true(at == NULL || *at == truth[key].value);
		if (what == 0) {
			assert_int_equal(map64_delete(&m, key * 64), truth[key].there);
			truth[key].there = false;
		} else {
			map64_put(&m, key * 64, value);
			truth[key].there = true;
			truth[key].value = value;
		}
	}
	map64_fini(&m);
}

/* The signal that ended a child which ran fn, or 0. */
static int dies(void (*fn)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		signal(SIGABRT, SIG_DFL); /* cmocka catches it */
		fclose(stderr);
		fn();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

enum { HELD, ENDED };
static const struct sm_state states[] = {
	[HELD] = { "held", TO(ENDED) },
	[ENDED] = { "ended", 0 },
};

static void move_forward(void)
{
	struct sm m;

	sm_init(&m, states, HELD);
	sm_move(&m, ENDED);
}

static void move_back(void)
{
	struct sm m;

	sm_init(&m, states, ENDED);
	sm_move(&m, HELD);
}

static void say_so(void *arg) { _exit(*(int *)arg); }

static void hook_runs(void)
{
	static int code = 0;

	check_on_failure(say_so, &code); /* leaves before abort() */
	check(code == 1);
}

static void false_checks_end_the_process(void **state)
{
	assert_int_equal(dies(move_forward), 0);
	assert_int_equal(dies(move_back), SIGABRT);
	assert_int_equal(dies(hook_runs), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(arena_is_sticky),
		cmocka_unit_test(reader_stays_inside),
		cmocka_unit_test(writer_stays_inside),
		cmocka_unit_test(keys_sort_as_numbers),
		cmocka_unit_test(notes_keep_the_outer_words),
		cmocka_unit_test(codes_from_outside_are_looked_up),
		cmocka_unit_test(hashes_are_the_published_ones),
		cmocka_unit_test(generator_is_the_same_everywhere),
		cmocka_unit_test(list_keeps_order),
		cmocka_unit_test(map_agrees_with_an_array),
		cmocka_unit_test(false_checks_end_the_process),
	};

	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
