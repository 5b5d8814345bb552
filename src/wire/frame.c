/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/frame.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/limit.h"

enum {
	AT_BODY = 4, AT_DATA = 8, AT_OP = 12, AT_VERSION = 14, AT_COOKIE = 16, AT_FLAGS = 24,
	AT_CRC = 28,
};

_Static_assert(AT_CRC + sizeof(uint32_t) == FRAME_HEADER_BYTES, "the checksum closes the header");
_Static_assert((uint64_t)FRAME_HEADER_BYTES + LIMIT_FRAME_BODY_BYTES_MAX
	+ LIMIT_FRAME_DATA_BYTES_MAX < INT32_MAX, "the length of a frame fits every integer");

int frame_get(const uint8_t from[FRAME_HEADER_BYTES], struct frame *ret_f)
{
	struct frame f = {
		.body_len = le32(from + AT_BODY),
		.data_len = le32(from + AT_DATA),
		.flags = le32(from + AT_FLAGS),
		.crc = le32(from + AT_CRC),
		.op = le16(from + AT_OP),
		.version = le16(from + AT_VERSION),
		.cookie = le64(from + AT_COOKIE),
	};

	if (le32(from) != FRAME_MAGIC || (f.flags & ~(uint32_t)FRAME_REPLY) != 0 || f.version == 0)
		return E_CORRUPT;
	if (f.body_len > LIMIT_FRAME_BODY_BYTES_MAX || f.data_len > LIMIT_FRAME_DATA_BYTES_MAX)
		return E_CORRUPT;
	*ret_f = f;
	return 0;
}

/* Of the bytes that the checksum covers.  Most frames lie in one piece, and one long run costs less
 * than two. */
static uint32_t frame_crc(const struct frame *f, const uint8_t *header, const uint8_t *body,
	const uint8_t *data)
{
	uint32_t crc = crc32c(0, header, AT_CRC);
	size_t data_len = f->data_len <= LIMIT_INLINE_BYTES_MAX ? f->data_len : 0;

	if (data_len > 0 && body + f->body_len == data)
		return crc32c(crc, body, f->body_len + data_len);
	if (f->body_len > 0)
		crc = crc32c(crc, body, f->body_len);
	return data_len > 0 ? crc32c(crc, data, data_len) : crc;
}

void frame_put(struct frame *f, const void *body, const void *data, uint8_t to[FRAME_HEADER_BYTES])
{
	check(f->body_len <= LIMIT_FRAME_BODY_BYTES_MAX);
	check(f->data_len <= LIMIT_FRAME_DATA_BYTES_MAX);
	check((f->flags & ~(uint32_t)FRAME_REPLY) == 0);
	check(f->version > 0);
	put_le32(to, FRAME_MAGIC);
	put_le32(to + AT_BODY, f->body_len);
	put_le32(to + AT_DATA, f->data_len);
	put_le16(to + AT_OP, f->op);
	put_le16(to + AT_VERSION, f->version);
	put_le64(to + AT_COOKIE, f->cookie);
	put_le32(to + AT_FLAGS, f->flags);
	f->crc = frame_crc(f, to, body, data);
	put_le32(to + AT_CRC, f->crc);
}

int frame_verify(const struct frame *f, const uint8_t header[FRAME_HEADER_BYTES], const void *body,
	const void *data)
{
	return frame_crc(f, header, body, data) == f->crc;
}
