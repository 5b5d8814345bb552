/* SPDX-License-Identifier: Apache-2.0 */
#include "client/where.h"
#include "client/client.h"
#include <stdio.h>
#include <string.h>

#define NODES_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:,-_[]"

/* A host's port begins behind the last colon, but not inside of the brackets of an IPv6 address. */
static bool has_port(const char *host)
{
	const char *colon = strrchr(host, ':'), *bracket = strrchr(host, ']');

	return colon != NULL && (bracket == NULL || bracket < colon);
}

static bool host_ok(const char *host)
{
	return host[0] != '\0' && host[0] != ':' && strpbrk(host, "/ \t?#@") == NULL;
}

int where_addr(const char *url, char ret_addr[WHERE_MAX], struct err_note *note)
{
	char host[WHERE_MAX];
	const char *scheme;
	size_t len = strlen(url);
	int n;

	if (len + 16 >= WHERE_MAX)
		return err_set(note, E_INVALID, "an address of %zu bytes", len);
	if (strncmp(url, "unix:/", 6) == 0 || strncmp(url, "tcp:", 4) == 0 ||
		strncmp(url, "tls:", 4) == 0) {
		memcpy(ret_addr, url, len + 1);
		return 0;
	}
	if (strncmp(url, "wadi://", 7) != 0 && strncmp(url, "wadis://", 8) != 0)
		return err_set(note, E_INVALID,
			"%.150s is neither wadis://HOST:PORT, wadi://HOST:PORT nor unix:/PATH",
			url);
	scheme = strncmp(url, "wadis:", 6) == 0 ? "tls" : "tcp";
	url = strchr(url, '/') + 2;
	len = strlen(url);
	memcpy(host, url, len + 1);
	if (len > 0 && host[len - 1] == '/')
		host[len - 1] = '\0';
	if (!host_ok(host))
		return err_set(note, E_INVALID, "%.200s: no host", url);
	n = has_port(host) ? snprintf(ret_addr, WHERE_MAX, "%s:%.200s", scheme, host)
		: snprintf(ret_addr, WHERE_MAX, "%s:%.200s:%u", scheme, host, WADI_PORT);
	return n < WHERE_MAX ? 0 : err_set(note, E_INVALID, "an address of %d bytes", n);
}

/* The next part of a list, with the scheme of the one before it when it has none of its own. */
static int part_take(const char **list, char scheme[16], char ret_part[WHERE_MAX],
	struct err_note *note)
{
	size_t len = strcspn(*list, ",");
	char part[WHERE_MAX];
	const char *colon;
	int n;

	if (len == 0 || len >= sizeof part)
		return err_set(note, E_INVALID, "an address of %zu bytes in a list", len);
	memcpy(part, *list, len);
	part[len] = '\0';
	*list += (*list)[len] == ',' ? len + 1 : len;
	colon = strstr(part, "://");
	if (colon != NULL || strncmp(part, "unix:", 5) == 0 || strncmp(part, "tcp:", 4) == 0 ||
		strncmp(part, "tls:", 4) == 0) {
		if (colon != NULL && colon - part < 8)
			snprintf(scheme, 16, "%.*s://", (int)(colon - part), part);
		return where_addr(part, ret_part, note);
	}
	n = snprintf(ret_part, WHERE_MAX, "%s%s", scheme, part);
	if (n >= WHERE_MAX)
		return err_set(note, E_INVALID, "an address of %d bytes", n);
	memcpy(part, ret_part, (size_t)n + 1);
	return where_addr(part, ret_part, note);
}

int where_addrs(const char *url, char ret_addrs[WHERE_LIST_MAX], struct err_note *note)
{
	char part[WHERE_MAX], list[WHERE_LIST_MAX];
	size_t len = 0;

	for (int want_unix = 1; want_unix >= 0; want_unix--) {
		const char *rest = url;
		char scheme[16] = "";

		do {
			int rc = part_take(&rest, scheme, part, note);
			size_t more = strlen(part);

			if (rc < 0)
				return rc;
			if ((strncmp(part, "unix:", 5) == 0) != want_unix)
				continue;
			if (len + more + 2 > sizeof list)
				return err_set(note, E_INVALID, "a list of more than %d bytes",
					WHERE_LIST_MAX);
			if (len > 0)
				list[len++] = ',';
			memcpy(list + len, part, more + 1);
			len += more;
		} while (*rest != '\0');
	}
	memcpy(ret_addrs, list, len + 1);
	return 0;
}

void where_url(const char *addr, char ret_url[WHERE_MAX])
{
	if (strncmp(addr, "tcp:", 4) == 0)
		snprintf(ret_url, WHERE_MAX, "wadi://%.200s", addr + 4);
	else if (strncmp(addr, "tls:", 4) == 0)
		snprintf(ret_url, WHERE_MAX, "wadis://%.200s", addr + 4);
	else
		snprintf(ret_url, WHERE_MAX, "%.255s", addr);
}

int where_join(const char *folder, const char *name, char ret_path[WHERE_MAX],
	struct err_note *note)
{
	int n = snprintf(ret_path, WHERE_MAX, "%s/%s", folder, name);

	if (n >= WHERE_MAX)
		return err_set(note, E_TOOBIG, "a path of %d bytes", n);
	return 0;
}

int where_folder(struct sys *s, char ret_folder[WHERE_MAX], struct err_note *note)
{
	const char *runtime = sys_getenv(s, "XDG_RUNTIME_DIR"), *home = sys_getenv(s, "HOME");

	if (runtime != NULL && runtime[0] == '/')
		return where_join(runtime, "wadi", ret_folder, note);
	if (home != NULL && home[0] == '/')
		return where_join(home, ".wadi", ret_folder, note);
	return err_set(note, E_INVALID, "neither XDG_RUNTIME_DIR nor HOME is set");
}

/* Behind what is there already; a file that is none of ours is as good as none. */
PARKS static void nodes_add(struct sys *s, const char *folder, char addrs[WHERE_LIST_MAX])
{
	char path[WHERE_MAX], list[WHERE_LIST_MAX / 2];
	size_t at = strlen(addrs);
	struct sys_file *f;
	int64_t n;

	if (where_join(folder, WHERE_NODES, path, NULL) < 0 ||
		sys_open(s, path, SYS_READ, &f, NULL) < 0)
		return;
	n = sys_pread(f, list, sizeof list - 1, 0, NULL);
	sys_close(f);
	if (n <= 0)
		return;
	list[n] = '\0';
	list[strcspn(list, "\r\n")] = '\0';
	if (list[0] != '\0' && list[strspn(list, NODES_CHARS)] == '\0')
		snprintf(addrs + at, WHERE_LIST_MAX - at, ",%s", list);
}

int where_connect(struct sys *s, const char *url, char ret_addrs[WHERE_LIST_MAX],
	struct err_note *note)
{
	char folder[WHERE_MAX];
	int n, rc;

	if (url == NULL)
		url = sys_getenv(s, "WADI_URL");
	if (url != NULL && url[0] != '\0')
		return where_addrs(url, ret_addrs, note);
	rc = where_folder(s, folder, note);
	if (rc < 0)
		return rc;
	n = snprintf(ret_addrs, WHERE_MAX, "unix:%.230s/%s", folder, WHERE_SOCKET);
	if (n >= WHERE_MAX)
		return err_set(note, E_TOOBIG, "a path of %d bytes", n);
	nodes_add(s, folder, ret_addrs);
	return 0;
}

PARKS int where_key_read(struct sys *s, const char *path, char ret_key[WHERE_KEY_CHARS + 1],
	struct err_note *note)
{
	char text[WHERE_KEY_CHARS + 1];
	struct sys_file *f;
	int64_t n;
	int rc = sys_open(s, path, SYS_READ, &f, note);

	if (rc < 0)
		return rc;
	n = sys_pread(f, text, WHERE_KEY_CHARS, 0, note);
	sys_close(f);
	if (n < 0)
		return (int)n;
	text[n] = '\0';
	if (strspn(text, "0123456789abcdef") != WHERE_KEY_CHARS)
		return err_set(note, E_INVALID, "%s does not hold a key", path);
	memcpy(ret_key, text, sizeof text);
	return 0;
}

PARKS int where_tls(struct sys *s, const char *folder, bool later, struct err_note *note)
{
	static const char *const names[] = { "ca.crt", "wadi.crt", "wadi.key" };
	const char *home = sys_getenv(s, "HOME");
	char path[3][WHERE_MAX], own[WHERE_MAX];
	int rc = 0;

	if (folder == NULL || folder[0] == '\0')
		folder = sys_getenv(s, "WADI_CERT");
	if (folder == NULL || folder[0] == '\0') {
		if (home == NULL || home[0] != '/')
			return err_set(note, E_INVALID, "TLS needs certificates: WADI_CERT names "
				"their folder");
		rc = where_join(home, ".wadi/" WHERE_CERT, own, note);
		folder = own;
	}
	for (int i = 0; i < 3 && rc == 0; i++)
		rc = where_join(folder, names[i], path[i], note);
	if (rc < 0)
		return rc;
	return sys_tls_use(s, &(struct sys_tls){ path[0], path[1], path[2], later }, note);
}
