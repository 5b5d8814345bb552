/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_copy.c: cp. */
#include "cli/commands.h"
#include "cli/copy.h"
#include "cli/walk.h"
#include <stdlib.h>
#include <string.h>

struct cp {
	struct cli *c;
	struct wadi_put_opts put;
	struct wadi_get_opts get;
	/* of the walk under way */
	const char *from_path;       /* local folder */
	struct name from;            /* prefix: its key */
	bool to_wadi;
	struct name to;              /* where: key or prefix */
	const char *to_path;
	uint64_t copied;
	char copied_text[32];        /* "12 copied", while a tree is */
	bool failed;
	/* Room for names, which are too long for a stack frame. */
	char path[OS_PATH_MAX], source[OS_PATH_MAX], below_path[OS_PATH_MAX];
	char from_text[NAME_TEXT_MAX], to_text[NAME_TEXT_MAX];
	struct name one;
};

static bool tell(struct cp *cp, const char *from, const char *to, bool ok)
{
	if (!ok) {
		cp->failed = true;
		return false;
	}
	cp->copied++;
	snprintf(cp->copied_text, sizeof cp->copied_text, "%llu copied",
		(unsigned long long)cp->copied);
	if (cp->c->json)
		out_json(json_pack("{s:s, s:s}", "from", from, "to", to));
	return true;
}

/* FOLDER/NAME, with one slash between. */
static bool join(struct cp *cp, const char *folder, const char *name, char *ret, size_t room)
{
	size_t len = strlen(folder), name_len = strlen(name);
	size_t slash = len == 0 || folder[len - 1] == '/' ? 0 : 1;

	if (len + slash + name_len < room) {
		memmove(ret, folder, len); /* the result may be where the folder is */
		memcpy(ret + len, "/", slash);
		memcpy(ret + len + slash, name, name_len + 1);
		return true;
	}
	return cli_fail(cp->c, name, E_TOOBIG, "the name would be too long", NULL);
}

/* One thing to one thing; from is a path, or an object when from_name is not NULL. */
static bool copy_one(struct cp *cp, const char *from, const struct name *from_name,
	const struct name *to, const char *to_path)
{
	bool ok;

	if (from_name != NULL && to != NULL)
		ok = copy_object(cp->c, from_name, to, &cp->put, NULL);
	else if (from_name != NULL)
		ok = copy_file_out(cp->c, from_name, to_path, &cp->get, NULL);
	else
		ok = copy_file_in(cp->c, from, to, &cp->put, NULL);
	return tell(cp, from_name != NULL ? name_text(from_name, cp->from_text) : from,
		to != NULL ? name_text(to, cp->to_text) : to_path, ok);
}

/* What lies at rest below the source, to the same place below the target. */
static bool copy_below(struct cp *cp, const char *from, const struct name *from_name,
	const char *rest)
{
	struct name *to = &cp->one;

	*to = cp->to;
	while (*rest == '/')
		rest++;
	if (cp->to_wadi)
		return join(cp, cp->to.key, rest, to->key, sizeof to->key)
			&& copy_one(cp, from, from_name, to, NULL);
	/* A key must not climb out of the target. */
	if (strstr(rest, "../") == rest || strstr(rest, "/../") != NULL)
		return cli_fail(cp->c, rest, E_INVALID, "this key is no path below the target",
			NULL);
	return join(cp, cp->to_path, rest, cp->below_path, sizeof cp->below_path)
		&& copy_one(cp, from, from_name, NULL, cp->below_path);
}

static int walk_file(void *arg, const char *path)
{
	struct cp *cp = arg;

	copy_below(cp, path, NULL, path + strlen(cp->from_path));
	return cp->failed ? E_CANCELED : 0;
}

static bool walk_key(void *arg, const struct wadi_entry *e)
{
	struct cp *cp = arg;
	static struct name n;

	n = cp->from;
	snprintf(n.key, sizeof n.key, "%s", e->name);
	copy_below(cp, NULL, &n, e->name + strlen(cp->from.key));
	return !cp->failed;
}

static void copy_tree(struct cp *cp, const char *from, bool from_wadi)
{
	struct wadi_list_opts o = { .size = sizeof o };
	struct err_note note = { "" };
	uint64_t before = cp->copied;
	int rc;

	if (from_wadi) {
		size_t len = strlen(cp->from.key);

		if (len > 0 && cp->from.key[len - 1] != '/' && len + 1 < sizeof cp->from.key)
			memcpy(cp->from.key + len, "/", 2);
		if (walk_keys(cp->c, &cp->from, &o, walk_key, cp) && cp->copied == before
		    && !cp->failed)
			cli_fail(cp->c, from, WADI_E_NOTFOUND, "nothing lies below this", NULL);
		return;
	}
	cp->from_path = from;
	rc = os_walk(from, walk_file, cp, &note);
	if (rc < 0 && !cp->failed)
		cli_fail(cp->c, NULL, rc, note.text, NULL);
}

/* The target of one source: TO itself, or TO/BASE. */
static bool target_set(struct cp *cp, const char *from, bool from_wadi, bool below,
	const char *to)
{
	char *copy = cp->source;
	size_t len = strlen(from);

	if (len >= sizeof cp->source)
		return cli_fail(cp->c, from, E_TOOBIG, "a path that is too long", NULL);
	memcpy(copy, from_wadi ? from + 5 : from, len + 1 - (from_wadi ? 5 : 0));
	for (len = strlen(copy); len > 1 && copy[len - 1] == '/'; len--)
		copy[len - 1] = '\0';
	cp->to_wadi = name_is_wadi(to);
	if (cp->to_wadi) {
		if (!name_parse(cp->c, to, false, &cp->to))
			return false;
		return !below || join(cp, cp->to.key, base_name(copy), cp->to.key,
			sizeof cp->to.key);
	}
	cp->to_path = to;
	if (!below)
		return true;
	cp->to_path = cp->path;
	return join(cp, to, base_name(copy), cp->path, sizeof cp->path);
}

static void copy_source(struct cp *cp, const char *from, bool below, const char *to)
{
	bool from_wadi = name_is_wadi(from);
	const char *base;

	if (from_wadi && !name_parse(cp->c, from, !cp->c->a.given[O_recursive], &cp->from))
		return;
	if (!from_wadi && !name_is_wadi(to)) {
		cli_fail(cp->c, from, E_INVALID, "neither side is an object",
			"objects are written wadi:BUCKET/KEY here; cp copies files");
		return;
	}
	if (!target_set(cp, from, from_wadi, below, to))
		return;
	if (cp->c->a.given[O_recursive] && (from_wadi || os_kind(from, NULL) == OS_FOLDER)) {
		struct meter all;

		meter_start(&all, cp->c, cp->copied_text, UINT64_MAX);
		cp->c->over = &all;
		copy_tree(cp, from, from_wadi);
		cp->c->over = NULL;
		meter_end(&all);
		return;
	}
	if (cp->to_wadi && cp->to.key[0] == '\0') {
		base = base_name(from_wadi ? cp->from.key : from);
		if (!join(cp, "", base, cp->to.key, sizeof cp->to.key))
			return;
	}
	copy_one(cp, from, from_wadi ? &cp->from : NULL, cp->to_wadi ? &cp->to : NULL,
		cp->to_path);
}

void cmd_cp(struct cli *c)
{
	static struct cp cp;
	const char *to = c->a.pos[c->a.n_pos - 1];
	size_t len = strlen(to);
	bool below = c->a.n_pos > 2 || (len > 0 && to[len - 1] == '/');

	cp.c = c;
	cp.put.size = sizeof cp.put;
	cp.get.size = sizeof cp.get;
	if (c->a.given[O_persist])
		cp.put.flags = WADI_PUT_PERSIST;
	if (!name_is_wadi(to) && os_kind(to, NULL) == OS_FOLDER)
		below = true;
	if (!cli_connect(c, 0))
		return;
	for (int i = 0; i < c->a.n_pos - 1; i++)
		copy_source(&cp, c->a.pos[i], below, to);
	if (cp.copied > 1)
		out_note(c, "%llu copied", (unsigned long long)cp.copied);
}
