/* SPDX-License-Identifier: Apache-2.0 */
#include "node/member.h"
#include "base/check.h"
#include "client/where.h"
#include <stdio.h>
#include <stdlib.h>

#define MEMBER_FIRST "wadi-cluster 1\n"
#define MEMBER_FILE "cluster"

bool member_word_ok(const char *word, size_t cap)
{
	size_t n = strlen(word);

	for (size_t i = 0; i < n; i++)
		if (word[i] <= ' ' || word[i] >= 0x7f)
			return false;
	return n > 0 && n < cap;
}

/* ---- roles ---- */
static const struct {
	unsigned role, flag;
	const char *word;
} role_words[] = { { NODE_RUNS_META, 0, "meta" }, { NODE_RUNS_STORE, 0, "store" },
	{ 0, NODE_NEW, "new" }, { 0, NODE_DRAIN, "drain" }, { 0, NODE_REMOVED, "removed" } };
enum { ROLE_WORDS = sizeof role_words / sizeof role_words[0] };

void member_role_print(unsigned roles, unsigned flags, char ret_role[COORD_NAME_MAX])
{
	size_t n = 0;

	ret_role[0] = '\0';
	for (size_t i = 0; i < ROLE_WORDS; i++)
		if ((roles & role_words[i].role) != 0 || (flags & role_words[i].flag) != 0)
			n += (size_t)snprintf(ret_role + n, COORD_NAME_MAX - n, "%s%s",
				n > 0 ? "," : "", role_words[i].word);
	if (n == 0)
		snprintf(ret_role, COORD_NAME_MAX, "none");
}

void member_role_parse(const char *role, unsigned *ret_roles, unsigned *ret_flags)
{
	*ret_roles = *ret_flags = 0;
	while (*role != '\0') {
		size_t n = strcspn(role, ",");

		for (size_t i = 0; i < ROLE_WORDS; i++)
			if (strlen(role_words[i].word) == n &&
				strncmp(role, role_words[i].word, n) == 0) {
				*ret_roles |= role_words[i].role;
				*ret_flags |= role_words[i].flag;
			}
		role += n + (role[n] == ',');
	}
}

/* ---- text ---- */
size_t member_print(const struct member *m, char ret_text[MEMBER_TEXT_MAX])
{
	char role[COORD_NAME_MAX];
	size_t n;

	member_role_print(m->roles, 0, role);
	n = (size_t)snprintf(ret_text, MEMBER_TEXT_MAX, MEMBER_FIRST "node %llu %s\n",
		(unsigned long long)m->id, role);
	if (m->coord[0] != '\0')
		n += (size_t)snprintf(ret_text + n, MEMBER_TEXT_MAX - n, "coord %s\n", m->coord);
	if (m->etcd_name[0] != '\0')
		n += (size_t)snprintf(ret_text + n, MEMBER_TEXT_MAX - n, "etcd %s %s %s\n",
			m->etcd_name, m->etcd_client, m->etcd_peer);
	if (m->etcd_members[0] != '\0')
		n += (size_t)snprintf(
			ret_text + n, MEMBER_TEXT_MAX - n, "members %s\n", m->etcd_members);
	if (m->n_seeds > 0) {
		n += (size_t)snprintf(ret_text + n, MEMBER_TEXT_MAX - n, "seeds");
		for (uint32_t i = 0; i < m->n_seeds; i++)
			n += (size_t)snprintf(
				ret_text + n, MEMBER_TEXT_MAX - n, " %s", m->seeds[i]);
		n += (size_t)snprintf(ret_text + n, MEMBER_TEXT_MAX - n, "\n");
	}
	check(n < MEMBER_TEXT_MAX);
	return n;
}

/* The next word of a line, into a field of cap bytes. */
static bool word(const char **at, const char *end, char *ret_word, size_t cap)
{
	size_t n = 0;

	if (*at < end && **at == ' ')
		(*at)++;
	while (*at + n < end && (*at)[n] != ' ')
		n++;
	if (n == 0 || n >= cap)
		return false;
	memcpy(ret_word, *at, n);
	ret_word[n] = '\0';
	*at += n;
	return member_word_ok(ret_word, cap);
}

static bool line_parse(const char *at, const char *end, struct member *m)
{
	char key[16], number[24], role[COORD_NAME_MAX], *rest;
	unsigned flags;

	if (!word(&at, end, key, sizeof key))
		return false;
	if (strcmp(key, "node") == 0) {
		if (!word(&at, end, number, sizeof number) ||
			!word(&at, end, role, sizeof role))
			return false;
		m->id = strtoull(number, &rest, 10);
		member_role_parse(role, &m->roles, &flags);
		return *rest == '\0' && number[0] != '-' && at == end;
	}
	if (strcmp(key, "coord") == 0)
		return word(&at, end, m->coord, sizeof m->coord) && at == end;
	if (strcmp(key, "members") == 0)
		return word(&at, end, m->etcd_members, sizeof m->etcd_members) && at == end;
	if (strcmp(key, "etcd") == 0)
		return word(&at, end, m->etcd_name, sizeof m->etcd_name) &&
		       word(&at, end, m->etcd_client, sizeof m->etcd_client) &&
		       word(&at, end, m->etcd_peer, sizeof m->etcd_peer) && at == end;
	if (strcmp(key, "seeds") == 0) {
		for (m->n_seeds = 0; at < end; m->n_seeds++)
			if (m->n_seeds == MEMBER_SEEDS_MAX ||
				!word(&at, end, m->seeds[m->n_seeds], SYS_ADDR_MAX))
				return false;
		return true;
	}
	return false;
}

static bool parse(const char *text, struct member *m)
{
	while (*text != '\0') {
		const char *end = strchr(text, '\n');

		if (end == NULL || !line_parse(text, end, m))
			return false;
		text = end + 1;
	}
	return m->id > 0;
}

int member_parse(const char *text, struct member *ret_m)
{
	static const char name[] = "wadi-cluster ";
	struct member *m;
	int rc;

	if (strncmp(text, MEMBER_FIRST, strlen(MEMBER_FIRST)) != 0)
		return strncmp(text, name, strlen(name)) == 0 ? E_UNSUPPORTED : E_CORRUPT;
	m = calloc(1, sizeof *m);
	if (m == NULL)
		return E_NOMEM;
	rc = parse(text + strlen(MEMBER_FIRST), m) ? 0 : E_CORRUPT;
	if (rc == 0)
		*ret_m = *m;
	free(m);
	return rc;
}

/* ---- file ---- */
PARKS int member_load(
	struct sys *s, const char *data, struct member *ret_m, struct err_note *note)
{
	char path[WHERE_MAX], *text = malloc(MEMBER_TEXT_MAX);
	struct sys_file *f;
	int64_t n = 0;
	int rc = text == NULL ? err_set(note, E_NOMEM, "%s", err_text(E_NOMEM))
			      : where_join(data, MEMBER_FILE, path, note);

	if (rc == 0)
		rc = sys_open(s, path, SYS_READ, &f, note);
	if (rc == 0) {
		n = sys_pread(f, text, MEMBER_TEXT_MAX - 1, 0, note);
		sys_close(f);
		rc = n < 0 ? (int)n : 0;
	}
	if (rc == 0) {
		check(n >= 0);
		check(n < MEMBER_TEXT_MAX);
		text[n] = '\0';
		rc = strlen(text) == (size_t)n ? member_parse(text, ret_m) : E_CORRUPT;
		if (rc < 0)
			err_set(note, rc, rc == E_UNSUPPORTED
				? "%s was written by a newer version of Wadi"
				: "%s: it is not what Wadi writes", path);
	}
	free(text);
	return rc;
}

PARKS static int write_synced(
	struct sys *s, const char *path, const char *text, size_t len, struct err_note *note)
{
	struct sys_file *f;
	int rc = sys_open(s, path, SYS_WRITE | SYS_CREATE | SYS_TRUNC, &f, note);

	if (rc < 0)
		return rc;
	rc = sys_pwrite(f, text, len, 0, note);
	if (rc == 0)
		rc = sys_sync(f, note);
	sys_close(f);
	return rc;
}

PARKS int member_save(
	struct sys *s, const char *data, const struct member *m, struct err_note *note)
{
	char path[WHERE_MAX], fresh[WHERE_MAX], *text = malloc(MEMBER_TEXT_MAX);
	int rc = text == NULL ? err_set(note, E_NOMEM, "%s", err_text(E_NOMEM))
			      : where_join(data, MEMBER_FILE, path, note);

	if (rc == 0)
		rc = where_join(data, MEMBER_FILE ".new", fresh, note);
	if (rc == 0)
		rc = write_synced(s, fresh, text, member_print(m, text), note);
	if (rc == 0)
		rc = sys_rename(s, fresh, path, note);
	if (rc == 0)
		rc = sys_sync_dir(s, data, note);
	free(text);
	return rc;
}
