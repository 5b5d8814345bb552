/* SPDX-License-Identifier: Apache-2.0 */
/* nodes.h: what `wadi node` and `wadi shard` say and ask, for whoever does the asking
 * (src/node). */
#ifndef CLI_NODES_H
#define CLI_NODES_H
#include "cli/out.h"

enum { CLI_ADDR_MAX = 256, CLI_LABEL_MAX = 64, CLI_REPLICAS_MAX = 16 };
struct cli_node {
	uint64_t node, written; /* written: record; 0: not known */
	uint64_t held_bytes; /* on its storage, to be moved before it may leave */
	bool stuck;          /* they do not move without somebody's help */
	bool away;           /* its storage does not answer */
	bool meta, store, leads, in_sync, connected, fresh, drain, removed;
	char waits[CLI_ADDR_MAX]; /* why they do not move; "": they do */
	char addr[CLI_ADDR_MAX], host[CLI_LABEL_MAX], rack[CLI_LABEL_MAX];
};
struct cli_nodes {
	uint64_t self, primary, last; /* last: record of the one that leads; 0: not known */
	bool storage_known;           /* held_bytes, away and waits are filled in */
	bool embedded;                /* a lone node that was never joined */
	unsigned voters, learners;    /* of the etcd that nodes run; 0: they run none */
	uint32_t n;
	struct cli_node *nodes; /* the caller frees it */
};
struct cli_replica {
	uint64_t node, written, synced;
	bool in_sync, connected;
};
struct cli_shard {
	uint64_t node, incarnation, epoch, primary, last, written, synced, commit, synced_commit;
	uint32_t target_size, n_replicas;
	bool leads;
	char state[32];
	struct cli_replica replicas[CLI_REPLICAS_MAX];
};
enum cli_change {
	CLI_NODE_DRAIN,     /* to: node */
	CLI_NODE_UNDRAIN,
	CLI_NODE_REMOVE,
	CLI_NODE_GIVE_UP,   /* likewise, with what is nowhere else */
	CLI_SHARD_HANDOVER, /* to: node, 0: whoever is fit */
	CLI_SHARD_TARGET,   /* to: how many */
	CLI_SHARD_FORCE,    /* to: node */
};
/* Each is asked where the options and the environment tell; 0, or an error and its sentence. */
struct cli_admin {
	int (*nodes)(const struct cli *c, struct cli_nodes *ret_n, struct err_note *note);
	int (*shard)(const struct cli *c, struct cli_shard *ret_s, struct err_note *note);
	int (*change)(const struct cli *c, enum cli_change what, uint64_t to,
		struct err_note *note);
};
/* The lines about nodes of `wadi status`, where there is more than one. */
void cmd_node_status_line(struct cli *c);
#endif
