/* SPDX-License-Identifier: Apache-2.0 */
/* own.h: what the files of this folder share.  Nobody else includes it.
 *
 * I1. A struct sys is used by one thread.  The only calls from another are uv_async_send() on its
 *     knock and the worker's half of a sys_work().
 * I2. A struct watch stays armed for reading as long as its events find a reader: the way from one
 *     request to the next costs no epoll_ctl.
 * I3. Memory that libuv holds (handles, requests) is freed in libuv's callback, never before. */
#ifndef SYS_UV_OWN_H
#define SYS_UV_OWN_H
#include "base/list.h"
#include "base/prng.h"
#include "sys/sys.h"
#include <stdatomic.h>
#include <uv.h>

enum { SIGNALS = 3 };

struct work;
struct sys {
	uv_loop_t uv;
	struct loop *loop;
	uv_timer_t timer;
	uint64_t timer_due_ns; /* FOREVER: the timer is stopped */
	uv_async_t knock;      /* keeps uv_run() waiting when nothing else is watched */
	struct fiber *main;    /* while sys_uv_run() has one */
	atomic_bool stop;      /* set by another thread, before it knocks */
	uv_signal_t signals[SIGNALS];
	unsigned n_late;       /* sys_uv_until(): answers in a row that were not seen awake */
	_Atomic(struct work *) done; /* by workers, newest first */
	int done_fd;                 /* they knock here */
	uv_poll_t done_poll;
	unsigned n_works;
	bool signals_on, signals_seen[SIGNALS];
	struct waitq signals_q;
	struct prng prng;
	char host[64], boot_id[64];
	struct creds *creds;   /* NULL until sys_tls_use() */
};

/* ---- errors ---- */
int sys_err(int os); /* the row of err.def for an errno */
const char *sys_err_words(int os);

/* ---- work.c ---- */
void confine_thread(void);
int work_init(struct sys *s); /* or what libuv says */
void work_fini(struct sys *s);

/* ---- a descriptor that fibers wait for ---- */
struct watch {
	uv_poll_t poll;
	struct list readers, writers;
	int armed;     /* UV_READABLE | UV_WRITABLE */
	bool readable; /* an event found no reader: the next one need not wait */
};
int watch_init(struct watch *w, struct sys *s, int fd); /* afterwards: watch_close() */
/* 0 after an event (which may have been somebody else's), what watch_wake() passed, E_TIMEOUT,
 * E_CANCELED, or the system's refusal. */
PARKS int watch_wait(struct watch *w, int event, uint64_t until_ns);
void watch_wake(struct watch *w, int rc); /* everybody */
/* Stops watching; done is called when libuv has let go of w.  The descriptor may be closed at once.
 */
void watch_close(struct watch *w, uv_close_cb done);

/* ---- addresses ---- */
struct addr {
	struct sockaddr_storage sa;
	socklen_t len;
};
enum { ADDRS_MAX = 8 };
/* At most ADDRS_MAX addresses for text, in the order to try them: the count, or an error. */
PARKS int addr_resolve(struct sys *s, const char *text, uint64_t until_ns, struct addr *ret,
	struct err_note *note);
void addr_print(const struct addr *a, char *ret_text, size_t cap); /* as in sys.h */
/* " by pid N (command)" for the process that listens on a port, or an empty string. */
void addr_owner(uint16_t port, char *ret_text, size_t cap);
void addr_pid(int64_t pid, char *ret_text, size_t cap); /* the same for a known process */

/* ---- shared memory from outside ---- */
/* Takes fd in any case.  E_CORRUPT when it is not memory sealed against shrinking. */
int shm_adopt(struct sys *s, int fd, struct sys_shm **ret_m);
int shm_fd(const struct sys_shm *m);

/* ---- signals ---- */
void signals_close(struct sys *s);
#endif
