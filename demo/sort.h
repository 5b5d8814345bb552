/* SPDX-License-Identifier: Apache-2.0 */
/* sort.h: the demonstration: a two-stage sort by worker processes whose whole exchange goes through
 * Wadi, as a job.
 *
 *   parent: ranges of keys --> object "ranges"
 *   map m:  records of its split of the input --> for each range p: object "m/p", delete on read
 *                                             --> object "count/m": records for each range
 *   reduce p: waits for every "count/m" (where its output begins) and "m/p", sorts, writes
 *
 * A worker does its maps, then its reduces; nobody waits for anybody but through objects. */
#ifndef DEMO_SORT_H
#define DEMO_SORT_H
#include "demo/record.h"
#include <stdint.h>
#include <wadi.h>

enum { SORT_WORKERS = 8, SORT_SPLIT_BYTES = 64 << 20, SORT_TASKS_MIN = 8, SORT_MAPS_MAX = 4096 };

struct sort_plan {
	const char *input, *output;
	uint64_t n_records;
	uint32_t n_maps, n_parts, n_workers;
};
/* Splits n_records among maps and parts; n_records > 0.  false: more than the maximum. */
bool sort_plan_make(struct sort_plan *ret_plan, const char *input, const char *output,
	uint64_t n_records, uint32_t n_workers);
uint64_t sort_map_first(const struct sort_plan *p, uint32_t map); /* number of its first record */

/* What map m tells about its split (object "count/m", as bytes of this struct on one machine). */
struct sort_count {
	struct record_sum sum;
	uint64_t n[RECORD_PARTS_MAX];
};

/* One worker: its maps, then its reduces.  0 or a WADI_E_* code with why filled in. */
int sort_work(const struct sort_plan *p, uint32_t worker, struct wadi *w, struct wadi_note *why);
#endif
