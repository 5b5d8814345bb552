/* SPDX-License-Identifier: Apache-2.0 */
/* join.h: how a new node becomes part of a cluster, before any of its roles starts. */
#ifndef NODE_JOIN_H
#define NODE_JOIN_H
#include "node/member.h"
#include "node/node.h"
#include "node/place.h"

/* The door has its certificates.  Asks o->join, and remembers what it is told: p->data then holds
 * the file of the member and the cluster's key.  Nothing is asked when the node belongs to a
 * cluster already.  *ret_roles: what it is to run (enum node_roles).  E_EXISTS: it has data of its
 * own. */
PARKS int join_cluster(struct sys *s, const struct node_opts *o, const struct place_found *p,
	unsigned *ret_roles, struct err_note *note);
#endif
