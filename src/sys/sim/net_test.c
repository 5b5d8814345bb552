/* SPDX-License-Identifier: Apache-2.0 */
/* Streams deliver every byte once and in order, or break; who is cut off, crashed or too slow is
 * told apart by time alone. */
#include "base/check.h"
#include "sys/sim/sim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct sim *w;
static struct sim_node *a, *b;

static void world(uint64_t seed, const struct sim_faults *f)
{
	w = sim_new(seed, f);
	a = sim_node_add(w, "a", 1 << 20);
	b = sim_node_add(w, "b", 1 << 20);
}

/* ---- a server that sends back what it receives ---- */
static int echo(void *arg)
{
	struct sys_stream *c = arg;
	uint8_t buf[2000];
	int64_t n;

	while ((n = sys_recv(c, buf, sizeof buf, FOREVER)) > 0) {
		struct iovec iov[2] = { { buf, (size_t)n / 2 },
			{ buf + n / 2, (size_t)(n - n / 2) } };

		if (sys_send(c, iov, 2, FOREVER) < 0)
			break;
	}
	sys_stream_close(c);
	return 0;
}

static int serve(struct sys *s, void *arg)
{
	const char *addr = arg != NULL ? arg : "tcp:*:7";
	struct sys_listener *l;
	struct sys_stream *c;
	struct group g;
	int rc;

	group_init(&g, sys_loop(s));
	g.keep_going = true;
	rc = sys_listen(s, addr, &l, NULL);
	check(rc == 0);
	while ((rc = sys_accept(l, FOREVER, &c)) == 0)
		check(fiber_start(&g, "echo", echo, c) == 0);
	sys_listener_close(l);
	(void)group_wait(&g);
	return rc;
}

/* ---- a client that sends numbers and checks what comes back; connects again when it breaks ----
 */
struct count {
	uint64_t done, want, breaks;
};

static int sender(void *arg)
{
	struct sys_stream *c = arg;
	uint8_t buf[777];
	struct iovec iov;

	for (uint64_t at = 0; at < 100000; at += sizeof buf) {
		for (size_t i = 0; i < sizeof buf; i++)
			buf[i] = (uint8_t)((at + i) * 31 >> 3);
		iov = (struct iovec){ buf, sizeof buf };
		if (sys_send(c, &iov, 1, FOREVER) < 0)
			return 0;
	}
	return 0;
}

static int talk(struct sys *s, struct sys_stream *c, struct count *n)
{
	uint64_t at = 0;
	uint8_t buf[512];
	struct group g;
	int64_t len = 0;

	group_init(&g, sys_loop(s));
	check(fiber_start(&g, "sender", sender, c) == 0);
	while (at < n->want &&
		(len = sys_recv(c, buf, sizeof buf, sys_after(s, 100 * SYS_SEC))) > 0)
		for (int64_t i = 0; i < len; i++, at++)
			check(buf[i] == (uint8_t)(at * 31 >> 3));
	n->done = at;
	sys_stream_shut(c);
	(void)group_wait(&g);
	sys_stream_close(c);
	return at >= n->want ? 1 : (int)len;
}

static int client(struct sys *s, void *arg)
{
	struct count *n = arg;
	struct sys_stream *c;
	int rc;

	for (;;) {
		rc = sys_connect(s, "tcp:b:7", sys_after(s, 10 * SYS_SEC), &c, NULL);
		if (rc == 0)
			rc = talk(s, c, n);
		if (rc == 1 || rc == E_CANCELED)
			return rc == 1 ? 0 : rc;
		n->breaks++;
		if (fiber_sleep(sys_after(s, 10 * SYS_MS)) < 0)
			return E_CANCELED;
	}
}

static void echo_under_loss(void **state)
{
	uint64_t breaks = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct sim_faults f = sim_all_faults;
		struct count n = { .want = 50000 };

		f.net_lose_ppm = 5000;
		world(seed, &f);
		sim_node_start(b, serve, NULL);
		sim_node_start(a, client, &n);
		sim_run(w, 600 * SYS_SEC);
		assert_false(sim_node_up(a));
		assert_int_equal(sim_node_result(a), 0);
		assert_true(n.done >= n.want);
		breaks += n.breaks;
		sim_free(w);
	}
	assert_true(breaks > 5);
}

/* ---- one connection, driven from outside ---- */
struct peer {
	struct sys_stream *c;
	int64_t rc;
	uint64_t at_ns;
	bool quiet;
};

static int listen_and_hold(struct sys *s, void *arg)
{
	struct peer *p = arg;
	struct sys_listener *l;
	uint8_t buf[16];
	int rc;

	check(sys_listen(s, "tcp:*:7", &l, NULL) == 0);
	rc = sys_accept(l, FOREVER, &p->c);
	if (rc == 0) {
		while (!p->quiet && (p->rc = sys_recv(p->c, buf, sizeof buf, FOREVER)) > 0)
			;
		p->at_ns = sys_now_ns(s);
		if (p->quiet)
			(void)fiber_sleep(FOREVER);
		sys_stream_close(p->c);
	}
	sys_listener_close(l);
	return 0;
}

/* Sends a byte a second, and says when and how that ended. */
static int tick(struct sys *s, void *arg)
{
	struct peer *p = arg;
	struct sys_stream *c;
	uint8_t byte = 1;
	int rc;

	rc = sys_connect(s, "tcp:b:7", sys_after(s, 5 * SYS_SEC), &c, NULL);
	p->rc = rc;
	if (rc < 0)
		return rc;
	do {
		struct iovec iov = { &byte, 1 };

		if (sys_send(c, &iov, 1, sys_after(s, SYS_SEC)) < 0)
			break;
		rc = (int)sys_recv(c, &byte, 1, sys_after(s, SYS_SEC));
	} while (rc == E_TIMEOUT);
	p->rc = rc;
	sys_stream_close(c);
	return 0;
}

static void a_lost_machine_is_silent_until_it_is_back(void **state)
{
	struct peer server = { 0 }, caller = { 0 };

	(void)state;
	world(1, &sim_no_faults);
	sim_node_start(b, listen_and_hold, &server);
	sim_node_start(a, tick, &caller);
	sim_run(w, 3 * SYS_SEC);
	assert_non_null(server.c);
	sim_node_crash(b);
	sim_run(w, 30 * SYS_SEC);
	assert_true(sim_node_up(a)); /* half open: nobody told it */
	server = (struct peer){ 0 };
	sim_node_start(b, listen_and_hold, &server);
	sim_run(w, 33 * SYS_SEC);
	assert_false(sim_node_up(a)); /* the new kernel knows no such connection */
	assert_int_equal(caller.rc, E_CLOSED);
	sim_free(w);
}

static void a_killed_process_is_closed_by_its_kernel(void **state)
{
	struct peer server = { 0 }, caller = { 0 };

	(void)state;
	world(1, &sim_no_faults);
	sim_node_start(b, listen_and_hold, &server);
	sim_node_start(a, tick, &caller);
	sim_run(w, 3 * SYS_SEC + 500 * SYS_MS);
	sim_node_kill(b);
	sim_run(w, 4 * SYS_SEC);
	assert_false(sim_node_up(a));
	assert_int_equal(caller.rc, 0);
	sim_node_start(a, tick, &caller);
	sim_run(w, 5 * SYS_SEC);
	assert_int_equal(caller.rc, E_UNREACH); /* the machine answers, the process is gone */
	sim_node_crash(b);
	sim_node_start(a, tick, &caller);
	sim_run(w, 9 * SYS_SEC);
	assert_true(sim_node_up(a));
	sim_run(w, 11 * SYS_SEC);
	assert_int_equal(caller.rc, E_TIMEOUT);
	sim_free(w);
}

static int no_service(struct sys *s, void *arg)
{
	(void)fiber_sleep(FOREVER);
	return 0;
}

static void refusal_is_told_from_silence(void **state)
{
	struct peer caller = { 0 };

	(void)state;
	world(1, &sim_no_faults);
	sim_node_start(b, no_service, NULL);
	sim_node_start(a, tick, &caller);
	sim_run(w, SYS_SEC);
	assert_int_equal(caller.rc, E_UNREACH);
	sim_net_cut(b, a, true); /* the answer gets lost */
	sim_node_start(a, tick, &caller);
	sim_run(w, 5 * SYS_SEC);
	assert_true(sim_node_up(a));
	sim_run(w, 7 * SYS_SEC);
	assert_int_equal(caller.rc, E_TIMEOUT);
	sim_free(w);
}

static void a_cut_holds_bytes_back_and_healing_brings_them(void **state)
{
	struct sim_faults f = sim_no_faults;
	struct count n = { .want = 50000 };

	(void)state;
	f.net_delay_max_ns = 20 * SYS_MS;
	world(3, &f);
	sim_node_start(b, serve, NULL);
	sim_node_start(a, client, &n);
	sim_run(w, 60 * SYS_MS);
	assert_true(n.done < n.want);
	sim_net_cut(b, a, true);
	sim_run(w, 50 * SYS_SEC);
	assert_true(sim_node_up(a));
	sim_net_cut(b, a, false);
	sim_run(w, 60 * SYS_SEC);
	assert_false(sim_node_up(a));
	assert_true(n.done >= n.want);
	assert_int_equal(n.breaks, 0); /* the same connection went on */
	sim_free(w);
}

/* ---- a receiver that does not receive ---- */
static int flood(struct sys *s, void *arg)
{
	static uint8_t block[100000];
	struct peer *p = arg;
	struct sys_stream *c;
	int rc;

	rc = sys_connect(s, "tcp:b:7", sys_after(s, SYS_SEC), &c, NULL);
	if (rc < 0)
		return rc;
	for (p->at_ns = 0; rc == 0; p->at_ns++) {
		struct iovec iov = { block, sizeof block };

		rc = sys_send(c, &iov, 1, sys_after(s, 2 * SYS_SEC));
	}
	p->rc = rc;
	sys_stream_close(c);
	return 0;
}

static void a_sender_waits_for_room(void **state)
{
	struct peer server = { .quiet = true }, caller = { 0 };

	(void)state;
	world(1, &sim_no_faults);
	sim_node_start(b, listen_and_hold, &server);
	sim_node_start(a, flood, &caller);
	sim_run(w, SYS_SEC);
	assert_true(sim_node_up(a));
	sim_run(w, 4 * SYS_SEC);
	assert_int_equal(caller.rc, E_TIMEOUT);
	assert_in_range(caller.at_ns, 1, 7);
	sim_free(w);
}

/* ---- inside one node ---- */
static int shm_side(struct sys *s, void *arg)
{
	struct sys_listener *l = arg;
	struct sys_stream *c;
	struct sys_shm *m;
	void *p;
	char byte[3];

	check(sys_accept(l, sys_after(s, SYS_SEC), &c) == 0);
	check(sys_stream_local(c));
	check(sys_stream_uid(c) == sys_uid(s));
	check(sys_recv_shm(c) == NULL);
	check(sys_recv(c, byte, sizeof byte, sys_after(s, SYS_SEC)) > 0);
	m = sys_recv_shm(c);
	check(m != NULL);
	check(sys_shm_bytes(m) == 10000);
	check(sys_shm_map(m, &p, NULL) == 0);
	check(strcmp(p, "here") == 0);
	sys_shm_close(m);
	check(sys_recv_shm(c) == NULL);
	sys_stream_close(c); /* the second one, which nobody took, goes with it */
	return 0;
}

struct shm_arg {
	struct sys *s;
	struct sys_listener *l;
};
static int shm_fiber(void *arg)
{
	return shm_side(((struct shm_arg *)arg)->s, ((struct shm_arg *)arg)->l);
}

static int shm_main(struct sys *s, void *arg)
{
	struct shm_arg side = { s, NULL };
	struct sys_stream *c;
	struct sys_shm *m, *reader;
	struct group g;
	void *p;

	check(sys_listen(s, "unix:/run/x", &side.l, NULL) == 0);
	group_init(&g, sys_loop(s));
	check(fiber_start(&g, "side", shm_fiber, &side) == 0);
	check(sys_connect(s, "unix:/run/x", sys_after(s, SYS_SEC), &c, NULL) == 0);
	check(sys_shm_new(s, "arena", 10000, &m, NULL) == 0);
	check(sys_shm_map(m, &p, NULL) == 0);
	strcpy(p, "here");
	check(sys_shm_reader(m, &reader, NULL) == 0);
	check(sys_send_shm(c, "abc", 3, &reader, 1, sys_after(s, SYS_SEC)) == 0);
	sys_shm_close(reader);
	check(sys_send_shm(c, "d", 1, &m, 1, sys_after(s, SYS_SEC)) == 0);
	sys_shm_close(m);
	check(group_wait(&g) == 0);
	sys_stream_close(c);
	sys_listener_close(side.l);
	check(sys_connect(s, "unix:/run/x", sys_after(s, SYS_SEC), &c, NULL) == E_UNREACH);
	return 77;
}

static void memory_is_shared_inside_a_node(void **state)
{
	(void)state;
	world(1, &sim_no_faults);
	sim_node_start(a, shm_main, NULL);
	sim_run(w, 10 * SYS_SEC);
	assert_int_equal(sim_node_result(a), 77);
	sim_free(w);
}

/* ---- addresses ---- */
static int addresses(struct sys *s, void *arg)
{
	struct sys_listener *l, *m;
	struct sys_stream *c;
	struct err_note note;

	check(sys_listen(s, "tcp:[::]:0", &l, &note) == 0);
	check(strncmp(sys_listener_addr(l), "tcp:a:", 6) == 0);
	check(strcmp(sys_listener_addr(l), "tcp:a:0") != 0);
	check(sys_listen(s, sys_listener_addr(l), &m, &note) == E_INUSE);
	check(strstr(note.text, "in use") != NULL);
	check(sys_listen(s, "tcp:b:80", &m, &note) == E_INVALID);
	check(sys_listen(s, "tcp:70000", &m, &note) == E_INVALID);
	check(sys_listen(s, "tcp:a:70000", &m, &note) == E_INVALID);
	check(sys_listen(s, "unix:", &m, &note) == E_INVALID);
	check(sys_listen(s, "udp:a:1", &m, &note) == E_INVALID);
	check(sys_connect(s, "tcp:nowhere:1", sys_after(s, SYS_SEC), &c, &note) == E_UNREACH);
	check(sys_connect(s, sys_listener_addr(l), sys_after(s, SYS_SEC), &c, &note) == 0);
	sys_stream_close(c);
	check(sys_accept(l, sys_after(s, SYS_SEC), &c) == 0);
	check(sys_recv(c, &note, 1, sys_after(s, SYS_SEC)) == 0);
	sys_stream_close(c);
	check(sys_accept(l, sys_after(s, SYS_SEC), &c) == E_TIMEOUT);
	sys_listener_close(l);
	return 77;
}

static void addresses_are_text(void **state)
{
	(void)state;
	world(1, &sim_no_faults);
	sim_node_start(a, addresses, NULL);
	sim_run(w, 10 * SYS_SEC);
	assert_int_equal(sim_node_result(a), 77);
	sim_free(w);
}

/* ---- tls: carried as it is, with an identity ---- */
static int tls_serve(struct sys *s, void *arg)
{
	struct err_note note = { "" };
	struct sys_listener *l;
	struct sys_stream *c;

	check(sys_listen(s, "tls:*:7", &l, &note) == E_INVALID);
	check(sys_tls_use(s, &(struct sys_tls){ "a", "b", "c", false }, NULL) == 0);
	check(sys_listen(s, "tls:*:7", &l, NULL) == 0);
	check(strcmp(sys_listener_addr(l), "tls:b:7") == 0);
	check(sys_accept(l, FOREVER, &c) == 0);
	check(strcmp(sys_stream_cert(c)->id, "node:a") == 0);
	check(strncmp(sys_stream_peer(c), "tls:a:", 6) == 0);
	(void)echo(c);
	sys_listener_close(l);
	return 77;
}

static int tls_call(struct sys *s, void *arg)
{
	struct count n = { 0, 50000, 0 };
	struct sys_stream *c;

	check(sys_connect(s, "tls:b:7", sys_after(s, SYS_SEC), &c, NULL) == E_INVALID);
	check(sys_tls_use(s, &(struct sys_tls){ "a", "b", "c", false }, NULL) == 0);
	check(sys_connect(s, "tcp:b:7", sys_after(s, SYS_SEC), &c, NULL) == E_UNREACH);
	check(sys_connect(s, "tls:b:7", sys_after(s, 10 * SYS_SEC), &c, NULL) == 0);
	check(strcmp(sys_stream_cert(c)->id, "node:b") == 0);
	check(talk(s, c, &n) == 1);
	return 77;
}

static void tls_is_a_stream_with_an_identity(void **state)
{
	(void)state;
	world(11, &sim_no_faults);
	sim_node_start(b, tls_serve, NULL);
	sim_run(w, SYS_SEC);
	sim_node_start(a, tls_call, NULL);
	sim_run(w, 100 * SYS_SEC);
	assert_int_equal(sim_node_result(a), 77);
	assert_int_equal(sim_node_result(b), 77);
	sim_free(w);
}

/* Nothing is left over, whenever and however the nodes end. */
static void any_end_is_clean(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 200; seed++) {
		struct sim_faults f = sim_all_faults;
		struct count n = { .want = 50000 };
		struct prng *p;

		f.net_lose_ppm = 2000;
		world(seed, &f);
		p = sim_workload(w);
		for (int i = 0; i < 20; i++) {
			struct sim_node *which = prng_next(p) & 1 ? a : b;
			uint64_t what = prng_below(p, 6), ns;

			if (!sim_node_up(b))
				sim_node_start(b, serve, NULL);
			if (!sim_node_up(a))
				sim_node_start(a, client, &n);
			ns = prng_below(p, 40 * SYS_MS);
			sim_run(w, sim_now_ns(w) + ns);
			if (what == 0)
				sim_node_crash(which);
			else if (what == 1)
				sim_node_kill(which);
			else if (what == 2)
				sim_node_pause(which, ns * 2);
			else if (what == 3)
				sim_net_cut(a, b, prng_next(p) & 1);
			else if (what == 4)
				sim_net_cut(b, a, prng_next(p) & 1);
		}
		sim_free(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(echo_under_loss),
		cmocka_unit_test(a_lost_machine_is_silent_until_it_is_back),
		cmocka_unit_test(a_killed_process_is_closed_by_its_kernel),
		cmocka_unit_test(refusal_is_told_from_silence),
		cmocka_unit_test(a_cut_holds_bytes_back_and_healing_brings_them),
		cmocka_unit_test(a_sender_waits_for_room),
		cmocka_unit_test(memory_is_shared_inside_a_node),
		cmocka_unit_test(addresses_are_text),
		cmocka_unit_test(tls_is_a_stream_with_an_identity),
		cmocka_unit_test(any_end_is_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
