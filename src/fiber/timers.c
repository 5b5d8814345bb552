/* SPDX-License-Identifier: Apache-2.0 */
/* A binary heap of (due, seq): see (I3) and (I4) in own.h. */
#include "base/check.h"
#include "fiber/own.h"

static bool before(const struct timer *a, const struct timer *b)
{
	return a->due < b->due || (a->due == b->due && a->seq < b->seq);
}

static void place(struct loop *l, uint32_t i, struct timer t)
{
	l->timers[i] = t;
	t.f->timer = i + 1;
}

static void sift_up(struct loop *l, uint32_t i, struct timer t)
{
	while (i > 0) {
		uint32_t up = (i - 1) / 2;

		if (!before(&t, &l->timers[up]))
			break;
		place(l, i, l->timers[up]);
		i = up;
	}
	place(l, i, t);
}

static void sift_down(struct loop *l, uint32_t i, struct timer t)
{
	for (;;) {
		uint32_t kid = 2 * i + 1;

		if (kid >= l->n_timers)
			break;
		if (kid + 1 < l->n_timers && before(&l->timers[kid + 1], &l->timers[kid]))
			kid++;
		if (!before(&l->timers[kid], &t))
			break;
		place(l, i, l->timers[kid]);
		i = kid;
	}
	place(l, i, t);
}

void timer_set(struct loop *l, struct fiber *f)
{
	struct timer t = { f->due, f->seq, f };

	check(f->due != FOREVER);
	if (f->timer == 0) {
		check(l->n_timers < l->fibers_max);
		sift_up(l, l->n_timers++, t);
	} else if (before(&t, &l->timers[f->timer - 1])) {
		sift_up(l, f->timer - 1, t);
	}
}

void timer_drop(struct loop *l, struct fiber *f)
{
	uint32_t i = f->timer - 1;
	struct timer last;

	if (f->timer == 0)
		return;
	check(i < l->n_timers);
	check(l->timers[i].f == f);
	f->timer = 0;
	last = l->timers[--l->n_timers];
	if (last.f == f)
		return;
	if (i > 0 && before(&last, &l->timers[(i - 1) / 2]))
		sift_up(l, i, last);
	else
		sift_down(l, i, last);
}

struct fiber *timer_top(struct loop *l)
{
	while (l->n_timers > 0) {
		struct timer *top = &l->timers[0];
		struct fiber *f = top->f;

		audit(f->timer == 1);
		if (f->state != FIBER_PARKED || f->due == FOREVER) {
			timer_drop(l, f);
		} else if (top->due != f->due || top->seq != f->seq) {
			check(top->due <= f->due);
			sift_down(l, 0, (struct timer){ f->due, f->seq, f });
		} else {
			return f;
		}
	}
	return NULL;
}
