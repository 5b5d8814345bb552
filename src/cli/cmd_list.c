/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_list.c: ls, du, rm: commands that walk through keys. */
#include "cli/commands.h"
#include "cli/copy.h"
#include "cli/walk.h"
#include "cli/words.h"
#include <string.h>

enum { PAGE = 64 };

/* ---- ls ---- */
struct ls { struct cli *c; const struct name *at; uint64_t left; };

static void ls_json(const char *object, const struct wadi_entry *e)
{
	out_json(json_pack("{s:s, s:s, s:I, s:I, s:I}", "name", object, "kind",
		e->kind == WADI_PREFIX ? "prefix" : e->kind == WADI_DIRECTORY ? "directory"
		: "object", "size", (json_int_t)e->size, "version", (json_int_t)e->version,
		"mtime_ms", (json_int_t)e->mtime_ms));
}

static void ls_long(const struct wadi_entry *e)
{
	char size[WORDS_MAX], when[64] = "";

	if (e->kind == WADI_OBJECT)
		os_time_text(e->mtime_ms, when, sizeof when);
	printf("%10s  %19s  %s\n", e->kind == WADI_OBJECT ? words_put_size(e->size, size) : "-",
		when, e->name);
}

static bool ls_entry(void *arg, const struct wadi_entry *e)
{
	struct ls *ls = arg;
	char object[NAME_TEXT_MAX];

	if (ls->c->json) {
		snprintf(object, sizeof object, "%s/%s", ls->at->bucket, e->name);
		ls_json(object, e);
	} else if (ls->c->a.given[O_long]) {
		ls_long(e);
	} else {
		puts(e->name);
	}
	return --ls->left > 0;
}

void cmd_ls(struct cli *c)
{
	struct wadi_list_opts o = { .size = sizeof o };
	struct name at;
	struct ls ls = { .c = c, .at = &at, .left = UINT64_MAX };

	if (c->a.n_pos == 0) {
		cmd_bucket_ls(c);
		return;
	}
	if (!name_parse(c, c->a.pos[0], false, &at) || !cli_connect(c, 0))
		return;
	o.delimiter = c->a.given[O_recursive] ? '\0' : '/';
	o.after = c->a.given[O_after] ? c->a.text[O_after] : NULL;
	if (c->a.given[O_max] && c->a.number[O_max] > 0) {
		ls.left = c->a.number[O_max];
		o.max = ls.left < 1000 ? (uint32_t)ls.left : 0;
	}
	walk_keys(c, &at, &o, ls_entry, &ls);
}

/* ---- du ---- */
struct du { uint64_t objects, bytes; };

static bool du_entry(void *arg, const struct wadi_entry *e)
{
	struct du *du = arg;

	du->objects++;
	du->bytes += e->size;
	return true;
}

static void du_tell(const struct cli *c, const char *what, const struct du *du)
{
	char size[WORDS_MAX];

	if (c->json)
		out_json(json_pack("{s:s, s:I, s:I}", "name", what, "objects",
			(json_int_t)du->objects, "bytes", (json_int_t)du->bytes));
	else
		printf("%12s  %10llu objects  %s\n", words_put_size(du->bytes, size),
			(unsigned long long)du->objects, what);
}

static void du_all(struct cli *c)
{
	static struct wadi_bucket_info page[PAGE];
	uint64_t cursor = 0;
	size_t n;

	do {
		int rc = wadi_bucket_list(c->w, &cursor, page, PAGE, &n);

		if (rc < 0) {
			cli_failed(c, NULL, rc);
			return;
		}
		for (size_t i = 0; i < n; i++)
			du_tell(c, page[i].name, &(struct du){ page[i].files, page[i].used_bytes });
	} while (cursor != 0);
}

void cmd_du(struct cli *c)
{
	struct wadi_list_opts o = { .size = sizeof o };
	struct name at;

	if (!cli_connect(c, 0))
		return;
	if (c->a.n_pos == 0)
		du_all(c);
	for (int i = 0; i < c->a.n_pos; i++) {
		struct du du = { 0 };

		if (name_parse(c, c->a.pos[i], false, &at)
		    && walk_keys(c, &at, &o, du_entry, &du))
			du_tell(c, c->a.pos[i], &du);
	}
}

/* ---- rm ---- */
enum { DELETES_FLYING_MAX = 32 };

struct rm {
	struct cli *c;
	const struct name *at;
	struct wadi_op *flying[DELETES_FLYING_MAX];
	unsigned n, next;
	uint64_t deleted;
	bool failed;
};

/* Somebody else may have been faster. */
static void rm_land(struct rm *rm, unsigned i)
{
	int rc;

	if (rm->flying[i] == NULL)
		return;
	rc = wadi_op_wait(rm->flying[i]);
	if (rc == 0) {
		rm->deleted++;
	} else if (rc != WADI_E_NOTFOUND && !rm->failed) {
		rm->failed = true;
		cli_failed(rm->c, rm->at->bucket, rc);
	}
	wadi_op_free(rm->flying[i]);
	rm->flying[i] = NULL;
}

static bool rm_entry(void *arg, const struct wadi_entry *e)
{
	struct rm *rm = arg;
	unsigned i = rm->next++ % DELETES_FLYING_MAX;
	int rc;

	rm_land(rm, i);
	if (rm->failed)
		return false;
	rc = wadi_delete_start(rm->c->w, rm->at->bucket, e->name, NULL, &rm->flying[i]);
	if (rc < 0)
		rm->failed = !cli_failed(rm->c, e->name, rc);
	return !rm->failed;
}

static void rm_below(struct cli *c, const char *text)
{
	struct wadi_list_opts o = { .size = sizeof o };
	struct name at;
	struct rm rm = { .c = c, .at = &at };
	bool ok;

	if (!name_parse(c, text, false, &at))
		return;
	ok = walk_keys(c, &at, &o, rm_entry, &rm);
	for (unsigned i = 0; i < DELETES_FLYING_MAX; i++)
		rm_land(&rm, i);
	if (!ok || rm.failed)
		return;
	if (rm.deleted == 0 && !c->a.given[O_force])
		cli_fail(c, text, WADI_E_NOTFOUND, "no key begins with this", NULL);
	else if (c->json)
		out_json(json_pack("{s:s, s:I}", "name", text, "deleted",
			(json_int_t)rm.deleted));
	else
		out_note(c, "%llu deleted", (unsigned long long)rm.deleted);
}

static void rm_one(struct cli *c, const char *text)
{
	struct wadi_opts o = { .size = sizeof o };
	struct name n;
	int rc;

	if (!name_parse(c, text, true, &n))
		return;
	if (c->a.given[O_version]) {
		o.flags = WADI_PUT_IF_VERSION;
		o.if_version = c->a.number[O_version];
	}
	rc = wadi_delete(c->w, n.bucket, n.key, &o);
	if (rc == WADI_E_NOTFOUND && c->a.given[O_force])
		return;
	if (rc < 0)
		cli_failed(c, text, rc);
	else if (c->json)
		out_json(json_pack("{s:s, s:i}", "name", text, "deleted", 1));
}

void cmd_rm(struct cli *c)
{
	if (!cli_connect(c, 0))
		return;
	for (int i = 0; i < c->a.n_pos; i++) {
		if (c->a.given[O_recursive])
			rm_below(c, c->a.pos[i]);
		else
			rm_one(c, c->a.pos[i]);
	}
}
