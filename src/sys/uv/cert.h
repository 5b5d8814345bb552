/* SPDX-License-Identifier: Apache-2.0 */
/* cert.h: makes the keys and certificates that tls: addresses need, and reads them for people.
 * Works on memory only; OpenSSL draws the keys, or makes them of a seed.  Blocks for as long as a
 * signature takes. */
#ifndef SYS_UV_CERT_H
#define SYS_UV_CERT_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	CERT_PEM_MAX = 8192,      /* of one certificate, with its NUL */
	CERT_KEY_MAX = 1024,
	CERT_NAME_MAX = 63,       /* bytes of a name: letters, digits, '.', '_', '-' */
	CERT_HOSTS_MAX = 1024,    /* bytes of a list of hosts */
	CERT_SEED_BYTES = 32,
};
/* An authority signs the others.  A node serves and calls, a client only calls. */
enum cert_role { CERT_AUTHORITY, CERT_NODE, CERT_CLIENT };

struct cert_pem { char cert[CERT_PEM_MAX], key[CERT_KEY_MAX]; };
/* Every node's certificate is made out to this name, too, and no client's: so programs that know
 * nothing of URIs (etcd) can tell them apart. */
#define CERT_EVERY_NODE "node.wadi.internal"
struct cert_ask {
	enum cert_role role;
	const char *name;         /* of the authority, node or client */
	const char *hosts;        /* of a node: "HOST[,HOST...]", names and IP addresses; or NULL */
	uint64_t from_s, until_s; /* Unix time */
	/* CERT_SEED_BYTES of a secret: the key is Ed25519 and made of it.  The same ask, signed by
	 * such an authority, always gives the same bytes.  NULL: drawn. */
	const uint8_t *seed;
};
/* An elliptic key (P-256 where it is drawn) and its certificate, signed by ca (NULL for an
 * authority's).  E_INVALID: the name, the hosts, or ca is no authority; E_TOOBIG. */
int cert_make(const struct cert_ask *a, const struct cert_pem *ca, struct cert_pem *ret,
	struct err_note *note);
void cert_wipe(struct cert_pem *p);

struct cert_facts {
	enum cert_role role;
	char name[CERT_NAME_MAX + 1];
	char hosts[CERT_HOSTS_MAX];   /* of a node; what does not fit is left out */
	char hash[65];                /* SHA-256 of the whole, hexadecimal */
	uint64_t from_s, until_s;
	bool key_fits;                /* the key given belongs to it */
};
/* key may be NULL.  E_INVALID: not a certificate in PEM, or none of ours. */
int cert_read(const char *cert, const char *key, struct cert_facts *ret, struct err_note *note);
#endif
