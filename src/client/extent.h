/* SPDX-License-Identifier: Apache-2.0 */
/* extent.h: one extent to or from one storage server: through shared memory when it is near and the
 * bytes are in memory there, else over the connection, with block sums. */
#ifndef CLIENT_EXTENT_H
#define CLIENT_EXTENT_H
#include "client/grants.h"

/* Writes the bytes into a slice (len is at most the slice's), on all servers of its part side by
 * side: done when each has them.  sync: answered when on the medium.  ret_failed: a server that is
 * the reason for the failure, or NULL. */
PARKS int extent_put(struct sys *s, const struct slice *sl, const void *data, size_t len, bool sync,
	uint64_t until_ns, struct sub_extent_ref *ret_ref, struct peer **ret_failed,
	struct err_note *note);

/* Where an extent of a file is, and the right to read it. */
enum { PLACE_OTHERS_MAX = 7 };
struct place {
	uint64_t file_offset, egroup, extent, len;
	uint32_t root;
	struct peer *peer;           /* that is asked */
	struct peer *others[PLACE_OTHERS_MAX]; /* that have it too, next to be asked first */
	uint8_t n_others;
	uint8_t tier;
	uint8_t lost; /* enum wire_place_lost; 0: it is not */
};
struct read_cap { uint64_t job, until_ms; uint8_t code[64]; uint32_t len; };

/* len bytes from offset (in the extent) on.  E_GONE: dropped since it was looked up; E_STALE: the
 * capability is too old; E_LOST; E_CORRUPT: the bytes are not those that were written. */
PARKS int extent_get(struct sys *s, const struct place *at, const struct read_cap *cap,
	uint64_t offset,
	void *buf, size_t len, uint64_t until_ns, struct err_note *note);
/* From one server after the other, until one has them; the code is that of the last.  ret_bad: the
 * server whose bytes were not those that were written, or NULL. */
PARKS int extent_get_any(struct sys *s, const struct place *at, const struct read_cap *cap,
	uint64_t offset, void *buf, size_t len, uint64_t until_ns, struct peer **ret_bad,
	struct err_note *note);

/* An extent held in place.  Until pin_drop() its bytes stay, as long as the connection does. */
struct pin {
	struct arena_map *map;       /* NULL: not pinned */
	struct peer *peer;
	uint64_t generation;         /* of the connection */
	uint64_t egroup, extent;
	const uint8_t *data;
	uint64_t len;
};
/* E_UNSUPPORTED when memory cannot be shared with its server. */
PARKS int extent_pin(const struct place *at, const struct read_cap *cap, uint64_t until_ns,
	struct pin *ret_pin, struct err_note *note);
void pin_drop(struct pin *pin); /* the server is told behind the caller's back */
bool pin_holds(const struct pin *pin);
#endif
