/* SPDX-License-Identifier: Apache-2.0 */
/* etcd_child.h: a member of etcd as a supervised child process, for those who bring none: the etcd
 * found in PATH, started again whenever it ends.
 *
 * A supervisor that is killed leaves its etcd behind, which goes on.  The next one finds it by
 * data_dir.pid and by its command line: one that was started just so is adopted, any other on the
 * same directory is ended first. */
#ifndef COORD_ETCD_CHILD_H
#define COORD_ETCD_CHILD_H
#include "sys/sys.h"

/* Files in PEM for one of its two doors: who it is, and whose certificates it takes.  All NULL: no
 * TLS.  The gateway calls its own server with the same certificate, which is therefore for a server
 * and for a client. */
struct etcd_child_tls {
	const char *ca_file, *cert_file, *key_file;
	/* Of members only: certificates made out to it are let in, no others; NULL: all.  The door
	 * of clients cannot be told so, for the gateway would refuse its own server. */
	const char *allowed_host;
};
struct etcd_child_opts {
	const char *name;     /* of the member */
	const char *data_dir; /* made when missing; beside it: data_dir.log, data_dir.pid */
	const char *client_url,
		*peer_url; /* "http://10.0.0.3:2379": listened on and told to others */
	/* Listened on instead: etcd listens on addresses, while certificates are made out to names.
	 * NULL: the same. */
	const char *client_listen, *peer_listen;
	/* "a=http://10.0.0.3:2380,b=...": every member at its first start; NULL: it alone. */
	const char *initial_cluster;
	bool joining; /* the cluster is there and has been told of it (coord_etcd_member_add()) */
	struct etcd_child_tls client_tls, peer_tls;
	uint32_t heartbeat_ms, election_ms; /* 0: etcd's own, 100 and 1000 */
};

struct etcd_child;
/* E_NOTFOUND: there is no etcd; the note says how to install one.  It need not be ready yet; that
 * is when it answers. */
PARKS int etcd_child_start(struct sys *s, const struct etcd_child_opts *o,
	struct etcd_child **ret_e, struct err_note *note);
/* Asks it to end, kills it at until_ns, and returns when it is gone.  NULL is fine. */
PARKS void etcd_child_stop(struct etcd_child *e, uint64_t until_ns);
int64_t etcd_child_pid(const struct etcd_child *e);     /* 0: it is just not running */
uint32_t etcd_child_starts(const struct etcd_child *e); /* how often it was started */
bool etcd_child_adopted(const struct etcd_child *e);    /* runs, and is an earlier life's */
#endif
