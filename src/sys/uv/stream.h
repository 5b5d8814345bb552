/* SPDX-License-Identifier: Apache-2.0 */
/* stream.h: making streams of sockets, for listen.c and connect(). */
#ifndef SYS_UV_STREAM_H
#define SYS_UV_STREAM_H
#include "sys/uv/own.h"

/* Takes fd, a connected (or connecting) nonblocking socket, in any case. */
int stream_new(struct sys *s, int fd, const struct addr *peer, struct sys_stream **ret_c);
void socket_options(int fd, const struct addr *a);
#endif
