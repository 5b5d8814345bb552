/* SPDX-License-Identifier: Apache-2.0 */
/* The drive: one turn of the fibers, then one of libuv. */
#include "base/check.h"
#include "sys/uv/own.h"
#include "sys/uv/sys_uv.h"
#include "sys/uv/tls.h"
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	ADVANCE_MAX = 64, /* turns of one sys_uv_advance(): the caller has a loop of his own */
	AWAKE_NS = 50000, /* about what it costs to be woken on a virtual machine */
	LATE_MAX = 4,     /* answers in a row, then waits sleep at once ... */
	LATE_AGAIN = 64,  /* ... and one in so many looks again */
};

static void on_knock(uv_async_t *h)
{
	struct sys *s = h->data;

	if (atomic_load(&s->stop) && s->main != NULL)
		fiber_cancel(s->main);
}

static void on_timer(uv_timer_t *h)
{
	struct sys *s = h->data;

	s->timer_due_ns = FOREVER;
	uv_stop(&s->uv); /* timers run before the poll, which must not wait now that one was due */
}

static void read_boot_id(struct sys *s)
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, s->boot_id, sizeof s->boot_id - 1);

	if (fd >= 0)
		close(fd);
	s->boot_id[n > 0 ? n : 0] = '\0';
	s->boot_id[strcspn(s->boot_id, "\n")] = '\0';
	if (s->boot_id[0] == '\0')
		memcpy(s->boot_id, s->host, sizeof s->host);
}

int sys_uv_new(struct sys **ret_s, struct err_note *note)
{
	struct sys *s = calloc(1, sizeof *s);
	uint64_t seed;
	int rc;

	if (s == NULL)
		return err_set(note, E_NOMEM, "start a loop: %s", err_text(E_NOMEM));
	s->loop = loop_new(NULL);
	rc = s->loop == NULL ? UV_ENOMEM : uv_loop_init(&s->uv);
	if (rc < 0) {
		loop_free(s->loop);
		free(s);
		return err_set(note, sys_err(-rc), "start a loop: %s", sys_err_words(-rc));
	}
	check(uv_timer_init(&s->uv, &s->timer) == 0);
	s->timer.data = s;
	s->timer_due_ns = FOREVER;
	waitq_init(&s->signals_q);
	sys_secret(s, &seed, sizeof seed);
	s->prng = prng_fork(seed, 1);
	if (gethostname(s->host, sizeof s->host - 1) != 0)
		s->host[0] = '\0';
	read_boot_id(s);
	rc = work_init(s);
	if (rc == 0)
		rc = uv_async_init(&s->uv, &s->knock, on_knock);
	if (rc < 0) {
		sys_uv_free(s);
		return err_set(note, sys_err(-rc), "start a loop: %s", sys_err_words(-rc));
	}
	s->knock.data = s;
	loop_run(s->loop, uv_hrtime()); /* so that it knows the time from the start */
	*ret_s = s;
	return 0;
}

static void close_left(uv_handle_t *h, void *arg)
{
	struct sys *s = arg;

	if (uv_is_closing(h))
		return;
	/* children left alone are reaped by nobody from now on */
	check(h->type == UV_PROCESS || h == (uv_handle_t *)&s->timer ||
		h == (uv_handle_t *)&s->knock || h == (uv_handle_t *)&s->done_poll);
	uv_close(h, h->type == UV_PROCESS ? (uv_close_cb)free : NULL);
}

void sys_uv_free(struct sys *s)
{
	if (s == NULL)
		return;
	signals_close(s);
	uv_walk(&s->uv, close_left, s);
	uv_run(&s->uv, UV_RUN_DEFAULT); /* until the last close is done and no name is looked up */
	check(uv_loop_close(&s->uv) == 0);
	work_fini(s);
	loop_free(s->loop);
	creds_free(s->creds);
	free(s);
}

struct loop *sys_loop(struct sys *s)
{
	return s->loop;
}
uint64_t sys_now_ns(struct sys *s)
{
	return uv_hrtime();
}

/* Sets libuv's timer for a deadline.  One that is set too early stays: deadlines of requests only
 * move on, so it fires once in a while for nothing instead of being set for each request. */
static void set_timer(struct sys *s, uint64_t due_ns)
{
	uint64_t due_ms, now_ms = uv_now(&s->uv);

	if (due_ns >= s->timer_due_ns)
		return;
	due_ms = due_ns / SYS_MS + (due_ns % SYS_MS != 0);
	s->timer_due_ns = due_ns;
	check(uv_timer_start(&s->timer, on_timer, due_ms > now_ms ? due_ms - now_ms : 0, 0) == 0);
}

static void turn(struct sys *s, uint64_t until_ns, bool wait)
{
	uint64_t due = loop_next_due(s->loop);

	if (loop_ready(s->loop)) {
		wait = false;
	} else {
		set_timer(s, due < until_ns ? due : until_ns);
	}
	uv_run(&s->uv, wait ? UV_RUN_ONCE : UV_RUN_NOWAIT);
}

struct first {
	struct sys *s;
	fiber_fn *fn;
	void *arg;
	int rc;
};

static int run_first(void *arg)
{
	struct first *first = arg;

	first->s->main = fiber_self();
	if (atomic_load(&first->s->stop))
		fiber_cancel(first->s->main);
	first->rc = first->fn(first->arg);
	first->s->main = NULL;
	return first->rc;
}

int sys_uv_run(struct sys *s, const char *name, fiber_fn *main_fn, void *arg)
{
	struct first first = { .s = s, .fn = main_fn, .arg = arg };
	struct group g;
	int rc;

	group_init(&g, s->loop);
	rc = fiber_start(&g, name, run_first, &first);
	if (rc < 0)
		return rc;
	for (;;) {
		loop_run(s->loop, uv_hrtime());
		if (g.n_live == 0)
			return first.rc;
		turn(s, FOREVER, true);
	}
}

int sys_uv_poll_fd(struct sys *s)
{
	return uv_backend_fd(&s->uv);
}

int sys_uv_poll_timeout_ms(struct sys *s)
{
	return loop_ready(s->loop) ? 0 : uv_backend_timeout(&s->uv);
}

void sys_uv_advance(struct sys *s)
{
	/* libuv hands new watches to the kernel in uv_run() only, so that is what comes last */
	for (int i = 0; i < ADVANCE_MAX; i++) {
		loop_run(s->loop, uv_hrtime());
		turn(s, FOREVER, false);
		if (!loop_ready(s->loop) && loop_next_due(s->loop) > uv_hrtime())
			break;
	}
}

void sys_uv_block(struct sys *s, uint64_t until_ns)
{
	loop_run(s->loop, uv_hrtime());
	turn(s, until_ns, true);
	sys_uv_advance(s);
}

/* Looks for events without sleeping; false: none came in time.  Others may have the processor. */
static bool look(struct sys *s, uint64_t until_ns)
{
	uint64_t end_ns = uv_hrtime() + AWAKE_NS;

	for (;;) {
		turn(s, until_ns, false);
		if (loop_ready(s->loop))
			return true;
		if (uv_hrtime() >= end_ns)
			return false;
		sched_yield();
	}
}

/* A caller of a library waits for one answer.  A server on this machine takes less time for it than
 * falling asleep and being woken does, so the wait stays awake a little, where that pays: not for a
 * server far away, nor while all processors are busy. */
static void wait_awake(struct sys *s, uint64_t until_ns)
{
	if (s->n_late < LATE_MAX || s->n_late % LATE_AGAIN == 0) {
		if (look(s, until_ns)) {
			s->n_late = 0;
			return;
		}
	}
	s->n_late++;
	turn(s, until_ns, true);
}

void sys_uv_until(struct sys *s, const bool *held_done, uint64_t until_ns)
{
	for (;;) {
		loop_run(s->loop, uv_hrtime());
		if (*held_done || uv_hrtime() >= until_ns)
			return;
		wait_awake(s, until_ns);
	}
}

bool sys_buggify(struct sys *s, const char *point)
{
	return false;
}
void sys_reached(struct sys *s, const char *path) {}
