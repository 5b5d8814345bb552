/* SPDX-License-Identifier: Apache-2.0 */
/* fsck.h: looks at all that one node keeps below its data folder, while it does not run. */
#ifndef NODE_FSCK_H
#define NODE_FSCK_H
#include "cli/fsck.h"

/* Tells v what is damaged, and salvages when it is asked to.  0, or why it could not look: E_INUSE,
 * E_NOTFOUND, E_IO, E_CORRUPT (nothing to salvage from). */
int node_fsck(struct cli_fsck *v, struct err_note *note);
#endif
