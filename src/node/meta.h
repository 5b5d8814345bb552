/* SPDX-License-Identifier: Apache-2.0 */
/* meta.h: one replica of a metadata shard as a role of this process: opens it, listens, serves
 * until it is stopped. */
#ifndef NODE_META_H
#define NODE_META_H
#include "meta/auth.h"
#include "meta/replicate.h"

enum { META_LISTEN_MAX = 16 };
struct meta_opts {
	const char *dir;           /* of the log and the tree; created when missing */
	const char *const *listen; /* "unix:/path", "tcp:HOST:PORT" (port 0: any) */
	unsigned n_listen;
	uint64_t slab_bytes;      /* memory for small files; 0: SHARD_SLAB_BYTES_DEFAULT */
	const struct db_opts *db; /* limits of the rows; NULL: defaults */
	const char *key_file;     /* the cluster's; made when missing; NULL: "key" in dir */
	const struct auth *auth;  /* NULL: a controller tells who is let in; else there is none */
	/* Who leads.  NULL: a file in dir knows it, and this node is alone, as number 1. */
	struct coord *coord;
	uint64_t id;              /* of this node */
	uint32_t first_target;    /* as in replicate_opts */
	struct control **control; /* set while shard 0 is led from here, else NULL; may be NULL */
	struct bytes token;       /* with which replicas greet each other: the cluster's key */
	/* More requests, of connections with admin rights, whoever leads; those of ROLE_REPLICA
	 * among them.  Handlers get ops_arg, and are not RPC_STREAM. */
	const struct rpc_op *ops;
	size_t n_ops;
	void *ops_arg;
	uint64_t stop_ms;         /* for a hand-over at a clean stop; 0: some seconds */
	/* The replica is there, before ready(); NULL: it closes next.  Must not park.  May be
	 * NULL. */
	void (*replica)(void *arg, struct replicate *r);
	/* Called once everything listens and somebody leads, with the addresses as bound, in the
	 * order of listen. */
	void (*ready)(void *arg, const char *const *bound, unsigned n_bound);
	void *arg;
};

/* Parks until the calling fiber is cancelled (a clean stop: closes connections, hands over, merges,
 * syncs; then 0) or the shard cannot go on (its code: E_IO, E_FULL of the log; E_CORRUPT, E_INUSE
 * at the start). */
PARKS int meta_serve(struct sys *s, const struct meta_opts *o, struct err_note *note);
#endif
