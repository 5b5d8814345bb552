/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/out.h"
#include "base/check.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { METER_DRAW_MS = 100, METER_QUIET_MS = 300 };

/* Takes the object. */
static void out_line(json_t *object)
{
	json_dumpf(object, stdout, JSON_COMPACT);
	fputc('\n', stdout);
	json_decref(object);
}

/* ---- failures ---- */
static bool say(struct cli *c, const char *object, int rc, const char *text, const char *hint)
{
	const char *what = err_text(rc);
	json_t *error;

	if (c->exit == 0)
		c->exit = err_exit(rc);
	if (c->json) {
		error = json_pack("{s:s, s:s, s:s}", "code", err_name(rc), "text", what, "note",
			text);
		if (error != NULL && hint != NULL)
			json_object_set_new(error, "hint", json_string(hint));
		out_line(json_pack("{s:s, s:s, s:o}", "status", "error", "object",
			object != NULL ? object : "", "error", error));
		return false;
	}
	os_line_wipe();
	fprintf(stderr, "%swadi:%s ", out_bold(c), out_plain(c));
	if (object != NULL && strncmp(text, object, strlen(object)) != 0)
		fprintf(stderr, "%s: ", object);
	if (text[0] == '\0')
		fprintf(stderr, "%s\n", what);
	else if (rc == E_INVALID)
		fprintf(stderr, "%s\n", text);
	else
		fprintf(stderr, "%s: %s\n", what, text);
	if (hint != NULL && hint[0] != '\0')
		fprintf(stderr, "  hint: %s\n", hint);
	return false;
}

bool cli_fail(struct cli *c, const char *object, int rc, const char *text, const char *hint)
{
	check(rc < 0);
	return say(c, object, rc, text, hint);
}

/* What to do next, where that can be told from the code alone. */
static const char *hint_for(int rc)
{
	switch (rc) {
	case WADI_E_UNREACH:
		return "is it running?  wadi serve starts one; --url or WADI_URL say where it is";
	case WADI_E_FULL:
		return "wadi status shows what is full";
	case WADI_E_LOST:
		return "its memory went with the server: make it again, or persist such objects";
	case WADI_E_TIMEOUT:
	case WADI_E_UNAVAILABLE:
		return "wadi status shows the servers; --timeout gives it longer";
	case WADI_E_UNKNOWN:
		return "it may have happened or not: look before you repeat it";
	default:
		return NULL;
	}
}

bool cli_failed(struct cli *c, const char *object, int rc)
{
	const char *note = c->w != NULL ? wadi_error(c->w) : "", *hint = hint_for(rc);
	char text[128];

	if (rc == WADI_E_NOTFOUND && strncmp(note, "bucket ", 7) == 0
	    && strpbrk(note + 7, ": ") == NULL) {
		snprintf(text, sizeof text, "wadi bucket create %.64s", note + 7);
		hint = text;
	}
	return say(c, object, rc, note, hint);
}

/* ---- connecting ---- */
uint32_t cli_timeout_ms(const struct cli *c)
{
	uint64_t ms = c->a.given[O_timeout] ? c->a.number[O_timeout] : 0;

	return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

static const char *hint_connect(int rc, const char *why)
{
	bool tls = strstr(why, "tls:") != NULL;

	if (rc == WADI_E_CLOSED && strstr(why, "tcp:") != NULL)
		return "does the server speak TLS?  Then its address begins with wadis://";
	if (rc == WADI_E_CORRUPT && tls)
		return "a server without TLS has an address that begins with wadi://";
	if (rc == WADI_E_NOTFOUND)
		return "wadi cert client makes certificates; WADI_CERT names their folder";
	if (rc != WADI_E_DENIED)
		return hint_for(rc);
	if (strstr(why, "TLS: ") != NULL)
		return "wadi cert show tells about your certificates; WADI_CERT names their folder";
	if (tls && os_env("WADI_JOB_TOKEN") == NULL)
		return "the key of the server is needed (WADI_KEY), and a certificate of its "
		       "authority: see wadi cert show";
	return os_env("WADI_JOB_TOKEN") != NULL
		? "WADI_JOB_TOKEN names the job: it may have ended; unset it to act for yourself"
		: "over TCP the key file of the server is needed: WADI_KEY says where it is";
}

bool cli_connect(struct cli *c, uint32_t wait_ms)
{
	struct wadi_connect_opts o = { .size = sizeof o, .name = "wadi",
		.timeout_ms = cli_timeout_ms(c), .connect_ms = wait_ms,
		.flags = wait_ms > 0 ? WADI_CONNECT_WAIT : 0,
		.key_file = c->a.given[O_key_file] ? c->a.text[O_key_file] : NULL };
	struct wadi_note why;
	int rc;

	if (c->w != NULL)
		return true;
	rc = wadi_connect(c->a.text[O_url], &o, &c->w, &why);
	if (rc < 0)
		return say(c, NULL, rc, why.text,
			hint_connect(rc, why.text));
	return true;
}

/* ---- results ---- */
void out_json(json_t *object)
{
	check(object != NULL);
	check(json_object_get(object, "status") == NULL); /* a field of ours would be lost */
	json_object_set_new(object, "status", json_string("ok"));
	out_line(object);
}

void out_note(struct cli *c, const char *fmt, ...)
{
	va_list ap;

	if (c->quiet || c->json)
		return;
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

const char *out_bold(const struct cli *c) { return c->color ? "\033[1m" : ""; }
const char *out_plain(const struct cli *c) { return c->color ? "\033[0m" : ""; }

/* ---- progress ---- */
static bool talks(const struct cli *c)
{
	return !c->quiet && !c->json && os_terminal(OS_STDERR);
}

void meter_start(struct meter *m, struct cli *c, const char *what, uint64_t total_bytes)
{
	*m = (struct meter){ .c = c, .over = c->over, .on = c->over == NULL && talks(c) };
	progress_init(&m->p, what, total_bytes, os_now_ms());
}

void meter_add(struct meter *m, uint64_t bytes)
{
	char line[PROGRESS_LINE_MAX];
	uint64_t now;

	m->done_bytes += bytes;
	if (m->over != NULL)
		meter_add(m->over, bytes);
	if (!m->on)
		return;
	now = os_now_ms();
	/* What is over soon needs no picture. */
	if (now - m->p.started_ms < METER_QUIET_MS || now - m->drawn_ms < METER_DRAW_MS)
		return;
	m->drawn_ms = now;
	m->drawn = true;
	os_line(progress_line(&m->p, m->done_bytes, now, os_columns() - 1, line));
}

void meter_end(struct meter *m)
{
	if (m->drawn)
		os_line_wipe();
	m->drawn = false;
}

void out_waiting(struct cli *c, const char *fmt, ...)
{
	char line[PROGRESS_LINE_MAX];
	va_list ap;

	if (!talks(c))
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	if (strlen(line) >= os_columns())
		line[os_columns() - 1] = '\0';
	os_line(line);
}

/* ---- names ---- */
bool name_is_wadi(const char *text)
{
	return strncmp(text, "wadi:", 5) == 0;
}

bool name_parse(struct cli *c, const char *text, bool key, struct name *ret_n)
{
	const char *path = name_is_wadi(text) ? text + 5 : text;
	size_t bucket_len = strcspn(path, "/"), key_len = 0;

	if (path[bucket_len] == '/')
		key_len = strlen(path + bucket_len + 1);
	if (bucket_len >= sizeof ret_n->bucket)
		return say(c, text, E_TOOBIG, "a bucket's name has at most 255 bytes", NULL);
	if (key_len >= sizeof ret_n->key)
		return say(c, text, E_TOOBIG, "a key has at most 1024 bytes", NULL);
	if (key && key_len == 0)
		return say(c, text, E_INVALID, "this names no object",
			"objects are named BUCKET/KEY; in a job /KEY is in the job's own bucket");
	memcpy(ret_n->bucket, path, bucket_len);
	ret_n->bucket[bucket_len] = '\0';
	memcpy(ret_n->key, path + bucket_len + (key_len > 0), key_len);
	ret_n->key[key_len] = '\0';
	return true;
}
