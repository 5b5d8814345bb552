/* SPDX-License-Identifier: Apache-2.0 */
/* db_made.h: the files of a db made from rows that come from elsewhere: a tree that stands for one
 * record, and a log that begins behind it. */
#ifndef META_DB_MADE_H
#define META_DB_MADE_H
#include "meta/log.h"

struct db_made;
/* In dir, whose files of a db are removed first. */
PARKS int db_made_new(
	struct sys *s, const char *dir, struct db_made **ret_m, struct err_note *note);
void db_made_free(struct db_made *m); /* what is there stays; NULL is fine */
/* Rows as the effects of puts (record.h).  E_CORRUPT: something else. */
PARKS int db_made_add(struct db_made *m, struct bytes effects, struct err_note *note);
/* They are all here: rows and content as tree_status() has them, else E_CORRUPT.  at: the record
 * that they stand for (index, epoch, shard_chain).  Everything is durable when it returns 0. */
PARKS int db_made_finish(struct db_made *m, const struct log_place *at, uint64_t rows,
	uint64_t content, struct err_note *note);
uint64_t db_made_uuid(const struct db_made *m, uint64_t *ret_lo); /* of its log */

/* Removes what of a db is in dir, where nobody has it open; other files stay. */
PARKS int db_remove(struct sys *s, const char *dir, struct err_note *note);
#endif
