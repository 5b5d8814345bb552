/* SPDX-License-Identifier: Apache-2.0 */
/* What operators ask of a node: who is there, who leads, and that this changes. */
#include "base/check.h"
#include "meta/replicate.h"
#include "node/cluster_own.h"
#include <stdio.h>
#include <stdlib.h>

enum { ASK_MS = 10000, PAUSE_MS = 300, AGAIN_MS = 1000, LOOK_MS = 10 };

static uint64_t soon(const struct cluster *cl)
{
	return sys_after(cl->s, ASK_MS * SYS_MS);
}

static void refuse(struct rpc_request *r, int rc, const struct err_note *note)
{
	rpc_reply_error(r, rc, note, RPC_NOW);
}

static bool status_of(const struct cluster *cl, struct replicate_status *ret_st)
{
	if (cl->r == NULL)
		return false;
	replicate_status(cl->r, ret_st);
	return true;
}

static bool leads(const struct cluster *cl, const struct replicate_status *st)
{
	return st->state == REPLICA_PRIMARY && st->primary == cl->m.id;
}

/* Only the one that leads does this. */
static int only_primary(struct cluster *cl, struct err_note *note)
{
	struct replicate_status st;

	if (status_of(cl, &st) && leads(cl, &st))
		return 0;
	return err_set(note, E_NOTPRIMARY, "node %llu does not lead",
		(unsigned long long)cl->m.id);
}

/* Asked for again while it leads: what was just under way may have stood in the way. */
PARKS static int hand_over(struct cluster *cl, uint64_t to, struct err_note *note)
{
	uint64_t until_ns = soon(cl), again_ns = 0;
	int rc = 0;

	while (rc == 0 && only_primary(cl, note) == 0) {
		if (sys_now_ns(cl->s) >= until_ns)
			return err_set(note, E_TIMEOUT, "the other one did not catch up in time");
		if (sys_now_ns(cl->s) >= again_ns) {
			rc = replicate_handover(cl->r, to);
			again_ns = sys_after(cl->s, AGAIN_MS * SYS_MS);
		}
		if (rc == 0)
			rc = fiber_sleep(sys_after(cl->s, LOOK_MS * SYS_MS));
	}
	return rc < 0 ? err_set(note, rc, "nobody is fit to take over: %s", err_text(rc)) : 0;
}

/* ---- nodes ---- */
static struct bytes text(const char *s)
{
	return bytes_of(s, strlen(s));
}

static void node_flags(const struct cluster *cl, const struct replicate_status *st,
	const struct coord_state *at, struct sub_node_info *n)
{
	for (uint32_t i = 0; i < at->n_in_sync; i++)
		if (at->in_sync[i].id == n->node)
			n->flags |= NODE_IN_SYNC;
	if (at->primary.id == n->node)
		n->flags |= NODE_LEADS;
	if (n->node == cl->m.id) {
		n->flags |= NODE_CONNECTED;
		n->written = st->written;
	}
	if (!leads(cl, st))
		return;
	for (uint32_t i = 0; i < st->n_peers; i++)
		if (st->peers[i].id == n->node) {
			n->flags |= st->peers[i].connected ? NODE_CONNECTED : 0;
			n->written = st->peers[i].written;
		}
}

static void node_storage(const struct cluster *cl, struct sub_node_info *n)
{
	struct control_node c;

	if (cl->control == NULL)
		return;
	control_node_look(cl->control, n->node, &c);
	n->storage = c.storage;
	n->held_bytes = c.held_bytes;
	n->waits = text(c.waits);
	n->stuck = c.stuck;
}

PARKS static void count_voters(struct cluster *cl, struct msg_node_list_ok *ok)
{
	struct coord_etcd_member *members = calloc(ETCD_MEMBERS_MAX, sizeof *members);
	struct err_note note;
	uint32_t n;

	if (members != NULL && cl->m.etcd_name[0] != '\0' && !cluster_embedded(cl) &&
		coord_etcd_members(cluster_etcd(cl), soon(cl), members, &n, &note) == 0)
		for (uint32_t i = 0; i < n; i++) {
			ok->etcd_learners += members[i].learner;
			ok->etcd_voters += !members[i].learner;
		}
	free(members);
}

static void nodes_put(struct cluster *cl, const struct replicate_status *st,
	const struct coord_state *at, const struct coord_node *nodes, uint32_t n,
	struct wire_list_builder *l)
{
	for (uint32_t i = 0; i < n; i++) {
		struct sub_node_info info = { .node = nodes[i].id,
			.addr = text(nodes[i].address),
			.host = text(nodes[i].host),
			.rack = text(nodes[i].rack),
			.certificate = text(nodes[i].certificate) };
		unsigned roles, flags;

		member_role_parse(nodes[i].role, &roles, &flags);
		info.roles = (uint8_t)roles;
		info.flags = (uint8_t)flags;
		node_flags(cl, st, at, &info);
		node_storage(cl, &info);
		if (!sub_node_info_add(l, &info))
			return;
	}
}

void cluster_on_node_list(void *cluster, struct rpc_request *r)
{
	struct msg_node_list_ok ok = { 0 };
	struct replicate_status st = { 0 };
	struct err_note note = { "" };
	struct cluster *cl = cluster;
	struct wire_list_builder l;
	struct coord_state at = { 0 };
	struct coord_node *nodes = NULL;
	uint8_t *room = NULL;
	size_t room_bytes;
	uint32_t n = 0;
	int rc = coord_nodes(cl->coord, soon(cl), &nodes, &n, &note);

	if (rc == 0)
		rc = coord_read(cl->coord, 0, soon(cl), &at, &note);
	if (rc == 0 || rc == E_NOTFOUND) {
		room_bytes = (size_t)n * sizeof *nodes + 64;
		room = malloc(room_bytes);
		rc = room == NULL ? err_set(&note, E_NOMEM, "%s", err_text(E_NOMEM)) : 0;
	}
	if (rc == 0) {
		(void)status_of(cl, &st);
		ok.self = cl->m.id;
		ok.primary = at.primary.id;
		ok.last = leads(cl, &st) ? st.last : 0;
		ok.embedded = cluster_embedded(cl);
		ok.storage_known = cl->control != NULL;
		count_voters(cl, &ok);
		l = wire_list_begin(room, room_bytes, r->version);
		nodes_put(cl, &st, &at, nodes, n, &l);
		ok.nodes = wire_list_end(&l);
		rpc_reply(r, OP_node_list_ok, &ok, bytes_of(NULL, 0), RPC_NOW);
	} else {
		refuse(r, rc, &note);
	}
	free(room);
	free(nodes);
}

/* How many nodes with metadata stay when one goes. */
PARKS static int others(struct cluster *cl, uint64_t gone, uint32_t *ret_n, struct err_note *note)
{
	struct coord_node *nodes;
	uint32_t n;
	int rc = coord_nodes(cl->coord, soon(cl), &nodes, &n, note);

	if (rc < 0)
		return rc;
	*ret_n = 0;
	for (uint32_t i = 0; i < n; i++) {
		unsigned roles, flags;

		member_role_parse(nodes[i].role, &roles, &flags);
		*ret_n += nodes[i].id != gone && (roles & NODE_RUNS_META) != 0 &&
			  (flags & (NODE_REMOVED | NODE_DRAIN)) == 0;
	}
	free(nodes);
	return 0;
}

/* The set is not larger than there are nodes for it. */
PARKS static int shrink(struct cluster *cl, uint64_t gone, struct err_note *note)
{
	struct replicate_status st;
	uint32_t n;
	int rc = others(cl, gone, &n, note);

	if (rc < 0)
		return rc;
	if (n == 0)
		return err_set(note, E_INVALID,
			"node %llu is the only one with metadata: nobody could take it over",
			(unsigned long long)gone);
	if (!status_of(cl, &st))
		return err_set(note, E_UNAVAILABLE, "it is stopping");
	if (n < st.target_size)
		rc = replicate_target(cl->r, n);
	return rc < 0 ? err_set(note, rc, "the set cannot be made smaller: %s", err_text(rc)) : 0;
}

static bool drain_edit(struct coord_node *n, void *arg)
{
	const bool *undo = arg;
	unsigned roles, flags;

	member_role_parse(n->role, &roles, &flags);
	if ((flags & NODE_REMOVED) != 0 || ((flags & NODE_DRAIN) == 0) == *undo)
		return false;
	if (*undo) /* the node itself puts its roles back, and is counted again */
		member_role_print(roles, (flags & ~(unsigned)NODE_DRAIN) | NODE_NEW, n->role);
	else
		member_role_print(roles & ~(unsigned)NODE_RUNS_META,
			(flags & ~(unsigned)NODE_NEW) | NODE_DRAIN, n->role);
	return true;
}

/* The one that leads hands over first: whoever takes over is asked again. */
PARKS static int drain(
	struct cluster *cl, uint64_t node, bool undo, struct err_note *note)
{
	int rc = only_primary(cl, note);

	if (rc < 0 || undo)
		return rc < 0 ? rc
			      : cluster_edit(cl, node, drain_edit, &undo, soon(cl), note);
	if (node == cl->m.id) {
		uint32_t n;

		rc = others(cl, node, &n, note);
		if (rc == 0 && n == 0)
			return err_set(note, E_INVALID, "it is the only node with metadata");
		if (rc == 0)
			rc = hand_over(cl, 0, note);
		return rc < 0 ? rc : err_set(note, E_NOTPRIMARY, "it has handed over first");
	}
	rc = shrink(cl, node, note);
	if (rc == 0)
		rc = cluster_edit(cl, node, drain_edit, &undo, soon(cl), note);
	cl->n_edits++;
	/* What is asked after this is answered by who knows that nothing comes there any more. */
	if (rc == 0 && (cl->control == NULL || control_node_drain(cl->control, node, true) < 0))
		rc = err_set(note, E_NOTPRIMARY, "it leads no more");
	return rc;
}

void cluster_on_node_drain(void *cluster, struct rpc_request *r)
{
	struct err_note note = { "" };
	struct msg_node_drain m;
	int rc = msg_node_drain_get(r->body.p, r->body.len, r->version, &m);

	if (rc == 0)
		rc = drain(cluster, m.node, m.undo != 0, &note);
	cluster_kick(cluster); /* its storage follows */
	if (rc < 0)
		refuse(r, rc, &note);
	else
		rpc_reply_ok(r, RPC_NOW);
}

static bool remove_edit(struct coord_node *n, void *arg)
{
	unsigned roles, flags;

	member_role_parse(n->role, &roles, &flags);
	member_role_print(0, NODE_REMOVED, n->role);
	return (flags & NODE_REMOVED) == 0;
}

/* Its member of etcd, if it ran one. */
PARKS static int member_remove(struct cluster *cl, uint64_t node, struct err_note *note)
{
	struct coord_etcd_member *members;
	char name[COORD_NAME_MAX];
	uint64_t until_ns = soon(cl);
	uint32_t n = 0;
	int rc;

	if (cl->m.etcd_name[0] == '\0' || cluster_embedded(cl))
		return 0;
	members = calloc(ETCD_MEMBERS_MAX, sizeof *members);
	if (members == NULL)
		return err_set(note, E_NOMEM, "%s", err_text(E_NOMEM));
	snprintf(name, sizeof name, "wadi-%llu", (unsigned long long)node);
	do { /* a voter that came a moment ago is watched for some seconds */
		rc = coord_etcd_members(cluster_etcd(cl), soon(cl), members, &n, note);
		for (uint32_t i = 0; rc == 0 && i < n; i++)
			if (strcmp(members[i].name, name) == 0)
				rc = coord_etcd_member_remove(
					cluster_etcd(cl), members[i].id, soon(cl), note);
		if (rc != E_BUSY || sys_now_ns(cl->s) >= until_ns)
			break;
		rc = fiber_sleep(sys_after(cl->s, PAUSE_MS * SYS_MS));
	} while (rc == 0);
	free(members);
	return rc;
}

/* Who is gone for good: surely serves nobody, and what only it has is given up by --force. */
PARKS static int storage_leaves(
	struct cluster *cl, uint64_t node, bool force, struct err_note *note)
{
	uint64_t until_ns = soon(cl);
	int rc = 0;

	while (rc == 0) {
		if (cl->control == NULL)
			return err_set(note, E_NOTPRIMARY, "it leads no more");
		rc = control_node_may_go(cl->control, node, force, note);
		if (rc != E_UNAVAILABLE)
			return rc;
		if (sys_now_ns(cl->s) >= until_ns)
			return E_BUSY;
		rc = fiber_sleep(sys_after(cl->s, PAUSE_MS * SYS_MS));
	}
	return rc;
}

PARKS static int node_remove(
	struct cluster *cl, uint64_t node, bool force, struct err_note *note)
{
	struct coord_state at;
	int rc = only_primary(cl, note);

	if (rc == 0 && node == cl->m.id)
		return err_set(note, E_INVALID, "it leads: wadi node drain %llu first",
			(unsigned long long)node);
	if (rc == 0)
		rc = coord_read(cl->coord, 0, soon(cl), &at, note);
	for (uint32_t i = 0; rc == 0 && i < at.n_in_sync; i++)
		if (at.in_sync[i].id == node)
			rc = err_set(note, E_BUSY,
				"node %llu holds a copy that counts: wadi node drain %llu first",
				(unsigned long long)node, (unsigned long long)node);
	if (rc == 0)
		rc = storage_leaves(cl, node, force, note);
	if (rc == 0)
		rc = drain(cl, node, false, note);
	if (rc == 0) /* nothing comes there any more: did something meanwhile? */
		rc = storage_leaves(cl, node, force, note);
	if (rc == 0)
		rc = member_remove(cl, node, note);
	if (rc == 0)
		rc = cluster_edit(cl, node, remove_edit, NULL, soon(cl), note);
	cluster_kick(cl); /* its storage follows */
	return rc;
}

void cluster_on_node_remove(void *cluster, struct rpc_request *r)
{
	struct err_note note = { "" };
	struct msg_node_remove m;
	int rc = msg_node_remove_get(r->body.p, r->body.len, r->version, &m);

	if (rc == 0)
		rc = node_remove(cluster, m.node, m.force != 0, &note);
	if (rc < 0)
		refuse(r, rc, &note);
	else
		rpc_reply_ok(r, RPC_NOW);
}

/* ---- the shard ---- */
static const char *state_name(enum replica_state st)
{
	static const char *const names[REPLICA_STATES] = {
#define STATE(name, text, to) [REPLICA_##name] = text,
#include "core/replica.def"
#undef STATE
	};

	return st < REPLICA_STATES && names[st] != NULL ? names[st] : "?";
}

void cluster_on_shard_status(void *cluster, struct rpc_request *r)
{
	enum { ROOM = 64 * 16 };
	struct err_note note = { "" };
	struct msg_shard_status m;
	struct msg_shard_status_ok ok;
	struct replicate_status st;
	struct wire_list_builder l;
	uint8_t room[ROOM];
	int rc = msg_shard_status_get(r->body.p, r->body.len, r->version, &m);

	if (rc == 0 && (m.shard != 0 || !status_of(cluster, &st)))
		rc = err_set(&note, E_NOTFOUND, "there is no shard %u here", m.shard);
	if (rc < 0) {
		refuse(r, rc, &note);
		return;
	}
	ok = (struct msg_shard_status_ok){ .node = st.id,
		.incarnation = st.incarnation,
		.epoch = st.epoch,
		.primary = st.primary,
		.last = st.last,
		.written = st.written,
		.synced = st.synced,
		.commit = st.commit,
		.synced_commit = st.synced_commit,
		.target_size = st.target_size,
		.leads = leads(cluster, &st),
		.state = text(state_name(st.state)) };
	l = wire_list_begin(room, sizeof room, r->version);
	for (uint32_t i = 0; i < st.n_peers; i++) {
		struct sub_replica_info info = { .node = st.peers[i].id,
			.in_sync = st.peers[i].in_sync,
			.connected = st.peers[i].connected,
			.written = st.peers[i].written,
			.synced = st.peers[i].synced };

		if (!sub_replica_info_add(&l, &info))
			break;
	}
	ok.replicas = wire_list_end(&l);
	rpc_reply(r, OP_shard_status_ok, &ok, bytes_of(NULL, 0), RPC_NOW);
}

/* It leads alone from then on, and acknowledges alone: the set that it had is given up. */
PARKS static int force(struct cluster *cl, struct err_note *note)
{
	uint64_t until_ns = soon(cl);
	int rc;

	if (only_primary(cl, note) == 0)
		return err_set(note, E_EXISTS,
			"it leads already, and has all: wadi shard target 1 lets it go on alone");
	rc = replicate_force(cl->r);
	while (rc == 0 && only_primary(cl, note) < 0) {
		if (sys_now_ns(cl->s) >= until_ns)
			return err_set(note, E_UNAVAILABLE,
				"it does not lead: its log says why (another one may be alive)");
		rc = fiber_sleep(sys_after(cl->s, LOOK_MS * SYS_MS));
	}
	if (rc == 0 && cl->r != NULL)
		rc = replicate_target(cl->r, 1);
	return rc < 0 ? err_set(note, rc, "%s", err_text(rc)) : 0;
}

PARKS static int shard_move(
	struct cluster *cl, const struct msg_shard_move *m, struct err_note *note)
{
	int rc = m->what == SHARD_FORCE ? 0 : only_primary(cl, note);

	if (rc < 0)
		return rc;
	if (m->shard != 0 || cl->r == NULL)
		return err_set(note, E_NOTFOUND, "there is no shard %u here", m->shard);
	switch (m->what) {
	case SHARD_HANDOVER:
		return hand_over(cl, m->to, note);
	case SHARD_TARGET:
		if (m->to == 0 || m->to > REPLICA_SET_MAX)
			return err_set(note, E_INVALID, "a set has 1 to %d replicas",
				REPLICA_SET_MAX);
		rc = replicate_target(cl->r, (uint32_t)m->to);
		break;
	case SHARD_FORCE:
		return force(cl, note);
	default:
		return err_set(note, E_INVALID, "no such change");
	}
	return rc < 0 ? err_set(note, rc, "%s", err_text(rc)) : 0;
}

void cluster_on_shard_move(void *cluster, struct rpc_request *r)
{
	struct err_note note = { "" };
	struct msg_shard_move m;
	int rc = msg_shard_move_get(r->body.p, r->body.len, r->version, &m);

	if (rc == 0)
		rc = shard_move(cluster, &m, &note);
	if (rc < 0)
		refuse(r, rc, &note);
	else
		rpc_reply_ok(r, RPC_NOW);
}
