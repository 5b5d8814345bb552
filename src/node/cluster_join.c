/* SPDX-License-Identifier: Apache-2.0 */
/* A node asks to become part of the cluster that this one is part of.
 *
 * (J1) The first join gives the cluster its etcd: one member, here; the embedded file moves into it
 *      before the new node hears of it.
 * (J2) etcd takes one learner at a time, and a new voter is watched for some seconds before the
 *      next change: a join waits for that.
 * (J3) A join that was cut off leaves a row and maybe a learner.  When the same address joins again
 *      its old row is marked as removed, its old member taken out, and it gets a new id: the disk
 *      behind that address may be another one. */
#include "base/check.h"
#include "coord/moving.h"
#include "coord/open.h"
#include "node/cluster_own.h"
#include <stdio.h>
#include <stdlib.h>

enum { JOIN_MS = 60000, ASK_MS = 3000, PAUSE_MS = 200, URL_MAX = 256 };

struct join {
	struct cluster *cl;
	uint64_t until_ns;
	char addr[SYS_ADDR_MAX], etcd_client[ETCD_PEER_URL_MAX], etcd_peer[ETCD_PEER_URL_MAX];
	struct coord_node row;
	unsigned can, roles; /* enum wire_node_roles: wanted; to have */
	bool etcd;           /* runs a member */
	char name[COORD_NAME_MAX], cluster[MEMBER_LIST_MAX], url[COORD_URL_MAX];
	struct coord_etcd_member members[ETCD_MEMBERS_MAX];
	uint32_t n_members;
	struct err_note note;
};

/* A part of a message as text; false: not words of ours. */
static bool take(struct bytes from, char *ret_word, size_t cap, bool may_be_empty)
{
	if (from.len == 0) {
		ret_word[0] = '\0';
		return may_be_empty;
	}
	if (from.len >= cap || memchr(from.p, '\0', from.len) != NULL)
		return false;
	memcpy(ret_word, from.p, from.len);
	ret_word[from.len] = '\0';
	return member_word_ok(ret_word, cap);
}

static bool url_ok(const char *url, bool tls)
{
	const char *scheme = tls ? "https://" : "http://";

	return strncmp(url, scheme, strlen(scheme)) == 0 && strrchr(url, ':') > url + 6 &&
	       strpbrk(url, ",=") == NULL;
}

static int decode(struct join *j, const struct rpc_request *r)
{
	const struct cluster *cl = j->cl;
	struct msg_join m;
	bool good = msg_join_get(r->body.p, r->body.len, r->version, &m) == 0 &&
		    take(m.addr, j->addr, sizeof j->addr, false) &&
		    take(m.host, j->row.host, sizeof j->row.host, true) &&
		    take(m.rack, j->row.rack, sizeof j->row.rack, true) &&
		    take(m.certificate, j->row.certificate, sizeof j->row.certificate, true) &&
		    take(m.etcd_client, j->etcd_client, sizeof j->etcd_client, true) &&
		    take(m.etcd_peer, j->etcd_peer, sizeof j->etcd_peer, true);
	bool tls = cl->o.cert[0] != '\0';

	if (!good || (m.roles & (NODE_RUNS_META | NODE_RUNS_STORE)) == 0)
		return err_set(&j->note, E_INVALID, "the request to join cannot be read");
	j->can = m.roles & (NODE_RUNS_META | NODE_RUNS_STORE);
	snprintf(j->row.address, sizeof j->row.address, "%s", j->addr);
	if (j->etcd_client[0] != '\0' &&
		(!url_ok(j->etcd_client, tls) || !url_ok(j->etcd_peer, tls)))
		return err_set(&j->note, E_INVALID, tls
			? "this cluster speaks TLS: the new node needs certificates"
			: "this cluster does not speak TLS: the new node must say --insecure");
	/* etcd does in any case, where it is the cluster's own */
	if (cluster_keyed(cl) &&
		(cluster_url_tls(j->etcd_client) < 0 || cluster_url_tls(j->etcd_peer) < 0))
		return err_set(&j->note, E_INVALID, "the request to join cannot be read");
	return 0;
}

/* ---- the first one (J1) ---- */
PARKS static int open_first(struct join *j, struct coord **ret_c)
{
	struct cluster *cl = j->cl;
	struct coord_etcd_member self = { .id = 1 };
	int rc;

	memcpy(self.name, cl->m.etcd_name, sizeof self.name);
	memcpy(self.client_url, cl->m.etcd_client, sizeof self.client_url);
	if (!cluster_url(cl, &self, 1, j->url))
		return err_set(&j->note, E_INVALID, "%.100s is no URL", cl->m.etcd_client);
	rc = cluster_open_url(cl, j->url, false, ret_c, j->url, &j->note);
	if (rc < 0)
		return rc;
	rc = cluster_answers(cl, *ret_c, j->until_ns, &j->note);
	if (rc < 0)
		coord_close(*ret_c);
	return rc;
}

PARKS static int found_cluster(struct join *j)
{
	struct cluster *cl = j->cl;
	struct coord *to;
	int rc = 0;

	if (cl->addr[0] != 't')
		return err_set(&j->note, E_UNAVAILABLE,
			"this node is reached on its own machine only: start it with "
			"--listen HOST");
	if (cl->m.etcd_name[0] == '\0') {
		rc = cluster_etcd_urls(cl->s, cl->addr, true, cl->m.etcd_client, cl->m.etcd_peer,
			&j->note);
		if (rc < 0)
			return rc;
		snprintf(cl->m.etcd_name, sizeof cl->m.etcd_name, "wadi-1");
		rc = member_save(cl->s, cl->o.data, &cl->m, &j->note);
		if (rc < 0)
			cl->m.etcd_name[0] = '\0';
	}
	if (rc == 0)
		rc = cluster_etcd_start(cl, &j->note);
	if (rc == 0)
		rc = open_first(j, &to);
	if (rc < 0)
		return rc;
	rc = coord_moving_to(cl->coord, to, j->url, j->until_ns, &j->note);
	if (rc < 0) {
		coord_close(to);
		return rc;
	}
	memcpy(cl->m.coord, j->url, sizeof cl->m.coord);
	cluster_say(cl, "wadi: this node is a cluster now; who leads is in %s", cl->m.coord);
	return member_save(cl->s, cl->o.data, &cl->m, &j->note);
}

/* ---- its row ---- */
static bool remove_edit(struct coord_node *n, void *arg)
{
	unsigned roles, flags;

	member_role_parse(n->role, &roles, &flags);
	if ((flags & NODE_REMOVED) != 0)
		return false;
	member_role_print(0, NODE_REMOVED, n->role);
	return true;
}

/* (J3), and how many nodes have metadata. */
PARKS static int look_around(struct join *j, uint32_t *ret_n_meta)
{
	struct cluster *cl = j->cl;
	struct coord_node *nodes;
	uint32_t n;
	int rc = coord_nodes(cl->coord, j->until_ns, &nodes, &n, &j->note);
	bool any_port = strlen(j->addr) > 2 && strcmp(strrchr(j->addr, ':'), ":0") == 0;

	*ret_n_meta = 0;
	for (uint32_t i = 0; rc == 0 && i < n; i++) {
		unsigned roles, flags;

		member_role_parse(nodes[i].role, &roles, &flags);
		if ((flags & NODE_REMOVED) != 0)
			continue;
		if (!any_port && strcmp(nodes[i].address, j->addr) == 0)
			rc = cluster_edit(
				cl, nodes[i].id, remove_edit, NULL, j->until_ns, &j->note);
		else
			*ret_n_meta += (roles & NODE_RUNS_META) != 0;
	}
	if (rc == 0 || n > 0)
		free(nodes);
	return rc;
}

PARKS static int give_id(struct join *j)
{
	struct cluster *cl = j->cl;
	uint32_t n_meta;
	int rc;

	if (strchr(j->addr, ':') == NULL)
		return err_set(&j->note, E_INVALID, "%.100s: no address", j->addr);
	rc = look_around(j, &n_meta);
	if (rc < 0)
		return rc;
	j->roles = j->can & NODE_RUNS_STORE;
	if ((j->can & NODE_RUNS_META) != 0 &&
		(n_meta < CLUSTER_META_MAX || (j->can & NODE_RUNS_STORE) == 0))
		j->roles |= NODE_RUNS_META;
	j->etcd = (j->roles & NODE_RUNS_META) != 0 && n_meta < CLUSTER_META_MAX &&
		  cl->m.etcd_name[0] != '\0';
	if (j->etcd && j->etcd_client[0] == '\0')
		return err_set(&j->note, E_INVALID, "the new node names no URLs for etcd");
	member_role_print(j->roles, NODE_NEW, j->row.role);
	return cluster_claim(cl, cl->coord, &j->row, j->until_ns, &j->note);
}

/* ---- its member of etcd ---- */
PARKS static int members(struct join *j)
{
	return coord_etcd_members(cluster_etcd(j->cl), sys_after(j->cl->s, ASK_MS * SYS_MS),
		j->members, &j->n_members, &j->note);
}

/* What stands in the way of another learner: an earlier one, and what has our address (J3). */
PARKS static int make_way(struct join *j)
{
	struct coord *c = cluster_etcd(j->cl);
	uint64_t soon = sys_after(j->cl->s, ASK_MS * SYS_MS);
	int rc = members(j);

	for (uint32_t i = 0; rc == 0 && i < j->n_members; i++) {
		struct coord_etcd_member *m = &j->members[i];

		if (strcmp(m->peer_url, j->etcd_peer) == 0)
			rc = coord_etcd_member_remove(c, m->id, soon, &j->note);
		else if (m->learner && m->name[0] == '\0')
			rc = err_set(&j->note, E_BUSY,
				"the member of etcd at %.100s joined before and has not started: "
				"see what its node says", m->peer_url);
		else if (m->learner)
			rc = coord_etcd_member_promote(c, m->id, soon, &j->note);
	}
	return rc;
}

PARKS static int add_learner(struct join *j)
{
	struct cluster *cl = j->cl;
	uint64_t id;
	int rc;

	do {
		rc = make_way(j);
		if (rc == 0)
			rc = coord_etcd_member_add(cluster_etcd(cl), j->etcd_peer, true,
				sys_after(cl->s, ASK_MS * SYS_MS), &id, &j->note);
		if (rc == 0)
			return 0;
		/* (J2); an unknown one is found by its address the next time round */
		if (rc != E_BUSY && rc != E_UNKNOWN && rc != E_UNAVAILABLE && rc != E_TIMEOUT)
			return rc;
		rc = fiber_sleep(sys_after(cl->s, PAUSE_MS * SYS_MS));
		if (cl->r == NULL) /* it is stopping, and waits for this */
			return err_set(&j->note, E_UNAVAILABLE, "the node stops");
	} while (rc == 0 && sys_now_ns(cl->s) < j->until_ns);
	return rc < 0 ? rc : E_TIMEOUT;
}

static bool list_members(struct join *j)
{
	size_t n = 0;

	for (uint32_t i = 0; i < j->n_members; i++) {
		const struct coord_etcd_member *m = &j->members[i];
		bool is_new = strcmp(m->peer_url, j->etcd_peer) == 0;
		int more;

		if (is_new || m->name[0] != '\0')
			more = snprintf(j->cluster + n, sizeof j->cluster - n, "%s%s=%s",
				n > 0 ? "," : "", is_new ? j->name : m->name, m->peer_url);
		else
			more = snprintf(j->cluster + n, sizeof j->cluster - n, "%smember-%llx=%s",
				n > 0 ? "," : "", (unsigned long long)m->id, m->peer_url);
		n += (size_t)more;
		if (n >= sizeof j->cluster)
			return false;
	}
	return true;
}

PARKS static int give_etcd(struct join *j)
{
	int rc;

	if (!j->etcd)
		return 0;
	snprintf(j->name, sizeof j->name, "wadi-%llu", (unsigned long long)j->row.id);
	rc = add_learner(j);
	if (rc == 0)
		rc = members(j);
	if (rc == 0 && !list_members(j))
		rc = err_set(&j->note, E_TOOBIG, "too many members of etcd");
	return rc;
}

/* ---- the request ---- */
PARKS static int join(struct join *j)
{
	struct cluster *cl = j->cl;
	int rc = fiber_lock(&cl->joining, j->until_ns);

	if (rc < 0)
		return err_set(&j->note, rc, "another node is just joining");
	if (cluster_embedded(cl))
		rc = found_cluster(j);
	if (rc == 0)
		rc = give_id(j);
	if (rc == 0)
		rc = give_etcd(j);
	fiber_unlock(&cl->joining);
	if (rc == 0)
		cluster_kick(cl);
	return rc;
}

void cluster_on_join(void *cluster, struct rpc_request *r)
{
	struct join *j = calloc(1, sizeof *j);
	struct cluster *cl = cluster;
	struct msg_join_ok ok;
	int rc;

	if (j == NULL) {
		rpc_reply_error(r, E_NOMEM, &(struct err_note){ "" }, RPC_NOW);
		return;
	}
	j->cl = cl;
	j->until_ns = sys_after(cl->s, JOIN_MS * SYS_MS);
	rc = decode(j, r);
	if (rc == 0) {
		/* what is half done stands in the way of the next one: it is brought to its end */
		fiber_shield(j->until_ns);
		rc = join(j);
		fiber_unshield();
	}
	if (rc < 0) {
		cluster_say(cl, "wadi: %.100s cannot join: %s", j->addr, j->note.text);
		rpc_reply_error(r, rc, &j->note, RPC_NOW);
	} else {
		cluster_say(cl, "wadi: %.100s joins as node %llu", j->addr,
			(unsigned long long)j->row.id);
		ok = (struct msg_join_ok){ .node = j->row.id,
			.roles = (uint8_t)j->roles,
			.key = bytes_of(cl->o.key, strlen(cl->o.key)),
			.coord = bytes_of(cl->m.coord, strlen(cl->m.coord)),
			.etcd_name = bytes_of(j->name, strlen(j->name)),
			.etcd_cluster = bytes_of(j->cluster, strlen(j->cluster)) };
		rpc_reply(r, OP_join_ok, &ok, bytes_of(NULL, 0), RPC_NOW);
	}
	free(j);
}
