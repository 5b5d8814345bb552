/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"
#include <stdio.h>
#include <stdlib.h>

static struct { void (*print)(void *arg); void *arg; } hooks[CHECK_HOOKS_MAX];
static unsigned n_hooks;

void check_on_failure(void (*print)(void *arg), void *arg)
{
	check(print != NULL);
	check(n_hooks < CHECK_HOOKS_MAX);
	hooks[n_hooks].print = print;
	hooks[n_hooks++].arg = arg;
}

void check_say(const char *line) { fprintf(stderr, "wadi: %s\n", line); }

void check_failed(const char *expr, const char *file, int line, const char *func)
{
	fprintf(stderr, "wadi: %s:%d: %s: check failed: %s\n", file, line, func, expr);
	while (n_hooks > 0) {
		n_hooks--; /* before the call: a check that fails inside a hook must not loop */
		hooks[n_hooks].print(hooks[n_hooks].arg);
	}
	abort();
}
