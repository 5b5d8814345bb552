/* SPDX-License-Identifier: Apache-2.0 */
/* What a node of a cluster looks after, again and again: its own row, the endpoints of coord, and,
 * where it leads, growth.
 *
 * The set grows by one when the replica that is to come has nearly caught up, for a target of two
 * commits nothing new while there is one.  Which node is to be counted is in its row (NODE_NEW), so
 * an operator's own target stays what it is. */
#include "base/check.h"
#include "node/cluster_own.h"
#include <stdio.h>
#include <stdlib.h>

enum { PERIOD_MS = 1000, ASK_MS = 2000, VOTERS_FROM = 3, NEAR_RECORDS = 200 };

void cluster_kick(struct cluster *cl)
{
	cl->kicked = true;
	waitq_wake_all(&cl->kick);
}

static uint64_t soon(const struct cluster *cl)
{
	return sys_after(cl->s, ASK_MS * SYS_MS);
}

/* ---- the own row ---- */
struct own {
	const struct cluster *cl;
	bool removed;
};

static bool own_edit(struct coord_node *n, void *arg)
{
	struct own *o = arg;
	struct coord_node was = *n;
	unsigned roles, flags;

	member_role_parse(n->role, &roles, &flags);
	if ((flags & NODE_REMOVED) != 0) {
		o->removed = true;
		return false;
	}
	roles = o->cl->m.roles;
	if ((flags & NODE_DRAIN) != 0)
		roles &= ~(unsigned)NODE_RUNS_META;
	member_role_print(roles, flags, n->role);
	snprintf(n->address, sizeof n->address, "%s", o->cl->addr);
	snprintf(n->host, sizeof n->host, "%s", sys_host(o->cl->s));
	snprintf(n->rack, sizeof n->rack, "%s", o->cl->o.rack);
	return memcmp(&was, n, sizeof was) != 0;
}

/* A lone node has none at first. */
PARKS static int own_row_new(struct cluster *cl, struct err_note *note)
{
	struct coord_node n = { .id = cl->m.id }, now;

	member_role_print(cl->m.roles, 0, n.role);
	snprintf(n.address, sizeof n.address, "%s", cl->addr);
	snprintf(n.host, sizeof n.host, "%s", sys_host(cl->s));
	snprintf(n.rack, sizeof n.rack, "%s", cl->o.rack);
	return coord_node_put(cl->coord, 0, &n, soon(cl), &now, note);
}

PARKS static void own_row(struct cluster *cl)
{
	struct own o = { cl, false };
	struct err_note note = { "" };
	int rc;

	if (cl->addr[0] == '\0' || cl->row_done)
		return;
	if (!member_word_ok(cl->addr, SYS_ADDR_MAX)) { /* a path with blanks: nobody needs it */
		cl->row_done = true;
		return;
	}
	rc = cluster_edit(cl, cl->m.id, own_edit, &o, soon(cl), &note);
	if (rc == E_NOTFOUND)
		rc = own_row_new(cl, &note);
	cl->row_done = rc == 0;
	if (o.removed) {
		cluster_say(cl, "wadi: node %llu was removed from the cluster: this data is part "
				"of it no more",
			(unsigned long long)cl->m.id);
		etcd_child_stop(cl->child, soon(cl));
		cl->child = NULL;
	}
}

/* ---- where to ask ---- */
static void seeds_take(struct member *m, const struct coord_node *nodes, uint32_t n)
{
	unsigned roles, flags;

	m->n_seeds = 0;
	for (uint32_t i = 0; i < n && m->n_seeds < MEMBER_SEEDS_MAX; i++) {
		member_role_parse(nodes[i].role, &roles, &flags);
		if ((roles & NODE_RUNS_META) == 0 || (flags & NODE_REMOVED) != 0 ||
			strncmp(nodes[i].address, "t", 1) != 0)
			continue;
		snprintf(m->seeds[m->n_seeds++], SYS_ADDR_MAX, "%s", nodes[i].address);
	}
}

void cluster_publish(struct cluster *cl)
{
	char path[WHERE_MAX], fresh[WHERE_MAX], list[WHERE_LIST_MAX / 2];
	struct sys_file *f;
	size_t n = 0;
	int rc;

	if (cl->o.publish[0] == '\0' || cl->published || cl->m.n_seeds == 0 ||
		where_join(cl->o.publish, WHERE_NODES, path, NULL) < 0 ||
		where_join(cl->o.publish, WHERE_NODES ".new", fresh, NULL) < 0)
		return;
	for (uint32_t i = 0; i < cl->m.n_seeds && i + 1 < ROUTE_GIVEN_MAX; i++)
		if (n + strlen(cl->m.seeds[i]) + 3 < sizeof list)
			n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i > 0 ? "," : "",
				cl->m.seeds[i]);
	n += (size_t)snprintf(list + n, sizeof list - n, "\n");
	rc = sys_open(cl->s, fresh, SYS_WRITE | SYS_CREATE | SYS_TRUNC, &f, NULL);
	if (rc < 0)
		return;
	rc = sys_pwrite(f, list, n, 0, NULL);
	sys_close(f);
	cl->published = rc == 0 && sys_rename(cl->s, fresh, path, NULL) == 0;
}

PARKS static void remember(struct cluster *cl, const struct coord_node *nodes, uint32_t n)
{
	struct member *m = malloc(sizeof *m);
	struct err_note note = { "" };

	if (m == NULL)
		return;
	*m = cl->m;
	memset(m->seeds, 0, sizeof m->seeds);
	seeds_take(m, nodes, n);
	if (m->n_seeds > 0 && memcmp(m, &cl->m, sizeof *m) != 0 &&
		member_save(cl->s, cl->o.data, m, &note) == 0) {
		cl->m = *m;
		cl->published = false;
	}
	free(m);
	cluster_publish(cl);
}

PARKS static void endpoints(
	struct cluster *cl, const struct coord_etcd_member *members, uint32_t n)
{
	char url[COORD_URL_MAX], was[COORD_URL_MAX];
	struct err_note note = { "" };

	if (!cluster_url(cl, members, n, url) || strcmp(url, cl->m.coord) == 0)
		return;
	if (coord_etcd_endpoints(cluster_etcd(cl), url, &note) < 0)
		return;
	memcpy(was, cl->m.coord, sizeof was);
	memset(cl->m.coord, 0, sizeof cl->m.coord);
	snprintf(cl->m.coord, sizeof cl->m.coord, "%s", url);
	if (member_save(cl->s, cl->o.data, &cl->m, &note) < 0)
		memcpy(cl->m.coord, was, sizeof was); /* and again the next time */
}

/* ---- growth ---- */
static bool leads(const struct cluster *cl, struct replicate_status *st)
{
	if (cl->r == NULL)
		return false;
	replicate_status(cl->r, st);
	return st->state == REPLICA_PRIMARY && st->primary == cl->m.id;
}

/* Three can vote when there are three; of two, neither may be lost. */
PARKS static void promote(
	struct cluster *cl, const struct coord_etcd_member *members, uint32_t n)
{
	struct err_note note = { "" };

	for (uint32_t i = 0; i < n && n >= VOTERS_FROM; i++)
		if (members[i].learner && members[i].name[0] != '\0')
			(void)coord_etcd_member_promote(
				cluster_etcd(cl), members[i].id, soon(cl), &note);
}

static bool count_edit(struct coord_node *n, void *arg)
{
	unsigned roles, flags;

	member_role_parse(n->role, &roles, &flags);
	member_role_print(roles, flags & ~(unsigned)NODE_NEW, n->role);
	return (flags & NODE_NEW) != 0;
}

/* One new replica is counted at a time, when it has nearly caught up. */
PARKS static void grow(struct cluster *cl, const struct replicate_status *st,
	const struct coord_node *nodes, uint32_t n)
{
	struct err_note note = { "" };

	for (uint32_t i = 0; i < n; i++) {
		const struct replicate_peer_status *p = NULL;
		unsigned roles, flags;

		member_role_parse(nodes[i].role, &roles, &flags);
		if ((flags & (NODE_REMOVED | NODE_DRAIN)) != 0 || (flags & NODE_NEW) == 0 ||
			(roles & NODE_RUNS_META) == 0)
			continue;
		for (uint32_t j = 0; j < st->n_peers; j++)
			if (st->peers[j].id == nodes[i].id)
				p = &st->peers[j];
		if (p == NULL)
			continue;
		if (p->in_sync) {
			(void)cluster_edit(cl, nodes[i].id, count_edit, NULL, soon(cl), &note);
			continue;
		}
		if (!p->connected || p->written == 0 || p->written + NEAR_RECORDS < st->commit)
			continue;
		/* The target is raised once for it: while it is larger than the set, wait. */
		uint32_t n_in_sync = 1;

		for (uint32_t j = 0; j < st->n_peers; j++)
			n_in_sync += st->peers[j].in_sync;
		if (st->target_size <= n_in_sync && st->target_size < REPLICA_SET_MAX)
			(void)replicate_target(cl->r, n_in_sync + 1);
		return;
	}
}

/* What the rows of nodes say holds for their storage, too, whoever led when they were written. */
static void storage_follow(struct cluster *cl, const struct coord_node *nodes, uint32_t n)
{
	for (uint32_t i = 0; i < n && cl->control != NULL; i++) {
		unsigned roles, flags;

		member_role_parse(nodes[i].role, &roles, &flags);
		if ((flags & NODE_REMOVED) != 0)
			(void)control_node_remove(cl->control, nodes[i].id);
		else
			(void)control_node_drain(
				cl->control, nodes[i].id, (flags & NODE_DRAIN) != 0);
	}
}

/* Its roles come back when it is not drained any more. */
static void own_check(struct cluster *cl, const struct coord_node *nodes, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct coord_node is = nodes[i];
		struct own o = { cl, false };

		if (is.id == cl->m.id && cl->addr[0] != '\0' && own_edit(&is, &o))
			cl->row_done = false;
	}
}

PARKS static void look(struct cluster *cl)
{
	struct coord_etcd_member *members;
	struct replicate_status st;
	struct err_note note = { "" };
	struct coord_node *nodes;
	uint32_t n, n_edits;

	own_row(cl);
	if (cluster_embedded(cl))
		return;
	n_edits = cl->n_edits;
	if (coord_nodes(cl->coord, soon(cl), &nodes, &n, &note) == 0) {
		own_check(cl, nodes, n);
		remember(cl, nodes, n);
		if (leads(cl, &st))
			grow(cl, &st, nodes, n);
		if (cl->n_edits == n_edits)
			storage_follow(cl, nodes, n);
		free(nodes);
	}
	members = cl->m.etcd_name[0] != '\0' ? calloc(ETCD_MEMBERS_MAX, sizeof *members) : NULL;
	if (members == NULL)
		return;
	if (coord_etcd_members(cluster_etcd(cl), soon(cl), members, &n, &note) == 0) {
		endpoints(cl, members, n);
		if (leads(cl, &st))
			promote(cl, members, n);
	}
	free(members);
}

int cluster_upkeep(void *arg)
{
	struct cluster *cl = arg;
	int rc = 0;

	while (rc != E_CANCELED) {
		cl->kicked = false;
		look(cl);
		rc = cl->kicked ? fiber_yield()
				: waitq_wait(&cl->kick, sys_after(cl->s, PERIOD_MS * SYS_MS));
	}
	return rc;
}
