/* SPDX-License-Identifier: Apache-2.0 */
/* download.c: an object on its way out.
 *
 *   (D1) A download looks at one inode: bytes of two versions are never mixed.  When the inode goes
 *        away a download that gave nothing out yet begins anew with the name's new one; a later
 *        one ends in E_GONE.
 *   (D2) Places may be old: a server that says gone or stale, or is not there, is asked about at
 *        the shard again.  What the shard calls lost is lost.
 *   (D3) No call returns while a fiber writes into the memory of its caller. */
#include "client/download.h"
#include "base/check.h"
#include <stdlib.h>
#include <string.h>

enum { FETCHES_MAX = 8, CHUNK_BYTES = 4 << 20, RENEWALS_MAX = 64 };
#define RENEW_FIRST_NS (5 * SYS_MS)
#define RENEW_MAX_NS (500 * SYS_MS)

/* ---- lookup ---- */
static int place_add(struct download *d, const struct sub_extent_place *p, struct err_note *note)
{
	uint64_t end = d->from;
	struct place *at;

	if (d->n_places > 0)
		end = d->places[d->n_places - 1].file_offset + d->places[d->n_places - 1].len;
	if (p->len == 0 || (d->n_places > 0 && p->file_offset != end)
	    || (d->n_places == 0 && p->file_offset > d->from))
		return err_set(note, E_CORRUPT, "places of %s with a gap", d->name.key);
	if (d->n_places == d->places_cap) {
		uint32_t cap = d->places_cap == 0 ? 8 : d->places_cap * 2;
		struct place *more = realloc(d->places, cap * sizeof *more);

		if (more == NULL)
			return err_set(note, E_NOMEM, "places of %s", d->name.key);
		d->places = more;
		d->places_cap = cap;
	}
	at = &d->places[d->n_places++];
	*at = (struct place){
		.file_offset = p->file_offset, .egroup = p->egroup, .extent = p->extent,
		.len = p->len, .root = p->root, .tier = p->tier, .lost = p->lost,
		.peer = peer_by_id(&d->c->peers, p->server),
	};
	if (at->peer == NULL)
		return err_set(note, E_CORRUPT, "%s lies on a server without address", d->name.key);
	return 0;
}

/* A server that has the extents of an egroup too. */
static int member_take(struct download *d, const struct sub_egroup_member *m,
	struct err_note *note)
{
	struct peer *peer = peer_by_id(&d->c->peers, m->server);

	if (peer == NULL)
		return err_set(note, E_CORRUPT, "%s lies on a server without address", d->name.key);
	for (uint32_t i = 0; i < d->n_places; i++) {
		struct place *at = &d->places[i];
		bool known = at->egroup != m->egroup || at->peer == peer;

		for (uint8_t k = 0; k < at->n_others; k++)
			known = known || at->others[k] == peer;
		if (!known && at->n_others < PLACE_OTHERS_MAX)
			at->others[at->n_others++] = peer;
	}
	return 0;
}

/* The nearest first; else as the shard says. */
static void place_order(struct place *at)
{
	for (uint32_t i = 0; i < at->n_others && !peer_same_host(at->peer); i++) {
		struct peer *p = at->others[i];

		if (peer_same_host(p)) {
			at->others[i] = at->peer;
			at->peer = p;
		}
	}
}

static int places_take(struct download *d, struct msg_get_ok *ok, struct err_note *note)
{
	struct sub_server_addr addr;
	struct sub_extent_place p;
	struct sub_egroup_member m;
	int rc = 0;

	if (ok->cap.len > sizeof d->cap.code)
		return err_set(note, E_CORRUPT, "a capability of %zu bytes", ok->cap.len);
	d->cap = (struct read_cap){ .job = ok->cap_job, .until_ms = ok->cap_until_ms,
		.len = (uint32_t)ok->cap.len };
	if (ok->cap.len > 0)
		memcpy(d->cap.code, ok->cap.p, ok->cap.len);
	while (sub_server_addr_next(&ok->servers, &addr))
		if (peer_find(&d->c->peers, &addr) == NULL)
			return err_set(note, E_NOMEM, "storage servers");
	while (rc == 0 && sub_extent_place_next(&ok->places, &p))
		rc = place_add(d, &p, note);
	while (rc == 0 && sub_egroup_member_next(&ok->members, &m))
		rc = member_take(d, &m, note);
	for (uint32_t i = 0; i < d->n_places; i++)
		place_order(&d->places[i]);
	d->next = ok->next;
	return rc;
}

static int inline_take(struct download *d, struct bytes data, struct err_note *note)
{
	if (data.len != d->info.size)
		return err_set(note, E_CORRUPT, "%s has %llu bytes, %zu came", d->name.key,
			(unsigned long long)d->info.size, data.len);
	d->inline_bytes = malloc(data.len + 1);
	if (d->inline_bytes == NULL)
		return err_set(note, E_NOMEM, "%s", d->name.key);
	if (data.len > 0)
		memcpy(d->inline_bytes, data.p, data.len);
	return 0;
}

static void info_take(struct download *d, const struct msg_get_ok *ok)
{
	d->inode = ok->inode;
	d->info = (struct wadi_info){ .version = ok->version, .size = ok->size,
		.mtime_ms = ok->mtime_ms, .inode = ok->inode };
}

static int answer_take(struct download *d, const struct msg_get *m, struct msg_get_ok *ok,
	struct bytes data, struct err_note *note)
{
	int rc;

	if (d->inode != 0 && ok->inode != d->inode)
		return err_set(note, E_GONE, "%s was replaced", d->name.key); /* (D1) */
	if (d->inode == 0)
		info_take(d, ok);
	if (ok->places.n == 0 && d->inline_bytes == NULL && m->from == 0 && ok->next == 0)
		return inline_take(d, data, note);
	d->n_places = 0;
	d->from = m->from;
	rc = places_take(d, ok, note);
	if (rc < 0)
		return rc;
	if (d->n_places == 0 && m->from < d->info.size)
		return err_set(note, E_CORRUPT, "%s without places", d->name.key);
	return 0;
}

/* One get.  It may mark the object as ours to consume; to be marked twice is to be marked, so it is
 * not numbered. */
PARKS static int lookup(struct download *d, uint16_t flags, uint32_t wait_ms, uint64_t from,
	uint64_t until_ns, struct err_note *note)
{
	struct msg_get m = { .bucket = d->name.id.id, .flags = flags, .wait_ms = wait_ms,
		.from = from, .inode = d->inode, .name = object_key(&d->name) };
	struct ask a = { .op = OP_get, .reply_op = OP_get_ok, .msg = &m };
	struct msg_get_ok ok;
	int rc = dialog_ask(&d->c->dialog, &a, &ok, until_ns, note);

	if (rc == 0) {
		d->consuming = d->consuming || ok.consuming != 0;
		rc = answer_take(d, &m, &ok, a.call.reply_data, note);
	}
	ask_fini(&a);
	return rc;
}

PARKS int download_open(struct download *d, struct client *c, const char *bucket, const char *key,
	const struct wadi_get_opts *o, uint64_t until_ns, struct err_note *note)
{
	uint16_t flags = (uint16_t)((o->flags & WADI_GET_DELETE ? GET_CONSUME : 0)
		| (o->wait_ms != 0 ? GET_WAIT : 0));
	int rc;

	memset(d, 0, sizeof *d);
	d->c = c;
	d->o = *o;
	if (o->wait_ms > LIMIT_WAIT_MS_MAX)
		return err_set(note, E_TOOBIG, "a wait of more than %u ms", LIMIT_WAIT_MS_MAX);
	rc = object_name_set(&d->name, bucket, key, note);
	if (rc == 0)
		/* Who waits may come before whoever puts the first object. */
		rc = object_resolve(c, &d->name, o->wait_ms != 0, until_ns, note);
	if (rc < 0)
		return rc;
	do
		rc = lookup(d, flags, o->wait_ms, o->offset, until_ns, note);
	while (rc < 0 && d->inode == 0 && object_again(c, &d->name, &rc, until_ns, note));
	if (rc < 0) {
		download_close(d);
		return err_wrap(note, rc, "%s/%s", bucket_shown(d->name.bucket), d->name.key);
	}
	return 0;
}

void download_close(struct download *d)
{
	free(d->inline_bytes);
	free(d->places);
	d->inline_bytes = NULL;
	d->places = NULL;
	d->n_places = d->places_cap = 0;
}

void download_places_forget(struct download *d)
{
	d->n_places = 0;
	d->from = d->next = 0;
}

void download_range(const struct download *d, uint64_t *ret_offset, uint64_t *ret_len)
{
	uint64_t size = d->info.size, offset = d->o.offset < size ? d->o.offset : size;
	uint64_t len = size - offset;

	*ret_offset = offset;
	*ret_len = d->o.len != 0 && d->o.len < len ? d->o.len : len;
}

static bool places_cover(const struct download *d, uint64_t offset)
{
	return d->n_places > 0 && offset >= d->places[0].file_offset
		&& (d->next == 0 || offset < d->next);
}

static uint32_t place_search(const struct download *d, uint64_t offset)
{
	uint32_t low = 0, high = d->n_places;

	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;

		if (d->places[middle].file_offset <= offset)
			low = middle;
		else
			high = middle;
	}
	return low;
}

PARKS int download_places(struct download *d, uint64_t offset, uint64_t len, uint64_t until_ns,
	uint32_t *ret_first, uint32_t *ret_n, struct err_note *note)
{
	uint32_t first, n = 0;
	uint64_t end;

	check(d->inline_bytes == NULL);
	check(offset + len <= d->info.size);
	if (!places_cover(d, offset)) {
		int rc = lookup(d, 0, 0, offset, until_ns, note);

		if (rc < 0)
			return rc;
		if (!places_cover(d, offset))
			return err_set(note, E_CORRUPT, "%s: places of another range", d->name.key);
	}
	first = place_search(d, offset);
	end = offset + len;
	while (first + n < d->n_places && d->places[first + n].file_offset < end)
		n++;
	*ret_first = first;
	*ret_n = n;
	return 0;
}

/* ---- reading a range ---- */
struct fetching {
	struct download *d;
	uint8_t *buf;
	uint64_t offset;             /* of buf[0] in the object */
	size_t len;
	uint64_t until_ns;
	uint32_t n_flying;
	struct waitq landed;
	bool missing;                /* a server does not have what it was to have */
	int rc;
	struct err_note note;
};

struct fetch {
	struct fetching *all;
	struct place at;             /* a copy: places may be asked for anew meanwhile */
	struct read_cap cap;
	uint64_t file_offset;
	size_t len;
};

PARKS static int fetch_run(struct fetch *f, struct err_note *note)
{
	struct fetching *all = f->all;
	struct peer *bad;
	int rc = extent_get_any(all->d->c->sys, &f->at, &f->cap,
		f->file_offset - f->at.file_offset, all->buf + (f->file_offset - all->offset),
		f->len, all->until_ns, &bad, note);

	all->missing = all->missing || rc == E_GONE;
	return rc;
}

PARKS static int fetch_fiber(void *arg)
{
	struct fetch *f = arg;
	struct fetching *all = f->all;
	struct err_note note = { "" };
	int rc = fetch_run(f, &note);

	if (rc < 0 && all->rc == 0) {
		all->rc = rc;
		all->note = note;
	}
	all->n_flying--;
	waitq_wake_all(&all->landed);
	free(f);
	return 0;
}

PARKS static int fetch_start(struct fetching *all, struct group *g, const struct fetch *with,
	struct err_note *note)
{
	struct fetch *f;
	int rc = 0;

	while (all->n_flying == FETCHES_MAX && all->rc == 0 && rc == 0)
		rc = waitq_wait(&all->landed, all->until_ns);
	if (rc < 0)
		return err_set(note, rc, "reading %s", all->d->name.key);
	if (all->rc < 0)
		return all->rc;
	f = malloc(sizeof *f);
	if (f == NULL)
		return err_set(note, E_NOMEM, "a read");
	*f = *with;
	rc = fiber_start(g, "fetch", fetch_fiber, f);
	if (rc < 0) {
		free(f);
		return err_set(note, rc, "a fiber to read with");
	}
	all->n_flying++;
	return 0;
}

/* Pieces of the places first..first+n-1, as far as the range goes; returns how far it went. */
PARKS static int fetches_start(struct fetching *all, struct group *g, uint32_t first, uint32_t n,
	uint64_t *at, struct err_note *note)
{
	struct download *d = all->d;
	uint64_t end = all->offset + all->len;

	for (uint32_t i = first; i < first + n; i++) {
		struct fetch f = { .all = all, .at = d->places[i], .cap = d->cap };
		uint64_t place_end = f.at.file_offset + f.at.len;

		while (*at < end && *at < place_end) {
			uint64_t len = (place_end < end ? place_end : end) - *at;
			int rc;

			f.file_offset = *at;
			f.len = (size_t)(len < CHUNK_BYTES ? len : CHUNK_BYTES);
			rc = fetch_start(all, g, &f, note);
			if (rc < 0)
				return rc;
			*at += f.len;
		}
	}
	return 0;
}

PARKS static int fetch_many(struct fetching *all, struct err_note *note)
{
	uint64_t at = all->offset, end = all->offset + all->len;
	struct group g;
	int rc = 0;

	group_init(&g, sys_loop(all->d->c->sys));
	waitq_init(&all->landed);
	while (rc == 0 && at < end) {
		uint32_t first, n;

		rc = download_places(all->d, at, end - at, all->until_ns, &first, &n, note);
		if (rc == 0)
			rc = fetches_start(all, &g, first, n, &at, note);
	}
	fiber_shield(sys_after(all->d->c->sys, CLIENT_CLOSE_MS * SYS_MS));
	if (rc < 0)
		group_cancel(&g);
	group_wait(&g); /* (D3) */
	fiber_unshield();
	if (all->rc < 0) {
		if (note != NULL)
			*note = all->note;
		return all->rc;
	}
	return rc;
}

/* A range inside one place and one chunk needs no fiber. */
PARKS static int fetch_range(struct fetching *all, struct err_note *note)
{
	struct download *d = all->d;
	uint32_t first, n;
	int rc = download_places(d, all->offset, all->len, all->until_ns, &first, &n, note);

	if (rc < 0)
		return rc;
	if (n == 1 && all->len <= CHUNK_BYTES
	    && d->places[first].file_offset + d->places[first].len >= all->offset + all->len) {
		struct fetch f = { .all = all, .at = d->places[first], .cap = d->cap,
			.file_offset = all->offset, .len = all->len };

		return fetch_run(&f, note);
	}
	return fetch_many(all, note);
}

/* (D2) */
static bool worth_asking_again(int rc)
{
	return rc == E_GONE || rc == E_STALE || rc == E_CLOSED || rc == E_UNREACH || rc == E_IO
		|| rc == E_BUSY || rc == E_UNAVAILABLE || rc == E_DENIED || rc == E_CORRUPT;
}

PARKS static int renew_wait(struct download *d, unsigned tries, uint64_t until_ns)
{
	uint64_t ns = RENEW_FIRST_NS << (tries < 8 ? tries : 8), at;

	if (tries == 0)
		return 0;
	at = sys_after(d->c->sys, ns < RENEW_MAX_NS ? ns : RENEW_MAX_NS);
	return fiber_sleep(at < until_ns ? at : until_ns);
}

PARKS static int read_range(struct download *d, void *buf, uint64_t offset, size_t len,
	uint64_t until_ns, struct err_note *note)
{
	struct err_note last = { "" }, why = { "" };
	unsigned missing = 0;
	int first_rc = 0;

	for (unsigned tries = 0;; tries++) {
		struct fetching all = { .d = d, .buf = buf, .offset = offset, .len = len,
			.until_ns = until_ns };
		int rc = fetch_range(&all, &last);

		if (rc == 0)
			return 0;
		/* Asked anew, the shard named what the server had just said it does not have. */
		missing += all.missing && rc == E_GONE;
		if (missing == 2)
			return err_set(note, E_LOST, "%s", last.text);
		/* The shard itself says that it is gone: bucket or object (D1). */
		if ((rc == E_GONE && !all.missing) || !worth_asking_again(rc)
		    || tries >= RENEWALS_MAX
		    || sys_now_ns(d->c->sys) >= until_ns
		    || ((rc == E_CORRUPT || rc == E_DENIED) && first_rc == rc)) {
			/* That time was over is less telling than what it was spent on. */
			if (note != NULL)
				*note = rc == E_TIMEOUT && why.text[0] != '\0' ? why : last;
			return rc;
		}
		first_rc = rc;
		why = last;
		sys_reached(d->c->sys, "places asked for anew");
		download_places_forget(d);
		rc = renew_wait(d, tries, until_ns);
		if (rc < 0)
			return err_set(note, rc, "%s", last.text);
	}
}

PARKS int64_t download_pread(struct download *d, void *buf, size_t cap, uint64_t offset,
	uint64_t until_ns, struct err_note *note)
{
	uint64_t left = offset < d->info.size ? d->info.size - offset : 0;
	size_t len = cap < left ? cap : (size_t)left;
	int rc;

	if (len == 0)
		return 0;
	if (d->inline_bytes != NULL) {
		memcpy(buf, d->inline_bytes + offset, len);
		return (int64_t)len;
	}
	rc = read_range(d, buf, offset, len, until_ns, note);
	if (rc < 0)
		return err_wrap(note, rc, "%s/%s", bucket_shown(d->name.bucket), d->name.key);
	return (int64_t)len;
}

PARKS int download_done(struct download *d, uint64_t until_ns, struct err_note *note)
{
	struct msg_done m = { .bucket = d->name.id.id, .inode = d->inode };
	struct ask a = { .op = OP_done, .reply_op = OP_ok, .msg = &m, .changes = true };
	struct msg_ok ok;
	int rc;

	if (!d->consuming)
		return 0;
	rc = dialog_ask(&d->c->dialog, &a, &ok, until_ns, note);
	ask_fini(&a);
	if (rc == 0)
		d->consuming = false;
	return rc;
}

/* ---- what callers hold ---- */
PARKS int download_new(struct client *c, const char *bucket, const char *key,
	const struct wadi_get_opts *o, uint64_t until_ns, struct download **ret_d,
	struct wadi_info *ret_info, struct err_note *note)
{
	struct download *d = malloc(sizeof *d);
	int rc;

	if (d == NULL)
		return err_set(note, E_NOMEM, "a download");
	rc = download_open(d, c, bucket, key, o, until_ns, note);
	if (rc < 0) {
		free(d);
		return rc;
	}
	if (ret_info != NULL)
		*ret_info = d->info;
	*ret_d = d;
	return 0;
}

void download_free(struct download *d)
{
	if (d == NULL)
		return;
	download_close(d);
	free(d);
}

PARKS static int get_once(struct download *d, void *buf, size_t cap, uint64_t until_ns,
	size_t *ret_len, struct err_note *note)
{
	uint64_t offset, len;
	int64_t got;
	int rc;

	download_range(d, &offset, &len);
	if (len > cap)
		return err_set(note, E_TOOBIG, "%s/%s: %llu bytes into a buffer of %zu",
			bucket_shown(d->name.bucket), d->name.key, (unsigned long long)len, cap);
	got = download_pread(d, buf, (size_t)len, offset, until_ns, note);
	if (got < 0)
		return (int)got;
	rc = download_done(d, until_ns, note);
	if (rc == 0)
		*ret_len = (size_t)got;
	return rc;
}

PARKS int client_get(struct client *c, const char *bucket, const char *key, void *buf, size_t cap,
	const struct wadi_get_opts *o, uint64_t until_ns, size_t *ret_len,
	struct wadi_info *ret_info, struct err_note *note)
{
	struct download d;
	int rc;

	for (unsigned tries = 0;; tries++) {
		rc = download_open(&d, c, bucket, key, o, until_ns, note);
		if (rc < 0)
			return rc;
		rc = get_once(&d, buf, cap, until_ns, ret_len, note);
		if (rc == 0 && ret_info != NULL)
			*ret_info = d.info;
		download_close(&d);
		/* (D1) Nothing was given out: whatever has the name now will do. */
		if (rc != E_GONE || tries == RENEWALS_MAX || sys_now_ns(c->sys) >= until_ns)
			return rc;
		sys_reached(c->sys, "object replaced while it was got");
	}
}
