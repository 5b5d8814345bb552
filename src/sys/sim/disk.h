/* SPDX-License-Identifier: Apache-2.0 */
/* disk.h: the disk of a simulated node: a directory tree as programs see it and as a power cut
 * would leave it.
 *
 * Each change of a directory (create, rename, unlink) is pending until its directory is synced, or
 * until the kernel committed it by itself after a while.  A power cut keeps either a prefix of the
 * pending changes (a journal in order) or any subset of them; one change is atomic.  A file that no
 * surviving entry names is gone, however well its bytes were synced.
 *
 * Paths are separated by '/'; empty and "." components are skipped, ".." is refused. */
#ifndef SYS_SIM_DISK_H
#define SYS_SIM_DISK_H
#include "base/err.h"
#include "base/list.h"
#include "base/prng.h"
#include "sys/sim/image.h"

enum { DISK_DEPTH_MAX = 32, DISK_NAME_MAX = 255, DISK_COMMIT_SECONDS = 30 };

struct entry {
	char *name;
	struct inode *to;
};
struct names {
	struct entry *e;
	uint32_t n, room;
}; /* sorted by name */

struct inode {
	struct list link; /* of all inodes of the disk */
	uint32_t refs;    /* entries of both views, pending changes, handles */
	uint32_t links;   /* entries of the present view */
	uint32_t opens;
	bool is_dir;
	const void *lock;      /* the handle that holds it exclusively */
	struct names now, was; /* of a directory: as seen, as durable */
	struct image image;    /* of a file */
};

struct disk {
	struct list inodes, changes; /* changes: pending, in the order they were made */
	struct inode *root;
	uint64_t capacity_pages, used_pages;
	bool full;
};

void disk_init(struct disk *d, uint64_t bytes);
void disk_free(struct disk *d); /* no handle may be open */

/* 0 and the inode; E_NOTFOUND; E_INVALID for a path that no disk can hold. */
int disk_find(const struct disk *d, const char *path, struct inode **ret_n);
/* E_EXISTS when the name is taken, E_FULL; now_ns: time of the change, in all calls. */
int disk_create(
	struct disk *d, const char *path, bool is_dir, uint64_t now_ns, struct inode **ret_n);
int disk_unlink(struct disk *d, const char *path, uint64_t now_ns); /* files only */
int disk_rename(struct disk *d, const char *from, const char *to, uint64_t now_ns);
void disk_sync_dir(struct disk *d, struct inode *dir);
uint64_t disk_pending(const struct disk *d); /* changes not durable yet */

void inode_open(struct inode *n);
void inode_close(struct disk *d, struct inode *n);
/* True when that many more pages fit.  Whoever changes an image tells the disk how its used_pages
 * was before. */
bool disk_fits(const struct disk *d, uint64_t pages);
void disk_account(struct disk *d, const struct inode *n, uint64_t pages_before);

/* Power cut: no handle may be open. */
void disk_crash(struct disk *d, struct prng *p, uint32_t torn_ppm);
/* The same where keep(arg, i) decides what is kept, change by change and sector by sector; returns
 * how many decisions there were.  They come in one order for equal answers. */
uint32_t disk_crash_asking(struct disk *d, bool (*keep)(void *arg, uint32_t i), void *arg);
/* to becomes what from is, with what is not synced, but without its handles and what only they
 * hold. */
void disk_copy(struct disk *to, const struct disk *from);
uint64_t disk_sum(const struct disk *d); /* of all names and bytes that programs see */
#endif
