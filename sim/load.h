/* SPDX-License-Identifier: Apache-2.0 */
/* load.h: what clients do with objects, and what a judge looks at afterwards; for scenarios.
 *
 * Two buckets: KEPT, whose objects are durable, and LOOSE, whose objects may be lost with the
 * process that has them.  Each worker owns a few keys (ledger.h) and reads those of all; items
 * are handed from one to another by delete-on-read. */
#ifndef SIM_LOAD_H
#define SIM_LOAD_H
#include "sim/cluster.h"

#define KEPT "kept"
#define LOOSE "loose"
#define JUDGE_NS (8 * SYS_SEC)

enum { OWN_KEYS = 4, ITEMS_MAX = 512, ITEM_WHAT = 1 << 20, LOAD_WHAT = 2 << 20, ITEM_VALUE = 1 };

struct item {
	const char *bucket;
};
struct load {
	struct cluster *cl;
	uint32_t (*any_len)(struct worker *w); /* 0, or at least LEDGER_VALUE_MIN */
	uint32_t value_bytes_max;
	uint64_t pause_ns_max;  /* between two requests of a worker */
	uint32_t n_items;
	struct item items[ITEMS_MAX];
	struct key *own[CLIENTS_MAX * WORKERS_MAX][OWN_KEYS];
};
static inline struct load *load_of(const struct worker *w) { return w->mine; }

/* Each is one call or a few; a code only for who wants to know whether to go on: E_CANCELED. */
PARKS int load_buckets(struct worker *w, struct client *c);
PARKS int load_change(struct worker *w, struct client *c);
PARKS int load_read(struct worker *w, struct client *c);
PARKS int load_read_own(struct worker *w, struct client *c); /* what some worker changes now */
PARKS int load_item(struct worker *w, struct client *c);
PARKS int load_pause(struct worker *w, uint64_t max_ns);

/* What has to hold when nothing fails any more; a code when something still did. */
PARKS int judge_look(struct worker *w, struct client *c);       /* every key, both listings */
PARKS int judge_take_items(struct worker *w, struct client *c);
PARKS int judge_delete(struct worker *w, struct client *c);     /* everything, some by dropping */
#endif
