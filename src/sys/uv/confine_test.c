/* SPDX-License-Identifier: Apache-2.0 */
/* A process that may write in one folder only: also its workers, those that were there before, and
 * the threads and the children that it starts. */
#include "sys/uv/sys_uv.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { UNSUPPORTED = 77 };

static char inside[64], outside[64];

PARKS static int write_file(struct sys *s, const char *folder, const char *name)
{
	char path[128];
	struct sys_file *f;
	int rc;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	rc = sys_open(s, path, SYS_WRITE | SYS_CREATE, &f, NULL);
	if (rc < 0)
		return rc;
	rc = sys_pwrite(f, "x", 1, 0, NULL);
	sys_close(f);
	return rc < 0 ? rc : 0;
}

/* The number of what went wrong. */
PARKS static int try_all(void *arg)
{
	struct sys *s = arg;
	const char *folders[] = { inside, "/nowhere/to/be/found" };
	char outside_file[128];
	struct err_note note;
	int rc;

	snprintf(outside_file, sizeof outside_file, "%s/before", outside);
	if (write_file(s, outside, "before") < 0) /* a worker is there from now on */
		return 2;
	rc = sys_uv_confine_writes(folders, 2, &note);
	if (rc == E_UNSUPPORTED)
		return UNSUPPORTED;
	if (rc < 0)
		return 3;
	if (write_file(s, inside, "in") < 0)
		return 4;
	if (write_file(s, outside, "out") != E_DENIED)
		return 5;
	if (sys_unlink(s, outside_file, NULL) != E_DENIED)
		return 6;
	if (system("touch $OUTSIDE/child 2>/dev/null") == 0 || system("touch $INSIDE/child") != 0)
		return 7;
	if (system("true > /dev/null") != 0)
		return 8;
	return 0;
}

static int in_a_child(void)
{
	struct sys *s;
	int rc;

	sys_uv_confine();
	if (sys_uv_new(&s, NULL) < 0)
		return 1;
	rc = sys_uv_run(s, "test", try_all, s);
	sys_uv_free(s);
	return rc;
}

static void writes_only_where_it_may(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	snprintf(inside, sizeof inside, "/tmp/wadi-confine-XXXXXX");
	snprintf(outside, sizeof outside, "/tmp/wadi-confine-XXXXXX");
	assert_non_null(mkdtemp(inside));
	assert_non_null(mkdtemp(outside));
	setenv("INSIDE", inside, 1);
	setenv("OUTSIDE", outside, 1);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(in_a_child());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(system("rm -r $INSIDE $OUTSIDE"), 0);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == UNSUPPORTED)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(writes_only_where_it_may) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
