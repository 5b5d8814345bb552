/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_status.c: status. */
#include "cli/commands.h"
#include "cli/nodes.h"
#include "cli/words.h"
#include <string.h>

enum { BAR = 32, INDENT = 9, POLL_MS = 50 };

static const char *const server_states[] = { "?", "up", "silent", "gone" };

static const char *server_state(uint32_t s)
{
	return s < sizeof server_states / sizeof server_states[0] ? server_states[s] : "?";
}

/* ---- JSON ---- */
static json_t *tier_json(const struct wadi_tier_status *t)
{
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "tier", words_tier(t->tier),
		"capacity_bytes", (json_int_t)t->capacity_bytes,
		"used_bytes", (json_int_t)t->used_bytes, "pinned_bytes",
			(json_int_t)t->pinned_bytes,
		"granted_bytes", (json_int_t)t->granted_bytes,
		"orphaned_bytes", (json_int_t)t->orphaned_bytes,
		"reserved_bytes", (json_int_t)t->reserved_bytes,
		"free_bytes", (json_int_t)t->free_bytes);
}

static json_t *tiers_json(const struct wadi_tier_status *t, uint32_t n)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < n; i++)
		json_array_append_new(list, tier_json(&t[i]));
	return list;
}

static void status_json(const struct wadi_status *st)
{
	json_t *servers = json_array(), *all;

	for (uint32_t i = 0; i < st->n_servers; i++) {
		const struct wadi_server_status *s = &st->servers[i];

		const struct wadi_server_scrub *z = &st->scrubs[i];

		json_array_append_new(servers, json_pack(
			"{s:I, s:s, s:s, s:I, s:I, s:o, s:I, s:I, s:I}",
			"server", (json_int_t)s->server, "addr", s->addr,
			"state", server_state(s->state), "heard_ms", (json_int_t)s->heard_ms,
			"cpu_permille", (json_int_t)s->cpu_permille,
			"tiers", tiers_json(s->tiers, s->n_tiers),
			"scrubbed_bytes", (json_int_t)z->read_bytes,
			"scrub_ended_ms", (json_int_t)z->ended_ms,
			"rotten", (json_int_t)z->rotten));
	}
	all = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
		"jobs", (json_int_t)st->jobs, "buckets", (json_int_t)st->buckets,
		"objects", (json_int_t)st->files, "sessions", (json_int_t)st->sessions,
		"slab_used_bytes", (json_int_t)st->slab_used_bytes,
		"slab_bytes", (json_int_t)st->slab_bytes,
		"memtable_bytes", (json_int_t)st->memtable_bytes,
		"tree_bytes", (json_int_t)st->tree_bytes, "log_bytes", (json_int_t)st->log_bytes);
	json_object_set_new(all, "log_index", json_integer((json_int_t)st->log_index));
	json_object_set_new(all, "synced_index", json_integer((json_int_t)st->synced_index));
	json_object_set_new(all, "merged_index", json_integer((json_int_t)st->merged_index));
	json_object_set_new(all, "resident_bytes", json_integer((json_int_t)st->resident_bytes));
	json_object_set_new(all, "uptime_ms", json_integer((json_int_t)st->uptime_ms));
	json_object_set_new(all, "cpu_ms", json_integer((json_int_t)st->cpu_ms));
	json_object_set_new(all, "lacking_bytes", json_integer((json_int_t)st->lacking_bytes));
	json_object_set_new(all, "copied_bytes", json_integer((json_int_t)st->copied_bytes));
	json_object_set_new(all, "unrepaired", json_integer((json_int_t)st->unrepaired));
	json_object_set_new(all, "tiers", tiers_json(st->tiers, st->n_tiers));
	json_object_set_new(all, "servers", servers);
	out_json(all);
}

/* ---- text ---- */
/* '#' used, 'p' pinned, 'g' granted, 'o' orphaned, 'r' reserved, '.' free. */
static void bar(const struct wadi_tier_status *t, char ret_bar[BAR + 1])
{
	const struct { uint64_t bytes; char mark; } parts[] = { { t->used_bytes, '#' },
		{ t->pinned_bytes, 'p' }, { t->granted_bytes, 'g' }, { t->orphaned_bytes, 'o' },
		{ t->reserved_bytes, 'r' } };
	uint64_t sum = 0;
	unsigned at = 0;

	memset(ret_bar, '.', BAR);
	ret_bar[BAR] = '\0';
	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		unsigned end;

		sum += parts[i].bytes;
		end = t->capacity_bytes == 0 ? 0
			: (unsigned)((unsigned __int128)sum * BAR / t->capacity_bytes);
		for (; at < end && at < BAR; at++)
			ret_bar[at] = parts[i].mark;
	}
}

/* Parts of a line with commas between, broken where the terminal ends. */
struct flow { unsigned width, indent, column; };

static unsigned flow_width(void)
{
	return os_terminal(OS_STDOUT) ? os_columns() : UINT32_MAX;
}

static void flow_put(struct flow *f, const char *text)
{
	unsigned len = (unsigned)strlen(text);

	if (f->column > f->indent && f->column + 2 + len >= f->width) { /* a comma may follow */
		printf(",\n%*s", (int)f->indent, "");
		f->column = f->indent;
	} else if (f->column > f->indent) {
		f->column += (unsigned)printf(", ");
	}
	f->column += (unsigned)printf("%s", text);
}

static void flow_bytes(struct flow *f, const char *what, uint64_t bytes)
{
	char size[WORDS_MAX], text[2 * WORDS_MAX];

	snprintf(text, sizeof text, "%s %s", what, words_put_size(bytes, size));
	flow_put(f, text);
}

static void flow_count(struct flow *f, const char *noun, uint64_t n)
{
	char text[WORDS_MAX];

	flow_put(f, words_put_count(n, noun, text));
}

/* "  name   ", the parts that follow stand behind it. */
static struct flow flow_named(const struct cli *c, const char *name)
{
	struct flow f = { .width = flow_width(),
		.indent = INDENT, .column = INDENT };

	printf("  %s%-*s%s", out_bold(c), INDENT - 2, name, out_plain(c));
	return f;
}

static void tier_text(const struct cli *c, const struct wadi_tier_status *t)
{
	char a[WORDS_MAX], b[WORDS_MAX], text[2 * WORDS_MAX + 16], picture[BAR + 1];
	struct flow f = flow_named(c, words_tier(t->tier));

	bar(t, picture);
	if (f.width > INDENT + BAR + 32)
		printf("[%s] ", picture);
	snprintf(text, sizeof text, "%s of %s used", words_put_size(t->used_bytes, a),
		words_put_size(t->capacity_bytes, b));
	printf("%s\n%*s", text, INDENT, "");
	flow_bytes(&f, "pinned", t->pinned_bytes);
	flow_bytes(&f, "granted", t->granted_bytes);
	flow_bytes(&f, "orphaned", t->orphaned_bytes);
	flow_bytes(&f, "reserved", t->reserved_bytes);
	flow_bytes(&f, "free", t->free_bytes);
	putchar('\n');
}

static void meta_text(const struct cli *c, const struct wadi_status *st)
{
	struct flow f = flow_named(c, "meta");

	flow_bytes(&f, "tree", st->tree_bytes);
	flow_bytes(&f, "log", st->log_bytes);
	flow_bytes(&f, "fresh rows", st->memtable_bytes);
	flow_bytes(&f, "memory of the process", st->resident_bytes);
	putchar('\n');
}

static void server_text(const struct wadi_server_status *s, const struct wadi_server_scrub *z)
{
	struct flow f = { .width = flow_width(), .indent = 4 };
	uint64_t now_ms = os_wall_s() * 1000;
	char ago[WORDS_MAX], text[2 * WORDS_MAX];

	f.column = (unsigned)printf("  server %u %s", s->server, server_state(s->state));
	if (s->addr[0] != '\0')
		f.column += (unsigned)printf(" at %s", s->addr);
	snprintf(text, sizeof text, "heard %s ago", words_put_time(s->heard_ms, ago));
	flow_put(&f, text);
	if (z->ended_ms > 0) {
		snprintf(text, sizeof text, "all read again %s ago",
			words_put_time(now_ms > z->ended_ms ? now_ms - z->ended_ms : 0, ago));
		flow_put(&f, text);
	}
	if (z->rotten > 0)
		flow_count(&f, "rotten piece", z->rotten);
	putchar('\n');
}

/* Only while there is something to tell. */
static void copies_text(const struct cli *c, const struct wadi_status *st)
{
	struct flow f;

	if (st->lacking_bytes + st->copied_bytes + st->unrepaired == 0)
		return;
	f = flow_named(c, "copies");
	if (st->lacking_bytes > 0)
		flow_bytes(&f, "under-protected", st->lacking_bytes);
	else
		flow_put(&f, "complete");
	flow_bytes(&f, "looked after", st->copied_bytes);
	if (st->unrepaired > 0)
		flow_count(&f, "bad piece without another copy", st->unrepaired);
	putchar('\n');
}

static void status_text(const struct cli *c, const struct wadi_status *st)
{
	struct flow f = { .width = flow_width() };
	char a[WORDS_MAX], b[WORDS_MAX], text[2 * WORDS_MAX + 16];
	bool of_all = st->resident_bytes > 0; /* a job is told of itself only */

	snprintf(text, sizeof text, "up %s", words_put_time(st->uptime_ms, a));
	flow_put(&f, text);
	flow_count(&f, "job", st->jobs);
	flow_count(&f, "bucket", st->buckets);
	flow_count(&f, "object", st->files);
	if (of_all)
		flow_count(&f, "session", st->sessions);
	putchar('\n');
	for (uint32_t i = 0; i < st->n_tiers; i++)
		tier_text(c, &st->tiers[i]);
	if (st->n_tiers == 0 && of_all)
		puts("  no storage server has joined: only objects up to 4 KiB can be stored");
	f = flow_named(c, "small");
	snprintf(text, sizeof text, "%s of %s used", words_put_size(st->slab_used_bytes, a),
		words_put_size(st->slab_bytes, b));
	flow_put(&f, text);
	flow_put(&f, "objects up to 4 KiB");
	putchar('\n');
	if (of_all)
		meta_text(c, st);
	copies_text(c, st);
	for (uint32_t i = 0; i < st->n_servers; i++)
		server_text(&st->servers[i], &st->scrubs[i]);
}

/* ---- the command ---- */
static bool storage_joined(const struct wadi_status *st)
{
	for (uint32_t i = 0; i < st->n_servers; i++)
		if (st->servers[i].state == WADI_SERVER_UP)
			return true;
	return false;
}

void cmd_status(struct cli *c)
{
	uint64_t wait_ms = c->a.number[O_wait], until_ms = os_now_ms() + wait_ms;
	struct wadi_status *st;
	int rc;

	if (!cli_connect(c, (uint32_t)(wait_ms < UINT32_MAX ? wait_ms : UINT32_MAX)))
		return;
	for (;;) {
		rc = wadi_status_get(c->w, c->a.number[O_job], &st);
		if (rc < 0) {
			cli_failed(c, NULL, rc);
			return;
		}
		if (!c->a.given[O_wait] || storage_joined(st))
			break;
		wadi_status_free(st);
		if (os_now_ms() >= until_ms) {
			cli_fail(c, NULL, WADI_E_TIMEOUT, "no storage server has joined", NULL);
			return;
		}
		os_sleep_ms(POLL_MS);
	}
	if (c->json)
		status_json(st);
	else if (!c->quiet)
		status_text(c, st);
	if (!c->json && !c->quiet && st->resident_bytes > 0)
		cmd_node_status_line(c);
	wadi_status_free(st);
}
