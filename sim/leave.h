/* SPDX-License-Identifier: Apache-2.0 */
/* leave.h: storage servers of a simulated cluster that leave, and others that come in their places;
 * for scenarios.  What operators want is kept here, and whoever leads is told of it again and
 * again: in a cluster the rows of nodes say so.
 *
 * (V1) When all is well a server that drains is empty within a bounded time. (V2) What is nowhere
 * else goes only by force. (V3) A forced removal loses only what was nowhere else: what a ledger
 * says of KEPT holds through all of it. */
#ifndef SIM_LEAVE_H
#define SIM_LEAVE_H
#include "sim/cluster.h"

/* Before anything is started, behind cluster_stores(). */
void leave_init(struct cluster *cl);
/* In turns of whoever leads. */
void leave_operate(struct cluster *cl, struct control *ctl, struct shard *sh);
/* One drawn step of an operator: a server is to be emptied, or not any more; one that is empty is
 * removed, and another one comes.  Takes the faults off for as long as it waits. */
void leave_step(struct cluster *cl, const struct sim_faults *faults);
/* A server dies for good, and is removed by force; another one comes.  Nothing else may be on its
 * way: everything has its copies. */
void leave_by_force(struct cluster *cl, const struct sim_faults *faults);
bool leave_under_way(const struct cluster *cl); /* some server drains */
#endif
