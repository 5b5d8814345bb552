/* SPDX-License-Identifier: Apache-2.0 */
#include "client/dialog.h"
#include "base/check.h"
#include <string.h>

int dialog_init(struct dialog *se, struct sys *s, struct group *g, const struct dialog_opts *o,
	struct err_note *note)
{
	const char *name = o->name != NULL ? o->name : "";
	uint64_t id[2];
	int rc;

	if (o->token.len > sizeof se->token || o->key.len > sizeof se->key)
		return err_set(note, E_INVALID, "a token of %zu bytes", o->token.len);
	memset(se, 0, sizeof *se);
	if ((rc = route_init(&se->route, s, o->addr, note)) < 0)
		return rc;
	se->sys = s;
	se->group = g;
	se->wait = o->wait;
	memcpy(se->name, name, strnlen(name, sizeof se->name - 1));
	if (o->token.len > 0)
		memcpy(se->token, o->token.p, o->token.len);
	if (o->key.len > 0)
		memcpy(se->key, o->key.p, o->key.len);
	se->route.key = bytes_of(se->key, o->key.len);
	sys_secret(s, id, sizeof id);
	se->hello = (struct msg_hello){
		.role = ROLE_CLIENT,
		.client_hi = id[0],
		.client_lo = id[1] | 1, /* 0,0 would mean: no session */
		.token = bytes_of(se->token, o->token.len),
		.name = bytes_of(se->name, strlen(se->name)),
	};
	se->next_number = 1;
	fiber_lock_init(&se->connecting);
	waitq_init(&se->slots);
	waitq_init(&se->asked);
	group_init(&se->watch, sys_loop(s));
	se->watch.keep_going = true;
	return 0;
}

uint64_t dialog_round_trips(const struct dialog *se)
{
	return se->round_trips + (se->conn != NULL ? rpc_round_trips(se->conn) : 0);
}

uint16_t dialog_version(const struct dialog *se)
{
	return se->conn != NULL ? rpc_conn_version(se->conn) : WIRE_VERSION;
}

/* The caller holds the lock, so nobody else is between the two. */
PARKS static void drop(struct dialog *se)
{
	struct rpc_conn *conn = se->conn;

	if (conn == NULL)
		return;
	se->conn = NULL;
	se->round_trips += rpc_round_trips(conn);
	rpc_close(conn);
}

PARKS void dialog_fini(struct dialog *se)
{
	check(waitq_empty(&se->slots));
	check(se->n_asking == 0);
	group_cancel(&se->watch);
	group_wait(&se->watch);
	drop(se);
}

/* ---- connecting; the caller holds the lock ---- */
PARKS static int look(struct dialog *se, enum route_how how, const char *except, uint64_t until_ns,
	struct err_note *note)
{
	struct rpc_connect o = { .svc = se->svc, .group = se->group, .hello = se->hello };
	struct msg_hello_ok ok;
	struct rpc_conn *conn;
	int rc = route_connect(&se->route, &o, how, except, until_ns, &conn, &ok, note);

	if (rc < 0)
		return rc;
	drop(se);
	memcpy(se->at, route_name(&se->route), sizeof se->at);
	if (ok.last_number < se->answered) {
		sys_reached(se->sys, "session forgotten by the server");
		se->forgotten++;
		se->answered = 0;
	}
	se->conn = conn;
	se->n_conns++;
	se->job = ok.job;
	se->greeted = true;
	waitq_wake_all(&se->asked);
	return 0;
}

PARKS static int connect_locked(struct dialog *se, uint64_t until_ns, struct err_note *note)
{
	uint64_t pause_ns = 0;

	for (;;) {
		bool again = se->greeted || se->wait;
		int rc;

		if (se->conn != NULL && rpc_conn_open(se->conn))
			return 0;
		drop(se);
		rc = look(se, again ? ROUTE_AGAIN : ROUTE_FIRST, NULL, until_ns, note);
		if (rc == 0 || !route_retries(rc) || !again)
			return rc;
		if (sys_now_ns(se->sys) >= until_ns)
			return rc;
		if ((rc = route_pause(&se->route, &pause_ns, until_ns)) < 0)
			return err_set(note, rc, "connecting to %s", route_name(&se->route));
	}
}

/* Whether the nth connection is there: its address alone says nothing, for it comes again. */
static bool is_there(const struct dialog *se, uint64_t nth)
{
	return se->conn != NULL && se->n_conns == nth;
}

/* ---- silence ---- */
/* (S4) */
PARKS static bool look_elsewhere(struct dialog *se, uint64_t nth)
{
	uint64_t until_ns = sys_after(se->sys, DIALOG_LOOK_MS * SYS_MS);
	bool found = false;

	if (fiber_lock(&se->connecting, until_ns) < 0)
		return false;
	if (is_there(se, nth))
		found = look(se, ROUTE_ONCE, se->at, until_ns, NULL) == 0;
	fiber_unlock(&se->connecting);
	if (found)
		sys_reached(se->sys, "a silent one was left for one that leads");
	return found;
}

/* Whether it still is the one that is asked, and nothing came from it. */
static bool is_still(const struct dialog *se, uint64_t nth, uint64_t heard)
{
	return is_there(se, nth) && se->n_asking > 0 &&
		rpc_conn_open(se->conn) && rpc_conn_heard(se->conn) == heard;
}

static bool is_slow(const struct dialog *se, uint64_t nth)
{
	uint64_t now_ns = loop_now_ns(sys_loop(se->sys));

	return is_there(se, nth) && se->n_changing > 0 &&
		rpc_conn_open(se->conn) && now_ns - se->changed_ns > DIALOG_SLOW_MS * SYS_MS;
}

/* One look at the connection: notices when it falls silent or gets nothing done, and then looks
 * elsewhere until that is over or it is left. */
PARKS static void listen_to(struct dialog *se)
{
	struct rpc_call ping = { .op = OP_ping, .plain = true, .msg = &(struct msg_ping){ } };
	uint64_t nth = se->n_conns, heard = rpc_conn_heard(se->conn);
	uint64_t pause_ns = DIALOG_PAUSE_MS * SYS_MS;
	struct msg_ok ok;

	if (fiber_sleep(sys_after(se->sys, DIALOG_QUIET_MS * SYS_MS)) < 0)
		return;
	if (is_slow(se, nth)) {
		pause_ns = DIALOG_SLOW_MS * SYS_MS;
	} else if (is_still(se, nth, heard)) {
		(void)rpc_ask(se->conn, &ping, OP_ok, &ok,
			sys_after(se->sys, DIALOG_PING_MS * SYS_MS), NULL);
		rpc_call_fini(&ping);
	} else {
		return;
	}
	while ((is_still(se, nth, heard) || is_slow(se, nth)) && !look_elsewhere(se, nth)) {
		if (fiber_sleep(sys_after(se->sys, pause_ns)) < 0)
			return;
		pause_ns = pause_ns * 2 < DIALOG_PAUSE_MS_MAX * SYS_MS ? pause_ns * 2
			: DIALOG_PAUSE_MS_MAX * SYS_MS;
	}
}

PARKS static int watch_run(void *arg)
{
	struct dialog *se = arg;

	fiber_note(0, "notices silence");
	while (!fiber_canceled())
		if (se->n_asking == 0 || se->conn == NULL)
			(void)waitq_wait(&se->asked, FOREVER);
		else
			listen_to(se);
	return 0;
}

/* Nobody watches the only one that there is. */
static void watch(struct dialog *se)
{
	if (!se->watched && se->route.n > 1)
		se->watched = fiber_start(&se->watch, "dialog", watch_run, se) == 0;
	waitq_wake_all(&se->asked);
}

PARKS int dialog_connect(struct dialog *se, uint64_t until_ns, struct err_note *note)
{
	int rc;

	if (se->conn != NULL && rpc_conn_open(se->conn))
		return 0;
	rc = fiber_lock(&se->connecting, until_ns);
	if (rc < 0)
		return err_set(note, rc, "connecting to %s", route_name(&se->route));
	rc = connect_locked(se, until_ns, note);
	fiber_unlock(&se->connecting);
	return rc;
}

/* (S1) */
PARKS static int number_take(struct dialog *se, uint64_t until_ns, uint64_t *ret_number)
{
	while (se->open[se->next_number % DIALOG_SLOTS] != 0) {
		int rc = waitq_wait(&se->slots, until_ns);

		if (rc < 0)
			return rc;
	}
	*ret_number = se->next_number++;
	se->open[*ret_number % DIALOG_SLOTS] = *ret_number;
	return 0;
}

static void number_give_back(struct dialog *se, uint64_t number)
{
	uint64_t *slot = &se->open[number % DIALOG_SLOTS];

	check(*slot == number);
	*slot = 0;
	/* All look again: who waits for another slot would swallow a single wake. */
	waitq_wake_all(&se->slots);
}

/* It leads no more, and may have said who does. */
PARKS static void leave(struct dialog *se, uint64_t nth, const char *hint,
	uint64_t until_ns)
{
	if (fiber_lock(&se->connecting, until_ns) < 0)
		return;
	if (is_there(se, nth)) {
		sys_reached(se->sys, "left one that leads no more");
		drop(se);
		if (hint[0] != '\0')
			(void)route_hint(&se->route, hint);
	}
	fiber_unlock(&se->connecting);
}

/* One attempt.  *ret_sent: the server may have seen one that it did not answer. */
PARKS static int ask_once(struct dialog *se, struct ask *a, uint64_t number, void *ret_reply,
	uint64_t until_ns, bool *ret_sent, bool *ret_answered, struct err_note *note)
{
	uint64_t nth = se->n_conns;
	char hint[SYS_ADDR_MAX] = "";
	int rc;

	*ret_answered = false;
	rpc_call_fini(&a->call);
	a->call = (struct rpc_call){ .op = a->op, .msg = a->msg, .data = a->data,
		.plain = !a->changes, .cookie = number, .into = a->into, .into_cap = a->into_cap,
		.ret_hint = hint };
	if (a->changes && se->n_changing++ == 0)
		se->changed_ns = loop_now_ns(sys_loop(se->sys));
	if (se->n_asking++ == 0)
		watch(se);
	rc = rpc_ask(se->conn, &a->call, a->reply_op, ret_reply, until_ns, note);
	se->n_asking--;
	se->n_changing -= a->changes;
	a->call.ret_hint = NULL;
	*ret_answered = rc == 0 || a->call.reply_op == OP_error;
	if (a->changes && *ret_answered)
		se->changed_ns = loop_now_ns(sys_loop(se->sys));
	if (*ret_answered && rc == E_NOTPRIMARY) {
		/* It may have begun it before it knew. */
		*ret_answered = false;
		leave(se, nth, hint, until_ns);
	}
	*ret_sent |= !*ret_answered;
	return rc;
}

/* Until it is answered, or the deadline. */
PARKS static int ask_numbered(struct dialog *se, struct ask *a, uint64_t number, void *ret_reply,
	uint64_t until_ns, bool *ret_sent, bool *ret_answered, struct err_note *note)
{
	uint64_t forgotten = se->forgotten, pause_ns = 0;

	for (;;) {
		int rc;

		*ret_answered = false;
		rc = dialog_connect(se, until_ns, note);
		if (rc < 0)
			return rc;
		if (a->changes && *ret_sent && se->forgotten != forgotten) /* (S2) */
			return err_set(note, E_UNKNOWN, "%s lost this session", se->at);
		rc = ask_once(se, a, number, ret_reply, until_ns, ret_sent, ret_answered, note);
		if (rc == 0 || rc == E_CANCELED || rc == E_TIMEOUT)
			return rc;
		if (*ret_answered && rc != E_BUSY)
			return rc;
		if (!*ret_answered && !route_retries(rc))
			return rc;
		if (*ret_answered)
			sys_reached(se->sys, "busy: asked again");
		else
			sys_reached(se->sys, "broken: asked again");
		if (sys_now_ns(se->sys) >= until_ns)
			return rc;
		if (route_pause(&se->route, &pause_ns, until_ns) < 0)
			return err_set(note, E_CANCELED, "waiting to repeat a request to %s",
				se->at);
		if (sys_now_ns(se->sys) >= until_ns)
			return rc;
	}
}

PARKS int dialog_ask(struct dialog *se, struct ask *a, void *ret_reply, uint64_t until_ns,
	struct err_note *note)
{
	uint64_t number = 0; /* (S3) */
	bool sent = false, answered = false;
	int rc;

	if (a->changes) {
		rc = number_take(se, until_ns, &number);
		if (rc < 0)
			return err_set(note, rc, "%u requests under way", DIALOG_SLOTS);
	}
	rc = ask_numbered(se, a, number, ret_reply, until_ns, &sent, &answered, note);
	if (!a->changes)
		return rc;
	number_give_back(se, number);
	if (rc == 0 && number > se->answered)
		se->answered = number;
	if (rc == 0 || !sent || answered || rc == E_CANCELED || rc == E_UNKNOWN)
		return rc;
	sys_reached(se->sys, "change sent and not answered");
	if (rc == E_TIMEOUT)
		return err_set(note, E_UNKNOWN, "%s did not answer in time", se->at);
	return err_wrap(note, E_UNKNOWN, "sent, not answered, and then");
}

void ask_fini(struct ask *a)
{
	rpc_call_fini(&a->call);
}
