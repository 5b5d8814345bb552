/* SPDX-License-Identifier: Apache-2.0 */
/* control.h: the controller: who may call, which jobs there are, which storage servers, what it all
 * costs.  It lives beside shard 0, keeps its rows there, and answers its requests on the shard's
 * connections (serve_guest). */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H
#include "control/token.h"
#include "meta/serve.h"

struct control;
struct control_opts {
	const char *key_file;      /* the cluster's key, made when it is missing; or */
	const uint8_t *key;        /* TOKEN_KEY_BYTES, when key_file is NULL */
	/* Zero: the limits of limit.def.  For tests. */
	uint64_t server_silent_ms, server_gone_ms, fence_ms;
};
/* Takes in what the shard's rows say and resumes the ends of jobs that were under way.  The shard
 * serves nobody yet, and outlives it. */
PARKS int control_new(struct sys *s, struct shard *sh, const struct control_opts *o,
	struct control **ret_ctl, struct err_note *note);
/* Ends its fibers and saves bills.  No connection that it was told of is left.  NULL is fine. */
PARKS void control_free(struct control *ctl);

/* What serve_guest() takes: the requests, connections and tokens.  stop frees the controller. */
struct serve_guest control_guest(struct control *ctl);
#endif
