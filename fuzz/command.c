/* SPDX-License-Identifier: Apache-2.0 */
/* A command line: arguments separated by NUL.  It parses or is refused with a sentence; numbers,
 * sizes and times never pass 64 bits unnoticed. */
#include "base/check.h"
#include "cli/parse.h"
#include "cli/words.h"
#include "fuzz/fuzz.h"
#include <stdlib.h>
#include <string.h>

enum { ARGS_MAX = 32 };

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len)
{
	char *text = malloc(len + 1), *argv[ARGS_MAX + 1] = { (char[]){ "wadi" } };
	const char *room[ARGS_MAX + 1];
	struct err_note note = { "" };
	struct args a;
	uint64_t v;
	int argc = 1;

	check(text != NULL);
	memcpy(text, p, len);
	text[len] = '\0';
	for (size_t at = 0; at < len && argc < ARGS_MAX; at += strlen(text + at) + 1)
		argv[argc++] = text + at;
	argv[argc] = NULL;
	if (args_parse(argc, argv, room, &a, &note) < 0)
		check(note.text[0] != '\0');
	else
		check(a.n_pos < argc);
	words_count(text, &v);
	words_size(text, &v);
	words_rate(text, &v);
	words_time(text, &v);
	words_tiers(text, &v);
	free(text);
	return 0;
}
