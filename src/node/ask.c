/* SPDX-License-Identifier: Apache-2.0 */
#include "node/ask.h"
#include "base/check.h"
#include "wire/words.h"
#include <string.h>

int node_ask(struct node_ask *a, uint16_t op, const void *msg, uint16_t reply_op, void *ret_reply,
	uint64_t until_ns, struct err_note *note)
{
	struct rpc_connect o = { .addr = a->addr,
		.group = &a->group,
		.ret_hint = a->hint,
		.hello = { .role = ROLE_REPLICA,
			.token = bytes_of(a->key, strlen(a->key)),
			.name = bytes_of("node", 4) } };
	struct msg_hello_ok ok;
	int rc;

	check(a->conn == NULL);
	group_init(&a->group, sys_loop(a->s));
	a->group.keep_going = true;
	memset(&a->call, 0, sizeof a->call);
	a->hint[0] = '\0';
	rc = rpc_connect(a->s, &o, until_ns, &a->conn, &ok, note);
	if (rc < 0) {
		a->conn = NULL;
		return rc;
	}
	a->call.op = op;
	a->call.plain = true;
	a->call.msg = msg;
	a->call.ret_hint = a->hint;
	return rpc_ask(a->conn, &a->call, reply_op, ret_reply, until_ns, note);
}

void node_ask_end(struct node_ask *a)
{
	rpc_call_fini(&a->call);
	rpc_close(a->conn);
	a->conn = NULL;
	(void)group_wait(&a->group);
}
