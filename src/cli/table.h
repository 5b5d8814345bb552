/* SPDX-License-Identifier: Apache-2.0 */
/* table.h: the rows of commands.def as tables. */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H
#include <stdbool.h>
#include <stddef.h>

enum group_id {
#define GROUP(id, heading) GROUP_##id,
#include "cli/commands.def"
	GROUP_COUNT,
};
enum option_id {
#define OPTION(id, letter, kind, argument) O_##id,
#include "cli/commands.def"
	O_COUNT,
	O_GLOBAL_COUNT = O_timeout + 1, /* those before are understood by every command */
};
enum option_kind {
	OPTION_FLAG,
	OPTION_TEXT,
	OPTION_PATH,
	OPTION_COUNT,  /* a whole number */
	OPTION_SIZE,   /* bytes: 4096, 64K, 1.5GiB */
	OPTION_RATE,   /* bytes per second: 100M, 1GB/s */
	OPTION_TIME,   /* milliseconds: 500ms, 10s, 5m, 2h, 7d */
	OPTION_TIERS,  /* bits of enum wadi_tier */
	OPTION_CHOICE, /* index of the word in the argument's list */
};
enum command_how { COMMAND_0 = 0, COMMAND_STOPS = 1, COMMAND_PASSES = 2,
	COMMAND_HIDDEN = 3 };
enum command_id {
#define CMD(id, group, how, words, arguments, min, max, brief, text) C_##id,
#include "cli/commands.def"
	C_COUNT,
};

struct option { const char *id, *argument; enum option_kind kind; char letter; };
struct command {
	const char *words, *arguments, *brief, *text;
	enum group_id group;
	enum command_how how;
	int min, max;
};
struct command_option { enum command_id cmd; enum option_id option; const char *help; };
struct command_example { enum command_id cmd; const char *line, *help; };

extern const char *const table_groups[GROUP_COUNT];
extern const struct option table_options[O_COUNT];
extern const struct command table_commands[C_COUNT];
extern const struct command_option table_command_options[];
extern const size_t table_n_command_options;
extern const struct command_example table_examples[];
extern const size_t table_n_examples;

/* The option as it is written, without the two dashes: ids with '-' for '_'. */
enum { OPTION_NAME_MAX = 32 };
const char *table_option_name(enum option_id o, char ret_name[OPTION_NAME_MAX]); /* ret_name */

/* What a global option does; the other helps are per command. */
const char *table_global_help(enum option_id o);
bool table_takes(enum command_id c, enum option_id o);

/* The n-th word of a '|'-separated list: its length, 0 when there are fewer. */
size_t table_choice(const char *list, unsigned n, const char **ret_word);
#endif
