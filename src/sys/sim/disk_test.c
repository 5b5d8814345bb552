/* SPDX-License-Identifier: Apache-2.0 */
/* A file keeps what was committed, loses or keeps the rest by sectors, and never shows bytes that
 * nobody wrote. */
#include "sys/sim/disk.h"
#include "sys/sim/heap.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PAGES = 6, BYTES = PAGES * PAGE_BYTES, SEEDS = 300 };
static const struct dice lose = { .mode = DICE_LOSE }, keep = { .mode = DICE_KEEP };

static void put(struct image *im, uint64_t off, size_t len, uint8_t with, uint64_t coins)
{
	static uint8_t buf[BYTES];

	memset(buf, with, sizeof buf);
	image_write(im, buf, len, off, coins);
}

static int at(const struct image *im, uint64_t off)
{
	uint8_t b;

	return image_read(im, &b, 1, off) == 1 ? b : -1;
}

static void sync_all(struct image *im)
{
	image_sync_end(im, image_sync_begin(im), true, 0);
}

static void heap_orders(void **state)
{
	static struct event e[200];
	struct prng p = prng_fork(1, 1);
	struct heap h;
	uint64_t due[200], last = 0;

	(void)state;
	heap_init(&h);
	for (int i = 0; i < 200; i++) {
		due[i] = prng_below(&p, 50);
		e[i].fire = (void (*)(struct event *))abort;
		heap_put(&h, &e[i], due[i]);
	}
	for (int i = 0; i < 200; i += 3) {
		due[i] = prng_below(&p, 50);
		heap_put(&h, &e[i], due[i]);
	}
	for (int i = 1; i < 200; i += 3)
		heap_drop(&h, &e[i]);
	for (struct event *x, *before = NULL; h.n > 0; before = x) {
		uint64_t now = heap_due_ns(&h);

		x = heap_pop(&h);
		assert_true(due[x - e] == now);
		assert_true(now >= last);
		if (before != NULL && now == last && (x - e) % 3 == (before - e) % 3)
			assert_true(x > before); /* among equals the order of putting */
		assert_int_not_equal((x - e) % 3, 1);
		last = now;
	}
	assert_null(heap_pop(&h));
	heap_free(&h);
}

static void unsynced_is_lost_or_kept(void **state)
{
	struct image im;

	(void)state;
	image_init(&im);
	put(&im, 0, 1000, 'a', 0);
	sync_all(&im);
	put(&im, 500, 5000, 'b', 0);
	assert_int_equal(at(&im, 600), 'b');
	image_crash(&im, &lose);
	assert_int_equal(im.size, 1000);
	assert_int_equal(at(&im, 600), 'a');
	put(&im, 500, 5000, 'b', 0);
	image_crash(&im, &keep);
	assert_int_equal(im.size, 5500);
	assert_int_equal(at(&im, 499), 'a');
	assert_int_equal(at(&im, 5499), 'b');
	image_free(&im);
}

/* What was written while a sync was under way is not covered by it, but what it overtook is. */
static void a_sync_covers_what_came_before_it(void **state)
{
	struct image im;
	uint64_t upto;

	(void)state;
	image_init(&im);
	put(&im, 0, 512, 'a', 0);
	upto = image_sync_begin(&im);
	put(&im, 0, 512, 'b', 0);
	put(&im, 512, 512, 'b', 0);
	image_sync_end(&im, upto, true, 0);
	image_crash(&im, &lose);
	assert_int_equal(at(&im, 0), 'a');
	assert_int_equal(im.size, 512);
	image_free(&im);
}

static void a_failed_sync_is_never_made_good(void **state)
{
	struct image im;

	(void)state;
	image_init(&im);
	for (unsigned i = 0; i < 64; i++)
		put(&im, i * 512, 512, 'a', 0);
	image_sync_end(&im, image_sync_begin(&im), false, 7);
	sync_all(&im); /* "succeeds", for the kernel believes that the pages are clean */
	image_crash(&im, &keep);
	for (unsigned i = 1, lost = 0; i <= 64; i++) {
		lost += at(&im, (i - 1) * 512) != 'a';
		if (i == 64)
			assert_in_range(lost, 1, 63);
	}
	image_free(&im);
}

static void a_cut_is_whole(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct dice d = { .seed = seed, .torn_ppm = 500000 };
		struct image im;

		image_init(&im);
		put(&im, 0, BYTES, 'a', 0);
		sync_all(&im);
		image_resize(&im, 0);
		put(&im, 0, BYTES / 2, 'b', seed);
		image_crash(&im, &d);
		for (unsigned i = 0; i < PAGES * PAGE_SECTORS; i++) {
			int b = at(&im, i * SECTOR_BYTES);

			/* the old file untouched, or a new one with holes */
			assert_true(im.size == BYTES ? b == 'a' : b == 'b' || b == 0 || b == -1);
		}
		image_free(&im);
	}
}

static void torn_writes_appear(void **state)
{
	unsigned whole = 0, gone = 0, torn = 0;

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct dice d = { .seed = seed, .torn_ppm = 300000 };
		struct image im;
		unsigned n = 0;

		image_init(&im);
		put(&im, 0, BYTES, 'a', 0);
		sync_all(&im);
		put(&im, 512, 4096, 'b', 0);
		image_crash(&im, &d);
		for (unsigned i = 0; i < PAGES * PAGE_SECTORS; i++)
			n += at(&im, i * SECTOR_BYTES + seed % 512) == 'b';
		assert_int_equal(at(&im, 511), 'a');
		whole += n == 8;
		gone += n == 0;
		torn += n > 0 && n < 8;
		image_free(&im);
	}
	assert_in_range(whole, SEEDS / 5, SEEDS / 2);
	assert_in_range(gone, SEEDS / 5, SEEDS / 2);
	assert_in_range(torn, SEEDS / 6, SEEDS / 2);
}

/* Random changes against a plain array: the present view is exact, and after a crash each sector
 * shows a version that it once had since the last commit. */
static void model(uint64_t seed)
{
	static uint8_t now[BYTES], seen[PAGES * PAGE_SECTORS][256], got[BYTES], buf[BYTES];
	struct dice d = { .seed = seed, .torn_ppm = 500000 };
	struct prng p = prng_fork(seed, 3);
	struct image im;
	size_t size = 0;

	image_init(&im);
	memset(now, 0, sizeof now);
	memset(seen, 0, sizeof seen);
	for (unsigned i = 0; i < PAGES * PAGE_SECTORS; i++)
		seen[i][0] = 1;
	for (unsigned step = 1; step < 60; step++) {
		uint64_t off = prng_below(&p, BYTES / SECTOR_BYTES) * SECTOR_BYTES;
		uint64_t len = prng_below(&p, (BYTES - off) / SECTOR_BYTES + 1) * SECTOR_BYTES;
		uint64_t what = prng_below(&p, 10), coins = prng_next(&p);

		if (what < 6) {
			memset(buf, (int)step, len);
			image_write(&im, buf, len, off, coins);
			memset(now + off, (int)step, len);
			size = len > 0 && off + len > size ? off + len : size;
		} else if (what == 6) {
			image_punch(&im, off, len);
			memset(now + off, 0, len);
		} else if (what == 7) {
			image_resize(&im, off);
			size = off;
			memset(now + off, 0, BYTES - off);
		} else {
			sync_all(&im);
			for (unsigned i = 0; i < PAGES * PAGE_SECTORS; i++)
				memset(seen[i], 0, sizeof seen[i]);
		}
		for (unsigned i = 0; i < PAGES * PAGE_SECTORS; i++)
			seen[i][now[i * SECTOR_BYTES]] = 1;
		assert_int_equal(image_read(&im, got, BYTES, 0), size);
		assert_memory_equal(got, now, size);
	}
	image_crash(&im, &d);
	size = image_read(&im, got, BYTES, 0);
	for (unsigned i = 0; i < size / SECTOR_BYTES; i++) {
		uint8_t b = got[i * SECTOR_BYTES];

		assert_true(seen[i][b] || b == 0);
		for (unsigned k = 1; k < SECTOR_BYTES; k++)
			assert_int_equal(got[i * SECTOR_BYTES + k], b);
	}
	image_free(&im);
}

static void any_history(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++)
		model(seed);
}

/* ---- the directory tree ---- */
static struct disk disk;

static bool is_there(const char *path)
{
	struct inode *n;

	return disk_find(&disk, path, &n) == 0;
}

static void create(const char *path, bool is_dir)
{
	struct inode *n;

	assert_int_equal(disk_create(&disk, path, is_dir, 0, &n), 0);
}

static void sync_dir(const char *path)
{
	struct inode *n;

	assert_int_equal(disk_find(&disk, path, &n), 0);
	disk_sync_dir(&disk, n);
}

static void names_are_durable_with_their_directory(void **state)
{
	unsigned kept = 0;

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct prng p = prng_fork(seed, 2);

		disk_init(&disk, 1 << 20);
		create("/d", true);
		create("d/synced", false);
		sync_dir("/");
		sync_dir("d");
		create("d//./unsynced", false);
		assert_true(is_there("/d/unsynced"));
		disk_crash(&disk, &p, 0);
		assert_true(is_there("/d/synced"));
		kept += is_there("/d/unsynced");
		disk_free(&disk);
	}
	assert_in_range(kept, SEEDS / 4, 3 * SEEDS / 4);
}

static void a_rename_is_atomic(void **state)
{
	unsigned before = 0;

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct prng p = prng_fork(seed, 2);
		struct inode *n;

		disk_init(&disk, 1 << 20);
		create("new", false);
		create("old", false);
		sync_dir("/");
		assert_int_equal(disk_find(&disk, "new", &n), 0);
		put(&n->image, 0, 10, 'n', 0);
		sync_all(&n->image);
		assert_int_equal(disk_rename(&disk, "new", "old", 0), 0);
		disk_crash(&disk, &p, 0);
		assert_int_equal(disk_find(&disk, "old", &n), 0);
		assert_int_equal(n->image.size, is_there("new") ? 0 : 10);
		before += is_there("new");
		disk_free(&disk);
	}
	assert_in_range(before, SEEDS / 4, 3 * SEEDS / 4);
}

static bool keep_one(void *arg, uint32_t i)
{
	return i == *(uint32_t *)arg;
}

/* Whichever change a power cut keeps, it leaves the same of a disk and of its copy. */
static void a_copy_is_equal(void)
{
	uint32_t n = 1;

	for (uint32_t i = 0; i <= n; i++) {
		struct disk one, two;
		uint64_t now = disk_sum(&disk);

		disk_copy(&one, &disk);
		disk_copy(&two, &one);
		assert_true(disk_sum(&two) == now);
		n = disk_crash_asking(&one, keep_one, &i);
		assert_int_equal(disk_crash_asking(&two, keep_one, &i), n);
		assert_true(disk_sum(&two) == disk_sum(&one));
		assert_int_equal(one.used_pages, two.used_pages);
		disk_free(&one);
		disk_free(&two);
	}
}

/* Random trees: whatever a crash leaves is a tree whose files were there once, and its books agree.
 */
static void any_tree(void **state)
{
	static const char *const paths[] = { "a", "b", "d", "e", "d/a", "d/b", "e/a", "e/d", "d/e",
		"d/e/f" };

	(void)state;
	for (uint64_t seed = 0; seed < 4 * SEEDS; seed++) {
		struct prng p = prng_fork(seed, 2);
		uint64_t pages = 0;

		disk_init(&disk, 1 << 20);
		for (int i = 0; i < 60; i++) {
			const char *from = paths[prng_below(&p, 10)],
				   *to = paths[prng_below(&p, 10)];
			struct inode *n;

			switch (prng_below(&p, 7)) {
			case 0:
				(void)disk_unlink(&disk, from, 0);
				break;
			case 1:
				(void)disk_rename(&disk, from, to, 0);
				break;
			case 2:
				if (disk_find(&disk, from, &n) == 0 && n->is_dir)
					disk_sync_dir(&disk, n);
				break;
			case 3:
				if (prng_below(&p, 5) == 0)
					disk_crash(&disk, &p, 500000);
				break;
			case 4:
				(void)disk_create(&disk, from, true, 0, &n);
				break;
			default:
				if (disk_create(&disk, from, false, 0, &n) == 0) {
					put(&n->image, 0, 5000, 'x', 0);
					disk_account(&disk, n, 0);
				}
			}
		}
		a_copy_is_equal();
		disk_crash(&disk, &p, 500000);
		assert_int_equal(disk_pending(&disk), 0);
		list_each (it, &disk.inodes)
			pages += container_of(it, struct inode, link)->image.used_pages;
		assert_int_equal(disk.used_pages, pages); /* what no name reaches is gone */
		disk_free(&disk);
	}
}

static void names_are_refused_by_reason(void **state)
{
	struct inode *n;
	char deep[200] = "";

	(void)state;
	disk_init(&disk, 1 << 20);
	create("d", true);
	create("d/f", false);
	assert_int_equal(disk_create(&disk, "d", true, 0, &n), E_EXISTS);
	assert_int_equal(disk_create(&disk, "x/f", false, 0, &n), E_NOTFOUND);
	assert_int_equal(disk_create(&disk, "d/f/g", false, 0, &n), E_NOTFOUND);
	assert_int_equal(disk_create(&disk, "d/../f", false, 0, &n), E_INVALID);
	assert_int_equal(disk_unlink(&disk, "d", 0), E_INVALID);
	assert_int_equal(disk_unlink(&disk, "d/g", 0), E_NOTFOUND);
	assert_int_equal(disk_rename(&disk, "d", "d/d", 0), E_INVALID);
	for (int i = 0; i < 40; i++)
		strcat(deep, "a/");
	assert_int_not_equal(disk_find(&disk, deep, &n), 0);
	disk.full = true;
	assert_int_equal(disk_create(&disk, "g", false, 0, &n), E_FULL);
	disk_free(&disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(heap_orders),
		cmocka_unit_test(unsynced_is_lost_or_kept),
		cmocka_unit_test(a_sync_covers_what_came_before_it),
		cmocka_unit_test(a_failed_sync_is_never_made_good),
		cmocka_unit_test(a_cut_is_whole),
		cmocka_unit_test(torn_writes_appear),
		cmocka_unit_test(any_history),
		cmocka_unit_test(names_are_durable_with_their_directory),
		cmocka_unit_test(a_rename_is_atomic),
		cmocka_unit_test(any_tree),
		cmocka_unit_test(names_are_refused_by_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
