/* SPDX-License-Identifier: Apache-2.0 */
/* Drops: what servers have yet to forget, as rows and as a list for each server (L1).
 *
 *   added (row) -> taken by a sender -> acknowledged: row and entry go, room comes back (L2)
 *                       '-> connection broke: to be taken again */
#include "meta/large_own.h"
#include <stdlib.h>

static void enqueue(struct shard *sh, uint32_t server, const struct large_drop *d)
{
	struct server_slot *s = sh->large->servers[server];
	struct drop *e = calloc(1, sizeof *e);

	check(s != NULL);
	check(e != NULL); /* the row stands: forgetting the entry would leak until the next start */
	e->what = *d;
	e->ticket = ++sh->large->last_ticket;
	list_push(&s->drops, &e->link);
	waitq_wake_all(&sh->large->work);
}

static struct row_drop row_of(uint32_t server, const struct large_drop *d)
{
	return (struct row_drop){ .server = server,
		.egroup = d->egroup,
		.extent = d->extent,
		.count = d->count,
		.room = d->room,
		.left = d->left,
		.device = d->device,
		.tier = d->tier };
}

void drop_add(struct shard *sh, uint32_t server, const struct large_drop *d)
{
	struct row_drop row = row_of(server, d);
	uint8_t key[ROW_drop_KEY_MAX], value[ROW_drop_VALUE_MAX];

	check(d->egroup != 0);
	db_put(sh->db, row_drop_key(&row, key), row_drop_put(&row, value));
	enqueue(sh, server, d);
}

void drop_everywhere(
	struct shard *sh, const struct room_egroup_info *info, const struct large_drop *d)
{
	for (uint8_t i = 0; i < info->n_members; i++)
		drop_add(sh, info->members[i].server, d);
}

static bool is_member(const struct room_egroup_info *info, uint32_t server)
{
	for (uint8_t i = 0; i < info->n_members; i++)
		if (info->members[i].server == server)
			return true;
	return false;
}

/* What it says of the room. */
static int restore(struct shard *sh, uint32_t server, const struct large_drop *d)
{
	struct room_egroup_info info;

	if (d->left)
		return room_restore_left(sh->large->room, server, d->device, d->tier, d->room);
	/* A group in lost memory, or a member of it, may have gone while the drop was under way. */
	if (!room_egroup(sh->large->room, d->egroup, &info) || !is_member(&info, server))
		return 0;
	if (d->count > 0)
		return room_restore_drop(sh->large->room, d->egroup, server, d->room);
	room_egroup_doom(sh->large->room, d->egroup);
	return 0;
}

int drop_load(struct shard *sh, struct err_note *note)
{
	struct bytes key, value;
	struct row_range r;
	struct row_drop row;
	struct db_iter it;
	int rc = 0;

	row_range_table(&r, ROW_drop_TABLE);
	db_iter_begin(&it, sh->db, r.from, r.to);
	while (rc == 0 && db_iter_next(&it, &key, &value)) {
		struct large_drop d;

		if (row_drop_key_get(key, &row) < 0 || row_drop_get(value, &row) < 0 ||
			large_server(sh, (uint32_t)row.server) == NULL) {
			rc = err_set(note, E_CORRUPT, "a row of a drop cannot be read");
			break;
		}
		d = (struct large_drop){ row.egroup, row.extent, row.count, row.room, row.left != 0,
			row.device, row.tier };
		if ((rc = restore(sh, (uint32_t)row.server, &d)) < 0)
			err_set(note, rc, "the drop of extent %llu contradicts its egroup",
				(unsigned long long)d.extent);
		else
			enqueue(sh, (uint32_t)row.server, &d);
	}
	db_iter_end(&it);
	return rc;
}

static void forget(struct shard *sh, uint32_t server, struct drop *e)
{
	struct row_drop row = row_of(server, &e->what);
	uint8_t key[ROW_drop_KEY_MAX];

	db_delete(sh->db, row_drop_key(&row, key));
	list_remove(&e->link);
	free(e);
}

void drop_forget_egroup(struct shard *sh, uint32_t server, uint64_t egroup)
{
	struct server_slot *s = sh->large->servers[server];

	list_each_safe (it, &s->drops) {
		struct drop *e = container_of(it, struct drop, link);

		if (e->what.egroup == egroup && e->what.count > 0 && !e->taken)
			forget(sh, server, e);
	}
}

/* ---- for the controller ---- */
uint32_t large_drops_take(
	struct shard *sh, uint32_t server, struct large_drop *ret_drops, uint32_t max)
{
	struct server_slot *s = sh->large->servers[server];
	uint32_t n = 0;

	check(s != NULL);
	list_each (it, &s->drops) {
		struct drop *e = container_of(it, struct drop, link);

		if (n == max)
			break;
		if (e->taken)
			continue;
		e->taken = true;
		ret_drops[n++] = e->what;
	}
	return n;
}

void egroup_delete_row(struct shard *sh, uint64_t egroup)
{
	struct row_egroup row = { .egroup = egroup };
	uint8_t key[ROW_egroup_KEY_MAX];

	db_delete(sh->db, row_egroup_key(&row, key));
}

static void acknowledge(struct shard *sh, uint32_t server, struct drop *e)
{
	if (e->what.count > 0)
		room_dropped(sh->large->room, e->what.egroup, server, e->what.room);
	else if (e->what.left)
		room_left(sh->large->room, server, e->what.device, e->what.room);
	else if (room_member_gone(sh->large->room, e->what.egroup, server))
		egroup_delete_row(sh, e->what.egroup);
	else
		egroup_write(sh, e->what.egroup);
	forget(sh, server, e);
}

void drop_forget_server(struct shard *sh, uint32_t server)
{
	list_each_safe (it, &sh->large->servers[server]->drops)
		acknowledge(sh, server, container_of(it, struct drop, link));
}

void large_dropped(struct shard *sh, uint32_t server, const struct large_drop *drops, uint32_t n)
{
	struct server_slot *s = sh->large->servers[server];
	uint32_t i = 0;

	check(s != NULL);
	list_each_safe (it, &s->drops) { /* in the order they were taken in */
		struct drop *e = container_of(it, struct drop, link);

		if (i == n)
			break;
		if (!e->taken || e->what.egroup != drops[i].egroup ||
			e->what.extent != drops[i].extent || e->what.count != drops[i].count)
			continue;
		acknowledge(sh, server, e);
		i++;
	}
	egroup_drop_empty(sh);
	waitq_wake_all(&sh->large->settled);
}

void large_drops_retry(struct shard *sh, uint32_t server)
{
	struct server_slot *s = sh->large->servers[server];

	check(s != NULL);
	list_each (it, &s->drops)
		container_of(it, struct drop, link)->taken = false;
	waitq_wake_all(&sh->large->work);
}

int large_drops_wait(struct shard *sh, uint64_t until_ns)
{
	return waitq_wait(&sh->large->work, until_ns);
}

uint64_t large_ticket(const struct shard *sh)
{
	return sh->large->last_ticket;
}

bool large_settled(const struct shard *sh, uint64_t ticket)
{
	for (uint32_t i = 1; i <= sh->large->last_server; i++) {
		const struct server_slot *s = sh->large->servers[i];

		if (s == NULL || s->pub.fenced || list_empty(&s->drops))
			continue;
		if (container_of(s->drops.next, struct drop, link)->ticket <= ticket)
			return false;
	}
	return true;
}

int large_settle(struct shard *sh, uint64_t ticket, uint64_t until_ns)
{
	int rc = 0;

	while (rc == 0 && !large_settled(sh, ticket))
		rc = waitq_wait(&sh->large->settled, until_ns);
	return rc;
}

/* ---- whole egroups ---- */
static void drop_whole(struct shard *sh, uint64_t egroup)
{
	struct room_egroup_info info;
	bool known = room_egroup(sh->large->room, egroup, &info);
	uint64_t grant;

	check(known);
	if (info.doomed)
		return;
	while ((grant = room_egroup_grant(sh->large->room, egroup, 0)) != 0)
		grant_end_doomed(sh, grant);
	if (info.lost) { /* nobody holds it any more */
		drop_forget_egroup(sh, info.server, egroup);
		waitq_wake_all(&sh->large->settled);
		room_egroup_gone(sh->large->room, egroup);
		egroup_delete_row(sh, egroup);
		return;
	}
	room_egroup_doom(sh->large->room, egroup);
	for (uint8_t i = 0; i < info.n_members; i++)
		drop_forget_egroup(sh, info.members[i].server, egroup);
	drop_everywhere(sh, &info, &(struct large_drop){ .egroup = egroup });
}

void egroup_drop_empty(struct shard *sh)
{
	uint64_t egroup;

	while ((egroup = room_empty_egroup(sh->large->room)) != 0)
		drop_whole(sh, egroup);
}

static void drop_of_domain(void *arg, uint64_t egroup)
{
	drop_whole(arg, egroup);
}

void large_domain_drop(struct shard *sh, struct shard_call *c, uint64_t domain)
{
	check(domain != DOMAIN_PERSISTENT);
	room_domain_each(sh->large->room, domain, drop_of_domain, sh);
	c->ticket = sh->large->last_ticket;
}
