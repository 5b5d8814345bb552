/* SPDX-License-Identifier: Apache-2.0 */
#include "demo/sort.h"
#include "base/check.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KEY_MAX = 64, WAIT_MS = 600000 };

bool sort_plan_make(struct sort_plan *ret_plan, const char *input, const char *output,
	uint64_t n_records, uint32_t n_workers)
{
	uint64_t n = (n_records * RECORD_BYTES + SORT_SPLIT_BYTES - 1) / SORT_SPLIT_BYTES;

	check(n_records > 0);
	check(n_workers > 0);
	if (n > SORT_MAPS_MAX)
		return false;
	if (n < SORT_TASKS_MIN)
		n = SORT_TASKS_MIN;
	*ret_plan = (struct sort_plan){ .input = input,
		.output = output,
		.n_records = n_records,
		.n_maps = (uint32_t)n,
		.n_parts = n < RECORD_PARTS_MAX ? (uint32_t)n : RECORD_PARTS_MAX,
		.n_workers = n_workers };
	return true;
}

uint64_t sort_map_first(const struct sort_plan *p, uint32_t map)
{
	return (uint64_t)((unsigned __int128)p->n_records * map / p->n_maps);
}

/* ---- one worker ---- */
struct worker {
	const struct sort_plan *plan;
	struct wadi *w;
	struct wadi_note *why;
	struct record_ranges ranges;
	int input, output;
	uint8_t *records, *scratch; /* room for the largest split or part */
	size_t cap;                 /* records each of them holds */
	struct sort_count count;
	size_t first[RECORD_PARTS_MAX + 1], at[RECORD_PARTS_MAX]; /* of each part in scratch */
	size_t n_from[SORT_MAPS_MAX]; /* records each map has for a part */
};

static int fail(struct worker *k, int rc, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int fail(struct worker *k, int rc, const char *fmt, ...)
{
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	vsnprintf(k->why->text, sizeof k->why->text, fmt, ap);
	va_end(ap);
	n = strlen(k->why->text);
	snprintf(k->why->text + n, sizeof k->why->text - n, ": %s",
		rc == WADI_E_IO && errno != 0 ? strerror(errno) : wadi_error(k->w));
	return rc;
}

static int room(struct worker *k, size_t n)
{
	if (n <= k->cap)
		return 0;
	free(k->records);
	free(k->scratch);
	k->records = malloc(n * RECORD_BYTES);
	k->scratch = malloc(n * RECORD_BYTES);
	k->cap = k->records != NULL && k->scratch != NULL ? n : 0;
	if (k->cap == 0) {
		errno = ENOMEM;
		return fail(k, WADI_E_IO, "room for %zu records", n);
	}
	return 0;
}

static int move_all(struct worker *k, int fd, bool out, uint8_t *p, size_t len, uint64_t at)
{
	while (len > 0) {
		ssize_t n = out ? pwrite(fd, p, len, (off_t)at) : pread(fd, p, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			errno = EIO; /* the file became shorter under us */
		if (n <= 0)
			return fail(k, WADI_E_IO, "%s", out ? k->plan->output : k->plan->input);
		p += n;
		len -= (size_t)n;
		at += (uint64_t)n;
	}
	return 0;
}

/* Groups the records of a split by part: a counting sort into scratch. */
static void partition(struct worker *k, size_t n)
{
	for (size_t i = 0; i < n; i++)
		k->count.n[record_part(&k->ranges, k->records + i * RECORD_BYTES)]++;
	k->first[0] = 0;
	for (uint32_t p = 0; p < k->plan->n_parts; p++)
		k->first[p + 1] = k->first[p] + k->count.n[p];
	memcpy(k->at, k->first, sizeof k->at);
	for (size_t i = 0; i < n; i++) {
		const uint8_t *r = k->records + i * RECORD_BYTES;

		memcpy(k->scratch + k->at[record_part(&k->ranges, r)]++ * RECORD_BYTES, r,
			RECORD_BYTES);
	}
}

static int map(struct worker *k, uint32_t m)
{
	const struct wadi_put_opts once = { .size = sizeof once, .flags = WADI_PUT_DELETE_ON_READ };
	uint64_t from = sort_map_first(k->plan, m);
	size_t n = (size_t)(sort_map_first(k->plan, m + 1) - from);
	struct record_check c;
	char key[KEY_MAX];
	int rc;

	if ((rc = room(k, n)) < 0)
		return rc;
	if ((rc = move_all(k, k->input, false, k->records, n * RECORD_BYTES, from * RECORD_BYTES)) <
		0)
		return rc;
	record_check_init(&c);
	record_check_add(&c, k->records, n);
	k->count = (struct sort_count){ .sum = c.total };
	partition(k, n);
	for (uint32_t p = 0; p < k->plan->n_parts; p++) {
		snprintf(key, sizeof key, "%u/%u", m, p);
		rc = wadi_put(k->w, NULL, key, k->scratch + k->first[p] * RECORD_BYTES,
			k->count.n[p] * RECORD_BYTES, &once, NULL);
		if (rc < 0)
			return fail(k, rc, "put %s", key);
	}
	snprintf(key, sizeof key, "count/%u", m);
	rc = wadi_put(k->w, NULL, key, &k->count, sizeof k->count, NULL, NULL);
	return rc < 0 ? fail(k, rc, "put %s", key) : 0;
}

/* Where part p begins in the output, and how many records each map has for it. */
static int locate(struct worker *k, uint32_t p, uint64_t *ret_first, size_t *ret_total)
{
	const struct wadi_get_opts wait = { .size = sizeof wait, .wait_ms = WAIT_MS };
	uint64_t first = 0;
	char key[KEY_MAX];
	size_t len, total = 0;
	int rc;

	for (uint32_t m = 0; m < k->plan->n_maps; m++) {
		snprintf(key, sizeof key, "count/%u", m);
		rc = wadi_get(k->w, NULL, key, &k->count, sizeof k->count, &wait, &len, NULL);
		if (rc < 0)
			return fail(k, rc, "get %s", key);
		check(len == sizeof k->count);
		k->n_from[m] = k->count.n[p];
		total += k->count.n[p];
		for (uint32_t q = 0; q < p; q++)
			first += k->count.n[q];
	}
	*ret_first = first;
	*ret_total = total;
	return 0;
}

static int reduce(struct worker *k, uint32_t p)
{
	const struct wadi_get_opts take = {
		.size = sizeof take, .wait_ms = WAIT_MS, .flags = WADI_GET_DELETE
	};
	size_t total = 0, at = 0, len;
	uint64_t first = 0;
	char key[KEY_MAX];
	int rc;

	if ((rc = locate(k, p, &first, &total)) < 0)
		return rc;
	if ((rc = room(k, total)) < 0)
		return rc;
	for (uint32_t m = 0; m < k->plan->n_maps; m++, at += len / RECORD_BYTES) {
		snprintf(key, sizeof key, "%u/%u", m, p);
		rc = wadi_get(k->w, NULL, key, k->records + at * RECORD_BYTES,
			(total - at) * RECORD_BYTES, &take, &len, NULL);
		if (rc < 0)
			return fail(k, rc, "get %s", key);
		check(len == k->n_from[m] * RECORD_BYTES);
	}
	record_sort(k->records, k->scratch, total);
	return move_all(k, k->output, true, k->records, total * RECORD_BYTES, first * RECORD_BYTES);
}

static int prepare(struct worker *k)
{
	size_t len;
	int rc;

	errno = 0;
	k->input = open(k->plan->input, O_RDONLY | O_CLOEXEC);
	if (k->input < 0)
		return fail(k, WADI_E_IO, "%s", k->plan->input);
	k->output = open(k->plan->output, O_WRONLY | O_CLOEXEC);
	if (k->output < 0)
		return fail(k, WADI_E_IO, "%s", k->plan->output);
	rc = wadi_get(k->w, NULL, "ranges", &k->ranges, sizeof k->ranges, NULL, &len, NULL);
	if (rc < 0)
		return fail(k, rc, "get ranges");
	check(len == sizeof k->ranges);
	check(k->ranges.n_parts == k->plan->n_parts);
	return 0;
}

int sort_work(const struct sort_plan *p, uint32_t worker, struct wadi *w, struct wadi_note *why)
{
	struct worker *k = calloc(1, sizeof *k);
	int rc;

	check(k != NULL);
	check(worker < p->n_workers);
	*k = (struct worker){ .plan = p, .w = w, .why = why, .input = -1, .output = -1 };
	rc = prepare(k);
	for (uint32_t m = worker; rc == 0 && m < p->n_maps; m += p->n_workers)
		rc = map(k, m);
	for (uint32_t r = worker; rc == 0 && r < p->n_parts; r += p->n_workers)
		rc = reduce(k, r);
	if (k->input >= 0)
		close(k->input);
	if (k->output >= 0 && close(k->output) < 0 && rc == 0)
		rc = fail(k, WADI_E_IO, "%s", p->output);
	free(k->records);
	free(k->scratch);
	free(k);
	return rc;
}
