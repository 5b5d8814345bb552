/* SPDX-License-Identifier: Apache-2.0 */
#include "client/where.h"
#include "client/client.h"
#include <stdio.h>
#include <string.h>

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
	size_t len = strlen(url);
	int n;

	if (len + 16 >= WHERE_MAX)
		return err_set(note, E_INVALID, "an address of %zu bytes", len);
	if (strncmp(url, "unix:/", 6) == 0 || strncmp(url, "tcp:", 4) == 0) {
		memcpy(ret_addr, url, len + 1);
		return 0;
	}
	if (strncmp(url, "wadi://", 7) != 0)
		return err_set(note, E_INVALID, "%.200s is neither wadi://HOST:PORT nor unix:/PATH",
			url);
	memcpy(host, url + 7, len - 7 + 1);
	if (host[0] != '\0' && host[len - 8] == '/')
		host[len - 8] = '\0';
	if (!host_ok(host))
		return err_set(note, E_INVALID, "%.200s: no host", url);
	n = has_port(host) ? snprintf(ret_addr, WHERE_MAX, "tcp:%.200s", host)
		: snprintf(ret_addr, WHERE_MAX, "tcp:%.200s:%u", host, WADI_PORT);
	return n < WHERE_MAX ? 0 : err_set(note, E_INVALID, "an address of %d bytes", n);
}

void where_url(const char *addr, char ret_url[WHERE_MAX])
{
	if (strncmp(addr, "tcp:", 4) == 0)
		snprintf(ret_url, WHERE_MAX, "wadi://%.200s", addr + 4);
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

int where_connect(struct sys *s, const char *url, char ret_addr[WHERE_MAX], struct err_note *note)
{
	char folder[WHERE_MAX];
	int n, rc;

	if (url == NULL)
		url = sys_getenv(s, "WADI_URL");
	if (url != NULL && url[0] != '\0')
		return where_addr(url, ret_addr, note);
	rc = where_folder(s, folder, note);
	if (rc < 0)
		return rc;
	n = snprintf(ret_addr, WHERE_MAX, "unix:%.230s/%s", folder, WHERE_SOCKET);
	return n < WHERE_MAX ? 0 : err_set(note, E_TOOBIG, "a path of %d bytes", n);
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
