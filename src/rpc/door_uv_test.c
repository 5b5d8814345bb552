/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/door_test.h"
#include "base/check.h"
#include "sys/uv/sys_uv.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char *const door_tcp = "tcp:127.0.0.1:0";
static char folder[64], unix_addr[80];

struct first { struct sys *s; int (*fn)(struct sys *s, void *arg); void *arg; };

static int run_first(void *arg)
{
	struct first *f = arg;

	return f->fn(f->s, f->arg);
}

void door_run(int (*fn)(struct sys *s, void *arg), void *arg)
{
	struct first f = { .fn = fn, .arg = arg };

	snprintf(folder, sizeof folder, "/tmp/wadi-rpc-XXXXXX");
	check(mkdtemp(folder) != NULL);
	snprintf(unix_addr, sizeof unix_addr, "unix:%s/sock", folder);
	check(sys_uv_new(&f.s, NULL) == 0);
	check(sys_uv_run(f.s, "test", run_first, &f) == 0);
	sys_uv_free(f.s);
	check(rmdir(folder) == 0);
}

const char *door_unix(void) { return unix_addr; }
