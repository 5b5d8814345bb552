/* SPDX-License-Identifier: Apache-2.0 */
/* define.h: the bodies of what declare.h declares, from the rows of WIRE_DEF; to be included once
 * per table, behind the declarations.  WIRE_OURS is the newest version that the table knows.
 *
 * Decoding counts instead of comparing: on entry the fixed part of all fields is set aside, and
 * `left` holds the bytes beyond it.
 *  I1  The bytes behind p are exactly the fixed parts of the fields to come, plus left.
 * So a number needs no comparison at all, and a byte string only takes its length from left.
 * Encoding computes the whole size first and then stores without looking at the end. */
#include "base/check.h"
#include "wire/wire.h"
#ifdef WIRE_DEF

#define WIRE_KNOWS(since_) ((since_) <= 1 || version >= (since_))

#define WIRE_LOAD_u8(p_) (*(p_))
#define WIRE_LOAD_u16(p_) le16(p_)
#define WIRE_LOAD_u32(p_) le32(p_)
#define WIRE_LOAD_u64(p_) le64(p_)
#define WIRE_STORE_u8(p_, v_) (*(p_) = (v_))
#define WIRE_STORE_u16(p_, v_) put_le16(p_, v_)
#define WIRE_STORE_u32(p_, v_) put_le32(p_, v_)
#define WIRE_STORE_u64(p_, v_) put_le64(p_, v_)

enum { WIRE_BYTES_FIXED = 4, WIRE_LIST_FIXED = 8 };

/* ---- bytes of the fixed parts ---- */
#define WIRE_FIXED(what_) static inline size_t what_##_fixed(uint16_t version) { return 0
#define MSG(name_, op_, since_) WIRE_FIXED(msg_##name_)
#define SUB(name_) WIRE_FIXED(sub_##name_)
#define END(name_) + 0 * version; }
#define END_SUB(name_) + 0 * version; }
#define F(type_, field_, since_) + (WIRE_KNOWS(since_) ? sizeof(WIRE_TYPE_##type_) : 0)
#define B(field_, max_, since_) + (WIRE_KNOWS(since_) ? WIRE_BYTES_FIXED : 0)
#define S(field_, max_, since_) B(field_, max_, since_)
#define L(part_, field_, max_, since_) + (WIRE_KNOWS(since_) ? WIRE_LIST_FIXED : 0)
#include WIRE_DEF
#include "wire/undef.h"
#undef WIRE_FIXED

/* ---- size ---- */
#define WIRE_SIZE(what_) \
WIRE_LINKAGE size_t what_##_size(const struct what_ *m, uint16_t version) \
{ \
	(void)m; \
	return what_##_fixed(version)
#define MSG(name_, op_, since_) WIRE_SIZE(msg_##name_)
#define SUB(name_) WIRE_SIZE(sub_##name_)
#define END(name_) ; }
#define END_SUB(name_) ; }
#define F(type_, field_, since_)
#define B(field_, max_, since_) + (WIRE_KNOWS(since_) ? m->field_.len : 0)
#define S(field_, max_, since_) B(field_, max_, since_)
#define L(part_, field_, max_, since_) B(field_, max_, since_)
#include WIRE_DEF
#include "wire/undef.h"
#undef WIRE_SIZE

/* ---- put ---- */
#define WIRE_FITS(what_) \
static inline bool what_##_fits(const struct what_ *m, uint16_t version) \
{ \
	(void)m; \
	(void)version; \
	return true
#define MSG(name_, op_, since_) WIRE_FITS(msg_##name_)
#define SUB(name_) WIRE_FITS(sub_##name_)
#define END(name_) ; }
#define END_SUB(name_) ; }
#define F(type_, field_, since_)
#define B(field_, max_, since_) && m->field_.len <= (max_)
#define S(field_, max_, since_) B(field_, max_, since_)
#define L(part_, field_, max_, since_) \
	&& m->field_.n <= (max_) && (m->field_.n == 0 || m->field_.version == version)
#include WIRE_DEF
#include "wire/undef.h"
#undef WIRE_FITS

#define WIRE_PUT(what_) \
WIRE_LINKAGE bool what_##_put(struct writer *w, const struct what_ *m, uint16_t version) \
{ \
	uint8_t *p = NULL; \
\
	if (what_##_fits(m, version)) \
		p = writer_take(w, what_##_size(m, version)); \
	if (p == NULL) \
		return w->ok = false;
#define WIRE_PUT_END \
	check(p == w->p); \
	return true; \
}
#define MSG(name_, op_, since_) WIRE_PUT(msg_##name_)
#define SUB(name_) WIRE_PUT(sub_##name_)
#define END(name_) WIRE_PUT_END
#define END_SUB(name_) WIRE_PUT_END
#define F(type_, field_, since_) \
	if (WIRE_KNOWS(since_)) { \
		WIRE_STORE_##type_(p, m->field_); \
		p += sizeof m->field_; \
	}
#define B(field_, max_, since_) \
	if (WIRE_KNOWS(since_)) { \
		put_le32(p, (uint32_t)m->field_.len); \
		if (m->field_.len > 0) \
			memcpy(p + WIRE_BYTES_FIXED, m->field_.p, m->field_.len); \
		p += WIRE_BYTES_FIXED + m->field_.len; \
	}
#define S(field_, max_, since_) B(field_, max_, since_)
#define L(part_, field_, max_, since_) \
	if (WIRE_KNOWS(since_)) { \
		put_le32(p, m->field_.n); \
		put_le32(p + 4, m->field_.len); \
		if (m->field_.len > 0) \
			memcpy(p + WIRE_LIST_FIXED, m->field_.p, m->field_.len); \
		p += WIRE_LIST_FIXED + m->field_.len; \
	}
#include WIRE_DEF
#include "wire/undef.h"
#undef WIRE_PUT
#undef WIRE_PUT_END

/* ---- get ----
 * A SUB is read at a cursor and returns where it ends, NULL when the bytes are bad; a list holds as
 * many as it says and nothing else.  A MSG ends where its frame's body does.  The struct is filled
 * at the end only, so that a failure leaves the caller's alone. */
#define F(type_, field_, since_) \
	if (WIRE_KNOWS(since_)) { \
		m.field_ = WIRE_LOAD_##type_(p); \
		p += sizeof m.field_; \
	} else { \
		m.field_ = 0; \
	}
#define B(field_, max_, since_) \
	m.field_ = bytes_of(NULL, 0); \
	if (WIRE_KNOWS(since_)) { \
		uint32_t n = le32(p); \
\
		p += WIRE_BYTES_FIXED; \
		if (n > (max_) || n > left) \
			return bad; \
		m.field_ = bytes_of(p, n); \
		p += n; \
		left -= n; \
	}
#define S(field_, max_, since_) B(field_, max_, since_)
#define L(part_, field_, max_, since_) \
	m.field_ = (struct wire_list){ NULL, 0, 0, version }; \
	if (WIRE_KNOWS(since_)) { \
		uint32_t n = le32(p), bytes = le32(p + 4); \
\
		p += WIRE_LIST_FIXED; \
		if (n > (max_) || bytes > left || !sub_##part_##_list(p, bytes, n, version)) \
			return bad; \
		m.field_ = (struct wire_list){ p, bytes, n, version }; \
		p += bytes; \
		left -= bytes; \
	}
#define SUB(name_) \
static const uint8_t *sub_##name_##_read(const uint8_t *p, size_t len, uint16_t version, \
	struct sub_##name_ *ret_s) \
{ \
	const uint8_t *const bad = NULL; \
	size_t left = len - sub_##name_##_fixed(version); \
	struct sub_##name_ m; \
\
	if (len < sub_##name_##_fixed(version)) \
		return bad;
#define END_SUB(name_) \
	(void)left; \
	*ret_s = m; \
	return p; \
} \
__attribute__((unused)) \
static bool sub_##name_##_list(const uint8_t *p, size_t len, uint32_t n, uint16_t version) \
{ \
	const uint8_t *const end = p + len; \
	struct sub_##name_ s; \
\
	for (; n > 0; n--) \
		if ((p = sub_##name_##_read(p, (size_t)(end - p), version, &s)) == NULL) \
			return false; \
	return p == end; \
} \
WIRE_LINKAGE int sub_##name_##_get(const void *from, size_t len, uint16_t version, \
	struct sub_##name_ *ret_s) \
{ \
	const uint8_t *p = from; \
	struct sub_##name_ m = { 0 }; \
\
	if (sub_##name_##_read(p, len, version, &m) != p + len) \
		return E_CORRUPT; \
	*ret_s = m; \
	return 0; \
} \
WIRE_LINKAGE bool sub_##name_##_next(struct wire_list *l, struct sub_##name_ *ret_s) \
{ \
	const uint8_t *end; \
\
	if (l->n == 0) \
		return false; \
	end = sub_##name_##_read(l->p, l->len, l->version, ret_s); \
	check(end != NULL); /* checked when its message was decoded */ \
	l->len -= (uint32_t)(end - l->p); \
	l->p = end; \
	l->n--; \
	return true; \
} \
WIRE_LINKAGE bool sub_##name_##_add(struct wire_list_builder *b, const struct sub_##name_ *s) \
{ \
	struct writer w = b->w; /* its copy turns bad, so that the list stays as it was */ \
\
	if (!sub_##name_##_put(&w, s, b->version)) \
		return false; \
	b->w = w; \
	b->n++; \
	return true; \
}
#define MSG(name_, op_, since_) \
WIRE_LINKAGE int msg_##name_##_get(const void *from, size_t len, uint16_t version, \
	struct msg_##name_ *ret_m) \
{ \
	enum { bad = E_CORRUPT }; \
	size_t left = len - msg_##name_##_fixed(version); \
	struct msg_##name_ m = { }; \
	const uint8_t *p = from; \
\
	if (len < msg_##name_##_fixed(version)) \
		return bad;
#define END(name_) \
	(void)p; \
	if (left > 0 && version <= WIRE_OURS) \
		return bad; \
	*ret_m = m; \
	return 0; \
}
#include WIRE_DEF
#include "wire/undef.h"

/* ---- messages as data ---- */
#define WIRE_FIELDS(what_) \
static const struct wire_field *what_##_fields(uint32_t *ret_n) \
{ \
	const struct what_ *m = NULL; \
	static const struct wire_field fields[] = {
#define WIRE_FIELDS_END \
		{ NULL, WIRE_NUMBER, 0, 0, 0, NULL } \
	}; \
\
	(void)m; \
	*ret_n = sizeof fields / sizeof fields[0] - 1; \
	return fields; \
}
#define WIRE_ROW(field_) .name = #field_, .offset = offsetof(__typeof__(*m), field_)
#define MSG(name_, op_, since_) WIRE_FIELDS(msg_##name_)
#define END(name_) WIRE_FIELDS_END \
WIRE_LINKAGE void msg_##name_##_print(const struct msg_##name_ *m, FILE *out) \
{ \
	uint32_t n; \
	const struct wire_field *fields = msg_##name_##_fields(&n); \
\
	fputs(#name_, out); \
	wire_print_fields(fields, n, m, out); \
} \
static size_t any_##name_##_size(const void *m, uint16_t version) \
{ \
	return msg_##name_##_size(m, version); \
} \
static bool any_##name_##_put(struct writer *w, const void *m, uint16_t version) \
{ \
	return msg_##name_##_put(w, m, version); \
} \
static int any_##name_##_get(const void *from, size_t len, uint16_t version, void *ret_m) \
{ \
	return msg_##name_##_get(from, len, version, ret_m); \
}
#define SUB(name_) WIRE_FIELDS(sub_##name_)
#define END_SUB(name_) WIRE_FIELDS_END \
WIRE_LINKAGE void sub_##name_##_print(const struct sub_##name_ *m, FILE *out) \
{ \
	uint32_t n; \
	const struct wire_field *fields = sub_##name_##_fields(&n); \
\
	fputs(#name_, out); \
	wire_print_fields(fields, n, m, out); \
} \
static bool any_##name_##_next(struct wire_list *l, void *ret_s) \
{ \
	return sub_##name_##_next(l, ret_s); \
} \
static bool any_##name_##_add(struct wire_list_builder *b, const void *s) \
{ \
	return sub_##name_##_add(b, s); \
} \
__attribute__((unused)) static const struct wire_sub sub_##name_##_row = { \
	#name_, sizeof(struct sub_##name_), sub_##name_##_fields, any_##name_##_next, \
	any_##name_##_add, \
};
#define F(type_, field_, since_) \
	{ WIRE_ROW(field_), .since = (since_), .max = sizeof m->field_, .kind = WIRE_NUMBER },
#define B(field_, max_, since_) \
	{ WIRE_ROW(field_), .since = (since_), .max = (max_), .kind = WIRE_BYTES },
#define S(field_, max_, since_) \
	{ WIRE_ROW(field_), .since = (since_), .max = (max_), .kind = WIRE_SECRET },
#define L(part_, field_, max_, since_) \
	{ WIRE_ROW(field_), .since = (since_), .max = (max_), .kind = WIRE_LIST, \
		.sub = &sub_##part_##_row },
#include WIRE_DEF
#include "wire/undef.h"
#undef WIRE_FIELDS
#undef WIRE_FIELDS_END
#undef WIRE_ROW

#define F(type_, field_, since_)
#define B(field_, max_, since_)
#define S(field_, max_, since_)
#define L(part_, field_, max_, since_)
#define SUB(name_)
#define END_SUB(name_)
#define END(name_)
#define MSG(name_, op_, since_) \
	_Static_assert((op_) > 0 && (op_) < WIRE_OPS_MAX, "opcode of " #name_); \
	_Static_assert((since_) >= 1 && (since_) <= WIRE_OURS, "version of " #name_);
#include WIRE_DEF
#undef MSG

/* A switch, because two rows with one opcode do not compile. */
WIRE_LINKAGE const struct wire_op *WIRE_OP(uint16_t op)
{
#define MSG(name_, op_, since_) \
	static const struct wire_op name_##_row = { \
		#name_, (op_), (since_), sizeof(struct msg_##name_), msg_##name_##_fields, \
		any_##name_##_size, any_##name_##_put, any_##name_##_get, \
	};
#include WIRE_DEF
#undef MSG

	switch (op) {
#define MSG(name_, op_, since_) case (op_): return &name_##_row;
#include WIRE_DEF
#include "wire/undef.h"
	default: return NULL;
	}
}

#undef WIRE_DEF
#undef WIRE_LINKAGE
#undef WIRE_OURS
#undef WIRE_OP
#endif
