/* SPDX-License-Identifier: Apache-2.0 */
/* Every state of the disk that a power cut may leave in the middle of every sequence of up to three
 * operations: the log opens, holds one of the histories that the outside may expect (nothing that
 * was synced is lost, nothing that was taken back returns), and what is then written to it stays.
 *
 * A *point* is an operation of the disk that had its effect.  At each, a copy of the disk is cut by
 * all choices of what got there (where they are more than 2^CHOICES_BITS: all prefixes, all but
 * one, only one, and drawn ones), and opened in a world of its own.  A state that was seen before
 * is judged by what it opened to then.
 *
 *    log_states_test [OPERATIONS [SEEDS]]   sequences of so many (default 2, and every 300th of 3),
 *                                           each so often, with other lengths and cuts between */
#include "base/check.h"
#include "base/prng.h"
#include "meta/log.h"
#include "meta/record.h"
#include "sys/sim/sim.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	MOMENTS_MAX = 64,
	CANDIDATES_MAX = 16,
	CHOICES_BITS = 6,
	DRAWN = 8,
	SCRIPT_MAX = 16,
	SEEN_SLOTS = 1 << 21,
	PAYLOAD_MAX = 9000,
	LEN_MAX = 3,
	SAMPLE_OF = 300,
};
static const char operations[] = "alzsbpckwy";
static const char *const setups[] = { "aasa", "llsls" }; /* one segment; three */

struct moment {
	const struct moment *before;
	uint64_t index, epoch, chain, seed;
};
/* What a log that was opened says. */
struct found {
	uint64_t key; /* of the state; 0: free slot */
	uint64_t index, epoch, chain, sum, lsn;
};

static struct found seen[SEEN_SLOTS];
static uint64_t n_seen, n_points, n_cuts;
static uint32_t n_seeds = 1;

static struct world {
	struct sim *a, *b;
	struct sim_node *writer, *reader;
	struct prng p;
	struct moment all[MOMENTS_MAX];
	uint32_t n;
	/* candidates[0] is durable; the last one was answered last, or is on its way (pending). */
	const struct moment *candidates[CANDIDATES_MAX], *now;
	uint32_t n_candidates;
	bool pending, kept; /* kept: no power cut since it was answered */
	uint64_t floor, epoch;
	char script[SCRIPT_MAX];
	const char *at;          /* in it: the operation that is next */
	bool power;              /* the process has ended because it asked for a power cut */
	struct found found;      /* by the reader */
	uint64_t mask;           /* the cut that is made */
	uint32_t only;
	enum { CUT_MASK, CUT_PREFIX, CUT_BUT_ONE, CUT_ONLY_ONE, CUT_DRAWN } how;
} *the;

__attribute__((format(printf, 1, 2))) static _Noreturn void wrong(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "script \"%s\", next \"%s\": ", the->script, the->at);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	abort();
}

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
	struct found *f = arg;

	check(at->index == f->index + 1);
	check(payload.len >= 8);
	f->index = at->index;
	f->sum += seed_sum(at->index, le64(payload.p));
	return 0;
}

static PARKS struct log *open_log(struct sys *s, struct found *f)
{
	struct log_opts o = { .dir = "/l", .segment_bytes = 16 << 10, .uuid_hi = 3, .uuid_lo = 4,
		.after = the->floor, .replay = replay, .arg = f };
	struct err_note note = { "" };
	struct log_place place;
	struct log *l;
	int rc = sys_mkdir(s, "/l", &note);

	*f = (struct found){ .index = the->floor };
	if (rc == 0)
		rc = sys_sync_dir(s, "/.", &note);
	if (rc == 0)
		rc = log_open(s, &o, &l, &note);
	if (rc < 0)
		wrong("it does not open: %s: %s", err_name(rc), note.text);
	place = log_place(l);
	if (place.index != f->index)
		wrong("index %llu, replayed up to %llu", (unsigned long long)place.index,
			(unsigned long long)f->index);
	f->epoch = place.epoch;
	f->chain = place.shard_chain;
	return l;
}

/* The moment that was found, at or behind the first that may be. */
static const struct moment *recognise(const struct found *f, uint32_t first)
{
	const struct moment *m = NULL;
	uint64_t sum = 0;

	for (uint32_t i = first; i < the->n_candidates && m == NULL; i++)
		if (the->candidates[i]->index == f->index && the->candidates[i]->chain == f->chain)
			m = the->candidates[i];
	if (m == NULL)
		wrong("index %llu is none of %u histories from index %llu on",
			(unsigned long long)f->index, the->n_candidates - first,
			(unsigned long long)the->candidates[first]->index);
	if (m->index > 0 && m->epoch != f->epoch)
		wrong("epoch %llu, not %llu", (unsigned long long)f->epoch,
			(unsigned long long)m->epoch);
	for (const struct moment *at = m; at->index > the->floor; at = at->before)
		sum += seed_sum(at->index, at->seed);
	if (sum != f->sum)
		wrong("other records were replayed up to index %llu",
			(unsigned long long)f->index);
	return m;
}

/* ---- one state ---- */
static bool keep(void *arg, uint32_t i)
{
	switch (the->how) {
	case CUT_MASK:
		return i >= 64 || (the->mask >> i & 1);
	case CUT_PREFIX:
		return i < the->only;
	case CUT_BUT_ONE:
		return i != the->only;
	case CUT_ONLY_ONE:
		return i == the->only;
	case CUT_DRAWN:
		return prng_next(&the->p) & 1;
	}
	return false;
}

static bool keep_none(void *arg, uint32_t i)
{
	return false;
}

static int reader_main(struct sys *s, void *arg)
{
	log_close(open_log(s, &the->found));
	return 0;
}

/* What was found is gone on from: a record, synced. */
static int goer_main(struct sys *s, void *arg)
{
	static uint8_t room[LOG_HEADER_BYTES + PAYLOAD_MAX + 8];
	struct found *f = arg;
	struct log *l = open_log(s, f);
	size_t len = payload_make(77, 100, room + LOG_HEADER_BYTES);
	uint64_t index;

	check(log_append(l, room, len, NULL) == 0);
	check(log_sync(l, &index, NULL) == 0);
	f->index = index;
	f->chain = log_place(l).shard_chain;
	f->sum += seed_sum(index, 77);
	log_close(l);
	return 0;
}

static void run_reader(sim_main_fn *main_fn, struct found *f)
{
	sim_node_start(the->reader, main_fn, f);
	sim_run(the->b, sim_now_ns(the->b) + 100 * SYS_SEC);
	if (sim_node_up(the->reader))
		wrong("the opening does not end");
}

static struct found *slot_of(uint64_t key)
{
	uint64_t i = key % SEEN_SLOTS;

	while (seen[i].key != 0 && seen[i].key != key)
		i = (i + 1) % SEEN_SLOTS;
	check(n_seen < SEEN_SLOTS - SEEN_SLOTS / 8);
	return &seen[i];
}

/* Opens the state on the reader's disk, unless that was done before. */
static const struct found *open_state(void)
{
	uint64_t key = sim_disk_sum(the->reader) ^ the->floor * 0x9e3779b97f4a7c15u;
	struct found *slot = slot_of(key == 0 ? 1 : key), gone;

	if (slot->key != 0)
		return slot;
	run_reader(reader_main, &the->found);
	*slot = the->found;
	slot->key = key == 0 ? 1 : key;
	n_seen++;
	(void)sim_disk_cut(the->reader, keep_none, NULL);
	run_reader(goer_main, &gone);
	(void)sim_disk_cut(the->reader, keep_none, NULL);
	run_reader(reader_main, &the->found);
	if (the->found.index != gone.index || the->found.chain != gone.chain ||
		the->found.sum != gone.sum || gone.index != slot->index + 1)
		wrong("opened at %llu, gone on to %llu, opened again at %llu",
			(unsigned long long)slot->index, (unsigned long long)gone.index,
			(unsigned long long)the->found.index);
	return slot;
}

static uint32_t cut(int how, uint64_t mask, uint32_t only)
{
	uint32_t n;

	the->how = how;
	the->mask = mask;
	the->only = only;
	sim_disk_copy(the->reader, the->writer);
	n = sim_disk_cut(the->reader, keep, NULL);
	n_cuts++;
	(void)recognise(open_state(), 0);
	return n;
}

/* All that a power cut may leave here; and what the death of the process leaves. */
static void all_states(void)
{
	uint32_t n = cut(CUT_MASK, UINT64_MAX, 0), least = cut(CUT_MASK, 0, 0);

	n_points++;
	n = n < least ? least : n;
	cut(CUT_MASK, UINT64_MAX, 0);
	if (the->kept)
		(void)recognise(open_state(), the->n_candidates - 1 - the->pending);
	if (n <= CHOICES_BITS) {
		for (uint64_t mask = 1; mask + 1 < UINT64_C(1) << n; mask++)
			cut(CUT_MASK, mask, 0);
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		cut(CUT_PREFIX, 0, i);
		cut(CUT_BUT_ONE, 0, i);
		cut(CUT_ONLY_ONE, 0, i);
	}
	for (uint32_t i = 0; i < DRAWN; i++)
		cut(CUT_DRAWN, 0, 0);
}

/* ---- operations ---- */
static struct moment *moment_new(uint64_t seed)
{
	struct moment *m = &the->all[the->n++];

	check(the->n < MOMENTS_MAX);
	*m = (struct moment){ the->now, the->now->index + 1, the->epoch, 0, seed };
	return m;
}

static void begin(const struct moment *to)
{
	check(the->n_candidates < CANDIDATES_MAX);
	the->candidates[the->n_candidates++] = to;
	the->pending = true;
}

static void done(void)
{
	the->now = the->candidates[the->n_candidates - 1];
	the->pending = false;
}

static PARKS void op_append(struct log *l, size_t len, bool copied)
{
	static uint8_t room[LOG_HEADER_BYTES + PAYLOAD_MAX + 8];
	struct moment *m = moment_new(the->n);
	struct log_place at = log_place(l);
	struct record r = { .kind = LOG_EFFECTS, .epoch = the->epoch, .index = m->index };
	struct err_note note = { "" };
	int rc;

	r.length = (uint32_t)payload_make(m->seed, len, room + LOG_HEADER_BYTES);
	record_seal(&r, at.shard_chain, room + LOG_HEADER_BYTES);
	m->chain = r.shard_chain;
	begin(m);
	rc = copied ? log_copy(l, the->epoch, r.shard_chain, room, len, &note) :
		      log_append(l, room, len, &note);
	if (rc < 0)
		wrong("append: %s: %s", err_name(rc), note.text);
	check(log_place(l).shard_chain == m->chain);
	done();
}

static PARKS void op_sync(struct log *l)
{
	const struct moment *at = the->now;
	uint64_t index;

	check(log_sync(l, &index, NULL) == 0);
	check(index == at->index);
	/* what was begun meanwhile comes behind it */
	for (uint32_t i = 0; i < the->n_candidates; i++)
		if (the->candidates[i] == at) {
			memmove(the->candidates, the->candidates + i,
				(the->n_candidates - i) * sizeof the->candidates[0]);
			the->n_candidates -= i;
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
	const struct moment *to = the->now->index > the->floor ? the->now->before : the->now;

	begin(to);
	check(log_take_back(l, to->index, NULL) == 0);
	done();
	the->epoch++;
	log_epoch(l, the->epoch);
}

/* Behind what every history has in common: rows that are merged are committed. */
static PARKS void op_cut(struct log *l)
{
	uint64_t index = the->now->index;

	for (uint32_t i = 0; i < the->n_candidates; i++)
		if (the->candidates[i]->index < index)
			index = the->candidates[i]->index;
	the->floor = index;
	check(log_cut(l, index, NULL) == 0);
}

static PARKS void one(struct sys *s, struct log *l, char op)
{
	switch (op) {
	case 'a':
		op_append(l, 8 + prng_below(&the->p, 1000), false);
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

/* One life of the writer: ends where the script says 'k' (killed) or 'w' (power cut). */
static int writer_main(struct sys *s, void *arg)
{
	struct found f;
	struct log *l = open_log(s, &f);

	the->now = recognise(&f, 0);
	the->candidates[0] = the->now;
	the->n_candidates = 1;
	the->pending = false;
	the->kept = true;
	the->epoch++;
	log_epoch(l, the->epoch);
	for (; *the->at != '\0' && strchr("kw", *the->at) == NULL; the->at++)
		one(s, l, *the->at);
	the->power = *the->at == 'w';
	log_close(l);
	return 0;
}

static void play(const char *setup, const char *script, uint64_t seed)
{
	static const struct sim_faults f = { .disk_op_max_ns = 20 * SYS_US };
	size_t from = *script == '\0' ? 0 : strlen(setup);
	uint64_t ops = 0;

	the->p = prng_fork(seed, 1);
	the->a = sim_new(seed, &f);
	the->writer = sim_node_add(the->a, "a", 1 << 20);
	the->n = 0;
	the->now = the->candidates[0] = &the->all[the->n++];
	the->all[0] = (struct moment){ 0 };
	the->n_candidates = 1;
	the->pending = the->kept = false;
	the->floor = the->epoch = 0;
	snprintf(the->script, sizeof the->script, "%s%s", setup, script);
	the->at = the->script;
	for (bool more = true; more;) {
		sim_node_start(the->writer, writer_main, NULL);
		while (sim_node_up(the->writer) && sim_step(the->a)) {
			if (ops == sim_disk_ops(the->writer))
				continue;
			ops = sim_disk_ops(the->writer);
			if (the->at >= the->script + from)
				all_states();
		}
		check(!sim_node_up(the->writer));
		check(sim_node_result(the->writer) == 0);
		more = *the->at != '\0';
		the->at += more;
		the->kept = !the->power;
		the->how = CUT_DRAWN;
		if (more && the->power)
			(void)sim_disk_cut(the->writer, keep, NULL);
	}
	sim_free(the->a);
}

static void play_all(const char *setup, uint32_t len, uint32_t every)
{
	const uint32_t n_ops = sizeof operations - 1;
	uint32_t n = 1;
	char script[LEN_MAX + 1] = "";

	for (uint32_t i = 0; i < len; i++)
		n *= n_ops;
	for (uint32_t i = 0; i < n; i += every) {
		for (uint32_t k = 0, at = i; k < len; k++, at /= n_ops)
			script[k] = operations[at % n_ops];
		for (uint32_t seed = 0; seed < n_seeds; seed++)
			play(setup, script, 1 + i + ((uint64_t)seed << 32));
	}
}

int main(int argc, char **argv)
{
	uint32_t len = argc > 1 ? (uint32_t)atoi(argv[1]) : 2;

	if (argc > 2)
		n_seeds = (uint32_t)atoi(argv[2]);
	check(len <= LEN_MAX);
	the = calloc(1, sizeof *the);
	check(the != NULL);
	the->b = sim_new(1, &sim_no_faults);
	the->reader = sim_node_add(the->b, "b", 1 << 20);
	for (size_t i = 0; i < sizeof setups / sizeof setups[0]; i++) {
		for (uint32_t k = 0; k <= len; k++)
			play_all(setups[i], k, 1);
		if (argc == 1)
			play_all(setups[i], LEN_MAX, SAMPLE_OF);
	}
	sim_free(the->b);
	free(the);
	printf("%llu points, %llu cuts, %llu distinct states\n", (unsigned long long)n_points,
		(unsigned long long)n_cuts, (unsigned long long)n_seen);
	return n_seen > 2000 || len < 2 ? 0 : 1;
}
