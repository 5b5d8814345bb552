/* SPDX-License-Identifier: Apache-2.0 */
/* The directory tree of a simulated disk.
 * (I1) refs counts the entries of both views, the targets and directories of pending changes, and
 *      the open handles; at 0 the inode is freed.
 * (I2) the durable view is the present one minus the pending changes, applied in order.
 * (I3) used_pages sums the files that can still be reached: linked in the present view, or open.
 * (I4) a renamed directory commits everything before it, so the durable view never has a cycle. */
#include "sys/sim/disk.h"
#include "base/check.h"
#include "base/hash.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One name that changes: points to `to`, or to nothing. */
struct slot {
	struct inode *dir, *to;
	char *name;
};
struct change {
	struct list link;
	uint64_t at_ns;
	struct slot slots[2];
};

static void *must(void *p)
{
	check(p != NULL);
	return p;
}

/* ---- names of a directory ---- */
static uint32_t names_place(const struct names *l, const char *name, size_t len, bool *ret_found)
{
	uint32_t low = 0, high = l->n;

	*ret_found = false;
	while (low < high) {
		uint32_t mid = (low + high) / 2;
		int d = strncmp(l->e[mid].name, name, len);

		if (d == 0)
			d = l->e[mid].name[len] != '\0';
		if (d == 0)
			*ret_found = true;
		if (d < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static struct inode *names_find(const struct names *l, const char *name, size_t len)
{
	bool found;
	uint32_t i = names_place(l, name, len, &found);

	return found ? l->e[i].to : NULL;
}

static void inode_put(struct inode *n);

static void names_clear(struct names *l)
{
	for (uint32_t i = 0; i < l->n; i++) {
		inode_put(l->e[i].to);
		free(l->e[i].name);
	}
	free(l->e);
	*l = (struct names){ 0 };
}

static void inode_put(struct inode *n)
{
	check(n->refs > 0);
	if (--n->refs > 0)
		return;
	check(n->opens == 0);
	list_remove(&n->link);
	names_clear(&n->now);
	names_clear(&n->was);
	image_free(&n->image);
	free(n);
}

/* Points name to `to`, or takes it away when that is NULL. */
static void names_set(struct names *l, const char *name, struct inode *to)
{
	bool found;
	uint32_t i = names_place(l, name, strlen(name), &found);
	struct inode *old = found ? l->e[i].to : NULL;

	if (to != NULL)
		to->refs++;
	if (!found && to != NULL) {
		if (l->n == l->room) {
			l->room = 2 * l->room + 4;
			l->e = must(realloc(l->e, l->room * sizeof *l->e));
		}
		memmove(l->e + i + 1, l->e + i, (l->n - i) * sizeof *l->e);
		l->e[i] = (struct entry){ must(strdup(name)), to };
		l->n++;
	} else if (found && to != NULL) {
		l->e[i].to = to;
	} else if (found) {
		free(l->e[i].name);
		l->n--;
		memmove(l->e + i, l->e + i + 1, (l->n - i) * sizeof *l->e);
	}
	if (old != NULL)
		inode_put(old);
}

static struct inode *inode_new(struct disk *d, bool is_dir)
{
	struct inode *n = must(calloc(1, sizeof *n));

	n->refs = 1;
	n->is_dir = is_dir;
	image_init(&n->image);
	list_push(&d->inodes, &n->link);
	return n;
}

/* ---- pending changes ---- */
static void change_free(struct change *c)
{
	list_remove(&c->link);
	for (int i = 0; i < 2; i++) {
		if (c->slots[i].dir == NULL)
			continue;
		inode_put(c->slots[i].dir);
		if (c->slots[i].to != NULL)
			inode_put(c->slots[i].to);
		free(c->slots[i].name);
	}
	free(c);
}

/* A committed change hides what earlier, still pending ones would do to the same names. */
static void slot_hide(struct disk *d, const struct change *upto, const struct slot *s)
{
	list_each (it, &d->changes) {
		struct change *c = container_of(it, struct change, link);

		if (c == upto)
			return;
		for (int i = 0; i < 2; i++) {
			struct slot *o = &c->slots[i];

			if (o->dir != s->dir || strcmp(o->name, s->name) != 0)
				continue;
			inode_put(o->dir);
			if (o->to != NULL)
				inode_put(o->to);
			free(o->name);
			*o = (struct slot){ 0 };
		}
	}
}

static void change_commit(struct disk *d, struct change *c)
{
	for (int i = 0; i < 2; i++) {
		struct slot *s = &c->slots[i];

		if (s->dir == NULL)
			continue;
		slot_hide(d, c, s);
		names_set(&s->dir->was, s->name, s->to);
	}
	change_free(c);
}

static void changes_commit_all(struct disk *d)
{
	while (!list_empty(&d->changes))
		change_commit(d, container_of(d->changes.next, struct change, link));
}

static struct change *change_new(struct disk *d, uint64_t now_ns)
{
	struct change *c = must(calloc(1, sizeof *c));
	const uint64_t age_ns = DISK_COMMIT_SECONDS * UINT64_C(1000000000);

	while (!list_empty(&d->changes)) {
		struct change *old = container_of(d->changes.next, struct change, link);

		if (now_ns < old->at_ns + age_ns)
			break;
		change_commit(d, old);
	}
	c->at_ns = now_ns;
	list_push(&d->changes, &c->link);
	return c;
}

/* Changes the present view and remembers it for the durable one. */
static void change_set(struct disk *d, struct change *c, int slot, struct inode *dir,
	const char *name, struct inode *to)
{
	struct inode *old = names_find(&dir->now, name, strlen(name));

	dir->refs++;
	if (to != NULL) {
		to->refs++;
		to->links++;
	}
	c->slots[slot] = (struct slot){ dir, to, must(strdup(name)) };
	if (old != NULL) {
		check(old->links > 0);
		old->links--;
		if (old->links == 0 && old->opens == 0)
			d->used_pages -= old->image.used_pages; /* (I3) */
	}
	names_set(&dir->now, name, to);
}

/* ---- paths ---- */
static const char *path_skip(const char *p)
{
	while (*p == '/' || (p[0] == '.' && (p[1] == '/' || p[1] == '\0')))
		p++;
	return p;
}

/* The directory of a path and its last component, copied to name (empty for the root). */
static int path_parent(const struct disk *d, const char *path, struct inode **ret_dir, char *name)
{
	struct inode *dir = d->root;
	int depth = 0;

	name[0] = '\0';
	for (const char *p = path_skip(path), *end; *p != '\0'; p = path_skip(end)) {
		size_t len = strcspn(p, "/");

		end = p + len;
		if (len > DISK_NAME_MAX || ++depth > DISK_DEPTH_MAX ||
			(len == 2 && p[0] == '.' && p[1] == '.'))
			return E_INVALID;
		if (*path_skip(end) == '\0') {
			memcpy(name, p, len);
			name[len] = '\0';
			break;
		}
		dir = names_find(&dir->now, p, len);
		if (dir == NULL || !dir->is_dir)
			return E_NOTFOUND;
	}
	*ret_dir = dir;
	return 0;
}

int disk_find(const struct disk *d, const char *path, struct inode **ret_n)
{
	char name[DISK_NAME_MAX + 1];
	struct inode *dir, *n;
	int rc = path_parent(d, path, &dir, name);

	if (rc < 0)
		return rc;
	n = name[0] == '\0' ? dir : names_find(&dir->now, name, strlen(name));
	if (n == NULL)
		return E_NOTFOUND;
	*ret_n = n;
	return 0;
}

/* ---- operations ---- */
void disk_init(struct disk *d, uint64_t bytes)
{
	*d = (struct disk){ .capacity_pages = bytes / PAGE_BYTES };
	list_init(&d->inodes);
	list_init(&d->changes);
	d->root = inode_new(d, true);
	d->root->links = 1;
}

void disk_free(struct disk *d)
{
	while (!list_empty(&d->changes))
		change_free(container_of(d->changes.next, struct change, link));
	inode_put(d->root);
	check(list_empty(&d->inodes)); /* (I1): nothing holds another reference */
}

bool disk_fits(const struct disk *d, uint64_t pages)
{
	if (pages == 0)
		return true;
	return !d->full && pages <= d->capacity_pages && d->used_pages <= d->capacity_pages - pages;
}

void disk_account(struct disk *d, const struct inode *n, uint64_t pages_before)
{
	check(d->used_pages >= pages_before);
	d->used_pages += n->image.used_pages - pages_before;
}

int disk_create(
	struct disk *d, const char *path, bool is_dir, uint64_t now_ns, struct inode **ret_n)
{
	char name[DISK_NAME_MAX + 1];
	struct inode *dir, *n;
	int rc = path_parent(d, path, &dir, name);

	if (rc < 0)
		return rc;
	if (name[0] == '\0' || names_find(&dir->now, name, strlen(name)) != NULL)
		return E_EXISTS;
	if (!disk_fits(d, 1))
		return E_FULL;
	n = inode_new(d, is_dir);
	change_set(d, change_new(d, now_ns), 0, dir, name, n);
	inode_put(n); /* the entry and the change hold it */
	*ret_n = n;
	return 0;
}

int disk_unlink(struct disk *d, const char *path, uint64_t now_ns)
{
	char name[DISK_NAME_MAX + 1];
	struct inode *dir, *n;
	int rc = path_parent(d, path, &dir, name);

	if (rc < 0)
		return rc;
	n = names_find(&dir->now, name, strlen(name));
	if (n == NULL)
		return E_NOTFOUND;
	if (n->is_dir)
		return E_INVALID;
	change_set(d, change_new(d, now_ns), 0, dir, name, NULL);
	return 0;
}

static bool is_below(const struct inode *n, const struct inode *top)
{
	for (uint32_t i = 0; i < top->now.n; i++)
		if (top->now.e[i].to == n || is_below(n, top->now.e[i].to))
			return true;
	return n == top;
}

int disk_rename(struct disk *d, const char *from, const char *to, uint64_t now_ns)
{
	char from_name[DISK_NAME_MAX + 1], to_name[DISK_NAME_MAX + 1];
	struct inode *from_dir, *to_dir, *n, *old;
	struct change *c;
	int rc = path_parent(d, from, &from_dir, from_name);

	if (rc == 0)
		rc = path_parent(d, to, &to_dir, to_name);
	if (rc < 0)
		return rc;
	n = names_find(&from_dir->now, from_name, strlen(from_name));
	if (n == NULL)
		return E_NOTFOUND;
	old = names_find(&to_dir->now, to_name, strlen(to_name));
	if (old == n)
		return 0;
	if (to_name[0] == '\0' || (old != NULL && (old->is_dir || n->is_dir)))
		return E_EXISTS;
	if (n->is_dir && is_below(to_dir, n))
		return E_INVALID;
	if (n->is_dir)
		changes_commit_all(d); /* (I4) */
	c = change_new(d, now_ns);
	change_set(d, c, 0, to_dir, to_name, n);
	change_set(d, c, 1, from_dir, from_name, NULL);
	return 0;
}

void disk_sync_dir(struct disk *d, struct inode *dir)
{
	check(dir->is_dir);
	list_each_safe (it, &d->changes) {
		struct change *c = container_of(it, struct change, link);

		if (c->slots[0].dir == dir || c->slots[1].dir == dir)
			change_commit(d, c);
	}
}

uint64_t disk_pending(const struct disk *d)
{
	uint64_t n = 0;

	list_each (it, &d->changes)
		n++;
	return n;
}

void inode_open(struct inode *n)
{
	n->refs++;
	n->opens++;
}

void inode_close(struct disk *d, struct inode *n)
{
	check(n->opens > 0);
	n->opens--;
	if (n->links == 0 && n->opens == 0)
		d->used_pages -= n->image.used_pages; /* (I3) */
	inode_put(n);
}

/* ---- power cut ---- */
/* The present view becomes the durable one, file by file in the order of names. */
static void dir_crash(struct disk *d, struct inode *dir, struct dice *dice)
{
	struct names was = { 0 };

	for (uint32_t i = 0; i < dir->was.n; i++)
		names_set(&was, dir->was.e[i].name, dir->was.e[i].to);
	names_clear(&dir->now);
	dir->now = was;
	for (uint32_t i = 0; i < dir->now.n; i++) {
		struct inode *n = dir->now.e[i].to;
		struct dice own = *dice;

		if (n->links++ > 0)
			continue; /* a rename of which only the arrival is durable leaves two names
				   */
		own.seed = prng_mix(&dice->seed);
		if (n->is_dir) {
			dir_crash(d, n, &own);
		} else {
			image_crash(&n->image, &own);
			d->used_pages += n->image.used_pages;
		}
	}
}

static void crash_begin(struct disk *d)
{
	list_each (it, &d->inodes) {
		struct inode *n = container_of(it, struct inode, link);

		check(n->opens == 0);
		n->links = n == d->root;
	}
}

static void crash_end(struct disk *d, struct dice *dice)
{
	while (!list_empty(&d->changes))
		change_free(container_of(d->changes.next, struct change, link));
	d->used_pages = 0;
	dir_crash(d, d->root, dice);
}

uint32_t disk_crash_asking(struct disk *d, bool (*keep)(void *arg, uint32_t i), void *arg)
{
	uint32_t n = 0;
	struct dice dice = { .mode = DICE_ASK, .keep = keep, .arg = arg, .n_asked = &n };

	crash_begin(d);
	list_each_safe (it, &d->changes)
		if (keep(arg, n++))
			change_commit(d, container_of(it, struct change, link));
	crash_end(d, &dice);
	return n;
}

void disk_crash(struct disk *d, struct prng *p, uint32_t torn_ppm)
{
	static const uint8_t modes[4] = { DICE_MIXED, DICE_MIXED, DICE_LOSE, DICE_KEEP };
	struct dice dice = { .torn_ppm = torn_ppm };
	uint64_t coins = prng_next(p);
	bool in_order = coins & 1, stopped = false;

	dice.mode = modes[coins >> 1 & 3];
	dice.seed = prng_next(p);
	crash_begin(d);
	list_each_safe (it, &d->changes) {
		struct change *c = container_of(it, struct change, link);
		bool keep = prng_next(p) & 1;

		if (dice.mode != DICE_MIXED)
			keep = dice.mode == DICE_KEEP;
		stopped = stopped || (in_order && !keep);
		if (keep && !stopped)
			change_commit(d, c);
	}
	crash_end(d, &dice);
}

/* ---- copies ---- */
/* The inode of the copy that stands at the same place of its list. */
static struct inode *twin(
	const struct disk *to, const struct disk *from, const struct inode *of)
{
	const struct list *at = to->inodes.next;

	if (of == NULL)
		return NULL;
	list_each (it, &from->inodes) {
		if (it == &of->link)
			return container_of(at, struct inode, link);
		at = at->next;
	}
	check(false); /* every inode is in the list of its disk */
	return NULL;
}

static void names_copy(struct disk *to, const struct disk *from, struct names *l,
	const struct names *old)
{
	for (uint32_t i = 0; i < old->n; i++)
		names_set(l, old->e[i].name, twin(to, from, old->e[i].to));
}

static void change_copy(struct disk *to, const struct disk *from, const struct change *old)
{
	struct change *c = must(calloc(1, sizeof *c));

	c->at_ns = old->at_ns;
	list_push(&to->changes, &c->link);
	for (int i = 0; i < 2; i++) {
		const struct slot *s = &old->slots[i];

		if (s->dir == NULL)
			continue;
		c->slots[i] = (struct slot){ twin(to, from, s->dir), twin(to, from, s->to),
			must(strdup(s->name)) };
		c->slots[i].dir->refs++;
		if (s->to != NULL)
			c->slots[i].to->refs++;
	}
}

static void inode_copy(struct disk *to, const struct disk *from, const struct inode *old)
{
	struct inode *n = twin(to, from, old);

	n->links = old->links;
	image_copy(&n->image, &old->image);
	if (n->links > 0)
		to->used_pages += n->image.used_pages; /* (I3) */
	names_copy(to, from, &n->now, &old->now);
	names_copy(to, from, &n->was, &old->was);
}

void disk_copy(struct disk *to, const struct disk *from)
{
	disk_init(to, from->capacity_pages * PAGE_BYTES);
	to->full = from->full;
	inode_put(to->root);
	list_each (it, &from->inodes)
		(void)inode_new(to, container_of(it, struct inode, link)->is_dir);
	to->root = twin(to, from, from->root);
	list_each (it, &from->inodes)
		inode_copy(to, from, container_of(it, struct inode, link));
	list_each (it, &from->changes)
		change_copy(to, from, container_of(it, struct change, link));
	/* The reference of inode_new() is the root's; of all others it goes, and takes those along
	 * that only a handle held. */
	list_each_safe (it, &to->inodes) {
		struct inode *n = container_of(it, struct inode, link);

		if (n != to->root)
			inode_put(n);
	}
}

static uint64_t dir_sum(const struct inode *dir, uint64_t sum)
{
	for (uint32_t i = 0; i < dir->now.n; i++) {
		const struct entry *e = &dir->now.e[i];

		sum = hash64(sum, e->name, strlen(e->name) + 1);
		sum = e->to->is_dir ? dir_sum(e->to, sum) : image_sum(&e->to->image, sum);
	}
	return hash64(sum, &dir->now.n, sizeof dir->now.n);
}

uint64_t disk_sum(const struct disk *d)
{
	return dir_sum(d->root, 0);
}
