/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated store.  A question is put into a list with the moment of its arrival; whoever looks
 * at the store next first applies everything that has arrived by now, in the order of arrival.  So
 * what was asked happens at its moment whether the asker still lives or not, and no event of the
 * world is needed for it.
 *
 * (C1) Nodes touch the store, never each other: an asker only sleeps on its own loop.
 * (C2) A question is applied once, at or after the moment it was asked. */
#include "coord/coord_sim.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/list.h"
#include "coord/roll.h"
#include <stdio.h>
#include <stdlib.h>

enum {
	STREAM_COORD = 0x636f6f7264, /* forked from the seed */
	CUT_MAX = SIM_NODES_MAX,
	NODE_NAME_BYTES = 32,
	HINT_LOOK_MAX_MS = 40, /* a waiting fiber looks at least that often */
};

const struct coord_sim_faults coord_sim_quiet = { .delay_min_ns = 100 * SYS_US,
	.delay_max_ns = 1 * SYS_MS };
const struct coord_sim_faults coord_sim_rough = {
	.delay_min_ns = 100 * SYS_US,
	.delay_max_ns = 20 * SYS_MS,
	.question_lost_ppm = 50000,
	.answer_lost_ppm = 50000,
	.refused_ppm = 30000,
	.broken_ppm = 50000,
	.late_ppm = 50000,
	.late_max_ns = 3 * SYS_SEC,
	.hint_lost_ppm = 100000,
	.down_ppm = 2000,
	.down_max_ns = 2 * SYS_SEC,
};

struct question {
	struct list link;    /* by arrival, then as they were asked */
	uint64_t arrival_ns; /* of the world */
	bool swap, listing;
	uint64_t expected;
	struct coord_item it; /* in and out; of a listing the key is the prefix */
	struct roll *copy;    /* of a listing */
	int rc;
	bool applied, left; /* left: the asker has gone, and whoever applies it frees it */
};

struct coord_sim {
	struct sim *w;
	struct coord_sim_faults faults;
	struct prng prng;
	struct roll *roll;
	struct list questions;
	uint64_t down_until_ns, n_changes, n_hinted;
	uint32_t n_cut, n_open;
	char cut[CUT_MAX][NODE_NAME_BYTES];
	struct coord_sim_counts counts;
};

struct way {            /* of one node */
	struct coord c; /* first */
	struct coord_sim *cs;
	char name[NODE_NAME_BYTES];
};

static bool odds(struct coord_sim *cs, uint32_t ppm)
{
	return ppm > 0 && prng_odds(&cs->prng, ppm, 1000000);
}

static uint64_t between(struct coord_sim *cs, uint64_t min, uint64_t max)
{
	return max > min ? min + prng_below(&cs->prng, max - min + 1) : min;
}

static bool is_cut(const struct coord_sim *cs, const char *name)
{
	for (uint32_t i = 0; i < cs->n_cut; i++)
		if (strcmp(cs->cut[i], name) == 0)
			return true;
	return false;
}

/* ---- the store ---- */
static void apply(struct coord_sim *cs, struct question *q)
{
	check(!q->applied);
	q->applied = true;
	if (q->swap) {
		q->rc = roll_swap(cs->roll, q->expected, &q->it);
		cs->counts.swaps_done += q->rc == 0;
		cs->counts.swaps_refused += q->rc == E_CONFLICT;
		cs->counts.applied_unheard += q->rc == 0 && q->left;
		if (q->rc == 0) {
			cs->n_changes++;
			if (!odds(cs, cs->faults.hint_lost_ppm))
				cs->n_hinted = cs->n_changes;
		}
	} else if (q->listing) {
		if (!q->left)
			memcpy(q->copy, cs->roll, sizeof *q->copy);
	} else {
		const struct coord_item *at = roll_find(cs->roll, q->it.key);

		if (at != NULL)
			q->it = *at;
	}
}

static void question_free(struct question *q)
{
	free(q->copy);
	free(q);
}

/* Everything that has arrived by now happens. */
static void catch_up(struct coord_sim *cs)
{
	uint64_t now = sim_now_ns(cs->w);

	list_each_safe (it, &cs->questions) {
		struct question *q = container_of(it, struct question, link);

		if (q->arrival_ns > now)
			return;
		list_remove(&q->link);
		apply(cs, q);
		if (q->left)
			question_free(q);
	}
}

/* When it arrives; FOREVER: never. */
static uint64_t arrival(struct coord_sim *cs, const char *from)
{
	uint64_t now = sim_now_ns(cs->w);
	uint64_t at = now + between(cs, cs->faults.delay_min_ns, cs->faults.delay_max_ns);

	if (odds(cs, cs->faults.late_ppm))
		at += between(cs, 0, cs->faults.late_max_ns);
	if (odds(cs, cs->faults.question_lost_ppm) || is_cut(cs, from))
		return FOREVER;
	if (now >= cs->down_until_ns && odds(cs, cs->faults.down_ppm)) {
		cs->counts.stops++;
		cs->down_until_ns = now + between(cs, 0, cs->faults.down_max_ns);
	}
	if (at < cs->down_until_ns) { /* a stopped process still has what its kernel received */
		if (odds(cs, 500000))
			return FOREVER;
		at = cs->down_until_ns + between(cs, 0, cs->faults.delay_max_ns);
	}
	return at;
}

static void put(struct coord_sim *cs, struct question *q)
{
	struct list *before = cs->questions.prev;

	while (before != &cs->questions &&
		container_of(before, struct question, link)->arrival_ns > q->arrival_ns)
		before = before->prev;
	list_push(before->next, &q->link);
}

/* ---- asking ---- */
/* Sleeps until the answer is there: 0, or how the question ended instead. */
PARKS static int wait_answer(struct way *y, struct question *q, uint64_t until_ns)
{
	struct coord_sim *cs = y->cs;
	bool answer_lost = odds(cs, cs->faults.answer_lost_ppm);
	bool broken = odds(cs, cs->faults.broken_ppm);
	uint64_t back = between(cs, cs->faults.delay_min_ns, cs->faults.delay_max_ns);
	uint64_t takes = q->arrival_ns - sim_now_ns(cs->w), due;
	int rc;

	if (broken) { /* before or after it arrives */
		due = sys_after(y->c.sys, between(cs, 0, cs->faults.delay_max_ns));
		rc = fiber_sleep(due < until_ns ? due : until_ns);
		return rc < 0 ? rc : E_UNAVAILABLE;
	}
	if (q->arrival_ns == FOREVER || answer_lost || takes > FOREVER / 4)
		due = until_ns;
	else
		due = sys_after(y->c.sys, takes + back);
	rc = fiber_sleep(due < until_ns ? due : until_ns);
	if (rc < 0)
		return rc;
	catch_up(cs);
	if (due >= until_ns)
		return E_TIMEOUT;
	return !q->applied || is_cut(cs, y->name) || sim_now_ns(cs->w) < cs->down_until_ns
		       ? E_UNAVAILABLE
		       : 0;
}

/* Asks a question, which is the store's from now on unless it was applied: 0, and the caller frees
 * it; otherwise it is gone, and *ret_sent says whether it had left. */
PARKS static int ask(struct coord *c, struct question *q, uint64_t until_ns, bool *ret_sent)
{
	struct way *y = container_of(c, struct way, c);
	struct coord_sim *cs = y->cs;
	int rc;

	*ret_sent = false;
	catch_up(cs);
	cs->counts.questions++;
	/* A process that unwinds goes through its time alone, and takes the others for silent. */
	if (sim_dead(c->sys) || fiber_canceled() || odds(cs, cs->faults.refused_ppm)) {
		question_free(q);
		return sim_dead(c->sys) || fiber_canceled() ? E_CANCELED : E_UNAVAILABLE;
	}
	*ret_sent = true;
	q->arrival_ns = arrival(cs, y->name);
	put(cs, q);
	rc = wait_answer(y, q, until_ns);
	if (rc == 0)
		return 0;
	if (q->applied) {
		question_free(q);
	} else {
		q->left = true;
		if (q->arrival_ns == FOREVER) {
			list_remove(&q->link);
			question_free(q);
		}
	}
	return rc;
}

static struct question *question_new(const struct coord_item *it)
{
	struct question *q = calloc(1, sizeof *q);

	check(q != NULL);
	q->it = *it;
	return q;
}

static int said(struct err_note *note, int rc, const char *key)
{
	return err_set(note, rc, "%s in the simulated store: %s", key, err_text(rc));
}

PARKS static int sim_get(
	struct coord *c, uint64_t until_ns, struct coord_item *it, struct err_note *note)
{
	struct question *q = question_new(it);
	bool sent;
	int rc = ask(c, q, until_ns, &sent);

	if (rc < 0)
		return said(note, rc, it->key);
	*it = q->it;
	question_free(q);
	return 0;
}

PARKS static int sim_swap(struct coord *c, uint64_t expected, uint64_t until_ns,
	struct coord_item *it, struct err_note *note)
{
	struct coord_sim *cs = container_of(c, struct way, c)->cs;
	struct question *q = question_new(it);
	bool sent;
	int rc;

	q->swap = true;
	q->expected = expected;
	rc = ask(c, q, until_ns, &sent);
	if (rc < 0) {
		if (sent && rc != E_CANCELED)
			rc = E_UNKNOWN;
		cs->counts.unknown += rc == E_UNKNOWN;
		return said(note, rc, it->key);
	}
	rc = q->rc;
	*it = q->it;
	question_free(q);
	return rc < 0 ? said(note, rc, it->key) : 0;
}

PARKS static int sim_list(struct coord *c, const char *prefix, uint64_t until_ns,
	coord_each_fn *each, void *arg, struct err_note *note)
{
	struct question *q = calloc(1, sizeof *q);
	bool sent;
	int rc;

	check(q != NULL);
	q->listing = true;
	q->copy = calloc(1, sizeof *q->copy);
	check(q->copy != NULL);
	rc = ask(c, q, until_ns, &sent);
	if (rc < 0)
		return said(note, rc, prefix);
	for (uint32_t i = 0; rc == 0 && i < q->copy->n_items; i++)
		if (strncmp(q->copy->items[i].key, prefix, strlen(prefix)) == 0)
			rc = each(arg, &q->copy->items[i]);
	question_free(q);
	return rc;
}

/* The fiber of another node must not be woken from here (C1), so whoever waits looks again. */
PARKS static int sim_wait(struct coord *c, uint64_t *seen, uint64_t until_ns)
{
	struct way *y = container_of(c, struct way, c);
	struct coord_sim *cs = y->cs;

	for (;;) {
		uint64_t pause, at;
		int rc;

		catch_up(cs);
		if (*seen != cs->n_hinted && !is_cut(cs, y->name)) {
			*seen = cs->n_hinted;
			return 0;
		}
		if (sys_now_ns(c->sys) >= until_ns)
			return E_TIMEOUT;
		pause = between(cs, SYS_MS, HINT_LOOK_MAX_MS * SYS_MS);
		at = sys_after(c->sys, pause);
		rc = fiber_sleep(at < until_ns ? at : until_ns);
		if (rc < 0)
			return rc;
	}
}

static void sim_close(struct coord *c)
{
	struct way *y = container_of(c, struct way, c);

	check(y->cs->n_open > 0);
	y->cs->n_open--;
	free(y);
}

static const struct coord_ops ops = {
	.get = sim_get,
	.swap = sim_swap,
	.list = sim_list,
	.wait = sim_wait,
	.close = sim_close,
};

int coord_sim_open(struct coord_sim *cs, struct sys *s, const char *node_name, struct coord **ret_c,
	struct err_note *note)
{
	struct way *y = calloc(1, sizeof *y);
	int n;

	check(y != NULL);
	n = snprintf(y->name, sizeof y->name, "%s", node_name);
	check(n < (int)NODE_NAME_BYTES);
	coord_init(&y->c, s, &ops);
	y->cs = cs;
	cs->n_open++;
	*ret_c = &y->c;
	return 0;
}

/* ---- for the test ---- */
struct coord_sim *coord_sim_new(struct sim *w, uint64_t seed, const struct coord_sim_faults *f)
{
	struct coord_sim *cs = calloc(1, sizeof *cs);

	check(cs != NULL);
	cs->roll = calloc(1, sizeof *cs->roll);
	check(cs->roll != NULL);
	cs->w = w;
	cs->faults = *f;
	cs->prng = prng_fork(seed, STREAM_COORD);
	cs->n_changes = cs->n_hinted = 1;
	list_init(&cs->questions);
	return cs;
}

void coord_sim_free(struct coord_sim *cs)
{
	check(cs->n_open == 0);
	list_each_safe (it, &cs->questions)
		question_free(container_of(it, struct question, link));
	free(cs->roll);
	free(cs);
}

void coord_sim_faults_set(struct coord_sim *cs, const struct coord_sim_faults *f)
{
	cs->faults = *f;
}

void coord_sim_stop(struct coord_sim *cs, uint64_t until_ns)
{
	catch_up(cs);
	cs->counts.stops++;
	if (until_ns > cs->down_until_ns)
		cs->down_until_ns = until_ns;
	/* what was under way arrives at a stopped process */
	list_each (it, &cs->questions) {
		struct question *q = container_of(it, struct question, link);

		if (q->arrival_ns < cs->down_until_ns)
			q->arrival_ns = cs->down_until_ns;
	}
}

void coord_sim_cut(struct coord_sim *cs, const char *node_name, bool cut)
{
	uint32_t i = 0;

	while (i < cs->n_cut && strcmp(cs->cut[i], node_name) != 0)
		i++;
	if (cut && i == cs->n_cut) {
		check(cs->n_cut < CUT_MAX);
		snprintf(cs->cut[cs->n_cut++], NODE_NAME_BYTES, "%s", node_name);
	} else if (!cut && i < cs->n_cut) {
		memcpy(cs->cut[i], cs->cut[--cs->n_cut], NODE_NAME_BYTES);
	}
}

uint64_t coord_sim_sum(const struct coord_sim *cs)
{
	uint64_t sum = hash64(cs->roll->revision, cs->prng.s, sizeof cs->prng.s);

	for (uint32_t i = 0; i < cs->roll->n_items; i++) {
		const struct coord_item *it = &cs->roll->items[i];

		sum = hash64(sum ^ it->revision, it->key, strlen(it->key));
		sum = hash64(sum, it->text, strlen(it->text));
	}
	return sum;
}

struct coord_sim_counts coord_sim_counts(const struct coord_sim *cs)
{
	return cs->counts;
}
