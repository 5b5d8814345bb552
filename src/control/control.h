/* SPDX-License-Identifier: Apache-2.0 */
/* control.h: the controller: who may call, which jobs there are, which storage servers, what it all
 * costs.  It lives beside shard 0, keeps its rows there, and answers its requests on the shard's
 * connections (serve_guest). */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H
#include "control/token.h"
#include "meta/serve.h"

struct control_copies {
	uint64_t lacking_bytes, lacking_egroups; /* files that have fewer copies than they should,
	                                          * when that was looked at last */
	uint64_t copied_bytes, copied_extents;   /* found there or brought there, since the start */
	uint64_t unrepaired; /* extents that no server has as they were written */
	bool sound; /* all protected data has its copies, on servers that are up and were asked */
};
struct control_opts {
	const char *key_file;      /* the cluster's key, made when it is missing; or */
	const uint8_t *key;        /* TOKEN_KEY_BYTES, when key_file is NULL */
	/* Zero: the limits of limit.def.  For tests. */
	uint64_t server_silent_ms, server_gone_ms, fence_ms, key_rotate_ms;
	struct control_copies *copies; /* kept up to date while a controller lives; may be NULL */
};
/* What serve_opts takes as its guest; guest_arg is a struct control_opts that outlives the server.
 * A controller is made each time that shard 0 is led from here: it takes in what the shard's rows
 * say and resumes the ends of jobs that were under way. */
extern const struct serve_guest control_guest;
#endif
