/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a job, a saga whose state is in the job's row:
 *
 *   ending (synced) -> connections cut -> buckets dropped -> egroups dropped on their servers
 *     -> the shard has its room back -> bill closed -> ended (synced) -> whoever asked is answered
 *
 * After a restart it begins again from the front: each step finds done what was done. */
#include "control/own.h"

enum { AGAIN_MS = 20, SETTLE_MS = 5000 };

enum end_step { END_BEGUN, END_DROPPING, END_CLOSED };
struct ending {
	struct control *ctl;
	struct job *j;
	enum end_step at;
};

void job_end_begin(struct control *ctl, struct job *j)
{
	sm_move(&j->state, JOB_ENDING);
	(void)job_epoch_raise(ctl, j); /* its egroups go as well */
	job_write(ctl, j);
	db_want_sync(shard_db(ctl->sh));
}

/* Nobody goes on with a token that was good until now.  Who asked for the end waits for it here. */
void job_cut(struct control *ctl, const struct job *j)
{
	list_each (it, &ctl->conn_list) {
		struct conn *conn = container_of(it, struct conn, link);
		struct sys_stream *stream = rpc_conn_stream(conn->rpc);

		if (!conn->who.admin && conn->who.job == j->id && conn->n_asking == 0
			&& stream != NULL)
			sys_stream_shut(stream);
	}
}

static PARKS int pause(struct control *ctl)
{
	return fiber_sleep(sys_after(ctl->sys, AGAIN_MS * SYS_MS));
}

/* Everything so far is on the medium. */
static PARKS int synced(struct control *ctl)
{
	struct shard_call c = { .sync = true };
	int rc;

	db_want_sync(shard_db(ctl->sh));
	do {
		rc = shard_settle(ctl->sh, &c, sys_after(ctl->sys, SETTLE_MS * SYS_MS));
	} while (rc == E_TIMEOUT);
	return rc;
}

static PARKS int drop_buckets(struct control *ctl, struct job *j)
{
	struct shard_call c = { .who = { .admin = true }, .version = WIRE_VERSION };
	struct shard_freed f;
	int rc = 0;

	if (j->row.dropped)
		return 0;
	while (rc == 0 && (rc = shard_job_drop(ctl->sh, &c, j->id, &f)) == E_BUSY)
		rc = pause(ctl);
	if (rc < 0)
		return rc;
	j->row.files = f.files;
	j->row.bytes = f.bytes;
	j->row.kept_files = f.kept_files;
	j->row.kept_bytes = f.kept_bytes;
	j->row.dropped = 1;
	job_write(ctl, j); /* in the same record as the drop */
	return 0;
}

/* Until every byte of it is back: here, and on the storage servers that are there. */
static PARKS int wait_for_room(struct control *ctl, const struct job *j)
{
	struct shard_call c = { .who = { .admin = true }, .version = WIRE_VERSION };
	int rc = 0;

	large_domain_drop(ctl->sh, &c, j->id);
	rc = synced(ctl);
	while (rc == 0 && shard_job_dropping(ctl->sh, j->id) > 0) {
		if ((rc = shard_failed(ctl->sh)) == 0)
			rc = pause(ctl);
	}
	while (rc == 0 && !large_settled(ctl->sh, c.ticket)) {
		rc = large_settle(ctl->sh, c.ticket, sys_after(ctl->sys, SETTLE_MS * SYS_MS));
		if (rc == E_TIMEOUT)
			rc = shard_failed(ctl->sh);
	}
	return rc;
}

static PARKS int steps(struct ending *e)
{
	struct control *ctl = e->ctl;
	struct job *j = e->j;
	int rc;

	if ((rc = synced(ctl)) < 0)
		return rc;
	e->at = END_DROPPING;
	j->end_synced = true;
	job_cut(ctl, j);
	if ((rc = drop_buckets(ctl, j)) < 0 || (rc = wait_for_room(ctl, j)) < 0)
		return rc;
	check(shard_job_dropping(ctl->sh, j->id) == 0);
	e->at = END_CLOSED;
	bill_close(ctl, j);
	sm_move(&j->state, JOB_ENDED);
	ctl->n_active--;
	ctl->n_ended++;
	j->row.ended_ms = sys_wall_ms(ctl->sys);
	job_write(ctl, j);
	shard_job_forget(ctl->sh, j->id);
	return synced(ctl);
}

static void put_off(const struct ending *e)
{
	if (e->at == END_BEGUN)
		sys_reached(e->ctl->sys, "job end put off before it was synced");
	else if (e->at == END_DROPPING)
		sys_reached(e->ctl->sys, "job end put off before its room was back");
	else
		sys_reached(e->ctl->sys, "job end put off before its close was synced");
}

static PARKS int end_fiber(void *arg)
{
	struct ending *e = arg;

	fiber_note(e->j->id, "ends a job");
	e->j->end_rc = steps(e);
	if (e->j->end_rc < 0)
		put_off(e);
	e->j->ending = false;
	waitq_wake_all(&e->j->ended);
	free(e);
	return 0;
}

void job_end_go_on(struct control *ctl, struct job *j)
{
	struct ending *e;

	check(j->state.now == JOB_ENDING);
	if (j->ending)
		return;
	e = malloc(sizeof *e);
	if (e == NULL)
		return; /* the next look tries again */
	*e = (struct ending){ ctl, j, END_BEGUN };
	j->ending = fiber_start(&ctl->fibers, "job end", end_fiber, e) == 0;
	if (!j->ending)
		free(e);
}

/* ---- the request ---- */
static PARKS int wait_for_end(struct control *ctl, struct shard_call *c, struct job *j)
{
	uint64_t until_ns = sys_after(ctl->sys, END_WAIT_MS * SYS_MS);
	int rc = 0;

	if (j->state.now == JOB_ACTIVE)
		job_end_begin(ctl, j);
	if (j->state.now == JOB_ENDING)
		job_end_go_on(ctl, j);
	while (rc == 0 && (j->ending || j->state.now != JOB_ENDED)) {
		rc = waitq_wait(&j->ended, until_ns);
		if (rc == 0 && j->end_rc < 0)
			rc = j->end_rc;
	}
	if (rc == E_TIMEOUT)
		return err_set(&c->note, rc, "job %llu is ending, but a storage server has not "
			"confirmed that its bytes are gone", (unsigned long long)j->id);
	return rc < 0 ? err_set(&c->note, rc, "the end of job %llu was put off",
			(unsigned long long)j->id) : 0;
}

PARKS void on_job_end(void *arg, struct rpc_request *r)
{
	struct control *ctl = arg;
	struct conn *conn = conn_of(ctl, r->conn);
	struct msg_job_end_ok ok;
	struct msg_job_end m;
	struct shard_call c;
	struct job *j;
	int rc;

	call_begin(ctl, r, &c);
	rc = decoded(&c, msg_job_end_get(r->body.p, r->body.len, r->version, &m));
	if (rc == 0)
		rc = job_of(ctl, &c, m.job, &j);
	if (rc == 0) {
		conn->n_asking++;
		j->n_waiting++;
		rc = wait_for_end(ctl, &c, j);
		j->n_waiting--;
		conn->n_asking--;
		ok = (struct msg_job_end_ok){ j->row.files, j->row.bytes, j->row.kept_files,
			j->row.kept_bytes };
	}
	answer(ctl, r, &c, rc, OP_job_end_ok, &ok);
}
