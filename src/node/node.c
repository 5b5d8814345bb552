/* SPDX-License-Identifier: Apache-2.0 */
#include "node/node.h"
#include "base/check.h"
#include "client/client.h"
#include "node/cluster.h"
#include "node/join.h"
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
	struct node_opts o;          /* with the roles that the cluster gives it */
	struct sys *sys;             /* of the main loop */
	struct place_found place;
	struct role meta, store;
	const char *meta_listen[BOUND_MAX], *store_listen[BOUND_MAX];
	struct store_device devices[DEVICES_MAX];
	struct meta_opts meta_opts;
	struct store_opts store_opts;
	uint64_t node;               /* number in a cluster; 0: none */
	char meta_addr[WHERE_LIST_MAX]; /* where a store finds its shard; with commas */
	struct cluster *cluster;     /* on the loop of meta; without one on the main loop */
	struct group group;          /* watchers of the roles, and of signals */
	struct waitq over;           /* one of them saw the end */
	struct group starting;       /* of the one fiber that starts them */
	bool stopping, in_cluster;   /* the latter: a storage server that has joined one */
	int rc;                      /* of the role that ended by itself */
	struct err_note note, start_note;
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

/* What others are told: the host as the user wrote it, for certificates are made out to names, with
 * the port that it got. */
static void told_addr(const struct serving *sv, const char *bound, char ret_addr[WHERE_MAX])
{
	const char *tcp = sv->place.tcp;

	if (tcp[0] == '\0' || strrchr(bound, ':') == NULL)
		snprintf(ret_addr, WHERE_MAX, "%s", bound);
	else
		snprintf(ret_addr, WHERE_MAX, "%.*s%s", (int)(strrchr(tcp, ':') - tcp), tcp,
			strrchr(bound, ':'));
}

static void meta_ready(void *arg, const char *const *bound, unsigned n)
{
	struct role *r = arg;
	char addr[WHERE_MAX];

	told_addr(r->all, bound[n - 1], addr);
	cluster_address(r->all->cluster, addr);
	role_ready(r, bound, n);
}

static void meta_replica(void *arg, struct replicate *r)
{
	cluster_replica(((struct role *)arg)->all->cluster, r);
}

PARKS static int cluster_start(struct serving *sv, struct sys *s, struct err_note *note)
{
	struct cluster_opts co = { .data = sv->place.data,
		.meta_dir = sv->place.meta,
		.coord = sv->o.coord,
		.login_file = sv->o.coord_login,
		.cert = sv->place.tcp[1] == 'l' ? sv->place.cert : "",
		.key = sv->place.key_text,
		.publish = node_elsewhere(&sv->o) ? "" : sv->place.folder,
		.rack = sv->o.rack != NULL ? sv->o.rack : "",
		.roles = (sv->o.roles & NODE_META ? NODE_RUNS_META : 0u) |
			 (sv->o.roles & NODE_STORE ? NODE_RUNS_STORE : 0u) };

	return cluster_open(s, &co, &sv->cluster, note);
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
	struct serving *sv = r->all;
	struct meta_opts *o = &sv->meta_opts;
	int rc = role_tls(s, r);

	if (rc == 0)
		rc = cluster_start(sv, s, &r->note);
	if (rc < 0)
		return rc;
	o->coord = cluster_coord(sv->cluster);
	o->id = cluster_id(sv->cluster);
	o->first_target = cluster_first_target(sv->cluster);
	o->ops = cluster_ops(&o->n_ops);
	o->ops_arg = sv->cluster;
	o->control = cluster_control(sv->cluster);
	sv->node = o->id;
	if (sv->place.tcp[0] != '\0' && strcmp(strrchr(sv->place.tcp, ':'), ":0") != 0)
		cluster_address(sv->cluster, sv->place.tcp); /* others may wait for it already */
	rc = meta_serve(s, o, &r->note);
	fiber_shield(FOREVER); /* its etcd is stopped, or killed when it does not */
	cluster_close(sv->cluster);
	fiber_unshield();
	sv->cluster = NULL;
	return rc;
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
	group_cancel(&sv->starting); /* it may be waiting for another node */
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
		.n_listen = n, .key_file = sv->place.key_path, .replica = meta_replica,
		.token = bytes_of(sv->place.key_text, strlen(sv->place.key_text)),
		.ready = meta_ready, .arg = &sv->meta };
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

/* Where a storage server and this node's own client look for the one that leads: here first. */
PARKS static int meta_find(struct serving *sv, struct err_note *note)
{
	struct member *m;
	size_t n = 0;
	int rc;

	if (sv->o.roles & NODE_META) {
		char told[WHERE_MAX];

		told_addr(sv, sv->meta.bound[sv->place.tcp[0] != '\0'], told);
		snprintf(sv->meta_addr, sizeof sv->meta_addr, "%s%s%s", sv->place.socket,
			sv->place.tcp[0] != '\0' ? "," : "",
			sv->place.tcp[0] != '\0' ? told : "");
		return 0;
	}
	m = malloc(sizeof *m);
	if (m == NULL)
		return err_set(note, E_NOMEM, "%s", err_text(E_NOMEM));
	rc = member_load(sv->sys, sv->place.data, m, note);
	for (uint32_t i = 0; rc == 0 && i < m->n_seeds; i++)
		if (n + strlen(m->seeds[i]) + 2 < sizeof sv->meta_addr)
			n += (size_t)snprintf(sv->meta_addr + n, sizeof sv->meta_addr - n, "%s%s",
				i > 0 ? "," : "", m->seeds[i]);
	sv->in_cluster = rc == 0;
	sv->node = rc == 0 ? m->id : 0;
	free(m);
	if (rc == E_NOTFOUND)
		rc = where_connect(sv->sys, sv->o.meta, sv->meta_addr, note);
	return rc;
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
		.rack = sv->o.rack };
	device_add(sv, TIER_DRAM, p->dram_bytes, NULL);
	device_add(sv, TIER_FLASH, p->flash_bytes, p->flash);
	device_add(sv, TIER_DISK, p->disk_bytes, p->disk);
	rc = meta_find(sv, note);
	if (rc < 0)
		return rc;
	sv->store_opts.controller = sv->meta_addr;
	sv->store_opts.node = sv->node;
	if (strncmp(sv->meta_addr, "unix:", 5) != 0 || strchr(sv->meta_addr, ',') != NULL)
		sv->store_opts.token = bytes_of(p->key_text, strlen(p->key_text));
	return 0;
}

/* ---- starting ---- */
/* By the port that it got: its host is written as others see it. */
static bool own_server_up(const struct serving *sv, const struct wadi_status *st)
{
	const char *own = sv->store.bound[sv->place.store_tcp[0] != '\0'];
	const char *own_port = strrchr(own, ':');

	for (uint32_t i = 0; i < st->n_servers; i++) {
		const char *addr = st->servers[i].addr, *port = strrchr(addr, ':');

		if (st->servers[i].state != SERVER_UP)
			continue;
		if (sv->place.store_tcp[0] == '\0' || (port != NULL && own_port != NULL &&
				strcmp(port, own_port) == 0))
			return true;
	}
	return false;
}

/* Clients are served once the shard has room to give. */
PARKS static int joined_wait(struct serving *sv, struct err_note *note)
{
	struct client_opts co = { .addr = sv->meta_addr,
		.key = bytes_of(sv->place.key_text, strlen(sv->place.key_text)),
		.name = "wadi serve",
		.wait = true };
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
		up = own_server_up(sv, st);
		wadi_status_free(st);
		if (!up)
			rc = fiber_sleep(sys_after(sv->sys, POLL_MS * SYS_MS));
		if (sys_now_ns(sv->sys) >= until_ns)
			rc = err_set(note, E_TIMEOUT, "the storage role does not join");
	}
	client_free(c);
	return rc;
}

PARKS static int meta_start(struct serving *sv, struct err_note *note)
{
	int rc;

	meta_prepare(sv);
	rc = role_start(sv, &sv->meta, "meta", meta_thread, note);
	return rc < 0 ? rc : role_wait(sv, &sv->meta, note);
}

PARKS static int store_start(struct serving *sv, struct err_note *note)
{
	char addr[WHERE_MAX];
	int rc = store_prepare(sv, note);

	if (rc == 0)
		rc = role_start(sv, &sv->store, "store", store_thread, note);
	if (rc == 0)
		rc = role_wait(sv, &sv->store, note);
	if (rc < 0 || sv->o.roles & NODE_META)
		return rc < 0 ? rc : joined_wait(sv, note);
	if (!sv->in_cluster)
		return 0;
	rc = cluster_start(sv, sv->sys, note);
	if (rc == 0) {
		told_addr(sv, sv->store.bound[sv->place.store_tcp[0] != '\0'], addr);
		cluster_address(sv->cluster, addr);
	}
	return rc;
}

PARKS static bool file_there(struct sys *s, const char *path)
{
	struct sys_file *f;

	if (sys_open(s, path, SYS_READ, &f, NULL) < 0)
		return false;
	sys_close(f);
	return true;
}

/* A node that has joined keeps the cluster's key with its data. */
PARKS static bool own_key(struct serving *sv)
{
	char path[WHERE_MAX], key[WHERE_KEY_CHARS + 1];
	bool there = where_join(sv->place.data, "cluster", path, NULL) == 0 &&
		     file_there(sv->sys, path) &&
		     where_join(sv->place.data, WHERE_KEY, path, NULL) == 0 &&
		     where_key_read(sv->sys, path, key, NULL) == 0;

	explicit_bzero(key, sizeof key);
	return there;
}

static void folder_of(const char *path, char ret_folder[WHERE_MAX])
{
	const char *end = strrchr(path, '/');

	if (end == NULL)
		snprintf(ret_folder, WHERE_MAX, ".");
	else
		snprintf(ret_folder, WHERE_MAX, "%.*s", end > path ? (int)(end - path) : 1, path);
}

/* Whoever should come to run code in here finds no other file to change: data, the socket, and the
 * key, which can be changed for another, are all that it writes. */
static int confine(const struct place_found *p, struct err_note *note)
{
	char socket[WHERE_MAX], key[WHERE_MAX];
	const char *folders[] = { p->data, socket, key, p->folder };
	int rc;

	folder_of(p->socket + strlen("unix:"), socket);
	folder_of(p->key_path, key);
	rc = sys_uv_confine_writes(folders, sizeof folders / sizeof folders[0], note);
	return rc == E_UNSUPPORTED ? 0 : rc;
}

PARKS static int start(struct serving *sv, struct err_note *note)
{
	unsigned roles = sv->o.roles;
	int rc = place_data(sv->sys, &sv->o, &sv->place, note);

	if (rc == 0 && sv->place.cert[0] != '\0')
		rc = where_tls(sv->sys, sv->place.cert, false, note);
	if (rc == 0)
		rc = join_cluster(sv->sys, &sv->o, &sv->place, &roles, note);
	sv->o.roles = roles;
	if (rc == 0 && own_key(sv))
		sv->o.key_file = NULL; /* it was only to be let in with */
	if (rc == 0)
		rc = place_find(sv->sys, &sv->o, &sv->place, note);
	if (rc == 0)
		rc = confine(&sv->place, note);
	if (rc == 0 && (roles & NODE_META))
		rc = meta_start(sv, note);
	if (rc == 0 && (roles & NODE_STORE))
		rc = store_start(sv, note);
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
	if (node_elsewhere(&sv->o))
		printf("  export WADI_URL=%s\n", sv->place.socket);
	puts("  wadi bucket create hello\n"
	     "  echo 'Hello, Wadi' | wadi put hello/world\n"
	     "  wadi cat hello/world");
}

static void banner(const struct serving *sv)
{
	const struct place_found *p = &sv->place;
	unsigned roles = sv->o.roles;
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

PARKS static int start_fiber(void *arg)
{
	struct serving *sv = arg;

	return start(sv, &sv->start_note);
}

PARKS static int serve_fiber(void *arg)
{
	struct serving *sv = arg;
	struct err_note note;
	int rc;

	group_init(&sv->group, sys_loop(sv->sys));
	group_init(&sv->starting, sys_loop(sv->sys));
	sv->group.keep_going = true;
	waitq_init(&sv->over);
	rc = fiber_start(&sv->group, "signals", signal_watch, sv);
	check(rc == 0);
	rc = fiber_start(&sv->starting, "start", start_fiber, sv);
	check(rc == 0);
	rc = group_wait(&sv->starting);
	note = sv->start_note;
	if (rc == E_CANCELED && sv->stopping)
		rc = sv->rc; /* asked to end before it had begun, or a role has failed */
	if (rc < 0 && sv->rc < 0)
		note = sv->note;
	if (rc == 0 && !sv->stopping) {
		if (!sv->o.quiet)
			banner(sv);
		if (sv->o.ready_fd >= 0)
			dprintf(sv->o.ready_fd, "ready %s\n", sv->place.socket);
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
	cluster_close(sv->cluster);
	group_cancel(&sv->group);
	group_wait(&sv->group);
	if (rc == 0)
		rc = sv->meta.rc < 0 ? sv->meta.rc : sv->store.rc;
	if (rc == E_CANCELED && sv->rc == 0)
		rc = 0; /* it was asked to end while it started */
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
		sv->o = *o;
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
