/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_fsck.c: fsck.  The looking is the program's, which knows the servers. */
#include "cli/commands.h"
#include "cli/os.h"
#include "cli/fsck.h"
#include "cli/words.h"

static void meter_over(struct cli_fsck *v)
{
	if (v->metered)
		meter_end(&v->meter);
	v->metered = false;
}

void cli_fsck_part(struct cli_fsck *v, const char *what, uint64_t bytes)
{
	meter_over(v);
	meter_start(&v->meter, v->c, what, bytes);
	v->metered = true;
}

void cli_fsck_more(struct cli_fsck *v, uint64_t bytes)
{
	if (v->metered)
		meter_add(&v->meter, bytes);
}

void cli_fsck_damage(
	struct cli_fsck *v, const char *what, const char *where, const char *lost, const char *todo)
{
	struct cli *c = v->c;

	v->n_damages++;
	if (c->json) {
		out_json(json_pack("{s:s, s:s, s:s, s:s}", "damage", what, "where", where, "lost",
			lost, "do", todo));
		return;
	}
	if (v->metered)
		meter_end(&v->meter);
	printf("%sDAMAGED: %s%s\n  where  %s\n  lost   %s\n  do     %s\n", out_bold(c), what,
		out_plain(c), where, lost, todo);
}

void cli_fsck_lost(struct cli_fsck *v, const char *name, bool deleted)
{
	v->n_lost++;
	if (v->c->json)
		out_json(json_pack(
			"{s:s, s:s}", "lost", name, "change", deleted ? "deleted" : "written"));
	else
		printf("LOST: what was last %s: %s\n", deleted ? "deleted" : "written", name);
}

static void end_json(const struct cli_fsck *v, const struct cli_fsck_sum *s)
{
	json_t *all = json_pack("{s:b, s:i, s:I, s:I, s:I, s:I}", "clean", v->n_damages == 0,
		"damages", (int)v->n_damages, "log_segments", (json_int_t)s->segments, "records",
		(json_int_t)s->records, "rows", (json_int_t)s->rows, "copies",
		(json_int_t)s->copies);

	json_object_set_new(all, "buckets", json_integer((json_int_t)s->buckets));
	json_object_set_new(all, "objects", json_integer((json_int_t)s->files));
	json_object_set_new(all, "bytes", json_integer((json_int_t)s->used_bytes));
	json_object_set_new(all, "extents", json_integer((json_int_t)s->extents));
	json_object_set_new(all, "extent_bytes", json_integer((json_int_t)s->extent_bytes));
	json_object_set_new(all, "index", json_integer((json_int_t)s->index));
	json_object_set_new(all, "last_index", json_integer((json_int_t)s->last_index));
	json_object_set_new(
		all, "lost_names", json_integer((json_int_t)(v->n_lost + s->more_lost)));
	json_object_set_new(all, "kept", s->kept != NULL ? json_string(s->kept) : json_null());
	out_json(all);
}

#define ULL(v) ((unsigned long long)(v))
static void end_text(const struct cli_fsck *v, const struct cli_fsck_sum *s)
{
	char bytes[WORDS_MAX], more[WORDS_MAX];

	if (s->more_lost > 0)
		printf("LOST: %llu more changes of names\n", ULL(s->more_lost));
	if (v->c->quiet)
		return;
	if (s->has_meta)
		printf("metadata   %llu records in %llu files of the log, %llu merged rows, %llu "
		       "older copies\n           %llu buckets, %llu objects of %s\n",
			ULL(s->records), ULL(s->segments), ULL(s->rows), ULL(s->copies),
			ULL(s->buckets), ULL(s->files), words_put_size(s->used_bytes, bytes));
	if (s->has_store)
		printf("storage    %llu extents of %s, read and compared with their checksums\n",
			ULL(s->extents), words_put_size(s->extent_bytes, more));
	if (s->kept != NULL)
		printf("salvaged: the rows are those of record %llu; what was damaged is kept in "
		       "%s\n",
			ULL(s->index), s->kept);
	if (v->n_damages == 0)
		printf("%s is clean\n", v->data);
	else
		printf("%u %s in %s\n", v->n_damages, v->n_damages == 1 ? "damage" : "damages",
			v->data);
}

void cli_fsck_end(struct cli_fsck *v, const struct cli_fsck_sum *s)
{
	meter_over(v);
	if (v->c->json)
		end_json(v, s);
	else
		end_text(v, s);
}

/* ---- of a running server ---- */
enum { SCRUB_POLL_MS = 50, MEND_WAIT_MS = 3000 };

/* Of two counts; whose server was started again in between begins at zero. */
static uint64_t grown(uint64_t before, uint64_t now)
{
	return now > before ? now - before : now;
}

static void scrub_json(const struct wadi_scrub *before, const struct wadi_scrub *now)
{
	uint64_t found = now->found - before->found;
	json_t *all = json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:s}", "clean",
		found + now->rotten == 0, "damages", (json_int_t)found, "records",
		(json_int_t)(now->records - before->records), "rows",
		(json_int_t)(now->rows - before->rows), "bytes",
		(json_int_t)(now->bytes - before->bytes), "damages_since_start",
		(json_int_t)now->found, "last", now->last);

	json_object_set_new(
		all, "extents", json_integer((json_int_t)grown(before->extents, now->extents)));
	json_object_set_new(all, "extent_bytes",
		json_integer((json_int_t)grown(before->extent_bytes, now->extent_bytes)));
	json_object_set_new(all, "extents_found",
		json_integer((json_int_t)grown(before->extents_found, now->extents_found)));
	json_object_set_new(all, "rotten", json_integer((json_int_t)now->rotten));
	out_json(all);
}

static void storage_say(
	const struct cli *c, const struct wadi_scrub *before, const struct wadi_scrub *now)
{
	uint64_t n = grown(before->extents, now->extents);
	uint64_t found = grown(before->extents_found, now->extents_found);
	char bytes[WORDS_MAX], what[WORDS_MAX];

	if (now->rotten > 0)
		printf("%sDAMAGED%s: storage servers have %s that %s not what was written, and no "
		       "other copy to make %s of\n",
			out_bold(c), out_plain(c), words_put_count(now->rotten, "extent", what),
			now->rotten == 1 ? "is" : "are", now->rotten == 1 ? "it" : "them");
	if (c->quiet)
		return;
	printf("on storage servers: %s of %s: ", words_put_count(n, "extent", what),
		words_put_size(grown(before->extent_bytes, now->extent_bytes), bytes));
	if (found == 0)
		puts(now->rotten == 0 ? "clean" : "the same as before");
	else
		printf("%llu not what was written, %llu repaired\n", ULL(found),
			ULL(found > now->rotten ? found - now->rotten : 0));
}

static void scrub_say(const struct cli *c, const struct wadi_scrub *before,
	const struct wadi_scrub *now)
{
	uint64_t found = now->found - before->found;
	char bytes[WORDS_MAX];

	if (c->json) {
		scrub_json(before, now);
		return;
	}
	if (now->found > 0)
		printf("%sDAMAGED%s, %llu since the start of the server: %s\n", out_bold(c),
			out_plain(c), ULL(now->found), now->last);
	if (!c->quiet)
		printf("read again: %llu records of the log, %llu merged rows, %s: %s\n",
			ULL(now->records - before->records), ULL(now->rows - before->rows),
			words_put_size(now->bytes - before->bytes, bytes),
			found == 0 ? "clean" : "repaired, as far as nothing else was said");
	storage_say(c, before, now);
}

/* A pass that was under way did not read all of it: the next one counts. */
static int scrub_wait(struct cli *c, struct wadi_scrub *before, struct wadi_scrub *now)
{
	struct meter m;
	int rc = wadi_scrub(c->w, 1, before);
	uint64_t passes;
	bool again;

	if (rc < 0)
		return rc;
	again = before->running;
	passes = before->passes + 1 + again;
	*now = *before;
	meter_start(&m, c, "what is at rest", UINT64_MAX);
	while (rc == 0 && (now->passes < passes || now->servers_busy > 0)) {
		uint64_t bytes = now->bytes + now->extent_bytes;
		bool ended = now->passes > before->passes;

		os_sleep_ms(SCRUB_POLL_MS);
		rc = wadi_scrub(c->w, again && ended, now);
		again = again && !ended;
		if (rc == 0)
			meter_add(&m, grown(bytes, now->bytes + now->extent_bytes));
	}
	/* What has another copy is being made good. */
	for (int i = 0; rc == 0 && now->rotten > 0 && i < MEND_WAIT_MS / SCRUB_POLL_MS; i++) {
		os_sleep_ms(SCRUB_POLL_MS);
		rc = wadi_scrub(c->w, 0, now);
	}
	meter_end(&m);
	return rc;
}

static void fsck_running(struct cli *c)
{
	struct wadi_scrub before, now;
	int rc;

	if (!cli_connect(c, 0))
		return;
	rc = scrub_wait(c, &before, &now);
	if (rc < 0) {
		cli_failed(c, NULL, rc);
		return;
	}
	scrub_say(c, &before, &now);
	if (now.found > before.found || now.rotten > 0 || now.extents_found > before.extents_found)
		c->exit = 1;
}

void cmd_fsck(struct cli *c)
{
	struct cli_fsck v = { .c = c, .data = c->a.pos[0], .salvage = c->a.given[O_salvage] };
	struct err_note note = { "" };
	int rc;

	if (c->a.n_pos == 0) {
		fsck_running(c);
		return;
	}
	rc = c->roles->fsck(&v, &note);
	meter_over(&v);
	if (rc < 0)
		cli_fail(c, NULL, rc, note.text[0] != '\0' ? note.text : err_text(rc),
			rc == E_INUSE ? "stop the server first: fsck reads files that nobody writes"
				      : NULL);
	else if (v.n_damages > 0)
		c->exit = 1;
}
