/* SPDX-License-Identifier: Apache-2.0 */
/* Connected sockets.  A receiver waits first and then receives, unless there is reason to believe
 * that bytes are there: an event came while nobody waited, or the last call filled its buffer. */
#include "sys/uv/stream.h"
#include "base/check.h"
#include "sys/uv/tls.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECT_RETRY_MS = 5 };

int stream_new(struct sys *s, int fd, const struct addr *peer, struct sys_stream **ret_c)
{
	struct sys_stream *c = calloc(1, sizeof *c);
	struct ucred cred;
	socklen_t len = sizeof cred;
	int rc = c == NULL ? E_NOMEM : watch_init(&c->watch, s, fd);

	if (rc < 0) {
		free(c);
		close(fd);
		return rc;
	}
	c->s = s;
	c->fd = fd;
	c->local = peer->sa.ss_family == AF_UNIX;
	c->uid = -1;
	if (c->local && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0)
		c->uid = cred.uid;
	addr_print(peer, c->peer, sizeof c->peer);
	*ret_c = c;
	return 0;
}

/* ---- connecting ---- */
static int try_connect(struct sys *s, const struct addr *a, uint64_t until_ns,
	struct sys_stream **ret_c, int *ret_os)
{
	int fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), rc, os;
	struct sys_stream *c;
	socklen_t len = sizeof os;

	*ret_os = errno;
	if (fd < 0)
		return sys_err(errno);
	socket_options(fd, a);
	/* a Unix socket whose queue is full says EAGAIN and has no event for the end of it */
	for (;;) {
		os = connect(fd, (const void *)&a->sa, a->len) == 0 ? 0 : errno;
		if (os != EAGAIN || a->sa.ss_family != AF_UNIX)
			break;
		rc = sys_after(s, CONNECT_RETRY_MS * SYS_MS) < until_ns
			     ? fiber_sleep(sys_after(s, CONNECT_RETRY_MS * SYS_MS))
			     : E_TIMEOUT;
		if (rc < 0) {
			close(fd);
			*ret_os = 0;
			return rc;
		}
	}
	*ret_os = os;
	if (os != 0 && os != EINPROGRESS) {
		close(fd);
		return os == ENOENT ? E_UNREACH : sys_err(os);
	}
	*ret_os = 0;
	rc = stream_new(s, fd, a, &c);
	if (rc < 0)
		return rc;
	if (os == EINPROGRESS) {
		rc = watch_wait(&c->watch, UV_WRITABLE, until_ns);
		if (rc == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &os, &len) == 0 && os != 0) {
			*ret_os = os;
			rc = sys_err(os);
		}
	}
	if (rc < 0)
		sys_stream_close(c);
	else
		*ret_c = c;
	return rc;
}

int sys_connect(struct sys *s, const char *addr, uint64_t until_ns, struct sys_stream **ret_c,
	struct err_note *note)
{
	struct addr found[ADDRS_MAX];
	int n = addr_resolve(s, addr, until_ns, found, note), rc = n, os = 0;
	struct sys_stream *c = NULL;

	for (int i = 0; i < n; i++) {
		rc = try_connect(s, &found[i], until_ns, &c, &os);
		if (rc == 0 || rc == E_CANCELED || rc == E_TIMEOUT)
			break;
	}
	if (n > 0 && rc < 0)
		err_set(note, rc, "connect to %s: %s", addr,
			os != 0 ? sys_err_words(os) : err_text(rc));
	if (rc == 0 && tls_is(addr)) {
		rc = tls_connect(c, addr, until_ns, note);
		if (rc < 0)
			sys_stream_close(c);
	}
	if (rc == 0)
		*ret_c = c;
	return rc;
}

/* ---- receiving ---- */
/* Every descriptor in the message is taken or closed, whatever is wrong with it. */
static int take_descriptors(struct sys_stream *c, struct msghdr *m)
{
	int rc = (m->msg_flags & MSG_CTRUNC) ? E_TOOBIG : 0;

	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h != NULL; h = CMSG_NXTHDR(m, h)) {
		size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd, bad;

			memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
			if (rc < 0 || c->n_shm == SHM_QUEUE_MAX) {
				close(fd);
				rc = rc < 0 ? rc : E_TOOBIG;
				continue;
			}
			bad = shm_adopt(c->s, fd, &c->shm[c->n_shm]);
			if (bad < 0)
				rc = bad;
			else
				c->n_shm++;
		}
	}
	return rc;
}

static int64_t recv_once(struct sys_stream *c, void *buf, size_t cap, int *ret_rc)
{
	union {
		char room[CMSG_SPACE(SYS_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { buf, cap };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;
	int rc;

	if (!c->local) {
		n = recv(c->fd, buf, cap, MSG_DONTWAIT);
		return n < 0 ? -errno : n;
	}
	m.msg_control = control.room;
	m.msg_controllen = sizeof control.room;
	n = recvmsg(c->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return -errno;
	if (m.msg_controllen > 0) {
		rc = take_descriptors(c, &m);
		if (rc < 0) {
			*ret_rc = rc;
			return -EPROTO;
		}
	}
	return n;
}

int64_t sys_recv(struct sys_stream *c, void *buf, size_t cap, uint64_t until_ns)
{
	int64_t n;
	int rc = 0;

	check(cap > 0);
	if (c->tls != NULL)
		return tls_recv(c, buf, cap, until_ns);
	check(list_empty(&c->watch.readers));
	for (;;) {
		if (c->no_recv)
			return E_CLOSED;
		if (!c->watch.readable || c->n_direct == DIRECT_MAX) {
			c->n_direct = 0;
			rc = watch_wait(&c->watch, UV_READABLE, until_ns);
			if (rc < 0)
				return rc;
			if (c->no_recv)
				return E_CLOSED;
		} else {
			c->n_direct++;
		}
		n = recv_once(c, buf, cap, &rc);
		c->watch.readable = n == (int64_t)cap || n == 0; /* the end stays readable */
		if (n >= 0)
			return n;
		if (n != -EAGAIN && n != -EINTR) {
			c->no_recv = true;
			return rc < 0 ? rc : sys_err((int)-n);
		}
	}
}

struct sys_shm *sys_recv_shm(struct sys_stream *c)
{
	struct sys_shm *m;

	if (c->n_shm == 0)
		return NULL;
	m = c->shm[0];
	memmove(&c->shm[0], &c->shm[1], --c->n_shm * sizeof c->shm[0]);
	return m;
}

/* ---- sending ---- */
static int send_fails(struct sys_stream *c, int rc)
{
	c->no_send = true;
	return rc;
}

static int send_all(struct sys_stream *c, struct msghdr *m, uint64_t until_ns)
{
	int rc;

	check(list_empty(&c->watch.writers));
	while (!c->no_send) {
		ssize_t n;

		while (m->msg_iovlen > 0 && m->msg_iov->iov_len == 0) {
			m->msg_iov++;
			m->msg_iovlen--;
		}
		if (m->msg_iovlen == 0)
			return 0;
		if (m->msg_iovlen == 1 && m->msg_control == NULL) /* the cheaper call */
			n = send(c->fd, m->msg_iov->iov_base, m->msg_iov->iov_len,
				MSG_DONTWAIT | MSG_NOSIGNAL);
		else
			n = sendmsg(c->fd, m, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			return send_fails(c, sys_err(errno));
		if (n < 0) {
			rc = watch_wait(&c->watch, UV_WRITABLE, until_ns);
			if (rc < 0)
				return send_fails(c, rc);
			continue;
		}
		m->msg_control = NULL; /* descriptors went with the first byte */
		m->msg_controllen = 0;
		for (size_t left = (size_t)n; left > 0;) {
			size_t now = m->msg_iov->iov_len < left ? m->msg_iov->iov_len : left;

			m->msg_iov->iov_base = (char *)m->msg_iov->iov_base + now;
			m->msg_iov->iov_len -= now;
			left -= now;
			if (m->msg_iov->iov_len == 0) {
				m->msg_iov++;
				m->msg_iovlen--;
			}
		}
	}
	return E_CLOSED;
}

int sys_send(struct sys_stream *c, struct iovec *iov, int n_iov, uint64_t until_ns)
{
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = (size_t)n_iov };

	check(n_iov >= 0);
	check(n_iov <= UIO_MAXIOV);
	if (c->tls != NULL)
		return tls_send(c, iov, n_iov, until_ns);
	return send_all(c, &m, until_ns);
}

int sys_send_shm(struct sys_stream *c, const void *buf, size_t len, struct sys_shm *const *shm,
	int n_shm, uint64_t until_ns)
{
	union {
		char room[CMSG_SPACE(SYS_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control = { .room = { 0 } };
	struct iovec iov = { (void *)(uintptr_t)buf, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room };
	struct cmsghdr *h;

	check(n_shm > 0);
	check(n_shm <= SYS_FDS_MAX);
	check(len > 0);
	if (!c->local)
		return E_UNSUPPORTED;
	m.msg_controllen = CMSG_SPACE((size_t)n_shm * sizeof(int));
	h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN((size_t)n_shm * sizeof(int));
	for (int i = 0; i < n_shm; i++) {
		int fd = shm_fd(shm[i]);

		memcpy(CMSG_DATA(h) + (size_t)i * sizeof fd, &fd, sizeof fd);
	}
	return send_all(c, &m, until_ns);
}

/* ---- ending ---- */
void sys_stream_shut(struct sys_stream *c)
{
	if (c->tls != NULL)
		tls_goodbye(c);
	c->no_recv = c->no_send = true;
	shutdown(c->fd, SHUT_RDWR);
	watch_wake(&c->watch, E_CLOSED);
}

static void on_closed(uv_handle_t *h)
{
	free(container_of(h, struct sys_stream, watch.poll));
}

void sys_stream_close(struct sys_stream *c)
{
	struct sys_shm *m;

	if (c == NULL)
		return;
	while ((m = sys_recv_shm(c)) != NULL)
		sys_shm_close(m);
	tls_free(c);
	watch_close(&c->watch, on_closed);
	close(c->fd);
}

const char *sys_stream_peer(const struct sys_stream *c)
{
	return c->peer;
}
bool sys_stream_local(const struct sys_stream *c)
{
	return c->local;
}
int64_t sys_stream_uid(const struct sys_stream *c)
{
	return c->uid;
}
