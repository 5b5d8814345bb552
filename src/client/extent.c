/* SPDX-License-Identifier: Apache-2.0 */
#include "client/extent.h"
#include "base/check.h"
#include "base/limit.h"
#include "base/sums.h"
#include "client/loan.h"
#include <stdlib.h>
#include <string.h>

/* Between two steps of a long copy other fibers run: answers of other servers are taken in. */
enum { COPY_STEP_BYTES = 1 << 20, PIN_BYTES_MIN = 64 << 10 };
/* A server that has not answered by then is not waited for when another has the same bytes. */
#define OTHER_AFTER_NS (3 * SYS_SEC)
_Static_assert(COPY_STEP_BYTES % LIMIT_BLOCK_BYTES == 0, "steps are whole blocks");

/* ---- writing ---- */
PARKS static int copy_in(uint64_t extent, uint8_t *to, const uint8_t *from, size_t len,
	uint32_t *sums)
{
	for (size_t at = 0; at < len; at += COPY_STEP_BYTES) {
		size_t n = len - at < COPY_STEP_BYTES ? len - at : COPY_STEP_BYTES;

		sums_copy(extent, at / LIMIT_BLOCK_BYTES, to + at, from + at, n,
			sums + at / LIMIT_BLOCK_BYTES);
		if (at + n < len && fiber_yield() < 0)
			return E_CANCELED;
	}
	return 0;
}

static bool range_inside(uint64_t at, uint64_t len, uint64_t size)
{
	return at <= size && len <= size - at;
}

PARKS static int seal_ask(const struct slice *sl, const uint32_t *sums, size_t n, uint64_t until_ns,
	struct msg_extent_ok *ret_ok, struct err_note *note)
{
	struct msg_extent_seal m = { .egroup = sl->part->egroup, .extent = sl->extent,
		.root = sums_root(sums, n) };
	uint8_t *wire = malloc(n * 4 + 1);
	struct rpc_call call = { .op = OP_extent_seal, .msg = &m, .data = bytes_of(wire, n * 4) };
	int rc;

	if (wire == NULL)
		return err_set(note, E_NOMEM, "sums of an extent");
	sums_put(wire, sums, n);
	rc = peer_ask(sl->part->peer, &call, OP_extent_ok, ret_ok, until_ns, note);
	rpc_call_fini(&call);
	free(wire);
	if (rc == 0 && ret_ok->root != m.root)
		return err_set(note, E_CORRUPT, "%s sealed other bytes", peer_name(sl->part->peer));
	return rc;
}

/* One copy, with the sums made in it. */
PARKS static int put_near(const struct slice *sl, const void *data, size_t len, uint32_t *sums,
	uint64_t until_ns, struct msg_extent_ok *ret_ok, struct err_note *note)
{
	const struct part *pa = sl->part;
	struct msg_extent_alloc m = {
		.egroup = pa->egroup, .extent = sl->extent, .epoch = pa->epoch, .len = len,
		.device = pa->device, .extent_first = pa->extent_first,
		.extent_count = pa->extent_count, .credit_bytes = pa->credit_bytes,
		.cap_job = pa->cap_job, .cap_until_ms = pa->cap_until_ms,
		.cap = bytes_of(pa->cap, pa->cap_len),
	};
	struct msg_alloc_ok room;
	struct arena_map *map;
	int rc = loan_alloc(pa->peer, &m, until_ns, &room, &map, note);

	if (rc < 0)
		return rc;
	rc = copy_in(sl->extent, map->base + room.offset, data, len, sums);
	map_unref(map);
	if (rc < 0)
		return err_set(note, rc, "writing an extent");
	return seal_ask(sl, sums, sums_count(len), until_ns, ret_ok, note);
}

/* One of the servers that an extent is written to. */
struct target {
	struct peer *peer;
	struct bytes cap;
	uint64_t cap_until_ms, until_ns;
	uint8_t device;
	/* what is written, the same for all of them */
	const struct slice *slice;
	struct bytes data;
	uint32_t root;
	bool sync;
	/* what came of it */
	struct msg_extent_ok ok;
	struct err_note note;
	int rc;
};

PARKS static int write_far(struct target *t)
{
	const struct part *pa = t->slice->part;
	struct msg_extent_write m = {
		.egroup = pa->egroup, .extent = t->slice->extent, .epoch = pa->epoch,
		.tier = pa->tier, .device = t->device, .sync = t->sync, .root = t->root,
		.extent_first = pa->extent_first, .extent_count = pa->extent_count,
		.credit_bytes = pa->credit_bytes, .cap_job = pa->cap_job,
		.cap_until_ms = t->cap_until_ms, .cap = t->cap,
	};
	struct rpc_call call = { .op = OP_extent_write, .msg = &m, .data = t->data };
	int rc = peer_ask(t->peer, &call, OP_extent_ok, &t->ok, t->until_ns, &t->note);

	rpc_call_fini(&call);
	if (rc == 0 && t->ok.root != m.root)
		return err_set(&t->note, E_CORRUPT, "%s stored other bytes", peer_name(t->peer));
	return rc;
}

PARKS static int target_fiber(void *arg)
{
	struct target *t = arg;

	t->rc = write_far(t);
	return t->rc;
}

static struct target target_of(const struct slice *sl, uint32_t i)
{
	const struct part *pa = sl->part;
	const struct part_copy *cp = i > 0 ? &pa->copies[i - 1] : NULL;

	if (cp == NULL)
		return (struct target){ .peer = pa->peer, .device = pa->device, .slice = sl,
			.cap = bytes_of(pa->cap, pa->cap_len), .cap_until_ms = pa->cap_until_ms };
	return (struct target){ .peer = cp->peer, .device = cp->device, .slice = sl,
		.cap = bytes_of(cp->cap, cp->cap_len), .cap_until_ms = cp->cap_until_ms };
}

/* The one that failed by itself: the others were then called off. */
static int targets_judge(const struct target *targets, uint32_t n, int rc,
	struct peer **ret_failed, struct err_note *note)
{
	for (uint32_t i = 0; i < n; i++) {
		if (targets[i].rc == 0 || targets[i].rc == E_CANCELED)
			continue;
		*ret_failed = targets[i].peer;
		if (note != NULL)
			*note = targets[i].note;
		return targets[i].rc;
	}
	return rc < 0 ? err_set(note, rc, "writing the copies of an extent") : 0;
}

/* All that have to have it, side by side. */
PARKS static int put_far(struct sys *s, const struct slice *sl, struct bytes data, bool sync,
	uint64_t until_ns, uint32_t *sums, struct msg_extent_ok *ret_ok,
	struct peer **ret_failed, struct err_note *note)
{
	struct target targets[1 + PART_COPIES_MAX];
	uint32_t n = 1 + sl->part->n_copies, root;
	struct group g;
	int rc = 0;

	sums_compute(sl->extent, 0, data.p, data.len, sums);
	root = sums_root(sums, sums_count(data.len));
	group_init(&g, sys_loop(s));
	for (uint32_t i = 0; i < n; i++) {
		targets[i] = target_of(sl, i);
		targets[i].data = data;
		targets[i].root = root;
		targets[i].sync = sync;
		targets[i].until_ns = until_ns;
		targets[i].rc = E_CANCELED;
	}
	for (uint32_t i = 1; i < n && rc == 0; i++)
		rc = fiber_start(&g, "copy", target_fiber, &targets[i]);
	if (rc == 0)
		rc = target_fiber(&targets[0]);
	if (rc < 0)
		group_cancel(&g);
	if (n > 1) {
		int copies = group_wait(&g);

		rc = rc < 0 ? rc : copies;
	}
	rc = targets_judge(targets, n, rc, ret_failed, note);
	if (rc == 0)
		*ret_ok = targets[0].ok;
	return rc;
}

PARKS int extent_put(struct sys *s, const struct slice *sl, const void *data, size_t len, bool sync,
	uint64_t until_ns, struct sub_extent_ref *ret_ref, struct peer **ret_failed,
	struct err_note *note)
{
	struct part *pa = sl->part;
	struct msg_extent_ok ok;
	uint32_t *sums;
	int rc;

	check(len > 0);
	check(len <= sl->len);
	*ret_failed = pa->peer;
	rc = peer_connect(pa->peer, until_ns, note);
	if (rc < 0)
		return rc;
	*ret_failed = NULL;
	sums = malloc(sums_count(len) * sizeof *sums);
	if (sums == NULL)
		return err_set(note, E_NOMEM, "sums of an extent");
	if (pa->tier == TIER_DRAM && pa->n_copies == 0 && peer_near(pa->peer))
		rc = put_near(sl, data, len, sums, until_ns, &ok, note);
	else
		rc = put_far(s, sl, bytes_of(data, len), sync, until_ns, sums, &ok, ret_failed,
			note);
	free(sums);
	if (rc < 0)
		return rc;
	*ret_ref = (struct sub_extent_ref){ .egroup = pa->egroup, .extent = sl->extent,
		.offset = ok.offset, .len = len, .root = ok.root,
		.copies = (uint8_t)(1 + pa->n_copies) };
	return 0;
}

/* ---- pinning ---- */
PARKS int extent_pin(const struct place *at, const struct read_cap *cap, uint64_t until_ns,
	struct pin *ret_pin, struct err_note *note)
{
	struct msg_extent_pin m = { .egroup = at->egroup, .extent = at->extent, .cap_job = cap->job,
		.cap_until_ms = cap->until_ms, .cap = bytes_of(cap->code, cap->len) };
	struct pin pin = { .peer = at->peer, .egroup = at->egroup, .extent = at->extent };
	struct msg_pin_ok ok;
	int rc;

	rc = peer_connect(at->peer, until_ns, note);
	if (rc < 0)
		return rc;
	if (at->tier != TIER_DRAM || !peer_near(at->peer))
		return err_set(note, E_UNSUPPORTED, "no memory shared with %s",
			peer_name(at->peer));
	rc = loan_pin(at->peer, &m, until_ns, &ok, &pin.map, &pin.generation, note);
	if (rc < 0)
		return rc;
	pin.len = ok.len;
	if (ok.len != at->len || ok.root != at->root) {
		pin_drop(&pin);
		return err_set(note, E_CORRUPT, "%s pinned another extent", peer_name(at->peer));
	}
	pin.data = pin.map->base + ok.offset;
	*ret_pin = pin;
	return 0;
}

bool pin_holds(const struct pin *pin)
{
	return pin->map != NULL && pin->generation == peer_generation(pin->peer);
}

void pin_drop(struct pin *pin)
{
	struct msg_extent_unpin m = { .egroup = pin->egroup, .extent = pin->extent };

	if (pin->map == NULL)
		return;
	if (pin_holds(pin))
		peer_tell(pin->peer, OP_extent_unpin, &m, sizeof m);
	map_unref(pin->map);
	pin->map = NULL;
}

/* ---- reading ---- */
PARKS static int get_near(const struct place *at, const struct read_cap *cap, uint64_t offset,
	uint8_t *buf, size_t len, uint64_t until_ns, struct err_note *note)
{
	struct pin pin;
	int rc = extent_pin(at, cap, until_ns, &pin, note);

	if (rc < 0)
		return rc;
	for (size_t n, done = 0; done < len && rc == 0; done += n) {
		n = len - done < COPY_STEP_BYTES ? len - done : COPY_STEP_BYTES;
		memcpy(buf + done, pin.data + offset + done, n);
		if (done + n < len)
			rc = fiber_yield();
	}
	if (rc == 0 && !pin_holds(&pin))
		rc = err_set(note, E_CLOSED, "%s went away", peer_name(at->peer));
	pin_drop(&pin);
	return rc;
}

/* What was asked for must have come, and be what was written. */
static int verify(const struct place *at, uint64_t first, size_t len, const struct msg_read_ok *ok,
	struct bytes data, struct err_note *note)
{
	size_t n = sums_count(len);
	uint32_t *sums;
	uint64_t bad;
	bool good;

	if (ok->offset != first || data.len != len || ok->sums.len != n * 4)
		return err_set(note, E_CORRUPT, "%s answered with another range",
			peer_name(at->peer));
	sums = malloc(n * sizeof *sums + 1);
	if (sums == NULL)
		return err_set(note, E_NOMEM, "sums of a read");
	sums_get(sums, ok->sums.p, n);
	good = sums_verify(at->extent, first / LIMIT_BLOCK_BYTES, data.p, len, sums, &bad);
	if (good && first == 0 && len == at->len)
		good = sums_root(sums, n) == at->root;
	free(sums);
	if (!good)
		return err_set(note, E_CORRUPT, "extent %llu from %s: a checksum does not match",
			(unsigned long long)at->extent, peer_name(at->peer));
	return 0;
}

/* Whole blocks travel: when the range is not made of such, they pass through memory of ours. */
PARKS static int get_far(const struct place *at, const struct read_cap *cap, uint64_t offset,
	uint8_t *buf, size_t len, uint64_t until_ns, struct err_note *note)
{
	uint64_t first = offset / LIMIT_BLOCK_BYTES * LIMIT_BLOCK_BYTES;
	uint64_t end = sums_count(offset + len) * LIMIT_BLOCK_BYTES;
	size_t whole = (size_t)((end < at->len ? end : at->len) - first);
	uint8_t *into = whole == len ? buf : malloc(whole);
	struct msg_extent_read m = { .egroup = at->egroup, .extent = at->extent, .offset = offset,
		.len = (uint32_t)len, .cap_job = cap->job, .cap_until_ms = cap->until_ms,
		.cap = bytes_of(cap->code, cap->len) };
	struct rpc_call call = { .op = OP_extent_read, .msg = &m, .into = into, .into_cap = whole };
	struct msg_read_ok ok;
	int rc;

	if (into == NULL)
		return err_set(note, E_NOMEM, "a read of %zu bytes", whole);
	rc = peer_ask(at->peer, &call, OP_read_ok, &ok, until_ns, note);
	if (rc == 0)
		rc = verify(at, first, whole, &ok, call.reply_data, note);
	if (rc == 0 && into != buf)
		memcpy(buf, into + (offset - first), len);
	rpc_call_fini(&call);
	if (into != buf)
		free(into);
	return rc;
}

PARKS int extent_get(struct sys *s, const struct place *at, const struct read_cap *cap,
	uint64_t offset,
	void *buf, size_t len, uint64_t until_ns, struct err_note *note)
{
	int rc;

	check(len > 0);
	check(range_inside(offset, len, at->len));
	if (at->lost == PLACE_ROTTEN)
		return err_set(note, E_LOST, "extent %llu is not what was written, on any server",
			(unsigned long long)at->extent);
	if (at->lost)
		return err_set(note, E_LOST, "memory of %s is gone with the process that held it",
			peer_name(at->peer));
	rc = peer_connect(at->peer, until_ns, note);
	if (rc < 0 && at->tier == TIER_DRAM && peer_died(at->peer))
		return err_set(note, E_LOST, "memory of %s is gone with the process that held it",
			peer_name(at->peer));
	if (rc < 0)
		return rc;
	if (at->tier == TIER_DRAM && peer_near(at->peer) && len >= PIN_BYTES_MIN)
		return get_near(at, cap, offset, buf, len, until_ns, note);
	return get_far(at, cap, offset, buf, len, until_ns, note);
}

/* Those that have just failed come last; else in the order of the place. */
static uint32_t in_order(const struct place *at, struct peer *ret_peers[1 + PLACE_OTHERS_MAX])
{
	uint32_t n = 0;

	for (int failed = 0; failed <= 1; failed++)
		for (uint32_t i = 0; i <= at->n_others; i++) {
			struct peer *p = i == 0 ? at->peer : at->others[i - 1];

			if (peer_failed_lately(p) == (failed == 1))
				ret_peers[n++] = p;
		}
	check(n == at->n_others + 1u);
	return n;
}

/* Others may have them: for the last one all the time that is left. */
PARKS int extent_get_any(struct sys *s, const struct place *at, const struct read_cap *cap,
	uint64_t offset, void *buf, size_t len, uint64_t until_ns, struct peer **ret_bad,
	struct err_note *note)
{
	struct peer *peers[1 + PLACE_OTHERS_MAX];
	uint32_t n = in_order(at, peers);
	struct place one = *at;
	int later = 0; /* of a server that may have them when it is back */

	*ret_bad = NULL;
	for (uint32_t i = 0;; i++) {
		uint64_t soon_ns = i + 1 < n ? sys_after(s, OTHER_AFTER_NS) : until_ns;
		int rc;

		one.peer = peers[i];
		rc = extent_get(s, &one, cap, offset, buf, len,
			until_ns < soon_ns ? until_ns : soon_ns, note);
		if (rc == E_CORRUPT)
			*ret_bad = one.peer;
		if (rc == 0 || rc == E_CANCELED || rc == E_NOMEM || rc == E_STALE)
			return rc;
		if (rc == E_TIMEOUT || rc == E_UNREACH || rc == E_CLOSED || rc == E_UNAVAILABLE) {
			peer_note_failure(one.peer);
			later = E_UNREACH;
		}
		if (i + 1 == n || sys_now_ns(s) >= until_ns)
			return rc == E_GONE && later != 0 ? later : rc;
		sys_reached(s, "extent read from another of its servers");
	}
}
