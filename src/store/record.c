/* SPDX-License-Identifier: Apache-2.0 */
/* The header of an extent in a file; the table in README.md says what stands where. */
#include "base/hash.h"
#include "store/own.h"

enum {
	AT_HASH = 8,
	AT_VERSION = 16,
	AT_HEADER_BYTES = 20,
	AT_EGROUP = 24,
	AT_EXTENT = 32,
	AT_JOB = 40,
	AT_OFFSET = 48,
	AT_LEN = 56,
	AT_ROOT = 64,
	AT_N_SUMS = 68,
	AT_FLAGS = 72,
	AT_SUMS = RECORD_FIELDS_BYTES,
	VERSION = 1,
	FLAG_SYNCED = 1,
	HEADER_BYTES_MAX = 2 * SYS_BLOCK,
};
static const char magic[8] = { 'W', 'A', 'D', 'I', 'E', 'X', 'T', '1' };
_Static_assert((int)AT_FLAGS + 4 <= (int)AT_SUMS, "the fields end before the sums");
_Static_assert(AT_SUMS + LIMIT_EXTENT_FILE_BYTES_MAX / LIMIT_BLOCK_BYTES * 4 <= HEADER_BYTES_MAX,
	"the longest extent's sums fit");

/* A header is only good where it was written. */
static uint64_t hash_of(const uint8_t *header, size_t len, uint64_t egroup, uint64_t offset)
{
	uint8_t place[16];

	put_le64(place, egroup);
	put_le64(place + 8, offset);
	return hash64(hash64(0, place, sizeof place), header + AT_VERSION, len - AT_VERSION);
}

void volume_record_put(const struct record *r, const uint32_t *sums, uint8_t *to)
{
	check(r->n_sums == sums_count(r->len));
	check(r->header_bytes <= HEADER_BYTES_MAX);
	check(AT_SUMS + r->n_sums * sizeof *sums <= r->header_bytes);
	memset(to, 0, r->header_bytes);
	memcpy(to, magic, sizeof magic);
	put_le32(to + AT_VERSION, VERSION);
	put_le32(to + AT_HEADER_BYTES, r->header_bytes);
	put_le64(to + AT_EGROUP, r->egroup);
	put_le64(to + AT_EXTENT, r->extent);
	put_le64(to + AT_JOB, r->job);
	put_le64(to + AT_OFFSET, r->offset);
	put_le64(to + AT_LEN, r->len);
	put_le32(to + AT_ROOT, r->root);
	put_le32(to + AT_N_SUMS, r->n_sums);
	put_le32(to + AT_FLAGS, r->synced ? FLAG_SYNCED : 0);
	sums_put(to + AT_SUMS, sums, r->n_sums);
	put_le64(to + AT_HASH, hash_of(to, r->header_bytes, r->egroup, r->offset));
}

uint32_t record_header_bytes(const uint8_t *from, uint64_t egroup, uint64_t offset)
{
	uint32_t bytes = le32(from + AT_HEADER_BYTES);

	if (memcmp(from, magic, sizeof magic) != 0 || le32(from + AT_VERSION) != VERSION)
		return 0;
	if (le64(from + AT_EGROUP) != egroup || le64(from + AT_OFFSET) != offset)
		return 0;
	if (bytes == 0 || bytes > HEADER_BYTES_MAX || bytes % SYS_BLOCK != 0)
		return 0;
	return bytes;
}

int volume_record_get(const uint8_t *from, size_t header_bytes, uint64_t egroup, uint64_t offset,
	struct record *ret_r, uint32_t *ret_sums)
{
	struct record r = { .egroup = egroup, .offset = offset };

	r.header_bytes = record_header_bytes(from, egroup, offset);
	if (r.header_bytes == 0 || r.header_bytes != header_bytes)
		return E_CORRUPT;
	if (le64(from + AT_HASH) != hash_of(from, header_bytes, egroup, offset))
		return E_CORRUPT;
	r.extent = le64(from + AT_EXTENT);
	r.job = le64(from + AT_JOB);
	r.len = le64(from + AT_LEN);
	r.root = le32(from + AT_ROOT);
	r.n_sums = le32(from + AT_N_SUMS);
	r.synced = (le32(from + AT_FLAGS) & FLAG_SYNCED) != 0;
	/* The hash is no proof against a hostile disk: nothing here may lead out of bounds. */
	if (r.len == 0 || r.len > LIMIT_EXTENT_FILE_BYTES_MAX || r.n_sums != sums_count(r.len))
		return E_CORRUPT;
	if (room_header(TIER_FLASH, r.len) != header_bytes || r.extent == 0)
		return E_CORRUPT;
	if (ret_sums != NULL)
		sums_get(ret_sums, from + AT_SUMS, r.n_sums);
	*ret_r = r;
	return 0;
}
