/* SPDX-License-Identifier: Apache-2.0 */
/* http.h: questions over HTTP/1.1, with or without TLS.  On the real door only, and in a library of
 * its own (sys_http, on libcurl), which only programs that ask link.
 *
 * No redirect is followed, no proxy and no file of the environment is used, and a certificate is
 * always verified. */
#ifndef SYS_HTTP_H
#define SYS_HTTP_H
#include "sys/sys.h"

struct sys_http; /* connections that are kept for the next question */
int sys_http_new(struct sys *s, struct sys_http **ret_h, struct err_note *note);
void sys_http_free(struct sys_http *h); /* no fiber is inside; NULL is fine */

/* Files in PEM; NULL: none. */
struct sys_http_tls {
	const char *ca_file; /* NULL: the authorities that the system trusts */
	const char *cert_file, *key_file;
};

struct sys_http_question {
	const char *method, *url;   /* http:// or https:// */
	const char *const *headers; /* "Name: value", NULL behind the last; may be NULL */
	struct bytes body;
	size_t answer_bytes_max;        /* E_TOOBIG beyond; of all the chunks where each is set */
	const struct sys_http_tls *tls; /* may be NULL */
	const char *user, *password;    /* sent as Basic when user is not NULL */
	const char *bearer;             /* sent as Bearer when not NULL */
	uint32_t connect_ms; /* for a connection to come about: E_UNREACH; 0: as long as it takes */
	/* Goes out on a fresh connection.  Without it a question whose kept connection turns out
	 * to be closed is sent again on another one: the other side may see it twice. */
	bool once;
	/* When set the bytes of an answer with status 200 are not gathered but handed over as they
	 * come.  Does not park.  Not 0 ends the question with that code. */
	int (*each)(void *arg, struct bytes chunk);
	void *arg;
};
struct sys_http_answer {
	int status;
	size_t len;
	char *body; /* and a zero byte; the caller frees it */
};

/* 0 when an answer came, whatever its status.  E_TIMEOUT, E_CANCELED, E_UNREACH, E_CLOSED, E_DENIED
 * (a certificate), E_TOOBIG, E_INVALID (the URL, a file that cannot be read), E_NOMEM.  *ret_sent
 * is always set: false when surely nothing of the question has left. */
PARKS int sys_http_ask(struct sys_http *h, const struct sys_http_question *q, uint64_t until_ns,
	struct sys_http_answer *ret_a, bool *ret_sent, struct err_note *note);
#endif
