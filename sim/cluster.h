/* SPDX-License-Identifier: Apache-2.0 */
/* cluster.h: the nodes of a simulated cluster: a metadata server, and machines with clients.  The
 * structs live in scenario_alloc(): they are what the world knows, not what nodes may learn. */
#ifndef SIM_CLUSTER_H
#define SIM_CLUSTER_H
#include "control/control.h"
#include "client/client.h"
#include "sim/ledger.h"
#include "sim/metas.h"

enum { WORKERS_MAX = 6, CLIENTS_MAX = 6, STORES_MAX = 4, TOKEN_TEXT_MAX = 64 };

struct cluster;
struct worker;
/* One thing after another, until cluster_going() says no.  E_CANCELED ends it, too. */
typedef PARKS int worker_fn(struct worker *w, struct client *c);
struct worker {
	struct cluster *cl;
	struct sys *sys;
	struct machine *machine;
	struct client *client;
	struct prng p;
	uint32_t number;  /* over all machines */
	worker_fn *run;
	void *mine;       /* of the scenario; survives the machine */
};
struct machine {
	struct cluster *cl;
	struct sim_node *node;
	uint32_t n_workers;
	const char *token;          /* NULL: the administrator's */
	struct worker workers[WORKERS_MAX];
	uint64_t starts;
};
struct store_node {
	struct cluster *cl;
	struct sim_node *node;
	uint32_t number;
	uint32_t audits;
	bool broken;      /* cannot open its files: lets the others work */
	uint64_t id;      /* of the cluster's node whose storage it is; 0: none */
	bool drains;      /* is to be emptied */
	bool away;        /* is not started again */
	bool looked;      /* set when this was: */
	struct control_node look; /* what the controller says of it */
	uint64_t used_bytes, reserved_bytes; /* at the last audit */
};
struct cluster {
	struct scenario *sc;
	struct ledger *ledger;
	struct metas metas;
	struct sim_node *meta; /* the first of them */
	bool control;     /* with a controller, which storage servers need */
	uint8_t key[32];  /* of the cluster */
	char token[TOKEN_TEXT_MAX];
	size_t token_len;
	bool little_room; /* devices that are full soon */
	uint32_t copies;  /* of what is in the buckets, on different servers; 0: by default */
	bool loose_apart;          /* of LOOSE there are others: */
	uint32_t loose_copies;
	struct leave *leave;       /* NULL: no storage server leaves */
	struct control_copies now; /* what the controller says of them */
	uint32_t n_stores;
	struct store_node stores[STORES_MAX];
	struct machine machines[CLIENTS_MAX];
	uint32_t n_machines;
	bool stop;        /* the workers are to end */
	bool audit;       /* is asked for, and done: */
	uint32_t audits;
	uint32_t meta_starts;
	uint64_t life;    /* of the shard, as it last said */
	uint64_t files, used_bytes; /* at the last audit */
	uint64_t room_taken;        /* of devices, likewise: capacity less what is free */
	struct machine judge;
	bool judged;      /* its work is done */
};

struct cluster *cluster_new(struct scenario *sc, uint32_t value_bytes_max);
/* With so many metadata nodes: 1 or METAS_MAX. */
struct cluster *cluster_new_of(struct scenario *sc, uint32_t value_bytes_max, uint32_t n_metas);
/* All nodes: metadata, clients, storage. */
uint32_t cluster_nodes(const struct cluster *cl);
struct sim_node *cluster_node(const struct cluster *cl, uint64_t i);
/* Before anything is started: a controller, and so many storage servers. */
void cluster_stores(struct cluster *cl, uint32_t n);
/* mine: of the scenario, for each of its workers. */
struct machine *cluster_machine(
	struct cluster *cl, uint32_t n_workers, worker_fn *run, void *mine);
void cluster_start(struct cluster *cl); /* every node that is down */
/* One drawn misfortune: a node cut off, killed, without power, paused; a clock that jumps. */
void cluster_misfortune(struct cluster *cl);
struct course {
	uint32_t rounds, steps_max;
	uint64_t work_ns_max; /* between two misfortunes */
	void (*misfortune)(struct cluster *cl, void *mine);
	worker_fn *judge; /* calls cluster_judged() */
	void *mine;
	uint64_t judge_sec, empty_sec; /* for the judge, and for all room to come back */
};
/* From the start of the cluster to its end: rounds of work, a misfortune and a restart of whatever
 * is down; then no faults any more, everything up and connected; the workers end, one more client
 * runs the judge, and at last nothing may be stored anywhere.  Ends early at a violation. */
void cluster_course(struct cluster *cl, const struct course *c);
void cluster_judged(struct cluster *cl, int rc);
/* Asks the shard to walk its rows; violation() when it does not answer. */
void cluster_audit(struct cluster *cl);

/* ---- for workers ---- */
bool cluster_going(const struct worker *w);
/* A drawn deadline; and whether what ended by now kept it. */
uint64_t worker_until(struct worker *w);
void worker_in_time(struct worker *w, uint64_t until_ns, const char *what);
#endif
