/* SPDX-License-Identifier: Apache-2.0 */
/* The C interface against a real server (with_server.py starts it): whole, piecewise, asynchronous
 * and many at once give the same bytes; options of older and newer callers are understood; whatever
 * is left under way ends cleanly. */
#include "wadi.h"
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static struct wadi *w;               /* acts for no job */
static struct wadi *j;               /* acts for a job: its own bucket is in memory */
static struct wadi_job job;

static const size_t sizes[] = { 0, 1, 4096, 4097, 65536, 1 << 20, (40 << 20) + 3 };
enum { SIZES = sizeof sizes / sizeof sizes[0] };

static int setup(void **state)
{
	struct wadi_connect_opts o = { .size = sizeof o, .name = "library-test" };
	struct wadi_note why;

	if (wadi_connect(NULL, NULL, &w, &why) < 0) {
		fprintf(stderr, "%s\n", why.text);
		return -1;
	}
	if (wadi_job_register(w, "library-test", NULL, &job) < 0)
		return -1;
	o.token = job.token;
	return wadi_connect(NULL, &o, &j, &why);
}

static int teardown(void **state)
{
	struct wadi_job_end end;
	int rc;

	wadi_close(j);
	rc = wadi_job_end(w, job.id, &end);
	wadi_close(w);
	return rc;
}

static uint8_t *bytes_new(size_t len, uint32_t seed)
{
	uint8_t *p = malloc(len + 1);

	assert_non_null(p);
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)((i * 2654435761u + seed) >> 11);
	return p;
}

static void ok(int rc)
{
	if (rc < 0)
		fail_msg("%s: %s", wadi_error_name(rc), wadi_error(j));
}

/* ---- whole ---- */
static void test_put_get(void **state)
{
	for (unsigned i = 0; i < SIZES; i++) {
		uint8_t *in = bytes_new(sizes[i], i), *out = malloc(sizes[i] + 1);
		struct wadi_info put, got;
		size_t len = 99;

		ok(wadi_put(j, NULL, "whole", in, sizes[i], NULL, &put));
		assert_int_equal(put.size, sizes[i]);
		ok(wadi_get(j, NULL, "whole", out, sizes[i], NULL, &len, &got));
		assert_int_equal(len, sizes[i]);
		assert_memory_equal(in, out, len);
		assert_int_equal(got.version, put.version);
		if (len > 0)
			assert_int_equal(wadi_get(j, NULL, "whole", out, len - 1, NULL, &len, NULL),
				WADI_E_TOOBIG);
		free(in);
		free(out);
	}
}

static void test_ranges(void **state)
{
	size_t size = (20 << 20) + 77, len;
	uint8_t *in = bytes_new(size, 5), *out = malloc(size);
	struct wadi_get_opts o = { .size = sizeof o };
	static const uint64_t at[][2] = { { 0, 1 }, { 4095, 2 }, { 16777215, 2 }, { 100, 20000000 },
		{ 16 << 20, 4096 }, { 20971596, 1000 }, { 20971597, 5 }, { 1ull << 40, 1 } };

	ok(wadi_put(j, NULL, "ranges", in, size, NULL, NULL));
	for (unsigned i = 0; i < sizeof at / sizeof at[0]; i++) {
		size_t want = at[i][0] >= size ? 0 : size - at[i][0] < at[i][1]
			? size - at[i][0] : at[i][1];

		o.offset = at[i][0];
		o.len = at[i][1];
		ok(wadi_get(j, NULL, "ranges", out, size, &o, &len, NULL));
		assert_int_equal(len, want);
		assert_memory_equal(out, in + (want > 0 ? at[i][0] : 0), len);
	}
	free(in);
	free(out);
}

/* ---- views ---- */
static void test_views(void **state)
{
	for (unsigned i = 0; i < SIZES; i++) {
		uint8_t *in = bytes_new(sizes[i], i);
		const struct wadi_part *parts;
		struct wadi_view *v;
		struct wadi_info info;
		size_t n, at = 0;

		ok(wadi_put(j, NULL, "view", in, sizes[i], NULL, NULL));
		ok(wadi_get_view(j, NULL, "view", NULL, &v));
		/* From memory on this host nothing is copied. */
		assert_int_equal(wadi_view_shared(v), sizes[i] > 4096);
		assert_int_equal(wadi_view_len(v), sizes[i]);
		wadi_view_info(v, &info);
		assert_int_equal(info.size, sizes[i]);
		/* It stays when the object goes and its room is wanted. */
		ok(wadi_delete(j, NULL, "view", NULL));
		ok(wadi_put(j, NULL, "other", in, sizes[i] / 2, NULL, NULL));
		parts = wadi_view_parts(v, &n);
		for (size_t p = 0; p < n; p++) {
			assert_memory_equal(parts[p].data, in + at, parts[p].len);
			at += parts[p].len;
		}
		assert_int_equal(at, sizes[i]);
		assert_true((wadi_view_data(v) != NULL) == (n == 1));
		assert_int_equal(wadi_view_check(v), 0);
		wadi_view_close(v);
		free(in);
	}
}

/* ---- piece by piece ---- */
static void test_pieces(void **state)
{
	static const size_t steps[] = { 1000, 4096, 300000, 5 << 20 };
	size_t size = (9 << 20) + 11;
	uint8_t *in = bytes_new(size, 9), *out = malloc(size);

	for (unsigned s = 0; s < sizeof steps / sizeof steps[0]; s++) {
		struct wadi_writer *wr;
		struct wadi_reader *rd;
		struct wadi_info info;
		int64_t n;
		size_t at;

		ok(wadi_writer_open(j, NULL, "pieces", NULL, &wr));
		for (at = 0; at < size; at += steps[s])
			ok(wadi_write(wr, in + at, size - at < steps[s] ? size - at : steps[s]));
		assert_int_equal(wadi_stat(j, NULL, "pieces", NULL, &info), WADI_E_NOTFOUND);
		ok(wadi_writer_close(wr, &info));
		assert_int_equal(info.size, size);
		ok(wadi_reader_open(j, NULL, "pieces", NULL, &rd, NULL));
		memset(out, 0, size);
		for (at = 0; (n = wadi_read(rd, out + at, steps[s])) > 0; at += (size_t)n)
			;
		assert_int_equal(n, 0);
		assert_int_equal(at, size);
		assert_memory_equal(in, out, size);
		assert_int_equal(wadi_pread(rd, out, 100, size - 50), 50);
		assert_memory_equal(out, in + size - 50, 50);
		ok(wadi_reader_close(rd));
		ok(wadi_delete(j, NULL, "pieces", NULL));
	}
	free(in);
	free(out);
}

static void test_abort(void **state)
{
	uint8_t *in = bytes_new(9 << 20, 1);
	struct wadi_writer *wr;
	struct wadi_reader *rd;
	struct wadi_get_opts o = { .size = sizeof o, .flags = WADI_GET_DELETE };

	ok(wadi_writer_open(j, NULL, "abort", NULL, &wr));
	ok(wadi_write(wr, in, 9 << 20));
	wadi_writer_abort(wr);
	assert_int_equal(wadi_stat(j, NULL, "abort", NULL, NULL), WADI_E_NOTFOUND);
	/* A reader that is given up deletes nothing; one that is not read to its end neither. */
	ok(wadi_put(j, NULL, "abort", in, 100000, NULL, NULL));
	ok(wadi_reader_open(j, NULL, "abort", &o, &rd, NULL));
	wadi_reader_abort(rd);
	ok(wadi_reader_open(j, NULL, "abort", &o, &rd, NULL));
	assert_int_equal(wadi_read(rd, in, 10), 10);
	ok(wadi_reader_close(rd));
	ok(wadi_stat(j, NULL, "abort", NULL, NULL));
	ok(wadi_reader_open(j, NULL, "abort", &o, &rd, NULL));
	assert_int_equal(wadi_read(rd, in, 200000), 100000);
	ok(wadi_reader_close(rd));
	assert_int_equal(wadi_stat(j, NULL, "abort", NULL, NULL), WADI_E_NOTFOUND);
	free(in);
}

static void test_descriptors(void **state)
{
	FILE *from = tmpfile(), *to = tmpfile();
	uint8_t *in = bytes_new(6 << 20, 3), *out = malloc(6 << 20);
	struct wadi_info info;
	uint64_t len;

	fwrite(in, 1, 6 << 20, from);
	rewind(from);
	ok(wadi_put_fd(j, NULL, "fd", fileno(from), WADI_TO_EOF, NULL, &info));
	assert_int_equal(info.size, 6 << 20);
	ok(wadi_get_fd(j, NULL, "fd", fileno(to), NULL, &len, NULL));
	assert_int_equal(len, 6 << 20);
	rewind(to);
	assert_int_equal(fread(out, 1, 6 << 20, to), 6 << 20);
	assert_memory_equal(in, out, 6 << 20);
	rewind(from);
	assert_int_equal(wadi_put_fd(j, NULL, "short", fileno(from), (6 << 20) + 1, NULL, NULL),
		WADI_E_INVALID);
	assert_int_equal(wadi_stat(j, NULL, "short", NULL, NULL), WADI_E_NOTFOUND);
	fclose(from);
	fclose(to);
	free(in);
	free(out);
}

/* ---- asynchronous ---- */
/* As a program with a loop of its own would. */
static void turn(void)
{
	struct pollfd p = { .fd = -1 };

	p.fd = wadi_poll_fd(j, &p.events);
	poll(&p, 1, wadi_poll_timeout_ms(j));
	wadi_advance(j);
}

static void test_operations(void **state)
{
	enum { OPS = 100 };
	static uint8_t in[OPS][5000], out[OPS][5000];
	struct wadi_op *ops[OPS], *op;
	unsigned done = 0;
	char key[16];

	for (unsigned i = 0; i < OPS; i++) {
		memset(in[i], (int)i, sizeof in[i]);
		snprintf(key, sizeof key, "op-%u", i);
		ok(wadi_put_start(j, NULL, key, in[i], i * 50, NULL, &ops[i]));
		wadi_op_set_user(ops[i], in[i]);
	}
	assert_int_equal(wadi_op_result(ops[0]), WADI_E_BUSY);
	while (done < OPS) {
		turn();
		while ((op = wadi_next_done(j)) != NULL) {
			assert_true(wadi_op_done(op));
			ok(wadi_op_result(op));
			assert_true((uint8_t *)wadi_op_user(op) >= in[0]);
			wadi_op_free(op);
			done++;
		}
	}
	for (unsigned i = 0; i < OPS; i++) {
		snprintf(key, sizeof key, "op-%u", i);
		ok(wadi_get_start(j, NULL, key, out[i], sizeof out[i], NULL, &ops[i]));
	}
	/* A synchronous call meanwhile moves the others on. */
	ok(wadi_stat(j, NULL, "op-0", NULL, NULL));
	for (unsigned i = OPS; i-- > 0;) {
		ok(wadi_op_wait(ops[i]));
		assert_int_equal(wadi_op_bytes(ops[i]), i * 50);
		assert_memory_equal(in[i], out[i], i * 50);
		wadi_op_free(ops[i]);
	}
	assert_null(wadi_next_done(j));
}

static void test_stream_operations(void **state)
{
	uint8_t *in = bytes_new(9 << 20, 4), *out = malloc(9 << 20);
	struct wadi_writer *wr;
	struct wadi_reader *rd;
	struct wadi_op *op;

	ok(wadi_writer_open(j, NULL, "stream", NULL, &wr));
	ok(wadi_write_start(wr, in, 9 << 20, &op));
	while (!wadi_op_done(op))
		turn();
	ok(wadi_op_result(op));
	wadi_op_free(op);
	ok(wadi_writer_close(wr, NULL));
	ok(wadi_reader_open(j, NULL, "stream", NULL, &rd, NULL));
	ok(wadi_read_start(rd, out, 9 << 20, &op));
	while (!wadi_op_done(op))
		turn();
	assert_int_equal(wadi_op_bytes(op), 9 << 20);
	wadi_op_free(op);
	assert_memory_equal(in, out, 9 << 20);
	assert_int_equal(wadi_read(rd, out, 10), 0);
	ok(wadi_reader_close(rd));
	free(in);
	free(out);
}

static void test_view_operation(void **state)
{
	uint8_t *in = bytes_new(100000, 4);
	struct wadi_view *v;
	struct wadi_op *op;

	ok(wadi_put(j, NULL, "v", in, 100000, NULL, NULL));
	ok(wadi_get_view_start(j, NULL, "v", NULL, &op));
	assert_null(wadi_op_take_view(op));
	ok(wadi_op_wait(op));
	v = wadi_op_take_view(op);
	assert_non_null(v);
	assert_null(wadi_op_take_view(op));
	wadi_op_free(op);
	assert_memory_equal(wadi_view_data(v), in, 100000);
	wadi_view_close(v);
	/* One that nobody takes is closed with its operation. */
	ok(wadi_get_view_start(j, NULL, "v", NULL, &op));
	ok(wadi_op_wait(op));
	wadi_op_free(op);
	free(in);
}

static void test_cancel(void **state)
{
	struct wadi_get_opts o = { .size = sizeof o, .wait_ms = 3600000 };
	struct wadi_op *op, *other;
	uint8_t buf[10];

	ok(wadi_get_start(j, NULL, "never", buf, sizeof buf, &o, &op));
	ok(wadi_get_start(j, NULL, "never", buf, sizeof buf, &o, &other));
	for (int i = 0; i < 5; i++)
		wadi_advance(j);
	assert_false(wadi_op_done(op));
	wadi_op_cancel(op);
	assert_int_equal(wadi_op_wait(op), WADI_E_CANCELED);
	assert_true(wadi_op_error(op)[0] != '\0');
	wadi_op_free(op);
	wadi_op_free(other); /* under way: canceled and waited for */
	ok(wadi_get_start(j, NULL, "never", buf, sizeof buf, &o, &op));
	wadi_op_cancel(op); /* before it began */
	assert_int_equal(wadi_op_wait(op), WADI_E_CANCELED);
	wadi_op_free(op);
}

static void test_close_with_work_under_way(void **state)
{
	struct wadi_connect_opts o = { .size = sizeof o, .token = job.token };
	struct wadi_get_opts g = { .size = sizeof g, .wait_ms = 3600000 };
	uint8_t *in = bytes_new(30 << 20, 1), buf[10];
	struct wadi *c;
	struct wadi_op *op;

	for (int turns = 0; turns < 12; turns += 3) {
		assert_int_equal(wadi_connect(NULL, &o, &c, NULL), 0);
		assert_int_equal(wadi_job_id(c), job.id);
		ok(wadi_put_start(c, NULL, "cut", in, 30 << 20, NULL, &op));
		ok(wadi_get_start(c, NULL, "never", buf, sizeof buf, &g, &op));
		ok(wadi_get_view_start(c, NULL, "whole", NULL, &op));
		for (int i = 0; i < turns; i++)
			wadi_advance(c);
		wadi_close(c);
	}
	free(in);
}

/* ---- many ---- */
static void test_many(void **state)
{
	enum { ITEMS = 500 };
	static struct wadi_item items[ITEMS];
	static char keys[ITEMS][16];
	static uint8_t out[ITEMS][8192];
	uint64_t before, after;
	uint8_t *in = bytes_new(8192, 7);

	for (unsigned i = 0; i < ITEMS; i++) {
		snprintf(keys[i], sizeof keys[i], "many-%u", i);
		items[i] = (struct wadi_item){ .key = keys[i], .data = in + i,
			.len = i % 50 == 0 ? 7000 : i };
	}
	wadi_round_trips(j, &before, NULL);
	ok(wadi_put_many(j, items, ITEMS, NULL));
	wadi_round_trips(j, &after, NULL);
	assert_true(after - before >= ITEMS);
	for (unsigned i = 0; i < ITEMS; i++) {
		assert_int_equal(items[i].result, 0);
		items[i].data = out[i];
		items[i].len = sizeof out[i];
	}
	items[3].key = "not there";
	items[7].len = 2;
	assert_int_equal(wadi_get_many(j, items, ITEMS, NULL), WADI_E_NOTFOUND);
	assert_non_null(strstr(wadi_error(j), "not there"));
	assert_int_equal(items[3].result, WADI_E_NOTFOUND);
	assert_int_equal(items[7].result, WADI_E_TOOBIG);
	for (unsigned i = 10; i < ITEMS; i++) {
		assert_int_equal(items[i].len, i % 50 == 0 ? 7000 : i);
		assert_memory_equal(out[i], in + i, items[i].len);
	}
	ok(wadi_put_many(j, items, 0, NULL));
	free(in);
}

/* Put and get of what is small take one request each. */
static void test_round_trips(void **state)
{
	uint64_t meta, store, m, s;
	static uint8_t buf[4096] = "x";
	size_t len;

	ok(wadi_put(j, NULL, "one", buf, sizeof buf, NULL, NULL));
	wadi_round_trips(j, &meta, &store);
	ok(wadi_put(j, NULL, "one", buf, sizeof buf, NULL, NULL));
	wadi_round_trips(j, &m, &s);
	assert_int_equal(m - meta, 1);
	ok(wadi_get(j, NULL, "one", buf, sizeof buf, NULL, &len, NULL));
	wadi_round_trips(j, &m, &s);
	assert_int_equal(m - meta, 2);
	assert_int_equal(s, store);
}

/* ---- listing ---- */
static void test_listing(void **state)
{
	struct wadi_list_opts o = { .size = sizeof o, .max = 7 };
	struct wadi_bucket_opts bo = { .size = sizeof bo };
	struct wadi_entry e;
	struct wadi_list *l;
	char key[32], last[32] = "", cursor[64] = "";
	unsigned n = 0;
	int rc;

	ok(wadi_bucket_create(j, "listed", &bo, NULL));
	for (unsigned i = 0; i < 50; i++) {
		snprintf(key, sizeof key, "%c/%02u", 'a' + (int)(i % 3), i);
		ok(wadi_put(j, "listed", key, key, strlen(key), NULL, NULL));
	}
	ok(wadi_list_open(j, "listed", &o, &l));
	while ((rc = wadi_list_next(l, &e)) > 0) {
		assert_true(strcmp(last, e.name) < 0);
		snprintf(last, sizeof last, "%s", e.name);
		assert_int_equal(e.size, 4);
		if (++n == 20)
			snprintf(cursor, sizeof cursor, "%s", wadi_list_cursor(l));
	}
	assert_int_equal(rc, 0);
	assert_int_equal(wadi_list_next(l, &e), 0);
	assert_int_equal(n, 50);
	wadi_list_close(l);
	o.after = cursor;
	ok(wadi_list_open(j, "listed", &o, &l));
	for (n = 0; wadi_list_next(l, &e) > 0; n++)
		;
	assert_int_equal(n, 30);
	wadi_list_close(l);
	o = (struct wadi_list_opts){ .size = sizeof o, .delimiter = '/', .max = 1 };
	ok(wadi_list_open(j, "listed", &o, &l));
	for (n = 0; wadi_list_next(l, &e) > 0; n++)
		assert_int_equal(e.kind, WADI_PREFIX);
	assert_int_equal(n, 3);
	wadi_list_close(l);
	ok(wadi_bucket_drop(j, "listed"));
}

/* ---- options and errors ---- */
static void test_options(void **state)
{
	struct { struct wadi_put_opts o; uint64_t future; } newer = { { .size = sizeof newer }, 0 };
	struct { size_t size; uint32_t flags; } older = { sizeof older, WADI_PUT_IF_ABSENT };
	struct wadi_put_opts none = { 0 };

	ok(wadi_put(j, NULL, "options", "1", 1, &newer.o, NULL));
	newer.future = 7;
	assert_int_equal(wadi_put(j, NULL, "options", "1", 1, &newer.o, NULL), WADI_E_UNSUPPORTED);
	assert_int_equal(wadi_put(j, NULL, "options", "1", 1, (void *)&older, NULL),
		WADI_E_EXISTS);
	assert_int_equal(wadi_put(j, NULL, "options", "1", 1, &none, NULL), WADI_E_INVALID);
	assert_true(wadi_error(j)[0] != '\0');
}

static void test_errors(void **state)
{
	struct wadi_put_opts o = { .size = sizeof o, .flags = WADI_PUT_IF_VERSION };
	struct wadi_info info;
	struct wadi_note why;
	static char key[1026];
	struct wadi *c;
	size_t len;

	memset(key, 'k', 1025);
	key[1025] = '\0';
	assert_int_equal(wadi_put(j, NULL, key, "", 0, NULL, NULL), WADI_E_TOOBIG);
	assert_int_equal(wadi_put(j, NULL, "", "", 0, NULL, NULL), WADI_E_INVALID);
	assert_int_equal(wadi_put(j, NULL, NULL, "", 0, NULL, NULL), WADI_E_INVALID);
	assert_int_equal(wadi_put(j, "a/b", "k", "", 0, NULL, NULL), WADI_E_INVALID);
	assert_int_equal(wadi_put(w, NULL, "k", "", 0, NULL, NULL), WADI_E_INVALID);
	assert_int_equal(wadi_put(j, "nobody", "k", "", 0, NULL, NULL), WADI_E_NOTFOUND);
	assert_int_equal(wadi_put(j, NULL, "\xff\xfe", "", 0, NULL, NULL), WADI_E_INVALID);
	assert_int_equal(wadi_get(j, NULL, "none", key, 1, NULL, &len, NULL), WADI_E_NOTFOUND);
	ok(wadi_put(j, NULL, "k", "1", 1, NULL, &info));
	o.if_version = info.version + 1;
	assert_int_equal(wadi_put(j, NULL, "k", "2", 1, &o, NULL), WADI_E_CONFLICT);
	o.if_version = info.version;
	ok(wadi_put(j, NULL, "k", "2", 1, &o, NULL));
	assert_int_equal(wadi_rename(j, NULL, "k", "other", "k", NULL), WADI_E_CROSS);
	assert_int_equal(wadi_connect("gopher://x", NULL, &c, &why), WADI_E_INVALID);
	assert_int_equal(wadi_connect("unix:/nowhere", NULL, &c, &why), WADI_E_UNREACH);
	assert_true(why.text[0] != '\0');
	assert_string_equal(wadi_error_name(WADI_E_FULL), "FULL");
	assert_string_equal(wadi_version(), WADI_EXPECTED_VERSION);
	wadi_close(NULL);
	wadi_op_free(NULL);
	wadi_view_close(NULL);
	wadi_list_close(NULL);
	wadi_writer_abort(NULL);
}

/* A get waits for the key, large or small, and no longer than it was told to. */
static void test_waiting_get(void **state)
{
	struct wadi_connect_opts o = { .size = sizeof o, .token = job.token };
	struct wadi_get_opts g = { .size = sizeof g, .wait_ms = 50 };
	size_t size = 5 << 20, len;
	uint8_t *in = bytes_new(size, 77), *out = malloc(size);
	struct wadi_op *op;
	struct wadi *c;

	assert_int_equal(wadi_get(j, NULL, "awaited", out, size, &g, &len, NULL),
		WADI_E_TIMEOUT);
	assert_int_equal(wadi_connect(NULL, &o, &c, NULL), 0);
	g.wait_ms = 3600000;
	for (size_t n = 3; n <= size; n += size - 3) {
		ok(wadi_get_start(j, NULL, "awaited", out, size, &g, &op));
		for (int i = 0; i < 10; i++)
			wadi_advance(j);
		assert_false(wadi_op_done(op));
		ok(wadi_put(c, NULL, "awaited", in, n, NULL, NULL));
		ok(wadi_op_wait(op));
		assert_int_equal(wadi_op_bytes(op), n);
		assert_memory_equal(in, out, n);
		wadi_op_free(op);
		ok(wadi_delete(c, NULL, "awaited", NULL));
	}
	wadi_close(c);
	free(in);
	free(out);
}

/* What persists is copied out of memory, byte for byte, and is the same object under its key. */
static void test_persist(void **state)
{
	for (unsigned i = 0; i < SIZES; i++) {
		uint8_t *in = bytes_new(sizes[i], i + 40), *out = malloc(sizes[i] + 1);
		struct wadi_info info;
		size_t len;

		ok(wadi_put(j, NULL, "kept", in, sizes[i], NULL, NULL));
		ok(wadi_stat(j, NULL, "kept", NULL, &info));
		assert_false(info.flags & WADI_PUT_PERSIST);
		ok(wadi_persist(j, NULL, "kept", NULL));
		ok(wadi_stat(j, NULL, "kept", NULL, &info));
		assert_true(info.flags & WADI_PUT_PERSIST);
		assert_int_equal(info.size, sizes[i]);
		assert_false(info.tiers & WADI_TIER(WADI_DRAM));
		assert_int_equal(info.tiers != 0, sizes[i] > 4096);
		ok(wadi_get(j, NULL, "kept", out, sizes[i], NULL, &len, NULL));
		assert_int_equal(len, sizes[i]);
		assert_memory_equal(in, out, len);
		ok(wadi_persist(j, NULL, "kept", NULL)); /* it does already */
		free(in);
		free(out);
	}
	ok(wadi_delete(j, NULL, "kept", NULL));
	assert_int_equal(wadi_persist(j, NULL, "kept", NULL), WADI_E_NOTFOUND);
}

/* A bucket that somebody else dropped and made again is found again by its name. */
static void test_bucket_that_was_made_again(void **state)
{
	size_t len;
	char buf[8];

	ok(wadi_bucket_create(j, "again", NULL, NULL));
	ok(wadi_put(j, "again", "k", "old", 3, NULL, NULL));
	assert_int_equal(wadi_bucket_drop(w, "again"), WADI_E_NOTFOUND); /* it is the job's */
	for (int round = 0; round < 3; round++) {
		struct wadi_connect_opts o = { .size = sizeof o, .token = job.token };
		struct wadi *c;

		assert_int_equal(wadi_connect(NULL, &o, &c, NULL), 0);
		ok(wadi_bucket_drop(c, "again"));
		ok(wadi_bucket_create(c, "again", NULL, NULL));
		wadi_close(c);
		assert_int_equal(wadi_get(j, "again", "k", buf, 8, NULL, &len, NULL),
			WADI_E_NOTFOUND);
		ok(wadi_put(j, "again", "k", "new", 3, NULL, NULL));
		ok(wadi_get(j, "again", "k", buf, 8, NULL, &len, NULL));
		assert_memory_equal(buf, "new", 3);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put_get), cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_views), cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_abort), cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_operations), cmocka_unit_test(test_stream_operations),
		cmocka_unit_test(test_view_operation), cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_close_with_work_under_way), cmocka_unit_test(test_many),
		cmocka_unit_test(test_round_trips), cmocka_unit_test(test_listing),
		cmocka_unit_test(test_options), cmocka_unit_test(test_errors),
		cmocka_unit_test(test_waiting_get), cmocka_unit_test(test_persist),
		cmocka_unit_test(test_bucket_that_was_made_again),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
