/* SPDX-License-Identifier: Apache-2.0 */
/* look.h: reads the files of a device that nobody serves, header by header and byte by byte, and
 * changes nothing: for tools. */
#ifndef STORE_LOOK_H
#define STORE_LOOK_H
#include "sys/sys.h"

enum { LOOK_FILE_MAX = 512 };
/* An extent whose header is whole. */
struct look_extent {
	uint64_t egroup, extent, job, len;
	uint32_t root;
	bool good;         /* every byte is what was written */
	uint64_t bad_byte; /* else: where in the file the first block is that is not */
};
/* Bytes in a file that are neither records nor zeros. */
struct look_hole {
	const char *path;
	uint64_t at, bytes;
};
struct look_opts {
	const char *dir; /* of the device */
	void (*extent)(void *arg, const char *path, const struct look_extent *x);
	void (*hole)(void *arg, const struct look_hole *h);
	void (*progress)(void *arg, uint64_t bytes); /* so many more were read */
	void *arg;
};
/* E_INUSE: a server has it.  E_NOTFOUND: there is none.  E_IO: the device failed. */
PARKS int store_look(struct sys *s, const struct look_opts *o, struct err_note *note);
/* Bytes of all files of a device; and who the server is.  E_NOTFOUND. */
PARKS int store_look_bytes(
	struct sys *s, const char *dir, uint64_t *ret_bytes, struct err_note *note);
PARKS int store_look_uuid(
	struct sys *s, const char *dir, uint64_t ret_uuid[2], struct err_note *note);
#endif
