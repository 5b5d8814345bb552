/* SPDX-License-Identifier: Apache-2.0 */
/* Every state of the disk that a power cut may leave in the middle of every sequence of up to three
 * operations of a db that follows: it opens, its log is one of those that the outside may expect,
 * its rows are the rows of that log, and what is then written to it stays.
 *
 *    db_states_test [OPERATIONS [SEEDS]]   (states_kit.h) */
#include "base/check.h"
#include "base/hash.h"
#include "meta/db.h"
#include "meta/log.h"
#include "meta/record.h"
#include "meta/states_kit.h"
#include <stdlib.h>
#include <string.h>

enum {
	MOMENTS_MAX = 64,
	CANDIDATES_MAX = 24,
	KEYS = 4,
	VALUE_MAX = 9000,
	TRIES = 20000,
};

struct moment {
	const struct moment *before;
	uint64_t index, epoch, chain;
	uint32_t rows[KEYS], len[KEYS]; /* seed of the value at each key, 0: none */
};
static struct world {
	struct moment all[MOMENTS_MAX];
	uint32_t n;
	/* candidates[0] is durable; the last one was answered last, or is on its way (pending). */
	const struct moment *candidates[CANDIDATES_MAX], *now;
	uint32_t n_candidates;
	bool pending;
	uint64_t told, epoch; /* told: committed, never taken back */
} the;

static struct bytes key_of(uint32_t i)
{
	static const char *const keys[KEYS] = { "ra", "rb", "sc", "sd" };

	return bytes_of(keys[i], 2);
}

static uint64_t row_sum(uint32_t i, struct bytes value)
{
	return hash64(i, value.p, value.len);
}

static struct bytes value_of(uint32_t seed, uint32_t len)
{
	static uint8_t room[VALUE_MAX];

	for (uint32_t i = 0; i < len; i++)
		room[i] = (uint8_t)(seed * 7 + i);
	return bytes_of(room, len);
}

static uint64_t rows_sum(const struct moment *m)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < KEYS; i++)
		if (m->rows[i] != 0)
			sum += row_sum(i, value_of(m->rows[i], m->len[i]));
	return sum;
}

static uint64_t sign(uint64_t index, uint64_t chain)
{
	uint64_t both[2] = { index, chain };

	return hash64(5, both, sizeof both);
}

/* ---- opening ---- */
static void on_failed(void *arg, int rc, const struct err_note *note)
{
	if (rc != E_CANCELED)
		states_wrong("it failed: %s: %s", err_name(rc), note->text);
}

static void on_moved(void *arg, uint64_t written, uint64_t synced)
{
}

static PARKS struct db *open_db(struct sys *s, struct group *fibers)
{
	struct db_opts o = { .dir = "/d", .log_segment_bytes = 16 << 10, .log_keep_bytes = 8 << 10,
		.merge_every_ns = 5 * SYS_MS, .replica = true, .moved = on_moved, .grew = on_moved,
		.failed = on_failed };
	struct err_note note = { "" };
	struct db *db;
	int rc = sys_mkdir(s, "/d", &note);

	group_init(fibers, sys_loop(s));
	if (rc == 0)
		rc = sys_sync_dir(s, "/.", &note);
	if (rc == 0)
		rc = db_open(s, fibers, &o, &db, &note);
	if (rc < 0)
		states_wrong("it does not open: %s: %s", err_name(rc), note.text);
	return db;
}

static PARKS void drop(struct db *db, struct group *fibers)
{
	group_cancel(fibers);
	(void)group_wait(fibers);
	db_drop(db);
}

/* False: the process is dying. */
static PARKS bool sync_all(struct sys *s, struct db *db)
{
	uint64_t index = log_index(db_log(db));

	for (int i = 0; db_log_synced(db) < index; i++) {
		if (i > TRIES)
			states_wrong("it is not synced");
		db_sync_to(db, index);
		if (fiber_sleep(sys_now_ns(s) + 10 * SYS_US) < 0)
			return false;
	}
	return true;
}

static void found(struct db *db, struct states_found *ret_f)
{
	struct log_place at = log_place(db_log(db));

	*ret_f = (struct states_found){ .sign = sign(at.index, at.shard_chain) };
}

/* With the rows of all that is in the log. */
static PARKS void read_all(struct sys *s, struct db *db, struct states_found *ret_f)
{
	uint64_t index = log_index(db_log(db));
	struct bytes value;

	found(db, ret_f);
	check(sync_all(s, db));
	db_commit(db, index, index);
	for (int i = 0; i < TRIES && db_seen(db) < index; i++)
		check(fiber_sleep(sys_now_ns(s) + 10 * SYS_US) == 0);
	for (uint32_t i = 0; i < KEYS; i++)
		if (db_get(db, key_of(i), &value) == 0)
			ret_f->also += row_sum(i, value);
}

static int reader_main(struct sys *s, void *arg)
{
	struct states *st = arg;
	struct group fibers;
	struct db *db = open_db(s, &fibers);

	read_all(s, db, &st->found);
	drop(db, &fibers);
	return 0;
}

/* A record behind it, synced. */
static PARKS int copy(struct db *db, uint64_t epoch, struct bytes payload, uint64_t *ret_chain,
	struct err_note *note)
{
	struct log_place at = log_place(db_log(db));
	struct record r = { .kind = LOG_EFFECTS, .epoch = epoch, .index = at.index + 1,
		.length = (uint32_t)payload.len };

	record_seal(&r, at.shard_chain, payload.p);
	*ret_chain = r.shard_chain;
	return db_copy(db, epoch, r.shard_chain, payload, note);
}

static int goer_main(struct sys *s, void *arg)
{
	struct states *st = arg;
	struct group fibers;
	struct db *db = open_db(s, &fibers);
	uint8_t room[64];
	uint8_t *end = effect_put(room, EFFECT_PUT, key_of(0), value_of(77, 20));
	uint64_t chain;

	check(copy(db, log_place(db_log(db)).epoch + 1, bytes_of(room, (size_t)(end - room)),
		&chain, NULL) == 0);
	check(sync_all(s, db));
	found(db, &st->found);
	drop(db, &fibers);
	return 0;
}

static const struct moment *recognise(const struct states_found *f, uint32_t first)
{
	for (uint32_t i = first; i < the.n_candidates; i++) {
		const struct moment *m = the.candidates[i];

		if (sign(m->index, m->chain) == f->sign)
			return m;
	}
	states_wrong("it is none of %u histories from index %llu on", the.n_candidates - first,
		(unsigned long long)the.candidates[first]->index);
}

static void judge(struct states *st, const struct states_found *f, bool kept)
{
	const struct moment *m =
		recognise(f, kept ? the.n_candidates - 1 - the.pending : 0);

	if (rows_sum(m) != f->also)
		states_wrong("the rows are not those of index %llu", (unsigned long long)m->index);
}

/* ---- operations ---- */
static struct moment *moment_new(void)
{
	struct moment *m = &the.all[the.n++];

	check(the.n < MOMENTS_MAX);
	*m = *the.now;
	m->before = the.now;
	m->index++;
	m->epoch = the.epoch;
	return m;
}

static void begin(const struct moment *to)
{
	check(the.n_candidates < CANDIDATES_MAX);
	the.candidates[the.n_candidates++] = to;
	the.pending = true;
}

static bool ended(int rc, const struct err_note *note)
{
	if (rc < 0 && rc != E_CANCELED)
		states_wrong("%s: %s", err_name(rc), note->text);
	if (rc == 0) {
		the.now = the.candidates[the.n_candidates - 1];
		the.pending = false;
	}
	return rc == 0;
}

static PARKS bool op_copy(struct db *db, uint32_t len, bool deletes)
{
	static uint8_t room[VALUE_MAX + 64];
	struct moment *m = moment_new();
	uint32_t i = the.n % KEYS;
	struct err_note note = { "" };
	uint8_t *end;

	m->rows[i] = deletes ? 0 : the.n;
	m->len[i] = len;
	if (deletes)
		end = effect_put(room, EFFECT_DELETE, key_of(i), bytes_of("", 0));
	else
		end = effect_put(room, EFFECT_PUT, key_of(i), value_of(the.n, len));
	begin(m);
	return ended(copy(db, the.epoch, bytes_of(room, (size_t)(end - room)), &m->chain, &note),
		&note);
}

static PARKS bool op_begin(struct db *db)
{
	struct moment *m = moment_new();
	struct record r = { .kind = LOG_EFFECTS, .index = m->index };
	struct err_note note = { "" };

	m->epoch = r.epoch = ++the.epoch;
	record_seal(&r, log_place(db_log(db)).shard_chain, "");
	m->chain = r.shard_chain;
	begin(m);
	return ended(db_begin(db, the.epoch, &note), &note);
}

static PARKS bool op_back(struct db *db)
{
	const struct moment *to = the.now->index > the.told ? the.now->before : the.now;
	struct err_note note = { "" };

	begin(to);
	if (!ended(db_take_back(db, to->index, &note), &note))
		return false;
	the.epoch++;
	return true;
}

static PARKS bool op_sync(struct sys *s, struct db *db)
{
	bool needed = db_log_synced(db) < the.now->index;

	if (!sync_all(s, db))
		return false;
	if (!needed) /* what was taken back may come again until something behind it is synced */
		return true;
	the.candidates[0] = the.now;
	the.n_candidates = 1;
	return true;
}

static void op_commit(struct db *db)
{
	uint64_t synced = db_log_synced(db);

	the.told = the.now->index;
	db_commit(db, the.told, synced < the.told ? synced : the.told);
}

static PARKS bool op_merge(struct sys *s, struct db *db)
{
	struct db_status st;

	if (!op_sync(s, db))
		return false;
	op_commit(db);
	for (int i = 0; i < TRIES; i++) {
		db_status(db, &st);
		if (st.merged >= the.told)
			return true;
		if (fiber_sleep(sys_now_ns(s) + 100 * SYS_US) < 0)
			return false;
	}
	states_wrong("it is not merged");
}

static PARKS bool one(struct sys *s, struct db *db, char op)
{
	uint32_t len = 8 + (uint32_t)prng_below(&the_states->p, 600);

	switch (op) {
	case 'y':
		return op_copy(db, len, false);
	case 'd':
		return op_copy(db, len, true);
	case 'l':
		return op_copy(db, VALUE_MAX, false);
	case 'g':
		return op_begin(db);
	case 'b':
		return op_back(db);
	case 's':
		return op_sync(s, db);
	case 'i':
		op_commit(db);
		return true;
	case 'm':
		return op_merge(s, db);
	default:
		check(false);
		return false;
	}
}

/* ---- lives ---- */
static int writer_main(struct sys *s, void *arg)
{
	struct states *st = arg;
	struct group fibers;
	struct db *db = open_db(s, &fibers);
	struct states_found f;
	bool alive = true;

	found(db, &f);
	the.now = recognise(&f, 0);
	the.candidates[0] = the.now;
	the.n_candidates = 1;
	the.pending = false;
	the.told = the.told < the.now->index ? the.told : the.now->index;
	st->kept = true;
	the.epoch++;
	for (; alive && *st->at != '\0' && strchr("kw", *st->at) == NULL; st->at++)
		alive = one(s, db, *st->at);
	if (alive && *st->at == '\0')
		return db_close(db, NULL);
	st->ending = true;
	(void)fiber_sleep(FOREVER);
	drop(db, &fibers);
	return 0;
}

static void start(struct states *st)
{
	the.n = 0;
	the.all[0] = (struct moment){ 0 };
	the.now = the.candidates[0] = &the.all[the.n++];
	the.n_candidates = 1;
	the.pending = false;
	the.told = the.epoch = 0;
}

int main(int argc, char **argv)
{
	static const char *const setups[] = { "yysiy", "lmlmys", NULL };
	const struct states_test t = { .operations = "ydlgbsimkw", .setups = setups,
		.disk_bytes = 8 << 20, .sample_of = { 20, 500 }, .least = 2000,
		.begin = start, .write = writer_main, .open = reader_main,
		.go = goer_main, .judge = judge };

	return states_main(argc, argv, &t);
}
