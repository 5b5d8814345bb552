/* SPDX-License-Identifier: Apache-2.0 */
/* alone_test.h: a shard and its rows, opened and closed together, without replicas.  For tests. */
#ifndef META_ALONE_TEST_H
#define META_ALONE_TEST_H
#include "meta/shard.h"

struct alone {
	struct shard *sh; /* NULL: not open yet, or no more */
	struct db *db;
	struct group fibers; /* of the rows */
};
/* What db says of its folder and its calls is set here. */
PARKS int alone_open(struct alone *a, struct sys *s, const char *dir, const struct db_opts *db,
	const struct shard_opts *o, struct err_note *note);
/* Another replica leads, and then this one again: over the same rows. */
PARKS int alone_again(struct alone *a, struct sys *s, const struct shard_opts *o,
	struct err_note *note);
PARKS int alone_close(struct alone *a, struct err_note *note);
#endif
