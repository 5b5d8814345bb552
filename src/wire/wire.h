/* SPDX-License-Identifier: Apache-2.0 */
/* wire.h: structs and codecs made from messages.def.
 *
 * For each MSG(name): struct msg_name, enum value OP_name, and
 *   size_t msg_name_size(const struct msg_name *m, uint16_t version);         bytes of the encoding
 *   bool   msg_name_put(struct writer *w, const struct msg_name *m, uint16_t version);
 *   int    msg_name_get(const void *from, size_t len, uint16_t version, struct msg_name *ret_m);
 *   void   msg_name_print(const struct msg_name *m, FILE *out);
 * For each SUB(name): struct sub_name, sub_name_size/put/get/print alike, and
 *   bool   sub_name_next(struct wire_list *l, struct sub_name *ret_s);        false at the end
 *   bool   sub_name_add(struct wire_list_builder *b, const struct sub_name *s);
 *
 * version is that of the encoding: the one agreed with the peer, for get the one in the frame.  put
 * writes nothing and the writer turns bad when there is no room, when bytes or a list exceed their
 * row's maximum, or when a list was built for another version.  get returns 0 or E_CORRUPT, and
 * skips trailing bytes only when the version is newer than ours.
 *
 * Decoding borrows: struct bytes and lists point into the frame and live as long as it does.  A
 * list is checked whole when its message is decoded, with the lists inside it, so walking it cannot
 * fail.  A list to send is built with a writer of the caller's:
 *
 *   struct wire_list_builder b = wire_list_begin(room, sizeof room, version);
 *   while (...)
 *           if (!sub_name_add(&b, &s))     no room left: the list stays as it was
 *                   break;
 *   m.field = wire_list_end(&b); */
#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H
#include "base/bytes.h"
#include "base/err.h"
#include "wire/words.h"
#include <stdio.h>

enum { WIRE_VERSION = 2, WIRE_OPS_MAX = 256 /* opcodes are below */ };

/* n encoded SUBs, len bytes in all.  All zero is an empty list. */
struct wire_list { const uint8_t *p; uint32_t len, n; uint16_t version; };

struct wire_list_builder { struct writer w; uint8_t *start; uint32_t n; uint16_t version; };
/* room stays the caller's until the message has been encoded. */
static inline struct wire_list_builder wire_list_begin(void *room, size_t len, uint16_t version)
{
	return (struct wire_list_builder){ writer_of(room, len), room, 0, version };
}

static inline struct wire_list wire_list_end(const struct wire_list_builder *b)
{
	return (struct wire_list){ b->start, (uint32_t)(b->w.p - b->start), b->n, b->version };
}

/* ---- messages as data: for printing captures, for rpc, for tests that fill every field ---- */
enum wire_kind { WIRE_NUMBER, WIRE_BYTES, WIRE_SECRET, WIRE_LIST };
struct wire_field {
	const char *name;
	enum wire_kind kind;
	uint16_t since;
	uint32_t max;              /* number: its bytes; bytes: most bytes; list: most parts */
	uint32_t offset;           /* in the struct */
	const struct wire_sub *sub; /* of a list */
};
struct wire_sub {
	const char *name;
	uint32_t struct_bytes;
	const struct wire_field *(*fields)(uint32_t *ret_n);
	bool (*next)(struct wire_list *l, void *ret_s);
	bool (*add)(struct wire_list_builder *b, const void *s);
};
struct wire_op {
	const char *name;
	uint16_t op, since;
	uint32_t struct_bytes;     /* may be 0 */
	const struct wire_field *(*fields)(uint32_t *ret_n);
	size_t (*size)(const void *m, uint16_t version);
	bool (*put)(struct writer *w, const void *m, uint16_t version);
	int (*get)(const void *from, size_t len, uint16_t version, void *ret_m);
};
const struct wire_op *wire_op(uint16_t op); /* NULL when there is no such message */
const char *wire_op_name(uint16_t op);      /* "?" when there is none */
/* "name field=1 other="text" secret=<32 bytes> list=[{...} {...}]", without a newline. */
void wire_print(const struct wire_op *op, const void *m, FILE *out);
void wire_print_fields(const struct wire_field *fields, uint32_t n, const void *m, FILE *out);

#define WIRE_DEF "wire/messages.def"
#define WIRE_LINKAGE
#include "wire/declare.h"
#endif
