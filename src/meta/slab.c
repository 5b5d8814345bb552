/* SPDX-License-Identifier: Apache-2.0 */
/* Chunks of 32 pages come from the system.  A page belongs to no class (a bit of its chunk says so)
 * or to one, then it has a struct page with a bit for each slot.
 *
 * (I1) a page is in its class's partial list if and only if it has a free slot;
 * (I2) used_bytes is the sum of the lengths put and not dropped, files their number;
 * (I3) n_pages counts the pages with a class, at most pages_max;
 * (I4) a class keeps at most one page without a slot in use, so that one file put and deleted over
 * and over does not take and give back a page each time. */
#include "meta/slab.h"
#include "base/check.h"
#include "base/copy.h"
#include "base/limit.h"
#include "base/list.h"
#include "base/pages.h"
#include <stdlib.h>

enum {
	CHUNK_PAGES = 32,
	CLASSES_MAX = 128,
	SLOT_BYTES_MAX = LIMIT_INLINE_BYTES_MAX,
	GRAIN = 8,
	SLOTS_MAX = SLAB_PAGE_BYTES / GRAIN,
};
_Static_assert(SLOTS_MAX <= 1 << 16, "a slot's number has 16 bits in a handle");

struct page {
	struct list link; /* in the class's partial list, or alone */
	uint8_t *base;
	uint32_t page_i;
	uint16_t class_i;
	uint16_t n_used, n_slots;
	uint16_t hint;   /* no free slot in a word before this one */
	uint64_t bits[]; /* 1: in use */
};
struct class
{
	struct list partial;
	uint32_t bytes, n_slots, n_empty;
};
struct chunk {
	uint8_t *base;       /* NULL: not taken */
	uint32_t free_pages; /* bit set: without a class */
};
struct slab {
	struct class classes[CLASSES_MAX];
	uint8_t class_of[SLOT_BYTES_MAX / GRAIN + 1]; /* by length in grains, rounded up */
	unsigned n_classes;
	struct chunk *chunks;
	struct page **pages; /* by number; NULL: without a class */
	uint32_t n_chunks, pages_max, n_pages, chunk_hint;
	uint64_t used_bytes, slot_bytes, files, held_bytes;
};

/* The class below one of at bytes: the smallest that leaves no file of the upper class more than a
 * sixteenth of waste, made as long as the number of slots in a page allows.  Powers of two stay. */
static uint32_t class_below(uint32_t at)
{
	uint32_t power = 1u << (31 - __builtin_clz(at - 1));
	uint32_t below = (at * 16 / 17 + GRAIN - 1) / GRAIN * GRAIN;

	check(at > GRAIN);
	below = SLAB_PAGE_BYTES / (SLAB_PAGE_BYTES / below) / GRAIN * GRAIN;
	if (below >= at)
		below = at - GRAIN;
	return below > power ? below : power;
}

static void make_classes(struct slab *s)
{
	uint32_t sizes[CLASSES_MAX];
	unsigned n = 0;

	for (uint32_t at = SLOT_BYTES_MAX; at > GRAIN; at = class_below(at)) {
		check(n < CLASSES_MAX - 1);
		sizes[n++] = at;
	}
	sizes[n++] = GRAIN;
	s->n_classes = n;
	for (unsigned i = 0; i < n; i++) {
		struct class *c = &s->classes[i];

		c->bytes = sizes[n - 1 - i];
		c->n_slots = SLAB_PAGE_BYTES / c->bytes;
		c->n_empty = 0;
		list_init(&c->partial);
	}
	for (uint32_t g = 0, i = 0; g <= SLOT_BYTES_MAX / GRAIN; g++) {
		while (s->classes[i].bytes < g * GRAIN)
			i++;
		s->class_of[g] = (uint8_t)i;
	}
}

int slab_new(uint64_t bytes_max, struct slab **ret_s)
{
	struct slab *s = calloc(1, sizeof *s);
	uint64_t pages = bytes_max / SLAB_PAGE_BYTES;

	check(pages > 0);
	check(pages < UINT32_MAX - CHUNK_PAGES);
	if (s == NULL)
		return E_NOMEM;
	make_classes(s);
	s->pages_max = (uint32_t)pages;
	s->n_chunks = (s->pages_max + CHUNK_PAGES - 1) / CHUNK_PAGES;
	s->chunks = calloc(s->n_chunks, sizeof *s->chunks);
	s->pages = calloc(s->pages_max, sizeof *s->pages);
	if (s->chunks == NULL || s->pages == NULL) {
		slab_free(s);
		return E_NOMEM;
	}
	*ret_s = s;
	return 0;
}

/* Pages of the last chunk may lie beyond the limit. */
static uint32_t chunk_pages(const struct slab *s, uint32_t chunk_i)
{
	uint32_t left = s->pages_max - chunk_i * CHUNK_PAGES;

	return left < CHUNK_PAGES ? left : CHUNK_PAGES;
}

static size_t chunk_bytes(const struct slab *s, uint32_t chunk_i)
{
	return (size_t)chunk_pages(s, chunk_i) * SLAB_PAGE_BYTES;
}

void slab_free(struct slab *s)
{
	if (s == NULL)
		return;
	for (uint32_t i = 0; s->pages != NULL && i < s->pages_max; i++)
		free(s->pages[i]);
	for (uint32_t i = 0; s->chunks != NULL && i < s->n_chunks; i++)
		pages_free(s->chunks[i].base, chunk_bytes(s, i));
	free(s->pages);
	free(s->chunks);
	free(s);
}

static uint32_t all_pages(uint32_t n)
{
	return n == CHUNK_PAGES ? UINT32_MAX : (1u << n) - 1;
}

static bool chunk_take(struct slab *s, uint32_t chunk_i)
{
	struct chunk *k = &s->chunks[chunk_i];
	uint32_t n = chunk_pages(s, chunk_i);

	check(k->base == NULL);
	k->base = pages_new(chunk_bytes(s, chunk_i));
	if (k->base == NULL)
		return false;
	k->free_pages = all_pages(n);
	s->held_bytes += (uint64_t)n * SLAB_PAGE_BYTES;
	return true;
}

/* A page without a class, UINT32_MAX when there is none. */
static uint32_t page_take(struct slab *s)
{
	for (uint32_t tried = 0; tried < s->n_chunks; tried++) {
		uint32_t chunk_i = s->chunk_hint;
		struct chunk *k = &s->chunks[chunk_i];

		if (k->base == NULL && !chunk_take(s, chunk_i))
			return UINT32_MAX;
		if (k->free_pages != 0) {
			uint32_t bit = (uint32_t)__builtin_ctz(k->free_pages);

			k->free_pages &= k->free_pages - 1;
			return chunk_i * CHUNK_PAGES + bit;
		}
		s->chunk_hint = chunk_i + 1 == s->n_chunks ? 0 : chunk_i + 1;
	}
	return UINT32_MAX;
}

static void page_drop(struct slab *s, struct page *p)
{
	uint32_t chunk_i = p->page_i / CHUNK_PAGES;
	struct chunk *k = &s->chunks[chunk_i];
	uint32_t bit = 1u << p->page_i % CHUNK_PAGES;

	check(p->n_used == 0);
	check((k->free_pages & bit) == 0);
	list_remove(&p->link);
	s->classes[p->class_i].n_empty--;
	s->pages[p->page_i] = NULL;
	s->n_pages--;
	k->free_pages |= bit;
	if (k->free_pages == all_pages(chunk_pages(s, chunk_i)) && chunk_i != s->chunk_hint) {
		s->held_bytes -= (uint64_t)chunk_pages(s, chunk_i) * SLAB_PAGE_BYTES;
		pages_free(k->base, chunk_bytes(s, chunk_i));
		*k = (struct chunk){ NULL, 0 };
	} else {
		s->chunk_hint = chunk_i; /* fill what is there before more is taken */
	}
	free(p);
}

static bool drop_an_empty_page(struct slab *s)
{
	for (unsigned i = 0; i < s->n_classes; i++) {
		struct class *c = &s->classes[i];

		if (c->n_empty == 0)
			continue;
		list_each (it, &c->partial) {
			struct page *p = container_of(it, struct page, link);

			if (p->n_used == 0) {
				page_drop(s, p);
				return true;
			}
		}
	}
	return false;
}

static struct page *page_new(struct slab *s, unsigned class_i)
{
	struct class *c = &s->classes[class_i];
	size_t words = (c->n_slots + 63) / 64;
	struct page *p = calloc(1, sizeof *p + words * sizeof p->bits[0]);
	uint32_t page_i;

	if (p == NULL)
		return NULL;
	page_i = page_take(s);
	if (page_i == UINT32_MAX && drop_an_empty_page(s))
		page_i = page_take(s);
	if (page_i == UINT32_MAX) {
		free(p);
		return NULL;
	}
	p->base = s->chunks[page_i / CHUNK_PAGES].base +
		  (size_t)(page_i % CHUNK_PAGES) * SLAB_PAGE_BYTES;
	p->page_i = page_i;
	p->class_i = (uint16_t)class_i;
	p->n_slots = (uint16_t)c->n_slots;
	list_init(&p->link);
	list_push(&c->partial, &p->link);
	c->n_empty++;
	check(s->pages[page_i] == NULL);
	s->pages[page_i] = p;
	s->n_pages++;
	check(s->n_pages <= s->pages_max);
	return p;
}

static unsigned slot_take(struct slab *s, struct page *p)
{
	unsigned word = p->hint, slot;

	check(p->n_used < p->n_slots);
	while (p->bits[word] == UINT64_MAX)
		word++;
	slot = word * 64 + (unsigned)__builtin_ctzll(~p->bits[word]);
	check(slot < p->n_slots);
	p->hint = (uint16_t)word;
	p->bits[word] |= UINT64_C(1) << slot % 64;
	if (p->n_used++ == 0)
		s->classes[p->class_i].n_empty--;
	if (p->n_used == p->n_slots)
		list_remove(&p->link);
	return slot;
}

static unsigned class_for(const struct slab *s, size_t len)
{
	check(len > 0);
	check(len <= SLOT_BYTES_MAX);
	return s->class_of[(len + GRAIN - 1) / GRAIN];
}

int slab_put(struct slab *s, struct bytes b, uint64_t *ret_handle, uint32_t *ret_crc)
{
	unsigned class_i = class_for(s, b.len), slot;
	struct class *c = &s->classes[class_i];
	struct page *p;

	if (list_empty(&c->partial))
		p = page_new(s, class_i);
	else
		p = container_of(c->partial.next, struct page, link);
	if (p == NULL)
		return E_FULL;
	slot = slot_take(s, p);
	/* Around the caches: the slot was left long ago, and fetching it would be a waste. */
	*ret_crc = 0;
	crc32c_blocks(ret_crc, b.len, p->base + (size_t)slot * c->bytes, b.p, b.len, true);
	s->used_bytes += b.len;
	s->slot_bytes += c->bytes;
	s->files++;
	*ret_handle = ((uint64_t)p->page_i + 1) << 16 | slot;
	return 0;
}

static struct page *page_of(const struct slab *s, uint64_t handle, size_t len)
{
	uint64_t page_i = (handle >> 16) - 1;
	unsigned slot = handle & 0xffff;
	struct page *p;

	if (page_i >= s->pages_max || len == 0 || len > SLOT_BYTES_MAX)
		return NULL;
	p = s->pages[page_i];
	if (p == NULL || slot >= p->n_slots || class_for(s, len) != p->class_i)
		return NULL;
	return (p->bits[slot / 64] >> slot % 64 & 1) != 0 ? p : NULL;
}

struct bytes slab_get(const struct slab *s, uint64_t handle, size_t len)
{
	struct page *p = page_of(s, handle, len);
	size_t slot = handle & 0xffff;

	return p == NULL ? bytes_of(NULL, 0)
			 : bytes_of(p->base + slot * s->classes[p->class_i].bytes, len);
}

void slab_drop(struct slab *s, uint64_t handle, size_t len)
{
	struct page *p = page_of(s, handle, len);
	unsigned slot = handle & 0xffff;
	struct class *c;

	check(p != NULL);
	c = &s->classes[p->class_i];
	check(s->used_bytes >= len);
	check(s->files > 0);
	s->used_bytes -= len;
	s->slot_bytes -= c->bytes;
	s->files--;
	p->bits[slot / 64] &= ~(UINT64_C(1) << slot % 64);
	if (slot / 64 < p->hint)
		p->hint = (uint16_t)(slot / 64);
	if (p->n_used-- == p->n_slots)
		list_add_before(c->partial.next, &p->link); /* at the head: warm */
	if (p->n_used == 0 && c->n_empty++ > 0)
		page_drop(s, p); /* (I4) */
}

void slab_status(const struct slab *s, struct slab_status *ret_st)
{
	struct slab_status st = { .limit_bytes = (uint64_t)s->pages_max * SLAB_PAGE_BYTES };
	uint64_t ends = 0;

	for (unsigned i = 0; i < s->n_classes; i++) {
		const struct class *c = &s->classes[i];

		list_each (it, &c->partial) {
			const struct page *p = container_of(it, struct page, link);

			st.free_bytes += (uint64_t)(p->n_slots - p->n_used) * c->bytes;
		}
	}
	st.used_bytes = s->used_bytes;
	st.idle_bytes = (uint64_t)(s->pages_max - s->n_pages) * SLAB_PAGE_BYTES;
	ends = (uint64_t)s->n_pages * SLAB_PAGE_BYTES - s->slot_bytes - st.free_bytes;
	st.rounding_bytes = s->slot_bytes - s->used_bytes + ends;
	st.held_bytes = s->held_bytes;
	st.files = s->files;
	*ret_st = st;
}

void slab_audit(const struct slab *s)
{
	uint64_t slot_bytes = 0, files = 0;
	uint32_t n_pages = 0;
	struct slab_status st;

	for (uint32_t i = 0; i < s->pages_max; i++) {
		const struct page *p = s->pages[i];
		uint32_t used = 0;

		if (p == NULL)
			continue;
		n_pages++;
		check(p->page_i == i);
		check((s->chunks[i / CHUNK_PAGES].free_pages & 1u << i % CHUNK_PAGES) == 0);
		for (unsigned w = 0; w < (p->n_slots + 63u) / 64; w++) {
			used += (uint32_t)__builtin_popcountll(p->bits[w]);
			check(w >= p->hint || p->bits[w] == UINT64_MAX);
		}
		check(used == p->n_used);
		check(list_empty(&p->link) == (p->n_used == p->n_slots)); /* (I1) */
		files += used;
		slot_bytes += (uint64_t)used * s->classes[p->class_i].bytes;
	}
	check(n_pages == s->n_pages);
	check(files == s->files);
	check(slot_bytes == s->slot_bytes);
	slab_status(s, &st);
	check(st.used_bytes + st.rounding_bytes + st.free_bytes + st.idle_bytes == st.limit_bytes);
}
