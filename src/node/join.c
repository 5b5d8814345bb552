/* SPDX-License-Identifier: Apache-2.0 */
/* The new node's side of a join.  The key is written before the file of the member, which is what
 * makes it one: a crash in between leaves a node that asks again. */
#include "node/join.h"
#include "base/check.h"
#include "node/ask.h"
#include "node/cluster.h"
#include "wadi.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { JOIN_MS = 90000, PAUSE_MS = 300 };

struct joining {
	struct sys *s;
	const struct node_opts *o;
	const struct place_found *p;
	struct node_ask ask;
	struct member m;
	char addr[WHERE_MAX], key[WHERE_KEY_CHARS + 1], client[ETCD_PEER_URL_MAX],
		peer[ETCD_PEER_URL_MAX];
};

/* Whom to ask: over TLS where there are certificates. */
static int whom(struct joining *j, struct err_note *note)
{
	char url[WHERE_MAX];
	bool tls = j->p->cert[0] != '\0' && !j->o->insecure;
	int n;

	if (strstr(j->o->join, "://") != NULL || strncmp(j->o->join, "unix:", 5) == 0)
		return where_addr(j->o->join, j->addr, note);
	n = snprintf(url, sizeof url, "%s://%s", tls ? "wadis" : "wadi", j->o->join);
	if (n >= (int)sizeof url)
		return err_set(note, E_INVALID, "--join: an address of %d bytes", n);
	return where_addr(url, j->addr, note);
}

/* Data that somebody keeps here is not thrown away by a join. */
PARKS static int is_empty(struct joining *j, struct err_note *note)
{
	char path[WHERE_MAX];
	struct sys_file *f;
	int rc = where_join(j->p->data, "meta/coord", path, note);

	if (rc < 0)
		return rc;
	if (sys_open(j->s, path, SYS_READ, &f, NULL) < 0)
		return 0;
	sys_close(f);
	return err_set(note, E_EXISTS,
		"%s has data of its own, which a join would hide: give another --data, or "
		"remove it",
		j->p->data);
}

PARKS static int token(struct joining *j, struct err_note *note)
{
	const char *path = j->o->key_file != NULL ? j->o->key_file : sys_getenv(j->s, "WADI_KEY");

	if (path == NULL || path[0] == '\0') {
		if (strncmp(j->addr, "tcp:", 4) == 0)
			return err_set(note, E_DENIED,
				"without TLS the cluster's key is needed: --key-file FILE, a copy "
				"of the key below --data of a node that is there");
		return 0;
	}
	return where_key_read(j->s, path, j->key, note);
}

PARKS static int key_save(struct joining *j, struct bytes key, struct err_note *note)
{
	char path[WHERE_MAX], line[WHERE_KEY_CHARS + 1];
	struct sys_file *f;
	int rc = where_join(j->p->data, WHERE_KEY, path, note);

	if (rc == 0 && key.len != WHERE_KEY_CHARS)
		rc = err_set(note, E_CORRUPT, "%s: the key in its answer is none", j->addr);
	if (rc < 0)
		return rc;
	memcpy(line, key.p, WHERE_KEY_CHARS);
	line[WHERE_KEY_CHARS] = '\n';
	rc = sys_unlink(j->s, path, note);
	if (rc == 0 || rc == E_NOTFOUND)
		rc = sys_open(j->s, path, SYS_WRITE | SYS_CREATE | SYS_EXCL, &f, note);
	if (rc < 0)
		return rc;
	rc = sys_pwrite(f, line, sizeof line, 0, note);
	if (rc == 0)
		rc = sys_sync(f, note);
	sys_close(f);
	explicit_bzero(line, sizeof line);
	return rc;
}

static bool take(struct bytes from, char *ret_word, size_t cap, bool may_be_empty)
{
	if (from.len >= cap || memchr(from.p, '\0', from.len) != NULL)
		return false;
	memcpy(ret_word, from.p, from.len);
	ret_word[from.len] = '\0';
	return (from.len == 0 && may_be_empty) || member_word_ok(ret_word, cap);
}

PARKS static int remember(struct joining *j, const struct msg_join_ok *ok, struct err_note *note)
{
	struct member *m = &j->m;

	if (ok->node == 0 || (ok->roles & (NODE_RUNS_META | NODE_RUNS_STORE)) == 0 ||
		!take(ok->coord, m->coord, sizeof m->coord, false) ||
		!take(ok->etcd_name, m->etcd_name, sizeof m->etcd_name, true) ||
		!take(ok->etcd_cluster, m->etcd_members, sizeof m->etcd_members, true))
		return err_set(note, E_CORRUPT, "%s: its answer cannot be used", j->addr);
	m->id = ok->node;
	m->roles = ok->roles;
	if (m->etcd_name[0] != '\0') {
		memcpy(m->etcd_client, j->client, sizeof m->etcd_client);
		memcpy(m->etcd_peer, j->peer, sizeof m->etcd_peer);
		if (coord_etcd_keyed(m->coord) && (cluster_url_tls(m->etcd_client) < 0 ||
				cluster_url_tls(m->etcd_peer) < 0))
			return err_set(note, E_TOOBIG, "%s: too long a URL", j->client);
	}
	if (strncmp(j->addr, "unix:", 5) != 0) {
		snprintf(m->seeds[0], sizeof m->seeds[0], "%s", j->addr);
		m->n_seeds = 1;
	}
	return member_save(j->s, j->p->data, m, note);
}

/* Until the other node is there and has answered. */
PARKS static int ask(struct joining *j, struct msg_join_ok *ret_ok, struct err_note *note)
{
	uint64_t until_ns = sys_after(j->s, JOIN_MS * SYS_MS);
	const char *host = sys_host(j->s), *rack = j->o->rack != NULL ? j->o->rack : "";
	struct msg_join q = { .addr = bytes_of(j->p->tcp, strlen(j->p->tcp)),
		.host = bytes_of(host, strnlen(host, COORD_NAME_MAX - 1)),
		.rack = bytes_of(rack, strlen(rack)),
		.roles = (j->o->roles & NODE_META ? NODE_RUNS_META : 0) |
			 (j->o->roles & NODE_STORE ? NODE_RUNS_STORE : 0),
		.etcd_client = bytes_of(j->client, strlen(j->client)),
		.etcd_peer = bytes_of(j->peer, strlen(j->peer)) };
	int rc;

	for (;;) {
		j->ask = (struct node_ask){ .s = j->s, .addr = j->addr, .key = j->key };
		rc = node_ask(&j->ask, OP_join, &q, OP_join_ok, ret_ok, until_ns, note);
		if (rc != E_UNREACH && rc != E_BUSY && rc != E_CLOSED)
			return rc;
		node_ask_end(&j->ask);
		if (sys_now_ns(j->s) >= until_ns)
			return rc;
		rc = fiber_sleep(sys_after(j->s, PAUSE_MS * SYS_MS));
		if (rc < 0)
			return rc;
	}
}

PARKS static int join(struct joining *j, struct err_note *note)
{
	struct msg_join_ok ok;
	bool tls = strncmp(j->p->tcp, "tls:", 4) == 0;
	int rc;

	if (j->p->tcp[0] == '\0')
		return err_set(note, E_INVALID,
			"--join: the others must reach this node: --listen HOST, too");
	rc = is_empty(j, note);
	if (rc == 0)
		rc = whom(j, note);
	if (rc == 0)
		rc = token(j, note);
	if (rc == 0 && strncmp(j->addr, "tls:", 4) == 0 && j->p->cert[0] == '\0')
		rc = err_set(note, E_DENIED, "%s speaks TLS: this node needs a certificate, see "
			"wadi help cert issue", j->addr);
	if (rc == 0 && (j->o->roles & NODE_META))
		rc = cluster_etcd_urls(j->s, j->p->tcp, tls, j->client, j->peer, note);
	if (rc < 0)
		return rc;
	rc = ask(j, &ok, note);
	if (rc == 0)
		rc = key_save(j, ok.key, note);
	if (rc == 0)
		rc = remember(j, &ok, note);
	node_ask_end(&j->ask);
	return rc;
}

int join_cluster(struct sys *s, const struct node_opts *o, const struct place_found *p,
	unsigned *ret_roles, struct err_note *note)
{
	struct joining *j = calloc(1, sizeof *j);
	int rc;

	if (j == NULL)
		return err_set(note, E_NOMEM, "%s", err_text(E_NOMEM));
	*j = (struct joining){ .s = s, .o = o, .p = p };
	rc = member_load(s, p->data, &j->m, note);
	if (rc == E_NOTFOUND)
		rc = o->join != NULL ? join(j, note) : 0;
	if (rc == 0 && j->m.id != 0 && j->m.roles != 0)
		*ret_roles = (j->m.roles & NODE_RUNS_META ? NODE_META : 0u) |
			     (j->m.roles & NODE_RUNS_STORE ? NODE_STORE : 0u);
	explicit_bzero(j->key, sizeof j->key);
	free(j);
	return rc;
}
