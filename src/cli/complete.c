/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/help.h"
#include <string.h>

static void put_first_words(FILE *out)
{
	for (int c = 0; c < C_COUNT; c++) {
		const char *words = table_commands[c].words;
		size_t len = strcspn(words, " ");
		bool again = false;

		for (int b = 0; b < c; b++)
			again = again || (strncmp(table_commands[b].words, words, len) == 0
				&& strcspn(table_commands[b].words, " ") == len);
		if (!again && table_commands[c].how != COMMAND_HIDDEN)
			fprintf(out, " %.*s", (int)len, words);
	}
}

static void put_options(FILE *out, int c)
{
	char name[OPTION_NAME_MAX];

	for (int o = 0; o < O_COUNT; o++)
		if (table_takes((enum command_id)c, (enum option_id)o))
			fprintf(out, " --%s", table_option_name((enum option_id)o, name));
}

/* The second words of "bucket", "job"; for a command of one word, what its argument may be. */
static void put_second_words(FILE *out, const char *first, size_t len)
{
	for (int c = 0; c < C_COUNT; c++)
		if (strncmp(table_commands[c].words, first, len) == 0
		    && table_commands[c].words[len] == ' ')
			fprintf(out, " %s", table_commands[c].words + len + 1);
}

static void put_choice_cases(FILE *out, const char *indent)
{
	char name[OPTION_NAME_MAX];

	for (int o = 0; o < O_COUNT; o++) {
		const char *word;
		size_t len;

		if (table_options[o].kind != OPTION_CHOICE)
			continue;
		table_option_name((enum option_id)o, name);
		fprintf(out, "%s--%s) words=\"", indent, name);
		for (unsigned n = 0;
		     (len = table_choice(table_options[o].argument, n, &word)) > 0; n++)
			fprintf(out, "%s%.*s", n > 0 ? " " : "", (int)len, word);
		fputs("\";;\n", out);
	}
}

/* "COMMAND") words="what may follow";; for bash and zsh alike. */
static void put_command_cases(FILE *out, const char *indent)
{
	for (int c = 0; c < C_COUNT; c++) {
		const char *words = table_commands[c].words;

		if (table_commands[c].how == COMMAND_HIDDEN)
			continue;
		fprintf(out, "%s\"%s\") words=\"", indent, words);
		put_options(out, c);
		if (c == C_completion)
			fputs(" bash zsh fish", out);
		fputs("\";;\n", out);
	}
	fprintf(out, "%sjob) words=\"", indent);
	put_second_words(out, "job", 3);
	fprintf(out, "\";;\n%sbucket) words=\"", indent);
	put_second_words(out, "bucket", 6);
	fprintf(out, "\";;\n%s\"\") words=\"", indent);
	put_first_words(out);
	fputs("\";;\n", out);
}

static void bash_script(FILE *out)
{
	fputs("# bash completion for wadi\n"
	      "_wadi()\n{\n"
	      "\tlocal word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
	      "\tlocal command=\"\" words=\"\" i\n"
	      "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	      "\t\tcase ${COMP_WORDS[i]} in -*) continue;; esac\n"
	      "\t\tcase $command in\n"
	      "\t\t\"\") command=${COMP_WORDS[i]};;\n"
	      "\t\tjob|bucket) command=\"$command ${COMP_WORDS[i]}\";;\n"
	      "\t\tesac\n"
	      "\tdone\n"
	      "\tcase $before in\n", out);
	put_choice_cases(out, "\t");
	fputs("\t*)\n\t\tcase $command in\n", out);
	put_command_cases(out, "\t\t");
	fputs("\t\tesac;;\n"
	      "\tesac\n"
	      "\tCOMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
	      "\t[ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- \"$word\"))\n"
	      "}\n"
	      "complete -F _wadi wadi\n", out);
}

static void zsh_script(FILE *out)
{
	fputs("#compdef wadi\n# zsh completion for wadi\n"
	      "_wadi()\n{\n"
	      "\tlocal command=\"\" list=\"\" before=${words[CURRENT-1]} i\n"
	      "\tlocal -a typed=(\"${words[@]}\")\n"
	      "\tfor ((i = 2; i < CURRENT; i++)); do\n"
	      "\t\tcase ${typed[i]} in -*) continue;; esac\n"
	      "\t\tcase $command in\n"
	      "\t\t\"\") command=${typed[i]};;\n"
	      "\t\tjob|bucket) command=\"$command ${typed[i]}\";;\n"
	      "\t\tesac\n"
	      "\tdone\n"
	      "\tlocal words=\"\"\n"
	      "\tcase $before in\n", out);
	put_choice_cases(out, "\t");
	fputs("\t*)\n\t\tcase $command in\n", out);
	put_command_cases(out, "\t\t");
	fputs("\t\tesac;;\n"
	      "\tesac\n"
	      "\tcompadd -- ${=words}\n"
	      "\t_files\n"
	      "}\n"
	      "if [ \"$funcstack[1]\" = \"_wadi\" ]; then _wadi \"$@\"\n"
	      "else compdef _wadi wadi; fi\n", out);
}

static void fish_quoted(FILE *out, const char *text)
{
	fputc('\'', out);
	for (; *text != '\0'; text++) {
		if (*text == '\'' || *text == '\\')
			fputc('\\', out);
		fputc(*text, out);
	}
	fputc('\'', out);
}

static void fish_options(FILE *out, int c)
{
	char name[OPTION_NAME_MAX];

	for (size_t i = 0; i < table_n_command_options; i++) {
		const struct option *o = &table_options[table_command_options[i].option];

		if (table_command_options[i].cmd != (enum command_id)c)
			continue;
		fprintf(out, "complete -c wadi -n '__wadi_at \"%s\"' -l %s",
			table_commands[c].words,
			table_option_name(table_command_options[i].option, name));
		if (o->letter != 0)
			fprintf(out, " -s %c", o->letter);
		if (o->kind != OPTION_FLAG)
			fputs(" -r", out);
		if (o->kind == OPTION_CHOICE) {
			fputs(" -f -a '", out);
			for (const char *p = o->argument; *p != '\0'; p++)
				fputc(*p == '|' ? ' ' : *p, out);
			fputs("'", out);
		}
		fputs(" -d ", out);
		fish_quoted(out, table_command_options[i].help);
		fputc('\n', out);
	}
}

static void fish_script(FILE *out)
{
	char name[OPTION_NAME_MAX];

	fputs("# fish completion for wadi\n"
	      "function __wadi_at\n"
	      "\tset -l typed (string match -v -- '-*' (commandline -opc))\n"
	      "\tset -e typed[1]\n"
	      "\ttest \"$typed\" = \"$argv[1]\"; or string match -q -- \"$argv[1] *\" \"$typed\"\n"
	      "end\n"
	      "function __wadi_bare\n"
	      "\tset -l typed (string match -v -- '-*' (commandline -opc))\n"
	      "\tset -e typed[1]\n"
	      "\ttest \"$typed\" = \"$argv[1]\"\n"
	      "end\n", out);
	for (int c = 0; c < C_COUNT; c++) {
		const char *words = table_commands[c].words, *second = strchr(words, ' ');

		if (table_commands[c].how == COMMAND_HIDDEN)
			continue;
		if (second == NULL)
			fprintf(out, "complete -c wadi -f -n '__wadi_bare \"\"' -a %s -d ", words);
		else
			fprintf(out, "complete -c wadi -f -n '__wadi_bare \"%.*s\"' -a %s -d ",
				(int)(second - words), words, second + 1);
		fish_quoted(out, table_commands[c].brief);
		fputc('\n', out);
		fish_options(out, c);
	}
	fputs("complete -c wadi -f -n '__wadi_bare \"\"' -a 'job bucket'\n"
	      "complete -c wadi -f -n '__wadi_bare completion' -a 'bash zsh fish'\n", out);
	for (int o = 0; o < O_GLOBAL_COUNT; o++) {
		fprintf(out, "complete -c wadi -l %s%s -d ",
			table_option_name((enum option_id)o, name),
			table_options[o].kind != OPTION_FLAG ? " -r" : "");
		fish_quoted(out, table_global_help((enum option_id)o));
		fputc('\n', out);
	}
}

int complete_script(FILE *out, const char *shell)
{
	if (strcmp(shell, "bash") == 0)
		bash_script(out);
	else if (strcmp(shell, "zsh") == 0)
		zsh_script(out);
	else if (strcmp(shell, "fish") == 0)
		fish_script(out);
	else
		return E_INVALID;
	return 0;
}
