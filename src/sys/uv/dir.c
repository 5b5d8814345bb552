/* SPDX-License-Identifier: Apache-2.0 */
/* Directories and paths: each call one piece of work on a worker. */
#include "base/check.h"
#include "sys/uv/file.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

int file_fails(struct err_note *note, int rc, int os, const char *fmt, ...)
{
	char what[sizeof note->text];
	va_list ap;

	if (rc == 0)
		rc = sys_err(os);
	va_start(ap, fmt);
	vsnprintf(what, sizeof what, fmt, ap);
	va_end(ap);
	return err_set(note, rc, "%s: %s", what, os != 0 ? sys_err_words(os) : err_text(rc));
}

struct path_call {
	const char *path, *to;
	int os;
	uint64_t free, total;
	char **names;
	size_t n_names;
};

static void do_mkdir(void *arg)
{
	struct path_call *c = arg;
	struct stat st;

	c->os = mkdir(c->path, 0700) == 0 ? 0 : errno;
	if (c->os == EEXIST && stat(c->path, &st) == 0 && S_ISDIR(st.st_mode))
		c->os = 0;
}

static void do_unlink(void *arg)
{
	struct path_call *c = arg;

	c->os = unlink(c->path) == 0 ? 0 : errno;
	if (c->os == EISDIR)
		c->os = rmdir(c->path) == 0 ? 0 : errno;
}

static void do_rename(void *arg)
{
	struct path_call *c = arg;

	c->os = rename(c->path, c->to) == 0 ? 0 : errno;
}

static void do_sync_dir(void *arg)
{
	struct path_call *c = arg;
	int fd = open(c->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	c->os = fd >= 0 && fsync(fd) == 0 ? 0 : errno;
	if (fd >= 0)
		close(fd);
}

static void do_room(void *arg)
{
	struct path_call *c = arg;
	struct statvfs v;

	c->os = statvfs(c->path, &v) == 0 ? 0 : errno;
	if (c->os == 0) {
		c->free = (uint64_t)v.f_bavail * v.f_frsize;
		c->total = (uint64_t)v.f_blocks * v.f_frsize;
	}
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool keep_name(struct path_call *c, const char *name)
{
	char **more, *copy;

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return true;
	if ((c->n_names & (c->n_names - 1)) == 0) { /* full: room for twice as many */
		more = realloc(c->names, (c->n_names == 0 ? 1 : 2 * c->n_names) * sizeof *more);
		if (more == NULL)
			return false;
		c->names = more;
	}
	copy = strdup(name);
	if (copy == NULL)
		return false;
	c->names[c->n_names++] = copy;
	return true;
}

static void do_list(void *arg)
{
	struct path_call *c = arg;
	DIR *d = opendir(c->path);
	struct dirent *e;

	if (d == NULL) {
		c->os = errno;
		return;
	}
	for (;;) {
		errno = 0;
		e = readdir(d);
		if (e == NULL) {
			c->os = errno;
			break;
		}
		if (!keep_name(c, e->d_name)) {
			c->os = ENOMEM;
			break;
		}
	}
	closedir(d);
	if (c->n_names > 0)
		qsort(c->names, c->n_names, sizeof *c->names, by_name);
}

static int path_call(struct sys *s, void (*fn)(void *arg), struct path_call *c, const char *what,
	struct err_note *note)
{
	int rc = sys_work(s, fn, c);

	return rc < 0 || c->os != 0 ? file_fails(note, rc, c->os, "%s %s", what, c->path) : 0;
}

int sys_mkdir(struct sys *s, const char *path, struct err_note *note)
{
	struct path_call c = { .path = path };

	return path_call(s, do_mkdir, &c, "make directory", note);
}

int sys_unlink(struct sys *s, const char *path, struct err_note *note)
{
	struct path_call c = { .path = path };

	return path_call(s, do_unlink, &c, "remove", note);
}

int sys_rename(struct sys *s, const char *from, const char *to, struct err_note *note)
{
	struct path_call c = { .path = from, .to = to };

	return path_call(s, do_rename, &c, "rename", note);
}

int sys_sync_dir(struct sys *s, const char *path, struct err_note *note)
{
	struct path_call c = { .path = path };

	return path_call(s, do_sync_dir, &c, "sync directory", note);
}

int sys_list_dir(struct sys *s, const char *path, void (*each)(void *arg, const char *name),
	void *arg, struct err_note *note)
{
	struct path_call c = { .path = path };
	int rc = path_call(s, do_list, &c, "list directory", note);

	for (size_t i = 0; i < c.n_names; i++) {
		if (rc == 0)
			each(arg, c.names[i]);
		free(c.names[i]);
	}
	free(c.names);
	return rc;
}

int sys_disk_room(struct sys *s, const char *path, uint64_t *ret_free, uint64_t *ret_total,
	struct err_note *note)
{
	struct path_call c = { .path = path };
	int rc = path_call(s, do_room, &c, "ask for the room of", note);

	if (rc < 0)
		return rc;
	*ret_free = c.free;
	*ret_total = c.total;
	return 0;
}
