/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_node.c: node and shard.  The asking is the program's, which knows the servers. */
#include "cli/commands.h"
#include "cli/nodes.h"
#include "cli/os.h"
#include "cli/words.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Between looks at a node that is drained; for which it may be stuck; without any progress. */
enum { DRAIN_LOOK_MS = 300, DRAIN_STUCK_MS = 5000, DRAIN_STILL_MS = 300000 };

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
		return n->held_bytes == 0 ? "drained" : n->away ? "away, drains" : "drains";
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

		json_object_set_new(j, "drains", json_boolean(n->drain));
		json_object_set_new(j, "held_bytes", all->storage_known
			? json_integer((json_int_t)n->held_bytes) : json_null());
		json_object_set_new(j, "waits", json_string(n->waits));
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
	for (uint32_t i = 0; i < all->n; i++) {
		const struct cli_node *n = &all->nodes[i];
		char size[WORDS_MAX];

		if (n->drain && !n->removed && n->held_bytes > 0)
			printf("node %" PRIu64 " still has %s%s%s\n", n->node,
				words_put_size(n->held_bytes, size),
				n->waits[0] != '\0' ? ": " : "", n->waits);
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

/* ---- waiting until a node is empty ---- */
struct draining {
	struct cli *c;
	uint64_t node, held_bytes, moved_ms, stuck_ms; /* moved: when something moved last */
	bool shown;
};

static const struct cli_node *node_of(const struct cli_nodes *all, uint64_t node)
{
	for (uint32_t i = 0; i < all->n; i++)
		if (all->nodes[i].node == node)
			return &all->nodes[i];
	return NULL;
}

static void drain_line(struct draining *d, const struct cli_node *n)
{
	char line[256], size[WORDS_MAX];

	if (d->c->quiet || d->c->json || !os_terminal(OS_STDERR))
		return;
	snprintf(line, sizeof line, "node %" PRIu64 ": %s to be moved%s%s%.80s", d->node,
		words_put_size(n->held_bytes, size), n->in_sync ? ", leaves the set" : "",
		n->waits[0] != '\0' ? "; " : "", n->waits);
	os_line(line);
	d->shown = true;
}

/* 0: empty; 1: go on waiting; or an error that was told. */
static int drain_look(struct draining *d, const struct cli_nodes *all)
{
	const struct cli_node *n = node_of(all, d->node);
	uint64_t now_ms = os_now_ms();
	char size[WORDS_MAX], why[512];

	if (n == NULL || !all->storage_known) /* somebody else begins to lead */
		return 1;
	if (!n->drain)
		return cli_fail(d->c, NULL, WADI_E_CONFLICT, "it is not drained any more", NULL),
		       WADI_E_CONFLICT;
	if (n->held_bytes == 0 && !n->in_sync)
		return 0;
	drain_line(d, n);
	if (n->held_bytes != d->held_bytes || !n->stuck)
		d->stuck_ms = now_ms;
	if (n->held_bytes != d->held_bytes)
		d->moved_ms = now_ms;
	d->held_bytes = n->held_bytes;
	if (now_ms - d->stuck_ms < DRAIN_STUCK_MS && now_ms - d->moved_ms < DRAIN_STILL_MS)
		return 1;
	snprintf(why, sizeof why, "%s are still on node %" PRIu64 ": %s",
		words_put_size(n->held_bytes, size), d->node,
		n->waits[0] != '\0' ? n->waits : "they do not move");
	cli_fail(d->c, NULL, WADI_E_UNAVAILABLE, why,
		"it goes on by itself when that changes: wadi node ls; wadi node drain --undo "
		"lets the node take part again");
	return WADI_E_UNAVAILABLE;
}

static void drain_wait(struct cli *c, uint64_t node)
{
	struct draining d = { .c = c, .node = node, .moved_ms = os_now_ms(),
		.stuck_ms = os_now_ms() };
	uint64_t limit_ms = cli_timeout_ms(c), began_ms = os_now_ms();
	struct err_note note = { "" };
	int rc = 1;

	while (rc > 0) {
		struct cli_nodes all;
		int asked = admin(c)->nodes(c, &all, &note);

		if (asked == 0) {
			rc = drain_look(&d, &all);
			free(all.nodes);
		}
		if (rc > 0 && ((limit_ms > 0 && os_now_ms() - began_ms >= limit_ms) ||
				      os_now_ms() - d.moved_ms >= 2 * DRAIN_STILL_MS)) {
			cli_fail(c, NULL, WADI_E_TIMEOUT, asked < 0 ? note.text
				: "it is not empty yet", "it goes on: wadi node ls shows how far");
			rc = WADI_E_TIMEOUT;
		}
		if (rc > 0)
			os_sleep_ms(DRAIN_LOOK_MS);
	}
	os_line_wipe();
	if (rc < 0)
		return;
	if (c->json)
		out_json(json_object());
	out_note(c, "node %" PRIu64 " is empty: stop it, then wadi node rm %" PRIu64, node, node);
}

void cmd_node_drain(struct cli *c)
{
	struct err_note note = { "" };
	uint64_t node;
	int rc;

	if (!node_number(c, c->a.pos[0], &node))
		return;
	if (c->a.given[O_undo]) {
		change(c, CLI_NODE_UNDRAIN, node, c->a.pos[0]);
		return;
	}
	rc = admin(c)->change(c, CLI_NODE_DRAIN, node, &note);
	if (rc < 0)
		failed(c, c->a.pos[0], rc, &note);
	else
		drain_wait(c, node);
}

void cmd_node_rm(struct cli *c)
{
	uint64_t node;

	if (node_number(c, c->a.pos[0], &node))
		change(c, c->a.given[O_force] ? CLI_NODE_GIVE_UP : CLI_NODE_REMOVE, node,
			c->a.pos[0]);
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
