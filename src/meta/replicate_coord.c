/* SPDX-License-Identifier: Apache-2.0 */
/* Questions to coord, one at a time, and the list of nodes. */
#include "base/check.h"
#include "meta/replicate_own.h"
#include <stdlib.h>

_Static_assert((int)COORD_IN_SYNC_MAX == (int)REPLICA_SET_MAX, "both speak of the same set");

/* ---- states ---- */
static struct replica_config config_of(const struct coord_state *st)
{
	struct replica_config c = { .revision = st->revision,
		.epoch = st->epoch,
		.primary = { st->primary.id, st->primary.incarnation },
		.target_size = st->target_size };

	c.in_sync.n = st->n_in_sync;
	for (uint32_t i = 0; i < st->n_in_sync; i++)
		c.in_sync.ids[i] = st->in_sync[i].id;
	return c;
}

static struct coord_state state_of(const struct replica_config *c)
{
	struct coord_state st = { .epoch = c->epoch,
		.primary = { c->primary.id, c->primary.incarnation },
		.n_in_sync = c->in_sync.n,
		.target_size = c->target_size };

	for (uint32_t i = 0; i < c->in_sync.n; i++) {
		st.in_sync[i].id = c->in_sync.ids[i];
		if (c->in_sync.ids[i] == c->primary.id)
			st.in_sync[i].incarnation = c->primary.incarnation;
	}
	check(coord_state_valid(&st));
	return st;
}

/* This replica alone.  The epoch is above those of its log, which it may have written by itself. */
static PARKS int begin_state(struct replicate *r, struct coord_state *ret_st, struct err_note *note)
{
	struct coord_state first = { .epoch = r->core.last.epoch + 1,
		.primary = { r->id, 0 },
		.in_sync = { { r->id, 0 } },
		.n_in_sync = 1,
		.target_size = r->first_target };
	int rc;

	if (r->first_target == 0) {
		err_set(note, E_NOTFOUND, "shard %u: waits for somebody to begin it", r->shard);
		if (!r->said_nobody)
			sys_log(r->sys, note->text);
		r->said_nobody = true;
		return E_NOTFOUND;
	}
	rc = coord_swap(r->coord, r->shard, 0, &first, sys_after(r->sys, REPLICATE_COORD_NS),
		ret_st, note);
	return rc == E_CONFLICT ? 0 : rc;
}

static PARKS int read_state(struct replicate *r, struct coord_state *ret_st, struct err_note *note)
{
	uint64_t until_ns = sys_after(r->sys, REPLICATE_COORD_NS);
	int rc = coord_read(r->coord, r->shard, until_ns, ret_st, note);

	return rc == E_NOTFOUND ? begin_state(r, ret_st, note) : rc;
}

int coord_has_others(struct replicate *r, bool *ret_others, struct err_note *note)
{
	uint64_t until_ns = sys_after(r->sys, 5 * REPLICATE_COORD_NS);
	struct coord_state st;
	int rc = coord_read(r->coord, r->shard, until_ns, &st, note);

	if (rc == 0)
		*ret_others = st.n_in_sync > 1 || st.in_sync[0].id != r->id;
	return rc;
}

int coord_knows(struct replicate *r, bool *ret_known, struct err_note *note)
{
	uint64_t until_ns = sys_after(r->sys, 5 * REPLICATE_COORD_NS);
	struct coord_state st;
	int rc;

	*ret_known = false;
	rc = coord_read(r->coord, r->shard, until_ns, &st, note);
	if (rc == E_NOTFOUND)
		return 0;
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < st.n_in_sync; i++)
		*ret_known = *ret_known || (st.in_sync[i].id == r->id &&
			(st.primary.id != r->id || st.primary.incarnation > 0));
	return 0;
}

static PARKS int swap_state(struct replicate *r, const struct coord_op *o,
	struct coord_state *ret_st, struct err_note *note)
{
	struct coord_state to = state_of(&o->to);

	return coord_swap(r->coord, r->shard, o->expected, &to,
		sys_after(r->sys, REPLICATE_COORD_NS), ret_st, note);
}

/* What cannot be waited out: the state will never be readable here. */
static bool hopeless(int rc)
{
	return rc == E_GONE || rc == E_UNSUPPORTED;
}

static PARKS int ask(struct replicate *r, const struct coord_op *o, struct err_note *note)
{
	struct replica_event ev = { .kind = REPLICA_EV_COORD };
	struct coord_state st = { 0 };
	int rc = o->swap ? swap_state(r, o, &st, note) : read_state(r, &st, note);

	if (rc == E_CANCELED || hopeless(rc))
		return rc;
	ev.coord.op = o->op;
	ev.coord.config = config_of(&st);
	ev.coord.outcome = o->swap ? REPLICA_SWAPPED : REPLICA_THERE;
	if (rc == E_CONFLICT)
		ev.coord.outcome = REPLICA_CONFLICT;
	else if (rc < 0)
		ev.coord.outcome = REPLICA_UNANSWERED;
	/* the core asks again at once: not in a circle without end */
	if (ev.coord.outcome == REPLICA_UNANSWERED &&
		(rc = fiber_sleep(sys_after(r->sys, REPLICATE_AGAIN_NS))) < 0)
		return rc;
	replicate_step(r, &ev);
	return 0;
}

int coord_run(void *arg)
{
	struct replicate *r = arg;
	struct err_note note;
	struct coord_op o;
	int rc = 0;

	while (rc == 0) {
		fiber_note(0, "replica: has nothing to ask of coord");
		if (!r->asked.wanted) {
			rc = waitq_wait(&r->coord_q, FOREVER);
			continue;
		}
		o = r->asked;
		r->asked.wanted = false;
		rc = ask(r, &o, &note);
	}
	if (rc != E_CANCELED)
		replicate_fail(r, rc, &note);
	return rc;
}

/* ---- nodes ---- */
static bool has_role(const char *roles, const char *role)
{
	size_t len = strlen(role);

	for (const char *p = roles; p != NULL; p = strchr(p, ',')) {
		p += *p == ',';
		if (strncmp(p, role, len) == 0 && (p[len] == ',' || p[len] == '\0'))
			return true;
	}
	return false;
}

const struct coord_node *node_of(const struct replicate *r, uint64_t id)
{
	for (uint32_t i = 0; i < r->n_nodes; i++)
		if (r->nodes[i].id == id)
			return &r->nodes[i];
	return NULL;
}

static bool is_new(const struct replicate *r, const struct coord_node *n)
{
	for (uint32_t i = 0; i < r->n_nodes; i++)
		if (strcmp(r->nodes[i].address, n->address) == 0)
			return false;
	return true;
}

/* The list is replaced only after all of it was looked at. */
static bool nodes_keep(struct replicate *r, const struct coord_node *nodes, uint32_t n)
{
	const struct coord_node *kept[REPLICATE_NODES_MAX];
	uint32_t n_kept = 0;
	bool any_new = false;

	for (uint32_t i = 0; i < n && n_kept < REPLICATE_NODES_MAX; i++) {
		if (!has_role(nodes[i].role, "meta") || has_role(nodes[i].role, "removed"))
			continue;
		any_new = any_new || (nodes[i].id != r->id && is_new(r, &nodes[i]));
		kept[n_kept++] = &nodes[i];
	}
	for (uint32_t i = 0; i < n_kept; i++)
		r->nodes[i] = *kept[i];
	r->n_nodes = n_kept;
	return any_new;
}

int nodes_read(struct replicate *r)
{
	uint64_t until_ns = sys_after(r->sys, REPLICATE_COORD_NS);
	struct coord_node *nodes;
	struct err_note note;
	uint32_t n;
	bool any_new;
	int rc = coord_nodes(r->coord, until_ns, &nodes, &n, &note);

	if (rc < 0) /* those that are known stay */
		return rc == E_CANCELED ? rc : 0;
	any_new = nodes_keep(r, nodes, n);
	free(nodes);
	peers_set(r);
	if (any_new && r->lent && !r->stopped && r->calls.nodes != NULL)
		r->calls.nodes(r->arg);
	return 0;
}

int nodes_run(void *arg)
{
	struct replicate *r = arg;
	uint64_t seen = 0;
	int rc = 0;

	while (rc != E_CANCELED) {
		uint64_t next_ns = sys_after(r->sys, REPLICATE_AGAIN_NS);

		fiber_note(0, "replica: waits for nodes to come and go");
		rc = coord_wait(r->coord, &seen, sys_after(r->sys, REPLICATE_NODES_NS));
		if (rc != E_CANCELED) /* hints may come in any number */
			rc = fiber_sleep(next_ns);
		if (rc != E_CANCELED)
			rc = nodes_read(r);
	}
	return rc;
}
