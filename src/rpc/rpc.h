/* SPDX-License-Identifier: Apache-2.0 */
/* rpc.h: connections that speak wire messages over the door: hello, framing, pipelined requests in
 * both directions, out-of-order replies, replies held back until a commit.
 *
 * One reader fiber and one writer fiber per connection.  Output is collected during a turn of the
 * loop and sent at its end, so a turn costs one system call per connection however many requests it
 * brought.  A connection that breaks a rule of the protocol is answered with an error and closed;
 * nothing else is affected. */
#ifndef RPC_RPC_H
#define RPC_RPC_H
#include "sys/sys.h"
#include "wire/frame.h"
#include "wire/wire.h"

struct rpc_conn;
struct rpc_server;

/* A request as its handler sees it.  body and data are borrowed until the handler returns. */
struct rpc_request {
	struct rpc_conn *conn;
	uint64_t cookie;
	uint16_t op, version;
	struct bytes body;     /* decode with msg_NAME_get(body.p, body.len, version, &m) */
	struct bytes data;     /* empty for RPC_STREAM: data_len bytes wait on the connection */
	uint32_t data_len;
};

/* How a handler runs.  It answers exactly once, before it returns or later (rpc_reply*). */
enum rpc_how {
	RPC_INLINE, /* in the reader fiber; must not park */
	RPC_FIBER,  /* in a fiber of its own, with copies of body and data that live as long as it */
	RPC_STREAM, /* in the reader fiber, which may park: takes its data itself with rpc_recv_data() */
};
typedef void rpc_handler(void *arg, struct rpc_request *r);
struct rpc_op { uint16_t op; enum rpc_how how; rpc_handler *handle; };

/* What a side of a connection serves.  All members outlive the connections. */
struct rpc_service {
	const struct rpc_op *ops;
	size_t n_ops;
	void *arg;
	/* Server side: checks the hello; fills hello_ok and may keep something with the connection
	 * (rpc_conn_set).  A negative code refuses with that error.  May park. */
	PARKS int (*hello)(void *arg, struct rpc_conn *c, const struct msg_hello *h,
		struct msg_hello_ok *ret_ok, struct err_note *note);
	void (*closed)(void *arg, struct rpc_conn *c); /* after its last request was answered or dropped */
};

/* ---- replies and gates ---- */
/* A reply may be held until the server announces that a log index is written or synced. */
struct rpc_gate { uint64_t index; bool sync; };
#define RPC_NOW ((struct rpc_gate){ 0, false })

void rpc_reply(struct rpc_request *r, uint16_t op, const void *msg, struct bytes data, struct rpc_gate g);
void rpc_reply_ok(struct rpc_request *r, struct rpc_gate g);
void rpc_reply_error(struct rpc_request *r, int rc, const struct err_note *note, struct rpc_gate g);
/* With shared memory descriptors beside the frame (Unix sockets); implies RPC_NOW. */
PARKS int rpc_reply_shm(struct rpc_request *r, uint16_t op, const void *msg, struct sys_shm *const *shm, int n);
/* Announces progress to all connections of the server: what is gated at or below goes out at the end
 * of this turn. */
void rpc_release(struct rpc_server *s, uint64_t written, uint64_t synced);
/* RPC_STREAM: the next len bytes of the request's data, straight into buf. */
PARKS int rpc_recv_data(struct rpc_request *r, void *buf, size_t len, uint64_t until_ns);

/* ---- server ---- */
PARKS int rpc_server_new(struct sys *s, const struct rpc_service *svc, struct rpc_server **ret_s);
PARKS int rpc_server_listen(struct rpc_server *s, const char *addr, const char **ret_bound,
	struct err_note *note); /* may be called for several addresses */
PARKS void rpc_server_free(struct rpc_server *s); /* closes everything and waits for its fibers */
uint32_t rpc_server_connections(const struct rpc_server *s);

/* ---- client ---- */
struct rpc_connect {
	const char *addr;
	const struct rpc_service *svc;  /* requests the other side may send us; NULL: none */
	struct group *group;            /* owns the connection's fibers */
	struct msg_hello hello;         /* version is filled in */
};
PARKS int rpc_connect(struct sys *s, const struct rpc_connect *o, uint64_t until_ns,
	struct rpc_conn **ret_c, struct msg_hello_ok *ret_ok, struct err_note *note);
PARKS void rpc_close(struct rpc_conn *c); /* open calls end with E_CLOSED; NULL is fine */

/* One call.  The caller owns the struct and what it points to until rpc_wait() has returned. */
struct rpc_call {
	uint16_t op;              /* in */
	const void *msg;          /* in: struct msg_NAME of op */
	struct bytes data;        /* in: sent behind the message */
	uint64_t cookie;          /* in: 0 takes the connection's next number; a retry passes its old one */
	void *into;               /* in: room for the reply's data; NULL: it stays in the reply buffer */
	size_t into_cap;
	/* out */
	int rc;                   /* 0, or the error that the other side answered, or ours */
	uint16_t reply_op, reply_version;
	struct bytes reply;       /* fields; valid until rpc_call_fini() */
	struct bytes reply_data;  /* in into when that was given */
	struct err_note note;
	/* private */
	struct list link;
	struct fiber *waiter;
	void (*done)(void *arg);  /* instead of a waiter: called on the loop, must not park */
	void *done_arg;
	void *buf;
	bool started, ended;
};
int rpc_start(struct rpc_conn *c, struct rpc_call *call); /* queues it; goes out at the end of the turn */
PARKS int rpc_wait(struct rpc_conn *c, struct rpc_call *call, uint64_t until_ns); /* call->rc */
void rpc_call_fini(struct rpc_call *call); /* frees the reply buffer */
/* Both at once and decoded: sends op, expects reply_op, decodes it into ret_reply.  E_CORRUPT when
 * another op comes.  Lists and bytes in ret_reply borrow from call. */
PARKS int rpc_ask(struct rpc_conn *c, struct rpc_call *call, uint16_t reply_op, void *ret_reply,
	uint64_t until_ns, struct err_note *note);

/* ---- both ---- */
void rpc_conn_set(struct rpc_conn *c, void *mine);
void *rpc_conn_get(const struct rpc_conn *c);
struct sys_stream *rpc_conn_stream(const struct rpc_conn *c);
const char *rpc_conn_name(const struct rpc_conn *c); /* peer, for messages */
uint16_t rpc_conn_version(const struct rpc_conn *c);
bool rpc_conn_open(const struct rpc_conn *c);
uint64_t rpc_round_trips(const struct rpc_conn *c); /* calls that were started */
#endif
