/* SPDX-License-Identifier: Apache-2.0 */
/* picture.h: bytes per tier over time, as a picture of text. */
#ifndef DEMO_PICTURE_H
#define DEMO_PICTURE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PICTURE_TIERS = 3, PICTURE_SAMPLES_MAX = 4096, PICTURE_WIDTH = 64, PICTURE_ROWS = 6 };

struct picture_sample {
	uint64_t at_ms, used_bytes[PICTURE_TIERS];
};
/* Samples in time order; when there are too many, every second one is forgotten. */
struct picture {
	struct picture_sample samples[PICTURE_SAMPLES_MAX];
	size_t n;
};

void picture_add(struct picture *p, const struct picture_sample *s);
/* Draws each tier that ever held something (dram always), a line at a time. */
void picture_draw(const struct picture *p, void (*line)(void *arg, const char *text), void *arg);
#endif
