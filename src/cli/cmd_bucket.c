/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_bucket.c: bucket create, ls, rm, stat. */
#include "cli/commands.h"
#include "cli/copy.h"
#include "cli/walk.h"
#include "cli/words.h"
#include <string.h>

enum { PAGE = 64 };

static const char *const kinds[] = { "flat", "tree" };
static const char *const lifetimes[] = { "default", "job", "ttl", "persist" };

static const char *word(const char *const *words, size_t n, uint32_t i)
{
	return i < n ? words[i] : "?";
}

static void bucket_json(const struct wadi_bucket_info *b)
{
	char tiers[WORDS_MAX];

	out_json(json_pack("{s:s, s:I, s:I, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "name",
		b->name,
		"id", (json_int_t)b->id, "job", (json_int_t)b->job,
		"kind", word(kinds, 2, b->kind), "lifetime", word(lifetimes, 4, b->lifetime),
		"tiers", b->tiers == 0 ? "" : words_put_tiers(b->tiers, tiers),
		"ttl_ms", (json_int_t)b->ttl_ms, "quota_bytes", (json_int_t)b->quota_bytes,
		"objects", (json_int_t)b->files, "bytes", (json_int_t)b->used_bytes,
		"copies", (json_int_t)b->copies));
}

static void bucket_row(const struct wadi_bucket_info *b)
{
	char size[WORDS_MAX], job[24] = "-";

	if (b->job != 0)
		snprintf(job, sizeof job, "%llu", (unsigned long long)b->job);
	printf("%-24s %8s  %-8s %10llu %12s\n", b->name, job, word(lifetimes, 4, b->lifetime),
		(unsigned long long)b->files, words_put_size(b->used_bytes, size));
}

void cmd_bucket_ls(struct cli *c)
{
	static struct wadi_bucket_info page[PAGE];
	uint64_t cursor = 0;
	size_t n, all = 0;

	if (!cli_connect(c, 0))
		return;
	do {
		int rc = wadi_bucket_list(c->w, &cursor, page, PAGE, &n);

		if (rc < 0) {
			cli_failed(c, NULL, rc);
			return;
		}
		if (all == 0 && n > 0 && !c->json && !c->quiet)
			printf("%s%-24s %8s  %-8s %10s %12s%s\n", out_bold(c), "BUCKET", "JOB",
				"LIFETIME", "OBJECTS", "BYTES", out_plain(c));
		for (size_t i = 0; i < n; i++) {
			if (c->json)
				bucket_json(&page[i]);
			else
				bucket_row(&page[i]);
		}
		all += n;
	} while (cursor != 0);
	if (all == 0)
		out_note(c, "no buckets yet: wadi bucket create NAME makes one");
}

void cmd_bucket_create(struct cli *c)
{
	struct wadi_bucket_opts o = { .size = sizeof o, .timeout_ms = cli_timeout_ms(c) };
	struct wadi_bucket_info info;

	o.kind = c->a.given[O_kind] ? (uint32_t)c->a.number[O_kind] : WADI_FLAT;
	o.lifetime = c->a.given[O_lifetime] ? (uint32_t)c->a.number[O_lifetime] + 1
		: c->a.given[O_ttl] ? WADI_LIFETIME_TTL : WADI_LIFETIME_DEFAULT;
	o.tiers = (uint32_t)c->a.number[O_tiers];
	o.exists_ok = c->a.given[O_exists_ok];
	o.ttl_ms = c->a.number[O_ttl];
	o.quota_bytes = c->a.number[O_quota];
	o.copies = c->a.number[O_copies] > UINT8_MAX ? UINT8_MAX : (uint32_t)c->a.number[O_copies];
	if ((o.lifetime == WADI_LIFETIME_TTL) != (o.ttl_ms != 0)) {
		cli_fail(c, NULL, E_INVALID, "--lifetime ttl and --ttl TIME go together", NULL);
		return;
	}
	if (!cli_connect(c, 0))
		return;
	for (int i = 0; i < c->a.n_pos; i++) {
		int rc = wadi_bucket_create(c->w, c->a.pos[i], &o, &info);

		if (rc == WADI_E_EXISTS)
			cli_fail(c, c->a.pos[i], rc, wadi_error(c->w),
				"--exists-ok takes the one that is there");
		else if (rc < 0)
			cli_failed(c, c->a.pos[i], rc);
		else if (c->json)
			bucket_json(&info);
	}
}

void cmd_bucket_stat(struct cli *c)
{
	struct wadi_bucket_info b;
	char size[WORDS_MAX], tiers[WORDS_MAX], ttl[WORDS_MAX];

	if (!cli_connect(c, 0))
		return;
	for (int i = 0; i < c->a.n_pos; i++) {
		int rc = wadi_bucket_stat(c->w, c->a.pos[i], &b);

		if (rc < 0) {
			cli_failed(c, c->a.pos[i], rc);
			continue;
		}
		if (c->json) {
			bucket_json(&b);
			continue;
		}
		printf("%s\n  kind      %s\n  lifetime  %s%s%s\n", b.name, word(kinds, 2, b.kind),
			word(lifetimes, 4, b.lifetime), b.ttl_ms != 0 ? " " : "",
			b.ttl_ms != 0 ? words_put_time(b.ttl_ms, ttl) : "");
		if (b.job != 0)
			printf("  job       %llu\n", (unsigned long long)b.job);
		printf("  tiers     %s\n", b.tiers == 0 ? "any" : words_put_tiers(b.tiers, tiers));
		if (b.copies != 0)
			printf("  copies    %u\n", b.copies);
		if (b.quota_bytes != 0)
			printf("  quota     %s\n", words_put_size(b.quota_bytes, size));
		printf("  objects   %llu\n  bytes     %s\n", (unsigned long long)b.files,
			words_put_size(b.used_bytes, size));
	}
}

static bool any_entry(void *arg, const struct wadi_entry *e)
{
	*(bool *)arg = true;
	return false;
}

void cmd_bucket_rm(struct cli *c)
{
	struct wadi_list_opts o = { .size = sizeof o, .max = 1 };

	if (!cli_connect(c, 0))
		return;
	for (int i = 0; i < c->a.n_pos; i++) {
		struct name at = { .key = "" };
		bool any = false;
		int rc;

		snprintf(at.bucket, sizeof at.bucket, "%s", c->a.pos[i]);
		if (!c->a.given[O_force] && !walk_keys(c, &at, &o, any_entry, &any))
			continue;
		if (any) {
			cli_fail(c, c->a.pos[i], WADI_E_NOTEMPTY, "the bucket holds objects",
				"--force deletes them too");
			continue;
		}
		rc = wadi_bucket_drop(c->w, c->a.pos[i]);
		if (rc < 0)
			cli_failed(c, c->a.pos[i], rc);
		else if (c->json)
			out_json(json_pack("{s:s}", "name", c->a.pos[i]));
	}
}
