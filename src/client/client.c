/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"
#include "client/own.h"
#include <stdlib.h>
#include <string.h>

static void on_recall(void *arg, struct rpc_request *r)
{
	struct client *c = arg;
	struct msg_grant_recall_ok ok;
	struct msg_grant_recall m;

	if (msg_grant_recall_get(r->body.p, r->body.len, r->version, &m) < 0) {
		rpc_reply_error(r, E_CORRUPT, NULL, RPC_NOW);
		return;
	}
	ok.writes = grants_recall(&c->grants, m.server);
	sys_reached(c->sys, "room returned before its server is emptied");
	rpc_reply(r, OP_grant_recall_ok, &ok, bytes_of(NULL, 0), RPC_NOW);
}

static const struct rpc_op asked_ops[] = { { OP_grant_recall, RPC_INLINE, on_recall } };

PARKS int client_new(struct sys *s, const struct client_opts *o, uint64_t until_ns,
	struct client **ret_c, struct err_note *note)
{
	struct dialog_opts so = { .addr = o->addr, .name = o->name, .token = o->token,
		.key = o->key, .wait = o->wait };
	struct client *c = calloc(1, sizeof *c);
	int rc;

	if (c == NULL)
		return err_set(note, E_NOMEM, "a client");
	c->sys = s;
	group_init(&c->group, sys_loop(s));
	c->group.keep_going = true;
	group_init(&c->work, sys_loop(s));
	c->work.keep_going = true;
	list_init(&c->buckets);
	rc = dialog_init(&c->dialog, s, &c->group, &so, note);
	if (rc < 0) {
		free(c);
		return rc;
	}
	c->asked = (struct rpc_service){ .ops = asked_ops, .n_ops = 1, .arg = c };
	c->dialog.svc = &c->asked;
	peers_init(&c->peers, s, &c->group, &c->dialog.hello);
	grants_init(&c->grants, &c->dialog, &c->peers, &c->work);
	rc = dialog_connect(&c->dialog, until_ns, note);
	if (rc < 0) {
		client_free(c);
		return rc;
	}
	*ret_c = c;
	return 0;
}

PARKS void client_free(struct client *c)
{
	uint64_t until_ns;

	if (c == NULL)
		return;
	until_ns = sys_after(c->sys, CLIENT_CLOSE_MS * SYS_MS);
	fiber_shield(until_ns);
	grants_return(&c->grants, until_ns);
	group_wait(&c->work);
	peers_fini(&c->peers);
	dialog_fini(&c->dialog);
	group_cancel(&c->group);
	group_wait(&c->group);
	fiber_unshield();
	grants_fini(&c->grants);
	buckets_fini(c);
	free(c);
}

uint64_t client_job(const struct client *c)
{
	return c->dialog.job;
}

void client_round_trips(const struct client *c, uint64_t *ret_meta, uint64_t *ret_store)
{
	*ret_meta = dialog_round_trips(&c->dialog);
	*ret_store = peers_round_trips(&c->peers);
}
