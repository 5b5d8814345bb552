/* SPDX-License-Identifier: Apache-2.0 */
/* db_look.h: the rows of a shard that nobody serves, read from what is verifiable of its files, for
 * tools.  Nothing is changed; what is put into the db is written nowhere. */
#ifndef META_DB_LOOK_H
#define META_DB_LOOK_H
#include "meta/db.h"
#include "meta/log_look.h"
#include "meta/record.h"

enum { LOOK_TREES_MAX = 17, LOOK_NAME_MAX = 32 };
/* A file of merged rows. */
struct look_tree {
	char name[LOOK_NAME_MAX]; /* "tree", "old.INDEX" */
	bool good;                /* read whole, and every row is what was merged */
	uint64_t index, rows;
	struct err_note why; /* it is not */
};
struct db_looked {
	struct log_look log;
	bool has_log;
	struct look_tree trees[LOOK_TREES_MAX];
	unsigned n_trees;
	int base;            /* of trees, which the rows begin with; -1: none */
	uint64_t index;      /* the rows are those of this moment */
	uint64_t last_index; /* of the last record that can be read; index where nothing is lost */
};
struct db_look_opts {
	const char *dir;
	void (*damage)(void *arg, const struct log_damage *d); /* to the log */
	void (*progress)(void *arg, uint64_t bytes);           /* may be NULL */
	void *arg;
};
/* The newest moment that the merged rows and an unbroken run of records make; db_drop() frees it.
 * E_INUSE: somebody serves it.  E_NOTFOUND: there is no shard.  E_CORRUPT: nothing to begin with.
 */
PARKS int db_look(struct sys *s, const struct db_look_opts *o, struct db **ret_db,
	struct db_looked *ret_looked, struct err_note *note);
/* The records behind that moment which can be read. */
typedef PARKS int db_look_behind_fn(void *arg, const struct record *r, struct bytes payload);
PARKS int db_look_behind(struct sys *s, const char *dir, const struct db_looked *looked,
	db_look_behind_fn *each, void *arg, struct err_note *note);
/* Before any id is given: none below `above` is. */
void db_ids_above(struct db *db, uint64_t above);
bool db_is_ids(struct bytes key);           /* the row of that */
uint64_t db_ids_of(const struct effect *e); /* what it makes of that row; 0: it does not */
uint64_t db_ids_mark(const struct db *db);  /* as its rows have it */
#endif
