/* SPDX-License-Identifier: Apache-2.0 */
/* Every state of the disk that a power cut may leave in the middle of every sequence of up to three
 * operations: the log opens, holds one of the histories that the outside may expect (nothing that
 * was synced is lost, nothing that was taken back returns), and what is then written to it stays.
 *
 *    log_states_test [OPERATIONS [SEEDS]]   (states_kit.h) */
#include "base/check.h"
#include "meta/log.h"
#include "meta/record.h"
#include "meta/states_kit.h"
#include <stdlib.h>
#include <string.h>

enum { MOMENTS_MAX = 64, CANDIDATES_MAX = 16, PAYLOAD_MAX = 9000 };

struct moment {
	const struct moment *before;
	uint64_t index, epoch, chain, seed;
};
static struct world {
	struct moment all[MOMENTS_MAX];
	uint32_t n;
	/* candidates[0] is durable; the last one was answered last, or is on its way (pending). */
	const struct moment *candidates[CANDIDATES_MAX], *now;
	uint32_t n_candidates;
	bool pending;
	uint64_t floor, epoch;
} the;
struct replayed {
	uint64_t index, sum;
};

static size_t payload_make(uint64_t seed, size_t len, uint8_t *to)
{
	put_le64(to, seed);
	for (size_t i = 8; i < len; i++)
		to[i] = (uint8_t)(seed * 31 + i);
	return len;
}

static uint64_t seed_sum(uint64_t index, uint64_t seed)
{
	uint64_t state = index * 0x9e3779b97f4a7c15u + seed;

	return prng_mix(&state);
}

/* ---- opening ---- */
static int replay(void *arg, const struct log *l, const struct log_place *at, struct bytes payload,
	bool durable)
{
	struct replayed *r = arg;

	check(at->index == r->index + 1);
	check(payload.len >= 8);
	r->index = at->index;
	r->sum += seed_sum(at->index, le64(payload.p));
	return 0;
}

static uint64_t sign(uint64_t index, uint64_t chain, uint64_t sum)
{
	return seed_sum(index, chain) ^ sum;
}

static PARKS struct log *open_log(struct sys *s, struct states_found *ret_f, uint64_t *ret_sum)
{
	struct replayed r = { .index = the.floor };
	struct log_opts o = { .dir = "/l", .segment_bytes = 16 << 10, .uuid_hi = 3, .uuid_lo = 4,
		.after = the.floor, .replay = replay, .arg = &r };
	struct err_note note = { "" };
	struct log_place place;
	struct log *l;
	int rc = sys_mkdir(s, "/l", &note);

	if (rc == 0)
		rc = sys_sync_dir(s, "/.", &note);
	if (rc == 0)
		rc = log_open(s, &o, &l, &note);
	if (rc < 0)
		states_wrong("it does not open: %s: %s", err_name(rc), note.text);
	place = log_place(l);
	if (place.index != r.index)
		states_wrong("index %llu, replayed up to %llu", (unsigned long long)place.index,
			(unsigned long long)r.index);
	*ret_f = (struct states_found){ .sign = sign(place.index, place.shard_chain, r.sum),
		.also = place.epoch };
	*ret_sum = r.sum;
	return l;
}

static uint64_t sign_of(const struct moment *m)
{
	uint64_t sum = 0;

	for (const struct moment *at = m; at->index > the.floor; at = at->before)
		sum += seed_sum(at->index, at->seed);
	return sign(m->index, m->chain, sum);
}

/* The moment that was found, at or behind the first that may be. */
static const struct moment *recognise(const struct states_found *f, uint32_t first)
{
	const struct moment *m = NULL;

	for (uint32_t i = first; i < the.n_candidates && m == NULL; i++)
		if (sign_of(the.candidates[i]) == f->sign)
			m = the.candidates[i];
	if (m == NULL)
		states_wrong("it is none of %u histories from index %llu on",
			the.n_candidates - first, (unsigned long long)the.candidates[first]->index);
	if (m->index > 0 && m->epoch != f->also)
		states_wrong("epoch %llu, not %llu", (unsigned long long)f->also,
			(unsigned long long)m->epoch);
	return m;
}

static void judge(struct states *st, const struct states_found *f, bool kept)
{
	(void)recognise(f, kept ? the.n_candidates - 1 - the.pending : 0);
}

static int reader_main(struct sys *s, void *arg)
{
	uint64_t sum;

	log_close(open_log(s, &the_states->found, &sum));
	return 0;
}

/* What was found is gone on from: a record, synced. */
static int goer_main(struct sys *s, void *arg)
{
	static uint8_t room[LOG_HEADER_BYTES + PAYLOAD_MAX + 8];
	struct states *st = arg;
	uint64_t sum;
	struct log *l = open_log(s, &st->found, &sum);
	size_t len = payload_make(77, 100, room + LOG_HEADER_BYTES);
	uint64_t index;

	check(log_append(l, room, len, NULL) == 0);
	check(log_sync(l, &index, NULL) == 0);
	st->found.sign = sign(index, log_place(l).shard_chain, sum + seed_sum(index, 77));
	log_close(l);
	return 0;
}

/* ---- operations ---- */
static struct moment *moment_new(uint64_t seed)
{
	struct moment *m = &the.all[the.n++];

	check(the.n < MOMENTS_MAX);
	*m = (struct moment){ the.now, the.now->index + 1, the.epoch, 0, seed };
	return m;
}

static void begin(const struct moment *to)
{
	check(the.n_candidates < CANDIDATES_MAX);
	the.candidates[the.n_candidates++] = to;
	the.pending = true;
}

static void done(void)
{
	the.now = the.candidates[the.n_candidates - 1];
	the.pending = false;
}

static PARKS void op_append(struct log *l, size_t len, bool copied)
{
	static uint8_t room[LOG_HEADER_BYTES + PAYLOAD_MAX + 8];
	struct moment *m = moment_new(the.n);
	struct log_place at = log_place(l);
	struct record r = { .kind = LOG_EFFECTS, .epoch = the.epoch, .index = m->index };
	struct err_note note = { "" };
	int rc;

	r.length = (uint32_t)payload_make(m->seed, len, room + LOG_HEADER_BYTES);
	record_seal(&r, at.shard_chain, room + LOG_HEADER_BYTES);
	m->chain = r.shard_chain;
	begin(m);
	rc = copied ? log_copy(l, the.epoch, r.shard_chain, room, len, &note) :
		      log_append(l, room, len, &note);
	if (rc < 0)
		states_wrong("append: %s: %s", err_name(rc), note.text);
	check(log_place(l).shard_chain == m->chain);
	done();
}

static PARKS void op_sync(struct log *l)
{
	const struct moment *at = the.now;
	uint64_t index;

	check(log_sync(l, &index, NULL) == 0);
	check(index == at->index);
	/* what was begun meanwhile comes behind it */
	for (uint32_t i = 0; i < the.n_candidates; i++)
		if (the.candidates[i] == at) {
			memmove(the.candidates, the.candidates + i,
				(the.n_candidates - i) * sizeof the.candidates[0]);
			the.n_candidates -= i;
			return;
		}
}

static int sync_fiber(void *arg)
{
	op_sync(arg);
	return 0;
}

static PARKS void op_append_beside_sync(struct sys *s, struct log *l)
{
	struct group g;

	group_init(&g, sys_loop(s));
	check(fiber_start(&g, "sync", sync_fiber, l) == 0);
	check(fiber_sleep(sys_now_ns(s) + 10 * SYS_US) == 0); /* it is under way */
	op_append(l, 300, false);
	check(group_wait(&g) == 0);
}

static PARKS void op_back(struct log *l)
{
	const struct moment *to = the.now->index > the.floor ? the.now->before : the.now;

	begin(to);
	check(log_take_back(l, to->index, NULL) == 0);
	done();
	the.epoch++;
	log_epoch(l, the.epoch);
}

/* Behind what every history has in common: rows that are merged are committed. */
static PARKS void op_cut(struct log *l)
{
	uint64_t index = the.now->index;

	for (uint32_t i = 0; i < the.n_candidates; i++)
		if (the.candidates[i]->index < index)
			index = the.candidates[i]->index;
	the.floor = the_states->salt = index;
	check(log_cut(l, index, NULL) == 0);
}

static PARKS void one(struct sys *s, struct log *l, char op)
{
	switch (op) {
	case 'a':
		op_append(l, 8 + prng_below(&the_states->p, 1000), false);
		break;
	case 'l':
		op_append(l, PAYLOAD_MAX, false);
		break;
	case 'y':
		op_append(l, 700, true);
		break;
	case 'z':
		op_append_beside_sync(s, l);
		break;
	case 's':
		op_sync(l);
		break;
	case 'b':
		op_back(l);
		break;
	case 'p':
		if (log_wants_prepare(l))
			check(log_prepare(l, NULL) == 0);
		break;
	case 'c':
		op_cut(l);
		break;
	default:
		check(false);
	}
}

static int writer_main(struct sys *s, void *arg)
{
	struct states *st = arg;
	struct states_found f;
	uint64_t sum;
	struct log *l = open_log(s, &f, &sum);

	the.now = recognise(&f, 0);
	the.candidates[0] = the.now;
	the.n_candidates = 1;
	the.pending = false;
	st->kept = true;
	the.epoch++;
	log_epoch(l, the.epoch);
	for (; *st->at != '\0' && strchr("kw", *st->at) == NULL; st->at++)
		one(s, l, *st->at);
	log_close(l);
	return 0;
}

static void start(struct states *st)
{
	the.n = 0;
	the.all[0] = (struct moment){ 0 };
	the.now = the.candidates[0] = &the.all[the.n++];
	the.n_candidates = 1;
	the.pending = false;
	the.floor = the.epoch = 0;
}

int main(int argc, char **argv)
{
	static const char *const setups[] = { "aasa", "llsls", NULL }; /* one segment; three */
	const struct states_test t = { .operations = "alzsbpckwy", .setups = setups,
		.disk_bytes = 1 << 20, .sample_of = { 2, 400 }, .least = 2000,
		.begin = start, .write = writer_main, .open = reader_main,
		.go = goer_main, .judge = judge };

	return states_main(argc, argv, &t);
}
