/* SPDX-License-Identifier: Apache-2.0 */
/* local.h: a scratch directory, a `wadi serve` of our own in it, and a line of progress. */
#ifndef DEMO_LOCAL_H
#define DEMO_LOCAL_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { LOCAL_PATH_MAX = 1024, LOCAL_SOCKET_MAX = 100 };

struct local {
	char dir[LOCAL_PATH_MAX]; /* under TMPDIR or /tmp; removed by local_stop() */
	char socket[LOCAL_PATH_MAX];
	const char *url;     /* to connect to; NULL: the user's own default */
	const char *program; /* the wadi command: a path, or a name in PATH */
	pid_t server;        /* 0: none of ours */
	bool made_dir;
};
/* Makes the directory and, when url is NULL, starts a server there with the wadi command given.
 * Does not wait for it: connecting does.  0, WADI_E_IO. */
int local_start(struct local *l, const char *url, const char *program);
/* Ends the server (and waits until it has), removes the directory.  Harmless after a failed start.
 */
void local_stop(struct local *l);

uint64_t local_now_ms(void); /* monotonic */
void local_sleep(uint32_t ms);

/* One line on stderr, overwritten in place; nothing when quiet or stderr is no terminal. */
void local_progress(bool quiet, const char *what, uint64_t done, uint64_t of);
void local_progress_note(bool quiet, const char *what, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void local_progress_clear(bool quiet);
#endif
