/* SPDX-License-Identifier: Apache-2.0 */
/* control.h: the controller: who may call, which jobs there are, which storage servers, what it all
 * costs.  It lives beside shard 0, keeps its rows there, and answers its requests on the shard's
 * connections (serve_guest). */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H
#include "control/token.h"
#include "meta/serve.h"

struct control_opts {
	const char *key_file;      /* the cluster's key, made when it is missing; or */
	const uint8_t *key;        /* TOKEN_KEY_BYTES, when key_file is NULL */
	/* Zero: the limits of limit.def.  For tests. */
	uint64_t server_silent_ms, server_gone_ms, fence_ms, key_rotate_ms;
};
/* What serve_opts takes as its guest; guest_arg is a struct control_opts that outlives the server.
 * A controller is made each time that shard 0 is led from here: it takes in what the shard's rows
 * say and resumes the ends of jobs that were under way. */
extern const struct serve_guest control_guest;
#endif
