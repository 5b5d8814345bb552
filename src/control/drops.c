/* SPDX-License-Identifier: Apache-2.0 */
/* Tells a storage server what to forget, over the connection on which it registered.
 *
 * A drop is sent when the record that holds it is written, and synced when the bytes would survive
 * a power cut: else a name could come back whose bytes are gone.  One fiber for each server takes
 * drops, so those of a connection that broke are taken again before later ones are acknowledged. */
#include "control/own.h"
#include "wire/frame.h"

enum {
	BATCH = 4096,          /* drops under way at once, ids in one message */
	LOOK_MS = 1000,
	AGAIN_MS = 100,        /* after a refusal */
	ANSWER_MS = 30000,
	LIST_BYTES = BATCH * 16,
};

struct batch {
	struct large_drop drops[BATCH];
	uint32_t n;
	uint8_t room[LIST_BYTES];
};

/* Whether the connection is still the one on which the server registered. */
static bool is_on(const struct server *s, uint64_t number)
{
	return s->conn != NULL && s->conn_number == number;
}

static PARKS int ask(struct server *s, uint64_t number, uint16_t op, const void *msg)
{
	struct rpc_call call = { .op = op, .plain = true, .msg = msg };
	struct msg_ok ok;
	struct err_note note;
	int rc;

	if (!is_on(s, number))
		return E_CLOSED;
	rc = rpc_ask(s->conn, &call, OP_ok, &ok, sys_after(s->ctl->sys, ANSWER_MS * SYS_MS), &note);
	rpc_call_fini(&call);
	return rc;
}

static PARKS int send_extents(struct server *s, uint64_t number, struct wire_list_builder *l)
{
	struct msg_extent_drop m = { .epoch = shard_epoch(s->ctl->sh),
		.extents = wire_list_end(l) };

	return l->n == 0 ? 0 : ask(s, number, OP_extent_drop, &m);
}

static PARKS int send_egroups(struct server *s, uint64_t number, struct wire_list_builder *l)
{
	struct msg_egroup_drop m = { .epoch = shard_epoch(s->ctl->sh),
		.egroups = wire_list_end(l) };

	return l->n == 0 ? 0 : ask(s, number, OP_egroup_drop, &m);
}

static PARKS int send_all(struct server *s, uint64_t number, struct batch *b)
{
	uint16_t version = rpc_conn_version(s->conn);
	struct wire_list_builder l = wire_list_begin(b->room, sizeof b->room, version);
	bool fits;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < b->n; i++) {
		const struct large_drop *d = &b->drops[i];

		for (uint64_t k = 0; rc == 0 && k < d->count; k++) {
			struct sub_extent_id id = { d->egroup, d->extent + k };

			if (l.n < BATCH && sub_extent_id_add(&l, &id))
				continue;
			rc = send_extents(s, number, &l);
			l = wire_list_begin(b->room, sizeof b->room, version);
			fits = sub_extent_id_add(&l, &id);
			check(fits);
		}
	}
	if (rc == 0)
		rc = send_extents(s, number, &l);
	l = wire_list_begin(b->room, sizeof b->room, version);
	for (uint32_t i = 0; rc == 0 && i < b->n; i++) {
		struct sub_extent_id id = { .egroup = b->drops[i].egroup };

		fits = b->drops[i].count > 0 || sub_extent_id_add(&l, &id);
		check(fits);
	}
	return rc == 0 ? send_egroups(s, number, &l) : rc;
}

static PARKS int settle(struct server *s, const struct batch *b)
{
	/* What moved away is dropped when it is surely known where it is now. */
	struct shard_call c = { .sync = large_server(s->ctl->sh, s->id)->drain };

	for (uint32_t i = 0; i < b->n; i++) {
		struct room_egroup_info info;

		c.sync |= !room_egroup(large_room(s->ctl->sh), b->drops[i].egroup, &info)
			|| info.tier != TIER_DRAM;
	}
	if (c.sync)
		db_want_sync(shard_db(s->ctl->sh));
	return shard_settle(s->ctl->sh, &c, sys_after(s->ctl->sys, ANSWER_MS * SYS_MS));
}

/* One round: false when there was nothing to do. */
static PARKS bool drop_some(struct server *s, struct batch *b)
{
	uint64_t number = s->conn_number;
	int rc;

	if (s->conn == NULL || shard_failed(s->ctl->sh) != 0)
		return false;
	b->n = large_drops_take(s->ctl->sh, s->id, b->drops, BATCH);
	if (b->n == 0)
		return false;
	rc = settle(s, b);
	if (rc == 0 && !is_on(s, number)) /* lost meanwhile */
		rc = E_CLOSED;
	if (rc == 0)
		rc = send_all(s, number, b);
	if (rc == 0)
		rc = shard_failed(s->ctl->sh); /* then whoever leads next sends them again */
	if (rc == 0) {
		large_dropped(s->ctl->sh, s->id, b->drops, b->n);
		s->n_dropped += b->n;
		return true;
	}
	large_drops_retry(s->ctl->sh, s->id);
	(void)fiber_sleep(sys_after(s->ctl->sys, AGAIN_MS * SYS_MS));
	return true;
}

PARKS int drops_run(void *arg)
{
	struct server *s = arg;
	struct batch *b = malloc(sizeof *b);
	int rc = 0;

	fiber_note(s->id, "tells a storage server what to drop");
	while (b == NULL && rc != E_CANCELED) {
		rc = fiber_sleep(sys_after(s->ctl->sys, LOOK_MS * SYS_MS));
		b = malloc(sizeof *b);
	}
	while (rc != E_CANCELED && !fiber_canceled()) {
		if (drop_some(s, b))
			continue;
		rc = large_drops_wait(s->ctl->sh, sys_after(s->ctl->sys, LOOK_MS * SYS_MS));
	}
	free(b);
	return 0;
}
