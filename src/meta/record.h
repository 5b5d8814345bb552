/* SPDX-License-Identifier: Apache-2.0 */
/* record.h: the header of a log record, and the effects inside a payload. */
#ifndef META_RECORD_H
#define META_RECORD_H
#include "base/bytes.h"
#include "meta/log.h"
#include <stdbool.h>

struct record {
	uint64_t uuid_hi, uuid_lo, lsn, epoch, index, durable, node_chain, shard_chain, previous;
	uint32_t length, payload_crc;
	uint16_t kind, shard;
};

static inline size_t record_bytes(size_t payload_len) /* in the file, with padding */
{
	return (LOG_HEADER_BYTES + payload_len + 7) & ~(size_t)7;
}

/* Fills in payload crc and chains from the payload (r->previous and the shard chain before it
 * given). */
void record_seal(struct record *r, uint64_t shard_chain, const void *payload);
void record_put(const struct record *r, uint8_t to[LOG_HEADER_BYTES]);
/* 0 or E_CORRUPT: magic, header crc, length. */
int record_get(const uint8_t from[LOG_HEADER_BYTES], struct record *ret_r);
/* The shard chain through a record of effects. */
uint64_t record_chain(
	uint64_t before, uint64_t index, uint64_t epoch, const void *payload, size_t len);
/* True when the payload is the record's and continues both chains. */
bool record_verify(const struct record *r, uint64_t shard_chain, const void *payload);

/* ---- effects: u8 kind, then as below; lengths are u16 for keys, u32 for values ---- */
enum effect_kind {
	EFFECT_PUT = 1,    /* key, value */
	EFFECT_DELETE = 2, /* key */
	EFFECT_RANGE = 3,  /* from, to */
};
struct effect {
	enum effect_kind kind;
	struct bytes key, value; /* to, for a range */
};
enum { EFFECT_KEY_MAX = 2048 };

static inline size_t effect_bytes(struct bytes key, struct bytes value)
{
	return 1 + 2 + key.len + 4 + value.len;
}
uint8_t *effect_put(
	uint8_t *to, enum effect_kind kind, struct bytes key, struct bytes value); /* its end */
/* The next effect; false at the end (r->ok) or when the bytes are none (!r->ok). */
bool effect_get(struct reader *r, struct effect *ret_e);
#endif
