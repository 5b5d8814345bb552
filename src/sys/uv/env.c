/* SPDX-License-Identifier: Apache-2.0 */
/* Clock, chance, and what this process and its machine look like.  Control groups bound memory and
 * processors further than the machine does; every level of the tree above us counts. */
#include "base/check.h"
#include "sys/uv/own.h"
#include "sys/uv/sys_uv.h"
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

uint64_t sys_wall_ms(struct sys *s)
{
	struct timespec t;

	check(clock_gettime(CLOCK_REALTIME, &t) == 0);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

uint64_t sys_cpu_ns(struct sys *s)
{
	struct timespec t;

	check(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) == 0);
	return (uint64_t)t.tv_sec * SYS_SEC + (uint64_t)t.tv_nsec;
}

uint64_t sys_random(struct sys *s)
{
	return prng_next(&s->prng);
}

void sys_secret(struct sys *s, void *ret_p, size_t len)
{
	uint8_t *p = ret_p;

	while (len > 0) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		check(n > 0); /* without secrets nothing here is safe to run */
		p += n;
		len -= (size_t)n;
	}
}

const char *sys_getenv(struct sys *s, const char *name)
{
	return getenv(name);
}
int64_t sys_pid(struct sys *s)
{
	return getpid();
}
int64_t sys_uid(struct sys *s)
{
	return geteuid();
}
const char *sys_host(struct sys *s)
{
	return s->host;
}
const char *sys_boot_id(struct sys *s)
{
	return s->boot_id;
}

void sys_log(struct sys *s, const char *line)
{
	struct iovec iov[2] = {
		{ (void *)(uintptr_t)line, strlen(line) },
		{ (void *)(uintptr_t) "\n", 1 },
	};

	/* one call, so that lines of several processes do not mix; a log that cannot be written
	 * has nowhere to say so */
	if (writev(STDERR_FILENO, iov, 2) < 0)
		return;
}

/* ---- files of one or a few numbers ---- */

/* The number behind key at the start of a line ("" for the file's first); or instead. */
static uint64_t number(const char *path, const char *key, uint64_t instead)
{
	FILE *f = fopen(path, "re");
	char line[256], *end;
	uint64_t found = instead;

	if (f == NULL)
		return instead;
	while (fgets(line, sizeof line, f) != NULL) {
		if (strncmp(line, key, strlen(key)) != 0)
			continue;
		found = strtoull(line + strlen(key), &end, 10);
		if (end == line + strlen(key))
			found = instead; /* "max" */
		break;
	}
	fclose(f);
	return found;
}

enum { GROUP_PATH_MAX = 1024 };

/* Calls each with the folder of our control group and of every one above it. */
static void each_group(void (*each)(void *arg, const char *folder), void *arg)
{
	static const char root[] = "/sys/fs/cgroup";
	char line[GROUP_PATH_MAX], folder[GROUP_PATH_MAX + sizeof root];
	FILE *f = fopen("/proc/self/cgroup", "re");
	bool found = false;

	while (f != NULL && !found && fgets(line, sizeof line, f) != NULL)
		found = strncmp(line, "0::/", 4) == 0;
	if (f != NULL)
		fclose(f);
	if (!found)
		return;
	line[strcspn(line, "\n")] = '\0';
	snprintf(folder, sizeof folder, "%s%s", root, line + 3);
	for (;;) {
		size_t n = strlen(folder);

		while (n > sizeof root - 1 && folder[n - 1] == '/')
			folder[--n] = '\0';
		each(arg, folder);
		if (n <= sizeof root - 1)
			return;
		*strrchr(folder, '/') = '\0';
	}
}

struct memory {
	uint64_t total, free;
};

static uint64_t number_in(const char *folder, const char *file, const char *key, uint64_t instead)
{
	char path[GROUP_PATH_MAX + 64];

	snprintf(path, sizeof path, "%s/%s", folder, file);
	return number(path, key, instead);
}

static void bound_memory(void *arg, const char *folder)
{
	uint64_t max = number_in(folder, "memory.max", "", UINT64_MAX);
	uint64_t used, cache, left;
	struct memory *m = arg;

	if (max == UINT64_MAX)
		return;
	used = number_in(folder, "memory.current", "", 0);
	cache = number_in(folder, "memory.stat", "inactive_file ", 0); /* given back on demand */
	used = used > cache ? used - cache : 0;
	left = used < max ? max - used : 0;
	m->total = max < m->total ? max : m->total;
	m->free = left < m->free ? left : m->free;
}

static struct memory memory(void)
{
	struct memory m = {
		.total = number("/proc/meminfo", "MemTotal:", 0) * 1024,
		.free = number("/proc/meminfo", "MemAvailable:", 0) * 1024,
	};

	each_group(bound_memory, &m);
	return m;
}

uint64_t sys_memory_total(struct sys *s)
{
	return memory().total;
}
uint64_t sys_memory_free(struct sys *s)
{
	return memory().free;
}

uint64_t sys_memory_self(struct sys *s)
{
	return number("/proc/self/status", "RssAnon:", 0) * 1024;
}

static void bound_cpus(void *arg, const char *folder)
{
	uint64_t quota = number_in(folder, "cpu.max", "", UINT64_MAX), period = 100000, n;
	uint32_t *cpus = arg;
	char path[GROUP_PATH_MAX + 64], line[64], *space;
	FILE *f;

	if (quota == UINT64_MAX)
		return;
	snprintf(path, sizeof path, "%s/cpu.max", folder);
	f = fopen(path, "re");
	if (f != NULL) {
		if (fgets(line, sizeof line, f) != NULL && (space = strchr(line, ' ')) != NULL)
			period = strtoull(space, NULL, 10);
		fclose(f);
	}
	n = period == 0 ? *cpus : (quota + period - 1) / period;
	if (n > 0 && n < *cpus)
		*cpus = (uint32_t)n;
}

uint64_t sys_files_max(struct sys *s)
{
	struct rlimit r;

	check(getrlimit(RLIMIT_NOFILE, &r) == 0);
	return r.rlim_cur;
}

void sys_uv_files_raise(void)
{
	struct rlimit r;

	check(getrlimit(RLIMIT_NOFILE, &r) == 0);
	r.rlim_cur = r.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &r); /* a system's own bound may be lower still */
}

void sys_uv_confine(void)
{
	struct rlimit r;

	check(getrlimit(RLIMIT_CORE, &r) == 0);
	r.rlim_cur = 0;
	check(setrlimit(RLIMIT_CORE, &r) == 0);
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); /* where the kernel knows it */
}

uint32_t sys_cpus(struct sys *s)
{
	cpu_set_t set;
	uint32_t n = 1;

	if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
		n = (uint32_t)CPU_COUNT(&set);
	each_group(bound_cpus, &n);
	return n;
}
