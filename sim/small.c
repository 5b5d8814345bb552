/* SPDX-License-Identifier: Apache-2.0 */
/* small: objects that live with the metadata, put, got, listed and deleted by clients on several
 * machines while everything that can fail does.
 *
 * Each worker owns a few keys (ledger.h) and reads those of all.  Together they race to put new
 * keys, count by conditional puts, and hand items to one another by delete-on-read.  Afterwards a
 * judge looks at every key, lists, takes what is left of the items and deletes everything.
 *
 * (S1) ledger.h's rules; (S2) a race has one winner, and everybody reads its value; (S3) no number
 * of a counter is put twice, and the last is at least the count of those acknowledged; (S4) an item
 * is got once, and then is gone; one that nobody can have got is there; (S5) a listing has each
 * name once, in order, and exactly those that there are; (S6) what was deleted leaves nothing. */
#include "sim/load.h"
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
	COUNTS_MAX = 4096,
	VALUE_BYTES_MAX = LIMIT_INLINE_BYTES_MAX,
	RACE_WHAT = LOAD_WHAT, /* stamps of values */
	COUNT_WHAT = 2 * LOAD_WHAT,
};
struct race {
	uint64_t winner;        /* who was told so; 0: nobody yet */
	uint64_t seen;          /* by readers, in that era: unsynced before the winner is told */
	uint32_t seen_era;
};
struct counter {
	bool told[COUNTS_MAX];
	uint64_t acks, unknowns;
};
struct small {
	struct load load;       /* first: the workers' own */
	struct cluster *cl;
	struct race races[RACES_MAX];
	struct counter counters[COUNTERS];
	uint32_t n_races;
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

/* ---- (S2) races ---- */
static bool race_won(const struct small *m, const struct race *r)
{
	return r->winner != 0 || (r->seen != 0 && r->seen_era == m->cl->ledger->era);
}

static void race_saw(struct small *m, uint32_t i, uint64_t who, uint32_t era)
{
	struct race *r = &m->races[i];

	if (!race_won(m, r)) {
		r->seen = who;
		r->seen_era = era;
	}
	if (r->seen != who || (r->winner != 0 && r->winner != who))
		violation(m->cl->sc, "of several puts of a new key one wins, for good",
			"race %u: %llu, then %llu; %llu was told", i, (unsigned long long)r->seen,
			(unsigned long long)who, (unsigned long long)r->winner);
}

PARKS static int race_read(struct worker *w, struct client *c, uint32_t i)
{
	struct small *m = small_of(w);
	struct wadi_get_opts o = { 0 };
	bool won = race_won(m, &m->races[i]);
	uint32_t era = m->cl->ledger->era;
	uint8_t buf[64];
	char name[24];
	uint64_t who;
	size_t len;
	int rc;

	snprintf(name, sizeof name, "r/%u", i);
	rc = client_get(c, KEPT, name, buf, sizeof buf, &o, worker_until(w), &len, NULL, NULL);
	if (rc == 0 && !ledger_stamped(w->cl->ledger, RACE_WHAT + i, bytes_of(buf, len), &who))
		violation(m->cl->sc, "a read returns bytes that were put under its key", "%s",
			name);
	else if (rc == 0)
		race_saw(m, i, who, era);
	else if (rc == E_NOTFOUND && won && race_won(m, &m->races[i]))
		violation(m->cl->sc, "nothing acknowledged is lost", "%s is not there", name);
	return rc;
}

PARKS static int race_run(struct worker *w, struct client *c)
{
	struct small *m = small_of(w);
	struct wadi_put_opts o = { .flags = WADI_PUT_IF_ABSENT };
	uint32_t i, len = LEDGER_VALUE_MIN;
	uint64_t who = ++m->claims, until_ns = worker_until(w);
	uint32_t era = m->cl->ledger->era;
	struct wadi_info info;
	uint8_t buf[64];
	char name[24];
	int rc;

	if (m->n_races == 0 || (m->n_races < RACES_MAX && prng_odds(&w->p, 1, 4)))
		m->n_races++;
	i = m->n_races - 1;
	if (prng_odds(&w->p, 1, 3))
		return race_read(w, c, (uint32_t)prng_below(&w->p, m->n_races));
	snprintf(name, sizeof name, "r/%u", i);
	ledger_stamp(w->cl->ledger, RACE_WHAT + i, who, buf, len);
	rc = client_put(c, KEPT, name, bytes_of(buf, len), &o, until_ns, &info, NULL);
	if (rc == 0) {
		ledger_version(w->cl->ledger, info.version);
		race_saw(m, i, who, era);
		m->races[i].winner = who;
	}
	worker_in_time(w, until_ns, "race");
	return rc;
}

/* ---- (S3) counters ---- */
PARKS static int count(struct worker *w, struct client *c)
{
	struct small *m = small_of(w);
	uint32_t i = (uint32_t)prng_below(&w->p, COUNTERS), len = LEDGER_VALUE_MIN;
	struct counter *n = &m->counters[i];
	struct wadi_put_opts o = { .flags = WADI_PUT_IF_ABSENT };
	struct wadi_get_opts go = { 0 };
	uint64_t now = 0, until_ns = worker_until(w);
	struct wadi_info info;
	uint8_t buf[64];
	char name[24];
	size_t got;
	int rc;

	snprintf(name, sizeof name, "n/%u", i);
	rc = client_get(c, KEPT, name, buf, sizeof buf, &go, until_ns, &got, &info, NULL);
	if (rc < 0 && rc != E_NOTFOUND)
		return rc;
	if (rc == 0) {
		if (!ledger_stamped(w->cl->ledger, COUNT_WHAT + i, bytes_of(buf, got), &now))
			violation(m->cl->sc, "a read returns bytes that were put under its key",
				"%s", name);
		o = (struct wadi_put_opts){ .flags = WADI_PUT_IF_VERSION,
			.if_version = info.version };
	}
	if (now + 1 >= COUNTS_MAX)
		return 0;
	ledger_stamp(w->cl->ledger, COUNT_WHAT + i, now + 1, buf, len);
	rc = client_put(c, KEPT, name, bytes_of(buf, len), &o, until_ns, &info, NULL);
	n->unknowns += ledger_unknown(rc);
	if (rc == 0) {
		ledger_version(w->cl->ledger, info.version);
		if (n->told[now + 1])
			violation(m->cl->sc, "a version is replaced by one put", "%s: %llu twice",
				name, (unsigned long long)now + 1);
		n->told[now + 1] = true;
		n->acks++;
	}
	return rc;
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
			rc = load_pause(w, 20 * SYS_MS);
	}
	return rc;
}

/* ---- the judge ---- */
PARKS static int count_check(struct worker *w, struct client *c) /* (S3) */
{
	struct small *m = small_of(w);
	struct wadi_get_opts o = { 0 };

	for (uint32_t i = 0; i < COUNTERS; i++) {
		const struct counter *n = &m->counters[i];
		uint64_t now = 0;
		uint8_t buf[64];
		char name[24];
		size_t len;
		int rc;

		snprintf(name, sizeof name, "n/%u", i);
		rc = client_get(c, KEPT, name, buf, sizeof buf, &o, sys_after(w->sys, JUDGE_NS),
			&len, NULL, NULL);
		if (rc < 0 && rc != E_NOTFOUND)
			return rc;
		if (rc == 0)
			(void)ledger_stamped(w->cl->ledger, COUNT_WHAT + i, bytes_of(buf, len),
				&now);
		if (now < n->acks || now > n->acks + n->unknowns)
			violation(w->cl->sc, "each acknowledged count counts once",
				"%s: %llu, though %llu and perhaps %llu more", name,
				(unsigned long long)now, (unsigned long long)n->acks,
				(unsigned long long)n->unknowns);
	}
	return 0;
}

PARKS static int race_check(struct worker *w, struct client *c)
{
	int rc = 0;

	for (uint32_t i = 0; i < small_of(w)->n_races && (rc == 0 || rc == E_NOTFOUND); i++)
		rc = race_read(w, c, i);
	return rc == E_NOTFOUND ? 0 : rc;
}

PARKS static int judge(struct worker *w, struct client *c)
{
	int rc = load_buckets(w, c);

	if (rc == 0)
		rc = judge_look(w, c);
	if (rc == 0)
		rc = race_check(w, c);
	if (rc == 0)
		rc = count_check(w, c);
	if (rc == 0)
		rc = judge_take_items(w, c);
	if (rc == 0)
		rc = judge_delete(w, c);
	cluster_judged(w->cl, rc);
	return rc;
}

static void misfortune(struct cluster *cl, void *mine) { cluster_misfortune(cl); }

void scenario_small(struct scenario *sc)
{
	struct small *m = scenario_alloc(sc, sizeof *m);
	struct sim_faults f = scenario_swarm(sc);
	struct cluster *cl = cluster_new(sc, VALUE_BYTES_MAX);
	struct machine *at;

	m->cl = m->load.cl = cl;
	m->load.any_len = any_len;
	m->load.value_bytes_max = VALUE_BYTES_MAX;
	f.disk_rot_ppm = 0; /* one copy cannot survive it */
	sim_faults_set(sc->w, &f);
	for (int i = 0; i < 3; i++) {
		at = cluster_machine(cl, 3, work);
		for (uint32_t j = 0; j < at->n_workers; j++)
			at->workers[j].mine = m;
	}
	cluster_start(cl);
	cluster_course(cl,
		&(struct course){ .rounds = ROUNDS,
			.steps_max = STEPS_MAX,
			.work_ns_max = 600 * SYS_MS,
			.misfortune = misfortune,
			.judge = judge,
			.mine = m,
			.judge_sec = 180,
			.empty_sec = 20 });
}
