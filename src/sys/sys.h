/* SPDX-License-Identifier: Apache-2.0 */
/* sys.h: the one door to the outside.  sys/uv (libuv, the real machine) and sys/sim (a whole
 * simulated cluster in one process) implement it; which one is chosen at link time.
 *
 * A struct sys is one loop's view of the world: one thread in sys/uv, one node in sys/sim.  Unless
 * marked otherwise a function may be called from any fiber of its loop only.  Every parking call
 * takes an absolute deadline in monotonic nanoseconds and returns E_TIMEOUT or E_CANCELED when that
 * is what ended it.  When note is not NULL a failure fills it with the operation, the object and
 * the system's own words. */
#ifndef SYS_SYS_H
#define SYS_SYS_H
#include "base/bytes.h"
#include "base/err.h"
#include "fiber/fiber.h"
#include <sys/uio.h>

struct sys;
struct sys_shm;

#define SYS_US UINT64_C(1000)
#define SYS_MS UINT64_C(1000000)
#define SYS_SEC UINT64_C(1000000000)

struct loop *sys_loop(struct sys *s);

/* ---- clock and chance ---- */
uint64_t sys_now_ns(struct sys *s);   /* monotonic, read now (of the turn: loop_now_ns()) */
uint64_t sys_wall_ms(struct sys *s);  /* Unix time; may jump either way; frees nothing but a ttl */
uint64_t sys_random(struct sys *s);   /* for jitter and placement */
void sys_secret(struct sys *s, void *ret_p, size_t len); /* for tokens and seeds of hash tables */
static inline uint64_t sys_after(struct sys *s, uint64_t ns) { return sys_now_ns(s) + ns; }

/* Returns what fn does at its chosen rare points: true asks for a short batch, an early time-out, a
 * delay.  Always false in sys/uv; drawn from its own stream in sys/sim. */
bool sys_buggify(struct sys *s, const char *point);
/* Counts that a rare path was taken (sys/sim reports the ones that never were). */
void sys_reached(struct sys *s, const char *path);

/* ---- streams: TCP, TLS over TCP, and Unix sockets ---- */
/* Addresses are text: "tcp:HOST:PORT" (port 0: any), "tls:HOST:PORT", "unix:/path".  In the
 * simulator HOST is a node name and unix: reaches the own node only. */
enum { SYS_ADDR_MAX = 256, SYS_FDS_MAX = 4 };
struct sys_listener;
struct sys_stream;

PARKS int sys_listen(struct sys *s, const char *addr, struct sys_listener **ret_l,
	struct err_note *note);
const char *sys_listener_addr(const struct sys_listener *l); /* as bound, with the real port */
PARKS int sys_accept(struct sys_listener *l, uint64_t until_ns, struct sys_stream **ret_c);
void sys_listener_close(struct sys_listener *l); /* accepting fibers get E_CLOSED; NULL is fine */

PARKS int sys_connect(struct sys *s, const char *addr, uint64_t until_ns, struct sys_stream **ret_c,
	struct err_note *note);
/* At least one byte, at most cap: the count.  0 when the other side has finished sending.  One
 * receiving and one sending fiber at a time. */
PARKS int64_t sys_recv(struct sys_stream *c, void *buf, size_t cap, uint64_t until_ns);
/* All of the vector or an error (then the stream is broken).  Does not park when the kernel takes
 * everything at once.  The vector is scribbled on. */
PARKS int sys_send(struct sys_stream *c, struct iovec *iov, int n_iov, uint64_t until_ns);
/* Unix sockets only: sends the bytes with shared memory descriptors beside them. */
PARKS int sys_send_shm(struct sys_stream *c, const void *buf, size_t len,
	struct sys_shm *const *shm, int n_shm, uint64_t until_ns);
/* The oldest descriptor that arrived with bytes already received; NULL when there is none.  The
 * caller owns it.  Descriptors that nobody takes are closed with the stream. */
struct sys_shm *sys_recv_shm(struct sys_stream *c);
void sys_stream_shut(struct sys_stream *c);  /* both parked sides return E_CLOSED */
void sys_stream_close(struct sys_stream *c); /* frees it: no fiber is parked on it; NULL is fine */
const char *sys_stream_peer(const struct sys_stream *c); /* for messages */
bool sys_stream_local(const struct sys_stream *c);       /* a Unix socket: same kernel */
int64_t sys_stream_uid(const struct sys_stream *c);      /* peer's on a Unix socket, else -1 */

/* ---- TLS: certificates on both sides, from one authority ---- */
/* What tls: addresses need: files in PEM.  They are read now and looked at again, at most once a
 * second, for connections to come; new ones that cannot be used leave the old ones in force, which
 * is logged.  In the simulator nothing is read: a node's identity is "node:" and its name. */
struct sys_tls {
	const char *ca, *cert, *key; /* copied */
	bool later; /* read them when the first connection needs them, which then may fail */
};
PARKS int sys_tls_use(struct sys *s, const struct sys_tls *files, struct err_note *note);

/* TLS 1.3.  Either side shows a certificate that the authority signed and whose alternative names
 * have a "URI:wadi:node:NAME" or "URI:wadi:client:NAME"; who is connected to is a node, and HOST of
 * the address is one of its names.  Connecting ends with all of that checked; what was accepted
 * checks it in its first receive or send, which ends with E_DENIED (a certificate), E_CORRUPT (not
 * TLS), E_CLOSED or E_TIMEOUT, and then the stream is broken.  The connecting side hears that its
 * own certificate was refused when it first receives: E_DENIED. */
enum { SYS_CERT_ID_MAX = 128, SYS_CERT_HASH_BYTES = 32 };
struct sys_cert {
	char id[SYS_CERT_ID_MAX];             /* "node:NAME" or "client:NAME" */
	uint8_t hash[SYS_CERT_HASH_BYTES];    /* SHA-256 of the whole certificate */
};
/* The peer's, once it was checked; NULL on other streams. */
const struct sys_cert *sys_stream_cert(const struct sys_stream *c);

/* ---- files ---- */
enum sys_open_flags {
	SYS_READ = 1,
	SYS_WRITE = 2,
	SYS_CREATE = 4,   /* when missing, mode 0600 */
	SYS_EXCL = 8,     /* E_EXISTS when it is there */
	SYS_TRUNC = 16,
	SYS_DIRECT = 32,  /* no page cache: offset, length, address are multiples of SYS_BLOCK */
};
enum { SYS_BLOCK = 4096 };
struct sys_file;

PARKS int sys_open(struct sys *s, const char *path, unsigned flags, struct sys_file **ret_f,
	struct err_note *note);
void sys_close(struct sys_file *f);
/* The whole length or an error: a read that meets the end returns the count up to it. */
PARKS int64_t sys_pread(struct sys_file *f, void *buf, size_t len, uint64_t off,
	struct err_note *note);
PARKS int sys_pwrite(struct sys_file *f, const void *buf, size_t len, uint64_t off,
	struct err_note *note);
/* As sys_pwrite, at once on the loop when the file is buffered: for the log, whose bytes go to the
 * page cache in microseconds.  May still park (sys/sim). */
PARKS int sys_pwrite_now(struct sys_file *f, const void *buf, size_t len, uint64_t off,
	struct err_note *note);
/* fdatasync on a worker; never retried. */
PARKS int sys_sync(struct sys_file *f, struct err_note *note);
PARKS int sys_truncate(struct sys_file *f, uint64_t len, struct err_note *note);
/* E_FULL: there is no room. */
PARKS int sys_allocate(struct sys_file *f, uint64_t off, uint64_t len, struct err_note *note);
PARKS int sys_punch(struct sys_file *f, uint64_t off, uint64_t len, struct err_note *note);
PARKS int sys_file_bytes(struct sys_file *f, uint64_t *ret_len, struct err_note *note);
/* Exclusive for this process, until closed.  E_INUSE: the note names whoever has it, where that can
 * be told. */
int sys_lock(struct sys_file *f, struct err_note *note);

/* 0 also when it is there. */
PARKS int sys_mkdir(struct sys *s, const char *path, struct err_note *note);
/* A file or an empty directory. */
PARKS int sys_unlink(struct sys *s, const char *path, struct err_note *note);
PARKS int sys_rename(struct sys *s, const char *from, const char *to, struct err_note *note);
PARKS int sys_sync_dir(struct sys *s, const char *path, struct err_note *note);
/* Names in a directory, sorted, without "." and "..": calls each() before it returns. */
PARKS int sys_list_dir(struct sys *s, const char *path, void (*each)(void *arg, const char *name),
	void *arg, struct err_note *note);
PARKS int sys_disk_room(struct sys *s, const char *path, uint64_t *ret_free, uint64_t *ret_total,
	struct err_note *note);

/* ---- shared memory (sealed against resizing) ---- */
struct sys_shm;
int sys_shm_new(struct sys *s, const char *name, uint64_t len, struct sys_shm **ret_m,
	struct err_note *note);
/* A second handle of the same memory whose descriptor can only be mapped for reading. */
int sys_shm_reader(struct sys_shm *m, struct sys_shm **ret_reader, struct err_note *note);
/* As its descriptor allows. */
int sys_shm_map(struct sys_shm *m, void **ret_p, struct err_note *note);
uint64_t sys_shm_bytes(const struct sys_shm *m); /* as the descriptor says, not as announced */
void sys_shm_close(struct sys_shm *m);           /* unmaps and closes; NULL is fine */
/* Gives the memory back to the system, whoever still maps it: everybody reads zeros then.  m is not
 * a reader. */
void sys_shm_empty(struct sys_shm *m);
/* Touches the pages on a worker so that the first writer does not pay for them. */
PARKS int sys_shm_prefault(struct sys_shm *m, uint64_t off, uint64_t len);

/* ---- work on a thread ---- */
/* fn touches only what arg points to.  Delayed, then run in one piece, in the simulator.  Not cut
 * short by cancellation: returns when fn has returned. */
PARKS int sys_work(struct sys *s, void (*fn)(void *arg), void *arg);

/* ---- processes (in sys/sim E_UNSUPPORTED) and signals ---- */
struct sys_proc;
/* env is all the child finds in its environment, but for our PATH; NULL: what we have found. */
int sys_spawn(struct sys *s, const char *const argv[], const char *const env[],
	struct sys_proc **ret_p, struct err_note *note);
int64_t sys_proc_pid(const struct sys_proc *p);
/* The status is as the shell's: 128 + signal. */
PARKS int sys_proc_wait(struct sys_proc *p, uint64_t until_ns, int *ret_status);
void sys_proc_kill(struct sys_proc *p, int signal);
void sys_proc_close(struct sys_proc *p); /* has ended, or is left alone */
/* Somebody else's process, which the caller knows to be the one it means.  E_NOTFOUND, E_DENIED. */
int sys_pid_kill(struct sys *s, int64_t pid, int signal, struct err_note *note);
PARKS int sys_signal_wait(struct sys *s, uint64_t until_ns, int *ret_signal); /* INT, TERM, HUP */

/* ---- environment ---- */
const char *sys_getenv(struct sys *s, const char *name);
uint64_t sys_memory_total(struct sys *s);
uint64_t sys_memory_free(struct sys *s);
uint64_t sys_memory_self(struct sys *s); /* private resident bytes of this process */
uint64_t sys_cpu_ns(struct sys *s);      /* user and system time of this process */
uint32_t sys_cpus(struct sys *s);
uint64_t sys_files_max(struct sys *s);   /* that this process may have open at once, sockets too */
int64_t sys_pid(struct sys *s);
int64_t sys_uid(struct sys *s);
const char *sys_host(struct sys *s);
/* Equal for two processes that may share memory: the kernel's boot id, else the host's name. */
const char *sys_boot_id(struct sys *s);
void sys_log(struct sys *s, const char *line); /* one line of the log: stderr, or the trace */
#endif
