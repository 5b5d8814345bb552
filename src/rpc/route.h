/* SPDX-License-Identifier: Apache-2.0 */
/* route.h: where to go: the nodes that may lead, and the way to the one that does.
 *
 * A route begins with the addresses that the user gave and learns others: the nodes that hello_ok
 * names, and the hint that comes with E_NOTPRIMARY.  Only the one that leads lets anybody in, so
 * asking is saying hello.  All are asked side by side, the likeliest first and the next one
 * ROUTE_STAGGER_MS later or as soon as one has failed: a host that is dead or frozen costs that and
 * no more.
 *
 * (R1) Nothing that was learned lowers the protection: an address is followed only when the user
 *      gave one that is protected no better.  TLS is better than this host (a Unix socket, or TCP
 *      over the loopback), and that is better than plain TCP; a Unix socket is followed only when
 *      one was given.
 * (R2) What was given stays for ever; what was learned is replaced by what the next one that leads
 *      says. */
#ifndef RPC_ROUTE_H
#define RPC_ROUTE_H
#include "rpc/rpc.h"

enum {
	ROUTE_GIVEN_MAX = 8,
	ROUTE_LEARNED_MAX = 16,
	ROUTE_ADDRS_MAX = ROUTE_GIVEN_MAX + ROUTE_LEARNED_MAX,
	ROUTE_TEXT_MAX = 1024,       /* bytes of a list of addresses */
	ROUTE_STAGGER_MS = 15,
	ROUTE_BACKOFF_FIRST_MS = 2,
	ROUTE_BACKOFF_SOON_MS = 64,  /* longest pause at first: somebody takes over just now */
	ROUTE_BACKOFF_MS = 250,      /* longest pause after ROUTE_SOON_MS */
	ROUTE_SOON_MS = 3000,
	ROUTE_PATIENCE_MS = 2000,    /* with one that is silent, at first; doubled each time */
	ROUTE_GRACE_MS = 50,         /* for the others, once one has refused us for good */
};
enum route_kind { ROUTE_TCP, ROUTE_LOOPBACK, ROUTE_UNIX, ROUTE_TLS };

struct route_addr {
	char text[SYS_ADDR_MAX];
	uint8_t kind;                /* enum route_kind */
	bool given;
};
struct route {
	struct sys *sys;
	struct route_addr addrs[ROUTE_ADDRS_MAX]; /* the given ones first */
	uint32_t n, n_given;
	uint32_t first;              /* asked first: that let us in last, or that was hinted at */
	/* Shown where the token is empty and the address is not a Unix socket, whose peer is known
	 * without one; stays the caller's. */
	struct bytes key;
};

/* addrs: one address ("tcp:HOST:PORT", "tls:HOST:PORT", "unix:/PATH"), or several with commas.
 * E_INVALID. */
int route_init(struct route *r, struct sys *s, const char *addrs, struct err_note *note);
/* The address that is or was connected; for messages. */
const char *route_name(const struct route *r);
/* The nodes of hello_ok: those that may be followed (R1) replace what was learned (R2). */
void route_learn(struct route *r, const struct msg_hello_ok *ok);
/* Somebody leads at addr: it is asked first from now on.  False when it is not followed (R1). */
bool route_hint(struct route *r, const char *addr);

enum route_how {
	ROUTE_ONCE,   /* each is asked at most once: E_NOTPRIMARY when nobody lets us in */
	ROUTE_FIRST,  /* asked again while somebody answers E_NOTPRIMARY: there is a cluster */
	ROUTE_AGAIN,  /* also when they cannot be reached, or are busy */
};
/* Connects to whoever leads, and learns from its hello_ok.  o: its addr, greeted, arg and ret_hint
 * are set here.  except (may be NULL): not this one.  The best reason of those met: a refusal for
 * good, then E_NOTPRIMARY, then what the others said; E_CANCELED. */
PARKS int route_connect(struct route *r, const struct rpc_connect *o, enum route_how how,
	const char *except, uint64_t until_ns, struct rpc_conn **ret_c,
	struct msg_hello_ok *ret_ok, struct err_note *note);
/* Between two tries of the same thing: longer each time (*pause_ns, 0 at first), spread so that
 * many do not come back together. */
PARKS int route_pause(struct route *r, uint64_t *pause_ns, uint64_t until_ns);
/* Whether asking again may help. */
bool route_retries(int rc);
#endif
