/* SPDX-License-Identifier: Apache-2.0 */
/* book.h: what the clients of a simulated cluster were told about jobs, kept outside of it, and
 * what may follow from that.  Objects are in the ledger (ledger.h); here is whose they are.
 *
 * A job is *surely alive* until somebody asks for its end, or until its lease has run out since it
 * was last heard: since the latest call that was answered began.  It is *over* when somebody was
 * told so.  What was told and not synced may be undone by a power cut, which ends an era. */
#ifndef SIM_BOOK_H
#define SIM_BOOK_H
#include "sim/cluster.h"

enum {
	BOOK_JOBS_MAX = 48,
	BOOK_ITEMS_MAX = 256,
	BOOK_OWN_KEYS = 2,          /* of one worker in one job */
	BOOK_TOKEN_MAX = 132,
	BOOK_ITEM_WHAT = 1 << 20,   /* stamps of values */
	BOOK_PROBE_WHAT = 2 << 20,
};
/* The buckets of a job: its own, one that dies with it, one that stays. */
enum book_bucket { BUCKET_OWN, BUCKET_DIES, BUCKET_STAYS, BOOK_BUCKETS };
/* What the job's end does to what stands under a key. */
enum fate { FATE_DIES, FATE_STAYS, FATE_EITHER };

struct job_rec {
	uint64_t id, lease_ns, quota_bytes;
	char token[BOOK_TOKEN_MAX];
	char buckets[BOOK_BUCKETS][LEDGER_NAME_MAX]; /* as an administrator names them */
	bool made[BOOK_BUCKETS];    /* a client was told so, in that era: */
	uint32_t made_era[BOOK_BUCKETS];
	uint64_t made_ns[BOOK_BUCKETS];
	uint64_t asked_ns, heard_ns;
	bool end_asked, over;
	uint64_t over_ns;
	/* Puts of administrators: under way or unknown; answered when it may have been over. */
	uint32_t admin_puts;
	bool late_puts;
	bool gone;                  /* a client was told so, in that era: */
	uint32_t gone_era;
	uint64_t gone_ns;
	bool end_told;
	struct wadi_job_end end;
	uint32_t state, state_era;  /* seen in a list: */
	uint64_t state_ns;
	uint32_t meta_starts;       /* when it was registered */
	uint64_t put_bytes, acked_bytes; /* asked for, acknowledged */
	struct key *own[CLIENTS_MAX * WORKERS_MAX][BOOK_OWN_KEYS];
};
struct own_key {
	struct job_rec *job;
	enum book_bucket bucket;
	enum fate fate;
};
struct book_item { /* deleted on read */
	struct job_rec *job;
	enum book_bucket bucket;
	bool failed;
	uint32_t got, got_era;
};
struct book {
	struct cluster *cl;
	uint32_t n_jobs, n_items;
	uint32_t n_ending;          /* ends that are asked for and not answered yet */
	uint64_t claims;
	struct job_rec jobs[BOOK_JOBS_MAX];
	struct book_item items[BOOK_ITEMS_MAX];
	struct own_key keys[LEDGER_KEYS_MAX]; /* as in the ledger */
};
static inline struct book *book_of(const struct worker *w) { return w->mine; }

/* NULL when the book is full. */
struct job_rec *book_add(struct book *b, const struct wadi_job *job, uint64_t quota_bytes,
	uint64_t asked_ns);
struct job_rec *book_find(struct book *b, uint64_t id);
bool book_alive(const struct book *b, const struct job_rec *j);
/* A call for the job began then and was answered: it was alive. */
void book_heard(struct book *b, struct job_rec *j, uint64_t began_ns);
/* Its end was confirmed, or its token refused. */
void book_over(struct book *b, struct job_rec *j);
void book_gone(struct book *b, struct job_rec *j);
/* The answer to a question for the end. */
void book_end_told(struct book *b, struct job_rec *j, const struct wadi_job_end *end);
/* A list that was asked for then says so. */
void book_listed(struct book *b, const struct wadi_job_info *info, uint64_t began_ns);

/* A key of a worker, made anew when it cannot be used any more; NULL: there are no more. */
struct key *book_own(struct worker *w, struct job_rec *j);
static inline struct own_key *book_key(struct book *b, const struct key *k)
{
	return &b->keys[k - b->cl->ledger->keys];
}

/* ---- what workers do (jobs_load.c) ---- */
/* via acts for the job, or for an administrator. */
struct via {
	struct client *c;
	bool admin;
};
PARKS int job_step(struct worker *w, struct via via, struct job_rec *j);
PARKS int job_read(struct worker *w, struct via via, struct key *k, uint64_t until_ns);
/* Deadlines that leave time for the end of a job. */
PARKS int job_end(struct worker *w, struct client *c, struct via via, struct job_rec *j);
PARKS int job_list(struct worker *w, struct client *c, uint64_t until_ns);
PARKS int job_register(struct worker *w, struct client *c, struct job_rec **ret_j);

/* ---- afterwards (jobs_judge.c) ---- */
PARKS int jobs_judge(struct worker *w, struct client *c);
#endif
