/* SPDX-License-Identifier: Apache-2.0 */
/* Each allocation of the rows fails, the first, the second, and so on, while a db is made, written
 * to, merged, copied, closed and opened again, on the real door.  The process is told E_NOMEM, or
 * goes on, or stops where it has no memory (README.md); and another finds what was said to be
 * written. */
#include "base/check.h"
#include "base/pages.h"
#include "meta/db.h"
#include "sys/uv/sys_uv.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { TURNS = 16, ROWS = 24, NTH_MAX = 2000, LEAST = 60, STOPS_MAX = 60, VALUE_MAX = 600 };
#define TURN_NS (10 * SYS_SEC)

/* What a process leaves behind for the one that started it. */
struct told {
	atomic_ullong left; /* allocations up to the one that fails; 0: it has, or none is to */
	unsigned turns;     /* said to be written */
	int failed;         /* what failed() said */
	unsigned n_lives;
};
static struct told *told;
static char dir[96];

/* ---- memory ---- */
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t each);
void *__real_realloc(void *p, size_t n);
void *__real_pages_new(size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t each);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_pages_new(size_t n);

static bool armed;
static bool fails(void)
{
	unsigned long long left = armed ? atomic_load(&told->left) : 0;

	while (left > 0)
		if (atomic_compare_exchange_weak(&told->left, &left, left - 1))
			return left == 1;
	return false;
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t each)
{
	return fails() ? NULL : __real_calloc(n, each);
}
void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}
void *__wrap_pages_new(size_t n)
{
	return fails() ? NULL : __real_pages_new(n);
}

/* ---- rows ---- */
/* Turn t writes ROWS rows; of every third turn they go, as a range, two turns later. */
static struct bytes key_of(uint64_t row, uint8_t to[9])
{
	to[0] = 'n';
	put_be64(to + 1, row);
	return bytes_of(to, 9);
}

static struct bytes value_of(uint64_t row, uint8_t to[VALUE_MAX])
{
	size_t len = 200 + row * 7 % 300;

	memset(to, (int)(row & 0xff), len);
	return bytes_of(to, len);
}

static bool gone(unsigned turn, unsigned turns)
{
	return turn % 3 == 0 && turn + 2 < turns;
}

static void write_turn(struct db *db, unsigned turn)
{
	uint8_t key[9], to[9], value[VALUE_MAX];

	for (unsigned i = 0; i < ROWS; i++)
		db_put(db, key_of(turn * ROWS + i, key), value_of(turn * ROWS + i, value));
	if (turn >= 2 && (turn - 2) % 3 == 0)
		db_delete_range(db, key_of((turn - 2) * ROWS, key), key_of((turn - 1) * ROWS, to));
	put_be64(value, turn + 1);
	db_put(db, BYTES("count"), bytes_of(value, 8));
}

static unsigned verify(struct db *db)
{
	uint8_t key[9], value[VALUE_MAX];
	struct bytes found;
	unsigned turns = 0;
	int rc = db_get(db, BYTES("count"), &found);

	check(rc == 0 || rc == E_NOTFOUND);
	if (rc == 0)
		turns = (unsigned)be64(found.p);
	for (uint64_t row = 0; row < TURNS * ROWS; row++) {
		unsigned turn = (unsigned)(row / ROWS);
		bool there = turn < turns && !gone(turn, turns);

		rc = db_get(db, key_of(row, key), &found);
		check(rc == (there ? 0 : E_NOTFOUND));
		check(!there || bytes_equal(found, value_of(row, value)));
	}
	return turns;
}

/* ---- a process ---- */
static void on_failed(void *arg, int rc, const struct err_note *note)
{
	check(rc == E_NOMEM);
	check(note->text[0] != '\0');
	told->failed = rc;
}

static struct db_opts opts(void)
{
	return (struct db_opts){ .dir = dir,
		.memtable_bytes_max = 24 << 10,
		.merge_every_ns = 20 * SYS_MS,
		.tree_bytes_max = 64 << 20,
		.log_segment_bytes = 32 << 10,
		.log_keep_bytes = 32 << 10,
		.failed = on_failed };
}

static PARKS int open_db(struct sys *s, struct group *g, struct db **ret_db)
{
	struct err_note note = { "" };
	struct db_opts o = opts();
	int rc;

	group_init(g, sys_loop(s));
	rc = db_open(s, g, &o, ret_db, &note);
	check(rc == 0 || rc == E_NOMEM);
	check(rc == 0 || note.text[0] != '\0');
	return rc;
}

static PARKS void write_turns(struct sys *s, struct db *db)
{
	uint64_t until_ns = sys_after(s, TURN_NS);

	for (unsigned turn = told->turns; turn < TURNS; turn++) {
		uint64_t index;

		write_turn(db, turn);
		if (turn % 4 == 0)
			db_want_sync(db);
		index = db_seen(db);
		while (db_written(db) < index && told->failed == 0) {
			check(fiber_sleep(sys_after(s, 50 * SYS_US)) == 0);
			check(sys_now_ns(s) < until_ns);
		}
		if (told->failed != 0)
			return;
		told->turns = turn + 1;
	}
}

/* Many rows wait for it. */
static PARKS void see_a_merge(struct sys *s, struct db *db)
{
	uint64_t until_ns = sys_after(s, TURN_NS);
	struct db_status st = { 0 };

	while (st.merges == 0 && told->failed == 0) {
		check(fiber_sleep(sys_after(s, 50 * SYS_US)) == 0);
		check(sys_now_ns(s) < until_ns);
		db_status(db, &st);
	}
}

static PARKS int life(struct sys *s)
{
	struct err_note note = { "" };
	struct group g;
	struct db *db;
	int rc = open_db(s, &g, &db);

	if (rc < 0)
		return rc;
	check(verify(db) == told->turns);
	write_turns(s, db);
	verify(db);
	if (told->n_lives++ == 0)
		see_a_merge(s, db);
	rc = db_close(db, &note);
	check(rc == 0 || (rc == E_NOMEM && note.text[0] != '\0'));
	/* a merge may have failed when all was in the log already */
	check(told->failed == 0 || rc == told->failed || told->turns == TURNS);
	return rc;
}

static int two_lives(void *arg)
{
	armed = true;
	if (life(arg) == 0)
		(void)life(arg);
	armed = false;
	return 0;
}

static int look(void *arg)
{
	struct err_note note = { "" };
	struct group g;
	struct db *db;

	check(open_db(arg, &g, &db) == 0);
	check(verify(db) >= told->turns);
	check(db_close(db, &note) == 0);
	return 0;
}

/* In a process of its own, whose talk goes to a file. */
static int run(fiber_fn *fn, const char *talk)
{
	struct err_note note;
	struct sys *s;
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		check(freopen(talk, "w", stderr) != NULL);
		setvbuf(stderr, NULL, _IONBF, 0);
		check(sys_uv_new(&s, &note) == 0);
		status = sys_uv_run(s, "rows", fn, s);
		sys_uv_free(s);
		exit(status == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static bool says(const char *talk, const char *what)
{
	static char text[4096];
	FILE *f = fopen(talk, "r");
	size_t n;

	assert_non_null(f);
	n = fread(text, 1, sizeof text - 1, f);
	fclose(f);
	text[n] = '\0';
	if (strstr(text, what) == NULL)
		print_message("%s\n", text);
	return strstr(text, what) != NULL;
}

static void each_allocation_fails(void **state)
{
	char base[] = "/tmp/wadi-memory-XXXXXX", talk[64], clean[96];
	unsigned n_stops = 0;
	uint64_t nth = 0;
	bool met = true;

	assert_non_null(mkdtemp(base));
	snprintf(talk, sizeof talk, "%s/talk", base);
	told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(told != MAP_FAILED);
	while (met) {
		int status;

		assert_true(++nth < NTH_MAX);
		snprintf(dir, sizeof dir, "%s/%llu", base, (unsigned long long)nth);
		memset(told, 0, sizeof *told);
		atomic_store(&told->left, nth);
		status = run(two_lives, talk);
		met = atomic_load(&told->left) == 0;
		if (status != 0) { /* only for want of memory */
			assert_true(says(talk, " != NULL"));
			assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
			assert_true(met);
			n_stops++;
		}
		atomic_store(&told->left, 0);
		told->failed = 0;
		if (run(look, talk) != 0)
			fail_msg("allocation %llu: %d", (unsigned long long)nth, says(talk, "\1"));
	}
	print_message("%llu allocations, %u of them stop the process\n",
		(unsigned long long)nth - 1, n_stops);
	assert_true(nth - 1 >= LEAST);
	assert_true(n_stops <= STOPS_MAX);
	assert_true(told->n_lives == 2);
	snprintf(clean, sizeof clean, "rm -r '%s'", base);
	assert_int_equal(system(clean), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(each_allocation_fails) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
