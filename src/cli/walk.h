/* SPDX-License-Identifier: Apache-2.0 */
/* walk.h: through the keys of a bucket. */
#ifndef CLI_WALK_H
#define CLI_WALK_H
#include "cli/out.h"

/* Calls each() for every entry whose name begins with at->key, in byte order, until it returns
 * false. False, and said, when the listing failed. */
bool walk_keys(struct cli *c, const struct name *at, const struct wadi_list_opts *o,
	bool (*each)(void *arg, const struct wadi_entry *e), void *arg);
#endif
