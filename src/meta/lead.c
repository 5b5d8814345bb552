/* SPDX-License-Identifier: Apache-2.0 */
/* Who is let in, and what happens when this replica begins and ends to lead.
 *
 *   lead()   shard and guest are made of the rows, clients are let in
 *   stop()   the shard refuses, nothing is released, connections of clients are shut
 *   leave()  when the last of them has gone: guest and shard are freed, the rows given back
 *
 * Connections of replicas outlast all of it. */
#include "coord/embedded.h"
#include "meta/serve_own.h"
#include <stdlib.h>
#include <string.h>

enum { READY_POLL_MS = 5, SETTLE_AGAIN_MS = 1000 };

/* ---- answers without a lease (R8) ---- */
static struct rpc_gate unsettled(struct serve *v, uint64_t seen, bool sync)
{
	if (seen > v->unsettled_seen)
		v->unsettled_seen = seen;
	v->unsettled_sync |= sync;
	waitq_wake_one(&v->unsettled_q);
	return (struct rpc_gate){ ++v->unsettled, RPC_SETTLED };
}

struct rpc_gate serve_gate(struct serve *v, uint64_t seen, bool sync)
{
	if (!sync && seen > 0)
		shard_want_written(v->sh, seen);
	if (replicate_may_read(v->r) || seen > v->sealed)
		return (struct rpc_gate){ seen, sync ? RPC_SYNCED : RPC_WRITTEN };
	return unsettled(v, seen, sync);
}

/* All that were there when it looked, at once. */
static PARKS int settle_some(struct serve *v)
{
	struct shard_call c = { .sync = v->unsettled_sync };
	uint64_t to = v->unsettled, until_ns = sys_after(v->sys, SETTLE_AGAIN_MS * SYS_MS);
	int rc;

	check(v->unsettled_seen <= shard_seen(v->sh));
	v->unsettled_sync = false;
	rc = replicate_read_settle(v->r, sys_now_ns(v->sys), until_ns);
	if (rc == 0)
		rc = shard_settle(v->sh, &c, until_ns);
	if (rc == 0) {
		v->settled = to;
		rpc_release_settled(v->server, to);
		return 0;
	}
	v->unsettled_sync |= c.sync;
	return rc == E_TIMEOUT ? 0 : rc;
}

/* Ends with the lead: what is not settled by then never goes out. */
static PARKS int settler(void *arg)
{
	struct serve *v = arg;
	int rc = 0;

	fiber_note(0, "settles answers that were made without a lease");
	while (rc == 0)
		rc = v->settled < v->unsettled ? settle_some(v)
			: waitq_wait(&v->unsettled_q, FOREVER);
	return 0;
}

/* ---- leading ---- */
static bool spread(void *arg)
{
	const struct serve *v = arg;

	return v->r != NULL && replicate_size(v->r) > 1;
}

static bool yields(void *arg)
{
	const struct serve *v = arg;

	return v->r != NULL && replicate_yields(v->r);
}

static PARKS int enter(struct serve *v, struct db *db, uint64_t epoch, struct err_note *note)
{
	const struct serve_guest *g = v->opts.guest;
	struct shard_opts o = { .slab_bytes = v->opts.slab_bytes, .epoch = epoch,
		.spread = spread,
		.yields = yields,
		.arg = v };
	int rc = shard_open(v->sys, db, &o, &v->sh, note);

	group_init(&v->settler, sys_loop(v->sys));
	if (rc == 0 && g != NULL)
		rc = g->begin(v->opts.guest_arg, v, &v->guest, note);
	if (rc == 0 && fiber_start(&v->settler, "settler", settler, v) < 0)
		rc = err_set(note, E_BUSY, "no fiber left");
	return rc;
}

/* The end of enter(), however far it came. */
static PARKS void clear(struct serve *v)
{
	check(list_empty(&v->clients)); /* (L1) */
	group_cancel(&v->settler);
	(void)group_wait(&v->settler);
	v->settled = v->unsettled; /* (L2) */
	v->unsettled_sync = false;
	v->unsettled_seen = 0;
	if (v->guest != NULL)
		v->opts.guest->end(v->guest);
	v->guest = NULL;
	shard_close(v->sh); /* told of records to its end */
	v->sh = NULL;
}

static PARKS int lead(void *arg, struct db *db, uint64_t epoch, struct err_note *note)
{
	struct serve *v = arg;
	int rc;

	check(v->sh == NULL);
	if (v->closing)
		return 0;
	v->entering = true;
	rc = enter(v, db, epoch, note);
	if (rc < 0)
		clear(v);
	v->entering = false;
	v->leads = rc == 0 && shard_failed(v->sh) == 0 && !v->closing;
	waitq_wake_all(&v->news);
	return rc;
}

static void hang_up(struct serve *v)
{
	list_each (it, &v->clients) {
		struct conn *conn = container_of(it, struct conn, link);
		struct sys_stream *stream = rpc_conn_stream(conn->rpc);

		if (stream != NULL)
			sys_stream_shut(stream);
	}
}

static void turn_away(struct serve *v)
{
	v->leads = false;
	hang_up(v);
	waitq_wake_all(&v->news);
}

/* Who is connected knows only the nodes of its hello, and could not follow the lead to this one:
 * they come back at once, repeat what was not answered, and learn of it. */
static void nodes(void *arg)
{
	struct serve *v = arg;

	sys_reached(v->sys, "clients called again: another node is there");
	hang_up(v);
}

static void stop(void *arg)
{
	struct serve *v = arg;

	if (v->sh != NULL)
		shard_stop(v->sh, E_NOTPRIMARY);
	turn_away(v);
}

static PARKS void leave(void *arg)
{
	struct serve *v = arg;

	fiber_shield(FOREVER); /* ends: the connections are shut, and lead() comes to an end */
	while (v->entering || v->giving)
		waitq_wait(&v->news, FOREVER);
	if (v->sh != NULL) {
		v->giving = true;
		turn_away(v);
		while (!list_empty(&v->clients))
			waitq_wait(&v->news, FOREVER);
		clear(v);
		v->giving = false;
		waitq_wake_all(&v->news);
	}
	fiber_unshield();
}

static void sealing(void *arg)
{
	struct serve *v = arg;

	if (v->sh == NULL)
		return;
	shard_sealing(v->sh);
	v->sealed = shard_seen(v->sh);
}

static void moved(void *arg, uint64_t written, uint64_t synced)
{
	struct serve *v = arg;

	v->written = written;
	v->synced = synced;
	if (v->sh == NULL || shard_failed(v->sh) != 0) /* (L2) */
		return;
	shard_moved(v->sh, written, synced);
	if (v->server != NULL)
		rpc_release(v->server, written, synced);
}

static void failed(void *arg, int rc, const struct err_note *note)
{
	struct serve *v = arg;

	if (v->sh != NULL)
		shard_stop(v->sh, rc);
	if (v->opts.failed != NULL)
		v->opts.failed(v->opts.arg, rc, note);
}

/* ---- who connects ---- */
static bool same_secret(struct bytes a, struct bytes b)
{
	uint8_t differ = 0;

	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++)
		differ |= a.p[i] ^ b.p[i];
	return differ == 0;
}

/* Another process of this user on this machine. */
static int who_is_near(const struct serve *v, const struct sys_stream *stream,
	struct principal *ret_who, struct err_note *note)
{
	if (stream == NULL || !sys_stream_local(stream))
		return err_set(note, E_DENIED, "a token is needed");
	if (sys_stream_uid(stream) != sys_uid(v->sys))
		return err_set(note, E_DENIED, "another user's server: a token is needed");
	*ret_who = (struct principal){ .admin = true };
	return 0;
}

static int who_is(const struct serve *v, struct rpc_conn *rc, const struct msg_hello *h,
	struct principal *ret_who, struct err_note *note)
{
	const struct serve_guest *g = v->opts.guest;

	if (h->token.len == 0)
		return who_is_near(v, rpc_conn_stream(rc), ret_who, note);
	if (g != NULL && g->resolve != NULL)
		return g->resolve(v->guest, h->token, ret_who, note);
	if (v->opts.auth != NULL)
		return v->opts.auth->resolve(v->opts.auth->arg, h->token, ret_who, note);
	return err_set(note, E_DENIED, "the token is nobody's");
}

/* The cluster's key, or the certificate of a node. */
static int replica_is(const struct serve *v, struct rpc_conn *rc, const struct msg_hello *h,
	struct principal *ret_who, struct err_note *note)
{
	const struct sys_stream *stream = rpc_conn_stream(rc);
	const struct sys_cert *cert = stream != NULL ? sys_stream_cert(stream) : NULL;
	struct bytes token = v->opts.replica.token;

	*ret_who = (struct principal){ .admin = true };
	if (h->token.len == 0 && cert != NULL && strncmp(cert->id, "node:", 5) == 0)
		return 0;
	if (h->token.len == 0)
		return who_is_near(v, stream, ret_who, note);
	if (token.len > 0 && same_secret(h->token, token))
		return 0;
	return err_set(note, E_DENIED, "only with the cluster's key");
}

static bool undecided(struct serve *v, char ret_hint[SYS_ADDR_MAX])
{
	if (v->leads || v->closing || v->giving)
		return false;
	replicate_hint(v->r, ret_hint);
	return v->entering || ret_hint[0] == '\0';
}

int serve_ready(struct serve *v, uint64_t until_ns)
{
	char hint[SYS_ADDR_MAX];

	while (undecided(v, hint)) {
		uint64_t soon_ns = sys_after(v->sys, READY_POLL_MS * SYS_MS);
		int rc = waitq_wait(&v->news, soon_ns < until_ns ? soon_ns : until_ns);

		if (rc < 0 && (rc != E_TIMEOUT || soon_ns >= until_ns))
			return rc;
	}
	return 0;
}

/* R8: what is told at the door, that a token is good and which changes of a session are known, is
 * read from rows, too. */
static bool surely_leads(const struct serve *v)
{
	return v->leads && (v->r == NULL || replicate_may_read(v->r));
}

static PARKS int may_enter(struct serve *v, char ret_hint[SYS_ADDR_MAX], struct err_note *note)
{
	uint64_t until_ns = sys_after(v->sys, SERVE_HELLO_MS * SYS_MS);

	(void)serve_ready(v, until_ns);
	while (v->leads && !surely_leads(v) && sys_now_ns(v->sys) < until_ns &&
		fiber_sleep(sys_after(v->sys, READY_POLL_MS * SYS_MS)) == 0)
		sys_reached(v->sys, "let in only when it surely leads");
	if (surely_leads(v))
		return 0;
	if (v->r != NULL && !v->leads)
		replicate_hint(v->r, ret_hint);
	return err_set(note, E_NOTPRIMARY, "this node does not lead the shard");
}

static void tell_nodes(struct serve *v, uint16_t version, struct msg_hello_ok *ret_ok)
{
	struct wire_list_builder l = wire_list_begin(v->nodes, sizeof v->nodes, version);
	uint32_t n = replicate_nodes(v->r, v->addrs, SERVE_NODES_MAX);

	for (uint32_t i = 0; i < n; i++) {
		struct sub_node_addr a = { bytes_of(v->addrs[i], strlen(v->addrs[i])) };
		bool fits = sub_node_addr_add(&l, &a);

		check(fits);
	}
	ret_ok->nodes = wire_list_end(&l);
}

static int let_in(struct serve *v, struct conn *conn, const struct msg_hello *h,
	struct msg_hello_ok *ret_ok, struct err_note *note)
{
	const struct serve_guest *g = v->opts.guest;
	int rc = who_is(v, conn->rpc, h, &conn->who, note);

	if (rc == 0 && (h->client_hi != 0 || h->client_lo != 0)) {
		rc = session_open(v->sh, &conn->who, h->client_hi, h->client_lo, &conn->session);
		if (rc < 0)
			err_set(note, rc, "the client's session cannot be opened");
	}
	if (rc == 0 && g != NULL)
		rc = g->opened(v->guest, conn->rpc, &conn->who, conn->session, note);
	if (rc < 0) {
		session_close(v->sh, conn->session);
		return rc;
	}
	list_push(&v->clients, &conn->link);
	ret_ok->incarnation = shard_life(v->sh);
	ret_ok->job = conn->who.admin ? 0 : conn->who.job;
	ret_ok->last_number = conn->session != NULL ? session_last_number(conn->session) : 0;
	return 0;
}

static PARKS int hello(void *arg, struct rpc_conn *c, const struct msg_hello *h,
	struct msg_hello_ok *ret_ok, char ret_hint[SYS_ADDR_MAX], struct err_note *note)
{
	struct conn *conn = calloc(1, sizeof *conn);
	struct serve *v = arg;
	int rc;

	if (conn == NULL)
		return err_set(note, E_NOMEM, "no memory for a connection");
	conn->rpc = c;
	conn->replica = h->role == ROLE_REPLICA;
	list_init(&conn->link);
	list_init(&conn->laters);
	if (conn->replica)
		rc = replica_is(v, c, h, &conn->who, note);
	else if ((rc = may_enter(v, ret_hint, note)) == 0)
		rc = let_in(v, conn, h, ret_ok, note);
	if (rc < 0) {
		free(conn);
		return rc;
	}
	if (v->r != NULL)
		tell_nodes(v, rpc_conn_version(c), ret_ok);
	rpc_conn_set(c, conn);
	return 0;
}

static void lost(void *arg, struct rpc_conn *c)
{
	struct conn *conn = rpc_conn_get(c);
	struct serve *v = arg;

	if (conn->replica)
		return;
	if (v->guest != NULL)
		v->opts.guest->lost(v->guest, c);
	laters_lost(conn);
}

static void closed(void *arg, struct rpc_conn *c)
{
	struct conn *conn = rpc_conn_get(c);
	struct serve *v = arg;

	check(list_empty(&conn->laters));
	if (!conn->replica) {
		check(v->sh != NULL); /* (L1) */
		if (v->guest != NULL)
			v->opts.guest->closed(v->guest, c);
		session_close(v->sh, conn->session);
	}
	list_remove(&conn->link);
	free(conn);
	waitq_wake_all(&v->news);
}

/* ---- requests of others ---- */
/* Every handler gets the service's argument: these hand a request on with its owner's. */
static const struct rpc_op *op_of(const struct rpc_op *ops, size_t n, uint16_t op)
{
	for (size_t i = 0; i < n; i++)
		if (ops[i].op == op)
			return &ops[i];
	check(false);
	return NULL;
}

static PARKS void on_guest(void *arg, struct rpc_request *r)
{
	const struct conn *conn = rpc_conn_get(r->conn);
	struct serve *v = arg;
	struct err_note note;

	if (conn->replica) {
		deny_replica(r);
	} else if (shard_failed(v->sh) == E_NOTPRIMARY) {
		err_set(&note, E_NOTPRIMARY, "another replica leads");
		rpc_reply_error(r, E_NOTPRIMARY, &note, RPC_NOW);
	} else {
		op_of(v->opts.guest->ops, v->opts.guest->n_ops, r->op)->handle(v->guest, r);
	}
}

static PARKS void on_other(void *arg, struct rpc_request *r)
{
	const struct conn *conn = rpc_conn_get(r->conn);
	struct serve *v = arg;
	struct err_note note;

	if (!conn->who.admin) {
		err_set(&note, E_DENIED, "only with the cluster's key");
		rpc_reply_error(r, E_DENIED, &note, RPC_NOW);
		return;
	}
	op_of(v->opts.ops, v->opts.n_ops, r->op)->handle(v->opts.ops_arg, r);
}

static PARKS void on_replica(void *arg, struct rpc_request *r)
{
	const struct conn *conn = rpc_conn_get(r->conn);
	struct serve *v = arg;
	struct err_note note;

	if (conn->replica && v->r != NULL) {
		if (r->op == OP_replica_say)
			replicate_on_say(v->r, r);
		else
			replicate_on_copy(v->r, r);
		return;
	}
	err_set(&note, E_DENIED, "only between replicas that serve");
	rpc_reply_error(r, E_DENIED, &note, RPC_NOW);
}

static void add_ops(struct serve *v, const struct rpc_op *ops, size_t n, rpc_handler *handle)
{
	check(v->service.n_ops + n <= SERVE_OPS_MAX);
	for (size_t i = 0; i < n; i++) {
		struct rpc_op op = ops[i];

		if (handle != NULL)
			op.handle = handle;
		v->ops[v->service.n_ops++] = op;
	}
}

/* ---- life ---- */
static void init(struct serve *v, struct sys *s, const struct serve_opts *o)
{
	static const struct rpc_op replica_ops[] = {
		{ OP_replica_say, RPC_STREAM, on_replica },
		{ OP_replica_copy, RPC_FIBER, on_replica },
	};

	v->sys = s;
	v->opts = *o;
	v->service = (struct rpc_service){ .ops = v->ops,
		.arg = v,
		.hello = hello,
		.lost = lost,
		.closed = closed };
	add_ops(v, shard_ops, shard_n_ops, NULL);
	add_ops(v, replica_ops, sizeof replica_ops / sizeof replica_ops[0], NULL);
	if (o->guest != NULL)
		add_ops(v, o->guest->ops, o->guest->n_ops, on_guest);
	add_ops(v, o->ops, o->n_ops, on_other);
	list_init(&v->clients);
	waitq_init(&v->news);
	waitq_init(&v->unsettled_q);
	group_init(&v->laters, sys_loop(s));
	v->laters.keep_going = true;
}

/* Who leads is known to this machine alone. */
static PARKS int coord_of_its_own(struct serve *v, struct err_note *note)
{
	struct replicate_opts *o = &v->opts.replica;
	char moved_to[COORD_URL_MAX];
	int rc = sys_mkdir(v->sys, o->dir, note);

	if (rc < 0 && rc != E_EXISTS)
		return rc;
	rc = coord_embedded_open(v->sys, o->dir, true, &v->coord, moved_to, note);
	if (rc == E_GONE)
		return err_set(note, rc, "who leads is kept in %s: --coord", moved_to);
	if (rc < 0)
		return rc;
	o->coord = v->coord;
	o->id = o->id != 0 ? o->id : 1;
	o->first_target = 1;
	return 0;
}

static PARKS int open_all(struct serve *v, struct err_note *note)
{
	static const struct replicate_calls calls = { .lead = lead,
		.nodes = nodes,
		.stop = stop,
		.leave = leave,
		.sealing = sealing,
		.moved = moved,
		.failed = failed };
	int rc = v->opts.replica.coord == NULL ? coord_of_its_own(v, note) : 0;

	if (rc < 0)
		return rc;
	v->opts.replica.calls = &calls;
	v->opts.replica.arg = v;
	rc = rpc_server_new(v->sys, &v->service, &v->server);
	if (rc < 0)
		return err_set(note, rc, "no room for a server");
	return replicate_open(v->sys, &v->opts.replica, &v->r, note);
}

static PARKS int close_all(struct serve *v, struct err_note *note)
{
	uint64_t stop_ms = v->opts.stop_ms != 0 ? v->opts.stop_ms : SERVE_STOP_MS;
	int rc;

	v->closing = true;
	leave(v); /* while this replica may still write what is left to say */
	rc = replicate_close(v->r, sys_after(v->sys, stop_ms * SYS_MS), note);
	v->r = NULL;
	rpc_server_free(v->server);
	(void)group_wait(&v->laters);
	coord_close(v->coord);
	free(v);
	return rc;
}

int serve_open(
	struct sys *s, const struct serve_opts *o, struct serve **ret_v, struct err_note *note)
{
	struct serve *v = calloc(1, sizeof *v);
	int rc;

	if (v == NULL)
		return err_set(note, E_NOMEM, "no memory for a server");
	init(v, s, o);
	if ((rc = open_all(v, note)) < 0) {
		(void)close_all(v, NULL);
		return rc;
	}
	*ret_v = v;
	return 0;
}

int serve_listen(struct serve *v, const char *addr, const char **ret_bound, struct err_note *note)
{
	return rpc_server_listen(v->server, addr, ret_bound, note);
}

int serve_close(struct serve *v, struct err_note *note)
{
	return v != NULL ? close_all(v, note) : 0;
}

struct sys *serve_sys(const struct serve *v) { return v->sys; }
struct shard *serve_shard(struct serve *v) { return v->sh; }
struct replicate *serve_replicate(struct serve *v) { return v->r; }
