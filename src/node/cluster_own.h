/* SPDX-License-Identifier: Apache-2.0 */
/* cluster_own.h: what the files of the cluster share. */
#ifndef NODE_CLUSTER_OWN_H
#define NODE_CLUSTER_OWN_H
#include "client/where.h"
#include "control/control.h"
#include "coord/etcd_child.h"
#include "node/cluster.h"
#include "node/etcd_certs.h"

struct cluster {
	struct sys *s;
	struct cluster_opts o;
	struct member m;
	struct coord *coord; /* a moving one over the embedded file, or etcd's */
	struct etcd_child *child;
	struct control *control;   /* while this node leads; NULL: it does not */
	struct replicate *r;       /* NULL: none yet, or no more */
	struct fiber_lock joining; /* one join at a time */
	struct group group;        /* of the upkeep */
	struct waitq kick;
	char addr[SYS_ADDR_MAX]; /* "": does not listen yet */
	uint32_t n_edits; /* of rows of nodes, made here: what was read before is old */
	bool kicked, row_done, moving, published;
	char tls_path[3][WHERE_MAX]; /* ca, certificate, key; of o.cert */
	struct etcd_certs certs;
};

bool cluster_embedded(const struct cluster *cl); /* coord is a file of this node */
struct coord *cluster_etcd(struct cluster *cl);  /* coord_etcd_open()'s, NULL while embedded */
struct sys_http_tls cluster_tls(const struct cluster *cl); /* all NULL without certificates */
/* Its etcd lets in who has the key (not one of its user's, nor an earlier version's). */
bool cluster_keyed(const struct cluster *cl);
PARKS int cluster_open_url(struct cluster *cl, const char *url, bool create, struct coord **ret_c,
	char *ret_url, struct err_note *note);
PARKS int cluster_etcd_start(struct cluster *cl, struct err_note *note);
/* Until the store behind c answers reads. */
PARKS int cluster_answers(
	struct cluster *cl, struct coord *c, uint64_t until_ns, struct err_note *note);
/* A row under an id that nobody ever had; in->id is not looked at. */
PARKS int cluster_claim(struct cluster *cl, struct coord *c, struct coord_node *in,
	uint64_t until_ns, struct err_note *note);
/* Reads, changes by edit(), puts, and again when somebody else was faster.  edit() returns false
 * when nothing is to be done.  E_NOTFOUND. */
typedef bool cluster_edit_fn(struct coord_node *n, void *arg);
PARKS int cluster_edit(struct cluster *cl, uint64_t id, cluster_edit_fn *edit, void *arg,
	uint64_t until_ns, struct err_note *note);
/* URL of coord from the voters among the members, this node's own first. */
bool cluster_url(const struct cluster *cl, const struct coord_etcd_member *members, uint32_t n,
	char ret_url[COORD_URL_MAX]);
void cluster_kick(struct cluster *cl); /* look at once */
/* The nodes that are known, where this user's clients look for them. */
PARKS void cluster_publish(struct cluster *cl);
PARKS int cluster_upkeep(void *cluster); /* a fiber_fn: rows, endpoints, growth */
void cluster_say(struct cluster *cl, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
PARKS void cluster_on_join(void *cluster, struct rpc_request *r);
PARKS void cluster_on_node_list(void *cluster, struct rpc_request *r);
PARKS void cluster_on_node_drain(void *cluster, struct rpc_request *r);
PARKS void cluster_on_node_remove(void *cluster, struct rpc_request *r);
PARKS void cluster_on_shard_status(void *cluster, struct rpc_request *r);
PARKS void cluster_on_shard_move(void *cluster, struct rpc_request *r);
#endif
