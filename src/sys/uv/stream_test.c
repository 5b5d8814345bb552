/* SPDX-License-Identifier: Apache-2.0 */
/* Streams of the real door, over TCP on the loopback and over Unix sockets. */
#include "base/check.h"
#include "sys/uv/own.h"
#include "sys/uv/sys_uv.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

enum { MIB = 1 << 20 };
static struct sys *s;
static char folder[] = "/tmp/wadi-stream-XXXXXX", unix_addr[64];
static struct group side; /* what a test runs beside itself */

static uint64_t soon(void)
{
	return sys_after(s, 20 * SYS_SEC);
}

static int setup(void **state)
{
	struct err_note note = { "" };

	strcpy(folder + sizeof folder - 7, "XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(unix_addr, sizeof unix_addr, "unix:%s/sock", folder);
	assert_int_equal(sys_uv_new(&s, &note), 0);
	group_init(&side, sys_loop(s));
	return 0;
}

static int teardown(void **state)
{
	sys_uv_free(s);
	assert_int_equal(rmdir(folder), 0); /* sockets have removed their files */
	return 0;
}

static void run(fiber_fn *fn, const char *addr)
{
	assert_int_equal(sys_uv_run(s, "test", fn, (void *)(uintptr_t)addr), 0);
}

static void beside(fiber_fn *fn, void *arg)
{
	assert_int_equal(fiber_start(&side, "beside", fn, arg), 0);
}

/* ---- echo ---- */
static int echo(void *arg)
{
	struct sys_stream *c = arg;
	enum { ROOM = 16 * 1024 };
	char *buf = malloc(ROOM);
	int64_t n;

	check(sys_stream_peer(c)[0] != '\0');
	while ((n = sys_recv(c, buf, ROOM, soon())) > 0) {
		struct iovec iov[2] = { { buf, 1 }, { buf + 1, (size_t)n - 1 } };

		assert_int_equal(sys_send(c, iov, 2, soon()), 0);
	}
	assert_int_equal(n, 0);
	free(buf);
	sys_stream_close(c);
	return 0;
}

static int accepts(void *arg)
{
	struct sys_listener *l = arg;
	struct sys_stream *c;
	int rc;

	while ((rc = sys_accept(l, soon(), &c)) == 0)
		beside(echo, c);
	assert_int_equal(rc, E_CLOSED);
	return 0;
}

struct sending {
	struct sys_stream *c;
	uint8_t *bytes;
	size_t len;
};

static int sends(void *arg)
{
	struct sending *m = arg;
	struct iovec iov = { m->bytes, m->len };

	return sys_send(m->c, &iov, 1, soon());
}

static void talk(struct sys_stream *c, size_t len, uint8_t salt)
{
	uint8_t *out = malloc(len), *in = malloc(len);
	struct sending m = { c, out, len };
	struct group g;

	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)(i * 31 + i / 251 + salt);
	group_init(&g, sys_loop(s));
	assert_int_equal(fiber_start(&g, "sends", sends, &m), 0);
	for (size_t got = 0; got < len;) {
		int64_t n = sys_recv(c, in + got, len - got, soon());

		assert_true(n > 0);
		got += (size_t)n;
	}
	assert_int_equal(group_wait(&g), 0);
	assert_memory_equal(in, out, len);
	free(out);
	free(in);
}

static int echo_main(void *arg)
{
	struct err_note note = { "" };
	struct sys_listener *l;
	struct sys_stream *c[3];

	assert_int_equal(sys_listen(s, arg, &l, &note), 0);
	beside(accepts, l);
	for (int i = 0; i < 3; i++)
		assert_int_equal(sys_connect(s, sys_listener_addr(l), soon(), &c[i], &note), 0);
	for (int i = 0; i < 3; i++) {
		bool local = strncmp(arg, "unix:", 5) == 0;

		assert_int_equal(sys_stream_local(c[i]), local);
		assert_int_equal(sys_stream_uid(c[i]), local ? (int64_t)geteuid() : -1);
		talk(c[i], MIB, (uint8_t)i);
		for (size_t len = 1; len < 100; len++)
			talk(c[i], len, (uint8_t)len);
	}
	for (int i = 0; i < 3; i++)
		sys_stream_close(c[i]);
	sys_listener_close(l);
	assert_int_equal(group_wait(&side), 0);
	return 0;
}

static void echoes_over_tcp(void **state)
{
	run(echo_main, "tcp:127.0.0.1:0");
}
static void echoes_by_host_name(void **state)
{
	run(echo_main, "tcp:localhost:0");
}
static void echoes_over_a_unix_socket(void **state)
{
	run(echo_main, unix_addr);
}

/* ---- a pair of streams for the rest ---- */
struct pair {
	struct sys_listener *l;
	struct sys_stream *a, *b;
};

static struct pair pair_new(const char *addr)
{
	struct err_note note = { "" };
	struct pair p;

	assert_int_equal(sys_listen(s, addr, &p.l, &note), 0);
	assert_int_equal(sys_connect(s, sys_listener_addr(p.l), soon(), &p.a, &note), 0);
	assert_int_equal(sys_accept(p.l, soon(), &p.b), 0);
	return p;
}

static void pair_free(struct pair *p)
{
	sys_stream_close(p->a);
	sys_stream_close(p->b);
	sys_listener_close(p->l);
}

/* ---- shared memory beside bytes ---- */
static int passes_shm(void *arg)
{
	struct pair p = pair_new(unix_addr);
	struct sys_shm *m, *reader, *got[2], *both[2];
	struct err_note note = { "" };
	char *mine, *theirs, byte[8];
	struct stat st;

	assert_int_equal(sys_shm_new(s, "test", MIB, &m, &note), 0);
	assert_int_equal(sys_shm_reader(m, &reader, &note), 0);
	assert_int_equal(sys_shm_map(m, (void **)&mine, &note), 0);
	strcpy(mine + 5000, "hello");
	both[0] = m;
	both[1] = reader;
	assert_int_equal(sys_send_shm(p.a, "ab", 2, both, 2, soon()), 0);
	assert_null(sys_recv_shm(p.b)); /* only with the bytes they came with */
	assert_int_equal(sys_recv(p.b, byte, sizeof byte, soon()), 2);
	assert_memory_equal(byte, "ab", 2);
	got[0] = sys_recv_shm(p.b);
	got[1] = sys_recv_shm(p.b);
	assert_null(sys_recv_shm(p.b));
	for (int i = 0; i < 2; i++) {
		assert_non_null(got[i]);
		assert_int_equal(sys_shm_bytes(got[i]), MIB);
		assert_int_equal(sys_shm_map(got[i], (void **)&theirs, &note), 0);
		assert_string_equal(theirs + 5000, "hello");
		/* the second one's pages refuse to become writable */
		assert_int_equal(mprotect(theirs, MIB, PROT_READ | PROT_WRITE), i == 0 ? 0 : -1);
	}
	assert_int_equal(sys_shm_prefault(got[0], 100, MIB - 100), 0);
	assert_int_equal(sys_shm_prefault(got[1], 0, MIB), 0);
	assert_string_equal(mine + 5000, "hello");
	sys_shm_empty(m);
	assert_string_equal(mine + 5000, "");
	assert_string_equal(theirs + 5000, "");
	assert_int_equal(fstat(shm_fd(m), &st), 0);
	assert_true(st.st_blocks * 512 < MIB); /* what was just read, at most */
	sys_shm_close(got[0]);
	sys_shm_close(got[1]);
	/* what nobody takes is closed with the stream: the leak checker sees the rest */
	assert_int_equal(sys_send_shm(p.a, "c", 1, both, 1, soon()), 0);
	assert_int_equal(sys_recv(p.b, byte, sizeof byte, soon()), 1);
	sys_shm_close(m);
	sys_shm_close(reader);
	pair_free(&p);
	return 0;
}

static void descriptors_travel_with_bytes(void **state)
{
	run(passes_shm, NULL);
}

struct big {
	struct sys_stream *c;
	struct sys_shm *m;
	uint8_t *bytes;
};

static int sends_big(void *arg)
{
	struct big *b = arg;

	return sys_send_shm(b->c, b->bytes, 4 * MIB, &b->m, 1, soon());
}

/* Many calls carry the bytes, one of them the descriptor. */
static int passes_once(void *arg)
{
	struct pair p = pair_new(unix_addr);
	struct big b = { .c = p.a, .bytes = calloc(1, 4 * MIB) };
	uint8_t *in = malloc(MIB);
	struct err_note note = { "" };
	struct sys_shm *m;
	int n = 0;

	assert_int_equal(sys_shm_new(s, "test", MIB, &b.m, &note), 0);
	beside(sends_big, &b);
	for (size_t got = 0; got < 4 * MIB;) {
		int64_t now = sys_recv(p.b, in, MIB, soon());

		assert_true(now > 0);
		got += (size_t)now;
		while ((m = sys_recv_shm(p.b)) != NULL) {
			sys_shm_close(m);
			n++;
		}
	}
	assert_int_equal(group_wait(&side), 0);
	assert_int_equal(n, 1);
	sys_shm_close(b.m);
	pair_free(&p);
	free(in);
	free(b.bytes);
	return 0;
}

static void a_descriptor_travels_once(void **state)
{
	run(passes_once, NULL);
}

static int tcp_has_no_shm(void *arg)
{
	struct pair p = pair_new("tcp:127.0.0.1:0");
	struct err_note note = { "" };
	struct sys_shm *m;

	assert_int_equal(sys_shm_new(s, "test", 4096, &m, &note), 0);
	assert_int_equal(sys_send_shm(p.a, "a", 1, &m, 1, soon()), E_UNSUPPORTED);
	sys_shm_close(m);
	pair_free(&p);
	return 0;
}

static void tcp_carries_no_descriptors(void **state)
{
	run(tcp_has_no_shm, NULL);
}

/* A hostile client, by hand. */
static int raw_client(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(un.sun_path, unix_addr + 5);
	assert_int_equal(connect(fd, (void *)&un, sizeof un), 0);
	return fd;
}

static void raw_send_fd(int to, int fd, int times)
{
	union {
		char room[CMSG_SPACE(8 * sizeof(int))];
		struct cmsghdr align;
	} control = { .room = { 0 } };
	struct iovec iov = { (char[]){ "x" }, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room };
	struct cmsghdr *h;

	m.msg_controllen = CMSG_SPACE((size_t)times * sizeof(int));
	h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN((size_t)times * sizeof(int));
	for (int i = 0; i < times; i++)
		memcpy(CMSG_DATA(h) + (size_t)i * sizeof fd, &fd, sizeof fd);
	assert_int_equal(sendmsg(to, &m, MSG_NOSIGNAL), 1);
}

static int open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 200; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void refuse(struct sys_listener *l, int fd, int times, int expected)
{
	struct sys_stream *c;
	char buf[8];
	int raw = raw_client(), before;

	assert_int_equal(sys_accept(l, soon(), &c), 0);
	before = open_fds();
	raw_send_fd(raw, fd, times);
	assert_int_equal(sys_recv(c, buf, sizeof buf, soon()), expected);
	assert_int_equal(sys_recv(c, buf, sizeof buf, soon()), E_CLOSED);
	assert_null(expected < 0 && times == 1 ? sys_recv_shm(c) : NULL);
	sys_stream_close(c);
	assert_true(open_fds() < before); /* the stream's own is gone, and no new one is left */
	close(raw);
}

static int refuses_fds(void *arg)
{
	int unsealed = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int growing = memfd_create("growing", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int empty = memfd_create("empty", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int file = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct err_note note = { "" };
	struct sys_listener *l;

	assert_int_equal(sys_listen(s, unix_addr, &l, &note), 0);
	assert_int_equal(ftruncate(unsealed, 4096), 0);
	assert_int_equal(ftruncate(growing, 4096), 0);
	assert_int_equal(fcntl(growing, F_ADD_SEALS, F_SEAL_GROW), 0);
	assert_int_equal(fcntl(empty, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	refuse(l, unsealed, 1, E_CORRUPT);
	refuse(l, growing, 1, E_CORRUPT);
	refuse(l, empty, 1, E_CORRUPT);
	refuse(l, file, 1, E_CORRUPT);
	refuse(l, file, 8, E_TOOBIG);
	sys_listener_close(l);
	close(unsealed);
	close(growing);
	close(empty);
	close(file);
	return 0;
}

static void descriptors_that_could_shrink_are_refused(void **state)
{
	run(refuses_fds, NULL);
}

static int seals(void *arg)
{
	struct err_note note = { "" };
	struct pair p = pair_new(unix_addr);
	struct sys_shm *m, *got;
	char byte, path[64], link[64];
	int n = 0;

	assert_int_equal(sys_shm_new(s, "sealed", MIB, &m, &note), 0);
	assert_int_equal(sys_send_shm(p.a, "a", 1, &m, 1, soon()), 0);
	assert_int_equal(sys_recv(p.b, &byte, 1, soon()), 1);
	got = sys_recv_shm(p.b);
	for (int fd = 0; fd < 200; fd++) { /* whoever holds the descriptor cannot resize it */
		ssize_t len;

		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		len = readlink(path, link, sizeof link - 1);
		if (len > 0 && strncmp(link, "/memfd:sealed", 13) == 0) {
			assert_int_equal(ftruncate(fd, 0), -1);
			assert_int_equal(ftruncate(fd, 2 * MIB), -1);
			n++;
		}
	}
	assert_int_equal(n, 2);
	sys_shm_close(got);
	sys_shm_close(m);
	pair_free(&p);
	return 0;
}

static void shared_memory_cannot_be_resized(void **state)
{
	run(seals, NULL);
}

/* ---- ends of waiting ---- */
static int deadlines(void *arg)
{
	struct pair p = pair_new("tcp:127.0.0.1:0");
	uint64_t from = sys_now_ns(s);
	struct sys_stream *c;
	size_t len = 64 * MIB;
	struct iovec iov = { calloc(1, len), len };
	void *mem = iov.iov_base;
	char buf[8];

	assert_int_equal(sys_recv(p.a, buf, 8, from + 20 * SYS_MS), E_TIMEOUT);
	assert_in_range(sys_now_ns(s) - from, 20 * SYS_MS, 5 * SYS_SEC);
	assert_int_equal(sys_accept(p.l, sys_after(s, 5 * SYS_MS), &c), E_TIMEOUT);
	assert_int_equal(sys_recv(p.a, buf, 8, 0), E_TIMEOUT);
	assert_int_equal(sys_send(p.b, &(struct iovec){ "x", 1 }, 1, soon()), 0);
	assert_int_equal(sys_recv(p.a, buf, 8, soon()), 1); /* a time-out leaves the stream whole */
	/* nobody receives: the kernel's room ends, and a stream cut in a message is broken */
	assert_int_equal(sys_send(p.a, &iov, 1, sys_after(s, 20 * SYS_MS)), E_TIMEOUT);
	assert_int_equal(sys_send(p.a, &(struct iovec){ "x", 1 }, 1, soon()), E_CLOSED);
	free(mem);
	pair_free(&p);
	return 0;
}

static void deadlines_end_waits(void **state)
{
	run(deadlines, NULL);
}

struct waiting {
	struct sys_stream *c;
	struct sys_listener *l;
	int64_t rc;
	struct fiber *f;
};

static int recv_waits(void *arg)
{
	struct waiting *w = arg;
	char buf[8];

	w->f = fiber_self();
	w->rc = sys_recv(w->c, buf, sizeof buf, soon());
	return 0;
}

static int send_waits(void *arg)
{
	struct waiting *w = arg;
	size_t len = 64 * MIB;
	struct iovec iov = { calloc(1, len), len };
	void *mem = iov.iov_base;

	w->f = fiber_self();
	w->rc = sys_send(w->c, &iov, 1, soon());
	free(mem);
	return 0;
}

static int accept_waits(void *arg)
{
	struct waiting *w = arg;
	struct sys_stream *c;

	w->f = fiber_self();
	w->rc = sys_accept(w->l, soon(), &c);
	return 0;
}

static int shuts(void *arg)
{
	struct pair p = pair_new(arg);
	struct waiting r = { .c = p.a, .rc = 1 }, w = { .c = p.a, .rc = 1 };
	struct waiting a1 = { .l = p.l, .rc = 1 }, a2 = a1;
	char buf[8];
	int64_t n;

	beside(recv_waits, &r);
	beside(send_waits, &w);
	beside(accept_waits, &a1);
	beside(accept_waits, &a2);
	assert_int_equal(fiber_sleep(sys_after(s, 5 * SYS_MS)), 0);
	sys_stream_shut(p.a);
	assert_int_equal(r.rc, 1); /* waking is queueing */
	sys_listener_close(p.l);
	assert_int_equal(group_wait(&side), 0);
	assert_int_equal(r.rc, E_CLOSED);
	assert_int_equal(w.rc, E_CLOSED);
	assert_int_equal(a1.rc, E_CLOSED);
	assert_int_equal(a2.rc, E_CLOSED);
	assert_int_equal(sys_recv(p.a, buf, 8, soon()), E_CLOSED);
	assert_int_equal(sys_send(p.a, &(struct iovec){ "x", 1 }, 1, soon()), E_CLOSED);
	while ((n = sys_recv(p.b, buf, 8, soon())) > 0)
		;
	assert_true(n == 0 || n == E_CLOSED); /* the other side sees the end */
	sys_stream_close(p.a);
	sys_stream_close(p.b);
	return 0;
}

static void shutting_wakes_both_sides_over_tcp(void **state)
{
	run(shuts, "tcp:127.0.0.1:0");
}
static void shutting_wakes_both_sides_over_unix(void **state)
{
	run(shuts, unix_addr);
}

static int cancels(void *arg)
{
	struct pair p = pair_new(unix_addr);
	struct waiting r = { .c = p.a, .rc = 1 }, w = r;
	struct waiting a = { .l = p.l, .rc = 1 };

	beside(recv_waits, &r);
	beside(send_waits, &w);
	beside(accept_waits, &a);
	assert_int_equal(fiber_sleep(sys_after(s, 5 * SYS_MS)), 0);
	group_cancel(&side);
	assert_int_equal(group_wait(&side), 0);
	assert_int_equal(r.rc, E_CANCELED);
	assert_int_equal(w.rc, E_CANCELED);
	assert_int_equal(a.rc, E_CANCELED);
	pair_free(&p);
	return 0;
}

static void cancellation_ends_waits(void **state)
{
	run(cancels, NULL);
}

static int peer_goes(void *arg)
{
	struct pair p = pair_new(arg);
	struct iovec iov = { (char[]){ "last words" }, 10 };
	char buf[64];
	int rc = 0;

	assert_int_equal(sys_send(p.a, &iov, 1, soon()), 0);
	sys_stream_close(p.a);
	p.a = NULL;
	assert_int_equal(sys_recv(p.b, buf, sizeof buf, soon()), 10);
	assert_int_equal(sys_recv(p.b, buf, sizeof buf, soon()), 0);
	assert_int_equal(sys_recv(p.b, buf, sizeof buf, soon()), 0);
	for (int i = 0; i < 100 && rc == 0; i++) { /* no signal, an error */
		struct iovec two[2] = { { "x", 1 }, { "y", 1 } };

		rc = sys_send(p.b, two, i % 2 + 1, soon());
		fiber_sleep(sys_after(s, SYS_MS));
	}
	assert_int_equal(rc, E_CLOSED);
	pair_free(&p);
	return 0;
}

static void the_end_of_a_peer_is_told_over_tcp(void **state)
{
	run(peer_goes, "tcp:127.0.0.1:0");
}
static void the_end_of_a_peer_is_told_over_unix(void **state)
{
	run(peer_goes, unix_addr);
}

/* Bytes that come while nobody receives are neither lost nor waited for. */
static int unread(void *arg)
{
	struct pair p = pair_new("tcp:127.0.0.1:0");
	char buf[64];

	for (int i = 0; i < 20; i++) {
		assert_int_equal(sys_recv(p.b, buf, sizeof buf, sys_after(s, SYS_MS)), E_TIMEOUT);
		assert_int_equal(sys_send(p.a, &(struct iovec){ "abc", 3 }, 1, soon()), 0);
		assert_int_equal(fiber_sleep(sys_after(s, SYS_MS)), 0);
		assert_int_equal(sys_recv(p.b, buf, sizeof buf, soon()), 3);
	}
	pair_free(&p);
	return 0;
}

static void bytes_wait_for_their_receiver(void **state)
{
	run(unread, NULL);
}

/* ---- refusals ---- */
static int refusals(void *arg)
{
	struct err_note note = { "" };
	struct sys_listener *l, *other;
	struct sys_stream *c;
	char addr[SYS_ADDR_MAX], pid[32], long_path[300];

	assert_int_equal(sys_listen(s, "tcp:127.0.0.1:0", &l, &note), 0);
	snprintf(addr, sizeof addr, "%s", sys_listener_addr(l));
	assert_int_equal(sys_listen(s, addr, &other, &note), E_INUSE);
	snprintf(pid, sizeof pid, "pid %d (", (int)getpid());
	assert_non_null(strstr(note.text, pid));
	assert_non_null(strstr(note.text, addr));
	sys_listener_close(l);
	assert_int_equal(sys_connect(s, addr, soon(), &c, &note), E_UNREACH);
	assert_non_null(strstr(note.text, "refused"));
	assert_int_equal(sys_listen(s, addr, &l, &note), 0); /* free again at once */
	sys_listener_close(l);

	memset(long_path, 'x', sizeof long_path);
	memcpy(long_path, "unix:/", 6);
	long_path[200] = '\0';
	assert_int_equal(sys_listen(s, long_path, &l, &note), E_TOOBIG);
	assert_int_equal(sys_listen(s, "unix:relative", &l, &note), E_INVALID);
	assert_int_equal(sys_listen(s, "udp:x:1", &l, &note), E_INVALID);
	assert_int_equal(sys_listen(s, "tcp:127.0.0.1", &l, &note), E_INVALID);
	assert_int_equal(sys_listen(s, "tcp:127.0.0.1:65536", &l, &note), E_INVALID);
	assert_int_equal(sys_listen(s, "tcp:127.0.0.1:7x", &l, &note), E_INVALID);
	assert_int_equal(sys_listen(s, "tcp:127.0.0.1:-1", &l, &note), E_INVALID);
	assert_int_equal(sys_connect(s, "unix:/nowhere/at/all", soon(), &c, &note), E_UNREACH);
	assert_int_equal(
		sys_connect(s, "tcp:no.such.host.invalid:1", soon(), &c, &note), E_UNREACH);
	return 0;
}

static void refusals_name_their_reason(void **state)
{
	run(refusals, NULL);
}

static int stale(void *arg)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct err_note note = { "" };
	struct sys_listener *l, *other;
	const char *path = unix_addr + 5;
	char pid[32];

	strcpy(un.sun_path, path);
	assert_int_equal(bind(fd, (void *)&un, sizeof un), 0);
	close(fd); /* as a killed server leaves it */
	assert_int_equal(sys_listen(s, unix_addr, &l, &note), 0);
	assert_int_equal(sys_listen(s, unix_addr, &other, &note), E_INUSE);
	snprintf(pid, sizeof pid, "pid %d (", (int)getpid());
	assert_non_null(strstr(note.text, pid));
	/* a listener removes its own file only */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(sys_listen(s, unix_addr, &other, &note), 0);
	sys_listener_close(l);
	assert_int_equal(access(path, F_OK), 0);
	sys_listener_close(other);
	assert_int_equal(access(path, F_OK), -1);

	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	assert_int_equal(sys_listen(s, unix_addr, &l, &note), E_INUSE);
	assert_int_equal(access(path, F_OK), 0); /* somebody's file is not touched */
	unlink(path);
	return 0;
}

static void stale_sockets_are_replaced_and_live_ones_kept(void **state)
{
	run(stale, NULL);
}

static int connect_ends(void *arg)
{
	/* a queue of one that nobody accepts from: the third connection hangs */
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), n;
	struct sys_stream *c[8] = { NULL };
	struct err_note note = { "" };
	socklen_t len = sizeof in;
	char addr[64];
	int rc = 0;

	assert_int_equal(bind(fd, (void *)&in, sizeof in), 0);
	assert_int_equal(listen(fd, 0), 0);
	assert_int_equal(getsockname(fd, (void *)&in, &len), 0);
	snprintf(addr, sizeof addr, "tcp:127.0.0.1:%u", ntohs(in.sin_port));
	for (n = 0; n < 8 && rc == 0; n++)
		rc = sys_connect(s, addr, sys_after(s, 20 * SYS_MS), &c[n], &note);
	assert_int_equal(rc, E_TIMEOUT);
	for (int i = 0; i < n; i++)
		sys_stream_close(c[i]);
	close(fd);
	return 0;
}

static void connecting_has_a_deadline(void **state)
{
	run(connect_ends, NULL);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(echoes_over_tcp),
		T(echoes_by_host_name),
		T(echoes_over_a_unix_socket),
		T(descriptors_travel_with_bytes),
		T(a_descriptor_travels_once),
		T(tcp_carries_no_descriptors),
		T(descriptors_that_could_shrink_are_refused),
		T(shared_memory_cannot_be_resized),
		T(deadlines_end_waits),
		T(shutting_wakes_both_sides_over_tcp),
		T(shutting_wakes_both_sides_over_unix),
		T(cancellation_ends_waits),
		T(the_end_of_a_peer_is_told_over_tcp),
		T(the_end_of_a_peer_is_told_over_unix),
		T(bytes_wait_for_their_receiver),
		T(refusals_name_their_reason),
		T(stale_sockets_are_replaced_and_live_ones_kept),
		T(connecting_has_a_deadline),
	};

	return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
