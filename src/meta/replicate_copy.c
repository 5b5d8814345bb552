/* SPDX-License-Identifier: Apache-2.0 */
/* Sending a copy of the tree to a replica whose log is too far behind, or not a beginning of ours.
 *
 * The rows go in pieces, in order, each with the epoch (R12), over a connection of their own: what
 * replicas say to each other does not wait for them.  One copy is sent at a time. */
#include "base/check.h"
#include "base/hash.h"
#include "meta/memtable.h"
#include "meta/record.h"
#include "meta/replicate_own.h"
#include "meta/tree.h"
#include <stdio.h>
#include <stdlib.h>

enum {
	SILENT_TIMES = 4,
	PIECE_BYTES = 256 << 10,
	PIECE_ROOM_BYTES = PIECE_BYTES + MEMTABLE_VALUE_BYTES_MAX + 2 * MEMTABLE_KEY_BYTES_MAX,
};
#define PIECE_NS      (10 * SYS_SEC) /* for one to be taken */
#define COPY_AGAIN_NS SYS_SEC        /* after one that failed */

struct outgoing {
	struct replicate *r;
	uint64_t to, epoch, id;
	struct replica_place place;
	struct tree *tree;
	struct tree_cursor *cursor;
	struct tree_status st;
	struct rpc_conn *conn;
	uint32_t part;
	bool end, answered;
	uint8_t after[MEMTABLE_KEY_BYTES_MAX + 1]; /* the least key that was not sent */
	size_t after_len, len;
	uint8_t room[PIECE_ROOM_BYTES];
};

/* ---- pieces ---- */
static int fill(struct outgoing *o, struct err_note *note)
{
	struct bytes key, value;
	int rc = 1;

	o->len = 0;
	tree_cursor_seek(o->cursor, bytes_of(o->after, o->after_len));
	while (o->len < PIECE_BYTES && (rc = tree_cursor_next(o->cursor, &key, &value)) == 1) {
		check(key.len < sizeof o->after);
		check(o->len + effect_bytes(key, value) <= sizeof o->room);
		effect_put(o->room + o->len, EFFECT_PUT, key, value);
		o->len += effect_bytes(key, value);
		memcpy(o->after, key.p, key.len);
		o->after[key.len] = 0;
		o->after_len = key.len + 1;
	}
	o->end = rc == 0;
	return rc < 0 ? err_set(note, rc, "a row of the copy that is sent") : 0;
}

static bool still_leads(const struct outgoing *o)
{
	return o->r->core.state.now == REPLICA_PRIMARY && o->r->core.mark.epoch == o->epoch &&
	       !o->r->ended;
}

static bool is_silent(const struct outgoing *o)
{
	const struct replica *c = &o->r->core;

	for (uint32_t i = 0; i < c->n_peers; i++)
		if (c->peers[i].id == o->to)
			return c->now_ns - c->peers[i].seen_ns >
			       SILENT_TIMES * o->r->limits.silent_ns;
	return true;
}

static void answered(void *arg)
{
	struct outgoing *o = arg;

	o->answered = true;
	waitq_wake_all(&o->r->changed);
}

/* Others may wait for a copy, too: not long for one who does not speak any more. */
static PARKS int wait_answer(struct outgoing *o, struct err_note *note)
{
	uint64_t until_ns = sys_after(o->r->sys, PIECE_NS);
	int rc = 0;

	while (rc == 0 && !o->answered) {
		if (!still_leads(o))
			return err_set(note, E_NOTPRIMARY, "another replica leads");
		if (is_silent(o) || sys_now_ns(o->r->sys) >= until_ns)
			return err_set(note, E_TIMEOUT, "it does not answer");
		rc = waitq_wait(&o->r->changed, sys_after(o->r->sys, REPLICATE_AGAIN_NS));
		rc = rc == E_TIMEOUT ? 0 : rc;
	}
	return rc;
}

static PARKS int send_piece(struct outgoing *o, struct err_note *note)
{
	struct msg_replica_copy m = { .shard = o->r->shard,
		.from = o->r->id,
		.to = o->to,
		.epoch = o->epoch,
		.copy = o->id,
		.part = o->part++,
		.last = o->end,
		.index = o->place.index,
		.place_epoch = o->place.epoch,
		.place_chain = o->place.chain,
		.rows = o->st.rows,
		.content = o->st.content,
		.sum = hash64(o->id, o->room, o->len) };
	struct rpc_call call = { .op = OP_replica_copy,
		.plain = true,
		.msg = &m,
		.data = bytes_of(o->room, o->len),
		.done = answered,
		.done_arg = o };
	int rc;

	o->answered = false;
	if ((rc = rpc_start(o->conn, &call)) < 0)
		return err_set(note, rc, "%s", call.note.text);
	rc = wait_answer(o, note);
	if (!o->answered) {
		rpc_close(o->conn);
		o->conn = NULL;
		check(o->answered);
	}
	if (rc == 0 && (rc = call.rc) < 0)
		err_set(note, rc, "%s", call.note.text);
	rpc_call_fini(&call);
	return rc;
}

static PARKS int send_pieces(struct outgoing *o, struct err_note *note)
{
	int rc = 0;

	tree_status(o->tree, &o->st);
	o->cursor = tree_cursor_new(o->tree);
	if (o->cursor == NULL)
		return E_NOMEM;
	while (rc == 0 && !o->end) {
		if (!still_leads(o))
			rc = err_set(note, E_NOTPRIMARY, "another replica leads");
		if (rc == 0)
			rc = fill(o, note);
		if (rc == 0)
			rc = send_piece(o, note);
	}
	tree_cursor_free(o->cursor);
	return rc;
}

/* ---- a copy ---- */
static PARKS int connect(struct outgoing *o, struct group *g, struct err_note *note)
{
	const struct coord_node *n = node_of(o->r, o->to);
	char addr[SYS_ADDR_MAX];
	struct rpc_connect c = { .addr = addr,
		.group = g,
		.hello = { .role = ROLE_REPLICA,
			.token = bytes_of(o->r->token, o->r->token_len),
			.name = BYTES("copy of a tree") } };
	struct msg_hello_ok ok;

	if (n == NULL)
		return err_set(note, E_NOTFOUND, "it is no node any more");
	snprintf(addr, sizeof addr, "%s", n->address);
	return rpc_connect(o->r->sys, &c, sys_after(o->r->sys, PEER_CONNECT_NS), &o->conn, &ok,
		note);
}

static PARKS int send_tree(struct outgoing *o, struct err_note *note)
{
	struct group g;
	int rc;

	group_init(&g, sys_loop(o->r->sys));
	g.keep_going = true;
	rc = connect(o, &g, note);
	if (rc == 0) {
		rc = send_pieces(o, note);
		rpc_close(o->conn);
	}
	group_cancel(&g);
	(void)group_wait(&g);
	return rc;
}

static PARKS int copy_to(struct outgoing *o, struct err_note *note)
{
	struct db *db = o->r->db;
	uint64_t index;
	int rc = db_copy_tree(db, &o->tree, &index, note);

	if (rc < 0)
		return rc;
	if (!replicate_log_at(o->r, index, &o->place))
		rc = err_set(note, E_GONE, "the log does not reach back to the tree");
	sys_reached(o->r->sys, "replicate: a copy of the tree is sent");
	if (rc == 0)
		rc = send_tree(o, note);
	db_copy_done(db, o->tree);
	return rc;
}

/* Others, and commits, may wait for it: it is not at fault. */
static PARKS int not_yet(struct replicate *r, struct replica_event *ev)
{
	int rc = fiber_sleep(sys_after(r->sys, REPLICATE_AGAIN_NS));

	if (rc == 0)
		replicate_step(r, ev);
	return rc;
}

static PARKS int copy_one(struct replicate *r, uint64_t id)
{
	struct replica_event ev = { .kind = REPLICA_EV_COPY_SENT, .peer = id };
	struct outgoing *o = calloc(1, sizeof *o);
	struct err_note note = { "" };
	char line[400];
	int rc;

	check(o != NULL);
	o->r = r;
	o->to = id;
	o->epoch = r->core.mark.epoch;
	o->id = sys_random(r->sys);
	rc = still_leads(o) ? copy_to(o, &note) : 0;
	free(o);
	if (rc == E_EXISTS) /* it was only to be told where to go on from */
		rc = 0;
	if (rc == E_BUSY || rc == E_STALE) /* it still takes the last one, or has not read coord */
		return not_yet(r, &ev);
	if (rc < 0 && rc != E_CANCELED) {
		snprintf(line, sizeof line, "replica %llu of shard %u: no copy for %llu: %s",
			(unsigned long long)r->id, r->shard, (unsigned long long)id, note.text);
		sys_log(r->sys, line);
		rc = fiber_sleep(sys_after(r->sys, COPY_AGAIN_NS));
	}
	if (rc == 0)
		replicate_step(r, &ev);
	return rc;
}

void copy_ask(struct replicate *r, uint64_t id)
{
	for (uint32_t i = 0; i < r->n_copies; i++)
		if (r->copies[i] == id)
			return;
	check(r->n_copies < REPLICATE_NODES_MAX);
	r->copies[r->n_copies++] = id;
	waitq_wake_one(&r->copies_q);
}

int copy_run(void *arg)
{
	struct replicate *r = arg;
	int rc = 0;

	while (rc == 0) {
		uint64_t id;

		fiber_note(0, "replica: has no copy to send");
		if (r->n_copies == 0) {
			rc = waitq_wait(&r->copies_q, FOREVER);
			continue;
		}
		id = r->copies[0];
		memmove(r->copies, r->copies + 1, --r->n_copies * sizeof r->copies[0]);
		r->copying = true;
		rc = copy_one(r, id);
		r->copying = false;
		waitq_wake_all(&r->quiet);
	}
	return rc;
}
