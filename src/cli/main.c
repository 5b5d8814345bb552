/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"
#include "cli/commands.h"
#include "cli/help.h"
#include <stdlib.h>
#include <string.h>

typedef void command_fn(struct cli *c);

static command_fn *const functions[C_COUNT] = {
#define CMD(id, group, how, words, arguments, min, max, brief, text) cmd_##id,
#include "cli/commands.def"
};

static int usage_failed(const struct args *a, const struct err_note *note)
{
	fprintf(stderr, "wadi: %s\n", note->text);
	if (a->hint[0] != '\0')
		fprintf(stderr, "  hint: %s\n", a->hint);
	return err_exit(E_INVALID);
}

static int help_for(const struct args *a)
{
	if (a->cmd != C_COUNT)
		help_command(stdout, a->cmd);
	else if (a->group_words == NULL)
		help_overview(stdout);
	else
		help_words(a->given[O_help] ? stdout : stderr, a->group_words);
	return a->given[O_help] || a->group_words == NULL ? 0 : err_exit(E_INVALID);
}

static int run(struct cli *c)
{
	functions[c->a.cmd](c);
	wadi_close(c->w);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fputs("wadi: standard output failed\n", stderr);
		return c->exit != 0 ? c->exit : err_exit(E_IO);
	}
	return c->exit;
}

int cli_main(int argc, char **argv, const struct cli_roles *roles)
{
	const char **room = calloc((size_t)argc + 1, sizeof *room);
	struct cli c = { .roles = roles };
	struct err_note note = { "" };
	int rc;

	if (room == NULL)
		return err_exit(E_NOMEM);
	rc = args_parse(argc, argv, room, &c.a, &note);
	if (rc < 0) {
		rc = usage_failed(&c.a, &note);
	} else if (c.a.cmd == C_COUNT || c.a.given[O_help]) {
		rc = help_for(&c.a);
	} else {
		c.json = c.a.given[O_json];
		c.quiet = c.a.given[O_quiet];
		c.color = os_env("NO_COLOR") == NULL && os_terminal(OS_STDERR);
		rc = run(&c);
	}
	free(room);
	return rc;
}

/* ---- commands about the command ---- */
void cmd_version(struct cli *c)
{
	if (c->json)
		out_json(json_pack("{s:s}", "version", wadi_version()));
	else
		printf("wadi %s\n", wadi_version());
}

void cmd_help(struct cli *c)
{
	const char *argv[4] = { "wadi" }, *room[4];
	struct args a;
	struct err_note note = { "" };
	int n = 1;

	for (int i = 0; i < c->a.n_pos && i < 2; i++)
		argv[n++] = c->a.pos[i];
	argv[n++] = "--help";
	if (args_parse(n, (char *const *)argv, room, &a, &note) < 0)
		c->exit = usage_failed(&a, &note);
	else
		c->exit = help_for(&a);
}

void cmd_completion(struct cli *c)
{
	if (complete_script(stdout, c->a.pos[0]) < 0)
		cli_fail(c, c->a.pos[0], E_INVALID, "there is completion for bash, zsh and fish",
			NULL);
}

static bool man_write(struct cli *c, const char *folder, enum command_id id)
{
	char path[OS_PATH_MAX], name[MAN_NAME_MAX], *text = NULL;
	struct err_note note = { "" };
	size_t len;
	FILE *page = open_memstream(&text, &len);
	int fd, rc;

	if (page == NULL)
		return cli_fail(c, NULL, E_NOMEM, "a page", NULL);
	man_page(page, id);
	fclose(page);
	snprintf(path, sizeof path, "%s/%s", folder, man_name(id, name));
	rc = os_open_write(path, &fd, &note);
	if (rc == 0) {
		rc = os_write(fd, text, len, path, &note);
		os_close(fd, path, NULL);
	}
	free(text);
	return rc == 0 || cli_fail(c, NULL, rc, note.text, NULL);
}

void cmd_man(struct cli *c)
{
	for (int id = 0; id <= C_COUNT; id++)
		if (id == C_COUNT || table_commands[id].how != COMMAND_HIDDEN)
			if (!man_write(c, c->a.pos[0], (enum command_id)id))
				return;
}

/* ---- servers ---- */
void cmd_serve(struct cli *c) { c->exit = c->roles->serve(c); }
void cmd_meta(struct cli *c) { c->exit = c->roles->meta(c); }
void cmd_store(struct cli *c) { c->exit = c->roles->store(c); }

/* The demonstration is a program of its own, which learns from its environment which wadi to run.
 * */
void cmd_demo(struct cli *c)
{
	static char program[OS_PATH_MAX], self[OS_PATH_MAX];
	struct err_note note = { "" };
	const char **argv = calloc((size_t)c->a.n_pos + 3, sizeof *argv);
	int n = 0, rc;

	if (argv == NULL) {
		cli_fail(c, NULL, E_NOMEM, "arguments", NULL);
		return;
	}
	os_beside("wadi-demo", program);
	os_beside("wadi", self);
	os_set_env("WADI_PROGRAM", self);
	argv[n++] = program;
	if (c->a.n_pos == 0 || c->a.pos[0][0] == '-')
		argv[n++] = "sort";
	for (int i = 0; i < c->a.n_pos; i++)
		argv[n++] = c->a.pos[i];
	rc = os_exec(argv, &note);
	cli_fail(c, NULL, rc, note.text, "it is installed beside wadi, as wadi-demo");
	free(argv);
}
