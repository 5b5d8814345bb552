/* SPDX-License-Identifier: Apache-2.0 */
/* serve.h: a shard's requests over rpc, while this replica of it leads. */
#ifndef META_SERVE_H
#define META_SERVE_H
#include "meta/replicate.h"
#include "meta/shard.h"

struct serve;
/* Somebody else whose requests come over the same connections: the controller.  Made anew each time
 * this replica leads. */
struct serve_guest {
	const struct rpc_op *ops; /* handlers get what begin() made; not RPC_STREAM */
	size_t n_ops;
	/* serve_shard() is there, and serves nobody yet. */
	PARKS int (*begin)(
		const void *arg, struct serve *v, void **ret_guest, struct err_note *note);
	/* Whose the token is, instead of serve_opts.auth.  May be NULL. */
	int (*resolve)(void *guest, struct bytes token, struct principal *ret_p,
		struct err_note *note);
	/* A connection was let in, for its session (NULL: it has none); an error turns it away.
	 * lost() and closed() as in rpc_service, for those that opened() took. */
	int (*opened)(void *guest, struct rpc_conn *c, const struct principal *who,
		struct session *session, struct err_note *note);
	void (*lost)(void *guest, struct rpc_conn *c);
	void (*closed)(void *guest, struct rpc_conn *c);
	/* All connections that it was told of are gone; the shard closes next, and may have been
	 * stopped before. */
	PARKS void (*end)(void *guest);
};
struct serve_opts {
	/* Its calls and arg are set here.  Without coord: one of its own in dir (embedded.h), in
	 * which this replica is the only one, as number 1. */
	struct replicate_opts replica;
	uint64_t slab_bytes;             /* as in shard_opts */
	const struct auth *auth;         /* NULL: no token is anybody's */
	const struct serve_guest *guest; /* NULL: nobody */
	const void *guest_arg;
	/* More requests, of connections with admin rights, replicas among them, whoever leads. */
	const struct rpc_op *ops;
	size_t n_ops;
	void *ops_arg;
	uint64_t stop_ms; /* for a hand-over in serve_close(); 0: SERVE_STOP_MS */
	/* The log has failed: what was not acknowledged never will be.  Must not park. */
	void (*failed)(void *arg, int rc, const struct err_note *note);
	void *arg;
};
enum {
	SERVE_STOP_MS = 5000,
	SERVE_HELLO_MS = 500, /* for which a hello waits for somebody to lead */
};
/* Everything that o points to outlives the server. */
PARKS int serve_open(
	struct sys *s, const struct serve_opts *o, struct serve **ret_v, struct err_note *note);
/* For each address; bound lives with the server. */
PARKS int serve_listen(
	struct serve *v, const char *addr, const char **ret_bound, struct err_note *note);
/* Parks until this replica lets clients in, or knows who does.  E_TIMEOUT, E_CANCELED. */
PARKS int serve_ready(struct serve *v, uint64_t until_ns);
/* Closes the connections of clients, then the shard, hands over, closes all.  NULL is fine. */
PARKS int serve_close(struct serve *v, struct err_note *note);
struct sys *serve_sys(const struct serve *v);
struct shard *serve_shard(struct serve *v);         /* NULL: another replica leads */
struct replicate *serve_replicate(struct serve *v);
/* With what an answer has to wait that has seen this much of the shard, or, with 0, only depends on
 * who leads. */
struct rpc_gate serve_gate(struct serve *v, uint64_t seen, bool sync);
#endif
