/* SPDX-License-Identifier: Apache-2.0 */
/* shard.h: one metadata shard: buckets, names, small files, sessions, over the rows of db.h.
 *
 * Each request of meta.def is a function here.  None of them parks, so each is atomic: it refuses
 * before its first effect, or all of its effects are in one log record.  What it answers must not
 * be let out before shard_seen() is written (synced when call.sync says so), refusals included:
 * serve.h gates its replies, a caller in the same process uses shard_settle().
 *
 * Bytes and lists in an answer are borrowed until the next call or park.  Errors that any of them
 * may answer besides their own: E_GONE (the bucket is no more: look its name up again), E_NOTFOUND
 * (directory or name), E_DENIED (the bucket belongs to another job), E_INVALID (a flag, name or
 * combination that makes no sense), E_BUSY (merges or ids cannot keep up), E_UNKNOWN (a number that
 * has fallen out of its session's window), E_CORRUPT (a row that no version wrote), E_IO and E_FULL
 * (the log has failed: nothing is changed any more), E_NOTPRIMARY (another replica leads). */
#ifndef META_SHARD_H
#define META_SHARD_H
#include "core/meter.h"
#include "meta/auth.h"
#include "meta/db.h"
#include "meta/slab.h"
#include "wire/wire.h"

struct shard;
struct session;

struct shard_opts {
	uint64_t slab_bytes; /* memory for small files; 0: SHARD_SLAB_BYTES_DEFAULT */
	uint64_t epoch;      /* under which it leads; above 0 */
	/* Other replicas hold the rows too, or are to: then small files without protection are kept
	 * in rows rather than in memory, so that the end of this process does not touch them, and
	 * what is in memory is moved, a bounded part a turn, until none is (shard_status.slab).
	 * Asked at the start and twice a second.  Must not park.  NULL: they do not. */
	bool (*spread)(void *arg);
	/* The disk under the metadata is full: whether another replica is about to lead instead, so
	 * that whoever writes asks again.  Must not park.  NULL: none is. */
	bool (*yields)(void *arg);
	void *arg;
};
#define SHARD_SLAB_BYTES_DEFAULT (UINT64_C(1) << 30)

/* Over rows that may be written and stay somebody else's, who hands on what db.h tells, until
 * shard_close(), and after that writes what is pending. */
PARKS int shard_open(struct sys *s, struct db *db, const struct shard_opts *o,
	struct shard **ret_sh, struct err_note *note);
/* Ends its fibers, frees.  No call may be under way.  NULL is fine. */
PARKS void shard_close(struct shard *sh);
void shard_sealing(struct shard *sh);
void shard_moved(struct shard *sh, uint64_t written, uint64_t synced);
/* Another replica leads (E_NOTPRIMARY), or the log has failed: from now on nothing is written and
 * every call refuses with rc; who waits in one is woken.  Only the first time counts. */
void shard_stop(struct shard *sh, int rc);

/* Who calls, and what the answer has to wait for. */
struct shard_call {
	struct principal who;
	struct session
		*session; /* NULL: nothing is remembered for a retry, and nothing can be consumed */
	uint64_t number;  /* of the request in its session; 0: not numbered */
	uint16_t version; /* of the wire, for lists in the answer */
	uint64_t ticket;  /* of large_domain_drop(), out: what large_settle() waits for; of other
			   * calls, in: large_ticket(), out: 0 when all outstanding drops are to
			   * be waited for */
	bool sync;        /* out: the answer waits until shard_seen() is synced, not just written */
	struct err_note note; /* out: filled on failure */
};
uint64_t shard_seen(const struct shard *sh);
int shard_failed(const struct shard *sh);     /* 0, or the code of shard_stop() */
uint64_t shard_life(const struct shard *sh);  /* number of this start, from 1 */
uint64_t shard_epoch(const struct shard *sh); /* as opened */
/* The shard's time, in milliseconds: goes on whoever leads, and never goes back.  The first is for
 * answers that wait for shard_seen(), the second for those that do not. */
uint64_t shard_time_ms(const struct shard *sh);
uint64_t shard_time_held_ms(struct shard *sh);
PARKS int shard_settle(struct shard *sh, const struct shard_call *c, uint64_t until_ns);

/* ---- sessions ---- */
/* One for each client id; every connection of the client opens it once more.  0,0 is not a session.
 * E_DENIED: it belongs to another principal.  E_BUSY: SESSIONS_MAX clients are connected. */
int session_open(struct shard *sh, const struct principal *who, uint64_t client_hi,
	uint64_t client_lo, struct session **ret_s);
void session_close(struct shard *sh, struct session *s); /* a connection has gone; NULL is fine */
uint64_t session_id(const struct session *s); /* in rows; 0: none yet */
uint64_t session_last_number(const struct session *s);   /* highest that is remembered, or 0 */

/* ---- buckets ---- */
/* LIFETIME_DEFAULT is JOB in a job, PERSIST without; PROTECT_DEFAULT is COPIES where the lifetime
 * is PERSIST, else NONE.  E_EXISTS; E_CONFLICT: exists_ok, and the one there has another policy;
 * E_FULL: BUCKETS_MAX. */
int shard_bucket_create(struct shard *sh, struct shard_call *c, const struct msg_bucket_create *m,
	struct msg_bucket_ok *ret);
int shard_bucket_open(struct shard *sh, struct shard_call *c, const struct msg_bucket_open *m,
	struct msg_bucket_ok *ret);
/* The bucket is gone when this returns; the room of its files comes back in the background, in
 * steps. */
int shard_bucket_drop(struct shard *sh, struct shard_call *c, const struct msg_bucket_drop *m);
int shard_bucket_list(struct shard *sh, struct shard_call *c, const struct msg_bucket_list *m,
	struct msg_bucket_list_ok *ret);

/* ---- files ---- */
/* E_TOOBIG: more than INLINE_BYTES_MAX; E_EXISTS, E_CONFLICT: conditions, or a directory has the
 * name; E_FULL: slab, or the bucket's quota. */
int shard_put(struct shard *sh, struct shard_call *c, const struct msg_put *m, struct bytes data,
	struct msg_put_ok *ret);
/* E_NOTFOUND also with GET_WAIT: see shard_get_wait().  E_GONE: the inode asked for is no more.
 * E_CONFLICT: another session is consuming the file.  E_LOST: the bytes died with an earlier
 * process. E_CORRUPT: the bytes are not those that were put. */
int shard_get(struct shard *sh, struct shard_call *c, const struct msg_get *m,
	struct msg_get_ok *ret, struct bytes *ret_data);
/* With GET_WAIT parks until there is such a file that nobody else is consuming, at most wait_ms:
 * E_TIMEOUT, or E_CANCELED with the fiber; E_BUSY beyond WAITERS_MAX.  m outlives the park. */
PARKS int shard_get_wait(struct shard *sh, struct shard_call *c, const struct msg_get *m,
	struct msg_get_ok *ret, struct bytes *ret_data);
/* Whether a get that shard_get() answered with rc is one that waits. */
bool shard_may_appear(struct shard *sh, struct shard_call *c, const struct msg_get *m, int rc);
/* Frees a file that this session got with GET_CONSUME.  E_GONE: deleted or replaced meanwhile, or
 * done before.  E_CONFLICT: it is there, but the session's mark has lapsed. */
int shard_done(struct shard *sh, struct shard_call *c, const struct msg_done *m);
/* E_NOTEMPTY; E_CONFLICT: version. */
int shard_delete(struct shard *sh, struct shard_call *c, const struct msg_delete *m);
int shard_stat(
	struct shard *sh, struct shard_call *c, const struct msg_stat *m, struct msg_stat_ok *ret);
/* A page ends early when its reply would be too long, or after LIST_STEPS_MAX rows: next says
 * whether there is more. */
int shard_list(
	struct shard *sh, struct shard_call *c, const struct msg_list *m, struct msg_list_ok *ret);
/* E_CROSS: another bucket; E_EXISTS: PUT_IF_ABSENT; E_CONFLICT: a file onto a directory or the
 * other way round, a directory into itself, a file that is being consumed; E_NOTEMPTY; E_TOOBIG:
 * DEPTH_MAX. */
int shard_rename(
	struct shard *sh, struct shard_call *c, const struct msg_rename *m, struct msg_put_ok *ret);
int shard_mkdir(
	struct shard *sh, struct shard_call *c, const struct msg_mkdir *m, struct msg_put_ok *ret);
/* E_LOST; E_CONFLICT: it is being consumed. */
int shard_persist(struct shard *sh, struct shard_call *c, const struct msg_persist *m);
enum { LIST_STEPS_MAX = 4096 };

/* ---- for the controller, which keeps rows of its own here ---- */
struct db *shard_db(struct shard *sh);
/* Before and behind a change of its own, as the requests here do it.  E_BUSY: merges cannot keep
 * up; E_FULL: the disk is full, for what does not make room on it. */
int shard_writable(const struct shard *sh, struct shard_call *c);
int shard_may_free(const struct shard *sh, struct shard_call *c);
void shard_want_sync(struct shard *sh, struct shard_call *c); /* before shard_keep() */
/* Somebody waits for seen to be written, and not for its sync. */
void shard_want_written(struct shard *sh, uint64_t seen);
/* 0: the request is new; 1: it was answered, with first; or an error. */
int shard_recall(struct shard *sh, struct shard_call *c, uint16_t op, uint64_t *ret_first);
void shard_keep(struct shard *sh, const struct shard_call *c, uint16_t op, uint64_t first);

/* What a job has in this shard, and what it moved since the shard was opened. */
struct shard_io { uint64_t written_bytes, read_bytes, writes, reads; };
struct shard_use {
	uint64_t buckets, files, used_bytes;
	uint64_t slab_bytes; /* of used_bytes */
	/* Told of every change: what nobody else could use meanwhile.  Used and granted, small
	 * files in the slab as dram.  Nanoseconds of the loop. */
	struct meter meters[TIER_COUNT];
	struct shard_io io[TIER_COUNT];
};
const struct shard_use *shard_use(const struct shard *sh, uint64_t job); /* NULL: unknown */
/* From now on buckets are made only for jobs that were begun.  Without a controller: for any. */
void shard_jobs_known(struct shard *sh);
/* What it has and moves is counted from now on, until shard_job_forget(); buckets are made for it
 * only while it is active.  E_NOMEM. */
int shard_job_begin(struct shard *sh, uint64_t job, uint64_t quota_bytes, bool active);
/* Drops the buckets of a job but for what persists, in one record: a bucket of LIFETIME_PERSIST
 * stays, any other in which files persist becomes one when the others are gone.  No bucket is made
 * for the job any more. */
struct shard_freed { uint64_t files, bytes, kept_files, kept_bytes; };
int shard_job_drop(struct shard *sh, struct shard_call *c, uint64_t job, struct shard_freed *ret);
/* Buckets of the job whose room is still coming back. */
uint32_t shard_job_dropping(const struct shard *sh, uint64_t job);
void shard_job_forget(struct shard *sh, uint64_t job); /* it has ended, nobody asks any more */

/* ---- for the operator ---- */
struct shard_status {
	uint64_t buckets, files, used_bytes; /* named; bytes as their owners count them */
	uint64_t dropping;                   /* dropped buckets whose room is still coming back */
	uint64_t sessions, marks, waiting;
	struct slab_status slab;
	struct db_status db;
};
void shard_status(const struct shard *sh, struct shard_status *ret_st);
/* Walks all rows; a failed check when they contradict one another or the sums. */
void shard_audit(struct shard *sh);
#endif
