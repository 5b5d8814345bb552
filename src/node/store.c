/* SPDX-License-Identifier: Apache-2.0 */
#include "node/store.h"

int store_serve(struct sys *s, const struct store_opts *o, struct err_note *note)
{
	struct store *st;
	struct waitq never;
	int rc = store_new(s, o, &st, note);

	if (rc < 0)
		return rc;
	waitq_init(&never);
	while (rc != E_CANCELED)
		rc = waitq_wait(&never, FOREVER);
	store_free(st);
	return 0;
}
