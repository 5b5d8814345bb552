/* SPDX-License-Identifier: Apache-2.0 */
/* progress.h: a line that tells how far a transfer is.  Pure: when to draw it is the caller's. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H
#include <stddef.h>
#include <stdint.h>

enum { PROGRESS_LINE_MAX = 256, PROGRESS_RATE_MS = 5000 };

struct progress {
	const char *what;         /* borrowed */
	uint64_t total_bytes;     /* UINT64_MAX: unknown */
	uint64_t started_ms;
	/* The rate is measured from the mark, which is at least PROGRESS_RATE_MS back. */
	uint64_t mark_ms, mark_bytes;
	uint64_t next_mark_ms, next_mark_bytes;
};
void progress_init(struct progress *p, const char *what, uint64_t total_bytes, uint64_t now_ms);
/* Bytes per second over the last seconds; 0 when nothing can be said yet. */
uint64_t progress_rate(struct progress *p, uint64_t done_bytes, uint64_t now_ms);
/* A line of at most columns: name, bar, bytes, rate, time left.  ret_line has PROGRESS_LINE_MAX
 * room. */
const char *progress_line(struct progress *p, uint64_t done_bytes, uint64_t now_ms,
	unsigned columns, char *ret_line);
#endif
