/* SPDX-License-Identifier: Apache-2.0 */
/* Grants: room for a session to write extents into.
 *
 *   granted (row) -> commits take from it -> returned, or its session ends: the rest is dropped
 *
 * A client asks ahead of need, so this is off the path of its writes. */
#include "core/cap.h"
#include "meta/large_own.h"
#include <stdio.h>

enum { IDS = ROOM_PARTS_MAX * ROOM_IDS_PER_PART };

uint64_t domain_of(const struct bucket *b, uint16_t flags)
{
	bool own = b->job != 0 && b->lifetime != LIFETIME_PERSIST && (flags & PUT_PERSIST) == 0;

	return own ? b->job : DOMAIN_PERSISTENT;
}

/* ---- rows ---- */
void grant_write(struct shard *sh, uint64_t extent_first)
{
	struct room_grant_info info;
	struct row_grant row = { .extent_first = extent_first };
	uint8_t key[ROW_grant_KEY_MAX], value[ROW_grant_VALUE_MAX];
	bool known = room_grant_look(sh->large->room, extent_first, &info);

	check(known);
	row.egroup = info.egroup;
	row.session = info.session;
	row.credit = info.credit_bytes;
	row.uncommitted = info.uncommitted;
	row.copies = info.copies;
	db_put(sh->db, row_grant_key(&row, key), row_grant_put(&row, value));
}

static uint8_t member_state(const struct room_egroup_info *info, uint32_t i)
{
	const struct room_member_info *m = &info->members[i];
	uint8_t tier = m->tier != info->tier ? ROOM_MEMBER_TIER(m->tier) : 0;

	return (uint8_t)(m->state | tier | (m->late ? ROOM_MEMBER_LATE : 0));
}

static uint64_t member_number(const struct room_egroup_info *info, uint32_t i)
{
	const struct room_member_info *m = &info->members[i];

	return i < info->n_members ? (uint64_t)m->server << 16 | (uint64_t)m->device << 8 |
					     member_state(info, i)
				   : 0;
}

void egroup_write(struct shard *sh, uint64_t egroup)
{
	uint8_t key[ROW_egroup_KEY_MAX], value[ROW_egroup_VALUE_MAX];
	struct room_egroup_info info;
	struct row_egroup row;
	bool known = room_egroup(sh->large->room, egroup, &info);

	check(known);
	row = (struct row_egroup){ .egroup = egroup,
		.domain = info.domain,
		.server = info.server,
		.device = info.device,
		.tier = info.tier,
		.bytes = info.bytes,
		.incarnation = info.incarnation,
		.copies = info.copies,
		.soft = info.soft,
		.state = member_state(&info, 0),
		.member_1 = member_number(&info, 1),
		.member_2 = member_number(&info, 2),
		.member_3 = member_number(&info, 3),
		.member_4 = member_number(&info, 4),
		.member_5 = member_number(&info, 5),
		.member_6 = member_number(&info, 6),
		.member_7 = member_number(&info, 7) };
	_Static_assert(ROOM_MEMBERS_MAX == 8, "a field of the row for each member");
	db_put(sh->db, row_egroup_key(&row, key), row_egroup_put(&row, value));
}

static int load_members(struct shard *sh, const struct row_egroup *row)
{
	const uint64_t members[] = { row->member_1, row->member_2, row->member_3, row->member_4,
		row->member_5, row->member_6, row->member_7 };
	struct room *room = sh->large->room;
	int rc = room_restore_copies(room, row->egroup, row->copies, row->soft != 0, row->state);

	for (size_t i = 0; rc == 0 && i < sizeof members / sizeof members[0]; i++) {
		uint64_t server = members[i] >> 16;
		uint8_t state = (uint8_t)members[i], tier = state & ROOM_MEMBER_TIER_MASK;

		if (members[i] == 0)
			continue;
		if (server > UINT32_MAX || large_server(sh, (uint32_t)server) == NULL)
			return E_CORRUPT;
		rc = room_restore_member(room, row->egroup, (uint32_t)server,
			(uint8_t)(members[i] >> 8),
			tier == 0 ? row->tier : (uint8_t)((tier >> 4) - 1),
			state & ~ROOM_MEMBER_TIER_MASK & 0xff);
	}
	return rc;
}

static int load_egroups(struct shard *sh, struct err_note *note)
{
	struct bytes key, value;
	struct row_egroup row;
	struct row_range r;
	struct db_iter it;
	int rc = 0;

	row_range_table(&r, ROW_egroup_TABLE);
	db_iter_begin(&it, sh->db, r.from, r.to);
	while (rc == 0 && db_iter_next(&it, &key, &value)) {
		if (row_egroup_key_get(key, &row) < 0 || row_egroup_get(value, &row) < 0 ||
			large_server(sh, (uint32_t)row.server) == NULL)
			rc = E_CORRUPT;
		else
			rc = room_restore_egroup(sh->large->room, row.egroup, row.domain,
				(uint32_t)row.server, row.device, row.tier, row.bytes,
				row.incarnation);
		if (rc == 0)
			rc = load_members(sh, &row);
	}
	db_iter_end(&it);
	return rc < 0 ? err_set(note, rc, "a row of an extent group cannot be taken in") : 0;
}

int grant_load(struct shard *sh, struct err_note *note)
{
	struct bytes key, value;
	struct row_range r;
	struct row_grant row;
	struct db_iter it;
	int rc = load_egroups(sh, note);

	if (rc < 0)
		return rc;
	row_range_table(&r, ROW_grant_TABLE);
	db_iter_begin(&it, sh->db, r.from, r.to);
	while (rc == 0 && db_iter_next(&it, &key, &value)) {
		if (row_grant_key_get(key, &row) < 0 || row_grant_get(value, &row) < 0)
			rc = E_CORRUPT;
		else
			rc = room_restore_grant(sh->large->room, row.session, row.egroup,
				row.extent_first, row.uncommitted, row.credit, row.copies);
	}
	db_iter_end(&it);
	return rc < 0 ? err_set(note, rc, "a row of a grant cannot be taken in") : 0;
}

/* ---- ending ---- */
/* The ids of a rest that no commit named, as runs of neighbours; the first carries the room. */
static void drop_rest(
	struct shard *sh, const struct room_egroup_info *info, const struct room_rest *rest)
{
	uint64_t left = rest->uncommitted, room = rest->credit_bytes;

	if (left == 0 && room > 0) { /* nothing can be there: the room is back at once */
		for (uint8_t i = 0; i < info->n_members; i++)
			room_dropped(sh->large->room, rest->egroup, info->members[i].server, room);
		return;
	}
	while (left != 0) {
		unsigned from = (unsigned)__builtin_ctzll(left), n;
		uint64_t run = ~(left >> from);

		n = run == 0 ? 64 - from : (unsigned)__builtin_ctzll(run);
		drop_everywhere(sh, info,
			&(struct large_drop){ .egroup = rest->egroup,
				.extent = rest->extent_first + from,
				.count = n,
				.room = room });
		room = 0;
		left = n == 64 ? 0 : left & ~(((UINT64_C(1) << n) - 1) << from);
	}
}

static void end(struct shard *sh, uint64_t extent_first, bool drop)
{
	struct row_grant row = { .extent_first = extent_first };
	uint8_t key[ROW_grant_KEY_MAX];
	struct room_egroup_info info;
	struct room_rest rest;
	bool known = room_grant_end(sh->large->room, extent_first, &rest);

	check(known);
	db_delete(sh->db, row_grant_key(&row, key));
	known = room_egroup(sh->large->room, rest.egroup, &info);
	check(known);
	if (drop && !info.lost && !info.doomed)
		drop_rest(sh, &info, &rest);
}

void grant_lost(void *arg, uint64_t extent_first)
{
	struct shard *sh = arg;
	struct row_grant row = { .extent_first = extent_first };
	uint8_t key[ROW_grant_KEY_MAX];

	db_delete(sh->db, row_grant_key(&row, key));
}

void grant_end(struct shard *sh, uint64_t extent_first)
{
	end(sh, extent_first, true);
}
void grant_end_doomed(struct shard *sh, uint64_t extent_first)
{
	end(sh, extent_first, false);
}

void grant_end_session(struct shard *sh, uint64_t session)
{
	uint64_t g;

	if (session == 0)
		return;
	while ((g = room_session_grant(sh->large->room, session)) != 0)
		grant_end(sh, g);
	egroup_drop_empty(sh);
}

/* ---- requests ---- */
static uint32_t near_server(const struct shard *sh, struct bytes host)
{
	for (uint32_t i = 1; host.len > 0 && i <= sh->large->last_server; i++) {
		const struct large_server *s = large_server(sh, i);

		if (s != NULL && s->up && bytes_equal(bytes_of(s->host, strlen(s->host)), host))
			return i;
	}
	return 0;
}

uint8_t copies_of(const struct bucket *b, uint16_t flags, bool *ret_soft)
{
	/* What persists out of a bucket that does not has the protection of those that do. */
	bool kept = (flags & PUT_PERSIST) != 0 && b->lifetime != LIFETIME_PERSIST;

	*ret_soft = false;
	if (b->protection == PROTECT_COPIES && b->copies > 0)
		return b->copies;
	*ret_soft = b->protection == PROTECT_COPIES || kept;
	return *ret_soft ? 2 : 1;
}

/* The bucket's tiers out of the job's order; what has to survive does not go to memory. */
static uint8_t order(const struct shard *sh, const struct bucket *b, bool durable,
	uint8_t ret_tiers[TIER_COUNT])
{
	const struct large_policy *p = &sh->large->policy;
	uint8_t all[TIER_COUNT] = { TIER_DRAM, TIER_FLASH, TIER_DISK }, n_all = TIER_COUNT, n = 0;

	if (p->tiers != NULL)
		n_all = p->tiers(p->arg, b->job, all);
	for (uint8_t i = 0; i < n_all; i++) {
		if (b->tiers != 0 && (b->tiers & TIER_BIT(all[i])) == 0)
			continue;
		if (all[i] == TIER_DRAM && durable)
			continue;
		ret_tiers[n++] = all[i];
	}
	return n;
}

static bool any_up(const struct shard *sh)
{
	for (uint32_t i = 0; (i = large_next_server(sh, i)) != 0;)
		if (large_server(sh, i)->up)
			return true;
	return false;
}

/* A server that may come back any moment, as all do after a start of this shard; 0: none. */
static uint32_t on_its_way(const struct shard *sh)
{
	for (uint32_t i = 0; (i = large_next_server(sh, i)) != 0;) {
		const struct large_server *s = large_server(sh, i);

		if (!s->up && !s->fenced && !s->gone)
			return i;
	}
	return 0;
}

/* Room that others keep for later is asked for; meanwhile whoever needs some asks again. */
static int ask_back(const struct shard *sh, struct shard_call *c, const struct room_ask *ask)
{
	const struct large_policy *p = &sh->large->policy;

	if (ask->ahead || p->recall == NULL || !p->recall(p->arg))
		return 0;
	return err_set(&c->note, E_BUSY, "no room, but some that others keep may be returned");
}

/* In the tiers of the ask. */
static uint64_t granted_to_all(const struct shard *sh, const struct room_ask *ask)
{
	uint64_t granted = 0;

	for (uint8_t i = 0; i < ask->n_tiers; i++)
		granted += room_sum(sh->large->room, 0, ask->tiers[i], 0).granted;
	return granted;
}

static int refuse_full(
	const struct shard *sh, struct shard_call *c, const struct room_ask *ask, int rc)
{
	static const char *const names[TIER_COUNT] = { "dram", "flash", "disk" };
	char text[160];
	uint32_t absent = on_its_way(sh);
	size_t at = 0;

	if (!any_up(sh)) /* one may be on its way: worth another try */
		return err_set(&c->note, E_BUSY, "no storage server has joined");
	if (absent != 0)
		return err_set(&c->note, E_BUSY,
			"no room, but storage server %u may come back", absent);
	if (ask->copies > 1 && !ask->soft && rc == E_UNAVAILABLE)
		return err_set(&c->note, E_UNAVAILABLE,
			"copies=%u needs room on as many storage servers, and fewer are up",
			ask->copies);
	if (ask->n_tiers == 0)
		return err_set(&c->note, E_FULL,
			"no storage server that is up has a tier allowed for these bytes");
	if (granted_to_all(sh, ask) > 0 && ask_back(sh, c, ask) < 0)
		return E_BUSY;
	for (uint8_t i = 0; i < ask->n_tiers; i++) {
		struct room_sum s = room_sum(sh->large->room, 0, ask->tiers[i], 0);

		at += (size_t)snprintf(text + at, sizeof text - at,
			"%s%s has %llu of %llu bytes free", i > 0 ? ", " : "", names[ask->tiers[i]],
			(unsigned long long)s.free, (unsigned long long)s.capacity);
		check(at < sizeof text);
	}
	if (ask->bytes > 0)
		return err_set(&c->note, E_FULL, "no room for %llu bytes%s: %s",
			(unsigned long long)ask->bytes,
			ask->copies > 1 ? " in each copy" : "", text);
	return err_set(&c->note, E_FULL, "no room: %s", text);
}

void cap_fill(const struct shard *sh, struct cap *cap, uint8_t code[CAP_BYTES])
{
	const struct large_policy *p = &sh->large->policy;

	check(p->cap_key != NULL);
	cap->until_ms = shard_time_ms(sh) + CAP_LIFE_MS;
	cap->job_epoch = p->job_epoch != NULL ? p->job_epoch(p->arg, cap->job) : 0;
	cap_mint(p->cap_key, cap, code);
}

static void cap_of_part(const struct shard *sh, const struct room_ask *ask,
	const struct room_part *p, uint32_t server, struct cap *ret_cap, uint8_t code[CAP_BYTES])
{
	*ret_cap = (struct cap){ .egroup = p->egroup,
		.job = ask->domain,
		.ops = CAP_WRITE,
		.epoch = sh->opts.epoch,
		.extent_first = p->extent_first,
		.extent_count = p->extent_count,
		.credit_bytes = p->credit_bytes,
		.incarnation = large_server(sh, server)->incarnation };
	cap_fill(sh, ret_cap, code);
}

static void part_add(struct shard *sh, struct wire_list_builder *l, const struct room_ask *ask,
	const struct room_part *p)
{
	uint8_t code[CAP_BYTES];
	struct cap cap;
	struct sub_grant_part s;
	bool fits;

	cap_of_part(sh, ask, p, p->server, &cap, code);
	s = (struct sub_grant_part){ .egroup = p->egroup,
		.epoch = sh->opts.epoch,
		.credit_bytes = p->credit_bytes,
		.extent_first = p->extent_first,
		.extent_count = p->extent_count,
		.server = p->server,
		.tier = p->tier,
		.device = p->device,
		.extent_bytes_max = (uint32_t)p->extent_bytes_max,
		.cap_job = ask->domain,
		.cap_until_ms = cap.until_ms,
		.cap = bytes_of(code, sizeof code) };
	fits = sub_grant_part_add(l, &s);
	check(fits);
}

/* All capabilities of a part are minted in one turn: their time is the same. */
static void copies_add(struct shard *sh, struct wire_list_builder *l, const struct room_ask *ask,
	const struct room_part *p)
{
	for (uint8_t i = 0; i < p->n_others; i++) {
		uint8_t code[CAP_BYTES];
		struct cap cap;
		bool fits;

		cap_of_part(sh, ask, p, p->others[i].server, &cap, code);
		fits = sub_grant_copy_add(l,
			&(struct sub_grant_copy){ .extent_first = p->extent_first,
				.server = p->others[i].server,
				.device = p->others[i].device,
				.cap_until_ms = cap.until_ms,
				.cap = bytes_of(code, sizeof code) });
		check(fits);
	}
}

bool server_add(const struct shard *sh, struct wire_list_builder *l, uint32_t server)
{
	const struct large_server *s = large_server(sh, server);

	check(s != NULL);
	return sub_server_addr_add(l, &(struct sub_server_addr){ .server = server,
					      .incarnation = s->incarnation,
					      .addr = bytes_of(s->addr, strlen(s->addr)),
					      .local = bytes_of(s->local, strlen(s->local)),
					      .host = bytes_of(s->host, strlen(s->host)) });
}

struct listed {
	uint32_t servers[ROOM_PARTS_MAX * ROOM_COPIES_MAX], n;
};

static void list_server(
	struct shard *sh, struct wire_list_builder *l, struct listed *seen, uint32_t server)
{
	bool fits;

	for (uint32_t i = 0; i < seen->n; i++)
		if (seen->servers[i] == server)
			return;
	seen->servers[seen->n++] = server;
	fits = server_add(sh, l, server);
	check(fits);
}

static void answer(struct shard *sh, const struct shard_call *c, const struct room_ask *ask,
	const struct room_part *parts, int n, struct msg_grant_ok *ret)
{
	struct wire_list_builder l = wire_list_begin(sh->page, PAGE_BYTES / 4, c->version);
	struct wire_list_builder copies =
		wire_list_begin(sh->page + PAGE_BYTES / 4, PAGE_BYTES / 4, c->version);
	struct wire_list_builder servers =
		wire_list_begin(sh->page + PAGE_BYTES / 2, PAGE_BYTES / 2, c->version);
	struct listed seen = { .n = 0 };

	for (int i = 0; i < n; i++) {
		part_add(sh, &l, ask, &parts[i]);
		copies_add(sh, &copies, ask, &parts[i]);
		list_server(sh, &servers, &seen, parts[i].server);
		for (uint8_t k = 0; k < parts[i].n_others; k++)
			list_server(sh, &servers, &seen, parts[i].others[k].server);
	}
	ret->parts = wire_list_end(&l);
	ret->copies = wire_list_end(&copies);
	ret->servers = wire_list_end(&servers);
}

static void avoid_take(struct room_ask *ask, struct wire_list l)
{
	struct sub_server_id s;

	while (ask->n_avoid < ROOM_AVOID_MAX && sub_server_id_next(&l, &s))
		ask->avoid[ask->n_avoid++] = s.server;
}

/* An old client writes one copy, which does where fewer may do. */
static int ask_copies(const struct shard_call *c, struct room_ask *ask, struct err_note *note)
{
	if (c->version >= 2 || ask->copies == 1)
		return 0;
	if (!ask->soft)
		return err_set(note, E_UNSUPPORTED, "copies=%u needs a newer client", ask->copies);
	ask->copies = 1;
	return 0;
}

/* What its other clients keep for later counts, too. */
static int check_quota(
	const struct shard *sh, struct shard_call *c, const struct room_ask *ask, uint64_t job)
{
	const struct large_policy *p = &sh->large->policy;
	uint64_t granted, bytes = ask->bytes;
	int rc = p->quota == NULL ? 0 : p->quota(p->arg, job, bytes, &c->note);

	if (rc != E_FULL)
		return rc;
	granted = room_sum(sh->large->room, 0, TIER_COUNT, job).granted;
	bytes = bytes > granted ? bytes - granted : 0;
	if (granted > 0 && p->quota(p->arg, job, bytes, NULL) == 0 && ask_back(sh, c, ask) < 0)
		return E_BUSY;
	return rc;
}

/* A retry is not remembered: it takes new room, and the first is dropped with the session. */
int shard_grant(
	struct shard *sh, struct shard_call *c, const struct msg_grant *m, struct msg_grant_ok *ret)
{
	struct room_part parts[ROOM_PARTS_MAX];
	struct room_ask ask = { .bytes = m->bytes, .ahead = (m->flags & PUT_AHEAD) != 0 };
	struct bucket *b;
	int rc, n;

	if ((rc = shard_writable(sh, c)) < 0 || (rc = bucket_use(sh, c, m->bucket, &b)) < 0)
		return rc;
	if ((m->flags & ~(PUT_PERSIST | PUT_DURABLE | PUT_AHEAD)) != 0)
		return err_set(&c->note, E_INVALID, "grant does not know flags %#x",
			m->flags & ~(PUT_PERSIST | PUT_DURABLE | PUT_AHEAD));
	if (c->session == NULL)
		return err_set(&c->note, E_INVALID, "room is granted to clients with a client id");
	if ((rc = session_number(sh, c->session)) < 0)
		return err_set(&c->note, rc, "no number for the session");
	c->session->has_room = true;
	ask.session = c->session->id;
	ask.extent_bytes = c->session->extent_bytes;
	ask.domain = domain_of(b, m->flags);
	ask.near = near_server(sh, m->host);
	avoid_take(&ask, m->avoid);
	ask.copies = copies_of(b, m->flags, &ask.soft);
	ask.n_tiers = order(sh, b,
		ask.domain == DOMAIN_PERSISTENT || (m->flags & PUT_DURABLE) != 0 ||
			bucket_durable(b),
		ask.tiers);
	if ((rc = ask_copies(c, &ask, &c->note)) < 0)
		return rc;
	if ((rc = check_quota(sh, c, &ask, b->job)) < 0)
		return rc;
	if ((ask.ids = db_next_ids(sh->db, IDS)) == 0)
		return err_set(&c->note, E_BUSY, "the next block of ids is not there yet");
	if ((n = room_grant(sh->large->room, &ask, parts)) < 0)
		return refuse_full(sh, c, &ask, n);
	for (int i = 0; i < n; i++) {
		if (parts[i].fresh)
			egroup_write(sh, parts[i].egroup);
		grant_write(sh, parts[i].extent_first);
	}
	shard_want_sync(sh, c); /* else a power cut forgets bytes that a server has */
	answer(sh, c, &ask, parts, n, ret);
	return 0;
}

int shard_grant_return(struct shard *sh, struct shard_call *c, const struct msg_grant_return *m)
{
	struct room_grant_info info;
	int rc = shard_may_free(sh, c);

	if (rc < 0)
		return rc;
	if (!room_grant_look(sh->large->room, m->extent_first, &info))
		return 0; /* returned before, or ended with an egroup */
	if (c->session == NULL || info.session != c->session->id)
		return err_set(&c->note, E_DENIED, "the room was granted to another client");
	grant_end(sh, m->extent_first);
	egroup_drop_empty(sh);
	return 0;
}

void large_grant_end(struct shard *sh, struct shard_call *c, uint64_t extent_first)
{
	grant_end(sh, extent_first);
	egroup_drop_empty(sh);
	shard_want_sync(sh, c);
}
