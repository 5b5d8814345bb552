/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/book.h"
#include "base/check.h"
#include <stdio.h>
#include <string.h>

static const char alive_rule[] =
	"a job lives until its lease runs out or its end is asked for";

static uint64_t now_ns(const struct book *b) { return sim_now_ns(b->cl->sc->w); }

struct job_rec *book_add(struct book *b, const struct wadi_job *job, uint64_t quota_bytes,
	uint64_t asked_ns)
{
	static const char *const names[BOOK_BUCKETS] = { "", "b", "keep" };
	struct job_rec *j = &b->jobs[b->n_jobs];

	ledger_version(b->cl->ledger, job->id); /* ids are of one kind */
	if (b->n_jobs == BOOK_JOBS_MAX)
		return NULL;
	b->n_jobs++;
	*j = (struct job_rec){ .id = job->id, .lease_ns = job->lease_ms * SYS_MS,
		.quota_bytes = quota_bytes, .asked_ns = asked_ns, .heard_ns = asked_ns,
		.meta_starts = b->cl->meta_starts };
	snprintf(j->token, sizeof j->token, "%s", job->token);
	for (int i = 0; i < BOOK_BUCKETS; i++)
		snprintf(j->buckets[i], sizeof j->buckets[i], "%llu:%s",
			(unsigned long long)job->id, names[i]);
	return j;
}

struct job_rec *book_find(struct book *b, uint64_t id)
{
	for (uint32_t i = 0; i < b->n_jobs; i++)
		if (b->jobs[i].id == id)
			return &b->jobs[i];
	return NULL;
}

bool book_alive(const struct book *b, const struct job_rec *j)
{
	return !j->end_asked && now_ns(b) <= j->heard_ns + j->lease_ns;
}

void book_heard(struct book *b, struct job_rec *j, uint64_t began_ns)
{
	if (j->over && began_ns > j->over_ns)
		violation(b->cl->sc, "nobody acts for a job that has ended",
			"job %llu ended at %llu ms, a call of %llu ms was answered",
			(unsigned long long)j->id, (unsigned long long)(j->over_ns / SYS_MS),
			(unsigned long long)(began_ns / SYS_MS));
	if (j->gone && j->gone_era == b->cl->ledger->era && began_ns > j->gone_ns)
		violation(b->cl->sc, "a job that is gone does not come back",
			"job %llu was gone at %llu ms, a call of %llu ms was answered",
			(unsigned long long)j->id, (unsigned long long)(j->gone_ns / SYS_MS),
			(unsigned long long)(began_ns / SYS_MS));
	if (began_ns > j->heard_ns)
		j->heard_ns = began_ns;
}

void book_over(struct book *b, struct job_rec *j)
{
	if (j->over)
		return;
	j->over = j->end_asked = true;
	j->over_ns = now_ns(b);
}

void book_gone(struct book *b, struct job_rec *j)
{
	if (book_alive(b, j))
		violation(b->cl->sc, alive_rule,
			"job %llu is gone, %llu ms after it was heard",
			(unsigned long long)j->id,
			(unsigned long long)((now_ns(b) - j->heard_ns) / SYS_MS));
	j->gone = true;
	j->gone_era = b->cl->ledger->era;
	j->gone_ns = now_ns(b);
}

void book_end_told(struct book *b, struct job_rec *j, const struct wadi_job_end *end)
{
	bool same = end->files == j->end.files && end->bytes == j->end.bytes &&
		end->kept_files == j->end.kept_files && end->kept_bytes == j->end.kept_bytes;

	if (j->end_told && !same)
		violation(b->cl->sc, "whoever asks for an end is told the same",
			"job %llu: %llu files, then %llu", (unsigned long long)j->id,
			(unsigned long long)j->end.files, (unsigned long long)end->files);
	j->end = *end;
	j->end_told = true;
	book_over(b, j);
}

void book_listed(struct book *b, const struct wadi_job_info *info, uint64_t began_ns)
{
	struct job_rec *j = book_find(b, info->id);

	if (info->state == WADI_JOB_ACTIVE && info->quota_bytes > 0 &&
		info->used_bytes > info->quota_bytes)
		violation(b->cl->sc, "no job has more than its quota", "job %llu: %llu of %llu",
			(unsigned long long)info->id, (unsigned long long)info->used_bytes,
			(unsigned long long)info->quota_bytes);
	if (j == NULL)
		return;
	if (info->state < WADI_JOB_ENDED && j->over && began_ns > j->over_ns)
		violation(b->cl->sc, "a job that has ended stays so", "job %llu is in state %u",
			(unsigned long long)j->id, info->state);
	if (info->state < j->state && b->cl->ledger->era == j->state_era &&
		began_ns > j->state_ns)
		violation(b->cl->sc, "the state of a job goes one way", "job %llu: %u, then %u",
			(unsigned long long)j->id, j->state, info->state);
	if (info->state != WADI_JOB_ACTIVE && book_alive(b, j))
		violation(b->cl->sc, alive_rule, "job %llu is in state %u",
			(unsigned long long)j->id, info->state);
	j->state = info->state;
	j->state_era = b->cl->ledger->era;
	j->state_ns = now_ns(b);
}

struct key *book_own(struct worker *w, struct job_rec *j)
{
	struct book *b = book_of(w);
	uint64_t kind = prng_below(&w->p, 8);
	struct key **k = &j->own[w->number][prng_below(&w->p, BOOK_OWN_KEYS)];
	enum book_bucket bucket = kind < 3 ? BUCKET_OWN : kind < 6 ? BUCKET_DIES : BUCKET_STAYS;
	bool persist = prng_odds(&w->p, 1, 3);

	if (*k != NULL && (*k)->pending) { /* the machine died meanwhile */
		(*k)->unknown = true;
		(*k)->pending = false;
	}
	if (*k != NULL && ledger_usable(*k))
		return *k;
	*k = ledger_key(b->cl->ledger, j->buckets[bucket]);
	if (*k == NULL)
		return NULL;
	*book_key(b, *k) = (struct own_key){ j, bucket,
		persist || bucket == BUCKET_STAYS ? FATE_STAYS : FATE_DIES };
	return *k;
}
