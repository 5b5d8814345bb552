/* SPDX-License-Identifier: Apache-2.0 */
/* replicate_own.h: the inside of a running replica: what its files share. */
#ifndef META_REPLICATE_OWN_H
#define META_REPLICATE_OWN_H
#include "base/list.h"
#include "core/replica_wire.h"
#include "meta/log.h"
#include "meta/places.h"
#include "meta/replicate.h"
#include "meta/tail.h"
#include "wire/words.h"

enum {
	REPLICATE_DIR_MAX = 360,
	REPLICATE_NODES_MAX = 16,             /* with metadata, that are kept in mind */
	REPLICATE_TAIL_BYTES = 32 << 20,      /* of records in memory, while there are others */
	REPLICATE_TAKEN_BYTES_MAX = 64 << 20, /* came and wait to be written; then: not taken */
	PEER_QUEUED_BYTES_MAX = 32 << 20,     /* to one peer; more is not sent at all */
	PEER_QUEUED_MAX = 256,
	PEER_QUEUED_AWAY_MAX = 16,            /* while there is no connection */
	PEER_UNDER_WAY_BYTES_MAX = 4 << 20,   /* unanswered */
	PEER_UNDER_WAY_MAX = 256,
	SAY_LATER_MAX = 32,                   /* whose answers wait for the next tick */
	SAY_LATER_BYTES_MAX = 64 << 10,       /* each; a larger one is answered at once */
	PEER_BATCH_BYTES_MAX = 1 << 20,       /* an append of more goes as several */
};
#define REPLICATE_COORD_NS    SYS_SEC         /* for one question */
#define REPLICATE_AGAIN_NS    (50 * SYS_MS)   /* between two, when the first one failed */
#define REPLICATE_NODES_NS    SYS_SEC         /* the list of nodes is read so often */
#define REPLICATE_FULL_NS     (100 * SYS_MS)  /* a full disk is tried again */
#define REPLICATE_LEAVE_NS    (300 * SYS_MS)  /* to be let out of the set */
#define REPLICATE_YIELD_NS    (10 * SYS_SEC)  /* between two hand-overs of one with a full disk */
#define REPLICATE_ALONE_TICK_NS (100 * SYS_MS)
#define SAY_DATA_NS           (5 * SYS_SEC)   /* for the data behind a message to come */
#define PEER_CONNECT_NS       (500 * SYS_MS)
#define PEER_ANSWER_NS        SYS_SEC         /* longer, and the connection is given up */
#define PEER_AGAIN_NS         (20 * SYS_MS)
#define PEER_AGAIN_MAX_NS     (200 * SYS_MS)

/* ---- replicate_mark.c: what outlives the process, beside the log ---- */
struct mark_file {
	uint64_t id, incarnation;
	struct replica_mark mark;
	uint64_t uuid_hi, uuid_lo; /* of the log; 0: none yet */
	uint64_t generation; /* of log and rows: how many copies were put for them */
};

/* ---- replicate_say.c: a message that came, with the records it brings ---- */
struct taken {
	struct replica_msg msg; /* borrows room */
	struct replica_places room;
	uint32_t refs;
	size_t len;
	uint8_t data[];
};

/* ---- replicate_scribe.c: what changes the log or who uses the rows, one at a time ---- */
enum scribe_kind {
	SCRIBE_WRITE = 1, SCRIBE_CUT, SCRIBE_BEGIN, SCRIBE_LEAD, SCRIBE_FOLLOW, SCRIBE_INSTALL,
};
struct scribe_item {
	struct list link;
	enum scribe_kind kind;
	struct taken *taken; /* write: it holds a reference */
	uint64_t index;      /* write: from; cut: behind; begin, lead: epoch; install: of it */
};

/* ---- replicate_peer.c: another replica, as one talks to it ---- */
struct peer {
	struct replicate *r;
	struct list link;
	uint64_t id;
	char addr[SYS_ADDR_MAX], name[32];
	struct group fibers; /* of its connection */
	struct rpc_conn *conn;
	struct list queued, under_way, idle; /* of struct say */
	uint32_t n_queued, n_under_way, n_idle;
	size_t queued_bytes, under_way_bytes;
	struct waitq work;
	struct log_reader *reader; /* NULL: what is sent is in memory */
	bool reading;              /* in the log */
	uint64_t again_ns;
	bool moved, gone; /* its address has changed; it is no node any more */
};

/* ---- replicate_install.c: a copy on its way in ---- */
struct incoming {
	struct db_made *made; /* NULL: none */
	uint64_t id;
	uint32_t next; /* piece */
	bool busy;     /* somebody is at it */
};

struct coord_op {
	bool wanted, swap;
	uint64_t op, expected;
	struct replica_config to;
};

struct replicate {
	struct sys *sys;
	struct replicate_calls calls;
	void *arg;
	struct coord *coord;
	uint32_t shard, first_target;
	uint64_t id;
	char dir[REPLICATE_DIR_MAX], token[64];
	size_t token_len;
	struct replica core;
	struct replica_limits limits;
	bool stepping, ended, said_nobody;
	bool full;           /* has said that its disk is */
	uint64_t yielded_ns; /* when it last handed over for want of room; 0: never */

	/* rows and log */
	struct db *db; /* NULL: its log is rotten, or is being replaced */
	struct db_opts db_opts;
	struct group db_fibers;
	struct sys_file *lock;
	uint64_t told;         /* the last record that the core knows of as appended or written */
	uint64_t told_synced;
	struct places ahead;   /* n > 0: what the log's places will be, from ahead.first on */
	uint64_t valid;        /* up to it, the log is as the core has it */
	uint64_t sync_to;      /* somebody waits for that */
	uint64_t cuts_done;
	struct taken *handling; /* the message of this step */
	bool db_leads;          /* db_lead() was called, db_follow() was not */
	bool lent;              /* the rows are with calls.lead */
	bool stopped;           /* which was told to stop */

	/* copies */
	struct incoming in;
	bool installing, copying; /* in: decided, not done; out: one is being sent */
	uint64_t copies[REPLICATE_NODES_MAX]; /* to whom */
	uint32_t n_copies;
	struct waitq copies_q;

	/* scribe */
	struct list items;
	uint32_t n_items, n_cuts;
	size_t taken_bytes;
	bool scribe_busy;
	struct waitq scribe, quiet; /* quiet: nothing is left for the scribe, nobody is inside */
	uint32_t n_inside;          /* messages on their way in */
	struct rpc_request later[SAY_LATER_MAX]; /* taken, and not answered yet */
	uint32_t n_later;
	bool ticks;                 /* there is a next tick */

	/* mark, coord, nodes */
	struct mark_file mark;
	struct replica_mark marking;
	bool mark_wanted;
	struct waitq mark_q, coord_q;
	struct fiber_lock mark_lock; /* held while it is written */
	struct coord_op asked;
	struct coord_node nodes[REPLICATE_NODES_MAX];
	uint32_t n_nodes;

	struct list peers;
	struct group fibers, peer_fibers;
	struct waitq changed; /* a step was made that some wait for */
	struct waitq readers;
};

/* ---- replicate.c ---- */
/* Steps the core and carries out what it says; never parks. */
void replicate_step(struct replicate *r, struct replica_event *ev);
/* It cannot go on: nothing is said or written any more. */
void replicate_fail(struct replicate *r, int rc, const struct err_note *note);
/* Log and rows of the mark's generation. */
PARKS int replicate_open_rows(struct replicate *r, struct err_note *note);

/* ---- replicate_do.c ---- */
void replicate_do(struct replicate *r, const struct replica_todo *t);
bool replicate_log_at(void *arg, uint64_t index, struct replica_place *ret_place);
void replicate_grew(void *arg, uint64_t written, uint64_t synced); /* of db_opts */
/* Commits here what the core says is committed, as far as it is written. */
void replicate_commit(struct replicate *r);

/* ---- replicate_scribe.c ---- */
void scribe_add(struct replicate *r, enum scribe_kind kind, uint64_t index, struct taken *taken);
PARKS int scribe_run(void *arg);
void scribe_drop_all(struct replicate *r);

/* ---- replicate_mark.c ---- */
/* E_NOTFOUND; E_CORRUPT. */
PARKS int mark_file_read(struct sys *s, const char *dir, struct mark_file *ret_m,
	struct err_note *note);
PARKS int mark_file_write(struct sys *s, const char *dir, const struct mark_file *m,
	struct err_note *note);
/* As mark_file_write(), when there is room again. */
PARKS int mark_file_keep(struct replicate *r, const struct mark_file *m, struct err_note *note);
PARKS int mark_run(void *arg);
void mark_rows_dir(
	const char *dir, uint64_t generation, char ret_dir[REPLICATE_PATH_MAX]);

/* ---- replicate_copy.c ---- */
void copy_ask(struct replicate *r, uint64_t id);
PARKS int copy_run(void *arg);

/* ---- replicate_install.c ---- */
PARKS int install(struct replicate *r, uint64_t index, struct err_note *note);
void install_forget(struct replicate *r);

/* ---- replicate_coord.c ---- */
PARKS int coord_run(void *arg);
PARKS int nodes_run(void *arg);
PARKS int nodes_read(struct replicate *r);
const struct coord_node *node_of(const struct replicate *r, uint64_t id); /* NULL: not known */
/* Whether the set has a member besides this replica. */
PARKS int coord_has_others(struct replicate *r, bool *ret_others, struct err_note *note);
/* Whether the state names this replica as one that has run. */
PARKS int coord_knows(struct replicate *r, bool *ret_known, struct err_note *note);

/* ---- replicate_say.c ---- */
void taken_unref(struct taken *t); /* NULL is fine */
void say_answer_all(struct replicate *r); /* those that were taken */

/* ---- replicate_peer.c ---- */
void peers_set(struct replicate *r); /* after r->nodes has changed */
void peer_say(struct replicate *r, const struct replica_msg *m);
PARKS void peers_close(struct replicate *r);
struct peer *peer_of(const struct replicate *r, uint64_t id);
/* Returns when nobody reads the log for another replica; nobody does while this one follows. */
PARKS int peers_leave_log(struct replicate *r);
#endif
