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

PARKS static int put_far(const struct slice *sl, const void *data, size_t len, bool sync,
	uint32_t *sums, uint64_t until_ns, struct msg_extent_ok *ret_ok, struct err_note *note)
{
	const struct part *pa = sl->part;
	struct msg_extent_write m = {
		.egroup = pa->egroup, .extent = sl->extent, .epoch = pa->epoch,
		.tier = pa->tier, .device = pa->device, .sync = sync,
		.extent_first = pa->extent_first, .extent_count = pa->extent_count,
		.credit_bytes = pa->credit_bytes, .cap_job = pa->cap_job,
		.cap_until_ms = pa->cap_until_ms, .cap = bytes_of(pa->cap, pa->cap_len),
	};
	struct rpc_call call = { .op = OP_extent_write, .msg = &m, .data = bytes_of(data, len) };
	int rc;

	sums_compute(sl->extent, 0, data, len, sums);
	m.root = sums_root(sums, sums_count(len));
	rc = peer_ask(pa->peer, &call, OP_extent_ok, ret_ok, until_ns, note);
	rpc_call_fini(&call);
	if (rc == 0 && ret_ok->root != m.root)
		return err_set(note, E_CORRUPT, "%s stored other bytes", peer_name(pa->peer));
	return rc;
}

PARKS int extent_put(struct sys *s, const struct slice *sl, const void *data, size_t len, bool sync,
	uint64_t until_ns, struct sub_extent_ref *ret_ref, struct err_note *note)
{
	struct part *pa = sl->part;
	struct msg_extent_ok ok;
	uint32_t *sums;
	int rc;

	check(len > 0);
	check(len <= sl->len);
	rc = peer_connect(pa->peer, until_ns, note);
	if (rc < 0)
		return rc;
	sums = malloc(sums_count(len) * sizeof *sums);
	if (sums == NULL)
		return err_set(note, E_NOMEM, "sums of an extent");
	if (pa->tier == TIER_DRAM && peer_near(pa->peer))
		rc = put_near(sl, data, len, sums, until_ns, &ok, note);
	else
		rc = put_far(sl, data, len, sync, sums, until_ns, &ok, note);
	free(sums);
	if (rc < 0)
		return rc;
	*ret_ref = (struct sub_extent_ref){ .egroup = pa->egroup, .extent = sl->extent,
		.offset = ok.offset, .len = len, .root = ok.root };
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
