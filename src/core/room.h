/* SPDX-License-Identifier: Apache-2.0 */
/* room.h: who may write how much where.  The account of every byte that storage servers offer.
 *
 * Pure: no clock, no I/O, ids come from the caller.  The caller writes rows for what it is told and
 * carries out the drops; after a restart it feeds the rows back (room_restore_*).
 *
 * Invariants, for each device at every moment (room_audit checks them):
 *   (I1) capacity = used + granted + orphaned + reserved + free, none negative, unless a server
 * came back smaller than it was: then free is zero. (I2) Room becomes free only by room_dropped(),
 * room_egroup_gone() or a new incarnation. (I4) An extent id is granted once, and committed at most
 * once.
 *
 * An egroup on flash or disk may have several *members*: the same extents on as many servers, each
 * of which holds the whole room of it.  They share as little as can be had: other racks, else other
 * hosts, else only other servers.  A member that came later may be of the other of these two tiers.
 *
 * An egroup in memory is an arena: the whole of it is taken from the device for one domain, and
 * dropped extents leave room in it.  On flash and disk it is a file that only grows: what was
 * granted once is not granted again, and dropped extents give their room back to the device. */
#ifndef CORE_ROOM_H
#define CORE_ROOM_H
#include "base/err.h"
#include "wire/words.h"
#include <stdbool.h>
#include <stdint.h>

enum {
	ROOM_EXTENTS_PER_GRANT = 64, /* ids in one grant: one word of bits */
	ROOM_PARTS_MAX = 16,         /* parts of one answer */
	ROOM_IDS_PER_PART = ROOM_EXTENTS_PER_GRANT + 1,
	/* Before each extent on flash and disk stand whole blocks with these fields and a checksum
	 * of 4 bytes for each of its blocks (store/README.md). */
	ROOM_HEADER_BYTES = 4096, /* the least that takes */
	ROOM_HEADER_FIELDS_BYTES = 128,
	ROOM_AVOID_MAX = 16,
	ROOM_COPIES_MAX = 4,  /* that may be asked for */
	ROOM_MEMBERS_MAX = 8, /* with those that are being made or given up */
};
/* tier of a member, in rows: where it is not that of the first member */
#define ROOM_MEMBER_TIER(tier) ((uint8_t)(((tier) + 1) << 4))
#define ROOM_MEMBER_TIER_MASK 0x30
enum room_member_state {
	ROOM_MEMBER_IN,      /* has every extent of the egroup */
	ROOM_MEMBER_FILLING, /* is being made from the others: has some */
};
#define ROOM_MEMBER_LATE 0x80 /* beside the state, in rows */

struct room_limits {
	uint32_t egroups_max, grants_max, devices_max;
	uint64_t extent_dram_bytes, extent_file_bytes;
};
extern const struct room_limits room_limits_default;

struct room;
struct room *room_new(const struct room_limits *l); /* NULL: the defaults; dies without memory */
void room_free(struct room *r);

/* ---- devices ---- */
/* Adds a device or changes its capacity; egroup_bytes is the size of the egroups made on it from
 * now on.  E_TOOBIG: more than devices_max; E_INVALID: another tier than before, or no such tier.
 */
int room_device(struct room *r, uint32_t server, uint8_t device, uint8_t tier,
	uint64_t capacity_bytes, uint64_t egroup_bytes);
void room_server_up(struct room *r, uint32_t server, bool up); /* only up ones are granted on */
/* It is no more, with all that it had: its devices have no room, an egroup that had no other member
 * is lost, from others its member goes.  each() as in room_server_reborn(). */
void room_server_gone(struct room *r, uint32_t server,
	void (*each)(void *arg, uint64_t extent_first), void *arg);
/* Numbers of what it shares with others: equal ones fail together. */
void room_server_place(struct room *r, uint32_t server, uint64_t host, uint64_t rack);
/* A new incarnation: everything in memory on that server is gone, with its grants; calls each (may
 * be NULL) for every one of them. */
void room_server_reborn(struct room *r, uint32_t server, uint64_t incarnation,
	void (*each)(void *arg, uint64_t extent_first), void *arg);

/* ---- grants ---- */
struct room_ask {
	uint64_t session;                   /* a number of the caller's for who asks */
	uint64_t domain;                    /* job, or a domain of persistent data */
	uint8_t tiers[TIER_COUNT], n_tiers; /* in order of preference */
	uint64_t bytes; /* of the whole file, as far as it is known; 0: unknown */
	uint64_t extent_bytes; /* that its extents are likely to have; 0: the largest */
	uint32_t near;  /* server on the asker's host, preferred; 0: none */
	uint32_t avoid[ROOM_AVOID_MAX], n_avoid; /* servers to be passed over if others will do */
	uint8_t copies; /* on as many servers; 0 is 1; more than one: not in memory */
	bool soft;      /* on fewer when there are not so many servers with room */
	bool ahead;     /* bytes are wanted later: take no more than a part of what is free */
	uint64_t ids;   /* first of ROOM_PARTS_MAX * ROOM_IDS_PER_PART fresh ids */
};
struct room_part {
	uint64_t egroup, credit_bytes, extent_first, extent_bytes_max;
	uint64_t egroup_bytes, incarnation;
	uint32_t extent_count, server;
	uint8_t tier, device;
	uint8_t n_others; /* the other members */
	bool fresh; /* the egroup is new: write its row */
	struct room_part_other {
		uint32_t server;
		uint8_t device;
	} others[ROOM_COPIES_MAX - 1];
};
/* The number of parts: for all bytes (ahead: for some), or as many as ROOM_PARTS_MAX parts hold.
 * E_FULL, and nothing is taken, when the tiers together do not have room for all bytes;
 * E_UNAVAILABLE: so many copies are wanted on so many servers, and fewer have a tier asked for. */
int room_grant(
	struct room *r, const struct room_ask *ask, struct room_part ret_parts[ROOM_PARTS_MAX]);

/* Moves an extent from granted to used; copies: servers that acknowledged it.  E_DENIED: no grant
 * of this session covers it, or it was committed before; E_TOOBIG: more than its credit; E_INVALID:
 * its writer was told of more servers. */
int room_commit(struct room *r, uint64_t session, uint64_t egroup, uint64_t extent, uint64_t len,
	uint32_t copies);
void room_uncommit(
	struct room *r, uint64_t session, uint64_t egroup, uint64_t extent, uint64_t len);

/* Ends a grant: its ids that no commit named, lowest first; their credit is orphaned until
 * room_dropped(). */
struct room_rest {
	uint64_t egroup, extent_first, credit_bytes, uncommitted; /* one bit for each id */
};
bool room_grant_end(struct room *r, uint64_t extent_first, struct room_rest *ret_rest);
struct room_grant_info {
	uint64_t egroup, session, credit_bytes, uncommitted;
	uint8_t copies;
};
bool room_grant_look(const struct room *r, uint64_t extent_first, struct room_grant_info *ret_info);
/* The grant that an extent id belongs to: its first id; 0 when there is none. */
uint64_t room_grant_of(const struct room *r, uint64_t egroup, uint64_t extent);
/* Some grant of a session; 0 when there is none.  It costs the same however many there are. */
uint64_t room_session_grant(const struct room *r, uint64_t session);

/* ---- giving back ---- */
/* An extent that a file named is unlinked: used -> orphaned. */
void room_unlink(struct room *r, uint64_t egroup, uint64_t len);
/* A server has dropped bytes of room (room_of() of an extent, or the credit of a rest). */
void room_dropped(struct room *r, uint64_t egroup, uint32_t server, uint64_t room_bytes);
uint64_t room_of(uint8_t tier, uint64_t len); /* bytes of a device that an extent of len takes */
uint64_t room_header(uint8_t tier, uint64_t len); /* the part of them before its first byte */
uint64_t room_fits(uint8_t tier, uint64_t room);  /* longest extent of whole blocks in that room */
/* An egroup with nothing in it and no grant on it, 0 when there is none: to be dropped on its
 * server. It is not granted on any more. */
uint64_t room_empty_egroup(struct room *r);
/* All of it is given back, granted or not: nobody has it any more. */
void room_egroup_gone(struct room *r, uint64_t egroup);
/* One of its servers has dropped the whole egroup.  True when that was the last: it is no more. */
bool room_member_gone(struct room *r, uint64_t egroup, uint32_t server);
/* Its server is to drop the whole of it, whatever is in it: nothing is granted on it any more, and
 * it is not told as empty. */
void room_egroup_doom(struct room *r, uint64_t egroup);
/* The n-th grant on the egroup, from 0: its first extent id; 0 when there are fewer. */
uint64_t room_egroup_grant(const struct room *r, uint64_t egroup, uint32_t n);
/* Calls each for every egroup of a domain; each may make it go. */
void room_domain_each(
	struct room *r, uint64_t domain, void (*each)(void *arg, uint64_t egroup), void *arg);

/* ---- members ---- */
/* Where another member of an egroup on flash or disk may be: not where it has one, nor on the n
 * servers of avoid; in its own tier, or in the other one when that has no room.  E_FULL. */
int room_member_place(const struct room *r, uint64_t egroup, const uint32_t *avoid, uint32_t n,
	uint32_t *ret_server, uint8_t *ret_device);
/* Takes the room there; from now on nothing more is granted in the egroup.  E_FULL. */
int room_member_add(struct room *r, uint64_t egroup, uint32_t server, uint8_t device);
void room_member_filled(struct room *r, uint64_t egroup, uint32_t server);
/* It is a member no more, and is to drop the whole of it: until room_left() its room, which is
 * returned, counts as orphaned.  Not the last one. */
uint64_t room_member_leave(struct room *r, uint64_t egroup, uint32_t server);
void room_left(struct room *r, uint32_t server, uint8_t device, uint64_t room_bytes);

/* ---- moving ---- */
/* Where an extent of an egroup in memory may be instead, in the first of the tiers that has room:
 * an egroup of its domain that takes what moves, or a new one, whose id is `id`.  0: nowhere. */
uint64_t room_move_place(struct room *r, uint64_t egroup, uint64_t len, const uint8_t *tiers,
	uint8_t n_tiers, uint64_t id, bool *ret_fresh);
/* It is there, and is to be dropped where it was: room_unlink(). E_FULL: it fits no more. */
int room_move(struct room *r, uint64_t from, uint64_t to, uint64_t len);
void room_move_over(struct room *r, uint64_t to); /* it was not: the egroup may be empty */

/* ---- looking ---- */
/* A walk through all extents has a number, not 0.  From room_walk_begin() on each member that is
 * being filled, and has no number of a walk up to `ended`, carries it, until room_walk_spoil() (an
 * extent could not be brought there) or a commit into its egroup (the walk may be past that one):
 * who has a number when its walk has ended is whole. */
void room_walk_begin(struct room *r, uint32_t walk, uint32_t ended);
void room_walk_spoil(struct room *r, uint64_t egroup, uint32_t server);
/* An extent was committed that members which came later than its grant have not got: they are being
 * filled again.  True when there were such, and they were in. */
bool room_refill(struct room *r, uint64_t egroup);
struct room_member_info {
	uint32_t server, walk;
	uint8_t device, state, tier;
	bool late; /* came after the last grant in the egroup: its extents are copied there */
};
struct room_egroup_info {
	/* used, granted: of one copy; orphaned: on the server that has most of it */
	uint64_t domain, bytes, incarnation, used_bytes, granted_bytes, orphaned_bytes;
	uint32_t server; /* of the first member */
	uint8_t tier, device, n_members, copies;
	bool soft;
	struct room_member_info members[ROOM_MEMBERS_MAX];
	bool lost;   /* in memory of an incarnation that is gone */
	bool doomed; /* room_egroup_doom() */
};
bool room_egroup(const struct room *r, uint64_t egroup, struct room_egroup_info *ret_info);
/* The egroups with a member on a server, in no order: the next at or behind *at, which goes on; 0
 * at the end.  server 0: all that are on flash or disk.  What comes and goes meanwhile may be
 * missed. */
uint64_t room_next_egroup(const struct room *r, uint32_t server, uint32_t *at);
/* Servers that are up and have a device of that tier. */
uint32_t room_servers(const struct room *r, uint8_t tier);
struct room_sum {
	uint64_t capacity, used, granted, orphaned, reserved, free;
}; /* bytes, in every copy */
/* server 0: all; tier TIER_COUNT: all; domain 0: all (for one domain capacity and free are zero).
 */
struct room_sum room_sum(const struct room *r, uint32_t server, uint8_t tier, uint64_t domain);
/* What a domain holds in a tier (TIER_COUNT: in all): used and granted, but for what is lost. */
uint64_t room_domain_held(const struct room *r, uint64_t domain, uint8_t tier);
/* From now on fn is told of every change of that.  It must not call back. */
void room_watch(struct room *r,
	void (*fn)(void *arg, uint64_t domain, uint8_t tier, int64_t change), void *arg);
/* Devices of the tier on servers that are up, and what is free on them. */
uint32_t room_devices(const struct room *r, uint8_t tier, uint64_t *ret_free);
void room_audit(const struct room *r); /* stops the process when an invariant does not hold */

/* ---- after a restart ---- */
int room_restore_egroup(struct room *r, uint64_t egroup, uint64_t domain, uint32_t server,
	uint8_t device, uint8_t tier, uint64_t bytes, uint64_t incarnation);
/* Right behind the egroup: what was asked for, and its other members. */
int room_restore_copies(struct room *r, uint64_t egroup, uint8_t copies, bool soft, uint8_t state);
/* state: enum room_member_state, and ROOM_MEMBER_LATE. */
int room_restore_member(struct room *r, uint64_t egroup, uint32_t server, uint8_t device,
	uint8_t tier, uint8_t state);
int room_restore_grant(struct room *r, uint64_t session, uint64_t egroup, uint64_t extent_first,
	uint64_t uncommitted, uint64_t credit_bytes, uint8_t copies);
int room_restore_extent(struct room *r, uint64_t egroup, uint64_t len); /* named by a file */
int room_restore_drop(struct room *r, uint64_t egroup, uint32_t server,
	uint64_t room_bytes); /* not acknowledged yet */
int room_restore_left(
	struct room *r, uint32_t server, uint8_t device, uint8_t tier, uint64_t room_bytes);
#endif
