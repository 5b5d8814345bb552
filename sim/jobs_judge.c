/* SPDX-License-Identifier: Apache-2.0 */
/* When nothing fails any more: what jobs have that live, how they end, and what is left of them. */
#include "sim/book.h"
#include "base/check.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	PAGE = 64,
	ASK_SEC = 20,
	KEEPALIVE_SEC = 60,     /* until the machine of a connection is known to have died */
	END_SEC = 20,
	LEASE_SHORT_SEC = 9,    /* those that are waited for */
	CALM_BYTES = 100000, CALM_SMALL_BYTES = 1000,
	LOOK_MS = 600,          /* between two looks of the controller, and a call */
};

static uint64_t soon(struct worker *w) { return sys_after(w->sys, ASK_SEC * SYS_SEC); }

/* ---- every job there is ---- */
struct all {
	struct wadi_job_info *infos;
	size_t n;
};

PARKS static int all_jobs(struct worker *w, struct client *c, struct all *ret)
{
	enum { MAX = 4 * BOOK_JOBS_MAX };
	uint64_t cursor = 0;
	size_t n = 0;
	int rc;

	if (ret->infos == NULL)
		ret->infos = scenario_alloc(w->cl->sc, MAX * sizeof *ret->infos);
	ret->n = 0;
	do {
		rc = client_job_list(c, WADI_JOBS_ENDED, &cursor, soon(w), ret->infos + ret->n,
			PAGE < MAX - ret->n ? PAGE : MAX - ret->n, &n, NULL);
		ret->n += rc == 0 ? n : 0;
	} while (rc == 0 && cursor != 0 && ret->n < MAX);
	return rc;
}

static const struct wadi_job_info *info_of(const struct all *all, uint64_t id)
{
	for (size_t i = 0; i < all->n; i++)
		if (all->infos[i].id == id)
			return &all->infos[i];
	return NULL;
}

PARKS static int read_keys(struct worker *w, struct client *c, struct job_rec *j)
{
	struct book *b = book_of(w);
	struct ledger *l = w->cl->ledger;

	for (uint32_t i = 0; i < l->n_keys; i++) {
		struct key *k = &l->keys[i];
		int rc;

		if (b->keys[i].job != j)
			continue;
		if (k->unknown || k->pending) {
			if (!j->over || b->keys[i].fate != FATE_DIES)
				continue; /* it has what nobody can know */
			k->unknown = true;
		}
		rc = job_read(w, (struct via){ c, true }, k, soon(w));
		if (rc < 0 && rc != E_NOTFOUND && rc != E_LOST && rc != E_CORRUPT) {
			scenario_say(w->cl->sc, "judge: %s%s: %s", k->bucket, k->name,
				err_name(rc));
			return rc;
		}
	}
	return 0;
}

/* (J1) for those that live. */
PARKS static int look_at_living(struct worker *w, struct client *c)
{
	struct book *b = book_of(w);
	int rc = 0;

	for (uint32_t i = 0; i < b->n_jobs && rc == 0; i++) {
		struct job_rec *j = &b->jobs[i];
		uint64_t began_ns = sim_now_ns(w->cl->sc->w);

		if (j->over || client_job_renew(c, j->id, soon(w), NULL) < 0)
			continue;
		book_heard(b, j, began_ns);
		if (book_alive(b, j))
			rc = read_keys(w, c, j);
	}
	return rc;
}

/* ---- ends ---- */
PARKS static int end_some(struct worker *w, struct client *c, const struct all *all)
{
	struct book *b = book_of(w);

	for (size_t i = 0; i < all->n; i++) {
		const struct wadi_job_info *info = &all->infos[i];
		bool lapse = info->lease_ms < LEASE_SHORT_SEC * 1000 && prng_odds(&w->p, 1, 2);
		struct job_rec *j = book_find(b, info->id);
		int rc;

		if (info->state == WADI_JOB_ENDED || lapse)
			continue;
		rc = j != NULL ? job_end(w, c, (struct via){ c, true }, j) :
				 client_job_end(c, info->id, soon(w), NULL, NULL);
		if (rc < 0)
			violation(w->cl->sc,
				"when the faults have stopped, a job ends when it is asked to",
				"job %llu: %s", (unsigned long long)info->id, err_name(rc));
	}
	return 0;
}

/* (J5) */
PARKS static int wait_for_ends(struct worker *w, struct client *c, struct all *all)
{
	uint64_t until_ns =
		sys_after(w->sys, (KEEPALIVE_SEC + LEASE_SHORT_SEC + END_SEC) * SYS_SEC);
	const struct wadi_job_info *left;
	int rc;

	for (;;) {
		left = NULL;
		rc = all_jobs(w, c, all);
		for (size_t i = 0; i < all->n && rc == 0; i++)
			if (all->infos[i].state != WADI_JOB_ENDED)
				left = &all->infos[i];
		if (rc < 0 || left == NULL)
			return rc;
		if (sys_now_ns(w->sys) > until_ns)
			break;
		rc = fiber_sleep(sys_after(w->sys, 200 * SYS_MS));
	}
	violation(w->cl->sc, "a job that nobody speaks for ends soon after its lease",
		"job %llu is in state %u, %llu ms of its lease are left, %u connections",
		(unsigned long long)left->id, left->state,
		(unsigned long long)left->lease_left_ms, left->connections);
	return E_TIMEOUT;
}

/* (J2) */
PARKS static int no_room(struct worker *w, struct client *c, uint64_t job)
{
	struct wadi_status *st;
	int rc = client_status(c, job, soon(w), &st, NULL);

	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < st->n_tiers; i++) {
		const struct wadi_tier_status *t = &st->tiers[i];

		if (t->used_bytes + t->granted_bytes + t->orphaned_bytes + t->pinned_bytes > 0)
			violation(w->cl->sc, "after the end of a job all of its room is back",
				"job %llu: used %llu, granted %llu, orphaned %llu of tier %u",
				(unsigned long long)job, (unsigned long long)t->used_bytes,
				(unsigned long long)t->granted_bytes,
				(unsigned long long)t->orphaned_bytes, t->tier);
	}
	free(st);
	return 0;
}

/* (J3) */
PARKS static int token_refused(struct worker *w, const struct job_rec *j)
{
	struct client_opts o = { .addr = w->cl->metas.addr, .wait = true,
		.token = bytes_of(j->token, strlen(j->token)) };
	struct client *c = NULL;
	struct err_note note;
	int rc = client_new(w->sys, &o, soon(w), &c, &note);

	if (rc == 0)
		client_free(c);
	if (rc == 0 || rc == E_DENIED)
		violation(w->cl->sc, "the token of a job that has ended is refused as such",
			"job %llu: %s", (unsigned long long)j->id, err_name(rc));
	return rc == E_GONE ? 0 : rc;
}

/* ---- bills ---- */
struct sums {
	double byte_seconds, peak_bytes;
	uint64_t written_bytes, read_bytes;
};

PARKS static int bill_of(struct worker *w, struct client *c, uint64_t job, double most_seconds,
	struct sums *ret)
{
	struct wadi_bill *bill = calloc(1, sizeof *bill);
	int rc;

	check(bill != NULL);
	rc = client_job_bill(c, job, soon(w), bill, NULL);
	*ret = (struct sums){ 0 };
	for (uint32_t i = 0; rc == 0 && i < bill->n_lines; i++) {
		const struct wadi_bill_line *l = &bill->lines[i];

		if (l->byte_seconds > (double)l->peak_bytes * most_seconds)
			violation(w->cl->sc, "a bill is at most the peak for as long as it took",
				"job %llu, tier %u: %.0f byte-seconds, peak %llu, %.1f s",
				(unsigned long long)job, l->tier, l->byte_seconds,
				(unsigned long long)l->peak_bytes, most_seconds);
		ret->byte_seconds += l->byte_seconds;
		ret->peak_bytes += (double)l->peak_bytes;
		ret->written_bytes += l->written_bytes;
		ret->read_bytes += l->read_bytes;
	}
	free(bill);
	return rc;
}

/* (J6) for what happened under faults. */
PARKS static int bill_check(struct worker *w, struct client *c, const struct job_rec *j)
{
	uint64_t end_ns = j->over ? j->over_ns : sim_now_ns(w->cl->sc->w);
	bool one_life = w->cl->meta_starts == j->meta_starts;
	struct sums s;
	int rc = bill_of(w, c, j->id, (double)(end_ns - j->asked_ns) / SYS_SEC + 1, &s);

	if (rc < 0)
		return rc;
	if (s.written_bytes > j->put_bytes || (one_life && s.written_bytes < j->acked_bytes))
		violation(w->cl->sc, "a bill has what was written",
			"job %llu: %llu bytes, of %llu acknowledged, %llu tried",
			(unsigned long long)j->id, (unsigned long long)s.written_bytes,
			(unsigned long long)j->acked_bytes, (unsigned long long)j->put_bytes);
	return 0;
}

/* (J6) exactly, for a job that nothing disturbs. */
PARKS static int calm_use(struct worker *w, struct client *jc, uint64_t hold_ns, uint8_t *buf)
{
	struct wadi_put_opts po = { 0 };
	struct wadi_get_opts go = { 0 };
	size_t len;
	int rc;

	ledger_stamp(w->cl->ledger, BOOK_PROBE_WHAT, 0, buf, CALM_BYTES);
	rc = client_put(jc, "", "large", bytes_of(buf, CALM_BYTES), &po, soon(w), NULL, NULL);
	if (rc == 0)
		rc = client_put(jc, "", "small", bytes_of(buf, CALM_SMALL_BYTES), &po, soon(w),
			NULL, NULL);
	if (rc == 0)
		rc = client_get(jc, "", "large", buf, CALM_BYTES, &go, soon(w), &len, NULL, NULL);
	if (rc == 0)
		rc = fiber_sleep(sys_after(w->sys, hold_ns));
	return rc;
}

PARKS static int calm_job(struct worker *w, struct client *c)
{
	struct wadi_job_hints h = { .latency = (uint32_t)prng_below(&w->p, 3) };
	uint64_t hold_ns = SYS_SEC + prng_below(&w->p, 10 * SYS_SEC), began_ns;
	double bytes = CALM_BYTES + CALM_SMALL_BYTES, held = (double)hold_ns / SYS_SEC, most;
	uint8_t *buf = scenario_alloc(w->cl->sc, CALM_BYTES);
	struct client_opts o = { .addr = w->cl->metas.addr, .wait = true };
	struct client *jc;
	struct wadi_job job;
	struct err_note note;
	struct sums s;
	int rc;

	began_ns = sim_now_ns(w->cl->sc->w);
	rc = client_job_register(c, "calm", &h, soon(w), &job, NULL);
	if (rc < 0)
		return rc;
	o.token = bytes_of(job.token, strlen(job.token));
	rc = client_new(w->sys, &o, soon(w), &jc, &note);
	if (rc < 0)
		return rc;
	rc = calm_use(w, jc, hold_ns, buf);
	if (rc == 0)
		rc = client_job_end(jc, 0, soon(w), NULL, NULL);
	client_free(jc);
	most = (double)(sim_now_ns(w->cl->sc->w) - began_ns) / SYS_SEC;
	if (rc == 0)
		rc = bill_of(w, c, job.id, most + LOOK_MS / 1000.0, &s);
	if (rc < 0)
		return rc;
	if (s.written_bytes != (uint64_t)bytes || s.read_bytes != CALM_BYTES ||
		s.byte_seconds < bytes * (held - LOOK_MS / 1000.0))
		violation(w->cl->sc, "a bill has what was stored, and how long",
			"%.0f byte-seconds of %.0f bytes for %.1f s; written %llu, read %llu",
			s.byte_seconds, bytes, held, (unsigned long long)s.written_bytes,
			(unsigned long long)s.read_bytes);
	return no_room(w, c, job.id);
}

/* ---- what stays ---- */
static bool must_stay(const struct book *b, const struct job_rec *j)
{
	for (int i = 0; i < BOOK_BUCKETS; i++)
		if (j->made[i] && i == BUCKET_STAYS)
			return true;
	return false;
}

/* Buckets of jobs are those that persist; drops them. */
PARKS static int drop_buckets(struct worker *w, struct client *c)
{
	struct wadi_bucket_info *infos = scenario_alloc(w->cl->sc, PAGE * sizeof *infos);
	char name[LEDGER_NAME_MAX + 256];
	uint64_t cursor;
	size_t n;
	int rc;

	do {
		cursor = 0;
		rc = client_bucket_list(c, &cursor, soon(w), infos, PAGE, &n, NULL);
		for (size_t i = 0; i < n && rc == 0; i++) {
			if (infos[i].lifetime != WADI_LIFETIME_PERSIST)
				violation(w->cl->sc, "what does not persist goes with its job",
					"bucket %s of job %llu", infos[i].name,
					(unsigned long long)infos[i].job);
			snprintf(name, sizeof name, "%llu:%s", (unsigned long long)infos[i].job,
				infos[i].name);
			rc = client_bucket_drop(c, name, soon(w), NULL);
		}
	} while (rc == 0 && n > 0);
	return rc;
}

PARKS static int look_at_ended(struct worker *w, struct client *c, const struct all *all)
{
	struct book *b = book_of(w);
	int rc = 0;

	for (uint32_t i = 0; i < b->n_jobs && rc == 0; i++) {
		struct job_rec *j = &b->jobs[i];

		if (info_of(all, j->id) == NULL) {
			violation(w->cl->sc, "a registered job is not forgotten", "job %llu",
				(unsigned long long)j->id);
			return E_NOTFOUND;
		}
		book_over(b, j);
		rc = token_refused(w, j);
		if (rc == 0)
			rc = read_keys(w, c, j);
		if (rc == 0)
			rc = bill_check(w, c, j);
		if (rc == 0 && must_stay(b, j))
			rc = client_bucket_stat(c, j->buckets[BUCKET_STAYS], soon(w), NULL, NULL);
		if (rc == E_NOTFOUND)
			violation(w->cl->sc, "what persists stays", "bucket %s",
				j->buckets[BUCKET_STAYS]);
	}
	for (size_t i = 0; i < all->n && rc == 0; i++)
		rc = no_room(w, c, all->infos[i].id);
	return rc;
}

PARKS int jobs_judge(struct worker *w, struct client *c)
{
	struct all all = { NULL, 0 };
	struct cluster *cl = w->cl;
	int rc = look_at_living(w, c);

	if (rc == 0)
		rc = all_jobs(w, c, &all);
	if (rc == 0)
		rc = end_some(w, c, &all);
	if (rc == 0)
		rc = wait_for_ends(w, c, &all);
	if (rc == 0)
		rc = look_at_ended(w, c, &all);
	if (rc == 0)
		rc = calm_job(w, c);
	if (rc == 0)
		rc = drop_buckets(w, c);
	scenario_say(cl->sc, "%u jobs were begun", book_of(w)->n_jobs);
	cluster_judged(cl, rc);
	return rc;
}
