/* SPDX-License-Identifier: Apache-2.0 */
/* Questions over HTTP against a server of a few lines in the same loop, which answers as told by
 * the path.  (TLS is tested against etcd.) */
#include "sys/http.h"
#include "base/check.h"
#include "sys/uv/sys_uv.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { REQUEST_MAX = 4096, ANSWER_MAX = 1 << 20, BIG = 300000 };

static struct sys *s;
static struct sys_http *h;
static struct sys_listener *listener;
static struct err_note note;
static struct group serving;
static unsigned n_requests, n_connections;
static char last[REQUEST_MAX], url[512];

static uint64_t soon(void)
{
	return sys_after(s, 20 * SYS_SEC);
}

/* ---- the server ---- */
static void send_text(struct sys_stream *c, const char *text, size_t len)
{
	struct iovec iov = { (void *)(uintptr_t)text, len };

	(void)sys_send(c, &iov, 1, soon());
}

static void say(struct sys_stream *c, const char *text)
{
	send_text(c, text, strlen(text));
}

static bool asked_for(const char *path)
{
	const char *space = strchr(last, ' ');

	return space != NULL && strncmp(space + 1, path, strlen(path)) == 0;
}

/* False: the connection ends here. */
static bool answer(struct sys_stream *c)
{
	if (asked_for("/hello")) {
		say(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
	} else if (asked_for("/missing")) {
		say(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone");
	} else if (asked_for("/empty")) {
		say(c, "HTTP/1.1 204 No Content\r\n\r\n");
	} else if (asked_for("/big")) {
		char *big = malloc(BIG);

		memset(big, 'x', BIG);
		say(c, "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n");
		send_text(c, big, BIG);
		free(big);
	} else if (asked_for("/silent")) {
		(void)fiber_sleep(soon());
		return false;
	} else if (asked_for("/once")) { /* answered, and closed behind it */
		say(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
		return false;
	} else if (asked_for("/stream")) {
		say(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
		for (int i = 0; i < 3; i++) {
			say(c, "4\r\nabcd\r\n");
			if (fiber_sleep(sys_after(s, 5 * SYS_MS)) < 0)
				return false;
		}
		say(c, "0\r\n\r\n");
	} else if (asked_for("/redirect")) {
		say(c, "HTTP/1.1 302 Found\r\nLocation: /hello\r\nContent-Length: 0\r\n\r\n");
	} else {
		return false;
	}
	return true;
}

/* One request with its whole body; false at the end. */
static bool request(struct sys_stream *c)
{
	size_t len = 0, body = 0;
	char *end = NULL, *at;

	while (end == NULL || len < (size_t)(end + 4 - last) + body) {
		int64_t n = sys_recv(c, last + len, sizeof last - 1 - len, soon());

		if (n <= 0)
			return false;
		len += (size_t)n;
		last[len] = '\0';
		end = strstr(last, "\r\n\r\n");
		at = strstr(last, "Content-Length: ");
		if (at != NULL)
			body = strtoul(at + 16, NULL, 10);
	}
	n_requests++;
	return true;
}

static int serve_one(void *arg)
{
	struct sys_stream *c = arg;

	n_connections++;
	while (request(c) && answer(c))
		;
	sys_stream_close(c);
	return 0;
}

static int serve(void *arg)
{
	struct sys_stream *c;

	while (sys_accept(listener, FOREVER, &c) == 0)
		assert_int_equal(fiber_start(&serving, "serve", serve_one, c), 0);
	return 0;
}

/* ---- the tests ---- */
static const char *at(const char *path)
{
	snprintf(url, sizeof url, "http://%s%s", sys_listener_addr(listener) + 4, path);
	return url;
}

static int ask(struct sys_http_question q, uint64_t until, struct sys_http_answer *a, bool *sent)
{
	if (q.method == NULL)
		q.method = "GET";
	if (q.answer_bytes_max == 0)
		q.answer_bytes_max = ANSWER_MAX;
	note.text[0] = '\0';
	return sys_http_ask(h, &q, until, a, sent, &note);
}

#define ASK(...) ask((struct sys_http_question){ __VA_ARGS__ }, soon(), &a, &sent)

static int in_world(fiber_fn *fn)
{
	assert_int_equal(sys_http_new(s, &h, &note), 0);
	assert_int_equal(sys_listen(s, "tcp:127.0.0.1:0", &listener, &note), 0);
	n_requests = n_connections = 0;
	group_init(&serving, sys_loop(s));
	serving.keep_going = true;
	assert_int_equal(fiber_start(&serving, "accept", serve, NULL), 0);
	assert_int_equal(fn(NULL), 0);
	group_cancel(&serving);
	(void)group_wait(&serving);
	sys_listener_close(listener);
	sys_http_free(h);
	return 0;
}

static int main_fiber(void *arg)
{
	return in_world(*(fiber_fn **)arg);
}

static void run(fiber_fn *fn)
{
	assert_int_equal(sys_uv_new(&s, &note), 0);
	assert_int_equal(sys_uv_run(s, "test", main_fiber, &fn), 0);
	sys_uv_free(s);
}

static int plain(void *arg)
{
	static const char *const headers[] = { "X-Thing: one", NULL };
	struct sys_http_answer a;
	bool sent;

	for (int i = 0; i < 3; i++) {
		assert_int_equal(ASK(.url = at("/hello"), .headers = headers), 0);
		assert_true(sent);
		assert_int_equal(a.status, 200);
		assert_string_equal(a.body, "hello");
		free(a.body);
	}
	assert_non_null(strstr(last, "X-Thing: one\r\n"));
	assert_int_equal(n_connections, 1);
	assert_int_equal(ASK(.url = at("/missing")), 0);
	assert_int_equal(a.status, 404);
	assert_string_equal(a.body, "none");
	free(a.body);
	assert_int_equal(ASK(.url = at("/empty")), 0);
	assert_int_equal(a.status, 204);
	assert_int_equal(a.len, 0);
	assert_string_equal(a.body, "");
	free(a.body);
	assert_int_equal(ASK(.url = at("/redirect")), 0);
	assert_int_equal(a.status, 302);
	free(a.body);
	return 0;
}

static int bodies(void *arg)
{
	struct sys_http_answer a;
	char body[2000];
	bool sent;

	memset(body, 'b', sizeof body);
	assert_int_equal(
		ASK(.method = "POST", .url = at("/hello"), .body = bytes_of(body, sizeof body),
			.user = "me", .password = "secret"),
		0);
	free(a.body);
	assert_non_null(strstr(last, "POST /hello"));
	assert_non_null(strstr(last, "Authorization: Basic bWU6c2VjcmV0\r\n"));
	assert_int_equal(strlen(strstr(last, "\r\n\r\n") + 4), sizeof body);
	assert_int_equal(ASK(.method = "POST", .url = at("/hello"), .bearer = "t0ken"), 0);
	free(a.body);
	assert_non_null(strstr(last, "Authorization: Bearer t0ken\r\n"));
	assert_non_null(strstr(last, "Content-Length: 0\r\n"));
	assert_int_equal(ASK(.url = at("/big")), 0);
	assert_int_equal(a.len, BIG);
	free(a.body);
	assert_int_equal(ASK(.url = at("/big"), .answer_bytes_max = BIG), 0);
	free(a.body);
	assert_int_equal(ASK(.url = at("/big"), .answer_bytes_max = BIG - 1), E_TOOBIG);
	assert_int_equal(ASK(.url = at("/hello"), .answer_bytes_max = 4), E_TOOBIG);
	return 0;
}

static int failures(void *arg)
{
	struct sys_listener *gone;
	struct sys_http_answer a;
	char nobody[256];
	bool sent;

	assert_int_equal(ASK(.url = at("/cut")), E_CLOSED);
	assert_true(sent);
	assert_int_equal(sys_listen(s, "tcp:127.0.0.1:0", &gone, &note), 0);
	snprintf(nobody, sizeof nobody, "http://%s/", sys_listener_addr(gone) + 4);
	sys_listener_close(gone);
	assert_int_equal(ASK(.url = nobody), E_UNREACH);
	assert_false(sent);
	assert_non_null(strstr(note.text, nobody));
	assert_int_equal(ASK(.url = "ftp://127.0.0.1/x"), E_INVALID);
	assert_false(sent);
	assert_int_equal(ASK(.url = "http://"), E_INVALID);
	snprintf(nobody, sizeof nobody, "http://localhost%s/hello",
		strrchr(sys_listener_addr(listener), ':'));
	assert_int_equal(ASK(.url = nobody), 0); /* by name */
	free(a.body);
	return 0;
}

static int deadlines(void *arg)
{
	struct sys_http_question q = { .url = at("/silent") };
	struct sys_http_answer a;
	uint64_t from = sys_now_ns(s);
	bool sent;

	assert_int_equal(ask(q, sys_after(s, 30 * SYS_MS), &a, &sent), E_TIMEOUT);
	assert_true(sent);
	assert_in_range(sys_now_ns(s) - from, 30 * SYS_MS, 10 * SYS_SEC);
	assert_int_equal(ask(q, from, &a, &sent), E_TIMEOUT);
	assert_int_equal(ASK(.url = at("/hello")), 0); /* whole as before */
	free(a.body);
	return 0;
}

static int asks_in_vain(void *arg)
{
	struct sys_http_answer a;
	char own[sizeof url];
	bool sent;

	snprintf(own, sizeof own, "%s", at("/silent"));
	*(int *)arg = ASK(.url = own);
	return 0;
}

static int cancels(void *arg)
{
	int results[5] = { 0 };
	struct group g;

	group_init(&g, sys_loop(s));
	for (int i = 0; i < 5; i++)
		assert_int_equal(fiber_start(&g, "asks", asks_in_vain, &results[i]), 0);
	while (n_requests < 5)
		assert_int_equal(fiber_sleep(sys_after(s, SYS_MS)), 0);
	assert_int_equal(fiber_start(&g, "asks", asks_in_vain, &results[0]), 0);
	group_cancel(&g);
	(void)group_wait(&g);
	for (int i = 0; i < 5; i++)
		assert_int_equal(results[i], E_CANCELED);
	return 0;
}

static int takes(void *arg, struct bytes chunk)
{
	unsigned *n = arg;

	assert_int_equal(chunk.len % 4, 0);
	*n += (unsigned)chunk.len / 4;
	return *n == 102 ? E_BUSY : 0;
}

static int streams(void *arg)
{
	struct sys_http_answer a;
	unsigned n = 0;
	bool sent;

	assert_int_equal(ASK(.url = at("/stream"), .each = takes, .arg = &n), 0);
	assert_int_equal(n, 3);
	assert_int_equal(a.len, 0);
	free(a.body);
	n = 100;
	assert_int_equal(ASK(.url = at("/stream"), .each = takes, .arg = &n), E_BUSY);
	n = 0;
	assert_int_equal(ASK(.url = at("/stream"), .each = takes, .arg = &n, .answer_bytes_max = 5),
		E_TOOBIG);
	return 0;
}

/* What is to be sent once is seen once, also where a kept connection turns out to be closed. */
static int once(void *arg)
{
	struct sys_http_answer a;
	unsigned before;
	bool sent;

	assert_int_equal(ASK(.url = at("/hello")), 0);
	free(a.body);
	before = n_requests;
	assert_int_equal(ASK(.method = "POST", .url = at("/cut"), .once = true), E_CLOSED);
	assert_true(sent);
	assert_int_equal(n_requests, before + 1);
	assert_int_equal(ASK(.url = at("/cut")), E_CLOSED);
	assert_int_equal(n_requests, before + 3); /* the kept one, then a fresh one */
	return 0;
}

static void answers_come(void **state)
{
	run(plain);
}
static void bodies_are_bounded(void **state)
{
	run(bodies);
}
static void failures_say_whether_it_left(void **state)
{
	run(failures);
}
static void deadlines_hold(void **state)
{
	run(deadlines);
}
static void cancellation_ends_it(void **state)
{
	run(cancels);
}
static void chunks_come_as_they_are_sent(void **state)
{
	run(streams);
}
static void once_is_once(void **state)
{
	run(once);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_come),
		cmocka_unit_test(bodies_are_bounded),
		cmocka_unit_test(failures_say_whether_it_left),
		cmocka_unit_test(deadlines_hold),
		cmocka_unit_test(cancellation_ends_it),
		cmocka_unit_test(chunks_come_as_they_are_sent),
		cmocka_unit_test(once_is_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
