/* SPDX-License-Identifier: Apache-2.0 */
/* view.c: an object's bytes in place.
 *
 * When every extent of the range is in memory that its server shares with us, each is pinned and
 * nothing is copied.  Otherwise the range is read into one piece of our memory. */
#include "base/check.h"
#include "client/download.h"
#include <stdlib.h>
#include <string.h>

struct view {
	struct wadi_info info;
	struct wadi_part *parts;
	size_t n_parts;
	struct pin *pins;            /* one for each part, or NULL: parts[0] is copy */
	uint8_t *copy;
	uint64_t len;
};

enum { PINS_FLYING_MAX = 16 };

struct pinning { struct place at; struct read_cap cap; struct pin *pin; uint64_t until_ns; };

void view_free(struct view *v)
{
	if (v == NULL)
		return;
	for (size_t i = 0; v->pins != NULL && i < v->n_parts; i++)
		pin_drop(&v->pins[i]);
	free(v->pins);
	free(v->parts);
	free(v->copy);
	free(v);
}

const struct wadi_part *view_parts(const struct view *v, size_t *ret_n)
{
	*ret_n = v->n_parts;
	return v->parts;
}

const struct wadi_info *view_info(const struct view *v) { return &v->info; }
uint64_t view_len(const struct view *v) { return v->len; }
bool view_shared(const struct view *v) { return v->pins != NULL; }

bool view_holds(const struct view *v)
{
	for (size_t i = 0; v->pins != NULL && i < v->n_parts; i++)
		if (!pin_holds(&v->pins[i]))
			return false;
	return true;
}

/* ---- pinned ---- */
PARKS static int pin_fiber(void *arg)
{
	struct pinning *p = arg;

	return extent_pin(&p->at, &p->cap, p->until_ns, p->pin, NULL);
}

static bool all_shareable(const struct download *d, uint32_t first, uint32_t n)
{
	for (uint32_t i = first; i < first + n; i++)
		if (d->places[i].tier != TIER_DRAM || d->places[i].lost)
			return false;
	return true;
}

/* At most PINS_FLYING_MAX at once; a failure drops the others when the view is freed. */
PARKS static int pin_some(struct view *v, const struct download *d, uint32_t first, size_t at,
	size_t n, uint64_t until_ns)
{
	struct pinning *work;
	struct group g;
	int rc = 0;

	if (n == 1)
		return extent_pin(&d->places[first + at], &d->cap, until_ns, &v->pins[at], NULL);
	work = calloc(n, sizeof *work);
	if (work == NULL)
		return E_NOMEM;
	group_init(&g, sys_loop(d->c->sys));
	for (size_t i = 0; i < n && rc == 0; i++) {
		work[i] = (struct pinning){ d->places[first + at + i], d->cap, &v->pins[at + i],
			until_ns };
		rc = fiber_start(&g, "pin", pin_fiber, &work[i]);
	}
	if (rc < 0)
		group_cancel(&g);
	fiber_shield(sys_after(d->c->sys, CLIENT_CLOSE_MS * SYS_MS));
	if (group_wait(&g) < 0 && rc == 0)
		rc = g.rc;
	fiber_unshield();
	free(work);
	return rc;
}

/* The parts of the range offset..offset+len, cut from the pinned extents. */
static void parts_cut(struct view *v, const struct download *d, uint32_t first, uint64_t offset,
	uint64_t len)
{
	for (size_t i = 0; i < v->n_parts; i++) {
		const struct place *at = &d->places[first + i];
		uint64_t skip = offset > at->file_offset ? offset - at->file_offset : 0;
		uint64_t end = at->file_offset + at->len < offset + len
			? at->len : offset + len - at->file_offset;

		check(v->pins[i].len == at->len);
		v->parts[i] = (struct wadi_part){ v->pins[i].data + skip, (size_t)(end - skip) };
	}
}

/* E_UNSUPPORTED: copy instead. */
PARKS static int view_pin(struct view *v, struct download *d, uint64_t offset, uint64_t len,
	uint64_t until_ns, struct err_note *note)
{
	uint32_t first, n;
	int rc = download_places(d, offset, len, until_ns, &first, &n, note);

	if (rc < 0)
		return rc;
	if (!all_shareable(d, first, n)
	    || d->places[first + n - 1].file_offset + d->places[first + n - 1].len < offset + len)
		return E_UNSUPPORTED;
	v->parts = calloc(n, sizeof *v->parts);
	v->pins = calloc(n, sizeof *v->pins);
	if (v->parts == NULL || v->pins == NULL)
		return err_set(note, E_NOMEM, "a view");
	v->n_parts = n;
	for (size_t at = 0; at < n && rc == 0; at += PINS_FLYING_MAX)
		rc = pin_some(v, d, first, at, n - at < PINS_FLYING_MAX ? n - at : PINS_FLYING_MAX,
			until_ns);
	if (rc == 0)
		parts_cut(v, d, first, offset, len);
	return rc;
}

static void pins_undo(struct view *v)
{
	for (size_t i = 0; v->pins != NULL && i < v->n_parts; i++)
		pin_drop(&v->pins[i]);
	free(v->pins);
	free(v->parts);
	v->pins = NULL;
	v->parts = NULL;
	v->n_parts = 0;
}

/* ---- copied ---- */
PARKS static int view_copy(struct view *v, struct download *d, uint64_t offset, uint64_t len,
	uint64_t until_ns, struct err_note *note)
{
	int64_t got;

	v->parts = calloc(1, sizeof *v->parts);
	v->copy = malloc((size_t)len + 1);
	if (v->parts == NULL || v->copy == NULL)
		return err_set(note, E_NOMEM, "a view of %llu bytes", (unsigned long long)len);
	got = download_pread(d, v->copy, (size_t)len, offset, until_ns, note);
	if (got < 0)
		return (int)got;
	check((uint64_t)got == len);
	v->parts[0] = (struct wadi_part){ v->copy, (size_t)len };
	v->n_parts = 1;
	return 0;
}

PARKS static int view_fill(struct view *v, struct download *d, uint64_t until_ns,
	struct err_note *note)
{
	uint64_t offset, len;
	int rc = E_UNSUPPORTED;

	download_range(d, &offset, &len);
	v->info = d->info;
	v->len = len;
	if (d->inline_bytes == NULL && len > 0) {
		rc = view_pin(v, d, offset, len, until_ns, note);
		if (rc == E_CANCELED || rc == E_TIMEOUT || rc == E_NOMEM)
			return rc;
	}
	if (rc < 0) {
		/* A server that would not share may still send; what is really wrong will be
		 * found, and told, on that way. */
		pins_undo(v);
		rc = view_copy(v, d, offset, len, until_ns, note);
	}
	return rc < 0 ? rc : download_done(d, until_ns, note);
}

PARKS int client_view(struct client *c, const char *bucket, const char *key,
	const struct wadi_get_opts *o, uint64_t until_ns, struct view **ret_v,
	struct err_note *note)
{
	for (unsigned tries = 0;; tries++) {
		struct view *v = calloc(1, sizeof *v);
		struct download d;
		int rc;

		if (v == NULL)
			return err_set(note, E_NOMEM, "a view");
		rc = download_open(&d, c, bucket, key, o, until_ns, note);
		if (rc == 0) {
			rc = view_fill(v, &d, until_ns, note);
			download_close(&d);
		}
		if (rc == 0) {
			*ret_v = v;
			return 0;
		}
		view_free(v);
		if (rc != E_GONE || tries > 8 || sys_now_ns(c->sys) >= until_ns)
			return rc;
	}
}
