/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_node.c: node and shard.  The asking is the program's, which knows the servers. */
#include "cli/commands.h"
#include "cli/nodes.h"
#include "cli/words.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct cli_admin *admin(const struct cli *c)
{
	return c->roles->admin;
}

static bool failed(struct cli *c, const char *object, int rc, const struct err_note *note)
{
	return cli_fail(c, object, rc, note->text[0] != '\0' ? note->text : err_text(rc), NULL);
}

static bool node_number(struct cli *c, const char *text, uint64_t *ret_node)
{
	if (words_count(text, ret_node) && *ret_node > 0)
		return true;
	return cli_fail(c, text, WADI_E_INVALID, "a node has a number: see wadi node ls", NULL);
}

/* ---- node ls ---- */
static const char *roles_word(const struct cli_node *n)
{
	return n->meta && n->store ? "meta,store" : n->meta ? "meta" : n->store ? "store" : "-";
}

static const char *node_state(const struct cli_nodes *all, const struct cli_node *n)
{
	if (n->removed)
		return "removed";
	if (n->leads)
		return "leads";
	if (n->in_sync)
		return n->drain ? "in sync, drains" : "in sync";
	if (n->drain)
		return "drained";
	if (!n->meta)
		return "stores";
	if (all->last == 0)
		return "not in sync";
	return n->connected ? "catches up" : "away";
}

/* Records that it is behind the one that leads. */
static bool lag_of(const struct cli_nodes *all, const struct cli_node *n, uint64_t *ret_lag)
{
	if (all->last == 0 || !n->meta || n->removed || (n->written == 0 && !n->connected))
		return false;
	*ret_lag = all->last > n->written ? all->last - n->written : 0;
	return true;
}

static void nodes_json(const struct cli_nodes *all)
{
	json_t *list = json_array(), *top;

	for (uint32_t i = 0; i < all->n; i++) {
		const struct cli_node *n = &all->nodes[i];
		json_t *j = json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:b}", "node",
			(json_int_t)n->node, "addr", n->addr, "host", n->host, "rack", n->rack,
			"roles", roles_word(n), "state", node_state(all, n), "leads", n->leads,
			"in_sync", n->in_sync, "removed", n->removed);
		uint64_t lag;

		json_object_set_new(j, "lag_records",
			lag_of(all, n, &lag) ? json_integer((json_int_t)lag) : json_null());
		json_array_append_new(list, j);
	}
	top = json_pack("{s:I, s:I, s:b, s:i, s:i}", "self", (json_int_t)all->self, "primary",
		(json_int_t)all->primary, "alone", all->embedded, "etcd_voters",
		(int)all->voters, "etcd_learners", (int)all->learners);
	json_object_set_new(top, "nodes", list);
	out_json(top);
}

/* How many failures it survives, in a sentence; NULL: nothing is to be said. */
static const char *nodes_advice(const struct cli_nodes *all)
{
	uint32_t n_meta = 0, n_in_sync = 0;

	for (uint32_t i = 0; i < all->n; i++) {
		n_meta += all->nodes[i].meta && !all->nodes[i].removed && !all->nodes[i].drain;
		n_in_sync += all->nodes[i].in_sync;
	}
	if (all->embedded)
		return NULL;
	if (n_meta == 2)
		return "two nodes with metadata: neither may fail; with a third any one may";
	if (n_meta >= 3 && n_in_sync < 3)
		return "not all replicas are in sync: until they are, no further node may fail";
	if (n_meta >= 3 && all->voters == 2)
		return "etcd has two voters: neither may fail; a new member becomes one in seconds";
	if (n_meta >= 3 && (all->voters == 1 || all->learners > 0))
		return "etcd still grows: the nodes that run it must not fail yet";
	return NULL;
}

static void nodes_text(const struct cli *c, const struct cli_nodes *all)
{
	const char *advice = nodes_advice(all);

	printf("%s%4s  %-10s  %-15s  %8s  %-12s  %s%s\n", out_bold(c), "node", "roles", "state",
		"lag", "host/rack", "address", out_plain(c));
	for (uint32_t i = 0; i < all->n; i++) {
		const struct cli_node *n = &all->nodes[i];
		char lag[WORDS_MAX] = "-", place[2 * CLI_LABEL_MAX + 2];
		uint64_t records;

		if (n->removed)
			continue;
		if (lag_of(all, n, &records))
			snprintf(lag, sizeof lag, "%" PRIu64, records);
		snprintf(place, sizeof place, "%s/%s", n->host[0] != '\0' ? n->host : "-",
			n->rack[0] != '\0' ? n->rack : "-");
		printf("%4" PRIu64 "  %-10s  %-15s  %8s  %-12s  %s\n", n->node, roles_word(n),
			node_state(all, n), lag, place, n->addr);
	}
	if (advice != NULL)
		printf("%s\n", advice);
}

void cmd_node_ls(struct cli *c)
{
	struct err_note note = { "" };
	struct cli_nodes all;
	int rc = admin(c)->nodes(c, &all, &note);

	if (rc < 0) {
		failed(c, NULL, rc, &note);
		return;
	}
	if (c->json)
		nodes_json(&all);
	else
		nodes_text(c, &all);
	free(all.nodes);
}

void cmd_node_status_line(struct cli *c)
{
	struct err_note note = { "" };
	struct cli_nodes all;
	const char *advice;
	uint32_t n = 0, n_in_sync = 0;

	if (admin(c)->nodes(c, &all, &note) < 0)
		return; /* not an administrator, or an older server */
	for (uint32_t i = 0; i < all.n; i++) {
		n += !all.nodes[i].removed;
		n_in_sync += all.nodes[i].in_sync;
	}
	advice = nodes_advice(&all);
	if (!all.embedded) {
		printf("  %snodes  %s%u, %u replicas in sync, node %" PRIu64 " leads\n",
			out_bold(c), out_plain(c), n, n_in_sync, all.primary);
		if (advice != NULL)
			printf("         %s\n", advice);
	}
	free(all.nodes);
}

/* ---- node add, drain, rm ---- */
void cmd_node_add(struct cli *c)
{
	struct err_note note = { "" };
	const char *host = c->a.n_pos > 0 ? c->a.pos[0] : "HOST";
	struct cli_nodes all;
	const struct cli_node *to = NULL;
	char line[512];
	int rc = admin(c)->nodes(c, &all, &note);

	if (rc < 0) {
		failed(c, NULL, rc, &note);
		return;
	}
	for (uint32_t i = 0; i < all.n && to == NULL; i++)
		if (all.nodes[i].meta && !all.nodes[i].removed && all.nodes[i].addr[0] == 't')
			to = &all.nodes[i];
	if (to == NULL) {
		cli_fail(c, NULL, WADI_E_UNAVAILABLE,
			"no node listens where others could reach it",
			"start the first one with wadi serve --listen HOST");
	} else {
		bool tls = strncmp(to->addr, "tls:", 4) == 0;

		snprintf(line, sizeof line, "wadi serve --listen %.200s --join %.200s%s", host,
			to->addr + 4, tls ? "" : " --insecure --key-file KEY");
		if (c->json)
			out_json(json_pack("{s:s}", "command", line));
		else
			printf("%s\n", line);
		out_note(c, tls ? "run it on the new host, with a certificate: wadi help cert issue"
				: "run it on the new host; KEY is a copy of the key below the "
				  "--data of a node that is there");
	}
	free(all.nodes);
}

static void change(struct cli *c, enum cli_change what, uint64_t to, const char *object)
{
	struct err_note note = { "" };
	int rc = admin(c)->change(c, what, to, &note);

	if (rc < 0)
		failed(c, object, rc, &note);
	else if (c->json)
		out_json(json_object());
}

void cmd_node_drain(struct cli *c)
{
	uint64_t node;

	if (node_number(c, c->a.pos[0], &node))
		change(c, c->a.given[O_undo] ? CLI_NODE_UNDRAIN : CLI_NODE_DRAIN, node,
			c->a.pos[0]);
}

void cmd_node_rm(struct cli *c)
{
	uint64_t node;

	if (node_number(c, c->a.pos[0], &node))
		change(c, CLI_NODE_REMOVE, node, c->a.pos[0]);
}

/* ---- shard ---- */
static void shard_json(const struct cli_shard *s)
{
	json_t *list = json_array(), *top;

	for (uint32_t i = 0; i < s->n_replicas; i++)
		json_array_append_new(list, json_pack("{s:I, s:b, s:b, s:I, s:I}", "node",
			(json_int_t)s->replicas[i].node, "in_sync", s->replicas[i].in_sync,
			"connected", s->replicas[i].connected, "written",
			(json_int_t)s->replicas[i].written, "synced",
			(json_int_t)s->replicas[i].synced));
	top = json_pack("{s:i, s:I, s:s, s:b, s:I, s:I, s:i}", "shard", 0, "node",
		(json_int_t)s->node, "state", s->state, "leads", s->leads, "epoch",
		(json_int_t)s->epoch, "primary", (json_int_t)s->primary, "target",
		(int)s->target_size);
	json_object_set_new(top, "last", json_integer((json_int_t)s->last));
	json_object_set_new(top, "written", json_integer((json_int_t)s->written));
	json_object_set_new(top, "synced", json_integer((json_int_t)s->synced));
	json_object_set_new(top, "commit", json_integer((json_int_t)s->commit));
	json_object_set_new(top, "synced_commit", json_integer((json_int_t)s->synced_commit));
	json_object_set_new(top, "replicas", list);
	out_json(top);
}

static void shard_text(const struct cli *c, const struct cli_shard *s)
{
	printf("%sshard 0%s, as node %" PRIu64 " sees it: %s in epoch %" PRIu64 "\n", out_bold(c),
		out_plain(c), s->node, s->state, s->epoch);
	printf("  leads   node %" PRIu64 "; %u replicas are wanted\n", s->primary, s->target_size);
	printf("  record  %" PRIu64 " is the last, %" PRIu64 " written here, %" PRIu64 " synced\n",
		s->last, s->written, s->synced);
	printf("  commit  %" PRIu64 " written by all, %" PRIu64 " synced by all\n", s->commit,
		s->synced_commit);
	for (uint32_t i = 0; s->leads && i < s->n_replicas; i++)
		printf("  node %-3" PRIu64 "%s, %" PRIu64 " written, %" PRIu64 " synced%s\n",
			s->replicas[i].node,
			s->replicas[i].in_sync ? "in sync" : "not in sync", s->replicas[i].written,
			s->replicas[i].synced, s->replicas[i].connected ? "" : ", away");
}

void cmd_shard_status(struct cli *c)
{
	struct err_note note = { "" };
	struct cli_shard s;
	int rc = admin(c)->shard(c, &s, &note);

	if (rc < 0)
		failed(c, NULL, rc, &note);
	else if (c->json)
		shard_json(&s);
	else
		shard_text(c, &s);
}

void cmd_shard_handover(struct cli *c)
{
	uint64_t node = 0;

	if (c->a.n_pos == 0 || node_number(c, c->a.pos[0], &node))
		change(c, CLI_SHARD_HANDOVER, node, NULL);
}

void cmd_shard_target(struct cli *c)
{
	uint64_t n;

	if (words_count(c->a.pos[0], &n) && n > 0)
		change(c, CLI_SHARD_TARGET, n, NULL);
	else
		cli_fail(c, c->a.pos[0], WADI_E_INVALID, "how many replicas?", NULL);
}

void cmd_shard_force(struct cli *c)
{
	if (!c->a.given[O_replica] || !c->a.given[O_accept_loss])
		cli_fail(c, NULL, WADI_E_INVALID,
			"one replica leads with what it has then; what only others had is lost",
			"wadi shard force --replica NODE --accept-loss");
	else
		change(c, CLI_SHARD_FORCE, c->a.number[O_replica], NULL);
}
