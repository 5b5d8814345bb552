/* SPDX-License-Identifier: Apache-2.0 */
/* own.h: what the files of this folder share.  Nobody else includes it.
 *
 * I1. At most one fiber of a loop is FIBER_RUNNING; then current->running is it, on its thread.
 * I2. A fiber is in l->ready exactly when it is FIBER_READY, in l->late exactly when FIBER_LATE.
 * I3. A parked fiber with a deadline has an entry in l->timers whose key is not later than the
 *     deadline; an entry may be stale (earlier than the deadline, or its fiber is not parked any
 *     more) and is then put right when it reaches the top.  A wake so costs no heap operation.
 * I4. When no fiber of the loop runs, the top entry is exact. */
#ifndef FIBER_OWN_H
#define FIBER_OWN_H
#include "fiber/fiber.h"
#include "fiber/lane.h"

enum fiber_state { FIBER_FREE, FIBER_READY, FIBER_RUNNING, FIBER_PARKED, FIBER_LATE };

struct fiber {
	struct lane lane;
	struct list link; /* ready, late or free */
	struct loop *loop;
	enum fiber_state state;
	int rc;            /* what the park returns */
	uint64_t due, seq; /* of the current park */
	uint32_t timer;    /* index of its entry + 1, 0 when it has none */
	bool canceled, deaf;
	bool cut; /* cut: the park ends at the end of the shield, as a cancellation */
	uint16_t n_nopark, n_shield;
	uint16_t forever_from; /* the depth of the first shield without an end; 0: none */
	uint32_t n_refused; /* parks that ended at once because it is cancelled */
	void (*unhook)(void *hook);
	void *hook;
	struct group *waits_for;
	uint64_t shield_until_ns, parked_ns;
	fiber_fn *fn;
	void *arg;
	struct group *group;
	struct list kin; /* in group->kids */
	struct list all; /* in loop->all, in the order of their starts */
	uint64_t request;
	const char *where;
	char name[FIBER_NAME_MAX];
};

struct timer {
	uint64_t due, seq;
	struct fiber *f;
};

struct loop {
	struct fiber *running, *prev; /* prev: who was left last, NULL for home */
	struct list ready, late;
	uint64_t now_ns, turns, turns_stop, seq;
	uint32_t n_ready, n_timers, n_live, n_made, fibers_max, turns_max;
	struct timer *timers;
	struct fiber *fibers;
	struct list unused, all;
	struct lane home;
	struct loop_opts opts;
};

void timer_set(struct loop *l, struct fiber *f);  /* after f->due and f->seq are set; for (I3) */
void timer_drop(struct loop *l, struct fiber *f); /* its entry, if it has one */
/* Puts the top right; the fiber with the earliest deadline, NULL when no parked one has any. */
struct fiber *timer_top(struct loop *l);

void loop_queue(struct fiber *f);  /* makes it ready */
void loop_switch(struct fiber *f); /* the running fiber f has queued or parked itself */
void loop_expire(struct fiber *f); /* a parked fiber's deadline */
struct fiber *loop_running(void);  /* checks that there is one, which may park */
void fiber_park_as(struct fiber *f, uint64_t until_ns); /* f->rc and f->cut say how it ended */
bool fiber_shielded(const struct fiber *f);             /* now; whether or not it is cancelled */
void group_ended(struct group *g, struct fiber *f, int rc); /* f, a child, has returned rc */
#endif
