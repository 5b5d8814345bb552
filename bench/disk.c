/* SPDX-License-Identifier: Apache-2.0 */
/* disk.c: how often a second the disk under a directory can sync: one writer, 4 KiB a time, into
 * bytes that were written before, as a log does. */
#include "bench/bench.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 4096, BLOCKS = 256 };

int sync_main(const char *dir, uint64_t run_ns)
{
	static uint8_t block[BLOCK];
	uint64_t began, n = 0;
	char path[256];
	int fd, rc = 0;

	fill_random(7, block, sizeof block);
	snprintf(path, sizeof path, "%s/wadi-bench.XXXXXX", dir);
	if ((fd = mkstemp(path)) < 0) {
		fprintf(stderr, "wadi-bench: %s: %s\n", path, strerror(errno));
		return 1;
	}
	unlink(path);
	for (int i = 0; i < BLOCKS && rc == 0; i++)
		rc = pwrite(fd, block, BLOCK, (off_t)i * BLOCK) == BLOCK ? 0 : -1;
	rc = rc < 0 ? rc : fsync(fd);
	began = now_ns();
	while (rc == 0 && now_ns() - began < run_ns) {
		rc = pwrite(fd, block, BLOCK, (off_t)(n++ % BLOCKS) * BLOCK) == BLOCK ? 0 : -1;
		rc = rc < 0 ? rc : fdatasync(fd);
	}
	if (rc < 0)
		fprintf(stderr, "wadi-bench: sync in %s: %s\n", dir, strerror(errno));
	else
		printf("{\"ops\": %llu, \"wall_s\": %.9f}\n", (unsigned long long)n,
			(double)(now_ns() - began) / 1e9);
	close(fd);
	return rc == 0 ? 0 : 1;
}
