/* SPDX-License-Identifier: Apache-2.0 */
/* node.h: roles of one process, each on a loop of its own thread, that talk over the same wire as
 * everybody else, through a Unix socket. */
#ifndef NODE_NODE_H
#define NODE_NODE_H
#include "client/where.h"
#include "sys/sys.h"
#include <stdbool.h>
#include <string.h>

enum node_roles { NODE_META = 1, NODE_STORE = 2 };
#define NODE_DEFAULT UINT64_MAX     /* bytes of a tier: by the machine */

struct node_opts {
	unsigned roles;              /* enum node_roles */
	const char *data;            /* folder; NULL: ~/.wadi/data */
	const char *listen;          /* "HOST[:PORT]", "unix:/PATH", or NULL: only the socket */
	const char *socket;          /* path; NULL: the user's own, see where.h */
	const char *meta;            /* url of the shard that a store joins; NULL: as clients do */
	const char *key_file;        /* NULL: beside the user's own socket */
	const char *cert_dir;        /* NULL: "cert" in data, when it is there */
	const char *join;            /* "HOST[:PORT]" of a node to belong to; NULL: none */
	const char *coord;           /* "etcd://..." of the user's own; NULL: none */
	const char *coord_login;     /* a file for it, as in coord/open.h; may be NULL */
	const char *rack;            /* label of what fails together with this host; may be NULL */
	uint64_t dram_bytes, flash_bytes, disk_bytes;
	int ready_fd;                /* -1: none; a line is written once clients are served */
	bool quiet;                  /* no banner */
	bool insecure;               /* listen without TLS, also where other hosts reach it */
};

/* Listens somewhere else than at the user's own socket. */
static inline bool node_elsewhere(const struct node_opts *o)
{
	return o->socket != NULL || (o->listen != NULL && strncmp(o->listen, "unix:", 5) == 0);
}

/* Runs until a signal asks it to end or a role cannot go on.  The exit code; says what went wrong
 * on standard error. */
int node_run(const struct node_opts *o);
#endif
