/* SPDX-License-Identifier: Apache-2.0 */
/* libcurl's multi interface, driven by libuv.
 *
 * (H1) Transfers are added, driven and taken away in libuv's callbacks only, on the thread's own
 *      stack: what TLS needs may be more than a fiber has.  A fiber sets up and cleans up.
 * (H2) A question's memory is its fiber's, which leaves only when libcurl has let go of it.
 * (H3) Names are looked up by the door, not by libcurl, whose threads could not be left. */
#include "sys/http.h"
#include "base/check.h"
#include "sys/uv/own.h"
#include <arpa/inet.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>

enum { ANSWER_ROOM_MIN = 1024, RESOLVE_MAX = 1024, KEEPALIVE_S = 10, CONNECTIONS_KEPT = 16 };

struct sys_http {
	struct sys *s;
	CURLM *multi;
	uv_timer_t timer, kick; /* libcurl's; to be called back at once */
	struct list starting, stopping;
	uint32_t n_live, n_open; /* questions; timers that are not closed */
};

enum call_state { CALL_STARTING, CALL_RUNNING, CALL_ENDED };
struct call {
	struct list link; /* in starting or stopping */
	CURL *easy;
	struct fiber *f; /* NULL: does not wait, or no more */
	enum call_state state;
	CURLcode code;
	const struct sys_http_question *q;
	struct curl_slist *headers, *resolve;
	bool sent;
	int rc; /* why the answer was not taken */
	size_t seen, room;
	struct sys_http_answer a;
	char words[CURL_ERROR_SIZE];
};

struct socket_watch {
	uv_poll_t poll;
	struct sys_http *h;
	curl_socket_t fd;
};

/* ---- driving ---- */
static void call_ended(struct sys_http *h, struct call *c, CURLcode code)
{
	check(c->state != CALL_ENDED);
	if (c->state == CALL_RUNNING)
		check(curl_multi_remove_handle(h->multi, c->easy) == CURLM_OK);
	list_remove(&c->link);
	c->state = CALL_ENDED;
	c->code = code;
	if (c->f != NULL)
		fiber_wake(c->f, 0);
	c->f = NULL;
}

static void reap(struct sys_http *h)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(h->multi, &left)) != NULL) {
		char *private = NULL;

		check(m->msg == CURLMSG_DONE);
		check(curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &private) == CURLE_OK);
		call_ended(h, (struct call *)(void *)private, m->data.result);
	}
}

static void drive(struct sys_http *h, curl_socket_t fd, int events)
{
	int running;

	check(curl_multi_socket_action(h->multi, fd, events, &running) == CURLM_OK);
	reap(h);
}

static void on_timer(uv_timer_t *t)
{
	struct sys_http *h = t->data;

	drive(h, CURL_SOCKET_TIMEOUT, 0);
	uv_stop(&h->s->uv); /* the poll that follows must not wait: a fiber may have been woken */
}

static void on_kick(uv_timer_t *t)
{
	struct sys_http *h = t->data;
	struct list *n;

	while ((n = list_pop(&h->stopping)) != NULL) {
		struct call *c = container_of(n, struct call, link);

		if (c->state == CALL_RUNNING)
			call_ended(h, c, CURLE_ABORTED_BY_CALLBACK);
	}
	while ((n = list_pop(&h->starting)) != NULL) {
		struct call *c = container_of(n, struct call, link);

		if (curl_multi_add_handle(h->multi, c->easy) == CURLM_OK)
			c->state = CALL_RUNNING;
		else
			call_ended(h, c, CURLE_OUT_OF_MEMORY);
	}
	uv_stop(&h->s->uv);
}

static void kick(struct sys_http *h)
{
	check(uv_timer_start(&h->kick, on_kick, 0, 0) == 0);
}

static int on_want_timer(CURLM *multi, long ms, void *arg)
{
	struct sys_http *h = arg;

	if (ms < 0)
		return uv_timer_stop(&h->timer);
	return uv_timer_start(&h->timer, on_timer, (uint64_t)ms, 0);
}

static void on_poll(uv_poll_t *p, int status, int events)
{
	struct socket_watch *w = p->data;
	int happened = status < 0 ? CURL_CSELECT_ERR : 0;

	if (events & UV_READABLE)
		happened |= CURL_CSELECT_IN;
	if (events & UV_WRITABLE)
		happened |= CURL_CSELECT_OUT;
	drive(w->h, w->fd, happened);
}

static void on_unwatched(uv_handle_t *h)
{
	free(h->data);
}

static int on_want_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *watch)
{
	struct socket_watch *w = watch;
	struct sys_http *h = arg;
	int events = 0;

	if (what == CURL_POLL_REMOVE) {
		if (w != NULL)
			uv_close((uv_handle_t *)&w->poll, on_unwatched);
		return 0;
	}
	if (w == NULL) {
		w = calloc(1, sizeof *w);
		if (w == NULL || uv_poll_init_socket(&h->s->uv, &w->poll, fd) < 0) {
			free(w);
			return -1;
		}
		w->poll.data = w;
		w->h = h;
		w->fd = fd;
		check(curl_multi_assign(h->multi, fd, w) == CURLM_OK);
	}
	if (what != CURL_POLL_OUT)
		events |= UV_READABLE;
	if (what != CURL_POLL_IN)
		events |= UV_WRITABLE;
	return uv_poll_start(&w->poll, events, on_poll) == 0 ? 0 : -1;
}

/* ---- a question ---- */
static int on_about_to_send(void *arg, char *to_ip, char *from_ip, int to_port, int from_port)
{
	struct call *c = arg;

	c->sent = true;
	return CURL_PREREQFUNC_OK;
}

static int gather(struct call *c, const char *p, size_t n)
{
	if (c->a.len + n + 1 > c->room) {
		size_t room = c->room * 2 + n + ANSWER_ROOM_MIN;
		char *body = realloc(c->a.body, room);

		if (body == NULL)
			return E_NOMEM;
		c->a.body = body;
		c->room = room;
	}
	memcpy(c->a.body + c->a.len, p, n);
	c->a.len += n;
	c->a.body[c->a.len] = '\0';
	return 0;
}

static size_t on_bytes(char *p, size_t one, size_t n, void *arg)
{
	struct call *c = arg;
	long status = 0;

	check(one == 1);
	check(curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status) == CURLE_OK);
	if (n > c->q->answer_bytes_max - c->seen) {
		c->rc = E_TOOBIG;
		return 0;
	}
	c->seen += n;
	if (c->q->each != NULL && status == 200)
		c->rc = c->q->each(c->q->arg, bytes_of(p, n));
	else
		c->rc = gather(c, p, n);
	return c->rc == 0 ? n : 0;
}

static bool add_word(struct curl_slist **list, const char *word)
{
	struct curl_slist *longer = curl_slist_append(*list, word);

	if (longer != NULL)
		*list = longer;
	return longer != NULL;
}

#define SET(option, value)                                                                         \
	do {                                                                                       \
		CURLcode bad = curl_easy_setopt(c->easy, CURLOPT_##option, value);                 \
		if (bad != CURLE_OK)                                                               \
			return bad;                                                                \
	} while (0)

static CURLcode set_trust(struct call *c)
{
	const struct sys_http_question *q = c->q;

	SET(SSL_VERIFYPEER, 1L);
	SET(SSL_VERIFYHOST, 2L);
	SET(SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (q->tls != NULL && q->tls->ca_file != NULL) {
		SET(CAINFO, q->tls->ca_file);
		SET(CAPATH, NULL); /* that authority and no other */
	}
	if (q->tls != NULL && q->tls->cert_file != NULL)
		SET(SSLCERT, q->tls->cert_file);
	if (q->tls != NULL && q->tls->key_file != NULL)
		SET(SSLKEY, q->tls->key_file);
	if (q->user != NULL) {
		SET(HTTPAUTH, (long)CURLAUTH_BASIC);
		SET(USERNAME, q->user);
		SET(PASSWORD, q->password != NULL ? q->password : "");
	} else if (q->bearer != NULL) {
		SET(HTTPAUTH, (long)CURLAUTH_BEARER);
		SET(XOAUTH2_BEARER, q->bearer);
	}
	return CURLE_OK;
}

static CURLcode set_all(struct call *c)
{
	const struct sys_http_question *q = c->q;

	SET(URL, q->url);
	SET(PROTOCOLS_STR, "http,https");
	SET(HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(PROXY, "");
	SET(NOSIGNAL, 1L);
	SET(TCP_KEEPALIVE, 1L);
	SET(TCP_KEEPIDLE, (long)KEEPALIVE_S);
	SET(TCP_KEEPINTVL, (long)KEEPALIVE_S);
	SET(ERRORBUFFER, c->words);
	SET(PRIVATE, c);
	SET(WRITEFUNCTION, on_bytes);
	SET(WRITEDATA, c);
	SET(PREREQFUNCTION, on_about_to_send);
	SET(PREREQDATA, c);
	SET(FRESH_CONNECT, q->once ? 1L : 0L);
	if (q->connect_ms > 0)
		SET(CONNECTTIMEOUT_MS, (long)q->connect_ms);
	if (q->body.len > 0 || strcmp(q->method, "POST") == 0) {
		SET(POSTFIELDSIZE_LARGE, (curl_off_t)q->body.len);
		SET(POSTFIELDS, q->body.len > 0 ? (const char *)q->body.p : "");
	}
	SET(CUSTOMREQUEST, q->method);
	/* or long bodies wait a second for leave that many servers never give */
	if (!add_word(&c->headers, "Expect:"))
		return CURLE_OUT_OF_MEMORY;
	for (size_t i = 0; q->headers != NULL && q->headers[i] != NULL; i++)
		if (!add_word(&c->headers, q->headers[i]))
			return CURLE_OUT_OF_MEMORY;
	SET(HTTPHEADER, c->headers);
	if (c->resolve != NULL)
		SET(RESOLVE, c->resolve);
	return set_trust(c);
}

static int code_of(const struct call *c)
{
	switch (c->code) {
	case CURLE_OK:
		return 0;
	case CURLE_WRITE_ERROR:
		return c->rc < 0 ? c->rc : E_CLOSED;
	case CURLE_OUT_OF_MEMORY:
		return E_NOMEM;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_CONNECT:
	case CURLE_OPERATION_TIMEDOUT:
		return E_UNREACH;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CONNECT_ERROR:
		return E_DENIED;
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
		return E_INVALID;
	default:
		return E_CLOSED;
	}
}

/* ---- names (H3) ---- */
static bool numeric(const char *host)
{
	struct in6_addr a;
	return inet_pton(AF_INET, host, &a) == 1 || host[0] == '[';
}

/* Addresses as libcurl's cache takes them: "+HOST:PORT:ADDRESS,ADDRESS". */
PARKS static int resolve_name(struct sys_http *h, const char *host, const char *port,
	uint64_t until_ns, struct curl_slist **ret_list, struct err_note *note)
{
	char text[SYS_ADDR_MAX], row[RESOLVE_MAX], one[INET6_ADDRSTRLEN];
	struct addr found[ADDRS_MAX];
	size_t at;
	int n;

	if (snprintf(text, sizeof text, "tcp:%s:%s", host, port) >= (int)sizeof text)
		return err_set(note, E_INVALID, "%.100s...: the name is too long", host);
	n = addr_resolve(h->s, text, until_ns, found, note);
	if (n < 0)
		return n;
	at = (size_t)snprintf(row, sizeof row, "+%s:%s:", host, port);
	for (int i = 0; i < n; i++) {
		const struct sockaddr_storage *sa = &found[i].sa;
		const void *ip = sa->ss_family == AF_INET6
					 ? (const void *)&((const struct sockaddr_in6 *)sa)
						   ->sin6_addr
					 : &((const struct sockaddr_in *)sa)->sin_addr;

		if (inet_ntop(sa->ss_family, ip, one, sizeof one) == NULL)
			continue;
		if (at + strlen(one) + 4 > sizeof row)
			break;
		at += (size_t)snprintf(row + at, sizeof row - at,
			sa->ss_family == AF_INET6 ? "%s[%s]" : "%s%s", i > 0 ? "," : "", one);
	}
	return add_word(ret_list, row) ? 0 : err_set(note, E_NOMEM, "look up %s: no memory", host);
}

PARKS static int resolve(
	struct sys_http *h, struct call *c, uint64_t until_ns, struct err_note *note)
{
	CURLU *u = curl_url();
	char *host = NULL, *port = NULL;
	int rc = 0;

	if (u == NULL)
		return err_set(note, E_NOMEM, "%s: %s", c->q->url, err_text(E_NOMEM));
	if (curl_url_set(u, CURLUPART_URL, c->q->url, 0) != CURLUE_OK ||
		curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
		curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) != CURLUE_OK)
		rc = err_set(note, E_INVALID, "%.200s: expected http://HOST:PORT/PATH", c->q->url);
	else if (!numeric(host))
		rc = resolve_name(h, host, port, until_ns, &c->resolve, note);
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(u);
	return rc;
}

/* ---- asking ---- */
static void leave(void *hook)
{
	struct call *c = hook;

	c->f = NULL;
}

/* Hands the question to libcurl until it has ended or is taken back. */
PARKS static int run(struct sys_http *h, struct call *c, uint64_t until_ns)
{
	int rc;

	c->f = fiber_self();
	list_push(&h->starting, &c->link);
	kick(h);
	rc = fiber_park(until_ns, leave, c);
	if (c->state == CALL_ENDED)
		return 0;
	check(rc < 0);
	list_remove(&c->link);
	if (c->state == CALL_RUNNING) { /* (H1), (H2) */
		list_push(&h->stopping, &c->link);
		kick(h);
		c->f = fiber_self();
		(void)fiber_park_deaf();
		check(c->state == CALL_ENDED);
	}
	return rc;
}

static void call_free(struct call *c)
{
	curl_easy_cleanup(c->easy);
	curl_slist_free_all(c->headers);
	curl_slist_free_all(c->resolve);
	free(c->a.body);
	free(c);
}

PARKS static int ask(struct sys_http *h, struct call *c, uint64_t until_ns, struct err_note *note)
{
	int rc = resolve(h, c, until_ns, note);
	long status = 0;

	if (rc < 0)
		return rc;
	c->code = c->easy == NULL ? CURLE_OUT_OF_MEMORY : set_all(c);
	if (c->code == CURLE_OK)
		rc = run(h, c, until_ns);
	if (rc == 0)
		rc = code_of(c);
	else
		c->words[0] = '\0';
	if (rc < 0)
		return err_set(note, rc, "%s %s: %s", c->q->method, c->q->url,
			c->words[0] != '\0' && c->rc == 0 ? c->words : err_text(rc));
	check(curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status) == CURLE_OK);
	c->a.status = (int)status;
	return c->a.body != NULL ? 0 : gather(c, "", 0);
}

int sys_http_ask(struct sys_http *h, const struct sys_http_question *q, uint64_t until_ns,
	struct sys_http_answer *ret_a, bool *ret_sent, struct err_note *note)
{
	struct call *c = calloc(1, sizeof *c);
	int rc;

	*ret_sent = false;
	if (c == NULL)
		return err_set(note, E_NOMEM, "%s %s: %s", q->method, q->url, err_text(E_NOMEM));
	c->q = q;
	list_init(&c->link);
	c->easy = curl_easy_init();
	h->n_live++;
	rc = ask(h, c, until_ns, note);
	h->n_live--;
	*ret_sent = c->sent;
	if (rc == 0) {
		*ret_a = c->a;
		c->a.body = NULL;
	}
	call_free(c);
	return rc;
}

/* ---- from start to end ---- */
int sys_http_new(struct sys *s, struct sys_http **ret_h, struct err_note *note)
{
	struct sys_http *h = calloc(1, sizeof *h);
	bool begun = h != NULL && curl_global_init(CURL_GLOBAL_ALL) == CURLE_OK;

	if (begun)
		h->multi = curl_multi_init();
	if (!begun || h->multi == NULL) {
		if (begun)
			curl_global_cleanup();
		free(h);
		return err_set(note, E_NOMEM, "start libcurl: %s", err_text(E_NOMEM));
	}
	h->s = s;
	list_init(&h->starting);
	list_init(&h->stopping);
	check(uv_timer_init(&s->uv, &h->timer) == 0);
	check(uv_timer_init(&s->uv, &h->kick) == 0);
	h->timer.data = h->kick.data = h;
	h->n_open = 2;
	check(curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, on_want_socket) == CURLM_OK);
	check(curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h) == CURLM_OK);
	check(curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, on_want_timer) == CURLM_OK);
	check(curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h) == CURLM_OK);
	check(curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_KEPT) ==
		CURLM_OK);
	*ret_h = h;
	return 0;
}

static void on_closed(uv_handle_t *t)
{
	struct sys_http *h = t->data;

	if (--h->n_open == 0)
		free(h);
}

void sys_http_free(struct sys_http *h)
{
	if (h == NULL)
		return;
	check(h->n_live == 0);
	check(curl_multi_cleanup(h->multi) == CURLM_OK);
	curl_global_cleanup();
	uv_close((uv_handle_t *)&h->timer, on_closed);
	uv_close((uv_handle_t *)&h->kick, on_closed);
}
