/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/os.h"
#include "base/check.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int errno_code(int e)
{
	switch (e) {
	case ENOENT: case ENOTDIR: return E_NOTFOUND;
	case EACCES: case EPERM: case EROFS: return E_DENIED;
	case EEXIST: return E_EXISTS;
	case ENOSPC: case EDQUOT: return E_FULL;
	case ENOMEM: return E_NOMEM;
	case ENAMETOOLONG: return E_TOOBIG;
	case EISDIR: case EINVAL: return E_INVALID;
	default: return E_IO;
	}
}

static int failed(struct err_note *note, const char *path)
{
	int e = errno;

	return err_set(note, errno_code(e), "%.180s: %s", path, strerror(e));
}

bool os_terminal(int fd) { return isatty(fd) == 1; }
const char *os_env(const char *name) { return getenv(name); }
void os_set_env(const char *name, const char *value) { setenv(name, value, 1); }
void os_remove(const char *path) { unlink(path); }

unsigned os_columns(void)
{
	struct winsize size;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		return size.ws_col;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		return size.ws_col;
	return 80;
}

/* ---- what must not stay when a signal ends us ---- */
static volatile sig_atomic_t line_drawn;
static const char *volatile leftover;

static void ended_by(int sig)
{
	static const char wipe[] = "\r\033[K";
	const char *path = leftover;

	if (line_drawn && write(STDERR_FILENO, wipe, sizeof wipe - 1) < 0)
		line_drawn = 0;
	if (path != NULL)
		unlink(path);
	raise(sig); /* blocked until we return; the handler is gone: it ends us */
}

static void watch_signals(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	struct sigaction act = { .sa_handler = ended_by, .sa_flags = (int)SA_RESETHAND }, old;
	static bool done;

	for (size_t i = 0; !done && i < sizeof signals / sizeof signals[0]; i++)
		if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
			sigaction(signals[i], &act, NULL);
	done = true;
}

void os_line(const char *text)
{
	watch_signals();
	line_drawn = 1;
	fprintf(stderr, "\r%s\033[K", text);
	fflush(stderr);
}

void os_line_wipe(void)
{
	if (line_drawn)
		fputs("\r\033[K", stderr);
	line_drawn = 0;
}

void os_leftover(const char *path)
{
	watch_signals();
	leftover = path;
}

uint64_t os_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t os_now_ms(void) { return os_now_ns() / 1000000; }

void os_sleep_ms(uint64_t ms)
{
	struct timespec t = { .tv_sec = (time_t)(ms / 1000),
		.tv_nsec = (long)(ms % 1000 * 1000000) };

	nanosleep(&t, NULL);
}

uint64_t os_wall_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec;
}

void os_time_text(uint64_t wall_ms, char *ret_text, size_t room)
{
	time_t t = (time_t)(wall_ms / 1000);
	struct tm tm;

	if (localtime_r(&t, &tm) == NULL || strftime(ret_text, room, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		snprintf(ret_text, room, "%llu", (unsigned long long)wall_ms);
}

/* ---- files ---- */
enum os_kind os_kind(const char *path, uint64_t *ret_bytes)
{
	struct stat st;

	if (ret_bytes != NULL)
		*ret_bytes = UINT64_MAX;
	if (stat(path, &st) < 0)
		return OS_MISSING;
	if (S_ISDIR(st.st_mode))
		return OS_FOLDER;
	if (!S_ISREG(st.st_mode))
		return OS_OTHER;
	if (ret_bytes != NULL)
		*ret_bytes = (uint64_t)st.st_size;
	return OS_FILE;
}

int os_open_read(const char *path, int *ret_fd, struct err_note *note)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return failed(note, path);
	if (os_kind(path, NULL) == OS_FOLDER) {
		close(fd);
		return err_set(note, E_INVALID, "%.180s is a directory", path);
	}
	*ret_fd = fd;
	return 0;
}

int os_rename(const char *from, const char *to, struct err_note *note)
{
	return rename(from, to) < 0 ? failed(note, to) : 0;
}

static int folders_make(const char *path, struct err_note *note)
{
	char folder[OS_PATH_MAX];
	size_t len = strlen(path);

	if (len >= sizeof folder)
		return err_set(note, E_TOOBIG, "a path of %zu bytes", len);
	memcpy(folder, path, len + 1);
	for (char *slash = strchr(folder + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(folder, 0777) < 0 && errno != EEXIST)
			return failed(note, folder);
		*slash = '/';
	}
	return 0;
}

int os_open_write(const char *path, int *ret_fd, struct err_note *note)
{
	int rc = folders_make(path, note), fd;

	if (rc < 0)
		return rc;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return failed(note, path);
	*ret_fd = fd;
	return 0;
}

int os_close(int fd, const char *path, struct err_note *note)
{
	return close(fd) < 0 ? failed(note, path) : 0;
}

int64_t os_read(int fd, void *buf, size_t cap, const char *path, struct err_note *note)
{
	size_t len = 0;

	while (len < cap) {
		ssize_t n = read(fd, (char *)buf + len, cap - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return failed(note, path);
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return (int64_t)len;
}

int os_write(int fd, const void *buf, size_t len, const char *path, struct err_note *note)
{
	const char *at = buf;

	while (len > 0) {
		ssize_t n = write(fd, at, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return failed(note, path);
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

int os_put_text(const char *path, const char *text, bool secret, struct err_note *note)
{
	char fresh[OS_PATH_MAX];
	int rc = folders_make(path, note), fd;

	if (rc < 0)
		return rc;
	if (snprintf(fresh, sizeof fresh, "%s.new", path) >= (int)sizeof fresh)
		return err_set(note, E_TOOBIG, "a path of %zu bytes", strlen(path));
	unlink(fresh);
	fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, secret ? 0600 : 0644);
	if (fd < 0)
		return failed(note, fresh);
	rc = os_write(fd, text, strlen(text), fresh, note);
	if (rc == 0 && fsync(fd) < 0)
		rc = failed(note, fresh);
	if (os_close(fd, fresh, rc == 0 ? note : NULL) < 0 && rc == 0)
		rc = E_IO;
	if (rc == 0 && rename(fresh, path) < 0)
		rc = failed(note, path);
	if (rc < 0)
		unlink(fresh);
	return rc;
}

int os_get_text(const char *path, char *ret_text, size_t room, struct err_note *note)
{
	int64_t n;
	int fd, rc = os_open_read(path, &fd, note);

	if (rc < 0)
		return rc;
	n = os_read(fd, ret_text, room, path, note);
	os_close(fd, path, NULL);
	if (n >= 0 && (size_t)n == room)
		return err_set(note, E_TOOBIG, "%s has more than %zu bytes", path, room - 1);
	if (n >= 0)
		ret_text[n] = '\0';
	return n < 0 ? (int)n : 0;
}

struct walk {
	int (*each)(void *arg, const char *path);
	void *arg;
	struct err_note *note;
};
enum { WALK_DEPTH_MAX = 64 };

static int not_dots(const struct dirent *d)
{
	return strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
}

static int walk_folder(const struct walk *w, const char *path, unsigned depth);

static int walk_one(const struct walk *w, const char *folder, const char *name, unsigned depth)
{
	char path[OS_PATH_MAX];
	enum os_kind kind;

	if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
		return err_set(w->note, E_TOOBIG, "%.100s: a path that is too long", folder);
	kind = os_kind(path, NULL);
	if (kind == OS_FOLDER)
		return walk_folder(w, path, depth + 1);
	return kind == OS_FILE ? w->each(w->arg, path) : 0;
}

static int walk_folder(const struct walk *w, const char *path, unsigned depth)
{
	struct dirent **names;
	int rc = 0, n;

	if (depth > WALK_DEPTH_MAX)
		return err_set(w->note, E_TOOBIG, "%.100s: nested too deep", path);
	n = scandir(path, &names, not_dots, alphasort);
	if (n < 0)
		return failed(w->note, path);
	for (int i = 0; i < n; i++) {
		if (rc == 0)
			rc = walk_one(w, path, names[i]->d_name, depth);
		free(names[i]);
	}
	free(names);
	return rc;
}

int os_walk(const char *path, int (*each)(void *arg, const char *path), void *arg,
	struct err_note *note)
{
	struct walk w = { each, arg, note };

	return walk_folder(&w, path, 0);
}

/* ---- a child ---- */
static volatile sig_atomic_t child_pid;

static void pass_on(int sig, siginfo_t *info, void *context)
{
	/* What the terminal sends, the child has got by itself. */
	if (child_pid > 0 && info->si_code != SI_KERNEL)
		kill((pid_t)child_pid, sig);
}

static void signals_pass_on(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 };
	struct sigaction act = { .sa_sigaction = pass_on, .sa_flags = SA_SIGINFO | SA_RESTART };

	for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
		sigaction(signals[i], &act, NULL);
}

int os_exec(const char *const *argv, struct err_note *note)
{
	execvp(argv[0], (char *const *)argv);
	return failed(note, argv[0]);
}

static void become(const char *const *argv, const char *const *env)
{
	struct err_note note;

	for (; *env != NULL; env++)
		putenv((char *)*env);
	os_exec(argv, &note);
	fprintf(stderr, "wadi: %s\n", note.text);
	_exit(errno == ENOENT ? 127 : 126);
}

int os_spawn(const char *const *argv, const char *const *env, struct os_child *ret_child,
	struct err_note *note)
{
	sigset_t all, old;
	pid_t pid;

	/* A signal between fork and handler must reach the child, or us before it exists. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		sigprocmask(SIG_SETMASK, &old, NULL);
		become(argv, env);
	}
	if (pid > 0) {
		child_pid = pid;
		signals_pass_on();
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (pid < 0)
		return failed(note, argv[0]);
	*ret_child = (struct os_child){ pid, pidfd_open(pid, 0) };
	return 0;
}

bool os_ended(struct os_child *c, int *ret_exit)
{
	int status;

	if (waitpid(c->pid, &status, WNOHANG) != c->pid)
		return false;
	child_pid = 0;
	*ret_exit = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	if (c->fd >= 0)
		close(c->fd);
	return true;
}

void os_beside(const char *name, char ret_path[OS_PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", ret_path, OS_PATH_MAX - 1);
	char *slash;

	ret_path[n > 0 ? n : 0] = '\0';
	slash = strrchr(ret_path, '/');
	if (slash != NULL
	    && snprintf(slash + 1, OS_PATH_MAX - (size_t)(slash + 1 - ret_path), "%s", name)
		< OS_PATH_MAX - (slash + 1 - ret_path)
	    && access(ret_path, X_OK) == 0)
		return;
	snprintf(ret_path, OS_PATH_MAX, "%s", name);
}

void os_wait(int fd_1, int fd_2, int timeout_ms)
{
	struct pollfd p[2] = { { .fd = fd_1, .events = POLLIN }, { .fd = fd_2, .events = POLLIN } };

	poll(p, 2, timeout_ms);
}
