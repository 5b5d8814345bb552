/* SPDX-License-Identifier: Apache-2.0 */
/* wadi-demo: see usage below.  `wadi demo` runs it with WADI_PROGRAM set to itself. */
#include "base/err.h"
#include "demo/demo.h"
#include "demo/sort.h"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
	"usage: wadi demo sort [INPUT OUTPUT] [options]\n"
	"\n"
	"Sorts a file of 100-byte records (10-byte keys) by worker processes that exchange all\n"
	"their data through Wadi as a job, checks the result, and shows where the bytes were and\n"
	"what the job cost.  Without files it generates the input and removes what it made.\n"
	"\n"
	"  --size SIZE     bytes of generated input: 1G (the default), 256M, ...\n"
	"  --workers N     worker processes (8)\n"
	"  --url URL       use this running server instead of starting one for the demo\n"
	"  --quiet         no progress\n";

/* "256M", "1G", "1GiB": bytes; 0 when it is none of these. */
static uint64_t parse_size(const char *text)
{
	static const char units[] = "KMGT";
	char *end;
	uint64_t n = strtoull(text, &end, 10);
	const char *unit = *end != '\0' ? strchr(units, *end & ~0x20) : NULL;

	if (*text < '0' || *text > '9' || n > UINT64_MAX >> 40 || (*end != '\0' && unit == NULL))
		return 0;
	if (unit != NULL && strcmp(end + 1, "") != 0 && strcmp(end + 1, "iB") != 0)
		return 0;
	return unit != NULL ? n << (10 * (unit - units + 1)) : n;
}

static int bad_usage(const char *why)
{
	fprintf(stderr, "wadi demo: %s\n%s", why, usage);
	return err_exit(E_INVALID);
}

static int bad_size(const char *text)
{
	fprintf(stderr, "wadi demo: the size is a number with K, M, G or T behind it, at least "
		"%d, not \"%.64s\"\n", RECORD_BYTES, text);
	return err_exit(E_INVALID);
}

static int sort(int argc, char **argv)
{
	static const struct option options[] = { { "size", 1, NULL, 's' },
		{ "workers", 1, NULL, 'w' }, { "url", 1, NULL, 'u' }, { "quiet", 0, NULL, 'q' },
		{ "help", 0, NULL, 'h' }, { 0 } };
	struct demo_opts o = { .program = getenv("WADI_PROGRAM"), .bytes = 1 << 30 };
	int c;

	if (o.program == NULL)
		o.program = "wadi";
	while ((c = getopt_long(argc, argv, "s:qh", options, NULL)) != -1) {
		if (c == 's' && (o.bytes = parse_size(optarg)) < RECORD_BYTES)
			return bad_size(optarg);
		else if (c == 's')
			continue;
		else if (c == 'w')
			o.workers = (uint32_t)strtoul(optarg, NULL, 10);
		else if (c == 'u')
			o.url = optarg;
		else if (c == 'q')
			o.quiet = true;
		else if (c == 'h')
			return printf("%s", usage) < 0;
		else
			return bad_usage("see the options below");
	}
	if (argc - optind != 0 && argc - optind != 2)
		return bad_usage("give both INPUT and OUTPUT, or neither");
	if (argc - optind == 2) {
		o.input = argv[optind];
		o.output = argv[optind + 1];
	}
	return demo_sort(&o);
}

int main(int argc, char **argv)
{
	if (argc >= 2 && strcmp(argv[1], "worker") == 0)
		return demo_worker(argc - 2, argv + 2);
	if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
		return printf("%s", usage) < 0;
	if (argc >= 2 && strcmp(argv[1], "sort") == 0)
		return sort(argc - 1, argv + 1);
	if (argc == 1 || argv[1][0] == '-') /* the first thing to show */
		return sort(argc, argv);
	return bad_usage("what shall it show?  sort");
}
