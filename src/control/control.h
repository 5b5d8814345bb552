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
/* What is known of a node's storage. */
struct control_node {
	uint8_t storage;      /* enum wire_node_storage */
	bool fenced;          /* away: surely serves nobody */
	uint64_t held_bytes;  /* to be moved before it may leave; 0: nothing is there any more */
	uint64_t only_bytes;  /* of files that are nowhere else */
	bool stuck;           /* they will not move without somebody's help */
	const char *waits;    /* why they do not move; "": they do, or need not */
};
struct control;
void control_node_look(const struct control *ctl, uint64_t node, struct control_node *ret);
/* Each in rows, written at the end of the turn; again does nothing.  That nothing is put on the
 * node's storage, and what is there moves elsewhere; that it does not belong to us any more: its
 * process is refused for ever, and what only it has is lost.  Codes of shard_may_free(). */
int control_node_drain(struct control *ctl, uint64_t node, bool drain);
int control_node_remove(struct control *ctl, uint64_t node);
/* May it be removed?  force: also what is nowhere else.  0: nothing more is lost by that.  BUSY:
 * not before somebody does what the note says.  UNAVAILABLE: soon it surely serves nobody. */
int control_node_may_go(
	const struct control *ctl, uint64_t node, bool force, struct err_note *note);

struct control_opts {
	const char *key_file;      /* the cluster's key, made when it is missing; or */
	const uint8_t *key;        /* TOKEN_KEY_BYTES, when key_file is NULL */
	/* Zero: the limits of limit.def.  For tests. */
	uint64_t server_silent_ms, server_gone_ms, fence_ms, key_rotate_ms;
	struct control **here;         /* set while a controller lives, else NULL; may be NULL */
	struct control_copies *copies; /* kept up to date while a controller lives; may be NULL */
};
/* What serve_opts takes as its guest; guest_arg is a struct control_opts that outlives the server.
 * A controller is made each time that shard 0 is led from here: it takes in what the shard's rows
 * say and resumes the ends of jobs that were under way. */
extern const struct serve_guest control_guest;
#endif
