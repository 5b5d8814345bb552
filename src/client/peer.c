/* SPDX-License-Identifier: Apache-2.0 */
#include "client/peer.h"
#include "base/check.h"
#include <stdlib.h>
#include <string.h>

#define FAILED_NS (2 * SYS_SEC)

struct peer {
	struct list link;
	struct peers *peers;
	uint32_t server;
	uint64_t incarnation;
	char addr[256], local[256];
	bool same_host;
	bool near;                   /* the connection is a Unix socket */
	bool died;                   /* its Unix socket is there, and nobody listens */
	struct rpc_conn *conn;
	struct fiber_lock connecting;
	struct list maps;
	uint64_t generation;
	struct rpc_service service;  /* what it may ask of us */
	uint64_t failed_until_ns;
};

void peers_init(struct peers *ps, struct sys *s, struct group *g,
	const struct msg_hello *hello)
{
	*ps = (struct peers){ .sys = s, .group = g, .hello = *hello };
	list_init(&ps->list);
}

/* ---- maps ---- */
void map_ref(struct arena_map *m)
{
	check(m->n_refs > 0);
	m->n_refs++;
}

void map_unref(struct arena_map *m)
{
	check(m->n_refs > 0);
	if (--m->n_refs > 0)
		return;
	check(list_empty(&m->link));
	sys_shm_close(m->shm);
	free(m);
}

/* (P1) */
static void maps_drop(struct peer *p)
{
	struct list *l;

	while ((l = list_pop(&p->maps)) != NULL)
		map_unref(container_of(l, struct arena_map, link));
}

/* A view must not be writable, so an arena that is written and read is mapped twice. */
static struct arena_map *map_lookup(struct peer *p, uint64_t arena, bool writable)
{
	list_each(it, &p->maps) {
		struct arena_map *m = container_of(it, struct arena_map, link);

		if (m->arena == arena && m->writable == writable)
			return m;
	}
	return NULL;
}

/* Takes shm. */
static int map_make(struct peer *p, uint64_t arena, bool writable, struct sys_shm *shm,
	struct arena_map **ret_m, struct err_note *note)
{
	struct arena_map *m = calloc(1, sizeof *m);
	void *base;
	int rc = m != NULL ? sys_shm_map(shm, &base, note) : E_NOMEM;

	if (rc < 0) {
		free(m);
		sys_shm_close(shm);
		return err_wrap(note, rc, "memory of %s", peer_name(p));
	}
	*m = (struct arena_map){ .arena = arena, .writable = writable, .shm = shm, .base = base,
		.bytes = sys_shm_bytes(shm), .n_refs = 1 };
	list_push(&p->maps, &m->link);
	*ret_m = m;
	return 0;
}

static int map_find(struct peer *p, uint64_t arena, struct sys_shm *given, bool writable,
	struct arena_map **ret_m, struct err_note *note)
{
	struct arena_map *m = map_lookup(p, arena, writable);

	if (m != NULL) {
		sys_shm_close(given);
		*ret_m = m;
		return 0;
	}
	if (given != NULL)
		return map_make(p, arena, writable, given, ret_m, note);
	return err_set(note, E_CORRUPT, "%s names memory that it never gave", peer_name(p));
}

int peer_map(struct peer *p, uint64_t arena, uint64_t arena_bytes, struct sys_shm *given,
	bool writable, struct arena_map **ret_m, struct err_note *note)
{
	struct arena_map *m = NULL;
	int rc;

	if (p->conn == NULL) {
		sys_shm_close(given);
		return err_set(note, E_CLOSED, "storage server %s", peer_name(p));
	}
	rc = map_find(p, arena, given, writable, &m, note);
	if (rc < 0)
		return rc;
	if (m->bytes < arena_bytes)
		return err_set(note, E_CORRUPT, "%s announced %llu bytes and gave %llu",
			peer_name(p), (unsigned long long)arena_bytes,
			(unsigned long long)m->bytes);
	*ret_m = m;
	return 0;
}

/* The arena was destroyed there; its memory goes back to the system when we let go of it too. */
static void on_arena_gone(void *arg, struct rpc_request *r)
{
	struct peer *p = arg;
	struct msg_arena_gone m;
	int rc = msg_arena_gone_get(r->body.p, r->body.len, r->version, &m);

	if (rc < 0) {
		rpc_reply_error(r, rc, NULL, RPC_NOW);
		return;
	}
	list_each_safe(it, &p->maps) {
		struct arena_map *map = container_of(it, struct arena_map, link);

		if (map->arena != m.arena)
			continue;
		list_remove(&map->link);
		map_unref(map);
	}
	rpc_reply_ok(r, RPC_NOW);
}

static const struct rpc_op served[] = { { OP_arena_gone, RPC_INLINE, on_arena_gone } };

/* ---- connections ---- */
PARKS static void disconnect(struct peer *p)
{
	struct rpc_conn *conn = p->conn;

	if (conn == NULL)
		return;
	p->conn = NULL;
	p->generation++;
	maps_drop(p);
	p->peers->round_trips += rpc_round_trips(conn);
	rpc_close(conn);
}

PARKS void peers_fini(struct peers *ps)
{
	struct list *l;

	while ((l = list_pop(&ps->list)) != NULL) {
		struct peer *p = container_of(l, struct peer, link);

		disconnect(p);
		free(p);
	}
}

uint64_t peers_round_trips(const struct peers *ps)
{
	uint64_t n = ps->round_trips;

	list_each(it, &ps->list) {
		const struct peer *p = container_of(it, struct peer, link);

		n += p->conn != NULL ? rpc_round_trips(p->conn) : 0;
	}
	return n;
}

static void text_take(char *to, size_t room, struct bytes b)
{
	size_t n = b.len < room ? b.len : room - 1;

	if (n > 0)
		memcpy(to, b.p, n);
	to[n] = '\0';
}

struct peer *peer_by_id(struct peers *ps, uint32_t server)
{
	list_each(it, &ps->list) {
		struct peer *p = container_of(it, struct peer, link);

		if (p->server == server)
			return p;
	}
	return NULL;
}

struct peer *peer_find(struct peers *ps, const struct sub_server_addr *a)
{
	struct peer *p = peer_by_id(ps, a->server);
	const char *host = sys_boot_id(ps->sys);

	if (p != NULL && p->incarnation == a->incarnation)
		return p;
	if (p == NULL) {
		p = calloc(1, sizeof *p);
		if (p == NULL)
			return NULL;
		p->peers = ps;
		p->server = a->server;
		p->service = (struct rpc_service){ .ops = served, .n_ops = 1, .arg = p };
		list_init(&p->maps);
		fiber_lock_init(&p->connecting);
		list_push(&ps->list, &p->link);
	}
	/* A restarted server: the connection is broken or will be found so. */
	p->incarnation = a->incarnation;
	p->died = false;
	text_take(p->addr, sizeof p->addr, a->addr);
	text_take(p->local, sizeof p->local, a->local);
	p->same_host = bytes_equal(a->host, bytes_of(host, strlen(host)));
	return p;
}

const char *peer_name(const struct peer *p)
{
	return p->addr[0] != '\0' ? p->addr : p->local;
}

uint32_t peer_server(const struct peer *p) { return p->server; }
bool peer_same_host(const struct peer *p) { return p->same_host; }

void peer_note_failure(struct peer *p)
{
	p->failed_until_ns = sys_after(p->peers->sys, FAILED_NS);
}

bool peer_failed_lately(const struct peer *p)
{
	return p->failed_until_ns > sys_now_ns(p->peers->sys);
}

bool peer_near(const struct peer *p)
{
	return p->conn != NULL && p->near;
}

bool peer_died(const struct peer *p)
{
	return p->conn == NULL && p->died;
}

uint64_t peer_generation(const struct peer *p)
{
	return p->generation;
}

PARKS static int connect_addr(struct peer *p, const char *addr, uint64_t until_ns,
	struct err_note *note)
{
	struct rpc_connect o = { .addr = addr, .svc = &p->service, .group = p->peers->group,
		.hello = p->peers->hello };
	struct msg_hello_ok ok;
	struct rpc_conn *conn;
	int rc = rpc_connect(p->peers->sys, &o, until_ns, &conn, &ok, note);

	if (rc < 0)
		return rc;
	p->conn = conn;
	p->near = sys_stream_local(rpc_conn_stream(conn));
	p->generation++;
	return 0;
}

PARKS static int connect_locked(struct peer *p, uint64_t until_ns, struct err_note *note)
{
	int rc;

	if (p->conn != NULL && rpc_conn_open(p->conn))
		return 0;
	disconnect(p);
	if (p->same_host && p->local[0] != '\0') {
		rc = connect_addr(p, p->local, until_ns, note);
		p->died = rc == E_UNREACH;
		if (rc == 0 || p->addr[0] == '\0')
			return rc < 0 ? err_wrap(note, rc, "storage server %u", p->server) : 0;
		sys_reached(p->peers->sys, "near server reached over tcp");
	}
	if (p->addr[0] == '\0')
		return err_set(note, E_UNREACH, "storage server %u listens for no other hosts",
			p->server);
	return connect_addr(p, p->addr, until_ns, note);
}

PARKS int peer_connect(struct peer *p, uint64_t until_ns, struct err_note *note)
{
	int rc;

	if (p->conn != NULL && rpc_conn_open(p->conn))
		return 0;
	rc = fiber_lock(&p->connecting, until_ns);
	if (rc < 0)
		return err_set(note, rc, "connecting to %s", peer_name(p));
	rc = connect_locked(p, until_ns, note);
	fiber_unlock(&p->connecting);
	return rc;
}

PARKS int peer_ask(struct peer *p, struct rpc_call *call, uint16_t reply_op, void *ret_reply,
	uint64_t until_ns, struct err_note *note)
{
	int rc = peer_connect(p, until_ns, note);

	if (rc < 0)
		return rc;
	/* Extents have ids: whatever is repeated is known to its server without a number. */
	call->plain = true;
	return rpc_ask(p->conn, call, reply_op, ret_reply, until_ns, note);
}

/* ---- requests that nobody waits for ---- */
struct told { struct rpc_call call; max_align_t msg[]; };

static void told_done(void *arg)
{
	struct told *t = arg;

	rpc_call_fini(&t->call);
	free(t);
}

void peer_tell(struct peer *p, uint16_t op, const void *msg, size_t msg_bytes)
{
	struct told *t;

	if (p->conn == NULL || !rpc_conn_open(p->conn))
		return;
	t = calloc(1, sizeof *t + msg_bytes);
	if (t == NULL)
		return;
	memcpy(t->msg, msg, msg_bytes);
	t->call = (struct rpc_call){ .op = op, .plain = true, .msg = t->msg, .done = told_done,
		.done_arg = t };
	if (rpc_start(p->conn, &t->call) < 0)
		told_done(t);
}

/* ---- for loan.c ---- */
int peer_start(struct peer *p, struct rpc_call *call)
{
	if (p->conn == NULL)
		return err_set(&call->note, E_CLOSED, "storage server %s", peer_name(p));
	return rpc_start(p->conn, call);
}

struct sys_shm *peer_descriptor(struct peer *p)
{
	struct sys_stream *stream = p->conn != NULL ? rpc_conn_stream(p->conn) : NULL;

	return stream != NULL ? sys_recv_shm(stream) : NULL;
}
