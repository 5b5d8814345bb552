/* SPDX-License-Identifier: Apache-2.0 */
/* What rpc costs the serving thread for each put of 1 KiB: receive, verify, decode, dispatch, gated
 * reply, release, send.  Frames are prebuilt; `depth` of them are sent at once, then their replies
 * are awaited.  Prints user and system nanoseconds of the serving thread per request. */
#include "base/check.h"
#include "rpc/rpc.h"
#include "sys/uv/sys_uv.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

enum { DATA_BYTES = 1024, BATCHES = 200000 };

struct bench {
	struct sys *s;
	struct rpc_server *server;
	const char *bound;
	unsigned depth;
	uint64_t index;
	bool commit_asked;
	struct group g;
};

static int commit(void *arg) /* stands for the log: one release at the end of each turn */
{
	struct bench *b = arg;

	if (fiber_late() == 0)
		rpc_release(b->server, b->index, b->index);
	b->commit_asked = false;
	return 0;
}

static void on_put(void *arg, struct rpc_request *r)
{
	struct bench *b = arg;
	struct msg_put m;
	struct msg_put_ok ok = { 1, 2 };

	check(msg_put_get(r->body.p, r->body.len, r->version, &m) == 0);
	b->index++;
	if (!b->commit_asked)
		b->commit_asked = fiber_start(&b->g, "commit", commit, b) == 0;
	rpc_reply(r, OP_put_ok, &ok, bytes_of(NULL, 0), (struct rpc_gate){ b->index, false });
}

static size_t frame(uint8_t *to, uint16_t op, uint64_t cookie, const void *m, size_t data_len)
{
	struct writer w = writer_of(to + FRAME_HEADER_BYTES, 256);
	struct frame f = { .op = op, .version = 1, .cookie = cookie,
		.data_len = (uint32_t)data_len };

	check(wire_op(op)->put(&w, m, 1));
	f.body_len = (uint32_t)(w.p - to) - FRAME_HEADER_BYTES;
	memset(w.p, 7, data_len);
	frame_put(&f, to + FRAME_HEADER_BYTES, w.p, to);
	return FRAME_HEADER_BYTES + f.body_len + data_len;
}

static void receive(struct sys_stream *c, size_t want)
{
	static uint8_t buf[1 << 16];
	int64_t n;

	for (; want > 0; want -= (size_t)n) {
		n = sys_recv(c, buf, want < sizeof buf ? want : sizeof buf, FOREVER);
		check(n > 0);
	}
}

static int load(struct sys *s, void *arg)
{
	struct bench *b = arg;
	uint8_t *buf = malloc((DATA_BYTES + 256) * b->depth), *p = buf;
	struct msg_hello hello = { .version = 1 };
	struct msg_put put = { .bucket = 1, .name = BYTES("sixteen-byte-key") };
	struct sys_stream *c;
	struct iovec iov;
	unsigned batches = BATCHES / b->depth;
	size_t reply = FRAME_HEADER_BYTES + 16, hello_ok = FRAME_HEADER_BYTES + 26;

	check(sys_connect(s, b->bound, FOREVER, &c, NULL) == 0);
	iov = (struct iovec){ buf, frame(buf, OP_hello, 0, &hello, 0) };
	check(sys_send(c, &iov, 1, FOREVER) == 0);
	receive(c, hello_ok);
	for (unsigned i = 0; i < b->depth; i++)
		p += frame(p, OP_put, FRAME_COOKIE_PLAIN | (i + 1), &put, DATA_BYTES);
	for (unsigned i = 0; i < batches; i++) {
		iov = (struct iovec){ buf, (size_t)(p - buf) };
		check(sys_send(c, &iov, 1, FOREVER) == 0);
		receive(c, reply * b->depth);
	}
	sys_stream_close(c);
	free(buf);
	return 0;
}

static double ns_of(struct timeval t) { return (double)t.tv_sec * 1e9 + (double)t.tv_usec * 1e3; }

static int run(void *arg)
{
	static const struct rpc_op ops[] = { { OP_put, RPC_INLINE, on_put } };
	struct bench *b = arg;
	struct rpc_service svc = { .ops = ops, .n_ops = 1, .arg = b };
	struct rusage before, after;
	struct sys_thread *t;
	double n = BATCHES / b->depth * b->depth;
	uint64_t t0;
	int rc;

	group_init(&b->g, sys_loop(b->s));
	check(rpc_server_new(b->s, &svc, &b->server) == 0);
	check(rpc_server_listen(b->server, "tcp:127.0.0.1:0", &b->bound, NULL) == 0);
	getrusage(RUSAGE_THREAD, &before);
	t0 = sys_now_ns(b->s);
	check(sys_uv_thread(b->s, "load", load, b, &t, NULL) == 0);
	check(sys_uv_thread_join(t, &rc) == 0);
	getrusage(RUSAGE_THREAD, &after);
	printf("depth %4u: %6.0f ns user, %6.0f ns system, %6.0f ns wall, %.1f sends per 1000\n",
		b->depth, (ns_of(after.ru_utime) - ns_of(before.ru_utime)) / n,
		(ns_of(after.ru_stime) - ns_of(before.ru_stime)) / n,
		(double)(sys_now_ns(b->s) - t0) / n,
		(double)rpc_server_counts(b->server).sends * 1000 / n);
	rpc_server_free(b->server);
	return group_wait(&b->g);
}

int main(void)
{
	static const unsigned depths[] = { 1, 4, 16, 64, 256 };

	for (unsigned i = 0; i < sizeof depths / sizeof depths[0]; i++) {
		struct bench b = { .depth = depths[i] };

		check(sys_uv_new(&b.s, NULL) == 0);
		check(sys_uv_run(b.s, "bench", run, &b) == 0);
		sys_uv_free(b.s);
	}
	return 0;
}
