/* SPDX-License-Identifier: Apache-2.0 */
/* moving.h: a coord that can go over from its embedded file to another store, under those who use
 * it.
 *
 * Nobody who uses it notices: calls wait while it moves, epochs and members stay what they were,
 * and revisions go on growing.  Whoever holds the old revision of a key hears E_CONFLICT once, with
 * what it had put there itself. */
#ifndef COORD_MOVING_H
#define COORD_MOVING_H
#include "coord/coord.h"

/* Takes at, which coord_close() of *ret_c closes, too. */
int coord_moving_new(
	struct sys *s, struct coord *at, struct coord **ret_c, struct err_note *note);
/* Copies every shard and node of the store into `to`, over whatever an earlier try has left there,
 * marks the embedded file as moved to url, durably and for ever, and goes on with `to`, which it
 * takes.  c is from coord_moving_new(), and at was from coord_embedded_open().
 *
 * After an error the file is in charge as before and `to` is the caller's, who may try again; but
 * E_UNKNOWN: a restart shows whether it has moved, and until then nothing is answered. */
PARKS int coord_moving_to(struct coord *c, struct coord *to, const char *url, uint64_t until_ns,
	struct err_note *note);
struct coord *coord_moving_at(struct coord *c); /* the store that it stands on now */
#endif
