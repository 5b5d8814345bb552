/* SPDX-License-Identifier: Apache-2.0 */
/* A world is repeated exactly by its seed, in every process; what it does to a node is what a
 * machine would do. */
#include "base/check.h"
#include "fiber/lane.h"
#include "sys/sim/sim.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct sim *w;
static struct sim_node *a, *b;
static const char *self;

static void world(uint64_t seed, const struct sim_faults *f)
{
	w = sim_new(seed, f);
	a = sim_node_add(w, "a", 1 << 20);
	b = sim_node_add(w, "b", 1 << 20);
}

/* Runs one main on node a and returns its result. */
static int run(sim_main_fn *fn, void *arg)
{
	sim_node_start(a, fn, arg);
	sim_run(w, sim_now_ns(w) + 100 * SYS_SEC);
	assert_false(sim_node_up(a));
	return sim_node_result(a);
}

/* ---- files ---- */
static int file_put(struct sys *s, const char *path, const char *text, bool sync)
{
	struct sys_file *f;
	int rc = sys_open(s, path, SYS_WRITE | SYS_CREATE, &f, NULL);

	if (rc < 0)
		return rc;
	rc = sys_pwrite(f, text, strlen(text), 0, NULL);
	if (rc == 0 && sync)
		rc = sys_sync(f, NULL);
	sys_close(f);
	return rc;
}

static int64_t file_get(struct sys *s, const char *path, char *text, size_t cap)
{
	struct sys_file *f;
	int64_t n = sys_open(s, path, SYS_READ, &f, NULL);

	memset(text, 0, cap);
	if (n < 0)
		return n;
	n = sys_pread(f, text, cap - 1, 0, NULL);
	sys_close(f);
	return n;
}

static int write_and_wait(struct sys *s, void *arg)
{
	check(sys_mkdir(s, "/d", NULL) == 0);
	check(file_put(s, "/d/synced", "stays", true) == 0);
	check(sys_sync_dir(s, "/", NULL) == 0);
	check(sys_sync_dir(s, "/d", NULL) == 0);
	check(file_put(s, "/d/synced", "gone?", false) == 0);
	check(file_put(s, "/d/unsynced", "gone?", false) == 0);
	return fiber_sleep(FOREVER);
}

struct found {
	char synced[16], unsynced[16];
	int64_t n_synced, n_unsynced;
};

static int look(struct sys *s, void *arg)
{
	struct found *f = arg;

	f->n_synced = file_get(s, "d/synced", f->synced, sizeof f->synced);
	f->n_unsynced = file_get(s, "d/unsynced", f->unsynced, sizeof f->unsynced);
	return 0;
}

static void a_crash_loses_what_was_not_synced(void **state)
{
	unsigned lost = 0, kept = 0;

	(void)state;
	for (uint64_t seed = 0; seed < 100; seed++) {
		struct found f;

		world(seed, &sim_no_faults);
		sim_node_start(a, write_and_wait, NULL);
		sim_run(w, SYS_SEC);
		sim_node_crash(a);
		assert_false(sim_node_up(a));
		assert_int_equal(run(look, &f), 0);
		assert_int_equal(f.n_synced, 5);
		lost += strcmp(f.synced, "stays") == 0;
		kept += strcmp(f.synced, "gone?") == 0;
		if (f.n_unsynced > 0)
			assert_string_equal(f.unsynced, "gone?");
		sim_free(w);
	}
	assert_int_equal(lost + kept, 100);
	assert_in_range(lost, 25, 75);
}

static void a_kill_loses_nothing_that_was_written(void **state)
{
	struct found f;

	(void)state;
	world(1, &sim_no_faults);
	sim_node_start(a, write_and_wait, NULL);
	sim_run(w, SYS_SEC);
	sim_node_kill(a);
	assert_int_equal(run(look, &f), 0);
	assert_string_equal(f.synced, "gone?");
	assert_string_equal(f.unsynced, "gone?");
	sim_node_wipe(a);
	assert_int_equal(run(look, &f), 0);
	assert_int_equal(f.n_synced, E_NOTFOUND);
	sim_free(w);
}

static int third_fails(struct sys *s, void *arg)
{
	struct sys_file *f;
	struct err_note note;

	sim_fail_nth(a, 3, E_FULL);
	check(sys_open(s, "/f", SYS_WRITE | SYS_CREATE, &f, &note) == 0);
	check(sys_pwrite(f, "abc", 3, 0, &note) == 0);
	check(sim_fails_nth(a));
	check(sys_pwrite(f, "def", 3, 3, &note) == E_FULL);
	check(!sim_fails_nth(a));
	check(sys_pwrite(f, "ghi", 3, 3, &note) == 0);
	sys_close(f);
	return 0;
}

static void one_chosen_operation_fails(void **state)
{
	(void)state;
	world(1, &sim_no_faults);
	assert_int_equal(run(third_fails, NULL), 0);
	sim_free(w);
}

static int file_rules(struct sys *s, void *arg)
{
	_Alignas(SYS_BLOCK) static char block[SYS_BLOCK];
	struct sys_file *f, *g;
	struct err_note note;
	uint64_t n, total;

	check(sys_open(s, "f", SYS_READ, &f, &note) == E_NOTFOUND);
	check(strstr(note.text, "open f") != NULL);
	check(sys_open(s, "f", SYS_READ | SYS_WRITE | SYS_CREATE | SYS_DIRECT, &f, &note) == 0);
	check(sys_open(s, "f", SYS_READ | SYS_CREATE | SYS_EXCL, &g, &note) == E_EXISTS);
	check(sys_open(s, "f", SYS_READ, &g, &note) == 0);
	check(sys_lock(f, &note) == 0);
	check(sys_lock(g, &note) == E_INUSE);
	memset(block, 'x', sizeof block);
	check(sys_pwrite(f, block, sizeof block, SYS_BLOCK, &note) == 0);
	check(sys_file_bytes(g, &n, &note) == 0);
	check(n == 2 * SYS_BLOCK);
	check(sys_pread(g, block, 10, n - 3, &note) == 3);
	check(sys_pread(g, block, 10, n, &note) == 0);
	check(sys_pread(g, block, 10, SYS_BLOCK - 5, &note) == 10);
	check(memcmp(block, "\0\0\0\0\0xxxxx", 10) == 0);
	check(sys_disk_room(s, "/", &n, &total, &note) == 0);
	check(total == 1 << 20);
	check(n == total - SYS_BLOCK);
	check(sys_allocate(f, 0, total, &note) == 0);
	check(sys_disk_room(s, "/", &n, &total, &note) == 0);
	check(n == 0);
	check(sys_pwrite(f, block, sizeof block, total, &note) == E_FULL);
	check(strstr(note.text, "write f") != NULL);
	check(sys_pwrite(f, block, sizeof block, 0, &note) == 0);
	check(sys_punch(f, 0, 2 * SYS_BLOCK, &note) == 0);
	check(sys_truncate(f, 4 * SYS_BLOCK, &note) == 0);
	check(sys_disk_room(s, "/", &n, &total, &note) == 0);
	check(n == total - 2 * SYS_BLOCK);
	check(sys_unlink(s, "f", &note) == 0);
	sys_close(f);
	check(sys_lock(g, &note) == 0); /* the lock went with its handle */
	check(sys_pread(g, block, 10, SYS_BLOCK, &note) == 10);
	sys_close(g);
	check(sys_disk_room(s, "/", &n, &total, &note) == 0);
	check(n == total);
	return 77;
}

static void note_name(void *arg, const char *name)
{
	strcat(strcat(arg, name), " ");
}

static int dir_rules(struct sys *s, void *arg)
{
	char names[64] = "";

	check(sys_mkdir(s, "d", NULL) == 0);
	check(sys_mkdir(s, "d/", NULL) == 0);
	check(sys_mkdir(s, "x/d", NULL) == E_NOTFOUND);
	check(file_put(s, "d/b", "b", true) == 0);
	check(file_put(s, "d/c", "c", true) == 0);
	check(file_put(s, "d/a", "a", true) == 0);
	check(sys_mkdir(s, "d/a", NULL) == E_EXISTS);
	check(sys_rename(s, "d/c", "d/a", NULL) == 0);
	check(sys_list_dir(s, "d", note_name, names, NULL) == 0);
	check(strcmp(names, "a b ") == 0);
	check(sys_list_dir(s, "d/a", note_name, names, NULL) == E_INVALID);
	check(sys_sync_dir(s, "nowhere", NULL) == E_NOTFOUND);
	check(sys_rename(s, "d/c", "d/x", NULL) == E_NOTFOUND);
	return 77;
}

static void files_follow_their_contract(void **state)
{
	(void)state;
	world(1, &sim_no_faults);
	assert_int_equal(run(file_rules, NULL), 77);
	assert_int_equal(run(dir_rules, NULL), 77);
	sim_free(w);
}

static int hurt(struct sys *s, void *arg)
{
	unsigned *n = arg;
	char text[16];
	int rc;

	rc = file_put(s, "f", "hello", true);
	n[0] += rc == E_IO;
	rc = (int)file_get(s, "f", text, sizeof text);
	n[1] += rc == E_IO;
	n[2] += rc == 5 && strcmp(text, "hello") != 0;
	return rc;
}

static void disks_fail_as_asked(void **state)
{
	struct sim_faults f = sim_no_faults;
	unsigned n[3] = { 0 };

	(void)state;
	f.disk_io_ppm = f.disk_rot_ppm = 200000;
	for (uint64_t seed = 0; seed < 100; seed++) {
		world(seed, &f);
		(void)run(hurt, n);
		sim_free(w);
	}
	for (int i = 0; i < 3; i++)
		assert_in_range(n[i], 5, 50);
	world(1, &sim_no_faults);
	sim_disk_full(a, true);
	assert_int_equal(run(hurt, n), E_NOTFOUND);
	sim_disk_full(a, false);
	assert_int_equal(run(hurt, n), 5);
	assert_false(sim_disk_rot(a, "g", 0, 0));
	assert_true(sim_disk_rot(a, "f", 1, 2));
	sim_free(w);
}

/* ---- time ---- */
struct times {
	uint64_t first_ns, woke_ns;
	int64_t wall_ms;
};

static int sleeper(struct sys *s, void *arg)
{
	struct times *t = arg;
	int64_t wall_ms = (int64_t)sys_wall_ms(s);

	t->first_ns = sys_now_ns(s);
	check(fiber_sleep(sys_after(s, SYS_SEC)) == 0);
	t->woke_ns = sys_now_ns(s) - t->first_ns;
	t->wall_ms = (int64_t)sys_wall_ms(s) - wall_ms;
	return 0;
}

/* A second of a clock that is fast or slow is so much less or more, also when its rate changes. */
static void clocks_drift(void)
{
	static const int32_t ppm[] = { 1000, -1000, 50000, -50000 };
	struct times t;

	for (size_t i = 0; i < sizeof ppm / sizeof ppm[0]; i++) {
		uint64_t from_ns = sim_now_ns(w), half_ns, want_ns;

		sim_clock_drift(a, 0);
		sim_node_start(a, sleeper, &t);
		sim_run(w, from_ns + SYS_SEC / 2);
		half_ns = sim_now_ns(w);
		sim_clock_drift(a, ppm[i]);
		want_ns = (uint64_t)(SYS_SEC / 2 * 1e6 / (1e6 + ppm[i]));
		sim_run(w, half_ns + want_ns - 1000);
		assert_true(sim_node_up(a));
		sim_run(w, half_ns + want_ns + 1000);
		assert_false(sim_node_up(a));
		assert_true(t.woke_ns >= SYS_SEC && t.woke_ns < SYS_SEC + 1000);
	}
	sim_clock_drift(a, 0);
}

static void clocks_go_their_own_way(void **state)
{
	struct sim_faults f = sim_no_faults;
	struct times t, u;
	unsigned late = 0;

	(void)state;
	world(1, &f);
	assert_int_equal(run(sleeper, &t), 0);
	assert_true(t.woke_ns == SYS_SEC);
	assert_int_equal(t.wall_ms, 1000);
	assert_int_equal(run(sleeper, &u), 0);
	assert_true(t.first_ns != u.first_ns); /* each boot has its own monotonic clock */
	clocks_drift();
	sim_node_start(a, sleeper, &t);
	sim_run(w, sim_now_ns(w) + SYS_SEC / 2);
	sim_node_pause(a, 5 * SYS_SEC);
	sim_clock_jump(a, -3600000);
	sim_run(w, sim_now_ns(w) + 10 * SYS_SEC);
	assert_true(t.woke_ns == 5 * SYS_SEC + SYS_SEC / 2);
	assert_int_equal(t.wall_ms, 5500 - 3600000);
	sim_free(w);
	f.clock_late_ppm = 300000;
	for (uint64_t seed = 0; seed < 40; seed++) {
		world(seed, &f);
		assert_int_equal(run(sleeper, &t), 0);
		assert_in_range(t.woke_ns, SYS_SEC, 4 * SYS_SEC);
		late += t.woke_ns > SYS_SEC;
		sim_free(w);
	}
	assert_in_range(late, 4, 24);
}

/* ---- work ---- */
struct job {
	int runs, rc;
};
static void job_run(void *arg)
{
	((struct job *)arg)->runs++;
}

static int worker(struct sys *s, void *arg)
{
	struct job *j = arg;

	j->rc = sys_work(s, job_run, j);
	return j->rc;
}

static void work_runs_once_or_dies_with_its_node(void **state)
{
	unsigned ran = 0;

	(void)state;
	for (uint64_t seed = 0; seed < 40; seed++) {
		struct job j = { 0 };

		world(seed, &sim_no_faults);
		sim_node_start(a, worker, &j);
		sim_run(w, 50 * SYS_US);
		sim_node_crash(a);
		assert_int_equal(j.rc, j.runs == 1 ? 0 : E_CANCELED);
		ran += (unsigned)j.runs;
		sim_free(w);
	}
	assert_in_range(ran, 10, 30);
}

struct fiber_arg {
	struct sys *s;
	struct job *j;
};

static int work_fiber(void *arg)
{
	struct fiber_arg *f = arg;

	return worker(f->s, f->j);
}

static int cancels_work(struct sys *s, void *arg)
{
	struct fiber_arg f = { s, arg };
	struct group g;

	group_init(&g, sys_loop(s));
	check(fiber_start(&g, "work", work_fiber, &f) == 0);
	check(fiber_yield() == 0);
	group_cancel(&g);
	(void)group_wait(&g);
	return 0;
}

static void canceling_waits_for_work(void **state)
{
	struct job j = { 0 };

	(void)state;
	world(1, &sim_no_faults);
	assert_int_equal(run(cancels_work, &j), 0);
	assert_int_equal(j.runs, 1);
	assert_int_equal(j.rc, 0);
	sim_free(w);
}

/* ---- the end of a node ---- */
static int tidy(struct sys *s, void *arg)
{
	struct sys_file *f;
	int *steps = arg;

	check(sys_open(s, "f", SYS_WRITE | SYS_CREATE, &f, NULL) == 0);
	(void)fiber_sleep(FOREVER);
	fiber_shield(sys_after(s, 10 * SYS_SEC));
	steps[0] = fiber_sleep(
		sys_after(s, SYS_SEC)); /* time passes for the dead, and nobody else */
	steps[1] = sys_pwrite(f, "x", 1, 0, NULL);
	steps[2] = sys_open(s, "g", SYS_WRITE | SYS_CREATE, &f, NULL);
	fiber_unshield();
	sys_close(f);
	return 0;
}

static void the_dead_have_no_effect(void **state)
{
	struct found f;
	int steps[3] = { 1, 1, 1 };

	(void)state;
	world(1, &sim_no_faults);
	sim_node_start(a, tidy, steps);
	sim_run(w, SYS_SEC);
	sim_node_kill(a);
	assert_int_equal(sim_now_ns(w), SYS_SEC);
	assert_int_equal(steps[0], 0);
	assert_int_equal(steps[1], E_CANCELED);
	assert_int_equal(steps[2], E_CANCELED);
	assert_int_equal(run(look, &f), 0);
	sim_free(w);
}

static int stubborn(struct sys *s, void *arg)
{
	for (uint64_t i = 0; i < UINT64_MAX; i++)
		if (arg != NULL)
			(void)fiber_sleep(sys_after(s, SYS_SEC));
		else
			(void)sys_unlink(s, "f", NULL);
	return 0;
}

static int leaker(struct sys *s, void *arg)
{
	struct sys_listener *l;

	return sys_listen(s, "tcp:a:1", &l, NULL);
}

/* A bug of a node stops the program: done in a child. */
static void stops(sim_main_fn *fn, void *arg)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		fclose(stderr);
		signal(SIGABRT, SIG_DFL);
		world(1, &sim_no_faults);
		sim_node_start(a, fn, arg);
		sim_run(w, SYS_SEC);
		sim_free(w);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void who_never_gives_up_is_found(void **state)
{
	(void)state;
	stops(stubborn, NULL);
	stops(stubborn, &w);
	stops(leaker, NULL);
}

static int waits_for_signal(struct sys *s, void *arg)
{
	int signal = 0, rc = sys_signal_wait(s, sys_after(s, 2 * SYS_SEC), &signal);

	return rc < 0 ? rc : signal;
}

static void signals_arrive(void **state)
{
	(void)state;
	world(1, &sim_no_faults);
	sim_node_start(a, waits_for_signal, NULL);
	sim_run(w, SYS_SEC);
	sim_node_signal(a, 15);
	sim_run(w, 3 * SYS_SEC);
	assert_int_equal(sim_node_result(a), 15);
	assert_int_equal(run(waits_for_signal, NULL), E_TIMEOUT);
	sim_free(w);
}

static int unlucky(struct sys *s, void *arg)
{
	unsigned *n = arg;

	for (int i = 0; i < 1000; i++) {
		if (sys_buggify(s, "test: short batch")) {
			sys_reached(s, "test: a short batch");
			n[0]++;
		}
		n[1] += sys_buggify(s, "test: other");
	}
	return 0;
}

static void count_point(void *arg, const char *what, uint64_t count)
{
	if (strcmp(what, "test: a short batch") == 0)
		*(uint64_t *)arg += count;
}

static void bad_luck_is_per_run(void **state)
{
	struct sim_faults f = sim_no_faults;
	unsigned quiet = 0, total = 0;
	uint64_t counted = 0;

	(void)state;
	f.buggify_ppm = 100000;
	for (uint64_t seed = 0; seed < 40; seed++) {
		unsigned n[2] = { 0 };

		world(seed, &f);
		(void)run(unlucky, n);
		quiet += n[0] == 0;
		total += n[0];
		if (n[0] > 0)
			assert_in_range(n[0], 50, 200);
		sim_free(w);
	}
	assert_in_range(quiet, 20, 38);
	sim_coverage(count_point, &counted);
	assert_int_equal(counted, total);
}

/* ---- the same seed, the same run ---- */
enum { N_CHATTERS = 3 };

static int chat_server(void *arg)
{
	struct fiber_arg *f = arg;
	struct sys_listener *l;
	struct sys_stream *c;
	char buf[64];
	int rc = sys_listen(f->s, "tcp:*:9", &l, NULL);

	while (rc == 0 && (rc = sys_accept(l, FOREVER, &c)) == 0) {
		while (sys_recv(c, buf, sizeof buf, sys_after(f->s, SYS_SEC)) > 0)
			;
		sys_stream_close(c);
	}
	sys_listener_close(l);
	return rc;
}

static int chat_caller(void *arg)
{
	struct fiber_arg *f = arg;
	struct sys *s = f->s;
	char to[32], text[64], stale[64];
	struct sys_stream *c;
	int rc = 0;

	while (rc != E_CANCELED) {
		snprintf(to, sizeof to, "tcp:%c:9", "abc"[sys_random(s) % N_CHATTERS]);
		rc = sys_connect(s, to, sys_after(s, SYS_SEC), &c, NULL);
		for (int i = 0; rc == 0 && i < 10; i++) {
			struct iovec iov = { text, sizeof text };

			memset(text, i, sizeof text);
			if (f->j != NULL) { /* the planted fault: bytes that nobody wrote */
				__asm__ volatile("" : "=m"(stale));
				memcpy(text, stale, sizeof text);
			}
			rc = sys_send(c, &iov, 1, sys_after(s, SYS_SEC));
			if (rc == 0)
				rc = file_put(s, to + 4, to, sys_random(s) % 4 == 0);
			if (rc == E_IO)
				rc = 0;
		}
		if (rc != E_UNREACH && rc != E_TIMEOUT && c != NULL)
			sys_stream_close(c);
		c = NULL;
		if (rc != E_CANCELED)
			rc = fiber_sleep(sys_after(s, 5 * SYS_MS));
	}
	return rc;
}

static int chat(struct sys *s, void *arg)
{
	struct fiber_arg f = { s, arg };
	struct group g;

	group_init(&g, sys_loop(s));
	g.keep_going = true;
	check(fiber_start(&g, "server", chat_server, &f) == 0);
	for (int i = 0; i < 3; i++)
		check(fiber_start(&g, "caller", chat_caller, &f) == 0);
	return group_wait(&g);
}

static uint64_t unseed(uint64_t seed, int pattern, bool plant)
{
	struct sim_node *nodes[N_CHATTERS];
	struct job planted;
	struct prng *p;
	uint64_t sum, ns;

	w = sim_new(seed, &sim_all_faults);
	sim_fill_stacks(w, pattern);
	p = sim_workload(w);
	for (int i = 0; i < N_CHATTERS; i++)
		nodes[i] = sim_node_add(w, (char[]){ "abc"[i], '\0' }, 1 << 20);
	for (int i = 0; i < 20; i++) {
		struct sim_node *n = nodes[prng_below(p, N_CHATTERS)];

		for (int k = 0; k < N_CHATTERS; k++)
			if (!sim_node_up(nodes[k]))
				sim_node_start(nodes[k], chat, plant ? &planted : NULL);
		ns = prng_below(p, 200 * SYS_MS);
		sim_run(w, sim_now_ns(w) + ns);
		if (prng_next(p) & 1)
			sim_node_crash(n);
	}
	sum = sim_unseed(w);
	sim_free(w);
	return sum;
}

static uint64_t unseed_in_child(uint64_t seed)
{
	char line[256];
	unsigned long long sum = 0;
	FILE *f;

	snprintf(line, sizeof line, "SPREAD=%0*d %s %llu", (int)(seed % 90) + 1, 0, self,
		(unsigned long long)seed); /* another environment, so other stack addresses */
	f = popen(line, "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%llx", &sum), 1);
	assert_int_equal(pclose(f), 0);
	return sum;
}

static void a_seed_is_a_run(void **state)
{
	uint64_t last = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 5; seed++) {
		uint64_t sum = unseed(seed, -1, false);

		assert_true(sum != last);
		assert_true(unseed(seed, -1, false) == sum);
		assert_true(unseed(seed, 0x55, false) == sum);
		assert_true(unseed(seed, 0xaa, false) == sum);
		assert_true(unseed_in_child(seed) == sum);
		last = sum;
	}
}

static void two_patterns_find_a_stale_read(void **state)
{
	(void)state;
#if LANE_ASAN
	print_message("AddressSanitizer moves locals to frames of its own\n");
	skip();
#endif
	assert_true(unseed(1, 0x55, true) == unseed(1, 0x55, true));
	assert_true(unseed(1, 0x55, true) != unseed(1, 0xaa, true));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_crash_loses_what_was_not_synced),
		cmocka_unit_test(one_chosen_operation_fails),
		cmocka_unit_test(a_kill_loses_nothing_that_was_written),
		cmocka_unit_test(files_follow_their_contract),
		cmocka_unit_test(disks_fail_as_asked),
		cmocka_unit_test(clocks_go_their_own_way),
		cmocka_unit_test(work_runs_once_or_dies_with_its_node),
		cmocka_unit_test(canceling_waits_for_work),
		cmocka_unit_test(the_dead_have_no_effect),
		cmocka_unit_test(who_never_gives_up_is_found),
		cmocka_unit_test(signals_arrive),
		cmocka_unit_test(bad_luck_is_per_run),
		cmocka_unit_test(a_seed_is_a_run),
		cmocka_unit_test(two_patterns_find_a_stale_read),
	};

	self = argv[0];
	if (argc == 2) {
		printf("%llx\n",
			(unsigned long long)unseed(strtoull(argv[1], NULL, 10), 0x11, false));
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
