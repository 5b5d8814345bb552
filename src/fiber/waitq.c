/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"
#include "base/err.h"
#include "fiber/own.h"

struct waiter {
	struct list link;
	struct fiber *f;
}; /* on the waiting fiber's stack */

void waitq_init(struct waitq *q)
{
	list_init(&q->waiters);
}

static void unhook(void *hook)
{
	list_remove(&((struct waiter *)hook)->link);
}

int waitq_wait(struct waitq *q, uint64_t until_ns)
{
	struct waiter w = { .f = fiber_self() };

	list_push(&q->waiters, &w.link);
	return fiber_park(until_ns, unhook, &w);
}

void waitq_wake_one(struct waitq *q)
{
	struct list *n = list_pop(&q->waiters);

	if (n != NULL)
		fiber_wake(container_of(n, struct waiter, link)->f, 0);
}

void waitq_wake_all(struct waitq *q)
{
	while (!waitq_empty(q))
		waitq_wake_one(q);
}

/* The lock is handed over by fiber_unlock(): nobody can overtake the one who waits longest. */
void fiber_lock_init(struct fiber_lock *m)
{
	m->holder = NULL;
	waitq_init(&m->q);
}

int fiber_lock(struct fiber_lock *m, uint64_t until_ns)
{
	struct fiber *f = loop_running();
	int rc;

	check(m->holder != f);
	if (m->holder == NULL) {
		check(waitq_empty(&m->q));
		m->holder = f;
		return 0;
	}
	rc = waitq_wait(&m->q, until_ns);
	if (rc == 0)
		check(m->holder == f);
	return rc;
}

void fiber_unlock(struct fiber_lock *m)
{
	check(m->holder == fiber_self());
	m->holder = NULL;
	if (!waitq_empty(&m->q)) {
		m->holder = container_of(m->q.waiters.next, struct waiter, link)->f;
		waitq_wake_one(&m->q);
	}
}

bool fiber_lock_held(const struct fiber_lock *m)
{
	return m->holder == fiber_self();
}
