/* SPDX-License-Identifier: Apache-2.0 */
#include "client/grants.h"
#include "base/check.h"
#include "base/limit.h"
#include <stdlib.h>
#include <string.h>

/* How far asking runs ahead, and how much one request asks for at most. */
#define AHEAD_BYTES_MAX ((uint64_t)LIMIT_EGROUP_BYTES)
#define AHEAD_NS (5 * SYS_SEC)
#define AVOID_NS (5 * SYS_SEC) /* longer than the shard takes to miss a server */
/* A grant waits for a sync: a stream that has just begun must not wait for many of them. */
enum { SLICE_BYTES_MIN = 256 << 10, AHEAD_GROWTH = 4, HEADER_FIELDS_BYTES = 128 };

struct ahead { struct grants *gs; struct pool *pool; uint64_t bytes; };

void grants_init(struct grants *gs, struct dialog *se, struct peers *ps, struct group *g)
{
	*gs = (struct grants){
		.sys = se->sys, .dialog = se, .peers = ps, .group = g
	};
	list_init(&gs->pools);
}

static struct pool *pool_find(struct grants *gs, uint64_t bucket, uint16_t flags)
{
	struct pool *po;

	list_each(it, &gs->pools) {
		po = container_of(it, struct pool, link);
		if (po->bucket == bucket && po->flags == flags)
			return po;
	}
	po = calloc(1, sizeof *po);
	if (po == NULL)
		return NULL;
	po->bucket = bucket;
	po->flags = flags;
	list_init(&po->parts);
	waitq_init(&po->asked);
	list_push(&gs->pools, &po->link);
	return po;
}

/* What an extent takes of a credit, as room_of() in core/room.h: whole blocks, and in a file whole
 * blocks in front of them with its fields and a sum for each block. */
static uint64_t room_bytes(const struct part *pa, uint64_t len)
{
	uint64_t blocks = (len + LIMIT_BLOCK_BYTES - 1) / LIMIT_BLOCK_BYTES;
	uint64_t header = HEADER_FIELDS_BYTES + blocks * sizeof(uint32_t);

	if (pa->tier != TIER_DRAM)
		blocks += (header + LIMIT_BLOCK_BYTES - 1) / LIMIT_BLOCK_BYTES;
	return blocks * LIMIT_BLOCK_BYTES;
}

static bool part_usable(const struct part *pa)
{
	return !pa->spoiled && pa->n_taken < pa->extent_count
		&& pa->left_bytes >= room_bytes(pa, 1);
}

static uint64_t pool_left(const struct pool *po)
{
	uint64_t sum = 0;

	list_each(it, &po->parts) {
		const struct part *pa = container_of(it, struct part, link);

		sum += part_usable(pa) ? pa->left_bytes : 0;
	}
	return sum;
}

/* ---- asking ---- */
static int part_add(struct grants *gs, struct pool *po, const struct sub_grant_part *g)
{
	struct peer *peer = peer_by_id(gs->peers, g->server);
	struct part *pa;

	if (peer == NULL || g->extent_bytes_max == 0 || g->cap.len > sizeof pa->cap)
		return E_CORRUPT;
	pa = calloc(1, sizeof *pa);
	if (pa == NULL)
		return E_NOMEM;
	*pa = (struct part){
		.pool = po, .peer = peer, .egroup = g->egroup, .epoch = g->epoch,
		.extent_first = g->extent_first, .credit_bytes = g->credit_bytes,
		.extent_count = g->extent_count, .extent_bytes_max = g->extent_bytes_max,
		.cap_job = g->cap_job, .cap_until_ms = g->cap_until_ms,
		.cap_len = (uint32_t)g->cap.len, .tier = g->tier, .device = g->device,
		.left_bytes = g->credit_bytes / LIMIT_BLOCK_BYTES * LIMIT_BLOCK_BYTES,
	};
	if (g->cap.len > 0)
		memcpy(pa->cap, g->cap.p, g->cap.len);
	list_push(&po->parts, &pa->link);
	return 0;
}

/* Of a part that stands in the list already. */
static int copy_add(struct grants *gs, struct pool *po, const struct sub_grant_copy *g)
{
	struct peer *peer = peer_by_id(gs->peers, g->server);

	list_each(it, &po->parts) {
		struct part *pa = container_of(it, struct part, link);
		struct part_copy *cp;

		if (pa->extent_first != g->extent_first)
			continue;
		if (peer == NULL || pa->n_copies == PART_COPIES_MAX
		    || g->cap.len > sizeof cp->cap)
			return E_CORRUPT;
		cp = &pa->copies[pa->n_copies++];
		*cp = (struct part_copy){ .peer = peer, .cap_until_ms = g->cap_until_ms,
			.cap_len = (uint32_t)g->cap.len, .device = g->device };
		if (g->cap.len > 0)
			memcpy(cp->cap, g->cap.p, g->cap.len);
		return 0;
	}
	return E_CORRUPT;
}

static int parts_add(struct grants *gs, struct pool *po, struct msg_grant_ok *ok,
	struct err_note *note)
{
	struct sub_server_addr addr;
	struct sub_grant_part part;
	struct sub_grant_copy copy;
	int rc = 0;

	while (sub_server_addr_next(&ok->servers, &addr))
		if (peer_find(gs->peers, &addr) == NULL)
			return err_set(note, E_NOMEM, "storage servers");
	while (rc == 0 && sub_grant_part_next(&ok->parts, &part))
		rc = part_add(gs, po, &part);
	while (rc == 0 && sub_grant_copy_next(&ok->copies, &copy))
		rc = copy_add(gs, po, &copy);
	return rc < 0 ? err_set(note, rc, "a grant from the metadata server") : 0;
}

static struct wire_list avoid_list(const struct grants *gs, uint8_t *room, size_t bytes)
{
	struct wire_list_builder b = wire_list_begin(room, bytes,
		dialog_version(gs->dialog));

	for (unsigned i = 0; i < AVOID_MAX; i++)
		if (gs->avoid[i].until_ns > sys_now_ns(gs->sys))
			sub_server_id_add(&b,
				&(struct sub_server_id){ .server = gs->avoid[i].server });
	return wire_list_end(&b);
}

static bool part_has(const struct part *pa, const struct peer *p)
{
	for (uint32_t i = 0; i < pa->n_copies; i++)
		if (peer_server(pa->copies[i].peer) == peer_server(p))
			return true;
	return peer_server(pa->peer) == peer_server(p);
}

void grants_avoid(struct grants *gs, const struct peer *p)
{
	unsigned at = 0;

	for (unsigned i = 0; i < AVOID_MAX; i++) {
		if (gs->avoid[i].server == peer_server(p)) {
			at = i;
			break;
		}
		at = gs->avoid[i].until_ns < gs->avoid[at].until_ns ? i : at;
	}
	gs->avoid[at].server = peer_server(p);
	gs->avoid[at].until_ns = sys_after(gs->sys, AVOID_NS);
	list_each(it, &gs->pools) {
		struct pool *po = container_of(it, struct pool, link);

		list_each(l, &po->parts) {
			struct part *pa = container_of(l, struct part, link);

			pa->spoiled = pa->spoiled || part_has(pa, p);
		}
	}
}

bool grants_recall(struct grants *gs, uint32_t server)
{
	bool writes = false;

	list_each(it, &gs->pools) {
		struct pool *po = container_of(it, struct pool, link);

		if (server == 0) /* begins small again */
			po->n_asked = 0, po->taken_bytes = 0, po->enough_bytes = 0;
		list_each(l, &po->parts) {
			struct part *pa = container_of(l, struct part, link);

			/* What is written into now is as good as used. */
			pa->spoiled = pa->spoiled || (server == 0 && pa->n_open == 0)
				|| peer_server(pa->peer) == server;
			for (uint32_t i = 0; i < pa->n_copies; i++)
				pa->spoiled = pa->spoiled ||
					peer_server(pa->copies[i].peer) == server;
			writes = writes || (pa->spoiled && pa->n_open > 0);
		}
		writes = writes || po->asking;
	}
	grants_tidy(gs);
	return writes;
}

/* One at a time for a pool; others wait and look again. */
PARKS static int pool_ask(struct grants *gs, struct pool *po, uint64_t bytes, bool ahead,
	uint64_t until_ns, struct err_note *note)
{
	const char *host = sys_boot_id(gs->sys);
	uint8_t avoid[AVOID_MAX * 8];
	struct msg_grant m = {
		.bucket = po->bucket,
		.bytes = bytes,
		.flags = (uint16_t)(po->flags | (ahead ? PUT_AHEAD : 0)),
		.host = bytes_of(host, strlen(host)),
		.avoid = avoid_list(gs, avoid, sizeof avoid),
	};
	/* The shard remembers no answer to it: one that was lost on the way is asked again. */
	struct ask a = { .op = OP_grant, .reply_op = OP_grant_ok, .msg = &m };
	struct msg_grant_ok ok;
	int rc;

	check(!po->asking);
	po->asking = true;
	rc = dialog_ask(gs->dialog, &a, &ok, until_ns, note);
	if (rc == 0) {
		po->n_asked++;
		rc = parts_add(gs, po, &ok, note);
	}
	ask_fini(&a);
	po->asking = false;
	waitq_wake_all(&po->asked);
	return rc;
}

/* A failure is no one's business: whoever needs the room asks again and is told. */
PARKS static int ahead_fiber(void *arg)
{
	struct ahead *ah = arg;
	struct pool *po = ah->pool;
	uint64_t left;

	if (!po->asking) {
		pool_ask(ah->gs, po, ah->bytes, true, sys_after(ah->gs->sys, AHEAD_NS), NULL);
		left = pool_left(po);
		po->enough_bytes = left < ah->bytes ? left : 0;
	}
	free(ah);
	return 0;
}

static uint64_t ahead_bytes(const struct pool *po)
{
	if (po->n_asked < 2)
		return 0;
	return po->taken_bytes < AHEAD_BYTES_MAX / AHEAD_GROWTH ? po->taken_bytes * AHEAD_GROWTH
								: AHEAD_BYTES_MAX;
}

static void ask_ahead(struct grants *gs, struct pool *po)
{
	uint64_t want = ahead_bytes(po), enough = want;
	struct ahead *ah;

	if (po->enough_bytes > 0 && po->enough_bytes < enough)
		enough = po->enough_bytes;
	if (po->asking || pool_left(po) * 2 >= enough)
		return;
	ah = calloc(1, sizeof *ah);
	if (ah == NULL)
		return;
	*ah = (struct ahead){ .gs = gs, .pool = po, .bytes = want };
	if (fiber_start(gs->group, "grant-ahead", ahead_fiber, ah) < 0)
		free(ah);
	else
		sys_reached(gs->sys, "grant asked for ahead of need");
}

/* ---- returning ---- */
PARKS static int part_return(struct grants *gs, const struct part *pa, uint64_t until_ns)
{
	struct msg_grant_return m = { .egroup = pa->egroup, .extent_first = pa->extent_first };
	struct ask a = { .op = OP_grant_return, .reply_op = OP_ok, .msg = &m };
	struct msg_ok ok;
	int rc = dialog_ask(gs->dialog, &a, &ok, until_ns, NULL);

	ask_fini(&a);
	return rc;
}

struct giving { struct grants *gs; struct part *part; uint64_t until_ns; };

PARKS static int giving_fiber(void *arg)
{
	struct giving *gi = arg;

	part_return(gi->gs, gi->part, gi->until_ns);
	free(gi->part);
	free(gi);
	return 0;
}

/* Takes the part out of its pool and tells the shard behind the caller's back.  When that fails the
 * shard frees the grant at the end of the session. */
static void part_give_back(struct grants *gs, struct part *pa, uint64_t until_ns)
{
	struct giving *gi = calloc(1, sizeof *gi);

	check(pa->n_open == 0);
	list_remove(&pa->link);
	if (gi != NULL) {
		*gi = (struct giving){ .gs = gs, .part = pa, .until_ns = until_ns };
		if (fiber_start(gs->group, "grant-return", giving_fiber, gi) == 0)
			return;
		free(gi);
	}
	free(pa);
}

/* (G1) */
static void pool_tidy(struct grants *gs, struct pool *po)
{
	list_each_safe(it, &po->parts) {
		struct part *pa = container_of(it, struct part, link);

		if (pa->n_open == 0 && !part_usable(pa))
			part_give_back(gs, pa, sys_after(gs->sys, AHEAD_NS));
	}
}


PARKS void grants_return(struct grants *gs, uint64_t until_ns)
{
	list_each(it, &gs->pools) {
		struct pool *po = container_of(it, struct pool, link);

		list_each_safe(p, &po->parts) {
			struct part *pa = container_of(p, struct part, link);

			if (pa->n_open == 0)
				part_give_back(gs, pa, until_ns);
		}
	}
}

void grants_fini(struct grants *gs)
{
	struct list *l, *p;

	while ((l = list_pop(&gs->pools)) != NULL) {
		struct pool *po = container_of(l, struct pool, link);

		check(!po->asking);
		check(waitq_empty(&po->asked));
		while ((p = list_pop(&po->parts)) != NULL) {
			struct part *pa = container_of(p, struct part, link);

			check(pa->n_open == 0);
			free(pa);
		}
		free(po);
	}
}

/* ---- slices ---- */
/* The longest extent of at most want bytes that fits the part; 0: none. */
static uint64_t part_fits(const struct part *pa, uint64_t want)
{
	uint64_t room = pa->left_bytes;

	if (!part_usable(pa))
		return 0;
	want = want < pa->extent_bytes_max ? want : pa->extent_bytes_max;
	if (room_bytes(pa, want) <= room)
		return want;
	/* What is left goes to it whole; its header is that of at most as many bytes. */
	return room - (room_bytes(pa, room) - room);
}

/* Not a sliver, unless nothing else is wanted or left. */
static bool slice_cut(struct pool *po, uint64_t want, bool slivers, struct slice *ret_slice)
{
	uint64_t least = slivers ? 1 : want < SLICE_BYTES_MIN ? want : SLICE_BYTES_MIN;

	list_each(it, &po->parts) {
		struct part *pa = container_of(it, struct part, link);
		uint64_t len = part_fits(pa, want);

		if (len < least)
			continue;
		*ret_slice = (struct slice){ pa, pa->extent_first + pa->n_taken, len };
		pa->n_taken++;
		pa->n_open++;
		check(pa->left_bytes >= room_bytes(pa, len));
		pa->left_bytes -= room_bytes(pa, len);
		po->taken_bytes += len;
		/* The next slice comes from the next part. */
		list_remove(&pa->link);
		list_push(&po->parts, &pa->link);
		return true;
	}
	return false;
}

PARKS int grants_take(struct grants *gs, uint64_t bucket, uint16_t flags, uint64_t want,
	uint64_t need, uint64_t until_ns, struct slice *ret_slice, struct err_note *note)
{
	struct pool *po = pool_find(gs, bucket, flags);
	bool slivers = false, ahead = true;

	check(want > 0);
	if (po == NULL)
		return err_set(note, E_NOMEM, "room for an object");
	while (!slice_cut(po, want, slivers, ret_slice)) {
		uint64_t bytes = ahead ? ahead_bytes(po) : 0;
		int rc;

		if (po->asking) {
			rc = waitq_wait(&po->asked, until_ns);
			if (rc < 0)
				return err_set(note, rc, "waiting for room");
			continue;
		}
		/* Blocks before extents in files are part of a credit: ask for a little more. */
		ahead = ahead && bytes > need;
		bytes = ahead ? bytes : need;
		rc = pool_ask(gs, po, bytes + bytes / 64, ahead, until_ns, note);
		/* What would only be kept for later does not refuse what there is room for. */
		if (rc == E_FULL)
			rc = pool_ask(gs, po, need, false, until_ns, note);
		ahead = false;
		if (rc == E_FULL && !slivers) {
			slivers = true;
			continue;
		}
		if (rc < 0)
			return err_wrap(note, rc, "asking for room");
		if (pool_left(po) == 0)
			return err_set(note, E_CORRUPT, "the metadata server granted nothing");
	}
	ask_ahead(gs, po);
	return 0;
}

static void slice_close(struct slice *sl)
{
	struct part *pa = sl->part;

	check(pa != NULL);
	check(pa->n_open > 0);
	pa->n_open--;
	sl->part = NULL;
}

void slice_keep(struct slice *sl)
{
	slice_close(sl);
}

void slice_drop(struct slice *sl)
{
	sl->part->spoiled = true;
	slice_close(sl);
}

/* Another one leads: room of the one before is refused by every server that has heard of it. */
void slice_stale(struct slice *sl)
{
	uint64_t epoch = sl->part->epoch;

	list_each(it, &sl->part->pool->parts) {
		struct part *pa = container_of(it, struct part, link);

		pa->spoiled = pa->spoiled || pa->epoch <= epoch;
	}
	slice_drop(sl);
}

void grants_tidy(struct grants *gs)
{
	list_each(it, &gs->pools)
		pool_tidy(gs, container_of(it, struct pool, link));
}
