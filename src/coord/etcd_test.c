/* SPDX-License-Identifier: Apache-2.0 */
/* coord in a real etcd: one member and three, on loopback with ports that were free, killed,
 * stopped and asked for passwords and certificates. */
#include "coord/etcd.h"
#include "base/check.h"
#include "coord/contract_test.h"
#include "coord/embedded.h"
#include "coord/etcd_child.h"
#include "coord/open.h"
#include "sys/uv/sys_uv.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { MEMBERS = 3, RACERS = 6, PATH_BYTES = 256, URL_BYTES = 128 };

static struct sys *s;
static struct err_note note;
static char dir[PATH_BYTES], path_was[4096];
static struct coord_etcd_member members[ETCD_MEMBERS_MAX];

static uint64_t in_ms(uint64_t ms)
{
	return sys_after(s, ms * SYS_MS);
}
static uint64_t soon(void)
{
	return in_ms(20000);
}

/* ---- members ---- */
/* A test that has failed leaves its fibers where they are: its children are ended at least. */
enum { CHILDREN_MAX = 8 };
static struct etcd_child *children[CHILDREN_MAX];
static uint32_t n_children;
static bool passed;

/* What stops the test must not leave them behind. */
static void end_children(int number)
{
	for (uint32_t i = 0; i < n_children; i++)
		if (etcd_child_pid(children[i]) > 0)
			kill((pid_t)etcd_child_pid(children[i]), SIGKILL);
}

static void end_at_once(int number)
{
	end_children(number);
	_exit(1);
}

struct member {
	char name[8], data[PATH_BYTES + 16], client[URL_BYTES], peer[URL_BYTES];
	struct etcd_child *child;
};

/* Two ports that nobody listens on. */
static void free_ports(unsigned ret_ports[2])
{
	struct sys_listener *l[2];

	for (int i = 0; i < 2; i++) {
		assert_int_equal(sys_listen(s, "tcp:127.0.0.1:0", &l[i], &note), 0);
		ret_ports[i] = (unsigned)strtoul(
			strrchr(sys_listener_addr(l[i]), ':') + 1, NULL, 10);
	}
	sys_listener_close(l[0]);
	sys_listener_close(l[1]);
}

static void member_init(struct member *m, const char *group, unsigned i, const char *scheme)
{
	unsigned ports[2];

	free_ports(ports);
	snprintf(m->name, sizeof m->name, "m%u", i);
	snprintf(m->data, sizeof m->data, "%s/%s%u", dir, group, i);
	snprintf(m->client, sizeof m->client, "%s://127.0.0.1:%u", scheme, ports[0]);
	snprintf(m->peer, sizeof m->peer, "http://127.0.0.1:%u", ports[1]);
	m->child = NULL;
}

static void member_start(
	struct member *m, const char *all, bool joining, const struct etcd_child_tls *tls)
{
	struct etcd_child_opts o = { .name = m->name,
		.data_dir = m->data,
		.client_url = m->client,
		.peer_url = m->peer,
		.initial_cluster = all,
		.joining = joining,
		.heartbeat_ms = 20,
		.election_ms = 200 };
	int rc;

	if (tls != NULL)
		o.client_tls = *tls;
	rc = etcd_child_start(s, &o, &m->child, &note);
	if (rc < 0)
		printf("%s\n", note.text);
	assert_int_equal(rc, 0);
	assert_true(n_children < CHILDREN_MAX);
	children[n_children++] = m->child;
}

static void member_stop(struct member *m)
{
	for (uint32_t i = 0; i < n_children; i++)
		if (children[i] == m->child)
			children[i] = children[--n_children];
	etcd_child_stop(m->child, in_ms(500)); /* without a majority it takes its time */
}

static void open_at(const char *hosts, const char *scheme, const char *user, const char *password,
	const struct sys_http_tls *tls, struct coord **ret_c)
{
	struct coord_etcd_opts o = { .user = user, .password = password };
	char url[URL_BYTES * 4];

	if (tls != NULL)
		o.tls = *tls;
	snprintf(url, sizeof url, "%s://%s/test/%s", scheme, hosts, "coord");
	o.url = url;
	assert_int_equal(coord_etcd_open(s, &o, ret_c, &note), 0);
}

/* Until it answers. */
static void ready(struct coord *c)
{
	uint64_t until = soon();
	struct coord_state st;
	int rc;

	do {
		rc = coord_read(c, 0, in_ms(1000), &st, &note);
		if (rc < 0 && rc != E_NOTFOUND)
			assert_int_equal(fiber_sleep(in_ms(20)), 0);
	} while (rc < 0 && rc != E_NOTFOUND && sys_now_ns(s) < until);
	if (rc < 0 && rc != E_NOTFOUND)
		printf("%s: %s\n", err_name(rc), note.text);
	assert_true(rc == 0 || rc == E_NOTFOUND);
}

static const char *host_of(const struct member *m)
{
	return strstr(m->client, "//") + 2;
}

/* ---- one member ---- */
/* A second member joins as a learner, is promoted, and goes again. */
static void grow(struct coord *c, const struct member *first)
{
	char cluster[URL_BYTES * 4];
	struct coord_state st;
	struct coord *both;
	struct member m;
	uint64_t id, until = soon();
	uint32_t n;
	int rc;

	member_init(&m, "second", 1, "http");
	assert_int_equal(coord_etcd_member_add(c, m.peer, true, soon(), &id, &note), 0);
	assert_int_equal(coord_etcd_members(c, soon(), members, &n, &note), 0);
	assert_int_equal(n, 2);
	assert_true(members[0].learner != members[1].learner);
	assert_int_equal(coord_etcd_member_promote(c, id, soon(), &note), E_BUSY);
	snprintf(cluster, sizeof cluster, "%s=%s,%s=%s", first->name, first->peer, m.name, m.peer);
	member_start(&m, cluster, true, NULL);
	do {
		rc = coord_etcd_member_promote(c, id, soon(), &note);
		assert_int_equal(fiber_sleep(in_ms(20)), 0);
	} while (rc == E_BUSY && sys_now_ns(s) < until);
	if (rc < 0)
		printf("%s\n", note.text);
	assert_int_equal(rc, 0);
	/* asked of the second one: the same */
	open_at(host_of(&m), "etcd", NULL, NULL, NULL, &both);
	ready(both);
	assert_int_equal(coord_read(both, 9, soon(), &st, &note), 0);
	assert_int_equal(coord_etcd_members(both, soon(), members, &n, &note), 0);
	assert_int_equal(n, 2);
	assert_false(members[0].learner || members[1].learner);
	coord_close(both);
	/* within seconds of its coming up etcd wants to see more of it first */
	rc = coord_etcd_member_remove(c, id, soon(), &note);
	assert_true(rc == 0 || rc == E_BUSY);
	member_stop(&m);
}

/* An endpoint that takes questions and has nothing to say to them. */
struct mute {
	struct sys_listener *l;
	struct group g;
	uint32_t n_questions;
	bool hang; /* keeps the connection, or else closes it */
};
struct muted {
	struct mute *mute;
	struct sys_stream *c;
};

static int mute_one(void *arg)
{
	struct muted *m = arg;
	char text[1024];
	int64_t n = sys_recv(m->c, text, sizeof text - 1, soon());

	text[n > 0 ? n : 0] = '\0';
	m->mute->n_questions += strstr(text, "/v3/kv/") != NULL;
	if (n > 0 && m->mute->hang)
		(void)fiber_sleep(soon());
	sys_stream_close(m->c);
	free(m);
	return 0;
}

static int mute_all(void *arg)
{
	struct mute *mute = arg;
	struct sys_stream *c;

	while (sys_accept(mute->l, FOREVER, &c) == 0) {
		struct muted *m = malloc(sizeof *m);

		assert_non_null(m);
		*m = (struct muted){ mute, c };
		assert_int_equal(fiber_start(&mute->g, "mute", mute_one, m), 0);
	}
	return 0;
}

/* A swap that may have left stays with the endpoint that it was sent to; what has not left, and a
 * read in any case, goes to the next one in time. */
static void swaps_leave_once(const struct member *m)
{
	struct coord_state st, now, to = contract_state(1, 1);
	struct mute mute = { .hang = false };
	char hosts[URL_BYTES * 3];
	struct coord *c;

	assert_int_equal(sys_listen(s, "tcp:127.0.0.1:0", &mute.l, &note), 0);
	group_init(&mute.g, sys_loop(s));
	assert_int_equal(fiber_start(&mute.g, "mute", mute_all, &mute), 0);
	snprintf(hosts, sizeof hosts, "%s,%s", sys_listener_addr(mute.l) + 4, host_of(m));
	for (uint32_t shard = 60; shard < 62; shard++) {
		open_at(hosts, "etcd", NULL, NULL, NULL, &c);
		mute.n_questions = 0;
		assert_int_equal(coord_swap(c, shard, 0, &to, in_ms(500), &now, &note), E_UNKNOWN);
		assert_int_equal(mute.n_questions, 1);
		assert_int_equal(coord_read(c, shard, soon(), &st, &note), E_NOTFOUND);
		coord_close(c);
		open_at(hosts, "etcd", NULL, NULL, NULL, &c);
		assert_int_equal(coord_read(c, shard, in_ms(3000), &st, &note), E_NOTFOUND);
		coord_close(c);
		mute.hang = true;
	}
	group_cancel(&mute.g);
	(void)group_wait(&mute.g);
	sys_listener_close(mute.l);
	/* nobody listens there any more */
	open_at(hosts, "etcd", NULL, NULL, NULL, &c);
	assert_int_equal(coord_swap(c, 60, 0, &to, soon(), &now, &note), 0);
	coord_close(c);
}

static int one_member(void *arg)
{
	struct coord_state st, again;
	struct coord *a, *b;
	struct member m;
	int64_t pid;
	uint32_t n;

	member_init(&m, "one", 0, "http");
	member_start(&m, NULL, false, NULL);
	open_at(host_of(&m), "etcd", NULL, NULL, NULL, &a);
	open_at(host_of(&m), "etcd", NULL, NULL, NULL, &b);
	ready(a);
	contract_holds(a, b, s);
	swaps_leave_once(&m);
	assert_int_equal(coord_etcd_members(a, soon(), members, &n, &note), 0);
	assert_int_equal(n, 1);
	assert_string_equal(members[0].name, "m0");
	assert_string_equal(members[0].peer_url, m.peer);
	/* killed: it is started again and has forgotten nothing */
	assert_int_equal(coord_read(a, 9, soon(), &st, &note), 0);
	pid = etcd_child_pid(m.child);
	assert_true(pid > 0);
	kill((pid_t)pid, SIGKILL);
	while (etcd_child_starts(m.child) < 2)
		assert_int_equal(fiber_sleep(in_ms(10)), 0);
	ready(a);
	assert_true(etcd_child_pid(m.child) != pid);
	assert_int_equal(coord_read(a, 9, soon(), &again, &note), 0);
	assert_int_equal(again.revision, st.revision);
	assert_int_equal(again.epoch, st.epoch);
	grow(a, &m);
	member_stop(&m);
	/* nobody there: surely not done */
	assert_int_equal(
		coord_swap(a, 9, again.revision, &again, in_ms(500), &st, &note), E_UNAVAILABLE);
	coord_close(a);
	coord_close(b);
	return 0;
}

static int no_etcd(void *arg)
{
	struct etcd_child_opts o = {
		.name = "x", .data_dir = dir, .client_url = "http://x:1", .peer_url = "http://x:2"
	};
	const char *path = sys_getenv(s, "PATH");
	struct etcd_child *e;

	snprintf(path_was, sizeof path_was, "%s", path != NULL ? path : "");
	setenv("PATH", dir, 1);
	assert_int_equal(etcd_child_start(s, &o, &e, &note), E_NOTFOUND);
	setenv("PATH", path_was, 1);
	assert_non_null(strstr(note.text, "apt-get install etcd-server"));
	return 0;
}

static int embedded(void *arg)
{
	char moved_to[COORD_URL_MAX];
	struct coord *c;

	assert_int_equal(coord_embedded_open(s, dir, true, &c, moved_to, &note), 0);
	contract_holds(c, c, s);
	coord_close(c);
	assert_int_equal(coord_embedded_open(s, dir, false, &c, moved_to, &note), 0);
	assert_int_equal(coord_embedded_move(c, "etcd://x/y", &note), 0);
	coord_close(c);
	assert_int_equal(coord_embedded_open(s, dir, true, &c, moved_to, &note), E_GONE);
	assert_string_equal(moved_to, "etcd://x/y");
	return 0;
}

/* ---- passwords ---- */
static void tell(struct sys_http *h, const struct member *m, const char *path, const char *body)
{
	char url[URL_BYTES * 2];
	struct sys_http_question q = { .method = "POST",
		.url = url,
		.answer_bytes_max = 1 << 16,
		.body = bytes_of(body, strlen(body)) };
	struct sys_http_answer a;
	bool sent;

	snprintf(url, sizeof url, "%s%s", m->client, path);
	assert_int_equal(sys_http_ask(h, &q, soon(), &a, &sent, &note), 0);
	if (a.status != 200)
		printf("%s: %s\n", path, a.body);
	assert_int_equal(a.status, 200);
	free(a.body);
}

static void demand_passwords(const struct member *m)
{
	struct sys_http *h;

	assert_int_equal(sys_http_new(s, &h, &note), 0);
	tell(h, m, "/v3/auth/user/add", "{\"name\":\"root\",\"password\":\"pw\"}");
	tell(h, m, "/v3/auth/role/add", "{\"name\":\"root\"}");
	tell(h, m, "/v3/auth/user/grant", "{\"user\":\"root\",\"role\":\"root\"}");
	tell(h, m, "/v3/auth/user/add", "{\"name\":\"guest\",\"password\":\"pw\"}");
	tell(h, m, "/v3/auth/enable", "{}");
	sys_http_free(h);
}

static void login_write(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static int passwords(void *arg)
{
	struct coord_state st, now, to = contract_state(1, 1);
	char login[PATH_BYTES + 16], url[URL_BYTES * 2], opened[COORD_URL_MAX];
	struct coord_open_opts oo = { .url = url, .login_file = login };
	struct coord *open, *none, *wrong, *guest, *right;
	uint64_t hint = 0;
	struct member m;

	member_init(&m, "auth", 0, "http");
	member_start(&m, NULL, false, NULL);
	open_at(host_of(&m), "etcd", NULL, NULL, NULL, &open);
	ready(open);
	demand_passwords(&m);
	open_at(host_of(&m), "etcd", NULL, NULL, NULL, &none);
	open_at(host_of(&m), "etcd", "root", "wp", NULL, &wrong);
	open_at(host_of(&m), "etcd", "guest", "pw", NULL, &guest);
	/* without a token yet, which the first refusal makes it ask for */
	snprintf(login, sizeof login, "%s/login", dir);
	snprintf(url, sizeof url, "etcd://%s/test/coord", host_of(&m));
	login_write(login, "root:pw\n");
	assert_int_equal(coord_open(s, &oo, &right, opened, &note), 0);
	assert_int_equal(coord_read(right, 0, soon(), &st, &note), E_NOTFOUND);
	assert_int_equal(coord_read(none, 0, soon(), &st, &note), E_DENIED);
	assert_int_equal(coord_swap(none, 0, 0, &to, soon(), &now, &note), E_DENIED);
	assert_int_equal(coord_read(wrong, 0, soon(), &st, &note), E_DENIED);
	assert_int_equal(coord_swap(guest, 0, 0, &to, soon(), &now, &note), E_DENIED);
	contract_holds(right, right, s);
	/* a restarted member has forgotten all tokens: a new one is asked for */
	kill((pid_t)etcd_child_pid(m.child), SIGKILL);
	while (etcd_child_starts(m.child) < 2)
		assert_int_equal(fiber_sleep(in_ms(10)), 0);
	ready(right);
	assert_int_equal(coord_swap(right, 0, 0, &to, soon(), &now, &note), 0);
	assert_int_equal(coord_read(right, 0, soon(), &st, &note), 0);
	assert_int_equal(st.revision, now.revision);
	assert_int_equal(coord_wait(right, &hint, soon()), 0);
	coord_close(open);
	coord_close(none);
	coord_close(wrong);
	coord_close(guest);
	coord_close(right);
	member_stop(&m);
	return 0;
}

/* ---- certificates ---- */
/* The script's $0 is the directory, $1 and $2 are a and b. */
static void shell(const char *script, const char *a, const char *b)
{
	const char *argv[] = { "sh", "-c", script, dir, a, b, NULL };
	struct sys_proc *p;
	int status = -1;

	assert_int_equal(sys_spawn(s, argv, NULL, &p, &note), 0);
	assert_int_equal(sys_proc_wait(p, soon(), &status), 0);
	sys_proc_close(p);
	assert_int_equal(status, 0);
}

#define NEW_KEY "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $1.key "

static void make_authority(const char *name)
{
	shell("cd $0 && openssl req -x509 " NEW_KEY
	      "-out $1.crt -days 2 -subj /CN=authority >>make.log 2>&1",
		name, NULL);
}

static void make_certificate(const char *name, const char *subject_alt)
{
	shell("cd $0 && exec >>make.log 2>&1 && openssl req " NEW_KEY
	      "-out $1.csr -subj /CN=node && "
	      "echo subjectAltName=$2 >$1.ext && openssl x509 -req -in $1.csr -CA ca.crt "
	      "-CAkey ca.key -CAcreateserial -days 2 -extfile $1.ext -out $1.crt",
		name, subject_alt);
}

static int certificates(void *arg)
{
	static char ca[PATH_BYTES + 16], other[PATH_BYTES + 16], crt[PATH_BYTES + 16],
		key[PATH_BYTES + 16], bad_crt[PATH_BYTES + 16], bad_key[PATH_BYTES + 16];
	struct etcd_child_tls tls = { ca, crt, key, NULL };
	struct sys_http_tls good = { ca, crt, key }, no_cert = { ca, NULL, NULL },
			    other_ca = { other, crt, key };
	struct coord_state st, to = contract_state(1, 1), now;
	struct coord *c, *bad;
	uint64_t until;
	struct member m;
	int rc;

	snprintf(ca, sizeof ca, "%s/ca.crt", dir);
	snprintf(other, sizeof other, "%s/other.crt", dir);
	snprintf(crt, sizeof crt, "%s/node.crt", dir);
	snprintf(key, sizeof key, "%s/node.key", dir);
	make_authority("ca");
	make_authority("other");
	make_certificate("wrong", "IP:127.0.0.9");
	make_certificate("node", "IP:127.0.0.1");
	member_init(&m, "tls", 0, "https");
	member_start(&m, NULL, false, &tls);
	open_at(host_of(&m), "etcds", NULL, NULL, &good, &c);
	ready(c);
	contract_holds(c, c, s);
	open_at(host_of(&m), "etcds", NULL, NULL, &other_ca, &bad);
	assert_int_equal(coord_read(bad, 0, in_ms(2000), &st, &note), E_UNAVAILABLE);
	assert_int_equal(coord_swap(bad, 0, 0, &to, in_ms(2000), &now, &note), E_UNAVAILABLE);
	coord_close(bad);
	open_at(host_of(&m), "etcds", NULL, NULL, &no_cert, &bad);
	assert_int_equal(coord_read(bad, 0, in_ms(2000), &st, &note), E_UNAVAILABLE);
	coord_close(bad);
	open_at(host_of(&m), "etcd", NULL, NULL, NULL, &bad);
	assert_int_equal(coord_read(bad, 0, in_ms(2000), &st, &note), E_UNAVAILABLE);
	coord_close(bad);
	member_stop(&m);
	/* one whose certificate is for another address is not believed */
	snprintf(bad_crt, sizeof bad_crt, "%s/wrong.crt", dir);
	snprintf(bad_key, sizeof bad_key, "%s/wrong.key", dir);
	tls = (struct etcd_child_tls){ NULL, bad_crt, bad_key, NULL };
	until = soon();
	member_start(&m, NULL, false, &tls);
	do { /* it is not up at once */
		assert_int_equal(fiber_sleep(in_ms(20)), 0);
		rc = coord_read(c, 0, in_ms(2000), &st, &note);
	} while (rc == E_UNAVAILABLE && strstr(note.text, "subject name") == NULL &&
		sys_now_ns(s) < until);
	assert_int_equal(rc, E_UNAVAILABLE);
	assert_non_null(strstr(note.text, "subject name"));
	coord_close(c);
	member_stop(&m);
	return 0;
}

/* ---- three members ---- */
static struct member three[MEMBERS];
static char all_hosts[URL_BYTES * 4];

static void start_three(void)
{
	static char cluster[URL_BYTES * 4];

	all_hosts[0] = cluster[0] = '\0';
	for (unsigned i = 0; i < MEMBERS; i++) {
		size_t at = strlen(all_hosts), end = strlen(cluster);

		member_init(&three[i], "three", i, "http");
		snprintf(all_hosts + at, sizeof all_hosts - at, "%s%s", i > 0 ? "," : "",
			host_of(&three[i]));
		snprintf(cluster + end, sizeof cluster - end, "%sm%u=%s", i > 0 ? "," : "", i,
			three[i].peer);
	}
	for (unsigned i = 0; i < MEMBERS; i++)
		member_start(&three[i], cluster, false, NULL);
}

static void send_signal(unsigned i, int number)
{
	int64_t pid = etcd_child_pid(three[i].child);

	if (pid > 0)
		assert_int_equal(kill((pid_t)pid, number), 0);
}

/* Without a majority nothing is answered, within the deadline. */
static void no_majority(struct coord *c)
{
	struct coord_state st, to = contract_state(1, 1), now;
	uint64_t from;
	int rc;

	assert_int_equal(coord_read(c, 40, soon(), &st, &note), E_NOTFOUND);
	send_signal(0, SIGSTOP);
	send_signal(1, SIGSTOP);
	from = sys_now_ns(s);
	/* a signalled process goes on for a moment */
	while ((rc = coord_read(c, 40, in_ms(300), &st, &note)) == E_NOTFOUND)
		assert_in_range(sys_now_ns(s) - from, 0, 2 * SYS_SEC);
	assert_true(rc == E_TIMEOUT || rc == E_UNAVAILABLE);
	assert_in_range(sys_now_ns(s) - from, 0, 4 * SYS_SEC);
	for (int i = 0; i < 2; i++) {
		from = sys_now_ns(s);
		rc = coord_swap(c, 40, 0, &to, in_ms(600), &now, &note);
		assert_int_equal(rc, E_UNKNOWN);
		assert_in_range(sys_now_ns(s) - from, 0, 2 * SYS_SEC);
	}
	send_signal(0, SIGCONT);
	send_signal(1, SIGCONT);
	ready(c);
	/* one of the two swaps has happened by now, or will never, or still will */
	rc = coord_read(c, 40, soon(), &st, &note);
	assert_true(rc == 0 || rc == E_NOTFOUND);
	to = contract_state(2, 2);
	rc = coord_swap(c, 40, rc == 0 ? st.revision : 0, &to, soon(), &now, &note);
	if (rc == E_CONFLICT)
		assert_int_equal(now.epoch, 1);
	else
		assert_int_equal(rc, 0);
}

static int three_members(void *arg)
{
	struct ledger *ledger = calloc(1, sizeof *ledger);
	struct racer racers[RACERS];
	struct coord *c, *d;
	struct group g;
	uint32_t n;

	assert_non_null(ledger);
	start_three();
	open_at(all_hosts, "etcd", NULL, NULL, NULL, &c);
	open_at(all_hosts, "etcd", NULL, NULL, NULL, &d);
	ready(c);
	assert_int_equal(coord_etcd_members(d, soon(), members, &n, &note), 0);
	assert_int_equal(n, MEMBERS);
	group_init(&g, sys_loop(s));
	for (uint32_t i = 0; i < RACERS; i++) {
		racers[i] = (struct racer){ ledger, i % 2 == 0 ? c : d, s, 5, 0, i + 1,
			600 * SYS_MS };
		assert_int_equal(fiber_start(&g, "racer", contract_race, &racers[i]), 0);
	}
	/* each of them is stopped or killed while they race: among them the leader */
	for (unsigned i = 0; i < MEMBERS; i++) {
		uint32_t before = ledger->n_done;

		send_signal(i, i == 1 ? SIGSTOP : SIGKILL);
		assert_int_equal(fiber_sleep(in_ms(400)), 0);
		if (i == 1)
			send_signal(i, SIGCONT);
		while (ledger->n_done < before + 10)
			assert_int_equal(fiber_sleep(in_ms(20)), 0);
	}
	group_cancel(&g);
	(void)group_wait(&g);
	contract_settle(&racers[0]);
	assert_in_range(ledger->n_conflicts, 1, 1000000);
	printf("%u done, %u refused, %u unknown, %u failed\n", ledger->n_done, ledger->n_conflicts,
		ledger->n_unknown, ledger->n_failed);
	no_majority(c);
	coord_close(c);
	coord_close(d);
	for (unsigned i = 0; i < MEMBERS; i++)
		member_stop(&three[i]);
	free(ledger);
	return 0;
}

/* ---- growing ---- */
static void add_learner(struct coord *c, struct member *m, const char *all)
{
	uint64_t id, until = soon();
	int rc;

	/* etcd wants to see five seconds of a new voter before the next change */
	while ((rc = coord_etcd_member_add(c, m->peer, true, soon(), &id, &note)) == E_BUSY &&
		sys_now_ns(s) < until)
		assert_int_equal(fiber_sleep(in_ms(50)), 0);
	assert_int_equal(rc, 0);
	member_start(m, all, true, NULL);
	while ((rc = coord_etcd_member_promote(c, id, soon(), &note)) == E_BUSY &&
		sys_now_ns(s) < until)
		assert_int_equal(fiber_sleep(in_ms(50)), 0);
	assert_int_equal(rc, 0);
}

static void kill_one(const struct member *m)
{
	int64_t pid = etcd_child_pid(m->child);

	assert_true(pid > 0);
	assert_int_equal(kill((pid_t)pid, SIGSTOP), 0);
}

/* One becomes two becomes three, and then any may be lost. */
static int three_by_learners(void *arg)
{
	char cluster[URL_BYTES * 4], url[URL_BYTES * 4], opened[COORD_URL_MAX];
	struct coord_open_opts oo = { .url = url };
	struct coord_state st, to = contract_state(1, 1);
	struct member m[MEMBERS];
	struct coord *c;
	uint32_t n;

	member_init(&m[0], "grown", 0, "http");
	member_start(&m[0], NULL, false, NULL);
	snprintf(url, sizeof url, "etcd://%s/grown", host_of(&m[0]));
	assert_int_equal(coord_open(s, &oo, &c, opened, &note), 0);
	assert_string_equal(opened, url);
	ready(c);
	assert_int_equal(coord_swap(c, 9, 0, &to, soon(), &st, &note), 0);
	snprintf(cluster, sizeof cluster, "m0=%s", m[0].peer);
	for (unsigned i = 1; i < MEMBERS; i++) {
		size_t at = strlen(cluster);

		member_init(&m[i], "grown", i, "http");
		snprintf(cluster + at, sizeof cluster - at, ",%s=%s", m[i].name, m[i].peer);
		add_learner(c, &m[i], cluster);
	}
	assert_int_equal(coord_etcd_members(c, soon(), members, &n, &note), 0);
	assert_int_equal(n, MEMBERS);
	for (uint32_t i = 0; i < n; i++) {
		assert_false(members[i].learner);
		assert_string_equal(members[i].client_url, m[members[i].name[1] - '0'].client);
	}
	assert_int_equal(coord_etcd_endpoints(c, "etcd://127.0.0.1/other", &note), E_INVALID);
	snprintf(url, sizeof url, "etcd://%s,%s,%s/grown", host_of(&m[0]), host_of(&m[1]),
		host_of(&m[2]));
	assert_int_equal(coord_etcd_endpoints(c, url, &note), 0);
	kill_one(&m[0]);
	ready(c);
	assert_int_equal(coord_read(c, 9, soon(), &st, &note), 0);
	coord_close(c);
	for (unsigned i = 0; i < MEMBERS; i++)
		member_stop(&m[i]);
	return 0;
}

/* ---- left behind ---- */
/* Another life of this program starts a member and ends, without stopping it. */
static int64_t leave_behind(const struct member *m, const char *heartbeat_ms)
{
	const char *argv[] = { "/proc/self/exe", "leave", m->data, m->client, m->peer, heartbeat_ms,
		NULL };
	char path[PATH_BYTES * 2], text[32] = "";
	struct sys_proc *p;
	struct sys_file *f;
	int status = -1;

	assert_int_equal(sys_spawn(s, argv, NULL, &p, &note), 0);
	assert_int_equal(sys_proc_wait(p, soon(), &status), 0);
	sys_proc_close(p);
	assert_int_equal(status, 0);
	snprintf(path, sizeof path, "%s.pid", m->data);
	assert_int_equal(sys_open(s, path, SYS_READ, &f, &note), 0);
	assert_in_range(sys_pread(f, text, sizeof text - 1, 0, &note), 2, 20);
	sys_close(f);
	return strtoll(text, NULL, 10);
}

static int leave_main(void *arg)
{
	const char **words = arg;
	struct etcd_child_opts o = { .name = "m0", .data_dir = words[2], .client_url = words[3],
		.peer_url = words[4], .heartbeat_ms = (uint32_t)strtoul(words[5], NULL, 10),
		.election_ms = 200 };
	struct etcd_child *e;

	_exit(etcd_child_start(s, &o, &e, &note) == 0 ? 0 : 1);
	return 0;
}

/* Nobody may wait for what was left behind: a zombie has no command line. */
static bool ended(int64_t pid)
{
	char path[64], text[8];
	struct sys_file *f;
	int64_t n;

	snprintf(path, sizeof path, "/proc/%lld/cmdline", (long long)pid);
	if (sys_open(s, path, SYS_READ, &f, &note) < 0)
		return true;
	n = sys_pread(f, text, sizeof text, 0, &note);
	sys_close(f);
	return n <= 0;
}

static int orphans(void *arg)
{
	struct coord_state st, to = contract_state(1, 1);
	struct member m;
	struct coord *c;
	int64_t pid;

	member_init(&m, "orphan", 0, "http");
	pid = leave_behind(&m, "20");
	open_at(host_of(&m), "etcd", NULL, NULL, NULL, &c);
	ready(c);
	assert_int_equal(coord_swap(c, 9, 0, &to, soon(), &st, &note), 0);
	/* just as we would start it: it goes on */
	member_start(&m, NULL, false, NULL);
	assert_true(etcd_child_adopted(m.child));
	assert_int_equal(etcd_child_pid(m.child), pid);
	assert_int_equal(etcd_child_starts(m.child), 0);
	kill((pid_t)pid, SIGKILL);
	while (etcd_child_starts(m.child) < 1)
		assert_int_equal(fiber_sleep(in_ms(10)), 0);
	assert_false(etcd_child_adopted(m.child));
	ready(c);
	member_stop(&m);
	/* an adopted one is stopped like any other */
	pid = leave_behind(&m, "20");
	member_start(&m, NULL, false, NULL);
	assert_true(etcd_child_adopted(m.child));
	member_stop(&m);
	assert_true(ended(pid));
	/* started in another way: it is ended, and its data is ours */
	pid = leave_behind(&m, "30");
	member_start(&m, NULL, false, NULL);
	assert_false(etcd_child_adopted(m.child));
	assert_true(etcd_child_pid(m.child) != pid);
	assert_true(ended(pid));
	ready(c);
	assert_int_equal(coord_read(c, 9, soon(), &st, &note), 0);
	coord_close(c);
	member_stop(&m);
	return 0;
}

/* ---- what a URL names ---- */
static int urls(void *arg)
{
	char path[PATH_BYTES + 16], url[PATH_BYTES + 16];
	char opened[COORD_URL_MAX], moved[COORD_URL_MAX];
	struct coord_open_opts oo = { .url = url, .create = true, .login_file = path };
	struct coord *c;

	snprintf(path, sizeof path, "%s/login", dir);
	snprintf(url, sizeof url, "embedded:%s", dir);
	assert_int_equal(coord_open(s, &oo, &c, opened, &note), 0);
	assert_string_equal(opened, url);
	contract_holds(c, c, s);
	assert_int_equal(coord_embedded_move(c, "etcd://127.0.0.1:1/x", &note), 0);
	coord_close(c);
	assert_int_equal(coord_open(s, &oo, &c, opened, &note), E_NOTFOUND); /* the login */
	assert_non_null(strstr(note.text, path));
	login_write(path, "no colon\n");
	assert_int_equal(coord_open(s, &oo, &c, opened, &note), E_INVALID);
	login_write(path, "root:pw\n");
	assert_int_equal(coord_open(s, &oo, &c, opened, &note), 0);
	assert_string_equal(opened, "etcd://127.0.0.1:1/x");
	coord_close(c);
	oo.url = "http://x";
	assert_int_equal(coord_open(s, &oo, &c, opened, &note), E_INVALID);
	/* one that goes by the cluster's key asks for no login, and stays what it is */
	assert_int_equal(unlink(path), 0);
	oo.url = "etcds://127.0.0.1:1/x";
	assert_int_equal(coord_open(s, &oo, &c, opened, &note), E_NOTFOUND);
	oo.url = ETCD_KEYED "127.0.0.1:1/x";
	assert_int_equal(coord_open(s, &oo, &c, opened, &note), 0);
	assert_int_equal(coord_etcd_endpoints(c, "etcds://127.0.0.1:1/x", &note), E_INVALID);
	assert_int_equal(coord_etcd_endpoints(c, ETCD_KEYED "127.0.0.1:2/x", &note), 0);
	coord_close(c);
	assert_int_equal(coord_embedded_open(s, dir, true, &c, moved, &note), E_GONE);
	return 0;
}

/* ---- from start to end ---- */
static int setup(void **state)
{
	passed = false;
	n_children = 0;
	snprintf(dir, sizeof dir, "/tmp/wadi-etcd-XXXXXX");
	assert_non_null(mkdtemp(dir));
	return sys_uv_new(&s, &note);
}

static int teardown(void **state)
{
	const char *argv[] = { "rm", "-rf", dir, NULL };
	struct sys_proc *p;

	end_children(0);
	assert_int_equal(sys_spawn(s, argv, NULL, &p, &note), 0);
	sys_proc_close(p);
	if (passed)
		sys_uv_free(s);
	return 0;
}

static void run(fiber_fn *fn)
{
	assert_int_equal(sys_uv_run(s, "test", fn, NULL), 0);
	passed = true;
}

static void the_contract_holds_in_a_file(void **state)
{
	run(embedded);
}
static void without_etcd_it_says_what_to_install(void **state)
{
	run(no_etcd);
}
static void one_member_keeps_the_contract(void **state)
{
	run(one_member);
}
static void passwords_are_asked_for(void **state)
{
	run(passwords);
}
static void certificates_are_verified(void **state)
{
	run(certificates);
}
static void three_members_survive_each(void **state)
{
	run(three_members);
}
static void one_grows_to_three(void **state)
{
	run(three_by_learners);
}
static void what_was_left_behind_is_adopted_or_ended(void **state)
{
	run(orphans);
}
static void a_url_names_a_store(void **state)
{
	run(urls);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_contract_holds_in_a_file, setup, teardown),
		cmocka_unit_test_setup_teardown(
			without_etcd_it_says_what_to_install, setup, teardown),
		cmocka_unit_test_setup_teardown(one_member_keeps_the_contract, setup, teardown),
		cmocka_unit_test_setup_teardown(passwords_are_asked_for, setup, teardown),
		cmocka_unit_test_setup_teardown(certificates_are_verified, setup, teardown),
		cmocka_unit_test_setup_teardown(three_members_survive_each, setup, teardown),
		cmocka_unit_test_setup_teardown(one_grows_to_three, setup, teardown),
		cmocka_unit_test_setup_teardown(
			what_was_left_behind_is_adopted_or_ended, setup, teardown),
		cmocka_unit_test_setup_teardown(a_url_names_a_store, setup, teardown),
	};

	if (argc == 6 && strcmp(argv[1], "leave") == 0) /* leave_behind() */
		return sys_uv_new(&s, &note) < 0 || sys_uv_run(s, "leave", leave_main, argv) < 0;

	signal(SIGABRT, end_children);
	signal(SIGTERM, end_at_once);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
