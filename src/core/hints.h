/* SPDX-License-Identifier: Apache-2.0 */
/* hints.h: from what a job says about itself, and what is known of earlier runs under its name, to
 * how much room and throughput it is given and in which order its data fills the tiers (Pocket,
 * section 4.1; the rules are in core/README.md).
 *
 * Bandwidths are bytes per second.  Nothing here allocates, fails or depends on time; a foreign
 * hint goes through hints_check() first. */
#ifndef CORE_HINTS_H
#define CORE_HINTS_H
#include "base/err.h"
#include "wire/words.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HINTS_BYTES_MAX (UINT64_C(1) << 60) /* capacity, quota */
#define HINTS_BPS_MAX (UINT64_C(1) << 50)
enum {
	HINTS_SHARE_PART = 8,    /* what was not said: this part of what is free */
	HINTS_HEADROOM_PART = 4, /* a learned figure is the measured one and this part of it */
	HINTS_TEXT_BYTES = 640,  /* hints_say() never needs more */
};

enum hints_said { SAID_WORKERS = 1, SAID_CAPACITY = 2, SAID_BANDWIDTH = 4 };
struct hints {
	uint8_t latency;         /* enum wire_latency */
	uint8_t tiers;           /* allowed, TIER_BIT each; 0: all */
	uint8_t said;            /* enum hints_said: named, so that its zero is a zero */
	uint32_t lambdas;        /* workers at once, at most; 0: not given, unless said */
	uint64_t capacity_bytes; /* likewise */
	uint64_t bandwidth_bps;  /* likewise */
	uint64_t quota_bytes;    /* 0: none */
};

/* What may still be given away, in a tier, all its devices together. */
struct hints_tier {
	uint64_t free_bytes, bandwidth_bps;
	uint32_t devices;
};
/* The most that the cluster may come to have in a tier, and a server that has it. */
struct hints_ever {
	uint64_t capacity_bytes, bandwidth_bps; /* all zero: not known */
};
struct hints_type {
	uint64_t capacity_bytes, bandwidth_bps;
	uint64_t price; /* for an hour, in any unit; 0: no such server is to be had */
};
struct hints_have {
	struct hints_tier now[TIER_COUNT];
	struct hints_ever ever[TIER_COUNT];
	struct hints_type type[TIER_COUNT];
};
/* The servers of the paper's price table: r4.2xl, i3.2xl, h1.2xl; prices in 1/1000 of a dollar. */
extern const struct hints_type hints_types_2018[TIER_COUNT];

/* Refuses, with the limit in the note: E_TOOBIG, more than a limit or than the cluster may ever
 * have in the tiers allowed; E_INVALID, a zero that was said, a word that is none, or hints that
 * contradict each other. */
int hints_check(const struct hints *h, const struct hints_ever ever[TIER_COUNT],
	struct err_note *note);

/* ---- what earlier runs were like ---- */
struct hints_run {
	uint64_t peak_bytes, peak_bps, lifetime_ms;
	uint32_t workers; /* clients at once, at most */
};
struct hints_profile {
	uint64_t peak_bytes, peak_bps, lifetime_ms;
	uint32_t workers, runs; /* runs 0: nothing is known */
};
/* Another run came to its end.  Runs that were cut off say nothing: the caller leaves them out.  A
 * larger figure counts at once, a smaller one by a quarter of the difference. */
void hints_learn(struct hints_profile *p, const struct hints_run *run);

/* ---- what it amounts to ---- */
enum hints_policy {
	HINTS_WADI,       /* nothing said: a share of what is free, and no wait */
	HINTS_POCKET2018, /* the paper's table, its generous default included; learns nothing */
};
enum hints_from { /* where a figure is from */
	FROM_HINT,
	FROM_LEARNED,
	FROM_WORKERS,      /* so many, at what one moves */
	FROM_OTHER,        /* the other figure, by a server's ratio of room to throughput */
	FROM_DEFAULT,      /* 50 reference servers */
	FROM_SHARE,        /* a part of what is free */
};
enum hints_bound { BOUND_NONE, BOUND_QUOTA, BOUND_EVER, BOUND_SHARE };
struct hints_figure {
	uint64_t value;
	uint8_t from, bound; /* bound: why it is not more */
};
enum hints_order_why {
	ORDER_MEMORY,      /* latency-sensitive, or nothing was said */
	ORDER_CHEAP_FREE,  /* does not wait for small accesses: the cheapest that has it free */
	ORDER_CHEAP_PRICE, /* the same: the cheapest to have it started */
	ORDER_FASTEST,     /* the same: no tier that is not memory has it all */
};
struct hints_need {
	struct hints_figure capacity, bandwidth;
	uint8_t tiers[TIER_COUNT], n_tiers; /* in the order to fill them */
	uint8_t n_firm; /* the first so many are filled before a server is started for the rest */
	bool grows;     /* servers may be started for it */
	bool waits;     /* and its registration waits for them */
};
/* What was counted with, for people: see hints_say(). */
struct hints_reason {
	struct hints given;
	struct hints_profile profile;
	struct hints_need need;
	enum hints_policy policy;
	enum hints_order_why order;
};
/* The hints are sound (hints_check()).  profile may be NULL. */
void hints_size(enum hints_policy policy, const struct hints *h,
	const struct hints_profile *profile, const struct hints_have *have,
	struct hints_need *ret_need, struct hints_reason *ret_reason);
/* A few lines, each ended by '\n': what is given to the job, and why.  The length of the text,
 * which is cut to fit. */
size_t hints_say(const struct hints_reason *r, char *text, size_t cap);

/* The tiers in the order to fill them, those without a device left out: how many.
 *
 * Latency-sensitive, or nothing said: memory, then flash, then disk.  Insensitive: the cheapest
 * tier that has the capacity and the bandwidth needed, then cheaper ones, then dearer ones; memory
 * last. When no tier meets the need alone, the one with the most bandwidth that is not memory. */
uint8_t hints_order(const struct hints *h, const struct hints_tier have[TIER_COUNT],
	uint8_t ret_tiers[TIER_COUNT]);
#endif
