/* SPDX-License-Identifier: Apache-2.0 */
/* replica.h: one replica of one shard's log (rules R1-R13, src/core/README.md).
 *
 * Pure: an event with its time goes in, a to-do comes out.  Bytes of records never pass through
 * here, only their places.  The caller ("driver") owns the log, the disk, the network and coord.
 *
 * What the driver promises:
 *   (D1) It carries the to-do out in order, before the next step; the to-do is borrowed until then.
 * What it appends itself (replica_may_append, DO_BEGIN) is told by EV_APPENDED in the next step.
 *   (D2) Writes and syncs of the log complete in the order of DO_WRITE, DO_CUT, DO_BEGIN and its
 * own appends; a cut is a record like any other, so what was synced behind it comes after it. Log
 * places change at once, with DO_WRITE and DO_CUT, not when they are written.
 *   (D3) Each DO_READ and DO_SWAP ends in one EV_COORD, after a deadline as REPLICA_UNANSWERED.
 * Reads are linearizable.  Each DO_COPY ends in one EV_COPY_SENT.  The log reaches back to where
 * the tree stands, and the tree stands for what is committed and synced in this log. (D4) An
 * incarnation is higher than every earlier one of this replica id, and two of them never run at
 * once.  A disk without the log of its id gets a new id (R10). (D5) Message headers are decoded and
 * authenticated; records are verified against their chain. (D6) Time never goes back, and runs true
 * to drift_ppm. */
#ifndef CORE_REPLICA_H
#define CORE_REPLICA_H
#include "base/sm.h"
#include <stdbool.h>
#include <stdint.h>

enum {
	REPLICA_SET_MAX = 5,    /* members of the in-sync set */
	REPLICA_PEERS_MAX = 8,  /* other replicas that one may know */
	REPLICA_BATCH_MAX = 64, /* records in one append */
	REPLICA_TODO_MAX = 40,
};

enum replica_state {
#define STATE(name, text, to) REPLICA_##name,
#include "core/replica.def"
#undef STATE
	REPLICA_STATES,
};

struct replica_limits {
	uint64_t heartbeat_ns;
	uint64_t lease_ns;   /* L: a heartbeat's answer is good for so long, from its sending */
	uint64_t guard_ns;   /* G > L: so long without a heartbeat, then a member takes over */
	uint64_t stagger_ns; /* later for each place in the set, so that one goes first */
	uint32_t drift_ppm;  /* by which any clock is wrong at most */
	uint64_t silent_ns;  /* a member that is silent so long is removed */
	/* Where those who live have been late, twice that is waited instead of guard_ns and
	 * silent_ns: on a machine with too much to do it is no sign of death.  At most patient_ns;
	 * who was late longer was away.  Remembered for one to two lapses_ns. */
	uint64_t patient_ns, lapses_ns;
	uint64_t slow_ns;    /* one that holds back commits so long, too */
	uint64_t resend_ns;  /* without an answer to an append */
	uint64_t backoff_ns; /* before a removed one is admitted again; doubles each time */
	uint64_t backoff_max_ns;
	uint32_t window_records; /* under way to one peer */
	uint32_t near_records;   /* so close behind the commit index the set waits for a learner */
	/* One that is behind gets its records in pieces of about piece_ns, with rests; the share of
	 * the rests falls each pace_ns in which it has not come nearer. */
	uint64_t piece_ns, pace_ns;
};
extern const struct replica_limits replica_limits_default;

/* A record, and by the chain all before it. */
struct replica_place {
	uint64_t index, epoch, chain;
};
struct replica_name {
	uint64_t id, incarnation;
};
struct replica_set {
	uint64_t ids[REPLICA_SET_MAX];
	uint32_t n;
};
/* What coord holds for the shard.  Before the first primary: epoch 0, primary 0, the first set. */
struct replica_config {
	uint64_t revision, epoch;
	struct replica_name primary; /* a member, unless 0 */
	struct replica_set in_sync;
	uint32_t target_size;
};
/* What a replica keeps on its disk beside the log. */
struct replica_mark {
	uint64_t epoch;      /* the highest it has acted under */
	uint64_t sound_boot; /* kernel boot under which its log lacks nothing it acknowledged */
};
/* The driver's log, answered from memory: the place of a record, false when it is not held.  The
 * place before the first record held is known too; that of index 0 is {0, 0, 0}. */
struct replica_log {
	bool (*at)(void *arg, uint64_t index, struct replica_place *ret_place);
	void *arg;
};

/* ---- messages ---- */
enum replica_msg_kind {
	REPLICA_APPEND = 1, /* primary: prev, then n records */
	REPLICA_HEARTBEAT,  /* primary */
	REPLICA_ACK,        /* to either */
	REPLICA_REFUSE,     /* epoch: a higher one was seen (R3) */
	REPLICA_QUERY,      /* of one that may have lost records (R9) */
	REPLICA_ANSWER,
	REPLICA_HANDOVER, /* primary: take over now */
};
enum {
	REPLICA_SOUND = 1, /* holds all it acknowledged */
	REPLICA_IS_ROTTEN = 2,
	REPLICA_MISMATCH = 4, /* `last` is a place to go on from, if the primary has it too */
	REPLICA_DIVERGED = 8, /* would have to cut what is committed: needs a copy */
	REPLICA_LEAVING = 16, /* wants to be removed */
};
struct replica_msg {
	enum replica_msg_kind kind;
	struct replica_name from, to; /* to.incarnation 0: not known yet */
	uint64_t epoch, revision;
	uint64_t sent_ns; /* heartbeat: by its sender's clock; ack: of the one it answers, or 0 */
	/* append, heartbeat: what they say of the primary */
	uint64_t commit, synced_commit, want_synced;
	uint64_t whole; /* who holds this much holds everything that was ever committed */
	struct replica_place prev;
	uint32_t n;                         /* of records behind prev */
	const struct replica_place *places; /* of them, when received */
	/* ack, answer */
	uint64_t matched, written, synced; /* records, in the primary's log too */
	struct replica_place last;
	uint32_t flags;
	uint64_t round; /* query, and its answer */
};

/* ---- events ---- */
enum replica_event_kind {
	REPLICA_EV_START = 1, /* first, once */
	REPLICA_EV_TICK,      /* at least every heartbeat_ns / 2 */
	REPLICA_EV_COORD,
	REPLICA_EV_MARKED,   /* the mark is durable */
	REPLICA_EV_APPENDED, /* place: of the last record that the primary appended */
	REPLICA_EV_WRITTEN,  /* place: up to it, through any crash of the process */
	REPLICA_EV_SYNCED,   /* place: up to it, through any power cut */
	REPLICA_EV_MSG,
	REPLICA_EV_COPIED,    /* place, epoch: a whole copy lies here, verified and synced */
	REPLICA_EV_COPY_SENT, /* peer: DO_COPY ended, well or not */
	REPLICA_EV_ROT,       /* a record below the watermark is bad; incarnation: a new one (D4) */
	REPLICA_EV_HANDOVER,  /* peer: is to lead */
	REPLICA_EV_LEAVE,     /* ask to be removed from the set */
	REPLICA_EV_TARGET,    /* size: of the set */
	REPLICA_EV_FORCE,     /* operator: lead with what is here, accept the loss (R13) */
};
enum replica_outcome {
	REPLICA_THERE = 1, /* of a read: config is there */
	REPLICA_SWAPPED,   /* config is there now, with its new revision */
	REPLICA_CONFLICT,  /* config is there instead */
	REPLICA_UNANSWERED /* it may have happened, or happen later */
};
struct replica_start {
	struct replica_name self;
	uint64_t boot; /* id of the kernel's boot, not 0 */
	struct replica_mark mark;
	struct replica_place last; /* of the log, its valid part when rotten */
	uint64_t synced;           /* index up to which it outlives a power cut */
	uint64_t commit;           /* index that the tree stands for */
	bool rotten;
};
struct replica_event {
	enum replica_event_kind kind;
	uint64_t now_ns;
	union {
		struct replica_start start;
		struct {
			uint64_t op;
			enum replica_outcome outcome;
			struct replica_config config;
		} coord;
		struct replica_mark mark;
		struct {
			struct replica_place place;
			uint64_t epoch;       /* copied: of the primary that sent it */
			uint64_t want_synced; /* appended: somebody waits for the sync of this */
			uint64_t cuts; /* written, synced: replica.cuts when place was appended */
		} log;
		struct replica_msg msg;
		uint64_t peer, incarnation;
		uint32_t size;
	};
};

/* ---- to-do ---- */
enum replica_do_kind {
	REPLICA_DO_MARK = 1, /* mark: make it durable, then EV_MARKED */
	REPLICA_DO_READ,     /* op: read coord */
	REPLICA_DO_SWAP,     /* op, config: put it where coord holds revision `expected` */
	REPLICA_DO_SEND,     /* msg; an append's records are prev.index + 1 ... + n of the log */
	REPLICA_DO_BEGIN,    /* append an empty record of epoch `index`, then EV_APPENDED */
	REPLICA_DO_WRITE,    /* append the records of this message with numbers from `index` on */
	REPLICA_DO_CUT,      /* drop the records behind `index` */
	REPLICA_DO_SYNC,     /* somebody waits for the sync up to `index` */
	REPLICA_DO_COMMIT,   /* commit, synced commit: they moved; apply, let replies out */
	REPLICA_DO_SERVE,    /* requests may come */
	REPLICA_DO_STOP,     /* no request is answered any more */
	REPLICA_DO_DROP,     /* drop the memtables, replay from the tree up to the commit index */
	REPLICA_DO_COPY,    /* send a copy of the tree to peer `index`, each chunk with the epoch */
	REPLICA_DO_INSTALL, /* put the copy at `place` for log and tree, durably */
	REPLICA_DO_REPORT,  /* report, from, to: for the operator */
};
enum replica_report {
	REPLICA_SAYS_ROTTEN = 1,  /* and nobody else holds the log: salvage, then force */
	REPLICA_SAYS_TWO_RECORDS, /* of one epoch and index (R3); `from`: where */
	REPLICA_SAYS_DIVERGED,    /* a primary contradicts what is committed here */
	REPLICA_SAYS_LOST,        /* forced: records `from` to `to`, as far as is known, are gone */
	REPLICA_SAYS_NOT_FORCED,  /* a primary is alive */
};
struct replica_do {
	enum replica_do_kind kind;
	enum replica_report report;
	uint64_t op, expected, index, commit, synced_commit, from, to;
	struct replica_mark mark;
	struct replica_place place;
	struct replica_config config;
	struct replica_msg msg;
};
struct replica_todo {
	uint32_t n;
	struct replica_do items[REPLICA_TODO_MAX];
};

/* ---- the state ---- */
/* What a primary knows of another replica, in this epoch and for this incarnation. */
struct replica_peer {
	uint64_t id, incarnation;
	bool found; /* where its log agrees with ours is known */
	bool copying, needs_copy, joining;
	uint32_t flags;
	uint64_t matched, written, synced, next;
	uint64_t seen_ns; /* anything of this epoch came */
	uint64_t
		heard_ns; /* when the newest heartbeat was sent that it has acknowledged; 0: none */
	uint64_t sent_ns; /* last append */
	uint64_t sample_index, sample_ns; /* it was to write this since then */
	uint64_t synced_sample, synced_sample_ns;
	uint64_t join_ns, backoff_ns, backoff_until_ns;
	/* catching up: the piece that was sent last, and how long such a one takes */
	uint32_t piece, rests, took_records; /* rests: times as long as it took */
	uint64_t piece_end, piece_sent_ns; /* piece_sent_ns 0: nothing is awaited */
	uint64_t took_ns, rest_until_ns, patience_ns;
	uint64_t gap, gap_ns; /* when this pace was tried first */
	/* R9 */
	uint64_t answer_round;
	uint32_t answer_flags;
	struct replica_place answer_last;
};
/* To be read by the driver; changed by replica_step() only. */
struct replica {
	struct sm state;
	struct replica_limits limits;
	struct replica_log log;
	struct replica_name self;
	uint64_t boot;
	uint64_t now_ns, tick_ns;
	struct replica_mark mark;                    /* durable */
	struct replica_mark marking;                 /* wanted, at least mark */
	bool mark_under_way, rotten, leaving, fresh; /* fresh: has not read coord since the start */
	struct replica_config config; /* as last read or swapped; revision 0: not yet */
	struct replica_place last;
	uint64_t cuts; /* DO_CUT and DO_INSTALL so far: what was begun before does not count */
	uint64_t written, synced, commit, synced_commit, want_synced, asked_synced;
	/* following */
	struct replica_name leader;
	uint64_t leader_epoch, commit_told;
	bool found;        /* matched is known in this epoch */
	uint64_t matched;  /* records that are also in the leader's log */
	uint64_t heard_ns; /* last sign of the leader, or since when to wait for one */
	/* the longest silence of one who was alive, since then and in the time before */
	uint64_t lapses_since_ns, lapse_ns, lapse_before_ns;
	/* coord */
	uint64_t op, ops; /* under way or 0; counter */
	bool read_wanted, swapping;
	uint64_t read_ns;
	struct replica_config proposed; /* while swapping: not settled yet (R4) */
	/* taking over */
	bool heir, forced, asking, won;
	uint64_t round, asking_ns;
	/* leading */
	uint64_t inherited; /* up to the record that began the epoch; 0: not appended yet */
	uint64_t handing, handing_ns, beat_ns;
	uint32_t target_size; /* wanted; 0: as it is */
	uint32_t n_peers;
	struct replica_peer peers[REPLICA_PEERS_MAX];
	struct replica_todo todo;
};

/* Dies when G does not outlast L under the drift. NULL limits: the defaults. */
void replica_init(
	struct replica *r, const struct replica_limits *limits, const struct replica_log *log);
/* Who else belongs to the shard: learners come from here.  Others are forgotten. */
void replica_peers(struct replica *r, const uint64_t *ids, uint32_t n);
const struct replica_todo *replica_step(struct replica *r, const struct replica_event *ev);

/* New records may be appended, and then EV_APPENDED. */
bool replica_may_append(const struct replica *r);
/* A read may be answered from what is applied, once the commit index covers it (R8). */
bool replica_may_read(const struct replica *r, uint64_t now_ns);
/* Without a lease: a read that began before this time may be answered so. */
uint64_t replica_heard_ns(const struct replica *r);
/* A chunk of a copy sent under this epoch may be taken (R12). */
bool replica_may_copy(const struct replica *r, uint64_t epoch);
/* Room may be granted on a storage server that has acknowledged this epoch (R12). */
bool replica_may_grant(const struct replica *r, uint64_t server_epoch);
/* For a storage server: whether to obey a request of this epoch; *epoch is the highest seen, to be
 * made durable before the answer (R12). */
bool replica_fence(uint64_t *epoch, uint64_t request_epoch);
/* The least set with which new records are committed (R7). */
uint32_t replica_min_in_sync(uint32_t target_size);
bool replica_set_has(const struct replica_set *s, uint64_t id);
void replica_audit(const struct replica *r); /* stops the process when an invariant is broken */
#endif
