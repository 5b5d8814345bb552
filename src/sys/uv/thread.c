/* SPDX-License-Identifier: Apache-2.0 */
/* A second loop on its own thread.  The two meet in four places only: the start of the thread, the
 * knock at the child's loop (stop), the knock at the owner's (ended), and the join. */
#include "base/check.h"
#include "sys/uv/own.h"
#include "sys/uv/sys_uv.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct sys_thread {
	struct sys *owner, *child;
	uv_thread_t thread;
	uv_async_t ended;
	bool has_ended; /* the owner's side of it */
	struct fiber *waiter;
	sys_thread_fn *fn;
	void *arg;
	int rc;
	char name[16];
};

static int child_main(void *arg)
{
	struct sys_thread *t = arg;

	return t->fn(t->child, t->arg);
}

static void thread_main(void *arg)
{
	struct sys_thread *t = arg;

	pthread_setname_np(pthread_self(), t->name);
	t->rc = sys_uv_run(t->child, t->name, child_main, t);
	check(uv_async_send(&t->ended) == 0);
}

static void on_ended(uv_async_t *h)
{
	struct sys_thread *t = h->data;

	t->has_ended = true;
	if (t->waiter != NULL)
		fiber_wake(t->waiter, 0);
	t->waiter = NULL;
}

static void on_closed(uv_handle_t *h)
{
	free(h->data);
}

int sys_uv_thread(struct sys *s, const char *name, sys_thread_fn *main_fn, void *arg,
	struct sys_thread **ret_t, struct err_note *note)
{
	struct sys_thread *t = calloc(1, sizeof *t);
	int rc;

	if (t == NULL)
		return err_set(note, E_NOMEM, "start thread %s: %s", name, err_text(E_NOMEM));
	rc = sys_uv_new(&t->child, note);
	if (rc < 0) {
		free(t);
		return err_wrap(note, rc, "start thread %s", name);
	}
	t->owner = s;
	t->fn = main_fn;
	t->arg = arg;
	snprintf(t->name, sizeof t->name, "%s", name);
	check(uv_async_init(&s->uv, &t->ended, on_ended) ==
		0); /* the loop has its eventfd already */
	t->ended.data = t;
	rc = uv_thread_create(&t->thread, thread_main, t);
	if (rc < 0) {
		sys_uv_free(t->child);
		uv_close((uv_handle_t *)&t->ended, on_closed);
		return err_set(note, sys_err(-rc), "start thread %s: %s", name, sys_err_words(-rc));
	}
	*ret_t = t;
	return 0;
}

void sys_uv_thread_stop(struct sys_thread *t)
{
	atomic_store(&t->child->stop, true);
	check(uv_async_send(&t->child->knock) == 0); /* freed by the join only */
}

static void leave(void *hook)
{
	((struct sys_thread *)hook)->waiter = NULL;
}

int sys_uv_thread_join(struct sys_thread *t, int *ret_rc)
{
	check(t->waiter == NULL);
	if (!t->has_ended) {
		t->waiter = fiber_self();
		if (fiber_park(FOREVER, leave, t) < 0) {
			/* as with children of a group: cancelling the waiter cancels them, and it
			 * still waits for their end */
			sys_uv_thread_stop(t);
			t->waiter = fiber_self();
			if (!t->has_ended)
				fiber_park_deaf();
			t->waiter = NULL;
		}
	}
	check(t->has_ended);
	check(uv_thread_join(&t->thread) == 0);
	*ret_rc = t->rc;
	sys_uv_free(t->child);
	uv_close((uv_handle_t *)&t->ended, on_closed);
	return 0;
}
