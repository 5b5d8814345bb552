/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/progress.h"
#include "cli/words.h"
#include "base/check.h"
#include <stdio.h>
#include <string.h>

enum { BAR_MIN = 8, BAR_MAX = 40, TAIL_MAX = 80 };

void progress_init(struct progress *p, const char *what, uint64_t total_bytes, uint64_t now_ms)
{
	*p = (struct progress){ .what = what, .total_bytes = total_bytes, .started_ms = now_ms,
		.mark_ms = now_ms, .next_mark_ms = now_ms };
}

uint64_t progress_rate(struct progress *p, uint64_t done_bytes, uint64_t now_ms)
{
	uint64_t ms, bytes;

	if (now_ms - p->next_mark_ms >= PROGRESS_RATE_MS) {
		p->mark_ms = p->next_mark_ms;
		p->mark_bytes = p->next_mark_bytes;
		p->next_mark_ms = now_ms;
		p->next_mark_bytes = done_bytes;
	}
	ms = now_ms - p->mark_ms;
	bytes = done_bytes - p->mark_bytes;
	if (ms == 0)
		return 0;
	return (uint64_t)((unsigned __int128)bytes * 1000 / ms);
}

/* Everything behind the bar; the bytes of all of it, when that is known. */
static size_t put_tail(struct progress *p, uint64_t done, uint64_t now_ms, char tail[TAIL_MAX])
{
	char size[WORDS_MAX], rate[WORDS_MAX], left[WORDS_MAX];
	uint64_t bps = progress_rate(p, done, now_ms);
	int n;

	n = snprintf(tail, TAIL_MAX, "%10s  %10s/s", words_put_size(done, size),
		words_put_size(bps, rate));
	if (p->total_bytes != UINT64_MAX && bps > 0 && done < p->total_bytes)
		n += snprintf(tail + n, TAIL_MAX - (size_t)n, "  %s left", words_put_time(
			(uint64_t)((unsigned __int128)(p->total_bytes - done) * 1000 / bps), left));
	check(n < TAIL_MAX);
	return (size_t)n;
}

static void put_bar(char *line, size_t bar, uint64_t done, uint64_t total)
{
	size_t full = total == 0 || done >= total
		? bar : (size_t)((unsigned __int128)done * bar / total);

	line[0] = '[';
	memset(line + 1, '#', full);
	memset(line + 1 + full, '.', bar - full);
	line[bar + 1] = ']';
	line[bar + 2] = '\0';
}

const char *progress_line(struct progress *p, uint64_t done_bytes, uint64_t now_ms,
	unsigned columns, char *ret_line)
{
	char tail[TAIL_MAX];
	size_t width = columns < PROGRESS_LINE_MAX - 1 ? columns : PROGRESS_LINE_MAX - 1;
	size_t tail_len = put_tail(p, done_bytes, now_ms, tail), name, bar = 0, at;

	if (width <= tail_len + 1) {
		snprintf(ret_line, PROGRESS_LINE_MAX, "%.*s", (int)width, tail);
		return ret_line;
	}
	name = width - tail_len - 1;
	if (p->total_bytes != UINT64_MAX && name > BAR_MIN + 3 + 8) {
		bar = name - 3 - 8 < BAR_MAX ? name - 3 - 8 : BAR_MAX;
		name -= bar + 3;
	}
	if (name > strlen(p->what))
		name = strlen(p->what);
	at = (size_t)snprintf(ret_line, PROGRESS_LINE_MAX, "%.*s ", (int)name, p->what);
	if (bar > 0) {
		put_bar(ret_line + at, bar, done_bytes, p->total_bytes);
		at += bar + 2;
		ret_line[at++] = ' ';
	}
	snprintf(ret_line + at, PROGRESS_LINE_MAX - at, "%s", tail);
	return ret_line;
}
