/* SPDX-License-Identifier: Apache-2.0 */
/* Clients keep room to write into ahead of need (client/grants.h).  It is asked for again when its
 * server is to be emptied (drain.c), and when somebody else finds no room: a few clients that were
 * quick must not keep what all the others lack. */
#include "control/own.h"

enum {
	ANSWER_MS = 1000,
	HEARD_MS = 10000,  /* since a client answered: it is alive */
	ASKED_AT_ONCE = 32,
	GIVEN_MS = 1000,   /* so long after they were asked what they return comes in */
	AGAIN_MS = 2000,   /* and then all are asked again, should it be needed */
};

struct asking {
	struct control *ctl;
	struct rpc_conn *rpc;
	uint64_t number; /* of the connection */
	uint32_t server;
};

static struct conn *conn_numbered(const struct control *ctl, uint64_t number)
{
	list_each (it, &ctl->conn_list) {
		struct conn *conn = container_of(it, struct conn, link);

		if (conn->number == number)
			return conn;
	}
	return NULL;
}

static PARKS int ask_fiber(void *arg)
{
	struct asking *a = arg;
	struct msg_grant_recall m = { .server = a->server };
	struct rpc_call call = { .op = OP_grant_recall, .plain = true, .msg = &m };
	struct conn *conn = conn_numbered(a->ctl, a->number);
	struct msg_grant_recall_ok ok;
	int rc = E_CLOSED;

	if (conn != NULL && rpc_conn_open(a->rpc))
		rc = rpc_ask(a->rpc, &call, OP_grant_recall_ok, &ok,
			sys_after(a->ctl->sys, ANSWER_MS * SYS_MS), NULL);
	rpc_call_fini(&call);
	conn = conn_numbered(a->ctl, a->number); /* it may have gone meanwhile */
	if (rc == 0 && conn != NULL)
		conn->recalled_ns = loop_now_ns(sys_loop(a->ctl->sys));
	if (rc == 0 && conn != NULL && conn->session != NULL && ok.writes == 0 && a->server != 0)
		drain_unknown(a->ctl, a->server, session_id(conn->session));
	return 0;
}

static bool is_asked(const struct conn *conn)
{
	return conn->session != NULL && rpc_conn_open(conn->rpc) &&
	       rpc_conn_version(conn->rpc) >= 2;
}

/* Which of them hold room there is known by their sessions only. */
PARKS int recall_clients(struct control *ctl, uint32_t server)
{
	struct asking some[ASKED_AT_ONCE];
	uint64_t after = 0;
	int rc = 0;

	while (rc == 0) {
		struct group g;
		uint32_t n = 0;

		group_init(&g, sys_loop(ctl->sys));
		g.keep_going = true;
		list_each (it, &ctl->conn_list) { /* their numbers ascend */
			struct conn *conn = container_of(it, struct conn, link);

			if (conn->number <= after || !is_asked(conn) || n == ASKED_AT_ONCE)
				continue;
			some[n] = (struct asking){ ctl, conn->rpc, conn->number, server };
			after = conn->number;
			(void)fiber_start(&g, "recall", ask_fiber, &some[n++]);
		}
		rc = group_wait(&g);
		if (n == 0)
			break;
	}
	return rc;
}

bool recall_heard(const struct control *ctl, uint64_t session)
{
	uint64_t now_ns = loop_now_ns(sys_loop(ctl->sys));

	list_each (it, &ctl->conn_list) {
		const struct conn *conn = container_of(it, struct conn, link);

		if (conn->session != NULL && session_id(conn->session) == session &&
			conn->recalled_ns != 0 && now_ns - conn->recalled_ns < HEARD_MS * SYS_MS)
			return true;
	}
	return false;
}

bool recall_room(void *arg)
{
	struct control *ctl = arg;
	uint64_t now_ns = sys_now_ns(ctl->sys);

	if (ctl->recall.asked_ns == 0 || now_ns - ctl->recall.asked_ns > AGAIN_MS * SYS_MS) {
		ctl->recall.asked_ns = now_ns;
		waitq_wake_all(&ctl->recall.wake);
	}
	return now_ns - ctl->recall.asked_ns < GIVEN_MS * SYS_MS;
}

PARKS int recall_run(void *arg)
{
	struct control *ctl = arg;
	uint64_t seen_ns = 0;
	int rc = 0;

	fiber_note(0, "asks for room that others need");
	while (rc != E_CANCELED && !fiber_canceled()) {
		if (ctl->recall.asked_ns == seen_ns) {
			rc = waitq_wait(&ctl->recall.wake, FOREVER);
			continue;
		}
		seen_ns = ctl->recall.asked_ns;
		sys_reached(ctl->sys, "room that others need asked for again");
		rc = recall_clients(ctl, 0);
	}
	return 0;
}
