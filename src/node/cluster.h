/* SPDX-License-Identifier: Apache-2.0 */
/* cluster.h: this node's part in a cluster: who it is, where coord is, the member of etcd that it
 * runs, its row among the nodes, and the requests of nodes that join and of operators.
 *
 * All of it lives on one loop: that of the metadata role, or, where there is none, of the process.
 */
#ifndef NODE_CLUSTER_H
#define NODE_CLUSTER_H
#include "meta/replicate.h"
#include "node/member.h"
#include "rpc/rpc.h"

enum { CLUSTER_META_MAX = 3 }; /* nodes that get a replica by themselves */

struct cluster_opts {
	const char *data;       /* the node's folder; what it remembers is in it */
	const char *meta_dir;   /* where the embedded file is, or would be */
	const char *coord;      /* --coord; NULL: as remembered, or the embedded file */
	const char *login_file; /* for etcd; may be NULL */
	const char *cert;       /* folder of certificates; "": no TLS */
	const char *key;        /* the cluster's, as text */
	const char *publish;    /* folder where clients of this user look; "": elsewhere */
	const char *rack;       /* label; "": none */
	unsigned roles;          /* enum wire_node_roles */
};
struct cluster;
/* Starts the node's etcd where it runs one, opens coord, takes an id where it has none. */
PARKS int cluster_open(struct sys *s, const struct cluster_opts *o, struct cluster **ret_cl,
	struct err_note *note);
/* The replica is closed.  NULL is fine. */
PARKS void cluster_close(struct cluster *cl);

struct control;
struct control **cluster_control(struct cluster *cl); /* for meta_opts */
struct coord *cluster_coord(struct cluster *cl);
uint64_t cluster_id(const struct cluster *cl);
uint32_t cluster_first_target(const struct cluster *cl); /* for replicate_opts */
/* Where others reach this node, once it listens: its row is put in order behind this call. */
void cluster_address(struct cluster *cl, const char *addr);
void cluster_replica(struct cluster *cl, struct replicate *r); /* NULL: it is going away */

/* Requests of cluster.def, of connections with admin rights; their argument is the cluster. */
const struct rpc_op *cluster_ops(size_t *ret_n);

/* An address "tcp:HOST:PORT" and a host of the URLs of a member of etcd beside it: two ports that
 * nobody listens on, 1000 and 2000 behind the node's own where that is possible. */
PARKS int cluster_etcd_urls(struct sys *s, const char *addr, bool tls,
	char ret_client[ETCD_PEER_URL_MAX], char ret_peer[ETCD_PEER_URL_MAX],
	struct err_note *note);
/* "http://" becomes "https://".  E_TOOBIG. */
int cluster_url_tls(char url[ETCD_PEER_URL_MAX]);
#endif
