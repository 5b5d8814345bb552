/* SPDX-License-Identifier: Apache-2.0 */
/* large.h: one client of a server for large values, blocking; a thread has one of its own. */
#ifndef BENCH_LARGE_H
#define BENCH_LARGE_H
#include "bench/bench.h"

struct large_proto;
struct large { struct bench *b; const struct large_proto *proto; };

struct large_proto {
	void *(*open)(struct large *l); /* NULL, message printed */
	int (*put)(void *client, const char key[KEY_BYTES]);
	int (*get)(void *client, const char key[KEY_BYTES]);
	void (*close)(void *client);
};
extern const struct large_proto large_redis, large_wadi;

int large_run(struct bench *b, struct bench_result *ret_r);
#endif
