/* SPDX-License-Identifier: Apache-2.0 */
/* ask.h: a question to one node, whoever leads, with the rights of an administrator: as other nodes
 * and operators ask. */
#ifndef NODE_ASK_H
#define NODE_ASK_H
#include "rpc/rpc.h"

struct node_ask {
	struct sys *s;
	const char *addr; /* of the node; TLS needs sys_tls_use() before */
	const char *key;  /* the cluster's, as text; "": by certificate, or user on a socket */
	char hint[SYS_ADDR_MAX]; /* out, after E_NOTPRIMARY: who leads, or "" */
	/* private */
	struct group group;
	struct rpc_conn *conn;
	struct rpc_call call;
};
/* One question and its answer, whose lists and bytes last until node_ask_end(), which is due
 * whatever comes back here. */
PARKS int node_ask(struct node_ask *a, uint16_t op, const void *msg, uint16_t reply_op,
	void *ret_reply, uint64_t until_ns, struct err_note *note);
PARKS void node_ask_end(struct node_ask *a);
#endif
