/* SPDX-License-Identifier: Apache-2.0 */
/* wadi.h: the public interface of Wadi, ephemeral storage for jobs.
 *
 *   struct wadi *w;
 *   struct wadi_note why;
 *
 *   if (wadi_connect(NULL, NULL, &w, &why) < 0)
 *           errx(1, "%s", why.text);
 *   if (wadi_put(w, "bucket", "key", "hello", 5, NULL, NULL) < 0)
 *           errx(1, "%s", wadi_error(w));
 *   wadi_close(w);
 *
 * Results.  Functions that can fail return 0 (or a count) and a negative WADI_E_* code.  Outputs,
 * named ret_*, are optional unless marked "required" and untouched on failure.  The sentence that
 * explains a failure is kept with the handle, or with the operation: wadi_error(), wadi_op_error().
 *
 * Threads.  A handle and everything made from it belong to one thread at a time: use one handle per
 * thread, or a lock of your own.  The library starts no thread, installs no signal handler and
 * keeps no global state.  Do not use a handle in the child of a fork.
 *
 * Waiting.  Every call has a deadline: timeout_ms of its options, or the handle's.  Calls whose
 * name ends in _start return at once; see "asynchronous calls".  The others wait for their own
 * result and meanwhile advance everything else that is under way on the handle.
 *
 * Names.  Buckets are 1 to 255 bytes without '/' and ':'; keys 1 to 1024 bytes of UTF-8.  Both are
 * C strings.  A handle that acts for a job sees that job's buckets; one given as NULL or "" is the
 * job's own, made when first written.  A handle that acts for none sees those that belong to no
 * job, and "17:results" and "17:" are the bucket results of job 17 and its own.
 *
 * Options are structs that begin with their own size, set to sizeof the struct; the other members
 * are zero for the default, and NULL for the struct is all defaults.  Members named held_* and
 * arguments named held_* must stay valid and unchanged until the operation has ended.
 *
 * Times are milliseconds; wall-clock times are Unix time in milliseconds. */
#ifndef WADI_H
#define WADI_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined __GNUC__
#define WADI_API __attribute__((visibility("default")))
#else
#define WADI_API
#endif

/* ---- errors and version ---- */
enum wadi_error_code {
	WADI_E_NOMEM = -1,        /* out of memory */
	WADI_E_IO = -2,           /* a device failed */
	WADI_E_CORRUPT = -3,      /* a checksum or a message does not match */
	WADI_E_STALE = -4,        /* an epoch or version is older than the server's */
	WADI_E_BUSY = -5,         /* retry later */
	WADI_E_TOOBIG = -6,       /* beyond a fixed limit, or than the buffer given */
	WADI_E_CANCELED = -7,     /* by wadi_op_cancel() */
	WADI_E_NOTFOUND = -8,
	WADI_E_EXISTS = -9,
	WADI_E_CONFLICT = -10,    /* a condition of the request does not hold */
	WADI_E_DENIED = -11,
	WADI_E_INVALID = -12,
	WADI_E_TIMEOUT = -13,     /* the deadline passed and nothing was changed */
	WADI_E_CLOSED = -14,
	WADI_E_UNREACH = -15,
	WADI_E_FULL = -16,        /* no room left, or a quota is used up */
	WADI_E_LOST = -17,        /* the bytes died with their server */
	WADI_E_GONE = -18,        /* deleted while it was read */
	WADI_E_UNSUPPORTED = -19,
	WADI_E_NOTPRIMARY = -20,
	WADI_E_UNKNOWN = -21,     /* the deadline passed; the change may have happened or not */
	WADI_E_INUSE = -22,
	WADI_E_NOTEMPTY = -23,
	WADI_E_CROSS = -24,       /* a rename between buckets */
	WADI_E_UNAVAILABLE = -25
};

/* Room for one sentence about a failure, NUL-terminated; owned by the caller. */
struct wadi_note {
	char text[256];
};

WADI_API const char *wadi_version(void);           /* "0.1.0" */
WADI_API const char *wadi_strerror(int rc);        /* "not found"; static storage */
WADI_API const char *wadi_error_name(int rc);      /* "NOTFOUND" */

/* ---- connecting ---- */
struct wadi;

enum { WADI_PORT = 9234 };

struct wadi_connect_opts {
	size_t size;
	const char *token;       /* job token; NULL: the environment's WADI_JOB_TOKEN; "": none */
	const char *key_file;    /* for TCP; NULL: WADI_KEY, or the one beside the default socket */
	const char *name;        /* shown to operators; NULL: none */
	uint32_t timeout_ms;     /* default deadline of this handle's calls; 0: 30 s */
	uint32_t connect_ms;     /* how long connecting may take; 0: 5 s.  While the server refuses
	                          * connections it is tried again only with WADI_CONNECT_WAIT */
	uint32_t flags;          /* WADI_CONNECT_* */
	const char *cert_dir;    /* folder of ca.crt, wadi.crt and wadi.key, for TLS; NULL:
	                          * WADI_CERT, or ~/.wadi/cert */
};
enum { WADI_CONNECT_WAIT = 1 /* try until connect_ms are over: the server may be starting */ };

/* url: "wadis://HOST[:PORT]" (TLS), "wadi://HOST[:PORT]" (not encrypted), "unix:/PATH", or NULL:
 * the environment's WADI_URL, or the socket of this user's `wadi serve`.  At most 8 with commas
 * ("wadis://a,b,c") name several nodes of one system: one that answers is enough, it tells where
 * the others are.  The connection goes to the node that leads.  When that breaks, falls silent or
 * leads no more, the next one is found by itself; calls under way are repeated there, with the same
 * effect as once, until their deadlines.  A node is never followed to where the connection would be
 * protected less than to those that the url names.  ret_w is required; why may be NULL.
 * WADI_E_UNREACH, WADI_E_DENIED, WADI_E_INVALID (the url), WADI_E_NOTPRIMARY (no node leads),
 * WADI_E_TIMEOUT. */
WADI_API int wadi_connect(const char *url, const struct wadi_connect_opts *opts,
	struct wadi **ret_w, struct wadi_note *why);
/* Cancels what is under way, gives unused room back, frees the handle and its operations.  Writers,
 * readers, lists and views must have been closed before.  NULL is fine. */
WADI_API void wadi_close(struct wadi *w);
/* About the latest call on the handle that failed; "" before the first; until the next one. */
WADI_API const char *wadi_error(const struct wadi *w);
WADI_API uint64_t wadi_job_id(const struct wadi *w); /* that the handle acts for; 0: none */
/* Requests sent so far to metadata servers and to storage servers; for tests and tuning. */
WADI_API void wadi_round_trips(const struct wadi *w, uint64_t *ret_meta, uint64_t *ret_store);

/* ---- asynchronous calls ---- */
/* A call that ends in _start returns an operation at once (required ret_op), or a code when the
 * arguments are wrong.  It makes progress only inside wadi_advance() and inside other calls on the
 * handle: poll the descriptor for the events, at most for the time-out, and advance.
 *
 *   while (!wadi_op_done(op)) {
 *           struct pollfd p = { wadi_poll_fd(w, &p.events), ... };
 *           poll(&p, 1, wadi_poll_timeout_ms(w));
 *           wadi_advance(w);
 *   }
 */
struct wadi_op;

WADI_API int wadi_poll_fd(struct wadi *w, short *ret_events); /* the same descriptor for ever */
WADI_API int wadi_poll_timeout_ms(struct wadi *w);            /* -1: none; 0: advance at once */
WADI_API int wadi_advance(struct wadi *w);       /* never blocks; how many operations ended in it */
WADI_API struct wadi_op *wadi_next_done(struct wadi *w); /* each ended operation once; NULL: none */
WADI_API int wadi_op_done(const struct wadi_op *op);     /* 1 when it has ended */
WADI_API int wadi_op_wait(struct wadi_op *op);           /* until it has ended: wadi_op_result() */
WADI_API int wadi_op_result(const struct wadi_op *op);   /* 0 or a code; WADI_E_BUSY: under way */
WADI_API const char *wadi_op_error(const struct wadi_op *op); /* "" when it did not fail */
WADI_API uint64_t wadi_op_bytes(const struct wadi_op *op);    /* moved so far; the length got */
WADI_API void wadi_op_cancel(struct wadi_op *op); /* ends soon: WADI_E_CANCELED or a result */
WADI_API void wadi_op_free(struct wadi_op *op);   /* cancels and waits if needed; NULL is fine */
WADI_API void wadi_op_set_user(struct wadi_op *op, void *user);
WADI_API void *wadi_op_user(const struct wadi_op *op);

/* ---- objects ---- */
enum wadi_tier { WADI_DRAM = 0, WADI_FLASH = 1, WADI_DISK = 2 };
#define WADI_TIER(tier) (1u << (tier))
#define WADI_TO_EOF UINT64_MAX

struct wadi_info {
	uint64_t version;        /* changes with each put; compare for equality */
	uint64_t size;           /* bytes */
	uint64_t mtime_ms, ctime_ms;
	uint64_t expires_ms;     /* 0: never by itself */
	uint64_t inode;
	uint32_t flags;          /* WADI_PUT_PERSIST, WADI_PUT_DELETE_ON_READ as stored */
	uint32_t tiers;          /* where its bytes are, WADI_TIER() bits; 0: with the metadata */
	uint64_t reserved[4];
};

enum wadi_put_flags {
	WADI_PUT_IF_ABSENT = 1,      /* WADI_E_EXISTS when the key is taken */
	WADI_PUT_IF_VERSION = 2,     /* WADI_E_CONFLICT unless the key has if_version */
	WADI_PUT_PERSIST = 4,        /* outlives the job; on a medium when acknowledged */
	WADI_PUT_DELETE_ON_READ = 8, /* freed once it has been got whole */
	WADI_PUT_DURABLE = 16        /* on a medium when acknowledged */
};
struct wadi_put_opts {
	size_t size;
	uint32_t flags;
	uint32_t timeout_ms;
	uint64_t if_version;
	uint64_t ttl_ms;         /* 0: the bucket's */
	uint64_t expect_bytes;   /* of a writer: how long it will be, if that is known; what cannot
	                          * have room is refused before its bytes are sent.  0: not known */
};
/* Puts all or nothing: the key has the old bytes or the new ones, whatever happens.  Up to 4 KiB
 * take one round trip.  WADI_E_NOTFOUND (the bucket), WADI_E_FULL. */
WADI_API int wadi_put(struct wadi *w, const char *bucket, const char *key, const void *data,
	size_t len, const struct wadi_put_opts *opts, struct wadi_info *ret_info);
WADI_API int wadi_put_start(struct wadi *w, const char *bucket, const char *key,
	const void *held_data, size_t len, const struct wadi_put_opts *opts,
	struct wadi_op **ret_op);
/* Puts len bytes read from a descriptor, or WADI_TO_EOF.  WADI_E_INVALID when fewer come. */
WADI_API int wadi_put_fd(struct wadi *w, const char *bucket, const char *key, int fd, uint64_t len,
	const struct wadi_put_opts *opts, struct wadi_info *ret_info);

enum wadi_get_flags {
	WADI_GET_DELETE = 1      /* delete once the bytes are here; refused to a second reader */
};
struct wadi_get_opts {
	size_t size;
	uint32_t flags;
	uint32_t timeout_ms;
	uint64_t offset;         /* first byte; beyond the end: nothing is got */
	uint64_t len;            /* at most so many bytes; 0: to the end */
	uint32_t wait_ms;        /* wait for the key to appear; adds to timeout_ms */
};
/* Into the caller's buffer: ret_len (required) bytes.  WADI_E_TOOBIG when cap is too small: nothing
 * is deleted, wadi_stat() tells the size.  WADI_E_NOTFOUND, WADI_E_LOST. */
WADI_API int wadi_get(struct wadi *w, const char *bucket, const char *key, void *buf, size_t cap,
	const struct wadi_get_opts *opts, size_t *ret_len, struct wadi_info *ret_info);
WADI_API int wadi_get_start(struct wadi *w, const char *bucket, const char *key, void *held_buf,
	size_t cap, const struct wadi_get_opts *opts, struct wadi_op **ret_op);
/* Written to a descriptor. */
WADI_API int wadi_get_fd(struct wadi *w, const char *bucket, const char *key, int fd,
	const struct wadi_get_opts *opts, uint64_t *ret_len, struct wadi_info *ret_info);

/* A view holds an object's bytes in place: memory shared with a storage server on this host, with
 * no copy, where that is possible; else memory of the library.  The bytes do not change while the
 * view is open, even when the object is deleted meanwhile; closing it gives the room back. */
struct wadi_view;
struct wadi_part { const void *data; size_t len; };
WADI_API int wadi_get_view(struct wadi *w, const char *bucket, const char *key,
	const struct wadi_get_opts *opts, struct wadi_view **ret_view);
WADI_API int wadi_get_view_start(struct wadi *w, const char *bucket, const char *key,
	const struct wadi_get_opts *opts, struct wadi_op **ret_op);
WADI_API struct wadi_view *wadi_op_take_view(struct wadi_op *op); /* once it has ended; or NULL */
WADI_API uint64_t wadi_view_len(const struct wadi_view *v);
/* The bytes in order, in one or more parts; valid until the view is closed. */
WADI_API const struct wadi_part *wadi_view_parts(const struct wadi_view *v, size_t *ret_n);
/* The same as one range; NULL when there are several parts. */
WADI_API const void *wadi_view_data(const struct wadi_view *v);
WADI_API int wadi_view_shared(const struct wadi_view *v); /* 1: nothing was copied */
/* 0 while the bytes are held; WADI_E_CLOSED when their server went away: they may change from now
 * on, and what was read just before is not to be trusted either. */
WADI_API int wadi_view_check(const struct wadi_view *v);
WADI_API void wadi_view_info(const struct wadi_view *v, struct wadi_info *ret_info);
WADI_API void wadi_view_close(struct wadi_view *v);       /* NULL is fine */

/* Many at once: the requests travel together.  0 when all went well, else the code of the first
 * item that failed; each item tells about itself. */
struct wadi_item {
	const char *bucket, *key;
	void *data;              /* put: what to put (not written to); get: where to */
	size_t len;              /* put: bytes; get: room; after a get: the bytes got */
	int result;              /* 0 or a code */
	uint32_t reserved;
	struct wadi_info info;
};
WADI_API int wadi_put_many(struct wadi *w, struct wadi_item *items, size_t n,
	const struct wadi_put_opts *opts);
WADI_API int wadi_get_many(struct wadi *w, struct wadi_item *items, size_t n,
	const struct wadi_get_opts *opts);

struct wadi_opts {
	size_t size;
	uint32_t flags;          /* rename: WADI_PUT_IF_ABSENT; delete: WADI_PUT_IF_VERSION */
	uint32_t timeout_ms;
	uint64_t if_version;
	uint64_t ttl_ms;         /* persist: 0 for ever */
};
WADI_API int wadi_stat(struct wadi *w, const char *bucket, const char *key,
	const struct wadi_opts *opts, struct wadi_info *ret_info);
WADI_API int wadi_stat_start(struct wadi *w, const char *bucket, const char *key,
	const struct wadi_opts *opts, struct wadi_op **ret_op);
WADI_API int wadi_delete(struct wadi *w, const char *bucket, const char *key,
	const struct wadi_opts *opts);
WADI_API int wadi_delete_start(struct wadi *w, const char *bucket, const char *key,
	const struct wadi_opts *opts, struct wadi_op **ret_op);
/* Within one bucket; the new key is replaced.  WADI_E_CROSS otherwise. */
WADI_API int wadi_rename(struct wadi *w, const char *bucket, const char *from,
	const char *to_bucket, const char *to, const struct wadi_opts *opts);
/* The object outlives its job from now on. */
WADI_API int wadi_persist(struct wadi *w, const char *bucket, const char *key,
	const struct wadi_opts *opts);
WADI_API void wadi_op_info(const struct wadi_op *op, struct wadi_info *ret_info); /* once ended */

/* ---- piece by piece ---- */
/* A writer: nothing is seen under the key before wadi_writer_close() has returned 0. */
struct wadi_writer;
WADI_API int wadi_writer_open(struct wadi *w, const char *bucket, const char *key,
	const struct wadi_put_opts *opts, struct wadi_writer **ret_wr);
WADI_API int wadi_write(struct wadi_writer *wr, const void *data, size_t len);
WADI_API int wadi_write_start(struct wadi_writer *wr, const void *held_data, size_t len,
	struct wadi_op **ret_op);                 /* one at a time */
/* Commits and frees the writer, also on failure. */
WADI_API int wadi_writer_close(struct wadi_writer *wr, struct wadi_info *ret_info);
WADI_API void wadi_writer_abort(struct wadi_writer *wr); /* as if it had never been; NULL is fine */

/* A reader reads the version that it was opened on, or fails with WADI_E_GONE. */
struct wadi_reader;
WADI_API int wadi_reader_open(struct wadi *w, const char *bucket, const char *key,
	const struct wadi_get_opts *opts, struct wadi_reader **ret_rd, struct wadi_info *ret_info);
/* The next bytes: fewer than cap only at the end of the object or range; 0 there. */
WADI_API int64_t wadi_read(struct wadi_reader *rd, void *buf, size_t cap);
WADI_API int64_t wadi_pread(struct wadi_reader *rd, void *buf, size_t cap, uint64_t offset);
WADI_API int wadi_read_start(struct wadi_reader *rd, void *held_buf, size_t cap,
	struct wadi_op **ret_op);                 /* wadi_op_bytes() tells how many came */
/* With WADI_GET_DELETE the object is deleted here when it has been read to its end. */
WADI_API int wadi_reader_close(struct wadi_reader *rd);
WADI_API void wadi_reader_abort(struct wadi_reader *rd); /* deletes nothing; NULL is fine */

/* ---- listing ---- */
enum wadi_entry_kind { WADI_OBJECT = 0, WADI_DIRECTORY = 1, WADI_PREFIX = 2 };
struct wadi_entry {
	const char *name;        /* valid until the next call on the list */
	uint64_t size, version, mtime_ms;
	uint32_t kind;           /* enum wadi_entry_kind */
	uint32_t reserved;
};
struct wadi_list_opts {
	size_t size;
	const char *prefix;      /* only names that begin with it */
	const char *after;       /* only names behind this one; a cursor of wadi_list_cursor() */
	char delimiter;          /* names with it behind the prefix fold into one WADI_PREFIX */
	uint32_t max;            /* entries per page fetched; 0: 1000 */
	uint32_t timeout_ms;     /* of each page */
};
struct wadi_list;
WADI_API int wadi_list_open(struct wadi *w, const char *bucket, const struct wadi_list_opts *opts,
	struct wadi_list **ret_l);
/* 1 and the next entry in byte order, 0 at the end, or a code.  Fetches further pages as needed.
 * Keys put or deleted meanwhile may appear or not; the others appear exactly once. */
WADI_API int wadi_list_next(struct wadi_list *l, struct wadi_entry *ret_e);
WADI_API const char *wadi_list_cursor(const struct wadi_list *l); /* behind the last entry */
WADI_API void wadi_list_close(struct wadi_list *l);               /* NULL is fine */

/* ---- buckets ---- */
enum wadi_bucket_kind { WADI_FLAT = 0, WADI_TREE = 1 };
enum wadi_lifetime { WADI_LIFETIME_DEFAULT = 0, WADI_LIFETIME_JOB = 1, WADI_LIFETIME_TTL = 2,
	WADI_LIFETIME_PERSIST = 3 };
struct wadi_bucket_opts {
	size_t size;
	uint32_t kind, lifetime;
	uint32_t tiers;          /* allowed, WADI_TIER() bits; 0: any */
	uint32_t exists_ok;      /* 1: fine when it is there with the same policy */
	uint64_t ttl_ms;         /* with WADI_LIFETIME_TTL: how long an object lives */
	uint64_t quota_bytes;    /* 0: the job's */
	uint32_t timeout_ms;
	uint32_t copies;         /* on so many storage servers, 1..4, synced; 0: two for what
	                          * persists, where there are two servers, else one */
};
struct wadi_bucket_info {
	char name[256];
	uint64_t id, job;        /* job: 0, belongs to none */
	uint32_t kind, lifetime, tiers, protection;
	uint64_t ttl_ms, quota_bytes, files, used_bytes;
	uint32_t copies, reserved_1; /* as asked for */
	uint64_t reserved[3];
};
WADI_API int wadi_bucket_create(struct wadi *w, const char *bucket,
	const struct wadi_bucket_opts *opts, struct wadi_bucket_info *ret_info);
WADI_API int wadi_bucket_stat(struct wadi *w, const char *bucket,
	struct wadi_bucket_info *ret_info);
WADI_API int wadi_bucket_drop(struct wadi *w, const char *bucket); /* with everything in it */
/* One page: fills at most cap, ret_n (required) tells how many; start with *cursor 0, and it is 0
 * again at the end.  All buckets that the handle may see. */
WADI_API int wadi_bucket_list(struct wadi *w, uint64_t *cursor, struct wadi_bucket_info *ret_infos,
	size_t cap, size_t *ret_n);

/* ---- jobs ---- */
enum wadi_latency {
	WADI_LATENCY_ANY = 0,
	WADI_LATENCY_SENSITIVE = 1,
	WADI_LATENCY_INSENSITIVE = 2
};
struct wadi_job_hints {
	size_t size;
	uint32_t latency;        /* enum wadi_latency */
	uint32_t workers;        /* most that run at once */
	uint64_t capacity_bytes; /* most that is stored at once */
	uint64_t bandwidth_bps;  /* peak, bytes per second */
	uint64_t quota_bytes;    /* refuse more than this; 0: no quota */
	uint64_t lease_ms;       /* freed when silent for so long; 0: 10 min */
	uint32_t tiers;          /* allowed, WADI_TIER() bits; 0: by the hints */
	uint32_t timeout_ms;     /* of the registration */
};
struct wadi_job {
	uint64_t id;
	uint64_t lease_ms;
	uint32_t tiers;          /* chosen */
	char token[132];         /* text; whoever holds it acts for the job: connect with it */
	uint64_t reserved[4];
};
/* Registers a job; the handle itself goes on acting for whatever it acted for. */
WADI_API int wadi_job_register(struct wadi *w, const char *name, const struct wadi_job_hints *hints,
	struct wadi_job *ret_job);                /* required */
struct wadi_job_end {
	uint64_t files, bytes;           /* freed */
	uint64_t kept_files, kept_bytes; /* persistent */
	uint64_t reserved[4];
};
/* Frees everything that is not persistent; answers when the room can be used again.  job 0: the one
 * that the handle acts for. */
WADI_API int wadi_job_end(struct wadi *w, uint64_t job, struct wadi_job_end *ret_end);
WADI_API int wadi_job_renew(struct wadi *w, uint64_t job);
/* The job's token is void, its connections are cut, and within a second or so storage servers
 * refuse what was given for it; ret_job (required) has a new one.  The job and its data stay.  Only
 * with the cluster's key: WADI_E_DENIED, WADI_E_NOTFOUND, WADI_E_GONE. */
WADI_API int wadi_job_revoke(struct wadi *w, uint64_t job, struct wadi_job *ret_job);
/* Storage servers get another key for capabilities; the one before opens what it was used for as
 * long as that lasts, ten minutes.  Only with the cluster's key.  WADI_E_BUSY: it is being
 * changed. */
WADI_API int wadi_key_rotate(struct wadi *w);

enum wadi_job_state { WADI_JOB_ACTIVE = 1, WADI_JOB_ENDING = 2, WADI_JOB_ENDED = 3 };
struct wadi_job_info {
	char name[256];
	uint64_t id;
	uint32_t state, latency, tiers, workers, connections;
	uint32_t reserved_1;
	uint64_t capacity_bytes, bandwidth_bps, quota_bytes;
	uint64_t lease_ms, lease_left_ms, started_ms, ended_ms; /* ended_ms: 0, has not */
	uint64_t files, used_bytes;
	uint64_t reserved[4];
};
enum { WADI_JOBS_ENDED = 1 /* also those that have ended */ };
WADI_API int wadi_job_list(struct wadi *w, uint32_t flags, uint64_t *cursor,
	struct wadi_job_info *ret_infos, size_t cap, size_t *ret_n); /* as wadi_bucket_list() */

struct wadi_bill_line {
	uint32_t tier;
	uint32_t reserved_1;
	double byte_seconds;     /* room used, times how long */
	uint64_t peak_bytes, written_bytes, read_bytes, writes, reads;
	uint64_t reserved[2];
};
enum { WADI_BILL_LINES_MAX = 8 };
struct wadi_bill {
	struct wadi_job_info job;
	uint32_t n_lines;
	uint32_t reserved_1;
	struct wadi_bill_line lines[WADI_BILL_LINES_MAX];
};
WADI_API int wadi_job_bill(struct wadi *w, uint64_t job, struct wadi_bill *ret_bill);

/* ---- status ---- */
/* capacity = used + pinned + granted + orphaned + reserved + free, exactly. */
struct wadi_tier_status {
	uint32_t tier;
	uint32_t reserved_1;
	uint64_t capacity_bytes, used_bytes, pinned_bytes, granted_bytes, orphaned_bytes;
	uint64_t reserved_bytes, free_bytes;
};
enum wadi_server_state { WADI_SERVER_UP = 1, WADI_SERVER_SILENT = 2, WADI_SERVER_GONE = 3 };
enum { WADI_TIERS_MAX = 8, WADI_SERVER_TIERS_MAX = 16 };
struct wadi_server_status {
	char addr[256];
	uint64_t incarnation;
	uint32_t server, state, heard_ms, cpu_permille;
	uint32_t n_tiers;
	uint32_t reserved_1;
	struct wadi_tier_status tiers[WADI_SERVER_TIERS_MAX];
};
/* What a storage server holds is read again and compared, all of it about once a day. */
struct wadi_server_scrub {
	uint64_t read_bytes;     /* since its start */
	uint64_t ended_ms;       /* when it had read all the last time: Unix time; 0: not yet */
	uint64_t rotten;         /* pieces that it has and are not what was written */
	uint64_t reserved[5];
};
struct wadi_status {
	uint64_t jobs, buckets, files, sessions;
	uint64_t slab_used_bytes, slab_bytes;     /* small objects in the memory of the shard */
	uint64_t memtable_bytes, tree_bytes, log_bytes;
	uint64_t log_index, synced_index, merged_index;
	uint64_t resident_bytes, uptime_ms, cpu_ms;
	uint32_t n_tiers, n_servers;
	struct wadi_tier_status tiers[WADI_TIERS_MAX];
	const struct wadi_server_status *servers; /* n_servers of them */
	uint64_t lacking_bytes;  /* in objects that have fewer copies than they should */
	uint64_t copied_bytes;   /* between storage servers, since the controller's start */
	uint64_t unrepaired;     /* pieces of objects that no server has as they were written */
	const struct wadi_server_scrub *scrubs; /* n_servers of them, in the order of servers */
};
/* job 0: of the whole system.  ret_st (required) is freed by wadi_status_free(). */
WADI_API int wadi_status_get(struct wadi *w, uint64_t job, struct wadi_status **ret_st);
WADI_API void wadi_status_free(struct wadi_status *st);   /* NULL is fine */

/* What is at rest is read again and held against its checksums: the metadata each hour, what
 * storage servers have about once a day; all of it at once when now.  Counts are those since the
 * start of the server; a pass over the metadata that began has ended when passes has grown. */
struct wadi_scrub {
	uint64_t running;                /* 1: a pass is under way */
	uint64_t passes, records, rows, bytes;
	uint64_t found;                  /* damages; the last of them in a sentence: */
	char last[256];
	/* Storage servers that are up and have not ended the last scrub that was asked for; pieces
	 * of objects that they have and are not what was written; pieces that they read again, and
	 * how many of those were not, since the start of each. */
	uint32_t servers_busy, rotten;
	uint64_t extents, extent_bytes, extents_found;
};
WADI_API int wadi_scrub(struct wadi *w, int now, struct wadi_scrub *ret_scrub);

#ifdef __cplusplus
}
#endif
#endif
