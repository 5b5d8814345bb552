/* SPDX-License-Identifier: Apache-2.0 */
/* What one replica says is what the other hears; what none can say is refused. */
#include "base/prng.h"
#include "core/replica_wire.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

enum { ROUNDS = 20000, ROOM = 4096 };

static struct prng prng;

static uint64_t some(void)
{
	return prng_next(&prng) >> prng_below(&prng, 64);
}

static struct replica_msg message(struct replica_place *places, uint32_t *lens)
{
	struct replica_msg m = { .kind = REPLICA_APPEND, .from = { some() | 1, some() | 1 },
		.to = { some(), some() }, .epoch = some(), .revision = some(), .sent_ns = some(),
		.commit = some(), .synced_commit = some(), .want_synced = some(), .whole = some(),
		.prev = { some() >> 8, 0, some() }, .matched = some(), .written = some(),
		.synced = some(), .last = { some(), some(), some() },
		.flags = (uint32_t)prng_below(&prng, 32), .round = some() };

	m.n = (uint32_t)prng_below(&prng, REPLICA_BATCH_MAX + 1);
	m.prev.epoch = prng_below(&prng, m.epoch / 2 + 1);
	for (uint32_t i = 0; i < m.n; i++) {
		uint64_t epoch = i > 0 ? places[i - 1].epoch : m.prev.epoch;

		epoch += prng_below(&prng, m.epoch - epoch + 1);
		places[i] = (struct replica_place){ m.prev.index + i + 1, epoch, some() };
		lens[i] = (uint32_t)prng_below(&prng, 100000);
	}
	m.places = places;
	return m;
}

static size_t sum(const uint32_t *lens, uint32_t n)
{
	size_t all = 0;

	while (n > 0)
		all += lens[--n];
	return all;
}

static size_t encode(const struct replica_msg *m, const uint32_t *lens, uint8_t room[ROOM])
{
	static struct replica_places out;
	struct writer w = writer_of(room, ROOM);
	struct msg_replica_say say;

	memset(&out, 0, sizeof out);
	replica_say_put(m, lens, 7, WIRE_VERSION, &out, &say);
	assert_true(msg_replica_say_put(&w, &say, WIRE_VERSION));
	return (size_t)(w.p - room);
}

static void what_is_said_is_heard(void **state)
{
	static struct replica_place places[REPLICA_BATCH_MAX];
	static struct replica_places in;
	static uint8_t room[ROOM], again[ROOM];
	uint32_t lens[REPLICA_BATCH_MAX];

	(void)state;
	prng = prng_fork(1, 1);
	for (int i = 0; i < ROUNDS; i++) {
		struct replica_msg m = message(places, lens), heard;
		size_t len = encode(&m, lens, room);
		struct msg_replica_say got;

		assert_int_equal(msg_replica_say_get(room, len, WIRE_VERSION, &got), 0);
		assert_int_equal(got.shard, 7);
		assert_int_equal(replica_say_get(&got, sum(lens, m.n), &in, &heard), 0);
		assert_int_equal(heard.n, m.n);
		for (uint32_t k = 0; k < m.n; k++)
			assert_int_equal(heard.places[k].index, m.places[k].index);
		assert_int_equal(heard.flags, m.flags);
		assert_int_equal(heard.last.chain, m.last.chain);
		assert_int_equal(encode(&heard, in.lens, again), len);
		assert_memory_equal(room, again, len);
	}
}

/* Each of these says something that no replica says. */
static void spoil(struct msg_replica_say *say, struct replica_places *room, size_t *len, int how)
{
	struct wire_list_builder b = wire_list_begin(room->list, sizeof room->list, WIRE_VERSION);
	struct sub_replica_place p = { 5, 1, 10 };

	switch (how) {
	case 0: say->kind = 0; break;
	case 1: say->kind = REPLICA_HANDOVER + 1; break;
	case 2: say->from = 0; break;
	case 3: say->from_incarnation = 0; break;
	case 4: say->flags = 32; break;
	case 5: say->prev_index = UINT64_MAX; break;
	case 6: *len += 1; break;
	case 7: say->kind = REPLICA_HEARTBEAT; break;
	case 8: say->prev_epoch = 6; break; /* and a record of epoch 5 behind it */
	case 9: say->epoch = 4; break;      /* likewise, from the future */
	}
	if (how >= 7) {
		assert_true(sub_replica_place_add(&b, &p));
		say->places = wire_list_end(&b);
		*len = 10;
	}
}

static void what_none_says_is_refused(void **state)
{
	static struct replica_places room;
	struct replica_msg heard;

	(void)state;
	for (int how = -1; how < 10; how++) {
		struct msg_replica_say say = { .kind = REPLICA_APPEND, .from = 1,
			.from_incarnation = 1, .epoch = 9, .prev_epoch = 3 };
		size_t len = 0;

		spoil(&say, &room, &len, how);
		assert_int_equal(replica_say_get(&say, len, &room, &heard),
			how < 0 ? 0 : E_CORRUPT);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_said_is_heard),
		cmocka_unit_test(what_none_says_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
