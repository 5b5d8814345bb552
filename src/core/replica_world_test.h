/* SPDX-License-Identifier: Apache-2.0 */
/* replica_world_test.h: a shard's replicas in a simulated world, and a judge who sees all of it.
 *
 * One seed is one run: a time of faults, then everything heals and a new record has to be committed
 * within 2 simulated seconds.  One stream of chance for each purpose. */
#ifndef CORE_REPLICA_WORLD_TEST_H
#define CORE_REPLICA_WORLD_TEST_H
#include "base/prng.h"
#include "core/replica.h"
#include <stddef.h>

enum {
	NODES_MAX = 6,
	RECORDS_MAX = 1 << 13, /* in the log of one run */
	OPS_MAX = 1 << 14,     /* of the log's file: records, cuts, copies */
	EVENTS_MAX = 1 << 13,
	EPOCHS_MAX = 1 << 10,
};
#define MS  1000000ull
#define SEC (1000 * MS)

struct packet {
	struct packet *next;
	struct replica_msg msg;
	uint32_t cap;
	struct replica_place places[];
};

enum event_kind { /* what happens next */
	EV_TICK,
	EV_DELIVER,
	EV_WROTE,
	EV_SYNC,
	EV_SYNCED,
	EV_MARKED,
	EV_COORD_ARRIVES,
	EV_COORD_ANSWERS,
	EV_COORD_DEADLINE,
	EV_COPIED,
	EV_RESTART,
	EV_LOAD,
	EV_FAULT,
	EV_HEAL_LINK,
	EV_STOP,
	EV_COPY_SENT,
	EV_FENCE,
	EV_FENCED,
	EV_GRANT,
};
enum reached { /* rare things that a run of many seeds has to meet */
#define REACHED(name, text) REACHED_##name,
#include "core/replica_reached_test.def"
#undef REACHED
	REACHED_COUNT
};
struct coord_op {
	bool swap, late;
	uint64_t op, expected;
	struct replica_config config;
	enum replica_outcome outcome;
};
struct event {
	uint64_t at_ns, seq;
	enum event_kind kind;
	uint32_t node, peer, life, peer_life;
	uint64_t n, epoch;
	struct packet *packet;
	struct coord_op *coord;
	struct replica_place place;
	struct replica_mark mark;
	bool early;
};

/* The physical log: what a crash leaves is a prefix of it. */
struct op {
	enum { OP_APPEND, OP_CUT, OP_RESET } kind;
	struct replica_place place; /* the last one behind it */
	uint64_t cuts;
};
struct node {
	struct replica r;
	const struct replica_msg *handling; /* the message of the present step */
	bool up, rotten;
	uint32_t life;
	uint64_t id, incarnation, boot;
	struct replica_mark mark;
	struct op ops[OPS_MAX];
	uint32_t n_ops, written_ops, synced_ops;
	bool writing, syncing;
	struct replica_place log[RECORDS_MAX];
	uint64_t base, last, tree; /* places base..last are known */
	uint64_t lost_from;        /* the judge's: from here a power cut took records */
	int64_t drift_ppm;
	uint64_t offset_ns, paused_until_ns, slow_until_ns;
	uint64_t op, server_epoch;
	bool op_open;
	uint64_t read_ns, read_least; /* a read without a lease */
};

struct world {
	uint64_t seed, now_ns, seq, heal_at_ns;
	bool verbose, healed, forced;
	uint32_t n_nodes, always_nodes; /* 0: as drawn */
	struct prng net, disk, fault, load, clock, store;
	struct node nodes[NODES_MAX];
	uint64_t next_id, next_value, next_boot;
	bool cut[NODES_MAX][NODES_MAX]; /* [from][to] */
	uint32_t loss_permille, double_permille, delay_us, coord_loss_permille, coord_late_permille;
	uint32_t load_us, fault_ms, writes_us, odds[18];
	uint64_t coord_down_until_ns, swapped_at_ns;
	struct replica_config coord, before; /* before: what the present reign was made from */
	/* the judge */
	struct replica_place truth[RECORDS_MAX];
	uint64_t acked, synced, forgiven_epoch, healed_at, server_fence, server_acked;
	struct replica_name primary_of[EPOCHS_MAX];
	uint64_t n_events, n_acked, n_reads, n_reigns, n_faults;
	uint64_t reached[REACHED_COUNT];
	const char *rule;
	struct jump *out; /* to the end of the run */
	/* memory */
	struct event *heap;
	uint32_t n_heap;
	struct packet *free_packets[2];
};

/* replica_world_test.c */
struct event *world_at(struct world *w, uint64_t delay_ns, enum event_kind kind, uint32_t node);
uint32_t world_node_of(const struct world *w, uint64_t id); /* NODES_MAX: there is none */
void world_say(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void world_sudden(struct world *w, uint32_t i, uint64_t within_ms);
_Noreturn void world_broken(struct world *w, const char *rule);

/* replica_world_node_test.c */
void node_begin(struct world *w, uint32_t i);
void node_start(struct world *w, uint32_t i);
void node_crash(struct world *w, uint32_t i, bool power);
void node_wipe(struct world *w, uint32_t i);
void node_rot(struct world *w, uint32_t i); /* found while it runs */
void node_step(struct world *w, uint32_t i, struct replica_event *ev);
void node_event(struct world *w, const struct event *e);
void node_load(struct world *w, uint32_t i);
void node_peers(struct world *w);
uint64_t node_now(const struct world *w, uint32_t i);

/* replica_world_coord_test.c */
void coord_ask(struct world *w, uint32_t i, const struct replica_do *d);
void coord_event(struct world *w, const struct event *e);

/* replica_world_judge_test.c */
void judge_commit(struct world *w, uint32_t i, const struct replica_do *d);
void judge_swap(
	struct world *w, const struct replica_config *from, const struct replica_config *to);
void judge_begin(struct world *w, uint32_t i);
void judge_cut(struct world *w, uint32_t i, uint64_t index);
void judge_install(struct world *w, uint32_t i, struct replica_place place);
void judge_read(struct world *w, uint32_t i, uint64_t at_least);
void judge_grant(struct world *w, uint64_t epoch);
uint64_t judge_agrees(const struct world *w, uint32_t i); /* records of the truth in its log */
#endif
