/* SPDX-License-Identifier: Apache-2.0 */
/* A row of the shard's tables: u8 which, u16 key length, key, value.  What decodes is encoded
 * again, and that decodes to the same bytes; a key has one coding only. */
#include "base/check.h"
#include "fuzz/fuzz.h"
#include "meta/rows.h"

#define ROW(name, table, version) \
static void try_##name(struct bytes key, struct bytes value) \
{ \
	static uint8_t first[ROW_##name##_KEY_MAX + ROW_##name##_VALUE_MAX]; \
	static uint8_t second[ROW_##name##_KEY_MAX + ROW_##name##_VALUE_MAX]; \
	struct row_##name r, again; \
	struct bytes a, b; \
	if (row_##name##_key_get(key, &r) == 0) { \
		a = row_##name##_key(&r, first); \
		check(row_##name##_key_get(a, &again) == 0); \
		b = row_##name##_key(&again, second); \
		check(bytes_equal(a, key)); \
		check(bytes_equal(a, b)); \
	} \
	if (row_##name##_get(value, &r) == 0) { \
		a = row_##name##_put(&r, first); \
		check(row_##name##_get(a, &again) == 0); \
		b = row_##name##_put(&again, second); \
		check(bytes_equal(a, b)); \
	} \
}
#define K(field)
#define KB(field, max)
#define F(type, field, since)
#define V(field, since)
#define B(field, max, since)
#define END(name)
#include "meta/rows.def"
#undef ROW

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len)
{
	struct reader r = reader_of(p, len);
	uint8_t which = read_u8(&r), n = 0;
	uint16_t key_len = read_u16(&r);
	const uint8_t *k = reader_take(&r, key_len);
	struct bytes key = bytes_of(k, key_len);
	struct bytes value;

	if (!r.ok)
		return 0;
	value = bytes_of(r.p, reader_left(&r));
#define ROW(name, table, version) \
	if (n++ == which) \
		try_##name(key, value);
#include "meta/rows.def"
	return 0;
}
