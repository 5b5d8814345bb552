/* SPDX-License-Identifier: Apache-2.0 */
#include "meta/record.h"
#include "base/check.h"
#include "base/hash.h"

enum { MAGIC = 0x474c4457 /* "WDLG" */ };

uint64_t record_chain(
	uint64_t before, uint64_t index, uint64_t epoch, const void *payload, size_t len)
{
	uint8_t head[24];

	put_le64(head, before);
	put_le64(head + 8, index);
	put_le64(head + 16, epoch);
	return hash64(hash64(0, head, sizeof head), payload, len);
}

/* Covers the header but the chains and the crc, and through the payload crc the payload. */
static uint64_t chain_node(const struct record *r)
{
	uint8_t head[LOG_HEADER_BYTES];
	struct record bare = *r;

	bare.node_chain = bare.shard_chain = 0;
	record_put(&bare, head);
	return hash64(r->previous, head, sizeof head);
}

void record_seal(struct record *r, uint64_t shard_chain, const void *payload)
{
	r->payload_crc = crc32c(0, payload, r->length);
	r->shard_chain = shard_chain;
	if (r->kind == LOG_EFFECTS)
		r->shard_chain =
			record_chain(shard_chain, r->index, r->epoch, payload, r->length);
	r->node_chain = chain_node(r);
}

bool record_verify(const struct record *r, uint64_t shard_chain, const void *payload)
{
	struct record again = *r;

	record_seal(&again, shard_chain, payload);
	return again.payload_crc == r->payload_crc && again.shard_chain == r->shard_chain &&
	       again.node_chain == r->node_chain;
}

void record_put(const struct record *r, uint8_t to[LOG_HEADER_BYTES])
{
	put_le32(to, MAGIC);
	put_le64(to + 8, r->uuid_hi);
	put_le64(to + 16, r->uuid_lo);
	put_le64(to + 24, r->lsn);
	put_le16(to + 32, r->kind);
	put_le16(to + 34, r->shard);
	put_le32(to + 36, r->length);
	put_le64(to + 40, r->epoch);
	put_le64(to + 48, r->index);
	put_le32(to + 56, r->payload_crc);
	put_le32(to + 60, 0);
	put_le64(to + 64, r->durable);
	put_le64(to + 72, r->node_chain);
	put_le64(to + 80, r->shard_chain);
	put_le64(to + 88, r->previous);
	put_le32(to + 4, crc32c(0, to + 8, LOG_HEADER_BYTES - 8));
}

int record_get(const uint8_t from[LOG_HEADER_BYTES], struct record *ret_r)
{
	struct reader r = reader_of(from, LOG_HEADER_BYTES);
	struct record out;
	uint32_t zero;

	if (read_u32(&r) != MAGIC || read_u32(&r) != crc32c(0, from + 8, LOG_HEADER_BYTES - 8))
		return E_CORRUPT;
	out.uuid_hi = read_u64(&r);
	out.uuid_lo = read_u64(&r);
	out.lsn = read_u64(&r);
	out.kind = read_u16(&r);
	out.shard = read_u16(&r);
	out.length = read_u32(&r);
	out.epoch = read_u64(&r);
	out.index = read_u64(&r);
	out.payload_crc = read_u32(&r);
	zero = read_u32(&r);
	out.durable = read_u64(&r);
	out.node_chain = read_u64(&r);
	out.shard_chain = read_u64(&r);
	out.previous = read_u64(&r);
	if (!r.ok || zero != 0 || out.length > LOG_PAYLOAD_BYTES_MAX ||
		(out.kind != LOG_BEGIN && out.kind != LOG_EFFECTS))
		return E_CORRUPT;
	*ret_r = out;
	return 0;
}

uint8_t *effect_put(uint8_t *to, enum effect_kind kind, struct bytes key, struct bytes value)
{
	check(key.len <= EFFECT_KEY_MAX);
	check(value.len <= UINT32_MAX);
	*to++ = (uint8_t)kind;
	put_le16(to, (uint16_t)key.len);
	memcpy(to + 2, key.p, key.len);
	to += 2 + key.len;
	if (kind == EFFECT_DELETE)
		return to;
	put_le32(to, (uint32_t)value.len);
	if (value.len > 0)
		memcpy(to + 4, value.p, value.len);
	return to + 4 + value.len;
}

bool effect_get(struct reader *r, struct effect *ret_e)
{
	uint8_t kind;
	struct effect e = { .value = { NULL, 0 } };
	size_t len;

	if (reader_left(r) == 0)
		return false;
	kind = read_u8(r);
	len = read_u16(r);
	if (kind < EFFECT_PUT || kind > EFFECT_RANGE || len > EFFECT_KEY_MAX)
		r->ok = false;
	e.kind = (enum effect_kind)kind;
	e.key = bytes_of(reader_take(r, len), len);
	if (r->ok && kind != EFFECT_DELETE) {
		len = read_u32(r);
		if (kind == EFFECT_RANGE && len > EFFECT_KEY_MAX)
			r->ok = false;
		e.value = bytes_of(reader_take(r, len), len);
	}
	if (r->ok)
		*ret_e = e;
	return r->ok;
}
