/* SPDX-License-Identifier: Apache-2.0 */
/* A small log is damaged in every way there is, byte by byte: opening it answers E_CORRUPT, or the
 * rows are those of one moment that is not before the last sync.  Never other rows. */
#include "base/check.h"
#include "meta/db_kit.h"
#include "meta/db_look.h"
#include "sys/sim/sim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum {
	EVERY_BYTE = 600,
	STRIDE = 24,
	OPS = 60,
	TAIL_OPS = 14,
	DISK_BYTES = 64 << 20,
	FILES_MAX = 16,
	NAME_MAX_BYTES = 64
};

struct file {
	char name[NAME_MAX_BYTES]; /* below /db/log */
	uint8_t *p;
	uint64_t len, used; /* used: the last byte that is not zero, and one */
};
struct image {
	struct file files[FILES_MAX];
	unsigned n;
};
struct world {
	struct sys *s;
	struct kit k;
	struct image im;
	uint64_t index_synced;
	uint32_t n_ops; /* in the image */
	uint64_t n_corrupt, n_open, n_cut, n_saved;
	uint32_t looked_ops, n_damages;
	struct db_looked looked;
};

static struct db_opts opts(struct world *w)
{
	struct db_opts o = kit_opts(&w->k, "/db");

	o.memtable_bytes_max = 4 << 20; /* nothing is merged: the rows are in the log alone */
	o.merge_every_ns = 100000 * SYS_SEC;
	o.log_segment_bytes = 16 << 10;
	return o;
}

/* ---- the directory as bytes ---- */
static void each_file(void *arg, const char *name)
{
	struct image *im = arg;

	check(im->n < FILES_MAX);
	snprintf(im->files[im->n++].name, NAME_MAX_BYTES, "%s", name);
}

static void path_of(const struct file *f, char to[2 * NAME_MAX_BYTES])
{
	snprintf(to, 2 * NAME_MAX_BYTES, "/db/log/%s", f->name);
}

static void image_take(struct world *w)
{
	struct image *im = &w->im;
	char path[2 * NAME_MAX_BYTES];

	check(sys_list_dir(w->s, "/db/log", each_file, im, NULL) == 0);
	for (unsigned i = 0; i < im->n; i++) {
		struct file *f = &im->files[i];
		struct sys_file *h;

		path_of(f, path);
		check(sys_open(w->s, path, SYS_READ, &h, NULL) == 0);
		check(sys_file_bytes(h, &f->len, NULL) == 0);
		f->p = malloc(f->len + 1);
		check(f->p != NULL);
		check(sys_pread(h, f->p, f->len, 0, NULL) == (int64_t)f->len);
		sys_close(h);
		for (f->used = f->len; f->used > 0 && f->p[f->used - 1] == 0;)
			f->used--;
	}
}

struct wipe {
	struct sys *s;
	const char *dir;
	char names[FILES_MAX * 2][NAME_MAX_BYTES];
	unsigned n;
};

static void wipe_name(void *arg, const char *name)
{
	struct wipe *w = arg;

	check(w->n < FILES_MAX * 2);
	snprintf(w->names[w->n++], NAME_MAX_BYTES, "%s", name);
}

static void wipe_dir(struct sys *s, const char *dir)
{
	struct wipe *w = calloc(1, sizeof *w);
	char path[2 * NAME_MAX_BYTES];

	check(w != NULL);
	check(sys_list_dir(s, dir, wipe_name, w, NULL) == 0);
	for (unsigned i = 0; i < w->n; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, w->names[i]);
		if (strcmp(w->names[i], "log") != 0)
			check(sys_unlink(s, path, NULL) == 0);
	}
	free(w);
}

/* Everything as it was, without the file `less` (FILES_MAX: with all). */
static void image_put(struct world *w, unsigned less)
{
	char path[2 * NAME_MAX_BYTES];

	wipe_dir(w->s, "/db");
	wipe_dir(w->s, "/db/log");
	for (unsigned i = 0; i < w->im.n; i++) {
		const struct file *f = &w->im.files[i];
		struct sys_file *h;

		if (i == less)
			continue;
		path_of(f, path);
		check(sys_open(w->s, path, SYS_WRITE | SYS_CREATE, &h, NULL) == 0);
		check(sys_pwrite(h, f->p, f->len, 0, NULL) == 0);
		sys_close(h);
	}
}

/* ---- one opening ---- */
static void count_damage(void *arg, const struct log_damage *d)
{
	struct world *w = arg;

	check(d->path[0] != '\0');
	w->n_damages += d->kind != LOG_MARK_COPY;
}

/* What fsck makes of it: rows of one moment, whatever it finds. */
static void look(struct world *w, struct db_looked *ret)
{
	struct db_look_opts o = { .dir = "/db", .damage = count_damage, .arg = w };
	struct err_note note = { "" };
	struct db *db;

	w->n_damages = 0;
	w->k.n_ops = w->n_ops;
	check(db_look(w->s, &o, &db, ret, &note) == 0);
	for (unsigned i = 0; i < ret->n_trees; i++)
		w->n_damages += !ret->trees[i].good;
	if (ret->base >= 0 || ret->index > 0)
		kit_found(&w->k, db, 0);
	w->looked_ops = w->k.n_ops;
	db_drop(db);
}

/* Whatever keeps it from being opened is found, and where nothing is found it opens. */
static int try_open(struct world *w, uint64_t index_min)
{
	struct db_opts o = opts(w);
	struct err_note note = { "" };
	struct group g;
	struct db *db;
	int rc;

	group_init(&g, sys_loop(w->s));
	w->k.found = false;
	w->k.id_max = w->k.written = w->k.synced = 0;
	look(w, &w->looked);
	w->k.id_max = 0;
	w->k.n_ops = w->n_ops;
	rc = db_open(w->s, &g, &o, &db, &note);
	if (rc == E_CORRUPT) {
		check(note.text[0] != '\0');
		check(w->n_damages > 0);
		w->n_corrupt++;
		w->n_saved += w->looked_ops == w->n_ops;
		return rc;
	}
	check(rc == 0);
	kit_found(&w->k, db, index_min);
	check(w->looked_ops == w->k.n_ops || w->n_damages > 0);
	w->n_open++;
	w->n_cut += w->k.n_ops < w->n_ops;
	group_cancel(&g);
	(void)group_wait(&g);
	db_drop(db);
	return 0;
}

static void make_image(struct world *w)
{
	struct db_opts o = opts(w);
	struct err_note note = { "" };
	struct group g;
	struct db *db;

	group_init(&g, sys_loop(w->s));
	check(db_open(w->s, &g, &o, &db, &note) == 0);
	kit_found(&w->k, db, 0);
	for (int i = 0; i < OPS; i++) {
		kit_step(&w->k, db);
		if (i % 5 == 0)
			check(fiber_sleep(sys_after(w->s, 2 * SYS_MS)) == 0);
		if (i % 16 == 15)
			db_want_sync(db);
	}
	db_want_sync(db);
	check(fiber_sleep(sys_after(w->s, 100 * SYS_MS)) == 0);
	w->index_synced = db_synced(db);
	check(w->index_synced == db_seen(db));
	for (int i = 0; i < TAIL_OPS; i++) { /* written, not synced */
		kit_put(&w->k, db);
		check(fiber_sleep(sys_after(w->s, SYS_MS)) == 0);
	}
	check(db_written(db) > w->index_synced);
	w->n_ops = w->k.n_ops;
	group_cancel(&g);
	(void)group_wait(&g);
	db_drop(db);
	image_take(w);
	image_put(w, FILES_MAX);
	check(try_open(w, w->index_synced) == 0);
}

/* ---- damage ---- */
static void flip_bits(struct world *w)
{
	for (unsigned i = 0; i < w->im.n; i++) {
		struct file *f = &w->im.files[i];

		/* every byte where little stands; elsewhere some, at no fixed distance */
		for (uint64_t at = 0; at < f->used + 64 && at < f->len;
			at += at < EVERY_BYTE ? 1 : 1 + prng_below(&w->k.p, STRIDE)) {
			uint8_t bit = (uint8_t)(1u << prng_below(&w->k.p, 8));

			f->p[at] ^= bit;
			image_put(w, FILES_MAX);
			(void)try_open(w, w->index_synced);
			f->p[at] ^= bit;
		}
	}
	check(w->n_corrupt > 500);
	check(w->n_open > 100);
}

static void zero_blocks(struct world *w)
{
	for (unsigned i = 0; i < w->im.n; i++) {
		struct file *f = &w->im.files[i];

		for (uint64_t at = 0; at < f->used; at += 512) {
			uint8_t was[512];
			uint64_t n = f->len - at < 512 ? f->len - at : 512;

			memcpy(was, f->p + at, n);
			memset(f->p + at, 0, n);
			image_put(w, FILES_MAX);
			(void)try_open(w, w->index_synced);
			memcpy(f->p + at, was, n);
		}
	}
}

static void cut_files(struct world *w)
{
	unsigned last = 0; /* segment */

	for (unsigned i = 0; i < w->im.n; i++)
		if (w->im.files[i].name[0] == '0')
			last = i;
	for (unsigned i = 0; i < w->im.n; i++) {
		struct file *f = &w->im.files[i];
		uint64_t len = f->len;
		int rc;

		for (f->len = 0; f->len < f->used; f->len += 1 + f->used / 50) {
			image_put(w, FILES_MAX);
			(void)try_open(w, w->index_synced);
		}
		f->len = len;
		image_put(w, i);
		if (strcmp(f->name, "next.log") == 0)
			continue;
		rc = try_open(w, w->index_synced);
		check(rc == E_CORRUPT || i == last); /* what was not synced may be lost */
	}
}

static void make_other(struct world *w)
{
	struct db_opts o = opts(w);
	struct err_note note = { "" };
	struct group g;
	struct db *db;

	group_init(&g, sys_loop(w->s));
	w->k.found = false;
	w->k.written = w->k.synced = 0;
	check(db_open(w->s, &g, &o, &db, &note) == 0);
	db_put(db, BYTES("other"), BYTES("rows"));
	check(fiber_sleep(sys_after(w->s, 50 * SYS_MS)) == 0);
	group_cancel(&g);
	(void)group_wait(&g);
	db_drop(db);
}

/* A file of another log under the same name. */
static void swap_files(struct world *w)
{
	struct image other = { .n = 0 }, ours = w->im;

	wipe_dir(w->s, "/db");
	wipe_dir(w->s, "/db/log");
	make_other(w);
	w->im = other;
	image_take(w);
	other = w->im;
	w->im = ours;
	for (unsigned i = 0; i < other.n; i++) {
		for (unsigned j = 0; j < ours.n; j++) {
			struct file was = w->im.files[j];

			if (strcmp(was.name, other.files[i].name) != 0)
				continue;
			w->im.files[j] = other.files[i];
			image_put(w, FILES_MAX);
			if (strcmp(was.name, "next.log") == 0)
				check(try_open(w, w->index_synced) ==
					0); /* its bytes are not trusted */
			else
				check(try_open(w, w->index_synced) == E_CORRUPT);
			w->im.files[j] = was;
		}
		free(other.files[i].p);
	}
}

static int main_of(struct sys *s, void *arg, void (*damage)(struct world *w))
{
	struct world *w = arg;

	w->s = s;
	kit_init(&w->k, 4);
	make_image(w);
	damage(w);
	for (unsigned i = 0; i < w->im.n; i++)
		free(w->im.files[i].p);
	kit_fini(&w->k);
	return 0;
}

static int flip_main(struct sys *s, void *arg)
{
	return main_of(s, arg, flip_bits);
}
static int zero_main(struct sys *s, void *arg)
{
	return main_of(s, arg, zero_blocks);
}
static int cut_main(struct sys *s, void *arg)
{
	return main_of(s, arg, cut_files);
}
static int swap_main(struct sys *s, void *arg)
{
	return main_of(s, arg, swap_files);
}

static void run(sim_main_fn *fn)
{
	struct sim *sim = sim_new(3, &sim_no_faults);
	struct sim_node *n = sim_node_add(sim, "a", DISK_BYTES);
	struct world *w = calloc(1, sizeof *w);

	assert_non_null(w);
	sim_node_start(n, fn, w);
	sim_run(sim, UINT64_C(1000000) * SYS_SEC);
	assert_false(sim_node_up(n));
	assert_int_equal(sim_node_result(n), 0);
	print_message("%llu corrupt, %llu open, %llu of them cut\n",
		(unsigned long long)w->n_corrupt, (unsigned long long)w->n_open,
		(unsigned long long)w->n_cut);
	sim_free(sim);
	free(w);
}

static void each_byte_with_a_flipped_bit(void **state)
{
	run(flip_main);
}
static void each_sector_zeroed(void **state)
{
	run(zero_main);
}
static void each_file_cut_short_or_missing(void **state)
{
	run(cut_main);
}
static void files_of_another_log(void **state)
{
	run(swap_main);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_byte_with_a_flipped_bit),
		cmocka_unit_test(each_sector_zeroed),
		cmocka_unit_test(each_file_cut_short_or_missing),
		cmocka_unit_test(files_of_another_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
