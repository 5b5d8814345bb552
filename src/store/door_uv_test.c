/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"
#include "store/door_test.h"
#include "sys/uv/sys_uv.h"
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

const char *const door_tcp = "tcp:127.0.0.1:0";
const bool door_waits = true;
static char folder[64];

struct first { struct sys *s; int (*fn)(struct sys *s, void *arg); void *arg; };

static int run_first(void *arg)
{
	struct first *f = arg;

	return f->fn(f->s, f->arg);
}

static int discard(const char *path, const struct stat *st, int flag, struct FTW *at)
{
	return remove(path);
}

void door_run(int (*fn)(struct sys *s, void *arg), void *arg)
{
	struct first f = { .fn = fn, .arg = arg };

	snprintf(folder, sizeof folder, "/tmp/wadi-store-XXXXXX");
	check(mkdtemp(folder) != NULL);
	check(sys_uv_new(&f.s, NULL) == 0);
	check(sys_uv_run(f.s, "test", run_first, &f) == 0);
	sys_uv_free(f.s);
	check(nftw(folder, discard, 8, FTW_DEPTH | FTW_PHYS) == 0);
}

const char *door_folder(void) { return folder; }
