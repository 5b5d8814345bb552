/* SPDX-License-Identifier: Apache-2.0 */
/* A command line is understood wholly or refused with a sentence; the table says everything that
 * help, pages and completion need. */
#include "cli/help.h"
#include "cli/parse.h"
#include "cli/progress.h"
#include "cli/words.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { WORDS = 16 };

static const char *room[WORDS];
static struct err_note note;

/* Splits at blanks; the text's storage is static. */
static int parse(const char *line, struct args *a)
{
	static char copy[256];
	static char *argv[WORDS];
	int argc = 0;

	snprintf(copy, sizeof copy, "%s", line);
	for (char *p = strtok(copy, " "); p != NULL; p = strtok(NULL, " "))
		argv[argc++] = p;
	note.text[0] = '\0';
	return args_parse(argc, argv, room, a, &note);
}

static void refused(const char *line, const char *text, const char *hint)
{
	struct args a;

	if (parse(line, &a) != E_INVALID)
		fail_msg("accepted: %s", line);
	if (strstr(note.text, text) == NULL || strstr(a.hint, hint) == NULL)
		fail_msg("%s: said \"%s\", \"%s\"", line, note.text, a.hint);
}

static void test_commands(void **state)
{
	struct args a;

	assert_int_equal(parse("wadi --version", &a), 0);
	assert_int_equal(a.cmd, C_version);
	assert_int_equal(parse("wadi put --persist f b/k", &a), 0);
	assert_int_equal(a.cmd, C_put);
	assert_true(a.given[O_persist]);
	assert_int_equal(a.n_pos, 2);
	assert_string_equal(a.pos[1], "b/k");
	assert_null(a.pos[2]);
	assert_int_equal(parse("wadi --json bucket create x --quota=10K", &a), 0);
	assert_int_equal(a.cmd, C_bucket_create);
	assert_true(a.given[O_json]);
	assert_int_equal(a.number[O_quota], 10240);
	assert_int_equal(parse("wadi ls -lr b", &a), 0);
	assert_true(a.given[O_long] && a.given[O_recursive]);
	assert_int_equal(parse("wadi put - b/k", &a), 0);
	assert_string_equal(a.pos[0], "-");
	assert_int_equal(parse("wadi rm -- -k", &a), 0);
	assert_string_equal(a.pos[0], "-k");
	assert_int_equal(parse("wadi", &a), 0);
	assert_int_equal(a.cmd, C_COUNT);
	assert_int_equal(parse("wadi job", &a), 0);
	assert_string_equal(a.group_words, "job");
	assert_int_equal(parse("wadi put --help", &a), 0);
}

static void test_stops(void **state)
{
	struct args a;

	assert_int_equal(parse("wadi job run --workers 4 sort -n --help x", &a), 0);
	assert_int_equal(a.cmd, C_job_run);
	assert_int_equal(a.number[O_workers], 4);
	assert_int_equal(a.n_pos, 4);
	assert_false(a.given[O_help]);
	assert_string_equal(a.pos[1], "-n");
	assert_int_equal(parse("wadi demo --size 1G -- --help", &a), 0);
	assert_int_equal(a.n_pos, 4);
	assert_string_equal(a.pos[0], "--size");
	assert_string_equal(a.pos[2], "--");
	assert_int_equal(parse("wadi job run -n4 -- -odd", &a), 0);
	assert_string_equal(a.text[O_name], "4");
	assert_string_equal(a.pos[0], "-odd");
}

static void test_refusals(void **state)
{
	refused("wadi ptu a b/c", "no command: wadi ptu", "wadi put");
	refused("wadi job rnu", "wadi job rnu", "wadi job run");
	refused("wadi create x", "wadi create", "wadi bucket create");
	refused("wadi zzzzzzz", "wadi zzzzzzz", "wadi help");
	refused("wadi put --persits a b/c", "--persits", "--persist");
	refused("wadi put --workers 3 a b/c", "--workers", "--help");
	refused("wadi --recursive ls", "--recursive", "");
	refused("wadi ls -z", "-z", "--help");
	refused("wadi put", "needs", "usage: wadi put");
	refused("wadi put a b c", "\"c\"", "usage");
	refused("wadi get --wait", "needs an argument", "");
	refused("wadi get --wait soon a/b", "TIME", "");
	refused("wadi get --offset 1Q a/b", "SIZE", "");
	refused("wadi get --delete=yes a/b", "no argument", "");
	refused("wadi bucket create --kind bush x", "flat|tree", "");
	refused("wadi bucket create --tiers tape x", "TIER", "");
}

static void test_numbers(void **state)
{
	uint64_t n = 7;
	char text[WORDS_MAX];

	assert_true(words_size("1.5KiB", &n) && n == 1536);
	assert_true(words_size("2MB", &n) && n == 2000000);
	assert_true(words_size("16777215T", &n) && n == 16777215ull << 40);
	assert_false(words_size("16777216T", &n));
	assert_false(words_size("99999999999999999999", &n));
	assert_false(words_size("-1", &n));
	assert_false(words_size("1..5", &n));
	assert_false(words_size("1.K", &n));
	assert_false(words_size("", &n));
	assert_true(words_rate("1GB/s", &n) && n == 1000000000);
	assert_true(words_time("1.5h", &n) && n == 5400000);
	assert_true(words_time("250ms", &n) && n == 250);
	assert_true(words_time("3", &n) && n == 3000);
	assert_true(words_tiers("flash,DRAM", &n) && n == 3);
	assert_false(words_tiers("dram,", &n));
	assert_false(words_count("1.5", &n));
	assert_string_equal(words_put_size(1536, text), "1.5 KiB");
	assert_string_equal(words_put_size((1 << 20) - 1, text), "1.0 MiB");
	assert_string_equal(words_put_size(UINT64_MAX, text), "16.0 EiB");
	assert_string_equal(words_put_time(3723000, text), "1h 02m");
	assert_string_equal(words_put_brief(68000, text), "68 us");
	assert_string_equal(words_put_brief(4100000, text), "4.1 ms");
	assert_string_equal(words_put_brief(UINT64_C(75) * 1000000000, text), "1m 15s");
	assert_string_equal(words_put_count(1, "job", text), "1 job");
	assert_string_equal(words_put_count(0, "job", text), "0 jobs");
	assert_string_equal(words_put_tiers(5, text), "dram,disk");
	assert_int_equal(words_distance("ab", "ba"), 1);
	assert_int_equal(words_distance("kitten", "sitting"), 3);
}

static void test_progress(void **state)
{
	struct progress p;
	char line[PROGRESS_LINE_MAX];

	progress_init(&p, "a name that is long", 1000 << 20, 5000);
	for (unsigned columns = 0; columns < 300; columns++) {
		progress_line(&p, 250 << 20, 6000, columns, line);
		assert_true(strlen(line) <= columns);
	}
	assert_non_null(strstr(line, "250.0 MiB/s"));
	assert_non_null(strstr(line, "3.0 s left"));
	assert_non_null(strstr(line, "[##########......"));
	progress_init(&p, "-", UINT64_MAX, 0);
	assert_null(strchr(progress_line(&p, 5, 10, 100, line), '['));
	/* The rate forgets what is older than twice PROGRESS_RATE_MS. */
	assert_int_equal(progress_rate(&p, 1000000, 10000), 100000);
	progress_rate(&p, 1000000, 16000);
	assert_int_equal(progress_rate(&p, 1000000, 22000), 0);
}

/* Every command has what a reader needs, and every option somebody who takes it. */
static void test_table(void **state)
{
	for (int c = 0; c < C_COUNT; c++) {
		bool example = false;

		for (size_t i = 0; i < table_n_examples; i++)
			if (table_examples[i].cmd == (enum command_id)c) {
				assert_non_null(strstr(table_examples[i].line,
					table_commands[c].words));
				example = true;
			}
		assert_true(example);
		assert_true(strlen(table_commands[c].brief) < 60);
	}
	for (int o = O_GLOBAL_COUNT; o < O_COUNT; o++) {
		bool taken = false;

		for (int c = 0; c < C_COUNT; c++)
			taken = taken || table_takes((enum command_id)c, (enum option_id)o);
		if (!taken)
			fail_msg("nobody takes --%s", table_options[o].id);
	}
}

static void test_pages(void **state)
{
	char *text;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	for (int c = 0; c < C_COUNT; c++) {
		help_command(f, (enum command_id)c);
		man_page(f, (enum command_id)c);
	}
	help_overview(f);
	man_page(f, C_COUNT);
	assert_int_equal(complete_script(f, "bash"), 0);
	assert_int_equal(complete_script(f, "zsh"), 0);
	assert_int_equal(complete_script(f, "fish"), 0);
	assert_int_equal(complete_script(f, "csh"), E_INVALID);
	assert_false(help_words(f, "put"));
	assert_true(help_words(f, "bucket"));
	fclose(f);
	assert_non_null(strstr(text, "--delete-on-read"));
	assert_non_null(strstr(text, "\\-\\-delete\\-on\\-read"));
	assert_null(strstr(text, "delete_on_read"));
	for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1)
		if (strncmp(line, "  ", 2) == 0 && end - line > 100)
			fail_msg("long line: %.*s", (int)(end - line), line);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commands), cmocka_unit_test(test_stops),
		cmocka_unit_test(test_refusals), cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_progress), cmocka_unit_test(test_table),
		cmocka_unit_test(test_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
