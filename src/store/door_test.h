/* SPDX-License-Identifier: Apache-2.0 */
/* door_test.h: tests of this folder run on both doors; each is compiled once for either. */
#ifndef STORE_DOOR_TEST_H
#define STORE_DOOR_TEST_H
#include "sys/sys.h"

/* Runs fn as the first fiber of a fresh door, with an empty folder, until it returns 0; anything
 * else fails. */
void door_run(int (*fn)(struct sys *s, void *arg), void *arg);
extern const char *const door_tcp; /* any port */
extern const bool door_waits;      /* time really passes: leave out what needs seconds of it */
const char *door_folder(void);     /* for directories and sockets */
#endif
