/* SPDX-License-Identifier: Apache-2.0 */
/* redis.c: SET and GET in RESP.  A request is built once; a key is 16 digits at a fixed place. */
#include "bench/bench.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD_MAX = 128 };

struct shape { size_t key_at, value_at; };
static struct shape shape;

static int start(struct bench *b)
{
	return 0;
}

static int hello(struct bench *b, struct conn *c)
{
	return 0;
}

static size_t request_max(const struct bench *b)
{
	return HEAD_MAX + b->o.value_bytes;
}

static size_t build(struct bench *b, struct conn *c, uint32_t slot, uint8_t *to)
{
	bool put = b->o.op == BENCH_PUT || b->o.op == BENCH_CREATE;
	const char *verb = put ? "SET" : b->o.op == BENCH_GET ? "GET" : "EXISTS";
	char *at = (char *)to;
	size_t n;

	n = (size_t)snprintf(at, HEAD_MAX, "*%d\r\n$%zu\r\n%s\r\n$%d\r\n",
		put ? 3 : 2, strlen(verb), verb, KEY_BYTES);
	shape.key_at = n;
	memset(at + n, '0', KEY_BYTES);
	n += KEY_BYTES;
	n += (size_t)snprintf(at + n, HEAD_MAX - n, "\r\n");
	if (!put)
		return n;
	n += (size_t)snprintf(at + n, HEAD_MAX - n, "$%llu\r\n",
		(unsigned long long)b->o.value_bytes);
	shape.value_at = n;
	memcpy(at + n, b->value, b->o.value_bytes);
	n += b->o.value_bytes;
	memcpy(at + n, "\r\n", 2);
	return n + 2;
}

static void patch(struct bench *b, struct conn *c, uint32_t slot, uint8_t *req, size_t len,
	const char key[KEY_BYTES])
{
	memcpy(req + shape.key_at, key, KEY_BYTES);
	if (shape.value_at > 0 && b->o.value_bytes >= KEY_BYTES)
		memcpy(req + shape.value_at, key, KEY_BYTES);
}

static int64_t reply(const uint8_t *p, size_t len)
{
	const uint8_t *end = memchr(p, '\n', len);
	char *stop;
	long long n;

	if (end == NULL)
		return len > HEAD_MAX && p[0] != '-' ? -1 : 0;
	if (p[0] == '+' || p[0] == '-' || p[0] == ':')
		return end - p + 1;
	if (p[0] != '$')
		return -1;
	n = strtoll((const char *)p + 1, &stop, 10);
	return n < 0 ? end - p + 1 : end - p + 1 + n + 2;
}

/* A value begins with its key, so that bytes of another object would be noticed. */
static bool good(struct bench *b, struct conn *c, const uint8_t *p, size_t len)
{
	size_t n = b->o.value_bytes;
	bool found = false;

	if (b->o.op != BENCH_GET)
		return p[0] == '+' || (p[0] == ':' && p[1] == '1');
	if (p[0] != '$' || len < n + 5 || p[1] == '-')
		return false;
	if (n < KEY_BYTES)
		return true;
	for (uint32_t i = 0; i < b->o.depth && !found; i++) /* in order: the first that is left */
		found = memcmp(p + len - 2 - n, c->keys[i], KEY_BYTES) == 0;
	return found;
}

const struct proto proto_redis = { start, hello, request_max, build, patch, reply, good };
