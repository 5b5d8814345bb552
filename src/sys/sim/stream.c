/* SPDX-License-Identifier: Apache-2.0 */
/* Streams as programs call them. */
#include "base/check.h"
#include "base/hash.h"
#include "sys/sim/net.h"
#include <stdio.h>
#include <stdlib.h>

enum { RING_FIRST = 1024, UID = 1000, PORT_MAX = 65535 };

/* ---- addresses ---- */
static bool is_own_host(const struct sim_node *n, const char *host, size_t len)
{
	static const char *const names[] = { "", "*", "0.0.0.0", "[::]", "localhost", "127.0.0.1",
		"[::1]" };

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strlen(names[i]) == len && memcmp(host, names[i], len) == 0)
			return true;
	return strlen(n->name) == len && memcmp(host, n->name, len) == 0;
}

/* Takes "tcp:HOST:PORT" or "tls:HOST:PORT" apart; the node is NULL when no such host exists. */
static int addr_parse(
	const struct sim_node *own, const char *addr, struct sim_node **ret_n, uint32_t *ret_port)
{
	const struct sim *w = own->w;
	const char *host = addr + 4, *colon = strrchr(addr, ':');
	char *end;
	unsigned long port;
	size_t len;

	if (strlen(addr) >= SYS_ADDR_MAX)
		return E_INVALID;
	*ret_n = (struct sim_node *)own;
	*ret_port = 0;
	if (strncmp(addr, "unix:", 5) == 0)
		return addr[5] == '\0' ? E_INVALID : 0;
	if ((strncmp(addr, "tcp:", 4) != 0 && strncmp(addr, "tls:", 4) != 0) || colon < host)
		return E_INVALID;
	len = (size_t)(colon - host);
	port = strtoul(colon + 1, &end, 10);
	if (colon[1] == '\0' || *end != '\0' || port > PORT_MAX)
		return E_INVALID;
	*ret_port = (uint32_t)port;
	if (is_own_host(own, host, len))
		return 0;
	*ret_n = NULL;
	for (uint32_t i = 0; i < w->n_nodes; i++)
		if (strlen(w->nodes[i]->name) == len && memcmp(w->nodes[i]->name, host, len) == 0)
			*ret_n = w->nodes[i];
	return 0;
}

/* ---- listening ---- */
int sys_listen(struct sys *s, const char *addr, struct sys_listener **ret_l, struct err_note *note)
{
	struct sys_listener *l;
	struct sim_node *n;
	uint32_t port;
	char own[SYS_ADDR_MAX];

	if (s->dead)
		return err_set(note, sys_dead(s), "listen %s: canceled", addr);
	if (addr_parse(s->node, addr, &n, &port) < 0 || n != s->node)
		return err_set(note, E_INVALID, "listen %s: not an address of this node", addr);
	if (net_is_tls(addr) && !s->tls)
		return err_set(note, E_INVALID, "listen %s: no certificate", addr);
	if (addr[0] == 'u')
		snprintf(own, sizeof own, "%s", addr);
	else
		snprintf(own, sizeof own, "%.4s%s:%u", addr, n->name,
			port != 0 ? port : PORT_FIRST + n->next_port++);
	if (listener_find(s, own) != NULL)
		return err_set(note, E_INUSE, "listen %s: address already in use", addr);
	l = calloc(1, sizeof *l);
	check(l != NULL);
	l->sys = s;
	memcpy(l->addr, own, sizeof own);
	list_init(&l->backlog);
	list_init(&l->waiters);
	list_push(&s->listeners, &l->link);
	*ret_l = l;
	return 0;
}

const char *sys_listener_addr(const struct sys_listener *l)
{
	return l->addr;
}

static void accept_drop(struct call *c)
{
	list_remove(&container_of(c, struct accept_wait, call)->link);
}

int sys_accept(struct sys_listener *l, uint64_t until_ns, struct sys_stream **ret_c)
{
	struct accept_wait wait = { .call.drop = accept_drop };
	struct list *first;
	int rc;

	if (l->sys->dead)
		return sys_dead(l->sys);
	first = list_pop(&l->backlog);
	if (first != NULL) {
		check(l->n_backlog > 0);
		l->n_backlog--;
		*ret_c = container_of(first, struct sys_stream, backlog);
		return 0;
	}
	list_push(&l->waiters, &wait.link);
	rc = call_wait(l->sys, &wait.call, until_ns);
	if (rc < 0) /* the listener may be gone */
		return rc;
	*ret_c = wait.got;
	return 0;
}

void sys_listener_close(struct sys_listener *l)
{
	if (l == NULL)
		return;
	for (struct list *it; (it = list_pop(&l->waiters)) != NULL;)
		call_end(&container_of(it, struct accept_wait, link)->call, E_CLOSED);
	while (!list_empty(&l->backlog))
		sys_stream_close(container_of(l->backlog.next, struct sys_stream, backlog));
	list_remove(&l->link);
	free(l);
}

/* ---- connecting ---- */
struct open_wait {
	struct call call;
	struct conn *conn;
};

static void open_drop(struct call *c)
{
	container_of(c, struct open_wait, call)->conn->opener = NULL;
}

int sys_connect(struct sys *s, const char *addr, uint64_t until_ns, struct sys_stream **ret_c,
	struct err_note *note)
{
	struct open_wait wait = { .call.drop = open_drop };
	struct sim_node *to;
	struct sys_stream *n;
	char full[SYS_ADDR_MAX];
	uint32_t port;
	int rc;

	if (s->dead)
		return err_set(note, sys_dead(s), "connect %s: canceled", addr);
	rc = addr_parse(s->node, addr, &to, &port);
	if (rc < 0)
		return err_set(note, rc, "connect %s: not an address", addr);
	if (net_is_tls(addr) && !s->tls)
		return err_set(note, E_INVALID, "connect %s: no certificate to show", addr);
	if (to == NULL)
		return err_set(note, E_UNREACH, "connect %s: no such host", addr);
	if (addr[0] == 'u')
		snprintf(full, sizeof full, "%s", addr);
	else
		snprintf(full, sizeof full, "%.4s%s:%u", addr, to->name, port);
	wait.conn = conn_new(s, to, full);
	n = stream_new(s, wait.conn, 0);
	wait.conn->opener = &wait.call;
	conn_send_open(wait.conn);
	rc = call_wait(s, &wait.call, until_ns);
	if (n->conn != NULL)
		n->conn->opener = NULL;
	if (rc < 0) {
		sys_stream_close(n);
		return err_set(note, rc, "connect %s: %s", addr,
			rc == E_UNREACH ? "connection refused" : err_text(rc));
	}
	*ret_c = n;
	return 0;
}

/* ---- receiving ---- */
static void reader_drop(struct call *c) {}

static void ring_copy(const struct pipe *p, uint64_t at, void *out, const void *in, size_t len)
{
	uint32_t i = (uint32_t)at & (p->room - 1);
	size_t first = len < p->room - i ? len : p->room - i;

	if (in != NULL) {
		memcpy(p->ring + i, in, first);
		memcpy(p->ring, (const uint8_t *)in + first, len - first);
	} else {
		memcpy(out, p->ring + i, first);
		memcpy((uint8_t *)out + first, p->ring, len - first);
	}
}

static int64_t take(struct sys_stream *c, void *buf, size_t cap)
{
	struct sim *w = c->sys->w;
	struct pipe *p = &c->conn->pipe[c->side];
	uint64_t n = p->arrived - p->taken;

	n = n < cap ? n : cap;
	if (n > 1 && sim_odds(w, STREAM_NET, w->faults.net_split_ppm))
		n = 1 + prng_below(stream(w, STREAM_NET), n);
	ring_copy(p, p->taken, buf, NULL, n);
	p->taken += n;
	if (!c->reset)
		conn_send_ack(c->conn, 1 - c->side);
	return (int64_t)n;
}

int64_t sys_recv(struct sys_stream *c, void *buf, size_t cap, uint64_t until_ns)
{
	struct call call = { .drop = reader_drop };
	int rc;

	check(cap > 0);
	check(c->reader == NULL); /* one receiving fiber at a time */
	for (;;) {
		if (c->sys->dead)
			return sys_dead(c->sys);
		if (c->shut)
			return E_CLOSED;
		if (c->conn->pipe[c->side].arrived > c->conn->pipe[c->side].taken)
			return take(c, buf, cap);
		if (c->reset)
			return E_CLOSED;
		if (c->conn->pipe[c->side].fin_arrived)
			return 0;
		c->reader = &call;
		rc = call_wait(c->sys, &call, until_ns);
		c->reader = NULL;
		if (rc < 0)
			return rc;
	}
}

/* ---- sending ---- */
static void ring_grow(struct pipe *p, uint64_t need)
{
	uint32_t room = p->room == 0 ? RING_FIRST : p->room;
	struct pipe old = *p;
	size_t held = (size_t)(p->sent - p->taken);

	if (need <= p->room)
		return;
	while (room < need)
		room *= 2;
	p->ring = malloc(room);
	check(p->ring != NULL);
	p->room = room;
	for (uint64_t at = p->taken, n; held > 0; at += n, held -= n) {
		uint32_t i = (uint32_t)at & (old.room - 1);

		n = held < old.room - i ? held : old.room - i;
		ring_copy(p, at, NULL, old.ring + i, n);
	}
	free(old.ring);
}

/* Puts into the pipe what the window admits; true when everything went. */
static bool put(struct sys_stream *c, struct iovec *iov, int n_iov)
{
	struct sim *w = c->sys->w;
	struct pipe *p = &c->conn->pipe[1 - c->side];
	uint64_t before = p->sent, n;

	for (int i = 0; i < n_iov; i++) {
		n = p->window - (p->sent - p->acked);
		n = n < iov[i].iov_len ? n : iov[i].iov_len;
		if (n > 0) {
			ring_grow(p, p->sent - p->taken + n);
			ring_copy(p, p->sent, NULL, iov[i].iov_base, n);
			w->digest = sim_fold(w->digest, crc32c(0, iov[i].iov_base, n));
			p->sent += n;
		}
		iov[i].iov_base = (uint8_t *)iov[i].iov_base + n;
		iov[i].iov_len -= n;
		if (iov[i].iov_len > 0)
			break;
	}
	if (p->sent > before)
		conn_send_bytes(c->conn, 1 - c->side, false);
	return n_iov == 0 || iov[n_iov - 1].iov_len == 0;
}

int sys_send(struct sys_stream *c, struct iovec *iov, int n_iov, uint64_t until_ns)
{
	struct call call = { .drop = reader_drop };
	int rc;

	check(c->writer == NULL); /* one sending fiber at a time */
	for (;;) {
		if (c->sys->dead)
			return sys_dead(c->sys);
		if (c->shut || c->reset || c->broken)
			return E_CLOSED;
		if (put(c, iov, n_iov))
			return 0;
		c->writer = &call;
		rc = call_wait(c->sys, &call, until_ns);
		c->writer = NULL;
		if (rc < 0) {
			c->broken = true; /* a part may have gone */
			return rc;
		}
	}
}

int sys_send_shm(struct sys_stream *c, const void *buf, size_t len, struct sys_shm *const *shm,
	int n_shm, uint64_t until_ns)
{
	struct iovec iov = { (void *)buf, len };
	struct pipe *p;

	check(len > 0);
	check(n_shm <= SYS_FDS_MAX);
	if (c->sys->dead)
		return sys_dead(c->sys);
	check(c->conn->is_unix);
	if (c->shut || c->reset || c->broken)
		return E_CLOSED;
	p = &c->conn->pipe[1 - c->side];
	for (int i = 0; i < n_shm; i++) {
		struct shm_ref *ref = calloc(1, sizeof *ref);

		check(ref != NULL);
		ref->at = p->sent;
		ref->mem = shm_mem_of(shm[i], &ref->readonly);
		list_push(&p->shms, &ref->link);
	}
	return sys_send(c, &iov, 1, until_ns);
}

struct sys_shm *sys_recv_shm(struct sys_stream *c)
{
	struct pipe *p;
	struct shm_ref *ref;
	struct sys_shm *m;

	if (c->conn == NULL)
		return NULL;
	p = &c->conn->pipe[c->side];
	if (list_empty(&p->shms))
		return NULL;
	ref = container_of(p->shms.next, struct shm_ref, link);
	if (ref->at >= p->taken)
		return NULL;
	list_remove(&ref->link);
	m = shm_handle(c->sys, ref->mem, ref->readonly);
	free(ref);
	return m;
}

/* ---- the end ---- */
void sys_stream_shut(struct sys_stream *c)
{
	if (c->shut)
		return;
	c->shut = true;
	if (c->conn != NULL && c->conn->state == CONN_OPEN && !c->reset &&
		!c->conn->pipe[1 - c->side].fin)
		conn_send_bytes(c->conn, 1 - c->side, true);
	stream_wake(c);
}

void sys_stream_close(struct sys_stream *c)
{
	if (c == NULL)
		return;
	check(c->reader == NULL);
	check(c->writer == NULL);
	stream_detach(c, false);
	list_remove(&c->backlog);
	list_remove(&c->link);
	free(c);
}

const char *sys_stream_peer(const struct sys_stream *c)
{
	return c->peer;
}
bool sys_stream_local(const struct sys_stream *c)
{
	return c->peer[0] == 'u';
}
int64_t sys_stream_uid(const struct sys_stream *c)
{
	return sys_stream_local(c) ? UID : -1;
}
const struct sys_cert *sys_stream_cert(const struct sys_stream *c)
{
	return net_is_tls(c->peer) ? &c->cert : NULL;
}

int sys_tls_use(struct sys *s, const struct sys_tls *files, struct err_note *note)
{
	if (s->dead)
		return err_set(note, sys_dead(s), "certificates: canceled");
	check(!s->tls);
	s->tls = true;
	return 0;
}
