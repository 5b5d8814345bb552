/* SPDX-License-Identifier: Apache-2.0 */
/* own.h: what the files of the controller share.  Only src/control includes it.
 *
 * (C1) a job's row and its struct say the same whenever somebody else may look; a state that lets
 *      something go (ending, ended) is synced before it is acted on;
 * (C2) nothing is given to a job that is not active: its token is refused, no bucket made for it;
 * (C3) the end of a job is done by one fiber at a time, each step of which may be repeated. */
#ifndef CONTROL_OWN_H
#define CONTROL_OWN_H
#include "base/check.h"
#include "base/limit.h"
#include "base/sm.h"
#include "control/control.h"
#include "core/hints.h"
#include "core/meter.h"
#include "meta/large.h"
#include "meta/map.h"
#include "meta/rows.h"
#include <stdlib.h>

enum {
	TICK_MS = 250,          /* between looks at leases, servers and what is held */
	STALL_MS = 2000,        /* a longer pause was ours: it counts against nobody */
	END_WAIT_MS = 600000,   /* for which a caller waits for the end of a job */
	REPLY_BYTES = LIMIT_FRAME_BODY_BYTES_MAX - 8192, /* lists in an answer */
};

struct job {
	uint64_t id;
	struct row_job row;     /* its name points to name */
	struct sm state;        /* enum wire_job_state */
	struct list link;       /* ctl->jobs, by id */
	uint64_t heard_ns;      /* last call, or the last connection's end */
	uint32_t n_conns;
	bool ending;            /* a fiber is at its end */
	bool end_synced;        /* nothing takes it back */
	uint32_t n_waiting;     /* requests that wait for its end */
	int end_rc;             /* why that fiber could not go on */
	struct waitq ended;     /* told when it has ended, or could not */
	struct row_bill before[TIER_COUNT]; /* up to the start of this process, or to its end */
	struct row_bill saved[TIER_COUNT];  /* as the rows say */
	uint8_t name[LIMIT_COMPONENT_BYTES_MAX];
};

struct conn {
	struct list link;
	struct rpc_conn *rpc;
	struct principal who;
	struct session *session;
	uint64_t number;        /* ascends with the connections that were let in */
	uint64_t recalled_ns;   /* it answered that it returns what it does not need (recall.c) */
	uint32_t n_asking;      /* requests that wait for the end of its job */
};

/* Why a server that is to be emptied is not yet; the last ones are worse. */
enum drain_stuck { DRAIN_MOVES, DRAIN_GRANTS, DRAIN_AWAY, DRAIN_SERVERS, DRAIN_ROOM };
struct device_note { uint8_t device, tier; uint64_t pinned_bytes; };
struct server {
	struct control *ctl;
	uint32_t id;
	struct sm state;        /* enum wire_server_state */
	bool fenced;            /* surely serves nobody until it registers again */
	uint64_t heard_ns;
	struct rpc_conn *conn;  /* on which it registered; NULL: it is lost */
	uint64_t conn_number;   /* of that one, also when it is lost */
	uint64_t n_dropped;
	uint64_t checked; /* incarnation in which all that it should have was found there */
	struct server_scrub {
		uint64_t ended, extents, bytes, found, ended_ms; /* ended: a number of a scrub */
		uint32_t rotten;
	} scrub; /* as its last heartbeat said */
	uint64_t drain_ns;      /* since when it is to be emptied, as seen here; 0: it is not */
	enum drain_stuck stuck, stuck_next; /* as the last plan saw; as this one has seen so far */
	uint32_t cpu_permille, n_devices;
	struct device_note devices[LIMIT_DEVICES_MAX];
};

enum { BAD_MAX = 1024 };
struct bad {
	uint64_t egroup, extent;
	uint32_t server;
};
/* What repair.c knows beside the rows: all of it is found anew after a start. */
struct repairing {
	struct waitq wake;
	uint32_t walk, ended, n_bad; /* ended: the last walk that came to its end */
	struct bad bad[BAD_MAX];
	uint64_t lacking_bytes, lacking_egroups; /* of files whose copies are too few, as of now */
	uint64_t copied_bytes, copied_extents;
};

struct recalling {
	struct waitq wake;
	uint64_t asked_ns; /* 0: never */
};

struct control {
	struct sys *sys;
	struct serve *v;
	struct shard *sh;
	struct group fibers;
	uint8_t key[TOKEN_KEY_BYTES];
	struct cap_key cap_key; /* with which is minted now */
	uint32_t key_id;        /* the newest, told to servers since key_ms (keys.c) */
	uint64_t key_ms, key_rotate_ms;
	struct revoked *revoked; /* numbers revoked_before + 1 and so on */
	uint32_t n_revoked, revoked_cap;
	uint64_t revoked_before;
	uint8_t told[20 << 10]; /* lists of the answer to a heartbeat */
	uint64_t silent_ns, gone_ns, fence_ns;
	uint64_t born_ns, ticked_ns, saved_ns;
	struct map conns;       /* struct rpc_conn -> struct conn */
	struct list conn_list;
	uint64_t conn_last;     /* the highest number of a connection */
	struct map by_id;       /* job -> struct job */
	struct list jobs;
	uint32_t n_active, n_ended; /* active: that have not ended */
	struct server *servers[LIMIT_SERVERS_MAX + 1]; /* by number; 0 is none */
	struct repairing repair;
	struct recalling recall;
	uint64_t scrub; /* number of the last that was asked for here; 0: none was */
	struct control **here;
	struct control_copies *copies; /* for those who look on; may be NULL */
};

/* ---- control.c ---- */
struct conn *conn_of(const struct control *ctl, const struct rpc_conn *c);
void call_begin(const struct control *ctl, const struct rpc_request *r, struct shard_call *ret_c);
/* Answers behind the gate of what the shard has seen by now. */
void answer(struct control *ctl, struct rpc_request *r, const struct shard_call *c, int rc,
	uint16_t op, const void *msg);
static inline int decoded(struct shard_call *c, int rc)
{
	return rc < 0 ? err_set(&c->note, rc, "the request cannot be decoded") : 0;
}

/* ---- jobs.c ---- */
int jobs_load(struct control *ctl, struct err_note *note);
void jobs_fini(struct control *ctl);
struct job *job_find(const struct control *ctl, uint64_t id); /* NULL: there is none */
void job_write(struct control *ctl, struct job *j);
void job_hear(struct control *ctl, struct job *j);
void jobs_look(struct control *ctl, bool stalled); /* leases that ran out, ends to be resumed */
/* The job that a caller means and may see; 0 is its own.  E_NOTFOUND, E_DENIED. */
int job_of(struct control *ctl, struct shard_call *c, uint64_t id, struct job **ret_j);
void job_info(const struct control *ctl, const struct job *j, struct sub_job_info *ret_info);
/* The order in which a job fills tiers: how many. */
uint8_t job_tiers(void *arg, uint64_t job, uint8_t ret_tiers[TIER_COUNT]);
int job_quota(void *arg, uint64_t job, uint64_t bytes, struct err_note *note);
rpc_handler on_job_register, on_job_renew, on_job_list, on_job_revoke;

/* ---- end.c ---- */
void job_end_begin(struct control *ctl, struct job *j); /* active -> ending */
void job_cut(struct control *ctl, const struct job *j); /* shuts its connections */
void job_end_go_on(struct control *ctl, struct job *j); /* starts the fiber, if none is at it */
rpc_handler on_job_end;

/* ---- bill.c ---- */
int bill_load(struct control *ctl, struct job *j);
void bill_close(struct control *ctl, struct job *j);    /* nothing is added any more */
void bill_save(struct control *ctl);                    /* of all active jobs */
void bill_delete(struct control *ctl, const struct job *j);
rpc_handler on_job_bill;

/* ---- servers.c, drops.c ---- */
int servers_load(struct control *ctl, struct err_note *note);
void servers_fini(struct control *ctl);
void servers_look(struct control *ctl, bool stalled);
void servers_lost(struct control *ctl, struct rpc_conn *c);
/* All servers that are up read again all that they hold. */
void servers_scrub(struct control *ctl);
void servers_scrubbed(const struct control *ctl, struct msg_scrub_ok *ret);
void tiers_have(const struct control *ctl, struct hints_tier ret_have[TIER_COUNT]);
void server_give_up(struct server *s); /* it is removed: its connection ends */
rpc_handler on_store_register, on_heartbeat;
PARKS int drops_run(void *arg); /* the fiber of a struct server */

/* ---- keys.c ---- */
int keys_begin(struct control *ctl, struct err_note *note); /* after the jobs were loaded */
void keys_end(struct control *ctl);
void keys_look(struct control *ctl); /* from time to time */
/* Those that a server has to know, for store_ok and heartbeat_ok; room lasts as long as they. */
struct wire_list keys_told(const struct control *ctl, uint8_t *room, size_t len, uint16_t version);
/* What was given for the job until now is good no more; the row is the caller's to write.
 * E_NOMEM. */
int job_epoch_raise(struct control *ctl, struct job *j);
/* What was revoked after that number. */
void revoked_told(struct control *ctl, uint64_t after, uint8_t *room, size_t len, uint16_t version,
	struct msg_heartbeat_ok *ret);
uint64_t job_cap_epoch(void *arg, uint64_t domain);
rpc_handler on_key_rotate;

/* ---- repair.c ---- */
PARKS int repair_run(void *control); /* the fiber */
rpc_handler on_extent_bad;
bool repair_reaches(const struct control *ctl, uint32_t server); /* it is up and connected */
void repair_tell(const struct control *ctl, struct control_copies *ret_copies);

/* ---- recall.c ---- */
/* Asks all clients to return what they do not write into on that server; 0: on any. */
PARKS int recall_clients(struct control *ctl, uint32_t server);
/* Whether the client of that session answered lately: what it has, it needs. */
bool recall_heard(const struct control *ctl, uint64_t session);
/* There is no room, but some is granted.  Has it asked for; whether it may still come in. */
bool recall_room(void *control);
PARKS int recall_run(void *control); /* a fiber */

/* ---- drain.c ---- */
PARKS int drain_run(void *control); /* a fiber */
/* The client of that session says that it has no room there. */
void drain_unknown(struct control *ctl, uint32_t server, uint64_t session);

/* ---- status.c ---- */
rpc_handler on_status;
rpc_handler on_scrub;
#endif
