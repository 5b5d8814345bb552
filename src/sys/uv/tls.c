/* SPDX-License-Identifier: Apache-2.0 */
/* Streams that speak TLS: OpenSSL over the stream's own descriptor.
 *
 *   plain ----> shaking ----> shaken ----> broken or closed
 *                  |                          ^
 *                  '--- deadline, refusal ----'
 *
 * Records are collected in a room of OUT_BYTES and sent together, for a record is 16 KiB and a
 * system call for each would cost as much as its encryption.  What else OpenSSL has to say (a
 * handshake, an alert) is sent at once, behind what is collected. */
#include "sys/uv/tls.h"
#include "base/check.h"
#include "base/limit.h"
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define LINGER_NS (500 * SYS_MS) /* for who is refused to read why */
enum { RECORD_BYTES = 16 << 10, RECORD_MORE = 256, TAKE_BYTES_MAX = 256 << 10, AGAIN = 1 };

struct tls {
	struct sys_stream *stream;
	struct list link;      /* among the handshakes of callers under way */
	SSL *ssl;              /* NULL: the handshake has not begun */
	struct fiber_lock shaking;
	uint64_t until_ns;     /* of the handshake */
	uint64_t key_bytes;    /* sent with the present key */
	uint8_t *out;          /* OUT_BYTES, or NULL while nothing is collected */
	size_t out_at, out_len;
	uint8_t *gather;       /* RECORD_BYTES: several small pieces become one record */
	bool shaken, corked, ended;
	int rc;                /* why it is broken; 0: it is not */
	int os;                /* errno of the last transfer */
	struct sys_cert peer;
	char host[SYS_ADDR_MAX]; /* that is called; "": we were called */
	char why[192];
};

uint64_t tls_key_bytes = UINT64_C(64) << 30; /* far from the 2^24 records that a key may encrypt */

/* ---- OpenSSL's way to the descriptor ---- */
static int bio_read(BIO *b, char *buf, int len)
{
	struct sys_stream *c = BIO_get_data(b);
	ssize_t n;

	BIO_clear_retry_flags(b);
	do
		n = recv(c->fd, buf, (size_t)len, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	c->watch.readable = n == len || n == 0; /* the end stays readable */
	c->tls->ended = n == 0;
	if (n < 0 && errno == EAGAIN)
		BIO_set_retry_read(b);
	else if (n < 0)
		c->tls->os = errno;
	return (int)n;
}

/* At least one byte, 0 when the kernel takes none, or an error. */
static ssize_t push(struct sys_stream *c, const void *buf, size_t len)
{
	ssize_t n;

	do
		n = send(c->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n < 0)
		c->tls->os = errno;
	return n;
}

static int bio_write(BIO *b, const char *buf, int len)
{
	struct sys_stream *c = BIO_get_data(b);
	struct tls *t = c->tls;
	ssize_t n = 0;
	size_t room;

	BIO_clear_retry_flags(b);
	if (t->out_len == 0 && !t->corked)
		n = push(c, buf, (size_t)len);
	if (n != 0)
		return (int)n;
	if (t->out == NULL)
		t->out = creds_room_take(c->s->creds);
	room = t->out != NULL ? OUT_BYTES - t->out_at - t->out_len : 0;
	room = room < (size_t)len ? room : (size_t)len;
	if (room == 0) {
		BIO_set_retry_write(b);
		return -1;
	}
	memcpy(t->out + t->out_at + t->out_len, buf, room);
	t->out_len += room;
	return (int)room;
}

static long bio_ctrl(BIO *b, int what, long number, void *p)
{
	struct sys_stream *c = BIO_get_data(b);

	if (what == BIO_CTRL_EOF)
		return c->tls->ended;
	return what == BIO_CTRL_FLUSH || what == BIO_CTRL_DUP;
}

static BIO *bio_new(struct sys_stream *c)
{
	static BIO_METHOD *method; /* one for the process, for ever */
	static int made;
	BIO *b;

	if (!__atomic_load_n(&made, __ATOMIC_ACQUIRE)) {
		BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "wadi stream"), *none = NULL;

		if (m == NULL)
			return NULL;
		BIO_meth_set_read(m, bio_read);
		BIO_meth_set_write(m, bio_write);
		BIO_meth_set_ctrl(m, bio_ctrl);
		if (!__atomic_compare_exchange_n(&method, &none, m, false, __ATOMIC_ACQ_REL,
			    __ATOMIC_ACQUIRE))
			BIO_meth_free(m); /* another thread was first */
		__atomic_store_n(&made, 1, __ATOMIC_RELEASE);
	}
	b = BIO_new(method);
	if (b != NULL) {
		BIO_set_data(b, c);
		BIO_set_init(b, 1);
	}
	return b;
}

/* ---- failures ---- */
/* The code of what OpenSSL just said about n; breaks the stream unless it is AGAIN or an end. */
static int outcome(struct sys_stream *c, int n)
{
	struct tls *t = c->tls;
	int what = SSL_get_error(t->ssl, n);
	unsigned long e = ERR_peek_last_error();
	int reason = ERR_GET_REASON(e), rc;
	const char *why = ERR_reason_error_string(e);

	ERR_clear_error();
	if (what == SSL_ERROR_WANT_READ)
		return AGAIN;
	if (what == SSL_ERROR_ZERO_RETURN)
		return 0;
	if (what == SSL_ERROR_SYSCALL || t->os != 0) {
		rc = t->os != 0 ? sys_err(t->os) : E_CLOSED;
		why = t->os != 0 ? sys_err_words(t->os) : err_text(rc);
	} else if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
		rc = E_CLOSED; /* without a goodbye: whoever cut it may want us to miss the rest */
		why = err_text(rc);
	} else if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
		long verdict = SSL_get_verify_result(t->ssl);

		rc = E_DENIED;
		why = verdict == X509_V_ERR_APPLICATION_VERIFICATION
			      ? "the certificate names nobody of Wadi that may be there"
			      : X509_verify_cert_error_string(verdict);
	} else {
		bool cert = reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE ||
			reason == SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED ||
			reason == SSL_R_TLSV1_ALERT_UNKNOWN_CA ||
			reason == SSL_R_TLSV1_ALERT_ACCESS_DENIED ||
			/* so OpenSSL says that on_verify() was not content */
			reason == SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE ||
			reason == SSL_R_TLSV1_ALERT_DECRYPT_ERROR ||
			(reason >= SSL_R_SSLV3_ALERT_NO_CERTIFICATE &&
				reason <= SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN);

		rc = cert ? E_DENIED : E_CORRUPT;
	}
	snprintf(t->why, sizeof t->why, "%s", why != NULL ? why : err_text(rc));
	t->rc = rc;
	return rc;
}

static int broken(struct sys_stream *c, int rc)
{
	struct tls *t = c->tls;

	t->rc = rc;
	if (t->why[0] == '\0')
		snprintf(t->why, sizeof t->why, "%s", err_text(rc));
	return rc;
}

/* ---- sending what is collected ---- */
static PARKS int flush(struct sys_stream *c, uint64_t until_ns)
{
	struct tls *t = c->tls;
	int rc;

	while (t->out_len > 0) {
		ssize_t n;

		if (c->no_send)
			return E_CLOSED;
		n = push(c, t->out + t->out_at, t->out_len);
		if (n < 0) { /* the other side may have said why: whoever receives finds that */
			rc = sys_err(t->os);
			t->os = 0;
			return rc;
		}
		if (n == 0) {
			rc = watch_wait(&c->watch, UV_WRITABLE, until_ns);
			if (rc < 0)
				return rc;
		}
		t->out_at += (size_t)n;
		t->out_len -= (size_t)n;
	}
	t->out_at = 0;
	if (t->out != NULL)
		creds_room_give(c->s->creds, t->out);
	t->out = NULL;
	return 0;
}

/* ---- the handshake ---- */
static int begin(struct sys_stream *c, SSL_CTX *ctx)
{
	struct tls *t = c->tls;
	BIO *b = NULL;

	t->ssl = SSL_new(ctx);
	if (t->ssl != NULL)
		b = bio_new(c);
	if (b == NULL)
		return E_NOMEM;
	SSL_set_bio(t->ssl, b, b);
	if (t->host[0] == '\0') {
		SSL_set_accept_state(t->ssl);
		return 0;
	}
	SSL_set_connect_state(t->ssl);
	if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(t->ssl), t->host) == 1)
		return 0;
	SSL_set_hostflags(t->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
					  X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	return SSL_set1_host(t->ssl, t->host) == 1 &&
			SSL_set_tlsext_host_name(t->ssl, t->host) == 1
		? 0 : E_NOMEM;
}

/* The alert is out; closing with bytes unread would make the kernel throw it away. */
static PARKS void hear_out(struct sys_stream *c, uint64_t until_ns)
{
	uint8_t bin[512];
	ssize_t n = 1;

	shutdown(c->fd, SHUT_WR);
	for (int i = 0; i < DIRECT_MAX && n > 0; i++) {
		n = recv(c->fd, bin, sizeof bin, MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN && watch_wait(&c->watch, UV_READABLE, until_ns) == 0)
			n = 1;
	}
}

/* One flight there and one back. */
static PARKS int step(struct sys_stream *c, uint64_t until_ns)
{
	struct tls *t = c->tls;
	int n, rc;

	if (c->no_recv || c->no_send)
		return E_CLOSED;
	ERR_clear_error();
	n = SSL_do_handshake(t->ssl);
	rc = n == 1 ? 0 : outcome(c, n);
	if (rc >= 0 && t->out_len > 0) {
		int sent = flush(c, until_ns);

		return sent < 0 ? sent : rc;
	}
	if (rc == AGAIN) {
		int seen = watch_wait(&c->watch, UV_READABLE, until_ns);

		return seen < 0 ? seen : AGAIN;
	}
	return n == 1 || rc < 0 ? rc : broken(c, E_CLOSED);
}

static PARKS int shake(struct sys_stream *c, uint64_t until_ns)
{
	struct tls *t = c->tls;
	uint64_t end_ns = t->until_ns < until_ns ? t->until_ns : until_ns;
	struct err_note note = { "" };
	SSL_CTX *ctx;
	X509 *x;
	int rc = 0;

	if (t->ssl == NULL) {
		rc = creds_ctx(c->s, &ctx, &note);
		if (rc < 0) {
			snprintf(t->why, sizeof t->why, "%.*s", (int)sizeof t->why - 1, note.text);
			return rc;
		}
		rc = begin(c, ctx);
		SSL_CTX_free(ctx);
		if (rc < 0)
			return broken(c, rc);
	}
	do
		rc = step(c, end_ns);
	while (rc == AGAIN);
	if (rc == E_TIMEOUT && end_ns == t->until_ns)
		broken(c, rc);
	if ((t->rc == E_DENIED || t->rc == E_CORRUPT) && t->host[0] == '\0')
		hear_out(c, sys_after(c->s, LINGER_NS));
	if (rc < 0) /* who made room for another caller had said why */
		return t->rc < 0 ? t->rc : rc;
	x = SSL_get1_peer_certificate(t->ssl);
	check(x != NULL);
	check(creds_identity(x, &t->peer)); /* on_verify() has seen it */
	X509_free(x);
	t->shaken = true;
	return 0;
}

/* Handshakes that are over, either way, count no more. */
static void uncount(struct sys_stream *c)
{
	struct list *all;
	uint32_t *n;

	if (list_empty(&c->tls->link))
		return;
	all = creds_shaking(c->s->creds, &n);
	check(!list_empty(all));
	list_remove(&c->tls->link);
	(*n)--;
}

static PARKS int ready(struct sys_stream *c, uint64_t until_ns)
{
	struct tls *t = c->tls;
	int rc;

	if (t->shaken || t->rc < 0)
		return t->rc;
	rc = fiber_lock(&t->shaking, until_ns);
	if (rc < 0)
		return rc;
	rc = t->rc;
	if (!t->shaken && rc == 0)
		rc = shake(c, until_ns);
	if (t->shaken || t->rc < 0)
		uncount(c);
	fiber_unlock(&t->shaking);
	return rc;
}

/* ---- beginnings ---- */
static int tls_new(struct sys_stream *c)
{
	struct tls *t = calloc(1, sizeof *t);

	if (t == NULL)
		return E_NOMEM;
	t->stream = c;
	list_init(&t->link);
	fiber_lock_init(&t->shaking);
	t->until_ns = sys_after(c->s, LIMIT_TLS_HANDSHAKE_MS * SYS_MS);
	c->tls = t;
	memcpy(c->peer, "tls:", 4); /* in place of "tcp:" */
	return 0;
}

int tls_accepted(struct sys_stream *c)
{
	struct list *all, *oldest;
	uint32_t *n;
	int rc = tls_new(c);

	if (rc < 0)
		return rc;
	all = creds_shaking(c->s->creds, &n);
	if (*n == LIMIT_TLS_HANDSHAKES_MAX) {
		struct sys_stream *old;

		oldest = all->next;
		old = container_of(oldest, struct tls, link)->stream;
		broken(old, E_BUSY);
		uncount(old);
		sys_stream_shut(old);
	}
	list_push(all, &c->tls->link);
	(*n)++;
	return 0;
}

int tls_connect(struct sys_stream *c, const char *addr, uint64_t until_ns, struct err_note *note)
{
	const char *host = addr + 4;
	size_t len = (size_t)(strrchr(host, ':') - host);
	int rc = c->s->creds == NULL
		? err_set(note, E_INVALID, "connect to %s: no certificate to show", addr)
		: tls_new(c);

	if (rc < 0)
		return rc;
	if (host[0] == '[' && host[len - 1] == ']') {
		host++;
		len -= 2;
	}
	memcpy(c->tls->host, host, len);
	rc = ready(c, until_ns);
	return rc == 0 ? 0
		: err_set(note, rc, "connect to %s: TLS: %s", addr,
			  c->tls->why[0] != '\0' ? c->tls->why : err_text(rc));
}

const struct sys_cert *sys_stream_cert(const struct sys_stream *c)
{
	return c->tls != NULL && c->tls->shaken ? &c->tls->peer : NULL;
}

/* ---- receiving ---- */
/* What is here already: a count, 0 at the end, or an error; or *ret_again, when nothing is. */
static int64_t take(struct sys_stream *c, uint8_t *buf, size_t cap, bool *ret_again)
{
	struct tls *t = c->tls;
	size_t got = 0;
	int n, rc;

	cap = cap < TAKE_BYTES_MAX ? cap : TAKE_BYTES_MAX;
	do {
		ERR_clear_error();
		n = SSL_read(t->ssl, buf + got, (int)(cap - got));
		got += n > 0 ? (size_t)n : 0;
	} while (n > 0 && got < cap && (SSL_has_pending(t->ssl) || c->watch.readable));
	if (n > 0)
		return (int64_t)got;
	rc = outcome(c, n);
	*ret_again = rc == AGAIN && got == 0;
	return got > 0 ? (int64_t)got : rc;
}

int64_t tls_recv(struct sys_stream *c, void *buf, size_t cap, uint64_t until_ns)
{
	struct tls *t = c->tls;
	bool dry = false, here;
	int64_t n;
	int rc;

	for (;;) {
		if (c->no_recv)
			return t->rc < 0 ? t->rc : E_CLOSED;
		rc = ready(c, until_ns);
		if (rc < 0)
			return rc;
		here = !dry && (SSL_has_pending(t->ssl) ||
				       (SSL_get_shutdown(t->ssl) & SSL_RECEIVED_SHUTDOWN));
		if (here && c->n_direct == DIRECT_MAX)
			rc = fiber_yield(); /* no event will come for it */
		else if (here || (!dry && c->watch.readable && c->n_direct < DIRECT_MAX))
			rc = AGAIN;
		else
			rc = watch_wait(&c->watch, UV_READABLE, until_ns);
		if (rc < 0)
			return rc;
		c->n_direct = rc == AGAIN ? c->n_direct + 1 : 0;
		if (c->no_recv)
			continue;
		dry = false;
		n = take(c, buf, cap, &dry);
		if (!dry)
			return n;
	}
}

/* ---- sending ---- */
/* A whole record where there is enough: one long piece as it lies, short ones copied together. */
static int gather(struct tls *t, const struct iovec *iov, int n_iov, const uint8_t **ret_p,
	size_t *ret_len)
{
	size_t len = 0;

	*ret_p = iov->iov_base;
	*ret_len = iov->iov_len < RECORD_BYTES ? iov->iov_len : RECORD_BYTES;
	if (*ret_len == RECORD_BYTES || n_iov == 1)
		return 0;
	if (t->gather == NULL && (t->gather = malloc(RECORD_BYTES)) == NULL)
		return E_NOMEM;
	for (int i = 0; i < n_iov && len < RECORD_BYTES; i++) {
		size_t n = iov[i].iov_len < RECORD_BYTES - len ? iov[i].iov_len
			: RECORD_BYTES - len;

		memcpy(t->gather + len, iov[i].iov_base, n);
		len += n;
	}
	*ret_p = t->gather;
	*ret_len = len;
	return 0;
}

static void advance(struct iovec **iov, int *n_iov, size_t len)
{
	while (len > 0) {
		size_t n = (*iov)->iov_len < len ? (*iov)->iov_len : len;

		(*iov)->iov_base = (uint8_t *)(*iov)->iov_base + n;
		(*iov)->iov_len -= n;
		len -= n;
		if ((*iov)->iov_len == 0) {
			(*iov)++;
			(*n_iov)--;
		}
	}
}

/* Encrypts as much as there is room for; moves iov on. */
static int encrypt(struct sys_stream *c, struct iovec **iov, int *n_iov)
{
	struct tls *t = c->tls;
	const uint8_t *p;
	size_t len;
	int n, rc;

	while (*n_iov > 0 && t->out_at + t->out_len + RECORD_BYTES + RECORD_MORE <= OUT_BYTES) {
		if ((*iov)->iov_len == 0) {
			(*iov)++;
			(*n_iov)--;
			continue;
		}
		rc = gather(t, *iov, *n_iov, &p, &len);
		if (rc < 0)
			return rc;
		ERR_clear_error();
		if (t->key_bytes >= tls_key_bytes) {
			t->key_bytes = 0;
			check(SSL_key_update(t->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1);
		}
		n = SSL_write(t->ssl, p, (int)len);
		if (n <= 0) {
			rc = outcome(c, n);
			return rc < 0 ? rc : broken(c, E_CLOSED);
		}
		t->key_bytes += (uint64_t)n;
		advance(iov, n_iov, (size_t)n);
	}
	return 0;
}

int tls_send(struct sys_stream *c, struct iovec *iov, int n_iov, uint64_t until_ns)
{
	struct tls *t = c->tls;
	int rc = 0;

	while (rc == 0) {
		if (c->no_send)
			return t->rc < 0 ? t->rc : E_CLOSED;
		rc = ready(c, until_ns);
		if (rc < 0)
			break;
		check(list_empty(&c->watch.writers));
		if (n_iov == 0 && t->out_len == 0)
			return 0;
		t->corked = true;
		rc = encrypt(c, &iov, &n_iov);
		t->corked = false;
		if (rc == 0)
			rc = flush(c, until_ns);
	}
	c->no_send = true;
	return rc;
}

/* ---- the end ---- */
void tls_goodbye(struct sys_stream *c)
{
	struct tls *t = c->tls;

	if (!t->shaken || t->rc < 0 || c->no_send || t->out_len > 0)
		return;
	ERR_clear_error();
	SSL_shutdown(t->ssl);
	ERR_clear_error();
}

void tls_free(struct sys_stream *c)
{
	struct tls *t = c->tls;

	if (t == NULL)
		return;
	check(t->shaking.holder == NULL);
	uncount(c);
	tls_goodbye(c);
	SSL_free(t->ssl);
	if (t->out != NULL)
		creds_room_give(c->s->creds, t->out);
	free(t->gather);
	free(t);
	c->tls = NULL;
}
