/* SPDX-License-Identifier: Apache-2.0 */
/* wadi-bench: one measurement; prints its result as one line of JSON.  bench/run composes them. */
#include "base/check.h"
#include "bench/bench.h"
#include "bench/large.h"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
	"usage: wadi-bench load --peer redis|etcd|wadi --addr HOST:PORT\n"
	"           --op put|get|stat|create\n"
	"           [--conns N] [--depth N] [--size BYTES] [--keys N] [--first N] [--fill]\n"
	"           [--durable] [--warm SECONDS] [--seconds SECONDS] [--pid SERVER,..] [--seed N]\n"
	"       wadi-bench sync DIR SECONDS\n";

enum { OPT_PEER = 256, OPT_ADDR, OPT_OP, OPT_CONNS, OPT_DEPTH, OPT_SIZE, OPT_KEYS, OPT_FIRST,
	OPT_FILL, OPT_DURABLE, OPT_WARM, OPT_SECONDS, OPT_PID, OPT_SEED };

static const struct option options[] = {
	{ "peer", required_argument, NULL, OPT_PEER },
	{ "addr", required_argument, NULL, OPT_ADDR },
	{ "op", required_argument, NULL, OPT_OP },
	{ "conns", required_argument, NULL, OPT_CONNS },
	{ "depth", required_argument, NULL, OPT_DEPTH },
	{ "size", required_argument, NULL, OPT_SIZE },
	{ "keys", required_argument, NULL, OPT_KEYS },
	{ "first", required_argument, NULL, OPT_FIRST },
	{ "fill", no_argument, NULL, OPT_FILL },
	{ "durable", no_argument, NULL, OPT_DURABLE },
	{ "warm", required_argument, NULL, OPT_WARM },
	{ "seconds", required_argument, NULL, OPT_SECONDS },
	{ "pid", required_argument, NULL, OPT_PID },
	{ "seed", required_argument, NULL, OPT_SEED },
	{ NULL, 0, NULL, 0 },
};

static uint64_t seconds(const char *text) { return (uint64_t)(strtod(text, NULL) * 1e9); }
static uint64_t number(const char *text) { return strtoull(text, NULL, 10); }

static int op_of(const char *name, enum bench_op *ret_op)
{
	static const char *const names[] = { "put", "get", "stat", "create" };

	for (unsigned i = 0; i < 4; i++)
		if (strcmp(name, names[i]) == 0) {
			*ret_op = (enum bench_op)i;
			return 0;
		}
	return -1;
}

static int take(struct bench_opts *o, int which, const char *arg)
{
	switch (which) {
	case OPT_PEER: o->peer = arg; return 0;
	case OPT_ADDR: o->addr = arg; return 0;
	case OPT_OP: return op_of(arg, &o->op);
	case OPT_CONNS: o->conns = (uint32_t)number(arg); return 0;
	case OPT_DEPTH: o->depth = (uint32_t)number(arg); return 0;
	case OPT_SIZE: o->value_bytes = number(arg); return 0;
	case OPT_KEYS: o->keys = number(arg); return 0;
	case OPT_FIRST: o->first = number(arg); return 0;
	case OPT_FILL: o->in_order = true; return 0;
	case OPT_DURABLE: o->durable = true; return 0;
	case OPT_WARM: o->warm_ns = seconds(arg); return 0;
	case OPT_SECONDS: o->run_ns = seconds(arg); return 0;
	case OPT_PID: o->pids = arg; return 0;
	case OPT_SEED: o->seed = number(arg); return 0;
	default: return -1;
	}
}

static const struct proto *proto_of(const char *peer)
{
	return strcmp(peer, "redis") == 0 ? &proto_redis :
		strcmp(peer, "etcd") == 0 ? &proto_etcd : &proto_wadi;
}

static int load_main(int argc, char **argv)
{
	struct bench b = { .o = { .conns = 1, .depth = 1, .value_bytes = 1024, .keys = 1,
		.run_ns = 1000000000 } };
	struct bench_result r = { 0 };
	int which, rc;

	while ((which = getopt_long(argc, argv, "", options, NULL)) != -1)
		if (take(&b.o, which, optarg) < 0)
			return fputs(usage, stderr), 2;
	if (b.o.peer == NULL || b.o.addr == NULL)
		return fputs(usage, stderr), 2;
	if (b.o.conns == 0 || b.o.depth == 0 || b.o.keys == 0)
		return fputs(usage, stderr), 2;
	b.proto = proto_of(b.o.peer);
	b.value = malloc(b.o.value_bytes + 1);
	check(b.value != NULL);
	fill_random(b.o.seed + 3, b.value, b.o.value_bytes);
	rc = b.proto->start(&b);
	if (rc == 0)
		rc = b.o.value_bytes > INLINE_MAX ? large_run(&b, &r) : bench_run(&b, &r);
	if (rc == 0)
		printf("{\"ops\": %llu, \"wall_s\": %.9f, \"cpu_s\": %.9f, \"errors\": %llu, "
		       "\"p50_us\": %.3f, \"p99_us\": %.3f, \"max_us\": %.3f}\n",
			(unsigned long long)r.ops, (double)r.wall_ns / 1e9, (double)r.cpu_ns / 1e9,
			(unsigned long long)r.errors, (double)r.p50_ns / 1e3,
			(double)r.p99_ns / 1e3, (double)r.max_ns / 1e3);
	free(b.value);
	return rc == 0 && r.errors == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	if (argc >= 2 && strcmp(argv[1], "load") == 0)
		return load_main(argc - 1, argv + 1);
	if (argc == 4 && strcmp(argv[1], "sync") == 0)
		return sync_main(argv[2], seconds(argv[3]));
	return fputs(usage, stderr), 2;
}
