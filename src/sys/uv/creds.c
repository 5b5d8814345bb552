/* SPDX-License-Identifier: Apache-2.0 */
/* The certificates of a loop: read from files on a worker thread, looked at again for later
 * connections.  A set is used whole or not at all: while somebody replaces the files one by one, a
 * key that does not fit its certificate leaves the last good set in force. */
#include "base/check.h"
#include "sys/uv/tls.h"
#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

uint64_t creds_look_ns = SYS_SEC;
enum { FILES = 3, READ_AHEAD_BYTES = 64 << 10, CHAIN_MAX = 4, LOG_CHARS = 512 };

struct stamp { uint64_t ino, size, time_s, time_ns; };

struct creds {
	char path[FILES][SYS_ADDR_MAX]; /* authority, certificate, key */
	struct stamp stamps[FILES];     /* of the files last looked at, good or bad */
	SSL_CTX *ctx;
	uint64_t look_ns;
	bool looking;
	struct list shaking;
	uint32_t n_shaking;
	uint8_t *room;                  /* not in use */
};

/* ---- who somebody is ---- */
bool creds_identity(X509 *x, struct sys_cert *ret)
{
	static const char scheme[] = "wadi:";
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	struct sys_cert found = { .id = "" };
	unsigned len = 0, n_found = 0;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
		const char *text;
		size_t n;

		if (g->type != GEN_URI)
			continue;
		text = (const char *)ASN1_STRING_get0_data(g->d.uniformResourceIdentifier);
		n = (size_t)ASN1_STRING_length(g->d.uniformResourceIdentifier);
		if (n <= sizeof scheme - 1 || n - (sizeof scheme - 1) >= sizeof found.id ||
			memcmp(text, scheme, sizeof scheme - 1) != 0 ||
			memchr(text, '\0', n) != NULL)
			continue;
		memcpy(found.id, text + sizeof scheme - 1, n - (sizeof scheme - 1));
		n_found++;
	}
	GENERAL_NAMES_free(names);
	if (n_found != 1) /* with two it could be either */
		return false;
	if (strncmp(found.id, "node:", 5) != 0 && strncmp(found.id, "client:", 7) != 0)
		return false;
	if (X509_digest(x, EVP_sha256(), found.hash, &len) != 1)
		return false;
	check(len == sizeof found.hash);
	*ret = found;
	return true;
}

/* Called for each certificate of a chain, the peer's own last.  Refusing here, the peer is told. */
static int on_verify(int ok, X509_STORE_CTX *store)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct sys_cert who;

	if (!ok || X509_STORE_CTX_get_error_depth(store) != 0)
		return ok;
	if (creds_identity(X509_STORE_CTX_get_current_cert(store), &who) &&
		(SSL_is_server(ssl) || strncmp(who.id, "node:", 5) == 0))
		return 1;
	X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
	return 0;
}

/* ---- reading ---- */
struct look { /* on the fiber's stack while a worker has it */
	const char (*path)[SYS_ADDR_MAX];
	struct stamp old[FILES], stamps[FILES];
	bool always, changed;
	SSL_CTX *ctx;
	int rc;
	struct err_note note;
};

static int bad(struct look *k, unsigned file, const char *what)
{
	unsigned long e = ERR_peek_error(); /* the first is the cause of the others */
	bool os = ERR_SYSTEM_ERROR(e) != 0;
	int rc = os ? sys_err(ERR_GET_REASON(e)) : E_INVALID;
	const char *why = os ? sys_err_words(ERR_GET_REASON(e))
		: e != 0     ? ERR_reason_error_string(e)
			     : NULL;

	ERR_clear_error();
	return err_set(&k->note, rc, "%s %.150s: %s", what, k->path[file],
		why != NULL ? why : "cannot be used");
}

static int settings(SSL_CTX *ctx)
{
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_RELEASE_BUFFERS |
				      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_default_read_buffer_len(ctx, READ_AHEAD_BYTES);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, on_verify);
	SSL_CTX_set_verify_depth(ctx, CHAIN_MAX);
	return SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) == 1 &&
		SSL_CTX_set_num_tickets(ctx, 0) == 1 &&
		SSL_CTX_set_ciphersuites(ctx,
			"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
			"TLS_CHACHA20_POLY1305_SHA256") == 1 &&
		SSL_CTX_set1_groups_list(ctx, "X25519:P-256") == 1;
}

static int load(struct look *k)
{
	ERR_clear_error();
	k->ctx = SSL_CTX_new(TLS_method());
	if (k->ctx == NULL || !settings(k->ctx))
		return err_set(&k->note, E_NOMEM, "TLS cannot be set up");
	if (SSL_CTX_load_verify_file(k->ctx, k->path[0]) != 1)
		return bad(k, 0, "authority");
	if (SSL_CTX_use_certificate_chain_file(k->ctx, k->path[1]) != 1)
		return bad(k, 1, "certificate");
	if (SSL_CTX_use_PrivateKey_file(k->ctx, k->path[2], SSL_FILETYPE_PEM) != 1 ||
		SSL_CTX_check_private_key(k->ctx) != 1)
		return bad(k, 2, "key");
	return 0;
}

static void look_do(void *arg)
{
	struct look *k = arg;

	for (int i = 0; i < FILES; i++) {
		struct stat st;

		memset(&k->stamps[i], 0, sizeof k->stamps[i]);
		if (stat(k->path[i], &st) == 0)
			k->stamps[i] = (struct stamp){ (uint64_t)st.st_ino, (uint64_t)st.st_size,
				(uint64_t)st.st_mtim.tv_sec, (uint64_t)st.st_mtim.tv_nsec };
	}
	k->changed = memcmp(k->stamps, k->old, sizeof k->stamps) != 0;
	if (!k->changed && !k->always)
		return;
	k->rc = load(k);
	if (k->rc < 0) {
		SSL_CTX_free(k->ctx);
		k->ctx = NULL;
	}
}

static PARKS int look(struct sys *s, struct creds *c, bool always, struct err_note *note)
{
	struct look k = { .path = c->path, .always = always };
	int rc;

	memcpy(k.old, c->stamps, sizeof k.old);
	c->looking = true;
	rc = sys_work(s, look_do, &k);
	c->looking = false;
	c->look_ns = sys_after(s, creds_look_ns);
	if (rc < 0)
		return err_set(note, rc, "read certificates: %s", err_text(rc));
	memcpy(c->stamps, k.stamps, sizeof c->stamps);
	if (k.ctx != NULL) {
		SSL_CTX_free(c->ctx);
		c->ctx = k.ctx;
	}
	return k.rc < 0 ? err_set(note, k.rc, "%s", k.note.text) : 0;
}

int creds_ctx(struct sys *s, SSL_CTX **ret_ctx, struct err_note *note)
{
	struct creds *c = s->creds;
	struct err_note why = { "" };
	char line[LOG_CHARS];

	if (c == NULL)
		return err_set(note, E_INVALID, "TLS without certificates");
	if (c->ctx == NULL) {
		int rc = look(s, c, true, note);

		if (rc < 0)
			return rc;
	} else if (!c->looking && sys_now_ns(s) >= c->look_ns && look(s, c, false, &why) < 0 &&
		!fiber_canceled()) {
		snprintf(line, sizeof line, "wadi: %s: the certificates read before stay in force",
			why.text);
		sys_log(s, line);
	}
	check(s->creds->ctx != NULL);
	SSL_CTX_up_ref(s->creds->ctx);
	*ret_ctx = s->creds->ctx;
	return 0;
}

int sys_tls_use(struct sys *s, const struct sys_tls *files, struct err_note *note)
{
	const char *const given[FILES] = { files->ca, files->cert, files->key };
	struct creds *c;
	int rc;

	check(s->creds == NULL);
	c = calloc(1, sizeof *c);
	if (c == NULL)
		return err_set(note, E_NOMEM, "certificates: %s", err_text(E_NOMEM));
	list_init(&c->shaking);
	for (int i = 0; i < FILES; i++) {
		if (strlen(given[i]) >= sizeof c->path[i]) {
			free(c);
			return err_set(note, E_TOOBIG, "certificates: a path of %zu bytes",
				strlen(given[i]));
		}
		memcpy(c->path[i], given[i], strlen(given[i]) + 1);
	}
	rc = files->later ? 0 : look(s, c, true, note);
	if (rc < 0) {
		creds_free(c);
		return rc;
	}
	s->creds = c;
	return 0;
}

/* ---- what the streams of a loop share ---- */
struct list *creds_shaking(struct creds *k, uint32_t **ret_n)
{
	*ret_n = &k->n_shaking;
	return &k->shaking;
}

uint8_t *creds_room_take(struct creds *k)
{
	uint8_t *room = k->room;

	k->room = NULL;
	return room != NULL ? room : malloc(OUT_BYTES);
}

void creds_room_give(struct creds *k, uint8_t *room)
{
	if (k->room == NULL)
		k->room = room;
	else
		free(room);
}

void creds_free(struct creds *k)
{
	if (k == NULL)
		return;
	check(list_empty(&k->shaking));
	SSL_CTX_free(k->ctx);
	free(k->room);
	free(k);
}
