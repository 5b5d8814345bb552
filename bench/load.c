/* SPDX-License-Identifier: Apache-2.0 */
/* load.c: the engine for small requests: one thread, epoll, batches of depth requests on each
 * connection.  A batch is sent with one call and the next one begins when all its replies are here,
 * so depth 1 is one request at a time and depth 16 is pipelining. */
#include "base/check.h"
#include "base/prng.h"
#include "bench/bench.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 64, IN_BYTES_MIN = 256 << 10, ERRORS_SHOWN = 3 };

struct run {
	struct bench *b;
	struct conn *conns;
	struct hist *hist;
	struct prng random;
	uint64_t next;     /* in order: number of the next key */
	int ep;
	bool measuring, stopping;
	uint64_t now_ns, n_ops, n_errors;
};

static void next_key(struct run *r, char to[KEY_BYTES])
{
	const struct bench_opts *o = &r->b->o;

	if (o->in_order || o->op == BENCH_CREATE)
		key_of(o->first + r->next++, to);
	else
		key_of(o->first + prng_below(&r->random, o->keys), to);
}

/* Sends what the socket takes; the rest follows when it is writable again. */
static int flush(struct run *r, struct conn *c)
{
	bool waits = false;

	while (c->out_at < c->out_len) {
		ssize_t n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			waits = true;
			break;
		}
		if (n <= 0)
			return -1;
		c->out_at += (size_t)n;
	}
	if (waits || c->out_waits) {
		struct epoll_event ev = { .events = EPOLLIN | (waits ? EPOLLOUT : 0),
			.data.ptr = c };

		c->out_waits = waits;
		epoll_ctl(r->ep, EPOLL_CTL_MOD, c->fd, &ev);
	}
	return 0;
}

static int begin(struct run *r, struct conn *c)
{
	const struct bench_opts *o = &r->b->o;
	uint32_t n = o->depth;

	if (o->in_order && o->keys - r->next < n)
		n = (uint32_t)(o->keys - r->next);
	if (n == 0 || r->stopping)
		return 0;
	for (uint32_t i = 0; i < n; i++) {
		next_key(r, c->keys[i]);
		r->b->proto->patch(r->b, c, i, c->out + i * c->stride, c->stride, c->keys[i]);
	}
	c->n_open = n;
	c->out_at = 0;
	c->out_len = n * c->stride;
	c->began_ns = now_ns();
	return flush(r, c);
}

static void count(struct run *r, struct conn *c, const uint8_t *p, size_t len)
{
	bool good = r->b->proto->good(r->b, c, p, len);

	if (!good && r->n_errors++ < ERRORS_SHOWN)
		fprintf(stderr, "wadi-bench: %s: refused or wrong reply of %zu bytes\n",
			r->b->o.peer, len);
	if (r->measuring)
		r->n_ops++;
	c->n_open--;
}

static int take_replies(struct run *r, struct conn *c)
{
	size_t at = 0;

	while (c->n_open > 0 && at < c->in_len) {
		int64_t n = r->b->proto->reply(c->in + at, c->in_len - at);

		if (n < 0)
			return -1;
		if (n == 0 || (size_t)n > c->in_len - at)
			break;
		count(r, c, c->in + at, (size_t)n);
		at += (size_t)n;
	}
	memmove(c->in, c->in + at, c->in_len - at);
	c->in_len -= at;
	return 0;
}

static int readable(struct run *r, struct conn *c)
{
	ssize_t n = recv(c->fd, c->in + c->in_len, c->in_cap - c->in_len, 0);

	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0)
		return -1;
	c->in_len += (size_t)n;
	if (take_replies(r, c) < 0)
		return -1;
	if (c->n_open > 0)
		return 0;
	r->now_ns = now_ns();
	if (r->measuring)
		hist_add(r->hist, r->now_ns - c->began_ns);
	return begin(r, c);
}

static int turn(struct run *r)
{
	struct epoll_event ev[EVENTS];
	int n = epoll_wait(r->ep, ev, EVENTS, 5000);

	if (n == 0 || (n < 0 && errno != EINTR)) {
		fprintf(stderr, "wadi-bench: %s: no reply within 5 s\n", r->b->o.peer);
		return -1;
	}
	for (int i = 0; i < n; i++) {
		struct conn *c = ev[i].data.ptr;

		if ((ev[i].events & EPOLLOUT) != 0 && flush(r, c) < 0)
			return -1;
		if ((ev[i].events & ~(uint32_t)EPOLLOUT) != 0 && readable(r, c) < 0) {
			fprintf(stderr, "wadi-bench: %s: connection lost or no reply: %s\n",
				r->b->o.peer, strerror(errno));
			return -1;
		}
	}
	return 0;
}

static bool idle(const struct run *r)
{
	for (uint32_t i = 0; i < r->b->o.conns; i++)
		if (r->conns[i].n_open > 0)
			return false;
	return true;
}

static int turns_until(struct run *r, uint64_t until_ns)
{
	while (r->now_ns < until_ns && !idle(r))
		if (turn(r) < 0)
			return -1;
	return 0;
}

static int measure(struct run *r, struct bench_result *ret_r)
{
	const struct bench_opts *o = &r->b->o;
	uint64_t began, cpu;

	r->now_ns = now_ns();
	if (!o->in_order && turns_until(r, r->now_ns + o->warm_ns) < 0)
		return -1;
	r->measuring = true;
	cpu = cpu_ns_of(o->pids);
	began = r->now_ns = now_ns();
	if (turns_until(r, o->in_order ? UINT64_MAX : began + o->run_ns) < 0)
		return -1;
	ret_r->wall_ns = now_ns() - began;
	ret_r->cpu_ns = cpu_ns_of(o->pids) - cpu;
	r->measuring = false;
	r->stopping = true;
	if (turns_until(r, UINT64_MAX) < 0)
		return -1;
	ret_r->ops = r->n_ops;
	ret_r->errors = r->n_errors;
	ret_r->p50_ns = hist_quantile(r->hist, 0.5);
	ret_r->p99_ns = hist_quantile(r->hist, 0.99);
	ret_r->max_ns = r->hist->max;
	return 0;
}

static int conn_open(struct run *r, struct conn *c)
{
	struct bench *b = r->b;
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };
	size_t room = b->proto->request_max(b);

	c->fd = dial(b->o.addr);
	if (c->fd < 0 || b->proto->hello(b, c) < 0)
		return -1;
	c->out = malloc(room * b->o.depth);
	c->keys = calloc(b->o.depth, KEY_BYTES);
	c->in_cap = IN_BYTES_MIN + 2 * b->o.value_bytes;
	c->in = malloc(c->in_cap);
	check(c->out != NULL && c->keys != NULL && c->in != NULL);
	for (uint32_t i = 0; i < b->o.depth; i++) {
		size_t n = b->proto->build(b, c, i, c->out + i * c->stride);

		check(n <= room);
		check(i == 0 || n == c->stride);
		c->stride = n;
	}
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	return epoll_ctl(r->ep, EPOLL_CTL_ADD, c->fd, &ev);
}

static void run_fini(struct run *r)
{
	for (uint32_t i = 0; i < r->b->o.conns; i++) {
		struct conn *c = &r->conns[i];

		if (c->fd >= 0)
			close(c->fd);
		free(c->out);
		free(c->in);
		free(c->keys);
	}
	free(r->conns);
	free(r->hist);
	close(r->ep);
}

int bench_run(struct bench *b, struct bench_result *ret_r)
{
	struct run r = { .b = b, .random = prng_fork(b->o.seed, 2) };
	int rc = 0;

	r.ep = epoll_create1(EPOLL_CLOEXEC);
	r.conns = calloc(b->o.conns, sizeof *r.conns);
	r.hist = calloc(1, sizeof *r.hist);
	check(r.ep >= 0 && r.conns != NULL && r.hist != NULL);
	for (uint32_t i = 0; i < b->o.conns; i++)
		r.conns[i].fd = -1;
	for (uint32_t i = 0; i < b->o.conns && rc == 0; i++)
		rc = conn_open(&r, &r.conns[i]);
	for (uint32_t i = 0; i < b->o.conns && rc == 0; i++)
		rc = begin(&r, &r.conns[i]);
	if (rc == 0)
		rc = measure(&r, ret_r);
	run_fini(&r);
	return rc;
}
