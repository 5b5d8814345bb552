/* SPDX-License-Identifier: Apache-2.0 */
/* Listing one directory or flat bucket, a page at a time.
 *
 * With a delimiter all names that share what lies behind the prefix up to the next delimiter fold
 * into one entry; the walk then seeks behind all of them, so a page costs its entries and not the
 * names that they stand for.  A cursor that ends with a delimiter behind the prefix is such an
 * entry; any other one is a name. */
#include "meta/inside.h"

struct walk {
	struct shard *sh;
	const struct msg_list *m;
	const struct bucket *b;
	uint64_t parent;
	struct wire_list_builder l;
	uint32_t max, steps;
	size_t last_len;  /* of the name in sh->list_last: the cursor, should the page end here */
	bool full, again; /* the page ends; the walk begins anew from sh->list_from */
	struct bytes from, to;
};

static bool has_prefix(struct bytes name, struct bytes prefix)
{
	return name.len >= prefix.len &&
	       (prefix.len == 0 || memcmp(name.p, prefix.p, prefix.len) == 0);
}

/* What the name folds into, empty when it stands for itself. */
static struct bytes fold(const struct msg_list *m, struct bytes name)
{
	const uint8_t *p;

	check(name.len >= m->prefix.len);
	if (m->delimiter == 0)
		return bytes_of(NULL, 0);
	p = memchr(name.p + m->prefix.len, m->delimiter, name.len - m->prefix.len);
	return p == NULL ? bytes_of(NULL, 0) : bytes_of(name.p, (size_t)(p + 1 - name.p));
}

static void begin(struct walk *w)
{
	const struct msg_list *m = w->m;
	struct bytes prefix = name_key(w->parent, m->prefix, w->sh->list_to);

	w->to = row_prefix_end(prefix, w->sh->list_to);
	if (bytes_compare(m->after, m->prefix) < 0) {
		w->from = name_key(w->parent, m->prefix, w->sh->list_from);
		return;
	}
	w->from = name_key(w->parent, m->after, w->sh->list_from);
	if (has_prefix(m->after, m->prefix) && bytes_equal(fold(m, m->after), m->after) &&
		m->after.len > 0) {
		w->from = row_prefix_end(w->from, w->sh->list_from);
	} else if (m->after.len > 0) { /* the first key behind that name itself */
		w->sh->list_from[w->from.len] = 0;
		w->from.len++;
	}
}

static void remember(struct walk *w, struct bytes name)
{
	check(name.len <= sizeof w->sh->list_last);
	memcpy(w->sh->list_last, name.p, name.len);
	w->last_len = name.len;
}

static void add(struct walk *w, const struct sub_entry *e)
{
	if (w->l.n == w->max || !sub_entry_add(&w->l, e)) {
		w->full = true;
		return;
	}
	remember(w, e->name);
}

static void add_fold(struct walk *w, struct bytes folded)
{
	struct sub_entry e = { .kind = ENTRY_PREFIX, .name = folded };
	struct bytes key;

	add(w, &e);
	if (w->full)
		return;
	/* The key may go with the iterator: seek from the copy. */
	key = name_key(w->parent, bytes_of(w->sh->list_last, w->last_len), w->sh->list_from);
	w->from = row_prefix_end(key, w->sh->list_from);
	w->again = true;
}

static int visit(struct walk *w, struct bytes key, struct bytes value)
{
	struct row_inode inode;
	struct row_name row;
	struct sub_entry e;
	struct bytes folded;
	int rc;

	if ((rc = row_name_key_get(key, &row)) < 0 || (rc = row_name_get(value, &row)) < 0 ||
		(rc = inode_of_name(w->sh, w->b, &row, &inode)) < 0)
		return E_CORRUPT;
	folded = fold(w->m, row.name);
	if (inode_expired(w->sh, &inode)) {
		if (++w->steps >= LIST_STEPS_MAX && !bytes_equal(folded, row.name)) {
			remember(w, row.name);
			w->full = true;
		}
		return 0;
	}
	if (folded.len > 0) {
		add_fold(w, folded);
		return 0;
	}
	e = (struct sub_entry){ .inode = row.inode,
		.version = inode_version(&inode),
		.size = inode.size,
		.mtime_ms = inode.mtime_ms,
		.kind = row.kind,
		.name = row.name };
	add(w, &e);
	return 0;
}

/* The walk has passed over many deleted names: the page ends here, so that nobody else waits for
 * it. A name that is its own fold cannot be the cursor; then the walk just goes on. */
static int rest(struct walk *w, struct bytes dead)
{
	struct row_name row;

	if (row_name_key_get(dead, &row) < 0)
		return E_CORRUPT;
	if (!bytes_equal(fold(w->m, row.name), row.name)) {
		remember(w, row.name);
		w->full = true;
		return 0;
	}
	check(dead.len < LIST_KEY_MAX);
	memmove(w->sh->list_from, dead.p, dead.len);
	w->sh->list_from[dead.len] = 0;
	w->from = bytes_of(w->sh->list_from, dead.len + 1);
	w->again = true;
	return 0;
}

static int walk(struct walk *w)
{
	uint32_t dead_left = LIST_STEPS_MAX;
	struct bytes key, value;
	struct db_iter it;
	int rc = 0;

	do {
		w->again = false;
		if (bytes_compare(w->from, w->to) >= 0)
			return 0;
		db_iter_begin(&it, w->sh->db, w->from, w->to);
		db_iter_bound(&it, &dead_left);
		while (rc == 0 && !w->full && !w->again && db_iter_next(&it, &key, &value))
			rc = visit(w, key, value);
		if (rc == 0 && !w->full && !w->again && db_iter_tired(&it, &key))
			rc = rest(w, key);
		db_iter_end(&it);
	} while (rc == 0 && !w->full && w->again);
	return rc;
}

int shard_list(
	struct shard *sh, struct shard_call *c, const struct msg_list *m, struct msg_list_ok *ret)
{
	struct walk w = { .sh = sh, .m = m };
	struct bucket *b;
	int rc;

	if ((rc = shard_ready(sh, c)) < 0 || (rc = bucket_use(sh, c, m->bucket, &b)) < 0 ||
		(rc = dir_check(sh, b, m->parent, &c->note)) < 0)
		return rc;
	w.b = b;
	w.parent = m->parent != 0 ? m->parent : b->id;
	w.max = m->max == 0 || m->max > LIMIT_LIST_MAX ? LIMIT_LIST_MAX : m->max;
	w.l = wire_list_begin(sh->page, PAGE_BYTES, c->version);
	begin(&w);
	if ((rc = walk(&w)) < 0)
		return err_set(&c->note, rc, "a row of the listing cannot be read");
	ret->entries = wire_list_end(&w.l);
	ret->next = bytes_of(sh->list_last, w.full ? w.last_len : 0);
	return 0;
}
