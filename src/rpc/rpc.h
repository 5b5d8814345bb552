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

enum {
	RPC_BUFFERED_BYTES_MAX = 1 << 20, /* data of a request whose handler is not RPC_STREAM */
	RPC_REQUESTS_OPEN_MAX = 65536,    /* unanswered requests of one connection; then E_BUSY */
	RPC_CALL_ROOM_BYTES = 192,        /* a shorter reply needs no memory of its own */
};

/* A request as its handler sees it.  body and data are borrowed until the handler returns; the
 * struct itself may be copied to answer later, and its conn lives until it has been answered. */
struct rpc_request {
	struct rpc_conn *conn;
	uint64_t cookie;
	uint16_t op, version;
	struct bytes body;     /* decode with msg_NAME_get(body.p, body.len, version, &m) */
	struct bytes data;     /* empty for RPC_STREAM: data_len bytes wait on the connection */
	uint32_t data_len;
};

/* How a handler runs.  Each request is answered exactly once (rpc_reply*, rpc_drop), before its
 * handler returns or later, also when the connection has been lost meanwhile. */
enum rpc_how {
	RPC_INLINE, /* in the reader fiber; must not park */
	RPC_FIBER,  /* in a fiber of its own, with copies of body and data that live as long as it;
	             * cancelled when the connection is lost */
	RPC_STREAM, /* in the reader fiber, which may park: takes its data itself with
	             * rpc_recv_data(); what it leaves is skipped */
};
typedef void rpc_handler(void *arg, struct rpc_request *r);
struct rpc_op {
	uint16_t op;
	enum rpc_how how;
	rpc_handler *handle;
};

/* What a side of a connection serves.  All members outlive the connections. */
struct rpc_service {
	const struct rpc_op *ops;
	size_t n_ops;
	void *arg;
	/* Server side: checks the hello; fills hello_ok (but for its version) and may keep
	 * something with the connection (rpc_conn_set).  A negative code refuses with that error;
	 * with E_NOTPRIMARY the hint, "" before the call, goes along.  Lists in hello_ok stay the
	 * service's and are read when this has returned.  May park.  NULL lets everybody in. */
	PARKS int (*hello)(void *arg, struct rpc_conn *c, const struct msg_hello *h,
		struct msg_hello_ok *ret_ok, char ret_hint[SYS_ADDR_MAX], struct err_note *note);
	/* The connection that hello let in is lost: answer or drop what is kept of its requests.
	 * Must not park.  May be NULL. */
	void (*lost)(void *arg, struct rpc_conn *c);
	/* The last thing heard of it: after lost, when its last request was answered or dropped.
	 * Must not park.  May be NULL. */
	void (*closed)(void *arg, struct rpc_conn *c);
};

/* ---- replies and gates ---- */
/* A reply may be held until the server announces that a log index is written or synced, or that
 * what it counts by numbers of its own is settled. */
enum rpc_gated { RPC_WRITTEN, RPC_SYNCED, RPC_SETTLED, RPC_GATES };
struct rpc_gate { uint64_t index; enum rpc_gated by; };
#define RPC_NOW ((struct rpc_gate){ 0, RPC_WRITTEN })

/* data is copied.  A message that exceeds its limits is answered with E_TOOBIG instead. */
void rpc_reply(struct rpc_request *r, uint16_t op, const void *msg, struct bytes data,
	struct rpc_gate g);
void rpc_reply_ok(struct rpc_request *r, struct rpc_gate g);
void rpc_reply_error(struct rpc_request *r, int rc, const struct err_note *note, struct rpc_gate g);
/* data is sent from where it is: it must stay until release(arg), which is called exactly once, on
 * the loop, maybe before this returns; it must not park.  For replies of many KiB. */
void rpc_reply_pinned(struct rpc_request *r, uint16_t op, const void *msg, struct bytes data,
	void (*release)(void *arg), void *arg, struct rpc_gate g);
/* With shared memory descriptors beside the frame (Unix sockets); implies RPC_NOW.  Parks until
 * they are sent or the connection is lost: 0 or E_CLOSED. */
PARKS int rpc_reply_shm(struct rpc_request *r, uint16_t op, const void *msg,
	struct sys_shm *const *shm, int n);
/* No answer: for requests of a lost connection. */
void rpc_drop(struct rpc_request *r);
/* Announces progress to all connections of the server: what is gated at or below goes out at the
 * end of this turn.  Neither index goes back. */
void rpc_release(struct rpc_server *s, uint64_t written, uint64_t synced);
void rpc_release_settled(struct rpc_server *s, uint64_t index); /* likewise */
/* RPC_STREAM: the next len bytes of the request's data, straight into buf.  E_INVALID when fewer
 * are left; E_CLOSED, E_TIMEOUT, E_CANCELED. */
PARKS int rpc_recv_data(struct rpc_request *r, void *buf, size_t len, uint64_t until_ns);

/* ---- server ---- */
PARKS int rpc_server_new(struct sys *s, const struct rpc_service *svc, struct rpc_server **ret_s);
PARKS int rpc_server_listen(struct rpc_server *s, const char *addr, const char **ret_bound,
	struct err_note *note); /* for each address; bound lives with the server */
/* Closes everything and waits for its fibers and for open requests, which must be answered or
 * dropped at the latest when lost() is called.  NULL is fine. */
PARKS void rpc_server_free(struct rpc_server *s);
uint32_t rpc_server_connections(const struct rpc_server *s);

/* Bounds of each connection; zero keeps what is set. */
struct rpc_limits {
	uint32_t connections;      /* of the server; LIMIT_CONNECTIONS_MAX */
	uint64_t out_bytes;        /* unsent: then it is not read; LIMIT_CONNECTION_OUT_BYTES_MAX */
	uint64_t hello_ns;         /* from the accept to a complete hello; 5 s */
	uint64_t frame_ns;         /* longest pause inside a frame; 30 s */
	uint64_t send_ns;          /* for a mebibyte of output to be taken; 30 s */
	uint64_t linger_ns;        /* for a peer that broke a rule to read the error; 500 ms */
};
/* For connections to come. */
void rpc_server_limit(struct rpc_server *s, const struct rpc_limits *l);

struct rpc_counts {
	uint64_t accepted, refused;    /* connections: let in by the limit, turned away by it */
	uint64_t denied;               /* by hello */
	uint64_t broken;               /* closed for breaking the protocol */
	uint64_t requests, replies, unsupported;
	uint64_t unasked;              /* replies that nobody waited for (any more) */
	uint64_t in_bytes, out_bytes, sends;
};
struct rpc_counts rpc_server_counts(const struct rpc_server *s);

/* ---- client ---- */
struct rpc_connect {
	const char *addr;
	const struct rpc_service *svc;  /* requests the other side may send us; NULL: none */
	struct group *group;            /* owns the connection's fibers */
	struct msg_hello hello;         /* version is filled in */
	/* Called when we are let in, while the lists of the answer are there.  Must not park.  May
	 * be NULL. */
	void (*greeted)(void *arg, const struct msg_hello_ok *ok);
	void *arg;
	char *ret_hint;                 /* as in rpc_call, of a refused hello */
};
/* The lists of ret_ok are empty: see greeted. */
PARKS int rpc_connect(struct sys *s, const struct rpc_connect *o, uint64_t until_ns,
	struct rpc_conn **ret_c, struct msg_hello_ok *ret_ok, struct err_note *note);
/* Open calls end with E_CLOSED.  Waits until nobody is inside a call.  NULL is fine. */
PARKS void rpc_close(struct rpc_conn *c);

/* One call.  The caller owns the struct, zeroed but for what is marked in, and what it points to
 * until rpc_wait() has returned or done() was called.
 *
 * A call that changes something takes a number of the session.  LIMIT_INFLIGHT_MAX of them are open
 * at once, in the sense of common.def: number n goes out when n - INFLIGHT_MAX has ended; until
 * then the call is queued here, first come first served.  Plain calls have no such window.
 *
 * A call ends when its reply is there and its data is out, whichever comes last. */
struct rpc_call {
	uint16_t op;              /* in */
	bool plain;               /* in: changes nothing, takes no number of the session */
	const void *msg;          /* in: struct msg_NAME of op */
	struct bytes data;        /* in: sent behind the message */
	uint64_t cookie;          /* in: 0 takes the next number, which is then found here; a retry
	                           * passes its old one */
	void *into;               /* in: room for the reply's data; NULL: to the reply buffer */
	size_t into_cap;          /* in: more data than that is E_TOOBIG */
	void (*done)(void *arg);  /* in: instead of rpc_wait(): called on the loop, must not park */
	void *done_arg;           /* in */
	char *ret_hint;           /* in: SYS_ADDR_MAX bytes, or NULL: who leads, as the other side
	                           * says with E_NOTPRIMARY; untouched when it does not */
	/* out */
	int rc;                   /* 0, or the error that the other side answered, or ours */
	uint16_t reply_op, reply_version; /* OP_error: rc is the other side's */
	struct bytes reply;       /* fields; valid until rpc_call_fini() */
	struct bytes reply_data;  /* in into when that was given */
	struct err_note note;
	/* private */
	struct list link;
	struct fiber *waiter;
	void *buf;
	bool started, pinned, answered, ended;
	uint8_t room[RPC_CALL_ROOM_BYTES];
};
/* Queues it; goes out at the end of the turn.  A negative code is also the call's: it has ended,
 * and done() is not called. */
int rpc_start(struct rpc_conn *c, struct rpc_call *call);
/* call->rc.  A call that runs into the deadline (E_TIMEOUT) or is cancelled is given up: its late
 * reply is dropped, what it asked for may still happen.  When its bytes are just being moved this
 * takes a moment longer, and costs the connection if they are stuck. */
PARKS int rpc_wait(struct rpc_conn *c, struct rpc_call *call, uint64_t until_ns);
/* Frees the reply buffer; a call that failed has none. */
void rpc_call_fini(struct rpc_call *call);
/* Both at once and decoded: sends op, expects reply_op, decodes it into ret_reply.  E_CORRUPT when
 * another op comes.  Lists and bytes in ret_reply borrow from call. */
PARKS int rpc_ask(struct rpc_conn *c, struct rpc_call *call, uint16_t reply_op, void *ret_reply,
	uint64_t until_ns, struct err_note *note);
/* The session's next number.  After connecting it is one more than hello_ok said; retries passed to
 * rpc_start() move it behind themselves. */
void rpc_number_set(struct rpc_conn *c, uint64_t next);

/* ---- both ---- */
void rpc_conn_set(struct rpc_conn *c, void *mine);
void *rpc_conn_get(const struct rpc_conn *c);
struct sys_stream *rpc_conn_stream(const struct rpc_conn *c); /* NULL once it is lost */
const char *rpc_conn_name(const struct rpc_conn *c);          /* peer, for messages */
uint16_t rpc_conn_version(const struct rpc_conn *c);
bool rpc_conn_open(const struct rpc_conn *c);
uint64_t rpc_round_trips(const struct rpc_conn *c);           /* calls that were sent */
/* Connecting side: bytes that came.  While it stays, the other side was silent. */
uint64_t rpc_conn_heard(const struct rpc_conn *c);
#endif
