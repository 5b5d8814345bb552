/* SPDX-License-Identifier: Apache-2.0 */
/* replay.c: runs a target on every file of the folders given and on the seeds that it makes, on
 * every truncation of each, and with every byte of it changed: what make check does without
 * libFuzzer.  With --write FOLDER it writes the seeds there instead.
 *
 * Each input is the end of a page that nothing follows, so that a byte read too far is seen. */
#include "base/check.h"
#include "fuzz/fuzz.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { INPUT_MAX = 64 << 10, CHANGES_MAX = 2048 };

static uint8_t *edge; /* just behind the last byte that may be read */

static void run_one(const uint8_t *p, size_t len)
{
	memcpy(edge - len, p, len);
	LLVMFuzzerTestOneInput(edge - len, len);
}

static void run_around(uint8_t *p, size_t len)
{
	size_t max = &fuzz_changes_max != NULL ? fuzz_changes_max : CHANGES_MAX;
	size_t step = max < CHANGES_MAX ? len / max + 1 : 1;

	run_one(p, len);
	for (size_t n = 0; n < len && n < CHANGES_MAX; n += step)
		run_one(p, n);
	for (size_t i = 0; i < len && i < CHANGES_MAX; i += step) {
		uint8_t was = p[i];

		p[i] = (uint8_t)~was;
		run_one(p, len);
		p[i] = (uint8_t)(was + 1);
		run_one(p, len);
		p[i] = was;
	}
}

static unsigned run_folder(const char *folder)
{
	static uint8_t input[INPUT_MAX];
	DIR *d = opendir(folder);
	struct dirent *e;
	unsigned n = 0;

	check(d != NULL);
	while ((e = readdir(d)) != NULL) {
		char path[512];
		FILE *f;

		if (e->d_name[0] == '.')
			continue;
		check(snprintf(path, sizeof path, "%s/%s", folder, e->d_name) < (int)sizeof path);
		f = fopen(path, "rb");
		check(f != NULL);
		run_around(input, fread(input, 1, sizeof input, f));
		fclose(f);
		n++;
	}
	closedir(d);
	return n;
}

static unsigned n_seeds;
static const char *seeds_folder;

static void run_seed(const uint8_t *p, size_t len)
{
	static uint8_t seed[INPUT_MAX];

	check(len <= sizeof seed);
	n_seeds++;
	run_around(memcpy(seed, p, len), len);
}

static void write_seed(const uint8_t *p, size_t len)
{
	char path[512];
	FILE *f;

	check(snprintf(path, sizeof path, "%s/seed%u", seeds_folder, n_seeds++)
		< (int)sizeof path);
	f = fopen(path, "wb");
	check(f != NULL);
	check(fwrite(p, 1, len, f) == len);
	check(fclose(f) == 0);
}

int main(int argc, char **argv)
{
	uint8_t *room = mmap(NULL, 2 * INPUT_MAX, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned n = 0;

	if (argc == 3 && strcmp(argv[1], "--write") == 0) {
		seeds_folder = argv[2];
		check(fuzz_seeds != NULL);
		fuzz_seeds(write_seed);
		return 0;
	}
	check(room != MAP_FAILED);
	check(mprotect(room + INPUT_MAX, INPUT_MAX, PROT_NONE) == 0);
	edge = room + INPUT_MAX;
	for (int i = 1; i < argc; i++)
		n += run_folder(argv[i]);
	if (fuzz_seeds != NULL)
		fuzz_seeds(run_seed);
	printf("%u inputs, %u seeds\n", n, n_seeds);
	return n > 0 ? 0 : 1;
}
