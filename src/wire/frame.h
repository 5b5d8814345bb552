/* SPDX-License-Identifier: Apache-2.0 */
/* frame.h: what surrounds a message on a stream.
 *
 *   0  magic    u32   FRAME_MAGIC
 *   4  body     u32   bytes of fields, at most LIMIT_FRAME_BODY_BYTES_MAX
 *   8  data     u32   bytes of bulk data behind the fields, at most LIMIT_FRAME_DATA_BYTES_MAX
 *  12  op       u16   of messages.def
 *  14  version  u16   of the fields, not 0
 *  16  cookie   u64   matches a reply to its request; number of the request in its session; 0: the
 *                     connection itself (hello, and the error that ends it)
 *  24  flags    u32   FRAME_REPLY; unknown bits are refused
 *  28  crc      u32   crc32c of the header before it, the fields, and the data when there are at
 *                     most LIMIT_INLINE_BYTES_MAX (larger data has checksums of its own: store.def)
 *
 * Little-endian.  Everything before the crc has been verified is hostile. */
#ifndef WIRE_FRAME_H
#define WIRE_FRAME_H
#include "base/bytes.h"
#include "base/err.h"

enum { FRAME_MAGIC = 0x49444157 /* "WADI" */, FRAME_HEADER_BYTES = 32 };
enum frame_flags { FRAME_REPLY = 1 };
/* Cookies with this bit are no numbers of a session: requests that change nothing. */
#define FRAME_COOKIE_PLAIN (UINT64_C(1) << 63)

struct frame {
	uint32_t body_len, data_len, flags, crc;
	uint16_t op, version;
	uint64_t cookie;
};

/* Reads a header: 0, or E_CORRUPT (not ours, a length beyond its limit, an unknown flag, version
 * 0). */
int frame_get(const uint8_t from[FRAME_HEADER_BYTES], struct frame *ret_f);
/* Writes the header for body and data, whose bytes it covers; f->crc is filled in.  data is only
 * read when the checksum covers it. */
void frame_put(struct frame *f, const void *body, const void *data, uint8_t to[FRAME_HEADER_BYTES]);
/* True when the bytes are those that the header was made for.  data as above. */
int frame_verify(const struct frame *f, const uint8_t header[FRAME_HEADER_BYTES], const void *body,
	const void *data);
#endif
