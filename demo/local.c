/* SPDX-License-Identifier: Apache-2.0 */
#include "demo/local.h"
#include "base/err.h"
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STOP_MS = 20000, POLL_MS = 20, BAR = 30 };

static int start_server(struct local *l)
{
	char data[LOCAL_PATH_MAX + 8], log[LOCAL_PATH_MAX + 8];
	int fd;

	snprintf(data, sizeof data, "%s/data", l->dir);
	snprintf(log, sizeof log, "%s/log", l->dir);
	l->server = fork();
	if (l->server != 0)
		return l->server < 0 ? E_IO : 0;
	/* Ctrl-C is the parent's to answer: it ends us after its job, and so does its death. */
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd >= 0) {
		dup2(fd, STDOUT_FILENO);
		dup2(fd, STDERR_FILENO);
	}
	execlp(l->program, "wadi", "serve", "--data", data, "--listen", l->socket, (char *)NULL);
	_exit(127);
}

int local_start(struct local *l, const char *url, const char *program)
{
	const char *tmp = getenv("TMPDIR");

	*l = (struct local){ .url = url, .program = program };
	if (tmp == NULL || tmp[0] != '/' || strlen(tmp) > LOCAL_SOCKET_MAX - 40)
		tmp = "/tmp";
	snprintf(l->dir, sizeof l->dir, "%s/wadi-demo-XXXXXX", tmp);
	if (mkdtemp(l->dir) == NULL) {
		fprintf(stderr, "demo: %s: %s\n", l->dir, strerror(errno));
		return E_IO;
	}
	l->made_dir = true;
	if (url != NULL)
		return 0;
	snprintf(l->socket, sizeof l->socket, "unix:%.80s/socket", l->dir);
	l->url = l->socket;
	return start_server(l);
}

static int remove_one(const char *path, const struct stat *st, int what, struct FTW *at)
{
	(void)st;
	(void)what;
	(void)at;
	return remove(path);
}

static void stop_server(struct local *l)
{
	uint64_t until_ms = local_now_ms() + STOP_MS;

	kill(l->server, SIGTERM);
	while (waitpid(l->server, NULL, WNOHANG) == 0) {
		if (local_now_ms() > until_ms) {
			fprintf(stderr, "demo: the server did not end within %d s: killed\n",
				STOP_MS / 1000);
			kill(l->server, SIGKILL);
			waitpid(l->server, NULL, 0);
			break;
		}
		local_sleep(POLL_MS);
	}
	l->server = 0;
}

void local_stop(struct local *l)
{
	if (l->server > 0)
		stop_server(l);
	if (l->made_dir)
		nftw(l->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	l->made_dir = false;
}

uint64_t local_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void local_sleep(uint32_t ms)
{
	const struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

static bool shown(bool quiet)
{
	return !quiet && isatty(STDERR_FILENO);
}

void local_progress(bool quiet, const char *what, uint64_t done, uint64_t of)
{
	int full = of > 0 ? (int)((double)done / (double)of * BAR) : BAR;

	if (shown(quiet))
		fprintf(stderr, "\r\033[K%s [%.*s%*s] %3.0f %%", what, full,
			"##############################", BAR - full, "",
			of > 0 ? (double)done * 100 / (double)of : 100.0);
}

void local_progress_note(bool quiet, const char *what, const char *fmt, ...)
{
	va_list ap;

	if (!shown(quiet))
		return;
	va_start(ap, fmt);
	fprintf(stderr, "\r\033[K%s: ", what);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
}

void local_progress_clear(bool quiet)
{
	if (shown(quiet))
		fprintf(stderr, "\r\033[K");
}
