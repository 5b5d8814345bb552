/* SPDX-License-Identifier: Apache-2.0 */
/* (U1) An id is given once: rows of removed nodes stay, and a claim puts where nothing is.
 * (U2) What is to be remembered is durable before anybody acts on it: the member of etcd before it
 *      is started, the id before the row's owner serves.
 * (U3) etcd's learners are asked for nothing: they refuse, and a swap refused so is unknown. */
#include "node/cluster.h"
#include "base/check.h"
#include "coord/moving.h"
#include "coord/open.h"
#include "node/cluster_own.h"
#include "sys/uv/cert.h"
#include "wadi.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Behind the node's own, with room for other nodes on the same machine. */
enum { ETCD_PORT_CLIENT = 1000, ETCD_PORT_PEER = 2000, ETCD_PORT_OWN_MAX = 63000 };
enum { OPEN_MS = 60000, ASK_MS = 2000, PAUSE_MS = 100, ETCD_STOP_MS = 3000 };
/* A lost leader of etcd is noticed within the second; a loaded disk is not taken for one. */
enum { HEARTBEAT_MS = 50, ELECTION_MS = 500 };

void cluster_say(struct cluster *cl, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	sys_log(cl->s, line);
}

bool cluster_embedded(const struct cluster *cl)
{
	return cl->m.coord[0] == '\0';
}

struct coord *cluster_etcd(struct cluster *cl)
{
	if (cluster_embedded(cl))
		return NULL;
	return cl->moving ? coord_moving_at(cl->coord) : cl->coord;
}

bool cluster_keyed(const struct cluster *cl)
{
	return cluster_embedded(cl) || coord_etcd_keyed(cl->m.coord);
}

struct sys_http_tls cluster_tls(const struct cluster *cl)
{
	if (cl->o.cert[0] == '\0')
		return (struct sys_http_tls){ NULL, NULL, NULL };
	return (struct sys_http_tls){ cl->tls_path[0], cl->tls_path[1], cl->tls_path[2] };
}

/* ---- etcd ---- */
/* "https://HOST:PORT" as etcd listens: on an address.  Names become all of them. */
static void listen_url(const char *url, char ret_url[ETCD_PEER_URL_MAX])
{
	const char *host = strstr(url, "://") + 3, *colon = strrchr(host, ':');
	bool number = host[0] == '[' || strspn(host, "0123456789.") == (size_t)(colon - host);

	if (number)
		snprintf(ret_url, ETCD_PEER_URL_MAX, "%s", url);
	else
		snprintf(ret_url, ETCD_PEER_URL_MAX, "%.*s0.0.0.0%s", (int)(host - url), url,
			colon);
}

int cluster_url_tls(char url[ETCD_PEER_URL_MAX])
{
	size_t len = strlen(url);

	if (strncmp(url, "http://", 7) != 0)
		return 0;
	if (len + 2 > ETCD_PEER_URL_MAX)
		return E_TOOBIG;
	memmove(url + 5, url + 4, len - 3); /* with its NUL */
	url[4] = 's';
	return 0;
}

PARKS int cluster_etcd_start(struct cluster *cl, struct err_note *note)
{
	struct member *m = &cl->m;
	char dir[WHERE_MAX], client[ETCD_PEER_URL_MAX], peer[ETCD_PEER_URL_MAX];
	struct sys_http_tls tls = cluster_tls(cl);
	struct etcd_child_tls door = { tls.ca_file, tls.cert_file, tls.key_file, NULL };
	struct etcd_child_opts o = { .name = m->etcd_name,
		.data_dir = dir,
		.client_url = m->etcd_client,
		.peer_url = m->etcd_peer,
		.client_listen = client,
		.peer_listen = peer,
		.initial_cluster = m->etcd_members[0] != '\0' ? m->etcd_members : NULL,
		.joining = m->etcd_members[0] != '\0',
		.client_tls = door,
		.peer_tls = door,
		.heartbeat_ms = HEARTBEAT_MS,
		.election_ms = ELECTION_MS };
	int rc = where_join(cl->o.data, "etcd", dir, note);

	if (rc < 0 || cl->child != NULL)
		return rc;
	if (cluster_keyed(cl))
		o.client_tls = o.peer_tls = etcd_certs_member(&cl->certs);
	else if (tls.ca_file != NULL) /* a client's certificate makes nobody a member */
		o.peer_tls.allowed_host = CERT_EVERY_NODE;
	if (cluster_keyed(cl))
		rc = etcd_certs_write(cl->s, &cl->certs, cl->o.key, m->etcd_client, note);
	if (rc < 0)
		return rc;
	if (strstr(m->etcd_client, "://") == NULL || strstr(m->etcd_peer, "://") == NULL)
		return err_set(note, E_CORRUPT, "the URLs of its etcd are none");
	listen_url(m->etcd_client, client);
	listen_url(m->etcd_peer, peer);
	return etcd_child_start(cl->s, &o, &cl->child, note);
}

/* A port that nobody listens on, the wanted one if it is free; 0: none. */
PARKS static unsigned port_free(struct sys *s, const char *host, size_t host_len, unsigned wanted)
{
	struct sys_listener *l;
	char addr[SYS_ADDR_MAX];
	unsigned port = 0;

	for (int i = 0; i < 2 && port == 0; i++) {
		snprintf(addr, sizeof addr, "tcp:%.*s:%u", (int)host_len, host,
			i == 0 ? wanted : 0);
		if (sys_listen(s, addr, &l, NULL) < 0)
			continue;
		port = (unsigned)strtoul(strrchr(sys_listener_addr(l), ':') + 1, NULL, 10);
		sys_listener_close(l);
	}
	return port;
}

int cluster_etcd_urls(struct sys *s, const char *addr, bool tls, char ret_client[ETCD_PEER_URL_MAX],
	char ret_peer[ETCD_PEER_URL_MAX], struct err_note *note)
{
	const char *host = addr + 4, *colon = strrchr(addr, ':'), *scheme = tls ? "https" : "http";
	size_t len = colon > host ? (size_t)(colon - host) : 0;
	unsigned own = len > 0 ? (unsigned)strtoul(colon + 1, NULL, 10) : 0, client, peer;

	if (len == 0 || len > 200)
		return err_set(note, E_INVALID, "%s: others do not reach this", addr);
	if (own == 0 || own > ETCD_PORT_OWN_MAX)
		own = WADI_PORT;
	client = port_free(s, host, len, own + ETCD_PORT_CLIENT);
	peer = port_free(s, host, len, own + ETCD_PORT_PEER);
	if (client == 0 || peer == 0 || client == peer)
		return err_set(
			note, E_UNAVAILABLE, "%.*s: no ports for etcd there", (int)len, host);
	snprintf(ret_client, ETCD_PEER_URL_MAX, "%s://%.*s:%u", scheme, (int)len, host, client);
	snprintf(ret_peer, ETCD_PEER_URL_MAX, "%s://%.*s:%u", scheme, (int)len, host, peer);
	return 0;
}

bool cluster_url(const struct cluster *cl, const struct coord_etcd_member *members, uint32_t n,
	char ret_url[COORD_URL_MAX])
{
	size_t len = (size_t)snprintf(ret_url, COORD_URL_MAX, "%s", cluster_keyed(cl) ? ETCD_KEYED
		: cl->o.cert[0] != '\0' ? "etcds://" : "etcd://");
	uint32_t n_put = 0;

	for (int own = 1; own >= 0; own--)
		for (uint32_t i = 0; i < n; i++) {
			const char *url = members[i].client_url;
			bool is_own = strcmp(members[i].name, cl->m.etcd_name) == 0;

			if (members[i].learner || is_own != own || strstr(url, "://") == NULL)
				continue; /* (U3) */
			len += (size_t)snprintf(ret_url + len, COORD_URL_MAX - len, "%s%s",
				n_put++ > 0 ? "," : "", strstr(url, "://") + 3);
			if (len + sizeof "/wadi" > COORD_URL_MAX)
				return false;
		}
	snprintf(ret_url + len, COORD_URL_MAX - len, "/wadi");
	return n_put > 0;
}

/* ---- rows ---- */
int cluster_answers(struct cluster *cl, struct coord *c, uint64_t until_ns, struct err_note *note)
{
	struct coord_state st;
	int rc;

	do {
		rc = coord_read(c, 0, sys_after(cl->s, ASK_MS * SYS_MS), &st, note);
		if (rc == 0 || rc == E_NOTFOUND)
			return 0;
		if (rc != E_UNAVAILABLE && rc != E_TIMEOUT)
			return rc;
		rc = fiber_sleep(sys_after(cl->s, PAUSE_MS * SYS_MS));
	} while (rc == 0 && sys_now_ns(cl->s) < until_ns);
	return rc < 0 ? rc : E_TIMEOUT; /* the note is that of the last try */
}

int cluster_claim(struct cluster *cl, struct coord *c, struct coord_node *in, uint64_t until_ns,
	struct err_note *note)
{
	for (;;) {
		struct coord_node *nodes, now;
		uint32_t n;
		int rc = coord_nodes(c, until_ns, &nodes, &n, note);

		if (rc < 0)
			return rc;
		in->id = 1;
		for (uint32_t i = 0; i < n; i++) /* (U1) */
			if (nodes[i].id >= in->id)
				in->id = nodes[i].id + 1;
		free(nodes);
		rc = coord_node_put(c, 0, in, until_ns, &now, note);
		if (rc == 0)
			in->revision = now.revision;
		/* an id that may have been taken in our name is left to nobody */
		if (rc != E_CONFLICT && rc != E_UNKNOWN)
			return rc;
	}
}

int cluster_edit(struct cluster *cl, uint64_t id, cluster_edit_fn *edit, void *arg,
	uint64_t until_ns, struct err_note *note)
{
	for (;;) {
		struct coord_node *nodes, one, now;
		bool found = false;
		uint32_t n;
		int rc = coord_nodes(cl->coord, until_ns, &nodes, &n, note);

		if (rc < 0)
			return rc;
		for (uint32_t i = 0; i < n && !found; i++)
			if (nodes[i].id == id) {
				one = nodes[i];
				found = true;
			}
		free(nodes);
		if (!found)
			return err_set(note, E_NOTFOUND, "there is no node %llu",
				(unsigned long long)id);
		if (!edit(&one, arg))
			return 0;
		rc = coord_node_put(cl->coord, one.revision, &one, until_ns, &now, note);
		if (rc != E_CONFLICT && rc != E_UNKNOWN)
			return rc;
	}
}

/* ---- opening ---- */
int cluster_open_url(struct cluster *cl, const char *url, bool create, struct coord **ret_c,
	char *ret_url, struct err_note *note)
{
	struct coord_open_opts o = { .url = url,
		.create = create,
		.tls = cluster_tls(cl),
		.key_tls = etcd_certs_client(&cl->certs),
		.login_file = cl->o.login_file };
	int rc = coord_etcd_keyed(url)
		? etcd_certs_write(cl->s, &cl->certs, cl->o.key, cl->m.etcd_client, note) : 0;

	if (rc < 0)
		return rc;
	return coord_open(cl->s, &o, ret_c, ret_url, note);
}

/* The file of its own, or what that has moved to. */
PARKS static int open_own(struct cluster *cl, bool create, struct err_note *note)
{
	char url[COORD_URL_MAX], opened[COORD_URL_MAX];
	struct coord *c;
	int n = snprintf(url, sizeof url, "embedded:%s", cl->o.meta_dir), rc;

	if (n >= (int)sizeof url)
		return err_set(note, E_TOOBIG, "%s: too long a path", cl->o.meta_dir);
	rc = cluster_open_url(cl, url, create, &c, opened, note);
	if (rc < 0)
		return rc;
	if (!coord_url_embedded(opened)) { /* a crash behind the move */
		memcpy(cl->m.coord, opened, sizeof opened);
		cl->coord = c;
		return 0;
	}
	rc = coord_moving_new(cl->s, c, &cl->coord, note);
	if (rc < 0)
		coord_close(c);
	else
		cl->moving = true;
	return rc;
}

/* What this node's file holds may go where nothing is but an earlier try of the same. */
PARKS static int is_vacant(
	struct cluster *cl, struct coord *to, uint64_t until_ns, struct err_note *note)
{
	struct coord_state there = { 0 }, here = { 0 };
	struct coord_node *nodes;
	uint32_t n, n_others = 0;
	int rc = coord_nodes(to, until_ns, &nodes, &n, note);

	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < n; i++)
		n_others += nodes[i].id != 1;
	free(nodes);
	rc = coord_read(cl->coord, 0, until_ns, &here, note);
	if (rc == 0 || rc == E_NOTFOUND)
		rc = coord_read(to, 0, until_ns, &there, note);
	if (rc < 0 && rc != E_NOTFOUND)
		return rc;
	if (n_others > 0 || there.n_in_sync > 1 || there.epoch > here.epoch ||
		(there.n_in_sync == 1 && there.in_sync[0].id != 1))
		return err_set(note, E_EXISTS,
			"%s has data of its own, and there is a cluster in %s already: join with "
			"another --data",
			cl->o.data, cl->o.coord);
	return 0;
}

/* --coord: what a file of its own holds goes there. */
PARKS static int move_there(struct cluster *cl, struct err_note *note)
{
	uint64_t until_ns = sys_after(cl->s, OPEN_MS * SYS_MS);
	char opened[COORD_URL_MAX];
	struct coord *to;
	int rc;

	if (strncmp(cl->o.coord, "etcd", 4) != 0)
		return err_set(note, E_INVALID, "--coord %s: not etcd://HOST:PORT", cl->o.coord);
	rc = cluster_open_url(cl, cl->o.coord, false, &to, opened, note);
	if (rc < 0)
		return rc;
	rc = cluster_answers(cl, to, until_ns, note);
	if (rc == 0 && (cl->o.roles & NODE_RUNS_META) != 0) {
		rc = open_own(cl, false, note);
		if (rc == 0 && !cl->moving)
			rc = err_set(note, E_INVALID, "it belongs to a cluster at %s",
				cl->m.coord);
		if (rc == 0)
			rc = is_vacant(cl, to, until_ns, note);
		if (rc == 0) {
			rc = coord_moving_to(cl->coord, to, opened, until_ns, note);
			cl->m.id = rc == 0 ? 1 : 0;
			cl->m.roles = cl->o.roles;
		}
		if (rc == E_NOTFOUND)
			rc = 0;
	}
	if (rc == E_DENIED)
		err_wrap(note, rc, cl->o.login_file != NULL ? "--coord-login %.200s"
			: "%.200s wants a user and a password: --coord-login",
			cl->o.login_file != NULL ? cl->o.login_file : cl->o.coord);
	if (rc < 0 || !cl->moving) {
		if (rc < 0)
			coord_close(to);
		else
			cl->coord = to;
	}
	if (rc == 0)
		memcpy(cl->m.coord, opened, sizeof opened);
	return rc;
}

PARKS static int open_coord(struct cluster *cl, struct err_note *note)
{
	char opened[COORD_URL_MAX];

	if (cl->m.coord[0] != '\0')
		return cluster_open_url(cl, cl->m.coord, false, &cl->coord, opened, note);
	if (cl->o.coord != NULL)
		return move_there(cl, note);
	if ((cl->o.roles & NODE_RUNS_META) == 0)
		return err_set(note, E_INVALID,
			"a storage server alone is part of no cluster: --join or --coord");
	return open_own(cl, true, note);
}

/* Who has no id yet: a lone node is 1, others take the next. */
PARKS static int take_id(struct cluster *cl, struct err_note *note)
{
	struct coord_node n = { .address = "starting" };

	if (cl->m.id != 0)
		return 0;
	cl->m.roles = cl->o.roles;
	if (cluster_embedded(cl)) {
		cl->m.id = 1;
		return 0;
	}
	member_role_print(cl->o.roles, NODE_NEW, n.role);
	snprintf(n.host, sizeof n.host, "%s", sys_host(cl->s));
	snprintf(n.rack, sizeof n.rack, "%s", cl->o.rack);
	int rc = cluster_claim(
		cl, cl->coord, &n, sys_after(cl->s, OPEN_MS * SYS_MS), note);

	if (rc == 0)
		cl->m.id = n.id;
	return rc;
}

PARKS static int start(struct cluster *cl, struct err_note *note)
{
	static const char *const names[] = { "ca.crt", "wadi.crt", "wadi.key" };
	struct member *was = malloc(sizeof *was);
	int rc = was == NULL ? err_set(note, E_NOMEM, "%s", err_text(E_NOMEM))
			     : member_load(cl->s, cl->o.data, &cl->m, note);

	if (rc == E_NOTFOUND)
		rc = 0;
	if (rc == 0)
		*was = cl->m;
	for (int i = 0; i < 3 && rc == 0; i++)
		rc = where_join(cl->o.cert, names[i], cl->tls_path[i], note);
	if (rc == 0)
		rc = etcd_certs_init(&cl->certs, cl->o.data, note);
	if (rc == 0)
		rc = open_coord(cl, note);
	/* a cluster that was not founded to the end waits for who joins next */
	if (rc == 0 && cl->m.etcd_name[0] != '\0' && !cluster_embedded(cl))
		rc = cluster_etcd_start(cl, note);
	if (rc == 0)
		rc = take_id(cl, note);
	if (rc == 0 && memcmp(was, &cl->m, sizeof *was) != 0 &&
		(!cluster_embedded(cl) || was->id != 0))
		rc = member_save(cl->s, cl->o.data, &cl->m, note); /* (U2) */
	if (rc == 0) {
		cluster_publish(cl); /* before anybody finds the socket */
		rc = fiber_start(&cl->group, "cluster", cluster_upkeep, cl);
		if (rc < 0)
			err_set(note, rc, "look after the cluster: %s", err_text(rc));
	}
	free(was);
	return rc;
}

int cluster_open(struct sys *s, const struct cluster_opts *o, struct cluster **ret_cl,
	struct err_note *note)
{
	struct cluster *cl = calloc(1, sizeof *cl);
	int rc;

	if (cl == NULL)
		return err_set(note, E_NOMEM, "%s", err_text(E_NOMEM));
	cl->s = s;
	cl->o = *o;
	fiber_lock_init(&cl->joining);
	waitq_init(&cl->kick);
	group_init(&cl->group, sys_loop(s));
	cl->group.keep_going = true;
	rc = start(cl, note);
	if (rc < 0)
		cluster_close(cl);
	else
		*ret_cl = cl;
	return rc;
}

void cluster_close(struct cluster *cl)
{
	if (cl == NULL)
		return;
	check(cl->r == NULL);
	group_cancel(&cl->group);
	(void)group_wait(&cl->group);
	coord_close(cl->coord);
	etcd_child_stop(cl->child, sys_after(cl->s, ETCD_STOP_MS * SYS_MS));
	free(cl);
}

/* ---- what others ask ---- */
struct control **cluster_control(struct cluster *cl)
{
	return &cl->control;
}

struct coord *cluster_coord(struct cluster *cl)
{
	return cl->coord;
}

uint64_t cluster_id(const struct cluster *cl)
{
	return cl->m.id;
}

/* Who begins: a lone node, and the first of those that brought their own etcd. */
uint32_t cluster_first_target(const struct cluster *cl)
{
	bool own_etcd = cl->m.etcd_name[0] != '\0';

	return cluster_embedded(cl) || (cl->m.id == 1 && !own_etcd) ? 1 : 0;
}

void cluster_address(struct cluster *cl, const char *addr)
{
	snprintf(cl->addr, sizeof cl->addr, "%s", addr);
	cl->row_done = false;
	cluster_kick(cl);
}

void cluster_replica(struct cluster *cl, struct replicate *r)
{
	cl->r = r;
	cluster_kick(cl);
}

const struct rpc_op *cluster_ops(size_t *ret_n)
{
	static const struct rpc_op ops[] = {
		{ OP_join, RPC_FIBER, cluster_on_join },
		{ OP_node_list, RPC_FIBER, cluster_on_node_list },
		{ OP_node_drain, RPC_FIBER, cluster_on_node_drain },
		{ OP_node_remove, RPC_FIBER, cluster_on_node_remove },
		{ OP_shard_status, RPC_FIBER, cluster_on_shard_status },
		{ OP_shard_move, RPC_FIBER, cluster_on_shard_move },
	};

	*ret_n = sizeof ops / sizeof ops[0];
	return ops;
}
