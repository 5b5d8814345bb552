/* SPDX-License-Identifier: Apache-2.0 */
/* dialog.h: one client's conversation with the metadata server.
 *
 * A session has a random 128-bit id.  Requests that change something are numbered; when a
 * connection breaks, the next one repeats what was unanswered under the same numbers, and the
 * server, which remembers its answers, does it once.  At most LIMIT_INFLIGHT_MAX numbers are open:
 * number n is given out only when n - LIMIT_INFLIGHT_MAX has been answered or given up (S1).
 *
 * A server that no longer knows the session (it lost it with its unsynced log) tells by a last
 * number below one that was answered; then what had been sent and not answered ends in E_UNKNOWN
 * (S2).
 *
 * Requests that change nothing are not numbered (plain calls), so that a long wait among
 * them holds up nobody's window (S3).
 *
 * Of several metadata nodes one leads (rpc/route.h).  When it says that it does so no more, or its
 * connection breaks, or nothing comes from it for DIALOG_QUIET_MS and it does not answer a ping, or
 * it answers no change for DIALOG_SLOW_MS (it may be cut off from its replicas, and not know), the
 * others are asked; whoever lets us in gets what was unanswered, under the same numbers.  It is
 * left only for one that leads (S4), so that a slow one is not given up. */
#ifndef CLIENT_DIALOG_H
#define CLIENT_DIALOG_H
#include "base/limit.h"
#include "rpc/route.h"

enum {
	DIALOG_SLOTS = LIMIT_INFLIGHT_MAX,
	DIALOG_QUIET_MS = 50,        /* with requests open and nothing heard: is it still there? */
	DIALOG_PING_MS = 50,         /* for the answer to that */
	DIALOG_SLOW_MS = 500,        /* with changes open and none answered */
	DIALOG_LOOK_MS = 500,        /* for the others to say whether they lead */
	DIALOG_PAUSE_MS = 16,        /* then, while it is still silent; longer each time */
	DIALOG_PAUSE_MS_MAX = 2000,
};

struct dialog {
	struct sys *sys;
	struct group *group;         /* owns the connections' fibers */
	struct route route;
	char at[SYS_ADDR_MAX];       /* of conn */
	struct msg_hello hello;      /* token and name point below */
	uint8_t token[64], key[64];
	char name[256];
	struct rpc_conn *conn;       /* NULL while there is none */
	uint64_t n_conns;            /* so far: which one conn is, for addresses come again */
	struct fiber_lock connecting;
	const struct rpc_service *svc; /* what the server may ask; NULL: nothing */
	bool wait;                   /* try to connect until the deadline, the first time too */
	bool greeted;                /* was connected once */
	uint64_t job;                /* that the token stands for */
	uint64_t next_number, answered; /* highest number answered with success */
	uint64_t forgotten;          /* times that the server had lost the session */
	uint64_t open[DIALOG_SLOTS]; /* number in its slot, 0: free */
	struct waitq slots;
	uint64_t round_trips;        /* of connections that are closed */
	struct group watch;          /* of the fiber that notices silence */
	struct waitq asked;
	uint32_t n_asking, n_changing;
	uint64_t changed_ns;         /* the last answer to a change, or the first of those open */
	bool watched;
};
struct dialog_opts {
	const char *addr;            /* as route_init() takes it */
	const char *name;
	struct bytes token;
	struct bytes key;            /* shown instead of an empty token, but not to Unix sockets */
	bool wait;
};
int dialog_init(struct dialog *se, struct sys *s, struct group *g, const struct dialog_opts *o,
	struct err_note *note);
PARKS int dialog_connect(struct dialog *se, uint64_t until_ns, struct err_note *note);
PARKS void dialog_fini(struct dialog *se);
uint64_t dialog_round_trips(const struct dialog *se);
uint16_t dialog_version(const struct dialog *se); /* of the wire, for lists to send */

/* One request.  The caller owns it and what it points to until ask_fini(). */
struct ask {
	uint16_t op, reply_op;       /* in */
	const void *msg;             /* in: struct msg_NAME of op */
	struct bytes data;           /* in */
	void *into;                  /* in: room for the reply's data, or NULL */
	size_t into_cap;
	bool changes;                /* in: numbered, done once */
	struct rpc_call call;        /* out: reply_data */
};
/* Sends, repeats when the connection breaks, the server leads no more or is busy, and decodes the
 * answer into ret_reply, which borrows from a.  The server's code; E_UNKNOWN when a change was sent
 * and not answered, whatever came of it later; else E_TIMEOUT, and E_UNREACH, E_NOTPRIMARY (nobody
 * leads), E_DENIED, E_GONE when no connection could be made. */
PARKS int dialog_ask(struct dialog *se, struct ask *a, void *ret_reply, uint64_t until_ns,
	struct err_note *note);
void ask_fini(struct ask *a);
#endif
