/* SPDX-License-Identifier: Apache-2.0 */
/* etcd.h: coord in etcd 3, over its JSON gateway.  A library of its own (coord_etcd), for it stands
 * on libcurl.
 *
 * Several endpoints are asked in turn, beginning with the one that answered last; reads are always
 * linearizable; a swap leaves once at most. */
#ifndef COORD_ETCD_H
#define COORD_ETCD_H
#include "coord/coord.h"
#include "sys/http.h"

enum { ETCD_ENDPOINTS_MAX = 8, ETCD_MEMBERS_MAX = 16, ETCD_PEER_URL_MAX = 256 };

/* Instead of etcds://: with certificates that are made of the cluster's key, not those of its
 * hosts; so whoever keeps such a URL knows which to show. */
#define ETCD_KEYED "etcds+key://"
bool coord_etcd_keyed(const char *url);

struct coord_etcd_opts {
	/* etcd://HOST:PORT,HOST:PORT/PREFIX, or etcds:// for TLS.  Without a port 2379, without a
	 * prefix "wadi": the keys are /PREFIX/shard/0 and so on. */
	const char *url;
	struct sys_http_tls tls;
	const char *user, *password; /* user NULL: etcd asks for none */
};
/* Asks nobody yet.  Everything is copied.  E_INVALID: the URL. */
int coord_etcd_open(struct sys *s, const struct coord_etcd_opts *o, struct coord **ret_c,
	struct err_note *note);
/* Asks these endpoints from now on: another URL of the same store, by its scheme and prefix
 * (E_INVALID otherwise).  c is from coord_etcd_open(), here and below. */
int coord_etcd_endpoints(struct coord *c, const char *url, struct err_note *note);

/* ---- the members of etcd itself ---- */
struct coord_etcd_member {
	uint64_t id;
	char name[COORD_NAME_MAX]; /* empty: it has been added and has not started yet */
	char peer_url[ETCD_PEER_URL_MAX];
	char client_url[ETCD_PEER_URL_MAX]; /* empty until it has started */
	bool learner;
};
PARKS int coord_etcd_members(struct coord *c, uint64_t until_ns,
	struct coord_etcd_member ret_members[ETCD_MEMBERS_MAX], uint32_t *ret_n,
	struct err_note *note);
/* These three return as a change does.  E_BUSY: not yet, for the learner has not caught up, or a
 * member is not up or came up a moment ago. */
PARKS int coord_etcd_member_add(struct coord *c, const char *peer_url, bool learner,
	uint64_t until_ns, uint64_t *ret_id, struct err_note *note);
PARKS int coord_etcd_member_promote(
	struct coord *c, uint64_t id, uint64_t until_ns, struct err_note *note);
PARKS int coord_etcd_member_remove(
	struct coord *c, uint64_t id, uint64_t until_ns, struct err_note *note);
#endif
