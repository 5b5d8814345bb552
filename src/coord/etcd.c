/* SPDX-License-Identifier: Apache-2.0 */
/* coord in etcd.
 *
 * (K1) What changes something leaves once: the next endpoint is asked only when surely nothing had
 *      left, or when etcd itself has refused because of the token.
 * (K2) A change that may have left and was not answered clearly is E_UNKNOWN, whatever the
 *      transport or the status said.
 * (K3) Reads are linearizable: "serializable" is never asked for. */
#include "coord/etcd.h"
#include "base/check.h"
#include "coord/etcd_own.h"
#include <stdio.h>
#include <stdlib.h>

enum {
	ANSWER_BYTES_MAX = 4 << 20,
	SHARE_MS_MIN = 50, /* of a deadline, for one endpoint */
	WATCH_S = 30,      /* then it is begun anew: a silent one may be dead */
	WATCH_ANSWERS_MAX = 16 << 20,
	WATCH_PAUSE_MS = 200,
	STATUS_OK = 200,
	STATUS_BAD = 400,
	STATUS_WHO = 401,
	STATUS_MAY_NOT = 403,
	STATUS_TOO_MUCH = 429,
	CODE_INVALID = 3, /* of gRPC */
	CODE_PRECONDITION = 9,
	CODE_WHO = 16,
};

/* ---- one endpoint ---- */
struct attempt {
	struct sys_http_answer a;
	bool sent;
	char url[ETCD_HOST_MAX + 64], auth[ETCD_TOKEN_MAX + 32];
};

PARKS static int attempt(struct etcd *e, const struct etcd_call *k, uint32_t endpoint,
	uint64_t share_ns, struct attempt *t, struct err_note *note)
{
	const char *headers[] = { "Content-Type: application/json", NULL, NULL };
	struct sys_http_question q = {
		.method = "POST",
		.url = t->url,
		.headers = headers,
		.body = bytes_of(k->body, strlen(k->body)),
		.answer_bytes_max = ANSWER_BYTES_MAX,
		.tls = e->url.tls ? &e->tls : NULL,
		.once = k->once,
		.connect_ms = (uint32_t)(share_ns / SYS_MS),
	};
	uint64_t until = k->until_ns, share = sys_after(e->c.sys, share_ns);
	int rc;

	if (!k->once && share < until)
		until = share;
	snprintf(t->url, sizeof t->url, "%s://%s%s", e->url.tls ? "https" : "http",
		e->url.endpoints[endpoint], k->path);
	if (!k->bare && e->token[0] != '\0') {
		snprintf(t->auth, sizeof t->auth, "Authorization: %s", e->token);
		headers[1] = t->auth;
	}
	rc = sys_http_ask(e->http, &q, until, &t->a, &t->sent, note);
	if (rc == E_CLOSED && !k->once) { /* a kept connection, from before a restart of etcd */
		q.once = true;
		rc = sys_http_ask(e->http, &q, until, &t->a, &t->sent, note);
	}
	return rc;
}

/* ---- tokens ---- */
/* A new token, unless somebody else has got one since the caller looked. */
PARKS static int renew(struct etcd *e, uint64_t n_seen, uint64_t until_ns, struct err_note *note)
{
	struct etcd_call k = {
		.path = "/v3/auth/authenticate", .bare = true, .until_ns = until_ns
	};
	int rc = fiber_lock(&e->renewing, until_ns);

	if (rc < 0)
		return err_set(note, rc, "ask etcd for a token: %s", err_text(rc));
	if (e->n_tokens == n_seen) {
		k.body = etcd_ask_token(e->user, e->password);
		rc = etcd_call(e, &k, note);
		if (rc == E_INVALID)
			rc = E_DENIED;
		if (rc == 0) {
			rc = etcd_read_token(k.answer, e->token);
			if (rc < 0)
				err_set(note, rc, "etcd gave a token that is none");
			free((void *)(uintptr_t)k.answer.p);
		}
		e->n_tokens += rc == 0;
	}
	fiber_unlock(&e->renewing);
	return rc;
}

/* ---- the call ---- */
enum verdict { ANSWERED, TOKEN_BAD, REFUSED, UNCLEAR };

/* Refusals that share a status and a code with others; before anything was proposed. */
static const char *const who_words[] = { "user name is empty", "revision of auth store is old",
	NULL };
static const char *const later_words[] = { "unhealthy cluster", "not enough started members",
	"learner member which is in sync", "too many learner members", NULL };

static bool said(const char *words, const char *const list[])
{
	for (; *list != NULL; list++)
		if (strstr(words, *list) != NULL)
			return true;
	return false;
}

/* What an answer with a status means; *ret_rc is the code of a refusal. */
static enum verdict judge(const struct sys_http_answer *a, int *ret_rc, struct err_note *note)
{
	char words[128];
	int code;

	if (a->status == STATUS_OK)
		return ANSWERED;
	code = etcd_read_refusal(bytes_of(a->body, a->len), words, sizeof words);
	*ret_rc = E_UNAVAILABLE;
	err_set(note, E_UNAVAILABLE, "etcd answered %d: %s", a->status, words);
	if (code < 0)
		return UNCLEAR; /* not etcd's own */
	if (said(words, who_words) || (a->status == STATUS_WHO && code == CODE_WHO))
		return TOKEN_BAD;
	if (said(words, later_words))
		*ret_rc = E_BUSY;
	else if (a->status == STATUS_MAY_NOT)
		*ret_rc = E_DENIED;
	else if (a->status == STATUS_TOO_MUCH)
		*ret_rc = E_FULL;
	else if (code == CODE_INVALID || code == CODE_PRECONDITION)
		*ret_rc = E_INVALID;
	else
		return UNCLEAR;
	return REFUSED;
}

static uint64_t share_of(struct etcd *e, const struct etcd_call *k, uint32_t n_left)
{
	uint64_t now = sys_now_ns(e->c.sys);
	uint64_t left = k->until_ns > now ? k->until_ns - now : 0;

	left /= n_left;
	return left > SHARE_MS_MIN * SYS_MS ? left : SHARE_MS_MIN * SYS_MS;
}

/* Endpoint after endpoint, until one has answered. */
PARKS static int ask_all(
	struct etcd *e, struct etcd_call *k, struct attempt *t, struct err_note *note)
{
	uint32_t n = e->url.n_endpoints, n_renewed = 0;
	int rc = E_UNAVAILABLE;

	for (uint32_t tried = 0; tried < n;) {
		uint32_t endpoint = e->first % e->url.n_endpoints; /* others may have come */
		uint64_t n_seen = e->n_tokens;
		enum verdict v = UNCLEAR;

		t->sent = false;
		rc = attempt(e, k, endpoint, share_of(e, k, n - tried), t, note);
		if (rc == E_CANCELED || rc == E_NOMEM) {
			k->unclear = t->sent;
			return rc;
		}
		if (rc == 0) {
			v = judge(&t->a, &rc, note);
			if (v == ANSWERED) {
				k->answer = bytes_of(t->a.body, t->a.len);
				return 0;
			}
			free(t->a.body);
		}
		if (v == REFUSED)
			return rc;
		if (v == TOKEN_BAD) {
			if (e->user == NULL || k->bare || n_renewed++ > 0)
				return E_DENIED;
			rc = renew(e, n_seen, k->until_ns, note);
			if (rc < 0)
				return rc;
			continue;
		}
		k->unclear = t->sent;
		if (e->first == endpoint)
			e->first = (endpoint + 1) % e->url.n_endpoints;
		if (k->once && t->sent)
			break; /* (K1) */
		if (sys_now_ns(e->c.sys) >= k->until_ns)
			return E_TIMEOUT;
		tried++;
	}
	return rc == E_TIMEOUT && sys_now_ns(e->c.sys) >= k->until_ns ? rc : E_UNAVAILABLE;
}

int etcd_call(struct etcd *e, struct etcd_call *k, struct err_note *note)
{
	struct attempt *t = malloc(sizeof *t);
	int rc;

	k->unclear = false;
	if (t == NULL || k->body == NULL)
		rc = err_set(note, E_NOMEM, "ask etcd: %s", err_text(E_NOMEM));
	else
		rc = ask_all(e, k, t, note);
	free(t);
	free(k->body);
	k->body = NULL;
	return rc;
}

int etcd_outcome(const struct etcd_call *k, int rc)
{
	return rc < 0 && rc != E_CANCELED && k->unclear ? E_UNKNOWN : rc;
}

/* ---- operations ---- */
static void whole_key(const struct etcd *e, const char *key, char ret_whole[ETCD_KEY_MAX])
{
	int n = snprintf(ret_whole, ETCD_KEY_MAX, "%s%s", e->url.prefix, key);

	check(n < ETCD_KEY_MAX);
}

static int not_etcd(struct err_note *note, int rc, const char *what)
{
	return rc == E_CORRUPT ? err_set(note, rc, "%s: etcd's answer cannot be read", what) : rc;
}

struct one {
	struct coord_item *it;
	bool found;
};

static int take_one(void *arg, const struct coord_item *it)
{
	struct one *o = arg;

	if (o->found || strcmp(o->it->key, it->key) != 0)
		return E_CORRUPT;
	o->found = true;
	*o->it = *it;
	return 0;
}

PARKS static int etcd_get(
	struct coord *c, uint64_t until_ns, struct coord_item *it, struct err_note *note)
{
	struct etcd_call k = { .path = "/v3/kv/range", .until_ns = until_ns };
	struct etcd *e = etcd_of(c);
	struct one o = { it, false };
	char key[ETCD_KEY_MAX];
	int rc;

	whole_key(e, it->key, key);
	k.body = etcd_ask_key(key);
	rc = etcd_call(e, &k, note);
	if (rc < 0)
		return rc;
	it->revision = 0;
	rc = etcd_read_items(k.answer, e->url.prefix, take_one, &o);
	free((void *)(uintptr_t)k.answer.p);
	return not_etcd(note, rc, it->key);
}

PARKS static int etcd_swap(struct coord *c, uint64_t expected, uint64_t until_ns,
	struct coord_item *it, struct err_note *note)
{
	struct etcd_call k = { .path = "/v3/kv/txn", .once = true, .until_ns = until_ns };
	struct etcd *e = etcd_of(c);
	char key[ETCD_KEY_MAX];
	int rc;

	whole_key(e, it->key, key);
	k.body = etcd_ask_swap(key, expected, it->text);
	rc = etcd_call(e, &k, note);
	if (rc < 0)
		return etcd_outcome(&k, rc);
	rc = etcd_read_swap(k.answer, e->url.prefix, it);
	free((void *)(uintptr_t)k.answer.p);
	if (rc == 0)
		coord_changed(c);
	if (rc == E_CONFLICT)
		err_set(note, rc, "%s in etcd: %s", it->key, err_text(rc));
	return rc == 0 || rc == E_CONFLICT ? rc
					   : (not_etcd(note, rc, it->key), E_UNKNOWN); /* (K2) */
}

PARKS static int etcd_list(struct coord *c, const char *prefix, uint64_t until_ns,
	coord_each_fn *each, void *arg, struct err_note *note)
{
	struct etcd_call k = { .path = "/v3/kv/range", .until_ns = until_ns };
	struct etcd *e = etcd_of(c);
	char key[ETCD_KEY_MAX];
	int rc;

	whole_key(e, prefix, key);
	k.body = etcd_ask_prefix(key, COORD_NODES_MAX);
	rc = etcd_call(e, &k, note);
	if (rc < 0)
		return rc;
	/* each() says better what it does not like */
	(void)err_set(
		note, E_CORRUPT, "list %s: etcd's answer is too long or cannot be read", prefix);
	rc = etcd_read_items(k.answer, e->url.prefix, each, arg);
	free((void *)(uintptr_t)k.answer.p);
	if (rc == 0 && note != NULL)
		note->text[0] = '\0';
	return rc;
}

/* ---- hints ---- */
static int on_watched(void *arg, struct bytes chunk)
{
	static const char canceled[] = "\"canceled\":true";
	struct etcd *e = arg;

	coord_changed(&e->c);
	/* as when the token has expired; what is cut in two is begun anew after WATCH_S */
	return memmem(chunk.p, chunk.len, canceled, sizeof canceled - 1) != NULL ? E_CLOSED : 0;
}

PARKS static int watch_once(struct etcd *e, struct attempt *t, char *body, struct err_note *note)
{
	const char *headers[] = { "Content-Type: application/json", NULL, NULL };
	struct sys_http_question q = {
		.method = "POST",
		.url = t->url,
		.headers = headers,
		.body = bytes_of(body, strlen(body)),
		.answer_bytes_max = WATCH_ANSWERS_MAX,
		.tls = e->url.tls ? &e->tls : NULL,
		.each = on_watched,
		.arg = e,
	};
	uint64_t n_seen = e->n_tokens;
	int rc;

	snprintf(t->url, sizeof t->url, "%s://%s/v3/watch", e->url.tls ? "https" : "http",
		e->url.endpoints[e->first]);
	if (e->token[0] != '\0') {
		snprintf(t->auth, sizeof t->auth, "Authorization: %s", e->token);
		headers[1] = t->auth;
	}
	rc = sys_http_ask(
		e->http, &q, sys_after(e->c.sys, WATCH_S * SYS_SEC), &t->a, &t->sent, note);
	if (rc == 0)
		free(t->a.body);
	if (rc == E_CANCELED || rc == E_TIMEOUT)
		return rc;
	if (e->user != NULL) /* most likely the token has expired */
		(void)renew(e, n_seen, sys_after(e->c.sys, WATCH_S * SYS_SEC), note);
	return E_CLOSED;
}

/* Watches, from one endpoint after the other.  What it misses is made up for by a hint at each new
 * beginning. */
PARKS static int watch(void *arg)
{
	struct attempt *t = malloc(sizeof *t);
	struct etcd *e = arg;
	int rc = 0;

	while (t != NULL && rc != E_CANCELED) {
		char *body = etcd_ask_watch(e->url.prefix);
		struct err_note note;

		if (e->user != NULL && e->token[0] == '\0')
			(void)renew(e, e->n_tokens, sys_after(e->c.sys, WATCH_S * SYS_SEC), &note);
		rc = body != NULL ? watch_once(e, t, body, &note) : E_NOMEM;
		free(body);
		if (rc == E_CANCELED)
			break;
		coord_changed(&e->c);
		if (rc != E_TIMEOUT)
			rc = fiber_sleep(sys_after(e->c.sys, WATCH_PAUSE_MS * SYS_MS));
	}
	free(t);
	return rc;
}

/* ---- from start to end ---- */
static void etcd_free(struct etcd *e)
{
	sys_http_free(e->http);
	free((void *)(uintptr_t)e->tls.ca_file);
	free((void *)(uintptr_t)e->tls.cert_file);
	free((void *)(uintptr_t)e->tls.key_file);
	free(e->user);
	if (e->password != NULL)
		explicit_bzero(e->password, strlen(e->password));
	free(e->password);
	free(e);
}

PARKS static void etcd_close(struct coord *c)
{
	struct etcd *e = etcd_of(c);

	group_cancel(&e->watching);
	(void)group_wait(&e->watching);
	check(e->renewing.holder == NULL);
	etcd_free(e);
}

static const struct coord_ops ops = {
	.get = etcd_get,
	.swap = etcd_swap,
	.list = etcd_list,
	.wait = coord_wait_queue,
	.close = etcd_close,
};

static bool keep(const char *text, const char **ret_copy)
{
	*ret_copy = text != NULL ? strdup(text) : NULL;
	return text == NULL || *ret_copy != NULL;
}

int coord_etcd_endpoints(struct coord *c, const char *url, struct err_note *note)
{
	struct etcd *e = etcd_of(c);
	struct etcd_url *to = malloc(sizeof *to);
	int rc = to == NULL ? err_set(note, E_NOMEM, "%s", err_text(E_NOMEM))
			    : etcd_url_parse(url, to, note);

	if (rc == 0 && (to->tls != e->url.tls || to->keyed != e->url.keyed ||
			       strcmp(to->prefix, e->url.prefix) != 0))
		rc = err_set(note, E_INVALID, "%s: not the same store", url);
	if (rc == 0) {
		memcpy(&e->url, to, sizeof *to);
		e->first = 0;
	}
	free(to);
	return rc;
}

int coord_etcd_open(
	struct sys *s, const struct coord_etcd_opts *o, struct coord **ret_c, struct err_note *note)
{
	struct etcd *e = calloc(1, sizeof *e);
	const char *user, *password;
	int rc;

	if (e == NULL)
		return err_set(note, E_NOMEM, "open etcd: %s", err_text(E_NOMEM));
	rc = etcd_url_parse(o->url, &e->url, note);
	if (rc == 0) {
		bool kept = keep(o->tls.ca_file, &e->tls.ca_file);

		kept = keep(o->tls.cert_file, &e->tls.cert_file) && kept;
		kept = keep(o->tls.key_file, &e->tls.key_file) && kept;
		kept = keep(o->user, &user) && kept;
		kept = keep(o->user != NULL ? o->password : NULL, &password) && kept;
		e->user = (char *)(uintptr_t)user;
		e->password = (char *)(uintptr_t)password;
		rc = kept ? sys_http_new(s, &e->http, note)
			  : err_set(note, E_NOMEM, "open etcd: %s", err_text(E_NOMEM));
	}
	if (rc == 0) {
		coord_init(&e->c, s, &ops);
		fiber_lock_init(&e->renewing);
		group_init(&e->watching, sys_loop(s));
		e->watching.keep_going = true;
		rc = fiber_start(&e->watching, "etcd watch", watch, e);
		if (rc < 0)
			err_set(note, rc, "watch etcd: %s", err_text(rc));
	}
	if (rc < 0)
		etcd_free(e);
	else
		*ret_c = &e->c;
	return rc;
}
