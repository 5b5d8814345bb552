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
#include "sim/cluster.h"
#include "base/check.h"
#include "base/limit.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	ROUNDS = 14,
	STEPS_MAX = 60,
	OWN_KEYS = 4,
	RACES_MAX = 64,
	ITEMS_MAX = 512,
	COUNTERS = 2,
	COUNTS_MAX = 4096,
	VALUE_BYTES_MAX = LIMIT_INLINE_BYTES_MAX,
	RACE_WHAT = 1 << 20, /* stamps of values: behind those of keys */
	ITEM_WHAT = 2 << 20,
	COUNT_WHAT = 3 << 20,
	TEN_YEARS_DAYS = 3650,
};
#define KEPT "kept"
#define LOOSE "loose"

struct race {
	uint64_t winner;        /* who was told so; 0: nobody yet */
	uint64_t seen;          /* by readers */
};
struct item {
	const char *bucket;
	uint32_t era, boot;     /* when it was put */
	bool acked, durable, failed, maybe_gone;
	uint32_t got, got_era;
};
struct counter {
	bool told[COUNTS_MAX];
	uint64_t acks, unknowns;
};
struct own {
	struct key *keys[OWN_KEYS];
};
struct small {
	struct cluster *cl;
	struct race races[RACES_MAX];
	struct item items[ITEMS_MAX];
	struct counter counters[COUNTERS];
	uint32_t n_races, n_items;
	struct own own[CLIENTS_MAX * WORKERS_MAX];
	uint64_t claims;        /* to tell one put of a race or counter from another */
};

static struct small *small_of(const struct worker *w)
{
	return w->mine;
}

static const char *any_bucket(struct worker *w)
{
	return prng_odds(&w->p, 1, 2) ? KEPT : LOOSE;
}

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

/* ---- buckets ---- */
PARKS static int buckets_make(struct worker *w, struct client *c)
{
	struct wadi_bucket_opts kept = { .lifetime = WADI_LIFETIME_PERSIST, .exists_ok = 1 };
	struct wadi_bucket_opts loose = { .lifetime = WADI_LIFETIME_TTL, .exists_ok = 1,
		.ttl_ms = UINT64_C(86400000) * TEN_YEARS_DAYS };
	int rc = E_UNREACH;

	while (rc < 0 && rc != E_CANCELED && cluster_going(w)) {
		rc = client_bucket_create(c, KEPT, &kept, worker_until(w), NULL, NULL);
		if (rc == 0)
			rc = client_bucket_create(c, LOOSE, &loose, worker_until(w), NULL, NULL);
	}
	return rc;
}

/* ---- (S1) keys of one writer ---- */
PARKS static int put_own(struct worker *w, struct client *c, struct key *k)
{
	struct ledger *l = w->cl->ledger;
	struct wadi_put_opts o = { .flags = prng_odds(&w->p, 1, 4) ? WADI_PUT_DURABLE : 0 };
	bool durable = o.flags != 0 || strcmp(k->bucket, KEPT) == 0;
	uint64_t how = prng_below(&w->p, 6), until_ns = worker_until(w);
	uint32_t len = any_len(w);
	struct wadi_info info = { 0 };
	struct err_note note = { "" };
	struct change ch;
	uint8_t *buf;
	int rc;

	ledger_begin(l, &ch, k, true, durable, len);
	if (how == 0) {
		ch.cond = COND_ABSENT;
		o.flags |= WADI_PUT_IF_ABSENT;
	} else if (how == 1 && k->entries[ch.i - 1].version != 0) {
		ch.cond = COND_VERSION;
		o.flags |= WADI_PUT_IF_VERSION;
		ch.if_version = o.if_version = k->entries[ch.i - 1].version;
	}
	check((buf = malloc(VALUE_BYTES_MAX)) != NULL);
	ledger_value(l, k, ch.i, buf);
	rc = client_put(c, k->bucket, k->name, bytes_of(buf, len), &o, until_ns, &info, &note);
	free(buf);
	scenario_say(w->cl->sc, "w%u put %s/%s #%u: %s %s", w->number, k->bucket, k->name, ch.i,
		err_name(rc), rc < 0 ? note.text : "");
	ledger_end(l, &ch, rc, info.version);
	worker_in_time(w, until_ns, "put");
	return rc;
}

PARKS static int delete_own(struct worker *w, struct client *c, struct key *k)
{
	struct ledger *l = w->cl->ledger;
	struct wadi_opts o = { 0 };
	uint64_t until_ns = worker_until(w);
	struct err_note note = { "" };
	struct change ch;
	int rc;

	ledger_begin(l, &ch, k, false, false, 0);
	rc = client_delete(c, k->bucket, k->name, &o, until_ns, &note);
	scenario_say(w->cl->sc, "w%u delete %s/%s #%u: %s %s", w->number, k->bucket, k->name, ch.i,
		err_name(rc), rc < 0 ? note.text : "");
	ledger_end(l, &ch, rc, 0);
	worker_in_time(w, until_ns, "delete");
	return rc;
}

PARKS static int change_own(struct worker *w, struct client *c)
{
	struct small *m = small_of(w);
	struct key **k = &m->own[w->number].keys[prng_below(&w->p, OWN_KEYS)];

	if (*k != NULL && (*k)->pending) { /* the machine died meanwhile */
		(*k)->unknown = true;
		(*k)->pending = false;
	}
	if (*k == NULL || !ledger_usable(*k))
		*k = ledger_key(w->cl->ledger, any_bucket(w));
	if (*k == NULL)
		return 0;
	return prng_odds(&w->p, 1, 4) ? delete_own(w, c, *k) : put_own(w, c, *k);
}

PARKS static int read_key(struct worker *w, struct client *c, struct key *k, uint64_t until_ns)
{
	struct ledger *l = w->cl->ledger;
	struct look look = ledger_look(l, k);
	struct wadi_get_opts o = { 0 };
	size_t len = 0;
	uint8_t *buf = malloc(VALUE_BYTES_MAX);
	int rc;

	check(buf != NULL);
	rc = client_get(c, k->bucket, k->name, buf, VALUE_BYTES_MAX, &o, until_ns, &len, NULL,
		NULL);
	ledger_got(l, k, look, rc, bytes_of(buf, rc == 0 ? len : 0));
	free(buf);
	worker_in_time(w, until_ns, "get");
	return rc;
}

PARKS static int read_any(struct worker *w, struct client *c)
{
	struct ledger *l = w->cl->ledger;
	struct key *k;
	struct look look;
	int rc;

	if (l->n_keys == 0)
		return 0;
	k = &l->keys[prng_below(&w->p, l->n_keys)];
	if (prng_odds(&w->p, 3, 4))
		return read_key(w, c, k, worker_until(w));
	look = ledger_look(l, k);
	rc = client_stat(c, k->bucket, k->name, worker_until(w), NULL, NULL);
	if (rc == 0 || rc == E_NOTFOUND)
		ledger_there(l, k, look, rc == 0);
	return rc;
}

/* ---- (S2) races ---- */
static void race_saw(struct small *m, uint32_t i, uint64_t who)
{
	struct race *r = &m->races[i];

	if (r->seen == 0)
		r->seen = who;
	if (r->seen != who || (r->winner != 0 && r->winner != who))
		violation(m->cl->sc, "of several puts of a new key one wins, for good",
			"race %u: %llu, then %llu; %llu was told", i, (unsigned long long)r->seen,
			(unsigned long long)who, (unsigned long long)r->winner);
}

PARKS static int race_read(struct worker *w, struct client *c, uint32_t i)
{
	struct small *m = small_of(w);
	struct wadi_get_opts o = { 0 };
	bool won = m->races[i].winner != 0 || m->races[i].seen != 0;
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
		race_saw(m, i, who);
	else if (rc == E_NOTFOUND && won)
		violation(m->cl->sc, "nothing acknowledged is lost", "%s is not there", name);
	return rc;
}

PARKS static int race_run(struct worker *w, struct client *c)
{
	struct small *m = small_of(w);
	struct wadi_put_opts o = { .flags = WADI_PUT_IF_ABSENT };
	uint32_t i, len = LEDGER_VALUE_MIN;
	uint64_t who = ++m->claims, until_ns = worker_until(w);
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
		race_saw(m, i, who);
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

/* ---- (S4) items ---- */
PARKS static int item_put(struct worker *w, struct client *c)
{
	struct small *m = small_of(w);
	struct wadi_put_opts o = { .flags = WADI_PUT_DELETE_ON_READ };
	uint32_t i = m->n_items, len = LEDGER_VALUE_MIN + (uint32_t)prng_below(&w->p, 1500);
	struct item *it = &m->items[i];
	struct wadi_info info;
	uint8_t buf[2048];
	char name[24];
	int rc;

	if (i == ITEMS_MAX)
		return 0;
	m->n_items++;
	*it = (struct item){ .bucket = any_bucket(w), .era = w->cl->ledger->era,
		.boot = w->cl->ledger->boot };
	it->durable = strcmp(it->bucket, KEPT) == 0;
	snprintf(name, sizeof name, "i/%u", i);
	ledger_stamp(w->cl->ledger, ITEM_WHAT, i, buf, len);
	rc = client_put(c, it->bucket, name, bytes_of(buf, len), &o, worker_until(w), &info, NULL);
	it->acked = rc == 0;
	it->failed = rc < 0 && !ledger_unknown(rc);
	if (rc == 0)
		ledger_version(w->cl->ledger, info.version);
	return rc;
}

static void item_got(struct small *m, uint32_t i, uint32_t era, struct bytes data)
{
	struct item *it = &m->items[i];
	struct ledger *l = m->cl->ledger;
	uint64_t who;

	if (!ledger_stamped(l, ITEM_WHAT, data, &who) || who != i)
		violation(m->cl->sc, "a read returns bytes that were put under its key", "i/%u",
			i);
	if (it->failed)
		violation(m->cl->sc, "a change that failed has no effect", "i/%u was got", i);
	if (it->got > 0 && it->got_era == l->era)
		violation(m->cl->sc, "what is deleted on read is read once", "i/%u twice", i);
	it->got++;
	it->got_era = era;
}

PARKS static int item_get(struct worker *w, struct client *c, uint32_t i, uint64_t until_ns)
{
	struct small *m = small_of(w);
	struct item *it = &m->items[i];
	uint32_t era = m->cl->ledger->era;
	struct wadi_get_opts o = { 0 };
	uint8_t buf[2048];
	char name[24];
	size_t len;
	int rc;

	snprintf(name, sizeof name, "i/%u", i);
	rc = client_get(c, it->bucket, name, buf, sizeof buf, &o, until_ns, &len, NULL, NULL);
	if (rc == 0)
		item_got(m, i, era, bytes_of(buf, len));
	else if (ledger_unknown(rc))
		it->maybe_gone = true;
	worker_in_time(w, until_ns, "take");
	return rc;
}

PARKS static int item_move(struct worker *w, struct client *c)
{
	struct small *m = small_of(w);
	uint32_t back;

	if (m->n_items == 0 || prng_odds(&w->p, 1, 2))
		return item_put(w, c);
	back = (uint32_t)prng_below(&w->p, m->n_items < 12 ? m->n_items : 12);
	return item_get(w, c, m->n_items - 1 - back, worker_until(w));
}

/* ---- work ---- */
PARKS static int work(struct worker *w, struct client *c)
{
	uint64_t what, ns;
	int rc = buckets_make(w, c);

	while (cluster_going(w) && rc != E_CANCELED) {
		what = prng_below(&w->p, 16);
		ns = prng_below(&w->p, 20 * SYS_MS);
		if (what < 7)
			rc = change_own(w, c);
		else if (what < 11)
			rc = read_any(w, c);
		else if (what < 12)
			rc = race_run(w, c);
		else if (what < 13)
			rc = count(w, c);
		else
			rc = item_move(w, c);
		if (rc != E_CANCELED)
			rc = fiber_sleep(sys_after(w->sys, ns));
	}
	return rc;
}

/* ---- the judge ---- */
#define JUDGE_NS (8 * SYS_SEC)
struct names {
	struct small *m;
	const char *bucket;
	bool keys[LEDGER_KEYS_MAX], items[ITEMS_MAX];
	char last[LEDGER_NAME_MAX];
	uint32_t n;
};

static void each_name(void *arg, const struct wadi_entry *e) /* (S5) */
{
	struct names *t = arg;
	char kind = e->name[0];
	unsigned long i = 0;

	if (strcmp(e->name, t->last) <= 0)
		violation(t->m->cl->sc, "a listing is in order, each name once", "%s behind %s",
			e->name, t->last);
	snprintf(t->last, sizeof t->last, "%s", e->name);
	t->n++;
	if (kind != '\0' && e->name[1] == '/')
		i = strtoul(e->name + 2, NULL, 10);
	if (strchr("krni", kind) == NULL)
		violation(t->m->cl->sc, "a listing has only names that were put", "%s", e->name);
	else if (kind == 'k' && i < t->m->cl->ledger->n_keys)
		t->keys[i] = true;
	else if (kind == 'i' && i < t->m->n_items)
		t->items[i] = true;
}

static void items_check(struct small *m, const struct names *t) /* (S4) */
{
	const struct ledger *l = m->cl->ledger;

	for (uint32_t i = 0; i < m->n_items; i++) {
		const struct item *it = &m->items[i];
		bool sure = it->acked && (it->durable || it->era == l->era) && it->got == 0 &&
			!it->maybe_gone;

		if (strcmp(it->bucket, t->bucket) != 0)
			continue;
		if (sure && !t->items[i])
			violation(m->cl->sc, "nothing acknowledged is lost", "i/%u is not there",
				i);
		if (t->items[i] && (it->failed || (it->got > 0 && it->got_era == l->era)))
			violation(m->cl->sc, "what was read is gone", "i/%u is listed", i);
	}
}

PARKS static int list_check(struct worker *w, struct client *c, const char *bucket, bool want)
{
	struct small *m = small_of(w);
	struct ledger *l = w->cl->ledger;
	struct wadi_list_opts o = { .max = 1 + (uint32_t)prng_below(&w->p, 40) };
	struct names *t = scenario_alloc(w->cl->sc, sizeof *t);
	char next[CLIENT_CURSOR_MAX] = "";
	char after[CLIENT_CURSOR_MAX];
	int rc;

	t->m = m;
	t->bucket = bucket;
	do {
		memcpy(after, next, sizeof after);
		rc = client_list(c, bucket, &o, after, sys_after(w->sys, JUDGE_NS), each_name, t,
			next, NULL);
	} while (rc == 0 && next[0] != '\0');
	if (rc < 0)
		return rc;
	if (!want && t->n > 0)
		violation(w->cl->sc, "what was deleted leaves nothing", "%u names in %s", t->n,
			bucket);
	if (!want)
		return 0;
	for (uint32_t i = 0; i < l->n_keys; i++)
		if (strcmp(l->keys[i].bucket, bucket) == 0)
			ledger_there(l, &l->keys[i], ledger_look(l, &l->keys[i]), t->keys[i]);
	items_check(m, t);
	return 0;
}

PARKS static int look_at_all(struct worker *w, struct client *c)
{
	struct small *m = small_of(w);
	struct ledger *l = w->cl->ledger;
	int rc;

	for (uint32_t i = 0; i < l->n_keys; i++) {
		rc = read_key(w, c, &l->keys[i], sys_after(w->sys, JUDGE_NS));
		if (rc < 0 && rc != E_NOTFOUND && rc != E_LOST)
			return rc;
	}
	for (uint32_t i = 0; i < m->n_races; i++) {
		rc = race_read(w, c, i);
		if (rc < 0 && rc != E_NOTFOUND)
			return rc;
	}
	rc = list_check(w, c, KEPT, true);
	return rc < 0 ? rc : list_check(w, c, LOOSE, true);
}

/* Marks of clients that died lapse within MARK_LAPSE_MS. */
PARKS static int take_items(struct worker *w, struct client *c)
{
	struct small *m = small_of(w);
	uint64_t until_ns = sys_after(w->sys, (LIMIT_MARK_LAPSE_MS + 5000) * SYS_MS);
	int rc;

	for (uint32_t i = 0; i < m->n_items; i++) {
		while ((rc = item_get(w, c, i, sys_after(w->sys, JUDGE_NS))) == E_CONFLICT &&
			sys_now_ns(w->sys) < until_ns)
			if (fiber_sleep(sys_after(w->sys, 200 * SYS_MS)) < 0)
				return E_CANCELED;
		if (rc < 0 && rc != E_NOTFOUND && rc != E_LOST && rc != E_GONE)
			return rc;
	}
	return 0;
}

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

struct doomed {
	char names[LIMIT_LIST_MAX][LEDGER_NAME_MAX];
	uint32_t n;
};

static void each_doomed(void *arg, const struct wadi_entry *e)
{
	struct doomed *d = arg;

	check(d->n < LIMIT_LIST_MAX);
	snprintf(d->names[d->n++], LEDGER_NAME_MAX, "%s", e->name);
}

PARKS static int delete_all(struct worker *w, struct client *c, const char *bucket) /* (S6) */
{
	struct wadi_list_opts lo = { 0 };
	struct wadi_opts o = { 0 };
	struct doomed *d = scenario_alloc(w->cl->sc, sizeof *d);
	char next[CLIENT_CURSOR_MAX];
	int rc;

	do {
		d->n = 0;
		rc = client_list(c, bucket, &lo, "", sys_after(w->sys, JUDGE_NS), each_doomed, d,
			next, NULL);
		for (uint32_t i = 0; i < d->n && rc == 0; i++)
			rc = client_delete(c, bucket, d->names[i], &o, sys_after(w->sys, JUDGE_NS),
				NULL);
	} while (rc == 0 && d->n > 0);
	return rc < 0 ? rc : list_check(w, c, bucket, false);
}

PARKS static int judge(struct worker *w, struct client *c)
{
	int rc = buckets_make(w, c);

	if (rc == 0)
		rc = look_at_all(w, c);
	if (rc == 0)
		rc = count_check(w, c);
	if (rc == 0)
		rc = take_items(w, c);
	if (rc == 0)
		rc = delete_all(w, c, KEPT);
	if (rc == 0)
		rc = prng_odds(&w->p, 1, 2) ? delete_all(w, c, LOOSE) :
			client_bucket_drop(c, LOOSE, sys_after(w->sys, JUDGE_NS), NULL);
	scenario_say(w->cl->sc, "judged: %s, %llu acks, %llu reads, %llu losses", err_name(rc),
		(unsigned long long)w->cl->ledger->acks, (unsigned long long)w->cl->ledger->reads,
		(unsigned long long)w->cl->ledger->losses);
	w->cl->judged = rc == 0;
	return rc;
}

void scenario_small(struct scenario *sc)
{
	struct small *m = scenario_alloc(sc, sizeof *m);
	struct sim_faults f = scenario_swarm(sc);
	struct cluster *cl = cluster_new(sc, VALUE_BYTES_MAX);
	struct machine *at;
	uint64_t ns;

	m->cl = cl;
	f.disk_rot_ppm = 0; /* one copy cannot survive it */
	sim_faults_set(sc->w, &f);
	for (int i = 0; i < 3; i++) {
		at = cluster_machine(cl, 3, work);
		for (uint32_t j = 0; j < at->n_workers; j++)
			at->workers[j].mine = m;
	}
	cluster_start(cl);
	for (int i = 0; i < ROUNDS && sc->violations == 0; i++) {
		ns = prng_below(sc->p, 600 * SYS_MS);
		scenario_run(sc, ns);
		scenario_steps(sc, STEPS_MAX);
		cluster_misfortune(cl);
		ns = prng_below(sc->p, 4) == 0 ? 0 : prng_below(sc->p, 300 * SYS_MS);
		scenario_run(sc, ns);
		cluster_start(cl);
	}
	cluster_heal(cl);
	if (sc->violations == 0)
		cluster_judge(cl, judge, m, 60 * SYS_SEC);
	if (sc->violations == 0)
		cluster_audit(cl);
	if (sc->violations == 0 && (cl->files > 0 || cl->used_bytes > 0))
		violation(sc, "what was deleted leaves nothing", "%llu files of %llu bytes",
			(unsigned long long)cl->files, (unsigned long long)cl->used_bytes);
}
