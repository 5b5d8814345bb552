/* SPDX-License-Identifier: Apache-2.0 */
/* token.h: proofs of who is calling, made from one secret of the cluster.
 *
 *   administrator  the key itself, 64 hexadecimal digits
 *   job            "j" job "." epoch "." proof: hexadecimal digits, lower case, no leading zeros;
 *                  the proof is the first 16 bytes of HMAC-SHA256(key, "wadi-job", job, epoch)
 *
 * Nothing is looked up to check one; whether the job still lives is the caller's to know. */
#ifndef CONTROL_TOKEN_H
#define CONTROL_TOKEN_H
#include "sys/sys.h"

enum {
	TOKEN_KEY_BYTES = 32,
	TOKEN_PROOF_BYTES = 16,
	TOKEN_CHARS_MAX = 64,       /* as the wire has it */
};
/* Leaves room for any job id in TOKEN_CHARS_MAX. */
#define TOKEN_EPOCH_MAX ((UINT64_C(1) << 52) - 1)

/* The key in a file: 64 hexadecimal digits and a newline, mode 0600.  Made when it is missing, and
 * then synced.  E_INVALID: the file holds something else. */
PARKS int token_key_load(struct sys *s, const char *path, uint8_t ret_key[TOKEN_KEY_BYTES],
	struct err_note *note);
/* The key from its 64 digits.  E_INVALID. */
int token_key_read(const char *text, uint8_t ret_key[TOKEN_KEY_BYTES]);
/* The secrets of which the certificates of the cluster's etcd are made. */
enum token_etcd { TOKEN_ETCD_AUTHORITY, TOKEN_ETCD_MEMBER };
void token_etcd_seed(const uint8_t key[TOKEN_KEY_BYTES], enum token_etcd what,
	uint8_t ret_seed[TOKEN_KEY_BYTES]);
/* A key of capabilities, by its number: storage servers get it, and can make neither tokens nor
 * other keys from it. */
void token_cap_key(const uint8_t key[TOKEN_KEY_BYTES], uint32_t id,
	uint8_t ret_key[TOKEN_KEY_BYTES]);

/* Neither ends with a NUL; the length. */
size_t token_admin(const uint8_t key[TOKEN_KEY_BYTES], char ret_text[TOKEN_CHARS_MAX]);
size_t token_job(const uint8_t key[TOKEN_KEY_BYTES], uint64_t job, uint64_t epoch,
	char ret_text[TOKEN_CHARS_MAX]);

struct token {
	bool admin;
	uint64_t job, epoch; /* 0 for an administrator */
};
/* 0 or E_DENIED.  text is hostile; secrets are compared in constant time. */
int token_read(const uint8_t key[TOKEN_KEY_BYTES], struct bytes text, struct token *ret_token);
#endif
