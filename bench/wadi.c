/* SPDX-License-Identifier: Apache-2.0 */
/* wadi.c: put, get and stat in Wadi's own frames, for a job's bucket.  A request is built once;
 * then its key, its number in the session and the frame's checksum are patched: what any client
 * pays for a request it has built before. */
#include "base/check.h"
#include "base/prng.h"
#include "bench/bench.h"
#include "bench/ask.h"
#include "wire/frame.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BODY_MAX = 2048 };

/* ---- one blocking question ---- */
static int refused(const struct frame *f, const uint8_t *body, const char *what)
{
	struct msg_error e;

	if (f->op == OP_error && msg_error_get(body, f->body_len, f->version, &e) == 0)
		fprintf(stderr, "wadi-bench: %s: %s: %.*s\n", what, err_name(-(int)e.code),
			(int)e.note.len, (const char *)e.note.p);
	else
		fprintf(stderr, "wadi-bench: %s: unexpected answer, op %u\n", what, f->op);
	return -1;
}

int wadi_send(int fd, uint16_t op, uint64_t cookie, const void *msg, struct bytes data)
{
	uint8_t head[FRAME_HEADER_BYTES + BODY_MAX];
	struct writer w = writer_of(head + FRAME_HEADER_BYTES, BODY_MAX);
	struct frame f = { .op = op, .version = WIRE_VERSION, .cookie = cookie,
		.data_len = (uint32_t)data.len };

	check(wire_op(op) != NULL);
	check(wire_op(op)->put(&w, msg, WIRE_VERSION));
	f.body_len = (uint32_t)(w.p - head - FRAME_HEADER_BYTES);
	frame_put(&f, head + FRAME_HEADER_BYTES, data.p, head);
	if (send_all(fd, head, FRAME_HEADER_BYTES + f.body_len) < 0)
		return -1;
	return send_all(fd, data.p, data.len);
}

int wadi_recv(int fd, uint16_t op, const char *what, void *room, size_t cap, void *ret_msg,
	void *data, size_t data_cap)
{
	uint8_t head[FRAME_HEADER_BYTES];
	struct frame f;

	if (recv_all(fd, head, sizeof head) < 0 || frame_get(head, &f) < 0 || f.body_len > cap ||
		recv_all(fd, room, f.body_len) < 0) {
		fprintf(stderr, "wadi-bench: %s: connection lost or no frame\n", what);
		return -1;
	}
	if (f.op != op)
		return refused(&f, room, what);
	if (f.data_len > data_cap || recv_all(fd, data, f.data_len) < 0)
		return -1;
	return wire_op(op)->get(room, f.body_len, f.version, ret_msg);
}

/* ---- connections ---- */
int wadi_hello(int fd, uint64_t client_lo, uint64_t *ret_job)
{
	struct msg_hello h = { .version = WIRE_VERSION, .role = ROLE_CLIENT,
		.client_hi = 0x62656e6368, .client_lo = client_lo, .name = BYTES("wadi-bench") };
	struct msg_hello_ok ok;
	const char *token = getenv("WADI_JOB_TOKEN");
	uint8_t room[BODY_MAX];

	if (token == NULL) {
		fprintf(stderr, "wadi-bench: WADI_JOB_TOKEN is not set\n");
		return -1;
	}
	h.token = bytes_of(token, strlen(token));
	if (wadi_send(fd, OP_hello, 0, &h, bytes_of(NULL, 0)) < 0)
		return -1;
	if (wadi_recv(fd, OP_hello_ok, "hello", room, sizeof room, &ok, NULL, 0) < 0)
		return -1;
	if (ret_job != NULL)
		*ret_job = ok.job;
	return 0;
}

uint64_t wadi_client_id(void)
{
	static _Atomic uint64_t n;
	uint64_t state = now_ns() ^ (n++ << 48);

	return prng_mix(&state);
}

int wadi_bucket(int fd, uint64_t job, uint64_t *ret_bucket)
{
	struct msg_bucket_create m = { .job = job, .kind = BUCKET_FLAT, .lifetime = LIFETIME_JOB,
		.protection = PROTECT_NONE, .exists_ok = 1, .name = BYTES("bench") };
	struct msg_bucket_ok ok;
	struct sub_bucket_info info;
	uint8_t room[BODY_MAX];

	if (wadi_send(fd, OP_bucket_create, 1, &m, bytes_of(NULL, 0)) < 0)
		return -1;
	if (wadi_recv(fd, OP_bucket_ok, "bucket", room, sizeof room, &ok, NULL, 0) < 0)
		return -1;
	if (!sub_bucket_info_next(&ok.bucket, &info))
		return -1;
	*ret_bucket = info.bucket;
	return 0;
}

static int start(struct bench *b)
{
	int fd = dial(b->o.addr), rc;
	uint64_t job;

	if (fd < 0)
		return -1;
	rc = wadi_hello(fd, wadi_client_id(), &job);
	if (rc == 0)
		rc = wadi_bucket(fd, job, &b->bucket);
	hang_up(fd);
	return rc;
}

static int hello(struct bench *b, struct conn *c)
{
	return wadi_hello(c->fd, wadi_client_id(), NULL);
}

/* ---- requests ---- */
static size_t request_max(const struct bench *b)
{
	return FRAME_HEADER_BYTES + BODY_MAX + b->o.value_bytes;
}

static struct frame frame_for(const struct bench *b, size_t len)
{
	static const uint16_t ops[] = { OP_put, OP_get, OP_stat, OP_put };
	struct frame f = { .op = ops[b->o.op], .version = WIRE_VERSION };

	f.data_len = f.op == OP_put ? (uint32_t)b->o.value_bytes : 0;
	f.body_len = (uint32_t)(len - FRAME_HEADER_BYTES - f.data_len);
	return f;
}

static size_t build(struct bench *b, struct conn *c, uint32_t slot, uint8_t *to)
{
	static const uint8_t blank[KEY_BYTES];
	struct bytes name = bytes_of(blank, KEY_BYTES);
	struct msg_put p = { .bucket = b->bucket, .name = name,
		.flags = b->o.durable ? PUT_DURABLE : 0 };
	struct msg_get g = { .bucket = b->bucket, .name = name };
	struct msg_stat s = { .bucket = b->bucket, .name = name };
	struct writer w = writer_of(to + FRAME_HEADER_BYTES, BODY_MAX);
	bool put = b->o.op == BENCH_PUT || b->o.op == BENCH_CREATE;

	check(put ? msg_put_put(&w, &p, WIRE_VERSION) : b->o.op == BENCH_GET ?
		msg_get_put(&w, &g, WIRE_VERSION) : msg_stat_put(&w, &s, WIRE_VERSION));
	if (put) {
		memcpy(w.p, b->value, b->o.value_bytes);
		w.p += b->o.value_bytes;
	}
	return (size_t)(w.p - to);
}

/* The name is the last field of all three messages. */
static void patch(struct bench *b, struct conn *c, uint32_t slot, uint8_t *req, size_t len,
	const char key[KEY_BYTES])
{
	struct frame f = frame_for(b, len);
	uint8_t *body = req + FRAME_HEADER_BYTES, *data = body + f.body_len;
	uint64_t plain = f.op == OP_put ? 0 : FRAME_COOKIE_PLAIN;

	if (slot == 0)
		c->first = plain | (c->number + 1);
	f.cookie = plain | ++c->number;
	memcpy(data - KEY_BYTES, key, KEY_BYTES);
	if (f.data_len >= KEY_BYTES)
		memcpy(data, key, KEY_BYTES);
	frame_put(&f, body, data, req);
}

/* ---- replies ---- */
static int64_t reply(const uint8_t *p, size_t len)
{
	struct frame f;

	if (len < FRAME_HEADER_BYTES)
		return 0;
	if (frame_get(p, &f) < 0)
		return -1;
	return (int64_t)FRAME_HEADER_BYTES + f.body_len + f.data_len;
}

static bool good(struct bench *b, struct conn *c, const uint8_t *p, size_t len)
{
	static const uint16_t ops[] = { OP_put_ok, OP_get_ok, OP_stat_ok, OP_put_ok };
	struct frame f;
	uint64_t slot;

	if (frame_get(p, &f) < 0)
		return false;
	slot = f.cookie - c->first;
	if (f.op != ops[b->o.op] || slot >= b->o.depth)
		return false;
	if (b->o.op != BENCH_GET)
		return true;
	if (f.data_len != b->o.value_bytes)
		return false;
	if (f.data_len < KEY_BYTES)
		return true;
	return memcmp(p + len - f.data_len, c->keys[slot], KEY_BYTES) == 0;
}

const struct proto proto_wadi = { start, hello, request_max, build, patch, reply, good };
