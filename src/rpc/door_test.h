/* SPDX-License-Identifier: Apache-2.0 */
/* door_test.h: the tests of this folder run on both doors; each is compiled once for either. */
#ifndef RPC_DOOR_TEST_H
#define RPC_DOOR_TEST_H
#include "rpc/rpc.h"

/* Runs fn as the first fiber of a fresh door until it returns 0; anything else fails. */
void door_run(int (*fn)(struct sys *s, void *arg), void *arg);
/* Where a server may listen: any TCP port, and a Unix socket. */
extern const char *const door_tcp;
const char *door_unix(void);
#endif
