/* SPDX-License-Identifier: Apache-2.0 */
/* Work on threads of the process, shared by its loops.
 *
 * libuv's own pool tells a loop by a handle on which the woken loop spins until the worker has come
 * back from its wake-up; with as many threads as processors the worker has just lost its processor
 * to that very loop.  Here a worker that has told does not touch the loop any more:
 *
 * (W1) Who puts work on an empty list of done work knocks once; the loop takes the list only after
 * it has read that knock.  So a struct sys outlives the knocks at it.
 *
 * (W2) Workers end with the last struct sys: what libraries keep for each thread is freed by the
 * end of the thread, and only while those libraries are still there. */
#include "base/check.h"
#include "sys/uv/own.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { WORKERS = 4 };

struct work {
	struct work *next; /* on the list of done work */
	struct list link;  /* in the queue */
	struct sys *s;
	struct fiber *f;
	void (*fn)(void *arg);
	void *arg;
};

static struct {
	pthread_mutex_t users_lock; /* of n_users; taken before lock */
	unsigned n_users;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t more;
	struct list queue;
	unsigned n_queued, n_threads, n_idle;
	pthread_t threads[WORKERS];
	bool ending;
} pool = { .users_lock = PTHREAD_MUTEX_INITIALIZER,
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.more = PTHREAD_COND_INITIALIZER };
static pthread_once_t begun = PTHREAD_ONCE_INIT;

/* ---- the workers ---- */
static void tell(struct work *w)
{
	struct sys *s = w->s;
	struct work *before = atomic_load(&s->done);
	uint64_t one = 1;

	do
		w->next = before;
	while (!atomic_compare_exchange_weak(&s->done, &before, w));
	if (before == NULL) /* (W1) */
		check(write(s->done_fd, &one, sizeof one) == sizeof one);
}

static void *worker(void *arg)
{
	check(pthread_mutex_lock(&pool.lock) == 0);
	while (!pool.ending) {
		struct list *n = list_pop(&pool.queue);
		struct work *w;

		if (n == NULL) {
			pool.n_idle++;
			check(pthread_cond_wait(&pool.more, &pool.lock) == 0);
			pool.n_idle--;
			continue;
		}
		pool.n_queued--;
		check(pthread_mutex_unlock(&pool.lock) == 0);
		confine_thread(); /* (C1) */
		w = container_of(n, struct work, link);
		w->fn(w->arg);
		tell(w);
		check(pthread_mutex_lock(&pool.lock) == 0);
	}
	check(pthread_mutex_unlock(&pool.lock) == 0);
	return NULL;
}

/* Signals are for the threads of loops. */
static void add_worker(void)
{
	sigset_t all, before;

	sigfillset(&all);
	check(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
	if (pthread_create(&pool.threads[pool.n_threads], NULL, worker, NULL) == 0)
		pool.n_threads++;
	else
		check(pool.n_threads > 0); /* else nobody would ever do it */
	check(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
}

/* In the child of a fork there are no workers. */
static void forked(void)
{
	pthread_mutex_init(&pool.users_lock, NULL);
	pthread_mutex_init(&pool.lock, NULL);
	pthread_cond_init(&pool.more, NULL);
	list_init(&pool.queue);
	pool.n_queued = pool.n_threads = pool.n_idle = 0;
}

static void begin(void)
{
	list_init(&pool.queue);
	check(pthread_atfork(NULL, NULL, forked) == 0);
}

static void end(void)
{
	check(pthread_mutex_lock(&pool.lock) == 0);
	pool.ending = true;
	check(pthread_cond_broadcast(&pool.more) == 0);
	check(pthread_mutex_unlock(&pool.lock) == 0);
	for (unsigned i = 0; i < pool.n_threads; i++)
		check(pthread_join(pool.threads[i], NULL) == 0);
	pool.n_threads = 0;
	pool.ending = false;
}

static void users_change(int by)
{
	check(pthread_once(&begun, begin) == 0);
	check(pthread_mutex_lock(&pool.users_lock) == 0);
	pool.n_users += (unsigned)by;
	if (pool.n_users == 0) /* (W2) */
		end();
	check(pthread_mutex_unlock(&pool.users_lock) == 0);
}

static void queue(struct work *w)
{
	check(pthread_mutex_lock(&pool.lock) == 0);
	list_push(&pool.queue, &w->link);
	if (++pool.n_queued > pool.n_idle && pool.n_threads < WORKERS)
		add_worker();
	check(pthread_mutex_unlock(&pool.lock) == 0);
	check(pthread_cond_signal(&pool.more) == 0);
}

/* ---- the loop ---- */
static void on_done(uv_poll_t *h, int status, int events)
{
	struct sys *s = h->data;
	struct work *w, *next;
	uint64_t n;

	if (read(s->done_fd, &n, sizeof n) != sizeof n) /* (W1) */
		return;
	for (w = atomic_exchange(&s->done, NULL); w != NULL; w = next) {
		next = w->next; /* it lies on the stack of the fiber */
		check(s->n_works > 0);
		s->n_works--;
		fiber_wake(w->f, 0);
	}
}

int work_init(struct sys *s)
{
	int rc;

	s->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->done_fd < 0)
		return -errno;
	s->done_poll.data = s;
	if ((rc = uv_poll_init(&s->uv, &s->done_poll, s->done_fd)) < 0) {
		close(s->done_fd);
		s->done_fd = -1;
		return rc;
	}
	check(uv_poll_start(&s->done_poll, UV_READABLE, on_done) == 0);
	users_change(1);
	return 0;
}

void work_fini(struct sys *s)
{
	check(s->n_works == 0);
	if (s->done_fd < 0)
		return;
	users_change(-1);
	close(s->done_fd);
}

int sys_work(struct sys *s, void (*fn)(void *arg), void *arg)
{
	struct work w = { .s = s, .f = fiber_self(), .fn = fn, .arg = arg };

	if (fiber_canceled())
		return E_CANCELED;
	list_init(&w.link);
	s->n_works++;
	queue(&w);
	return fiber_park_deaf();
}
