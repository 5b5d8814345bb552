/* SPDX-License-Identifier: Apache-2.0 */
/* The members of etcd itself. */
#include "base/check.h"
#include "coord/etcd_own.h"
#include <stdlib.h>

int coord_etcd_members(struct coord *c, uint64_t until_ns,
	struct coord_etcd_member ret_members[ETCD_MEMBERS_MAX], uint32_t *ret_n,
	struct err_note *note)
{
	struct etcd_call k = {
		.path = "/v3/cluster/member/list", .body = strdup("{}"), .until_ns = until_ns
	};
	int rc = etcd_call(etcd_of(c), &k, note);

	if (rc < 0)
		return rc;
	rc = etcd_read_members(k.answer, ret_members, ret_n);
	free((void *)(uintptr_t)k.answer.p);
	return rc < 0 ? err_set(note, rc, "list etcd's members: its answer cannot be read") : 0;
}

int coord_etcd_member_add(struct coord *c, const char *peer_url, bool learner, uint64_t until_ns,
	uint64_t *ret_id, struct err_note *note)
{
	struct etcd_call k = {
		.path = "/v3/cluster/member/add", .once = true, .until_ns = until_ns
	};
	int rc;

	k.body = etcd_ask_member_add(peer_url, learner);
	rc = etcd_call(etcd_of(c), &k, note);
	if (rc < 0)
		return etcd_outcome(&k, rc);
	rc = etcd_read_member_id(k.answer, ret_id);
	free((void *)(uintptr_t)k.answer.p);
	return rc < 0 ? err_set(note, E_UNKNOWN, "add %s: etcd's answer cannot be read", peer_url)
		      : 0;
}

PARKS static int change(struct coord *c, struct etcd_call *k, uint64_t id, struct err_note *note)
{
	int rc;

	k->once = true;
	k->body = etcd_ask_member(id);
	rc = etcd_call(etcd_of(c), k, note);
	if (rc < 0)
		return etcd_outcome(k, rc);
	free((void *)(uintptr_t)k->answer.p);
	return 0;
}

int coord_etcd_member_promote(
	struct coord *c, uint64_t id, uint64_t until_ns, struct err_note *note)
{
	struct etcd_call k = { .path = "/v3/cluster/member/promote", .until_ns = until_ns };

	return change(c, &k, id, note);
}

int coord_etcd_member_remove(struct coord *c, uint64_t id, uint64_t until_ns, struct err_note *note)
{
	struct etcd_call k = { .path = "/v3/cluster/member/remove", .until_ns = until_ns };

	return change(c, &k, id, note);
}
