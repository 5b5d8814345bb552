/* SPDX-License-Identifier: Apache-2.0 */
#include "control/token.h"
#include "base/check.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>

enum { SUM_BYTES = 32, LABEL_BYTES = 8, NUMBER_DIGITS_MAX = 16 };
_Static_assert(1 + NUMBER_DIGITS_MAX + 1 + 13 + 1 + 2 * TOKEN_PROOF_BYTES <= TOKEN_CHARS_MAX,
	"a token fits the wire with any id and 52 bits of epoch");
_Static_assert(2 * TOKEN_KEY_BYTES <= TOKEN_CHARS_MAX, "so does a key");

/* ---- hexadecimal ---- */
static void hex_put(const uint8_t *from, size_t n, char *to)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		to[2 * i] = digits[from[i] >> 4];
		to[2 * i + 1] = digits[from[i] & 15];
	}
}

/* A digit's value, or -1.  Lower case only: a secret has one spelling. */
static int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool hex_get(const uint8_t *from, size_t n, uint8_t *to)
{
	int bad = 0;

	for (size_t i = 0; i < n; i++) {
		int high = hex_digit(from[2 * i]), low = hex_digit(from[2 * i + 1]);

		bad |= (high | low) < 0;
		to[i] = (uint8_t)((high & 15) << 4 | (low & 15));
	}
	return bad == 0;
}

/* A number without leading zeros up to a dot, which is taken too. */
static bool number_get(struct reader *r, uint64_t *ret_n)
{
	uint64_t n = 0;

	for (int digits = 0; digits <= NUMBER_DIGITS_MAX; digits++) {
		uint8_t c = read_u8(r);
		int d;

		if (r->ok && c == '.' && digits > 0) {
			*ret_n = n;
			return true;
		}
		d = hex_digit(c);
		if (!r->ok || d < 0 || (digits == 0 && d == 0))
			return false;
		n = n << 4 | (uint64_t)d;
	}
	return false;
}

/* ---- proofs ---- */
static void sum(const uint8_t key[TOKEN_KEY_BYTES], const char label[LABEL_BYTES], uint64_t a,
	uint64_t b, uint8_t ret_sum[SUM_BYTES])
{
	uint8_t text[LABEL_BYTES + 16], code[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	memcpy(text, label, LABEL_BYTES);
	put_le64(text + LABEL_BYTES, a);
	put_le64(text + LABEL_BYTES + 8, b);
	check(HMAC(EVP_sha256(), key, TOKEN_KEY_BYTES, text, sizeof text, code, &len) != NULL);
	check(len == SUM_BYTES);
	memcpy(ret_sum, code, SUM_BYTES);
	OPENSSL_cleanse(code, sizeof code);
}

void token_cap_key(const uint8_t key[TOKEN_KEY_BYTES], uint32_t id,
	uint8_t ret_key[TOKEN_KEY_BYTES])
{
	sum(key, "wadi-ext", id, 0, ret_key);
}

void token_etcd_seed(const uint8_t key[TOKEN_KEY_BYTES], enum token_etcd what,
	uint8_t ret_seed[TOKEN_KEY_BYTES])
{
	sum(key, "wadi-etc", what, 0, ret_seed);
}

size_t token_admin(const uint8_t key[TOKEN_KEY_BYTES], char ret_text[TOKEN_CHARS_MAX])
{
	hex_put(key, TOKEN_KEY_BYTES, ret_text);
	return 2 * TOKEN_KEY_BYTES;
}

size_t token_job(const uint8_t key[TOKEN_KEY_BYTES], uint64_t job, uint64_t epoch,
	char ret_text[TOKEN_CHARS_MAX])
{
	uint8_t proof[SUM_BYTES];
	char head[TOKEN_CHARS_MAX];
	int n;

	check(job != 0);
	check(epoch != 0);
	check(epoch <= TOKEN_EPOCH_MAX);
	n = snprintf(head, sizeof head, "j%llx.%llx.", (unsigned long long)job,
		(unsigned long long)epoch);
	check(n > 0);
	check((size_t)n + 2 * TOKEN_PROOF_BYTES <= TOKEN_CHARS_MAX);
	sum(key, "wadi-job", job, epoch, proof);
	memcpy(ret_text, head, (size_t)n);
	hex_put(proof, TOKEN_PROOF_BYTES, ret_text + n);
	return (size_t)n + 2 * TOKEN_PROOF_BYTES;
}

static int read_job(const uint8_t key[TOKEN_KEY_BYTES], struct bytes text, struct token *ret_token)
{
	uint8_t right[SUM_BYTES], said[TOKEN_PROOF_BYTES];
	struct reader r = reader_of(text.p + 1, text.len - 1);
	uint64_t job, epoch;

	if (!number_get(&r, &job) || !number_get(&r, &epoch) || epoch > TOKEN_EPOCH_MAX)
		return E_DENIED;
	if (reader_left(&r) != 2 * TOKEN_PROOF_BYTES || !hex_get(r.p, TOKEN_PROOF_BYTES, said))
		return E_DENIED;
	sum(key, "wadi-job", job, epoch, right);
	if (CRYPTO_memcmp(right, said, TOKEN_PROOF_BYTES) != 0)
		return E_DENIED;
	*ret_token = (struct token){ .job = job, .epoch = epoch };
	return 0;
}

int token_read(const uint8_t key[TOKEN_KEY_BYTES], struct bytes text, struct token *ret_token)
{
	uint8_t said[TOKEN_KEY_BYTES];
	bool same;

	if (text.len == 0 || text.len > TOKEN_CHARS_MAX)
		return E_DENIED;
	if (text.p[0] == 'j')
		return read_job(key, text, ret_token);
	if (text.len != 2 * TOKEN_KEY_BYTES || !hex_get(text.p, TOKEN_KEY_BYTES, said))
		return E_DENIED;
	same = CRYPTO_memcmp(key, said, TOKEN_KEY_BYTES) == 0;
	OPENSSL_cleanse(said, sizeof said);
	if (!same)
		return E_DENIED;
	*ret_token = (struct token){ .admin = true };
	return 0;
}

int token_key_read(const char *text, uint8_t ret_key[TOKEN_KEY_BYTES])
{
	uint8_t key[TOKEN_KEY_BYTES];

	if (strlen(text) != 2 * TOKEN_KEY_BYTES ||
		!hex_get((const uint8_t *)text, TOKEN_KEY_BYTES, key))
		return E_INVALID;
	memcpy(ret_key, key, sizeof key);
	OPENSSL_cleanse(key, sizeof key);
	return 0;
}

/* ---- the key's file ---- */
enum { FILE_CHARS = 2 * TOKEN_KEY_BYTES + 1 };

PARKS static int key_read(struct sys *s, const char *path, uint8_t ret_key[TOKEN_KEY_BYTES],
	struct err_note *note)
{
	uint8_t text[FILE_CHARS + 1], key[TOKEN_KEY_BYTES];
	struct sys_file *f;
	int64_t n;
	int rc = sys_open(s, path, SYS_READ, &f, note);

	if (rc < 0)
		return rc;
	n = sys_pread(f, text, sizeof text, 0, note);
	sys_close(f);
	if (n < 0)
		return (int)n;
	if (n == FILE_CHARS && text[n - 1] == '\n')
		n--;
	if (n != 2 * TOKEN_KEY_BYTES || !hex_get(text, TOKEN_KEY_BYTES, key))
		return err_set(note, E_INVALID, "%s does not hold a key: 64 hexadecimal digits",
			path);
	memcpy(ret_key, key, sizeof key);
	OPENSSL_cleanse(key, sizeof key);
	OPENSSL_cleanse(text, sizeof text);
	return 0;
}

/* Under another name first: a crash leaves no half of a key. */
PARKS static int key_write(struct sys *s, const char *path, const uint8_t key[TOKEN_KEY_BYTES],
	struct err_note *note)
{
	char text[FILE_CHARS], fresh[SYS_ADDR_MAX + 8], folder[SYS_ADDR_MAX];
	const char *slash = strrchr(path, '/');
	struct sys_file *f;
	int rc;

	if (strlen(path) >= sizeof folder)
		return err_set(note, E_TOOBIG, "the path of the key has %zu bytes, at most %zu",
			strlen(path), sizeof folder - 1);
	snprintf(fresh, sizeof fresh, "%s.new", path);
	snprintf(folder, sizeof folder, "%.*s", slash != NULL ? (int)(slash - path) : 1,
		slash != NULL ? path : ".");
	rc = sys_unlink(s, fresh, note);
	if (rc < 0 && rc != E_NOTFOUND)
		return rc;
	rc = sys_open(s, fresh, SYS_WRITE | SYS_CREATE | SYS_EXCL, &f, note);
	if (rc < 0)
		return rc;
	hex_put(key, TOKEN_KEY_BYTES, text);
	text[FILE_CHARS - 1] = '\n';
	rc = sys_pwrite(f, text, sizeof text, 0, note);
	OPENSSL_cleanse(text, sizeof text);
	if (rc == 0)
		rc = sys_sync(f, note);
	sys_close(f);
	if (rc == 0)
		rc = sys_rename(s, fresh, path, note);
	return rc == 0 ? sys_sync_dir(s, folder[0] != '\0' ? folder : "/", note) : rc;
}

int token_key_load(struct sys *s, const char *path, uint8_t ret_key[TOKEN_KEY_BYTES],
	struct err_note *note)
{
	uint8_t key[TOKEN_KEY_BYTES];
	int rc = key_read(s, path, ret_key, note);

	if (rc != E_NOTFOUND)
		return rc;
	sys_secret(s, key, sizeof key);
	rc = key_write(s, path, key, note);
	if (rc == 0)
		memcpy(ret_key, key, sizeof key);
	OPENSSL_cleanse(key, sizeof key);
	return rc;
}
