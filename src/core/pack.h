/* SPDX-License-Identifier: Apache-2.0 */
/* pack.h: which servers a job is put on, and in which parts: online bin packing over throughput,
 * capacity and medium (Pocket, sections 4.1 and 4.2).
 *
 * A *share* is what one job has of one tier of one server: bytes and bytes per second that are
 * promised to it, and its weight there.  The caller keeps the shares of each job, in rows too; this
 * keeps the accounts of the servers.
 *
 * Invariants:
 *   (P1) No promise takes a resource of a server above the upper end of the band, what was measured
 *        there included.
 *   (P2) What is given back is exactly what was taken: all numbers are integers, shares say them.
 *   (P3) The weights of a job sum to PACK_ONE, or to 0 when no server is up; only servers that are
 *        up have one.
 *   (P4) Servers in use are filled before one that is not, and that before one that is started.
 *   (P5) The same calls lead to the same decisions: ties go to the lower server id.
 *
 * Cost of a placement with S servers and n shares: O(S + n) when one server has room for the job,
 * O(S log S + n) when it has to be split.  Bandwidths are bytes per second. */
#ifndef CORE_PACK_H
#define CORE_PACK_H
#include "base/err.h"
#include "wire/words.h"
#include <stdbool.h>
#include <stdint.h>

#define PACK_ONE (UINT32_C(1) << 30)
#define PACK_BYTES_MAX (UINT64_C(1) << 60)
#define PACK_BPS_MAX (UINT64_C(1) << 50)
enum {
	PACK_TYPES_MAX = 8,
	PACK_SLIVER_PART = 64, /* a server with less than this part of its band left is full */
	PACK_SPREAD_MAX = 16,  /* servers that take what nothing was promised for */
	PACK_MOVE_PART = 4,    /* of a share, moved by one step away from where it is too much */
};

struct pack_limits {
	uint32_t servers_max;
	uint16_t low_permille, high_permille; /* the band in which a resource is well used */
};
extern const struct pack_limits pack_limits_default;

struct pack;
struct pack *pack_new(const struct pack_limits *l); /* NULL: the defaults; dies without memory */
void pack_free(struct pack *p);                     /* NULL does nothing */

/* ---- servers ---- */
enum pack_state {
	PACK_COMING, /* is being started: promised on, without weight */
	PACK_UP,
	PACK_DRAIN, /* no weight, nothing new is promised; pack_steer() moves the shares */
	PACK_OUT,   /* silent, gone, or not known yet: the same */
};
struct pack_room {
	uint64_t bytes, bps;
};
struct pack_server {
	uint32_t server; /* id, not 0 */
	uint8_t state;   /* enum pack_state */
	bool stays;      /* runs whatever happens: never counted as one more in use */
	struct pack_room tiers[TIER_COUNT]; /* bytes 0: has none of it */
	uint64_t net_bps;                   /* of all tiers together; 0: not known, no bound */
};
/* Adds a server, or changes it; what is promised there stays, even if it is too much now.  E_FULL:
 * more than servers_max; E_TOOBIG: it claims more than a server may have. */
int pack_server(struct pack *p, const struct pack_server *s);
/* It will never come back: forgotten as soon as nothing is promised there. */
void pack_server_gone(struct pack *p, uint32_t server);
/* As last measured there, everything counted, not only jobs. */
struct pack_load {
	struct pack_room used[TIER_COUNT];
	uint64_t net_bps;
	uint16_t cpu_permille;
};
void pack_load(struct pack *p, uint32_t server, const struct pack_load *l); /* unknown: ignored */

/* ---- jobs ---- */
/* A kind of server that can be started. */
struct pack_type {
	struct pack_room tiers[TIER_COUNT];
	uint64_t net_bps; /* 0: no bound */
	uint64_t price;   /* for an hour, in any unit */
	uint32_t left;    /* so many more may be started */
};
struct pack_ask {
	uint64_t job; /* jobs without promises are spread by it */
	struct pack_room need;
	uint8_t tiers[TIER_COUNT], n_tiers, n_firm; /* as in struct hints_need */
	bool grows;
	bool stays; /* only on servers that stay: data that outlives its job */
	const struct pack_type *types;
	uint32_t n_types;
};
struct pack_share {
	uint32_t server, weight;
	uint64_t bytes, bps;
	uint8_t tier;
};
struct pack_plan {
	struct pack_room lack;         /* nothing is promised for it yet */
	uint32_t more[PACK_TYPES_MAX]; /* servers to be started for it, of each type */
	uint32_t coming;               /* shares on servers that are not up yet */
};
/* Promises what the job lacks of its need beyond its shares (*n of them, room for cap), and weighs
 * them.  Servers that are up, then (grows) those that come, in the first n_firm tiers; then plan's
 * `more`; then the other tiers.  The caller starts those servers, makes them known as PACK_COMING,
 * and calls again, until nothing more is to be started: the lack is promised there.  A registration
 * waits until `coming` is 0, too (calls again when a server came up).  Never more than cap shares:
 * what those would have held is lacking. */
void pack_place(struct pack *p, const struct pack_ask *ask, struct pack_share *shares, uint32_t *n,
	uint32_t cap, struct pack_plan *ret_plan);
/* One step of steering new data; true when a share changed.  Shares on servers that leave are given
 * back; of one on a server above the band a part goes to the least loaded below it, new ones
 * included; then as pack_place().  A server is left alone until its load was told again. */
bool pack_steer(struct pack *p, const struct pack_ask *ask, struct pack_share *shares, uint32_t *n,
	uint32_t cap, struct pack_plan *ret_plan);
/* The job is over. */
void pack_give(struct pack *p, const struct pack_share *shares, uint32_t n);
/* After a restart: shares from rows count again.  A server that is not known yet is PACK_OUT.
 * E_CORRUPT: no such tier, or sums that cannot be; E_FULL; nothing is taken then. */
int pack_take(struct pack *p, const struct pack_share *shares, uint32_t n);

/* ---- looking ---- */
struct pack_sum {
	uint32_t servers, up;
	uint32_t in_use; /* something is promised or measured there, or it stays */
	struct pack_room promised[TIER_COUNT], band[TIER_COUNT]; /* band: of those up */
};
void pack_sum(const struct pack *p, struct pack_sum *ret_sum);
/* Promised on one server in a tier; false: not known. */
bool pack_promised(const struct pack *p, uint32_t server, uint8_t tier, struct pack_room *ret_room);
void pack_audit(const struct pack *p); /* stops the process when an account does not add up */
#endif
