/* SPDX-License-Identifier: Apache-2.0 */
/* From states and nodes to keys and texts. */
#include "base/check.h"
#include "coord/own.h"
#include <stdio.h>
#include <stdlib.h>

#define NODE_PREFIX "node/"

void coord_init(struct coord *c, struct sys *s, const struct coord_ops *ops)
{
	c->ops = ops;
	c->sys = s;
	waitq_init(&c->changed_q);
	c->n_changes = 1;
}

void coord_close(struct coord *c)
{
	if (c == NULL)
		return;
	check(waitq_empty(&c->changed_q));
	c->ops->close(c);
}

/* ---- hints ---- */
void coord_changed(struct coord *c)
{
	c->n_changes++;
	waitq_wake_all(&c->changed_q);
}

int coord_wait_queue(struct coord *c, uint64_t *seen, uint64_t until_ns)
{
	int rc = 0;

	check(*seen <= c->n_changes);
	while (rc == 0 && *seen == c->n_changes)
		rc = waitq_wait(&c->changed_q, until_ns);
	*seen = c->n_changes;
	return rc;
}

int coord_wait(struct coord *c, uint64_t *seen, uint64_t until_ns)
{
	return c->ops->wait(c, seen, until_ns);
}

/* ---- shards ---- */
static int unreadable(struct err_note *note, int rc, const struct coord_item *it)
{
	return err_set(note, rc,
		rc == E_UNSUPPORTED ? "%s was written by a newer version of Wadi"
				    : "%s cannot be read: it is not what Wadi writes",
		it->key);
}

typedef int parse_fn(const struct coord_item *it, void *ret_value, struct err_note *note);

/* value: what is put, and after 0 or E_CONFLICT what is there, of len bytes; its revision is the
 * item's. */
PARKS static int swap(struct coord *c, uint64_t expected_revision, uint64_t until_ns,
	struct coord_item *it, parse_fn *parse, void *value, size_t len, struct err_note *note)
{
	int rc = c->ops->swap(c, expected_revision, until_ns, it, note), bad = 0;

	if (rc == 0)
		check(it->revision > expected_revision);
	else if (rc == E_CONFLICT && it->revision == 0)
		memset(value, 0, len);
	else if (rc == E_CONFLICT)
		bad = parse(it, value, note);
	return bad < 0 ? bad : rc;
}

static int state_of(const struct coord_item *it, void *ret_state, struct err_note *note)
{
	struct coord_state *ret_st = ret_state;
	int rc = coord_state_parse(bytes_of(it->text, strlen(it->text)), ret_st);

	if (rc < 0)
		return unreadable(note, rc, it);
	ret_st->revision = it->revision;
	return 0;
}

static void shard_key(struct coord_item *it, uint32_t shard)
{
	int n = snprintf(it->key, sizeof it->key, "shard/%u", shard);

	check(n < (int)sizeof it->key);
}

int coord_read(struct coord *c, uint32_t shard, uint64_t until_ns, struct coord_state *ret_st,
	struct err_note *note)
{
	struct coord_item it = { 0 };
	int rc;

	shard_key(&it, shard);
	rc = c->ops->get(c, until_ns, &it, note);
	if (rc < 0)
		return rc;
	if (it.revision == 0)
		return err_set(note, E_NOTFOUND, "%s: nobody has made it yet", it.key);
	return state_of(&it, ret_st, note);
}

int coord_swap(struct coord *c, uint32_t shard, uint64_t expected_revision,
	const struct coord_state *to, uint64_t until_ns, struct coord_state *ret_now,
	struct err_note *note)
{
	struct coord_state now = *to;
	struct coord_item it = { 0 };
	int rc;

	shard_key(&it, shard);
	coord_state_print(to, it.text);
	rc = swap(c, expected_revision, until_ns, &it, state_of, &now, sizeof now, note);
	now.revision = it.revision;
	if (rc == 0 || rc == E_CONFLICT)
		*ret_now = now;
	return rc;
}

/* ---- nodes ---- */
static int node_of(const struct coord_item *it, void *ret_node, struct err_note *note)
{
	struct coord_node *ret_n = ret_node;
	char key[COORD_KEY_MAX];
	int rc = coord_node_parse(bytes_of(it->text, strlen(it->text)), ret_n);

	if (rc < 0)
		return unreadable(note, rc, it);
	snprintf(key, sizeof key, NODE_PREFIX "%llu", (unsigned long long)ret_n->id);
	if (strcmp(key, it->key) != 0)
		return unreadable(note, E_CORRUPT, it);
	ret_n->revision = it->revision;
	return 0;
}

static void node_key(struct coord_item *it, uint64_t id)
{
	int n = snprintf(it->key, sizeof it->key, NODE_PREFIX "%llu", (unsigned long long)id);

	check(n < (int)sizeof it->key);
}

struct nodes {
	struct coord_node *at;
	uint32_t n, room;
	struct err_note *note;
};

static int add_node(void *arg, const struct coord_item *it)
{
	struct nodes *l = arg;
	int rc;

	if (l->n == COORD_NODES_MAX)
		return err_set(l->note, E_TOOBIG, "there are more than %d nodes", COORD_NODES_MAX);
	if (l->n == l->room) {
		uint32_t room = l->room * 2 + 8;
		struct coord_node *at = realloc(l->at, room * sizeof *at);

		if (at == NULL)
			return err_set(l->note, E_NOMEM, "list nodes: %s", err_text(E_NOMEM));
		l->at = at;
		l->room = room;
	}
	rc = node_of(it, &l->at[l->n], l->note);
	if (rc == 0)
		l->n++;
	return rc;
}

static int by_id(const void *a, const void *b)
{
	const struct coord_node *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

int coord_nodes(struct coord *c, uint64_t until_ns, struct coord_node **ret_nodes, uint32_t *ret_n,
	struct err_note *note)
{
	struct nodes l = { .note = note };
	int rc = c->ops->list(c, NODE_PREFIX, until_ns, add_node, &l, note);

	if (rc < 0) {
		free(l.at);
		return rc;
	}
	if (l.n > 0)
		qsort(l.at, l.n, sizeof *l.at, by_id);
	*ret_nodes = l.at;
	*ret_n = l.n;
	return 0;
}

int coord_node_put(struct coord *c, uint64_t expected_revision, const struct coord_node *to,
	uint64_t until_ns, struct coord_node *ret_now, struct err_note *note)
{
	struct coord_node now = *to;
	struct coord_item it = { 0 };
	int rc;

	node_key(&it, to->id);
	coord_node_print(to, it.text);
	rc = swap(c, expected_revision, until_ns, &it, node_of, &now, sizeof now, note);
	now.revision = it.revision;
	if (rc == 0 || rc == E_CONFLICT)
		*ret_now = now;
	return rc;
}

int coord_node_remove(struct coord *c, uint64_t id, uint64_t expected_revision, uint64_t until_ns,
	struct err_note *note)
{
	struct coord_item it = { 0 };
	int rc;

	check(expected_revision > 0);
	node_key(&it, id);
	rc = c->ops->swap(c, expected_revision, until_ns, &it, note);
	return rc == E_CONFLICT && it.revision == 0 ? 0 : rc;
}
