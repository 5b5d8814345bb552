/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_object.c: put, get, cat, mv, rm, du, stat, persist. */
#include "cli/commands.h"
#include "cli/copy.h"
#include "cli/words.h"
#include <stdlib.h>
#include <string.h>

static uint64_t number(const struct cli *c, enum option_id o)
{
	return c->a.given[o] ? c->a.number[o] : 0;
}

static uint32_t bit(const struct cli *c, enum option_id o, uint32_t flag)
{
	return c->a.given[o] ? flag : 0;
}

static uint32_t short_ms(uint64_t ms) { return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX; }

static struct wadi_put_opts put_opts(const struct cli *c)
{
	struct wadi_put_opts o = { .size = sizeof o };

	o.flags = bit(c, O_persist, WADI_PUT_PERSIST) | bit(c, O_durable, WADI_PUT_DURABLE)
		| bit(c, O_delete_on_read, WADI_PUT_DELETE_ON_READ)
		| bit(c, O_if_absent, WADI_PUT_IF_ABSENT)
		| bit(c, O_version, WADI_PUT_IF_VERSION);
	o.if_version = number(c, O_version);
	o.ttl_ms = number(c, O_ttl);
	return o;
}

static struct wadi_get_opts get_opts(const struct cli *c)
{
	struct wadi_get_opts o = { .size = sizeof o };

	o.flags = bit(c, O_delete, WADI_GET_DELETE);
	o.offset = number(c, O_offset);
	o.len = number(c, O_length);
	o.wait_ms = short_ms(number(c, O_wait));
	return o;
}

static void tell_stored(struct cli *c, const struct name *n, const struct wadi_info *info)
{
	char object[NAME_TEXT_MAX];

	if (c->json)
		out_json(json_pack("{s:s, s:I, s:I}", "name", name_text(n, object), "size",
			(json_int_t)info->size, "version", (json_int_t)info->version));
}

void cmd_put(struct cli *c)
{
	const char *path = c->a.n_pos == 2 ? c->a.pos[0] : "-";
	struct wadi_put_opts o = put_opts(c);
	struct wadi_info info;
	struct name n;
	size_t len;

	if (!name_parse(c, c->a.pos[c->a.n_pos - 1], false, &n))
		return;
	len = strlen(n.key);
	if ((len == 0 || n.key[len - 1] == '/') && strcmp(path, "-") != 0)
		snprintf(n.key + len, sizeof n.key - len, "%s", base_name(path));
	if (n.key[0] == '\0') {
		cli_fail(c, c->a.pos[c->a.n_pos - 1], E_INVALID, "this names no object",
			"wadi put FILE BUCKET/KEY");
		return;
	}
	if (cli_connect(c, 0) && copy_file_in(c, path, &n, &o, &info))
		tell_stored(c, &n, &info);
}

void cmd_get(struct cli *c)
{
	struct wadi_get_opts o = get_opts(c);
	struct wadi_info info;
	const char *path;
	struct name n;

	if (!name_parse(c, c->a.pos[0], true, &n) || !cli_connect(c, 0))
		return;
	path = c->a.n_pos == 2 ? c->a.pos[1] : base_name(n.key);
	if (path[0] == '\0') {
		cli_fail(c, c->a.pos[0], E_INVALID, "the key ends with a slash",
			"say into which file: wadi get BUCKET/KEY FILE");
		return;
	}
	if (copy_file_out(c, &n, path, &o, &info) && strcmp(path, "-") != 0)
		tell_stored(c, &n, &info);
}

void cmd_cat(struct cli *c)
{
	struct wadi_get_opts o = get_opts(c);
	struct name n;

	if (!cli_connect(c, 0))
		return;
	for (int i = 0; i < c->a.n_pos; i++)
		if (name_parse(c, c->a.pos[i], true, &n))
			copy_file_out(c, &n, "-", &o, NULL);
}

void cmd_mv(struct cli *c)
{
	struct wadi_opts o = { .size = sizeof o };
	struct name from, to;
	int rc;

	o.flags = bit(c, O_if_absent, WADI_PUT_IF_ABSENT);
	if (!name_parse(c, c->a.pos[0], true, &from) || !name_parse(c, c->a.pos[1], true, &to)
	    || !cli_connect(c, 0))
		return;
	rc = wadi_rename(c->w, from.bucket, from.key, to.bucket, to.key, &o);
	if (rc == WADI_E_CROSS)
		cli_fail(c, c->a.pos[0], rc, wadi_error(c->w), "wadi cp, then wadi rm");
	else if (rc < 0)
		cli_failed(c, c->a.pos[0], rc);
}

/* ---- stat, persist ---- */
static void stat_text(const char *object, const struct wadi_info *i)
{
	char size[WORDS_MAX], tiers[WORDS_MAX], when[64];

	os_time_text(i->mtime_ms, when, sizeof when);
	printf("%s\n  size      %llu (%s)\n  version   %llu\n  modified  %s\n", object,
		(unsigned long long)i->size, words_put_size(i->size, size),
		(unsigned long long)i->version, when);
	if (i->expires_ms != 0) {
		os_time_text(i->expires_ms, when, sizeof when);
		printf("  expires   %s\n", when);
	}
	printf("  bytes     %s\n", i->tiers == 0 ? "with the metadata"
		: words_put_tiers(i->tiers, tiers));
	if (i->flags & WADI_PUT_PERSIST)
		puts("  persists");
	if (i->flags & WADI_PUT_DELETE_ON_READ)
		puts("  is deleted when read");
}

static void stat_json(const char *object, const struct wadi_info *i)
{
	char tiers[WORDS_MAX];

	out_json(json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:b, s:b}", "name", object,
		"size", (json_int_t)i->size, "version", (json_int_t)i->version,
		"mtime_ms", (json_int_t)i->mtime_ms, "ctime_ms", (json_int_t)i->ctime_ms,
		"expires_ms", (json_int_t)i->expires_ms,
		"tiers", i->tiers == 0 ? "" : words_put_tiers(i->tiers, tiers),
		"persist", (i->flags & WADI_PUT_PERSIST) != 0,
		"delete_on_read", (i->flags & WADI_PUT_DELETE_ON_READ) != 0));
}

void cmd_stat(struct cli *c)
{
	struct wadi_info info;
	struct name n;

	if (!cli_connect(c, 0))
		return;
	for (int i = 0; i < c->a.n_pos; i++) {
		int rc;

		if (!name_parse(c, c->a.pos[i], true, &n))
			continue;
		rc = wadi_stat(c->w, n.bucket, n.key, NULL, &info);
		if (rc < 0)
			cli_failed(c, c->a.pos[i], rc);
		else if (c->json)
			stat_json(c->a.pos[i], &info);
		else
			stat_text(c->a.pos[i], &info);
	}
}

void cmd_persist(struct cli *c)
{
	struct wadi_opts o = { .size = sizeof o, .ttl_ms = number(c, O_ttl) };
	struct name n;

	if (!cli_connect(c, 0))
		return;
	for (int i = 0; i < c->a.n_pos; i++) {
		int rc;

		if (!name_parse(c, c->a.pos[i], true, &n))
			continue;
		rc = wadi_persist(c->w, n.bucket, n.key, &o);
		if (rc < 0)
			cli_failed(c, c->a.pos[i], rc);
		else if (c->json)
			out_json(json_pack("{s:s}", "name", c->a.pos[i]));
	}
}
