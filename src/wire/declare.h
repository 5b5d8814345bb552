/* SPDX-License-Identifier: Apache-2.0 */
/* declare.h: structs, opcodes and prototypes from the rows of WIRE_DEF.  Included by wire.h, and by
 * tests for tables of their own.  WIRE_LINKAGE goes in front of each function. */
#include "wire/wire.h"
#ifdef WIRE_DEF

#define WIRE_TYPE_u8 uint8_t
#define WIRE_TYPE_u16 uint16_t
#define WIRE_TYPE_u32 uint32_t
#define WIRE_TYPE_u64 uint64_t

#define MSG(name_, op_, since_) struct msg_##name_ {
#define END(name_) };
#define SUB(name_) struct sub_##name_ {
#define END_SUB(name_) };
#define F(type_, field_, since_) WIRE_TYPE_##type_ field_;
#define B(field_, max_, since_) struct bytes field_;
#define S(field_, max_, since_) struct bytes field_;
#define L(part_, field_, max_, since_) struct wire_list field_;
#include WIRE_DEF
#include "wire/undef.h"

enum {
#define MSG(name_, op_, since_) OP_##name_ = (op_),
#define END(name_)
#define SUB(name_)
#define END_SUB(name_)
#define F(type_, field_, since_)
#define B(field_, max_, since_)
#define S(field_, max_, since_)
#define L(part_, field_, max_, since_)
#include WIRE_DEF
#include "wire/undef.h"
};

#define MSG(name_, op_, since_) \
WIRE_LINKAGE size_t msg_##name_##_size(const struct msg_##name_ *m, uint16_t version); \
WIRE_LINKAGE bool msg_##name_##_put(struct writer *w, const struct msg_##name_ *m, \
	uint16_t version); \
WIRE_LINKAGE int msg_##name_##_get(const void *from, size_t len, uint16_t version, \
	struct msg_##name_ *ret_m); \
WIRE_LINKAGE void msg_##name_##_print(const struct msg_##name_ *m, FILE *out);
#define SUB(name_) \
WIRE_LINKAGE size_t sub_##name_##_size(const struct sub_##name_ *m, uint16_t version); \
WIRE_LINKAGE bool sub_##name_##_put(struct writer *w, const struct sub_##name_ *m, \
	uint16_t version); \
WIRE_LINKAGE int sub_##name_##_get(const void *from, size_t len, uint16_t version, \
	struct sub_##name_ *ret_s); \
WIRE_LINKAGE void sub_##name_##_print(const struct sub_##name_ *m, FILE *out); \
WIRE_LINKAGE bool sub_##name_##_next(struct wire_list *l, struct sub_##name_ *ret_s); \
WIRE_LINKAGE bool sub_##name_##_add(struct wire_list_builder *b, const struct sub_##name_ *s);
#define END(name_)
#define END_SUB(name_)
#define F(type_, field_, since_)
#define B(field_, max_, since_)
#define S(field_, max_, since_)
#define L(part_, field_, max_, since_)
#include WIRE_DEF
#include "wire/undef.h"

#undef WIRE_DEF
#undef WIRE_LINKAGE
#endif
