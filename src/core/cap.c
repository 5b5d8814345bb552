/* SPDX-License-Identifier: Apache-2.0 */
#include "core/cap.h"
#include "base/check.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

/* "wadi-cap", seven numbers of 8 bytes and two of 4, in the order of struct cap; the incarnation
 * only when it is not 0; then the key's number and the job's epoch, unless the number is 0. */
enum { TEXT_BYTES = 8 + 7 * 8 + 2 * 4 + 4 + 8 };

static void sum(const struct cap_key *key, const struct cap *c, uint8_t ret_sum[CAP_V1_BYTES])
{
	uint8_t text[TEXT_BYTES], code[EVP_MAX_MD_SIZE];
	struct writer w = writer_of(text, sizeof text);
	unsigned len = 0;

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
	if (key->id != 0) {
		write_u32(&w, key->id);
		write_u64(&w, c->job_epoch);
	}
	check(w.ok);
	check(HMAC(EVP_sha256(), key->key, CAP_KEY_BYTES, text, (size_t)(w.p - text), code,
		      &len) != NULL);
	check(len == CAP_V1_BYTES);
	memcpy(ret_sum, code, CAP_V1_BYTES);
}

void cap_mint(const struct cap_key *key, const struct cap *c, uint8_t ret_code[CAP_BYTES])
{
	struct writer w = writer_of(ret_code + CAP_V1_BYTES, CAP_BYTES - CAP_V1_BYTES);

	check(key->id != 0);
	check(c->ops == CAP_READ || c->ops == CAP_WRITE);
	sum(key, c, ret_code);
	write_u32(&w, key->id);
	write_u64(&w, c->job_epoch);
	check(w.ok);
}

static const struct cap_key *key_of(const struct cap_view *v, uint32_t id)
{
	for (uint32_t i = 0; i < v->n_keys; i++)
		if (v->keys[i].id == id)
			return &v->keys[i];
	return NULL;
}

int cap_check(const struct cap_view *v, const struct cap *c, struct bytes code,
	struct err_note *note)
{
	uint8_t right[CAP_V1_BYTES];
	const struct cap_key *key;
	struct cap all = *c;
	uint32_t id = 0;

	check(c->ops == CAP_READ || c->ops == CAP_WRITE);
	/* The epoch comes before the code, because a new primary may bring a new key. */
	if (c->ops == CAP_WRITE && c->epoch < v->epoch)
		return err_set(note, E_STALE, "capability of epoch %llu, the shard is at %llu",
			(unsigned long long)c->epoch, (unsigned long long)v->epoch);
	all.job_epoch = 0;
	if (code.len == CAP_BYTES) {
		struct reader r = reader_of(code.p + CAP_V1_BYTES, CAP_BYTES - CAP_V1_BYTES);

		id = read_u32(&r);
		all.job_epoch = read_u64(&r);
	}
	if (code.len != (id != 0 ? CAP_BYTES : CAP_V1_BYTES))
		return err_set(note, E_DENIED, "this is no capability");
	if ((key = key_of(v, id)) == NULL)
		return err_set(note, E_STALE, "capability of a key that is not in use, %u", id);
	sum(key, &all, right);
	if (CRYPTO_memcmp(code.p, right, sizeof right) != 0)
		return err_set(note, E_DENIED, "capability was not given for this request");
	if (all.job_epoch < v->job_epoch)
		return err_set(note, E_STALE, "capability of job %llu was revoked",
			(unsigned long long)c->job);
	if (c->until_ms < v->now_ms)
		return err_set(note, E_STALE, "capability ended %llu ms ago",
			(unsigned long long)(v->now_ms - c->until_ms));
	return 0;
}
