/* SPDX-License-Identifier: Apache-2.0 */
/* cap.h: capabilities, by which a shard tells a storage server what a client may do without either
 * asking the other.  Pure: the key, the time and the epoch are given.
 *
 * A shard mints one with every grant (CAP_WRITE, one egroup, one range of extent ids, a byte
 * credit) and with every lookup (CAP_READ: egroup 0, epoch 0, no ids, no credit; job is the owner
 * of the bytes).  The client carries fields and code; the server computes the code again. */
#ifndef CORE_CAP_H
#define CORE_CAP_H
#include "base/bytes.h"
#include "base/err.h"

enum { CAP_KEY_BYTES = 32, CAP_BYTES = 32, CAP_LIFE_MS = 600000 };
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
};

void cap_mint(const uint8_t key[CAP_KEY_BYTES], const struct cap *c, uint8_t ret_code[CAP_BYTES]);

/* What the server knows when it checks. */
struct cap_view { const uint8_t *key; uint64_t now_ms, epoch; };
/* 0; E_STALE when the epoch is older than the server's or the time is over (ask the shard for a
 * new one and retry); E_DENIED when the code does not belong to the fields.  Compares in constant
 * time. */
int cap_check(const struct cap_view *v, const struct cap *c, struct bytes code,
	struct err_note *note);
#endif
