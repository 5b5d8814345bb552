/* SPDX-License-Identifier: Apache-2.0 */
/* The drive itself: time, work, threads, children, signals, the machine, and being a guest in
 * somebody else's loop. */
#include "sys/uv/sys_uv.h"
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static struct sys *s;
static struct err_note note;

static uint64_t soon(void)
{
	return sys_after(s, 20 * SYS_SEC);
}

static int setup(void **state)
{
	note.text[0] = '\0';
	assert_int_equal(sys_uv_new(&s, &note), 0);
	return 0;
}

static int teardown(void **state)
{
	sys_uv_free(s);
	return 0;
}

static void run(fiber_fn *fn)
{
	assert_int_equal(sys_uv_run(s, "test", fn, NULL), 0);
}

/* ---- time and work ---- */
static int sleeps(void *arg)
{
	for (uint64_t us = 0; us < 5000; us += 300) {
		uint64_t until = sys_after(s, us * SYS_US);

		assert_int_equal(fiber_sleep(until), 0);
		assert_true(sys_now_ns(s) >= until);
	}
	assert_int_equal(fiber_sleep(0), 0);
	assert_in_range(sys_wall_ms(s) / 1000, (uint64_t)time(NULL) - 1, (uint64_t)time(NULL) + 1);
	return 0;
}

static void deadlines_are_never_early(void **state)
{
	run(sleeps);
}

/* A deadline that comes before the one the timer is set for. */
static int sleeps_long(void *arg)
{
	assert_int_equal(fiber_sleep(sys_after(s, 50 * SYS_MS)), 0);
	return 0;
}

static int earlier(void *arg)
{
	uint64_t from = sys_now_ns(s);
	struct group g;

	group_init(&g, sys_loop(s));
	assert_int_equal(fiber_start(&g, "long", sleeps_long, NULL), 0);
	assert_int_equal(fiber_sleep(from + SYS_MS), 0);
	assert_int_equal(fiber_sleep(from + 2 * SYS_MS), 0);
	assert_in_range(sys_now_ns(s), from, from + 49 * SYS_MS);
	assert_int_equal(group_wait(&g), 0);
	return 0;
}

static void an_earlier_deadline_is_kept(void **state)
{
	run(earlier);
}

static void on_thread(void *arg)
{
	pthread_t *t = arg;

	*t = pthread_self();
}

static int works(void *arg)
{
	pthread_t t = pthread_self();

	assert_int_equal(sys_work(s, on_thread, &t), 0);
	assert_false(pthread_equal(t, pthread_self()));
	return 0;
}

static void work_runs_on_a_thread(void **state)
{
	run(works);
}

static void slow(void *arg)
{
	nanosleep(&(struct timespec){ 0, 20 * 1000000 }, NULL);
	*(int *)arg = 1;
}

static int works_slowly(void *arg)
{
	int rc = sys_work(s, slow, arg);

	assert_int_equal(*(int *)arg, 1); /* not left before its work is done */
	return rc;
}

static int cancels_work(void *arg)
{
	int done = 0, again = 0;
	struct group g;

	group_init(&g, sys_loop(s));
	assert_int_equal(fiber_start(&g, "slow", works_slowly, &done), 0);
	assert_int_equal(fiber_sleep(sys_after(s, 2 * SYS_MS)), 0);
	group_cancel(&g);
	assert_int_equal(group_wait(&g), 0);
	assert_int_equal(done, 1);
	fiber_cancel(fiber_self());
	assert_int_equal(sys_work(s, slow, &again), E_CANCELED);
	assert_int_equal(again, 0);
	return 0;
}

static void work_is_not_cut_short(void **state)
{
	run(cancels_work);
}

static int fails(void *arg)
{
	return E_STALE;
}

static void the_first_fibers_result_is_the_runs(void **state)
{
	assert_int_equal(sys_uv_run(s, "test", fails, NULL), E_STALE);
	assert_int_equal(sys_uv_run(s, "test", fails, NULL), E_STALE);
}

/* ---- threads ---- */
struct counted {
	int n;
	struct sys *own;
};

static int counts(struct sys *own, void *arg)
{
	struct counted *c = arg;

	c->own = own;
	for (int i = 0; i < 100; i++) {
		c->n++;
		assert_int_equal(fiber_sleep(sys_now_ns(own)), 0);
	}
	return E_GONE;
}

static int waits_for_stop(struct sys *own, void *arg)
{
	struct counted *c = arg;
	int rc = fiber_sleep(FOREVER);

	c->n++;
	return rc;
}

static int joins(void *arg)
{
	struct sys_thread *t[2];
	struct counted c[2] = { { 0 } };
	int rc;

	assert_int_equal(sys_uv_thread(s, "counts", counts, &c[0], &t[0], &note), 0);
	assert_int_equal(sys_uv_thread(s, "waits", waits_for_stop, &c[1], &t[1], &note), 0);
	assert_int_equal(sys_uv_thread_join(t[0], &rc), 0);
	assert_int_equal(rc, E_GONE);
	assert_int_equal(c[0].n, 100);
	assert_ptr_not_equal(c[0].own, s);
	sys_uv_thread_stop(t[1]);
	sys_uv_thread_stop(t[1]);
	assert_int_equal(sys_uv_thread_join(t[1], &rc), 0);
	assert_int_equal(rc, E_CANCELED);
	assert_int_equal(c[1].n, 1);
	return 0;
}

static void threads_start_stop_and_join(void **state)
{
	run(joins);
}

static int joins_canceled(void *arg)
{
	struct counted c = { 0 };
	struct sys_thread *t;
	int rc;

	assert_int_equal(sys_uv_thread(s, "waits", waits_for_stop, &c, &t, &note), 0);
	*(bool *)arg = true;
	assert_int_equal(sys_uv_thread_join(t, &rc), 0);
	assert_int_equal(rc, E_CANCELED);
	assert_int_equal(c.n, 1);
	return 0;
}

static int cancels_join(void *arg)
{
	bool started = false;
	struct group g;

	group_init(&g, sys_loop(s));
	assert_int_equal(fiber_start(&g, "joins", joins_canceled, &started), 0);
	while (!started)
		assert_int_equal(fiber_sleep(sys_after(s, SYS_MS)), 0);
	group_cancel(&g);
	assert_int_equal(group_wait(&g), 0);
	return 0;
}

static void a_cancelled_join_stops_its_thread(void **state)
{
	run(cancels_join);
}

/* ---- children and signals ---- */
static int exit_of(const char *const argv[], const char *const env[])
{
	struct sys_proc *p;
	int status = -1;

	assert_int_equal(sys_spawn(s, argv, env, &p, &note), 0);
	assert_true(sys_proc_pid(p) > 0);
	assert_int_equal(sys_proc_wait(p, soon(), &status), 0);
	sys_proc_kill(p, SIGKILL); /* has ended: nobody is hit */
	sys_proc_close(p);
	return status;
}

static int spawns(void *arg)
{
	const char *const seven[] = { "/bin/sh", "-c", "exit 7", NULL };
	const char *const only[] = { "sh", "-c",
		"test \"$WADI_GIVEN\" = x && test -z \"$WADI_OURS\" && test -n \"$PATH\"", NULL };
	const char *const sleep[] = { "/bin/sleep", "100", NULL }, *const none[] = { "/none",
		NULL };
	const char *const env[] = { "WADI_GIVEN=x", NULL };
	struct sys_proc *p, *left;
	int status;

	setenv("WADI_OURS", "1", 1);
	setenv("WADI_GIVEN", "x", 1);
	assert_int_equal(exit_of(seven, NULL), 7);
	assert_int_equal(exit_of(only, env), 0);
	assert_int_equal(exit_of(only, NULL), 1);
	assert_int_equal(sys_spawn(s, none, NULL, &p, &note), E_NOTFOUND);
	assert_non_null(strstr(note.text, "/none"));

	assert_int_equal(sys_spawn(s, sleep, NULL, &p, &note), 0);
	assert_int_equal(sys_proc_wait(p, sys_after(s, 2 * SYS_MS), &status), E_TIMEOUT);
	sys_proc_kill(p, SIGKILL);
	assert_int_equal(sys_proc_wait(p, soon(), &status), 0);
	assert_int_equal(status, 128 + SIGKILL);
	sys_proc_close(p);
	/* left alone: one that ends before we do, and one that does not */
	assert_int_equal(sys_spawn(s, seven, NULL, &left, &note), 0);
	sys_proc_close(left);
	assert_int_equal(exit_of(seven, NULL), 7);
	assert_int_equal(sys_spawn(s, sleep, NULL, &left, &note), 0);
	sys_proc_kill(left, SIGKILL);
	sys_proc_close(left);
	sys_proc_close(NULL);
	return 0;
}

static void children_are_started_and_waited_for(void **state)
{
	run(spawns);
}

static int signals(void *arg)
{
	int number = 0;

	assert_int_equal(sys_signal_wait(s, sys_after(s, SYS_MS), &number), E_TIMEOUT);
	assert_int_equal(kill(getpid(), SIGTERM), 0);
	assert_int_equal(sys_signal_wait(s, soon(), &number), 0);
	assert_int_equal(number, SIGTERM);
	assert_int_equal(kill(getpid(), SIGHUP), 0); /* nobody waits yet: it is kept */
	assert_int_equal(fiber_sleep(sys_after(s, 5 * SYS_MS)), 0);
	assert_int_equal(sys_signal_wait(s, soon(), &number), 0);
	assert_int_equal(number, SIGHUP);
	return 0;
}

static void signals_are_waited_for(void **state)
{
	run(signals);
}

/* ---- the machine ---- */
static void the_machine_is_described(void **state)
{
	uint8_t secret[64] = { 0 }, again[64] = { 0 };
	uint64_t before = sys_memory_self(s), cpu = sys_cpu_ns(s), sum = 0;
	char *mem;

	assert_true(sys_memory_total(s) > (UINT64_C(1) << 26));
	assert_in_range(sys_memory_free(s), 1, sys_memory_total(s));
	assert_true(before > 0);
	mem = malloc(32 << 20);
	memset(mem, 1, 32 << 20);
	for (int i = 0; i < 32 << 20; i += 100)
		sum += (uint64_t)((volatile char *)mem)[i];
	assert_true(sum > 0);
	assert_true(sys_memory_self(s) >= before + (24 << 20));
	free(mem);
	assert_true(sys_cpu_ns(s) > cpu);
	assert_in_range(sys_cpus(s), 1, sysconf(_SC_NPROCESSORS_CONF));
	assert_int_equal(sys_pid(s), getpid());
	assert_int_equal(sys_uid(s), geteuid());
	assert_string_not_equal(sys_host(s), "");
	setenv("WADI_TEST", "yes", 1);
	assert_string_equal(sys_getenv(s, "WADI_TEST"), "yes");
	assert_null(sys_getenv(s, "WADI_TEST_NOT"));
	sys_secret(s, secret, sizeof secret);
	sys_secret(s, again, sizeof again);
	assert_memory_not_equal(secret, again, sizeof secret);
	assert_true(sys_random(s) != sys_random(s));
	assert_false(sys_buggify(s, "here"));
	sys_reached(s, "here");
	sys_log(s, "one line of the log");
}

/* ---- a guest in another loop ---- */
struct guest {
	struct sys_stream *c;
	bool done;
};

static int guest_echo(void *arg)
{
	struct sys_listener *l;
	struct guest *g = arg;
	struct sys_stream *c;
	char buf[16];

	assert_int_equal(sys_listen(s, "tcp:127.0.0.1:0", &l, &note), 0);
	assert_int_equal(sys_connect(s, sys_listener_addr(l), soon(), &c, &note), 0);
	assert_int_equal(sys_accept(l, soon(), &g->c), 0);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(sys_send(c, &(struct iovec){ "ping", 4 }, 1, soon()), 0);
		assert_int_equal(sys_recv(g->c, buf, sizeof buf, soon()), 4);
		if (i % 10 == 0)
			assert_int_equal(fiber_sleep(sys_after(s, SYS_MS)), 0);
	}
	sys_stream_close(c);
	sys_stream_close(g->c);
	sys_listener_close(l);
	g->done = true;
	return 0;
}

static void a_guest_polls_and_advances(void **state)
{
	struct guest guest = { 0 };
	struct group g;

	group_init(&g, sys_loop(s));
	assert_int_equal(fiber_start(&g, "guest", guest_echo, &guest), 0);
	assert_int_equal(sys_uv_poll_timeout_ms(s), 0);
	sys_uv_advance(s);
	while (!guest.done) {
		struct pollfd p = { .fd = sys_uv_poll_fd(s), .events = POLLIN };
		int ms = sys_uv_poll_timeout_ms(s);

		assert_true(ms >= 0); /* every wait has a deadline */
		assert_true(poll(&p, 1, ms < 10000 ? ms : 10000) >= 0);
		sys_uv_advance(s);
	}
	assert_int_equal(g.n_live, 0);
	assert_int_equal(g.rc, 0);
}

static void a_guest_may_block(void **state)
{
	struct guest guest = { 0 };
	uint64_t from = sys_now_ns(s);
	struct group g;

	sys_uv_block(s, from + 5 * SYS_MS);
	assert_in_range(sys_now_ns(s) - from, 5 * SYS_MS, 5 * SYS_SEC);
	group_init(&g, sys_loop(s));
	assert_int_equal(fiber_start(&g, "guest", guest_echo, &guest), 0);
	while (!guest.done)
		sys_uv_block(s, sys_after(s, SYS_SEC));
	assert_int_equal(g.n_live, 0);
}

/* ---- a caller who waits for one answer ---- */
static int answer_later(void *arg)
{
	struct guest *g = arg;
	static uint64_t ns[] = { 0, 20 * SYS_US, 2 * SYS_MS };
	static unsigned n;

	n++;
	assert_int_equal(fiber_sleep(sys_after(s, ns[n % 3])), 0);
	g->done = true;
	return 0;
}

static void a_caller_waits_for_one_answer(void **state)
{
	struct guest never = { 0 };
	uint64_t from = sys_now_ns(s), cpu;
	struct group g;

	group_init(&g, sys_loop(s));
	for (int i = 0; i < 200; i++) { /* soon and late ones: awake and asleep */
		struct guest guest = { 0 };

		assert_int_equal(fiber_start(&g, "answer", answer_later, &guest), 0);
		sys_uv_until(s, &guest.done, sys_after(s, 10 * SYS_SEC));
		assert_true(guest.done);
	}
	assert_in_range(sys_now_ns(s) - from, 200 / 3 * 2 * SYS_MS, 10 * SYS_SEC);
	cpu = sys_cpu_ns(s);
	from = sys_now_ns(s);
	sys_uv_until(s, &never.done, from + 100 * SYS_MS);
	assert_in_range(sys_now_ns(s) - from, 100 * SYS_MS, 10 * SYS_SEC);
	assert_true(sys_cpu_ns(s) - cpu < 50 * SYS_MS); /* it slept */
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(deadlines_are_never_early),
		T(an_earlier_deadline_is_kept),
		T(work_runs_on_a_thread),
		T(work_is_not_cut_short),
		T(the_first_fibers_result_is_the_runs),
		T(threads_start_stop_and_join),
		T(a_cancelled_join_stops_its_thread),
		T(children_are_started_and_waited_for),
		T(signals_are_waited_for),
		T(the_machine_is_described),
		T(a_guest_polls_and_advances),
		T(a_guest_may_block),
		T(a_caller_waits_for_one_answer),
	};

	return cmocka_run_group_tests_name("run", tests, NULL, NULL);
}
