/* SPDX-License-Identifier: Apache-2.0 */
/* etcd_certs.h: the certificates of the etcd that a cluster runs by itself, in files below a node's
 * data.  They are made of the cluster's key and of nothing else, by an authority that is made of
 * it, too: who has the key can make them, and nobody else gets past etcd's doors. */
#ifndef NODE_ETCD_CERTS_H
#define NODE_ETCD_CERTS_H
#include "client/where.h"
#include "coord/etcd.h"
#include "coord/etcd_child.h"

enum etcd_file { ETCD_FILE_CA, ETCD_FILE_CLIENT, ETCD_FILE_KEY, ETCD_FILE_MEMBER, ETCD_FILES };
struct etcd_certs {
	char path[ETCD_FILES][WHERE_MAX];
};
int etcd_certs_init(struct etcd_certs *c, const char *data, struct err_note *note);
/* Puts them there, where there are not just these.  key: the cluster's, in 64 digits.  client_url:
 * "https://HOST:PORT" of the member that runs here; "": there is none, only who asks. */
PARKS int etcd_certs_write(struct sys *s, const struct etcd_certs *c, const char *key,
	const char *client_url, struct err_note *note);
/* For both doors of the member, and for who asks it.  They borrow from c. */
struct etcd_child_tls etcd_certs_member(const struct etcd_certs *c);
struct sys_http_tls etcd_certs_client(const struct etcd_certs *c);
#endif
