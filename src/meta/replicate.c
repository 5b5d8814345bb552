/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, stepping and closing a replica.
 *
 *   an event (tick, message, coord, mark, log, operator) -> replicate_step() -> replicate_do()
 *
 * (R1) A step and what it carries out never parks, so steps follow one another in the order of
 * their events, and heartbeats wait for nobody.  What parks has a fiber: one for each peer
 * (replicate_peer.c), the scribe, coord, the mark. */
#include "meta/replicate.h"
#include "base/check.h"
#include "base/hash.h"
#include "meta/log.h"
#include "meta/replicate_own.h"
#include <stdio.h>
#include <stdlib.h>

/* ---- steps ---- */
void replicate_step(struct replicate *r, struct replica_event *ev)
{
	if (r->ended)
		return;
	check(!r->stepping);
	r->stepping = true;
	nopark_begin();
	ev->now_ns = sys_now_ns(r->sys);
	replicate_do(r, replica_step(&r->core, ev));
	nopark_end();
	r->stepping = false;
	waitq_wake_all(&r->changed);
	waitq_wake_all(&r->readers);
}

void replicate_fail(struct replicate *r, int rc, const struct err_note *note)
{
	check(rc < 0);
	if (r->ended)
		return;
	r->ended = true;
	waitq_wake_all(&r->changed);
	waitq_wake_all(&r->readers);
	waitq_wake_all(&r->quiet);
	if (r->calls.failed != NULL)
		r->calls.failed(r->arg, rc, note);
}

/* One for which all disks are full is not handed round and round. */
static bool may_yield(const struct replicate *r)
{
	return r->lent && !r->stopped && db_room(r->db) == E_FULL && r->core.handing == 0 &&
	       (r->yielded_ns == 0 || r->core.now_ns - r->yielded_ns >= REPLICATE_YIELD_NS);
}

/* Once for each time, however often it is tried. */
static void say_full(struct replicate *r, bool full)
{
	if (full && !r->full)
		sys_log(r->sys, r->core.n_peers > 0
			? "wadi: the disk under the metadata is full: other nodes go on; make room "
			  "on it, and this one follows"
			: "wadi: the disk under the metadata is full: only deletes are taken");
	r->full = full;
}

/* Another one may have room where this one has none. */
static void watch_room(struct replicate *r)
{
	say_full(r, !r->installing && r->db != NULL && db_room(r->db) == E_FULL);
	if (may_yield(r) && replicate_handover(r, 0) == 0) {
		sys_reached(r->sys, "replicate: hands over for want of room");
		r->yielded_ns = r->core.now_ns;
	}
}

static PARKS int tick_run(void *arg)
{
	struct replica_event ev = { .kind = REPLICA_EV_TICK };
	struct replicate *r = arg;
	int rc = 0;

	r->ticks = true;
	while (rc == 0) {
		bool alone = r->core.n_peers == 0 && r->core.state.now == REPLICA_PRIMARY;

		fiber_note(0, "replica: waits for the next tick");
		rc = fiber_sleep(sys_after(r->sys,
			alone ? REPLICATE_ALONE_TICK_NS : r->limits.heartbeat_ns / 2));
		r->ticks = rc == 0;
		say_answer_all(r);
		if (rc == 0)
			replicate_step(r, &ev);
		if (rc == 0 && !r->ended)
			watch_room(r);
	}
	return rc;
}

/* ---- what the rows say ---- */
static void sealing(void *arg)
{
	struct replicate *r = arg;

	if (r->lent && r->calls.sealing != NULL)
		r->calls.sealing(r->arg);
}

static void moved(void *arg, uint64_t written, uint64_t synced)
{
	struct replicate *r = arg;

	if (r->lent && !r->stopped && r->calls.moved != NULL)
		r->calls.moved(r->arg, written, synced);
}

static void failed(void *arg, int rc, const struct err_note *note)
{
	replicate_fail(arg, rc, note);
}

/* ---- opening ---- */
static PARKS int lock(struct replicate *r, struct err_note *note)
{
	char path[REPLICATE_DIR_MAX + 16];
	int rc;

	if ((rc = sys_mkdir(r->sys, r->dir, note)) < 0)
		return rc;
	snprintf(path, sizeof path, "%s/replica.lock", r->dir);
	rc = sys_open(r->sys, path, SYS_WRITE | SYS_CREATE, &r->lock, note);
	return rc < 0 ? rc : sys_lock(r->lock, note);
}

/* Another life (K1).  A disk without a mark is a new replica, so nobody may know it yet. */
static PARKS int live_again(struct replicate *r, struct err_note *note)
{
	int rc = mark_file_read(r->sys, r->dir, &r->mark, note);
	bool known = false;

	if (rc == E_NOTFOUND) {
		r->mark = (struct mark_file){ .id = r->id };
		rc = coord_knows(r, &known, note);
	}
	if (rc < 0)
		return rc;
	if (known || r->mark.id != r->id)
		return err_set(note, E_CORRUPT,
			"%s is not the disk of replica %llu: one that is new or another one "
			"needs a node id of its own", r->dir, (unsigned long long)r->id);
	r->mark.incarnation++;
	return mark_file_write(r->sys, r->dir, &r->mark, note);
}

static void note_limits(struct replicate *r, const struct db_opts *limits)
{
	r->db_opts = limits != NULL ? *limits : (struct db_opts){ 0 };
	r->db_opts.replica = true;
	r->db_opts.sealing = sealing;
	r->db_opts.moved = moved;
	r->db_opts.grew = replicate_grew;
	r->db_opts.failed = failed;
	r->db_opts.arg = r;
}

int replicate_open_rows(struct replicate *r, struct err_note *note)
{
	char dir[REPLICATE_PATH_MAX];
	uint64_t hi, lo;
	int rc;

	mark_rows_dir(r->dir, r->mark.generation, dir);
	r->db_opts.dir = dir; /* it is copied */
	if ((rc = db_open(r->sys, &r->db_fibers, &r->db_opts, &r->db, note)) < 0)
		return rc;
	hi = log_uuid(db_log(r->db), &lo);
	if (hi == r->mark.uuid_hi && lo == r->mark.uuid_lo)
		return 0;
	if (r->mark.uuid_hi != 0 || r->mark.uuid_lo != 0) /* (K2) */
		return err_set(note, E_CORRUPT, "%s/log is not the log of replica %llu", r->dir,
			(unsigned long long)r->id);
	r->mark.uuid_hi = hi;
	r->mark.uuid_lo = lo;
	return mark_file_write(r->sys, r->dir, &r->mark, note);
}

static uint64_t boot_of(struct sys *s)
{
	const char *id = sys_boot_id(s);

	return hash64(1, id, strlen(id)) | 1;
}

static void start_core(struct replicate *r)
{
	struct log_place p = { 0 };
	struct replica_event ev = { .kind = REPLICA_EV_START };

	if (r->db != NULL)
		p = log_place(db_log(r->db));
	r->told = r->told_synced = r->valid = p.index;
	check(r->db == NULL || db_log_synced(r->db) == p.index);
	ev.start = (struct replica_start){ .self = { r->id, r->mark.incarnation },
		.boot = boot_of(r->sys),
		.mark = r->mark.mark,
		.last = { p.index, p.epoch, p.shard_chain },
		.synced = p.index,
		.commit = r->db != NULL ? db_merged(r->db) : 0,
		.rotten = r->db == NULL };
	replicate_step(r, &ev);
}

static int start_fibers(struct replicate *r)
{
	static const struct {
		const char *name;
		fiber_fn *fn;
	} fibers[] = {
		{ "replica scribe", scribe_run },
		{ "replica mark", mark_run },
		{ "replica coord", coord_run },
		{ "replica tick", tick_run },
		{ "replica nodes", nodes_run },
		{ "replica copier", copy_run },
	};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < sizeof fibers / sizeof fibers[0]; i++)
		rc = fiber_start(&r->fibers, fibers[i].name, fibers[i].fn, r);
	return rc;
}

static int init(struct replicate *r, struct sys *s, const struct replicate_opts *o,
	struct err_note *note)
{
	check(o->id != 0);
	check(o->calls->lead != NULL);
	r->sys = s;
	r->calls = *o->calls;
	r->arg = o->arg;
	r->coord = o->coord;
	r->shard = o->shard;
	r->id = o->id;
	r->first_target = o->first_target;
	r->limits = o->limits != NULL ? *o->limits : replica_limits_default;
	if (o->token.len > sizeof r->token)
		return err_set(note, E_INVALID, "a token of %zu bytes", o->token.len);
	r->token_len = o->token.len;
	if (o->token.len > 0)
		memcpy(r->token, o->token.p, o->token.len);
	if ((size_t)snprintf(r->dir, sizeof r->dir, "%s", o->dir) >= sizeof r->dir)
		return err_set(note, E_INVALID, "%.100s...: the path is too long", o->dir);
	group_init(&r->db_fibers, sys_loop(s));
	group_init(&r->fibers, sys_loop(s));
	group_init(&r->peer_fibers, sys_loop(s));
	r->fibers.keep_going = r->peer_fibers.keep_going = true;
	list_init(&r->items);
	list_init(&r->peers);
	waitq_init(&r->scribe);
	waitq_init(&r->quiet);
	waitq_init(&r->mark_q);
	waitq_init(&r->coord_q);
	waitq_init(&r->changed);
	waitq_init(&r->readers);
	waitq_init(&r->copies_q);
	fiber_lock_init(&r->mark_lock);
	replica_init(&r->core, &r->limits, &(struct replica_log){ replicate_log_at, r });
	return 0;
}

/* (R9) Others hold what is rotten here: the replica says so, and gets a copy.  Alone it cannot go
 * on; nothing is touched. */
static PARKS int begin_rotten(struct replicate *r, struct err_note *note)
{
	struct err_note ignored;
	bool others = false;

	if (coord_has_others(r, &others, &ignored) < 0 || !others)
		return E_CORRUPT;
	sys_reached(r->sys, "replicate: a rotten log, which others hold");
	sys_log(r->sys, note->text);
	return 0;
}

/* What is behind the last record may have been acknowledged before it rotted: others are asked
 * before this one leads (R9), as after a power cut. */
static PARKS int distrust(struct replicate *r, struct err_note *note)
{
	if (r->db == NULL || !log_torn(db_log(r->db)) || r->mark.mark.sound_boot == 0)
		return 0;
	sys_reached(r->sys, "replicate: the end of the log is torn or rotten");
	r->mark.mark.sound_boot = 0;
	return mark_file_write(r->sys, r->dir, &r->mark, note);
}

static PARKS int open_all(struct replicate *r, const struct replicate_opts *o,
	struct err_note *note)
{
	int rc;

	note_limits(r, o->db);
	if ((rc = lock(r, note)) < 0 || (rc = live_again(r, note)) < 0)
		return rc;
	rc = replicate_open_rows(r, note);
	if (rc == E_CORRUPT && r->db == NULL)
		rc = begin_rotten(r, note);
	if (rc == 0)
		rc = distrust(r, note);
	if (rc < 0)
		return rc;
	if ((rc = nodes_read(r)) < 0)
		return rc;
	start_core(r);
	return start_fibers(r);
}

int replicate_open(struct sys *s, const struct replicate_opts *o, struct replicate **ret_r,
	struct err_note *note)
{
	struct replicate *r = calloc(1, sizeof *r);
	int rc;

	if (r == NULL)
		return err_set(note, E_NOMEM, "no memory for a replica");
	rc = init(r, s, o, note);
	if (rc < 0) {
		free(r);
		return rc;
	}
	rc = open_all(r, o, note);
	if (rc < 0) {
		r->ended = true;
		(void)replicate_close(r, 0, NULL);
		return rc;
	}
	*ret_r = r;
	return 0;
}

/* ---- closing ---- */
static PARKS int wait_change(struct replicate *r, uint64_t until_ns)
{
	return r->ended ? E_CLOSED : waitq_wait(&r->changed, until_ns);
}

/* Whoever is in sync and answers may lead next. */
static bool fit(const struct replicate *r, const struct replica_peer *p)
{
	return replica_set_has(&r->core.config.in_sync, p->id) && !p->needs_copy &&
	       p->flags == REPLICA_SOUND && sys_now_ns(r->sys) - p->seen_ns < r->limits.silent_ns;
}

static uint64_t heir_of(const struct replicate *r)
{
	for (uint32_t i = 0; i < r->core.n_peers; i++)
		if (fit(r, &r->core.peers[i]))
			return r->core.peers[i].id;
	return 0;
}

int replicate_handover(struct replicate *r, uint64_t to_id)
{
	struct replica_event ev = { .kind = REPLICA_EV_HANDOVER, .peer = to_id };

	if (r->core.state.now != REPLICA_PRIMARY || r->ended)
		return E_NOTPRIMARY;
	if (to_id == 0)
		ev.peer = heir_of(r);
	if (ev.peer == 0 || ev.peer == r->id ||
		!replica_set_has(&r->core.config.in_sync, ev.peer))
		return E_NOTFOUND;
	replicate_step(r, &ev);
	return 0;
}

bool replicate_yields(const struct replicate *r)
{
	return r->core.handing != 0 || (may_yield(r) && heir_of(r) != 0);
}

static PARKS int give_over(struct replicate *r, uint64_t until_ns)
{
	int rc = 0;

	while (rc == 0 && r->core.state.now == REPLICA_PRIMARY) {
		if (r->core.handing == 0 && (rc = replicate_handover(r, 0)) < 0)
			break;
		if (r->core.state.now == REPLICA_PRIMARY)
			rc = wait_change(r, until_ns);
	}
	return rc;
}

/* So that nobody waits for one who does not answer any more. */
static PARKS void leave_set(struct replicate *r, uint64_t until_ns)
{
	struct replica_event ev = { .kind = REPLICA_EV_LEAVE };
	uint64_t soon_ns = sys_after(r->sys, REPLICATE_LEAVE_NS);
	int rc = 0;

	if (until_ns > soon_ns)
		until_ns = soon_ns;
	replicate_step(r, &ev);
	/* Nobody leads yet: what was said to the heir may still be on the way, and would end with
	 * the connections. */
	while (rc == 0 && (r->core.state.now == REPLICA_FENCED ||
				  r->core.state.now == REPLICA_MEMBER))
		rc = wait_change(r, until_ns);
}

static PARKS void wait_quiet(struct replicate *r, uint64_t until_ns)
{
	int rc = 0;

	while (rc == 0 && !r->ended && (r->n_items > 0 || r->scribe_busy))
		rc = waitq_wait(&r->quiet, until_ns);
}

static PARKS void go_politely(struct replicate *r, uint64_t until_ns)
{
	if (r->ended || r->core.n_peers == 0)
		return;
	fiber_note(0, "replica: hands over");
	if (r->core.config.in_sync.n > 1)
		(void)give_over(r, until_ns);
	if (r->core.state.now != REPLICA_PRIMARY)
		leave_set(r, until_ns);
	wait_quiet(r, until_ns);
}

static PARKS void give_back(struct replicate *r)
{
	if (r->lent && !r->stopped) {
		r->stopped = true;
		r->calls.stop(r->arg);
	}
	group_cancel(&r->fibers);
	(void)group_wait(&r->fibers);
	if (r->lent)
		r->calls.leave(r->arg);
	r->lent = false;
}

/* Messages on their way in end by themselves. */
static PARKS void wait_outside(struct replicate *r)
{
	uint64_t until_ns = sys_after(r->sys, 2 * SAY_DATA_NS);
	int rc = 0;

	fiber_shield(until_ns);
	while (rc == 0 && r->n_inside > 0)
		rc = waitq_wait(&r->quiet, until_ns);
	fiber_unshield();
	check(r->n_inside == 0);
}

int replicate_close(struct replicate *r, uint64_t until_ns, struct err_note *note)
{
	int rc;

	if (r == NULL)
		return 0;
	go_politely(r, until_ns);
	give_back(r);
	peers_close(r);
	wait_outside(r);
	install_forget(r);
	rc = db_close(r->db, note);
	r->ended = true;
	scribe_drop_all(r);
	places_fini(&r->ahead);
	sys_close(r->lock);
	free(r);
	return rc;
}

/* ---- what one may ask ---- */
bool replicate_may_read(struct replicate *r)
{
	if (r->ended || r->stopped)
		return false;
	if (replica_may_read(&r->core, UINT64_MAX)) /* alone: at any time, so none is asked for */
		return true;
	return replica_may_read(&r->core, sys_now_ns(r->sys));
}

uint32_t replicate_size(const struct replicate *r) { return r->core.config.target_size; }

int replicate_read_settle(struct replicate *r, uint64_t read_ns, uint64_t until_ns)
{
	int rc = 0;

	while (rc == 0) {
		if (r->ended || r->stopped || r->core.state.now != REPLICA_PRIMARY)
			return E_NOTPRIMARY;
		if (replica_heard_ns(&r->core) >= read_ns)
			return 0;
		rc = waitq_wait(&r->readers, until_ns);
	}
	return rc;
}

static uint64_t leader_of(const struct replicate *r)
{
	const struct replica *c = &r->core;

	if (c->state.now == REPLICA_PRIMARY || c->state.now == REPLICA_BRINGING)
		return r->id;
	if (c->leader.id != 0 && c->leader_epoch >= c->config.epoch)
		return c->leader.id;
	return c->config.primary.id;
}

void replicate_hint(const struct replicate *r, char ret_addr[SYS_ADDR_MAX])
{
	uint64_t id = leader_of(r);
	const struct coord_node *n = id != 0 ? node_of(r, id) : NULL;

	snprintf(ret_addr, SYS_ADDR_MAX, "%s", n != NULL ? n->address : "");
}

uint32_t replicate_nodes(const struct replicate *r, char (*ret_addrs)[SYS_ADDR_MAX], uint32_t max)
{
	uint32_t n = r->n_nodes < max ? r->n_nodes : max;

	for (uint32_t i = 0; i < n; i++)
		snprintf(ret_addrs[i], SYS_ADDR_MAX, "%s", r->nodes[i].address);
	return n;
}

/* ---- the operator ---- */
int replicate_target(struct replicate *r, uint32_t size)
{
	struct replica_event ev = { .kind = REPLICA_EV_TARGET, .size = size };

	if (size < 1 || size > REPLICA_SET_MAX)
		return E_INVALID;
	if (r->core.state.now != REPLICA_PRIMARY || r->ended)
		return E_NOTPRIMARY;
	replicate_step(r, &ev);
	return 0;
}

int replicate_force(struct replicate *r)
{
	struct replica_event ev = { .kind = REPLICA_EV_FORCE };

	if (r->ended)
		return E_UNAVAILABLE;
	replicate_step(r, &ev);
	return 0;
}

void replicate_status(const struct replicate *r, struct replicate_status *ret_st)
{
	const struct replica *c = &r->core;

	*ret_st = (struct replicate_status){ .id = r->id,
		.incarnation = c->self.incarnation,
		.epoch = c->mark.epoch,
		.primary = leader_of(r),
		.last = c->last.index,
		.written = c->written,
		.synced = c->synced,
		.commit = c->commit,
		.synced_commit = c->synced_commit,
		.state = (enum replica_state)c->state.now,
		.target_size = c->config.target_size,
		.n_peers = c->n_peers };
	for (uint32_t i = 0; i < c->n_peers; i++) {
		const struct peer *p = peer_of(r, c->peers[i].id);

		ret_st->peers[i] = (struct replicate_peer_status){ .id = c->peers[i].id,
			.written = c->peers[i].written,
			.synced = c->peers[i].synced,
			.in_sync = replica_set_has(&c->config.in_sync, c->peers[i].id),
			.connected = p != NULL && p->conn != NULL };
	}
}
