/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"
#include "base/err.h"
#include "fiber/own.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* Fibers need more stack when every variable has a red zone. */
enum { STACK_BYTES = FIBER_STACK_BYTES * (LANE_ASAN || LANE_TSAN ? 4 : 1) };
enum { SKEWS = 16, SKEW_BYTES = 192 };

/* Of this thread: the loop in loop_run(), and the one that was there last (for failed checks). */
static __thread struct loop *current __attribute__((tls_model("initial-exec")));
static __thread struct loop *latest __attribute__((tls_model("initial-exec")));

static void print_line(void *arg, const char *text)
{
	check_say(text);
}

static void print_fibers(void *arg)
{
	if (latest != NULL)
		loop_print(latest, print_line, NULL);
}

struct loop *loop_new(const struct loop_opts *opts)
{
	static atomic_flag hooked = ATOMIC_FLAG_INIT;
	struct loop *l = calloc(1, sizeof *l);

	if (!atomic_flag_test_and_set(&hooked))
		check_on_failure(print_fibers, NULL);
	if (l == NULL)
		return NULL;
	if (opts != NULL)
		l->opts = *opts;
	l->fibers_max = l->opts.fibers_max != 0 ? l->opts.fibers_max : FIBERS_MAX_DEFAULT;
	l->turns_max = l->opts.turns_max != 0 ? l->opts.turns_max : TURNS_MAX_DEFAULT;
	l->fibers = calloc(l->fibers_max, sizeof *l->fibers);
	l->timers = calloc(l->fibers_max, sizeof *l->timers);
	list_init(&l->ready);
	list_init(&l->late);
	list_init(&l->unused);
	list_init(&l->all);
	if (l->fibers != NULL && l->timers != NULL)
		return l;
	loop_free(l);
	return NULL;
}

void loop_free(struct loop *l)
{
	if (l == NULL)
		return;
	check(l->n_live == 0);
	check(l->running == NULL);
	check(current != l);
	if (latest == l)
		latest = NULL;
	for (uint32_t i = 0; i < l->n_made; i++)
		lane_unmap(&l->fibers[i].lane);
	free(l->fibers);
	free(l->timers);
	free(l);
}

uint64_t loop_now_ns(const struct loop *l)
{
	return l->now_ns;
}
uint64_t loop_next_due(const struct loop *l)
{
	return l->n_timers == 0 ? FOREVER : l->timers[0].due; /* (I4) */
}
bool loop_ready(const struct loop *l)
{
	return !list_empty(&l->ready) || !list_empty(&l->late);
}
uint64_t loop_turns(const struct loop *l)
{
	return l->turns;
}

/* ---- queues ---- */
void loop_queue(struct fiber *f)
{
	check(f->state != FIBER_READY);
	f->state = FIBER_READY;
	f->loop->n_ready++;
	list_push(&f->loop->ready, &f->link);
}

static struct fiber *draw(struct loop *l)
{
	uint64_t x = l->opts.shuffle(l->opts.shuffle_arg);
	uint32_t i = (uint32_t)(((unsigned __int128)x * l->n_ready) >> 64);
	struct list *at = l->ready.next;

	while (i-- > 0)
		at = at->next;
	check(at != &l->ready);
	return container_of(at, struct fiber, link);
}

/* Takes the fiber that runs next; NULL when it is the driver's turn. */
static struct fiber *next(struct loop *l)
{
	struct fiber *f;

	if (list_empty(&l->ready)) {
		for (struct list *n; (n = list_pop(&l->late)) != NULL;)
			loop_queue(container_of(n, struct fiber, link));
		if (list_empty(&l->ready))
			return NULL;
	}
	if (l->turns == l->turns_stop)
		return NULL;
	check(l->n_ready > 0);
	if (l->opts.shuffle != NULL && l->n_ready > 1)
		f = draw(l);
	else
		f = container_of(l->ready.next, struct fiber, link);
	list_remove(&f->link);
	l->n_ready--;
	l->turns++;
	check(f->state == FIBER_READY);
	f->state = FIBER_RUNNING;
	return f;
}

/* From fiber to fiber, not by way of the driver: half the switches. */
void loop_switch(struct fiber *f)
{
	struct loop *l = f->loop;
	struct fiber *to = next(l);

	if (to == f)
		return;
	l->running = to;
	l->prev = f;
	lane_switch(&f->lane, to != NULL ? &to->lane : &l->home);
	lane_arrive(&f->lane, l->prev != NULL ? &l->prev->lane : &l->home);
}

void loop_run(struct loop *l, uint64_t now_ns)
{
	struct loop *outer = current;
	struct fiber *f;

	check(l->running == NULL);
	if (now_ns > l->now_ns)
		l->now_ns = now_ns;
	current = latest = l;
	while ((f = timer_top(l)) != NULL && f->due <= l->now_ns) {
		timer_drop(l, f);
		loop_expire(f);
	}
	l->turns_stop = l->turns + l->turns_max;
	f = next(l);
	if (f != NULL) {
		l->running = f;
		l->prev = NULL;
		lane_home(&l->home);
		lane_switch(&l->home, &f->lane);
		lane_arrive(&l->home, &l->prev->lane);
	}
	check(l->running == NULL);
	timer_top(l);
	current = outer;
	if (outer != NULL)
		latest = outer;
}

struct fiber *loop_running(void)
{
	struct fiber *f;

	check(current != NULL);
	f = current->running;
	check(f != NULL);
	check(f->n_nopark == 0);
	return f;
}

struct loop *loop_self(void)
{
	return fiber_self()->loop;
}

struct fiber *fiber_self(void)
{
	check(current != NULL);
	check(current->running != NULL);
	return current->running;
}

void nopark_begin(void)
{
	if (current != NULL && current->running != NULL)
		current->running->n_nopark++;
}

void nopark_end(void)
{
	if (current == NULL || current->running == NULL)
		return;
	check(current->running->n_nopark > 0);
	current->running->n_nopark--;
}

/* ---- birth and end ---- */
static void life(void)
{
	struct loop *l = current;
	struct fiber *f = l->running, *to;
	int rc;

	lane_arrive(&f->lane, l->prev != NULL ? &l->prev->lane : &l->home);
	rc = f->fn(f->arg);
	check(l->running == f);
	check(f->n_nopark == 0);
	check(f->n_shield == 0);
	timer_drop(l, f);
	f->state = FIBER_FREE;
	list_remove(&f->all);
	l->n_live--;
	group_ended(f->group, f, rc);
	/* Nobody can take this stack before the switch below has left it: nothing else runs. */
	list_add_before(l->unused.next, &f->link);
	to = next(l);
	l->running = to;
	l->prev = f;
	lane_leave(&f->lane, to != NULL ? &to->lane : &l->home);
}

static struct fiber *take_unused(struct loop *l)
{
	struct list *n = list_pop(&l->unused); /* the last one used: its stack is warm */
	struct fiber *f;

	if (n != NULL)
		return container_of(n, struct fiber, link);
	if (l->n_made == l->fibers_max)
		return NULL;
	f = &l->fibers[l->n_made];
	if (lane_map(&f->lane, STACK_BYTES) < 0)
		return NULL;
	l->n_made++;
	f->loop = l;
	list_init(&f->link);
	return f;
}

int fiber_start(struct group *g, const char *name, fiber_fn *fn, void *arg)
{
	struct loop *l = g->loop;
	struct fiber *f;

	check(fn != NULL);
	check(l->running == NULL || current == l);
	f = take_unused(l);
	if (f == NULL)
		return E_BUSY;
	check(f->state == FIBER_FREE);
	check(f->timer == 0);
	f->canceled = g->canceled;
	f->cut = false;
	f->n_refused = 0;
	f->deaf = false;
	f->fn = fn;
	f->arg = arg;
	f->group = g;
	f->waits_for = NULL;
	f->request = 0;
	f->where = "start";
	f->parked_ns = l->now_ns;
	snprintf(f->name, sizeof f->name, "%s", name);
	list_push(&g->kids, &f->kin);
	g->n_live++;
	list_push(&l->all, &f->all);
	l->n_live++;
	if (l->opts.fill)
		lane_fill(&f->lane, l->opts.stack_fill);
	lane_reset(&f->lane, life, (size_t)(f - l->fibers) % SKEWS * SKEW_BYTES);
	loop_queue(f);
	return 0;
}

/* ---- visible ---- */
void fiber_note(uint64_t request, const char *where)
{
	struct fiber *f = fiber_self();

	f->request = request;
	f->where = where;
}

void loop_print(const struct loop *l, void (*line)(void *arg, const char *text), void *arg)
{
	static const char *const states[] = { "free", "ready", "running", "parked", "late" };

	list_each (at, &l->all) {
		const struct fiber *f = container_of(at, struct fiber, all);
		uint64_t us = (l->now_ns - f->parked_ns) / 1000;
		char text[160];

		snprintf(text, sizeof text, "fiber %s request %llu %s at %s for %llu.%03llu ms%s",
			f->name, (unsigned long long)f->request, states[f->state], f->where,
			(unsigned long long)(us / 1000), (unsigned long long)(us % 1000),
			f->canceled ? ", canceled" : "");
		line(arg, text);
	}
}
