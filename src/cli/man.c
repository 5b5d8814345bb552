/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/help.h"
#include "base/check.h"
#include "base/err.h"
#include <string.h>

static const struct { int code; const char *text; } exits[] = {
	{ 0, "It worked." },
	{ 1, "Another error." },
	{ 2, "The command line is wrong, or a fixed limit is exceeded." },
	{ 3, "The server cannot be reached." },
	{ 4, "Access was denied." },
	{ 5, "The object, bucket or job is not there." },
	{ 6, "A condition does not hold, or the name is taken." },
	{ 7, "No room, busy, or the deadline passed: a later try may work." },
};

static const struct { const char *name, *text; } variables[] = {
	{ "WADI_URL", "Where Wadi is, unless --url tells." },
	{ "WADI_JOB_TOKEN", "The job to act for; wadi job run sets it." },
	{ "WADI_JOB_ID", "The number of that job." },
	{ "WADI_KEY", "The file with the cluster's key, for TCP." },
	{ "NO_COLOR", "When set, no colours." },
};

/* Text of a page: a backslash, and a dot or quote that begins a line, mean something to roff; a
 * dash would become a hyphen. */
static void put(FILE *out, const char *text)
{
	if (*text == '.' || *text == '\'')
		fputs("\\&", out);
	for (; *text != '\0'; text++) {
		if (*text == '\\')
			fputs("\\e", out);
		else if (*text == '-')
			fputs("\\-", out);
		else
			fputc(*text, out);
	}
}

static void put_line(FILE *out, const char *before, const char *text)
{
	fputs(before, out);
	put(out, text);
	fputc('\n', out);
}

const char *man_name(enum command_id c, char ret_name[MAN_NAME_MAX])
{
	char *p;

	if (c == C_COUNT)
		snprintf(ret_name, MAN_NAME_MAX, "wadi.1");
	else
		snprintf(ret_name, MAN_NAME_MAX, "wadi-%.50s.1", table_commands[c].words);
	for (p = ret_name; *p != '\0'; p++)
		if (*p == ' ')
			*p = '-';
	return ret_name;
}

static void put_head(FILE *out, enum command_id c, const char *brief)
{
	char name[MAN_NAME_MAX];

	man_name(c, name);
	*strrchr(name, '.') = '\0';
	fputs(".TH ", out);
	put(out, name);
	fputs(" 1\n.SH NAME\n", out);
	put(out, name);
	fputs(" \\- ", out);
	put_line(out, "", brief);
}

static void put_option(FILE *out, enum option_id o, const char *help)
{
	const struct option *opt = &table_options[o];
	char name[OPTION_NAME_MAX];

	fputs(".TP\n", out);
	if (opt->letter != 0)
		fprintf(out, "\\fB\\-%c\\fR, ", opt->letter);
	fputs("\\fB\\-\\-", out);
	put(out, table_option_name(o, name));
	fputs("\\fR", out);
	if (opt->argument != NULL) {
		fputs(" \\fI", out);
		put(out, opt->argument);
		fputs("\\fR", out);
	}
	fputc('\n', out);
	put_line(out, "", help);
}

static void put_globals(FILE *out)
{
	fputs(".SH OPTIONS OF EVERY COMMAND\n", out);
	for (int o = 0; o < O_GLOBAL_COUNT; o++)
		put_option(out, (enum option_id)o, table_global_help((enum option_id)o));
}

static void put_tail(FILE *out)
{
	fputs(".SH EXIT STATUS\n", out);
	for (size_t i = 0; i < sizeof exits / sizeof exits[0]; i++) {
		fprintf(out, ".TP\n%d\n", exits[i].code);
		put_line(out, "", exits[i].text);
	}
	fputs(".SH ENVIRONMENT\n", out);
	for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
		put_line(out, ".TP\n.B ", variables[i].name);
		put_line(out, "", variables[i].text);
	}
}

static void overview_page(FILE *out)
{
	put_head(out, C_COUNT, "storage that appears when a job needs it");
	fputs(".SH SYNOPSIS\n"
	      "\\fBwadi\\fR \\fICOMMAND\\fR [\\fIOPTION\\fR...] [\\fIARGUMENT\\fR...]\n"
	      ".SH DESCRIPTION\n", out);
	put_line(out, "",
		"Objects are named BUCKET/KEY. In a job, BUCKET is one of the job's and /KEY is "
		"in the job's own bucket; 17:BUCKET/KEY and 17:/KEY are those of job 17. "
		"- is standard input or output.");
	put_line(out, ".PP\n",
		"Sizes are bytes, or have a suffix: K, M, G, T are powers of 1024, KB, MB, "
		"GB, TB powers of 1000. Times have one of ms, s, m, h, d; bare they are seconds.");
	for (int g = 0; g < GROUP_COUNT; g++) {
		put_line(out, ".SS ", table_groups[g]);
		for (int c = 0; c < C_COUNT; c++) {
			if (table_commands[c].group != (enum group_id)g
			    || table_commands[c].how == COMMAND_HIDDEN)
				continue;
			put_line(out, ".TP\n.B wadi ", table_commands[c].words);
			put_line(out, "", table_commands[c].brief);
		}
	}
	put_globals(out);
	put_tail(out);
}

void man_page(FILE *out, enum command_id c)
{
	const struct command *cmd;

	if (c == C_COUNT) {
		overview_page(out);
		return;
	}
	check(c < C_COUNT);
	cmd = &table_commands[c];
	put_head(out, c, cmd->brief);
	put_line(out, ".SH SYNOPSIS\n.B wadi ", cmd->words);
	fputs("[\\fIOPTION\\fR...] ", out);
	put_line(out, "", cmd->arguments);
	put_line(out, ".SH DESCRIPTION\n", cmd->text);
	fputs(".SH OPTIONS\n", out);
	for (size_t i = 0; i < table_n_command_options; i++)
		if (table_command_options[i].cmd == c)
			put_option(out, table_command_options[i].option,
				table_command_options[i].help);
	put_globals(out);
	fputs(".SH EXAMPLES\n", out);
	for (size_t i = 0; i < table_n_examples; i++) {
		if (table_examples[i].cmd != c)
			continue;
		put_line(out, ".TP\n.B ", table_examples[i].line);
		put_line(out, "", table_examples[i].help[0] != '\0' ? table_examples[i].help
			: "\\&");
	}
	put_tail(out);
	fputs(".SH SEE ALSO\n.BR wadi (1)\n", out);
}
