/* SPDX-License-Identifier: Apache-2.0 */
#include "coord/open.h"
#include "base/check.h"
#include "coord/embedded.h"
#include "coord/etcd.h"
#include <stdio.h>
#include <stdlib.h>

enum { LOGIN_MAX = 512 };
#define EMBEDDED "embedded:"

bool coord_url_embedded(const char *url)
{
	return strncmp(url, EMBEDDED, strlen(EMBEDDED)) == 0;
}

/* USER and PASSWORD, split where the first colon is; ret_login[0] is '\0' when there is none. */
PARKS static int login_read(struct sys *s, const char *path, char ret_login[LOGIN_MAX],
	char **ret_password, struct err_note *note)
{
	struct sys_file *f;
	int64_t n;
	char *colon;
	int rc = sys_open(s, path, SYS_READ, &f, note);

	if (rc < 0)
		return rc;
	n = sys_pread(f, ret_login, LOGIN_MAX - 1, 0, note);
	sys_close(f);
	if (n < 0)
		return (int)n;
	ret_login[n] = '\0';
	ret_login[strcspn(ret_login, "\r\n")] = '\0';
	colon = strchr(ret_login, ':');
	if (colon == NULL || colon == ret_login)
		return err_set(note, E_INVALID, "%s: one line USER:PASSWORD is expected", path);
	*colon = '\0';
	*ret_password = colon + 1;
	return 0;
}

PARKS static int open_etcd(struct sys *s, const struct coord_open_opts *o, const char *url,
	struct coord **ret_c, struct err_note *note)
{
	const char *path = o->login_file != NULL ? o->login_file
						 : sys_getenv(s, "WADI_COORD_LOGIN");
	bool keyed = coord_etcd_keyed(url);
	struct coord_etcd_opts eo = { .url = url, .tls = keyed ? o->key_tls : o->tls };
	char login[LOGIN_MAX] = "", *password = NULL;
	int rc = 0;

	if (!keyed && path != NULL && path[0] != '\0') {
		rc = login_read(s, path, login, &password, note);
		eo.user = login;
		eo.password = password;
	}
	if (rc == 0)
		rc = coord_etcd_open(s, &eo, ret_c, note);
	explicit_bzero(login, sizeof login);
	return rc;
}

int coord_open(struct sys *s, const struct coord_open_opts *o, struct coord **ret_c, char *ret_url,
	struct err_note *note)
{
	char url[COORD_URL_MAX], moved_to[COORD_URL_MAX] = "";
	int rc;

	if (snprintf(url, sizeof url, "%s", o->url) >= (int)sizeof url)
		return err_set(note, E_TOOBIG, "a URL of %zu bytes", strlen(o->url));
	if (coord_url_embedded(url)) {
		rc = coord_embedded_open(
			s, url + strlen(EMBEDDED), o->create, ret_c, moved_to, note);
		if (rc != E_GONE) {
			if (rc == 0)
				memcpy(ret_url, url, sizeof url);
			return rc;
		}
		check(moved_to[0] != '\0');
		memcpy(url, moved_to, sizeof url);
		if (coord_url_embedded(url))
			return err_set(note, E_CORRUPT, "%s has moved to %s", o->url, url);
	}
	rc = open_etcd(s, o, url, ret_c, note);
	if (rc == 0)
		memcpy(ret_url, url, sizeof url);
	return rc;
}
