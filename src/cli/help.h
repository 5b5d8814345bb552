/* SPDX-License-Identifier: Apache-2.0 */
/* help.h: what is made from the table: help pages, manual pages, completion. */
#ifndef CLI_HELP_H
#define CLI_HELP_H
#include "base/err.h"
#include "cli/table.h"
#include <stdio.h>

void help_overview(FILE *out);
void help_command(FILE *out, enum command_id c);
/* The commands that begin with this word; false when there are none. */
bool help_words(FILE *out, const char *word);
/* Text broken between words into lines of at most width, each behind indent spaces. */
void help_wrap(FILE *out, const char *text, unsigned indent, unsigned width);

/* One roff page: wadi(1) for C_COUNT, else wadi-COMMAND(1). */
void man_page(FILE *out, enum command_id c);
/* "wadi-job-run.1" */
enum { MAN_NAME_MAX = 64 };
const char *man_name(enum command_id c, char ret_name[MAN_NAME_MAX]);

int complete_script(FILE *out, const char *shell); /* E_INVALID: not a shell we know */
#endif
