/* SPDX-License-Identifier: Apache-2.0 */
/* api.h: what the files of the public interface share.  Each call of wadi.h is an operation: a
 * fiber on the handle's own loop, which runs only inside of calls.  A synchronous call keeps its
 * operation on the caller's stack and turns the loop until that has ended. */
#ifndef CLIENT_API_H
#define CLIENT_API_H
#include "client/own.h"

struct wadi {
	struct sys *sys;
	struct client *c;            /* NULL until connected */
	struct group group;          /* of operations */
	struct list ops;             /* those that the caller owns */
	struct list ended;           /* of these, not given out by wadi_next_done() yet */
	struct err_note note;        /* of the latest failure */
	uint32_t timeout_ms;
	int n_ended;                 /* since the last wadi_advance() */
	bool turned;                 /* outside of it: advance before the descriptor is polled */
};

struct wadi_op {
	struct wadi *w;
	/* in: parks; what it returns is the result, its note is kept */
	PARKS int (*run)(struct wadi_op *op, struct err_note *note);
	uint64_t until_ns;
	const char *bucket, *key, *bucket_2, *key_2; /* the caller's, or behind an owned one */
	const void *data;
	void *buf;
	size_t len;
	void *arg;                   /* by operation */
	union {
		struct wadi_put_opts put;
		struct wadi_get_opts get;
		struct wadi_opts plain;
	} o;
	/* out */
	int rc;
	struct err_note note;
	struct wadi_info info;
	uint64_t bytes;
	struct wadi_view *view;
	bool ended;
	/* of owned ones */
	struct list link, ended_link;
	void *user;
	bool owned, canceled;
	struct fiber *fiber;         /* NULL before it runs and after */
};

struct wadi_view { struct wadi *w; struct view *v; };

/* Fills a struct of ours from the caller's, which may be older (shorter; the rest is zero) or
 * newer (the rest must be zero: E_UNSUPPORTED).  given NULL: all zero. */
int opts_take(struct wadi *w, void *ret_opts, size_t ours, const void *given);
uint64_t op_until(struct wadi *w, uint32_t timeout_ms, uint32_t more_ms);

/* Runs op to its end and keeps its note with the handle; its result. */
int op_sync(struct wadi_op *op);
/* A copy of op that the caller owns, with the strings copied, is started. */
int op_start(const struct wadi_op *op, struct wadi_op **ret_op);
/* Keeps the sentence with the handle and returns rc. */
int fail(struct wadi *w, int rc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
#endif
