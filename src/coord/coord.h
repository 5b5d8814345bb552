/* SPDX-License-Identifier: Apache-2.0 */
/* coord.h: who is primary and who is in sync, and which nodes there are: small texts under small
 * keys, changed by compare-and-swap only.  Three stores stand behind it: a local file (embedded.h),
 * etcd (etcd.h) and, in the simulator, coord_sim.h; each has its own way to open a struct coord.
 *
 * A *revision* names one version of one key: it grows with every change and is never used again;
 * 0 is the absence of the key.  Reads are linearizable.
 *
 * What a change (coord_swap, coord_node_put, coord_node_remove) may return:
 *    0             it is done
 *    E_CONFLICT    it is not done and never will be: the revision was another one
 *    E_UNKNOWN     it may have happened, or may happen later, even after a read that does not show
 *                  it.  Settled only by a revision above the expected one
 *    E_CANCELED    the fiber was cancelled; otherwise as E_UNKNOWN
 *    others        it is not done and never will be, among them E_TIMEOUT, E_UNAVAILABLE (nobody
 *                  could be asked), E_DENIED, E_CORRUPT (what is there cannot be read),
 *                  E_UNSUPPORTED (what is there was written by a newer version), E_GONE (this store
 *                  has moved), E_FULL
 * Reads return E_NOTFOUND, or one of these but E_CONFLICT and E_UNKNOWN.
 *
 * A struct coord belongs to one loop; any number of its fibers may use it at once. */
#ifndef COORD_COORD_H
#define COORD_COORD_H
#include "sys/sys.h"

enum {
	COORD_IN_SYNC_MAX = 5,
	COORD_NODES_MAX = 1024,
	COORD_TEXT_MAX = 1024, /* of a state or a node, with the zero byte */
	COORD_NAME_MAX = 64,
	COORD_SUBJECT_MAX = 128,
	COORD_URL_MAX = 512,
};

/* A replica is named by the id of its node: a disk that was wiped or replaced is a new node.  Each
 * start of its process is a new incarnation. */
struct coord_replica {
	uint64_t id, incarnation;
};

/* (S1) epoch > 0.  (S2) in_sync has 1 to COORD_IN_SYNC_MAX members with ids above 0, no id twice.
 * (S3) The primary is one of them.  (S4) target_size is 1 to COORD_IN_SYNC_MAX. */
struct coord_state {
	uint64_t epoch;
	struct coord_replica primary, in_sync[COORD_IN_SYNC_MAX];
	uint32_t n_in_sync, target_size;
	uint64_t revision; /* not part of what is swapped in */
};
bool coord_state_valid(const struct coord_state *st);

/* Words are 0 to MAX - 1 printable ASCII characters without blanks, and not "-"; address and role
 * are not empty. */
struct coord_node {
	uint64_t id; /* above 0 */
	char address[SYS_ADDR_MAX];
	char host[COORD_NAME_MAX], rack[COORD_NAME_MAX]; /* failure domains; empty: not known */
	char role[COORD_NAME_MAX];                       /* "meta,store" */
	char certificate[COORD_SUBJECT_MAX];             /* the name in it; empty: it has none */
	uint64_t revision;                               /* not part of what is put */
};
bool coord_node_valid(const struct coord_node *n);

struct coord;
/* Ends what the store runs in the background; no fiber is inside.  NULL is fine. */
PARKS void coord_close(struct coord *c);

PARKS int coord_read(struct coord *c, uint32_t shard, uint64_t until_ns, struct coord_state *ret_st,
	struct err_note *note);
/* Replaces the state of the given revision (0: there is none yet) by *to, which is valid.  After 0
 * *ret_now is *to with its revision; after E_CONFLICT it is what is there (all zero: nothing);
 * otherwise untouched. */
PARKS int coord_swap(struct coord *c, uint32_t shard, uint64_t expected_revision,
	const struct coord_state *to, uint64_t until_ns, struct coord_state *ret_now,
	struct err_note *note);

/* Every node, by ascending id, in memory that the caller frees. */
PARKS int coord_nodes(struct coord *c, uint64_t until_ns, struct coord_node **ret_nodes,
	uint32_t *ret_n, struct err_note *note);
/* As coord_swap(). */
PARKS int coord_node_put(struct coord *c, uint64_t expected_revision, const struct coord_node *to,
	uint64_t until_ns, struct coord_node *ret_now, struct err_note *note);
/* 0 also when it is not there any more. */
PARKS int coord_node_remove(struct coord *c, uint64_t id, uint64_t expected_revision,
	uint64_t until_ns, struct err_note *note);

/* Parks until something may have changed since *seen, which starts as 0 and is brought up to date:
 * 0 then, at once the first time.  A hint: it may come for nothing, late, or never. */
PARKS int coord_wait(struct coord *c, uint64_t *seen, uint64_t until_ns);
#endif
