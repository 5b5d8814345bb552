/* SPDX-License-Identifier: Apache-2.0 */
/* api_stream.c: objects piece by piece, and to and from descriptors. */
#include "base/check.h"
#include "client/api.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FD_PIECE_BYTES = 4 << 20 };

struct wadi_writer {
	struct wadi *w;
	struct upload *u;
	uint32_t timeout_ms;
};
struct wadi_reader {
	struct wadi *w;
	struct download *d;
	struct wadi_info info;
	uint32_t timeout_ms;
	uint64_t offset, end;        /* of what wadi_read() still gives */
};

/* ---- writing ---- */
PARKS static int writer_open_run(struct wadi_op *op, struct err_note *note)
{
	struct wadi_writer *wr = op->arg;

	return upload_new(op->w->c, op->bucket, op->key, &op->o.put, op->until_ns, &wr->u, note);
}

int wadi_writer_open(struct wadi *w, const char *bucket, const char *key,
	const struct wadi_put_opts *opts, struct wadi_writer **ret_wr)
{
	struct wadi_op op = { .w = w, .run = writer_open_run, .bucket = bucket, .key = key };
	struct wadi_writer *wr;
	int rc = opts_take(w, &op.o.put, sizeof op.o.put, opts);

	if (rc < 0)
		return rc;
	wr = calloc(1, sizeof *wr);
	if (wr == NULL)
		return fail(w, E_NOMEM, "a writer");
	wr->w = w;
	wr->timeout_ms = op.o.put.timeout_ms;
	op.arg = wr;
	op.until_ns = op_until(w, wr->timeout_ms, 0);
	rc = op_sync(&op);
	if (rc < 0)
		free(wr);
	else
		*ret_wr = wr;
	return rc;
}

PARKS static int write_run(struct wadi_op *op, struct err_note *note)
{
	struct wadi_writer *wr = op->arg;
	int rc = upload_write(wr->u, bytes_of(op->data, op->len), op->until_ns, note);

	if (rc == 0)
		op->bytes = op->len;
	return rc;
}

static struct wadi_op write_op(struct wadi_writer *wr, const void *data, size_t len)
{
	return (struct wadi_op){ .w = wr->w, .run = write_run, .arg = wr, .data = data,
		.len = len, .until_ns = op_until(wr->w, wr->timeout_ms, 0) };
}

int wadi_write(struct wadi_writer *wr, const void *data, size_t len)
{
	struct wadi_op op = write_op(wr, data, len);

	return op_sync(&op);
}

int wadi_write_start(struct wadi_writer *wr, const void *held_data, size_t len,
	struct wadi_op **ret_op)
{
	struct wadi_op op = write_op(wr, held_data, len);

	return op_start(&op, ret_op);
}

PARKS static int commit_run(struct wadi_op *op, struct err_note *note)
{
	struct wadi_writer *wr = op->arg;

	return upload_commit(wr->u, op->until_ns, &op->info, note);
}

PARKS static int abort_run(struct wadi_op *op, struct err_note *note)
{
	upload_free(op->arg);
	return 0;
}

static void upload_end(struct wadi *w, struct upload *u)
{
	/* The sentence of a failed commit is worth more than that of the clean-up. */
	struct err_note kept = w->note;
	struct wadi_op op = { .w = w, .run = abort_run, .arg = u,
		.until_ns = op_until(w, 0, 2 * CLIENT_CLOSE_MS) };

	op_sync(&op);
	w->note = kept;
}

int wadi_writer_close(struct wadi_writer *wr, struct wadi_info *ret_info)
{
	struct wadi_op op = { .w = wr->w, .run = commit_run, .arg = wr,
		.until_ns = op_until(wr->w, wr->timeout_ms, 0) };
	int rc = op_sync(&op);

	if (rc == 0 && ret_info != NULL)
		*ret_info = op.info;
	wadi_writer_abort(wr);
	return rc;
}

void wadi_writer_abort(struct wadi_writer *wr)
{
	if (wr == NULL)
		return;
	upload_end(wr->w, wr->u);
	free(wr);
}

/* ---- reading ---- */
PARKS static int reader_open_run(struct wadi_op *op, struct err_note *note)
{
	struct wadi_reader *rd = op->arg;

	return download_new(op->w->c, op->bucket, op->key, &op->o.get, op->until_ns, &rd->d,
		&rd->info, note);
}

int wadi_reader_open(struct wadi *w, const char *bucket, const char *key,
	const struct wadi_get_opts *opts, struct wadi_reader **ret_rd, struct wadi_info *ret_info)
{
	struct wadi_op op = { .w = w, .run = reader_open_run, .bucket = bucket, .key = key };
	struct wadi_reader *rd;
	uint64_t left;
	int rc = opts_take(w, &op.o.get, sizeof op.o.get, opts);

	if (rc < 0)
		return rc;
	rd = calloc(1, sizeof *rd);
	if (rd == NULL)
		return fail(w, E_NOMEM, "a reader");
	rd->w = w;
	rd->timeout_ms = op.o.get.timeout_ms;
	op.arg = rd;
	op.until_ns = op_until(w, rd->timeout_ms, op.o.get.wait_ms);
	rc = op_sync(&op);
	if (rc < 0) {
		free(rd);
		return rc;
	}
	rd->offset = op.o.get.offset < rd->info.size ? op.o.get.offset : rd->info.size;
	left = rd->info.size - rd->offset;
	rd->end = rd->offset + (op.o.get.len != 0 && op.o.get.len < left ? op.o.get.len : left);
	if (ret_info != NULL)
		*ret_info = rd->info;
	*ret_rd = rd;
	return 0;
}

/* o.get.offset says where. */
PARKS static int pread_run(struct wadi_op *op, struct err_note *note)
{
	struct wadi_reader *rd = op->arg;
	int64_t n = download_pread(rd->d, op->buf, op->len, op->o.get.offset, op->until_ns, note);

	if (n < 0)
		return (int)n;
	op->bytes = (uint64_t)n;
	return 0;
}

/* The next bytes: the reader moves on when they have come. */
PARKS static int read_run(struct wadi_op *op, struct err_note *note)
{
	struct wadi_reader *rd = op->arg;
	int rc;

	op->o.get.offset = rd->offset;
	if (op->len > rd->end - rd->offset)
		op->len = (size_t)(rd->end - rd->offset);
	rc = pread_run(op, note);
	if (rc == 0)
		rd->offset += op->bytes;
	return rc;
}

static struct wadi_op read_op(struct wadi_reader *rd, void *buf, size_t cap)
{
	return (struct wadi_op){ .w = rd->w, .run = read_run, .arg = rd, .buf = buf, .len = cap,
		.until_ns = op_until(rd->w, rd->timeout_ms, 0) };
}

int64_t wadi_read(struct wadi_reader *rd, void *buf, size_t cap)
{
	struct wadi_op op = read_op(rd, buf, cap);
	int rc = op_sync(&op);

	return rc < 0 ? rc : (int64_t)op.bytes;
}

int64_t wadi_pread(struct wadi_reader *rd, void *buf, size_t cap, uint64_t offset)
{
	struct wadi_op op = read_op(rd, buf, cap);
	int rc;

	op.run = pread_run;
	op.o.get.offset = offset;
	rc = op_sync(&op);
	return rc < 0 ? rc : (int64_t)op.bytes;
}

int wadi_read_start(struct wadi_reader *rd, void *held_buf, size_t cap, struct wadi_op **ret_op)
{
	struct wadi_op op = read_op(rd, held_buf, cap);

	return op_start(&op, ret_op);
}

PARKS static int reader_done_run(struct wadi_op *op, struct err_note *note)
{
	struct wadi_reader *rd = op->arg;

	return download_done(rd->d, op->until_ns, note);
}

int wadi_reader_close(struct wadi_reader *rd)
{
	struct wadi_op op;
	int rc = 0;

	if (rd == NULL)
		return 0;
	if (rd->offset == rd->end) {
		op = (struct wadi_op){ .w = rd->w, .run = reader_done_run, .arg = rd,
			.until_ns = op_until(rd->w, rd->timeout_ms, 0) };
		rc = op_sync(&op);
	}
	wadi_reader_abort(rd);
	return rc;
}

void wadi_reader_abort(struct wadi_reader *rd)
{
	if (rd == NULL)
		return;
	download_free(rd->d);
	free(rd);
}

/* ---- descriptors ---- */
/* As much as fits, or what there is before the end. */
static int64_t fd_fill(int fd, uint8_t *buf, size_t cap)
{
	size_t len = 0;

	while (len < cap) {
		ssize_t n = read(fd, buf + len, cap - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return (int64_t)len;
}

static int fd_drain(int fd, const uint8_t *buf, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, buf, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		buf += n;
		len -= (size_t)n;
	}
	return 0;
}

static int copy_in(struct wadi *w, struct wadi_writer *wr, int fd, uint64_t len, uint8_t *buf)
{
	uint64_t done = 0;

	while (done < len) {
		uint64_t want = len - done < FD_PIECE_BYTES ? len - done : FD_PIECE_BYTES;
		int64_t n = fd_fill(fd, buf, (size_t)want);
		int rc;

		if (n < 0)
			return fail(w, E_IO, "reading the descriptor: %s", strerror(errno));
		rc = wadi_write(wr, buf, (size_t)n);
		if (rc < 0)
			return rc;
		done += (uint64_t)n;
		if ((uint64_t)n < want)
			break;
	}
	if (len != WADI_TO_EOF && done < len)
		return fail(w, E_INVALID, "the descriptor ended after %llu of %llu bytes",
			(unsigned long long)done, (unsigned long long)len);
	return 0;
}

int wadi_put_fd(struct wadi *w, const char *bucket, const char *key, int fd, uint64_t len,
	const struct wadi_put_opts *opts, struct wadi_info *ret_info)
{
	struct wadi_put_opts o;
	struct wadi_writer *wr;
	uint8_t *buf;
	int rc = opts_take(w, &o, sizeof o, opts);

	if (rc < 0)
		return rc;
	o.size = sizeof o;
	if (len != WADI_TO_EOF)
		o.expect_bytes = len;
	rc = wadi_writer_open(w, bucket, key, &o, &wr);
	if (rc < 0)
		return rc;
	buf = malloc(FD_PIECE_BYTES);
	rc = buf != NULL ? copy_in(w, wr, fd, len, buf) : fail(w, E_NOMEM, "a buffer");
	free(buf);
	if (rc == 0)
		return wadi_writer_close(wr, ret_info);
	wadi_writer_abort(wr);
	return rc;
}

static int copy_out(struct wadi *w, struct wadi_reader *rd, int fd, uint8_t *buf, uint64_t *ret_len)
{
	uint64_t done = 0;
	int64_t n;

	while ((n = wadi_read(rd, buf, FD_PIECE_BYTES)) > 0) {
		if (fd_drain(fd, buf, (size_t)n) < 0)
			return fail(w, E_IO, "writing the descriptor: %s", strerror(errno));
		done += (uint64_t)n;
	}
	if (n == 0)
		*ret_len = done;
	return (int)n;
}

int wadi_get_fd(struct wadi *w, const char *bucket, const char *key, int fd,
	const struct wadi_get_opts *opts, uint64_t *ret_len, struct wadi_info *ret_info)
{
	struct wadi_reader *rd;
	struct wadi_info info;
	uint64_t len = 0;
	uint8_t *buf;
	int rc = wadi_reader_open(w, bucket, key, opts, &rd, &info);

	if (rc < 0)
		return rc;
	buf = malloc(FD_PIECE_BYTES);
	rc = buf != NULL ? copy_out(w, rd, fd, buf, &len) : fail(w, E_NOMEM, "a buffer");
	free(buf);
	if (rc < 0) {
		wadi_reader_abort(rd);
		return rc;
	}
	rc = wadi_reader_close(rd);
	if (rc < 0)
		return rc;
	if (ret_len != NULL)
		*ret_len = len;
	if (ret_info != NULL)
		*ret_info = info;
	return 0;
}
