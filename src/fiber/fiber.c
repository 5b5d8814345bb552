/* SPDX-License-Identifier: Apache-2.0 */
/* Parking, waking, cancelling. */
#include "base/check.h"
#include "base/err.h"
#include "fiber/own.h"

static uint64_t shield_end(const struct fiber *f)
{
	return f->forever_from > 0 ? FOREVER : f->shield_until_ns;
}

bool fiber_shielded(const struct fiber *f)
{
	return f->n_shield > 0 && f->loop->now_ns < shield_end(f);
}

/* A cancelled fiber behind a shield waits for its end at the latest. */
static void cut(struct fiber *f)
{
	if (shield_end(f) < f->due) {
		f->due = shield_end(f);
		f->cut = true;
	}
}

void fiber_park_as(struct fiber *f, uint64_t until_ns)
{
	struct loop *l = f->loop;

	f->due = until_ns;
	f->cut = false;
	if (f->canceled && !f->deaf && fiber_shielded(f))
		cut(f);
	f->seq = l->seq++;
	f->parked_ns = l->now_ns;
	if (f->due != FOREVER)
		timer_set(l, f);
	f->state = FIBER_PARKED;
	loop_switch(f);
	check(f->state == FIBER_RUNNING);
}

/* A fiber that goes on parking after it was cancelled never lets anybody else run. */
static void refused(struct fiber *f) { check(++f->n_refused < FIBER_REFUSED_MAX); }

int fiber_park(uint64_t until_ns, void (*unhook)(void *hook), void *hook)
{
	struct fiber *f = loop_running();

	if (f->canceled && !fiber_shielded(f)) {
		refused(f);
		if (unhook != NULL)
			unhook(hook);
		return E_CANCELED;
	}
	f->unhook = unhook;
	f->hook = hook;
	fiber_park_as(f, until_ns);
	return f->rc;
}

int fiber_park_deaf(void)
{
	struct fiber *f = loop_running();

	f->deaf = true;
	fiber_park_as(f, FOREVER);
	f->deaf = false;
	return f->rc;
}

bool fiber_canceled(void)
{
	const struct fiber *f = fiber_self();

	return f->canceled && !fiber_shielded(f);
}

void fiber_wake(struct fiber *f, int rc)
{
	check(f->state == FIBER_PARKED);
	check(f->waits_for == NULL);
	f->rc = rc;
	loop_queue(f);
}

static void end_park(struct fiber *f, int rc)
{
	check(f->state == FIBER_PARKED);
	if (f->unhook != NULL)
		f->unhook(f->hook);
	check(f->state == FIBER_PARKED);
	f->rc = rc;
	loop_queue(f);
}

void loop_expire(struct fiber *f)
{
	if (f->waits_for == NULL) {
		end_park(f, f->cut ? E_CANCELED : E_TIMEOUT);
		return;
	}
	check(f->cut); /* a group is waited for without a deadline: this is the end of a shield */
	f->due = FOREVER;
	group_cancel(f->waits_for);
}

void fiber_cancel(struct fiber *f)
{
	check(f->state != FIBER_FREE);
	if (f->canceled)
		return;
	f->canceled = true;
	if (f->state != FIBER_PARKED || f->deaf)
		return;
	if (fiber_shielded(f)) {
		cut(f);
		if (f->due != FOREVER)
			timer_set(f->loop, f);
	} else if (f->waits_for != NULL) {
		group_cancel(f->waits_for);
	} else {
		end_park(f, E_CANCELED);
	}
}

void fiber_shield(uint64_t until_ns)
{
	struct fiber *f = fiber_self();

	check(f->n_shield < UINT16_MAX);
	if (f->n_shield++ == 0)
		f->shield_until_ns = until_ns;
	if (until_ns == FOREVER && f->forever_from == 0)
		f->forever_from = f->n_shield;
}

void fiber_unshield(void)
{
	struct fiber *f = fiber_self();

	check(f->n_shield > 0);
	if (f->n_shield-- == f->forever_from)
		f->forever_from = 0;
}

int fiber_sleep(uint64_t until_ns)
{
	int rc = fiber_park(until_ns, NULL, NULL);

	check(rc == E_TIMEOUT || rc == E_CANCELED);
	return rc == E_TIMEOUT ? 0 : rc;
}

static int queue_behind(bool late)
{
	struct fiber *f = loop_running();

	if (f->canceled && !fiber_shielded(f)) {
		refused(f);
		return E_CANCELED;
	}
	f->parked_ns = f->loop->now_ns;
	if (late) {
		f->state = FIBER_LATE;
		list_push(&f->loop->late, &f->link);
	} else {
		loop_queue(f);
	}
	loop_switch(f);
	check(f->state == FIBER_RUNNING);
	return f->canceled && !fiber_shielded(f) ? E_CANCELED : 0;
}

int fiber_yield(void)
{
	return queue_behind(false);
}
int fiber_late(void)
{
	return queue_behind(true);
}
