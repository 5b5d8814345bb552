/* SPDX-License-Identifier: Apache-2.0 */
/* err.h: error codes (negative ints, one table) and the sentence that travels with them. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

enum {
#define ERR(name, value, exit, text) E_##name = -(value),
#include "base/err.def"
#undef ERR
};

const char *err_name(int rc); /* "NOTFOUND"; "OK" for 0; static storage */
const char *err_text(int rc); /* "not found" */
int err_exit(int rc);         /* exit code of the wadi command */
int err_known(int rc);        /* 1 when rc is a row of the table; for codes from outside */

/* Room for one human sentence about a failure; owned by the caller, filled by the function that
 * failed, prefixed by the functions above it.  Never empty after a failure. */
struct err_note { char text[256]; };

/* Both return rc, so that a failure is one line: return err_set(note, E_IO, "pread %s", path);
 * note may be NULL. */
int err_set(struct err_note *note, int rc, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int err_wrap(struct err_note *note, int rc, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
#endif
