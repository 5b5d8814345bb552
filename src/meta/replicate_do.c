/* SPDX-License-Identifier: Apache-2.0 */
/* Carrying out what the core decides (D1-D3), and telling it what became of the log.
 *
 * Nothing here parks: what takes time is handed to a fiber of its own, which tells the core when it
 * is done. */
#include "base/check.h"
#include "meta/replicate_own.h"
#include <stdio.h>

/* ---- the log's places, as the core has them (D2) ---- */
bool replicate_log_at(void *arg, uint64_t index, struct replica_place *ret_place)
{
	struct replicate *r = arg;
	struct place_at at;

	if (r->ahead.n > 0 && index >= r->ahead.first) {
		if (!places_get(&r->ahead, index, &at))
			return false;
		*ret_place = (struct replica_place){ index, at.epoch, at.chain };
		return true;
	}
	if (r->installing || r->db == NULL || index < log_reaches(db_log(r->db)))
		return false;
	ret_place->index = index;
	return db_place(r->db, index, &ret_place->epoch, &ret_place->chain);
}

static void begin_ahead(struct replicate *r, uint64_t index)
{
	struct replica_place p;

	check(replicate_log_at(r, index, &p));
	places_begin(&r->ahead, index, (struct place_at){ p.epoch, p.chain });
}

static void take_records(struct replicate *r, uint64_t from)
{
	const struct replica_msg *m;

	check(r->handling != NULL);
	m = &r->handling->msg;
	check(from > m->prev.index);
	if (r->ahead.n == 0)
		begin_ahead(r, from - 1);
	for (uint32_t i = 0; i < m->n; i++)
		if (m->places[i].index >= from)
			places_add(&r->ahead, m->places[i].index,
				(struct place_at){ m->places[i].epoch, m->places[i].chain });
	scribe_add(r, SCRIBE_WRITE, from, r->handling);
}

static void cut(struct replicate *r, uint64_t index)
{
	if (r->ahead.n > 0 && index >= r->ahead.first)
		places_take_back(&r->ahead, index);
	else
		begin_ahead(r, index);
	if (r->valid > index)
		r->valid = index;
	scribe_add(r, SCRIBE_CUT, index, NULL);
}

static void put_copy(struct replicate *r, const struct replica_place *place)
{
	places_begin(&r->ahead, place->index, (struct place_at){ place->epoch, place->chain });
	r->installing = true;
	scribe_add(r, SCRIBE_INSTALL, place->index, NULL);
}

/* ---- commits ---- */
void replicate_commit(struct replicate *r)
{
	uint64_t commit = r->core.commit, synced = r->core.synced_commit;

	if (r->installing || r->db == NULL)
		return;
	if (commit > r->valid)
		commit = r->valid;
	db_commit(r->db, commit, synced < commit ? synced : commit);
}

static void want_sync(struct replicate *r, uint64_t index)
{
	if (index > r->sync_to)
		r->sync_to = index;
	if (!r->installing && r->db != NULL)
		db_sync_to(r->db, r->sync_to);
}

/* ---- who leads ---- */
static void stop(struct replicate *r)
{
	if (r->db_leads)
		db_hold(r->db, true);
	if (r->lent && !r->stopped) {
		r->stopped = true;
		r->calls.stop(r->arg);
	}
	r->stopped = true;
	waitq_wake_all(&r->readers);
}

static void drop(struct replicate *r)
{
	stop(r);
	scribe_add(r, SCRIBE_FOLLOW, 0, NULL);
}

/* ---- reports ---- */
static const char *const reports[] = {
	[REPLICA_SAYS_ROTTEN] = "its log is rotten, and nobody else holds it",
	[REPLICA_SAYS_TWO_RECORDS] = "another record came of the same epoch and index",
	[REPLICA_SAYS_DIVERGED] = "the one that leads contradicts what is committed here",
	[REPLICA_SAYS_LOST] = "forced to lead: these records are gone, as far as is known",
	[REPLICA_SAYS_NOT_FORCED] = "not forced: one that leads is alive",
};

static void report(struct replicate *r, const struct replica_do *d)
{
	char line[200];

	check(d->report < sizeof reports / sizeof reports[0]);
	check(reports[d->report] != NULL);
	snprintf(line, sizeof line, "replica %llu of shard %u: %s (records %llu to %llu)",
		(unsigned long long)r->id, r->shard, reports[d->report],
		(unsigned long long)d->from, (unsigned long long)d->to);
	sys_log(r->sys, line);
}

/* ---- all of it ---- */
static void ask_coord(struct replicate *r, const struct replica_do *d)
{
	check(!r->asked.wanted);
	r->asked = (struct coord_op){ .wanted = true,
		.swap = d->kind == REPLICA_DO_SWAP,
		.op = d->op,
		.expected = d->expected,
		.to = d->config };
	waitq_wake_one(&r->coord_q);
}

static void carry_out(struct replicate *r, const struct replica_do *d)
{
	switch (d->kind) {
	case REPLICA_DO_MARK:
		r->marking = d->mark;
		r->mark_wanted = true;
		waitq_wake_one(&r->mark_q);
		break;
	case REPLICA_DO_READ:
	case REPLICA_DO_SWAP:
		ask_coord(r, d);
		break;
	case REPLICA_DO_SEND:
		peer_say(r, &d->msg);
		break;
	case REPLICA_DO_BEGIN:
		scribe_add(r, SCRIBE_BEGIN, d->index, NULL);
		break;
	case REPLICA_DO_WRITE:
		take_records(r, d->index);
		break;
	case REPLICA_DO_CUT:
		cut(r, d->index);
		break;
	case REPLICA_DO_SYNC:
		want_sync(r, d->index);
		break;
	case REPLICA_DO_COMMIT:
		replicate_commit(r);
		break;
	case REPLICA_DO_SERVE:
		scribe_add(r, SCRIBE_LEAD, r->core.mark.epoch, NULL);
		break;
	case REPLICA_DO_STOP:
		stop(r);
		break;
	case REPLICA_DO_DROP:
		drop(r);
		break;
	case REPLICA_DO_COPY:
		copy_ask(r, d->index);
		break;
	case REPLICA_DO_INSTALL:
		put_copy(r, &d->place);
		break;
	case REPLICA_DO_REPORT:
		report(r, d);
		break;
	}
}

void replicate_do(struct replicate *r, const struct replica_todo *t)
{
	for (uint32_t i = 0; i < t->n; i++)
		carry_out(r, &t->items[i]);
	/* what is handed over must come to an end first */
	if (r->lent && !r->stopped)
		db_hold(r->db, r->core.handing != 0);
}

/* ---- what became of the log ---- */
static struct replica_place place_of(const struct replicate *r, uint64_t index)
{
	struct replica_place p = { .index = index };

	if (index > 0)
		check(db_place(r->db, index, &p.epoch, &p.chain));
	return p;
}

static void appended(struct replicate *r, uint64_t index)
{
	struct replica_event ev = { .kind = REPLICA_EV_APPENDED };
	uint64_t want = db_wanted(r->db);

	check(index == r->told + 1);
	ev.log.place = place_of(r, index);
	ev.log.want_synced = want < index ? want : index;
	r->told = r->valid = index;
	replicate_step(r, &ev);
	ev.kind = REPLICA_EV_WRITTEN;
	ev.log.cuts = r->cuts_done;
	replicate_step(r, &ev);
}

void replicate_grew(void *arg, uint64_t written, uint64_t synced)
{
	struct replica_event ev = { .kind = REPLICA_EV_SYNCED };
	struct replicate *r = arg;

	if (r->ended || r->core.self.id == 0)
		return;
	/* of one that was deposed meanwhile: taken back when it follows (C2) */
	if (r->db_leads && !r->stopped && written > r->told)
		appended(r, written);
	if (synced > r->told)
		synced = r->told;
	if (synced <= r->told_synced)
		return;
	r->told_synced = synced;
	ev.log.place = place_of(r, synced);
	ev.log.cuts = r->cuts_done;
	replicate_step(r, &ev);
}
