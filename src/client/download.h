/* SPDX-License-Identifier: Apache-2.0 */
/* download.h: what views share with download.c. */
#ifndef CLIENT_DOWNLOAD_H
#define CLIENT_DOWNLOAD_H
#include "client/extent.h"
#include "client/object.h"

struct download {
	struct client *c;
	struct object_name name;
	struct wadi_get_opts o;
	uint64_t inode;              /* the version that this looks at */
	struct wadi_info info;
	uint8_t *inline_bytes;       /* the whole object when it is small, else NULL */
	struct place *places;        /* sorted by file offset, without gaps, from from on */
	uint32_t n_places, places_cap;
	uint64_t from, next;         /* places of from..next are known; next 0: to the end */
	struct read_cap cap;
	bool consuming;              /* marked as ours: the shard is told when it has been read */
};

/* Finds the object and marks it when it is to be consumed; waits for it when told to. */
PARKS int download_open(struct download *d, struct client *c, const char *bucket, const char *key,
	const struct wadi_get_opts *o, uint64_t until_ns, struct err_note *note);
void download_close(struct download *d);
/* The places that cover a range, asked for when they are not known.  ret_first ..
 * ret_first+ret_n-1 of d->places, until the next call. */
PARKS int download_places(struct download *d, uint64_t offset, uint64_t len, uint64_t until_ns,
	uint32_t *ret_first, uint32_t *ret_n, struct err_note *note);
/* Forgets places and capability: the next call asks again. */
void download_places_forget(struct download *d);
/* The part of the object that the options ask for. */
void download_range(const struct download *d, uint64_t *ret_offset, uint64_t *ret_len);
#endif
