/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/load.h"
#include "base/check.h"
#include "base/limit.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEN_YEARS_DAYS = 3650 };

static const char *any_bucket(struct worker *w)
{
	return prng_odds(&w->p, 1, 2) ? KEPT : LOOSE;
}

PARKS int load_pause(struct worker *w, uint64_t max_ns)
{
	uint64_t ns = prng_below(&w->p, max_ns);

	return fiber_sleep(sys_after(w->sys, ns));
}

/* ---- buckets ---- */
PARKS int load_buckets(struct worker *w, struct client *c)
{
	struct wadi_bucket_opts kept = { .lifetime = WADI_LIFETIME_PERSIST, .exists_ok = 1 };
	struct wadi_bucket_opts loose = { .lifetime = WADI_LIFETIME_TTL, .exists_ok = 1,
		.ttl_ms = UINT64_C(86400000) * TEN_YEARS_DAYS };
	int rc = E_UNREACH;

	kept.copies = loose.copies = w->cl->copies;
	if (w->cl->loose_apart)
		loose.copies = w->cl->loose_copies;
	while (rc < 0 && rc != E_CANCELED && cluster_going(w)) {
		rc = client_bucket_create(c, KEPT, &kept, worker_until(w), NULL, NULL);
		if (rc == 0)
			rc = client_bucket_create(c, LOOSE, &loose, worker_until(w), NULL, NULL);
	}
	return rc;
}

/* LOOSE is made without a sync: a power cut may have it forgotten. */
PARKS static int lost_bucket(struct worker *w, struct client *c, const char *bucket)
{
	if (w->cl->ledger->era == 0 || strcmp(bucket, KEPT) == 0)
		violation(w->cl->sc, "nothing acknowledged is lost", "bucket %s is not there",
			bucket);
	return load_buckets(w, c);
}

/* ---- (S1) keys of one writer ---- */
PARKS static int put_own(struct worker *w, struct client *c, struct key *k)
{
	struct ledger *l = w->cl->ledger;
	struct wadi_put_opts o = { .flags = prng_odds(&w->p, 1, 4) ? WADI_PUT_DURABLE : 0 };
	bool durable = o.flags != 0 || strcmp(k->bucket, KEPT) == 0;
	uint64_t how = prng_below(&w->p, 6), until_ns = worker_until(w);
	uint32_t len = load_of(w)->any_len(w);
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
	check((buf = malloc(load_of(w)->value_bytes_max)) != NULL);
	ledger_value(l, k, ch.i, buf);
	ledger_asked(l, &ch, durable);
	rc = client_put(c, k->bucket, k->name, bytes_of(buf, len), &o, until_ns, &info, &note);
	free(buf);
	scenario_say(w->cl->sc, "w%u put %s/%s #%u: %s %s", w->number, k->bucket, k->name, ch.i,
		err_name(rc), rc < 0 ? note.text : "");
	ledger_end(l, &ch, rc, info.version);
	if (rc == E_NOTFOUND)
		rc = lost_bucket(w, c, k->bucket);
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
	ledger_asked(l, &ch, strcmp(k->bucket, KEPT) == 0);
	rc = client_delete(c, k->bucket, k->name, &o, until_ns, &note);
	scenario_say(w->cl->sc, "w%u delete %s/%s #%u: %s %s", w->number, k->bucket, k->name, ch.i,
		err_name(rc), rc < 0 ? note.text : "");
	ledger_end(l, &ch, rc, 0);
	worker_in_time(w, until_ns, "delete");
	return rc;
}

PARKS int load_change(struct worker *w, struct client *c)
{
	struct load *m = load_of(w);
	struct key **k = &m->own[w->number][prng_below(&w->p, OWN_KEYS)];

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
	uint8_t *buf = malloc(load_of(w)->value_bytes_max);
	struct err_note note = { "" };
	struct wadi_info info = { 0 };
	int rc;

	check(buf != NULL);
	rc = client_get(c, k->bucket, k->name, buf, load_of(w)->value_bytes_max, &o, until_ns,
		&len, &info, &note);
	if (rc < 0 && rc != E_NOTFOUND)
		scenario_say(w->cl->sc, "w%u get %s", w->number, note.text);
	look.version = rc == 0 ? info.version : 0;
	ledger_got(l, k, look, rc, bytes_of(buf, rc == 0 ? len : 0));
	free(buf);
	worker_in_time(w, until_ns, "get");
	return rc;
}

PARKS int load_read(struct worker *w, struct client *c)
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

PARKS int load_read_own(struct worker *w, struct client *c)
{
	uint64_t whose = prng_below(&w->p, w->cl->n_machines * WORKERS_MAX);
	struct key *k = load_of(w)->own[whose][prng_below(&w->p, OWN_KEYS)];

	return k != NULL ? read_key(w, c, k, worker_until(w)) : 0;
}

/* ---- (S4) items ---- */
PARKS static int item_put(struct worker *w, struct client *c)
{
	struct load *m = load_of(w);
	struct wadi_put_opts o = { .flags = WADI_PUT_DELETE_ON_READ };
	uint32_t i = m->n_items, len = m->any_len(w);
	struct item *it = &m->items[i];
	struct wadi_info info;
	uint32_t asked;
	char name[24];
	uint8_t *buf;
	int rc;

	if (i == ITEMS_MAX || len == 0)
		return 0;
	check((buf = malloc(len)) != NULL);
	m->n_items++;
	it->bucket = any_bucket(w);
	snprintf(name, sizeof name, "i/%u", i);
	ledger_stamp(w->cl->ledger, ITEM_WHAT, i, buf, len);
	asked = ledger_ask(w->cl->ledger, it->bucket, name,
		&(struct linear_op){ .kind = LINEAR_PUT,
			.durable = strcmp(it->bucket, KEPT) == 0,
			.value = ITEM_VALUE });
	rc = client_put(c, it->bucket, name, bytes_of(buf, len), &o, worker_until(w), &info, NULL);
	free(buf);
	ledger_told(w->cl->ledger, asked, rc, 0, rc == 0 ? info.version : 0);
	if (rc == 0)
		ledger_version(w->cl->ledger, info.version);
	return rc;
}

PARKS static int item_get(struct worker *w, struct client *c, uint32_t i, uint64_t until_ns)
{
	struct load *m = load_of(w);
	struct ledger *l = m->cl->ledger;
	struct wadi_get_opts o = { 0 };
	uint8_t *buf = malloc(m->value_bytes_max);
	uint32_t asked;
	char name[24];
	uint64_t who;
	size_t len;
	int rc;

	check(buf != NULL);
	snprintf(name, sizeof name, "i/%u", i);
	asked = ledger_ask(l, m->items[i].bucket, name,
		&(struct linear_op){ .kind = LINEAR_TAKE,
			.durable = strcmp(m->items[i].bucket, KEPT) == 0 });
	rc = client_get(c, m->items[i].bucket, name, buf, m->value_bytes_max, &o, until_ns, &len,
		NULL, NULL);
	ledger_told(l, asked, rc, ITEM_VALUE, 0);
	if (rc == 0 && (!ledger_stamped(l, ITEM_WHAT, bytes_of(buf, len), &who) || who != i))
		violation(m->cl->sc, "a read returns bytes that were put under its key", "i/%u",
			i);
	free(buf);
	worker_in_time(w, until_ns, "take");
	return rc;
}

PARKS int load_item(struct worker *w, struct client *c)
{
	struct load *m = load_of(w);
	uint32_t back;

	if (m->n_items == 0 || prng_odds(&w->p, 1, 2))
		return item_put(w, c);
	back = (uint32_t)prng_below(&w->p, m->n_items < 12 ? m->n_items : 12);
	return item_get(w, c, m->n_items - 1 - back, worker_until(w));
}

/* ---- the judge ---- */
struct names {
	struct load *m;
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

	scenario_checked("a listing is in order, each name once");
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

static void items_listed(struct load *m, const struct names *t, uint64_t begin) /* (S4) */
{
	char name[24];

	for (uint32_t i = 0; i < m->n_items; i++) {
		snprintf(name, sizeof name, "i/%u", i);
		if (strcmp(m->items[i].bucket, t->bucket) == 0)
			ledger_listed(m->cl->ledger, begin, t->bucket, name, t->items[i]);
	}
}

static void key_listed(struct ledger *l, struct key *k, uint64_t begin, bool there)
{
	struct look look = ledger_look(l, k);

	look.begin = begin;
	ledger_there(l, k, look, there);
}

PARKS static int list_check(struct worker *w, struct client *c, const char *bucket, bool want)
{
	struct load *m = load_of(w);
	struct ledger *l = w->cl->ledger;
	struct wadi_list_opts o = { .max = 1 + (uint32_t)prng_below(&w->p, 40) };
	struct names *t = scenario_alloc(w->cl->sc, sizeof *t);
	char next[CLIENT_CURSOR_MAX] = "";
	char after[CLIENT_CURSOR_MAX];
	uint64_t begin = ledger_now(l);
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
			key_listed(l, &l->keys[i], begin, t->keys[i]);
	items_listed(m, t, begin);
	return 0;
}

PARKS int judge_look(struct worker *w, struct client *c)
{
	struct ledger *l = w->cl->ledger;
	int rc;

	for (uint32_t i = 0; i < l->n_keys; i++) {
		rc = read_key(w, c, &l->keys[i], sys_after(w->sys, JUDGE_NS));
		if (rc < 0 && rc != E_NOTFOUND && rc != E_LOST && rc != E_CORRUPT) {
			scenario_say(w->cl->sc, "judge: %s/%s: %s", l->keys[i].bucket,
				l->keys[i].name, err_name(rc));
			return rc;
		}
	}
	rc = list_check(w, c, KEPT, true);
	return rc < 0 ? rc : list_check(w, c, LOOSE, true);
}

/* Marks of clients that died lapse MARK_LAPSE_MS after the shard noticed: within a minute. */
PARKS int judge_take_items(struct worker *w, struct client *c)
{
	struct load *m = load_of(w);
	uint64_t until_ns = sys_after(w->sys, (LIMIT_MARK_LAPSE_MS + 65000) * SYS_MS);
	int rc;

	for (uint32_t i = 0; i < m->n_items; i++) {
		while ((rc = item_get(w, c, i, sys_after(w->sys, JUDGE_NS))) == E_CONFLICT &&
			sys_now_ns(w->sys) < until_ns)
			if (fiber_sleep(sys_after(w->sys, 200 * SYS_MS)) < 0)
				return E_CANCELED;
		if (rc < 0 && rc != E_NOTFOUND && rc != E_LOST && rc != E_GONE && rc != E_CORRUPT)
			return rc;
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


PARKS int judge_delete(struct worker *w, struct client *c)
{
	int rc = delete_all(w, c, KEPT);

	if (rc < 0)
		return rc;
	if (prng_odds(&w->p, 1, 2))
		return delete_all(w, c, LOOSE);
	return client_bucket_drop(c, LOOSE, sys_after(w->sys, JUDGE_NS), NULL);
}
