/* SPDX-License-Identifier: Apache-2.0 */
/* small.h: the load of the scenario small, for others with other nodes below it. */
#ifndef SIM_SMALL_H
#define SIM_SMALL_H
#include "sim/load.h"

struct small;
/* len: of values, at most value_bytes_max; NULL: those that live with the metadata. */
struct small *small_new(struct cluster *cl, uint32_t (*len)(struct worker *w),
	uint32_t value_bytes_max);
void small_hurry(struct small *m, uint64_t pause_ns_max); /* between requests; else 20 ms */
/* So many machines with workers, whose history is written down. */
void small_workers(struct small *m, uint32_t n_machines, uint32_t n_workers);
void small_readers(struct small *m, uint32_t n_workers); /* one more machine: they only read */
worker_fn small_judge; /* its mine is the struct small */
#endif
