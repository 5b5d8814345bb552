/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_bench.c: bench, a simple generator of puts and gets for people.  It runs in a job of its
 * own, so that it leaves nothing behind. */
#include "cli/commands.h"
#include "cli/words.h"
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 128, COUNT_DEFAULT = 10000, SIZE_DEFAULT = 1024, DEPTH_DEFAULT = 16,
	COUNT_MAX = 10000000, KEYS_MAX = 4096 };
#define SIZE_MAX_BYTES (UINT64_C(1) << 30)

struct bench {
	struct cli *c;
	struct wadi *w;              /* acts for the job */
	uint64_t size, count, depth;
	uint8_t *data, *room[DEPTH_MAX];
	uint64_t *took_ns;           /* of each operation that has ended */
	size_t n_took;
};
struct flying { struct wadi_op *op; uint64_t began_ns; };

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Puts go round KEYS_MAX keys, so that the room needed is bounded. */
static int begin(struct bench *b, bool put, uint64_t i, uint64_t slot, struct flying *f)
{
	char key[32];

	snprintf(key, sizeof key, "bench-%llu",
		(unsigned long long)(i % (b->count < KEYS_MAX ? b->count : KEYS_MAX)));
	f->began_ns = os_now_ns();
	if (put)
		return wadi_put_start(b->w, NULL, key, b->data, b->size, NULL, &f->op);
	return wadi_get_start(b->w, NULL, key, b->room[slot], b->size, NULL, &f->op);
}

static int land(struct bench *b, struct flying *f)
{
	int rc;

	if (f->op == NULL)
		return 0;
	rc = wadi_op_wait(f->op);
	b->took_ns[b->n_took++] = os_now_ns() - f->began_ns;
	wadi_op_free(f->op);
	f->op = NULL;
	return rc;
}

static int run(struct bench *b, bool put)
{
	struct flying flying[DEPTH_MAX] = { 0 };
	int rc = 0, one;

	b->n_took = 0;
	for (uint64_t i = 0; i < b->count && rc == 0; i++) {
		rc = land(b, &flying[i % b->depth]);
		if (rc == 0)
			rc = begin(b, put, i, i % b->depth, &flying[i % b->depth]);
	}
	for (uint64_t i = 0; i < b->depth; i++) {
		one = land(b, &flying[i]);
		rc = rc < 0 ? rc : one;
	}
	return rc;
}

static void tell(struct bench *b, const char *what, uint64_t took_ns)
{
	double seconds = (double)took_ns / 1e9, rate = (double)b->n_took / seconds;
	uint64_t p50, p99, most;
	char size[WORDS_MAX], bps[WORDS_MAX], t50[WORDS_MAX], t99[WORDS_MAX], tmax[WORDS_MAX];

	qsort(b->took_ns, b->n_took, sizeof *b->took_ns, by_number);
	p50 = b->took_ns[b->n_took / 2];
	p99 = b->took_ns[b->n_took * 99 / 100];
	most = b->took_ns[b->n_took - 1];
	if (b->c->json)
		out_json(json_pack("{s:s, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f}", "name", what,
			"size", (json_int_t)b->size, "count", (json_int_t)b->n_took, "depth",
			(json_int_t)b->depth, "ops", rate, "bps", rate * (double)b->size,
			"p50_us", (double)p50 / 1e3, "p99_us", (double)p99 / 1e3, "max_us",
			(double)most / 1e3));
	else
		printf("%-4s %9s  %10.0f /s  %12s/s  p50 %s  p99 %s  max %s\n", what,
			words_put_size(b->size, size), rate,
			words_put_size((uint64_t)(rate * (double)b->size), bps),
			words_put_brief(p50, t50), words_put_brief(p99, t99),
			words_put_brief(most, tmax));
}

static bool phase(struct bench *b, bool put, bool shown)
{
	uint64_t began = os_now_ns();
	int rc = run(b, put);

	if (rc < 0)
		return cli_fail(b->c, put ? "put" : "get", rc, wadi_error(b->w), NULL);
	if (shown)
		tell(b, put ? "put" : "get", os_now_ns() - began);
	return true;
}

static bool rooms_make(struct bench *b)
{
	b->data = malloc(b->size + 1);
	b->took_ns = calloc(b->count, sizeof *b->took_ns);
	if (b->data == NULL || b->took_ns == NULL)
		return cli_fail(b->c, NULL, E_NOMEM, "buffers", NULL);
	for (uint64_t i = 0; i < b->size; i++)
		b->data[i] = (uint8_t)(i * 31 + (i >> 8));
	for (uint64_t i = 0; i < b->depth; i++) {
		b->room[i] = malloc(b->size + 1);
		if (b->room[i] == NULL)
			return cli_fail(b->c, NULL, E_NOMEM, "buffers", "--depth asks for fewer");
	}
	return true;
}

static void rooms_free(struct bench *b)
{
	free(b->data);
	free(b->took_ns);
	for (uint64_t i = 0; i < b->depth; i++)
		free(b->room[i]);
}

static void in_job(struct bench *b, bool put, bool get)
{
	struct wadi_connect_opts o = { .size = sizeof o, .name = "wadi bench",
		.timeout_ms = cli_timeout_ms(b->c) };
	struct wadi_note why;
	struct wadi_job job;
	int rc = wadi_job_register(b->c->w, "bench", NULL, &job);

	if (rc < 0) {
		cli_failed(b->c, "bench", rc);
		return;
	}
	o.token = job.token;
	rc = wadi_connect(b->c->a.text[O_url], &o, &b->w, &why);
	if (rc < 0)
		cli_fail(b->c, "bench", rc, why.text, NULL);
	else if (phase(b, true, put) && get)
		phase(b, false, true);
	wadi_close(b->w);
	rc = wadi_job_end(b->c->w, job.id, NULL);
	if (rc < 0)
		cli_failed(b->c, "ending the job", rc);
}

static uint64_t given(const struct cli *c, enum option_id o, uint64_t otherwise)
{
	return c->a.given[o] ? c->a.number[o] : otherwise;
}

void cmd_bench(struct cli *c)
{
	struct bench b = { .c = c, .size = given(c, O_size, SIZE_DEFAULT),
		.count = given(c, O_count, COUNT_DEFAULT),
		.depth = given(c, O_depth, DEPTH_DEFAULT) };
	const char *what = c->a.n_pos > 0 ? c->a.pos[0] : "both";
	bool put = strcmp(what, "get") != 0, get = strcmp(what, "put") != 0;

	if (put && get && strcmp(what, "both") != 0) {
		cli_fail(c, what, E_INVALID, "bench put, bench get, or bench both", NULL);
		return;
	}
	if (b.size > SIZE_MAX_BYTES || b.count == 0 || b.count > COUNT_MAX || b.depth == 0
	    || b.depth > DEPTH_MAX) {
		cli_fail(c, NULL, E_INVALID,
			"--size up to 1G, --count up to 10000000, --depth up to 128", NULL);
		return;
	}
	if (cli_connect(c, 0) && rooms_make(&b))
		in_job(&b, put, get);
	rooms_free(&b);
}
