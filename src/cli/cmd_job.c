/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_job.c: job run, register, end, renew, revoke, ls, bill; key rotate. */
#include "cli/commands.h"
#include "cli/copy.h"
#include "cli/words.h"
#include <stdlib.h>
#include <string.h>

enum { PAGE = 64, ENV_MAX = 1024, RENEWALS_PER_LEASE = 3 };

static const char *const states[] = { "?", "active", "ending", "ended" };

static const char *const latencies[] = { "any", "sensitive", "insensitive" };

static const char *latency_word(uint32_t latency)
{
	return latency < sizeof latencies / sizeof latencies[0] ? latencies[latency] : "?";
}

static const char *state_word(uint32_t state)
{
	return state < sizeof states / sizeof states[0] ? states[state] : "?";
}

static struct wadi_job_hints hints(const struct cli *c)
{
	struct wadi_job_hints h = { .size = sizeof h, .timeout_ms = cli_timeout_ms(c) };

	h.latency = (uint32_t)c->a.number[O_latency];
	h.workers = (uint32_t)c->a.number[O_workers];
	h.capacity_bytes = c->a.number[O_capacity];
	h.bandwidth_bps = c->a.number[O_bandwidth];
	h.tiers = (uint32_t)c->a.number[O_tiers];
	h.quota_bytes = c->a.number[O_quota];
	h.lease_ms = c->a.number[O_lease];
	return h;
}

/* ---- bills ---- */
static json_t *bill_line_json(const struct wadi_bill_line *l)
{
	return json_pack("{s:s, s:f, s:I, s:I, s:I, s:I, s:I}", "tier", words_tier(l->tier),
		"byte_seconds", l->byte_seconds, "peak_bytes", (json_int_t)l->peak_bytes,
		"written_bytes", (json_int_t)l->written_bytes,
		"read_bytes", (json_int_t)l->read_bytes, "writes", (json_int_t)l->writes,
		"reads", (json_int_t)l->reads);
}

static void bill_json(const struct wadi_bill *b)
{
	json_t *lines = json_array();

	for (uint32_t i = 0; i < b->n_lines; i++)
		json_array_append_new(lines, bill_line_json(&b->lines[i]));
	out_json(json_pack("{s:I, s:s, s:s, s:o}", "job", (json_int_t)b->job.id, "name",
		b->job.name, "state", state_word(b->job.state), "lines", lines));
}

static void bill_text(FILE *out, const struct wadi_bill *b)
{
	char peak[WORDS_MAX], in[WORDS_MAX], from[WORDS_MAX];

	fprintf(out, "job %llu %s (%s)\n", (unsigned long long)b->job.id, b->job.name,
		state_word(b->job.state));
	fprintf(out, "  %-6s %14s %12s %12s %12s %10s %10s\n", "tier", "GiB-seconds", "peak",
		"written", "read", "writes", "reads");
	for (uint32_t i = 0; i < b->n_lines; i++) {
		const struct wadi_bill_line *l = &b->lines[i];

		fprintf(out, "  %-6s %14.3f %12s %12s %12s %10llu %10llu\n", words_tier(l->tier),
			l->byte_seconds / (1 << 30), words_put_size(l->peak_bytes, peak),
			words_put_size(l->written_bytes, in), words_put_size(l->read_bytes, from),
			(unsigned long long)l->writes, (unsigned long long)l->reads);
	}
	if (b->n_lines == 0)
		fputs("  nothing was stored\n", out);
}

/* ---- run ---- */
struct run {
	struct cli *c;
	struct wadi_job job;
	struct wadi *held;           /* acts for the job: keeps it alive */
	char url[ENV_MAX], id[64], token[256];
};

static bool run_register(struct run *r, const char *name, uint32_t *ret_lease_ms)
{
	struct wadi_connect_opts o = { .size = sizeof o, .name = "wadi job run" };
	struct wadi_job_hints h = hints(r->c);
	struct wadi_note why;
	int rc = wadi_job_register(r->c->w, name, &h, &r->job);

	if (rc < 0)
		return cli_failed(r->c, name, rc);
	o.token = r->job.token;
	rc = wadi_connect(r->c->a.text[O_url], &o, &r->held, &why);
	if (rc < 0) {
		cli_fail(r->c, name, rc, why.text, NULL);
		wadi_job_end(r->c->w, r->job.id, NULL);
		return false;
	}
	*ret_lease_ms = r->job.lease_ms < UINT32_MAX ? (uint32_t)r->job.lease_ms : UINT32_MAX;
	return true;
}

static bool run_start(struct run *r, struct os_child *ret_child)
{
	const char *env[4] = { NULL };
	struct err_note note = { "" };
	unsigned n = 0;
	int rc;

	if (r->c->a.given[O_url]) {
		snprintf(r->url, sizeof r->url, "WADI_URL=%s", r->c->a.text[O_url]);
		env[n++] = r->url;
	}
	snprintf(r->id, sizeof r->id, "WADI_JOB_ID=%llu", (unsigned long long)r->job.id);
	snprintf(r->token, sizeof r->token, "WADI_JOB_TOKEN=%s", r->job.token);
	env[n++] = r->id;
	env[n++] = r->token;
	rc = os_spawn(r->c->a.pos, env, ret_child, &note);
	return rc == 0 || cli_fail(r->c, NULL, rc, note.text, NULL);
}

/* Until the child ends: our connection is advanced, so that a broken one is made again, and the
 * lease renewed in case it cannot be. */
static int run_wait(struct run *r, struct os_child *child, uint32_t lease_ms)
{
	uint64_t every_ms = lease_ms / RENEWALS_PER_LEASE + 1, renewed_ms = os_now_ms();
	int code;

	while (!os_ended(child, &code)) {
		int timeout_ms = wadi_poll_timeout_ms(r->held);

		if (timeout_ms < 0 || (uint64_t)timeout_ms > every_ms)
			timeout_ms = every_ms < 1000 ? (int)every_ms : 1000;
		os_wait(child->fd, wadi_poll_fd(r->held, NULL), timeout_ms);
		wadi_advance(r->held);
		if (os_now_ms() - renewed_ms >= every_ms) {
			renewed_ms = os_now_ms();
			wadi_job_renew(r->held, r->job.id);
		}
	}
	return code;
}

static void run_end(struct run *r)
{
	struct wadi_job_end end;
	struct wadi_bill bill;
	char freed[WORDS_MAX], kept[WORDS_MAX];
	int rc;

	wadi_close(r->held);
	rc = wadi_job_end(r->c->w, r->job.id, &end);
	if (rc < 0) {
		cli_failed(r->c, "ending the job", rc);
		return;
	}
	if (end.kept_files > 0)
		out_note(r->c, "job %llu: %s freed, %s in %llu objects kept",
			(unsigned long long)r->job.id, words_put_size(end.bytes, freed),
			words_put_size(end.kept_bytes, kept), (unsigned long long)end.kept_files);
	if (!r->c->a.given[O_bill])
		return;
	rc = wadi_job_bill(r->c->w, r->job.id, &bill);
	if (rc < 0)
		cli_failed(r->c, "the bill", rc);
	else if (r->c->json)
		bill_json(&bill);
	else
		bill_text(stderr, &bill);
}

void cmd_job_run(struct cli *c)
{
	struct run r = { .c = c };
	const char *name = c->a.given[O_name] ? c->a.text[O_name] : base_name(c->a.pos[0]);
	struct os_child child;
	uint32_t lease_ms = 0;
	int code;

	if (!cli_connect(c, 0) || !run_register(&r, name, &lease_ms))
		return;
	if (run_start(&r, &child)) {
		code = run_wait(&r, &child, lease_ms);
		run_end(&r);
		/* The command's own code comes first, for that is what its caller asks about. */
		if (code != 0 || c->exit == 0)
			c->exit = code;
		return;
	}
	run_end(&r);
}

/* ---- the others ---- */
void cmd_job_register(struct cli *c)
{
	const char *name = c->a.n_pos > 0 ? c->a.pos[0] : "job";
	struct wadi_job_hints h = hints(c);
	struct wadi_job job;
	char tiers[WORDS_MAX];
	int rc;

	if (!cli_connect(c, 0))
		return;
	rc = wadi_job_register(c->w, name, &h, &job);
	if (rc < 0)
		cli_failed(c, name, rc);
	else if (c->json)
		out_json(json_pack("{s:I, s:s, s:I, s:s}", "job", (json_int_t)job.id, "token",
			job.token, "lease_ms", (json_int_t)job.lease_ms, "tiers",
			words_put_tiers(job.tiers, tiers)));
	else if (c->a.given[O_shell])
		printf("export WADI_JOB_ID=%llu\nexport WADI_JOB_TOKEN=%s\n",
			(unsigned long long)job.id, job.token);
	else
		printf("job    %llu\ntoken  %s\n", (unsigned long long)job.id, job.token);
}

/* The jobs that are named, or (0) that of the environment. */
static bool each_job(struct cli *c, bool (*act)(struct cli *c, const char *text, uint64_t job))
{
	uint64_t job;

	if (!cli_connect(c, 0))
		return false;
	if (c->a.n_pos == 0) {
		if (wadi_job_id(c->w) == 0)
			return cli_fail(c, NULL, E_INVALID,
				"no job is named, and there is none here",
				"wadi job ls lists them");
		return act(c, "this job", wadi_job_id(c->w));
	}
	for (int i = 0; i < c->a.n_pos; i++) {
		if (words_count(c->a.pos[i], &job) && job != 0)
			act(c, c->a.pos[i], job);
		else
			cli_fail(c, c->a.pos[i], E_INVALID, "a job is named by its number",
				"wadi job ls lists them");
	}
	return true;
}

static bool end_one(struct cli *c, const char *text, uint64_t job)
{
	struct wadi_job_end end;
	char freed[WORDS_MAX];
	int rc = wadi_job_end(c->w, job, &end);

	if (rc < 0)
		return cli_failed(c, text, rc);
	if (c->json)
		out_json(json_pack("{s:I, s:I, s:I, s:I, s:I}", "job", (json_int_t)job,
			"freed_objects", (json_int_t)end.files, "freed_bytes",
				(json_int_t)end.bytes,
			"kept_objects", (json_int_t)end.kept_files, "kept_bytes",
			(json_int_t)end.kept_bytes));
	else
		out_note(c, "job %llu has ended: %s freed, %llu objects kept",
			(unsigned long long)job, words_put_size(end.bytes, freed),
			(unsigned long long)end.kept_files);
	return true;
}

static bool renew_one(struct cli *c, const char *text, uint64_t job)
{
	int rc = wadi_job_renew(c->w, job);

	if (rc == 0 && c->json)
		out_json(json_pack("{s:I}", "job", (json_int_t)job));
	return rc == 0 || cli_failed(c, text, rc);
}

static bool bill_one(struct cli *c, const char *text, uint64_t job)
{
	struct wadi_bill bill;
	int rc = wadi_job_bill(c->w, job, &bill);

	if (rc < 0)
		return cli_failed(c, text, rc);
	if (c->json)
		bill_json(&bill);
	else
		bill_text(stdout, &bill);
	return true;
}

void cmd_job_end(struct cli *c) { each_job(c, end_one); }
void cmd_job_renew(struct cli *c) { each_job(c, renew_one); }
void cmd_job_bill(struct cli *c) { each_job(c, bill_one); }

static bool revoke_one(struct cli *c, const char *text, uint64_t id)
{
	struct wadi_job job;
	int rc = wadi_job_revoke(c->w, id, &job);

	if (rc < 0) {
		cli_failed(c, text, rc);
		return false;
	}
	if (c->json)
		out_json(json_pack("{s:I, s:s}", "job", (json_int_t)job.id, "token", job.token));
	else
		printf("job    %llu\ntoken  %s\n", (unsigned long long)job.id, job.token);
	return true;
}

void cmd_job_revoke(struct cli *c) { each_job(c, revoke_one); }

void cmd_key_rotate(struct cli *c)
{
	int rc;

	if (!cli_connect(c, 0))
		return;
	rc = wadi_key_rotate(c->w);
	if (rc < 0)
		cli_failed(c, NULL, rc);
	else
		out_note(c, "in five seconds storage servers know the new key, and it is used");
}

static void job_json(const struct wadi_job_info *j)
{
	char tiers[WORDS_MAX];

	out_json(json_pack("{s:I, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
			   "s:I, s:I}",
		"job", (json_int_t)j->id, "name", j->name, "state", state_word(j->state),
		"tiers", words_put_tiers(j->tiers, tiers),
		"latency", latency_word(j->latency), "workers", (json_int_t)j->workers,
		"connections", (json_int_t)j->connections,
		"capacity_bytes", (json_int_t)j->capacity_bytes,
		"bandwidth_bps", (json_int_t)j->bandwidth_bps,
		"quota_bytes", (json_int_t)j->quota_bytes, "lease_ms", (json_int_t)j->lease_ms,
		"lease_left_ms", (json_int_t)j->lease_left_ms,
		"started_ms", (json_int_t)j->started_ms, "ended_ms", (json_int_t)j->ended_ms,
		"objects", (json_int_t)j->files, "bytes", (json_int_t)j->used_bytes));
}

static void job_row(const struct wadi_job_info *j)
{
	char size[WORDS_MAX], left[WORDS_MAX], when[64];

	os_time_text(j->started_ms, when, sizeof when);
	printf("%8llu  %-20s %-7s %19s %10s %5u %8llu %12s\n", (unsigned long long)j->id, j->name,
		state_word(j->state), when, j->state == WADI_JOB_ACTIVE
			? words_put_time(j->lease_left_ms, left) : "-", j->connections,
		(unsigned long long)j->files, words_put_size(j->used_bytes, size));
}

void cmd_job_ls(struct cli *c)
{
	static struct wadi_job_info page[PAGE];
	uint64_t cursor = 0;
	size_t n, all = 0;

	if (!cli_connect(c, 0))
		return;
	do {
		int rc = wadi_job_list(c->w, c->a.given[O_all] ? WADI_JOBS_ENDED : 0, &cursor, page,
			PAGE, &n);

		if (rc < 0) {
			cli_failed(c, NULL, rc);
			return;
		}
		if (all == 0 && n > 0 && !c->json && !c->quiet)
			printf("%s%8s  %-20s %-7s %19s %10s %5s %8s %12s%s\n", out_bold(c), "JOB",
				"NAME", "STATE", "STARTED", "LEASE", "CONNS", "OBJECTS", "BYTES",
				out_plain(c));
		for (size_t i = 0; i < n; i++) {
			if (c->json)
				job_json(&page[i]);
			else
				job_row(&page[i]);
		}
		all += n;
	} while (cursor != 0);
	if (all == 0)
		out_note(c, "no jobs%s", c->a.given[O_all] ? ""
			: " now; --all shows the ended ones");
}
