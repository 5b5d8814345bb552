/* SPDX-License-Identifier: Apache-2.0 */
/* bytes.h: little- and big-endian numbers in byte strings, cursors that fail sticky, borrowed
 * byte ranges. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A borrowed range: owns nothing; valid as long as what it points into. */
struct bytes { const uint8_t *p; size_t len; };

#define BYTES(literal) ((struct bytes){ (const uint8_t *)(literal), sizeof(literal) - 1 })

static inline struct bytes bytes_of(const void *p, size_t len)
{
	return (struct bytes){ p, len };
}

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

/* Nothing but zeros; true of no bytes. */
static inline bool bytes_zero(const uint8_t *p, size_t len)
{
	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

static inline int bytes_compare(struct bytes a, struct bytes b)
{
	size_t n = a.len < b.len ? a.len : b.len;
	int d = n == 0 ? 0 : memcmp(a.p, b.p, n);

	return d != 0 ? d : (a.len > b.len) - (a.len < b.len);
}

#define BYTES_LE(bits) \
static inline uint##bits##_t le##bits(const void *p) \
{ \
	uint##bits##_t v; \
	memcpy(&v, p, sizeof v); \
	return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? v : __builtin_bswap##bits(v); \
} \
static inline void put_le##bits(void *p, uint##bits##_t v) \
{ \
	if (__BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__) \
		v = __builtin_bswap##bits(v); \
	memcpy(p, &v, sizeof v); \
}
BYTES_LE(16)
BYTES_LE(32)
BYTES_LE(64)
#undef BYTES_LE

/* Big-endian, for keys: byte order is number order. */
static inline uint64_t be64(const void *p) { return __builtin_bswap64(le64(p)); }
static inline void put_be64(void *p, uint64_t v) { put_le64(p, __builtin_bswap64(v)); }

/* Reading cursor: after the first short read ok is false and every later value is zero. */
struct reader { const uint8_t *p, *end; bool ok; };

static inline struct reader reader_of(const void *p, size_t len)
{
	return (struct reader){ p, (const uint8_t *)p + len, true };
}

static inline size_t reader_left(const struct reader *r) { return (size_t)(r->end - r->p); }

static inline const uint8_t *reader_take(struct reader *r, size_t n)
{
	const uint8_t *p = r->p;

	if (!r->ok || n > reader_left(r)) {
		r->ok = false;
		return NULL;
	}
	r->p += n;
	return p;
}

static inline uint8_t read_u8(struct reader *r)
{
	const uint8_t *p = reader_take(r, 1);

	return p != NULL ? *p : 0;
}

#define BYTES_READ(bits) \
static inline uint##bits##_t read_u##bits(struct reader *r) \
{ \
	const uint8_t *p = reader_take(r, bits / 8); \
	return p != NULL ? le##bits(p) : 0; \
}
BYTES_READ(16)
BYTES_READ(32)
BYTES_READ(64)
#undef BYTES_READ

/* Length (u32) and bytes, borrowed from the input; longer than max is a failed read. */
static inline struct bytes read_bytes(struct reader *r, size_t max)
{
	uint32_t len = read_u32(r);
	const uint8_t *p;

	if (len > max)
		r->ok = false;
	p = reader_take(r, len);
	return p != NULL ? bytes_of(p, len) : bytes_of(NULL, 0);
}

/* Writing cursor over room that the caller owns; running out is sticky too. */
struct writer { uint8_t *p, *end; bool ok; };

static inline struct writer writer_of(void *p, size_t room)
{
	return (struct writer){ p, (uint8_t *)p + room, true };
}

static inline uint8_t *writer_take(struct writer *w, size_t n)
{
	uint8_t *p = w->p;

	if (!w->ok || n > (size_t)(w->end - w->p)) {
		w->ok = false;
		return NULL;
	}
	w->p += n;
	return p;
}

static inline void write_u8(struct writer *w, uint8_t v)
{
	uint8_t *p = writer_take(w, 1);

	if (p != NULL)
		*p = v;
}

#define BYTES_WRITE(bits) \
static inline void write_u##bits(struct writer *w, uint##bits##_t v) \
{ \
	uint8_t *p = writer_take(w, bits / 8); \
	if (p != NULL) \
		put_le##bits(p, v); \
}
BYTES_WRITE(16)
BYTES_WRITE(32)
BYTES_WRITE(64)
#undef BYTES_WRITE

static inline void write_raw(struct writer *w, const void *from, size_t len)
{
	uint8_t *p = writer_take(w, len);

	if (p != NULL && len > 0)
		memcpy(p, from, len);
}

static inline void write_bytes(struct writer *w, struct bytes b)
{
	write_u32(w, (uint32_t)b.len);
	write_raw(w, b.p, b.len);
}
#endif
