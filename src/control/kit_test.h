/* SPDX-License-Identifier: Apache-2.0 */
/* kit_test.h: a shard with its controller on a simulated node, and connections to it over the real
 * wire.  Only tests of this folder include it.  Failures are failed checks: cmocka's own cannot
 * leave a fiber's stack. */
#ifndef CONTROL_KIT_TEST_H
#define CONTROL_KIT_TEST_H
#include "base/check.h"
#include "control/own.h"
#include "meta/serve.h"
#include "sys/sim/sim.h"

enum { KIT_SILENT_MS = 1000, KIT_FENCE_MS = 2000, KIT_GONE_MS = 4000, KIT_ROTATE_MS = 1200000,
	MIB = 1 << 20 };
struct kit {
	struct sys *sys;
	struct serve *v;
	struct group g;         /* of the connections */
	struct rpc_conn *admin;
	struct control *ctl;
	uint64_t clients;
	struct rpc_call call;   /* the last: its reply is borrowed until the next */
	struct err_note note;
};
extern struct kit kit;

/* Runs body on a node without faults, then audits and closes. */
void kit_run(void (*body)(void));
/* The same on a world of the caller's, whose node may have been up before. */
int kit_main(struct sys *s, void *body);
void kit_restart(void); /* closes, opens; connects the administrator anew */
void kit_clock_jump(int64_t ms); /* of the wall; in kit_run() */
void kit_sleep(uint64_t ms);
struct bytes kit_text(const char *s);

/* token NULL: an administrator over the Unix socket.  svc may be NULL. */
int kit_connect(const char *token, size_t len, const struct rpc_service *svc,
	struct rpc_conn **ret_c);
/* Numbered requests change something, plain ones do not.  ret may be NULL for ok. */
int kit_change(struct rpc_conn *c, uint16_t op, const void *msg, uint16_t reply, void *ret);
int kit_look(struct rpc_conn *c, uint16_t op, const void *msg, uint16_t reply, void *ret);

struct kit_job {
	uint64_t id;
	char token[TOKEN_CHARS_MAX];
	size_t token_len;
	struct rpc_conn *conn;
};
struct kit_job kit_register(const char *name, uint64_t lease_ms, uint64_t quota_bytes);
void kit_enter(struct kit_job *j); /* connects with its token */
int kit_end(struct rpc_conn *c, uint64_t job, struct msg_job_end_ok *ret);
uint64_t kit_bucket(struct rpc_conn *c, const struct msg_bucket_create *m);
int kit_put(
	struct rpc_conn *c, uint64_t bucket, const char *name, const char *data, unsigned flags);
int kit_get(struct rpc_conn *c, uint64_t bucket, const char *name);
bool kit_info(uint64_t job, struct sub_job_info *ret); /* false: not in the list */
unsigned kit_state(uint64_t job);                      /* 0: there is none */
struct sub_bill_line kit_bill(uint64_t job, uint8_t tier);
/* Of the system or a job; every sum is checked. */
struct msg_status_ok kit_status(uint64_t job);
struct sub_tier_status kit_tier(struct wire_list tiers, uint8_t tier);
#endif
