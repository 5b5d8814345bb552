/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "base/check.h"
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct err_row { const char *name, *text; int exit; };

static const struct err_row rows[] = {
	[0] = { "OK", "ok", 0 },
#define ERR(name, value, exit, text) [value] = { #name, text, exit },
#include "base/err.def"
#undef ERR
};

static const struct err_row *row(int rc)
{
	static const struct err_row unknown = { "?", "unknown error", 1 };

	return err_known(rc) ? &rows[-rc] : &unknown;
}

int err_known(int rc)
{
	if (rc > 0 || rc <= -(int)(sizeof rows / sizeof rows[0]))
		return 0;
	return rows[-rc].name != NULL;
}

const char *err_name(int rc) { return row(rc)->name; }
const char *err_text(int rc) { return row(rc)->text; }
int err_exit(int rc) { return row(rc)->exit; }

int err_set(struct err_note *note, int rc, const char *fmt, ...)
{
	va_list ap;

	check(rc < 0);
	if (note == NULL)
		return rc;
	va_start(ap, fmt);
	vsnprintf(note->text, sizeof note->text, fmt, ap);
	va_end(ap);
	return rc;
}

int err_wrap(struct err_note *note, int rc, const char *fmt, ...)
{
	char front[sizeof note->text];
	size_t n, keep;
	va_list ap;

	check(rc < 0);
	if (note == NULL)
		return rc;
	va_start(ap, fmt);
	vsnprintf(front, sizeof front - 2, fmt, ap);
	va_end(ap);
	n = strlen(front);
	memcpy(front + n, ": ", 2);
	n += 2;
	keep = strlen(note->text);
	if (keep > sizeof note->text - 1 - n)
		keep = sizeof note->text - 1 - n; /* the outer words name the object: whole */
	memmove(note->text + n, note->text, keep);
	memcpy(note->text, front, n);
	note->text[n + keep] = '\0';
	return rc;
}
