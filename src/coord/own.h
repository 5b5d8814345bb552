/* SPDX-License-Identifier: Apache-2.0 */
/* own.h: what the files of this folder share.  Only its tests and fuzz targets include it, too.
 *
 * A store keeps texts under keys and knows nothing of what they say: coord.c turns states and nodes
 * into texts, the stores are compare-and-swap. */
#ifndef COORD_OWN_H
#define COORD_OWN_H
#include "base/bytes.h"
#include "coord/coord.h"

enum { COORD_KEY_MAX = 32 }; /* "shard/7", "node/3" */

struct coord_item {
	uint64_t revision; /* 0: there is nothing under the key */
	char key[COORD_KEY_MAX], text[COORD_TEXT_MAX];
};
typedef int coord_each_fn(void *arg, const struct coord_item *it); /* not 0: ends the list */

struct coord_ops {
	/* What is under it->key. */
	PARKS int (*get)(
		struct coord *c, uint64_t until_ns, struct coord_item *it, struct err_note *note);
	/* When the revision of it->key is the expected one: puts it->text there, or, where text is
	 * empty, removes the key; it->revision is the new one.  E_CONFLICT: *it is what is there.
	 */
	PARKS int (*swap)(struct coord *c, uint64_t expected, uint64_t until_ns,
		struct coord_item *it, struct err_note *note);
	/* Calls each with every item whose key begins with prefix, all of one moment.  Returns what
	 * each() did when that was not 0. */
	PARKS int (*list)(struct coord *c, const char *prefix, uint64_t until_ns,
		coord_each_fn *each, void *arg, struct err_note *note);
	PARKS int (*wait)(struct coord *c, uint64_t *seen, uint64_t until_ns);
	PARKS void (*close)(struct coord *c);
};

/* First in every store. */
struct coord {
	const struct coord_ops *ops;
	struct sys *sys;
	struct waitq changed_q;
	uint64_t n_changes; /* from 1 */
};
void coord_init(struct coord *c, struct sys *s, const struct coord_ops *ops);
void coord_changed(struct coord *c);
PARKS int coord_wait_queue(struct coord *c, uint64_t *seen, uint64_t until_ns); /* for ops.wait */

/* ---- text.c: the texts, as a human reads them in etcd ---- */
/* Length without the zero byte; room for COORD_TEXT_MAX. */
size_t coord_state_print(const struct coord_state *st, char *ret_text);
size_t coord_node_print(const struct coord_node *n, char *ret_text);
/* E_CORRUPT: not a text that print makes of something valid.  E_UNSUPPORTED: of a newer version. */
int coord_state_parse(struct bytes text, struct coord_state *ret_st);
int coord_node_parse(struct bytes text, struct coord_node *ret_n);
#endif
