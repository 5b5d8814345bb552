/* SPDX-License-Identifier: Apache-2.0 */
/* fiber.h: stackful coroutines on one loop.
 *
 * A fiber runs until it parks; nothing else on its loop runs meanwhile, and it never changes loop.
 * A loop has three queues: *ready* fibers, *late* fibers (woken once nothing is ready any more: the
 * end of a turn, where group commit lives) and *timers*.  The loop reads no clock: whoever drives
 * it (sys/uv, sys/sim) says what time it is.  Times are monotonic nanoseconds; FOREVER is no
 * deadline and is allowed only for a fiber that waits to be cancelled. */
#ifndef FIBER_FIBER_H
#define FIBER_FIBER_H
#include "base/list.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* May let other fibers run before it returns: what was true before must be checked again. */
#define PARKS
#define FOREVER UINT64_MAX

typedef int fiber_fn(void *arg);
struct fiber;
struct loop;
struct group;

struct loop_opts {
	uint32_t fibers_max;     /* stacks in the pool; 0: FIBERS_MAX_DEFAULT */
	uint8_t stack_fill;      /* pattern for fresh stacks when fill is set (simulation, debug) */
	bool fill;
	uint64_t (*shuffle)(void *arg); /* when set, the next ready fiber is drawn by it */
	void *shuffle_arg;
	uint32_t turns_max;      /* switches of one loop_run(); 0: TURNS_MAX_DEFAULT */
};
enum { FIBERS_MAX_DEFAULT = 16384, FIBER_STACK_BYTES = 64 * 1024, FIBER_NAME_MAX = 24,
	FIBER_REFUSED_MAX = 1000000, TURNS_MAX_DEFAULT = 10000 };

struct loop *loop_new(const struct loop_opts *opts); /* opts may be NULL */
void loop_free(struct loop *l);                      /* no fiber may be left */

/* Fires the timers due at now_ns, then runs ready fibers, then late ones, until neither is left or
 * turns_max switches were made (then loop_ready()).  now_ns never goes back: an earlier value than
 * before is taken as the earlier call's. */
void loop_run(struct loop *l, uint64_t now_ns);
uint64_t loop_now_ns(const struct loop *l);   /* of the current turn */
uint64_t loop_next_due(const struct loop *l); /* earliest timer, FOREVER when there is none */
bool loop_ready(const struct loop *l);        /* a fiber is ready or late */
uint64_t loop_turns(const struct loop *l);    /* switches to fibers since the start */
/* One line per live fiber: name, request id, where (note) and since when parked. */
void loop_print(const struct loop *l, void (*line)(void *arg, const char *text), void *arg);

/* The loop of the running fiber; outside of a fiber a failed check. */
struct loop *loop_self(void);
struct fiber *fiber_self(void);

/* Starts fn(arg) as a child of g (required): it becomes ready, it does not run yet.  name is copied
 * (FIBER_NAME_MAX).  E_BUSY when the stack pool is empty: back-pressure, not a bug. */
int fiber_start(struct group *g, const char *name, fiber_fn *fn, void *arg);

/* Parks until fiber_wake() or the deadline: what the waker passed, E_TIMEOUT or E_CANCELED.
 * unhook(hook), which may be NULL, is called exactly once when the park ends by deadline or
 * cancellation: it must take the fiber out of whatever would have woken it, and neither park nor
 * wake.  A fiber that is already cancelled does not park (unhook is still called). */
PARKS int fiber_park(uint64_t until_ns, void (*unhook)(void *hook), void *hook);
/* Parks until fiber_wake(): neither a deadline nor cancellation ends it.  Only for what cannot be
 * taken back and ends soon by itself: a thread works on the fiber's memory. */
PARKS int fiber_park_deaf(void);
bool fiber_canceled(void); /* the running one is, and no shield holds: its next park would say so */
void fiber_wake(struct fiber *f, int rc);  /* f is parked; waking is queueing, never running */
/* From now on each of its parks returns E_CANCELED; the FIBER_REFUSED_MAX-th such park is a failed
 * check, because a fiber that does not give up would keep its loop for ever. */
void fiber_cancel(struct fiber *f);
PARKS int fiber_sleep(uint64_t until_ns);  /* 0 at the deadline, or E_CANCELED */
PARKS int fiber_yield(void);               /* behind everything that is ready now */
PARKS int fiber_late(void);                /* until nothing is ready: the end of the turn */

/* Clean-up that must itself park runs shielded: between the two calls a cancelled fiber parks as if
 * it were not, until until_ns at the latest.  Of nested shields the outer one counts; but FOREVER,
 * for what surely ends, holds until it is taken away. */
void fiber_shield(uint64_t until_ns);
void fiber_unshield(void);

void fiber_note(uint64_t request, const char *where); /* shown by loop_print(); where is static */
void nopark_begin(void); /* until nopark_end() a park is a failed check; they nest */
void nopark_end(void);

/* A group owns fibers: all have ended when group_wait() returns.  The first child that returns a
 * negative code cancels the others (that code is the result); a cancelled waiter cancels them too.
 * A daemon's group ignores failures of single children: set keep_going. */
struct group {
	struct loop *loop;
	struct list kids;
	struct fiber *waiter;
	uint32_t n_live;
	int rc;
	bool canceled, keep_going;
};
void group_init(struct group *g, struct loop *l); /* caller's storage */
void group_cancel(struct group *g);               /* also what is started into it later */
/* The one wait without a deadline: children have theirs. */
PARKS int group_wait(struct group *g);

/* Fibers waiting for a condition, first come first served. */
struct waitq { struct list waiters; };
void waitq_init(struct waitq *q);
/* 0 when woken: look again at the condition. */
PARKS int waitq_wait(struct waitq *q, uint64_t until_ns);
void waitq_wake_one(struct waitq *q);
void waitq_wake_all(struct waitq *q);
static inline bool waitq_empty(const struct waitq *q) { return list_empty(&q->waiters); }

/* A lock between fibers of one loop; asserts its holder. */
struct fiber_lock { struct fiber *holder; struct waitq q; };
void fiber_lock_init(struct fiber_lock *m);
PARKS int fiber_lock(struct fiber_lock *m, uint64_t until_ns);
void fiber_unlock(struct fiber_lock *m);
bool fiber_lock_held(const struct fiber_lock *m); /* by the running fiber */
#endif
