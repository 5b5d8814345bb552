/* SPDX-License-Identifier: Apache-2.0 */
/* object.h: the name of an object, resolved. */
#ifndef CLIENT_OBJECT_H
#define CLIENT_OBJECT_H
#include "client/own.h"

/* Copies of what the caller gave, and the bucket as it was last resolved. */
struct object_name {
	char bucket[LIMIT_COMPONENT_BYTES_MAX + 1]; /* "": the job's own */
	char key[LIMIT_NAME_BYTES_MAX + 1];
	size_t key_len;
	struct bucket_id id;
};
/* E_INVALID, E_TOOBIG: not a name. */
int object_name_set(struct object_name *n, const char *bucket, const char *key,
	struct err_note *note);
/* Sets n->id; make: the job's own bucket is made when it is missing. */
PARKS int object_resolve(struct client *c, struct object_name *n, bool make, uint64_t until_ns,
	struct err_note *note);
/* After a request gave rc: true when n->id was old and has been resolved anew, so that the request
 * is worth repeating; once for each name.  Else *rc is what to tell the caller. */
PARKS bool object_again(struct client *c, struct object_name *n, int *rc, uint64_t until_ns,
	struct err_note *note);

static inline struct bytes object_key(const struct object_name *n)
{
	return bytes_of(n->key, n->key_len);
}

/* The flags of wadi.h that travel, and those that an object keeps. */
enum {
	PUT_FLAGS_TRAVEL = PUT_IF_ABSENT | PUT_IF_VERSION | PUT_PERSIST | PUT_DELETE_ON_READ
		| PUT_DURABLE,
	PUT_FLAGS_KEPT = PUT_PERSIST | PUT_DELETE_ON_READ,
};
#endif
