/* SPDX-License-Identifier: Apache-2.0 */
#include "meta/db_kit.h"
#include "base/check.h"
#include <stdlib.h>

enum { LONG_KEY_MAX = 1400 };
static const struct bytes count_key = { (const uint8_t *)"\1count", 6 };

static int by_bytes(const void *a, const void *b)
{
	return bytes_compare(*(const struct bytes *)a, *(const struct bytes *)b);
}

/* Short ones, numbers, prefixes of each other, and long ones that differ late. */
static size_t key_make(struct prng *p, uint8_t *k)
{
	size_t len = 1 + (size_t)prng_below(p, 24);
	uint64_t kind = prng_below(p, 10), twist;

	memset(k, 'x', LONG_KEY_MAX);
	k[0] = (uint8_t)('a' + prng_below(p, 4));
	if (kind < 4) {
		put_be64(k + 1, prng_below(p, 5000));
		return 9;
	}
	if (kind < 6)
		len = 470 + (size_t)prng_below(p, LONG_KEY_MAX - 470);
	twist = prng_below(p, 3);
	for (uint64_t i = 0; i < twist; i++) {
		uint64_t at = 1 + prng_below(p, len);

		k[at] = (uint8_t)prng_next(p);
	}
	return len;
}

void kit_init(struct kit *k, uint64_t seed)
{
	memset(k, 0, sizeof *k);
	k->p = prng_fork(seed, 99);
	k->ops = calloc(KIT_OPS_MAX, sizeof *k->ops);
	check(k->ops != NULL);
	for (unsigned n = 0; n < KIT_KEYS;) {
		uint8_t *key = malloc(LONG_KEY_MAX + 1);
		bool known = false;

		check(key != NULL);
		k->keys[n] = bytes_of(key, key_make(&k->p, key));
		for (unsigned i = 0; i < n; i++)
			known = known || bytes_equal(k->keys[i], k->keys[n]);
		if (known)
			free(key);
		else
			n++;
	}
	qsort(k->keys, KIT_KEYS, sizeof *k->keys, by_bytes);
}

void kit_fini(struct kit *k)
{
	for (unsigned i = 0; i < KIT_KEYS; i++)
		free((void *)(uintptr_t)k->keys[i].p);
	free(k->ops);
}

static struct bytes value_of(uint32_t seed, uint8_t room[KIT_VALUE_MAX])
{
	struct prng p = prng_fork(seed, 3);
	size_t len = (size_t)prng_below(&p, seed % 7 == 0 ? KIT_VALUE_MAX : 40);

	for (size_t i = 0; i < len; i++)
		room[i] = (uint8_t)prng_next(&p);
	return bytes_of(room, len);
}

static void apply(struct kit *k, const struct kit_op *op)
{
	for (unsigned i = op->from; i < op->to; i++)
		k->state[i] = op->seed;
}

static void on_moved(void *arg, uint64_t written, uint64_t synced)
{
	struct kit *k = arg;

	check(written >= k->written);
	check(synced >= k->synced);
	check(synced <= written);
	if (!k->found) /* indexes of what was lost are given again */
		return;
	k->written = written;
	k->synced = synced;
}

static void on_failed(void *arg, int rc, const struct err_note *note)
{
	struct kit *k = arg;

	check(k->failed == 0);
	check(note->text[0] != '\0');
	k->failed = rc;
	k->note = *note;
}

struct db_opts kit_opts(struct kit *k, const char *dir)
{
	return (struct db_opts){
		.dir = dir,
		.memtable_bytes_max = 48 << 10,
		.merge_every_ns = 40 * SYS_MS,
		.tree_bytes_max = 64 << 20,
		.log_segment_bytes = 64 << 10,
		.log_keep_bytes = 256 << 10,
		.moved = on_moved,
		.failed = on_failed,
		.arg = k,
	};
}

/* Each write also counts itself, in the same record: so the rows say which moment they are of. */
static void write_op(struct kit *k, struct db *db, struct kit_op op)
{
	uint8_t count[4];

	check(k->n_ops < KIT_OPS_MAX);
	apply(k, &op);
	k->ops[k->n_ops] = op;
	put_le32(count, ++k->n_ops);
	db_put(db, count_key, bytes_of(count, sizeof count));
	k->ops[k->n_ops - 1].index = db_seen(db);
}

static void verify_key(struct kit *k, struct db *db, unsigned i)
{
	uint8_t room[KIT_VALUE_MAX];
	struct bytes value;
	int rc = db_get(db, k->keys[i], &value);

	check(rc == (k->state[i] != 0 ? 0 : E_NOTFOUND));
	if (rc == 0)
		check(bytes_equal(value, value_of(k->state[i], room)));
}

static void verify_walk(struct kit *k, struct db *db, unsigned from, unsigned to)
{
	struct bytes key, value, end = to < KIT_KEYS ? k->keys[to] : BYTES("\xff");
	uint8_t room[KIT_VALUE_MAX];
	struct db_iter it;
	unsigned i = from;

	db_iter_begin(&it, db, k->keys[from], end);
	while (db_iter_next(&it, &key, &value)) {
		while (i < to && k->state[i] == 0)
			i++;
		check(i < to);
		check(bytes_equal(key, k->keys[i]));
		check(bytes_equal(value, value_of(k->state[i], room)));
		i++;
	}
	db_iter_end(&it);
	while (i < to && k->state[i] == 0)
		i++;
	check(i >= to);
}

void kit_verify(struct kit *k, struct db *db)
{
	for (unsigned i = 0; i < KIT_KEYS; i++)
		verify_key(k, db, i);
	verify_walk(k, db, 0, KIT_KEYS);
}

static void take_id(struct kit *k, struct db *db)
{
	uint64_t id = db_next_id(db);

	if (id == 0)
		return;
	check(id > k->id_max);
	k->id_max = id;
}

void kit_step(struct kit *k, struct db *db)
{
	unsigned i = (unsigned)prng_below(&k->p, KIT_KEYS),
		 j = (unsigned)prng_below(&k->p, KIT_KEYS);
	uint32_t seed = (uint32_t)prng_next(&k->p) | 1;
	uint64_t what = prng_below(&k->p, 100);
	uint8_t room[KIT_VALUE_MAX];

	if (what < 45) {
		if (k->state[i] == 0 && what < 30)
			db_put_new(db, k->keys[i], value_of(seed, room));
		else
			db_put(db, k->keys[i], value_of(seed, room));
		write_op(k, db, (struct kit_op){ 0, seed, (uint16_t)i, (uint16_t)(i + 1) });
	} else if (what < 75) {
		db_delete(db, k->keys[i]);
		write_op(k, db, (struct kit_op){ 0, 0, (uint16_t)i, (uint16_t)(i + 1) });
	} else if (what < 77) {
		j = i + j % 40;
		if (j >= KIT_KEYS)
			j = KIT_KEYS - 1;
		db_delete_range(db, k->keys[i], k->keys[j]);
		write_op(k, db, (struct kit_op){ 0, 0, (uint16_t)i, (uint16_t)(i < j ? j : i) });
	} else if (what < 79) {
		verify_walk(k, db, i < j ? i : j, i < j ? j : i);
	} else if (what < 81) {
		take_id(k, db);
	} else if (what < 84) {
		db_want_sync(db);
	} else {
		verify_key(k, db, i);
	}
}

void kit_put(struct kit *k, struct db *db)
{
	unsigned i = (unsigned)prng_below(&k->p, KIT_KEYS);
	uint32_t seed = (uint32_t)prng_next(&k->p) | 1;
	uint8_t room[KIT_VALUE_MAX];

	db_put(db, k->keys[i], value_of(seed, room));
	write_op(k, db, (struct kit_op){ 0, seed, (uint16_t)i, (uint16_t)(i + 1) });
}

void kit_found(struct kit *k, struct db *db, uint64_t index_min)
{
	struct bytes value;
	uint32_t n = 0;
	int rc = db_get(db, count_key, &value);

	check(k->failed == 0);
	check(rc == 0 || rc == E_NOTFOUND);
	if (rc == 0)
		n = le32(value.p);
	check(n <= k->n_ops);
	check(n == k->n_ops || k->ops[n].index > index_min);
	k->n_ops = n;
	memset(k->state, 0, sizeof k->state);
	for (uint32_t i = 0; i < n; i++)
		apply(k, &k->ops[i]);
	k->found = true;
	k->written = db_written(db);
	k->synced = db_synced(db);
	kit_verify(k, db);
	take_id(k, db);
}
