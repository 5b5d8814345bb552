/* SPDX-License-Identifier: Apache-2.0 */
/* tls.h: streams that speak TLS, and the certificates of a loop.  See sys.h for what is promised.
 *
 * I1. Before the handshake has ended nothing that came is given to anybody but OpenSSL.
 * I2. OpenSSL keeps its errors by thread: they are cleared before a call and read right behind it,
 *     with no park between.
 * I3. What is encrypted and not sent yet is at most OUT_BYTES for each stream. */
#ifndef SYS_UV_TLS_H
#define SYS_UV_TLS_H
#include "sys/uv/stream.h"
#include <openssl/ssl.h>

static inline bool tls_is(const char *addr) { return strncmp(addr, "tls:", 4) == 0; }

/* ---- certificates (creds.c) ---- */
struct creds;
void creds_free(struct creds *k); /* NULL is fine */
/* What is in force now, after a look at the files when it is time for one; the caller frees it. */
PARKS int creds_ctx(struct sys *s, SSL_CTX **ret_ctx, struct err_note *note);
/* Fills ret with who the certificate names: "node:..." or "client:...". */
bool creds_identity(X509 *x, struct sys_cert *ret);
extern uint64_t creds_look_ns; /* between two looks at the files; for tests to make it small */
/* Handshakes of callers under way, oldest first. */
struct list *creds_shaking(struct creds *k, uint32_t **ret_n);
/* Room for OUT_BYTES, shared by the streams of a loop one after the other. */
enum { OUT_BYTES = 128 << 10 };
uint8_t *creds_room_take(struct creds *k);
void creds_room_give(struct creds *k, uint8_t *room);

/* ---- streams (tls.c) ---- */
/* The stream is just connected and plain: speaks TLS when it returns 0. */
PARKS int tls_connect(struct sys_stream *c, const char *addr, uint64_t until_ns,
	struct err_note *note);
int tls_accepted(struct sys_stream *c); /* the handshake comes with the first use */
PARKS int64_t tls_recv(struct sys_stream *c, void *buf, size_t cap, uint64_t until_ns);
PARKS int tls_send(struct sys_stream *c, struct iovec *iov, int n_iov, uint64_t until_ns);
/* Says that we have nothing more to say, where that is possible at once. */
void tls_goodbye(struct sys_stream *c);
void tls_free(struct sys_stream *c); /* with a goodbye; plain is fine */
/* After so many bytes with one key the next one is taken; for tests to make it small. */
extern uint64_t tls_key_bytes;
#endif
