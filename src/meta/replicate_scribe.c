/* SPDX-License-Identifier: Apache-2.0 */
/* The scribe: one fiber that takes in order what changes the log, and who has the rows, while the
 * core goes on.
 *
 * (C1) What is queued has counted for the core since it said so; the log follows.
 * (C2) A record that came into the log without the core (this one led, and was deposed while the
 * record was being written) is taken back before anything else is written.
 * (C3) The rows are lent to one at a time: lead() has returned before leave(), leave() before
 * anything is written here. */
#include "base/check.h"
#include "meta/log.h"
#include "meta/replicate_own.h"
#include <stdlib.h>

void scribe_add(struct replicate *r, enum scribe_kind kind, uint64_t index, struct taken *taken)
{
	struct scribe_item *it = calloc(1, sizeof *it);

	check(it != NULL);
	it->kind = kind;
	it->index = index;
	it->taken = taken;
	if (taken != NULL) {
		taken->refs++;
		r->taken_bytes += taken->len;
	}
	r->n_items++;
	r->n_cuts += kind == SCRIBE_CUT || kind == SCRIBE_INSTALL;
	list_push(&r->items, &it->link);
	waitq_wake_one(&r->scribe);
}

static void item_free(struct replicate *r, struct scribe_item *it)
{
	if (it->taken != NULL) {
		check(r->taken_bytes >= it->taken->len);
		r->taken_bytes -= it->taken->len;
	}
	taken_unref(it->taken);
	free(it);
}

static struct scribe_item *pop(struct replicate *r)
{
	struct list *n = list_pop(&r->items);

	if (n == NULL)
		return NULL;
	check(r->n_items > 0);
	r->n_items--;
	return container_of(n, struct scribe_item, link);
}

void scribe_drop_all(struct replicate *r)
{
	struct scribe_item *it;

	while ((it = pop(r)) != NULL)
		item_free(r, it);
	r->n_cuts = 0;
}

/* A full disk is waited out; meanwhile the others go on without this replica. */
static PARKS int after_full(struct replicate *r)
{
	sys_reached(r->sys, "replicate: the log waits for room");
	fiber_note(0, "replica: waits for room on the disk");
	return fiber_sleep(sys_after(r->sys, REPLICATE_FULL_NS));
}

/* ---- following ---- */
static void told_written(struct replicate *r)
{
	struct replica_event ev = { .kind = REPLICA_EV_WRITTEN };
	struct log_place p = log_place(db_log(r->db));

	r->told = p.index;
	if (r->n_cuts == 0)
		r->valid = p.index;
	replicate_commit(r);
	ev.log.place = (struct replica_place){ p.index, p.epoch, p.shard_chain };
	ev.log.cuts = r->cuts_done;
	replicate_step(r, &ev);
	db_sync_to(r->db, r->sync_to);
	replicate_grew(r, r->told, db_log_synced(r->db)); /* more than was told before */
}

/* The payload of record i. */
static struct bytes payload_of(const struct taken *t, uint32_t i)
{
	size_t at = 0;

	for (uint32_t k = 0; k < i; k++)
		at += t->room.lens[k];
	check(at + t->room.lens[i] <= t->len);
	return bytes_of(t->data + at, t->room.lens[i]);
}

static PARKS int write_records(struct replicate *r, const struct scribe_item *it,
	struct err_note *note)
{
	const struct taken *t = it->taken;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < t->msg.n; i++) {
		const struct replica_place *p = &t->msg.places[i];

		if (p->index < it->index)
			continue;
		check(p->index == log_index(db_log(r->db)) + 1);
		do
			rc = db_copy(r->db, p->epoch, p->chain, payload_of(t, i), note);
		while (rc == E_FULL && (rc = after_full(r)) == 0);
	}
	if (rc == 0)
		told_written(r);
	return rc;
}

static PARKS int take_back(struct replicate *r, uint64_t index, struct err_note *note)
{
	int rc;

	do
		rc = db_take_back(r->db, index, note);
	while (rc == E_FULL && (rc = after_full(r)) == 0);
	if (rc == 0) {
		r->told = index;
		if (r->told_synced > index)
			r->told_synced = index;
		if (r->sync_to > index)
			r->sync_to = index;
	}
	return rc;
}

static PARKS int cut(struct replicate *r, uint64_t index, struct err_note *note)
{
	int rc = take_back(r, index, note);

	if (rc == 0) {
		check(r->n_cuts > 0);
		r->n_cuts--;
		r->cuts_done++;
	}
	return rc;
}

/* ---- leading ---- */
static bool still_brings(const struct replicate *r, uint64_t epoch)
{
	return r->core.state.now == REPLICA_BRINGING && r->core.mark.epoch == epoch &&
	       r->core.inherited == 0 && !r->ended;
}

static bool still_leads(const struct replicate *r, uint64_t epoch)
{
	return r->core.state.now == REPLICA_PRIMARY && r->core.mark.epoch == epoch && !r->ended;
}

/* The record that begins the epoch. */
static PARKS int begin(struct replicate *r, uint64_t epoch, struct err_note *note)
{
	struct replica_event ev = { .kind = REPLICA_EV_APPENDED };
	struct log_place p;
	uint64_t before;
	int rc = E_FULL;

	if (!still_brings(r, epoch))
		return 0;
	if (r->db == NULL)
		return err_set(note, E_CORRUPT, "%s: the log is rotten: salvage it first", r->dir);
	before = log_index(db_log(r->db));
	check(before == r->core.last.index);
	check(r->n_items == 0);
	r->ahead.n = 0; /* the log is as the core has it */
	while (rc == E_FULL && still_brings(r, epoch))
		if ((rc = db_begin(r->db, epoch, note)) == E_FULL && (rc = after_full(r)) == 0)
			rc = E_FULL;
	if (rc == E_FULL)
		return 0; /* deposed before it had begun */
	if (rc < 0)
		return rc;
	if (!still_brings(r, epoch)) {
		sys_reached(r->sys, "replicate: deposed while it began its epoch");
		return take_back(r, before, note); /* (C2) */
	}
	p = log_place(db_log(r->db));
	ev.log.place = (struct replica_place){ p.index, p.epoch, p.shard_chain };
	r->told = r->valid = p.index;
	replicate_step(r, &ev);
	told_written(r);
	return 0;
}

static PARKS int lead(struct replicate *r, uint64_t epoch, struct err_note *note)
{
	int rc;

	if (!still_leads(r, epoch))
		return 0;
	check(r->core.commit == r->core.last.index);
	replicate_commit(r);
	r->db_leads = true;
	r->stopped = false;
	rc = db_lead(r->db, epoch, note);
	if (rc == E_NOTPRIMARY || (rc == 0 && !still_leads(r, epoch)))
		return 0; /* what made it so has queued the rest */
	if (rc < 0)
		return rc;
	r->lent = true;
	rc = r->calls.lead(r->arg, r->db, epoch, note);
	if (rc < 0)
		r->lent = false;
	return rc < 0 && r->stopped && rc != E_CANCELED ? 0 : rc;
}

static PARKS int follow(struct replicate *r, struct err_note *note)
{
	int rc;

	if (!r->db_leads)
		return 0;
	if (r->lent) {
		check(r->stopped);
		r->calls.leave(r->arg);
		r->lent = false;
	}
	if ((rc = db_follow(r->db, note)) < 0)
		return rc;
	r->db_leads = false;
	if (log_index(db_log(r->db)) == r->told)
		return 0;
	sys_reached(r->sys, "replicate: a record that was written when it was deposed");
	check(log_index(db_log(r->db)) == r->told + 1);
	return take_back(r, r->told, note); /* (C2) */
}

/* ---- the fiber ---- */
static PARKS int carry_out(struct replicate *r, const struct scribe_item *it,
	struct err_note *note)
{
	switch (it->kind) {
	case SCRIBE_WRITE:
		return write_records(r, it, note);
	case SCRIBE_CUT:
		return cut(r, it->index, note);
	case SCRIBE_BEGIN:
		return begin(r, it->index, note);
	case SCRIBE_LEAD:
		return lead(r, it->index, note);
	case SCRIBE_FOLLOW:
		return follow(r, note);
	case SCRIBE_INSTALL:
		return install(r, it->index, note);
	}
	return 0;
}

/* All that was said is in the log: it tells its places itself. */
static void settled(struct replicate *r)
{
	r->scribe_busy = false;
	r->ahead.n = 0;
	waitq_wake_all(&r->quiet);
}

int scribe_run(void *arg)
{
	struct err_note note = { "" };
	struct replicate *r = arg;
	struct scribe_item *it;
	int rc = 0;

	while (rc == 0) {
		if ((it = pop(r)) == NULL) {
			settled(r);
			fiber_note(0, "replica: has nothing to write");
			rc = waitq_wait(&r->scribe, FOREVER);
			continue;
		}
		r->scribe_busy = true;
		fiber_note(0, "replica: writes");
		rc = carry_out(r, it, &note);
		item_free(r, it);
	}
	if (rc != E_CANCELED)
		replicate_fail(r, rc, &note);
	return rc;
}
