/* SPDX-License-Identifier: Apache-2.0 */
/* check.h: assertions that stay on in production.
 *
 * check() states what this code already guarantees; when it is false the process prints what it
 * last did and stops, because running on would corrupt data.  Never use it on bytes that came from
 * the network, the disk or the environment: those are codes of err.def. */
#ifndef BASE_CHECK_H
#define BASE_CHECK_H

_Noreturn void check_failed(const char *expr, const char *file, int line, const char *func);

/* Called once by check_failed() before it aborts, to print the trace ring and the fibers.  There
 * are at most CHECK_HOOKS_MAX; they run newest first and must not allocate. */
enum { CHECK_HOOKS_MAX = 8 };
void check_on_failure(void (*print)(void *arg), void *arg);

#define check(e) ((e) ? (void)0 : check_failed(#e, __FILE__, __LINE__, __func__))

/* For those hooks: one line on the standard error output. */
void check_say(const char *line);

/* audit() is a check too slow for production; on in tests and simulation. */
#ifdef WADI_AUDIT
#define audit(e) check(e)
#else
#define audit(e) ((void)sizeof(e))
#endif
#endif
