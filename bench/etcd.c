/* SPDX-License-Identifier: Apache-2.0 */
/* etcd.c: Put of etcd's KV service in gRPC, as HTTP/2 frames on one connection without TLS.
 *
 * Headers are sent as literals that enter no table, so all requests of a connection are equal but
 * for the stream's number and the key.  What the server says about the connection itself is
 * skipped: it may send 2 GiB before it would need an answer. */
#include "bench/bench.h"
#include <stdio.h>
#include <string.h>

enum {
	FRAME_BYTES = 9,
	FRAME_DATA = 0, FRAME_HEADERS = 1, FRAME_RST = 3, FRAME_SETTINGS = 4, FRAME_GOAWAY = 7,
	FRAME_WINDOW = 8,
	END_STREAM = 1, END_HEADERS = 4,
	MESSAGE_BYTES = 5, /* gRPC: compressed or not, length */
	HEAD_MAX = 512,
	WINDOW_MORE = 0x7fff0000 - 65535,
};
static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

struct shape { size_t data_at, key_at; };
static struct shape shape;

static uint8_t *put_be(uint8_t *at, uint32_t v, int bytes)
{
	for (int i = bytes - 1; i >= 0; i--)
		*at++ = (uint8_t)(v >> (8 * i));
	return at;
}

static uint8_t *frame_head(uint8_t *at, size_t len, int type, int flags)
{
	at = put_be(at, (uint32_t)len, 3);
	*at++ = (uint8_t)type;
	*at++ = (uint8_t)flags;
	return put_be(at, 0, 4);
}

static int start(struct bench *b)
{
	if (b->o.op == BENCH_PUT || b->o.op == BENCH_CREATE)
		return 0;
	fprintf(stderr, "wadi-bench: etcd: only put and create\n");
	return -1;
}

static int hello(struct bench *b, struct conn *c)
{
	uint8_t room[sizeof preface + 2 * FRAME_BYTES + 4], *at = room;

	memcpy(at, preface, sizeof preface - 1);
	at = frame_head(at + sizeof preface - 1, 0, FRAME_SETTINGS, 0);
	at = frame_head(at, 4, FRAME_WINDOW, 0);
	at = put_be(at, WINDOW_MORE, 4);
	return send_all(c->fd, room, (size_t)(at - room));
}

static size_t request_max(const struct bench *b)
{
	return HEAD_MAX + b->o.value_bytes;
}

static uint8_t *text(uint8_t *at, const char *s)
{
	size_t n = strlen(s);

	*at++ = (uint8_t)n; /* below 127, not packed */
	memcpy(at, s, n);
	return at + n;
}

/* Numbers are those of HPACK's static table. */
static uint8_t *headers(const struct bench *b, uint8_t *at)
{
	*at++ = 0x83; /* :method POST */
	*at++ = 0x86; /* :scheme http */
	*at++ = 0x04; /* :path */
	at = text(at, "/etcdserverpb.KV/Put");
	*at++ = 0x01; /* :authority */
	at = text(at, b->o.addr);
	*at++ = 0x0f; /* content-type: 15 + 16 */
	*at++ = 0x10;
	at = text(at, "application/grpc");
	*at++ = 0x00;
	at = text(at, "te");
	return text(at, "trailers");
}

static uint8_t *varint(uint8_t *at, uint64_t v)
{
	for (; v >= 128; v >>= 7)
		*at++ = (uint8_t)(v | 128);
	*at++ = (uint8_t)v;
	return at;
}

static size_t build(struct bench *b, struct conn *c, uint32_t slot, uint8_t *to)
{
	uint8_t *head_end = headers(b, to + FRAME_BYTES), *message, *at;

	frame_head(to, (size_t)(head_end - to) - FRAME_BYTES, FRAME_HEADERS, END_HEADERS);
	shape.data_at = (size_t)(head_end - to);
	at = message = head_end + FRAME_BYTES + MESSAGE_BYTES;
	*at++ = 0x0a; /* PutRequest.key */
	at = varint(at, KEY_BYTES);
	shape.key_at = (size_t)(at - to);
	memset(at, '0', KEY_BYTES);
	at += KEY_BYTES;
	*at++ = 0x12; /* PutRequest.value */
	at = varint(at, b->o.value_bytes);
	memcpy(at, b->value, b->o.value_bytes);
	at += b->o.value_bytes;
	frame_head(head_end, (size_t)(at - message) + MESSAGE_BYTES, FRAME_DATA, END_STREAM);
	head_end[FRAME_BYTES] = 0;
	put_be(head_end + FRAME_BYTES + 1, (uint32_t)(at - message), 4);
	return (size_t)(at - to);
}

static void patch(struct bench *b, struct conn *c, uint32_t slot, uint8_t *req, size_t len,
	const char key[KEY_BYTES])
{
	uint32_t stream = (uint32_t)(2 * c->number++ + 1);

	put_be(req + 5, stream, 4);
	put_be(req + shape.data_at + 5, stream, 4);
	memcpy(req + shape.key_at, key, KEY_BYTES);
}

static size_t body_len(const uint8_t *p)
{
	return (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
}

/* Up to the frame that ends a stream, with what was said of the connection before it. */
static int64_t reply(const uint8_t *p, size_t len)
{
	size_t at = 0;

	while (len - at >= FRAME_BYTES) {
		const uint8_t *f = p + at;
		bool of_stream = (f[5] | f[6] | f[7] | f[8]) != 0;

		at += FRAME_BYTES + body_len(f);
		if (f[3] == FRAME_GOAWAY)
			return -1;
		if (of_stream && (f[3] == FRAME_RST ||
			(f[3] <= FRAME_HEADERS && (f[4] & END_STREAM) != 0)))
			return (int64_t)at;
		if (at > len)
			break;
	}
	return 0;
}

/* An answer has a message; a refusal ends its stream with headers alone. */
static bool good(struct bench *b, struct conn *c, const uint8_t *p, size_t len)
{
	bool answered = false;

	for (size_t at = 0; at + FRAME_BYTES <= len; at += FRAME_BYTES + body_len(p + at))
		if (p[at + 3] == FRAME_DATA && body_len(p + at) > MESSAGE_BYTES)
			answered = true;
		else if (p[at + 3] == FRAME_RST)
			return false;
	return answered;
}

const struct proto proto_etcd = { start, hello, request_max, build, patch, reply, good };
