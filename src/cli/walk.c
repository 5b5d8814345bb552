/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/walk.h"

bool walk_keys(struct cli *c, const struct name *at, const struct wadi_list_opts *o,
	bool (*each)(void *arg, const struct wadi_entry *e), void *arg)
{
	struct wadi_list_opts with = *o;
	struct wadi_list *l;
	struct wadi_entry e;
	int rc;

	with.prefix = at->key;
	rc = wadi_list_open(c->w, at->bucket, &with, &l);
	if (rc < 0)
		return cli_failed(c, at->bucket, rc);
	while ((rc = wadi_list_next(l, &e)) > 0)
		if (!each(arg, &e))
			break;
	wadi_list_close(l);
	return rc >= 0 || cli_failed(c, at->bucket, rc);
}
