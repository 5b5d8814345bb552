/* SPDX-License-Identifier: Apache-2.0 */
/* The controller's life, its connections, and the one fiber that looks at everything that time
 * changes. */
#include "control/own.h"

/* ---- requests ---- */
struct conn *conn_of(const struct control *ctl, const struct rpc_conn *c)
{
	struct conn *conn = map_get(&ctl->conns, (uintptr_t)c);

	check(conn != NULL);
	return conn;
}

void call_begin(const struct control *ctl, const struct rpc_request *r, struct shard_call *ret_c)
{
	const struct conn *conn = conn_of(ctl, r->conn);

	memset(ret_c, 0, sizeof *ret_c);
	ret_c->who = conn->who;
	ret_c->session = conn->session;
	ret_c->number = (r->cookie & FRAME_COOKIE_PLAIN) != 0 ? 0 : r->cookie;
	ret_c->version = rpc_conn_version(r->conn);
}

void answer(struct control *ctl, struct rpc_request *r, const struct shard_call *c, int rc,
	uint16_t op, const void *msg)
{
	struct rpc_gate g = serve_gate(ctl->v, shard_seen(ctl->sh), c->sync);

	if (rc < 0)
		rpc_reply_error(r, rc, &c->note, g);
	else
		rpc_reply(r, op, msg, bytes_of(NULL, 0), g);
}

static const struct rpc_op control_ops[] = {
	{ OP_job_register, RPC_INLINE, on_job_register },
	{ OP_job_renew, RPC_INLINE, on_job_renew },
	{ OP_job_list, RPC_INLINE, on_job_list },
	{ OP_job_end, RPC_FIBER, on_job_end },
	{ OP_job_bill, RPC_INLINE, on_job_bill },
	{ OP_job_revoke, RPC_INLINE, on_job_revoke },
	{ OP_key_rotate, RPC_INLINE, on_key_rotate },
	{ OP_status, RPC_INLINE, on_status },
	{ OP_scrub, RPC_INLINE, on_scrub },
	{ OP_store_register, RPC_FIBER, on_store_register },
	{ OP_heartbeat, RPC_INLINE, on_heartbeat },
	{ OP_extent_bad, RPC_INLINE, on_extent_bad },
};

/* ---- who calls ---- */
static int resolve(void *arg, struct bytes text, struct principal *ret_p, struct err_note *note)
{
	struct control *ctl = arg;
	const struct job *j;
	struct token t;

	if (token_read(ctl->key, text, &t) < 0)
		return err_set(note, E_DENIED, "the token is nobody's");
	if (t.admin) {
		*ret_p = (struct principal){ .admin = true };
		return 0;
	}
	j = job_find(ctl, t.job);
	if (j != NULL && j->state.now == JOB_ENDING && !j->end_synced)
		return err_set(note, E_BUSY, "job %llu is ending", (unsigned long long)t.job);
	if (j == NULL || j->state.now != JOB_ACTIVE)
		return err_set(note, E_GONE, "job %llu has ended", (unsigned long long)t.job);
	if (j->row.epoch != t.epoch)
		return err_set(note, E_DENIED, "the token of job %llu was replaced",
			(unsigned long long)t.job);
	*ret_p = (struct principal){ .job = t.job };
	return 0;
}

static int opened(void *arg, struct rpc_conn *c, const struct principal *who,
	struct session *session, struct err_note *note)
{
	struct control *ctl = arg;
	struct conn *conn = calloc(1, sizeof *conn);
	struct job *j = who->admin ? NULL : job_find(ctl, who->job);

	if (conn == NULL || map_put(&ctl->conns, (uintptr_t)c, conn) < 0) {
		free(conn);
		return err_set(note, E_NOMEM, "no memory for a connection");
	}
	conn->rpc = c;
	conn->who = *who;
	conn->session = session;
	conn->number = ++ctl->conn_last;
	list_push(&ctl->conn_list, &conn->link);
	if (j != NULL) {
		j->n_conns++;
		job_hear(ctl, j);
	}
	return 0;
}

static void lost(void *arg, struct rpc_conn *c) { servers_lost(arg, c); }

static void closed(void *arg, struct rpc_conn *c)
{
	struct control *ctl = arg;
	struct conn *conn = map_remove(&ctl->conns, (uintptr_t)c);
	struct job *j;

	check(conn != NULL);
	check(conn->n_asking == 0);
	j = conn->who.admin ? NULL : job_find(ctl, conn->who.job);
	if (j != NULL) { /* NULL: it ended long ago and its bill was forgotten */
		check(j->n_conns > 0);
		j->n_conns--;
		job_hear(ctl, j);
	}
	list_remove(&conn->link);
	free(conn);
}

/* ---- life ---- */
static PARKS int tick(void *arg)
{
	struct control *ctl = arg;

	fiber_note(0, "looks at leases and servers");
	for (;;) {
		uint64_t now_ns = loop_now_ns(sys_loop(ctl->sys));
		bool stalled = now_ns - ctl->ticked_ns > STALL_MS * SYS_MS;

		ctl->ticked_ns = now_ns;
		if (shard_failed(ctl->sh) == 0) {
			servers_look(ctl, stalled);
			jobs_look(ctl, stalled);
			keys_look(ctl);
			if (ctl->copies != NULL)
				repair_tell(ctl, ctl->copies);
			if (now_ns - ctl->saved_ns >= LIMIT_BILL_SAVE_MS * SYS_MS) {
				ctl->saved_ns = now_ns;
				bill_save(ctl);
			}
		}
		if (fiber_sleep(now_ns + TICK_MS * SYS_MS) < 0)
			return 0;
	}
}

static uint64_t ns_of(uint64_t given_ms, uint64_t default_ms)
{
	return (given_ms != 0 ? given_ms : default_ms) * SYS_MS;
}

PARKS static int take_in(struct control *ctl, const struct control_opts *o, struct err_note *note)
{
	int rc = 0;

	if (o->key_file != NULL)
		rc = token_key_load(ctl->sys, o->key_file, ctl->key, note);
	else
		memcpy(ctl->key, o->key, sizeof ctl->key);
	if (rc < 0 || (rc = jobs_load(ctl, note)) < 0 || (rc = servers_load(ctl, note)) < 0)
		return rc;
	if ((rc = keys_begin(ctl, note)) < 0)
		return rc;
	large_policy(ctl->sh, &(struct large_policy){ .tiers = job_tiers, .quota = job_quota,
				      .cap_key = &ctl->cap_key, .job_epoch = job_cap_epoch,
				      .recall = recall_room, .arg = ctl });
	rc = fiber_start(&ctl->fibers, "control", tick, ctl);
	if (rc == 0)
		rc = fiber_start(&ctl->fibers, "repair", repair_run, ctl);
	if (rc == 0)
		rc = fiber_start(&ctl->fibers, "drain", drain_run, ctl);
	if (rc == 0)
		rc = fiber_start(&ctl->fibers, "recall", recall_run, ctl);
	return rc < 0 ? err_set(note, rc, "no fiber left") : 0;
}

static PARKS void end(void *arg)
{
	struct control *ctl = arg;

	check(list_empty(&ctl->conn_list));
	if (ctl->here != NULL)
		*ctl->here = NULL;
	group_cancel(&ctl->fibers);
	(void)group_wait(&ctl->fibers);
	if (shard_failed(ctl->sh) == 0)
		bill_save(ctl);
	jobs_fini(ctl);
	servers_fini(ctl);
	map_fini(&ctl->conns);
	explicit_bzero(ctl->key, sizeof ctl->key);
	keys_end(ctl);
	free(ctl);
}

static PARKS int begin(const void *arg, struct serve *v, void **ret_guest, struct err_note *note)
{
	struct control *ctl = calloc(1, sizeof *ctl);
	const struct control_opts *o = arg;
	int rc;

	check((o->key_file != NULL) != (o->key != NULL));
	if (ctl == NULL)
		return err_set(note, E_NOMEM, "no memory for a controller");
	ctl->sys = serve_sys(v);
	ctl->v = v;
	ctl->sh = serve_shard(v);
	ctl->silent_ns = ns_of(o->server_silent_ms, LIMIT_SERVER_SILENT_MS);
	ctl->gone_ns = ns_of(o->server_gone_ms, LIMIT_SERVER_GONE_MS);
	ctl->key_rotate_ms = o->key_rotate_ms != 0 ? o->key_rotate_ms : LIMIT_CAP_KEY_ROTATE_MS;
	ctl->fence_ns = ns_of(o->fence_ms, LIMIT_STORE_FENCE_MS);
	ctl->born_ns = ctl->ticked_ns = ctl->saved_ns = sys_now_ns(ctl->sys);
	ctl->copies = o->copies;
	ctl->here = o->here;
	list_init(&ctl->conn_list);
	list_init(&ctl->jobs);
	waitq_init(&ctl->repair.wake);
	waitq_init(&ctl->recall.wake);
	group_init(&ctl->fibers, sys_loop(ctl->sys));
	ctl->fibers.keep_going = true;
	if ((rc = take_in(ctl, o, note)) < 0) {
		end(ctl);
		return rc;
	}
	if (ctl->here != NULL)
		*ctl->here = ctl;
	*ret_guest = ctl;
	return 0;
}

const struct serve_guest control_guest = {
	.ops = control_ops,
	.n_ops = sizeof control_ops / sizeof control_ops[0],
	.begin = begin,
	.resolve = resolve,
	.opened = opened,
	.lost = lost,
	.closed = closed,
	.end = end,
};
