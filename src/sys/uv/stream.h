/* SPDX-License-Identifier: Apache-2.0 */
/* stream.h: what a connected socket is made of, for the files that make, move and end it. */
#ifndef SYS_UV_STREAM_H
#define SYS_UV_STREAM_H
#include "sys/uv/own.h"

/* Received descriptors that nobody has taken; and how often a receiver may go on without a wait:
 * other fibers and the poll have their turn then. */
enum { SHM_QUEUE_MAX = 4 * SYS_FDS_MAX, DIRECT_MAX = 16 };

struct tls;
struct sys_stream {
	struct sys *s;
	struct watch watch;
	int fd;
	bool no_recv, no_send; /* broken or shut: E_CLOSED */
	bool local;
	uint8_t n_direct, n_shm;
	int64_t uid;
	struct tls *tls; /* NULL: plain */
	struct sys_shm *shm[SHM_QUEUE_MAX];
	char peer[SYS_ADDR_MAX];
};

/* Takes fd, a connected (or connecting) nonblocking socket, in any case. */
int stream_new(struct sys *s, int fd, const struct addr *peer, struct sys_stream **ret_c);
void socket_options(int fd, const struct addr *a);
#endif
