/* SPDX-License-Identifier: Apache-2.0 */
/* How fast one that is behind gets what it lacks, while the others serve.
 *
 *   (P1) Nobody rests whom a commit waits for, or without whom nothing is committed (R7).
 *   (P2) The rests end: their share falls while it does not come nearer, at last to nothing.
 *   (P3) What is left for NEAR_PIECES pieces is sent without rests, so that it comes in.
 *
 * A piece is sent, and the next one when it is written and a rest is over.  The rest is some times
 * as long as that took, so where there is much else to do the others have more of it. */
#include "core/replica.h"
#include "core/replica_own.h"

enum {
	PIECE_RECORDS = 8,    /* the first one: how long they are is not known */
	RESTS = 7,            /* in the beginning it works an eighth of the time */
	REST_PIECES_MAX = 25, /* no longer than so many pieces should take */
	NEAR_PIECES = 10,
};

void replica_pace_begin(struct replica *r, struct replica_peer *p)
{
	p->piece = PIECE_RECORDS;
	p->rests = RESTS;
	p->piece_end = p->piece_sent_ns = p->rest_until_ns = 0;
	p->took_ns = p->patience_ns = 0;
	p->took_records = 1;
	p->gap = 0;
	p->gap_ns = r->now_ns;
}

/* (P3) */
static bool is_near(const struct replica *r, const struct replica_peer *p)
{
	uint64_t gap = least(r->last.index - p->matched, UINT32_MAX);

	check(p->took_records > 0);
	return gap <= r->limits.near_records ||
	       (p->took_ns > 0 &&
		       gap * p->took_ns / p->took_records <= NEAR_PIECES * r->limits.piece_ns);
}

bool replica_paces(const struct replica *r, const struct replica_peer *p)
{
	return r->state.now == REPLICA_PRIMARY && p->rests > 0 &&
	       r->config.in_sync.n >= replica_min_in_sync(r->config.target_size) &&
	       !replica_waits_for(r, p->id) && !is_near(r, p); /* (P1) */
}

/* It takes long at most: what was sent may have been lost, and so may what tells of that. */
static bool is_under_way(const struct replica *r, const struct replica_peer *p)
{
	return p->piece_sent_ns != 0 && p->written < p->piece_end &&
	       r->now_ns - p->piece_sent_ns < r->limits.slow_ns;
}

uint32_t replica_pace(struct replica *r, struct replica_peer *p, uint32_t n)
{
	if (replica_waits_for(r, p->id))
		replica_pace_begin(r, p);
	if (!replica_paces(r, p)) {
		p->piece_sent_ns = 0;
		return n;
	}
	if (is_under_way(r, p) || r->now_ns < p->rest_until_ns)
		return 0;
	n = (uint32_t)least(n, p->piece);
	p->took_records = n;
	p->piece_end = p->next - 1 + n;
	p->piece_sent_ns = r->now_ns;
	return n;
}

/* (P2): at this pace it has to come a quarter nearer each time. */
static void try_faster(struct replica *r, struct replica_peer *p)
{
	uint64_t gap = r->last.index - p->matched;

	if (p->gap == 0 || r->now_ns - p->gap_ns > 2 * r->limits.pace_ns) {
		p->gap = gap; /* it was away */
		p->gap_ns = r->now_ns;
	} else if (r->now_ns - p->gap_ns >= r->limits.pace_ns) {
		if (gap > p->gap - p->gap / 4)
			p->rests /= 2;
		p->gap = gap;
		p->gap_ns = r->now_ns;
	}
}

void replica_pace_written(struct replica *r, struct replica_peer *p)
{
	if (!replica_paces(r, p))
		return;
	try_faster(r, p);
	if (p->piece_sent_ns == 0 || p->written < p->piece_end)
		return;
	p->took_ns = most(r->now_ns - p->piece_sent_ns, 1);
	p->patience_ns = least(4 * p->took_ns, r->limits.slow_ns);
	p->piece_sent_ns = 0;
	p->rest_until_ns = r->now_ns +
		least(p->rests * p->took_ns, REST_PIECES_MAX * r->limits.piece_ns);
	if (p->took_ns < r->limits.piece_ns / 2)
		p->piece = (uint32_t)least(2 * p->piece, REPLICA_BATCH_MAX);
	else if (p->took_ns > 2 * r->limits.piece_ns)
		p->piece = (uint32_t)most(p->piece / 2, 1);
}

/* Or it takes longer than was thought: the same again would make it worse. */
void replica_pace_lost(struct replica *r, struct replica_peer *p)
{
	p->piece_sent_ns = p->rest_until_ns = 0;
	if (!replica_paces(r, p))
		return;
	p->patience_ns = least(2 * (r->now_ns - p->sent_ns), r->limits.slow_ns);
	p->piece = (uint32_t)most(p->piece / 2, 1);
}
