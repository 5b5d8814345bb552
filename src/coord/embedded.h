/* SPDX-License-Identifier: Apache-2.0 */
/* embedded.h: coord for one machine: a file under an exclusive lock. */
#ifndef COORD_EMBEDDED_H
#define COORD_EMBEDDED_H
#include "coord/coord.h"

/* dir exists; the file in it is made when it is missing and create is set (E_NOTFOUND otherwise).
 * E_INUSE: another process has it.  E_CORRUPT: the file is not what was written.  E_GONE: it has
 * moved, and ret_moved_to, of COORD_URL_MAX bytes, says where to. */
PARKS int coord_embedded_open(struct sys *s, const char *dir, bool create, struct coord **ret_c,
	char *ret_moved_to, struct err_note *note);
/* Marks the file as moved to url, durably and for ever: every later call on it and every later open
 * is E_GONE.  Returns as a change does. */
PARKS int coord_embedded_move(struct coord *c, const char *url, struct err_note *note);
#endif
