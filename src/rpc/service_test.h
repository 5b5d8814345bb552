/* SPDX-License-Identifier: Apache-2.0 */
/* service_test.h: a service whose requests say how they want to be answered.
 *
 *   put           inline   put_ok{ version = bytes of data, inode = their checksum }, behind the
 *                          gate (if_version, sync when ttl_ms is not 0)
 *   get           fiber    after wait_ms: get_ok with `from` bytes of pattern as data, copied
 *   list          inline   kept until lost() or service_answer_kept()
 *   stat          inline   answered by a field, or (parent 1) by a list, beyond its limit
 *   extent_write  stream   takes its data in pieces, answers their checksum; tier 1: takes half of
 *                          them; tier 2: refuses without taking any
 *   extent_read   inline   len bytes of pattern from offset, pinned, behind the gate (cap_until_ms)
 *   extent_alloc  fiber    with a descriptor of memory that holds the extent's number
 *   job_renew     fiber    asks the caller first: for a ping, or (job 2) for a status, whose
 *                          handler sleeps for a long time; then ok */
#ifndef RPC_SERVICE_TEST_H
#define RPC_SERVICE_TEST_H
#include "base/check.h"
#include "base/hash.h"
#include "rpc/door_test.h"

enum { PATTERN_BYTES = 17 << 20, KEPT_MAX = 64 };

struct service {
	struct rpc_service svc;
	struct sys *s;
	struct rpc_server *server;
	const char *tcp, *local;      /* as bound */
	struct group g;               /* of the connecting sides */
	struct rpc_request kept[KEPT_MAX];
	unsigned n_kept, n_lost, n_closed, n_pins, n_pins_most, n_pinged, n_hellos;
	struct rpc_service reverse;   /* what the connecting side serves */
};

PARKS void service_open(struct service *v, struct sys *s);
PARKS void service_close(struct service *v); /* and checks that nothing is left */
PARKS struct rpc_conn *service_connect(struct service *v, const char *addr);
void service_answer_kept(struct service *v);
const uint8_t *pattern(void);           /* PATTERN_BYTES of it */
uint64_t soon(struct sys *s);           /* a deadline that a test never meets */
/* Waits until the condition holds, a little while. */
#define until(s, cond) do { \
	uint64_t limit_ns = soon(s); \
	while (!(cond)) { \
		check(sys_now_ns(s) < limit_ns); \
		check(fiber_sleep(sys_after(s, SYS_MS / 4)) == 0); \
	} \
} while (0)
#endif
