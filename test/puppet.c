/* SPDX-License-Identifier: Apache-2.0 */
/* A client on strings, for tests with real processes: reads commands, a line each, and answers each
 * with one line, `ok ...` or `err NAME sentence`.  It can be killed or stopped in the middle of
 * anything, and then what it had been told stands in its history.
 *
 * A value is a function of its seed and length, and carries both: whoever reads one knows which
 * put it came from, and every byte of it is compared.
 *
 *   connect URL TOKEN|- [MS]     timeout MS                   job NAME key=N...      end [JOB]
 *   put BUCKET KEY LEN SEED [flags]   get BUCKET KEY [wait=MS] [delete=1] [offset=N len=N]
 *   view BUCKET KEY              look                         unview
 *   open BUCKET KEY SEED LEN     write N                      close | abort
 *   delete|stat|persist BUCKET KEY    rename BUCKET FROM TO   list BUCKET [PREFIX]
 *   bucket NAME key=N...         drop BUCKET                  renew
 *   history PATH                 traffic PREFIX SEED BUCKET...     (until a line comes)
 */
#include "wadi.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	LINE_MAX_BYTES = 4096, WORDS_MAX = 16, VALUE_MAX = 160 << 20, HEAD = 16,
	KEYS = 8, BUCKETS_MAX = 4, TRAFFIC_MS = 20000,
};

static struct wadi *w;
static struct wadi_view *view;
static struct wadi_writer *writer;
static struct { uint64_t seed, at; uint8_t *bytes; } writing;
static uint32_t timeout_ms;
static int history = -1;

/* ---- values ---- */
static uint64_t mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static uint64_t word_of(uint64_t seed, uint64_t len, uint64_t i)
{
	return i == 0 ? seed : i == 1 ? len : mix(seed + i);
}

static uint8_t *value_new(uint64_t seed, uint64_t len)
{
	uint8_t *p = malloc(len + 8);

	if (p == NULL)
		abort();
	for (uint64_t i = 0; i * 8 < len; i++) {
		uint64_t word = word_of(seed, len, i);

		memcpy(p + i * 8, &word, 8);
	}
	return p;
}

/* The seed of whole bytes that somebody put; false: nobody did. */
static bool value_is(const uint8_t *p, uint64_t len, uint64_t *ret_seed)
{
	uint64_t seed = 0;

	if (len != 0 && len < HEAD)
		return false;
	if (len != 0)
		memcpy(&seed, p, 8);
	for (uint64_t i = 0; i * 8 < len; i++) {
		uint64_t word = word_of(seed, len, i);
		size_t n = len - i * 8 < 8 ? len - i * 8 : 8;

		if (memcmp(p + i * 8, &word, n) != 0)
			return false;
	}
	*ret_seed = seed;
	return true;
}

/* ---- answers ---- */
static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

static void result(int rc)
{
	if (rc < 0)
		say("err %s %s", wadi_error_name(rc), w != NULL ? wadi_error(w) : "");
	else
		say("ok %d", rc);
}

/* The number behind name= among the words. */
static uint64_t option(char **words, const char *name, uint64_t otherwise)
{
	size_t len = strlen(name);

	for (; *words != NULL; words++)
		if (strncmp(*words, name, len) == 0 && (*words)[len] == '=')
			return strtoull(*words + len + 1, NULL, 0);
	return otherwise;
}

static uint64_t number(const char *word)
{
	return word != NULL ? strtoull(word, NULL, 0) : 0;
}

/* "-" is the job's own bucket, and the empty key. */
static const char *name_of(const char *word)
{
	return word == NULL || strcmp(word, "-") == 0 ? "" : word;
}

/* ---- connection, jobs, buckets ---- */
static void do_connect(char **a)
{
	struct wadi_connect_opts o = { .size = sizeof o, .name = "puppet",
		.timeout_ms = (uint32_t)number(a[2]), .connect_ms = 20000,
		.flags = WADI_CONNECT_WAIT };
	struct wadi_note why = { "" };
	int rc;

	o.token = name_of(a[1]);
	rc = wadi_connect(a[0], &o, &w, &why);
	if (rc < 0)
		say("err %s %s", wadi_error_name(rc), why.text);
	else
		say("ok %llu", (unsigned long long)wadi_job_id(w));
}

static void do_timeout(char **a)
{
	timeout_ms = (uint32_t)number(a[0]);
	say("ok");
}

static void do_job(char **a)
{
	struct wadi_job_hints h = { .size = sizeof h };
	struct wadi_job job;
	int rc;

	h.latency = (uint32_t)option(a, "latency", 0);
	h.capacity_bytes = option(a, "capacity", 0);
	h.quota_bytes = option(a, "quota", 0);
	h.lease_ms = option(a, "lease", 0);
	h.tiers = (uint32_t)option(a, "tiers", 0);
	rc = wadi_job_register(w, a[0], &h, &job);
	if (rc < 0)
		result(rc);
	else
		say("ok %llu %s", (unsigned long long)job.id, job.token);
}

static void do_end(char **a)
{
	struct wadi_job_end end;
	int rc = wadi_job_end(w, number(a[0]), &end);

	if (rc < 0)
		result(rc);
	else
		say("ok %llu %llu", (unsigned long long)end.files,
			(unsigned long long)end.kept_files);
}

static void do_renew(char **a)
{
	result(wadi_job_renew(w, number(a[0])));
}

static void do_bucket(char **a)
{
	struct wadi_bucket_opts o = { .size = sizeof o };

	o.kind = (uint32_t)option(a, "kind", 0);
	o.lifetime = (uint32_t)option(a, "lifetime", 0);
	o.tiers = (uint32_t)option(a, "tiers", 0);
	o.exists_ok = (uint32_t)option(a, "exists_ok", 0);
	o.ttl_ms = option(a, "ttl", 0);
	o.quota_bytes = option(a, "quota", 0);
	o.copies = (uint32_t)option(a, "copies", 0);
	result(wadi_bucket_create(w, a[0], &o, NULL));
}

static void do_drop(char **a)
{
	result(wadi_bucket_drop(w, a[0]));
}

/* ---- objects ---- */
static int put(const char *bucket, const char *key, uint64_t len, uint64_t seed, uint32_t flags,
	struct wadi_info *ret_info)
{
	struct wadi_put_opts o = { .size = sizeof o, .flags = flags, .timeout_ms = timeout_ms };
	uint8_t *p = value_new(seed, len);
	int rc = wadi_put(w, bucket, key, p, len, &o, ret_info);

	free(p);
	return rc;
}

/* Whole objects: 0 and the seed, WADI_E_CORRUPT when they are nobody's bytes. */
static int get(const char *bucket, const char *key, struct wadi_get_opts *o, uint64_t *ret_len,
	uint64_t *ret_seed, bool *ret_other)
{
	struct wadi_view *v = NULL;
	const struct wadi_part *parts;
	uint64_t len, at = 0;
	uint8_t *p;
	size_t n;
	int rc = wadi_get_view(w, bucket, key, o, &v);

	if (rc < 0)
		return rc;
	len = wadi_view_len(v);
	p = malloc(len + 1);
	if (p == NULL)
		abort();
	parts = wadi_view_parts(v, &n);
	for (size_t i = 0; i < n; at += parts[i++].len)
		memcpy(p + at, parts[i].data, parts[i].len);
	/* What was copied is what was held only if the server was there all the time. */
	rc = wadi_view_check(v);
	wadi_view_close(v);
	*ret_len = len;
	*ret_other = rc == 0 && o->len == 0 && !value_is(p, len, ret_seed);
	free(p);
	return rc;
}

static void do_put(char **a)
{
	struct wadi_info info;
	int rc = put(name_of(a[0]), a[1], number(a[2]), number(a[3]), (uint32_t)number(a[4]),
		&info);

	if (rc < 0)
		result(rc);
	else
		say("ok %llu", (unsigned long long)info.version);
}

static void do_get(char **a)
{
	struct wadi_get_opts o = { .size = sizeof o, .timeout_ms = timeout_ms };
	uint64_t len = 0, seed = 0;
	bool other;
	int rc;

	o.wait_ms = (uint32_t)option(a, "wait", 0);
	o.flags = option(a, "delete", 0) ? WADI_GET_DELETE : 0;
	o.offset = option(a, "offset", 0);
	o.len = option(a, "len", 0);
	rc = get(name_of(a[0]), a[1], &o, &len, &seed, &other);
	if (rc < 0)
		result(rc);
	else if (other)
		say("other bytes: %llu of them", (unsigned long long)len);
	else
		say("ok %llu %llu", (unsigned long long)len, (unsigned long long)seed);
}

static void do_view(char **a)
{
	struct wadi_get_opts o = { .size = sizeof o, .timeout_ms = timeout_ms };
	int rc = wadi_get_view(w, name_of(a[0]), a[1], &o, &view);

	if (rc < 0)
		result(rc);
	else
		say("ok %llu %d", (unsigned long long)wadi_view_len(view), wadi_view_shared(view));
}

/* Do the bytes of the view stand? */
static void do_look(char **a)
{
	uint64_t seed = 0;
	const void *p = wadi_view_data(view);
	bool same = p != NULL && value_is(p, wadi_view_len(view), &seed);
	int rc;

	wadi_advance(w);
	rc = wadi_view_check(view);
	if (rc < 0)
		say("err %s", wadi_error_name(rc));
	else
		say(same ? "ok %llu" : "other bytes", (unsigned long long)seed);
}

static void do_unview(char **a)
{
	wadi_view_close(view);
	view = NULL;
	say("ok");
}

static void do_open(char **a)
{
	struct wadi_put_opts o = { .size = sizeof o, .timeout_ms = timeout_ms };
	int rc = wadi_writer_open(w, name_of(a[0]), a[1], &o, &writer);

	if (rc == 0) {
		free(writing.bytes);
		writing.bytes = value_new(number(a[2]), number(a[3]));
		writing.at = 0;
	}
	result(rc);
}

static void do_write(char **a)
{
	uint64_t n = number(a[0]);
	int rc = wadi_write(writer, writing.bytes + writing.at, n);

	writing.at += rc == 0 ? n : 0;
	result(rc);
}

static void do_close(char **a)
{
	struct wadi_writer *wr = writer;

	writer = NULL;
	result(wadi_writer_close(wr, NULL));
}

static void do_abort(char **a)
{
	wadi_writer_abort(writer);
	writer = NULL;
	say("ok");
}

static void do_delete(char **a)
{
	struct wadi_opts o = { .size = sizeof o, .timeout_ms = timeout_ms };

	result(wadi_delete(w, name_of(a[0]), a[1], &o));
}

static void do_stat(char **a)
{
	struct wadi_opts o = { .size = sizeof o, .timeout_ms = timeout_ms };
	struct wadi_info info;
	int rc = wadi_stat(w, name_of(a[0]), a[1], &o, &info);

	if (rc < 0)
		result(rc);
	else
		say("ok %llu %u", (unsigned long long)info.size, info.tiers);
}

static void do_persist(char **a)
{
	struct wadi_opts o = { .size = sizeof o, .timeout_ms = timeout_ms };

	result(wadi_persist(w, name_of(a[0]), a[1], &o));
}

static void do_rename(char **a)
{
	struct wadi_opts o = { .size = sizeof o, .timeout_ms = timeout_ms };

	result(wadi_rename(w, name_of(a[0]), a[1], name_of(a[0]), a[2], &o));
}

static void do_list(char **a)
{
	struct wadi_list_opts o = { .size = sizeof o, .prefix = a[1], .timeout_ms = timeout_ms };
	struct wadi_entry e;
	struct wadi_list *l;
	int rc = wadi_list_open(w, name_of(a[0]), &o, &l);
	unsigned n = 0;

	if (rc < 0) {
		result(rc);
		return;
	}
	fputs("ok", stdout);
	while ((rc = wadi_list_next(l, &e)) > 0 && ++n < 1000)
		printf(" %s", e.name);
	wadi_list_close(l);
	say(rc < 0 ? " failed" : "");
}

/* ---- traffic ---- */
static void do_history(char **a)
{
	history = open(a[0], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	say(history < 0 ? "err IO %s" : "ok %s", a[0]);
}

/* One write for each line: what a killed process knew is there to its last line. */
static void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void note(const char *fmt, ...)
{
	char line[512];
	struct timespec now;
	va_list ap;
	int n;

	clock_gettime(CLOCK_MONOTONIC, &now);
	n = snprintf(line, sizeof line, "%lld.%06ld ", (long long)now.tv_sec, now.tv_nsec / 1000);
	va_start(ap, fmt);
	n += vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
	va_end(ap);
	line[n] = '\n';
	if (write(history, line, (size_t)n + 1) != n + 1)
		abort();
}

struct traffic {
	const char *prefix;
	char **buckets;
	uint64_t n_buckets, chance, seed;
	bool spoilt[BUCKETS_MAX][KEYS]; /* the outcome of a change is unknown: nothing more of it */
	struct wadi_view *held;
};

static uint64_t draw(struct traffic *t, uint64_t below)
{
	t->chance = mix(t->chance);
	return t->chance % below;
}

static uint64_t any_len(struct traffic *t)
{
	uint64_t kind = draw(t, 16);

	if (kind == 0)
		return 0;
	if (kind < 8)
		return HEAD + draw(t, 4096 - HEAD + 1);
	if (kind < 15)
		return 4097 + draw(t, 200000);
	return 200000 + draw(t, 2 << 20);
}

static bool unknown(int rc)
{
	return rc == WADI_E_UNKNOWN || rc == WADI_E_IO || rc == WADI_E_CANCELED;
}

static void traffic_change(struct traffic *t, const char *bucket, const char *key, bool *spoilt)
{
	bool deletes = draw(t, 4) == 0;
	uint64_t len = any_len(t), seed = len == 0 ? 0 : ++t->seed;
	struct wadi_opts o = { .size = sizeof o, .timeout_ms = TRAFFIC_MS };
	int rc;

	if (deletes)
		note("begin delete %s %s", bucket, key);
	else
		note("begin put %s %s %llu %llu", bucket, key, (unsigned long long)len,
			(unsigned long long)seed);
	timeout_ms = TRAFFIC_MS;
	rc = deletes ? wadi_delete(w, bucket, key, &o) : put(bucket, key, len, seed, 0, NULL);
	note("end %s %s", rc < 0 ? wadi_error_name(rc) : "ok", rc < 0 ? wadi_error(w) : "");
	*spoilt = unknown(rc);
}

static void traffic_read(struct traffic *t, const char *bucket, const char *key)
{
	struct wadi_get_opts o = { .size = sizeof o, .timeout_ms = TRAFFIC_MS };
	uint64_t len = 0, seed = 0;
	bool other = false;
	int rc;

	note("begin get %s %s", bucket, key);
	rc = get(bucket, key, &o, &len, &seed, &other);
	note("end %s %llu %llu", other ? "other" : rc < 0 ? wadi_error_name(rc) : "ok",
		(unsigned long long)len, (unsigned long long)seed);
}

/* Taken by delete-on-read, put just before. */
static void traffic_item(struct traffic *t, const char *bucket, bool *spoilt)
{
	struct wadi_get_opts o = { .size = sizeof o, .flags = WADI_GET_DELETE,
		.timeout_ms = TRAFFIC_MS };
	uint64_t len = HEAD + draw(t, 20000), seed = ++t->seed;
	char key[64];
	bool other = false;
	int rc;

	snprintf(key, sizeof key, "%s/item-%llu", t->prefix, (unsigned long long)seed);
	note("begin put %s %s %llu %llu", bucket, key, (unsigned long long)len,
		(unsigned long long)seed);
	rc = put(bucket, key, len, seed, WADI_PUT_DELETE_ON_READ, NULL);
	note("end %s", rc < 0 ? wadi_error_name(rc) : "ok");
	if (rc < 0 || draw(t, 3) == 0)
		return;
	note("begin take %s %s", bucket, key);
	rc = get(bucket, key, &o, &len, &seed, &other);
	note("end %s %llu %llu", other ? "other" : rc < 0 ? wadi_error_name(rc) : "ok",
		(unsigned long long)len, (unsigned long long)seed);
}

static void traffic_hold(struct traffic *t, const char *bucket, const char *key)
{
	struct wadi_get_opts o = { .size = sizeof o, .timeout_ms = TRAFFIC_MS };

	wadi_view_close(t->held);
	t->held = NULL;
	(void)wadi_get_view(w, bucket, key, &o, &t->held);
}

static bool told_to_stop(void)
{
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

static void do_traffic(char **a)
{
	struct traffic t = { .prefix = a[0], .seed = number(a[1]) << 32, .chance = number(a[1]),
		.buckets = a + 2 };
	uint64_t ops = 0;

	while (t.n_buckets < BUCKETS_MAX && t.buckets[t.n_buckets] != NULL)
		t.n_buckets++;
	for (; !told_to_stop(); ops++) {
		uint64_t b = draw(&t, t.n_buckets), k = draw(&t, KEYS), what = draw(&t, 16);
		const char *bucket = t.buckets[b];
		char key[64];

		snprintf(key, sizeof key, "%s/%llu", t.prefix, (unsigned long long)k);
		if (what == 0)
			traffic_hold(&t, bucket, key);
		else if (what < 3)
			traffic_item(&t, bucket, &t.spoilt[b][k]);
		else if (what < 9 && !t.spoilt[b][k])
			traffic_change(&t, bucket, key, &t.spoilt[b][k]);
		else
			traffic_read(&t, bucket, key);
	}
	wadi_view_close(t.held);
	say("ok %llu", (unsigned long long)ops);
}

/* ---- the loop ---- */
static const struct {
	const char *name;
	int words;              /* at least */
	void (*run)(char **words);
} commands[] = {
	{ "connect", 2, do_connect }, { "timeout", 1, do_timeout }, { "job", 1, do_job },
	{ "end", 0, do_end }, { "renew", 0, do_renew }, { "bucket", 1, do_bucket },
	{ "drop", 1, do_drop }, { "put", 4, do_put }, { "get", 2, do_get }, { "view", 2, do_view },
	{ "look", 0, do_look }, { "unview", 0, do_unview }, { "open", 4, do_open },
	{ "write", 1, do_write }, { "close", 0, do_close }, { "abort", 0, do_abort },
	{ "delete", 2, do_delete }, { "stat", 2, do_stat }, { "persist", 2, do_persist },
	{ "rename", 3, do_rename }, { "list", 1, do_list }, { "history", 1, do_history },
	{ "traffic", 3, do_traffic },
};

static void obey(char *line)
{
	char *words[WORDS_MAX + 1] = { NULL }, *rest = line, *word;
	int n = 0;

	while (n < WORDS_MAX && (word = strsep(&rest, " ")) != NULL)
		if (*word != '\0')
			words[n++] = word;
	if (n == 0)
		return; /* an empty line only ends what runs */
	for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
		if (strcmp(words[0], commands[i].name) == 0 && n > commands[i].words) {
			commands[i].run(words + 1);
			return;
		}
	say("err USAGE %s", words[0]);
}

/* Unbuffered input: poll() is to see what was not read yet. */
static bool next_line(char line[LINE_MAX_BYTES])
{
	size_t n = 0;

	while (n < LINE_MAX_BYTES - 1) {
		ssize_t got = read(STDIN_FILENO, line + n, 1);

		if (got <= 0)
			return false;
		if (line[n] == '\n')
			break;
		n++;
	}
	line[n] = '\0';
	return true;
}

int main(void)
{
	static char line[LINE_MAX_BYTES];

	while (next_line(line))
		obey(line);
	wadi_view_close(view);
	wadi_writer_abort(writer);
	wadi_close(w);
	free(writing.bytes);
	return 0;
}
