/* SPDX-License-Identifier: Apache-2.0 */
/* inside.h: what the files of a shard share.  Only src/meta includes it.
 *
 * (S1) every name has an inode, and every inode one name;
 * (S2) a bucket's files and used_bytes are the sums over its inodes; dirty buckets are written when
 * a record is closed (shard_sealing), so every record leaves sums that fit; (S3) the slab holds the
 * bytes of exactly the inodes with PLACE_SLAB and this shard's life; (S4) an inode with expires_ms
 * has the expiry row for it, and there are no others; (S5) a mark's inode exists under the mark's
 * name; sh->marks and the mark rows are the same set; (S6) an operation refuses before its first
 * write. */
#ifndef META_INSIDE_H
#define META_INSIDE_H
#include "base/check.h"
#include "base/limit.h"
#include "meta/map.h"
#include "meta/rows.h"
#include "meta/shard.h"

/* KEEPING: its job ends, files in it persist, the others are on their way out. */
enum bucket_state { BUCKET_LIVE = 1, BUCKET_DROPPING = 2, BUCKET_KEEPING = 3 };

/* Of a job that the controller told of, or that has buckets. */
struct job_use {
	struct shard_use pub;
	uint64_t quota_bytes; /* 0: none */
	bool active;          /* buckets may be made for it */
	bool begun;           /* stays, buckets or not, until it is forgotten */
};

struct bucket {
	uint64_t id, job, ttl_ms, quota_bytes, files, used_bytes;
	uint8_t kind, lifetime, protection, tiers, state, name_len;
	uint8_t copies; /* as asked for: 0 is two, from two servers on */
	bool dirty; /* in sh->dirty */
	struct list dirty_link, drop_link;
	uint64_t reclaimed; /* dropping: inodes up to this one are gone */
	uint64_t kept_files, kept_bytes; /* those with PUT_PERSIST, of files and used_bytes */
	struct job_use *use;             /* NULL: no job's */
	char name[LIMIT_COMPONENT_BYTES_MAX];
};

struct answer {
	uint64_t number, first, second;
	uint16_t op;
	bool durable;
	bool drops; /* took bytes away that storage servers had yet to drop */
};
struct session {
	uint64_t client_hi, client_lo;
	uint64_t id;            /* short number in the rows; 0: nothing is written about it yet */
	uint64_t job;           /* of its principal; 0: an administrator */
	uint64_t last;          /* highest remembered number */
	uint64_t idle_since_ns; /* when the last connection went */
	struct answer *answers; /* INFLIGHT_MAX, by number; NULL until the first */
	struct session *next_same; /* another client with the same key in sh->clients */
	struct list link;          /* sh->idle or sh->busy */
	struct list marks;
	uint32_t n_conns, n_marks;
	bool has_room;             /* may hold grants or stages */
	uint64_t extent_bytes;     /* of the extents it committed, about; 0: none yet */
};

struct mark {
	uint64_t inode;
	struct session *session;
	struct list link;
};

enum { WAIT_HEADS = 1024, RECLAIM_STEP = 1024, EXPIRY_STEP = 64, EXPIRY_LOOK = 1024 };
struct reclaim {
	uint64_t inode, size, slot, life, expires_ms;
	uint8_t kind, place;
	uint64_t bucket;
};

enum { LIST_KEY_MAX = ROW_name_KEY_MAX + 8 }; /* a cursor is one longer than a name */
/* The walk that moves small files out of the slab; len 0: there is none. */
struct spread {
	uint16_t len;
	uint8_t key[LIST_KEY_MAX];
	bool again; /* a name of one has moved meanwhile */
};
/* clock.c */
struct clock {
	uint64_t base_ms, at_ns;      /* the time was base_ms at at_ns */
	uint64_t mark_ms, mark_index; /* of the row, and the record that holds it */
	uint64_t held_ms;             /* a mark that is committed */
};

struct shard {
	struct sys *sys;
	struct db *db;
	struct slab *slab;
	struct large *large;       /* storage servers and what is on them: large_own.h */
	struct group fibers;
	struct shard_opts opts;
	struct spread spread;
	bool in_rows;        /* bytes of small files belong in rows, whatever their protection */
	int failed;          /* the code of shard_stop() */
	struct clock clock;
	uint64_t life;       /* number of this start: slab slots of others are lost */
	uint64_t seed;       /* of hashes that clients could otherwise make collide */
	struct map buckets;  /* id -> struct bucket */
	struct map clients;  /* mixed client id -> struct session */
	struct map sessions; /* id -> struct session, those with one */
	struct map marks;    /* inode -> struct mark */
	struct map jobs;     /* id -> struct job_use */
	bool jobs_known;     /* a controller tells of them */
	struct list dirty, dropping, keeping, idle, busy;
	struct keep { /* the walk over the first bucket of keeping; dir 0: not begun */
		uint64_t dir, dirs_to;
		uint16_t len;
		uint8_t name[LIMIT_NAME_BYTES_MAX + 1];
	} keep;
	struct list waiters[WAIT_HEADS];
	struct waitq moved, tidy;
	uint64_t files, used_bytes; /* sums over the buckets */
	uint32_t n_waiting, n_dropping, n_sessions;
	uint64_t expired_to_ms; /* no expiry row is older */
	uint8_t key_room[ROW_name_KEY_MAX], value_room[ROW_packed_VALUE_MAX];
	struct reclaim reclaim[RECLAIM_STEP];
	struct { /* of the first bucket of dropping: names before this one are gone */
		uint16_t len;
		uint8_t name[LIMIT_NAME_BYTES_MAX + 1];
	} reclaimed;
	uint8_t name_room[LIMIT_NAME_BYTES_MAX]; /* of a name found in a row */
	uint8_t *page;                           /* room for the lists of one answer, PAGE_BYTES */
	/* Of a shard that is only looked at: told what contradicts what.  NULL: it serves. */
	void (*broken)(void *arg, const char *text);
	void *broken_arg;
	uint8_t list_from[LIST_KEY_MAX], list_to[LIST_KEY_MAX], list_last[LIMIT_NAME_BYTES_MAX + 1];
};
enum { PAGE_BYTES = LIMIT_FRAME_BODY_BYTES_MAX - 4096 };
_Static_assert((int)ROW_packed_VALUE_MAX >= (int)ROW_inode_VALUE_MAX, "one room for all values");
_Static_assert((int)ROW_packed_VALUE_MAX >= (int)ROW_name_VALUE_MAX, "one room for all values");
_Static_assert((int)ROW_FILE_BYTES_MAX >= (int)ROW_inode_VALUE_MAX, "it holds an inode's value");

/* ---- clock.c ---- */
int clock_load(struct shard *sh, struct err_note *note);
void clock_keep(struct shard *sh); /* from time to time: the mark stays ahead */

/* ---- shard.c ---- */
/* A row of single values.  E_NOTFOUND. */
int meta_read(struct shard *sh, struct bytes what, uint64_t *ret_value);
void meta_write(struct shard *sh, struct bytes what, uint64_t value);
/* A shard over rows that nobody serves (db_look.h): for its audit, which tells what is broken.
 * What it would write is written nowhere. */
int shard_look(struct sys *s, struct db *db, void (*broken)(void *arg, const char *text), void *arg,
	struct shard **ret_sh, struct err_note *note);
void shard_look_end(struct shard *sh); /* the rows stay the caller's; NULL is fine */
static inline int shard_ready(const struct shard *sh, struct shard_call *c)
{
	c->sync = false;
	if (sh->failed == 0)
		return 0;
	return err_set(&c->note, sh->failed, sh->failed == E_NOTPRIMARY
		? "another replica leads" : "the shard's log has failed");
}
static inline uint64_t time_after(uint64_t ms, uint64_t more_ms) /* the end of time at the most */
{
	return more_ms > UINT64_MAX - ms ? UINT64_MAX : ms + more_ms;
}

/* ---- bucket.c ---- */
/* 0 and the live bucket that this caller may use. */
int bucket_use(const struct shard *sh, struct shard_call *c, uint64_t id, struct bucket **ret_b);
int bucket_load(struct shard *sh, struct err_note *note); /* all of them, at the start */
void bucket_fini(struct shard *sh);
void bucket_count(struct shard *sh, struct bucket *b, int64_t files, int64_t bytes);
void bucket_write_usage(struct shard *sh); /* dirty ones */
bool bucket_reclaim(struct shard *sh);     /* one step; false when no dropped bucket is left */
void bucket_drop(struct shard *sh, struct bucket *b);
void bucket_state(struct shard *sh, struct bucket *b, enum bucket_state state); /* and its row */
/* A file that came, or that goes: what persists, and what is in the slab. */
void bucket_count_inode(
	struct shard *sh, struct bucket *b, const struct row_inode *row, int64_t sign);
static inline struct shard_io *bucket_io(const struct bucket *b, uint8_t place)
{
	uint8_t tier = place == PLACE_SLAB ? TIER_DRAM : TIER_FLASH;

	return b->use == NULL ? NULL : &b->use->pub.io[tier];
}
static inline bool bucket_durable(const struct bucket *b)
{
	return b->protection == PROTECT_COPIES;
}

/* ---- owner.c ---- */
struct job_use *job_use(struct shard *sh, uint64_t job); /* made when it is new; NULL: no memory */
void job_use_look(struct shard *sh, uint64_t job); /* lets it go when nobody needs it */
/* The job holds so many bytes more, or less. */
void job_hold(struct shard *sh, struct job_use *u, uint8_t tier, int64_t change);
void job_watch_room(struct shard *sh); /* once the room was read from the rows */
int job_active(const struct shard *sh, uint64_t job, struct err_note *note);
void job_use_fini(struct shard *sh);
/* May the bucket's job have len bytes instead of freed?  E_FULL. */
int job_fits(const struct bucket *b, uint64_t freed, uint64_t len, struct err_note *note);
bool bucket_keep(struct shard *sh); /* one step; false when no bucket is being kept */

/* ---- name.c ---- */
struct bytes name_keep(struct shard *sh, struct bytes name); /* in sh->name_room */
int name_check(const struct bucket *b, struct bytes name, struct err_note *note);
bool name_is_text(struct bytes name); /* UTF-8 without NUL */
/* A place in a bucket, and what is there. */
struct spot {
	struct bucket *b;
	uint64_t parent; /* as in the key: the bucket's id at the top */
	struct bytes name;
	bool found;   /* something is there and has not expired */
	bool expired; /* something is there that the sweep has not come to yet */
	struct row_name row;    /* its file is borrowed */
	struct row_inode inode; /* of what is there, expired or not; its bytes are borrowed */
};
/* Looks; being absent is no error.  E_GONE: no such bucket; E_NOTFOUND: no such directory. */
int spot_find(struct shard *sh, struct shard_call *c, uint64_t bucket, uint64_t parent,
	struct bytes name, struct spot *ret_at);
struct bytes spot_key(struct shard *sh, const struct spot *at); /* in sh->key_room */
int spot_look(struct shard *sh, struct spot *at, struct err_note *note); /* by b, parent, name */
/* The name's row says where its inode is: in itself, for small files of flat buckets, which are
 * then found with one look; or in a row of its own, for what is asked for by its number as well. */
static inline bool spot_inside(const struct spot *at)
{
	return at->row.file.len > 0;
}
/* A new file or directory stands there now.  What stood there has been freed. */
void spot_add(struct shard *sh, const struct spot *at, const struct row_inode *row);
/* What stands there has changed; its kind and number have not. */
void spot_change(struct shard *sh, const struct spot *at, const struct row_inode *row);
/* What stands at from stands at `to`, too: the caller clears from, and has freed what stood there.
 */
void spot_move(struct shard *sh, const struct spot *from, const struct spot *to,
	const struct row_inode *row);
void spot_clear(struct shard *sh, const struct spot *at); /* the name, with what is in its row */
/* A key to walk from: name may be a cursor. */
struct bytes name_key(uint64_t parent, struct bytes name, uint8_t to[LIST_KEY_MAX]);
/* What every way to replace or delete a name checks; flags are PUT_IF_*. */
int spot_condition(
	const struct spot *at, uint16_t flags, uint64_t if_version, struct err_note *note);
int dir_check(struct shard *sh, const struct bucket *b, uint64_t parent, struct err_note *note);
/* 0; E_NOTEMPTY; E_BUSY: so much was deleted from it that looking takes too long before a merge. */
int dir_empty(struct shard *sh, uint64_t inode, struct err_note *note);
static inline bool spot_same(const struct spot *a, const struct spot *b)
{
	return a->parent == b->parent && bytes_equal(a->name, b->name);
}

/* ---- inode.c ---- */
int inode_find(struct shard *sh, uint64_t bucket, uint64_t inode, struct row_inode *ret_row);
void inode_add(struct shard *sh, const struct row_inode *row);   /* a new one */
void inode_write(struct shard *sh, const struct row_inode *row); /* maybe over its old row */
/* That of a name that was found. */
int inode_of_name(struct shard *sh, const struct bucket *b, const struct row_name *name,
	struct row_inode *ret_row);
/* Everything that the inode at a spot has, and it: bytes, expiry, mark, count.  Its name is the
 * caller's. */
void inode_free(struct shard *sh, const struct spot *at);
/* The part of it that another row or memory holds; the inode's own row is the caller's. */
void inode_free_rest(struct shard *sh, const struct reclaim *r);
bool inode_expired(const struct shard *sh, const struct row_inode *row);
static inline uint64_t inode_version(const struct row_inode *row)
{
	return row->version != 0 ? row->version : row->inode;
}
static inline bool inode_durable(const struct row_inode *row)
{
	return (row->flags & (PUT_DURABLE | PUT_PERSIST)) != 0;
}
/* Makes the bytes of a small file findable through row (place, slot, bytes, crc, life, size).  A
 * packed row is written by small_write(), after everything was allowed.  E_FULL. */
int small_place(struct shard *sh, struct row_inode *row, struct bytes data, bool durable);
void small_write(struct shard *sh, const struct row_inode *row, struct bytes data);
int small_read(struct shard *sh, const struct row_inode *row, struct bytes *ret_data,
	struct err_note *note);

/* ---- session.c ---- */
int session_load(struct shard *sh, struct err_note *note);
void session_fini(struct shard *sh);
void session_tidy(struct shard *sh); /* marks lapse, idle sessions are forgotten */
/* At the start of a change: 0 when it is new, 1 with the answer of its first time, or an error.
 * After 0 answer_keep() cannot fail. */
int answer_recall(struct shard *sh, struct shard_call *c, uint16_t op, const struct answer **ret_a);
bool answer_known(const struct shard_call *c); /* it is not new: nothing may refuse it any more */
void answer_keep(
	struct shard *sh, const struct shard_call *c, uint16_t op, uint64_t first, uint64_t second);
int session_number(
	struct shard *sh, struct session *s); /* gives it its id, once; E_BUSY, E_NOMEM */

/* ---- consume.c ---- */
int mark_load(struct shard *sh, struct err_note *note);
struct mark *mark_of(const struct shard *sh, uint64_t inode); /* NULL when nobody is consuming it */
int mark_take(
	struct shard *sh, struct shard_call *c, const struct spot *at); /* E_CONFLICT, E_BUSY */
void mark_drop(struct shard *sh, struct mark *m);
void mark_lapse(struct shard *sh, struct mark *m); /* whoever waits for the file may have it */
int mark_read(struct shard *sh, uint64_t inode, struct row_mark *ret_row); /* E_CORRUPT */

/* ---- expiry.c ---- */
void expiry_write(struct shard *sh, const struct spot *at, uint64_t inode, uint64_t time_ms);
void expiry_clear(struct shard *sh, uint64_t inode, uint64_t time_ms);
bool expiry_sweep(struct shard *sh); /* one step; false when nothing is due */

/* ---- spread.c ---- */
void spread_look(struct shard *sh); /* now and then: are there other replicas? */
bool spread_step(struct shard *sh); /* false when nothing is left to move out of the slab */
void spread_moved(struct shard *sh, const struct row_inode *row); /* its name is another one now */

/* ---- wait.c ---- */
void wait_init(struct shard *sh);
void wait_wake(struct shard *sh, const struct spot *at); /* a file is there */
void wait_wake_all(struct shard *sh);                    /* something larger than a name happened */
#endif
