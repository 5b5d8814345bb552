/* SPDX-License-Identifier: Apache-2.0 */
/* world_test.h: a storage server, a controller that it registers with, and clients, for tests. */
#ifndef STORE_WORLD_TEST_H
#define STORE_WORLD_TEST_H
#include "store/own.h"

enum { MIB = 1 << 20, DRAM = 0, FLASH = 1, DISK = 2, N_DEVICES = 3, ARENA = 2 * MIB };

/* The part of a shard that a storage server sees. */
struct controller {
	struct rpc_server *server;
	struct rpc_service svc;
	struct rpc_conn *conn;      /* of the storage server, once it has registered */
	struct cap_key key, before; /* with which is minted; the one before, 0: none */
	struct sub_job_epoch revoked[8];
	uint32_t n_revoked;
	bool blind;                 /* says that there is more of it, and never what */
	uint64_t epoch, shard_ms;
	uint64_t incarnation;       /* as it last registered */
	uint32_t n_registered, n_beats;
	bool silent;                /* answers nothing */
	bool follows;               /* another one leads */
	uint64_t heard_epoch;       /* of the last beat */
	uint64_t scrub;             /* number of one that is asked for */
	struct msg_heartbeat beat;  /* the last; its lists are not kept */
	struct sub_bad_extent bad[64]; /* as they were told, again and again */
	uint32_t n_bad;
	struct sub_device_info devices[N_DEVICES]; /* of the last beat; paths are not kept */
};

struct world {
	struct sys *s;
	struct controller ctl, other; /* other: only when a test opens it */
	struct store *st;
	struct store_opts o;
	struct store_device devices[N_DEVICES];
	struct group group;         /* of the clients' connections */
	struct rpc_service reverse; /* what clients serve */
	char dir[80], flash[80], disk[80], local[96], control[96], control_2[96], controls[200];
	uint64_t scrub_ms;          /* of the store; set before it is opened */
	const char *listen[2];
	const char *tcp;            /* as bound */
	uint64_t job_epoch;         /* of what get() and pin() show */
	uint32_t n_gone;            /* arena_gone that clients were told */
	uint64_t gone;              /* the last one */
};

PARKS void world_begin(struct world *w, struct sys *s); /* all but the store */
PARKS void world_open(struct world *w, struct sys *s);  /* until the store serves */
PARKS int world_store_try(struct world *w, struct err_note *note); /* a code, then no store */
PARKS void world_control_open(struct world *w, struct controller *c, const char *addr);
PARKS void world_close(struct world *w);
PARKS void world_store_open(struct world *w);
PARKS struct rpc_conn *world_client(struct world *w, bool local);
void world_status(struct world *w, unsigned device, struct store_device_status *ret); /* audited */

/* What a grant gives; ticket() mints its code at use, with whatever was changed in it. */
struct ticket {
	uint64_t egroup, job, first, credit, epoch, until_ms, job_epoch;
	uint32_t count;
	uint8_t device;
};
struct ticket ticket(const struct world *w, uint64_t egroup, uint64_t job, uint8_t device);

PARKS int put(struct world *w, struct rpc_conn *c, const struct ticket *t, uint64_t id,
	const void *data, size_t len, bool sync);
PARKS int get(struct world *w, struct rpc_conn *c, uint64_t egroup, uint64_t id, uint64_t job,
	uint64_t offset, uint32_t len, uint8_t *ret_data);
PARKS int drop(struct world *w, uint64_t egroup, uint64_t first, uint32_t n);
PARKS int drop_egroup(struct world *w, uint64_t egroup);

/* Memory of an arena as a client maps it. */
struct mapping { uint64_t arena; struct sys_shm *shm; uint8_t *at; bool writable; };
struct mappings { struct mapping m[16]; unsigned n; };
void mappings_close(struct mappings *ms);
/* Allocates, copies, but does not seal. */
PARKS int alloc(struct world *w, struct rpc_conn *c, struct mappings *ms, const struct ticket *t,
	uint64_t id, const void *data, size_t len);
PARKS int seal(struct world *w, struct rpc_conn *c, const struct ticket *t, uint64_t id,
	const void *data, size_t len);
PARKS int pin(struct world *w, struct rpc_conn *c, struct mappings *ms, uint64_t egroup,
	uint64_t id, uint64_t job, const uint8_t **ret_p, uint64_t *ret_len);
PARKS int unpin(struct world *w, struct rpc_conn *c, uint64_t egroup, uint64_t id);

void pattern(uint64_t seed, void *p, size_t len);
uint64_t soon(struct sys *s); /* a deadline that a test never meets */
/* Waits until the condition holds, a little while. */
#define until(s, cond) do { \
	uint64_t limit_ns = soon(s); \
	while (!(cond)) { \
		check(sys_now_ns(s) < limit_ns); \
		check(fiber_sleep(sys_after(s, SYS_MS)) == 0); \
	} \
} while (0)
#endif
