/* SPDX-License-Identifier: Apache-2.0 */
/* grants.h: room to write into, kept ahead of need.
 *
 * A shard grants parts: an egroup on a server, a byte credit, a range of extent ids.  A pool holds
 * the parts of one bucket and kind of room.  A slice is one extent's share of a part: an id and at
 * most so many bytes.  Slices go round the parts, so a large object is striped over servers.
 *
 * Once a pool has been asked for twice, more is asked for in the background before it runs dry:
 * then asking is off the path.  What is left is returned when the client closes, and a part as
 * soon as it is used up or an upload in it was abandoned and no other upload has extents in it
 * (G1): returning a grant drops the extents that no commit named. */
#ifndef CLIENT_GRANTS_H
#define CLIENT_GRANTS_H
#include "client/peer.h"
#include "client/dialog.h"

/* Another server that is to have what is written into a part. */
struct part_copy {
	struct peer *peer;
	uint64_t cap_until_ms;
	uint8_t cap[64];
	uint32_t cap_len;
	uint8_t device;
};
enum { PART_COPIES_MAX = 3, AVOID_MAX = 8 };

struct part {
	struct list link;            /* in its pool */
	struct pool *pool;
	struct peer *peer;
	uint64_t egroup, epoch, extent_first, credit_bytes; /* as granted */
	uint32_t extent_count, extent_bytes_max;
	uint64_t cap_job, cap_until_ms;
	uint8_t cap[64];
	uint32_t cap_len;
	uint8_t tier, device;
	struct part_copy copies[PART_COPIES_MAX];
	uint32_t n_copies;           /* an extent is written when all of them have it too */
	uint64_t left_bytes;         /* of the credit */
	uint32_t n_taken;            /* ids given to slices */
	uint32_t n_open;             /* slices neither kept nor dropped */
	bool spoiled;                /* takes no more slices: full, stale, or its server failed */
};
struct pool {
	struct list link;            /* in grants.pools */
	struct list parts;           /* next to be used first */
	struct waitq asked;          /* fibers that wait for the asking one */
	uint64_t bucket;
	uint16_t flags;              /* of msg_grant */
	bool asking;
	uint32_t n_asked;            /* grants so far */
	uint64_t taken_bytes;        /* by slices, so far */
	uint64_t enough_bytes;       /* all that was there for later; 0: as much as was asked for */
};
struct grants {
	struct sys *sys;
	struct dialog *dialog;
	struct peers *peers;
	struct group *group;         /* of the background requests */
	struct list pools;
	struct { uint32_t server; uint64_t until_ns; } avoid[AVOID_MAX]; /* failed us lately */
};
void grants_init(struct grants *gs, struct dialog *se, struct peers *ps, struct group *g);
PARKS void grants_return(struct grants *gs, uint64_t until_ns); /* everything; before the close */
void grants_fini(struct grants *gs);                            /* no slice may be open */

struct slice { struct part *part; uint64_t extent; uint64_t len; };
/* Room, as flags of msg_grant say, for one extent of at most want bytes; need is what the whole
 * object still wants, for asking.  Waits for a grant when none is left.  E_FULL, E_NOTFOUND (the
 * bucket), and dialog_ask()'s. */
PARKS int grants_take(struct grants *gs, uint64_t bucket, uint16_t flags, uint64_t want,
	uint64_t need, uint64_t until_ns, struct slice *ret_slice, struct err_note *note);
/* Room on a server that is being emptied: nothing more is written there, and what is not being
 * written is returned.  0: all that is not being written into, for others lack room.  True:
 * something still is, or more is being asked for; else what the shard thinks we have there was lost
 * on its way here, or on the way back. */
bool grants_recall(struct grants *gs, uint32_t server);
void slice_keep(struct slice *sl); /* a commit named the extent */
void slice_drop(struct slice *sl); /* nobody will (G1) */
void slice_stale(struct slice *sl); /* the same, and what was granted under its epoch is void */
/* A server that failed: for some seconds room elsewhere is asked for and taken. */
void grants_avoid(struct grants *gs, const struct peer *p);
/* Returns parts that are used up; to be called when slices were kept or dropped. */
void grants_tidy(struct grants *gs);
#endif
