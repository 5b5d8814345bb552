/* SPDX-License-Identifier: Apache-2.0 */
/* The connection to the controller: who we are, how full, and what is to be forgotten.
 *
 *   connect ----> register ----> heartbeat each second ----> (lost) ----> wait, longer each time
 *
 * Of several metadata nodes one leads (rpc/route.h).  When its connection breaks the others are
 * asked at once; when it falls silent, or does not answer a heartbeat, they are asked too, and it
 * is left if one of them lets us in.
 *
 * Without an answer for LIMIT_STORE_FENCE_MS the server serves nobody, so that a delete may count
 * as done although the server could not be told. */
#include "store/own.h"
#include <stdio.h>
#include <stdlib.h>

#define ULL(v) ((unsigned long long)(v))

enum {
	BEAT_MS = 1000,
	ANSWER_MS = 5000,
	AGAIN_MS = 100,
	AGAIN_SOON_MS = 5,
	AGAIN_MS_MAX = 2000,
	LISTEN_MS = 50,     /* between looks at a connection, where there are others to go to */
	QUIET_MS = 250,     /* nothing came: is it still there? */
	PING_MS = 100,      /* for the answer to that */
	BEAT_LATE_MS = 500, /* for the answer to a heartbeat before the others are asked */
	LOOK_MS = 500,      /* for them to say whether they lead */
	INFOS_BYTES = 16 << 10,
	PAGE_MAX = 4096,
};

bool link_serves(const struct store *st)
{
	uint64_t now_ns = loop_now_ns(sys_loop(st->sys));

	return st->heard_ns != 0 && now_ns - st->heard_ns < LIMIT_STORE_FENCE_MS * SYS_MS;
}

bool link_sees(const struct store *st)
{
	uint64_t now_ns = loop_now_ns(sys_loop(st->sys));

	return st->view_ns != 0 && now_ns - st->view_ns < LIMIT_STORE_VIEW_MS * SYS_MS;
}

uint64_t link_shard_ms(const struct store *st)
{
	uint64_t now_ns = loop_now_ns(sys_loop(st->sys));

	return st->shard_ms + (now_ns > st->heard_ns ? now_ns - st->heard_ns : 0) / SYS_MS;
}

/* ---- what the controller asks of us ---- */
static PARKS int sync_drops(struct egroup *g, struct err_note *note)
{
	int rc;

	if (g->dropped || g->file.synced == g->file.written)
		return 0;
	if ((rc = volume_use(g, note)) < 0)
		return rc;
	rc = volume_sync_drops(g, note);
	volume_unuse(g);
	return rc;
}

/* Erases from files what was dropped; then syncs each file once.  Also what nobody synced: it may
 * have reached the medium before a power cut, and then would come back for ever. */
static PARKS int erase(struct extent **dropped, size_t n, struct err_note *note)
{
	int rc = 0;

	for (size_t i = 0; i < n && rc == 0; i++) {
		bool in_use = dropped[i]->refs > 1;

		rc = volume_erase(dropped[i], in_use, note);
		dropped[i]->erased = dropped[i]->erased || (rc == 0 && !in_use);
	}
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = sync_drops(dropped[i]->egroup, note);
	return rc;
}

/* An earlier try to drop the extent failed half-way: the sweeper erases it, and what it did is to
 * be synced before we say so. */
static PARKS int drop_again(
	struct store *st, const struct sub_extent_id *id, struct err_note *note)
{
	struct egroup *g = egroup_get(st, id->egroup);
	int rc;

	if (g == NULL || !g->file.owes)
		return 0;
	if (volume_sweeps(g))
		return err_set(note, E_BUSY, "egroup %llu is being erased", ULL(g->id));
	if ((rc = sync_drops(g, note)) == 0)
		g->file.owes = false;
	return rc;
}

static PARKS int drop_extents(
	struct store *st, const struct msg_extent_drop *m, struct err_note *note)
{
	struct extent **dropped = malloc((m->extents.n + 1) * sizeof *dropped), *e;
	struct wire_list l = m->extents;
	struct drop_run run = { 0, 0 };
	struct sub_extent_id id;
	size_t n = 0;
	int rc, again = 0;

	if (dropped == NULL)
		return err_set(note, E_NOMEM, "%u drops", m->extents.n);
	while (sub_extent_id_next(&l, &id)) {
		if ((e = extent_drop_id(st, id.egroup, id.extent, &run)) == NULL)
			continue;
		if (e->placed)
			dropped[n++] = e;
		else
			extent_unref(e);
	}
	rc = erase(dropped, n, note);
	for (size_t i = 0; i < n; i++) {
		dropped[i]->egroup->file.owes |= rc < 0;
		extent_unref(dropped[i]);
	}
	free(dropped);
	l = m->extents;
	while (rc == 0 && again == 0 && n < m->extents.n && sub_extent_id_next(&l, &id))
		again = drop_again(st, &id, note);
	return rc < 0 ? rc : again;
}

static void on_extent_drop(void *store, struct rpc_request *r)
{
	struct err_note note = { "" };
	struct msg_extent_drop m;
	int rc = msg_extent_drop_get(r->body.p, r->body.len, r->version, &m);

	if (rc < 0)
		err_set(&note, rc, "extent_drop cannot be decoded");
	else if ((rc = epoch_keep(store, m.epoch, &note)) == 0)
		rc = drop_extents(store, &m, &note);
	if (rc < 0)
		rpc_reply_error(r, rc, &note, RPC_NOW);
	else
		rpc_reply_ok(r, RPC_NOW);
}

static PARKS int drop_egroup(struct store *st, uint64_t id, struct err_note *note)
{
	struct egroup *g = egroup_get(st, id);
	int rc = 0;

	if (g != NULL) {
		egroup_drop(g);
	} else {
		egroup_fence(st, id);
		if ((g = egroup_leaving(st, id)) == NULL)
			return 0;
	}
	if (!device_is_dram(g->device))
		rc = volume_unlink(g, note);
	egroup_forget(g);
	return rc;
}

static void on_egroup_drop(void *store, struct rpc_request *r)
{
	struct err_note note = { "" };
	struct msg_egroup_drop m;
	struct sub_extent_id id;
	int rc = msg_egroup_drop_get(r->body.p, r->body.len, r->version, &m), failed = 0;

	if (rc < 0)
		err_set(&note, rc, "egroup_drop cannot be decoded");
	else
		rc = epoch_keep(store, m.epoch, &note);
	while (rc == 0 && sub_extent_id_next(&m.egroups, &id)) {
		int one = drop_egroup(store, id.egroup, &note);

		failed = one < 0 ? one : failed;
	}
	rc = rc < 0 ? rc : failed;
	if (rc < 0)
		rpc_reply_error(r, rc, &note, RPC_NOW);
	else
		rpc_reply_ok(r, RPC_NOW);
}

static int by_id(const void *a, const void *b)
{
	const struct egroup *x = *(struct egroup *const *)a, *y = *(struct egroup *const *)b;

	return (x->id > y->id) - (x->id < y->id);
}

/* The first PAGE_MAX egroups behind `after`, in order of id. */
static size_t page_of(const struct store *st, uint64_t after, struct egroup **all)
{
	struct table_node *n = NULL;
	size_t count = 0;

	while ((n = table_next(&st->egroups, n)) != NULL)
		if (n->a > after)
			all[count++] = container_of(n, struct egroup, node);
	qsort(all, count, sizeof *all, by_id);
	return count;
}

static int list_egroups(
	struct store *st, struct rpc_request *r, uint64_t after, struct err_note *note)
{
	struct egroup **all = malloc((st->egroups.n + 1) * sizeof *all);
	size_t room = PAGE_MAX * 24, count, i;
	uint8_t *page = malloc(room);
	struct wire_list_builder b = wire_list_begin(page, room, r->version);
	struct msg_egroup_list_ok ok = { .next = 0 };

	if (all == NULL || page == NULL) {
		free(all);
		free(page);
		return err_set(note, E_NOMEM, "a list of egroups");
	}
	count = page_of(st, after, all);
	for (i = 0; i < count && i < PAGE_MAX; i++) {
		const struct egroup *g = all[i];

		if (!sub_egroup_use_add(
			    &b, &(struct sub_egroup_use){ g->id, g->used_bytes, g->pinned_bytes }))
			break;
	}
	ok.egroups = wire_list_end(&b);
	ok.next = i < count ? all[i - 1]->id : 0;
	rpc_reply(r, OP_egroup_list_ok, &ok, bytes_of(NULL, 0), RPC_NOW);
	free(all);
	free(page);
	return 0;
}

static void on_egroup_list(void *store, struct rpc_request *r)
{
	struct err_note note = { "" };
	struct msg_egroup_list m;
	int rc = msg_egroup_list_get(r->body.p, r->body.len, r->version, &m);

	if (rc < 0)
		err_set(&note, rc, "egroup_list cannot be decoded");
	else
		rc = list_egroups(store, r, m.after, &note);
	if (rc < 0)
		rpc_reply_error(r, rc, &note, RPC_NOW);
}

static void on_ping(void *store, struct rpc_request *r)
{
	(void)store;
	rpc_reply_ok(r, RPC_NOW);
}

static const struct rpc_op ops[] = {
	{ OP_ping, RPC_INLINE, on_ping },
	{ OP_extent_drop, RPC_FIBER, on_extent_drop },
	{ OP_egroup_drop, RPC_FIBER, on_egroup_drop },
	{ OP_egroup_list, RPC_INLINE, on_egroup_list },
	{ OP_extent_copy, RPC_FIBER, handle_copy },
};

/* ---- what we tell the controller ---- */
struct beat {
	uint64_t cpu_ns, at_ns;
};

static struct wire_list infos(const struct store *st, uint8_t *room, uint16_t version)
{
	struct wire_list_builder b = wire_list_begin(room, INFOS_BYTES, version);

	for (unsigned i = 0; i < st->n_devices; i++) {
		const struct device *d = &st->devices[i];
		struct bytes path = bytes_of(d->dir, d->dir != NULL ? strlen(d->dir) : 0);
		struct sub_device_info info = { .device = d->id,
			.tier = d->tier,
			.capacity_bytes = d->capacity,
			.used_bytes = d->used,
			.pinned_bytes = d->pinned,
			.reserved_bytes = device_reserved(d),
			.ready_bytes = device_is_dram(d) ? arenas_ready(d) : 0,
			.egroup_bytes = d->egroup_bytes,
			.path = path };

		if (info.path.len > 255)
			info.path.len = 255;
		check(sub_device_info_add(&b, &info));
	}
	return wire_list_end(&b);
}

static struct bytes text(const char *s)
{
	return s != NULL ? bytes_of(s, strlen(s)) : bytes_of(NULL, 0);
}

/* version 1 knows one key, which has no number. */
static int keys_take(struct store *st, struct bytes first, struct wire_list told,
	struct err_note *note)
{
	struct cap_key keys[CAP_KEYS_MAX];
	struct sub_cap_key_info info;
	uint32_t n = 0;
	int rc = 0;

	if (told.n == 0 && first.len == CAP_KEY_BYTES) {
		keys[n++].id = 0;
		memcpy(keys[0].key, first.p, CAP_KEY_BYTES);
	}
	while (rc == 0 && n < CAP_KEYS_MAX && sub_cap_key_info_next(&told, &info)) {
		if (info.key.len != CAP_KEY_BYTES || info.id == 0) {
			rc = err_set(note, E_CORRUPT, "a key of %zu bytes", info.key.len);
			break;
		}
		keys[n].id = info.id;
		memcpy(keys[n++].key, info.key.p, CAP_KEY_BYTES);
	}
	if (rc == 0 && n == 0)
		rc = err_set(note, E_CORRUPT, "no key of %d bytes", CAP_KEY_BYTES);
	if (rc == 0) {
		memcpy(st->keys, keys, n * sizeof keys[0]);
		st->n_keys = n;
	}
	explicit_bzero(keys, sizeof keys);
	return rc;
}

static void revoked_take(struct store *st, struct msg_heartbeat_ok *ok, uint64_t sent_ns)
{
	struct sub_job_epoch v;

	bool more = ok->revoked.n > 0 && ok->revoked_to < ok->revoked_last;

	revoked_lapse(st);
	while (sub_job_epoch_next(&ok->revoked, &v))
		revoked_put(st, v.job, v.epoch);
	st->revoked_to = ok->revoked_to;
	st->revoked_more = more;
	if (ok->revoked_to >= ok->revoked_last)
		st->view_ns = sent_ns;
}

static PARKS int enroll(struct store *st, uint8_t *room, struct err_note *note)
{
	struct rpc_conn *c = st->controller;
	struct msg_store_register m = { .uuid_hi = st->uuid[0],
		.uuid_lo = st->uuid[1],
		.incarnation = st->incarnation,
		.addr = text(st->addr),
		.local = text(st->local),
		.host = text(sys_boot_id(st->sys)),
		.rack = text(st->opts->rack),
		.devices = infos(st, room, rpc_conn_version(c)),
		.epoch = st->epoch,
		.node = st->opts->node };
	struct rpc_call call = { .op = OP_store_register, .plain = true, .msg = &m };
	struct msg_store_ok ok;
	int rc = rpc_ask(c, &call, OP_store_ok, &ok, sys_after(st->sys, ANSWER_MS * SYS_MS), note);

	if (rc == 0)
		rc = keys_take(st, ok.cap_key, ok.keys, note);
	if (rc == 0 && (rc = epoch_keep(st, ok.epoch, note)) == 0)
		st->number = ok.server;
	st->revoked_to = 0;
	rpc_call_fini(&call);
	return rc;
}

/* Of all processors since the last beat. */
static uint32_t cpu_permille(struct store *st, struct beat *last, uint64_t now_ns)
{
	uint64_t cpu_ns = sys_cpu_ns(st->sys), used = cpu_ns - last->cpu_ns;
	uint64_t span = (now_ns - last->at_ns) * sys_cpus(st->sys);
	uint64_t permille = span > 0 && last->at_ns > 0 ? used * 1000 / span : 0;

	*last = (struct beat){ cpu_ns, now_ns };
	return permille > 1000 ? 1000 : (uint32_t)permille;
}

static PARKS int beat(struct store *st, uint8_t *room, struct beat *last, struct err_note *note)
{
	struct rpc_conn *c = st->controller;
	struct rpc_counts counts = rpc_server_counts(st->server);
	uint64_t sent_ns = sys_now_ns(st->sys);
	struct msg_heartbeat m = { .server = st->number,
		.incarnation = st->incarnation,
		.cpu_permille = cpu_permille(st, last, sent_ns),
		.net_in_bytes = counts.in_bytes,
		.net_out_bytes = counts.out_bytes,
		.devices = infos(st, room, rpc_conn_version(c)),
		.epoch = st->epoch };
	struct rpc_call call = { .op = OP_heartbeat, .plain = true, .msg = &m };
	struct msg_heartbeat_ok ok;
	int rc;

	m.revoked_to = st->revoked_to;
	m.scrub = st->scrub.ended;
	m.scrub_extents = st->scrub.n_extents;
	m.scrub_bytes = st->scrub.bytes;
	m.scrub_found = st->scrub.found;
	m.scrub_ended_ms = st->scrub.ended_ms;
	m.rotten = st->scrub.n_bad;
	st->beat_ns = sent_ns;
	rc = rpc_ask(c, &call, OP_heartbeat_ok, &ok, sent_ns + ANSWER_MS * SYS_MS, note);
	st->beat_ns = 0;
	if (rc == 0)
		rc = epoch_keep(st, ok.epoch, note);
	if (rc == 0 && ok.keys.n > 0)
		rc = keys_take(st, bytes_of(NULL, 0), ok.keys, note);
	if (rc == 0) {
		revoked_take(st, &ok, sent_ns);
		st->shard_ms = ok.shard_time_ms;
		st->heard_ns = sent_ns; /* from here on the controller counts at the latest */
		scrub_now(st, ok.scrub);
	}
	rpc_call_fini(&call);
	return rc;
}

/* It has them read again, here, before it believes it. */
static PARKS int tell_bad(struct store *st, uint8_t *room, struct err_note *note)
{
	struct rpc_conn *c = st->controller;
	struct msg_extent_bad m;
	struct rpc_call call = { .op = OP_extent_bad, .plain = true, .msg = &m };
	struct msg_ok ok;
	int rc;

	if (rpc_conn_version(c) < 2 ||
		scrub_bad(st, room, INFOS_BYTES, rpc_conn_version(c), &m.extents) == 0)
		return 0;
	rc = rpc_ask(c, &call, OP_ok, &ok, sys_after(st->sys, ANSWER_MS * SYS_MS), note);
	rpc_call_fini(&call);
	return rc;
}

/* ---- who it is ---- */
static PARKS int connect_to(struct store *st, enum route_how how, const char *except,
	uint64_t wait_ms, struct rpc_conn **ret_c, struct err_note *note)
{
	const char *name = st->opts->name != NULL ? st->opts->name : sys_host(st->sys);
	struct rpc_connect o = { .svc = &st->reverse,
		.group = &st->group,
		.hello = { .role = ROLE_STORE, .token = st->opts->token, .name = text(name) } };
	struct msg_hello_ok ok;

	return route_connect(&st->route, &o, how, except, sys_after(st->sys, wait_ms * SYS_MS),
		ret_c, &ok, note);
}

/* One that is behind us is not asked again before the others.  st->at: the last one. */
static PARKS int connect_once(struct store *st, bool behind, struct err_note *note)
{
	int rc = E_NOTPRIMARY;

	if (st->next != NULL) {
		st->controller = st->next;
		st->next = NULL;
		rc = 0;
	}
	if (rc < 0 && behind)
		rc = connect_to(st, ROUTE_ONCE, st->at, LOOK_MS, &st->controller, note);
	if (rc < 0 && rc != E_CANCELED)
		rc = connect_to(st, ROUTE_FIRST, NULL, ANSWER_MS, &st->controller, note);
	if (rc == 0)
		memcpy(st->at, route_name(&st->route), sizeof st->at);
	return rc;
}

/* Whether it is time to ask the others. */
static PARKS bool is_silent(struct store *st, struct rpc_conn *c, uint64_t *heard, uint64_t *at_ns)
{
	struct rpc_call ping = { .op = OP_ping, .plain = true, .msg = &(struct msg_ping){ } };
	uint64_t now_ns = sys_now_ns(st->sys);
	struct msg_ok ok;

	if (st->beat_ns != 0 && now_ns - st->beat_ns > BEAT_LATE_MS * SYS_MS)
		return true;
	if (rpc_conn_heard(c) != *heard) {
		*heard = rpc_conn_heard(c);
		*at_ns = now_ns;
	}
	if (now_ns - *at_ns < QUIET_MS * SYS_MS)
		return false;
	(void)rpc_ask(c, &ping, OP_ok, &ok, sys_after(st->sys, PING_MS * SYS_MS), NULL);
	rpc_call_fini(&ping);
	return rpc_conn_open(c) && rpc_conn_heard(c) == *heard;
}

/* Ends with the connection, or ends it because another one leads. */
static PARKS int listen_run(void *store)
{
	struct store *st = store;
	struct rpc_conn *c = st->controller;
	uint64_t heard = rpc_conn_heard(c), at_ns = sys_now_ns(st->sys), pause_ms = LISTEN_MS;

	fiber_note(0, "notices silence");
	while (fiber_sleep(sys_after(st->sys, pause_ms * SYS_MS)) == 0 && rpc_conn_open(c)) {
		struct err_note note;

		if (st->route.n == 1 || !is_silent(st, c, &heard, &at_ns)) {
			pause_ms = LISTEN_MS;
			continue;
		}
		if (!rpc_conn_open(c))
			break;
		if (connect_to(st, ROUTE_ONCE, st->at, LOOK_MS, &st->next, &note) == 0) {
			sys_reached(st->sys, "a silent controller was left for one that leads");
			if (rpc_conn_stream(c) != NULL)
				sys_stream_shut(rpc_conn_stream(c));
			break;
		}
		pause_ms = pause_ms * 2 < BEAT_MS ? pause_ms * 2 : BEAT_MS;
	}
	waitq_wake_all(&st->left);
	return 0;
}

static PARKS int converse(struct store *st, uint8_t *room, struct beat *last, bool *ret_enrolled,
	struct err_note *note)
{
	int rc = enroll(st, room, note);

	while (rc == 0) {
		rc = beat(st, room, last, note);
		*ret_enrolled = *ret_enrolled || rc == 0;
		if (rc == 0)
			rc = tell_bad(st, room, note);
		if (rc == 0 && !st->revoked_more)
			rc = waitq_wait(&st->left, sys_after(st->sys, BEAT_MS * SYS_MS));
		if (rc == E_TIMEOUT)
			rc = 0;
		if (rc == 0 && !rpc_conn_open(st->controller))
			rc = err_set(note, E_CLOSED, "%s: the connection has ended", st->at);
	}
	return rc;
}

/* Serves one connection to its end: why it ended. */
static PARKS int attend(struct store *st, uint8_t *room, struct beat *last, bool behind,
	bool *ret_enrolled, struct err_note *note)
{
	struct group listener;
	int rc = connect_once(st, behind, note);

	if (rc < 0)
		return rc;
	group_init(&listener, sys_loop(st->sys));
	listener.keep_going = true;
	rc = fiber_start(&listener, "listener", listen_run, st);
	if (rc == 0)
		rc = converse(st, room, last, ret_enrolled, note);
	fiber_shield(sys_after(st->sys, ANSWER_MS * SYS_MS));
	group_cancel(&listener);
	(void)group_wait(&listener);
	rpc_close(st->controller);
	fiber_unshield();
	st->controller = NULL;
	return rc;
}

static void say(struct store *st, const char *what, const struct err_note *note)
{
	char line[400];

	snprintf(line, sizeof line, "store: %s %.100s%s%s", what, route_name(&st->route),
		note != NULL ? ": " : "", note != NULL ? note->text : "");
	sys_log(st->sys, line);
}

int link_run(void *store)
{
	struct store *st = store;
	uint64_t again_ms = AGAIN_MS, chance;
	struct beat last = { 0, 0 };
	uint8_t *room = malloc(INFOS_BYTES);
	bool told = false, behind = false, enrolled;
	int rc = 0;

	check(room != NULL);
	st->reverse = (struct rpc_service){ .ops = ops, .n_ops = sizeof ops / sizeof ops[0],
		.arg = st };
	while (rc != E_CANCELED) {
		struct err_note note = { "" };

		enrolled = false;
		rc = attend(st, room, &last, behind, &enrolled, &note);
		behind = rc == E_STALE;
		if (rc == E_CANCELED)
			break;
		if (enrolled || !told)
			say(st, rc == E_GONE ? "it serves nobody: refused by" : "no controller at",
				&note);
		told = true;
		again_ms = enrolled ? AGAIN_MS : again_ms * 2;
		if (st->next != NULL || (enrolled && st->route.n > 1))
			again_ms = AGAIN_SOON_MS; /* somebody leads, or soon will */
		again_ms = again_ms > AGAIN_MS_MAX ? AGAIN_MS_MAX : again_ms;
		chance = sys_random(st->sys) % again_ms; /* servers do not come back in step */
		rc = fiber_sleep(sys_after(st->sys, (again_ms + chance) * SYS_MS));
	}
	rpc_close(st->next);
	st->next = NULL;
	free(room);
	return 0;
}
