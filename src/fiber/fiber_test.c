/* SPDX-License-Identifier: Apache-2.0 */
/* Every promise of fiber.h.  Most tests write what happens, in order, into a log and compare it. */
#include "base/err.h"
#include "base/prng.h"
#include "fiber/fiber.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char story[4096];
static struct loop *loop;
static struct group top;

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *fmt, ...)
{
	size_t n = strlen(story);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(story + n, sizeof story - n, fmt, ap);
	va_end(ap);
}

#define expect_story(text)                                                                         \
	do {                                                                                       \
		assert_string_equal(story, text);                                                  \
		story[0] = '\0';                                                                   \
	} while (0)

static int setup_opts(const struct loop_opts *opts)
{
	story[0] = '\0';
	loop = loop_new(opts);
	assert_non_null(loop);
	group_init(&top, loop);
	return 0;
}

static int setup(void **state)
{
	return setup_opts(NULL);
}

static int teardown(void **state)
{
	assert_int_equal(top.n_live, 0);
	loop_free(loop);
	return 0;
}

static void start(fiber_fn *fn, void *arg)
{
	assert_int_equal(fiber_start(&top, "f", fn, arg), 0);
}

/* Runs the test again in a child, which must stop at a failed check. */
static void expect_dies(void (*fn)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		if (freopen("/dev/null", "w", stderr) == NULL)
			_exit(3);
		signal(SIGABRT, SIG_DFL);
		fn();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

/* ---- order ---- */
static int say_thrice(void *arg)
{
	for (int i = 0; i < 3; i++) {
		say("%s%d ", (char *)arg, i);
		assert_int_equal(fiber_yield(), 0);
	}
	return 0;
}

static void ready_fibers_run_in_the_order_of_queueing(void **state)
{
	start(say_thrice, "a");
	start(say_thrice, "b");
	expect_story("");
	assert_true(loop_ready(loop));
	loop_run(loop, 1);
	expect_story("a0 b0 a1 b1 a2 b2 ");
	assert_false(loop_ready(loop));
	assert_int_equal(loop_turns(loop), 8);
}

static void a_run_ends_at_its_bound(void **state)
{
	setup_opts(&(struct loop_opts){ .turns_max = 3 });
	start(say_thrice, "a");
	start(say_thrice, "b");
	loop_run(loop, 1);
	expect_story("a0 b0 a1 ");
	assert_true(loop_ready(loop));
	while (loop_ready(loop))
		loop_run(loop, 1);
	expect_story("b1 a2 b2 ");
	teardown(NULL);
}

static int refuses_to_end(void *arg)
{
	while (arg == NULL)
		(void)fiber_sleep(FOREVER);
	return 0;
}

static void never_ends(void)
{
	start(refuses_to_end, NULL);
	group_cancel(&top);
	loop_run(loop, 1);
}

static void who_ignores_cancellation_is_found(void **state) { expect_dies(never_ends); }

static int say_late(void *arg)
{
	say("%s ", (char *)arg);
	assert_int_equal(fiber_late(), 0);
	say("late-%s ", (char *)arg);
	assert_int_equal(fiber_late(), 0);
	say("later-%s ", (char *)arg);
	return 0;
}

static void late_fibers_run_when_nothing_is_ready(void **state)
{
	start(say_late, "x");
	start(say_thrice, "a");
	start(say_late, "y");
	loop_run(loop, 1);
	expect_story("x a0 y a1 a2 late-x late-y later-x later-y ");
}

static int yields_for_ever(void *arg)
{
	while (*(bool *)arg)
		assert_int_equal(fiber_yield(), 0);
	return 0;
}

static int late_for_ever(void *arg)
{
	while (*(bool *)arg)
		assert_int_equal(fiber_late(), 0);
	return 0;
}

static void busy_fibers_do_not_keep_the_driver(void **state)
{
	bool more = true;

	start(yields_for_ever, &more);
	loop_run(loop, 1);
	assert_true(loop_ready(loop));
	assert_in_range(loop_turns(loop), 1000, 10000);
	start(late_for_ever, &more);
	loop_run(loop, 2);
	assert_true(loop_ready(loop));
	more = false;
	loop_run(loop, 3);
	assert_false(loop_ready(loop));
}

static uint64_t drawn(void *arg)
{
	return prng_next(arg);
}

static void shuffled(uint64_t seed, char *ret_story)
{
	struct prng p = prng_fork(seed, 1);

	setup_opts(&(struct loop_opts){ .shuffle = drawn, .shuffle_arg = &p });
	for (int i = 0; i < 8; i++)
		start(say_thrice, (char *[]){ "a", "b", "c", "d", "e", "f", "g", "h" }[i]);
	loop_run(loop, 1);
	strcpy(ret_story, story);
	teardown(NULL);
}

static void shuffling_follows_its_seed_only(void **state)
{
	static char one[4096], same[4096], other[4096];

	shuffled(1, one);
	shuffled(1, same);
	shuffled(2, other);
	assert_string_equal(one, same);
	assert_string_not_equal(one, other);
	assert_int_equal(strlen(one), 3 * 8 * 3);
}

/* ---- time ---- */
struct nap {
	const char *name;
	uint64_t until_ns;
};

static int naps(void *arg)
{
	struct nap *n = arg;
	int rc = fiber_sleep(n->until_ns);

	say("%s:%s@%llu ", n->name, err_name(rc), (unsigned long long)loop_now_ns(loop_self()));
	return rc;
}

static void timers_fire_by_deadline_then_sequence(void **state)
{
	struct nap n[] = { { "c", 30 }, { "a1", 10 }, { "a2", 10 }, { "b", 20 }, { "a3", 10 } };

	assert_true(loop_next_due(loop) == FOREVER);
	for (int i = 0; i < 5; i++)
		start(naps, &n[i]);
	loop_run(loop, 5);
	assert_int_equal(loop_next_due(loop), 10);
	loop_run(loop, 9);
	expect_story("");
	loop_run(loop, 10);
	expect_story("a1:OK@10 a2:OK@10 a3:OK@10 ");
	assert_int_equal(loop_next_due(loop), 20);
	loop_run(loop, 7); /* time does not go back */
	assert_int_equal(loop_now_ns(loop), 10);
	loop_run(loop, 99);
	expect_story("b:OK@99 c:OK@99 ");
	assert_true(loop_next_due(loop) == FOREVER);
}

static void a_deadline_in_the_past_fires_in_the_next_run(void **state)
{
	struct nap n = { "p", 3 };

	start(naps, &n);
	loop_run(loop, 5);
	expect_story("");
	assert_true(loop_next_due(loop) <= 5);
	loop_run(loop, 5);
	expect_story("p:OK@5 ");
}

/* Parks and wakes at random against a model: a plain array of deadlines. */
enum { N_RANDOM = 60 };
static struct {
	struct fiber *f;
	uint64_t due;
	int ended;
} model[N_RANDOM];
static bool random_stop;

static int random_parks(void *arg)
{
	long i = (long)arg;

	while (!random_stop) {
		int rc;

		model[i].f = fiber_self();
		rc = fiber_park(model[i].due, NULL, NULL);
		model[i].f = NULL;
		model[i].ended = rc;
		if (rc == E_TIMEOUT)
			assert_true(model[i].due <= loop_now_ns(loop));
	}
	return 0;
}

static uint64_t earliest(void)
{
	uint64_t min = FOREVER;

	for (int i = 0; i < N_RANDOM; i++)
		if (model[i].due < min)
			min = model[i].due;
	return min;
}

static void timers_agree_with_a_plain_model(void **state)
{
	struct prng p = prng_fork(7, 1);
	uint64_t now = 0;

	random_stop = false;
	for (long i = 0; i < N_RANDOM; i++) {
		model[i].due = 1 + prng_below(&p, 100);
		start(random_parks, (void *)i);
	}
	loop_run(loop, now);
	for (int step = 0; step < 3000; step++) {
		bool expired[N_RANDOM];

		assert_true(loop_next_due(loop) == earliest());
		now += prng_below(&p, 8);
		for (int i = 0; i < N_RANDOM; i++) {
			model[i].ended = 1;
			expired[i] = false;
		}
		for (int k = 0; k < 3; k++) {
			uint64_t i = prng_below(&p, N_RANDOM);
			uint64_t draw = prng_below(&p, 120);

			if (model[i].f == NULL)
				continue;
			fiber_wake(model[i].f, 0);
			model[i].f = NULL;
			model[i].due = draw == 0 ? FOREVER : now + draw;
			model[i].ended = 0;
		}
		for (int i = 0; i < N_RANDOM; i++)
			if (model[i].f != NULL && model[i].due <= now)
				expired[i] = true;
		/* what expires parks again with the deadline that the model holds by then */
		loop_run(loop, now);
		for (int i = 0; i < N_RANDOM; i++) {
			assert_int_equal(model[i].ended, expired[i] ? E_TIMEOUT : model[i].ended);
			if (expired[i])
				model[i].due = FOREVER;
		}
		for (int i = 0; i < N_RANDOM; i++)
			if (model[i].f != NULL && expired[i])
				fiber_wake(model[i].f, 0);
		loop_run(loop, now);
	}
	random_stop = true;
	for (int i = 0; i < N_RANDOM; i++)
		fiber_wake(model[i].f, 0);
	loop_run(loop, now);
}

/* ---- parking ---- */
struct parked {
	struct fiber *f;
	uint64_t until_ns;
	int rc, n_unhooked;
	bool shielded;
};

static void count_unhook(void *hook)
{
	((struct parked *)hook)->n_unhooked++;
}

static int parks(void *arg)
{
	struct parked *p = arg;

	p->f = fiber_self();
	p->rc = 1;
	p->rc = fiber_park(p->until_ns, count_unhook, p);
	return 0;
}

static void a_wake_queues_and_passes_its_value(void **state)
{
	struct parked p = { .until_ns = 50 };

	start(parks, &p);
	loop_run(loop, 1);
	fiber_wake(p.f, 42);
	assert_int_equal(p.rc, 1);
	loop_run(loop, 2);
	assert_int_equal(p.rc, 42);
	assert_int_equal(p.n_unhooked, 0);
	assert_true(loop_next_due(loop) == FOREVER);
}

static void a_deadline_unhooks_once(void **state)
{
	struct parked p = { .until_ns = 50 };

	start(parks, &p);
	loop_run(loop, 1);
	loop_run(loop, 50);
	assert_int_equal(p.rc, E_TIMEOUT);
	assert_int_equal(p.n_unhooked, 1);
}

static void a_cancelled_fiber_parks_no_more(void **state)
{
	struct parked p = { .until_ns = FOREVER };
	struct nap n = { "n", FOREVER };

	start(parks, &p);
	loop_run(loop, 1);
	fiber_cancel(p.f);
	fiber_cancel(p.f);
	assert_int_equal(p.n_unhooked, 1); /* at once: a waker must not find it */
	loop_run(loop, 1);
	assert_int_equal(p.rc, E_CANCELED);

	group_cancel(&top);
	p = (struct parked){ .until_ns = FOREVER };
	start(parks, &p); /* born cancelled: does not park, and unhooks all the same */
	start(naps, &n);
	loop_run(loop, 1);
	assert_int_equal(p.rc, E_CANCELED);
	assert_int_equal(p.n_unhooked, 1);
	expect_story("n:CANCELED@1 ");
	assert_int_equal(top.rc, E_CANCELED);
}

static void a_wake_before_the_cancellation_counts(void **state)
{
	struct parked p = { .until_ns = 50 };

	start(parks, &p);
	loop_run(loop, 1);
	fiber_wake(p.f, 5);
	fiber_cancel(p.f);
	loop_run(loop, 1);
	assert_int_equal(p.rc, 5);
	assert_int_equal(p.n_unhooked, 0);
}

static int yields_cancelled(void *arg)
{
	*(struct fiber **)arg = fiber_self();
	say("%s ", err_name(fiber_late()));
	say("%s ", err_name(fiber_late()));
	say("%s ", err_name(fiber_yield()));
	return 0;
}

static int cancels(void *arg)
{
	fiber_cancel(*(struct fiber **)arg);
	return 0;
}

static void yield_and_late_tell_of_cancellation(void **state)
{
	struct fiber *f;

	start(yields_cancelled, &f);
	start(cancels, &f);
	loop_run(loop, 1);
	expect_story("CANCELED CANCELED CANCELED ");
}

static int parks_deaf(void *arg)
{
	struct parked *p = arg;

	p->f = fiber_self();
	fiber_shield(5);
	assert_false(fiber_canceled());
	p->rc = fiber_park_deaf();
	fiber_unshield();
	assert_true(fiber_canceled());
	say("%s ", err_name(fiber_yield()));
	return 0;
}

static void only_a_wake_ends_a_deaf_park(void **state)
{
	struct parked p = { .rc = 1 };

	start(parks_deaf, &p);
	loop_run(loop, 1);
	fiber_cancel(p.f);
	assert_true(loop_next_due(loop) == FOREVER);
	loop_run(loop, 9);
	assert_int_equal(p.rc, 1);
	fiber_wake(p.f, 7);
	loop_run(loop, 9);
	assert_int_equal(p.rc, 7);
	expect_story("CANCELED ");
}

/* ---- shield ---- */
static int cleans_up(void *arg)
{
	struct parked *p = arg;

	p->f = fiber_self();
	say("%s ", err_name(fiber_sleep(FOREVER)));
	fiber_shield(200);
	fiber_shield(900); /* nested: the outer one counts */
	say("%s ", err_name(fiber_sleep(150)));
	say("%s ", err_name(fiber_sleep(300)));
	fiber_shield(FOREVER); /* but for what surely ends */
	say("%s ", err_name(fiber_sleep(250)));
	fiber_unshield();
	say("%s ", err_name(fiber_sleep(300)));
	fiber_unshield();
	fiber_unshield();
	say("%s@%llu ", err_name(fiber_sleep(300)), (unsigned long long)loop_now_ns(loop_self()));
	return 0;
}

static void a_shield_lets_a_cancelled_fiber_park_for_a_while(void **state)
{
	struct parked p;

	start(cleans_up, &p);
	loop_run(loop, 100);
	fiber_cancel(p.f);
	loop_run(loop, 100);
	expect_story("CANCELED ");
	assert_int_equal(loop_next_due(loop), 150);
	loop_run(loop, 150);
	expect_story("OK ");
	assert_int_equal(loop_next_due(loop), 200);
	loop_run(loop, 200);
	expect_story("CANCELED ");
	loop_run(loop, 250);
	expect_story("OK CANCELED CANCELED@250 ");
}

static int parks_shielded(void *arg)
{
	struct parked *p = arg;

	fiber_shield(200);
	parks(arg);
	p->shielded = true;
	fiber_unshield();
	return 0;
}

static void a_cancellation_behind_a_shield_waits_for_its_end(void **state)
{
	struct parked p = { .until_ns = FOREVER }, quick = { .until_ns = 120 };

	start(parks_shielded, &p);
	start(parks_shielded, &quick);
	loop_run(loop, 1);
	fiber_cancel(p.f);
	fiber_cancel(quick.f);
	loop_run(loop, 120);
	assert_int_equal(quick.rc, E_TIMEOUT);
	assert_int_equal(p.rc, 1);
	loop_run(loop, 200);
	assert_int_equal(p.rc, E_CANCELED);
	assert_int_equal(p.n_unhooked, 1);
	assert_true(p.shielded);
}

/* ---- groups ---- */
static int returns(void *arg)
{
	return (int)(long)arg;
}

struct family {
	struct group g;
	struct fiber *parent;
	int rc;
	uint64_t shield_ns;
	fiber_fn *kids[3];
};

static int sleeps_long(void *arg)
{
	int rc = fiber_sleep(FOREVER);

	say("%s ", err_name(rc));
	return rc;
}

static int parent(void *arg)
{
	struct family *f = arg;

	f->parent = fiber_self();
	if (f->shield_ns != 0)
		fiber_shield(f->shield_ns);
	for (int i = 0; i < 3; i++)
		if (f->kids[i] != NULL)
			assert_int_equal(
				fiber_start(&f->g, "kid", f->kids[i], (void *)(long)-i), 0);
	f->rc = 1;
	f->rc = group_wait(&f->g);
	assert_int_equal(f->g.n_live, 0);
	if (f->shield_ns != 0)
		fiber_unshield();
	return 0;
}

static void the_first_failure_cancels_the_siblings(void **state)
{
	struct family f = { .kids = { sleeps_long, sleeps_long, returns } };

	group_init(&f.g, loop);
	start(parent, &f);
	loop_run(loop, 1);
	assert_int_equal(f.rc, -2);
	expect_story("CANCELED CANCELED ");
}

static void a_group_keeps_going_when_told_so(void **state)
{
	struct family f = { .kids = { sleeps_long, returns, returns } };

	group_init(&f.g, loop);
	f.g.keep_going = true;
	start(parent, &f);
	loop_run(loop, 1);
	assert_int_equal(f.rc, 1);
	assert_int_equal(f.g.n_live, 1);
	group_cancel(&f.g);
	loop_run(loop, 1);
	assert_int_equal(f.rc, 0);
}

static void cancelling_a_parent_cancels_its_children(void **state)
{
	struct family f = { .kids = { sleeps_long, sleeps_long } };

	group_init(&f.g, loop);
	start(parent, &f);
	loop_run(loop, 1);
	fiber_cancel(f.parent);
	loop_run(loop, 1);
	assert_int_equal(f.rc, E_CANCELED);
	expect_story("CANCELED CANCELED ");
}

static void a_cancelled_parent_cancels_when_it_comes_to_wait(void **state)
{
	struct family f = { .kids = { sleeps_long } };

	group_init(&f.g, loop);
	group_cancel(&top);
	start(parent, &f);
	loop_run(loop, 1);
	assert_int_equal(f.rc, E_CANCELED);
	expect_story("CANCELED ");
}

static void a_shielded_parent_cancels_at_the_end_of_its_shield(void **state)
{
	struct family f = { .kids = { sleeps_long }, .shield_ns = 80 };

	group_init(&f.g, loop);
	start(parent, &f);
	loop_run(loop, 1);
	fiber_cancel(f.parent);
	loop_run(loop, 79);
	expect_story("");
	loop_run(loop, 80);
	expect_story("CANCELED ");
	assert_int_equal(f.rc, E_CANCELED);
}

static void an_empty_group_is_not_waited_for(void **state)
{
	struct family f = { 0 };

	group_init(&f.g, loop);
	start(parent, &f);
	loop_run(loop, 1);
	assert_int_equal(f.rc, 0);
}

/* ---- wait queues and locks ---- */
struct waiting {
	struct waitq q;
	const char *name;
	uint64_t until_ns;
};
static struct waitq q;

static int waits(void *arg)
{
	struct nap *n = arg;
	int rc = waitq_wait(&q, n->until_ns);

	say("%s:%s ", n->name, err_name(rc));
	return 0;
}

static void waiters_are_served_in_order(void **state)
{
	struct nap n[] = { { "a", 100 }, { "b", 10 }, { "c", 100 }, { "d", 100 } };

	waitq_init(&q);
	for (int i = 0; i < 4; i++)
		start(waits, &n[i]);
	loop_run(loop, 1);
	assert_false(waitq_empty(&q));
	loop_run(loop, 10);
	expect_story("b:TIMEOUT ");
	waitq_wake_one(&q);
	loop_run(loop, 10);
	expect_story("a:OK ");
	waitq_wake_all(&q);
	assert_true(waitq_empty(&q));
	loop_run(loop, 10);
	expect_story("c:OK d:OK ");
	waitq_wake_one(&q);
}

static struct fiber_lock lock;

static int locks(void *arg)
{
	struct nap *n = arg;
	int rc = fiber_lock(&lock, n->until_ns);

	if (rc < 0) {
		say("%s:%s ", n->name, err_name(rc));
		return 0;
	}
	assert_true(fiber_lock_held(&lock));
	say("%s+ ", n->name);
	assert_int_equal(fiber_sleep(loop_now_ns(loop_self()) + 10), 0);
	say("%s- ", n->name);
	fiber_unlock(&lock);
	assert_false(fiber_lock_held(&lock));
	return 0;
}

static void a_lock_is_handed_over_in_order(void **state)
{
	struct nap n[] = { { "a", 100 }, { "b", 5 }, { "c", 100 }, { "d", 100 } };

	fiber_lock_init(&lock);
	for (int i = 0; i < 4; i++)
		start(locks, &n[i]);
	for (uint64_t now = 0; now < 60; now += 5)
		loop_run(loop, now);
	expect_story("a+ b:TIMEOUT a- c+ c- d+ d- ");
}

static int unlocks(void *arg)
{
	fiber_unlock(&lock);
	return 0;
}

static void unlocks_anothers(void)
{
	struct nap n = { "a", 100 };

	fiber_lock_init(&lock);
	start(locks, &n);
	start(unlocks, NULL);
	loop_run(loop, 1);
}

/* ---- bugs stop the process ---- */
static int parks_in_nopark(void *arg)
{
	nopark_begin();
	nopark_begin();
	nopark_end();
	fiber_sleep(5);
	return 0;
}

static void runs_nopark(void)
{
	start(parks_in_nopark, NULL);
	loop_run(loop, 1);
}

static int nopark_only(void *arg)
{
	nopark_begin();
	nopark_begin();
	nopark_end();
	nopark_end();
	return fiber_sleep(5);
}

static void outside(void)
{
	loop_self();
}
static void frees_live(void)
{
	start(nopark_only, NULL);
	loop_free(loop);
}

static void wakes_twice(void)
{
	struct parked p = { .until_ns = 50 };

	start(parks, &p);
	loop_run(loop, 1);
	fiber_wake(p.f, 0);
	fiber_wake(p.f, 0);
}

static void bugs_are_failed_checks(void **state)
{
	expect_dies(runs_nopark);
	expect_dies(outside);
	expect_dies(frees_live);
	expect_dies(wakes_twice);
	expect_dies(unlocks_anothers);
	start(nopark_only, NULL);
	loop_run(loop, 1);
	loop_run(loop, 5);
}

static int noted(void *arg)
{
	fiber_note(77, "the dentist's");
	return fiber_sleep(5000000);
}

static void say_line(void *arg, const char *text)
{
	say("%s\n", text);
}

static void fibers_are_visible(void **state)
{
	assert_int_equal(fiber_start(&top, "a name that is much too long", noted, NULL), 0);
	loop_run(loop, 1000000);
	loop_run(loop, 3500000);
	loop_print(loop, say_line, NULL);
	expect_story(
		"fiber a name that is much too request 77 parked at the dentist's for 2.500 ms\n");
	loop_run(loop, 5000000);
	loop_print(loop, say_line, NULL);
	expect_story("");
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(ready_fibers_run_in_the_order_of_queueing),
		T(late_fibers_run_when_nothing_is_ready),
		T(busy_fibers_do_not_keep_the_driver),
		cmocka_unit_test(shuffling_follows_its_seed_only),
		cmocka_unit_test(a_run_ends_at_its_bound),
		T(who_ignores_cancellation_is_found),
		T(timers_fire_by_deadline_then_sequence),
		T(a_deadline_in_the_past_fires_in_the_next_run),
		T(timers_agree_with_a_plain_model),
		T(a_wake_queues_and_passes_its_value),
		T(a_deadline_unhooks_once),
		T(a_cancelled_fiber_parks_no_more),
		T(a_wake_before_the_cancellation_counts),
		T(yield_and_late_tell_of_cancellation),
		T(only_a_wake_ends_a_deaf_park),
		T(a_shield_lets_a_cancelled_fiber_park_for_a_while),
		T(a_cancellation_behind_a_shield_waits_for_its_end),
		T(the_first_failure_cancels_the_siblings),
		T(a_group_keeps_going_when_told_so),
		T(cancelling_a_parent_cancels_its_children),
		T(a_cancelled_parent_cancels_when_it_comes_to_wait),
		T(a_shielded_parent_cancels_at_the_end_of_its_shield),
		T(an_empty_group_is_not_waited_for),
		T(waiters_are_served_in_order),
		T(a_lock_is_handed_over_in_order),
		T(bugs_are_failed_checks),
		T(fibers_are_visible),
	};

	return cmocka_run_group_tests_name("fiber", tests, NULL, NULL);
}
