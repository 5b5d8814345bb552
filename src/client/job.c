/* SPDX-License-Identifier: Apache-2.0 */
/* job.c: jobs, bills, status: questions to the controller. */
#include "base/check.h"
#include "client/own.h"
#include <stdlib.h>
#include <string.h>

bool client_token_ok(const char *text)
{
	size_t n = 0;

	while (text[n] > ' ' && text[n] <= '~')
		n++;
	return n > 0 && n <= CLIENT_TOKEN_BYTES_MAX && text[n] == '\0';
}

/* ---- jobs ---- */
static int job_default(struct client *c, uint64_t *job, struct err_note *note)
{
	if (*job == 0)
		*job = client_job(c);
	return *job != 0 ? 0 : err_set(note, E_INVALID, "no job is named, and there is none here");
}

static int hints_check(const char *name, const struct wadi_job_hints *h, struct err_note *note)
{
	if (strlen(name) > LIMIT_COMPONENT_BYTES_MAX)
		return err_set(note, E_TOOBIG, "a job's name has at most %u bytes",
			LIMIT_COMPONENT_BYTES_MAX);
	if (h->latency > WADI_LATENCY_INSENSITIVE || h->tiers >= 1u << TIER_COUNT)
		return err_set(note, E_INVALID, "job %s: latency or tiers", name);
	return 0;
}

PARKS int client_job_register(struct client *c, const char *name, const struct wadi_job_hints *h,
	uint64_t until_ns, struct wadi_job *ret_job, struct err_note *note)
{
	struct msg_job_register m = {
		.latency = (uint8_t)h->latency, .lambdas = h->workers,
		.capacity_bytes = h->capacity_bytes, .bandwidth_bps = h->bandwidth_bps,
		.tiers = (uint8_t)h->tiers, .quota_bytes = h->quota_bytes, .lease_ms = h->lease_ms,
	};
	struct ask a = { .op = OP_job_register, .reply_op = OP_job_ok, .msg = &m,
		.changes = true };
	struct msg_job_ok ok;
	int rc;

	name = name != NULL ? name : "";
	rc = hints_check(name, h, note);
	if (rc < 0)
		return rc;
	m.name = bytes_of(name, strlen(name));
	rc = dialog_ask(&c->dialog, &a, &ok, until_ns, note);
	if (rc == 0) {
		*ret_job = (struct wadi_job){ .id = ok.job, .lease_ms = ok.lease_ms,
			.tiers = ok.tiers };
		text_take(ret_job->token, sizeof ret_job->token, ok.token);
	}
	ask_fini(&a);
	return rc;
}

PARKS int client_job_end(struct client *c, uint64_t job, uint64_t until_ns,
	struct wadi_job_end *ret_end, struct err_note *note)
{
	struct msg_job_end m;
	struct ask a = { .op = OP_job_end, .reply_op = OP_job_end_ok, .msg = &m, .changes = true };
	struct msg_job_end_ok ok;
	int rc = job_default(c, &job, note);

	if (rc < 0)
		return rc;
	m = (struct msg_job_end){ .job = job };
	rc = dialog_ask(&c->dialog, &a, &ok, until_ns, note);
	if (rc == 0 && ret_end != NULL)
		*ret_end = (struct wadi_job_end){ .files = ok.files, .bytes = ok.bytes,
			.kept_files = ok.kept_files, .kept_bytes = ok.kept_bytes };
	ask_fini(&a);
	return rc;
}

PARKS int client_job_revoke(struct client *c, uint64_t job, uint64_t until_ns,
	struct wadi_job *ret_job, struct err_note *note)
{
	struct msg_job_revoke m = { .job = job };
	struct ask a = { .op = OP_job_revoke, .reply_op = OP_job_ok, .msg = &m, .changes = true };
	struct msg_job_ok ok;
	int rc = dialog_ask(&c->dialog, &a, &ok, until_ns, note);

	if (rc == 0) {
		*ret_job = (struct wadi_job){ .id = ok.job, .lease_ms = ok.lease_ms,
			.tiers = ok.tiers };
		text_take(ret_job->token, sizeof ret_job->token, ok.token);
	}
	ask_fini(&a);
	return rc;
}

/* Twice is harmless, so it needs no number. */
PARKS int client_key_rotate(struct client *c, uint64_t until_ns, struct err_note *note)
{
	struct msg_key_rotate m = { };
	struct ask a = { .op = OP_key_rotate, .reply_op = OP_ok, .msg = &m };
	struct msg_ok ok;
	int rc = dialog_ask(&c->dialog, &a, &ok, until_ns, note);

	ask_fini(&a);
	return rc;
}

PARKS int client_job_renew(struct client *c, uint64_t job, uint64_t until_ns,
	struct err_note *note)
{
	struct msg_job_renew m;
	struct ask a = { .op = OP_job_renew, .reply_op = OP_ok, .msg = &m };
	struct msg_ok ok;
	int rc = job_default(c, &job, note);

	if (rc < 0)
		return rc;
	m = (struct msg_job_renew){ .job = job };
	rc = dialog_ask(&c->dialog, &a, &ok, until_ns, note);
	ask_fini(&a);
	return rc;
}

static void job_take(const struct sub_job_info *j, struct wadi_job_info *ret_info)
{
	*ret_info = (struct wadi_job_info){
		.id = j->job, .state = j->state, .latency = j->latency, .tiers = j->tiers,
		.workers = j->lambdas, .connections = j->connections,
		.capacity_bytes = j->capacity_bytes, .bandwidth_bps = j->bandwidth_bps,
		.quota_bytes = j->quota_bytes, .lease_ms = j->lease_ms,
		.lease_left_ms = j->lease_left_ms, .started_ms = j->started_ms,
		.ended_ms = j->ended_ms, .files = j->files, .used_bytes = j->used_bytes,
	};
	text_take(ret_info->name, sizeof ret_info->name, j->name);
}

PARKS int client_job_list(struct client *c, uint32_t flags, uint64_t *cursor, uint64_t until_ns,
	struct wadi_job_info *ret_infos, size_t cap, size_t *ret_n, struct err_note *note)
{
	struct msg_job_list m = { .after = *cursor, .ended = (flags & WADI_JOBS_ENDED) != 0,
		.max = (uint32_t)(cap < LIMIT_LIST_MAX ? cap : LIMIT_LIST_MAX) };
	struct ask a = { .op = OP_job_list, .reply_op = OP_job_list_ok, .msg = &m };
	struct msg_job_list_ok ok;
	struct sub_job_info j;
	size_t n = 0;
	int rc = dialog_ask(&c->dialog, &a, &ok, until_ns, note);

	if (rc == 0) {
		while (n < cap && sub_job_info_next(&ok.jobs, &j))
			job_take(&j, &ret_infos[n++]);
		*cursor = ok.next;
		*ret_n = n;
	}
	ask_fini(&a);
	return rc;
}

static void line_take(const struct sub_bill_line *l, struct wadi_bill_line *ret_line)
{
	/* 128 bits of byte-milliseconds; a double keeps the first 16 digits. */
	double high = (double)l->byte_seconds_hi * 18446744073709551616.0;

	*ret_line = (struct wadi_bill_line){
		.tier = l->tier, .byte_seconds = (high + (double)l->byte_seconds_lo) / 1000.0,
		.peak_bytes = l->peak_bytes, .written_bytes = l->written_bytes,
		.read_bytes = l->read_bytes, .writes = l->writes, .reads = l->reads,
	};
}

PARKS int client_job_bill(struct client *c, uint64_t job, uint64_t until_ns,
	struct wadi_bill *ret_bill, struct err_note *note)
{
	struct msg_job_bill m;
	struct ask a = { .op = OP_job_bill, .reply_op = OP_job_bill_ok, .msg = &m };
	struct msg_job_bill_ok ok;
	struct sub_job_info j;
	struct sub_bill_line l;
	int rc = job_default(c, &job, note);

	if (rc < 0)
		return rc;
	m = (struct msg_job_bill){ .job = job };
	rc = dialog_ask(&c->dialog, &a, &ok, until_ns, note);
	if (rc == 0 && !sub_job_info_next(&ok.job, &j))
		rc = err_set(note, E_CORRUPT, "a bill without its job");
	if (rc == 0) {
		memset(ret_bill, 0, sizeof *ret_bill);
		job_take(&j, &ret_bill->job);
		while (ret_bill->n_lines < WADI_BILL_LINES_MAX
		       && sub_bill_line_next(&ok.lines, &l))
			line_take(&l, &ret_bill->lines[ret_bill->n_lines++]);
	}
	ask_fini(&a);
	return rc;
}

/* ---- status ---- */
static uint32_t tiers_take(struct wire_list *list, struct wadi_tier_status *ret_tiers, uint32_t max)
{
	struct sub_tier_status t;
	uint32_t n = 0;

	while (n < max && sub_tier_status_next(list, &t))
		ret_tiers[n++] = (struct wadi_tier_status){
			.tier = t.tier, .capacity_bytes = t.capacity_bytes,
			.used_bytes = t.used_bytes, .pinned_bytes = t.pinned_bytes,
			.granted_bytes = t.granted_bytes, .orphaned_bytes = t.orphaned_bytes,
			.reserved_bytes = t.reserved_bytes, .free_bytes = t.free_bytes,
		};
	return n;
}

static void server_take(struct sub_server_status *s, struct wadi_server_status *ret_server)
{
	*ret_server = (struct wadi_server_status){
		.server = s->server, .state = s->state, .incarnation = s->incarnation,
		.heard_ms = s->heard_ms, .cpu_permille = s->cpu_permille,
	};
	text_take(ret_server->addr, sizeof ret_server->addr, s->addr);
	ret_server->n_tiers = tiers_take(&s->tiers, ret_server->tiers, WADI_SERVER_TIERS_MAX);
}

/* One block of memory: the status and, behind it, its servers and their scrubs. */
static struct wadi_status *status_take(struct msg_status_ok *ok)
{
	struct wire_list servers = ok->servers;
	struct sub_server_status s;
	struct wadi_server_status *at;
	struct wadi_server_scrub *scrubs;
	struct wadi_status *st = calloc(1, sizeof *st + servers.n * (sizeof *at + sizeof *scrubs));

	if (st == NULL)
		return NULL;
	at = (struct wadi_server_status *)(st + 1);
	scrubs = (struct wadi_server_scrub *)(at + servers.n);
	*st = (struct wadi_status){
		.jobs = ok->jobs, .buckets = ok->buckets, .files = ok->files,
		.sessions = ok->sessions, .slab_used_bytes = ok->slab_used_bytes,
		.slab_bytes = ok->slab_bytes, .memtable_bytes = ok->memtable_bytes,
		.tree_bytes = ok->tree_bytes, .log_bytes = ok->log_bytes,
		.log_index = ok->log_index, .synced_index = ok->synced_index,
		.merged_index = ok->merged_index, .resident_bytes = ok->resident_bytes,
		.uptime_ms = ok->uptime_ms, .cpu_ms = ok->cpu_ms, .servers = at,
		.lacking_bytes = ok->lacking_bytes, .copied_bytes = ok->copied_bytes,
		.unrepaired = ok->unrepaired, .scrubs = scrubs,
	};
	st->n_tiers = tiers_take(&ok->tiers, st->tiers, WADI_TIERS_MAX);
	while (st->n_servers < servers.n && sub_server_status_next(&ok->servers, &s)) {
		scrubs[st->n_servers] = (struct wadi_server_scrub){ .read_bytes = s.scrub_bytes,
			.ended_ms = s.scrub_ended_ms, .rotten = s.rotten };
		server_take(&s, &at[st->n_servers++]);
	}
	return st;
}

PARKS int client_status(struct client *c, uint64_t job, uint64_t until_ns,
	struct wadi_status **ret_st, struct err_note *note)
{
	struct msg_status m = { .job = job };
	struct ask a = { .op = OP_status, .reply_op = OP_status_ok, .msg = &m };
	struct msg_status_ok ok;
	struct wadi_status *st;
	int rc = dialog_ask(&c->dialog, &a, &ok, until_ns, note);

	if (rc == 0) {
		st = status_take(&ok);
		if (st == NULL)
			rc = err_set(note, E_NOMEM, "a status");
		else
			*ret_st = st;
	}
	ask_fini(&a);
	return rc;
}

PARKS int client_scrub(struct client *c, bool now, uint64_t until_ns, struct wadi_scrub *ret_sc,
	struct err_note *note)
{
	struct msg_scrub m = { .now = now };
	struct ask a = { .op = OP_scrub, .reply_op = OP_scrub_ok, .msg = &m };
	struct msg_scrub_ok ok;
	int rc = dialog_ask(&c->dialog, &a, &ok, until_ns, note);

	if (rc == 0) {
		*ret_sc = (struct wadi_scrub){ .running = ok.running, .passes = ok.passes,
			.records = ok.records, .rows = ok.rows, .bytes = ok.bytes,
			.found = ok.found, .servers_busy = ok.servers_busy,
			.rotten = ok.rotten, .extents = ok.extents,
			.extent_bytes = ok.extent_bytes, .extents_found = ok.extents_found };
		snprintf(ret_sc->last, sizeof ret_sc->last, "%.*s", (int)ok.last.len,
			(const char *)ok.last.p);
	}
	ask_fini(&a);
	return rc;
}
