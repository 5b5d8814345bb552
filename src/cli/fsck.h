/* SPDX-License-Identifier: Apache-2.0 */
/* fsck.h: what `wadi fsck` says, for whoever does the looking (src/node). */
#ifndef CLI_FSCK_H
#define CLI_FSCK_H
#include "cli/out.h"

struct cli_fsck {
	struct cli *c;
	const char *data; /* folder, as typed */
	bool salvage;
	struct meter meter;
	bool metered;
	unsigned n_damages, n_lost;
};
/* A part of the work begins, of so many bytes (UINT64_MAX: unknown), and goes on. */
void cli_fsck_part(struct cli_fsck *v, const char *what, uint64_t bytes);
void cli_fsck_more(struct cli_fsck *v, uint64_t bytes);
void cli_fsck_damage(struct cli_fsck *v, const char *what, const char *where, const char *lost,
	const char *todo);
/* A name that a salvage could not keep as it was last. */
void cli_fsck_lost(struct cli_fsck *v, const char *name, bool deleted);

struct cli_fsck_sum {
	bool has_meta, has_store;
	uint64_t segments, records, rows, copies, buckets, files, used_bytes;
	uint64_t extents, extent_bytes;
	uint64_t index, last_index; /* of the rows; of the last record there is */
	uint64_t more_lost;         /* names beyond those told */
	const char *kept; /* where a salvage keeps what was damaged; NULL: there was none */
};
void cli_fsck_end(struct cli_fsck *v, const struct cli_fsck_sum *s);
#endif
