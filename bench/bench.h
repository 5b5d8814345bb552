/* SPDX-License-Identifier: Apache-2.0 */
/* bench.h: the load generator.  One engine drives two protocols with requests that were built
 * before the clock starts; only keys, cookies and checksums are patched afterwards.
 *
 * A program of its own, not a layer: it talks to sockets itself, so that what is measured is the
 * server. */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum bench_op { BENCH_PUT, BENCH_GET, BENCH_STAT, BENCH_CREATE /* put of a new key each time */ };
enum { KEY_BYTES = 16, INLINE_MAX = 4096 };

struct bench_opts {
	const char *peer;        /* "redis", "etcd" or "wadi" */
	const char *addr;        /* HOST:PORT */
	enum bench_op op;
	uint32_t conns, depth;   /* depth: requests sent together, then all replies awaited */
	uint64_t value_bytes;
	uint64_t first, keys;    /* key numbers first .. first + keys - 1 */
	bool in_order;           /* each key once, then the end (filling); else at random */
	bool durable;
	uint64_t warm_ns, run_ns; /* not in_order: how long */
	const char *pids;        /* "12,13": their processor time is read; NULL: nobody's */
	uint64_t seed;
};

struct bench_result {
	uint64_t ops, wall_ns, cpu_ns, errors;
	uint64_t p50_ns, p99_ns, max_ns; /* of a batch of depth requests */
};

/* ---- protocols ---- */
struct conn;
struct bench;
struct proto {
	/* Once, before any connection is used; sets up the bucket.  0, or -1 and says why. */
	int (*start)(struct bench *b);
	/* On each new connection, blocking: authentication. */
	int (*hello)(struct bench *b, struct conn *c);
	/* Builds the request of a slot at to, room for request_max; later only patched. */
	size_t (*request_max)(const struct bench *b);
	size_t (*build)(struct bench *b, struct conn *c, uint32_t slot, uint8_t *to);
	void (*patch)(struct bench *b, struct conn *c, uint32_t slot, uint8_t *req, size_t len,
		const char key[KEY_BYTES]);
	/* Length of the first reply in p; 0: more bytes are needed to tell; -1: not a reply. */
	int64_t (*reply)(const uint8_t *p, size_t len);
	/* Whole reply: does it say that the request was done? */
	bool (*good)(struct bench *b, struct conn *c, const uint8_t *p, size_t len);
};
extern const struct proto proto_redis, proto_etcd, proto_wadi;

struct conn {
	int fd;
	uint8_t *out, *in;       /* out: depth requests of stride bytes each */
	size_t stride, out_len, out_at, in_len, in_cap;
	bool out_waits;          /* for the socket to take more */
	uint32_t n_open;         /* replies awaited of the batch */
	uint64_t began_ns;
	uint64_t number, first;  /* wadi: of the session's last request; of the batch's first */
	char (*keys)[KEY_BYTES]; /* of each slot's request */
};

struct bench {
	struct bench_opts o;
	const struct proto *proto;
	uint8_t *value;          /* value_bytes */
	uint64_t bucket;         /* wadi */
};

int bench_run(struct bench *b, struct bench_result *ret_r);

/* ---- helpers of main.c's parts ---- */
void key_of(uint64_t number, char to[KEY_BYTES]); /* 16 digits, well mixed: no order in them */
uint64_t now_ns(void);
uint64_t cpu_ns_of(const char *pids);             /* all threads, user and system */
int dial(const char *addr);                       /* blocking, TCP_NODELAY; -1 and says why */
void hang_up(int fd);
int send_all(int fd, const void *p, size_t len);
int send_vector(int fd, struct iovec *iov, int n); /* scribbles on it */
int recv_all(int fd, void *p, size_t len);
void fill_random(uint64_t seed, void *p, size_t len);

/* ---- histogram: 256 steps for each doubling ---- */
enum { HIST_STEPS = 256, HIST_BITS = 8 };
struct hist { uint64_t n, max, at[HIST_STEPS * 64]; };
void hist_add(struct hist *h, uint64_t v);
uint64_t hist_quantile(const struct hist *h, double q);

/* ---- other subcommands ---- */
int sync_main(const char *dir, uint64_t run_ns);                        /* the disk's sync rate */
#endif
