/* SPDX-License-Identifier: Apache-2.0 */
/* Echoes 64-byte requests between two processes and prints what one costs the server.
 *
 *   door_bench [CONNECTIONS [REQUESTS]]        (the child runs "door_bench client ADDRESS C R")
 *
 * Run it under "strace -c -f" to see the system calls of a request; the server's are those of the
 * process that was started first. */
#include "sys/uv/sys_uv.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BYTES = 64, WAIT_S = 30 };

struct bench {
	struct sys *s;
	struct group g;
	struct sys_stream *c;
	const char *addr, *program, *n_connections, *n_requests;
	uint64_t n;
};

static uint64_t soon(struct bench *b)
{
	return loop_now_ns(sys_loop(b->s)) + WAIT_S * SYS_SEC;
}

static int serve(void *arg)
{
	struct bench *b = arg;
	struct sys_stream *c = b->c;
	char buf[1024];
	int64_t n;
	int rc = 0;

	while (rc == 0 && (n = sys_recv(c, buf, sizeof buf, soon(b))) > 0) {
		struct iovec iov = { buf, (size_t)n };

		b->n++;
		rc = sys_send(c, &iov, 1, soon(b));
	}
	sys_stream_close(c);
	return rc;
}

static int server(void *arg)
{
	struct bench *b = arg;
	struct err_note note = { "" };
	struct sys_listener *l;
	struct sys_proc *p;
	uint64_t from, cpu;
	int rc = sys_listen(b->s, "tcp:127.0.0.1:0", &l, &note), status = 0;
	int n = (int)strtol(b->n_connections, NULL, 10);

	if (rc == 0) {
		const char *argv[] = { b->program, "client", sys_listener_addr(l), b->n_connections,
			b->n_requests, NULL };
		rc = sys_spawn(b->s, argv, NULL, &p, &note);
	}
	if (rc < 0) {
		fprintf(stderr, "%s\n", note.text);
		return rc;
	}
	for (int i = 0; i < n && rc == 0; i++) {
		rc = sys_accept(l, soon(b), &b->c);
		if (rc == 0)
			rc = fiber_start(&b->g, "serve", serve, b);
		if (rc == 0)
			rc = fiber_yield(); /* it takes its stream */
	}
	from = sys_now_ns(b->s);
	cpu = sys_cpu_ns(b->s);
	rc = group_wait(&b->g);
	from = sys_now_ns(b->s) - from;
	cpu = sys_cpu_ns(b->s) - cpu;
	printf("%d connections: %llu requests, %.0f a second, %.2f us of server CPU each\n", n,
		(unsigned long long)b->n, (double)b->n * 1e9 / (double)from,
		(double)cpu / 1e3 / (double)b->n);
	sys_proc_wait(p, soon(b), &status);
	sys_proc_close(p);
	sys_listener_close(l);
	return rc;
}

static int ask(void *arg)
{
	struct bench *b = arg;
	struct sys_stream *c;
	char buf[1024] = "";
	int rc = sys_connect(b->s, b->addr, soon(b), &c, NULL);

	if (rc < 0)
		return rc;
	for (int i = (int)strtol(b->n_requests, NULL, 10); i > 0 && rc >= 0; i--) {
		struct iovec iov = { buf, BYTES };

		rc = sys_send(c, &iov, 1, soon(b));
		if (rc == 0)
			rc = (int)sys_recv(c, buf, sizeof buf, soon(b));
	}
	sys_stream_close(c);
	return rc < 0 ? rc : 0;
}

static int client(void *arg)
{
	struct bench *b = arg;

	for (int i = (int)strtol(b->n_connections, NULL, 10); i > 0; i--)
		fiber_start(&b->g, "ask", ask, b);
	return group_wait(&b->g);
}

int main(int argc, char **argv)
{
	struct err_note note = { "" };
	struct bench b = { .program = argv[0] };
	bool is_client = argc == 5;
	int rc = sys_uv_new(&b.s, &note);

	if (rc < 0) {
		fprintf(stderr, "%s\n", note.text);
		return 1;
	}
	group_init(&b.g, sys_loop(b.s));
	b.addr = is_client ? argv[2] : NULL;
	b.n_connections = is_client ? argv[3] : argc > 1 ? argv[1] : "50";
	b.n_requests = is_client ? argv[4] : argc > 2 ? argv[2] : "2000";
	rc = sys_uv_run(b.s, "bench", is_client ? client : server, &b);
	sys_uv_free(b.s);
	return rc < 0;
}
