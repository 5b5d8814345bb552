/* SPDX-License-Identifier: Apache-2.0 */
/* large_kit_test.h: a shard on the real door and storage servers that only exist on paper, for the
 * tests of files on storage servers.  Failures are cmocka's. */
#ifndef META_LARGE_KIT_TEST_H
#define META_LARGE_KIT_TEST_H
#include "meta/alone_test.h"
#include "meta/large.h"
#include "sys/uv/sys_uv.h"

enum { MIB = 1 << 20, ROOM = 1 << 18, SERVERS = 3 };

struct house {
	struct sys *sys;
	struct alone alone;
	struct shard *sh;
	struct session *s, *other;
	struct shard_call c;      /* of s, an administrator's */
	uint64_t bucket;          /* of commit, get and del */
	uint32_t servers[SERVERS]; /* 0: has not joined yet */
	char dir[64];
	uint8_t room[ROOM];
};

/* Runs body in an empty folder. */
void house_run(int (*body)(struct house *h));
void house_open(struct house *h);
void house_close(struct house *h); /* audits first */
/* Server i registers with 64 MiB on each of the tiers, and is up. */
void house_join(
	struct house *h, uint32_t i, uint64_t incarnation, const char *rack, unsigned tiers);

int house_bucket(struct house *h, const struct msg_bucket_create *m); /* into h->bucket */
int house_grant(struct house *h, const struct msg_grant *m, struct msg_grant_ok *ret);
int house_commit(struct house *h, const char *name, const struct sub_extent_ref *e, int n,
	uint64_t staged, uint16_t flags, struct msg_put_ok *ret);
int house_get(struct house *h, const char *name, uint64_t from, struct msg_get_ok *ret);
int house_del(struct house *h, const char *name);
/* A server confirms all that it is to drop: how many extents. */
uint64_t house_drops(struct house *h, uint32_t server);
struct room_sum house_sum(const struct house *h); /* of all servers, audited */
#endif
