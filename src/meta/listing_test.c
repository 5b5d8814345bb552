/* SPDX-License-Identifier: Apache-2.0 */
/* A listing shows exactly what a sorted array of the names would, page by page, whatever the
 * prefix, the delimiter and the page, and costs its entries. */
#include "base/prng.h"
#include "meta/kit_test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { NAMES_MAX = 400, NAME_MAX_TEST = 12 };
static char names[NAMES_MAX][NAME_MAX_TEST + 1];
static int n_names;
static uint64_t b;

static int by_bytes(const void *x, const void *y)
{
	return strcmp(x, y);
}

/* Few letters, so that names are prefixes of one another; slashes at every place. */
static void any_name(struct prng *p, char *to)
{
	static const char letters[] = "aab//0\xc3\xa4";
	size_t len = 1 + prng_below(p, 6), n = 0;

	for (size_t i = 0; i < len; i++) {
		size_t k = prng_below(p, 7);

		to[n++] = letters[k];
		if (k == 6)
			to[n++] = letters[7];
	}
	to[n] = 0;
}

static void make(struct prng *p, int n)
{
	n_names = 0;
	for (int i = 0; i < n; i++) {
		char name[NAME_MAX_TEST + 1];

		any_name(p, name);
		check(kit_put(b, name, "1", 0) == 0);
		if (bsearch(name, names, (size_t)n_names, sizeof names[0], by_bytes) != NULL)
			continue;
		strcpy(names[n_names++], name);
		qsort(names, (size_t)n_names, sizeof names[0], by_bytes);
	}
}

/* The whole listing by definition. */
static int expected(
	const char *prefix, char delimiter, const char *after, char (*to)[NAME_MAX_TEST + 1])
{
	int n = 0;

	for (int i = 0; i < n_names; i++) {
		char entry[NAME_MAX_TEST + 1];
		const char *end;

		if (strncmp(names[i], prefix, strlen(prefix)) != 0 || strcmp(names[i], after) <= 0)
			continue;
		strcpy(entry, names[i]);
		end = delimiter != 0 ? strchr(names[i] + strlen(prefix), delimiter) : NULL;
		if (end != NULL)
			entry[end + 1 - names[i]] = 0;
		if (n == 0 || strcmp(to[n - 1], entry) != 0)
			strcpy(to[n++], entry);
	}
	return n;
}

static void compare(const char *prefix, char delimiter, uint32_t max)
{
	static char want[NAMES_MAX][NAME_MAX_TEST + 1];
	int n = expected(prefix, delimiter, "", want), i = 0;
	char after[NAME_MAX_TEST + 1] = "";

	do {
		struct wire_list l;
		struct sub_entry e;

		(void)kit_list(b, 0, prefix, delimiter, after, max);
		check(kit.list.entries.n <= max);
		check(kit.list.entries.n == max || kit.list.next.len == 0);
		for (l = kit.list.entries; sub_entry_next(&l, &e); i++) {
			bool folded = delimiter != 0 &&
				      memchr(e.name.p + strlen(prefix), delimiter,
					      e.name.len - strlen(prefix)) != NULL;

			check(i < n);
			check(bytes_equal(e.name, kit_text(want[i])));
			check((e.kind == ENTRY_PREFIX) == folded);
			check(folded || e.size == 1);
			check(folded == (e.inode == 0));
		}
		check(kit.list.next.len < sizeof after);
		memcpy(after, kit.list.next.p, kit.list.next.len);
		after[kit.list.next.len] = 0;
	} while (kit.list.next.len > 0);
	check(i == n);
}

static void pages_of_random_names(void)
{
	struct prng p = prng_fork(5, 1);

	for (int round = 0; round < 30; round++) {
		char bucket[16];

		snprintf(bucket, sizeof bucket, "b%d", round);
		b = kit_bucket(bucket);
		make(&p, 1 + (int)prng_below(&p, NAMES_MAX));
		for (int i = 0; i < 40; i++) {
			char prefix[NAME_MAX_TEST + 1] = "";
			char delimiter = prng_odds(&p, 1, 3) ? 0 : prng_odds(&p, 1, 4) ? 'a' : '/';

			any_name(&p, prefix);
			prefix[prng_below(&p, 3)] = 0;
			compare(prefix, delimiter,
				1 + (uint32_t)prng_below(&p, 1 << prng_below(&p, 10)));
		}
	}
}

static void cursors_need_not_exist(void)
{
	b = kit_bucket("b");
	check(kit_put(b, "a", "", 0) == 0);
	check(kit_put(b, "c/x", "", 0) == 0);
	check(kit_put(b, "c/z", "", 0) == 0);
	check(kit_put(b, "d", "", 0) == 0);
	check(strcmp(kit_list(b, 0, "", 0, "b", 0), "c/x c/z d") == 0);
	check(strcmp(kit_list(b, 0, "", 0, "c/x", 0), "c/z d") == 0);
	check(strcmp(kit_list(b, 0, "", '/', "c/", 0), "d") == 0);
	check(strcmp(kit_list(b, 0, "", '/', "c/x", 0), "c/ d") == 0);
	check(strcmp(kit_list(b, 0, "c/", '/', "c/", 0), "c/x c/z") == 0);
	check(strcmp(kit_list(b, 0, "c", 0, "", 0), "c/x c/z") == 0);
	check(strcmp(kit_list(b, 0, "c", 0, "d", 0), "") == 0);
	check(strcmp(kit_list(b, 0, "c", 0, "b", 0), "c/x c/z") == 0);
	check(strcmp(kit_list(b, 0, "zz", 0, "", 0), "") == 0);
	check(strcmp(kit_list(b, 5, "", 0, "", 0), "INVALID") == 0);
	check(strcmp(kit_list(5, 0, "", 0, "", 0), "GONE") == 0);
}

/* 1,000 names of 1,024 bytes do not fit one message: the page ends early and says so. */
static void a_page_fits_a_message(void)
{
	static char name[LIMIT_NAME_BYTES_MAX + 1], after[LIMIT_NAME_BYTES_MAX + 1];
	unsigned n = 0;

	b = kit_bucket("b");
	memset(name, 'n', LIMIT_NAME_BYTES_MAX);
	for (int i = 0; i < LIMIT_LIST_MAX; i++) {
		put_be64((uint8_t *)name + LIMIT_NAME_BYTES_MAX - 8,
			UINT64_C(0x6e6e6e6e6e6e3030) + (uint64_t)(i / 64 * 256 + i % 64));
		check(kit_put(b, name, "", 0) == 0);
	}
	do {
		struct msg_list m = { .bucket = b, .after = kit_text(after) };

		check(shard_list(kit.sh, &kit.c, &m, &kit.list) == 0);
		check(kit.list.entries.n < LIMIT_LIST_MAX);
		check(msg_list_ok_size(&kit.list, WIRE_VERSION) <= LIMIT_FRAME_BODY_BYTES_MAX);
		n += kit.list.entries.n;
		memcpy(after, kit.list.next.p, kit.list.next.len);
	} while (kit.list.next.len > 0);
	check(n == LIMIT_LIST_MAX);
}

/* Expired names that the sweep has not come to are passed by, in bounded steps; a page without
 * entries then still has a cursor. */
static void expired_names_are_passed_by(void)
{
	const char *after = "";
	char cursor[32];
	int pages = 0;

	b = kit_bucket("b");
	for (int i = 0; i < LIST_STEPS_MAX + 5; i++) {
		char name[32];

		snprintf(name, sizeof name, "gone/%06d", i);
		check(kit_put_at(b, 0, name, BYTES(""), 0, 0, 1000) == 0);
	}
	check(kit_put(b, "gone/zzz", "", 0) == 0);
	kit_clock_jump(2000);
	for (;; pages++) {
		const char *got = kit_list(b, 0, "", '/', after, 10);

		if (kit.list.next.len == 0) {
			check(strcmp(got, "gone/") == 0);
			break;
		}
		check(strcmp(got, "") == 0);
		check(kit.list.next.len < sizeof cursor);
		memcpy(cursor, kit.list.next.p, kit.list.next.len);
		cursor[kit.list.next.len] = 0;
		after = cursor;
	}
	check(pages == 1);
}

/* The last step falls on a name that is its own fold, and has expired: others of the fold have not.
 */
static void a_fold_outlives_its_first_name(void)
{
	b = kit_bucket("b");
	for (int i = 0; i < LIST_STEPS_MAX - 1; i++) {
		char name[32];

		snprintf(name, sizeof name, "%06d", i);
		check(kit_put_at(b, 0, name, BYTES(""), 0, 0, 1000) == 0);
	}
	check(kit_put_at(b, 0, "h/", BYTES(""), 0, 0, 1000) == 0);
	check(kit_put(b, "h/x", "", 0) == 0);
	kit_clock_jump(2000);
	check(strcmp(kit_list(b, 0, "", '/', "", 10), "h/") == 0);
}

/* Names that were merged and then deleted cost a page no more than its steps, and a directory that
 * is full of them says so. */
static void deleted_names_are_passed_by(void)
{
	struct msg_bucket_create m = { .name = BYTES("t"), .kind = BUCKET_TREE };
	uint64_t dir;
	int pages = 1;

	b = kit_bucket_of(&m);
	check(kit_mkdir(b, 0, "d") == 0);
	dir = kit.put.inode;
	for (int i = 0; i < LIST_STEPS_MAX + 5; i++) {
		char name[32];

		snprintf(name, sizeof name, "%06d", i);
		check(kit_put_at(b, dir, name, BYTES(""), 0, 0, 0) == 0);
	}
	kit_sleep(1000); /* into the tree */
	for (int i = 0; i < LIST_STEPS_MAX + 5; i++) {
		char name[32];

		snprintf(name, sizeof name, "%06d", i);
		check(kit_delete(b, dir, name) == 0);
	}
	check(kit_delete(b, 0, "d") == E_BUSY);
	check(strcmp(kit_list(b, dir, "", 0, "", 10), "") == 0);
	for (; kit.list.next.len > 0; pages++) {
		struct msg_list q = { .bucket = b, .parent = dir };
		uint8_t cursor[32];

		check(kit.list.next.len < sizeof cursor);
		memcpy(cursor, kit.list.next.p, kit.list.next.len);
		q.after = bytes_of(cursor, kit.list.next.len);
		check(shard_list(kit.sh, &kit.c, &q, &kit.list) == 0);
		check(kit.list.entries.n == 0);
	}
	check(pages == 2);
	kit_sleep(1000);
	check(kit_delete(b, 0, "d") == 0);
}

static void run(void **state)
{
	kit_run(*state);
}

#define TEST(body)                                                                                 \
	{                                                                                          \
#body, run, NULL, NULL, body                                                       \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(pages_of_random_names),
		TEST(cursors_need_not_exist),
		TEST(a_page_fits_a_message),
		TEST(expired_names_are_passed_by),
		TEST(a_fold_outlives_its_first_name),
		TEST(deleted_names_are_passed_by),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
