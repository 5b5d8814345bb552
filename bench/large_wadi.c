/* SPDX-License-Identifier: Apache-2.0 */
/* large_wadi.c: extents to and from a storage server.
 *
 * Sums are prebuilt like everything else: a block's sum is affine in the checksum of (extent,
 * block) that it begins with, so the value's own part is computed once and the rest by four
 * look-ups. */
#include "base/check.h"
#include "base/hash.h"
#include "base/prng.h"
#include "base/sums.h"
#include "bench/large.h"
#include "bench/ask.h"
#include "wire/frame.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM_BYTES = 256 << 10, PARTS = 64, GRANT_OBJECTS = 32 };

struct client {
	struct bench *b;
	int meta, store;
	uint64_t number, store_number;
	char store_addr[256];
	struct sub_grant_part parts[PARTS];
	uint8_t caps[PARTS][64];
	uint32_t n_parts, part_i, used_ids;
	uint64_t used_bytes;
	uint8_t *room, *value;
	uint32_t *own, *sums; /* own: of the value's blocks alone */
	uint32_t shift[4][256];
};

/* shift[k][byte]: what a byte of the first checksum adds to that of a whole block behind it. */
static void prepare_sums(struct client *c)
{
	static const uint8_t zeros[LIMIT_BLOCK_BYTES];
	uint32_t nothing = crc32c(0, zeros, sizeof zeros);
	size_t n = sums_count(c->b->o.value_bytes);

	for (unsigned k = 0; k < 4; k++)
		for (unsigned byte = 0; byte < 256; byte++)
			c->shift[k][byte] =
				crc32c(byte << (8 * k), zeros, sizeof zeros) ^ nothing;
	for (size_t i = 0; i < n; i++)
		c->own[i] = crc32c(0, c->b->value + i * LIMIT_BLOCK_BYTES, LIMIT_BLOCK_BYTES);
}

static uint32_t root_of(struct client *c, uint64_t extent)
{
	size_t n = sums_count(c->b->o.value_bytes);

	for (size_t i = 0; i < n; i++) {
		uint8_t place[16];
		uint32_t s;

		put_le64(place, extent);
		put_le64(place + 8, i);
		s = crc32c(0, place, sizeof place);
		c->sums[i] = c->own[i] ^ c->shift[0][s & 255] ^ c->shift[1][(s >> 8) & 255] ^
			c->shift[2][(s >> 16) & 255] ^ c->shift[3][s >> 24];
	}
	return sums_root(c->sums, n);
}

static int ask(struct client *c, uint16_t op, const void *msg, uint16_t reply_op, void *ret_reply)
{
	if (wadi_send(c->meta, op, ++c->number, msg, bytes_of(NULL, 0)) < 0)
		return -1;
	return wadi_recv(c->meta, reply_op, wire_op_name(op), c->room, ROOM_BYTES, ret_reply,
		NULL, 0);
}

static int go_to_store(struct client *c, struct wire_list servers)
{
	struct sub_server_addr s;
	char addr[256];

	if (!sub_server_addr_next(&servers, &s) || s.addr.len <= 4 || s.addr.len >= sizeof addr)
		return fprintf(stderr, "wadi-bench: no storage server on TCP\n"), -1;
	snprintf(addr, sizeof addr, "%.*s", (int)s.addr.len - 4, (const char *)s.addr.p + 4);
	if (c->store >= 0 && strcmp(addr, c->store_addr) == 0)
		return 0;
	if (c->store >= 0)
		hang_up(c->store);
	memcpy(c->store_addr, addr, sizeof addr);
	c->store = dial(addr);
	return c->store < 0 ? -1 : wadi_hello(c->store, wadi_client_id(), NULL);
}

static int grant(struct client *c)
{
	struct msg_grant m = { .bucket = c->b->bucket,
		.bytes = GRANT_OBJECTS * c->b->o.value_bytes };
	struct msg_grant_ok ok;

	if (ask(c, OP_grant, &m, OP_grant_ok, &ok) < 0 || go_to_store(c, ok.servers) < 0)
		return -1;
	c->n_parts = c->part_i = c->used_ids = 0;
	c->used_bytes = 0;
	while (c->n_parts < PARTS && sub_grant_part_next(&ok.parts, &c->parts[c->n_parts])) {
		struct sub_grant_part *p = &c->parts[c->n_parts];

		if (p->extent_bytes_max < c->b->o.value_bytes || p->cap.len > 64)
			continue;
		memcpy(c->caps[c->n_parts], p->cap.p, p->cap.len); /* borrowed from room */
		p->cap.p = c->caps[c->n_parts++];
	}
	return c->n_parts > 0 ? 0 : -1;
}

/* The part of a grant that the next extent goes to. */
static struct sub_grant_part *next_part(struct client *c)
{
	for (int tries = 0; tries < 2; tries++) {
		for (; c->part_i < c->n_parts; c->part_i++, c->used_ids = 0, c->used_bytes = 0) {
			struct sub_grant_part *p = &c->parts[c->part_i];

			if (c->used_ids < p->extent_count &&
				p->credit_bytes - c->used_bytes >= c->b->o.value_bytes)
				return p;
		}
		if (grant(c) < 0)
			return NULL;
	}
	return NULL;
}

static int put(void *client, const char key[KEY_BYTES])
{
	struct client *c = client;
	struct sub_grant_part *p = next_part(c);
	struct bytes data = bytes_of(c->b->value, c->b->o.value_bytes);
	struct msg_extent_write m;
	struct msg_extent_ok ok;
	uint8_t list[256];
	struct wire_list_builder extents = wire_list_begin(list, sizeof list, WIRE_VERSION);
	struct msg_commit commit = { .bucket = c->b->bucket, .name = bytes_of(key, KEY_BYTES) };
	struct msg_put_ok done;

	if (p == NULL)
		return -1;
	m = (struct msg_extent_write){ .egroup = p->egroup, .epoch = p->epoch, .tier = p->tier,
		.device = p->device, .extent = p->extent_first + c->used_ids++,
		.extent_first = p->extent_first, .extent_count = p->extent_count,
		.credit_bytes = p->credit_bytes, .cap_job = p->cap_job,
		.cap_until_ms = p->cap_until_ms, .cap = p->cap };
	c->used_bytes += data.len;
	m.root = root_of(c, m.extent);
	if (wadi_send(c->store, OP_extent_write, ++c->store_number, &m, data) < 0 ||
		wadi_recv(c->store, OP_extent_ok, "extent_write", c->room, ROOM_BYTES, &ok, NULL,
			0) < 0)
		return -1;
	check(sub_extent_ref_add(&extents, &(struct sub_extent_ref){ .egroup = m.egroup,
		.extent = m.extent, .offset = ok.offset, .len = data.len, .root = m.root }));
	commit.extents = wire_list_end(&extents);
	return ask(c, OP_commit, &commit, OP_put_ok, &done);
}

static int get(void *client, const char key[KEY_BYTES])
{
	struct client *c = client;
	struct msg_get m = { .bucket = c->b->bucket, .name = bytes_of(key, KEY_BYTES),
		.flags = GET_PLACES };
	struct sub_extent_place place;
	struct msg_extent_read read;
	struct msg_read_ok ok;
	struct msg_get_ok where;

	if (ask(c, OP_get, &m, OP_get_ok, &where) < 0 || go_to_store(c, where.servers) < 0)
		return -1;
	if (where.size != c->b->o.value_bytes || !sub_extent_place_next(&where.places, &place) ||
		place.len != where.size || place.lost)
		return fprintf(stderr, "wadi-bench: not one extent of the value's size\n"), -1;
	read = (struct msg_extent_read){ .egroup = place.egroup, .extent = place.extent,
		.len = (uint32_t)place.len, .cap_job = where.cap_job,
		.cap_until_ms = where.cap_until_ms, .cap = where.cap };
	if (wadi_send(c->store, OP_extent_read, FRAME_COOKIE_PLAIN | ++c->store_number, &read,
		bytes_of(NULL, 0)) < 0)
		return -1;
	return wadi_recv(c->store, OP_read_ok, "extent_read", c->room, ROOM_BYTES, &ok, c->value,
		c->b->o.value_bytes);
}

static void close_client(void *client)
{
	struct client *c = client;

	if (c->meta >= 0)
		hang_up(c->meta);
	if (c->store >= 0)
		hang_up(c->store);
	free(c->room);
	free(c->value);
	free(c->own);
	free(c->sums);
	free(c);
}

static void *open_client(struct large *l)
{
	struct client *c = calloc(1, sizeof *c);
	size_t n = sums_count(l->b->o.value_bytes);

	check(c != NULL);
	check(l->b->o.value_bytes % LIMIT_BLOCK_BYTES == 0);
	c->b = l->b;
	c->store = -1;
	c->room = malloc(ROOM_BYTES);
	c->value = malloc(l->b->o.value_bytes);
	c->own = calloc(n, sizeof *c->own);
	c->sums = calloc(n, sizeof *c->sums);
	check(c->room != NULL && c->value != NULL && c->own != NULL && c->sums != NULL);
	prepare_sums(c);
	c->meta = dial(l->b->o.addr);
	if (c->meta < 0 || wadi_hello(c->meta, wadi_client_id(), NULL) < 0) {
		close_client(c);
		return NULL;
	}
	return c;
}

const struct large_proto large_wadi = { open_client, put, get, close_client };
