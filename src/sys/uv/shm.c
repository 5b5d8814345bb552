/* SPDX-License-Identifier: Apache-2.0 */
/* Shared memory: memfds, sealed so that no process can pull a page from under another's feet. */
#include "base/check.h"
#include "sys/uv/own.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define HUGE_BYTES (UINT64_C(2) << 20)

enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, PAGE = 4096 };

struct sys_shm {
	struct sys *s;
	int fd;
	bool writable;
	uint64_t len;
	void *at; /* NULL: not mapped */
};

static int adopt(struct sys *s, int fd, uint64_t len, bool writable, struct sys_shm **ret_m)
{
	struct sys_shm *m = calloc(1, sizeof *m);

	if (m == NULL) {
		close(fd);
		return E_NOMEM;
	}
	*m = (struct sys_shm){ .s = s, .fd = fd, .len = len, .writable = writable };
	*ret_m = m;
	return 0;
}

int shm_adopt(struct sys *s, int fd, struct sys_shm **ret_m)
{
	int seals = fcntl(fd, F_GET_SEALS), how = fcntl(fd, F_GETFL);
	struct stat st;

	if (seals < 0 || !(seals & F_SEAL_SHRINK) || how < 0 || (how & O_ACCMODE) == O_WRONLY ||
		fstat(fd, &st) != 0 || st.st_size <= 0) {
		close(fd);
		return E_CORRUPT;
	}
	return adopt(s, fd, (uint64_t)st.st_size, (how & O_ACCMODE) == O_RDWR, ret_m);
}

int shm_fd(const struct sys_shm *m)
{
	return m->fd;
}

static int fail(struct err_note *note, const char *what, const char *name)
{
	int os = errno;

	return err_set(
		note, sys_err(os), "%s of shared memory %s: %s", what, name, sys_err_words(os));
}

int sys_shm_new(struct sys *s, const char *name, uint64_t len, struct sys_shm **ret_m,
	struct err_note *note)
{
	int fd, rc;

	check(len > 0);
	check(len <= INT64_MAX);
	fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return fail(note, "creation", name);
	if (ftruncate(fd, (off_t)len) != 0 || fcntl(fd, F_ADD_SEALS, SEALS) != 0) {
		rc = fail(note, "sizing", name);
		close(fd);
		return rc;
	}
	rc = adopt(s, fd, len, true, ret_m);
	return rc < 0 ? err_set(note, rc, "shared memory %s: %s", name, err_text(rc)) : 0;
}

int sys_shm_reader(struct sys_shm *m, struct sys_shm **ret_reader, struct err_note *note)
{
	char path[32];
	int fd, rc;

	/* opened anew: a duplicate would share the right to write */
	snprintf(path, sizeof path, "/proc/self/fd/%d", m->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fail(note, "opening for readers", path);
	rc = adopt(m->s, fd, m->len, false, ret_reader);
	return rc < 0 ? err_set(note, rc, "shared memory: %s", err_text(rc)) : 0;
}

/* Huge pages are mapped as such only where memory and file are aligned alike. */
static void *map_aligned(const struct sys_shm *m, int prot)
{
	size_t room = m->len + HUGE_BYTES, front;
	char *p = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *at;

	if (p == MAP_FAILED)
		return p;
	front = (HUGE_BYTES - (uintptr_t)p % HUGE_BYTES) % HUGE_BYTES;
	at = mmap(p + front, m->len, prot, MAP_SHARED | MAP_FIXED, m->fd, 0);
	if (at == MAP_FAILED) {
		check(munmap(p, room) == 0);
		return at;
	}
	if (front > 0)
		check(munmap(p, front) == 0);
	at = p + front + (m->len + PAGE - 1) / PAGE * PAGE;
	check(munmap(at, (size_t)(p + room - at)) == 0);
	return p + front;
}

int sys_shm_map(struct sys_shm *m, void **ret_p, struct err_note *note)
{
	int prot = PROT_READ | (m->writable ? PROT_WRITE : 0);
	bool huge = m->len >= HUGE_BYTES;
	void *p;

	if (m->at == NULL) {
		p = huge ? map_aligned(m, prot) : mmap(NULL, m->len, prot, MAP_SHARED, m->fd, 0);
		if (p == MAP_FAILED)
			return fail(note, "mapping", "");
		if (huge)
			madvise(p, m->len, MADV_HUGEPAGE); /* where the host offers them */
		m->at = p;
	}
	*ret_p = m->at;
	return 0;
}

uint64_t sys_shm_bytes(const struct sys_shm *m)
{
	return m->len;
}

void sys_shm_empty(struct sys_shm *m)
{
	check(m->writable);
	/* a kernel that cannot leaves the pages to the last of those who map them */
	(void)!fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)m->len);
}

void sys_shm_close(struct sys_shm *m)
{
	if (m == NULL)
		return;
	if (m->at != NULL)
		check(munmap(m->at, m->len) == 0);
	close(m->fd);
	free(m);
}

/* ---- prefault ---- */
struct prefault {
	char *at;
	size_t len;
	bool write;
	int os;
};

/* Makes huge pages of the whole ones in the range.  Hosts that give none for shared memory on a
 * fault still make one of pages that are there, and a single one is enough: 2 MiB cost an eighth of
 * what they cost in pieces, in every process that maps them.  What fails here is done in pieces. */
static void collapse(const struct prefault *p)
{
	uintptr_t from = ((uintptr_t)p->at + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1);
	uintptr_t end = ((uintptr_t)p->at + p->len) & ~(uintptr_t)(HUGE_BYTES - 1);

	for (uintptr_t at = from; at < end; at += HUGE_BYTES)
		if (madvise((void *)at, PAGE, MADV_POPULATE_WRITE) != 0)
			return;
	if (from < end)
		madvise((void *)from, end - from, MADV_COLLAPSE);
}

static void prefault(void *arg)
{
	struct prefault *p = arg;

	if (p->write)
		collapse(p);
	/* the kernel refuses with a code where a touch would end in a signal */
	if (madvise(p->at, p->len, p->write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) == 0)
		return;
	if (errno != EINVAL) {
		p->os = errno;
		return;
	}
	for (size_t i = 0; i < p->len; i += PAGE) {
		if (p->write) /* others may be writing here: add nothing, in one piece */
			__atomic_fetch_or(p->at + i, 0, __ATOMIC_RELAXED);
		else
			__atomic_load_n(p->at + i, __ATOMIC_RELAXED);
	}
}

int sys_shm_prefault(struct sys_shm *m, uint64_t off, uint64_t len)
{
	struct prefault p = { .write = m->writable };
	uint64_t from = off & ~(uint64_t)(PAGE - 1);
	int rc;

	check(m->at != NULL);
	check(off <= m->len);
	check(len <= m->len - off);
	p.at = (char *)m->at + from;
	p.len = off + len - from;
	if (p.len == 0)
		return 0;
	rc = sys_work(m->s, prefault, &p);
	if (rc < 0)
		return rc;
	return p.os == 0 ? 0 : p.os == EFAULT ? E_NOMEM : sys_err(p.os);
}
