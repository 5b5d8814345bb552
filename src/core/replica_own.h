/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of struct replica share. */
#ifndef CORE_REPLICA_OWN_H
#define CORE_REPLICA_OWN_H
#include "core/replica.h"

static inline uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}
static inline uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}
static inline bool replica_leads(const struct replica *r)
{
	return r->state.now == REPLICA_BRINGING || r->state.now == REPLICA_PRIMARY;
}
static inline bool replica_follows(const struct replica *r)
{
	return r->state.now == REPLICA_LEARNER || r->state.now == REPLICA_MEMBER;
}
static inline bool replica_sound(const struct replica *r)
{
	return !r->rotten && r->mark.sound_boot == r->boot && r->marking.sound_boot == r->boot;
}
static inline bool replica_same(struct replica_name a, struct replica_name b)
{
	return a.id == b.id && a.incarnation == b.incarnation;
}

/* replica.c */
struct replica_do *replica_do(struct replica *r, enum replica_do_kind kind);
struct replica_msg *replica_send(struct replica *r, enum replica_msg_kind kind, uint64_t to);
struct replica_peer *replica_peer(struct replica *r, uint64_t id); /* NULL: not known */
bool replica_at(const struct replica *r, uint64_t index, struct replica_place *ret_place);
bool replica_holds(const struct replica *r, struct replica_place place);
void replica_report(struct replica *r, enum replica_report what, uint64_t from, uint64_t to);
/* Somebody spoke who was silent for so long; how long to wait for one, at least least_ns. */
void replica_lapse(struct replica *r, uint64_t silent_ns);
uint64_t replica_patience_ns(const struct replica *r, uint64_t least_ns);
void replica_mark(struct replica *r, uint64_t epoch, uint64_t sound_boot);
uint64_t replica_epoch(const struct replica *r); /* the highest seen, durable or not */
void replica_read(struct replica *r);            /* now, or when coord's last answer has come */
void replica_swap(struct replica *r, const struct replica_config *to);
/* Stops acknowledging, at once (R3). */
void replica_fenced(struct replica *r);
void replica_rots(struct replica *r, uint64_t incarnation);
void replica_tell_commit(struct replica *r);

/* replica_follow.c */
void replica_follow(struct replica *r, const struct replica_msg *m); /* append, heartbeat, ... */
void replica_ack(struct replica *r, uint64_t sent_ns, uint32_t flags, struct replica_place at);
void replica_ack_place(struct replica *r, uint64_t sent_ns);
void replica_copied(struct replica *r, struct replica_place place, uint64_t epoch);

/* replica_rise.c */
void replica_rise_tick(struct replica *r);
void replica_config_read(struct replica *r, const struct replica_config *c);
void replica_query(struct replica *r, const struct replica_msg *m);
void replica_answer(struct replica *r, const struct replica_msg *m);
void replica_candidate_coord(
	struct replica *r, enum replica_outcome outcome, const struct replica_config *c);
void replica_force(struct replica *r);

/* replica_lead.c */
void replica_lead_begin(struct replica *r);
void replica_lead_tick(struct replica *r);
void replica_lead_ack(struct replica *r, const struct replica_msg *m);
void replica_lead_appended(struct replica *r);
void replica_advance(struct replica *r); /* commit what may be committed */

/* replica_pace.c */
void replica_pace_begin(struct replica *r, struct replica_peer *p);
bool replica_paces(const struct replica *r, const struct replica_peer *p); /* with rests */
/* How many of n records to send now; they are sent. */
uint32_t replica_pace(struct replica *r, struct replica_peer *p, uint32_t n);
void replica_pace_written(struct replica *r, struct replica_peer *p); /* it may have written more */
void replica_pace_lost(struct replica *r, struct replica_peer *p);

/* replica_set.c */
bool replica_in_union(const struct replica *r, uint64_t id);  /* of R4 */
bool replica_waits_for(const struct replica *r, uint64_t id); /* or it is joining (R6) */
void replica_set_tick(struct replica *r);
void replica_set_coord(
	struct replica *r, enum replica_outcome outcome, const struct replica_config *c);
void replica_handing(struct replica *r);
bool replica_may_be_alone(struct replica *r, uint64_t index); /* else asks for the sync */
#endif
