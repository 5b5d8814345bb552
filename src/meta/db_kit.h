/* SPDX-License-Identifier: Apache-2.0 */
/* db_kit.h: for tests: a db beside a model of it that knows, for each index of the log, what the
 * rows are.  Keys come from a small universe, so that everything can be compared. */
#ifndef META_DB_KIT_H
#define META_DB_KIT_H
#include "base/prng.h"
#include "meta/db.h"

enum { KIT_KEYS = 400, KIT_VALUE_MAX = 400, KIT_OPS_MAX = 60000 };
struct kit_op {
	uint64_t index; /* of its record */
	uint32_t seed;  /* of the value; 0: deleted */
	uint16_t from, to;
};
struct kit {
	struct bytes keys[KIT_KEYS]; /* ascending, no two equal */
	uint32_t state[KIT_KEYS];    /* seed of the value, 0: none */
	struct kit_op *ops;
	uint32_t n_ops;
	uint64_t written, synced; /* what db said last */
	uint64_t ids[64], id_max;
	uint32_t n_ids;
	struct prng p;
	bool found; /* since it was opened */
	int failed; /* what failed() said */
	struct err_note note;
	uint64_t n_sealed;
};
void kit_init(struct kit *k, uint64_t seed);
void kit_fini(struct kit *k);
struct db_opts kit_opts(struct kit *k, const char *dir); /* small limits */
/* A db has come back: its rows are those of one index, at least the given one; the model goes on
 * from there. */
void kit_found(struct kit *k, struct db *db, uint64_t index_min);
void kit_step(struct kit *k, struct db *db);   /* one random write or look; never parks */
void kit_put(struct kit *k, struct db *db);    /* one random put */
void kit_verify(struct kit *k, struct db *db); /* everything */
#endif
