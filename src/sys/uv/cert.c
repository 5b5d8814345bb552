/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/uv/cert.h"
#include "base/check.h"
#include "sys/uv/tls.h"
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

enum { SERIAL_BYTES = 16, ALT_NAMES_MAX = CERT_HOSTS_MAX * 2 };

static const char name_chars[] =
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

/* ---- names ---- */
static bool name_ok(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && len <= CERT_NAME_MAX && strspn(name, name_chars) == len;
}

/* One host of the list behind what is there already. */
static int alt_add(char text[ALT_NAMES_MAX], const char *host, size_t len, struct err_note *note)
{
	char one[CERT_HOSTS_MAX];
	unsigned char addr[16];
	size_t used = strlen(text);
	bool ip;
	int n;

	memcpy(one, host, len);
	one[len] = '\0';
	ip = inet_pton(AF_INET, one, addr) == 1 || inet_pton(AF_INET6, one, addr) == 1;
	if (!ip && (len == 0 || len > 253 || strspn(one, name_chars) != len))
		return err_set(note, E_INVALID, "host \"%.100s\": neither a name nor an IP address",
			one);
	n = snprintf(text + used, ALT_NAMES_MAX - used, ",%s:%s", ip ? "IP" : "DNS", one);
	check(n > 0);
	if ((size_t)n >= ALT_NAMES_MAX - used)
		return err_set(note, E_TOOBIG, "too many hosts");
	return 0;
}

static int alt_names(const struct cert_ask *a, char ret_text[ALT_NAMES_MAX], struct err_note *note)
{
	const char *at = a->hosts;
	int rc = 0;

	snprintf(ret_text, ALT_NAMES_MAX, "URI:wadi:%s:%s",
		a->role == CERT_NODE ? "node" : "client", a->name);
	if (a->role != CERT_NODE)
		return 0;
	if (at == NULL || strlen(at) >= CERT_HOSTS_MAX)
		return err_set(note, at == NULL ? E_INVALID : E_TOOBIG,
			"a node's hosts are named in %d bytes", CERT_HOSTS_MAX - 1);
	for (size_t len; rc == 0; at += len + 1) {
		len = strcspn(at, ",");
		rc = alt_add(ret_text, at, len, note);
		if (at[len] == '\0')
			break;
	}
	return rc < 0 ? rc : alt_add(ret_text, CERT_EVERY_NODE, strlen(CERT_EVERY_NODE), note);
}

/* ---- making ---- */
static bool extend(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX how;
	X509_EXTENSION *e;
	bool ok;

	X509V3_set_ctx_nodb(&how);
	X509V3_set_ctx(&how, issuer, x, NULL, NULL, 0);
	e = X509V3_EXT_conf_nid(NULL, &how, nid, value);
	ok = e != NULL && X509_add_ext(x, e, -1) == 1;
	X509_EXTENSION_free(e);
	return ok;
}

/* Two certificates of one seed are told apart by whom they are for. */
static bool serial_make(const struct cert_ask *a, unsigned char ret_number[SERIAL_BYTES])
{
	char text[CERT_NAME_MAX + CERT_HOSTS_MAX + 16];
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	int n;

	if (a->seed == NULL)
		return RAND_bytes(ret_number, SERIAL_BYTES) == 1;
	n = snprintf(text, sizeof text, "%d %s %s", (int)a->role, a->name,
		a->role == CERT_NODE ? a->hosts : "");
	check(n > 0);
	check((size_t)n < sizeof text);
	if (EVP_Digest(text, (size_t)n, sum, &len, EVP_sha256(), NULL) != 1)
		return false;
	memcpy(ret_number, sum, SERIAL_BYTES);
	ret_number[SERIAL_BYTES - 1] |= 1; /* not zero */
	return true;
}

static bool fill_head(X509 *x, EVP_PKEY *key, const struct cert_ask *a, X509 *issuer)
{
	X509_NAME *name = X509_get_subject_name(x);
	unsigned char number[SERIAL_BYTES];
	BIGNUM *serial;
	bool ok;

	if (!serial_make(a, number))
		return false;
	number[0] &= 0x7f; /* positive */
	serial = BN_bin2bn(number, sizeof number, NULL);
	ok = serial != NULL && BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(x)) != NULL &&
		X509_set_version(x, X509_VERSION_3) == 1 && X509_set_pubkey(x, key) == 1 &&
		ASN1_TIME_set(X509_getm_notBefore(x), (time_t)a->from_s) != NULL &&
		ASN1_TIME_set(X509_getm_notAfter(x), (time_t)a->until_s) != NULL &&
		X509_NAME_add_entry_by_NID(name, NID_organizationName, MBSTRING_UTF8,
			(const unsigned char *)"Wadi", -1, -1, 0) == 1 &&
		X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8,
			(const unsigned char *)a->name, -1, -1, 0) == 1 &&
		X509_set_issuer_name(x, X509_get_subject_name(issuer)) == 1;
	BN_free(serial);
	return ok;
}

static bool fill_tail(X509 *x, const struct cert_ask *a, X509 *issuer, const char *alt)
{
	if (a->role == CERT_AUTHORITY) /* it signs nodes and clients, and no further authority */
		return extend(x, issuer, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
			extend(x, issuer, NID_key_usage, "critical,keyCertSign,cRLSign") &&
			extend(x, issuer, NID_subject_key_identifier, "hash");
	return extend(x, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
		extend(x, issuer, NID_key_usage, "critical,digitalSignature") &&
		extend(x, issuer, NID_ext_key_usage,
			a->role == CERT_NODE ? "serverAuth,clientAuth" : "clientAuth") &&
		extend(x, issuer, NID_subject_key_identifier, "hash") &&
		extend(x, issuer, NID_authority_key_identifier, "keyid:always") &&
		extend(x, issuer, NID_subject_alt_name, alt);
}

static bool pem_out(BIO *b, char *ret_text, size_t room)
{
	int n = BIO_read(b, ret_text, (int)room - 1);

	if (n <= 0 || BIO_pending(b) > 0)
		return false;
	ret_text[n] = '\0';
	return true;
}

static bool write_pem(X509 *x, EVP_PKEY *key, struct cert_pem *ret)
{
	BIO *b = BIO_new(BIO_s_mem()), *k = BIO_new(BIO_s_secmem());
	bool ok = b != NULL && k != NULL && PEM_write_bio_X509(b, x) == 1 &&
		PEM_write_bio_PrivateKey(k, key, NULL, NULL, 0, NULL, NULL) == 1 &&
		pem_out(b, ret->cert, sizeof ret->cert) && pem_out(k, ret->key, sizeof ret->key);

	BIO_free(b);
	BIO_free(k);
	return ok;
}

static X509 *cert_in(const char *pem)
{
	BIO *b = BIO_new_mem_buf(pem, -1);
	X509 *x = b != NULL ? PEM_read_bio_X509(b, NULL, NULL, NULL) : NULL;

	BIO_free(b);
	return x;
}

/* Never asks anybody for a password. */
static int no_password(char *buf, int size, int rwflag, void *arg) { return -1; }

static EVP_PKEY *key_in(const char *pem)
{
	BIO *b = BIO_new_mem_buf(pem, -1);
	EVP_PKEY *key = b != NULL ? PEM_read_bio_PrivateKey(b, NULL, no_password, NULL) : NULL;

	BIO_free(b);
	return key;
}

static EVP_PKEY *key_make(const struct cert_ask *a)
{
	if (a->seed == NULL)
		return EVP_EC_gen("P-256");
	return EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, a->seed, CERT_SEED_BYTES);
}

static bool sign(X509 *x, EVP_PKEY *signer)
{
	/* Ed25519 hashes by itself */
	return X509_sign(x, signer, EVP_PKEY_get_id(signer) == EVP_PKEY_ED25519
			? NULL : EVP_sha256()) != 0;
}

int cert_make(const struct cert_ask *a, const struct cert_pem *ca, struct cert_pem *ret,
	struct err_note *note)
{
	bool root = a->role == CERT_AUTHORITY;
	char alt[ALT_NAMES_MAX] = "";
	X509 *x = NULL, *issuer = NULL;
	EVP_PKEY *key = NULL, *signer = NULL;
	int rc;

	check(root == (ca == NULL));
	check(a->from_s < a->until_s);
	if (!name_ok(a->name))
		return err_set(note, E_INVALID, "\"%.80s\": a name is 1 to %d letters, digits, "
			"dots, underscores and hyphens", a->name, CERT_NAME_MAX);
	rc = root ? 0 : alt_names(a, alt, note);
	if (rc < 0)
		return rc;
	if (!root && ((issuer = cert_in(ca->cert)) == NULL ||
			     (signer = key_in(ca->key)) == NULL || X509_check_ca(issuer) != 1 ||
			     X509_check_private_key(issuer, signer) != 1))
		rc = err_set(note, E_INVALID, "the authority's certificate or key is damaged");
	if (rc == 0) {
		x = X509_new();
		key = key_make(a);
		if (x == NULL || key == NULL || !fill_head(x, key, a, root ? x : issuer) ||
			!fill_tail(x, a, root ? x : issuer, alt) ||
			!sign(x, root ? key : signer) || !write_pem(x, key, ret))
			rc = err_set(note, E_INVALID, "a certificate for %s cannot be made",
				a->name);
	}
	ERR_clear_error();
	X509_free(x);
	X509_free(issuer);
	EVP_PKEY_free(key);
	EVP_PKEY_free(signer);
	return rc;
}

void cert_wipe(struct cert_pem *p)
{
	OPENSSL_cleanse(p, sizeof *p);
}

/* ---- reading ---- */
static void hosts_read(X509 *x, char ret_text[CERT_HOSTS_MAX])
{
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	size_t used = 0;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
		char one[CERT_HOSTS_MAX] = "";
		const ASN1_STRING *s = g->d.ia5;
		int n;

		if (g->type == GEN_IPADD && (s->length == 4 || s->length == 16))
			inet_ntop(s->length == 4 ? AF_INET : AF_INET6, s->data, one, sizeof one);
		else if (g->type == GEN_DNS && s->length < (int)sizeof one &&
			memchr(s->data, '\0', (size_t)s->length) == NULL)
			memcpy(one, s->data, (size_t)s->length);
		if (strcmp(one, CERT_EVERY_NODE) == 0)
			continue;
		if (one[0] == '\0' || used + strlen(one) + 2 > CERT_HOSTS_MAX)
			continue;
		n = snprintf(ret_text + used, CERT_HOSTS_MAX - used, "%s%s", used > 0 ? "," : "",
			one);
		used += (size_t)n;
	}
	GENERAL_NAMES_free(names);
}

static uint64_t unix_s(const ASN1_TIME *t)
{
	struct tm tm;
	int64_t s = ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;

	return s > 0 ? (uint64_t)s : 0;
}

static bool facts_read(X509 *x, struct cert_facts *f)
{
	const X509_NAME *subject = X509_get_subject_name(x);
	struct sys_cert who;
	unsigned char hash[32];
	unsigned len = 0;

	if (X509_digest(x, EVP_sha256(), hash, &len) != 1)
		return false;
	for (unsigned i = 0; i < sizeof hash; i++)
		snprintf(f->hash + 2 * i, 3, "%02x", hash[i]);
	f->from_s = unix_s(X509_get0_notBefore(x));
	f->until_s = unix_s(X509_get0_notAfter(x));
	if (X509_check_ca(x) == 1) {
		f->role = CERT_AUTHORITY;
		return X509_NAME_get_text_by_NID((X509_NAME *)(uintptr_t)subject, NID_commonName,
			       f->name, sizeof f->name) > 0;
	}
	if (!creds_identity(x, &who))
		return false;
	f->role = who.id[0] == 'n' ? CERT_NODE : CERT_CLIENT;
	snprintf(f->name, sizeof f->name, "%.*s", CERT_NAME_MAX, strchr(who.id, ':') + 1);
	hosts_read(x, f->hosts);
	return true;
}

int cert_read(const char *cert, const char *key, struct cert_facts *ret, struct err_note *note)
{
	struct cert_facts f = { .role = CERT_CLIENT };
	X509 *x = cert_in(cert);
	EVP_PKEY *k = key != NULL ? key_in(key) : NULL;
	bool ok = x != NULL && facts_read(x, &f);

	f.key_fits = ok && k != NULL && X509_check_private_key(x, k) == 1;
	ERR_clear_error();
	X509_free(x);
	EVP_PKEY_free(k);
	if (!ok)
		return err_set(note, E_INVALID, "%s", x == NULL ? "not a certificate"
			: "not a certificate of Wadi");
	*ret = f;
	return 0;
}
