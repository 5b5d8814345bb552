/* SPDX-License-Identifier: Apache-2.0 */
#include "core/replica_wire.h"
#include "base/check.h"
#include "base/err.h"

enum {
	FLAGS_ALL = REPLICA_SOUND | REPLICA_IS_ROTTEN | REPLICA_MISMATCH | REPLICA_DIVERGED |
		REPLICA_LEAVING,
};

void replica_say_put(const struct replica_msg *m, const uint32_t *lens, uint32_t shard,
	uint16_t version, struct replica_places *room, struct msg_replica_say *ret_say)
{
	struct wire_list_builder b = wire_list_begin(room->list, sizeof room->list, version);

	check(m->n <= REPLICA_BATCH_MAX);
	for (uint32_t i = 0; i < m->n; i++)
		check(sub_replica_place_add(&b, &(struct sub_replica_place){ m->places[i].epoch,
			m->places[i].chain, lens[i] }));
	*ret_say = (struct msg_replica_say){ .shard = shard, .kind = (uint8_t)m->kind,
		.from = m->from.id, .from_incarnation = m->from.incarnation,
		.to = m->to.id, .to_incarnation = m->to.incarnation,
		.epoch = m->epoch, .revision = m->revision, .sent_ns = m->sent_ns,
		.commit = m->commit, .synced_commit = m->synced_commit,
		.want_synced = m->want_synced, .whole = m->whole,
		.prev_index = m->prev.index, .prev_epoch = m->prev.epoch,
		.prev_chain = m->prev.chain,
		.matched = m->matched, .written = m->written, .synced = m->synced,
		.last_index = m->last.index, .last_epoch = m->last.epoch,
		.last_chain = m->last.chain,
		.round = m->round, .flags = m->flags, .places = wire_list_end(&b) };
}

/* Indexes follow prev; epochs never fall. */
static int places_get(const struct msg_replica_say *say, size_t data_len,
	struct replica_places *room, uint32_t *ret_n)
{
	struct wire_list list = say->places;
	uint64_t epoch = say->prev_epoch, sum = 0;
	struct sub_replica_place p;
	uint32_t n = 0;

	if (say->prev_index > UINT64_MAX - REPLICA_BATCH_MAX)
		return E_CORRUPT;
	while (sub_replica_place_next(&list, &p)) {
		if (n == REPLICA_BATCH_MAX || p.epoch < epoch || p.epoch > say->epoch)
			return E_CORRUPT;
		room->at[n] = (struct replica_place){ say->prev_index + n + 1, p.epoch, p.chain };
		room->lens[n++] = p.len;
		epoch = p.epoch;
		sum += p.len;
	}
	if (sum != data_len || (n > 0 && say->kind != REPLICA_APPEND))
		return E_CORRUPT;
	*ret_n = n;
	return 0;
}

int replica_say_get(const struct msg_replica_say *say, size_t data_len, struct replica_places *room,
	struct replica_msg *ret_m)
{
	uint32_t n;
	int rc;

	if (say->kind < REPLICA_APPEND || say->kind > REPLICA_HANDOVER || say->from == 0 ||
		say->from_incarnation == 0 || (say->flags & ~(uint32_t)FLAGS_ALL) != 0)
		return E_CORRUPT;
	if ((rc = places_get(say, data_len, room, &n)) < 0)
		return rc;
	*ret_m = (struct replica_msg){ .kind = (enum replica_msg_kind)say->kind,
		.from = { say->from, say->from_incarnation },
		.to = { say->to, say->to_incarnation },
		.epoch = say->epoch, .revision = say->revision, .sent_ns = say->sent_ns,
		.commit = say->commit, .synced_commit = say->synced_commit,
		.want_synced = say->want_synced, .whole = say->whole,
		.prev = { say->prev_index, say->prev_epoch, say->prev_chain },
		.n = n, .places = room->at,
		.matched = say->matched, .written = say->written, .synced = say->synced,
		.last = { say->last_index, say->last_epoch, say->last_chain },
		.flags = say->flags, .round = say->round };
	return 0;
}
