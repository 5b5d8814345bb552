/* SPDX-License-Identifier: Apache-2.0 */
/* etcd_own.h: what etcd.c and etcd_member.c share. */
#ifndef COORD_ETCD_OWN_H
#define COORD_ETCD_OWN_H
#include "coord/etcd_json.h"

struct etcd {
	struct coord c; /* first */
	struct sys_http *http;
	struct etcd_url url;
	struct sys_http_tls tls;
	char *user, *password;
	struct fiber_lock renewing;
	char token[ETCD_TOKEN_MAX]; /* empty: none */
	uint64_t n_tokens;          /* that there have been */
	uint32_t first;             /* endpoint to ask next */
	struct group watching;
};

/* One question to the gateway. */
struct etcd_call {
	const char *path; /* "/v3/kv/range" */
	char *body;       /* taken; NULL: there was no memory for it */
	bool once;        /* it changes something: never asked again where it may have left */
	bool bare;        /* without a token */
	uint64_t until_ns;
	/* the outcome */
	struct bytes answer; /* after 0: the caller frees answer.p */
	bool unclear;        /* after a failure: what was asked for may happen all the same */
};
/* 0: answered with success.  E_DENIED, E_FULL, E_BUSY, E_INVALID: etcd has refused, for good.
 * E_TIMEOUT, E_CANCELED, E_UNAVAILABLE, E_NOMEM. */
PARKS int etcd_call(struct etcd *e, struct etcd_call *k, struct err_note *note);
/* For calls that change something: what coord.h says of changes. */
int etcd_outcome(const struct etcd_call *k, int rc);
static inline struct etcd *etcd_of(struct coord *c)
{
	return container_of(c, struct etcd, c);
}
#endif
