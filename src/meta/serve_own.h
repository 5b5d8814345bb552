/* SPDX-License-Identifier: Apache-2.0 */
/* serve_own.h: what serve.c (requests) and lead.c (connections, and who leads) share. */
#ifndef META_SERVE_OWN_H
#define META_SERVE_OWN_H
#include "base/check.h"
#include "meta/serve.h"

enum {
	SERVE_OPS_MAX = 96,
	SERVE_NODES_MAX = 16, /* told to who connects */
	SERVE_NODES_BYTES = SERVE_NODES_MAX * (SYS_ADDR_MAX + 16),
};

/* (L1) sh, and the guest, are there from lead() to leave() and nowhere else; clients only while
 *      `leads`, or on their way out.
 * (L2) From stop() on nothing is released and every connection of clients is shut: what is held for
 *      them ends with them, before leave() returns.  So an index that is released later belongs to
 *      nobody of before, and as only what is committed is released, it never goes back.
 * (L3) An answer that was made without a lease waits for its number to be settled (R8), unless it
 *      waits for a record that did not exist yet: only who still leads can commit that one. */
struct serve {
	struct sys *sys;
	struct serve_opts opts;
	struct coord *coord; /* its own; NULL: the caller's */
	struct replicate *r; /* NULL: not open yet, or closed */
	struct shard *sh;
	void *guest;         /* as its begin() made it */
	struct rpc_server *server;
	struct rpc_service service;
	struct rpc_op ops[SERVE_OPS_MAX];
	size_t n_guest_ops, first_guest_op, first_other_op;
	struct group laters, settler;
	struct list clients; /* connections of all but replicas */
	struct waitq news;   /* it leads, a connection has gone, the rows are given back */
	bool leads, entering, giving, closing;
	uint64_t written, synced, sealed; /* as told last; sealed: the last record that was begun */
	/* (L3) Answers that wait for this: how many there were, and what the last of them saw. */
	uint64_t unsettled, settled, unsettled_seen;
	bool unsettled_sync;
	struct waitq unsettled_q;
	/* Of the hello being answered. */
	char addrs[SERVE_NODES_MAX][SYS_ADDR_MAX];
	uint8_t nodes[SERVE_NODES_BYTES];
};
struct conn {
	struct list link; /* in clients */
	struct rpc_conn *rpc;
	struct principal who;
	bool replica; /* asks nothing of the shard, and stays whoever leads */
	struct session *session;
	struct list laters;
};

extern const struct rpc_op shard_ops[];
extern const size_t shard_n_ops;
void laters_lost(struct conn *conn);          /* cancels what is to be answered later */
bool deny_replica(struct rpc_request *r);    /* true */
#endif
