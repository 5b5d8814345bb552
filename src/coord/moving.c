/* SPDX-License-Identifier: Apache-2.0 */
/* (V1) While it moves nobody is inside of either store: what was read or swapped before is in the
 *      copy, and nothing comes after it.
 * (V2) A key's revision is higher behind the move than before it.
 * (V3) The copy is complete before the file is marked, and nobody else knows of it earlier: a crash
 *      in between leaves the file in charge, which leads under a higher epoch, and the next try
 *      writes over the copy. */
#include "coord/moving.h"
#include "base/check.h"
#include "coord/embedded.h"
#include "coord/own.h"
#include "coord/roll.h"
#include <stdio.h>
#include <stdlib.h>

struct moving {
	struct coord c; /* first */
	struct coord *at;
	struct group hints;
	struct waitq q; /* for the end of the move, and for the last one inside */
	uint32_t n_inside;
	bool moves;
};

static struct moving *moving_of(struct coord *c)
{
	return container_of(c, struct moving, c);
}

/* ---- calls ---- */
PARKS static int enter(struct moving *m, uint64_t until_ns, struct err_note *note)
{
	while (m->moves) { /* (V1) */
		int rc = waitq_wait(&m->q, until_ns);

		if (rc < 0)
			return err_set(note, rc, "the store is being moved");
	}
	m->n_inside++;
	return 0;
}

static void leave(struct moving *m)
{
	check(m->n_inside > 0);
	if (--m->n_inside == 0)
		waitq_wake_all(&m->q);
}

PARKS static int moving_get(
	struct coord *c, uint64_t until_ns, struct coord_item *it, struct err_note *note)
{
	struct moving *m = moving_of(c);
	int rc = enter(m, until_ns, note);

	if (rc < 0)
		return rc;
	rc = m->at->ops->get(m->at, until_ns, it, note);
	leave(m);
	return rc;
}

PARKS static int moving_swap(struct coord *c, uint64_t expected, uint64_t until_ns,
	struct coord_item *it, struct err_note *note)
{
	struct moving *m = moving_of(c);
	int rc = enter(m, until_ns, note);

	if (rc < 0)
		return rc;
	rc = m->at->ops->swap(m->at, expected, until_ns, it, note);
	leave(m);
	return rc;
}

PARKS static int moving_list(struct coord *c, const char *prefix, uint64_t until_ns,
	coord_each_fn *each, void *arg, struct err_note *note)
{
	struct moving *m = moving_of(c);
	int rc = enter(m, until_ns, note);

	if (rc < 0)
		return rc;
	rc = m->at->ops->list(m->at, prefix, until_ns, each, arg, note);
	leave(m);
	return rc;
}

/* ---- hints ---- */
PARKS static int pass_hints(void *arg)
{
	struct moving *m = arg;
	uint64_t seen = 0;
	int rc;

	while ((rc = coord_wait(m->at, &seen, FOREVER)) == 0)
		coord_changed(&m->c);
	return rc;
}

static int hints_start(struct moving *m, struct err_note *note)
{
	int rc = fiber_start(&m->hints, "coord hints", pass_hints, m);

	return rc < 0 ? err_set(note, rc, "watch a store: %s", err_text(rc)) : 0;
}

PARKS static void hints_stop(struct moving *m)
{
	group_cancel(&m->hints);
	(void)group_wait(&m->hints);
	group_init(&m->hints, sys_loop(m->c.sys));
	m->hints.keep_going = true;
}

/* ---- the move ---- */
struct copy {
	struct coord_item *items;
	uint32_t n;
};

static int copy_one(void *arg, const struct coord_item *it)
{
	struct copy *k = arg;

	check(k->n < ROLL_ITEMS_MAX);
	k->items[k->n++] = *it;
	return 0;
}

/* Again and again, until its revision is above the one that it had (V2). */
PARKS static int carry(
	struct coord *to, const struct coord_item *from, uint64_t until_ns, struct err_note *note)
{
	struct coord_item *it = malloc(sizeof *it);
	int rc;

	if (it == NULL)
		return err_set(note, E_NOMEM, "%s", err_text(E_NOMEM));
	*it = *from;
	it->revision = 0;
	rc = to->ops->get(to, until_ns, it, note);
	while (rc == 0 && (it->revision <= from->revision || strcmp(it->text, from->text) != 0)) {
		uint64_t expected = it->revision;

		memcpy(it->text, from->text, sizeof it->text);
		rc = to->ops->swap(to, expected, until_ns, it, note);
		if (rc == E_UNKNOWN) /* whoever reads sees it, or it will fail: both do no harm */
			rc = to->ops->get(to, until_ns, it, note);
		else if (rc == E_CONFLICT) /* by such a late one */
			rc = 0;
	}
	free(it);
	return rc;
}

PARKS static int carry_all(
	struct moving *m, struct coord *to, uint64_t until_ns, struct err_note *note)
{
	struct copy k = { calloc(ROLL_ITEMS_MAX, sizeof *k.items), 0 };
	int rc = k.items == NULL
			 ? err_set(note, E_NOMEM, "%s", err_text(E_NOMEM))
			 : m->at->ops->list(m->at, "", until_ns, copy_one, &k, note);

	for (uint32_t i = 0; rc == 0 && i < k.n; i++)
		rc = carry(to, &k.items[i], until_ns, note);
	free(k.items);
	return rc;
}

int coord_moving_to(struct coord *c, struct coord *to, const char *url, uint64_t until_ns,
	struct err_note *note)
{
	struct moving *m = moving_of(c);
	struct coord *was = m->at;
	int rc = 0;

	check(!m->moves);
	check(to != was);
	m->moves = true;
	fiber_shield(until_ns);
	while (rc == 0 && m->n_inside > 0)
		rc = waitq_wait(&m->q, until_ns);
	if (rc == 0)
		rc = carry_all(m, to, until_ns, note);
	if (rc == 0)
		rc = coord_embedded_move(was, url, note); /* (V3) */
	if (rc == 0) {
		hints_stop(m);
		m->at = to;
		coord_close(was);
		if (hints_start(m, note) < 0)
			sys_log(c->sys, note->text); /* slower, and right all the same */
	}
	fiber_unshield();
	m->moves = false;
	waitq_wake_all(&m->q);
	coord_changed(c);
	return rc;
}

struct coord *coord_moving_at(struct coord *c)
{
	return moving_of(c)->at;
}

/* ---- from start to end ---- */
PARKS static void moving_close(struct coord *c)
{
	struct moving *m = moving_of(c);

	check(!m->moves);
	check(m->n_inside == 0);
	hints_stop(m);
	coord_close(m->at);
	free(m);
}

static const struct coord_ops ops = {
	.get = moving_get,
	.swap = moving_swap,
	.list = moving_list,
	.wait = coord_wait_queue,
	.close = moving_close,
};

int coord_moving_new(
	struct sys *s, struct coord *at, struct coord **ret_c, struct err_note *note)
{
	struct moving *m = calloc(1, sizeof *m);
	int rc;

	if (m == NULL)
		return err_set(note, E_NOMEM, "%s", err_text(E_NOMEM));
	coord_init(&m->c, s, &ops);
	waitq_init(&m->q);
	m->at = at;
	group_init(&m->hints, sys_loop(s));
	m->hints.keep_going = true;
	rc = hints_start(m, note);
	if (rc < 0)
		free(m);
	else
		*ret_c = &m->c;
	return rc;
}
