/* SPDX-License-Identifier: Apache-2.0 */
/* replicate.h: one running replica of a shard.  Carries out what core/replica.h decides, with the
 * rows (db.h), coord and the other replicas over rpc; so every shard is served, also one that is
 * alone.
 *
 * Who serves requests gets the rows with lead() and gives them back in leave(); in between they are
 * its own.  All calls come on the loop of the replica. */
#ifndef META_REPLICATE_H
#define META_REPLICATE_H
#include "coord/coord.h"
#include "core/replica.h"
#include "meta/db.h"
#include "rpc/rpc.h"

struct replicate;
struct replicate_calls {
	/* This replica leads under epoch and its rows are here: serve.  An error ends the
	 * replica. */
	PARKS int (*lead)(void *arg, struct db *db, uint64_t epoch, struct err_note *note);
	/* It leads no more: from now on nothing is answered.  Must not park.  Only after lead() was
	 * called, maybe while it still parks: then lead() may fail, and that is the end of it. */
	void (*stop)(void *arg);
	/* After stop(), and after lead() has returned 0: returns when nobody touches the rows. */
	PARKS void (*leave)(void *arg);
	/* As in db_opts; only while it leads.  Must not park. */
	void (*sealing)(void *arg);
	void (*moved)(void *arg, uint64_t written, uint64_t synced);
	/* Another address came to replicate_nodes() while it leads.  Must not park. */
	void (*nodes)(void *arg);
	/* It cannot go on: nothing is written any more.  Must not park. */
	void (*failed)(void *arg, int rc, const struct err_note *note);
};
struct replicate_opts {
	/* Of log, tree and the replica's own mark; made when missing. */
	const char *dir;
	const struct db_opts *db; /* limits; its dir and calls are set here; NULL: defaults */
	struct coord *coord;     /* outlives the replica */
	uint32_t shard;
	uint64_t id;             /* of this replica, which is its node's; not 0 */
	/* The first state, when coord has none: this replica alone, and so many to become.  0: it
	 * waits until somebody else has begun. */
	uint32_t first_target;
	const struct replica_limits *limits; /* NULL: the defaults */
	struct bytes token;      /* with which replicas greet each other */
	const struct replicate_calls *calls;
	void *arg;
};
/* Returns when the log is open and the replica takes part; who leads is told by the calls. */
PARKS int replicate_open(struct sys *s, const struct replicate_opts *o, struct replicate **ret_r,
	struct err_note *note);
/* The folder below which log and rows are: dir itself, or that of the copy that was put for them.
 * E_NOTFOUND: no replica was ever here. */
enum { REPLICATE_PATH_MAX = 512 };
PARKS int replicate_rows_dir(struct sys *s, const char *dir, char ret_dir[REPLICATE_PATH_MAX],
	struct err_note *note);
/* The replica of dir goes on in `to`, with another log and other rows that are there already.  0
 * also when no replica was in dir; E_CORRUPT: its mark is damaged. */
PARKS int replicate_mark_moves(struct sys *s, const char *dir, const char *to,
	struct err_note *note);
/* Hands over when it leads and another could (until_ns at most), leaves the set, gives the rows
 * back, closes them.  When it returns replicate_on_say() is called no more.  NULL is fine. */
PARKS int replicate_close(struct replicate *r, uint64_t until_ns, struct err_note *note);

/* What other replicas say comes as OP_replica_say over connections of ROLE_REPLICA with admin
 * rights, whoever leads: the server hands it on and this answers it.  RPC_STREAM. */
PARKS void replicate_on_say(struct replicate *r, struct rpc_request *req);
/* Likewise OP_replica_copy.  RPC_FIBER. */
PARKS void replicate_on_copy(struct replicate *r, struct rpc_request *req);

/* R8.  What the rows say now may be answered: no other replica can have changed them. */
bool replicate_may_read(struct replicate *r);
/* Parks until what was read at read_ns may be answered.  E_NOTPRIMARY, E_TIMEOUT, E_CANCELED. */
PARKS int replicate_read_settle(struct replicate *r, uint64_t read_ns, uint64_t until_ns);
/* It leads on a disk that is full, and is about to hand over to one that may have room. */
bool replicate_yields(const struct replicate *r);
/* So many members the set is to have, as last read. */
uint32_t replicate_size(const struct replicate *r);
/* The address of the one that leads as far as is known here; "" when it is not. */
void replicate_hint(const struct replicate *r, char ret_addr[SYS_ADDR_MAX]);
/* Addresses of all nodes with metadata, this one included; how many. */
uint32_t replicate_nodes(const struct replicate *r, char (*ret_addrs)[SYS_ADDR_MAX], uint32_t max);

/* ---- for the operator ---- */
int replicate_target(struct replicate *r, uint32_t size); /* of the set; only the one that leads */
int replicate_handover(struct replicate *r, uint64_t to_id); /* 0: to whoever is fit */
int replicate_force(struct replicate *r); /* R13: lead with what is here, accept the loss */
struct replicate_peer_status {
	uint64_t id, written, synced;
	bool in_sync, connected;
};
struct replicate_status {
	uint64_t id, incarnation, epoch, primary, last, written, synced, commit, synced_commit;
	enum replica_state state;
	uint32_t target_size, n_peers;
	struct replicate_peer_status peers[REPLICA_PEERS_MAX];
};
void replicate_status(const struct replicate *r, struct replicate_status *ret_st);
#endif
