/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/table.h"
#include "base/check.h"
#include <string.h>

const char *const table_groups[GROUP_COUNT] = {
#define GROUP(id, heading) heading,
#include "cli/commands.def"
};

const struct option table_options[O_COUNT] = {
#define OPTION(id, letter, kind, argument) { #id, argument, OPTION_##kind, letter },
#include "cli/commands.def"
};

const struct command table_commands[C_COUNT] = {
#define CMD(id, group, how, words, arguments, min, max, brief, text) \
	{ words, arguments, brief, text, GROUP_##group, COMMAND_##how, min, max },
#include "cli/commands.def"
};

const struct command_option table_command_options[] = {
#define OPT(cmd, option, help) { C_##cmd, O_##option, help },
#include "cli/commands.def"
};
const size_t table_n_command_options =
	sizeof table_command_options / sizeof table_command_options[0];

const struct command_example table_examples[] = {
#define EXAMPLE(cmd, line, help) { C_##cmd, line, help },
#include "cli/commands.def"
};
const size_t table_n_examples = sizeof table_examples / sizeof table_examples[0];

const char *table_option_name(enum option_id o, char ret_name[OPTION_NAME_MAX])
{
	size_t n;

	check(o < O_COUNT);
	n = strlen(table_options[o].id);
	check(n < OPTION_NAME_MAX);
	for (size_t i = 0; i <= n; i++)
		ret_name[i] = table_options[o].id[i] == '_' ? '-' : table_options[o].id[i];
	return ret_name;
}

const char *table_global_help(enum option_id o)
{
	static const char *const help[O_GLOBAL_COUNT] = {
		[O_help] = "explain the command",
		[O_url] = ("where Wadi is: wadis://HOST:PORT with TLS, wadi://HOST:PORT, "
			"unix:/PATH (default: WADI_URL, or your own wadi serve)"),
		[O_json] = "one JSON object a line on standard output",
		[O_quiet] = "no progress, no remarks; errors only",
		[O_timeout] = "give up after this time (default 30s)",
	};

	check(o < O_GLOBAL_COUNT);
	check(help[o] != NULL);
	return help[o];
}

bool table_takes(enum command_id c, enum option_id o)
{
	if (o < O_GLOBAL_COUNT) /* a program of its own is no client */
		return table_commands[c].how != COMMAND_PASSES || (o != O_json && o != O_timeout);
	for (size_t i = 0; i < table_n_command_options; i++)
		if (table_command_options[i].cmd == c && table_command_options[i].option == o)
			return true;
	return false;
}

size_t table_choice(const char *list, unsigned n, const char **ret_word)
{
	for (; n > 0; n--) {
		list = strchr(list, '|');
		if (list == NULL)
			return 0;
		list++;
	}
	*ret_word = list;
	return strcspn(list, "|");
}
