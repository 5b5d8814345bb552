/* SPDX-License-Identifier: Apache-2.0 */
/* cap.h: capabilities, by which a shard tells a storage server what a client may do without either
 * asking the other.  Pure: the key, the time and the epoch are given.
 *
 * A shard mints one with every grant (CAP_WRITE, one egroup, one range of extent ids, a byte
 * credit) and with every lookup (CAP_READ: egroup 0, epoch 0, no ids, no credit; job is the owner
 * of the bytes).  The client carries fields and code; the server computes the code again.
 *
 * Behind the code stand the number of the key and the epoch of the job, which the code covers too:
 *
 *   | 0 | 32 | HMAC-SHA256                                                          |
 *   | 32 | 4 | number of the key; two are good at once while the key is changed     |
 *   | 36 | 8 | epoch of the job; the server refuses those that it knows are revoked |
 *
 * A code of 32 bytes alone is that of key 0 and epoch 0, as version 1 of the wire had it. */
#ifndef CORE_CAP_H
#define CORE_CAP_H
#include "base/bytes.h"
#include "base/err.h"

enum {
	CAP_KEY_BYTES = 32,
	CAP_BYTES = 44,
	CAP_V1_BYTES = 32,
	CAP_KEYS_MAX = 4,   /* that a server knows at once */
	CAP_LIFE_MS = 600000,
};
enum cap_ops { CAP_READ = 1, CAP_WRITE = 2 };

struct cap {
	uint64_t egroup;       /* the one that may be written; 0 for reading */
	uint64_t job;          /* whose bytes: extents of other jobs are out of reach */
	uint32_t ops;          /* enum cap_ops */
	uint64_t epoch;        /* of the shard that granted; 0 for reading */
	uint64_t until_ms;     /* in the shard's time */
	uint64_t extent_first; /* ids that may be written; none for reading */
	uint32_t extent_count;
	uint64_t credit_bytes; /* of extents that may be written under this range of ids */
	/* Of the server; 0 for reading.  Does not travel: a server takes its own.  One that has
	 * started anew has forgotten what was dropped, and so refuses what was granted before. */
	uint64_t incarnation;
	uint64_t job_epoch;    /* of the job's token then; travels behind the code */
};
struct cap_key {
	uint32_t id;
	uint8_t key[CAP_KEY_BYTES];
};

void cap_mint(const struct cap_key *key, const struct cap *c, uint8_t ret_code[CAP_BYTES]);

/* What the server knows when it checks. */
struct cap_view {
	const struct cap_key *keys;
	uint32_t n_keys;
	uint64_t now_ms, epoch;
	uint64_t job_epoch; /* least one of c->job that is not revoked; 0: nothing was */
};
/* 0; E_STALE when an epoch is older than the server's, the time is over or the key is not known
 * any more (ask the shard for a new one and retry); E_DENIED when the code does not belong to the
 * fields.  Compares in constant time.  c->job_epoch is that of the code. */
int cap_check(const struct cap_view *v, const struct cap *c, struct bytes code,
	struct err_note *note);
#endif
