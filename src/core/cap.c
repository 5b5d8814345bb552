/* SPDX-License-Identifier: Apache-2.0 */
#include "core/cap.h"
#include "base/check.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

/* "wadi-cap", seven numbers of 8 bytes and two of 4, in the order of struct cap; the last one only
 * when it is not 0. */
enum { TEXT_BYTES = 8 + 7 * 8 + 2 * 4 };

void cap_mint(const uint8_t key[CAP_KEY_BYTES], const struct cap *c, uint8_t ret_code[CAP_BYTES])
{
	uint8_t text[TEXT_BYTES], code[EVP_MAX_MD_SIZE];
	struct writer w = writer_of(text, sizeof text);
	unsigned len = 0;

	check(key != NULL);
	check(c->ops == CAP_READ || c->ops == CAP_WRITE);
	write_raw(&w, "wadi-cap", 8);
	write_u64(&w, c->egroup);
	write_u64(&w, c->job);
	write_u32(&w, c->ops);
	write_u64(&w, c->epoch);
	write_u64(&w, c->until_ms);
	write_u64(&w, c->extent_first);
	write_u32(&w, c->extent_count);
	write_u64(&w, c->credit_bytes);
	if (c->incarnation != 0)
		write_u64(&w, c->incarnation);
	check(w.ok);
	check(HMAC(EVP_sha256(), key, CAP_KEY_BYTES, text, (size_t)(w.p - text), code,
		      &len) != NULL);
	check(len == CAP_BYTES);
	memcpy(ret_code, code, CAP_BYTES);
}

int cap_check(const struct cap_view *v, const struct cap *c, struct bytes code,
	struct err_note *note)
{
	uint8_t right[CAP_BYTES];

	/* The epoch comes before the code, because a new primary may bring a new key. */
	if (c->ops == CAP_WRITE && c->epoch < v->epoch)
		return err_set(note, E_STALE, "capability of epoch %llu, the shard is at %llu",
			(unsigned long long)c->epoch, (unsigned long long)v->epoch);
	cap_mint(v->key, c, right);
	if (code.len != CAP_BYTES || CRYPTO_memcmp(code.p, right, CAP_BYTES) != 0)
		return err_set(note, E_DENIED, "capability was not given for this request");
	if (c->until_ms < v->now_ms)
		return err_set(note, E_STALE, "capability ended %llu ms ago",
			(unsigned long long)(v->now_ms - c->until_ms));
	return 0;
}
