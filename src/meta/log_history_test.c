/* SPDX-License-Identifier: Apache-2.0 */
/* A log that grows, is read beside its growth, is taken back and goes on differently, is cut in
 * front, copied to another machine, and loses its process or its power in between.  What is found
 * is always a history that was there at one moment, no earlier than the last sync (power) or the
 * last step that was answered (kill); readers see it in order or are told that it is gone. */
#include "base/check.h"
#include "base/prng.h"
#include "meta/log.h"
#include "meta/log_look.h"
#include "sys/sim/sim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SEEDS = 400, LIVES = 14, STEPS = 80, MOMENTS_MAX = 40000, PAYLOAD_MAX = 3000 };

/* A record and all before it. */
struct moment {
	const struct moment *before;
	uint64_t index, epoch, chain, seed;
};

struct world {
	struct sim *sim;
	struct sim_node *node, *other;
	struct prng p;
	struct moment *all;
	uint32_t n;
	/* What may be found: candidates[0] is durable, the last one was answered last or is on its
	 * way (pending). */
	const struct moment *candidates[STEPS + 2];
	uint32_t n_candidates;
	bool pending, opened; /* in this life */
	bool kept; /* the process went, and no power since: what was answered is there */
	const struct moment *now;
	uint64_t told;   /* nothing up to here is taken back */
	uint64_t floor;  /* the log was cut up to here at most */
	uint64_t epoch;
	const struct moment *read_at; /* of a reader that stays open */
	struct log_reader *reader;
	uint64_t n_back, n_gone, n_read, n_copied, n_found;
	uint64_t replayed; /* the last index */
	uint64_t replay_seed[MOMENTS_MAX];
};

static const struct moment *ancestor(const struct moment *m, uint64_t index)
{
	while (m->index > index)
		m = m->before;
	return m;
}

static bool is_before(const struct moment *old, const struct moment *m)
{
	return old->index <= m->index && ancestor(m, old->index) == old;
}

static size_t payload_make(uint64_t seed, uint8_t *to)
{
	struct prng p = prng_fork(seed, 7);
	size_t len = 8 + prng_below(&p, PAYLOAD_MAX - 8);

	put_le64(to, seed);
	for (size_t i = 8; i < len; i++)
		to[i] = (uint8_t)(seed + i);
	return len;
}

static void payload_check(uint64_t seed, struct bytes payload)
{
	static uint8_t want[PAYLOAD_MAX];
	size_t len = payload_make(seed, want);

	check(payload.len == len);
	check(memcmp(payload.p, want, len) == 0);
}

/* ---- opening ---- */
static int replay(
	void *arg, const struct log *l, const struct log_place *at, struct bytes payload,
	bool durable)
{
	uint64_t index = at->index;
	struct world *w = arg;

	(void)l;
	(void)durable;
	check(index == w->replayed + 1);
	check(index < MOMENTS_MAX);
	check(payload.len >= 8);
	w->replayed = index;
	w->replay_seed[index] = le64(payload.p);
	payload_check(le64(payload.p), payload);
	return 0;
}

static void recognise(struct world *w, struct log *l)
{
	struct log_place place = log_place(l);
	const struct moment *m = NULL;
	uint32_t first = w->kept ? w->n_candidates - 1 - w->pending : 0;

	for (uint32_t i = first; i < w->n_candidates && m == NULL; i++)
		if (w->candidates[i]->index == place.index &&
			w->candidates[i]->chain == place.shard_chain)
			m = w->candidates[i];
	check(m != NULL);
	check(place.epoch == m->epoch || m->index == 0);
	check(w->replayed == m->index);
	w->now = m;
	for (; m->index > w->floor; m = m->before)
		check(w->replay_seed[m->index] == m->seed);
	w->candidates[0] = w->now;
	w->n_candidates = 1;
	w->pending = false;
	w->opened = true;
	w->n_found++;
}

static int see_record(void *arg, const struct record *r, struct bytes payload, bool joined)
{
	check(joined || r->kind == LOG_BEGIN);
	return 0;
}

static void see_damage(void *arg, const struct log_damage *d)
{
	if (d->kind != LOG_MARK_COPY) /* of a mark that was being made */
		fprintf(stderr, "%s: kind %d at %llu\n", d->path, d->kind,
			(unsigned long long)d->at);
	check(d->kind == LOG_MARK_COPY);
}

/* A log that opens is not damaged, and ends where it is said to end. */
static PARKS int look(struct sys *s, struct log_look *ret)
{
	struct log_look_opts o = { .dir = "/l", .record = see_record, .damage = see_damage };
	struct err_note note = { "" };
	int rc = log_look(s, &o, ret, &note);

	check(rc == 0 || rc == E_NOTFOUND || rc == E_CANCELED);
	return rc == E_NOTFOUND ? 0 : rc;
}

static PARKS struct log *open_log(struct sys *s, struct world *w, uint64_t after)
{
	struct log_opts o = { .dir = "/l", .segment_bytes = 16 << 10, .uuid_hi = 3, .uuid_lo = 4,
		.after = after, .replay = replay, .arg = w };
	struct log_look seen = { 0 };
	struct err_note note = { "" };
	struct log *l;
	int rc = sys_mkdir(s, "/l", &note);

	if (rc == 0)
		rc = sys_sync_dir(s, "/.", &note);
	if (rc == 0)
		rc = look(s, &seen);
	if (rc == E_CANCELED)
		return NULL;
	w->replayed = after;
	rc = log_open(s, &o, &l, &note);
	if (rc == E_CANCELED)
		return NULL;
	if (rc < 0)
		fprintf(stderr, "%s\n", note.text);
	check(rc == 0);
	check(seen.last_index == log_index(l));
	return l;
}

/* ---- steps; false: the process is dying ---- */
static struct moment *moment_new(struct world *w, uint64_t epoch)
{
	struct moment *m = &w->all[w->n++];

	check(w->n < MOMENTS_MAX);
	*m = (struct moment){ w->now, w->now->index + 1, epoch, 0, prng_next(&w->p) };
	return m;
}

static void begin(struct world *w, const struct moment *to)
{
	check(w->n_candidates < sizeof w->candidates / sizeof w->candidates[0]);
	w->candidates[w->n_candidates++] = to;
	w->pending = true;
}

static void done(struct world *w)
{
	w->now = w->candidates[w->n_candidates - 1];
	w->pending = false;
}

static PARKS bool step_append(struct world *w, struct log *l)
{
	static uint8_t room[LOG_HEADER_BYTES + PAYLOAD_MAX + 8];
	struct moment *m = moment_new(w, w->epoch);
	size_t len = payload_make(m->seed, room + LOG_HEADER_BYTES);
	int rc;

	begin(w, m);
	rc = log_append(l, room, len, NULL);
	/* what it came to is in the room, whether or not it was answered */
	m->chain = le64(room + 80);
	if (rc == E_CANCELED)
		return false;
	check(rc == 0);
	check(m->chain == log_place(l).shard_chain);
	done(w);
	return true;
}

static PARKS bool step_back(struct world *w, struct log *l)
{
	uint64_t index = w->told + prng_below(&w->p, w->now->index - w->told + 1);
	struct err_note note = { "" };
	int rc;

	begin(w, ancestor(w->now, index));
	rc = log_take_back(l, index, &note);
	if (rc == E_CANCELED)
		return false;
	if (rc < 0)
		fprintf(stderr, "%s\n", note.text);
	check(rc == 0);
	check(log_index(l) == index);
	done(w);
	w->n_back++;
	w->epoch += 1 + prng_below(&w->p, 3);
	log_epoch(l, w->epoch);
	return true;
}

static PARKS bool step_sync(struct world *w, struct log *l)
{
	const struct moment *at = w->now;
	uint64_t index;
	int rc = log_sync(l, &index, NULL);

	if (rc == E_CANCELED)
		return false;
	check(rc == 0);
	check(index == at->index);
	w->candidates[0] = at;
	w->n_candidates = 1;
	if (prng_odds(&w->p, 1, 3))
		w->told = w->told < index ? index : w->told;
	return true;
}

static PARKS bool step_cut(struct world *w, struct log *l)
{
	uint64_t index = w->told;

	w->floor = index;
	return log_cut(l, index, NULL) != E_CANCELED;
}

/* Reads up to n records behind `from`, along the history of now. */
static PARKS int read_some(struct world *w, struct log_reader *r, const struct moment **held_at,
	uint32_t n)
{
	struct err_note note = { "" };
	int rc = 1;

	for (uint32_t i = 0; i < n && rc == 1; i++) {
		const struct moment *next;
		struct bytes payload;

		rc = log_read(r, &payload, &note);
		if (rc != 1)
			break;
		check(is_before(*held_at, w->now));
		next = ancestor(w->now, (*held_at)->index + 1);
		check(log_reader_place(r).index == next->index);
		check(log_reader_place(r).epoch == next->epoch);
		check(log_reader_place(r).shard_chain == next->chain);
		payload_check(next->seed, payload);
		if (prng_odds(&w->p, 1, 4)) {
			log_unread(r);
			check(log_reader_place(r).index == (*held_at)->index);
			continue;
		}
		*held_at = next;
		w->n_read++;
	}
	if (rc == 0)
		check(*held_at == w->now);
	if (rc == E_CORRUPT)
		fprintf(stderr, "%s\n", note.text);
	check(rc == 0 || rc == 1 || rc == E_GONE || rc == E_CANCELED);
	return rc;
}

static PARKS bool step_look(struct world *w, struct log *l)
{
	uint64_t index = w->floor + prng_below(&w->p, w->now->index - w->floor + 1);
	const struct moment *at = ancestor(w->now, index);
	struct log_reader *r;
	int rc = log_reader_open(l, index, &r, NULL);

	if (rc == E_CANCELED)
		return false;
	check(rc == 0);
	check(log_reader_place(r).index == index);
	check(log_reader_place(r).shard_chain == at->chain);
	check(log_reader_place(r).epoch == at->epoch);
	rc = read_some(w, r, &at, UINT32_MAX);
	log_reader_close(r);
	check(rc == 0 || rc == E_CANCELED);
	return rc == 0;
}

/* The reader that stays: it is told when what it stands at is no more, and only then. */
static PARKS bool step_follow(struct world *w, struct log *l)
{
	int rc = 0;

	if (w->reader == NULL) {
		w->read_at = w->now;
		rc = log_reader_open(l, w->now->index, &w->reader, NULL);
		check(rc == 0 || rc == E_CANCELED);
		return rc == 0;
	}
	rc = read_some(w, w->reader, &w->read_at, 1 + (uint32_t)prng_below(&w->p, 8));
	if (rc == E_GONE) {
		check(!is_before(w->read_at, w->now) || w->read_at->index <= w->floor);
		w->n_gone++;
		log_reader_close(w->reader);
		w->reader = NULL;
	}
	return rc != E_CANCELED;
}

static int life(struct sys *s, void *arg)
{
	struct world *w = arg;
	struct log *l = open_log(s, w, w->floor);
	bool alive = l != NULL;

	if (!alive)
		return 0;
	recognise(w, l);
	w->epoch++;
	log_epoch(l, w->epoch);
	for (uint32_t i = 0; i < STEPS && alive; i++) {
		uint64_t kind = prng_below(&w->p, 100);

		alive = kind < 50 ? step_append(w, l) : kind < 60 ? step_back(w, l) :
			kind < 70 ? step_sync(w, l) : kind < 75 ? step_cut(w, l) :
			kind < 85 ? step_look(w, l) : step_follow(w, l);
	}
	log_reader_close(w->reader);
	w->reader = NULL;
	log_close(l);
	return 0;
}

/* ---- copying ---- */
/* Records of one log appended to another: what does not follow is refused, and changes nothing. */
static PARKS void copy_all(struct world *w, struct log *from, struct log *to)
{
	static uint8_t room[LOG_HEADER_BYTES + PAYLOAD_MAX + 8];
	struct log_place before;
	struct log_reader *r;
	struct bytes payload;

	check(log_reader_open(from, log_index(to), &r, NULL) == 0);
	while (log_read(r, &payload, NULL) == 1) {
		struct log_place place = log_reader_place(r);

		memcpy(room + LOG_HEADER_BYTES, payload.p, payload.len);
		before = log_place(to);
		if (prng_odds(&w->p, 1, 3)) {
			room[LOG_HEADER_BYTES] ^= 1;
			check(log_copy(to, place.epoch, place.shard_chain, room, payload.len, NULL)
				== E_CORRUPT);
			room[LOG_HEADER_BYTES] ^= 1;
			check(log_copy(to, place.epoch + 1, place.shard_chain, room, payload.len,
				NULL) == E_CORRUPT);
			check(log_place(to).index == before.index);
			check(log_place(to).shard_chain == before.shard_chain);
		}
		check(log_copy(to, place.epoch, place.shard_chain, room, payload.len, NULL) == 0);
		check(log_place(to).index == place.index);
		check(log_place(to).shard_chain == place.shard_chain);
		w->n_copied++;
	}
	log_reader_close(r);
	check(log_index(to) == log_index(from));
}

static int copy_main(struct sys *s, void *arg)
{
	struct log_opts o = { .dir = "/m", .segment_bytes = 16 << 10, .uuid_hi = 5, .uuid_lo = 6,
		.replay = replay, .arg = arg };
	struct world *w = arg;
	struct log *l = open_log(s, w, 0), *to;

	check(l != NULL);
	recognise(w, l);
	w->epoch++;
	log_epoch(l, w->epoch);
	check(sys_mkdir(s, "/m", NULL) == 0);
	w->replayed = 0;
	check(log_open(s, &o, &to, NULL) == 0);
	for (int round = 0; round < 10; round++) {
		struct log_place a, b;

		for (int i = 0; i < 12; i++)
			check(step_append(w, l));
		if (round > 0) { /* the other one has a tail that nobody was told of */
			uint64_t back = log_index(to) - prng_below(&w->p, 10);

			check(log_take_back(to, back, NULL) == 0);
		}
		copy_all(w, l, to);
		a = log_place(l);
		b = log_place(to);
		check(a.shard_chain == b.shard_chain);
		check(a.epoch == b.epoch);
		check(step_sync(w, l));
		w->epoch++;
		log_epoch(l, w->epoch);
	}
	log_close(l);
	log_close(to);
	w->replayed = 0;
	check(log_open(s, &o, &to, NULL) == 0); /* and it is all there again */
	check(w->replayed == w->now->index);
	check(log_place(to).shard_chain == w->now->chain);
	log_close(to);
	return 0;
}

/* ---- worlds ---- */
static struct world *world_new(uint64_t seed, const struct sim_faults *f)
{
	struct world *w = calloc(1, sizeof *w);

	check(w != NULL);
	w->all = calloc(MOMENTS_MAX, sizeof *w->all);
	check(w->all != NULL);
	w->sim = sim_new(seed, f);
	w->node = sim_node_add(w->sim, "a", 64 << 20);
	w->p = prng_fork(seed, 1);
	w->now = w->candidates[0] = &w->all[w->n++];
	w->n_candidates = 1;
	return w;
}

static void world_free(struct world *w)
{
	sim_free(w->sim);
	free(w->all);
	free(w);
}

static void lives(struct world *w)
{
	for (int i = 0; i < LIVES; i++) {
		bool power = prng_odds(&w->p, 1, 2);
		uint64_t ns = prng_below(&w->p, 80) * SYS_MS;

		w->opened = false;
		sim_node_start(w->node, life, w);
		sim_run(w->sim, sim_now_ns(w->sim) + (i + 1 == LIVES ? 1000 * SYS_SEC : ns));
		if (!sim_node_up(w->node))
			power = false;
		else if (power)
			sim_node_crash(w->node);
		else
			sim_node_kill(w->node);
		sim_run(w->sim, sim_now_ns(w->sim) + SYS_MS);
		check(!sim_node_up(w->node));
		w->kept = !power && (w->opened || w->kept);
	}
}

static void histories(void **state)
{
	struct sim_faults f = sim_no_faults;
	uint64_t back = 0, gone = 0, read = 0, found = 0;

	(void)state;
	f.disk_op_max_ns = 2 * SYS_MS;
	f.disk_torn_ppm = 500000;
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct world *w = world_new(seed, &f);

		lives(w);
		back += w->n_back;
		gone += w->n_gone;
		read += w->n_read;
		found += w->n_found;
		world_free(w);
	}
	print_message("%llu openings, %llu taken back, %llu records read, %llu readers too late\n",
		(unsigned long long)found, (unsigned long long)back, (unsigned long long)read,
		(unsigned long long)gone);
	assert_true(found > SEEDS * LIVES / 4);
	assert_true(back > SEEDS * 10);
	assert_true(gone > SEEDS);
}

static void copies(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 10; seed++) {
		struct world *w = world_new(seed, &sim_no_faults);

		sim_node_start(w->node, copy_main, w);
		sim_run(w->sim, 1000 * SYS_SEC);
		assert_false(sim_node_up(w->node));
		assert_int_equal(sim_node_result(w->node), 0);
		assert_true(w->n_copied >= 100);
		world_free(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(histories),
		cmocka_unit_test(copies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
