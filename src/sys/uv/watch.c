/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"
#include "sys/uv/own.h"

struct waiter { /* on the waiting fiber's stack */
	struct list link;
	struct fiber *f;
};

static void on_poll(uv_poll_t *h, int status, int events);

int watch_init(struct watch *w, struct sys *s, int fd)
{
	int rc = uv_poll_init(&s->uv, &w->poll, fd);

	if (rc < 0)
		return sys_err(-rc);
	list_init(&w->readers);
	list_init(&w->writers);
	w->armed = 0;
	w->readable = false;
	return 0;
}

static int arm(struct watch *w, int events)
{
	int rc;

	if (w->armed == events)
		return 0;
	rc = events == 0 ? uv_poll_stop(&w->poll) : uv_poll_start(&w->poll, events, on_poll);
	if (rc < 0)
		return sys_err(-rc);
	w->armed = events;
	return 0;
}

static bool wake_one(struct list *waiters, int rc)
{
	struct list *n = list_pop(waiters);

	if (n == NULL)
		return false;
	fiber_wake(container_of(n, struct waiter, link)->f, rc);
	return true;
}

void watch_wake(struct watch *w, int rc)
{
	while (wake_one(&w->readers, rc) || wake_one(&w->writers, rc))
		;
}

static void on_poll(uv_poll_t *h, int status, int events)
{
	struct watch *w = container_of(h, struct watch, poll);
	int unwanted = 0;

	if (status < 0) {
		/* an error on the descriptor, which libuv does not watch any more: the next call
		 * on it names the error */
		w->armed = 0;
		w->readable = true;
		watch_wake(w, 0);
		return;
	}
	if ((events & UV_READABLE) && !wake_one(&w->readers, 0)) {
		w->readable = true;
		unwanted |= UV_READABLE;
	}
	if ((events & UV_WRITABLE) && !wake_one(&w->writers, 0))
		unwanted |= UV_WRITABLE;
	if (unwanted != 0)
		check(arm(w, w->armed & ~unwanted) == 0);
}

static void unhook(void *hook)
{
	list_remove(&((struct waiter *)hook)->link);
}

int watch_wait(struct watch *w, int event, uint64_t until_ns)
{
	struct waiter me = { .f = fiber_self() };
	int rc = arm(w, w->armed | event);

	if (rc < 0)
		return rc;
	list_push(event == UV_READABLE ? &w->readers : &w->writers, &me.link);
	return fiber_park(until_ns, unhook, &me);
}

void watch_close(struct watch *w, uv_close_cb done)
{
	check(list_empty(&w->readers));
	check(list_empty(&w->writers));
	uv_close((uv_handle_t *)&w->poll, done);
}
