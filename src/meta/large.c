/* SPDX-License-Identifier: Apache-2.0 */
/* The storage servers a shard knows, and what it finds in its rows about them at the start. */
#include "base/hash.h"
#include "meta/large_own.h"
#include <stdlib.h>

static void copy_text(char to[256], struct bytes from)
{
	check(from.len < 256);
	if (from.len > 0)
		memcpy(to, from.p, from.len);
	to[from.len] = '\0';
}

static void write_row(struct shard *sh, const struct large_server *s)
{
	struct row_server row = { .server = s->server,
		.uuid_hi = s->uuid_hi,
		.uuid_lo = s->uuid_lo,
		.incarnation = s->incarnation,
		.addr = bytes_of(s->addr, strlen(s->addr)),
		.local = bytes_of(s->local, strlen(s->local)),
		.host = bytes_of(s->host, strlen(s->host)),
		.rack = bytes_of(s->rack, strlen(s->rack)),
		.node = s->node,
		.drain = s->drain,
		.removed = s->removed };
	uint8_t key[ROW_server_KEY_MAX], value[ROW_server_VALUE_MAX];

	db_put(sh->db, row_server_key(&row, key), row_server_put(&row, value));
}

/* Servers without a label stand in one rack. */
static void place(struct shard *sh, const struct large_server *s)
{
	room_server_place(sh->large->room, s->server, hash64(1, s->host, strlen(s->host)),
		hash64(2, s->rack, strlen(s->rack)));
}

static struct server_slot *add(struct large *l, uint32_t server)
{
	struct server_slot *s = calloc(1, sizeof *s);

	check(server > 0 && server <= LARGE_SERVERS_MAX);
	check(l->servers[server] == NULL);
	if (s == NULL)
		return NULL;
	s->pub.server = server;
	list_init(&s->drops);
	l->servers[server] = s;
	if (server > l->last_server)
		l->last_server = server;
	return s;
}

static int load_servers(struct shard *sh, struct err_note *note)
{
	struct bytes key, value;
	struct row_range r;
	struct db_iter it;
	int rc = 0;

	row_range_table(&r, ROW_server_TABLE);
	db_iter_begin(&it, sh->db, r.from, r.to);
	while (rc == 0 && db_iter_next(&it, &key, &value)) {
		struct server_slot *s;
		struct row_server row;

		if (row_server_key_get(key, &row) < 0 || row_server_get(value, &row) < 0 ||
			row.server == 0 || row.server > LARGE_SERVERS_MAX) {
			rc = err_set(note, E_CORRUPT, "a row of a storage server cannot be read");
			break;
		}
		if ((s = add(sh->large, (uint32_t)row.server)) == NULL) {
			rc = err_set(note, E_NOMEM, "no memory for a storage server");
			break;
		}
		s->pub.uuid_hi = row.uuid_hi;
		s->pub.uuid_lo = row.uuid_lo;
		s->pub.incarnation = row.incarnation;
		copy_text(s->pub.addr, row.addr);
		copy_text(s->pub.local, row.local);
		copy_text(s->pub.host, row.host);
		copy_text(s->pub.rack, row.rack);
		s->pub.node = row.node;
		s->pub.drain = row.drain != 0;
		s->pub.removed = s->pub.fenced = s->pub.gone = row.removed != 0;
	}
	db_iter_end(&it);
	return rc;
}

int large_open(struct shard *sh, struct err_note *note)
{
	int rc;

	sh->large = calloc(1, sizeof *sh->large);
	if (sh->large == NULL)
		return err_set(note, E_NOMEM, "no memory for storage servers");
	sh->large->room = room_new(NULL);
	waitq_init(&sh->large->work);
	waitq_init(&sh->large->settled);
	if ((rc = load_servers(sh, note)) < 0 || (rc = grant_load(sh, note)) < 0 ||
		(rc = extent_load(sh, note)) < 0 || (rc = drop_load(sh, note)) < 0)
		return rc;
	for (uint32_t i = 1; i <= sh->large->last_server; i++)
		if (sh->large->servers[i] != NULL) {
			room_server_reborn(sh->large->room, i,
				sh->large->servers[i]->pub.incarnation, grant_lost, sh);
			place(sh, &sh->large->servers[i]->pub);
			if (sh->large->servers[i]->pub.removed)
				room_server_gone(sh->large->room, i, grant_lost, sh);
		}
	room_audit(sh->large->room);
	job_watch_room(sh);
	return 0;
}

void large_fini(struct shard *sh)
{
	if (sh->large == NULL)
		return;
	for (uint32_t i = 1; i <= sh->large->last_server; i++) {
		struct server_slot *s = sh->large->servers[i];
		struct list *it;

		while (s != NULL && (it = list_pop(&s->drops)) != NULL)
			free(container_of(it, struct drop, link));
		free(s);
	}
	room_free(sh->large->room);
	free(sh->large);
	sh->large = NULL;
}

void large_policy(struct shard *sh, const struct large_policy *p)
{
	sh->large->policy = *p;
}
const struct room *large_room(const struct shard *sh)
{
	return sh->large->room;
}

const struct large_server *large_server(const struct shard *sh, uint32_t server)
{
	if (server > LARGE_SERVERS_MAX || sh->large->servers[server] == NULL)
		return NULL;
	return &sh->large->servers[server]->pub;
}

uint32_t large_next_server(const struct shard *sh, uint32_t after)
{
	for (uint32_t i = after + 1; i <= sh->large->last_server; i++)
		if (sh->large->servers[i] != NULL)
			return i;
	return 0;
}

/* ---- registration ---- */
static struct server_slot *find_uuid(const struct large *l, uint64_t hi, uint64_t lo)
{
	for (uint32_t i = 1; i <= l->last_server; i++)
		if (l->servers[i] != NULL && l->servers[i]->pub.uuid_hi == hi &&
			l->servers[i]->pub.uuid_lo == lo)
			return l->servers[i];
	return NULL;
}

int large_device(struct shard *sh, uint32_t server, const struct sub_device_info *d)
{
	return room_device(
		sh->large->room, server, d->device, d->tier, d->capacity_bytes, d->egroup_bytes);
}

int large_register(struct shard *sh, struct shard_call *c, const struct msg_store_register *m,
	uint32_t *ret_server)
{
	struct wire_list devices = m->devices;
	struct sub_device_info d;
	struct server_slot *s;
	int rc = shard_may_free(sh, c);

	if (rc < 0)
		return rc;
	if ((m->uuid_hi | m->uuid_lo) == 0 || m->incarnation == 0)
		return err_set(&c->note, E_INVALID, "a storage server without uuid or incarnation");
	s = find_uuid(sh->large, m->uuid_hi, m->uuid_lo);
	if (s != NULL && s->pub.removed)
		return err_set(&c->note, E_GONE, "storage server %u was removed from the cluster: "
			"what it has counts no more", s->pub.server);
	if (s == NULL && sh->large->last_server == LARGE_SERVERS_MAX)
		return err_set(&c->note, E_TOOBIG, "there are %d storage servers: no more",
			LARGE_SERVERS_MAX);
	if (s == NULL && (s = add(sh->large, sh->large->last_server + 1)) == NULL)
		return err_set(&c->note, E_NOMEM, "no memory for a storage server");
	s->pub.uuid_hi = m->uuid_hi;
	s->pub.uuid_lo = m->uuid_lo;
	s->pub.up = s->pub.fenced = false;
	copy_text(s->pub.addr, m->addr);
	copy_text(s->pub.local, m->local);
	copy_text(s->pub.host, m->host);
	copy_text(s->pub.rack, m->rack);
	s->pub.node = m->node;
	while (sub_device_info_next(&devices, &d))
		if ((rc = large_device(sh, s->pub.server, &d)) < 0)
			return err_set(&c->note, rc, "device %u of tier %u", d.device, d.tier);
	if (s->pub.incarnation != m->incarnation) {
		s->pub.incarnation = m->incarnation;
		room_server_reborn(
			sh->large->room, s->pub.server, m->incarnation, grant_lost, sh);
		large_drops_retry(sh, s->pub.server);
		egroup_drop_empty(sh);
	}
	place(sh, &s->pub);
	write_row(sh, &s->pub);
	shard_want_sync(sh, c);
	*ret_server = s->pub.server;
	return 0;
}

void large_server_up(struct shard *sh, uint32_t server, bool up)
{
	struct server_slot *s = sh->large->servers[server];

	check(s != NULL);
	check(!s->pub.removed);
	s->pub.up = up;
	if (up)
		s->pub.fenced = s->pub.gone = false;
	room_server_up(sh->large->room, server, up && !s->pub.drain);
	waitq_wake_all(&sh->large->work);
}

void large_server_gone(struct shard *sh, uint32_t server)
{
	check(sh->large->servers[server] != NULL);
	check(sh->large->servers[server]->pub.fenced);
	sh->large->servers[server]->pub.gone = true;
}

void large_server_fenced(struct shard *sh, uint32_t server)
{
	struct server_slot *s = sh->large->servers[server];

	check(s != NULL);
	check(!s->pub.up);
	s->pub.fenced = true;
	waitq_wake_all(&sh->large->settled);
}

/* ---- leaving ---- */
int large_server_drain(struct shard *sh, struct shard_call *c, uint32_t server, bool drain)
{
	struct server_slot *s = sh->large->servers[server];
	int rc = shard_may_free(sh, c);

	if (rc < 0)
		return rc;
	check(s != NULL);
	s->pub.drain = drain;
	room_server_up(sh->large->room, server, s->pub.up && !drain);
	write_row(sh, &s->pub);
	shard_want_sync(sh, c);
	return 0;
}

/* Nothing can be filled any more when the only one that had it all goes. */
static void leave_unfilled(struct shard *sh, struct shard_call *c, uint64_t egroup,
	uint32_t server, const struct room_egroup_info *info)
{
	for (uint8_t i = 0; i < info->n_members; i++)
		if (info->members[i].server != server &&
			info->members[i].state == ROOM_MEMBER_IN)
			return;
	for (uint8_t i = 0; i < info->n_members && !info->doomed; i++)
		if (info->members[i].server != server)
			large_member_leave(sh, c, egroup, info->members[i].server);
}

int large_server_remove(struct shard *sh, struct shard_call *c, uint32_t server)
{
	struct server_slot *s = sh->large->servers[server];
	struct room *room = sh->large->room;
	int rc = shard_may_free(sh, c);
	uint32_t at = 0;
	uint64_t egroup;

	if (rc < 0)
		return rc;
	check(s != NULL);
	check(!s->pub.up);
	drop_forget_server(sh, server);
	while ((egroup = room_next_egroup(room, server, &at)) != 0) {
		struct room_egroup_info info;
		bool known = room_egroup(room, egroup, &info);

		check(known);
		leave_unfilled(sh, c, egroup, server, &info);
		known = room_egroup(room, egroup, &info);
		check(known);
		if (info.n_members > 1 && !room_member_gone(room, egroup, server))
			egroup_write(sh, egroup);
	}
	room_server_gone(room, server, grant_lost, sh);
	s->pub.removed = s->pub.fenced = s->pub.gone = true;
	write_row(sh, &s->pub);
	egroup_drop_empty(sh);
	waitq_wake_all(&sh->large->settled);
	shard_want_sync(sh, c);
	return 0;
}
