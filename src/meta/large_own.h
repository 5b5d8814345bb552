/* SPDX-License-Identifier: Apache-2.0 */
/* large_own.h: what the files about storage servers share with one another and with inode.c. */
#ifndef META_LARGE_OWN_H
#define META_LARGE_OWN_H
#include "meta/inside.h"
#include "meta/large.h"

enum { LARGE_SERVERS_MAX = LIMIT_SERVERS_MAX };

/* A drop in memory, oldest first in its server's list. */
struct drop {
	struct list link;
	uint64_t ticket;
	struct large_drop what;
	bool taken; /* under way to the server */
};

struct server_slot {
	struct large_server pub;
	struct list drops;
};

struct large {
	struct room *room;
	struct large_policy policy;
	struct server_slot *servers[LARGE_SERVERS_MAX + 1]; /* by number; 0 is none */
	uint32_t last_server;
	uint64_t last_ticket;
	uint64_t n_lost;      /* extents of which no server has what was written */
	uint8_t code[CAP_BYTES]; /* the capability in the answer being made */
	struct waitq work;    /* drops to take */
	struct waitq settled; /* drops were acknowledged, or a server fenced */
};

/* ---- large.c ---- */
int large_open(struct shard *sh, struct err_note *note); /* from the rows */
void large_fini(struct shard *sh);

/* ---- audit.c ---- */
typedef void audit_visit_fn(void *arg, struct bytes key, struct bytes value);
/* Every row of a table, in order; visit does not write. */
void audit_each(struct shard *sh, uint8_t table, audit_visit_fn *visit, void *arg);
/* Whether e holds.  When it does not, a shard that serves ends the process; one that is only looked
 * at tells who looks, and the audit goes on with the next row. */
#define holds(sh, e) ((e) || audit_broken(sh, #e, __FILE__, __LINE__, __func__))
bool audit_broken(struct shard *sh, const char *e, const char *file, int line, const char *func);
/* Sums in a map: the sum + 1, as a pointer. */
void sum_add(struct map *m, uint64_t key, uint64_t more);
uint64_t sum_of(const struct map *m, uint64_t key);

/* ---- audit_large.c ---- */
void large_audit(struct shard *sh);

/* ---- grant.c ---- */
/* On how many servers what is put with these flags is to be; soft: on fewer while there are not so
 * many. */
uint8_t copies_of(const struct bucket *b, uint16_t flags, bool *ret_soft);
void egroup_write(struct shard *sh, uint64_t egroup); /* its row, as room knows it */
int grant_load(struct shard *sh, struct err_note *note);
void grant_write(struct shard *sh, uint64_t extent_first);
void grant_end(struct shard *sh, uint64_t extent_first); /* what no commit named is dropped */
void grant_end_doomed(struct shard *sh, uint64_t extent_first); /* its egroup is dropped whole */
void grant_lost(void *arg, uint64_t extent_first); /* a shard: its egroup died with its server */
void grant_end_session(struct shard *sh, uint64_t session);
uint64_t domain_of(const struct bucket *b, uint16_t flags);

/* Time, the job's epoch, and the code. */
void cap_fill(const struct shard *sh, struct cap *cap, uint8_t code[CAP_BYTES]);
bool server_add(const struct shard *sh, struct wire_list_builder *l, uint32_t server);

/* ---- extent.c ---- */
int extent_load(struct shard *sh, struct err_note *note);
/* Frees the bytes of an inode with PLACE_EXTENTS; ticket: what a settled answer waits for. */
void extents_free(struct shard *sh, uint64_t bucket, uint64_t inode);
/* The places of a file from an offset on, into get_ok. */
int extents_answer(struct shard *sh, struct shard_call *c, const struct row_inode *row,
	uint64_t from, struct msg_get_ok *ret);
uint8_t extents_tiers(struct shard *sh, const struct row_inode *row);   /* bits */
uint64_t extents_domain(struct shard *sh, const struct row_inode *row); /* 0: cannot tell */
void stage_end_session(struct shard *sh, uint64_t session);

/* ---- drop.c ---- */
int drop_load(struct shard *sh, struct err_note *note);
void drop_add(struct shard *sh, uint32_t server, const struct large_drop *d);
/* On every server of the egroup. */
void drop_everywhere(
	struct shard *sh, const struct room_egroup_info *info, const struct large_drop *d);
void drop_forget_server(struct shard *sh, uint32_t server); /* it has nothing any more */
void drop_forget_egroup(struct shard *sh, uint32_t server, uint64_t egroup); /* those inside it */
void egroup_drop_empty(struct shard *sh); /* egroups that became empty */
void egroup_delete_row(struct shard *sh, uint64_t egroup);
#endif
