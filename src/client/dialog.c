/* SPDX-License-Identifier: Apache-2.0 */
#include "client/dialog.h"
#include "base/check.h"
#include <string.h>

#define BACKOFF_FIRST_NS (2 * SYS_MS)
#define BACKOFF_MAX_NS (250 * SYS_MS)

int dialog_init(struct dialog *se, struct sys *s, struct group *g, const struct dialog_opts *o,
	struct err_note *note)
{
	const char *name = o->name != NULL ? o->name : "";
	uint64_t id[2];

	if (o->token.len > sizeof se->token)
		return err_set(note, E_INVALID, "a token of %zu bytes", o->token.len);
	if (strlen(o->addr) >= sizeof se->addr)
		return err_set(note, E_INVALID, "an address of %zu bytes", strlen(o->addr));
	memset(se, 0, sizeof *se);
	se->sys = s;
	se->group = g;
	se->wait = o->wait;
	memcpy(se->addr, o->addr, strlen(o->addr) + 1);
	memcpy(se->name, name, strnlen(name, sizeof se->name - 1));
	if (o->token.len > 0)
		memcpy(se->token, o->token.p, o->token.len);
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
	drop(se);
}

/* Longer each time, and spread so that many clients do not come back together. */
PARKS static int back_off(struct dialog *se, uint64_t until_ns)
{
	uint64_t ns = se->backoff_ns < BACKOFF_FIRST_NS ? BACKOFF_FIRST_NS : se->backoff_ns, at;

	se->backoff_ns = ns * 2 < BACKOFF_MAX_NS ? ns * 2 : BACKOFF_MAX_NS;
	ns = ns / 2 + sys_random(se->sys) % (ns / 2);
	at = sys_after(se->sys, ns);
	return fiber_sleep(at < until_ns ? at : until_ns);
}

PARKS static int connect_once(struct dialog *se, uint64_t until_ns, struct err_note *note)
{
	struct rpc_connect o = { .addr = se->addr, .group = se->group, .hello = se->hello };
	struct msg_hello_ok ok;
	struct rpc_conn *conn;
	int rc = rpc_connect(se->sys, &o, until_ns, &conn, &ok, note);

	if (rc < 0)
		return rc;
	if (ok.last_number < se->answered) {
		sys_reached(se->sys, "session forgotten by the server");
		se->forgotten++;
		se->answered = 0;
	}
	se->conn = conn;
	se->job = ok.job;
	se->greeted = true;
	se->backoff_ns = 0;
	return 0;
}

static bool worth_retrying(int rc)
{
	return rc == E_UNREACH || rc == E_CLOSED || rc == E_IO || rc == E_BUSY || rc == E_CORRUPT;
}

PARKS static int connect_locked(struct dialog *se, uint64_t until_ns, struct err_note *note)
{
	for (;;) {
		int rc;

		if (se->conn != NULL && rpc_conn_open(se->conn))
			return 0;
		drop(se);
		rc = connect_once(se, until_ns, note);
		if (rc == 0)
			return 0;
		if (!worth_retrying(rc) || (!se->greeted && !se->wait))
			return rc;
		if (sys_now_ns(se->sys) >= until_ns)
			return rc;
		if ((rc = back_off(se, until_ns)) < 0)
			return err_set(note, rc, "connecting to %s", se->addr);
	}
}

PARKS int dialog_connect(struct dialog *se, uint64_t until_ns, struct err_note *note)
{
	int rc;

	if (se->conn != NULL && rpc_conn_open(se->conn))
		return 0;
	rc = fiber_lock(&se->connecting, until_ns);
	if (rc < 0)
		return err_set(note, rc, "connecting to %s", se->addr);
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

/* One attempt.  *ret_sent: the server may have seen one that it did not answer. */
PARKS static int ask_once(struct dialog *se, struct ask *a, uint64_t number, void *ret_reply,
	uint64_t until_ns, bool *ret_sent, bool *ret_answered, struct err_note *note)
{
	struct rpc_conn *conn = se->conn;
	int rc;

	*ret_answered = false;
	rpc_call_fini(&a->call);
	a->call = (struct rpc_call){ .op = a->op, .msg = a->msg, .data = a->data,
		.plain = !a->changes, .cookie = number, .into = a->into, .into_cap = a->into_cap };
	rc = rpc_ask(conn, &a->call, a->reply_op, ret_reply, until_ns, note);
	*ret_answered = rc == 0 || a->call.reply_op == OP_error;
	*ret_sent |= !*ret_answered;
	return rc;
}

/* Until it is answered, or the deadline. */
PARKS static int ask_numbered(struct dialog *se, struct ask *a, uint64_t number, void *ret_reply,
	uint64_t until_ns, bool *ret_sent, bool *ret_answered, struct err_note *note)
{
	uint64_t forgotten = se->forgotten;

	for (;;) {
		int rc;

		*ret_answered = false;
		rc = dialog_connect(se, until_ns, note);
		if (rc < 0)
			return rc;
		if (a->changes && *ret_sent && se->forgotten != forgotten) /* (S2) */
			return err_set(note, E_UNKNOWN, "%s lost this session", se->addr);
		rc = ask_once(se, a, number, ret_reply, until_ns, ret_sent, ret_answered, note);
		if (rc == 0 || rc == E_CANCELED || rc == E_TIMEOUT)
			return rc;
		if (*ret_answered && rc != E_BUSY)
			return rc;
		if (!*ret_answered && !worth_retrying(rc))
			return rc;
		if (*ret_answered)
			sys_reached(se->sys, "busy: asked again");
		else
			sys_reached(se->sys, "broken: asked again");
		if (back_off(se, until_ns) < 0)
			return err_set(note, E_CANCELED, "waiting to repeat a request to %s",
				se->addr);
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
	if (rc == 0) {
		se->backoff_ns = 0;
		if (number > se->answered)
			se->answered = number;
	}
	if (rc == 0 || !sent || answered || rc == E_CANCELED || rc == E_UNKNOWN)
		return rc;
	sys_reached(se->sys, "change sent and not answered");
	if (rc == E_TIMEOUT)
		return err_set(note, E_UNKNOWN, "%s did not answer in time", se->addr);
	return err_wrap(note, E_UNKNOWN, "sent, not answered, and then");
}

void ask_fini(struct ask *a)
{
	rpc_call_fini(&a->call);
}
