/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_own.h: the inside of a look at a shard: fsck.c (what is damaged), fsck_lost.c (whose it is,
 * what is saved). */
#ifndef META_FSCK_OWN_H
#define META_FSCK_OWN_H
#include "meta/db_look.h"
#include "meta/fsck.h"
#include "meta/large_own.h"
#include "meta/replicate.h"

enum { FSCK_DAMAGES_MAX = 64, FSCK_BROKEN_MAX = 20 };
struct fsck {
	struct sys *sys;
	struct fsck_opts o;
	char rows_dir[REPLICATE_PATH_MAX]; /* below o.dir */
	struct db *db;
	struct db_looked looked;
	struct shard *sh; /* NULL: its rows make no shard */
	struct log_damage damages[FSCK_DAMAGES_MAX];
	unsigned n_damages, n_found, n_broken;
	char path[FSCK_NAME_MAX], behind[FSCK_NAME_MAX]; /* too large for a fiber's stack */
	bool cut; /* the log is damaged other than in a copy of its mark */
};
#endif
