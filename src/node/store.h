/* SPDX-License-Identifier: Apache-2.0 */
/* store.h: one storage server as a role of this process. */
#ifndef NODE_STORE_H
#define NODE_STORE_H
#include "store/store.h"

/* Parks until the calling fiber is cancelled (a clean stop; then 0), or returns why it could not
 * start.  o->ready tells when it serves. */
PARKS int store_serve(struct sys *s, const struct store_opts *o, struct err_note *note);
#endif
