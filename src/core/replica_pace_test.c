/* SPDX-License-Identifier: Apache-2.0 */
/* One that is far behind comes in again within bounded time, and leaves the others most of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/replica.h"
#include <string.h>

enum { ME = 1, BEHIND = 2, OTHER = 3, BOOT = 77 };
#define MS 1000000ull

/* A primary, a member that has everything at once, and one that takes cost_us for a record. */
struct rig {
	struct replica r;
	uint64_t now_ns, last, epoch_from; /* records from there on are of epoch 2 */
	uint64_t cost_us, load_per_s, answers_ms; /* how often it answers; 0: at once */
	uint64_t got, written, told, left_us, due, sent, busy_ms;
	bool member_lives, heard, lost, proposed;
	uint64_t heard_sent_ns;
	struct replica_config config;
};

static struct replica_place place(const struct rig *g, uint64_t index)
{
	uint64_t epoch = index >= g->epoch_from ? 2 : 1;

	return (struct replica_place){ index, index == 0 ? 0 : epoch, index * 1000 };
}

static bool log_at(void *arg, uint64_t index, struct replica_place *ret_place)
{
	const struct rig *g = arg;

	if (index <= g->last)
		*ret_place = place(g, index);
	return index <= g->last;
}

static void said(struct rig *g, const struct replica_msg *m)
{
	if (m->to.id != BEHIND)
		return;
	if (m->kind == REPLICA_HEARTBEAT) {
		g->heard = true;
		g->heard_sent_ns = m->sent_ns;
	} else if (m->kind == REPLICA_APPEND) {
		g->sent += m->n;
		if (!g->lost && m->prev.index <= g->got && m->prev.index + m->n > g->got)
			g->got = m->prev.index + m->n;
	}
}

static void step(struct rig *g, struct replica_event *ev)
{
	const struct replica_todo *t;

	ev->now_ns = g->now_ns;
	t = replica_step(&g->r, ev);
	for (uint32_t i = 0; i < t->n; i++) {
		const struct replica_do *d = &t->items[i];

		if (d->kind == REPLICA_DO_SEND)
			said(g, &d->msg);
		if (d->kind != REPLICA_DO_SWAP)
			continue;
		g->proposed = true;
		g->config = d->config;
	}
}

static void coord(struct rig *g, enum replica_outcome outcome, struct replica_config c)
{
	struct replica_event ev = { .kind = REPLICA_EV_COORD };

	ev.coord.op = g->r.op;
	ev.coord.outcome = outcome;
	ev.coord.config = c;
	g->proposed = false;
	step(g, &ev);
}

static void ack(struct rig *g, uint64_t from, uint64_t got, uint64_t written, uint64_t sent_ns)
{
	struct replica_event ev = { .kind = REPLICA_EV_MSG };

	ev.msg = (struct replica_msg){ .kind = REPLICA_ACK,
		.from = { from, 1 },
		.to = { ME, 1 },
		.epoch = 2,
		.matched = got,
		.written = written,
		.synced = written,
		.last = place(g, got),
		.sent_ns = sent_ns,
		.flags = REPLICA_SOUND };
	step(g, &ev);
}

static void grow(struct rig *g)
{
	struct replica_event ev = { .kind = REPLICA_EV_APPENDED };

	g->last++;
	ev.log.place = place(g, g->last);
	ev.log.want_synced = g->last;
	step(g, &ev);
	ev.log.cuts = g->r.cuts;
	ev.kind = REPLICA_EV_WRITTEN;
	step(g, &ev);
	ev.kind = REPLICA_EV_SYNCED;
	step(g, &ev);
}

static void tick(struct rig *g)
{
	struct replica_event ev = { .kind = REPLICA_EV_TICK };

	step(g, &ev);
}

static void write_some(struct rig *g)
{
	bool speaks = g->answers_ms == 0 || g->now_ns / MS % g->answers_ms == 0;

	g->busy_ms += g->written < g->got;
	g->left_us = g->written < g->got ? g->left_us + 1000 : 0;
	while (g->written < g->got && g->left_us >= g->cost_us) {
		g->left_us -= g->cost_us;
		g->written++;
	}
	if (speaks && (g->heard || g->written > g->told)) {
		g->told = g->written;
		ack(g, BEHIND, g->got, g->written, g->heard ? g->heard_sent_ns : 0);
		g->heard = false;
	}
}

/* A millisecond. */
static void pass(struct rig *g)
{
	g->now_ns += MS;
	if (g->now_ns / MS % 10 == 0)
		tick(g);
	for (g->due += g->load_per_s; g->due >= 1000; g->due -= 1000)
		grow(g);
	if (g->member_lives)
		ack(g, OTHER, g->last, g->last, g->now_ns);
	write_some(g);
}

/* ME leads; nobody has heard of BEHIND yet, which has the first record only. */
static void lead(struct rig *g, uint64_t behind, uint64_t cost_us, uint64_t load_per_s)
{
	struct replica_config c = { .revision = 5,
		.epoch = 1,
		.primary = { BEHIND, 1 },
		.in_sync = { .ids = { ME, BEHIND, OTHER }, .n = 3 },
		.target_size = 3 };
	struct replica_event ev = { .kind = REPLICA_EV_START };

	memset(g, 0, sizeof *g);
	g->now_ns = 1000 * MS;
	g->last = 1 + behind;
	g->epoch_from = g->last + 1;
	g->cost_us = cost_us;
	replica_init(&g->r, NULL, &(struct replica_log){ log_at, g });
	replica_peers(&g->r, (uint64_t[]){ BEHIND, OTHER }, 2);
	ev.start = (struct replica_start){ .self = { ME, 1 },
		.boot = BOOT,
		.mark = { 1, BOOT },
		.last = place(g, g->last),
		.synced = g->last };
	step(g, &ev);
	coord(g, REPLICA_THERE, c);
	for (uint32_t i = 0; i < 30 && !g->proposed; i++) {
		g->now_ns += 10 * MS;
		tick(g);
		if (g->r.op != 0 && !g->proposed)
			coord(g, REPLICA_THERE, c);
	}
	assert_true(g->proposed);
	g->config.revision = 6;
	coord(g, REPLICA_SWAPPED, g->config);
	ev = (struct replica_event){ .kind = REPLICA_EV_MARKED, .mark = g->r.marking };
	step(g, &ev);
	grow(g);
	g->member_lives = true;
	ack(g, OTHER, g->last, g->last, g->now_ns);
	assert_int_equal(g->r.state.now, REPLICA_PRIMARY);
	assert_int_equal(g->r.config.in_sync.n, 2);
	g->load_per_s = load_per_s;
}

static void comes_back(struct rig *g)
{
	struct replica_event ev = { .kind = REPLICA_EV_MSG };

	g->got = g->written = 1;
	ev.msg = (struct replica_msg){ .kind = REPLICA_ACK,
		.from = { BEHIND, 1 },
		.to = { ME, 1 },
		.epoch = 2,
		.last = place(g, 1),
		.flags = REPLICA_SOUND | REPLICA_MISMATCH };
	step(g, &ev);
}

/* Until it is to be admitted. */
static uint64_t ms_until_in(struct rig *g, uint64_t ms_max)
{
	uint64_t ms = 0;

	comes_back(g);
	while (ms < ms_max && !g->proposed) {
		pass(g);
		ms++;
	}
	assert_true(g->proposed);
	assert_int_equal(g->config.in_sync.n, g->r.config.in_sync.n + 1);
	return ms;
}

static void the_others_have_most_of_the_time(void **state)
{
	static struct rig g;

	lead(&g, 4000, 1000, 0);
	comes_back(&g);
	for (int i = 0; i < 2000; i++)
		pass(&g);
	assert_in_range(g.busy_ms, 150, 500);
	assert_int_equal(g.sent, g.got - 1); /* nothing twice */
}

static void what_is_done_soon_has_no_rests(void **state)
{
	static struct rig g;

	lead(&g, 4000, 5, 100);
	assert_in_range(ms_until_in(&g, 1000), 20, 400);
}

static void it_comes_in_whatever_it_takes(void **state)
{
	static const uint64_t costs_us[] = { 20, 100, 1000, 5000 }, loads_percent[] = { 0, 50, 80 };
	static struct rig g;

	for (size_t i = 0; i < sizeof costs_us / sizeof costs_us[0]; i++)
		for (size_t k = 0; k < sizeof loads_percent / sizeof loads_percent[0]; k++) {
			uint64_t behind = 4000000 / costs_us[i]; /* four seconds of work */
			uint64_t load = 10000 * loads_percent[k] / costs_us[i];
			uint64_t full_ms = 4000 * 100 / (100 - loads_percent[k]);

			lead(&g, behind, costs_us[i], load);
			assert_in_range(ms_until_in(&g, 100000), 4000, 3 * full_ms + 10000);
		}
}

static void who_is_slow_is_not_sent_it_twice(void **state)
{
	static struct rig g;

	lead(&g, 200, 25000, 0);
	ms_until_in(&g, 60000);
	assert_int_equal(g.sent, g.got - 1);
	/* also when it hardly gets to say so */
	lead(&g, 200, 1000, 0);
	g.answers_ms = 70;
	ms_until_in(&g, 60000);
	assert_in_range(g.sent, g.got - 1, g.got + 8);
	/* but what was lost comes again */
	lead(&g, 200, 1000, 0);
	g.lost = true;
	comes_back(&g);
	for (int i = 0; i < 20; i++)
		pass(&g);
	assert_int_equal(g.got, 1);
	g.lost = false;
	for (int i = 0; i < 100; i++)
		pass(&g);
	assert_true(g.written > 1);
}

static void nobody_rests_while_nothing_can_be_committed(void **state)
{
	static struct rig g;

	lead(&g, 1000, 1000, 0);
	g.member_lives = false;
	for (int i = 0; i < 400 && !g.proposed; i++) {
		g.now_ns += 10 * MS;
		tick(&g);
	}
	assert_true(g.proposed);
	assert_int_equal(g.config.in_sync.n, 1);
	g.config.revision = 7;
	coord(&g, REPLICA_SWAPPED, g.config);
	assert_in_range(ms_until_in(&g, 5000), 900, 1200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_others_have_most_of_the_time),
		cmocka_unit_test(what_is_done_soon_has_no_rests),
		cmocka_unit_test(it_comes_in_whatever_it_takes),
		cmocka_unit_test(who_is_slow_is_not_sent_it_twice),
		cmocka_unit_test(nobody_rests_while_nothing_can_be_committed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
