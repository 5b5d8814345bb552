/* SPDX-License-Identifier: Apache-2.0 */
/* A node: its process comes and goes, its disk stays. */
#include "base/check.h"
#include "sys/sim/world.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEAD_CALLS_MAX = 1000000, UNWIND_ROUNDS_MAX = 10000, ROT_TRIES = 100 };

/* ---- parked calls ---- */
static void call_unhook(void *hook)
{
	struct call *c = hook;

	list_remove(&c->link);
	if (c->drop != NULL)
		c->drop(c);
}

int call_wait(struct sys *s, struct call *c, uint64_t until_ns)
{
	check(s->w->running == s->node);
	c->sys = s;
	c->fiber = fiber_self();
	list_push(&s->calls, &c->link);
	return fiber_park(until_ns, call_unhook, c);
}

void call_end(struct call *c, int rc)
{
	if (list_empty(&c->link))
		return;
	list_remove(&c->link);
	fiber_wake(c->fiber, rc);
	sim_ready(c->sys->node);
}

static void print_line(void *arg, const char *text)
{
	fprintf(stderr, "%s: %s\n", (char *)arg, text);
}

int sys_dead(struct sys *s)
{
	check(s->dead);
	if (++s->dead_calls == DEAD_CALLS_MAX)
		loop_print(s->loop, print_line, s->node->name);
	check(s->dead_calls < DEAD_CALLS_MAX); /* else a fiber of a dead node never gives up */
	return E_CANCELED;
}

/* ---- running ---- */
static uint64_t shuffle(void *arg)
{
	struct sim *w = arg;

	return w->faults.shuffle ? prng_next(stream(w, STREAM_SCHED)) : 0;
}

static void timer_fire(struct event *e)
{
	struct sim_node *n = container_of(e, struct sim_node, timer);
	struct sim *w = n->w;
	uint64_t late_ns;

	if (!n->timer_late && sim_odds(w, STREAM_CLOCK, w->faults.clock_late_ppm)) {
		late_ns = prng_below(stream(w, STREAM_CLOCK), 3 * SYS_SEC);
		sim_fault(w, n, "clock: timers late by %llu us",
			(unsigned long long)(late_ns / SYS_US));
		n->timer_late = true;
		heap_put(&w->heap, e, w->now_ns + late_ns);
		return;
	}
	sim_ready(n);
}

/* The first moment of the world at which the node's clock, behind it now, shows due_ns. */
static uint64_t world_ns(const struct sys *s, uint64_t due_ns)
{
	uint64_t ahead_ns = due_ns - node_now_ns(s);
	uint64_t rate = (uint64_t)(1000000 + s->node->drift_ppm);

	if (s->node->drift_ppm == 0)
		return s->w->now_ns + ahead_ns;
	/* Both clocks count whole nanoseconds: one more makes up for what was cut off. */
	return s->w->now_ns + ahead_ns / rate * 1000000 + ahead_ns % rate * 1000000 / rate + 2;
}

/* Puts the event of the loop's earliest deadline where it belongs. */
static void timer_follow(struct sim_node *n)
{
	uint64_t due_ns = loop_next_due(n->sys->loop), now_ns = node_now_ns(n->sys);

	if (event_queued(&n->timer) && due_ns == n->timer_due_ns)
		return;
	n->timer_late = false;
	n->timer_due_ns = due_ns;
	if (due_ns == FOREVER)
		heap_drop(&n->w->heap, &n->timer);
	else
		heap_put(&n->w->heap, &n->timer,
			due_ns <= now_ns ? n->w->now_ns : world_ns(n->sys, due_ns));
}

static void loop_go(struct sim_node *n, uint64_t now_ns)
{
	struct sim *w = n->w;
	struct sim_node *outer = w->running;

	w->running = n;
	loop_run(n->sys->loop, now_ns);
	w->running = outer;
}

void node_run(struct sim_node *n)
{
	uint64_t bit = UINT64_C(1) << n->index;

	check(n->sys != NULL);
	loop_go(n, node_now_ns(n->sys));
	if (n->sys->root.n_live == 0) {
		sim_note(n->w, n, "main: ended: %s", err_name(n->result));
		node_end(n, END_EXIT);
		return;
	}
	if (!loop_ready(n->sys->loop)) /* else it was stopped by its own bound */
		n->w->ready &= ~bit;
	timer_follow(n);
}

/* ---- life of a process ---- */
static int process_main(void *arg)
{
	struct sim_node *n = arg;
	struct sys *s = n->sys;
	int rc = n->main_fn(s, n->main_arg);

	if (!s->dead)
		n->result = rc;
	return 0;
}

static void resume_fire(struct event *e)
{
	struct sim_node *n = container_of(e, struct sim_node, resume);

	sim_note(n->w, n, "resumed");
	n->w->paused &= ~(UINT64_C(1) << n->index);
}

void node_init(struct sim_node *n)
{
	n->timer.fire = timer_fire;
	n->resume.fire = resume_fire;
}

void sim_node_start(struct sim_node *n, sim_main_fn *main_fn, void *arg)
{
	struct sim *w = n->w;
	struct sys *s = calloc(1, sizeof *s);
	struct loop_opts opts = { .shuffle = shuffle, .shuffle_arg = w };
	/* With few switches in a step the world gets between any two parks of a node. */
	static const uint32_t turns[] = { 0, 0, 1, 1, 2, 5 };

	check(n->sys == NULL);
	check(s != NULL);
	if (w->faults.shuffle)
		opts.turns_max =
			turns[prng_below(stream(w, STREAM_SCHED), sizeof turns / sizeof turns[0])];
	opts.fill = w->stack_pattern >= 0;
	opts.stack_fill = (uint8_t)w->stack_pattern;
	s->w = w;
	s->node = n;
	s->loop = loop_new(&opts);
	check(s->loop != NULL);
	/* Each boot has a monotonic clock of its own, so that comparing two of them shows. */
	s->skew_ns = SYS_SEC + prng_below(stream(w, STREAM_CLOCK), 86400 * SYS_SEC) - w->now_ns;
	s->rate_ns = w->now_ns;
	list_init(&s->calls);
	list_init(&s->streams);
	list_init(&s->listeners);
	list_init(&s->files);
	list_init(&s->shms);
	list_init(&s->signal_waits);
	group_init(&s->root, s->loop);
	n->sys = s;
	n->main_fn = main_fn;
	n->main_arg = arg;
	n->result = E_CANCELED;
	n->boots++;
	snprintf(n->boot_id, sizeof n->boot_id, "%s.%u", n->name, n->kernels);
	n->off = false;
	n->timer_late = false;
	check(fiber_start(&s->root, "main", process_main, n) == 0);
	sim_ready(n);
	sim_note(w, n, "start %u", n->boots);
	net_boot(n);
}

/* Runs the fibers of a dead process until each has walked out through its own clean-up.  Time
 * passes for them alone: a shielded wait ends at its deadline. */
static void unwind(struct sim_node *n)
{
	struct sys *s = n->sys;
	uint64_t now_ns = node_now_ns(s);
	int rounds = 0;

	group_cancel(&s->root);
	while (s->root.n_live > 0) {
		if (++rounds == UNWIND_ROUNDS_MAX)
			loop_print(s->loop, print_line, n->name);
		check(rounds <
			UNWIND_ROUNDS_MAX); /* else a fiber waits for ever though cancelled */
		if (!loop_ready(s->loop) && loop_next_due(s->loop) > now_ns)
			now_ns = loop_next_due(s->loop);
		loop_go(n, now_ns);
	}
}

static void none_left(const struct sim_node *n, const struct list *l, const char *what)
{
	if (!list_empty(l))
		fprintf(stderr, "%s: the process left %s open\n", n->name, what);
	check(list_empty(l));
}

void node_end(struct sim_node *n, enum node_end how)
{
	struct sim *w = n->w;
	struct sys *s = n->sys;

	check(s != NULL);
	check(w->running != n);
	while (!list_empty(&s->calls)) {
		struct call *c = container_of(s->calls.next, struct call, link);

		if (c->drop != NULL)
			c->drop(c);
		call_end(c, E_CANCELED);
	}
	net_end(s, how);
	files_end(s);
	if (how == END_POWER)
		disk_crash(&n->disk, stream(w, STREAM_DISK), w->faults.disk_torn_ppm);
	s->dead = true;
	unwind(n);
	none_left(n, &s->streams, "a stream");
	none_left(n, &s->listeners, "a listener");
	none_left(n, &s->files, "a file");
	none_left(n, &s->shms, "shared memory");
	heap_drop(&w->heap, &n->timer);
	heap_drop(&w->heap, &n->resume);
	w->ready &= ~(UINT64_C(1) << n->index);
	w->paused &= ~(UINT64_C(1) << n->index);
	loop_free(s->loop);
	free(s);
	n->sys = NULL;
}

bool sim_node_up(const struct sim_node *n)
{
	return n->sys != NULL;
}
int sim_node_result(const struct sim_node *n)
{
	return n->result;
}

void sim_node_crash(struct sim_node *n)
{
	if (!sim_misfortune(n->w, n, "power off"))
		return;
	n->w->counts.crashes++;
	n->kernels++;
	n->off = true;
	if (n->sys != NULL)
		node_end(n, END_POWER);
	else
		disk_crash(&n->disk, stream(n->w, STREAM_DISK), n->w->faults.disk_torn_ppm);
}

void sim_node_kill(struct sim_node *n)
{
	if (n->sys == NULL)
		return;
	if (!sim_misfortune(n->w, n, "killed"))
		return;
	n->w->counts.crashes++;
	node_end(n, END_KILL);
}

void sim_node_pause(struct sim_node *n, uint64_t ns)
{
	if (n->sys == NULL)
		return;
	if (!sim_misfortune(n->w, n, "paused for %llu us", (unsigned long long)(ns / SYS_US)))
		return;
	n->w->paused |= UINT64_C(1) << n->index;
	heap_put(&n->w->heap, &n->resume, n->w->now_ns + ns);
}

void sim_fail_nth_of(struct sim_node *n, const char *verb, uint64_t nth, int rc, bool for_good)
{
	check(nth == 0 || rc < 0);
	n->fail_verb = verb;
	n->fail_left = nth;
	n->fail_rc = rc;
	n->fail_for_good = for_good;
	n->failing = false;
}

void sim_fail_nth(struct sim_node *n, uint64_t nth, int rc)
{
	sim_fail_nth_of(n, NULL, nth, rc, false);
}

bool sim_fails_nth(const struct sim_node *n)
{
	return n->fail_left > 0;
}

bool node_fails(struct sim_node *n, const char *verb, const char *path)
{
	if (n->fail_verb != NULL && strcmp(n->fail_verb, verb) != 0)
		return false;
	if (!n->failing && (n->fail_left == 0 || --n->fail_left > 0))
		return false;
	n->failing = n->fail_for_good;
	sim_fault(n->w, n, "the chosen one: %s %s", verb, path);
	return true;
}

void sim_node_wipe(struct sim_node *n)
{
	uint64_t pages = n->disk.capacity_pages;

	check(n->sys == NULL);
	if (!sim_misfortune(n->w, n, "disk: replaced by an empty one"))
		return;
	disk_free(&n->disk);
	disk_init(&n->disk, pages * PAGE_BYTES);
}

void sim_disk_copy(struct sim_node *to, const struct sim_node *from)
{
	check(to->sys == NULL);
	check(to != from);
	disk_free(&to->disk);
	disk_copy(&to->disk, &from->disk);
}

uint32_t sim_disk_cut(struct sim_node *n, bool (*keep)(void *arg, uint32_t i), void *arg)
{
	check(n->sys == NULL);
	n->w->counts.crashes++;
	n->off = true;
	return disk_crash_asking(&n->disk, keep, arg);
}

uint64_t sim_disk_sum(const struct sim_node *n)
{
	return disk_sum(&n->disk);
}

uint64_t sim_disk_ops(const struct sim_node *n)
{
	return n->disk_ops;
}

void sim_disk_full(struct sim_node *n, bool full)
{
	if (full && !sim_misfortune(n->w, n, "disk: full"))
		return;
	if (!full)
		sim_note(n->w, n, "disk: has room");
	n->disk.full = full;
}

bool sim_disk_rot(struct sim_node *n, const char *path, uint64_t at_byte, unsigned bit)
{
	struct inode *file;

	if (disk_find(&n->disk, path, &file) < 0 || file->is_dir)
		return false;
	if (!image_flip(&file->image, at_byte, bit))
		return false;
	if (sim_misfortune(n->w, n, "disk: %s: bit %u of byte %llu flipped", path, bit,
		    (unsigned long long)at_byte))
		return true;
	(void)image_flip(&file->image, at_byte, bit); /* spared: as it was */
	return false;
}

/* The `skip`-th file at or below an inode, in the order of names; counts them down. */
static struct inode *file_at(struct inode *at, uint64_t *skip)
{
	struct inode *found = NULL;

	if (!at->is_dir)
		return at->image.size > 0 && (*skip)-- == 0 ? at : NULL;
	for (uint32_t i = 0; found == NULL && i < at->now.n; i++)
		found = file_at(at->now.e[i].to, skip);
	return found;
}

bool sim_disk_rot_any(struct sim_node *n, const char *path)
{
	struct prng *p = stream(n->w, STREAM_DISK);
	uint64_t left = UINT64_MAX, skip, at;
	struct inode *top, *file;

	if (disk_find(&n->disk, path, &top) < 0 || file_at(top, &left) != NULL ||
		left == UINT64_MAX)
		return false;
	skip = prng_below(p, UINT64_MAX - left);
	file = file_at(top, &skip);
	check(file != NULL);
	for (int tries = 0; tries < ROT_TRIES; tries++) {
		at = prng_below(p, file->image.size * 8);
		if (!image_flip(&file->image, at / 8, at % 8))
			continue;
		if (sim_misfortune(n->w, n, "disk: rot below %s: byte %llu of %llu", path,
			    (unsigned long long)at / 8, (unsigned long long)file->image.size))
			return true;
		(void)image_flip(&file->image, at / 8, at % 8); /* spared: as it was */
		return false;
	}
	return false; /* as good as nothing is stored in it */
}

void sim_clock_jump(struct sim_node *n, int64_t wall_ms)
{
	if (!sim_misfortune(n->w, n, "clock: jumps by %lld ms", (long long)wall_ms))
		return;
	n->wall_ms += wall_ms;
}

void sim_clock_drift(struct sim_node *n, int32_t ppm)
{
	check(ppm > -SIM_DRIFT_PPM_MAX && ppm < SIM_DRIFT_PPM_MAX);
	if (!sim_misfortune(n->w, n, "clock: %d ppm fast from now on", ppm))
		return;
	if (n->sys != NULL) {
		uint64_t now_ns = node_now_ns(n->sys);

		n->sys->skew_ns = now_ns - n->w->now_ns;
		n->sys->rate_ns = n->w->now_ns;
	}
	n->drift_ppm = ppm;
	n->timer_due_ns = 0; /* is due at another moment of the world */
	if (n->sys != NULL)
		sim_ready(n);
}
