/* SPDX-License-Identifier: Apache-2.0 */
/* nth_test: one put or get, in which the first, then the second, ... thing goes wrong once, until
 * it ends before anything could.  The caller gets the bytes, or a code and a sentence; whoever is
 * told that an object was put finds it; and when the client has gone nothing is left: no room, no
 * pin, no connection (and no fiber, descriptor or memory: the simulated door looks for those). */
#include "base/check.h"
#include "client/client.h"
#include "control/control.h"
#include "meta/large.h"
#include "store/store.h"
#include "sys/sim/sim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB (UINT64_C(1) << 20)
#define TICK_NS (20 * SYS_MS)
#define SOON_NS (5 * SYS_US) /* between two messages */
enum {
	BYTES = 300 << 10,   /* two extents in the small arenas here */
	CALL_SEC = 20,
	EMPTY_SEC = 900,     /* what a crash of the shard forgot ends with its session */
	NTH_MAX = 3000,
};

/* What goes wrong at the nth message or disk operation after the call began. */
enum fault { LOSE_SEGMENT, FAIL_DISK, KILL_STORE, KILL_META, STOP_STORE, SLEEP_OVER_STORE };
enum what { PUT, PUT_SAFE, PUT_PIECES, GET, GET_RANGE, VIEW };

struct world {
	struct sim *sim;
	struct sim_node *meta, *store, *host;
	bool near;           /* the storage server runs in the client's process */
	bool shared;         /* a view looked at its memory */
	enum fault fault;
	enum what what;
	uint64_t nth, base;  /* counted from base on */
	bool armed, fired, restart, ended, empty;
	uint8_t key[TOKEN_KEY_BYTES];
	char token[TOKEN_CHARS_MAX];
	size_t token_len;
	struct store_opts store_opts;
	struct store *st;
	int rc;              /* of the call */
	uint8_t data[BYTES], back[BYTES];
};

/* ---- servers ---- */
/* A shard that cannot write its log ends; whoever runs it starts it again. */
static void on_failed(void *arg, int rc, const struct err_note *note)
{
	*(bool *)arg = true;
}

static int meta_main(struct sys *s, void *arg)
{
	struct world *w = arg;
	struct db_opts rows = { .memtable_bytes_max = 64 << 10, .merge_every_ns = SYS_SEC,
		.log_segment_bytes = 256 << 10 };
	bool failed = false;
	struct control_opts co = { .key = w->key };
	struct serve_opts o = { .replica = { .dir = "/meta", .db = &rows }, .slab_bytes = 4 * MIB,
		.guest = &control_guest, .guest_arg = &co, .failed = on_failed, .arg = &failed };
	struct serve *v;
	const char *bound;
	int rc = sys_mkdir(s, "/meta", NULL);

	if (rc == 0)
		rc = serve_open(s, &o, &v, NULL);
	if (rc < 0)
		return rc;
	rc = serve_listen(v, "tcp:meta:9234", &bound, NULL);
	if (rc == 0)
		rc = serve_ready(v, sys_after(s, CALL_SEC * SYS_SEC));
	while (rc == 0 && !failed) {
		struct room_sum sum = room_sum(large_room(serve_shard(v)), 0, TIER_COUNT, 0);

		w->empty = sum.used + sum.granted + sum.orphaned == 0;
		rc = fiber_sleep(sys_after(s, TICK_NS));
	}
	fiber_shield(sys_after(s, CALL_SEC * SYS_SEC));
	(void)serve_close(v, NULL);
	fiber_unshield();
	return rc;
}

static int store_open(struct world *w, struct sys *s)
{
	static const struct store_device devices[] = {
		{ .tier = TIER_DRAM, .bytes = 2 * MIB, .egroup_bytes = MIB / 4 },
		{ .tier = TIER_FLASH, .bytes = 2 * MIB, .egroup_bytes = MIB / 2, .dir = "flash" },
	};
	static const char *const near[] = { "tcp:host:9300", "unix:/store" };
	static const char *const far[] = { "tcp:store:9300" };

	w->store_opts = (struct store_opts){ .dir = "/data", .devices = devices, .n_devices = 2,
		.listen = w->near ? near : far, .n_listen = w->near ? 2 : 1,
		.controller = "tcp:meta:9234", .token = bytes_of(w->token, w->token_len) };
	return store_new(s, &w->store_opts, &w->st, NULL);
}

/* Keeps a storage server open, opens it anew when asked to, audits it. */
static int store_fiber(struct world *w, struct sys *s)
{
	int rc = store_open(w, s);

	while (rc == 0 && !w->ended) {
		if (w->restart) {
			store_free(w->st);
			w->restart = false;
			rc = store_open(w, s);
			continue;
		}
		store_audit(w->st);
		rc = fiber_sleep(sys_after(s, w->armed && !w->fired ? SOON_NS : TICK_NS));
	}
	if (rc != 0 && w->st == NULL)
		return rc;
	store_free(w->st);
	w->st = NULL;
	return rc;
}

static int store_main(struct sys *s, void *arg) { return store_fiber(arg, s); }

/* ---- the client ---- */
struct side { struct world *w; struct sys *s; };

static int near_fiber(void *arg)
{
	struct side *side = arg;

	return store_fiber(side->w, side->s);
}

static const char *key_of(const struct world *w)
{
	return w->what == GET || w->what == GET_RANGE || w->what == VIEW ? "there" : "new";
}

static const char *bucket_of(const struct world *w)
{
	return w->what == PUT_SAFE ? "kept" : "loose";
}

static int put_pieces(struct world *w, struct client *c, uint64_t until_ns, struct err_note *note)
{
	struct wadi_put_opts o = { 0 };
	struct upload *u;
	int rc = upload_new(c, "loose", "new", &o, until_ns, &u, note);

	if (rc < 0)
		return rc;
	for (size_t at = 0, n; at < BYTES && rc == 0; at += n) {
		n = BYTES - at < 70000 ? BYTES - at : 70000;
		rc = upload_write(u, bytes_of(w->data + at, n), until_ns, note);
	}
	if (rc == 0)
		rc = upload_commit(u, until_ns, NULL, note);
	upload_free(u);
	return rc;
}

static int look_at(struct world *w, struct client *c, const struct wadi_get_opts *o,
	uint64_t until_ns, struct err_note *note)
{
	struct view *v;
	size_t n, len = 0;
	const struct wadi_part *p;
	int rc = client_view(c, "loose", "there", o, until_ns, &v, note);

	if (rc < 0)
		return rc;
	p = view_parts(v, &n);
	for (size_t i = 0; i < n; len += p[i++].len)
		memcpy(w->back + len, p[i].data, p[i].len);
	check(view_len(v) == BYTES);
	check(len == BYTES);
	if (view_holds(v)) /* else it may be anything, and we are told */
		check(memcmp(w->back, w->data, BYTES) == 0);
	w->shared = view_shared(v);
	view_free(v);
	return 0;
}

static int call(struct world *w, struct client *c, uint64_t until_ns, struct err_note *note)
{
	struct wadi_put_opts put = { 0 };
	struct wadi_get_opts get = { 0 };
	size_t len;
	int rc;

	if (w->what == PUT || w->what == PUT_SAFE)
		return client_put(c, bucket_of(w), "new", bytes_of(w->data, BYTES), &put, until_ns,
			NULL, note);
	if (w->what == PUT_PIECES)
		return put_pieces(w, c, until_ns, note);
	if (w->what == VIEW)
		return look_at(w, c, &get, until_ns, note);
	if (w->what == GET_RANGE)
		get = (struct wadi_get_opts){ .offset = 5000, .len = 270001 };
	memset(w->back, 0, sizeof w->back);
	rc = client_get(c, "loose", "there", w->back, BYTES, &get, until_ns, &len, NULL, note);
	if (rc < 0)
		return rc;
	check(len == (get.len > 0 ? get.len : BYTES));
	check(memcmp(w->back, w->data + get.offset, len) == 0);
	return 0;
}

/* What a caller may be told. */
static bool fitting(const struct world *w)
{
	bool reads = strcmp(key_of(w), "there") == 0;

	switch (w->fault) {
	case LOSE_SEGMENT:
	case STOP_STORE:
		return w->rc == 0;
	case KILL_STORE:
	case SLEEP_OVER_STORE:
		return w->rc == 0 || (reads && w->rc == E_LOST);
	case KILL_META:
		return w->rc == 0 || (!reads && w->rc == E_UNKNOWN);
	case FAIL_DISK:
		return w->rc == 0 || w->rc == E_IO || w->rc == E_UNKNOWN || w->rc == E_UNAVAILABLE;
	}
	return false;
}

/* What the world looks like after the call, with everything up again. */
static void judge(struct world *w, struct client *c, struct sys *s)
{
	struct wadi_get_opts get = { 0 };
	struct err_note note = { "" };
	size_t len = 0;
	int rc = client_get(c, bucket_of(w), key_of(w), w->back, BYTES, &get,
		sys_after(s, CALL_SEC * SYS_SEC), &len, NULL, &note);
	bool killed = w->fault == KILL_STORE || w->fault == SLEEP_OVER_STORE;

	if (rc == 0) {
		check(len == BYTES);
		check(memcmp(w->back, w->data, BYTES) == 0);
	} else if (rc == E_NOTFOUND) { /* only what was not put is not there */
		check(w->rc < 0);
		check(strcmp(key_of(w), "new") == 0);
	} else {
		check(rc == E_LOST);       /* only memory is, and with its server */
		check(killed);
		check(w->what != PUT_SAFE);
	}
	rc = client_delete(c, bucket_of(w), key_of(w), &(struct wadi_opts){ 0 },
		sys_after(s, CALL_SEC * SYS_SEC), &note);
	check(rc == 0 || rc == E_NOTFOUND);
}

/* A put before anybody listens or has room is another test's. */
static void prepare(struct world *w, struct client *c, struct sys *s)
{
	struct wadi_bucket_opts loose = { .tiers = WADI_TIER(WADI_DRAM) };
	struct wadi_bucket_opts kept = { .lifetime = WADI_LIFETIME_PERSIST };
	struct wadi_put_opts put = { 0 };
	uint64_t until_ns = sys_after(s, CALL_SEC * SYS_SEC);
	int rc = E_FULL;

	check(client_bucket_create(c, "loose", &loose, until_ns, NULL, NULL) == 0);
	check(client_bucket_create(c, "kept", &kept, until_ns, NULL, NULL) == 0);
	while (rc == E_FULL || rc == E_UNAVAILABLE) {
		rc = client_put(c, "loose", "there", bytes_of(w->data, BYTES), &put, until_ns,
			NULL, NULL);
		check(fiber_sleep(sys_after(s, TICK_NS)) == 0);
	}
	check(rc == 0);
}

static struct client *join(struct sys *s, const char *token, size_t len)
{
	struct client_opts o = { .addr = "tcp:meta:9234", .wait = true,
		.token = bytes_of(token, len) };
	struct client *c;

	check(client_new(s, &o, sys_after(s, CALL_SEC * SYS_SEC), &c, NULL) == 0);
	return c;
}

static int client_fiber(struct world *w, struct sys *s)
{
	struct client *c = join(s, w->token, w->token_len);
	struct err_note note = { "" };
	struct store_status st;
	struct wadi_job job;
	uint64_t until_ns;

	/* Only jobs may use memory. */
	check(client_job_register(c, "nth", &(struct wadi_job_hints){ 0 },
		sys_after(s, CALL_SEC * SYS_SEC), &job, NULL) == 0);
	client_free(c);
	c = join(s, job.token, strlen(job.token));
	prepare(w, c, s);
	until_ns = sys_after(s, CALL_SEC * SYS_SEC);
	w->armed = true;
	w->rc = call(w, c, until_ns, &note);
	w->armed = false;
	check(sys_now_ns(s) <= until_ns + SYS_SEC);
	check(w->rc >= 0 || note.text[0] != '\0');
	if (!fitting(w))
		fprintf(stderr, "call %d, fault %d, nth %llu: %s: %s\n", w->what, w->fault,
			(unsigned long long)w->nth, err_name(w->rc), note.text);
	check(fitting(w));
	check(fiber_sleep(sys_after(s, 5 * SYS_SEC)) == 0); /* what was stopped comes back */
	judge(w, c, s);
	if (strcmp(key_of(w), "there") != 0)
		check(client_delete(c, "loose", "there", &(struct wadi_opts){ 0 },
			sys_after(s, CALL_SEC * SYS_SEC), &note) == 0);
	check(fiber_sleep(sys_after(s, SYS_SEC)) == 0);
	store_status(w->st, &st);
	check(st.n_pins == 0); /* while the connection is there that they would end with */
	client_free(c);
	return 0;
}

/* Nothing is kept for anybody any more. */
static void all_given_back(struct world *w, struct sys *s)
{
	struct store_status st;

	w->empty = false;
	for (uint64_t i = 0; i < EMPTY_SEC * SYS_SEC / TICK_NS && !w->empty; i++)
		check(fiber_sleep(sys_after(s, TICK_NS)) == 0);
	check(w->empty);
	store_audit(w->st);
	store_status(w->st, &st);
	check(st.n_pins == 0);
	check(st.n_clients == 0);
	for (unsigned i = 0; i < st.n_devices; i++) {
		check(st.devices[i].used_bytes == 0);
		check(st.devices[i].pinned_bytes == 0);
		check(st.devices[i].n_extents == 0);
	}
}

static int host_main(struct sys *s, void *arg)
{
	struct world *w = arg;
	struct side side = { w, s };
	struct group g;

	group_init(&g, sys_loop(s));
	if (w->near)
		check(fiber_start(&g, "store", near_fiber, &side) == 0);
	(void)client_fiber(w, s);
	all_given_back(w, s);
	w->ended = true;
	return group_wait(&g);
}

/* ---- faults ---- */
static uint64_t counted(const struct world *w)
{
	struct sim_counts n = sim_counts(w->sim);

	return w->fault == FAIL_DISK ? n.disk_ops : n.messages;
}

static void fire(struct world *w)
{
	struct sim_faults f = sim_no_faults;

	w->fired = true;
	switch (w->fault) {
	case LOSE_SEGMENT:
		f.net_lose_ppm = 1000000;
		sim_faults_set(w->sim, &f); /* until one was */
		break;
	case FAIL_DISK:
		f.disk_io_ppm = 1000000;
		sim_faults_set(w->sim, &f);
		break;
	case KILL_STORE:
		if (w->near)
			w->restart = true;
		else
			sim_node_kill(w->store);
		break;
	case KILL_META:
		sim_node_kill(w->meta);
		break;
	case SLEEP_OVER_STORE: /* the client wakes up when all have forgotten its room */
		sim_node_kill(w->store);
		sim_node_pause(w->host, 3 * SYS_SEC);
		break;
	case STOP_STORE:
		sim_node_pause(w->near ? w->meta : w->store, 3 * SYS_SEC);
		break;
	}
}

static void keep_up(struct world *w)
{
	if (!sim_node_up(w->meta))
		sim_node_start(w->meta, meta_main, w);
	if (!w->near && !sim_node_up(w->store) && !w->ended)
		sim_node_start(w->store, store_main, w);
}

/* False: the call ended before there was an nth thing. */
static bool once(bool near, enum what what, enum fault fault, uint64_t nth)
{
	struct world *w = calloc(1, sizeof *w);
	uint64_t faults = 0;
	bool armed = false, fired;

	check(w != NULL);
	*w = (struct world){ .sim = sim_new(nth, &sim_no_faults), .near = near, .what = what,
		.fault = fault, .nth = nth };
	for (size_t i = 0; i < BYTES; i++)
		w->data[i] = (uint8_t)(i * 2654435761u >> 13);
	w->token_len = token_admin(w->key, w->token);
	w->meta = sim_node_add(w->sim, "meta", 256 * MIB);
	w->store = sim_node_add(w->sim, "store", 16 * MIB);
	w->host = sim_node_add(w->sim, "host", 16 * MIB);
	sim_node_start(w->host, host_main, w);
	while (sim_node_up(w->host)) {
		keep_up(w);
		check(sim_step(w->sim));
		if (w->armed && !armed)
			w->base = counted(w);
		armed = w->armed;
		if (armed && !w->fired && counted(w) - w->base + 1 >= w->nth) {
			faults = sim_counts(w->sim).faults;
			fire(w);
		}
		if (w->fired && sim_counts(w->sim).faults > faults)
			sim_faults_set(w->sim, &sim_no_faults);
	}
	check(sim_node_result(w->host) == 0);
	fired = w->fired;
	check(fired || what != VIEW || w->shared == near);
	sim_free(w->sim);
	free(w);
	return fired;
}

static void nth(bool near, enum what what, enum fault fault)
{
	uint64_t n = 1;

	while (once(near, what, fault, n) && n < NTH_MAX)
		n++;
	check(n > 1); /* a fault that never comes shows nothing */
	check(n < NTH_MAX);
}

static void any_call(bool near, enum fault fault)
{
	for (enum what what = PUT; what <= VIEW; what++)
		nth(near, what, fault);
}

/* A call survives the loss of any segment. */
static void segments(void **state)
{
	any_call(false, LOSE_SEGMENT);
	any_call(true, LOSE_SEGMENT);
}

/* A disk that fails once costs a durable put at most a clear error. */
static void disks(void **state)
{
	nth(false, PUT_SAFE, FAIL_DISK);
	nth(true, PUT_SAFE, FAIL_DISK);
}

/* A storage server that dies loses memory, and nothing else; one that stops delays. */
static void stores(void **state)
{
	any_call(false, KILL_STORE);
	any_call(true, KILL_STORE);
	any_call(false, STOP_STORE);
	any_call(false, SLEEP_OVER_STORE);
}

/* A shard that dies and comes back is hardly noticed. */
static void shards(void **state)
{
	any_call(false, KILL_META);
	any_call(true, KILL_META);
}

static void remember(void *arg, const char *path, uint64_t count)
{
	static const char *const paths[] = { "extent written again elsewhere",
		"object written again: its room was gone", "places asked for anew" };

	for (unsigned i = 0; i < sizeof paths / sizeof paths[0]; i++)
		if (count > 0 && strcmp(path, paths[i]) == 0)
			*(unsigned *)arg |= 1u << i;
}

/* What went wrong above went wrong where it hurts. */
static void repairs(void **state)
{
	unsigned seen = 0;

	sim_coverage(remember, &seen);
	assert_int_equal(seen, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(segments),
		cmocka_unit_test(disks),
		cmocka_unit_test(stores),
		cmocka_unit_test(shards),
		cmocka_unit_test(repairs), /* the last one */
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
