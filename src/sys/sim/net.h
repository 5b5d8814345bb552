/* SPDX-License-Identifier: Apache-2.0 */
/* net.h: connections between simulated processes; shared by conn.c (what the kernels and the wire
 * do) and stream.c (what a program calls).
 *
 * A connection has two ends and, toward each end, a pipe of bytes.  Bytes are stored once, in the
 * pipe, and counted by offsets from the start of the connection:
 *     taken <= arrived <= sent,  acked <= taken,  sent - acked <= window
 * A segment is an offset and the time at which the pipe's bytes up to it arrive; so a segment costs
 * no allocation, and the order of a pipe is kept by construction.
 *
 * (N1) A wire carries one thing toward one end.  When its event fires while the path is cut, it is
 *      held, as a kernel that retransmits would; it goes on when the path heals.
 * (N2) An end that is NULL is gone: closed, or lost with its machine.  To a closed end the peer's
 *      bytes are answered with a reset; from a lost machine nothing comes until it is up again.
 * (N3) A connection lives until both ends are gone. */
#ifndef SYS_SIM_NET_H
#define SYS_SIM_NET_H
#include "sys/sim/world.h"

enum {
	WINDOW_FIRST = 32 * 1024,
	WINDOW_SHIFTS = 5, /* a window is drawn: 32 KiB to 512 KiB */
	SEGMENTS_MAX = 16,
	BACKLOG_MAX = 128,
	PORT_FIRST = 20000,
	CALLER_PORT_FIRST = 40000,
	CALLER_PORTS = 20000,
};

struct conn;
struct wire {
	struct event event;
	void (*arrive)(struct conn *c, unsigned to);
	struct conn *conn;
	uint8_t to;
	bool held;
};

struct segment {
	uint64_t due_ns, end;
	bool fin, lost;
};
struct shm_mem;
struct shm_ref {
	struct list link;
	uint64_t at;
	struct shm_mem *mem;
	bool readonly;
};

struct pipe { /* toward one end */
	uint8_t *ring;
	uint32_t room, window; /* room: of the ring, a power of two */
	uint64_t sent, arrived, taken, acked, ack_sent;
	struct segment segments[SEGMENTS_MAX];
	uint32_t first, n_segments;
	bool fin, fin_arrived;
	struct list shms;
	struct wire data, ack, reset; /* ack: of what this end sent itself */
	struct wire probe;            /* this end finds out that the other machine is lost */
};

enum conn_state { CONN_OPENING, CONN_REFUSED, CONN_OPEN };
struct conn {
	struct list link; /* in sim->conns */
	struct sim *w;
	enum conn_state state;
	bool local; /* within one kernel: never cut, nothing is lost */
	bool is_unix;
	bool lost[2];              /* the end went with its machine */
	struct sys_stream *end[2]; /* 0 has called, 1 was called */
	struct sim_node *node[2];
	struct pipe pipe[2];
	struct wire open; /* toward 1: asks; toward 0: the answer */
	struct call *opener;
	uint32_t caller_port;
	char addr[SYS_ADDR_MAX];
};

struct sys_stream {
	struct list link;    /* in sys->streams */
	struct list backlog; /* in the listener's, until accepted */
	struct sys *sys;
	struct conn *conn; /* NULL: an empty shell after the end of its process */
	unsigned side;
	struct call *reader, *writer;
	bool shut, reset, broken;
	char peer[SYS_ADDR_MAX];
	struct sys_cert cert; /* of the other side, on tls: */
};

struct sys_listener {
	struct list link;
	struct sys *sys;
	struct list backlog, waiters;
	uint32_t n_backlog;
	char addr[SYS_ADDR_MAX];
};
struct accept_wait {
	struct call call;
	struct list link;
	struct sys_stream *got;
};

static inline bool net_is_tls(const char *addr) { return strncmp(addr, "tls:", 4) == 0; }

/* ---- conn.c ---- */
struct conn *conn_new(struct sys *s, struct sim_node *to, const char *addr);
void conn_send_open(struct conn *c);
void conn_send_bytes(struct conn *c, unsigned to, bool fin); /* what was put into the pipe since */
void conn_send_ack(struct conn *c, unsigned to);             /* when enough was taken */
struct sys_stream *stream_new(struct sys *s, struct conn *c, unsigned side);
void stream_wake(struct sys_stream *s);
void stream_detach(struct sys_stream *s, bool lost); /* lost: with its machine, silently */
struct sys_listener *listener_find(const struct sys *s, const char *addr);

/* ---- shm.c ---- */
struct sys_shm *shm_handle(
	struct sys *s, struct shm_mem *mem, bool readonly);        /* takes a reference */
struct shm_mem *shm_mem_of(struct sys_shm *m, bool *ret_readonly); /* gives one */
void shm_mem_put(struct shm_mem *mem);
#endif
