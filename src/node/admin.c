/* SPDX-License-Identifier: Apache-2.0 */
/* Every address that the user named is asked in turn, until one answers; what only the one that
 * leads can do goes on to the node that it is hinted at. */
#include "node/admin.h"
#include "base/check.h"
#include "client/where.h"
#include "node/ask.h"
#include "sys/uv/sys_uv.h"
#include "wire/words.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ASK_MS = 30000, HINTS_MAX = 8, PAUSE_MS = 150 };

struct asking {
	struct sys *s;
	const struct cli *c;
	char addrs[WHERE_LIST_MAX], addr[WHERE_MAX], key[WHERE_KEY_CHARS + 1];
	struct node_ask ask;
	struct err_note *note;
	uint64_t until_ns;
	/* what is asked, and the answer */
	uint16_t op, reply_op;
	const void *msg;
	void *reply;
	bool primary; /* the answer of whoever leads is better */
};

/* ---- who is asked ---- */
PARKS static int key_find(struct asking *a)
{
	const char *path = sys_getenv(a->s, "WADI_KEY");
	char folder[WHERE_MAX], own[WHERE_MAX];
	int rc = 0;

	if (path == NULL || path[0] == '\0') {
		rc = where_folder(a->s, folder, a->note);
		if (rc == 0)
			rc = where_join(folder, WHERE_KEY, own, a->note);
		path = own;
	}
	if (rc == 0)
		rc = where_key_read(a->s, path, a->key, a->note);
	if (rc < 0)
		a->key[0] = '\0'; /* a Unix socket and a certificate do without */
	return 0;
}

PARKS static int prepare(struct asking *a)
{
	int rc = where_connect(a->s, a->c->a.text[O_url], a->addrs, a->note);

	if (rc == 0)
		rc = key_find(a);
	if (rc == 0 && where_tls(a->s, NULL, true, a->note) < 0 && strstr(a->addrs, "tls:"))
		rc = E_INVALID;
	a->until_ns = sys_after(a->s,
		(cli_timeout_ms(a->c) > 0 ? cli_timeout_ms(a->c) : ASK_MS) * SYS_MS);
	return rc;
}

PARKS static int ask_at(struct asking *a)
{
	a->ask = (struct node_ask){ .s = a->s, .addr = a->addr,
		.key = strncmp(a->addr, "unix:", 5) == 0 ? "" : a->key };
	return node_ask(&a->ask, a->op, a->msg, a->reply_op, a->reply, a->until_ns, a->note);
}

/* The one that is hinted at, and the one that that one hints at. */
PARKS static int follow(struct asking *a, int rc)
{
	for (int i = 0; i < HINTS_MAX && rc == E_NOTPRIMARY; i++) {
		char hint[SYS_ADDR_MAX];

		memcpy(hint, a->ask.hint, sizeof hint);
		node_ask_end(&a->ask);
		rc = fiber_sleep(sys_after(a->s, PAUSE_MS * SYS_MS)); /* it may just change */
		if (rc < 0)
			return rc;
		if (hint[0] != '\0')
			snprintf(a->addr, sizeof a->addr, "%s", hint);
		rc = ask_at(a);
	}
	return rc;
}

/* node_ask_end() is due after 0. */
PARKS static int ask_any(struct asking *a)
{
	const char *at = a->addrs;
	int rc = E_UNREACH;

	while (*at != '\0') {
		size_t n = strcspn(at, ",");

		check(n < sizeof a->addr);
		memcpy(a->addr, at, n);
		a->addr[n] = '\0';
		at += n + (at[n] == ',');
		rc = follow(a, ask_at(a));
		if (rc == 0)
			return 0;
		node_ask_end(&a->ask);
		if (rc != E_UNREACH && rc != E_CLOSED && rc != E_TIMEOUT && rc != E_NOTPRIMARY)
			return rc; /* somebody's answer */
	}
	return rc;
}

/* ---- nodes ---- */
struct nodes {
	struct asking a;
	struct cli_nodes all;
};

static void text(struct bytes from, char *ret_text, size_t cap)
{
	snprintf(ret_text, cap, "%.*s", (int)from.len, (const char *)from.p);
}

static int nodes_take(struct msg_node_list_ok *ok, struct cli_nodes *ret)
{
	struct sub_node_info info;

	*ret = (struct cli_nodes){ .self = ok->self, .primary = ok->primary, .last = ok->last,
		.embedded = ok->embedded != 0, .voters = ok->etcd_voters,
		.learners = ok->etcd_learners, .storage_known = ok->storage_known != 0 };
	ret->nodes = calloc(ok->nodes.n > 0 ? ok->nodes.n : 1, sizeof *ret->nodes);
	if (ret->nodes == NULL)
		return E_NOMEM;
	while (sub_node_info_next(&ok->nodes, &info)) {
		struct cli_node *n = &ret->nodes[ret->n++];

		*n = (struct cli_node){ .node = info.node, .written = info.written,
			.held_bytes = info.held_bytes,
			.away = info.storage == STORAGE_AWAY,
			.stuck = info.stuck != 0,
			.meta = (info.roles & NODE_RUNS_META) != 0,
			.store = (info.roles & NODE_RUNS_STORE) != 0,
			.leads = (info.flags & NODE_LEADS) != 0,
			.in_sync = (info.flags & NODE_IN_SYNC) != 0,
			.connected = (info.flags & NODE_CONNECTED) != 0,
			.fresh = (info.flags & NODE_NEW) != 0,
			.drain = (info.flags & NODE_DRAIN) != 0,
			.removed = (info.flags & NODE_REMOVED) != 0 };
		text(info.addr, n->addr, sizeof n->addr);
		text(info.host, n->host, sizeof n->host);
		text(info.rack, n->rack, sizeof n->rack);
		text(info.waits, n->waits, sizeof n->waits);
	}
	return 0;
}

/* The address of a node, from a list; false: it has none. */
static bool addr_of(const struct cli_nodes *all, uint64_t node, char ret_addr[WHERE_MAX])
{
	for (uint32_t i = 0; i < all->n; i++)
		if (all->nodes[i].node == node && !all->nodes[i].removed) {
			snprintf(ret_addr, WHERE_MAX, "%s", all->nodes[i].addr);
			return true;
		}
	return false;
}

PARKS static int list_once(struct asking *a, struct cli_nodes *ret)
{
	static const struct msg_node_list q;
	struct msg_node_list_ok ok;
	int rc;

	a->op = OP_node_list;
	a->reply_op = OP_node_list_ok;
	a->msg = &q;
	a->reply = &ok;
	rc = a->addr[0] != '\0' ? ask_at(a) : ask_any(a);
	if (rc == 0)
		rc = nodes_take(&ok, ret);
	if (rc == 0 || a->addr[0] != '\0')
		node_ask_end(&a->ask);
	a->reply = NULL;
	return rc;
}

PARKS static int nodes_fiber(void *arg)
{
	struct nodes *n = arg;
	struct cli_nodes better;
	int rc = prepare(&n->a);

	if (rc == 0)
		rc = list_once(&n->a, &n->all);
	/* how far the others are is known to the one that leads */
	if (rc == 0 && n->all.last == 0 && n->all.primary != n->all.self &&
		addr_of(&n->all, n->all.primary, n->a.addr) &&
		list_once(&n->a, &better) == 0) {
		free(n->all.nodes);
		n->all = better;
	}
	return rc;
}

/* ---- a door for one question ---- */
static int run(struct asking *a, fiber_fn *fn, void *arg)
{
	int rc = sys_uv_new(&a->s, a->note);

	if (rc < 0)
		return rc;
	rc = sys_uv_run(a->s, "admin", fn, arg);
	sys_uv_free(a->s);
	explicit_bzero(a->key, sizeof a->key);
	return rc;
}

static int admin_nodes(const struct cli *c, struct cli_nodes *ret_n, struct err_note *note)
{
	struct nodes *n = calloc(1, sizeof *n);
	int rc = E_NOMEM;

	if (n != NULL) {
		n->a.c = c;
		n->a.note = note;
		rc = run(&n->a, nodes_fiber, n);
		if (rc == 0)
			*ret_n = n->all;
	}
	free(n);
	return rc;
}

/* ---- the shard ---- */
struct shard_ask {
	struct asking a;
	struct cli_shard *ret;
};

static void shard_take(struct msg_shard_status_ok *ok, struct cli_shard *ret)
{
	struct sub_replica_info r;

	*ret = (struct cli_shard){ .node = ok->node, .incarnation = ok->incarnation,
		.epoch = ok->epoch, .primary = ok->primary, .last = ok->last,
		.written = ok->written, .synced = ok->synced, .commit = ok->commit,
		.synced_commit = ok->synced_commit, .target_size = ok->target_size,
		.leads = ok->leads != 0 };
	text(ok->state, ret->state, sizeof ret->state);
	while (ret->n_replicas < CLI_REPLICAS_MAX && sub_replica_info_next(&ok->replicas, &r))
		ret->replicas[ret->n_replicas++] = (struct cli_replica){ .node = r.node,
			.written = r.written, .synced = r.synced, .in_sync = r.in_sync != 0,
			.connected = r.connected != 0 };
}

PARKS static int shard_fiber(void *arg)
{
	static const struct msg_shard_status q;
	struct shard_ask *k = arg;
	struct msg_shard_status_ok ok;
	int rc = prepare(&k->a);

	k->a.op = OP_shard_status;
	k->a.reply_op = OP_shard_status_ok;
	k->a.msg = &q;
	k->a.reply = &ok;
	if (rc == 0)
		rc = ask_any(&k->a);
	if (rc == 0) {
		shard_take(&ok, k->ret);
		node_ask_end(&k->a.ask);
	}
	k->a.reply = NULL;
	return rc;
}

static int admin_shard(const struct cli *c, struct cli_shard *ret_s, struct err_note *note)
{
	struct shard_ask *k = calloc(1, sizeof *k);
	int rc = E_NOMEM;

	if (k != NULL) {
		*k = (struct shard_ask){ .a = { .c = c, .note = note }, .ret = ret_s };
		rc = run(&k->a, shard_fiber, k);
	}
	free(k);
	return rc;
}

/* ---- changes ---- */
struct changing {
	struct asking a;
	enum cli_change what;
	uint64_t to;
};

/* A forced replica is asked itself: nobody leads who could be told. */
PARKS static int find_replica(struct changing *k)
{
	struct cli_nodes all;
	int rc = list_once(&k->a, &all);

	if (rc < 0)
		return rc;
	if (all.self != k->to && !addr_of(&all, k->to, k->a.addr))
		rc = err_set(k->a.note, E_NOTFOUND, "there is no node %llu",
			(unsigned long long)k->to);
	free(all.nodes);
	if (rc == 0)
		memcpy(k->a.addrs, k->a.addr, sizeof k->a.addr);
	return rc;
}

PARKS static int change_fiber(void *arg)
{
	static const uint8_t moves[] = { [CLI_SHARD_HANDOVER] = SHARD_HANDOVER,
		[CLI_SHARD_TARGET] = SHARD_TARGET, [CLI_SHARD_FORCE] = SHARD_FORCE };
	struct changing *k = arg;
	struct msg_node_drain drain = { .node = k->to, .undo = k->what == CLI_NODE_UNDRAIN };
	struct msg_node_remove remove = { .node = k->to, .force = k->what == CLI_NODE_GIVE_UP };
	struct msg_shard_move move = { .what = moves[k->what], .to = k->to };
	struct msg_ok ok;
	int rc = prepare(&k->a);

	if (rc == 0 && k->what == CLI_SHARD_FORCE)
		rc = find_replica(k);
	k->a.reply_op = OP_ok;
	k->a.reply = &ok;
	switch (k->what) {
	case CLI_NODE_DRAIN:
	case CLI_NODE_UNDRAIN:
		k->a.op = OP_node_drain;
		k->a.msg = &drain;
		break;
	case CLI_NODE_REMOVE:
	case CLI_NODE_GIVE_UP:
		k->a.op = OP_node_remove;
		k->a.msg = &remove;
		break;
	default:
		k->a.op = OP_shard_move;
		k->a.msg = &move;
		break;
	}
	if (rc == 0)
		rc = ask_any(&k->a);
	if (rc == 0)
		node_ask_end(&k->a.ask);
	k->a.msg = NULL;
	k->a.reply = NULL;
	return rc;
}

static int admin_change(
	const struct cli *c, enum cli_change what, uint64_t to, struct err_note *note)
{
	struct changing *k = calloc(1, sizeof *k);
	int rc = E_NOMEM;

	if (k != NULL) {
		*k = (struct changing){ .a = { .c = c, .note = note }, .what = what, .to = to };
		rc = run(&k->a, change_fiber, k);
	}
	free(k);
	return rc;
}

const struct cli_admin node_admin = { admin_nodes, admin_shard, admin_change };
