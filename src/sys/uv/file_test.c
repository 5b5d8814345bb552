/* SPDX-License-Identifier: Apache-2.0 */
/* Files and directories of the real door. */
#include "sys/uv/sys_uv.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { BYTES_MAX = 1 << 20 };
static struct sys *s;
static char folder[] = "/tmp/wadi-file-XXXXXX", path[64], other[64];
static struct err_note note;

static int setup(void **state)
{
	strcpy(folder + sizeof folder - 7, "XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/file", folder);
	snprintf(other, sizeof other, "%s/other", folder);
	note.text[0] = '\0';
	assert_int_equal(sys_uv_new(&s, &note), 0);
	return 0;
}

static int teardown(void **state)
{
	sys_uv_free(s);
	unlink(path);
	unlink(other);
	assert_int_equal(rmdir(folder), 0);
	return 0;
}

static void run(fiber_fn *fn, unsigned flags)
{
	assert_int_equal(sys_uv_run(s, "test", fn, (void *)(uintptr_t)flags), 0);
}

static struct sys_file *open_file(const char *name, unsigned flags)
{
	struct sys_file *f;

	assert_int_equal(sys_open(s, name, flags, &f, &note), 0);
	return f;
}

static uint64_t bytes_of_file(struct sys_file *f)
{
	uint64_t len;

	assert_int_equal(sys_file_bytes(f, &len, &note), 0);
	return len;
}

/* ---- bytes ---- */
static int round_trip(void *arg)
{
	struct sys_file *f = open_file(
		path, SYS_READ | SYS_WRITE | SYS_CREATE | (unsigned)(uintptr_t)arg);
	uint8_t *out = aligned_alloc(SYS_BLOCK, BYTES_MAX);
	uint8_t *in = aligned_alloc(SYS_BLOCK, BYTES_MAX);

	for (int i = 0; i < BYTES_MAX; i++)
		out[i] = (uint8_t)(i * 7 + i / 4096);
	assert_int_equal(sys_pwrite(f, out, BYTES_MAX, 0, &note), 0);
	assert_int_equal(sys_pwrite_now(f, out, SYS_BLOCK, BYTES_MAX, &note), 0);
	assert_int_equal(sys_sync(f, &note), 0);
	assert_int_equal(bytes_of_file(f), BYTES_MAX + SYS_BLOCK);
	memset(in, 0, BYTES_MAX);
	assert_int_equal(sys_pread(f, in, BYTES_MAX, 0, &note), BYTES_MAX);
	assert_memory_equal(in, out, BYTES_MAX);
	memset(in, 0, BYTES_MAX);
	assert_int_equal(sys_pread(f, in, SYS_BLOCK, 3 * SYS_BLOCK, &note), SYS_BLOCK);
	assert_memory_equal(in, out + 3 * SYS_BLOCK, SYS_BLOCK);
	/* what meets the end returns the count up to it */
	assert_int_equal(sys_pread(f, in, BYTES_MAX, BYTES_MAX - SYS_BLOCK, &note), 2 * SYS_BLOCK);
	assert_memory_equal(in, out + BYTES_MAX - SYS_BLOCK, SYS_BLOCK);
	assert_memory_equal(in + SYS_BLOCK, out, SYS_BLOCK);
	assert_int_equal(sys_pread(f, in, SYS_BLOCK, 8 * BYTES_MAX, &note), 0);
	sys_close(f);
	free(in);
	free(out);
	return 0;
}

static void bytes_come_back_through_the_cache(void **state)
{
	run(round_trip, 0);
}
static void bytes_come_back_around_the_cache(void **state)
{
	run(round_trip, SYS_DIRECT);
}

static int odd_sizes(void *arg)
{
	struct sys_file *f = open_file(path, SYS_READ | SYS_WRITE | SYS_CREATE);
	char in[32] = "";

	assert_int_equal(sys_pwrite_now(f, "hello", 5, 3, &note), 0);
	assert_int_equal(sys_pread(f, in, sizeof in, 0, &note), 8);
	assert_memory_equal(in, "\0\0\0hello", 8);
	assert_int_equal(sys_truncate(f, 5, &note), 0);
	assert_int_equal(sys_pread(f, in, sizeof in, 0, &note), 5);
	sys_close(f);
	f = open_file(path, SYS_READ | SYS_WRITE | SYS_TRUNC);
	assert_int_equal(bytes_of_file(f), 0);
	sys_close(f);
	return 0;
}

static void odd_sizes_are_fine_in_the_cache(void **state)
{
	run(odd_sizes, 0);
}

static int room(void *arg)
{
	struct sys_file *f = open_file(path, SYS_READ | SYS_WRITE | SYS_CREATE);
	uint8_t *block = calloc(1, BYTES_MAX);
	uint64_t free_bytes = 0, total = 0;
	struct stat st;
	int rc;

	memset(block, 'x', BYTES_MAX);
	assert_int_equal(sys_allocate(f, 0, BYTES_MAX, &note), 0);
	assert_int_equal(bytes_of_file(f), BYTES_MAX);
	assert_int_equal(sys_pwrite(f, block, BYTES_MAX, 0, &note), 0);
	assert_int_equal(sys_sync(f, &note), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_blocks * 512 >= BYTES_MAX);
	assert_int_equal(sys_punch(f, 0, BYTES_MAX / 2, &note), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_blocks * 512 <= BYTES_MAX * 3 / 4);
	assert_int_equal(bytes_of_file(f), BYTES_MAX);
	assert_int_equal(sys_pread(f, block, BYTES_MAX, 0, &note), BYTES_MAX);
	assert_int_equal(block[BYTES_MAX / 2 - 1], 0);
	assert_int_equal(block[BYTES_MAX / 2], 'x');
	assert_int_equal(sys_disk_room(s, folder, &free_bytes, &total, &note), 0);
	assert_true(free_bytes > 0);
	assert_true(total >= free_bytes);
	rc = sys_allocate(f, 0, INT64_MAX / 2, &note);
	assert_true(rc == E_TOOBIG || rc == E_FULL); /* a tmpfs counts its room first */
	sys_close(f);
	free(block);
	return 0;
}

static void room_is_taken_and_given_back(void **state)
{
	run(room, 0);
}

/* ---- names ---- */
static int opens(void *arg)
{
	struct sys_file *f;

	assert_int_equal(sys_open(s, path, SYS_READ, &f, &note), E_NOTFOUND);
	assert_non_null(strstr(note.text, path));
	assert_non_null(strstr(note.text, "No such file"));
	f = open_file(path, SYS_WRITE | SYS_CREATE | SYS_EXCL);
	sys_close(f);
	assert_int_equal(sys_open(s, path, SYS_WRITE | SYS_CREATE | SYS_EXCL, &f, &note), E_EXISTS);
	f = open_file(path, SYS_WRITE | SYS_CREATE);
	sys_close(f);
	sys_close(NULL);
	assert_int_equal(sys_open(s, folder, SYS_WRITE, &f, &note), E_INVALID);
	assert_int_equal(sys_open(s, "/proc/version/x", SYS_READ, &f, NULL), E_NOTFOUND);
	return 0;
}

static void opening_says_what_is_wrong(void **state)
{
	run(opens, 0);
}

static int locks(void *arg)
{
	struct sys_file *a = open_file(path, SYS_WRITE | SYS_CREATE);
	struct sys_file *b = open_file(path, SYS_WRITE);
	char owner[128];

	assert_int_equal(sys_lock(a, &note), 0);
	assert_int_equal(sys_lock(b, &note), E_INUSE);
	snprintf(owner, sizeof owner, "%s: in use by pid %d (", path, (int)getpid());
	if (strstr(note.text, " by ") != NULL) /* some file systems cannot tell */
		assert_non_null(strstr(note.text, owner));
	assert_non_null(strstr(note.text, ": in use"));
	sys_close(a);
	assert_int_equal(sys_lock(b, &note), 0);
	sys_close(b);
	return 0;
}

static void a_lock_is_held_until_the_file_is_closed(void **state)
{
	run(locks, 0);
}

static char listed[256];

static void list_name(void *arg, const char *name)
{
	size_t n = strlen(listed);

	snprintf(listed + n, sizeof listed - n, "%s ", name);
}

static int names(void *arg)
{
	static const char *const made[] = { "m", "c", "z", "a", "k" };
	char name[96];

	listed[0] = '\0';
	assert_int_equal(sys_mkdir(s, other, &note), 0);
	assert_int_equal(sys_mkdir(s, other, &note), 0);
	assert_int_equal(sys_list_dir(s, other, list_name, NULL, &note), 0);
	assert_string_equal(listed, "");
	for (int i = 0; i < 5; i++) {
		snprintf(name, sizeof name, "%s/%s", other, made[i]);
		sys_close(open_file(name, SYS_WRITE | SYS_CREATE));
	}
	assert_int_equal(sys_sync_dir(s, other, &note), 0);
	assert_int_equal(sys_list_dir(s, other, list_name, NULL, &note), 0);
	assert_string_equal(listed, "a c k m z ");
	assert_int_equal(sys_unlink(s, other, &note), E_NOTEMPTY);
	assert_int_equal(sys_rename(s, name, path, &note), 0);
	assert_int_equal(access(name, F_OK), -1);
	assert_int_equal(sys_rename(s, name, path, &note), E_NOTFOUND);
	assert_int_equal(sys_mkdir(s, path, &note), E_EXISTS); /* a file is there */
	for (int i = 0; i < 4; i++) {
		snprintf(name, sizeof name, "%s/%s", other, made[i]);
		assert_int_equal(sys_unlink(s, name, &note), 0);
	}
	assert_int_equal(sys_unlink(s, name, &note), E_NOTFOUND);
	assert_int_equal(sys_unlink(s, other, &note), 0);
	assert_int_equal(sys_list_dir(s, other, list_name, NULL, &note), E_NOTFOUND);
	assert_int_equal(sys_sync_dir(s, other, &note), E_NOTFOUND);
	return 0;
}

static void directories_are_listed_in_order(void **state)
{
	run(names, 0);
}

/* ---- cancellation ---- */
static int fails_canceled(void *arg)
{
	struct sys_file *f = arg, *g;
	char buf[8];

	fiber_cancel(fiber_self());
	assert_int_equal(sys_pwrite(f, "x", 1, 0, &note), E_CANCELED);
	assert_int_equal(sys_pwrite_now(f, "x", 1, 0, &note), E_CANCELED);
	assert_int_equal(sys_pread(f, buf, 1, 0, &note), E_CANCELED);
	assert_int_equal(sys_open(s, other, SYS_WRITE | SYS_CREATE, &g, &note), E_CANCELED);
	fiber_shield(sys_after(s, SYS_SEC));
	assert_int_equal(sys_pwrite(f, "y", 1, 0, &note), 0); /* clean-up may still write */
	fiber_unshield();
	return 0;
}

static int canceled(void *arg)
{
	struct sys_file *f = open_file(path, SYS_READ | SYS_WRITE | SYS_CREATE);
	struct group g;
	char buf[8];

	group_init(&g, sys_loop(s));
	assert_int_equal(fiber_start(&g, "canceled", fails_canceled, f), 0);
	assert_int_equal(group_wait(&g), 0);
	assert_int_equal(sys_pread(f, buf, 8, 0, &note), 1);
	assert_int_equal(buf[0], 'y');
	assert_int_equal(access(other, F_OK), -1);
	sys_close(f);
	return 0;
}

static void a_cancelled_fiber_changes_nothing(void **state)
{
	run(canceled, 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(bytes_come_back_through_the_cache),
		T(bytes_come_back_around_the_cache),
		T(odd_sizes_are_fine_in_the_cache),
		T(room_is_taken_and_given_back),
		T(opening_says_what_is_wrong),
		T(a_lock_is_held_until_the_file_is_closed),
		T(directories_are_listed_in_order),
		T(a_cancelled_fiber_changes_nothing),
	};

	return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
