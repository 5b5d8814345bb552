/* SPDX-License-Identifier: Apache-2.0 */
/* copy.h: bytes between descriptors and objects, with a meter.  All say what went wrong. */
#ifndef CLI_COPY_H
#define CLI_COPY_H
#include "cli/out.h"

/* path "-": standard input or output. */
bool copy_file_in(struct cli *c, const char *path, const struct name *to,
	const struct wadi_put_opts *o, struct wadi_info *ret_info);
/* A file appears whole or not at all; what was there before stays until then. */
bool copy_file_out(struct cli *c, const struct name *from, const char *path,
	const struct wadi_get_opts *o, struct wadi_info *ret_info);
bool copy_object(struct cli *c, const struct name *from, const struct name *to,
	const struct wadi_put_opts *o, struct wadi_info *ret_info);

/* What people see: bucket/key. */
enum { NAME_TEXT_MAX = 1300 };
const char *name_text(const struct name *n, char ret_text[NAME_TEXT_MAX]);
/* The part behind the last slash. */
const char *base_name(const char *path);
#endif
