/* SPDX-License-Identifier: Apache-2.0 */
/* file.h: what file.c and dir.c share. */
#ifndef SYS_UV_FILE_H
#define SYS_UV_FILE_H
#include "sys/uv/own.h"

/* The code for a failed call: rc when it is negative, else the row for os.  The note says what was
 * done and the system's words. */
int file_fails(struct err_note *note, int rc, int os, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
#endif
