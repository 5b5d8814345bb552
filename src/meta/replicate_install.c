/* SPDX-License-Identifier: Apache-2.0 */
/* Taking a copy of the tree, and putting it for log and rows.
 *
 * A copy is built in a folder of its own ("copy.1" and "copy.2" in turn), verified as a whole, and
 * durable before the core hears of it.  Which folder holds the rows is said by the mark, so one
 * write of the mark exchanges everything.
 *
 * (I1) From the decision until then nothing is said to others: it would speak of what is not here
 * yet. */
#include "base/check.h"
#include "base/hash.h"
#include "meta/db_made.h"
#include "meta/replicate_own.h"

/* ---- taking ---- */
static void forget(struct incoming *in)
{
	db_made_free(in->made);
	*in = (struct incoming){ .busy = in->busy };
}

static PARKS int begin(struct replicate *r, const struct msg_replica_copy *m,
	struct err_note *note)
{
	char dir[REPLICATE_PATH_MAX];
	int rc;

	forget(&r->in);
	mark_rows_dir(r->dir, r->mark.generation + 1, dir);
	if ((rc = db_made_new(r->sys, dir, &r->in.made, note)) < 0)
		return rc;
	r->in.id = m->copy;
	return 0;
}

static PARKS int take_piece(struct replicate *r, const struct msg_replica_copy *m,
	struct bytes data, struct err_note *note)
{
	struct log_place at = { .index = m->index,
		.epoch = m->place_epoch,
		.shard_chain = m->place_chain };
	int rc = 0;

	if (m->part == 0)
		rc = begin(r, m, note);
	if (rc < 0)
		return rc;
	if (r->in.made == NULL || m->copy != r->in.id || m->part != r->in.next)
		return err_set(note, E_CONFLICT, "piece %u of another copy", m->part);
	r->in.next++;
	rc = db_made_add(r->in.made, data, note);
	if (rc == 0 && m->last)
		rc = db_made_finish(r->in.made, &at, m->rows, m->content, note);
	return rc;
}

/* Its log has the record that the copy stands for: no copy is needed, only told where to go on. */
static bool holds(struct replicate *r, const struct msg_replica_copy *m)
{
	struct replica_place p;

	return r->db != NULL && m->index <= r->core.last.index &&
	       replicate_log_at(r, m->index, &p) && p.epoch == m->place_epoch &&
	       p.chain == m->place_chain;
}

/* The whole copy is here and durable: the core says whether it is wanted. */
static void offer(struct replicate *r, const struct msg_replica_copy *m)
{
	struct replica_event ev = { .kind = REPLICA_EV_COPIED };

	ev.log.place = (struct replica_place){ m->index, m->place_epoch, m->place_chain };
	ev.log.epoch = m->epoch;
	replicate_step(r, &ev);
	if (!r->installing)
		forget(&r->in);
}

static int may_take(struct replicate *r, const struct rpc_request *req,
	const struct msg_replica_copy *m, struct err_note *note)
{
	if (m->shard != r->shard || m->to != r->id)
		return err_set(note, E_NOTFOUND, "replica %llu of shard %u is not here",
			(unsigned long long)m->to, m->shard);
	if (r->ended || !replica_may_copy(&r->core, m->epoch))
		return err_set(note, E_STALE, "a copy under epoch %llu is not wanted here",
			(unsigned long long)m->epoch);
	if (r->in.busy || r->installing)
		return err_set(note, E_BUSY, "another copy is on its way");
	if (hash64(m->copy, req->data.p, req->data.len) != m->sum)
		return err_set(note, E_CORRUPT, "piece %u is damaged", m->part);
	return 0;
}

static PARKS int take(struct replicate *r, const struct rpc_request *req, struct err_note *note)
{
	struct msg_replica_copy m;
	int rc = msg_replica_copy_get(req->body.p, req->body.len, req->version, &m);

	if (rc == 0)
		rc = may_take(r, req, &m, note);
	if (rc < 0)
		return rc;
	if (m.part == 0 && holds(r, &m)) {
		sys_reached(r->sys, "replicate: no copy is needed after all");
		offer(r, &m);
		return err_set(note, E_EXISTS, "record %llu is here",
			(unsigned long long)m.index);
	}
	r->in.busy = true;
	rc = take_piece(r, &m, req->data, note);
	r->in.busy = false;
	if (rc < 0)
		forget(&r->in);
	else if (m.last)
		offer(r, &m);
	return rc;
}

void replicate_on_copy(struct replicate *r, struct rpc_request *req)
{
	struct err_note note = { "" };
	int rc;

	r->n_inside++;
	rc = take(r, req, &note);
	if (rc == 0)
		rpc_reply_ok(req, RPC_NOW);
	else if (rc == E_CANCELED)
		rpc_drop(req);
	else
		rpc_reply_error(req, rc, &note, RPC_NOW);
	if (--r->n_inside == 0)
		waitq_wake_all(&r->quiet);
}

void install_forget(struct replicate *r)
{
	check(!r->in.busy);
	forget(&r->in);
}

/* ---- installing ---- */
/* What was kept for what is not there any more. */
static PARKS int close_rows(struct replicate *r)
{
	struct db *old = r->db;
	int rc = peers_leave_log(r);

	if (rc < 0)
		return rc;
	while (r->copying && rc == 0)
		rc = fiber_sleep(sys_after(r->sys, SYS_MS));
	if (rc < 0)
		return rc;
	r->db = NULL;
	group_cancel(&r->db_fibers);
	(void)group_wait(&r->db_fibers);
	db_drop(old);
	group_init(&r->db_fibers, sys_loop(r->sys));
	return 0;
}

static PARKS int exchange(struct replicate *r, struct err_note *note)
{
	struct mark_file m;
	int rc = fiber_lock(&r->mark_lock, FOREVER);

	if (rc < 0)
		return rc;
	m = r->mark;
	m.generation++;
	m.uuid_hi = db_made_uuid(r->in.made, &m.uuid_lo);
	if ((rc = mark_file_keep(r, &m, note)) == 0)
		r->mark = m;
	fiber_unlock(&r->mark_lock);
	return rc;
}

int install(struct replicate *r, uint64_t index, struct err_note *note)
{
	char before[REPLICATE_PATH_MAX];
	bool rotten = r->db == NULL;
	int rc;

	check(r->installing);
	check(r->in.made != NULL);
	check(!r->db_leads);
	sys_reached(r->sys, "replicate: a copy of the tree is put for the rows");
	mark_rows_dir(r->dir, r->mark.generation, before);
	if ((rc = close_rows(r)) < 0 || (rc = exchange(r, note)) < 0)
		return rc;
	forget(&r->in);
	if ((rc = replicate_open_rows(r, note)) < 0)
		return rc;
	check(log_index(db_log(r->db)) == index);
	r->told = r->told_synced = index;
	r->sync_to = 0;
	check(r->n_cuts > 0);
	if (--r->n_cuts == 0)
		r->valid = index;
	r->cuts_done++;
	r->installing = false;
	peers_set(r); /* what is written from now on is kept for them */
	if (rotten) /* the bytes may be of use yet */
		return 0;
	return db_remove(r->sys, before, note);
}
