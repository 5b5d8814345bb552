/* SPDX-License-Identifier: Apache-2.0 */
/* serve.h: a shard's requests over rpc. */
#ifndef META_SERVE_H
#define META_SERVE_H
#include "meta/shard.h"
#include "rpc/rpc.h"

struct serve;
struct serve_opts {
	const char *dir;          /* of the rows */
	uint64_t slab_bytes;      /* as in shard_opts */
	const struct db_opts
		*db; /* limits of the rows; its dir and calls are set here; NULL: defaults */
	const struct auth *auth;  /* outlives the server; NULL: no token is anybody's */
	/* The log has failed: what was not acknowledged never will be.  Must not park. */
	void (*failed)(void *arg, int rc, const struct err_note *note);
	void *arg;
};
PARKS int serve_open(
	struct sys *s, const struct serve_opts *o, struct serve **ret_v, struct err_note *note);
/* Somebody else whose requests come over the same connections: the controller. */
struct serve_guest {
	const struct rpc_op *ops; /* handlers get arg */
	size_t n_ops;
	void *arg;
	const struct auth *auth;  /* instead of that of serve_opts; may be NULL */
	/* A connection was let in, for its session (NULL: it has none); an error turns it away.
	 * lost() and closed() as in rpc_service, for those that opened() took. */
	int (*opened)(void *arg, struct rpc_conn *c, const struct principal *who,
		struct session *session, struct err_note *note);
	void (*lost)(void *arg, struct rpc_conn *c);
	void (*closed)(void *arg, struct rpc_conn *c);
	/* All connections are gone, the shard closes next. */
	PARKS void (*stop)(void *arg);
};
/* Before the first serve_listen(); copied. */
void serve_guest(struct serve *v, const struct serve_guest *g);
/* For each address; bound lives with the server. */
PARKS int serve_listen(
	struct serve *v, const char *addr, const char **ret_bound, struct err_note *note);
/* Closes all connections, then the shard.  NULL is fine. */
PARKS int serve_close(struct serve *v, struct err_note *note);
struct shard *serve_shard(struct serve *v);
#endif
