/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses as text, names to numbers, and who sits on a port. */
#include "base/check.h"
#include "sys/uv/own.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- names ---- */
struct lookup { /* lives until libuv has called back: the fiber may have left by then */
	uv_getaddrinfo_t req;
	struct fiber *f; /* NULL: left */
	struct addrinfo *found;
	int rc;
};

static void on_lookup(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
	struct lookup *k = req->data;

	if (k->f == NULL) {
		uv_freeaddrinfo(found);
		free(k);
		return;
	}
	k->found = found;
	k->rc = status;
	fiber_wake(k->f, 0);
}

static void leave_lookup(void *hook)
{
	struct lookup *k = hook;

	k->f = NULL;
	uv_cancel((uv_req_t *)&k->req);
}

static int look_up(struct sys *s, const char *host, const char *port, uint64_t until_ns,
	struct addr *ret, struct err_note *note)
{
	static const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct lookup *k = calloc(1, sizeof *k);
	int rc, n = 0;

	if (k == NULL)
		return err_set(note, E_NOMEM, "look up %s: %s", host, err_text(E_NOMEM));
	k->f = fiber_self();
	k->req.data = k;
	rc = uv_getaddrinfo(&s->uv, &k->req, on_lookup, host, port, &hints);
	if (rc < 0) {
		free(k);
		return err_set(note, E_UNREACH, "look up %s: %s", host, uv_strerror(rc));
	}
	rc = fiber_park(until_ns, leave_lookup, k);
	if (rc < 0)
		return err_set(note, rc, "look up %s: %s", host, err_text(rc));
	for (struct addrinfo *at = k->found; at != NULL && n < ADDRS_MAX; at = at->ai_next) {
		check(at->ai_addrlen <= sizeof ret[n].sa);
		memcpy(&ret[n].sa, at->ai_addr, at->ai_addrlen);
		ret[n++].len = at->ai_addrlen;
	}
	rc = k->rc;
	uv_freeaddrinfo(k->found);
	free(k);
	if (n == 0)
		return err_set(note, E_UNREACH, "look up %s: %s", host,
			rc < 0 ? uv_strerror(rc) : "no address");
	return n;
}

static bool numeric(const char *host, uint16_t port, struct addr *ret_a)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };

	if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
		memcpy(&ret_a->sa, &v4, sizeof v4);
		ret_a->len = sizeof v4;
		return true;
	}
	if (inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
		memcpy(&ret_a->sa, &v6, sizeof v6);
		ret_a->len = sizeof v6;
		return true;
	}
	return false;
}

static int resolve_tcp(
	struct sys *s, const char *text, uint64_t until_ns, struct addr *ret, struct err_note *note)
{
	char host[SYS_ADDR_MAX];
	const char *colon = strrchr(text, ':'), *from = text;
	size_t len = colon != NULL ? (size_t)(colon - text) : 0;
	unsigned long port;
	char *end;

	if (len == 0 || len >= sizeof host)
		return err_set(note, E_INVALID, "address %s: expected HOST:PORT", text);
	port = strtoul(colon + 1, &end, 10);
	if (end == colon + 1 || *end != '\0' || colon[1] == '-' || port > UINT16_MAX)
		return err_set(note, E_INVALID, "address %s: the port is 0 to 65535", text);
	if (len >= 2 && from[0] == '[' && from[len - 1] == ']') {
		from++;
		len -= 2;
	}
	memcpy(host, from, len);
	host[len] = '\0';
	if (numeric(host, (uint16_t)port, ret))
		return 1;
	return look_up(s, host, colon + 1, until_ns, ret, note);
}

static int resolve_unix(const char *path, struct addr *ret, struct err_note *note)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	size_t len = strlen(path);

	if (path[0] != '/')
		return err_set(note, E_INVALID, "address unix:%s: expected unix:/path", path);
	if (len >= sizeof un.sun_path)
		return err_set(note, E_TOOBIG,
			"address unix:%s: a socket's path has at most %zu bytes", path,
			sizeof un.sun_path - 1);
	memcpy(un.sun_path, path, len + 1);
	memcpy(&ret->sa, &un, sizeof un);
	ret->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
	return 1;
}

int addr_resolve(
	struct sys *s, const char *text, uint64_t until_ns, struct addr *ret, struct err_note *note)
{
	if (strlen(text) >= SYS_ADDR_MAX)
		return err_set(note, E_TOOBIG, "an address has at most %d bytes", SYS_ADDR_MAX - 1);
	if (strncmp(text, "tcp:", 4) == 0 || strncmp(text, "tls:", 4) == 0)
		return resolve_tcp(s, text + 4, until_ns, ret, note);
	if (strncmp(text, "unix:", 5) == 0)
		return resolve_unix(text + 5, ret, note);
	return err_set(note, E_INVALID,
		"address %s: expected tcp:HOST:PORT, tls:HOST:PORT or unix:/path", text);
}

void addr_print(const struct addr *a, char *ret_text, size_t cap)
{
	const struct sockaddr_un *un = (const void *)&a->sa;
	const struct sockaddr_in *v4 = (const void *)&a->sa;
	const struct sockaddr_in6 *v6 = (const void *)&a->sa;
	char host[INET6_ADDRSTRLEN] = "";

	switch (a->sa.ss_family) {
	case AF_INET:
		inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
		snprintf(ret_text, cap, "tcp:%s:%u", host, ntohs(v4->sin_port));
		break;
	case AF_INET6:
		inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
		snprintf(ret_text, cap, "tcp:[%s]:%u", host, ntohs(v6->sin6_port));
		break;
	default:
		snprintf(ret_text, cap, "unix:%s",
			a->len > sizeof un->sun_family ? un->sun_path : "");
	}
}

/* ---- who sits on a port: best effort, for a message ---- */
static uint64_t listening_inode(const char *table, uint16_t port)
{
	FILE *f = fopen(table, "re");
	char line[512];
	uint64_t found = 0;

	if (f == NULL)
		return 0;
	while (found == 0 && fgets(line, sizeof line, f) != NULL) {
		/* columns: sl local:port remote:port state queues timer retransmit uid timeout
		 * inode */
		char *at = line, *column[10] = { NULL }, *colon;

		for (int i = 0; i < 10; i++) {
			at += strspn(at, " ");
			column[i] = at;
			at += strcspn(at, " \n");
			if (*at != '\0')
				*at++ = '\0';
		}
		colon = strrchr(column[1], ':');
		if (colon != NULL && strtoul(colon + 1, NULL, 16) == port &&
			strtoul(column[3], NULL, 16) == TCP_LISTEN)
			found = strtoull(column[9], NULL, 10);
	}
	fclose(f);
	return found;
}

static bool holds(const char *pid, const char *wanted)
{
	char path[300], link[64];
	struct dirent *e;
	bool found = false;
	DIR *d;

	snprintf(path, sizeof path, "/proc/%s/fd", pid);
	d = opendir(path);
	if (d == NULL)
		return false;
	while (!found && (e = readdir(d)) != NULL) {
		ssize_t n = readlinkat(dirfd(d), e->d_name, link, sizeof link - 1);

		if (n > 0) {
			link[n] = '\0';
			found = strcmp(link, wanted) == 0;
		}
	}
	closedir(d);
	return found;
}

void addr_pid(int64_t pid, char *ret_text, size_t cap)
{
	char path[64], name[64] = "?";
	FILE *f;

	snprintf(path, sizeof path, "/proc/%lld/comm", (long long)pid);
	f = fopen(path, "re");
	if (f != NULL) {
		if (fgets(name, sizeof name, f) != NULL)
			name[strcspn(name, "\n")] = '\0';
		fclose(f);
	}
	snprintf(ret_text, cap, " by pid %lld (%s)", (long long)pid, name);
}

void addr_owner(uint16_t port, char *ret_text, size_t cap)
{
	uint64_t inode = listening_inode("/proc/net/tcp", port);
	char wanted[64];
	struct dirent *e;
	DIR *d;

	ret_text[0] = '\0';
	if (inode == 0)
		inode = listening_inode("/proc/net/tcp6", port);
	if (inode == 0)
		return;
	snprintf(wanted, sizeof wanted, "socket:[%llu]", (unsigned long long)inode);
	d = opendir("/proc");
	while (d != NULL && (e = readdir(d)) != NULL) {
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && holds(e->d_name, wanted)) {
			addr_pid(strtoll(e->d_name, NULL, 10), ret_text, cap);
			break;
		}
	}
	if (d != NULL)
		closedir(d);
}
