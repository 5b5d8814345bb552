/* SPDX-License-Identifier: Apache-2.0 */
/* wire.h: structs and codecs made from messages.def.
 *
 * For each MSG(name): struct msg_name, enum value OP_name, and
 *   size_t msg_name_size(const struct msg_name *m, uint16_t version);         bytes the encoding takes
 *   bool   msg_name_put(struct writer *w, const struct msg_name *m, uint16_t version);
 *   int    msg_name_get(const void *from, size_t len, uint16_t version, struct msg_name *ret_m);
 *   void   msg_name_print(const struct msg_name *m, FILE *out);
 * For each SUB(name): struct sub_name, sub_name_size/put/get/print alike, and
 *   bool   sub_name_next(struct wire_list *l, struct sub_name *ret_s);        false at the end
 *
 * Decoding borrows: struct bytes and lists point into the frame and live as long as it does.  A list
 * is checked whole when its message is decoded, so walking it cannot fail.  A list to send is built
 * with a writer of the caller's (wire_list_begin, sub_name_put ..., wire_list_end). */
#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H
#include "base/bytes.h"
#include "base/err.h"
#include "wire/words.h"
#include <stdio.h>

struct wire_list { const uint8_t *p; uint32_t len, n; uint16_t version; };

struct wire_list_builder { struct writer w; uint8_t *start; uint32_t n; };
/* room stays the caller's until the message has been encoded. */
static inline struct wire_list_builder wire_list_begin(void *room, size_t len)
{
	return (struct wire_list_builder){ writer_of(room, len), room, 0 };
}
#endif
