/* SPDX-License-Identifier: Apache-2.0 */
/* replica_wire.h: what replicas say to each other, as a message with data. */
#ifndef CORE_REPLICA_WIRE_H
#define CORE_REPLICA_WIRE_H
#include "base/bytes.h"
#include "core/replica.h"
#include "wire/wire.h"

/* Room for the places of a message, on its way in or out. */
struct replica_places {
	struct replica_place at[REPLICA_BATCH_MAX]; /* in: what replica_msg.places points to */
	uint32_t lens[REPLICA_BATCH_MAX];           /* of the payloads */
	uint8_t list[REPLICA_BATCH_MAX * 20];
};

/* lens: m->n lengths of the payloads, which go as data, in this order; m->places likewise.  The
 * message borrows room. */
void replica_say_put(const struct replica_msg *m, const uint32_t *lens, uint32_t shard,
	uint16_t version, struct replica_places *room, struct msg_replica_say *ret_say);
/* The message borrows room.  E_CORRUPT: no replica says this, or data_len is not the sum of the
 * lengths. */
int replica_say_get(const struct msg_replica_say *say, size_t data_len, struct replica_places *room,
	struct replica_msg *ret_m);
#endif
