/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/parse.h"
#include "base/check.h"
#include "cli/words.h"
#include <stdio.h>
#include <string.h>

struct parse {
	int argc, i;
	char *const *argv;
	struct args *a;
	struct err_note *note;
	bool plain;                  /* behind --, or the first argument of a STOPS command */
};

/* How many words of argv, from i on, are the words of a command; 0 when they differ. */
static int words_match(const char *words, int argc, char *const argv[], int i)
{
	int n = 0;

	while (*words != '\0') {
		size_t len = strcspn(words, " ");

		if (i + n >= argc || strlen(argv[i + n]) != len
		    || strncmp(argv[i + n], words, len) != 0)
			return 0;
		n++;
		words += len;
		words += *words == ' ';
	}
	return n;
}

static bool begins_commands(const char *word)
{
	size_t len = strlen(word);

	for (int c = 0; c < C_COUNT; c++)
		if (strncmp(table_commands[c].words, word, len) == 0
		    && table_commands[c].words[len] == ' ')
			return true;
	return false;
}

const char *args_nearest_command(const char *text)
{
	unsigned best = UINT32_MAX;
	const char *found = NULL;

	for (int c = 0; c < C_COUNT; c++) {
		const char *words = table_commands[c].words, *last = strrchr(words, ' ');
		unsigned d = words_distance(text, words);

		if (table_commands[c].how == COMMAND_HIDDEN)
			continue;
		/* "create" is meant to be "bucket create" */
		if (last != NULL && strcmp(last + 1, text) == 0)
			return words;
		if (d < best && words_near(text, words)) {
			best = d;
			found = words;
		}
	}
	return found;
}

static int command_unknown(struct parse *p, const char *first)
{
	char both[64];
	const char *near;

	snprintf(both, sizeof both, "%s", first);
	if (begins_commands(first) && p->i + 1 < p->argc && p->argv[p->i + 1][0] != '-')
		snprintf(both, sizeof both, "%s %s", first, p->argv[p->i + 1]);
	near = args_nearest_command(both);
	if (near != NULL)
		snprintf(p->a->hint, sizeof p->a->hint, "did you mean: wadi %s", near);
	else
		snprintf(p->a->hint, sizeof p->a->hint, "wadi help lists the commands");
	return err_set(p->note, E_INVALID, "there is no command: wadi %s", both);
}

/* Takes the words of the command at p->i. */
static int command_take(struct parse *p)
{
	const char *first = p->argv[p->i];
	int best = 0;

	for (int c = 0; c < C_COUNT; c++) {
		int n = words_match(table_commands[c].words, p->argc, p->argv, p->i);

		if (n > best) {
			best = n;
			p->a->cmd = (enum command_id)c;
		}
	}
	if (best > 0) {
		p->i += best;
		p->plain = table_commands[p->a->cmd].how == COMMAND_PASSES;
		return 0;
	}
	if (begins_commands(first)
	    && (p->i + 1 >= p->argc || p->argv[p->i + 1][0] == '-')) {
		p->a->group_words = first;
		p->i++;
		return 0;
	}
	return command_unknown(p, first);
}

static bool option_named(enum option_id o, const char *name, size_t len)
{
	char text[OPTION_NAME_MAX];

	table_option_name(o, text);
	return strlen(text) == len && memcmp(text, name, len) == 0;
}

static int option_unknown(struct parse *p, const char *arg)
{
	char name[OPTION_NAME_MAX], text[OPTION_NAME_MAX];
	unsigned best = UINT32_MAX;

	snprintf(name, sizeof name, "%.*s", (int)strcspn(arg, "="), arg);
	for (int o = 0; o < O_COUNT && name[0] == '-' && name[1] == '-'; o++) {
		unsigned d = words_distance(name + 2, table_option_name((enum option_id)o, text));

		if (p->a->cmd != C_COUNT && !table_takes(p->a->cmd, (enum option_id)o))
			continue;
		if (d >= best || !words_near(name + 2, text))
			continue;
		best = d;
		snprintf(p->a->hint, sizeof p->a->hint, "did you mean: --%s", text);
	}
	if (best == UINT32_MAX && p->a->cmd != C_COUNT)
		snprintf(p->a->hint, sizeof p->a->hint, "wadi %s --help lists its options",
			table_commands[p->a->cmd].words);
	return err_set(p->note, E_INVALID, "there is no option %s", name);
}

static int choice_value(const char *list, const char *text, uint64_t *ret_index)
{
	const char *word;
	size_t len;

	for (unsigned n = 0; (len = table_choice(list, n, &word)) > 0; n++)
		if (strlen(text) == len && memcmp(text, word, len) == 0) {
			*ret_index = n;
			return 0;
		}
	return E_INVALID;
}

static int option_value(struct parse *p, enum option_id o, const char *text)
{
	const struct option *opt = &table_options[o];
	uint64_t *value = &p->a->number[o];
	char name[OPTION_NAME_MAX];
	bool ok = true;

	switch (opt->kind) {
	case OPTION_COUNT: ok = words_count(text, value); break;
	case OPTION_SIZE: ok = words_size(text, value); break;
	case OPTION_RATE: ok = words_rate(text, value); break;
	case OPTION_TIME: ok = words_time(text, value); break;
	case OPTION_TIERS: ok = words_tiers(text, value); break;
	case OPTION_CHOICE: ok = choice_value(opt->argument, text, value) == 0; break;
	case OPTION_TEXT:
	case OPTION_PATH: ok = text[0] != '\0'; break;
	case OPTION_FLAG: check(false);
	}
	if (!ok)
		return err_set(p->note, E_INVALID, "--%s takes %s, not \"%.64s\"",
			table_option_name(o, name), opt->argument, text);
	p->a->text[o] = text;
	p->a->given[o] = true;
	return 0;
}

/* The argument of option o: behind '=' or the letter (rest), else the next word. */
static int option_take(struct parse *p, enum option_id o, const char *rest)
{
	char name[OPTION_NAME_MAX];

	if (table_options[o].kind == OPTION_FLAG) {
		if (rest != NULL)
			return err_set(p->note, E_INVALID, "--%s takes no argument",
				table_option_name(o, name));
		p->a->given[o] = true;
		return 0;
	}
	if (rest == NULL) {
		if (p->i >= p->argc)
			return err_set(p->note, E_INVALID, "--%s needs an argument: %s",
				table_option_name(o, name), table_options[o].argument);
		rest = p->argv[p->i++];
	}
	return option_value(p, o, rest);
}

static int long_option(struct parse *p, const char *arg)
{
	size_t len = strcspn(arg + 2, "=");

	for (int o = 0; o < O_COUNT; o++) {
		if (!option_named((enum option_id)o, arg + 2, len))
			continue;
		if (p->a->cmd != C_COUNT && !table_takes(p->a->cmd, (enum option_id)o))
			break;
		if (p->a->cmd == C_COUNT && o >= O_GLOBAL_COUNT)
			break;
		return option_take(p, (enum option_id)o,
			arg[2 + len] == '=' ? arg + 3 + len : NULL);
	}
	return option_unknown(p, arg);
}

/* "-rl" is "-r -l"; "-n5" and "-n 5" are alike. */
static int short_options(struct parse *p, const char *arg)
{
	for (const char *at = arg + 1; *at != '\0'; at++) {
		int o = 0, rc;

		while (o < O_COUNT && (table_options[o].letter != *at
		                       || (p->a->cmd != C_COUNT
		                           && !table_takes(p->a->cmd, (enum option_id)o))))
			o++;
		if (o == O_COUNT || (p->a->cmd == C_COUNT && o >= O_GLOBAL_COUNT))
			return option_unknown(p, arg);
		if (table_options[o].kind != OPTION_FLAG)
			return option_take(p, (enum option_id)o, at[1] != '\0' ? at + 1 : NULL);
		if ((rc = option_take(p, (enum option_id)o, NULL)) < 0)
			return rc;
	}
	return 0;
}

static int word_take(struct parse *p)
{
	const char *arg = p->argv[p->i];
	bool option = !p->plain && arg[0] == '-' && arg[1] != '\0';

	if (!p->plain && strcmp(arg, "--") == 0) {
		p->plain = true;
		p->i++;
		return 0;
	}
	if (!option && p->a->cmd == C_COUNT && p->a->group_words == NULL)
		return command_take(p);
	if (strcmp(arg, "--version") == 0 && p->argc == 2) {
		p->a->cmd = C_version; /* what every program understands */
		p->i++;
		return 0;
	}
	p->i++;
	if (!option) {
		p->a->pos[p->a->n_pos++] = arg;
		p->plain = p->plain
			|| (p->a->cmd != C_COUNT && table_commands[p->a->cmd].how == COMMAND_STOPS);
		return 0;
	}
	return arg[1] == '-' ? long_option(p, arg) : short_options(p, arg);
}

static int counts_check(struct parse *p)
{
	const struct command *c = &table_commands[p->a->cmd];

	snprintf(p->a->hint, sizeof p->a->hint, "usage: wadi %s [OPTION...]%s%s", c->words,
		c->arguments[0] != '\0' ? " " : "", c->arguments);
	if (p->a->n_pos < c->min)
		return err_set(p->note, E_INVALID, "wadi %s needs %s", c->words, c->arguments);
	if (c->max >= 0 && p->a->n_pos > c->max)
		return err_set(p->note, E_INVALID, "wadi %s does not take \"%.64s\"", c->words,
			p->a->pos[c->max]);
	p->a->hint[0] = '\0';
	return 0;
}

int args_parse(int argc, char *const argv[], const char **room, struct args *ret_a,
	struct err_note *note)
{
	struct parse p = { .argc = argc, .i = 1, .argv = argv, .a = ret_a, .note = note };
	int rc;

	check(argc >= 1);
	*ret_a = (struct args){ .cmd = C_COUNT, .pos = room };
	while (p.i < argc) {
		if ((rc = word_take(&p)) < 0)
			return rc;
		check(p.i <= argc);
		check(ret_a->n_pos < argc);
	}
	ret_a->pos[ret_a->n_pos] = NULL;
	if (ret_a->cmd == C_COUNT || ret_a->given[O_help])
		return 0;
	return counts_check(&p);
}
