/* SPDX-License-Identifier: Apache-2.0 */
/* wadi-bench-local: large objects through libwadi on the server's own host, in turns with what
 * this process can do alone: memcpy into warm memory, and reading private memory.  And the round
 * trips of small ones.
 *
 * Each round touches total bytes of sources and objects, so that neither side lives in the
 * cache. */
#include "base/check.h"
#include "bench/bench.h"
#include "wadi.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ROUNDS_MAX = 64 };

struct local {
	struct wadi *w;
	size_t bytes, n;         /* of an object; objects */
	uint8_t *from, *to;      /* private memory: n * bytes each */
	double ours[ROUNDS_MAX], peer[ROUNDS_MAX];
	uint64_t sum;            /* of what was read, so that it is read */
};

static uint8_t *warm(size_t len, uint64_t seed)
{
	uint8_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	check(p != MAP_FAILED);
	madvise(p, len, MADV_HUGEPAGE);
	fill_random(seed, p, len);
	return p;
}

/* Four sums side by side: as fast as memory delivers. */
static uint64_t read_once(const void *from, size_t len)
{
	const uint64_t *p = from;
	uint64_t a = 0, b = 0, c = 0, d = 0;

	for (size_t i = 0; i + 4 <= len / 8; i += 4) {
		a += p[i];
		b += p[i + 1];
		c += p[i + 2];
		d += p[i + 3];
	}
	return a + b + c + d;
}

static int failed(struct local *l, const char *what)
{
	fprintf(stderr, "wadi-bench: %s: %s\n", what, wadi_error(l->w));
	return -1;
}

static void name_of(size_t i, char to[32])
{
	snprintf(to, 32, "local-%zu", i);
}

static int put_all(struct local *l)
{
	char key[32];

	for (size_t i = 0; i < l->n; i++) {
		name_of(i, key);
		if (wadi_put(l->w, "bench", key, l->from + i * l->bytes, l->bytes, NULL, NULL) < 0)
			return failed(l, "put");
	}
	return 0;
}

static int get_all(struct local *l)
{
	struct wadi_view *v;
	const struct wadi_part *parts;
	size_t n_parts;
	char key[32];

	for (size_t i = 0; i < l->n; i++) {
		name_of(i, key);
		if (wadi_get_view(l->w, "bench", key, NULL, &v) < 0)
			return failed(l, "get");
		if (!wadi_view_shared(v) || wadi_view_len(v) != l->bytes) {
			fprintf(stderr, "wadi-bench: the view is not shared memory\n");
			return -1;
		}
		parts = wadi_view_parts(v, &n_parts);
		for (size_t k = 0; k < n_parts; k++)
			l->sum += read_once(parts[k].data, parts[k].len);
		wadi_view_close(v);
	}
	return 0;
}

static int peer_all(struct local *l, bool put)
{
	for (size_t i = 0; i < l->n; i++)
		if (put)
			memcpy(l->to + i * l->bytes, l->from + i * l->bytes, l->bytes);
		else
			l->sum += read_once(l->from + i * l->bytes, l->bytes);
	return 0;
}

static int rounds(struct local *l, bool put, int n)
{
	double moved = (double)l->bytes * (double)l->n;

	for (int r = -1; r < n; r++) { /* one before the first: arenas are mapped and faulted in */
		uint64_t t0 = now_ns(), t1, t2;

		if ((put ? put_all(l) : get_all(l)) < 0)
			return -1;
		t1 = now_ns();
		peer_all(l, put);
		t2 = now_ns();
		if (r >= 0) {
			l->ours[r] = moved / (double)(t1 - t0);
			l->peer[r] = moved / (double)(t2 - t1);
		}
	}
	return 0;
}

static void print_list(const char *name, const double *v, int n, const char *end)
{
	printf("%s\": [", name);
	for (int i = 0; i < n; i++)
		printf("%s%.6f", i > 0 ? ", " : "", v[i]);
	printf("]%s", end);
}

static int connect_to(const char *url, struct wadi **ret_w)
{
	struct wadi_bucket_opts bucket = { .size = sizeof bucket, .exists_ok = 1 };
	struct wadi_note why;

	if (wadi_connect(url, NULL, ret_w, &why) < 0) {
		fprintf(stderr, "wadi-bench: %s\n", why.text);
		return -1;
	}
	if (wadi_bucket_create(*ret_w, "bench", &bucket, NULL) < 0) {
		fprintf(stderr, "wadi-bench: %s\n", wadi_error(*ret_w));
		wadi_close(*ret_w);
		return -1;
	}
	return 0;
}

static int local_main(const char *what, const char *url, uint64_t bytes, uint64_t total,
	int n_rounds)
{
	bool put = strcmp(what, "put") == 0;
	struct local l = { .bytes = bytes, .n = (total + bytes - 1) / bytes };
	int rc;

	if (n_rounds < 1 || n_rounds > ROUNDS_MAX || connect_to(url, &l.w) < 0)
		return 1;
	l.from = warm(l.n * l.bytes, 1);
	l.to = warm(l.n * l.bytes, 2);
	rc = put ? 0 : put_all(&l);
	rc = rc < 0 ? rc : rounds(&l, put, n_rounds);
	if (rc == 0) {
		print_list("{\"ours", l.ours, n_rounds, ", ");
		print_list("\"peer", l.peer, n_rounds, "}\n");
	}
	munmap(l.from, l.n * l.bytes);
	munmap(l.to, l.n * l.bytes);
	wadi_close(l.w);
	return rc == 0 && l.sum != 1 ? 0 : 1;
}

/* Requests of one operation, the connection and the bucket being there. */
static int trips_main(const char *what, const char *url, uint64_t bytes)
{
	uint64_t before, after, store_before, store_after;
	bool put = strcmp(what, "put") == 0;
	static char buf[64 << 10];
	struct wadi *w;
	size_t len;
	int rc;

	if (bytes > sizeof buf || connect_to(url, &w) < 0)
		return 1;
	rc = wadi_put(w, "bench", "trips", buf, bytes, NULL, NULL);
	wadi_round_trips(w, &before, &store_before);
	if (rc == 0)
		rc = put ? wadi_put(w, "bench", "trips", buf, bytes, NULL, NULL) :
			wadi_get(w, "bench", "trips", buf, sizeof buf, NULL, &len, NULL);
	wadi_round_trips(w, &after, &store_after);
	if (rc < 0)
		fprintf(stderr, "wadi-bench: %s: %s\n", what, wadi_error(w));
	else
		printf("{\"trips\": %llu}\n",
			(unsigned long long)(after - before + store_after - store_before));
	wadi_close(w);
	return rc < 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
	if (argc == 6 && strcmp(argv[1], "trips") != 0)
		return local_main(argv[1], argv[2], strtoull(argv[3], NULL, 10),
			strtoull(argv[4], NULL, 10), (int)strtol(argv[5], NULL, 10));
	if (argc == 5 && strcmp(argv[1], "trips") == 0)
		return trips_main(argv[2], argv[3], strtoull(argv[4], NULL, 10));
	fputs("usage: wadi-bench-local put|get URL BYTES TOTAL ROUNDS\n"
	      "       wadi-bench-local trips put|get URL BYTES\n", stderr);
	return 2;
}
