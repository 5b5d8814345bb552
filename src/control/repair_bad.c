/* SPDX-License-Identifier: Apache-2.0 */
/* Extents of which somebody said that they are not what was written. */
#include "control/repair_own.h"
#include "wire/frame.h"

/* One server looks at what it has, and makes it good if another one has it: as it said. */
static PARKS int look_again(struct round *r, const struct large_extent *x, uint32_t server,
	int *ret_rc)
{
	bool all = true;
	int rc;

	check(r->n == 0);
	rc = repair_fly(r, x, server, REPAIR_CHECKED, &all);
	if (rc == 0)
		rc = repair_land(r, &all);
	*ret_rc = r->flights[0].rc;
	return rc;
}

/* Nobody has what was written, each member says: it has looked itself.  Whoever cannot be asked may
 * have it, and so may one that is being filled. */
static PARKS int mourn(struct round *r, const struct large_extent *x)
{
	struct control *ctl = r->ctl;
	struct room_egroup_info info;
	struct large_extent now;
	int rc = 0, said;

	if (!room_egroup(large_room(ctl->sh), x->egroup, &info) || info.doomed)
		return 0;
	for (uint8_t i = 0; i < info.n_members; i++) {
		if (info.members[i].state != ROOM_MEMBER_IN ||
			!repair_reaches(ctl, info.members[i].server))
			return 0;
		rc = look_again(r, x, info.members[i].server, &said);
		if (rc < 0 || said != E_CORRUPT)
			return rc;
	}
	if (!large_extent(ctl->sh, x->extent, &now) || now.egroup != x->egroup)
		return 0;
	sys_reached(ctl->sys, "an extent was lost: rotten on all of its servers");
	large_extent_lost(ctl->sh, x->extent);
	return 0;
}

PARKS int repair_mend(struct round *r)
{
	struct repairing *p = &r->ctl->repair;
	int rc = 0, said;

	while (rc == 0 && p->n_bad > 0) {
		struct bad b = p->bad[--p->n_bad];
		struct large_extent x;

		if (!large_extent(r->ctl->sh, b.extent, &x) || x.egroup != b.egroup || x.lost)
			continue;
		rc = look_again(r, &x, b.server, &said);
		if (rc == 0 && said == E_CORRUPT)
			rc = mourn(r, &x);
	}
	return rc;
}

void on_extent_bad(void *arg, struct rpc_request *req)
{
	struct control *ctl = arg;
	struct repairing *p = &ctl->repair;
	struct msg_extent_bad m;
	struct sub_bad_extent b;
	struct shard_call c;
	uint32_t of = 0, most;
	int rc;

	call_begin(ctl, req, &c);
	rc = decoded(&c, msg_extent_bad_get(req->body.p, req->body.len, req->version, &m));
	for (uint32_t i = 1; i <= LIMIT_SERVERS_MAX; i++)
		if (ctl->servers[i] != NULL && ctl->servers[i]->conn == req->conn)
			of = i;
	/* Whoever is not known to be right must not keep out those who are. */
	most = of != 0 || c.who.admin ? BAD_MAX : BAD_MAX / 4;
	while (rc == 0 && p->n_bad < most && sub_bad_extent_next(&m.extents, &b)) {
		uint32_t server = b.server != 0 ? b.server : of;

		if (large_server(ctl->sh, server) != NULL)
			p->bad[p->n_bad++] = (struct bad){ b.egroup, b.extent, server };
	}
	if (rc < 0) {
		rpc_reply_error(req, rc, &c.note, RPC_NOW);
		return;
	}
	waitq_wake_all(&p->wake);
	rpc_reply_ok(req, RPC_NOW);
}

