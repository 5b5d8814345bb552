/* SPDX-License-Identifier: Apache-2.0 */
/* parse.h: a command line against the table.  Pure: it prints nothing and exits nothing. */
#ifndef CLI_PARSE_H
#define CLI_PARSE_H
#include "base/err.h"
#include "cli/table.h"
#include <stdint.h>

struct args {
	enum command_id cmd;         /* C_COUNT: none was named */
	const char *text[O_COUNT];   /* of an option that was given and takes an argument */
	uint64_t number[O_COUNT];    /* its value, by its kind */
	bool given[O_COUNT];
	const char **pos;            /* n_pos arguments, in args_parse()'s room; NULL behind */
	int n_pos;
	const char *group_words;     /* "job" alone: the words that begin several commands */
	char hint[128];              /* after a failure: what to try; may be empty */
};

/* Reads argv[1..argc-1].  room holds at least argc pointers and, like argv, outlives ret_a.  0, or
 * E_INVALID with a sentence in the note and perhaps a hint.  --help alone always parses:
 * given[O_help] then says so and the other checks are left out. */
int args_parse(int argc, char *const argv[], const char **room, struct args *ret_a,
	struct err_note *note);

/* The command that text means most probably, or NULL. */
const char *args_nearest_command(const char *text);
#endif
