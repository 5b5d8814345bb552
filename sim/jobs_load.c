/* SPDX-License-Identifier: Apache-2.0 */
/* What clients do with jobs: register, use, renew, end them; from inside and as administrators. */
#include "sim/book.h"
#include "base/check.h"
#include "base/limit.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUE_BYTES_MAX = 200 << 10, LIST_PAGE = 7, END_SEC = 6, TEN_YEARS_DAYS = 3650 };

static uint64_t now_ns(const struct worker *w) { return sim_now_ns(w->cl->sc->w); }

/* Whoever acts for the job was heard. */
static int answered(struct worker *w, struct via via, struct job_rec *j, uint64_t began_ns, int rc)
{
	if (rc == 0 && !via.admin)
		book_heard(book_of(w), j, began_ns);
	return rc;
}

static const char *bucket_name(struct via via, const struct job_rec *j, enum book_bucket i)
{
	return i == BUCKET_OWN && !via.admin ? "" : j->buckets[i];
}

static uint32_t any_len(struct worker *w)
{
	static const uint32_t edges[] = { LEDGER_VALUE_MIN, 4096, 4097, VALUE_BYTES_MAX };
	uint64_t kind = prng_below(&w->p, 8), at = prng_below(&w->p, VALUE_BYTES_MAX);

	if (kind == 0)
		return edges[at % 4];
	if (kind < 4)
		return LEDGER_VALUE_MIN + (uint32_t)at % 3000;
	return kind < 6 ? 4097 + (uint32_t)at % 20000 : LEDGER_VALUE_MIN + (uint32_t)at / 2;
}

/* ---- buckets ---- */
PARKS static int make_bucket(struct worker *w, struct via via, struct job_rec *j)
{
	enum book_bucket i = prng_odds(&w->p, 1, 2) ? BUCKET_DIES : BUCKET_STAYS;
	struct wadi_bucket_opts o = { .exists_ok = 1,
		.lifetime = i == BUCKET_STAYS ? WADI_LIFETIME_PERSIST : WADI_LIFETIME_DEFAULT };
	uint64_t began_ns = now_ns(w), until_ns = worker_until(w);
	uint32_t era = w->cl->ledger->era;
	int rc;

	if (via.admin) /* makes buckets of its own only */
		return 0;
	rc = client_bucket_create(via.c, i == BUCKET_STAYS ? "keep" : "b", &o, until_ns, NULL,
		NULL);
	worker_in_time(w, until_ns, "bucket");
	if (rc == 0) {
		j->made[i] = true;
		j->made_era[i] = era;
		j->made_ns[i] = now_ns(w);
	}
	return answered(w, via, j, began_ns, rc);
}

/* Says that the name of a bucket is not there. */
static void no_bucket(
	struct worker *w, const struct job_rec *j, enum book_bucket i, uint64_t began_ns)
{
	bool sure = j->made[i] && began_ns > j->made_ns[i] &&
		(i == BUCKET_STAYS || j->made_era[i] == w->cl->ledger->era);

	if (sure && book_alive(book_of(w), j))
		violation(w->cl->sc, "nothing acknowledged is lost while its job lives",
			"bucket %s is not there", j->buckets[i]);
}

/* An administrator may put into what has become a bucket that persists. */
static void admin_put_end(struct worker *w, struct via via, struct job_rec *j, int rc)
{
	if (!via.admin)
		return;
	j->admin_puts -= !ledger_unknown(rc);
	j->late_puts |= !book_alive(book_of(w), j);
}

/* ---- keys ---- */
PARKS static int put_own(struct worker *w, struct via via, struct job_rec *j, struct key *k)
{
	struct ledger *l = w->cl->ledger;
	struct own_key *own = book_key(book_of(w), k);
	bool stays = own->fate == FATE_STAYS || (own->fate == FATE_EITHER && !via.admin);
	bool durable;
	struct wadi_put_opts o = { .flags = stays ? WADI_PUT_PERSIST : 0 };
	uint64_t began_ns = now_ns(w), until_ns = worker_until(w);
	uint32_t len = any_len(w);
	struct wadi_info info = { 0 };
	struct err_note note = { "" };
	struct change ch;
	uint8_t *buf = malloc(len);
	int rc;

	check(buf != NULL);
	if (prng_odds(&w->p, 1, 4))
		o.flags |= WADI_PUT_DURABLE;
	durable = o.flags != 0 || own->bucket == BUCKET_STAYS;
	ledger_begin(l, &ch, k, true, durable, len);
	ledger_value(l, k, ch.i, buf);
	j->put_bytes += len;
	if (via.admin && !stays)
		own->fate = FATE_EITHER; /* what became of the bucket may stay */
	j->admin_puts += via.admin;
	rc = client_put(via.c, bucket_name(via, j, own->bucket), k->name, bytes_of(buf, len), &o,
		until_ns, &info, &note);
	free(buf);
	scenario_say(w->cl->sc, "w%u put %s%s #%u: %s %s", w->number, k->bucket, k->name, ch.i,
		err_name(rc), rc < 0 ? note.text : "");
	ledger_end(l, &ch, rc, info.version);
	worker_in_time(w, until_ns, "put");
	if (rc == 0) {
		j->acked_bytes += book_alive(book_of(w), j) ? len : 0;
		if (stays || !via.admin || book_alive(book_of(w), j))
			own->fate = stays ? FATE_STAYS : FATE_DIES;
	}
	admin_put_end(w, via, j, rc);
	if (rc == E_NOTFOUND)
		no_bucket(w, j, own->bucket, began_ns);
	return answered(w, via, j, began_ns, rc);
}

PARKS static int delete_own(struct worker *w, struct via via, struct job_rec *j, struct key *k)
{
	struct ledger *l = w->cl->ledger;
	struct own_key *own = book_key(book_of(w), k);
	uint64_t began_ns = now_ns(w), until_ns = worker_until(w);
	bool alive;
	struct wadi_opts o = { 0 };
	struct err_note note = { "" };
	struct change ch;
	int rc;

	ledger_begin(l, &ch, k, false, false, 0);
	rc = client_delete(via.c, bucket_name(via, j, own->bucket), k->name, &o, until_ns, &note);
	scenario_say(w->cl->sc, "w%u delete %s%s #%u: %s %s", w->number, k->bucket, k->name, ch.i,
		err_name(rc), rc < 0 ? note.text : "");
	alive = book_alive(book_of(w), j);
	/* What dies with its job may be absent once the job may be over. */
	ledger_end(l, &ch, rc == E_NOTFOUND && !alive ? E_GONE : rc, 0);
	worker_in_time(w, until_ns, "delete");
	return answered(w, via, j, began_ns, rc);
}

/* An object becomes one that stays, when its writer asks for it. */
PARKS static int persist_own(struct worker *w, struct via via, struct job_rec *j, struct key *k)
{
	struct ledger *l = w->cl->ledger;
	struct own_key *own = book_key(book_of(w), k);
	struct look look = ledger_look(l, k);
	uint64_t began_ns = now_ns(w), until_ns = worker_until(w);
	enum fate before = own->fate;
	struct wadi_opts o = { 0 };
	uint32_t last = k->n - 1;
	struct err_note note = { "" };
	int rc;

	own->fate = before == FATE_DIES ? FATE_EITHER : before;
	k->pending = true;
	j->put_bytes += k->entries[last].len; /* it may be written again elsewhere */
	rc = client_persist(via.c, bucket_name(via, j, own->bucket), k->name, &o, until_ns, &note);
	k->pending = false;
	scenario_say(w->cl->sc, "w%u persist %s%s: %s %s", w->number, k->bucket, k->name,
		err_name(rc), rc < 0 ? note.text : "");
	worker_in_time(w, until_ns, "persist");
	if (rc == 0) {
		own->fate = FATE_STAYS;
		if (l->era == look.era && k->floor == last && k->entries[last].put) {
			k->entries[last].durable = true;
			k->sure = last;
		}
	}
	return answered(w, via, j, began_ns, rc);
}

PARKS static int change(struct worker *w, struct via via, struct job_rec *j)
{
	struct key *k = book_own(w, j);
	uint64_t what = prng_below(&w->p, 8);

	if (k == NULL)
		return 0;
	if (what < 5)
		return put_own(w, via, j, k);
	return what < 7 ? delete_own(w, via, j, k) : persist_own(w, via, j, k);
}

/* ---- reading ---- */
/* Absent because its job may be over.  What stays stays. */
static bool may_be_absent(const struct own_key *own, const struct book *b)
{
	return !book_alive(b, own->job) && own->fate != FATE_STAYS;
}

PARKS int job_read(struct worker *w, struct via via, struct key *k, uint64_t until_ns)
{
	struct ledger *l = w->cl->ledger;
	struct own_key *own = book_key(book_of(w), k);
	struct job_rec *j = own->job;
	struct look look = ledger_look(l, k);
	uint64_t began_ns = now_ns(w);
	struct wadi_get_opts o = { 0 };
	size_t len = 0;
	uint8_t *buf = malloc(VALUE_BYTES_MAX);
	struct err_note note = { "" };
	int rc;

	check(buf != NULL);
	rc = client_get(via.c, bucket_name(via, j, own->bucket), k->name, buf, VALUE_BYTES_MAX, &o,
		until_ns, &len, NULL, &note);
	if (rc == 0 && j->over && began_ns > j->over_ns && own->fate == FATE_DIES)
		violation(w->cl->sc, "what does not persist goes with its job",
			"%s%s, of job %llu", k->bucket, k->name, (unsigned long long)j->id);
	if (rc == E_NOTFOUND && may_be_absent(own, book_of(w)))
		l->reads++;
	else
		ledger_got(l, k, look, rc, bytes_of(buf, rc == 0 ? len : 0));
	free(buf);
	worker_in_time(w, until_ns, "get");
	return answered(w, via, j, began_ns, rc);
}

PARKS static int read_any(struct worker *w, struct via via, struct job_rec *j)
{
	struct key *k = j->own[prng_below(&w->p, w->cl->n_machines * WORKERS_MAX)]
			      [prng_below(&w->p, BOOK_OWN_KEYS)];

	return k != NULL && !k->unknown ? job_read(w, via, k, worker_until(w)) : 0;
}

/* Nothing is ever put there: it waits for nothing, and its end is seen in time. */
PARKS static int wait_read(struct worker *w, struct via via, struct job_rec *j)
{
	struct wadi_get_opts o = { .wait_ms = (uint32_t)prng_below(&w->p, 1500) };
	uint64_t until_ns = worker_until(w), began_ns = now_ns(w);
	uint8_t buf[16];
	size_t len;
	int rc;

	rc = client_get(via.c, bucket_name(via, j, BUCKET_DIES), "never", buf, sizeof buf, &o,
		until_ns, &len, NULL, NULL);
	if (rc == 0)
		violation(w->cl->sc, "nothing is read that nobody put", "never");
	worker_in_time(w, until_ns + o.wait_ms * SYS_MS, "wait");
	return answered(w, via, j, began_ns, rc);
}

/* ---- items, deleted on read ---- */
PARKS static int item_put(struct worker *w, struct via via, struct job_rec *j)
{
	struct book *b = book_of(w);
	struct wadi_put_opts o = { .flags = WADI_PUT_DELETE_ON_READ };
	uint64_t began_ns = now_ns(w), until_ns = worker_until(w);
	uint32_t i = b->n_items, len = any_len(w);
	struct book_item *it = &b->items[i];
	struct wadi_info info;
	char name[24];
	uint8_t *buf;
	int rc;

	if (prng_odds(&w->p, 1, 6))
		o.ttl_ms = UINT64_C(86400000) * TEN_YEARS_DAYS;
	if (i == BOOK_ITEMS_MAX)
		return 0;
	b->n_items++;
	*it = (struct book_item){ .job = j,
		.bucket = prng_odds(&w->p, 1, 2) ? BUCKET_OWN : BUCKET_DIES };
	check((buf = malloc(len)) != NULL);
	snprintf(name, sizeof name, "i/%u", i);
	ledger_stamp(w->cl->ledger, BOOK_ITEM_WHAT, i, buf, len);
	j->put_bytes += len;
	j->admin_puts += via.admin;
	rc = client_put(via.c, bucket_name(via, j, it->bucket), name, bytes_of(buf, len), &o,
		until_ns, &info, NULL);
	free(buf);
	it->failed = rc < 0 && !ledger_unknown(rc);
	if (rc == 0) {
		ledger_version(w->cl->ledger, info.version);
		j->acked_bytes += book_alive(b, j) ? len : 0;
	}
	admin_put_end(w, via, j, rc);
	worker_in_time(w, until_ns, "item");
	return answered(w, via, j, began_ns, rc);
}

static void item_got(struct book *b, uint32_t i, uint32_t era, struct bytes data)
{
	struct book_item *it = &b->items[i];
	struct ledger *l = b->cl->ledger;
	uint64_t who;

	if (!ledger_stamped(l, BOOK_ITEM_WHAT, data, &who) || who != i)
		violation(b->cl->sc, "a read returns bytes that were put under its key", "i/%u", i);
	if (it->failed)
		violation(b->cl->sc, "a change that failed has no effect", "i/%u was got", i);
	if (it->got > 0 && it->got_era == l->era)
		violation(b->cl->sc, "what is deleted on read is read once", "i/%u twice", i);
	it->got++;
	it->got_era = era;
}

PARKS static int item_get(struct worker *w, struct via via, struct job_rec *j)
{
	struct book *b = book_of(w);
	uint32_t era = w->cl->ledger->era, i;
	uint64_t began_ns = now_ns(w), until_ns = worker_until(w);
	struct wadi_get_opts o = { 0 };
	uint8_t *buf;
	char name[24];
	size_t len;
	int rc;

	if (b->n_items == 0)
		return 0;
	i = (uint32_t)prng_below(&w->p, b->n_items);
	if (b->items[i].job != j)
		return 0;
	check((buf = malloc(VALUE_BYTES_MAX)) != NULL);
	snprintf(name, sizeof name, "i/%u", i);
	rc = client_get(via.c, bucket_name(via, j, b->items[i].bucket), name, buf, VALUE_BYTES_MAX,
		&o, until_ns, &len, NULL, NULL);
	if (rc == 0)
		item_got(b, i, era, bytes_of(buf, len));
	free(buf);
	worker_in_time(w, until_ns, "take");
	return answered(w, via, j, began_ns, rc);
}

/* ---- where nobody may go ---- */
PARKS static int trespass(struct worker *w, struct via via, struct job_rec *j)
{
	struct book *b = book_of(w);
	struct job_rec *other = &b->jobs[prng_below(&w->p, b->n_jobs)];
	enum book_bucket i = (enum book_bucket)prng_below(&w->p, BOOK_BUCKETS);
	struct wadi_put_opts po = { 0 };
	struct wadi_get_opts go = { 0 };
	uint64_t until_ns = worker_until(w), until_end_ns;
	struct wadi_job_end end;
	uint8_t buf[LEDGER_VALUE_MIN];
	size_t len;
	int rc[3];

	if (via.admin || other == j)
		return 0;
	ledger_stamp(w->cl->ledger, BOOK_PROBE_WHAT, ++b->claims, buf, sizeof buf);
	rc[0] = client_put(via.c, other->buckets[i], "x", bytes_of(buf, sizeof buf), &po, until_ns,
		NULL, NULL);
	rc[1] = client_get(via.c, other->buckets[i], "k/0", buf, sizeof buf, &go, until_ns, &len,
		NULL, NULL);
	until_end_ns = worker_until(w);
	rc[2] = client_job_end(via.c, other->id, until_end_ns, &end, NULL);
	for (int n = 0; n < 3; n++)
		if (rc[n] == 0 || rc[n] == E_TOOBIG || rc[n] == E_NOTFOUND)
			violation(w->cl->sc, "a job reaches nothing of another job",
				"job %llu, %s: %s", (unsigned long long)j->id, other->buckets[i],
				err_name(rc[n]));
	return rc[2];
}

PARKS int job_step(struct worker *w, struct via via, struct job_rec *j)
{
	uint64_t what = prng_below(&w->p, 24);

	if (what < 3)
		return make_bucket(w, via, j);
	if (what < 12)
		return change(w, via, j);
	if (what < 16)
		return read_any(w, via, j);
	if (what < 19)
		return item_put(w, via, j);
	if (what < 22)
		return item_get(w, via, j);
	return what < 23 ? wait_read(w, via, j) : trespass(w, via, j);
}

/* ---- jobs ---- */
static struct wadi_job_hints any_hints(struct worker *w)
{
	struct wadi_job_hints h = { .latency = (uint32_t)prng_below(&w->p, 3) };
	uint64_t lease = prng_below(&w->p, 8);

	h.workers = (uint32_t)prng_below(&w->p, 100);
	h.capacity_bytes = prng_below(&w->p, 1 << 24) & -prng_below(&w->p, 2);
	h.bandwidth_bps = prng_below(&w->p, UINT64_C(1) << 32) & -prng_below(&w->p, 2);
	h.tiers = (uint32_t)prng_below(&w->p, 8);
	h.quota_bytes = prng_odds(&w->p, 1, 4) ? 1 + prng_below(&w->p, 1 << 20) : 0;
	h.lease_ms = lease == 0 ? 0 : LIMIT_LEASE_MIN_MS + prng_below(&w->p, 7000);
	if (prng_odds(&w->p, 1, 30))
		h.lease_ms = LIMIT_LEASE_MIN_MS - 1;
	return h;
}

PARKS int job_register(struct worker *w, struct client *c, struct job_rec **ret_j)
{
	struct wadi_job_hints h = any_hints(w);
	uint64_t began_ns = now_ns(w), until_ns = worker_until(w);
	struct err_note note = { "" };
	struct wadi_job job;
	struct job_rec *j;
	int rc = client_job_register(c, "simulated", &h, until_ns, &job, &note);

	scenario_say(w->cl->sc, "w%u registers %llu: %s %s", w->number,
		rc == 0 ? (unsigned long long)job.id : 0, err_name(rc), rc < 0 ? note.text : "");
	worker_in_time(w, until_ns, "registration");
	if ((rc == E_INVALID) != (h.lease_ms > 0 && h.lease_ms < LIMIT_LEASE_MIN_MS) &&
		(rc == 0 || rc == E_INVALID))
		violation(w->cl->sc, "hints are taken or refused by what they say", "%s",
			err_name(rc));
	if (rc == E_UNKNOWN)
		sys_reached(w->sys, "job registered or not: nobody knows");
	if (rc < 0)
		return rc;
	j = book_add(book_of(w), &job, h.quota_bytes, began_ns);
	if (j == NULL)
		return E_FULL;
	*ret_j = j;
	return 0;
}

/* (J2) Nothing of an ended job is used or promised. */
PARKS static int room_look(struct worker *w, struct client *c, const struct job_rec *j)
{
	struct wadi_status *st;
	int rc = client_status(c, j->id, worker_until(w), &st, NULL);

	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < st->n_tiers; i++)
		if (st->tiers[i].used_bytes + st->tiers[i].granted_bytes > 0)
			violation(w->cl->sc, "the end of a job is told when its room is back",
				"job %llu has %llu used, %llu granted of tier %u",
				(unsigned long long)j->id,
				(unsigned long long)st->tiers[i].used_bytes,
				(unsigned long long)st->tiers[i].granted_bytes,
				st->tiers[i].tier);
	if (st->slab_used_bytes > 0 && j->admin_puts == 0 && !j->late_puts)
		violation(w->cl->sc, "the end of a job is told when its room is back",
			"job %llu has %llu bytes in the shard's memory", (unsigned long long)j->id,
			(unsigned long long)st->slab_used_bytes);
	free(st);
	return 0;
}

PARKS int job_end(struct worker *w, struct client *c, struct via via, struct job_rec *j)
{
	struct book *b = book_of(w);
	uint64_t until_ns = worker_until(w) + END_SEC * SYS_SEC;
	struct wadi_job_end end;
	struct err_note note = { "" };
	int rc;

	j->end_asked = true;
	b->n_ending++;
	rc = client_job_end(via.c, j->id, until_ns, &end, &note);
	b->n_ending--;
	scenario_say(w->cl->sc, "w%u ends %llu: %s %s", w->number, (unsigned long long)j->id,
		err_name(rc), rc < 0 ? note.text : "");
	worker_in_time(w, until_ns, "end");
	if (rc == E_NOTFOUND || rc == E_DENIED)
		violation(w->cl->sc, "a registered job is not forgotten", "job %llu: %s",
			(unsigned long long)j->id, err_name(rc));
	if (rc < 0)
		return rc;
	book_end_told(b, j, &end);
	return room_look(w, c, j);
}

PARKS int job_list(struct worker *w, struct client *c, uint64_t until_ns)
{
	struct wadi_job_info *infos = calloc(LIST_PAGE, sizeof *infos);
	uint64_t cursor = 0, began_ns = now_ns(w), last = 0;
	size_t n = 0;
	int rc;

	check(infos != NULL);
	do {
		rc = client_job_list(c, WADI_JOBS_ENDED, &cursor, until_ns, infos, LIST_PAGE, &n,
			NULL);
		for (size_t i = 0; rc == 0 && i < n; i++) {
			if (infos[i].id <= last)
				violation(w->cl->sc, "a list has each job once, in order", "%llu",
					(unsigned long long)infos[i].id);
			last = infos[i].id;
			book_listed(book_of(w), &infos[i], began_ns);
		}
	} while (rc == 0 && cursor != 0);
	free(infos);
	worker_in_time(w, until_ns, "list");
	return rc;
}
