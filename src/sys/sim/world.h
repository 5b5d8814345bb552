/* SPDX-License-Identifier: Apache-2.0 */
/* world.h: what the files of this folder share.  Nobody else includes it.
 *
 * (W1) Nodes touch each other only through events: what a running fiber does is seen by another
 * node when an event fires, never before. (W2) A draw is a statement of its own, and its stream
 * belongs to one purpose. (W3) Lists are in the order of creation; nothing is ordered by address.
 * (W4) A parked call of the door is in sys->calls from its park until it is woken or dropped.
 * (W5) A node is up exactly while node->sys is set. */
#ifndef SYS_SIM_WORLD_H
#define SYS_SIM_WORLD_H
#include "base/list.h"
#include "sys/sim/disk.h"
#include "sys/sim/heap.h"
#include "sys/sim/sim.h"

/* One stream per purpose, forked from the seed; append only, or old seeds change their meaning. */
enum stream {
	STREAM_NET,
	STREAM_DISK,
	STREAM_CLOCK,
	STREAM_SCHED,
	STREAM_WORKLOAD,
	STREAM_BUGGIFY,
	STREAM_SECRET,
	STREAM_RANDOM,
	STREAM_WORK,
	STREAM_N
};
enum { NODE_NAME_MAX = 32, POINTS_MAX = 1024, ENV_MAX = 32 };

struct sim {
	uint64_t seed, now_ns, digest;
	struct sim_faults faults;
	struct prng streams[STREAM_N];
	struct heap heap;
	struct sim_node *nodes[SIM_NODES_MAX];
	uint32_t n_nodes;
	uint64_t ready, paused;      /* one bit for each node */
	struct sim_node *running;    /* whose loop runs; NULL between steps */
	uint64_t cut[SIM_NODES_MAX]; /* of node i: to whom nothing arrives */
	struct list conns;
	struct sim_counts counts;
	int stack_pattern; /* -1: stacks are not filled */
	uint8_t point_state[POINTS_MAX];
	struct sim_faults most;
	bool (*spare)(void *arg, uint32_t i, uint64_t now_ns, const char *node, const char *what);
	void *spare_arg;
	uint32_t n_misfortunes;
	void (*trace)(void *arg, uint64_t now_ns, const char *node, const char *text);
	void *trace_arg;
};

struct sim_node {
	struct sim *w;
	uint32_t index;
	uint32_t boots, next_port, next_caller;
	char name[NODE_NAME_MAX];
	struct disk disk;
	struct sys *sys;
	uint64_t disk_ops;
	bool off; /* the machine, since a power cut and until the next start */
	uint32_t kernels; /* power cuts so far */
	char boot_id[NODE_NAME_MAX + 12];
	sim_main_fn *main_fn;
	void *main_arg;
	int result;
	int64_t wall_ms; /* what jumps added up to */
	int32_t drift_ppm; /* by which its monotonic clock is fast */
	struct event timer, resume;
	uint64_t timer_due_ns; /* of the loop, in the node's own time, for which timer is queued */
	bool timer_late;
	uint64_t fail_left; /* operations up to the one that is to fail; 0: none is */
	int fail_rc;
	const char *fail_verb; /* only these count; NULL: all */
	bool fail_for_good, failing;
};

struct sys {
	struct sim *w;
	struct sim_node *node;
	struct loop *loop;
	struct group root;
	uint64_t skew_ns; /* the node's clock minus the world's, modulo 2^64, */
	uint64_t rate_ns; /* at that moment of the world, from which on it runs at drift_ppm */
	bool dead, tls;
	uint64_t dead_calls, dead_draws;
	struct list calls, streams, listeners, files, shms, signal_waits;
	uint32_t signals; /* arrived, one bit each */
};

/* ---- world.c ---- */
static inline struct prng *stream(struct sim *w, enum stream s)
{
	return &w->streams[s];
}
bool sim_odds(struct sim *w, enum stream s, uint32_t ppm); /* no draw when the chance is 0 */
void sim_note(struct sim *w, const struct sim_node *n, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void sim_fault(struct sim *w, const struct sim_node *n, const char *fmt, ...)
	__attribute__((format(printf, 3, 4))); /* counts and notes */
/* Counts, notes and says true, unless the run is to be spared of it. */
bool sim_misfortune(struct sim *w, const struct sim_node *n, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void cover_fault(const char *fmt);
bool node_fails(struct sim_node *n, const char *verb, const char *path); /* sim_fail_nth() */
static inline uint64_t sim_fold(uint64_t sum, uint64_t x)
{
	return prng_rotl(sum ^ x, 23) * 0x9e3779b97f4a7c15u;
}
static inline void sim_ready(struct sim_node *n)
{
	n->w->ready |= UINT64_C(1) << n->index;
}
static inline uint64_t node_now_ns(const struct sys *s)
{
	int64_t since_ns = (int64_t)(s->w->now_ns - s->rate_ns);

	return s->w->now_ns + s->skew_ns +
		(uint64_t)(since_ns / 1000000 * s->node->drift_ppm +
			since_ns % 1000000 * s->node->drift_ppm / 1000000);
}

/* ---- node.c ---- */
/* A parked call.  drop() is called when the park ends by deadline, cancellation or the end of the
 * process: it takes the call out of whatever would have ended it. */
struct call {
	struct list link;
	struct sys *sys;
	struct fiber *fiber;
	void (*drop)(struct call *c);
};
PARKS int call_wait(struct sys *s, struct call *c, uint64_t until_ns);
void call_end(struct call *c, int rc); /* already ended: fine */
int sys_dead(struct sys *s);           /* E_CANCELED; counts, so that who never gives up is found */
void node_run(struct sim_node *n);
void node_init(struct sim_node *n);
enum node_end { END_EXIT, END_KILL, END_POWER };
void node_end(struct sim_node *n, enum node_end how);

/* ---- what the end of a process does to each kind of object: the handle stays as an empty shell
 * until its owner closes it ---- */
void net_end(struct sys *s, enum node_end how);
void net_boot(struct sim_node *n); /* peers that still talk to the process before get a reset */
void net_free(struct sim *w);
void net_healed(struct sim *w);
void files_end(struct sys *s);
bool cover_active(struct sim *w, unsigned point);
#endif
