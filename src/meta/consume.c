/* SPDX-License-Identifier: Apache-2.0 */
/* Delete on read.  The get that is to delete marks the file for its session in the record of the
 * get; to everybody else the file is E_CONFLICT from then on (for a get that waits: not there). The
 * session's done frees it.  The mark lapses, and the file may be got again, when the client had no
 * connection for MARK_LAPSE_MS.  A restart keeps marks and renews that time in full.
 *
 * The mark's row holds the name because (S5) done has to find it; so a marked file cannot be
 * renamed. */
#include "meta/inside.h"
#include <stdlib.h>

struct mark *mark_of(const struct shard *sh, uint64_t inode)
{
	return map_get(&sh->marks, inode);
}

static struct mark *add(struct shard *sh, struct session *s, uint64_t inode)
{
	struct mark *m = malloc(sizeof *m);

	check(mark_of(sh, inode) == NULL);
	if (m == NULL || map_put(&sh->marks, inode, m) < 0) {
		free(m);
		return NULL;
	}
	*m = (struct mark){ .inode = inode, .session = s };
	list_push(&s->marks, &m->link);
	s->n_marks++;
	return m;
}

int mark_take(struct shard *sh, struct shard_call *c, const struct spot *at)
{
	struct row_mark row = {
		.inode = at->row.inode, .bucket = at->b->id, .parent = at->parent, .name = at->name
	};
	struct session *s = c->session;
	uint8_t key[ROW_mark_KEY_MAX];
	int rc;

	check(s != NULL);
	if ((rc = shard_may_free(sh, c)) < 0)
		return rc;
	if (s->n_marks >= LIMIT_MARKS_PER_SESSION_MAX)
		return err_set(&c->note, E_BUSY, "%d files read for deletion and not yet done",
			LIMIT_MARKS_PER_SESSION_MAX);
	if ((rc = session_number(sh, s)) < 0 || add(sh, s, row.inode) == NULL)
		return err_set(&c->note, rc < 0 ? rc : E_NOMEM, "no room for a mark");
	row.session = s->id;
	db_put_new(sh->db, row_mark_key(&row, key), row_mark_put(&row, sh->value_room));
	return 0;
}

void mark_drop(struct shard *sh, struct mark *m)
{
	struct row_mark row = { .inode = m->inode };
	uint8_t key[ROW_mark_KEY_MAX];

	check(m->session->n_marks > 0);
	m->session->n_marks--;
	list_remove(&m->link);
	check(map_remove(&sh->marks, m->inode) == m);
	db_delete(sh->db, row_mark_key(&row, key));
	free(m);
}

int mark_read(struct shard *sh, uint64_t inode, struct row_mark *ret_row)
{
	uint8_t room[ROW_mark_KEY_MAX];
	struct bytes value;
	int rc;

	ret_row->inode = inode;
	rc = db_get(sh->db, row_mark_key(ret_row, room), &value);
	if (rc < 0 || row_mark_get(value, ret_row) < 0)
		return E_CORRUPT;
	ret_row->name = name_keep(sh, ret_row->name);
	return 0;
}

void mark_lapse(struct shard *sh, struct mark *m)
{
	struct row_mark row;

	if (mark_read(sh, m->inode, &row) == 0) {
		struct spot at = { .parent = row.parent, .name = row.name };

		wait_wake(sh, &at);
	}
	mark_drop(sh, m);
}

int mark_load(struct shard *sh, struct err_note *note)
{
	struct bytes key, value;
	struct row_mark row;
	struct row_range r;
	struct db_iter it;
	int rc = 0;

	row_range_table(&r, ROW_mark_TABLE);
	db_iter_begin(&it, sh->db, r.from, r.to);
	while (rc == 0 && db_iter_next(&it, &key, &value)) {
		struct session *s;

		if ((rc = row_mark_key_get(key, &row)) < 0 || (rc = row_mark_get(value, &row)) < 0)
			break;
		s = map_get(&sh->sessions, row.session);
		if (s == NULL)
			rc = E_CORRUPT;
		else if (add(sh, s, row.inode) == NULL)
			rc = E_NOMEM;
	}
	db_iter_end(&it);
	return rc < 0 ? err_set(note, rc, "the row of a mark") : 0;
}
