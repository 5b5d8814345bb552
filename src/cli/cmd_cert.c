/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_cert.c: cert init, issue, client, renew, show.  An authority is a folder with ca.crt and
 * ca.key; what is issued is a folder with ca.crt, wadi.crt and wadi.key. */
#include "base/check.h"
#include "cli/commands.h"
#include "sys/uv/cert.h"
#include <string.h>

#define DAY_S UINT64_C(86400)
#define SKEW_S UINT64_C(300)          /* clocks of other hosts may be behind */
#define FOREVER_S UINT64_C(4102444800) /* 2100: nothing is good for longer */
enum { AUTHORITY_DAYS = 3650, LEAF_DAYS = 365, SOON_DAYS = 30 };

static bool path_in(struct cli *c, const char *folder, const char *name, char ret[OS_PATH_MAX])
{
	size_t len = strlen(folder);

	while (len > 1 && folder[len - 1] == '/')
		len--;
	if (snprintf(ret, OS_PATH_MAX, "%.*s/%s", (int)len, folder, name) < OS_PATH_MAX)
		return true;
	return cli_fail(c, folder, E_TOOBIG, "a path that is too long", NULL);
}

static bool get(struct cli *c, const char *folder, const char *name, char *ret_text, size_t room)
{
	struct err_note note = { "" };
	char path[OS_PATH_MAX];
	int rc;

	if (!path_in(c, folder, name, path))
		return false;
	rc = os_get_text(path, ret_text, room, &note);
	return rc == 0 || cli_fail(c, path, rc, note.text, NULL);
}

static bool put(struct cli *c, const char *folder, const char *name, const char *text, bool secret)
{
	struct err_note note = { "" };
	char path[OS_PATH_MAX];
	int rc;

	if (!path_in(c, folder, name, path))
		return false;
	rc = os_put_text(path, text, secret, &note);
	return rc == 0 || cli_fail(c, path, rc, note.text, NULL);
}

static bool is_there(const char *folder, const char *name)
{
	char path[OS_PATH_MAX];

	snprintf(path, sizeof path, "%.1900s/%s", folder, name);
	return os_kind(path, NULL) != OS_MISSING;
}

static void lifetime(const struct cli *c, uint64_t days, struct cert_ask *a)
{
	uint64_t now_s = os_wall_s(), for_s = c->a.given[O_valid] ? c->a.number[O_valid] / 1000
		: days * DAY_S;

	a->from_s = now_s - SKEW_S;
	a->until_s = for_s < FOREVER_S - now_s ? now_s + for_s : FOREVER_S;
}

static void date(uint64_t s, char ret_text[32])
{
	os_time_text(s * 1000, ret_text, 32);
	ret_text[10] = '\0'; /* the day is enough */
}

/* ---- making ---- */
static bool authority_make(struct cli *c, const char *folder, const char *name,
	struct cert_pem *ret)
{
	struct cert_ask ask = { .role = CERT_AUTHORITY, .name = name };
	struct err_note note = { "" };
	char until[32];
	int rc;

	if (is_there(folder, "ca.key") || is_there(folder, "ca.crt"))
		return cli_fail(c, folder, E_EXISTS, "there is an authority already",
			"with a new one no certificate of the old one counts any more");
	lifetime(c, AUTHORITY_DAYS, &ask);
	rc = cert_make(&ask, NULL, ret, &note);
	if (rc < 0)
		return cli_fail(c, NULL, rc, note.text, NULL);
	if (!put(c, folder, "ca.key", ret->key, true)
	    || !put(c, folder, "ca.crt", ret->cert, false))
		return false;
	date(ask.until_s, until);
	out_note(c, "a new authority is in %s, good until %s: keep its ca.key to yourself", folder,
		until);
	return true;
}

static bool authority_open(struct cli *c, const char *folder, struct cert_pem *ret,
	struct cert_facts *ret_facts)
{
	struct err_note note = { "" };
	int rc;

	if (!get(c, folder, "ca.crt", ret->cert, sizeof ret->cert)
	    || !get(c, folder, "ca.key", ret->key, sizeof ret->key))
		return false;
	rc = cert_read(ret->cert, ret->key, ret_facts, &note);
	if (rc == 0 && (ret_facts->role != CERT_AUTHORITY || !ret_facts->key_fits))
		rc = err_set(&note, E_INVALID, "ca.crt and ca.key are not an authority");
	return rc == 0 || cli_fail(c, folder, rc, note.text, NULL);
}

/* Makes what ask says into the folder out. */
static bool issue(struct cli *c, const struct cert_pem *ca, const struct cert_facts *by,
	struct cert_ask *ask, const char *out)
{
	static struct cert_pem made;
	struct err_note note = { "" };
	char until[32];
	bool ok;
	int rc;

	lifetime(c, LEAF_DAYS, ask);
	if (ask->until_s > by->until_s)
		ask->until_s = by->until_s;
	if (ask->until_s <= ask->from_s)
		return cli_fail(c, NULL, E_INVALID, "the authority's time is over",
			"wadi cert init makes a new one");
	rc = cert_make(ask, ca, &made, &note);
	if (rc < 0)
		return cli_fail(c, NULL, rc, note.text, NULL);
	ok = put(c, out, "ca.crt", ca->cert, false) && put(c, out, "wadi.key", made.key, true)
		&& put(c, out, "wadi.crt", made.cert, false);
	cert_wipe(&made);
	date(ask->until_s, until);
	if (ok && c->json)
		out_json(json_pack("{s:s, s:s, s:s, s:I}", "name", ask->name, "folder", out, "role",
			ask->role == CERT_NODE ? "node" : "client", "until_s",
			(json_int_t)ask->until_s));
	else if (ok)
		out_note(c, "%s %s: key and certificate are in %s, good until %s",
			ask->role == CERT_NODE ? "node" : "client", ask->name, out, until);
	return ok;
}

static bool issue_new(struct cli *c, enum cert_role role, const char *name, const char *hosts)
{
	static struct cert_pem ca;
	static struct cert_facts by;
	const char *folder = c->a.pos[0], *out = c->a.text[O_out];
	struct cert_ask ask = { .role = role, .name = name, .hosts = hosts };
	static char room[OS_PATH_MAX];
	bool ok;

	if (strchr(name, '/') != NULL)
		return cli_fail(c, name, E_INVALID, "a name has no slash", NULL);
	if (out == NULL && !path_in(c, folder, name, room))
		return false;
	out = out != NULL ? out : room;
	if (!c->a.given[O_force] && (is_there(out, "wadi.key") || is_there(out, "wadi.crt")))
		return cli_fail(c, out, E_EXISTS, "there is a certificate already",
			"wadi cert renew makes a fresh one for the same hosts; --force a new one");
	if (os_kind(folder, NULL) == OS_MISSING && !authority_make(c, folder, "wadi", &ca))
		return false;
	ok = authority_open(c, folder, &ca, &by) && issue(c, &ca, &by, &ask, out);
	cert_wipe(&ca);
	return ok;
}

void cmd_cert_init(struct cli *c)
{
	static struct cert_pem ca;

	if (authority_make(c, c->a.pos[0], c->a.given[O_name] ? c->a.text[O_name] : "wadi", &ca))
		out_note(c, "next, for each server: wadi cert issue %s --host HOST", c->a.pos[0]);
	cert_wipe(&ca);
}

void cmd_cert_issue(struct cli *c)
{
	const char *hosts = c->a.text[O_host];
	char first[CERT_NAME_MAX + 1];

	if (!c->a.given[O_host]) {
		cli_fail(c, NULL, E_INVALID, "wadi cert issue needs --host: by what name or "
			"address do clients call the server?", NULL);
		return;
	}
	snprintf(first, sizeof first, "%.*s", (int)strcspn(hosts, ","), hosts);
	for (char *at = first; *at != '\0'; at++)
		if (*at == ':') /* of an IPv6 address */
			*at = '-';
	if (issue_new(c, CERT_NODE, c->a.given[O_name] ? c->a.text[O_name] : first, hosts))
		out_note(c, "next: put that folder on the server's host as cert in its --data, "
			"then: wadi serve --listen %.*s", (int)strcspn(hosts, ","), hosts);
}

void cmd_cert_client(struct cli *c)
{
	if (issue_new(c, CERT_CLIENT, c->a.n_pos > 1 ? c->a.pos[1] : "client", NULL))
		out_note(c, "next: put that folder on the client's host as ~/.wadi/cert, or name "
			"it in WADI_CERT, then: wadi --url wadis://HOST ls");
}

static bool renew(struct cli *c, const struct cert_pem *ca, const struct cert_facts *by,
	const char *folder)
{
	static char text[CERT_PEM_MAX];
	static struct cert_facts old;
	struct err_note note = { "" };
	struct cert_ask ask;
	int rc;

	if (!get(c, folder, "wadi.crt", text, sizeof text))
		return false;
	rc = cert_read(text, NULL, &old, &note);
	if (rc == 0 && old.role == CERT_AUTHORITY)
		rc = err_set(&note, E_INVALID, "wadi.crt is an authority");
	if (rc < 0)
		return cli_fail(c, folder, rc, note.text, NULL);
	ask = (struct cert_ask){ .role = old.role, .name = old.name,
		.hosts = old.role == CERT_NODE ? old.hosts : NULL };
	return issue(c, ca, by, &ask, folder);
}

void cmd_cert_renew(struct cli *c)
{
	static struct cert_pem ca;
	static struct cert_facts by;

	if (authority_open(c, c->a.pos[0], &ca, &by))
		for (int i = 1; i < c->a.n_pos; i++)
			renew(c, &ca, &by, c->a.pos[i]);
	cert_wipe(&ca);
}

/* ---- showing ---- */
static bool show(struct cli *c, const char *path, const char *key)
{
	static const char *const roles[] = { "authority", "node", "client" };
	static char text[CERT_PEM_MAX], secret[CERT_KEY_MAX];
	static struct cert_facts f;
	struct err_note note = { "" };
	char from[32], until[32];
	uint64_t now_s = os_wall_s();
	int rc = os_get_text(path, text, sizeof text, &note);

	if (rc == 0 && key != NULL)
		rc = os_get_text(key, secret, sizeof secret, &note);
	if (rc == 0)
		rc = cert_read(text, key != NULL ? secret : NULL, &f, &note);
	memset(secret, 0, sizeof secret);
	if (rc < 0)
		return cli_fail(c, path, rc, note.text, NULL);
	date(f.from_s, from);
	date(f.until_s, until);
	if (c->json)
		out_json(json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I}", "path", path, "role",
			roles[f.role], "name", f.name, "hosts", f.hosts, "sha256", f.hash, "from_s",
			(json_int_t)f.from_s, "until_s", (json_int_t)f.until_s));
	else
		printf("%s%s%s\n  %-8s %s\n%s%s%s  %-8s %s to %s\n  %-8s %s\n", out_bold(c), path,
			out_plain(c), roles[f.role], f.name,
			f.hosts[0] != '\0' ? "  hosts    " : "", f.hosts,
			f.hosts[0] != '\0' ? "\n" : "", "good", from, until, "sha256", f.hash);
	if (key != NULL && !f.key_fits)
		return cli_fail(c, path, E_DENIED, "its key does not fit", "wadi cert renew");
	if (f.until_s <= now_s)
		return cli_fail(c, path, E_DENIED, "it is over", "wadi cert renew");
	if (f.until_s < now_s + SOON_DAYS * DAY_S)
		out_note(c, "%s is over in %u days: wadi cert renew", path,
			(unsigned)((f.until_s - now_s) / DAY_S));
	return true;
}

static void show_path(struct cli *c, const char *path)
{
	static char cert[OS_PATH_MAX], key[OS_PATH_MAX];
	bool any = false;

	if (os_kind(path, NULL) != OS_FOLDER) {
		show(c, path, NULL);
		return;
	}
	for (int i = 0; i < 2; i++) {
		const char *const names[2][2] = { { "ca.crt", "ca.key" },
			{ "wadi.crt", "wadi.key" } };

		if (!is_there(path, names[i][0]))
			continue;
		any = true;
		if (path_in(c, path, names[i][0], cert) && path_in(c, path, names[i][1], key))
			show(c, cert, i == 1 || is_there(path, names[i][1]) ? key : NULL);
	}
	if (!any)
		cli_fail(c, path, E_NOTFOUND, "there is no certificate",
			"wadi cert issue and wadi cert client make them");
}

void cmd_cert_show(struct cli *c)
{
	const char *folder = os_env("WADI_CERT"), *home = os_env("HOME");
	static char room[OS_PATH_MAX];

	for (int i = 0; i < c->a.n_pos; i++)
		show_path(c, c->a.pos[i]);
	if (c->a.n_pos > 0)
		return;
	if (folder == NULL && home != NULL && path_in(c, home, ".wadi/cert", room))
		folder = room;
	if (folder != NULL)
		show_path(c, folder);
	else
		cli_fail(c, NULL, E_INVALID, "neither WADI_CERT nor HOME is set", NULL);
}
