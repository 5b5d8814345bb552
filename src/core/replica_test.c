/* SPDX-License-Identifier: Apache-2.0 */
/* Each rule of the replication protocol, one replica at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/replica.h"
#include <string.h>

enum { ME = 1, B = 2, C = 3, BOOT = 77, LOG_MAX = 256 };
#define MS 1000000ull

/* A replica with a log that does at once what it is told, and no disk or network. */
struct rig {
	struct replica r;
	struct replica_place log[LOG_MAX];
	uint64_t last, now_ns;
	const struct replica_todo *todo;
};

static bool log_at(void *arg, uint64_t index, struct replica_place *ret_place)
{
	const struct rig *g = arg;

	if (index > g->last)
		return false;
	*ret_place = g->log[index];
	return true;
}

/* Records of one history have one chain: equal up to where the branch is another. */
static struct replica_place place(uint64_t index, uint64_t epoch, uint64_t branch)
{
	return (struct replica_place){ index, epoch, index == 0 ? 0 : index * 1000 + branch };
}

static const struct replica_do *done(const struct rig *g, enum replica_do_kind kind)
{
	for (uint32_t i = 0; i < g->todo->n; i++)
		if (g->todo->items[i].kind == kind)
			return &g->todo->items[i];
	return NULL;
}

static const struct replica_msg *sent(const struct rig *g, enum replica_msg_kind kind, uint64_t to)
{
	for (uint32_t i = 0; i < g->todo->n; i++) {
		const struct replica_do *d = &g->todo->items[i];

		if (d->kind == REPLICA_DO_SEND && d->msg.kind == kind && d->msg.to.id == to)
			return &d->msg;
	}
	return NULL;
}

static void step(struct rig *g, struct replica_event *ev)
{
	ev->now_ns = g->now_ns;
	g->todo = replica_step(&g->r, ev);
	for (uint32_t i = 0; i < g->todo->n; i++) {
		const struct replica_do *d = &g->todo->items[i];

		if (d->kind == REPLICA_DO_CUT)
			g->last = d->index;
		for (uint32_t k = 0; d->kind == REPLICA_DO_WRITE && k < ev->msg.n; k++)
			if (ev->msg.places[k].index >= d->index)
				g->log[++g->last] = ev->msg.places[k];
		if (d->kind == REPLICA_DO_INSTALL) {
			g->last = d->place.index;
			g->log[g->last] = d->place;
		}
	}
}

static void tick(struct rig *g, uint64_t ms)
{
	for (uint64_t i = 0; i < ms; i += 10) {
		struct replica_event ev = { .kind = REPLICA_EV_TICK };

		g->now_ns += 10 * MS;
		step(g, &ev);
	}
}

static struct replica_config config(uint64_t revision, uint64_t epoch, uint64_t primary, uint32_t n)
{
	struct replica_config c = { .revision = revision,
		.epoch = epoch,
		.primary = { primary, 1 },
		.in_sync = { .ids = { ME, B, C }, .n = n },
		.target_size = n };

	return c;
}

static void coord(struct rig *g, enum replica_outcome outcome, struct replica_config c)
{
	struct replica_event ev = { .kind = REPLICA_EV_COORD };

	ev.coord.op = g->r.op;
	ev.coord.outcome = outcome;
	ev.coord.config = c;
	step(g, &ev);
}

/* With `last` records of epoch 1 in its log, in a set of three that B leads. */
static void begin(struct rig *g, uint64_t last, uint64_t sound_boot, bool rotten)
{
	struct replica_event ev = { .kind = REPLICA_EV_START };

	memset(g, 0, sizeof *g);
	g->now_ns = 1000 * MS;
	for (uint64_t i = 1; i <= last; i++)
		g->log[i] = place(i, 1, 0);
	g->last = last;
	replica_init(&g->r, NULL, &(struct replica_log){ log_at, g });
	replica_peers(&g->r, (uint64_t[]){ B, C }, 2);
	ev.start = (struct replica_start){ .self = { ME, 1 },
		.boot = BOOT,
		.mark = { 1, sound_boot },
		.last = place(last, 1, 0),
		.rotten = rotten };
	step(g, &ev);
	assert_non_null(done(g, REPLICA_DO_READ));
	coord(g, REPLICA_THERE, config(5, 1, B, 3));
}

static void say(struct rig *g, enum replica_event_kind kind, struct replica_place p)
{
	struct replica_event ev = { .kind = kind };

	ev.log.place = p;
	ev.log.cuts = g->r.cuts;
	step(g, &ev);
}

static void marked(struct rig *g)
{
	struct replica_event ev = { .kind = REPLICA_EV_MARKED, .mark = g->r.marking };

	step(g, &ev);
}

static void message(struct rig *g, struct replica_msg m)
{
	struct replica_event ev = { .kind = REPLICA_EV_MSG, .msg = m };

	ev.msg.to.id = ME;
	step(g, &ev);
}

static void heartbeat(struct rig *g, uint64_t from, uint64_t epoch)
{
	message(g, (struct replica_msg){ .kind = REPLICA_HEARTBEAT,
			   .from = { from, 1 },
			   .epoch = epoch,
			   .sent_ns = 5 });
}

static void ack(struct rig *g, uint64_t from, uint64_t written, uint64_t sent_ns, uint32_t flags)
{
	message(g, (struct replica_msg){ .kind = REPLICA_ACK,
			   .from = { from, 1 },
			   .epoch = g->r.mark.epoch,
			   .matched = written,
			   .written = written,
			   .synced = written,
			   .last = place(written, 1, 0),
			   .sent_ns = sent_ns,
			   .flags = flags });
}

static void append(struct rig *g, uint64_t epoch, struct replica_place prev,
	const struct replica_place *places, uint32_t n, uint64_t commit)
{
	message(g, (struct replica_msg){ .kind = REPLICA_APPEND,
			   .from = { B, 1 },
			   .to = { ME, 1 },
			   .epoch = epoch,
			   .prev = prev,
			   .n = n,
			   .places = places,
			   .commit = commit,
			   .whole = commit });
}

static void grow(struct rig *g)
{
	g->last++;
	g->log[g->last] = place(g->last, g->r.mark.epoch, 0);
	say(g, REPLICA_EV_APPENDED, g->log[g->last]);
}

/* ME has won against B; the record of its epoch is appended and written here. */
static void win(struct rig *g, uint64_t last)
{
	struct replica_config c;

	begin(g, last, BOOT, false);
	tick(g, 110);
	coord(g, REPLICA_THERE, config(5, 1, B, 3));
	assert_non_null(done(g, REPLICA_DO_SWAP));
	c = done(g, REPLICA_DO_SWAP)->config;
	c.revision = 6;
	coord(g, REPLICA_SWAPPED, c);
	marked(g);
	assert_non_null(done(g, REPLICA_DO_BEGIN));
	grow(g);
	say(g, REPLICA_EV_WRITTEN, g->log[g->last]);
}

/* And C holds its log. */
static void lead(struct rig *g, uint64_t last)
{
	win(g, last);
	ack(g, C, g->last, g->now_ns, REPLICA_SOUND);
	assert_int_equal(g->r.state.now, REPLICA_PRIMARY);
}

static void commits_what_all_have_written(void **state)
{
	static struct rig g;

	lead(&g, 10);
	grow(&g);
	say(&g, REPLICA_EV_WRITTEN, g.log[12]);
	assert_null(done(&g, REPLICA_DO_COMMIT));
	ack(&g, B, 12, 0, 0); /* no member */
	assert_null(done(&g, REPLICA_DO_COMMIT));
	ack(&g, C, 12, 0, 0);
	assert_int_equal(done(&g, REPLICA_DO_COMMIT)->commit, 12);
	assert_int_equal(done(&g, REPLICA_DO_COMMIT)->synced_commit, 0);
	say(&g, REPLICA_EV_SYNCED, g.log[12]);
	assert_int_equal(done(&g, REPLICA_DO_COMMIT)->synced_commit, 12);
}

static void a_member_takes_over_by_one_swap(void **state)
{
	static struct rig g;
	const struct replica_do *d;

	begin(&g, 10, BOOT, false);
	tick(&g, 100);
	assert_null(done(&g, REPLICA_DO_READ));
	tick(&g, 10);
	assert_non_null(done(&g, REPLICA_DO_READ));
	coord(&g, REPLICA_THERE, config(5, 1, B, 3));
	d = done(&g, REPLICA_DO_SWAP);
	assert_int_equal(d->expected, 5);
	assert_int_equal(d->config.epoch, 2);
	assert_int_equal(d->config.primary.id, ME);
	assert_int_equal(d->config.in_sync.n, 2);
	assert_false(replica_set_has(&d->config.in_sync, B));
	/* one who is not in the set does not */
	begin(&g, 10, BOOT, false);
	tick(&g, 110);
	{
		struct replica_config c = config(7, 1, B, 3);

		c.in_sync.ids[0] = 9;
		coord(&g, REPLICA_THERE, c);
	}
	assert_null(done(&g, REPLICA_DO_SWAP));
	assert_int_equal(g.r.state.now, REPLICA_LEARNER);
}

static void who_was_late_is_waited_for_longer(void **state)
{
	static struct rig g;

	begin(&g, 10, BOOT, false);
	heartbeat(&g, B, 1);
	tick(&g, 90);
	heartbeat(&g, B, 1); /* lived */
	tick(&g, 170);
	assert_null(done(&g, REPLICA_DO_READ));
	tick(&g, 10);
	assert_non_null(done(&g, REPLICA_DO_READ));
	/* not for ever */
	begin(&g, 10, BOOT, false);
	heartbeat(&g, B, 1);
	tick(&g, 90);
	for (int ms = 0; ms < 31000; ms += 20) {
		heartbeat(&g, B, 1);
		tick(&g, 20);
	}
	tick(&g, 90);
	assert_non_null(done(&g, REPLICA_DO_READ));
	/* a primary waits so for a member */
	lead(&g, 10);
	say(&g, REPLICA_EV_SYNCED, g.log[11]);
	tick(&g, 140);
	ack(&g, C, 11, 0, REPLICA_SOUND);
	tick(&g, 280);
	assert_null(done(&g, REPLICA_DO_SWAP));
	tick(&g, 10);
	assert_non_null(done(&g, REPLICA_DO_SWAP));
}

static void a_lower_epoch_is_refused_and_a_higher_one_deposes(void **state)
{
	static struct rig g;

	lead(&g, 10);
	heartbeat(&g, B, 1);
	assert_int_equal(sent(&g, REPLICA_REFUSE, B)->epoch, 2);
	message(&g, (struct replica_msg){ .kind = REPLICA_REFUSE, .from = { C, 1 }, .epoch = 3 });
	assert_int_equal(g.r.state.now, REPLICA_FENCED);
	assert_non_null(done(&g, REPLICA_DO_STOP));
	assert_non_null(done(&g, REPLICA_DO_DROP));
	assert_non_null(done(&g, REPLICA_DO_READ));
	assert_false(replica_may_append(&g.r));
	/* an epoch is durable before anything is done under it */
	begin(&g, 10, BOOT, false);
	heartbeat(&g, C, 4);
	assert_int_equal(done(&g, REPLICA_DO_MARK)->mark.epoch, 4);
	assert_null(sent(&g, REPLICA_ACK, C));
	heartbeat(&g, B, 1);
	assert_int_equal(sent(&g, REPLICA_REFUSE, B)->epoch, 4);
	marked(&g);
	assert_int_equal(sent(&g, REPLICA_ACK, C)->epoch, 4);
}

static void one_epoch_and_index_has_one_record(void **state)
{
	struct replica_place other = place(11, 1, 5), more = place(11, 1, 0);
	static struct rig g;

	begin(&g, 10, BOOT, false);
	append(&g, 1, place(10, 1, 0), &more, 1, 0);
	assert_int_equal(done(&g, REPLICA_DO_WRITE)->index, 11);
	append(&g, 1, place(10, 1, 0), &more, 1, 0);
	assert_null(done(&g, REPLICA_DO_WRITE)); /* a duplicate */
	append(&g, 1, place(10, 1, 0), &other, 1, 0);
	assert_null(done(&g, REPLICA_DO_WRITE));
	assert_int_equal(done(&g, REPLICA_DO_REPORT)->report, REPLICA_SAYS_TWO_RECORDS);
	assert_true(sent(&g, REPLICA_ACK, B)->flags & REPLICA_DIVERGED);
}

static void an_unanswered_swap_counts_until_its_revision_is_consumed(void **state)
{
	struct replica_config c;
	static struct rig g;

	lead(&g, 10);
	say(&g, REPLICA_EV_SYNCED, g.log[g.last]);
	tick(&g, 160); /* C is silent */
	c = done(&g, REPLICA_DO_SWAP)->config;
	assert_int_equal(c.in_sync.n, 1);
	grow(&g);
	say(&g, REPLICA_EV_WRITTEN, g.log[g.last]);
	assert_null(done(&g, REPLICA_DO_COMMIT));
	coord(&g, REPLICA_UNANSWERED, (struct replica_config){ 0 });
	assert_int_equal(done(&g, REPLICA_DO_SWAP)->config.in_sync.n, 2); /* a no-op */
	assert_int_equal(done(&g, REPLICA_DO_SWAP)->expected, 6);
	ack(&g, C, 12, 0, REPLICA_SOUND);                         /* both sets have it */
	assert_int_equal(done(&g, REPLICA_DO_COMMIT) != NULL, 0); /* R7: one of them is too small */
	c = g.r.config;
	c.revision = 7;
	coord(&g, REPLICA_SWAPPED, c);
	assert_int_equal(done(&g, REPLICA_DO_COMMIT)->commit, 12);
	assert_false(g.r.swapping);
}

static void a_new_primary_serves_when_all_hold_its_log(void **state)
{
	struct replica_place tail[2] = { place(11, 2, 0), place(12, 2, 0) };
	static struct rig g;

	win(&g, 10);
	assert_null(done(&g, REPLICA_DO_SERVE));
	assert_false(replica_may_append(&g.r));
	message(&g, (struct replica_msg){ .kind = REPLICA_ACK,
			    .from = { C, 1 },
			    .epoch = 2,
			    .flags = REPLICA_MISMATCH,
			    .last = place(9, 1, 0) });
	assert_int_equal(sent(&g, REPLICA_APPEND, C)->prev.index, 9);
	assert_int_equal(sent(&g, REPLICA_APPEND, C)->n, 2);
	ack(&g, C, 10, 0, 0);
	assert_null(done(&g, REPLICA_DO_SERVE));
	ack(&g, C, 11, 0, 0);
	assert_int_equal(done(&g, REPLICA_DO_COMMIT)->commit, 11);
	assert_non_null(done(&g, REPLICA_DO_SERVE));
	/* the other side cuts what diverges, but never what is committed */
	begin(&g, 12, BOOT, false);
	heartbeat(&g, B, 2);
	marked(&g);
	append(&g, 2, place(10, 1, 0), tail, 2, 10);
	assert_int_equal(done(&g, REPLICA_DO_CUT)->index, 10);
	assert_int_equal(done(&g, REPLICA_DO_WRITE)->index, 11);
	assert_int_equal(done(&g, REPLICA_DO_COMMIT)->commit, 10);
	heartbeat(&g, C, 3);
	marked(&g);
	tail[0] = place(10, 3, 7);
	message(&g, (struct replica_msg){ .kind = REPLICA_APPEND,
			    .from = { C, 1 },
			    .to = { ME, 1 },
			    .epoch = 3,
			    .prev = place(9, 1, 0),
			    .n = 1,
			    .places = tail });
	assert_null(done(&g, REPLICA_DO_CUT));
	assert_true(sent(&g, REPLICA_ACK, C)->flags & REPLICA_DIVERGED);
}

static void a_learner_enters_with_every_committed_record(void **state)
{
	static struct rig g;
	struct replica_config c;

	lead(&g, 10);
	for (int i = 0; i < 100; i++)
		grow(&g);
	say(&g, REPLICA_EV_WRITTEN, g.log[g.last]);
	say(&g, REPLICA_EV_SYNCED, g.log[g.last]);
	ack(&g, C, 111, 0, REPLICA_SOUND);
	assert_int_equal(g.r.commit, 111);
	ack(&g, B, 20, 0, REPLICA_SOUND);
	tick(&g, 10);
	assert_false(g.r.peers[0].joining); /* far behind */
	ack(&g, B, 100, 0, REPLICA_SOUND);
	tick(&g, 10);
	assert_true(g.r.peers[0].joining); /* near: from now on the set waits for it */
	assert_null(done(&g, REPLICA_DO_SWAP));
	grow(&g);
	say(&g, REPLICA_EV_WRITTEN, g.log[g.last]);
	ack(&g, C, 112, 0, REPLICA_SOUND);
	assert_int_equal(g.r.commit, 111);
	ack(&g, B, 112, 0, REPLICA_SOUND);
	assert_int_equal(g.r.commit, 112);
	tick(&g, 10);
	c = done(&g, REPLICA_DO_SWAP)->config;
	assert_int_equal(c.in_sync.n, 3);
	assert_int_equal(c.epoch, 2);
}

static void too_small_a_set_commits_nothing_new(void **state)
{
	static const uint32_t least_of[] = { 1, 1, 2, 2, 3, 3 };
	struct replica_config c;
	static struct rig g;

	for (uint32_t i = 1; i <= REPLICA_SET_MAX; i++)
		assert_int_equal(replica_min_in_sync(i), least_of[i]);
	win(&g, 10);
	say(&g, REPLICA_EV_SYNCED, g.log[g.last]);
	tick(&g, 160);
	c = done(&g, REPLICA_DO_SWAP)->config;
	c.revision = 7;
	assert_int_equal(c.in_sync.n, 1);
	coord(&g, REPLICA_SWAPPED, c);
	assert_int_equal(g.r.state.now, REPLICA_PRIMARY); /* what it inherited counts */
	assert_int_equal(g.r.commit, 11);
	assert_true(replica_may_read(&g.r, g.now_ns + 1000000 * MS));
	grow(&g);
	say(&g, REPLICA_EV_WRITTEN, g.log[12]);
	assert_int_equal(g.r.commit, 11);
}

static void nobody_stays_alone_with_what_a_power_cut_takes(void **state)
{
	struct replica_config two = config(5, 1, B, 2);
	static struct rig g;

	win(&g, 10);
	tick(&g, 160); /* C is silent */
	assert_null(done(&g, REPLICA_DO_SWAP));
	assert_int_equal(done(&g, REPLICA_DO_SYNC)->index, 11); /* all of it may be committed */
	say(&g, REPLICA_EV_SYNCED, g.log[10]);
	tick(&g, 10);
	assert_null(done(&g, REPLICA_DO_SWAP));
	say(&g, REPLICA_EV_SYNCED, g.log[11]);
	tick(&g, 10);
	assert_int_equal(done(&g, REPLICA_DO_SWAP)->config.in_sync.n, 1);
	/* nor takes over alone */
	begin(&g, 10, BOOT, false);
	append(&g, 1, place(10, 1, 0), &(struct replica_place){ 11, 1, 11000 }, 1, 0);
	say(&g, REPLICA_EV_WRITTEN, g.log[11]);
	coord(&g, REPLICA_THERE, two);
	tick(&g, 120);
	coord(&g, REPLICA_THERE, two);
	assert_null(done(&g, REPLICA_DO_SWAP));
	assert_int_equal(done(&g, REPLICA_DO_SYNC)->index, 11);
	say(&g, REPLICA_EV_SYNCED, g.log[11]);
	tick(&g, 20);
	coord(&g, REPLICA_THERE, two);
	assert_int_equal(done(&g, REPLICA_DO_SWAP)->config.in_sync.n, 1);
}

static void reads_need_a_lease_from_every_member(void **state)
{
	static struct rig g;
	uint64_t t;

	lead(&g, 10);
	t = g.now_ns;
	assert_true(replica_may_read(&g.r, t + 79 * MS));
	assert_false(replica_may_read(&g.r, t + 80 * MS));
	g.now_ns += 100 * MS;
	ack(&g, C, 11, t + 10 * MS, 0); /* counts from its sending */
	assert_false(replica_may_read(&g.r, g.now_ns));
	assert_int_equal(replica_heard_ns(&g.r), t + 10 * MS);
	/* a candidate acknowledges nothing of the old epoch */
	begin(&g, 10, BOOT, false);
	tick(&g, 110);
	coord(&g, REPLICA_THERE, config(5, 1, B, 3));
	heartbeat(&g, B, 1);
	assert_int_equal(g.todo->n, 0);
	coord(&g, REPLICA_UNANSWERED, (struct replica_config){ 0 });
	assert_int_equal(done(&g, REPLICA_DO_SWAP)->expected, 5); /* again, till it is settled */
	coord(&g, REPLICA_CONFLICT, config(6, 1, B, 3));
	heartbeat(&g, B, 1);
	assert_non_null(sent(&g, REPLICA_ACK, B));
}

static void answer(struct rig *g, uint64_t from, struct replica_place last, uint32_t flags)
{
	message(g, (struct replica_msg){ .kind = REPLICA_ANSWER,
			   .from = { from, 1 },
			   .round = g->r.round,
			   .last = last,
			   .flags = flags });
}

static void who_may_lack_records_leads_only_when_all_do(void **state)
{
	static struct rig g;

	begin(&g, 10, BOOT - 1, false);
	tick(&g, 110);
	coord(&g, REPLICA_THERE, config(5, 1, B, 3));
	assert_null(done(&g, REPLICA_DO_SWAP));
	assert_non_null(sent(&g, REPLICA_QUERY, B));
	assert_non_null(sent(&g, REPLICA_QUERY, C));
	answer(&g, B, place(9, 1, 0), 0);
	assert_null(done(&g, REPLICA_DO_SWAP));
	answer(&g, C, place(20, 0, 0), 0); /* of an older epoch */
	assert_non_null(done(&g, REPLICA_DO_SWAP));
	/* one is sound, or longer */
	begin(&g, 10, BOOT - 1, false);
	tick(&g, 110);
	coord(&g, REPLICA_THERE, config(5, 1, B, 3));
	answer(&g, B, place(9, 1, 0), REPLICA_SOUND);
	answer(&g, C, place(9, 1, 0), 0);
	assert_null(done(&g, REPLICA_DO_SWAP));
	begin(&g, 10, BOOT - 1, false);
	tick(&g, 110);
	coord(&g, REPLICA_THERE, config(5, 1, B, 3));
	answer(&g, B, place(11, 1, 0), 0);
	answer(&g, C, place(9, 1, 0), 0);
	assert_null(done(&g, REPLICA_DO_SWAP));
	/* it is sound again when it has all that was committed */
	append(&g, 1, place(10, 1, 0), NULL, 0, 11);
	assert_null(done(&g, REPLICA_DO_MARK));
	append(&g, 1, place(10, 1, 0), NULL, 0, 10);
	assert_int_equal(done(&g, REPLICA_DO_MARK)->mark.sound_boot, BOOT);
}

static void a_rotten_log_neither_leads_nor_counts(void **state)
{
	static struct rig g;

	begin(&g, 10, BOOT, true);
	tick(&g, 300);
	assert_null(done(&g, REPLICA_DO_READ));
	heartbeat(&g, B, 1);
	assert_true(sent(&g, REPLICA_ACK, B)->flags & REPLICA_IS_ROTTEN);
	append(&g, 1, place(10, 1, 0), &(struct replica_place){ 11, 1, 11000 }, 1, 0);
	assert_null(done(&g, REPLICA_DO_WRITE));
	marked(&g);
	{
		struct replica_event ev = { .kind = REPLICA_EV_COPIED };

		ev.log.place = place(30, 1, 0);
		ev.log.epoch = 1;
		step(&g, &ev);
	}
	assert_int_equal(done(&g, REPLICA_DO_INSTALL)->place.index, 30);
	assert_int_equal(g.r.state.now, REPLICA_LEARNER);
	/* its primary removes it, and sends it a copy then */
	lead(&g, 10);
	say(&g, REPLICA_EV_SYNCED, g.log[g.last]);
	ack(&g, C, 11, g.now_ns, REPLICA_IS_ROTTEN);
	tick(&g, 10);
	assert_int_equal(done(&g, REPLICA_DO_SWAP)->config.in_sync.n, 1);
	assert_null(done(&g, REPLICA_DO_COPY));
}

static void a_restarted_primary_begins_a_new_epoch(void **state)
{
	static struct rig g;

	begin(&g, 10, BOOT, false);
	memset(&g.r.config, 0, sizeof g.r.config);
	g.r.fresh = true;
	g.r.op = 9;
	coord(&g, REPLICA_THERE, config(5, 1, ME, 3)); /* of another life */
	assert_int_equal(done(&g, REPLICA_DO_SWAP)->config.epoch, 2);
	assert_int_equal(done(&g, REPLICA_DO_SWAP)->config.in_sync.n, 3);
	assert_null(done(&g, REPLICA_DO_BEGIN));
}

static void a_new_life_of_a_member_counts_from_nothing(void **state)
{
	static struct rig g;

	lead(&g, 10);
	grow(&g);
	say(&g, REPLICA_EV_WRITTEN, g.log[12]);
	message(&g, (struct replica_msg){ .kind = REPLICA_ACK,
			    .from = { C, 2 },
			    .epoch = 2,
			    .flags = REPLICA_MISMATCH,
			    .last = place(5, 1, 0) });
	assert_int_equal(g.r.peers[1].written, 0);
	assert_int_equal(sent(&g, REPLICA_APPEND, C)->prev.index, 5);
	ack(&g, C, 12, 0, 0); /* of the life before */
	assert_int_equal(g.r.commit, 11);
}

static void storage_servers_obey_the_epoch(void **state)
{
	uint64_t epoch = 4;
	static struct rig g;

	assert_true(replica_fence(&epoch, 4));
	assert_false(replica_fence(&epoch, 3));
	assert_true(replica_fence(&epoch, 6));
	assert_int_equal(epoch, 6);
	lead(&g, 10);
	assert_false(replica_may_grant(&g.r, 1));
	assert_true(replica_may_grant(&g.r, 2));
	assert_false(replica_may_copy(&g.r, 2));
}

static void only_an_operator_accepts_a_loss(void **state)
{
	struct replica_event force = { .kind = REPLICA_EV_FORCE };
	const struct replica_do *d;
	struct replica_config c;
	static struct rig g;

	begin(&g, 10, BOOT - 1, false);
	append(&g, 1, place(10, 1, 0), NULL, 0, 14);
	step(&g, &force);
	assert_int_equal(done(&g, REPLICA_DO_REPORT)->report, REPLICA_SAYS_NOT_FORCED);
	tick(&g, 5000); /* nobody answers: nothing happens by itself */
	assert_int_equal(g.r.state.now, REPLICA_MEMBER);
	coord(&g, REPLICA_UNANSWERED, (struct replica_config){ 0 });
	step(&g, &force);
	coord(&g, REPLICA_THERE, config(5, 1, B, 3));
	d = done(&g, REPLICA_DO_SWAP);
	assert_int_equal(d->config.in_sync.n, 1);
	assert_int_equal(d->config.epoch, 2);
	c = d->config;
	c.revision = 6;
	coord(&g, REPLICA_SWAPPED, c);
	assert_int_equal(done(&g, REPLICA_DO_REPORT)->report, REPLICA_SAYS_LOST);
	assert_int_equal(done(&g, REPLICA_DO_REPORT)->from, 11);
	assert_int_equal(done(&g, REPLICA_DO_REPORT)->to, 14);
	marked(&g);
	assert_non_null(done(&g, REPLICA_DO_BEGIN));
}

static void a_handover_stops_before_it_tells_the_heir(void **state)
{
	struct replica_event ev = { .kind = REPLICA_EV_HANDOVER, .peer = C };
	static struct rig g;

	lead(&g, 10);
	grow(&g);
	step(&g, &ev);
	assert_false(replica_may_append(&g.r));
	assert_null(sent(&g, REPLICA_HANDOVER, C));
	say(&g, REPLICA_EV_WRITTEN, g.log[12]);
	ack(&g, C, 12, 0, REPLICA_SOUND);
	assert_non_null(sent(&g, REPLICA_HANDOVER, C));
	assert_int_equal(done(&g, REPLICA_DO_COMMIT)->commit, 12);
	assert_int_equal(g.r.state.now, REPLICA_FENCED);
	assert_false(replica_may_read(&g.r, g.now_ns));
	/* the heir waits for nothing */
	begin(&g, 10, BOOT, false);
	heartbeat(&g, B, 1);
	message(&g,
		(struct replica_msg){
			.kind = REPLICA_HANDOVER, .from = { B, 1 }, .to = { ME, 1 }, .epoch = 1 });
	coord(&g, REPLICA_THERE, config(5, 1, B, 3));
	assert_non_null(done(&g, REPLICA_DO_SWAP));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commits_what_all_have_written),
		cmocka_unit_test(a_member_takes_over_by_one_swap),
		cmocka_unit_test(who_was_late_is_waited_for_longer),
		cmocka_unit_test(a_lower_epoch_is_refused_and_a_higher_one_deposes),
		cmocka_unit_test(one_epoch_and_index_has_one_record),
		cmocka_unit_test(an_unanswered_swap_counts_until_its_revision_is_consumed),
		cmocka_unit_test(a_new_primary_serves_when_all_hold_its_log),
		cmocka_unit_test(a_learner_enters_with_every_committed_record),
		cmocka_unit_test(too_small_a_set_commits_nothing_new),
		cmocka_unit_test(nobody_stays_alone_with_what_a_power_cut_takes),
		cmocka_unit_test(reads_need_a_lease_from_every_member),
		cmocka_unit_test(who_may_lack_records_leads_only_when_all_do),
		cmocka_unit_test(a_rotten_log_neither_leads_nor_counts),
		cmocka_unit_test(a_restarted_primary_begins_a_new_epoch),
		cmocka_unit_test(a_new_life_of_a_member_counts_from_nothing),
		cmocka_unit_test(storage_servers_obey_the_epoch),
		cmocka_unit_test(only_an_operator_accepts_a_loss),
		cmocka_unit_test(a_handover_stops_before_it_tells_the_heir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
