/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever sessions do, every byte of every device is accounted for, and comes back at the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/map64.h"
#include "base/prng.h"
#include "core/room.h"
#include <stdlib.h>
#include <string.h>

enum { MIB = 1 << 20, EXTENTS = 4096, DROPS = 8192, GRANTS = 64, SESSIONS = 5, DOMAINS = 3 };

struct extent {
	uint64_t egroup, id, len, session;
};
struct drop {
	uint64_t egroup, room;
	uint32_t server;
};
struct left {
	uint64_t room;
	uint32_t server;
	uint8_t device;
};
struct world {
	struct room *r;
	struct prng p;
	uint64_t next_id;
	struct extent extents[EXTENTS]; /* committed */
	struct drop drops[DROPS];       /* to be acknowledged */
	struct left lefts[GRANTS];      /* copies given up, to be acknowledged */
	uint64_t grants[GRANTS]; /* some, of which some have ended */
	size_t n_extents, n_drops, n_grants, n_lefts;
};

static const struct room_limits small = { .egroups_max = 256,
	.grants_max = 256,
	.devices_max = 16,
	.extent_dram_bytes = 2 * MIB,
	.extent_file_bytes = MIB };

static uint64_t draw(struct world *w, uint64_t n)
{
	return prng_below(&w->p, n);
}

static void begin(struct world *w, uint64_t seed)
{
	memset(w, 0, sizeof *w);
	w->r = room_new(&small);
	w->p = prng_fork(seed, 1);
	w->next_id = 1000;
	for (uint32_t s = 1; s <= 3; s++) {
		room_server_reborn(w->r, s, 1, NULL, NULL);
		assert_int_equal(room_device(w->r, s, 0, TIER_DRAM, 64 * MIB, 8 * MIB), 0);
		assert_int_equal(room_device(w->r, s, 1, TIER_FLASH, 40 * MIB, 16 * MIB), 0);
		room_server_up(w->r, s, true);
	}
}

static struct room_ask ask(struct world *w, uint64_t session, uint64_t domain, uint64_t bytes)
{
	struct room_ask a = { .session = session,
		.domain = domain,
		.tiers = { TIER_DRAM, TIER_FLASH },
		.n_tiers = 2,
		.bytes = bytes,
		.extent_bytes = draw(w, 2) == 0 ? 0 : 1 + draw(w, MIB),
		.ids = w->next_id };

	w->next_id += ROOM_PARTS_MAX * ROOM_IDS_PER_PART;
	return a;
}

/* Each of its servers is to drop it. */
static void drop(struct world *w, uint64_t egroup, uint64_t room)
{
	struct room_egroup_info info;

	assert_true(room_egroup(w->r, egroup, &info));
	for (uint8_t i = 0; i < info.n_members && room > 0; i++) {
		assert_true(w->n_drops < DROPS);
		w->drops[w->n_drops++] = (struct drop){ egroup, room, info.members[i].server };
	}
}

/* Half of what is asked for is to have copies. */
static void want_copies(struct world *w, struct room_ask *a)
{
	if (draw(w, 2) == 0)
		return;
	a->tiers[0] = TIER_FLASH;
	a->n_tiers = 1;
	a->copies = (uint8_t)(1 + draw(w, 4));
	a->soft = draw(w, 2) == 0;
}

static void do_grant(struct world *w)
{
	struct room_part parts[ROOM_PARTS_MAX];
	uint64_t session = 1 + draw(w, SESSIONS), domain = 1 + draw(w, DOMAINS),
		 want = draw(w, 12 * MIB);
	struct room_ask a = ask(w, session, domain, want);
	struct room_sum before = room_sum(w->r, 0, TIER_COUNT, 0), after;
	uint64_t credit = 0, all = 0;
	int n;

	a.ahead = draw(w, 4) == 0;
	want_copies(w, &a);
	n = room_grant(w->r, &a, parts);
	after = room_sum(w->r, 0, TIER_COUNT, 0);
	if (n < 0) {
		assert_int_equal(n, a.copies == 4 && !a.soft ? E_UNAVAILABLE : E_FULL);
		assert_true(before.free == after.free && before.granted == after.granted);
		return;
	}
	assert_true(n > 0);
	for (int i = 0; i < n; i++) {
		credit += parts[i].credit_bytes;
		all += parts[i].credit_bytes * (1u + parts[i].n_others);
		assert_true(a.soft || parts[i].n_others + 1 >= a.copies);
		if (w->n_grants < GRANTS)
			w->n_grants++;
		w->grants[draw(w, w->n_grants)] = parts[i].extent_first;
	}
	assert_true(credit >= want || n == ROOM_PARTS_MAX || a.ahead);
	assert_true(after.granted == before.granted + all);
}

static void do_commit(struct world *w)
{
	uint64_t len = 1 + draw(w, MIB), g, id, session, egroup;
	struct room_grant_info info;

	if (w->n_grants == 0 || w->n_extents == EXTENTS)
		return;
	g = w->grants[draw(w, w->n_grants)];
	id = g + draw(w, ROOM_EXTENTS_PER_GRANT);
	if (!room_grant_look(w->r, g, &info))
		return;
	session = info.session;
	egroup = info.egroup;
	assert_true(room_commit(w->r, session, egroup, id, len, info.copies - 1u) < 0);
	if (room_commit(w->r, session, egroup, id, len, info.copies) < 0)
		return;
	assert_int_equal(room_commit(w->r, session, egroup, id, len, 9), E_DENIED); /* (I4) twice */
	assert_int_equal(room_commit(w->r, session + 1, egroup, id, len, 9), E_DENIED);
	if (draw(w, 5) == 0) {
		room_uncommit(w->r, session, egroup, id, len);
		return;
	}
	w->extents[w->n_extents++] = (struct extent){ egroup, id, len, session };
}

static void do_unlink(struct world *w, size_t i)
{
	struct room_egroup_info info;

	assert_true(room_egroup(w->r, w->extents[i].egroup, &info));
	room_unlink(w->r, w->extents[i].egroup, w->extents[i].len);
	if (!info.lost)
		drop(w, w->extents[i].egroup, room_of(info.tier, w->extents[i].len));
	w->extents[i] = w->extents[--w->n_extents];
}

static void do_end_grants(struct world *w, uint64_t session)
{
	struct room_rest rest;
	uint64_t g;

	while ((g = room_session_grant(w->r, session)) != 0) {
		assert_true(room_grant_end(w->r, g, &rest));
		assert_false(room_grant_end(w->r, g, &rest));
		drop(w, rest.egroup, rest.credit_bytes);
	}
}

static void do_acknowledge(struct world *w)
{
	while (w->n_drops > 0) {
		w->n_drops--;
		room_dropped(w->r, w->drops[w->n_drops].egroup, w->drops[w->n_drops].server,
			w->drops[w->n_drops].room);
	}
	while (w->n_lefts > 0) {
		const struct left *l = &w->lefts[--w->n_lefts];

		room_left(w->r, l->server, l->device, l->room);
	}
}

/* What is to be dropped where it was is the whole egroup's business now. */
static void forget_drops(struct world *w, uint64_t egroup, uint32_t server)
{
	for (size_t i = 0; i < w->n_drops;)
		if (w->drops[i].egroup == egroup && w->drops[i].server == server)
			w->drops[i] = w->drops[--w->n_drops];
		else
			i++;
}

/* A copy is made, is ready, or is given up. */
static void do_member(struct world *w)
{
	struct room_egroup_info info;
	const struct room_member_info *m;
	uint32_t server, at = (uint32_t)draw(w, 64);
	uint64_t e = room_next_egroup(w->r, 0, &at);
	uint8_t device;

	if (e == 0)
		return;
	assert_true(room_egroup(w->r, e, &info));
	m = &info.members[draw(w, info.n_members)];
	if (m->state == ROOM_MEMBER_FILLING && draw(w, 2) == 0) {
		room_member_filled(w->r, e, m->server);
	} else if (draw(w, 2) == 0 && info.n_members > 1 && w->n_lefts < GRANTS) {
		forget_drops(w, e, m->server);
		w->lefts[w->n_lefts++] = (struct left){ room_member_leave(w->r, e, m->server),
			m->server, m->device };
	} else if (room_member_place(w->r, e, NULL, 0, &server, &device) == 0) {
		assert_int_equal(room_member_add(w->r, e, server, device), 0);
	}
}

static void do_empties(struct world *w)
{
	struct room_egroup_info info;
	uint64_t e;

	while ((e = room_empty_egroup(w->r)) != 0) {
		assert_true(room_egroup(w->r, e, &info));
		assert_int_equal(info.used_bytes + info.granted_bytes + info.orphaned_bytes, 0);
		if (info.lost) {
			room_egroup_gone(w->r, e);
			continue;
		}
		room_egroup_doom(w->r, e);
		for (uint8_t i = 0; i < info.n_members; i++) {
			room_audit(w->r);
			assert_int_equal(room_member_gone(w->r, e, info.members[i].server),
				i + 1 == info.n_members);
		}
	}
}

static void step(struct world *w)
{
	switch (draw(w, 13)) {
	case 0:
	case 1:
	case 2:
		do_grant(w);
		break;
	case 3:
	case 4:
	case 5:
	case 6:
		do_commit(w);
		break;
	case 7:
		if (w->n_extents > 0)
			do_unlink(w, (size_t)draw(w, w->n_extents));
		break;
	case 8:
		if (draw(w, 4) == 0)
			do_end_grants(w, 1 + draw(w, SESSIONS));
		break;
	case 9:
		do_acknowledge(w);
		break;
	case 10:
		do_empties(w);
		break;
	case 11:
		if (draw(w, 20) == 0)
			room_server_reborn(w->r, 1 + (uint32_t)draw(w, 3), 1 + draw(w, 1000), NULL,
				NULL);
		break;
	case 12:
		do_member(w);
		break;
	}
	room_audit(w->r);
}

static void every_byte_comes_back(void **state)
{
	struct world *w = malloc(sizeof *w);

	(void)state;
	for (uint64_t seed = 1; seed <= 30; seed++) {
		struct room_sum s;

		begin(w, seed);
		for (int i = 0; i < 1500; i++)
			step(w);
		for (uint64_t session = 1; session <= SESSIONS; session++)
			do_end_grants(w, session);
		while (w->n_extents > 0)
			do_unlink(w, 0);
		do_acknowledge(w);
		do_empties(w);
		room_audit(w->r);
		s = room_sum(w->r, 0, TIER_COUNT, 0);
		assert_true(s.free == s.capacity && s.capacity == 3 * 104 * (uint64_t)MIB);
		room_free(w->r);
	}
	free(w);
}

static void full_is_refused_early_and_whole(void **state)
{
	struct room_part parts[ROOM_PARTS_MAX];
	struct room_ask a;
	static struct world w;

	(void)state;
	begin(&w, 1);
	a = ask(&w, 1, 1, UINT64_C(400) * MIB); /* more than all devices have */
	assert_int_equal(room_grant(w.r, &a, parts), E_FULL);
	a = ask(&w, 1, 1, 100 * MIB);
	assert_true(room_grant(w.r, &a, parts) > 0);
	room_server_up(w.r, 1, false);
	room_server_up(w.r, 2, false);
	room_server_up(w.r, 3, false);
	a = ask(&w, 2, 2, 1);
	assert_int_equal(room_grant(w.r, &a, parts), E_FULL);
	room_free(w.r);
}

/* However many keep room for later, there is room for who needs it now. */
static void ahead_leaves_room(void **state)
{
	struct room_part parts[ROOM_PARTS_MAX];
	struct room_ask a;
	static struct world w;

	(void)state;
	begin(&w, 1);
	for (uint64_t session = 1; session <= 20; session++) {
		a = ask(&w, session, 1, 64 * MIB);
		a.ahead = true;
		a.n_tiers = 1;
		assert_true(room_grant(w.r, &a, parts) > 0);
	}
	a = ask(&w, 1, 1, 64 * MIB); /* the first one has his share */
	a.ahead = true;
	a.n_tiers = 1;
	assert_int_equal(room_grant(w.r, &a, parts), E_FULL);
	a = ask(&w, 21, 1, 2 * MIB);
	a.n_tiers = 1;
	assert_true(room_grant(w.r, &a, parts) > 0);
	room_free(w.r);
}

/* FULL means full: what is left of many egroups is given in pieces, once nothing larger is left. */
static void slivers_are_given_last(void **state)
{
	struct room_part parts[ROOM_PARTS_MAX];
	static struct world w;
	uint64_t granted = 0;
	struct room_ask a;

	(void)state;
	begin(&w, 1);
	for (int rc = 1; rc > 0;) {
		a = ask(&w, 1, 1, 7 * MIB);
		a.n_tiers = 1;
		rc = room_grant(w.r, &a, parts);
		granted += rc > 0 ? 7 * MIB : 0;
	}
	assert_true(granted + 7 * MIB > 3 * 64 * MIB);
	room_free(w.r);
}

static void spills_to_the_next_tier(void **state)
{
	struct room_part parts[ROOM_PARTS_MAX];
	bool dram = false, flash = false;
	static struct world w;
	int n;

	(void)state;
	begin(&w, 1);
	do {
		struct room_ask a = ask(&w, 1, 1, 8 * MIB);

		n = room_grant(w.r, &a, parts);
		for (int i = 0; i < n; i++) {
			assert_false(flash && parts[i].tier == TIER_DRAM); /* memory first */
			dram |= parts[i].tier == TIER_DRAM;
			flash |= parts[i].tier == TIER_FLASH;
		}
	} while (n > 0);
	assert_true(dram && flash);
	assert_true(room_sum(w.r, 0, TIER_DRAM, 0).free == 0);
	room_audit(w.r);
	room_free(w.r);
}

/* A grant has 64 ids: for small extents its credit is cut to what they use, and one answer brings
 * as many grants as it takes, out of one egroup. */
static void small_extents_get_many_ids_at_once(void **state)
{
	struct room_part parts[ROOM_PARTS_MAX];
	struct room_ask a;
	static struct world w;
	int n;

	(void)state;
	begin(&w, 1);
	a = ask(&w, 1, 1, 8 * MIB - 4096);
	a.extent_bytes = 10000; /* three blocks */
	n = room_grant(w.r, &a, parts);
	assert_int_equal(n, 11); /* 768 KiB each, the last one less */
	for (int i = 0; i < n; i++) {
		assert_int_equal(parts[i].egroup, parts[0].egroup);
		assert_int_equal(parts[i].fresh, i == 0);
		assert_true(i == n - 1 || parts[i].credit_bytes == UINT64_C(64) * 12288);
	}
	room_audit(w.r);
	a = ask(&w, 2, 2, MIB); /* on flash each of them has a header */
	a.extent_bytes = 64 << 10;
	a.tiers[0] = TIER_FLASH;
	a.n_tiers = 1;
	assert_int_equal(room_grant(w.r, &a, parts), 1);
	assert_int_equal(parts[0].credit_bytes, MIB + 16 * 4096);
	room_free(w.r);
}

/* The end of a session costs what it held, whatever the others hold. */
static void session_grants_are_a_list(void **state)
{
	struct room_part parts[ROOM_PARTS_MAX];
	struct room_rest rest;
	struct room_ask a;
	static struct world w;
	uint64_t g;
	int n = 0;

	(void)state;
	begin(&w, 1);
	for (uint64_t i = 0; i < 60; i++) {
		a = ask(&w, 1 + i % 3, 1, 4096);
		assert_int_equal(room_grant(w.r, &a, parts), 1);
	}
	for (; (g = room_session_grant(w.r, 2)) != 0; n++)
		assert_true(room_grant_end(w.r, g, &rest));
	assert_int_equal(n, 20);
	room_audit(w.r);
	assert_true(room_session_grant(w.r, 1) != 0);
	assert_true(room_session_grant(w.r, 3) != 0);
	assert_true(room_session_grant(w.r, 4) == 0);
	room_free(w.r);
}

static struct room_ask ask_copies(struct world *w, uint8_t copies, bool soft)
{
	struct room_ask a = ask(w, 1, 1, MIB);

	a.tiers[0] = TIER_FLASH;
	a.n_tiers = 1;
	a.copies = copies;
	a.soft = soft;
	return a;
}

/* Six servers, two on each of three hosts, the hosts of 1-2 and 3-4 in one rack. */
static void begin_places(struct world *w)
{
	begin(w, 1);
	for (uint32_t s = 1; s <= 6; s++) {
		assert_int_equal(room_device(w->r, s, 1, TIER_FLASH, 40 * MIB, 16 * MIB), 0);
		room_server_up(w->r, s, true);
		room_server_place(w->r, s, (s + 1) / 2, s <= 4 ? 7 : 8);
	}
}

static unsigned servers_of(const struct room_part *p)
{
	unsigned bits = 1u << p->server;

	for (uint8_t i = 0; i < p->n_others; i++)
		bits |= 1u << p->others[i].server;
	return bits;
}

static void copies_lie_as_far_apart_as_they_can(void **state)
{
	struct room_part parts[ROOM_PARTS_MAX];
	struct room_ask a;
	static struct world w;
	unsigned s;

	(void)state;
	begin_places(&w);
	a = ask_copies(&w, 2, false);
	a.near = 2;
	assert_int_equal(room_grant(w.r, &a, parts), 1);
	assert_int_equal(parts[0].server, 2);
	assert_true(servers_of(&parts[0]) & (1u << 5 | 1u << 6)); /* the other rack */
	a = ask_copies(&w, 3, false);
	assert_int_equal(room_grant(w.r, &a, parts), 1);
	s = servers_of(&parts[0]); /* each host once */
	assert_true((s & 6) != 0 && (s & 24) != 0 && (s & 96) != 0);
	a = ask_copies(&w, 4, false); /* four servers, on three hosts */
	assert_int_equal(room_grant(w.r, &a, parts), 1);
	assert_int_equal(__builtin_popcount(servers_of(&parts[0])), 4);
	room_audit(w.r);
	room_free(w.r);
}

static void too_few_servers_are_refused_or_do(void **state)
{
	struct room_part parts[ROOM_PARTS_MAX];
	struct room_egroup_info info;
	struct room_ask a;
	static struct world w;

	(void)state;
	begin(&w, 1);
	room_server_up(w.r, 1, false);
	a = ask_copies(&w, 3, false);
	assert_int_equal(room_grant(w.r, &a, parts), E_UNAVAILABLE);
	a = ask_copies(&w, 3, true);
	assert_int_equal(room_grant(w.r, &a, parts), 1);
	assert_int_equal(parts[0].n_others, 1);
	assert_true(room_egroup(w.r, parts[0].egroup, &info));
	assert_true(info.copies == 3 && info.soft && info.n_members == 2);
	room_server_up(w.r, 1, true); /* there are enough now: what has fewer is not added to */
	a = ask_copies(&w, 3, true);
	assert_int_equal(room_grant(w.r, &a, parts), 1);
	assert_int_equal(parts[0].n_others, 2);
	assert_true(parts[0].fresh);
	room_audit(w.r);
	room_free(w.r);
}

static void near_server_comes_first(void **state)
{
	struct room_part parts[ROOM_PARTS_MAX];
	struct room_ask a;
	static struct world w;

	(void)state;
	begin(&w, 1);
	a = ask(&w, 1, 1, MIB);
	a.near = 3;
	assert_int_equal(room_grant(w.r, &a, parts), 1);
	assert_int_equal(parts[0].server, 3);
	room_free(w.r);
}

static void restart_restores_the_same_sums(void **state)
{
	struct room_sum before, after;
	struct room_part p[ROOM_PARTS_MAX];
	struct room_ask a;
	static struct world w, v;

	(void)state;
	begin(&w, 3);
	a = ask(&w, 7, 1, 3 * MIB);
	assert_int_equal(room_grant(w.r, &a, p), 1);
	assert_int_equal(room_commit(w.r, 7, p[0].egroup, p[0].extent_first, MIB + 1, 1), 0);
	assert_int_equal(room_commit(w.r, 7, p[0].egroup, p[0].extent_first + 1, MIB, 1), 0);
	room_unlink(w.r, p[0].egroup, MIB);
	before = room_sum(w.r, 0, TIER_COUNT, 0);
	begin(&v, 3);
	assert_int_equal(room_restore_egroup(v.r, p[0].egroup, 1, p[0].server, p[0].device,
				 p[0].tier, p[0].egroup_bytes, 1),
		0);
	assert_int_equal(room_restore_grant(v.r, 7, p[0].egroup, p[0].extent_first, ~UINT64_C(3),
				 p[0].credit_bytes - 2 * MIB - 4096, 1),
		0);
	assert_int_equal(room_restore_extent(v.r, p[0].egroup, MIB + 1), 0);
	assert_int_equal(room_restore_drop(v.r, p[0].egroup, p[0].server, MIB), 0);
	after = room_sum(v.r, 0, TIER_COUNT, 0);
	assert_memory_equal(&before, &after, sizeof before);
	assert_int_equal(room_commit(v.r, 7, p[0].egroup, p[0].extent_first, 1, 1), E_DENIED);
	assert_int_equal(room_commit(v.r, 7, p[0].egroup, p[0].extent_first + 2, 1, 1), 0);
	assert_int_equal(room_restore_extent(v.r, p[0].egroup, 100 * MIB), E_CORRUPT);
	assert_int_equal(room_restore_extent(v.r, 999999, 1), E_CORRUPT);
	room_audit(v.r);
	room_free(v.r);
	room_free(w.r);
}

/* What is granted as room for an extent is what the extent takes on its device. */
static void room_fits_what_it_holds(void **state)
{
	for (uint8_t tier = 0; tier < TIER_COUNT; tier++) {
		for (uint64_t room = 0; room < 10 * MIB; room += 4096) {
			uint64_t len = room_fits(tier, room);

			assert_true(len == 0 || room_of(tier, len) <= room);
			assert_true(room_of(tier, len + 4096) > room);
		}
	}
	assert_int_equal(room_of(TIER_FLASH, 1), 8192);
	assert_int_equal(room_of(TIER_FLASH, 4 * MIB), 4 * MIB + 8192);
	assert_int_equal(room_of(TIER_DRAM, 1), 4096);
}

static void map64_agrees_with_an_array(void **state)
{
	enum { KEYS = 200 };
	struct prng p = prng_fork(5, 1);
	int64_t model[KEYS];
	struct map64 m;

	(void)state;
	map64_init(&m);
	memset(model, -1, sizeof model);
	for (int i = 0; i < 200000; i++) {
		uint64_t k = prng_below(&p, KEYS), key = k * UINT64_C(0x100000001);
		uint32_t v = (uint32_t)prng_below(&p, 1000), *at;

		if (prng_odds(&p, 1, 2)) {
			map64_put(&m, key, v);
			model[k] = v;
		} else {
			assert_int_equal(map64_delete(&m, key), model[k] >= 0);
			model[k] = -1;
		}
		k = prng_below(&p, KEYS);
		at = map64_get(&m, k * UINT64_C(0x100000001));
		assert_true((at == NULL) == (model[k] < 0));
		assert_true(at == NULL || *at == model[k]);
	}
	map64_fini(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(map64_agrees_with_an_array),
		cmocka_unit_test(room_fits_what_it_holds),
		cmocka_unit_test(every_byte_comes_back),
		cmocka_unit_test(full_is_refused_early_and_whole),
		cmocka_unit_test(ahead_leaves_room),
		cmocka_unit_test(slivers_are_given_last),
		cmocka_unit_test(spills_to_the_next_tier),
		cmocka_unit_test(small_extents_get_many_ids_at_once),
		cmocka_unit_test(session_grants_are_a_list),
		cmocka_unit_test(copies_lie_as_far_apart_as_they_can),
		cmocka_unit_test(too_few_servers_are_refused_or_do),
		cmocka_unit_test(near_server_comes_first),
		cmocka_unit_test(restart_restores_the_same_sums),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
