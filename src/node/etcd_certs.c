/* SPDX-License-Identifier: Apache-2.0 */
/* (Y1) They are a function of the key and the host: every node makes the same authority by itself,
 *      and every start the same files, so an etcd that still runs goes on with them.
 * (Y2) They never expire: clocks of nodes may be wrong, and what ends them is another key.
 * (Y3) Who asks has a certificate without hosts: etcd would hold them against the address that the
 *      question comes from. */
#include "node/etcd_certs.h"
#include "base/check.h"
#include "control/token.h"
#include "sys/uv/cert.h"
#include <stdio.h>
#include <stdlib.h>

#define NEVER_S UINT64_C(253402300799) /* the end of 9999: none (RFC 5280, 4.1.2.5) */

static const char *const names[ETCD_FILES] = { "etcd.ca", "etcd-client.crt", "etcd.key",
	"etcd.crt" };

int etcd_certs_init(struct etcd_certs *c, const char *data, struct err_note *note)
{
	int rc = 0;

	for (int i = 0; i < ETCD_FILES && rc == 0; i++)
		rc = where_join(data, names[i], c->path[i], note);
	return rc;
}

/* ---- making ---- */
struct making {
	uint8_t key[TOKEN_KEY_BYTES];
	char hosts[CERT_HOSTS_MAX];
	struct cert_pem authority, member, client;
	struct err_note note;
	int rc;
};

static void make_all(void *arg)
{
	uint8_t top[TOKEN_KEY_BYTES], leaf[TOKEN_KEY_BYTES];
	struct making *m = arg;
	struct cert_ask ask = { .role = CERT_AUTHORITY, .name = "etcd", .until_s = NEVER_S };

	_Static_assert((int)TOKEN_KEY_BYTES == (int)CERT_SEED_BYTES, "a seed is a seed");
	token_etcd_seed(m->key, TOKEN_ETCD_AUTHORITY, top);
	token_etcd_seed(m->key, TOKEN_ETCD_MEMBER, leaf);
	ask.seed = top;
	m->rc = cert_make(&ask, NULL, &m->authority, &m->note);
	ask.seed = leaf;
	ask.role = CERT_CLIENT;
	ask.name = "asks";
	if (m->rc == 0)
		m->rc = cert_make(&ask, &m->authority, &m->client, &m->note); /* (Y3) */
	ask.role = CERT_NODE;
	ask.name = "member";
	ask.hosts = m->hosts;
	if (m->rc == 0 && m->hosts[0] != '\0')
		m->rc = cert_make(&ask, &m->authority, &m->member, &m->note);
	explicit_bzero(top, sizeof top);
	explicit_bzero(leaf, sizeof leaf);
}

/* The host of the URL, and this machine: the gateway of etcd calls its own server. */
static int hosts_of(const char *client_url, char ret_hosts[CERT_HOSTS_MAX], struct err_note *note)
{
	const char *host = strstr(client_url, "://"), *end = strrchr(client_url, ':');

	ret_hosts[0] = '\0';
	if (client_url[0] == '\0')
		return 0;
	if (host == NULL || end <= host + 3)
		return err_set(note, E_CORRUPT, "%.100s: no URL of a member of etcd", client_url);
	host += 3;
	if (host[0] == '[' && end[-1] == ']') {
		host++;
		end--;
	}
	snprintf(ret_hosts, CERT_HOSTS_MAX, "%.*s,localhost,127.0.0.1,::1", (int)(end - host),
		host);
	return 0;
}

/* ---- files ---- */
PARKS static bool is_there(struct sys *s, const char *path, const char *text)
{
	char *has = malloc(CERT_PEM_MAX);
	struct sys_file *f;
	int64_t n = -1;

	if (has != NULL && sys_open(s, path, SYS_READ, &f, NULL) == 0) {
		n = sys_pread(f, has, CERT_PEM_MAX, 0, NULL);
		sys_close(f);
	}
	bool same = n == (int64_t)strlen(text) && memcmp(has, text, (size_t)n) == 0;

	if (has != NULL)
		explicit_bzero(has, CERT_PEM_MAX);
	free(has);
	return same;
}

/* Whole or not at all, for an etcd may read it just now. */
PARKS static int put(struct sys *s, const char *path, const char *text, struct err_note *note)
{
	char fresh[WHERE_MAX + 8];
	struct sys_file *f;
	int rc;

	if (is_there(s, path, text))
		return 0;
	snprintf(fresh, sizeof fresh, "%s.new", path);
	rc = sys_unlink(s, fresh, note);
	if (rc == 0 || rc == E_NOTFOUND)
		rc = sys_open(s, fresh, SYS_WRITE | SYS_CREATE | SYS_EXCL, &f, note);
	if (rc < 0)
		return rc;
	rc = sys_pwrite(f, text, strlen(text), 0, note);
	if (rc == 0)
		rc = sys_sync(f, note);
	sys_close(f);
	return rc == 0 ? sys_rename(s, fresh, path, note) : rc;
}

int etcd_certs_write(struct sys *s, const struct etcd_certs *c, const char *key,
	const char *client_url, struct err_note *note)
{
	struct making *m = calloc(1, sizeof *m);
	int rc;

	if (m == NULL)
		return err_set(note, E_NOMEM, "%s", err_text(E_NOMEM));
	rc = token_key_read(key, m->key);
	if (rc < 0)
		err_set(note, rc, "etcd's certificates are made of the cluster's key, and it is "
			"not here");
	if (rc == 0)
		rc = hosts_of(client_url, m->hosts, note);
	if (rc == 0)
		rc = sys_work(s, make_all, m);
	if (rc == 0 && m->rc < 0)
		rc = err_set(note, m->rc, "%s", m->note.text);
	const char *const texts[ETCD_FILES] = { m->authority.cert, m->client.cert, m->client.key,
		m->member.cert };

	for (int i = 0; i < ETCD_FILES && rc == 0; i++)
		if (texts[i][0] != '\0')
			rc = put(s, c->path[i], texts[i], note);
	explicit_bzero(m, sizeof *m);
	free(m);
	return rc;
}

struct etcd_child_tls etcd_certs_member(const struct etcd_certs *c)
{
	return (struct etcd_child_tls){ c->path[ETCD_FILE_CA], c->path[ETCD_FILE_MEMBER],
		c->path[ETCD_FILE_KEY], NULL };
}

struct sys_http_tls etcd_certs_client(const struct etcd_certs *c)
{
	return (struct sys_http_tls){ c->path[ETCD_FILE_CA], c->path[ETCD_FILE_CLIENT],
		c->path[ETCD_FILE_KEY] };
}
