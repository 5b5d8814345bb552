/* SPDX-License-Identifier: Apache-2.0 */
/* sys_uv.h: starting the real door.  Only src/node, src/client and programs include it. */
#ifndef SYS_UV_SYS_UV_H
#define SYS_UV_SYS_UV_H
#include "sys/sys.h"

/* One struct sys per thread; the caller's thread drives it. */
/* For a program of our own, before its first door: takes all the open files that it may have. */
void sys_uv_files_raise(void);
/* For a program of our own that has secrets: it leaves no core behind (its memory has keys and
 * jobs' bytes; `prlimit --core` allows it again), and nothing it starts has more rights than it. */
void sys_uv_confine(void);
/* Likewise, after sys_uv_confine(): from now on this thread, those that it starts, their children
 * and the workers write nowhere but below those of these folders that are there.  Once.
 * E_UNSUPPORTED: the kernel cannot, and nothing has changed. */
int sys_uv_confine_writes(const char *const *folders, uint32_t n, struct err_note *note);
int sys_uv_new(struct sys **ret_s, struct err_note *note);
void sys_uv_free(struct sys *s);

/* Runs main_fn(arg) as the first fiber and returns its result when it and all fibers it left in its
 * group have ended. */
int sys_uv_run(struct sys *s, const char *name, fiber_fn *main_fn, void *arg);

/* For a library inside somebody else's loop: poll the descriptor for reading (or until the timeout,
 * in ms, -1 for none), then advance; advance never blocks. */
int sys_uv_poll_fd(struct sys *s);
int sys_uv_poll_timeout_ms(struct sys *s);
void sys_uv_advance(struct sys *s);
void sys_uv_block(struct sys *s, uint64_t until_ns); /* waits for the next event, then advances */
/* Turns the loop until *held_done is true or the deadline has passed, waiting where there is
 * nothing to do: awake for some tens of microseconds while answers come that soon.  What it leaves
 * is not handed to the kernel yet: advance before the descriptor is polled. */
void sys_uv_until(struct sys *s, const bool *held_done, uint64_t until_ns);

/* A second loop on its own thread: runs main_fn(sys, arg) there.  Join parks the calling fiber. */
struct sys_thread;
typedef int sys_thread_fn(struct sys *s, void *arg);
int sys_uv_thread(struct sys *s, const char *name, sys_thread_fn *main_fn, void *arg,
	struct sys_thread **ret_t, struct err_note *note);
/* Cancels its main fiber; safe from the owner's loop. */
void sys_uv_thread_stop(struct sys_thread *t);
PARKS int sys_uv_thread_join(struct sys_thread *t, int *ret_rc);
#endif
