/* SPDX-License-Identifier: Apache-2.0 */
#include "node/node.h"
#include "base/check.h"
#include "client/client.h"
#include "node/meta.h"
#include "node/place.h"
#include "node/store.h"
#include "sys/uv/sys_uv.h"
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STARTING_MS = 60000, POLL_MS = 5, BOUND_MAX = 2, DEVICES_MAX = 3, LOG_LINE_MAX = 512 };

/* One role on its own thread.  What the thread writes is read by the main loop only after ready, or
 * after the join. */
struct role {
	const char *name;
	struct serving *all;
	struct sys_thread *thread;
	atomic_bool ready;
	char bound[BOUND_MAX][WHERE_MAX];
	struct err_note note;
	bool joined;
	int rc;
};

struct serving {
	const struct node_opts *o;
	struct sys *sys;             /* of the main loop */
	struct place_found place;
	struct role meta, store;
	const char *meta_listen[BOUND_MAX], *store_listen[BOUND_MAX];
	struct store_device devices[DEVICES_MAX];
	struct meta_opts meta_opts;
	struct store_opts store_opts;
	char meta_addr[WHERE_LIST_MAX];   /* where a store finds its shard */
	struct group group;          /* watchers of the roles, and of signals */
	struct waitq over;           /* one of them saw the end */
	bool stopping;
	int rc;                      /* of the role that ended by itself */
	struct err_note note;
};

static void say(struct sys *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct sys *s, const char *fmt, ...)
{
	char line[LOG_LINE_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	sys_log(s, line);
}

/* ---- roles ---- */
static void role_ready(void *arg, const char *const *bound, unsigned n)
{
	struct role *r = arg;

	for (unsigned i = 0; i < n && i < BOUND_MAX; i++)
		snprintf(r->bound[i], WHERE_MAX, "%s", bound[i]);
	atomic_store(&r->ready, true);
}

/* Each door reads the certificates for itself. */
PARKS static int role_tls(struct sys *s, struct role *r)
{
	const struct serving *sv = r->all;

	if (sv->place.cert[0] == '\0' && strncmp(sv->meta_addr, "tls:", 4) != 0)
		return 0;
	return where_tls(s, sv->place.cert, false, &r->note);
}

static int meta_thread(struct sys *s, void *arg)
{
	struct role *r = arg;
	int rc = role_tls(s, r);

	return rc < 0 ? rc : meta_serve(s, &r->all->meta_opts, &r->note);
}

static int store_thread(struct sys *s, void *arg)
{
	struct role *r = arg;
	int rc = role_tls(s, r);

	return rc < 0 ? rc : store_serve(s, &r->all->store_opts, &r->note);
}

static void over(struct serving *sv, int rc, const struct err_note *note)
{
	if (!sv->stopping && rc < 0) {
		sv->rc = rc;
		sv->note = *note;
	}
	sv->stopping = true;
	waitq_wake_all(&sv->over);
}

PARKS static int role_watch(void *arg)
{
	struct role *r = arg;
	int rc = sys_uv_thread_join(r->thread, &r->rc);

	if (rc < 0)
		return rc;
	r->joined = true;
	if (r->rc == 0 && !r->all->stopping)
		r->rc = err_set(&r->note, E_CANCELED, "%s ended by itself", r->name);
	over(r->all, r->rc, &r->note);
	return 0;
}

PARKS static int role_start(struct serving *sv, struct role *r, const char *name,
	sys_thread_fn *fn, struct err_note *note)
{
	int rc;

	r->name = name;
	r->all = sv;
	rc = sys_uv_thread(sv->sys, name, fn, r, &r->thread, note);
	if (rc < 0)
		return rc;
	rc = fiber_start(&sv->group, name, role_watch, r);
	check(rc == 0); /* the first fibers of the loop */
	return 0;
}

PARKS static int role_wait(struct serving *sv, struct role *r, struct err_note *note)
{
	uint64_t until_ns = sys_after(sv->sys, STARTING_MS * SYS_MS);

	while (!atomic_load(&r->ready)) {
		int rc = 0;

		if (sv->stopping)
			return err_set(note, sv->rc < 0 ? sv->rc : E_CANCELED, "%s", sv->note.text);
		if (sys_now_ns(sv->sys) >= until_ns)
			rc = err_set(note, E_TIMEOUT, "%s does not start", r->name);
		if (rc == 0)
			rc = fiber_sleep(sys_after(sv->sys, POLL_MS * SYS_MS));
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Stops the role and waits for its thread: its watcher joins. */
PARKS static void role_stop(struct serving *sv, struct role *r)
{
	if (r->thread == NULL)
		return;
	if (!r->joined)
		sys_uv_thread_stop(r->thread);
	while (!r->joined)
		fiber_sleep(sys_after(sv->sys, POLL_MS * SYS_MS));
}

/* ---- options of the roles ---- */
static void meta_prepare(struct serving *sv)
{
	unsigned n = 0;

	sv->meta_listen[n++] = sv->place.socket;
	if (sv->place.tcp[0] != '\0')
		sv->meta_listen[n++] = sv->place.tcp;
	sv->meta_opts = (struct meta_opts){ .dir = sv->place.meta, .listen = sv->meta_listen,
		.n_listen = n, .key_file = sv->place.key_path, .ready = role_ready,
		.arg = &sv->meta };
}

static void device_add(struct serving *sv, uint8_t tier, uint64_t bytes, const char *dir)
{
	unsigned n = sv->store_opts.n_devices;

	if (bytes == 0)
		return;
	check(n < DEVICES_MAX);
	sv->devices[n] = (struct store_device){ .tier = tier, .bytes = bytes, .dir = dir };
	sv->store_opts.n_devices = n + 1;
}

PARKS static int store_prepare(struct serving *sv, struct err_note *note)
{
	struct place_found *p = &sv->place;
	unsigned n = 0;
	int rc;

	sv->store_listen[n++] = p->store_socket;
	if (p->store_tcp[0] != '\0')
		sv->store_listen[n++] = p->store_tcp;
	sv->store_opts = (struct store_opts){ .dir = p->store, .devices = sv->devices,
		.listen = sv->store_listen, .n_listen = n, .ready = role_ready, .arg = &sv->store,
		.rack = sv->o->rack };
	device_add(sv, TIER_DRAM, p->dram_bytes, NULL);
	device_add(sv, TIER_FLASH, p->flash_bytes, p->flash);
	device_add(sv, TIER_DISK, p->disk_bytes, p->disk);
	if (sv->o->roles & NODE_META) {
		sv->store_opts.controller = p->socket;
		return 0;
	}
	rc = where_connect(sv->sys, sv->o->meta, sv->meta_addr, note);
	if (rc < 0)
		return rc;
	sv->store_opts.controller = sv->meta_addr;
	if (strncmp(sv->meta_addr, "unix:", 5) != 0)
		sv->store_opts.token = bytes_of(p->key_text, strlen(p->key_text));
	return 0;
}

/* ---- starting ---- */
/* Clients are served once the shard has room to give. */
PARKS static int joined_wait(struct serving *sv, struct err_note *note)
{
	struct client_opts co = { .addr = sv->place.socket, .name = "wadi serve", .wait = true };
	uint64_t until_ns = sys_after(sv->sys, STARTING_MS * SYS_MS);
	struct wadi_status *st;
	struct client *c;
	bool up = false;
	int rc = client_new(sv->sys, &co, until_ns, &c, note);

	if (rc < 0)
		return rc;
	while (!up && rc == 0 && !sv->stopping) {
		rc = client_status(c, 0, until_ns, &st, note);
		if (rc < 0)
			break;
		up = st->n_servers > 0 && st->servers[0].state == SERVER_UP;
		wadi_status_free(st);
		if (!up)
			rc = fiber_sleep(sys_after(sv->sys, POLL_MS * SYS_MS));
		if (sys_now_ns(sv->sys) >= until_ns)
			rc = err_set(note, E_TIMEOUT, "the storage role does not join");
	}
	client_free(c);
	return rc;
}

PARKS static int start(struct serving *sv, struct err_note *note)
{
	int rc = place_find(sv->sys, sv->o, &sv->place, note);

	if (rc == 0 && (sv->o->roles & NODE_META)) {
		meta_prepare(sv);
		rc = role_start(sv, &sv->meta, "meta", meta_thread, note);
		if (rc == 0)
			rc = role_wait(sv, &sv->meta, note);
	}
	if (rc == 0 && (sv->o->roles & NODE_STORE)) {
		rc = store_prepare(sv, note);
		if (rc == 0)
			rc = role_start(sv, &sv->store, "store", store_thread, note);
		if (rc == 0)
			rc = role_wait(sv, &sv->store, note);
		if (rc == 0 && (sv->o->roles & NODE_META))
			rc = joined_wait(sv, note);
	}
	return rc;
}

/* ---- what it says ---- */
static void size_text(uint64_t bytes, char *ret_text, size_t room)
{
	if (bytes >= UINT64_C(10) << 30)
		snprintf(ret_text, room, "%llu GiB", (unsigned long long)(bytes >> 30));
	else
		snprintf(ret_text, room, "%llu MiB", (unsigned long long)(bytes >> 20));
}

static void tier_line(const char *name, uint64_t bytes, const char *where)
{
	char size[32];

	if (bytes == 0)
		return;
	size_text(bytes, size, sizeof size);
	printf("  %-10s %s%s%s\n", name, size, where != NULL ? " in " : "",
		where != NULL ? where : "");
}

static void try_it(const struct serving *sv)
{
	puts("Try, in another terminal:");
	if (node_elsewhere(sv->o))
		printf("  export WADI_URL=%s\n", sv->place.socket);
	puts("  wadi bucket create hello\n"
	     "  echo 'Hello, Wadi' | wadi put hello/world\n"
	     "  wadi cat hello/world");
}

static void banner(const struct serving *sv)
{
	const struct place_found *p = &sv->place;
	unsigned roles = sv->o->roles;
	char url[WHERE_MAX];

	printf("wadi %s serves%s%s\n", wadi_version(), roles & NODE_META ? " metadata" : "",
		roles & NODE_STORE ? " storage" : "");
	if (roles & NODE_META)
		printf("  %-10s %s\n", "here", p->socket);
	if (roles & NODE_META && p->tcp[0] != '\0') {
		where_url(sv->meta.bound[1], url);
		printf("  %-10s %s (key: %s%s%s)\n", "network", url, p->key_path,
			p->tcp[1] == 'l' ? ", certificates: " : "",
			p->tcp[1] == 'l' ? p->cert : "");
	}
	printf("  %-10s %s\n", "data", p->data);
	if (roles & NODE_STORE) {
		tier_line("dram", p->dram_bytes, NULL);
		tier_line("flash", p->flash_bytes, p->flash);
		tier_line("disk", p->disk_bytes, p->disk);
	}
	if (roles & NODE_META)
		try_it(sv);
	puts("Ctrl-C stops it.");
	fflush(stdout);
}

/* ---- running ---- */
PARKS static int signal_watch(void *arg)
{
	struct serving *sv = arg;

	while (!sv->stopping) {
		int sig, rc = sys_signal_wait(sv->sys, FOREVER, &sig);

		if (rc < 0)
			return 0;
		if (sig == SIGHUP)
			continue; /* the terminal that started it went away: it stays */
		over(sv, 0, NULL);
	}
	return 0;
}

PARKS static int serve_fiber(void *arg)
{
	struct serving *sv = arg;
	struct err_note note = { "" };
	int rc;

	group_init(&sv->group, sys_loop(sv->sys));
	sv->group.keep_going = true;
	waitq_init(&sv->over);
	rc = fiber_start(&sv->group, "signals", signal_watch, sv);
	check(rc == 0);
	rc = start(sv, &note);
	if (rc == 0 && !sv->stopping) {
		if (!sv->o->quiet)
			banner(sv);
		if (sv->o->ready_fd >= 0)
			dprintf(sv->o->ready_fd, "ready %s\n", sv->place.socket);
		say(sv->sys, "wadi: serving");
		while (!sv->stopping)
			waitq_wait(&sv->over, FOREVER);
		rc = sv->rc;
		note = sv->note;
		if (rc == 0)
			say(sv->sys, "wadi: stopping");
	}
	sv->stopping = true;
	/* Storage first: what it still has to tell the shard finds it there. */
	role_stop(sv, &sv->store);
	role_stop(sv, &sv->meta);
	group_cancel(&sv->group);
	group_wait(&sv->group);
	if (rc == 0)
		rc = sv->meta.rc < 0 ? sv->meta.rc : sv->store.rc;
	if (rc < 0 && rc != E_CANCELED)
		say(sv->sys, "wadi: %s: %s", err_text(rc), note.text[0] != '\0' ? note.text
			: sv->meta.rc < 0 ? sv->meta.note.text : sv->store.note.text);
	return rc;
}

int node_run(const struct node_opts *o)
{
	struct serving *sv = calloc(1, sizeof *sv);
	struct err_note note = { "" };
	int rc = E_NOMEM;

	sys_uv_files_raise();
	sys_uv_confine();
	if (sv != NULL) {
		sv->o = o;
		rc = sys_uv_new(&sv->sys, &note);
	}
	if (rc < 0) {
		fprintf(stderr, "wadi: %s\n", note.text[0] != '\0' ? note.text : err_text(rc));
	} else {
		rc = sys_uv_run(sv->sys, "serve", serve_fiber, sv);
		sys_uv_free(sv->sys);
	}
	if (sv != NULL)
		explicit_bzero(&sv->place, sizeof sv->place); /* the key is in it */
	free(sv);
	return rc < 0 ? err_exit(rc) : 0;
}
