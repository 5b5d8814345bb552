/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"
#include "sys/uv/own.h"
#include "sys/uv/stream.h"
#include "sys/uv/tls.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define RESOLVE_NS (10 * SYS_SEC)

enum { BACKLOG = 1024, KEEP_IDLE_S = 30, KEEP_EVERY_S = 10, KEEP_TRIES = 3 };

struct sys_listener {
	struct sys *s;
	struct watch watch;
	int fd;
	unsigned n_users; /* accepting fibers, the owner, libuv: the last one frees it */
	bool closed, tls;
	struct addr at;
	dev_t dev; /* of a Unix socket's file, to remove no other */
	ino_t ino;
	char text[SYS_ADDR_MAX];
};

void socket_options(int fd, const struct addr *a)
{
	int on = 1, idle = KEEP_IDLE_S, every = KEEP_EVERY_S, tries = KEEP_TRIES;

	if (a->sa.ss_family == AF_UNIX)
		return;
	/* a connection without one of these still works; accepted sockets inherit them */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof every);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof tries);
}

static void drop(struct sys_listener *l)
{
	check(l->n_users > 0);
	if (--l->n_users == 0)
		free(l);
}

/* Whether somebody listens behind a Unix socket's file; if so, who. */
static bool is_live(const struct addr *a, char *ret_who, size_t cap)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct ucred peer;
	socklen_t len = sizeof peer;
	bool live;

	ret_who[0] = '\0';
	if (fd < 0)
		return true; /* cannot tell: leave it alone */
	live = connect(fd, (const void *)&a->sa, a->len) == 0 || errno == EAGAIN || errno == EACCES;
	if (live && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.pid > 0)
		addr_pid(peer.pid, ret_who, cap);
	close(fd);
	return live;
}

/* Removes a socket file that nobody listens behind: what a killed server leaves. */
static int replace_stale(struct sys_listener *l, const char *addr, struct err_note *note)
{
	const struct sockaddr_un *un = (const void *)&l->at.sa;
	struct stat st;
	char who[96];

	if (lstat(un->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
		return err_set(note, E_INUSE, "listen on %s: there is another file", addr);
	if (is_live(&l->at, who, sizeof who))
		return err_set(note, E_INUSE, "listen on %s: in use%s", addr, who);
	if (unlink(un->sun_path) != 0 && errno != ENOENT)
		return err_set(
			note, sys_err(errno), "listen on %s: %s", addr, sys_err_words(errno));
	if (bind(l->fd, (const void *)&l->at.sa, l->at.len) != 0)
		return err_set(
			note, sys_err(errno), "listen on %s: %s", addr, sys_err_words(errno));
	return 0;
}

static int fail(struct sys_listener *l, const char *addr, int os, struct err_note *note)
{
	const struct sockaddr_in *v4 = (const void *)&l->at.sa;
	char who[96] = "";

	if (os != EADDRINUSE || l->at.sa.ss_family == AF_UNIX)
		return err_set(note, sys_err(os), "listen on %s: %s", addr, sys_err_words(os));
	if (note != NULL) /* the port is at the same place in both families */
		addr_owner(ntohs(v4->sin_port), who, sizeof who);
	return err_set(note, E_INUSE, "listen on %s: in use%s", addr, who);
}

static int bind_and_listen(struct sys_listener *l, const char *addr, struct err_note *note)
{
	const struct sockaddr_un *un = (const void *)&l->at.sa;
	bool local = l->at.sa.ss_family == AF_UNIX;
	struct stat st;
	int on = 1, rc;

	if (!local)
		setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	socket_options(l->fd, &l->at);
	if (bind(l->fd, (const void *)&l->at.sa, l->at.len) != 0) {
		if (!local || errno != EADDRINUSE)
			return fail(l, addr, errno, note);
		rc = replace_stale(l, addr, note);
		if (rc < 0)
			return rc;
	}
	if (local && lstat(un->sun_path, &st) == 0) {
		l->dev = st.st_dev;
		l->ino = st.st_ino;
	}
	if (listen(l->fd, BACKLOG) != 0)
		return fail(l, addr, errno, note);
	if (!local) {
		l->at.len = sizeof l->at.sa;
		check(getsockname(l->fd, (void *)&l->at.sa, &l->at.len) == 0);
	}
	addr_print(&l->at, l->text, sizeof l->text);
	if (l->tls) { /* the host stays as it was given: certificates are made out to names */
		char bound[SYS_ADDR_MAX];

		memcpy(bound, l->text, sizeof bound);
		snprintf(l->text, sizeof l->text, "%.*s%s", (int)(strrchr(addr, ':') - addr), addr,
			strrchr(bound, ':'));
	}
	return 0;
}

int sys_listen(struct sys *s, const char *addr, struct sys_listener **ret_l, struct err_note *note)
{
	struct addr found[ADDRS_MAX];
	struct sys_listener *l;
	int rc = addr_resolve(s, addr, sys_after(s, RESOLVE_NS), found, note);

	if (rc >= 0 && tls_is(addr) && s->creds == NULL)
		rc = err_set(note, E_INVALID, "listen on %s: no certificate", addr);
	if (rc < 0)
		return rc;
	l = calloc(1, sizeof *l);
	if (l == NULL)
		return err_set(note, E_NOMEM, "listen on %s: %s", addr, err_text(E_NOMEM));
	l->s = s;
	l->tls = tls_is(addr);
	l->at = found[0];
	l->fd = socket(l->at.sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0) {
		rc = fail(l, addr, errno, note);
		free(l);
		return rc;
	}
	rc = bind_and_listen(l, addr, note);
	if (rc == 0) {
		rc = watch_init(&l->watch, s, l->fd);
		if (rc < 0)
			err_set(note, rc, "listen on %s: %s", addr, err_text(rc));
	}
	if (rc < 0) {
		close(l->fd);
		free(l);
		return rc;
	}
	l->n_users = 2;
	*ret_l = l;
	return 0;
}

const char *sys_listener_addr(const struct sys_listener *l)
{
	return l->text;
}

static int accept_one(struct sys_listener *l, struct sys_stream **ret_c)
{
	struct addr from = { .len = sizeof from.sa };
	struct sys_stream *c;
	int fd = accept4(l->fd, (void *)&from.sa, &from.len, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return -errno;
	if (l->at.sa.ss_family == AF_UNIX)
		from = l->at; /* a client has no name of its own */
	if (stream_new(l->s, fd, &from, &c) < 0)
		return -ENOMEM;
	if (l->tls && tls_accepted(c) < 0) {
		sys_stream_close(c);
		return -ENOMEM;
	}
	*ret_c = c;
	return 0;
}

int sys_accept(struct sys_listener *l, uint64_t until_ns, struct sys_stream **ret_c)
{
	int rc = 0, os;

	if (l->closed)
		return E_CLOSED;
	l->n_users++;
	for (;;) {
		if (!l->watch.readable)
			rc = watch_wait(&l->watch, UV_READABLE, until_ns);
		if (rc == 0 && l->closed)
			rc = E_CLOSED;
		if (rc < 0)
			break;
		os = -accept_one(l, ret_c);
		l->watch.readable = os == 0; /* more may be waiting */
		if (os == 0)
			break;
		if (os != EAGAIN && os != ECONNABORTED && os != EINTR && os != EPROTO) {
			rc = sys_err(os);
			break;
		}
	}
	drop(l);
	return rc;
}

static void on_closed(uv_handle_t *h)
{
	drop(container_of(h, struct sys_listener, watch.poll));
}

void sys_listener_close(struct sys_listener *l)
{
	const struct sockaddr_un *un;
	struct stat st;

	if (l == NULL)
		return;
	check(!l->closed);
	un = (const void *)&l->at.sa;
	l->closed = true;
	watch_wake(&l->watch, E_CLOSED);
	watch_close(&l->watch, on_closed);
	if (l->at.sa.ss_family == AF_UNIX && lstat(un->sun_path, &st) == 0 && st.st_dev == l->dev &&
		st.st_ino == l->ino)
		unlink(un->sun_path);
	close(l->fd);
	drop(l);
}
