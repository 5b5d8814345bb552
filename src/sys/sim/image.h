/* SPDX-License-Identifier: Apache-2.0 */
/* image.h: the content of one simulated file, twice: as programs see it now, and as the platter
 * holds it.  Every change has a sequence number; image_commit() makes the platter hold what was
 * changed up to one; image_crash() decides for each later change, by dice, whether it got there by
 * itself.
 *
 * The unit that is kept or lost is the sector.  Of a sector that was written several times, the
 * last version or one that was "written back" in between may survive.  A cut (truncation) is kept
 * or lost whole, and with a lost cut everything written behind it later is lost too: it went to
 * blocks that nothing points to. */
#ifndef SYS_SIM_IMAGE_H
#define SYS_SIM_IMAGE_H
#include "base/prng.h"
#include <stddef.h>
#include <stdint.h>

enum { SECTOR_BYTES = 512, PAGE_BYTES = 4096, PAGE_SECTORS = 8 };
#define IMAGE_BYTES_MAX (UINT64_C(1) << 40)

struct shadow; /* what the platter holds where it differs */
struct page {
	uint8_t *now;
	struct shadow *was;
	uint8_t alloc;
};

struct size_step {
	uint64_t seq, size;
	bool cut, lost;
};

struct image {
	struct page **leaves;
	uint32_t n_leaves;
	uint32_t syncs;     /* under way: what they overtake must be written back first */
	uint64_t size, seq; /* seq: of the last change */
	uint64_t used_pages;
	uint64_t *dirty; /* numbers of the pages with a shadow, in the order they got one */
	uint32_t n_dirty, dirty_room;
	uint64_t size_durable;
	struct size_step *steps; /* of the size, not durable yet */
	uint32_t n_steps, steps_room, n_cuts;
};

/* How one crash treats unsynced changes.  DICE_ASK: keep(arg, i) decides, i counting what it was
 * asked before; a sector that would be the same either way is no question. */
struct dice {
	uint64_t seed;
	uint32_t torn_ppm;
	enum { DICE_MIXED, DICE_LOSE, DICE_KEEP, DICE_ASK } mode;
	bool (*keep)(void *arg, uint32_t i);
	void *arg;
	uint32_t *n_asked;
};

void image_init(struct image *im);
void image_free(struct image *im);

/* Pages that a change of that range takes from the disk; the caller checks the room first.  off +
 * len is at most IMAGE_BYTES_MAX, in all calls. */
uint64_t image_need(const struct image *im, uint64_t off, uint64_t len);
/* coins: 64 random bits, which say what of the overwritten was written back before. */
void image_write(struct image *im, const void *buf, size_t len, uint64_t off, uint64_t coins);
size_t image_read(const struct image *im, void *buf, size_t len, uint64_t off); /* up to the end */
void image_resize(struct image *im, uint64_t size);
void image_reserve(
	struct image *im, uint64_t off, uint64_t len);          /* grows the file; reads as zero */
void image_punch(struct image *im, uint64_t off, uint64_t len); /* the size stays */

uint64_t image_sync_begin(struct image *im); /* returns what it will cover */
/* A failed sync may have made any part durable; the rest is marked clean all the same and reaches
 * the platter only if it is written again. */
void image_sync_end(struct image *im, uint64_t upto, bool ok, uint64_t coins);
void image_commit(struct image *im, uint64_t upto);
void image_crash(struct image *im, const struct dice *d);     /* afterwards both are the same */
void image_copy(struct image *to, const struct image *from); /* to is new; unsynced and all */
uint64_t image_sum(const struct image *im, uint64_t seed);   /* of what programs see */
bool image_flip(struct image *im, uint64_t at, unsigned bit); /* false where nothing is stored */
#endif
