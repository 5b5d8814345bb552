/* SPDX-License-Identifier: Apache-2.0 */
/* What another replica says: decoded, verified, given to the core (D5).
 *
 * The core hears of records only when every byte of them is here and makes the chain that their
 * places tell. */
#include "base/check.h"
#include "base/limit.h"
#include "meta/record.h"
#include "meta/replicate_own.h"
#include <stdlib.h>

void taken_unref(struct taken *t)
{
	if (t == NULL)
		return;
	check(t->refs > 0);
	if (--t->refs == 0)
		free(t);
}

static bool chained(const struct taken *t)
{
	uint64_t chain = t->msg.prev.chain;
	size_t at = 0;

	for (uint32_t i = 0; i < t->msg.n; i++) {
		const struct replica_place *p = &t->msg.places[i];

		check(at + t->room.lens[i] <= t->len);
		chain = record_chain(chain, p->index, p->epoch, t->data + at, t->room.lens[i]);
		if (chain != p->chain)
			return false;
		at += t->room.lens[i];
	}
	return true;
}

static int decode(struct replicate *r, const struct rpc_request *req, struct taken **ret_t,
	struct err_note *note)
{
	struct msg_replica_say say;
	struct taken *t;
	int rc = msg_replica_say_get(req->body.p, req->body.len, req->version, &say);

	if (rc < 0)
		return rc;
	if (say.shard != r->shard || say.to != r->id)
		return err_set(note, E_NOTFOUND, "replica %llu of shard %u is not here",
			(unsigned long long)say.to, say.shard);
	if (r->ended)
		return err_set(note, E_UNAVAILABLE, "this replica has ended");
	if (req->data_len > 0 && r->taken_bytes + req->data_len > REPLICATE_TAKEN_BYTES_MAX)
		return err_set(note, E_BUSY, "%zu bytes wait to be written", r->taken_bytes);
	t = malloc(sizeof *t + req->data_len);
	if (t == NULL)
		return E_NOMEM;
	t->refs = 1;
	t->len = req->data_len;
	rc = replica_say_get(&say, req->data_len, &t->room, &t->msg);
	if (rc < 0)
		taken_unref(t);
	else
		*ret_t = t;
	return rc;
}

/* Of an append or an ack the sender awaits an ack or nothing; that it was taken only tells him that
 * the connection lives.  So such answers go together, instead of waking him one by one. */
static bool answers_later(const struct replicate *r, const struct taken *t)
{
	return r->ticks && t->len <= SAY_LATER_BYTES_MAX && t->msg.sent_ns == 0 &&
	       (t->msg.kind == REPLICA_APPEND || t->msg.kind == REPLICA_ACK);
}

void say_answer_all(struct replicate *r)
{
	for (uint32_t i = 0; i < r->n_later; i++)
		rpc_reply_ok(&r->later[i], RPC_NOW);
	r->n_later = 0;
}

/* 0: it is answered, or will be. */
static PARKS int take(struct replicate *r, struct rpc_request *req, struct err_note *note)
{
	struct replica_event ev = { .kind = REPLICA_EV_MSG };
	struct taken *t = NULL;
	int rc = decode(r, req, &t, note);

	if (rc == 0)
		rc = rpc_recv_data(req, t->data, t->len, sys_after(r->sys, SAY_DATA_NS));
	if (rc == 0 && !chained(t))
		rc = err_set(note, E_CORRUPT, "a record does not make the chain that is told");
	if (rc == 0) {
		ev.msg = t->msg;
		r->handling = t;
		replicate_step(r, &ev);
		r->handling = NULL;
		if (r->n_later == SAY_LATER_MAX || !answers_later(r, t))
			say_answer_all(r);
		if (answers_later(r, t))
			r->later[r->n_later++] = *req;
		else
			rpc_reply_ok(req, RPC_NOW);
	}
	taken_unref(t);
	return rc;
}

void replicate_on_say(struct replicate *r, struct rpc_request *req)
{
	struct err_note note = { "" };
	int rc;

	r->n_inside++;
	rc = take(r, req, &note);
	if (rc == E_CLOSED || rc == E_CANCELED)
		rpc_drop(req);
	else if (rc < 0)
		rpc_reply_error(req, rc, &note, RPC_NOW);
	if (--r->n_inside == 0)
		waitq_wake_all(&r->quiet);
}
