/* SPDX-License-Identifier: Apache-2.0 */
/* serve.h: a shard's requests over rpc. */
#ifndef META_SERVE_H
#define META_SERVE_H
#include "meta/shard.h"

struct serve;
struct serve_opts {
	const char *dir;
	uint64_t slab_bytes;      /* as in shard_opts */
	const struct db_opts *db; /* likewise */
	const struct auth *auth;  /* outlives the server; NULL: no token is anybody's */
	/* The log has failed: what was not acknowledged never will be.  Must not park. */
	void (*failed)(void *arg, int rc, const struct err_note *note);
	void *arg;
};
PARKS int serve_open(
	struct sys *s, const struct serve_opts *o, struct serve **ret_v, struct err_note *note);
/* For each address; bound lives with the server. */
PARKS int serve_listen(
	struct serve *v, const char *addr, const char **ret_bound, struct err_note *note);
/* Closes all connections, then the shard.  NULL is fine. */
PARKS int serve_close(struct serve *v, struct err_note *note);
struct shard *serve_shard(struct serve *v);
#endif
