/* SPDX-License-Identifier: Apache-2.0 */
#include "meta/rows.h"
#include "base/check.h"

static uint8_t *put_number(uint8_t *p, uint64_t v)
{
	unsigned n = v == 0 ? 0 : (71 - (unsigned)__builtin_clzll(v)) / 8;

	*p++ = (uint8_t)n;
	if (n > 0)
		put_be64(p, v << (64 - 8 * n)); /* writes eight, keeps n: see ROW_SLACK */
	return p + n;
}

static uint64_t get_number(struct reader *r)
{
	unsigned n = read_u8(r);
	const uint8_t *p;
	uint64_t v = 0;

	if (n == 0)
		return 0;
	if (n > 8) {
		r->ok = false;
		return 0;
	}
	p = reader_take(r, n);
	if (p == NULL)
		return 0;
	if (p[0] == 0) /* two codings of one number would be two keys */
		r->ok = false;
	if (r->end - p >= 8)
		return be64(p) >> (64 - 8 * n);
	for (unsigned i = 0; i < n; i++)
		v = v << 8 | p[i];
	return v;
}

static uint8_t *put_rest(uint8_t *p, struct bytes b, size_t max)
{
	check(b.len <= max);
	if (b.len > 0)
		memcpy(p, b.p, b.len);
	return p + b.len;
}

static struct bytes get_rest(struct reader *r, size_t max)
{
	size_t len = reader_left(r);
	const uint8_t *p;

	if (len > max)
		r->ok = false;
	p = reader_take(r, len);
	return p != NULL ? bytes_of(p, len) : bytes_of(NULL, 0);
}

static struct bytes get_bytes(struct reader *r, size_t max)
{
	uint16_t len = read_u16(r);
	const uint8_t *p;

	if (len > max)
		r->ok = false;
	p = reader_take(r, len);
	return p != NULL ? bytes_of(p, len) : bytes_of(NULL, 0);
}

static uint8_t *put_bytes(uint8_t *p, struct bytes b, size_t max)
{
	put_le16(p, (uint16_t)b.len);
	return put_rest(p + 2, b, max);
}

static uint8_t *put_u8(uint8_t *p, uint8_t v)
{
	*p = v;
	return p + 1;
}

static uint8_t *put_u16(uint8_t *p, uint16_t v)
{
	put_le16(p, v);
	return p + 2;
}

static uint8_t *put_u32(uint8_t *p, uint32_t v)
{
	put_le32(p, v);
	return p + 4;
}

static uint8_t *put_u64(uint8_t *p, uint64_t v)
{
	put_le64(p, v);
	return p + 8;
}

#define ROW(name, table, version) \
struct bytes row_##name##_key(const struct row_##name *r, uint8_t *to) \
{ \
	uint8_t *p = to; \
	*p++ = (table);
#define K(field) p = put_number(p, r->field);
#define KB(field, max) p = put_rest(p, r->field, (max));
#define F(type, field, since)
#define V(field, since)
#define B(field, max, since)
#define END(name) \
	return bytes_of(to, (size_t)(p - to)); \
}
#include "meta/rows.def"
#undef ROW
#undef K
#undef KB
#undef F
#undef V
#undef B
#undef END

#define ROW(name, table, version) \
int row_##name##_key_get(struct bytes key, struct row_##name *ret_r) \
{ \
	struct reader r = reader_of(key.p, key.len); \
	if (read_u8(&r) != (table)) \
		return E_CORRUPT;
#define K(field) ret_r->field = get_number(&r);
#define KB(field, max) ret_r->field = get_rest(&r, (max));
#define F(type, field, since)
#define V(field, since)
#define B(field, max, since)
#define END(name) \
	return r.ok && r.p == r.end ? 0 : E_CORRUPT; \
}
#include "meta/rows.def"
#undef ROW
#undef K
#undef KB
#undef F
#undef V
#undef B
#undef END

#define ROW(name, table, version) \
struct bytes row_##name##_put(const struct row_##name *r, uint8_t *to) \
{ \
	uint8_t *p = to; \
	*p++ = (version);
#define K(field)
#define KB(field, max)
#define F(type, field, since) p = put_##type(p, r->field);
#define V(field, since) p = put_number(p, r->field);
#define B(field, max, since) p = put_bytes(p, r->field, (max));
#define END(name) \
	return bytes_of(to, (size_t)(p - to)); \
}
#include "meta/rows.def"
#undef ROW
#undef K
#undef KB
#undef F
#undef V
#undef B
#undef END

#define ROW(name, table, version) \
int row_##name##_get(struct bytes value, struct row_##name *ret_r) \
{ \
	struct reader r = reader_of(value.p, value.len); \
	const uint8_t now = (version), v = read_u8(&r); \
	if (v == 0) \
		return E_CORRUPT;
#define K(field)
#define KB(field, max)
#define F(type, field, since) ret_r->field = v >= (since) ? read_##type(&r) : 0;
#define V(field, since) ret_r->field = v >= (since) ? get_number(&r) : 0;
#define B(field, max, since) ret_r->field = v >= (since) ? get_bytes(&r, (max)) : bytes_of(NULL, 0);
#define END(name) \
	return r.ok && (r.p == r.end || v > now) ? 0 : E_CORRUPT; \
}
#include "meta/rows.def"
#undef ROW
#undef K
#undef KB
#undef F
#undef V
#undef B
#undef END

struct bytes row_prefix_end(struct bytes prefix, uint8_t *to)
{
	size_t len = prefix.len;

	check(len > 0);
	memmove(to, prefix.p, len); /* may be the same room */
	while (to[len - 1] == 0xff) {
		len--;
		check(len > 0);
	}
	to[len - 1]++;
	return bytes_of(to, len);
}

void row_range_table(struct row_range *r, uint8_t table)
{
	r->from_room[0] = table;
	r->from = bytes_of(r->from_room, 1);
	r->to = row_prefix_end(r->from, r->to_room);
}

void row_range_one(struct row_range *r, uint8_t table, uint64_t first)
{
	uint8_t *p = r->from_room;

	*p++ = table;
	p = put_number(p, first);
	r->from = bytes_of(r->from_room, (size_t)(p - r->from_room));
	r->to = row_prefix_end(r->from, r->to_room);
}
