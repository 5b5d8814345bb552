/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/copy.h"
#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 4 << 20 };

const char *name_text(const struct name *n, char ret_text[NAME_TEXT_MAX])
{
	snprintf(ret_text, NAME_TEXT_MAX, "%s/%s", n->bucket, n->key);
	return ret_text;
}

const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

static bool dash(const char *path) { return strcmp(path, "-") == 0; }

static void *piece_new(struct cli *c)
{
	void *p = malloc(PIECE_BYTES);

	if (p == NULL)
		cli_fail(c, NULL, E_NOMEM, "a buffer", NULL);
	return p;
}

/* ---- in ---- */
static bool fd_in(struct cli *c, int fd, const char *path, struct wadi_writer *wr,
	const char *object, struct meter *m)
{
	struct err_note note = { "" };
	void *piece = piece_new(c);
	int64_t n = 0;
	int rc = 0;

	if (piece == NULL)
		return false;
	while (rc == 0 && (n = os_read(fd, piece, PIECE_BYTES, path, &note)) > 0) {
		rc = wadi_write(wr, piece, (size_t)n);
		meter_add(m, (uint64_t)n);
		if (n < PIECE_BYTES)
			break;
	}
	free(piece);
	if (n < 0)
		return cli_fail(c, NULL, (int)n, note.text, NULL);
	return rc == 0 || cli_failed(c, object, rc);
}

static bool stream_in(struct cli *c, int fd, const char *path, const struct name *to,
	const struct wadi_put_opts *o, uint64_t bytes, struct wadi_info *ret_info)
{
	struct wadi_put_opts opts = *o;
	char object[NAME_TEXT_MAX];
	struct wadi_writer *wr;
	struct meter m;
	bool ok;
	int rc;

	name_text(to, object);
	opts.expect_bytes = bytes != UINT64_MAX ? bytes : 0;
	rc = wadi_writer_open(c->w, to->bucket, to->key, &opts, &wr);
	if (rc < 0)
		return cli_failed(c, object, rc);
	meter_start(&m, c, object, bytes);
	ok = fd_in(c, fd, path, wr, object, &m);
	if (!ok) {
		wadi_writer_abort(wr);
	} else {
		rc = wadi_writer_close(wr, ret_info);
		ok = rc == 0;
	}
	meter_end(&m);
	return rc == 0 ? ok : cli_failed(c, object, rc);
}

bool copy_file_in(struct cli *c, const char *path, const struct name *to,
	const struct wadi_put_opts *o, struct wadi_info *ret_info)
{
	struct err_note note = { "" };
	uint64_t bytes = UINT64_MAX;
	int fd = OS_STDIN, rc = 0;
	bool ok;

	if (!dash(path)) {
		rc = os_open_read(path, &fd, &note);
		os_kind(path, &bytes);
	} else if (os_terminal(OS_STDIN) && !c->quiet) {
		out_note(c, "reading what you type; Ctrl-D ends it");
	}
	if (rc < 0)
		return cli_fail(c, NULL, rc, note.text,
			rc == E_INVALID ? "wadi cp -r copies a directory" : NULL);
	ok = stream_in(c, fd, path, to, o, bytes, ret_info);
	if (!dash(path))
		os_close(fd, path, NULL);
	return ok;
}

/* ---- out ---- */
static bool fd_out(struct cli *c, struct wadi_reader *rd, const char *object, int fd,
	const char *path, struct meter *m)
{
	struct err_note note = { "" };
	void *piece = piece_new(c);
	int64_t n = 0;
	int rc = 0;

	if (piece == NULL)
		return false;
	while (rc == 0 && (n = wadi_read(rd, piece, PIECE_BYTES)) > 0) {
		rc = os_write(fd, piece, (size_t)n, path, &note);
		meter_add(m, (uint64_t)n);
	}
	free(piece);
	if (n < 0)
		return cli_failed(c, object, (int)n);
	return rc == 0 || cli_fail(c, NULL, rc, note.text, NULL);
}

static uint64_t bytes_wanted(const struct wadi_get_opts *o, uint64_t size)
{
	uint64_t left = o->offset < size ? size - o->offset : 0;

	return o->len != 0 && o->len < left ? o->len : left;
}

struct target { const char *path; char part[OS_PATH_MAX]; int fd; };

static bool target_open(struct cli *c, struct target *t, const char *path)
{
	struct err_note note = { "" };
	enum os_kind kind = os_kind(path, NULL);
	int rc;

	t->path = path;
	t->part[0] = '\0';
	t->fd = OS_STDOUT;
	if (dash(path))
		return true;
	/* A device or a pipe is written as it is. */
	if (kind == OS_MISSING || kind == OS_FILE)
		snprintf(t->part, sizeof t->part, "%.2030s.wadi-part", path);
	os_leftover(t->part[0] != '\0' ? t->part : NULL);
	rc = os_open_write(t->part[0] != '\0' ? t->part : path, &t->fd, &note);
	if (rc < 0)
		os_leftover(NULL);
	return rc == 0 || cli_fail(c, NULL, rc, note.text, NULL);
}

static bool target_close(struct cli *c, struct target *t, bool ok)
{
	struct err_note note = { "" };
	int rc = 0;

	if (dash(t->path))
		return ok;
	rc = os_close(t->fd, t->path, &note);
	if (rc == 0 && ok && t->part[0] != '\0')
		rc = os_rename(t->part, t->path, &note);
	if ((rc < 0 || !ok) && t->part[0] != '\0')
		os_remove(t->part);
	os_leftover(NULL);
	if (rc < 0 || !ok) {
		return ok ? cli_fail(c, NULL, rc, note.text, NULL) : false;
	}
	return true;
}

/* The object is deleted, when it is to be, only after its bytes have their file. */
bool copy_file_out(struct cli *c, const struct name *from, const char *path,
	const struct wadi_get_opts *o, struct wadi_info *ret_info)
{
	char object[NAME_TEXT_MAX];
	struct wadi_reader *rd;
	struct wadi_info info;
	struct target t;
	struct meter m;
	bool ok;
	int rc;

	name_text(from, object);
	if (o->wait_ms > 0)
		out_waiting(c, "waiting for %s", object);
	rc = wadi_reader_open(c->w, from->bucket, from->key, o, &rd, &info);
	if (o->wait_ms > 0)
		os_line_wipe();
	if (rc < 0)
		return cli_failed(c, object, rc);
	if (!target_open(c, &t, path)) {
		wadi_reader_abort(rd);
		return false;
	}
	meter_start(&m, c, object, bytes_wanted(o, info.size));
	ok = fd_out(c, rd, object, t.fd, path, &m);
	meter_end(&m);
	ok = target_close(c, &t, ok);
	if (!ok) {
		wadi_reader_abort(rd);
		return false;
	}
	rc = wadi_reader_close(rd);
	if (rc < 0)
		return cli_failed(c, object, rc);
	if (ret_info != NULL)
		*ret_info = info;
	return true;
}

/* ---- across ---- */
static int pieces_across(struct wadi_reader *rd, struct wadi_writer *wr, void *piece,
	struct meter *m)
{
	int64_t n;
	int rc = 0;

	while (rc == 0 && (n = wadi_read(rd, piece, PIECE_BYTES)) > 0) {
		rc = wadi_write(wr, piece, (size_t)n);
		meter_add(m, (uint64_t)n);
	}
	return rc < 0 ? rc : (int)(n < 0 ? n : 0);
}

bool copy_object(struct cli *c, const struct name *from, const struct name *to,
	const struct wadi_put_opts *o, struct wadi_info *ret_info)
{
	struct wadi_put_opts opts = *o;
	char object[NAME_TEXT_MAX];
	struct wadi_reader *rd;
	struct wadi_writer *wr;
	struct wadi_info info;
	struct meter m;
	void *piece;
	int rc = wadi_reader_open(c->w, from->bucket, from->key, NULL, &rd, &info);

	if (rc < 0)
		return cli_failed(c, name_text(from, object), rc);
	name_text(to, object);
	opts.expect_bytes = info.size;
	rc = wadi_writer_open(c->w, to->bucket, to->key, &opts, &wr);
	if (rc < 0) {
		wadi_reader_abort(rd);
		return cli_failed(c, object, rc);
	}
	meter_start(&m, c, object, info.size);
	piece = piece_new(c);
	rc = piece != NULL ? pieces_across(rd, wr, piece, &m) : E_NOMEM;
	free(piece);
	meter_end(&m);
	wadi_reader_abort(rd);
	if (rc < 0) {
		cli_failed(c, object, rc);
		wadi_writer_abort(wr);
		return false;
	}
	rc = wadi_writer_close(wr, ret_info);
	return rc == 0 || cli_failed(c, object, rc);
}
