/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/help.h"
#include "cli/words.h"
#include <string.h>

enum { HELP_WIDTH = 88, HELP_COLUMN = 28 };

void help_wrap(FILE *out, const char *text, unsigned indent, unsigned width)
{
	unsigned column = 0;

	while (*text != '\0') {
		unsigned len = (unsigned)strcspn(text, " ");

		if (column > 0 && column + 1 + len > width) {
			fputc('\n', out);
			column = 0;
		}
		column += column == 0 ? (unsigned)fprintf(out, "%*s", (int)indent, "")
		                      : (unsigned)fprintf(out, " ");
		column += (unsigned)fprintf(out, "%.*s", (int)len, text);
		text += len;
		text += *text == ' ';
	}
	if (column > 0)
		fputc('\n', out);
}

/* "name   text", the text wrapped into its own column. */
static void put_row(FILE *out, const char *name, const char *text)
{
	unsigned used = (unsigned)fprintf(out, "  %-*s", HELP_COLUMN - 2, name);

	used += strlen(name) >= HELP_COLUMN - 2; /* no blank is left: it has a line of its own */
	while (*text != '\0') {
		unsigned room = HELP_WIDTH - HELP_COLUMN, len = 0;

		for (const char *p = text; ; p++) {
			if (*p != ' ' && *p != '\0')
				continue;
			if ((unsigned)(p - text) > room && len > 0)
				break;
			len = (unsigned)(p - text);
			if (*p == '\0')
				break;
		}
		if (used > HELP_COLUMN)
			used = (unsigned)fprintf(out, "\n%*s", HELP_COLUMN, "") - 1;
		fprintf(out, "%.*s", (int)len, text);
		used = HELP_COLUMN + 1;
		text += len;
		text += *text == ' ';
	}
	fputc('\n', out);
}

static void put_option(FILE *out, enum option_id o, const char *help)
{
	const struct option *opt = &table_options[o];
	char name[OPTION_NAME_MAX], text[96];

	table_option_name(o, name);
	snprintf(text, sizeof text, "%c%c%s--%s%s%s", opt->letter != 0 ? '-' : ' ',
		opt->letter != 0 ? opt->letter : ' ', opt->letter != 0 ? ", " : "  ", name,
		opt->argument != NULL ? " " : "", opt->argument != NULL ? opt->argument : "");
	put_row(out, text, help);
}

static void put_commands(FILE *out, enum group_id g)
{
	fprintf(out, "\n%s\n", table_groups[g]);
	for (int c = 0; c < C_COUNT; c++)
		if (table_commands[c].group == g && table_commands[c].how != COMMAND_HIDDEN)
			put_row(out, table_commands[c].words, table_commands[c].brief);
}

void help_overview(FILE *out)
{
	fputs("Wadi is storage that appears when a job needs it and disappears with it.\n\n"
	      "usage: wadi COMMAND [OPTION...] [ARGUMENT...]\n", out);
	for (int g = 0; g < GROUP_COUNT; g++)
		put_commands(out, (enum group_id)g);
	fputs("\nFirst steps\n"
	      "  wadi serve                                   (leave it running)\n"
	      "  wadi bucket create hello\n"
	      "  echo 'Hello, Wadi' | wadi put hello/world\n"
	      "  wadi cat hello/world\n"
	      "  wadi job run -- sh -c 'date | wadi put /now; wadi cat /now'\n\n"
	      "wadi COMMAND --help explains a command.\n", out);
}

void help_command(FILE *out, enum command_id c)
{
	const struct command *cmd = &table_commands[c];
	bool any = false;

	fprintf(out, "wadi %s: %s\n\nusage: wadi %s [OPTION...]%s%s\n\n", cmd->words, cmd->brief,
		cmd->words, cmd->arguments[0] != '\0' ? " " : "", cmd->arguments);
	help_wrap(out, cmd->text, 0, HELP_WIDTH);
	for (size_t i = 0; i < table_n_command_options; i++) {
		if (table_command_options[i].cmd != c)
			continue;
		if (!any)
			fputs("\nOptions\n", out);
		any = true;
		put_option(out, table_command_options[i].option, table_command_options[i].help);
	}
	fputs("\nOptions of every command\n", out);
	for (int o = 0; o < O_GLOBAL_COUNT; o++)
		if (table_takes(c, (enum option_id)o))
			put_option(out, (enum option_id)o, table_global_help((enum option_id)o));
	fputs("\nExamples\n", out);
	for (size_t i = 0; i < table_n_examples; i++)
		if (table_examples[i].cmd == c)
			fprintf(out, "  %s%s%s\n", table_examples[i].line,
				table_examples[i].help[0] != '\0' ? "\n      " : "",
				table_examples[i].help);
}

bool help_words(FILE *out, const char *word)
{
	size_t len = strlen(word);
	bool any = false;

	for (int c = 0; c < C_COUNT; c++) {
		const char *words = table_commands[c].words;

		if (strncmp(words, word, len) != 0 || words[len] != ' ')
			continue;
		if (!any)
			fprintf(out, "usage: wadi %s COMMAND [OPTION...]\n\n", word);
		any = true;
		put_row(out, words, table_commands[c].brief);
	}
	return any;
}
