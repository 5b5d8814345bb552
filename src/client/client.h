/* SPDX-License-Identifier: Apache-2.0 */
/* client.h: the client's work as straight-line code on fibers, on whichever door it is linked with.
 * The public interface (api.c and its neighbours) runs each of these in a fiber of its own; the
 * cluster simulator and gateways in a server's process call them directly.
 *
 * Structs of wadi.h are taken whole here: their size member is not looked at.  Strings are borrowed
 * until the call returns.  Every call takes an absolute deadline and fills the note on failure. */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H
#include "sys/sys.h"
#include "wadi.h"

struct client;
struct upload;
struct download;
struct view;

struct client_opts {
	const char *addr;        /* of metadata servers: "tcp:HOST:PORT,unix:/path" */
	struct bytes token;      /* of the hello; copied */
	struct bytes key;        /* as in dialog_opts; copied */
	const char *name;        /* for people; may be NULL */
	bool wait;               /* while the server cannot be reached, try until the deadline */
};
/* Connects.  The client's fibers live until client_free(), which may park for CLIENT_CLOSE_NS. */
enum { CLIENT_CLOSE_MS = 2000 };
PARKS int client_new(struct sys *s, const struct client_opts *o, uint64_t until_ns,
	struct client **ret_c, struct err_note *note);
PARKS void client_free(struct client *c); /* NULL is fine; nothing made from it may be left */
uint64_t client_job(const struct client *c);
void client_round_trips(const struct client *c, uint64_t *ret_meta, uint64_t *ret_store);

/* ---- objects ---- */
PARKS int client_put(struct client *c, const char *bucket, const char *key, struct bytes data,
	const struct wadi_put_opts *o, uint64_t until_ns, struct wadi_info *ret_info,
	struct err_note *note);
/* At most cap bytes, or E_TOOBIG. */
PARKS int client_get(struct client *c, const char *bucket, const char *key, void *buf, size_t cap,
	const struct wadi_get_opts *o, uint64_t until_ns, size_t *ret_len,
	struct wadi_info *ret_info, struct err_note *note);
PARKS int client_stat(struct client *c, const char *bucket, const char *key, uint64_t until_ns,
	struct wadi_info *ret_info, struct err_note *note);
PARKS int client_delete(struct client *c, const char *bucket, const char *key,
	const struct wadi_opts *o, uint64_t until_ns, struct err_note *note);
PARKS int client_rename(struct client *c, const char *bucket, const char *from,
	const char *to_bucket, const char *to, const struct wadi_opts *o, uint64_t until_ns,
	struct err_note *note);
PARKS int client_persist(struct client *c, const char *bucket, const char *key,
	const struct wadi_opts *o, uint64_t until_ns, struct err_note *note);

/* ---- views ---- */
PARKS int client_view(struct client *c, const char *bucket, const char *key,
	const struct wadi_get_opts *o, uint64_t until_ns, struct view **ret_v,
	struct err_note *note);
const struct wadi_part *view_parts(const struct view *v, size_t *ret_n);
const struct wadi_info *view_info(const struct view *v);
uint64_t view_len(const struct view *v);
bool view_shared(const struct view *v);
bool view_holds(const struct view *v); /* false: a server that shared it went away */
void view_free(struct view *v); /* does not park: unpins behind your back; NULL is fine */

/* ---- piece by piece ---- */
PARKS int upload_new(struct client *c, const char *bucket, const char *key,
	const struct wadi_put_opts *o, uint64_t until_ns, struct upload **ret_u,
	struct err_note *note);
PARKS int upload_write(struct upload *u, struct bytes data, uint64_t until_ns,
	struct err_note *note);
PARKS int upload_commit(struct upload *u, uint64_t until_ns, struct wadi_info *ret_info,
	struct err_note *note);
PARKS void upload_free(struct upload *u); /* what was not committed never was; NULL is fine */

PARKS int download_new(struct client *c, const char *bucket, const char *key,
	const struct wadi_get_opts *o, uint64_t until_ns, struct download **ret_d,
	struct wadi_info *ret_info, struct err_note *note);
/* Bytes from offset on: fewer than cap only at the object's end. */
PARKS int64_t download_pread(struct download *d, void *buf, size_t cap, uint64_t offset,
	uint64_t until_ns, struct err_note *note);
/* Tells the shard that a consumed object has been read. */
PARKS int download_done(struct download *d, uint64_t until_ns, struct err_note *note);
void download_free(struct download *d); /* NULL is fine */

/* ---- listing ---- */
/* Calls each() for every entry of one page, the name NUL-terminated; then ret_next is the cursor
 * of the next page, "" at the end. */
enum { CLIENT_CURSOR_MAX = 1026 };
typedef void client_each_entry(void *arg, const struct wadi_entry *e);
PARKS int client_list(struct client *c, const char *bucket, const struct wadi_list_opts *o,
	const char *after, uint64_t until_ns, client_each_entry *each, void *arg,
	char ret_next[CLIENT_CURSOR_MAX], struct err_note *note);

/* ---- buckets, jobs, status ---- */
PARKS int client_bucket_create(struct client *c, const char *bucket,
	const struct wadi_bucket_opts *o,
	uint64_t until_ns, struct wadi_bucket_info *ret_info, struct err_note *note);
PARKS int client_bucket_stat(struct client *c, const char *bucket, uint64_t until_ns,
	struct wadi_bucket_info *ret_info, struct err_note *note);
PARKS int client_bucket_drop(struct client *c, const char *bucket, uint64_t until_ns,
	struct err_note *note);
PARKS int client_bucket_list(struct client *c, uint64_t *cursor, uint64_t until_ns,
	struct wadi_bucket_info *ret_infos, size_t cap, size_t *ret_n, struct err_note *note);
PARKS int client_job_register(struct client *c, const char *name, const struct wadi_job_hints *h,
	uint64_t until_ns, struct wadi_job *ret_job, struct err_note *note);
PARKS int client_job_end(struct client *c, uint64_t job, uint64_t until_ns,
	struct wadi_job_end *ret_end, struct err_note *note);
PARKS int client_job_revoke(struct client *c, uint64_t job, uint64_t until_ns,
	struct wadi_job *ret_job, struct err_note *note);
PARKS int client_key_rotate(struct client *c, uint64_t until_ns, struct err_note *note);
PARKS int client_job_renew(struct client *c, uint64_t job, uint64_t until_ns,
	struct err_note *note);
PARKS int client_job_list(struct client *c, uint32_t flags, uint64_t *cursor, uint64_t until_ns,
	struct wadi_job_info *ret_infos, size_t cap, size_t *ret_n, struct err_note *note);
PARKS int client_job_bill(struct client *c, uint64_t job, uint64_t until_ns,
	struct wadi_bill *ret_bill,
	struct err_note *note);
PARKS int client_scrub(struct client *c, bool now, uint64_t until_ns, struct wadi_scrub *ret_sc,
	struct err_note *note);
PARKS int client_status(struct client *c, uint64_t job, uint64_t until_ns,
	struct wadi_status **ret_st,
	struct err_note *note);

/* Tokens are short lines of visible text. */
enum { CLIENT_TOKEN_BYTES_MAX = 64 };
bool client_token_ok(const char *text);
#endif
