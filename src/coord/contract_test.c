/* SPDX-License-Identifier: Apache-2.0 */
#include "coord/contract_test.h"
#include "base/check.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { PATIENCE_S = 10 };

static struct err_note note;

struct coord_state contract_state(uint64_t epoch, uint32_t n)
{
	struct coord_state st = { .epoch = epoch, .n_in_sync = n, .target_size = n };

	for (uint32_t i = 0; i < n; i++)
		st.in_sync[i] = (struct coord_replica){ i + 1, epoch * 100 + i };
	st.primary = st.in_sync[0];
	check(coord_state_valid(&st));
	return st;
}

struct coord_node contract_node(uint64_t id)
{
	struct coord_node n = { .id = id, .role = "meta,store" };

	snprintf(n.address, sizeof n.address, "tcp:10.0.0.%u:7777", (unsigned)id);
	snprintf(n.host, sizeof n.host, "h%u", (unsigned)id);
	check(coord_node_valid(&n));
	return n;
}

static uint64_t soon(struct sys *s)
{
	return sys_after(s, PATIENCE_S * SYS_SEC);
}

static void same_state(const struct coord_state *a, const struct coord_state *b)
{
	char x[COORD_TEXT_MAX], y[COORD_TEXT_MAX];

	coord_state_valid(a);
	assert_int_equal(a->revision, b->revision);
	assert_int_equal(a->epoch, b->epoch);
	assert_int_equal(a->n_in_sync, b->n_in_sync);
	snprintf(x, sizeof x, "%llu/%llu", (unsigned long long)a->primary.id,
		(unsigned long long)a->primary.incarnation);
	snprintf(y, sizeof y, "%llu/%llu", (unsigned long long)b->primary.id,
		(unsigned long long)b->primary.incarnation);
	assert_string_equal(x, y);
}

static void shards_hold(struct coord *a, struct coord *b, struct sys *s)
{
	struct coord_state to = contract_state(1, 1), now, seen, other;

	assert_int_equal(coord_read(a, 7, soon(s), &seen, &note), E_NOTFOUND);
	assert_true(note.text[0] != '\0');
	assert_int_equal(coord_swap(a, 7, 12345, &to, soon(s), &now, &note), E_CONFLICT);
	assert_int_equal(now.revision, 0);
	assert_int_equal(coord_swap(a, 7, 0, &to, soon(s), &now, &note), 0);
	assert_true(now.revision > 0);
	assert_int_equal(coord_read(b, 7, soon(s), &seen, &note), 0);
	same_state(&now, &seen);
	/* what is there is not made again, and a stale expectation is told what is there */
	assert_int_equal(coord_swap(b, 7, 0, &to, soon(s), &other, &note), E_CONFLICT);
	same_state(&now, &other);
	to = contract_state(2, COORD_IN_SYNC_MAX);
	assert_int_equal(coord_swap(b, 7, seen.revision, &to, soon(s), &other, &note), 0);
	assert_true(other.revision > seen.revision);
	assert_int_equal(other.epoch, 2);
	assert_int_equal(coord_swap(a, 7, seen.revision, &to, soon(s), &now, &note), E_CONFLICT);
	same_state(&now, &other);
	/* a swap of the same text is a change too: it consumes the revision */
	assert_int_equal(coord_swap(a, 7, other.revision, &to, soon(s), &now, &note), 0);
	assert_true(now.revision > other.revision);
	assert_int_equal(coord_read(b, 77, soon(s), &seen, &note), E_NOTFOUND);
	to = contract_state(1, 3);
	assert_int_equal(coord_swap(b, 77, 0, &to, soon(s), &other, &note), 0);
	assert_int_equal(coord_read(b, 7, soon(s), &seen, &note), 0);
	same_state(&now, &seen);
}

static void nodes_hold(struct coord *a, struct coord *b, struct sys *s)
{
	static const uint64_t ids[] = { 12, 3, 900, 7 };
	struct coord_node to, now, other, *all;
	uint64_t revision_3 = 0;
	uint32_t n;

	assert_int_equal(coord_nodes(a, soon(s), &all, &n, &note), 0);
	assert_int_equal(n, 0);
	free(all);
	for (int i = 0; i < 4; i++) {
		to = contract_node(ids[i]);
		assert_int_equal(coord_node_put(a, 0, &to, soon(s), &now, &note), 0);
		assert_true(now.revision > revision_3);
		if (ids[i] == 3)
			revision_3 = now.revision;
	}
	assert_int_equal(coord_nodes(b, soon(s), &all, &n, &note), 0);
	assert_int_equal(n, 4);
	assert_int_equal(all[0].id, 3);
	assert_int_equal(all[1].id, 7);
	assert_int_equal(all[2].id, 12);
	assert_int_equal(all[3].id, 900);
	assert_int_equal(all[0].revision, revision_3);
	assert_string_equal(all[3].host, "h900");
	assert_string_equal(all[3].rack, "");
	free(all);
	to = contract_node(3);
	snprintf(to.rack, sizeof to.rack, "r9");
	assert_int_equal(coord_node_put(b, 0, &to, soon(s), &other, &note), E_CONFLICT);
	assert_int_equal(other.revision, revision_3);
	assert_int_equal(coord_node_put(b, revision_3, &to, soon(s), &now, &note), 0);
	assert_int_equal(coord_node_remove(a, 3, revision_3, soon(s), &note), E_CONFLICT);
	assert_int_equal(coord_node_remove(a, 3, now.revision, soon(s), &note), 0);
	assert_int_equal(coord_node_remove(b, 3, now.revision, soon(s), &note), 0);
	assert_int_equal(coord_nodes(b, soon(s), &all, &n, &note), 0);
	assert_int_equal(n, 3);
	assert_int_equal(all[0].id, 7);
	free(all);
	/* a node that comes back has no revision of its past */
	assert_int_equal(coord_node_put(b, 0, &to, soon(s), &other, &note), 0);
	assert_true(other.revision > now.revision);
}

struct swap_later {
	struct coord *c;
	struct sys *s;
};

static int swap_later(void *arg)
{
	struct swap_later *l = arg;
	struct coord_state now, to = contract_state(1, 1);

	assert_int_equal(fiber_sleep(sys_after(l->s, 20 * SYS_MS)), 0);
	assert_int_equal(coord_swap(l->c, 55, 0, &to, soon(l->s), &now, &note), 0);
	return 0;
}

/* Hints come, sooner or later, when nothing fails; one that was not waited for is not lost. */
static void hints_hold(struct coord *a, struct coord *b, struct sys *s)
{
	struct coord_state seen, to = contract_state(2, 2), now;
	struct swap_later later = { b, s };
	uint64_t hint = 0;
	struct group g;
	int rc;

	assert_int_equal(coord_wait(a, &hint, soon(s)), 0);
	group_init(&g, sys_loop(s));
	assert_int_equal(fiber_start(&g, "later", swap_later, &later), 0);
	while ((rc = coord_read(a, 55, soon(s), &seen, &note)) == E_NOTFOUND)
		assert_int_equal(coord_wait(a, &hint, soon(s)), 0);
	assert_int_equal(rc, 0);
	assert_int_equal(group_wait(&g), 0);
	while (coord_wait(a, &hint, sys_after(s, 200 * SYS_MS)) == 0)
		;
	assert_int_equal(coord_swap(a, 55, seen.revision, &to, soon(s), &now, &note), 0);
	assert_int_equal(coord_wait(a, &hint, soon(s)), 0);
	while ((rc = coord_wait(a, &hint, sys_after(s, 200 * SYS_MS))) == 0)
		;
	assert_int_equal(rc, E_TIMEOUT);
}

static void races_hold(struct coord *a, struct coord *b, struct sys *s)
{
	struct ledger *ledger = calloc(1, sizeof *ledger);
	struct racer racers[6];
	struct group g;

	assert_non_null(ledger);
	group_init(&g, sys_loop(s));
	for (uint32_t i = 0; i < 6; i++) {
		racers[i] = (struct racer){ ledger, i % 2 == 0 ? a : b, s, 9, 5, i + 1,
			PATIENCE_S * SYS_SEC };
		assert_int_equal(fiber_start(&g, "racer", contract_race, &racers[i]), 0);
	}
	assert_int_equal(group_wait(&g), 0);
	assert_int_equal(ledger->n_done, 30);
	assert_int_equal(ledger->n_failed + ledger->n_unknown, 0);
	assert_int_equal(ledger->epoch, 30);
	contract_settle(&racers[0]);
	assert_int_equal(ledger->epoch, 30);
	free(ledger);
}

void contract_holds(struct coord *a, struct coord *b, struct sys *s)
{
	shards_hold(a, b, s);
	nodes_hold(a, b, s);
	hints_hold(a, b, s);
	races_hold(a, b, s);
}

/* ---- races ---- */
/* Somebody was told that this is the state; floor: what was known when he asked. */
static void told(struct ledger *l, const struct coord_state *st, uint64_t floor)
{
	assert_true(st->epoch > 0);
	assert_true(st->epoch < LEDGER_EPOCHS_MAX);
	assert_true(st->epoch >= floor);
	if (l->signatures[st->epoch] == 0)
		l->signatures[st->epoch] = st->primary.incarnation;
	assert_int_equal(l->signatures[st->epoch], st->primary.incarnation);
	if (st->epoch > l->epoch)
		l->epoch = st->epoch;
}

PARKS static int look(struct racer *r, struct coord_state *ret_st)
{
	uint64_t floor = r->ledger->epoch;
	int rc = coord_read(r->c, r->shard, sys_after(r->sys, r->patience_ns), ret_st, &note);

	if (rc == 0) {
		told(r->ledger, ret_st, floor);
		r->ledger->n_reads++;
	} else if (rc == E_NOTFOUND) {
		assert_int_equal(floor, 0);
		*ret_st = (struct coord_state){ 0 };
	}
	return rc == E_NOTFOUND ? 0 : rc;
}

static void swapped(struct racer *r, int rc, const struct coord_state *to,
	const struct coord_state *now, uint64_t floor)
{
	struct ledger *l = r->ledger;

	if (rc == 0) {
		told(l, now, floor);
		assert_false(l->taken[now->epoch]);
		l->taken[now->epoch] = true;
		l->n_done++;
	} else if (rc == E_CONFLICT) {
		if (now->revision > 0)
			told(l, now, floor);
		else
			assert_int_equal(floor, 0);
		/* refused, and yet there it is */
		assert_true(now->primary.incarnation != to->primary.incarnation);
		l->n_conflicts++;
	} else if (rc == E_UNKNOWN || rc == E_CANCELED) {
		l->n_unknown++;
	} else {
		l->n_failed++;
	}
}

int contract_race(void *arg)
{
	struct racer *r = arg;
	uint64_t n = 0;

	for (uint32_t done = 0; r->n_swaps == 0 || done < r->n_swaps;) {
		struct coord_state seen, to = contract_state(1, 1), now;
		uint64_t floor;
		int rc = look(r, &seen);

		if (rc == E_CANCELED)
			return rc;
		if (rc < 0) {
			r->ledger->n_failed++;
			if (fiber_sleep(sys_after(r->sys, SYS_MS)) < 0)
				return E_CANCELED;
			continue;
		}
		to.epoch = seen.epoch + 1;
		to.primary.incarnation = to.in_sync[0].incarnation = r->id << 32 | ++n;
		floor = r->ledger->epoch;
		rc = coord_swap(r->c, r->shard, seen.revision, &to,
			sys_after(r->sys, r->patience_ns), &now, &note);
		swapped(r, rc, &to, &now, floor);
		if (rc == E_CANCELED)
			return rc;
		done += rc == 0;
	}
	return 0;
}

void contract_settle(struct racer *r)
{
	struct coord_state seen;

	assert_int_equal(look(r, &seen), 0);
	assert_in_range(seen.epoch, r->ledger->n_done, r->ledger->n_done + r->ledger->n_unknown);
}
