/* SPDX-License-Identifier: Apache-2.0 */
/* own.h: what the files of this folder share. */
#ifndef CLIENT_OWN_H
#define CLIENT_OWN_H
#include "base/limit.h"
#include "client/client.h"
#include "client/grants.h"
#include "client/peer.h"
#include "client/dialog.h"

enum { BUCKETS_KEPT = 64 };

struct bucket_id {
	uint64_t id;
	uint8_t lifetime;            /* enum wire_lifetime */
	uint8_t protection;          /* enum wire_protection */
	bool fresh;                  /* was asked for just now, not remembered */
};

struct client {
	struct sys *sys;
	struct group group;          /* of connections */
	struct group work;           /* requests behind the caller's back; they end by themselves */
	struct dialog dialog;
	struct peers peers;
	struct grants grants;
	struct rpc_service asked;    /* what servers may ask */
	struct list buckets;         /* names resolved lately, latest use first */
	uint32_t n_buckets;
};

/* ---- bucket.c ---- */
/* Resolves a name: "" is the job's own bucket; make: when that is missing, it is made. */
PARKS int bucket_find(struct client *c, const char *name, bool make, uint64_t until_ns,
	struct bucket_id *ret_id, struct err_note *note);
void bucket_forget(struct client *c, const char *name);
void buckets_fini(struct client *c);
/* E_INVALID, E_TOOBIG; "" and NULL are fine. */
int bucket_name_check(const char *name, struct err_note *note);
const char *bucket_shown(const char *name); /* for messages */

/* Bytes as a C string, cut to the room. */
void text_take(char *to, size_t room, struct bytes b);
#endif
