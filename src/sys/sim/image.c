/* SPDX-License-Identifier: Apache-2.0 */
/* Content of a simulated file.
 * (I1) a page has a shadow exactly when one of its sectors is dirty, and its number is then in
 *      dirty[] exactly once.
 * (I2) where a sector is dirty, shadow->bytes holds what the platter holds; elsewhere the platter
 *      holds what the page shows.
 * (I3) a page without memory (now == NULL) shows zeros.
 * (I4) steps[] ascends by seq; n_cuts of them are cuts.
 * (I5) behind size the file shows zeros. */
#include "sys/sim/image.h"
#include "base/check.h"
#include "base/hash.h"
#include <stdlib.h>
#include <string.h>

enum { LEAF_PAGES = 512, STEPS_MAX = 1024 };
#define NEVER UINT64_MAX /* dirty, but the kernel believes otherwise: after a failed sync */

struct shadow {
	uint64_t seq[PAGE_SECTORS];
	uint8_t dirty;
	uint8_t bytes[PAGE_BYTES];
};

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void *must(void *p)
{
	check(p != NULL);
	return p;
}

void image_init(struct image *im)
{
	*im = (struct image){ 0 };
}

void image_free(struct image *im)
{
	for (uint32_t i = 0; i < im->n_leaves; i++) {
		for (uint32_t k = 0; im->leaves[i] != NULL && k < LEAF_PAGES; k++) {
			free(im->leaves[i][k].now);
			free(im->leaves[i][k].was);
		}
		free(im->leaves[i]);
	}
	free(im->leaves);
	free(im->dirty);
	free(im->steps);
	image_init(im);
}

static struct page *page_find(const struct image *im, uint64_t n)
{
	uint64_t leaf = n / LEAF_PAGES;

	if (leaf >= im->n_leaves || im->leaves[leaf] == NULL)
		return NULL;
	return &im->leaves[leaf][n % LEAF_PAGES];
}

static struct page *page_make(struct image *im, uint64_t n)
{
	uint64_t leaf = n / LEAF_PAGES;
	uint32_t room;

	check(n < IMAGE_BYTES_MAX / PAGE_BYTES);
	if (leaf >= im->n_leaves) {
		room = (uint32_t)leaf + 1 + im->n_leaves / 2;
		im->leaves = must(realloc(im->leaves, room * sizeof *im->leaves));
		memset(im->leaves + im->n_leaves, 0, (room - im->n_leaves) * sizeof *im->leaves);
		im->n_leaves = room;
	}
	if (im->leaves[leaf] == NULL)
		im->leaves[leaf] = must(calloc(LEAF_PAGES, sizeof(struct page)));
	return &im->leaves[leaf][n % LEAF_PAGES];
}

static void page_fill(struct image *im, struct page *p)
{
	if (p->now == NULL)
		p->now = must(calloc(1, PAGE_BYTES));
	if (!p->alloc)
		im->used_pages++;
	p->alloc = 1;
}

static void page_empty(struct image *im, struct page *p)
{
	free(p->now);
	p->now = NULL;
	if (p->alloc)
		im->used_pages--;
	p->alloc = 0;
}

/* Keeps what the platter holds of sectors [from, to) before they change (I1, I2). */
static void page_touch(
	struct image *im, uint64_t n, struct page *p, unsigned from, unsigned to, uint64_t coins)
{
	bool back;

	check(from < to);
	check(to <= PAGE_SECTORS);
	if (p->was == NULL) {
		p->was = must(malloc(sizeof *p->was));
		p->was->dirty = 0;
		memset(p->was->seq, 0, sizeof p->was->seq);
		if (im->n_dirty == im->dirty_room) {
			im->dirty_room = 2 * im->dirty_room + 16;
			im->dirty = must(realloc(im->dirty, im->dirty_room * sizeof *im->dirty));
		}
		im->dirty[im->n_dirty++] = n;
	}
	for (unsigned i = from; i < to; i++) {
		back = im->syncs > 0 || (coins >> ((n * PAGE_SECTORS + i) % 64) & 1);
		if (!(p->was->dirty & 1u << i) || back) {
			if (p->now != NULL)
				memcpy(p->was->bytes + i * SECTOR_BYTES, p->now + i * SECTOR_BYTES,
					SECTOR_BYTES);
			else
				memset(p->was->bytes + i * SECTOR_BYTES, 0, SECTOR_BYTES);
		}
		p->was->dirty |= (uint8_t)(1u << i);
		p->was->seq[i] = im->seq;
	}
}

static void step_add(struct image *im, uint64_t size)
{
	if (size == im->size)
		return;
	/* an endless appender that never syncs: the kernel writes back after a while */
	if (im->n_steps == STEPS_MAX)
		image_commit(im, im->steps[STEPS_MAX / 2].seq);
	if (im->n_steps == im->steps_room) {
		im->steps_room = 2 * im->steps_room + 8;
		im->steps = must(realloc(im->steps, im->steps_room * sizeof *im->steps));
	}
	im->n_cuts += size < im->size;
	im->steps[im->n_steps++] = (struct size_step){ im->seq, size, size < im->size, false };
	im->size = size;
}

/* Begins a change.  A written-back sector behind an uncommitted cut would be a state that no file
 * system shows, so with cuts pending nothing is written back by chance, and a sync under way takes
 * the cuts with it. */
static uint64_t change_begin(struct image *im, uint64_t coins)
{
	if (im->n_cuts > 0 && im->syncs > 0)
		image_commit(im, im->seq);
	im->seq++;
	return im->n_cuts > 0 ? 0 : coins;
}

uint64_t image_need(const struct image *im, uint64_t off, uint64_t len)
{
	uint64_t need = 0;

	if (len == 0)
		return 0;
	check(len <= IMAGE_BYTES_MAX);
	check(off <= IMAGE_BYTES_MAX - len);
	for (uint64_t n = off / PAGE_BYTES; n <= (off + len - 1) / PAGE_BYTES; n++) {
		const struct page *p = page_find(im, n);

		need += p == NULL || !p->alloc;
	}
	return need;
}

void image_write(struct image *im, const void *buf, size_t len, uint64_t off, uint64_t coins)
{
	const uint8_t *from = buf;

	if (len == 0)
		return;
	check(len <= IMAGE_BYTES_MAX);
	check(off <= IMAGE_BYTES_MAX - len);
	coins = change_begin(im, coins);
	for (uint64_t at = off, n; at < off + len; at += n) {
		uint64_t in = at % PAGE_BYTES;
		struct page *p = page_make(im, at / PAGE_BYTES);

		n = least(PAGE_BYTES - in, off + len - at);
		page_touch(im, at / PAGE_BYTES, p, (unsigned)(in / SECTOR_BYTES),
			(unsigned)((in + n - 1) / SECTOR_BYTES + 1), coins);
		page_fill(im, p);
		memcpy(p->now + in, from + (at - off), n);
	}
	if (off + len > im->size)
		step_add(im, off + len);
}

size_t image_read(const struct image *im, void *buf, size_t len, uint64_t off)
{
	uint64_t end;

	check(off <= IMAGE_BYTES_MAX);
	check(len <= IMAGE_BYTES_MAX);
	if (off >= im->size)
		return 0;
	end = least(off + len, im->size);
	for (uint64_t at = off, n; at < end; at += n) {
		uint64_t in = at % PAGE_BYTES;
		const struct page *p = page_find(im, at / PAGE_BYTES);

		n = least(PAGE_BYTES - in, end - at);
		if (p != NULL && p->now != NULL)
			memcpy((uint8_t *)buf + (at - off), p->now + in, n);
		else
			memset((uint8_t *)buf + (at - off), 0, n); /* (I3) */
	}
	return (size_t)(end - off);
}

/* Makes [off, end) show zeros and gives back the pages inside it. */
static void zero_range(struct image *im, uint64_t off, uint64_t end, bool shadow)
{
	uint64_t last = (uint64_t)im->n_leaves * LEAF_PAGES * PAGE_BYTES;

	for (uint64_t at = off, n; at < least(end, last); at += n) {
		uint64_t in = at % PAGE_BYTES, number = at / PAGE_BYTES;
		struct page *p = page_find(im, number);

		n = least(PAGE_BYTES - in, end - at);
		if (p == NULL) { /* the whole leaf is missing */
			n = least((LEAF_PAGES - number % LEAF_PAGES) * PAGE_BYTES - in, end - at);
			continue;
		}
		if (p->now != NULL && shadow)
			page_touch(im, number, p, (unsigned)(in / SECTOR_BYTES),
				(unsigned)((in + n - 1) / SECTOR_BYTES + 1), 0);
		if (n == PAGE_BYTES)
			page_empty(im, p);
		else if (p->now != NULL)
			memset(p->now + in, 0, n);
	}
}

void image_resize(struct image *im, uint64_t size)
{
	uint64_t old = im->size;

	check(size <= IMAGE_BYTES_MAX);
	if (size == old)
		return;
	(void)change_begin(im, 0);
	if (size < old)
		zero_range(im, size, IMAGE_BYTES_MAX, true); /* (I5) */
	step_add(im, size);
}

void image_reserve(struct image *im, uint64_t off, uint64_t len)
{
	if (len == 0)
		return;
	check(len <= IMAGE_BYTES_MAX);
	check(off <= IMAGE_BYTES_MAX - len);
	(void)change_begin(im, 0);
	for (uint64_t n = off / PAGE_BYTES; n <= (off + len - 1) / PAGE_BYTES; n++) {
		struct page *p = page_make(im, n);

		im->used_pages += !p->alloc;
		p->alloc = 1;
	}
	if (off + len > im->size)
		step_add(im, off + len);
}

void image_punch(struct image *im, uint64_t off, uint64_t len)
{
	check(len <= IMAGE_BYTES_MAX);
	check(off <= IMAGE_BYTES_MAX - len);
	(void)change_begin(im, 0);
	if (off < im->size)
		zero_range(im, off, least(off + len, im->size), true);
}

uint64_t image_sync_begin(struct image *im)
{
	im->syncs++;
	return im->seq;
}

/* Forgets the shadows that no longer differ (I1). */
static void dirty_sweep(struct image *im)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < im->n_dirty; i++) {
		struct page *p = page_find(im, im->dirty[i]);

		check(p != NULL);
		check(p->was != NULL);
		if (p->was->dirty != 0) {
			im->dirty[kept++] = im->dirty[i];
			continue;
		}
		free(p->was);
		p->was = NULL;
	}
	im->n_dirty = kept;
}

static void steps_commit(struct image *im, uint64_t upto)
{
	uint32_t n = 0;

	while (n < im->n_steps && im->steps[n].seq <= upto) {
		im->size_durable = im->steps[n].size;
		im->n_cuts -= im->steps[n].cut;
		n++;
	}
	im->n_steps -= n;
	if (n > 0 && im->n_steps > 0)
		memmove(im->steps, im->steps + n, im->n_steps * sizeof *im->steps);
}

void image_commit(struct image *im, uint64_t upto)
{
	for (uint32_t i = 0; i < im->n_dirty; i++) {
		struct shadow *was = page_find(im, im->dirty[i])->was;

		for (unsigned k = 0; k < PAGE_SECTORS; k++)
			if (was->seq[k] <= upto)
				was->dirty &= (uint8_t) ~(1u << k);
	}
	dirty_sweep(im);
	steps_commit(im, upto);
}

static void abandon(struct image *im, uint64_t upto, uint64_t coins)
{
	for (uint32_t i = 0; i < im->n_dirty; i++) {
		struct shadow *was = page_find(im, im->dirty[i])->was;

		for (unsigned k = 0; k < PAGE_SECTORS; k++) {
			if (was->seq[k] > upto || !(was->dirty & 1u << k))
				continue;
			if (prng_mix(&coins) & 1)
				was->dirty &= (uint8_t) ~(1u << k);
			else
				was->seq[k] = NEVER;
		}
	}
	dirty_sweep(im);
}

void image_sync_end(struct image *im, uint64_t upto, bool ok, uint64_t coins)
{
	check(im->syncs > 0);
	check(upto <= im->seq);
	im->syncs--;
	if (ok)
		image_commit(im, upto);
	else
		abandon(im, upto, coins);
}

/* What the dice say of the change with that number: kept, lost, or (torn) per sector. */
static bool is_kept(const struct dice *d, uint64_t seq, uint64_t at, bool whole)
{
	uint64_t state = d->seed ^ seq * 0x9e3779b97f4a7c15u, torn;
	bool keep;

	if (d->mode == DICE_ASK)
		return d->keep(d->arg, (*d->n_asked)++);
	if (d->mode != DICE_MIXED)
		return d->mode == DICE_KEEP;
	torn = prng_mix(&state) % 1000000;
	keep = prng_mix(&state) & 1;
	if (whole || torn >= d->torn_ppm)
		return keep;
	state ^= at * 0xd1342543de82ef95u;
	return prng_mix(&state) & 1;
}

/* The size after a crash.  Leaves the cuts alone in steps[], and marks the lost ones. */
static uint64_t crash_size(struct image *im, const struct dice *d)
{
	uint64_t size = im->size_durable;
	uint32_t n_cuts = 0;
	bool lost = false;

	for (uint32_t i = 0; i < im->n_steps; i++) {
		struct size_step st = im->steps[i];
		bool keep = is_kept(d, st.seq, 0, st.cut);

		if (st.cut) {
			st.lost = lost || !keep;
			lost = st.lost;
			size = lost ? size : st.size;
			im->steps[n_cuts++] = st;
		} else if (keep && !lost && st.size > size) {
			size = st.size;
		}
	}
	check(n_cuts == im->n_cuts); /* (I4) */
	im->n_steps = n_cuts;
	return size;
}

static bool sector_kept(const struct image *im, const struct dice *d, uint64_t seq, uint64_t at)
{
	if (seq == NEVER)
		return false;
	for (uint32_t i = 0; i < im->n_steps; i++) {
		struct size_step cut = im->steps[i];

		if (seq == cut.seq)
			return !cut.lost;
		if (cut.lost && seq > cut.seq &&
			at / PAGE_BYTES >= (cut.size + PAGE_BYTES - 1) / PAGE_BYTES)
			return false;
	}
	return is_kept(d, seq, at, false);
}

/* Puts back what the platter holds, with what the kept cuts took from it (nothing was written back
 * while they were pending, so the platter is older than they are). */
static void sector_restore(struct image *im, struct page *p, uint64_t at)
{
	uint64_t in = at % PAGE_BYTES, end = SECTOR_BYTES;

	page_fill(im, p);
	for (uint32_t i = 0; i < im->n_steps; i++)
		if (!im->steps[i].lost && im->steps[i].size < at + end)
			end = im->steps[i].size > at ? im->steps[i].size - at : 0;
	memcpy(p->now + in, p->was->bytes + in, end);
	memset(p->now + in + end, 0, SECTOR_BYTES - end);
}

static bool sector_differs(const struct page *p, unsigned k)
{
	static const uint8_t zeros[SECTOR_BYTES];
	const uint8_t *now = p->now != NULL ? p->now + k * SECTOR_BYTES : zeros;

	return memcmp(now, p->was->bytes + k * SECTOR_BYTES, SECTOR_BYTES) != 0;
}

void image_crash(struct image *im, const struct dice *d)
{
	uint64_t size = crash_size(im, d);

	for (uint32_t i = 0; i < im->n_dirty; i++) {
		struct page *p = page_find(im, im->dirty[i]);
		struct shadow *was = p->was;

		for (unsigned k = 0; k < PAGE_SECTORS; k++) {
			uint64_t at = im->dirty[i] * PAGE_BYTES + k * SECTOR_BYTES;

			if (!(was->dirty & 1u << k))
				continue;
			if (d->mode == DICE_ASK && im->n_steps == 0 && !sector_differs(p, k))
				continue;
			if (sector_kept(im, d, was->seq[k], at))
				continue;
			sector_restore(im, p, at);
		}
		was->dirty = 0;
	}
	dirty_sweep(im);
	zero_range(im, size, IMAGE_BYTES_MAX, false); /* (I5) */
	im->size = im->size_durable = size;
	im->n_steps = im->n_cuts = im->syncs = 0;
	check(im->n_dirty == 0);
}

bool image_flip(struct image *im, uint64_t at, unsigned bit)
{
	struct page *p = at < im->size ? page_find(im, at / PAGE_BYTES) : NULL;
	unsigned sector = (unsigned)(at % PAGE_BYTES / SECTOR_BYTES);

	check(bit < 8);
	if (p == NULL || p->now == NULL)
		return false;
	p->now[at % PAGE_BYTES] ^= (uint8_t)(1u << bit);
	if (p->was != NULL && (p->was->dirty & 1u << sector))
		p->was->bytes[at % PAGE_BYTES] ^= (uint8_t)(1u << bit);
	return true;
}

static void page_copy(struct page *to, const struct page *from)
{
	*to = *from;
	if (from->now != NULL) {
		to->now = must(malloc(PAGE_BYTES));
		memcpy(to->now, from->now, PAGE_BYTES);
	}
	if (from->was != NULL) {
		to->was = must(malloc(sizeof *to->was));
		memcpy(to->was, from->was, sizeof *to->was);
	}
}

void image_copy(struct image *to, const struct image *from)
{
	*to = *from;
	to->leaves = NULL;
	to->dirty = NULL;
	to->steps = NULL;
	to->dirty_room = to->n_dirty;
	to->steps_room = to->n_steps;
	if (from->n_leaves > 0)
		to->leaves = must(calloc(from->n_leaves, sizeof *to->leaves));
	for (uint32_t i = 0; i < from->n_leaves; i++) {
		if (from->leaves[i] == NULL)
			continue;
		to->leaves[i] = must(calloc(LEAF_PAGES, sizeof(struct page)));
		for (uint32_t k = 0; k < LEAF_PAGES; k++)
			page_copy(&to->leaves[i][k], &from->leaves[i][k]);
	}
	if (from->n_dirty > 0) {
		to->dirty = must(malloc(from->n_dirty * sizeof *to->dirty));
		memcpy(to->dirty, from->dirty, from->n_dirty * sizeof *to->dirty);
	}
	if (from->n_steps > 0) {
		to->steps = must(malloc(from->n_steps * sizeof *to->steps));
		memcpy(to->steps, from->steps, from->n_steps * sizeof *to->steps);
	}
}

/* Pages that show zeros count for nothing, however they came to (I3). */
uint64_t image_sum(const struct image *im, uint64_t seed)
{
	static const uint8_t zeros[PAGE_BYTES];
	uint64_t pages = (im->size + PAGE_BYTES - 1) / PAGE_BYTES, sum = seed;

	sum = hash64(sum, &im->size, sizeof im->size);
	for (uint64_t n = 0; n < least(pages, (uint64_t)im->n_leaves * LEAF_PAGES); n++) {
		const struct page *p = page_find(im, n);

		if (p == NULL || p->now == NULL || memcmp(p->now, zeros, PAGE_BYTES) == 0)
			continue;
		sum = hash64(sum, &n, sizeof n);
		sum = hash64(sum, p->now, PAGE_BYTES);
	}
	return sum;
}
