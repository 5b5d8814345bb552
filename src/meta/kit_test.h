/* SPDX-License-Identifier: Apache-2.0 */
/* kit_test.h: a shard on a simulated node, and short names for its requests.  Only tests of this
 * folder include it. */
#ifndef META_KIT_TEST_H
#define META_KIT_TEST_H
#include "base/check.h"
#include "meta/inside.h"

/* What a test works on: set by kit_run(), which runs body on a node without faults, audits and
 * closes the shard.  Failures are failed checks: cmocka's own cannot leave a fiber's stack. */
struct kit {
	struct sys *sys;
	struct shard *sh;
	struct shard_call c;   /* of the requests below: an administrator without a session */
	uint64_t slab_bytes;   /* set before kit_run() */
	bool spread;           /* there are other replicas */
	struct msg_put_ok put; /* the last answers */
	struct msg_get_ok get;
	struct msg_stat_ok stat;
	struct msg_list_ok list;
	struct bytes data;
};
extern struct kit kit;

void kit_run(void (*body)(void));
void kit_restart(void);          /* closes, opens; sessions and buckets keep their ids */
/* Another one leads for a moment: from stop() on nothing may change; then this one, in a higher
 * epoch, over the rows as they are. */
void kit_stop(void);
void kit_lead(void);
void kit_clock_jump(int64_t ms); /* of the wall */
void kit_sleep(uint64_t ms);
struct bytes kit_text(const char *s);

/* Opens a session for the client and makes it the caller's; its requests are numbered from 1. */
void kit_client(uint64_t client);
void kit_leave(void); /* the caller's connection goes */

uint64_t kit_bucket(const char *name);                     /* flat, no protection */
uint64_t kit_bucket_of(const struct msg_bucket_create *m); /* id, or a negative code */
int kit_drop(uint64_t bucket);
int kit_put(uint64_t bucket, const char *name, const char *data, unsigned flags);
int kit_put_at(uint64_t bucket, uint64_t parent, const char *name, struct bytes data,
	unsigned flags, uint64_t if_version, uint64_t ttl_ms);
int kit_get(uint64_t bucket, const char *name, unsigned flags); /* bytes in kit.data */
bool kit_holds(uint64_t bucket, const char *name, const char *data);
int kit_delete(uint64_t bucket, uint64_t parent, const char *name);
int kit_stat(uint64_t bucket, uint64_t parent, const char *name);
int kit_done(uint64_t bucket, uint64_t inode);
int kit_mkdir(uint64_t bucket, uint64_t parent, const char *name); /* inode in kit.put */
int kit_rename(uint64_t bucket, uint64_t from_parent, const char *from, uint64_t to_parent,
	const char *to, unsigned flags);
int kit_persist(uint64_t bucket, const char *name, uint64_t ttl_ms);
/* Entries of one page, joined by spaces; kit.list holds the answer. */
const char *kit_list(uint64_t bucket, uint64_t parent, const char *prefix, char delimiter,
	const char *after, uint32_t max);
#endif
