/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/metas.h"
#include "base/check.h"
#include "base/hash.h"
#include "control/control.h"
#include "meta/db_own.h"
#include "meta/large.h"
#include "meta/log_own.h"
#include "meta/replicate_own.h"
#include "meta/serve.h"
#include "sim/cluster.h"
#include "sim/leave.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	META_DISK_BYTES = 256 << 20,
	SLAB_BYTES = 16 << 20,
	CLOSE_SEC = 60,
	ASK_SEC = 2,        /* of the store of who leads */
	COMMIT_SEC = 2,     /* for the first commit when all is well */
	TOGETHER_SEC = 60,  /* for all to be in the set again */
	APPLY_SEC = 10,     /* for all to have applied what is committed */
	NEAR_SEC = 20,      /* two power cuts so close count as one of both */
	SYNCED_TRIES = 100, /* of a millisecond */
	END_BYTES = 1000,   /* of a log: its last records */
};
#define TICK_NS (20 * SYS_MS)
#define AGAIN_NS (30 * SYS_MS)

/* ---- a node ---- */
static int anybody(void *arg, struct bytes token, struct principal *ret_p, struct err_note *note)
{
	*ret_p = (struct principal){ .admin = true };
	return 0;
}

static const struct auth everybody = { .resolve = anybody };

static void look_over(struct cluster *cl, struct shard *sh)
{
	struct shard_status st;
	struct room_sum sum;

	shard_audit(sh);
	room_audit(large_room(sh));
	shard_status(sh, &st);
	cl->files = st.files;
	cl->used_bytes = st.used_bytes;
	sum = room_sum(large_room(sh), 0, TIER_COUNT, 0);
	cl->room_taken = sum.capacity - sum.free;
	/* What a server had that is gone for good is on its account for ever. */
	for (uint32_t i = 0; (i = large_next_server(sh, i)) != 0;)
		if (large_server(sh, i)->gone) {
			struct room_sum of = room_sum(large_room(sh), i, TIER_COUNT, 0);

			cl->room_taken -= of.capacity - of.free;
		}
	if (cl->room_taken > 0 && cl->audit)
		scenario_say(cl->sc,
			"devices: used %llu, granted %llu, orphaned %llu, reserved %llu; "
			"sessions %llu",
			(unsigned long long)sum.used, (unsigned long long)sum.granted,
			(unsigned long long)sum.orphaned, (unsigned long long)sum.reserved,
			(unsigned long long)st.sessions);
	cl->audits++;
	cl->audit = false;
}

/* (M1) */
static void leads(struct meta_node *mn, struct serve *v)
{
	struct metas *m = &mn->cl->metas;
	struct scenario *sc = mn->cl->sc;
	struct replicate_status st;
	struct epoch *e;

	replicate_status(serve_replicate(v), &st);
	check(st.epoch < EPOCHS_MAX);
	e = &m->epochs[st.epoch];
	scenario_say(sc, "%s leads in epoch %llu with %llu records", mn->name,
		(unsigned long long)st.epoch, (unsigned long long)st.last);
	scenario_checked("an epoch has one primary");
	if (e->id != 0 && (e->id != st.id || e->incarnation != st.incarnation))
		violation(sc, "an epoch has one primary", "epoch %llu: replicas %llu and %llu",
			(unsigned long long)st.epoch, (unsigned long long)e->id,
			(unsigned long long)st.id);
	*e = (struct epoch){ st.id, st.incarnation };
	sc->failovers += m->n_leads++ > 0;
	mn->cl->meta_starts += m->n > 1; /* another controller, too */
	if (m->first_target == 1) /* its small files lie in memory until others have joined */
		ledger_boot(mn->cl->ledger);
}

/* Without a controller there is nobody. */
static int nobody_opened(void *guest, struct rpc_conn *c, const struct principal *who,
	struct session *session, struct err_note *note)
{
	return 0;
}

PARKS static int guest_begin(
	const void *arg, struct serve *v, void **ret_guest, struct err_note *note)
{
	struct meta_node *mn = *(struct meta_node *const *)arg;
	struct control_opts o = { .key = mn->cl->key, .copies = &mn->cl->now,
		.here = &mn->control };

	leads(mn, v);
	mn->cl->life = shard_life(serve_shard(v));
	look_over(mn->cl, serve_shard(v));
	if (!mn->cl->control)
		return 0;
	return control_guest.begin(&o, v, ret_guest, note);
}

/* Rows and the index that they stand for: nothing is parked in between. */
static void sum_rows(struct meta_node *mn, struct replicate *r)
{
	uint8_t last[8];
	struct bytes key, value;
	struct db_iter it;

	memset(last, 0xff, sizeof last);
	mn->sum = mn->n_rows = 0;
	mn->sum_index = r->core.commit;
	db_iter_begin(&it, r->db, bytes_of("", 0), bytes_of(last, sizeof last));
	while (db_iter_next(&it, &key, &value)) {
		mn->sum = hash64(hash64(mn->sum, key.p, key.len), value.p, value.len);
		mn->n_rows++;
	}
	db_iter_end(&it);
	mn->sum_wanted = false;
}

static void operate(struct meta_node *mn)
{
	struct replicate *r = serve_replicate(mn->v);
	struct cluster *cl = mn->cl;
	bool primary;

	replicate_status(r, &mn->seen);
	mn->set = r->core.config.in_sync;
	primary = serve_shard(mn->v) != NULL;
	if (cl->audit && primary)
		look_over(cl, serve_shard(mn->v));
	if (cl->leave != NULL && primary && mn->control != NULL)
		leave_operate(cl, mn->control, serve_shard(mn->v));
	if (mn->sum_wanted)
		sum_rows(mn, r);
	if (mn->hand_over && primary)
		scenario_say(cl->sc, "%s hands over: %s", mn->name,
			err_name(replicate_handover(r, 0)));
	mn->hand_over = false;
	if (primary && cl->metas.target != 0 && cl->metas.target != mn->seen.target_size)
		(void)replicate_target(r, cl->metas.target);
}

/* The disk before this one is no more. */
PARKS static void forget_the_last(struct sys *s, const struct meta_node *mn, struct coord *c)
{
	struct coord_node *all;
	uint32_t n;

	if (mn->id <= METAS_MAX ||
		coord_nodes(c, sys_after(s, SYS_SEC), &all, &n, NULL) < 0)
		return;
	for (uint32_t i = 0; i < n; i++)
		if (all[i].id == mn->id - METAS_MAX)
			(void)coord_node_remove(c, all[i].id, all[i].revision,
				sys_after(s, SYS_SEC), NULL);
	free(all);
}

/* Asks until it is told: the store may be away. */
PARKS static int announce(struct sys *s, struct meta_node *mn, struct coord *c)
{
	struct coord_node row = { .id = mn->id, .role = "meta" }, now = { 0 };
	struct coord_state st;
	int rc = E_UNAVAILABLE;

	snprintf(row.address, sizeof row.address, "tcp:%s:9234", mn->name);
	while (rc < 0 && rc != E_CANCELED) {
		rc = coord_node_put(c, now.revision, &row, sys_after(s, ASK_SEC * SYS_SEC), &now,
			NULL);
		if (rc < 0 && rc != E_CANCELED && fiber_sleep(sys_after(s, AGAIN_NS)) < 0)
			rc = E_CANCELED;
	}
	if (rc == 0)
		forget_the_last(s, mn, c);
	/* the first node begins */
	while (rc == 0 && mn->number > 0 &&
		coord_read(c, 0, sys_after(s, ASK_SEC * SYS_SEC), &st, NULL) < 0)
		rc = fiber_sleep(sys_after(s, AGAIN_NS));
	return rc;
}

static void on_failed(void *arg, int rc, const struct err_note *note)
{
	struct meta_node *mn = arg;

	mn->stop = true;
	scenario_say(mn->cl->sc, "the log failed: %s: %s", err_name(rc), note->text);
}

/* What it is given lives as long as the server. */
PARKS static int open_server(struct sys *s, struct meta_node **held_mn, struct coord *c,
	const struct serve_guest *guest, struct err_note *note)
{
	struct meta_node *mn = *held_mn;
	struct metas *m = &mn->cl->metas;
	struct serve_opts o = {
		.replica = { .dir = "data/meta", .db = &m->rows, .coord = c, .id = mn->id,
			.first_target = mn->number == 0 ? m->first_target : 0,
			.token = bytes_of(mn->cl->key, sizeof mn->cl->key) },
		.slab_bytes = SLAB_BYTES,
		.auth = &everybody,
		.guest = guest,
		.guest_arg = held_mn,
		.failed = on_failed,
		.arg = mn,
	};

	return serve_open(s, &o, &mn->v, note);
}

PARKS static int serve_here(struct sys *s, struct meta_node *mn, struct err_note *note)
{
	char addr[32];
	const char *bound;
	int rc;

	snprintf(addr, sizeof addr, "tcp:%s:9234", mn->name);
	rc = serve_listen(mn->v, addr, &bound, note);
	while (rc == 0 && !mn->stop) {
		operate(mn);
		rc = fiber_sleep(sys_after(s, TICK_NS));
	}
	return rc;
}

int metas_main(struct sys *s, void *arg)
{
	struct meta_node *mn = arg;
	struct cluster *cl = mn->cl;
	struct serve_guest guest = { .opened = nobody_opened };
	struct coord *c = NULL;
	struct err_note note = { "" };
	int rc;

	mn->v = NULL;
	mn->stop = false;
	mn->seen = (struct replicate_status){ 0 };
	mn->set.n = 0;
	mn->starts++;
	cl->meta_starts++;
	if (cl->metas.n == 1)
		ledger_boot(cl->ledger);
	if (cl->control)
		guest = control_guest;
	guest.begin = guest_begin;
	rc = sys_mkdir(s, "data", &note);
	if (rc == 0)
		rc = sys_sync_dir(s, "/", &note);
	if (rc == 0 && cl->metas.cs != NULL)
		rc = coord_sim_open(cl->metas.cs, s, mn->name, &c, &note);
	if (rc == 0 && c != NULL)
		rc = announce(s, mn, c);
	if (rc == 0)
		rc = open_server(s, &mn, c, &guest, &note);
	if (rc < 0)
		scenario_say(cl->sc, "open: %s: %s", err_name(rc), note.text);
	if (rc == E_CORRUPT && !mn->rotten)
		violation(cl->sc, "rows that did not rot are never called corrupt", "%s",
			note.text);
	if (rc == 0)
		rc = serve_here(s, mn, &note);
	fiber_shield(sys_after(s, CLOSE_SEC * SYS_SEC));
	(void)serve_close(mn->v, &note);
	mn->v = NULL;
	coord_close(c);
	fiber_unshield();
	return rc;
}

/* ---- from outside ---- */
void metas_init(struct cluster *cl, uint32_t n)
{
	struct metas *m = &cl->metas;
	size_t len = 0;

	check(n == 1 || n == METAS_MAX);
	*m = (struct metas){ .n = n, .first_target = n,
		.rows = { .memtable_bytes_max = 64 << 10, .merge_every_ns = 300 * SYS_MS,
			.log_segment_bytes = 256 << 10 } };
	for (uint32_t i = 0; i < n; i++) {
		struct meta_node *mn = &m->nodes[i];

		*mn = (struct meta_node){ .cl = cl, .number = i, .id = i + 1 };
		if (n == 1)
			snprintf(mn->name, sizeof mn->name, "meta");
		else
			snprintf(mn->name, sizeof mn->name, "m%u", i);
		mn->node = sim_node_add(cl->sc->w, mn->name, META_DISK_BYTES);
		len += (size_t)snprintf(m->addr + len, sizeof m->addr - len, "%stcp:%s:9234",
			i > 0 ? "," : "", mn->name);
		check(len < sizeof m->addr);
	}
	cl->meta = m->nodes[0].node;
	if (n > 1)
		m->cs = coord_sim_new(cl->sc->w, prng_next(cl->sc->p), &coord_sim_quiet);
}

void metas_fini(struct cluster *cl)
{
	if (cl->metas.cs != NULL)
		coord_sim_free(cl->metas.cs);
}

void metas_start(struct cluster *cl)
{
	for (uint32_t i = 0; i < cl->metas.n; i++)
		if (!sim_node_up(cl->metas.nodes[i].node))
			sim_node_start(cl->metas.nodes[i].node, metas_main, &cl->metas.nodes[i]);
}

bool metas_serves(const struct meta_node *mn)
{
	return sim_node_up(mn->node) && mn->v != NULL && serve_shard(mn->v) != NULL;
}

struct meta_node *metas_leader(struct cluster *cl)
{
	struct meta_node *found = NULL;

	for (uint32_t i = 0; i < cl->metas.n; i++) {
		struct meta_node *mn = &cl->metas.nodes[i];

		if (!metas_serves(mn))
			continue;
		if (found != NULL)
			return NULL;
		found = mn;
	}
	return found;
}

static uint32_t in_sync(const struct meta_node *leader)
{
	uint32_t n = 1;

	for (uint32_t i = 0; i < leader->seen.n_peers; i++)
		n += leader->seen.peers[i].in_sync;
	return n;
}

bool metas_together(struct cluster *cl)
{
	const struct meta_node *leader = metas_leader(cl);

	return leader != NULL && leader->seen.primary == leader->id &&
		in_sync(leader) == cl->metas.n;
}

bool metas_settled(struct cluster *cl)
{
	const struct meta_node *leader = metas_together(cl) ? metas_leader(cl) : NULL;
	const struct replica *r = leader != NULL ? &serve_replicate(leader->v)->core : NULL;

	return r != NULL && r->op == 0 && r->config.in_sync.n == cl->metas.n;
}

/* What it had not synced may have been all that there was of it. */
static void lost_what_was_not_synced(struct cluster *cl, struct meta_node *mn)
{
	uint64_t now_ns = sim_now_ns(cl->sc->w) + 1;
	struct metas *m = &cl->metas;
	bool alone = !metas_together(cl); /* for all that is known */

	for (uint32_t i = 0; i < m->n; i++)
		alone = alone || (i != mn->number && m->cut_ns[i] != 0 &&
					 now_ns < m->cut_ns[i] + NEAR_SEC * SYS_SEC);
	m->cut_ns[mn->number] = now_ns;
	if (alone || m->n == 1)
		ledger_power_cut(cl->ledger);
}

void metas_power_cut(struct cluster *cl, struct meta_node *mn)
{
	lost_what_was_not_synced(cl, mn);
	sim_node_crash(mn->node);
}

bool metas_lose(struct cluster *cl, struct meta_node *mn)
{
	uint64_t was;

	sim_node_kill(mn->node);
	was = sim_disk_sum(mn->node);
	sim_node_wipe(mn->node);
	if (sim_disk_sum(mn->node) == was) /* it was spared */
		return false;
	mn->id += METAS_MAX;
	mn->rotten = false;
	return true;
}

bool metas_wipe(struct cluster *cl, struct meta_node *mn)
{
	if (!metas_together(cl) || cl->metas.n == 1)
		return false;
	lost_what_was_not_synced(cl, mn);
	return metas_lose(cl, mn);
}

static bool may_rot(struct cluster *cl)
{
	for (uint32_t i = 0; i < cl->metas.n; i++)
		if (cl->metas.nodes[i].rotten)
			return false;
	return metas_together(cl) && cl->metas.n > 1;
}

bool metas_rot(struct cluster *cl, struct meta_node *mn)
{
	if (!may_rot(cl) || !sim_disk_rot_any(mn->node, "data/meta/log"))
		return false;
	mn->rotten = true;
	return true;
}

static const struct log *log_of(const struct meta_node *mn)
{
	const struct replicate *r = mn->v != NULL ? serve_replicate(mn->v) : NULL;
	const struct log *l = r != NULL && r->db != NULL ? r->db->log : NULL;

	return l != NULL && l->at > END_BYTES ? l : NULL;
}

/* Likewise, when its mark says that all of it is synced; NULL: not soon. */
static const struct log *synced_log(struct cluster *cl, struct meta_node *mn)
{
	for (int i = 0; i < SYNCED_TRIES; i++) {
		const struct log *l = log_of(mn);

		if (l != NULL && l->marked_lsn == l->place.lsn)
			return l;
		scenario_run(cl->sc, SYS_MS);
	}
	return NULL;
}

bool metas_rot_end(struct cluster *cl, struct meta_node *mn)
{
	uint64_t back = 1 + prng_below(cl->sc->p, END_BYTES);
	unsigned bit = (unsigned)prng_below(cl->sc->p, 8);
	bool synced = prng_odds(cl->sc->p, 1, 2);
	const struct log *l = !may_rot(cl) ? NULL : synced ? synced_log(cl, mn) : log_of(mn);
	char path[LOG_PATH_MAX * 2];

	if (l == NULL || !may_rot(cl))
		return false;
	segment_path(l, l->segments[l->n_segments - 1].first_lsn, path);
	if (!sim_disk_rot(mn->node, path, l->at - back, bit))
		return false;
	mn->rotten = true;
	return true;
}

/* ---- when all is well ---- */
/* By those that are there. */
static uint64_t committed(const struct cluster *cl)
{
	uint64_t most = 0;

	for (uint32_t i = 0; i < cl->metas.n; i++)
		if (cl->metas.nodes[i].seen.commit > most)
			most = cl->metas.nodes[i].seen.commit;
	return most;
}

static void say_all(struct cluster *cl)
{
	for (uint32_t i = 0; i < cl->metas.n; i++) {
		const struct meta_node *mn = &cl->metas.nodes[i];

		scenario_say(cl->sc,
			"%s: replica %llu, %s, state %d, epoch %llu of %llu, last %llu, written "
			"%llu, commit %llu, rows of %llu: %llu",
			mn->name, (unsigned long long)mn->id,
			!sim_node_up(mn->node) ? "down" :
				mn->v == NULL ? "opening" : "up", (int)mn->seen.state,
			(unsigned long long)mn->seen.epoch, (unsigned long long)mn->seen.primary,
			(unsigned long long)mn->seen.last, (unsigned long long)mn->seen.written,
			(unsigned long long)mn->seen.commit, (unsigned long long)mn->sum_index,
			(unsigned long long)mn->sum);
		for (uint32_t k = 0; k < mn->seen.n_peers; k++)
			scenario_say(cl->sc, "  peer %llu: written %llu, synced %llu%s%s",
				(unsigned long long)mn->seen.peers[k].id,
				(unsigned long long)mn->seen.peers[k].written,
				(unsigned long long)mn->seen.peers[k].synced,
				mn->seen.peers[k].in_sync ? ", in the set" : "",
				mn->seen.peers[k].connected ? ", connected" : "");
	}
}

/* Whose disk was taken away while the set still counts on it.  When it was the only one, or all
 * others had lost their power meanwhile, an operator would have to accept the loss (R9, R13). */
static bool waits_for_the_gone(const struct cluster *cl)
{
	for (uint32_t i = 0; i < cl->metas.n; i++) {
		const struct replica_set *set = &cl->metas.nodes[i].set;

		for (uint32_t k = 0; k < set->n; k++) {
			bool there = false;

			for (uint32_t j = 0; j < cl->metas.n; j++)
				there = there || cl->metas.nodes[j].id == set->ids[k];
			if (!there)
				return true;
		}
	}
	return false;
}

/* Nobody else may have all that it acknowledged: here, too, it is for an operator to say (R9). */
static bool waits_for_the_rotten(const struct cluster *cl)
{
	for (uint32_t i = 0; i < cl->metas.n; i++) {
		const struct meta_node *mn = &cl->metas.nodes[i];
		bool only = mn->rotten && mn->v == NULL;

		for (uint32_t j = 0; j < cl->metas.n && only; j++) {
			const struct replica_set *set = &cl->metas.nodes[j].set;

			if (i != j && (set->n != 1 || set->ids[0] != mn->id))
				only = false;
		}
		if (only)
			return true;
	}
	return false;
}

bool metas_come_back(struct cluster *cl)
{
	struct scenario *sc = cl->sc;
	uint64_t from_ns = sim_now_ns(sc->w), before = committed(cl);

	if (cl->metas.n == 1)
		return true;
	cl->metas.target = cl->metas.n;
	scenario_checked("when all is well, there is a commit within two seconds");
	while (committed(cl) <= before && sim_now_ns(sc->w) < from_ns + COMMIT_SEC * SYS_SEC &&
		sc->violations == 0)
		scenario_run(sc, TICK_NS);
	if (committed(cl) <= before) {
		say_all(cl);
		if (metas_leader(cl) == NULL &&
			(waits_for_the_gone(cl) || waits_for_the_rotten(cl)))
			return false;
		violation(sc, "when all is well, there is a commit within two seconds",
			"%llu are committed", (unsigned long long)before);
	}
	scenario_checked("when all is well, every replica is in the set");
	while (!metas_together(cl) && sim_now_ns(sc->w) < from_ns + TOGETHER_SEC * SYS_SEC &&
		sc->violations == 0) {
		scenario_run(sc, 10 * TICK_NS);
		metas_start(cl); /* those that ended because their disk was no good */
	}
	if (metas_together(cl) || sc->violations > 0)
		return true;
	say_all(cl);
	violation(sc, "when all is well, every replica is in the set", "%s",
		metas_leader(cl) == NULL ? "nobody leads" : "some are not");
	return false;
}

/* Equal commit indexes and equal sums. */
static bool compare(struct cluster *cl)
{
	const struct meta_node *first = &cl->metas.nodes[0];

	for (uint32_t i = 0; i < cl->metas.n; i++)
		cl->metas.nodes[i].sum_wanted = true;
	scenario_run(cl->sc, 4 * TICK_NS);
	for (uint32_t i = 0; i < cl->metas.n; i++) {
		const struct meta_node *mn = &cl->metas.nodes[i];

		if (mn->sum_wanted || mn->sum_index != first->sum_index)
			return false;
		if (mn->sum != first->sum || mn->n_rows != first->n_rows) {
			say_all(cl);
			violation(cl->sc, "replicas have equal rows",
				"%s has %llu rows, %s %llu others", first->name,
				(unsigned long long)first->n_rows, mn->name,
				(unsigned long long)mn->n_rows);
			return true;
		}
	}
	return true;
}

void metas_compare(struct cluster *cl)
{
	uint64_t until_ns = sim_now_ns(cl->sc->w) + APPLY_SEC * SYS_SEC;

	if (cl->metas.n == 1)
		return;
	scenario_checked("replicas have equal rows");
	while (!compare(cl)) {
		if (sim_now_ns(cl->sc->w) < until_ns)
			continue;
		say_all(cl);
		violation(cl->sc, "replicas have equal rows", "they stand at different indexes");
		return;
	}
}
