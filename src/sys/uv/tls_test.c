/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes come through as they were sent, to who may have them and to nobody else; every failure is
 * an error in time. */
#include "base/check.h"
#include "base/limit.h"
#include "sys/uv/cert.h"
#include "sys/uv/sys_uv.h"
#include "sys/uv/tls.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { MIB = 1 << 20, PATH_BYTES = 128 };
static struct sys *s;
static char folder[] = "/tmp/wadi-tls-XXXXXX";
static struct cert_pem authority, stranger;
static const char *hosts = "127.0.0.1,localhost"; /* of the nodes to come */

static uint64_t soon(void) { return sys_after(s, 20 * SYS_SEC); }
static uint64_t now_s(void) { return (uint64_t)time(NULL); }

/* ---- certificates in files ---- */
static void put(const char *name, const char *kind, const char *text)
{
	char path[PATH_BYTES], fresh[PATH_BYTES + 4];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s.%s", folder, name, kind);
	snprintf(fresh, sizeof fresh, "%s.new", path);
	f = fopen(fresh, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(rename(fresh, path), 0);
}

static void issue_for(const char *name, enum cert_role role, const struct cert_pem *by,
	const struct cert_pem *trusts, int64_t from, int64_t until)
{
	struct cert_ask ask = { role, name, role == CERT_NODE ? hosts : NULL,
		now_s() + (uint64_t)from, now_s() + (uint64_t)until, NULL };
	struct err_note note = { "" };
	static struct cert_pem made;
	int rc = cert_make(&ask, by, &made, &note);

	if (rc < 0)
		fail_msg("%s", note.text);
	put(name, "crt", made.cert);
	put(name, "key", made.key);
	put(name, "ca", trusts->cert);
}

static void issue(const char *name, enum cert_role role)
{
	issue_for(name, role, &authority, &authority, -60, 3600);
}

static struct sys_tls files_of(const char *name, char room[3][PATH_BYTES])
{
	static const char *const kinds[3] = { "ca", "crt", "key" };

	for (int i = 0; i < 3; i++)
		snprintf(room[i], PATH_BYTES, "%s/%s.%s", folder, name, kinds[i]);
	return (struct sys_tls){ room[0], room[1], room[2], false };
}

static void use(struct sys *door, const char *name)
{
	struct err_note note = { "" };
	char room[3][PATH_BYTES];
	struct sys_tls files = files_of(name, room);

	if (sys_tls_use(door, &files, &note) < 0)
		fail_msg("%s", note.text);
}

static int setup_all(void **state)
{
	struct cert_ask ask = { CERT_AUTHORITY, "home", NULL, now_s() - 60, now_s() + 3600,
		NULL };

	assert_non_null(mkdtemp(folder));
	assert_int_equal(cert_make(&ask, NULL, &authority, NULL), 0);
	assert_int_equal(cert_make(&ask, NULL, &stranger, NULL), 0);
	issue("one", CERT_NODE);
	issue("two", CERT_NODE);
	issue("reader", CERT_CLIENT);
	return 0;
}

static int teardown_all(void **state)
{
	char line[PATH_BYTES];

	snprintf(line, sizeof line, "rm -r %s", folder);
	return system(line);
}

static int setup(void **state)
{
	tls_key_bytes = UINT64_C(64) << 30;
	creds_look_ns = 0;
	return sys_uv_new(&s, NULL);
}

static int teardown(void **state)
{
	sys_uv_free(s);
	return 0;
}

/* ---- a server with certificates of its own, on its own loop ---- */
struct server {
	struct sys *sys;
	const char *name;
	struct sys_thread *thread;
	struct group group;
	char addr[SYS_ADDR_MAX];
	atomic_bool up;
	atomic_int last;       /* what the last connection ended with */
	atomic_int n_ended;
	struct sys_cert peer;  /* of the last one that was let in; read after it ended */
	uint64_t patience_ns;
};
struct guest { struct server *v; struct sys_stream *c; };

static int echo(void *arg)
{
	struct guest *g = arg;
	enum { ROOM = 64 * 1024 };
	char *buf = malloc(ROOM);
	int64_t n;
	int rc = 0;

	while (rc == 0 && (n = sys_recv(g->c, buf, ROOM, sys_after(g->v->sys, g->v->patience_ns))) >
					0) {
		struct iovec iov[3] = { { buf, 1 }, { buf + 1, 0 }, { buf + 1, (size_t)n - 1 } };

		g->v->peer = *sys_stream_cert(g->c);
		rc = sys_send(g->c, iov, 3, sys_after(g->v->sys, 20 * SYS_SEC));
	}
	if (rc == 0)
		rc = (int)n;
	free(buf);
	sys_stream_close(g->c);
	atomic_store(&g->v->last, rc);
	atomic_fetch_add(&g->v->n_ended, 1);
	free(g);
	return 0;
}

static int serve(struct sys *door, void *arg)
{
	struct server *v = arg;
	struct err_note note = { "" };
	struct sys_listener *l;
	struct sys_stream *c;

	v->sys = door;
	group_init(&v->group, sys_loop(door));
	v->group.keep_going = true;
	use(door, v->name);
	if (sys_listen(door, "tls:127.0.0.1:0", &l, &note) < 0)
		fail_msg("%s", note.text);
	snprintf(v->addr, sizeof v->addr, "%s", sys_listener_addr(l));
	atomic_store(&v->up, true);
	while (sys_accept(l, FOREVER, &c) == 0) {
		struct guest *g = malloc(sizeof *g);

		*g = (struct guest){ v, c };
		check(fiber_start(&v->group, "echo", echo, g) == 0);
	}
	fiber_shield(FOREVER);
	group_cancel(&v->group);
	group_wait(&v->group);
	fiber_unshield();
	sys_listener_close(l);
	return 0;
}

static void open_server(struct server *v, const char *name)
{
	*v = (struct server){ .name = name, .patience_ns = 20 * SYS_SEC };
	assert_int_equal(sys_uv_thread(s, "server", serve, v, &v->thread, NULL), 0);
	while (!atomic_load(&v->up))
		fiber_sleep(sys_after(s, SYS_MS));
}

static void close_server(struct server *v)
{
	int rc;

	sys_uv_thread_stop(v->thread);
	assert_int_equal(sys_uv_thread_join(v->thread, &rc), 0);
	assert_int_equal(rc, 0);
}

static int ended(struct server *v, int n)
{
	while (atomic_load(&v->n_ended) < n)
		fiber_sleep(sys_after(s, SYS_MS));
	return atomic_load(&v->last);
}

static struct sys_stream *call(const char *addr)
{
	struct err_note note = { "" };
	struct sys_stream *c = NULL;

	if (sys_connect(s, addr, soon(), &c, &note) < 0)
		fail_msg("%s", note.text);
	return c;
}

static void run(fiber_fn *fn)
{
	assert_int_equal(sys_uv_run(s, "test", fn, NULL), 0);
}

/* ---- bytes ---- */
struct sending { struct sys_stream *c; uint8_t *bytes; size_t len; };

static int sends(void *arg)
{
	struct sending *m = arg;
	struct iovec iov = { m->bytes, m->len };

	return sys_send(m->c, &iov, 1, soon());
}

static void talk(struct sys_stream *c, size_t len)
{
	uint8_t *out = malloc(len), *in = malloc(len);
	struct sending m = { c, out, len };
	struct group g;

	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)(i * 31 + i / 251);
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

static int talks(void *arg)
{
	struct sys_stream *c[3];
	struct server v;

	open_server(&v, "one");
	use(s, "two");
	for (int i = 0; i < 3; i++)
		c[i] = call(v.addr);
	for (int i = 0; i < 3; i++) {
		talk(c[i], 1);
		talk(c[i], 16384);
		talk(c[i], 16385);
		talk(c[i], 5 * MIB + 3);
		assert_false(sys_stream_local(c[i]));
		assert_int_equal(sys_stream_uid(c[i]), -1);
		assert_memory_equal(sys_stream_peer(c[i]), "tls:127.0.0.1:", 14);
	}
	for (int i = 0; i < 3; i++)
		sys_stream_close(c[i]);
	assert_int_equal(ended(&v, 3), 0); /* they said goodbye */
	close_server(&v);
	return 0;
}

static void test_bytes_both_ways(void **state) { run(talks); }

static void test_keys_change(void **state)
{
	tls_key_bytes = 100000;
	run(talks);
}

static int knows(void *arg)
{
	struct sys_stream *c;
	struct server v;

	open_server(&v, "one");
	use(s, "reader");
	c = call(v.addr);
	assert_string_equal(sys_stream_cert(c)->id, "node:one");
	talk(c, 100);
	sys_stream_close(c);
	assert_int_equal(ended(&v, 1), 0);
	assert_string_equal(v.peer.id, "client:reader");
	assert_true(v.peer.hash[0] != 0 || v.peer.hash[1] != 0 || v.peer.hash[2] != 0);
	close_server(&v);
	return 0;
}

static void test_each_side_knows_the_other(void **state) { run(knows); }

/* ---- who is refused ---- */
/* Connects as name to a server that is server: what it ends with on either side. */
struct refusal { const char *name, *server, *host; int rc, server_rc; const char *words; };

static int refused(void *arg)
{
	const struct refusal *r = arg;
	struct err_note note = { "" };
	struct sys_stream *c = NULL;
	char addr[SYS_ADDR_MAX], byte = 'x';
	struct iovec iov = { &byte, 1 };
	struct server v;
	int64_t rc;

	open_server(&v, r->server);
	use(s, r->name);
	snprintf(addr, sizeof addr, "tls:%.100s%.20s", r->host, strrchr(v.addr, ':'));
	rc = sys_connect(s, addr, soon(), &c, &note);
	if (rc == 0) { /* the server decides last, and says so later */
		rc = sys_send(c, &iov, 1, soon());
		if (rc == 0)
			rc = sys_recv(c, &byte, 1, soon());
		sys_stream_close(c);
	}
	if (rc != r->rc || strstr(note.text, r->words) == NULL)
		fail_msg("%s to %s: %lld %s", r->name, r->server, (long long)rc, note.text);
	assert_int_equal(ended(&v, 1), r->server_rc);
	close_server(&v);
	return 0;
}

static void refuse(struct refusal r)
{
	sys_uv_free(s);
	assert_int_equal(sys_uv_new(&s, NULL), 0);
	assert_int_equal(sys_uv_run(s, "test", refused, &r), 0);
}

static void test_a_server_of_another_authority(void **state)
{
	issue_for("foreign", CERT_NODE, &stranger, &authority, -60, 3600);
	refuse((struct refusal){ "one", "foreign", "127.0.0.1", E_DENIED, E_DENIED,
		"unable to get local issuer certificate" });
}

static void test_a_client_of_another_authority(void **state)
{
	issue_for("spy", CERT_CLIENT, &stranger, &authority, -60, 3600);
	refuse((struct refusal){ "spy", "one", "127.0.0.1", E_DENIED, E_DENIED, "" });
}

static void test_an_expired_server(void **state)
{
	issue_for("old", CERT_NODE, &authority, &authority, -3600, -60);
	refuse((struct refusal){ "one", "old", "127.0.0.1", E_DENIED, E_DENIED, "has expired" });
}

static void test_an_expired_client(void **state)
{
	issue_for("former", CERT_CLIENT, &authority, &authority, -3600, -60);
	refuse((struct refusal){ "former", "one", "127.0.0.1", E_DENIED, E_DENIED, "" });
}

static void test_a_client_that_serves(void **state)
{
	refuse((struct refusal){ "one", "reader", "127.0.0.1", E_DENIED, E_DENIED, "purpose" });
}

static void test_another_host(void **state)
{
	hosts = "127.0.0.2,elsewhere";
	issue("away", CERT_NODE);
	hosts = "127.0.0.1,localhost";
	refuse((struct refusal){ "one", "away", "127.0.0.1", E_DENIED, E_DENIED, "IP address" });
	refuse((struct refusal){ "one", "away", "localhost", E_DENIED, E_DENIED, "ostname" });
}

static int others_name(void *arg)
{
	struct err_note note = { "" };
	struct sys_listener *l;
	char addr[SYS_ADDR_MAX];
	struct sys_stream *c;
	struct server v;

	open_server(&v, "one");
	use(s, "reader");
	snprintf(addr, sizeof addr, "tls:localhost%.20s", strrchr(v.addr, ':'));
	c = call(addr);
	talk(c, 10);
	sys_stream_close(c);
	close_server(&v);
	/* a listener keeps the name that its certificate is made out to */
	assert_int_equal(sys_listen(s, "tls:localhost:0", &l, &note), 0);
	assert_memory_equal(sys_listener_addr(l), "tls:localhost:", 14);
	assert_true(sys_listener_addr(l)[14] != '0');
	sys_listener_close(l);
	return 0;
}

static void test_a_host_by_its_name(void **state) { run(others_name); }

static int bare(void *arg)
{
	struct err_note note = { "" };
	struct sys_listener *l;
	struct sys_stream *c;

	assert_int_equal(sys_listen(s, "tls:127.0.0.1:0", &l, &note), E_INVALID);
	assert_int_equal(sys_listen(s, "tcp:127.0.0.1:0", &l, &note), 0);
	assert_int_equal(sys_connect(s, "tls:127.0.0.1:1", soon(), &c, &note), E_UNREACH);
	sys_listener_close(l);
	return 0;
}

static void test_without_certificates(void **state) { run(bare); }

static int bad_files(void *arg)
{
	struct err_note note = { "" };
	char room[3][PATH_BYTES], mixed[PATH_BYTES];
	struct sys_tls files = files_of("one", room);

	snprintf(mixed, sizeof mixed, "%s/two.key", folder);
	files.key = mixed;
	assert_int_equal(sys_tls_use(s, &files, &note), E_INVALID);
	assert_non_null(strstr(note.text, "two.key"));
	files.key = "/nowhere/key";
	assert_int_equal(sys_tls_use(s, &files, &note), E_NOTFOUND);
	assert_non_null(strstr(note.text, "/nowhere/key"));
	files = files_of("one", room);
	files.ca = files.key;
	assert_true(sys_tls_use(s, &files, &note) < 0);
	assert_non_null(strstr(note.text, "authority"));
	use(s, "one");
	return 0;
}

static void test_files_that_do_not_fit(void **state) { run(bad_files); }

/* ---- what is not TLS, or not all of it ---- */
static char *plain_addr(const char *addr, char room[SYS_ADDR_MAX])
{
	snprintf(room, SYS_ADDR_MAX, "tcp:%.200s", addr + 4);
	return room;
}

static int garbage(void *arg)
{
	uint64_t seed = 7;
	uint8_t bytes[600], answer[600];
	char addr[SYS_ADDR_MAX];
	struct server v;

	open_server(&v, "one");
	use(s, "two");
	for (int i = 0; i < 40; i++) {
		struct iovec iov = { bytes, 1 + (size_t)i * 15 };
		struct sys_stream *c = call(plain_addr(v.addr, addr));
		int64_t n;

		for (size_t k = 0; k < sizeof bytes; k++)
			bytes[k] = (uint8_t)prng_mix(&seed);
		if (i % 2 == 0) /* like the beginning of a handshake */
			memcpy(bytes, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
		if (i % 5 == 0)
			memcpy(bytes, "WADI", 4);
		assert_int_equal(sys_send(c, &iov, 1, soon()), 0);
		shutdown(c->fd, SHUT_WR);
		while ((n = sys_recv(c, answer, sizeof answer, soon())) > 0)
			assert_int_equal(answer[0], 0x15); /* nothing but an alert */
		sys_stream_close(c);
		n = ended(&v, i + 1);
		assert_true(n == E_CORRUPT || n == E_CLOSED);
	}
	sys_stream_close(call(v.addr)); /* others are let in */
	close_server(&v);
	return 0;
}

static void test_garbage_to_a_tls_port(void **state) { run(garbage); }

static int speaks_plain(void *arg)
{
	struct sys_stream *c;
	struct iovec iov = { "WADI is not TLS: an error frame of ours", 39 };
	char byte;

	assert_int_equal(sys_accept(arg, soon(), &c), 0);
	assert_true(sys_recv(c, &byte, 1, soon()) == 1);
	assert_int_equal(sys_send(c, &iov, 1, soon()), 0);
	while (sys_recv(c, &byte, 1, soon()) > 0)
		continue;
	sys_stream_close(c);
	return 0;
}

static int to_plain(void *arg)
{
	struct err_note note = { "" };
	struct sys_listener *l;
	struct sys_stream *c;
	char addr[SYS_ADDR_MAX];
	struct group g;

	use(s, "two");
	assert_int_equal(sys_listen(s, "tcp:127.0.0.1:0", &l, &note), 0);
	snprintf(addr, sizeof addr, "tls:%.200s", sys_listener_addr(l) + 4);
	group_init(&g, sys_loop(s));
	assert_int_equal(fiber_start(&g, "plain", speaks_plain, l), 0);
	assert_int_equal(sys_connect(s, addr, soon(), &c, &note), E_CORRUPT);
	assert_non_null(strstr(note.text, "TLS"));
	assert_int_equal(group_wait(&g), 0);
	/* nobody answers at all */
	assert_int_equal(sys_connect(s, addr, sys_after(s, 30 * SYS_MS), &c, &note), E_TIMEOUT);
	sys_listener_close(l);
	return 0;
}

static void test_tls_to_a_plain_port(void **state) { run(to_plain); }

static int slow(void *arg)
{
	char addr[SYS_ADDR_MAX];
	struct sys_stream *c;
	struct server v;
	char byte;

	open_server(&v, "one");
	use(s, "two");
	v.patience_ns = 30 * SYS_MS;
	c = call(plain_addr(v.addr, addr));
	assert_int_equal(ended(&v, 1), E_TIMEOUT);
	assert_int_equal(sys_recv(c, &byte, 1, soon()), 0);
	sys_stream_close(c);
	close_server(&v);
	return 0;
}

static void test_a_handshake_that_does_not_come(void **state) { run(slow); }

static int crowd(void *arg)
{
	enum { N = LIMIT_TLS_HANDSHAKES_MAX + 1 };
	struct sys_stream **c = calloc(N, sizeof(struct sys_stream *)), *good;
	char addr[SYS_ADDR_MAX], byte;
	struct server v;

	open_server(&v, "one");
	use(s, "two");
	for (int i = 0; i < N; i++)
		c[i] = call(plain_addr(v.addr, addr));
	assert_int_equal(ended(&v, 1), E_BUSY);
	assert_int_equal(sys_recv(c[0], &byte, 1, soon()), 0);
	good = call(v.addr); /* and another one has to go */
	talk(good, 1000);
	assert_int_equal(ended(&v, 2), E_BUSY);
	sys_stream_close(good);
	for (int i = 0; i < N; i++)
		sys_stream_close(c[i]);
	free(c);
	close_server(&v);
	return 0;
}

static void test_more_handshakes_than_there_may_be(void **state) { run(crowd); }

/* ---- somebody in the middle ---- */
struct relay { /* one connection, one way spoiled */
	struct sys_listener *l;
	const char *to;
	struct sys_stream *side[2];
	int way;           /* 0: what the caller says */
	uint64_t at, seen; /* the byte that is changed, or behind which all ends */
	bool cut;
};
struct pump { struct relay *r; int way; };

static int pump(void *arg)
{
	struct pump *p = arg;
	struct relay *r = p->r;
	uint8_t buf[2048];
	int64_t n;

	while ((n = sys_recv(r->side[p->way], buf, sizeof buf, soon())) > 0) {
		struct iovec iov = { buf, (size_t)n };

		if (p->way == r->way) {
			if (r->at >= r->seen && r->at < r->seen + (uint64_t)n) {
				if (r->cut)
					break;
				buf[r->at - r->seen] ^= 0x10;
			}
			r->seen += (uint64_t)n;
		}
		if (sys_send(r->side[1 - p->way], &iov, 1, soon()) < 0)
			break;
	}
	sys_stream_shut(r->side[0]);
	sys_stream_shut(r->side[1]);
	return 0;
}

static int relay(void *arg)
{
	struct relay *r = arg;
	struct pump p[2] = { { r, 0 }, { r, 1 } };
	struct group g;

	assert_int_equal(sys_accept(r->l, soon(), &r->side[0]), 0);
	r->side[1] = call(r->to);
	group_init(&g, sys_loop(s));
	for (int i = 0; i < 2; i++)
		assert_int_equal(fiber_start(&g, "pump", pump, &p[i]), 0);
	assert_int_equal(group_wait(&g), 0);
	sys_stream_close(r->side[0]);
	sys_stream_close(r->side[1]);
	return 0;
}

/* Asks for an echo of 40000 bytes through the relay: what it ends with. */
static int through(const char *addr)
{
	enum { LEN = 40000 };
	uint8_t *out = malloc(LEN), *in = malloc(LEN);
	struct iovec iov = { out, LEN };
	struct sys_stream *c = NULL;
	int64_t n = sys_connect(s, addr, soon(), &c, NULL);
	size_t got = 0;

	memset(out, 'a', LEN);
	if (n == 0)
		n = sys_send(c, &iov, 1, soon());
	while (n >= 0 && got < LEN && (n = sys_recv(c, in + got, LEN - got, soon())) > 0) {
		assert_memory_equal(in + got, out, (size_t)n); /* never other bytes */
		got += (size_t)n;
	}
	sys_stream_close(c);
	free(out);
	free(in);
	return got == LEN ? 0 : n == 0 ? 1 : (int)n;
}

static int middle(void *arg)
{
	static const uint64_t places[] = { 0, 5, 60, 400, 900, 1500, 3000, 20000, 39000 };
	char addr[SYS_ADDR_MAX], room[SYS_ADDR_MAX];
	struct sys_listener *l;
	struct server v;

	open_server(&v, "one");
	use(s, "two");
	assert_int_equal(sys_listen(s, "tcp:127.0.0.1:0", &l, NULL), 0);
	snprintf(addr, sizeof addr, "tls:%.200s", sys_listener_addr(l) + 4);
	for (int i = 0; i < 4 * (int)(sizeof places / sizeof places[0]) + 1; i++) {
		struct relay r = { .l = l, .to = plain_addr(v.addr, room), .way = i & 1,
			.cut = i & 2, .at = i < 36 ? places[i / 4] : UINT64_MAX };
		struct group g;
		int rc;

		group_init(&g, sys_loop(s));
		assert_int_equal(fiber_start(&g, "relay", relay, &r), 0);
		rc = through(addr);
		assert_int_equal(group_wait(&g), 0);
		if (i == 36)
			assert_int_equal(rc, 0);
		else if (rc != E_CORRUPT && rc != E_CLOSED && rc != E_DENIED)
			fail_msg("byte %llu, way %d, cut %d: %d", (unsigned long long)r.at, r.way,
				r.cut, rc);
	}
	sys_listener_close(l);
	close_server(&v);
	return 0;
}

static void test_somebody_in_the_middle(void **state) { run(middle); }

/* ---- new certificates ---- */
static int rotate(void *arg)
{
	struct sys_stream *old, *c;
	struct sys_cert before;
	struct server v;

	open_server(&v, "one");
	use(s, "reader");
	old = call(v.addr);
	before = *sys_stream_cert(old);
	issue("one", CERT_NODE);
	c = call(v.addr);
	assert_string_equal(sys_stream_cert(c)->id, "node:one");
	assert_memory_not_equal(sys_stream_cert(c)->hash, before.hash, sizeof before.hash);
	before = *sys_stream_cert(c);
	sys_stream_close(c);
	/* half of a new set: the last whole one stays */
	put("one", "key", "-----BEGIN PRIVATE KEY-----\nno\n");
	c = call(v.addr);
	assert_memory_equal(sys_stream_cert(c)->hash, before.hash, sizeof before.hash);
	talk(c, 100000);
	talk(old, 100000);
	sys_stream_close(c);
	sys_stream_close(old);
	issue("one", CERT_NODE);
	c = call(v.addr);
	assert_memory_not_equal(sys_stream_cert(c)->hash, before.hash, sizeof before.hash);
	sys_stream_close(c);
	close_server(&v);
	return 0;
}

static void test_new_certificates_while_connected(void **state) { run(rotate); }

/* ---- making certificates ---- */
static void test_what_is_made_can_be_read(void **state)
{
	struct cert_ask ask = { CERT_NODE, "n-1.a_b", "db.example.org,10.0.0.7,fe80::1,h", 1000,
		UINT64_C(4102444800), NULL };
	struct err_note note = { "" };
	static struct cert_pem made, other;
	struct cert_facts f;

	assert_int_equal(cert_make(&ask, &authority, &made, &note), 0);
	assert_int_equal(cert_make(&ask, &authority, &other, &note), 0);
	assert_int_equal(cert_read(made.cert, made.key, &f, &note), 0);
	assert_int_equal(f.role, CERT_NODE);
	assert_string_equal(f.name, "n-1.a_b");
	assert_string_equal(f.hosts, "db.example.org,10.0.0.7,fe80::1,h");
	assert_int_equal(f.from_s, 1000);
	assert_int_equal(f.until_s, UINT64_C(4102444800));
	assert_int_equal(strlen(f.hash), 64);
	assert_true(f.key_fits);
	assert_int_equal(cert_read(made.cert, other.key, &f, &note), 0);
	assert_false(f.key_fits);
	assert_int_equal(cert_read(authority.cert, NULL, &f, &note), 0);
	assert_int_equal(f.role, CERT_AUTHORITY);
	assert_string_equal(f.name, "home");
	assert_int_equal(cert_read("nothing", NULL, &f, &note), E_INVALID);
	/* who is no authority signs nothing */
	assert_int_equal(cert_make(&ask, &made, &other, &note), E_INVALID);
	cert_wipe(&made);
	assert_int_equal(made.key[0], 0);
}

static void test_a_seed_gives_the_same(void **state)
{
	static const uint8_t seeds[2][CERT_SEED_BYTES] = { { 1 }, { 2 } };
	struct cert_ask ask = { CERT_AUTHORITY, "a", NULL, 0, UINT64_C(253402300799), seeds[0] };
	static struct cert_pem tops[3], leafs[3];
	struct cert_facts f;

	for (int i = 0; i < 3; i++) {
		ask = (struct cert_ask){ CERT_AUTHORITY, "a", NULL, 0, ask.until_s, seeds[i / 2] };
		assert_int_equal(cert_make(&ask, NULL, &tops[i], NULL), 0);
		ask = (struct cert_ask){ CERT_NODE, "n", hosts, 0, ask.until_s, seeds[1] };
		assert_int_equal(cert_make(&ask, &tops[i], &leafs[i], NULL), 0);
	}
	assert_memory_equal(&tops[0], &tops[1], sizeof tops[0]);
	assert_memory_equal(&leafs[0], &leafs[1], sizeof leafs[0]);
	assert_string_not_equal(tops[0].key, tops[2].key);
	assert_string_equal(leafs[0].key, leafs[2].key);
	assert_string_not_equal(leafs[0].cert, leafs[2].cert);
	assert_int_equal(cert_read(leafs[0].cert, leafs[0].key, &f, NULL), 0);
	assert_true(f.key_fits);
	assert_int_equal(f.until_s, ask.until_s);
	ask.hosts = "another";
	assert_int_equal(cert_make(&ask, &tops[0], &leafs[1], NULL), 0);
	assert_string_not_equal(leafs[0].cert, leafs[1].cert);
}

static void test_names_that_cannot_be(void **state)
{
	static const char *const names[] = { "", "a b", "a,DNS:evil", "a/b", "a\nb",
		"0123456789012345678901234567890123456789012345678901234567890123" };
	static const char *const lists[] = { "", "a,,b", "a,", "*", "a b", "x,URI:wadi:node:y",
		"host\n" };
	static struct cert_pem made;

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		struct cert_ask ask = { CERT_CLIENT, names[i], NULL, 1, 2, NULL };

		assert_int_equal(cert_make(&ask, &authority, &made, NULL), E_INVALID);
	}
	for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
		struct cert_ask ask = { CERT_NODE, "n", lists[i], 1, 2, NULL };

		assert_int_equal(cert_make(&ask, &authority, &made, NULL), E_INVALID);
	}
}

#define DOOR(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		DOOR(test_bytes_both_ways),
		DOOR(test_keys_change),
		DOOR(test_each_side_knows_the_other),
		DOOR(test_a_server_of_another_authority),
		DOOR(test_a_client_of_another_authority),
		DOOR(test_an_expired_server),
		DOOR(test_an_expired_client),
		DOOR(test_a_client_that_serves),
		DOOR(test_another_host),
		DOOR(test_a_host_by_its_name),
		DOOR(test_without_certificates),
		DOOR(test_files_that_do_not_fit),
		DOOR(test_garbage_to_a_tls_port),
		DOOR(test_tls_to_a_plain_port),
		DOOR(test_a_handshake_that_does_not_come),
		DOOR(test_more_handshakes_than_there_may_be),
		DOOR(test_somebody_in_the_middle),
		DOOR(test_new_certificates_while_connected),
		cmocka_unit_test(test_what_is_made_can_be_read),
		cmocka_unit_test(test_a_seed_gives_the_same),
		cmocka_unit_test(test_names_that_cannot_be),
	};

	return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
