/* SPDX-License-Identifier: Apache-2.0 */
/* contract_test.h: for tests: what coord.h promises, asked of any store. */
#ifndef COORD_CONTRACT_TEST_H
#define COORD_CONTRACT_TEST_H
#include "coord/coord.h"

/* A valid state with that epoch, led by the first of n members. */
struct coord_state contract_state(uint64_t epoch, uint32_t n);
struct coord_node contract_node(uint64_t id);
/* a and b are two ways to the same store, empty so far (or the same one).  Nobody else uses it and
 * nothing fails.  Everything is asserted; called by a fiber. */
PARKS void contract_holds(struct coord *a, struct coord *b, struct sys *s);

/* Racers add 1 to the epoch of one shard by compare-and-swap, and sign what they write.  The
 * ledger, which all racers of the process share, holds every answer against every other: an epoch
 * has one signature, one racer at most was told that it is his, and no answer is older than what
 * was known before its question was asked. */
enum { LEDGER_EPOCHS_MAX = 4096 };
struct ledger {
	uint64_t epoch; /* the highest that anybody was told of */
	uint64_t signatures[LEDGER_EPOCHS_MAX];
	bool taken[LEDGER_EPOCHS_MAX];
	uint32_t n_done, n_conflicts, n_unknown, n_failed, n_reads;
};
struct racer {
	struct ledger *ledger;
	struct coord *c;
	struct sys *sys;
	uint32_t shard, n_swaps; /* swaps that must be done; 0: until cancelled */
	uint64_t id;             /* above 0, no two alike in a ledger */
	uint64_t patience_ns;    /* for one call */
};
PARKS int contract_race(void *racer); /* a fiber_fn: 0, or E_CANCELED */
/* Reads once more: the last word. */
PARKS void contract_settle(struct racer *r);
#endif
