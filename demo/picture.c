/* SPDX-License-Identifier: Apache-2.0 */
#include "demo/picture.h"
#include "base/check.h"
#include <stdio.h>
#include <string.h>

static const char *const tier_names[PICTURE_TIERS] = { "dram", "flash", "disk" };

void picture_add(struct picture *p, const struct picture_sample *s)
{
	if (p->n > 0)
		check(s->at_ms >= p->samples[p->n - 1].at_ms);
	if (p->n == PICTURE_SAMPLES_MAX) {
		for (size_t i = 0; i < p->n / 2; i++)
			p->samples[i] = p->samples[2 * i];
		p->n /= 2;
	}
	p->samples[p->n++] = *s;
}

/* The most a tier held during each of PICTURE_WIDTH equal spans of time. */
static uint64_t spans(const struct picture *p, int tier, uint64_t ret_most[PICTURE_WIDTH])
{
	uint64_t first = p->samples[0].at_ms, length = p->samples[p->n - 1].at_ms - first + 1,
		 peak = 0;
	uint64_t held = 0;
	size_t i = 0;

	for (uint64_t x = 0; x < PICTURE_WIDTH; x++) {
		uint64_t end_ms = first + length * (x + 1) / PICTURE_WIDTH;

		ret_most[x] = held;
		for (; i < p->n && p->samples[i].at_ms < end_ms; i++) {
			held = p->samples[i].used_bytes[tier];
			if (held > ret_most[x])
				ret_most[x] = held;
		}
		if (x == PICTURE_WIDTH - 1)
			ret_most[x] = p->samples[p->n - 1].used_bytes[tier]; /* how it ended */
		if (ret_most[x] > peak)
			peak = ret_most[x];
	}
	return peak;
}

static void draw_tier(
	const struct picture *p, int tier, void (*line)(void *, const char *), void *arg)
{
	static const char *const eighths[] = { " ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
	uint64_t most[PICTURE_WIDTH], peak = spans(p, tier, most);
	char text[PICTURE_WIDTH * 4 + 64];

	if (peak == 0 && tier != 0)
		return;
	for (int row = PICTURE_ROWS - 1; row >= 0; row--) {
		int at = row == PICTURE_ROWS - 1
				 ? snprintf(text, sizeof text, "%5s %7.1f MiB |", tier_names[tier],
					   (double)peak / (1 << 20))
				 : snprintf(text, sizeof text, "%17s |", row == 0 ? "0" : "");

		for (int x = 0; x < PICTURE_WIDTH; x++) {
			uint64_t height = peak == 0 ? 0
						    : (uint64_t)((unsigned __int128)most[x] *
								 PICTURE_ROWS * 8 / peak);
			uint64_t below = (uint64_t)row * 8,
				 part = height > below ? height - below : 0;

			if (part == 0 && row == 0 && most[x] > 0)
				part = 1; /* little is not nothing */
			at += snprintf(text + at, sizeof text - (size_t)at, "%s",
				eighths[part > 8 ? 8 : part]);
		}
		check((size_t)at < sizeof text);
		line(arg, text);
	}
}

void picture_draw(const struct picture *p, void (*line)(void *arg, const char *text), void *arg)
{
	char axis[128];
	uint64_t length_ms;

	if (p->n == 0)
		return;
	for (int tier = 0; tier < PICTURE_TIERS; tier++)
		draw_tier(p, tier, line, arg);
	length_ms = p->samples[p->n - 1].at_ms - p->samples[0].at_ms;
	snprintf(axis, sizeof axis, "%19s0 s%*.1f s", "", PICTURE_WIDTH - 5,
		(double)length_ms / 1000);
	line(arg, axis);
}
