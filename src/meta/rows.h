/* SPDX-License-Identifier: Apache-2.0 */
/* rows.h: structs and codecs made from rows.def.
 *
 * For each ROW(name): struct row_name, ROW_name_TABLE, ROW_name_KEY_MAX, ROW_name_VALUE_MAX and
 *   struct bytes row_name_key(const struct row_name *r, uint8_t to[ROW_name_KEY_MAX]);
 *   struct bytes row_name_put(const struct row_name *r, uint8_t to[ROW_name_VALUE_MAX]);
 *   int row_name_key_get(struct bytes key, struct row_name *ret_r);    fills the key's fields
 *   int row_name_get(struct bytes value, struct row_name *ret_r);      fills the value's fields
 *
 * Encoding cannot fail: a field beyond its maximum is a bug.  Decoding answers E_CORRUPT for
 * anything that an encoder of some version could not have made; ret_r is then undefined.  Bytes are
 * borrowed. */
#ifndef META_ROWS_H
#define META_ROWS_H
#include "base/bytes.h"
#include "base/err.h"

enum row_place {
	PLACE_NONE = 0,   /* a directory, or no bytes at all */
	PLACE_SLAB = 1,   /* this shard's memory: gone with the process */
	PLACE_ROW = 2,    /* in the inode's row */
	PLACE_PACKED = 3, /* in a packed row */
	PLACE_EXTENTS = 4, /* on storage servers: see the regions */
};

/* A number takes a length byte and up to eight more; encoders store eight at once: the slack. */
enum { ROW_NUMBER_MAX = 9, ROW_SLACK = 8 };
/* Of a durable file in its inode row; B(bytes) of inode. */
enum { ROW_INLINE_BYTES_MAX = 1000 };
/* An inode's value in the row of its name; B(file) of name. */
enum { ROW_FILE_BYTES_MAX = 1100 };
enum { ROW_u8_BYTES = 1, ROW_u16_BYTES = 2, ROW_u32_BYTES = 4, ROW_u64_BYTES = 8 };
typedef uint8_t row_u8;
typedef uint16_t row_u16;
typedef uint32_t row_u32;
typedef uint64_t row_u64;

#define ROW(name, table, version) struct row_##name {
#define K(field) uint64_t field;
#define KB(field, max) struct bytes field;
#define F(type, field, since) row_##type field;
#define V(field, since) uint64_t field;
#define B(field, max, since) struct bytes field;
#define END(name) };
#include "meta/rows.def"
#undef ROW
#undef K
#undef KB
#undef F
#undef V
#undef B
#undef END

#define ROW(name, table, version) \
	enum { ROW_##name##_TABLE = (table), ROW_##name##_KEY_MAX = 1 + ROW_SLACK
#define K(field) + ROW_NUMBER_MAX
#define KB(field, max) + (max)
#define F(type, field, since)
#define V(field, since)
#define B(field, max, since)
#define END(name) };
#include "meta/rows.def"
#undef ROW
#undef K
#undef KB
#undef F
#undef V
#undef B
#undef END

#define ROW(name, table, version) enum { ROW_##name##_VALUE_MAX = 1 + ROW_SLACK
#define K(field)
#define KB(field, max)
#define F(type, field, since) + ROW_##type##_BYTES
#define V(field, since) + ROW_NUMBER_MAX
#define B(field, max, since) + 2 + (max)
#define END(name) };
#include "meta/rows.def"
#undef ROW
#undef K
#undef KB
#undef F
#undef V
#undef B
#undef END

#define ROW(name, table, version) \
	struct bytes row_##name##_key(const struct row_##name *r, uint8_t *to); \
	struct bytes row_##name##_put(const struct row_##name *r, uint8_t *to); \
	int row_##name##_key_get(struct bytes key, struct row_##name *ret_r); \
	int row_##name##_get(struct bytes value, struct row_##name *ret_r);
#define K(field)
#define KB(field, max)
#define F(type, field, since)
#define V(field, since)
#define B(field, max, since)
#define END(name)
#include "meta/rows.def"
#undef ROW
#undef K
#undef KB
#undef F
#undef V
#undef B
#undef END

/* The keys of a table that begin with some numbers: from <= key < to. */
enum { ROW_RANGE_BYTES_MAX = 1 + 2 * ROW_NUMBER_MAX + ROW_SLACK };
struct row_range {
	uint8_t from_room[ROW_RANGE_BYTES_MAX], to_room[ROW_RANGE_BYTES_MAX];
	struct bytes from, to;
};
void row_range_table(struct row_range *r, uint8_t table);
void row_range_one(struct row_range *r, uint8_t table, uint64_t first);

/* The first key behind all that begin with prefix; to has room for prefix.len bytes.  prefix begins
 * with a table byte, so there is one. */
struct bytes row_prefix_end(struct bytes prefix, uint8_t *to);
#endif
