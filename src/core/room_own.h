/* SPDX-License-Identifier: Apache-2.0 */
/* room_own.h: the tables inside a struct room; for room*.c only. */
#ifndef CORE_ROOM_OWN_H
#define CORE_ROOM_OWN_H
#include "base/map64.h"
#include "core/room.h"

enum { NONE = UINT32_MAX };

struct server {
	uint64_t incarnation;
	uint64_t host, rack; /* failure domains: equal numbers fail together */
	bool up;
};

/* taken: bytes of the device that are not free.  In memory whole arenas; on flash and disk the room
 * of extents, granted, used or orphaned. left: the part of taken that copies which are no members
 * any more still hold there. */
struct device {
	uint64_t capacity, egroup_bytes, taken, left;
	uint32_t server; /* id */
	uint8_t number, tier;
};

struct member {
	uint64_t orphaned; /* bytes that this server has yet to drop */
	uint32_t device;   /* index */
	uint32_t walk;     /* FILLING: that has found all extents there so far */
	uint8_t state;     /* enum room_member_state */
	bool late;
};

/* Each member holds used_room, granted and its own orphaned bytes of its device. */
struct egroup {
	uint64_t id, domain, bytes, incarnation;
	uint64_t used;      /* bytes of files, in one copy */
	uint64_t used_room; /* what they take, with headers and rounding */
	uint64_t granted;
	uint64_t held[TIER_COUNT]; /* used and granted, as the watcher was told; 0 when lost */
	uint64_t appended; /* flash, disk: granted since the beginning */
	struct member members[ROOM_MEMBERS_MAX]; /* in memory there is one */
	uint8_t n_members;
	uint8_t copies;    /* that it was asked to have */
	bool soft;         /* fewer will do while there are not so many servers */
	uint32_t grants;   /* first of its list of grants */
	uint32_t next;     /* in its domain's list; in the free list */
	uint32_t next_empty;
	bool live, closed, lost, doomed;
	bool moves;  /* made for extents that move, and nobody is granted room in it */
	bool listed; /* in the list of egroups that became empty */
	bool told;   /* room_empty_egroup() has returned it */
};

struct grant {
	uint64_t extent_first, session, credit, uncommitted;
	uint32_t egroup, next; /* next: in the egroup's list; in the free list */
	uint32_t before, after; /* in the session's list */
	uint8_t copies;         /* members that its writer was told of */
	bool live;
};

struct room {
	struct room_limits limits;
	struct server *servers; /* by index; server_at: id -> index */
	struct device *devices;
	struct egroup *egroups;
	struct grant *grants;
	uint32_t n_servers, n_devices, egroups_free, grants_free;
	uint32_t egroups_top; /* no egroup that lives is at this index or above */
	uint32_t empties; /* first of the list; entries may have been refilled since */
	struct map64 server_at, device_at, egroup_at, grant_at, domain_at;
	void (*watch)(void *arg, uint64_t domain, uint8_t tier, int64_t change);
	void *watch_arg;
	struct map64 session_at; /* -> first of its list of grants */
};

struct server *room_server(struct room *r, uint32_t server);     /* made when new */
struct egroup *room_find(const struct room *r, uint64_t egroup); /* NULL: unknown */
/* With one member; NULL: the table is full. */
struct egroup *room_egroup_new(struct room *r, uint64_t id, uint64_t domain, uint32_t device,
	uint64_t bytes, uint64_t incarnation);
/* On flash or disk: one more, whose device has the room. */
struct member *room_member_new(struct room *r, struct egroup *e, uint32_t device, uint8_t state);
struct member *room_member_of(
	const struct room *r, struct egroup *e, uint32_t server); /* or NULL */
bool room_better_device(const struct room *r, uint32_t a, uint32_t b, const uint32_t *chosen,
	uint32_t n_chosen, uint32_t near); /* a before b, which may be NONE */
void room_egroup_free(struct room *r, struct egroup *e);
struct grant *room_grant_new(struct room *r, struct egroup *e, uint64_t session,
	uint64_t extent_first, uint64_t credit); /* NULL: the table is full; the credit is taken */
void room_grant_free(
	struct room *r, struct grant *g); /* the credit is the caller's to account for */
void room_look_held(struct room *r, struct egroup *e);  /* after whatever may have changed it */
void room_look_empty(struct room *r, struct egroup *e); /* after whatever may have emptied it */
uint32_t room_device_index(
	struct room *r, uint32_t server, uint8_t device, uint8_t tier); /* or NONE */

static inline bool tier_appends(uint8_t tier)
{
	return tier != TIER_DRAM;
}
/* Of its first member: all are of one tier. */
static inline struct device *device_of(const struct room *r, const struct egroup *e)
{
	return &r->devices[e->members[0].device];
}
static inline uint64_t member_room(const struct egroup *e, const struct member *m)
{
	return e->used_room + e->granted + m->orphaned;
}
static inline uint64_t most_orphaned(const struct egroup *e)
{
	uint64_t most = 0;

	for (uint32_t i = 0; i < e->n_members; i++)
		most = e->members[i].orphaned > most ? e->members[i].orphaned : most;
	return most;
}
/* Takes room of every member's device, or gives it back. */
static inline void take_room(struct room *r, struct egroup *e, uint64_t bytes)
{
	for (uint32_t i = 0; i < e->n_members; i++)
		r->devices[e->members[i].device].taken += bytes;
}
static inline void give_room(struct room *r, struct egroup *e, uint64_t bytes)
{
	for (uint32_t i = 0; i < e->n_members; i++)
		r->devices[e->members[i].device].taken -= bytes;
}
static inline uint64_t device_free(const struct device *d)
{
	return d->capacity > d->taken ? d->capacity - d->taken : 0;
}
#endif
