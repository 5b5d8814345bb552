/* SPDX-License-Identifier: Apache-2.0 */
/* demo.h: `wadi demo`, a program of a user's that knows wadi.h only: Wadi's main job on real input,
 * with its picture and its bill. */
#ifndef DEMO_DEMO_H
#define DEMO_DEMO_H
#include <stdbool.h>
#include <stdint.h>

struct demo_opts {
	const char *program; /* the wadi command, to start a server with */
	const char *url;    /* of a running server; NULL: start one for the demo and end it after */
	const char *input;  /* NULL: generate `bytes` of records */
	const char *output; /* NULL: a temporary file, removed after it was validated */
	uint64_t bytes;     /* of generated input; rounded to whole records */
	uint32_t workers;   /* processes; 0: SORT_WORKERS */
	bool quiet;         /* no progress */
};
/* Prints to stdout and closes with the line "demo: ok".  The exit code of the command. */
int demo_sort(const struct demo_opts *o);

/* The hidden command of a worker process: argv as demo_sort() starts it. */
int demo_worker(int argc, char **argv);
#endif
