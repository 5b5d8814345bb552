/* SPDX-License-Identifier: Apache-2.0 */
/* Where this process may write: Landlock, which takes rights away from a thread for good.
 *
 * (C1) Threads begin with the rights of those that start them.  Workers, which may be there
 * already, take the same rights away from themselves before their next work. */
#include "base/check.h"
#include "sys/uv/own.h"
#include "sys/uv/sys_uv.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ull << 14)
#endif
enum { ABI_WITH_TRUNCATE = 3 }; /* and with moves between folders, since 2 */

static const uint64_t writes = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE |
			       LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
			       LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR |
			       LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
			       LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_MAKE_CHAR |
			       LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_REFER;
static atomic_int rules = -1;
static _Thread_local bool confined;

static int allow(int fd, const char *path, uint64_t rights)
{
	struct landlock_path_beneath_attr beneath = { .allowed_access = rights,
		.parent_fd = open(path, O_PATH | O_CLOEXEC) };
	long rc = -1;

	if (beneath.parent_fd < 0)
		return -errno;
	rc = syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0);
	close(beneath.parent_fd);
	return rc < 0 ? -errno : 0;
}

static int make_rules(const char *const *folders, uint32_t n, struct err_note *note)
{
	struct landlock_ruleset_attr attr = { .handled_access_fs = writes };
	int fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0), rc;

	if (fd < 0)
		return err_set(note, sys_err(errno), "rules for the file system: %s",
			sys_err_words(errno));
	/* what is open already stays so; children open this one for what they say to nobody */
	rc = allow(fd, "/dev/null", LANDLOCK_ACCESS_FS_WRITE_FILE);
	for (uint32_t i = 0; rc == 0 && i < n; i++)
		if ((rc = allow(fd, folders[i], writes)) == -ENOENT)
			rc = 0;
		else if (rc < 0)
			err_set(note, sys_err(-rc), "%s: %s", folders[i], sys_err_words(-rc));
	if (rc == 0)
		return fd;
	close(fd);
	return sys_err(-rc);
}

void confine_thread(void)
{
	int fd = atomic_load(&rules);

	if (fd < 0 || confined)
		return;
	check(syscall(SYS_landlock_restrict_self, fd, 0) == 0);
	confined = true;
}

int sys_uv_confine_writes(const char *const *folders, uint32_t n, struct err_note *note)
{
	long abi = syscall(
		SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	int fd;

	check(atomic_load(&rules) < 0);
	if (abi < ABI_WITH_TRUNCATE)
		return E_UNSUPPORTED;
	if ((fd = make_rules(folders, n, note)) < 0)
		return fd;
	atomic_store(&rules, fd);
	confine_thread();
	return 0;
}
