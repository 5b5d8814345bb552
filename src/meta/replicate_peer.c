/* SPDX-License-Identifier: Apache-2.0 */
/* Talking to another replica: one fiber and one connection for each.
 *
 * What is said may be lost: the core says it again.  So nothing waits for long: while there is no
 * connection only the newest words are kept, of heartbeats only the last, and what is under way is
 * bounded in number and bytes.  Records are sent from memory, or else read from the log. */
#include "base/check.h"
#include "meta/log.h"
#include "meta/replicate_own.h"
#include <stdio.h>
#include <stdlib.h>

struct say {
	struct list link;
	struct peer *p;
	struct replica_msg msg;
	struct replica_places room; /* places of an append, from the log as it was */
	struct tail_record *payloads[REPLICA_BATCH_MAX]; /* NULL: to be read */
	size_t bytes;           /* of those in memory; then: of data */
	uint64_t until_ns;      /* for the answer */
	uint8_t *data;
	struct msg_replica_say body;
	struct rpc_call call;
};
enum { PEER_IDLE_MAX = 64, SAY_ROOM_BYTES = 512 };

/* ---- words ---- */
static struct say *say_new(struct peer *p)
{
	struct list *n = list_pop(&p->idle);
	struct say *s;

	if (n != NULL) {
		p->n_idle--;
		s = container_of(n, struct say, link);
	} else {
		s = calloc(1, sizeof *s);
		check(s != NULL);
	}
	list_init(&s->link);
	s->p = p;
	s->bytes = 0;
	s->data = NULL;
	s->msg.n = 0;
	return s;
}

static void say_free(struct say *s)
{
	struct peer *p = s->p;

	for (uint32_t i = 0; i < s->msg.n; i++)
		tail_unref(s->payloads[i]);
	free(s->data);
	s->data = NULL;
	s->msg.n = 0;
	if (p->n_idle == PEER_IDLE_MAX) {
		free(s);
		return;
	}
	p->n_idle++;
	list_push(&p->idle, &s->link);
}

static void unqueue(struct peer *p, struct say *s)
{
	check(p->n_queued > 0);
	check(p->queued_bytes >= s->bytes);
	list_remove(&s->link);
	p->n_queued--;
	p->queued_bytes -= s->bytes;
}

static void queue(struct peer *p, struct say *s, bool first)
{
	if (first)
		list_add_before(p->queued.next, &s->link);
	else
		list_push(&p->queued, &s->link);
	p->n_queued++;
	p->queued_bytes += s->bytes;
}

static struct say *first_queued(const struct peer *p)
{
	return list_empty(&p->queued) ? NULL : container_of(p->queued.next, struct say, link);
}

static void forget_queued(struct peer *p)
{
	struct say *s;

	while ((s = first_queued(p)) != NULL) {
		unqueue(p, s);
		say_free(s);
	}
}

/* The records of an append, as they are in the log now. */
static void note_records(struct replicate *r, struct say *s, const struct replica_msg *m)
{
	for (uint32_t i = 0; i < m->n; i++) {
		uint64_t index = m->prev.index + 1 + i;
		struct tail_record *t = db_recent(r->db, index);

		check(replicate_log_at(r, index, &s->room.at[i]));
		s->payloads[i] = t;
		if (t == NULL)
			continue;
		tail_ref(t);
		s->bytes += t->len;
	}
	s->msg.places = s->room.at;
}

static bool replaces(struct peer *p, const struct replica_msg *m)
{
	if (m->kind != REPLICA_HEARTBEAT)
		return false;
	list_each (n, &p->queued) {
		struct say *s = container_of(n, struct say, link);

		if (s->msg.kind == REPLICA_HEARTBEAT) {
			s->msg = *m;
			return true;
		}
	}
	return false;
}

void peer_say(struct replicate *r, const struct replica_msg *m)
{
	struct peer *p = peer_of(r, m->to.id);
	struct say *s;

	if (p == NULL || r->installing || replaces(p, m)) /* (I1) */
		return;
	while (p->conn == NULL && p->n_queued >= PEER_QUEUED_AWAY_MAX) {
		s = first_queued(p);
		unqueue(p, s);
		say_free(s);
	}
	if (p->n_queued >= PEER_QUEUED_MAX || p->queued_bytes > PEER_QUEUED_BYTES_MAX)
		return;
	s = say_new(p);
	s->msg = *m;
	s->msg.places = NULL;
	if (m->kind != REPLICA_APPEND)
		s->msg.n = 0;
	note_records(r, s, &s->msg);
	queue(p, s, false);
	waitq_wake_one(&p->work);
}

/* ---- records from the log ---- */
static PARKS int reader_at(struct peer *p, uint64_t index, struct err_note *note)
{
	struct log *log = db_log(p->r->db);

	if (p->reader != NULL && log_reader_place(p->reader).index == index)
		return 0;
	log_reader_close(p->reader);
	p->reader = NULL;
	if (index > log_index(log))
		return E_GONE;
	sys_reached(p->r->sys, "replicate: records for another replica read from the log");
	return log_reader_open(log, index, &p->reader, note);
}

/* Record i, when it is still the one that was to be sent.  E_GONE: it is not. */
static PARKS int read_record(struct peer *p, const struct say *s, uint32_t i, struct bytes *ret_b,
	struct err_note *note)
{
	const struct replica_place *want = &s->room.at[i];
	struct log_place at;
	int rc = reader_at(p, want->index - 1, note);

	if (rc == 0)
		rc = log_read(p->reader, ret_b, note);
	if (rc != 1) {
		log_reader_close(p->reader);
		p->reader = NULL;
		if (rc == E_CORRUPT) /* it is made anew; then a copy is what helps */
			db_log_rotten(p->r->db, want->index);
		return rc == 0 || rc == E_CORRUPT ? E_GONE : rc;
	}
	at = log_reader_place(p->reader);
	return at.index == want->index && at.epoch == want->epoch && at.shard_chain == want->chain ?
		0 : E_GONE;
}

static void add_data(struct say *s, size_t *len, size_t *cap, struct bytes b)
{
	if (*len + b.len > *cap) {
		*cap = (*len + b.len) * 2 + SAY_ROOM_BYTES;
		s->data = realloc(s->data, *cap);
		check(s->data != NULL);
	}
	if (b.len > 0)
		memcpy(s->data + *len, b.p, b.len);
	*len += b.len;
}

static bool leads(const struct replicate *r)
{
	return r->core.state.now == REPLICA_BRINGING || r->core.state.now == REPLICA_PRIMARY;
}

/* Puts one payload behind the other, as many as one message may have; how many. */
static PARKS int gather(struct peer *p, struct say *s, uint32_t *ret_n, size_t *ret_len,
	struct err_note *note)
{
	size_t len = 0, cap = 0;
	uint32_t i;

	if (s->msg.n > 0 && !leads(p->r))
		return E_GONE;
	for (i = 0; i < s->msg.n; i++) {
		struct tail_record *t = s->payloads[i];
		struct bytes b = t != NULL ? bytes_of(t->payload, t->len) : bytes_of(NULL, 0);
		int rc = t != NULL ? 0 : read_record(p, s, i, &b, note);

		if (rc == E_GONE && i > 0)
			break;
		if (rc < 0)
			return rc;
		if (i > 0 && len + b.len > PEER_BATCH_BYTES_MAX) {
			if (t == NULL)
				log_unread(p->reader);
			break;
		}
		s->room.lens[i] = (uint32_t)b.len;
		if (s->msg.n > 1 || t == NULL)
			add_data(s, &len, &cap, b);
		else
			len = b.len;
	}
	*ret_n = i;
	*ret_len = len;
	return 0;
}

/* What did not fit, as an append of its own. */
static void split(struct peer *p, struct say *s, uint32_t n)
{
	struct say *rest;

	if (n == s->msg.n)
		return;
	rest = say_new(p);
	rest->msg = s->msg;
	rest->msg.prev = s->room.at[n - 1];
	rest->msg.n = s->msg.n - n;
	rest->msg.places = rest->room.at;
	for (uint32_t i = n; i < s->msg.n; i++) {
		rest->room.at[i - n] = s->room.at[i];
		rest->payloads[i - n] = s->payloads[i];
		rest->bytes += s->payloads[i] != NULL ? s->payloads[i]->len : 0;
	}
	s->msg.n = n;
	queue(p, rest, true);
}

/* ---- sending ---- */
static void answered(void *arg)
{
	struct say *s = arg;
	struct peer *p = s->p;

	check(p->n_under_way > 0);
	check(p->under_way_bytes >= s->bytes);
	list_remove(&s->link);
	p->n_under_way--;
	p->under_way_bytes -= s->bytes;
	rpc_call_fini(&s->call);
	say_free(s);
	waitq_wake_one(&p->work);
}

static void transmit(struct peer *p, struct say *s, size_t len)
{
	const uint8_t *data = s->data;

	if (data == NULL && s->msg.n == 1 && s->payloads[0] != NULL)
		data = s->payloads[0]->payload;
	s->msg.places = s->room.at;
	replica_say_put(&s->msg, s->room.lens, p->r->shard, rpc_conn_version(p->conn), &s->room,
		&s->body);
	s->bytes = len;
	s->until_ns = sys_after(p->r->sys, PEER_ANSWER_NS);
	s->call = (struct rpc_call){ .op = OP_replica_say,
		.plain = true,
		.msg = &s->body,
		.data = bytes_of(data, len),
		.done = answered,
		.done_arg = s };
	list_push(&p->under_way, &s->link);
	p->n_under_way++;
	p->under_way_bytes += len;
	if (rpc_start(p->conn, &s->call) < 0)
		answered(s);
}

static PARKS int send_first(struct peer *p, struct err_note *note)
{
	struct say *s = first_queued(p);
	uint32_t n = 0;
	size_t len = 0;
	int rc;

	unqueue(p, s);
	p->reading = true;
	rc = gather(p, s, &n, &len, note);
	p->reading = false;
	if (rc == 0 && p->conn != NULL && rpc_conn_open(p->conn)) {
		split(p, s, n);
		transmit(p, s, len);
		return 0;
	}
	say_free(s);
	return rc == E_GONE ? 0 : rc;
}

/* ---- the connection ---- */
static PARKS void disconnect(struct peer *p)
{
	struct rpc_conn *c = p->conn;

	p->conn = NULL;
	rpc_close(c);
	check(p->n_under_way == 0);
}

static PARKS int connect_once(struct peer *p)
{
	struct replicate *r = p->r;
	struct rpc_connect o = { .addr = p->addr,
		.group = &p->fibers,
		.hello = { .role = ROLE_REPLICA,
			.token = bytes_of(r->token, r->token_len),
			.name = bytes_of(p->name, strlen(p->name)) } };
	struct msg_hello_ok ok;
	struct err_note note;

	fiber_note(0, "replica: connects");
	return rpc_connect(r->sys, &o, sys_after(r->sys, PEER_CONNECT_NS), &p->conn, &ok, &note);
}

static PARKS int connect_or_wait(struct peer *p)
{
	int rc = connect_once(p);

	if (rc == 0) {
		p->again_ns = 0;
		return 0;
	}
	p->conn = NULL;
	if (rc == E_CANCELED)
		return rc;
	p->again_ns = p->again_ns == 0 ? PEER_AGAIN_NS : 2 * p->again_ns;
	if (p->again_ns > PEER_AGAIN_MAX_NS)
		p->again_ns = PEER_AGAIN_MAX_NS;
	fiber_note(0, "replica: waits before it connects again");
	return fiber_sleep(sys_after(p->r->sys, p->again_ns));
}

static bool stuck(const struct peer *p)
{
	const struct say *s;

	if (list_empty(&p->under_way))
		return false;
	s = container_of(p->under_way.next, struct say, link);
	return sys_now_ns(p->r->sys) >= s->until_ns;
}

static bool may_send(const struct peer *p)
{
	const struct say *s = first_queued(p);

	if (s == NULL || p->n_under_way >= PEER_UNDER_WAY_MAX)
		return false;
	return p->n_under_way == 0 || s->msg.n == 0 ||
	       p->under_way_bytes + s->bytes <= PEER_UNDER_WAY_BYTES_MAX;
}

static PARKS int one_step(struct peer *p, struct err_note *note)
{
	int rc;

	if (p->moved || (p->conn != NULL && (!rpc_conn_open(p->conn) || stuck(p)))) {
		p->moved = false;
		disconnect(p);
	}
	if (p->conn == NULL)
		return connect_or_wait(p);
	if (may_send(p))
		return send_first(p, note);
	fiber_note(0, "replica: has nothing to say to another");
	rc = waitq_wait(&p->work, sys_after(p->r->sys, PEER_ANSWER_NS));
	return rc == E_TIMEOUT ? 0 : rc;
}

static void free_idle(struct peer *p)
{
	struct list *n;

	while ((n = list_pop(&p->idle)) != NULL)
		free(container_of(n, struct say, link));
}

static int peer_run(void *arg)
{
	struct peer *p = arg;
	struct replicate *r = p->r;
	struct err_note note = { "" };
	int rc = 0;

	while (rc == 0 && !p->gone)
		rc = one_step(p, &note);
	if (rc < 0 && rc != E_CANCELED)
		replicate_fail(r, rc, &note); /* the log cannot be read */
	if (!p->gone)
		list_remove(&p->link);
	disconnect(p);
	group_cancel(&p->fibers);
	(void)group_wait(&p->fibers);
	log_reader_close(p->reader);
	forget_queued(p);
	free_idle(p);
	free(p);
	return 0;
}

/* ---- who they are ---- */
struct peer *peer_of(const struct replicate *r, uint64_t id)
{
	list_each (n, &r->peers) {
		struct peer *p = container_of(n, struct peer, link);

		if (p->id == id)
			return p;
	}
	return NULL;
}

static void peer_add(struct replicate *r, const struct coord_node *node)
{
	struct peer *p = calloc(1, sizeof *p);

	if (p == NULL)
		return; /* the next list of nodes brings it again */
	p->r = r;
	p->id = node->id;
	snprintf(p->addr, sizeof p->addr, "%s", node->address);
	snprintf(p->name, sizeof p->name, "replica %llu", (unsigned long long)r->id);
	group_init(&p->fibers, sys_loop(r->sys));
	p->fibers.keep_going = true;
	list_init(&p->queued);
	list_init(&p->under_way);
	list_init(&p->idle);
	waitq_init(&p->work);
	if (fiber_start(&r->peer_fibers, "replica peer", peer_run, p) < 0) {
		free(p);
		return;
	}
	list_push(&r->peers, &p->link);
}

static void forget_gone(struct replicate *r)
{
	list_each_safe (n, &r->peers) {
		struct peer *p = container_of(n, struct peer, link);

		if (node_of(r, p->id) != NULL)
			continue;
		p->gone = true;
		list_remove(&p->link);
		waitq_wake_one(&p->work);
	}
}

/* Members of the set come first: the core needs to know them. */
static uint32_t ids_of(const struct replicate *r, uint64_t ids[REPLICA_PEERS_MAX])
{
	const struct replica_set *set = &r->core.config.in_sync;
	uint32_t n = 0;

	for (int members = 1; members >= 0; members--)
		for (uint32_t i = 0; i < r->n_nodes && n < REPLICA_PEERS_MAX; i++) {
			uint64_t id = r->nodes[i].id;

			if (id != r->id && replica_set_has(set, id) == (members == 1))
				ids[n++] = id;
		}
	return n;
}

void peers_set(struct replicate *r)
{
	uint64_t ids[REPLICA_PEERS_MAX];
	uint32_t n = ids_of(r, ids);

	if (r->ended)
		return;
	forget_gone(r);
	for (uint32_t i = 0; i < r->n_nodes; i++) {
		struct peer *p = peer_of(r, r->nodes[i].id);

		if (r->nodes[i].id == r->id)
			continue;
		if (p == NULL) {
			peer_add(r, &r->nodes[i]);
		} else if (strcmp(p->addr, r->nodes[i].address) != 0) {
			snprintf(p->addr, sizeof p->addr, "%s", r->nodes[i].address);
			p->moved = true;
			waitq_wake_one(&p->work);
		}
	}
	replica_peers(&r->core, ids, n);
	if (r->db != NULL)
		db_keep_tail(r->db, n > 0 ? REPLICATE_TAIL_BYTES : 0);
}

static bool any_reads(const struct replicate *r)
{
	list_each (n, &r->peers)
		if (container_of(n, struct peer, link)->reading)
			return true;
	return false;
}

int peers_leave_log(struct replicate *r)
{
	int rc = 0;

	check(!r->db_leads);
	while (rc == 0 && any_reads(r))
		rc = fiber_sleep(sys_after(r->sys, SYS_MS));
	if (rc < 0)
		return rc;
	list_each (n, &r->peers) {
		struct peer *p = container_of(n, struct peer, link);

		log_reader_close(p->reader);
		p->reader = NULL;
	}
	return 0;
}

void peers_close(struct replicate *r)
{
	group_cancel(&r->peer_fibers);
	(void)group_wait(&r->peer_fibers);
	check(list_empty(&r->peers));
}
