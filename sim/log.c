/* SPDX-License-Identifier: Apache-2.0 */
/* log: the rows of a metadata shard on a machine that loses power.  A node applies numbered
 * operations (puts, deletes, range deletes) to a database; operation n also writes n into the row
 * `last`, in the same turn, so in the same record.  Outside of the node stands a ledger: what was
 * tried, what was announced as written, what as synced.
 *
 * After each start the row `last` says m, and then
 * - (L1) m is at least the last operation announced as written (after a kill) or synced (after a
 *   power cut), and at most the last one that was tried;
 * - (L2) the rows are exactly those that operations 1..m leave behind;
 * - (L3) ids ascend, over all starts;
 * - (L4) a log without rot is never called corrupt; rows that rotted are rebuilt from it;
 * - (L5) when the faults have stopped, the database opens, works and closes within a bound.
 *
 * Where the log itself has rotted it may be refused.  When it opens, what is behind the last sync
 * but two may be missing: each record tells what was durable when it was written, and the records
 * of one sync may all have been written before the one before it had ended. */
#include "base/bytes.h"
#include "base/check.h"
#include "meta/db.h"
#include "sim/scenario.h"
#include <stdio.h>
#include <string.h>

enum {
	ROUNDS = 24,
	STEPS_MAX = 30,
	SLOTS = 150,
	OPS_MAX = 60000,
	BURST_MAX = 6,
	VALUE_BYTES_MAX = 900,
	DISK_BYTES = 64 << 20,
	END_SECONDS = 60,
	IO_TIMES = 20, /* errors of the disk are more frequent here */
};
enum op_kind { OP_PUT, OP_DELETE, OP_DELETE_RANGE };

/* What is known outside of the node. */
struct op {
	uint64_t seen;
	uint32_t boot;
};
struct ledger {
	struct scenario *sc;
	struct op ops[OPS_MAX + 1];
	uint64_t tried, written, synced; /* numbers of operations */
	uint64_t told, told_next;        /* by the last sync but two, but one */
	uint64_t max_id;
	uint32_t boot, corrupt;
	bool power_cut, log_rot, tree_rot, stop, done, failed, looked;
	uint64_t model[SLOTS]; /* the operation that last put the slot; 0: none */
};

struct op_plan {
	enum op_kind kind;
	uint32_t slot, end;
	size_t len;
};

/* An operation is a function of its number and of the start that made it, so that a record of an
 * earlier life that comes back is told from the one that replaced it. */
static struct op_plan plan(const struct ledger *k, uint64_t n)
{
	uint64_t state = k->sc->seed ^ n * 0x9e3779b97f4a7c15u ^ (uint64_t)k->ops[n].boot << 40;
	uint64_t kind = prng_mix(&state) % 100;
	struct op_plan p = { .kind = OP_PUT };

	p.slot = (uint32_t)(prng_mix(&state) % SLOTS);
	p.end = p.slot + 1 + (uint32_t)(prng_mix(&state) % 20);
	p.len = 8 + prng_mix(&state) % (VALUE_BYTES_MAX - 8);
	if (kind >= 80)
		p.kind = kind < 94 ? OP_DELETE : OP_DELETE_RANGE;
	return p;
}

static struct bytes key_make(uint8_t *buf, uint32_t slot)
{
	buf[0] = 't';
	put_be64(buf + 1, slot);
	return bytes_of(buf, 9);
}

static struct bytes value_make(const struct ledger *k, uint8_t *buf, uint64_t n)
{
	struct op_plan p = plan(k, n);

	memset(buf, (int)(n + k->ops[n].boot), p.len);
	put_le64(buf, n);
	return bytes_of(buf, p.len);
}

static void op_apply(struct ledger *k, struct db *db, uint64_t n)
{
	struct op_plan p = plan(k, n);
	uint8_t key[9], end[9], value[VALUE_BYTES_MAX];

	if (p.kind == OP_PUT)
		db_put(db, key_make(key, p.slot), value_make(k, value, n));
	else if (p.kind == OP_DELETE)
		db_delete(db, key_make(key, p.slot));
	else
		db_delete_range(db, key_make(key, p.slot), key_make(end, p.end));
	put_le64(value, n);
	db_put(db, BYTES("last"), bytes_of(value, 8));
	k->ops[n].seen = db_seen(db);
}

static void model_make(struct ledger *k, uint64_t upto)
{
	memset(k->model, 0, sizeof k->model);
	for (uint64_t n = 1; n <= upto; n++) {
		struct op_plan p = plan(k, n);

		if (p.kind == OP_PUT)
			k->model[p.slot] = n;
		else if (p.kind == OP_DELETE)
			k->model[p.slot] = 0;
		for (uint32_t i = p.slot; p.kind == OP_DELETE_RANGE && i < p.end && i < SLOTS; i++)
			k->model[i] = 0;
	}
}

/* ---- the checker ---- */
static void rows_check(struct ledger *k, struct db *db, uint64_t m) /* (L2) */
{
	uint8_t key[9], from[9], to[9], value[VALUE_BYTES_MAX];
	struct bytes got_key, got;
	struct db_iter it;
	uint32_t slot = 0;

	model_make(k, m);
	db_iter_begin(&it, db, key_make(from, 0), key_make(to, SLOTS));
	while (db_iter_next(&it, &got_key, &got)) {
		while (slot < SLOTS && k->model[slot] == 0)
			slot++;
		if (slot == SLOTS || !bytes_equal(got_key, key_make(key, slot)) ||
			!bytes_equal(got, value_make(k, value, k->model[slot]))) {
			violation(k->sc, "the rows are those of the first m operations",
				"m is %llu, and slot %u is not what operation %llu put",
				(unsigned long long)m, slot,
				slot == SLOTS ? 0ull : (unsigned long long)k->model[slot]);
			break;
		}
		slot++;
	}
	db_iter_end(&it);
	while (slot < SLOTS && k->model[slot] == 0)
		slot++;
	if (slot < SLOTS && k->sc->violations == 0)
		violation(k->sc, "the rows are those of the first m operations",
			"m is %llu, and slot %u of operation %llu is missing",
			(unsigned long long)m, slot, (unsigned long long)k->model[slot]);
}

static void found(struct ledger *k, struct db *db)
{
	uint64_t m = 0, least = k->power_cut ? k->synced : k->written;
	struct bytes value;

	if (k->log_rot && k->told < least)
		least = k->told;
	if (db_get(db, BYTES("last"), &value) == 0 && value.len == 8)
		m = le64(value.p);
	scenario_say(k->sc, "found %llu, written %llu, synced %llu, tried %llu",
		(unsigned long long)m, (unsigned long long)k->written,
		(unsigned long long)k->synced, (unsigned long long)k->tried);
	if (m < least)
		violation(k->sc,
			k->power_cut ? "what was synced is there" : "what was written is there",
			"%llu operations, though %llu were announced", (unsigned long long)m,
			(unsigned long long)least);
	if (m > k->tried)
		violation(k->sc, "what is there was written", "%llu of %llu operations",
			(unsigned long long)m, (unsigned long long)k->tried);
	if (k->sc->violations > 0)
		return;
	rows_check(k, db, m);
	k->tried = k->written = m;
	if (k->power_cut || k->synced > m)
		k->synced = m; /* it was read from the platter */
	k->told = k->told < m ? k->told : m;
	k->told_next = k->told_next < m ? k->told_next : m;
	k->power_cut = false;
	k->looked = true;
}

/* ---- the node ---- */
static void moved(void *arg, uint64_t written, uint64_t synced)
{
	struct ledger *k = arg;

	check(synced <= written);
	if (!k->looked) /* indexes of operations that were lost are given again */
		return;
	while (k->written < k->tried && k->ops[k->written + 1].seen <= written)
		k->written++;
	if (k->synced < k->tried && k->ops[k->synced + 1].seen <= synced)
		k->told = k->told_next, k->told_next = k->synced;
	while (k->synced < k->tried && k->ops[k->synced + 1].seen <= synced)
		k->synced++;
}

static void failed(void *arg, int rc, const struct err_note *note)
{
	struct ledger *k = arg;

	k->failed = true;
	scenario_say(k->sc, "failed: %s: %s", err_name(rc), note != NULL ? note->text : "");
}

static void id_take(struct ledger *k, struct db *db) /* (L3) */
{
	uint64_t id = db_next_id(db);

	if (id == 0)
		return;
	if (id <= k->max_id && !k->log_rot)
		violation(k->sc, "ids ascend", "%llu after %llu", (unsigned long long)id,
			(unsigned long long)k->max_id);
	k->max_id = id;
}

static int work(struct sys *s, struct ledger *k, struct db *db)
{
	uint64_t burst, ns;
	int rc = 0;

	while (rc == 0 && !k->stop && !k->failed && k->tried < OPS_MAX) {
		burst = db_pressed(db) ? 0 : 1 + sys_random(s) % BURST_MAX;
		for (; burst > 0 && k->tried < OPS_MAX; burst--) {
			k->ops[k->tried + 1].boot = k->boot;
			op_apply(k, db, ++k->tried);
		}
		id_take(k, db);
		if (sys_random(s) % 8 == 0)
			db_want_sync(db);
		ns = sys_random(s) % (2 * SYS_MS);
		rc = sys_random(s) % 4 == 0 ? fiber_yield() : fiber_sleep(sys_after(s, ns));
	}
	return rc;
}

static int log_main(struct sys *s, void *arg)
{
	struct ledger *k = arg;
	struct db_opts o = { .dir = "data/meta",
		.memtable_bytes_max = 64 << 10,
		.merge_every_ns = 200 * SYS_MS,
		.log_segment_bytes = 128 << 10,
		.moved = moved,
		.failed = failed,
		.arg = k };
	struct err_note note = { "" };
	struct group g;
	struct db *db;
	int rc;

	group_init(&g, sys_loop(s));
	k->boot++;
	k->failed = k->looked = false;
	rc = sys_mkdir(s, "data", &note);
	if (rc == 0)
		rc = sys_sync_dir(s, "/", &note);
	if (rc == 0)
		rc = db_open(s, &g, &o, &db, &note);
	if (rc < 0) {
		scenario_say(k->sc, "open: %s: %s", err_name(rc), note.text);
		k->corrupt += rc == E_CORRUPT;
		if (rc == E_CORRUPT && !k->log_rot) /* (L4) */
			violation(k->sc, "a log without rot is never called corrupt", "%s",
				note.text);
		return rc;
	}
	found(k, db);
	rc = work(s, k, db);
	if (k->stop && !k->failed && rc == 0) {
		rc = db_close(db, &note);
		k->done = rc == 0;
		return rc;
	}
	group_cancel(&g);
	(void)group_wait(&g);
	db_drop(db);
	return rc;
}

/* ---- the world ---- */
static void decay(struct scenario *sc, struct sim_node *n, struct ledger *k)
{
	uint64_t what = prng_below(sc->p, 8);

	if (what == 0 && sim_disk_rot_any(n, "data/meta/log"))
		k->log_rot = true;
	else if (what <= 2 && !k->tree_rot) /* twice is more than one older copy survives */
		k->tree_rot = sim_disk_rot_any(n, "data/meta/tree");
}

static void end(struct scenario *sc, struct sim_node *n, struct ledger *k) /* (L5) */
{
	sim_faults_set(sc->w, &sim_no_faults);
	for (int tries = 0; tries < 2 && !k->done && sc->violations == 0 && k->corrupt == 0;
		tries++) {
		k->stop = false;
		if (!sim_node_up(n))
			sim_node_start(n, log_main, k);
		scenario_run(sc, SYS_SEC);
		k->stop = true;
		scenario_run(sc, END_SECONDS * SYS_SEC);
	}
	if (!k->done && sc->violations == 0 && k->corrupt == 0)
		violation(sc, "once the faults have stopped, the database works and closes", "%s",
			sim_node_up(n) ? "still up" : err_name(sim_node_result(n)));
}

void scenario_log(struct scenario *sc)
{
	struct ledger *k = scenario_alloc(sc, sizeof *k);
	struct sim_faults f = scenario_swarm(sc);
	struct sim_node *n = sim_node_add(sc->w, "meta", DISK_BYTES);
	uint64_t ns, what;
	bool rot;

	k->sc = sc;
	rot = f.disk_rot_ppm > 0;
	f.disk_rot_ppm = 0; /* what rots is chosen below */
	f.disk_io_ppm *= IO_TIMES;
	sim_faults_set(sc->w, &f);
	for (int i = 0; i < ROUNDS && sc->violations == 0 && k->corrupt == 0; i++) {
		if (!sim_node_up(n))
			sim_node_start(n, log_main, k);
		ns = prng_below(sc->p, 400 * SYS_MS);
		what = prng_below(sc->p, 10);
		scenario_run(sc, ns);
		scenario_steps(sc, STEPS_MAX);
		if (what == 0) {
			sim_node_pause(n, ns);
		} else if (what < 4) {
			sim_node_kill(n);
		} else {
			sim_node_crash(n);
			k->power_cut = true;
			if (rot)
				decay(sc, n, k);
		}
	}
	end(sc, n, k);
}
