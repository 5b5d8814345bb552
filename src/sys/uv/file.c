/* SPDX-License-Identifier: Apache-2.0 */
/* Files.  What may wait for a device runs on a worker; what only touches the page cache or the
 * descriptor runs here at once.  A fiber that is cancelled gets E_CANCELED before anything happens;
 * once a worker has begun, it is waited for. */
#include "sys/uv/file.h"
#include "base/check.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { CACHED_BYTES_MAX = 128 * 1024 }; /* longer copies out of the page cache are a worker's */

struct sys_file {
	struct sys *s;
	int fd;
	unsigned flags;
	char path[];
};

/* ---- opening ---- */
struct open_call {
	const char *path;
	int how, fd, os;
};

static void do_open(void *arg)
{
	struct open_call *c = arg;

	do
		c->fd = open(c->path, c->how, 0600);
	while (c->fd < 0 && errno == EINTR);
	c->os = c->fd < 0 ? errno : 0;
}

static int how_of(unsigned flags)
{
	int how = O_CLOEXEC | O_NOCTTY;

	check(flags & (SYS_READ | SYS_WRITE));
	if ((flags & SYS_READ) && (flags & SYS_WRITE))
		how |= O_RDWR;
	else
		how |= flags & SYS_WRITE ? O_WRONLY : O_RDONLY;
	how |= flags & SYS_CREATE ? O_CREAT : 0;
	how |= flags & SYS_EXCL ? O_CREAT | O_EXCL : 0;
	how |= flags & SYS_TRUNC ? O_TRUNC : 0;
	return how | (flags & SYS_DIRECT ? O_DIRECT : 0);
}

int sys_open(struct sys *s, const char *path, unsigned flags, struct sys_file **ret_f,
	struct err_note *note)
{
	struct open_call c = { .path = path, .how = how_of(flags) };
	size_t len = strlen(path) + 1;
	struct sys_file *f;
	int rc = sys_work(s, do_open, &c);

	if (rc == 0 && c.os == EINVAL && (flags & SYS_DIRECT)) {
		/* a file system that knows only the page cache (tmpfs before Linux 6.6) refuses
		 * after it has made the file */
		c.how &= ~(O_DIRECT | O_EXCL);
		rc = sys_work(s, do_open, &c);
	}
	if (rc < 0 || c.os != 0)
		return file_fails(note, rc, c.os, "open %s", path);
	f = malloc(sizeof *f + len);
	if (f == NULL) {
		close(c.fd);
		return file_fails(note, E_NOMEM, 0, "open %s", path);
	}
	*f = (struct sys_file){ .s = s, .fd = c.fd, .flags = flags };
	memcpy(f->path, path, len);
	*ret_f = f;
	return 0;
}

void sys_close(struct sys_file *f)
{
	if (f == NULL)
		return;
	close(f->fd); /* what it would report, sys_sync() has reported */
	free(f);
}

/* ---- bytes ---- */
struct move_call {
	struct sys_file *f;
	char *buf;
	size_t len, done;
	uint64_t off;
	int os;
};

static void do_read(void *arg)
{
	struct move_call *c = arg;

	while (c->done < c->len) {
		ssize_t n = pread(
			c->f->fd, c->buf + c->done, c->len - c->done, (off_t)(c->off + c->done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			c->os = errno;
		if (n <= 0)
			return;
		c->done += (size_t)n;
		if ((c->f->flags & SYS_DIRECT) && n % SYS_BLOCK != 0)
			return; /* the end of the file; a direct read cannot go on from here */
	}
}

static void do_write(void *arg)
{
	struct move_call *c = arg;

	while (c->done < c->len) {
		ssize_t n = pwrite(
			c->f->fd, c->buf + c->done, c->len - c->done, (off_t)(c->off + c->done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			c->os = n < 0 ? errno : ENOSPC;
			return;
		}
		c->done += (size_t)n;
	}
}

static void check_aligned(const struct sys_file *f, const void *buf, size_t len, uint64_t off)
{
	check(off <= INT64_MAX);
	check(len <= INT64_MAX - off);
	if (!(f->flags & SYS_DIRECT))
		return;
	check((uintptr_t)buf % SYS_BLOCK == 0);
	check(len % SYS_BLOCK == 0);
	check(off % SYS_BLOCK == 0);
}

/* What the page cache holds, without a worker. */
static void read_cached(struct move_call *c)
{
	struct iovec iov = { c->buf, c->len };
	ssize_t n;

	if ((c->f->flags & SYS_DIRECT) || c->len > CACHED_BYTES_MAX)
		return;
	n = preadv2(c->f->fd, &iov, 1, (off_t)c->off, RWF_NOWAIT);
	if (n > 0)
		c->done = (size_t)n;
}

int64_t sys_pread(struct sys_file *f, void *buf, size_t len, uint64_t off, struct err_note *note)
{
	struct move_call c = { .f = f, .buf = buf, .len = len, .off = off };
	int rc;

	check(f->flags & SYS_READ);
	check_aligned(f, buf, len, off);
	if (fiber_canceled())
		return file_fails(
			note, E_CANCELED, 0, "read %s at %llu", f->path, (unsigned long long)off);
	read_cached(&c);
	if (c.done == len)
		return (int64_t)len;
	rc = sys_work(f->s, do_read, &c);
	if (rc < 0 || c.os != 0)
		return file_fails(
			note, rc, c.os, "read %s at %llu", f->path, (unsigned long long)off);
	return (int64_t)c.done;
}

static int write_call(struct sys_file *f, const void *buf, size_t len, uint64_t off, bool now,
	struct err_note *note)
{
	struct move_call c = { .f = f, .buf = (char *)(uintptr_t)buf, .len = len, .off = off };
	int rc = 0;

	check(f->flags & SYS_WRITE);
	check_aligned(f, buf, len, off);
	if (!now)
		rc = sys_work(f->s, do_write, &c);
	else if (fiber_canceled())
		rc = E_CANCELED;
	else
		do_write(&c);
	if (rc < 0 || c.os != 0)
		return file_fails(
			note, rc, c.os, "write %s at %llu", f->path, (unsigned long long)off);
	check(c.done == len);
	return 0;
}

int sys_pwrite(struct sys_file *f, const void *buf, size_t len, uint64_t off, struct err_note *note)
{
	return write_call(f, buf, len, off, false, note);
}

int sys_pwrite_now(
	struct sys_file *f, const void *buf, size_t len, uint64_t off, struct err_note *note)
{
	return write_call(f, buf, len, off, !(f->flags & SYS_DIRECT), note);
}

/* ---- the rest of a file's life ---- */
struct file_call {
	struct sys_file *f;
	uint64_t off, len;
	int os;
};

static void do_sync(void *arg)
{
	struct file_call *c = arg;

	c->os = fdatasync(c->f->fd) == 0 ? 0 : errno;
}

static void do_truncate(void *arg)
{
	struct file_call *c = arg;

	c->os = ftruncate(c->f->fd, (off_t)c->len) == 0 ? 0 : errno;
}

static void do_allocate(void *arg)
{
	struct file_call *c = arg;

	do
		c->os = fallocate(c->f->fd, 0, (off_t)c->off, (off_t)c->len) == 0 ? 0 : errno;
	while (c->os == EINTR);
}

static void do_punch(void *arg)
{
	struct file_call *c = arg;

	do
		c->os = fallocate(c->f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				(off_t)c->off, (off_t)c->len) == 0
				? 0
				: errno;
	while (c->os == EINTR);
}

static int file_call(struct sys_file *f, void (*fn)(void *arg), uint64_t off, uint64_t len,
	const char *what, struct err_note *note)
{
	struct file_call c = { .f = f, .off = off, .len = len };
	int rc;

	check(off <= INT64_MAX);
	check(len <= INT64_MAX - off);
	rc = sys_work(f->s, fn, &c);
	return rc < 0 || c.os != 0 ? file_fails(note, rc, c.os, "%s %s", what, f->path) : 0;
}

int sys_sync(struct sys_file *f, struct err_note *note)
{
	return file_call(f, do_sync, 0, 0, "sync", note);
}

int sys_truncate(struct sys_file *f, uint64_t len, struct err_note *note)
{
	return file_call(f, do_truncate, 0, len, "truncate", note);
}

int sys_allocate(struct sys_file *f, uint64_t off, uint64_t len, struct err_note *note)
{
	return len == 0 ? 0 : file_call(f, do_allocate, off, len, "allocate room in", note);
}

int sys_punch(struct sys_file *f, uint64_t off, uint64_t len, struct err_note *note)
{
	return len == 0 ? 0 : file_call(f, do_punch, off, len, "punch a hole into", note);
}

int sys_file_bytes(struct sys_file *f, uint64_t *ret_len, struct err_note *note)
{
	struct stat st;

	if (fstat(f->fd, &st) != 0)
		return file_fails(note, 0, errno, "stat %s", f->path);
	*ret_len = (uint64_t)st.st_size;
	return 0;
}

/* " by pid 17 (wadi)", or "". */
static void lock_owner(const struct sys_file *f, char *ret_who, size_t cap)
{
	char line[256], wanted[64];
	struct stat st;
	long long pid;
	FILE *locks = fopen("/proc/locks", "re");

	ret_who[0] = '\0';
	if (locks == NULL)
		return;
	if (fstat(f->fd, &st) == 0) {
		snprintf(wanted, sizeof wanted, " %02x:%02x:%llu ", major(st.st_dev),
			minor(st.st_dev), (unsigned long long)st.st_ino);
		/* "3: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF" */
		while (ret_who[0] == '\0' && fgets(line, sizeof line, locks) != NULL) {
			const char *at = strstr(line, " WRITE ");

			if (at != NULL && strstr(line, wanted) != NULL
			    && (pid = strtoll(at + 7, NULL, 10)) > 0)
				addr_pid(pid, ret_who, cap);
		}
	}
	fclose(locks);
}

int sys_lock(struct sys_file *f, struct err_note *note)
{
	char who[96];

	if (flock(f->fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno != EWOULDBLOCK)
		return file_fails(note, 0, errno, "lock %s", f->path);
	lock_owner(f, who, sizeof who);
	return err_set(note, E_INUSE, "%s: in use%s", f->path, who);
}
