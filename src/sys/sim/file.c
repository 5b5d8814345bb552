/* SPDX-License-Identifier: Apache-2.0 */
/* Files as programs call them.  Each call is an operation of the disk: it takes a drawn time, and
 * its effect happens when that time is over.  An operation that is cut off, by cancellation or by
 * the end of the process, has happened or has not: drawn. */
#include "base/check.h"
#include "base/hash.h"
#include "sys/sim/world.h"
#include <stdlib.h>
#include <string.h>

struct sys_file {
	struct list link; /* in sys->files */
	struct sys *sys;
	struct inode *inode; /* NULL: an empty shell after the end of its process */
	unsigned flags;
	uint32_t calls; /* under way */
	char *path;
};

struct op {
	struct call call;
	struct event event;
	struct sys *sys;
	const char *verb, *path, *to;
	int64_t (*apply)(struct op *o);
	bool changes; /* it has an effect that a cut-off may or may not leave behind */
	bool cut_off; /* nobody waits for the result any more */
	int64_t result;
	struct sys_file *file, *opened;
	unsigned flags;
	void *buf;
	const void *from;
	uint64_t off, len, upto;
	uint64_t free_pages, total_pages;
	struct inode *syncs; /* what a sync is of; upto: what it covers */
};

static struct disk *disk_of(struct op *o)
{
	return &o->sys->node->disk;
}

/* ---- running an operation ---- */
static void op_fire(struct event *e)
{
	struct op *o = container_of(e, struct op, event);

	o->sys->node->disk_ops++;
	if (!node_fails(o->sys->node, o->verb, o->path)) {
		o->result = o->apply(o);
	} else {
		o->result = o->sys->node->fail_rc;
		if (o->syncs != NULL)
			image_sync_end(&o->syncs->image, 0, true, 0); /* it has covered nothing */
	}
	call_end(&o->call, 0);
}

static void op_drop(struct call *c)
{
	struct op *o = container_of(c, struct op, call);
	struct sim *w = o->sys->w;
	bool happened = prng_next(stream(w, STREAM_DISK)) & 1;

	heap_drop(&w->heap, &o->event);
	o->cut_off = true;
	if (o->syncs != NULL && !happened)
		image_sync_end(&o->syncs->image, 0, true, 0); /* it has covered nothing */
	else if (happened && o->changes)
		(void)o->apply(o);
}

static int64_t op_note(struct op *o, int64_t rc, struct err_note *note)
{
	if (rc >= 0)
		return rc;
	if (o->len > 0)
		return err_set(note, (int)rc, "%s %s: %llu bytes at %llu: %s", o->verb, o->path,
			(unsigned long long)o->len, (unsigned long long)o->off, err_text((int)rc));
	return err_set(note, (int)rc, "%s %s: %s", o->verb, o->path, err_text((int)rc));
}

static int64_t op_run(struct op *o, struct err_note *note)
{
	struct sys *s = o->sys;
	struct sim *w = s->w;
	uint64_t delay_ns;
	int rc;

	delay_ns = prng_below(stream(w, STREAM_DISK), 1 + w->faults.disk_op_max_ns);
	if (sim_odds(w, STREAM_DISK, w->faults.disk_slow_ppm)) {
		delay_ns += prng_below(stream(w, STREAM_DISK), 2 * SYS_SEC);
		sim_fault(w, s->node, "disk: slow: %s %s", o->verb, o->path);
	}
	w->counts.disk_ops++;
	o->call.drop = op_drop;
	o->event.fire = op_fire;
	heap_put(&w->heap, &o->event, w->now_ns + delay_ns);
	if (o->file != NULL)
		o->file->calls++;
	rc = call_wait(s, &o->call, FOREVER);
	if (o->file != NULL)
		o->file->calls--;
	return op_note(o, rc < 0 ? rc : o->result, note);
}

static int64_t file_run(struct op *o, struct sys_file *f, const char *verb, struct err_note *note)
{
	o->sys = f->sys;
	o->file = f;
	o->verb = verb;
	o->path = f->path;
	if (f->sys->dead)
		return op_note(o, sys_dead(f->sys), note);
	if (o->off > IMAGE_BYTES_MAX || o->len > IMAGE_BYTES_MAX - o->off)
		return op_note(o, E_TOOBIG, note);
	if ((f->flags & SYS_DIRECT) && (o->buf != NULL || o->from != NULL)) {
		check(o->off % SYS_BLOCK == 0);
		check(o->len % SYS_BLOCK == 0);
		check((uintptr_t)o->buf % SYS_BLOCK == 0);
		check((uintptr_t)o->from % SYS_BLOCK == 0);
	}
	return op_run(o, note);
}

static bool io_fails(struct op *o)
{
	struct sim *w = o->sys->w;

	if (!sim_odds(w, STREAM_DISK, w->faults.disk_io_ppm))
		return false;
	sim_fault(w, o->sys->node, "disk: i/o error: %s %s", o->verb, o->path);
	return true;
}

/* ---- opening and closing ---- */
static int64_t open_apply(struct op *o)
{
	struct disk *d = disk_of(o);
	struct inode *n;
	uint64_t pages;
	int rc = disk_find(d, o->path, &n);

	if (rc == 0 && (o->flags & SYS_EXCL))
		return E_EXISTS;
	if (rc == E_NOTFOUND && (o->flags & SYS_CREATE))
		rc = disk_create(d, o->path, false, o->sys->w->now_ns, &n);
	if (rc < 0)
		return rc;
	if (n->is_dir)
		return E_INVALID;
	if (o->flags & SYS_TRUNC) {
		pages = n->image.used_pages;
		image_resize(&n->image, 0);
		disk_account(d, n, pages);
	}
	if (o->cut_off)
		return 0;
	o->opened->inode = n;
	inode_open(n);
	return 0;
}

static void file_free(struct sys_file *f)
{
	list_remove(&f->link);
	free(f->path);
	free(f);
}

int sys_open(struct sys *s, const char *path, unsigned flags, struct sys_file **ret_f,
	struct err_note *note)
{
	struct op o = {
		.sys = s, .verb = flags & SYS_CREATE ? "create" : "open", .path = path,
		.flags = flags, .apply = open_apply
	};
	struct sys_file *f;
	int64_t rc;

	check(flags & (SYS_READ | SYS_WRITE));
	if (s->dead)
		return (int)op_note(&o, sys_dead(s), note);
	o.changes = flags & (SYS_CREATE | SYS_TRUNC);
	f = calloc(1, sizeof *f);
	check(f != NULL);
	f->sys = s;
	f->flags = flags;
	f->path = strdup(path);
	check(f->path != NULL);
	list_push(&s->files, &f->link);
	o.opened = f;
	rc = op_run(&o, note);
	if (rc < 0)
		file_free(f);
	else
		*ret_f = f;
	return (int)rc;
}

static void file_detach(struct sys_file *f)
{
	if (f->inode == NULL)
		return;
	if (f->inode->lock == f)
		f->inode->lock = NULL;
	inode_close(&f->sys->node->disk, f->inode);
	f->inode = NULL;
}

void sys_close(struct sys_file *f)
{
	if (f == NULL)
		return;
	check(f->calls == 0);
	file_detach(f);
	file_free(f);
}

void files_end(struct sys *s)
{
	list_each (it, &s->files)
		file_detach(container_of(it, struct sys_file, link));
}

int sys_lock(struct sys_file *f, struct err_note *note)
{
	if (f->sys->dead)
		return sys_dead(f->sys);
	if (f->inode->lock != NULL && f->inode->lock != f)
		return err_set(note, E_INUSE, "%s: in use", f->path);
	f->inode->lock = f;
	return 0;
}

/* ---- bytes ---- */
static int64_t read_apply(struct op *o)
{
	struct sim *w = o->sys->w;
	struct image *im = &o->file->inode->image;
	uint64_t at, n;

	if (io_fails(o))
		return E_IO;
	n = image_read(im, o->buf, o->len, o->off);
	if (n == 0 || !sim_odds(w, STREAM_DISK, w->faults.disk_rot_ppm))
		return (int64_t)n;
	at = prng_below(stream(w, STREAM_DISK), n * 8);
	if (image_flip(im, o->off + at / 8, at % 8)) {
		sim_fault(w, o->sys->node, "disk: rot: %s byte %llu", o->path,
			(unsigned long long)(o->off + at / 8));
		(void)image_read(im, o->buf, o->len, o->off);
	}
	return (int64_t)n;
}

int64_t sys_pread(struct sys_file *f, void *buf, size_t len, uint64_t off, struct err_note *note)
{
	struct op o = { .apply = read_apply, .buf = buf, .len = len, .off = off };

	check(f->flags & SYS_READ);
	return file_run(&o, f, "read", note);
}

static int64_t write_apply(struct op *o)
{
	struct sim *w = o->sys->w;
	struct inode *n = o->file->inode;
	struct image *im = &n->image;
	uint64_t pages = im->used_pages, coins = prng_next(stream(w, STREAM_DISK));
	bool fails = io_fails(o);

	if (fails &&
		(coins & 1)) /* a part of it is in the file, and the caller cannot know which */
		o->len = prng_below(stream(w, STREAM_DISK), o->len + 1);
	if (!disk_fits(disk_of(o), image_need(im, o->off, o->len)))
		return E_FULL;
	image_write(im, o->from, o->len, o->off, coins);
	disk_account(disk_of(o), n, pages);
	w->digest = sim_fold(w->digest, crc32c(0, o->from, o->len));
	return fails ? E_IO : 0;
}

int sys_pwrite(struct sys_file *f, const void *buf, size_t len, uint64_t off, struct err_note *note)
{
	struct op o = {
		.apply = write_apply, .changes = true, .from = buf, .len = len, .off = off
	};

	check(f->flags & SYS_WRITE);
	return (int)file_run(&o, f, "write", note);
}

int sys_pwrite_now(
	struct sys_file *f, const void *buf, size_t len, uint64_t off, struct err_note *note)
{
	return sys_pwrite(f, buf, len, off, note);
}

static int64_t sync_apply(struct op *o)
{
	uint64_t coins = prng_next(stream(o->sys->w, STREAM_DISK));
	bool fails = io_fails(o);

	image_sync_end(&o->syncs->image, o->upto, !fails, coins);
	return fails ? E_IO : 0;
}

int sys_sync(struct sys_file *f, struct err_note *note)
{
	struct op o = { .apply = sync_apply, .changes = true };

	if (!f->sys->dead) {
		o.syncs = f->inode;
		o.upto = image_sync_begin(&f->inode->image);
	}
	return (int)file_run(&o, f, "sync", note);
}

static int64_t truncate_apply(struct op *o)
{
	struct inode *n = o->file->inode;
	uint64_t pages = n->image.used_pages;

	image_resize(&n->image, o->off);
	disk_account(disk_of(o), n, pages);
	return 0;
}

int sys_truncate(struct sys_file *f, uint64_t len, struct err_note *note)
{
	struct op o = { .apply = truncate_apply, .changes = true, .off = len };

	check(f->flags & SYS_WRITE);
	return (int)file_run(&o, f, "truncate", note);
}

static int64_t allocate_apply(struct op *o)
{
	struct inode *n = o->file->inode;
	uint64_t pages = n->image.used_pages;

	if (!disk_fits(disk_of(o), image_need(&n->image, o->off, o->len)))
		return E_FULL;
	image_reserve(&n->image, o->off, o->len);
	disk_account(disk_of(o), n, pages);
	return 0;
}

int sys_allocate(struct sys_file *f, uint64_t off, uint64_t len, struct err_note *note)
{
	struct op o = { .apply = allocate_apply, .changes = true, .off = off, .len = len };

	check(f->flags & SYS_WRITE);
	return (int)file_run(&o, f, "allocate", note);
}

static int64_t punch_apply(struct op *o)
{
	struct inode *n = o->file->inode;
	uint64_t pages = n->image.used_pages;

	image_punch(&n->image, o->off, o->len);
	disk_account(disk_of(o), n, pages);
	return 0;
}

int sys_punch(struct sys_file *f, uint64_t off, uint64_t len, struct err_note *note)
{
	struct op o = { .apply = punch_apply, .changes = true, .off = off, .len = len };

	check(f->flags & SYS_WRITE);
	return (int)file_run(&o, f, "punch", note);
}

static int64_t size_apply(struct op *o)
{
	return (int64_t)o->file->inode->image.size;
}

int sys_file_bytes(struct sys_file *f, uint64_t *ret_len, struct err_note *note)
{
	struct op o = { .apply = size_apply };
	int64_t rc = file_run(&o, f, "stat", note);

	if (rc < 0)
		return (int)rc;
	*ret_len = (uint64_t)rc;
	return 0;
}

/* ---- names ---- */
static int name_run(
	struct op *o, struct sys *s, const char *verb, const char *path, struct err_note *note)
{
	o->sys = s;
	o->verb = verb;
	o->path = path;
	if (s->dead)
		return (int)op_note(o, sys_dead(s), note);
	return (int)op_run(o, note);
}

static int64_t mkdir_apply(struct op *o)
{
	struct inode *n;
	int rc = disk_create(disk_of(o), o->path, true, o->sys->w->now_ns, &n);

	if (rc == E_EXISTS && disk_find(disk_of(o), o->path, &n) == 0 && n->is_dir)
		return 0;
	return rc;
}

int sys_mkdir(struct sys *s, const char *path, struct err_note *note)
{
	struct op o = { .apply = mkdir_apply, .changes = true };

	return name_run(&o, s, "mkdir", path, note);
}

static int64_t unlink_apply(struct op *o)
{
	return disk_unlink(disk_of(o), o->path, o->sys->w->now_ns);
}

int sys_unlink(struct sys *s, const char *path, struct err_note *note)
{
	struct op o = { .apply = unlink_apply, .changes = true };

	return name_run(&o, s, "unlink", path, note);
}

static int64_t rename_apply(struct op *o)
{
	return disk_rename(disk_of(o), o->path, o->to, o->sys->w->now_ns);
}

int sys_rename(struct sys *s, const char *from, const char *to, struct err_note *note)
{
	struct op o = { .apply = rename_apply, .changes = true, .to = to };

	return name_run(&o, s, "rename", from, note);
}

static int64_t dir_of(struct op *o, struct inode **ret_dir)
{
	int rc = disk_find(disk_of(o), o->path, ret_dir);

	return rc == 0 && !(*ret_dir)->is_dir ? E_INVALID : rc;
}

static int64_t sync_dir_apply(struct op *o)
{
	struct inode *dir;
	int64_t rc = dir_of(o, &dir);

	if (rc < 0 || io_fails(o))
		return rc < 0 ? rc : E_IO;
	disk_sync_dir(disk_of(o), dir);
	return 0;
}

int sys_sync_dir(struct sys *s, const char *path, struct err_note *note)
{
	struct op o = { .apply = sync_dir_apply, .changes = true };

	return name_run(&o, s, "sync", path, note);
}

/* The names as of now, one behind the other: the directory may change while each() runs. */
static int64_t list_apply(struct op *o)
{
	struct inode *dir;
	int64_t rc = dir_of(o, &dir);
	size_t len = 1;
	char *p;

	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < dir->now.n; i++)
		len += strlen(dir->now.e[i].name) + 1;
	o->buf = p = calloc(1, len);
	check(p != NULL);
	for (uint32_t i = 0; i < dir->now.n; i++)
		p = stpcpy(p, dir->now.e[i].name) + 1;
	return 0;
}

int sys_list_dir(struct sys *s, const char *path, void (*each)(void *arg, const char *name),
	void *arg, struct err_note *note)
{
	struct op o = { .apply = list_apply };
	int rc = name_run(&o, s, "list", path, note);

	if (rc < 0)
		return rc;
	for (const char *p = o.buf; *p != '\0'; p += strlen(p) + 1)
		each(arg, p);
	free(o.buf);
	return 0;
}

static int64_t room_apply(struct op *o)
{
	const struct disk *d = disk_of(o);
	struct inode *n;
	int rc = disk_find(d, o->path, &n);

	if (rc < 0)
		return rc;
	o->total_pages = d->capacity_pages;
	o->free_pages = disk_fits(d, 1) ? d->capacity_pages - d->used_pages : 0;
	return 0;
}

int sys_disk_room(struct sys *s, const char *path, uint64_t *ret_free, uint64_t *ret_total,
	struct err_note *note)
{
	struct op o = { .apply = room_apply };
	int rc = name_run(&o, s, "statfs", path, note);

	if (rc < 0)
		return rc;
	*ret_free = o.free_pages * PAGE_BYTES;
	*ret_total = o.total_pages * PAGE_BYTES;
	return 0;
}
