/* SPDX-License-Identifier: Apache-2.0 */
/* small: objects that live with the metadata, put, got, listed and deleted by clients on several
 * machines while everything that can fail does.
 *
 * Each worker owns a few keys (ledger.h) and reads those of all.  Together they race to put new
 * keys, count by conditional puts, and hand items to one another by delete-on-read.  Afterwards a
 * judge looks at every key, lists, takes what is left of the items and deletes everything.
 *
 * (S1) ledger.h's rules; (S2) a race has one winner, and everybody reads its value; (S3) no version
 * of a counter is replaced twice; (S4) an item is got once, and then is gone; one that nobody can
 * have got is there; (S5) a listing has each name once, in order, and exactly those that there are;
 * (S6) what was deleted leaves nothing.  The history says S2 to S4 (linear.h). */
#include "sim/small.h"
#include "base/check.h"
#include "base/limit.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	ROUNDS = 14,
	STEPS_MAX = 60,
	RACES_MAX = 64,
	COUNTERS = 2,
	COUNTER_CLAIMS = 500,
	VALUE_BYTES_MAX = LIMIT_INLINE_BYTES_MAX,
	RACE_WHAT = LOAD_WHAT, /* stamps of values */
	COUNT_WHAT = 2 * LOAD_WHAT,
};
struct small {
	struct load load;       /* first: the workers' own */
	struct cluster *cl;
	uint32_t n_races, race_asked; /* race_asked: of the last one */
	uint64_t claims;        /* to tell one put of a race or counter from another */
};

static struct small *small_of(const struct worker *w) { return w->mine; }

static uint32_t any_len(struct worker *w)
{
	static const uint32_t edges[] = { LEDGER_VALUE_MIN, 1000, 1001, VALUE_BYTES_MAX };
	uint64_t kind = prng_below(&w->p, 8), at = prng_below(&w->p, VALUE_BYTES_MAX);

	if (kind == 0)
		return edges[at % 4];
	if (kind == 1)
		return 0;
	at %= kind < 6 ? 300 : VALUE_BYTES_MAX - LEDGER_VALUE_MIN;
	return LEDGER_VALUE_MIN + (uint32_t)at;
}

/* Bytes put under a key of several writers say whose they are: the number of a claim. */
PARKS static int read_claim(struct worker *w, struct client *c, const char *name, uint64_t what,
	uint64_t until_ns, struct wadi_info *ret_info)
{
	struct ledger *l = w->cl->ledger;
	struct wadi_get_opts o = { 0 };
	struct wadi_info info = { 0 };
	uint8_t buf[64];
	uint64_t who = 0;
	size_t len;
	uint32_t asked = ledger_ask(l, KEPT, name, &(struct linear_op){ .kind = LINEAR_GET });
	int rc = client_get(c, KEPT, name, buf, sizeof buf, &o, until_ns, &len, &info, NULL);

	if (rc == 0 && !ledger_stamped(l, what, bytes_of(buf, len), &who))
		violation(w->cl->sc, "a read returns bytes that were put under its key", "%s",
			name);
	else
		ledger_told(l, asked, rc, who, info.version);
	if (rc == 0)
		*ret_info = info;
	return rc;
}

PARKS static int put_claim(struct worker *w, struct client *c, const char *name, uint64_t what,
	const struct wadi_put_opts *o, uint64_t until_ns)
{
	struct ledger *l = w->cl->ledger;
	struct linear_op op = { .kind = LINEAR_PUT,
		.durable = true,
		.value = ++small_of(w)->claims,
		.cond = o->flags == WADI_PUT_IF_ABSENT ? LINEAR_IF_ABSENT : LINEAR_IF_VERSION,
		.if_version = o->if_version };
	struct wadi_info info = { 0 };
	uint8_t buf[LEDGER_VALUE_MIN];
	uint32_t asked = ledger_ask(l, KEPT, name, &op);
	int rc;

	ledger_stamp(l, what, op.value, buf, sizeof buf);
	rc = client_put(c, KEPT, name, bytes_of(buf, sizeof buf), o, until_ns, &info, NULL);
	ledger_told(l, asked, rc, 0, info.version);
	if (rc == 0)
		ledger_version(l, info.version);
	return rc;
}

/* ---- (S2) races ---- */
PARKS static int race_read(struct worker *w, struct client *c, uint32_t i)
{
	struct wadi_info info;
	char name[24];

	snprintf(name, sizeof name, "r/%u", i);
	return read_claim(w, c, name, RACE_WHAT + i, worker_until(w), &info);
}

PARKS static int race_run(struct worker *w, struct client *c)
{
	struct small *m = small_of(w);
	struct wadi_put_opts o = { .flags = WADI_PUT_IF_ABSENT };
	uint64_t until_ns = worker_until(w);
	uint32_t i;
	char name[24];
	int rc;

	if (m->n_races == 0 || (m->n_races < RACES_MAX && prng_odds(&w->p, 1, 4)) ||
		m->race_asked > COUNTER_CLAIMS) {
		m->n_races++;
		m->race_asked = 0;
	}
	m->race_asked++;
	i = m->n_races - 1;
	if (prng_odds(&w->p, 1, 3))
		return race_read(w, c, (uint32_t)prng_below(&w->p, m->n_races));
	snprintf(name, sizeof name, "r/%u", i);
	rc = put_claim(w, c, name, RACE_WHAT + i, &o, until_ns);
	worker_in_time(w, until_ns, "race");
	return rc;
}

/* ---- (S3) counters ---- */
PARKS static int count(struct worker *w, struct client *c)
{
	uint64_t more = small_of(w)->claims / COUNTER_CLAIMS * COUNTERS; /* histories stay short */
	uint32_t i = (uint32_t)(prng_below(&w->p, COUNTERS) + more);
	struct wadi_put_opts o = { .flags = WADI_PUT_IF_ABSENT };
	uint64_t until_ns = worker_until(w);
	struct wadi_info info;
	char name[24];
	int rc;

	snprintf(name, sizeof name, "n/%u", i);
	rc = read_claim(w, c, name, COUNT_WHAT + i, until_ns, &info);
	if (rc < 0 && rc != E_NOTFOUND)
		return rc;
	if (rc == 0)
		o = (struct wadi_put_opts){ .flags = WADI_PUT_IF_VERSION,
			.if_version = info.version };
	return put_claim(w, c, name, COUNT_WHAT + i, &o, until_ns);
}

/* ---- work ---- */
PARKS static int work(struct worker *w, struct client *c)
{
	int rc = load_buckets(w, c);

	while (cluster_going(w) && rc != E_CANCELED) {
		uint64_t what = prng_below(&w->p, 16);

		if (what < 7)
			rc = load_change(w, c);
		else if (what < 11)
			rc = load_read(w, c);
		else if (what < 12)
			rc = race_run(w, c);
		else if (what < 13)
			rc = count(w, c);
		else
			rc = load_item(w, c);
		if (rc != E_CANCELED)
			rc = load_pause(w, load_of(w)->pause_ns_max);
	}
	return rc;
}

/* One that changes nothing waits for no commit, so it hears of an old primary's rows. */
PARKS static int only_read(struct worker *w, struct client *c)
{
	int rc = 0;

	while (cluster_going(w) && rc != E_CANCELED) {
		rc = load_read(w, c);
		if (rc != E_CANCELED)
			rc = load_pause(w, load_of(w)->pause_ns_max);
	}
	return rc;
}

/* ---- the judge ---- */
PARKS static int claims_check(struct worker *w, struct client *c)
{
	struct wadi_info info;
	uint32_t counters;
	char name[24];
	int rc = 0;

	for (uint32_t i = 0; i < small_of(w)->n_races && (rc == 0 || rc == E_NOTFOUND); i++)
		rc = race_read(w, c, i);
	counters = COUNTERS * (1 + (uint32_t)(small_of(w)->claims / COUNTER_CLAIMS));
	for (uint32_t i = 0; i < counters && (rc == 0 || rc == E_NOTFOUND); i++) {
		snprintf(name, sizeof name, "n/%u", i);
		rc = read_claim(w, c, name, COUNT_WHAT + i, sys_after(w->sys, JUDGE_NS), &info);
	}
	return rc == E_NOTFOUND ? 0 : rc;
}

PARKS int small_judge(struct worker *w, struct client *c)
{
	int rc = load_buckets(w, c);

	if (rc == 0)
		rc = judge_look(w, c);
	if (rc == 0)
		rc = claims_check(w, c);
	if (rc == 0)
		rc = judge_take_items(w, c);
	if (rc == 0)
		rc = judge_delete(w, c);
	cluster_judged(w->cl, rc);
	return rc;
}

static void misfortune(struct cluster *cl, void *mine) { cluster_misfortune(cl); }

struct small *small_new(struct cluster *cl, uint32_t (*len)(struct worker *w),
	uint32_t value_bytes_max)
{
	struct small *m = scenario_alloc(cl->sc, sizeof *m);

	m->cl = m->load.cl = cl;
	m->load.any_len = len != NULL ? len : any_len;
	m->load.value_bytes_max = value_bytes_max;
	m->load.pause_ns_max = 20 * SYS_MS;
	return m;
}

void small_readers(struct small *m, uint32_t n_workers)
{
	cluster_machine(m->cl, n_workers, only_read, m);
}

void small_hurry(struct small *m, uint64_t pause_ns_max)
{
	m->load.pause_ns_max = pause_ns_max;
}

void small_workers(struct small *m, uint32_t n_machines, uint32_t n_workers)
{
	for (uint32_t i = 0; i < n_machines; i++)
		cluster_machine(m->cl, n_workers, work, m);
	ledger_history(m->cl->ledger);
}

void scenario_small(struct scenario *sc)
{
	struct sim_faults f = scenario_swarm(sc);
	struct cluster *cl = cluster_new(sc, VALUE_BYTES_MAX);
	struct small *m = small_new(cl, NULL, VALUE_BYTES_MAX);

	f.disk_rot_ppm = 0; /* one copy cannot survive it */
	sim_faults_set(sc->w, &f);
	small_workers(m, 3, 3);
	cluster_start(cl);
	cluster_course(cl,
		&(struct course){ .rounds = ROUNDS,
			.steps_max = STEPS_MAX,
			.work_ns_max = 600 * SYS_MS,
			.misfortune = misfortune,
			.judge = small_judge,
			.mine = m,
			.judge_sec = 180,
			.empty_sec = 20 });
	ledger_judge(cl->ledger);
}
