/* SPDX-License-Identifier: Apache-2.0 */
/* own.h: the parts of a storage server.  The invariants (I1-I6) are those of README.md. */
#ifndef STORE_OWN_H
#define STORE_OWN_H
#include "base/check.h"
#include "base/limit.h"
#include "base/sm.h"
#include "base/sums.h"
#include "core/cap.h"
#include "core/room.h"
#include "rpc/route.h"
#include "store/slots.h"
#include "store/store.h"
#include "store/table.h"

enum {
	ARENA_IDLE_MS = 2000,        /* an empty arena waits that long for its job to come back */
	KEEP_EVERY_MS = 250,         /* the keeper of arenas looks around */
	PREFAULT_BYTES = 16 << 20,   /* in one piece of work */
	READY_SOON_BYTES = 256 << 20, /* fresh memory that is made ready without a rest */
	REST_SHARE = 2,              /* for the others: so long a rest for each piece */
	ASKED_MS = 100,              /* while requests come closer together than this: */
	ASKED_PREFAULT_BYTES = 2 << 20, /* smaller pieces */
	ASKED_REST_SHARE = 20,       /* and longer rests */
	RECV_BYTES = 256 << 10,      /* received and summed at a time: stays in the cache */
	FENCES_MAX = 65536,          /* remembered drops of what had not come yet */
	GRANTS_MAX = 1024,           /* remembered open grants of one egroup */
	FILES_OPEN_MAX = 256,        /* of one device */
	BUFFER_BYTES_MAX = 64 << 20, /* for bytes on their way to and from files */
	EGROUP_BYTES_MIN = 1 << 20,
	PATH_BYTES = 512,
	SCRUB_PIECE_BYTES = 1 << 20, /* read again at a time */
	SCRUB_LOOK_MS = 60000,       /* the pace is made again of what there is by then */
	SCRUB_SAVE_MS = 60000,       /* between two notes of where it is */
	SCRUB_YIELD_MS = 1000,       /* at most, for each extent, while requests come */
	SCRUB_TELL_MS = 60000,       /* what is bad is told again, while it is */
	SCRUB_TOLD_MAX = 256,        /* extents in one message */
	RECV_WAIT_S = 30,   /* for a piece of a request's data */
	BUFFER_WAIT_S = 30, /* for room to put it */
};

/* ---- extents ---- */
enum extent_state { EXTENT_WRITING, EXTENT_SEALED, EXTENT_DROPPED };

struct client;
struct store;
struct device;
struct egroup;
struct arena;

struct extent {
	struct table_node node; /* by (egroup, id) until it is dropped */
	struct list in_egroup;
	struct egroup *egroup;
	struct sm state;
	struct grant *grant; /* while it is being written */
	uint64_t id, len, room;
	uint64_t offset; /* of its first byte: in the arena, in the file */
	uint32_t root;
	uint32_t refs;       /* its writer, pins, reads under way; freed at 0 when dropped */
	bool erased;         /* file: nothing of it is left to punch */
	bool synced;         /* file: its writer waited for the sync */
	bool placed;         /* file: offset is valid, the room of the file is spent */
	bool copied;         /* brought here from another server, under no grant */
	bool apart;          /* not in the index: it is to take the place of another */
	bool bad;            /* its bytes are not those that were written */
	struct list in_bad;  /* while it is, and sealed */
	uint64_t told_ns;    /* when the controller was told so; 0: never */
	struct arena *arena; /* dram */
	struct slot *slot;
	uint32_t *sums;        /* dram; files keep them in the header */
	struct client *writer; /* allocated over shared memory, not sealed yet */
	struct list in_client;
	struct list dead; /* file: waiting for the sweeper */
};

/* Ids and credit that a session was granted in an egroup, from the first use on until every id was
 * used or dropped; then a fence on the first id keeps late requests out. */
struct grant {
	struct list link; /* newest first */
	uint64_t first, credit_bytes, spent_bytes;
	uint64_t used; /* one bit for each id that was written or dropped: never again */
	uint32_t count, n_writing;
};

/* File of an egroup on flash or disk. */
struct volfile {
	struct sys_file *f;       /* NULL: not open */
	struct list lru;          /* open and unused, least recently used first */
	struct waitq changed;     /* opened, synced */
	uint64_t end;             /* the next record goes here; only ever grows */
	uint64_t promised;        /* room of extents being received */
	uint64_t dead;            /* spent room that cannot be given back */
	uint64_t written, synced; /* count of writes, and how many of them a sync covers */
	uint32_t users;
	bool opening, syncing;
	bool exists; /* has been created, and not unlinked for good */
	bool leaving; /* being unlinked, or that failed: to be tried again */
	bool named;  /* its name is on the medium */
	bool owes;   /* a drop of an extent failed half-way */
	bool broken; /* a sync failed: nothing more is written (sys/README.md) */
};

struct egroup {
	struct table_node node; /* by (id, 0) until it is dropped */
	struct list extents, grants;
	struct device *device;
	struct volfile file;
	uint64_t id, job;
	uint64_t used_bytes, pinned_bytes, room_bytes;
	uint32_t n_extents, n_grants;
	bool dropped;     /* out of the index; freed with its last extent */
	bool jobless;     /* found on a file without a record that says whose it is */
	struct list link; /* in the device */
};

/* ---- devices ---- */
struct arena {
	struct list link; /* in arenas.bound or arenas.fresh */
	struct device *device;
	uint64_t id, job;
	struct sys_shm *memory, *reader;
	uint8_t *at;
	struct slots slots;
	uint64_t ready_bytes; /* faulted in */
	uint64_t idle_ns;     /* empty since */
	uint32_t n_extents;
	bool bound, busy; /* busy: the keeper is faulting it in */
	bool left;        /* no longer the device's; freed when it is not busy */
};

struct arenas {
	struct list bound, fresh; /* bound: to a job, most recently used first */
	uint32_t n, n_bound, max;
	uint64_t ready_goal, bound_free; /* bound_free: room left in bound arenas */
	struct waitq wanted; /* wakes the keeper */
};

struct volume {
	struct sys_file *lock;
	struct list unused; /* open files, least recently used first */
	uint32_t n_open, n_leaving;
	struct list dead; /* dropped extents to punch once unused */
	struct waitq sweep;
	uint64_t dead_bytes; /* of the files' dead room */
};

struct device {
	struct store *store;
	uint8_t id, tier;
	const char *dir;
	uint64_t capacity, egroup_bytes;
	uint64_t used, pinned, writing, around; /* around: rounding and headers of sealed extents */
	uint64_t read_bytes, written_bytes;
	uint32_t n_egroups, n_extents, n_broken, n_corrupt;
	struct list egroups;
	struct arenas arenas; /* dram */
	struct volume volume; /* flash, disk */
};

static inline bool device_is_dram(const struct device *d)
{
	return d->tier == TIER_DRAM;
}
uint64_t device_reserved(const struct device *d);
uint64_t device_free(const struct device *d);

/* ---- clients ---- */
struct client {
	struct list link;
	struct store *store;
	struct rpc_conn *conn;
	struct table pins, arenas;
	struct list allocs;
	bool local, lost;
};

/* What must not come any more: an egroup (extent 0), an extent and with it the grant that begins
 * there. */
struct fence {
	struct table_node node;
	struct list link;
	uint64_t until_ns;
};

/* Brings extents from other servers, one at a time. */
struct copier {
	struct fiber_lock lock;
	struct rpc_conn *conn; /* to the server at addr */
	char addr[256];
	struct rpc_service none;
	uint64_t copied_bytes, replaced;
};

/* Reads again what is at rest (scrub.c). */
struct scrub {
	struct waitq wake;
	uint64_t asked, ended; /* numbers of scrubs: the last asked for, the last that ended */
	bool at_once;          /* the present pass was asked for */
	uint64_t egroup, extent; /* the last that was read; extent 0: none of the egroup */
	uint8_t device;
	uint64_t passes, ended_ms, n_extents, bytes, found;
	uint64_t saved_ns;
	struct list bad; /* those that were told lately last */
	uint32_t n_bad;
};

struct store {
	struct sys *sys;
	const struct store_opts *opts;
	struct group group;
	struct rpc_server *server;
	struct device devices[LIMIT_DEVICES_MAX];
	unsigned n_devices;
	struct table extents, egroups, fences;
	struct list fences_old_first;
	struct list clients;
	uint32_t n_clients, n_pins;
	uint64_t next_arena, incarnation, uuid[2];
	uint64_t asked_ns; /* the last request for bytes */
	uint64_t buffer_bytes;
	struct waitq buffers;
	const char *addr, *local;
	const char *bound[16];
	/* what the controller told */
	struct cap_key keys[CAP_KEYS_MAX];
	uint32_t n_keys, number;
	struct table revoked;    /* struct revocation by (job, 0) */
	struct list revoked_old_first;
	uint64_t revoked_to;     /* the last that the controller told, by its numbers */
	bool revoked_more;       /* and there is more of it */
	uint64_t view_ns;        /* all that is revoked was known then; 0: never */
	uint64_t revoked_all_ms; /* capabilities that end before are void as well */
	uint64_t epoch; /* the highest, as on the medium */
	uint64_t shard_ms, heard_ns; /* shard_ms was true at heard_ns; 0: never heard */
	struct rpc_conn *controller;
	struct route route;
	char at[SYS_ADDR_MAX]; /* of controller */
	struct rpc_conn *next; /* leads instead of the controller */
	uint64_t beat_ns;      /* a heartbeat was sent then, and is not answered yet; 0: none */
	struct waitq left;     /* woken when the connection to it has ended */
	struct fiber_lock epoch_lock;
	unsigned epoch_at; /* the block of its file */
	struct copier copier;
	struct scrub scrub;
	struct rpc_service service, reverse; /* for clients; for the controller */
};

/* ---- extent.c ---- */
struct extent_ask {
	uint64_t egroup, extent, len, job, first, credit_bytes;
	uint32_t count;
	uint8_t device;
};
/* Room for a new extent, being written; the caller holds its only reference.  E_EXISTS with *ret_e
 * set (no reference): it is sealed already, as a retry finds.  E_BUSY: somebody is writing it.
 * E_GONE: dropped before it came.  E_FULL, E_TOOBIG, E_INVALID, E_DENIED, E_NOMEM. */
int extent_begin(
	struct store *st, const struct extent_ask *a, struct extent **ret_e, struct err_note *note);
/* As extent_begin(), on a device of files, for what the controller wants here: without a grant,
 * whatever fences say (a drop that was sent later comes later).  again: one that is here and bad,
 * of which this is to become the successor. */
int extent_begin_copy(struct store *st, const struct extent_ask *a, struct extent *again,
	struct extent **ret_e, struct err_note *note);
/* The sealed extent takes the place of the bad one, which is dropped; false: that one was dropped
 * meanwhile, and so is this one now. */
bool extent_succeed(struct extent *e, struct extent *bad);
/* Gives up an extent that is being written, with the caller's reference: its id and credit may be
 * used again, unless it was dropped meanwhile. */
void extent_abort(struct extent *e);
/* A sealed extent of the job, without a reference; E_GONE. */
int extent_find(struct store *st, uint64_t egroup, uint64_t id, uint64_t job, struct extent **ret_e,
	struct err_note *note);
void extent_seal(struct extent *e);
void extent_drop(struct extent *e); /* out of the index; freed now or with its last reference */
static inline void extent_ref(struct extent *e)
{
	e->refs++;
}
void extent_unref(struct extent *e);
void extent_free(struct extent *e); /* dropped, unused, erased */
static inline bool extent_is(const struct extent *e, enum extent_state s)
{
	return e->state.now == (unsigned)s;
}
struct egroup *egroup_get(struct store *st, uint64_t id);
int egroup_make(
	struct store *st, uint64_t id, uint64_t job, struct device *d, struct egroup **ret_g);
void egroup_drop(struct egroup *g); /* and all in it; its file is the caller's to unlink */
void egroup_fence(struct store *st, uint64_t id); /* of one that is not here: it will not come */
/* One that was dropped, and whose file could not be unlinked; NULL: there is none. */
struct egroup *egroup_leaving(struct store *st, uint64_t id);
void egroup_forget(struct egroup *g);             /* frees it when nothing holds it any more */
/* Takes in an extent found in a file. */
int extent_found(
	struct egroup *g, uint64_t id, uint64_t offset, uint64_t len, uint32_t root, bool synced);
/* Drops one extent by id: with a reference for the caller, who erases it.  NULL: it is not here,
 * and it will not come any more.  A run of ids that follow each other in one call after the other
 * takes one fence, which keeps out a grant that was never used here; begin with a zeroed run. */
struct drop_run {
	uint64_t egroup, next;
};
struct extent *extent_drop_id(struct store *st, uint64_t egroup, uint64_t id, struct drop_run *run);
void extents_free_all(struct store *st); /* at the end; nobody uses anything any more */
void extents_audit(const struct store *st);

/* ---- grant.c: what may come, and what may not ---- */
void fence_put(struct store *st, uint64_t egroup, uint64_t extent);
bool fence_has(const struct store *st, uint64_t egroup, uint64_t extent);
void fences_end(struct store *st);
/* The grant that the request names, remembered from its first use on.  E_INVALID, E_NOMEM. */
int grant_take(
	struct egroup *g, const struct extent_ask *a, struct grant **ret_t, struct err_note *note);
struct grant *grant_of(struct egroup *g, uint64_t id); /* the open one with that id, or NULL */
bool grant_used(const struct grant *t, uint64_t id);   /* was written or dropped */
void grant_begin(struct extent *e, struct grant *t);   /* takes id and credit */
void grant_return(struct extent *e);                   /* gives them back */
void grant_left(struct extent *e);                     /* it is not being written any more */
void grant_use(struct egroup *g, struct grant *t, uint64_t id); /* an id that never came */
void grants_end(struct egroup *g);

/* ---- arenas.c ---- */
void arenas_open(struct device *d, uint64_t ready_bytes);
void arenas_close(struct device *d);
/* Room for an extent of the job in one of its arenas.  E_FULL, E_NOMEM. */
int arenas_take(struct device *d, uint64_t job, uint64_t room, struct arena **ret_a,
	struct slot **ret_slot, struct err_note *note);
void arenas_give(struct arena *a, struct slot *slot);
uint64_t arenas_free(const struct device *d);
uint64_t arenas_ready(const struct device *d);
int arenas_keep(void *device); /* the keeper's fiber */

/* ---- record.c: the header of an extent in a file ---- */
struct record {
	uint64_t egroup, extent, job, offset, len;
	uint32_t root, n_sums, header_bytes;
	bool synced;
};
enum { RECORD_FIELDS_BYTES = ROOM_HEADER_FIELDS_BYTES };
void volume_record_put(
	const struct record *r, const uint32_t *sums, uint8_t *to); /* header_bytes */
/* Of the header's first block: how long the header says it is, or 0 when it is none. */
uint32_t record_header_bytes(const uint8_t *first_block, uint64_t egroup, uint64_t offset);
/* The whole header: 0 or E_CORRUPT.  ret_sums (room for the longest extent's) may be NULL. */
int volume_record_get(const uint8_t *from, size_t header_bytes, uint64_t egroup, uint64_t offset,
	struct record *ret_r, uint32_t *ret_sums);

/* ---- volume.c ---- */
PARKS int volume_open(struct device *d, struct err_note *note);
void volume_close(struct device *d);
/* buf: room bytes, the contents behind room for the header, zeros behind them. */
PARKS int volume_append(
	struct extent *e, uint8_t *buf, const uint32_t *sums, bool sync, struct err_note *note);
/* Where the bytes of an extent come from: len bytes of it to `to`, their sums, and its root. */
typedef int extent_source_fn(
	void *arg, struct extent *e, uint8_t *to, uint32_t *ret_sums, struct err_note *note);
/* Makes the record of an extent of what the source gives; it is not sealed yet. */
PARKS int volume_write(struct extent *e, extent_source_fn *source, void *arg, bool sync,
	struct err_note *note);
/* The header into buf (aligned, room_header() bytes) and n blocks from first on behind it, compared
 * with their sums.  sums has room for those of the whole extent. */
PARKS int volume_read(struct extent *e, uint64_t first, uint64_t n, uint8_t *buf, uint32_t *sums,
	struct err_note *note);
/* Makes a dropped extent disappear from the file; header_only: somebody still reads the rest. */
PARKS int volume_erase(struct extent *e, bool header_only, struct err_note *note);
PARKS int volume_sync(struct egroup *g, struct err_note *note);
PARKS int volume_sync_drops(struct egroup *g, struct err_note *note); /* also of a broken file */
bool volume_sweeps(const struct egroup *g); /* dropped extents of it are still to be erased */
PARKS int volume_unlink(struct egroup *g, struct err_note *note);
PARKS int volume_use(struct egroup *g, struct err_note *note); /* opens; keeps it open until ... */
void volume_unuse(struct egroup *g);
PARKS int volume_rebuild(struct device *d, struct err_note *note); /* rebuild.c */
int volume_sweep(void *device);                                    /* the sweeper's fiber */
void volume_dead(struct egroup *g, uint64_t bytes); /* spent, and lost until the egroup goes */
void volume_path(const struct device *d, uint64_t egroup, char ret_path[PATH_BYTES]);

/* ---- store.c: its uuid as text, 32 digits and the end of the line ---- */
enum { UUID_CHARS = 33 };
bool uuid_get(const char *text, uint64_t ret_uuid[2]);

/* ---- buffers (store.c): aligned memory under one limit ---- */
PARKS int buffer_take(struct store *st, size_t len, uint8_t **ret_p, struct err_note *note);
void buffer_give(struct store *st, uint8_t *p, size_t len);

/* A directory whose own name is on the medium. */
PARKS int folder_make(struct sys *s, const char *path, struct err_note *note);

/* ---- serve.c, local.c: requests of clients ---- */
extern const struct rpc_op serve_ops[];
extern const size_t serve_n_ops;
int serve_hello(void *store, struct rpc_conn *c, const struct msg_hello *h,
	struct msg_hello_ok *ret_ok, char ret_hint[SYS_ADDR_MAX], struct err_note *note);
void serve_lost(void *store, struct rpc_conn *c);
void serve_closed(void *store, struct rpc_conn *c);
/* E_UNAVAILABLE without a controller; else as cap_check(). */
int serve_may(struct store *st, struct cap *c, struct bytes code, struct err_note *note);
void handle_alloc(void *store, struct rpc_request *r);
void handle_seal(void *store, struct rpc_request *r);
void handle_pin(void *store, struct rpc_request *r);
void handle_unpin(void *store, struct rpc_request *r);
void local_lost(struct client *c);      /* its pins and allocations end (I6) */
void local_arena_gone(struct arena *a); /* tells the clients that know it */

/* ---- revoked.c: capabilities of jobs that are good no more ---- */
void revoked_put(struct store *st, uint64_t job, uint64_t epoch);
/* Least epoch of the job that is not revoked; 0: none is. */
uint64_t revoked_epoch(const struct store *st, uint64_t job);
void revoked_lapse(struct store *st);
void revoked_end(struct store *st);

/* ---- epoch.c ---- */
PARKS int epoch_open(struct store *st, struct err_note *note);
/* 0 when the epoch is to be obeyed: then it is on the medium, if it is a higher one.  E_STALE. */
PARKS int epoch_keep(struct store *st, uint64_t epoch, struct err_note *note);
/* ---- scrub.c ---- */
PARKS void scrub_open(struct store *st); /* where it was */
PARKS int scrub_run(void *store);  /* the fiber */
/* All of it at once, if this number is a new one. */
void scrub_now(struct store *st, uint64_t number);
/* What was read shows it to be bad (rc: E_CORRUPT or E_IO), or whole; of a sealed extent. */
void extent_rotten(struct extent *e, int rc);
void extent_sound(struct extent *e);
/* All of it against its sums and its root: 0, E_CORRUPT, E_IO; anything else says nothing about it.
 * The caller holds a reference, and asks afterwards whether it was dropped meanwhile.  hurry: as
 * fast as it goes, but in turn with others. */
PARKS int extent_look(struct extent *e, bool hurry, struct err_note *note);
/* Bad ones that the controller was not told of lately, into room: how many. */
uint32_t scrub_bad(struct store *st, uint8_t *room, size_t len, uint16_t version,
	struct wire_list *ret_list);

/* ---- copy.c ---- */
void handle_copy(void *store, struct rpc_request *r);
PARKS void copier_end(struct store *st);

/* ---- link.c ---- */
int link_run(void *store);                /* the fiber that keeps the controller */
bool link_serves(const struct store *st); /* the controller was heard recently enough */
bool link_sees(const struct store *st);   /* and what is revoked, too */
uint64_t link_shard_ms(const struct store *st);
#endif
