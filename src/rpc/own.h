/* SPDX-License-Identifier: Apache-2.0 */
/* own.h: what the files of this folder share.  Nobody else includes it.
 *
 *   HELLO ---> OPEN ---> CLOSING ---> DOWN ---> GONE
 *     |          |                     ^
 *     +----------+---------------------+
 *
 * HELLO    bytes flow, the hello has not been answered
 * OPEN     requests and calls in both directions
 * CLOSING  a rule was broken: nothing is handled any more, the error still goes out
 * DOWN     the stream is shut; calls have ended; the fibers are on their way out
 * GONE     no fiber, no stream; the struct lives while somebody counts on it
 *
 *  I1  Only the reader fiber touches struct in and receives; only the writer fiber sends.
 *  I2  refs counts the fibers' one, the connector's one, each unanswered request of the peer, and
 *      each fiber inside rpc_wait() or rpc_reply_shm().  At zero the struct is freed, and then
 *      the state is GONE.
 *  I3  out_bytes is what ready, sending and held hold together, pinned bytes included.
 *  I4  A caller's memory (call->data, call->into, a pin) is not touched after the call has ended
 *      or the pin was released: who gives up waits for the fiber that is moving it. */
#ifndef RPC_OWN_H
#define RPC_OWN_H
#include "base/check.h"
#include "base/limit.h"
#include "base/sm.h"
#include "rpc/rpc.h"

enum {
	IN_BYTES = 64 * 1024,        /* input buffer of a connection; grown for one larger frame */
	BULK_HEAD_BYTES = 4 * 1024,  /* asked for at once where bulk data is likely to follow */
	OUT_BYTES = 16 * 1024,       /* first size of an output buffer */
	OUT_KEEP_BYTES = 256 * 1024, /* a larger one is given back when it is empty */
	TURN_BYTES_MAX = 256 * 1024, /* received by one connection before others get their turn */
	SEND_BYTES_MAX = 1 << 20,    /* handed to the door at once */
	SEND_PARTS_MAX = 64,
	PIN_BYTES_MIN = 8 * 1024,    /* shorter data of a call is copied */
	PLAIN_FIRST = 64,            /* plain calls open at once before the ring grows */
	PLAIN_MAX = 1 << 20,
};
#define HELLO_NS (5 * SYS_SEC)
#define FRAME_NS (30 * SYS_SEC)
#define SEND_NS (30 * SYS_SEC)
#define LINGER_NS (500 * SYS_MS)  /* for the error to reach a peer that broke the protocol */
#define LET_GO_NS (20 * SYS_MS)   /* between looks whether bytes being moved are still wanted */

enum conn_state { CONN_HELLO, CONN_OPEN, CONN_CLOSING, CONN_DOWN, CONN_GONE };

/* ---- output ---- */
/* Bytes that are sent from where they are, behind the first `at` bytes of the buffer. */
struct pin {
	size_t at, len, sent;
	const uint8_t *p;
	void (*release)(void *arg);
	void *arg;
	struct rpc_call *call;       /* whose data it is, or NULL */
	struct sys_shm *const *shm;  /* to go with it */
	int n_shm;
};
struct out {
	uint8_t *p;
	size_t len, cap, pinned;     /* pinned: bytes in pins */
	struct pin *pins;
	uint32_t n_pins, cap_pins;
};
/* Output behind gates, in ascending order of their index: what ends at `end` may go at `index`. */
struct mark { uint64_t index; size_t end; };
struct held {
	struct out out;
	struct mark *marks;
	uint32_t n, cap;
	struct list link;            /* of the server: connections that hold output of this kind */
};

/* ---- input ---- */
struct in {
	uint8_t *p;
	size_t head, tail, cap;
	uint32_t left;               /* bytes of the current frame's data that nobody took yet */
	bool bulk;                   /* the last frame had more data than the buffer holds */
	size_t turn_bytes;
	uint64_t turns;
	struct rpc_call *into;       /* the call whose memory is being received into */
	bool into_dropped;           /* it was given up */
	struct waitq let_go;         /* woken when into is cleared */
};

struct ops {
	const struct rpc_service *svc;
	uint8_t by_op[WIRE_OPS_MAX]; /* index in svc->ops, plus one */
};
void rpc_ops_init(struct ops *o, const struct rpc_service *svc); /* svc may be NULL */

struct rpc_conn {
	uint32_t magic;
	uint16_t version;
	bool let_in;                 /* hello said yes: lost() and closed() are owed */
	struct sm state;
	struct sys *sys;
	struct loop *loop;
	struct sys_stream *stream;
	struct rpc_server *server;   /* NULL: the connecting side */
	struct list link;            /* of the server's connections */
	const struct ops *ops;
	struct ops *own_ops;         /* of the connecting side */
	struct rpc_limits limits;
	struct rpc_counts *counts;   /* the server's, or own_counts */
	struct rpc_counts own_counts;
	struct fiber *reader;
	struct group kids;           /* writer and handlers */
	void *mine;
	uint32_t refs, n_requests;
	uint64_t born_ns;

	struct in in;

	struct out ready, sending;
	struct held held[RPC_GATES];
	uint64_t out_bytes;
	uint32_t send_first, send_end; /* pins of `sending` in the vector being sent */
	uint64_t n_vectors;            /* that the door has taken or refused */
	bool writer_waits, writer_ended, in_send;
	struct waitq writer_q, room_q, sent_q, gone_q;

	/* calls */
	struct rpc_call *hello_call;
	struct rpc_call *numbered[LIMIT_INFLIGHT_MAX]; /* by number modulo their count */
	struct rpc_call **plain;                        /* by cookie modulo their count */
	uint32_t plain_cap, n_plain;
	uint64_t number_next, plain_next, round_trips;
	struct list queued;
	struct err_note why;         /* what ended the connection */
	char name[SYS_ADDR_MAX];
};
enum { CONN_MAGIC = 0x636e7063 };

struct rpc_server {
	struct sys *sys;
	struct ops ops;
	struct group group;          /* accepting fibers and the connections' readers */
	struct list conns, listeners;
	struct list held[RPC_GATES]; /* connections with held output */
	uint64_t released[RPC_GATES];
	uint32_t n_conns, n_refusing;
	bool closing;
	struct waitq gone_q;
	struct rpc_limits limits;
	struct rpc_counts counts;
};

/* ---- server.c ---- */
extern const struct rpc_limits rpc_limits_default;

/* ---- conn.c ---- */
/* Takes the stream when it succeeds.  E_BUSY without a free fiber, E_NOMEM.  The caller of the
 * connecting side holds a reference. */
int rpc_conn_new(struct sys *sys, struct sys_stream *stream, struct rpc_server *server,
	const struct ops *ops, struct group *g, struct rpc_conn **ret_c);
void rpc_conn_unref(struct rpc_conn *c);
/* Ends the connection from any fiber: the reader notices and cleans up.  The first reason stays. */
int rpc_conn_fail(struct rpc_conn *c, int rc, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* An error that answers nothing or the hello. */
void rpc_conn_error(struct rpc_conn *c, uint64_t cookie, int rc, const struct err_note *note,
	const char *hint);
/* The peer broke a rule: says so to it, then closes.  For the reader; returns E_CORRUPT. */
int rpc_conn_broken(struct rpc_conn *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline bool conn_talks(const struct rpc_conn *c)
{
	return c->state.now == CONN_OPEN || c->state.now == CONN_HELLO;
}

/* ---- out.c ---- */
/* Appends a frame to o, with a copy of data.  0; E_TOOBIG, nothing appended; E_NOMEM likewise, and
 * the connection fails. */
int rpc_out_frame(struct rpc_conn *c, struct out *o, const struct frame *f, const void *msg,
	struct bytes data);
/* The same with data left where it is: pin's at and len are filled in, the rest is the caller's. */
int rpc_out_frame_pinned(struct rpc_conn *c, struct out *o, const struct frame *f, const void *msg,
	struct bytes data, struct pin *pin);
/* The same alone, to go with the descriptors of pin; the bytes are the caller's to free, after the
 * pin's release. */
int rpc_out_frame_shm(struct rpc_conn *c, const struct frame *f, const void *msg, struct pin *pin,
	uint8_t **ret_bytes);
/* Room for bytes and pins; E_NOMEM, and the connection fails. */
int rpc_out_reserve(struct rpc_conn *c, struct out *o, size_t bytes, uint32_t pins);
static inline bool out_empty(const struct out *o) { return o->len == 0 && o->n_pins == 0; }
void rpc_out_clear(struct rpc_conn *c, struct out *o); /* releases pins, keeps the buffer */
void rpc_out_fini(struct rpc_conn *c, struct out *o);
void rpc_out_wake(struct rpc_conn *c);                 /* there is something in ready */
PARKS int rpc_writer_run(void *arg);                   /* the writer fiber; arg is the connection */
/* A call is given up while its data may be on the way out: parks until nobody reads it any more. */
PARKS void rpc_out_let_go(struct rpc_conn *c, struct rpc_call *call);

/* ---- gate.c ---- */
/* Where a reply with this gate is appended. */
struct out *rpc_gate_out(struct rpc_conn *c, struct rpc_gate g);
void rpc_gate_mark(struct rpc_conn *c, struct rpc_gate g); /* after the frame was appended there */
void rpc_gate_fini(struct rpc_conn *c);

/* ---- in.c ---- */
PARKS int rpc_reader_run(struct rpc_conn *c); /* until the connection ends: why */
/* Receives exactly len bytes of the current frame's data.  In slices when it is for a call, so that
 * the call can be given up: then E_CANCELED. */
PARKS int rpc_in_take(struct rpc_conn *c, void *buf, size_t len, uint64_t until_ns,
	const struct rpc_call *call);

/* ---- request.c, call.c: one frame; its data begins at in.head, in.left bytes ---- */
PARKS int rpc_request_handle(struct rpc_conn *c, const struct frame *f, const uint8_t *body);
/* How many bytes of the request's data must be in the buffer before it is handled. */
uint32_t rpc_request_buffered(const struct rpc_conn *c, const struct frame *f);
PARKS int rpc_reply_handle(struct rpc_conn *c, const struct frame *f, const uint8_t *body);
void rpc_calls_end(struct rpc_conn *c, int rc); /* the connection is lost, because of rc */
/* The fields of an error: points into rc's or the note's text. */
struct msg_error rpc_error_of(int rc, const struct err_note *note);
#endif
