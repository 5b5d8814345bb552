/* SPDX-License-Identifier: Apache-2.0 */
/* large.h: a shard's side of storage servers: which there are, who may write where, what they have
 * to drop.  The controller drives it: it hears the servers and carries out the drops.
 *
 * A *domain* owns egroups: a job's number, or DOMAIN_PERSISTENT for what outlives jobs.  Extents of
 * two domains never share an egroup, so the end of a job drops its egroups whole.
 *
 * An egroup of protected data has *members*, the same extents on several servers; whatever is
 * dropped is dropped on each.
 *
 * (L1) a drop is a row in the record that takes away the last reference, so a crash repeats drops
 * and never forgets room; (L2) room is free again only after the server said so (large_dropped), or
 * was born again (memory); (L3) every PLACE_EXTENTS inode has regions from 0 to its size without a
 * hole, each region an extent, each extent an egroup. */
#ifndef META_LARGE_H
#define META_LARGE_H
#include "core/cap.h"
#include "core/room.h"
#include "meta/shard.h"

#define DOMAIN_PERSISTENT (UINT64_C(1) << 63)

/* What the controller decides for the shard. */
struct large_policy {
	/* The order in which a job (0: none) fills tiers; how many. */
	uint8_t (*tiers)(void *arg, uint64_t job, uint8_t ret_tiers[TIER_COUNT]);
	/* May this job take so many bytes more?  0, or E_FULL with the quota named. */
	int (*quota)(void *arg, uint64_t job, uint64_t bytes, struct err_note *note);
	const struct cap_key *cap_key; /* with which is minted now; stays the controller's */
	/* Of a domain's token now, for capabilities; 0: it has none.  May be NULL. */
	uint64_t (*job_epoch)(void *arg, uint64_t domain);
	/* There is no room, but some is granted that nobody may be using: whether some of it may be
	 * returned soon.  May be NULL. */
	bool (*recall)(void *arg);
	void *arg;
};
void large_policy(
	struct shard *sh, const struct large_policy *p); /* copied; before the first request */

/* ---- servers ---- */
struct large_server {
	uint32_t server;
	bool gone;       /* silent for so long that nobody waits for it */
	bool up, fenced; /* fenced: surely refuses everything until it registers again */
	bool drain;      /* it is to be emptied: nothing new is put there */
	bool removed;    /* for good, with all that it had */
	uint64_t node;   /* of the cluster; 0: none */
	uint64_t uuid_hi, uuid_lo, incarnation;
	char addr[256], local[256], host[256], rack[256];
};
/* Takes a registration in: its number, its row, its devices; another incarnation than before loses
 * what it had in memory.  Not up yet.  E_INVALID, E_TOOBIG; E_GONE: it was removed. */
int large_register(struct shard *sh, struct shard_call *c, const struct msg_store_register *m,
	uint32_t *ret_server);
int large_device(struct shard *sh, uint32_t server, const struct sub_device_info *d);
void large_server_up(struct shard *sh, uint32_t server, bool up);
void large_server_fenced(
	struct shard *sh, uint32_t server); /* those who wait for its drops go on */
void large_server_gone(
	struct shard *sh, uint32_t server); /* until it is up, its memory is LOST to readers */
int large_server_drain(struct shard *sh, struct shard_call *c, uint32_t server, bool drain);
/* It is gone for good: copies on it count no more, what only it had is lost. */
int large_server_remove(struct shard *sh, struct shard_call *c, uint32_t server);
const struct large_server *large_server(
	const struct shard *sh, uint32_t server);                   /* NULL: unknown */
uint32_t large_next_server(const struct shard *sh, uint32_t after); /* 0 at the end */
const struct room *large_room(const struct shard *sh);

/* ---- requests ---- */
/* E_FULL names the tiers; E_INVALID without a session. */
int shard_grant(struct shard *sh, struct shard_call *c, const struct msg_grant *m,
	struct msg_grant_ok *ret);
int shard_grant_return(struct shard *sh, struct shard_call *c, const struct msg_grant_return *m);
/* E_DENIED: an extent that was not granted to this session, or was committed before. */
int shard_commit(
	struct shard *sh, struct shard_call *c, const struct msg_commit *m, struct msg_put_ok *ret);

/* Ends a grant whatever its session still wants: what no commit named is dropped. */
void large_grant_end(struct shard *sh, struct shard_call *c, uint64_t extent_first);

/* ---- drops ---- */
struct large_drop {
	uint64_t egroup, extent, count, room;
	bool left; /* count 0: the egroup lives on, on other servers than this one */
	uint8_t device, tier;
};
/* The oldest drops of a server that are not under way yet, at most max; marks them as under way. */
uint32_t large_drops_take(
	struct shard *sh, uint32_t server, struct large_drop *ret_drops, uint32_t max);
void large_dropped(struct shard *sh, uint32_t server, const struct large_drop *drops, uint32_t n);
void large_drops_retry(struct shard *sh, uint32_t server); /* the connection broke: all again */
PARKS int large_drops_wait(
	struct shard *sh, uint64_t until_ns); /* until some server has some to take */
/* Parks until every drop up to ticket (shard_call.ticket) was acknowledged or its server is fenced.
 * The caller answers then: what was deleted cannot be read any more. */
uint64_t large_ticket(const struct shard *sh); /* of the newest drop */
PARKS int large_settle(struct shard *sh, uint64_t ticket, uint64_t until_ns);
bool large_settled(const struct shard *sh, uint64_t ticket);

/* ---- repair (core/repair.h decides) ---- */
/* Each in one record, which is to be synced before anything is done because of it.  E_FULL. */
int large_member_add(struct shard *sh, struct shard_call *c, uint64_t egroup, uint32_t server,
	uint8_t device);
void large_member_filled(struct shard *sh, struct shard_call *c, uint64_t egroup, uint32_t server);
void large_member_leave(struct shard *sh, struct shard_call *c, uint64_t egroup, uint32_t server);
/* It was a member, and has not yet said that it dropped the whole. */
bool large_leaving(const struct shard *sh, uint32_t server, uint64_t egroup);
/* An extent that moves out of a server's memory: where it may be instead (a new egroup's row is to
 * be synced before anything is put there; E_FULL, E_BUSY); that it is there, so that it is dropped
 * where it was (E_FULL, E_NOTFOUND: it is to be dropped there instead, which this does). */
struct large_place {
	uint64_t egroup;
	uint32_t server;
	uint8_t device, tier;
};
int large_move_place(struct shard *sh, struct shard_call *c, uint64_t egroup, uint64_t len,
	struct large_place *ret_place);
int large_moved(struct shard *sh, struct shard_call *c, uint64_t extent, uint64_t from,
	const struct large_place *to);
void large_move_failed(struct shard *sh, uint64_t extent, const struct large_place *to);
struct room *large_room_walks(struct shard *sh); /* for room_walk_*() */
/* Extents that files name, in the order of their ids: the next behind `after`, at most max. */
struct large_extent {
	uint64_t extent, egroup, len;
	uint32_t root;
	bool lost;
};
uint32_t large_extents(
	struct shard *sh, uint64_t after, struct large_extent *ret_extents, uint32_t max);
bool large_extent(struct shard *sh, uint64_t extent, struct large_extent *ret_extent);
/* No server of it has what was written: from now on its readers are told so at once. */
void large_extent_lost(struct shard *sh, uint64_t extent);
uint64_t large_lost(const struct shard *sh); /* how many there are now */
/* The right to read what is of that domain, for a storage server that copies: how many bytes. */
enum { LARGE_CAP_BYTES = 64 };
uint32_t large_read_cap(const struct shard *sh, uint64_t domain, uint64_t *ret_until_ms,
	uint8_t ret_code[LARGE_CAP_BYTES]);

/* Drops everything of a domain: its egroups whole, its grants.  The inodes that point there are
 * reclaimed by dropping their buckets; they find nothing to drop any more. */
void large_domain_drop(struct shard *sh, struct shard_call *c, uint64_t domain);
#endif
