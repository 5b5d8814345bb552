/* SPDX-License-Identifier: Apache-2.0 */
/* Three replicas of one db: one leads, its records are copied to the others, all of them commit
 * what all have.  Leads change, processes are killed, power is cut.  Whoever leads next has every
 * row that was told to be committed (killed), or committed and synced (power), and no others. */
#include "base/check.h"
#include "meta/db_kit.h"
#include "meta/log.h"
#include "sys/sim/sim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SEEDS = 60, LIVES = 8, REPLICAS = 3, ROUNDS = 60, COPY_MAX = 20 };

struct world {
	struct sys *s;
	struct kit k;
	struct prng p;
	struct db *db[REPLICAS];
	struct group fibers[REPLICAS], driver;
	unsigned leader;
	uint64_t epoch, commit, synced, told, told_synced;
	bool hold, busy, stop, dying, power;
	uint64_t n_leads, n_copied, n_back, n_found, n_merges;
};

static bool ok(struct world *w, int rc, const struct err_note *note)
{
	if (rc == E_CANCELED)
		w->dying = true;
	if (rc < 0 && rc != E_CANCELED)
		fprintf(stderr, "%s: %s\n", err_name(rc), note->text);
	check(rc == 0 || rc == E_CANCELED);
	return rc == 0;
}

/* ---- what a driver does ---- */
/* Records of the leader that a follower does not have, some at a time. */
static PARKS bool copy_some(struct world *w, unsigned to, uint32_t n)
{
	struct db *from = w->db[w->leader];
	struct err_note note = { "" };
	struct log_reader *r;
	struct bytes payload;
	bool go = true;

	if (log_index(db_log(w->db[to])) == log_index(db_log(from)))
		return true;
	if (!ok(w, log_reader_open(db_log(from), log_index(db_log(w->db[to])), &r, &note), &note))
		return false;
	while (go && n-- > 0 && !w->dying) {
		int rc = log_read(r, &payload, &note);
		struct log_place at = log_reader_place(r);

		if (rc != 1) {
			go = rc == 0 || ok(w, rc, &note);
			break;
		}
		go = ok(w, db_copy(w->db[to], at.epoch, at.shard_chain, payload, &note), &note);
		w->n_copied++;
	}
	log_reader_close(r);
	return go && !w->dying;
}

static struct db_status status(struct world *w, unsigned i)
{
	struct db_status st;

	db_status(w->db[i], &st);
	return st;
}

/* What all have written and synced; each hears of it, some late. */
static void commit_all(struct world *w, bool late)
{
	uint64_t index = UINT64_MAX, synced = UINT64_MAX;

	for (unsigned i = 0; i < REPLICAS; i++) {
		uint64_t here = log_index(db_log(w->db[i]));

		index = here < index ? here : index;
		synced = db_log_synced(w->db[i]) < synced ? db_log_synced(w->db[i]) : synced;
	}
	synced = synced < index ? synced : index;
	w->commit = index > w->commit ? index : w->commit;
	w->synced = synced > w->synced ? synced : w->synced;
	for (unsigned i = 0; i < REPLICAS; i++) {
		uint64_t c = w->commit;

		if (late && i != w->leader)
			c = prng_below(&w->p, c + 1);
		db_commit(w->db[i], c, w->synced < c ? w->synced : c);
	}
}

static PARKS int drive(void *arg)
{
	struct world *w = arg;

	while (!w->stop && !w->dying) {
		w->busy = !w->hold;
		for (unsigned i = 0; i < REPLICAS && w->busy && !w->dying; i++) {
			if (i != w->leader)
				(void)copy_some(w, i, (uint32_t)prng_below(&w->p, COPY_MAX));
			if (prng_odds(&w->p, 1, 3))
				db_sync_to(w->db[i], UINT64_MAX);
		}
		if (w->busy && !w->dying)
			commit_all(w, true);
		w->busy = false;
		if (fiber_sleep(sys_after(w->s, SYS_MS)) < 0)
			w->dying = true;
	}
	return 0;
}

static PARKS bool hold(struct world *w)
{
	w->hold = true;
	while (w->busy && !w->dying)
		if (fiber_sleep(sys_after(w->s, SYS_MS / 10)) < 0)
			w->dying = true;
	return !w->dying;
}

/* ---- who leads ---- */
static bool same(struct world *w, unsigned a, unsigned b, uint64_t index)
{
	uint64_t epoch[2], chain[2];

	return db_place(w->db[a], index, &epoch[0], &chain[0]) &&
		db_place(w->db[b], index, &epoch[1], &chain[1]) && epoch[0] == epoch[1] &&
		chain[0] == chain[1];
}

/* Makes the log of a follower that of the leader-to-be. */
static PARKS bool align(struct world *w, unsigned i)
{
	uint64_t mine = log_index(db_log(w->db[i])), theirs = log_index(db_log(w->db[w->leader]));
	uint64_t index = mine < theirs ? mine : theirs;
	struct err_note note = { "" };

	while (!same(w, i, w->leader, index)) {
		check(index > 0);
		index--;
	}
	if (index < mine) {
		if (!ok(w, db_take_back(w->db[i], index, &note), &note))
			return false;
		w->n_back++;
	}
	return copy_some(w, i, UINT32_MAX);
}

static PARKS bool lead(struct world *w, unsigned next)
{
	uint64_t must = w->power ? w->told_synced : w->told;
	struct err_note note = { "" };

	w->leader = next;
	for (unsigned i = 0; i < REPLICAS; i++)
		if (i != next && !align(w, i))
			return false;
	w->commit = 0;
	w->synced = 0;
	commit_all(w, false);
	w->hold = false;
	w->k.found = false;
	w->k.written = w->k.synced = 0;
	if (!ok(w, db_lead(w->db[next], ++w->epoch, &note), &note))
		return false;
	kit_found(&w->k, w->db[next], must);
	w->n_found++;
	w->n_leads++;
	return true;
}

static PARKS bool change(struct world *w)
{
	struct err_note note = { "" };

	if (!hold(w))
		return false;
	w->told = w->k.written;
	w->told_synced = w->k.synced;
	w->power = false;
	if (!ok(w, db_follow(w->db[w->leader], &note), &note))
		return false;
	return lead(w, (unsigned)prng_below(&w->p, REPLICAS));
}

/* ---- a life ---- */
static PARKS bool open_all(struct world *w)
{
	static const char *const dirs[REPLICAS] = { "/a", "/b", "/c" };
	struct err_note note = { "" };

	for (unsigned i = 0; i < REPLICAS; i++) {
		struct db_opts o = kit_opts(&w->k, dirs[i]);

		o.replica = true;
		group_init(&w->fibers[i], sys_loop(w->s));
		if (!ok(w, db_open(w->s, &w->fibers[i], &o, &w->db[i], &note), &note))
			return false;
	}
	return true;
}

static PARKS void close_all(struct world *w)
{
	struct err_note note = { "" };

	w->stop = true;
	(void)group_wait(&w->driver);
	for (unsigned i = 0; i < REPLICAS; i++) {
		if (w->db[i] == NULL)
			continue;
		w->n_merges += status(w, i).merges;
		if (w->dying) {
			group_cancel(&w->fibers[i]);
			(void)group_wait(&w->fibers[i]);
			db_drop(w->db[i]);
		} else {
			(void)ok(w, db_close(w->db[i], &note), &note);
		}
		w->db[i] = NULL;
	}
}

static PARKS bool work(struct world *w)
{
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t n = prng_below(&w->p, 30);

		for (uint64_t i = 0; i < n && !db_pressed(w->db[w->leader]); i++)
			kit_step(&w->k, w->db[w->leader]);
		if (fiber_sleep(sys_after(w->s, prng_below(&w->p, 4) * SYS_MS)) < 0 || w->dying)
			return false;
		w->told = w->k.written;
		w->told_synced = w->k.synced;
		if (prng_odds(&w->p, 1, 12) && !change(w))
			return false;
	}
	return true;
}

static int life(struct sys *s, void *arg)
{
	struct world *w = arg;

	w->s = s;
	w->stop = w->dying = w->busy = false;
	w->hold = true;
	w->k.failed = 0; /* what a dying process says is of no use */
	group_init(&w->driver, sys_loop(s));
	memset(w->db, 0, sizeof w->db);
	if (open_all(w) && fiber_start(&w->driver, "drive", drive, w) == 0 &&
		lead(w, (unsigned)prng_below(&w->p, REPLICAS)))
		(void)work(w);
	if (!w->dying) {
		check(w->k.failed == 0);
		w->told = w->k.written;
		w->told_synced = w->k.synced;
	}
	close_all(w);
	return 0;
}

static void run(uint64_t seed, struct world *sum)
{
	struct sim_faults f = sim_no_faults;
	struct world *w = calloc(1, sizeof *w);
	struct sim_node *n;
	struct sim *sim;

	assert_non_null(w);
	f.disk_op_max_ns = SYS_MS;
	f.disk_torn_ppm = 300000;
	sim = sim_new(seed, &f);
	n = sim_node_add(sim, "a", 256 << 20);
	w->p = prng_fork(seed, 5);
	kit_init(&w->k, seed);
	for (int i = 0; i < LIVES; i++) {
		sim_node_start(n, life, w);
		sim_run(sim, sim_now_ns(sim) + prng_below(&w->p, 600) * SYS_MS);
		w->power = w->power || (sim_node_up(n) && prng_odds(&w->p, 1, 2));
		if (sim_node_up(n) && w->power)
			sim_node_crash(n);
		else if (sim_node_up(n))
			sim_node_kill(n);
		sim_run(sim, sim_now_ns(sim) + SYS_MS);
		assert_false(sim_node_up(n));
	}
	sum->n_leads += w->n_leads;
	sum->n_copied += w->n_copied;
	sum->n_back += w->n_back;
	sum->n_merges += w->n_merges;
	kit_fini(&w->k);
	sim_free(sim);
	free(w);
}

static void leaders_come_and_go(void **state)
{
	struct world *sum = calloc(1, sizeof *sum);

	(void)state;
	assert_non_null(sum);
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		run(seed, sum);
	print_message("%llu leads, %llu records copied, %llu tails taken back, %llu merges\n",
		(unsigned long long)sum->n_leads, (unsigned long long)sum->n_copied,
		(unsigned long long)sum->n_back, (unsigned long long)sum->n_merges);
	assert_true(sum->n_leads > SEEDS * LIVES);
	assert_true(sum->n_back > SEEDS);
	assert_true(sum->n_merges > SEEDS * LIVES);
	free(sum);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(leaders_come_and_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
