/* SPDX-License-Identifier: Apache-2.0 */
/* A storage server from its start to its end. */
#include "store/own.h"
#include <stdio.h>
#include <stdlib.h>

#define ULL(v) ((unsigned long long)(v))

enum { LISTEN_MAX = 16, END_WAIT_S = 10 };

/* ---- buffers ---- */
int buffer_take(struct store *st, size_t len, uint8_t **ret_p, struct err_note *note)
{
	uint64_t until_ns = sys_after(st->sys, BUFFER_WAIT_S * SYS_SEC);
	size_t whole = (len + SYS_BLOCK - 1) / SYS_BLOCK * SYS_BLOCK;
	uint8_t *p;
	int rc;

	check(whole <= BUFFER_BYTES_MAX);
	while (st->buffer_bytes + whole > BUFFER_BYTES_MAX)
		if ((rc = waitq_wait(&st->buffers, until_ns)) < 0)
			return err_set(note, rc == E_TIMEOUT ? E_BUSY : rc,
				"%d bytes are on their way to and from files", BUFFER_BYTES_MAX);
	p = aligned_alloc(SYS_BLOCK, whole);
	if (p == NULL)
		return err_set(note, E_NOMEM, "a buffer of %zu bytes", len);
	st->buffer_bytes += whole;
	*ret_p = p;
	return 0;
}

void buffer_give(struct store *st, uint8_t *p, size_t len)
{
	size_t whole = (len + SYS_BLOCK - 1) / SYS_BLOCK * SYS_BLOCK;

	check(st->buffer_bytes >= whole);
	st->buffer_bytes -= whole;
	free(p);
	waitq_wake_all(&st->buffers);
}

int folder_make(struct sys *s, const char *path, struct err_note *note)
{
	char parent[PATH_BYTES];
	const char *last = strrchr(path, '/');
	size_t len = last != NULL ? (size_t)(last - path) : 0;
	int rc;

	check(len < sizeof parent);
	if (last == NULL)
		snprintf(parent, sizeof parent, ".");
	else
		snprintf(parent, sizeof parent, "%.*s", len > 0 ? (int)len : 1, path);
	if ((rc = sys_mkdir(s, path, note)) < 0)
		return rc;
	return sys_sync_dir(s, parent, note);
}

/* ---- who we are ---- */
bool uuid_get(const char *text, uint64_t ret_uuid[2])
{
	uint64_t v[2] = { 0, 0 };

	for (int i = 0; i < 32; i++) {
		const char *digits = "0123456789abcdef", *at = strchr(digits, text[i]);

		if (text[i] == 0 || at == NULL)
			return false;
		v[i / 16] = v[i / 16] << 4 | (uint64_t)(at - digits);
	}
	memcpy(ret_uuid, v, sizeof v);
	return (v[0] | v[1]) != 0;
}

static PARKS int uuid_write(struct store *st, const char *path, struct err_note *note)
{
	char text[UUID_CHARS + 1], temp[PATH_BYTES + 8];
	struct sys_file *f;
	int rc;

	do
		sys_secret(st->sys, st->uuid, sizeof st->uuid);
	while ((st->uuid[0] | st->uuid[1]) == 0);
	snprintf(text, sizeof text, "%016llx%016llx\n", ULL(st->uuid[0]), ULL(st->uuid[1]));
	snprintf(temp, sizeof temp, "%s.new", path);
	if ((rc = sys_open(st->sys, temp, SYS_WRITE | SYS_CREATE | SYS_TRUNC, &f, note)) < 0)
		return rc;
	rc = sys_pwrite(f, text, UUID_CHARS, 0, note);
	if (rc == 0)
		rc = sys_sync(f, note);
	sys_close(f);
	if (rc == 0)
		rc = sys_rename(st->sys, temp, path, note);
	return rc < 0 ? rc : sys_sync_dir(st->sys, st->opts->dir, note);
}

/* The server keeps its uuid, so that the controller knows its files again. */
static PARKS int uuid_open(struct store *st, struct err_note *note)
{
	char text[UUID_CHARS + 1] = "", path[PATH_BYTES];
	struct sys_file *f;
	int64_t n;
	int rc;

	if ((size_t)snprintf(path, sizeof path, "%s/uuid", st->opts->dir) >= sizeof path)
		return err_set(note, E_TOOBIG, "the path of the data directory");
	if ((rc = folder_make(st->sys, st->opts->dir, note)) < 0)
		return rc;
	rc = sys_open(st->sys, path, SYS_READ, &f, note);
	if (rc == E_NOTFOUND)
		return uuid_write(st, path, note);
	if (rc < 0)
		return rc;
	n = sys_pread(f, text, UUID_CHARS, 0, note);
	sys_close(f);
	if (n < 0)
		return (int)n;
	return uuid_get(text, st->uuid) ? 0 : err_set(note, E_CORRUPT, "%s is no uuid", path);
}

/* ---- devices ---- */
static uint64_t egroup_bytes_for(uint64_t capacity)
{
	uint64_t bytes = LIMIT_EGROUP_BYTES;

	while (bytes > EGROUP_BYTES_MIN && bytes > capacity / 8)
		bytes /= 2;
	return bytes;
}

static int device_check(const struct store_device *o, unsigned i, struct err_note *note)
{
	uint64_t egroup = o->egroup_bytes;

	if (o->tier >= TIER_COUNT)
		return err_set(note, E_INVALID, "device %u: there is no tier %u", i, o->tier);
	if ((o->dir == NULL) != (o->tier == TIER_DRAM))
		return err_set(note, E_INVALID, "device %u: %s", i,
			o->dir == NULL ? "files need a directory" : "memory has no directory");
	if (o->bytes < EGROUP_BYTES_MIN || egroup > o->bytes)
		return err_set(note, E_INVALID, "device %u: %llu bytes are too few", i,
			ULL(o->bytes));
	if (egroup % SLOT_BYTES != 0)
		return err_set(note, E_INVALID, "device %u: egroups of %llu bytes", i, ULL(egroup));
	if (o->dir != NULL && strlen(o->dir) > PATH_BYTES - 32)
		return err_set(note, E_TOOBIG, "device %u: the path of its directory", i);
	return 0;
}

static PARKS int device_open(struct store *st, unsigned i, struct err_note *note)
{
	const struct store_device *o = &st->opts->devices[i];
	struct device *d = &st->devices[i];
	int rc;

	if ((rc = device_check(o, i, note)) < 0)
		return rc;
	d->store = st;
	d->id = (uint8_t)i;
	d->tier = o->tier;
	d->dir = o->dir;
	d->capacity = o->bytes;
	d->egroup_bytes = o->egroup_bytes != 0 ? o->egroup_bytes : egroup_bytes_for(o->bytes);
	list_init(&d->egroups);
	list_init(&d->volume.dead);
	st->n_devices = i + 1; /* from here on it is closed with the store */
	if (!device_is_dram(d)) {
		if ((rc = volume_open(d, note)) < 0)
			return rc;
		return fiber_start(&st->group, "sweep", volume_sweep, d);
	}
	arenas_open(d, o->ready_bytes);
	return fiber_start(&st->group, "arenas", arenas_keep, d);
}

/* ---- starting ---- */
static PARKS int listen_all(struct store *st, struct err_note *note)
{
	static const struct rpc_service none;
	const struct store_opts *o = st->opts;
	int rc;

	st->service = none;
	st->service.ops = serve_ops;
	st->service.n_ops = serve_n_ops;
	st->service.arg = st;
	st->service.hello = serve_hello;
	st->service.lost = serve_lost;
	st->service.closed = serve_closed;
	if ((rc = rpc_server_new(st->sys, &st->service, &st->server)) < 0)
		return err_set(note, rc, "a server for connections");
	for (unsigned i = 0; i < o->n_listen; i++) {
		if ((rc = rpc_server_listen(st->server, o->listen[i], &st->bound[i], note)) < 0)
			return rc;
		if (strncmp(st->bound[i], "unix:", 5) == 0)
			st->local = st->local != NULL ? st->local : st->bound[i];
		else
			st->addr = st->addr != NULL ? st->addr : st->bound[i];
	}
	if (o->advertise != NULL)
		st->addr = o->advertise;
	return 0;
}

static int opts_check(const struct store_opts *o, struct err_note *note)
{
	if (o->n_devices == 0 || o->n_devices > LIMIT_DEVICES_MAX)
		return err_set(note, E_INVALID, "%u devices, 1 to %d are possible", o->n_devices,
			LIMIT_DEVICES_MAX);
	if (o->n_listen == 0 || o->n_listen > LISTEN_MAX)
		return err_set(note, E_INVALID, "%u addresses to listen on", o->n_listen);
	if (o->dir == NULL || o->controller == NULL)
		return err_set(note, E_INVALID, "a directory and a controller are needed");
	if (o->rack != NULL && strlen(o->rack) > 255)
		return err_set(note, E_INVALID, "the label of a rack has at most 255 bytes");
	return 0;
}

static int tables_init(struct store *st)
{
	uint64_t seeds[4];
	int rc;

	sys_secret(st->sys, seeds, sizeof seeds);
	if ((rc = table_init(&st->extents, seeds[0])) < 0)
		return rc;
	if ((rc = table_init(&st->egroups, seeds[1])) < 0)
		return rc;
	if ((rc = table_init(&st->fences, seeds[2])) < 0)
		return rc;
	return table_init(&st->revoked, seeds[3]);
}

static PARKS int start(struct store *st, struct err_note *note)
{
	const struct store_opts *o = st->opts;
	int rc;

	while (st->incarnation == 0)
		sys_secret(st->sys, &st->incarnation, sizeof st->incarnation);
	if ((rc = opts_check(o, note)) < 0)
		return rc;
	if ((rc = tables_init(st)) < 0)
		return err_set(note, rc, "the tables of a store");
	if ((rc = route_init(&st->route, st->sys, o->controller, note)) < 0)
		return rc;
	if ((rc = uuid_open(st, note)) < 0 || (rc = epoch_open(st, note)) < 0)
		return rc;
	for (unsigned i = 0; i < o->n_devices; i++)
		if ((rc = device_open(st, i, note)) < 0)
			return rc;
	if ((rc = listen_all(st, note)) < 0)
		return rc;
	if ((rc = fiber_start(&st->group, "controller", link_run, st)) < 0)
		return err_set(note, rc, "a fiber for the controller");
	scrub_open(st);
	if ((rc = fiber_start(&st->group, "scrub", scrub_run, st)) < 0)
		return err_set(note, rc, "a fiber that reads again what is at rest");
	if (o->ready != NULL)
		o->ready(o->arg, st->bound, o->n_listen);
	return 0;
}

int store_new(struct sys *s, const struct store_opts *o, struct store **ret_st,
	struct err_note *note)
{
	struct store *st = calloc(1, sizeof *st);
	int rc;

	if (st == NULL)
		return err_set(note, E_NOMEM, "a store");
	st->sys = s;
	st->opts = o;
	group_init(&st->group, sys_loop(s));
	st->group.keep_going = true;
	list_init(&st->fences_old_first);
	list_init(&st->revoked_old_first);
	list_init(&st->clients);
	fiber_lock_init(&st->copier.lock);
	waitq_init(&st->buffers);
	fiber_lock_init(&st->epoch_lock);
	waitq_init(&st->left);
	waitq_init(&st->scrub.wake);
	list_init(&st->scrub.bad);
	if ((rc = start(st, note)) < 0) {
		store_free(st);
		return rc;
	}
	*ret_st = st;
	return 0;
}

/* Shielded: whoever ends a store is often being cancelled. */
void store_free(struct store *st)
{
	if (st == NULL)
		return;
	fiber_shield(sys_after(st->sys, END_WAIT_S * SYS_SEC));
	group_cancel(&st->group);
	group_wait(&st->group);
	copier_end(st);
	rpc_server_free(st->server);
	fiber_unshield();
	check(st->n_clients == 0);
	check(st->buffer_bytes == 0);
	for (unsigned i = 0; i < st->n_devices; i++)
		if (!device_is_dram(&st->devices[i]))
			volume_close(&st->devices[i]);
	if (st->egroups.buckets != NULL)
		extents_free_all(st);
	for (unsigned i = 0; i < st->n_devices; i++)
		if (device_is_dram(&st->devices[i]))
			arenas_close(&st->devices[i]);
	table_fini(&st->extents);
	table_fini(&st->egroups);
	table_fini(&st->fences);
	revoked_end(st);
	table_fini(&st->revoked);
	explicit_bzero(st->keys, sizeof st->keys);
	free(st);
}

/* ---- looking ---- */
static void device_status(const struct device *d, struct store_device_status *ret)
{
	*ret = (struct store_device_status){ .tier = d->tier, .capacity_bytes = d->capacity,
		.used_bytes = d->used, .pinned_bytes = d->pinned,
		.reserved_bytes = device_reserved(d), .free_bytes = device_free(d),
		.ready_bytes = device_is_dram(d) ? arenas_ready(d) : 0,
		.egroup_bytes = d->egroup_bytes, .read_bytes = d->read_bytes,
		.written_bytes = d->written_bytes, .n_egroups = d->n_egroups,
		.n_extents = d->n_extents, .n_broken = d->n_broken, .n_corrupt = d->n_corrupt };
}

void store_status(const struct store *st, struct store_status *ret)
{
	struct rpc_counts counts = rpc_server_counts(st->server);

	*ret = (struct store_status){ .incarnation = st->incarnation, .server = st->number,
		.n_clients = st->n_clients, .n_pins = st->n_pins, .fenced = !link_serves(st),
		.in_bytes = counts.in_bytes, .out_bytes = counts.out_bytes,
		.n_devices = st->n_devices,
		.scrub = { st->scrub.n_extents, st->scrub.bytes, st->scrub.found,
			st->scrub.passes, st->scrub.ended_ms, st->scrub.n_bad } };
	for (unsigned i = 0; i < st->n_devices; i++)
		device_status(&st->devices[i], &ret->devices[i]);
}

static void arenas_audit(const struct device *d)
{
	uint32_t n = 0, n_extents = 0;
	uint64_t room = 0;

	list_each(it, &d->arenas.bound) {
		const struct arena *a = container_of(it, struct arena, link);

		check(a->bound);
		slots_audit(&a->slots);
		n_extents += a->n_extents;
		room += a->slots.free_bytes;
		n++;
	}
	check(n == d->arenas.n_bound);
	check(room == d->arenas.bound_free);
	check(n_extents == d->n_extents);
	list_each(it, &d->arenas.fresh) {
		const struct arena *a = container_of(it, struct arena, link);

		check(!a->bound);
		check(a->n_extents == 0);
		n++;
	}
	check(n == d->arenas.n);
	check(n <= d->arenas.max);
}

void store_audit(const struct store *st)
{
	struct store_device_status s;

	extents_audit(st);
	for (unsigned i = 0; i < st->n_devices; i++) {
		device_status(&st->devices[i], &s);
		check(s.used_bytes + s.pinned_bytes + s.reserved_bytes + s.free_bytes
			== s.capacity_bytes); /* (I1) */
		if (device_is_dram(&st->devices[i]))
			arenas_audit(&st->devices[i]);
	}
}
