/* SPDX-License-Identifier: Apache-2.0 */
/* metas.h: the metadata nodes of a simulated cluster, and what is known of them from outside.
 *
 * (M1) An epoch has one primary.  (M2) Equal commit indexes are equal
 * rows, when nothing happens any more.  (M3) A while after everything is well, one of them commits
 * again. */
#ifndef SIM_METAS_H
#define SIM_METAS_H
#include "coord/coord_sim.h"
#include "meta/replicate.h"
#include "sim/scenario.h"

enum { METAS_MAX = 3, META_NAME_MAX = 8, EPOCHS_MAX = 4096, METAS_ADDR_MAX = 128 };

struct cluster;
struct serve;
struct meta_node {
	struct cluster *cl;
	struct sim_node *node;
	char name[META_NAME_MAX];
	uint32_t number, starts;
	uint64_t id;      /* of the replica: another one for each disk */
	struct serve *v;  /* while it runs */
	struct control *control;  /* while one leads there */
	bool stop;        /* is to end cleanly */
	bool hand_over;   /* is to, when it leads */
	bool rotten;      /* bits of its log were flipped */
	bool sum_wanted;  /* of its rows; with the index that they stand for: */
	uint64_t sum, sum_index, n_rows;
	struct replicate_status seen; /* when it was looked at last */
	struct replica_set set;       /* as it knows it */
};
struct epoch {
	uint64_t id, incarnation; /* of its primary; 0: nobody has led in it */
};
struct metas {
	struct meta_node nodes[METAS_MAX];
	uint32_t n;
	uint32_t first_target; /* size of the set in the beginning */
	uint32_t target;       /* that it is to have; 0: as it is */
	struct db_opts rows;   /* limits of each replica */
	struct coord_sim *cs;  /* NULL: one node, which needs nobody */
	char addr[METAS_ADDR_MAX]; /* of all of them */
	struct epoch epochs[EPOCHS_MAX];
	uint64_t n_leads;
	uint64_t cut_ns[METAS_MAX]; /* when it last lost its power or disk; 0: never */
};

/* Before anything is started; n is 1 or 3, and 1 has the store of who leads on its own disk. */
void metas_init(struct cluster *cl, uint32_t n);
void metas_fini(struct cluster *cl); /* when the world has ended */
void metas_start(struct cluster *cl); /* those that are down */
sim_main_fn metas_main; /* of one: struct meta_node */
/* The one that leads, as they say; NULL: nobody, or several do. */
struct meta_node *metas_leader(struct cluster *cl);
bool metas_serves(const struct meta_node *mn); /* it believes that it leads */

/* Power of one.  What it wrote and did not sync may be gone for ever when it happens to another one
 * shortly before or after, or the set is this one alone: then it ends an era of the ledger. */
void metas_power_cut(struct cluster *cl, struct meta_node *n);
/* Its disk, too: it comes back under another id.  False, and nothing happens, while the others
 * could not go on without it. */
bool metas_wipe(struct cluster *cl, struct meta_node *n);
/* Its disk, whoever else there is. */
bool metas_lose(struct cluster *cl, struct meta_node *n);
bool metas_together(struct cluster *cl); /* one leads, and all are in the set */
bool metas_settled(struct cluster *cl);  /* and nothing is asked to make it another one */
/* Flips a bit of its log, while all others have the same log; or of the end of it, of what it has
 * synced. */
bool metas_rot(struct cluster *cl, struct meta_node *n);
bool metas_rot_end(struct cluster *cl, struct meta_node *n);
/* A drawn misfortune of them, or of the store of who leads. */
void metas_misfortune(struct cluster *cl);

/* Their clocks run at other rates from now on, within what replicas are promised. */
void metas_drift(struct cluster *cl, struct prng *p);

void metas_heal(struct cluster *cl); /* what it cut and filled */

/* When nothing fails any more; violation() when it is not so in time. */
/* (M3), then all are in the set.  False: no member of the set is left. */
bool metas_come_back(struct cluster *cl);
void metas_compare(struct cluster *cl);   /* (M2); nobody changes anything any more */
#endif
